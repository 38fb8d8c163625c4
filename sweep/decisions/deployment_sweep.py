"""Sweep the deployments on offer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice
from typing import Any

import pandas as pd
import xarray as xr

from sweep.decisions.deployment_table import as_table
from sweep.decisions.deployments import INFLIGHT, OPEN, RUN, Deployments, Offer, Scheme
from sweep.decisions.load_search import refined
from sweep.decisions.machines_on_offer import computes, machines_on_offer, refused_types
from sweep.decisions.recommend import Limits
from sweep.decisions.replicas import EVERY, loads_of, replica_counts, steps
from sweep.decisions.reserves import fixed_reserve
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import Calibration, recorded_name
from sweep.engines.engine import UNSTATED_VENDOR
from sweep.engines.known import engine_of
from sweep.engines.memory_share import memory_share
from sweep.errors import SpecError
from sweep.evaluation.plan import make_plan
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.kernel.block import is_routed
from sweep.models.checkpoint import checkpoint, is_quantised
from sweep.models.read import read_model
from sweep.runs.run import run_plan
from sweep.schema.axes import GPUS, gpus_of
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT, PrecisionSpec

MOST_REQUESTS = 2048
"""Largest number of requests in flight that is tried. [count]"""
EVERY_LOAD = 32
"""Number of requests in flight up to which every number is tried. [count]"""
WIDEST = 64
"""Largest layout that is tried unless the offer names one. [GPUs]"""
VARIABLES = [
    INFLIGHT.throughput,
    INFLIGHT.ttft,
    INFLIGHT.tpot,
    "inflight_concurrency",
    "max_concurrency",
    "inflight_power",
    "inflight_prompt_share",
]
"""Variables of the sweep of a closed loop."""
P99 = {"max_ttft_p99": "inflight_ttft_p99", "max_tpot_p99": "inflight_tpot_p99"}
"""Variables that are swept only where they are limited, by their limit."""
ROW = 8
"""Accelerators of a row: lists are filled up to whole rows. [count]"""
SOME_COUNTS = (
    f"numbers of replicas, and of requests at one, are tried in steps of 9 % above {EVERY}; "
    "--replicas gives another number"
)
"""Note of an answer with more requests than replicas are counted for."""
THROUGHPUTS = ["throughput", "lower", "upper"]
"""Columns of a throughput with its interval."""


def sweep_deployments(
    model: str,
    offer: Offer,
    *,
    isl: int,
    osl: int,
    concurrency: int | None,
    catalog: Catalog,
    calibration: Calibration | None,
    requests_axes: Mapping[str, Sequence[float]] | None = None,
    draft_model: str | None = None,
    replicas: int | None = None,
    limits: Limits | None = None,
    burstiness: float | None = None,
    num_requests: int | None = None,
) -> Deployments:
    """Run a sweep over every deployment on offer.

    Args:
        model: Name, or path of a config.json.
        offer: What to choose from.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        concurrency: Requests in flight at all replicas together; as many at one replica as is best
            if not given. [count]
        catalog: Where to look names up.
        calibration: A calibration; ideal rooflines if not given.
        requests_axes: Values of `draft_tokens`, and of `WORKLOAD_AXES` and `SERVER`, one of each
            of these.
        draft_model: The model that drafts tokens; a layer of the model's kind if not given.
        replicas: Replicas that share the requests; any number if not given. [count]
        limits: Limits near which further loads are tried.
        burstiness: Shape of the gaps between requests that arrive at random times, 1 for Poisson
            arrivals: deployments then have their highest rate within the limits. A closed loop if
            not given. [1]
        num_requests: Requests of a run that all replicas together get at once, in place of
            `concurrency`. [count]

    Raises:
        SpecError: A name is unknown, no accelerator computes in any of the types, no layout fits
            in one machine, or there are more replicas than requests.
    """
    scheme = INFLIGHT if burstiness is None else OPEN
    if num_requests is not None:
        scheme = RUN
    shared = num_requests if concurrency is None else concurrency
    if shared and replicas and replicas > shared:
        raise SpecError(
            f"{replicas} replicas for {shared} requests: some would hold none; "
            f"give at most {shared}"
        )
    spec = catalog.model(model)
    recipes = recipes_on_offer(spec, offer, catalog, calibration)
    machines, notes = machines_on_offer(offer, catalog, calibration)
    limits = limits or Limits()
    drafting = None if draft_model is None else catalog.model(draft_model)
    common: dict[str, Any] = {
        "models": [spec],
        **layout_axes(offer, machines, spec),
        **memory_share(calibration, requests_axes or {}),
        **{axis: list(values) for axis, values in (requests_axes or {}).items()},
        "draft_model": drafting,
        "isl": [isl],
        "osl": [osl],
        **_asked_of(limits, burstiness),
    }
    able = [(recipe, [m for m in machines if computes(m, recipe)]) for recipe in recipes]
    grids = [
        {**common, "precision": [recipe], "hardware": list(each)} for recipe, each in able if each
    ]
    if not grids:
        names, types = (", ".join(spec.name for spec in specs) for specs in (machines, recipes))
        raise SpecError(f"no peak rate for {types} on any of {names}; choose another precision")
    if offer.precision:
        notes += refused_types(able, machines)
    sweeps = _Sweeps(grids, catalog, calibration, machines, offer, scheme)
    if burstiness is not None:
        frame = sweeps.highest_rates(osl)
    elif shared:
        counts = [replicas] if replicas else replica_counts(shared)
        if len(counts) > 1 and shared > EVERY**2:
            notes.append(SOME_COUNTS)
        frame = sweeps.at(loads_of(shared, counts))
    else:
        frame = sweeps.at(search_loads())
    models = {each.name: each for each in (spec, drafting) if each is not None}
    specs = SpecsByName(models, {m.name: m for m in machines}, {r.name: r for r in recipes})
    draft = "" if drafting is None else drafting.name
    reserves = {}
    if calibration is not None:
        reserves[sweeps.recorded] = calibration.engine, fixed_reserve(calibration)
    found = Deployments(
        spec.name, isl, osl, scheme, frame, sweeps.recorded, specs, draft, tuple(notes), reserves
    )
    if scheme is INFLIGHT and not concurrency:
        frame = in_grid_order(refined(frame, found.axes, limits, sweeps.at))
    return replace(found, frame=frame.drop(columns="deployment"))


def _asked_of(limits: Limits, burstiness: float | None) -> dict[str, Any]:
    """Variables of the sweep, and axes that they need."""
    latencies = limits.latencies
    if burstiness is None:
        tails = [name for axis, name in P99.items() if axis in latencies]
        return {"variables": [*VARIABLES, *tails]}
    bursts = {"burstiness": [burstiness]} if latencies and burstiness != 1 else {}
    axes = {axis: [most] for axis, most in latencies.items()}
    return {**axes, **bursts, "variables": [OPEN.throughput, "max_concurrency"]}


def recipes_on_offer(
    model: ModelSpec, offer: Offer, catalog: Catalog, calibration: Calibration | None
) -> list[PrecisionSpec]:
    """Recipes that an offer names, else those that the model is normally run in.

    That of the model's own file if it is quantised, else 16 bits and the 8 bits of the engine.
    """
    engine = engine_of("" if calibration is None else calibration.engine)
    usual = (CHECKPOINT.name,) if is_quantised(model) else engine.precisions
    named = [catalog.precision(name) for name in offer.precision or usual]
    named = [recipe for index, recipe in enumerate(named) if recipe not in named[:index]]
    return [checkpoint(model).recipe if each.name == CHECKPOINT.name else each for each in named]


def swept(grid: Grid, catalog: Catalog, calibration: Calibration | None) -> xr.Dataset:
    """Result of a grid, without the warning of contexts that notes of an answer give."""
    return run_plan(make_plan(resolve(grid, catalog), calibration=calibration))


@dataclass
class _Sweeps:
    """Sweeps of the same deployments at several loads.

    Attributes:
        grids: Axes of a grid for each recipe, all but the load.
        catalog: Where to look names up.
        calibration: A calibration; ideal rooflines if not given.
        machines: The accelerators.
        offer: Whose layouts to keep.
        scheme: The load of a replica.
        recorded: Name and digest of the calibration, after a sweep.
    """

    grids: Sequence[Mapping[str, Any]]
    catalog: Catalog
    calibration: Calibration | None
    machines: Sequence[HardwareSpec]
    offer: Offer
    scheme: Scheme
    recorded: str = ""

    def at(self, wanted: Sequence[int]) -> pd.DataFrame:
        """All deployments at some loads of a replica, by deployment and then by load. [count]"""
        tables = []
        most = max(len(axes["hardware"]) for axes in self.grids)
        for own, block in blocks(wanted):
            for number, axes in enumerate(self.grids):
                machines = axes["hardware"]
                filled = {**axes, "hardware": filled_up(machines, most)}
                load: dict[str, Any] = {self.scheme.load: block}
                grid = Grid(**filled, **load)
                dataset = swept(grid, self.catalog, self.calibration)
                self.recorded = recorded_name(dataset.attrs)
                one = dataset.isel(model=0, isl=0, osl=0, hardware=slice(len(machines)))
                kept = self._in_machines(one) & one[self.scheme.load].isin(own)
                table = as_table(one, self.scheme, kept)
                table["deployment"] = number * 10**9 + table.index // len(block)
                tables.append(table)
        return self._joined(tables)

    def highest_rates(self, osl: int) -> pd.DataFrame:
        """All deployments with the output tokens of the highest rate of a replica as throughput.

        Args:
            osl: Output tokens of each request. [count]
        """
        tables = []
        for number, axes in enumerate(self.grids):
            dataset = swept(Grid(**axes), self.catalog, self.calibration)
            self.recorded = recorded_name(dataset.attrs)
            one = dataset.isel(model=0, isl=0, osl=0)
            table = as_table(one, OPEN, self._in_machines(one))
            table[THROUGHPUTS] *= osl
            table["deployment"] = number * 10**9 + table.index
            tables.append(table)
        return self._joined(tables)

    def _in_machines(self, dataset: xr.Dataset) -> xr.DataArray:
        """Mask of deployments that fit in one machine; all if the offer gives both tp and pp."""
        if self.offer.tp and self.offer.pp:
            return xr.ones_like(dataset["hardware"], bool)
        gpus = [self.sizes[name] for name in dataset["hardware"].values.tolist()]
        layout = {axis: dataset[axis] for axis in GPUS if axis in dataset.coords}
        within: xr.DataArray = gpus_of(layout) <= xr.DataArray(gpus, dims="hardware")
        return within

    @cached_property
    def sizes(self) -> dict[str, int]:
        """GPUs of one machine by name of the accelerator."""
        return {machine.name: machine_gpus(machine) for machine in self.machines}

    def _joined(self, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Rows of all recipes in the order of the grid.

        Raises:
            SpecError: There are none.
        """
        frame = pd.concat(tables, ignore_index=True)
        if frame.empty:
            known = ", ".join(f"{name} has {size}" for name, size in self.sizes.items())
            least = gpus_of(
                {axis: min(sizes) for axis, sizes in self.grids[0].items() if axis in GPUS}
            )
            raise SpecError(
                f"every layout takes {least:.0f} GPUs or more, and a machine of {known}; "
                "give both tp and pp for layouts over several machines"
            )
        return in_grid_order(frame)


