"""Deployments read from a result, one row each."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sweep.decisions.candidates import (
    CHOSEN,
    INFLIGHT,
    STATIC,
    Candidates,
    Known,
    Offer,
    Scheme,
    T,
)
from sweep.errors import ResultError, SpecError
from sweep.specs.catalog import Catalog
from sweep.specs.parsing import nearest


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
    frame = as_table(part, scheme)
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


def as_table(part: xr.Dataset, scheme: Scheme) -> pd.DataFrame:
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
