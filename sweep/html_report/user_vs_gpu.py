"""Tokens per second of one user and of one GPU in every cell, from the variables of a result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xarray as xr

from sweep.html_report.thinning import grid_of
from sweep.schema.axes import GPUS, REPLICA_GPUS, gpus_of


@dataclass(frozen=True)
class Throughputs:
    """Throughput per user and per GPU of every cell.

    Attributes:
        title: How the two were derived.
        per_user: Output tokens per second of one request. [1/s]
        per_gpu: Output tokens per second of one GPU. [1/s]
    """

    title: str
    per_user: xr.Variable
    per_gpu: xr.Variable


def throughputs(dataset: xr.Dataset) -> Throughputs | None:
    """Both throughputs of every cell that can run, or `None` if the result lacks variables."""
    ways: tuple[Callable[[xr.Dataset], Throughputs | None], ...] = (
        lambda d: _of_requests(d, "inflight_", "in-flight batching"),
        lambda d: _of_requests(d, "", "static batches, prefill included"),
        _of_steps,
    )
    return next((found for way in ways if (found := way(dataset)) is not None), None)


def _of_requests(dataset: xr.Dataset, start: str, title: str) -> Throughputs | None:
    throughput, tpot = f"{start}output_throughput", f"{start}tpot"
    per_user, per_gpu = f"{throughput}_per_user", f"{throughput}_per_gpu"
    if per_user in dataset:
        user = dataset.variables[per_user]
    elif tpot in dataset:
        user = 1 / dataset.variables[tpot]
    else:
        return None
    if per_gpu in dataset:
        gpu = dataset.variables[per_gpu]
    elif throughput in dataset and (gpus := _gpus(dataset, GPUS)) is not None:
        gpu = dataset.variables[throughput] / gpus
    else:
        return None
    return _able(dataset, f"{start}feasible", Throughputs(title, user, gpu))


def _of_steps(dataset: xr.Dataset) -> Throughputs | None:
    if "decode_step_latency" not in dataset or "batch_size" not in dataset.dims:
        return None
    replica = _gpus(dataset, REPLICA_GPUS)
    if replica is None:
        return None
    user = 1 / dataset.variables["decode_step_latency"]
    gpu = dataset.variables["batch_size"] * user / replica
    return _able(dataset, "feasible", Throughputs("decode steps only, without prefill", user, gpu))


def _gpus(dataset: xr.Dataset, axes: tuple[str, ...]) -> Any:
    """GPUs over these axes of the layout; `None` if the result was reduced over one. [count]"""
    grid = grid_of(dataset)
    if any(len(grid.get(axis, [])) > 1 and axis not in dataset.dims for axis in axes):
        return None
    return gpus_of({axis: dataset.variables[axis] for axis in axes if axis in dataset.dims})


def _able(dataset: xr.Dataset, feasible: str, found: Throughputs) -> Throughputs:
    user, gpu = found.per_user, found.per_gpu
    if feasible in dataset and set(dataset[feasible].dims) <= set(user.dims):
        able = dataset.variables[feasible] == 1
        user, gpu = user.where(able), gpu.where(able)
    # The sum has the dimensions of both.
    whole = user + gpu
    user, gpu = (each.set_dims(whole.sizes).transpose(*whole.dims) for each in (user, gpu))
    return Throughputs(found.title, user, gpu)
