"""Families with layers that keep a state of fixed size, by their `model_type`."""

from sweep.models.decoder import Reader
from sweep.models.families.delta_net import (
    QWEN3_5,
    QWEN3_5_MOE,
    QWEN3_NEXT,
    qwen_next,
    read_olmo_hybrid,
)
from sweep.models.families.kimi_linear import read_kimi_linear
from sweep.models.families.lfm2 import read_lfm2, read_lfm2_moe
from sweep.models.families.mamba import read_falcon_mamba, read_mamba, read_mamba2
from sweep.models.families.mamba_hybrids import (
    read_bamba,
    read_falcon_h1,
    read_granite_hybrid,
    read_jamba,
)
from sweep.models.families.minimax import read_minimax
from sweep.models.families.nemotron_h import read_nemotron_h

STATE_FAMILIES: dict[str, Reader] = {
    "bamba": read_bamba,
    "falcon_h1": read_falcon_h1,
    "falcon_mamba": read_falcon_mamba,
    "granitemoehybrid": read_granite_hybrid,
    "jamba": read_jamba,
    "kimi_linear": read_kimi_linear,
    "lfm2": read_lfm2,
    "lfm2_moe": read_lfm2_moe,
    "mamba": read_mamba,
    "mamba2": read_mamba2,
    "minimax": read_minimax,
    "nemotron_h": read_nemotron_h,
    "olmo_hybrid": read_olmo_hybrid,
    "qwen3_5": qwen_next(QWEN3_5),
    "qwen3_5_moe": qwen_next(QWEN3_5_MOE),
    "qwen3_next": qwen_next(QWEN3_NEXT),
}
OTHER_STATE_NAMES = {
    "minimax_m1": "minimax",
    "minimax_text_01": "minimax",
    "qwen3_5_moe_text": "qwen3_5_moe",
    "qwen3_5_text": "qwen3_5",
}
"""Other names of these families."""
