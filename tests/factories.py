"""Small specifications and points for tests; every size that a test counts on stands here."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from sweep.evaluation.compiled_parts import in_parts
from sweep.evaluation.numpy_cell import Traced
from sweep.evaluation.single_cell import cell
from sweep.grid.grid import Grid
from sweep.kernel.block import Block
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.models.read import read_blocks
from sweep.runs.run import run
from sweep.schema.variables import COMPUTED, VARIABLES
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import PrecisionSpec

LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
PLAIN_GPT = {"n_embd": 64, "n_head": 8, "n_layer": 3, "vocab_size": 512}
FALCON = {"hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 3, "vocab_size": 512}
SHARED = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
LATENT = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "vocab_size": 512,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    **SHARED,
}
INDEXER = {"index_n_heads": 4, "index_head_dim": 16, "index_topk": 10}
LLAMA4 = LLAMA | {
    "num_hidden_layers": 4,
    "head_dim": 16,
    "num_local_experts": 8,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2,
    "intermediate_size_mlp": 96,
    "attention_chunk_size": 48,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 64, "n_head": 8, "n_layer": 3, "vocab_size": 512},
    "chatglm": {
        "hidden_size": 64,
        "ffn_hidden_size": 160,
        "num_layers": 3,
        "num_attention_heads": 8,
        "padded_vocab_size": 512,
        "kv_channels": 8,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "add_qkv_bias": True,
    },
    "falcon": FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gemma": LLAMA | {"head_dim": 16},
    "gemma2": LLAMA | {"head_dim": 16, "num_hidden_layers": 4, "sliding_window": 48},
    "gemma3": {
        "text_config": LLAMA | {"head_dim": 16, "num_hidden_layers": 7, "sliding_window": 48}
    },
    "gemma3_text": LLAMA | {"head_dim": 16, "num_hidden_layers": 7, "sliding_window": 48},
    "gpt2": PLAIN_GPT | {"n_positions": 1024},
    "gptj": PLAIN_GPT | {"rotary_dim": 4},
    "internlm": LLAMA,
    "internlm2": LLAMA | {"bias": False},
    "llama": LLAMA,
    "mistral": LLAMA | {"sliding_window": 48},
    "mixtral": LLAMA | {"num_local_experts": 8, "num_experts_per_tok": 2},
    "opt": {
        "hidden_size": 64,
        "ffn_dim": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "vocab_size": 512,
        "max_position_embeddings": 1024,
        "word_embed_proj_dim": 32,
    },
    "deepseek_v2": LATENT | {"first_k_dense_replace": 1, "q_lora_rank": None},
    "deepseek_v3": LATENT | {"first_k_dense_replace": 1, "q_lora_rank": 24},
    "glm4_moe": LLAMA | SHARED | {"head_dim": 16, "attention_bias": True, "use_qk_norm": True},
    "gpt_oss": LLAMA | {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 48},
    "kimi_k2": LATENT | {"first_k_dense_replace": 1, "q_lora_rank": 24},
    "llama4": {"text_config": LLAMA4},
    "llama4_text": LLAMA4,
    "qwen3_moe": LLAMA
    | {
        "head_dim": 16,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "decoder_sparse_step": 1,
    },
    "phi3": LLAMA | {"sliding_window": 48},
    "qwen2": LLAMA | {"sliding_window": 48, "max_window_layers": 2, "use_sliding_window": True},
    "qwen3": LLAMA | {"head_dim": 16},
    "seed_oss": LLAMA | {"attention_bias": True, "attention_out_bias": False},
    "Yi": LLAMA,
    "afmoe": LLAMA
    | {
        "head_dim": 16,
        "sliding_window": 48,
        "global_attn_every_n_layers": 3,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "moe_intermediate_size": 32,
        "num_dense_layers": 1,
    },
    "apertus": LLAMA,
    "bitnet": LLAMA,
    "mimo_v2_flash": LLAMA
    | {
        "head_dim": 24,
        "v_head_dim": 16,
        "sliding_window": 48,
        "hybrid_layer_pattern": [0, 1, 1],
        "moe_layer_freq": [0, 1, 1],
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
    "deepseek_v32": LATENT | {"q_lora_rank": 24} | INDEXER,
    "deepseek_v4": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 24,
        "vocab_size": 512,
        "q_lora_rank": 24,
        "qk_rope_head_dim": 8,
        "o_groups": 4,
        "o_lora_rank": 6,
        "hc_mult": 2,
        "sliding_window": 16,
        "compress_ratios": [128, 4, 0, 4],
        "num_hash_layers": 1,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_shared_experts": 1,
        **INDEXER,
    },
    "minimax_m3": LLAMA
    | {
        "head_dim": 16,
        "rotary_dim": 8,
        "intermediate_size": 32,
        "dense_intermediate_size": 160,
        "shared_intermediate_size": 48,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "moe_layer_freq": [0, 1, 1],
        "sparse_attention_config": {
            "use_sparse_attention": True,
            "sparse_index_dim": 16,
            "sparse_num_index_heads": 2,
            "sparse_block_size": 4,
            "sparse_topk_blocks": 3,
            "sparse_local_block": 1,
            "sparse_attention_freq": [0, 1, 1],
        },
    },
    "olmo2": LLAMA,
    "qwen2_moe": LLAMA
    | {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 96,
    },
}
"""A tiny model of every structure, with the keys its published configs have."""

PEAKS = {
    "fp32": 5e13,
    "tf32": 1e14,
    "fp16": 4e14,
    "bf16": 3e14,
    "fp8": 8e14,
    "int8": 7e14,
    "fp4": 1.6e15,
}


def config(family: str = "llama", **changes: Any) -> dict[str, Any]:
    """The tiny config of a family with some keys replaced; `None` takes a key out."""
    keys = {"model_type": family, **CONFIGS[family], **changes}
    # A rank of null says that queries are not compressed; elsewhere `None` takes a key out.
    kept = ("q_lora_rank",)
    return {key: value for key, value in keys.items() if value is not None or key in kept}


def model(family: str = "llama", **changes: Any) -> ModelSpec:
    return ModelSpec(name=f"tiny-{family}", config=config(family, **changes))


def blocks(family: str = "llama", **changes: Any) -> tuple[Block, ...]:
    return read_blocks(config(family, **changes), family)


@cache
def covering() -> tuple[str, ...]:
    """Families that together run every operator that some family of `CONFIGS` runs."""
    runs = {name: {op for block in blocks(name) for op in block.operators} for name in CONFIGS}
    left, chosen = set().union(*runs.values()), []
    while left:
        chosen.append(max(runs, key=lambda name: len(runs[name] & left)))
        left -= runs[chosen[-1]]
    return tuple(chosen)


def all_families() -> list[Any]:
    """Every family of `CONFIGS`; those beyond `covering` only in campaigns."""
    few = set(covering())
    return [n if n in few else pytest.param(n, marks=pytest.mark.campaign) for n in CONFIGS]


def hardware(**changes: Any) -> HardwareSpec:
    """An accelerator with every figure stated."""
    figures: dict[str, Any] = {
        "name": "toy",
        "peak_flops_per_s": PEAKS,
        "vector_flops_per_s": 5e13,
        "special_function_ops_per_s": 4e12,
        "memory_bytes": 8e10,
        "memory_bandwidth_bytes_per_s": 2e12,
        "on_chip_cache_bytes": 5e7,
        "link_bandwidth_bytes_per_s": 3e11,
        "network_bandwidth_bytes_per_s": 2e10,
        "pcie_bandwidth_bytes_per_s": 6e10,
        "tdp_w": 700.0,
    }
    return HardwareSpec(**(figures | changes))


def precision(dtype: str = "fp16", **changes: Any) -> PrecisionSpec:
    """Everything in one type, with some fields replaced."""
    uses = ("weight_dtype", "activation_dtype", "hidden_dtype", "kv_dtype", "head_dtype")
    return PrecisionSpec(**({"name": "toy", **dict.fromkeys(uses, dtype)} | changes))


@cache
def shipped() -> Catalog:
    return Catalog()


def shipped_model(name: str) -> ModelSpec:
    return shipped().model(name)


TOY = hardware()
UNEVEN: dict[str, Any] = {
    "models": [
        model("llama"),
        model("gptj"),
        model("llama", num_hidden_layers=5).model_copy(update={"name": "deeper"}),
    ],
    "hardware": [hardware(name="one"), hardware(name="two", memory_bandwidth_bytes_per_s=4e12)],
    "precision": [precision()],
    "tp": [1, 2],
    "batch_size": [1, 8, 64, 200, 300],
    "isl": [128, 1000, 3000],
    "osl": [10, 100],
}
"""Keys of a grid that cuts evenly along few of its axes."""
FP16 = precision()


def point(
    model: ModelSpec | tuple[Block, ...],
    hardware: HardwareSpec = TOY,
    precision: PrecisionSpec = FP16,
    **numbers: float | str,
) -> Point:
    """`cell` of a model or its blocks, with one request on one GPU unless given."""
    if isinstance(model, ModelSpec):
        model = read_blocks(model.config, model.name)
    return cell(model, hardware, precision, {"tp": 1, "batch_size": 1, **numbers})


def price(
    names: tuple[str, ...],
    model: ModelSpec | tuple[Block, ...],
    hardware: HardwareSpec = TOY,
    precision: PrecisionSpec = FP16,
    *,
    keep_infeasible: bool = False,
    **numbers: float,
) -> dict[str, np.ndarray]:
    """Variables of one request in float64, outside any grid; traced once per structure."""
    with jax.enable_x64(True):
        where = point(model, hardware, precision, **numbers)
        return _traced(names, keep_infeasible, _Structure(where))(where)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, compiled part by part, which takes less time if it is a large one."""
    return jax.jit(in_parts(function))


