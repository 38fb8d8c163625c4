"""Parts of every mixer that keeps a state: projections, the short convolution, gates, norms."""

from collections.abc import Callable

import jax.numpy as jnp

from sweep.kernel.bindings.common import RESIDUAL, linear, matrix, vector
from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.activation import activation
from sweep.kernel.operators.cost import Cost, Scalar, is_nothing
from sweep.kernel.operators.gated_norm import gated_norm
from sweep.kernel.operators.short_convolution import short_convolution
from sweep.kernel.state import State

Width = Callable[[State, Scalar], Scalar]
"""Columns of a projection on one GPU, from the sizes and tp. [count]"""


def state_of(block: Block) -> State:
    """Sizes of the state that the layers of a block keep.

    Raises:
        TypeError: They keep none.
    """
    if block.state is None:
        raise TypeError(f"layers that run {', '.join(block.operators)} keep no state")
    return block.state


def groups_per_gpu(state: State, tp: Scalar) -> Scalar:
    """Groups of heads on each GPU: a share of them, and never less than one. [count]

    Exact for the whole numbers of a specification, where tp is 1.
    """
    if isinstance(tp, int):
        return max(state.groups // tp, 1)
    return jnp.maximum(state.groups / tp, 1.0)


def keys(state: State, tp: Scalar) -> Scalar:
    """Width of the keys and queries on each GPU. [count]"""
    return 2 * groups_per_gpu(state, tp) * state.key_dim


def values(state: State, tp: Scalar) -> Scalar:
    """Width of the values on each GPU. [count]"""
    return state.heads / tp * state.value_dim


def whole(width: Width, block: Block) -> int:
    """A width on a single GPU, an integer. [count]"""
    return int(width(state_of(block), 1))


def moves(step: Step) -> Scalar:
    """Times that the state of a sequence is read or written in a step. [count]

    In decode it is read and written. A prompt ends with a write; of the chunks that it is cut into
    all but the first begin with a read.
    """
    return 2.0 if step.decoding else 1.0 + resumed(step)


def resumed(step: Step) -> Scalar:
    """Share of the sequences of a prefill that continue from a stored state. [1]

    Those with tokens in the cache all do.
    """
    later = 1 - 1 / step.chunks
    return later if is_nothing(step.cached) else jnp.where(step.cached > 0, 1.0, later)


def projection(width: Width, *, biased: bool = True, gates: int = 0) -> Operator:
    """Projection of the residual stream into a mixer, of `width` columns on each GPU.

    Args:
        width: All columns. [count]
        biased: Whether there may be a bias.
        gates: Columns of each head that models store in a matrix of its own. [count]
    """

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        state = state_of(b)
        bias = state.in_bias if biased else 0.0
        return linear(s, "attention", b.hidden_size, width(state, s.tp), bias=bias)

    def weights(b: Block) -> tuple[Tensor, ...]:
        columns, apart = whole(width, b), gates * int(state_of(b).heads)
        stored: tuple[Tensor, ...] = (matrix("attention", columns - apart, b.hidden_size),)
        if apart:
            stored = (*stored, matrix("attention", apart, b.hidden_size))
        if not biased:
            return stored
        return (*stored, vector(state_of(b).in_bias * columns, "split"))

    return Operator(cost, weights, role="attention")


def convolution(channels: Width, *, gates: int = 0, activated: bool = True) -> Operator:
    """Short convolution over `channels` on each GPU, whose inputs a sequence keeps."""

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        state = state_of(b)
        return short_convolution(
            s.sequences,
            s.query_len,
            moves=moves(s),
            channels=channels(state, s.tp),
            kernel=state.kernel,
            bias=state.conv_bias,
            gates=gates,
            activated=activated,
            element_bytes=s.precision.hidden,
        )

    def kept(b: Block, tp: Scalar, hidden: Scalar) -> Scalar:
        state = state_of(b)
        return (state.kernel - 1) * channels(state, tp) * hidden

    def weights(b: Block) -> tuple[Tensor, ...]:
        state = state_of(b)
        return (vector((state.kernel + state.conv_bias) * whole(channels, b), "split"),)

    return Operator(cost, weights, state=kept)


def recurrent_state(b: Block, tp: Scalar, _: Scalar) -> Scalar:
    """Matrices that the heads on one GPU keep of a sequence in one layer. [byte]"""
    state = state_of(b)
    return values(state, tp) * state.key_dim * state.element_bytes


def normed_gate(*, by_head: bool) -> Operator:
    """Gated norm of the mixer's output, with weights of one head or of the whole width."""

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        state = state_of(b)
        heads, width = state.heads / s.tp, values(state, s.tp)
        return gated_norm(
            s.tokens * heads if by_head else s.tokens,
            state.value_dim if by_head else width,
            weights=state.value_dim if by_head else width,
            input_bytes=s.precision.hidden,
            output_bytes=s.precision.attention.activation,
        )

    def weights(b: Block) -> tuple[Tensor, ...]:
        state = state_of(b)
        return (vector(state.value_dim) if by_head else vector(whole(values, b), "split"),)

    return Operator(cost, weights)


def _gate_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return activation(
        s.tokens,
        values(state_of(b), s.tp),
        gated=True,
        input_bytes=s.precision.hidden,
        output_bytes=s.precision.attention.activation,
    )


STATE: dict[str, Operator] = {
    "state_convolution": convolution(lambda t, tp: keys(t, tp) + values(t, tp)),
    "channel_convolution": convolution(values),
    "state_head_norm": normed_gate(by_head=True),
    "state_norm": normed_gate(by_head=False),
    "state_gate": Operator(_gate_cost),
    "state_output_projection": Operator(
        lambda b, s, _: linear(
            s,
            "attention",
            values(state_of(b), s.tp),
            b.hidden_size,
            bias=state_of(b).out_bias,
        ),
        lambda b: (
            matrix("attention", b.hidden_size, whole(values, b)),
            vector(state_of(b).out_bias * b.hidden_size),
        ),
        role="attention",
    ),
    "mixer_residual": RESIDUAL,
    "short_convolution_projection": projection(lambda t, tp: 3 * values(t, tp)),
    "short_convolution": convolution(values, gates=2, activated=False),
}
