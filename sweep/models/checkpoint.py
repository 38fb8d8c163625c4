"""The precision recipe of a model's own file, from its `quantization_config` and its blocks."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sweep.errors import SpecError, SpecWarning
from sweep.kernel.block import Block
from sweep.kernel.operator_table import OPERATORS, tensors
from sweep.models.left_out import text_part
from sweep.models.module_names import modules_of
from sweep.models.read import read_model
from sweep.schema.terms import PARTS, Part
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT, LinearSpec, PrecisionSpec
from sweep.specs.quantisation import Patterns, Quantisation, Rule, Scheme
from sweep.specs.quantisation_keys import OVERRIDE
from sweep.specs.quantisation_methods import MXFP4, read_quantisation

KEYS = ("quantization_config", "compression_config")
"""Keys of a config that describe its quantisation."""
UNQUANTISED_BYTES = 2.0
"""Storage of a weight that is not quantised. [byte]"""
PART_NAMES: dict[Part, str] = {"ffn": "feed-forward"}


@dataclass(frozen=True)
class Checkpoint:
    """Storage of a model's own file.

    Attributes:
        recipe: The precision recipe, named `checkpoint`, with its description as its note.
        weight_bytes: Storage of all weights of the text decoder. [byte]
        notes: What the recipe says less exactly than the file.
    """

    recipe: PrecisionSpec
    weight_bytes: float
    notes: tuple[str, ...] = ()


class Matrix(NamedTuple):
    """Matrices of one weight in one layer that are stored alike.

    Attributes:
        part: Part of the model.
        elements: Weights. [count]
        stored: Storage. [byte]
        scheme: Their scheme, `None` if they are not quantised.
    """

    part: Part
    elements: int
    stored: float
    scheme: Scheme | None


@dataclass
class Stored:
    """Weights of one part by scheme.

    Attributes:
        elements: Weights by scheme; `None` for those that are not quantised. [count]
        bytes: Storage of all. [byte]
    """

    elements: Counter[Scheme | None] = field(default_factory=Counter)
    bytes: float = 0.0

    @property
    def main(self) -> Scheme | None:
        """The scheme of most weights."""
        return self.elements.most_common(1)[0][0]

    @property
    def count(self) -> int:
        """All weights. [count]"""
        return self.elements.total()


def is_quantised(spec: ModelSpec) -> bool:
    """Whether the config of a model describes a quantisation."""
    return _section(spec) is not None


def checkpoint(spec: ModelSpec, blocks: tuple[Block, ...] | None = None) -> Checkpoint:
    """Read how the file of a model is stored: in 16 bits unless its config says otherwise.

    Args:
        spec: The model.
        blocks: Its blocks, if they are read already.

    Raises:
        SpecError: The quantisation is unknown or malformed.
    """
    if blocks is None:
        with warnings.catch_warnings():
            # Whoever reads the model to compute with it is warned.
            warnings.simplefilter("ignore", SpecWarning)
            blocks = read_model(spec)
    found = _section(spec)
    unquantised = _unquantised_bytes(blocks)
    if found is None:
        everything = sum(int(b.count) * t.elements for b, t in tensors(blocks))
        return Checkpoint(CHECKPOINT, UNQUANTISED_BYTES * everything)
    key, data = found
    where = f"{spec.where}: {key}"
    quantisation = _with_expert_type(read_quantisation(data, where), spec)
    _check_experts(quantisation, blocks, where)
    parts: dict[Part, Stored] = {}
    modules: set[str] = set()
    for module, matrix in _matrices(quantisation, blocks):
        modules.add(module)
        stored = parts.setdefault(matrix.part, Stored())
        stored.elements[matrix.scheme] += matrix.elements
        stored.bytes += matrix.stored
    _check_used(quantisation, parts, where)
    recipe = _recipe(quantisation, parts, blocks)
    weight_bytes = unquantised + sum(stored.bytes for stored in parts.values())
    notes = (*_notes(parts, blocks), *_unknown_modules(quantisation, modules))
    return Checkpoint(recipe, weight_bytes, notes)


def _section(spec: ModelSpec) -> tuple[str, Any] | None:
    """The key that describes the quantisation, and its value: the whole config's, or its text's."""
    text = text_part(spec.config, spec.where)
    for path, part in (("", spec.config), (f"{text.path}: " if text.path else "", text.data)):
        for key in KEYS:
            if part.get(key) not in (None, {}):
                return f"{path}{key}", part[key]
    return None


def _with_expert_type(quantisation: Quantisation, spec: ModelSpec) -> Quantisation:
    """The quantisation with the type that DeepSeek-V4 states of its experts apart.

    Beside experts in FP4, whose 32 weights share a scale of 8 bits, the scales of its FP8 blocks
    have 8 bits too, as vLLM reads them.

    Raises:
        SpecError: The type is unknown.
    """
    dtype = text_part(spec.config, spec.where).data.get("expert_dtype")
    if dtype in (None, "fp8") or quantisation.method != "fp8":
        return quantisation
    if dtype != "fp4":
        raise SpecError(
            f"{spec.where}: expert_dtype: must be 'fp4' or 'fp8', not {dtype!r:.40}; {OVERRIDE}"
        )
    rules = [
        rule if rule.scheme is None else replace(rule, scheme=replace(rule.scheme, group_bytes=1.0))
        for rule in quantisation.rules
    ]
    return replace(quantisation, rules=[Rule(MXFP4, Patterns(["mlp.experts"])), *rules])


def _check_experts(quantisation: Quantisation, blocks: tuple[Block, ...], where: str) -> None:
    kept = max((int(block.experts) for block in blocks), default=0)
    named = len(quantisation.experts)
    if named and kept and named < kept:
        raise SpecError(
            f"{where}: names {named} of {kept} experts; experts that are stored in different ways "
            f"are not supported; {OVERRIDE}"
        )


def _check_used(quantisation: Quantisation, parts: Mapping[Part, Stored], where: str) -> None:
    """Check that schemes for some modules are for some of this model's."""
    used = any(scheme is not None for stored in parts.values() for scheme in stored.elements)
    general = any(rule.targets is None for rule in quantisation.rules)
    if not used and not general and (quantisation.rules or quantisation.listed):
        raise SpecError(f"{where}: is for modules that this model does not have; {OVERRIDE}")


