"""The live page shows what `sweep.run` computes, and answers its own page only."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import uvicorn
import xarray as xr
import yaml
from chromium import chromium
from factories import CONFIGS, evaluated, hardware, model, point
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

import sweep
from sweep.decisions.server_breakdown import SERVER_PHASES, break_down_server
from sweep.errors import ResultError, SpecError
from sweep.explore import server
from sweep.explore.engine import Engine
from sweep.explore.memory import server_memory
from sweep.explore.server import application, bound_socket, sweep_file
from sweep.explore.start import known_calibrations
from sweep.explore.view import INPUTS, LOADS, MOST, Names, View, around_value
from sweep.grid.grid import Grid
from sweep.kernel.inflight import Inflight
from sweep.kernel.params import Point
from sweep.specs.catalog import Catalog

IMAGE = "<img src=x onerror=alert(2)>"
"""A name that a file can have too."""
NAMES = Names(
    ("a", "b", "tiny-1b"),
    ("one", "two", "a100-sxm-80gb", "a100-pcie-80gb", "l40s"),
    ("fp16",),
    ("mine", "ideal"),
    published={"a": None, "b": None, "tiny-1b": "org/Tiny-1B"},
)
HERE = View("a", "one", "two", "fp16", "ideal")


def read(**fields: str) -> View:
    return View.read(fields, NAMES, HERE)


def test_an_address_describes_a_view() -> None:
    view = read(model="b", serving="batch", tp="8", load="33", isl="1000", osl="1")
    assert (view.model, view.tp, view.cell["batch_size"], view.osl) == ("b", 8, 33, 1)
    client_query = dict(pair.split("=") for pair in view.query.split("&"))
    assert View.read(client_query, NAMES, HERE) == view


def test_names_and_counts_are_read_as_commands_read_them() -> None:
    view = read(
        **{"model": "Org/Tiny-1B-Instruct", "first": "NVIDIA L40S", "second": "A100 SXM4"},
        **{"precision": "FP16", "calibration": "Mine", "isl": "16k", "osl": "1Ki", "load": "1.5k"},
    )
    assert (view.model, view.first, view.second) == ("tiny-1b", "l40s", "a100-sxm-80gb")
    assert (view.precision, view.calibration) == ("fp16", "mine")
    assert (view.isl, view.osl, view.load) == (16_000, 1024, 1500)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"isl": "0"}, "isl: give a whole number from 1 to 4,194,304, not '0'"),
        ({"isl": "12.5"}, "not '12.5'"),
        ({"isl": "9" * 9999}, "isl: give a whole number"),
        ({"load": "٣"}, "load: give a whole number"),
        ({"tp": ""}, "tp: give a whole number from 1 to 1,024, not ''"),
        ({"model": "../../etc/passwd"}, "model: unknown name '../../etc/passwd'"),
        ({"first": IMAGE}, "first: unknown name"),
        ({"precision": "fp61"}, "did you mean 'fp16'?"),
        ({"calibration": "/tmp/mine.yaml"}, "calibration: unknown name"),
        ({"modle": "a"}, "unknown field 'modle' of a view; did you mean 'model'?"),
        ({"first": "two"}, "both accelerators are 'two'"),
        ({"first": "A100"}, "did you mean 'a100-sxm-80gb' or 'a100-pcie-80gb'?"),
        ({"model": "Org/Tiny-1B-AWQ"}, "model: 'Org/Tiny-1B-AWQ' is a quantised version"),
        ({"isl": "16kk"}, "isl: give a whole number"),
        ({"isl": "8M"}, "isl: give a whole number from 1 to 4,194,304, not '8M'"),
    ],
)
def test_a_wrong_address_is_refused_in_one_line(fields: dict[str, str], words: str) -> None:
    with pytest.raises(SpecError) as refused:
        read(**fields)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


@given(st.integers(1, MOST["isl"]), st.sampled_from([INPUTS, LOADS]))
def test_axes_have_one_length_and_ascend_around_any_value(value: int, values: tuple[int, ...]):
    found = around_value(values, value)
    assert len(found) == len(values)
    assert value in found
    assert found == sorted(set(found))


def test_a_sweep_file_is_the_grid_of_the_view(tmp_path: Path) -> None:
    view = replace(HERE, model='"x": \n- y', serving="batch", isl=3000)
    path = tmp_path / "view.yaml"
    path.write_text(sweep_file(view, "my file\nrm -r x.yaml"), encoding="utf-8")
    assert sweep.load_grid(path) == Grid(**view.axes)
    assert path.read_text(encoding="utf-8").splitlines()[1].startswith("models: ")


@pytest.mark.slow
def test_rows_of_a_server_add_up_to_its_iterations() -> None:
    def sums(where: Point) -> dict[str, list[jax.Array]]:
        steady, found = Inflight(where), break_down_server(where)
        wholes = steady._alone.latency, steady.lump_latency
        return {
            phase: [found[phase].seconds.sum(), found[phase].spent.sum(), jnp.asarray(whole)]
            for phase, whole in zip(SERVER_PHASES, wholes, strict=True)
        }

    with jax.enable_x64(True):
        cell = point(model("mixtral"), tp=2, concurrency=40, isl=3000, osl=100)
    for seconds, spent, whole in evaluated(sums, cell).values():
        assert [float(seconds), float(spent)] == pytest.approx([float(whole)] * 2, rel=1e-9)


def test_the_memory_bar_contains_a_request_that_does_not_fit() -> None:
    """A token takes 192 bytes: 12 million take 2.3 GB of 2 GB, which the bar runs over."""
    where = point(model(), hardware(memory_bytes=2e9), concurrency=2, isl=1000, osl=100)

    def taken(isl: float) -> float:
        found = server_memory(where, {"isl": np.asarray([isl], np.float32)})
        return sum(size for _, size in found["parts"]) / found["device"]

    assert taken(1000) == pytest.approx(0.9, rel=0.01)
    assert taken(1.2e7) > 1


def test_shipped_calibrations_are_offered_and_bounds_come_last() -> None:
    found, files = known_calibrations(["vllm"])
    assert next(iter(found)) == "vllm"
    assert list(found)[-1] == "ideal"
    assert found["ideal"] is None and set(files) == set(found) - {"ideal"}


def test_a_port_in_use_is_named() -> None:
    with bound_socket(0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert taken.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ResultError, match=f"port {port}: .*--port"):
            bound_socket(port)


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with a tiny model, and an accelerator whose name is markup."""
    folder: Path = tmp_path_factory.mktemp("configs")
    tiny = {"name": "tiny", "config": {"model_type": "llama", **CONFIGS["llama"]}}
    faster = {"name": IMAGE, "memory_bandwidth_bytes_per_s": 4e12}
    for kind, spec in (("models", tiny), ("hardware", {}), ("hardware", faster)):
        if kind == "hardware":
            machine = hardware(**spec)
            spec = machine.model_dump(mode="json", by_alias=True, exclude_none=True)
        (folder / kind).mkdir(exist_ok=True)
        path = folder / kind / f"{spec['name']}.yaml"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def engine(configs: Path) -> Engine:
    found = Engine(Catalog([configs]), {"ideal": None})
    found.default = View("tiny", "toy", IMAGE, "fp16", "ideal", load=16, isl=1000, osl=100)
    return found


