"""Choosing part of a grid: constraints such as `ttft<0.5 and feasible`, and labels to keep.

What is then done with that part stands elsewhere.
"""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.queries.axes_of_grid import Space
from sweep.schema.axes import LABELLED
from sweep.schema.variables import VARIABLES
from sweep.specs.parsing import nearest

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
CLAUSE = re.compile(r"\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*(\"[^\"]*\"|'[^']*'|[^\s'\"<>=!]+)\s*")
AND = re.compile(r"\s+and\s+(?=(?:[^'\"]|'[^']*'|\"[^\"]*\")*$)")
"""The word between clauses, not inside quotes."""


@dataclass(frozen=True)
class Clause:
    """One comparison of a variable or an axis with a number or a label."""

    name: str
    sign: str
    value: float | str

    def mask(self, dataset: xr.Dataset) -> xr.DataArray:
        """Where it holds, over the dimensions of its variable; nowhere for NaN."""
        array = dataset[self.name]
        holds: xr.DataArray = COMPARISONS[self.sign](array, self.value)
        return holds & array.notnull() if self.sign == "!=" else holds


@dataclass(frozen=True)
class Where:
    """Constraints that must all hold.

    Attributes:
        text: As the user wrote them; empty for none.
        clauses: The comparisons.
        axes: Every axis over which one of them varies.
    """

    text: str
    clauses: tuple[Clause, ...]
    axes: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, space: Space) -> "Where":
        """Read comparisons joined by `and`.

        Args:
            text: As in `ttft<0.5 and feasible and hardware == h20-96gb`. The name of a 0/1
                variable alone asks for 1.
            space: Axes and variables that may be named.

        Raises:
            ResultError: Something is no comparison, unknown, or not to be compared so.
        """
        parts = AND.split(text.strip()) if text.strip() else []
        clauses = tuple(_clause(part, space) for part in parts)
        axes = [
            axis
            for clause in clauses
            for axis in ([clause.name] if clause.name in space.axes else space.dims[clause.name])
        ]
        return cls(" ".join(text.split()), clauses, space.in_order(axes))

    @property
    def names(self) -> tuple[str, ...]:
        """Variables and axes that are compared."""
        return tuple(dict.fromkeys(clause.name for clause in self.clauses))

    def mask(self, dataset: xr.Dataset) -> xr.DataArray | None:
        """Where every constraint holds, over their axes, or `None` if there are none."""
        masks = sorted((clause.mask(dataset) for clause in self.clauses), key=lambda m: m.size)
        whole = None
        for mask in masks:
            whole = mask if whole is None else whole & mask
        return whole


def _clause(text: str, space: Space) -> Clause:
    found = CLAUSE.fullmatch(text)
    if found is None:
        return _bare(text.strip(), space)
    name, sign, value = found.groups()
    if name in space.axes:
        return Clause(name, sign, _axis_value(name, sign, value, space))
    known = [*space.dims, *space.axes]
    if name not in known:
        raise ResultError(f"--where: unknown name {name!r}{_or_known(name, known)}")
    return Clause(name, sign, _variable_value(name, sign, value))


def _bare(text: str, space: Space) -> Clause:
    if not text.isidentifier():
        raise ResultError(
            f"--where: {text!r} is no comparison; write a variable or axis, one of "
            f"{' '.join(COMPARISONS)}, a number or label, and join several by 'and'"
        )
    if text not in space.dims:
        raise ResultError(
            f"--where: unknown name {text!r}{_or_known(text, [*space.dims, *space.axes])}"
        )
    if text not in VARIABLES or len(VARIABLES[text].flag_masks) != 1:
        raise ResultError(f"--where: {text} is not 0 or 1; compare it, as in '{text} < 1'")
    return Clause(text, "==", 1)


def _axis_value(axis: str, sign: str, text: str, space: Space) -> float | str:
    where = f"--where: {axis}"
    if axis not in LABELLED:
        known = space.axes[axis]
        return number_among(where, text, known) if sign == "==" else number_of(where, text)
    if sign not in ("==", "!="):
        raise ResultError(f"{where} holds names; compare it by == or !=, not {sign}")
    return label_among(where, text.strip("'\""), list(space.axes[axis]))


def _variable_value(name: str, sign: str, text: str) -> float | str:
    meanings = list(VARIABLES[name].flag_values) if name in VARIABLES else []
    word = text.strip("'\"")
    if not meanings or word.lstrip("-").isdigit():
        return number_of(f"--where: {name}", text)
    if word not in meanings or sign not in ("==", "!="):
        raise ResultError(f"--where: {name} is == or != one of {', '.join(meanings)}")
    return meanings.index(word)


def number_of(where: str, text: str) -> float:
    """The number in `text`.

    Raises:
        ResultError: It is none; the message begins with `where`.
    """
    try:
        return float(text)
    except ValueError:
        raise ResultError(f"{where}: {text!r} is no number") from None


def number_among(where: str, text: str, values: Sequence[float]) -> float:
    """The number in `text`, one of `values`.

    Raises:
        ResultError: It is none; the message begins with `where` and names the nearest.
    """
    number = number_of(where, text)
    if number not in values:
        closest = values[int(np.argmin([abs(value - number) for value in values]))]
        raise ResultError(f"{where}: no {number:g}; the nearest is {closest:g}")
    return number


def label_among(where: str, label: str, known: Sequence[str]) -> str:
    """The label, one of `known`.

    Raises:
        ResultError: It is none; the message begins with `where` and says which there are.
    """
    if label not in known:
        raise ResultError(f"{where}: no {label!r}{_or_known(label, known)}")
    return label


def _or_known(name: str, known: Sequence[str]) -> str:
    return nearest(name, list(known)) or f"; known: {', '.join(known)}"
