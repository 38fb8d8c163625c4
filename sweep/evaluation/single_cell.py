"""Arguments of the kernel for one cell, outside any grid."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sweep.engines.calibration_file import Calibration
from sweep.evaluation.kernel_inputs import (
    coded,
    hardware_params,
    model_params,
    precision_params,
)
from sweep.kernel.block import Block
from sweep.kernel.factors import Factors
from sweep.kernel.params import Point
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import PrecisionSpec


def cell(
    blocks: tuple[Block, ...],
    hardware: HardwareSpec,
    precision: PrecisionSpec,
    numbers: Mapping[str, float | str],
    calibration: Calibration | None = None,
    *,
    draft: tuple[Block, ...] | None = None,
) -> Point:
    """One cell as the kernel reads it; inside `jax.enable_x64` its numbers are float64.

    The arguments are those of `bare_cell`.
    """
    bare = bare_cell(blocks, hardware, precision, numbers, calibration, draft=draft)
    point: Point = jax.tree.map(jnp.asarray, bare)
    return point


def bare_cell(
    blocks: tuple[Block, ...],
    hardware: HardwareSpec,
    precision: PrecisionSpec,
    numbers: Mapping[str, float | str],
    calibration: Calibration | None = None,
    *,
    draft: tuple[Block, ...] | None = None,
) -> Point:
    """One cell, specifications in arrays of NumPy, which take less time to make than those of JAX.

    Args:
        blocks: Blocks of the model.
        hardware: The accelerator.
        precision: The precision recipe.
        numbers: Values of other axes by name; the cell lacks all others.
        calibration: A calibration; ideal rooflines if not given.
        draft: Blocks of the model that drafts tokens; a layer of the model's kind if not given.
    """
    read = model_params(blocks, drafts="draft_tokens" in numbers, draft=draft)
    specified = read, hardware_params(hardware), precision_params(precision)
    known = {axis: float(coded([value], float)[0]) for axis, value in numbers.items()}
    values: dict[str, Any] = {axis: jnp.asarray(_leaf(value)) for axis, value in known.items()}
    point = Point(*jax.tree.map(_leaf, specified), **values)
    if calibration is None:
        return point
    found = calibration.grid([blocks], [hardware], [precision])
    factors = {name: jnp.asarray(_leaf(array.reshape(()))) for name, array in found.items()}
    return Point(**{**vars(point), "factors": Factors(**factors)})


def _leaf(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    kind = array.dtype if array.dtype == np.int32 else np.dtype(float)
    return array.astype(jax.dtypes.canonicalize_dtype(kind))
