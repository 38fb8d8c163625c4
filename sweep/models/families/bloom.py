"""BLOOM: GPT-2's layer with ALiBi in place of positions and a norm on the embedding."""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.families.gpt2 import LAYER
from sweep.models.layers import LAYER_NORM, head


def read_bloom(config: Config) -> tuple[Block, ...]:
    """BLOOM; the feed-forward is always four times the hidden size."""
    hidden_size = config.size("hidden_size", "n_embed")
    heads = config.size("n_head", "num_attention_heads")
    vocab_size = config.size("vocab_size")
    return (
        Block(
            ("embedding", "embedding_norm"),
            in_transformer=False,
            hidden_size=hidden_size,
            norm_vectors=LAYER_NORM,
            vocab_size=vocab_size,
            embedding_size=hidden_size,
        ),
        Block(
            LAYER,
            count=config.size("n_layer", "num_hidden_layers"),
            hidden_size=hidden_size,
            norm_vectors=LAYER_NORM,
            heads=heads,
            kv_heads=heads,
            head_dim=config.head_dim(hidden_size, heads),
            qkv_bias=1,
            output_bias=1,
            ffn_size=4 * hidden_size,
            ffn_bias=1,
        ),
        head(
            vocab_size,
            hidden_size,
            tied=config.flag("tie_word_embeddings", True),
            norm_vectors=LAYER_NORM,
        ),
    )
