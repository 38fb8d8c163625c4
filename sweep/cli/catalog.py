"""Commands that show the catalog: `list`, `show` and `roofline`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from sweep.cli.options import (
    HARDWARE,
    catalog_of,
    check_picture,
    configs_option,
    force_picture_option,
    json_option,
    picture_option,
    print_rows,
    to_file_option,
)
from sweep.cli.parameters import Name
from sweep.cli.print_tables import print_text
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.specs.catalog import Catalog
    from sweep.specs.folders import Kind

KINDS: "dict[str, Kind]" = {
    "hardware": "hardware",
    "models": "models",
    "precisions": "precisions",
    "sweeps": "sweeps",
    "calibrations": "calibrations",
}
VARIABLES = "variables"
"""Kind of the quantities that a sweep computes; no file has one."""
SINGULAR = {kind.removesuffix("s"): kind for kind in (*KINDS, VARIABLES)}


class KindType(click.Choice):  # type: ignore[type-arg]  # [str] needs click 8.4
    """Kind of entry, in the singular or the plural."""

    def __init__(self) -> None:
        """Accept all kinds."""
        super().__init__([*KINDS, VARIABLES])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the plural."""
        return str(super().convert(SINGULAR.get(value, value), param, ctx))


class EntryName(Name):
    """Name of an entry of the kind that was given before it."""

    def __init__(self) -> None:
        """Complete models until the kind is known."""
        super().__init__("models")

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of that kind."""
        kind = ctx.params.get("kind")
        if kind == VARIABLES:
            from sweep.schema.variables import VARIABLES as KNOWN

            return [CompletionItem(name) for name in KNOWN if name.startswith(incomplete.lower())]
        return Name(KINDS.get(kind or "", "models")).shell_complete(ctx, param, incomplete)


@click.command("list")
@to_file_option
@click.argument("kind", type=KindType())
@json_option
@configs_option
@click.pass_context
def list_command(
    context: click.Context, kind: str, as_json: bool, configs: tuple[str, ...]
) -> None:
    """List accelerators, models, precisions, sweeps, calibrations or variables."""
    from sweep.cli.catalog_tables import for_people

    rows = _rows_of(kind)(catalog_of(context, configs))
    print_rows(rows if as_json else for_people(rows), as_json=as_json)


def _rows_of(kind: str) -> "Callable[[Catalog], list[dict[str, Any]]]":
    from sweep.cli import catalog_tables

    return {
        "models": catalog_tables.model_rows,
        "hardware": catalog_tables.hardware_rows,
        "precisions": catalog_tables.precision_rows,
        "sweeps": catalog_tables.sweep_rows,
        "calibrations": catalog_tables.calibration_rows,
        "variables": catalog_tables.variable_rows,
    }[kind]


@click.command()
@to_file_option
@click.argument("kind", type=KindType())
@click.argument("name", required=False, type=EntryName())
@json_option
@configs_option
@click.pass_context
def show(
    context: click.Context,
    kind: str,
    name: str | None,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Show one entry with the source of each figure, or explain the fields of a kind.

    NAME may also be the path of a file. Without it the command explains what a file of this kind
    may contain, or lists the variables.
    """
    from sweep.cli import entries

    if name is None:
        print_rows(entries.fields_of(kind), as_json=as_json)
        return
    entry = entries.entry(kind, name, catalog_of(context, configs))
    if as_json:
        click.echo(json.dumps(entry.data, indent=2))
        return
    for line in entry.lines:
        print_text(line)
    print_rows(entry.rows, as_json=False)


@click.command()
@click.argument("hardware", nargs=-1, required=True, type=HARDWARE)
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
    from sweep.cli.catalog_tables import in_readable_units, ridge_rows

    check_picture(output, force=force)
    catalog = catalog_of(context, configs)
    names = [name for text in hardware for name in text.split(",") if name]
    specs = [catalog.hardware(name) for name in names]
    if not specs:
        raise SweepError("HARDWARE: give one accelerator or more")
    rows = ridge_rows(specs, dtype)
    shown = rows if as_json else in_readable_units(rows)
    if output is not None:
        from sweep.decisions.figures.rooflines import roofline_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(roofline_figure(specs, dtype, linear=linear), output, force=force)
    print_rows(shown, as_json=as_json)
