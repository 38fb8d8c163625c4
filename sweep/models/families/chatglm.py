"""ChatGLM 2 and 3 and GLM-4: Llama's layer under Megatron's names, rotary on half of each head."""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import ATTENTION, GATED_FFN, RMS_NORM, embedding, head, pre_norm

LAYER = pre_norm(ATTENTION, GATED_FFN)


def read_chatglm(config: Config) -> tuple[Block, ...]:
    """Read ChatGLM 2 and 3, and GLM-4; KV heads are called multi-query groups."""
    config.passes_over("original_rope", "post_layer_norm", "rmsnorm")
    hidden_size = config.size("hidden_size")
    heads = config.size("num_attention_heads")
    vocab_size = config.size("padded_vocab_size")
    head_dim = config.head_dim(hidden_size, heads, key="kv_channels")
    grouped = config.flag("multi_query_attention", False)
    bias = config.flag("add_bias_linear", False)
    layers = Block(
        LAYER,
        count=config.size("num_layers"),
        hidden_size=hidden_size,
        norm_vectors=RMS_NORM,
        heads=heads,
        kv_heads=config.kv_heads("multi_query_group_num", heads=heads) if grouped else heads,
        head_dim=head_dim,
        rotary_dim=head_dim // 2,
        qkv_bias=int(config.flag("add_qkv_bias", False) or bias),
        output_bias=int(bias),
        ffn_size=config.size("ffn_hidden_size"),
        ffn_bias=int(bias),
    )
    tied = config.flag("tie_word_embeddings", False)
    return (embedding(vocab_size, hidden_size), layers, head(vocab_size, hidden_size, tied=tied))
