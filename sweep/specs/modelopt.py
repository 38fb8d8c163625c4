"""Reads the `quantization_config` and the `hf_quant_config.json` that ModelOpt writes."""

from collections.abc import Callable

from sweep.specs.compressed_tensors import group_rules
from sweep.specs.dtypes import StoredDtype
from sweep.specs.quantisation import Quantisation, Rule, Scheme, canonical
from sweep.specs.quantisation_keys import Keys

SCALE = 4.0
"""Storage of a scale of a matrix or of its inputs. [byte]"""
MIXED = "MIXED_PRECISION"
"""Algorithm whose modules are listed one by one."""


def _nvfp4(group: int, *, inputs: bool) -> Scheme:
    scalars = SCALE * (2 if inputs else 1)
    activation: StoredDtype = "nvfp4" if inputs else "half"
    return Scheme("nvfp4", "nvfp4", 4, activation, group, 1, 1.0, matrix_bytes=scalars)


def _int4(group: int, *, inputs: bool) -> Scheme:
    name = f"int4, group {group}"
    activation: StoredDtype = "fp8" if inputs else "half"
    scalars = SCALE if inputs else 0.0
    return Scheme(name, "int4", 4, activation, group, 1, 2.0, matrix_bytes=scalars)


ALGORITHMS: dict[str, tuple[int, Callable[[int], Scheme]]] = {
    "FP8": (0, lambda _: Scheme("fp8", "fp8", 8, "fp8", matrix_bytes=2 * SCALE)),
    "FP8_PER_CHANNEL_PER_TOKEN": (
        0,
        lambda _: Scheme("fp8 by row", "fp8", 8, "fp8", row_bytes=SCALE),
    ),
    "FP8_PB_WO": (
        128,
        lambda g: Scheme(f"fp8, blocks of {g} x {g}", "fp8", 8, "half", g, g, SCALE),
    ),
    "MXFP8": (32, lambda g: Scheme("mxfp8", "fp8", 8, "fp8", g, 1, 1.0)),
    "NVFP4": (16, lambda g: _nvfp4(g, inputs=True)),
    "NVFP4_AWQ": (16, lambda g: _nvfp4(g, inputs=True)),
    "W4A16_NVFP4": (16, lambda g: _nvfp4(g, inputs=False)),
    "W4A16_MXFP4": (32, lambda g: Scheme("mxfp4", "mxfp4", 4, "half", g, 1, 1.0)),
    "W4A16_AWQ": (128, lambda g: _int4(g, inputs=False)),
    "W4A8_AWQ": (128, lambda g: _int4(g, inputs=True)),
    "W8A8_SQ_PER_CHANNEL": (0, lambda _: Scheme("int8 by row", "int8", 8, "int8", row_bytes=SCALE)),
    "W8A16": (0, lambda _: Scheme("int8 by row", "int8", 8, row_bytes=SCALE)),
}
"""Usual group and scheme of each algorithm."""


def read_modelopt(keys: Keys) -> Quantisation:
    """Read the algorithm, the modules that it leaves alone and the type of the KV cache.

    Raises:
        SpecError: The algorithm is unknown, or a key is wrong.
    """
    algorithm = keys.data.get("quant_algo")
    listed = listed_modules(keys)
    rules: list[Rule] = []
    if not listed:
        if isinstance(algorithm, str) and algorithm in ALGORITHMS:
            rules = [Rule(_scheme(keys))]
        elif keys.data.get("config_groups"):
            rules = group_rules(keys, scale_bytes=SCALE)
        elif algorithm == MIXED:
            raise keys.error("quantized_layers", f"missing, and quant_algo says {MIXED}")
        elif algorithm is not None or keys.kv() == "half":
            keys.choice("quant_algo", (*ALGORITHMS, MIXED))
    ignored = keys.patterns("ignore", "exclude_modules")
    return Quantisation("modelopt", rules, ignored, listed, head=True, kv=keys.kv())


def listed_modules(keys: Keys) -> dict[str, Scheme]:
    """Read `quantized_layers`: a scheme for each module that it lists."""
    layers = keys.section("quantized_layers")
    known: dict[tuple[object, object], Scheme] = {}
    found = {}
    for name in layers.data:
        each = layers.section(name)
        key = str(each.data.get("quant_algo")), str(each.data.get("group_size"))
        if key not in known:
            known[key] = _scheme(each)
        found.update(dict.fromkeys(canonical(str(name)), known[key]))
    return found


def _scheme(keys: Keys) -> Scheme:
    usual, build = ALGORITHMS[keys.choice("quant_algo", tuple(ALGORITHMS))]
    if not usual:
        return build(0)
    group = keys.group("group_size", default=usual)
    if not group:
        raise keys.error("group_size", "must be a number of weights, not -1")
    return build(group)
