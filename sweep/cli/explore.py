"""The command `explore`. Heavy packages are imported inside it."""

import click

from sweep.cli.options import CALIBRATION, PROGRAM, catalog_of, configs_option
from sweep.cli.parameters import Listed


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port to listen on; 0 for any free one.",
)
@click.option(
    "--calibration",
    "calibrations",
    cls=Listed,
    former=["--efficiency"],
    type=CALIBRATION,
    metavar="NAMES",
    help="Calibrations to offer beside the shipped ones.",
)
@click.option("--open", "browse", is_flag=True, help="Open the page in a browser.")
@configs_option
@click.pass_context
def explore(
    context: click.Context,
    /,
    port: int,
    calibrations: tuple[str, ...],
    browse: bool,
    configs: tuple[str, ...],
) -> None:
    """Serve a live page: choose a deployment, move sliders, and see who is ahead.

    Map, roofline, operators, front and memory follow each change, computed by the engine. The
    address of the page describes its view; buttons give the view as a sweep file, as NetCDF and as
    a report. The page is for this machine only and needs no network. Ctrl-C ends it.
    """
    from sweep.explore.start import start

    catalog = catalog_of(context, configs)
    start(catalog, calibrations, port=port, browse=browse, tell=click.echo, program=PROGRAM)
