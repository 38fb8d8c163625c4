"""Axes of a sweep: their order and meaning."""

from collections.abc import Mapping
from math import prod
from typing import Any

LAYOUT = ("tp", "pp", "ep", "dp_attention", "dp", "expert_imbalance")
CONFIGURATION = ("model", "hardware", "precision", *LAYOUT)
MEMORY_SHARES = ("kv_cache_fraction", "gpu_memory_utilization", "mem_fraction_static")
"""Shares of the memory by which an engine sizes its KV cache, alternatives of one another."""
SERVER = (
    *(*MEMORY_SHARES, "kept_context", "reserved_osl"),
    *("max_batch_size", "max_num_tokens", "scheduler"),
)
LOADS = ("num_requests", "concurrency", "request_rate", "burstiness")
LATENCY_LIMITS = ("max_ttft", "max_ttft_p99", "max_tpot", "max_tpot_p99")
"""Limits under which the highest rate of arrivals is found."""
PREFIX = ("prefix_hit_rate", "shared_prefix_tokens")
SPREADS = ("isl_cv", "osl_cv")
"""Coefficients of variation of the lengths of requests, whose means are `isl` and `osl`."""
INTERVALS = ("batch_wait", "poll_interval", "stream_interval")
"""Iterations and tokens for which a scheduler holds prompts and tokens back."""
ACCEPTANCE = ("acceptance_rate", "acceptance_length")
"""Acceptance of drafted tokens, in alternatives of one another."""
SPECULATION = ("draft_tokens", *ACCEPTANCE)
DENOISING = ("guidance_passes", "denoising_steps")
LENGTHS = ("context_len", "isl", "osl", "image_size")
AXES = (
    *CONFIGURATION,
    "batch_size",
    *SERVER,
    *LOADS,
    *LATENCY_LIMITS,
    *PREFIX,
    *SPREADS,
    *INTERVALS,
    *SPECULATION,
    *DENOISING,
    *LENGTHS,
)
OPTIONAL = (
    *LAYOUT[1:],
    *SERVER,
    *LOADS,
    *LATENCY_LIMITS,
    *PREFIX,
    *SPREADS,
    *INTERVALS,
    *SPECULATION,
    "guidance_passes",
)
"""Axes that a grid may leave out: no dimension then, and one GPU, an even load, a server's
default, no limit, no prompt found in the cache, no draft or no guidance."""
FROM_ZERO = (*("kept_context", *PREFIX, *SPREADS, "batch_wait", "draft_tokens", "acceptance_rate"),)
"""Axes with 0 among their values."""
FRACTIONS = (
    *("expert_imbalance", *MEMORY_SHARES, "kept_context", "reserved_osl", "request_rate"),
    *("burstiness", *LATENCY_LIMITS, "prefix_hit_rate", *SPREADS, *ACCEPTANCE),
)
"""Axes whose values need not be whole numbers."""
STAGE_GPUS = ("tp", "dp_attention")
"""Axes whose product is the GPUs of one pipeline stage."""
REPLICA_GPUS = ("tp", "pp", "dp_attention")
"""Axes whose product is the GPUs of one replica."""
GPUS = (*REPLICA_GPUS, "dp")
"""Axes whose product is the GPUs of a deployment."""
LABELLED = ("model", "hardware", "precision", "scheduler", "operator")

AXIS_UNITS = {"request_rate": "s-1", **dict.fromkeys(LATENCY_LIMITS, "s")}
"""Units of numeric axes that are no counts or shares."""

LONGEST = "longest"
"""Placeholder for `context_len`, or for `isl` and `osl` where a grid has those instead."""

AXIS_LONG_NAMES = {
    "model": "model",
    "hardware": "accelerator",
    "precision": "precision recipe",
    "tp": "tensor-parallel width, in GPUs",
    "pp": "pipeline stages",
    "ep": "GPUs that experts are spread over whole",
    "dp_attention": "groups that each run attention for their own sequences",
    "dp": "replicas of the whole deployment",
    "expert_imbalance": "load of the busiest expert GPU over the mean",
    "batch_size": "sequences decoded together in one replica",
    "kv_cache_fraction": "share of the free memory that the KV cache may take",
    "gpu_memory_utilization": "share of the whole memory that the engine may take",
    "mem_fraction_static": "share of the memory for weights and KV cache",
    "kept_context": "share of the tokens behind a window that the cache keeps",
    "reserved_osl": "share of the output tokens reserved on admission",
    "max_batch_size": "sequences in one iteration of an attention group",
    "max_num_tokens": "tokens in one iteration of an attention group",
    "scheduler": "order of prompts and decode in a server",
    "num_requests": "requests of a run of one replica",
    "concurrency": "requests that clients keep open at one replica",
    "request_rate": "requests that arrive at one replica in a second",
    "burstiness": "shape of the gamma distribution of gaps between arrivals",
    "max_ttft": "largest mean time to first token",
    "max_ttft_p99": "largest time to first token that 99 % stay below",
    "max_tpot": "largest mean time per output token",
    "max_tpot_p99": "largest time between output tokens that 99 % stay below",
    "prefix_hit_rate": "share of the prompt tokens found in the cache",
    "shared_prefix_tokens": "tokens that all prompts begin with",
    "isl_cv": "coefficient of variation of the input tokens",
    "osl_cv": "coefficient of variation of the output tokens",
    "batch_wait": "iterations for which prompts wait for others to start with",
    "poll_interval": "iterations between two looks of the scheduler for new requests",
    "stream_interval": "tokens of a request after which the first are sent",
    "draft_tokens": "tokens drafted for each pass of speculative decoding",
    "acceptance_rate": "probability that a drafted token is accepted",
    "acceptance_length": "tokens that a pass of speculative decoding yields",
    "guidance_passes": "passes of each image in one denoising step, two with guidance",
    "denoising_steps": "denoising steps of each image",
    "image_size": "side of each image, in pixels",
    "context_len": "tokens each sequence attends to in one decode step",
    "isl": "input tokens of each request",
    "osl": "output tokens of each request",
    "operator": "operator of one step",
}


def gpus_of(layout: Mapping[str, Any], axes: tuple[str, ...] = GPUS) -> Any:
    """GPUs of a deployment, all its replicas together. [count]

    Args:
        layout: Numbers, arrays or columns by name of an axis; an axis that is absent counts as 1.
        axes: The axes to multiply; `REPLICA_GPUS` for one replica, `STAGE_GPUS` for a stage of it.
    """
    return prod(layout[axis] for axis in axes if axis in layout)
