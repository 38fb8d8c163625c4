"""The command `llm-sweep`. Heavy packages are imported inside the commands that need them."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli_export import export, merge, reduce
from sweep.errors import SweepError
from sweep.launch import CHECK_FAILED, launch

if TYPE_CHECKING:
    from sweep.catalog import Catalog
    from sweep.grid import Resolved

PROGRAM = "llm-sweep"
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

configs_option = click.option(
    "--configs",
    "configs",
    multiple=True,
    type=click.Path(),
    help="Folder with further hardware/, models/, precisions/ and sweeps/; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")


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


def _catalog(context: click.Context, configs: tuple[str, ...]) -> "Catalog":
    from sweep.catalog import Catalog

    return Catalog([*configs, *context.obj])


@cli.command("list")
@click.argument("kind", type=click.Choice(["hardware", "models", "precisions", "sweeps"]))
@json_option
@configs_option
@click.pass_context
def list_command(
    context: click.Context, kind: str, as_json: bool, configs: tuple[str, ...]
) -> None:
    """List what the catalog holds."""
    print_rows(_rows_of(kind)(_catalog(context, configs)), as_json=as_json)


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

    spec = _catalog(context, configs).hardware(name)
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

    summary = model_summary(_catalog(context, configs).model(name))
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    rows = [{"": key.replace("_", " "), "value": value} for key, value in summary.items()]
    print_rows(rows, as_json=False)


@cli.command()
@click.argument("file")
@json_option
@configs_option
@click.pass_context
def plan(context: click.Context, file: str, as_json: bool, configs: tuple[str, ...]) -> None:
    """Say what a sweep will compute and how large it will be."""
    from sweep.plan import make_plan

    made = make_plan(_resolved(file, _catalog(context, configs)))
    rows = [
        {"variable": v.name, "shape": " × ".join(map(str, v.shape.values())), "bytes": v.bytes}
        for v in made.variables
    ]
    if as_json:
        variables = {v.name: {"shape": v.shape, "bytes": v.bytes} for v in made.variables}
        summary = {"points": made.points, "bytes": made.bytes, "axes": made.sizes}
        click.echo(json.dumps({**summary, "variables": variables}, indent=2))
        return
    axes = " × ".join(f"{size} {axis}" for axis, size in made.sizes.items())
    click.echo(f"{made.points:,} points: {axes}")
    print_rows(rows, as_json=False)
    click.echo(f"{made.bytes:,} bytes in all")


@cli.command()
@click.argument("file")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="NetCDF file.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32")
@click.option("--keep-infeasible", is_flag=True, help="Keep throughputs that cannot be reached.")
@click.option(
    "--efficiency",
    default="ideal",
    show_default=True,
    help="A calibration: a shipped one such as tensorrt-llm, or a file.",
)
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
    configs: tuple[str, ...],
) -> None:
    """Compute a sweep, shipped or from a file, and write it as NetCDF."""
    from sweep.netcdf import check_writable

    check_writable(output, force=force)
    grid = _resolved(file, _catalog(context, configs))
    from sweep.fitted import load_efficiency

    fitted = load_efficiency(efficiency)
    from sweep.compilation import use_compilation_cache
    from sweep.execution import run_resolved
    from sweep.netcdf import write_netcdf
    from sweep.progress import progress_bar

    use_compilation_cache()
    try:
        with progress_bar("computing") as progress:
            dataset = run_resolved(
                grid,
                dtype=dtype,
                keep_infeasible=keep_infeasible,
                efficiency=fitted,
                progress=progress,
            )
    except SweepError as error:
        raise type(error)(f"{file}: {error}") from None
    write_netcdf(dataset, output, force=force)
    if sys.stdout.isatty():
        click.echo(f"{output}: {grid.points:,} points, {dataset.nbytes:,} bytes")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> int:
    """Hold a result file against its schema and the CF conventions."""
    from sweep.checking import check_file, has_compliance_checker

    problems = check_file(file)
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
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Picture to draw.")
@click.option("--force", is_flag=True, help="Replace an existing picture.")
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
    from sweep.netcdf import open_results

    _check_picture(output, force=force)
    with open_results(file) as dataset:
        methods = methods_in(dataset, variable)
        comparisons = [
            [compare_pair(dataset, hardware, model=m, variable=v, chosen=chosen) for v in methods]
            for m in models or dataset["model"].values.tolist()
        ]
    if output is not None:
        from sweep.plots import comparison_figure, save_figure

        save_figure(comparison_figure(comparisons), output)
    flat = [comparison for row in comparisons for comparison in row]
    if as_json:
        answers = [{"model": c.model, "variable": c.variable, "answer": c.sentence()} for c in flat]
        click.echo(json.dumps(answers, indent=2))
        return
    for comparison in flat:
        click.echo(comparison.sentence())


@cli.command()
@click.argument("hardware", nargs=-1, required=True)
@click.option("--dtype", default="half", help="Operand type of the peaks; half is fp16 or bf16.")
@click.option("--linear", is_flag=True, help="Linear axes rather than logarithmic.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Picture to draw.")
@click.option("--force", is_flag=True, help="Replace an existing picture.")
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

    _check_picture(output, force=force)
    catalog = _catalog(context, configs)
    specs = [catalog.hardware(name) for name in hardware]
    rows = ridge_rows(specs, dtype)
    if output is not None:
        from sweep.plots import roofline_figure, save_figure

        save_figure(roofline_figure(specs, dtype, linear=linear), output)
    print_rows(rows, as_json=as_json)


@cli.command("article-table")
@json_option
@configs_option
@click.pass_context
def article_table(context: click.Context, as_json: bool, configs: tuple[str, ...]) -> None:
    """Set four published TensorRT-LLM throughputs beside LLM-Viewer's estimates and ours."""
    from sweep.compilation import use_compilation_cache
    from sweep.published import compare_published, published_rows

    use_compilation_cache()
    table, compared = compare_published("trtllm-article-table", _catalog(context, configs))
    print_rows(published_rows(table, compared, as_json=as_json), as_json=as_json)


for command in (merge, export, reduce):
    cli.add_command(command)


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


def _check_picture(output: Path | None, *, force: bool) -> None:
    if output is None:
        return
    from sweep.netcdf import check_writable

    if output.suffix not in (".png", ".pdf", ".svg"):
        raise click.UsageError(f"{output}: a picture's name ends in .png, .pdf or .svg")
    check_writable(output, force=force)


def print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from sweep.listing import print_table

    print_table(rows)
