"""Reads the keys of a published model config and says which one is missing or wrong."""

from collections.abc import Mapping
from typing import Any

from sweep.errors import SpecError
from sweep.models.unread_keys import unread

LARGEST = 10**9
"""No size of a model comes near; a larger one is a slip."""


MOST_LAYERS = 10**4
"""The same for the number of layers."""


class Config:
    """A `config.json` as published, read key by key.

    Attributes:
        where: What to call it in an error: its file.
    """

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        """Wrap the keys of `data`."""
        self.where = where
        self._data = data
        self._read: set[str] = set()
        self._sections: list[Config] = []

    def __contains__(self, key: str) -> bool:
        """Whether `key` is given and not null."""
        return self.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """The value under `key`, noted as read."""
        self._read.add(key)
        return self._data.get(key, default)

    def passes_over(self, *keys: str) -> None:
        """Note `keys` as understood where a family has no use for them."""
        self._read.update(keys)

    def unread(self) -> list[str]:
        """Keys nobody read that are switched on and might change the structure."""
        left = unread((k, v) for k, v in self._data.items() if k not in self._read)
        return left + [key for section in self._sections for key in section.unread()]

    def section(self, key: str) -> "Config":
        """The nested config under `key`, or this one where there is none."""
        nested = self.get(key)
        if nested is None:
            return self
        if not isinstance(nested, Mapping):
            raise self.error(key, f"must be a mapping, not {nested!r}")
        section = Config(nested, f"{self.where}: {key}")
        self._sections.append(section)
        return section

    def error(self, key: str, problem: str) -> SpecError:
        """An error about `key` of this config."""
        return SpecError(f"{self.where}: {key}: {problem}")

    def size(self, *keys: str, default: int | None = None) -> int:
        """The positive integer under the first of `keys` that is given, else `default`.

        Raises:
            SpecError: None is given and there is no default, or it is no positive integer.
        """
        key = next((k for k in keys if k in self), None)
        if key is None:
            if default is None:
                raise self.error(" or ".join(keys), "missing; the model's size cannot be known")
            return default
        value = self._data[key]
        most = MOST_LAYERS if "layer" in key else LARGEST
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.error(key, f"must be an integer from 1 to {most}, not {value!r:.40}")
        return value

    def natural(self, key: str) -> int:
        """The integer of at least 0 under `key`, 0 where it is not given."""
        return 0 if self.get(key) in (None, 0) else self.size(key)

    def fraction(self, key: str, default: float) -> float:
        """The number above 0 and at most 1 under `key`, else `default`."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise self.error(key, f"must be a number above 0 and at most 1, not {value!r}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """The boolean under `key`, else `default`."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {value!r}")
        return value

    def sliding_layers(self, layers: int, default: list[bool]) -> list[bool]:
        """Whether each of `layers` has a window: from `layer_types`, else from `default`.

        Raises:
            SpecError: `layer_types` lists another number of layers, or an unknown kind.
        """
        kinds = self.get("layer_types")
        if kinds is None:
            return default
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise self.error("layer_types", f"must list {layers} layers, not {kinds!r:.60}")
        known = {"sliding_attention": True, "full_attention": False}
        for kind in kinds:
            if not isinstance(kind, str) or kind not in known:
                raise self.error("layer_types", f"unknown kind {kind!r}")
        return [known[kind] for kind in kinds]

    def integers(self, key: str) -> list[int]:
        """The list of integers under `key`, empty where it is not given."""
        value = self.get(key) or []
        if not isinstance(value, list) or not all(type(v) is int for v in value):
            raise self.error(key, f"must be a list of integers, not {value!r:.60}")
        return value

    def experts(self, kept_key: str, used_key: str) -> tuple[int, int]:
        """Experts kept and experts used for each token.

        Raises:
            SpecError: More are used than kept.
        """
        kept, used = self.size(kept_key), self.size(used_key)
        if used > kept:
            raise self.error(used_key, f"{used} is more than the {kept} experts")
        return kept, used

    def head_dim(
        self, hidden_size: int, heads: int, default: int | None = None, key: str = "head_dim"
    ) -> int:
        """Width of a head under `key`, else `default`, else the share of the hidden size.

        Raises:
            SpecError: The hidden size is no multiple of the number of heads.
        """
        if key in self:
            return self.size(key)
        if default is not None:
            return default
        if hidden_size % heads:
            raise self.error(key, f"missing, and {heads} heads do not divide {hidden_size}")
        return hidden_size // heads

    def kv_heads(self, *keys: str, heads: int) -> int:
        """KV heads under one of `keys`, else one per query head.

        Raises:
            SpecError: They do not divide the query heads.
        """
        kv_heads = self.size(*keys, default=heads)
        if heads % kv_heads:
            raise self.error(" or ".join(keys), f"{kv_heads} does not divide {heads} query heads")
        return kv_heads
