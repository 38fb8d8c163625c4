"""Readers from a published config to blocks of operators, one per `model_type`."""

from collections.abc import Callable, Mapping
from typing import Any

from sweep.architecture import Block
from sweep.errors import SpecError
from sweep.families.bloom import read_bloom
from sweep.families.chatglm import read_chatglm
from sweep.families.config import Config
from sweep.families.deepseek import read_deepseek_v2, read_deepseek_v3
from sweep.families.gemma import read_gemma2, read_gemma3
from sweep.families.glm4_moe import read_glm4_moe
from sweep.families.gpt2 import read_gpt2
from sweep.families.gpt_oss import read_gpt_oss
from sweep.families.llama import (
    read_gemma,
    read_internlm,
    read_llama,
    read_mistral,
    read_qwen2,
)
from sweep.families.llama4 import read_llama4
from sweep.families.mixtral import read_mixtral
from sweep.families.opt import read_opt
from sweep.families.parallel import read_falcon, read_gptj
from sweep.families.qwen3 import read_qwen3, read_qwen3_moe

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
    "Yi": read_llama,
}


def read_blocks(data: Mapping[str, Any], where: str) -> tuple[Block, ...]:
    """Blocks of the model that a published config describes.

    Args:
        data: The keys of its `config.json`.
        where: What to call it in an error: its file.

    Raises:
        SpecError: The family is not supported, or a key is missing or wrong.
    """
    family = data.get("model_type")
    if family is None:
        raise SpecError(f"{where}: model_type: missing; it names the model's family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise SpecError(
            f"{where}: model_type: family {family!r} is not supported yet; "
            f"supported: {', '.join(FAMILIES)}"
        )
    return FAMILIES[family](Config(data, where))
