"""From checked specifications to the pytrees that the kernel reads, single or stacked."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from numpy.typing import DTypeLike

from sweep.kernel.block import Block, layer_count, running
from sweep.kernel.draft import draft_of, whole_model
from sweep.kernel.operator_table import attentions, tensors
from sweep.kernel.params import SHARDING, STAGES, Hardware, Linear, Model, Precision
from sweep.schema.terms import PARTS, ROLES, SCHEDULERS
from sweep.specs.dtypes import DTYPE_BYTES, PEAK_DTYPES
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import LinearSpec, PrecisionSpec

T = TypeVar("T")


def hardware_params(spec: HardwareSpec) -> Hardware:
    """An accelerator as the kernel reads it; an unpublished figure does not limit."""
    peaks = spec.peaks
    return Hardware(
        peaks=np.array([peaks.get(dtype, 0.0) for dtype in PEAK_DTYPES]),
        vector_rate=_or(spec.vector_flops_per_s, np.inf),
        special_rate=_or(spec.special_function_ops_per_s, np.inf),
        memory=_or(spec.usable_memory_bytes, spec.memory_bytes),
        bandwidth=spec.memory_bandwidth_bytes_per_s,
        cache=_or(spec.on_chip_cache_bytes, np.inf),
        fabric_bandwidth=np.array([_or(rate, np.inf) for rate in spec.fabric_bandwidth]),
        fabric_latency=np.array(spec.fabric_latency),
        fabric_reach=np.array(spec.fabric_reach, float),
        power=_or(spec.tdp_w, np.nan),
        power_headroom=_power_headroom(spec),
    )


TYPICAL_POWER = 7.5e-13
"""Rated power for the dense rate in 16 bits of recent accelerators, between 4.4e-13 and 1.3e-12.
[J/FLOP]"""


def _power_headroom(spec: HardwareSpec) -> float:
    """Rated power for the rate in 16 bits relative to the typical one. [1]

    It is 1 for modules with a CPU, whose rated power includes that of the CPU.
    """
    rate = spec.peaks.get("half")
    if spec.tdp_w is None or not rate or spec.tdp_covers_cpu:
        return 1.0
    return spec.tdp_w / rate / TYPICAL_POWER


def precision_params(spec: PrecisionSpec) -> Precision:
    """A precision recipe as the kernel reads it."""
    return Precision(
        **{part: _linear(spec.part(part)) for part in PARTS},
        hidden=DTYPE_BYTES[spec.hidden_dtype],
        hidden_peak=np.array(PEAK_DTYPES.index(spec.compute_dtypes["hidden"]), np.int32),
        eight_bit_peak=np.array(PEAK_DTYPES.index("fp8"), np.int32),
        kv=DTYPE_BYTES[spec.kv_dtype],
    )


def _linear(spec: LinearSpec) -> Linear:
    return Linear(
        weight=spec.weight_bytes,
        activation=DTYPE_BYTES[spec.activation_dtype],
        group=float(spec.weight_group_size or 0),
        peak=np.array(PEAK_DTYPES.index(spec.compute_dtype), np.int32),
    )


def model_params(
    blocks: tuple[Block, ...], *, drafts: bool = False, draft: tuple[Block, ...] | None = None
) -> Model:
    """A model as the kernel reads it: blocks that run, and all elements by role and sharding.

    Args:
        blocks: Its blocks.
        drafts: Whether it may decode speculatively.
        draft: Blocks of the model that drafts for it; a layer of its own kind if not given.
    """
    elements = np.zeros((len(STAGES), len(ROLES), len(SHARDING)))
    layers = tuple(block for block in blocks if block.in_transformer)
    for block, tensor in tensors(blocks):
        stage = 1 if block.in_transformer else 2 * int(block is not blocks[0])
        index = stage, ROLES.index(tensor.role), SHARDING.index(tensor.sharding)
        elements[index] += int(block.count) * tensor.elements
    kept, active = np.zeros(len(PARTS)), np.zeros(len(PARTS))
    for block, tensor in tensors(running(layers)):
        if tensor.role in PARTS:
            kept[PARTS.index(tensor.role)] += int(block.count) * tensor.elements
            active[PARTS.index(tensor.role)] += int(block.count) * tensor.active_elements
    drafting = _draft_params(blocks, draft) if drafts else {}
    return Model(
        blocks=running(blocks),
        **drafting,
        elements=elements,
        layers=float(layer_count(blocks)),
        layer_parameters=kept,
        active_layer_parameters=active,
        uneven_kv_heads=len({block.kv_heads for block in layers if attentions(block)}) > 1,
    )


def _draft_params(blocks: tuple[Block, ...], draft: tuple[Block, ...] | None) -> dict[str, Any]:
    """Layers that draft, and the weights that they add to the model's."""
    layers, own = draft_of(blocks) if draft is None else (whole_model(draft), draft)
    elements = np.zeros((len(ROLES), len(SHARDING)))
    for block, tensor in tensors(own):
        index = ROLES.index(tensor.role), SHARDING.index(tensor.sharding)
        elements[index] += int(block.count) * tensor.elements
    return {"draft": layers, "draft_elements": elements}


def stack(trees: Sequence[T], dtype: DTypeLike) -> T:
    """Stack pytrees along a leading axis, counts and rates as floats of `dtype`."""

    def leaf(*values: Any) -> np.ndarray[Any, Any]:
        array = np.stack([np.asarray(value) for value in values])
        return array if array.dtype == np.int32 else array.astype(dtype)

    stacked: T = jax.tree.map(leaf, *trees)
    return stacked


def coded(values: Sequence[float | str], dtype: DTypeLike) -> np.ndarray[Any, Any]:
    """Values of an axis as numbers: a scheduler as its index in `terms.SCHEDULERS`."""
    return np.asarray(
        [SCHEDULERS.index(value) if isinstance(value, str) else value for value in values], dtype
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
