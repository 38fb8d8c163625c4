"""Requests that start one at a time, by hand and against a server simulated step by step."""

import heapq
from random import Random

import pytest

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
    random = Random(7)
    arrivals = [(random.random() * ALONE, number) for number in range(clients)]
    heapq.heapify(arrivals)
    waiting: list[float] = []
    decoding: list[list[float]] = []
    now, firsts, paces = 0.0, [], []
    while len(paces) < requests:
        if not waiting and not decoding:
            now = max(now, arrivals[0][0])
        while arrivals and arrivals[0][0] <= now:
            waiting.append(heapq.heappop(arrivals)[0])
        carried, waiting = waiting[:room], waiting[room:]
        now += ALONE + len(carried) * prompt
        still = []
        for sequence in decoding:
            sequence[0] -= 1
            if sequence[0] > 0:
                still.append(sequence)
                continue
            paces.append((now - sequence[1]) / sequence[2])
            heapq.heappush(arrivals, (now + random.random() * 0.002, 0))
        decoding = still
        for sent in carried:
            length = round(steps * random.uniform(1 - vary, 1 + vary))
            decoding.append([length, now, length])
            firsts.append(now - sent)
    late = len(firsts) // 4
    return sum(firsts[late:]) / len(firsts[late:]), sum(paces[late:]) / len(paces[late:])


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
