"""Explain one cell: time by operator and resource, memory, and the effect of each resource."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sweep.decisions.cell_elasticities import cell_elasticities
from sweep.decisions.memory_parts import memory_parts
from sweep.decisions.operator_breakdown import (
    HOST,
    SMALL_MATRICES,
    SPENT,
    Amounts,
    break_down,
    is_mostly_overhead,
    mean_context,
    row_names,
    sum_by_name,
)
from sweep.decisions.reserves import reserve_in_words
from sweep.decisions.server_breakdown import break_down_server
from sweep.decisions.step_unknown import step_unknown
from sweep.engines.calibration_file import IDEAL_NAME, Calibration
from sweep.engines.memory_share import memory_share
from sweep.errors import GridError
from sweep.evaluation.cell_values import cell_values
from sweep.evaluation.numpy_cell import computed
from sweep.evaluation.single_cell import bare_cell
from sweep.grid.grid import Grid
from sweep.grid.resolved import Resolved, resolve
from sweep.kernel.block import Block
from sweep.kernel.inflight import Inflight
from sweep.kernel.open_loop import OpenLoop
from sweep.kernel.operator_table import operator_names
from sweep.kernel.params import Point
from sweep.kernel.roofline import slowest
from sweep.models.context import beyond_context
from sweep.schema.axes import LATENCY_LIMITS, LOADS, SERVER, SPREADS
from sweep.schema.intervals import CALIBRATED, ENDS, EXTRAPOLATION, EXTRAPOLATIONS
from sweep.schema.terms import BOUNDS, INFEASIBLE_REASONS, OVERLOADS
from sweep.specs.catalog import Catalog, current_catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import CHECKPOINT

MEMORY = ("weight_memory", "kv_cache_memory", "memory_required")
"""Memory of a static batch. [byte]"""
FIGURES = (
    "ttft",
    "tpot",
    "e2e_latency",
    "output_throughput",
    "output_throughput_per_gpu",
    "output_throughput_per_user",
    "energy_per_output_token",
)
SERVED_FIGURES = (
    "max_concurrency",
    "max_request_rate",
    "inflight_utilisation",
    "inflight_concurrency",
    "inflight_ttft",
    "inflight_queue_time",
    "inflight_prefill_time",
    "inflight_ttft_p99",
    "inflight_tpot",
    "inflight_tpot_p99",
    "inflight_request_latency",
    "inflight_output_throughput",
    "inflight_output_throughput_per_gpu",
    "inflight_output_throughput_per_user",
    "inflight_power",
    "inflight_energy_per_output_token",
)
"""Figures of a server with in-flight batching."""
OVERLOAD = "inflight_overload"
UNEVEN = ("inflight_ttft_p50", "inflight_ttft_p90")
"""More of them where requests differ: arrivals at a rate, and runs with an end."""


@dataclass(frozen=True)
class OperatorPart:
    """Time and work of one operator in a phase, all layers together, on each GPU.

    Attributes:
        operator: Its name, or `HOST`.
        seconds: Time by what it is spent on, by `SPENT`. [s]
        bound: The resource that binds most of it; empty for the host.
        flops: Matrix and element-wise operations. [count]
        memory_bytes: Traffic to and from device memory. [byte]
        network_bytes: Bytes sent to other GPUs. [byte]
    """

    operator: str
    seconds: Mapping[str, float]
    bound: str
    flops: float
    memory_bytes: float
    network_bytes: float

    @property
    def latency(self) -> float:
        """Time of the operator. [s]"""
        return sum(self.seconds.values())

    @property
    def limit(self) -> str:
        """Use of most of its time: the resource that binds, or a loss beside it.

        `overhead` where that is most of the time, `small matrices` where compute binds and
        most of it is lost; empty for the host, and for an operator that takes no time.
        """
        if not self.bound or not self.latency:
            return ""
        if is_mostly_overhead(self.seconds["overhead"], self.latency):
            return "overhead"
        small = self.seconds[SMALL_MATRICES] > self.seconds["compute"]
        return SMALL_MATRICES.replace("_", " ") if small and self.bound == "compute" else self.bound

    @property
    def intensity(self) -> float | None:
        """Operations per byte of device memory; `None` where nothing is moved. [FLOP/byte]"""
        return self.flops / self.memory_bytes if self.memory_bytes else None


@dataclass(frozen=True)
class Phase:
    """A prefill of the whole batch or one decode step of it, or an iteration of a server.

    Attributes:
        name: `prefill` or `decode_step`, or one of `SERVER_PHASES`.
        tokens: Tokens that each sequence attends to at its end. [count]
        parts: Operators in the order they first run, then the host.
        times: Share of the iterations of a server that are of this kind. [1]
    """

    name: str
    tokens: float
    parts: tuple[OperatorPart, ...]
    times: float = 1.0

    @property
    def latency(self) -> float:
        """Time of the phase. [s]"""
        return sum(part.latency for part in self.parts)

    def share(self, spent: str) -> float:
        """Share of the time spent on one of `SPENT`. [1]"""
        return sum(part.seconds[spent] for part in self.parts) / self.latency


@dataclass(frozen=True)
class Explanation:
    """One cell explained.

    Attributes:
        cell: Label or number along every axis.
        recipe: The recipe of the model's own file in words; empty if the cell has another.
        calibration: Name of the calibration, `ideal` for bounds.
        phases: The prefill, and a decode step at the mean context unless `osl` is 1; of a server
                its iterations with prompts and those without, while it has requests.
        figures: Values of `FIGURES` or of `SERVED_FIGURES` by variable, or of both for a static
            batch under a load; NaN where unknown, in SI units.
        intervals: Ends of the 90 % intervals, for the figures that have one.
        memory: Memory on each GPU by name: weights, cache and the part of it that does not grow
            with the context as `state` if there is any, activations, what an engine keeps for
            itself, the sum of all, and the capacity as `device`. [byte]
        reasons: Why the cell cannot run; empty if it can.
        elasticities: By quantity and resource, see `cell_elasticities`, in percent for a
            percent.
        flags: What the prediction extrapolates to, by `EXTRAPOLATION`.
        overload: Why requests wait for a slot of a server, by `OVERLOADS`; empty if none does.
        notes: Further doubts, in words.
        reserve: What the engine keeps of the memory, in words, where that is a large part of it.
    """

    cell: Mapping[str, Any]
    recipe: str
    calibration: str
    phases: tuple[Phase, ...]
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    memory: Mapping[str, float]
    reasons: tuple[str, ...]
    elasticities: Mapping[str, Mapping[str, float]]
    flags: tuple[str, ...] = ()
    overload: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reserve: str = ""


def grid_of_cell(
    model: str,
    hardware: str,
    numbers: Mapping[str, Any],
    *,
    precision: str | None = None,
    draft_model: str | None = None,
    calibration: Calibration | None = None,
) -> Grid:
    """The grid of one cell, as `explain` takes it.

    A server has the share of the memory that the calibration's engine gives its cache, unless
    `numbers` has another.

    Args:
        model: Name, Hugging Face identifier, or path of a config.
        hardware: Name of an accelerator, or path of a specification.
        numbers: One value, or a list of one, along each other axis.
        precision: Precision recipe; the usual of the model if not given.
        draft_model: The model that drafts tokens; a layer of the model's kind if not given.
        calibration: A calibration; ideal rooflines if not given.
    """
    served = numbers.get("batch_size") is None
    axes: dict[str, Any] = {
        **(memory_share(calibration, numbers) if served else {}),
        **{axis: listed(value) for axis, value in numbers.items() if value is not None},
    }
    if precision is not None:
        axes["precision"] = [precision]
    if draft_model is not None:
        axes["draft_model"] = draft_model
    return Grid(models=[model], hardware=[hardware], **axes, variables=["max_request_rate"])


def listed(value: Any) -> list[Any]:
    """A list of one value, or the values of a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def explain(
    grid: Grid,
    *,
    catalog: Catalog | None = None,
    calibration: Calibration | None = None,
) -> Explanation:
    """Explain the only cell of a grid, in float64: a static batch, or a server.

    Args:
        grid: Axes of one value each, with `isl` and `osl`; with `batch_size` for a static batch,
            else with `concurrency`, `request_rate` or `num_requests` for a server. Its variables
            are ignored.
        catalog: Where to look names up; the user's and the shipped configs by default.
        calibration: A calibration; ideal rooflines if not given.

    Raises:
        SpecError: A name is unknown, or the hardware has no rate for a type of the precision.
        GridError: An axis has several values, or one is missing.
    """
    served = is_server(grid)
    names: tuple[str, ...] = SERVED_FIGURES if served else FIGURES
    loads = {*LOADS, *LATENCY_LIMITS, *SPREADS, *SERVER}
    if not served and not loads.isdisjoint(grid.numbers):
        names = (*FIGURES, *SERVED_FIGURES)
    if SERVED_FIGURES[0] in names and not {"request_rate", "num_requests"}.isdisjoint(grid.numbers):
        names = (*names, *UNEVEN)
    reason = "inflight_infeasible_reason" if served else "infeasible_reason"
    wanted = [*names, *(("weight_memory",) if served else MEMORY), reason]
    if SERVED_FIGURES[0] in names:
        wanted.append(OVERLOAD)
    one = resolve(grid.model_copy(update={"variables": wanted}), catalog or current_catalog())
    several = [axis for axis, size in one.sizes.items() if size > 1]
    if several:
        raise GridError(f"explain takes one cell; give one {' and one '.join(several)}")
    numbers = {axis: values[0] for axis, values in one.numbers.items()}
    values = cell_values(one, calibration)
    with jax.enable_x64(True):
        point = _cell(one, numbers, calibration)
        memory = memory_parts(point, values, one.hardware[0])
        elasticities = cell_elasticities(point)
        doubt = step_unknown(point) if served else ""
    return Explanation(
        cell={axis: one.labels[axis][0] for axis in one.labels} | numbers,
        recipe=one.recipes[0][0].note if one.precision[0].name == CHECKPOINT.name else "",
        calibration=IDEAL_NAME if calibration is None else calibration.name,
        phases=(_iterations if served else _phases)(one, numbers, calibration),
        figures={name: values[name] for name in names},
        intervals={
            name: (values[f"{name}_{ENDS[0]}"], values[f"{name}_{ENDS[1]}"])
            for name in names
            if name in CALIBRATED and f"{name}_{ENDS[0]}" in values
        },
        memory=memory,
        reasons=_named(INFEASIBLE_REASONS, values[reason]),
        reserve=_reserve(one.hardware[0], memory, calibration),
        elasticities=elasticities,
        flags=_named(EXTRAPOLATION, *(values[mask] for mask in EXTRAPOLATIONS if mask in values)),
        overload=_named(OVERLOADS, values.get(OVERLOAD, 0)),
        notes=tuple(
            filter(
                None,
                (beyond_context(one.models[0][0], numbers["isl"] + numbers["osl"]), doubt),
            )
        ),
    )


