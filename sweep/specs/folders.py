"""Folders with config files, and the names in them; it imports little, for shell completion."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sweep.specs.shipped import shipped_configs

CONFIGS_VARIABLE = "LLM_SWEEP_CONFIGS"
"""Environment variable with further config folders, separated as in `PATH`."""
SUFFIXES = (".yaml", ".yml", ".json")
Kind = Literal["hardware", "models", "precisions", "sweeps", "calibrations"]


def config_folders(folders: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """The folders given, then those of `LLM_SWEEP_CONFIGS`, then the shipped ones."""
    named = [Path(f) for f in os.environ.get(CONFIGS_VARIABLE, "").split(os.pathsep) if f]
    return (*map(Path, folders), *named, shipped_configs())


def config_paths(folders: Sequence[Path], kind: Kind) -> dict[str, Path]:
    """Files of one kind by name, in order of names; the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / kind).glob("*")):
            if path.suffix in SUFFIXES:
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))
