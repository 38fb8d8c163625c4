"""Predictions for a table of rows, with intervals and extrapolation flags."""

import numpy as np
import pandas as pd

from calibration.fit.forward import Forward, predict
from calibration.fit.parameters import Array
from calibration.fit.points import VARIABLES
from calibration.fit.table import Table
from calibration.validation.ranged import ranged_numbers
from sweep.engines.calibration_file import Calibration
from sweep.engines.prediction_interval import UNMEASURED, Subjects
from sweep.engines.versions import UNSTATED_VERSION, version_of
from sweep.kernel.factors import FACTORS
from sweep.schema.intervals import CALIBRATED, EXTRAPOLATION


def predictions(table: Table, calibration: Calibration | None) -> pd.DataFrame:
    """The rows with `predicted`, `lower`, `upper` and `flags`.

    Intervals contain 90 % of the figures of the kinds of rows that the calibration was judged on.
    Ideal rooflines, for which `calibration` is `None`, have none. Flags name what a row
    extrapolates to, and `other_engine`, of which the calibration has seen nothing,
    `unknown_version`, which counts as the latest, `infeasible`, for a row that does not fit in
    memory, and `more_clients_than_fit`, for one whose clients wait for one another.
    """
    frame = pd.DataFrame([row.model_dump() for row in table.rows])
    # Beside a recipe the default is no type of the row.
    frame["weight_dtype"] = [
        None if row.precision and "weight_dtype" not in row.model_fields_set else row.weight_dtype
        for row in table.rows
    ]
    if calibration is None:
        frame["predicted"] = predict(table.groups)
        return frame
    factors = {t: [calibration.factor(f, t) for f in FACTORS] for t in set(table.traits)}
    values = np.asarray([factors[traits] for traits in table.traits])
    frame["predicted"] = np.exp(Forward(table.groups, FACTORS, slopes=False).log_figures(values)[0])
    widths, bits = interval_halfwidths(table, calibration)
    faults = _faults(table, calibration, values)
    widths = np.where(faults["unknown_version"], UNMEASURED * widths, widths)
    frame["lower"] = frame["predicted"] * np.exp(-widths)
    frame["upper"] = frame["predicted"] * np.exp(widths)
    frame["flags"] = [
        " ".join(
            [word for word, bit in EXTRAPOLATION.items() if bits[index] & bit]
            + [word for word, where in faults.items() if where[index]]
        )
        for index in range(len(table.rows))
    ]
    return frame


def _faults(table: Table, calibration: Calibration, values: Array) -> dict[str, Array]:
    """Whether each row has a fault that makes it no row of the calibration, by the fault's flag."""
    return {
        "other_engine": _of_others(table, calibration),
        "unknown_version": np.asarray([_unknown(row.engine_version) for row in table.rows]),
        "infeasible": _infeasible(table, values),
        "more_clients_than_fit": _overfull(table, values),
    }


def _of_others(table: Table, calibration: Calibration) -> Array:
    """Whether each row is of another engine than the calibration; a row may not state its own."""
    own = {calibration.engine, "unknown"}
    return np.asarray([bool(calibration.engine) and row.engine not in own for row in table.rows])


def _unknown(version: str) -> bool:
    return version != UNSTATED_VERSION and not version_of(version)


def _infeasible(table: Table, values: Array) -> Array:
    """Whether each row needs more memory than there is, under its factors."""
    of_scenario = {"inflight": "inflight_feasible"}
    groups = [
        group.asked(of_scenario.get(table.rows[group.rows[0]].scenario, "feasible"))
        for group in table.groups
    ]
    with np.errstate(divide="ignore"):
        found, _ = Forward(groups, FACTORS, slopes=False).log_figures(values)
    return ~np.isfinite(found)


def _overfull(table: Table, values: Array) -> Array:
    """Whether clients of each row keep more requests open than fit in memory, under its factors."""
    clients = np.asarray([row.concurrency or 0 for row in table.rows], float)
    groups = [
        group.asked("max_concurrency")
        for group in table.groups
        if np.any(clients[group.rows] > 0) and table.rows[group.rows[0]].scenario == "inflight"
    ]
    held = np.full(len(table.rows), np.inf)
    if groups:
        with np.errstate(divide="ignore"):
            found, _ = Forward(groups, FACTORS, slopes=False).log_figures(values)
        indices = np.concatenate([group.rows for group in groups])
        held[indices] = np.floor(np.exp(found[indices]) + 1e-6)
    return (held >= 1) & (held < clients)


def interval_halfwidths(table: Table, calibration: Calibration) -> tuple[Array, Array]:
    """Half of the 90 % interval of the logarithm of each row, and the bits of `EXTRAPOLATION`.

    A server without a limit holds as many requests as fit, as those measured did.
    """
    widths, bits = np.empty(len(table.rows)), np.empty(len(table.rows), np.int8)
    subjects = _subjects(table, _of_others(table, calibration))
    numbers = {**ranged_numbers(table, held=False), "link_gpus": table.link_gpus}
    variables = np.asarray([VARIABLES[row.scenario, row.metric] for row in table.rows])
    for variable in np.unique(variables).tolist():
        rows, mask = np.flatnonzero(variables == variable), CALIBRATED[variable].mask
        given = {name: values[rows] for name, values in numbers.items()}
        found = calibration.intervals(subjects.at(rows), {mask: given}, [variable])
        widths[rows], bits[rows] = found.halfwidth(variable), found.extrapolation[mask]
    return widths, bits


def _subjects(table: Table, foreign: Array) -> Subjects:
    """Labels of the rows, without those that a calibration has not seen, as of another engine."""

    def known(labels: Array) -> Array:
        return np.where(foreign, "", labels.astype(object)).astype(str)

    return Subjects(
        model=known(table.labels("model")),
        family=known(table.labels("family")),
        experts=table.labels("experts"),
        hardware=known(table.labels("hardware")),
        dtype=known(np.asarray([traits.dtype for traits in table.traits])),
        version=np.asarray([traits.version for traits in table.traits]),
    )
