"""Every figure of a specification changes some answer: a field nobody reads is a lie."""

import dataclasses
from functools import cache
from typing import Any, get_args

import jax
import numpy as np
import pytest
from factories import CONFIGS, OF_TEXT, PEAKS, blocks, hardware, model, point, precision, price
from model_families import OTHER_FAMILIES
from state_models import K3, tiny

from sweep.evaluation.kernel_inputs import hardware_params
from sweep.kernel.block import Block
from sweep.kernel.request import Request
from sweep.kernel.state import State
from sweep.models.parameter_count import model_facts
from sweep.models.read import read_blocks
from sweep.schema.axes import INTERVALS, LOADS, SPREADS
from sweep.specs.dtypes import Dtype
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec, Published, StoredTensor
from sweep.specs.precision import PrecisionSpec

NAMES = OF_TEXT
QUICK = ("weight_memory", "kv_cache_memory", "decode_step_bytes", "decode_step_latency")
"""Variables that take least to compute."""
PLAIN = tuple(name for name in NAMES if not name.startswith(("inflight", "max")))
"""Variables that take no server's steady state to compute."""
CELL = {"batch_size": 3, "context_len": 100, "isl": 90, "osl": 20, "tp": 2}


@cache
def unchanged(family: str) -> dict[str, np.ndarray]:
    """All figures of one family in fp16 without any limit of the memory's bandwidth."""
    machine = hardware(memory_bandwidth_bytes_per_s=1e18)
    return answers(model(family), machine, precision("fp16"))


def answers(*specs: Any, **numbers: float) -> dict[str, np.ndarray]:
    return price(NAMES, *specs, **(CELL | numbers))


def one_moves(before: tuple[Block, ...], after: tuple[Block, ...], *names: str) -> bool:
    """Compare variable by variable without compiling, for structures met once."""
    with jax.enable_x64(True):
        one, other = (Request(point(layers, **CELL)) for layers in (before, after))
        return any(
            not np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
            for name in names or dict.fromkeys((*QUICK, *PLAIN))
        )


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    return {n for n in one if not np.array_equal(one[n], other[n], equal_nan=True)}


# Accelerators.

WORDS_OF_HARDWARE = {
    "name",
    "vendor",
    "product",
    "form_factor",
    "year",
    "architecture",
    "confidence",
    "note",
    "memory_type",
    "link",
    "tdp_covers_cpu",
    "price_usd_per_hour",
    "references",
    "sources",
}
"""Fields that describe an accelerator and are no figures."""
MOVED_BY_HARDWARE = {
    # Matrices bind once bandwidth is out of the way; element-wise work and exponentials too.
    "peak_flops_per_s": ({"memory_bandwidth_bytes_per_s": 1e18}, {}, "ttft"),
    "vector_flops_per_s": ({"memory_bandwidth_bytes_per_s": 1e18}, {}, "decode_step_latency"),
    "special_function_ops_per_s": (
        {"memory_bandwidth_bytes_per_s": 1e18},
        {},
        "decode_step_latency",
    ),
    "memory_bytes": ({"memory_bytes": 1e5}, {}, "infeasible_reason"),
    "usable_memory_bytes": ({"usable_memory_bytes": 1e5}, {}, "infeasible_reason"),
    "memory_bandwidth_bytes_per_s": ({}, {}, "decode_step_latency"),
    # A cache too small for the queries of one head.
    "on_chip_cache_bytes": ({"on_chip_cache_bytes": 1000.0}, {}, "prefill_bytes"),
    "link_bandwidth_bytes_per_s": ({}, {}, "decode_step_latency"),
    # PCIe stands in where there is no other link.
    "pcie_bandwidth_bytes_per_s": (
        {"link_bandwidth_bytes_per_s": None, "link_gpus": 1},
        {},
        "decode_step_latency",
    ),
    "link_gpus": ({"link_gpus": 2}, {}, "decode_step_latency"),
    # Too few GPUs in a machine leave the network, where there is no other link.
    "gpus_per_node": (
        {"link_bandwidth_bytes_per_s": None, "link_gpus": 1, "gpus_per_node": 2},
        {},
        "decode_step_latency",
    ),
    "network_bandwidth_bytes_per_s": (
        {"link_bandwidth_bytes_per_s": None, "link_gpus": 1, "gpus_per_node": 1},
        {},
        "decode_step_latency",
    ),
    "link_latency_s": ({}, {}, "decode_step_latency"),
    "pcie_latency_s": ({"link_gpus": 1}, {}, "decode_step_latency"),
    "network_latency_s": ({"link_gpus": 1, "gpus_per_node": 1}, {}, "decode_step_latency"),
    "tdp_w": ({}, {}, "energy_per_output_token"),
}


