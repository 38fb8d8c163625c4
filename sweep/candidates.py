"""Every deployment that may be chosen, one row of a table each, from a sweep or a result."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from sweep.architecture import is_routed
from sweep.catalog import Catalog
from sweep.errors import ResultError, SpecError
from sweep.execution import run
from sweep.families import read_blocks
from sweep.fitted import FittedEfficiency
from sweep.grid import Grid, check_dtypes
from sweep.judged import EXTRAPOLATION
from sweep.specs import HardwareSpec, ModelSpec, PrecisionSpec, nearest
from sweep.variables import SERVER

T = TypeVar("T")
LAYOUT = ("tp", "pp", "ep", "dp_attention", "dp")
"""Axes that lay a deployment out over GPUs; all but `ep` multiply their number."""
CHOSEN = ("hardware", "precision", *LAYOUT, *SERVER)
"""Axes whose places are there to be chosen from, beside the load."""
MOST_REQUESTS = 2048
"""Requests in flight up to which `loads` are tried. [count]"""
WIDEST = 64
"""GPUs of a machine up to which layouts are tried unasked. [count]"""


@dataclass(frozen=True)
class Scheme:
    """How requests are batched, and what a result calls what follows from it.

    Attributes:
        load: Axis of requests held at once.
        throughput: Output tokens per second.
        ttft: Time to first token.
        tpot: Time per output token.
        feasible: Whether it can run.
        reason: Why it cannot.
        mask: What a calibrated prediction reaches beyond.
    """

    load: str
    throughput: str
    ttft: str
    tpot: str
    feasible: str
    reason: str
    mask: str


INFLIGHT = Scheme(
    "concurrency",
    "inflight_output_throughput",
    "inflight_ttft",
    "inflight_tpot",
    "inflight_feasible",
    "inflight_infeasible_reason",
    "inflight_extrapolation",
)
STATIC = Scheme(
    "batch_size",
    "output_throughput",
    "ttft",
    "tpot",
    "feasible",
    "infeasible_reason",
    "extrapolation",
)


@dataclass(frozen=True)
class Offer:
    """Which deployments there are to choose from.

    Attributes:
        hardware: Accelerators; empty for all with solid figures.
        precision: Recipes; empty for `fp16`, or all of a result.
        tp: Tensor-parallel widths; empty for powers of two within a machine. [count]
        pp: Pipeline stages; the same. [count]
        dp_attention: Attention groups; the same where a model has experts. [count]
    """

    hardware: tuple[str, ...] = ()
    precision: tuple[str, ...] = ()
    tp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    dp_attention: tuple[int, ...] = ()


@dataclass(frozen=True)
class Known:
    """Specifications behind the names of candidates, as far as they are to be had.

    Attributes:
        model: Of the model.
        hardware: By name.
        precision: By name.
    """

    model: ModelSpec | None = None
    hardware: Mapping[str, HardwareSpec] = field(default_factory=dict)
    precision: Mapping[str, PrecisionSpec] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidates:
    """Deployments, one row each in a fixed order.

    Attributes:
        model: Name of the model.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        scheme: How requests are batched.
        frame: Columns `hardware` and `precision`, the axes of `LAYOUT` and `SERVER` there are,
            `asked` and `held` requests, `fit` if known, `throughput` with `lower` and `upper`,
            `ttft`, `tpot`, `runs`, `reason`, `beyond`, `gpus`.
        efficiency: The calibration's name and digest, or `ideal`.
        known: The specifications behind these names.
    """

    model: str
    isl: int
    osl: int
    scheme: Scheme
    frame: pd.DataFrame
    efficiency: str
    known: Known


def sweep_candidates(
    model: str,
    offer: Offer,
    *,
    isl: int,
    osl: int,
    concurrency: int | None,
    catalog: Catalog,
    efficiency: FittedEfficiency | None,
) -> Candidates:
    """Run a sweep of servers with in-flight batching over all that is on offer.

    Args:
        model: Name, or path of a config.json.
        offer: What there is to choose from.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        concurrency: Requests in flight at a replica; `loads` are tried if not given. [count]
        catalog: Where to look names up.
        efficiency: A calibration; ideal rooflines if not given.

    Raises:
        SpecError: A name is unknown, or no accelerator computes in any of the types.
    """
    spec = catalog.model(model)
    recipes = [catalog.precision(name) for name in offer.precision or ("fp16",)]
    machines = [catalog.hardware(name) for name in dict.fromkeys(offer.hardware)] or solid_hardware(
        catalog, efficiency
    )
    axes = _layout_axes(offer, machines, spec)
    requests: Any = [concurrency] if concurrency else loads(MOST_REQUESTS)
    parts, told = [], ""
    for recipe in recipes:
        able = [machine for machine in machines if computes(machine, recipe)]
        if not able:
            continue
        grid = Grid(
            models=[spec],
            hardware=list(able),
            precision=[recipe],
            **axes,
            concurrency=requests,
            isl=[isl],
            osl=[osl],
            variables=[
                INFLIGHT.throughput,
                INFLIGHT.ttft,
                INFLIGHT.tpot,
                "inflight_concurrency",
                "max_concurrency",
            ],
        )
        dataset = run(grid, catalog=catalog, efficiency=efficiency)
        told = str(dataset.attrs["efficiency"])
        parts.append(_table(dataset.isel(model=0, isl=0, osl=0), INFLIGHT))
    if not parts:
        names, types = (", ".join(spec.name for spec in specs) for specs in (machines, recipes))
        raise SpecError(f"no peak rate for {types} on any of {names}; choose another precision")
    frame = pd.concat(parts, ignore_index=True)
    kept = frame[_within_machines(frame, machines, offer)].reset_index(drop=True)
    known = Known(spec, {m.name: m for m in machines}, {r.name: r for r in recipes})
    return Candidates(spec.name, isl, osl, INFLIGHT, kept, told, known)


def read_candidates(
    dataset: xr.Dataset,
    offer: Offer,
    *,
    catalog: Catalog,
    model: str | None = None,
    isl: int | None = None,
    osl: int | None = None,
    concurrency: int | None = None,
) -> Candidates:
    """What of a result is on offer, in-flight batches where it has them, else static ones.

    Args:
        dataset: A result of a sweep.
        offer: What of its axes to choose from; all of an axis that is empty.
        catalog: Where the specifications behind its names may stand.
        model: Where it has several.
        isl: Where it has several. [count]
        osl: Where it has several. [count]
        concurrency: Requests held at once; all that it has if not given. [count]

    Raises:
        ResultError: It lacks a variable or place that is needed, or leaves an axis open.
    """
    if "llm_sweep_reduction" in dataset.attrs:
        raise ResultError(
            f"reduced already, by {dataset.attrs['llm_sweep_reduction']}; recommend from the sweep "
            "itself"
        )
    scheme = next(
        (s for s in (INFLIGHT, STATIC) if {s.throughput, s.ttft, s.tpot} <= set(dataset.data_vars)),
        None,
    )
    if scheme is None:
        raise ResultError(
            "the result must have inflight_output_throughput, inflight_ttft and inflight_tpot, "
            "or output_throughput, ttft and tpot, to recommend from"
        )
    place = {
        axis: _one(dataset, axis, value)
        for axis, value in (("model", model), ("isl", isl), ("osl", osl))
    }
    wanted = {name: list(getattr(offer, name)) for name in CHOSEN if getattr(offer, name, ())}
    if concurrency is not None:
        wanted[scheme.load] = [concurrency]
    for axis, values in wanted.items():
        dataset = dataset.sel({axis: [_known(dataset, axis, value) for value in values]})
    part = dataset.sel(place)
    open_axes = [
        str(axis)
        for axis in part[scheme.throughput].dims
        if axis not in (*CHOSEN, scheme.load) and part.sizes[axis] > 1
    ]
    if open_axes:
        raise ResultError(
            f"the result has several {' and '.join(open_axes)}, which are no choice of a "
            "deployment; export one of them first, with llm-sweep export --select"
        )
    frame = _table(part, scheme)
    told = str(dataset.attrs.get("efficiency", ""))
    known = _found(catalog, place["model"], frame)
    return Candidates(place["model"], place["isl"], place["osl"], scheme, frame, told, known)


def _found(catalog: Catalog, model: str, frame: pd.DataFrame) -> Known:
    """What a catalog has of the names in a result, which may be from elsewhere."""
    models = look_up(catalog.model, [model])
    return Known(
        models.get(model),
        look_up(catalog.hardware, frame["hardware"].unique().tolist()),
        look_up(catalog.precision, frame["precision"].unique().tolist()),
    )


def look_up(find: Callable[[str], T], names: Iterable[str]) -> dict[str, T]:
    """What `find` has of these names; a result may be from elsewhere."""
    found = {}
    for name in names:
        with suppress(SpecError):
            found[name] = find(name)
    return found


def solid_hardware(
    catalog: Catalog, efficiency: FittedEfficiency | None = None
) -> list[HardwareSpec]:
    """Accelerators with solid figures, under a calibration of vendors that its rows were of."""
    specs = [catalog.hardware(name) for name in catalog.paths("hardware")]
    seen = [] if efficiency is None else efficiency.seen.get("hardware", [])
    vendors = {spec.vendor for spec in specs if spec.name in seen or not seen}
    return [spec for spec in specs if spec.confidence == "solid" and spec.vendor in vendors]


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 and so on up to `most`."""
    return [2**n for n in range(most.bit_length()) if 2**n <= most]


