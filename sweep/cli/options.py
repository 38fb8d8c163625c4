"""Options, catalog and tables that several commands of `llm-sweep` share.

Heavy packages are imported inside the functions that need them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sweep.decisions.compare import Comparison
    from sweep.specs.catalog import Catalog

PROGRAM = "llm-sweep"

configs_option = click.option(
    "--configs",
    "configs",
    multiple=True,
    type=click.Path(),
    help="Folder with more hardware/, models/, precisions/ and sweeps/; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
force_picture_option = click.option("--force", is_flag=True, help="Replace an existing picture.")
picture_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Picture to write: .png, .pdf or .svg."
)
select_option = click.option(
    "--select",
    multiple=True,
    metavar="AXIS=VALUES",
    help="Values to keep along an axis: model=llama-3.1-8b,mixtral-8x7b or batch_size=1:64, both "
    "ends included. Repeat for more axes.",
)


def catalog_of(context: click.Context, configs: tuple[str, ...]) -> "Catalog":
    """The catalog of the folders given to the command and to the program."""
    from sweep.specs.catalog import Catalog

    return Catalog([*configs, *context.obj])


def check_picture(output: Path | None, *, force: bool) -> None:
    """Check that a picture can be written, before anything is computed for it.

    Raises:
        UsageError: Its name has another ending than .png, .pdf or .svg.
        ResultError: It exists or cannot be written.
    """
    if output is None:
        return
    from sweep.files.atomic import check_writable

    if output.suffix not in (".png", ".pdf", ".svg"):
        raise click.UsageError(f"{output}: the name of a picture must end in .png, .pdf or .svg")
    check_writable(output, force=force)


def print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from sweep.cli.print_tables import print_table

    print_table(rows)


def print_comparisons(comparisons: "Sequence[Sequence[Comparison]]", *, as_json: bool) -> None:
    """Print the sentence of each comparison, or all as JSON."""
    flat = [comparison for row in comparisons for comparison in row]
    if as_json:
        answers = [{"model": c.model, "variable": c.variable, "answer": c.sentence()} for c in flat]
        click.echo(json.dumps(answers, indent=2))
        return
    for comparison in flat:
        click.echo(comparison.sentence())
