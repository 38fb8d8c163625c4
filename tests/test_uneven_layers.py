"""Layers that differ: missing halves, shared caches, embeddings of their own, idle layers."""

import dataclasses
import math
import warnings
from typing import Any

import jax
import pytest
from factories import CONFIGS, FP16, TOY, model, point, precision, shipped_model
from hypothesis import given, settings
from hypothesis import strategies as st
from model_families import BASE, OTHER_FAMILIES

from sweep.errors import SpecError, SpecWarning
from sweep.evaluation.kernel_inputs import model_params
from sweep.kernel import memory, phases
from sweep.kernel.block import Block, layer_count, running
from sweep.kernel.operator_table import OPERATORS, attentions, operator_names, tensors
from sweep.kernel.operators.augmented_residual import altup_correct, altup_predict
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.models.parameter_count import cached_bytes_per_token, model_facts
from sweep.models.read import read_blocks, read_model
from sweep.specs.model import ModelSpec

CLOSE = 1e-12
FAMILIES = ("nemotron-nas", "gemma3n_text", "gemma4_text", "mllama", "openelm")
NUMBERS = {"batch_size": 3, "isl": 40, "osl": 20, "context_len": 60}
OUTPUTS = ("ttft", "tpot", "decode_step_latency", "decode_step_bytes", "memory_required")

pytestmark = pytest.mark.filterwarnings("ignore::sweep.errors.SpecWarning")


def keys(family: str, **changes: Any) -> dict[str, Any]:
    found = {"model_type": family, **OTHER_FAMILIES[family][0], **changes}
    return {key: value for key, value in found.items() if value is not None}


def blocks(family: str, **changes: Any) -> tuple[Block, ...]:
    return read_blocks(keys(family, **changes), family)


def spec(family: str, **changes: Any) -> ModelSpec:
    return ModelSpec(name=family, config=keys(family, **changes))


def parameters(layers: tuple[Block, ...]) -> int:
    return sum(int(block.count) * tensor.elements for block, tensor in tensors(layers))


def outputs(layers: Any, *names: str, **numbers: float) -> list[float]:
    with jax.enable_x64(True):
        request = Request(point(layers, **(NUMBERS | numbers)))
        return [float(getattr(request, name)) for name in names or OUTPUTS]


def at(layers: Any, **numbers: float) -> Point:
    return point(layers, TOY, FP16, **(NUMBERS | numbers))


def half(heads: int | None = 4, ratio: float | None = 6) -> dict[str, Any]:
    """Attention with `heads` query heads for a KV head, and a feed-forward; `None` skips one."""
    attention = {"n_heads_in_group": heads, "no_op": heads is None}
    return {"attention": attention, "ffn": {"ffn_mult": ratio, "no_op": ratio is None}}


# Missing halves, and sizes of each layer.


def test_equal_blocks_are_the_plain_model() -> None:
    plain = model("llama", num_hidden_layers=4, intermediate_size=256)
    listed = blocks("nemotron-nas", block_configs=[half()] * 4)
    assert parameters(listed) == parameters(read_model(plain))
    assert layer_count(listed) == 4
    for tp, pp in ((1, 1), (4, 2)):
        found, wanted = (outputs(each, tp=tp, pp=pp) for each in (listed, plain))
        assert found == pytest.approx(wanted, rel=CLOSE)


def test_a_skipped_half_has_no_weights_no_cache_and_no_time() -> None:
    listed = blocks(
        "nemotron-nas", block_configs=[half(), half(None), half(4, None), half(None, None)]
    )
    plain = read_model(model("llama", num_hidden_layers=2, intermediate_size=256))
    assert parameters(listed) == parameters(plain)
    assert layer_count(listed) == 4
    assert cached_bytes_per_token(listed) == cached_bytes_per_token(plain) == 2 * 2 * 2 * 2 * 8
    assert outputs(listed) == pytest.approx(outputs(plain), rel=CLOSE)


def test_a_pipeline_is_divided_by_all_layers() -> None:
    listed = [half()] * 2 + [half(None, None)] * 2
    with jax.enable_x64(True):
        where = at(blocks("nemotron-nas", block_configs=listed), pp=3)
        assert float(where.model.layers) == 4
        # Two of four layers on the first of three stages: half the weights of the layers, 2·59 520
        # of 16 bits, and the embedding's.
        assert float(memory.weight_memory(where)) == 2 * 59_520 + 2 * (512 * 64 + 64)


