"""A directive that lists all variables of a sweep, from the table that the code reads too."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from sweep.variables import LONGEST, VARIABLES, Variable

AXES_OF_LONGEST = "`context_len`, or `isl` and `osl`"


class VariableTable(SphinxDirective):
    """Name, units, meaning and axes of each variable."""

    def run(self) -> list[nodes.Node]:
        """The table as the page's own markup."""
        return self.parse_text_to_nodes(markdown())


def markdown() -> str:
    """The table in Markdown."""
    rows = [
        f"| `{name}` | {variable.units} | {meaning(variable)} | {axes(variable)} |"
        for name, variable in VARIABLES.items()
    ]
    return "\n".join(["| variable | units | meaning | axes |", "|---|---|---|---|", *rows])


def meaning(variable: Variable) -> str:
    """What a variable is, its exact definition after it."""
    return f"{variable.long_name}. {variable.comment}".strip().replace("*", "·")


def axes(variable: Variable) -> str:
    """The axes over which a variable can vary."""
    named = [AXES_OF_LONGEST if dim == LONGEST else f"`{dim}`" for dim in variable.dims]
    return ", ".join(named)


def setup(app: Sphinx) -> ExtensionMetadata:
    """What Sphinx asks of an extension."""
    app.add_directive("variables", VariableTable)
    return {"parallel_read_safe": True}
