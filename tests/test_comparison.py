"""Comparisons along any two axes, of static batches and of servers."""

import io
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from sweep.decisions.compare import choices, comparable, compare, methods_in
from sweep.decisions.comparison import Comparison
from sweep.decisions.figures.comparison import comparison_figure
from sweep.errors import ResultError


def result(sizes: dict[str, list[float]], *names: str, ends: bool = False) -> xr.Dataset:
    """A result in which the first accelerator is twice as good, but not at the first cell."""
    axes = {"model": ["toy"], "hardware": ["one", "two"], **sizes}
    shape = [len(values) for values in axes.values()]
    values = np.ones(shape)
    values[:, 0] = 2.0
    values[(0, 0, *(0 for _ in sizes))] = 0.5
    arrays = {name: (list(axes), values) for name in names}
    if ends:
        arrays |= {f"{name}_lower": (list(axes), 0.4 * values) for name in names}
        arrays |= {f"{name}_upper": (list(axes), 2.4 * values) for name in names}
    return xr.Dataset(arrays, axes, {"efficiency": "toy 0"})


SERVER = {"concurrency": [1, 8, 64], "isl": [128, 1024]}
THROUGHPUT = "inflight_output_throughput_per_gpu"


def compared(ratios: list[float]) -> Comparison:
    ratio = xr.DataArray(
        [ratios], {"batch_size": [1], "isl": range(1, len(ratios) + 1)}, ["batch_size", "isl"]
    )
    return Comparison("toy", "ttft", ("one", "two"), ratio, None, "")


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ([1.64, 1.641], "one wins everywhere, by 1.64 times;"),
        ([0.5, 0.8], "two wins everywhere, by 1.25 to 2.00 times;"),
        ([1.0, 1.0], "the two are level;"),
        ([2.0, 1.0], "one wins 50 % of 2 cells (isl up to 1), by up to 2.00 times; they are level"),
        ([1.0, 0.5], "two wins 50 % of 2 cells (isl from 2), by up to 2.00 times; they are level"),
        ([2.0, 1.0, 0.5, 0.8], "; two wins 50 %, by up to 2.00 times; they are level in the rest"),
        ([2.0, 0.5], "by up to 2.00 times; two wins the rest, by up to 2.00 times;"),
    ],
)
def test_a_tie_is_no_win_and_one_figure_no_span(ratios: list[float], words: str) -> None:
    assert words in compared(ratios).sentence()


@pytest.mark.parametrize(
    ("loads", "scale"),
    [
        ([1, 8, 32, 128], "log"),
        ([1, 10, 20, 30], "linear"),
        ([8, 16, 32], "log"),
        ([1, 2], "linear"),
    ],
)
def test_loads_over_more_than_a_decade_are_on_a_logarithmic_axis(loads, scale) -> None:
    found = compare(
        result({"concurrency": loads, "isl": [128, 1024]}, THROUGHPUT),
        ("one", "two"),
        model="toy",
        variable=THROUGHPUT,
        chosen={},
    )
    assert comparison_figure([[found]]).axes[0].get_yscale() == scale


@pytest.mark.parametrize(
    ("sizes", "axes"),
    [
        (SERVER, ("concurrency", "isl")),
        ({"concurrency": [1, 8], "isl": [128], "osl": [128]}, ("concurrency", "isl")),
        ({"tp": [1, 2, 4], "isl": [128, 1024]}, ("tp", "isl")),
        ({"tp": [1, 2], "concurrency": [1, 8, 64], "isl": [128]}, ("tp", "concurrency")),
        ({"isl": [128, 1024], "osl": [128, 512]}, ("isl", "osl")),
        ({"request_rate": [1.0, 2.0], "tp": [1], "osl": [9, 99]}, ("request_rate", "osl")),
    ],
)
def test_any_two_axes_make_a_map(sizes, axes) -> None:
    found = compare(
        result(sizes, THROUGHPUT), ("one", "two"), model="toy", variable=THROUGHPUT, chosen={}
    )
    assert (found.load_axis, found.length_axis) == axes
    ratio = found.ratio.values
    assert ratio.shape == tuple(len(sizes[axis]) for axis in axes)
    assert ratio.ravel().tolist() == [0.5, *[2.0] * (ratio.size - 1)]
    assert comparison_figure([[found]]).axes[0].get_title()


