"""Attention over the tokens that an indexer selected: latents, or keys and values by block."""

import dataclasses

import jax
import jax.numpy as jnp

from sweep.kernel.bindings.attention import ATTENTION
from sweep.kernel.bindings.common import kv_heads_per_gpu
from sweep.kernel.bindings.latent_attention import LATENT_ATTENTION
from sweep.kernel.bindings.operator import Attention, Operator, Step
from sweep.kernel.block import Block
from sweep.kernel.operators.attention import windowed_pairs
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.indexer import keys_read
from sweep.kernel.operators.selected_attention import gathered_attention

DENSE_LATENT = LATENT_ATTENTION["latent_attention"]
DENSE = ATTENTION["attention"]


def _selected(block: Block) -> Scalar:
    return block.selected


def _pairs(b: Block, s: Step) -> Scalar:
    """Pairs of a token of a prompt and one selected for it, in one sequence. [count]"""
    return s.prompt_pairs(lambda length: windowed_pairs(length, b.selected))


def _gathered_latents_cost(b: Block, s: Step) -> Cost:
    """Cost of a prompt in the absorbed form, each token gathering what is selected for it."""
    heads, width, hidden = b.heads / s.tp, b.latent_dim + b.rotary_dim, s.precision.hidden
    pairs = _pairs(b, s)
    read = keys_read(
        s.query_len,
        s.tokens_before,
        query_bytes=heads * width * hidden,
        cache_bytes=s.cache,
        pairs=pairs,
    )
    return gathered_attention(
        s.own_tokens,
        s.sequences * pairs,
        s.sequences * read,
        heads=heads,
        key_dim=width,
        value_dim=b.latent_dim,
        query_bytes=hidden,
        output_bytes=hidden,
        kv_bytes=s.precision.kv,
    )


def _selected_latent_cost(b: Block, s: Step, attended: Scalar) -> Cost:
    """Cost in decode of the absorbed form; of a prompt in the form that takes fewer FLOPs.

    The other form expands keys and values of each head, attends to all tokens before and masks
    those not selected, which is faster for short prompts, as DeepSeek's engine does.
    """
    masked = DENSE_LATENT.cost(b, s, attended)
    if s.decoding:
        return masked
    gathered = _gathered_latents_cost(b, s)
    fewer = jnp.asarray(gathered.tensor_flops < masked.tensor_flops)
    cost: Cost = jax.tree.map(lambda one, other: _where(fewer, one, other), gathered, masked)
    return cost


def _where(which: jax.Array, one: Scalar, other: Scalar) -> Scalar:
    if isinstance(one, float) and isinstance(other, float) and one == other:
        return one
    return jnp.where(which, one, other)


def _selected_attention_cost(b: Block, s: Step, attended: Scalar) -> Cost:
    """Cost of attention to the selected tokens of each KV head."""
    cost = DENSE.cost(b, s, attended)
    if s.decoding:
        return cost
    pairs = _pairs(b, s)
    scores = s.sequences * b.heads / s.tp * pairs
    width = 2 * kv_heads_per_gpu(b, s.tp) * b.head_dim * s.precision.kv
    return dataclasses.replace(
        cost,
        tensor_flops=4 * scores * b.head_dim,
        special_ops=scores,
        kv_bytes=jnp.minimum(cost.kv_bytes, s.sequences * pairs * width),
    )


SELECTED_ATTENTION: dict[str, Operator] = {
    "selected_latent_attention": Operator(
        _selected_latent_cost,
        attention=Attention(
            lambda b, _: b.latent_dim + b.rotary_dim, "selected", by_head=False, limit=_selected
        ),
    ),
    "selected_attention": Operator(
        _selected_attention_cost,
        DENSE.weights,
        attention=Attention(
            lambda b, tp: 2 * kv_heads_per_gpu(b, tp) * b.head_dim, "selected", limit=_selected
        ),
    ),
}
