"""Tables of the models, accelerators, precision recipes and sweeps of a catalog."""

from collections.abc import Sequence
from typing import Any

from sweep.cli.print_tables import Row
from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError
from sweep.models.checkpoint import checkpoint, is_quantised
from sweep.models.parameter_count import model_facts
from sweep.models.read import is_supported
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import Catalog
from sweep.specs.files import read_mapping
from sweep.specs.hardware import HardwareSpec
from sweep.specs.inputs import read_text
from sweep.specs.model import ModelSpec
from sweep.specs.shipped import shipped_configs

SCALES = {
    "memory_bytes": (1e9, "memory (GB)"),
    "memory_bandwidth_bytes_per_s": (1e12, "bandwidth (TB/s)"),
    "half_flops_per_s": (1e12, "16-bit (TFLOP/s)"),
    "fp8_flops_per_s": (1e12, "fp8 (TFLOP/s)"),
    "parameters": (1e9, "parameters (10⁹)"),
    "active_parameters": (1e9, "active (10⁹)"),
}
"""Divisor and heading of each column that people read in another unit than SI's."""


def for_people(rows: Sequence[Row]) -> list[Row]:
    """The rows with units and headings that people read; JSON keeps SI units."""
    return [
        {
            SCALES.get(key, (1, key))[1].replace("_", " "): _scaled(key, value)
            for key, value in row.items()
        }
        for row in rows
    ]


def _scaled(key: str, value: Any) -> Any:
    return value / SCALES[key][0] if key in SCALES and value is not None else value


def model_rows(catalog: Catalog) -> list[Row]:
    """One row per model, and whether its family is supported."""
    rows = []
    for name in catalog.paths("models"):
        spec = catalog.model(name)
        supported = is_supported(spec.config)
        facts = model_facts(spec) if supported else None
        rows.append(
            {
                "name": name,
                "family": spec.family,
                "parameters": facts.parameters if facts else None,
                "active_parameters": facts.active_parameters if facts else None,
                "supported": "yes" if supported else "not yet",
            }
        )
    return rows


def model_summary(spec: ModelSpec) -> dict[str, Any]:
    """Facts about a model from its config, in SI units.

    Raises:
        SpecError: Its family is not supported, or a key is missing or wrong.
    """
    facts = model_facts(spec)
    summary: dict[str, Any] = {
        "name": spec.name,
        "family": spec.family,
        "layers": facts.layers,
        "parameters": facts.parameters,
        "active_parameters": facts.active_parameters,
        "weight_bytes_16_bit": 2 * facts.parameters,
        "kv_cache_bytes_per_token": facts.kv_cache_bytes_per_token,
    }
    if facts.state_bytes_per_sequence:
        summary["state_bytes_per_sequence"] = facts.state_bytes_per_sequence
    if is_quantised(spec):
        own = checkpoint(spec)
        summary |= {
            "checkpoint": own.recipe.note,
            "weight_bytes_of_checkpoint": round(own.weight_bytes),
        }
    if spec.published is not None:
        summary |= {
            "published_parameters": spec.published.parameters,
            "published_kind": spec.published.kind,
            "parameters_with_all_stored_tensors": facts.stored_parameters,
        }
    if spec.note:
        summary["note"] = spec.note
    if spec.also_published_as:
        others = [other.identifier for other in spec.also_published_as]
        summary["also_published_as"] = ", ".join(others)
    return summary | {f"{key}_source": text for key, text in spec.sources.items()}


def hardware_rows(catalog: Catalog) -> list[Row]:
    """One row per accelerator."""
    rows = []
    for name in catalog.paths("hardware"):
        spec = catalog.hardware(name)
        rows.append(
            {
                "name": name,
                "vendor": spec.vendor,
                "memory_bytes": spec.memory_bytes,
                "memory_bandwidth_bytes_per_s": spec.memory_bandwidth_bytes_per_s,
                "half_flops_per_s": spec.peaks.get("half"),
                "fp8_flops_per_s": spec.peaks.get("fp8"),
                "confidence": spec.confidence,
            }
        )
    return rows


