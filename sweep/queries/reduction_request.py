"""Parse and run a reduction such as `best:batch_size` or `pareto:ttft,output_throughput`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import xarray as xr

from sweep.errors import ResultError
from sweep.queries.best import BEST, Best
from sweep.queries.grid_axes import GridAxes
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
class _Parsed:
    """A reduction as the user wrote it: the text, its fields after the kind, and its options."""

    text: str
    fields: tuple[tuple[str, ...], ...]
    grid: GridAxes
    where: Where
    by: str | None
    per: tuple[str, ...] | None

    def __post_init__(self) -> None:
        for axis in self.per or ():
            self.grid.check_axis(axis, "--per")
        if self.by is not None:
            self.grid.check_variable(self.by, "--by")

    def refused(self, why: str) -> ResultError:
        """An error that begins with the text."""
        return ResultError(f"--reduce {self.text}: {why}")

    def axes(self, field: int) -> tuple[str, ...]:
        """Axes that a field names."""
        what = f"--reduce {self.text}"
        return self.grid.in_order(self.grid.check_axis(a, what) for a in self.fields[field])

    def variables(self, field: int) -> tuple[str, ...]:
        """Variables that a field names; none is a category."""
        what = f"--reduce {self.text}"
        names = dict.fromkeys(self.grid.check_variable(v, what) for v in self.fields[field])
        for name in names:
            self.check_quantity(name)
        return tuple(names)

    def check_quantity(self, name: str) -> None:
        """Raise an error for a category."""
        if not _is_quantity(name):
            raise self.refused(f"{name} is a category, which has no order")

    def axes_of(self, *names: str) -> tuple[str, ...]:
        """Axes over which the variables and the constraints vary."""
        return self.grid.in_order({*self.grid.axes_of(names), *self.where.axes})

    def check_varies(self, names: Sequence[str], wanted: Sequence[str]) -> None:
        """Raise an error for axes over which neither the variables nor the constraints vary."""
        axes = self.axes_of(*names)
        constant = [axis for axis in wanted if axis not in axes]
        if constant:
            raise self.refused(
                f"{' and '.join(names)} do{'es' if len(names) == 1 else ''} not vary over "
                f"{', '.join(constant)}, only over {', '.join(axes)}"
            )

    def larger_is_better(self, name: str) -> bool:
        """Whether larger values of a variable are better."""
        larger = larger_is_better(name)
        if larger is None:
            raise self.refused(
                f"{name} has no better direction; name a throughput, a time or a memory, or use "
                "argmax or argmin"
            )
        return larger

    def described(self, *more: str) -> str:
        """The text with the options that were chosen."""
        return " ".join([self.text, *more])


class ReductionRequest(Spec):
    """A reduction in the words of `parse_reduction`, before the grid is known.

    Attributes:
        text: As in `best:batch_size`.
        where: Constraints.
        by: Variable that must be best, or whose quantiles are taken.
        per: Axes with an extreme or front of their own for each value.
    """

    text: str
    where: str = ""
    by: str | None = None
    per: list[str] | None = None

    def __str__(self) -> str:
        """The request in the words of the command line."""
        where = f" where {self.where}" if self.where else ""
        by = f" by {self.by}" if self.by else ""
        per = f" per {','.join(self.per)}" if self.per else ""
        return f"{self.text}{by}{per}{where}"

    def over(self, grid: GridAxes) -> Reduction:
        """The reduction of a grid.

        Raises:
            ResultError: The grid lacks an axis or a variable that it names.
        """
        return parse_reduction(self.text, grid, where=self.where, by=self.by, per=self.per)


def parse_reduction(
    text: str,
    grid: GridAxes,
    *,
    where: str = "",
    by: str | None = None,
    per: Sequence[str] | None = None,
) -> Reduction:
    """Parse a reduction.

    Args:
        text: `best:AXES` for the best `by` over these axes in every cell of the others;
            `argmax:VARIABLE` or `argmin:VARIABLE` for the cell of its extreme over all axes but
            `per`; `pareto:VARIABLES` for their front over all axes but `per`;
            `quantile:SHARES:AXES` for quantiles over these axes.
        grid: The whole grid.
        where: Constraints, as `Where.parse` reads them.
        by: Variable that must be best, or whose quantiles are taken. Default: the first throughput
            or else the first time for `best`, every quantity for `quantile`.
        per: Axes with a result of their own for each value. Default: none, and `model` for
            `pareto`.

    Raises:
        ResultError: It has none of these forms, names something unknown, or ranks by a variable
            without a better direction.
    """
    kind, *rest = text.split(":")
    fields = tuple(tuple(word.strip() for word in field.split(",")) for field in rest)
    sound = all(word for field in fields for word in field)
    if kind not in _KINDS or len(fields) != _KINDS[kind].fields or not sound:
        raise ResultError(f"--reduce {text!r}: write {FORMS}")
    if by is not None and not _KINDS[kind].takes_by:
        raise ResultError(f"--reduce {text}: this form names its variables itself; leave out --by")
    if per is not None and _KINDS[kind].takes_by:
        raise ResultError(f"--reduce {text}: this form names its axes itself; leave out --per")
    constraints = Where.parse(where, grid)
    parsed = _Parsed(text, fields, grid, constraints, by, None if per is None else tuple(per))
    return _KINDS[kind].make(parsed)


def reduce(
    dataset: xr.Dataset,
    text: str,
    *,
    where: str = "",
    by: str | None = None,
    per: str | Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Reduce a whole result, in memory or lazy; see `parse_reduction` for the forms.

    Args:
        dataset: A result.
        text: As in `best:batch_size`.
        where: Constraints, as in `ttft<0.5 and feasible`.
        by: Variable that must be best, or whose quantiles are taken.
        per: Axes with an extreme or front of their own for each value.
        progress: Called with the number of regions done and in all.

    Raises:
        ResultError: The result lacks an axis or a variable that is named, or is already reduced.
    """
    if "llm_sweep_reduction" in dataset.attrs:
        raise ResultError(
            f"reduced already, by {dataset.attrs['llm_sweep_reduction']}; reduce the sweep itself"
        )
    grid = GridAxes.of(dataset)
    strange = [str(dim) for dim in dataset.dims if dim not in grid.labels]
    if strange:
        raise ResultError(f"the result has the axis {strange[0]!r:.80}, which is none of a sweep")
    axes = [per] if isinstance(per, str) else per
    reduction = parse_reduction(text, grid, where=where, by=by, per=axes)
    return reduce_dataset(dataset, reduction, progress=progress)