@pytest.fixture(scope="module")
def client(engine: Engine, configs: Path) -> TestClient:
    app = application(engine, Catalog([configs]), {})
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "10.0.0.1", ""])
def test_another_host_name_is_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/view", "/view.nc"):
        assert client.get(path, headers={"host": host}).status_code == 400


def test_other_sites_may_link_to_the_page_and_no_more(client: TestClient) -> None:
    foreign = {"sec-fetch-site": "cross-site"}
    for path in ("/view", "/page.js", "/view.yaml", "/"):
        assert client.get(path, headers=foreign).status_code == 403
    linked = client.get("/", headers={**foreign, "sec-fetch-mode": "navigate"})
    assert linked.status_code == 200
    assert "frame-ancestors 'none'" in linked.headers["content-security-policy"]


def test_the_page_has_no_markup_from_names_and_loads_nothing_from_elsewhere(client) -> None:
    page = client.get("/").text
    assert IMAGE not in page
    assert "http://" not in page and "https://" not in page
    assert client.get("/plotly.js").text.startswith("/**")
    assert client.get("/nothing").status_code == 404
    assert client.post("/view").status_code == 405


def test_errors_are_one_line(client: TestClient) -> None:
    for query in ("isl=x", "model=" + "%0A".join("ab"), "osl=0&isl=0", "precision=%00"):
        found = client.get(f"/view?{query}")
        assert found.status_code == 422
        assert "\n" not in found.json()["error"] and found.json()["error"]
    assert client.get("/view?isl=" + "1" * 5000).status_code == 414
    # Names that exist and do not fit together.
    assert "peak_flops_per_s" in client.get("/view?first=l4&precision=nvfp4").json()["error"]


# In a browser.


@pytest.fixture(scope="module")
def address(engine: Engine, configs: Path):
    """The page, served from a thread as `llm-sweep explore` serves it."""
    opened = bound_socket(0)
    opened.listen()
    app = application(engine, Catalog([configs]), {})
    serving = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [opened]})
    thread.start()
    yield f"http://127.0.0.1:{opened.getsockname()[1]}/"
    serving.should_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def shown(page: Any) -> list[list[str]]:
    """Text of the cells of the table of the chosen cell."""
    rows = page.locator("#readout tr").all()
    return [row.locator("td").all_inner_texts() for row in rows[1:]]


LABELS = """() => {
  const texts = (id) => [...document.querySelectorAll(`#${id} .textpoint text`)];
  const ids = ["front", "roofline-first", "roofline-second"];
  return Object.fromEntries(ids.map((id) => [id, texts(id).map((one) => one.textContent)]));
}"""
"""Labels of points by picture."""


