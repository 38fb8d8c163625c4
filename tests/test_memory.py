"""Bytes in device memory, worked out by hand, and every reason not to run."""

from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from factories import (
    CONFIGS,
    FP16,
    PEAKS,
    TOY,
    hardware,
    model,
    point,
    precision,
    price,
    shipped,
    shipped_model,
)

from sweep.errors import GridError
from sweep.evaluation.plan import make_plan
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.kernel import memory, phases
from sweep.kernel.block import Block
from sweep.kernel.request import Request
from sweep.models.parameter_count import model_facts
from sweep.models.read import is_supported, read_blocks
from sweep.runs.run import run, run_plan
from sweep.schema.terms import INFEASIBLE_REASONS
from sweep.schema.variables import VARIABLES
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import PrecisionSpec

LARGE = hardware(memory_bytes=1e15)


def bytes_of(
    quantity: Any, spec: ModelSpec, recipe: PrecisionSpec = FP16, **numbers: float
) -> float:
    with jax.enable_x64(True):
        return float(quantity(point(spec, LARGE, recipe, **numbers)))


# Weights.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sweep.errors.SpecWarning")
def test_sixteen_bit_weights_take_two_bytes_a_parameter() -> None:
    every = (shipped_model(name) for name in shipped().paths("models"))
    specs = [spec for spec in every if is_supported(spec.config)]
    assert len(specs) > 100
    stored = {spec.name: bytes_of(memory.weight_memory, spec) for spec in specs}
    assert stored == {spec.name: 2 * model_facts(spec).parameters for spec in specs}


def test_weights_are_shared_but_for_kv_heads_and_norms() -> None:
    # A layer of the tiny Llama, hidden 64, heads 8 + 2·2 of 8, feed-forward 160:
    #   split in four   q 4096, o 4096, gate and up 20480, down 10240: 38912/4 = 9728
    #   split in two    k and v 2·16·64 = 2048: there are but two KV heads: 1024
    #   copied          two norms of 64: 128
    # Three of them are 32640; embedding and head are 512·64/4 = 8192 each, the last norm 64.
    assert bytes_of(memory.weight_memory, model("llama"), tp=4) == 2 * (32_640 + 16_384 + 64)


def test_embedding_head_and_norms_are_stored_in_types_of_their_own() -> None:
    # The same model, unsharded: 3·(38912 + 2048) = 122 880 weights of linear layers in 4 bits
    # with a 16-bit scale for each 16 of them, 32 768 of the head in 8 bits, the embedding's
    # 32 768 and the norms' 3·128 + 64 = 448 in 16 bits.
    recipe = precision(
        weight_dtype="int4", weight_group_size=16, weight_scale_bytes=2.0, head_dtype="fp8"
    )
    expected = 122_880 * (0.5 + 2 / 16) + 32_768 * 1 + (32_768 + 448) * 2
    assert bytes_of(memory.weight_memory, model("llama"), recipe) == expected


def test_every_expert_is_stored() -> None:
    # Eight gated feed-forwards of 3·64·160 in place of one, and a router of 64·8, three times.
    more = bytes_of(memory.weight_memory, model("mixtral")) - bytes_of(
        memory.weight_memory, model("llama")
    )
    assert more == 2 * 3 * (7 * 30_720 + 512)


