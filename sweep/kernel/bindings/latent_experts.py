"""Experts that are not gated, experts that work on a latent, and attention over residuals."""

import dataclasses

from sweep.kernel.bindings.common import (
    activation_of,
    linear,
    matrix,
    norm_of,
    vector,
)
from sweep.kernel.bindings.experts import EXPERTS, expert_biases, expert_cost, expert_tensor
from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.residual_attention import residual_attention

UNGATED: dict[str, Operator] = {
    "expert_up_projection": Operator(
        lambda b, s, _: expert_cost(b, s, b.hidden_size, b.ffn_size / s.expert_tp, b.expert_bias),
        lambda b: (
            expert_tensor(b, b.ffn_size, b.hidden_size),
            expert_biases(b, b.ffn_size),
        ),
        role="experts",
    ),
    "expert_activation": activation_of(gated=False, routed=True),
}


def _narrowed(block: Block) -> Block:
    """The block with a residual stream as wide as the latent."""
    return dataclasses.replace(block, hidden_size=block.expert_latent)


def _on_latent(operator: Operator) -> Operator:
    def cost(b: Block, s: Step, attended: Scalar) -> Cost:
        return operator.cost(_narrowed(b), s, attended)

    def weights(b: Block) -> tuple[Tensor, ...]:
        return operator.weights(_narrowed(b))

    return dataclasses.replace(operator, cost=cost, weights=weights)


ON_LATENT = (
    "expert_dispatch",
    "expert_gate_up_projection",
    "expert_up_projection",
    "expert_down_projection",
    "expert_return",
    "expert_combine",
)
"""Operators of experts that read or write the residual stream, or the latent in its place."""


def _residual_attention_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return residual_attention(s.tokens, b.hidden_size, b.sources, element_bytes=s.precision.hidden)


RESIDUAL_ATTENTION = Operator(_residual_attention_cost, lambda b: (vector(2 * b.hidden_size),))

LATENT_EXPERTS: dict[str, Operator] = {
    **UNGATED,
    **{f"latent_{name}": _on_latent({**EXPERTS, **UNGATED}[name]) for name in ON_LATENT},
    # Every GPU has both matrices whole, as engines do.
    "expert_latent_projection": Operator(
        lambda b, s, _: linear(s, "ffn", b.hidden_size, b.expert_latent, bias=b.ffn_bias),
        lambda b: (
            matrix("ffn", b.expert_latent, b.hidden_size, "copied"),
            vector(b.ffn_bias * b.expert_latent),
        ),
        role="ffn",
    ),
    "expert_latent_norm": norm_of(lambda b: b.expert_latent, feeds="ffn"),
    "expert_hidden_projection": Operator(
        lambda b, s, _: linear(s, "ffn", b.expert_latent, b.hidden_size, bias=b.ffn_bias),
        lambda b: (
            matrix("ffn", b.hidden_size, b.expert_latent, "copied"),
            vector(b.ffn_bias * b.hidden_size),
        ),
        role="ffn",
    ),
    "shared_up_projection": Operator(
        lambda b, s, _: linear(s, "ffn", b.hidden_size, b.shared_size / s.tp, bias=b.ffn_bias),
        lambda b: (
            matrix("ffn", b.shared_size, b.hidden_size),
            vector(b.ffn_bias * b.shared_size, "split"),
        ),
        role="ffn",
    ),
    "shared_activation": activation_of(gated=False, width=lambda b: b.shared_size),
    "attention_residual_attention": RESIDUAL_ATTENTION,
    "ffn_residual_attention": RESIDUAL_ATTENTION,
    "final_residual_attention": RESIDUAL_ATTENTION,
}
