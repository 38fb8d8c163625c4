"""Reads what to reduce: `best:batch_size`, `pareto:ttft,output_throughput` and the like."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import xarray as xr

from sweep.errors import ResultError
from sweep.queries.axes_of_grid import Space
from sweep.queries.best import Best
from sweep.queries.pareto import Pareto
from sweep.queries.quantile import Quantile
from sweep.queries.reduction import Reduction, reduce_dataset
from sweep.queries.where import Where
from sweep.schema.variables import VARIABLES, larger_is_better
from sweep.specs.parsing import Spec

FORMS = (
    "best:AXIS[,AXIS], argmax:VARIABLE, argmin:VARIABLE, pareto:VARIABLE,VARIABLE "
    "or quantile:SHARE[,SHARE]:AXIS[,AXIS]"
)


@dataclass(frozen=True)
class _Asked:
    """What the user asked for: the text, its fields after the kind, and what goes with it."""

    text: str
    fields: tuple[tuple[str, ...], ...]
    space: Space
    where: Where
    by: str | None
    per: tuple[str, ...] | None

    def __post_init__(self) -> None:
        for axis in self.per or ():
            self.space.check_axis(axis, "--per")
        if self.by is not None:
            self.space.check_variable(self.by, "--by")

    def refused(self, why: str) -> ResultError:
        """An error that begins with what was asked."""
        return ResultError(f"--reduce {self.text}: {why}")

    def axes(self, field: int) -> tuple[str, ...]:
        """The axes that a field names."""
        what = f"--reduce {self.text}"
        return self.space.in_order(self.space.check_axis(a, what) for a in self.fields[field])

    def variables(self, field: int) -> tuple[str, ...]:
        """The variables that a field names; each has an order."""
        what = f"--reduce {self.text}"
        names = dict.fromkeys(self.space.check_variable(v, what) for v in self.fields[field])
        for name in names:
            self.check_quantity(name)
        return tuple(names)

    def check_quantity(self, name: str) -> None:
        """Refuse a category."""
        if not _is_quantity(name):
            raise self.refused(f"{name} is a category, which has no order")

    def axes_of(self, *names: str) -> tuple[str, ...]:
        """Axes over which the variables and the constraints vary."""
        return self.space.in_order({*self.space.axes_of(names), *self.where.axes})

    def check_varies(self, names: Sequence[str], wanted: Sequence[str]) -> None:
        """Refuse axes over which neither the variables nor the constraints vary."""
        axes = self.axes_of(*names)
        still = [axis for axis in wanted if axis not in axes]
        if still:
            raise self.refused(
                f"{' and '.join(names)} do{'es' if len(names) == 1 else ''} not vary over "
                f"{', '.join(still)}, only over {', '.join(axes)}"
            )

    def larger_is_better(self, name: str) -> bool:
        """Which end of a variable is the better one."""
        larger = larger_is_better(name)
        if larger is None:
            raise self.refused(
                f"nobody can say whether more of {name} is better; throughputs, times and memory "
                "have a better end, argmax and argmin take any"
            )
        return larger

    def described(self, *more: str) -> str:
        """The text, with what was chosen beside it."""
        return " ".join([self.text, *more])


class Question(Spec):
    """What to reduce, in the words of `parse_reduction`, before there is a grid to ask it of.

    Attributes:
        text: As in `best:batch_size`.
        where: Constraints.
        by: What is best, or has quantiles.
        per: Axes that each have their own extreme or front.
    """

    text: str
    where: str = ""
    by: str | None = None
    per: list[str] | None = None

    def __str__(self) -> str:
        """In the words of the command line."""
        where = f" where {self.where}" if self.where else ""
        by = f" by {self.by}" if self.by else ""
        per = f" per {','.join(self.per)}" if self.per else ""
        return f"{self.text}{by}{per}{where}"

    def over(self, space: Space) -> Reduction:
        """The reduction of a grid.

        Raises:
            ResultError: It cannot be asked of this grid.
        """
        return parse_reduction(self.text, space, where=self.where, by=self.by, per=self.per)


def parse_reduction(
    text: str,
    space: Space,
    *,
    where: str = "",
    by: str | None = None,
    per: Sequence[str] | None = None,
) -> Reduction:
    """Read what to reduce.

    Args:
        text: `best:AXES` for the best `by` over these axes in every cell of the others;
            `argmax:VARIABLE` or `argmin:VARIABLE` for its place over all axes but `per`;
            `pareto:VARIABLES` for their front over all axes but `per`;
            `quantile:SHARES:AXES` for quantiles over these axes.
        space: The whole grid.
        where: Constraints, as `Where.parse` reads them.
        by: Variable that is best, or whose quantiles are taken. Default: the first throughput or
            else the first time for `best`, every quantity for `quantile`.
        per: Axes that each have their own answer. Default: none, and `model` for `pareto`.

    Raises:
        ResultError: It is none of these, or names something unknown or without a better end.
    """
    kind, *rest = text.split(":")
    fields = tuple(tuple(word.strip() for word in field.split(",")) for field in rest)
    sound = all(word for field in fields for word in field)
    if kind not in _KINDS or len(fields) != _KINDS[kind].fields or not sound:
        raise ResultError(f"--reduce {text!r}: write {FORMS}")
    if by is not None and not _KINDS[kind].takes_by:
        raise ResultError(f"--reduce {text}: names its variables itself; leave out --by")
    if per is not None and _KINDS[kind].takes_by:
        raise ResultError(f"--reduce {text}: names the axes it reduces; leave out --per")
    constraints = Where.parse(where, space)
    asked = _Asked(text, fields, space, constraints, by, None if per is None else tuple(per))
    return _KINDS[kind].make(asked)


def reduce(
    dataset: xr.Dataset,
    text: str,
    *,
    where: str = "",
    by: str | None = None,
    per: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Reduce a whole result, in memory or lazy, to what `parse_reduction` reads.

    Args:
        dataset: A result.
        text: As in `best:batch_size`.
        where: Constraints, as in `ttft<0.5 and feasible`.
        by: What is best, or has quantiles.
        per: Axes that each have their own extreme or front.
        progress: Called with blocks done and blocks in all.

    Raises:
        ResultError: It cannot be asked of this result, which may be reduced already.
    """
    if "llm_sweep_reduction" in dataset.attrs:
        raise ResultError(
            f"reduced already, by {dataset.attrs['llm_sweep_reduction']}; reduce the sweep itself"
        )
    reduction = parse_reduction(text, Space.of(dataset), where=where, by=by, per=per)
    return reduce_dataset(dataset, reduction, progress=progress)


