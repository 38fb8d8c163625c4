"""Deployments computed by a sweep over all that is on offer."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from sweep.decisions.candidate_table import as_table
from sweep.decisions.candidates import INFLIGHT, Candidates, Known, Offer
from sweep.engines.calibration_file import FittedEfficiency
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.grid.resolved import check_dtypes
from sweep.kernel.block import is_routed
from sweep.models.read import read_blocks
from sweep.runs.run import run
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import PrecisionSpec

MOST_REQUESTS = 2048
"""Requests in flight up to which `loads` are tried. [count]"""
WIDEST = 64
"""GPUs of a machine up to which layouts are tried unasked. [count]"""


def sweep_candidates(
    model: str,
    offer: Offer,
    *,
    isl: int,
    osl: int,
    concurrency: int | None,
    catalog: Catalog,
    efficiency: FittedEfficiency | None,
) -> Candidates:
    """Run a sweep of servers with in-flight batching over all that is on offer.

    Args:
        model: Name, or path of a config.json.
        offer: What there is to choose from.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        concurrency: Requests in flight at a replica; `loads` are tried if not given. [count]
        catalog: Where to look names up.
        efficiency: A calibration; ideal rooflines if not given.

    Raises:
        SpecError: A name is unknown, or no accelerator computes in any of the types.
    """
    spec = catalog.model(model)
    recipes = [catalog.precision(name) for name in offer.precision or ("fp16",)]
    machines = [catalog.hardware(name) for name in dict.fromkeys(offer.hardware)] or solid_hardware(
        catalog, efficiency
    )
    axes = _layout_axes(offer, machines, spec)
    requests: Any = [concurrency] if concurrency else loads(MOST_REQUESTS)
    parts, told = [], ""
    for recipe in recipes:
        able = [machine for machine in machines if computes(machine, recipe)]
        if not able:
            continue
        grid = Grid(
            models=[spec],
            hardware=list(able),
            precision=[recipe],
            **axes,
            concurrency=requests,
            isl=[isl],
            osl=[osl],
            variables=[
                INFLIGHT.throughput,
                INFLIGHT.ttft,
                INFLIGHT.tpot,
                "inflight_concurrency",
                "max_concurrency",
            ],
        )
        dataset = run(grid, catalog=catalog, efficiency=efficiency)
        told = str(dataset.attrs["efficiency"])
        parts.append(as_table(dataset.isel(model=0, isl=0, osl=0), INFLIGHT))
    if not parts:
        names, types = (", ".join(spec.name for spec in specs) for specs in (machines, recipes))
        raise SpecError(f"no peak rate for {types} on any of {names}; choose another precision")
    frame = pd.concat(parts, ignore_index=True)
    kept = frame[_within_machines(frame, machines, offer)].reset_index(drop=True)
    known = Known(spec, {m.name: m for m in machines}, {r.name: r for r in recipes})
    return Candidates(spec.name, isl, osl, INFLIGHT, kept, told, known)


def solid_hardware(
    catalog: Catalog, efficiency: FittedEfficiency | None = None
) -> list[HardwareSpec]:
    """Accelerators with solid figures, under a calibration of vendors that its rows were of."""
    specs = [catalog.hardware(name) for name in catalog.paths("hardware")]
    seen = [] if efficiency is None else efficiency.seen.get("hardware", [])
    vendors = {spec.vendor for spec in specs if spec.name in seen or not seen}
    return [spec for spec in specs if spec.confidence == "solid" and spec.vendor in vendors]


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 and so on up to `most`."""
    return [2**n for n in range(most.bit_length()) if 2**n <= most]


def loads(most: int) -> list[int]:
    """Powers of two up to `most`, and half as much again in between: 1, 2, 3, 4, 6, 8 and so on."""
    powers = powers_of_two(most)
    return sorted({*powers, *(3 * n // 2 for n in powers[1:] if 3 * n // 2 < most)})


def _layout_axes(
    offer: Offer, machines: Sequence[HardwareSpec], model: ModelSpec
) -> dict[str, list[int]]:
    blocks = read_blocks(model.config, model.where)
    mixed = is_routed(blocks)
    within = powers_of_two(min(max(_node(machine) for machine in machines), WIDEST))
    return {
        "tp": sorted(set(offer.tp)) or within,
        "pp": sorted(set(offer.pp)) or within,
        "dp_attention": sorted(set(offer.dp_attention)) or (within if mixed else [1]),
    }


def _node(spec: HardwareSpec) -> int:
    """GPUs of one machine. [count]"""
    return spec.fabric_reach[1]


def _within_machines(
    frame: pd.DataFrame, machines: Iterable[HardwareSpec], offer: Offer
) -> pd.Series:
    """Deployments that fit in one machine; all where every axis of the layout was given.

    Raises:
        SpecError: None fits.
    """
    if offer.tp and offer.pp:
        return pd.Series(True, frame.index)
    sizes = {machine.name: _node(machine) for machine in machines}
    within: pd.Series = frame["gpus"] <= frame["hardware"].map(sizes)
    if not within.any():
        told = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise SpecError(
            f"every layout takes {frame['gpus'].min():.0f} GPUs or more, and a machine of {told}; "
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
