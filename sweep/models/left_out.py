"""Finds the text part of a config and says what is left out beside it, with its size."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweep.errors import SpecError
from sweep.models.spellings import spellings

TEXT_SECTIONS = (
    *("text_config", "llm_config", "language_config", "thinker_config", "text_model_config"),
    *("language_model", "llm", "text_model"),
)
"""Keys that hold the config of the text part."""
TOWERS = {
    "vision_config": "vision tower",
    "visual": "vision tower",
    "img_processor": "vision tower",
    "vit_config": "vision tower",
    "audio_config": "audio tower",
    "talker_config": "talker",
    "token2wav_config": "speech decoder",
    "code2wav_config": "speech decoder",
    "dit_config": "diffusion head",
}
"""Keys that hold the config of a part beside the text decoder."""


@dataclass(frozen=True)
class TextPart:
    """The text decoder of a config.

    Attributes:
        data: Its keys.
        path: Keys that lead to it, with colons; empty for the config itself.
        outer: The config that holds it.
    """

    data: Mapping[str, Any]
    path: str = ""
    outer: Mapping[str, Any] | None = None


def text_part(data: Mapping[str, Any], where: str = "") -> TextPart:
    """Find the text decoder of a config that may also hold vision, audio or speech.

    Raises:
        SpecError: The section of the text part is no mapping.
    """
    for key in TEXT_SECTIONS:
        if key.endswith("config") and not isinstance(data.get(key), Mapping | None):
            raise SpecError(f"{where}: {key}: must be a mapping, not {data[key]!r:.40}")
    part = TextPart(data)
    section = _section(data)
    while section is not None:
        path = f"{part.path}: {section}" if part.path else section
        part = TextPart(part.data[section], path, part.data)
        section = _section(part.data)
    return part


def _section(data: Mapping[str, Any]) -> str | None:
    if any(key in data for key in spellings("layers")) and "hidden_size" in data:
        return None
    return next((k for k in TEXT_SECTIONS if isinstance(data.get(k), Mapping) and data[k]), None)


def left_out(
    data: Mapping[str, Any], text: Mapping[str, Any], *, next_tokens: bool = True
) -> list[str]:
    """Describe the parts of a config that are not counted: towers, and layers for extra tokens.

    Args:
        data: The config.
        text: Its text part.
        next_tokens: Whether layers for extra tokens are left out.
    """
    found = [*_towers(data), *_crossing(text)]
    layers = _first(text, *spellings("extra_tokens"))
    if layers and next_tokens:
        found.append(f"multi-token prediction ({_layers(layers)}, each as large as the last one)")
    return found


def _towers(data: Mapping[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        if key in TOWERS and value:
            yield TOWERS[key] + (_tower_size(value) if isinstance(value, Mapping) else "")
        elif key == "thinker_config" and isinstance(value, Mapping):
            yield from _towers(value)


def _crossing(text: Mapping[str, Any]) -> Iterator[str]:
    """Describe the work of layers that attend to images; their weights are counted."""
    layers = text.get("cross_attention_layers")
    if isinstance(layers, list) and layers:
        width, ffn = _first(text, "hidden_size"), _first(text, "intermediate_size")
        heads, kv_heads = (_first(text, *spellings(fact)) for fact in ("heads", "kv_heads"))
        attention = 2 * width * width * (1 + kv_heads / max(heads, 1))
        billions = len(layers) * (attention + 3 * width * ffn) / 1e9
        yield (
            f"work of cross attention ({_layers(len(layers))} with about {billions:.2g} billion "
            "parameters, which are counted and take memory; without images they are skipped)"
        )


def _tower_size(config: Mapping[str, Any]) -> str:
    """Return the layers and width of a tower, and its layers' matrices as parameters."""
    layers = _first(config, "num_hidden_layers", "depth", "layers", "encoder_layers", "num_layers")
    width = _first(config, "hidden_size", "embed_dim", "width", "d_model")
    if not layers or not width:
        return ""
    ffn = _first(config, "intermediate_size", "encoder_ffn_dim", "mlp_hidden_dim") or 4 * width
    parameters = layers * (4 * width * width + 2 * width * ffn)
    return f" ({_layers(layers)} of {width}, about {parameters / 1e9:.2g} billion parameters)"


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count > 1 else ''}"


def _first(config: Mapping[str, Any], *keys: str) -> int:
    """Return the first positive integer under one of `keys`, else 0."""
    values = (config.get(key) for key in keys)
    return next((value for value in values if type(value) is int and value > 0), 0)
