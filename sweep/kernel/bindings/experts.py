"""A mixture of experts: the router, the way to the experts and back, their matrices."""

from sweep.kernel.bindings.common import (
    activation_of,
    linear,
    matrix,
    routed_rows,
    unquantised,
    vector,
)
from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.collectives import expert_exchange
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.experts import distinct_experts, expert_combine, expert_gemm


def expert_tensor(block: Block, rows: Scalar, columns: Scalar) -> Tensor:
    """One matrix of each expert."""
    experts, used = int(block.experts), int(block.experts_per_token)
    shape = experts, int(rows), int(columns)
    return Tensor(shape, "experts", sharding="experts", expert_choice=(used, experts))


def expert_biases(block: Block, width: Scalar) -> Tensor:
    """One bias of each expert."""
    experts, used = int(block.experts), int(block.experts_per_token)
    elements = experts * int(block.expert_bias * width)
    return Tensor((elements,), "hidden", sharding="experts", expert_choice=(used, experts))


def _exchange(*, outputs: bool) -> Operator:
    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        return expert_exchange(
            s.tokens,
            b.hidden_size,
            b.experts_per_token,
            dp_attention=s.layout.dp_attention,
            tp=s.tp,
            ep=s.layout.ep,
            element_bytes=s.precision.hidden if outputs else s.precision.experts.activation,
            everywhere_share=s.dispatch_everywhere,
        )

    return Operator(cost, exchanges=True)


def expert_cost(b: Block, s: Step, inner: Scalar, columns: Scalar, bias: Scalar) -> Cost:
    """Cost of one matrix of the experts that a step is routed to."""
    read = distinct_experts(s.expert_tokens, b.experts, b.experts_per_token) / s.layout.ep
    return expert_gemm(
        routed_rows(b, s),
        inner,
        columns,
        experts_read=read,
        weight_bytes=s.precision.experts.weight,
        input_bytes=s.precision.experts.activation,
        output_bytes=s.precision.hidden,
        bias=bias,
    )


EXPERTS: dict[str, Operator] = {
    "router": Operator(
        lambda b, s, _: unquantised(
            s, s.tokens, b.hidden_size, b.experts, bias=b.expert_bias + b.router_bias
        ),
        lambda b: (
            matrix("hidden", b.experts, b.hidden_size, "copied"),
            vector((b.expert_bias + b.router_bias) * b.experts),
        ),
    ),
    "expert_dispatch": _exchange(outputs=False),
    "expert_gate_up_projection": Operator(
        lambda b, s, _: expert_cost(
            b, s, b.hidden_size, 2 * b.ffn_size / s.expert_tp, b.expert_bias
        ),
        lambda b: (
            expert_tensor(b, 2 * b.ffn_size, b.hidden_size),
            expert_biases(b, 2 * b.ffn_size),
        ),
        role="experts",
    ),
    "expert_gated_activation": activation_of(gated=True, routed=True),
    "expert_down_projection": Operator(
        lambda b, s, _: expert_cost(
            b, s, b.ffn_size / s.expert_tp, b.hidden_size, b.expert_bias / s.expert_tp
        ),
        lambda b: (
            expert_tensor(b, b.hidden_size, b.ffn_size),
            expert_biases(b, b.hidden_size),
        ),
        role="experts",
    ),
    "expert_return": _exchange(outputs=True),
    "expert_combine": Operator(
        lambda b, s, _: expert_combine(
            s.tokens, b.hidden_size, b.experts_per_token, element_bytes=s.precision.hidden
        )
    ),
    "shared_gate_up_projection": Operator(
        lambda b, s, _: linear(s, "ffn", b.hidden_size, 2 * b.shared_size / s.tp),
        lambda b: (matrix("ffn", 2 * b.shared_size, b.hidden_size),),
        role="ffn",
    ),
    "shared_gated_activation": activation_of(gated=True, width=lambda b: b.shared_size),
    "shared_down_projection": Operator(
        lambda b, s, _: linear(s, "ffn", b.shared_size / s.tp, b.hidden_size),
        lambda b: (matrix("ffn", b.hidden_size, b.shared_size),),
        role="ffn",
    ),
    "shared_expert_gate": Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.hidden_size, 1.0),
        lambda b: (matrix("hidden", 1, b.hidden_size, "copied"),),
    ),
}
