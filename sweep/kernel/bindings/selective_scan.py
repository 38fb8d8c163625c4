"""The mixer of Mamba-1, whose channels keep a short vector each."""

from sweep.kernel.bindings.common import linear, matrix, vector
from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.bindings.state import moves, projection, recurrent_state, state_of, values
from sweep.kernel.block import Block
from sweep.kernel.operators.collectives import all_reduce
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.norm import norm
from sweep.kernel.operators.selective_scan import selective_scan


def _selected(b: Block) -> Scalar:
    """Width of the time step before it is expanded, of B and of C together. [count]"""
    state = state_of(b)
    return state.rank + 2 * state.key_dim


def _selection_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return linear(s, "attention", values(state_of(b), s.tp), _selected(b))


def _exchange_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return all_reduce(s.tokens, _selected(b), s.tp, element_bytes=s.precision.hidden)


def _norm(*, weighed: bool) -> Operator:
    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        hidden = s.precision.hidden
        vectors = 1.0 if weighed else 0.0
        return norm(
            s.tokens, _selected(b), vectors=vectors, input_bytes=hidden, output_bytes=hidden
        )

    return Operator(cost, lambda b: (vector(weighed * _selected(b)),))


def _step_weights(b: Block) -> tuple[Tensor, ...]:
    channels = values(state_of(b), 1)
    return matrix("attention", channels, state_of(b).rank), vector(channels, "split")


def _step_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return linear(s, "attention", state_of(b).rank, values(state_of(b), s.tp), bias=1.0)


def _scan_cost(b: Block, s: Step, _: Scalar) -> Cost:
    state = state_of(b)
    return selective_scan(
        s.sequences,
        s.query_len,
        moves=moves(s),
        channels=values(state, s.tp),
        state_size=state.key_dim,
        groups=1.0,
        element_bytes=s.precision.hidden,
        state_bytes=state.element_bytes,
        weight_bytes=s.precision.hidden,
    )


def _scan_weights(b: Block) -> tuple[Tensor, ...]:
    """Weights of the decay of each element of the state, and of the skip of each channel."""
    return (vector(values(state_of(b), 1) * (state_of(b).key_dim + 1), "split"),)


SELECTIVE_SCAN: dict[str, Operator] = {
    "mamba_projection": projection(lambda t, tp: 2 * values(t, tp)),
    "selection_projection": Operator(
        _selection_cost,
        lambda b: (matrix("attention", _selected(b), values(state_of(b), 1)),),
        role="attention",
    ),
    "selection_all_reduce": Operator(_exchange_cost, exchanges=True),
    "selection_norm": _norm(weighed=True),
    "selection_unit_norm": _norm(weighed=False),
    "time_step_projection": Operator(_step_cost, _step_weights, role="attention"),
    "selective_scan": Operator(_scan_cost, _scan_weights, state=recurrent_state),
}
