"""Global rooflines of published models by hand, and their laws."""

from typing import Any

import pytest
from factories import (
    FP16,
    model,
    price,
    shipped,
    shipped_model,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import NUMBERS, machines, models

# The global roofline.


def global_step(name: str, machine: str, recipe: str, **numbers: float) -> dict[str, float]:
    names = (
        "global_arithmetic_intensity",
        "global_attainable_flops",
        "global_decode_step_latency",
    )
    specs = shipped().hardware(machine), shipped().precision(recipe)
    found = price(names, shipped_model(name), *specs, **numbers)
    return {key.removeprefix("global_"): float(value) for key, value in found.items()}


def test_global_roofline_of_llama_2_7b() -> None:
    # A layer has 4·4096² + 3·4096·11008 = 202 375 168 parameters, 32 of them 6 476 005 376.
    # Attention at 1024 tokens: 32·4·32·128·1024 = 536 870 912 FLOPs, and as many bytes of K
    # and V (32·2·32·128·1024·2). Two FLOPs and two bytes a parameter: intensity 1 exactly.
    found = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", batch_size=1, context_len=1024)
    assert found["arithmetic_intensity"] == 1.0
    assert found["attainable_flops"] == 3.35e12
    assert found["decode_step_latency"] == pytest.approx(13_488_881_664 / 3.35e12, rel=1e-12)
    # Two GPUs take half the time at the same intensity.
    two = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", batch_size=1, context_len=1024, tp=2)
    assert two == found | {"decode_step_latency": found["decode_step_latency"] / 2}


def test_global_roofline_of_a_batch_of_llama_2_7b() -> None:
    # 16 times the operations over 12 952 010 752 + 16·536 870 912 bytes.
    found = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", batch_size=16, context_len=1024)
    expected = 16 * 13_488_881_664 / 21_541_945_344
    assert found["arithmetic_intensity"] == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(10.0187, rel=1e-5)


def test_global_roofline_of_mixtral() -> None:
    # A layer: 2·4096·128·(32 + 8) = 41 943 040 parameters of attention and 3·4096·14336 =
    # 176 160 768 of each expert. Two experts compute, eight are read; 1024 tokens of context
    # take 16 777 216 FLOPs and 4 194 304 bytes.
    flops = 2 * (41_943_040 + 2 * 176_160_768) + 16_777_216
    assert flops == 805_306_368
    weights = 2 * (41_943_040 + 8 * 176_160_768)
    for batch in (1, 32):
        numbers = {"batch_size": batch, "context_len": 1024}
        found = global_step("mixtral-8x7b", "h100-sxm-80gb", "fp16", **numbers)
        expected = batch * flops / (weights + batch * 4_194_304)
        assert found["arithmetic_intensity"] == pytest.approx(expected, rel=1e-12)


def test_the_roof_is_the_peak_of_the_linear_layers() -> None:
    # Far above the ridge of 989.4e12/3.35e12 = 295 FLOPs a byte: one token of context.
    numbers = {"batch_size": 4096, "context_len": 1}
    half = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", **numbers)
    eight = global_step("llama-2-7b", "h100-sxm-80gb", "fp8", **numbers)
    assert half["attainable_flops"] == 9.894e14
    assert eight["attainable_flops"] == 1.9789e15


def test_the_roof_of_layers_in_two_types_is_the_rate_at_which_all_are_done() -> None:
    # Mixtral's attention has 41 943 040 parameters in 16 bits, its two experts 352 321 536 in 8.
    attention, experts = 41_943_040, 2 * 176_160_768
    numbers = {"batch_size": 4096, "context_len": 1}
    found = global_step("mixtral-8x7b", "h100-sxm-80gb", "fp8-experts", **numbers)
    rate = (attention + experts) / (attention / 9.894e14 + experts / 1.9789e15)
    assert found["attainable_flops"] == pytest.approx(rate, rel=1e-12)


def test_fp8_doubles_the_intensity() -> None:
    numbers = {"batch_size": 7, "context_len": 1000}
    half = global_step("llama-2-7b", "h100-sxm-80gb", "fp16", **numbers)
    eight = global_step("llama-2-7b", "h100-sxm-80gb", "fp8", **numbers)
    assert eight["arithmetic_intensity"] == 2 * half["arithmetic_intensity"]


def test_a_window_caps_the_context_of_the_global_roofline() -> None:
    names = ("global_arithmetic_intensity",)
    windowed = price(names, model("mistral"), context_len=1000, batch_size=2)
    capped = price(names, model("llama"), context_len=48, batch_size=2)
    assert windowed == capped


@given(st.data())
def test_tensor_parallelism_leaves_the_intensity_and_divides_the_time(data: Any) -> None:
    spec, machine = data.draw(models("llama")), data.draw(machines())
    numbers = data.draw(NUMBERS)
    names = (
        "global_arithmetic_intensity",
        "global_attainable_flops",
        "global_decode_step_latency",
    )
    one = price(names, spec, machine, FP16, **(numbers | {"tp": 1}))
    many = price(names, spec, machine, FP16, **numbers)
    assert many[names[0]] == one[names[0]]
    assert many[names[1]] == one[names[1]]
    assert many[names[2]] * numbers["tp"] == pytest.approx(one[names[2]], rel=1e-12)


def test_global_roofline_of_gpt2_has_two_matrices_in_the_feed_forward() -> None:
    # A layer has 4·768² + 2·768·3072 = 7 077 888 parameters, 12 of them 84 934 656. Attention
    # at 1000 tokens takes 12·4·768·1000 = 36 864 000 FLOPs and as many bytes, four times.
    found = global_step("gpt2", "h100-sxm-80gb", "fp16", batch_size=4, context_len=1000)
    expected = 4 * (169_869_312 + 36_864_000) / (169_869_312 + 4 * 36_864_000)
    assert found["arithmetic_intensity"] == pytest.approx(expected, rel=1e-12)
