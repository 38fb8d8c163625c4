"""Attention over latents: the projections around them, their cache, and the attention."""

from sweep.kernel.bindings.common import linear, matrix, norm_of
from sweep.kernel.bindings.operator import Attention, Operator, Step
from sweep.kernel.block import Block
from sweep.kernel.operators.attention import causal_pairs
from sweep.kernel.operators.cost import Cost, Scalar, is_nothing
from sweep.kernel.operators.kv_cache import kv_cache_append
from sweep.kernel.operators.latent_attention import (
    latent_decode_attention,
    latent_prefill_attention,
    latent_up_projection,
)
from sweep.kernel.operators.rotary import rotary


def _query_width(block: Block) -> Scalar:
    return block.heads * (block.head_dim + block.rotary_dim)


def _latent_attention_cost(b: Block, s: Step, attended: Scalar) -> Cost:
    heads, p = b.heads / s.tp, s.precision
    if s.decoding:
        return latent_decode_attention(
            s.sequences,
            attended,
            heads=heads,
            latent_dim=b.latent_dim,
            rotary_dim=b.rotary_dim,
            query_bytes=p.hidden,
            output_bytes=p.hidden,
            kv_bytes=p.kv,
        )
    return latent_prefill_attention(
        s.sequences,
        s.query_len,
        pairs=s.prompt_pairs(causal_pairs),
        heads=heads,
        key_dim=b.head_dim + b.rotary_dim,
        value_dim=b.value_dim,
        element_bytes=p.hidden,
        output_bytes=p.attention.activation,
    )


def _latent_up_cost(b: Block, s: Step, _: Scalar) -> Cost:
    absorbed, expanded = (s.own_tokens, s.prompt_tokens) if s.decoding else (0.0, s.own_tokens)
    found = s.prompts_cached if s.decoding else s.sequences * s.cached
    if not is_nothing(s.prompts_cached if s.decoding else s.cached):
        # Latents found in the cache are expanded again for the new tokens of their prompt.
        expanded = expanded + found
    return latent_up_projection(
        absorbed,
        expanded,
        heads=b.heads / s.tp,
        latent_dim=b.latent_dim,
        key_dim=b.head_dim,
        value_dim=b.value_dim,
        weight_bytes=s.precision.attention.weight,
        element_bytes=s.precision.hidden,
    )


LATENT_ATTENTION: dict[str, Operator] = {
    "query_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.hidden_size, _query_width(b) / s.tp),
        lambda b: (matrix("attention", _query_width(b), b.hidden_size),),
        role="attention",
    ),
    "query_down_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.hidden_size, b.query_rank),
        lambda b: (matrix("attention", b.query_rank, b.hidden_size, "copied"),),
        role="attention",
    ),
    "query_norm": norm_of(lambda b: b.query_rank, feeds="attention"),
    "query_up_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.query_rank, _query_width(b) / s.tp),
        lambda b: (matrix("attention", _query_width(b), b.query_rank),),
        role="attention",
    ),
    "latent_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.hidden_size, b.latent_dim + b.rotary_dim),
        lambda b: (matrix("attention", b.latent_dim + b.rotary_dim, b.hidden_size, "copied"),),
        role="attention",
    ),
    "latent_norm": norm_of(lambda b: b.latent_dim, feeds="attention"),
    "latent_rotary": Operator(
        lambda b, s, _: rotary(
            s.tokens, b.heads / s.tp + 1, b.rotary_dim, element_bytes=s.precision.hidden
        )
    ),
    "latent_cache_append": Operator(
        lambda b, s, _: kv_cache_append(
            s.tokens,
            b.latent_dim + b.rotary_dim,
            input_bytes=s.precision.hidden,
            kv_bytes=s.precision.kv,
        )
    ),
    "latent_up_projection": Operator(
        _latent_up_cost,
        lambda b: (matrix("attention", b.heads * (b.head_dim + b.value_dim), b.latent_dim),),
        role="attention",
    ),
    "latent_attention": Operator(
        _latent_attention_cost,
        attention=Attention(lambda b, _: b.latent_dim + b.rotary_dim, by_head=False),
    ),
    "latent_output_projection": Operator(
        lambda b, s, _: linear(s, "attention", b.heads * b.value_dim / s.tp, b.hidden_size),
        lambda b: (matrix("attention", b.hidden_size, b.heads * b.value_dim),),
        role="attention",
    ),
}
