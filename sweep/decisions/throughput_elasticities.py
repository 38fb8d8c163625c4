"""Elasticities of the throughput of recommended deployments."""

from functools import lru_cache
from typing import Any

import jax
import numpy as np
import pandas as pd

from sweep.decisions.deployments import Deployments, numbers
from sweep.decisions.recommend import Recommendation
from sweep.decisions.rivals import Row, recorded_calibration, records
from sweep.engines.calibration_file import Calibration
from sweep.evaluation.single_cell import cell
from sweep.evaluation.stored_function import StoredFunction
from sweep.kernel.elasticity import RESOURCES, elasticities
from sweep.kernel.params import Point
from sweep.models.read import read_model


def throughput_elasticities(found: Recommendation, frame: pd.DataFrame) -> list[dict[str, float]]:
    """Elasticities of each row's throughput by resource; empty if a specification is missing. [1]

    Args:
        found: The answer.
        frame: Some rows of it.
    """
    calibration = recorded_calibration(found.deployments.calibration)
    each: list[dict[str, float]] = []
    for row in records(frame):
        point = (
            None if isinstance(calibration, str) else _point(found.deployments, row, calibration)
        )
        if point is None:
            each.append({})
            continue
        values = np.asarray(_elasticities(point, found.deployments.scheme.throughput))
        each.append(dict(zip(RESOURCES, values.tolist(), strict=True)))
    return each


def _point(given: Deployments, row: Row, calibration: Calibration | None) -> Point | None:
    spec = given.specs.models.get(given.model)
    hardware = given.specs.hardware.get(row["hardware"])
    precision = given.specs.recipe(given.model, row["precision"])
    if spec is None or hardware is None or precision is None:
        return None
    return cell(
        read_model(spec),
        hardware,
        precision,
        {
            **numbers(row),
            given.scheme.load: row["held"],
            "isl": given.isl,
            "osl": given.osl,
        },
        calibration,
        draft=given.draft_blocks,
    )


def _elasticities(point: Point, throughput: str) -> jax.Array:
    leaves, structure = jax.tree.flatten(point)
    constants = tuple(None if isinstance(leaf, jax.Array) else leaf for leaf in leaves)
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    found: jax.Array = _derivatives(structure, constants, throughput)(arrays)
    return found


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

    def derivatives(arrays: list[jax.Array]) -> jax.Array:
        given = iter(arrays)
        leaves = [next(given) if constant is None else constant for constant in constants]
        point = jax.tree.unflatten(structure, leaves)
        return elasticities(point, lambda request: {"value": getattr(request, throughput)})["value"]

    named = repr((structure, constants, throughput))
    return StoredFunction(jax.jit(derivatives), f"elasticities {named}", 0.0)
