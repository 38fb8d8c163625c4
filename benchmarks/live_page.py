"""Time from a key pressed on the live page to the picture, in a headless Chromium.

Run as `python -m benchmarks.live_page`; it needs Playwright and a Chromium.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.report import machine, print_table

FIELDS = ("load", "isl", "osl")
"""Sliders that are moved in turns."""
FINE = 10
"""Moves by one step of a slider, before those by a page. [count]"""
SETTLED = 400
"""Time between moves, in which pictures that are off the screen are drawn too. [ms]"""
LONGEST = 200_000
"""Longest wait for a first view, which compiles. [ms]"""
WATCH = """() => {
  window.moves = [];
  let pressed = null;
  addEventListener("input", (event) => { pressed = event.timeStamp; }, true);
  new MutationObserver(() => {
    if (pressed === null) return;
    const [from, drawn] = [pressed, performance.now()];
    pressed = null;
    requestAnimationFrame(() => {
      const frame = new MessageChannel();
      frame.port1.onmessage = () => {
        const all = performance.getEntriesByType("resource");
        const views = all.filter(({ name }) => name.includes("/view?"));
        const { requestStart, responseEnd } = views.pop();
        const painted = performance.now() - from;
        window.moves.push({ drawn: drawn - from, painted, server: responseEnd - requestStart });
        performance.clearResourceTimings();
      };
      frame.port2.postMessage(0);
    });
  }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-view"] });
}"""
"""Script that notes when the view after a change of a control is drawn and painted. [ms]"""


@contextmanager
def served() -> Iterator[str]:
    """Address of a live page that another process serves."""
    command = [sys.executable, "-m", "sweep", "explore", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        try:
            yield next(word for word in words if word.startswith("http"))
        finally:
            process.terminate()


def move(page: Page, number: int) -> None:
    """Move one slider by a key, and wait for the pictures."""
    page.focus(f"#slide-{FIELDS[number % len(FIELDS)]}")
    coarse = "PageDown" if number % 2 else "PageUp"
    page.keyboard.press("ArrowRight" if number < FINE else coarse)
    page.wait_for_function("count => window.moves.length > count", arg=number)
    page.wait_for_timeout(SETTLED)


def times(page: Page, address: str, moves: int) -> list[dict[str, float]]:
    """Time from the event to the last picture on the screen and to its frame, by move. [ms]"""
    page.goto(address)
    page.wait_for_function("document.documentElement.dataset.drawn", timeout=LONGEST)
    page.evaluate(WATCH)
    for number in range(moves):
        move(page, number)
    found: list[dict[str, float]] = page.evaluate("window.moves")
    return found


def summary(serving: str, moves: list[dict[str, float]]) -> dict[str, Any]:
    """Medians and the worst of all moves. [ms]"""
    of = {name: np.asarray([one[name] for one in moves]) for name in moves[0]}
    return {
        "view": serving,
        "server, median": float(np.median(of["server"])),
        "pictures, median": float(np.median(of["drawn"])),
        "frame, median": float(np.median(of["painted"])),
        "frame, worst": float(of["painted"].max()),
    }


@click.command()
@click.option("--moves", type=click.IntRange(1), default=30, show_default=True, help="Moves.")
@click.option("--width", type=click.IntRange(1), default=1280, show_default=True, help="Pixels.")
@click.option("--height", type=click.IntRange(1), default=900, show_default=True, help="Pixels.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
def main(moves: int, width: int, height: int, as_json: bool) -> None:
    """Time changes of sliders on the live page, for a server and for static batches."""
    facts, rows = machine(), []
    with served() as address, sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        size: Any = {"width": width, "height": height}
        for serving in ("server", "batch"):
            page = browser.new_page(viewport=size, bypass_csp=True)
            rows.append(summary(serving, times(page, f"{address}?serving={serving}", moves)))
            page.close()
        browser.close()
    if as_json:
        print(json.dumps({"machine": facts, "ms": rows}, indent=2))
        return
    print_table("Live page, from a key to the picture, in ms", rows, facts)


if __name__ == "__main__":
    main()
