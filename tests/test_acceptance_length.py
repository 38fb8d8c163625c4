"""Accepted tokens of a pass in place of the probability that a draft is accepted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import FP16, TOY, model, point
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from calibration.fit.points import observe
from calibration.measurements.measurement import Measurement
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.kernel.acceptance import acceptance_of, tokens_per_pass
from sweep.kernel.request import Request
from sweep.runs.run import run
from sweep.specs.catalog import Catalog


def test_the_probability_of_a_length_by_hand() -> None:
    with jax.enable_x64(True):
        found = [
            float(acceptance_of(jnp.asarray(k), jnp.asarray(tokens)))
            for k, tokens in ((3.0, 1.875), (1.0, 1.7), (3.0, 4.0), (3.0, 1.0), (0.0, 2.5))
        ]
    # 1 + a + a² + a³ = 1.875; 1 + a = 1.7; all accepted; none; nothing drafted.
    assert found == pytest.approx([0.5, 0.7, 1.0, 0.0, 0.0], abs=1e-9)


@given(st.integers(1, 32), st.floats(0, 1))
def test_the_length_of_the_probability_of_a_length_is_the_length(
    drafted: int, share: float
) -> None:
    tokens = 1 + share * drafted
    for wide, error in ((True, 1e-7), (False, 1e-5)):
        with jax.enable_x64(wide):
            count, length = jnp.asarray(float(drafted)), jnp.asarray(tokens)
            again = float(tokens_per_pass(count, acceptance_of(count, length)))
        assert again == pytest.approx(tokens, rel=error)


def test_a_longer_pass_accepts_more() -> None:
    lengths = jnp.linspace(1.0, 6.0, 501)
    found = np.asarray(jax.vmap(lambda length: acceptance_of(5.0, length))(lengths))
    assert (np.diff(found) >= -1e-6).all()


@pytest.mark.slow
def test_a_server_by_length_is_that_by_probability() -> None:
    numbers = {"isl": 90, "osl": 20, "concurrency": 8, "draft_tokens": 3}
    names = ("inflight_tpot", "inflight_ttft", "inflight_output_throughput", "tokens_per_pass")
    with jax.enable_x64(True):
        by_rate = Request(point(model("llama"), TOY, FP16, **numbers, acceptance_rate=0.5))
        by_length = Request(point(model("llama"), TOY, FP16, **numbers, acceptance_length=1.875))
        for name in names:
            expected = float(getattr(by_rate, name))
            assert float(getattr(by_length, name)) == pytest.approx(expected, rel=1e-9)


def grid(**axes: Any) -> Grid:
    return Grid(
        models=[model("llama")],
        hardware=[TOY],
        precision=[FP16],
        batch_size=[4],
        isl=[64],
        osl=[32],
        variables=["tpot", "tokens_per_pass"],
        **axes,
    )


@pytest.mark.slow
def test_a_sweep_has_lengths_as_an_axis() -> None:
    found = run(grid(draft_tokens=[0, 3], acceptance_length=[1.875, 4.0]), dtype="float64")
    assert found.tokens_per_pass.dims == ("model", "draft_tokens", "acceptance_length")
    # Where nothing is drafted a pass yields one token, whatever the length of others.
    np.testing.assert_allclose(
        found.tokens_per_pass.squeeze(), [[1.0, 1.0], [1.875, 4.0]], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (
            {"draft_tokens": [3], "acceptance_rate": [0.5], "acceptance_length": [2]},
            "acceptance_rate and acceptance_length: alternatives of one another; give one of them",
        ),
        ({"draft_tokens": [3], "acceptance_length": [0.9]}, "acceptance_length: every value must"),
        (
            {"draft_tokens": [2, 5], "acceptance_length": [3.5]},
            "acceptance_length: a pass with 2 drafted tokens yields from 1 to 3, not 3.5",
        ),
        ({"acceptance_length": [2.0]}, "acceptance_length: needs draft_tokens too"),
    ],
)
def test_lengths_that_no_pass_yields_are_refused(axes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as refusal:
        grid(**axes)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--acceptance-rate", "0.5", "--acceptance-length", "2"], "alternatives of one another"),
        (["--acceptance-length", "4.5"], "yields from 1 to 4, not 4.5"),
        (["--acceptance-length", "0.5"], "is not in the range x>=1"),
        ([], "--acceptance-rate, or --acceptance-length, together"),
    ],
)
@pytest.mark.parametrize("command", ["explain", "recommend"])
def test_commands_refuse_them_in_one_line(
    call, command: str, options: list[str], words: str
) -> None:
    given = ["--model", "llama-3.1-8b", "--hardware", "l40s", "--isl", "512", "--osl", "128"]
    code, _, error = call(command, *given, "--concurrency", "8", "--draft-tokens", "3", *options)
    assert code == 2
    assert words in error
    assert len(error.splitlines()) == 1


ROW = {
    **{"scenario": "inflight", "model": "llama-3.1-8b", "hardware": "h100-sxm-80gb"},
    **{"concurrency": 8, "isl": 512, "osl": 128, "metric": "tpot"},
}


def test_rows_by_length_are_those_by_probability() -> None:
    rows = [
        Measurement(**ROW, draft_tokens=3, acceptance_rate=0.5),
        Measurement(**ROW, draft_tokens=3, acceptance_length=1.875),
        Measurement(**ROW),
    ]
    drafting, plain = observe(rows, Catalog())
    np.testing.assert_allclose(np.asarray(drafting.point.acceptance_rate), [0.5, 0.5], rtol=1e-9)
    assert len(drafting.point.model.draft) and plain.point.draft_tokens is None


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"draft_tokens": 3, "acceptance_rate": 0.5, "acceptance_length": 2}, "alternatives"),
        ({"draft_tokens": 3, "acceptance_length": 4.5}, "yields from 1 to 4, not 4.5"),
        ({"draft_tokens": 3}, "needs acceptance_rate or acceptance_length too"),
        ({"acceptance_rate": 0.5}, "needs draft_tokens too"),
    ],
)
def test_rows_with_impossible_drafts_are_refused(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Measurement(**ROW, **columns)
