"""Instances of prefill and decode pools, from sweeps of static prefills and decode steps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import isfinite
from typing import Any

import numpy as np
import xarray as xr

from sweep.decisions.choice import Choice
from sweep.decisions.deployment_sweep import (
    MOST_REQUESTS,
    layout_axes,
    loads,
    machine_gpus,
    powers_of_two,
    recipes_on_offer,
    swept,
)
from sweep.decisions.deployments import Offer
from sweep.decisions.disaggregated import Pair, pairs
from sweep.decisions.machines_on_offer import computes, machines_on_offer
from sweep.decisions.pool_figures import Instance
from sweep.decisions.prices import price_of
from sweep.decisions.recommend import By, Recommendation
from sweep.engines.calibration_file import Calibration
from sweep.engines.memory_share import memory_share
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.schema.axes import REPLICA_GPUS, gpus_of
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import PrecisionSpec

LARGEST_BATCH = 32
"""Largest number of prompts in a batch that is tried. [count]"""


SMALL_CHUNKS: dict[str, list[float]] = {"max_num_tokens": [512, 1024, 2048, 4096, 8192]}
"""Tokens of an iteration that one pool may choose when pools of their own are its rival: small
chunks of prompts disturb decoding less. [count]"""


def best_pairs(
    choice: Choice,
    catalog: Catalog,
    calibration: Calibration | None,
    transfer_bandwidth: float | None = None,
) -> tuple[list[Pair], Recommendation]:
    """Pairs of a prefill pool and a decode pool, best first, and the ranking of single pools.

    Args:
        choice: Requests, deployments and limits.
        catalog: Where to look names up.
        calibration: A calibration; ideal rooflines if not given.
        transfer_bandwidth: Bandwidth between the pools, per GPU and direction; that of each
            accelerator's network if not given. [byte/s]

    Raises:
        SpecError: A name is unknown, a request has one output token, or no bandwidth is known.
    """
    one_pool = replace(choice, requests_axes={**choice.requests_axes, **SMALL_CHUNKS})
    single = one_pool.by_sweep(catalog, calibration)
    pools = sweep_instances(
        str(choice.model),
        choice.offer,
        isl=int(choice.isl or 0),
        osl=int(choice.osl or 0),
        by=choice.demand.by,
        catalog=catalog,
        calibration=calibration,
        prices=choice.all_prices(catalog),
        requests_axes=choice.requests_axes,
        draft_model=choice.draft_model,
        transfer_bandwidth=transfer_bandwidth,
    )
    demand = choice.demand
    found = pairs(
        *pools,
        osl=int(choice.osl or 0),
        limits=demand.limits,
        requests_per_s=demand.requests_per_s,
    )
    return found, single


def sweep_instances(
    model: str,
    offer: Offer,
    *,
    isl: int,
    osl: int,
    by: By,
    catalog: Catalog,
    calibration: Calibration | None,
    prices: Mapping[str, float],
    requests_axes: Mapping[str, Sequence[float]] | None = None,
    draft_model: str | None = None,
    transfer_bandwidth: float | None = None,
) -> tuple[list[Instance], list[Instance]]:
    """Prefill and decode instances on offer.

    Args:
        model: Name, or path of a config.json.
        offer: Accelerators, recipes and layouts to choose from, for both pools.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request, two at least. [count]
        by: Divisor of the throughput in the ranking.
        catalog: Where to look names up.
        calibration: A calibration; ideal rooflines if not given.
        prices: Hourly prices of one accelerator, which replace those of specifications. [USD]
        requests_axes: One value of each axis for hits and drafts.
        draft_model: The model that drafts tokens; a layer of the model's kind if not given.
        transfer_bandwidth: Bandwidth between the pools, per GPU and direction; that of each
            accelerator's network if not given. [byte/s]

    Raises:
        SpecError: A name is unknown, a request has one output token, or no bandwidth is known.
    """
    if osl < 2:
        raise SpecError("osl: a decode pool needs two output tokens at least")
    spec = catalog.model(model)
    recipes = recipes_on_offer(spec, offer, catalog, calibration)
    machines, _ = machines_on_offer(offer, catalog, calibration)
    if transfer_bandwidth is None and not any(m.network_bandwidth_bytes_per_s for m in machines):
        raise SpecError(
            "no accelerator on offer states network_bandwidth_bytes_per_s; give the bandwidth "
            "between the pools with --transfer-bandwidth, in bytes a second and GPU"
        )
    axes = layout_axes(offer, machines, spec)
    hits, drafts = _divided(requests_axes or {})
    prefills: list[Instance] = []
    decodes: list[Instance] = []
    for recipe in recipes:
        able = [machine for machine in machines if computes(machine, recipe)]
        if not able:
            continue
        common: dict[str, Any] = {
            "models": [spec],
            "hardware": able,
            "precision": [recipe],
            **axes,
            "isl": [isl],
        }
        prompts = swept(
            Grid(
                **common,
                **hits,
                osl=[1],
                batch_size=powers_of_two(LARGEST_BATCH),
                variables=["ttft", "kv_cache_memory", "feasible"],
            ),
            catalog,
            calibration,
        )
        steps = swept(
            Grid(
                **common,
                **drafts,
                draft_model=None if draft_model is None else catalog.model(draft_model),
                **memory_share(calibration),
                osl=[osl],
                batch_size=loads(MOST_REQUESTS),
                variables=["tpot", "max_concurrency", "inflight_feasible"],
            ),
            catalog,
            calibration,
        )
        for machine in able:
            facts = _facts(machine, recipe, by, prices, transfer_bandwidth)
            for layout in _layouts(axes, machine, offer):
                sent = _at(prompts["kv_cache_memory"], machine, layout).sel(batch_size=1)
                facts |= {"layout": layout, "gpus": int(gpus_of(layout, REPLICA_GPUS))}
                facts["sent_bytes"] = float(sent.squeeze())
                prefills += _instance(facts, _prefill_loads(prompts, machine, layout))
                decodes += _instance(facts, _decode_loads(steps, machine, layout))
    return prefills, decodes


def _divided(
    axes: Mapping[str, Sequence[float]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Axes of prompts and of decoding.

    Raises:
        SpecError: An axis has several values.
    """
    several = [axis for axis, values in axes.items() if len(values) > 1]
    if several:
        raise SpecError(f"--disaggregated: give one {several[0]}, not several")
    given = {axis: list(values) for axis, values in axes.items()}
    prompts = ("prefix_hit_rate", "shared_prefix_tokens")
    return (
        {axis: values for axis, values in given.items() if axis in prompts},
        {axis: values for axis, values in given.items() if axis not in prompts},
    )


