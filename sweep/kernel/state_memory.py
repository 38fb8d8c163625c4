"""Memory of layers that keep a state of fixed size for each sequence."""

import jax.numpy as jnp
from jaxtyping import Array

from sweep.kernel.bindings.state import keys, state_of, values
from sweep.kernel.block import Block
from sweep.kernel.operator_table import state_bytes
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point


def stateful(point: Point) -> list[Block]:
    """Blocks whose layers keep a state."""
    return [block for block in point.model.blocks if block.state is not None]


def state_bytes_per_sequence(point: Point) -> Scalar:
    """State of one sequence of any length in the layers of all stages, on each GPU. [byte]"""
    hidden = point.precision.hidden
    kept = (block.count * state_bytes(block, point.tp, hidden) for block in stateful(point))
    return sum(kept, start=0.0)


def state_memory(point: Point) -> Scalar:
    """State of the whole batch on each GPU. [byte]"""
    return point.group_sequences * state_bytes_per_sequence(point) / point.layout.pp


def copied_state_weights(point: Point) -> Scalar:
    """Weights of keys and queries beyond an even split, of states with few groups. [byte]

    A GPU keeps one group of heads at least, with the columns of its projection and the taps of its
    convolution.
    """
    total: Scalar = 0.0
    for block in stateful(point):
        if "selective_scan" in block.operators:
            # Its B and C are sums over all channels, of which each GPU has a share.
            continue
        state = state_of(block)
        copied = keys(state, point.tp) - 2 * state.groups * state.key_dim / point.tp
        taps = (state.kernel + state.conv_bias) * point.precision.hidden
        column = block.hidden_size * point.precision.attention.weight + taps
        total = total + block.count * jnp.maximum(copied, 0.0) * column
    return total


def state_width(block: Block, tp: Scalar) -> Scalar:
    """Widest output of a mixer on each GPU. [count]"""
    state = state_of(block)
    if "short_convolution" in block.operators:
        return 3 * values(state, tp)
    return keys(state, tp) + 2 * values(state, tp)


def state_heads_split(block: Block, tp: Scalar) -> tuple[Array, ...]:
    """Whether tp cuts a head of the states, or neither divides the groups nor is a multiple."""
    state = state_of(block)
    groups = jnp.maximum(state.groups, 1.0)
    shares = jnp.where(tp <= groups, jnp.mod(groups, tp), jnp.mod(tp, groups))
    return jnp.mod(state.heads, tp) != 0, shares != 0
