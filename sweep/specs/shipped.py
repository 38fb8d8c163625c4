"""Location of the shipped configs: inside an installed package, or next to it in a clone."""

from importlib.resources import files
from pathlib import Path

from sweep.errors import SpecError

PREDICTIONS = "tensorrt-llm"
"""Calibration of questions about a choice, if none is asked for: bounds would favour the hardware
that software uses worst."""


def shipped_configs() -> Path:
    """Folder with `hardware/`, `models/`, `precisions/`, `sweeps/` and `measurements/`.

    Raises:
        SpecError: The installation contains none.
    """
    package = Path(str(files("sweep")))
    for folder in (package / "_configs", package.parent / "configs"):
        if (folder / "hardware").is_dir():
            return folder
    raise SpecError(f"{package}: the shipped configs are missing; reinstall llm-sweep")


def is_shipped_calibration(name: str) -> bool:
    """Whether a shipped calibration has this name; a result may record any text, also a path."""
    return name in {path.stem for path in (shipped_configs() / "calibrations").glob("*.yaml")}
