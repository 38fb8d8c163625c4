"""Mixers whose heads keep a matrix: gated delta net, Kimi delta attention, lightning, Mamba-2."""

from sweep.kernel.bindings.common import linear, matrix, vector
from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.bindings.state import (
    groups_per_gpu,
    keys,
    projection,
    recurrent_state,
    resumed,
    state_of,
    values,
)
from sweep.kernel.block import Block
from sweep.kernel.operators.activation import activation
from sweep.kernel.operators.attention import chunked_pairs
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.delta_rule import delta_rule_scan, delta_rule_step
from sweep.kernel.operators.linear_attention import linear_attention_scan, linear_attention_step
from sweep.kernel.state import State


def _shape(b: Block, s: Step, gates: Scalar) -> dict[str, Scalar]:
    state = state_of(b)
    return {
        "heads": state.heads / s.tp,
        "groups": groups_per_gpu(state, s.tp),
        "key_dim": state.key_dim,
        "value_dim": state.value_dim,
        "gates": gates,
        "element_bytes": s.precision.hidden,
        "state_bytes": state.element_bytes,
    }


def _delta_rule(*, by_channel: bool) -> Operator:
    """The delta rule with a decay and a gate of each head, or a decay of each key's element."""

    def decayed(state: State, tp: Scalar) -> Scalar:
        return state.heads / tp * (state.key_dim if by_channel else 1)

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        state = state_of(b)
        shape = _shape(b, s, decayed(state, s.tp) + state.heads / s.tp)
        if s.decoding:
            return delta_rule_step(s.sequences, **shape)
        pairs = chunked_pairs(s.query_len, state.chunk)
        # A decay of each head multiplies the pairs of a chunk; one of each element the keys and
        # queries: a query, a key, and a key once more for the state.
        of_pairs, of_elements = state.heads / s.tp * pairs / s.query_len, 3 * decayed(state, s.tp)
        return delta_rule_scan(
            s.sequences,
            s.query_len,
            pairs=pairs,
            resumed=resumed(s),
            decays=of_elements if by_channel else of_pairs,
            **shape,
        )

    def weights(b: Block) -> tuple[Tensor, ...]:
        state = state_of(b)
        return (vector(decayed(state, 1) + state.heads, "split"),)

    return Operator(cost, weights, state=recurrent_state)


def _decayed_sum(*, learned: int) -> Operator:
    """Linear attention with decays from the input and `learned` weights of a head, or fixed."""

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        state = state_of(b)
        shape = _shape(b, s, state.heads / s.tp if learned else 0.0)
        if s.decoding:
            return linear_attention_step(s.sequences, **shape)
        return linear_attention_scan(
            s.sequences,
            s.query_len,
            pairs=chunked_pairs(s.query_len, state.chunk),
            resumed=resumed(s),
            **shape,
        )

    return Operator(
        cost,
        lambda b: (vector(learned * state_of(b).heads, "split"),),
        state=recurrent_state,
    )


def _down_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return linear(s, "attention", b.hidden_size, state_of(b).rank)


def _up_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return linear(s, "attention", state_of(b).rank, values(state_of(b), s.tp))


DOWN = Operator(
    _down_cost,
    lambda b: (matrix("attention", state_of(b).rank, b.hidden_size, "copied"),),
    role="attention",
)
UP = Operator(
    _up_cost,
    lambda b: (matrix("attention", values(state_of(b), 1), state_of(b).rank),),
    role="attention",
)


def _silu_cost(b: Block, s: Step, _: Scalar) -> Cost:
    state, hidden = state_of(b), s.precision.hidden
    width = keys(state, s.tp) + values(state, s.tp)
    return activation(s.tokens, width, gated=False, input_bytes=hidden, output_bytes=hidden)


LINEAR_ATTENTION: dict[str, Operator] = {
    # Queries, keys and values, the gate of the output, and a decay and a gate of each head.
    "delta_projection": projection(
        lambda t, tp: keys(t, tp) + 2 * values(t, tp) + 2 * t.heads / tp, biased=False, gates=2
    ),
    "delta_rule": _delta_rule(by_channel=False),
    # Queries, keys and values, and a gate of each head.
    "kda_projection": projection(
        lambda t, tp: keys(t, tp) + values(t, tp) + t.heads / tp, biased=False, gates=1
    ),
    "decay_down_projection": DOWN,
    "decay_up_projection": UP,
    "gate_down_projection": DOWN,
    "gate_up_from_rank": UP,
    "gate_projection": projection(values, biased=False),
    "channelwise_delta_rule": _delta_rule(by_channel=True),
    # Queries, keys and values, and the gate of the output.
    "lightning_projection": projection(lambda t, tp: keys(t, tp) + 2 * values(t, tp), biased=False),
    "lightning_activation": Operator(_silu_cost),
    "lightning_attention": _decayed_sum(learned=0),
    # The gate of the output, values, keys and queries, and a time step of each head.
    "mamba2_projection": projection(lambda t, tp: keys(t, tp) + 2 * values(t, tp) + t.heads / tp),
    # A decay, a bias of the time step, and a skip of each head.
    "mamba2_scan": _decayed_sum(learned=3),
}
