"""Commands that plan, run and check a sweep."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.launch import CHECK_FAILED, one_line
from sweep.cli.options import (
    BOUNDS,
    COUNT,
    PROGRAM,
    SWEEP,
    calibration_option,
    catalog_of,
    check_result_name,
    configs_option,
    file_argument,
    json_option,
    output_option,
    print_rows,
    to_file_option,
)
from sweep.cli.own_process import leave_out_dask
from sweep.cli.print_tables import print_text
from sweep.cli.results import question, question_options
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.evaluation.plan import Plan
    from sweep.grid.resolved import Resolved
    from sweep.specs.catalog import Catalog


class JobType(click.ParamType):  # type: ignore[type-arg]  # [tuple[int, int]] needs click 8.4
    """K/N: job K of an array of N jobs."""

    name = "K/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read K and N, with 1 ≤ K ≤ N."""
        from sweep.specs.counts import count_of

        match [count_of(text) for text in str(value).split("/")]:
            case [int(job), int(jobs)] if 1 <= job <= jobs:
                return job, jobs
        self.fail(f"{value!r:.80} is not K/N with 1 ≤ K ≤ N, as in 3/8", param, ctx)


sweep_argument = click.argument("file", metavar="FILE", type=SWEEP)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    default="float32",
    show_default=True,
    help="Type of the results.",
)
keep_option = click.option(
    "--keep-infeasible",
    is_flag=True,
    help="Report throughput even where the configuration cannot run.",
)
shards_option = click.option(
    "--shards",
    type=COUNT,
    help="Least number of shards, each a file. Default: one file up to 1 GB.",
)


