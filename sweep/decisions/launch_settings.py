"""Settings of a server that a recommendation assumed, for the command that launches it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

import jax.numpy as jnp
import pandas as pd

from sweep.decisions.deployments import INFLIGHT, LAYOUT_AXES, OPEN, RUN, Deployments, numbers
from sweep.decisions.memory_parts import of_server
from sweep.decisions.recommend import Recommendation
from sweep.decisions.rivals import recorded_calibration
from sweep.errors import SpecError
from sweep.evaluation.kernel_inputs import coded
from sweep.evaluation.single_cell import cell
from sweep.kernel import memory
from sweep.kernel.block import is_routed
from sweep.kernel.keeps_step import prefill_first
from sweep.kernel.params import Point
from sweep.kernel.server import Server
from sweep.models.checkpoint import is_quantised
from sweep.models.context import beyond_context, longest_context
from sweep.models.read import read_model
from sweep.schema.axes import INTERVALS, REPLICA_GPUS, SERVER, STAGE_GPUS, gpus_of
from sweep.specs.dtypes import DTYPE_BYTES
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT, PrecisionSpec

STATED = ("scheduler", "kept_context", "reserved_osl", "expert_imbalance")
"""Axes that an engine may have no option for, and that a measured row has no column for."""


@dataclass(frozen=True)
class LaunchSettings:
    """Settings that a prediction assumed.

    Attributes:
        model: The model.
        hardware: The accelerator.
        recipe: The precision recipe.
        as_published: Whether the model's own file has that recipe.
        routed: Whether the model is a mixture of experts.
        layout: GPUs along each axis of the layout. [count]
        replicas: Servers that share the load. [count]
        server: Limits and shares of one server.
        held: Requests that one server holds; the mean, rounded up, of those that arrive. [count]
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        cached: Share of the prompt tokens found in the cache. [1]
        shared: Tokens that all prompts begin with. [count]
        drafted: Tokens drafted for each pass. [count]
        accepted: Probability that one of them is accepted. [1]
        draft: Published name of the model that drafts; empty if it is no model of its own.
        stored_modules: Whether the model has modules for further tokens.
        total_share: Share of the device memory for weights, activations and KV cache. [1]
        static_share: Share of it for weights and KV cache. [1]
        free_share: Share for the KV cache of the memory that weights, activations and the engine
            leave. [1]
        calibration: Name of the calibration, or `ideal`.
        answer: The prediction in words, one line each.
        rate: Requests that arrive at it in a second; 0 for clients that keep `held` open. [s-1]
        burstiness: Shape of the gaps between arrivals. [1]
        reserved: Share of the output tokens whose cache is reserved on admission, by the setting
            and by the engine's habit. [1]
        prefill_first: Whether iterations with prompts decode nothing, by the setting or by the
            engine's habit.
        sent: Requests of a run that this server gets at once; 0 for none. [count]
        batch_wait: Iterations for which prompts wait for others; 0 for none. [count]
        poll_interval: Iterations between two looks for new requests; 0 if not stated. [count]
        stream_interval: Tokens after which the first are sent; 0 if not stated. [count]
        isl_cv: Coefficient of variation of the input tokens. [1]
        osl_cv: Coefficient of variation of the output tokens. [1]
        engine: Engine and version that the prediction is for, as columns of a measured row; empty
            for bounds.
        stated: Values of `STATED` that the prediction was asked for.
    """

    model: ModelSpec
    hardware: HardwareSpec
    recipe: PrecisionSpec
    as_published: bool
    routed: bool
    layout: Mapping[str, int]
    replicas: int
    server: Server
    held: int
    isl: int
    osl: int
    cached: float
    shared: int
    drafted: int
    accepted: float
    draft: str
    stored_modules: bool
    total_share: float
    static_share: float
    free_share: float
    calibration: str
    answer: tuple[str, ...]
    rate: float = 0.0
    burstiness: float = 1.0
    reserved: float = 1.0
    prefill_first: bool = False
    sent: int = 0
    batch_wait: int = 0
    poll_interval: int = 0
    stream_interval: int = 0
    isl_cv: float = 0.0
    osl_cv: float = 0.0
    engine: Mapping[str, str] = field(default_factory=dict)
    stated: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """Tokens of the longest request: three deviations beyond the mean where they vary. [count]

        No more than the model is made for, unless the mean is.
        """
        mean, most = self.isl + self.osl, longest_context(self.model)
        varied = 3 * (self.isl * self.isl_cv + self.osl * self.osl_cv)
        return max(mean, ceil(min(mean + varied, inf if most is None else most)))

    @property
    def beyond_context(self) -> str:
        """Sentence where requests are longer than the model is made for; empty if not."""
        return beyond_context(self.model, self.isl + self.osl)

    @property
    def stage_gpus(self) -> int:
        """GPUs of one pipeline stage. [count]"""
        return int(gpus_of(self.layout, STAGE_GPUS))

    @property
    def gpus(self) -> int:
        """GPUs of one server. [count]"""
        return int(gpus_of(self.layout, REPLICA_GPUS))

    @property
    def finds(self) -> bool:
        """Whether any tokens of a prompt are found in the cache."""
        return self.cached > 0 or self.shared > 0

    @property
    def narrow(self) -> bool:
        """Whether any linear layer has weights of fewer than 16 bits."""
        return DTYPE_BYTES[self.recipe.weight_dtype] < 2 or any(
            DTYPE_BYTES[part.weight_dtype] < 2
            for part in (self.recipe.attention, self.recipe.experts)
            if part is not None
        )


def launch_settings(found: Recommendation) -> LaunchSettings:
    """Settings of the first deployment of a ranking.

    Raises:
        SpecError: It is a static batch, a specification is missing, or it takes several machines.
    """
    given = found.deployments
    row = {str(column): value for column, value in found.ranked.iloc[0].items()}
    if given.scheme not in (INFLIGHT, OPEN, RUN):
        raise SpecError(
            "--emit: the result has static batches, and no engine serves one; recommend from "
            "inflight variables, or without --from"
        )
    model = given.specs.models.get(given.model)
    hardware = given.specs.hardware.get(row["hardware"])
    recipe = given.specs.recipe(given.model, row["precision"])
    for name, spec in (
        (given.model, model),
        (row["hardware"], hardware),
        (row["precision"], recipe),
    ):
        if spec is None:
            raise SpecError(
                f"--emit: no specification of {name!r} in the catalog; give its folder with "
                "--configs"
            )
    assert model is not None and hardware is not None and recipe is not None
    layout = {axis: int(row.get(axis, 1)) for axis in LAYOUT_AXES}
    machine = hardware.fabric_reach[1]
    gpus = int(gpus_of(layout, REPLICA_GPUS))
    if gpus > machine:
        raise SpecError(
            f"--emit: the layout takes {gpus} GPUs and a machine of {hardware.name} has {machine}; "
            "commands are for one machine: give fewer with --tp, --pp or --dp-attention"
        )
    point = _point(found, row, model, hardware, recipe)
    total, static, free = memory_shares(point)
    own, rate = row["precision"] == CHECKPOINT.name, found.demand.request_rate
    return LaunchSettings(
        model=model,
        hardware=hardware,
        recipe=recipe,
        as_published=own or (not is_quantised(model) and is_plain(recipe)),
        routed=is_routed(read_model(model)),
        layout=layout,
        replicas=int(row["replicas"]) * layout["dp"],
        server=Server(**{axis: coded([row[axis]], float)[0] for axis in SERVER if axis in row}),
        held=int(row["held"]) if rate is None else max(ceil(row["held"]), 1),
        rate=0.0 if rate is None else rate / row["replicas"],
        burstiness=found.demand.burstiness or 1.0,
        reserved=reserved_share(point),
        prefill_first=bool(prefill_first(point)),
        sent=int(row["asked"]) if given.scheme == RUN else 0,
        **{axis: int(row.get(axis, 0)) for axis in INTERVALS},
        isl_cv=float(row.get("isl_cv", 0.0)),
        osl_cv=float(row.get("osl_cv", 0.0)),
        engine=_engine(given.calibration_of(row)),
        stated={axis: row[axis] for axis in STATED if _states(row, axis)},
        isl=given.isl,
        osl=given.osl,
        cached=float(row.get("prefix_hit_rate", 0.0)),
        shared=int(row.get("shared_prefix_tokens", 0)),
        drafted=int(row.get("draft_tokens", 0)),
        accepted=float(point.accepted) if row.get("draft_tokens") else 0.0,
        draft=_published_draft(given),
        stored_modules=bool(model.config.get("num_nextn_predict_layers")),
        total_share=total,
        static_share=static,
        free_share=free,
        calibration=given.calibration_of(row).partition(" ")[0],
        answer=_answer(found, row),
    )


def _states(row: Mapping[str, Any], axis: str) -> bool:
    usual = {"reserved_osl": 1.0, "expert_imbalance": 1.0}
    return axis in row and not pd.isna(row[axis]) and row[axis] != usual.get(axis)


def _engine(recorded: str) -> dict[str, str]:
    """Engine and version that a calibration predicts, as columns of a measured row."""
    known = recorded_calibration(recorded)
    if known is None or isinstance(known, str) or not known.engine_version:
        return {}
    return {"engine": known.engine, "engine_version": known.engine_version}


def _published_draft(given: Deployments) -> str:
    if not given.draft:
        return ""
    return given.specs.models[given.draft].hugging_face_id or given.draft


def memory_shares(point: Point) -> tuple[float, float, float]:
    """Shares of the device memory for a server's weights, activations and cache. [1]

    They are of the whole memory for all three, of it for weights and cache, and, for the cache
    alone, of what weights, activations and the engine leave.
    """
    size, parts = point.hardware.memory, of_server(point)
    static = parts["weights"] + parts["cache"]
    share = parts["cache"] / jnp.maximum(memory.free_memory(point), 1.0)
    return float((static + parts["activations"]) / size), float(static / size), float(share)


def reserved_share(point: Point) -> float:
    """Share of the output tokens whose cache is reserved on admission. [1]"""
    return float(point.server.reserved_osl * point.factors.reserved_output)


def is_plain(recipe: PrecisionSpec) -> bool:
    """Whether all linear layers are in 16 bits."""
    parts = (recipe, recipe.attention, recipe.experts, recipe.head)
    return all(DTYPE_BYTES[part.weight_dtype] == 2 for part in parts if part is not None)


def _point(
    found: Recommendation,
    row: Mapping[str, Any],
    model: ModelSpec,
    hardware: HardwareSpec,
    recipe: PrecisionSpec,
) -> Point:
    given = found.deployments
    lengths = {"isl": float(given.isl), "osl": float(given.osl)}
    calibration = recorded_calibration(given.calibration_of(row))
    if isinstance(calibration, str):
        raise SpecError(f"--emit: the calibration {calibration!r} of the result is not installed")
    return cell(
        read_model(model),
        hardware,
        recipe,
        {**numbers(row), **lengths},
        calibration,
        draft=given.draft_blocks,
    )


def _answer(found: Recommendation, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The prediction, one line a figure."""
    basis = found.deployments.calibration_of(row).partition(" ")[0]
    spread = ""
    if row["lower"] == row["lower"]:
        spread = f" ({row['lower']:,.0f} to {row['upper']:,.0f} in 90 % of cases)"
    rate, load = found.demand.request_rate, f"{row['held']:.0f} requests"
    most = ""
    if found.deployments.scheme == RUN:
        load = f"a run of {row['asked']:.0f} requests, {row['held']:.0f} at once,"
    if rate is not None:
        load, most = f"{rate / row['replicas']:.3g} requests a second", "at most "
    figures = (
        f"{most}{row['throughput']:,.0f} output tokens a second{spread}",
        f"time to first token {row['ttft']:.3g} s, per output token {row['tpot'] * 1e3:.3g} ms",
        f"at {load} of {found.deployments.isl} tokens in and {found.deployments.osl} out",
    )
    return (f"predicted by {basis} for {row['gpus']:.0f} × {row['hardware']}:", *figures)
