"""Types of options: names that a shell completes, counts such as `16k`, and lists.

Heavy packages are imported inside the functions that need them.
"""

import re
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from sweep.specs.folders import Kind

COMMA = re.compile(",")
PAIR = re.compile(r",(?=\s*[\w.-]+\s*=)")
"""Comma before another `AXIS=`; the values of one axis have commas between them too."""


class Option(click.Option):
    """An option that also has former names, which the help does not show."""

    def __init__(self, *arguments: Any, former: Sequence[str] = (), **keys: Any) -> None:
        """Accept the names in `former` too."""
        super().__init__(*arguments, **keys)
        self.former = list(former)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Register all names."""
        shown = self.opts
        self.opts = [*shown, *self.former]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown


class Listed(Option):
    """An option given several times, or once with values separated by commas, or both.

    An existing file whose name has a comma is one value.
    """

    separator = COMMA

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        """Take the arguments of an option; a default is a sequence."""
        super().__init__(*arguments, **{"multiple": True, **keys})

    def make_metavar(self, ctx: click.Context) -> str:
        """The word for a value in the help; it says that there may be several."""
        return self.metavar or f"{super().make_metavar(ctx)}[,…]"

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Split the texts, then convert each part; what is given twice counts once."""
        if value is not None and not isinstance(value, str):
            value = tuple(part for text in value for part in self._parts(text))
        found = super().type_cast_value(ctx, value)
        return tuple(dict.fromkeys(found)) if isinstance(found, tuple) else found

    def _parts(self, text: Any) -> list[Any]:
        if not isinstance(text, str) or "," not in text or _is_file(text):
            return [text]
        parts = [part.strip() for part in self.separator.split(text)]
        if not all(parts):
            raise click.BadParameter(f"{text!r:.80} has an empty value between commas", param=self)
        return parts

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the last of several values."""
        before, comma, last = incomplete.rpartition(",")
        items = super().shell_complete(ctx, last)
        return [
            item if item.type != "plain" else CompletionItem(f"{before}{comma}{item.value}")
            for item in items
        ]


class Pairs(Listed):
    """A list of `NAME=VALUES`, whose values may have commas between them."""

    separator = PAIR


class Constraints(Listed):
    """Constraints of which all must be satisfied, as one text: commas belong to their grammar."""

    def process_value(self, ctx: click.Context, value: Any) -> str:
        """Join the texts as the grammar does."""
        return ", ".join(super().process_value(ctx, value))

    def _parts(self, text: Any) -> list[Any]:
        return [text]


class Name(click.ParamType):  # type: ignore[type-arg]  # [str] needs click 8.4
    """Name of an entry of the catalog, or the path of a file; a shell completes it."""

    def __init__(self, kind: "Kind", also: Sequence[str] = ()) -> None:
        """Complete entries of one kind and the names in `also`."""
        self.kind, self.also = kind, tuple(also)
        self.name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; the catalog knows what it means."""
        one = param is None or param.nargs == 1
        if one and "," in value and not _is_file(value):
            self.fail(f"{value!r:.80} is a list, and one name is needed here", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so in any case, else files."""
        from sweep.specs.folders import config_folders, config_paths

        given = [folder for folder in (*_configs(ctx), *(ctx.obj or ())) if Path(folder).is_dir()]
        known = [*self.also, *config_paths(config_folders(given), self.kind)]
        found = [name for name in known if name.lower().startswith(incomplete.lower())]
        return [*map(CompletionItem, found)] or [CompletionItem(incomplete, type="file")]


class Count(click.ParamType):  # type: ignore[type-arg]  # [int] needs click 8.4
    """An integer from `least` on, which may be written as `16k`."""

    name = "count"

    def __init__(self, least: int = 1) -> None:
        """Accept integers from `least` on."""
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the integer."""
        from sweep.specs.counts import count_of

        number = count_of(value) if isinstance(value, str) else value
        if not isinstance(number, int) or number < self.least:
            example = "8 or 16k" if self.least else "0 or 8"
            self.fail(
                f"{value!r:.80} is not an integer of at least {self.least}, such as {example}",
                param,
                ctx,
            )
        return number


class Quantity(click.ParamType):  # type: ignore[type-arg]  # [float] needs click 8.4
    """A finite number above 0, which may be written as `900G`."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        from sweep.specs.counts import count_of

        number = count_of(value) if isinstance(value, str) else value
        if number is None or not isfinite(number) or number <= 0:
            self.fail(f"{value!r:.80} is not a finite number above 0", param, ctx)
        return float(number)


class Share(click.FloatRange):
    """A finite number in a range; a plain range would let NaN pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = nan
        if not isfinite(number):
            allowed = self._describe_range().replace("x", "number")
            self.fail(f"{value!r:.80} is not a finite number; allowed: {allowed}", param, ctx)
        found: float = super().convert(number, param, ctx)
        return found


class Reservation(Quantity):
    """A share above 0 and at most 1, or the name of a policy that has one."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share."""
        from sweep.grid.axis_forms import RESERVATIONS

        try:
            number = RESERVATIONS.get(value) or float(value)
        except ValueError:
            number = -1.0
        if not 0 < number <= 1:
            names = " or ".join(RESERVATIONS)
            self.fail(f"{value!r:.80} is not above 0 and at most 1, or {names}", param, ctx)
        return number

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of policies."""
        from sweep.grid.axis_forms import RESERVATIONS

        return [CompletionItem(name) for name in RESERVATIONS if name.startswith(incomplete)]


def _is_file(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def _configs(ctx: click.Context) -> Sequence[str]:
    params: Mapping[str, Any] = ctx.params
    return params.get("configs") or ()
