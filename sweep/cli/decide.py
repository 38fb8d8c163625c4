"""Commands that help decide: `compare`, `explain`, `recommend` and `report`.

Heavy packages are imported inside the commands that need them.
"""

import json
from math import isfinite
from pathlib import Path
from typing import Any

import click

from sweep.cli.launch import CHECK_FAILED
from sweep.cli.options import (
    catalog_of,
    check_picture,
    configs_option,
    force_picture_option,
    json_option,
    picture_option,
    print_comparisons,
    print_rows,
)
from sweep.errors import SweepError

DEFAULT_EFFICIENCY = "tensorrt-llm"
"""Default calibration of `recommend`: bounds would favour the hardware that software uses worst."""


@click.command()
@click.option("--model", required=True, help="Model: name, or path of a config.json.")
@click.option("--hardware", required=True, help="Accelerator: name, or path of a specification.")
@click.option("--precision", default="fp16", show_default=True, help="Precision recipe.")
@click.option(
    "--tp", type=int, default=1, show_default=True, help="Tensor-parallel width, in GPUs."
)
@click.option("--pp", type=int, help="Pipeline stages. Default: 1.")
@click.option("--ep", type=int, help="GPUs that whole experts are spread over. Default: 1.")
@click.option(
    "--dp-attention",
    type=int,
    help="Attention groups, each with its own sequences. Default: 1.",
)
@click.option(
    "--batch-size", type=int, required=True, help="Sequences decoded together in a replica."
)
@click.option("--isl", type=int, required=True, help="Input tokens of each request.")
@click.option("--osl", type=int, required=True, help="Output tokens of each request.")
@click.option(
    "--efficiency",
    default="ideal",
    show_default=True,
    help="Calibration: name or file; ideal for bounds.",
)
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
    precision: str,
    efficiency: str,
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
    **numbers: int | None,
) -> None:
    """Explain one cell: time by operator, the resource that binds each, and sensitivities.

    The cell is a static batch. The command prints its prefill, one decode step at the mean
    context, its memory, and by how many percent times and throughput change for one percent more
    of each resource.
    """
    check_picture(output, force=force)
    from sweep.decisions import explain_text
    from sweep.decisions.explain import explain
    from sweep.engines.calibration_file import load_efficiency
    from sweep.grid.grid import Grid
    from sweep.runs.jit_cache import use_compilation_cache

    axes: dict[str, Any] = {axis: [value] for axis, value in numbers.items() if value is not None}
    names: dict[str, Any] = {"models": [model], "hardware": [hardware], "precision": [precision]}
    grid = Grid(**names, **axes, variables=["ttft"])
    fitted = load_efficiency(efficiency)
    use_compilation_cache()
    found = explain(grid, catalog=catalog_of(context, configs), efficiency=fitted)
    if output is not None:
        from sweep.decisions.figures.explanation import explanation_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(explanation_figure(found), output)
    if as_json:
        click.echo(json.dumps(explain_text.as_json(found), indent=2))
        return
    click.echo(explain_text.title(found))
    if found.reasons:
        click.echo(f"cannot run: {', '.join(found.reasons)}; the figures are theoretical")
    for phase in found.phases:
        click.echo(f"{phase.name}, {phase.tokens:,.0f} tokens of context, per GPU:")
        print_rows(explain_text.operator_rows(phase), as_json=False)
    for rows in (explain_text.figure_rows(found), explain_text.elasticity_rows(found)):
        print_rows(rows, as_json=False)


class Numbers(click.ParamType[tuple[int, ...]]):
    """Positive integers separated by commas."""

    name = "N,N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the integers."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isdecimal() and int(word) > 0 for word in words):
            self.fail(
                f"{value!r} is not a list of positive integers separated by commas, such as 1,2,4",
                param,
                ctx,
            )
        return tuple(map(int, words))


