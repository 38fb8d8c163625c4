"""Operators that models run: published layers by hand, and families with their own order."""

import jax
import pytest
from factories import (
    CONFIGS,
    FP16,
    TOY,
    all_families,
    blocks,
    config,
    model,
    point,
    price,
    shipped,
    shipped_model,
)
from model_families import OTHER_FAMILIES
from state_models import STATE_MODELS, VARIANTS, tiny
from test_operators import costs, spent

from sweep.kernel import phases
from sweep.kernel.bindings.operator import Step
from sweep.kernel.block import Block
from sweep.kernel.draft import AFTER, BEFORE
from sweep.kernel.operator_table import OPERATORS
from sweep.models.read import read_blocks

# Operators in models.


LLAMA_2_7B_DECODE = {
    "embedding": {"weight_bytes": 8192, "activation_bytes": 8192},  # a row of 4096·2
    "attention_norm": {
        "vector_flops": 16_384,  # 4·4096
        "special_ops": 1,
        "weight_bytes": 8192,
        "activation_bytes": 16_384,  # 4096·(2 + 2)
    },
    "qkv_projection": {
        "tensor_flops": 100_663_296,  # 2·4096·3·4096
        "weight_bytes": 100_663_296,
        "activation_bytes": 32_768,  # (4096 + 12288)·2
    },
    # 32 query and 32 key heads of 128: 8192 elements.
    "rotary": {"vector_flops": 24_576, "activation_bytes": 32_768},
    "kv_cache_append": {"kv_bytes": 16_384, "activation_bytes": 16_384},
    "attention": {
        "tensor_flops": 16_777_216,  # 4·32·128·1024
        "special_ops": 32_768,  # 32·1024
        "kv_bytes": 16_777_216,  # 2·32·128·1024·2
        "activation_bytes": 16_384,
    },
    "output_projection": {
        "tensor_flops": 33_554_432,
        "weight_bytes": 33_554_432,
        "activation_bytes": 16_384,
    },
    "attention_all_reduce": {},
    "attention_residual": {"vector_flops": 4096, "activation_bytes": 24_576},
    "ffn_norm": {
        "vector_flops": 16_384,
        "special_ops": 1,
        "weight_bytes": 8192,
        "activation_bytes": 16_384,
    },
    "gate_up_projection": {
        "tensor_flops": 180_355_072,  # 2·4096·2·11008
        "weight_bytes": 180_355_072,
        "activation_bytes": 52_224,  # (4096 + 22016)·2
    },
    "gated_activation": {
        "vector_flops": 55_040,
        "special_ops": 22_016,
        "activation_bytes": 66_048,
    },
    "down_projection": {
        "tensor_flops": 90_177_536,  # 2·11008·4096
        "weight_bytes": 90_177_536,
        "activation_bytes": 30_208,
    },
    "ffn_all_reduce": {},
    "ffn_residual": {"vector_flops": 4096, "activation_bytes": 24_576},
    "pipeline_send": {},
    "final_norm": {
        "vector_flops": 16_384,
        "special_ops": 1,
        "weight_bytes": 8192,
        "activation_bytes": 16_384,
    },
    "lm_head": {
        "tensor_flops": 262_144_000,  # 2·4096·32000
        "weight_bytes": 262_144_000,
        "activation_bytes": 72_192,  # (4096 + 32000)·2
    },
    "sampling": {"vector_flops": 96_000, "special_ops": 32_000, "activation_bytes": 64_000},
}


def test_every_operator_of_one_llama_2_7b_decode_step() -> None:
    found = costs(shipped_model("llama-2-7b"), decoding=True, context_len=1024)
    assert list(found) == list(LLAMA_2_7B_DECODE)
    assert found == LLAMA_2_7B_DECODE


def test_a_prompt_scales_tokens_and_leaves_weights() -> None:
    decode = LLAMA_2_7B_DECODE
    found = costs(shipped_model("llama-2-7b"), decoding=False, isl=1024)
    for name in ("qkv_projection", "gate_up_projection", "down_projection", "ffn_norm"):
        for entry, value in decode[name].items():
            times = 1 if entry == "weight_bytes" else 1024
            assert found[name][entry] == times * value, (name, entry)
    assert found["attention"] == {
        "tensor_flops": 8_598_323_200,  # 1024·1025/2 pairs, see above
        "special_ops": 16_793_600,
        "kv_bytes": 16_777_216,
        "activation_bytes": 16_777_216,
    }
    assert found["kv_cache_append"]["kv_bytes"] == 16_777_216  # 1024 tokens of 16384