@pytest.mark.parametrize(("ratio", "width"), [(6, 256), (6.1, 512), (2.5, 256), (5.25, 256)])
def test_widths_are_two_thirds_rounded_up_to_256(ratio: float, width: int) -> None:
    found = blocks("nemotron-nas", block_configs=[half(4, ratio)] * 4)
    assert [b.ffn_size for b in found if "gate_up_projection" in b.operators] == [width]


def test_a_replacement_is_one_matrix_of_two_flops_an_element() -> None:
    with jax.enable_x64(True):
        works = phases.decode_step(at(blocks("nemotron-nas"), batch_size=1))
        found = {work.name: work for work in works}
        for name in ("attention_replacement", "ffn_replacement"):
            assert float(found[name].cost.tensor_flops) == 2 * 64 * 64
            assert float(found[name].cost.weight_bytes) == 2 * 64 * 64


def test_layers_with_other_kv_heads_copy_their_weights_sooner() -> None:
    # Groups of 4 and of 2 of 8 heads: 2 and 4 KV heads of 8. On 4 GPUs each keeps one, half of the
    # first and a quarter of the second: 2·64·(8 + 8) elements each, 16 bits.
    listed = blocks("nemotron-nas", block_configs=[half(4, None), half(2, None)] + [half(None)] * 2)
    assert model_params(listed).uneven_kv_heads
    attends = ["qkv_projection" in block.operators for block in listed]
    biased = tuple(
        dataclasses.replace(block, qkv_bias=int(each))
        for block, each in zip(listed, attends, strict=True)
    )
    with jax.enable_x64(True):
        alone, shared = (float(memory.weight_memory(at(listed, tp=tp))) for tp in (1, 4))
        biases = [float(memory.weight_memory(at(biased, tp=tp))) for tp in (1, 4)]
    ffn = 2 * 3 * 64 * 256
    norms = 4 * 64 + 64
    keys_and_values = 64 * 2 * 8 * (2 + 4)
    others = 2 * 2 * 64 * 64 + 2 * 512 * 64
    assert alone == 2 * (ffn + norms + keys_and_values + others)
    assert shared == 2 * ((ffn + others) / 4 + norms + 2 * 64 * (8 + 8))
    # Biases: 64 of the queries of each of two layers, and those of the columns above.
    assert biases == [
        alone + 2 * (2 * 64 + 2 * 8 * (2 + 4)),
        shared + 2 * (2 * 64 / 4 + 2 * (8 + 8)),
    ]


def test_nemotron_super_keeps_a_cache_in_49_of_80_layers() -> None:
    facts = model_facts(shipped_model("nemotron-super-49b"))
    assert facts.layers == 80
    assert facts.kv_cache_bytes_per_token == 49 * 2 * 8 * 128 * 2


def test_a_model_of_halves_has_as_many_blocks_as_kinds_of_halves() -> None:
    # 64 attentions alike, 12 widths; embedding, count of layers and head.
    assert len(read_model(shipped_model("nemotron-ultra-253b"))) <= 64 // 4
    assert len(read_model(shipped_model("nemotron-super-49b"))) == 10


def test_openelm_grows_from_layer_to_layer() -> None:
    found = blocks("openelm")
    assert [int(b.heads) for b in found if b.heads] == [4, 8]
    assert [int(b.ffn_size) for b in found if b.ffn_size] == [32, 256]
    assert cached_bytes_per_token(found) == 2 * 2 * 2 * 2 * 8


# Shared caches.


def test_layers_that_share_keep_no_cache_and_read_as_much() -> None:
    own, shared = (
        read_blocks(keys("hunyuan_v1_moe", use_cla=use, cla_share_factor=2), "x")
        for use in (False, True)
    )
    assert cached_bytes_per_token(own) == 2 * cached_bytes_per_token(shared)
    # Two of four layers lack 2·2 heads of 16 and a norm of 16.
    assert parameters(own) - parameters(shared) == 2 * (64 * 2 * 2 * 16 + 16)
    with jax.enable_x64(True):
        kept = [float(memory.kv_cache_memory(at(each))) for each in (own, shared)]
        assert kept[0] == 2 * kept[1] == 4 * 3 * 60 * 2 * 2 * 16 * 2
        read = [
            sum(
                float(w.count * w.cost.kv_bytes) for w in phases.decode_step(at(each)) if attends(w)
            )
            for each in (own, shared)
        ]
        assert read[0] == read[1] == kept[0]


