"""Models of a catalog that published identifiers name."""

import difflib
import re
from collections.abc import Mapping

from sweep.errors import SpecError
from sweep.specs.parsing import LONGEST_NAME, joined_names
from sweep.specs.short_names import meant

TUNED = {"instruct", "it", "chat", "hf", "meta", "base", "thinking"}
"""Words of a model's name that change neither its sizes nor its cost."""
NARROW = re.compile(
    r"(nv|mx)?fp[468]|int[2-8](wo)?|nf4|awq|gptq|bnb|gguf|ggml|mlx|exl[23]|hqq|eetq|aqlm|quip|qat"
    r"|i?q[1-8](_[0-9a-z]+)*|[2-8]bits?|\d(\.\d+)?bpw|quantized|(quantized\.)?w\d+a\d+"
)
"""Words of a model's name that mean weights of fewer than 16 bits."""
WIDE = re.compile(r"bf16|fp16|dynamic|kv")
"""Words about types that do not."""
STORED_OTHERWISE = {"bf16", "fp16", "base", "thinking"}
"""Words of the name of a version that may be stored otherwise than a quantised model."""
DATE = re.compile(r"-(\d\d-20\d\d|20\d\d-\d\d(-\d\d)?|\d{4}|\d{6}|\d{8})(?=-|$)")
"""Date of a version, such as `-0528`, `-2507` or `-08-2024`."""
RECIPES = (
    (r"nvfp4|fp4", "nvfp4"),
    (r"mxfp4", "mxfp4"),
    (r"fp8", "fp8"),
    (r"w8a8", "int8"),
    (r"w8a16|8bit|int8", "w8a16"),
    (r"w4a16|awq|gptq|int4|nf4|4bit|bnb|gguf|mlx", "w4a16"),
)
"""Shipped precision recipe for a word of a model's name; the first that fits counts."""


def matching(
    identifier: str, published: Mapping[str, str | None], also: Mapping[str, str] | None = None
) -> list[str]:
    """Names of the models that an identifier may mean: one if it is clear.

    The closest way to compare that finds any model counts: in full but for case and the
    organisation; without words of tuning and number formats; also without a date; also with one
    sign between words, or none. `meta-llama/Llama-3.1-8B-Instruct` is `llama-3.1-8b`.

    Args:
        identifier: A name, or an identifier such as that of a Hugging Face repository.
        published: Identifier that each model is published under, by name.
        also: Name of the model that has the sizes of each further identifier.
    """
    for form in (_last, _shape, _undated, _loose, _joined):
        wanted = form(identifier)
        found = [name for name in published if wanted and form(name) == wanted]
        if not found and wanted:
            found = [name for name, other in published.items() if other and form(other) == wanted]
        if not found and wanted and also:
            found = list({name: 0 for other, name in also.items() if form(other) == wanted})
        if found:
            return found
    return []


def name_of(
    identifier: str,
    published: Mapping[str, str | None],
    kind: str = "model",
    also: Mapping[str, str] | None = None,
) -> str:
    """The name of the model that an identifier means.

    Args:
        identifier: As for `matching`.
        published: As for `matching`.
        kind: Word for what is named, for messages.
        also: As for `matching`.

    Raises:
        SpecError: None or several match, or the identifier is that of a quantised version.
    """
    if len(identifier) > LONGEST_NAME:
        raise SpecError(f"unknown {kind} {identifier!r:.80}; a name is shorter")
    found = matching(identifier, published, also)
    if not found:
        raise SpecError(f"unknown {kind} {identifier!r:.80}{_guess(identifier, published)}")
    if len(found) > 1:
        raise SpecError(f"{kind} {identifier!r} may be {' or '.join(found)}; give one of these")
    (name,) = found
    own = {name, _last(published[name] or "")} | {
        _last(n) for n, of in (also or {}).items() if of == name
    }
    if is_narrow(identifier) and _last(identifier) not in own:
        raise SpecError(
            f"{identifier!r} is a quantised version of {name!r}: give {name!r} with --precision "
            f"{_recipe(identifier)}, or the folder or config.json of the version itself"
        )
    return name


def check_checkpoint(identifier: str, name: str, own: str | None) -> None:
    """Refuse an identifier of another checkpoint than the quantised file of a model.

    Args:
        identifier: What was asked for.
        name: Name of the model that it means.
        own: Identifier that the model is published under.

    Raises:
        SpecError: The identifier has a word of `STORED_OTHERWISE` that the model's own has not.
    """
    other = STORED_OTHERWISE & set(_words(identifier)) - set(_words(own or name))
    if identifier != name and other:
        raise SpecError(
            f"{identifier!r} is another checkpoint than {own or name!r}, whose file is quantised: "
            f"give {name!r} with --precision NAME, or the folder or config.json of the version"
        )


def is_narrow(identifier: str) -> bool:
    """Whether an identifier says that the weights have fewer than 16 bits."""
    # Files and servers separate words by other signs too: `model.Q4_K_M.gguf`, `llama3.1:8b-q8_0`.
    words = [*_words(identifier), *re.split(r"[-_.:/@+ ]", _last(identifier))]
    return any(NARROW.fullmatch(word) for word in words)


def _recipe(identifier: str) -> str:
    words = [word.removeprefix("quantized.") for word in re.split(r"[-:@ ]", _last(identifier))]
    for pattern, recipe in RECIPES:
        if any(re.fullmatch(pattern, word) for word in words):
            return recipe
    return "NAME"


def _guess(identifier: str, published: Mapping[str, str | None]) -> str:
    """Models that an unknown name may mean, as the end of a sentence.

    Those of its family, however spelt, else those with all of its words, else close matches.
    """
    if "," in identifier:
        return joined_names(identifier)
    wanted = _loose(identifier)
    begin = wanted if len(wanted) > 2 and wanted.isalpha() else f"{wanted}-"
    family = [name for name in published if wanted and _loose(name).startswith(begin)]
    joined = _joined(identifier)
    spelt = [name for name in published if len(joined) > 3 and _joined(name).startswith(joined)]
    words = set(re.split(r"[-._:\s]+", _shape(identifier)))
    having = [name for name in published if words <= set(re.split(r"[-._]", name))]
    close = difflib.get_close_matches(_shape(identifier), list(published), n=3)
    found = family or spelt or having or close
    if not found:
        return "; see 'llm-sweep list models', or give a config.json or its folder"
    return meant(found)


def _last(identifier: str) -> str:
    return identifier.rstrip("/").rpartition("/")[2].lower()


def _words(identifier: str) -> list[str]:
    return _last(identifier).split("-")


def _shape(identifier: str) -> str:
    """The words of a model's name that determine its sizes."""
    return "-".join(
        word
        for word in _words(identifier)
        if word not in TUNED and not NARROW.fullmatch(word) and not WIDE.fullmatch(word)
    )


def _undated(identifier: str) -> str:
    return DATE.sub("", _shape(identifier))


def _loose(identifier: str) -> str:
    """The undated words with `-` for every sign between them."""
    return _undated(re.sub(r"[._\s]+", "-", _last(identifier)))


def _joined(identifier: str) -> str:
    """The undated words without signs between them but points: `llama3.18b` for `Llama 3.1 8B`."""
    return _undated(re.sub(r"[_\s]+", "-", _last(identifier))).replace("-", "")
