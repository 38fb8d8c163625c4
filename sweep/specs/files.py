"""Config files in YAML and JSON, read as plain mappings."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import yaml

from sweep.errors import SpecError
from sweep.specs.inputs import read_text
from sweep.specs.parsing import short

DEEPEST = 200
"""Nested brackets a specification may have. [count]"""
MALFORMED = (TypeError, LookupError, AttributeError)
"""Exceptions of PyYAML for a tag whose value does not fit it."""
MOST_VALUES = 10**6
"""Most values of a specification, those of an alias wherever it is used. [count]"""
DIGITS = 100
"""Most digits of a number. [count]"""
TOO_LARGE: int = 10**DIGITS
MOST_SIGNS = 10 * DIGITS
"""Most signs of an integer that is read; Python refuses some thousand digits without a key."""
HALF = re.compile("[\ud800-\udfff]")
"""Half of a character beyond the first 65,536, which no file can contain on its own."""


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file that contains a mapping.

    Raises:
        SpecError: It cannot be read, is not valid YAML or JSON, or contains something else.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file in UTF-8") from None
    except ValueError as error:
        raise SpecError(f"{path}: not a file name: {error}") from None
    return mapping_of(text, f"{path}", "JSON" if path.suffix == ".json" else "YAML")


def mapping_of(text: str, where: str, language: Literal["JSON", "YAML"]) -> dict[str, Any]:
    """Parse text that contains a mapping.

    Args:
        text: The text.
        where: Its name in errors.
        language: What it is written in.

    Raises:
        SpecError: It is not valid, contains something else, or expands to too much.
    """
    _check_depth(text, where)
    try:
        if language == "JSON":
            data = json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
        else:
            data = yaml.load(text, _UniqueKeys)
        _count(data, {}, where)
    except (yaml.YAMLError, ValueError, RecursionError, *MALFORMED) as error:
        reason = " ".join(str(error).split())
        raise SpecError(f"{where}: not valid {language}: {reason:.200}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{where}: must contain a mapping of keys, not {type(data).__name__}")
    return data


def _count(data: Any, known: dict[int, int | None], where: str) -> int:
    """Values in `data`, those of an alias wherever it is used. [count]

    Args:
        data: What was read.
        known: Count of each list and mapping that was counted, by identity; `None` while its own
            values are counted.
        where: File and key, for the message.

    Raises:
        SpecError: There are more than `MOST_VALUES`, a key is no text, or a number is too large.
    """
    if isinstance(data, int) and abs(data) >= TOO_LARGE:
        raise SpecError(f"{where}: a number of more than {DIGITS} digits; write a smaller one")
    if isinstance(data, str) and HALF.search(data):
        raise SpecError(f"{where}: {short(data)} contains half of a character; write all of it")
    if not isinstance(data, dict | list):
        return 1
    if id(data) in known:
        found = known[id(data)]
        if found is None:
            raise SpecError(f"{where}: an alias contains itself")
        return found
    known[id(data)] = None
    pairs = data.items() if isinstance(data, dict) else (("", value) for value in data)
    total = 1
    for key, value in pairs:
        if not isinstance(key, str):
            raise SpecError(f"{where}: the key {short(key)} is no text; write it in quotes")
        _count(key, known, where)
        total += _count(value, known, f"{where}: {key:.80}" if key else where)
    if total > MOST_VALUES:
        raise SpecError(f"{where}: more than {MOST_VALUES:,} values, aliases written out")
    known[id(data)] = total
    return total


def _check_depth(text: str, where: str) -> None:
    """Refuse brackets nested so deep that libyaml would overflow the stack on them."""
    depth = 0
    for bracket in re.finditer(r"[\[{}\]]", text):
        depth += 1 if bracket.group() in "[{" else -1
        if depth > DEEPEST:
            raise SpecError(f"{where}: nested deeper than {DEEPEST} levels")


def _integer(text: str) -> int:
    """An integer of JSON; one of thousands of digits is too large, as `_count` says by key."""
    return int(text) if len(text) <= MOST_SIGNS else TOO_LARGE


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, unless it gives a key twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r:.80} given twice")
        found[key] = value
    return found


# libyaml's loader where PyYAML was built with it; its stubs know no loader chosen at run time.
class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML loader that refuses a repeated key, of which PyYAML silently keeps the last."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._flat: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check the keys of a mapping, then replace merge keys by what they merge, each key once.

        A mapping that others merge comes here before its own turn, and only once: merges of merges
        would otherwise grow without bound.
        """
        if id(node) in self._flat:
            return
        self._flat.add(id(node))
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key.start_mark
                )
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r:.80} given twice", key.start_mark
                )
            seen.add(str(key.value))
        super().flatten_mapping(node)
        node.value = list(
            {(key.tag, key.value): (key, value) for key, value in node.value}.values()
        )

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """An integer in any notation; one of thousands of digits is too large, as in JSON."""
        if len(node.value) > MOST_SIGNS:
            return TOO_LARGE
        found: int = self.construct_yaml_int(node)
        return found


_UniqueKeys.add_constructor("tag:yaml.org,2002:int", _UniqueKeys.construct_integer)
