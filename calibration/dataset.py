"""A table of measurements ready to be fitted: points, traits, logarithms, weights."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.measurements import Measurement
from calibration.observations import Group, named, observe, recipe_of
from calibration.parameters import Array
from calibration.solver import DOUBTFUL_WEIGHT
from sweep.catalog import Catalog
from sweep.families import read_blocks
from sweep.traits import Traits, traits_of


@dataclass(frozen=True)
class Table:
    """Rows and what a fit needs of them.

    Attributes:
        rows: The rows.
        groups: Their points, by kernel.
        traits: What each is pooled by.
        families: The `model_type` of each one's model.
        routed: Whether each one's model is a mixture of experts.
        measured: Logarithm of each figure, NaN where there is none.
        weights: Weight of each. [1]
    """

    rows: tuple[Measurement, ...]
    groups: tuple[Group, ...]
    traits: tuple[Traits, ...]
    families: tuple[str, ...]
    routed: tuple[bool, ...]
    measured: Array
    weights: Array

    def labels(self, by: str) -> Array:
        """What each row is grouped by.

        `configuration`, `model`, `hardware`, `version`, or `architecture`: the models of one
        `model_type`, which share their layers and differ in size.
        """
        if by == "configuration":
            return np.asarray([configuration(row) for row in self.rows])
        if by == "architecture":
            return np.asarray(self.families)
        field = "engine_version" if by == "version" else by
        return np.asarray([getattr(row, field) for row in self.rows])


def configuration(row: Measurement) -> str:
    """Everything but the engine's version: neighbours across versions are nearly copies."""
    fields = (
        *(row.engine, row.scenario, row.model, row.hardware, row.tp, row.pp, row.weight_dtype),
        *(row.batch_size, row.concurrency, row.isl, row.osl, row.metric),
    )
    return "|".join(map(str, fields))


def tabulate(rows: Sequence[Measurement], catalog: Catalog) -> Table:
    """Look up everything that `rows` name.

    Raises:
        SpecError: A row names what the catalog lacks.
    """
    blocks, families, machines = {}, {}, {}
    for row in rows:
        if row.model not in blocks:
            spec = named(row, catalog.model, row.model)
            blocks[row.model] = read_blocks(spec.config, spec.where)
            families[row.model] = spec.family
        if row.hardware not in machines:
            machines[row.hardware] = named(row, catalog.hardware, row.hardware)
    groups = tuple(observe(rows, catalog))
    traits = tuple(
        traits_of(
            machines[row.hardware],
            recipe_of(row, catalog).weight_dtype,
            row.engine,
            row.engine_version,
            blocks[row.model],
        )
        for row in rows
    )
    # The same configuration measured again under the same version is no further evidence.
    repeats = Counter((configuration(row), row.engine_version) for row in rows)
    return Table(
        rows=tuple(rows),
        groups=groups,
        traits=traits,
        families=tuple(families[row.model] for row in rows),
        routed=tuple(any("router" in b.operators for b in blocks[r.model]) for r in rows),
        measured=np.log([np.nan if row.value is None else row.value for row in rows]),
        weights=np.asarray(
            [_weight(row, repeats[configuration(row), row.engine_version]) for row in rows]
        ),
    )


def _weight(row: Measurement, repeats: int) -> float:
    weight: float = (1.0 if row.quality == "ok" else DOUBTFUL_WEIGHT) / repeats**0.5
    return weight
