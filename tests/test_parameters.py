"""Parameters of published models to the last one, and configs that cannot be read."""

import warnings
from functools import cache
from typing import Any

import pytest
from factories import model, shipped, shipped_model

from sweep.models.parameter_count import ModelFacts, model_facts
from sweep.models.read import is_supported, read_blocks
from sweep.specs.model import ModelSpec


@cache
def supported() -> dict[str, ModelSpec]:
    """Shipped models of families that are read; read by the first test that needs them."""
    every = (shipped_model(name) for name in shipped().paths("models"))
    return {spec.name: spec for spec in every if is_supported(spec.config)}


@cache
def facts_of(name: str) -> ModelFacts:
    """Sizes of a shipped model, read once for all tests; a doubt about its config is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model_facts(shipped_model(name))


COUNTED = {
    "dit-xl-2": (674_834_720, 674_834_720),
    # 401 583 781 376 published, less the vision tower and projector, 871 932 416.
    "llama-4-maverick": (400_711_848_960, 17_184_691_200),
    "deepseek-r1": (671_026_419_200, 37_552_297_472),
    "deepseek-v2": (235_741_434_880, 21_375_800_320),
    "deepseek-v2-lite": (15_706_484_224, 2_661_150_208),
    "deepseek-v3": (671_026_419_200, 37_552_297_472),
    "gemma-3n-e4b": (6_835_235_568, 6_835_235_568),
    "gemma-4-26b-a4b": (25_233_141_760, 3_822_530_560),
    "gemma-4-31b": (30_697_345_280, 30_697_345_280),
    "gemma-4-e4b": (7_463_013_376, 7_463_013_376),
    "llama-3.2-11b-vision": (9_775_192_080, 8_030_294_016),
    "nemotron-super-49b": (49_867_145_216, 49_867_145_216),
    "nemotron-ultra-253b": (253_401_268_224, 253_401_268_224),
    "glm-4.5": (352_797_829_024, 33_632_266_144),
    "glm-4.6": (352_797_829_024, 33_632_266_144),
    "gpt-oss-120b": (116_829_156_672, 5_711_982_912),
    "llama-4-scout": (107_769_861_120, 17_172_894_720),
    "qwen3-235b-a22b": (235_093_634_560, 22_190_763_520),
    "qwen3-30b-a3b": (30_532_122_624, 3_353_032_704),
    "chatglm3-6b": (6_243_584_000, 6_243_584_000),
    "falcon-180b": (178_557_088_768, 178_557_088_768),
    "falcon-40b": (41_303_293_952, 41_303_293_952),
    "gemma-2-27b": (27_227_128_320, 27_227_128_320),
    "gemma-3-27b": (27_009_346_304, 27_009_346_304),
    "gpt-3-175b": (174_604_259_328, 174_604_259_328),
    "gpt-j-6b": (6_050_882_784, 6_050_882_784),
    "gpt2": (124_439_808, 124_439_808),
    "gpt2-large": (774_030_080, 774_030_080),
    "gpt2-medium": (354_823_168, 354_823_168),
    "gpt2-xl": (1_557_611_200, 1_557_611_200),
    "llama-2-13b": (13_015_864_320, 13_015_864_320),
    "llama-2-70b": (68_976_648_192, 68_976_648_192),
    "llama-2-7b": (6_738_415_616, 6_738_415_616),
    "llama-3-70b": (70_553_706_496, 70_553_706_496),
    "llama-3-8b": (8_030_261_248, 8_030_261_248),
    "llama-3.1-405b": (405_853_388_800, 405_853_388_800),
    "llama-3.1-70b": (70_553_706_496, 70_553_706_496),
    "llama-3.1-8b": (8_030_261_248, 8_030_261_248),
    "llama-3.3-70b": (70_553_706_496, 70_553_706_496),
    "mistral-7b-v0.1": (7_241_732_096, 7_241_732_096),
    "mistral-7b-v0.2": (7_241_732_096, 7_241_732_096),
    "mixtral-8x22b": (140_620_634_112, 39_152_031_744),
    "mixtral-8x7b": (46_702_792_704, 12_879_925_248),
    "opt-1.3b": (1_315_758_080, 1_315_758_080),
    "opt-125m": (125_239_296, 125_239_296),
    "opt-13b": (12_853_473_280, 12_853_473_280),
    "opt-30b": (29_974_540_288, 29_974_540_288),
    "opt-350m": (331_196_416, 331_196_416),
    "opt-6.7b": (6_658_473_984, 6_658_473_984),
    "qwen2-72b": (72_706_203_648, 72_706_203_648),
    "qwen2-7b": (7_615_616_512, 7_615_616_512),
    "qwen2.5-72b": (72_706_203_648, 72_706_203_648),
    "qwen2.5-7b": (7_615_616_512, 7_615_616_512),
    "qwen3-32b": (32_762_123_264, 32_762_123_264),
    "qwen3-8b": (8_190_735_360, 8_190_735_360),
    "baichuan2-7b": (7_505_973_248, 7_505_973_248),
    "codellama-34b": (33_743_970_304, 33_743_970_304),
    "command-r7b": (8_028_033_024, 8_028_033_024),
    "deepseek-moe-16b": (16_375_728_128, 2_828_650_496),
    "devstral-2-123b": (125_025_988_608, 125_025_988_608),
    "ernie-4.5-21b-a3b": (21_825_437_888, 3_352_150_208),
    "exaone-4.0-32b": (32_003_216_384, 32_003_216_384),
    "exaone-4.5-33b": (32_527_504_384, 32_527_504_384),
    "gemma-2-2b": (2_614_341_888, 2_614_341_888),
    "gemma-3-12b": (11_766_034_176, 11_766_034_176),
    "gemma-3-1b": (999_885_952, 999_885_952),
    "gemma-3-4b": (3_880_263_168, 3_880_263_168),
    "gpt-oss-20b": (20_914_757_184, 4_187_440_704),
    "hunyuan-a13b": (80_393_183_232, 12_747_448_320),
    "kimi-k2.5": (1_026_408_232_448, 32_861_500_928),
    "llama-3.2-1b": (1_235_814_400, 1_235_814_400),
    "llama-3.2-3b": (3_212_749_824, 3_212_749_824),
    "mimo-7b": (7_622_619_136, 7_622_619_136),
    "mimo-v2-flash": (308_778_780_864, 15_445_936_320),
    "minicpm-2b": (2_724_880_896, 2_724_880_896),
    "minimax-m2.5": (228_689_764_864, 11_030_553_088),
    "mistral-7b-v0.3": (7_248_023_552, 7_248_023_552),
    "mistral-small-24b": (23_572_403_200, 23_572_403_200),
    "olmo-2-13b": (13_716_198_400, 13_716_198_400),
    "olmo-3.1-32b": (32_233_522_176, 32_233_522_176),
    "olmoe-1b-7b": (6_919_161_856, 1_282_017_280),
    "phi-1": (1_414_562_935, 1_414_562_935),
    "phi-2": (2_779_683_840, 2_779_683_840),
    "phi-3.5-mini": (3_821_079_552, 3_821_079_552),
    "phi-3.5-moe": (41_873_153_344, 6_640_999_744),
    "phi-4": (14_659_507_200, 14_659_507_200),
    "qwen-1.8b": (1_836_828_672, 1_836_828_672),
    "qwen1.5-moe-a2.7b": (14_315_784_192, 2_689_173_504),
    "qwen2.5-0.5b": (494_032_768, 494_032_768),
    "qwen2.5-1.5b": (1_543_714_304, 1_543_714_304),
    "qwen2.5-14b": (14_770_033_664, 14_770_033_664),
    "qwen2.5-32b": (32_763_876_352, 32_763_876_352),
    "qwen2.5-3b": (3_085_938_688, 3_085_938_688),
    "qwen2.5-vl-7b": (7_615_616_512, 7_615_616_512),
    "qwen3-0.6b": (596_049_920, 596_049_920),
    "qwen3-1.7b": (1_720_574_976, 1_720_574_976),
    "qwen3-14b": (14_768_307_200, 14_768_307_200),
    "qwen3-4b": (4_022_468_096, 4_022_468_096),
    "qwen3-coder-480b-a35b": (480_154_875_392, 35_474_765_312),
    "qwen3-vl-235b-a22b": (235_093_634_560, 22_190_763_520),
    "qwen3-vl-30b-a3b": (30_532_122_624, 3_353_032_704),
    "qwen3-vl-8b": (8_190_735_360, 8_190_735_360),
    "seed-oss-36b": (36_151_104_512, 36_151_104_512),
    "smollm2-135m": (134_515_008, 134_515_008),
    "smollm3-3b": (3_075_098_624, 3_075_098_624),
    "starcoder2-7b": (7_173_923_840, 7_173_923_840),
    "yi-34b": (34_388_917_248, 34_388_917_248),
    # By the published model code on a device without memory, with the stored router biases.
    "deepseek-v3.2": (671_877_944_064, 38_403_822_336),
    "deepseek-v4-pro": (1_572_997_201_763, 49_779_081_059),
    "glm-5": (743_911_218_432, 41_784_728_832),
    "minimax-m3": (426_174_572_928, 25_962_473_856),
    # 2 779 931 837 184 published, less vision, 447 358 976, and padding, 69·32. 880 of 896 experts
    # of 92 layers are idle: 92·880·3·3584·3072.
    "kimi-k3": (2_779_484_476_000, 105_364_017_760),
    "lfm2.5-1.2b": (1_170_340_608, 1_170_340_608),
    "nemotron-3-nano-30b-a3b": (31_577_940_288, 3_580_076_352),
    "nemotron-3-ultra": (549_308_993_536, 56_058_843_136),
    "qwen3-next-80b-a3b": (79_674_391_296, 3_874_929_408),
    "qwen3.6-27b": (26_895_998_464, 26_895_998_464),
    "afm-4.5b": (4_619_184_640, 4_619_184_640),
    "apertus-8b": (8_053_338_176, 8_053_338_176),
    "aya-23-8b": (8_028_033_024, 8_028_033_024),
    "bitnet-2b": (2_412_820_480, 2_412_820_480),
    "codellama-13b": (13_016_028_160, 13_016_028_160),
    "codellama-7b": (6_738_546_688, 6_738_546_688),
    "command-a-111b": (111_057_580_032, 111_057_580_032),
    "command-r-35b": (34_980_831_232, 34_980_831_232),
    "dbrx-132b": (131_596_523_520, 36_469_708_800),
    "devstral-small-2-24b": (23_572_403_200, 23_572_403_200),
    "dots.llm1": (142_774_381_696, 14_016_588_928),
    "exaone-3.5-7.8b": (7_818_448_896, 7_818_448_896),
    "gemma-2-9b": (9_241_705_984, 9_241_705_984),
    "gemma-2b": (2_506_172_416, 2_506_172_416),
    "gemma-3-270m": (268_098_176, 268_098_176),
    "gemma-7b": (8_537_680_896, 8_537_680_896),
    "glm-4-9b": (9_399_951_360, 9_399_951_360),
    "glm-4-9b-0414": (9_400_279_040, 9_400_279_040),
    "glm-4.5-air": (106_852_251_264, 13_424_129_664),
    "glm-4.5v": (106_851_202_688, 13_423_081_088),
    "glm-4.7-flash": (29_943_393_920, 3_896_766_080),
    "gpt-neox-20b": (20_554_567_680, 20_554_567_680),
    "granite-3.0-1b-a400m": (1_334_628_352, 428_658_688),
    "granite-3.1-2b": (2_533_531_648, 2_533_531_648),
    "granite-3.3-8b": (8_170_864_640, 8_170_864_640),
    "grok-1": (315_684_820_992, 83_756_587_008),
    "internlm2.5-7b": (7_737_708_544, 7_737_708_544),
    "jais-2-8b": (8_090_401_280, 8_090_401_280),
    "kimi-k2": (1_026_408_232_448, 32_861_500_928),
    "ling-lite-1.5": (16_801_974_272, 2_753_153_024),
    "minicpm3-4b": (4_073_875_968, 4_073_875_968),
    "ministral-3-3b": (3_429_006_336, 3_429_006_336),
    "minitron-4b": (4_190_509_056, 4_190_509_056),
    "mistral-nemo-12b": (12_247_782_400, 12_247_782_400),
    "mistral-small-4-119b": (118_972_826_624, 6_632_588_288),
    "moonlight-16b-a3b": (15_960_110_208, 2_914_776_192),
    "olmo-2-32b": (32_234_279_936, 32_234_279_936),
    "olmo-3-7b": (7_298_011_136, 7_298_011_136),
    "olmo-7b": (6_888_095_744, 6_888_095_744),
    "phi-1.5": (1_418_270_720, 1_418_270_720),
    "phi-4-mini": (3_836_021_760, 3_836_021_760),
    "pythia-12b": (11_846_072_320, 11_846_072_320),
    "pythia-6.9b": (6_857_302_016, 6_857_302_016),
    "qwen2-57b-a14b": (57_408_658_944, 14_249_270_784),
    "qwen2-vl-72b": (72_706_203_648, 72_706_203_648),
    "qwen3-vl-2b": (1_720_574_976, 1_720_574_976),
    "qwen3-vl-32b": (32_762_123_264, 32_762_123_264),
    "qwen3-vl-4b": (4_022_468_096, 4_022_468_096),
    "santacoder-1.1b": (1_124_886_528, 1_124_886_528),
    "smollm2-1.7b": (1_711_376_384, 1_711_376_384),
    "smollm2-360m": (361_821_120, 361_821_120),
    "solar-open-100b": (102_651_799_552, 12_054_833_152),
    "stablelm-2-1.6b": (1_644_515_328, 1_644_515_328),
    "stablelm-3b": (2_795_443_200, 2_795_443_200),
    "step-3.7-flash": (195_844_508_736, 10_875_702_336),
    "tinyllama-1.1b": (1_100_048_384, 1_100_048_384),
    "trinity-nano": (6_120_003_328, 1_023_923_968),
}
"""Parameters and active parameters of the text decoder, counted from the shipped configs by
other means than this package."""


def test_every_shipped_model_of_a_supported_family_is_counted() -> None:
    assert set(supported()) <= set(COUNTED)
    assert set(COUNTED) <= set(shipped().paths("models"))


def test_parameters_of_shipped_models() -> None:
    found = {name: facts_of(name) for name in supported()}
    counted = {name: (facts.parameters, facts.active_parameters) for name, facts in found.items()}
    assert counted == {name: COUNTED[name] for name in counted}


def test_stored_parameters_are_those_published() -> None:
    published = {name: spec.published for name, spec in supported().items() if spec.published}
    exact = {name: said.parameters for name, said in published.items() if said.kind == "exact"}
    assert {name: facts_of(name).stored_parameters for name in exact} == exact
    assert len(exact) >= 25


def test_published_totals_are_met_within_six_percent() -> None:
    # OPT-350M has 331M, the farthest from its name.
    total = {name: s.published.parameters for name, s in supported().items() if s.published}
    assert len(total) >= 25
    assert {name: facts_of(name).parameters for name in total} == pytest.approx(total, rel=0.06)


def llama_config(
    hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, vocab: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        **more,
    }


def bloom_config(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {"hidden_size": hidden, "n_layer": layers, "n_head": heads, "vocab_size": 250_880}


def glm_config(layers: int, vocab: int) -> dict[str, Any]:
    return {
        "hidden_size": 4096,
        "ffn_hidden_size": 13_696,
        "num_layers": layers,
        "num_attention_heads": 32,
        "kv_channels": 128,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "padded_vocab_size": vocab,
        "add_bias_linear": False,
        "add_qkv_bias": True,
    }


TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
PUBLISHED = {
    # Totals of the safetensors on the models' Hugging Face pages, and of their model cards.
    "bloom-560m": ("bloom", bloom_config(1024, 24, 16), 559_214_592),
    "bloom-7b1": ("bloom", bloom_config(4096, 30, 32), 7_069_016_064),
    "bloom": ("bloom", bloom_config(14_336, 70, 112), 176_247_271_424),
    "phi-3-mini-4k": (
        "phi3",
        llama_config(3072, 8192, 32, 32, 32, 32_064, sliding_window=2047, **UNTIED),
        3_821_079_552,
    ),
    "phi-4": ("phi3", llama_config(5120, 17_920, 40, 40, 10, 100_352, **UNTIED), 14_659_507_200),
    "phi-4-mini": (
        "phi3",
        llama_config(3072, 8192, 32, 24, 8, 200_064, partial_rotary_factor=0.75, **TIED),
        3_836_021_760,
    ),
    "yi-6b": ("Yi", llama_config(4096, 11_008, 32, 32, 4, 64_000, **UNTIED), 6_061_035_520),
    "internlm2-7b": (
        "internlm2",
        llama_config(4096, 14_336, 32, 32, 8, 92_544, bias=False, **UNTIED),
        7_737_708_544,
    ),
    "gemma-2b": (
        "gemma",
        llama_config(2048, 16_384, 18, 8, 1, 256_000, head_dim=256),
        2_506_172_416,
    ),
    "gemma-7b": (
        "gemma",
        llama_config(3072, 24_576, 28, 16, 16, 256_000, head_dim=256),
        8_537_680_896,
    ),
    "gemma-2-2b": (
        "gemma2",
        llama_config(2304, 9216, 26, 8, 4, 256_000, head_dim=256),
        2_614_341_888,
    ),
    "gemma-2-9b": (
        "gemma2",
        llama_config(3584, 14_336, 42, 16, 8, 256_000, head_dim=256),
        9_241_705_984,
    ),
    "gemma-3-1b": (
        "gemma3_text",
        llama_config(1152, 6912, 26, 4, 1, 262_144, head_dim=256, sliding_window=512),
        999_885_952,
    ),
    "qwen2-0.5b": ("qwen2", llama_config(896, 4864, 24, 14, 2, 151_936, **TIED), 494_032_768),
    "qwen3-0.6b": (
        "qwen3",
        llama_config(1024, 3072, 28, 16, 8, 151_936, head_dim=128, **TIED),
        596_049_920,
    ),
    "mistral-7b-v0.3": (
        "mistral",
        llama_config(4096, 14_336, 32, 32, 8, 32_768, **UNTIED),
        7_248_023_552,
    ),
    "llama-3.2-1b": (
        "llama",
        llama_config(2048, 8192, 16, 32, 8, 128_256, head_dim=64, **TIED),
        1_235_814_400,
    ),
    "seed-oss-36b": (
        "seed_oss",
        llama_config(
            5120,
            27_648,
            64,
            80,
            8,
            155_136,
            head_dim=128,
            attention_bias=True,
            attention_out_bias=False,
            mlp_bias=False,
            **UNTIED,
        ),
        36_151_104_512,
    ),
    "tinyllama-1.1b": (
        "llama",
        llama_config(2048, 5632, 22, 32, 4, 32_000, **UNTIED),
        1_100_048_384,
    ),
    # Trainable parameters, as `sum(p.numel() for p in model.parameters())` prints them.
    "chatglm2-6b": ("chatglm", glm_config(28, 65_024), 6_243_584_000),
    "glm-4-9b": ("chatglm", glm_config(40, 151_552), 9_399_951_360),
    # KerasHub's preset of Falcon RefinedWeb 1B: sequential, ALiBi, biases, no shared KV head.
    "falcon-rw-1b": (
        "falcon",
        {
            "hidden_size": 2048,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "vocab_size": 50_304,
            "multi_query": False,
            "parallel_attn": False,
            "bias": True,
            "alibi": True,
            "new_decoder_architecture": False,
        },
        1_311_625_216,
    ),
    # The Hugging Face page says 7 217 189 760 and counts the tied head again: 65024·4544 more.
    "falcon-7b": (
        "falcon",
        {
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "vocab_size": 65_024,
            "multi_query": True,
            "parallel_attn": True,
            "bias": False,
            "alibi": False,
            "new_decoder_architecture": False,
        },
        7_217_189_760 - 65_024 * 4544,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals_of_models_that_are_not_shipped(name: str) -> None:
    family, keys, total = PUBLISHED[name]
    spec = ModelSpec(name=name, config={"model_type": family, **keys})
    assert model_facts(spec).parameters == total


def test_active_parameters_of_a_dense_model_are_all_of_them() -> None:
    facts = model_facts(model("llama"))
    assert facts.active_parameters == facts.parameters


def test_active_parameters_leave_out_the_experts_not_chosen() -> None:
    facts = model_facts(model("mixtral"))
    # 3 layers of 6 idle experts of three 64 × 160 matrices.
    assert facts.parameters - facts.active_parameters == 3 * 6 * 3 * 64 * 160


def test_facts_count_layers_and_cache() -> None:
    facts = model_facts(model("gemma2"))
    assert facts.layers == 4
    assert facts.kv_cache_bytes_per_token == 512  # 2·4 layers·2 KV heads·16·2 bytes


@pytest.mark.parametrize(("tied", "more"), [(True, 0), (False, 512 * 64)])
def test_an_untied_head_has_weights_of_its_own(tied: bool, more: int) -> None:
    base = model_facts(model("llama", tie_word_embeddings=True)).parameters
    assert model_facts(model("llama", tie_word_embeddings=tied)).parameters == base + more


@pytest.mark.parametrize(
    ("family", "key", "extra"),
    [
        # 3 layers; query 64, key and value 16 each.
        ("llama", "attention_bias", 3 * (64 + 2 * 16 + 64)),
        ("llama", "mlp_bias", 3 * (2 * 160 + 64)),
        ("qwen3", "attention_bias", 3 * (128 + 2 * 32 + 64)),
        ("internlm2", "bias", 3 * (64 + 2 * 16 + 64)),
        ("falcon", "bias", 3 * (64 + 2 * 16 + 64 + 256 + 64)),
        ("chatglm", "add_bias_linear", 3 * (64 + 2 * 160 + 64)),
    ],
)
def test_biases_are_counted_where_the_config_has_them(family: str, key: str, extra: int) -> None:
    without = model_facts(model(family, **{key: False})).parameters
    assert model_facts(model(family, **{key: True})).parameters - without == extra


@pytest.mark.parametrize(
    ("said", "biased"), [({}, 64), ({"attention_out_bias": False}, 0), ({"mlp_bias": False}, 64)]
)
def test_a_bias_that_is_off_counts_as_said(said: dict[str, bool], biased: int) -> None:
    # 3 layers; query 64, key and value 16 each, and the output projection's own 64.
    without = model_facts(model("llama")).parameters
    found = model_facts(model("llama", attention_bias=True, **said)).parameters
    assert found - without == 3 * (64 + 2 * 16 + biased)


@pytest.mark.parametrize(
    ("step", "routed", "parameters"),
    [
        # Attention: queries 8·24·64, latent 40·64 and its norm 32, keys and values 8·32·32, output
        # 64·128, two norms of 64: 31 392. Dense: 3·64·160 = 30 720 more; routed: 9 experts of
        # 3·64·32 and a router of 8·64, 55 808 more. Embedding, head and norm: 2·512·64 + 64.
        (1, 5, 62_112 + 5 * 87_200 + 65_600),
        (2, 2, 4 * 62_112 + 2 * 87_200 + 65_600),
        (3, 1, 5 * 62_112 + 87_200 + 65_600),
    ],
)
def test_experts_are_in_every_nth_layer_after_the_dense_ones(step, routed, parameters) -> None:
    # Of layers 0 to 5 the first is dense; of the rest those whose index `step` divides are routed.
    spec = model("deepseek_v2", num_hidden_layers=6, moe_layer_freq=step)
    layers = read_blocks(spec.config, "x")
    assert sum(int(b.count) for b in layers if b.experts) == routed
    assert model_facts(spec).parameters == parameters


# Configs that cannot be read.


def test_every_shipped_model_is_supported() -> None:
    assert set(supported()) == set(shipped().paths("models"))


def test_shipped_configs_are_read_without_a_doubt() -> None:
    assert all(facts_of(name).layers > 0 for name in shipped().paths("models"))
