"""The command `recommend`. Heavy packages are imported inside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.launch import CHECK_FAILED
from sweep.cli.loads import (
    arrival_options,
    limit_options,
    run_option,
    spread_options,
)
from sweep.cli.options import (
    COUNT,
    HARDWARE,
    MODEL,
    MODEL_HELP,
    PATH,
    POSITIVE,
    PRECISION,
    calibration_option,
    catalog_of,
    configs_option,
    force_picture_option,
    json_option,
    listed,
    output_option,
    print_rows,
    printing_into,
)
from sweep.cli.own_process import leave_out_dask
from sweep.cli.parameters import Count, Pairs
from sweep.cli.pools import Pools
from sweep.cli.print_tables import print_text
from sweep.cli.recommend_checks import MANIFESTS, checked_axes
from sweep.cli.requests import request_options
from sweep.cli.servers import server_options
from sweep.specs.shipped import PREDICTIONS

if TYPE_CHECKING:
    import pandas as pd

    from sweep.decisions.recommend import Recommendation

DRAFTS_OPTION = listed(
    "--draft-tokens",
    Count(0),
    "Numbers of drafted tokens to consider; 0 for no speculative decoding.",
)
LOADS = (
    *("concurrency", "requests_per_s", "replicas"),
    *("request_rate", "burstiness", "num_requests"),
)
"""Options of the load, named as fields of `Demand`."""
PREDICTED_BY_THEIR_OWN = ("vllm", "sglang")
"""Engines of scripts, which calibrations of the same names predict."""


@click.command()
@click.option(
    "--model",
    type=MODEL,
    help=f"{MODEL_HELP} Required unless --from is given.",
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
    help="Requests that all replicas together must hold at once. Default: search for the best "
    "number at one replica.",
)
@click.option(
    "--requests-per-s",
    type=POSITIVE,
    help="Requests per second that all replicas must serve together, evenly spread: without waits "
    "for one another, unlike --request-rate.",
)
@click.option(
    "--replicas",
    type=COUNT,
    help="Replicas that share the load. Default: as many as are best for --concurrency or "
    "--num-requests, or necessary for --requests-per-s or --request-rate, else one.",
)
@request_options(DRAFTS_OPTION)
@run_option
@arrival_options
@spread_options
@server_options
@limit_options
@click.option(
    "--max-price-per-hour",
    type=POSITIVE,
    help="Highest hourly price of all accelerators together, in USD.",
)
@click.option("--max-gpus", type=COUNT, help="Largest number of accelerators in all replicas.")
@listed("--hardware", HARDWARE, "Accelerators to consider. Default: all with solid figures.")
@listed(
    "--precision",
    PRECISION,
    "Precision recipes. Default: that of the model's own file if it is quantised, else 16 and "
    "8 bits; all of --from.",
)
@listed(
    "--tp",
    COUNT,
    "Tensor-parallel widths to consider, in GPUs. Default: powers of two within a machine.",
)
@listed("--pp", COUNT, "Pipeline stages to consider. Default: powers of two within a machine.")
@listed(
    "--dp-attention",
    COUNT,
    "Attention groups to consider. Default: powers of two within a machine if the model has "
    "experts, else 1.",
)
@listed("--ep", COUNT, "GPUs that whole experts are spread over, to consider. Default: 1.")
@click.option(
    "--by",
    type=click.Choice(["gpu", "dollar", "watt"]),
    default="gpu",
    show_default=True,
    help="Divisor of the throughput in the ranking.",
)
@click.option(
    "--price",
    cls=Pairs,
    metavar="NAME=USD",
    help="Hourly prices of one accelerator, in USD.",
)
@click.option(
    "--prices",
    type=PATH,
    metavar="FILE",
    help="YAML, JSON or CSV file of hourly prices, in USD.",
)
@calibration_option(
    None,
    text="Calibration: ideal for bounds, a shipped one, or a file. Default: "
    f"{PREDICTIONS}, or the engine of --emit, and for accelerators on which it does not run that "
    "of another engine.",
)
@click.option(
    "--from",
    "source",
    type=PATH,
    metavar="FILE",
    help="Result to choose from, instead of a new sweep.",
)
@click.option(
    "--every-layout", is_flag=True, help="Rank every layout, not only the best per accelerator."
)
@click.option("--top", type=COUNT, default=10, show_default=True, help="Number of ranks to show.")
@click.option(
    "--front",
    is_flag=True,
    help="Also print the Pareto front of throughput per user and per GPU, a dozen points at most; "
    "--json has all.",
)
@click.option(
    "--disaggregated",
    is_flag=True,
    help="Rank pairs of a prefill pool and a decode pool, and compare the best with one pool.",
)
@click.option(
    "--transfer-bandwidth",
    type=POSITIVE,
    help="Bandwidth between the pools, in bytes a second per GPU and direction. Default: that of "
    "each accelerator's network.",
)
@click.option(
    "--emit",
    type=click.Choice(["trtllm", "vllm", "sglang", "bench", *MANIFESTS]),
    help="Print only a script that launches the first deployment with TensorRT-LLM, vLLM or "
    "SGLang, or that benchmarks it; with --disaggregated a manifest of both pools for Kubernetes "
    "or Dynamo.",
)
@output_option(
    "Picture of the ranking to write: .png, .pdf or .svg; with --emit or --disaggregated, file for "
    "what the command prints."
)
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
    draft_model: str | None,
    hardware: tuple[str, ...],
    precision: tuple[str, ...],
    tp: tuple[int, ...],
    pp: tuple[int, ...],
    dp_attention: tuple[int, ...],
    ep: tuple[int, ...],
    by: Any,
    price: tuple[str, ...],
    prices: Path | None,
    calibration: str | None,
    source: Path | None,
    every_layout: bool,
    top: int,
    front: bool,
    disaggregated: bool,
    transfer_bandwidth: float | None,
    emit: Any,
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
    **given: Any,
) -> int:
    """Rank deployments of a model under limits; exit status 1 if none meets them.

    The command sweeps servers with in-flight batching, or reads a result given by --from. With
    --request-rate requests arrive at random times and go to one of the replicas each; the answer
    is the fewest replicas that keep within the limits, and what requests wait at them. With
    --num-requests all requests of a run are sent at once, and the answer says how long it takes.
    Predictions are for TensorRT-LLM, or for the engine of --emit, unless --calibration names
    another calibration; accelerators on which it does not run are then predicted by the calibration
    of an engine that does.
    """
    asked = checked_axes(context.params)
    if source is None:
        leave_out_dask()
    from sweep.evaluation.load_ahead import loading_ahead
    from sweep.runs.jit_cache import use_compilation_cache

    use_compilation_cache()
    context.with_resource(loading_ahead("recommend", context.params))
    from sweep.decisions.choice import Choice, calibrations_of
    from sweep.decisions.deployments import Offer
    from sweep.decisions.prices import parse_prices, read_prices
    from sweep.decisions.recommend import Demand, Limits
    from sweep.engines.calibration_file import load_calibration
    from sweep.runs.open_results import open_results

    catalog = catalog_of(context, configs)
    choice = Choice(
        model,
        isl,
        osl,
        Offer(hardware, precision, tp, pp, dp_attention, ep),
        Demand(
            Limits(**{limit.name: given[limit.name] for limit in fields(Limits)}),
            by,
            **{load: given[load] for load in LOADS},
        ),
        prices=parse_prices(price),
        price_list={} if prices is None else read_prices(prices),
        requests_axes=asked,
        draft_model=draft_model,
        every_layout=every_layout,
    )
    if disaggregated:
        factors = load_calibration(calibration or ("vllm" if emit in MANIFESTS else PREDICTIONS))
        pools = Pools(choice, catalog, factors, transfer_bandwidth)
        with printing_into(output, force=force, as_json=as_json):
            return pools.emit(emit) if emit is not None else pools.show(top, as_json=as_json)
    if source is not None:
        with open_results(source) as dataset:
            found = choice.from_results(dataset, catalog)
    else:
        usual = emit if emit in PREDICTED_BY_THEIR_OWN else PREDICTIONS
        found = choice.by_sweep(catalog, *calibrations_of(calibration, usual))
    if emit is not None:
        with printing_into(output, force=force):
            return _emit(found, emit)
    if output is not None and len(found.ranked):
        from sweep.decisions.figures.front import front_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(front_figure(found), output, force=force)
    return _show(found, top, front=front, as_json=as_json)


def _show(found: "Recommendation", top: int, *, front: bool, as_json: bool) -> int:
    """Print a ranking with its notes."""
    from sweep.decisions import recommend_notes, recommend_text
    from sweep.decisions.throughput_elasticities import throughput_elasticities

    shown = found.ranked.head(top)
    elasticities = throughput_elasticities(found, shown)
    if as_json:
        click.echo(json.dumps(recommend_text.as_json(found, elasticities), indent=2))
    else:
        print_text(recommend_text.sentence(found))
        _print_ranks(found, shown, elasticities)
        if front:
            heading, points = recommend_text.front_shown(found.front)
            print_text(heading)
            _print_ranks(found, points)
        for note in recommend_notes.notes(found):
            print_text(f"({note})")
    return 0 if len(found.ranked) else CHECK_FAILED


def _emit(found: "Recommendation", target: Any) -> int:
    """Print the script of the first deployment; its refusal goes to standard error."""
    from sweep.decisions import recommend_text
    from sweep.decisions.launch_commands import launch_script
    from sweep.decisions.launch_settings import launch_settings

    if not len(found.ranked):
        click.echo(recommend_text.sentence(found), err=True)
        return CHECK_FAILED
    click.echo(launch_script(launch_settings(found), target))
    return 0


def _print_ranks(
    found: "Recommendation", frame: "pd.DataFrame", elasticities: Sequence[Mapping[str, float]] = ()
) -> None:
    """Print rows of an answer as a table, and in what they extrapolate."""
    from sweep.decisions import recommend_text

    rows = recommend_text.rows(found, frame, elasticities)
    if rows:
        print_rows(rows, as_json=False)
    for line in recommend_text.extrapolation_lines(frame):
        print_text(f"({line})")
