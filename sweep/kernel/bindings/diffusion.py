"""A diffusion transformer: patches of images, their conditioning, attention in all directions."""

from collections.abc import Callable

import jax.numpy as jnp

from sweep.kernel.bindings.common import kv_heads_per_gpu, matrix, unquantised, vector
from sweep.kernel.bindings.operator import Attention, Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.attention import prefill_attention
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.embedding import embedding, position_embedding
from sweep.kernel.operators.modulation import gated_residual, modulated_norm
from sweep.schema.terms import Part

STEP_FREQUENCIES = 256
"""Sines and cosines that encode the number of a denoising step. [count]"""


def _with_bias(
    rows: Callable[[Step], Scalar],
    inner: Callable[[Block], Scalar],
    columns: Callable[[Block], Scalar],
) -> Operator:
    """Matrix with a bias that each GPU holds whole, in the type of the residual stream."""

    def weights(b: Block) -> tuple[Tensor, ...]:
        return (matrix("hidden", columns(b), inner(b), "copied"), vector(columns(b)))

    return Operator(
        lambda b, s, _: unquantised(s, rows(s), inner(b), columns(b), bias=1.0), weights
    )


def _tokens(step: Step) -> Scalar:
    return step.tokens


def _images(step: Step) -> Scalar:
    return step.sequences


def _hidden(block: Block) -> Scalar:
    return block.hidden_size


def _modulation(vectors: int) -> Operator:
    return _with_bias(_images, _hidden, lambda b: vectors * b.hidden_size)


def _modulated_norm(feeds: Part | None) -> Operator:
    def cost(b: Block, s: Step, _: Scalar) -> Cost:
        hidden = s.precision.hidden
        outputs = hidden if feeds is None else s.precision.part(feeds).activation
        return modulated_norm(s.tokens, b.hidden_size, input_bytes=hidden, output_bytes=outputs)

    return Operator(cost)


def _image_attention_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return prefill_attention(
        s.sequences,
        s.query_len,
        attended=s.query_len,
        reach=jnp.inf,
        pairs=s.query_len * s.query_len,
        cache_bytes=s.cache,
        heads=b.heads / s.tp,
        kv_heads=kv_heads_per_gpu(b, s.tp),
        head_dim=b.head_dim,
        query_bytes=s.precision.hidden,
        output_bytes=s.precision.attention.activation,
        kv_bytes=s.precision.hidden,
    )


GATED_RESIDUAL = Operator(
    lambda b, s, _: gated_residual(s.tokens, b.hidden_size, element_bytes=s.precision.hidden)
)

DIFFUSION: dict[str, Operator] = {
    "patch_embedding": _with_bias(_tokens, lambda b: b.patch_values, _hidden),
    "image_position_embedding": Operator(
        lambda b, s, _: position_embedding(
            s.tokens, b.hidden_size, element_bytes=s.precision.hidden
        )
    ),
    "denoising_step_embedding": _with_bias(_images, lambda _: STEP_FREQUENCIES, _hidden),
    "denoising_step_projection": _with_bias(_images, _hidden, _hidden),
    "class_embedding": Operator(
        lambda b, s, _: embedding(
            s.sequences,
            b.hidden_size,
            weight_bytes=s.precision.hidden,
            output_bytes=s.precision.hidden,
        ),
        lambda b: (matrix("hidden", b.vocab_size, b.hidden_size, "copied"),),
    ),
    "modulation": _modulation(6),
    "modulated_attention_norm": _modulated_norm("attention"),
    # Nothing is cached: every step computes the keys and values of all tokens.
    "image_attention": Operator(
        _image_attention_cost, attention=Attention(lambda b, tp: 0.0, by_head=True)
    ),
    "gated_attention_residual": GATED_RESIDUAL,
    "modulated_ffn_norm": _modulated_norm("ffn"),
    "gated_ffn_residual": GATED_RESIDUAL,
    "final_modulation": _modulation(2),
    "modulated_final_norm": _modulated_norm(None),
    "patch_projection": _with_bias(_tokens, _hidden, lambda b: b.denoised_values),
}
