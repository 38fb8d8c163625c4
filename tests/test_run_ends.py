"""Ends of runs of a server that prefills first: a simulation, and requests that have lost step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import FP16, TOY, evaluated, model, point
from server_simulation import (
    Setting,
    coarse,
    iteration_seconds,
    settings,
    spread,
    varied_requests,
)

from sweep.kernel.factors import Factors
from sweep.kernel.finite_run import FiniteRun
from sweep.kernel.inflight import Inflight
from sweep.kernel.params import Point

RUNS = (0.064, 0.064)
"""Coefficients of variation of lengths from 0.8 to 1.0 of the nominal."""


def run_errors(setting: Setting, waves: float, seed: int) -> tuple[float, float]:
    """Relative errors of the time per token where prompts go first: of the run, and steady."""
    requests = round(setting.fit * waves)
    varied = {"isl_cv": RUNS[0], "osl_cv": RUNS[1], "scheduler": 1}
    where = setting.point(concurrency=setting.fit, num_requests=requests, **varied)
    lengths = varied_requests(setting, RUNS, requests, seed)
    simulated = setting.simulate(
        [0.0] * requests,
        clients=setting.fit,
        seconds=coarse(iteration_seconds(where)),
        prefill_first=True,
        lengths=lengths,
    )
    steps = [decodes for _, decodes in lengths]
    spent = [each.last - each.first for each in simulated.records]
    measured = float(np.mean(np.asarray(spent) / steps))
    found = evaluated(_tpot_of_run, where)
    return float(found["run"]) / measured - 1, float(found["steady"]) / measured - 1


def _tpot_of_run(where: Point) -> dict[str, jax.Array]:
    full = Inflight(where)
    stalled = full.cycle.interrupted * full.lump_latency
    found = {"run": FiniteRun(where).tpot, "steady": full.tpot, "stalled": stalled}
    return {name: jnp.asarray(value) for name, value in found.items()}


@pytest.mark.slow
def test_runs_of_a_server_that_prefills_first_decode_as_in_a_simulation() -> None:
    # Servers whose clients are few beside the steps of a request, which lose step in a wave or two.
    chosen = [
        each
        for each in settings(400, seed=5, longest=1024)
        if each.name == "llama-3.1-8b" and 4 <= each.fit <= 64 and each.osl >= 400
    ]
    with jax.enable_x64(True):
        errors = [run_errors(each, 3.3, place) for place, each in enumerate(chosen[:8])]
    median, most = spread([run for run, _ in errors])
    assert median < 0.01
    assert most < 0.02
    # A server that is full throughout would be slower.
    assert np.median([full for _, full in errors]) > 0.03


def run_of_equal(clients: int) -> dict[str, float]:
    """Times of a long run of equal requests that start one at a time where prompts go first."""
    lengths = {"isl": 90, "osl": 20, "max_batch_size": 32, "max_num_tokens": 500}
    run = {"concurrency": clients, "num_requests": 60 * clients}
    with jax.enable_x64(True):
        where = point(model("llama"), TOY, FP16, **lengths, **run)
        where = dataclasses.replace(where, factors=Factors(prefill_first=1.0, staggered=1.0))
        return {name: float(value) for name, value in evaluated(_tpot_of_run, where).items()}


def test_equal_requests_that_have_lost_step_miss_prompts_of_others_at_the_end() -> None:
    # Nine clients keep step: a wave that fills the server has all of its prompts. Twenty do not.
    few, many = (run_of_equal(clients) for clients in (9, 20))
    assert few["run"] == pytest.approx(few["steady"], rel=1e-9)
    # Of 19 steps, half of what 60 waves have in the last one.
    missed = many["stalled"] / 19 / 2 / 60
    assert many["steady"] - many["run"] == pytest.approx(missed, rel=0.05)
