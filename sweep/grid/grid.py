"""The grid of a sweep: its axes and variables, checked."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError, model_validator

from sweep.errors import SpecError
from sweep.grid.axis_forms import (
    Axis,
    Counts,
    DraftTokens,
    HitRates,
    LatencyLimits,
    Probabilities,
    Rates,
    Ratios,
    Reservations,
    Schedulers,
    Shares,
    Variations,
)
from sweep.schema.axes import ACCEPTANCE, AXES, LATENCY_LIMITS, MEMORY_SHARES
from sweep.schema.drafts import fault_of_length
from sweep.schema.variables import COMPUTED
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.parsing import Spec, explain, nearest
from sweep.specs.precision import PrecisionSpec

Names = Field(min_length=1)
Integers = Sequence[int | str] | Mapping[str, Any]
"""Integers of an axis, in a form that `axis_forms.expand_axis` reads. [count]"""
Numbers = Sequence[float]
Variation = Sequence[float] | Mapping[str, float]
NOT_GIVEN: Any = ...
"""Value of a key that is left out, for which its default counts."""


class Grid(Spec):
    """Outer product of axes, and the variables to compute on it.

    `axis_forms.expand_axis` lists the forms that an axis can take.

    Attributes:
        models: Names, or specifications.
        hardware: Names, specifications, or `{base: …, name: …}` with fields to replace.
        precision: Names or specifications of precision recipes; `checkpoint` is that of each
            model's own file, the default if one of them is quantised.
        tp: Tensor-parallel widths. [count]
        pp: Pipeline stages. [count]
        ep: GPUs that experts are spread over whole. [count]
        dp_attention: Groups that run attention for their own sequences. [count]
        dp: Replicas of the whole deployment. [count]
        expert_imbalance: Loads of the busiest expert GPU over the mean. [1]
        batch_size: Sequences decoded together. [count]
        kv_cache_fraction: Shares of the free memory that the KV cache may take. [1]
        gpu_memory_utilization: Shares of the whole memory that the engine may take. [1]
        mem_fraction_static: Shares of the memory for weights and KV cache. [1]
        kept_context: Shares of the tokens behind a window or chunk that the cache keeps: 1 for
            full pages of windowed layers, 0 for none. [1]
        reserved_osl: Shares of the output tokens reserved on admission, or `max_utilization` and
            `guaranteed_no_evict`. [1]
        max_batch_size: Sequences in one iteration of a server. [count]
        max_num_tokens: Tokens in one iteration of a server. [count]
        scheduler: `chunked`, where prompts share iterations with decode, or `prefill_first`.
        num_requests: Requests of a run. [count]
        concurrency: Requests that clients keep open. [count]
        request_rate: Requests that arrive in a second, in place of `concurrency`. [s-1]
        burstiness: Shapes of the gamma distribution of gaps between arrivals. [1]
        max_ttft: Limits of the mean time to first token, for `max_request_rate`. [s]
        max_ttft_p99: Limits of the time to first token that 99 % stay below. [s]
        max_tpot: Limits of the mean time per output token. [s]
        max_tpot_p99: Limits of the time between output tokens that 99 % stay below. [s]
        prefix_hit_rate: Shares of the prompt tokens found in the cache, below 1. [1]
        shared_prefix_tokens: Tokens that all prompts begin with, from 0 on. [count]
        isl_cv: Coefficients of variation of the input tokens, whose mean is `isl`; or
            `{uniform_from: r}` for lengths uniform between r times the largest and the largest. [1]
        osl_cv: The same of the output tokens. [1]
        batch_wait: Iterations for which prompts wait at most for others to start with, from 0
            on. [count]
        poll_interval: Iterations between two looks of the scheduler for new requests. [count]
        stream_interval: Tokens of a request after which the first of them are sent. [count]
        draft_tokens: Tokens drafted for each pass, from 0 on; with `acceptance_rate` or
            `acceptance_length`. [count]
        acceptance_rate: Probabilities that a drafted token is accepted. [1]
        acceptance_length: Tokens that a pass yields, from 1 to one more than are drafted, in place
            of `acceptance_rate`; where none are drafted it is 1 all the same. [count]
        draft_model: Name or specification of the model that drafts; a layer like the model's last
            if not given.
        guidance_passes: Passes of each image in a denoising step: 2 with guidance. [count]
        denoising_steps: Denoising steps of each image. [count]
        context_len: Tokens each sequence attends to in one decode step. [count]
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        image_size: Sides of images. [pixel]
        variables: Names in `variables.VARIABLES`.
    """

    models: list[str | ModelSpec] = Names
    hardware: list[str | HardwareSpec | dict[str, Any]] = Names
    precision: list[str | PrecisionSpec] = Field(default=["fp16"], min_length=1)
    tp: Axis = Field(default=[1])
    pp: Axis | None = None
    ep: Axis | None = None
    dp_attention: Axis | None = None
    dp: Axis | None = None
    expert_imbalance: Ratios | None = None
    batch_size: Axis | None = None
    kv_cache_fraction: Shares | None = None
    gpu_memory_utilization: Shares | None = None
    mem_fraction_static: Shares | None = None
    kept_context: Probabilities | None = None
    reserved_osl: Reservations | None = None
    max_batch_size: Axis | None = None
    max_num_tokens: Axis | None = None
    scheduler: Schedulers | None = None
    num_requests: Axis | None = None
    concurrency: Axis | None = None
    request_rate: Rates | None = None
    burstiness: Rates | None = None
    max_ttft: LatencyLimits | None = None
    max_ttft_p99: LatencyLimits | None = None
    max_tpot: LatencyLimits | None = None
    max_tpot_p99: LatencyLimits | None = None
    prefix_hit_rate: HitRates | None = None
    shared_prefix_tokens: Counts | None = None
    isl_cv: Variations | None = None
    osl_cv: Variations | None = None
    batch_wait: Counts | None = None
    poll_interval: Axis | None = None
    stream_interval: Axis | None = None
    draft_tokens: DraftTokens | None = None
    acceptance_rate: Probabilities | None = None
    acceptance_length: Ratios | None = None
    draft_model: str | ModelSpec | None = None
    guidance_passes: Axis | None = None
    denoising_steps: Axis | None = None
    context_len: Axis | None = None
    isl: Axis | None = None
    osl: Axis | None = None
    image_size: Axis | None = None
    variables: list[str] = Names

    def __init__(
        self,
        /,
        *,
        models: Sequence[str | ModelSpec] = NOT_GIVEN,
        hardware: Sequence[str | HardwareSpec | Mapping[str, Any]] = NOT_GIVEN,
        precision: Sequence[str | PrecisionSpec] = NOT_GIVEN,
        tp: Integers = NOT_GIVEN,
        pp: Integers | None = NOT_GIVEN,
        ep: Integers | None = NOT_GIVEN,
        dp_attention: Integers | None = NOT_GIVEN,
        dp: Integers | None = NOT_GIVEN,
        expert_imbalance: Numbers | None = NOT_GIVEN,
        batch_size: Integers | None = NOT_GIVEN,
        kv_cache_fraction: Numbers | None = NOT_GIVEN,
        gpu_memory_utilization: Numbers | None = NOT_GIVEN,
        mem_fraction_static: Numbers | None = NOT_GIVEN,
        kept_context: Numbers | None = NOT_GIVEN,
        reserved_osl: Numbers | None = NOT_GIVEN,
        max_batch_size: Integers | None = NOT_GIVEN,
        max_num_tokens: Integers | None = NOT_GIVEN,
        scheduler: Sequence[str] | None = NOT_GIVEN,
        num_requests: Integers | None = NOT_GIVEN,
        concurrency: Integers | None = NOT_GIVEN,
        request_rate: Numbers | None = NOT_GIVEN,
        burstiness: Numbers | None = NOT_GIVEN,
        max_ttft: Numbers | None = NOT_GIVEN,
        max_ttft_p99: Numbers | None = NOT_GIVEN,
        max_tpot: Numbers | None = NOT_GIVEN,
        max_tpot_p99: Numbers | None = NOT_GIVEN,
        prefix_hit_rate: Numbers | None = NOT_GIVEN,
        shared_prefix_tokens: Integers | None = NOT_GIVEN,
        isl_cv: Variation | None = NOT_GIVEN,
        osl_cv: Variation | None = NOT_GIVEN,
        batch_wait: Integers | None = NOT_GIVEN,
        poll_interval: Integers | None = NOT_GIVEN,
        stream_interval: Integers | None = NOT_GIVEN,
        draft_tokens: Integers | None = NOT_GIVEN,
        acceptance_rate: Numbers | None = NOT_GIVEN,
        acceptance_length: Numbers | None = NOT_GIVEN,
        draft_model: str | ModelSpec | None = NOT_GIVEN,
        guidance_passes: Integers | None = NOT_GIVEN,
        denoising_steps: Integers | None = NOT_GIVEN,
        context_len: Integers | None = NOT_GIVEN,
        isl: Integers | None = NOT_GIVEN,
        osl: Integers | None = NOT_GIVEN,
        image_size: Integers | None = NOT_GIVEN,
        variables: Sequence[str] = NOT_GIVEN,
        **unknown: Any,
    ) -> None:
        """Check and expand the axes.

        Raises:
            SpecError: A key is unknown or its value wrong; the message names it.
        """
        given = {key: value for key, value in locals().items() if value is not NOT_GIVEN}
        keys = {key: given[key] for key in type(self).model_fields if key in given} | unknown
        try:
            super().__init__(**keys)
        except ValidationError as error:
            raise SpecError(explain(type(self), error)) from None

    @model_validator(mode="after")
    def _check(self) -> "Grid":
        for name in self.variables:
            if name not in COMPUTED:
                guess = nearest(name, list(COMPUTED)) or f"; known: {', '.join(COMPUTED)}"
                raise ValueError(f"variables: unknown variable {name!r}{guess}")
        if len(set(self.variables)) < len(self.variables):
            raise ValueError("variables: the same variable twice")
        self._check_loads()
        shares = [axis for axis in MEMORY_SHARES if getattr(self, axis) is not None]
        if len(shares) > 1:
            raise ValueError(
                f"{' and '.join(shares)}: alternatives of one another; give one of them"
            )
        self._check_speculation()
        self._check_prefix()
        return self

    def _check_speculation(self) -> None:
        """Check that drafts have one kind of acceptance, which is possible.

        Raises:
            ValueError: They have none or both, or a pass yields more tokens than it can.
        """
        given = [axis for axis in ACCEPTANCE if getattr(self, axis) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)}: alternatives of one another; give one of them"
            )
        if self.draft_tokens is None:
            if given:
                raise ValueError(f"{given[0]}: needs draft_tokens too")
            if self.draft_model is not None:
                raise ValueError(f"draft_model: needs draft_tokens and {' or '.join(ACCEPTANCE)}")
            return
        if not given:
            raise ValueError(f"draft_tokens: needs {' or '.join(ACCEPTANCE)} too")
        fault = fault_of_length(max(self.acceptance_length or [1]), self.draft_tokens)
        if fault:
            raise ValueError(f"acceptance_length: {fault}")

    def _check_loads(self) -> None:
        """Check that the load is a closed loop or arrivals at a rate, and not both.

        Raises:
            ValueError: It is both, or neither where burstiness is given; or limits are given that
                no variable depends on.
        """
        limits = [axis for axis in LATENCY_LIMITS if getattr(self, axis) is not None]
        if limits and "max_request_rate" not in self.variables:
            raise ValueError(
                f"{limits[0]}: is a limit of max_request_rate; add that variable or drop the limit"
            )
        self._check_streams()
        if self.request_rate is None:
            if self.burstiness is not None and not limits:
                raise ValueError("burstiness: needs a request_rate; give one or drop burstiness")
            return
        for axis, reason in (
            ("concurrency", "clients that wait for answers do not send at a rate"),
            ("num_requests", "requests at a rate come without end"),
        ):
            if getattr(self, axis) is not None:
                raise ValueError(f"request_rate: given with {axis}, but {reason}; keep one of them")

    def _check_streams(self) -> None:
        """Check that outputs are sent in several parts, without which they have no time per token.

        Raises:
            ValueError: A part is as long as an output.
        """
        most = max(self.stream_interval or [1])
        short = [tokens for tokens in self.osl or [] if 1 < tokens <= most]
        if short:
            raise ValueError(
                f"stream_interval: {most:g} tokens are all of an output of {min(short):g}, which "
                "then has no time per token; give fewer than osl"
            )

    def _check_prefix(self) -> None:
        """Check that some prompt has all the tokens that prompts begin with.

        Raises:
            ValueError: All are shorter.
        """
        shared = max(self.shared_prefix_tokens or [0])
        if self.isl and shared > max(self.isl):
            raise ValueError(
                f"shared_prefix_tokens: prompts cannot begin with the same {shared:g} tokens, as "
                f"the longest has {max(self.isl):g}; give isl at most"
            )

    @property
    def numbers(self) -> dict[str, list[Any]]:
        """The axes the grid has beside models, hardware and precision."""
        specified = ("model", "hardware", "precision")
        given = {axis: getattr(self, axis) for axis in AXES if axis not in specified}
        return {axis: values for axis, values in given.items() if values is not None}
