"""Commands that show results: `compare`, `explain` and `report`.

Heavy packages are imported inside the commands that need them.
"""

import json
from pathlib import Path
from typing import Any

import click

from sweep.cli.loads import load_options
from sweep.cli.options import (
    BOUNDS,
    COUNT,
    HARDWARE,
    MODEL,
    MODEL_HELP,
    PRECISION,
    calibration_option,
    catalog_of,
    check_picture,
    configs_option,
    file_argument,
    force_option,
    force_picture_option,
    json_option,
    listed,
    output_option,
    picture_option,
    print_comparisons,
    print_rows,
    select_option,
)
from sweep.cli.own_process import leave_out_dask
from sweep.cli.parameters import Count, Listed
from sweep.cli.print_tables import print_text
from sweep.cli.requests import parse_pair, request_axes, request_options
from sweep.cli.servers import server_axes, server_options
from sweep.errors import SweepError

DRAFT_OPTION = click.option(
    "--draft-tokens",
    type=Count(0),
    help="Tokens drafted for each pass of speculative decoding. Default: none.",
)


@click.command()
@click.option("--model", required=True, type=MODEL, help=MODEL_HELP)
@click.option(
    "--hardware",
    required=True,
    type=HARDWARE,
    help="Accelerator: name, or path of a specification.",
)
@click.option(
    "--precision",
    type=PRECISION,
    help="Precision recipe. Default: that of the model's own file if it is quantised, else fp16.",
)
@click.option(
    "--tp", type=COUNT, default=1, show_default=True, help="Tensor-parallel width, in GPUs."
)
@click.option("--pp", type=COUNT, help="Pipeline stages. Default: 1.")
@click.option("--ep", type=COUNT, help="GPUs that whole experts are spread over. Default: 1.")
@click.option(
    "--dp-attention",
    type=COUNT,
    help="Attention groups, each with its own sequences. Default: 1.",
)
@click.option(
    "--batch-size",
    type=COUNT,
    help="Sequences decoded together in a replica, for a static batch. Required unless "
    "--concurrency or --request-rate is given.",
)
@click.option(
    "--concurrency",
    type=COUNT,
    help="Requests that clients keep open at a replica, for a server with in-flight batching.",
)
@click.option("--isl", type=COUNT, required=True, help="Input tokens of each request.")
@click.option("--osl", type=COUNT, required=True, help="Output tokens of each request.")
@request_options(DRAFT_OPTION)
@load_options
@server_options
@calibration_option(BOUNDS)
@picture_option
@force_picture_option
@json_option
@configs_option
@click.pass_context
def explain(
    context: click.Context,
    /,
    model: str,
    hardware: str,
    precision: str | None,
    calibration: str,
    prefix_hit_rate: float | None,
    shared_prefix_tokens: int | None,
    draft_tokens: int | None,
    acceptance_rate: float | None,
    acceptance_length: float | None,
    draft_model: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
    **numbers: float | str | None,
) -> None:
    """Explain one cell: time by operator, the resource that binds each, and sensitivities.

    The cell is a static batch, or with --concurrency, --request-rate or --num-requests a server
    with in-flight batching. The command prints the prefill and one decode step at the mean context,
    or iterations of the server with prompts and without; memory; the figures, with the highest rate
    within limits such as --max-ttft-p99; and by how many percent times and throughput change for
    one percent more of each resource. A static batch with --request-rate, a limit, a spread of
    lengths or a setting of a server also has the figures of a server under that load.
    """
    server_axes(numbers)
    loads = ("batch_size", "concurrency", "request_rate", "num_requests")
    batch, clients, *others = (numbers[axis] is not None for axis in loads)
    if (batch and clients) or not any((batch, clients, *others)):
        raise click.UsageError(
            "give --batch-size for a static batch, or --concurrency, --request-rate or "
            "--num-requests for a server"
        )
    check_picture(output, force=force)
    asked = request_axes(
        prefix_hit_rate=prefix_hit_rate,
        shared_prefix_tokens=shared_prefix_tokens,
        draft_tokens=() if draft_tokens is None else (draft_tokens,),
        acceptance_rate=acceptance_rate,
        acceptance_length=acceptance_length,
        draft_model=draft_model,
    )
    leave_out_dask()
    from sweep.decisions import explain_text
    from sweep.decisions.explain import explain, grid_of_cell
    from sweep.engines.calibration_file import load_calibration
    from sweep.runs.jit_cache import use_compilation_cache

    factors = load_calibration(calibration)
    grid = grid_of_cell(
        model,
        hardware,
        {**numbers, **asked},
        precision=precision,
        draft_model=draft_model,
        calibration=factors,
    )
    use_compilation_cache()
    found = explain(grid, catalog=catalog_of(context, configs), calibration=factors)
    if output is not None:
        from sweep.decisions.figures.explanation import explanation_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(explanation_figure(found), output, force=force)
    if as_json:
        click.echo(json.dumps(explain_text.as_json(found), indent=2))
        return
    print_text(explain_text.title(found))
    if found.reasons:
        print_text(f"cannot run: {', '.join(found.reasons)}; the figures are theoretical")
        if found.reserve and "exceeds_memory" in found.reasons:
            print_text(f"({found.reserve})")
    for note in found.notes:
        print_text(f"({note})")
    for phase in found.phases:
        print_text(explain_text.phase_title(phase))
        print_rows(explain_text.operator_rows(phase), as_json=False)
    if found.flags:
        print_text(f"(the prediction extrapolates: {', '.join(found.flags)})")
    if draft_tokens:
        print_text(
            f"(the figures below are of passes that verify {draft_tokens + 1} tokens of each "
            "sequence, with their drafts)"
        )
    for line in explain_text.overload_lines(found):
        print_text(line)
    for rows in (explain_text.figure_rows(found), explain_text.elasticity_rows(found)):
        print_rows(rows, as_json=False)


