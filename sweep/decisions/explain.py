"""One cell taken apart: time by operator and resource, memory, and what each rate is worth."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sweep.engines.calibration_file import IDEAL_NAME, FittedEfficiency
from sweep.errors import GridError
from sweep.evaluation.single_point import cell
from sweep.grid.grid import Grid
from sweep.grid.resolved import Resolved, resolve
from sweep.kernel import phases
from sweep.kernel.elasticity import RESOURCES, elasticities, sequences_that_fit
from sweep.kernel.operator_table import operator_names
from sweep.kernel.operator_time import host_latency
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.phases import Work
from sweep.kernel.request import Request
from sweep.kernel.roofline import Seconds, slowest
from sweep.runs.run import run_resolved
from sweep.schema.intervals import CALIBRATED, ENDS
from sweep.schema.terms import BOUNDS, INFEASIBLE_REASONS
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import Catalog, current_catalog
from sweep.specs.hardware import HardwareSpec

SPENT = (*BOUNDS, "unhidden", "overhead")
"""What an operator's time is spent on: the resource that binds, the others as far as they are not
hidden behind it, and what is beyond all resources."""
HOST = "host"
"""Stands among the operators for the time of the host beside them."""
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
MOVED = ("ttft", "tpot", "output_throughput", "sequences_that_fit")
"""What the elasticities are of."""


@dataclass(frozen=True)
class OperatorPart:
    """What one operator takes of a phase, all layers together, on each GPU.

    Attributes:
        operator: Its name, or `HOST`.
        seconds: Time by what it is spent on, of `SPENT`. [s]
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
        parts: What each operator takes, in the order they first run, then the host.
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
    """One cell taken apart.

    Attributes:
        place: Label or number along every axis.
        efficiency: The calibration, `ideal` if these are bounds.
        phases: The prefill, and a decode step at the mean context unless `osl` is 1.
        figures: Figures of the request by variable, NaN where unknown, in SI units.
        intervals: Ends of the 90 % intervals of those that have one.
        memory: Memory on each GPU by variable, and `device`, what it has. [byte]
        reasons: Why the configuration cannot run; empty if it can.
        elasticities: By quantity of `MOVED` and resource of `RESOURCES`, percent for a percent.
    """

    place: Mapping[str, Any]
    efficiency: str
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
    efficiency: FittedEfficiency | None = None,
) -> Explanation:
    """Take the only cell of a grid of static batches apart, in float64.

    Args:
        grid: Axes of one place each, with `batch_size`, `isl` and `osl`; its variables are not
            looked at.
        catalog: Where to look names up; the user's and the shipped configs by default.
        efficiency: A calibration; ideal rooflines if not given.

    Raises:
        SpecError: A name is unknown, or hardware and precision do not fit together.
        GridError: An axis has several places, or one is missing.
    """
    wanted = grid.model_copy(update={"variables": [*FIGURES, *MEMORY, "infeasible_reason"]})
    one = resolve(wanted, catalog or current_catalog())
    several = [axis for axis, size in one.sizes.items() if size > 1]
    if several:
        raise GridError(f"one cell is explained; give one {' and one '.join(several)}")
    numbers = {axis: values[0] for axis, values in one.numbers.items()}
    found = run_resolved(one, dtype="float64", keep_infeasible=True, efficiency=efficiency)
    values = {str(name): float(array) for name, array in found.squeeze().data_vars.items()}
    reason = int(values["infeasible_reason"])
    return Explanation(
        place={axis: one.labels[axis][0] for axis in one.labels} | numbers,
        efficiency=IDEAL_NAME if efficiency is None else efficiency.name,
        phases=_phases(one, numbers, efficiency),
        figures={name: values[name] for name in FIGURES},
        intervals={
            name: (values[f"{name}_{ENDS[0]}"], values[f"{name}_{ENDS[1]}"])
            for name in FIGURES
            if name in CALIBRATED and f"{name}_{ENDS[0]}" in values
        },
        memory={name: values[name] for name in MEMORY} | {"device": _memory(one.hardware[0])},
        reasons=tuple(why for why, bit in INFEASIBLE_REASONS.items() if reason & bit),
        elasticities=_elasticities(one, numbers, efficiency),
    )


def mean_context(isl: float, osl: float) -> float:
    """Tokens that a sequence attends to in its osl − 1 decode steps, on average. [count]"""
    return isl + osl / 2


def _memory(spec: HardwareSpec) -> float:
    return spec.usable_memory_bytes or spec.memory_bytes


