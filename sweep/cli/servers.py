"""Options for the settings of a server: memory of its cache, limits of an iteration, experts."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from sweep.cli.options import COUNT, F
from sweep.cli.parameters import Count, Reservation, Share
from sweep.schema.axes import MEMORY_SHARES

SHARE = Share(0, 1, min_open=True)
SETTINGS = (
    click.option(
        "--kv-cache-fraction",
        type=SHARE,
        help="Share of the memory that weights and activations leave for the KV cache, as "
        "TensorRT-LLM counts. Default: 0.9, or what the calibration's engine does.",
    ),
    click.option(
        "--gpu-memory-utilization",
        type=SHARE,
        help="Share of the whole memory that the engine may take, as vLLM counts; in place of "
        "--kv-cache-fraction.",
    ),
    click.option(
        "--mem-fraction-static",
        type=SHARE,
        help="Share of the memory for weights and KV cache, as SGLang counts; in place of both.",
    ),
    click.option(
        "--kept-context",
        type=Share(0, 1),
        help="Share of the tokens behind a window that the cache keeps. Default: as the "
        "calibration's engine does.",
    ),
    click.option(
        "--reserved-osl",
        type=Reservation(),
        help="Share of the output tokens reserved on admission, or max_utilization (0.5) or "
        "guaranteed_no_evict (1). Default: 1.",
    ),
    click.option(
        "--max-batch-size",
        type=COUNT,
        help="Most sequences in one iteration of an attention group. Default: 2048.",
    ),
    click.option(
        "--max-num-tokens",
        type=COUNT,
        help="Most tokens in one iteration of an attention group. Default: 8192.",
    ),
    click.option(
        "--batch-wait",
        type=Count(0),
        help="Iterations for which prompts wait at most for others to start with, as TensorRT-LLM "
        "counts. Default: 0.",
    ),
    click.option(
        "--poll-interval",
        type=COUNT,
        help="Iterations between two looks of the scheduler for new requests, as SGLang counts. "
        "Default: 1.",
    ),
    click.option(
        "--stream-interval",
        type=COUNT,
        help="Tokens of a request after which the first of them are sent. Default: 1.",
    ),
    click.option(
        "--expert-imbalance",
        type=Share(1),
        help="Load of the busiest GPU of the experts over the mean, on top of the calibration's. "
        "Default: 1.",
    ),
)
NAMES = (
    *(*MEMORY_SHARES, "kept_context", "reserved_osl", "max_batch_size", "max_num_tokens"),
    *("batch_wait", "poll_interval", "stream_interval", "expert_imbalance"),
)
"""Axes that the options set."""


def server_options(command: F) -> F:
    """Add the options."""
    add: Callable[[F], F]
    for add in reversed(SETTINGS):
        command = add(command)
    return command


def server_axes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are given, by axis.

    Raises:
        UsageError: Two are alternatives of one another.
    """
    found = {axis: given[axis] for axis in NAMES if given.get(axis) is not None}
    shares = [f"--{axis.replace('_', '-')}" for axis in MEMORY_SHARES if axis in found]
    if len(shares) > 1:
        raise click.UsageError(
            f"{' and '.join(shares)} are alternatives of one another; give one of them"
        )
    return found
