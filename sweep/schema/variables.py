"""The axes of a sweep and every variable it can compute: dims, units and meaning.

This table drives the mapping of the kernel, the labels of the Dataset and the documentation.
A property of `kernel.request.Request` of the same name computes each.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from sweep.errors import GridError, SchemaError
from sweep.schema.axes import (
    AXES,
    CONFIGURATION,
    INTERVALS,
    LATENCY_LIMITS,
    LAYOUT,
    LENGTHS,
    LOADS,
    LONGEST,
    OPTIONAL,
    PREFIX,
    SERVER,
    SPECULATION,
    SPREADS,
)
from sweep.schema.intervals import CALIBRATED, ENDS, EXTRAPOLATION, EXTRAPOLATIONS
from sweep.schema.terms import BOUNDS, INFEASIBLE_REASONS, OVERLOADS


@dataclass(frozen=True)
class Variable:
    """Dimensions, units and meaning of one output.

    Attributes:
        dims: Axes it varies over, in the order of `AXES`; `LONGEST` is resolved by `dims_of`.
        units: UDUNITS string; `long_name` says what is counted.
        long_name: One line for a plot's axis.
        comment: The exact definition.
        flag_values: Meaning of each integer, for a category.
        flag_masks: Bit of each meaning, for a mask.
        masked: Whether it is NaN where the configuration is infeasible.
        ancillary: Variables that say more about this one.
    """

    dims: tuple[str, ...]
    units: str
    long_name: str
    comment: str = ""
    flag_values: tuple[str, ...] = ()
    flag_masks: tuple[tuple[str, int], ...] = ()
    masked: bool = False
    ancillary: tuple[str, ...] = ()

    @property
    def dtype(self) -> str | None:
        """Integer type of a category or mask, `None` for a quantity."""
        if not self.is_flag:
            return None
        return "int8" if sum(bit for _, bit in self.flag_masks) < 2**7 else "int16"

    @property
    def is_flag(self) -> bool:
        """Whether the values are small integers rather than quantities."""
        return bool(self.flag_values or self.flag_masks)


_CELL = (*CONFIGURATION, "batch_size")
_DECODE = (*_CELL, "context_len")
_PREFILL = (*_CELL, *PREFIX, "isl")
_TTFT = (*_CELL, *PREFIX, "draft_tokens", "isl")
_TPOT = (*_CELL, *SPECULATION, "isl", "osl")
_REQUEST = (*_CELL, *PREFIX, *SPECULATION, "isl", "osl")
_FOOTPRINT = (*_CELL, "draft_tokens", "guidance_passes", LONGEST)
_HELD = (
    *("model", "hardware", "precision", *LAYOUT[:4], *SERVER),
    *("shared_prefix_tokens", "osl_cv", "draft_tokens", "isl", "osl"),
)
_INFLIGHT = (
    *(*CONFIGURATION, *SERVER, *LOADS, *PREFIX, *SPREADS, *INTERVALS, *SPECULATION),
    *("isl", "osl"),
)
_CAPACITY = (
    *(*CONFIGURATION, *SERVER, "burstiness", *LATENCY_LIMITS),
    *(*PREFIX, *SPREADS, *INTERVALS, *SPECULATION, "isl", "osl"),
)
_DENOISING = (*_CELL, "guidance_passes", "image_size")
_IMAGES = (*_CELL, "guidance_passes", "denoising_steps", "image_size")
_PER_GPU = "Per GPU."
_OPERATORS_NOTE = "Summed over the layers; NaN where the model has no such operator."

VARIABLES: dict[str, Variable] = {
    "prefill_latency": Variable(
        _PREFILL,
        "s",
        "time to prefill the whole batch",
        "Operator roofline: the sum over operators and layers of the slowest resource of each.",
    ),
    "prefill_flops": Variable(
        ("model", *LAYOUT, "batch_size", *PREFIX, "isl"),
        "1",
        "floating-point operations to prefill the batch",
        _PER_GPU,
    ),
    "prefill_bytes": Variable(
        _PREFILL, "byte", "device-memory traffic to prefill the batch", _PER_GPU
    ),
    "decode_step_latency": Variable(
        _DECODE,
        "s",
        "time of one decode step",
        "Operator roofline: the sum over operators and layers of the slowest resource of each.",
    ),
    "decode_step_flops": Variable(
        ("model", *LAYOUT, "batch_size", "context_len"),
        "1",
        "floating-point operations of one decode step",
        _PER_GPU,
    ),
    "decode_step_bytes": Variable(
        ("model", "precision", *LAYOUT, "batch_size", "context_len"),
        "byte",
        "device-memory traffic of one decode step",
        _PER_GPU,
    ),
    "global_arithmetic_intensity": Variable(
        ("model", "precision", "batch_size", "context_len"),
        "byte-1",
        "floating-point operations per byte of one decode step",
        "Transformer layers only: operations over parameter bytes and KV-cache bytes.",
    ),
    "global_attainable_flops": Variable(
        ("model", "hardware", "precision", "batch_size", "context_len"),
        "s-1",
        "attainable floating-point operations per second of one GPU",
        "Global roofline: the lower of the peak and intensity times memory bandwidth.",
    ),
    "global_decode_step_latency": Variable(
        _DECODE,
        "s",
        "time of one decode step by the global roofline",
        "Transformer layers only; operations over the attainable rate of a replica.",
    ),
    "decode_operator_latency": Variable(
        (*_DECODE, "operator"), "s", "time of one decode step by operator", _OPERATORS_NOTE
    ),
    "decode_operator_bound": Variable(
        (*_DECODE, "operator"),
        "1",
        "resource that binds each operator of one decode step",
        "Missing where the model has no such operator.",
        flag_values=BOUNDS,
    ),
    "prefill_operator_latency": Variable(
        (*_PREFILL, "operator"), "s", "time to prefill the batch by operator", _OPERATORS_NOTE
    ),
    "prefill_operator_bound": Variable(
        (*_PREFILL, "operator"),
        "1",
        "resource that binds each operator of the prefill",
        "Missing where the model has no such operator.",
        flag_values=BOUNDS,
    ),
    "bound": Variable(
        _DECODE,
        "1",
        "resource that binds most of one decode step",
        "The resource whose operators take the largest share of the step's time.",
        flag_values=BOUNDS,
    ),
    "ttft": Variable(
        _TTFT,
        "s",
        "time to first token",
        "Static batch: the prefill of all its requests, which yields the first token of each.",
    ),
    "tpot": Variable(
        _TPOT,
        "s",
        "time per output token",
        "Static batch: (e2e_latency - ttft) / (osl - 1); missing for an osl of 1.",
    ),
    "tokens_per_pass": Variable(
        ("model", *SPECULATION),
        "1",
        "tokens that a decode pass yields for each sequence",
        "Expected, of draft_tokens that are accepted with probability acceptance_rate each, and "
        "the one after the last of them.",
    ),
    "e2e_latency": Variable(
        _REQUEST,
        "s",
        "time from arrival to last token",
        "Static batch: ttft and the decode passes over a growing context, osl - 1 without drafts.",
    ),
    "output_throughput": Variable(
        _REQUEST,
        "s-1",
        "output tokens per second of all GPUs",
        "dp * batch_size * osl / e2e_latency: output tokens only, the clock includes the prefill.",
        masked=True,
    ),
    "output_throughput_per_gpu": Variable(
        _REQUEST,
        "s-1",
        "output tokens per second of one GPU",
        "Those of all replicas over the number of their GPUs.",
        masked=True,
    ),
    "output_throughput_per_user": Variable(
        _REQUEST,
        "s-1",
        "output tokens per second of one request",
        "1 / tpot.",
        masked=True,
    ),
    "energy_per_output_token": Variable(
        _REQUEST,
        "J",
        "energy per output token at rated power",
        "GPUs of a replica * tdp_w * e2e_latency / (batch_size * osl): rated power for the whole "
        "run, which a memory-bound run stays below; missing where the rated power is unknown.",
    ),
    "denoising_step_latency": Variable(
        _DENOISING,
        "s",
        "time of one denoising step",
        "Operator roofline of a diffusion transformer over the whole batch, guidance_passes times "
        "each image; without text encoder and autoencoder.",
    ),
    "denoising_step_flops": Variable(
        ("model", *LAYOUT, "batch_size", "guidance_passes", "image_size"),
        "1",
        "floating-point operations of one denoising step",
        _PER_GPU,
    ),
    "denoising_step_bytes": Variable(
        _DENOISING, "byte", "device-memory traffic of one denoising step", _PER_GPU
    ),
    "denoising_operator_latency": Variable(
        (*_DENOISING, "operator"), "s", "time of one denoising step by operator", _OPERATORS_NOTE
    ),
    "denoising_operator_bound": Variable(
        (*_DENOISING, "operator"),
        "1",
        "resource that binds each operator of one denoising step",
        "Missing where the model has no such operator.",
        flag_values=BOUNDS,
    ),
    "image_latency": Variable(
        _IMAGES,
        "s",
        "time to generate a batch of images",
        "denoising_steps * denoising_step_latency.",
    ),
    "image_throughput": Variable(
        _IMAGES,
        "s-1",
        "images per second of all GPUs",
        "dp * batch_size / image_latency.",
        masked=True,
    ),
    "image_throughput_per_gpu": Variable(
        _IMAGES,
        "s-1",
        "images per second of one GPU",
        "Those of all replicas over the number of their GPUs.",
        masked=True,
    ),
    "weight_memory": Variable(
        ("model", "precision", *LAYOUT[:4], "draft_tokens"),
        "byte",
        "memory of the weights",
        _PER_GPU,
    ),
    "kv_cache_memory": Variable(
        ("model", "precision", "tp", "pp", "dp_attention", "batch_size", "draft_tokens", LONGEST),
        "byte",
        "memory of the KV cache",
        "Per GPU, every sequence at its longest: context_len, or isl + osl.",
    ),
    "memory_required": Variable(
        (
            *("model", "precision", *LAYOUT[:4]),
            *("batch_size", "draft_tokens", "guidance_passes", LONGEST),
        ),
        "byte",
        "memory of weights, KV cache, activations and communication buffers",
        "Per GPU; activations are the widest moment of the step: the prefill of the whole "
        "batch, or one decode step where the grid has a context_len.",
    ),
    "feasible": Variable(
        _FOOTPRINT,
        "1",
        "whether the configuration can run",
        "1 where it can; infeasible_reason says why it cannot.",
        flag_masks=(("feasible", 1),),
        ancillary=("infeasible_reason",),
    ),
    "infeasible_reason": Variable(
        _FOOTPRINT,
        "1",
        "why the configuration cannot run",
        "Each bit is one reason; 0 where it can run.",
        flag_masks=tuple(INFEASIBLE_REASONS.items()),
    ),
    "max_concurrency": Variable(
        _HELD,
        "1",
        "requests that fit in the memory and the limits of one replica",
        "Requests whose reserved tokens, isl + reserved_osl * osl, fit in kv_cache_fraction of "
        "the memory that weights, activations and buffers leave; at most max_batch_size and "
        "max_num_tokens in each attention group and pipeline stage.",
    ),
    "max_request_rate": Variable(
        _CAPACITY,
        "s-1",
        "requests per second that one replica can sustain",
        "Requests that come one by one and are completed per second with max_concurrency held; at "
        "a higher request_rate the wait grows without end. Under limits of latencies the highest "
        "rate of arrivals that meets all of them, 0 if none does.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_concurrency": Variable(
        _INFLIGHT,
        "1",
        "requests that one replica holds under in-flight batching",
        "max_concurrency, unless clients keep fewer open, the run has fewer, or all requests are "
        "sent at once, which take the cache of their whole outputs; the mean where requests arrive "
        "at a rate.",
    ),
    "inflight_iteration_latency": Variable(
        _INFLIGHT,
        "s",
        "time of an iteration under in-flight batching",
        "Steady state: the mean over iterations with and without prompt tokens.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_output_throughput": Variable(
        _INFLIGHT,
        "s-1",
        "output tokens per second of all GPUs under in-flight batching",
        "Output tokens only; of a run with an end from first arrival to last token, or of "
        "the steady state.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_output_throughput_per_gpu": Variable(
        _INFLIGHT,
        "s-1",
        "output tokens per second of one GPU under in-flight batching",
        "Those of all replicas over the number of their GPUs.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_output_throughput_per_user": Variable(
        _INFLIGHT,
        "s-1",
        "output tokens per second of one request under in-flight batching",
        "1 / inflight_tpot.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_ttft": Variable(
        _INFLIGHT,
        "s",
        "time to first token under in-flight batching",
        "From sending, as a client sees it: inflight_queue_time + inflight_prefill_time. Of the "
        "steady state, or the mean over a run with an end, of which as many as clients keep "
        "open are sent at once; missing where arrivals exceed the capacity.",
        masked=True,
        ancillary=("inflight_feasible", "inflight_overload"),
    ),
    **{
        f"inflight_ttft_p{percent}": Variable(
            _INFLIGHT,
            "s",
            f"time to first token that {percent} % stay below under in-flight batching",
            "As inflight_ttft, of single requests; all are alike in the steady state of clients.",
            masked=True,
            ancillary=("inflight_feasible", "inflight_overload"),
        )
        for percent in (50, 90, 99)
    },
    "inflight_queue_time": Variable(
        _INFLIGHT,
        "s",
        "time from sending to prefill under in-flight batching",
        "Wait for a slot where clients keep more requests open than fit, (concurrency - "
        "inflight_concurrency) over requests completed per second; wait for the running iteration "
        "where requests arrive at a rate; wait where prompts queue for max_num_tokens.",
        masked=True,
        ancillary=("inflight_feasible", "inflight_overload"),
    ),
    "inflight_prefill_time": Variable(
        _INFLIGHT,
        "s",
        "time of the prefill under in-flight batching",
        "Iterations that carry tokens of the prompt, beside prompts and decode steps of others.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_tpot": Variable(
        _INFLIGHT,
        "s",
        "time per output token under in-flight batching",
        "(inflight_request_latency - inflight_ttft) / (osl - 1), the mean over a run with an "
        "end; missing for an osl of 1.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_tpot_p99": Variable(
        _INFLIGHT,
        "s",
        "time between output tokens that 99 % stay below under in-flight batching",
        "Of single tokens, not of means over a request: an iteration that carries prompts of "
        "others if more than 1 % of the tokens come from such; missing for an osl of 1.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_request_latency": Variable(
        _INFLIGHT,
        "s",
        "time from sending to last token under in-flight batching",
        "inflight_ttft + (osl - 1) * inflight_tpot. Steady state of clients: requests that they "
        "keep open over requests completed per second.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_utilisation": Variable(
        _INFLIGHT,
        "1",
        "load of the server relative to what it can sustain",
        "request_rate, or the requests completed per second, over max_request_rate without limits; "
        "at most 1 for clients.",
        masked=True,
        ancillary=("inflight_feasible", "inflight_overload"),
    ),
    "inflight_overload": Variable(
        _INFLIGHT,
        "1",
        "why requests wait for a slot of the server",
        "Each bit is one reason. clients_exceed_capacity: concurrency is above max_concurrency. "
        "arrivals_exceed_capacity: request_rate is not below the rate with max_concurrency held, "
        "so that the wait grows without end; times to first token are missing.",
        flag_masks=tuple(OVERLOADS.items()),
    ),
    "inflight_power": Variable(
        _INFLIGHT,
        "W",
        "electric power of one GPU under in-flight batching",
        "tdp_w * (idle_power + (1 - idle_power) * min(1, time that its units are busy + "
        "bandwidth_power * time that its memory is)), both over the time of an iteration; hosts "
        "and cooling are left out; missing where the rated power is unknown.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_energy_per_output_token": Variable(
        _INFLIGHT,
        "J",
        "energy per output token under in-flight batching",
        "inflight_power over inflight_output_throughput_per_gpu: prompts included.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_prompt_share": Variable(
        _INFLIGHT,
        "1",
        "share of the time that prompts take under in-flight batching",
        "Time by which iterations are longer for the prompts in them, over all time.",
        masked=True,
        ancillary=("inflight_feasible",),
    ),
    "inflight_feasible": Variable(
        _HELD,
        "1",
        "whether the server can run",
        "1 where it can; inflight_infeasible_reason says why it cannot.",
        flag_masks=(("feasible", 1),),
        ancillary=("inflight_infeasible_reason",),
    ),
    "inflight_infeasible_reason": Variable(
        _HELD,
        "1",
        "why the server cannot run",
        "Each bit is one reason; 0 where it can run. exceeds_memory: not one request fits.",
        flag_masks=tuple(INFEASIBLE_REASONS.items()),
    ),
}


def _end(name: str, end: str) -> Variable:
    whole = VARIABLES[name]
    return Variable(
        whole.dims,
        whole.units,
        f"{end} end of the 90 % interval of {name}",
        CALIBRATED[name].basis,
        masked=whole.masked,
    )


VARIABLES |= {
    name: replace(
        VARIABLES[name],
        ancillary=(
            *VARIABLES[name].ancillary,
            *(f"{name}_{end}" for end in ENDS),
            judged.mask,
        ),
    )
    for name, judged in CALIBRATED.items()
}
VARIABLES |= {f"{name}_{end}": _end(name, end) for name in CALIBRATED for end in ENDS} | {
    mask: Variable(
        axes,
        "1",
        f"what the prediction of {what} reaches beyond",
        "Each bit widens the intervals; 0 within what measurements covered.",
        flag_masks=tuple(EXTRAPOLATION.items()),
    )
    for mask, (what, axes) in EXTRAPOLATIONS.items()
}
COMPUTED = tuple(
    name
    for name in VARIABLES
    if name not in EXTRAPOLATIONS and not name.endswith(("_lower", "_upper"))
)
"""Variables that a grid can ask for."""


def dims_of(name: str, axes: Collection[str]) -> tuple[str, ...]:
    """Dimensions of variable `name` on a grid with these `axes`.

    Raises:
        GridError: The grid lacks an axis, or has two definitions of the longest sequence.
        SchemaError: A dimension in the table is no axis.
    """
    variable = VARIABLES[name]
    for dim in variable.dims:
        if dim not in (*AXES, "operator", LONGEST):
            raise SchemaError(
                f"{name} lists {dim!r} in its dims in sweep/schema/variables.py, which is no axis: "
                "use a name in AXES of sweep/schema/axes.py"
            )
    needed = ("batch_size", "denoising_steps", *LENGTHS)
    missing = [dim for dim in variable.dims if dim in needed and dim not in axes]
    if missing:
        raise GridError(
            f"variables: {name!r} needs the axis {' and '.join(missing)}, which the grid lacks; "
            f"add {'it' if len(missing) == 1 else 'them'} or drop the variable"
        )
    dims = tuple(dim for dim in variable.dims if dim not in OPTIONAL or dim in axes)
    if LONGEST not in dims:
        return dims
    longest = tuple(dim for dim in LENGTHS if dim in axes)
    given = {"context_len", "isl", "image_size"} & set(longest)
    if len(given) > 1:
        raise GridError(
            f"variables: {name!r} sizes memory at context_len, at isl + osl or at image_size, and "
            f"the grid has {' and '.join(sorted(given))}; keep one of them or drop the variable"
        )
    if not given:
        raise GridError(
            f"variables: {name!r} needs the axis context_len, isl and osl, or image_size"
        )
    return tuple(d for dim in dims for d in (longest if dim == LONGEST else (dim,)))


LARGER, SMALLER = ("s-1",), ("s", "byte", "J")
"""Units of quantities that are better large and of those that are better small."""
COUNTS = ("max_concurrency", "inflight_concurrency")
"""Counts that are better large."""


def larger_is_better(name: str) -> bool | None:
    """Whether more of a variable is better; `None` if neither is."""
    if name in COUNTS:
        return True
    units = VARIABLES[name].units if name in VARIABLES else None
    return True if units in LARGER else False if units in SMALLER else None
