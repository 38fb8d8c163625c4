"""Elasticities of the figures of one cell by resource."""

import jax
import numpy as np

from sweep.evaluation.numpy_cell import computed
from sweep.kernel.elasticity import (
    RESOURCES,
    elasticities,
    elasticities_by_difference,
    sequences_that_fit,
)
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.request import Request
from sweep.schema.variables import VARIABLES

SERVED_QUANTITIES = ("inflight_ttft", "inflight_tpot", "inflight_output_throughput")
"""Quantities of a server whose elasticities are reported."""
ARRIVING_QUANTITIES = ("inflight_ttft", "inflight_tpot", "max_request_rate")
"""The same of one whose requests arrive at a rate, which is also that of its throughput."""
QUANTITIES = ("ttft", "tpot", "output_throughput", "sequences_that_fit")
"""Quantities whose elasticities are reported."""


def cell_elasticities(point: Point) -> dict[str, dict[str, float]]:
    """Elasticity of each quantity by each of `RESOURCES`, where finite. [1]

    Args:
        point: The cell, whose numbers are in float64 inside `jax.enable_x64`.
    """
    found = computed(_derivatives, point, name="derivatives")
    return {
        name: dict(zip(RESOURCES, found[name].tolist(), strict=True))
        for name in dict.fromkeys((*QUANTITIES, *SERVED_QUANTITIES, *ARRIVING_QUANTITIES))
        if name in found and np.isfinite(found[name]).all()
    }


def _derivatives(point: Point) -> dict[str, jax.Array]:
    arriving = point.batch_size is None and point.request_rate is not None

    def quantities(request: Request) -> dict[str, Scalar]:
        names = SERVED_QUANTITIES if point.batch_size is None else QUANTITIES
        names = ARRIVING_QUANTITIES if arriving else names
        found = {name: getattr(request, name) for name in names if name in VARIABLES}
        if point.batch_size is None:
            return found
        return {**found, "sequences_that_fit": sequences_that_fit(request)}

    # Bisections have no derivatives.
    return (elasticities_by_difference if arriving else elasticities)(point, quantities)
