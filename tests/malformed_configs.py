"""Malformed variations of every model family: each is read or refused in one line.

Run as `python tests/malformed_configs.py [--variations N] [--seed S]`. A variation drops keys,
gives them values of other types, sizes of 0 and 10¹⁸, and lists of another length. The table counts
the outcomes; anything but a read model or a refusal of one line is printed and exits with status 1.
"""

import random
import signal
import sys
import warnings
from collections import Counter
from typing import Any

import click
from model_families import FURTHER_KEYS, keys_of

from sweep.errors import SpecError, SpecWarning
from sweep.kernel.operator_table import tensors
from sweep.models.family_table import FAMILIES
from sweep.models.read import read_blocks

WRONG: list[Any] = [
    *(None, 0, -1, 1, 3, 7, 10**18, True, False, 1.5, -0.5, float("nan"), 1e300),
    *("8", "", "none", [], [1], [0, 1, 1], [None], ["x"], {}, {"a": 1}, [[]], [{}]),
]
SECONDS = 10
"""Time that reading one file may take. [s]"""


def other_length(value: list[Any], rng: random.Random) -> list[Any]:
    """Shorten or lengthen a list, or change one of its items."""
    match rng.randrange(3):
        case 0:
            return value[: rng.randrange(len(value) + 1)]
        case 1:
            return value + value[:1] * rng.randrange(1, 4)
        case _:
            changed = list(value)
            if changed:
                changed[rng.randrange(len(changed))] = rng.choice(WRONG)
            return changed


def spoil(keys: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Change one to three keys of a config, or of a mapping inside it."""
    changed = dict(keys)
    for _ in range(rng.randint(1, 3)):
        known = rng.random() < 0.8 and changed
        key = rng.choice(list(changed) if known else FURTHER_KEYS)
        old = changed.get(key)
        if rng.random() < 0.2:
            changed.pop(key, None)
        elif isinstance(old, list) and rng.random() < 0.6:
            changed[key] = other_length(old, rng)
        elif isinstance(old, dict) and rng.random() < 0.7:
            changed[key] = spoil(old, rng)
        else:
            changed[key] = rng.choice(WRONG)
    return changed


def outcome(keys: dict[str, Any]) -> str:
    """Read one config and say `read`, `refused`, or a violation."""
    try:
        found = read_blocks(keys, "some/config.json")
        if not sum(int(block.count) * tensor.elements for block, tensor in tensors(found)) > 0:
            return "no parameters"
    except SpecError as error:
        said = str(error)
        fine = "\n" not in said and said.startswith("some/config.json") and len(said) < 2000
        return "refused" if fine else f"unclear: {said[:200]!r}"
    except TimeoutError:
        return "takes too long"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def too_long(*_: object) -> None:
    """Interrupt a reader that takes too long."""
    raise TimeoutError


@click.command()
@click.option("--variations", default=10_000, show_default=True, help="Of each family.")
@click.option("--seed", default=0, show_default=True)
@click.option("--family", "families", multiple=True, help="Only these families.")
def main(variations: int, seed: int, families: tuple[str, ...]) -> None:
    """Count what becomes of malformed variations."""
    signal.signal(signal.SIGALRM, too_long)
    violations = 0
    click.echo(f"{'family':<24}{'read':>8}{'refused':>8}{'violations':>11}")
    for family in families or sorted(FAMILIES):
        rng = random.Random(f"{seed} {family}")
        base, counts = keys_of(family), Counter[str]()
        for _ in range(variations):
            keys = spoil(base, rng)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SpecWarning)
                signal.alarm(SECONDS)
                found = outcome(keys)
                signal.alarm(0)
            if found not in ("read", "refused"):
                violations += 1
                changed = {k: v for k, v in keys.items() if base.get(k, ...) != v}
                gone = sorted(set(base) - set(keys))
                print(f"{family}: {found}; changed {changed}, dropped {gone}", file=sys.stderr)
                found = "violations"
            counts[found] += 1
        click.echo(
            f"{family:<24}{counts['read']:>8}{counts['refused']:>8}{counts['violations']:>11}"
        )
    sys.exit(violations > 0)


if __name__ == "__main__":
    main()