@click.command()
@to_file_option
@sweep_argument
@shards_option
@dtype_option
@calibration_option(BOUNDS)
@question_options(required=False)
@click.option(
    "--probe/--no-probe", "probed", default=True, help="Estimate the time from a small sample."
)
@json_option
@configs_option
@click.pass_context
def plan(
    context: click.Context,
    file: str,
    shards: int | None,
    dtype: Any,
    calibration: str,
    asked: str | None,
    where: str,
    by: str | None,
    per: tuple[str, ...],
    probed: bool,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Print what a sweep computes, its size and an estimate of its time."""
    from sweep.engines.calibration_file import load_calibration
    from sweep.evaluation.plan import make_plan

    wanted = question(asked, where, by, per)
    grid = _resolved(file, catalog_of(context, configs))
    factors = load_calibration(calibration)
    planned = make_plan(grid, dtype, calibration=factors, question=wanted, shards=shards or 1)
    seconds = _probed(planned) if probed else None
    rows = [
        {"variable": v.name, "shape": " × ".join(map(str, v.shape.values())), "bytes": v.bytes}
        for v in planned.variables
    ]
    if as_json:
        variables = {v.name: {"shape": v.shape, "bytes": v.bytes} for v in planned.variables}
        summary = {"points": planned.points, "bytes": planned.bytes, "axes": planned.sizes}
        files = {
            "shards": planned.shards.count,
            "shard_bytes": planned.shard_bytes,
            "seconds": seconds,
        }
        click.echo(json.dumps({**summary, **files, "variables": variables}, indent=2))
        return
    axes = " × ".join(f"{size} {axis}" for axis, size in planned.sizes.items())
    print_text(f"{planned.points:,} points: {axes}")
    print_rows(rows, as_json=False)
    print_text(f"{planned.bytes:,} bytes in all")
    if planned.question is not None:
        print_text(
            f"{planned.shards.count:,} shards, reduced to {planned.question}: "
            f"{planned.subgrid_bytes:,} bytes in memory at once, about "
            f"{planned.stored_bytes:,} bytes on disk"
        )
    elif shards or planned.is_large:
        print_text(f"{planned.shards.count:,} shards of at most {planned.shard_bytes:,} bytes each")
    if seconds is not None:
        print_text(f"about {_duration(seconds)} on this machine")


def _probed(planned: "Plan") -> float:
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.runs.time_estimate import probe

    use_compilation_cache()
    return probe(planned)


def _duration(seconds: float) -> str:
    """Format a time with two digits, in seconds or the largest unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


@click.command()
@sweep_argument
@output_option("NetCDF file or folder of shards to write.", required=True)
@click.option("--force", is_flag=True, help="Replace an existing file or the shards in a folder.")
@dtype_option
@keep_option
@calibration_option(BOUNDS)
@question_options(required=False)
@shards_option
@click.option("--only", type=JobType(), help="Compute shards K, K+N, K+2N, … (for job arrays).")
@click.option(
    "--workers",
    type=COUNT,
    help="Number of processes that compute shards. Default: this process alone.",
)
@click.option("--scheduler", help="Address of a Dask scheduler whose workers compute shards.")
@configs_option
@click.pass_context
def run(
    context: click.Context,
    file: str,
    output: Path,
    force: bool,
    dtype: Any,
    keep_infeasible: bool,
    calibration: str,
    asked: str | None,
    where: str,
    by: str | None,
    per: tuple[str, ...],
    shards: int | None,
    only: tuple[int, int] | None,
    workers: int | None,
    scheduler: str | None,
    configs: tuple[str, ...],
) -> None:
    """Compute a sweep, shipped or from a file, and write it as NetCDF.

    Sweeps above 1 GB, and those with --shards, --only, --workers or --scheduler, become a folder
    of shards. Run the same command again to resume an interrupted run.

    --reduce writes only the reduced result, identical to that of `llm-sweep reduce` on the full
    output. Partial results stay in OUTPUT.shards until the result is complete, so that an
    interrupted run can be resumed. Jobs of an array (--only) write partial results only; `llm-sweep
    merge OUTPUT.shards OUTPUT` then writes the result.
    """
    if sum(given is not None for given in (only, workers, scheduler)) > 1:
        raise click.UsageError("give one of --only, --workers and --scheduler")
    if only and force:
        raise click.UsageError("--force would remove the shards of other jobs; leave --only out")
    check_result_name(output)
    wanted = question(asked, where, by, per)
    if wanted is None and workers is None and scheduler is None:
        leave_out_dask()
    from sweep.files.atomic import check_writable
    from sweep.runs.run_folder import is_begun

    sharded = bool(wanted or shards or only or workers or scheduler or is_begun(output))
    if not sharded and not output.is_dir():
        check_writable(output, force=force)
    grid = _resolved(file, catalog_of(context, configs))
    from sweep.engines.calibration_file import load_calibration
    from sweep.evaluation.plan import make_plan
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.runs.to_disk import Sharding, run_into_file, run_into_shards, run_reduced

    factors = load_calibration(calibration)
    use_compilation_cache()
    try:
        planned = make_plan(
            grid,
            dtype,
            keep_infeasible=keep_infeasible,
            calibration=factors,
            question=wanted,
            shards=shards or 1,
        )
        if sharded or planned.is_large:
            how = Sharding(only, workers, scheduler, any_shards=shards is None, force=force)
            (run_into_shards if wanted is None else run_reduced)(planned, output, how, notify)
            if only is None:
                what = "a folder of shards" if wanted is None else f"reduced to {planned.question}"
                click.echo(f"{output}: {grid.points:,} points, {what}")
                if where and wanted is not None and output.is_file():
                    _say_if_nothing_found(output, where)
            return
        size = run_into_file(planned, output, force=force)
    except SweepError as error:
        raise type(error)(f"{file}: {error}") from None
    click.echo(f"{output}: {grid.points:,} points, {size:,} bytes")


def _say_if_nothing_found(output: Path, where: str) -> None:
    from sweep.queries.reduction_request import nothing_found
    from sweep.runs.open_results import open_results

    with open_results(output) as reduced:
        if nothing_found(reduced):
            print_text(f"(no cell satisfies {where}; every answer is missing)")


@click.command()
@to_file_option
@file_argument
def check(file: Path) -> int:
    """Check a result, a file or a folder of shards, against its schema and the CF conventions."""
    from sweep.runs.check_results import check_directory, check_file, has_compliance_checker

    problems = check_directory(file) if file.is_dir() else check_file(file)
    for problem in problems:
        click.echo(one_line(f"{file}: {problem}"))
    cf = (
        "and the CF-1.11 rules of the compliance checker"
        if has_compliance_checker()
        else "(for the full CF-1.11 rules, pip install 'llm-sweep[check]')"
    )
    if not problems:
        click.echo(f"{file}: agrees with its schema {cf}")
    return CHECK_FAILED if problems else 0


def notify(line: str) -> None:
    """Print a line for the user on standard error."""
    click.echo(f"{PROGRAM}: {line}", err=True)


def _resolved(file: str, catalog: "Catalog") -> "Resolved":
    from sweep.grid.resolved import resolve, warn_of_contexts
    from sweep.runs.run import load_grid

    path = catalog.path("sweeps", file)
    try:
        found = resolve(load_grid(path), catalog)
        warn_of_contexts(found)
        return found
    except SweepError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
