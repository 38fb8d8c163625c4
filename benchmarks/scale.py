"""Large sweeps against the limits of the machine: kernel, files, workers, memory, size.

Run as `python -m benchmarks.scale`; `docs/performance.md` explains the rows.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

import click
import netCDF4
import numpy as np

from benchmarks.kernel import HARDWARE, MODELS, Size, clock
from benchmarks.report import machine, print_table
from benchmarks.scale_kernel import kernel_rows
from benchmarks.scale_reduced import calibrated_rows, reduction_rows
from benchmarks.scale_start import device_rows, start_rows
from benchmarks.turns import Row, ratio, rounds
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.plan import Plan, make_plan
from sweep.evaluation.result_memory import ResultMemory
from sweep.files.encoding import Storage, chunk_shape
from sweep.files.export import export
from sweep.files.netcdf import save, write_netcdf
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.grid.thresholds import NETCDF_CHUNK_CELLS, SHARD_BYTES
from sweep.runs import shard_file
from sweep.runs.huge_pages import restart_with_huge_pages
from sweep.runs.run import compute, run_plan
from sweep.runs.run_folder import begun
from sweep.runs.shards import run_shards
from sweep.runs.to_disk import Sharding, run_into_shards
from sweep.specs.catalog import current_catalog
from sweep.specs.seal import seal

KERNEL_ROUNDS = 5
"""Rounds of the kernel's rows for each of the others'. [count]"""

# Files.


def decode_plan(points: int, *, per_shard: int | None = None) -> Plan:
    """About so many decode steps of all models and accelerators. [count]"""
    lengths = max(1, round(points / (len(MODELS) * len(HARDWARE) * 256)))
    grid = Grid(
        models=MODELS,
        hardware=HARDWARE,
        batch_size=list(range(1, 257)),
        context_len={"start": 1, "stop": lengths + 1},
        variables=["decode_step_latency"],
    )
    return make_plan(resolve(grid, current_catalog()), shard_bytes=per_shard)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder for large files, removed at the end."""
    with TemporaryDirectory(dir=folder, prefix="llm-sweep-benchmark-") as name:
        yield Path(name)


def bare_write(values: np.ndarray, chunks: Sequence[int], path: Path, compression: str) -> None:
    """Write the same values by netCDF4 alone, without attributes and labels."""
    with netCDF4.Dataset(path, "w") as file:
        file.set_fill_off()
        for axis, length in enumerate(values.shape):
            file.createDimension(f"d{axis}", length)
        dims = tuple(f"d{axis}" for axis in range(values.ndim))
        options: dict[str, Any] = {"contiguous": True}
        if compression != "none":
            options = {"compression": compression, "complevel": 1, "chunksizes": tuple(chunks)}
        target = file.createVariable("values", values.dtype, dims, **options)
        for index, row in enumerate(values):
            target[index] = row


def file_rows(points: int, folder: Path, repeats: int) -> Iterator[Row]:
    """From a sweep to a file against a bare write of the same bytes."""
    plan = decode_plan(points)
    dataset = run_plan(plan)
    array = dataset["decode_step_latency"]
    chunks = list(chunk_shape(array, NETCDF_CHUNK_CELLS).values())
    for compression in ("none", "zlib", "zstd"):
        with scratch(folder) as here:
            # What a run returns is removed when the clock has stopped, so that all write anew.
            fresh = partial(TemporaryDirectory, dir=here, ignore_cleanup_errors=True)

            def swept(how: str = compression, fresh: Any = fresh) -> Any:
                created = fresh()
                path = Path(created.name) / "swept.nc"
                if how == "none":
                    write_netcdf(run_plan(plan), path)
                else:
                    export(run_plan(plan), path, Storage(how, 1))
                return created

            def bare(how: str = compression, fresh: Any = fresh) -> Any:
                created = fresh()
                bare_write(array.values, chunks, Path(created.name) / "bare.nc", how)
                return created

            # Uncompressed, a file takes a tenth of the time and varies by as much.
            how_often = 3 * repeats if compression == "none" else repeats
            times = rounds({"sweep": swept, "netCDF4": bare}, how_often)
        rate = dataset.nbytes / float(np.median(times["sweep"])) / 1e6
        what = f"sweep to NetCDF, {'uncompressed' if compression == 'none' else compression + '-1'}"
        alone = dataset.nbytes / float(np.median(times["netCDF4"])) / 1e6
        found = ratio(times, "sweep", "netCDF4")
        yield Row(what, f"{rate:,.0f} MB/s", found, f"netCDF4 alone, {alone:,.0f} MB/s", 0.6)


