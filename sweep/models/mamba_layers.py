"""Reads the sizes of the mixers of Mamba-1 and Mamba-2."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sweep.kernel.state import State
from sweep.models.config import Config
from sweep.models.state_layers import Mixer, divided, stored_bytes

SSD_KEYS = (
    *("time_step_limit", "time_step_min", "time_step_max", "time_step_floor", "time_step_scale"),
    *("time_step_init_scheme", "mamba_hidden_act", "use_mamba_kernels", "use_mambapy"),
    *("use_falcon_mambapy", "use_associative_scan", "mamba_norm_before_gate", "mamba_dt_min"),
    *("mamba_dt_max", "mamba_dt_limit", "mamba_dt_init_floor", "residual_in_fp32"),
    *("rescale_prenorm_residual", "ssm_multipliers", "mamba_use_mlp"),
)
"""Keys of the arithmetic of a state-space layer, which change no size or work."""


@dataclass(frozen=True, kw_only=True)
class MambaKeys:
    """Keys and class defaults of a state-space mixer.

    Attributes:
        heads: Key of the number of heads.
        head_dim: Key of the width of a head.
        state: Key of the rows of a head's state.
        groups: Key of the groups that share B and C.
        kernel: Key of the taps of the convolution.
        chunk: Key of the tokens of a chunk.
        expand: Key of the width over the hidden size.
        rank: Key of the rank of Mamba-1's time step.
        width: Key of the width of Mamba-1's mixer.
        conv_bias: Key of the bias of the convolution.
        in_bias: Key of the bias of the projection into the mixer.
        out_bias: Key of the bias of the projection out of it.
        defaults: Sizes of the class by the key.
        stored: Keys of the type of the state.
        by_heads: Whether the width is heads times their width, whatever `expand` says.
    """

    heads: str = "mamba_n_heads"
    head_dim: str = "mamba_d_head"
    state: str = "mamba_d_state"
    groups: str = "mamba_n_groups"
    kernel: str = "mamba_d_conv"
    chunk: str = "mamba_chunk_size"
    expand: str = "mamba_expand"
    rank: str = "mamba_dt_rank"
    width: str = "mamba_d_inner"
    conv_bias: str = "mamba_conv_bias"
    in_bias: str = "mamba_proj_bias"
    out_bias: str = "mamba_proj_bias"
    defaults: Mapping[str, int]
    stored: tuple[str, ...] = ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
    by_heads: bool = False

    def size(self, config: Config, key: str) -> int:
        """Return the size under a key, else that of the class."""
        return config.size(key, default=self.defaults.get(key))

    def bias(self, config: Config, key: str, default: bool) -> int:
        """Return 1 where a key says that there is a bias."""
        return int(config.flag(key, default))


MAMBA2_OPERATORS = ("mamba2_projection", "state_convolution", "mamba2_scan")


def mamba2(
    config: Config, keys: MambaKeys, *, width: int | None = None, norm: bool = True
) -> Mixer:
    """Read a mixer of Mamba-2.

    Args:
        config: The published config.
        keys: Its keys and class defaults.
        width: Width of all heads; the hidden size times `expand` if not given. [count]
        norm: Whether a norm goes with the gate of the output.

    Raises:
        SpecError: A size is missing or wrong, or sizes contradict each other.
    """
    config.passes_over(*SSD_KEYS)
    heads = keys.size(config, keys.heads)
    if keys.by_heads:
        config.passes_over(keys.expand)
    else:
        expand = keys.size(config, keys.expand)
        width = expand * config.size("hidden_size") if width is None else width
    head_dim = _head_dim(config, keys, heads, width)
    groups = keys.size(config, keys.groups)
    divided(config, keys.groups, heads, groups)
    gate = "state_norm" if norm else "state_gate"
    return Mixer(
        (*MAMBA2_OPERATORS, gate, "state_output_projection"),
        State(
            heads=heads,
            groups=groups,
            key_dim=keys.size(config, keys.state),
            value_dim=head_dim,
            element_bytes=stored_bytes(config, *keys.stored),
            chunk=keys.size(config, keys.chunk),
            kernel=keys.size(config, keys.kernel),
            conv_bias=keys.bias(config, keys.conv_bias, True),
            in_bias=keys.bias(config, keys.in_bias, False),
            out_bias=keys.bias(config, keys.out_bias, False),
        ),
    )


def _head_dim(config: Config, keys: MambaKeys, heads: int, width: int | None) -> int:
    if width is not None and config.get(keys.head_dim) in (None, "auto"):
        return divided(config, keys.heads, width, heads)
    head_dim = keys.size(config, keys.head_dim)
    if width is not None and heads * head_dim != width:
        problem = f"{heads} heads of {head_dim} are not as wide as the mixer's {width}"
        raise config.error(keys.head_dim, problem)
    return head_dim


def mamba1(config: Config, keys: MambaKeys, norm: tuple[str, ...]) -> Mixer:
    """Read a mixer of Mamba-1; `norm` is what follows the selection of B, C and the time step.

    Raises:
        SpecError: A size is missing or wrong.
    """
    config.passes_over(*SSD_KEYS)
    hidden_size = config.size("hidden_size")
    width = config.size(keys.width, default=keys.size(config, keys.expand) * hidden_size)
    automatic = config.get(keys.rank) in (None, "auto")
    return Mixer(
        (
            "mamba_projection",
            "channel_convolution",
            "selection_projection",
            "selection_all_reduce",
            *norm,
            "time_step_projection",
            "selective_scan",
            "state_output_projection",
        ),
        State(
            heads=width,
            groups=1,
            key_dim=keys.size(config, keys.state),
            element_bytes=stored_bytes(config, *keys.stored),
            kernel=keys.size(config, keys.kernel),
            conv_bias=keys.bias(config, keys.conv_bias, True),
            rank=math.ceil(hidden_size / 16) if automatic else config.size(keys.rank),
            in_bias=keys.bias(config, keys.in_bias, False),
            out_bias=keys.bias(config, keys.out_bias, False),
        ),
    )
