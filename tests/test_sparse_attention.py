"""Sparse and compressed attention: indexers, selections, compressed caches, residual streams."""

import json
import warnings
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from factories import CONFIGS, FP16, TOY, blocks, config, hardware, point, precision, shipped_model
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.errors import SpecError, SpecWarning
from sweep.kernel import memory, phases
from sweep.kernel.bindings.operator import Step
from sweep.kernel.block import Block
from sweep.kernel.growing_context import growing_seconds
from sweep.kernel.operator_table import OPERATORS, operator_names, tensors
from sweep.kernel.operator_time import Pricing
from sweep.kernel.operators.compression import compression
from sweep.kernel.operators.cost import Cost
from sweep.kernel.operators.hyper_connection import collapse, copy_to_streams, expand
from sweep.kernel.operators.indexer import (
    block_index_scores,
    index_scores,
    index_selection,
    keys_read,
)
from sweep.kernel.operators.selected_attention import entry_pairs, gathered_attention
from sweep.kernel.params import Point
from sweep.models.parameter_count import model_facts
from sweep.models.read import read_blocks, read_model

SPARSE = ("deepseek_v32", "minimax_m3", "deepseek_v4")
CELL = {"batch_size": 2, "isl": 7, "osl": 30, "context_len": 12}


@cache
def works(layers: tuple[Block, ...], *, decoding: bool, **numbers: float) -> list[phases.Work]:
    with jax.enable_x64(True):
        where = point(layers, TOY, FP16, **{**CELL, **numbers})
        return phases.decode_step(where) if decoding else phases.prefill(where)


def cost(name: str, layers: tuple[Block, ...], *, decoding: bool = True, **numbers: float) -> Cost:
    """Cost of an operator in the first block that runs it."""
    found = works(layers, decoding=decoding, **numbers)
    return next(work.cost for work in found if work.name == name)


@cache
def shipped_blocks(name: str) -> tuple[Block, ...]:
    return read_model(shipped_model(name))


# Each formula alone.


def test_an_indexer_reads_132_bytes_of_each_key() -> None:
    # DeepSeek-V3.2: 64 heads of 128. One query, 1000 keys in FP8 with a 32-bit scale each.
    found = index_scores(
        1000.0, 1.0, 1000.0, heads=64.0, head_dim=128.0, query_bytes=1.0, key_bytes=132 / 128
    )
    assert found.tensor_flops == 1000 * 16_384
    assert found.vector_flops == 1000 * 64 * 3
    assert found.kv_bytes == 132_000
    assert found.activation_bytes == 64 * (128 + 4) + 4000


def test_an_indexer_of_blocks_writes_a_score_for_each_head_and_block() -> None:
    # MiniMax-M3: 4 heads of 128, blocks of 128 tokens. One query, 1280 keys of two bytes.
    found = block_index_scores(
        1280.0,
        1.0,
        1280.0,
        heads=4.0,
        head_dim=128.0,
        block_size=128.0,
        query_bytes=2.0,
        key_bytes=2.0,
    )
    assert found.tensor_flops == 1280 * 1024
    assert found.vector_flops == 1280 * 4
    assert found.kv_bytes == 1280 * 256
    assert found.activation_bytes == 4 * 128 * 2 + 10 * 4 * 4


def test_a_selection_compares_each_score() -> None:
    found = index_selection(1000.0, 2.0, 64.0)
    assert found.vector_flops == 1000
    assert found.activation_bytes == 4000 + 2 * 64 * 4


def test_gathered_attention_shares_entries_among_heads() -> None:
    found = gathered_attention(
        1.0,
        10.0,
        10.0,
        heads=128.0,
        key_dim=576.0,
        value_dim=512.0,
        query_bytes=2.0,
        output_bytes=1.0,
        kv_bytes=2.0,
    )
    assert found.tensor_flops == 10 * 278_528
    assert found.special_ops == 1280
    assert found.kv_bytes == 10 * 1152
    assert found.activation_bytes == 128 * (576 * 2 + 512)


