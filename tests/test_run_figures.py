"""Figures of one run from one program: the same as from a program of each."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import model, point
from hypothesis import given
from hypothesis import strategies as st

from calibration.fit.forward import LEAST_AT_ONCE, MOST_AT_ONCE, _figure, _length
from calibration.fit.points import Group
from sweep.kernel.factors import Factors
from sweep.kernel.params import Point
from sweep.kernel.request import Request

FIGURES = ("inflight_output_throughput", "inflight_tpot", "inflight_ttft")
ENGINE = Factors(
    gemm=0.7,
    gemm_half_rows=20.0,
    expert_half_rows=20.0,
    expert_gemm=0.8,
    weight_bandwidth=0.9,
    kv_half_heads=30.0,
    unhidden=0.1,
    operator_overhead_s=4e-7,
    step_overhead_s=4e-4,
    sequence_overhead_s=5e-6,
    front_end_s=0.04,
    first_token_steps=1.0,
    expert_imbalance=1.1,
    staggered=1.0,
)


def run(family: str, **settings: float) -> Point:
    numbers = {"concurrency": 12.0, "num_requests": 120.0, "max_num_tokens": 800.0} | settings
    where = point(model(family), isl=100, osl=21)
    return dataclasses.replace(where, factors=ENGINE, **numbers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"batch_wait": 20.0}),
        ("mixtral", {"isl_cv": 0.1, "osl_cv": 0.1, "poll_interval": 10.0, "scheduler": 1.0}),
    ],
)
def test_passes_side_by_side_take_as_long_as_one_by_one(family, settings) -> None:
    names = ("weight_bandwidth", "gemm", "sequence_overhead_s", "expert_imbalance")

    def figures(values: jax.Array, *, side_by_side: bool) -> jax.Array:
        factors = dataclasses.replace(ENGINE, **dict(zip(names, values, strict=True)))
        where = dataclasses.replace(run(family, **settings), factors=factors)
        request = Request(where, keep_infeasible=True, side_by_side=side_by_side)
        return jnp.stack([jnp.log(getattr(request, name)) for name in FIGURES])

    with jax.enable_x64(True):
        given_ = jnp.asarray([getattr(ENGINE, name) for name in names])
        found, slopes = [], []
        for how in (False, True):
            value, pull = jax.vjp(lambda v, how=how: figures(v, side_by_side=how), given_)
            found.append(np.asarray(value))
            slopes.append(np.stack([pull(each)[0] for each in jnp.eye(len(FIGURES))]))
    assert np.isfinite(found[0]).all()
    assert np.abs(slopes[0]).max() > 0
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-8, atol=1e-12)


def test_each_row_has_the_figure_that_it_asks_for() -> None:
    with jax.enable_x64(True):
        where = run("llama")
        request = Request(where, keep_infeasible=True)
        for place, name in enumerate(FIGURES):
            found = float(_figure(where, FIGURES, jnp.asarray(place, jnp.int32)))
            assert found == pytest.approx(float(getattr(request, name)), rel=1e-9)


@given(st.integers(1, 20_000))
def test_a_kernel_has_room_for_the_rows_and_a_quarter_more_at_most(rows: int) -> None:
    length = _length(Group((), np.arange(rows), run("llama"), np.zeros(rows, np.int32)))
    least = min(max(rows, LEAST_AT_ONCE), MOST_AT_ONCE)
    assert least <= length <= 5 * least / 4


def test_kernels_have_few_lengths() -> None:
    where = run("llama")
    lengths = {
        _length(Group((), np.arange(rows), where, np.zeros(rows, np.int32)))
        for rows in range(1, 5000)
    }
    assert len(lengths) <= 40
