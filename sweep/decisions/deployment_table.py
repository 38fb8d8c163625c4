"""Read deployments from a result, one row each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sweep.decisions.deployments import (
    DEPLOYMENT_AXES,
    INFLIGHT,
    STATIC,
    WORKLOAD_AXES,
    Deployments,
    Offer,
    Scheme,
)
from sweep.decisions.replicas import loads_of, replica_counts
from sweep.decisions.specs_by_name import SpecsByName, model_in, value_in
from sweep.engines.calibration_file import recorded_name
from sweep.errors import ResultError
from sweep.grid.dataset import DRAFT
from sweep.schema.axes import AXES, GPUS, REPLICA_GPUS, gpus_of
from sweep.specs.catalog import Catalog
from sweep.specs.parsing import nearest

NEEDED = ("model", "hardware", "precision", "isl", "osl")
"""Axes of every result to recommend from."""
ROUNDED = 1e-5
"""Error of a number in a result. [1]"""
KEPT = "kept"
"""Name of the mask of the rows that are read."""
DRAWN_ENDS = ("drawn_lower", "drawn_upper")
"""Columns of the ends of the power drawn."""


def read_deployments(
    dataset: xr.Dataset,
    offer: Offer,
    *,
    catalog: Catalog,
    model: str | None = None,
    isl: int | None = None,
    osl: int | None = None,
    concurrency: int | None = None,
    replicas: int | None = None,
) -> Deployments:
    """Read the deployments of a result: with in-flight batching if it has that, else static.

    Args:
        dataset: A result of a sweep.
        offer: Values of its axes to choose from; all values of an axis that is empty.
        catalog: Where to look up the specifications behind its names.
        model: Required if the result has several.
        isl: Required if the result has several. [count]
        osl: Required if the result has several. [count]
        concurrency: Requests that all replicas hold together; every load of a replica that the
            result has if not given. [count]
        replicas: Replicas that share them; any number if not given. [count]

    Raises:
        ResultError: The result lacks a required variable or value, has arrivals at a rate or runs,
            or varies over an axis that is no choice of a deployment.
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
    _check_load(dataset, scheme)
    alone = [axis for axis in AXES if axis in dataset.coords and not dataset[axis].ndim]
    dataset = dataset.expand_dims(alone)
    lacking = [axis for axis in NEEDED if axis not in dataset.dims]
    if lacking:
        raise ResultError(f"the result has no axis {lacking[0]}, which deployments need")
    if model is not None:
        model = model_in(dataset["model"].values.tolist(), model, catalog)
    fixed = {
        axis: _only(dataset, axis, value)
        for axis, value in (("model", model), ("isl", isl), ("osl", osl))
    }
    wanted = {
        axis: list(getattr(offer, axis)) for axis in DEPLOYMENT_AXES if getattr(offer, axis, ())
    }
    if concurrency is not None:
        wanted[scheme.load] = _shares(dataset, scheme.load, concurrency, replicas)
    for axis, values in wanted.items():
        dataset = dataset.sel({axis: [_known(dataset, axis, value) for value in values]})
    selected = dataset.sel(fixed)
    if scheme.load in selected.dims:
        selected = selected.sortby(scheme.load)
    open_axes = [
        str(axis)
        for axis, size in _used(selected, scheme).sizes.items()
        if axis not in (*DEPLOYMENT_AXES, scheme.load) and size > 1
    ]
    if open_axes:
        raise ResultError(
            f"the result has several {' and '.join(open_axes)}, which are no choice of a "
            "deployment; export one of them first, with llm-sweep export --select"
        )
    frame = as_table(selected, scheme)
    if concurrency is None:
        frame = _without_waiting(frame)
    draft = str(dataset.attrs.get(DRAFT, ""))
    _check_positive(frame, ("throughput", "ttft", *(["tpot"] if fixed["osl"] > 1 else [])))
    _check_ends(frame)
    names = {"model": [fixed["model"], *([draft] if draft else [])]} | {
        axis: frame[axis].unique().tolist() for axis in ("hardware", "precision")
    }
    calibration = recorded_name(dataset.attrs)
    specs = SpecsByName.of(names, catalog)
    if draft and draft not in specs.models:
        raise ResultError(
            f"the result has drafts of {draft!r:.80}, which the catalog lacks; give its folder "
            "with --configs"
        )
    return Deployments(
        fixed["model"], fixed["isl"], fixed["osl"], scheme, frame, calibration, specs, draft
    )


