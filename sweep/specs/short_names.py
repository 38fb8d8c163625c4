"""Entries of a catalog that a short or differently spelt name may mean: `H20`, `rtx4090`."""

import difflib
import re
from collections.abc import Sequence

from sweep.specs.parsing import LONGEST_NAME, joined_names

MAKERS = {
    *("nvidia", "amd", "intel", "google", "aws", "huawei", "tesla", "geforce", "instinct"),
    *("blackwell", "generation", "edition"),
}
"""Words of a product's name that no entry has."""
MEMORY_TYPES = re.compile(r"hbm\d?e?|gddr\d?x?")
"""Words for a type of memory, which drivers add to a product's name."""
SOCKETS = re.compile(r"sxm\d")
OTHER_NAMES = {"trillium": "tpu-v6e", "ironwood": "tpu-v7x"}
"""Accelerators by another name of the same product."""
MOST_SHOWN = 8
"""Most names that a message lists. [count]"""


def accelerators(name: str, known: Sequence[str]) -> list[str]:
    """Accelerators that a name may mean: one if it is clear, none if it means nothing.

    A name means every entry that has all of its words, of which one must be the chip: `A100-80GB`
    means `a100-sxm-80gb` and `a100-pcie-80gb`, and `NVIDIA H20` both versions of the H20.
    """
    if len(name) > LONGEST_NAME:
        return []
    spelt = same_but_spelling(name, known)
    if len(spelt) == 1:
        return spelt
    words = _words(name)
    other = OTHER_NAMES.get(words[-1])
    return [entry for entry in known if entry == other or _means(words, entry)]


def same_but_spelling(name: str, known: Sequence[str]) -> list[str]:
    """Entries whose name differs only in case and in signs between words."""
    wanted = _joined(name)
    return [entry for entry in known if wanted and _joined(entry) == wanted]


def suggestion(name: str, known: Sequence[str]) -> str:
    """Entries near an unknown name, as the end of a sentence; empty without any.

    Those with a word that begins as a word of the name come first: `mi300` suggests `mi300x`.
    """
    if len(name) > LONGEST_NAME or "," in name:
        return joined_names(name)
    words = [word for word in _words(name) if len(word) > 1]
    chips = [entry for entry in known if _chip(entry) in words]
    begun = [e for e in known if any(w.startswith(word) for w in _words(e) for word in words)]
    if len(words) == 1 and begun and not chips:
        return meant(begun)
    close = difflib.get_close_matches(name.lower(), chips or begun or list(known), n=3)
    return meant(close or chips or begun)


def meant(names: Sequence[str]) -> str:
    """The question whether one of these names was meant, as the end of a sentence."""
    if not names:
        return ""
    more = f" (or {len(names) - MOST_SHOWN} more)" if len(names) > MOST_SHOWN else ""
    return f"; did you mean {' or '.join(map(repr, names[:MOST_SHOWN]))}{more}?"


def _means(words: Sequence[str], entry: str) -> bool:
    """Whether an entry has all of these words, and one of them is its chip."""
    own, chip = _words(entry), _chip(entry)
    # People write rtx4090 for rtx-4090, and tpuv5e.
    spelt = {"".join(own[: n + 1]): set(own[: n + 1]) for n in range(len(own))}
    given: set[str] = set()
    for word in words:
        given |= spelt.get(word, {word})
    return chip in given and given <= set(own)


def _chip(entry: str) -> str:
    """The word that names the chip: the first with a digit, as `4090` of `rtx-4090`."""
    words = _words(entry)
    return next((word for word in words if any(sign.isdigit() for sign in word)), words[0])


def _words(name: str) -> list[str]:
    words = re.split(r"[-_./\s]+", name.strip().lower())
    kept = [w for w in words if w and w not in MAKERS and not MEMORY_TYPES.fullmatch(w)]
    return ["sxm" if SOCKETS.fullmatch(word) else word for word in kept] or [name.lower()]


def _joined(name: str) -> str:
    return re.sub(r"[-_./\s]+", "", name.lower()) if len(name) <= LONGEST_NAME else ""
