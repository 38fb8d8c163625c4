"""Arguments of the kernel for one cell, outside any grid."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec

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

Arguments = ParamSpec("Arguments")


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


def _in_jax(make: Callable[Arguments, Point]) -> Callable[Arguments, Point]:
    """A function of the same arguments whose result has arrays of JAX alone."""

    @wraps(make)
    def made(*arguments: Arguments.args, **named: Arguments.kwargs) -> Point:
        point: Point = jax.tree.map(jnp.asarray, make(*arguments, **named))
        return point

    return made


cell = _in_jax(bare_cell)
"""One cell as the kernel reads it; inside `jax.enable_x64` its numbers are float64."""


def _leaf(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    kind = array.dtype if array.dtype == np.int32 else np.dtype(float)
    return array.astype(jax.dtypes.canonicalize_dtype(kind))
