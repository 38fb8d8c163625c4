"""Explain one cell: time by operator and resource, memory, and the effect of each resource."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sweep.decisions.operator_breakdown import (
    HOST,
    SPENT,
    Amounts,
    break_down,
    mean_context,
    sum_by_name,
)
from sweep.engines.calibration_file import IDEAL_NAME, Calibration
from sweep.errors import GridError
from sweep.evaluation.numpy_cell import computed
from sweep.evaluation.single_cell import cell
from sweep.grid.grid import Grid
from sweep.grid.resolved import Resolved, resolve
from sweep.kernel.block import Block
from sweep.kernel.elasticity import RESOURCES, elasticities, sequences_that_fit
from sweep.kernel.operator_table import operator_names
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.kernel.roofline import slowest
from sweep.kernel.state_memory import state_memory, stateful
from sweep.runs.run import run_cell
from sweep.schema.intervals import CALIBRATED, ENDS
from sweep.schema.terms import BOUNDS, INFEASIBLE_REASONS
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import Catalog, current_catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import CHECKPOINT

MEMORY = ("weight_memory", "kv_cache_memory", "memory_required")
FIGURES = (
    "ttft",
    "tpot",
    "e2e_latency",
    "output_throughput",
    "output_throughput_per_gpu",
    "output_throughput_per_user",
    "energy_per_output_token",
)
QUANTITIES = ("ttft", "tpot", "output_throughput", "sequences_that_fit")
"""Quantities whose elasticities are reported."""


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
    def intensity(self) -> float | None:
        """Operations per byte of device memory; `None` where nothing is moved. [FLOP/byte]"""
        return self.flops / self.memory_bytes if self.memory_bytes else None


@dataclass(frozen=True)
class Phase:
    """A prefill of the whole batch, or one decode step of it.

    Attributes:
        name: `prefill` or `decode_step`.
        tokens: Tokens that each sequence attends to at its end. [count]
        parts: Operators in the order they first run, then the host.
    """

    name: str
    tokens: float
    parts: tuple[OperatorPart, ...]

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
        phases: The prefill, and a decode step at the mean context unless `osl` is 1.
        figures: Values of `FIGURES` by variable, NaN where unknown, in SI units.
        intervals: Ends of the 90 % intervals, for the figures that have one.
        memory: Memory on each GPU by variable, the part of `kv_cache_memory` that does not grow
            with the context as `state` if there is any, and the capacity as `device`. [byte]
        reasons: Why the cell cannot run; empty if it can.
        elasticities: By `QUANTITIES` and `RESOURCES`, in percent for a percent.
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


def explain(
    grid: Grid,
    *,
    catalog: Catalog | None = None,
    calibration: Calibration | None = None,
) -> Explanation:
    """Explain the only cell of a grid of static batches, in float64.

    Args:
        grid: Axes of one value each, with `batch_size`, `isl` and `osl`; its variables are
            ignored.
        catalog: Where to look names up; the user's and the shipped configs by default.
        calibration: A calibration; ideal rooflines if not given.

    Raises:
        SpecError: A name is unknown, or the hardware has no rate for a type of the precision.
        GridError: An axis has several values, or one is missing.
    """
    wanted = grid.model_copy(update={"variables": [*FIGURES, *MEMORY, "infeasible_reason"]})
    one = resolve(wanted, catalog or current_catalog())
    several = [axis for axis, size in one.sizes.items() if size > 1]
    if several:
        raise GridError(f"explain takes one cell; give one {' and one '.join(several)}")
    numbers = {axis: values[0] for axis, values in one.numbers.items()}
    found = run_cell(one, calibration)
    values = {str(name): float(array) for name, array in found.squeeze().data_vars.items()}
    reason = int(values["infeasible_reason"])
    return Explanation(
        cell={axis: one.labels[axis][0] for axis in one.labels} | numbers,
        recipe=one.recipes[0][0].note if one.precision[0].name == CHECKPOINT.name else "",
        calibration=IDEAL_NAME if calibration is None else calibration.name,
        phases=_phases(one, numbers, calibration),
        figures={name: values[name] for name in FIGURES},
        intervals={
            name: (values[f"{name}_{ENDS[0]}"], values[f"{name}_{ENDS[1]}"])
            for name in FIGURES
            if name in CALIBRATED and f"{name}_{ENDS[0]}" in values
        },
        memory={
            **{name: values[name] for name in MEMORY},
            **_state(one, numbers),
            "device": _capacity(one.hardware[0]),
        },
        reasons=tuple(why for why, bit in INFEASIBLE_REASONS.items() if reason & bit),
        elasticities=_elasticities(one, numbers, calibration),
    )


def _state(one: Resolved, numbers: Mapping[str, float]) -> dict[str, float]:
    """Memory of the states of a batch, by the name that an explanation has for it. [byte]"""
    point = _cell(one, numbers, None)
    return {"state": float(state_memory(point))} if stateful(point) else {}


def _capacity(spec: HardwareSpec) -> float:
    return spec.usable_memory_bytes or spec.memory_bytes


def _phases(
    one: Resolved, numbers: Mapping[str, float], calibration: Calibration | None
) -> tuple[Phase, ...]:
    isl, osl = numbers["isl"], numbers["osl"]
    contexts = {"prefill": isl, "decode_step": mean_context(isl, osl)}
    (_, blocks), shown = one.models[0], contexts if osl > 1 else {"prefill": isl}
    with _float64():
        point = _cell(one, {**numbers, "context_len": contexts["decode_step"]}, calibration)
        found = computed(_by_operator, point)
    return tuple(_phase(name, tokens, blocks, found[name]) for name, tokens in shown.items())


def _phase(name: str, tokens: float, blocks: Sequence[Block], found: Mapping[str, Any]) -> Phase:
    parts = [
        OperatorPart(
            operator,
            dict(zip(SPENT, found["spent"][i].tolist(), strict=True)),
            BOUNDS[int(found["bound"][i])],
            *(float(found[what][i]) for what in ("flops", "memory_bytes", "network_bytes")),
        )
        for i, operator in enumerate(operator_names(blocks))
    ]
    waited = float(found["host"])
    if waited:
        spent = dict.fromkeys(SPENT, 0.0) | {"overhead": waited}
        parts.append(OperatorPart(HOST, spent, "", 0.0, 0.0, 0.0))
    return Phase(name, tokens, tuple(parts))


def _by_operator(point: Point) -> dict[str, dict[str, jax.Array]]:
    """Amounts by operator, in the order of `operator_names`, and the host's time, by phase."""
    blocks = point.model.blocks

    def summed(amounts: Amounts) -> dict[str, jax.Array]:
        names = ("spent", "flops", "memory_bytes", "network_bytes")
        bound_by = [
            sum_by_name(blocks, jnp.where(amounts.bound == index, amounts.seconds, 0.0))
            for index in range(len(BOUNDS))
        ]
        return {
            **{name: sum_by_name(blocks, getattr(amounts, name)) for name in names},
            "bound": jax.vmap(slowest)(*bound_by),
            "host": amounts.seconds[-1],
        }

    return {name: summed(amounts) for name, amounts in break_down(point).items()}


def _elasticities(
    one: Resolved, numbers: Mapping[str, float], calibration: Calibration | None
) -> dict[str, dict[str, float]]:
    with _float64():
        found = computed(_derivatives, _cell(one, numbers, calibration))
    return {
        name: dict(zip(RESOURCES, found[name].tolist(), strict=True))
        for name in QUANTITIES
        if np.isfinite(found[name]).all()
    }


def _derivatives(point: Point) -> dict[str, jax.Array]:
    def quantities(request: Request) -> dict[str, Scalar]:
        found = {name: getattr(request, name) for name in QUANTITIES if name in VARIABLES}
        return {**found, "sequences_that_fit": sequences_that_fit(request)}

    return elasticities(point, quantities)


def _cell(one: Resolved, numbers: Mapping[str, float], calibration: Calibration | None) -> Point:
    (_, blocks), hardware, precision = one.models[0], one.hardware[0], one.recipes[0][0]
    return cell(blocks, hardware, precision, numbers, calibration, draft=one.draft)


def _float64() -> AbstractContextManager[None]:
    context: AbstractContextManager[None] = jax.enable_x64(True)
    return context
