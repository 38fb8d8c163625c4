"""Options, catalog and tables that several commands share.

An option has one spelling and one meaning in all commands. Those that take several values take them
repeated, separated by commas, or both. Heavy packages are imported inside the functions that need
them.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import wraps
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sweep.cli.parameters import Count, Listed, Name, Option, Pairs, Quantity
from sweep.cli.print_tables import print_table, print_text

if TYPE_CHECKING:
    from sweep.decisions.comparison import Comparison
    from sweep.specs.catalog import Catalog

F = TypeVar("F", bound=Callable[..., Any])

PROGRAM = "llm-sweep"
BOUNDS = "ideal"
"""Default calibration of questions about the hardware: `plan`, `run` and `explain` give bounds."""
PICTURES = (".png", ".pdf", ".svg")
"""Endings of names of pictures."""
PATH = click.Path(path_type=Path)
COUNT, POSITIVE = Count(), Quantity()
TEXTS = {".md", ".txt", ".yaml", ".yml"}
NAMED = {
    *(".csv", ".htm", ".html", ".jpeg", ".jpg", ".json", ".nc", ".parquet", ".tsv", ".xlsx"),
    *(".zarr", *PICTURES, *TEXTS),
}
"""Suffixes that say what a file contains."""
MODEL, HARDWARE = Name("models"), Name("hardware")
PRECISION, SWEEP = Name("precisions", also=["checkpoint"]), Name("sweeps")
CALIBRATION = Name("calibrations", also=[BOUNDS])
MODEL_HELP = "Model: name, Hugging Face identifier, or path of a config.json or its folder."

configs_option = click.option(
    "--configs",
    "configs",
    cls=Listed,
    type=click.Path(),
    metavar="FOLDERS",
    help="Folders with more hardware/, models/, precisions/ and sweeps/.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")
force_picture_option = force_option
picture_option = click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FILE",
    help="Picture to write: .png, .pdf or .svg.",
)
select_option = click.option(
    "--select",
    cls=Pairs,
    metavar="AXIS=VALUES",
    help="Values to keep along axes: model=llama-3.1-8b,mixtral-8x7b or batch_size=1:64, both "
    "ends included.",
)
file_argument = click.argument("file", metavar="FILE", type=PATH)


def output_option(what: str, *, required: bool = False) -> Callable[[F], F]:
    """Option for the file that a command writes."""
    return click.option("-o", "--output", required=required, type=PATH, metavar="FILE", help=what)


@contextmanager
def printing_into(output: Path | None, *, force: bool, as_json: bool = False) -> Iterator[None]:
    """Write what is printed on standard output to a file, if one is named and anything is."""
    if output is None:
        yield
        return
    from sweep.files.atomic import replacing

    check_text(output, force=force, as_json=as_json)
    # Libraries replace a standard output without an encoding, as a `StringIO` is.
    printed = TextIOWrapper(BytesIO(), encoding="utf-8", newline="")
    with redirect_stdout(printed):
        yield
    printed.seek(0)
    text = printed.read()
    if text:
        with replacing(output, force=force) as new:
            new.write_text(text, encoding="utf-8")
        click.echo(f"{output}: written")


def to_file_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Option for a file that takes all that a command prints on standard output."""

    @output_option("File for what the command prints.")
    @force_option
    @wraps(command)
    def printed(*context: click.Context, output: Path | None, force: bool, **given: Any) -> Any:
        with printing_into(output, force=force, as_json=given.get("as_json", False)):
            return command(*context, **given)

    return printed


def calibration_option(default: str | None, *, text: str | None = None) -> Callable[[F], F]:
    """Option for the calibration of a question; `--efficiency` is its former name."""
    return click.option(
        "--calibration",
        cls=Option,
        former=["--efficiency"],
        type=CALIBRATION,
        metavar="NAME",
        default=default,
        show_default=default is not None,
        help=text
        or "Calibration: ideal for bounds, a shipped one such as tensorrt-llm, or a file.",
    )


def listed(name: str, kind: Any, text: str, **keys: Any) -> Callable[[F], F]:
    """Option for several values: repeated, or separated by commas."""
    return click.option(name, cls=Listed, type=kind, help=text, **keys)


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

    if output.suffix not in PICTURES:
        raise click.UsageError(f"{output}: the name of a picture must end in .png, .pdf or .svg")
    check_writable(output, force=force)


def output_of(positional: Path | None, output: Path | None) -> Path:
    """The file to write, given by `-o` or after the file to read.

    Raises:
        UsageError: It is given twice or not at all.
    """
    given = [path for path in (positional, output) if path is not None]
    if len(given) != 1:
        raise click.UsageError("give one file to write, by -o FILE")
    return given[0]


def check_name(output: Path, what: str, allowed: Iterable[str]) -> None:
    """Refuse a name whose suffix says another kind of file than the one that is written.

    Args:
        output: The file to write.
        what: Its kind, for the message.
        allowed: Suffixes of that kind, beside those that say nothing.

    Raises:
        UsageError: The suffix is that of another kind.
    """
    if output.suffix.lower() in NAMED.difference(allowed):
        raise click.UsageError(f"{output}: {what}")


def check_text(output: Path, *, force: bool, as_json: bool) -> None:
    """Check that a text, or JSON, can be written, before anything is computed for it.

    Raises:
        UsageError: Its name ends as that of another kind of file.
        ResultError: It exists or cannot be written.
    """
    from sweep.files.atomic import check_writable

    what = "JSON, whose name ends in .json" if as_json else "text, whose name ends in .txt"
    check_name(output, f"what is printed is {what}", {".json", ".txt"} if as_json else TEXTS)
    check_writable(output, force=force)


def check_result_name(output: Path) -> None:
    """Refuse a name that ends as another kind of file than a result.

    Raises:
        UsageError: It ends as a table, a picture or a page does.
    """
    what = "a result is NetCDF, whose name ends in .nc; export and report write others"
    check_name(output, what, {".nc"})


def print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    print_table(rows)


def print_comparisons(comparisons: "Sequence[Sequence[Comparison]]", *, as_json: bool) -> None:
    """Print the sentence of each comparison, or all as JSON."""
    flat = [comparison for row in comparisons for comparison in row]
    if as_json:
        answers = [{"model": c.model, "variable": c.variable, "answer": c.sentence()} for c in flat]
        click.echo(json.dumps(answers, indent=2))
        return
    for comparison in flat:
        print_text(comparison.sentence())
