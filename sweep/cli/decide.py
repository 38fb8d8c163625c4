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
"""What a recommendation is predicted by; bounds would favour what software reaches least of."""


@click.command()
@click.option("--model", required=True, help="A model by name, or its config.json.")
@click.option("--hardware", required=True, help="An accelerator.")
@click.option("--precision", default="fp16", show_default=True, help="A precision recipe.")
@click.option("--tp", type=int, default=1, show_default=True, help="Tensor-parallel width.")
@click.option("--pp", type=int, help="Pipeline stages.")
@click.option("--ep", type=int, help="GPUs that experts are spread over whole.")
@click.option("--dp-attention", type=int, help="Groups that run attention for themselves.")
@click.option("--batch-size", type=int, required=True, help="Sequences decoded together.")
@click.option("--isl", type=int, required=True, help="Input tokens of each.")
@click.option("--osl", type=int, required=True, help="Output tokens of each.")
@click.option("--efficiency", default="ideal", show_default=True, help="A calibration.")
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
    """Take one cell apart: time by operator, what binds it, and what each resource is worth.

    A static batch: its prefill, one decode step at the mean context, memory, and by how many
    percent times and throughput move for one percent more bandwidth, compute and so on.
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
        click.echo(f"cannot run: {', '.join(found.reasons)}; figures are arithmetic, not an offer")
    for phase in found.phases:
        click.echo(f"{phase.name}, {phase.tokens:,.0f} tokens of context, per GPU:")
        print_rows(explain_text.operator_rows(phase), as_json=False)
    for rows in (explain_text.figure_rows(found), explain_text.elasticity_rows(found)):
        print_rows(rows, as_json=False)


class Numbers(click.ParamType[tuple[int, ...]]):
    """Positive integers between commas."""

    name = "N,N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The integers."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isdecimal() and int(word) > 0 for word in words):
            self.fail(f"{value!r} is not positive integers between commas, as in 1,2,4", param, ctx)
        return tuple(map(int, words))


class Positive(click.FloatRange):
    """A finite number above 0, which NaN passes for in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number above 0", param, ctx)
        return number


POSITIVE = Positive(min=0, min_open=True)
COUNT = click.IntRange(1)


@click.command()
@click.option("--model", help="A model by name, or its config.json; needed but with --from.")
@click.option("--isl", type=COUNT, help="Input tokens of each request.")
@click.option("--osl", type=COUNT, help="Output tokens of each request.")
@click.option("--concurrency", type=COUNT, help="Requests that a replica must hold at once.")
@click.option("--requests-per-s", type=POSITIVE, help="Requests that all replicas must serve.")
@click.option("--max-ttft", type=POSITIVE, help="Longest time to first token, in seconds.")
@click.option("--max-tpot", type=POSITIVE, help="Longest time per output token, in seconds.")
@click.option("--max-price-per-hour", type=POSITIVE, help="Of all accelerators, in US dollars.")
@click.option("--max-gpus", type=COUNT, help="Accelerators of all replicas.")
@click.option(
    "--hardware", multiple=True, help="A candidate; may be repeated. Default: all solid ones."
)
@click.option(
    "--precision", multiple=True, help="May be repeated. Default: fp16, or all of --from."
)
@click.option("--tp", type=Numbers(), default=(), help="Default: powers of two in a machine.")
@click.option("--pp", type=Numbers(), default=(), help="Default: powers of two in a machine.")
@click.option("--dp-attention", type=Numbers(), default=(), help="Default: 1 without experts.")
@click.option(
    "--by", type=click.Choice(["gpu", "dollar", "watt"]), default="gpu", show_default=True
)
@click.option("--price", multiple=True, metavar="NAME=USD", help="For an hour of one accelerator.")
@click.option("--prices", type=click.Path(path_type=Path), help="The same as YAML or CSV.")
@click.option("--efficiency", help="A calibration, or ideal for bounds. Default: tensorrt-llm.")
@click.option("--from", "source", type=click.Path(path_type=Path), help="A result to choose from.")
@click.option("--every-layout", is_flag=True, help="Rank each layout, not each accelerator's best.")
@click.option("--top", type=COUNT, default=10, show_default=True, help="Ranks to show.")
@click.option("--front", is_flag=True, help="Show the front of user against GPU throughput too.")
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

    It sweeps servers with in-flight batching, or chooses from a result by --from. What is
    predicted is what TensorRT-LLM delivers, unless --efficiency says otherwise.
    """
    check_picture(output, force=force)
    if source is None and (model is None or isl is None or osl is None):
        raise click.UsageError("give --model, --isl and --osl, or --from with a result")
    if source is not None and efficiency is not None:
        raise click.UsageError("--from has its own efficiency; leave --efficiency out")
    from sweep.decisions import recommend_text as advice
    from sweep.decisions.candidate_sweep import sweep_candidates
    from sweep.decisions.candidate_table import read_candidates
    from sweep.decisions.candidates import Offer
    from sweep.decisions.prices import parse_prices, read_prices
    from sweep.decisions.recommend import Demand, Limits, check_prices
    from sweep.decisions.recommend import recommend as recommend_from
    from sweep.engines.calibration_file import load_efficiency
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.runs.open_results import open_results

    use_compilation_cache()
    catalog = catalog_of(context, configs)
    stated = parse_prices(price)
    known = ({} if prices is None else read_prices(prices)) | stated
    offer = Offer(hardware, precision, tp, pp, dp_attention)
    if source is not None:
        with open_results(source) as dataset:
            candidates = read_candidates(
                dataset,
                offer,
                catalog=catalog,
                model=model,
                isl=isl,
                osl=osl,
                concurrency=concurrency,
            )
    else:
        candidates = sweep_candidates(
            str(model),
            offer,
            isl=int(isl or 0),
            osl=int(osl or 0),
            concurrency=concurrency,
            catalog=catalog,
            efficiency=load_efficiency(efficiency or DEFAULT_EFFICIENCY),
        )
    check_prices(stated, candidates)
    demand = Demand(Limits(**limits), by, concurrency, requests_per_s)
    found = recommend_from(candidates, demand, prices=known, every_layout=every_layout)
    shown = found.ranked.head(top)
    moved = advice.binding(found, shown)
    if output is not None and len(found.ranked):
        from sweep.decisions.figures.front import front_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(front_figure(found), output)
    if as_json:
        click.echo(json.dumps(advice.as_json(found, moved), indent=2))
    else:
        click.echo(advice.sentence(found))
        _print_ranks(advice.rows(found, shown, moved))
        if front:
            click.echo("tokens per second of a user against those on a GPU, the front:")
            _print_ranks(advice.rows(found, found.front))
        for note in advice.notes(found):
            click.echo(f"({note})")
    return 0 if len(found.ranked) else CHECK_FAILED


def _print_ranks(rows: list[dict[str, Any]]) -> None:
    if rows:
        print_rows(rows, as_json=False)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="HTML file to make."
)
@click.option(
    "--efficiency",
    help="The calibration that predicted it, where its name alone does not find it. The NetCDF "
    "file of a fit adds predicted against measured.",
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
    """Make one HTML page of a result, to look at in a browser and to hand around.

    It needs no network: maps of two accelerators with break-even and bounds, rooflines, operators
    layer by layer, Pareto fronts and the quality of the calibration. What is too large for a page
    is thinned out, and the page says so.
    """
    from sweep.files.atomic import check_writable

    if output.suffix not in (".html", ".htm"):
        raise click.UsageError(f"{output}: a report's name ends in .html")
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
