"""The command `llm-calibrate`. Heavy packages are imported inside the commands that need them."""

import json
from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.errors import SpecError, SweepError
from sweep.launch import launch

if TYPE_CHECKING:
    from calibration.dataset import Table
    from calibration.measurements import Measurement
    from sweep.fitted import FittedEfficiency

PROGRAM = "llm-calibrate"
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
configs_option = click.option(
    "--configs", multiple=True, type=click.Path(), help="Folder with further specifications."
)
select_option = click.option(
    "--select", default="", help="Rows to use, as in 'engine_version<=1.0.0 and tp==8'."
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Fill a column where a table or report leaves it empty, as in tp=8; what it states "
    "stands. May be repeated.",
)
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")


def main() -> None:
    """Run the command line; every expected error ends as one line on standard error."""
    launch(cli, PROGRAM)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="llm-sweep", prog_name=PROGRAM)
def cli() -> None:
    """Fit efficiency factors to measured throughputs, judge them, and predict with them."""


@cli.command()
@click.argument("measurements", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="NetCDF file.")
@click.option("--from", "prior", default="ideal", help="A calibration to start from as a prior.")
@click.option(
    "--free",
    multiple=True,
    metavar="FACTOR[,FACTOR…]",
    help="Fit only these and keep the rest at the prior's values: a factor with its deviations, "
    "'gemm[]' without them, or some, as in 'weight_bandwidth[hardware=*]'. May be repeated.",
)
@select_option
@set_option
@force_option
@configs_option
def fit(
    measurements: tuple[str, ...],
    output: Path,
    prior: str,
    free: tuple[str, ...],
    select: str,
    settings: tuple[str, ...],
    force: bool,
    configs: tuple[str, ...],
) -> None:
    """Fit factors to measurements, all unless --free names some.

    MEASUREMENTS are tables (CSV, Parquet, JSON, or a shipped table's name) and JSON reports of
    trtllm-bench, vllm bench serve, AIPerf and GenAI-Perf.
    """
    from time import perf_counter

    from sweep.fitted import load_efficiency
    from sweep.netcdf import check_writable

    if output.suffix != ".nc":
        raise click.BadParameter(f"{output}: must end in .nc", param_hint="--output")
    check_writable(output, force=force)
    check_writable(output.with_suffix(".yaml"), force=force)
    from calibration.parameters import split_patterns

    start_from = load_efficiency(prior)
    table, left_out = _table(measurements, select, settings, configs)
    from calibration.result import calibrate, save
    from sweep.compilation import use_compilation_cache

    use_compilation_cache()

    start = perf_counter()
    found = calibrate(
        table,
        name=output.stem,
        prior=start_from,
        suspects=left_out,
        free=split_patterns(free),
    )
    spent = perf_counter() - start
    twin = save(found, output, force=force)
    click.echo(
        f"{len(found.fit.fitted)} rows, {found.fit.design.free.sum()} parameters of which the rows "
        f"determine {found.fit.effective_parameters:.0f}, {found.fit.evaluations} evaluations, "
        f"{spent:.0f} s"
    )
    if left_out:
        click.echo(f"{left_out} suspect rows left out")
    for scenario, errors in found.fitted.provenance["errors_without_own_configuration"].items():
        click.echo(
            f"{scenario}: {errors['rows']} rows, without their own configuration "
            f"{errors['mape']:.1%} mean and {errors['median']:.1%} median error"
        )
    _say(found.fitted)
    click.echo(f"{output} and {twin}")


def _say(fitted: "FittedEfficiency") -> None:
    from calibration.judgement import sentences

    for sentence in sentences(fitted.factors, fitted.provenance):
        click.echo(sentence)


@cli.command()
@click.argument("fitted")
@click.option("--all", "everything", is_flag=True, help="Deviations too.")
@json_option
def show(fitted: str, everything: bool, as_json: bool) -> None:
    """Show what a fit found: values, errors, and what the rows say of each."""
    found = _load(fitted)
    rows = [{"factor": name, **_cells(figure)} for name, figure in sorted(found.factors.items())]
    if everything:
        rows += [
            {"factor": f"{factor}[{trait}={level}]", **_cells(figure)}
            for factor, traits in found.deviations.items()
            for trait, levels in traits.items()
            for level, figure in levels.items()
        ]
    if as_json:
        click.echo(json.dumps(found.model_dump(mode="json", exclude_none=True), indent=2))
        return
    click.echo(f"{found.name} {found.digest}: {found.engine} {found.engine_version}")
    _print_rows(rows, as_json=False)
    _say(found)