def test_every_field_of_hardware_has_a_case() -> None:
    assert set(HardwareSpec.model_fields) == WORDS_OF_HARDWARE | set(MOVED_BY_HARDWARE)
    assert not WORDS_OF_HARDWARE & set(MOVED_BY_HARDWARE)


@pytest.mark.slow
@pytest.mark.parametrize("field", MOVED_BY_HARDWARE)
def test_every_figure_of_hardware_moves_its_variable(field: str) -> None:
    setting, numbers, moved = MOVED_BY_HARDWARE[field]
    before = hardware(**setting)
    value = getattr(before, field)
    halved = {d: v / 2 for d, v in value.items()} if isinstance(value, dict) else value / 2
    if isinstance(value, int):
        halved = value // 2
    after = before.model_copy(update={field: halved})
    if field in ("memory_bytes", "usable_memory_bytes"):
        after = before.model_copy(update={field: 1e9})
    spec = model("llama")
    assert moved in differing(answers(spec, before, **numbers), answers(spec, after, **numbers))


OPTIONAL = [
    "vector_flops_per_s",
    "special_function_ops_per_s",
    "on_chip_cache_bytes",
    "link_bandwidth_bytes_per_s",
]


@pytest.mark.slow
@pytest.mark.parametrize("field", OPTIONAL)
def test_a_figure_nobody_published_does_not_limit(field: str) -> None:
    # Without a link two GPUs meet over PCIe: nothing is known of it here, and no hop takes time.
    tight = {
        "memory_bandwidth_bytes_per_s": 1e18,
        "pcie_bandwidth_bytes_per_s": None,
        "link_latency_s": 0.0,
        "pcie_latency_s": 0.0,
    }
    spec, stated = model("llama"), hardware(**tight, **{field: 1e3})
    unknown, boundless = (hardware(**tight, **{field: value}) for value in (None, 1e30))
    slow, free, fast = (answers(spec, machine) for machine in (stated, unknown, boundless))
    names = ("ttft", "prefill_bytes", "decode_step_latency", "e2e_latency")
    assert any(slow[name] > free[name] for name in names)
    assert [free[name] for name in names] == [fast[name] for name in names]


def test_power_that_a_cpu_shares_says_nothing_of_the_clock() -> None:
    hot, shared = (
        hardware_params(hardware(tdp_w=1500.0, tdp_covers_cpu=covers)).power_headroom
        for covers in (False, True)
    )
    assert hot != 1.0
    assert shared == 1.0


@pytest.mark.slow
def test_power_that_nobody_published_leaves_energy_unknown() -> None:
    found = answers(model("llama"), hardware(tdp_w=None))
    assert np.isnan(found["energy_per_output_token"])
    assert np.isfinite(found["e2e_latency"])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", get_args(Dtype))
def test_every_peak_is_read_by_the_precision_that_computes_in_it(dtype: str) -> None:
    recipe = precision(dtype, **({"hidden_dtype": "fp16"} if dtype == "fp4" else {}))
    spec, machine = model("llama"), hardware(memory_bandwidth_bytes_per_s=1e18)
    before = answers(spec, machine, recipe)
    for other in PEAKS:
        halved = machine.model_copy(update={"peak_flops_per_s": {**PEAKS, other: PEAKS[other] / 2}})
        moved = differing(before, answers(spec, halved, recipe))
        computes = other == dtype or (dtype == "fp4" and other == "fp16")
        assert ("prefill_latency" in moved) == computes, other


@pytest.mark.slow
def test_half_computes_at_the_faster_of_fp16_and_bf16() -> None:
    spec, recipe = model("llama"), precision("half")
    only = {"memory_bandwidth_bytes_per_s": 1e18}
    for peaks in ({"fp16": 1e13, "bf16": 3e13}, {"bf16": 3e13}, {"fp16": 3e13, "bf16": 1e13}):
        found = answers(spec, hardware(**only, peak_flops_per_s=peaks), recipe)
        wanted = answers(spec, hardware(**only, peak_flops_per_s={"fp16": 3e13}), precision("fp16"))
        assert found["prefill_latency"] == wanted["prefill_latency"]