def evaluated(function: Callable[[Any], Any], where: Any) -> Any:
    """Results of a function at a point in float64, by NumPy; traced once per structure.

    Compiling it takes longer, unless it is evaluated dozens of times.
    """
    with jax.enable_x64(True):
        return _traced_function(function, _Structure(where))(where)


@cache
def _traced_function(function: Callable[[Any], Any], like: "_Structure") -> Traced:
    return Traced(function, like.where)


class _Structure:
    """A point, equal to all others of its structure."""

    def __init__(self, where: Any) -> None:
        leaves, tree = jax.tree.flatten(where)
        kinds = ((type(leaf), np.shape(leaf), np.asarray(leaf).dtype) for leaf in leaves)
        self.where, self.key = where, (tree, *kinds)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Structure) and self.key == other.key


@cache
def _traced(names: tuple[str, ...], keep_infeasible: bool, like: _Structure) -> Traced:
    def variables(where: Point) -> dict[str, jax.Array]:
        request = Request(where, keep_infeasible=keep_infeasible)
        return {name: jnp.asarray(getattr(request, name)) for name in names}

    return Traced(variables, like.where)


NUDGE = 1e-5
"""Relative change of rates and memory within which a category may tip over in float32."""
WIDE_MODELS = ("gemma-2-27b", "mixtral-8x7b")
WIDE_MACHINES = ("h100-sxm-80gb", "a10g")
OF_IMAGES = tuple(name for name in COMPUTED if "image_size" in VARIABLES[name].dims)
OF_TEXT = tuple(name for name in COMPUTED if name not in OF_IMAGES)
FOOTPRINT = tuple(name for name, variable in VARIABLES.items() if "longest" in variable.dims)


