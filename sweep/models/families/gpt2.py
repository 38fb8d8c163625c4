"""GPT-2 and GPT-3: learned positions, LayerNorm, a plain feed-forward, biases throughout."""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import ATTENTION, LAYER_NORM, PLAIN_FFN, head, pre_norm, without

LAYER = pre_norm(without(ATTENTION, "rotary"), PLAIN_FFN)


def read_gpt2(config: Config) -> tuple[Block, ...]:
    """GPT-2, and GPT-3 written in its form."""
    hidden_size = config.size("n_embd")
    heads = config.size("n_head")
    vocab_size = config.size("vocab_size")
    return (
        Block(
            ("embedding", "position_embedding"),
            in_transformer=False,
            hidden_size=hidden_size,
            vocab_size=vocab_size,
            embedding_size=hidden_size,
            positions=config.size("n_positions"),
        ),
        Block(
            LAYER,
            count=config.size("n_layer"),
            hidden_size=hidden_size,
            norm_vectors=LAYER_NORM,
            heads=heads,
            kv_heads=heads,
            head_dim=config.head_dim(hidden_size, heads),
            qkv_bias=1,
            output_bias=1,
            ffn_size=config.size("n_inner", default=4 * hidden_size),
            ffn_bias=1,
        ),
        head(
            vocab_size,
            hidden_size,
            tied=config.flag("tie_word_embeddings", True),
            norm_vectors=LAYER_NORM,
        ),
    )