def attends(work: phases.Work) -> bool:
    return OPERATORS[work.name].attention is not None


def test_more_requests_fit_where_layers_share() -> None:
    own, shared = (
        read_blocks(keys("hunyuan_v1_moe", use_cla=use, cla_share_factor=2), "x")
        for use in (False, True)
    )
    numbers = {"isl": 200_000, "max_batch_size": 1e6}
    one, other = (outputs(each, "max_concurrency", **numbers)[0] for each in (own, shared))
    assert other > 1.9 * one


def test_a_factor_of_one_shares_nothing() -> None:
    plain = blocks("hunyuan_v1_moe")
    assert blocks("hunyuan_v1_moe", use_cla=True, cla_share_factor=1) == plain
    assert blocks("hunyuan_v1_moe", use_cla=False, cla_share_factor=2) == plain


@pytest.mark.parametrize("family", ["gemma3n_text", "gemma4_text"])
def test_no_sharing_layers_is_no_sharing(family: str) -> None:
    none, two = (blocks(family, num_kv_shared_layers=n) for n in (0, 2))
    assert not any("shared" in name and "cache" in name for name in operator_names(none))
    own = [len(attentions(b)) * int(b.count) for b in none]
    assert sum(own) == 4
    assert parameters(none) > parameters(two)
    assert cached_bytes_per_token(none) == 2 * cached_bytes_per_token(two)
    if family == "gemma4_text":
        assert blocks(family, num_kv_shared_layers=None) == none


def test_gemma_3n_keeps_a_cache_in_20_of_35_layers() -> None:
    facts = model_facts(shipped_model("gemma-3n-e4b"))
    assert facts.kv_cache_bytes_per_token == 20 * 2 * 2 * 256 * 2
    found = read_model(shipped_model("gemma-3n-e4b"))
    sharing = {b.window: int(b.count) for b in found if "lone_query_projection" in b.operators}
    assert sharing == {512: 12, 0: 3}


def test_gemma_4_caches_keys_and_values_of_its_wide_heads() -> None:
    # 50 layers keep a window of 1024 of 16 heads of 256, 10 all of 4 heads of 512: 16 bits.
    with jax.enable_x64(True):
        found = memory.kv_bytes_per_sequence(at(shipped_model("gemma-4-31b")), 262_144.0)
    windowed, full = 50 * 1024 * 2 * 16 * 256 * 2, 10 * 262_144 * 2 * 4 * 512 * 2
    assert float(found) == windowed + full == 22_313_697_280


def test_keys_that_are_values_are_projected_once_and_cached_twice() -> None:
    apart, tied = (
        blocks(
            "gemma4_text",
            attention_k_eq_v=tie,
            num_global_key_value_heads=kv,
            num_kv_shared_layers=0,
        )
        for tie, kv in ((False, None), (True, 2))
    )
    assert parameters(apart) - parameters(tied) == 2 * 64 * 2 * 32
    assert cached_bytes_per_token(apart) == cached_bytes_per_token(tied)
    # Beyond one KV head on each GPU, keys' weights are copied once and not twice.
    with jax.enable_x64(True):
        at_two, at_four = (
            [float(memory.weight_memory(at(each, tp=tp))) for each in (apart, tied)]
            for tp in (2, 4)
        )
    assert at_two[0] - at_two[1] == at_four[0] - at_four[1] == 2 * 2 * 64 * 32