def precision_rows(catalog: Catalog) -> list[Row]:
    """One row per precision recipe."""
    specs = [catalog.precision(name) for name in catalog.paths("precisions")]
    return [
        {
            "name": spec.name,
            "weight": spec.weight_dtype,
            "activation": spec.activation_dtype,
            "kv": spec.kv_dtype,
            "computes_in": spec.compute_dtype,
            "note": spec.note,
        }
        for spec in specs
    ]


def sweep_rows(catalog: Catalog) -> list[Row]:
    """One row per sweep file."""
    rows = []
    for name, path in catalog.paths("sweeps").items():
        data = read_mapping(path)
        for key in ("models", "hardware"):
            if not isinstance(data.get(key), list):
                raise SpecError(f"{path}: {key}: must be a list of names")
        first = read_text(path).partition("\n")[0]
        rows.append(
            {
                "name": name,
                "what": first.removeprefix("#").strip() if first.startswith("#") else "",
                "models": len(data["models"]),
                "hardware": len(data["hardware"]),
            }
        )
    return rows


def calibration_rows(catalog: Catalog) -> list[Row]:
    """One row per shipped calibration."""
    del catalog
    rows = []
    for path in sorted((shipped_configs() / "calibrations").glob("*.yaml")):
        found = load_calibration(path.stem)
        assert found is not None
        rows.append(
            {
                "name": path.stem,
                "engine": found.engine,
                "version": found.engine_version,
                "accelerators": len(found.seen.get("hardware", ())),
                "models": len(found.seen.get("model", ())),
            }
        )
    return rows


def variable_rows(catalog: Catalog) -> list[Row]:
    """One row per variable that a sweep can compute."""
    del catalog
    return [
        {"name": name, "units": variable.units, "meaning": variable.long_name}
        for name, variable in VARIABLES.items()
    ]


def figure_rows(spec: HardwareSpec) -> list[Row]:
    """One row per figure of an accelerator, with its source."""
    rows: list[Row] = [
        {"figure": name, "value": value, "source": spec.source_of(name)}
        for name, value in spec.figures().items()
    ]
    price = spec.price_usd_per_hour
    if price is not None:
        source = f"{price.source}, {price.date}"
        rows.append({"figure": "price_usd_per_hour", "value": price.value, "source": source})
    return rows


def ridge_rows(specs: Sequence[HardwareSpec], dtype: str) -> list[Row]:
    """One row per accelerator: peak rate, bandwidth and ridge point.

    Raises:
        SpecError: One has no peak for `dtype`.
    """
    rows = []
    for spec in specs:
        if dtype not in spec.peaks:
            known = ", ".join(spec.peaks)
            raise SpecError(f"{spec.name!r} lists no peak for {dtype!r}; it lists {known}")
        peak, bandwidth = spec.peaks[dtype], spec.memory_bandwidth_bytes_per_s
        rows.append(
            {
                "hardware": spec.name,
                "peak_flops_per_s": peak,
                "memory_bandwidth_bytes_per_s": bandwidth,
                "ridge_flop_per_byte": peak / bandwidth,
                "confidence": spec.confidence,
            }
        )
    return rows


def in_readable_units(rows: Sequence[Row]) -> list[Row]:
    """Rows of `ridge_rows` in TFLOP/s and TB/s."""
    return [
        {
            "hardware": row["hardware"],
            "peak (TFLOP/s)": row["peak_flops_per_s"] / 1e12,
            "bandwidth (TB/s)": row["memory_bandwidth_bytes_per_s"] / 1e12,
            "ridge (FLOP/byte)": row["ridge_flop_per_byte"],
            "confidence": row["confidence"],
        }
        for row in rows
    ]