# Precisions.

NARROW = {
    "weight_dtype": ("int4", "weight_memory"),
    "activation_dtype": ("fp32", "decode_step_bytes"),
    "hidden_dtype": ("fp32", "decode_step_bytes"),
    "kv_dtype": ("fp8", "kv_cache_memory"),
    "head_dtype": ("fp8", "weight_memory"),
}
RATE = {
    # Both operands of a product set its rate; attention computes in the hidden type.
    "weight_dtype": "fp32",
    "activation_dtype": "fp32",
    "hidden_dtype": "fp32",
    "head_dtype": "fp32",
}


def test_every_field_of_precision_has_a_case() -> None:
    parts = {"attention", "experts", "head"}
    stored = {"weight_group_size", "weight_scale_bytes", "stored_weight_bytes"}
    others = {"name", "note", *stored, *parts}
    assert set(PrecisionSpec.model_fields) == set(NARROW) | others


@pytest.mark.parametrize("field", NARROW)
def test_every_stored_type_changes_what_is_stored_or_moved(field: str) -> None:
    dtype, moved = NARROW[field]
    # The same peak for every type, so that only bytes can differ.
    machine = hardware(peak_flops_per_s=dict.fromkeys(PEAKS, 1e14))
    spec = model("llama")
    before = answers(spec, machine, precision("fp16"))
    assert moved in differing(before, answers(spec, machine, precision(**{field: dtype})))


@pytest.mark.parametrize("field", RATE)
def test_a_wider_operand_sets_the_rate(field: str) -> None:
    machine = hardware(memory_bandwidth_bytes_per_s=1e18)
    spec = model("llama")
    before = answers(spec, machine, precision("fp16"))
    after = answers(spec, machine, precision(**{field: RATE[field]}))
    assert after["prefill_latency"] > before["prefill_latency"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["attention", "experts"])
@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3"])
def test_a_part_of_its_own_is_stored_and_computed_so(part: str, family: str) -> None:
    machine = hardware(memory_bandwidth_bytes_per_s=1e18)
    wide = {"weight_dtype": "fp32", "activation_dtype": "fp16"}
    before = unchanged(family)
    after = answers(model(family), machine, precision("fp16", **{part: wide}))
    assert after["weight_memory"] > before["weight_memory"]
    assert after["prefill_latency"] > before["prefill_latency"]
    # A dense model has no experts to store otherwise.
    dense = answers(model("llama"), machine, precision("fp16", **{part: wide}))
    assert bool(differing(unchanged("llama"), dense)) == (part == "attention")


@pytest.mark.parametrize(
    "changes",
    [
        {"stored_weight_bytes": 2.5},
        {"head": {"weight_dtype": "fp16", "activation_dtype": "fp16", "stored_weight_bytes": 2.5}},
    ],
)
def test_what_a_checkpoint_stores_is_what_weighs(changes: dict[str, Any]) -> None:
    spec, machine = model("llama"), hardware()
    before = answers(spec, machine, precision("fp16"))
    after = answers(spec, machine, precision("fp16", **changes))
    assert after["weight_memory"] > before["weight_memory"]
    assert after["prefill_flops"] == before["prefill_flops"]


def test_four_bit_weights_gain_memory_and_no_rate() -> None:
    machine = hardware(memory_bandwidth_bytes_per_s=1e18)
    spec = model("llama")
    half = answers(spec, machine, precision("fp16"))
    four = answers(spec, machine, precision("fp16", weight_dtype="int4"))
    assert four["weight_memory"] < half["weight_memory"]
    assert four["prefill_latency"] == half["prefill_latency"]


@pytest.mark.parametrize(
    ("group", "scale", "moved"), [(64, 2.0, "weight_memory"), (32, 4.0, "weight_memory")]
)
def test_groups_and_scales_weigh_something(group: int, scale: float, moved: str) -> None:
    spec, machine = model("llama"), hardware()
    before = precision(weight_dtype="int4", weight_group_size=32, weight_scale_bytes=2.0)
    after = precision(weight_dtype="int4", weight_group_size=group, weight_scale_bytes=scale)
    assert moved in differing(answers(spec, machine, before), answers(spec, machine, after))


