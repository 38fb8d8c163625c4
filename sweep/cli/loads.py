"""Options for the load of a server: runs or arrivals, limits, lengths that vary, its scheduler."""

from collections.abc import Callable, Mapping
from typing import Any

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
RUN_OPTION = click.option("--num-requests", type=COUNT, help="Requests of a run, all sent at once.")
ARRIVAL_OPTIONS = (
    click.option(
        "--request-rate",
        type=POSITIVE,
        help="Requests that arrive in a second, at random times.",
    ),
    click.option(
        "--burstiness",
        type=POSITIVE,
        help="Shape of the gamma distribution of gaps between arrivals. Default: 1, Poisson.",
    ),
)
LIMIT_OPTIONS = (
    click.option("--max-ttft", type=POSITIVE, help="Longest mean time to first token, in s."),
    click.option(
        "--max-ttft-p99",
        type=POSITIVE,
        help="Longest time to first token that 99 % of the requests stay below, in s.",
    ),
    click.option("--max-tpot", type=POSITIVE, help="Longest mean time per output token, in s."),
    click.option(
        "--max-tpot-p99",
        type=POSITIVE,
        help="Longest time between output tokens that 99 % of them stay below, in s.",
    ),
)


def _adding(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


spread_options = _adding(*SPREAD_OPTIONS)
"""Lengths that vary, and the scheduler."""
arrival_options = _adding(*ARRIVAL_OPTIONS)
"""Arrivals at a rate."""
limit_options = _adding(*LIMIT_OPTIONS)
"""Limits on latencies."""
run_option = _adding(RUN_OPTION)
"""A run with an end."""
load_options = _adding(RUN_OPTION, *ARRIVAL_OPTIONS, *LIMIT_OPTIONS, *SPREAD_OPTIONS)
"""All of these, and runs."""


def check_run(num_requests: int | None, others: Mapping[str, Any]) -> None:
    """Check that a run, all of whose requests are sent at once, is the only load.

    Args:
        num_requests: Requests of the run. [count]
        others: Values of other loads by option.

    Raises:
        UsageError: It is not.
    """
    for option, value in others.items():
        if num_requests is not None and value is not None:
            raise click.UsageError(
                f"--num-requests sends all of a run at once; leave {option} out, or --num-requests"
            )


def check_arrivals(
    *, request_rate: float | None, burstiness: float | None, others: Mapping[str, Any]
) -> None:
    """Check that arrivals at a rate are the only load.

    Args:
        request_rate: Requests that arrive in a second. [s-1]
        burstiness: Shape of the gaps between them. [1]
        others: Values of other loads by option.

    Raises:
        UsageError: They are not, or burstiness is given without a rate.
    """
    if burstiness is not None and request_rate is None:
        raise click.UsageError("--burstiness is of arrivals; give --request-rate too")
    for option, value in others.items():
        if request_rate is not None and value is not None:
            raise click.UsageError(
                f"--request-rate and {option} are loads or sources of their own; keep one of them"
            )
