"""Commands that convert and reduce results: `merge`, `export` and `reduce`.

Heavy packages are imported inside the commands that need them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sweep.cli.options import select_option

if TYPE_CHECKING:
    from sweep.files.encoding import Storage
    from sweep.queries.reduction_request import ReductionRequest

Command = TypeVar("Command", bound=Callable[..., Any])

source_argument = click.argument("source", type=click.Path(path_type=Path))
output_argument = click.argument("output", type=click.Path(path_type=Path))
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")
ZSTD_CAVEAT = (
    "reading zstd requires netCDF-C 4.9 or newer and the zstd plugin of HDF5; the file is written "
    "without shuffle"
)


def storage_options(command: Command) -> Command:
    """Options for the storage of values."""
    for option in (
        click.option(
            "--significant-digits",
            "digits",
            type=click.IntRange(1, 15),
            help="Significant decimal digits to round quantities to. Default: no rounding.",
        ),
        click.option(
            "--level",
            type=click.IntRange(1, 9),
            default=1,
            show_default=True,
            help="Compression effort.",
        ),
        click.option(
            "--compression",
            type=click.Choice(["none", "zlib", "zstd"]),
            default="zlib",
            show_default=True,
            help="Compression method.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@source_argument
@output_argument
@storage_options
@force_option
def merge(
    source: Path, output: Path, compression: Any, level: int, digits: int | None, force: bool
) -> None:
    """Write a result of any size as one compressed NetCDF file."""
    if output.suffix != ".nc":
        raise click.UsageError(f"{output}: merge writes NetCDF; the name must end in .nc")
    _export(source, output, _storage(output, compression, level, digits), force, (), ())


@click.command()
@source_argument
@output_argument
@select_option
@click.option(
    "--variables", metavar="NAMES", help="Variables to keep, separated by commas. Default: all."
)
@storage_options
@force_option
def export(
    source: Path,
    output: Path,
    select: tuple[str, ...],
    variables: str | None,
    compression: Any,
    level: int,
    digits: int | None,
    force: bool,
) -> None:
    """Write a result, or part of it, as .nc, .zarr, .parquet or .csv."""
    storage = _storage(output, compression, level, digits)
    _export(source, output, storage, force, select, _names(variables) or ())


def question_options(*, required: bool) -> Callable[[Command], Command]:
    """Options of a reduction."""
    options = (
        click.option(
            "--per",
            metavar="AXES",
            help="Axes, separated by commas; one extreme or front for each of their values.",
        ),
        click.option(
            "--by",
            help="Variable that must be best, or whose quantiles are taken. Default: the first "
            "throughput, else the first time.",
        ),
        click.option(
            "--where",
            default="",
            metavar="CONSTRAINTS",
            help="Constraints on a cell, such as 'ttft<0.5 and feasible'. Default: none.",
        ),
        click.option(
            "--reduce",
            "asked",
            required=required,
            metavar="WHAT",
            help="Reduction: best:AXES, argmax:VARIABLE, argmin:VARIABLE, pareto:VARIABLES or "
            "quantile:LEVELS:AXES.",
        ),
    )

    def decorated(command: Command) -> Command:
        for option in options:
            command = option(command)
        return command

    return decorated


def question(
    asked: str | None, where: str, by: str | None, per: str | None
) -> "ReductionRequest | None":
    """The reduction that these options describe, if any.

    Raises:
        UsageError: --where, --by or --per is given without --reduce.
    """
    from sweep.queries.reduction_request import ReductionRequest

    if asked is None:
        if where or by or per:
            raise click.UsageError("--where, --by and --per require --reduce")
        return None
    names = _names(per)
    return ReductionRequest(
        text=asked, where=where, by=by, per=None if names is None else list(names)
    )


@click.command()
@source_argument
@output_argument
@question_options(required=True)
@select_option
@force_option
def reduce(
    source: Path,
    output: Path,
    asked: str,
    where: str,
    by: str | None,
    per: str | None,
    select: tuple[str, ...],
    force: bool,
) -> None:
    """Reduce a large result to a small file.

    best:AXES finds the best cell over these axes, for each cell of the other axes.
    argmax:VARIABLE and argmin:VARIABLE find one cell of the whole grid, or one for each value of
    --per. pareto:VARIABLES finds the Pareto front of these variables, for each model or each value
    of --per. quantile:SHARES:AXES computes quantiles, shares from 0 to 1, over these axes.
    """
    from sweep.files.atomic import check_writable
    from sweep.files.netcdf import write_netcdf
    from sweep.queries.reduction_request import reduce as reduce_result
    from sweep.queries.select import subset
    from sweep.runs.open_results import open_results
    from sweep.runs.progress import progress_bar

    check_writable(output, force=force)
    with open_results(source) as dataset, progress_bar("reducing") as progress:
        reduced = reduce_result(
            subset(dataset, select=select),
            asked,
            where=where,
            by=by,
            per=_names(per),
            progress=progress,
        )
    write_netcdf(reduced, output, force=force)
    _print_size(output, dict(reduced.sizes), reduced.nbytes)


def _storage(output: Path, compression: Any, level: int, digits: int | None) -> "Storage":
    from sweep.files.encoding import Storage

    if compression == "zstd" and output.suffix == ".nc":
        click.echo(f"{output}: {ZSTD_CAVEAT}", err=True)
    return Storage(compression, level, digits)


def _export(
    source: Path,
    output: Path,
    storage: "Storage",
    force: bool,
    select: tuple[str, ...],
    variables: tuple[str, ...],
) -> None:
    from sweep.files.export import export as export_dataset
    from sweep.queries.select import subset
    from sweep.runs.open_results import open_results
    from sweep.runs.progress import progress_bar

    with open_results(source) as dataset:
        part = subset(dataset, select=select, variables=variables)
        with progress_bar("writing") as progress:
            export_dataset(part, output, storage, force=force, progress=progress)
        _print_size(output, dict(part.sizes), part.nbytes)


def _print_size(output: Path, sizes: dict[Any, int], size: int) -> None:
    axes = " × ".join(f"{size} {axis}" for axis, size in sizes.items())
    click.echo(f"{output}: {axes or 'one cell'}, {size:,} bytes before compression")


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(","))
