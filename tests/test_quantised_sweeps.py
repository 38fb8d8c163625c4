"""Quantised models in sweeps and commands: each brings its own recipe."""

import json
from typing import Any

import numpy as np
import pytest
from factories import config, hardware, model
from test_quantisation import AWQ, LINEAR, REST, quantised

from sweep.decisions.deployment_sweep import sweep_deployments
from sweep.decisions.deployments import Offer
from sweep.errors import SpecError
from sweep.grid.dataset import RECIPES
from sweep.grid.grid import Grid
from sweep.runs.run import run
from sweep.specs.catalog import Catalog

AXES: dict[str, Any] = {
    "hardware": [hardware()],
    "batch_size": [1, 8],
    "isl": [128],
    "osl": [16],
    "variables": ["weight_memory", "ttft", "tpot", "output_throughput"],
}
FIRST = quantised(**AWQ).model_copy(update={"name": "first"})
SECOND = quantised(quant_method="fp8").model_copy(update={"name": "second"})
PLAIN = model().model_copy(update={"name": "plain"})


def test_a_quantised_model_brings_its_recipe_and_another_overrides_it() -> None:
    own = run(Grid(models=[FIRST], **AXES))
    assert own["precision"].values.tolist() == ["checkpoint"]
    assert json.loads(own.attrs[RECIPES]) == {"first": "awq int4, group 32"}
    assert float(own["weight_memory"].max()) == REST + LINEAR / 2 + LINEAR / 32 * 2.5
    other = run(Grid(models=[FIRST], precision=["fp16"], **AXES))
    assert other["precision"].values.tolist() == ["fp16"]
    assert RECIPES not in other.attrs
    assert float(other["weight_memory"].max()) == REST + 2 * LINEAR


def test_an_unquantised_model_keeps_its_default() -> None:
    found = run(Grid(models=[PLAIN], **AXES))
    assert found["precision"].values.tolist() == ["fp16"]
    assert RECIPES not in found.attrs


def test_each_model_of_a_sweep_has_its_own_recipe() -> None:
    together = run(Grid(models=[FIRST, PLAIN, SECOND], precision=["checkpoint", "fp16"], **AXES))
    for spec in (FIRST, PLAIN, SECOND):
        alone = run(Grid(models=[spec], precision=["checkpoint", "fp16"], **AXES))
        for name in AXES["variables"]:
            np.testing.assert_array_equal(
                together[name].sel(model=[spec.name]).values, alone[name].values
            )
    assert json.loads(together.attrs[RECIPES]) == {
        "first": "awq int4, group 32",
        "plain": "16 bits, not quantised",
        "second": "fp8 per matrix",
    }


@pytest.mark.slow
def test_intervals_follow_the_type_of_each_model() -> None:
    both = {"precision": ["checkpoint"], **AXES, "hardware": ["h100-sxm-80gb"]}
    together = run(Grid(models=[SECOND, PLAIN], **both), efficiency="tensorrt-llm")
    for spec in (SECOND, PLAIN):
        alone = run(Grid(models=[spec], **both), efficiency="tensorrt-llm")
        for name in ("ttft_upper", "extrapolation"):
            if name in alone:
                np.testing.assert_allclose(
                    together[name].sel(model=[spec.name]).values, alone[name].values, rtol=1e-6
                )


def test_a_type_that_an_accelerator_lacks_is_refused_by_its_model() -> None:
    machine = hardware(peak_flops_per_s={"fp16": 1e14})
    with pytest.raises(SpecError, match=r"'checkpoint' \(fp8 per matrix\) of 'second' computes in"):
        run(Grid(models=[SECOND], **{**AXES, "hardware": [machine]}))
    run(Grid(models=[SECOND], precision=["fp16"], **{**AXES, "hardware": [machine]}))


def test_an_unknown_method_is_no_obstacle_to_a_stated_precision(tmp_path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(config(quantization_config={"quant_method": "quip"})))
    with pytest.raises(SpecError, match="'quip' is not supported"):
        run(Grid(models=[str(path)], **AXES))
    run(Grid(models=[str(path)], precision=["w4a16"], **AXES))


# Commands.


@pytest.fixture
def awq_file(tmp_path):
    path = tmp_path / "Tiny-AWQ" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(config(quantization_config=AWQ)))
    return path


@pytest.mark.slow
def test_explain_names_the_recipe(call, awq_file) -> None:
    words = ("explain", "--model", awq_file.parent, "--hardware", "l40s")
    words = (*words, "--batch-size", 1, "--isl", 16, "--osl", 4)
    status, out, _ = call(*words)
    assert status == 0
    assert out.startswith("Tiny-AWQ in checkpoint (awq int4, group 32) on 1 l40s")
    status, out, _ = call(*words, "--json")
    found = json.loads(out)
    assert found["checkpoint"] == "awq int4, group 32"
    assert found["memory"]["weight_memory"] == REST + LINEAR / 2 + LINEAR / 32 * 2.5
    status, out, _ = call(*words, "--precision", "fp16", "--json")
    assert "checkpoint" not in json.loads(out)


def test_show_model_names_the_recipe_and_its_bytes(call, awq_file) -> None:
    found = json.loads(call("show", "model", awq_file, "--json")[1])
    assert found["checkpoint"] == "awq int4, group 32"
    assert found["weight_bytes_of_checkpoint"] == REST + LINEAR / 2 + LINEAR / 32 * 2.5


def test_a_malformed_file_ends_the_command_in_one_line(call, tmp_path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(config(quantization_config={**AWQ, "bits": 0})))
    words = ("explain", "--model", path, "--hardware", "l40s")
    status, out, err = call(*words, "--batch-size", 1, "--isl", 16, "--osl", 4)
    assert (status, out) == (2, "")
    assert "quantization_config: bits: must be one of 4, 8, not 0" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_recommend_ranks_a_quantised_file_by_its_recipe(awq_file) -> None:
    offer = Offer(hardware=("l40s",), tp=(1,), pp=(1,))
    found = sweep_deployments(
        str(awq_file), offer, isl=64, osl=16, concurrency=8, catalog=Catalog(), calibration=None
    )
    assert found.frame["precision"].unique().tolist() == ["checkpoint"]
    assert found.checkpoint == "awq int4, group 32"
