"""Wall time of whole processes: the command line with an empty and a filled compilation cache.

Run as `python -m benchmarks.cold_start`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import numpy as np

from benchmarks.report import machine, print_table

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
SWEEP = "a100-vs-h20"
COMMAND = ["-m", "sweep"]
"""Equivalent of the console script `llm-sweep`."""


def seconds(arguments: list[str], cache: Path) -> float:
    """Wall time of one interpreter that runs `arguments`. [s]"""
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, CACHE_VARIABLE: str(cache)}
    command = [sys.executable, *arguments]
    start = perf_counter()
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
    return perf_counter() - start


def one_round(folder: Path) -> dict[str, float]:
    """Time every process once; `folder` is empty before and contains filled caches after."""
    cache, planned, output = folder / "cache", folder / "planned", folder / "result.nc"
    plan = [*COMMAND, "plan", SWEEP]
    run = [*COMMAND, "run", SWEEP, "-o", str(output), "--force"]
    return {
        "python, nothing imported": seconds(["-c", "pass"], cache),
        "python, import jax": seconds(["-c", "import jax"], cache),
        "llm-sweep --help": seconds([*COMMAND, "--help"], cache),
        f"llm-sweep plan {SWEEP}, empty cache": seconds(plan, planned),
        f"llm-sweep plan {SWEEP}, filled cache": seconds(plan, planned),
        f"llm-sweep run {SWEEP}, empty cache": seconds(run, cache),
        f"llm-sweep run {SWEEP}, filled cache": seconds(run, cache),
    }


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Rounds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
def main(repeats: int, as_json: bool) -> None:
    """Time the command line from start to end of process."""
    facts, rounds = machine(), []
    for _ in range(repeats + 1):
        with TemporaryDirectory() as folder:
            rounds.append(one_round(Path(folder)))
    times = {name: np.asarray([r[name] for r in rounds[1:]]) for name in rounds[0]}
    rows = [
        {
            "process": name,
            "median s": float(np.median(each)),
            "min": float(each.min()),
            "max": float(each.max()),
        }
        for name, each in times.items()
    ]
    if as_json:
        click.echo(json.dumps({"machine": facts, "repeats": repeats, "rows": rows}, indent=2))
        return
    print_table(f"Median of {repeats} rounds, after one more to warm the disk", rows, facts)


if __name__ == "__main__":
    main()
