"""Prompts that a scheduler holds back for some iterations, so that several start together.

TensorRT-LLM waits after a prompt has come for a number of iterations, or until the prompts that
wait fill one [1]; with attention groups, until each of them has a prompt, since all wait for the
one that prefills. SGLang looks for new requests only after a number of decode steps [2].

References:
    [1] NVIDIA, TensorRT-LLM documentation, "LLM API", batch_wait_timeout_iters and
        attention_dp_config.
    [2] SGLang documentation, "Server Arguments", scheduler_recv_interval.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sweep.kernel.cycle import Cycle
from sweep.kernel.gates import longest_hold, looks_apart
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HeldBack:
    """Mean wait of a prompt for others.

    Attributes:
        iterations: Iterations for which it waits. [count]
        others: Prompts that came while the first of them waited, and start with it. [count]
    """

    iterations: Scalar
    others: Scalar


def held_back(point: Point, cycle: Cycle, parts: Scalar) -> HeldBack | None:
    """Wait of a prompt until the scheduler lets it start; `None` where it starts at once.

    Prompts come at a rate of λ in an iteration. The first one waits for T iterations, in which λ·T
    others come, who wait half as long: T·(1 + λ·T/2) / (1 + λ·T) on average. T ends early when
    there are as many prompts as an iteration takes, or as there are attention groups. Between two
    looks, N iterations apart, a prompt waits for (N − 1) / 2.

    Args:
        point: The server's settings and lengths.
        cycle: Its mean iterations.
        parts: Attention groups and microbatches, whose requests come together. [count]
    """
    if point.batch_wait is None and point.poll_interval is None:
        return None
    wait = others = jnp.zeros(())
    if point.batch_wait is not None:
        rate = jnp.maximum(cycle.started * parts, 1e-9)
        groups = point.layout.dp_attention
        enough = jnp.where(groups > 1, groups, point.server.max_num_tokens / point.new_tokens)
        longest = jnp.minimum(longest_hold(point), jnp.maximum(enough - 1, 0.0) / rate)
        others = rate * longest
        wait = longest * (1 + others / 2) / (1 + others)
        others = others / parts
    if point.poll_interval is not None:
        wait = wait + (looks_apart(point) - 1) / 2
    return HeldBack(wait, others)


def tokens_until_sent(point: Point) -> Scalar | None:
    """Tokens that the first one waits for before it is sent; `None` where it is sent at once.

    Args:
        point: `stream_interval` and the length of the output, which is sent when it ends.
    """
    if point.stream_interval is None:
        return None
    interval = jnp.maximum(point.stream_interval, 1.0)
    return jnp.minimum(interval - 1, jnp.maximum(point.length("osl") - 1, 0.0))
