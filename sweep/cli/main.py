"""The command `llm-sweep`. Heavy packages are imported inside the commands that need them."""

import click

from sweep.cli.article import article_meshes, article_rooflines, article_table
from sweep.cli.catalog import list_command, roofline, show
from sweep.cli.decide import compare, explain, report
from sweep.cli.explore import explore
from sweep.cli.launch import launch
from sweep.cli.options import PROGRAM, configs_option
from sweep.cli.recommend import recommend
from sweep.cli.results import export, merge, reduce
from sweep.cli.run import check, plan, run
from sweep.cli.sections import Sections

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> None:
    """Run the command line; every expected error is one line on standard error."""
    launch(cli, PROGRAM)


@click.group(cls=Sections, context_settings=CONTEXT, invoke_without_command=True)
@configs_option
@click.version_option(package_name="llm-sweep", prog_name=PROGRAM)
@click.pass_context
def cli(context: click.Context, configs: tuple[str, ...]) -> None:
    """Rooflines of LLM inference over large grids of hardware, models and loads.

    Options that take several values take them repeated or separated by commas. Counts may be
    written as 16k (16,000), 16Ki (16,384) or 1M.
    """
    context.obj = configs
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


cli.add_sections(
    {
        "Decide": (recommend, explain, compare, report, explore),
        "Compute a sweep": (plan, run, check),
        "Use a result": (reduce, export, merge),
        "Look up": (list_command, show, roofline),
        "Figures of an article": (article_rooflines, article_meshes, article_table),
    }
)
