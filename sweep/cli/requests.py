"""Options for requests that hit the cache, and for speculative decoding.

Heavy packages are imported inside the functions that need them.
"""

from collections.abc import Callable
from typing import Any

import click

from sweep.cli.options import MODEL, F
from sweep.cli.parameters import Count, Share
from sweep.schema.drafts import fault_of_length


def parse_pair(text: str) -> tuple[str, tuple[float | str, float | str]]:
    """Parse an axis and two of its values: `draft_tokens=3,0`.

    Raises:
        UsageError: It has another form.
    """
    axis, _, listed = text.partition("=")
    values = [value.strip() for value in listed.split(",")]
    if not axis or len(values) != 2 or not all(values) or values[0] == values[1]:
        raise click.UsageError(
            f"--between {text}: must name an axis and two of its values, as in draft_tokens=3,0"
        )
    first, second = (_number(value) for value in values)
    return axis.strip(), (first, second)


def _number(text: str) -> float | str:
    """The number that a text is, or the text."""
    from sweep.specs.counts import count_of

    number = count_of(text)
    return text if number is None else number


PREFIX_OPTIONS = (
    click.option(
        "--prefix-hit-rate",
        type=Share(0, 1, max_open=True),
        help="Share of the prompt tokens found in the cache. Default: 0.",
    ),
    click.option(
        "--shared-prefix-tokens",
        type=Count(0),
        help="Tokens that all prompts begin with. Default: 0.",
    ),
)
ACCEPTANCE_OPTIONS = (
    click.option(
        "--acceptance-rate",
        type=Share(0, 1),
        help="Probability that a drafted token is accepted. This or --acceptance-length is "
        "required with --draft-tokens.",
    ),
    click.option(
        "--acceptance-length",
        type=Share(1),
        help="Tokens that a pass yields, from 1 to one more than are drafted; in place of "
        "--acceptance-rate.",
    ),
)
DRAFT_MODEL_OPTION = click.option(
    "--draft-model",
    type=MODEL,
    help="Model that drafts: name, identifier, or path. Default: a layer like the model's last.",
)


def request_options(drafts: Callable[[F], F]) -> Callable[[F], F]:
    """Options for hits and drafts.

    Args:
        drafts: Option for the drafted tokens: one number, or several to choose from.
    """

    def add(command: F) -> F:
        for option in reversed((*PREFIX_OPTIONS, drafts, *ACCEPTANCE_OPTIONS, DRAFT_MODEL_OPTION)):
            command = option(command)
        return command

    return add


def request_axes(
    *,
    prefix_hit_rate: float | None,
    shared_prefix_tokens: int | None,
    draft_tokens: tuple[int, ...],
    acceptance_rate: float | None,
    acceptance_length: float | None,
    draft_model: str | None,
) -> dict[str, list[float]]:
    """Axes of a sweep by name, without those that are not given.

    Raises:
        UsageError: Drafts are given without how many are accepted, or the other way round, or that
            twice, or as a length that no pass yields.
    """
    if acceptance_rate is not None and acceptance_length is not None:
        raise click.UsageError(
            "--acceptance-rate and --acceptance-length are alternatives of one another; give one "
            "of them"
        )
    if bool(draft_tokens) != (acceptance_rate is not None or acceptance_length is not None):
        raise click.UsageError(
            "give --draft-tokens and --acceptance-rate, or --acceptance-length, together"
        )
    if draft_model is not None and not draft_tokens:
        raise click.UsageError(
            "--draft-model needs --draft-tokens and --acceptance-rate or --acceptance-length"
        )
    fault = fault_of_length(acceptance_length or 1, draft_tokens)
    if fault:
        raise click.UsageError(f"--acceptance-length: {fault}")
    given: dict[str, Any] = {
        "prefix_hit_rate": prefix_hit_rate,
        "shared_prefix_tokens": shared_prefix_tokens,
        "acceptance_rate": acceptance_rate,
        "acceptance_length": acceptance_length,
    }
    axes = {axis: [value] for axis, value in given.items() if value is not None}
    return axes | ({"draft_tokens": sorted(set(draft_tokens))} if draft_tokens else {})
