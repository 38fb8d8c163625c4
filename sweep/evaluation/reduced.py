"""Reduces the tiles of a region on the device that computed them."""

from math import prod

import xarray as xr

from sweep.evaluation.best_of_region import BestOfRegion
from sweep.evaluation.evaluator import Evaluation
from sweep.evaluation.front_of_region import FrontOfRegion
from sweep.evaluation.plan import Plan
from sweep.grid import thresholds
from sweep.grid.tiling import Region
from sweep.queries.best import Best
from sweep.queries.pareto import Pareto

MOST_GROUPS = 64
"""Fronts of a grid that are found one after another in a tile, at most. [count]"""


def is_reduced_in_tiles(plan: Plan, work: Evaluation) -> bool:
    """Whether the reduction of a plan is computed tile by tile, before results are assembled.

    Not for small grids, whose results take less time than compiling the reduction, nor over
    operators, which models of several structures do not share.
    """
    asked = plan.reduction
    if asked is None or plan.points < thresholds.REDUCED_IN_TILES:
        return False
    named = set(asked.where.names) - set(asked.grid.labels)
    if isinstance(asked, Best):
        named.add(asked.by)
    elif isinstance(asked, Pareto):
        named.update(asked.objectives)
        if prod(asked.grid.sizes(asked.kept)) > MOST_GROUPS or not asked.reduced:
            return False
    else:
        return False
    return named <= set(work.dims) and "operator" not in (*asked.kept, *asked.reduced)


def reduced_region(plan: Plan, work: Evaluation, region: Region) -> xr.Dataset:
    """The partial result of a reduction over a region, as its `within` returns it.

    Args:
        plan: The plan, for which `is_reduced_in_tiles`.
        work: Its evaluation.
        region: Index range of each axis.
    """
    asked = plan.reduction
    assert isinstance(asked, Best | Pareto)
    found: BestOfRegion | FrontOfRegion
    if isinstance(asked, Best):
        found = BestOfRegion(plan, asked, work, region)
    else:
        found = FrontOfRegion(plan, asked, work, region)
    for computed in work.tiles(region):
        with work.types():
            found.add(computed)
    return found.partial()
