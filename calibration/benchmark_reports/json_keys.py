"""Values of a parsed JSON report by dotted key; every error names file and key."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from sweep.errors import SpecError
from sweep.specs.parsing import short

SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
PER_SECOND = {"tokens/sec": 1.0, "tokens per sec": 1.0}
TOKENS = {"tokens": 1.0}
"""Accepted units of a metric, with the factor that converts each to SI."""
LARGEST = 1e300
"""Largest number of a report."""


@dataclass(frozen=True)
class Keys:
    """A report, read by dotted keys such as `request_info.num_requests`.

    Attributes:
        data: The parsed JSON object.
        where: Its name in errors.
        tool: The tool that wrote it.
    """

    data: Mapping[str, Any]
    where: str
    tool: str

    def get(self, key: str) -> Any:
        """The value of a key, or `None`."""
        value: Any = self.data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def refuse(self, key: str, why: str) -> SpecError:
        """An error about a key."""
        return SpecError(f"{self.where}: {key}: {why}")

    def number(self, key: str) -> float | None:
        """A finite number of at least 0, or `None` where the key is absent or null.

        Raises:
            SpecError: It is something else.
        """
        value = _plain(self.get(key))
        if value is None:
            return None
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        # Python's integers have no end, and NaN is in no order.
        if not numeric or not 0 <= value <= LARGEST:
            raise self.refuse(key, f"must be a finite number of at least 0, not {short(value)}")
        return float(value)

    def positive_or_none(self, key: str) -> float | None:
        """A number above zero, or `None` where it is 0, absent or null.

        Raises:
            SpecError: It is something else.
        """
        return self.number(key) or None

    def positive(self, key: str) -> float:
        """A number above zero.

        Raises:
            SpecError: It is missing, zero or no number.
        """
        value = self.number(key)
        if value is None:
            raise self.refuse(key, f"missing; a report of {self.tool} must state it")
        if value == 0:
            raise self.refuse(key, "0, so nothing was measured; repeat the run")
        return value

    def count(self, key: str) -> int | None:
        """A whole number of at least 1, or `None` where the key is absent or null. [count]

        Raises:
            SpecError: It is something else.
        """
        value = self.number(key)
        if value is not None and (value != int(value) or value < 1):
            raise self.refuse(key, f"must be a whole number of at least 1, not {value:g}")
        return None if value is None else int(value)

    def length(self, key: str, tokens: float) -> int:
        """A mean length that was read at `key`, rounded to whole tokens. [count]

        Raises:
            SpecError: It is below one token or infinite.
        """
        if not isfinite(tokens) or round(tokens) < 1:
            raise self.refuse(key, f"{tokens:g} tokens a request, and a row needs at least 1")
        return round(tokens)

    def seconds(self, key: str) -> float | None:
        """A latency stated in ms; `None` where it is absent or was not measured. [s]"""
        milliseconds = self.number(key)
        return milliseconds * 1e-3 if milliseconds else None

    def average(self, metric: str, units: Mapping[str, float]) -> float | None:
        """The mean of `{unit: …, avg: …}`; `None` where it is absent or was not measured.

        Args:
            metric: Its key; aggregates over runs have `mean` in place of `avg`.
            units: Accepted units, with the factor that converts each.

        Raises:
            SpecError: Its unit is none of `units`.
        """
        average = self.number(f"{metric}.avg") or self.number(f"{metric}.mean")
        if not average:
            return None
        unit = str(self.get(f"{metric}.unit"))
        if unit not in units:
            known = ", ".join(units)
            raise self.refuse(f"{metric}.unit", f"{short(unit)} is none of {known}")
        return average * units[unit]


def _plain(value: Any) -> Any:
    """A number that is written as text, as old versions of GenAI-Perf do; else the value."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