def _best(parsed: _Parsed) -> Reduction:
    reduced = parsed.axes(0)
    by = parsed.by or _default_by(parsed, reduced)
    return _best_of(parsed, by, parsed.larger_is_better(by), reduced, f"by {by}")


def _argmax(parsed: _Parsed) -> Reduction:
    return _extreme(parsed, largest=True)


def _argmin(parsed: _Parsed) -> Reduction:
    return _extreme(parsed, largest=False)


def _extreme(parsed: _Parsed, *, largest: bool) -> Reduction:
    (by,), per = (parsed.variables(0), parsed.per or ())
    parsed.check_varies([by], per)
    reduced = tuple(axis for axis in parsed.axes_of(by) if axis not in per)
    return _best_of(parsed, by, largest, reduced, *_per_text(per))


def _best_of(
    parsed: _Parsed, by: str, largest: bool, reduced: tuple[str, ...], *more: str
) -> Reduction:
    parsed.check_quantity(by)
    parsed.check_varies([by], reduced)
    kept = tuple(axis for axis in parsed.axes_of(by) if axis not in reduced)
    text = parsed.described(*more)
    return Best(parsed.grid, parsed.where, by, largest, reduced, kept, text)


def _pareto(parsed: _Parsed) -> Reduction:
    names = parsed.variables(0)
    if len(names) < 2:
        raise parsed.refused("a front needs two variables or more")
    axes = parsed.axes_of(*names)
    per = tuple(axis for axis in axes if axis == "model") if parsed.per is None else parsed.per
    parsed.check_varies(names, per)
    kept = parsed.grid.in_order(per)
    reduced = tuple(axis for axis in axes if axis not in kept)
    objectives = {name: parsed.larger_is_better(name) for name in names}
    text = parsed.described(*_per_text(kept))
    return Pareto(parsed.grid, parsed.where, objectives, kept, reduced, text)


def _quantile(parsed: _Parsed) -> Reduction:
    shares, reduced = _shares(parsed, parsed.fields[0]), parsed.axes(1)
    names = [parsed.by] if parsed.by else [n for n in parsed.grid.dims if _is_quantity(n)]
    varying = tuple(n for n in names if set(reduced) & set(parsed.axes_of(n)))
    if not varying:
        raise parsed.refused(f"no quantity varies over {', '.join(reduced)}")
    for name in varying:
        parsed.check_quantity(name)
    text = parsed.described(*([f"by {parsed.by}"] if parsed.by else []))
    return Quantile(parsed.grid, parsed.where, varying, shares, reduced, text)


class _Kind(NamedTuple):
    """A kind of reduction: the number of fields after its name, and its options."""

    fields: int
    takes_by: bool
    make: Callable[[_Parsed], Reduction]


_KINDS = {
    "best": _Kind(1, True, _best),
    "argmax": _Kind(1, False, _argmax),
    "argmin": _Kind(1, False, _argmin),
    "pareto": _Kind(1, False, _pareto),
    "quantile": _Kind(2, True, _quantile),
}


def _per_text(per: Sequence[str]) -> list[str]:
    return [f"per {','.join(per)}"] if per else []


def _shares(parsed: _Parsed, words: Sequence[str]) -> tuple[float, ...]:
    try:
        shares = sorted({float(word) for word in words})
    except ValueError:
        shares = []
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise parsed.refused("shares are numbers from 0 to 1, as in quantile:0.5,0.9:isl")
    return tuple(shares)


def _is_quantity(name: str) -> bool:
    return name not in VARIABLES or not VARIABLES[name].is_flag


def _default_by(parsed: _Parsed, reduced: Sequence[str]) -> str:
    dims = parsed.grid.dims
    names = [name for name in dims if name in VARIABLES and set(reduced) <= set(dims[name])]
    for units in ("s-1", "s"):
        for name in names:
            if VARIABLES[name].units == units:
                return name
    raise parsed.refused(
        f"no throughput or time varies over {', '.join(reduced)}; name a variable with --by"
    )


def nothing_found(reduced: xr.Dataset) -> bool:
    """Whether a reduced result has no answer at all, since no cell satisfies the constraints."""
    variables = reduced.data_vars
    chosen = [array for name, array in variables.items() if str(name).startswith(BEST)]
    return all(bool(array.isnull().all()) for array in chosen or variables.values())