def test_a_third_axis_must_be_fixed() -> None:
    three = result({**SERVER, "tp": [1, 2]}, THROUGHPUT)
    with pytest.raises(ResultError, match=r"varies over tp; give --select tp=, one of 1, 2"):
        compare(three, ("one", "two"), model="toy", variable=THROUGHPUT, chosen={})
    found = compare(three, ("one", "two"), model="toy", variable=THROUGHPUT, chosen={"tp": 2})
    assert found.ratio.shape == (3, 2)


def test_a_server_is_compared_by_its_throughput() -> None:
    served = result(SERVER, THROUGHPUT, "inflight_ttft", ends=True)
    assert methods_in(served, None) == (THROUGHPUT,)
    assert methods_in(served, "decode_step_latency") == ("decode_step_latency",)
    assert comparable(served) == [THROUGHPUT, "inflight_ttft"]
    assert choices(served)[0] == {
        "variable": THROUGHPUT,
        "units": "s-1",
        "axes": "concurrency (3), isl (2)",
        "interval": "yes",
    }


def test_a_verdict_says_whether_there_are_intervals() -> None:
    for ends, words in ((True, "90 % intervals overlap"), (False, "; it has no interval")):
        one = result(SERVER, THROUGHPUT, ends=ends)
        found = compare(one, ("one", "two"), model="toy", variable=THROUGHPUT, chosen={})
        assert words in found.sentence()


@pytest.mark.parametrize("lengths", [([100], [10, 200]), ([100, 200], [10]), ([100], [10])])
@pytest.mark.parametrize("batch", [[1, 8], [8]])
def test_a_quantity_that_varies_over_fewer_axes_than_memory_is_compared(lengths, batch) -> None:
    isl, osl = lengths
    # The second accelerator cannot run the largest batch with the longest output.
    size = {"batch_size": len(batch), "isl": len(isl), "osl": len(osl)}
    axes = {"batch_size": batch, "isl": isl, "osl": osl}
    time = xr.DataArray(
        np.ones((1, 2, *list(size.values())[:2])), dims=("model", "hardware", "batch_size", "isl")
    )
    room = xr.DataArray(np.ones((1, 2, *size.values()), np.int8), dims=("model", "hardware", *size))
    room[:, 1, -1, :, -1] = 0
    dataset = xr.Dataset(
        {"ttft": time, "feasible": room}, {"model": ["m"], "hardware": ["a", "b"], **axes}
    )
    found = compare(dataset, ("a", "b"), model="m", variable="ttft", chosen={})
    assert found.fits is not None
    for able in found.fits:
        assert able.dims == found.ratio.dims and able.shape == found.ratio.shape
    lost = int((~found.fits[1]).sum())
    assert lost == (0 if len(osl) > 1 else len(isl))
    comparison_figure([[found]]).savefig(io.BytesIO(), format="png")
    if len(osl) > 1:
        longer = compare(dataset, ("a", "b"), model="m", variable="ttft", chosen={"osl": osl[-1]})
        assert longer.fits is not None and not bool(longer.fits[1].all())


def test_an_axis_that_an_option_may_fix_can_be_compared_along() -> None:
    """The command passes every option, `None` where it is not given."""
    served = result({"tp": [1, 2], **SERVER}, THROUGHPUT).isel(hardware=[0])
    asked = {"model": "toy", "variable": THROUGHPUT, "along": "tp"}
    assert compare(served, (1, 2), chosen={"tp": None}, **asked).hardware == ("tp 1", "tp 2")


def test_requests_beyond_the_context_of_the_model_are_named() -> None:
    """Llama 2 is made for 4,096 tokens."""
    sizes = {"concurrency": [1, 8], "isl": [128, 4000], "osl": [97]}
    served = result(sizes, THROUGHPUT).assign_coords(model=["llama-2-7b"])
    asked = {"model": "llama-2-7b", "variable": THROUGHPUT}
    said = compare(served, ("one", "two"), chosen={}, **asked).sentence()
    assert said.endswith(
        " llama-2-7b is made for 4,096 tokens, and 4,097 are asked for: engines refuse that unless "
        "an option extends the context."
    )
    shorter = served.isel(isl=[0])
    assert "is made for" not in compare(shorter, ("one", "two"), chosen={}, **asked).sentence()