def test_windows_of_values_that_are_keys_copy_half_the_weights() -> None:
    # Without a window one KV head of 32 on all GPUs, with a window two of 16.
    found = blocks("gemma4_text", num_kv_shared_layers=0, enable_moe_block=False)
    held = [t for b, t in tensors(found) if t.sharding == "kv_heads" and len(t.shape) > 1]
    assert sorted(t.shape for t in held) == [(32, 64), (64, 64)]
    with jax.enable_x64(True):
        where = at(found, tp=2)
        one = float(memory.weight_memory(where))
        reads = sum(
            float(w.count * w.cost.weight_bytes)
            for w in phases.decode_step(where)
            if w.name in ("qkv_projection", "tied_kv_projection")
        )
    # Two layers of each kind: queries of 8 heads by 2, keys and values of 1 head, keys of 1 head.
    assert reads == 2 * 2 * 64 * ((8 * 16 / 2 + 2 * 16) + (8 * 32 / 2 + 32))
    assert one > reads


# Several streams, and embeddings of each layer.


def test_alternating_updates_by_hand() -> None:
    # 3 streams of 8 and 5 tokens in 2 bytes: norm 8, router 3·8, coefficients 9·3.
    predicted = altup_predict(5.0, 8.0, 3.0, element_bytes=2.0)
    assert predicted.tensor_flops == 2 * 5 * (24 + 27)
    assert predicted.vector_flops == 5 * (4 * 8 + 2 * 9 * 8 + 3 * 8)
    assert predicted.weight_bytes == 2 * (8 + 24 + 27)
    assert predicted.activation_bytes == 5 * 2 * 3 * 8 * 2
    # The same norm and router again; coefficients 3·3 and a scale of 8.
    corrected = altup_correct(5.0, 8.0, 3.0, element_bytes=2.0)
    assert corrected.tensor_flops == 2 * 5 * (24 + 9)
    assert corrected.vector_flops == 5 * (4 * 8 + 8 * 8)
    assert corrected.weight_bytes == 2 * (8 + 24 + 9 + 8)
    assert corrected.activation_bytes == 5 * 7 * 8 * 2


@pytest.mark.parametrize("tp", [1, 2])
def test_a_decode_step_reads_every_weight_of_gemma_3n_once(tp: int) -> None:
    found = blocks("gemma3n_text")
    with jax.enable_x64(True):
        where = at(found, batch_size=1, tp=tp)
        read = sum(float(w.count * w.cost.weight_bytes) for w in phases.decode_step(where))
        stored = float(memory.weight_memory(where))
    # Rows of one token of both tables instead of the tables; the tied head reads the larger. The
    # router of the streams and its norm are read twice in each layer.
    tables = 128 * 4 * 8 / tp
    again = 4 * (64 + 3 * 64)
    assert read == stored - 2 * tables + 2 * (64 + 4 * 8) + 2 * again


def test_one_token_takes_two_flops_with_every_matrix_element_of_gemma_3n() -> None:
    with jax.enable_x64(True):
        works = phases.decode_step(at(blocks("gemma3n_text"), batch_size=1))
    found = {work.name: float(work.cost.tensor_flops) for work in works}
    for block in blocks("gemma3n_text"):
        for name in block.operators:
            matrices = [
                t for t in OPERATORS[name].weights(block) if len(t.shape) > 1 and t.elements
            ]
            if matrices and "embedding" not in name and name != "altup_correct":
                assert found[name] == 2 * sum(t.active_elements for t in matrices), name


def test_working_memory_holds_all_streams_and_all_embeddings() -> None:
    with jax.enable_x64(True):
        where = at(blocks("gemma3n_text"))
        # 7 tokens: twice 3 streams of 64, a fused projection of 2·160, 4 embeddings of 8.
        found = float(memory.working_memory(where, 7.0, 1.0))
    assert found == 7 * 2 * (2 * 3 * 64 + 2 * 160 + 4 * 8)


def test_a_pipeline_passes_on_all_streams_and_embeddings() -> None:
    def sent(family: str, name: str) -> float:
        with jax.enable_x64(True):
            works = phases.decode_step(at(blocks(family), batch_size=1, pp=2))
            return next(float(w.cost.network_bytes) for w in works if w.name == name)

    assert sent("gemma3n_text", "streams_send") == 3.5 * sent("hunyuan_v1_moe", "pipeline_send")
    # 3·64 + 4·8 elements instead of 64.


def test_without_embeddings_of_its_own_a_layer_of_gemma_4_has_no_part_for_them() -> None:
    plain = blocks("gemma4_text", hidden_size_per_layer_input=0, vocab_size_per_layer_input=None)
    assert not any(name.startswith("layer_") for name in operator_names(plain))
    assert "pipeline_send" in operator_names(plain)