def read_and_stored(spec: ModelSpec, recipe: PrecisionSpec, tp: int) -> tuple[float, float]:
    """Weights that one decode step reads whole, and those stored that it should read so.

    Of the tables of embeddings a step reads a row per token, unless the head shares one.
    """
    tables = ("embedding", "position_embedding")
    with jax.enable_x64(True):
        # With so many tokens every expert is hit.
        where = point(spec, LARGE, recipe, tp=tp, batch_size=1e6, context_len=10)
        works = phases.decode_step(where)
        read = sum(float(w.count * w.cost.weight_bytes) for w in works if w.name not in tables)
        stored = float(memory.weight_memory(where))
        hidden = float(where.precision.hidden)
    first, *_, last = read_blocks(spec.config, spec.name)
    table = first.vocab_size * first.embedding_size * last.untied / tp
    return read, stored - hidden * (table + first.positions * first.hidden_size)


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("tp", [1, 4])
def test_a_decode_step_reads_every_stored_weight_once(family: str, tp: int) -> None:
    recipe = precision(weight_dtype="int8", hidden_dtype="fp32", head_dtype="fp32")
    read, stored = read_and_stored(model(family), recipe, tp)
    assert read == pytest.approx(stored, rel=1e-12)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_layers_with_fewer_kv_heads_copy_them_sooner(tp: int) -> None:
    recipe = precision(weight_dtype="int8", hidden_dtype="fp32", head_dtype="fp32")
    spec = model("mimo_v2_flash", swa_num_key_value_heads=4)
    read, stored = read_and_stored(spec, recipe, tp)
    assert read == pytest.approx(stored, rel=1e-12)


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_is_read_in_the_type_it_is_stored_in(tied: bool) -> None:
    recipe = precision(head_dtype="fp8")
    read, stored = read_and_stored(model("llama", tie_word_embeddings=tied), recipe, 1)
    assert read == pytest.approx(stored, rel=1e-12)


# KV cache.

SELECTING = ("deepseek_v32", "deepseek_v4", "minimax_m3")


@pytest.mark.parametrize(
    ("tp", "expected"),
    [
        (1, 5_368_709_120),  # 2·80·8·128·2 = 327 680 bytes a token, 4 sequences of 4096
        (8, 671_088_640),  # an eighth: one KV head each
        (16, 671_088_640),  # still one
    ],
)
def test_kv_cache_of_llama_2_70b(tp: int, expected: int) -> None:
    spec = shipped_model("llama-2-70b")
    numbers = {"batch_size": 4, "context_len": 4096, "tp": tp}
    assert bytes_of(memory.kv_cache_memory, spec, **numbers) == expected


@pytest.mark.parametrize(
    ("context_len", "expected"),
    [
        # 2·16·128·2 = 8192 bytes a token and layer, 23 layers of each kind.
        (1000, 46 * 8192 * 1000),
        (4096, 46 * 8192 * 4096),
        (10_000, 23 * 8192 * 10_000 + 23 * 8192 * 4096),  # half the layers keep their window
    ],
)
def test_kv_cache_of_gemma_2_27b(context_len: int, expected: int) -> None:
    spec = shipped_model("gemma-2-27b")
    assert bytes_of(memory.kv_cache_memory, spec, context_len=context_len) == expected


def test_published_kv_cache_of_opt_13b() -> None:
    # Kwon et al., "Efficient memory management for large language model serving with
    # PagedAttention", SOSP 2023, section 3: "the KV cache of a single token demands 800 KB of
    # space, calculated as 2 × 5120 × 40 × 2", and a request of 2048 tokens up to 1.6 GB.
    spec = shipped_model("opt-13b")
    assert model_facts(spec).kv_cache_bytes_per_token == 2 * 5120 * 40 * 2 == 800 * 1024
    whole = bytes_of(memory.kv_cache_memory, spec, context_len=2048)
    assert whole == pytest.approx(1.6 * 1024**3, rel=0.03)


def test_an_eight_bit_cache_takes_half() -> None:
    numbers = {"batch_size": 3, "context_len": 100}
    half = bytes_of(memory.kv_cache_memory, model("llama"), **numbers)
    eight = bytes_of(memory.kv_cache_memory, model("llama"), precision(kv_dtype="fp8"), **numbers)
    assert eight == half / 2 == 28_800  # 2·3 layers·2 heads·8, 300 tokens, a byte


def test_a_sequence_is_as_long_as_its_input_and_output() -> None:
    def kept(**lengths: float) -> float:
        return bytes_of(memory.kv_cache_memory, model("llama"), **lengths)

    assert kept(isl=70, osl=30) == kept(context_len=100) == kept(isl=100)