def filled_up(machines: Sequence[HardwareSpec], count: int) -> list[HardwareSpec]:
    """The accelerators, filled up to whole rows with copies of the first under other names.

    One compiled kernel computes lists of equal length: to compile another one takes half a minute,
    and to compute the copies some milliseconds. Copies state no maker: any engine runs there.
    """
    copies = range(-(-count // ROW) * ROW - len(machines))
    other = {"vendor": UNSTATED_VENDOR}
    return [
        *machines,
        *(machines[0].model_copy(update={**other, "name": f"copy {n}"}) for n in copies),
    ]


def in_grid_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by deployment, and by load where the deployment is the same."""
    return frame.sort_values(["deployment", "asked"], kind="stable").reset_index(drop=True)


def blocks(wanted: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The loads in lists, each also filled up with others to the same length.

    One compiled kernel computes lists of equal length.
    """
    size = len(search_loads())
    ordered = sorted(set(wanted))
    for start in range(0, len(ordered), size):
        own = ordered[start : start + size]
        others = (load for load in count(1) if load not in own)
        yield own, sorted([*own, *islice(others, size - len(own))])


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 and so on up to `most`."""
    return [2**n for n in range(most.bit_length()) if 2**n <= most]


def search_loads() -> list[int]:
    """Loads of a replica to begin with: all up to 32, then eight to each doubling. [count]

    Latencies do not only grow with the load: one more prompt may not fit the iteration of the
    others, so that each waits for fewer. Coarser loads would step over those.
    """
    return steps(MOST_REQUESTS, EVERY_LOAD)


def loads(most: int) -> list[int]:
    """Powers of two up to `most` and the numbers halfway between: 1, 2, 3, 4, 6, 8 and so on."""
    powers = powers_of_two(most)
    return sorted({*powers, *(3 * n // 2 for n in powers[1:] if 3 * n // 2 < most)})


def layout_axes(offer: Offer, machines: Sequence[HardwareSpec], model: ModelSpec) -> dict[str, Any]:
    """Values of each axis of the layout that an offer leaves to choose from. [count]"""
    blocks = read_model(model)
    within = powers_of_two(min(max(machine_gpus(machine) for machine in machines), WIDEST))
    return {
        "tp": sorted(set(offer.tp)) or within,
        "pp": sorted(set(offer.pp)) or within,
        "dp_attention": sorted(set(offer.dp_attention)) or (within if is_routed(blocks) else [1]),
        **({"ep": sorted(set(offer.ep))} if offer.ep else {}),
    }


def machine_gpus(spec: HardwareSpec) -> int:
    """GPUs of one machine. [count]"""
    return spec.fabric_reach[1]