def _cells(figure: Any) -> dict[str, Any]:
    error = figure.standard_error or 0.0
    return {
        "value": f"{figure.value:.4g}",
        "90 % from": f"{figure.value * exp(-1.645 * error):.4g}",
        "to": f"{figure.value * exp(1.645 * error):.4g}",
        "verdict": figure.verdict,
    }


@cli.command()
@click.argument("measurements", nargs=-1, required=True)
@click.option(
    "--leave-out",
    multiple=True,
    type=click.Choice(["row", "model", "architecture", "family", "hardware", "version"]),
    default=["row"],
    show_default=True,
    help="What each refit does not see; row means a tenth of the configurations, version those "
    "from it on. May be repeated.",
)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["scenario", "hardware", "model", "engine_version"]),
    default=["scenario"],
    show_default=True,
    help="How to group the errors; may be repeated.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Report of all splits, Markdown."
)
@select_option
@set_option
@json_option
@force_option
@configs_option
def validate(
    measurements: tuple[str, ...],
    leave_out: tuple[str, ...],
    by: tuple[str, ...],
    output: Path | None,
    select: str,
    settings: tuple[str, ...],
    as_json: bool,
    force: bool,
    configs: tuple[str, ...],
) -> None:
    """Refit without a part of the rows, again and again, and predict that part.

    Doubtful rows are fitted, with a lower weight, and judge nothing.
    """
    import numpy as np

    from sweep.netcdf import check_writable, replacing

    if output is not None:
        check_writable(output, force=force)
    table, _ = _table(measurements, select, settings, configs)
    from calibration.accuracy import as_markdown, figures, judge
    from calibration.forward import Forward
    from sweep.compilation import use_compilation_cache
    from sweep.efficiency import FACTORS
    from sweep.progress import progress_bar

    use_compilation_cache()
    forward = Forward(table.groups, FACTORS)
    splits = []
    for what in dict.fromkeys(leave_out):
        with progress_bar(f"without each {what}") as progress:
            splits.append(judge(table, what, forward, progress))
    if output is not None:
        with replacing(output) as beside:
            beside.write_text(as_markdown(table, splits, _command()), encoding="utf-8")
    names = np.asarray(["|".join(str(getattr(r, field)) for field in by) for r in table.rows])
    whole = np.full(len(names), "all")
    found: list[dict[str, Any]] = [
        {
            "leave_out": one.leave_out,
            "groups": figures(table, one, names) + figures(table, one, whole),
        }
        for one in splits
    ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for split in found:
        click.echo(f"without its {split['leave_out']}")
        columns = dict.fromkeys(key for row in split["groups"] for key in row)
        shown = [
            _percentages({key: row.get(key, "") for key in columns}) for row in split["groups"]
        ]
        _print_rows(shown, as_json=False)
    if output is not None:
        click.echo(f"{output}")


def _command() -> str:
    """The command line that runs, for whoever wants to run it again."""
    import shlex
    import sys

    return shlex.join([PROGRAM, *sys.argv[1:]])


def _percentages(row: dict[str, Any]) -> dict[str, Any]:
    rank = row.get("spearman")
    shown = {**row, "spearman": f"{rank:.3f}"} if isinstance(rank, float) else row
    return {
        key: f"{value:.1%}" if isinstance(value, float) else value for key, value in shown.items()
    }


@cli.command()
@click.argument("fitted")
@click.argument("measurements")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV file.")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["scenario", "hardware", "model", "engine_version"]),
    default=["hardware", "engine_version"],
    show_default=True,
    help="How to group predicted over measured; may be repeated.",
)
@set_option
@force_option
@configs_option
def predict(
    fitted: str,
    measurements: str,
    output: Path | None,
    by: tuple[str, ...],
    settings: tuple[str, ...],
    force: bool,
    configs: tuple[str, ...],
) -> None:
    """Predict every row of a table or report with a fit, or with ideal rooflines.

    FITTED may be `ideal`; MEASUREMENTS is what `fit` takes.
    """
    import pandas as pd

    from calibration.dataset import tabulate
    from calibration.measurements import read_measurements
    from calibration.predictions import predictions
    from calibration.settings import read_settings
    from sweep.catalog import Catalog
    from sweep.fitted import load_efficiency
    from sweep.netcdf import check_writable, replacing

    if output is not None:
        check_writable(output, force=force)
    efficiency = load_efficiency(fitted)
    catalog = Catalog(configs)
    rows = read_measurements(
        measurements, need_value=False, settings=read_settings(settings), catalog=catalog
    )
    frame = predictions(tabulate(rows, catalog), efficiency)
    if output is not None:
        with replacing(output) as beside:
            frame.to_csv(beside, index=False)
        click.echo(f"{output}: {len(frame)} rows")
    known = frame[frame["value"].notna() & (frame["quality"] != "suspect")]
    if len(known) == 0:
        return
    ratio = known["predicted"] / known["value"]
    grouped = ratio.groupby([known[name] for name in by])
    table = pd.DataFrame(
        {
            "rows": grouped.size(),
            "lowest": grouped.min(),
            "median": grouped.median(),
            "highest": grouped.max(),
            "mean error": (ratio - 1).abs().groupby([known[name] for name in by]).mean(),
        }
    )
    click.echo("predicted over measured")
    _print_rows(
        [
            {**dict(zip(by, name if len(by) > 1 else (name,), strict=True)), **_ratios(figures)}
            for name, figures in zip(table.index.tolist(), table.to_dict("records"), strict=True)
        ],
        as_json=False,
    )


