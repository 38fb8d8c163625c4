"""Config files in YAML and JSON, read as plain mappings."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from sweep.errors import SpecError

DEEPEST = 200
"""Nested brackets a specification may have. [count]"""
MALFORMED = (TypeError, KeyError, AttributeError)
"""Exceptions of PyYAML for a tag whose value does not fit it."""
SUFFIXES = (".yaml", ".yml", ".json")


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file that contains a mapping.

    Raises:
        SpecError: It cannot be read, is not valid YAML or JSON, or contains something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file in UTF-8") from None
    except ValueError as error:
        raise SpecError(f"{path}: not a file name: {error}") from None
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
        raise SpecError(f"{path}: must contain a mapping of keys, not {type(data).__name__}")
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
    """YAML loader that refuses a repeated key, of which PyYAML silently keeps the last."""

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
