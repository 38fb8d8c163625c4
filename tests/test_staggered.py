"""Requests that start one at a time, by hand and against a server simulated step by step."""

import heapq
from random import Random

import pytest

from sweep.kernel.staggered import one_prompt, prompts_in_lump, staggered_cycle, wait_to_start


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
    assert float(wait_to_start(found, 1.0, 3.0)) == 0.0
    assert float(one_prompt(found, 1.0, 3.0)) == pytest.approx(3.0)


def test_half_of_the_longer_iteration_and_the_prompts_ahead_are_waited_for():
    found = staggered_cycle(2.0, 100.0, 10.0, 202.0)
    alone, lump = 1.0, 3.0
    carrying = 1 - 0.9**2
    mean = carrying * lump + (1 - carrying) * alone
    running = (carrying * lump**2 + (1 - carrying) * alone**2) / (2 * mean)
    each = (lump - alone) * carrying / 0.2
    busy = 0.2 / mean * each / 2
    expected = running + min(busy / (1 - busy) * running, 0.5 * each)
    assert float(wait_to_start(found, alone, lump)) == pytest.approx(expected, rel=1e-5)


def test_iterations_that_prompts_fill_are_shared():
    found = staggered_cycle(512.0, 4096.0, 16.0, 8192.0)
    most = 8192 / (4096 + 15)
    assert float(found.started) == pytest.approx(most, rel=1e-6)
    assert float(found.lumps) == 1.0
    assert float(found.waited) == pytest.approx(512 / most - 16, rel=1e-5)


ALONE = 0.010
"""Time of an iteration that decodes only. [s]"""


def _simulate(clients: int, prompt: float, steps: int, requests: int = 4000) -> tuple[float, float]:
    """Mean time to first token and per output token of a server that takes in all that waits.

    A client sends its next request a moment after its last ended. Iterations take `ALONE`, and
    `prompt` more for each prompt in them; lengths vary by a tenth, so that nothing keeps step.
    """
    random = Random(7)
    arrivals = [(random.random() * clients * prompt, number) for number in range(clients)]
    heapq.heapify(arrivals)
    waiting: list[float] = []
    decoding: list[list[float]] = []
    now, firsts, paces = 0.0, [], []
    while len(paces) < requests:
        if not waiting and not decoding:
            now = max(now, arrivals[0][0])
        while arrivals and arrivals[0][0] <= now:
            waiting.append(heapq.heappop(arrivals)[0])
        carried, waiting = waiting, []
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
            length = round(steps * random.uniform(0.9, 1.1))
            decoding.append([length, now, length])
            firsts.append(now - sent)
    late = len(firsts) // 4
    return sum(firsts[late:]) / len(firsts[late:]), sum(paces[late:]) / len(paces[late:])


@pytest.mark.parametrize(
    ("clients", "prompt", "steps"),
    [(2, 0.05, 100), (8, 0.03, 100), (16, 0.10, 400), (32, 0.02, 300), (64, 0.01, 500)],
)
def test_a_simulated_server_waits_as_long(clients, prompt, steps):
    ttft, tpot = _simulate(clients, prompt, steps)
    found = staggered_cycle(float(clients), 1000.0, steps + 1.0, 1e6)
    lump = ALONE + prompt * float(prompts_in_lump(found))
    expected = one_prompt(found, ALONE, lump) + wait_to_start(found, ALONE, lump)
    assert float(expected) == pytest.approx(ttft, rel=0.15)
    spent = float(found.interrupted) * lump + float(found.undisturbed) * ALONE
    assert spent / steps == pytest.approx(tpot, rel=0.03)