def test_gemma_4_as_a_mixture_runs_both_feed_forwards() -> None:
    dense, routed = (
        blocks("gemma4_text", enable_moe_block=moe, num_kv_shared_layers=0) for moe in (False, True)
    )
    # A router with two scales, three norms, and experts; two of eight are used.
    more = 64 + 8 * 64 + 8 + 3 * 64
    assert parameters(routed) - parameters(dense) == 4 * (more + 8 * 3 * 64 * 32)
    active = [
        model_facts(spec("gemma4_text", enable_moe_block=moe)).active_parameters
        for moe in (False, True)
    ]
    assert active[1] - active[0] == 4 * (more + 2 * 3 * 64 * 32)


def test_the_last_layer_of_gemma_4_has_no_window() -> None:
    last = blocks("gemma4_text", layer_types=["sliding_attention"] * 4, num_kv_shared_layers=0)
    found = {int(b.window): int(b.count) for b in last if attentions(b)}
    assert found == {48: 3, 0: 1}


def test_layers_that_share_may_be_twice_as_wide() -> None:
    changes = {"enable_moe_block": False, "use_double_wide_mlp": True}
    found = blocks("gemma4_text", **changes)
    widths = {int(b.ffn_size): int(b.count) for b in found if "down_projection" in b.operators}
    assert widths == {160: 2, 320: 2}


# Layers that are stored and do not run.


def test_layers_that_attend_to_images_are_stored_and_take_no_time() -> None:
    both = blocks("mllama")
    text = read_blocks({"model_type": "llama", **BASE, "num_hidden_layers": 3}, "x")
    names = ("ttft", "tpot", "decode_step_bytes", "kv_cache_memory")
    found, wanted = (outputs(each, *names) for each in (both, text))
    assert found == pytest.approx(wanted, rel=CLOSE)
    with jax.enable_x64(True):
        stored = [float(memory.weight_memory(at(each))) for each in (both, text)]
    # A layer of 41 088, two norms of 8 and two gates, and 8 rows; 16 bits.
    assert stored[0] - stored[1] == 2 * (64 * 96 + 64 * 64 + 3 * 64 * 160 + 2 * 64 + 16 + 2 + 512)
    assert model_params(both).layers == 4
    assert "half_gates" not in operator_names(both)


def test_without_layers_for_images_it_is_llama() -> None:
    found = blocks("mllama", cross_attention_layers=[])
    first, *others = read_blocks({"model_type": "llama", **BASE}, "x")
    assert found == (dataclasses.replace(first, vocab_size=520), *others)


def test_the_work_of_layers_for_images_is_left_out_with_its_size() -> None:
    text = {**keys("mllama"), "model_type": "mllama_text_model"}
    outer = {"model_type": "mllama", "text_config": text}
    said = r"work of cross attention \(1 layer with about 4.1e-05 billion parameters"
    with pytest.warns(SpecWarning, match=said):
        assert read_blocks(outer, "x") == blocks("mllama")


def test_llama_3_2_vision_runs_32_of_40_layers() -> None:
    facts = model_facts(shipped_model("llama-3.2-11b-vision"))
    assert facts.layers == 40
    assert facts.kv_cache_bytes_per_token == 32 * 2 * 8 * 128 * 2
    # Eight layers of Llama 3, with 2·128 of norms and two gates.
    layer = 4096 * (4096 + 2 * 1024) + 4096**2 + 3 * 4096 * 14_336 + 2 * 4096
    assert facts.parameters - facts.active_parameters == 8 * (layer + 2 * 128 + 2)


# Layers for further tokens.


def with_mtp(name: str) -> tuple[ModelSpec, ModelSpec]:
    plain = shipped_model(name)
    return plain, plain.model_copy(update={"mtp": True})


