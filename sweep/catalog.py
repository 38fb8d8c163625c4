"""Finds specifications by name: in the user's folders first, then in the shipped one."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel

from sweep.errors import SpecError
from sweep.resources import shipped_configs
from sweep.specs import HardwareSpec, ModelSpec, PrecisionSpec, nearest, parse

CONFIGS_VARIABLE = "LLM_SWEEP_CONFIGS"
"""Environment variable with further config folders, separated as in `PATH`."""

Kind = Literal["hardware", "models", "precisions", "sweeps"]
DEEPEST = 200
"""Nested brackets a specification may have. [count]"""
MALFORMED = (TypeError, KeyError, AttributeError)
"""What PyYAML raises over a tag whose value does not fit it."""
SUFFIXES = (".yaml", ".yml", ".json")
S = TypeVar("S", bound=BaseModel)


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
        """The file of `name`, which may also be a path.

        Raises:
            SpecError: There is none.
        """
        known = self.paths(kind)
        if name in known:
            return known[name]
        if Path(name).suffix in SUFFIXES or os.sep in name:
            return Path(name)
        guess = nearest(name, list(known)) or f"; see 'llm-sweep list {kind}'"
        raise SpecError(f"unknown {kind.removesuffix('s')} {name!r}{guess}")

    def hardware(self, name: str | Mapping[str, Any]) -> HardwareSpec:
        """An accelerator by name or path, or one `{base: …}` with some fields replaced.

        Raises:
            SpecError: It is unknown or malformed.
        """
        if isinstance(name, Mapping):
            return self._what_if(name)
        return load_named(HardwareSpec, self.path("hardware", name))

    def precision(self, name: str) -> PrecisionSpec:
        """A precision recipe by name or path.

        Raises:
            SpecError: It is unknown or malformed.
        """
        return load_named(PrecisionSpec, self.path("precisions", name))

    def model(self, name: str | Path) -> ModelSpec:
        """A model by name, or the `config.json` at a path.

        Raises:
            SpecError: It is unknown or malformed.
        """
        path = self.path("models", str(name))
        data = read_mapping(path)
        if "config" in data:
            return load_named(ModelSpec, path).model_copy(update={"file": str(path)})
        stem = path.parent.name if path.stem == "config" else path.stem
        spec_name = stem or path.resolve().parent.name or "config"
        bare = {"name": spec_name, "sources": {"config": str(path)}, "config": data}
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
            raise SpecError(f"{where}: name: {changes['name']!r} is taken; choose another")
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


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file that holds a mapping.

    Raises:
        SpecError: It cannot be read, is not valid YAML or JSON, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file in UTF-8") from None
    except ValueError as error:
        raise SpecError(f"{path}: no name of a file: {error}") from None
    _check_depth(text, path)
    try:
        if path.suffix == ".json":
            data = json.loads(text, object_pairs_hook=_unique)
        else:
            data = yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError, *MALFORMED) as error:
        reason = " ".join(str(error).split())
        language = "JSON" if path.suffix == ".json" else "YAML"
        raise SpecError(f"{path}: not valid {language}: {reason:.200}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: must hold a mapping of keys, not {type(data).__name__}")
    return data


def _check_depth(text: str, path: Path) -> None:
    """Refuse brackets nested so deep that libyaml would overflow the stack on them."""
    depth = 0
    for bracket in re.finditer(r"[\[{}\]]", text):
        depth += 1 if bracket.group() in "[{" else -1
        if depth > DEEPEST:
            raise SpecError(f"{path}: nested deeper than {DEEPEST} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, unless it gives a key twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} given twice")
        found[key] = value
    return found


# libyaml's loader where PyYAML was built with it; its stubs know no loader chosen at run time.
class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML that refuses a key given twice, which PyYAML settles in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key.start_mark
                )
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} given twice", key.start_mark
                )
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def hardware(name: str | Mapping[str, Any]) -> HardwareSpec:
    """An accelerator of the current catalog; see `Catalog.hardware`."""
    return current_catalog().hardware(name)


def model(name: str | Path) -> ModelSpec:
    """A model of the current catalog, or at a path; see `Catalog.model`."""
    return current_catalog().model(name)
