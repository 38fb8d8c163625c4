"""Labels of a result that a name may mean, by the axis they are on."""

from collections.abc import Sequence

from sweep.specs.model_names import is_narrow, matching
from sweep.specs.short_names import accelerators, same_but_spelling


def labels_meant(axis: str, name: str, known: Sequence[str]) -> list[str]:
    """Labels that a name may mean: one if it is clear.

    Args:
        axis: The axis: an accelerator may have a short name, a model a published identifier.
        name: The name.
        known: Labels along the axis.
    """
    if name in known:
        return [name]
    if axis == "hardware":
        return accelerators(name, known)
    if axis == "model" and not is_narrow(name):
        return matching(name, dict.fromkeys(known))
    return same_but_spelling(name, known)
