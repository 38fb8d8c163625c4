"""Accelerators to choose from, and those that are left out."""

from collections.abc import Sequence
from dataclasses import replace

from sweep.decisions.deployments import Offer
from sweep.engines.calibration_file import Calibration
from sweep.engines.known import ENGINES, engine_of
from sweep.errors import SpecError
from sweep.grid.resolved import check_dtypes
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import PrecisionSpec


def machines_on_offer(
    offer: Offer, catalog: Catalog, calibration: Calibration | None
) -> tuple[list[HardwareSpec], list[str]]:
    """Accelerators of an offer, and sentences on what it covers and leaves out.

    Raises:
        SpecError: A name is unknown, or the calibration's engine runs on none of them.
    """
    if not offer.hardware:
        machines = solid_hardware(catalog, calibration)
        every = [*machines, *(catalog.hardware(name) for name in offer.by_others)]
        makers = " and ".join(sorted({machine.vendor for machine in every}))
        covered = (
            f"considered: the {len(every)} accelerators of {makers} with solid figures: "
            f"{', '.join(machine.name for machine in every)}; name others to rank them"
        )
        return machines, [covered]
    # Names may be repeated, and two may mean the same entry.
    named = [catalog.hardware(name) for name in offer.hardware]
    named = [spec for index, spec in enumerate(named) if spec not in named[:index]]
    if calibration is None:
        return named, []
    kept = [machine for machine in named if calibration.runs_on(machine)]
    if not kept:
        calibration.check_runs_on(named)
    foreign = [machine for machine in named if machine not in kept]
    return kept, [_left_out(machine, calibration) for machine in foreign]


def shared_offers(
    offer: Offer,
    catalog: Catalog,
    calibration: Calibration | None,
    others: Sequence[Calibration] = (),
) -> list[tuple[Calibration | None, Offer]]:
    """Calibrations, each with the offer of the accelerators that it is to predict.

    Args:
        offer: What to choose from.
        catalog: Where to look names up.
        calibration: The one that predicts all accelerators on which its engine runs, and refuses
            those on which no engine does; ideal rooflines if not given.
        others: Calibrations for accelerators on which that engine does not run; the first whose
            engine runs on one predicts it.

    Raises:
        SpecError: A name is unknown.
    """
    if calibration is None or not others:
        return [(calibration, offer)]
    if offer.hardware:
        asked = {name: catalog.hardware(name) for name in offer.hardware}
    else:
        solid = [machine for other in others for machine in solid_hardware(catalog, other)]
        # Generations that its engine no longer runs are ranked where they are named.
        main = engine_of(calibration.engine)
        asked = {each.name: each for each in solid if not main.runs_on(each.vendor)}
    names: dict[str, list[str]] = {each.name: [] for each in (calibration, *others)}
    unable: list[str] = []
    for name, machine in asked.items():
        able = next((each for each in (calibration, *others) if each.runs_on(machine)), None)
        (unable if able is None else names[able.name]).append(name)
    kept = [each for each in (calibration, *others) if names[each.name]]
    if not kept or not offer.hardware:
        kept = [calibration, *(each for each in kept if each is not calibration)]
    # The first one says why the rest is left out.
    names[kept[0].name] += unable
    by_others = () if offer.hardware else tuple(asked)
    return [
        (each, replace(offer, hardware=tuple(names[each.name]), by_others=by_others))
        for each in kept
    ]


def _left_out(machine: HardwareSpec, calibration: Calibration) -> str:
    others = [
        name
        for name, engine in ENGINES.items()
        if engine.runs_on(machine.vendor, machine.architecture)
    ]
    advice = f"rank it with calibration {' or '.join(others)}" if others else "rank it by bounds"
    return (
        f"left out: {machine.name}, since {calibration.engine} does not run on accelerators of "
        f"{machine.vendor} {machine.architecture}".rstrip()
        + f"; {advice}"
    )


def solid_hardware(catalog: Catalog, calibration: Calibration | None = None) -> list[HardwareSpec]:
    """Accelerators whose figures are solid.

    Args:
        catalog: Where to look.
        calibration: A calibration; only accelerators of the vendors that it was fitted to are kept.
    """
    specs = catalog.all_hardware()
    seen = [] if calibration is None else calibration.seen.get("hardware", [])
    vendors = {spec.vendor for spec in specs if spec.name in seen or not seen}
    solid = [spec for spec in specs if spec.confidence == "solid" and spec.vendor in vendors]
    return [spec for spec in solid if calibration is None or calibration.runs_on(spec)]


def computes(machine: HardwareSpec, recipe: PrecisionSpec) -> bool:
    """Whether an accelerator has a rate for every type of a recipe."""
    try:
        check_dtypes(machine, recipe)
    except SpecError:
        return False
    return True


def refused_types(
    able: Sequence[tuple[PrecisionSpec, Sequence[HardwareSpec]]], machines: Sequence[HardwareSpec]
) -> list[str]:
    """Sentences on accelerators that lack a rate for a type of a recipe.

    Args:
        able: Recipes with the accelerators that have all rates.
        machines: All accelerators.
    """
    return [
        f"left out: {', '.join(names)} in {recipe.name}, for want of a matrix rate"
        for recipe, each in able
        if (names := [machine.name for machine in machines if machine not in each])
    ]
