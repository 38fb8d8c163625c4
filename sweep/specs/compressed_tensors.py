"""Reads the `quantization_config` that compressed-tensors writes, and groups of that form."""

from sweep.specs.dtypes import StoredDtype
from sweep.specs.quantisation import Patterns, Quantisation, Rule, Scheme
from sweep.specs.quantisation_keys import Keys

SCALE = 2.0
"""Storage of a scale, in the 16 bits of the unquantised model. [byte]"""
SHAPE = 16.0
"""Storage of a packed matrix's shape: two integers. [byte]"""
STRATEGIES = ("tensor", "channel", "group", "block", "tensor_group")


def read_compressed_tensors(keys: Keys) -> Quantisation:
    """Read the groups of a config, each with its targets.

    Raises:
        SpecError: A key is missing or wrong, or weights are also sparse.
    """
    if keys.section("sparsity_config").data.get("format", "dense") != "dense":
        raise keys.error("sparsity_config", "sparse weights are not supported")
    rules = group_rules(keys, scale_bytes=SCALE)
    ignored = keys.patterns("ignore")
    return Quantisation("compressed-tensors", rules, ignored, head=True, kv=keys.kv())


def group_rules(keys: Keys, scale_bytes: float) -> list[Rule]:
    """Read `config_groups`: for each the scheme and the modules that it is for.

    Args:
        keys: The config.
        scale_bytes: Storage of a scale whose type the format does not fix. [byte]
    """
    groups = keys.section("config_groups")
    if not groups.data:
        raise keys.error("config_groups", "missing")
    named, general = [], []
    for name in groups.data:
        group = groups.section(name)
        targets = group.names("targets")
        packing = str(group.data.get("format") or keys.data.get("format") or "")
        scheme = None
        if group.data.get("weights") is not None:
            scheme = _scheme(group, scale_bytes, packed=packing == "pack-quantized")
        if not targets or "Linear" in targets:
            general.append(Rule(scheme))
        else:
            named.append(Rule(scheme, Patterns(targets, group.where)))
    return [*named, *general]


def _scheme(group: Keys, scale_bytes: float, *, packed: bool) -> Scheme:
    weights, inputs = group.section("weights"), group.section("input_activations")
    kind = weights.choice("type", ("int", "float"), default="int")
    bits = weights.choice("num_bits", (4, 8) if kind == "float" else (2, 3, 4, 8))
    size = weights.group("group_size", default=-1)
    strategy = weights.choice("strategy", STRATEGIES, default="group" if size else "tensor")
    if strategy == "tensor_group":
        strategy = "group"
    if strategy == "group" and not size:
        raise weights.error("group_size", "missing, and strategy says group")
    activation = _activation(inputs, kind, bits)
    static = bool(inputs.data) and inputs.data.get("dynamic") is False
    scalars = scale_bytes if static else 0.0
    if kind == "float" and bits == 4:
        return _four_bit_floats(weights, size, activation)
    dtype: StoredDtype = "fp8" if kind == "float" else "int8" if bits == 8 else "int4"
    label = dtype if dtype == "fp8" else f"int{bits}"
    zero = 0.0 if kind == "float" or weights.flag("symmetric", True) else bits / 8
    scalars += SHAPE if packed else 0.0
    each = scale_bytes + zero
    if strategy == "block":
        rows, columns = weights.block("block_structure")
        if not rows:
            raise weights.error("block_structure", "missing, and strategy says block")
        label += f", blocks of {rows} x {columns}"
        return Scheme(label, dtype, bits, activation, columns, rows, each, matrix_bytes=scalars)
    if strategy == "group":
        label += f", group {size}"
        return Scheme(label, dtype, bits, activation, size, 1, each, matrix_bytes=scalars)
    if strategy == "channel":
        label += " by row"
        return Scheme(label, dtype, bits, activation, row_bytes=each, matrix_bytes=scalars)
    return Scheme(label, dtype, bits, activation, matrix_bytes=each + scalars)


def _four_bit_floats(weights: Keys, size: int, activation: StoredDtype) -> Scheme:
    if size == 32:
        return Scheme("mxfp4", "mxfp4", 4, activation, 32, 1, 1.0)
    if size == 16:
        scalars = 4.0 if activation == "half" else 8.0
        return Scheme("nvfp4", "nvfp4", 4, activation, 16, 1, 1.0, matrix_bytes=scalars)
    raise weights.error("group_size", f"of 4-bit floats must be 16 or 32, not {size or -1}")


def _activation(inputs: Keys, kind: str, weight_bits: int) -> StoredDtype:
    """Type of the inputs of a matrix: 16 bits if none is stated."""
    if not inputs.data:
        return "half"
    found = inputs.choice("type", ("int", "float"), default=kind)
    bits = inputs.choice("num_bits", (4, 8, 16), default=weight_bits)
    if bits == 16:
        return "half"
    if bits == 4:
        if found == "int":
            raise inputs.error("num_bits", "4-bit integers are not supported")
        return "mxfp4" if inputs.group("group_size", default=16) == 32 else "nvfp4"
    return "fp8" if found == "float" else "int8"
