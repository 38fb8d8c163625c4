"""Commands that convert and reduce results: `merge`, `export` and `reduce`.

Heavy packages are imported inside the commands that need them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sweep.cli.options import (
    check_result_name,
    file_argument,
    force_option,
    listed,
    output_of,
    output_option,
    select_option,
)
from sweep.cli.parameters import Constraints
from sweep.cli.print_tables import print_text

if TYPE_CHECKING:
    from sweep.files.encoding import Storage
    from sweep.queries.reduction_request import ReductionRequest

Command = TypeVar("Command", bound=Callable[..., Any])

positional_argument = click.argument(
    "positional", metavar="[OUTPUT]", required=False, type=click.Path(path_type=Path)
)
"""The file to write, which may also be given by `-o`."""
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
@file_argument
@positional_argument
@output_option("NetCDF file to write.")
@storage_options
@force_option
def merge(
    file: Path,
    positional: Path | None,
    output: Path | None,
    compression: Any,
    level: int,
    digits: int | None,
    force: bool,
) -> None:
    """Write a result of any size as one compressed NetCDF file."""
    output = output_of(positional, output)
    if output.suffix != ".nc":
        raise click.UsageError(f"{output}: merge writes NetCDF; the name must end in .nc")
    _export(file, output, _storage(output, compression, level, digits), force, (), ())


@click.command()
@file_argument
@positional_argument
@output_option("File to write: .nc, .zarr, .parquet or .csv.")
@select_option
@listed("--variables", str, "Variables to keep. Default: all.", metavar="NAMES")
@storage_options
@force_option
def export(
    file: Path,
    positional: Path | None,
    output: Path | None,
    select: tuple[str, ...],
    variables: tuple[str, ...],
    compression: Any,
    level: int,
    digits: int | None,
    force: bool,
) -> None:
    """Write a result, or part of it, as .nc, .zarr, .parquet or .csv."""
    output = output_of(positional, output)
    storage = _storage(output, compression, level, digits)
    _export(file, output, storage, force, select, variables)


def question_options(*, required: bool) -> Callable[[Command], Command]:
    """Options of a reduction."""
    options = (
        listed(
            "--per", str, "Axes; one extreme or front for each of their values.", metavar="AXES"
        ),
        click.option(
            "--by",
            help="Variable that must be best, or whose quantiles are taken. Default: the first "
            "throughput, else the first time.",
        ),
        click.option(
            "--where",
            cls=Constraints,
            metavar="CONSTRAINTS",
            help="Constraints on a cell, such as 'ttft<0.5 and not (tp==1 or isl>16k)'; of "
            "several all must be satisfied. Default: none.",
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
    asked: str | None, where: str, by: str | None, per: tuple[str, ...]
) -> "ReductionRequest | None":
    """The reduction that these options describe, if any.

    Raises:
        UsageError: --where, --by or --per is given without --reduce.
    """
    if asked is None:
        if where or by or per:
            raise click.UsageError("--where, --by and --per require --reduce")
        return None
    from sweep.queries.reduction_request import ReductionRequest

    return ReductionRequest(text=asked, where=where, by=by, per=list(per) or None)


@click.command()
@file_argument
@positional_argument
@output_option("NetCDF file to write.")
@question_options(required=True)
@select_option
@force_option
def reduce(
    file: Path,
    positional: Path | None,
    output: Path | None,
    asked: str,
    where: str,
    by: str | None,
    per: tuple[str, ...],
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
    from sweep.queries.reduction_request import nothing_found
    from sweep.queries.reduction_request import reduce as reduce_result
    from sweep.queries.select import subset
    from sweep.runs.open_results import open_results
    from sweep.runs.progress import progress_bar

    output = output_of(positional, output)
    check_result_name(output)
    check_writable(output, force=force)
    with open_results(file) as dataset, progress_bar("reducing") as progress:
        reduced = reduce_result(
            subset(dataset, select=select),
            asked,
            where=where,
            by=by,
            per=per or None,
            progress=progress,
        )
    write_netcdf(reduced, output, force=force)
    _print_size(output, dict(reduced.sizes), reduced.nbytes)
    if where and nothing_found(reduced):
        print_text(f"(no cell satisfies {where}; every answer is missing)")


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
