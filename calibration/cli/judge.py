"""Commands that predict measurements: `validate` after leaving them out, `predict` any rows."""

import json
from pathlib import Path
from typing import Any

import click

from calibration.cli.options import (
    PROGRAM,
    configs_option,
    force_option,
    json_option,
    read_table,
    say_of_rows,
    select_option,
    selected,
    set_option,
    start_option,
)
from sweep.cli.options import (
    CALIBRATION,
    PATH,
    check_name,
    check_picture,
    output_option,
    print_rows,
)
from sweep.cli.parameters import Listed
from sweep.cli.print_tables import print_text


@click.command()
@click.argument("measurements", nargs=-1, required=True)
@click.option(
    "--leave-out",
    cls=Listed,
    type=click.Choice(["row", "half", "model", "architecture", "family", "hardware", "version"]),
    default=["row"],
    show_default=True,
    help="Group that each refit leaves out: row a tenth of the configurations, half half of "
    "those of served runs, version that version and all later ones.",
)
@click.option(
    "--by",
    cls=Listed,
    type=click.Choice(["scenario", "kind", "half", "hardware", "model", "engine_version"]),
    default=["scenario"],
    show_default=True,
    help="Columns to group errors by; kind is the engine, the figure, and dense or mixture, half "
    "that of --leave-out half.",
)
@click.option(
    "--linearised",
    is_flag=True,
    help="Leave rows out of one fit, linearised at its optimum, in place of refits: seconds in "
    "place of hours, with errors that are too small by a tenth or more. Later versions then remain "
    "in the fit.",
)
@click.option(
    "--ratios",
    is_flag=True,
    help="Print the coverage of the intervals of ratios of two accelerators in place of errors; "
    "needs --linearised.",
)
@start_option
@output_option("Report of all splits, in Markdown.")
@select_option
@set_option
@json_option
@force_option
@configs_option
@click.pass_context
def validate(
    context: click.Context,
    /,
    measurements: tuple[str, ...],
    leave_out: tuple[str, ...],
    by: tuple[str, ...],
    linearised: bool,
    ratios: bool,
    start: str,
    output: Path | None,
    select: str,
    settings: tuple[str, ...],
    as_json: bool,
    force: bool,
    configs: tuple[str, ...],
) -> None:
    """Refit without each group of rows in turn, and predict the rows left out.

    Doubtful rows are fitted with a lower weight and do not count in the errors.
    """
    import numpy as np

    from sweep.files.atomic import check_writable, replacing

    if ratios and (not linearised or output is not None):
        raise click.UsageError("--ratios needs --linearised, and prints its table; leave -o out")
    for name in ("leave_out", "by"):
        if ratios and context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(
                f"--ratios leaves out questions and accelerators; leave --{name.replace('_', '-')} "
                "out"
            )
    if output is not None:
        check_name(output, "the report is Markdown, whose name ends in .md", {".md", ".txt"})
        check_writable(output, force=force)
    from sweep.engines.calibration_file import load_calibration

    start_from = load_calibration(start)
    table, divided = read_table(measurements, select, settings, configs)
    from calibration.calibrate import STARTS, centres_of
    from calibration.fit.forward import Forward
    from calibration.fit.parameters import design, priors_of
    from calibration.validation.accuracy_report import HEADINGS, as_markdown, figures, judge, kinds
    from calibration.validation.held_out import Refits
    from calibration.validation.ratio_coverage import ratio_coverage
    from sweep.kernel.factors import FACTORS
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.runs.progress import progress_bar

    use_compilation_cache()
    centres = centres_of(start_from) if start_from else None
    layout = design(table.traits, priors=priors_of(table.figures), centres=centres)
    refits = Refits(table, Forward(table.groups, FACTORS), layout, start_from)
    # The fit that `llm-calibrate fit` makes of these rows, not another of its minima.
    fit = refits.fit(refits.usable, starts=STARTS) if linearised else None
    if ratios and fit is not None:
        _print_ratios(ratio_coverage(table, fit), as_json=as_json)
        return
    splits = []
    for what in dict.fromkeys(leave_out):
        with progress_bar(f"without each {what}") as progress:
            splits.append(judge(refits, what, progress, fit=fit))
    if output is not None:
        with replacing(output, force=force) as beside:
            beside.write_text(as_markdown(table, splits, _command()), encoding="utf-8")
    derived = {"kind": kinds(table), "half": table.labels("half")}
    labels = [
        derived[field] if field in derived else [getattr(row, field) for row in table.rows]
        for field in by
    ]
    names = np.asarray(["|".join(map(str, of_row)) for of_row in zip(*labels, strict=True)])
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
    say_of_rows(divided, weighed=False)
    for split in found:
        click.echo(f"without its {split['leave_out']}")
        columns = dict.fromkeys(key for row in split["groups"] for key in row)
        shown = [
            _percentages({key: row.get(key, "") for key in columns}) for row in split["groups"]
        ]
        named = [{HEADINGS.get(key, key): value for key, value in row.items()} for row in shown]
        print_rows(named, as_json=False)
    if output is not None:
        click.echo(f"{output}")


