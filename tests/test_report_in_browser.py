"""The page of a result in a browser: it shows the result's figures and nothing goes wrong."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from chromium import chromium
from report_pages import IMAGE, SCRIPT

from sweep.html_report.report import html

ARTEFACTS = Path(__file__).parent / "artefacts"
LONGEST = 600_000
"""Longest wait for a page that may hang. [ms]"""
WIDE = {"width": 1280, "height": 900}
WIDTHS = (1280, 400)
"""Widths of a page on a screen and on a telephone. [pixel]"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page from a file, and sees at the end that nothing went wrong in it."""
    troubles: list[str] = []
    context = browser.new_context(viewport=WIDE, offline=True)
    page = context.new_page()
    page.set_default_timeout(LONGEST)
    page.on("console", lambda said: troubles.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on(
        "dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.accept())
    )
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith("file:") else troubles.append(f"asked {request.url}")
        ),
    )

    def open_page(text: str, **media: Any):
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        page.emulate_media(**media)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-usable]", timeout=LONGEST)
        return page

    yield open_page
    context.close()
    assert troubles == []


def hovered(page, i: int, j: int) -> list[str]:
    """Lines that the map tells of the cell in row `i` from below and column `j`."""
    page.locator("#map").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """([i, j]) => {
            const map = document.getElementById("map");
            const [box, size] = [map.getBoundingClientRect(), map._fullLayout._size];
            const [rows, columns] = [map.data[0].y.length, map.data[0].x.length];
            return [box.x + size.l + (size.w * (j + 0.5)) / columns,
                    box.y + size.t + size.h * (1 - (i + 0.5) / rows)];
        }""",
        [i, j],
    )
    page.mouse.move(1, 1)
    page.wait_for_selector("#map .hoverlayer .hovertext", state="detached")
    page.mouse.move(x, y)
    page.wait_for_selector("#map .hoverlayer .hovertext")
    lines: list[str] = page.locator("#map .hoverlayer .hovertext tspan.line").all_text_contents()
    return lines


UNITS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "tokens/s": 1.0}


def figure(line: str) -> float:
    """The first number with a unit, as in `h20-96gb: 15.07 ms, bound by memory`."""
    number, unit = re.search(r": ([\d,.]+) ?(ms|µs|s|tokens/s)\b", line).groups()
    return float(number.replace(",", "")) * UNITS[unit]


