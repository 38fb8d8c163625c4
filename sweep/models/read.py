"""Readers from a published config to blocks of operators, one per `model_type`."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from sweep.errors import SpecError, SpecWarning
from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.families.bloom import read_bloom
from sweep.models.families.chatglm import read_chatglm
from sweep.models.families.deepseek import read_deepseek_v2, read_deepseek_v3
from sweep.models.families.falcon_gptj import read_falcon, read_gptj
from sweep.models.families.gemma import read_gemma2, read_gemma3
from sweep.models.families.glm4_moe import read_glm4_moe
from sweep.models.families.gpt2 import read_gpt2
from sweep.models.families.gpt_oss import read_gpt_oss
from sweep.models.families.llama import (
    read_gemma,
    read_internlm,
    read_llama,
    read_mistral,
    read_qwen2,
)
from sweep.models.families.llama4 import read_llama4
from sweep.models.families.mixtral import read_mixtral
from sweep.models.families.opt import read_opt
from sweep.models.families.qwen3 import read_qwen3, read_qwen3_moe
from sweep.models.unread_keys import GATED_ACTIVATIONS, UNLIKE, telling

FAMILIES: dict[str, Callable[[Config], tuple[Block, ...]]] = {
    "bloom": read_bloom,
    "chatglm": read_chatglm,
    "deepseek_v2": read_deepseek_v2,
    "deepseek_v3": read_deepseek_v3,
    "falcon": read_falcon,
    "gemma": read_gemma,
    "gemma2": read_gemma2,
    "gemma3": read_gemma3,
    "gemma3_text": read_gemma3,
    "glm4_moe": read_glm4_moe,
    "gpt2": read_gpt2,
    "gpt_oss": read_gpt_oss,
    "gptj": read_gptj,
    "internlm": read_internlm,
    "internlm2": read_internlm,
    "kimi_k2": read_deepseek_v3,
    "llama": read_llama,
    "llama4": read_llama4,
    "llama4_text": read_llama4,
    "mistral": read_mistral,
    "mixtral": read_mixtral,
    "opt": read_opt,
    "phi3": read_mistral,
    "qwen2": read_qwen2,
    "qwen3": read_qwen3,
    "qwen3_moe": read_qwen3_moe,
    "seed_oss": read_llama,
    "Yi": read_llama,
}


GUESSES = ("llama", "mistral", "mixtral", "qwen3_moe", "glm4_moe", "deepseek_v2", "deepseek_v3")
"""Families that a config of another name may be read as, the plainest first."""


def read_blocks(data: Mapping[str, Any], where: str) -> tuple[Block, ...]:
    """Blocks of the model that a published config describes.

    A config of an unknown family is read as the plainest family that understands all its keys,
    with a warning that names it.

    Args:
        data: The keys of its `config.json`.
        where: What to call it in an error: its file.

    Raises:
        SpecError: A key is missing or wrong, or speaks of a part that is not supported.
    """
    family = data.get("model_type")
    if family is None:
        raise SpecError(f"{where}: model_type: missing; it names the model's family")
    if not isinstance(family, str):
        raise SpecError(f"{where}: model_type: must be text, not {family!r:.40}")
    if family in FAMILIES:
        return _read_known(family, Config(data, where))
    text = data.get("text_config")
    if isinstance(text, Mapping) and text.get("model_type") in FAMILIES:
        _warn(f"{where}: model_type {family!r}: its text part is read, as {text['model_type']!r}")
        return _read_known(str(text["model_type"]), Config(text, f"{where}: text_config"))
    return _read_unknown(family, data, where)


def _read_known(family: str, config: Config) -> tuple[Block, ...]:
    blocks = FAMILIES[family](config)
    left = config.unread()
    parts = telling(left)
    if parts:
        raise config.error(", ".join(parts), f"a part that family {family!r} does not have")
    if left:
        _warn(f"{config.where}: {', '.join(left)}: not read; the size is counted without")
    return blocks


def _read_unknown(family: str, data: Mapping[str, Any], where: str) -> tuple[Block, ...]:
    refusal = f"{where}: model_type: family {family!r} is not supported: "
    if family in UNLIKE:
        raise SpecError(refusal + "its layers differ from Llama's by more than its keys say")
    activation = data.get("hidden_act", data.get("hidden_activation"))
    if activation not in (None, *GATED_ACTIVATIONS):
        raise SpecError(
            f"{refusal}hidden_act: {activation!r} does not distinguish a gated feed-forward "
            f"from a plain one; gated are {', '.join(GATED_ACTIVATIONS)}"
        )
    reasons: list[tuple[int, str]] = []
    for guess in GUESSES:
        config = Config(data, where)
        try:
            blocks = FAMILIES[guess](config)
        except SpecError as error:
            reasons.append((len(data), str(error).removeprefix(f"{where}: ")))
            continue
        left = config.unread()
        if not left:
            _warn(f"{where}: model_type {family!r} is not known; read as {guess!r}")
            return blocks
        reasons.append((len(left), f"no family has all of its keys: {', '.join(left)}"))
    raise SpecError(f"{refusal}{min(reasons)[1]}; supported: {', '.join(FAMILIES)}")


def _warn(message: str) -> None:
    warnings.warn(message, SpecWarning, stacklevel=3)
