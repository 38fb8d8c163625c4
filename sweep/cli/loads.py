"""Options for the load of a server: runs or arrivals, lengths that vary, and its scheduler."""

from collections.abc import Callable

import click

from sweep.cli.options import COUNT, POSITIVE, F
from sweep.cli.parameters import Share
from sweep.schema.terms import SCHEDULERS

SPREAD_OPTIONS = (
    click.option(
        "--isl-cv",
        type=Share(0, 10),
        help="Coefficient of variation of the input tokens, whose mean is --isl. Default: 0.",
    ),
    click.option(
        "--osl-cv",
        type=Share(0, 10),
        help="Coefficient of variation of the output tokens, whose mean is --osl. Default: 0.",
    ),
    click.option(
        "--scheduler",
        type=click.Choice(SCHEDULERS),
        help="Whether prompts share iterations with decode, or go first. Default: as the "
        "calibration's engine does.",
    ),
)
LOAD_OPTIONS = (
    click.option("--num-requests", type=COUNT, help="Requests of a run, all sent at once."),
    click.option("--request-rate", type=POSITIVE, help="Requests that arrive in a second."),
    click.option(
        "--burstiness",
        type=POSITIVE,
        help="Shape of the gamma distribution of gaps between arrivals. Default: 1, Poisson.",
    ),
)


def _adding(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


spread_options = _adding(SPREAD_OPTIONS)
"""Lengths that vary, and the scheduler."""
load_options = _adding((*LOAD_OPTIONS, *SPREAD_OPTIONS))
"""The same, and runs or arrivals."""
