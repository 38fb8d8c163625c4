"""Tokens per second of a user and of a GPU in every cell, from whatever a result holds of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import xarray as xr

from sweep.html_report.thinning import grid_of

GPU_AXES = ("tp", "pp", "dp_attention", "dp")


@dataclass(frozen=True)
class Offers:
    """What each cell offers one user, and what each of its GPUs delivers.

    Attributes:
        title: How the two were come by.
        per_user: Output tokens per second of one request. [1/s]
        per_gpu: Output tokens per second of one GPU. [1/s]
    """

    title: str
    per_user: xr.DataArray
    per_gpu: xr.DataArray


def offers(dataset: xr.Dataset) -> Offers | None:
    """Both throughputs of every cell that can run, or `None` if the result tells too little."""
    ways: tuple[Callable[[xr.Dataset], Offers | None], ...] = (
        lambda d: _of_requests(d, "inflight_", "in-flight batching"),
        lambda d: _of_requests(d, "", "static batches, prefill included"),
        _of_steps,
    )
    return next((found for way in ways if (found := way(dataset)) is not None), None)


def _of_requests(dataset: xr.Dataset, start: str, title: str) -> Offers | None:
    throughput, tpot = f"{start}output_throughput", f"{start}tpot"
    per_user, per_gpu = f"{throughput}_per_user", f"{throughput}_per_gpu"
    if per_user in dataset:
        user = dataset[per_user]
    elif tpot in dataset:
        user = 1 / dataset[tpot]
    else:
        return None
    if per_gpu in dataset:
        gpu = dataset[per_gpu]
    elif throughput in dataset and (gpus := _gpus(dataset, GPU_AXES)) is not None:
        gpu = dataset[throughput] / gpus
    else:
        return None
    return _able(dataset, f"{start}feasible", Offers(title, user, gpu))


def _of_steps(dataset: xr.Dataset) -> Offers | None:
    if "decode_step_latency" not in dataset or "batch_size" not in dataset.dims:
        return None
    replica = _gpus(dataset, GPU_AXES[:3])
    if replica is None:
        return None
    user = 1 / dataset["decode_step_latency"]
    gpu = dataset["batch_size"] * user / replica
    return _able(dataset, "feasible", Offers("decode steps alone, without prefill", user, gpu))


def _gpus(dataset: xr.Dataset, axes: Sequence[str]) -> Any:
    """GPUs over these axes of the layout; `None` if a reduction took one of them away. [count]"""
    grid = grid_of(dataset)
    if any(len(grid.get(axis, [])) > 1 and axis not in dataset.dims for axis in axes):
        return None
    return prod(dataset[axis] for axis in axes if axis in dataset.dims)


def _able(dataset: xr.Dataset, feasible: str, found: Offers) -> Offers:
    user, gpu = xr.broadcast(found.per_user, found.per_gpu)
    if feasible in dataset and set(dataset[feasible].dims) <= set(user.dims):
        able = dataset[feasible] == 1
        user, gpu = user.where(able), gpu.where(able)
    return Offers(found.title, user, gpu.transpose(*user.dims))
