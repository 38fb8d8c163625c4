"""Requests that start one at a time, by hand and against a server simulated step by step."""

import dataclasses

import jax
import numpy as np
import pytest
from factories import evaluated
from server_simulation import Setting, coarse, iteration_seconds, simulate, varied_requests
from test_load import _closed

from sweep.kernel.factors import IDEAL, Factors
from sweep.kernel.keeps_step import KEEPS_STEP, LOSES_STEP
from sweep.kernel.staggered import (
    neighbours,
    one_prompt,
    prompts_in_lump,
    staggered_cycle,
)


def test_each_request_prefills_in_one_of_its_iterations():
    found = staggered_cycle(4.0, 100.0, 10.0, 202.0)
    carrying = 1 - 0.9**4
    assert float(found.lumps) == pytest.approx(carrying, rel=1e-6)
    assert float(found.lump) == pytest.approx(0.4 * 100 / carrying, rel=1e-6)
    assert float(found.interrupted) == pytest.approx(9 * (1 - 0.9**3), rel=1e-6)
    assert float(found.started) == pytest.approx(0.4)
    assert float(prompts_in_lump(found)) == pytest.approx(0.4 / carrying, rel=1e-6)


def test_a_client_alone_waits_for_nothing():
    found = staggered_cycle(1.0, 100.0, 10.0, 202.0)
    assert float(found.interrupted) == 0.0
    assert float(found.lumps) == pytest.approx(0.1)
    assert float(neighbours(found, 1.0, 3.0)) == 1.0
    assert float(one_prompt(found, 1.0, 3.0)) == pytest.approx(3.0)


def test_all_but_the_first_find_the_prompt_of_the_one_before():
    found = staggered_cycle(4.0, 100.0, 10.0, 202.0)
    alone, lump = 1.0, 1.0 + 2.0 * float(prompts_in_lump(found))
    assert float(neighbours(found, alone, lump)) == pytest.approx(1.0 + 2.0 * 3 / 4, rel=1e-6)


def test_prompts_are_as_many_as_start_in_an_iteration():
    # Of 40 requests that stay 10 iterations, four start in each.
    found = staggered_cycle(40.0, 10.0, 10.0, 202.0)
    alone, lump = 1.0, 1.0 + 2.0 * float(prompts_in_lump(found))
    expected = 1.0 + 2.0 * 39 / 40 * min(4.0, float(prompts_in_lump(found)))
    assert float(neighbours(found, alone, lump)) == pytest.approx(expected, rel=1e-5)


def test_iterations_that_prompts_fill_are_shared():
    found = staggered_cycle(512.0, 4096.0, 16.0, 8192.0)
    most = 8192 / (4096 + 15)
    assert float(found.started) == pytest.approx(most, rel=1e-6)
    assert float(found.lumps) == 1.0
    assert float(found.waited) == pytest.approx(512 / most - 16, rel=1e-5)


ALONE = 0.010
"""Time of an iteration that decodes only. [s]"""


