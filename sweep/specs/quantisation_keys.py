"""Keys of a `quantization_config`, checked as they are read."""

from collections.abc import Mapping
from typing import Any

from sweep.errors import SpecError
from sweep.specs.dtypes import StoredDtype
from sweep.specs.quantisation import Patterns

OVERRIDE = "choose a recipe with --precision instead"
"""Advice where a recipe cannot be read."""
KV_ALGORITHMS: dict[str, StoredDtype] = {
    "fp8": "fp8",
    "float8_e4m3fn": "fp8",
    "fp8_e4m3": "fp8",
    "int8": "int8",
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",
    "none": "half",
    "auto": "half",
}
"""Types of a KV cache by the names that tools give them."""
KV_TYPES: dict[tuple[Any, Any], StoredDtype] = {
    ("float", 8): "fp8",
    ("int", 8): "int8",
    ("float", 4): "nvfp4",
}
"""Types of a KV cache by kind and bits."""
LARGEST_GROUP = 2**20
"""Upper bound of a group: larger values are typing errors. [count]"""


class Keys:
    """Part of a `quantization_config`.

    Attributes:
        data: Its keys.
        where: Name of the part in an error.
    """

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        """Wrap the keys of `data`."""
        self.data = data
        self.where = where

    @classmethod
    def of(cls, data: object, where: str) -> "Keys":
        """Wrap `data`, which must be a mapping; null is an empty one.

        Raises:
            SpecError: It is something else.
        """
        if not isinstance(data, Mapping | None):
            raise SpecError(f"{where}: must be a mapping, not {data!r:.40}; {OVERRIDE}")
        return cls(data or {}, where)

    def error(self, key: str, problem: str) -> SpecError:
        """Build an error about `key`."""
        return SpecError(f"{self.where}: {key}: {problem}; {OVERRIDE}")

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return the mapping under `key`, empty if it is not given."""
        return Keys.of(self.data.get(key), f"{self.where}: {key}").data

    def section(self, key: str) -> "Keys":
        """Return the mapping under `key` as a part of its own."""
        return Keys.of(self.data.get(key), f"{self.where}: {key}")

    def flag(self, key: str, default: bool) -> bool:
        """Return the truth value under `key`."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {value!r:.40}")
        return value

    def choice(
        self, key: str, allowed: tuple[Any, ...], other: str = "", default: Any = None
    ) -> Any:
        """Return the value under `key`, or under `other`, which must be one of `allowed`."""
        key = other if key not in self.data and other in self.data else key
        value = self.data.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or value not in allowed:
            listed = ", ".join(map(str, allowed))
            given = "missing" if value is None else f"not {value!r:.40}"
            raise self.error(key, f"must be one of {listed}, {given}")
        return value

    def group(self, *keys: str, default: int | None = None) -> int:
        """Return the weights that share a scale; 0 if a row does, which files state as -1."""
        key = next((each for each in keys if self.data.get(each) is not None), keys[0])
        value = self.data.get(key, default)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int):
            given = "missing" if value is None else f"not {value!r:.40}"
            raise self.error(key, f"must be a number of weights, or -1 for a row, {given}")
        if value != -1 and not 1 <= value <= LARGEST_GROUP:
            raise self.error(key, f"must be a number of weights, or -1 for a row, not {value}")
        return max(value, 0)

    def block(self, key: str) -> tuple[int, int]:
        """Return rows and columns of a block, zeros if `key` is not given. [count]"""
        value = self.data.get(key)
        if value is None:
            return 0, 0
        sizes = value if isinstance(value, list) else []
        if len(sizes) != 2 or not all(type(v) is int and 1 <= v <= LARGEST_GROUP for v in sizes):
            raise self.error(key, f"must be two positive numbers, as [128, 128], not {value!r:.40}")
        return sizes[0], sizes[1]

    def names(self, *keys: str) -> list[str]:
        """Return the names of modules under all of `keys`."""
        found: list[str] = []
        for key in keys:
            value = self.data.get(key)
            value = [] if value is None else value
            if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise self.error(key, f"must be a list of names of modules, not {value!r:.40}")
            found += value
        return found

    def nested_names(self, key: str) -> list[str]:
        """Return the names of modules in the lists under `key`."""
        value = self.data.get(key) or []
        lists = value if isinstance(value, list) else [value]
        for each in lists:
            Keys({key: each if isinstance(each, list) else [each]}, self.where).names(key)
        return [n for each in lists for n in (each if isinstance(each, list) else [each])]

    def patterns(self, *keys: str) -> Patterns:
        """Return the modules that the names under `keys` stand for."""
        return Patterns(self.names(*keys), self.where)

    def kv(self) -> StoredDtype:
        """Return the type of the KV cache: that of the residual stream if none is stated."""
        for key in ("kv_cache_quant_algo", "kv_cache_scheme"):
            value = self.data.get(key)
            if isinstance(value, Mapping):
                kind = (value.get("type"), value.get("num_bits"))
                found = next((dtype for known, dtype in KV_TYPES.items() if known == kind), None)
                if found is None:
                    raise self.error(key, f"no known type of a KV cache: {dict(value)!r:.60}")
                return found
            if value is not None:
                if str(value).lower() not in KV_ALGORITHMS:
                    known = ", ".join(name.upper() for name in KV_ALGORITHMS)
                    raise self.error(key, f"must be one of {known}, not {value!r:.40}")
                return KV_ALGORITHMS[str(value).lower()]
        return "half"
