"""Diffusion transformers: published sizes and FLOPs, images per second, refusals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from factories import FP16, OF_IMAGES, hardware

import sweep
from sweep.errors import SpecError
from sweep.evaluation.single_cell import cell
from sweep.kernel.request import Request
from sweep.models.parameter_count import model_facts
from sweep.models.read import read_blocks
from sweep.schema.variables import VARIABLES
from sweep.specs.model import ModelSpec

SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
"""Width, layers and heads of each size, Peebles and Xie, ICCV 2023, table 1."""
PUBLISHED = {
    ("S", 8): 0.36e9,
    ("S", 4): 1.41e9,
    ("S", 2): 6.06e9,
    ("B", 8): 1.42e9,
    ("B", 4): 5.56e9,
    ("B", 2): 23.01e9,
    ("L", 8): 5.01e9,
    ("L", 4): 19.70e9,
    ("L", 2): 80.71e9,
    ("XL", 8): 7.39e9,
    ("XL", 4): 29.05e9,
    ("XL", 2): 118.64e9,
}
"""Multiply-adds of one image of 256 pixels in one step, in the same paper, table 4."""


def config(size: str = "S", patch: int = 2, **more: Any) -> dict[str, Any]:
    hidden, layers, heads = SIZES[size]
    return {
        "model_type": "dit",
        "image_size": 256,
        "patch_size": patch,
        "in_channels": 4,
        "hidden_size": hidden,
        "depth": layers,
        "num_heads": heads,
        **more,
    }


def dit(size: str = "S", patch: int = 2, **more: Any) -> ModelSpec:
    return ModelSpec(name=f"dit-{size}-{patch}".lower(), config=config(size, patch, **more))


def grid(**changes: Any) -> sweep.Grid:
    keys: dict[str, Any] = {
        "models": [dit()],
        "hardware": ["h100-sxm-80gb"],
        "batch_size": [1],
        "image_size": [256],
        "variables": ["denoising_step_flops"],
    }
    return sweep.Grid(**keys | changes)


def test_flops_are_those_published() -> None:
    found = sweep.run(grid(models=[dit(*each) for each in PUBLISHED])).denoising_step_flops
    np.testing.assert_allclose(found.values.ravel() / 2, list(PUBLISHED.values()), rtol=0.008)


def test_parameters_by_hand() -> None:
    # A layer: attention 4h² + 4h, feed-forward 8h² + 5h, modulation 6h² + 6h.
    h, layers = 384, 12
    layer = 18 * h * h + 15 * h
    patches = 16 * h + h
    step = 256 * h + h + h * h + h
    classes = 1001 * h
    final = 2 * h * h + 2 * h + 32 * h + 32
    counted = model_facts(dit()).parameters
    assert counted == layers * layer + patches + step + classes + final


def test_keys_of_diffusers_are_read_alike() -> None:
    theirs = {
        "_class_name": "DiTTransformer2DModel",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": 64,
        "in_channels": 4,
        "norm_type": "ada_norm_zero",
        "num_attention_heads": 6,
        "num_embeds_ada_norm": 1000,
        "num_layers": 12,
        "out_channels": 8,
        "patch_size": 2,
        "sample_size": 32,
    }
    assert read_blocks(theirs, "c") == read_blocks(config(), "c")


def test_a_step_of_attention_by_hand() -> None:
    # 256 tokens attend to 256: scores and sums of 6 heads of 64 take 4·256²·384 FLOPs a layer.
    without = grid(models=[dit(depth=1)], image_size=[256, 512])
    small, large = sweep.run(without).denoising_step_flops.values.ravel()
    h, ratio = 384, large / small
    scores = 4 * 256**2 * h
    linear_of = 2 * 256 * (12 * h * h + 16 * h + 32 * h)
    assert ratio == pytest.approx((16 * scores + 4 * linear_of) / (scores + linear_of), rel=0.02)


def assert_alike(one: xr.DataArray, other: xr.DataArray) -> None:
    assert float(abs(one / other - 1).max()) < 1e-5


@pytest.mark.slow
def test_images_per_second() -> None:
    found = sweep.run(
        grid(
            batch_size=[8],
            tp=[1, 2],
            dp=[1, 3],
            guidance_passes=[1, 2],
            denoising_steps=[50, 250],
            variables=[
                "denoising_step_latency",
                "image_latency",
                "image_throughput",
                "image_throughput_per_gpu",
            ],
        )
    )
    step = found.denoising_step_latency
    assert_alike(found.image_latency, found.denoising_steps * step)
    assert_alike(found.image_throughput, found.dp * 8 / found.image_latency)
    assert_alike(found.image_throughput_per_gpu, found.image_throughput / found.dp / found.tp)
    twice = step.sel(guidance_passes=2) / step.sel(guidance_passes=1)
    assert ((twice > 1.5) & (twice < 2.001)).all()


@pytest.mark.slow
def test_guidance_is_twice_the_batch() -> None:
    variables = ["denoising_step_latency", "denoising_step_bytes"]
    one = sweep.run(grid(batch_size=[4], guidance_passes=[2], variables=variables))
    other = sweep.run(grid(batch_size=[8], guidance_passes=[1], variables=variables))
    for name in variables:
        assert one[name].item() == pytest.approx(other[name].item())


@pytest.mark.slow
def test_operators_make_up_the_step() -> None:
    variables = ["denoising_step_latency", "denoising_operator_latency"]
    found = sweep.run(grid(batch_size=[4], variables=variables))
    total = found.denoising_operator_latency.sum("operator")
    assert total.item() == pytest.approx(found.denoising_step_latency.item())


def test_nothing_is_cached() -> None:
    found = sweep.run(grid(variables=["kv_cache_memory", "memory_required", "weight_memory"]))
    assert found.kv_cache_memory.item() == 0
    assert found.memory_required.item() > found.weight_memory.item()
    assert found.weight_memory.item() == 2 * model_facts(dit()).parameters


@pytest.mark.slow
def test_every_variable_fills_the_dims_it_declares() -> None:
    wide = grid(
        models=[dit(), dit("B")],
        hardware=["h100-sxm-80gb", hardware(name="small cache", on_chip_cache_bytes=1e4)],
        precision=["fp16", "int8"],
        tp=[1, 2],
        batch_size=[1, 64],
        guidance_passes=[1, 2],
        denoising_steps=[1, 50],
        image_size=[256, 512],
        variables=list(OF_IMAGES),
    )
    found = sweep.run(wide)
    for name in OF_IMAGES:
        dims = [dim for dim in VARIABLES[name].dims if dim in found.dims]
        assert list(found[name].dims) == dims
        for dim in set(dims) - {"operator"}:
            changes = np.diff(found[name].fillna(0).values, axis=dims.index(dim))
            assert VARIABLES[name].is_flag or changes.any(), (name, dim)


@pytest.mark.parametrize(
    ("field", "place", "value"),
    [("token_pixels", 0, 32), ("patch_values", 0, 32), ("denoised_values", 2, 16)],
)
def test_every_field_of_a_block_moves_the_step(field: str, place: int, value: int) -> None:
    blocks = read_blocks(config(), "c")
    assert getattr(blocks[place], field) != value
    changed = list(blocks)
    changed[place] = replace(blocks[place], **{field: value})
    numbers = {"batch_size": 1.0, "image_size": 256.0}
    one, other = (
        Request(cell(tuple(each), hardware(), FP16, numbers)) for each in (blocks, changed)
    )
    assert float(one.denoising_step_flops) != float(other.denoising_step_flops)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": ["llama-2-7b"]}, "'llama-2-7b' generates text"),
        (
            {"image_size": None, "isl": [256], "variables": ["ttft"]},
            "isl: 'dit-s-2' generates images",
        ),
        ({"image_size": [250]}, "image_size: 250 is no multiple of 16"),
        ({"variables": ["image_throughput"]}, "needs the axis denoising_steps"),
    ],
)
def test_wrong_grids_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(sweep.SweepError, match=words):
        sweep.run(grid(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 385}, "hidden_size: 6 heads do not divide 385"),
        ({"depth": 0}, "depth: must be an integer from 1"),
        ({"depth": 10**18}, "depth: must be an integer from 1"),
        ({"patch_size": "2"}, "patch_size: must be an integer"),
        ({"mlp_ratio": -1}, "mlp_ratio: must be a number above 0"),
        ({"image_size": 250}, "image_size: 250 is no multiple of 16"),
        ({"norm_type": "ada_norm_single"}, "norm_type: 'ada_norm_single'"),
        ({"cross_attention_dim": 768}, "cross_attention_dim: a part that a DiT does not have"),
        ({"learn_sigma": 1}, "learn_sigma: must be true or false"),
        ({"num_experts": 8}, "num_experts: a part that family 'dit' does not have"),
    ],
)
def test_wrong_configs_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as refused:
        read_blocks(config(**changes), "c")
    assert "\n" not in str(refused.value)