def test_only_the_last_position_of_a_prompt_reaches_the_head() -> None:
    found = costs(shipped_model("llama-2-7b"), decoding=False, isl=1024)
    assert found["lm_head"] == LLAMA_2_7B_DECODE["lm_head"]
    assert found["sampling"] == LLAMA_2_7B_DECODE["sampling"]


@pytest.mark.parametrize(
    ("operator", "decoding", "flops", "bytes_moved"),
    [
        # Yuan et al., "LLM inference unveiled", arXiv 2402.16363, table 1: layers of
        # LLaMA-2-7B, sequence length 2048, batch size 1, 16 bits.
        ("output_projection", False, 69e9, 67e6),
        ("down_projection", False, 185e9, 152e6),
        ("output_projection", True, 34e6, 34e6),
        ("down_projection", True, 90e6, 90e6),
        # Their q, k and v in one product of ours; gate and up as well.
        ("qkv_projection", True, 3 * 34e6, 3 * 34e6),
        ("gate_up_projection", True, 2 * 90e6, 2 * 90e6),
        # Their qk_matmul and sv_matmul, fused.
        ("attention", True, 2 * 17e6, 2 * 17e6),
    ],
)
def test_published_layers_of_llama_2_7b(operator, decoding, flops, bytes_moved) -> None:
    numbers = {"context_len": 2048} if decoding else {"isl": 2048}
    cost = costs(shipped_model("llama-2-7b"), decoding=decoding, **numbers)[operator]
    moved = sum(cost.get(kind, 0) for kind in ("weight_bytes", "kv_bytes", "activation_bytes"))
    # The table rounds to two digits, and 0.5 in 17 is 3 %.
    assert cost["tensor_flops"] == pytest.approx(flops, rel=0.03)
    assert moved == pytest.approx(bytes_moved, rel=0.03)


@pytest.mark.parametrize(
    ("tp", "kv_bytes"),
    [
        (1, 4_194_304),  # 8 KV heads: 2·8·128·1024·2, an eighth of 64 query heads'
        (8, 524_288),  # one KV head a GPU
        (16, 524_288),  # still one: KV heads are copied, not cut
    ],
)
def test_llama_2_70b_reads_its_kv_heads_and_no_more(tp: int, kv_bytes: int) -> None:
    found = costs(shipped_model("llama-2-70b"), decoding=True, context_len=1024, tp=tp)
    assert found["attention"]["kv_bytes"] == kv_bytes
    assert found["attention"]["tensor_flops"] == 33_554_432 / tp  # 4·64·128·1024
    assert found["kv_cache_append"]["kv_bytes"] == kv_bytes / 1024


def test_grouped_kv_narrows_the_projection_of_llama_2_70b() -> None:
    found = costs(shipped_model("llama-2-70b"), decoding=True, context_len=1024)
    # 8192 × (64 + 2·8)·128 = 8192·10240 weights, two FLOPs and two bytes each.
    assert found["qkv_projection"]["weight_bytes"] == 167_772_160
    assert found["rotary"]["vector_flops"] == 27_648  # 3·(64 + 8)·128


def test_a_mean_chunk_of_a_prompt_reads_half_of_what_is_before_it() -> None:
    # 40 tokens in 4 chunks of 10: a chunk reads 10·(1 + 2 + 3 + 4)/4 = 25 of 2·2·8 elements in 2
    # bytes; 40·41/2 = 820 pairs, 205 for each, with 4·4·8 FLOPs and an exponential a head.
    block = Block(operators=("attention",), hidden_size=32, heads=4, kv_heads=2, head_dim=8)
    where = point((block,))
    step = Step(
        decoding=False,
        sequences=1.0,
        query_len=10.0,
        layout=where.layout,
        precision=where.precision,
        cache=where.hardware.cache,
        chunks=4.0,
    )
    assert spent(OPERATORS["attention"].cost(block, step, 0.0)) == {
        "tensor_flops": 26_240,
        "special_ops": 820,
        "kv_bytes": 1600,
        "activation_bytes": 1280,  # 10·4·8·(2 + 2)
    }


def test_tensor_parallelism_splits_matrices_and_copies_norms() -> None:
    whole = costs(shipped_model("llama-2-70b"), decoding=True, context_len=1024)
    part = costs(shipped_model("llama-2-70b"), decoding=True, context_len=1024, tp=4)
    split = ("qkv_projection", "output_projection", "gate_up_projection", "lm_head")
    for name in (*split, "down_projection"):
        assert part[name]["tensor_flops"] == whole[name]["tensor_flops"] / 4
        assert part[name]["weight_bytes"] == whole[name]["weight_bytes"] / 4
    assert part["ffn_norm"] == whole["ffn_norm"]
    # 2·3/4 of one token of 8192 in 2 bytes, after attention and after the feed-forward.
    assert (
        part["attention_all_reduce"]
        == part["ffn_all_reduce"]
        == {
            "network_bytes": 24_576,
            "network_hops": 2,
        }
    )


