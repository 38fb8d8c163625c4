"""Directive that lists all variables of a sweep, from the table that the code uses."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from sweep.schema.axes import LONGEST
from sweep.schema.variables import VARIABLES, Variable

AXES_OF_LONGEST = "`context_len` or `isl` and `osl`"


class Variables(SphinxDirective):
    """Name, units, meaning and axes of each variable."""

    def run(self) -> list[nodes.Node]:
        """Parse the list as part of the page."""
        return self.parse_text_to_nodes(markdown())


def markdown() -> str:
    """Definition list in Markdown."""
    return "\n\n".join(
        f"`{name}` [{variable.units}]\n: {meaning(variable)} Over {axes(variable)}."
        for name, variable in VARIABLES.items()
    )


def meaning(variable: Variable) -> str:
    """Name of a variable in words, followed by its definition."""
    title = variable.long_name[0].upper() + variable.long_name[1:]
    return f"{title}. {variable.comment}".strip().replace("*", "·")


def axes(variable: Variable) -> str:
    """Axes over which a variable can vary."""
    named = [AXES_OF_LONGEST if dim == LONGEST else f"`{dim}`" for dim in variable.dims]
    return ", ".join(named)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive with Sphinx."""
    app.add_directive("variables", Variables)
    return {"parallel_read_safe": True}
