"""The scalar kernel: every output of one point, as a property with the same name.

A sweep maps it with `jax.vmap` over the outer product of its axes, calibration over a list of
observations. A quantity is traced when it is first read, once, so that a compiled kernel contains
only what its variables need. `schema/variables.py` has the meaning and unit of each.
"""

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sweep.kernel import global_roofline, memory, phases, time_range
from sweep.kernel.at_load import AtLoad
from sweep.kernel.finite_run import FiniteRun
from sweep.kernel.goodput import goodput
from sweep.kernel.inflight import Inflight
from sweep.kernel.keeps_step import arriving_order
from sweep.kernel.open_loop import OpenLoop
from sweep.kernel.operator_table import operator_names
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.phases import Work
from sweep.kernel.residents import at_capacity
from sweep.kernel.roofline import slowest
from sweep.schema.axes import LATENCY_LIMITS
from sweep.schema.terms import LONGEST_S, OVERLOADS


class Request:
    """Outputs of one point: a property for each name in `variables.VARIABLES`.

    Properties are scalars, or vectors with one element for each operator in the order of
    `operator_names`. All are pure functions of `point`: `jit`, `vmap` and `grad` go through.

    Attributes:
        point: Model, machine, precision, layout, batch and lengths.
        keep_infeasible: Whether to keep throughputs where the point cannot run, in place of NaN.
        asked: Variables of a sweep, whose times must be within range for the point to run.
        side_by_side: Whether passes of a server are computed side by side, see `Inflight`.
    """

    def __init__(
        self,
        point: Point,
        *,
        keep_infeasible: bool = False,
        asked: Collection[str] = (),
        side_by_side: bool = False,
    ) -> None:
        """Compute nothing yet; each property does so when it is first read."""
        self.point = point
        self.keep_infeasible = keep_infeasible
        self.asked = asked
        self.side_by_side = side_by_side

    @cached_property
    def _prefill(self) -> list[Work]:
        return phases.prefill(self.point)

    @cached_property
    def _decode_step(self) -> list[Work]:
        return phases.decode_step(self.point)

    @cached_property
    def _decode_latency(self) -> Scalar:
        return phases.decode_latency(self.point)

    @cached_property
    def prefill_latency(self) -> Scalar:
        return phases.batch_latency(self.point, self._prefill)

    @cached_property
    def prefill_flops(self) -> Scalar:
        return _total(work.executed * work.cost.flops for work in self._prefill)

    @cached_property
    def prefill_bytes(self) -> Scalar:
        return _total(work.executed * work.cost.memory_bytes for work in self._prefill)

    @cached_property
    def prefill_operator_latency(self) -> Float[Array, "operator"]:
        return jnp.stack([phases.latency(works) for works in self._by_operator(self._prefill)])

    @cached_property
    def prefill_operator_bound(self) -> Int[Array, "operator"]:
        return jnp.stack([_bound(works) for works in self._by_operator(self._prefill)])

    @cached_property
    def decode_step_latency(self) -> Scalar:
        return phases.batch_latency(self.point, self._decode_step)

    @cached_property
    def decode_step_flops(self) -> Scalar:
        return _total(work.executed * work.cost.flops for work in self._decode_step)

    @cached_property
    def decode_step_bytes(self) -> Scalar:
        return _total(work.executed * work.cost.memory_bytes for work in self._decode_step)

    @cached_property
    def decode_operator_latency(self) -> Float[Array, "operator"]:
        return jnp.stack([phases.latency(works) for works in self._by_operator(self._decode_step)])

    @cached_property
    def decode_operator_bound(self) -> Int[Array, "operator"]:
        return jnp.stack([_bound(works) for works in self._by_operator(self._decode_step)])

    @cached_property
    def bound(self) -> Int[Array, ""]:
        return _bound(self._decode_step)

    @cached_property
    def global_arithmetic_intensity(self) -> Scalar:
        return global_roofline.arithmetic_intensity(self.point)

    @cached_property
    def global_attainable_flops(self) -> Scalar:
        return global_roofline.attainable_flops(self.point)

    @cached_property
    def global_decode_step_latency(self) -> Scalar:
        return global_roofline.step_latency(self.point)

    @cached_property
    def ttft(self) -> Scalar:
        if self.point.draft_tokens is None:
            return self.prefill_latency
        prompts = self.point.group_sequences / self.point.microbatches
        drafted = phases.draft_prefill_latency(
            self.point, sequences=prompts, chunk=self.point.new_tokens
        )
        return self.prefill_latency + self.point.microbatches * drafted

    @cached_property
    def tokens_per_pass(self) -> Scalar:
        return jnp.zeros(()) + self.point.tokens_per_pass

    @cached_property
    def tpot(self) -> Scalar:
        steps = self.point.length("osl") - 1
        return jnp.where(steps > 0, self._decode_latency / jnp.maximum(steps, 1.0), jnp.nan)

    @cached_property
    def e2e_latency(self) -> Scalar:
        return self.ttft + self._decode_latency

    @cached_property
    def output_throughput(self) -> Scalar:
        tokens = self.point.length("batch_size") * self.point.length("osl")
        return self._where_feasible(self.point.replicas * tokens / self.e2e_latency)

    @cached_property
    def output_throughput_per_gpu(self) -> Scalar:
        return self.output_throughput / (self.point.replicas * self.point.layout.gpus)

    @cached_property
    def output_throughput_per_user(self) -> Scalar:
        return self._where_feasible(1 / self.tpot)

    @cached_property
    def energy_per_output_token(self) -> Scalar:
        tokens = self.point.length("batch_size") * self.point.length("osl")
        power = self.point.layout.gpus * self.point.hardware.power
        return power * self.e2e_latency / tokens

    @cached_property
    def _denoising_step(self) -> list[Work]:
        return phases.denoising_step(self.point)

    @cached_property
    def denoising_step_latency(self) -> Scalar:
        return phases.batch_latency(self.point, self._denoising_step)

    @cached_property
    def denoising_step_flops(self) -> Scalar:
        return _total(work.executed * work.cost.flops for work in self._denoising_step)

    @cached_property
    def denoising_step_bytes(self) -> Scalar:
        return _total(work.executed * work.cost.memory_bytes for work in self._denoising_step)

    @cached_property
    def denoising_operator_latency(self) -> Float[Array, "operator"]:
        works = self._by_operator(self._denoising_step)
        return jnp.stack([phases.latency(each) for each in works])

    @cached_property
    def denoising_operator_bound(self) -> Int[Array, "operator"]:
        return jnp.stack([_bound(works) for works in self._by_operator(self._denoising_step)])

    @cached_property
    def image_latency(self) -> Scalar:
        return self.point.length("denoising_steps") * self.denoising_step_latency

    @cached_property
    def image_throughput(self) -> Scalar:
        images = self.point.replicas * self.point.length("batch_size")
        return self._where_feasible(images / self.image_latency)

    @cached_property
    def image_throughput_per_gpu(self) -> Scalar:
        return self.image_throughput / (self.point.replicas * self.point.layout.gpus)

    @cached_property
    def weight_memory(self) -> Scalar:
        return memory.weight_memory(self.point)

    @cached_property
    def kv_cache_memory(self) -> Scalar:
        return memory.kv_cache_memory(self.point)

    @cached_property
    def memory_required(self) -> Scalar:
        return memory.memory_required(self.point)

    @cached_property
    def infeasible_reason(self) -> Int[Array, ""]:
        exceeds_memory = self.memory_required > self.point.hardware.memory
        return memory.infeasible_reason(self.point, exceeds_memory, self._out_of_range)

    @cached_property
    def _out_of_range(self) -> Bool[Array, ""]:
        """Whether a time of the batch that is asked is too long or no number."""
        point = time_range.slowest_of(self.point)
        request = self if point is self.point else Request(point)
        times = time_range.times_of_batch(point, self.asked)
        return time_range.are_out_of_range([getattr(request, name) for name in times])

    @cached_property
    def feasible(self) -> Int[Array, ""]:
        return jnp.where(self.infeasible_reason == 0, 1, 0)

    @cached_property
    def max_concurrency(self) -> Scalar:
        return memory.max_concurrency(self.point)

    @cached_property
    def inflight_infeasible_reason(self) -> Int[Array, ""]:
        return memory.infeasible_reason(self.point, self.max_concurrency < 1)

    @cached_property
    def inflight_feasible(self) -> Int[Array, ""]:
        return jnp.where(self.inflight_infeasible_reason == 0, 1, 0)

    @cached_property
    def _inflight(self) -> Inflight | OpenLoop:
        if self.point.request_rate is not None:
            return OpenLoop(self.point)
        served = Inflight if self.point.num_requests is None else FiniteRun
        return served(self.point, side_by_side=self.side_by_side)

    @cached_property
    def _plateau(self) -> Scalar:
        """Requests that come one by one and are completed with every slot taken. [s-1]"""
        found = self._inflight
        if isinstance(found, OpenLoop):
            return found.max_request_rate
        return Inflight(at_capacity(self.point), order=arriving_order(self.point)).steady_rate

    @cached_property
    def max_request_rate(self) -> Scalar:
        limited = any(getattr(self.point, axis) is not None for axis in LATENCY_LIMITS)
        return self._where_served(goodput(self.point) if limited else self._plateau)

    @cached_property
    def inflight_utilisation(self) -> Scalar:
        arriving = self.point.request_rate
        # Clients in step may be served faster than requests that come one by one.
        completed = jnp.minimum(self._inflight.request_rate, self._plateau)
        return self._where_served((completed if arriving is None else arriving) / self._plateau)

    @cached_property
    def inflight_concurrency(self) -> Scalar:
        return self._inflight.concurrency

    @cached_property
    def inflight_iteration_latency(self) -> Scalar:
        return self._where_served(self._inflight.iteration_latency)

    @cached_property
    def inflight_output_throughput(self) -> Scalar:
        tokens = self.point.replicas * self.point.length("osl")
        completed = self._inflight.request_rate
        found = self._where_served(tokens * completed)
        return found if self.keep_infeasible else jnp.where(completed > 0, found, jnp.nan)

    @cached_property
    def inflight_output_throughput_per_gpu(self) -> Scalar:
        gpus = self.point.replicas * self.point.layout.gpus
        return self.inflight_output_throughput / gpus

    @cached_property
    def inflight_output_throughput_per_user(self) -> Scalar:
        return 1 / self.inflight_tpot

    @cached_property
    def inflight_ttft(self) -> Scalar:
        return self._where_served(self._inflight.ttft)

    @cached_property
    def inflight_queue_time(self) -> Scalar:
        return self._where_served(self._inflight.queue_time)

    @cached_property
    def inflight_prefill_time(self) -> Scalar:
        return self._where_served(self._inflight.prefill_time)

    @cached_property
    def inflight_overload(self) -> Int[Array, ""]:
        found, bits = self._inflight, OVERLOADS
        if isinstance(found, OpenLoop):
            reasons = jnp.where(found.stable, 0, bits["arrivals_exceed_capacity"])
        else:
            exceeding = found.clients > found.concurrency
            reasons = jnp.where(exceeding, bits["clients_exceed_capacity"], 0)
        lost = (self.inflight_feasible == 1) & time_range.server_is_out_of_range(found, self.asked)
        return reasons + jnp.where(lost, bits["time_out_of_range"], 0)

    @cached_property
    def inflight_ttft_p50(self) -> Scalar:
        return self._where_served(self._inflight.ttft_quantile(0.5))

    @cached_property
    def inflight_ttft_p90(self) -> Scalar:
        return self._where_served(self._inflight.ttft_quantile(0.9))

    @cached_property
    def inflight_ttft_p99(self) -> Scalar:
        return self._where_served(self._inflight.ttft_quantile(0.99))

    @cached_property
    def inflight_tpot_p99(self) -> Scalar:
        return self._where_served(self._inflight.tpot_p99)

    @cached_property
    def inflight_tpot(self) -> Scalar:
        return self._where_served(self._inflight.tpot)

    @cached_property
    def inflight_request_latency(self) -> Scalar:
        return self._where_served(self._inflight.request_latency)

    @cached_property
    def _at_load(self) -> AtLoad:
        found = self._inflight
        if isinstance(found, OpenLoop):
            return AtLoad(self.point, found.while_busy, found.busy)
        return AtLoad(self.point, found)

    @cached_property
    def inflight_power(self) -> Scalar:
        return self._where_served(self._at_load.power)

    @cached_property
    def inflight_prompt_share(self) -> Scalar:
        return self._where_served(self._at_load.prompt_share)

    @cached_property
    def inflight_energy_per_output_token(self) -> Scalar:
        return self.inflight_power / self.inflight_output_throughput_per_gpu

    def _where_feasible(self, value: Scalar) -> Scalar:
        """The value where a static batch can run."""
        if self.keep_infeasible:
            return value
        return jnp.where(self.feasible == 1, value, jnp.nan)

    def _where_served(self, value: Scalar) -> Scalar:
        """The value where the server can run; NaN elsewhere unless infeasible ones are kept.

        A time that is out of range is NaN too; `inflight_overload` says so.
        """
        if self.keep_infeasible:
            return value
        return jnp.where((self.inflight_feasible == 1) & (value < LONGEST_S), value, jnp.nan)

    def _by_operator(self, works: list[Work]) -> list[list[Work]]:
        """Works of each operator, in the order operators first run."""
        names = operator_names(self.point.model.blocks)
        return [[work for work in works if work.name == name] for name in names]


def _bound(works: list[Work]) -> Int[Array, ""]:
    """Index in `terms.BOUNDS` of the resource that binds for most of the time of `works`."""
    ordered = phases.attention_last(works)
    booked = [[work.count * share for share in work.seconds.shares] for work in ordered]
    return slowest(*(_total(shares) for shares in zip(*booked, strict=True)))


def _total(parts: Iterable[Any]) -> Array:
    total: Array = sum(parts, start=jnp.zeros(()))
    return total