@given(st.integers(0, 90), st.integers(1, 20), st.integers(1, 12))
def test_pairs_with_entries_are_those_of_a_walk(length: int, tokens: int, limit: int) -> None:
    walk = [i // tokens for i in range(1, length + 1)]
    with jax.enable_x64(True):
        everything = entry_pairs(jnp.asarray(float(length)), jnp.asarray(float(tokens)), jnp.inf)
        some = entry_pairs(jnp.asarray(float(length)), float(tokens), float(limit))
    assert float(everything) == sum(walk)
    assert float(some) == sum(min(entries, limit) for entries in walk)


def test_the_pairs_of_the_docstring() -> None:
    assert float(entry_pairs(10.0, 4.0, jnp.inf)) == 10
    assert float(entry_pairs(10.0, 4.0, 1.0)) == 7


def test_keys_are_read_once_for_each_cache_full_of_queries() -> None:
    sizes: dict[str, Any] = {"query_bytes": 100.0, "pairs": 1e9}
    assert float(keys_read(10.0, 500.0, cache_bytes=1e6, **sizes)) == 500
    assert float(keys_read(10.0, 500.0, cache_bytes=250.0, **sizes)) == 4 * 500
    # Never more often than each query reads its own, and no more than a window reaches.
    assert float(keys_read(10.0, 500.0, cache_bytes=1.0, query_bytes=100.0, pairs=80.0)) == 80
    assert float(keys_read(10.0, 500.0, cache_bytes=250.0, reach=3.0, **sizes)) == 4 * 3 + 10


def test_compression_pools_two_series() -> None:
    # 8 tokens, an entry of 512 for every 4; each token contributes to two entries.
    found = compression(
        8.0,
        width=512.0,
        series=2.0,
        tokens_per_entry=4.0,
        rotary_dim=64.0,
        input_bytes=2.0,
        buffer_bytes=4.0,
        kv_bytes=2.0,
    )
    values = 8 * 2 * 512
    assert found.vector_flops == 4 * values + 2 * (4 * 512 + 3 * 64)
    assert found.special_ops == values + 2 * 513
    assert found.weight_bytes == (4 * 2 + 1) * 512 * 2
    # A value and its gate go into the buffer and come back; two entries are cached.
    assert found.kv_bytes == 4 * values * 4 + 2 * 512 * 2
    assert found.activation_bytes == 2 * values * 2


def test_streams_are_collapsed_and_expanded() -> None:
    # DeepSeek-V4-Pro: 4 streams of 7168, 4·6 mixing weights.
    width = 4 * 7168
    before = collapse(1.0, 7168.0, streams=4.0, weights=24.0, element_bytes=2.0)
    assert before.tensor_flops == 2 * width * 24
    assert before.weight_bytes == width * 24 * 2
    assert before.activation_bytes == (width + 7168 + 24) * 2
    after = expand(1.0, 7168.0, streams=4.0, element_bytes=2.0)
    assert after.vector_flops == width * 10
    assert after.activation_bytes == (2 * width + 7168) * 2
    assert copy_to_streams(1.0, 7168.0, streams=4.0, element_bytes=2.0).memory_bytes == 71_680


# One layer of published models.


def test_one_decode_step_of_glm_5() -> None:
    # 64 heads, latent 512 + 64; 32 heads of 128 in the indexer; 2048 tokens selected.
    layers, numbers = shipped_blocks("glm-5"), {"batch_size": 2, "context_len": 10_000}
    scores = cost("index_scores", layers, **numbers)
    assert float(scores.tensor_flops) == 2 * 2 * 10_000 * 32 * 128
    assert float(scores.kv_bytes) == 2 * 10_000 * 132
    attention = cost("selected_latent_attention", layers, **numbers)
    assert float(attention.tensor_flops) == 2 * 2 * 64 * 2048 * (576 + 512)
    assert float(attention.kv_bytes) == 2 * 2048 * 576 * 2
    selection = cost("index_selection", layers, **numbers)
    assert float(selection.activation_bytes) == 2 * 10_000 * 4 + 2 * 2048 * 4
    projections = {
        "index_query_projection": 2048 * 32 * 128,
        "index_key_projection": 6144 * 128,
        "index_weight_projection": 6144 * 32,
    }
    for name, weights in projections.items():
        assert float(cost(name, layers, **numbers).tensor_flops) == 2 * 2 * weights


def test_one_prefill_of_glm_5_takes_the_form_with_fewer_flops() -> None:
    layers = shipped_blocks("glm-5")
    short = cost("selected_latent_attention", layers, decoding=False, batch_size=1, isl=4096)
    # Keys of 256 and values of 256, for all pairs: 512 per pair, against 1088 in absorbed form.
    assert float(short.tensor_flops) == 2 * 64 * 4096 * 4097 / 2 * 512
    assert float(short.kv_bytes) == 0
    pairs = 2048 * 2049 / 2 + (65_536 - 2048) * 2048
    long = cost("selected_latent_attention", layers, decoding=False, batch_size=1, isl=65_536)
    assert float(long.tensor_flops) == 2 * 64 * pairs * 1088
    assert 65_536 * 1152 <= float(long.kv_bytes) <= pairs * 1152
    scores = cost("index_scores", layers, decoding=False, batch_size=1, isl=65_536)
    assert float(scores.tensor_flops) == 2 * 32 * 128 * 65_536 * 65_537 / 2


def test_one_decode_step_of_minimax_m3() -> None:
    # 16 blocks of 128 tokens for each of 4 KV heads; 64 query heads of 128.
    layers, numbers = shipped_blocks("minimax-m3"), {"batch_size": 1, "context_len": 100_000}
    attention = cost("selected_attention", layers, **numbers)
    assert float(attention.tensor_flops) == 4 * 64 * 2048 * 128
    assert float(attention.kv_bytes) == 2 * 4 * 128 * 2048 * 2
    scores = cost("block_index_scores", layers, **numbers)
    assert float(scores.kv_bytes) == 100_000 * 128 * 2
    dense = cost("attention", layers, **numbers)
    assert float(dense.kv_bytes) == 2 * 4 * 128 * 100_000 * 2


def test_one_decode_step_of_deepseek_v4_pro() -> None:
    # 128 heads and one key of 512, which is the value too.
    layers, numbers = shipped_blocks("deepseek-v4-pro"), {"batch_size": 1, "context_len": 100_000}
    window = cost("windowed_shared_attention", layers, **numbers)
    assert float(window.tensor_flops) == 2 * 128 * 128 * 1024
    assert float(window.kv_bytes) == 128 * 512 * 2
    heavy = cost("compressed_attention", layers, **numbers)
    assert float(heavy.kv_bytes) == 781 * 512 * 2  # ⌊100 000/128⌋ entries
    assert float(heavy.tensor_flops) == 2 * 128 * 781 * 1024
    sparse = cost("selected_compressed_attention", layers, **numbers)
    assert float(sparse.kv_bytes) == 1024 * 512 * 2
    scores = cost("compressed_index_scores", layers, **numbers)
    assert float(scores.kv_bytes) == 25_000 * 132
    assert float(scores.tensor_flops) == 25_000 * 16_384
    output = cost("grouped_output_projection", layers, **numbers)
    # 16 groups of 8 heads: 4096 → 1024 each.
    assert float(output.tensor_flops) == 2 * 16 * 4096 * 1024


# What is cached.


def test_bytes_that_a_token_adds_to_the_cache() -> None:
    facts = {name: model_facts(shipped_model(name)).kv_cache_bytes_per_token for name in SHIPPED}
    assert facts == {
        "glm-5": 78 * (576 * 2 + 132),
        "deepseek-v3.2": 61 * (576 * 2 + 132),
        "minimax-m3": 60 * 2 * 4 * 128 * 2 + 57 * 128 * 2,
        # A key in the window of each layer; of 4 tokens an entry and a key of the indexer in 30
        # layers, of 128 tokens an entry in 31.
        "deepseek-v4-pro": 61 * 1024 + 30 * (1024 + 132) // 4 + 31 * 1024 // 128,
    }


SHIPPED = ("glm-5", "deepseek-v3.2", "minimax-m3", "deepseek-v4-pro")


def held(name: str, tokens: float, recipe: str = "fp16", **numbers: float) -> float:
    with jax.enable_x64(True):
        where = point(shipped_blocks(name), TOY, precision(recipe), **numbers)
        return float(memory.kv_bytes_per_sequence(where, jnp.asarray(tokens)))


def test_the_whole_cache_is_kept_and_not_only_what_is_selected() -> None:
    assert held("glm-5", 100_000.0) == 100_000 * 78 * (576 * 2 + 132)
    # Keys of the indexer stay in FP8 whatever the recipe; they are copied, as latents are.
    assert held("glm-5", 100_000.0, "fp8") == 100_000 * 78 * (576 + 132)
    assert held("glm-5", 1000.0, tp=4) == held("glm-5", 1000.0)
    heads = 60 * 2 * 128 * 2 * 1000
    assert held("minimax-m3", 1000.0, tp=4) == heads + 57 * 128 * 2 * 1000


def test_a_compressed_cache_keeps_windows_entries_and_buffers() -> None:
    # ⌊1001/4⌋ = 250 entries with a key of the indexer in 30 layers, ⌊1001/128⌋ = 7 in 31.
    entries = 30 * 250 * (1024 + 132) + 31 * 7 * 1024
    # Values and gates in 32 bits: of 128 tokens, or of 8 tokens with two series.
    buffers = 31 * 2 * 128 * 512 * 4 + 30 * 2 * 8 * 2 * (512 + 128) * 4
    assert held("deepseek-v4-pro", 1001.0) == 61 * 128 * 1024 + entries + buffers
    assert held("deepseek-v4-pro", 3.0) == 61 * 3 * 1024 + buffers


def test_as_many_requests_as_their_caches_leave_room_for() -> None:
    with jax.enable_x64(True):
        numbers = {"tp": 8, "isl": 60_000, "osl": 1000, "max_num_tokens": 4096}
        where = point(shipped_blocks("glm-5"), hardware(memory_bytes=5e11), FP16, **numbers)
        widest = memory.working_memory(where, where.server.max_num_tokens, 2048.0)
        left = 5e11 - memory.weight_memory(where) - widest
        each = 61_000 * 78 * (576 * 2 + 132)
        assert float(memory.max_concurrency(where)) == float(jnp.floor(0.9 * left / each)) > 0


def test_scores_take_working_memory_up_to_a_limit() -> None:
    def working(name: str, tokens: float, isl: float) -> float:
        with jax.enable_x64(True):
            where = point(shipped_blocks(name), TOY, FP16, isl=isl, osl=1, tp=8)
            return float(memory.working_memory(where, tokens, 1.0))

    longer = working("glm-5", 1000.0, 20_999.0) - working("glm-5", 1000.0, 10_999.0)
    assert longer == 1000 * 10_000 * 4
    assert working("glm-5", 1000.0, 1e6) == working("glm-5", 1000.0, 2e6)
    # A score for each block of 128 tokens and, at tp = 8, for one head.
    longer = working("minimax-m3", 1000.0, 127_999.0) - working("minimax-m3", 1000.0, 127.0 * 1000)
    assert longer == pytest.approx(1000 * 999 / 128 * 4)


# Laws.


@pytest.mark.parametrize("family", ["deepseek_v32", "minimax_m3"])
def test_what_is_selected_costs_the_same_however_long_the_context(family: str) -> None:
    layers = blocks(family)
    contexts = (12, 13, 5000)
    for found in zip(*(works(layers, decoding=True, context_len=c) for c in contexts), strict=True):
        name = found[0].name
        flops = [float(w.cost.tensor_flops) + float(w.cost.vector_flops) for w in found]
        if name.startswith("selected_"):
            assert flops[0] == flops[1] == flops[2] > 0
        elif name.endswith(("index_scores", "index_selection")) or name == "attention":
            assert flops[0] < flops[1] < flops[2]


def test_selecting_everything_is_dense_latent_attention_and_an_indexer() -> None:
    dense = blocks("deepseek_v3")
    whole = blocks("deepseek_v32", index_topk=10_000)
    for decoding in (True, False):
        expected = [(w.name, w.cost) for w in works(dense, decoding=decoding)]
        found = [(w.name, w.cost) for w in works(whole, decoding=decoding)]
        indexer = [name for name, _ in found if name.startswith("index_")]
        assert set(indexer) == {name for name in OPERATORS if name in INDEX_OPERATORS}
        rest = [(name.removeprefix("selected_"), c) for name, c in found if "index_" not in name]
        assert [name for name, _ in rest] == [name for name, _ in expected]
        for (name, one), (_, other) in zip(rest, expected, strict=True):
            for field in vars(one):
                assert float(getattr(one, field)) == float(getattr(other, field)), (name, field)


INDEX_OPERATORS = {
    "index_query_projection",
    "index_key_projection",
    "index_key_norm",
    "index_weight_projection",
    "index_rotary",
    "index_cache_append",
    "index_scores",
    "index_selection",
}


@pytest.mark.parametrize("family", SPARSE)
def test_attention_over_a_growing_context_is_the_sum_of_its_steps(family: str) -> None:
    # Bandwidth and vector rate are so low that operators cross from one bound to another.
    machine = hardware(memory_bandwidth_bytes_per_s=3e9, vector_flops_per_s=5e10)
    with jax.enable_x64(True):
        where = point(blocks(family), machine, FP16)
        steps = [{}, *(one_step(where, jnp.arange(1.0, 100.0)))]
        for isl, osl in [(1, 90), (7, 6), (8, 2), (9, 40), (60, 23), (12, 1)]:
            found = grown(where, jnp.asarray(isl + 1.0), jnp.asarray(osl - 1.0))
            assert found.keys() == steps[1].keys()
            for key, seconds in found.items():
                total = sum(step[key] for step in steps[isl + 1 : isl + osl])
                assert seconds == pytest.approx(total, rel=1e-12), (key, isl, osl)


def attending(where: Point) -> list[tuple[int, Block, str]]:
    return [
        (number, block, name)
        for number, block in enumerate(where.model.blocks)
        for name in block.operators
        if OPERATORS[name].attention is not None
    ]


def pricing(where: Point) -> Pricing:
    step = Step(
        decoding=True,
        sequences=jnp.asarray(3.0),
        query_len=1.0,
        layout=where.layout,
        precision=where.precision,
        cache=where.hardware.cache,
    )
    return Pricing(where, step)


def grown(where: Point, first: jax.Array, terms: jax.Array) -> dict[tuple[int, str], float]:
    prices = pricing(where)
    return {
        (number, name): float(growing_seconds(prices, block, name, first, terms))
        for number, block, name in attending(where)
    }


def one_step(where: Point, contexts: jax.Array) -> list[dict[tuple[int, str], float]]:
    prices = pricing(where)
    found = {
        (number, name): jax.vmap(lambda c, b=block, n=name: prices.price(b, n, c)[1].latency)(
            contexts
        )
        for number, block, name in attending(where)
    }
    return [{key: float(jnp.ravel(v)[i]) for key, v in found.items()} for i in range(len(contexts))]


@pytest.mark.parametrize("family", SPARSE)
def test_chunks_of_a_prompt_score_and_attend_to_as_many_pairs_as_the_prompt(family: str) -> None:
    layers = blocks(family)
    with jax.enable_x64(True):
        where = point(layers, TOY, FP16)

        def flops(length: float, chunks: float, name: str, block: Block) -> float:
            step = Step(
                decoding=False,
                sequences=jnp.asarray(1.0),
                query_len=jnp.asarray(length),
                layout=where.layout,
                precision=where.precision,
                cache=jnp.asarray(1e9),
                chunks=jnp.asarray(chunks),
            )
            return float(OPERATORS[name].cost(block, step, 0.0).flops)

        for block in where.model.blocks:
            for name in block.operators:
                if OPERATORS[name].attention is not None:
                    whole = flops(80.0, 1.0, name, block)
                    assert 5 * flops(16.0, 5.0, name, block) == pytest.approx(whole, rel=1e-12)


def test_an_indexer_of_tokens_is_copied_and_one_of_blocks_is_split() -> None:
    glm, minimax = shipped_blocks("glm-5"), shipped_blocks("minimax-m3")

    def flops(name: str, layers: tuple[Block, ...], tp: int) -> float:
        return float(cost(name, layers, tp=tp, context_len=1000).tensor_flops)

    assert flops("index_scores", glm, 8) == flops("index_scores", glm, 1)
    assert (
        flops("selected_latent_attention", glm, 8) == flops("selected_latent_attention", glm, 1) / 8
    )
    assert flops("block_index_scores", minimax, 2) == flops("block_index_scores", minimax, 1) / 2
    # One head of the indexer for the one KV head that each GPU keeps.
    assert flops("block_index_scores", minimax, 8) == flops("block_index_scores", minimax, 4)


def test_an_indexer_computes_in_fp8_where_the_accelerator_does() -> None:
    def seconds(**peaks: float) -> float:
        machine = hardware(
            memory_bandwidth_bytes_per_s=1e30,
            vector_flops_per_s=1e30,
            special_function_ops_per_s=1e30,
            peak_flops_per_s={"fp16": 1e12, "bf16": 1e12, **peaks},
        )
        with jax.enable_x64(True):
            where = point(shipped_blocks("glm-5"), machine, precision("bf16"), context_len=1000)
            step = phases.decode_step(where)
            return float(next(w for w in step if w.name == "index_scores").seconds.latency)

    assert seconds() == pytest.approx(2 * 1000 * 32 * 128 / 1e12)
    assert seconds(fp8=4e12) == pytest.approx(seconds() / 4)


def test_an_unsplit_entry_waits_for_its_last_token() -> None:
    layers = blocks("deepseek_v4")
    entries = [
        float(cost("compressed_index_scores", layers, context_len=c, batch_size=1).kv_bytes)
        for c in (3, 4, 7, 8)
    ]
    assert entries == [0, 16.5, 16.5, 33]  # 16 elements of 1 + 1/32 bytes


# Configs.


def counted(layers: tuple[Block, ...]) -> int:
    return sum(int(block.count) * tensor.elements for block, tensor in tensors(layers))


def test_layers_that_share_a_selection_have_no_indexer() -> None:
    def indexers(**changes: Any) -> int:
        keys = config("deepseek_v32", model_type="glm_moe_dsa", num_hidden_layers=8, **changes)
        found = read_blocks(keys, "glm")
        return sum(int(b.count) for b in found if "index_scores" in b.operators)

    assert indexers() == 8
    # By default the first two and from then on every fourth: layers 0, 1, 5.
    assert indexers(index_topk_freq=4) == 3
    assert indexers(index_topk_freq=4, index_skip_topk_offset=1) == 2
    assert indexers(index_topk_pattern="FSSSFSSS") == 2
    assert indexers(indexer_types=["full"] + ["shared"] * 7) == 1


def test_minimax_m3_inside_a_model_that_sees_reads_the_same() -> None:
    keys = shipped_model("minimax-m3").config
    text = {key: value for key, value in keys.items() if key != "model_type"}
    outer = {"model_type": "minimax_m3_vl", "text_config": text}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecWarning)
        assert read_blocks(outer, "m3") == shipped_blocks("minimax-m3")
        bare = {key: value for key, value in text.items() if key != "moe_intermediate_size"}
        assert counted(read_blocks({**outer, "text_config": bare}, "m3")) == 426_174_572_928


