"""Times of a point that are asked for, and whether they are numbers that 32 bits hold.

Specifications and calibrations are bounded, but the slowest of all machines with the longest of all
prompts still takes longer than 32 bits can say. Such a point does not run, and says why.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool

from sweep.kernel.params import Point
from sweep.schema.terms import LONGEST_S

_REQUESTS = {
    **dict.fromkeys(("prefill_latency", "prefill_operator_latency"), "prefill_latency"),
    "ttft": "ttft",
    **dict.fromkeys(
        (
            *("tpot", "e2e_latency", "energy_per_output_token", "output_throughput"),
            *("output_throughput_per_gpu", "output_throughput_per_user"),
        ),
        "e2e_latency",
    ),
}
_STEPS = {
    **dict.fromkeys(("decode_step_latency", "decode_operator_latency"), "decode_step_latency"),
    "global_decode_step_latency": "global_decode_step_latency",
}
_IMAGES = dict.fromkeys(
    (
        *("denoising_step_latency", "denoising_operator_latency"),
        *("image_latency", "image_throughput", "image_throughput_per_gpu"),
    ),
    "denoising_step_latency",
)
_SERVERS = {
    **dict.fromkeys(("inflight_ttft", "inflight_queue_time", "inflight_prefill_time"), "ttft"),
    **dict.fromkeys(("inflight_ttft_p50", "inflight_ttft_p90", "inflight_ttft_p99"), "ttft"),
    **dict.fromkeys(("inflight_tpot", "inflight_tpot_p99"), "tpot"),
    "inflight_output_throughput_per_user": "tpot",
    "inflight_request_latency": "request_latency",
}
_SLOWEST = {
    "prefix_hit_rate": None,
    "shared_prefix_tokens": None,
    "acceptance_rate": 0.0,
    "acceptance_length": 1.0,
}
"""Values of axes over which it does not vary whether a batch can run."""


def slowest_of(point: Point) -> Point:
    """The point without hits in the cache, and with no draft accepted."""
    given: dict[str, Any] = {
        axis: value for axis, value in _SLOWEST.items() if getattr(point, axis) is not None
    }
    return dataclasses.replace(point, **given) if given else point


def times_of_batch(point: Point, asked: Collection[str]) -> list[str]:
    """Names of the times of a static batch, one decode step or one image that are asked for.

    Only those along the lengths by which its memory is sized: one image, one context, or a request.
    """
    known = _REQUESTS
    if point.image_size is not None:
        known = _IMAGES
    elif point.isl is None:
        known = _STEPS
    found = dict.fromkeys(known[name] for name in asked if name in known)
    return [name for name in found if name != "e2e_latency" or point.osl is not None]


def are_out_of_range(times: Collection[Any]) -> Bool[Array, ""]:
    """Whether any of some times is longer than `LONGEST_S` or no number."""
    within = jnp.asarray(True)
    for time in times:
        within &= time < LONGEST_S
    return ~within


def server_is_out_of_range(server: Any, asked: Collection[str]) -> Bool[Array, ""]:
    """Whether an iteration of a server, or a time of it that is asked, is out of range.

    Other times than an iteration's may be missing where requests exceed the capacity, or outputs
    have one token.
    """
    missing = are_out_of_range([server.iteration_latency])
    for name in dict.fromkeys(_SERVERS[name] for name in asked if name in _SERVERS):
        missing |= getattr(server, name) >= LONGEST_S
    return missing
