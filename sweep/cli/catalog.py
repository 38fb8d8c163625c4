"""Commands that show the catalog: `list`, `show` and `roofline`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.options import (
    catalog_of,
    check_picture,
    configs_option,
    force_picture_option,
    json_option,
    picture_option,
    print_rows,
)

if TYPE_CHECKING:
    from sweep.specs.catalog import Catalog


@click.command("list")
@click.argument("kind", type=click.Choice(["hardware", "models", "precisions", "sweeps"]))
@json_option
@configs_option
@click.pass_context
def list_command(
    context: click.Context, kind: str, as_json: bool, configs: tuple[str, ...]
) -> None:
    """List the entries of the catalog."""
    print_rows(_rows_of(kind)(catalog_of(context, configs)), as_json=as_json)


def _rows_of(kind: str) -> "Callable[[Catalog], list[dict[str, Any]]]":
    from sweep.cli import catalog_tables

    return {
        "models": catalog_tables.model_rows,
        "hardware": catalog_tables.hardware_rows,
        "precisions": catalog_tables.precision_rows,
        "sweeps": catalog_tables.sweep_rows,
    }[kind]


@click.group()
def show() -> None:
    """Show an accelerator or a model, with the source of each figure."""


@show.command("hardware")
@click.argument("name")
@json_option
@configs_option
@click.pass_context
def show_hardware(
    context: click.Context, name: str, as_json: bool, configs: tuple[str, ...]
) -> None:
    """Show an accelerator by name, or the specification at a path."""
    from sweep.cli.catalog_tables import figure_rows

    spec = catalog_of(context, configs).hardware(name)
    if as_json:
        click.echo(json.dumps(spec.model_dump(mode="json", by_alias=True), indent=2))
        return
    known = (spec.product, spec.form_factor, spec.year)
    click.echo(", ".join([f"{spec.name}: {spec.vendor}", *(str(what) for what in known if what)]))
    click.echo(f"confidence: {spec.confidence}. {spec.note}".strip())
    print_rows(figure_rows(spec), as_json=False)


@show.command("model")
@click.argument("name")
@json_option
@configs_option
@click.pass_context
def show_model(context: click.Context, name: str, as_json: bool, configs: tuple[str, ...]) -> None:
    """Show a model by name, or the config.json at a path."""
    from sweep.cli.catalog_tables import model_summary

    summary = model_summary(catalog_of(context, configs).model(name))
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    rows = [{"": key.replace("_", " "), "value": value} for key, value in summary.items()]
    print_rows(rows, as_json=False)


@click.command()
@click.argument("hardware", nargs=-1, required=True)
@click.option(
    "--dtype",
    default="half",
    show_default=True,
    help="Operand type of the peak rates; half is fp16 or bf16.",
)
@click.option("--linear", is_flag=True, help="Draw linear axes instead of logarithmic ones.")
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
    """Print the ridge points of accelerators, and draw their rooflines."""
    from sweep.cli.catalog_tables import ridge_rows

    check_picture(output, force=force)
    catalog = catalog_of(context, configs)
    specs = [catalog.hardware(name) for name in hardware]
    rows = ridge_rows(specs, dtype)
    if output is not None:
        from sweep.decisions.figures.rooflines import roofline_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(roofline_figure(specs, dtype, linear=linear), output, force=force)
    print_rows(rows, as_json=as_json)
