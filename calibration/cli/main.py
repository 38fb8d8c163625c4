"""The command `llm-calibrate`. Heavy packages are imported inside the commands that need them."""

import click

from calibration.cli.fit import fit, plot, show
from calibration.cli.judge import predict, validate
from calibration.cli.options import PROGRAM
from sweep.cli.launch import launch
from sweep.cli.sections import Sections

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> None:
    """Run the command line; an expected error is one line on standard error."""
    launch(cli, PROGRAM)


@click.group(cls=Sections, context_settings=CONTEXT)
@click.version_option(package_name="llm-sweep", prog_name=PROGRAM)
def cli() -> None:
    """Fit efficiency factors to measured throughputs, judge them, and predict with them."""


cli.add_sections(
    {"Fit": (fit, show, plot), "Judge": (validate, predict)},
)
