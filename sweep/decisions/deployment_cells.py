"""Arguments of the kernel for one deployment of a table."""

from collections.abc import Mapping
from typing import Any

from sweep.decisions.deployments import Deployments, numbers
from sweep.engines.calibration_file import Calibration
from sweep.evaluation.single_cell import bare_cell
from sweep.kernel.params import Point


def point_of(
    given: Deployments,
    row: Mapping[str, Any],
    load: Mapping[str, float],
    calibration: Calibration | None,
) -> Point | None:
    """The cell of a deployment under a load; `None` if a specification is missing.

    Args:
        given: The deployments.
        row: One of them.
        load: Values of the axes of the load.
        calibration: Their calibration; ideal rooflines if not given.
    """
    hardware = given.specs.hardware.get(row["hardware"])
    precision = given.specs.recipe(given.model, row["precision"])
    if given.blocks is None or hardware is None or precision is None:
        return None
    return bare_cell(
        given.blocks,
        hardware,
        precision,
        {**numbers(row), **load, "isl": given.isl, "osl": given.osl},
        calibration,
        draft=given.draft_blocks,
    )