def test_a_point_without_any_length_is_refused() -> None:
    with pytest.raises(GridError, match="context_len"):
        bytes_of(memory.kv_cache_memory, model("llama"))


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("tp", [1, 4])
def test_a_decode_step_reads_the_whole_cache_once(family: str, tp: int) -> None:
    with jax.enable_x64(True):
        where = point(model(family), LARGE, precision(kv_dtype="fp8"), tp=tp, context_len=96)
        works = [w for w in phases.decode_step(where) if w.name.endswith("attention")]
        read = sum(float(w.count * w.cost.kv_bytes) for w in works)
        kept = float(memory.kv_cache_memory(where))
        # Attention that selects tokens, or reads compressed ones, reads a part.
        assert (0 < read < kept) if family in SELECTING else (read == kept > 0)


# Activations.


def working(name: str, **numbers: float) -> float:
    """What a static batch takes beside weights and cache."""
    parts = (memory.memory_required, memory.weight_memory, memory.kv_cache_memory)
    whole, weights, cache = (bytes_of(part, shipped_model(name), **numbers) for part in parts)
    return whole - weights - cache


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        # Stream in and out, 2·4096, beside gate and up, 2·11008: 60 416 bytes a token.
        ({"isl": 1024}, 1024 * 60_416),
        # Eight to a group: 2·4096 + 2·11008/8 elements, and 2·7/8·4096 of each token exchanged.
        ({"isl": 1024, "tp": 8}, 1024 * 2 * (8192 + 2752 + 7168)),
        # In a decode step 32 000 logits in 2 and in 4 bytes outweigh one token's 60 416.
        ({"context_len": 1024, "batch_size": 64}, 64 * 192_000),
        # Split in eight, 4000 logits of 2 bytes are gathered to 32 000 of 4.
        ({"context_len": 1024, "batch_size": 64, "tp": 8}, 64 * (8000 + 128_000 + 2 * 7168)),
    ],
)
def test_activations_of_llama_2_7b(numbers: dict[str, float], expected: int) -> None:
    assert working("llama-2-7b", **numbers) == expected


def test_activations_of_routed_experts_count_each_visit() -> None:
    # Mixtral 8x7B: stream 2·4096 and two experts' gate and up, 2·2·14336, in 2 bytes.
    assert working("mixtral-8x7b", isl=100) == 100 * 2 * (8192 + 57_344)


def test_the_largest_exchange_has_a_buffer() -> None:
    # DeepSeek V3 on 8 groups, experts whole on 8 GPUs: each token's 7/8 of 8 copies, but no more
    # than one for each of the 7 other groups, of 7168 elements in 16 bits.
    alone = working("deepseek-v3", isl=100, batch_size=8)
    spread = working("deepseek-v3", isl=100, batch_size=8, dp_attention=8, ep=8)
    assert spread == alone / 8 + 100 * 7 * 7168 * 2


def test_memory_required_is_the_sum_of_its_parts() -> None:
    # LLaMA-2-7B at 1024 tokens: 2·6 738 415 616 of weights, 32·2·32·128·1024·2 of cache and
    # 32 000 logits in 2 bytes and in 4.
    spec = shipped_model("llama-2-7b")
    required = bytes_of(memory.memory_required, spec, context_len=1024)
    assert required == 13_476_831_232 + 536_870_912 + 192_000


# Reasons not to run.


def reason(
    spec: ModelSpec | tuple[Block, ...],
    machine: HardwareSpec = LARGE,
    recipe: PrecisionSpec = FP16,
    **numbers: float,
) -> int:
    numbers = numbers if "isl" in numbers else {"context_len": 100, **numbers}
    asked = ("e2e_latency", "decode_step_latency")
    with jax.enable_x64(True):
        request = Request(point(spec, machine, recipe, **numbers), asked=asked)
        found = int(request.infeasible_reason)
        assert int(request.feasible) == (found == 0)
    return found


FOUR_BITS = precision("half", weight_dtype="int4", weight_group_size=128, weight_scale_bytes=2.0)
NO_LINK = {"link_bandwidth_bytes_per_s": None, "pcie_bandwidth_bytes_per_s": None}
EXACT_FIT = 13_476_831_232 + 536_870_912 + 192_000
"""What LLaMA-2-7B requires at 1024 tokens, as above."""


PCIE, LINK = "pcie_bandwidth_bytes_per_s", "link_bandwidth_bytes_per_s"
TWELVE = {
    "num_attention_heads": 12,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "intermediate_size": 192,
}
GROUPED = {"intermediate_size": 512, "head_dim": 16, "num_key_value_heads": 8}


