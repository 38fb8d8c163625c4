"""Calibrations are checked when they are read, and have a checksum."""

import contextlib
import json
import random
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from damage import LONGEST_LINE

from calibration.fit.priors import BOUNDS
from sweep.engines.calibration_checks import range_of
from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError
from sweep.kernel.factors import FACTORS, IDEAL
from sweep.specs.files import read_mapping
from sweep.specs.seal import seal

ROOT = Path(__file__).parent.parent


@cache
def shipped() -> dict[str, Any]:
    """Keys of the shipped calibration of vLLM, without its seal."""
    found = read_mapping(ROOT / "configs/calibrations/vllm.yaml")
    del found["seal"]
    return found


def edited(**changes: object) -> dict[str, Any]:
    """The shipped calibration of vLLM with some keys replaced: `settings__software={…}`."""
    found = deepcopy(shipped())
    for key, value in changes.items():
        *path, last = key.split("__")
        at = found
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return found


TINY_FIGURE = {"value": 1.0}
WRONG = {
    "name: is not printable text": {"name": "a\x1b[31mb"},
    "name: has 3,000 characters, and 1,000 are allowed": {"name": "a" * 3000},
    "name: 'ideal' means bounds": {"name": "ideal"},
    "settings.kv_bandwidth: has no value for the versions": {"settings__kv_bandwidth": {}},
    "settings.weight_bandwidth: has no value": {"settings__weight_bandwidth": {"banana": 0.5}},
    "measured: unknown scenario 'inflght'; did you mean 'inflight'": {
        "measured": {"inflght": {"h100-sxm-80gb": 8.0}}
    },
    "measured.inflight.h100-sxm-80gb: must be from 1": {
        "measured": {"inflight": {"h100-sxm-80gb": 0.5}}
    },
    "ratios: unknown key 'sen'; did you mean 'seen'": {"ratios": {"sen": 1.0}},
    "ratios.seen: must be from 0 to 10": {"ratios": {"seen": 1e300}},
    "ratio_spreads.hh: must be from": {"ratio_spreads": {"hh": 1e300}},
    "has neither factors nor settings": {"factors": {}, "settings": {}, "deviations": {}},
    "settings.software.default": {"settings__software": {"default": -1.0}},
    "settings.gemm": {"settings__gemm": {"default": float("nan")}},
    "settings.reserved_memory_bytes": {"settings__reserved_memory_bytes": {"default": 1e16}},
    "settings: unknown factor 'sofware'; did you mean 'software'": {
        "settings__sofware": {"default": 1.0}
    },
    "settings.prefill_first.default": {"settings__prefill_first": {"default": 2.0}},
    "factors.gemm: must be from": {"factors__gemm": {"value": 0.0}},
    "factors.attention": {"factors__attention": {"value": 1e300}},
    "factors.software": {"factors__software": {"value": 1e-300}},
    "factors.step_overhead_s": {"factors__step_overhead_s": {"value": 1e9}},
    "factors.gemm.standard_error": {"factors__gemm": {"value": 1.0, "standard_error": 500.0}},
    "factors.gemm.verdict": {"factors__gemm": {"value": 1.0, "verdict": "great"}},
    "factors: unknown factor 'gem'": {"factors__gem": TINY_FIGURE},
    "deviations.gemm: unknown trait 'hardwares'": {
        "deviations__gemm__hardwares": {"l4": TINY_FIGURE}
    },
    "deviations.gemm.hardware.l4": {"deviations__gemm__hardware": {"l4": {"value": 0.0}}},
    "deviations: unknown factor": {"deviations__gem__hardware": {"l4": TINY_FIGURE}},
    "halfwidths: unknown scenario 'in_flight'": {"halfwidths__in_flight": {"seen": 0.1}},
    "halfwidths.inflight: unknown key 'sen'": {"halfwidths__inflight": {"sen": 0.1}},
    "halfwidths.inflight.seen": {"halfwidths__inflight": {"seen": 1e300}},
    "spreads: unknown grouping 'hardwares'": {"spreads__hardwares": {"l4": 1.0}},
    "spreads.experts: unknown level 'route'": {"spreads__experts": {"route": 1.0}},
    "spreads.requests: unknown level": {"spreads__requests": {"to 65": 1.0}},
    "spreads.model.gpt2": {"spreads__model": {"gpt2": 1e9}},
    "ranges.inflight.isl: from 8 to 4 is reversed": {"ranges__inflight__isl": [8.0, 4.0]},
    "ranges.inflight: unknown quantity": {"ranges__inflight__islands": [1.0, 4.0]},
    "ranges: unknown scenario": {"ranges__flight__isl": [1.0, 4.0]},
    "seen: unknown key 'hardwares'": {"seen__hardwares": ["l4"]},
    "provenance.told_only_together": {"provenance__told_only_together": 3},
    "provenance.rows_set_aside": {"provenance__rows_set_aside": {"a": 1}},
    "provenance.rows_waiting_longest_for": {"provenance__rows_waiting_longest_for": [1]},
    "provenance.errors_without_own_configuration": {
        "provenance__errors_without_own_configuration": {"inflight": {"mape": "small"}}
    },
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_calibration_is_refused_by_key(words, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(edited(**WRONG[words])))
    with pytest.raises(SpecError) as error:
        load_calibration(path)
    assert words in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < LONGEST_LINE


def test_every_factor_has_a_range_that_contains_its_ideal_value() -> None:
    for factor in FACTORS:
        low, high = range_of(factor)
        ideal = getattr(IDEAL, factor)
        assert low <= ideal <= high or ideal == np.inf
        if factor in BOUNDS:
            assert low <= BOUNDS[factor][0] < BOUNDS[factor][1] <= high


def test_a_calibration_with_a_seal_is_refused_when_it_was_changed(tmp_path) -> None:
    """Comments and layout may change, and a file without a seal may be edited."""
    path, chance = tmp_path / "mine.yaml", random.Random(3)
    text = (ROOT / "configs/calibrations/vllm.yaml").read_text()
    path.write_text(text)
    assert load_calibration(path) == load_calibration(ROOT / "configs/calibrations/vllm.yaml")
    changed_text = re.sub(r"value: [0-9.]+", "value: 0.7654", text, count=1)
    assert changed_text != text
    path.write_text(changed_text)
    with pytest.raises(SpecError, match="delete the line 'seal'"):
        load_calibration(path)
    path.write_text(re.sub(r"^seal: .*\n", "", changed_text, flags=re.MULTILINE))
    assert load_calibration(path) is not None
    path.write_text(text.replace("# Value,", "# Number,"))
    assert load_calibration(path) is not None
    whole, lines = text.encode(), [i for i, s in enumerate(text.split("\n")) if s.startswith("#")]
    for place in chance.sample(range(len(whole)), 25):
        if whole[:place].count(b"\n") in lines:
            continue
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(7)
        path.write_bytes(changed)
        with contextlib.suppress(SpecError):
            assert load_calibration(path) == load_calibration("vllm"), place


@pytest.fixture
def fitted(tmp_path) -> Path:
    """The NetCDF form of a shipped calibration, as far as a sweep reads it."""
    path, content = tmp_path / "fit.nc", edited()
    xr.Dataset(attrs={"llm_sweep_efficiency": json.dumps(content)}).to_netcdf(path)
    seal(path)
    return path


def test_a_changed_bit_in_the_netcdf_file_of_a_fit_is_noticed(fitted, call, tmp_path) -> None:
    assert load_calibration(fitted) == load_calibration("vllm")
    content, chance = fitted.read_bytes(), random.Random(4)
    for place in chance.sample(range(len(content)), 30):
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        fitted.write_bytes(changed)
        with pytest.raises(SpecError, match="checksum differs"):
            load_calibration(fitted)


@pytest.mark.parametrize("text", ["[" * 10**5, "[]", "3", '{"name": 1, "name": 2}', "{", "\x00"])
def test_an_attribute_that_is_no_calibration_is_refused(text, tmp_path) -> None:
    path = tmp_path / "fit.nc"
    xr.Dataset(attrs={"llm_sweep_efficiency": text or "x"}).to_netcdf(path)
    with pytest.raises(SpecError, match=r"fit\.nc"):
        load_calibration(path)
