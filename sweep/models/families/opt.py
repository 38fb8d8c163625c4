"""OPT: GPT-2's layer; the 350M model has narrower embeddings and no final norm."""

from typing import Any

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import ATTENTION, LAYER_NORM, PLAIN_FFN, pre_norm, without

LAYER = pre_norm(without(ATTENTION, "rotary"), PLAIN_FFN)

RESERVED_POSITIONS = 2
"""Rows of the position table that no token uses."""


def read_opt(config: Config) -> tuple[Block, ...]:
    """Read OPT: biases throughout unless `enable_bias` is false."""
    hidden_size = config.size("hidden_size")
    heads = config.size("num_attention_heads")
    vocab_size = config.size("vocab_size")
    embedding_size = config.size("word_embed_proj_dim", default=hidden_size)
    projected = embedding_size != hidden_size
    bias = int(config.flag("enable_bias", True))
    final_norm = config.flag("do_layer_norm_before", True) and not config.flag(
        "_remove_final_layer_norm", False
    )
    ends: dict[str, Any] = {
        "hidden_size": hidden_size,
        "vocab_size": vocab_size,
        "embedding_size": embedding_size,
    }
    return (
        Block(
            (
                "embedding",
                *(("embedding_projection",) if projected else ()),
                "position_embedding",
            ),
            in_transformer=False,
            positions=config.size("max_position_embeddings") + RESERVED_POSITIONS,
            reserved_positions=RESERVED_POSITIONS,
            **ends,
        ),
        Block(
            LAYER,
            count=config.size("num_hidden_layers"),
            hidden_size=hidden_size,
            norm_vectors=LAYER_NORM,
            heads=heads,
            kv_heads=heads,
            head_dim=config.head_dim(hidden_size, heads),
            qkv_bias=bias,
            output_bias=bias,
            ffn_size=config.size("ffn_dim"),
            ffn_bias=bias,
        ),
        Block(
            (
                "pipeline_send",
                *(("final_norm",) if final_norm else ()),
                *(("head_projection",) if projected else ()),
                "lm_head",
                "sampling",
            ),
            in_transformer=False,
            norm_vectors=LAYER_NORM,
            untied=int(not config.flag("tie_word_embeddings", True)),
            **ends,
        ),
    )