def test_deepseek_v3_has_an_eleventh_of_a_billion_more_with_its_module() -> None:
    plain, counted = (model_facts(each) for each in with_mtp("deepseek-v3"))
    # Attention: queries 7168·1536 + 1536 + 1536·128·192, latents 7168·576 + 512 + 512·128·256,
    # outputs 128·128·7168; 257 experts and a router with its bias; two norms.
    attention = 7168 * 1536 + 1536 + 1536 * 24_576 + 7168 * 576 + 512 + 512 * 32_768 + 16_384 * 7168
    layer = attention + 257 * 3 * 7168 * 2048 + 256 * (7168 + 1) + 2 * 7168
    module = layer + 2 * 7168 * 7168 + 3 * 7168
    assert layer == 11_507_286_272
    assert counted.parameters - plain.parameters == module == 11_610_068_224
    assert counted.active_parameters == plain.active_parameters
    assert counted.kv_cache_bytes_per_token == plain.kv_cache_bytes_per_token
    assert counted.layers == plain.layers == 61
    # The checkpoint repeats embedding and head in the module, and publishes 3 918 786 560 elements
    # in 16 bits and 680 571 043 840 in 8. Its 59 biases of 256 are in 32 bits, with the scales.
    repeated, biases = 2 * 129_280 * 7168, 59 * 256
    assert counted.parameters + repeated - biases == 3_918_786_560 + 680_571_043_840


@pytest.mark.parametrize(("name", "published"), [("glm-4.5", 358_337_791_296), ("mimo-7b", None)])
def test_modules_of_other_families_are_those_published(name: str, published: int | None) -> None:
    plain, counted = (model_facts(each) for each in with_mtp(name))
    if published is not None:
        assert counted.parameters + 2 * 151_552 * 5120 == published
        assert counted.stored_parameters == plain.stored_parameters == published
    else:
        # A layer of Qwen 2's kind, a projection of two inputs and three norms.
        layer = 4096 * 6144 + 6144 + 4096**2 + 3 * 4096 * 11_008 + 2 * 4096
        assert counted.parameters - plain.parameters == layer + 2 * 4096**2 + 3 * 4096


def test_a_module_takes_memory_on_the_last_stage_and_no_time() -> None:
    plain = ModelSpec(
        name="m", config={"model_type": "mimo", **BASE, "num_nextn_predict_layers": 2}
    )
    counted = plain.model_copy(update={"mtp": True})
    one, other = read_model(plain), read_model(counted)
    assert jax.tree.structure(model_params(one)) == jax.tree.structure(model_params(other))
    timed = ("ttft", "tpot", "decode_step_bytes", "kv_cache_memory")
    assert outputs(one, *timed) == outputs(other, *timed)
    layer = 64 * 96 + 96 + 64 * 64 + 3 * 64 * 160 + 2 * 64
    module = 2 * (layer + 2 * 64 * 64 + 3 * 64)
    with jax.enable_x64(True):
        more = [
            float(memory.weight_memory(at(other, pp=pp)) - memory.weight_memory(at(one, pp=pp)))
            for pp in (1, 2)
        ]
    assert more == [2 * module, 2 * module]


def test_a_module_that_is_counted_is_not_left_out() -> None:
    plain = ModelSpec(
        name="m", config={"model_type": "mimo", **BASE, "num_nextn_predict_layers": 2}
    )
    with pytest.warns(SpecWarning, match="multi-token prediction"):
        read_model(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_model(plain.model_copy(update={"mtp": True}))


@pytest.mark.parametrize(
    ("family", "extra", "problem"),
    [
        ("llama", {"num_nextn_predict_layers": 1}, "mtp: unknown for family 'llama'"),
        ("mimo", {}, "mtp: the config has no num_nextn_predict_layers"),
        (
            "mimo",
            {"num_nextn_predict_layers": 0},
            "mtp: the config has no num_nextn_predict_layers",
        ),
    ],
)
def test_modules_of_unknown_size_are_refused(family, extra, problem) -> None:
    wanted = ModelSpec(name="m", mtp=True, config={"model_type": family, **BASE, **extra})
    with pytest.raises(SpecError, match=problem) as refusal:
        read_model(wanted)
    assert "\n" not in str(refusal.value)


# Idle blocks and the kernel.


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_sees_only_blocks_that_run(family: str) -> None:
    found = blocks(family)
    params = model_params(found)
    assert params.blocks == running(found)
    assert params.layers == layer_count(found)
    assert params.elements.sum() == parameters(found)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tp", [pytest.param(1, marks=pytest.mark.campaign), 2])
def test_no_output_is_lost(family: str, tp: int) -> None:
    found = outputs(blocks(family), *OUTPUTS, "inflight_output_throughput", tp=tp, pp=2)
    assert all(math.isfinite(value) and value > 0 for value in found)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_is_the_sum_of_its_steps(family: str) -> None:
    found = blocks(family)
    total = outputs(found, "e2e_latency", isl=46, osl=5)[0]
    steps = [outputs(found, "decode_step_latency", context_len=46 + i)[0] for i in range(1, 5)]
    assert total == pytest.approx(outputs(found, "ttft", isl=46)[0] + sum(steps), rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3), st.sampled_from([1, 2, 4]))