def test_a_group_that_is_split_is_told() -> None:
    # tp = 2 leaves 80 of the 160 rows of the down projection: a group of 32 is cut.
    fits = precision(weight_dtype="int4", weight_group_size=16, weight_scale_bytes=2.0)
    cut = precision(weight_dtype="int4", weight_group_size=32, weight_scale_bytes=2.0)
    found = [int(answers(model("llama"), hardware(), r)["infeasible_reason"]) for r in (fits, cut)]
    assert found == [0, 8]


# Models.

WIDER = {
    "operators": ("llama", 1, ("qkv_projection",)),
    "in_transformer": ("gemma2", 2, False),
    "idle": ("llama", 1, True),
    "partial": ("llama", 1, True),
    "count": ("llama", 1, 4),
    "streams": ("gemma3n_text", 2, 2),
    "laurel_rank": ("gemma3n_text", 2, 8),
    "input_size": ("gemma3n_text", 3, 16),
    "inputs_width": ("gemma3n_text", 0, 64),
    "input_rows": ("gemma3n_text", 0, 256),
    "value_dim": ("deepseek_v3", 1, 32),
    "gate_size": ("afmoe", 1, 64),
    "latent_dim": ("deepseek_v3", 1, 64),
    "query_rank": ("deepseek_v3", 1, 32),
    "sinks": ("llama", 1, 1),
    "index_heads": ("deepseek_v32", 1, 8),
    "index_dim": ("deepseek_v32", 1, 32),
    "index_block": ("minimax_m3", 2, 8),
    "selected": ("deepseek_v32", 1, 20),
    "entry_tokens": ("deepseek_v4", 1, 8),
    "entry_series": ("deepseek_v4", 1, 2),
    "output_groups": ("deepseek_v4", 1, 2),
    "output_rank": ("deepseek_v4", 1, 48),
    "shared_size": ("glm4_moe", 2, 64),
    "expert_bias": ("mixtral", 1, 1),
    "router_bias": ("mixtral", 1, 1),
    "reserved_positions": ("gpt2", 0, 1000),
    "hidden_size": ("llama", 1, 128),
    "norm_vectors": ("llama", 1, 2),
    "heads": ("llama", 1, 16),
    "kv_heads": ("llama", 1, 4),
    "head_dim": ("llama", 1, 16),
    "rotary_dim": ("llama", 1, 4),
    "window": ("mistral", 1, 40),
    "qkv_bias": ("llama", 1, 1),
    "output_bias": ("llama", 1, 1),
    "ffn_size": ("llama", 1, 320),
    "ffn_bias": ("llama", 1, 1),
    "experts": ("mixtral", 1, 16),
    "experts_per_token": ("mixtral", 1, 4),
    "vocab_size": ("llama", 2, 1024),
    "embedding_size": ("llama", 0, 32),
    "positions": ("gpt2", 0, 2048),
    "untied": ("llama", 2, 0),
    "head_bias": ("llama", 2, 1),
    "expert_latent": ("nemotron_h", 2, 32),
    "sources": ("kimi_linear", 1, 9),
    "state": ("qwen3_next", 1, State(heads=2, groups=2, key_dim=16, value_dim=12, kernel=4)),
}
"""For each field of a block a family, the place of a block that reads it, and another value."""


STATEFUL = {"nemotron_h": {"moe_latent_size": 24}, "kimi_linear": K3, "qwen3_next": {}}
"""Families of the table with layers that keep a state, and keys in addition to theirs."""


def test_every_field_of_a_block_has_a_case() -> None:
    of_images = {"token_pixels", "patch_values", "denoised_values"}
    assert {field.name for field in dataclasses.fields(Block)} == set(WIDER) | of_images


@pytest.mark.slow
@pytest.mark.parametrize("field", WIDER)
def test_every_field_of_a_block_moves_some_variable(field: str) -> None:
    family, place, value = WIDER[field]
    if family in STATEFUL:
        before = tiny(family, **STATEFUL[family])
    elif family in CONFIGS:
        before = blocks(family)
    else:
        before = read_blocks({"model_type": family, **OTHER_FAMILIES[family][0]}, family)
    assert getattr(before[place], field) != value
    changed = dataclasses.replace(before[place], **{field: value})
    after = (*before[:place], changed, *before[place + 1 :])
    assert one_moves(before, after)


