"""Traits of the class of a family, stated by its published configs or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sweep.models.config import Config

NormKind = Literal["rms", "layer", "layer_without_shift", "bare"]
NormPlace = Literal["before", "after", "around"]
NORM_VECTORS: dict[NormKind, int] = {"rms": 1, "layer": 2, "layer_without_shift": 1, "bare": 0}
"""Weight vectors of each kind of norm. [count]"""


@dataclass(frozen=True)
class Switch:
    """Presence of a part: by the first of `keys` that is given, else by the class.

    Attributes:
        keys: Keys of a config, or names in `SPELLINGS`.
        on: What the class does where no key is given.
    """

    keys: tuple[str, ...] = ()
    on: bool = False

    def read(self, config: Config) -> bool:
        """Whether `config` has the part.

        Raises:
            SpecError: The key holds no boolean.
        """
        return config.flag(self.keys, self.on)


@dataclass(frozen=True)
class RoutingMethod(Switch):
    """A bias on the router's scores that the named method of routing implies."""

    def read(self, config: Config) -> bool:
        """Whether `config` routes as DeepSeek V3 does."""
        scores, method = config.get("scoring_func"), config.get("topk_method")
        return bool(scores == "sigmoid" or method == "noaux_tc")


def on_by(*keys: str) -> Switch:
    """A part that is there where one of `keys` says so."""
    return Switch(keys)


def off_by(*keys: str) -> Switch:
    """A part that is there unless one of `keys` says false."""
    return Switch(keys, on=True)


NEVER = Switch()
ALWAYS = Switch(on=True)


@dataclass(frozen=True, kw_only=True)
class Biases:
    """Projections that have a bias.

    Attributes:
        qkv: The query, key and value projections.
        output: The output projection of attention.
        ffn: All projections of the feed-forward.
        head: The head.
    """

    qkv: Switch = NEVER
    output: Switch = NEVER
    ffn: Switch = NEVER
    head: Switch = NEVER


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The mixture of experts of a family.

    Attributes:
        width: Whether an expert's width has a key of its own, is the feed-forward's, or is the
            feed-forward's where the config has no key of its own.
        optional: Whether a config without experts is a dense model.
        shared: Whether the family may have shared experts.
        shared_count: Shared experts where no key says. [count]
        shared_gate: Whether the shared expert's output is weighed by a gate of one column.
        router_bias: Whether a bias corrects the router's scores.
        bias: Whether router and experts have biases.
        dense_first: Dense layers before the first routed one, where no key says. [count]
    """

    width: Literal["own", "ffn", "either"] = "own"
    optional: bool = False
    shared: bool = False
    shared_count: int = 0
    shared_gate: bool = False
    router_bias: Switch = NEVER
    bias: bool = False
    dense_first: int = 0


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Layers with a sliding window where the config does not list them.

    Attributes:
        where: `nowhere`; `all` layers; `late` layers behind a switch, as in Qwen2; all but every
            `pattern`-th; or those `listed` by key only.
        size: Tokens of the window where no key says. [count]
        pattern: Every how many layers one attends to the whole context. [count]
        pattern_keys: Keys that state the pattern, as a number or as letters such as `LLLG`.
        full_first: Whether the first layer of each period attends to the whole context, not the
            last.
        required: Whether a config without the size of the window is refused.
        others: Kinds of layers that a list may name beside those with attention.
    """

    where: Literal["nowhere", "all", "late", "pattern", "listed"] = "nowhere"
    size: int | None = None
    pattern: int = 1
    pattern_keys: tuple[str, ...] = ("sliding_window_pattern", "_sliding_window_pattern")
    full_first: bool = False
    required: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The class of a family; the defaults are Llama's.

    Attributes:
        norm: Kind of its norms.
        norm_place: Where a layer has norms: before, after or around each half.
        parallel: Whether a layer whose norms come before each half runs both in parallel.
        parallel_norms: Norms of a layer that does. [count]
        gated: Whether the feed-forward is gated.
        learned_activation: Whether the activation has two parameters of its own (xIELU).
        inner_norms: Whether the inputs of the two output projections are normalised.
        latent: Whether keys and values are cached as latents.
        biases: Which projections have a bias.
        qk_norm: Whether queries and keys are normalised.
        qk_norm_over: One head's weights for all heads, or weights for the whole width.
        one_kv_head: Whether all query heads share one KV head.
        gate: Columns of a gate on the output of attention: none, one a head, or one an element.
        sinks: Which layers keep attention sinks.
        positions: How a token's position enters.
        rotary_share: Rotated part of each head where no key says. [1]
        unrotated: Layers without rotary embedding beside those a key lists.
        experts: Its mixture of experts.
        windows: Its sliding windows.
        tied: Whether the head shares the embedding where no key says.
        embedding_norm: Whether the embedding is normalised.
        ffn_ratio: Feed-forward over hidden size where no key says; 0 if a key must. [1]
        ffn_divisor: What the published feed-forward width is divided by. [1]
        sections: Keys of nested configs whose keys count as the config's own.
        defaults: Facts that a published config may leave out.
        nested: Facts that only a config nested in another may leave out, as it lists what
            differs from the class.
    """

    norm: NormKind = "rms"
    norm_place: NormPlace = "before"
    parallel: Switch = NEVER
    parallel_norms: Literal[1, 2] = 1
    gated: bool = True
    learned_activation: bool = False
    inner_norms: bool = False
    latent: bool = False
    biases: Biases = field(default_factory=Biases)
    qk_norm: Switch = NEVER
    qk_norm_over: Literal["head", "width"] = "head"
    one_kv_head: Switch = NEVER
    gate: Literal["none", "heads", "width"] = "none"
    sinks: Literal["none", "all", "windows"] = "none"
    positions: Literal["rotary", "learned", "none"] = "rotary"
    rotary_share: float = 1.0
    unrotated: Literal["none", "full", "listed"] = "none"
    experts: Experts | None = None
    windows: Windows = field(default_factory=Windows)
    tied: bool = False
    embedding_norm: bool = False
    ffn_ratio: int = 0
    ffn_divisor: int = 1
    sections: tuple[str, ...] = ()
    defaults: Mapping[str, int] = field(default_factory=dict)
    nested: Mapping[str, int] = field(default_factory=dict)

    @property
    def norm_vectors(self) -> int:
        """Weight vectors of each norm. [count]"""
        return NORM_VECTORS[self.norm]