def test_kinds_of_layers_by_name_and_by_tokens_of_an_entry() -> None:
    names = {
        128: "heavily_compressed_attention",
        4: "compressed_sparse_attention",
        0: "sliding_attention",
    }
    by_ratio = blocks("deepseek_v4")
    kinds = [names[ratio] for ratio in CONFIGS["deepseek_v4"]["compress_ratios"]]
    assert blocks("deepseek_v4", compress_ratios=None, layer_types=kinds) == by_ratio
    # A list may go on with the layers that predict further tokens.
    longer = [*CONFIGS["deepseek_v4"]["compress_ratios"], 0]
    with pytest.warns(SpecWarning, match="multi-token prediction"):
        found = blocks("deepseek_v4", compress_ratios=longer, num_nextn_predict_layers=1)
    assert found == by_ratio


def test_every_operator_of_sparse_models_has_a_name_in_reports() -> None:
    for family in SPARSE:
        names = operator_names(blocks(family))
        assert any(name.startswith("selected_") for name in names)
        assert any(name.endswith("index_selection") for name in names)


@pytest.mark.parametrize(
    ("family", "changes", "named"),
    [
        ("deepseek_v32", {"index_topk": None}, "index_topk: missing"),
        ("deepseek_v32", {"index_topk": 0}, "index_topk: must be an integer"),
        ("deepseek_v32", {"index_n_heads": 10**18}, "index_n_heads: must be an integer"),
        ("deepseek_v32", {"q_lora_rank": None}, "q_lora_rank: missing"),
        ("deepseek_v32", {"index_head_dim": 4}, "index_head_dim: must not be below"),
        ("deepseek_v32", {"layer_types": ["full_attention"] * 3}, "layer_types: must all be"),
        ("deepseek_v32", {"moe_layer_freq": 2}, "moe_layer_freq: must be 1"),
        ("deepseek_v32", {"attention_bias": True}, "attention_bias"),
        ("deepseek_v32", {"index_topk_freq": 2}, "index_topk_freq: a part that"),
        ("deepseek_v32", {"sparse_attention_config": {"a": 1}}, "sparse_attention_config"),
        ("deepseek_v32", {"compress_ratios": [4, 4, 4]}, "compressed attention"),
        ("minimax_m3", {"sparse_attention_config": [1]}, "sparse_attention_config: must be a map"),
        ("minimax_m3", {"sparse_attention_config": {}}, "sparse_attention_freq: missing"),
        ("minimax_m3", {"index_topk": 4}, "index_topk: a part that"),
        ("minimax_m3", {"n_shared_experts": 2}, "n_shared_experts: must be 1"),
        ("minimax_m3", {"moe_intermediate_size": 33}, "moe_intermediate_size: differs"),
        ("minimax_m3", {"use_routing_bias": False}, "use_routing_bias: false is not supported"),
        ("deepseek_v4", {"compress_ratios": [128, 4]}, "compress_ratios: must list 4 layers"),
        ("deepseek_v4", {"compress_ratios": [128, 4, 0, 8]}, "compress_ratios: 8 is not supp"),
        ("deepseek_v4", {"compress_ratios": "4"}, "compress_ratios: must be a list"),
        ("deepseek_v4", {"compress_ratios": None}, "compress_ratios: missing"),
        ("deepseek_v4", {"num_key_value_heads": 2}, "num_key_value_heads: must be 1"),
        ("deepseek_v4", {"num_hash_layers": 5}, "num_hash_layers: 5 is more than"),
        ("deepseek_v4", {"o_groups": 5}, "o_groups: 5 does not divide"),
        ("deepseek_v4", {"qk_rope_head_dim": 24}, "qk_rope_head_dim: must be below"),
        ("deepseek_v4", {"scoring_func": "tanh"}, "scoring_func: must be one of"),
        ("deepseek_v4", {"mlp_bias": True}, "mlp_bias: true is not supported"),
        ("deepseek_v4", {"layer_types": ["full_attention"] * 4}, "layer_types: must name"),
        ("deepseek_v4", {"mlp_layer_types": ["sparse"] * 4}, "mlp_layer_types: must be a list"),
        ("deepseek_v4", {"hc_mult": 0}, "hc_mult: must be an integer"),
        ("deepseek_v4", {"candidate_layer_index_topk": 3}, "candidate_layer_index_topk"),
        ("deepseek_v3", {"index_topk": 8}, "sparse attention with an indexer"),
        ("llama", {"compress_ratios": [4]}, "compressed attention"),
    ],
)
def test_a_key_that_is_wrong_or_of_another_structure_is_named(family, changes, named) -> None:
    with pytest.raises(SpecError, match=named) as refusal:
        blocks(family, **changes)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sparse_index_dim": None}, "sparse_index_dim: missing"),
        ({"sparse_num_index_heads": 4}, "sparse_num_index_heads: must be the 2 KV heads"),
        ({"sparse_attention_freq": [0, 1]}, "sparse_attention_freq: must list 3 layers"),
        ({"sparse_attention_freq": [0, 1, 2]}, "sparse_attention_freq: must be a list of 0 and 1"),
        ({"sparse_disable_index_value": [0, 0, 1]}, "sparse_disable_index_value: 0 is not"),
        ({"sparse_score_type": "mean"}, "sparse_score_type: only 'max'"),
        ({"sparse_init_block": 1}, "sparse_init_block: only 0"),
        ({"sparse_local_block": 4}, "sparse_local_block: 4 is more than"),
        ({"sparse_topk_blocks": True}, "sparse_topk_blocks: must be an integer"),
        ({"sparse_new_head_dim": 3}, "sparse_new_head_dim: a part that"),
    ],
)
def test_a_wrong_key_of_the_selection_of_blocks_is_named(changes, named) -> None:
    section = {**CONFIGS["minimax_m3"]["sparse_attention_config"], **changes}
    section = {key: value for key, value in section.items() if value is not None}
    with pytest.raises(SpecError, match=named):
        blocks("minimax_m3", sparse_attention_config=section)


