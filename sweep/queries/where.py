"""Constraints such as `ttft<0.5 and feasible`: parse them, and mask the cells that satisfy them."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import isnan
from typing import Any

import numpy as np
import xarray as xr

from sweep.errors import ResultError
from sweep.queries.grid_axes import GridAxes
from sweep.queries.where_grammar import Comparison, Condition, Joined, parse
from sweep.schema.axes import LABELLED
from sweep.schema.variables import VARIABLES
from sweep.specs.counts import count_of
from sweep.specs.labels import labels_meant
from sweep.specs.parsing import nearest
from sweep.specs.short_names import meant

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


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
class Clauses:
    """Clauses of which all or one must be satisfied.

    Attributes:
        word: `and` or `or`.
        parts: Clauses, or groups of them.
    """

    word: str
    parts: "tuple[Clause | Clauses, ...]"

    def mask(self, dataset: Mapping[Any, xr.DataArray]) -> xr.DataArray:
        """Mask of the cells that satisfy them; small masks are joined first."""
        masks = sorted((part.mask(dataset) for part in self.parts), key=lambda mask: mask.size)
        return reduce(operator.and_ if self.word == "and" else operator.or_, masks)


@dataclass(frozen=True)
class Where:
    """Constraints on a cell.

    Attributes:
        text: The constraints in the words of the user; empty for none.
        condition: A comparison, or several that are joined; `None` for none.
        names: Variables and axes that are compared.
        axes: Every axis over which one of the comparisons varies.
    """

    text: str
    condition: Clause | Clauses | None
    names: tuple[str, ...]
    axes: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, grid: GridAxes) -> "Where":
        """Read comparisons joined by `and`, `or`, `not` and parentheses.

        Args:
            text: As in `ttft<0.5 and (hardware == h20-96gb or not tpot>0.1)`. The name of a 0/1
                variable alone asks for 1. `and` binds more tightly than `or`. A missing value
                satisfies no comparison and no negated one.
            grid: Axes and variables that may be named.

        Raises:
            ResultError: A text is no comparison, a name is unknown, or the two cannot be compared.
        """
        condition = parse(text)
        if condition is None:
            return cls("", None, (), ())
        clauses: list[Clause] = []
        found = _checked(condition, grid, clauses)
        names = tuple(dict.fromkeys(clause.name for clause in clauses))
        axes = [
            axis for name in names for axis in ([name] if name in grid.labels else grid.dims[name])
        ]
        return cls(" ".join(text.split()), found, names, grid.in_order(axes))

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Every comparison, however they are joined."""
        return tuple(_clauses(self.condition))

    def mask(self, dataset: Mapping[Any, xr.DataArray]) -> xr.DataArray | None:
        """Mask of the cells that satisfy the constraints, or `None` without constraints."""
        return None if self.condition is None else self.condition.mask(dataset)


def _clauses(condition: Clause | Clauses | None) -> Iterator[Clause]:
    if isinstance(condition, Clause):
        yield condition
    elif condition is not None:
        for part in condition.parts:
            yield from _clauses(part)


def _checked(condition: Condition, grid: GridAxes, clauses: list[Clause]) -> Clause | Clauses:
    """The condition with names and values of the grid; appends each comparison to `clauses`."""
    if isinstance(condition, Joined):
        parts = tuple(_checked(part, grid, clauses) for part in condition.parts)
        return Clauses(condition.word, parts)
    clauses.append(_clause(condition, grid))
    return clauses[-1]


def _clause(comparison: Comparison, grid: GridAxes) -> Clause:
    name, sign, value = comparison.name, comparison.sign, comparison.value
    if value is None:
        return _bare(name, sign, grid)
    if name in grid.labels:
        return Clause(name, sign, _axis_value(name, sign, value, grid))
    known = [*grid.dims, *grid.labels]
    if name not in known:
        raise ResultError(f"--where: unknown name {name!r:.80}{_or_known(name, known)}")
    return Clause(name, sign, _variable_value(name, sign, value))


def _bare(text: str, sign: str, grid: GridAxes) -> Clause:
    if not text.isidentifier():
        raise ResultError(
            f"--where: {text!r:.80} is not a comparison; write a variable or axis, one of "
            f"{' '.join(COMPARISONS)}, and a number or label; join several by 'and' or 'or'"
        )
    if text not in grid.dims:
        raise ResultError(
            f"--where: unknown name {text!r:.80}{_or_known(text, [*grid.dims, *grid.labels])}"
        )
    if text not in VARIABLES or len(VARIABLES[text].flag_masks) != 1:
        raise ResultError(f"--where: {text} is not a 0/1 variable; compare it, as in '{text} < 1'")
    return Clause(text, sign, 1)


def _axis_value(axis: str, sign: str, text: str, grid: GridAxes) -> float | str:
    where = f"--where: {axis}"
    if axis not in LABELLED:
        known = grid.labels[axis]
        return number_among(where, text, known) if sign == "==" else number_of(where, text)
    if sign not in ("==", "!="):
        raise ResultError(f"{where} has labels; compare it by == or !=, not {sign}")
    return label_among(where, text, list(grid.labels[axis]), axis)


def _variable_value(name: str, sign: str, text: str) -> float | str:
    meanings = list(VARIABLES[name].flag_values) if name in VARIABLES else []
    if not meanings or text.lstrip("-").isdigit():
        return number_of(f"--where: {name}", text)
    if text not in meanings or sign not in ("==", "!="):
        raise ResultError(f"--where: {name} is == or != one of {', '.join(meanings)}")
    return meanings.index(text)


def number_of(where: str, text: str) -> float:
    """Read a number, also one such as `16k`.

    Raises:
        ResultError: It is not a number; the message begins with `where`.
    """
    try:
        counted: float | None = float(text)
    except ValueError:
        counted = count_of(text)
    if counted is None or isnan(counted):
        raise ResultError(f"{where}: {text!r:.80} is not a number")
    return float(counted)


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


def label_among(where: str, label: str, known: Sequence[str], axis: str = "") -> str:
    """Return the label among `known` that a name means.

    Args:
        where: Start of the message.
        label: The name, which may be short where that is clear.
        known: Labels of the axis.
        axis: Name of the axis.

    Raises:
        ResultError: It is not among them; the message begins with `where` and lists them.
    """
    found = labels_meant(axis, label, known)
    if len(found) == 1:
        return found[0]
    raise ResultError(f"{where}: no {label!r:.80}{meant(found) or _or_known(label, known)}")


def _or_known(name: str, known: Sequence[str]) -> str:
    return nearest(name, list(known)) or f"; known: {', '.join(known)}"
