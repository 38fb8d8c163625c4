"""A quantised checkpoint: how each matrix is stored, and which matrices are left alone."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil

from sweep.errors import SpecError
from sweep.specs.dtypes import StoredDtype

PREFIXES = ("model.", "language_model.", "text_model.", "thinker.", "transformer.", "backbone.")
"""Leading words of a module's name that say where the text decoder is."""
SAME_MODULE = {
    **dict.fromkeys(("h", "blocks"), "layers"),
    **dict.fromkeys(("block_sparse_moe", "feed_forward", "ffn", "moe"), "mlp"),
    **dict.fromkeys(("attn", "attention", "self_attention"), "self_attn"),
    **dict.fromkeys(("shared_expert", "shared_mlp"), "shared_experts"),
    **dict.fromkeys(("w3", "gate_up_proj", "fc1", "c_fc", "dense_h_to_4h"), "up_proj"),
    **dict.fromkeys(("w2", "fc2", "dense_4h_to_h"), "down_proj"),
    **dict.fromkeys(("out_proj", "dense"), "o_proj"),
    **dict.fromkeys(("query_key_value", "c_attn", "Wqkv", "W_pack"), "qkv_proj"),
    **dict.fromkeys(("head", "output", "embed_out"), "lm_head"),
    **dict.fromkeys(("in_proj_qkvz", "in_proj_z"), "in_proj_qkv"),
    **dict.fromkeys(("in_proj_a", "in_proj_b"), "in_proj_ba"),
    "mamba": "mixer",
    **{"w1": "gate_proj", "wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "wo": "o_proj"},
}
"""Words of a module's name in published models, and the word used here."""
SPELLED: tuple[dict[str, str], ...] = (
    {},
    {"o_proj": "out_proj"},
    {"mlp": "feed_forward"},
    {"mlp": "block_sparse_moe", "up_proj": "w3", "down_proj": "w2"},
    {"shared_experts": "shared_expert"},
    {"self_attn": "attn", "mlp": "ffn", "up_proj": "w3", "down_proj": "w2"},
    {"self_attn": "attention", "mlp": "feed_forward", "up_proj": "w3", "down_proj": "w2"},
)
"""Ways to spell a module's name, which regular expressions may expect."""
LOCATIONS = ("model.", "language_model.model.", "model.language_model.", "language_model.", "")
"""Names of the text decoder, which regular expressions may expect before a module's name."""


@dataclass(frozen=True)
class Scheme:
    """Storage of a quantised matrix, and the type of its inputs.

    Attributes:
        name: The scheme in words.
        dtype: Type of the weights.
        bits: Storage of one weight without scales. [bit]
        activation: Type of the inputs.
        group: Neighbouring weights of a row that share a scale; 0 if there are no groups. [count]
        block_rows: Neighbouring rows that share it; 0 if groups run on from row to row. [count]
        group_bytes: Scale and zero point of one group or block. [byte]
        row_bytes: Scale and zero point of each row. [byte]
        column_bytes: Further storage for each input. [byte]
        matrix_bytes: Further storage for each matrix. [byte]
    """

    name: str
    dtype: StoredDtype
    bits: int
    activation: StoredDtype = "half"
    group: int = 0
    block_rows: int = 1
    group_bytes: float = 0.0
    row_bytes: float = 0.0
    column_bytes: float = 0.0
    matrix_bytes: float = 0.0

    def stored(self, rows: int, columns: int) -> float:
        """Storage of a matrix with `rows` outputs and `columns` inputs. [byte]"""
        found = rows * columns * self.bits / 8 + self.matrix_bytes
        found += rows * self.row_bytes + columns * self.column_bytes
        if self.group:
            groups = ceil(rows * columns / self.group)
            if self.block_rows:
                groups = ceil(rows / self.block_rows) * ceil(columns / self.group)
            found += groups * self.group_bytes
        return found


class Patterns:
    """Names of modules as quantisation tools list them: plain, with `*`, or after `re:`.

    A plain name stands for every module whose dotted name contains it. Names are compared in one
    spelling; see `canonical`.
    """

    def __init__(self, names: Iterable[str] = (), where: str = "") -> None:
        """Read the names.

        Raises:
            SpecError: One is no valid regular expression.
        """
        self._plain: set[str] = set()
        self._globs: list[str] = []
        self._regexes: list[re.Pattern[str]] = []
        for name in names:
            if name.startswith("re:"):
                self._regexes.append(_compiled(name.removeprefix("re:"), where))
                continue
            for spelled in canonical(name):
                if any(sign in spelled for sign in "*?["):
                    self._globs.append(spelled)
                elif spelled:
                    self._plain.add(spelled)

    def __bool__(self) -> bool:
        """Whether there is any name."""
        return bool(self._plain or self._globs or self._regexes)

    def match(self, module: str) -> bool:
        """Whether one of the names stands for a module, which is spelled as in `canonical`."""
        if not self._plain.isdisjoint(_parts(module)):
            return True
        if self._globs and self._glob.match(module):
            return True
        return any(_matches(regex, module) for regex in self._regexes)

    @cached_property
    def experts(self) -> set[int]:
        """Experts that names list by their number."""
        return experts_in([*self._plain, *self._globs])

    @cached_property
    def _glob(self) -> re.Pattern[str]:
        return re.compile("|".join(fnmatch.translate(each) for each in self._globs))


def experts_in(names: Iterable[str]) -> set[int]:
    """Numbers of the experts that names list one by one."""
    found = (re.search(r"(?<!shared_)experts\.(\d+)", name) for name in names)
    return {int(match[1]) for match in found if match}


def canonical(name: str) -> list[str]:
    """Names of modules in one spelling, without the name of the text decoder.

    `language_model.model.layers.0.block_sparse_moe.experts.3.w3` is
    `layers.0.mlp.experts.3.up_proj`; the fused `qkv_proj` is three modules.
    """
    name = name.strip().strip(".")
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    words = []
    for word in name.split("."):
        plain = word.rstrip("*")
        words.append(SAME_MODULE.get(plain, plain) + word[len(plain) :])
    found = ".".join(words)
    if "mixer" in words:
        return list(_of_a_mixer(found))
    if "qkv_proj" in words:
        return [found.replace("qkv_proj", each) for each in ("q_proj", "k_proj", "v_proj")]
    return [found]


def _of_a_mixer(name: str) -> Iterator[str]:
    """Names of what models of one mixer a layer call `mixer`, whatever the layer does."""
    head, _, rest = name.partition("mixer")
    inside = rest.removeprefix(".").split(".")[0]
    if inside in ("q_proj", "k_proj", "v_proj", "", "*"):
        yield f"{head}self_attn{rest}"
    if inside in ("experts", "shared_experts", "up_proj", "down_proj", "gate", "", "*"):
        yield f"{head}mlp{rest}"
    if inside in ("", "*", "o_proj"):
        yield f"{head}self_attn{rest}"
    if inside not in ("q_proj", "k_proj", "v_proj", "experts", "shared_experts", "up_proj"):
        yield f"{head}mixer{rest}"


def spellings_of(module: str) -> Iterator[str]:
    """Names that a published model may give to a module."""
    words = module.split(".")
    for spelled in SPELLED:
        name = ".".join(spelled.get(word, word) for word in words)
        yield from (location + name for location in LOCATIONS)


def _matches(regex: re.Pattern[str], module: str) -> bool:
    """Whether one spelling of a module's name matches, or all do where an expression excludes."""
    excludes = "(?!" in regex.pattern or "(?<!" in regex.pattern
    matches = (regex.match(name) is not None for name in spellings_of(module))
    return all(matches) if excludes else any(matches)


def _parts(module: str) -> Iterator[str]:
    """Every run of words of a dotted name."""
    words = module.split(".")
    for start in range(len(words)):
        for end in range(start, len(words)):
            yield ".".join(words[start : end + 1])


LONGEST_PATTERN = 1000
"""Signs of a regular expression. [count]"""
NESTED_REPEATS = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]")
"""A repeated group with repeats inside: patterns that may take exponential time to fail."""