def test_each_layer_that_shares_saves_its_own_cache(number: int, factor: int) -> None:
    found = read_blocks(
        {
            **keys("gemma3n_text"),
            "layer_types": ["full_attention"] * 4,
            "num_kv_shared_layers": number,
        },
        "x",
    )
    assert cached_bytes_per_token(found) == 2 * (4 - number) * 2 * 2 * 16
    crossed = blocks("hunyuan_v1_moe", use_cla=True, cla_share_factor=factor)
    assert cached_bytes_per_token(crossed) == 2 * (4 // factor) * 2 * 2 * 16


# Malformed configs.

BLOCK = half()


@pytest.mark.parametrize(
    ("family", "changes", "key"),
    [
        ("nemotron-nas", {"block_configs": None}, "block_configs: missing"),
        ("nemotron-nas", {"block_configs": [BLOCK] * 3}, "block_configs: must list 4"),
        ("nemotron-nas", {"block_configs": "abcd"}, "block_configs"),
        ("nemotron-nas", {"block_configs": [1, BLOCK, BLOCK, BLOCK]}, r"block_configs\[0\]"),
        ("nemotron-nas", {"block_configs": [BLOCK, {"ffn": {}}] * 2}, r"\[1\]: attention"),
        ("nemotron-nas", {"block_configs": [{**BLOCK, "ffn": {}}] * 4}, "ffn_mult"),
        ("nemotron-nas", {"block_configs": [{**BLOCK, "ffn": [1]}] * 4}, r"\[0\]: ffn"),
        ("nemotron-nas", {"block_configs": [half(3)] * 4}, "n_heads_in_group: 3 does not divide"),
        ("nemotron-nas", {"block_configs": [half(0)] * 4}, "n_heads_in_group"),
        ("nemotron-nas", {"block_configs": [half(True)] * 4}, "n_heads_in_group"),
        ("nemotron-nas", {"block_configs": [half(4, 0)] * 4}, "ffn_mult"),
        ("nemotron-nas", {"block_configs": [half(4, 10**18)] * 4}, "ffn_mult"),
        ("nemotron-nas", {"block_configs": [half(4, math.nan)] * 4}, "ffn_mult"),
        ("nemotron-nas", {"block_configs": [half(None)] * 4}, "no layer attends"),
        (
            "nemotron-nas",
            {
                "block_configs": [
                    {**BLOCK, "attention": {"n_heads_in_group": 4, "window_length": 9}}
                ]
                * 4
            },
            "window_length",
        ),
        (
            "nemotron-nas",
            {"block_configs": [{**BLOCK, "ffn": {"no_op": True, "replace_with_linear": True}}] * 4},
            "no_op",
        ),
        ("nemotron-nas", {"block_configs": [{**BLOCK, "ffn": {"no_op": 1}}] * 4}, "no_op"),
        ("gemma3n_text", {"num_kv_shared_layers": 4}, "num_kv_shared_layers"),
        ("gemma3n_text", {"num_kv_shared_layers": 3}, "num_kv_shared_layers"),
        ("gemma3n_text", {"num_kv_shared_layers": -1}, "num_kv_shared_layers"),
        ("gemma3n_text", {"num_kv_shared_layers": 10**18}, "num_kv_shared_layers"),
        ("gemma3n_text", {"altup_num_inputs": 1}, "altup_num_inputs"),
        ("gemma3n_text", {"laurel_rank": 0}, "laurel_rank"),
        ("gemma3n_text", {"intermediate_size": [160, 160]}, "intermediate_size: must list 4"),
        ("gemma3n_text", {"intermediate_size": [160, 160, 0, 160]}, "intermediate_size"),
        ("gemma3n_text", {"vocab_size_per_layer_input": 0}, "vocab_size_per_layer_input"),
        ("gemma4_text", {"num_global_key_value_heads": 3}, "num_global_key_value_heads: 3"),
        ("gemma4_text", {"global_head_dim": 0}, "global_head_dim"),
        ("gemma4_text", {"top_k_experts": 9}, "top_k_experts: 9 is more than"),
        ("gemma4_text", {"num_experts": None}, "num_experts: missing"),
        ("gemma4_text", {"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
        ("gemma4_text", {"rope_parameters": [1]}, "rope_parameters"),
        ("gemma4_text", {"attention_k_eq_v": 1}, "attention_k_eq_v"),
        ("mllama", {"cross_attention_layers": None}, "cross_attention_layers: missing"),
        ("mllama", {"cross_attention_layers": [4]}, "cross_attention_layers"),
        ("mllama", {"cross_attention_layers": [1, 1]}, "cross_attention_layers"),
        ("mllama", {"cross_attention_layers": [0, 1, 2, 3]}, "cross_attention_layers"),
        ("mllama", {"cross_attention_layers": 1}, "cross_attention_layers"),
        ("openelm", {"num_query_heads": [4]}, "num_query_heads: must list 2"),
        ("openelm", {"num_query_heads": [4, True]}, "num_query_heads"),
        ("openelm", {"num_kv_heads": [3, 2]}, "num_kv_heads: 3 does not divide"),
        ("openelm", {"num_kv_heads": None}, "num_kv_heads: missing"),
        ("openelm", {"ffn_multipliers": [0.5, 4.0, 1.0]}, "ffn_multipliers"),
        ("openelm", {"ffn_multipliers": [0.5, "4"]}, "ffn_multipliers"),
        ("openelm", {"ffn_multipliers": [0.5, 1e18]}, "ffn_multipliers"),
        ("hunyuan_v1_moe", {"use_cla": True}, "cla_share_factor: missing"),
        ("hunyuan_v1_moe", {"use_cla": True, "cla_share_factor": 0}, "cla_share_factor"),
    ],
)
def test_a_malformed_key_is_one_error_that_names_it(family, changes, key) -> None:
    with pytest.raises(SpecError, match=key) as refusal:
        read_blocks(keys(family, **changes), "some/config.json")
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith("some/config.json")


ODD = st.sampled_from(
    [None, 0, -1, 1, 3, 10**18, True, 1.5, math.nan, math.inf, "8", [], [1], {}, {"a": 1}]
)
HALF = st.dictionaries(
    st.sampled_from(["n_heads_in_group", "no_op", "replace_with_linear", "ffn_mult", "sparsify"]),
    ODD | st.sampled_from([2, 4, 5.25]),
)
ENTRY = st.fixed_dictionaries({"attention": HALF | ODD, "ffn": HALF | ODD}) | ODD


@settings(max_examples=300)
@given(st.lists(ENTRY, min_size=3, max_size=5) | ODD)
def test_any_block_configs_are_read_or_refused_in_one_line(entries: Any) -> None:
    try:
        found = blocks("nemotron-nas", block_configs=entries)
    except SpecError as error:
        assert "\n" not in str(error)
    else:
        assert parameters(found) > 0
        assert layer_count(found) == 4


def test_families_that_lack_the_part_have_no_idle_block() -> None:
    for family in CONFIGS:
        assert not any(b.idle or b.partial for b in read_blocks({**model(family).config}, family))


def test_a_quantised_recipe_leaves_small_parts_in_the_hidden_type() -> None:
    four = precision(weight_dtype="int4", weight_group_size=32, weight_scale_bytes=2.0)
    with jax.enable_x64(True):
        where = point(blocks("gemma3n_text"), TOY, four, **NUMBERS)
        plain = at(blocks("gemma3n_text"))
        saved = float(memory.weight_memory(plain)) - float(memory.weight_memory(where))
    # Attention and feed-forwards: 4·(16 384 + 30 720) and 2·4096; 4.5 bits instead of 16.
    assert saved == (4 * (16_384 + 30_720) + 2 * 4096) * (2 - 4.5 / 8)