def _ratios(figures: Any) -> dict[str, Any]:
    return {
        "rows": int(figures["rows"]),
        **{name: f"{figures[name]:.2f}" for name in ("lowest", "median", "highest")},
        "mean error": f"{figures['mean error']:.1%}",
    }


@cli.command()
@click.argument("fitted", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Picture.")
@click.option(
    "--by",
    type=click.Choice(["hardware", "model", "engine_version"]),
    default="hardware",
    show_default=True,
    help="What to show errors by.",
)
@force_option
def plot(fitted: Path, output: Path, by: str, force: bool) -> None:
    """Draw predicted against measured, errors by group, and the factors with their errors."""
    from calibration.plots import draw
    from sweep.netcdf import check_writable, replacing

    check_writable(output, force=force)
    figure = draw(fitted, by=by)
    with replacing(output) as beside:
        figure.savefig(beside, dpi=150, format=output.suffix.removeprefix(".") or "png")
    click.echo(f"{output}")


def _load(name: str) -> "FittedEfficiency":
    from sweep.fitted import load_efficiency

    found = load_efficiency(name)
    if found is None:
        raise SpecError("ideal has no factors to show; every one is 1 or 0")
    return found


def _table(
    measurements: Sequence[str], select: str, settings: Sequence[str], configs: Sequence[str]
) -> "tuple[Table, int]":
    """The rows of several tables that a fit may use, and how many it must not."""
    from calibration.dataset import tabulate
    from calibration.measurements import read_measurements, without_suspects
    from calibration.settings import read_settings
    from sweep.catalog import Catalog

    catalog, filled = Catalog(configs), read_settings(settings)
    rows: list[Measurement] = []
    for path in measurements:
        rows += read_measurements(path, settings=filled, catalog=catalog)
    if select:
        rows = _selected(rows, select)
    kept, left_out = without_suspects(rows)
    if not kept:
        raise SpecError(f"no rows left to fit: {len(left_out)} are suspect")
    return tabulate(kept, catalog), len(left_out)


def _selected(rows: "list[Measurement]", select: str) -> "list[Measurement]":
    """The rows for which a comparison of their columns holds; versions compare as versions."""
    from calibration.selection import matches

    kept = [row for row in rows if matches(row, select)]
    if not kept:
        raise SpecError(f"--select: no row satisfies {select!r}")
    return kept


def _print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from sweep.options import print_rows

    try:
        print_rows(rows, as_json=as_json)
    except SweepError as error:
        raise SpecError(str(error)) from None
