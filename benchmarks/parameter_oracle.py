"""Parameters counted here and by the published model code, built without weights.

It needs `transformers` and `torch`, which neither the package nor its tests do:

    python benchmarks/parameter_oracle.py [FOLDER_OF_CONFIGS ...] [--variations N] [--family NAME]

Every shipped config, every `*.json` of the folders and N random variations of each family, or of
those named, are built on PyTorch's meta device. Disagreements are listed; a table counts outcomes.
"""

import argparse
import json
import logging
import random
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from state_variations import CLASS_NAMES, fitted
from transformers import AutoConfig, AutoModelForCausalLM

from sweep.errors import SpecError
from sweep.kernel.operator_table import tensors
from sweep.models.family_names import SAME_AS
from sweep.models.family_table import FAMILIES
from sweep.models.left_out import text_part
from sweep.models.read import read_blocks
from sweep.models.spellings import spellings
from sweep.specs.catalog import Catalog

OUTCOMES = ("same", "not built", "refused", "DIFFERS")
NOT_OF_THE_MODEL = {"quantization_config", "auto_map", "architectures", "transformers_version"}
LISTED = {"gemma3", "llama4", "mimo_v2_flash", "mllama", "step3p5"}
"""Families whose published configs list their layers, or are nested: no flat variation is one."""
THERE = {"minimax_m3": "minimax_m3_vl_text"}
"""Names of the published code for families that it calls otherwise."""
KINDS = {
    "layer_types": [
        "sliding_attention",
        "compressed_sparse_attention",
        "heavily_compressed_attention",
    ],
    "mlp_layer_types": ["hash_moe", "moe"],
}
"""Kinds of layers to draw for families that compress."""
SIZES: dict[str, list[int]] = {
    "hidden_size": [256, 512, 768],
    "ffn_size": [128, 320, 1024],
    "layers": [1, 4, 6],
    "heads": [8, 16],
    "kv_heads": [1, 2, 8],
    "head_dim": [16, 32, 64],
    "vocab_size": [512, 4096],
    "positions": [64, 256],
    "window": [48],
    "q_lora_rank": [24, 48],
    "kv_lora_rank": [32],
    "qk_nope_head_dim": [16, 32],
    "qk_rope_head_dim": [8],
    "v_head_dim": [16, 24],
    "experts": [4, 8],
    "experts_per_token": [1, 2],
    "expert_size": [32, 96],
    "shared_size": [64, 160],
    "shared_experts": [1, 2],
    "dense_first": [0, 1],
    "decoder_sparse_step": [1, 2],
    "index_n_heads": [2, 4],
    "index_head_dim": [16, 32],
    "index_topk": [8],
    "hc_mult": [2, 4],
    "o_groups": [2, 4],
    "o_lora_rank": [8, 16],
    "num_kv_shared_layers": [0, 1, 2],
    "altup_num_inputs": [2, 4],
    "laurel_rank": [8],
    "hidden_size_per_layer_input": [16, 24],
    "vocab_size_per_layer_input": [300],
    "top_k_experts": [1, 2],
}
"""Fact or key → values to draw."""
FLAGS = (
    *("tie_word_embeddings", "attention_bias", "mlp_bias", "use_bias", "use_qkv_bias"),
    *("use_qk_norm", "qk_layernorm", "use_parallel_residual", "lm_head_bias"),
    *("attention_k_eq_v", "use_double_wide_mlp", "enable_moe_block"),
)


def counted_here(config: dict[str, Any]) -> int:
    """Parameters of the text decoder by this package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blocks = read_blocks(config, "config")
    return sum(int(block.count) * tensor.elements for block, tensor in tensors(blocks))


def counted_there(config: dict[str, Any]) -> tuple[int, int]:
    """Parameters by the published code, and elements of the router biases it keeps aside."""
    keys = {k: v for k, v in config.items() if k not in NOT_OF_THE_MODEL and k != "model_type"}
    keys["_attn_implementation"] = "eager"
    built = AutoConfig.for_model(THERE.get(config["model_type"], config["model_type"]), **keys)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(built)
    biases = ("e_score_correction_bias", "expert_bias")
    aside = (b.numel() for name, b in model.named_buffers() if name.endswith(biases))
    return sum(p.numel() for p in model.parameters()), sum(aside)


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """The text decoder's keys, under a name that the published code knows too."""
    part = text_part(config)
    keys = dict(part.data)
    name = keys.get("model_type") or config["model_type"]
    known = FAMILIES.keys() & {SAME_AS.get(name, name)}
    known = {CLASS_NAMES.get(family, family) for family in known}
    tied = (part.outer or {}).get("tie_word_embeddings")
    return {
        **({} if tied is None else {"tie_word_embeddings": tied}),
        **keys,
        "model_type": known.pop() if known else name,
    }


def variations(families: list[str], number: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Random sizes and flags for each family whose class the published code has."""
    for family in families:
        draw = random.Random(f"{seed} {family}")
        try:
            name = CLASS_NAMES.get(family, family)
            default = AutoConfig.for_model(name).to_dict()
        except (ValueError, KeyError):
            continue
        for index in range(number):
            keys = {
                spelled: draw.choice(values)
                for fact, values in SIZES.items()
                for spelled in spellings(fact)
                if spelled in default
            }
            keys |= {key: draw.random() < 0.5 for key in FLAGS if key in default}
            if "compress_rates" in default:
                keys |= {"num_key_value_heads": 1, "n_shared_experts": 1}
                keys |= {
                    kind: draw.choices(names, k=keys["num_hidden_layers"])
                    for kind, names in KINDS.items()
                }
            if "kv_lora_rank" in keys or "index_topk" in keys:
                keys |= {key: False for key in ("attention_bias", "mlp_bias") if key in keys}
            keys = fitted(family, keys, draw)
            yield f"{family} {index}", {"model_type": name, "pad_token_id": 0, **keys}


def configs(folders: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Shipped configs, and those of the folders."""
    catalog = Catalog()
    for name in catalog.paths("models"):
        yield name, catalog.model(name).config
    for folder in folders:
        for path in sorted(Path(folder).glob("*.json")):
            yield path.name, json.loads(path.read_text("utf-8"))


def compare(config: dict[str, Any]) -> str:
    """`same`, or what differs."""
    try:
        there, aside = counted_there(flat(config))
    except Exception as error:  # whatever the published code raises at sizes it cannot have
        return f"not built: {type(error).__name__}: {str(error).splitlines()[0]:.60}"
    try:
        here = counted_here(config)
    except SpecError as error:
        return f"refused: {error}"
    return "same" if here in (there, there + aside) else f"DIFFERS: {here:,} here, {there:,} there"


def main() -> int:
    """Print every disagreement; the exit status is 1 if a count differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--variations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", action="append", help="only variations of these")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    named, outcomes = arguments.family, defaultdict[str, Counter[str]](Counter)
    families = named or sorted(FAMILIES.keys() - LISTED)
    drawn = variations(families, arguments.variations, arguments.seed)
    for name, config in drawn if named else chain(configs(arguments.folders), drawn):
        family, number = name.partition(" ")[::2]
        outcome = compare(config)
        outcomes[family if number else "configs"][outcome.partition(":")[0]] += 1
        if outcome != "same":
            print(f"{name:45s} {outcome}", file=sys.stderr)
    print(f"{'':<25}" + "".join(f"{kind:>10}" for kind in OUTCOMES))
    for family, counts in outcomes.items():
        print(f"{family:<25}" + "".join(f"{counts[kind]:>10}" for kind in OUTCOMES))
    return int(any(counts["DIFFERS"] for counts in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
