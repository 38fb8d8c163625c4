"""The shipped calibrations are what the command on the page of accuracy makes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.engines.calibration_file import Calibration, load_calibration

PAGE = Path(__file__).parent.parent / "docs" / "accuracy.md"
SHIPPED = ("tensorrt-llm", "vllm", "sglang", "vllm-rocm")


def documented() -> list[str]:
    """Words of the command that makes the shipped calibrations."""
    (block,) = re.findall(r"```sh\n(llm-calibrate fit .*?)```", PAGE.read_text("utf-8"), re.S)
    return shlex.split(block.replace("\\\n", " "))[1:]


def values(calibration: Calibration) -> dict[str, float]:
    """Every fitted number of a calibration."""
    found = {name: figure.value for name, figure in calibration.factors.items()}
    for factor, traits in calibration.deviations.items():
        for trait, levels in traits.items():
            found |= {f"{factor}[{trait}={k}]": figure.value for k, figure in levels.items()}
    return found


def test_the_page_names_every_fitted_table() -> None:
    words = documented()
    rows = load_calibration("tensorrt-llm").provenance["rows_of_all_engines"]
    assert f"{rows:,} rows" in PAGE.read_text("utf-8")
    assert words[0] == "fit"
    assert "--each-engine" in words


@pytest.mark.campaign
def test_the_documented_command_makes_the_shipped_calibrations(tmp_path) -> None:
    # As a user runs it: the flags of the tests make more pieces of memory than a process may have.
    usual = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "calibration", *documented()]
    done = subprocess.run(command, cwd=tmp_path, env=usual, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in SHIPPED:
        made, shipped = load_calibration(str(tmp_path / f"{name}.yaml")), load_calibration(name)
        assert values(made) == pytest.approx(values(shipped), rel=1e-3)
        assert made.settings == shipped.settings
        for scenario, widths in shipped.halfwidths.items():
            assert made.halfwidths[scenario] == pytest.approx(widths, rel=0.02)