def _compiled(pattern: str, where: str) -> re.Pattern[str]:
    if NESTED_REPEATS.search(pattern) or len(pattern) > LONGEST_PATTERN:
        raise SpecError(
            f"{where}: {pattern!r:.60} repeats a repeated group or is longer than "
            f"{LONGEST_PATTERN} signs, which may take for ever to compare; write it without"
        )
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SpecError(f"{where}: {pattern!r:.60} is no regular expression: {error}") from None


@dataclass(frozen=True)
class Rule:
    """A scheme, and the modules that it is for.

    Attributes:
        scheme: Their storage; `None` if they are not quantised.
        targets: Their names; `None` for all modules.
    """

    scheme: Scheme | None
    targets: Patterns | None = None


@dataclass(frozen=True)
class Quantisation:
    """Quantisation of a checkpoint, as its config describes it.

    Attributes:
        method: Name of the method, as published.
        rules: The first rule that is for a module counts.
        ignored: Modules that are not quantised.
        listed: Schemes of modules that the checkpoint lists one by one.
        head: Whether the head is quantised unless it is ignored.
        kv: Type of the KV cache.
    """

    method: str
    rules: Sequence[Rule] = ()
    ignored: Patterns = field(default_factory=Patterns)
    listed: Mapping[str, Scheme] = field(default_factory=dict)
    head: bool = False
    kv: StoredDtype = "half"

    def scheme(self, module: str) -> Scheme | None:
        """Storage of a module, spelled as in `canonical`; `None` if it is not quantised."""
        words = module.split(".")
        for end in range(len(words), 0, -1):
            found = self.listed.get(".".join(words[:end]))
            if found is not None:
                return found
        if (module == "lm_head" and not self.head) or self.ignored.match(module):
            return None
        for rule in self.rules:
            if rule.targets is None or rule.targets.match(module):
                return rule.scheme
        return None

    @property
    def experts(self) -> set[int]:
        """Experts that the checkpoint lists by their number."""
        targets = [rule.targets.experts for rule in self.rules if rule.targets is not None]
        return self.ignored.experts.union(experts_in(self.listed), *targets)