def _reserve(
    machine: HardwareSpec, memory: Mapping[str, float], calibration: Calibration | None
) -> str:
    kept = memory.get("kept", 0.0)
    engine = "" if calibration is None else calibration.engine
    return reserve_in_words(engine, kept, {machine.name: memory["device"]}) if kept else ""


def is_server(grid: Grid) -> bool:
    """Whether the cell to explain is a server with in-flight batching."""
    return "batch_size" not in grid.numbers and not grid.numbers.keys().isdisjoint(LOADS)


def _named(names: Mapping[str, int], *masks: float) -> tuple[str, ...]:
    """Names of the bits that are set in any of the masks."""
    return tuple(name for name, bit in names.items() if any(int(each) & bit for each in masks))


def _phases(
    one: Resolved, numbers: Mapping[str, float], calibration: Calibration | None
) -> tuple[Phase, ...]:
    isl, osl = numbers["isl"], numbers["osl"]
    contexts = {"prefill": isl, "decode_step": mean_context(isl, osl)}
    (_, blocks), shown = one.models[0], contexts if osl > 1 else {"prefill": isl}
    with jax.enable_x64(True):
        point = _cell(one, {**numbers, "context_len": contexts["decode_step"]}, calibration)
        found = computed(_by_operator, point, name="phases")
    return tuple(_phase(name, tokens, blocks, found[name]) for name, tokens in shown.items())