WRONG = st.sampled_from(
    [None, 0, -1, 1, 3, 7, 10**18, True, False, 1.5, "F", "", [], [1], [0, 1, 1], {}, {"a": 1}]
)
SECTION_KEYS = [*CONFIGS["minimax_m3"]["sparse_attention_config"], "sparse_disable_index_value"]
FURTHER_KEYS = [
    *("index_topk_freq", "index_skip_topk_offset", "index_topk_pattern", "indexer_types"),
    *("layer_types", "mlp_layer_types", "moe_layer_freq", "compress_ratios", "compress_rates"),
    *("sparse_attention_config", "use_routing_bias", "n_shared_experts", "num_hash_layers"),
]


@settings(max_examples=200)
@given(st.sampled_from([*SPARSE, "glm_moe_dsa"]), st.data())
def test_a_malformed_config_is_one_error_of_one_line(family: str, data: st.DataObject) -> None:
    tiny = "deepseek_v32" if family == "glm_moe_dsa" else family
    keys = json.loads(json.dumps(config(tiny, model_type=family)))
    if family == "minimax_m3":
        section = st.dictionaries(st.sampled_from(SECTION_KEYS), WRONG, max_size=2)
        keys["sparse_attention_config"] |= data.draw(section)
    changed = st.dictionaries(st.sampled_from([*keys, *FURTHER_KEYS]), WRONG, max_size=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecWarning)
        try:
            found = read_blocks({**keys, **data.draw(changed)}, "some/config.json")
        except SpecError as error:
            assert "\n" not in str(error)
            assert str(error).startswith("some/config.json")
        else:
            assert counted(found) > 0