def test_experts_of_one_mixtral_decode_step() -> None:
    found = costs(shipped_model("mixtral-8x7b"), decoding=True, batch_size=2, context_len=64)
    assert found["expert_gate_up_projection"]["weight_bytes"] == pytest.approx(822_083_584)
    assert found["expert_gate_up_projection"]["tensor_flops"] == 939_524_096  # as above
    # 14336·4096 = 58 720 256 weights, 3.5 experts of 2 bytes.
    assert found["expert_down_projection"]["weight_bytes"] == pytest.approx(411_041_792)
    # The router is a 4096 × 8 product for each token.
    assert found["router"] == {
        "tensor_flops": 131_072,  # 2·2·4096·8
        "weight_bytes": 65_536,
        "activation_bytes": 16_416,  # 2·(4096 + 8)·2
    }
    # Two tokens visit two experts each: four rows of 14336.
    assert found["expert_gated_activation"]["special_ops"] == 114_688


def test_a_decode_is_its_steps_one_after_another() -> None:
    # Four tokens after seven: the first comes of the prompt, three see 8, 9 and 10 tokens.
    one = [
        price(("decode_step_latency",), model("llama"), batch_size=3, context_len=context)
        for context in (8, 9, 10)
    ]
    found = price(("tpot", "e2e_latency", "ttft"), model("llama"), batch_size=3, isl=7, osl=4)
    steps = sum(each["decode_step_latency"] for each in one)
    assert 3 * found["tpot"] == pytest.approx(steps, rel=1e-12)
    assert found["e2e_latency"] - found["ttft"] == pytest.approx(steps, rel=1e-9)


def test_a_window_caps_the_context_of_a_decode_step() -> None:
    # Gemma-2-27B: 16 KV heads of 128; half the layers see 4096 of the 10 000 tokens.
    found = costs(shipped_model("gemma-2-27b"), decoding=True, context_len=10_000)
    assert found["windowed_attention"]["kv_bytes"] == 33_554_432  # 2·16·128·4096·2
    assert found["attention"]["kv_bytes"] == 81_920_000  # 2·16·128·10000·2


def test_a_window_caps_the_scores_of_a_prompt() -> None:
    # Window 48, 100 tokens: 48·49/2 + 52·48 = 3672 pairs, in 8 heads.
    windowed = read_blocks(config("mistral"), "mistral")
    assert costs(windowed, decoding=False, isl=100)["windowed_attention"]["special_ops"] == 29_376


LLAMA_LAYER = [
    "attention_norm",
    "qkv_projection",
    "rotary",
    "kv_cache_append",
    "attention",
    "output_projection",
    "attention_all_reduce",
    "attention_residual",
    "ffn_norm",
    "gate_up_projection",
    "gated_activation",
    "down_projection",
    "ffn_all_reduce",
    "ffn_residual",
]
"""The 14 operators of a pre-norm layer with a gated feed-forward."""


def layer(family: str, **changes) -> list[str]:
    (first, *_) = [b for b in blocks(family, **changes) if b.in_transformer]
    return list(first.operators)


@pytest.mark.parametrize("family", ["llama", "Yi", "internlm2", "gemma", "chatglm"])
def test_families_that_run_llamas_layer(family: str) -> None:
    assert layer(family) == LLAMA_LAYER


def test_gpt2_has_plain_feed_forwards_and_no_rotary() -> None:
    assert layer("gpt2") == layer("bloom") == layer("opt")
    assert "rotary" not in layer("gpt2")
    assert "gate_up_projection" not in layer("gpt2")
    assert {"up_projection", "activation", "down_projection"} < set(layer("gpt2"))


def test_parallel_layers_share_a_norm_and_an_all_reduce() -> None:
    for operators in (layer("gptj"), layer("falcon", new_decoder_architecture=None)):
        assert [name for name in operators if name.endswith("norm")] == ["attention_norm"]
        reduced = [name for name in operators if name.endswith("all_reduce")]
        assert reduced == ["layer_all_reduce"]


def test_new_falcon_has_a_norm_for_each_branch() -> None:
    norms = [name for name in layer("falcon") if name.endswith("norm")]
    assert norms == ["attention_norm", "ffn_norm"]
    one = [name for name in layer("falcon", num_ln_in_parallel_attn=1) if name.endswith("norm")]
    assert one == ["attention_norm"]