def eventually(holds: Callable[[], bool], page) -> None:
    """Wait until something holds; the page's policy refuses what Playwright would wait by."""
    for _ in range(LONGEST // 50):
        if holds():
            return
        page.wait_for_timeout(50)
    assert holds()


def keep(page, name: str) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


@pytest.mark.slow
def test_the_map_tells_the_figures_of_the_result(article, article_page, opened) -> None:
    page = opened(article_page)
    keep(page, "report-light")
    chosen = {"model": "mixtral-8x7b", "hardware": ["h20-96gb", "a100-sxm-80gb"]}
    page.select_option("#choose-model", label="mixtral-8x7b")
    page.select_option("#choose-accelerator", label="h20-96gb")
    assert page.inner_text("h1") == "h20-96gb or a100-sxm-80gb for mixtral-8x7b?"
    cells = article.sel(chosen).squeeze(drop=True)
    for i, j in ((0, 0), (9, 20), (31, 30)):
        at, first, second, ratio = hovered(page, i, j)
        here = cells.isel(batch_size=i, context_len=j)
        assert at == f"batch size {here.batch_size:,.0f}, context len {here.context_len:,.0f}"
        latencies = here.decode_step_latency.values
        np.testing.assert_allclose([figure(first), figure(second)], latencies, rtol=1e-3)
        assert float(ratio.split()[-1]) == pytest.approx(latencies[1] / latencies[0], rel=5e-3)
        for line, code in zip((first, second), here.bound.values, strict=True):
            assert f"bound by {('memory', 'compute')[int(code)]}" in line


@pytest.mark.slow
def test_intervals_are_told_too(served, served_page, opened) -> None:
    page = opened(served_page)
    page.select_option("#choose-model", label="llama-3.1-8b")
    page.select_option("#choose-tp", label="2")
    page.select_option("#choose-osl", label="128")
    _, first, *_ = hovered(page, 1, 0)
    here = served.sel(
        model="llama-3.1-8b", hardware="l40s", tp=2, batch_size=16, isl=128, osl=128
    ).squeeze()
    low, high = re.search(r"90 %: ([\d,.]+) tokens/s to ([\d,.]+) tokens/s", first).groups()
    told = [figure(first), float(low.replace(",", "")), float(high.replace(",", ""))]
    names = ("output_throughput", "output_throughput_lower", "output_throughput_upper")
    np.testing.assert_allclose(told, [float(here[name]) for name in names], rtol=1e-3)


@pytest.mark.slow
def test_everything_is_reached_by_keyboard(article_page, opened) -> None:
    page = opened(article_page)
    seen = []
    while "choose-context-len" not in seen and len(seen) < 30:
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
    names = ("model", "accelerator", "against", "variable", "shown", "batch-size", "context-len")
    assert [name for name in seen if name] == [f"choose-{name}" for name in names]
    page.focus("#choose-model")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("h1").endswith("for llama-2-70b?")
    assert page.evaluate("document.activeElement.id") == "choose-model"
    before = page.inner_text("#readout")
    page.focus("#choose-context-len")
    page.keyboard.press("End")
    assert page.inner_text("#readout") != before
    assert "context len 2,048" in page.inner_text("#layers-hint")


@pytest.mark.slow
def test_a_click_takes_a_cell_apart(article, article_page, opened) -> None:
    page = opened(article_page)
    hovered(page, 0, 0)
    page.mouse.down()
    page.mouse.up()
    assert "batch size 1, context len 128." in page.inner_text("#layers-hint")
    total = page.locator("#layers table").first.locator("tr.total td").all_inner_texts()
    step = article.decode_step_latency.sel(model="llama-2-13b", batch_size=1, context_len=128)
    for name, told in zip(("a100-sxm-80gb", "h20-96gb"), total[-4::2], strict=True):
        assert figure(f": {told}") == pytest.approx(step.sel(hardware=name).item(), rel=1e-3)


@pytest.mark.slow
def test_every_choice_can_be_drawn(served_page, opened) -> None:
    page = opened(served_page)
    for control in ("variable", "shown", "against", "across", "up", "precision", "tp"):
        select = page.locator(f"#choose-{control}")
        for k in range(select.locator("option").count() if select.count() else 0):
            page.select_option(f"#choose-{control}", index=k)


@pytest.mark.slow
def test_dark_narrow_and_printed(article_page, opened) -> None:
    page = opened(article_page, color_scheme="dark")

    def grounds() -> tuple[str, str]:
        found = page.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor,
                      document.getElementById("map")._fullLayout.paper_bgcolor]"""
        )
        return found[0], found[1]

    dark = grounds()
    keep(page, "report-dark")
    assert dark == ("rgb(22, 24, 28)", "#16181c")
    page.emulate_media(media="print", color_scheme="dark")
    eventually(lambda: grounds() == ("rgb(255, 255, 255)", "#ffffff"), page)
    bars = "[...document.querySelectorAll('.modebar')].map((b) => getComputedStyle(b).visibility)"
    assert set(page.evaluate(bars)) == {"hidden"}
    keep(page, "report-print")
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 400, "height": 800})
    drawn = "document.getElementById('map')._fullLayout.width"
    eventually(lambda: page.evaluate(drawn) <= 400, page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    keep(page, "report-narrow")


TITLES_ON_LABELS = """() => {
  const box = (element) => element.getBoundingClientRect();
  const meet = (a, b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const hidden = (plot, axis) => [...plot.querySelectorAll(`.${axis}title`)].some((title) =>
    [...plot.querySelectorAll(`.${axis}tick text`)].some((label) => meet(box(title), box(label))));
  return [...document.querySelectorAll(".js-plotly-plot")]
    .filter((plot) => hidden(plot, "x") || hidden(plot, "y")).map((plot) => plot.id);
}"""
"""Pictures in which the title of an axis covers a label of it."""
LABELS_ON_LABELS = """() => {
  const box = (element) => element.getBoundingClientRect();
  const meet = (a, b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const found = [];
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    const [frame, texts] = [box(plot), [...plot.querySelectorAll(".textpoint text")]];
    texts.forEach((text, k) => {
      const [one, others] = [box(text), texts.slice(k + 1)];
      if (one.left < frame.left || one.right > frame.right) found.push(`${plot.id} is too small`);
      const covers = others.some((other) => meet(one, box(other)));
      if (covers) found.push(`${plot.id}: ${text.textContent}`);
    });
  }
  return found;
}"""
"""Labels of points that cover one another or leave their picture."""
RAISED_TITLES = """() => [...document.querySelectorAll(".js-plotly-plot")].filter((plot) => {
  const title = plot.querySelector(".xtitle");
  const ticks = [...plot.querySelectorAll(".xtick text")];
  const end = Math.max(...ticks.map((tick) => tick.getBoundingClientRect().bottom));
  return title && title.getBoundingClientRect().top < end - 1;
}).map((plot) => plot.id)"""
"""Pictures whose title of the horizontal axis is not below the labels of its ticks."""
NAMED = """() => ["roofline-first", "front"].map(
  (id) => document.querySelectorAll(`#${id} .textpoint text`).length)"""
"""Number of labels of the first roofline and of the fronts."""
CROWD = """() => {
  let seed = 7;
  const random = () => { seed = (seed * 16807) % 2147483647; return seed / 2147483647; };
  const points = Array.from({ length: 80 }, (_, k) => ({
    x: 10 ** (3 * random()), y: 10 ** (2 * random()), text: `fp8 tp ${k}`,
    size: 11, colour: "red", side: "top right",
  }));
  const [x, y] = ["x", "y"].map((axis) => rangeOf(points.map((point) => point[axis])));
  const ticks = logTicks(points.map((point) => point.y));
  const yaxis = axisStyle("up", { ...ticks, range: y });
  const labels = labelTrace(points, points, { x, y, ...innerSize("front", yaxis) });
  draw("front", [labels], { xaxis: axisStyle("across", { type: "log", range: x }), yaxis });
  return document.querySelectorAll("#front .textpoint text").length;
}"""
"""Draws labels of 80 points at random positions; how many of them have room."""


def resize(page: Any, width: int) -> None:
    """Make the page so wide, and wait until its map has that size."""
    page.set_viewport_size({"width": width, "height": 800})
    drawn = "document.getElementById('map')._fullLayout.width"
    eventually(lambda: width / 2 < page.evaluate(drawn) <= width, page)


@pytest.mark.slow
def test_titles_of_axes_cover_no_label(article_page, opened) -> None:
    page = opened(article_page)
    for width in WIDTHS:
        resize(page, width)
        assert page.evaluate(TITLES_ON_LABELS) == []
        assert page.evaluate(LABELS_ON_LABELS) == []
        assert all(page.evaluate(NAMED))
    for width in WIDTHS:
        resize(page, width)
        assert 10 < page.evaluate(CROWD) < 80
        assert page.evaluate(LABELS_ON_LABELS) == []


@pytest.mark.slow
def test_titles_of_axes_are_below_their_labels(served_page, opened) -> None:
    """Also where the axis has two labels, with room for a title between them."""
    page = opened(served_page)
    for width in WIDTHS:
        resize(page, width)
        assert page.evaluate(RAISED_TITLES) == []


@pytest.mark.slow
def test_a_name_that_is_a_script_does_nothing(hostile_page, opened) -> None:
    page = opened(hostile_page)
    for control in ("model", "accelerator", "against", "shown", "variable"):
        for k in range(page.locator(f"#choose-{control} option").count()):
            page.select_option(f"#choose-{control}", index=k)
    page.select_option("#choose-model", label=SCRIPT)
    page.select_option("#choose-accelerator", label=IMAGE)
    page.select_option("#choose-against", label=SCRIPT)
    lines = hovered(page, 0, 0)
    assert lines[1].startswith(f"{IMAGE}: ")
    assert lines[2].startswith(f"{SCRIPT}: ")
    assert page.inner_text("h1") == f"{IMAGE} or {SCRIPT} for {SCRIPT}?"
    page.select_option("#choose-model", label="llama-2-7b")
    assert IMAGE in page.locator("#layers table th").all_inner_texts()
    keep(page, "report-hostile")
    assert page.locator("img").count() == 0


@pytest.mark.slow
def test_times_of_nought_are_no_offers(article, opened) -> None:
    """Speeds without an end have no place on an axis, and the page is drawn all the same."""
    page = opened(
        html(article.map(np.zeros_like, keep_attrs=True).assign(feasible=article.feasible))
    )
    assert page.inner_text("h1").startswith("a100-sxm-80gb or h20-96gb")
    assert "could not be drawn" not in page.inner_text("#answer")


@pytest.mark.slow
def test_names_have_quotes_in_pictures(article, opened) -> None:
    name = 'an "accelerator" & $more$'
    page = opened(html(article.assign_coords(hardware=[name, "other"])))
    assert name in page.locator("#front .legendtext").all_text_contents()


@pytest.mark.slow
def test_no_share_has_an_exponent(article_page, opened) -> None:
    shares = opened(article_page).locator("#layers td").all_inner_texts()
    assert any("< 0.001 %" in text for text in shares)
    assert not any(re.search(r"e[-−+]\d", text) for text in shares if "%" in text)


def test_it_is_readable_before_it_is_drawn(article_page, opened) -> None:
    """Words are readable before pictures are drawn; the times are kept beside the pictures."""
    page = opened(article_page)
    marks = page.evaluate(
        "performance.getEntriesByType('mark').map((mark) => [mark.name, mark.startTime / 1000])"
    )
    seconds = {name: round(start, 3) for name, start in marks}
    ARTEFACTS.mkdir(exist_ok=True)
    told = {"seconds": seconds, "bytes": len(article_page.encode())}
    (ARTEFACTS / "report.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
    assert seconds["readable"] < seconds["usable"]


@pytest.mark.slow
def test_an_overloaded_server_is_no_win(served, opened) -> None:
    names = ("output_throughput", "feasible")
    given = served[[*names]].rename({name: f"inflight_{name}" for name in names})
    said, marks = [], []
    for overload in (0, 1):
        flags = xr.full_like(given["inflight_output_throughput"], overload, np.int8)
        page = opened(html(given.assign(inflight_overload=flags)))
        said.append(page.inner_text("#answer"))
        page.wait_for_selector("#map .legendtext")
        marks.append(page.locator("#map .legendtext").all_text_contents())
    assert " is ahead " in said[0] and "overloaded" not in said[0]
    assert "a server is overloaded in every cell" in said[1]
    assert ["requests wait for a slot" in names for names in marks] == [False, True]