def sized(memory_bytes: float) -> HardwareSpec:
    return hardware(memory_bytes=float(memory_bytes))


def padded_qwen() -> ModelSpec:
    spec = shipped_model("qwen2-72b")
    padded = {**spec.config, "intermediate_size": 29_696}
    return spec.model_copy(update={"config": padded})


SLOWEST = hardware(
    memory_bytes=1e30, memory_bandwidth_bytes_per_s=1.0, peak_flops_per_s=dict.fromkeys(PEAKS, 1.0)
)
MOST = {"batch_size": 1e9, "osl": 2}
REASONS: dict[str, tuple[list[Any], list[Any]]] = {
    # Cases with exactly this reason, and neighbours with none.
    "exceeds_memory": (
        [lambda: reason(shipped_model("llama-2-7b"), sized(EXACT_FIT - 1), context_len=1024)],
        [lambda: reason(shipped_model("llama-2-7b"), sized(EXACT_FIT), context_len=1024)],
    ),
    "tp_does_not_divide_heads": (
        [
            # 12 heads and 3 KV heads: neither 3 by 2 nor 4 by 3 divides.
            lambda: reason(model("llama", **TWELVE), tp=2),
            lambda: reason(model("llama", **TWELVE), tp=4),
            # 8 heads by 3, though the feed-forward of 162 divides.
            lambda: reason(model("gpt2", n_inner=162), tp=3),
        ],
        [
            lambda: reason(model("llama", **TWELVE), tp=3),
            # Each KV head on two GPUs.
            lambda: reason(model("llama", **TWELVE), tp=6),
        ],
    ),
    "tp_does_not_divide_ffn": (
        [lambda: reason(model("llama", intermediate_size=172), tp=8)],  # 172 = 21·8 + 4
        [
            lambda: reason(model("llama", intermediate_size=176), tp=8),
            lambda: reason(model("llama", intermediate_size=172), tp=4),
        ],
    ),
    "tp_splits_quantisation_group": (
        [
            # 29568/8 = 3696 = 28·128 + 112 and 29568/2 = 14784 = 115·128 + 64.
            lambda: reason(shipped_model("qwen2-72b"), recipe=FOUR_BITS, tp=8),
            lambda: reason(shipped_model("qwen2-72b"), recipe=FOUR_BITS, tp=2),
            # The output projection: 8·16 rows by 2 leave 64.
            lambda: reason(model("llama", **GROUPED), recipe=FOUR_BITS, tp=2),
        ],
        [
            lambda: reason(shipped_model("qwen2-72b"), tp=8),  # no groups in 16 bits
            lambda: reason(shipped_model("qwen2-72b"), recipe=FOUR_BITS, tp=1),  # 231·128
            # 29696 in 232 groups, as the padded checkpoints have it.
            lambda: reason(padded_qwen(), recipe=FOUR_BITS, tp=8),
            lambda: reason(model("llama", **GROUPED), recipe=FOUR_BITS, tp=1),
        ],
    ),
    "exceeds_learned_positions": (
        [
            lambda: reason(shipped_model("gpt2"), isl=1000, osl=25),
            lambda: reason(shipped_model("gpt2"), context_len=1025),
            lambda: reason(shipped_model("opt-125m"), context_len=2051),
        ],
        [
            lambda: reason(shipped_model("gpt2"), isl=1000, osl=24),
            lambda: reason(shipped_model("gpt2"), context_len=1024),
            lambda: reason(shipped_model("opt-125m"), context_len=2048),
            # Rotary embeddings know no last position.
            lambda: reason(shipped_model("llama-2-7b"), context_len=100_000),
        ],
    ),
    "no_link_between_gpus": (
        [lambda: reason(model("llama"), hardware(**NO_LINK), tp=2)],
        [
            lambda: reason(model("llama"), hardware(**NO_LINK), tp=1),
            lambda: reason(model("llama"), hardware(**NO_LINK | {PCIE: 3e10}), tp=2),
            lambda: reason(model("llama"), hardware(**NO_LINK | {LINK: 3e10}), tp=2),
        ],
    ),
    "experts_not_divisible": (
        [
            # A dense model has no experts to spread, 8 experts do not spread over 3 GPUs, and
            # 2 GPUs are not 4.
            lambda: reason(model("llama"), tp=2, ep=2),
            lambda: reason(model("mixtral", intermediate_size=162), dp_attention=3, ep=3),
            lambda: reason(model("mixtral"), tp=2, ep=4),
        ],
        [
            lambda: reason(model("mixtral"), tp=2, ep=2),
            lambda: reason(model("mixtral"), dp_attention=8, ep=8),
        ],
    ),
    "pp_exceeds_layers": (
        [lambda: reason(model("llama"), pp=4)],
        [lambda: reason(model("llama"), pp=3)],
    ),
    "time_out_of_range": (
        # 10⁹ prompts of 10⁹ tokens: 10²⁷ pairs, each of 4·64 FLOPs in 3 layers at 1 FLOP/s.
        [lambda: reason(model("llama"), SLOWEST, isl=1e9, **MOST)],
        # 10¹⁷ pairs, and 10⁹ steps of one token.
        [
            lambda: reason(model("llama"), SLOWEST, isl=1e4, **MOST),
            lambda: reason(model("llama"), SLOWEST, context_len=1e9),
        ],
    ),
}