def _print_ratios(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        print_rows([_percentages(row) for row in rows], as_json=False)
    else:
        print_text("no engine has enough pairs of accelerators that answer the same question")


def _command() -> str:
    """The command line of this process, to repeat the report."""
    import shlex
    import sys

    return shlex.join([PROGRAM, *sys.argv[1:]])


def _percentages(row: dict[str, Any]) -> dict[str, Any]:
    rank = row.get("spearman")
    shown = {**row, "spearman": f"{rank:.3f}"} if isinstance(rank, float) else row
    return {
        key: f"{value:.1%}" if isinstance(value, float) else value for key, value in shown.items()
    }


@click.command()
@click.argument("name", metavar="CALIBRATION", type=CALIBRATION)
@click.argument("measurements", nargs=-1, required=True)
@output_option("CSV file.")
@click.option(
    "--picture",
    type=PATH,
    metavar="FILE",
    help="Picture of predicted against measured by metric: .png, .pdf or .svg.",
)
@click.option(
    "--by",
    cls=Listed,
    type=click.Choice(["scenario", "hardware", "model", "engine_version"]),
    default=["hardware", "engine_version"],
    show_default=True,
    help="Columns to group ratios of predicted to measured by.",
)
@select_option
@set_option
@json_option
@force_option
@configs_option
def predict(
    name: str,
    measurements: tuple[str, ...],
    output: Path | None,
    picture: Path | None,
    by: tuple[str, ...],
    select: str,
    settings: tuple[str, ...],
    as_json: bool,
    force: bool,
    configs: tuple[str, ...],
) -> None:
    """Predict every row of tables and reports by a calibration, or by ideal rooflines.

    CALIBRATION is a name, a file, or `ideal`; MEASUREMENTS are as for `fit`. Prints what was
    measured beside what is predicted, by metric.
    """
    from calibration.cli.print_predictions import print_predictions, records_of
    from calibration.fit.capacity import doubt_overfull
    from calibration.fit.table import tabulate
    from calibration.measurements.column_defaults import read_settings
    from calibration.measurements.table import read_files
    from calibration.validation.predictions import predictions
    from sweep.engines.calibration_file import IDEAL_NAME, load_calibration
    from sweep.files.atomic import check_writable, replacing
    from sweep.files.tables import without_formulas
    from sweep.runs.jit_cache import use_compilation_cache
    from sweep.specs.catalog import Catalog

    if output is not None:
        what = "the table is CSV, whose name ends in .csv; --picture draws"
        check_name(output, what, {".csv", ".txt"})
        check_writable(output, force=force)
    check_picture(picture, force=force)
    use_compilation_cache()
    calibration = load_calibration(name)
    catalog = Catalog(configs)
    rows = read_files(
        measurements, need_value=False, settings=read_settings(settings), catalog=catalog
    )
    rows = doubt_overfull(selected(rows, select), catalog)
    frame = predictions(tabulate(rows, catalog), calibration)
    if output is not None:
        with replacing(output, force=force) as beside:
            without_formulas(frame).to_csv(beside, index=False)
        click.echo(f"{output}: {len(frame)} rows", err=as_json)
    if picture is not None:
        from calibration.figures import draw_predictions

        figure = draw_predictions(frame, IDEAL_NAME if calibration is None else calibration.name)
        with replacing(picture, force=force) as beside:
            figure.savefig(beside, dpi=150, format=picture.suffix.removeprefix("."))
        click.echo(f"{picture}", err=as_json)
    if as_json:
        print_rows(records_of(frame), as_json=True)
        return
    print_predictions(frame, by)
