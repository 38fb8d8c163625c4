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
from sweep.schema.variables import VARIABLES
from sweep.specs.files import read_mapping
from sweep.specs.folders import CONFIGS_VARIABLE, SUFFIXES, Kind, config_folders, config_paths
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.model_files import is_model_folder, is_quantised, name_of_file, read_model_file
from sweep.specs.model_names import check_checkpoint, is_narrow, matching, name_of
from sweep.specs.parsing import LONGEST_NAME, parse
from sweep.specs.precision import CHECKPOINT, PrecisionSpec
from sweep.specs.short_names import (
    MOST_SHOWN,
    accelerators,
    meant,
    same_but_spelling,
    suggestion,
)

S = TypeVar("S", bound=BaseModel)
SINGULAR: dict[Kind, str] = {
    "hardware": "hardware",
    "models": "model",
    "precisions": "precision",
    "sweeps": "sweep",
    "calibrations": "calibration",
}
"""Word for one entry of a kind."""


@lru_cache(maxsize=4096)
def _identifiers(path: Path, changed_ns: int, size: int) -> tuple[str | None, tuple[str, ...]]:
    """Identifier that a model file states, and those of others; it is read again once changed."""
    del changed_ns, size
    data = read_mapping(path)
    stated, others = data.get("hugging_face_id"), data.get("also_published_as")
    listed = others if isinstance(others, list) else []
    also = [other.get("identifier") for other in listed if isinstance(other, Mapping)]
    return (
        stated if isinstance(stated, str) else None,
        tuple(name for name in also if isinstance(name, str)),
    )


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
        self.folders = config_folders(folders)
        for folder in self.folders:
            if not folder.is_dir():
                raise SpecError(f"{folder}: no such config folder")

    def paths(self, kind: Kind) -> dict[str, Path]:
        """Files of one kind by name; the first folder that has a name wins."""
        return config_paths(self.folders, kind)

    def path(self, kind: Kind, name: str) -> Path:
        """The file of `name`, which may also be a path.

        A model also goes by published identifiers, and an accelerator by a short name that only one
        has: `L40S`, `rtx4090` or `A100-SXM4-80GB`.

        Raises:
            SpecError: There is none, or `name` may be several.
        """
        known = self.paths(kind)
        if name in known:
            return known[name]
        if kind == "models":
            return Path(name) if is_model_path(name) else known[self._known(kind, name)]
        if is_path(name):
            return Path(name)
        return known[self._known(kind, name)]

    def _known(self, kind: Kind, name: str) -> str:
        """The entry of a kind that a name means.

        Raises:
            SpecError: It means none or several; the message lists them, and entries of other kinds.
        """
        try:
            if kind == "models":
                return self._model_name(name)
            return name_among(name, list(self.paths(kind)), kind)
        except SpecError as error:
            raise SpecError(f"{error}{self.elsewhere(kind, name)}") from None

    def elsewhere(self, kind: Kind | Literal["variables"], name: str) -> str:
        """Entries of other kinds that a name means, as the end of a sentence; empty without any."""
        found: list[str] = []
        if len(name) > LONGEST_NAME:
            return ""
        for other, word in SINGULAR.items():
            known = list(self.paths(other)) if other != kind else []
            if other == "models" and known:
                meant_here = matching(name, self.published())
            else:
                meant_here = (accelerators if other == "hardware" else same_but_spelling)(
                    name, known
                )
            found += [f"the {word} {each!r}" for each in meant_here]
        if kind != "variables" and name in VARIABLES:
            found.append(f"the variable {name!r}")
        listed = " or ".join(found[:MOST_SHOWN])
        return f"; {name!r} may mean {listed}" if listed else ""

    def name_in(self, kind: Kind, label: str) -> str:
        """The name that a label of a result means; a path is none.

        Raises:
            SpecError: The catalog has no such name.
        """
        known = self.paths(kind)
        if label in known or (kind == "precisions" and label == CHECKPOINT.name):
            return label
        if kind == "models":
            return self._model_name(label)
        raise SpecError(f"unknown {SINGULAR[kind]} {label!r:.80}")

    def published(self) -> dict[str, str | None]:
        """Identifier that each model is published under, by name; `None` where none is stated."""
        return {name: own for name, (own, _) in self._model_identifiers().items()}

    def _model_identifiers(self) -> dict[str, tuple[str | None, tuple[str, ...]]]:
        found: dict[str, tuple[str | None, tuple[str, ...]]] = {}
        for name, path in self.paths("models").items():
            with suppress(SpecError, OSError):
                found[name] = _identifiers(path, path.stat().st_mtime_ns, path.stat().st_size)
        return found

    def _model_name(self, identifier: str) -> str:
        """The name of the model that an identifier means; a warning says if it is a namesake.

        Raises:
            SpecError: As `name_of`.
        """
        identifiers = self._model_identifiers()
        published = {name: own for name, (own, _) in identifiers.items()}
        also = {other: name for name, (_, others) in identifiers.items() for other in others}
        name = name_of(identifier, published, also=also)
        if also and not matching(identifier, published):
            text = f"{identifier!r} has the sizes of {name}, which is computed in its place"
            warnings.warn(text, SpecWarning, stacklevel=2)
        return name

    def hardware(self, name: str | Mapping[str, Any]) -> HardwareSpec:
        """An accelerator by name or path, or one `{base: …}` with some fields replaced.

        Raises:
            SpecError: It is unknown or malformed.
        """
        if isinstance(name, Mapping):
            return self._what_if(name)
        return load_named(HardwareSpec, self.path("hardware", name))

    def all_hardware(self) -> list[HardwareSpec]:
        """Every accelerator, by name.

        Raises:
            SpecError: One is malformed.
        """
        return [_hardware(path) for path in self.paths("hardware").values()]

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
            if is_quantised(spec.config) and not is_model_path(str(name)):
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


def name_among(name: str, known: Sequence[str], kind: Kind) -> str:
    """The entry that a name means, of a kind other than models.

    Raises:
        SpecError: It means none or several; the message lists them.
    """
    found = (accelerators if kind == "hardware" else same_but_spelling)(name, known)
    if len(found) == 1:
        return found[0]
    guess = meant(found) or suggestion(name, known) or f"; see 'llm-sweep list {kind}'"
    raise SpecError(f"unknown {SINGULAR[kind]} {name!r:.{LONGEST_NAME}}{guess}")


def is_path(name: str) -> bool:
    """Whether a name of a kind other than models is rather the path of a file."""
    return Path(name).suffix in SUFFIXES or os.sep in name


def is_model_path(name: str) -> bool:
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


def _hardware(path: Path) -> HardwareSpec:
    """The accelerator of a file, which is read again once changed."""
    try:
        status = path.stat()
    except OSError:
        return load_named(HardwareSpec, path)
    return _read_hardware(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _read_hardware(path: Path, changed_ns: int, size: int) -> HardwareSpec:
    del changed_ns, size
    return load_named(HardwareSpec, path)


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