def _simulate(
    clients: int, prompt: float, steps: int, *, vary: float, room: int, requests: int = 4000
) -> tuple[float, float]:
    """Mean time to first token and per output token of a server that takes `room` prompts at once.

    All clients send at once, and each its next request a moment after its last ended. Iterations
    take `ALONE`, and `prompt` more for each prompt in them.
    """
    random = np.random.default_rng(7)
    lengths = [1000] * requests, np.rint(steps * random.uniform(1 - vary, 1 + vary, requests))
    run = simulate(
        [*sorted(random.uniform(0, ALONE, clients)), *[0.0] * (requests - clients)],
        clients=clients,
        slots=clients,
        isl=1000,
        osl=steps + 1,
        max_num_tokens=10**6,
        seconds=lambda decoding, attended, prefilled, ended, work: ALONE + ended * prompt,
        lengths=[(isl, int(decodes)) for isl, decodes in zip(*lengths, strict=True)],
        starts=room,
        pause=lambda: random.uniform(0, 0.002),
    )
    late = slice(requests // 4, requests - clients)
    paces = [
        (each.last - each.first) / decodes
        for each, decodes in zip(run.records[late], lengths[1][late], strict=True)
    ]
    return float(run.ttft(late.start, late.stop).mean()), float(np.mean(paces))


LOADS = [(2, 0.05, 100), (8, 0.03, 100), (16, 0.10, 400), (32, 0.02, 300), (64, 0.01, 500)]


@pytest.mark.parametrize(("clients", "prompt", "steps"), LOADS)
def test_a_simulated_server_takes_as_long_for_each_token(clients, prompt, steps):
    """Lengths vary by a tenth, so that nothing keeps step."""
    _, tpot = _simulate(clients, prompt, steps, vary=0.1, room=clients)
    found = staggered_cycle(float(clients), 1000.0, steps + 1.0, 1e6)
    lump = ALONE + prompt * float(prompts_in_lump(found))
    spent = float(found.interrupted) * lump + float(found.undisturbed) * ALONE
    assert spent / steps == pytest.approx(tpot, rel=0.03)


@pytest.mark.parametrize(("clients", "prompt", "steps"), LOADS)
def test_equal_requests_of_a_simulated_server_wait_as_long(clients, prompt, steps):
    ttft, _ = _simulate(clients, prompt, steps, vary=0.0, room=1)
    found = staggered_cycle(float(clients), 1000.0, steps + 1.0, 1e6)
    lump = ALONE + prompt * float(prompts_in_lump(found))
    expected = one_prompt(found, ALONE, lump) + neighbours(found, ALONE, lump)
    assert float(expected) == pytest.approx(ttft, rel=0.05)


def test_prompts_of_others_delay_a_token_once_each():
    """Two requests of 3 s: in nine iterations one sees the other's prompt, of 2 s, once."""
    found = staggered_cycle(2.0, 100.0, 10.0, 202.0)
    alone, lump = 1.0, 1.0 + 2.0 * float(prompts_in_lump(found))
    for steps, added in ((0.5, 0.5), (1.0, 1.0), (9.0, 2.0)):
        spent = float(neighbours(found, alone, lump, steps))
        assert spent == pytest.approx(steps * alone + added, rel=1e-6)


# Equal requests of a server that prefills first.

IN_GROUPS = dataclasses.replace(IDEAL, staggered=1.0, prefill_first=1.0)
SMALL = Setting("llama-3.1-8b", "h100-sxm-80gb", "fp8", 1, 2000, 200, 8192, 64, 1.0)


def times(clients: int, factors: Factors = IN_GROUPS, **more: float) -> dict[str, float]:
    with jax.enable_x64(True):
        where = dataclasses.replace(SMALL.point(concurrency=clients, **more), factors=factors)
        return {name: float(value) for name, value in evaluated(_closed, where).items()}


def test_times_to_first_token_never_fall_with_clients():
    clients = [*range(1, LOSES_STEP + 4), 32, 48, 64, 65, 100]
    found = [times(each)["ttft"] for each in clients]
    assert found == sorted(found)
    # Those that keep step are a static batch; as many of more clients are together.
    together = dataclasses.replace(IN_GROUPS, staggered=0.0)
    assert found[KEEPS_STEP - 1] == pytest.approx(times(KEEPS_STEP, together)["ttft"])
    assert found[KEEPS_STEP] == pytest.approx(found[KEEPS_STEP - 1])
    assert found[-1] > found[KEEPS_STEP]


def test_time_that_a_group_spends_before_its_first_tokens_is_not_spent_after():
    """Varied lengths, which end one by one, are as long in the server."""
    alike, varied = times(12), times(12, osl_cv=0.002)
    assert alike["ttft"] > 1.3 * varied["ttft"]
    assert alike["request_rate"] == pytest.approx(varied["request_rate"], rel=1e-3)
    for each in (alike, varied):
        latency = each["ttft"] + (SMALL.osl - 1) * each["tpot"]
        assert latency == pytest.approx(12 / each["request_rate"], rel=1e-3)


# Against a simulation of random servers.

OSL_CV = 0.1
"""Coefficient of variation of outputs that do not keep step. [1]"""


def staggered_errors(setting: Setting, seed: int, *, first: bool) -> dict[str, float]:
    """Relative errors for clients up to three times what fits, whose requests do not keep step.

    Prompts start one after another. Those of a server that prefills first begin anywhere in an
    output, whose length varies by a tenth, and clients send after a part of an iteration.

    Args:
        setting: The server.
        seed: Seed of the lengths.
        first: Whether it prefills first.
    """
    clients = max(1, round(3 * setting.load * setting.fit))
    held, random = min(clients, setting.fit), np.random.default_rng(seed)
    begin = held * (8 + clients // held)
    # Whole cycles: equal requests end one after another in a part of each.
    end = begin + held * max(8, -(-400 // held))
    count = end + 2 * clients
    plain = setting.point(concurrency=clients, **({"osl_cv": OSL_CV} if first else {}))
    seconds, steps = iteration_seconds(plain), setting.osl - 1
    if first:
        step = seconds(held, held * (setting.isl + setting.osl / 2), 0, 0, 0.0)
        lengths = varied_requests(setting, (0.0, OSL_CV), count, seed)
        lengths[:held] = [(setting.isl, int(random.integers(1, setting.osl))) for _ in range(held)]
        of_order = {"prefill_first": True, "lengths": lengths}
        of_order["pause"] = lambda: random.uniform(0, step)
    else:
        of_order = {"starts": np.ceil(held / setting.osl), "front_end": 1}
        lengths = [(setting.isl, steps)] * count
    run = setting.simulate(
        [0.0] * count,
        clients=clients,
        seconds=coarse(seconds),
        **of_order,
    )
    ends, steady = sorted(each.last for each in run.records), run.records[begin:end]
    measured = {
        "request_rate": (end - begin) / (ends[end - 1] - ends[begin - 1]),
        "ttft": float(run.ttft(begin, end).mean()),
        "tpot": sum(each.last - each.first for each in steady)
        / sum(decodes for _, decodes in lengths[begin:end]),
    }
    factors = dataclasses.replace(IDEAL, staggered=1.0, prefill_first=float(first))
    found = evaluated(_closed, dataclasses.replace(plain, factors=factors))
    return {name: float(found[name]) / value - 1 for name, value in measured.items()}
