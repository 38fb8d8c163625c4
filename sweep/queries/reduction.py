"""Reductions of a sub-grid that combine exactly across sub-grids.

`within` reduces a sub-grid to a partial, `combine` joins partials in any order, `finish` makes the
result.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol

import xarray as xr

from sweep.files.chunks import regions_in_memory, stored_chunks
from sweep.grid import thresholds
from sweep.grid.dataset import package_version
from sweep.grid.tiling import slices
from sweep.queries.grid_axes import GridAxes
from sweep.queries.select import present_only
from sweep.queries.where import Where

AT_ONCE = 1024
"""Partials that wait to be joined, at most."""
WAITING_BYTES = 2**28
"""Size of the partials that wait to be joined, or that of what is joined already if larger."""


class Reduction(Protocol):
    """Interface of a reduction; a partial is a Dataset that can be written and opened again."""

    @property
    def grid(self) -> GridAxes:
        """The whole grid."""

    @property
    def where(self) -> Where:
        """Constraints on a cell."""

    @property
    def text(self) -> str:
        """The request in the words of the user."""

    @property
    def kept(self) -> tuple[str, ...]:
        """Axes with a result of their own for each value."""

    @property
    def reduced(self) -> tuple[str, ...]:
        """Axes that the result lacks."""

    @property
    def axes_needed_whole(self) -> tuple[str, ...]:
        """Axes that must not be divided."""

    def within(self, subgrid: xr.Dataset) -> xr.Dataset:
        """The partial of a sub-grid."""

    def combine(self, *partials: xr.Dataset) -> xr.Dataset:
        """One partial from several, the same in any order."""

    def finish(self, partial: xr.Dataset) -> xr.Dataset:
        """The result from the partial of the whole grid."""


def finish(reduction: Reduction, partial: xr.Dataset) -> xr.Dataset:
    """The result of a reduction, recorded in its global attributes, ready for a file."""
    result = present_only(reduction.finish(partial))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = str(result.attrs.get("history", ""))
    under = f" where {reduction.where.text}" if reduction.where.text else ""
    history = f"{before}\n{now} reduced by llm-sweep {package_version()}: {reduction.text}{under}"
    grid = {axis: list(values) for axis, values in reduction.grid.labels.items()}
    grid.pop("operator", None)
    return result.assign_attrs(
        llm_sweep_grid=json.dumps(grid, separators=(",", ":")),
        history=history.strip(),
        llm_sweep_reduction=reduction.text,
        llm_sweep_where=reduction.where.text or "none",
    )


def reduce_dataset(
    dataset: xr.Dataset,
    reduction: Reduction,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Reduce a dataset region by region, so that memory does not grow with its size.

    Args:
        dataset: The whole grid, in memory, in a file or in many.
        reduction: The reduction.
        progress: Called with the number of regions done and in all.
    """
    return finish(reduction, joined(reduction, partials(reduction, dataset, progress)))


def partials(
    reduction: Reduction,
    dataset: xr.Dataset,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[xr.Dataset]:
    """Reduce a sub-grid to partials, one region after another.

    Args:
        reduction: The reduction.
        dataset: The sub-grid.
        progress: Called with the number of regions done and in all.
    """
    sizes = {axis: dataset.sizes[axis] for axis in (*reduction.kept, *reduction.reduced)}
    regions = regions_in_memory(
        sizes,
        thresholds.CELLS_AT_ONCE,
        whole=reduction.axes_needed_whole,
        chunks=stored_chunks(dataset),
    )
    for done, region in enumerate(regions, start=1):
        yield reduction.within(dataset.isel(slices(region)))
        if progress is not None:
            progress(done, regions.count)


def joined(reduction: Reduction, partials: Iterable[xr.Dataset]) -> xr.Dataset:
    """One partial from many, few of which are in memory at a time.

    Args:
        reduction: The reduction that made them.
        partials: At least one.
    """
    waiting: list[xr.Dataset] = []
    fresh = 0
    for partial in partials:
        waiting.append(partial)
        fresh += partial.nbytes
        if len(waiting) == AT_ONCE or fresh > max(WAITING_BYTES, waiting[0].nbytes):
            waiting, fresh = [reduction.combine(*waiting)], 0
    return reduction.combine(*waiting)