def worker_rows(points: int, folder: Path) -> Iterator[Row]:
    """Two and four workers against one, their start included."""
    plan, seconds = decode_plan(points), {}
    for workers in (1, 2, 4):
        with scratch(folder) as here:
            how = Sharding(workers=workers)
            seconds[workers] = clock(
                partial(run_into_shards, plan, here / "shards", how, lambda line: None)
            )
    yield Row("one worker", f"{seconds[1]:.1f} s")
    for workers, what, bar in ((2, "two workers", 1), (4, "four workers", None)):
        found = seconds[1] / seconds[workers]
        yield Row(what, f"{seconds[workers]:.1f} s", found, "one worker", bar)


def size_rows(sizes: Sequence[int], folder: Path, repeats: int) -> Iterator[Row]:
    """Time for a point, and peak memory, from small grids to large ones."""
    each: dict[int, float] = {}
    for points in sizes:
        plan = decode_plan(points)
        with scratch(folder) as here:

            def once(plan: Plan = plan, here: Path = here) -> None:
                with begun(here / "shards", plan, force=True) as directory:
                    run_shards(directory, directory.shards())

            once()
            times = rounds({"": once}, 1 if points > 10**8 else repeats)[""]
        each[points] = float(np.median(times)) / plan.points
        smallest = min((n for n in each if n >= 10**7), default=points)
        found = each[points] / each[smallest] if points > smallest else None
        what = f"{points:.0e} points to disk"
        baseline = f"the cost at {smallest:.0e}" if found else ""
        bar = 1.5 if found else None
        yield Row(what, f"{each[points] * 1e9:.2f} ns/point", found, baseline, bar, at_most=True)


def memory_rows(sizes: Sequence[int], folder: Path) -> Iterator[Row]:
    """Peak memory of processes that bring grids of growing size to disk."""
    peaks = {points: peak_memory(points, folder) for points in sizes if points >= 10**5}
    first = min((n for n in peaks if n >= 10**7), default=min(peaks))
    for points, peak in peaks.items():
        found = peak / peaks[first] if points > first else None
        baseline = f"that of {first:.0e}" if found else ""
        bar = 1.5 if found else None
        yield Row(
            f"{points:.0e} points, peak memory",
            f"{peak:,.0f} MB",
            found,
            baseline,
            bar,
            at_most=True,
        )


def peak_memory(points: int, folder: Path) -> float:
    """Peak resident memory of a process that brings a sweep to disk. [MB]"""
    with scratch(folder) as here:
        command = [sys.executable, "-m", "benchmarks.scale", "--only", str(points), str(here)]
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def share_rows(points: int, per_shard: int, folder: Path) -> Iterator[Row]:
    """Shares of the time of a sweep to disk, with all steps in sequence."""
    plan = decode_plan(points, per_shard=per_shard)
    spent = dict.fromkeys(("compute", "copy", "encode and checksum", "write"), 0.0)
    whole = 0.0
    with scratch(folder) as here, begun(here / "shards", plan) as directory, _timed(spent):
        work, memory = Evaluation(plan), ResultMemory()
        for shard in directory.shards():
            before = perf_counter()
            dataset = compute(plan, work, plan.shards.region(shard), memory=memory)
            shard_file.write_shard(dataset, directory.shard_path(shard), directory.identity(shard))
            del dataset
            # The first shard compiles.
            if shard:
                whole += perf_counter() - before
            else:
                spent.update(dict.fromkeys(spent, 0.0))
    spent["the rest"] = whole - sum(spent.values())
    for name, seconds in spent.items():
        yield Row(f"time of a sweep to disk: {name}", f"{100 * seconds / whole:.0f} %")