BY_CONFIG = {
    # What each key of a published config must move.
    ("llama", "hidden_size", 128): "decode_step_bytes",
    ("llama", "intermediate_size", 320): "decode_step_flops",
    ("llama", "num_hidden_layers", 4): "decode_step_latency",
    ("llama", "num_key_value_heads", 8): "kv_cache_memory",
    ("llama", "vocab_size", 1024): "weight_memory",
    ("llama", "head_dim", 16): "kv_cache_memory",
    ("llama", "tie_word_embeddings", True): "weight_memory",
    ("llama", "attention_bias", True): "weight_memory",
    ("phi3", "partial_rotary_factor", 0.5): "decode_step_flops",
    ("mistral", "sliding_window", 40): "kv_cache_memory",
    ("mixtral", "num_local_experts", 16): "weight_memory",
    ("mixtral", "num_experts_per_tok", 4): "decode_step_flops",
    ("gpt2", "n_inner", 512): "decode_step_flops",
    ("gptj", "rotary_dim", 8): "decode_step_flops",
    ("falcon", "ffn_hidden_size", 512): "decode_step_flops",
    ("opt", "word_embed_proj_dim", 16): "weight_memory",
    ("gemma2", "sliding_window_pattern", 4): "kv_cache_memory",
    ("chatglm", "kv_channels", 16): "kv_cache_memory",
}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "key", "value"), BY_CONFIG)
def test_a_key_of_the_config_moves_its_variable(family: str, key: str, value: Any) -> None:
    moved = BY_CONFIG[family, key, value]
    assert one_moves(blocks(family), blocks(family, **{key: value}), moved)


def test_tensors_beyond_the_decoder_are_stored_and_not_used() -> None:
    def facts(**tensor: Any) -> Any:
        extra = StoredTensor(name="t", **({"shape": [2, 3], "copies": 1} | tensor))
        published = Published(
            kind="exact", parameters=1, active_parameters=1, source="", beyond_decoder=[extra]
        )
        spec = ModelSpec(name="m", config=model("llama").config, published=published)
        return model_facts(spec)

    plain = model_facts(model("llama"))
    assert facts().stored_parameters == plain.parameters + 6
    assert facts(shape=[2, 5]).stored_parameters == plain.parameters + 10
    assert facts(copies=3).stored_parameters == plain.parameters + 18
    assert facts(copies=3).parameters == plain.parameters


# Loads of a server.

BY_LOAD = {
    "scheduler": ({"scheduler": "chunked"}, {"scheduler": "prefill_first"}, "inflight_tpot"),
    "num_requests": ({"num_requests": 64}, {"num_requests": 128}, "inflight_ttft"),
    "osl_cv": ({"osl_cv": 0.1}, {"osl_cv": 0.5}, "inflight_tpot"),
    "isl_cv": ({"osl_cv": 0.1, "isl_cv": 0.1}, {"osl_cv": 0.1, "isl_cv": 0.9}, "inflight_tpot"),
    "concurrency": ({"concurrency": 8}, {"concurrency": 64}, "inflight_queue_time"),
    "request_rate": ({"request_rate": 1e3}, {"request_rate": 2e3}, "inflight_ttft"),
    "burstiness": (
        {"request_rate": 2e3, "burstiness": 1.0},
        {"request_rate": 2e3, "burstiness": 0.3},
        "inflight_ttft",
    ),
}
HELD_BACK = {
    "batch_wait": ({"batch_wait": 0}, {"batch_wait": 50}, "inflight_ttft"),
    "poll_interval": ({"poll_interval": 1}, {"poll_interval": 30}, "inflight_ttft"),
    "stream_interval": ({"stream_interval": 1}, {"stream_interval": 10}, "inflight_tpot"),
}
BY_LOAD |= {
    axis: ({"concurrency": 8, **before}, {"concurrency": 8, **after}, moved)
    for axis, (before, after, moved) in HELD_BACK.items()
}
SMALL_SERVER = {"isl": 90, "osl": 20, "max_batch_size": 32, "max_num_tokens": 500}


def test_every_load_has_a_case() -> None:
    assert {*LOADS, *SPREADS, *INTERVALS, "scheduler"} == set(BY_LOAD)


@pytest.mark.slow
@pytest.mark.parametrize("axis", BY_LOAD)
def test_every_load_moves_its_variable(axis: str) -> None:
    before, after, moved = BY_LOAD[axis]
    values = [
        float(price((moved,), model("llama"), **SMALL_SERVER, **load)[moved])
        for load in (before, after)
    ]
    assert np.isfinite(values).all()
    assert values[0] != values[1]
