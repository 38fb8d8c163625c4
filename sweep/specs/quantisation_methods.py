"""Reads `quantization_config` as each quantisation tool writes it.

Sizes of scales are those of the tensors that the tools save:

- AWQ and GPTQ: a 16-bit scale and a zero point as wide as a weight for each group; GPTQ also the
  group of each input, in 32 bits.
- FP8 with blocks (DeepSeek-V3): a 32-bit scale for each block. FP8 otherwise: a 32-bit scale for
  each matrix, and one for its inputs if they are static. fbgemm: one for each row.
- compressed-tensors: 16-bit scales; packed integers also store the shape of each matrix.
- ModelOpt: NVFP4 has an 8-bit scale for 16 weights, and 32-bit scales for each matrix and for its
  inputs.
- MXFP4 and MXFP8: an 8-bit scale for 32 weights (Open Compute Project, "Microscaling formats",
  2023).
- bitsandbytes: a 32-bit scale for each 64 weights; with double quantisation 8 bits, and 32 more
  for each 256 of these (Dettmers et al., "QLoRA", 2023).
"""

from collections.abc import Callable, Mapping
from typing import Any

from sweep.errors import SpecError
from sweep.specs.compressed_tensors import read_compressed_tensors
from sweep.specs.dtypes import StoredDtype
from sweep.specs.modelopt import listed_modules, read_modelopt
from sweep.specs.quantisation import Patterns, Quantisation, Rule, Scheme
from sweep.specs.quantisation_keys import OVERRIDE, Keys

MXFP4 = Scheme("mxfp4", "mxfp4", 4, group=32, group_bytes=1.0)
BLOCK = 64
"""Weights that share a scale in bitsandbytes. [count]"""
BLOCKS = 256
"""Scales that share one of their own there. [count]"""


def read_quantisation(data: object, where: str) -> Quantisation:
    """Read a `quantization_config`.

    Raises:
        SpecError: The method is unknown, or a key is missing or wrong.
    """
    if not isinstance(data, Mapping):
        raise SpecError(f"{where}: must be a mapping, not {data!r:.40}; {OVERRIDE}")
    nested = data.get("quantization")
    if isinstance(nested, Mapping):
        # The form of hf_quant_config.json.
        data = {"quant_method": "modelopt", **nested}
    method = _method(data)
    if method not in METHODS:
        known = ", ".join(METHODS)
        problem = "missing" if method is None else f"{method!r:.40} is not supported"
        raise SpecError(f"{where}: quant_method: {problem}; known: {known}; {OVERRIDE}")
    return METHODS[method](Keys(data, where))


def _method(data: Mapping[str, Any]) -> Any:
    """The method that a config states, or that its keys show."""
    stated = data.get("quant_method")
    if stated is not None:
        return stated.lower() if isinstance(stated, str) else repr(stated)
    if "quant_algo" in data:
        return "modelopt"
    if "config_groups" in data:
        return "compressed-tensors"
    if data.get("load_in_4bit") or data.get("load_in_8bit"):
        return "bitsandbytes"
    return None


def _awq(keys: Keys) -> Quantisation:
    bits = keys.choice("bits", (4, 8), "w_bit")
    zero = bits / 8 if keys.flag("zero_point", True) else 0.0
    group = keys.group("group_size", "q_group_size")
    scheme = _integers(bits, group, 2.0 + zero)
    return Quantisation("awq", [Rule(scheme)], keys.patterns("modules_to_not_convert"))