def test_every_reason_has_a_case() -> None:
    assert set(REASONS) == set(INFEASIBLE_REASONS)


def test_reasons_are_bits_of_their_own() -> None:
    bits = list(INFEASIBLE_REASONS.values())
    assert sorted(bits) == [1 << n for n in range(len(bits))]
    assert sum(bits) <= np.iinfo(VARIABLES["infeasible_reason"].dtype).max


@pytest.mark.slow
@pytest.mark.parametrize("name", INFEASIBLE_REASONS)
def test_a_reason_stands_alone_and_its_neighbours_run(name: str) -> None:
    cases, neighbours = REASONS[name]
    assert {case() for case in cases} == {INFEASIBLE_REASONS[name]}
    assert {neighbour() for neighbour in neighbours} == {0}


def test_the_two_reserved_positions_of_opt_are_not_for_tokens() -> None:
    # 2048 positions; the table has two rows more, which padding takes.
    last, beyond = (reason(shipped_model("opt-125m"), context_len=n) for n in (2048, 2049))
    assert (last, beyond) == (0, INFEASIBLE_REASONS["exceeds_learned_positions"])


def test_reasons_add_up() -> None:
    # GPT-2: 12 heads by 8 do not divide (3072 does), 2000 tokens exceed 1024, there is no
    # link, and 1000 bytes hold nothing.
    machine = hardware(memory_bytes=1000.0, **NO_LINK)
    assert reason(shipped_model("gpt2"), machine, tp=8, context_len=2000) == 1 + 2 + 16 + 32


def test_feasible_is_the_absence_of_reasons(wide64: xr.Dataset) -> None:
    feasible, reasons = wide64["feasible"], wide64["infeasible_reason"]
    assert ((feasible == 1) == (reasons == 0)).all()
    assert set(np.unique(feasible)) == {0, 1}


def test_memory_required_decides_the_first_reason(wide64: xr.Dataset) -> None:
    capacity = xr.DataArray(
        [shipped().hardware(name).memory_bytes for name in ("h100-sxm-80gb", "a10g")],
        {"hardware": ["h100-sxm-80gb", "a10g"]},
    )
    exceeds = wide64["memory_required"] > capacity
    flagged = (wide64["infeasible_reason"] & 1) == 1
    flagged = flagged.sel(hardware=exceeds.hardware).transpose(*exceeds.dims)
    assert (exceeds == flagged).all()
    assert exceeds.any()
    assert not exceeds.all()


THROUGHPUTS = [
    "output_throughput",
    "output_throughput_per_gpu",
    "output_throughput_per_user",
]


