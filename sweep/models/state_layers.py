"""Reads the sizes of layers that keep a state, and puts their mixers in the place of attention."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweep.kernel.block import Block
from sweep.kernel.state import State
from sweep.models.config import Config
from sweep.models.layers import without

FULL, LINEAR = "full_attention", "linear_attention"
"""Kinds of layers as lists name them today."""
FORMER_NAMES = {"attention": FULL, "mamba": LINEAR}
"""Kinds of layers as older lists name them."""
STORED = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Types that a state may be stored in. [byte]"""
DELTA_CHUNK = 64
"""Tokens of a chunk in the published kernels of delta nets. [count]"""
TAPS = 4
"""Taps of a convolution where no key says. [count]"""
LIGHTNING_CHUNK = 256
"""Tokens of a chunk of lightning attention where no key says. [count]"""
GATED_DELTA_NET = (
    "delta_projection",
    "state_convolution",
    "delta_rule",
    "state_head_norm",
    "state_output_projection",
)
LIGHTNING = (
    "lightning_projection",
    "lightning_activation",
    "lightning_attention",
    "state_norm",
    "state_output_projection",
)
SHORT_CONVOLUTION = (
    "short_convolution_projection",
    "short_convolution",
    "state_output_projection",
)


@dataclass(frozen=True)
class Mixer:
    """A mixer that keeps a state, in the place of attention.

    Attributes:
        operators: What it runs.
        state: Its sizes.
    """

    operators: tuple[str, ...]
    state: State


def with_mixer(layer: Block, mixer: Mixer) -> Block:
    """Put a mixer in the place of a layer's attention."""
    names = layer.operators
    first, last = names.index("attention_norm") + 1, names.index("attention_all_reduce")
    return dataclasses.replace(
        without_attention(layer),
        operators=(*names[:first], *mixer.operators, *names[last:]),
        state=mixer.state,
    )


def without_attention(layer: Block) -> Block:
    """The layer with no sizes of attention."""
    return dataclasses.replace(
        layer,
        heads=0,
        kv_heads=0,
        head_dim=0,
        rotary_dim=0,
        value_dim=0,
        latent_dim=0,
        query_rank=0,
        gate_size=0,
        sinks=0,
        qkv_bias=0,
        output_bias=0,
    )


def without_rotary(layer: Block) -> Block:
    """The layer with attention that does not depend on positions."""
    operators = without(layer.operators, "rotary", "latent_rotary")
    return dataclasses.replace(layer, operators=operators)


def kinds(config: Config, layers: int, known: Sequence[str], period: int) -> list[str]:
    """Return the kind of each layer: those of a list, else full attention every `period` layers.

    Raises:
        SpecError: The list is malformed or names an unknown kind.
    """
    key = config.given("layer_kinds")
    if key is None:
        every = config.size("full_attention_interval", default=period)
        return [LINEAR if (layer + 1) % every else FULL for layer in range(layers)]
    config.passes_over("full_attention_interval")
    listed = config.per_layer(key, layers) or []
    return [kind_of(config, key, name, known) for name in listed]


def kind_of(config: Config, key: str, name: object, known: Sequence[str]) -> str:
    """Return the present name of a kind of layer.

    Raises:
        SpecError: The family has no such layers.
    """
    kind = FORMER_NAMES.get(name, name) if isinstance(name, str) else ""
    if kind not in known:
        names = ", ".join(known)
        raise config.error(key, f"unknown kind {name!r:.40}; this family has {names}")
    return kind


def stored_bytes(config: Config, *keys: str) -> int:
    """Return the storage of a state's element, 32 bits as the published kernels keep it. [byte]

    Raises:
        SpecError: A key names another type.
    """
    key = next((key for key in keys if key in config), None)
    if key is None:
        return STORED["float32"]
    name = config.get(key)
    if not isinstance(name, str) or name not in STORED:
        raise config.error(key, f"must be one of {', '.join(STORED)}, not {name!r:.40}")
    return STORED[name]


def divided(config: Config, key: str, whole: int, parts: int) -> int:
    """Return a size over a number of equal parts. [count]

    Raises:
        SpecError: The parts are not equal.
    """
    if whole % parts:
        raise config.error(key, f"{parts} does not divide {whole}")
    return whole // parts


def delta_net(config: Config, defaults: Mapping[str, int]) -> Mixer:
    """Read a gated delta net, whose value heads share keys in groups.

    Raises:
        SpecError: A size is missing or wrong.
    """
    groups = config.size("linear_num_key_heads", default=defaults["groups"])
    heads = config.size("linear_num_value_heads", default=defaults["heads"])
    divided(config, "linear_num_key_heads", heads, groups)
    return Mixer(
        GATED_DELTA_NET,
        State(
            heads=heads,
            groups=groups,
            key_dim=config.size("linear_key_head_dim", default=defaults["key_dim"]),
            value_dim=config.size("linear_value_head_dim", default=defaults["value_dim"]),
            element_bytes=stored_bytes(config, "mamba_ssm_dtype"),
            chunk=DELTA_CHUNK,
            kernel=config.size("linear_conv_kernel_dim", default=TAPS),
        ),
    )


def kimi_delta_attention(*, heads: int, head_dim: int, kernel: int, full_rank: bool) -> Mixer:
    """Build a mixer of Kimi delta attention; `full_rank` is whether its gate is one matrix."""
    gate = ("gate_projection",) if full_rank else ("gate_down_projection", "gate_up_from_rank")
    operators = (
        "kda_projection",
        "decay_down_projection",
        "decay_up_projection",
        *gate,
        "state_convolution",
        "channelwise_delta_rule",
        "state_head_norm",
        "state_output_projection",
    )
    state = State(
        heads=heads,
        groups=heads,
        key_dim=head_dim,
        value_dim=head_dim,
        chunk=DELTA_CHUNK,
        kernel=kernel,
        rank=head_dim,
    )
    return Mixer(operators, state)


def lightning(config: Config, heads: int, head_dim: int) -> Mixer:
    """Read a mixer of lightning attention, whose heads are as many and as wide as attention's.

    Raises:
        SpecError: The size of its chunks is wrong.
    """
    state = State(
        heads=heads,
        groups=heads,
        key_dim=head_dim,
        value_dim=head_dim,
        chunk=config.size("block_size", default=LIGHTNING_CHUNK),
    )
    return Mixer(LIGHTNING, state)


def short_convolution(config: Config, hidden_size: int) -> Mixer:
    """Read a gated short convolution over the channels of the residual stream.

    Raises:
        SpecError: A size is wrong, or says that it is wider or narrower.
    """
    for key in ("conv_dim", "conv_dim_out"):
        if config.size(key, default=hidden_size) != hidden_size:
            raise config.error(key, f"other than hidden_size, {hidden_size}, is not supported")
    bias = int(config.flag("conv_bias", False))
    state = State(
        heads=hidden_size,
        kernel=config.size("conv_L_cache", default=3),
        conv_bias=bias,
        in_bias=bias,
        out_bias=bias,
    )
    return Mixer(SHORT_CONVOLUTION, state)
