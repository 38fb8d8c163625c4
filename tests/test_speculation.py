"""Speculative decoding: tokens a pass yields, work of a pass, and a server that drafts."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click import UsageError
from factories import FP16, TOY, blocks, hardware, model, point, shipped, shipped_model
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.cli.requests import parse_pair
from sweep.decisions.compare import compare
from sweep.errors import ResultError, SpecWarning
from sweep.evaluation.kernel_inputs import model_params
from sweep.grid.grid import Grid
from sweep.kernel import memory, phases
from sweep.kernel.acceptance import passes, tokens_per_pass
from sweep.kernel.inflight import Inflight
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.models.read import read_model
from sweep.runs.run import run

STATIC = {"batch_size": 4, "isl": 90, "osl": 20}
SERVED = {"isl": 90, "osl": 20, "concurrency": 8}


def answers(names, spec=None, machine=TOY, recipe=FP16, **numbers: float) -> dict[str, float]:
    with jax.enable_x64(True):
        request = Request(point(spec or model("llama"), machine, recipe, **numbers))
        return {name: float(getattr(request, name)) for name in names}


def answer(name: str, spec=None, machine=TOY, recipe=FP16, **numbers: float) -> float:
    return answers([name], spec, machine, recipe, **numbers)[name]


# Tokens of a pass.


def test_tokens_of_a_pass_by_hand() -> None:
    # 1 + 1/2 + 1/4 + 1/8, and one token each with certainty or without hope.
    assert float(tokens_per_pass(3.0, 0.5)) == 1.875
    assert float(tokens_per_pass(3.0, 1.0)) == 4
    assert float(tokens_per_pass(3.0, 0.0)) == 1
    assert float(tokens_per_pass(0.0, 0.7)) == 1


@given(st.integers(0, 32), st.floats(0, 0.99))
def test_tokens_of_a_pass_are_those_of_leviathan(drafted: int, accepted: float) -> None:
    expected = (1 - accepted ** (drafted + 1)) / (1 - accepted)
    assert float(tokens_per_pass(float(drafted), accepted)) == pytest.approx(expected, rel=1e-5)


def exact_passes(tokens: int, drafted: int, accepted: float) -> float:
    """Expected passes until a sequence has `tokens` more, by recursion over what is wanted."""
    chances = np.array([accepted**x * (1 - accepted) for x in range(drafted)] + [accepted**drafted])
    expected = np.zeros(tokens + 1)
    for wanted in range(1, tokens + 1):
        left = np.maximum(wanted - np.arange(1, drafted + 2), 0)
        expected[wanted] = 1 + chances @ expected[left]
    return float(expected[tokens])


@given(st.integers(20, 300), st.integers(0, 8), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_passes_are_those_of_a_recursion(tokens: int, drafted: int, accepted: float) -> None:
    found = float(passes(float(tokens), float(drafted), accepted))
    assert found == pytest.approx(exact_passes(tokens, drafted, accepted), rel=0.01, abs=0.55)


def test_passes_of_a_few_tokens_by_hand() -> None:
    assert float(passes(0.0, 3.0, 0.5)) == 0
    assert float(passes(1.0, 3.0, 1.0)) == 1
    # 64 tokens in passes of 4 need 16; the closed form counts half of a last pass of 1 to 4.
    assert float(passes(64.0, 3.0, 1.0)) == pytest.approx(16.375)
    with jax.enable_x64(True):
        assert float(passes(jnp.asarray(19.0), jnp.asarray(0.0), jnp.asarray(0.3))) == 19.0


# Work of a pass.

FAMILIES = ("llama", "gemma3_text", "deepseek_v3")
LIGHT = ("deepseek_v3",)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_pass_are_those_of_as_many_sequences(family: str) -> None:
    """All but attention is the work of batch · (k + 1) tokens."""
    with jax.enable_x64(True):
        plain = point(model(family), **SERVED, tp=2)
        drafting = point(model(family), **SERVED, tp=2, draft_tokens=3, acceptance_rate=0.6)
        one_draft = point(model(family), **SERVED, tp=2, draft_tokens=1, acceptance_rate=0.6)
        draft = phases.mixed_latency(one_draft, 12.0) - phases.mixed_latency(plain, 24.0)
        verified = phases.mixed_latency(drafting, 12.0) - 3 * draft
        assert float(verified) == pytest.approx(float(phases.mixed_latency(plain, 48.0)), rel=1e-9)


def decode_attention_seconds(sequences: int, new: int, isl: int, osl: int) -> float:
    """Attention of llama's 3 layers per pass on average, resource by resource in plain Python.

    Eight heads of 8 and two KV heads; queries in and outputs out, each of 16 bits.
    """
    total = 0.0
    for step in range(1, osl):
        attended = isl + step + (new - 1) / 2
        scores = sequences * 8 * attended
        moved = 2 * sequences * 2 * 8 * attended * 2 + new * sequences * 8 * 8 * 4
        machine = TOY
        total += 3 * max(
            moved / machine.memory_bandwidth_bytes_per_s,
            new * 4 * scores * 8 / machine.peak_flops_per_s["fp16"],
            new * scores / (machine.special_function_ops_per_s or math.inf),
        )
    return total / (osl - 1)


@pytest.mark.parametrize("drafted", [1, 3, 7])
def test_the_cache_is_read_once_for_all_tokens_of_a_pass(drafted: int) -> None:
    # Without a draft of its own, what is left is the model's attention.
    with jax.enable_x64(True):
        where = point(model("llama"), **SERVED, draft_tokens=drafted, acceptance_rate=0.5)
        bare = jax.tree.map(lambda leaf: leaf, where)
        bare = Point(**{**vars(bare), "model": model_params(blocks("llama"))})
        found = float(phases.decode_pass(bare, 6.0).attention)
        batch = point(
            model("llama"), isl=90, osl=20, batch_size=6, draft_tokens=drafted, acceptance_rate=0.5
        )
        whole = phases.decode_latency(batch)
        each = batch.decode_passes * phases.decode_pass(batch, 6.0).latency
    assert found == pytest.approx(decode_attention_seconds(6, drafted + 1, 90, 20), rel=1e-9)
    assert float(whole) == pytest.approx(float(each), rel=1e-9)


def test_the_draft_of_llama_by_hand() -> None:
    """Weights: two norms, a projection of 128 × 64, a layer and a final norm of 64."""
    layer = 64 * (8 + 4) * 8 + 64 * 64 + 3 * 64 * 160 + 2 * 64
    extra = 2 * (layer + 3 * 64 + 2 * 64 * 64)
    before = answer("weight_memory", **STATIC)
    found = answer("weight_memory", **STATIC, draft_tokens=2, acceptance_rate=0.5)
    assert found - before == extra
    # Its cache is that of one layer more than the three of the model.
    cache = answer("kv_cache_memory", **STATIC)
    drafted = answer("kv_cache_memory", **STATIC, draft_tokens=2, acceptance_rate=0.5)
    assert drafted == pytest.approx(cache * 4 / 3)


def test_stored_modules_draft_and_are_not_counted_twice() -> None:
    spec = model("deepseek_v3", num_nextn_predict_layers=2)
    counted = read_model(spec.model_copy(update={"mtp": True}))
    speculating = {"draft_tokens": 1, "acceptance_rate": 0.9}
    assert answer("weight_memory", counted, **STATIC, **speculating) == answer(
        "weight_memory", counted, **STATIC
    )
    with pytest.warns(SpecWarning, match="multi-token prediction"):
        plain = read_model(spec)
    one = answer("weight_memory", plain, **STATIC, **speculating) - answer(
        "weight_memory", plain, **STATIC
    )
    both = answer("weight_memory", counted, **STATIC) - answer("weight_memory", plain, **STATIC)
    assert both == pytest.approx(2 * one)


# Laws.

VARIABLES = ("ttft", "tpot", "e2e_latency", "output_throughput", "energy_per_output_token")
OF_A_SERVER = ("inflight_ttft", "inflight_tpot", "inflight_output_throughput", "max_concurrency")


@pytest.mark.slow
@pytest.mark.parametrize("family", LIGHT)
def test_nothing_drafted_is_as_without(family: str) -> None:
    spec = model(family)
    names, numbers = (*VARIABLES, *OF_A_SERVER, "memory_required"), STATIC | SERVED
    idle = answers(names, spec, **numbers, draft_tokens=0, acceptance_rate=0.4)
    assert idle == answers(names, spec, **numbers)


@pytest.mark.slow
def test_a_rejected_draft_only_costs() -> None:
    # In flight chance moves waits of prompts from the first token to later ones: whole requests.
    for name in ("tpot", "inflight_request_latency"):
        numbers = STATIC if name == "tpot" else SERVED
        times = [
            answer(name, **numbers, draft_tokens=3, acceptance_rate=rate)
            for rate in (0.0, 0.3, 0.8, 1.0)
        ]
        assert times == sorted(times, reverse=True)
        assert times[0] > answer(name, **numbers)


def test_certain_drafts_save_passes() -> None:
    """Where attention vanishes and drafts are free, 4 tokens of a pass take the time of one."""
    fast = hardware(memory_bandwidth_bytes_per_s=1e9)
    wide = {"batch_size": 1, "isl": 10, "osl": 401}
    plain = answer("tpot", machine=fast, **wide)
    ratio = answer("tpot", machine=fast, **wide, draft_tokens=3, acceptance_rate=1.0) / plain
    # The draft has one of the model's three layers and its head, three times a pass.
    assert 0.25 < ratio < 0.25 * (1 + 3)


def test_a_model_of_its_own_drafts() -> None:
    with jax.enable_x64(True):
        from sweep.evaluation.single_cell import cell

        small = blocks("llama", num_hidden_layers=1)
        large = blocks("llama", num_hidden_layers=12)
        numbers = {**SERVED, "draft_tokens": 3, "acceptance_rate": 0.7}
        where = cell(large, TOY, FP16, numbers, draft=small)
        alone = cell(small, TOY, FP16, SERVED)
        plain = cell(large, TOY, FP16, SERVED)
        added = memory.weight_memory(where) - memory.weight_memory(plain)
        assert float(added) == float(memory.weight_memory(alone))
        drafted = phases.mixed_latency(where, 5.0) - phases.mixed_latency(plain, 20.0)
        # Three passes of the small model, which has no host time and no other GPU.
        assert float(drafted) == pytest.approx(3 * float(phases.mixed_latency(alone, 5.0)))


# A server that drafts, iteration by iteration.


@dataclass
class Resident:
    prompt: int
    output: int


@jax.jit
def _mixed(where: Point, decoding: jax.Array, prompts: jax.Array, ended: jax.Array) -> jax.Array:
    """Time of an iteration but for the attention of sequences that decode; prompts are whole."""
    sequences = prompts / where.new_tokens
    others = phases.mixed_latency(
        where,
        decoding,
        prompt_tokens=prompts,
        prompts_ended=ended,
        prompts_cached=sequences * where.cached_tokens,
    )
    prefill = phases.prefill_attention_latency(
        where, sequences=sequences, chunk=where.new_tokens, chunks=1.0
    )
    return jnp.asarray(others + jnp.where(prompts > 0, prefill, 0.0))


@jax.jit
def _attention(where: Point) -> jax.Array:
    """Time of attention of one sequence in a mean pass."""
    return jnp.asarray(phases.decode_pass(where, 1.0).attention)


@jax.jit
def _rate(where: Point) -> jax.Array:
    return jnp.asarray(Inflight(where).request_rate)


def simulated_rate(where: Point, requests: int, residents: int, seed: int) -> float:
    """Requests a second of a run, each draft accepted or not by chance."""
    prompt, decode = round(float(where.new_tokens)), float(where.length("osl"))
    budget, new = float(where.server.max_num_tokens), float(where.pass_tokens)
    accepted = 0.0 if where.acceptance_rate is None else float(where.acceptance_rate)
    of_sequence = float(_attention(where))
    chance, known = np.random.default_rng(seed), dict[tuple[int, int, int], float]()
    waiting, held, clock = requests, list[Resident](), 0.0
    while waiting or held:
        while waiting and len(held) < residents:
            held.append(Resident(prompt, round(decode)))
            waiting -= 1
        decoding = [each for each in held if not each.prompt]
        left, ended, taken_in_all = budget - new * len(decoding), list[Resident](), 0
        for each in held:
            taken = min(each.prompt, int(left))
            each.prompt, left, taken_in_all = (
                each.prompt - taken,
                left - taken,
                taken_in_all + taken,
            )
            if taken and not each.prompt:
                ended.append(each)
        key = len(decoding), taken_in_all, len(ended)
        if key not in known:
            known[key] = float(_mixed(where, *(jnp.asarray(float(value)) for value in key)))
        clock += known[key] + len(decoding) * of_sequence
        drafts = chance.random((len(decoding), round(new) - 1)) < accepted
        yields = 1 + np.cumprod(drafts, axis=1).sum(axis=1)
        for each, tokens in zip(decoding, yields, strict=True):
            each.output -= int(tokens)
        for each in ended:
            each.output -= 1
        held = [each for each in held if each.output > 0]
    return requests / clock


LOADS = [
    # residents, isl, osl, max_num_tokens, prefix_hit_rate, draft_tokens, acceptance_rate
    (1, 512, 128, 8192, 0.0, 3, 0.7),
    (16, 512, 256, 8192, 0.5, 3, 0.7),
    (64, 1024, 128, 8192, 0.75, 0, 0.0),
    (64, 1024, 128, 2048, 0.75, 2, 0.9),
    (128, 256, 256, 4096, 0.0, 5, 0.5),
    (128, 2048, 64, 2048, 0.5, 1, 0.8),
    (32, 4096, 200, 8192, 0.9, 3, 0.6),
    (200, 128, 300, 2048, 0.0, 4, 0.7),
    (27, 170, 86, 2048, 0.8, 1, 1.0),
    (13, 525, 54, 8192, 0.0, 2, 1.0),
    (35, 264, 210, 2048, 0.0, 3, 1.0),
]


@pytest.mark.slow
def test_a_server_with_drafts_and_hits_is_as_simulated() -> None:
    """Request rates within 1 %, whether requests end together or chance scatters their ends."""
    errors = {}
    with jax.enable_x64(True):
        for residents, isl, osl, budget, hits, drafted, accepted in LOADS:
            where = point(
                shipped_model("llama-3.1-8b"),
                shipped().hardware("h200-sxm-141gb"),
                shipped().precision("fp8"),
                isl=isl,
                osl=osl,
                max_num_tokens=budget,
                concurrency=residents,
                prefix_hit_rate=hits,
                draft_tokens=drafted,
                acceptance_rate=accepted,
            )
            # What a long run does beyond a short one is the steady state.
            short, long = (
                n / simulated_rate(where, n, residents, 1) for n in (4 * residents, 12 * residents)
            )
            steady = 8 * residents / (long - short)
            errors[residents, accepted] = abs(float(_rate(where)) / steady - 1)
    assert max(errors.values()) < 0.01, errors


# Where it stops paying.


@pytest.fixture(scope="module")
def swept():
    return run(
        Grid(
            models=[model("llama", num_hidden_layers=40)],
            hardware=[TOY],
            precision=[FP16],
            batch_size={"powers_of": 2, "start": 1, "stop": 4096},
            isl=[64],
            osl=[32],
            draft_tokens=[0, 3],
            acceptance_rate=[0.7, 0.9],
            variables=["tpot", "feasible"],
        ),
        dtype="float64",
    )


@pytest.mark.slow
def test_drafting_pays_up_to_a_batch_size(swept) -> None:
    chosen = {"acceptance_rate": 0.7}
    found = compare(
        swept, (3, 0), model="tiny-llama", variable="tpot", chosen=chosen, along="draft_tokens"
    )
    times = swept["tpot"].sel(acceptance_rate=0.7).squeeze()
    faster = (times.sel(draft_tokens=3) < times.sel(draft_tokens=0)).values
    sizes = times["batch_size"].values
    assert faster[0] and not faster[-1]
    last = sizes[faster].max()
    assert faster.tolist() == (sizes <= last).tolist()
    assert f"draft_tokens 3 wins {100 * faster.mean():.0f} %" in found.sentence()
    assert f"batch_size up to {last}" in found.sentence()


@pytest.mark.slow
def test_only_axes_of_the_file_compare(swept) -> None:
    common = {"model": "tiny-llama", "variable": "tpot", "chosen": {}}
    with pytest.raises(ResultError, match="does not vary over pp"):
        compare(swept, (1, 2), along="pp", **common)
    with pytest.raises(ResultError, match="no draft_tokens 5"):
        compare(swept, (5, 0), along="draft_tokens", **common)
    assert set(compare(swept, (3, 0), along="draft_tokens", **common).ratio.dims) == {
        "batch_size",
        "acceptance_rate",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [("draft_tokens", "two of its values"), ("a=1,1", "two of its"), ("=1,2", "two of its")],
)
def test_a_pair_is_an_axis_and_two_values(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_pair(text)
    assert parse_pair("draft_tokens=3, 0") == ("draft_tokens", (3, 0))
    assert parse_pair("precision=fp8,fp16") == ("precision", ("fp8", "fp16"))
    assert parse_pair("acceptance_rate=0.5,0.9") == ("acceptance_rate", (0.5, 0.9))
