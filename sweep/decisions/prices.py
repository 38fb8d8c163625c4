"""Hourly prices of accelerators: from a specification, a file, or the command line."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from sweep.errors import SpecError
from sweep.specs.files import read_mapping
from sweep.specs.hardware import LEAST_PRICE, MOST_PRICE, HardwareSpec
from sweep.specs.inputs import read_text
from sweep.specs.parsing import short
from sweep.specs.short_names import accelerators

COLUMNS = ("hardware", "price_usd_per_hour")
"""Required columns of a table of prices; others are ignored."""

Prices = dict[str, float]
"""Price of one hour of one accelerator, by its name. [USD]"""


def read_prices(path: Path) -> Prices:
    """Read prices from a YAML or JSON mapping of names to numbers, or from a CSV of `COLUMNS`.

    Raises:
        SpecError: It cannot be read, names an accelerator twice, or has a value that is no price.
    """
    if path.suffix != ".csv":
        return {str(name): _price(v, f"{path}: {name}") for name, v in read_mapping(path).items()}
    try:
        rows = list(csv.DictReader(read_text(path, "utf-8-sig").splitlines(keepends=True)))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"{path}: cannot be read: {reason!s:.200}") from None
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise SpecError(
            f"{path}: must have the columns {' and '.join(COLUMNS)}, and at least one row"
        )
    name, price = COLUMNS
    short_row = next((row for row in rows if row[name] is None or row[price] is None), None)
    if short_row is not None:
        raise SpecError(f"{path}: a row has fewer columns than the header: {short(short_row)}")
    twice = [held for held, count in Counter(row[name] for row in rows).items() if count > 1]
    if twice:
        raise SpecError(f"{path}: {twice[0]:.80} is listed twice; keep one row")
    return {row[name]: _price(row[price], f"{path}: {row[name]}") for row in rows}


def by_entry(prices: Mapping[str, float], known: Sequence[str]) -> Prices:
    """Prices by the entry of a catalog that each name means; a name that means none stays.

    Raises:
        SpecError: Two names mean the same entry.
    """
    found: Prices = {}
    for name, price in prices.items():
        meant = [name] if name in known else accelerators(name, known)
        entry = meant[0] if len(meant) == 1 else name
        if entry in found:
            raise SpecError(f"--price {name}: {entry} has a price already; give one")
        found[entry] = price
    return found


def parse_prices(texts: Iterable[str]) -> Prices:
    """Parse prices of the form `NAME=USD`; the last one of a name counts.

    Raises:
        SpecError: A text has another form.
    """
    found = {}
    for text in texts:
        name, equals, price = text.partition("=")
        if not (name and equals):
            raise SpecError(f"--price {text!r}: write NAME=USD, dollars an hour of one accelerator")
        found[name.strip()] = _price(price, f"--price {name.strip()}")
    return found


def price_of(spec: HardwareSpec, given: Mapping[str, float]) -> float | None:
    """The given hourly price of an accelerator, else that of its specification. [USD]"""
    if spec.name in given:
        return given[spec.name]
    return None if spec.price_usd_per_hour is None else spec.price_usd_per_hour.value


def _price(given: Any, where: str) -> float:
    try:
        price = float("nan") if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        price = float("nan")
    if not (isfinite(price) and price > 0):
        raise SpecError(f"{where}: the hourly price must be a number above 0, not {short(given)}")
    if not LEAST_PRICE <= price <= MOST_PRICE:
        raise SpecError(
            f"{where}: the hourly price must be from {LEAST_PRICE:g} to {MOST_PRICE:g} USD, not "
            f"{short(given)}"
        )
    return price
