"""Constraints such as `ttft<0.5 and feasible`: parse them, and mask the cells that satisfy them."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.queries.grid_axes import GridAxes
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

LONGEST_TEXT = 10_000
"""Longest text of constraints, whose time to parse grows with its square. [character]"""


@dataclass(frozen=True)
class Clause:
    """One comparison of a variable or an axis with a number or a label."""

    name: str
    sign: str
    value: float | str

    def mask(self, dataset: Mapping[Any, xr.DataArray]) -> xr.DataArray:
        """Mask of the cells that satisfy it, over the dimensions of its variable; false for NaN."""
        array = dataset[self.name]
        holds: xr.DataArray = COMPARISONS[self.sign](array, self.value)
        return holds & array.notnull() if self.sign == "!=" else holds


@dataclass(frozen=True)
class Where:
    """Constraints that must all be satisfied.

    Attributes:
        text: The constraints in the words of the user; empty for none.
        clauses: The comparisons.
        axes: Every axis over which one of the comparisons varies.
    """

    text: str
    clauses: tuple[Clause, ...]
    axes: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, grid: GridAxes) -> "Where":
        """Read comparisons joined by `and`.

        Args:
            text: As in `ttft<0.5 and feasible and hardware == h20-96gb`. The name of a 0/1
                variable alone asks for 1.
            grid: Axes and variables that may be named.

        Raises:
            ResultError: A text is no comparison, a name is unknown, or the two cannot be compared.
        """
        if len(text) > LONGEST_TEXT:
            raise ResultError(f"--where: longer than {LONGEST_TEXT:,} characters")
        parts = AND.split(text.strip()) if text.strip() else []
        clauses = tuple(_clause(part, grid) for part in parts)
        axes = [
            axis
            for clause in clauses
            for axis in ([clause.name] if clause.name in grid.labels else grid.dims[clause.name])
        ]
        return cls(" ".join(text.split()), clauses, grid.in_order(axes))

    @property
    def names(self) -> tuple[str, ...]:
        """Variables and axes that are compared."""
        return tuple(dict.fromkeys(clause.name for clause in self.clauses))

    def mask(self, dataset: xr.Dataset) -> xr.DataArray | None:
        """Mask of the cells that satisfy every constraint, or `None` without constraints."""
        masks = sorted((clause.mask(dataset) for clause in self.clauses), key=lambda m: m.size)
        whole = None
        for mask in masks:
            whole = mask if whole is None else whole & mask
        return whole


def _clause(text: str, grid: GridAxes) -> Clause:
    found = CLAUSE.fullmatch(text)
    if found is None:
        return _bare(text.strip(), grid)
    name, sign, value = found.groups()
    if name in grid.labels:
        return Clause(name, sign, _axis_value(name, sign, value, grid))
    known = [*grid.dims, *grid.labels]
    if name not in known:
        raise ResultError(f"--where: unknown name {name!r}{_or_known(name, known)}")
    return Clause(name, sign, _variable_value(name, sign, value))


def _bare(text: str, grid: GridAxes) -> Clause:
    if not text.isidentifier():
        raise ResultError(
            f"--where: {text!r} is not a comparison; write a variable or axis, one of "
            f"{' '.join(COMPARISONS)}, and a number or label; join several by 'and'"
        )
    if text not in grid.dims:
        raise ResultError(
            f"--where: unknown name {text!r}{_or_known(text, [*grid.dims, *grid.labels])}"
        )
    if text not in VARIABLES or len(VARIABLES[text].flag_masks) != 1:
        raise ResultError(f"--where: {text} is not a 0/1 variable; compare it, as in '{text} < 1'")
    return Clause(text, "==", 1)


def _axis_value(axis: str, sign: str, text: str, grid: GridAxes) -> float | str:
    where = f"--where: {axis}"
    if axis not in LABELLED:
        known = grid.labels[axis]
        return number_among(where, text, known) if sign == "==" else number_of(where, text)
    if sign not in ("==", "!="):
        raise ResultError(f"{where} has labels; compare it by == or !=, not {sign}")
    return label_among(where, text.strip("'\""), list(grid.labels[axis]))


def _variable_value(name: str, sign: str, text: str) -> float | str:
    meanings = list(VARIABLES[name].flag_values) if name in VARIABLES else []
    word = text.strip("'\"")
    if not meanings or word.lstrip("-").isdigit():
        return number_of(f"--where: {name}", text)
    if word not in meanings or sign not in ("==", "!="):
        raise ResultError(f"--where: {name} is == or != one of {', '.join(meanings)}")
    return meanings.index(word)


def number_of(where: str, text: str) -> float:
    """Read a number.

    Raises:
        ResultError: It is not a number; the message begins with `where`.
    """
    try:
        return float(text)
    except ValueError:
        raise ResultError(f"{where}: {text!r:.80} is not a number") from None


def number_among(where: str, text: str, values: Sequence[float]) -> float:
    """Read a number that must be one of `values`.

    Raises:
        ResultError: It is not among them; the message begins with `where` and names the nearest.
    """
    number = number_of(where, text)
    if number not in values:
        closest = values[int(np.argmin([abs(value - number) for value in values]))]
        raise ResultError(f"{where}: no {number:g}; the nearest is {closest:g}")
    return number


def label_among(where: str, label: str, known: Sequence[str]) -> str:
    """Return a label that must be one of `known`.

    Raises:
        ResultError: It is not among them; the message begins with `where` and lists them.
    """
    if label not in known:
        raise ResultError(f"{where}: no {label!r}{_or_known(label, known)}")
    return label


def _or_known(name: str, known: Sequence[str]) -> str:
    return nearest(name, list(known)) or f"; known: {', '.join(known)}"
