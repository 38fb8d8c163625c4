"""Gemma 3n: alternating updates, a low-rank residual, and embeddings that each layer has."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import read_decoder
from sweep.models.halves import halved
from sweep.models.layer_inputs import with_layer_inputs
from sweep.models.layers import before
from sweep.models.shared_cache import last_share
from sweep.models.traits import ALWAYS, Biases, Traits, Windows, on_by

BIAS = on_by("attention_bias")
TRAITS = Traits(
    norm_place="around",
    biases=Biases(qkv=BIAS, output=BIAS),
    qk_norm=ALWAYS,
    windows=Windows(where="pattern", size=512, pattern=5),
    tied=True,
    defaults={"head_dim": 256},
    nested={
        "hidden_size": 2048,
        "ffn_size": 16_384,
        "layers": 35,
        "heads": 8,
        "kv_heads": 2,
        "vocab_size": 262_400,
    },
)
LAUREL = ("laurel_down_projection", "laurel_up_projection", "laurel_norm", "laurel_residual")
STREAMS, RANK, SHARING_LAYERS, INPUT_SIZE = 4, 64, 15, 256
"""Sizes of the class where no key says. [count]"""


def read_gemma3n(config: Config) -> tuple[Block, ...]:
    """Read the text part of Gemma 3n.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("altup_active_idx", "altup_coef_clip", "altup_correct_scale")
    config.passes_over("activation_sparsity_pattern")
    streams = config.size("altup_num_inputs", default=STREAMS)
    if streams < 2:
        raise config.error("altup_num_inputs", f"must be at least 2, not {streams}")
    rank = config.size("laurel_rank", default=RANK)

    def change(layers: list[Block]) -> list[Block]:
        layers = [_augmented(layer, streams, rank) for layer in layers]
        return last_share(config, "num_kv_shared_layers", layers, SHARING_LAYERS)

    width = config.size("hidden_size_per_layer_input", default=INPUT_SIZE)
    blocks = with_layer_inputs(config, read_decoder(config, TRAITS, change), width)
    first, *layers, last = blocks
    entering = ("embedding", "stream_projections", *first.operators[1:])
    leaving = before(last.operators, "final_norm", "stream_merge_projections")
    return (
        dataclasses.replace(first, operators=entering, streams=streams),
        *halved(layers),
        dataclasses.replace(last, operators=leaving, streams=streams),
    )


def _augmented(layer: Block, streams: int, rank: int) -> Block:
    operators = layer.operators
    for name in LAUREL:
        operators = before(operators, "qkv_projection", name)
    operators = before(operators, "ffn_norm", "laurel_sum")
    operators = before(operators, "kv_cache_append", "value_unit_norm")
    operators = ("altup_predict", *operators, "altup_correct")
    return dataclasses.replace(layer, operators=operators, streams=streams, laurel_rank=rank)
