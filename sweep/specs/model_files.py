"""Reads the published files of a model: `config.json`, Mistral's `params.json`, or their folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.errors import SpecError
from sweep.specs.files import read_mapping

CONFIGS = ("config.json", "params.json")
"""Files of a folder that describe a model, the first that exists counts."""
QUANTISATION = "hf_quant_config.json"
"""File of a folder in which ModelOpt describes the quantisation."""
OF_QUANTISATION = ("quantization_config", "compression_config")
"""Keys of a config that do so instead."""
RENAMED = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "tied_embeddings": "tie_word_embeddings",
    "max_seq_len": "max_position_embeddings",
    "vision_encoder": "vision_config",
}
"""Keys of `params.json`, and those of a `config.json` that mean the same."""
OF_EXPERTS = {
    "num_experts": "num_local_experts",
    "num_experts_per_tok": "num_experts_per_tok",
}
"""Keys of its section `moe`, as Mixtral's config spells them."""
OF_LATENT_EXPERTS = {
    "num_experts": "n_routed_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "expert_hidden_dim": "moe_intermediate_size",
    "num_shared_experts": "n_shared_experts",
    "first_k_dense_replace": "first_k_dense_replace",
    "route_every_n": "moe_layer_freq",
    "routed_scale": "routed_scaling_factor",
    "num_expert_groups": "n_group",
    "num_expert_groups_per_tok": "topk_group",
}
"""The same as DeepSeek's config spells them, whose layers Mistral Large 3 has."""
OF_ARITHMETIC = ("yarn", "llama_4_scaling", "causal", "max_batch_size")
"""Keys of `params.json` that change no size."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder contains a model's config."""
    return any((path / name).is_file() for name in CONFIGS)


def read_model_file(path: Path) -> dict[str, Any]:
    """Read a model's config, in the keys of a `config.json`.

    A quantisation that another file of the folder describes is added as `quantization_config`.

    Args:
        path: A file, or a folder with one of `CONFIGS`.

    Raises:
        SpecError: There is none, or it cannot be read.
    """
    if path.is_dir():
        name = next((name for name in CONFIGS if (path / name).is_file()), None)
        if name is None:
            raise SpecError(f"{path}: a folder without {' or '.join(CONFIGS)}")
        path = path / name
    data = read_mapping(path)
    if "config" in data:
        return data
    if "dim" in data and "n_layers" in data and "model_type" not in data:
        data = _from_params(data, path)
    beside = path.parent / QUANTISATION
    stated = any(data.get(key) for key in OF_QUANTISATION)
    if path.name in CONFIGS and not stated and beside.is_file():
        data = {**data, OF_QUANTISATION[0]: read_mapping(beside)}
    return data


def is_quantised(config: Mapping[str, Any]) -> bool:
    """Whether a config, or its part for text, says how quantised weights are stored."""
    sections = (config, *(part for part in config.values() if isinstance(part, Mapping)))
    return any(section.get(key) for section in sections for key in OF_QUANTISATION)


def name_of_file(path: Path) -> str:
    """Name of the model in a file or folder: that of the folder where the file's says nothing."""
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and path.name not in CONFIGS:
        return path.stem
    whole = folder.resolve()
    if whole.parent.name == "snapshots":
        # The cache of Hugging Face: models--ORGANISATION--NAME/snapshots/COMMIT.
        return whole.parent.parent.name.rpartition("--")[2]
    return folder.name or whole.name or "config"


def _from_params(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A `params.json` in the keys of a `config.json`; keys without a counterpart stay."""
    moe, latent = data.get("moe"), "kv_lora_rank" in data
    if not isinstance(moe, Mapping | None):
        raise SpecError(f"{path}: moe: must be a mapping, not {moe!r:.40}")
    if isinstance(data.get("sliding_window"), list):
        raise SpecError(f"{path}: sliding_window: a list of windows is not supported")
    dropped = (*OF_ARITHMETIC, "moe", "quantization")
    found = {RENAMED.get(key, key): data[key] for key in data if key not in dropped}
    family = "mistral"
    if moe:
        names = OF_LATENT_EXPERTS if latent else OF_EXPERTS
        # Settings of the training run, with no counterpart.
        kept = {key: moe[key] for key in moe if "parallel" not in key}
        found |= {names.get(key, key): value for key, value in kept.items()}
        family = "mixtral"
    if latent:
        family = "deepseek_v2"
    quantisation = data.get("quantization")
    if quantisation:
        found[OF_QUANTISATION[0]] = _quantisation(quantisation)
    return {"model_type": family, "tie_word_embeddings": False, **found}


def _quantisation(data: Any) -> Any:
    """The section `quantization` of a `params.json` as a `quantization_config`."""
    if isinstance(data, Mapping) and data.get("qformat_weight") == "fp8_e4m3":
        static = data.get("qscheme_act") == "TENSOR"
        return {"quant_method": "fp8", "activation_scheme": "static" if static else "dynamic"}
    return data
