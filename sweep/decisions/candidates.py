"""Every deployment that may be chosen, one row of a table each, from a sweep or a result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd

from sweep.schema.axes import SERVER
from sweep.schema.intervals import EXTRAPOLATION
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import PrecisionSpec

T = TypeVar("T")
LAYOUT = ("tp", "pp", "ep", "dp_attention", "dp")
"""Axes that lay a deployment out over GPUs; all but `ep` multiply their number."""
CHOSEN = ("hardware", "precision", *LAYOUT, *SERVER)
"""Axes whose places are there to be chosen from, beside the load."""


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


def beyond(bits: int) -> tuple[str, ...]:
    """In words, what a prediction reaches beyond."""
    return tuple(what for what, bit in EXTRAPOLATION.items() if bits & bit)


def settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """Layout and server settings of a row, `tp` and what is not 1."""
    found = {axis: row[axis] for axis in (*LAYOUT, *SERVER) if axis in row}
    return {axis: value for axis, value in found.items() if axis == "tp" or value != 1}
