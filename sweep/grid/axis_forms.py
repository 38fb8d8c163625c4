"""The forms an axis can take in a sweep file."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from sweep.kernel.acceptance import MOST_DRAFT_TOKENS
from sweep.schema.terms import SCHEDULERS
from sweep.specs.counts import count_of, has_suffix
from sweep.specs.parsing import short

LARGEST_VALUE = 10**9
LARGEST_RATE, OF_RATES = 1e9, "above 0 and below 1e9"
LONGEST_AXIS = 10**6
AXIS_FORMS = (
    "a list of integers, {start, stop, step}, {start, stop, num, scale: log} "
    "or {powers_of: 2, start, stop}"
)


def expand_axis(given: object) -> list[int]:
    """Expand an axis to its integers.

    `{start, stop, step}` is half-open, as Python's range; `{start, stop, num, scale}` includes
    both ends, rounds to integers and drops repeats (`scale` is `linear` or `log`);
    `{powers_of: b, start, stop}` is every power of b from start to stop, both included. An integer
    may be written with a suffix: `16k` is 16,000, `16Ki` 16,384 and `1M` 1,000,000.

    Raises:
        ValueError: It has none of these forms, is empty, or does not increase from value to value.
    """
    values = _from_mapping(given) if isinstance(given, Mapping) else given
    if not isinstance(values, list | tuple | np.ndarray | range):
        raise ValueError(f"must be {AXIS_FORMS}")
    values = [_integer(v, "every value") for v in values]
    if not values:
        raise ValueError("must not be empty")
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError("must increase from value to value, without repeats")
    return values


def _from_mapping(given: Mapping[str, Any]) -> list[int]:
    keys = set(given)
    if keys in ({"start", "stop", "step"}, {"start", "stop"}):
        start, stop = _integer(given["start"], "start"), _integer(given["stop"], "stop")
        step = _integer(given.get("step", 1), "step")
        _check_length((stop - start) / step)
        return list(range(start, stop, step))
    if keys in ({"start", "stop", "num", "scale"}, {"start", "stop", "num"}):
        start, stop = _integer(given["start"], "start"), _integer(given["stop"], "stop")
        num, scale = _integer(given["num"], "num"), given.get("scale", "linear")
        _check_length(num)
        if stop < start:
            raise ValueError(
                f"stop must not be below start, and {short(stop)} is below {short(start)}"
            )
        if scale not in ("linear", "log"):
            raise ValueError(f"scale must be linear or log, not {short(scale)}")
        spaced = (np.geomspace if scale == "log" else np.linspace)(start, stop, num)
        return sorted({round(float(value)) for value in spaced})
    if keys == {"powers_of", "start", "stop"}:
        base, start = _integer(given["powers_of"], "powers_of"), _integer(given["start"], "start")
        stop = _integer(given["stop"], "stop")
        if base < 2:
            raise ValueError("powers_of must be at least 2")
        powers = [base**n for n in range(64) if base**n <= stop]
        return [power for power in powers if power >= start]
    raise ValueError(f"must be {AXIS_FORMS}; its keys are {', '.join(sorted(map(str, keys)))}")


def _integer(value: object, what: str) -> int:
    value = _number(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{what} must be an integer, and {short(value)} is not")
    if not 1 <= value <= LARGEST_VALUE:
        raise ValueError(f"{what} must be from 1 to {LARGEST_VALUE}, and {short(value)} is not")
    return int(value)


def _number(value: object) -> object:
    """The number that a text such as `16k` is; anything else as it is."""
    return count_of(value) if isinstance(value, str) and has_suffix(value) else value


def _check_length(length: float) -> None:
    if length > LONGEST_AXIS:
        raise ValueError(f"must have at most {LONGEST_AXIS} values, and would have {length:.0f}")


def check_ratios(given: object) -> list[float]:
    """Check the numbers of an axis that must be at least 1.

    Raises:
        ValueError: It is not an increasing list of numbers of at least 1.
    """
    return _check_numbers(given, lambda value: 1 <= value < 1e6, "from 1 to below 1e6")


def check_shares(given: object) -> list[float]:
    """Check the numbers of an axis that must be above 0 and at most 1.

    Raises:
        ValueError: It is not an increasing list of numbers in that range.
    """
    return _check_numbers(given, lambda value: 0 < value <= 1, "above 0 and at most 1")


RESERVATIONS = {"max_utilization": 0.5, "guaranteed_no_evict": 1.0}
"""Share of the output tokens that each policy of TensorRT-LLM reserves on admission: as many as
requests have on average, or all. [1]"""


def check_reservations(given: object) -> list[float]:
    """Check shares of the output tokens, or names of `RESERVATIONS` in their place.

    Raises:
        ValueError: It is not an increasing list of numbers above 0 and at most 1 and such names.
    """
    if not isinstance(given, list | tuple):
        raise ValueError(f"must be a list of numbers or of {' and '.join(RESERVATIONS)}")
    for value in given:
        if isinstance(value, str) and value not in RESERVATIONS:
            raise ValueError(f"must be among {', '.join(RESERVATIONS)}, and {value!r} is not")
    return check_shares([RESERVATIONS[v] if isinstance(v, str) else v for v in given])


def check_rates(given: object) -> list[float]:
    """Check the numbers of an axis that must be above 0.

    Raises:
        ValueError: It is not an increasing list of numbers from above 0 to below `LARGEST_RATE`.
    """
    return _check_numbers(given, _is_rate, OF_RATES)


def check_rate(given: object) -> None:
    """Check one number of such an axis.

    Raises:
        ValueError: It is no number from above 0 to below `LARGEST_RATE`.
    """
    _check_number(given, _is_rate, f"must be a number {OF_RATES}")


def _is_rate(value: float) -> bool:
    return 0 < value < LARGEST_RATE


MOST_VARIATION = 10.0
"""Largest coefficient of variation. [1]"""


def check_variations(given: object) -> list[float]:
    """Check coefficients of variation, or those of lengths that are uniform between two ends.

    Lengths from r·L to L have a deviation of (1 − r)·L/√12 and a mean of (1 + r)·L/2.

    Raises:
        ValueError: It is not an increasing list of numbers from 0 to `MOST_VARIATION`, or
            `{uniform_from: r}` with r from 0 to 1.
    """
    if isinstance(given, Mapping):
        ratio = given.get("uniform_from")
        if set(given) != {"uniform_from"} or not isinstance(ratio, int | float):
            raise ValueError("must be a list of numbers or {uniform_from: 0.8}")
        if not 0 <= ratio <= 1:
            raise ValueError(f"uniform_from must be from 0 to 1, and {short(ratio)} is not")
        return [(1 - ratio) / (1 + ratio) / math.sqrt(3)]
    words = f"from 0 to {MOST_VARIATION:g}"
    return _check_numbers(given, lambda value: 0 <= value <= MOST_VARIATION, words)


def check_limits(given: object) -> list[float]:
    """Check the limits of an axis, which may be infinite.

    Raises:
        ValueError: It is not an increasing list of numbers above 0.
    """
    return _check_numbers(given, lambda value: value > 0, "above 0")


def check_schedulers(given: object) -> list[str]:
    """Check the names of an axis of schedulers.

    Raises:
        ValueError: It is not a list of names of `SCHEDULERS`, each once.
    """
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"must be a list of {' and '.join(SCHEDULERS)}")
    for name in given:
        if name not in SCHEDULERS:
            raise ValueError(f"must be among {', '.join(SCHEDULERS)}, and {name!r} is not")
    if len(set(given)) < len(given):
        raise ValueError("must list each scheduler once")
    return list(given)


def check_counts(given: object) -> list[int]:
    """Check the integers of an axis that may be 0.

    Raises:
        ValueError: It is not an increasing list of integers from 0 to `LARGEST_VALUE`.
    """
    numbers = [_number(value) for value in given] if isinstance(given, list | tuple) else given
    words = f"that is 0 or from 1 to {LARGEST_VALUE}"
    _check_numbers(numbers, lambda n: n == 0 or 1 <= n <= LARGEST_VALUE, words)
    assert isinstance(numbers, list)
    for value in numbers:
        if not isinstance(value, int):
            raise ValueError(f"every value must be an integer, and {value!r} is not")
    return numbers


def check_draft_tokens(given: object) -> list[int]:
    """Check numbers of drafted tokens.

    Raises:
        ValueError: It is not an increasing list of integers from 0 to `MOST_DRAFT_TOKENS`.
    """
    counts = check_counts(given)
    if counts[-1] > MOST_DRAFT_TOKENS:
        raise ValueError(f"every value must be from 0 to {MOST_DRAFT_TOKENS}, not {counts[-1]}")
    return counts


def check_hit_rates(given: object) -> list[float]:
    """Check shares of a prompt found in the cache; the last token never is.

    Raises:
        ValueError: It is not an increasing list of numbers from 0 to below 1.
    """
    return _check_numbers(given, lambda value: 0 <= value < 1, "from 0 to below 1")


def check_probabilities(given: object) -> list[float]:
    """Check probabilities.

    Raises:
        ValueError: It is not an increasing list of numbers from 0 to 1.
    """
    return _check_numbers(given, lambda value: 0 <= value <= 1, "from 0 to 1")


def _check_numbers(given: object, allowed: Callable[[float], bool], words: str) -> list[float]:
    if not isinstance(given, list | tuple) or not given:
        raise ValueError("must be a list of numbers, and not empty")
    for value in given:
        _check_number(value, allowed, f"every value must be a number {words}")
    if any(b <= a for a, b in pairwise(given)):
        raise ValueError("must increase from value to value, without repeats")
    return [float(value) for value in given]


def _check_number(given: object, allowed: Callable[[float], bool], rule: str) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not allowed(given):
        raise ValueError(f"{rule}, and {short(given)} is not")


Axis = Annotated[list[int], BeforeValidator(expand_axis)]
Ratios = Annotated[list[float], BeforeValidator(check_ratios)]
Shares = Annotated[list[float], BeforeValidator(check_shares)]
Reservations = Annotated[list[float], BeforeValidator(check_reservations)]
Schedulers = Annotated[list[str], BeforeValidator(check_schedulers)]
Rates = Annotated[list[float], BeforeValidator(check_rates)]
LatencyLimits = Annotated[list[float], BeforeValidator(check_limits)]
Variations = Annotated[list[float], BeforeValidator(check_variations)]
Counts = Annotated[list[int], BeforeValidator(check_counts)]
DraftTokens = Annotated[list[int], BeforeValidator(check_draft_tokens)]
HitRates = Annotated[list[float], BeforeValidator(check_hit_rates)]
Probabilities = Annotated[list[float], BeforeValidator(check_probabilities)]
