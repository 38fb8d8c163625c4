"""Commands that fit factors and show the result."""

import json
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.options import (
    CALIBRATION,
    PATH,
    check_picture,
    listed,
    output_option,
    print_rows,
    to_file_option,
)
from sweep.cli.print_tables import print_text

if TYPE_CHECKING:
    from sweep.engines.calibration_file import Calibration
from calibration.cli.options import (
    configs_option,
    force_option,
    json_option,
    load,
    read_table,
    say_of_rows,
    select_option,
    set_option,
    start_option,
)

OUTLIER = "outliers, by more than 10 × the noise"
"""Reason for which a fit itself excludes rows."""
IMPOSSIBLE = "the formulas have no figure, as of a model that does not fit in memory"
"""The same of rows that no factors explain."""


@click.command()
@click.argument("measurements", nargs=-1, required=True)
@output_option("NetCDF file.", required=True)
@start_option
@listed(
    "--free",
    str,
    "Fit only these factors and keep the others at the values of --calibration. A name means the "
    "factor and its deviations, 'gemm[]' the factor alone, 'weight_bandwidth[hardware=*]' its "
    "deviations by accelerator. Default: all.",
    metavar="FACTORS",
)
@click.option(
    "--each-engine",
    is_flag=True,
    help="Also write ENGINE.yaml beside the output for each engine of the rows, with intervals "
    "from its own.",
)
@select_option
@set_option
@force_option
@configs_option
def fit(
    measurements: tuple[str, ...],
    output: Path,
    start: str,
    free: tuple[str, ...],
    each_engine: bool,
    select: str,
    settings: tuple[str, ...],
    force: bool,
    configs: tuple[str, ...],
) -> None:
    """Fit factors to measurements.

    MEASUREMENTS are tables (CSV, Parquet, JSON, or a shipped table's name) and JSON reports of
    trtllm-bench, vllm bench serve and its sweeps, SGLang bench_serving, AIPerf, GenAI-Perf,
    GuideLLM, inference-perf, LLMPerf and InferenceX.
    """
    from time import perf_counter

    from sweep.engines.calibration_file import load_calibration
    from sweep.files.atomic import check_writable

    if output.suffix != ".nc":
        raise click.BadParameter(f"{output}: must end in .nc", param_hint="--output")
    check_writable(output, force=force)
    check_writable(output.with_suffix(".yaml"), force=force)
    from calibration.fit.parameters import split_patterns

    start_from = load_calibration(start)
    table, divided = read_table(measurements, select, settings, configs)
    from calibration.calibrate import calibrate, of_each_engine
    from calibration.files import save, save_each
    from calibration.measurements.exclusions import sentences_about
    from sweep.runs.jit_cache import use_compilation_cache

    use_compilation_cache()

    begun = perf_counter()
    result = calibrate(
        table,
        name=output.stem,
        start_from=start_from,
        suspects=len(divided.left_out),
        free=split_patterns(free),
    )
    spent = perf_counter() - begun
    twin = save(result, output, force=force)
    fit, calibration = result.fit, result.calibration
    print_text(
        f"{_counted(len(fit.fitted), 'row')}, "
        f"{_counted(fit.design.free.sum(), 'parameter')} of which the rows "
        f"determine {fit.effective_parameters:.0f}, {fit.evaluations} evaluations, "
        f"{spent:.0f} s"
    )
    say_of_rows(divided)
    outliers = [(table.rows[index], OUTLIER) for index in fit.set_aside]
    kept = set(fit.fitted.tolist())
    outliers += [(row, IMPOSSIBLE) for i, row in enumerate(table.rows) if i not in kept]
    for line in sentences_about("excluded", outliers):
        print_text(line)
    for scenario, errors in calibration.provenance["errors_without_own_configuration"].items():
        print_text(
            f"{scenario}: {_counted(errors['rows'], 'row')}, without their own configuration "
            f"{errors['mape']:.1%} mean and {errors['median']:.1%} median error"
        )
    _say(calibration)
    click.echo(f"{output} and {twin}")
    if each_engine:
        for file in save_each(of_each_engine(result), output.parent, force=force):
            click.echo(f"{file}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _say(calibration: "Calibration") -> None:
    from calibration.fit.verdicts import sentences

    for sentence in sentences(calibration.factors, calibration.provenance):
        print_text(sentence)


@click.command()
@to_file_option
@click.argument("name", metavar="CALIBRATION", type=CALIBRATION)
@click.option("--all", "everything", is_flag=True, help="Show deviations too.")
@json_option
def show(name: str, everything: bool, as_json: bool) -> None:
    """Show the factors of a calibration: values, errors, verdicts, and the rows that drove them."""
    found = load(name)
    driven = found.provenance.get("rows_that_drive", {})
    rows = [
        {"factor": factor, **_cells(figure), "driven by": _drivers(driven.get(factor, {}))}
        for factor, figure in sorted(found.factors.items())
    ]
    if everything:
        rows += [
            {"factor": f"{factor}[{trait}={level}]", **_cells(figure), "driven by": ""}
            for factor, traits in found.deviations.items()
            for trait, levels in traits.items()
            for level, figure in levels.items()
        ]
    if as_json:
        click.echo(json.dumps(found.model_dump(mode="json", exclude_none=True), indent=2))
        return
    click.echo(f"{found.name} {found.digest}: {found.engine} {found.engine_version}")
    print_rows(rows, as_json=False)
    _say(found)


def _drivers(shares: dict[str, float]) -> str:
    """Kinds of rows and their shares of what the rows say about a factor."""
    return ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())


def _cells(figure: Any) -> dict[str, Any]:
    error = figure.standard_error or 0.0
    return {
        "value": f"{figure.value:.4g}",
        "90 % from": f"{figure.value * exp(-1.645 * error):.4g}",
        "to": f"{figure.value * exp(1.645 * error):.4g}",
        "verdict": figure.verdict,
    }


@click.command()
@click.argument("path", metavar="FILE", type=PATH)
@output_option("Picture to write: .png, .pdf or .svg.", required=True)
@click.option(
    "--by",
    type=click.Choice(["hardware", "model", "engine_version"]),
    default="hardware",
    show_default=True,
    help="Column to show errors by.",
)
@force_option
def plot(path: Path, output: Path, by: str, force: bool) -> None:
    """Draw predicted against measured, errors by group, and the factors with their errors."""
    check_picture(output, force=force)
    from calibration.figures import draw
    from sweep.decisions.figures.style import save_figure

    save_figure(draw(path, by=by), output, force=force)
    click.echo(f"{output}")
