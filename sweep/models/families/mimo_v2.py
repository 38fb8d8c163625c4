"""MiMo-V2: values narrower than keys, and other heads in layers with a window."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import read_decoder
from sweep.models.layers import replaced
from sweep.models.traits import Biases, Experts, Switch, Traits, Windows

TRAITS = Traits(
    biases=Biases(qkv=Switch(("attention_bias",))),
    sinks="windows",
    windows=Windows(where="listed"),
    experts=Experts(router_bias=Switch(on=True), shared=True),
    rotary_share=0.334,
)
UNEVEN = (
    ("qkv_projection", "uneven_qkv_projection"),
    ("kv_cache_append", "uneven_kv_cache_append"),
    ("attention", "uneven_attention"),
    ("windowed_attention", "windowed_uneven_attention"),
    ("output_projection", "uneven_output_projection"),
)


def read_mimo_v2(config: Config) -> tuple[Block, ...]:
    """Read MiMo-V2-Flash.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("attention_chunk_size", "add_swa_attention_sink_bias", "swa_rope_theta")
    if config.flag("add_full_attention_sink_bias", False):
        raise config.error("add_full_attention_sink_bias", "true is not supported")
    blocks = read_decoder(config, TRAITS)
    return tuple(_uneven(config, block) if block.in_transformer else block for block in blocks)


def _uneven(config: Config, block: Block) -> Block:
    operators = block.operators
    for name, uneven in UNEVEN:
        operators = replaced(operators, name, uneven)
    prefix = "swa_" if block.window else ""
    heads = config.size(f"{prefix}num_attention_heads", default=int(block.heads))
    kv_heads = config.size(f"{prefix}num_key_value_heads", default=int(block.kv_heads))
    head_dim = config.size(f"{prefix}head_dim", default=int(block.head_dim))
    values = config.size("v_head_dim", default=int(block.head_dim))
    if heads % kv_heads:
        problem = f"{kv_heads} does not divide {heads} query heads"
        raise config.error(f"{prefix}num_key_value_heads", problem)
    return dataclasses.replace(
        block,
        operators=operators,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=config.size("swa_v_head_dim", default=values) if block.window else values,
    )
