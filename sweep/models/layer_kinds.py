"""Layers of a model that have a window, no rotary embedding, or experts."""

from collections.abc import Sequence

from sweep.models.config import Config
from sweep.models.traits import Experts, Traits, Windows

WINDOWED, FULL = "sliding_attention", "full_attention"
KINDS = {
    WINDOWED: True,
    "sliding": True,
    "local": True,
    FULL: False,
    "attention": False,
    "global": False,
}
"""Kinds of attention that per-layer lists name, and whether each has a window."""
NOT_SUPPORTED = {
    "recurrent": "recurrent layers",
    "indexed_attention": "sparse attention with an indexer",
    "sparse_attention": "sparse attention",
    "compressed_sparse_attention": "compressed attention",
    "heavily_compressed_attention": "compressed attention",
    "cross_attention": "cross attention",
}
"""Kinds of layers that no operator here computes."""


def windows(config: Config, kind: Windows, layers: int) -> list[int | None]:
    """Return each layer's window, `None` where it attends to the whole context. [count]

    Raises:
        SpecError: A list of kinds is malformed or names a kind that is not supported, or layers
            have a window of unknown size.
    """
    held = _windowed(config, kind, layers)
    if not any(held):
        if kind.where != "nowhere":
            config.given("window")
        return [None] * layers
    size = config.size("window", default=kind.size)
    return [size if windowed else None for windowed in held]


def _windowed(config: Config, kind: Windows, layers: int) -> list[bool]:
    listed = _listed(config, layers, kind.others)
    if kind.where == "nowhere":
        return listed or [False] * layers
    config.passes_over("max_window_layers", *kind.pattern_keys)
    if not config.flag("use_sliding_window", kind.where != "late"):
        return [False] * layers
    if kind.where == "late":
        first = config.size("max_window_layers", default=layers)
        return [layer >= first for layer in range(layers)]
    if listed is not None:
        return listed
    if kind.where == "pattern" and _has_window(config, kind):
        return _pattern(config, kind, layers)
    return [kind.where == "all" and _has_window(config, kind)] * layers


def _has_window(config: Config, kind: Windows) -> bool:
    return config.given("window") is not None or kind.size is not None or kind.required


def _listed(config: Config, layers: int, others: Sequence[str]) -> list[bool] | None:
    if not others and any(kind != 1 for kind in config.per_layer("attn_type_list", layers) or ()):
        raise config.error("attn_type_list", "0 is lightning attention, which the family lacks")
    key = config.given("layer_kinds")
    if key is not None:
        names = config.per_layer(key, layers) or ()
        return [name not in others and _is_windowed(config, key, name) for name in names]
    pattern = config.per_layer("hybrid_layer_pattern", layers)
    if pattern is None:
        return None
    if any(type(mark) is not int or mark not in (0, 1) for mark in pattern):
        raise config.error("hybrid_layer_pattern", "must be a list of 0 (full) and 1 (window)")
    return [mark == 1 for mark in pattern]


def _is_windowed(config: Config, key: str, name: object) -> bool:
    if isinstance(name, str) and name in KINDS:
        return KINDS[name]
    missing = NOT_SUPPORTED.get(name) if isinstance(name, str) else None
    if missing is None:
        raise config.error(key, f"unknown kind {name!r:.40}; known are {', '.join(KINDS)}")
    raise config.error(key, f"{name!r}: {missing}, which is not supported")


def _pattern(config: Config, kind: Windows, layers: int) -> list[bool]:
    """Return which layers have a window under a pattern: a period, or letters such as `LLLG`."""
    key = next((k for k in kind.pattern_keys if k in config), None)
    letters = config.get(key) if key else None
    if isinstance(letters, str):
        if not letters or set(letters) - {"L", "G"}:
            problem = f"must be letters L and G or a period, not {letters!r:.40}"
            raise config.error(str(key), problem)
        return [letters[layer % len(letters)] == "L" for layer in range(layers)]
    period = config.size(*kind.pattern_keys, default=kind.pattern)
    return [(layer + (not kind.full_first)) % period > 0 for layer in range(layers)]


def unrotated(
    config: Config, traits: Traits, windows_of: Sequence[int | None], layers: int
) -> list[bool]:
    """Return which layers have no rotary embedding.

    Raises:
        SpecError: A list of them is malformed.
    """
    if traits.unrotated == "full":
        some = any(window is not None for window in windows_of)
        return [some and window is None for window in windows_of]
    if traits.unrotated == "none":
        return [False] * layers
    return no_rotary(config, layers, period=4)


def no_rotary(config: Config, layers: int, *, period: int) -> list[bool]:
    """Return which layers `no_rope_layers` lists, else every `period`-th.

    Raises:
        SpecError: The list is malformed.
    """
    marks = config.per_layer("no_rope_layers", layers) if config.get("no_rope_layers") else None
    period = config.size("no_rope_layer_interval", default=period)
    if marks is None:
        return [(layer + 1) % period == 0 for layer in range(layers)]
    if any(type(mark) is not int or mark not in (0, 1) for mark in marks):
        raise config.error("no_rope_layers", "must be a list of 0 (no rotary embedding) and 1")
    return [mark == 0 for mark in marks]


def routed(config: Config, experts: Experts, layers: int) -> list[bool]:
    """Return which layers have experts, as a list of the config or its periods say.

    Raises:
        SpecError: A list or a period is malformed.
    """
    first = config.natural("dense_first", experts.dense_first)
    last = config.get("moe_layer_end_index")
    last = layers if last in (None, -1) else config.natural("moe_layer_end_index")
    dense = config.integers("mlp_only_layers")
    listed = _listed_experts(config, layers)
    if listed is not None:
        return listed
    step = config.size("moe_layer_freq", default=1)
    period = config.size(*PERIODS, default=1)
    return [
        first <= layer <= last
        and layer % step == 0
        and (layer + 1) % period == 0
        and layer not in dense
        for layer in range(layers)
    ]


PERIODS = ("decoder_sparse_step", "moe_layer_interval", "moe_layer_frequency", "moe_every_n_layers")
"""Keys for every how many layers one is routed, counted from the first layer's number 1."""


def _listed_experts(config: Config, layers: int) -> list[bool] | None:
    kinds = config.per_layer("mlp_layer_types", layers)
    if kinds is not None:
        if any(kind not in ("dense", "sparse") for kind in kinds):
            raise config.error("mlp_layer_types", "must be a list of 'dense' and 'sparse'")
        return [kind == "sparse" for kind in kinds]
    if isinstance(config.get("moe_layer_freq"), list):
        marks = config.per_layer("moe_layer_freq", layers) or []
        if any(type(mark) is not int or mark not in (0, 1) for mark in marks):
            raise config.error("moe_layer_freq", "must be a period or a list of 0 and 1")
        return [mark == 1 for mark in marks]
    for key in ("moe_layers", "moe_layers_enum"):
        if key in config:
            numbers = _numbers(config, key)
            if not all(0 <= number < layers for number in numbers):
                raise config.error(key, f"must number layers from 0 to {layers - 1}")
            return [layer in numbers for layer in range(layers)]
    return None


def _numbers(config: Config, key: str) -> list[int]:
    text = config.get(key)
    if not isinstance(text, str):
        return config.integers(key)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise config.error(key, f"must be numbers of layers with commas, not {text!r:.40}")
    return [int(part) for part in parts]
