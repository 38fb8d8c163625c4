"""Compare two accelerators of a result, or two values of another axis."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sweep.decisions.comparison import Comparison
from sweep.decisions.overload import feasible_of, is_of_server, overload
from sweep.decisions.specs_by_name import SpecsByName, model_in, value_in
from sweep.engines.calibration_file import recorded_name
from sweep.errors import ResultError
from sweep.models.context import beyond_context
from sweep.schema.axes import AXES, LABELLED, LENGTHS
from sweep.schema.intervals import ENDS
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import current_catalog

METHODS = ("decode_step_latency", "global_decode_step_latency")
"""The operator roofline and the global roofline, shown side by side where a file has both."""
USUAL = (
    "denoising_step_latency",
    "inflight_output_throughput_per_gpu",
    "inflight_output_throughput",
)
"""Quantities that images and servers are compared by if none is asked for."""
LOAD_AXES = ("batch_size", "concurrency", "request_rate")
"""Axes that a map has upwards, the first of these that a result has."""
SETTINGS = [axis for axis in AXES if axis not in ("model", "hardware")]
BETTER = {"s": "lower", "J": "lower", "s-1": "higher"}
"""Better direction of a quantity, by its units."""


def compare(
    dataset: xr.Dataset,
    hardware: tuple[Any, Any],
    *,
    model: str,
    variable: str,
    chosen: Mapping[str, Any],
    along: str = "hardware",
) -> Comparison:
    """Compare two accelerators of a result, or two values of another axis.

    Args:
        dataset: A result.
        hardware: The two accelerators, or values of the axis `along`.
        model: The model.
        variable: The quantity.
        chosen: Values along further axes, where the result has several.
        along: The axis to compare along.

    Raises:
        ResultError: The result lacks one of these, or leaves an axis open.
    """
    if along != "hardware" and along not in dataset.dims:
        raise ResultError(f"the file does not vary over {along}, so no two of its values compare")
    if variable not in dataset.data_vars or variable not in VARIABLES:
        known = ", ".join(str(name) for name in dataset.data_vars)
        raise ResultError(f"the file has no variable {variable!r}; it has {known}")
    for axis, value in chosen.items():
        if value is not None and axis not in dataset.dims:
            raise ResultError(f"the file does not vary over {axis}; leave --{axis} out")
    array = dataset[variable]
    if array.dtype.kind not in "fi":
        raise ResultError(f"variable {variable!r} is damaged; run llm-sweep check for details")
    if variable not in comparable(dataset):
        raise ResultError(
            f"variable {variable!r} is not a time, rate or energy over hardware and another axis; "
            f"the file has {', '.join(comparable(dataset)) or 'none'}"
        )
    if along not in array.dims:
        raise ResultError(f"variable {variable!r} does not vary over {along}; choose another")
    two, at = (along, hardware), {"model": model, **chosen}
    pair = _of_both(array, two, at)
    better, other = pair if BETTER[VARIABLES[variable].units] == "higher" else pair[::-1]
    fits = None
    flag = feasible_of(variable)
    if flag in dataset and set(pair[0].dims) <= set(dataset[flag].dims):
        fits = _of_both(_able(dataset[flag], array, chosen), two, at)
    elif VARIABLES[variable].masked:
        fits = pair[0].notnull(), pair[1].notnull()
    fixed = {dim: array[dim].item() for dim in array.dims if array.sizes[dim] == 1}
    fixed |= {axis: value for axis, value in chosen.items() if value is not None}
    # The two that are compared name their accelerator themselves, unless it is the same.
    named = SETTINGS if along == "hardware" else ["hardware", *SETTINGS]
    setting = ", ".join(f"{axis} {value}" for axis, value in fixed.items() if axis in named)
    return Comparison(
        model=model,
        variable=variable,
        hardware=hardware if along == "hardware" else _in_words(along, hardware),
        ratio=better / other,
        fits=fits,
        setting=setting,
        calibration=recorded_name(dataset.attrs),
        close=_overlap(dataset, variable, two, at),
        overloaded=_overloaded(dataset, variable, two, at),
        beyond_context=_beyond_context(dataset, model, chosen),
    )


def compare_each(
    dataset: xr.Dataset,
    pair: tuple[Any, Any],
    *,
    models: Sequence[str],
    variable: str | None,
    chosen: Mapping[str, Any],
    along: str = "hardware",
) -> list[list[Comparison]]:
    """Compare two accelerators, or values of another axis, for each model by each method.

    Args:
        dataset: A result.
        pair: The two; names may be short.
        models: Models, by any of their names; all of the result if empty.
        variable: The quantity; the latency of a decode step by both methods if not given.
        chosen: Values along further axes, where the result has several.
        along: The axis to compare along.

    Returns:
        A list for each model, with a comparison for each variable.

    Raises:
        ResultError: The result lacks one of these or leaves an axis open, or the two are one.
    """
    two = value_in(dataset, along, pair[0]), value_in(dataset, along, pair[1])
    if two[0] == two[1]:
        raise ResultError(f"{along}: {two[0]} is given twice; compare it with another")
    present = np.atleast_1d(dataset["model"].values).tolist()
    wanted = [model_in(present, name, current_catalog()) for name in models] or present
    return [
        [
            compare(dataset, two, model=name, variable=method, chosen=chosen, along=along)
            for method in methods_in(dataset, variable)
        ]
        for name in wanted
    ]


def _beyond_context(dataset: xr.Dataset, model: str, chosen: Mapping[str, Any]) -> str:
    """Sentence on the longest requests if the model is made for shorter ones, else nothing."""
    spec = SpecsByName.of({"model": [model]}, current_catalog()).models.get(model)
    if spec is None or not {"isl", "osl"} <= set(dataset.coords):
        return ""
    longest = (chosen.get(axis) or dataset[axis].values.max() for axis in ("isl", "osl"))
    return beyond_context(spec, float(sum(longest)))


def _in_words(axis: str, values: tuple[Any, Any]) -> tuple[str, str]:
    first, second = (f"{axis} {value}" for value in values)
    return first, second


def _able(feasible: xr.DataArray, array: xr.DataArray, chosen: Mapping[str, Any]) -> xr.DataArray:
    """Cells of `array` that can run, at some value of the axes along which it does not vary.

    The time to first token, for one, does not depend on how many tokens follow; memory does.
    """
    beyond = [str(dim) for dim in feasible.dims if dim not in array.dims]
    for axis in beyond:
        if chosen.get(axis) is not None:
            feasible = feasible.sel({axis: [chosen[axis]]})
    return (feasible == 1).any(beyond)


def _overlap(
    dataset: xr.Dataset,
    variable: str,
    pair: tuple[str, tuple[Any, Any]],
    chosen: Mapping[str, Any],
) -> xr.DataArray | None:
    """Cells in which the intervals of the two overlap, if the result has intervals."""
    ends = [f"{variable}_{end}" for end in ENDS]
    if not all(name in dataset for name in ends):
        return None
    (low, other_low), (high, other_high) = (_of_both(dataset[end], pair, chosen) for end in ends)
    return (low <= other_high) & (other_low <= high)


def _overloaded(
    dataset: xr.Dataset,
    variable: str,
    pair: tuple[str, tuple[Any, Any]],
    chosen: Mapping[str, Any],
) -> xr.DataArray | None:
    """Cells in which a server of either is overloaded, if the result says so."""
    flags = overload(dataset) if is_of_server(variable) else None
    if flags is None or not set(dataset[variable].dims) >= set(flags.dims):
        return None
    first, second = _of_both(flags.broadcast_like(dataset[variable]), pair, chosen)
    return first | second


def _of_both(
    array: xr.DataArray, pair: tuple[str, tuple[Any, Any]], chosen: Mapping[str, Any]
) -> tuple[xr.DataArray, xr.DataArray]:
    """Cells of an array at each of two values of an axis."""
    along, (first, second) = pair
    return _pick(array, {**chosen, along: first}), _pick(array, {**chosen, along: second})


def methods_in(dataset: xr.Dataset, variable: str | None) -> tuple[str, ...]:
    """Variables to show side by side: the one asked for, else both methods.

    Raises:
        ResultError: No variable was asked for, and the file has neither method.
    """
    if variable is not None:
        return (variable,)
    present = tuple(name for name in METHODS if name in dataset)
    if present:
        return present
    other = next((name for name in USUAL if name in dataset), None)
    if other is not None:
        return (other,)
    raise ResultError(
        f"the file has no {METHODS[0]}; choose one with --variable: "
        f"{', '.join(comparable(dataset))}"
    )


def comparable(dataset: xr.Dataset) -> list[str]:
    """Variables by which accelerators can be compared."""
    return [
        str(name)
        for name in dataset.data_vars
        if str(name) in VARIABLES
        and VARIABLES[str(name)].units in BETTER
        and not str(name).endswith(tuple(f"_{end}" for end in ENDS))
        and "hardware" in dataset[name].dims
        and set(dataset[name].dims) - {"model", "hardware", "precision"}
        and "operator" not in dataset[name].dims
    ]


def choices(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Variables that can be compared, one row each, with the axes that they vary over."""
    return [
        {
            "variable": name,
            "units": VARIABLES[name].units,
            "axes": ", ".join(
                f"{axis} ({size})"
                for axis, size in dataset[name].sizes.items()
                if size > 1 and axis not in ("model", "hardware")
            ),
            "interval": "yes" if f"{name}_{ENDS[0]}" in dataset else "no",
        }
        for name in comparable(dataset)
    ]


