"""Small parts of layers: one matrix instead of a half, gates, norms between branches."""

from sweep.kernel.bindings.common import (
    ALL_REDUCE,
    OUTPUT_NORM,
    RESIDUAL,
    hidden_norm,
    linear,
    matrix,
    norm_of,
    unquantised,
    vector,
)
from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.schema.terms import Part


def _replacement(part: Part) -> Operator:
    """One square matrix instead of attention or of the feed-forward."""

    def bias(b: Block) -> Scalar:
        return b.output_bias if part == "attention" else b.ffn_bias

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        return linear(s, part, b.hidden_size / s.tp, b.hidden_size, bias=bias(b))

    def weights(b: Block) -> tuple[Tensor, ...]:
        return matrix(part, b.hidden_size, b.hidden_size), vector(bias(b) * b.hidden_size)

    return Operator(cost, weights, role=part)


def _gates_cost(b: Block, s: Step, _: Scalar) -> Cost:
    """Cost of weighing the outputs of both halves by a number each."""
    elements = 2 * s.tokens * b.hidden_size
    hidden = s.precision.hidden
    return Cost(
        vector_flops=elements, weight_bytes=2 * hidden, activation_bytes=2 * elements * hidden
    )


LAYER_PARTS: dict[str, Operator] = {
    "attention_replacement": _replacement("attention"),
    "ffn_replacement": _replacement("ffn"),
    "half_gates": Operator(_gates_cost, lambda _: (vector(2),)),
    "dense_all_reduce": ALL_REDUCE,
    "dense_output_norm": OUTPUT_NORM,
    "router_input_norm": norm_of(lambda b: b.hidden_size),
    "expert_input_norm": hidden_norm("experts"),
    "expert_output_norm": OUTPUT_NORM,
    "branch_sum": RESIDUAL,
    "next_token_embedding_norm": OUTPUT_NORM,
    "next_token_hidden_norm": OUTPUT_NORM,
    "next_token_projection": Operator(
        lambda b, s, _: unquantised(s, s.tokens, 2 * b.hidden_size, b.hidden_size),
        lambda b: (matrix("hidden", b.hidden_size, 2 * b.hidden_size, "copied"),),
    ),
    "next_token_final_norm": OUTPUT_NORM,
}
