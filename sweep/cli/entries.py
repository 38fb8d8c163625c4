"""One entry of the catalog as a table, and the fields that a file of its kind may have."""

import inspect
import re
from dataclasses import dataclass
from math import exp
from typing import Any

from pydantic import BaseModel

from sweep.cli.catalog_tables import figure_rows, model_summary, variable_rows
from sweep.cli.print_tables import Row
from sweep.engines.calibration_file import Calibration, load_calibration
from sweep.errors import SpecError
from sweep.grid.grid import Grid
from sweep.runs.run import load_grid
from sweep.schema.axes import LONGEST
from sweep.schema.intervals import CALIBRATED
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import Catalog
from sweep.specs.files import read_mapping
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.parsing import nearest, short
from sweep.specs.precision import PrecisionSpec

SCHEMAS: dict[str, type[BaseModel]] = {
    "hardware": HardwareSpec,
    "models": ModelSpec,
    "precisions": PrecisionSpec,
    "sweeps": Grid,
    "calibrations": Calibration,
}
FIELD = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", re.MULTILINE | re.DOTALL)
"""A field and its meaning in the list of attributes of a docstring."""
NINETY_PERCENT = 1.645
"""Half of the 90 % interval of a normal distribution, in standard deviations. [1]"""


@dataclass(frozen=True)
class Entry:
    """An entry to print.

    Attributes:
        lines: What comes before the table.
        rows: The table.
        data: The entry as plain data, for JSON.
    """

    lines: list[str]
    rows: list[Row]
    data: Any


def fields_of(kind: str) -> list[Row]:
    """Each key that a file of a kind may have, with its meaning; each variable."""
    if kind == "variables":
        return variable_rows(Catalog())
    schema = SCHEMAS[kind]
    meanings: dict[str, str] = {}
    for each in reversed(schema.__mro__):
        listed = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2]
        meanings |= {name: " ".join(text.split()) for name, text in FIELD.findall(listed)}
    return [
        {
            "field": field.alias or name,
            "needed": "yes" if field.is_required() and name != "name" else "",
            "meaning": meanings.get(name, ""),
        }
        for name, field in schema.model_fields.items()
        if not field.exclude
    ]


def entry(kind: str, name: str, catalog: Catalog) -> Entry:
    """The entry of a kind.

    Raises:
        SpecError: It is unknown or malformed.
    """
    return {
        "hardware": _hardware,
        "models": _model,
        "precisions": _precision,
        "sweeps": _sweep,
        "calibrations": _calibration,
        "variables": _variable,
    }[kind](name, catalog)


def _hardware(name: str, catalog: Catalog) -> Entry:
    spec = catalog.hardware(name)
    known = (spec.product, spec.form_factor, spec.year)
    lines = [
        ", ".join([f"{spec.name}: {spec.vendor}", *(str(what) for what in known if what)]),
        f"confidence: {spec.confidence}. {spec.note}".strip(),
    ]
    return Entry(lines, figure_rows(spec), spec.model_dump(mode="json", by_alias=True))


def _model(name: str, catalog: Catalog) -> Entry:
    summary = model_summary(catalog.model(name))
    rows = [{"": key.replace("_", " "), "value": value} for key, value in summary.items()]
    return Entry([], rows, summary)


def _precision(name: str, catalog: Catalog) -> Entry:
    data = catalog.precision(name).model_dump(mode="json", exclude_none=True)
    return Entry([], [{"": key, "value": _plain(value)} for key, value in data.items()], data)


def _sweep(name: str, catalog: Catalog) -> Entry:
    path = catalog.path("sweeps", name)
    grid, data = load_grid(path), read_mapping(path)
    points = 1
    rows = []
    for axis, values in _axes(grid).items():
        points *= len(values)
        rows.append({"axis": axis, "values": len(values), "which": _few(values)})
    lines = [
        f"{path}: {points:,} points",
        f"variables: {', '.join(grid.variables)}",
    ]
    return Entry(lines, rows, data)


def _axes(grid: Grid) -> dict[str, list[Any]]:
    named: dict[str, list[Any]] = {
        "model": [*grid.models],
        "hardware": [*grid.hardware],
        "precision": [*grid.precision],
    }
    labels = {axis: [_label(value) for value in values] for axis, values in named.items()}
    return labels | grid.numbers


def _label(value: Any) -> str:
    return str(value.get("name") if isinstance(value, dict) else getattr(value, "name", value))


def _few(values: list[Any]) -> str:
    texts = [f"{v:,}" if isinstance(v, int) else str(v) for v in values]
    return " ".join(texts if len(texts) <= 8 else [*texts[:4], "…", *texts[-2:]])


def _calibration(name: str, catalog: Catalog) -> Entry:
    try:
        found = load_calibration(name)
    except SpecError as unknown:
        raise SpecError(f"{unknown}{catalog.elsewhere('calibrations', name)}") from None
    if found is None:
        raise SpecError(
            "ideal has no factors to show: each is 1 or 0; name a calibration or a file"
        )
    rows = []
    for factor, figure in sorted(found.factors.items()):
        error = NINETY_PERCENT * (figure.standard_error or 0.0)
        rows.append(
            {
                "factor": factor,
                "value": f"{figure.value:.4g}",
                "90 % from": f"{figure.value * exp(-error):.4g}",
                "to": f"{figure.value * exp(error):.4g}",
                "verdict": figure.verdict,
            }
        )
    lines = [
        f"{found.name} {found.digest}: {found.engine} {found.engine_version}",
        f"accelerators measured: {', '.join(found.seen.get('hardware', ()))}",
        f"models measured: {', '.join(found.seen.get('model', ()))}",
    ]
    return Entry(lines, rows, found.model_dump(mode="json", exclude_none=True))


def _variable(name: str, catalog: Catalog) -> Entry:
    spelt = name.lower().replace("-", "_")
    found = VARIABLES.get(spelt)
    if found is None:
        guess = nearest(spelt, list(VARIABLES)) or "; see 'llm-sweep list variables'"
        other = catalog.elsewhere("variables", name)
        raise SpecError(f"unknown variable {short(name)}{guess}{other}")
    data = {
        "name": spelt,
        "meaning": found.long_name,
        "definition": found.comment,
        "units": found.units,
        "axes": ", ".join(axis for axis in found.dims if axis != LONGEST),
        "interval": "90 %, of a calibrated sweep" if spelt in CALIBRATED else "",
        "values": ", ".join(found.flag_values or [word for word, _ in found.flag_masks]),
        "missing where": "the configuration cannot run" if found.masked else "",
    }
    rows: list[Row] = [{"": key, "value": value} for key, value in data.items() if value]
    return Entry([], rows, data)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else str(value)
