"""Commands that plan, run and check a sweep."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.launch import CHECK_FAILED
from sweep.cli.options import (
    catalog_of,
    configs_option,
    json_option,
    print_rows,
)
from sweep.cli.results import question, question_options
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.evaluation.plan import Plan
    from sweep.grid.resolved import Resolved
    from sweep.specs.catalog import Catalog
from sweep.cli.options import PROGRAM


class PartType(click.ParamType[tuple[int, int]]):
    """K/N: which of how many parts."""

    name = "K/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """K and N, if 1 ≤ K ≤ N."""
        place, slash, parts = str(value).partition("/")
        if not (
            slash and place.isdecimal() and parts.isdecimal() and 1 <= int(place) <= int(parts)
        ):
            self.fail(f"{value!r} is not K/N with 1 ≤ K ≤ N, as in 3/8", param, ctx)
        return int(place), int(parts)


dtype_option = click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True
)
keep_option = click.option(
    "--keep-infeasible", is_flag=True, help="Keep throughputs that cannot be reached."
)
efficiency_option = click.option(
    "--efficiency",
    default="ideal",
    show_default=True,
    help="A calibration: a shipped one such as tensorrt-llm, or a file.",
)
shards_option = click.option(
    "--shards", type=click.IntRange(1), help="Cut into at least so many files, in a folder."
)


@click.command()
@click.argument("file")
@shards_option
@dtype_option
@efficiency_option
@question_options(required=False)
@click.option("--probe/--no-probe", "probed", default=True, help="Whether to estimate the time.")
@json_option
@configs_option
@click.pass_context
def plan(
    context: click.Context,
    file: str,
    shards: int | None,
    dtype: Any,
    efficiency: str,
    asked: str | None,
    where: str,
    by: str | None,
    per: str | None,
    probed: bool,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Say what a sweep will compute, how large it will be and how long it will take."""
    from sweep.engines.calibration_file import load_efficiency
    from sweep.evaluation.plan import make_plan

    wanted = question(asked, where, by, per)
    grid, fitted = _resolved(file, catalog_of(context, configs)), load_efficiency(efficiency)
    made = make_plan(grid, dtype, efficiency=fitted, question=wanted, shards=shards or 1)
    seconds = _probed(made) if probed else None
    rows = [
        {"variable": v.name, "shape": " × ".join(map(str, v.shape.values())), "bytes": v.bytes}
        for v in made.variables
    ]
    if as_json:
        variables = {v.name: {"shape": v.shape, "bytes": v.bytes} for v in made.variables}
        summary = {"points": made.points, "bytes": made.bytes, "axes": made.sizes}
        pieces = {"shards": made.cut.shards, "shard_bytes": made.shard_bytes, "seconds": seconds}
        click.echo(json.dumps({**summary, **pieces, "variables": variables}, indent=2))
        return
    axes = " × ".join(f"{size} {axis}" for axis, size in made.sizes.items())
    click.echo(f"{made.points:,} points: {axes}")
    print_rows(rows, as_json=False)
    click.echo(f"{made.bytes:,} bytes in all")
    if made.question is not None:
        click.echo(
            f"{made.cut.shards:,} shards, reduced to {made.question}: {made.piece_bytes:,} bytes "
            f"in memory at once, about {made.stored_bytes:,} bytes on disk"
        )
    elif shards or made.is_large:
        click.echo(f"{made.cut.shards:,} shards of at most {made.shard_bytes:,} bytes each")
    if seconds is not None:
        click.echo(f"about {_duration(seconds)} on this machine")


def _probed(made: "Plan") -> float:
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.runs.time_estimate import probe

    use_compilation_cache()
    return probe(made)


def _duration(seconds: float) -> str:
    """Seconds with two digits, or in the unit that a person would use."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


@click.command()
@click.argument("file")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="NetCDF file, or folder of shards.",
)
@click.option("--force", is_flag=True, help="Replace an existing file, or start shards anew.")
@dtype_option
@keep_option
@efficiency_option
@question_options(required=False)
@shards_option
@click.option("--only", type=PartType(), help="Every Nth shard from the Kth, of an array of jobs.")
@click.option("--workers", type=click.IntRange(1), help="Processes to compute shards in.")
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
    efficiency: str,
    asked: str | None,
    where: str,
    by: str | None,
    per: str | None,
    shards: int | None,
    only: tuple[int, int] | None,
    workers: int | None,
    scheduler: str | None,
    configs: tuple[str, ...],
) -> None:
    """Compute a sweep, shipped or from a file, and write it as NetCDF.

    Large sweeps, and those with --shards, --only, --workers or --scheduler, become a folder of
    shards; the same command again takes up what was interrupted.

    With --reduce the answer alone is written, as `llm-sweep reduce` would of the whole result,
    however large that is. What was found shard by shard stands in OUTPUT.shards until the answer
    does, so that the same command again takes up what was interrupted. Parts of an array of jobs
    (--only) write there alone; `llm-sweep merge OUTPUT.shards OUTPUT` then tells the answer.
    """
    if sum(given is not None for given in (only, workers, scheduler)) > 1:
        raise click.UsageError("give one of --only, --workers and --scheduler")
    if only and force:
        raise click.UsageError("--force would remove the shards of other parts; leave --only out")
    from sweep.files.atomic import check_writable
    from sweep.runs.run_folder import is_begun

    wanted = question(asked, where, by, per)
    sharded = bool(wanted or shards or only or workers or scheduler or is_begun(output))
    if not sharded and not output.is_dir():
        check_writable(output, force=force)
    grid = _resolved(file, catalog_of(context, configs))
    from sweep.engines.calibration_file import load_efficiency
    from sweep.evaluation.plan import make_plan
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.runs.to_disk import Sharding, run_into_file, run_into_shards, run_reduced

    fitted = load_efficiency(efficiency)
    use_compilation_cache()
    try:
        made = make_plan(
            grid,
            dtype,
            keep_infeasible=keep_infeasible,
            efficiency=fitted,
            question=wanted,
            shards=shards or 1,
        )
        if sharded or made.is_large:
            how = Sharding(only, workers, scheduler, any_cut=shards is None, force=force)
            (run_into_shards if wanted is None else run_reduced)(made, output, how, tell)
            return
        size = run_into_file(made, output, force=force)
    except SweepError as error:
        raise type(error)(f"{file}: {error}") from None
    if sys.stdout.isatty():
        click.echo(f"{output}: {grid.points:,} points, {size:,} bytes")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> int:
    """Hold a result, a file or a folder of shards, against its schema and the CF conventions."""
    from sweep.runs.check_results import check_directory, check_file, has_compliance_checker

    problems = check_directory(file) if file.is_dir() else check_file(file)
    for problem in problems:
        click.echo(f"{file}: {problem}")
    cf = (
        "and the CF-1.11 rules of the compliance checker"
        if has_compliance_checker()
        else "(for the full CF-1.11 rules, pip install 'llm-sweep[check]')"
    )
    if not problems:
        click.echo(f"{file}: agrees with its schema {cf}")
    return CHECK_FAILED if problems else 0


def tell(line: str) -> None:
    """Say on standard error what is no answer."""
    click.echo(f"{PROGRAM}: {line}", err=True)


def _resolved(file: str, catalog: "Catalog") -> "Resolved":
    from sweep.grid.resolved import resolve
    from sweep.runs.run import load_grid

    path = catalog.path("sweeps", file)
    try:
        return resolve(load_grid(path), catalog)
    except SweepError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
