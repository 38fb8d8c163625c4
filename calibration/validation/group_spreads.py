"""Relative error spread by accelerator, model, expert type and version."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from calibration.fit.parameters import Array
from calibration.fit.table import Table

HELD = 20.0
"""Rows of mean error added to each group, which pull small groups towards 1. [count]"""
ROUNDS = 30
"""Passes through all groupings. [count]"""
CAP = 5.0
"""Highest multiple of the expected error that one row counts with. [1]"""

Spreads = Mapping[str, Mapping[str, float]]


def groups_of(table: Table) -> dict[str, Array]:
    """Labels of each row by accelerator, model, expert type and engine version."""
    return {
        "hardware": table.labels("hardware"),
        "model": table.labels("model"),
        "experts": table.labels("experts"),
        "version": np.asarray([trait.version for trait in table.traits]),
    }


def spreads(
    groups: Mapping[str, Array], kinds: Array, errors: Array
) -> dict[str, dict[str, float]]:
    """Mean absolute error of each group relative to its kind, as a product over groupings.

    Each grouping is updated in turn until they agree (raking). Groups of few rows remain near 1.

    Args:
        groups: Labels of each row, by grouping.
        kinds: Kind of each row, within which errors are compared.
        errors: Logarithmic errors of rows that a fit had not seen, NaN where there are none.
    """
    known = np.flatnonzero(np.isfinite(errors))
    sizes, kind_of = np.abs(errors[known]), kinds[known]
    relative = np.ones(len(known))
    for kind in np.unique(kind_of):
        mean = sizes[kind_of == kind].mean()
        relative[kind_of == kind] = sizes[kind_of == kind] / mean if mean > 0 else 1.0
    places = {by: np.unique(labels[known], return_inverse=True) for by, labels in groups.items()}
    found = {by: np.ones(len(names)) for by, (names, _) in places.items()}
    for _ in range(ROUNDS):
        for by, (names, place) in places.items():
            others: Any = np.ones(len(known))
            for other, (_, at) in places.items():
                others = others if other == by else others * found[other][at]
            excess = np.minimum(relative / others, CAP)
            summed = np.bincount(place, excess, len(names))
            found[by] = (summed + HELD) / (np.bincount(place, minlength=len(names)) + HELD)
    return {
        by: {str(name): round(float(v), 3) for name, v in zip(names, found[by], strict=True)}
        for by, (names, _) in places.items()
    }


def multiples(found: Spreads, groups: Mapping[str, Array]) -> Array:
    """Error spread of each row relative to the default; 1 for an unknown group. [1]

    Args:
        found: Spreads by grouping and group.
        groups: Labels of each row, by grouping.
    """
    product = np.ones(len(next(iter(groups.values()))))
    for by, labels in groups.items():
        known = found.get(by, {})
        product = product * np.asarray([known.get(str(label), 1.0) for label in labels])
    return product
