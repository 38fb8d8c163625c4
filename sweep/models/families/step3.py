"""Step-3.5 and 3.7: a gate on each head's output, and more heads in layers with a window."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import read_decoder
from sweep.models.traits import Biases, Experts, Switch, Traits, Windows

BIAS = Switch(("attention_bias",))
TRAITS = Traits(
    biases=Biases(qkv=BIAS, output=BIAS),
    qk_norm=Switch(on=True),
    gate="heads",
    windows=Windows(where="listed"),
    experts=Experts(shared=True, router_bias=Switch(("routing_bias",), on=True), shared_count=1),
    defaults={"head_dim": 128},
)
WINDOWED = "attention_other_setting"
"""Section with the heads of the layers that have a window."""


def read_step3(config: Config) -> tuple[Block, ...]:
    """Read Step-3.5-Flash or the text part of Step-3.7-Flash.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("use_head_wise_attn_gate")
    blocks = read_decoder(config, TRAITS)
    if WINDOWED not in config:
        return blocks
    section = config.section(WINDOWED)
    section.passes_over("attention_type", "true_head_dim")
    return tuple(_heads(section, block) if block.window else block for block in blocks)


def _heads(section: Config, block: Block) -> Block:
    heads = section.size("heads", default=int(block.heads))
    kv_heads = section.size("kv_heads", default=int(block.kv_heads))
    if heads % kv_heads:
        problem = f"{kv_heads} does not divide {heads} query heads"
        raise section.error("num_attention_groups", problem)
    head_dim = section.size("head_dim", default=int(block.head_dim))
    return dataclasses.replace(
        block, heads=heads, kv_heads=kv_heads, head_dim=head_dim, gate_size=heads
    )