@click.command()
@file_argument
@output_option("HTML file to write.", required=True)
@calibration_option(
    None,
    text="Calibration that predicted the result: name or file. Default: the name in the result. "
    "The NetCDF file of a fit adds a plot of predicted against measured.",
)
@force_option
@configs_option
@click.pass_context
def report(
    context: click.Context,
    file: Path,
    output: Path,
    calibration: str | None,
    force: bool,
    configs: tuple[str, ...],
) -> None:
    """Write a result as one HTML page for a browser.

    The page works without a network. It shows maps of two accelerators with break-even and bounds,
    rooflines, operators layer by layer, Pareto fronts and the quality of the calibration. A result
    that is too large for a page is thinned; the page lists what is left out.
    """
    from sweep.files.atomic import check_writable

    if output.suffix not in (".html", ".htm"):
        raise click.UsageError(f"{output}: the name of a report must end in .html")
    check_writable(output, force=force)
    from sweep.html_report.report import report as make_report
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.runs.open_results import open_results

    use_compilation_cache()
    with open_results(file) as results:
        try:
            make_report(
                results,
                output,
                catalog=catalog_of(context, configs),
                calibration=calibration,
                force=force,
            )
        except SweepError as error:
            raise type(error)(f"{file}: {error}") from None
    click.echo(f"{output}: {output.stat().st_size:,} bytes")


class TwoAccelerators(click.Command):
    """A command whose `--hardware A B` means `--hardware A,B`, as it did before lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the two."""
        found = [index for index, word in enumerate(args) if word == "--hardware"]
        if len(found) == 1 and len(args) > found[0] + 2:
            first, second = args[found[0] + 1 : found[0] + 3]
            if "," not in first and not second.startswith("-"):
                args = [*args[: found[0] + 1], f"{first},{second}", *args[found[0] + 3 :]]
        return super().parse_args(ctx, args)


@click.command(cls=TwoAccelerators)
@file_argument
@listed("--hardware", HARDWARE, "The two accelerators to compare.", metavar="A,B")
@click.option(
    "--between",
    metavar="AXIS=A,B",
    help="Two values of another axis to compare in place of accelerators, such as "
    "draft_tokens=3,0.",
)
@click.option("--list", "listing", is_flag=True, help="List what the file can compare.")
@click.option("--model", "models", cls=Listed, type=MODEL, help="Models. Default: all.")
@click.option(
    "--variable",
    help="Quantity to compare, one of those that --list shows. Default: latency of a decode step, "
    "by both methods, or of a denoising step, or throughput of a server per GPU.",
)
@click.option(
    "--precision", type=PRECISION, help="Precision recipe. Required if the file has several."
)
@click.option("--tp", type=COUNT, help="Tensor-parallel width. Required if the file has several.")
@select_option
@click.option(
    "--isl", type=COUNT, help="Input tokens. Fix isl or osl if the file has several of both."
)
@click.option(
    "--osl", type=COUNT, help="Output tokens. Fix isl or osl if the file has several of both."
)
@picture_option
@force_picture_option
@json_option
def compare(
    file: Path,
    hardware: tuple[str, ...],
    between: str | None,
    listing: bool,
    models: tuple[str, ...],
    variable: str | None,
    select: tuple[str, ...],
    output: Path | None,
    force: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Compare two accelerators: print where each is ahead, and draw a map.

    With --between it compares two values of another axis on one accelerator, that of --hardware if
    the file has several: where drafting tokens pays, for instance.
    """
    if listing:
        from sweep.decisions.compare import choices
        from sweep.runs.open_results import open_results

        with open_results(file) as results:
            print_rows(choices(results), as_json=as_json)
        return
    if between is not None and len(hardware) == 1:
        select, hardware = (*select, f"hardware={hardware[0]}"), ()
    if bool(hardware) == (between is not None) or len(hardware) not in (0, 2):
        raise click.UsageError(
            "give two accelerators by --hardware A,B, or --between AXIS=A,B on one of them"
        )
    along, pair = ("hardware", hardware) if between is None else parse_pair(between)
    from sweep.decisions.compare import compare_each
    from sweep.queries.select import subset
    from sweep.runs.open_results import open_results

    check_picture(output, force=force)
    with open_results(file) as results:
        comparisons = compare_each(
            subset(results, select=select),
            (pair[0], pair[1]),
            models=models,
            variable=variable,
            chosen=chosen,
            along=along,
        )
    if output is not None:
        from sweep.decisions.figures.comparison import comparison_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(comparison_figure(comparisons), output, force=force)
    print_comparisons(comparisons, as_json=as_json)