def test_sequential_falcon_has_two_all_reduces_and_alibi_no_rotary() -> None:
    old = layer("falcon", new_decoder_architecture=None, parallel_attn=False, alibi=True)
    assert sum(name.endswith("all_reduce") for name in old) == 2
    assert "rotary" not in old


def test_gemma2_normalises_before_and_after() -> None:
    norms = [name for name in layer("gemma2") if name.endswith("norm")]
    assert norms == ["attention_norm", "attention_output_norm", "ffn_norm", "ffn_output_norm"]


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_queries_and_keys_are_normalised_before_they_turn(family: str) -> None:
    operators = layer(family)
    assert operators.index("qk_norm") + 1 == operators.index("rotary")


def test_windows_alternate_as_published() -> None:
    def windows(family: str, **changes) -> list[tuple[int, int]]:
        layers = [b for b in blocks(family, **changes) if b.in_transformer]
        return [(b.count, b.window) for b in layers]

    assert windows("gemma2") == [(2, 48), (2, 0)]  # every other of 4
    assert windows("gemma3") == [(6, 48), (1, 0)]  # five of six: layer 6 of 7 sees all
    assert windows("mistral") == [(3, 48)]
    assert windows("mistral", sliding_window=None) == [(3, 0)]
    assert windows("qwen2") == [(2, 0), (1, 48)]  # from layer max_window_layers on
    assert windows("qwen2", use_sliding_window=False) == [(3, 0)]


def test_glm_turns_half_of_each_head_and_phi_a_stated_part() -> None:
    assert [b.rotary_dim for b in blocks("chatglm") if b.in_transformer] == [4]
    partial = blocks("phi3", partial_rotary_factor=0.75)
    assert [b.rotary_dim for b in partial if b.in_transformer] == [6]


def test_narrow_opt_projects_in_and_out() -> None:
    first, _, last = blocks("opt")
    assert first.operators == ("embedding", "embedding_projection", "position_embedding")
    assert last.operators == (
        "pipeline_send",
        "final_norm",
        "head_projection",
        "lm_head",
        "sampling",
    )
    wide = blocks("opt", word_embed_proj_dim=64, do_layer_norm_before=False)
    assert wide[0].operators == ("embedding", "position_embedding")
    assert wide[2].operators == ("pipeline_send", "lm_head", "sampling")


@pytest.mark.slow
@pytest.mark.parametrize("family", all_families())
def test_one_token_reads_the_weights_it_uses_and_takes_two_flops_with_matrix_elements(
    family: str,
) -> None:
    layers = blocks(family, **({} if "text_config" in CONFIGS[family] else UNTIED))
    with jax.enable_x64(True):
        works = iter(phases.decode_step(point(layers, TOY, FP16, context_len=10)))
    for block in layers:
        for name in block.operators:
            found = spent(next(works).cost)
            matrices = [t for t in OPERATORS[name].weights(block) if len(t.shape) > 1]
            used = 2 * sum(tensor.active_elements for tensor in matrices)
            if name in ("embedding", "position_embedding"):
                assert "tensor_flops" not in found
            elif matrices and (name != "lm_head" or block.untied):
                assert found["tensor_flops"] == used > 0, name
            if name not in READ_IN_PART:
                stored = [tensor.active_elements for tensor in OPERATORS[name].weights(block)]
                assert found.get("weight_bytes", 0.0) == pytest.approx(2 * sum(stored)), name


UNTIED = {"tie_word_embeddings": False}
READ_IN_PART = ("embedding", "position_embedding", "lm_head")
"""Operators that read a row of what they store, or what another one stores."""


@pytest.fixture(scope="module")
def running() -> dict[str, Block]:
    """Every operator that some family runs, and a block that runs it."""
    configs = {**CONFIGS, **{family: config for family, (config, _) in OTHER_FAMILIES.items()}}
    read = [read_blocks({"model_type": name, **data}, name) for name, data in configs.items()]
    read += [tiny(name) for name in STATE_MODELS]
    read += [tiny(family, **changes) for family, changes in VARIANTS]
    return {name: block for model in read for block in model for name in block.operators}


@pytest.mark.filterwarnings("ignore:mllama")
def test_every_operator_runs_in_some_family(running: dict[str, Block]) -> None:
    assert {*running, *BEFORE, AFTER} == set(OPERATORS)


