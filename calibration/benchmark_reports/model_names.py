"""Models of the catalog that published identifiers name."""

import re

from sweep.specs.catalog import Catalog

TUNED = {"instruct", "it", "chat", "hf", "meta", "base"}
"""Words of a model's name that change neither its sizes nor its cost."""
NARROW = re.compile(r"(nv|mx)?fp[48]|int[48]|awq|gptq|(quantized\.)?w\d+a\d+")
"""Words of a model's name that mean weights of fewer than 16 bits."""
WIDE = re.compile(r"bf16|fp16|dynamic|kv")
"""Words about types that do not."""


def match_model(identifier: str, catalog: Catalog) -> str | None:
    """The model of the catalog that an identifier names; `None` if none or several match.

    Case, text before the last slash, and words of tuning and number formats do not count:
    `meta-llama/Llama-3.1-8B-Instruct` is `llama-3.1-8b`.
    """
    names = list(catalog.paths("models"))
    wanted = _shape(identifier)
    found = [name for name in names if _shape(name) == wanted]
    if not found:
        published = ((name, catalog.model(name).hugging_face_id) for name in names)
        found = [name for name, other in published if other and _shape(other) == wanted]
    return found[0] if len(found) == 1 else None


def is_narrow(identifier: str) -> bool:
    """Whether an identifier says that the weights have fewer than 16 bits."""
    return any(NARROW.fullmatch(word) for word in _words(identifier))


def _words(identifier: str) -> list[str]:
    return identifier.rstrip("/").rpartition("/")[2].lower().split("-")


def _shape(identifier: str) -> str:
    """The words of a model's name that determine its sizes."""
    return "-".join(
        word
        for word in _words(identifier)
        if word not in TUNED and not NARROW.fullmatch(word) and not WIDE.fullmatch(word)
    )
