"""Bindings that several parts of a layer share: projections, norms, sums, activations."""

from collections.abc import Callable

import jax.numpy as jnp

from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.activation import activation
from sweep.kernel.operators.collectives import all_reduce
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.gemm import gemm
from sweep.kernel.operators.norm import norm
from sweep.kernel.operators.residual import residual
from sweep.schema.terms import Part, Role


def kv_heads_per_gpu(block: Block, tp: Scalar) -> Scalar:
    """KV heads each GPU keeps: a share of them, and never less than one. [count]"""
    return jnp.maximum(block.kv_heads / tp, 1.0)


def linear(step: Step, part: Part, inner: Scalar, columns: Scalar, *, bias: Scalar = 0.0) -> Cost:
    """Cost of a linear layer in the types of its part of the recipe."""
    recipe = step.precision.part(part)
    return gemm(
        step.tokens,
        inner,
        columns,
        weight_bytes=recipe.weight,
        input_bytes=recipe.activation,
        output_bytes=step.precision.hidden,
        bias=bias,
    )


def unquantised(
    step: Step, rows: Scalar, inner: Scalar, columns: Scalar, *, bias: Scalar = 0.0
) -> Cost:
    """Cost of a matrix stored and computed in the type of the residual stream."""
    hidden = step.precision.hidden
    return gemm(
        rows,
        inner,
        columns,
        weight_bytes=hidden,
        input_bytes=hidden,
        output_bytes=hidden,
        bias=bias,
    )


def vector(elements: Scalar, sharding: str = "copied") -> Tensor:
    """Norm or bias."""
    return Tensor((int(elements),), "hidden", sharding)


def matrix(role: Role, rows: Scalar, columns: Scalar, sharding: str = "split") -> Tensor:
    """Two-dimensional weight."""
    return Tensor((int(rows), int(columns)), role, sharding)


def norm_of(width: Callable[[Block], Scalar], *, feeds: Part | None = None) -> Operator:
    """Norm over a width of the block, written in the type of the layer it feeds."""

    def cost(block: Block, step: Step, _: Scalar) -> Cost:
        p = step.precision
        return norm(
            step.tokens,
            width(block),
            vectors=block.norm_vectors,
            input_bytes=p.hidden,
            output_bytes=p.hidden if feeds is None else p.part(feeds).activation,
        )

    return Operator(cost, lambda b: (vector(b.norm_vectors * width(b)),))


def routed_rows(b: Block, s: Step) -> Scalar:
    """Rows that the busiest GPU's experts work on. [count]"""
    share = s.layout.expert_imbalance / s.layout.ep
    return s.expert_tokens * b.experts_per_token * share


def activation_of(
    *, gated: bool, width: Callable[[Block], Scalar] = lambda b: b.ffn_size, routed: bool = False
) -> Operator:
    """Non-linearity of a feed-forward, or of the experts a token is routed to."""

    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        return activation(
            routed_rows(b, s) if routed else s.tokens,
            width(b) / (s.expert_tp if routed else s.tp),
            gated=gated,
            input_bytes=s.precision.hidden,
            output_bytes=s.precision.part("experts" if routed else "ffn").activation,
        )

    return Operator(cost)


def _all_reduce_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return all_reduce(s.tokens, b.hidden_size, s.tp, element_bytes=s.precision.hidden)


def _residual_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return residual(s.tokens, b.hidden_size, element_bytes=s.precision.hidden)


def hidden_norm(feeds: Part) -> Operator:
    """Norm of the residual stream before attention or the feed-forward."""
    return norm_of(lambda b: b.hidden_size, feeds=feeds)


OUTPUT_NORM = norm_of(lambda b: b.hidden_size)
ALL_REDUCE = Operator(_all_reduce_cost, exchanges=True)
RESIDUAL = Operator(_residual_cost)
