"""Compute deployments by a sweep of servers with in-flight batching."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from sweep.decisions.deployment_table import as_table
from sweep.decisions.deployments import INFLIGHT, Deployments, Offer
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import Calibration, recorded_name
from sweep.engines.known import engine_of
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.grid.resolved import check_dtypes, usual
from sweep.kernel.block import is_routed
from sweep.models.checkpoint import checkpoint
from sweep.models.read import read_model
from sweep.runs.run import run
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT, PrecisionSpec

MOST_REQUESTS = 2048
"""Largest number of requests in flight that is tried. [count]"""
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
"""Variables of the sweep."""


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
) -> Deployments:
    """Run a sweep over every deployment on offer.

    Args:
        model: Name, or path of a config.json.
        offer: What to choose from.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        concurrency: Requests in flight at a replica; those of `loads` if not given. [count]
        catalog: Where to look names up.
        calibration: A calibration; ideal rooflines if not given.
        requests_axes: Values of `draft_tokens` and of `WORKLOAD_AXES`, one of each of these.
        draft_model: The model that drafts tokens; a layer of the model's kind if not given.

    Raises:
        SpecError: A name is unknown, no accelerator computes in any of the types, or no layout
            fits in one machine.
    """
    spec = catalog.model(model)
    named = [catalog.precision(name) for name in offer.precision or usual([spec])]
    recipes = [checkpoint(spec).recipe if each.name == CHECKPOINT.name else each for each in named]
    machines = [catalog.hardware(name) for name in dict.fromkeys(offer.hardware)] or solid_hardware(
        catalog, calibration
    )
    axes = layout_axes(offer, machines, spec)
    drafting = None if draft_model is None else catalog.model(draft_model)
    requests: Any = [concurrency] if concurrency else loads(MOST_REQUESTS)
    workload: dict[str, Any] = {a: list(values) for a, values in (requests_axes or {}).items()}
    tables, recorded = [], ""
    for recipe in recipes:
        able = [machine for machine in machines if computes(machine, recipe)]
        if not able:
            continue
        grid = Grid(
            models=[spec],
            hardware=list(able),
            precision=[recipe],
            **axes,
            **memory_share(calibration),
            **workload,
            draft_model=drafting,
            concurrency=requests,
            isl=[isl],
            osl=[osl],
            variables=VARIABLES,
        )
        dataset = run(grid, catalog=catalog, calibration=calibration)
        recorded = recorded_name(dataset.attrs)
        tables.append(as_table(dataset.isel(model=0, isl=0, osl=0), INFLIGHT))
    if not tables:
        names, types = (", ".join(spec.name for spec in specs) for specs in (machines, recipes))
        raise SpecError(f"no peak rate for {types} on any of {names}; choose another precision")
    frame = pd.concat(tables, ignore_index=True)
    kept = frame[_within_machines(frame, machines, offer)].reset_index(drop=True)
    models = {each.name: each for each in (spec, drafting) if each is not None}
    specs = SpecsByName(models, {m.name: m for m in machines}, {r.name: r for r in recipes})
    draft = "" if drafting is None else drafting.name
    return Deployments(spec.name, isl, osl, INFLIGHT, kept, recorded, specs, draft)


def memory_share(calibration: Calibration | None) -> dict[str, Any]:
    """Axis by which the calibration's engine sizes its KV cache, if not by the server's default.

    A calibration that knows the memory that the engine keeps was fitted with that instead.
    """
    if calibration is None or "reserved_memory_bytes" in calibration.settings:
        return {}
    axis, share = engine_of(calibration.engine).memory_share
    return {} if axis == "kv_cache_fraction" else {axis: [share]}


def solid_hardware(catalog: Catalog, calibration: Calibration | None = None) -> list[HardwareSpec]:
    """Accelerators whose figures are solid.

    Args:
        catalog: Where to look.
        calibration: A calibration; only accelerators of the vendors that it was fitted to are kept.
    """
    specs = [catalog.hardware(name) for name in catalog.paths("hardware")]
    seen = [] if calibration is None else calibration.seen.get("hardware", [])
    vendors = {spec.vendor for spec in specs if spec.name in seen or not seen}
    return [spec for spec in specs if spec.confidence == "solid" and spec.vendor in vendors]


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 and so on up to `most`."""
    return [2**n for n in range(most.bit_length()) if 2**n <= most]


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
    }


def machine_gpus(spec: HardwareSpec) -> int:
    """GPUs of one machine. [count]"""
    return spec.fabric_reach[1]


def _within_machines(
    frame: pd.DataFrame, machines: Iterable[HardwareSpec], offer: Offer
) -> pd.Series:
    """Mask of deployments that fit in one machine; all if the offer gives both tp and pp.

    Raises:
        SpecError: None fits.
    """
    if offer.tp and offer.pp:
        return pd.Series(True, frame.index)
    sizes = {machine.name: machine_gpus(machine) for machine in machines}
    within: pd.Series = frame["gpus"] <= frame["hardware"].map(sizes)
    if not within.any():
        known = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise SpecError(
            f"every layout takes {frame['gpus'].min():.0f} GPUs or more, and a machine of {known}; "
            "give both tp and pp for layouts over several machines"
        )
    return within


def computes(machine: HardwareSpec, recipe: PrecisionSpec) -> bool:
    """Whether an accelerator has a rate for every type of a recipe."""
    try:
        check_dtypes(machine, recipe)
    except SpecError:
        return False
    return True