def _check_load(dataset: xr.Dataset, scheme: Scheme) -> None:
    """Check that clients load the servers.

    Raises:
        ResultError: Requests arrive at a rate, or are sent in a run with an end.
    """
    for axis, kind in (("request_rate", "arrivals at a rate"), ("num_requests", "runs")):
        if scheme is INFLIGHT and axis in dataset.coords:
            option = f"--{axis.replace('_', '-')}"
            raise ResultError(
                f"the result has {kind}, which recommend sweeps by itself; give "
                f"{option} instead of a result, or a result without {axis}"
            )


def _without_waiting(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows without those of more requests than fit, where the result has the most that do.

    Where it lacks that load, `held` is all requests of a row, since its latencies are theirs.
    """
    axes = [axis for axis in DEPLOYMENT_AXES if axis in frame]
    held = frame["held"] * (1 + ROUNDED)
    most = held.where(frame["asked"] > held) // 1
    known = {tuple(row) for row in frame[[*axes, "asked"]].to_numpy().tolist()}
    rows = frame[axes].assign(most=most).to_numpy().tolist()
    found = frame[[tuple(row) not in known for row in rows]]
    held = found["asked"].where(np.isfinite(found["asked"]), found["held"])
    return found.assign(held=held).reset_index(drop=True)


def _shares(dataset: xr.Dataset, load: str, concurrency: int, replicas: int | None) -> list[int]:
    """Loads of single replicas that a total load splits into. [count]

    Raises:
        ResultError: The result has not all of these for any number of replicas.
    """
    known = [int(each) for each in dataset[load].values] if load in dataset.dims else []
    counts = [replicas] if replicas else replica_counts(concurrency, known)
    wanted = loads_of(concurrency, counts)
    missing = sorted({*wanted} - {*known})
    if missing or not wanted:
        least = f"{missing[0]}" if missing else f"{concurrency}, nor of equal shares of it"
        has = f"; it has {_listed(known)}" if known else ""
        raise ResultError(f"the result has no {load} {least}{has}")
    return wanted


def _check_positive(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Check the rows that can run.

    Raises:
        ResultError: One has a value that is not positive and finite.
    """
    for column in columns:
        values = frame.loc[frame["runs"], column]
        if not (np.isfinite(values) & (values > 0)).all():
            raise ResultError(
                f"damaged: {column} is not positive where a deployment can run; run llm-sweep check"
            )
    if np.isinf(frame.loc[frame["runs"], "held"]).any():
        raise ResultError("damaged: a server holds infinitely many requests; run llm-sweep check")


def _check_ends(frame: pd.DataFrame) -> None:
    """Check that intervals are finite and contain their values, in the rows that can run.

    Raises:
        ResultError: One does not.
    """
    for value, low, high in (("throughput", "lower", "upper"), ("drawn", *DRAWN_ENDS)):
        rows = frame[frame["runs"] & frame[low].notna()]
        most = rows[value] * (1 + ROUNDED)
        within = (rows[low] <= most) & (rows[value] <= rows[high] * (1 + ROUNDED))
        if not (within & (rows[low] > 0) & np.isfinite(rows[high])).all():
            raise ResultError(
                f"damaged: an interval does not contain its {value}; run llm-sweep check"
            )


def _only(dataset: xr.Dataset, axis: str, value: Any) -> Any:
    """The value of an axis that was asked for, or its only one."""
    values = dataset[axis].values.tolist()
    if value is not None:
        return _known(dataset, axis, value)
    if len(values) > 1:
        raise ResultError(f"the result has several {axis}: {_listed(values)}; choose by --{axis}")
    return values[0]


def _known(dataset: xr.Dataset, axis: str, value: Any) -> Any:
    values = dataset[axis].values.tolist() if axis in dataset.dims else [1]
    value = value_in(dataset, axis, value)
    if value not in values:
        guess = nearest(str(value), list(map(str, values))) or f"; it has {_listed(values)}"
        raise ResultError(f"the result has no {axis} {value}{guess}")
    return value


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def as_table(
    selected: xr.Dataset, scheme: Scheme, kept: xr.DataArray | None = None
) -> pd.DataFrame:
    """One row for each deployment and load, in the order of the grid, by number of its cell.

    Args:
        selected: A result for one model and one pair of lengths.
        scheme: Which variables to read.
        kept: Mask over axes of the result of the rows to read; all if not given.
    """
    axes = (*DEPLOYMENT_AXES, scheme.load)
    used = _used(selected, scheme).compute().assign({KEPT: True if kept is None else kept})
    present = used.squeeze(drop=True)
    missing = [axis for axis in ("hardware", "precision") if axis not in present.dims]
    present = present.expand_dims({axis: np.atleast_1d(selected[axis].values) for axis in missing})
    order = [axis for axis in axes if axis in present.dims]
    cells = present.broadcast_like(present).transpose(*order)
    frame = _rows(cells).rename(columns=_columns(scheme))
    chosen = (axis for axis, values in selected.coords.items() if not values.ndim)
    for axis in (*chosen, *axes, *WORKLOAD_AXES):
        if axis not in frame and axis in selected.coords and selected[axis].size == 1:
            frame[axis] = selected[axis].values.item()
    return _completed(frame, scheme)


def _rows(cells: xr.Dataset) -> pd.DataFrame:
    """One row for each cell that is kept, of the values of axes and variables."""
    mask = cells[KEPT]
    kept = mask.values
    places = zip(mask.dims, np.nonzero(kept), strict=True)
    axes = {axis: cells[axis].values[index] for axis, index in places}
    variables = {name: each.values[kept] for name, each in cells.data_vars.items()}
    rows = pd.DataFrame({**axes, **variables}, index=np.flatnonzero(kept))
    return rows.drop(columns=KEPT)


def _columns(scheme: Scheme) -> dict[str, str]:
    """Column of each variable that is read."""
    return {
        scheme.throughput: "throughput",
        f"{scheme.throughput}_lower": "lower",
        f"{scheme.throughput}_upper": "upper",
        scheme.ttft: "ttft",
        scheme.tpot: "tpot",
        scheme.feasible: "feasible",
        scheme.reason: "reason",
        scheme.mask: "beyond",
        "inflight_ttft_p99": "ttft_p99",
        "inflight_tpot_p99": "tpot_p99",
        "inflight_concurrency": "held",
        "max_concurrency": "fit",
        "inflight_power": "drawn",
        "inflight_power_lower": "drawn_lower",
        "inflight_power_upper": "drawn_upper",
        "inflight_prompt_share": "prompts",
        "inflight_overload": "overload",
    }


def _used(dataset: xr.Dataset, scheme: Scheme) -> xr.Dataset:
    """The variables that are read, as far as a result has them."""
    return dataset[[name for name in _columns(scheme) if name in dataset.data_vars]]


def _completed(frame: pd.DataFrame, scheme: Scheme) -> pd.DataFrame:
    """Add the columns that the result lacks and those that follow from others."""
    for axis in REPLICA_GPUS:
        frame[axis] = frame[axis].astype(int) if axis in frame else 1
    frame = frame.rename(columns={scheme.load: "asked"})
    if "asked" not in frame:
        frame["asked"] = frame.get("held", np.nan)
    if "held" not in frame:
        # Of the requests that clients keep open a server holds as many as fit.
        most = frame.get("fit", np.nan) if scheme is INFLIGHT else np.nan
        frame["held"] = np.fmin(frame["asked"], most)
    for name in DRAWN_ENDS:
        frame[name] = frame.get(name, np.nan)
    for name in ("lower", "upper", "fit", "drawn", "prompts", "ttft", "tpot"):
        frame[name] = frame.get(name, np.nan)
    for name in ("reason", "beyond", "overload"):
        frame[name] = frame[name].fillna(0).astype(int) if name in frame else 0
    able = frame["feasible"] == 1 if "feasible" in frame else frame["throughput"].notna()
    frame["runs"] = able & frame["throughput"].notna()
    frame["gpus"] = gpus_of({axis: frame[axis].astype(int) for axis in GPUS if axis in frame})
    floats = (
        *("throughput", "lower", "upper", "ttft", "tpot", "held", "fit", "drawn", "prompts"),
        *DRAWN_ENDS,
    )
    return frame.astype(dict.fromkeys(floats, float))