def _facts(
    machine: HardwareSpec,
    recipe: PrecisionSpec,
    by: By,
    prices: Mapping[str, float],
    transfer_bandwidth: float | None,
) -> dict[str, Any]:
    price = price_of(machine, prices)
    dollars = float("nan") if price is None else float(price)
    watts = float("nan") if machine.tdp_w is None else machine.tdp_w
    return {
        "hardware": machine.name,
        "precision": recipe.name,
        "kv_dtype": recipe.kv_dtype,
        "unit_cost": {"gpu": 1.0, "dollar": dollars / 3600, "watt": watts}[by],
        "price": dollars,
        "bandwidth": transfer_bandwidth or machine.network_bandwidth_bytes_per_s or 0.0,
        "hop": machine.network_latency_s,
    }


def _layouts(
    axes: Mapping[str, Sequence[int]], machine: HardwareSpec, offer: Offer
) -> list[dict[str, int]]:
    """Layouts within a machine, or all if the offer gives both tp and pp."""
    named = (*REPLICA_GPUS, *(["ep"] if "ep" in axes else []))
    every = [
        dict(zip(named, values, strict=True)) for values in product(*(axes[axis] for axis in named))
    ]
    if offer.tp and offer.pp:
        return every
    return [each for each in every if gpus_of(each, REPLICA_GPUS) <= machine_gpus(machine)]


def _at(array: xr.DataArray, machine: HardwareSpec, layout: Mapping[str, int]) -> xr.DataArray:
    where = {"hardware": machine.name, **layout}
    return array.sel({axis: value for axis, value in where.items() if axis in array.dims})


def _prefill_loads(
    prompts: xr.Dataset, machine: HardwareSpec, layout: Mapping[str, int]
) -> dict[str, Any]:
    at = prompts.map(_at, args=(machine, layout))
    return _loads(at, "ttft", "ttft_extrapolation", at["feasible"].squeeze().values == 1)


def _decode_loads(
    steps: xr.Dataset, machine: HardwareSpec, layout: Mapping[str, int]
) -> dict[str, Any]:
    at = steps.map(_at, args=(machine, layout))
    runs = at["inflight_feasible"].squeeze().values == 1
    fits = at["batch_size"].values <= float(at["max_concurrency"].squeeze())
    return _loads(at, "tpot", "extrapolation", fits & runs)


def _loads(at: xr.Dataset, name: str, mask: str, able: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Loads that an instance can have, their times, and the intervals of these if there are any.

    Args:
        at: Variables of one instance over `batch_size`.
        name: The time.
        mask: In what ways its interval extrapolates.
        able: Whether it can have a load.
    """
    times = at[name].squeeze().values.astype(float)[able]
    found = {"loads": at["batch_size"].values[able].tolist(), "seconds": times.tolist()}
    if mask not in at:
        return found
    upper = at[f"{name}_upper"].squeeze().values.astype(float)[able]
    bits = np.broadcast_to(at[mask].squeeze().values, able.shape)[able]
    return {**found, "slower": (upper / times).tolist(), "beyond": bits.tolist()}


def _instance(facts: Mapping[str, Any], found: Mapping[str, Any]) -> list[Instance]:
    """The instance, if it can run at any load and its costs are known."""
    if not found["loads"] or not isfinite(facts["unit_cost"]) or not facts["bandwidth"]:
        return []
    return [Instance(**facts, **found)]