def wait(page: Any, view: View, mark: str = "view") -> None:
    """Wait until the pictures on the screen are those of a view; `drawn` for all pictures."""
    page.wait_for_function(
        "([mark, query]) => document.documentElement.dataset[mark] === query",
        arg=[mark, view.query],
        timeout=180_000,
    )


def seconds(text: str) -> float:
    number, unit = text.split("\n")[0].split()
    return float(number.replace(",", "")) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]


@pytest.mark.slow
def test_sliders_change_the_numbers_which_are_those_of_a_run(
    engine, client, configs, address, browser, tmp_path, monkeypatch
) -> None:
    troubles: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.on("console", lambda said: troubles.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.accept()))
    page.on("request", lambda r: r.url.startswith(address) or troubles.append(f"asked {r.url}"))
    page.goto(address)
    view = engine.default
    wait(page, view)
    first = shown(page)

    # A number that is typed, and a slider that is moved by the keyboard.
    page.fill("#view-isl", "3000")
    view = replace(view, isl=3000)
    wait(page, view)
    page.focus("#slide-load")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#view-load") == "2", "each step changes the number"
    page.keyboard.press("End")
    view = replace(view, load=1024)
    wait(page, view)
    assert shown(page) != first
    told = {row[0]: row for row in shown(page)}
    computed = sweep.run(Grid(**view.axes), catalog=Catalog([configs]))
    run = computed.sel(**view.cell).squeeze()
    for title, variable in (
        ("time to first token", "inflight_ttft"),
        ("time per output token", "inflight_tpot"),
        ("time from sending to last token", "inflight_request_latency"),
    ):
        figures = [seconds(text) for text in told[title][1:3]]
        np.testing.assert_allclose(figures, run[variable].values, rtol=1e-3)
    wait(page, view, "drawn")
    # The map knows in which cells requests wait; a report's is tested to mark them.
    assert page.evaluate("data.overloaded.shape") == list(computed["inflight_overload"].shape)
    assert page.locator("#layers table").count() == 2
    assert "server" in page.inner_text("#layers h3 >> nth=0")
    assert "Prefill of the batch" not in page.inner_text("main")

    # A bad value is one line, and the last view stays.
    page.fill("#view-isl", "many")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble") == (
        "isl: give a whole number from 1 to 4,194,304, not 'many'"
    )
    assert shown(page) == list(told.values())
    page.fill("#view-isl", "3000")
    page.wait_for_selector("#trouble", state="hidden")

    # A second page has a view of its own, that of its address.
    other, there = context.new_page(), replace(view, isl=500, load=2)
    other.goto(f"{address}?{there.query}")
    wait(other, there)
    assert shown(other) != shown(page)
    assert page.evaluate("location.search") == f"?{view.query}"
    assert other.evaluate("location.search") == f"?{there.query}"

    # So has one whose address is of no view, until a control changes.
    other.goto(f"{address}?{replace(there, load=3).query.replace('isl=500', 'isl=0')}")
    other.wait_for_selector("#trouble:not([hidden])")
    assert other.inner_text("#answer") == "No view yet; change a control."
    other.set_viewport_size({"width": 1000, "height": 900})
    other.fill("#view-isl", "500")
    wait(other, replace(there, load=3))
    assert other.inner_text("#answer").startswith("tiny, ")
    other.close()

    # Names are text, in pictures too.
    assert page.inner_text("h1") == f"toy or {IMAGE} for tiny?"
    page.wait_for_function(
        "query => document.documentElement.dataset.drawn === query", arg=view.query
    )
    assert page.locator("img").count() == 0
    assert IMAGE in page.locator("#front .legendtext").all_text_contents()

    # Labels of pictures that were updated are those of pictures that are drawn afresh.
    updated = page.evaluate(LABELS)
    assert all(updated.values())
    page.evaluate("() => { for (const id of Object.keys(drawn)) delete drawn[id]; }")
    page.evaluate("() => { drawFront(); drawRooflines(); }")
    assert page.evaluate(LABELS) == updated

    # The same view as a sweep file, as NetCDF and as a report.
    for button, name in (("sweep", "view.yaml"), ("netcdf", "view.nc")):
        with page.expect_download() as download:
            page.click(f"#get-{button}")
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    assert sweep.load_grid(tmp_path / "view.yaml") == Grid(**view.axes)
    with xr.open_dataset(tmp_path / "view.nc") as written:
        for name, values in computed.data_vars.items():
            np.testing.assert_array_equal(written[name].values, values.values)
    link = page.get_attribute("#get-report", "href")
    with monkeypatch.context() as patch:
        # The report of a dataset at a chosen cell is tested with the reports.
        patch.setattr(server, "html", lambda found, **named: f"{found.sizes['isl']} {named}")
        said = client.get(link).text
    assert said.startswith("11 ") and "'isl': 3000, 'osl': 100" in said

    # It fits a phone, and follows the colours of the system.
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("document.getElementById('map')._fullLayout.width <= 400")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    context.close()
    # The browser itself notes that the bad value was refused.
    assert [trouble for trouble in troubles if "status of 422" not in trouble] == []