def _pick(array: xr.DataArray, chosen: Mapping[str, Any]) -> xr.DataArray:
    """Reduce `array` to two axes, at the `chosen` values: a load and a length if it has those."""
    for axis, value in chosen.items():
        if axis not in array.dims or value is None:
            continue
        known = array[axis].values.tolist()
        if value not in known:
            raise ResultError(f"the file has no {axis} {value!r}; it has {_listed(known)}")
        array = array.sel({axis: value}, drop=True)
    several = [str(d) for d in array.dims if array.sizes[d] > 1]
    kept = _mesh(array, several)
    array = array.squeeze(
        [d for d in array.dims if array.sizes[d] == 1 and d not in kept], drop=True
    )
    others = [d for d in several if d not in kept]
    if not others and len(kept) == 2:
        return array.transpose(*kept)
    beyond = [d for d in others if d not in (*LOAD_AXES, *LENGTHS)]
    if beyond:
        choices = "; ".join(f"--select {d}=, one of {_listed(array[d].values)}" for d in beyond)
        raise ResultError(f"the file varies over {' and '.join(beyond)}; give {choices}")
    if others:
        lengths = [d for d in several if d in LENGTHS] or several
        raise ResultError(
            f"the file varies over {' and '.join(lengths)}; fix one, as in "
            f"--select {lengths[1]}={array[lengths[1]].values[-1]}"
        )
    raise ResultError(f"variable {str(array.name)!r} varies over one axis only; a map needs two")


def _mesh(array: xr.DataArray, several: list[str]) -> list[str]:
    """The two axes of a map, the first one upwards: a load and a length, or those of any kind.

    Args:
        array: Values along all axes that are left.
        several: Those axes along which there are several values.
    """
    loads = [d for d in LOAD_AXES if d in array.dims]
    lengths = [d for d in AXES if d in LENGTHS and d in array.dims]
    longest = sorted(lengths, key=lambda d: -array.sizes[d])
    others = [d for d in several if d not in (*loads, *lengths) and d not in LABELLED]
    if len(several) > 2 or not others:
        return [*loads[:1], *longest[:1]] if loads else longest[:2]
    named = [d for d in (*others, *longest, *loads) if d in several]
    spare = [d for d in (*longest, *loads) if d not in several]
    two = [*named, *spare][:2]
    return sorted(two, key=lambda d: d in LENGTHS)


def _listed(values: Any) -> str:
    texts = [str(value) for value in np.asarray(values).tolist()]
    return ", ".join(texts) if len(texts) <= 12 else ", ".join(texts[:12]) + ", …"