@pytest.mark.parametrize("said", ["flags", "held", "fit"])
def test_an_overloaded_server_wins_nothing(said: str) -> None:
    """At 64 clients requests wait at the first accelerator, where it would be ahead."""
    served = result(SERVER, THROUGHPUT)
    clients = served["concurrency"]
    held = xr.where(served["hardware"] == "one", 32.0, 100.0)
    over = (clients > held).broadcast_like(served[THROUGHPUT])
    given = {
        "flags": {"inflight_overload": over.astype("int8")},
        "held": {"inflight_concurrency": np.minimum(clients, held)},
        "fit": {"max_concurrency": held},
    }[said]
    found, free = (
        compare(each, ("one", "two"), model="toy", variable=THROUGHPUT, chosen={}).sentence()
        for each in (served.assign(given), served)
    )
    assert "one wins 83 % of 6 cells" in free and "overloaded" not in free
    assert "one wins 75 % of 4 cells" in found
    assert "2 of 6 cells do not count, as requests wait for a slot of an overloaded server" in found
    waiting = compare(
        served.assign(given), ("one", "two"), model="toy", variable=THROUGHPUT, chosen={}
    )
    [mark] = comparison_figure([[waiting]]).legends[0].get_texts()
    assert mark.get_text() == "requests wait for a slot"
    full = served.assign(max_concurrency=0.5)
    last = compare(full, ("one", "two"), model="toy", variable=THROUGHPUT, chosen={})
    assert "a server is overloaded in every cell" in last.sentence()
    # A static batch waits for no slot.
    batches = result({"batch_size": [1, 8], "isl": [128, 1024]}, "output_throughput")
    flagged = batches.assign(inflight_overload=xr.ones_like(batches["output_throughput"], "int8"))
    other = compare(flagged, ("one", "two"), model="toy", variable="output_throughput", chosen={})
    assert "one wins 75 % of 4 cells" in other.sentence()


def test_more_arrivals_than_a_server_completes_are_no_win() -> None:
    served = result({"request_rate": [1.0, 2.0], "isl": [128, 1024]}, THROUGHPUT)
    busy = served[THROUGHPUT] * served["request_rate"] / 3.9
    found = compare(
        served.assign(inflight_utilisation=busy),
        ("one", "two"),
        model="toy",
        variable=THROUGHPUT,
        chosen={},
    )
    assert "2 of 4 cells do not count" in found.sentence()


def test_a_bound_and_the_accelerator_of_other_comparisons_are_named() -> None:
    drafts = result({"draft_tokens": [0, 3], "batch_size": [1, 8], "isl": [9, 99]}, "tpot").isel(
        hardware=[1]
    )
    found = compare(
        drafts.drop_attrs(), (3, 0), model="toy", variable="tpot", chosen={}, along="draft_tokens"
    )
    assert found.sentence().startswith("toy, tpot as bounds: ")
    assert found.setting.startswith("hardware two")
    texts = comparison_figure([[found]]).get_suptitle()
    assert "hardware two" in texts and "bounds" in texts


def test_a_long_setting_of_a_narrow_picture_takes_several_lines() -> None:
    """A line of the title has room for 85 letters of its size."""
    drafts = result({"draft_tokens": [0, 3], "batch_size": [1, 8], "isl": [9, 99]}, "tpot").isel(
        hardware=[1]
    )
    pair = {"model": "toy", "variable": "tpot", "chosen": {}, "along": "draft_tokens"}
    found = compare(drafts, (3, 0), **pair)
    found = replace(found, setting=", ".join(f"axis_{name} value" for name in "abcdefgh"))
    lines = comparison_figure([[found]]).get_suptitle().splitlines()
    assert max(map(len, lines)) <= 85
    assert found.setting in " ".join(lines)