def _unknown_modules(quantisation: Quantisation, modules: set[str]) -> Iterator[str]:
    """Yield a note of modules that a checkpoint lists one by one and this model does not have."""
    known = set(modules)
    for module in modules:
        words = module.split(".")
        known.update(".".join(words[:end]) for end in range(1, len(words)))
    unknown = []
    for name in quantisation.listed:
        first = re.sub(r"(?<!shared_)experts\.\d+", "experts.0", name)
        layer = ".".join(name.split(".")[:2])
        if layer in known and first.replace("gate_proj", "up_proj") not in known:
            unknown.append(name)
    if unknown:
        yield f"listed modules that are not known are passed over: {', '.join(unknown):.80}"


def _unquantised_bytes(blocks: tuple[Block, ...]) -> float:
    """Storage of weights that belong to no part: embeddings, norms, biases, routers. [byte]"""
    return UNQUANTISED_BYTES * sum(
        int(block.count) * tensor.elements
        for block, tensor in tensors(blocks)
        if tensor.role not in PARTS
    )


def _matrices(
    quantisation: Quantisation, blocks: tuple[Block, ...]
) -> Iterator[tuple[str, Matrix]]:
    """Yield every quantisable matrix and its name; layers are numbered in the order of blocks."""
    layers = [block for block in blocks if block.in_transformer]
    total, first = sum(int(block.count) for block in layers), 0
    for block in blocks:
        own = range(first, first + int(block.count) if block.in_transformer else first)
        first = own.stop
        for operator in block.operators:
            partial = not all(operator in layer.operators for layer in layers)
            weights = [t for t in OPERATORS[operator].weights(block) if t.role in PARTS]
            for index, tensor in enumerate(weights):
                names = modules_of(operator, index, block.operators)
                *several, rows, columns = tensor.shape
                copies = several[0] if several else 1
                for name in names if tensor.elements else ():
                    every = range(total) if partial else own
                    found = {name: quantisation.scheme(name)}
                    if own:
                        found = _schemes(quantisation, name, own, every)
                    for module, scheme in found.items():
                        matrix = _matrix(tensor.role, scheme, copies, rows // len(names), columns)
                        yield module, matrix


def _schemes(
    quantisation: Quantisation, name: str, own: range, every: range
) -> dict[str, Scheme | None]:
    """Scheme of a module in each layer of a block.

    Where blocks take turns, their layers' numbers are not known. Files list only modules that
    exist, so as many listed modules as the block has layers are those of the block.

    Args:
        quantisation: The quantisation.
        name: Name of the module in a layer.
        own: Numbers of the block's layers, if blocks followed one another.
        every: Numbers of all layers that may be the block's.
    """
    modules = [f"layers.{layer}.{name}" for layer in own]
    found = {module: quantisation.scheme(module) for module in modules}
    if len(set(found.values())) > 1 and len(every) > len(own):
        schemes = [quantisation.scheme(f"layers.{layer}.{name}") for layer in every]
        general = any(rule.targets is None for rule in quantisation.rules)
        listed = [scheme for scheme in schemes if (scheme is None) == general]
        if len(listed) == len(own) and len(set(listed)) == 1:
            return dict.fromkeys(modules, listed[0])
    return found


def _matrix(role: Any, scheme: Scheme | None, copies: int, rows: int, columns: int) -> Matrix:
    elements = copies * rows * columns
    stored = UNQUANTISED_BYTES * elements
    if scheme is not None:
        stored = copies * scheme.stored(rows, columns)
    return Matrix(role, elements, stored, scheme)


def _recipe(
    quantisation: Quantisation, parts: Mapping[Part, Stored], blocks: tuple[Block, ...]
) -> PrecisionSpec:
    linear = {part: _linear(part, stored, blocks) for part, stored in parts.items()}
    base = next(linear[part] for part in ("ffn", "experts", "attention", "head") if part in linear)
    return PrecisionSpec(
        **base.model_dump(),
        name=CHECKPOINT.name,
        attention=linear.get("attention"),
        experts=linear.get("experts"),
        head=linear.get("head"),
        hidden_dtype=CHECKPOINT.hidden_dtype,
        kv_dtype=quantisation.kv,
        head_dtype=CHECKPOINT.head_dtype,
        note=_description(quantisation, parts),
    )


def _linear(part: Part, stored: Stored, blocks: tuple[Block, ...]) -> LinearSpec:
    scheme = stored.main
    average = stored.bytes / stored.count
    if scheme is None:
        same = len(stored.elements) == 1
        return LinearSpec(
            weight_dtype="half",
            activation_dtype="half",
            stored_weight_bytes=None if same else average,
        )
    grouped = scheme.group if _splits_evenly(part, scheme, blocks) else 0
    return LinearSpec(
        weight_dtype=scheme.dtype,
        activation_dtype=scheme.activation,
        weight_group_size=grouped or None,
        weight_scale_bytes=(scheme.group_bytes / scheme.block_rows) if grouped else None,
        stored_weight_bytes=average,
    )


def _splits_evenly(part: Part, scheme: Scheme, blocks: tuple[Block, ...]) -> bool:
    """Whether groups divide the matrices that tensor parallelism splits.

    The last group of a row may be shorter in a whole matrix, but not in a part of one. Formats
    whose scale is part of their type have groups too small to matter.
    """
    if scheme.dtype in ("nvfp4", "mxfp4") or not scheme.group or not scheme.block_rows:
        return False
    sizes = {
        "attention": [block.heads * block.head_dim for block in blocks],
        "head": [],
    }.get(part, [block.ffn_size for block in blocks])
    return all(int(size) % scheme.group == 0 for size in sizes)


def _description(quantisation: Quantisation, parts: Mapping[Part, Stored]) -> str:
    """The recipe in words, such as `awq int4, group 128`."""
    weights: Counter[str] = Counter()
    for stored in parts.values():
        for scheme, elements in stored.elements.items():
            weights[_words(scheme)] += elements
    (first, _), *_ = weights.most_common(1)
    if first == _words(None) and len(weights) > 1:
        first = weights.most_common(2)[1][0]
    words = [f"{quantisation.method} {first}".replace("mxfp4 mxfp4", "mxfp4")]
    words = [words[0].replace("fp8 fp8", "fp8")]
    others: dict[str, list[str]] = {}
    for part in PARTS:
        if part not in parts or (part == "head" and parts[part].main is None):
            continue
        if _words(parts[part].main) != first:
            others.setdefault(_words(parts[part].main), []).append(PART_NAMES.get(part, part))
    words += [f"{' and '.join(names)} in {scheme}" for scheme, names in others.items()]
    if quantisation.kv != CHECKPOINT.kv_dtype:
        words.append(f"KV cache in {quantisation.kv}")
    return "; ".join(words)


def _words(scheme: Scheme | None) -> str:
    return "16 bits" if scheme is None else scheme.name


def _notes(parts: Mapping[Part, Stored], blocks: tuple[Block, ...]) -> Iterator[str]:
    """Yield what a recipe of one type for each part says less exactly than the file."""
    for part, stored in parts.items():
        if len(stored.elements) > 1:
            main = stored.main
            other = stored.count - stored.elements[main]
            yield (
                f"{PART_NAMES.get(part, part)}: {100 * other / stored.count:.2g} % of the weights "
                f"are not stored as {_words(main)}; the total of bytes is exact, their division "
                "among layers is even, and all are computed as most of them"
            )
    unnamed = {
        operator
        for block in blocks
        for operator in block.operators
        for index, tensor in enumerate(
            t for t in OPERATORS[operator].weights(block) if t.role in PARTS
        )
        if tensor.elements
        and modules_of(operator, index, block.operators)[0].endswith(f".{operator}")
    }
    if unnamed:
        yield f"names of {', '.join(sorted(unnamed))} are not known; taken by their part"
