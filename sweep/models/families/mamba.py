"""Models of Mamba layers alone: Mamba, Falcon-Mamba, and Mamba-2 as in Codestral Mamba."""

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import RMS_NORM, embedding, head
from sweep.models.mamba_layers import MambaKeys, mamba1, mamba2
from sweep.models.state_layers import Mixer

KEYS = MambaKeys(
    heads="num_heads",
    head_dim="head_dim",
    state="state_size",
    groups="n_groups",
    kernel="conv_kernel",
    chunk="chunk_size",
    expand="expand",
    rank="time_step_rank",
    width="intermediate_size",
    conv_bias="use_conv_bias",
    in_bias="use_bias",
    out_bias="use_bias",
    defaults={"expand": 2, "state_size": 16, "conv_kernel": 4},
)
KEYS_OF_2 = MambaKeys(
    **{
        **vars(KEYS),
        "defaults": {
            "num_heads": 128,
            "head_dim": 64,
            "expand": 2,
            "state_size": 128,
            "conv_kernel": 4,
            "n_groups": 8,
            "chunk_size": 256,
        },
    }
)


def read_mamba(config: Config) -> tuple[Block, ...]:
    """Read Mamba.

    Raises:
        SpecError: A key is missing or malformed.
    """
    return _stack(config, mamba1(config, KEYS, norm=()), tied=True)


def read_falcon_mamba(config: Config) -> tuple[Block, ...]:
    """Read Falcon-Mamba, which normalises B, C and the time step without weights.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("mixer_rms_eps")
    return _stack(config, mamba1(config, KEYS, norm=("selection_unit_norm",)), tied=True)


def read_mamba2(config: Config) -> tuple[Block, ...]:
    """Read Mamba-2.

    Raises:
        SpecError: A key is missing or malformed.
    """
    config.passes_over("time_step_rank", "intermediate_size", "norm_before_gate", "rms_norm")
    return _stack(config, mamba2(config, KEYS_OF_2), tied=False)


def _stack(config: Config, mixer: Mixer, *, tied: bool) -> tuple[Block, ...]:
    hidden_size, vocab_size = config.size("hidden_size"), config.size("vocab_size")
    layers = Block(
        ("attention_norm", *mixer.operators, "attention_all_reduce", "attention_residual"),
        count=config.size("layers"),
        hidden_size=hidden_size,
        norm_vectors=RMS_NORM,
        state=mixer.state,
    )
    tied = config.flag("tie_word_embeddings", tied)
    return (embedding(vocab_size, hidden_size), layers, head(vocab_size, hidden_size, tied=tied))
