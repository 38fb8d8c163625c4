"""Finds specifications by name: in the user's folders first, then in the shipped one."""

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from sweep.errors import SpecError, SpecWarning
from sweep.specs.files import SUFFIXES, read_mapping
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.model_files import is_model_folder, is_quantised, name_of_file, read_model_file
from sweep.specs.model_names import check_checkpoint, is_narrow, name_of
from sweep.specs.parsing import nearest, parse
from sweep.specs.precision import CHECKPOINT, PrecisionSpec
from sweep.specs.shipped import shipped_configs

CONFIGS_VARIABLE = "LLM_SWEEP_CONFIGS"
"""Environment variable with further config folders, separated as in `PATH`."""

Kind = Literal["hardware", "models", "precisions", "sweeps"]
S = TypeVar("S", bound=BaseModel)


@lru_cache(maxsize=4096)
def _identifier(path: Path, changed_ns: int, size: int) -> str | None:
    """Identifier that a model file states; the file is read again once it has changed."""
    del changed_ns, size
    stated = read_mapping(path).get("hugging_face_id")
    return stated if isinstance(stated, str) else None


class Catalog:
    """Specifications by name.

    Attributes:
        folders: Where to look, the user's before the shipped one.
    """

    def __init__(self, folders: Sequence[str | Path] = ()) -> None:
        """Search `folders`, then those of `LLM_SWEEP_CONFIGS`, then the shipped ones.

        Raises:
            SpecError: A folder does not exist.
        """
        named = [Path(f) for f in os.environ.get(CONFIGS_VARIABLE, "").split(os.pathsep) if f]
        self.folders = (*map(Path, folders), *named, shipped_configs())
        for folder in self.folders:
            if not folder.is_dir():
                raise SpecError(f"{folder}: no such config folder")

    def paths(self, kind: Kind) -> dict[str, Path]:
        """Files of one kind by name; the first folder that has a name wins."""
        found: dict[str, Path] = {}
        for folder in self.folders:
            for path in sorted((folder / kind).glob("*")):
                if path.suffix in SUFFIXES:
                    found.setdefault(path.stem, path)
        return dict(sorted(found.items()))

    def path(self, kind: Kind, name: str) -> Path:
        """The file of `name`, which may also be a path; a model also goes by published identifiers.

        Raises:
            SpecError: There is none, or `name` may be several.
        """
        known = self.paths(kind)
        if name in known:
            return known[name]
        if kind == "models":
            return Path(name) if _is_path(name) else known[name_of(name, self.published())]
        if Path(name).suffix in SUFFIXES or os.sep in name:
            return Path(name)
        guess = nearest(name, list(known)) or f"; see 'llm-sweep list {kind}'"
        raise SpecError(f"unknown {kind.removesuffix('s')} {name!r}{guess}")

    def name_in(self, kind: Kind, label: str) -> str:
        """The name that a label of a result means; a path is none.

        Raises:
            SpecError: The catalog has no such name.
        """
        known = self.paths(kind)
        if label in known or (kind == "precisions" and label == CHECKPOINT.name):
            return label
        if kind == "models":
            return name_of(label, self.published())
        raise SpecError(f"unknown {kind.removesuffix('s')} {label!r:.80}")

    def published(self) -> dict[str, str | None]:
        """Identifier that each model is published under, by name; `None` where none is stated."""
        found: dict[str, str | None] = {}
        for name, path in self.paths("models").items():
            with suppress(SpecError, OSError):
                found[name] = _identifier(path, path.stat().st_mtime_ns, path.stat().st_size)
        return found

    def hardware(self, name: str | Mapping[str, Any]) -> HardwareSpec:
        """An accelerator by name or path, or one `{base: …}` with some fields replaced.

        Raises:
            SpecError: It is unknown or malformed.
        """
        if isinstance(name, Mapping):
            return self._what_if(name)
        return load_named(HardwareSpec, self.path("hardware", name))

    def precision(self, name: str) -> PrecisionSpec:
        """A precision recipe by name or path; `checkpoint` stands for that of a model's own file.

        Raises:
            SpecError: It is unknown or malformed.
        """
        if name == CHECKPOINT.name:
            return CHECKPOINT
        return load_named(PrecisionSpec, self.path("precisions", name))

    def model(self, name: str | Path) -> ModelSpec:
        """A model by name or published identifier, or the `config.json` or folder at a path.

        Raises:
            SpecError: It is unknown or malformed.
        """
        path = self.path("models", str(name))
        data = read_model_file(path)
        if "config" in data:
            spec = load_named(ModelSpec, path).model_copy(update={"file": str(path)})
            if is_quantised(spec.config) and not _is_path(str(name)):
                check_checkpoint(str(name), spec.name, spec.hugging_face_id)
            return spec
        called = name_of_file(path)
        if is_narrow(called) and not is_quantised(data):
            text = (
                f"{path}: called {called!r}, but neither the file nor a hf_quant_config.json "
                "beside it says how the weights are stored; they count as the precision says"
            )
            warnings.warn(text, SpecWarning, stacklevel=2)
        bare = {"name": called, "sources": {"config": str(path)}, "config": data}
        return parse(ModelSpec, bare, str(path)).model_copy(update={"file": str(path)})

    def _what_if(self, changes: Mapping[str, Any]) -> HardwareSpec:
        where = "hardware"
        if not isinstance(changes.get("base"), str) or not isinstance(changes.get("name"), str):
            raise SpecError(
                f"{where}: a what-if needs base and name, as in "
                "{base: h20-96gb, memory_bandwidth_bytes_per_s: 4.8e+12, name: h20-fast}"
            )
        base = self.hardware(changes["base"])
        if changes["name"] in self.paths("hardware"):
            raise SpecError(
                f"{where}: name: {changes['name']!r} is already in the catalog; choose another"
            )
        changed = {k: v for k, v in changes.items() if k != "base"}
        if "memory_bytes" in changed:
            changed.setdefault("usable_memory_bytes", None)
        peaks = changed.get("peak_flops_per_s")
        replaced = set(changed)
        if isinstance(peaks, Mapping) and peaks:
            changed["peak_flops_per_s"] = {**base.peak_flops_per_s, **peaks}
            replaced |= {f"peak_flops_per_s.{dtype}" for dtype in peaks}
        kept = {figure: v for figure, v in base.sources.items() if figure not in replaced}
        merged = base.model_dump(by_alias=True) | changed
        stated = changed.get("sources", {})
        if isinstance(stated, Mapping):
            merged["sources"] = {**{k: _dump(v) for k, v in kept.items()}, **stated}
        return parse(HardwareSpec, merged, f"{where}: {changes['name']}")


