"""Falcon: attention and feed-forward in parallel, with one all-reduce for both."""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import (
    ATTENTION,
    LAYER_NORM,
    PLAIN_FFN,
    before,
    embedding,
    head,
    pre_norm,
    without,
)

LAYER = (
    "attention_norm",
    *ATTENTION,
    *PLAIN_FFN,
    "layer_all_reduce",
    "attention_residual",
    "ffn_residual",
)
TWO_NORMS = before(LAYER, "up_projection", "ffn_norm")
SEQUENTIAL = pre_norm(ATTENTION, PLAIN_FFN)


def read_falcon(config: Config) -> tuple[Block, ...]:
    """Read Falcon: grouped KV heads and two norms, one KV head and one norm, or sequential."""
    config.passes_over("multi_query", "parallel_attn", "num_kv_heads", "n_head", "n_layer")
    hidden_size = config.size("hidden_size")
    heads = config.size("num_attention_heads", "n_head")
    vocab_size = config.size("vocab_size")
    head_dim = config.head_dim(hidden_size, heads)
    new = config.flag("new_decoder_architecture", False)
    if new:
        kv_heads = config.kv_heads("num_kv_heads", "n_head_kv", heads=heads)
        norms = config.size("num_ln_in_parallel_attn", default=2)
        operators = TWO_NORMS if norms == 2 else LAYER
    else:
        kv_heads = 1 if config.flag("multi_query", True) else heads
        operators = LAYER if config.flag("parallel_attn", True) else SEQUENTIAL
    if config.flag("alibi", False):
        operators = without(operators, "rotary")
    bias = int(config.flag("bias", False))
    layers = Block(
        operators,
        count=config.size("num_hidden_layers", "n_layer"),
        hidden_size=hidden_size,
        norm_vectors=LAYER_NORM,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rotary_dim=head_dim,
        qkv_bias=bias,
        output_bias=bias,
        ffn_size=config.size("ffn_hidden_size", default=4 * hidden_size),
        ffn_bias=bias,
    )
    tied = config.flag("tie_word_embeddings", True)
    return (
        embedding(vocab_size, hidden_size),
        layers,
        head(vocab_size, hidden_size, tied=tied, norm_vectors=LAYER_NORM),
    )
