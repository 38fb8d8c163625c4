"""Random models, accelerators, recipes and requests for laws that hold at every point."""

from factories import (
    CONFIGS,
    hardware,
    model,
    shipped,
)
from hypothesis import strategies as st

from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec

POWERS = st.integers(0, 3).map(lambda n: 2**n)
RATES = st.floats(1e9, 1e16)
FIGURES = (
    "vector_flops_per_s",
    "special_function_ops_per_s",
    "memory_bandwidth_bytes_per_s",
    "on_chip_cache_bytes",
    "link_bandwidth_bytes_per_s",
)


@st.composite
def machines(draw: st.DrawFn) -> HardwareSpec:
    peak = draw(RATES)
    figures = {figure: draw(RATES) for figure in FIGURES}
    return hardware(peak_flops_per_s={"fp16": peak, "bf16": peak, "fp8": 2 * peak}, **figures)


@st.composite
def models(draw: st.DrawFn, family: str) -> ModelSpec:
    """A model of one family's structure, of any size."""
    kv_heads, group, dim = draw(POWERS), draw(POWERS), draw(st.integers(1, 16)) * 8
    sizes = {
        "hidden_size": draw(st.integers(1, 64)) * 64,
        "intermediate_size": draw(st.integers(1, 64)) * 64,
        "num_hidden_layers": draw(st.integers(2, 80)),
        "num_attention_heads": kv_heads * group,
        "num_key_value_heads": kv_heads,
        "head_dim": dim,
        "vocab_size": draw(st.integers(1, 300_000)),
    }
    if "sliding_window" in CONFIGS[family]:
        sizes["sliding_window"] = draw(st.integers(1, 5000))
    return model(family, **sizes)


RECIPES = st.sampled_from(["fp16", "bf16", "fp8", "w4a16", "w8a16"]).map(
    lambda name: shipped().precision(name)
)
NUMBERS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 512),
        "context_len": st.integers(1, 100_000),
        "isl": st.integers(1, 100_000),
        "osl": st.integers(1, 5000),
        "tp": POWERS,
    }
)