@contextmanager
def _timed(spent: dict[str, float]) -> Iterator[None]:
    """Book the time inside some functions."""
    places = (
        (Evaluation, "_one_tile", Evaluation._one_tile, "compute"),
        (Evaluation, "_assembled", Evaluation._assembled, "copy"),
        (shard_file, "save", save, "write"),
        (shard_file, "seal", seal, "encode and checksum"),
    )
    with ExitStack() as patched:
        for owner, name, function, book in places:
            patched.enter_context(patch.object(owner, name, _booked(function, spent, book)))
        yield


def _booked(function: Callable[..., Any], spent: dict[str, float], book: str) -> Any:
    def timed(*given: Any) -> Any:
        before = perf_counter()
        result = function(*given)
        spent[book] += perf_counter() - before
        return result

    return timed


def machine_rows(folder: Path, size: int) -> Iterator[Row]:
    """Bandwidth of the machine's memory and disk."""
    one, other = (np.zeros(size // 4, np.float32) for _ in range(2))
    copy = float(np.median([clock(lambda: np.copyto(one, other)) for _ in range(9)]))
    yield Row("memory, copied", f"{size / copy / 1e9:.1f} GB/s")
    fresh = float(np.median([clock(lambda: np.full(size // 4, 1, np.float32)) for _ in range(9)]))
    yield Row("fresh memory, filled", f"{size / fresh / 1e9:.1f} GB/s")
    with scratch(folder) as here:

        def write(sync: bool) -> None:
            with (here / "plain").open("wb") as file:
                file.write(memoryview(one).cast("B"))
                if sync:
                    os.fsync(file.fileno())

        for sync, what in ((False, "file, into the page cache"), (True, "file, onto the disk")):
            seconds = float(np.median([clock(partial(write, sync)) for _ in range(5)]))
            yield Row(what, f"{size / seconds / 1e9:.1f} GB/s")


@click.command()
@click.option(
    "--repeats",
    type=click.IntRange(1),
    help="Rounds, in each of which all run once; five times as many of the kernel.",
)
@click.option("--small", is_flag=True, help="Small grids, to see that it works; no true figures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where to write up to 4 GB for a while. Default: the folder for temporary files.",
)
@click.option("--only", nargs=2, hidden=True, help="Points and folder: print the peak memory.")
def main(
    repeats: int | None,
    small: bool,
    as_json: bool,
    folder: Path | None,
    only: tuple[str, str] | None,
) -> None:
    """Measure large sweeps against NumPy, numba, bare files and themselves."""
    if only is not None:
        import resource

        run_into_shards(
            decode_plan(int(only[0])), Path(only[1]) / "shards", Sharding(), lambda line: None
        )
        unit = 1 if sys.platform == "darwin" else 1024
        click.echo(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
        shutil.rmtree(Path(only[1]) / "shards")
        return
    repeats = repeats or (1 if small else 3)
    facts = machine()
    with TemporaryDirectory() as default:
        where = folder or Path(default)
        sizes = (10**5, 10**6) if small else (10**5, 10**6, 10**7, 10**8, 10**9)
        rows = [
            # A process starts with the peak of the one that forked it: before this one grows.
            *memory_rows(sizes, where),
            *machine_rows(where, 2**22 if small else 2**28),
            # Short runs, and fresh memory is filled at half the speed in some rounds.
            *kernel_rows(Size(16, 64) if small else Size(256, 1024), KERNEL_ROUNDS * repeats),
            *reduction_rows(10**5 if small else 2 * 10**9, where, min(repeats, 3)),
            *calibrated_rows(16 if small else 128, repeats),
            *start_rows(1 if small else min(repeats, 3)),
            *device_rows(64 if small else 1024),
            *file_rows(10**5 if small else 5 * 10**7, where, min(repeats, 3)),
            *worker_rows(10**5 if small else 10**9 // 2, where),
            *size_rows(sizes, where, min(repeats, 5)),
            *share_rows(*((10**6, 2**20) if small else (4 * 10**8, SHARD_BYTES)), where),
        ]
    if as_json:
        table = [row.cells() for row in rows]
        click.echo(json.dumps({"machine": facts, "repeats": repeats, "rows": table}, indent=2))
        return
    note = "; the grids are too small for true figures" if small else ""
    print_table(f"Medians of up to {repeats} rounds{note}", [row.cells() for row in rows], facts)


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