def _best(asked: _Asked) -> Reduction:
    reduced = asked.axes(0)
    by = asked.by or _default_by(asked, reduced)
    return _best_of(asked, by, asked.larger_is_better(by), reduced, f"by {by}")


def _argmax(asked: _Asked) -> Reduction:
    return _extreme(asked, largest=True)


def _argmin(asked: _Asked) -> Reduction:
    return _extreme(asked, largest=False)


def _extreme(asked: _Asked, *, largest: bool) -> Reduction:
    (by,), per = (asked.variables(0), asked.per or ())
    asked.check_varies([by], per)
    reduced = tuple(axis for axis in asked.axes_of(by) if axis not in per)
    return _best_of(asked, by, largest, reduced, *_told_per(per))


def _best_of(
    asked: _Asked, by: str, largest: bool, reduced: tuple[str, ...], *more: str
) -> Reduction:
    asked.check_quantity(by)
    asked.check_varies([by], reduced)
    kept = tuple(axis for axis in asked.axes_of(by) if axis not in reduced)
    text = asked.described(*more)
    return Best(asked.space, asked.where, by, largest, reduced, kept, text)


def _pareto(asked: _Asked) -> Reduction:
    names = asked.variables(0)
    if len(names) < 2:
        raise asked.refused("a front needs two variables or more")
    axes = asked.axes_of(*names)
    per = tuple(axis for axis in axes if axis == "model") if asked.per is None else asked.per
    asked.check_varies(names, per)
    kept = asked.space.in_order(per)
    reduced = tuple(axis for axis in axes if axis not in kept)
    objectives = {name: asked.larger_is_better(name) for name in names}
    text = asked.described(*_told_per(kept))
    return Pareto(asked.space, asked.where, objectives, kept, reduced, text)


def _quantile(asked: _Asked) -> Reduction:
    shares, reduced = _shares(asked, asked.fields[0]), asked.axes(1)
    names = [asked.by] if asked.by else [n for n in asked.space.dims if _is_quantity(n)]
    varying = tuple(n for n in names if set(reduced) & set(asked.axes_of(n)))
    if not varying:
        raise asked.refused(f"no quantity varies over {', '.join(reduced)}")
    for name in varying:
        asked.check_quantity(name)
    text = asked.described(*([f"by {asked.by}"] if asked.by else []))
    return Quantile(asked.space, asked.where, varying, shares, reduced, text)


class _Kind(NamedTuple):
    """A kind of reduction: how many fields follow its name, and which options go with it."""

    fields: int
    takes_by: bool
    make: Callable[[_Asked], Reduction]


_KINDS = {
    "best": _Kind(1, True, _best),
    "argmax": _Kind(1, False, _argmax),
    "argmin": _Kind(1, False, _argmin),
    "pareto": _Kind(1, False, _pareto),
    "quantile": _Kind(2, True, _quantile),
}


def _told_per(per: Sequence[str]) -> list[str]:
    return [f"per {','.join(per)}"] if per else []


def _shares(asked: _Asked, words: Sequence[str]) -> tuple[float, ...]:
    try:
        shares = sorted({float(word) for word in words})
    except ValueError:
        shares = []
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise asked.refused("shares are numbers from 0 to 1, as in quantile:0.5,0.9:isl")
    return tuple(shares)


def _is_quantity(name: str) -> bool:
    return name not in VARIABLES or not VARIABLES[name].is_flag


def _default_by(asked: _Asked, reduced: Sequence[str]) -> str:
    dims = asked.space.dims
    names = [name for name in dims if name in VARIABLES and set(reduced) <= set(dims[name])]
    for units in ("s-1", "s"):
        for name in names:
            if VARIABLES[name].units == units:
                return name
    raise asked.refused(
        f"no throughput or time varies over {', '.join(reduced)}; say what is best by --by"
    )