def loads(most: int) -> list[int]:
    """Powers of two up to `most`, and half as much again in between: 1, 2, 3, 4, 6, 8 and so on."""
    powers = powers_of_two(most)
    return sorted({*powers, *(3 * n // 2 for n in powers[1:] if 3 * n // 2 < most)})


def _layout_axes(
    offer: Offer, machines: Sequence[HardwareSpec], model: ModelSpec
) -> dict[str, list[int]]:
    blocks = read_blocks(model.config, model.where)
    mixed = is_routed(blocks)
    within = powers_of_two(min(max(_node(machine) for machine in machines), WIDEST))
    return {
        "tp": sorted(set(offer.tp)) or within,
        "pp": sorted(set(offer.pp)) or within,
        "dp_attention": sorted(set(offer.dp_attention)) or (within if mixed else [1]),
    }


def _node(spec: HardwareSpec) -> int:
    """GPUs of one machine. [count]"""
    return spec.fabric_reach[1]


def _within_machines(
    frame: pd.DataFrame, machines: Iterable[HardwareSpec], offer: Offer
) -> pd.Series:
    """Deployments that fit in one machine; all where every axis of the layout was given.

    Raises:
        SpecError: None fits.
    """
    if offer.tp and offer.pp:
        return pd.Series(True, frame.index)
    sizes = {machine.name: _node(machine) for machine in machines}
    within: pd.Series = frame["gpus"] <= frame["hardware"].map(sizes)
    if not within.any():
        told = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise SpecError(
            f"every layout takes {frame['gpus'].min():.0f} GPUs or more, and a machine of {told}; "
            "give both tp and pp for layouts over several machines"
        )
    return within


def computes(machine: HardwareSpec, recipe: PrecisionSpec) -> bool:
    """Whether an accelerator has a rate for every type of a recipe."""
    try:
        check_dtypes(machine, recipe)
    except SpecError:
        return False
    return True


def _one(dataset: xr.Dataset, axis: str, value: Any) -> Any:
    """The place of an axis that was asked for, or its only one."""
    places = dataset[axis].values.tolist()
    if value is not None:
        return _known(dataset, axis, value)
    if len(places) > 1:
        raise ResultError(f"the result has several {axis}: {_listed(places)}; choose by --{axis}")
    return places[0]


def _known(dataset: xr.Dataset, axis: str, value: Any) -> Any:
    places = dataset[axis].values.tolist() if axis in dataset.dims else [1]
    if value not in places:
        guess = nearest(str(value), list(map(str, places))) or f"; it has {_listed(places)}"
        raise ResultError(f"the result has no {axis} {value}{guess}")
    return value


def _listed(places: Sequence[Any]) -> str:
    return ", ".join(map(str, places))


def _table(part: xr.Dataset, scheme: Scheme) -> pd.DataFrame:
    """One row for each deployment and load, in the order of the grid."""
    kept = {
        scheme.throughput: "throughput",
        f"{scheme.throughput}_lower": "lower",
        f"{scheme.throughput}_upper": "upper",
        scheme.ttft: "ttft",
        scheme.tpot: "tpot",
        scheme.feasible: "feasible",
        scheme.reason: "reason",
        scheme.mask: "beyond",
        "inflight_concurrency": "held",
        "max_concurrency": "fit",
    }
    chosen = part[[name for name in kept if name in part.data_vars]].compute().squeeze(drop=True)
    missing = [axis for axis in ("hardware", "precision") if axis not in chosen.dims]
    chosen = chosen.expand_dims({axis: np.atleast_1d(part[axis].values) for axis in missing})
    order = [axis for axis in (*CHOSEN, scheme.load) if axis in chosen.dims]
    frame = chosen.to_dataframe(dim_order=order).reset_index().rename(columns=kept)
    for axis in (*CHOSEN, scheme.load):
        if axis not in frame and axis in part.coords:
            frame[axis] = part[axis].values.item()
    return _completed(frame, scheme)


def _completed(frame: pd.DataFrame, scheme: Scheme) -> pd.DataFrame:
    """The table with what follows from its columns, and no column left out."""
    for axis in ("tp", "pp", "dp_attention"):
        frame[axis] = frame[axis].astype(int) if axis in frame else 1
    frame = frame.rename(columns={scheme.load: "asked"})
    if "asked" not in frame:
        frame["asked"] = frame.get("held", np.nan)
    if "held" not in frame:
        frame["held"] = frame["asked"]
    for name in ("lower", "upper", "fit"):
        frame[name] = frame.get(name, np.nan)
    for name in ("reason", "beyond"):
        frame[name] = frame[name].fillna(0).astype(int) if name in frame else 0
    able = frame["feasible"] == 1 if "feasible" in frame else frame["throughput"].notna()
    frame["runs"] = able & frame["throughput"].notna()
    frame["gpus"] = frame["tp"] * frame["pp"] * frame["dp_attention"]
    if "dp" in frame:
        frame["gpus"] = frame["gpus"] * frame["dp"].astype(int)
    floats = ("throughput", "lower", "upper", "ttft", "tpot", "held", "fit")
    return frame.astype(dict.fromkeys(floats, float))


def beyond(bits: int) -> tuple[str, ...]:
    """In words, what a prediction reaches beyond."""
    return tuple(what for what, bit in EXTRAPOLATION.items() if bits & bit)


def settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """Layout and server settings of a row, `tp` and what is not 1."""
    found = {axis: row[axis] for axis in (*LAYOUT, *SERVER) if axis in row}
    return {axis: value for axis, value in found.items() if axis == "tp" or value != 1}