def _phases(
    one: Resolved, numbers: Mapping[str, float], efficiency: FittedEfficiency | None
) -> tuple[Phase, ...]:
    isl, osl = numbers["isl"], numbers["osl"]
    contexts = {"prefill": isl, "decode_step": mean_context(isl, osl)}
    with _float64():
        point = _cell(one, {**numbers, "context_len": contexts["decode_step"]}, efficiency)
        apart = jax.tree.map(np.asarray, _taken_apart(point))
        names = operator_names(point.model.blocks)
    shown = contexts if osl > 1 else {"prefill": isl}
    return tuple(_phase(name, tokens, names, apart[name]) for name, tokens in shown.items())


def _phase(name: str, tokens: float, operators: Sequence[str], apart: Mapping[str, Any]) -> Phase:
    parts = [
        OperatorPart(
            operator,
            dict(zip(SPENT, apart["seconds"][i].tolist(), strict=True)),
            BOUNDS[int(apart["bound"][i])],
            *(float(apart[what][i]) for what in ("flops", "memory_bytes", "network_bytes")),
        )
        for i, operator in enumerate(operators)
    ]
    waited = float(apart["host"])
    if waited:
        spent = dict.fromkeys(SPENT, 0.0) | {"overhead": waited}
        parts.append(OperatorPart(HOST, spent, "", 0.0, 0.0, 0.0))
    return Phase(name, tokens, tuple(parts))


@eqx.filter_jit
def _taken_apart(point: Point) -> dict[str, dict[str, jax.Array]]:
    """Time, bound and work of every operator, in the order of `operator_names`, by phase."""
    request = Request(point)
    host = host_latency(point, point.group_sequences / point.microbatches)
    bounds = {
        "prefill": request.prefill_operator_bound,
        "decode_step": request.decode_operator_bound,
    }
    every = {"prefill": phases.prefill(point), "decode_step": phases.decode_step(point)}
    return {
        name: {
            **_by_operator(operator_names(point.model.blocks), works),
            "bound": bounds[name],
            "host": jnp.asarray(host),
        }
        for name, works in every.items()
    }


def _by_operator(names: Sequence[str], works: Sequence[Work]) -> dict[str, jax.Array]:
    def total(of: str, amounts: list[Scalar]) -> jax.Array:
        mine = [a for work, a in zip(works, amounts, strict=True) if work.name == of]
        return jnp.asarray(sum(mine[1:], start=mine[0]))

    amounts: dict[str, list[Any]] = {
        "seconds": [work.count * _spent(work.seconds) for work in works],
        "flops": [work.executed * work.cost.flops for work in works],
        "memory_bytes": [work.executed * work.cost.memory_bytes for work in works],
        "network_bytes": [work.executed * work.cost.network_bytes for work in works],
    }
    return {
        what: jnp.stack([total(name, found) for name in names]) for what, found in amounts.items()
    }


def _spent(seconds: Seconds) -> jax.Array:
    """The latency of an operator in one layer, by what it is spent on, of `SPENT`. [s]"""
    every = [jnp.asarray(t) for t in (seconds.memory, seconds.compute, seconds.communication)]
    binds = slowest(*every)
    longest = [jnp.where(binds == place, time, 0.0) for place, time in enumerate(every)]
    overhead = jnp.asarray(seconds.overhead)
    unhidden = seconds.latency - sum(longest[1:], start=longest[0]) - overhead
    # What rounding leaves of nothing is nothing.
    return jnp.stack([*longest, jnp.maximum(unhidden, 0.0), overhead])


def _elasticities(
    one: Resolved, numbers: Mapping[str, float], efficiency: FittedEfficiency | None
) -> dict[str, dict[str, float]]:
    with _float64():
        found = jax.tree.map(np.asarray, _moved(_cell(one, numbers, efficiency)))
    return {
        name: dict(zip(RESOURCES, found[name].tolist(), strict=True))
        for name in MOVED
        if np.isfinite(found[name]).all()
    }


@eqx.filter_jit
def _moved(point: Point) -> dict[str, jax.Array]:
    def quantities(request: Request) -> dict[str, Scalar]:
        found = {name: getattr(request, name) for name in MOVED if name in VARIABLES}
        return {**found, "sequences_that_fit": sequences_that_fit(request)}

    return elasticities(point, quantities)


def _cell(
    one: Resolved, numbers: Mapping[str, float], efficiency: FittedEfficiency | None
) -> Point:
    (_, blocks), machine, recipe = one.models[0], one.hardware[0], one.precision[0]
    return cell(blocks, machine, recipe, numbers, efficiency)


def _float64() -> AbstractContextManager[None]:
    context: AbstractContextManager[None] = jax.enable_x64(True)
    return context
