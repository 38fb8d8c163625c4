"""Contents of a page: names and notes as JSON, figures as packed arrays."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import xarray as xr

from sweep.decisions.compare import BETTER, compare
from sweep.decisions.overload import overload
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import Calibration, recorded_name
from sweep.errors import ResultError
from sweep.grid.dataset import RECIPES, package_version
from sweep.html_report.binding_map import with_bounds
from sweep.html_report.calibration_quality import Quality
from sweep.html_report.layers import layers
from sweep.html_report.operator_tables import OperatorTables, operator_tables
from sweep.html_report.packed_arrays import Bundle, Note
from sweep.html_report.thinning import fitting, grid_of
from sweep.html_report.user_vs_gpu import throughputs
from sweep.schema.axes import AXES, LABELLED, LATENCY_LIMITS, LAYOUT, LENGTHS
from sweep.schema.intervals import ENDS
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import Catalog
from sweep.specs.dtypes import DTYPE_TITLES
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import PrecisionSpec

FIRST = (
    "output_throughput",
    "inflight_output_throughput",
    "output_throughput_per_gpu",
    "inflight_output_throughput_per_gpu",
    "image_throughput",
    "decode_step_latency",
    "denoising_step_latency",
    "e2e_latency",
    "tpot",
    "ttft",
)
"""Variables to show first: the first of these that the result has."""
COUNTED = {
    **{"image_throughput": "images", "throughput": "tokens", "request_rate": "requests"},
    "flops": "flop",
}
"""Things that a number or a rate counts, by a part of its name."""
AXIS_TITLES = {"isl": "input length", "osl": "output length", "context_len": "context length"}
"""Titles of axes whose names are abbreviations."""
UP = ("batch_size", "concurrency", "request_rate")
"""Axes that are vertical in a map, if the result has them."""
MOST_SENTENCES = 12

AXIS_UNITS = {
    **dict.fromkeys(LENGTHS, "tokens"),
    "image_size": "pixels",
    "guidance_passes": "passes",
    "denoising_steps": "steps",
    "batch_size": "sequences",
    "concurrency": "requests",
    "num_requests": "requests",
    "request_rate": "requests/s",
    **dict.fromkeys(LATENCY_LIMITS, "s"),
    "shared_prefix_tokens": "tokens",
    "draft_tokens": "tokens",
    "acceptance_length": "tokens",
    "batch_wait": "iterations",
    "poll_interval": "iterations",
    "stream_interval": "tokens",
    "max_batch_size": "sequences",
    "max_num_tokens": "tokens",
    "tp": "GPUs",
    "ep": "GPUs",
    "pp": "stages",
    "dp_attention": "groups",
    "dp": "replicas",
}
"""Unit of each axis; the others are shares and ratios."""


def contents(
    dataset: xr.Dataset,
    *,
    catalog: Catalog,
    calibration: Calibration | None,
    quality: Quality | None,
    caution: str = "",
    chosen: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Bundle]:
    """The JSON of a page, and the packed arrays that it refers to.

    Args:
        dataset: A result.
        catalog: Where the names in it are looked up.
        calibration: The calibration that predicted it; ideal rooflines if not given.
        quality: Figures of the calibration.
        caution: A caution for the reader.
        chosen: Value along each axis of the cell to show first; one that runs if not given.

    Raises:
        ResultError: The result has nothing that a page could show.
    """
    kept, left_out = fitting(dataset)
    grid = grid_of(kept)
    bundle = Bundle()
    cautions = [caution] if caution else []
    specs, tables = SpecsByName.of(grid, catalog), None
    gone = [axis for axis in AXES if len(grid.get(axis, [])) > 1 and axis not in kept.dims]
    if gone:
        cautions.append(
            f"The result was reduced over {' and '.join(gone)}, so this page has no breakdown by "
            "operator; llm-sweep explain computes one for any cell."
        )
    elif not caution:
        kept = with_bounds(kept, grid, specs, calibration)
        tables = operator_tables(kept, grid, specs, calibration)
    if tables is not None and tables.unknown:
        cautions.append(
            "No breakdown by operator, because the specification is missing or differs from that "
            f"of the result: {', '.join(tables.unknown)}."
        )
    data = described(kept, grid, specs, tables, bundle)
    if not data["shown"]:
        raise ResultError(
            "the result has only flags; give one that also has a time, rate or amount"
        )
    begin = _start(kept, data["variable"])
    if chosen is not None:
        begin = start_at(chosen, grid, across=begin["across"], up=begin["up"])
    data |= {
        "left_out": left_out,
        "cautions": cautions,
        "title": str(dataset.attrs.get("title", "Results")),
        "about": _about(dataset),
        "start": begin,
        "sentences": _sentences(kept, data["variable"]),
        "quality": None if quality is None else quality_json(quality, bundle),
        "bounded": calibration is None and not caution,
    }
    return data, bundle


def described(
    kept: xr.Dataset,
    grid: Mapping[str, Sequence[Any]],
    specs: SpecsByName,
    tables: OperatorTables | None,
    bundle: Bundle,
) -> dict[str, Any]:
    """The part of a page's JSON that its pictures are drawn from.

    Args:
        kept: A result that fits on a page.
        grid: Labels and numbers along its axes.
        specs: Specifications of its names.
        tables: Its operators.
        bundle: Takes the arrays.
    """
    shown = [str(name) for name, array in kept.data_vars.items() if _is_shown(array)]
    return {
        "axes": {axis: _axis(axis, values) for axis, values in grid.items()},
        "variables": {str(n): _variable(a, kept, bundle) for n, a in kept.data_vars.items()},
        "shown": shown,
        "variable": next((name for name in FIRST if name in shown), next(iter(shown), None)),
        "front": _front(kept, bundle),
        "overloaded": _overloaded(kept, bundle),
        "hardware": {
            name: _machine(spec, _recipes(specs, grid)) for name, spec in specs.hardware.items()
        },
        "layers": layers(tables, bundle) if tables and tables.models else None,
        "memory": None,
    }


def start_at(
    chosen: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], *, across: str, up: str
) -> dict[str, Any]:
    """The first view of a chosen cell.

    Args:
        chosen: Value along each axis; the first of an axis that is not listed.
        grid: Labels and numbers along all axes.
        across: Horizontal axis of the map.
        up: Its vertical axis.
    """
    indices = {axis: grid[axis].index(value) for axis, value in chosen.items() if axis in grid}
    return {"across": across, "up": up, "indices": indices, "chosen": True}


def _is_shown(array: xr.DataArray) -> bool:
    """Whether a reader can choose it: a quantity over accelerators, no end of an interval."""
    name = str(array.name)
    end = name.endswith(tuple(f"_{end}" for end in ENDS))
    flag = name in VARIABLES and VARIABLES[name].is_flag
    return {"model", "hardware"} <= set(array.dims) and not (end or flag)


def _about(dataset: xr.Dataset) -> dict[str, str]:
    named = ("source", "history", "comment", "references")
    found = {name: str(dataset.attrs[name]) for name in named if name in dataset.attrs}
    if RECIPES in dataset.attrs:
        found["precision checkpoint"] = str(dataset.attrs[RECIPES])
    by = {"calibration": recorded_name(dataset.attrs)}
    return {**by, **found, "report": f"made by llm-sweep {package_version()}"}


def _axis(axis: str, values: Sequence[Any]) -> dict[str, Any]:
    return {
        "title": f"{AXIS_TITLES.get(axis, axis.replace('_', ' '))} ({AXIS_UNITS.get(axis, '1')})",
        "values": list(values),
        "labelled": axis in LABELLED,
    }


def _variable(array: xr.DataArray, dataset: xr.Dataset, bundle: Bundle) -> dict[str, Any]:
    name, attrs = str(array.name), array.attrs
    known = VARIABLES.get(name)
    units = str(attrs.get("units", "1"))
    dims = [str(dim) for dim in array.dims]
    meanings = {
        key: np.atleast_1d(attrs[key]).tolist()
        for key in ("flag_values", "flag_masks")
        if key in attrs
    }
    return {
        "title": str(attrs.get("long_name", name)),
        "units": units,
        "counted": next((what for key, what in COUNTED.items() if key in name), None),
        "comment": str(attrs.get("comment", "")) if known is None else known.comment,
        "better": None if meanings else BETTER.get(units),
        "ends": [f"{name}_{end}" for end in ENDS] if f"{name}_{ENDS[0]}" in dataset else None,
        "meanings": str(attrs.get("flag_meanings", "")).split(),
        **meanings,
        "values": bundle.add(array.values, dims),
    }


def _start(dataset: xr.Dataset, variable: str) -> dict[str, Any]:
    """The first view: the axes of the map, and an index along each of the others."""
    array = dataset[variable]
    numeric = [
        str(d) for d in array.dims if d not in LABELLED and (d in AXES) and array.sizes[d] > 1
    ]
    across = max(
        (d for d in numeric if d in LENGTHS), key=lambda d: array.sizes[d], default=None
    ) or next((d for d in numeric if d not in UP), None)
    up = next((d for d in (*UP, *numeric) if d in numeric and d != across), None)
    last = {d: array.sizes[d] - 1 for d in numeric if d in LENGTHS}
    indices = {**last, **_most_feasible(dataset, variable)}
    return {"across": across, "up": up, "indices": indices, "chosen": False}


def _most_feasible(dataset: xr.Dataset, variable: str) -> dict[str, int]:
    """Indices of the layout for which most cells of the first model run on the first two."""
    name = "inflight_feasible" if variable.startswith("inflight_") else "feasible"
    if name not in dataset or not {"model", "hardware"} <= set(dataset[name].dims):
        return {}
    able = (dataset[name].isel(model=0, hardware=slice(2)) == 1).all("hardware")
    cells = able.sum([dim for dim in able.dims if dim not in LAYOUT])
    return {str(dim): int(index) for dim, index in cells.argmax(...).items()}


def _sentences(dataset: xr.Dataset, variable: str) -> list[str]:
    """The answer of `compare` for the first two accelerators, for each model."""
    machines = [str(name) for name in dataset["hardware"].values]
    if len(machines) < 2:
        return []
    begin = _start(dataset, variable)
    chosen = {
        str(dim): dataset[dim].values.tolist()[begin["indices"].get(str(dim), 0)]
        for dim in dataset[variable].dims
        if dim not in ("model", "hardware", "batch_size", begin["across"], begin["up"])
    }
    found = []
    for model in dataset["model"].values.tolist()[:MOST_SENTENCES]:
        with suppress(ResultError):
            pair = compare(
                dataset, (machines[0], machines[1]), model=model, variable=variable, chosen=chosen
            )
            found.append(pair.sentence())
    return found


def _overloaded(dataset: xr.Dataset, bundle: Bundle) -> Note | None:
    """Cells in which requests wait for a slot of a server, if a result says so."""
    flags = overload(dataset)
    if flags is None:
        return None
    return bundle.add(flags.values.astype(np.int8), [str(dim) for dim in flags.dims])


def _front(dataset: xr.Dataset, bundle: Bundle) -> Note | None:
    found = throughputs(dataset)
    if found is None:
        return None
    dims = [str(dim) for dim in found.per_user.dims]
    return {
        "title": found.title,
        "per_user": bundle.add(found.per_user.values, dims),
        "per_gpu": bundle.add(found.per_gpu.values, dims),
    }


def _recipes(
    specs: SpecsByName, grid: Mapping[str, Sequence[Any]]
) -> dict[str, list[PrecisionSpec]]:
    """Recipes that a name along the `precision` axis means, one for each model."""
    models = [*grid.get("model", [])]
    return {
        name: [r for model in models if (r := specs.recipe(model, name)) is not None]
        for name in specs.precision
    }


def _machine(spec: HardwareSpec, recipes: Mapping[str, list[PrecisionSpec]]) -> dict[str, Any]:
    """Bandwidth, and for each recipe the peak rate of every type that it computes in."""
    peaks = {
        name: {
            DTYPE_TITLES.get(dtype, dtype): spec.peaks[dtype]
            for dtype in dict.fromkeys(d for r in each for d in r.compute_dtypes.values())
            if dtype in spec.peaks
        }
        for name, each in recipes.items()
    }
    memory = spec.usable_memory_bytes or spec.memory_bytes
    return {"bandwidth": spec.memory_bandwidth_bytes_per_s, "memory": memory, "peaks": peaks}


def quality_json(quality: Quality, bundle: Bundle) -> dict[str, Any]:
    """Figures of a calibration as JSON.

    Args:
        quality: The figures.
        bundle: Takes its measurements.
    """
    machines = sorted(set(quality.hardware))
    codes = np.asarray([machines.index(name) for name in quality.hardware], np.int16)
    return {
        "title": quality.title,
        "accuracy": quality.accuracy,
        "intervals": quality.intervals,
        "factors": quality.factors,
        "groups": quality.groups,
        "machines": machines,
        "measured": bundle.add(quality.measured, ["row"]),
        "predicted": bundle.add(quality.predicted, ["row"]),
        "hardware": bundle.add(codes, ["row"]),
    }