def nudged(name: str, factor: float) -> HardwareSpec:
    """A shipped accelerator with bandwidth, link and memory a little off, peaks as they are."""
    spec = shipped().hardware(name)
    rates = ("memory_bandwidth_bytes_per_s", "link_bandwidth_bytes_per_s")
    fields = (*rates, "memory_bytes", "usable_memory_bytes")
    changes = {f: getattr(spec, f) * factor for f in fields if getattr(spec, f) is not None}
    return spec.model_copy(update={"name": f"{name} x {factor}", **changes})


def wide_sweep(dtype: str) -> xr.Dataset:
    """Every variable of models that generate text, in two grids that share their axes."""
    axes: dict[str, Any] = {
        "models": list(WIDE_MODELS),
        "hardware": [
            *WIDE_MACHINES,
            *(nudged(name, 1 + sign * NUDGE) for name in WIDE_MACHINES for sign in (-1, 1)),
        ],
        "precision": ["fp16", "int8"],
        "tp": [1, 8],
        "batch_size": [1, 512],
        "isl": [1, 3000, 100_000],
        "osl": [1, 2, 700],
    }
    rest = [name for name in OF_TEXT if name not in FOOTPRINT]
    latencies = run(Grid(**axes, context_len=[1, 5000, 131_072], variables=rest), dtype=dtype)
    footprints = run(Grid(**axes, variables=list(FOOTPRINT)), dtype=dtype)
    return xr.merge([latencies, footprints], combine_attrs="override")
