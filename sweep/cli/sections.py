"""A group of commands whose help lists them by task, each with its whole first sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

LONGEST_SUMMARY = 500
"""Length up to which the first sentence of a command is shown. [character]"""


class Sections(click.Group):
    """Commands in named sections, in the order given.

    click itself lists commands by the alphabet and cuts their summaries; extensions that do it
    otherwise take longer to import than all of `--help` does.
    """

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        """Take the arguments of a group."""
        super().__init__(*arguments, **keys)
        self.sections: dict[str, list[str]] = {}

    def add_sections(self, sections: Mapping[str, Sequence[click.Command]]) -> None:
        """Add commands under the title of each section."""
        for title, commands in sections.items():
            self.sections[title] = [str(command.name) for command in commands]
            for command in commands:
                self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands in the order of the sections."""
        return [name for names in self.sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        width = max(map(len, self.list_commands(ctx)), default=0)
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (
                            name.ljust(width),
                            self.commands[name].get_short_help_str(LONGEST_SUMMARY),
                        )
                        for name in names
                    ]
                )