def _gptq(keys: Keys) -> Quantisation:
    def scheme(each: Keys) -> Scheme:
        bits = each.choice("bits", (2, 3, 4, 8))
        return _integers(bits, each.group("group_size"), 2.0 + bits / 8, column_bytes=4.0)

    usual, ignored = scheme(keys), keys.names("modules_to_not_convert")
    rules = []
    for pattern, changes in keys.mapping("dynamic").items():
        where = f"{keys.where}: dynamic: {pattern}"
        sign, _, regex = str(pattern).partition(":")
        if sign == "-":
            ignored.append(f"re:{regex}")
            continue
        changed = Keys({**keys.data, **Keys.of(changes, where).data}, where)
        rules.append(Rule(scheme(changed), Patterns([f"re:{regex or sign}"], where)))
    inside = keys.nested_names("modules_in_block_to_quantize")
    chosen = Patterns(inside, keys.where) if inside else None
    return Quantisation(
        "gptq",
        [*rules, Rule(usual, chosen)],
        Patterns(ignored, keys.where),
        head=keys.flag("lm_head", False),
    )


def _integers(bits: int, group: int, group_bytes: float, column_bytes: float = 0.0) -> Scheme:
    """Integers of `bits` bits with scales for each group, or for each row if `group` is 0."""
    dtype: StoredDtype = "int8" if bits == 8 else "int4"
    if not group:
        name = f"int{bits} by row"
        return Scheme(name, dtype, bits, row_bytes=group_bytes, column_bytes=column_bytes)
    return Scheme(
        f"int{bits}, group {group}",
        dtype,
        bits,
        group=group,
        group_bytes=group_bytes,
        column_bytes=column_bytes,
    )


def _fp8(keys: Keys) -> Quantisation:
    static = keys.choice("activation_scheme", ("dynamic", "static"), default="dynamic") == "static"
    rows, columns = keys.block("weight_block_size")
    scheme = Scheme("per matrix", "fp8", 8, "fp8", matrix_bytes=8.0 if static else 4.0)
    if columns:
        name = f"blocks of {rows} x {columns}"
        scheme = Scheme(name, "fp8", 8, "fp8", group=columns, block_rows=rows, group_bytes=4.0)
    return Quantisation(
        "fp8",
        [Rule(scheme)],
        keys.patterns("modules_to_not_convert", "ignored_layers"),
        listed_modules(keys),
        kv=keys.kv(),
    )


def _fbgemm(keys: Keys) -> Quantisation:
    scheme = Scheme("fp8 by row", "fp8", 8, "fp8", row_bytes=4.0)
    return Quantisation("fbgemm", [Rule(scheme)], keys.patterns("modules_to_not_convert"))


def _mxfp4(keys: Keys) -> Quantisation:
    """Experts alone, as gpt-oss stores them, whose other layers `modules_to_not_convert` lists."""
    del keys
    return Quantisation("mxfp4", [Rule(MXFP4, Patterns(["mlp.experts"]))])


def _bitsandbytes(keys: Keys) -> Quantisation:
    ignored = keys.patterns("llm_int8_skip_modules")
    four, eight = keys.flag("load_in_4bit", False), keys.flag("load_in_8bit", False)
    if four == eight:
        raise keys.error("load_in_4bit", "or load_in_8bit must be true, one of the two")
    if eight:
        scheme = Scheme("int8 by row", "int8", 8, "int8", row_bytes=4.0)
        return Quantisation("bitsandbytes", [Rule(scheme)], ignored)
    kind = keys.choice("bnb_4bit_quant_type", ("nf4", "fp4"), default="fp4")
    if keys.flag("bnb_4bit_use_double_quant", False):
        scale, name = 1.0 + 4.0 / BLOCKS, f"{kind}, block {BLOCK}, double"
    else:
        scale, name = 4.0, f"{kind}, block {BLOCK}"
    scheme = Scheme(name, "int4", 4, group=BLOCK, block_rows=0, group_bytes=scale)
    return Quantisation("bitsandbytes", [Rule(scheme)], ignored)


METHODS: dict[str, Callable[[Keys], Quantisation]] = {
    "awq": _awq,
    "gptq": _gptq,
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "compressed-tensors": read_compressed_tensors,
    "modelopt": read_modelopt,
    "modelopt_fp4": read_modelopt,
    "modelopt_mixed": read_modelopt,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
}
"""Readers by the published `quant_method`."""