class Positive(click.FloatRange):
    """A finite number above 0; a plain range would let NaN pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number above 0", param, ctx)
        return number


POSITIVE = Positive(min=0, min_open=True)
COUNT = click.IntRange(1)


@click.command()
@click.option(
    "--model", help="Model: name, or path of a config.json. Required unless --from is given."
)
@click.option(
    "--isl",
    type=COUNT,
    help="Input tokens of each request. Required unless --from is given.",
)
@click.option(
    "--osl",
    type=COUNT,
    help="Output tokens of each request. Required unless --from is given.",
)
@click.option(
    "--concurrency",
    type=COUNT,
    help="Requests that a replica must hold at once. Default: the best number is searched.",
)
@click.option(
    "--requests-per-s",
    type=POSITIVE,
    help="Requests per second that all replicas must serve together. Default: one replica.",
)
@click.option("--max-ttft", type=POSITIVE, help="Longest time to first token, in s.")
@click.option("--max-tpot", type=POSITIVE, help="Longest time per output token, in s.")
@click.option(
    "--max-price-per-hour",
    type=POSITIVE,
    help="Highest hourly price of all accelerators together, in USD.",
)
@click.option("--max-gpus", type=COUNT, help="Largest number of accelerators in all replicas.")
@click.option(
    "--hardware",
    multiple=True,
    help="Accelerator to consider; may be repeated. Default: all with solid figures.",
)
@click.option(
    "--precision",
    multiple=True,
    help="Precision recipe; may be repeated. Default: fp16, or all of --from.",
)
@click.option(
    "--tp",
    type=Numbers(),
    default=(),
    help="Tensor-parallel widths to consider, in GPUs. Default: powers of two within a machine.",
)
@click.option(
    "--pp",
    type=Numbers(),
    default=(),
    help="Pipeline stages to consider. Default: powers of two within a machine.",
)
@click.option(
    "--dp-attention",
    type=Numbers(),
    default=(),
    help="Attention groups to consider. Default: powers of two within a machine if the model has "
    "experts, else 1.",
)
@click.option(
    "--by",
    type=click.Choice(["gpu", "dollar", "watt"]),
    default="gpu",
    show_default=True,
    help="What throughput is divided by for the ranking.",
)
@click.option(
    "--price",
    multiple=True,
    metavar="NAME=USD",
    help="Hourly price of one accelerator, in USD; may be repeated.",
)
@click.option(
    "--prices",
    type=click.Path(path_type=Path),
    help="YAML, JSON or CSV file of hourly prices, in USD.",
)
@click.option(
    "--efficiency",
    help="Calibration: name or file; ideal for bounds. Default: tensorrt-llm.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Result to choose from, instead of a new sweep.",
)
@click.option(
    "--every-layout", is_flag=True, help="Rank every layout, not only the best per accelerator."
)
@click.option("--top", type=COUNT, default=10, show_default=True, help="Number of ranks to show.")
@click.option(
    "--front",
    is_flag=True,
    help="Also print the Pareto front of throughput per user and per GPU.",
)
@picture_option
@force_picture_option
@json_option
@configs_option
@click.pass_context
def recommend(
    context: click.Context,
    /,
    model: str | None,
    isl: int | None,
    osl: int | None,
    concurrency: int | None,
    requests_per_s: float | None,
    hardware: tuple[str, ...],
    precision: tuple[str, ...],
    tp: tuple[int, ...],
    pp: tuple[int, ...],
    dp_attention: tuple[int, ...],
    by: Any,
    price: tuple[str, ...],
    prices: Path | None,
    efficiency: str | None,
    source: Path | None,
    every_layout: bool,
    top: int,
    front: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
    **limits: Any,
) -> int:
    """Rank deployments of a model under limits; exit status 1 if none meets them.

    The command sweeps servers with in-flight batching, or reads a result given by --from.
    Predictions are for TensorRT-LLM unless --efficiency names another calibration.
    """
    check_picture(output, force=force)
    if source is None and (model is None or isl is None or osl is None):
        raise click.UsageError("give --model, --isl and --osl, or --from with a result")
    if source is not None and efficiency is not None:
        raise click.UsageError(
            "the result of --from has its own calibration; leave --efficiency out"
        )
    from sweep.decisions import recommend_text
    from sweep.decisions.deployment_sweep import sweep_deployments
    from sweep.decisions.deployment_table import read_deployments
    from sweep.decisions.deployments import Offer
    from sweep.decisions.prices import parse_prices, read_prices
    from sweep.decisions.recommend import Demand, Limits, check_prices
    from sweep.decisions.recommend import recommend as recommend_from
    from sweep.engines.calibration_file import load_efficiency
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.runs.open_results import open_results

    use_compilation_cache()
    catalog = catalog_of(context, configs)
    given = parse_prices(price)
    known = ({} if prices is None else read_prices(prices)) | given
    offer = Offer(hardware, precision, tp, pp, dp_attention)
    if source is not None:
        with open_results(source) as dataset:
            deployments = read_deployments(
                dataset,
                offer,
                catalog=catalog,
                model=model,
                isl=isl,
                osl=osl,
                concurrency=concurrency,
            )
    else:
        deployments = sweep_deployments(
            str(model),
            offer,
            isl=int(isl or 0),
            osl=int(osl or 0),
            concurrency=concurrency,
            catalog=catalog,
            efficiency=load_efficiency(efficiency or DEFAULT_EFFICIENCY),
        )
    check_prices(given, deployments)
    demand = Demand(Limits(**limits), by, concurrency, requests_per_s)
    found = recommend_from(deployments, demand, prices=known, every_layout=every_layout)
    shown = found.ranked.head(top)
    elasticities = recommend_text.throughput_elasticities(found, shown)
    if output is not None and len(found.ranked):
        from sweep.decisions.figures.front import front_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(front_figure(found), output)
    if as_json:
        click.echo(json.dumps(recommend_text.as_json(found, elasticities), indent=2))
    else:
        click.echo(recommend_text.sentence(found))
        _print_ranks(recommend_text.rows(found, shown, elasticities))
        if front:
            click.echo("Pareto front of output tokens per second per user and per GPU:")
            _print_ranks(recommend_text.rows(found, found.front))
        for note in recommend_text.notes(found):
            click.echo(f"({note})")
    return 0 if len(found.ranked) else CHECK_FAILED


def _print_ranks(rows: list[dict[str, Any]]) -> None:
    if rows:
        print_rows(rows, as_json=False)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="HTML file to write."
)
@click.option(
    "--efficiency",
    help="Calibration that predicted the result: name or file. Default: the name in the result. "
    "The NetCDF file of a fit adds a plot of predicted against measured.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@configs_option
@click.pass_context
def report(
    context: click.Context,
    dataset: Path,
    output: Path,
    efficiency: str | None,
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
    with open_results(dataset) as results:
        try:
            make_report(
                results,
                output,
                catalog=catalog_of(context, configs),
                efficiency=efficiency,
                force=force,
            )
        except SweepError as error:
            raise type(error)(f"{dataset}: {error}") from None


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--hardware", nargs=2, required=True, help="The two accelerators to compare.")
@click.option("--model", "models", multiple=True, help="Model; may be repeated. Default: all.")
@click.option(
    "--variable",
    help="Quantity to compare. Default: latency of a decode step, by both methods.",
)
@click.option("--precision", help="Precision recipe. Required if the file has several.")
@click.option("--tp", type=int, help="Tensor-parallel width. Required if the file has several.")
@click.option(
    "--isl", type=int, help="Input tokens. Fix isl or osl if the file has several of both."
)
@click.option(
    "--osl", type=int, help="Output tokens. Fix isl or osl if the file has several of both."
)
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
    """Compare two accelerators: print where each is ahead, and draw a map."""
    from sweep.decisions.compare import compare as compare_pair
    from sweep.decisions.compare import methods_in
    from sweep.runs.open_results import open_results

    check_picture(output, force=force)
    with open_results(file) as dataset:
        methods = methods_in(dataset, variable)
        comparisons = [
            [compare_pair(dataset, hardware, model=m, variable=v, chosen=chosen) for v in methods]
            for m in models or dataset["model"].values.tolist()
        ]
    if output is not None:
        from sweep.decisions.figures.comparison import comparison_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(comparison_figure(comparisons), output)
    print_comparisons(comparisons, as_json=as_json)
