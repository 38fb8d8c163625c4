"""Reads the blocks of a model from its published config."""

import warnings
from collections.abc import Mapping
from typing import Any

from sweep.errors import SpecError, SpecWarning
from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.family_names import SAME_AS
from sweep.models.family_table import FAMILIES
from sweep.models.left_out import TextPart, left_out, text_part
from sweep.models.next_tokens import with_next_tokens
from sweep.models.unread_keys import GATED_ACTIVATIONS, UNLIKE, doubtful, telling
from sweep.models.unsupported import unsupported
from sweep.specs.model import ModelSpec

GUESSES = (
    *("llama", "mistral", "mixtral", "qwen3_moe", "glm4_moe", "deepseek_v2", "deepseek_v3"),
    *("granitemoe", "qwen2_moe", "hy_v3", "minimax_m2"),
)
"""Families that a config of an unknown name may be read as, the plainest first."""


def read_model(spec: ModelSpec) -> tuple[Block, ...]:
    """Read the blocks of a model; one with a published size is known, so nothing is warned of.

    Raises:
        SpecError: A key is missing or wrong, or says something that is not supported.
    """
    return _read(spec.config, spec.where, quiet=spec.published is not None, mtp=spec.mtp)


def read_blocks(data: Mapping[str, Any], where: str) -> tuple[Block, ...]:
    """Read the blocks of the model that a published config describes.

    A config of an unknown family is read as the plainest family that understands all its keys,
    with a warning that names it. Another warning says what is left out: towers for images and
    sound, layers that predict further tokens.

    Args:
        data: The keys of its `config.json`.
        where: Name of the config in an error: its file.

    Raises:
        SpecError: A key is missing or wrong, or says something that is not supported.
    """
    return _read(data, where, quiet=False)


def family_of(name: object) -> str | None:
    """Return the family that reads configs of a `model_type`, `None` if there is none."""
    if not isinstance(name, str):
        return None
    family = SAME_AS.get(name, name)
    return family if family in FAMILIES else None


def is_supported(data: Mapping[str, Any]) -> bool:
    """Whether some family reads configs of this `model_type`, or of its text part's."""
    text = text_part(data)
    names = [part.get("model_type") for part in (text.data, text.outer or {}, data)]
    return any(family_of(name) for name in names)


def _read(
    data: Mapping[str, Any], where: str, *, quiet: bool, mtp: bool = False
) -> tuple[Block, ...]:
    text = text_part(data, where)
    name = _name(data, text, where)
    inside = f"{where}: {text.path}" if text.path else where
    config = Config(text.data, inside, text.outer)
    missing = unsupported(family_of(name) or name, text.data)
    if missing is not None:
        key, structure = missing
        raise SpecError(f"{inside}: {key}: {structure}, which is not supported")
    notes = []
    family = family_of(name)
    if family is None:
        blocks, family = _read_unknown(name, text, inside)
        notes.append(f"model_type {name!r} is not known; read as {family!r}")
    else:
        blocks = FAMILIES[family](config)
        notes += _unused(config, family)
        if text.path and family_of(data.get("model_type")) is None:
            outer = data.get("model_type")
            notes.append(f"model_type {outer!r}: its text part is read, as {family!r}")
    if mtp:
        blocks = with_next_tokens(config, blocks, family, where)
    parts = left_out(data, text.data, next_tokens=not mtp)
    if parts:
        notes.append(f"left out: {', '.join(parts)}")
    if notes and not quiet:
        warnings.warn(f"{where}: {'; '.join(notes)}", SpecWarning, stacklevel=3)
    return blocks


def _name(data: Mapping[str, Any], text: TextPart, where: str) -> str:
    """Return the family name of the text part: its own, or that of the config that holds it."""
    names = [part.get("model_type") for part in (text.data, text.outer or {}, data)]
    names.append(data.get("_class_name"))
    found = next((name for name in names if family_of(name)), None)
    name = found or next((name for name in names if name is not None), None)
    if name is None:
        raise SpecError(f"{where}: model_type: missing; it names the model's family")
    if not isinstance(name, str):
        raise SpecError(f"{where}: model_type: must be text, not {name!r:.40}")
    return name


def _unused(config: Config, family: str) -> list[str]:
    """Say which keys were not used.

    Raises:
        SpecError: One of them speaks of a part of the model.
    """
    left = config.unread()
    parts = telling(left)
    if parts:
        raise config.error(", ".join(parts), f"a part that family {family!r} does not have")
    return [f"{', '.join(left)}: not read; the size is counted without"] if left else []


def _read_unknown(name: str, text: TextPart, where: str) -> tuple[tuple[Block, ...], str]:
    """Read a config as the plainest family that understands all its keys."""
    data = text.data
    refusal = f"{where}: model_type: family {name!r} is not supported: "
    if name in UNLIKE:
        raise SpecError(f"{refusal}its layers have parts that its keys do not show")
    activation = data.get("hidden_act", data.get("hidden_activation"))
    if activation not in (None, *GATED_ACTIVATIONS):
        raise SpecError(
            f"{refusal}hidden_act: {activation!r:.40} does not show whether the feed-forward is "
            f"gated; known to be are {', '.join(GATED_ACTIVATIONS)}"
        )
    hints = doubtful(data.items())
    if hints:
        raise SpecError(f"{refusal}{', '.join(hints)}: unlike the layers of any known family")
    reasons: list[tuple[int, str]] = []
    for family in GUESSES:
        config = Config(data, where, text.outer)
        try:
            blocks = FAMILIES[family](config)
        except SpecError as error:
            reasons.append((len(data), str(error).removeprefix(f"{where}: ")))
            continue
        left = config.unread()
        if not left:
            return blocks, family
        reasons.append((len(left), f"no family has all of its keys: {', '.join(left)}"))
    raise SpecError(f"{refusal}{min(reasons)[1]}; 'llm-sweep list models' shows what is")