def _is_path(name: str) -> bool:
    """Whether a model's name is rather the path of a file or of a folder with a config."""
    path = Path(name)
    if path.suffix in SUFFIXES or path.is_absolute() or name.startswith((".", "~")):
        return True
    try:
        return path.is_file() or is_model_folder(path)
    except (OSError, ValueError):
        return False


def _dump(source: object) -> object:
    return source.model_dump(by_alias=True) if isinstance(source, BaseModel) else source


@lru_cache(maxsize=4)
def default_catalog(variable: str) -> Catalog:
    """The catalog for one value of `LLM_SWEEP_CONFIGS`."""
    del variable
    return Catalog()


def current_catalog() -> Catalog:
    """The catalog of the environment as it is now."""
    return default_catalog(os.environ.get(CONFIGS_VARIABLE, ""))


def load_named(kind: type[S], path: Path) -> S:
    """Read a specification whose name is its file's name unless it states one.

    Raises:
        SpecError: The file cannot be read or says something wrong.
    """
    data = read_mapping(path)
    return parse(kind, {"name": path.stem, **data}, str(path))


def hardware(name: str | Mapping[str, Any]) -> HardwareSpec:
    """An accelerator of the current catalog; see `Catalog.hardware`."""
    return current_catalog().hardware(name)


def model(name: str | Path) -> ModelSpec:
    """A model of the current catalog, or at a path; see `Catalog.model`."""
    return current_catalog().model(name)