def _iterations(
    one: Resolved, numbers: Mapping[str, float], calibration: Calibration | None
) -> tuple[Phase, ...]:
    """Iterations of a server, with prompts and without; only those that there are."""
    (_, blocks), context = one.models[0], mean_context(numbers["isl"], numbers["osl"])

    def of_each(point: Point) -> dict[str, Any]:
        if point.request_rate is not None:
            point = OpenLoop(point).while_busy.point
        by_kind = {name: _summed(blocks, each) for name, each in break_down_server(point).items()}
        return {**by_kind, "lumps": Inflight(point).cycle.lumps}

    with jax.enable_x64(True):
        named = f"iterations {row_names(blocks)}"
        found = computed(of_each, _cell(one, numbers, calibration), name=named)
    lumps = float(found["lumps"])
    shares = {"prompt_iteration": lumps, "decode_iteration": 1 - lumps}
    return tuple(
        _phase(kind, context, blocks, found[kind], share)
        for kind, share in shares.items()
        if share > 0
    )


def _phase(
    name: str, tokens: float, blocks: Sequence[Block], found: Mapping[str, Any], times: float = 1.0
) -> Phase:
    parts = [
        OperatorPart(
            operator,
            dict(zip(SPENT, found["spent"][i].tolist(), strict=True)),
            BOUNDS[int(found["bound"][i])],
            *(float(found[what][i]) for what in ("flops", "memory_bytes", "network_bytes")),
        )
        for i, operator in enumerate(operator_names(blocks))
    ]
    waited = dict(zip(SPENT, found["host"].tolist(), strict=True))
    if any(waited.values()):
        parts.append(OperatorPart(HOST, waited, "", 0.0, 0.0, 0.0))
    return Phase(name, tokens, tuple(parts), times)


def _by_operator(point: Point) -> dict[str, dict[str, jax.Array]]:
    """Amounts by operator, in the order of `operator_names`, and the host's time, by phase."""
    blocks = point.model.blocks
    return {name: _summed(blocks, amounts) for name, amounts in break_down(point).items()}


def _summed(blocks: Sequence[Block], amounts: Amounts) -> dict[str, jax.Array]:
    def bound_by(index: int) -> jax.Array:
        seconds = jnp.where(amounts.bound == index, amounts.seconds, 0.0)
        return sum_by_name(blocks, seconds)

    names = ("spent", "flops", "memory_bytes", "network_bytes")
    return {
        **{name: sum_by_name(blocks, getattr(amounts, name)) for name in names},
        "bound": jax.vmap(slowest)(*map(bound_by, range(len(BOUNDS)))),
        "host": amounts.spent[-1],
    }


def _cell(one: Resolved, numbers: Mapping[str, float], calibration: Calibration | None) -> Point:
    (_, blocks), hardware, precision = one.models[0], one.hardware[0], one.recipes[0][0]
    return bare_cell(blocks, hardware, precision, numbers, calibration, draft=one.draft)
