"""Rows that drove a factor, from a fit whose information is worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from calibration.fit.verdicts import drivers
from sweep.kernel.factors import FACTORS


def _fit(weights):
    """Three rows, of which the first two depend on `gemm` and the last on `attention` alone."""
    sensitivities = np.zeros((3, len(FACTORS)))
    sensitivities[:, FACTORS.index("gemm")] = [0.6, 0.8, 0.0]
    sensitivities[2, FACTORS.index("attention")] = -0.5
    parameters = [
        SimpleNamespace(factor=factor, trait="") for factor in ("gemm", "attention", "ramp")
    ]
    return SimpleNamespace(
        sensitivities=sensitivities,
        fitted=np.arange(3),
        weights=np.asarray(weights),
        design=SimpleNamespace(parameters=parameters),
    )


def test_shares_are_of_squared_weighed_derivatives() -> None:
    found = drivers(_fit([1.0, 1.0, 1.0]), np.asarray(["a", "b", "b"]))
    assert found == {"gemm": {"b": 0.64, "a": 0.36}, "attention": {"b": 1.0}}
    assert list(found["gemm"]) == ["b", "a"]


def test_a_row_without_weight_drives_nothing() -> None:
    found = drivers(_fit([1.0, 0.0, 0.0]), np.asarray(["a", "b", "b"]))
    assert found == {"gemm": {"a": 1.0}}


def test_small_shares_are_left_out() -> None:
    found = drivers(_fit([0.1, 1.0, 1.0]), np.asarray(["a", "b", "c"]))
    assert found["gemm"] == {"b": pytest.approx(0.99)}
