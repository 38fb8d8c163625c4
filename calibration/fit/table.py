"""Table of measurements, ready to fit: points, traits, logarithms, weights."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import md5
from typing import Any

import jax
import numpy as np

from calibration.fit.forward import predict
from calibration.fit.noise import NOISE
from calibration.fit.parameters import Array
from calibration.fit.points import (
    Group,
    each,
    machines_of,
    named,
    observe,
    recipes_of,
    warn_of_layouts,
)
from calibration.fit.solver import DOUBTFUL_WEIGHT
from calibration.measurements.measurement import CLIENT_TTFT, Measurement
from sweep.engines.traits import Traits, experts_of, traits_of
from sweep.kernel.block import Block, is_routed
from sweep.models.read import read_model
from sweep.specs.catalog import Catalog

CLIENT_TTFT_NOISE = 0.2
"""Expected logarithmic error of a client's time to first token: it depends on when others arrive,
and runs that differ in nothing but that differ by a fifth. [1]"""


@dataclass(frozen=True)
class Table:
    """Rows with the data that a fit needs.

    Attributes:
        rows: The rows.
        groups: Their points, by kernel.
        traits: Traits of each row, by which factors are pooled.
        families: The `model_type` of each row's model.
        architectures: All models with the layers and sizes of each row's model.
        experts: `routed` if the row's model is a mixture of experts, else `none`.
        measured: Logarithm of each figure, NaN where there is none.
        weights: Weight of each. [1]
    """

    rows: tuple[Measurement, ...]
    groups: tuple[Group, ...]
    traits: tuple[Traits, ...]
    families: tuple[str, ...]
    architectures: tuple[str, ...]
    experts: tuple[str, ...]
    measured: Array
    weights: Array

    @property
    def figures(self) -> set[str]:
        """Kinds of figures that the rows have, as `Measurement.kind` names them."""
        return {row.kind for row in self.rows}

    @property
    def kinds(self) -> Array:
        """Kind of figure of each row, which has a noise of its own: engines, runs and metrics."""
        return np.asarray([f"{row.engine} {row.scenario} {row.metric}" for row in self.rows])

    @property
    def expected_noise(self) -> Array:
        """Logarithmic error that a row without a fault has, by its kind. [1]"""
        late = [row.kind == CLIENT_TTFT for row in self.rows]
        return np.where(late, CLIENT_TTFT_NOISE, NOISE)

    def labels(self, by: str) -> Array:
        """Label of each row, by which rows are grouped.

        `configuration`, `model`, `hardware`, `version`, with the engine if there are several,
        `architecture`: models of the same layers and sizes, as releases of one are; `family`:
        models of one `model_type` in all sizes; `half`, see `half_of`; or `experts`.
        """
        if by == "half":
            return np.asarray([half_of(row) for row in self.rows])
        if by == "configuration":
            return np.asarray([configuration(row) for row in self.rows])
        of_models = {
            "architecture": self.architectures,
            "family": self.families,
            "experts": self.experts,
        }
        if by in of_models:
            return np.asarray(of_models[by])
        if by == "version" and len({row.engine for row in self.rows}) > 1:
            return np.asarray([f"{row.engine} {row.engine_version}" for row in self.rows])
        field = "engine_version" if by == "version" else by
        return np.asarray([getattr(row, field) for row in self.rows])

    @property
    def link_gpus(self) -> Array:
        """GPUs that the link of the accelerator of each row joins. [count]"""
        found = np.empty(len(self.rows))
        for group in self.groups:
            found[group.rows] = np.asarray(group.point.hardware.fabric_reach)[:, 0]
        return found

    @cached_property
    def requests_in_flight(self) -> Array:
        """Requests in flight of the kernel under ideal rooflines, NaN of other rows. [count]"""
        found = np.full(len(self.rows), np.nan)
        for group in self.groups:
            if self.rows[group.rows[0]].scenario == "inflight":
                own = dataclasses.replace(
                    group.asked("inflight_concurrency"), rows=np.arange(len(group.rows))
                )
                found[group.rows] = predict([own])
        return np.round(found)


def configuration(row: Measurement) -> str:
    """The run of a row, whatever the version: neighbours across versions are nearly copies.

    Metrics of one run share it. A row that states no experts' GPUs, attention groups, type of the
    KV cache or recipe differs from one that does.
    """
    fields = (
        *(row.engine, row.scenario, row.model, row.hardware, row.tp, row.pp, row.ep),
        *(row.dp_attention, row.precision, row.weight_dtype, row.activation_dtype, row.kv_dtype),
        *(row.batch_size, row.concurrency, row.isl, row.osl),
        *([row.request_rate] if row.request_rate is not None else []),
    )
    return "|".join(map(str, fields))


def half_of(row: Measurement) -> str:
    """Half that the configuration of a served run is in, `odd` or `even`; empty for other rows.

    It is that of the first byte of the MD5 sum of the configuration's description, so that a run is
    in the same half whatever other rows there are.
    """
    if row.scenario != "inflight" or row.concurrency is None:
        return ""
    described = configuration(row).encode()
    return "odd" if md5(described, usedforsecurity=False).digest()[0] % 2 else "even"


def tabulate(rows: Sequence[Measurement], catalog: Catalog) -> Table:
    """Look up everything that `rows` name.

    Raises:
        SpecError: A row names what the catalog lacks.
    """
    blocks: dict[str, tuple[Block, ...]] = {}
    families = {}
    for row in rows:
        if row.model not in blocks:
            spec = named(row, catalog.model, row.model)
            blocks[row.model] = read_model(spec)
            families[row.model] = spec.family
    architectures = _architectures(blocks)
    experts = {name: experts_of(blocks[name]) for name in blocks}
    warn_of_layouts(rows, {name: is_routed(blocks[name]) for name in blocks})
    groups = tuple(observe(rows, catalog))
    machines = machines_of(rows, catalog)
    recipes = recipes_of(rows, catalog)

    def traits(index: int) -> Traits:
        row = rows[index]
        return traits_of(
            machines[index], recipes[index], row.engine, row.engine_version, blocks[row.model]
        )

    configurations = [configuration(row) for row in rows]
    # A figure of a configuration measured twice under one version is no further evidence.
    measured_as = [
        (run, row.engine_version, row.metric) for run, row in zip(configurations, rows, strict=True)
    ]
    repeats = Counter(measured_as)
    return Table(
        rows=tuple(rows),
        groups=groups,
        traits=tuple(
            each(
                rows,
                [
                    (row.hardware, id(recipe), row.engine, row.engine_version, row.model)
                    for row, recipe in zip(rows, recipes, strict=True)
                ],
                traits,
            )
        ),
        families=tuple(families[row.model] for row in rows),
        architectures=tuple(architectures[row.model] for row in rows),
        experts=tuple(experts[row.model] for row in rows),
        measured=np.log([np.nan if row.value is None else row.value for row in rows]),
        weights=np.asarray(
            [_weight(row, repeats[what]) for row, what in zip(rows, measured_as, strict=True)]
        ),
    )


def _architectures(blocks: Mapping[str, tuple[Block, ...]]) -> dict[str, str]:
    """For each model the names of all that have the same layers and sizes."""
    alike: dict[Any, list[str]] = {}
    for name in sorted(blocks):
        sizes, structure = jax.tree.flatten(blocks[name])
        alike.setdefault((structure, *map(float, sizes)), []).append(name)
    return {name: ", ".join(names) for names in alike.values() for name in names}


def _weight(row: Measurement, repeats: int) -> float:
    weight: float = (1.0 if row.quality == "ok" else DOUBTFUL_WEIGHT) / repeats**0.5
    return weight
