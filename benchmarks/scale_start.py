"""Rows of warm commands, and of a kernel on two emulated devices."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.cold_start import COMMAND, seconds
from benchmarks.turns import Row

CASES: dict[str, tuple[str, float]] = {
    "run a100-vs-h20": ("run a100-vs-h20 -o {folder}/result.nc --force", 2),
    "explain": (
        "explain --model llama-2-70b --hardware h20-96gb --tp 4 --batch-size 32 --isl 1024 "
        "--osl 512",
        3,
    ),
    "explain of a server": (
        "explain --model llama-2-70b --hardware h20-96gb --tp 4 --concurrency 32 --isl 1024 "
        "--osl 512 --calibration tensorrt-llm",
        3,
    ),
    "recommend, two accelerators": (
        "recommend --model llama-3.1-70b --isl 16384 --osl 4096 --hardware h20-96gb,a100-sxm-80gb",
        3,
    ),
    "recommend, all accelerators": (
        "recommend --model llama-3.1-70b --isl 16384 --osl 4096",
        3,
    ),
}
"""Commands, each with the most seconds that it should take."""
DEVICES = "--xla_force_host_platform_device_count"
ON_DEVICES = """
import sys, jax, sweep
lengths = {"start": 1, "stop": int(sys.argv[1]) + 1}
grid = sweep.Grid(
    models=["llama-3.1-8b", "mixtral-8x7b"], hardware=["h20-96gb"], batch_size=lengths,
    context_len=lengths, variables=["decode_step_latency"],
)
values = sweep.run(grid).decode_step_latency.values
sys.stdout.buffer.write(bytes([len(jax.devices())]) + values.tobytes())
"""
"""Writes the number of devices and the values."""


def start_rows(repeats: int) -> Iterator[Row]:
    """Wall time of commands whose compiled kernels are in the cache, against their bars."""
    with TemporaryDirectory() as folder:
        for name, (words, most) in CASES.items():
            command = [*COMMAND, *words.format(folder=folder).split()]
            times = [seconds(command, Path(folder) / "cache") for _ in range(repeats + 1)]
            found = float(np.median(times[1:]))
            yield Row(
                f"llm-sweep {name}, warm",
                f"{found:.1f} s",
                found / most,
                f"{most:g} s",
                1,
                at_most=True,
            )


def device_rows(lengths: int) -> Iterator[Row]:
    """Values of two emulated devices that are those of one, to the bit."""
    one, two = (_on_devices(count, lengths) for count in (1, 2))
    same = float(np.mean(one == two))
    yield Row("two emulated devices", f"{one.size:,} values", same, "equal to one device", 1)


def _on_devices(count: int, lengths: int) -> np.ndarray:
    flags = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}={count}"
    found = subprocess.run(
        [sys.executable, "-c", ON_DEVICES, str(lengths)],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    if found[0] != count:
        raise SystemExit(f"JAX has {found[0]} devices, not {count}")
    return np.frombuffer(found[1:], np.uint32)
