"""Reads the keys of a published model config and says which one is missing or wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.errors import SpecError
from sweep.models.spellings import spellings
from sweep.models.unread_keys import unread

LARGEST = 10**9
"""Upper bound of every size: larger values are typing errors."""
MOST_LAYERS = 10**4
"""Upper bound of the number of layers."""
INHERITED = ("tie_word_embeddings", "vocab_size")
"""Keys that a config nested in another takes from it where it has none."""


class Config:
    """A `config.json` as published, read key by key.

    Attributes:
        where: Name of the config in an error: its file.
        nested: Whether the config is the text part of another.
        class_sizes: Facts that the class of the family knows where the config has no key.
    """

    def __init__(
        self, data: Mapping[str, Any], where: str, outer: Mapping[str, Any] | None = None
    ) -> None:
        """Wrap the keys of `data`, which may be the text part of the config `outer`."""
        self.where = where
        self.nested = outer is not None
        self.class_sizes: Mapping[str, int] = {}
        taken = {k: outer[k] for k in INHERITED if k in outer} if outer else {}
        self._data = {**taken, **data}
        self._read: set[str] = set(taken)
        self._sections: list[Config] = []

    def __contains__(self, key: str) -> bool:
        """Whether `key` is given and not null."""
        return self.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value under `key` and note it as read."""
        self._read.add(key)
        return self._data.get(key, default)

    def passes_over(self, *keys: str) -> None:
        """Note `keys` as understood where a family has no use for them."""
        self._read.update(keys)

    def unread(self) -> list[str]:
        """List keys that no reader used, that are switched on and might change the structure."""
        left = unread((k, v) for k, v in self._data.items() if k not in self._read)
        return left + [key for section in self._sections for key in section.unread()]

    def section(self, key: str) -> "Config":
        """Return the nested config under `key`, or this one if there is none."""
        nested = self.get(key)
        if nested is None:
            return self
        if not isinstance(nested, Mapping):
            raise self.error(key, f"must be a mapping, not {nested!r:.40}")
        section = Config(nested, f"{self.where}: {key}")
        self._sections.append(section)
        return section

    def lift(self, *keys: str) -> None:
        """Count the keys of the nested configs under `keys` as this config's own."""
        for key in keys:
            nested = self.get(key)
            if nested is not None and not isinstance(nested, Mapping):
                raise self.error(key, f"must be a mapping, not {nested!r:.40}")
            self._data = {**(nested or {}), **self._data}

    def understood(self, key: str) -> None:
        """Take out `key`, which says what other keys of the family already do."""
        self._data = {k: value for k, value in self._data.items() if k != key}

    def error(self, key: str, problem: str) -> SpecError:
        """Build an error about `key` of this config."""
        return SpecError(f"{self.where}: {key}: {problem}")

    def require(self, *facts: str, none: str) -> None:
        """Check that one of `facts` is stated, by any spelling, if only as null.

        A class has a default of its own for such a key, which a config that a person wrote may
        lack by mistake: the model would be another one.

        Args:
            facts: The facts.
            none: What to write where the model has none, for the message.

        Raises:
            SpecError: No key states one.
        """
        keys = [key for fact in facts for key in spellings(fact)]
        if not any(key in self._data for key in keys):
            raise self.error(keys[0], f"missing, and the model's structure depends on it; {none}")

    def given(self, *facts: str) -> str | None:
        """Return the first key that states one of `facts`, by any spelling.

        Raises:
            SpecError: Two spellings state different values.
        """
        keys = [key for fact in facts for key in spellings(fact) if key in self]
        if not keys:
            return None
        values = [self._data[key] for key in keys]
        for key, value in zip(keys, values, strict=True):
            if value != values[0]:
                problem = f"{value!r:.40} differs from {keys[0]}, {values[0]!r:.40}; they are one"
                raise self.error(key, f"{problem} size")
        return keys[0]

    def size(self, *facts: str, default: int | None = None) -> int:
        """Return the positive integer that states one of `facts`, else `default`.

        Raises:
            SpecError: None is given and there is no default, or it is no positive integer.
        """
        key = self.given(*facts)
        if key is not None:
            return self._integer(key, self._data[key])
        known = [self.class_sizes[fact] for fact in facts if fact in self.class_sizes]
        if known or default is not None:
            return known[0] if known else int(default or 0)
        keys = " or ".join(key for fact in facts for key in spellings(fact))
        raise self.error(keys, "missing; the model's size cannot be known")

    def _integer(self, key: str, value: object) -> int:
        counts_layers = "layer" in key and not key.endswith("per_layer_input")
        most = MOST_LAYERS if counts_layers else LARGEST
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.error(key, f"must be an integer from 1 to {most}, not {value!r:.40}")
        return value

    def uniform(self, fact: str, layers: int, default: int | None = None) -> int:
        """Return the size `fact`, which may be a list with one equal entry for each layer.

        Raises:
            SpecError: It is missing or no size, or differs from layer to layer.
        """
        key = self.given(fact)
        value = None if key is None else self._data[key]
        if key is None or not isinstance(value, list) or len(value) != layers or not value:
            return self.size(fact, default=default)
        if any(entry != value[0] for entry in value):
            raise self.error(key, "a size that differs from layer to layer is not supported")
        return self._integer(key, value[0])

    def sizes(self, fact: str, layers: int) -> list[int]:
        """Return the positive integers that state `fact` for each layer in a list.

        Raises:
            SpecError: It is no list, lists another number of layers, or an entry is no size.
        """
        key = self.given(fact) or fact
        return [self._integer(key, entry) for entry in self.per_layer(key, layers) or []]

    def natural(self, fact: str, default: int = 0) -> int:
        """Return the integer of at least 0 that states `fact`, else `default`."""
        key = self.given(fact)
        if key is None:
            return default
        value = self._data[key]
        return 0 if type(value) is int and value == 0 else self._integer(key, value)

    def fraction(self, fact: str, default: float) -> float:
        """Return the number above 0 and at most 1 that states `fact`, else `default`."""
        key = self.given(fact)
        if key is None:
            return default
        value = self._data[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise self.error(key, f"must be a number above 0 and at most 1, not {value!r:.40}")
        return float(value)

    def flag(self, keys: str | Sequence[str], default: bool) -> bool:
        """Return the boolean under the first of `keys` that is given, else `default`."""
        names = (keys,) if isinstance(keys, str) else keys
        spelled = [key for name in names for key in spellings(name) if key in self]
        if not spelled:
            return default
        value = self._data[spelled[0]]
        if not isinstance(value, bool):
            raise self.error(spelled[0], f"must be true or false, not {value!r:.40}")
        return value

    def integers(self, key: str) -> list[int]:
        """Return the list of integers under `key`, empty if it is not given."""
        value = self.get(key) or []
        if not isinstance(value, list) or not all(type(v) is int for v in value):
            raise self.error(key, f"must be a list of integers, not {value!r:.60}")
        return value

    def per_layer(self, key: str, layers: int) -> list[Any] | None:
        """Return the list under `key` with one entry for each layer, if it is given.

        Raises:
            SpecError: It is no list, or lists another number of layers.
        """
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != layers:
            raise self.error(key, f"must list {layers} layers, not {value!r:.60}")
        return value

    def experts(self, layers: int = 0) -> tuple[int, int]:
        """Return the experts kept and the experts used for each token.

        Raises:
            SpecError: More are used than kept.
        """
        kept = self.uniform("experts", layers)
        used = self.uniform("experts_per_token", layers)
        if used > kept:
            key = self.given("experts_per_token")
            raise self.error(str(key), f"{used} is more than the {kept} experts")
        return kept, used

    def head_dim(self, hidden_size: int, heads: int, key: str = "head_dim") -> int:
        """Return the width of a head under `key`, else the hidden size over `heads`.

        Raises:
            SpecError: The hidden size is no multiple of the number of heads.
        """
        if self.given(key) or key in self.class_sizes:
            return self.size(key)
        if hidden_size % heads:
            raise self.error(key, f"missing, and {heads} heads do not divide {hidden_size}")
        return hidden_size // heads

    def kv_heads(self, *facts: str, heads: int) -> int:
        """Return the KV heads that state one of `facts`, else one for each query head.

        Raises:
            SpecError: They do not divide the query heads.
        """
        kv_heads = self.size(*facts, default=heads)
        if heads % kv_heads:
            key = self.given(*facts) or facts[0]
            raise self.error(key, f"{kv_heads} does not divide {heads} query heads")
        return kv_heads