@pytest.mark.filterwarnings("ignore:mllama")
def test_one_of_two_gpus_never_does_more_than_one_alone(running: dict[str, Block]) -> None:
    with jax.enable_x64(True):
        places = [point(blocks("llama"), TOY, FP16, tp=tp) for tp in (1, 2)]
        alone, shared = (
            Step(
                decoding=True,
                sequences=4.0,
                query_len=1.0,
                layout=place.layout,
                precision=place.precision,
                cache=place.hardware.cache,
            )
            for place in places
        )
        for name, block in running.items():
            if not OPERATORS[name].exchanges:
                most = spent(OPERATORS[name].cost(block, alone, 64.0))
                for figure, amount in spent(OPERATORS[name].cost(block, shared, 64.0)).items():
                    assert amount <= most.get(figure, 0.0), (name, figure)


LLAMA_2_70B_SHARED_DECODE = {
    # A quarter of 64 + 2·8 heads of 128, of 28672 and of 32000; two tokens; one byte a weight,
    # an input of a product and an element of the cache, two for all else.
    "embedding": {"weight_bytes": 32_768, "activation_bytes": 32_768},  # 2·8192·2
    "attention_norm": {
        "vector_flops": 65_536,  # 4·2·8192
        "special_ops": 2,
        "weight_bytes": 16_384,
        "activation_bytes": 49_152,  # 2·8192·(2 + 1)
    },
    "qkv_projection": {
        "tensor_flops": 83_886_080,  # 2·2·8192·(16 + 2·2)·128
        "weight_bytes": 20_971_520,
        "activation_bytes": 26_624,  # 2·(8192 + 2560·2)
    },
    # 2·(16 + 2)·128 = 4608 elements.
    "rotary": {"vector_flops": 13_824, "activation_bytes": 18_432},
    "kv_cache_append": {"kv_bytes": 1024, "activation_bytes": 2048},  # 2·2·2·128 elements
    "attention": {
        "tensor_flops": 16_777_216,  # 4·2·16·128·1024
        "special_ops": 32_768,
        "kv_bytes": 1_048_576,  # 2·2·2·128·1024
        "activation_bytes": 12_288,  # 2·16·128·(2 + 1)
    },
    "output_projection": {
        "tensor_flops": 67_108_864,  # 2·2·2048·8192
        "weight_bytes": 16_777_216,
        "activation_bytes": 36_864,  # 2·(2048 + 8192·2)
    },
    "attention_all_reduce": {
        "network_bytes": 49_152,  # 2·3/4·2·8192·2
        "network_hops": 2,
    },
    "attention_residual": {"vector_flops": 16_384, "activation_bytes": 98_304},
    "ffn_norm": {
        "vector_flops": 65_536,
        "special_ops": 2,
        "weight_bytes": 16_384,
        "activation_bytes": 49_152,
    },
    "gate_up_projection": {
        "tensor_flops": 469_762_048,  # 2·2·8192·14336
        "weight_bytes": 117_440_512,
        "activation_bytes": 73_728,  # 2·(8192 + 14336·2)
    },
    "gated_activation": {
        "vector_flops": 71_680,  # 5·2·7168
        "special_ops": 28_672,
        "activation_bytes": 71_680,  # 14336·(2·2 + 1)
    },
    "down_projection": {
        "tensor_flops": 234_881_024,  # 2·2·7168·8192
        "weight_bytes": 58_720_256,
        "activation_bytes": 47_104,  # 2·(7168 + 8192·2)
    },
    "ffn_all_reduce": {"network_bytes": 49_152, "network_hops": 2},
    "ffn_residual": {"vector_flops": 16_384, "activation_bytes": 98_304},
    "pipeline_send": {},
    "final_norm": {
        "vector_flops": 65_536,
        "special_ops": 2,
        "weight_bytes": 16_384,
        "activation_bytes": 65_536,  # 2·8192·(2 + 2): no product of 8-bit inputs follows
    },
    "lm_head": {
        "tensor_flops": 262_144_000,  # 2·2·8192·8000
        "weight_bytes": 131_072_000,  # the head stays in two bytes
        "activation_bytes": 64_768,  # 2·(8192 + 8000)·2
    },
    "sampling": {"vector_flops": 48_000, "special_ops": 16_000, "activation_bytes": 32_000},
}


def test_every_operator_of_a_shared_llama_2_70b_step_in_eight_bits() -> None:
    recipe = shipped().precision("fp8")
    numbers = {"batch_size": 2, "context_len": 1024, "tp": 4}
    found = costs(shipped_model("llama-2-70b"), recipe, decoding=True, **numbers)
    assert found == LLAMA_2_70B_SHARED_DECODE