@pytest.mark.parametrize("name", THROUGHPUTS)
def test_throughput_is_missing_where_nothing_can_run(name: str, wide64: xr.Dataset) -> None:
    possible = (wide64["feasible"] == 1) & (wide64["tpot"].notnull() | ("user" not in name))
    possible = possible.transpose(*wide64[name].dims)
    xr.testing.assert_equal(wide64[name].notnull(), possible)
    assert wide64["e2e_latency"].notnull().all()


@pytest.mark.slow
def test_throughput_stands_where_it_is_asked_for() -> None:
    # Memory bounds no rate: the two machines are alike otherwise.
    grid = Grid(
        models=[model("llama")],
        hardware=[TOY, hardware(name="small", memory_bytes=1000.0)],
        precision=[FP16],
        batch_size=[1],
        isl=[100],
        osl=[10],
        variables=THROUGHPUTS,
    )
    kept = run(grid, keep_infeasible=True).squeeze()
    left = run_plan(make_plan(resolve(grid, shipped()))).squeeze()
    for name in THROUGHPUTS:
        assert np.isfinite(left[name]).values.tolist() == [True, False]
        assert np.isfinite(kept[name]).all()
        assert kept[name].sel(hardware="toy") == kept[name].sel(hardware="small")


def test_windows_cap_the_cache_of_every_windowed_layer() -> None:
    # 6 layers keep 48 tokens, one keeps all 100: 2·2·16 elements of 2 bytes each.
    kept = bytes_of(memory.kv_cache_memory, model("gemma3"), context_len=100)
    assert kept == 128 * (6 * 48 + 100)


# KV cache of published models, one token in 16 bits, by hand.


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        # 80 layers, 8 KV heads of 128 for 64 query heads, keys and values, 2 bytes.
        ("llama-2-70b", 80 * 8 * 128 * 2 * 2),
        # 61 layers of one latent, 512 + 64 = 576 values, for all 128 heads.
        ("deepseek-v3", 61 * 576 * 2),
        # 46 layers, 16 KV heads of 128.
        ("gemma-2-27b", 46 * 16 * 128 * 2 * 2),
        # 36 layers, 8 KV heads of 64.
        ("gpt-oss-120b", 36 * 8 * 64 * 2 * 2),
    ],
)
def test_kv_bytes_of_a_token(name: str, bytes_per_token: int) -> None:
    grown = [bytes_of(memory.kv_cache_memory, shipped_model(name), context_len=n) for n in (50, 51)]
    assert grown[1] - grown[0] == bytes_per_token


@pytest.mark.parametrize(
    ("name", "window", "windowed", "full", "bytes_per_layer"),
    [
        # Every other of 46 layers sees 4096 tokens; every other of 36 sees 128.
        ("gemma-2-27b", 4096, 23, 23, 16 * 128 * 2 * 2),
        ("gpt-oss-120b", 128, 18, 18, 8 * 64 * 2 * 2),
    ],
)
def test_beyond_its_window_a_layer_caches_no_more(
    name: str, window: int, windowed: int, full: int, bytes_per_layer: int
) -> None:
    spec, beyond = shipped_model(name), 3 * window
    held = bytes_of(memory.kv_cache_memory, spec, context_len=beyond)
    assert held == (full * beyond + windowed * window) * bytes_per_layer


def test_tensor_parallel_copies_of_few_kv_heads() -> None:
    # 8 KV heads over 8 GPUs are one each; over 16 each is kept twice, so no GPU keeps less.
    spec = shipped_model("llama-2-70b")
    one, eight, sixteen = (
        bytes_of(memory.kv_cache_memory, spec, tp=tp, context_len=100) for tp in (1, 8, 16)
    )
    assert (eight, sixteen) == (one / 8, one / 8)


@pytest.mark.parametrize("pp", [1, 2, 4])
def test_each_stage_of_a_pipeline_has_an_iteration_of_the_most_sequences(pp: int) -> None:
    # Three sequences an iteration, and as many iterations as stages at once.
    spec, machine = shipped_model("llama-3.1-8b"), shipped().hardware("h100-sxm-80gb")
    numbers = {"pp": pp, "isl": 100, "osl": 10, "max_batch_size": 3}
    found = price(("max_concurrency",), spec, machine, **numbers)["max_concurrency"]
    assert float(found) == 3 * pp
