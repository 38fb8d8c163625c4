"""The command `llm-sweep`. Heavy packages are imported inside the commands that need them."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli_article import article_meshes, article_rooflines, article_table
from sweep.cli_decide import explain, recommend, report
from sweep.cli_export import export, merge, question, question_options, reduce
from sweep.errors import SweepError
from sweep.launch import CHECK_FAILED, launch
from sweep.options import (
    catalog_of,
    check_picture,
    configs_option,
    force_picture_option,
    json_option,
    picture_option,
    print_comparisons,
    print_rows,
)

if TYPE_CHECKING:
    from sweep.catalog import Catalog
    from sweep.grid import Resolved
    from sweep.plan import Plan

PROGRAM = "llm-sweep"
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


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


def main() -> None:
    """Run the command line; every expected error ends as one line on standard error."""
    launch(cli, PROGRAM)


@click.group(context_settings=CONTEXT, invoke_without_command=True)
@configs_option
@click.version_option(package_name="llm-sweep", prog_name=PROGRAM)
@click.pass_context
def cli(context: click.Context, configs: tuple[str, ...]) -> None:
    """Rooflines of LLM inference over large grids of hardware, models and loads."""
    context.obj = configs
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command("list")
@click.argument("kind", type=click.Choice(["hardware", "models", "precisions", "sweeps"]))
@json_option
@configs_option
@click.pass_context
def list_command(
    context: click.Context, kind: str, as_json: bool, configs: tuple[str, ...]
) -> None:
    """List what the catalog holds."""
    print_rows(_rows_of(kind)(catalog_of(context, configs)), as_json=as_json)


def _rows_of(kind: str) -> "Callable[[Catalog], list[dict[str, Any]]]":
    if kind == "models":
        from sweep.facts import model_rows

        return model_rows
    from sweep import listing

    return {
        "hardware": listing.hardware_rows,
        "precisions": listing.precision_rows,
        "sweeps": listing.sweep_rows,
    }[kind]


@cli.group()
def show() -> None:
    """Show one accelerator or model, each figure with its source."""


@show.command("hardware")
@click.argument("name")
@json_option
@configs_option
@click.pass_context
def show_hardware(
    context: click.Context, name: str, as_json: bool, configs: tuple[str, ...]
) -> None:
    """Show an accelerator by name, or the specification at a path."""
    from sweep.listing import figure_rows

    spec = catalog_of(context, configs).hardware(name)
    if as_json:
        click.echo(json.dumps(spec.model_dump(mode="json", by_alias=True), indent=2))
        return
    known = (spec.product, spec.form_factor, spec.year)
    click.echo(", ".join([f"{spec.name}: {spec.vendor}", *(str(what) for what in known if what)]))
    click.echo(f"figures are {spec.confidence}. {spec.note}".strip())
    print_rows(figure_rows(spec), as_json=False)


@show.command("model")
@click.argument("name")
@json_option
@configs_option
@click.pass_context
def show_model(context: click.Context, name: str, as_json: bool, configs: tuple[str, ...]) -> None:
    """Show a model by name, or the config.json at a path."""
    from sweep.facts import model_summary

    summary = model_summary(catalog_of(context, configs).model(name))
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    rows = [{"": key.replace("_", " "), "value": value} for key, value in summary.items()]
    print_rows(rows, as_json=False)


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


@cli.command()
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
    from sweep.fitted import load_efficiency
    from sweep.plan import make_plan

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
    from sweep.compilation import use_compilation_cache
    from sweep.probe import probe

    use_compilation_cache()
    return probe(made)


def _duration(seconds: float) -> str:
    """Seconds with two digits, or in the unit that a person would use."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


@cli.command()
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
    from sweep.directory import is_begun
    from sweep.netcdf import check_writable

    wanted = question(asked, where, by, per)
    sharded = bool(wanted or shards or only or workers or scheduler or is_begun(output))
    if not sharded and not output.is_dir():
        check_writable(output, force=force)
    grid = _resolved(file, catalog_of(context, configs))
    from sweep.compilation import use_compilation_cache
    from sweep.fitted import load_efficiency
    from sweep.plan import make_plan
    from sweep.running import Sharding, run_into_file, run_into_shards, run_reduced

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


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> int:
    """Hold a result, a file or a folder of shards, against its schema and the CF conventions."""
    from sweep.checking import check_directory, check_file, has_compliance_checker

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


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--hardware", nargs=2, required=True, help="The two accelerators.")
@click.option("--model", "models", multiple=True, help="A model; repeat for more. Default: all.")
@click.option("--variable", help="What to compare by. Default: decode step latency, both methods.")
@click.option("--precision", help="Where the file has several.")
@click.option("--tp", type=int, help="Where the file has several.")
@click.option("--isl", type=int, help="Where the file varies over isl and osl.")
@click.option("--osl", type=int, help="Where the file varies over isl and osl.")
@picture_option
@force_picture_option
@json_option
def compare(
    file: Path,
    hardware: tuple[str, str],
    models: tuple[str, ...],
    variable: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Say which of two accelerators is ahead where, and draw it."""
    from sweep.comparison import compare as compare_pair
    from sweep.comparison import methods_in
    from sweep.opening import open_results

    check_picture(output, force=force)
    with open_results(file) as dataset:
        methods = methods_in(dataset, variable)
        comparisons = [
            [compare_pair(dataset, hardware, model=m, variable=v, chosen=chosen) for v in methods]
            for m in models or dataset["model"].values.tolist()
        ]
    if output is not None:
        from sweep.plots import comparison_figure, save_figure

        save_figure(comparison_figure(comparisons), output)
    print_comparisons(comparisons, as_json=as_json)


@cli.command()
@click.argument("hardware", nargs=-1, required=True)
@click.option("--dtype", default="half", help="Operand type of the peaks; half is fp16 or bf16.")
@click.option("--linear", is_flag=True, help="Linear axes rather than logarithmic.")
@picture_option
@force_picture_option
@json_option
@configs_option
@click.pass_context
def roofline(
    context: click.Context,
    hardware: Sequence[str],
    dtype: str,
    linear: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Tell the ridge points of accelerators, and draw their rooflines."""
    from sweep.listing import ridge_rows

    check_picture(output, force=force)
    catalog = catalog_of(context, configs)
    specs = [catalog.hardware(name) for name in hardware]
    rows = ridge_rows(specs, dtype)
    if output is not None:
        from sweep.plots import roofline_figure, save_figure

        save_figure(roofline_figure(specs, dtype, linear=linear), output)
    print_rows(rows, as_json=as_json)


for command in (
    merge,
    export,
    reduce,
    explain,
    recommend,
    report,
    article_rooflines,
    article_meshes,
    article_table,
):
    cli.add_command(command)


def tell(line: str) -> None:
    """Say on standard error what is no answer."""
    click.echo(f"{PROGRAM}: {line}", err=True)


def _resolved(file: str, catalog: "Catalog") -> "Resolved":
    from sweep.execution import load_grid
    from sweep.grid import resolve

    path = catalog.path("sweeps", file)
    try:
        return resolve(load_grid(path), catalog)
    except SweepError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
