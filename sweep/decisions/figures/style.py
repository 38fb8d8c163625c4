"""Colours, line styles and saving of all figures."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from sweep.files.atomic import replacing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
LINES = ("-", "--", "-.", ":", (0, (4, 3)), (0, (3, 1, 1, 1)))
plain_text = rc_context({"text.parse_math": False})
"""Decorator of a figure: text with dollar signs is not read as a formula."""


def save_figure(figure: Figure, path: Path, *, force: bool = True) -> None:
    """Write a figure as PNG, PDF or SVG, atomically.

    Args:
        figure: The figure.
        path: The picture to write.
        force: Whether a picture that exists by now is replaced.

    Raises:
        ResultError: It cannot be written, or exists by now and `force` is not set.
    """
    with replacing(path, force=force) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix.lstrip(".") or "png")
