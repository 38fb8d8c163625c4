"""Elasticities of the throughput of recommended deployments."""

from functools import lru_cache
from typing import Any

import jax
import numpy as np
import pandas as pd

from sweep.decisions.deployment_cells import point_of
from sweep.decisions.deployments import INFLIGHT, OPEN, RUN, Deployments
from sweep.decisions.recommend import Recommendation
from sweep.decisions.rivals import Row, recorded_calibration, records
from sweep.engines.calibration_file import Calibration
from sweep.evaluation.stored_function import StoredFunction
from sweep.kernel.elasticity import RESOURCES, elasticities
from sweep.kernel.params import Point

ARRAYS = (np.ndarray, jax.Array)


def throughput_elasticities(found: Recommendation, frame: pd.DataFrame) -> list[dict[str, float]]:
    """Elasticities of each row's throughput by resource; empty if a specification is missing. [1]

    Args:
        found: The answer.
        frame: Some rows of it.
    """
    given = found.deployments
    scheme = INFLIGHT if given.scheme == OPEN else given.scheme
    each: list[dict[str, float]] = []
    for row in records(frame):
        calibration = recorded_calibration(given.calibration_of(row))
        point = None if isinstance(calibration, str) else _point(given, row, calibration)
        values = () if point is None else _elasticities(point, scheme.throughput).tolist()
        each.append(dict(zip(RESOURCES, values, strict=False)))
    return each


def _point(given: Deployments, row: Row, calibration: Calibration | None) -> Point | None:
    """The deployment with its run, or with the requests that it holds, at least one, kept open."""
    held = row["held"]
    if given.scheme == OPEN:
        return point_of(given, row, {INFLIGHT.load: max(held, 1.0)}, calibration)
    load = row["asked"] if given.scheme == RUN else held
    return point_of(given, row, {given.scheme.load: load}, calibration)


def _elasticities(point: Point, throughput: str) -> np.ndarray[Any, Any]:
    leaves, structure = jax.tree.flatten(point)
    constants = tuple(None if isinstance(leaf, ARRAYS) else leaf for leaf in leaves)
    arrays = [leaf for leaf in leaves if isinstance(leaf, ARRAYS)]
    return np.asarray(_derivatives(structure, constants, throughput)(arrays))


@lru_cache(maxsize=16)
def _derivatives(
    structure: jax.tree_util.PyTreeDef, constants: tuple[Any, ...], throughput: str
) -> StoredFunction:
    """Elasticities as a function of the arrays of a point.

    Args:
        structure: Structure of the point.
        constants: Its other leaves; `None` for each array.
        throughput: Name of the variable.
    """

    def derivatives(arrays: list[Any]) -> jax.Array:
        given = iter(arrays)
        leaves = [next(given) if constant is None else constant for constant in constants]
        point = jax.tree.unflatten(structure, leaves)
        return elasticities(point, lambda request: {"value": getattr(request, throughput)})["value"]

    named = repr((structure, constants, throughput))
    return StoredFunction(jax.jit(derivatives), f"elasticities {named}", 0.0)
