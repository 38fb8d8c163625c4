"""Operations of JAX's traces by NumPy, whose results differ from compiled ones by rounding errors.

A rule takes operands and the parameters of the operation. It returns `None` where NumPy has no
counterpart, and JAX has to compute.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax

Array = np.ndarray[Any, Any]
Rule = Callable[..., Any]

RULES: dict[str, Rule] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "ceil": np.ceil,
    "copy": np.copy,
    "eq": np.equal,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "is_finite": np.isfinite,
    "le": np.less_equal,
    "log": np.log,
    "log1p": np.log1p,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "sign": np.sign,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
}
"""Functions of NumPy without parameters, by the name of the operation."""


def _divide(operands: Sequence[Any], _: Any) -> Any:
    """A quotient; of integers it is rounded towards 0."""
    one, other = operands
    if one.dtype.kind == "f":
        return np.divide(one, other)
    if one.dtype.kind not in "iu" or not np.all(other):
        return None
    quotient, remainder = np.divmod(one, other)
    return quotient + ((remainder != 0) & ((one < 0) != (other < 0)))


def _remainder(operands: Sequence[Any], _: Any) -> Any:
    """A remainder with the sign of the dividend."""
    one, other = operands
    return None if one.dtype.kind != "f" and not np.all(other) else np.fmod(one, other)


def _power(operands: Sequence[Any], _: Any) -> Any:
    floats = all(each.dtype.kind == "f" for each in operands)
    return np.power(*operands) if floats else None


def _integer_power(operands: Sequence[Any], parameters: Any) -> Any:
    (base,), exponent = operands, parameters["y"]
    product = np.ones_like(base)
    for _ in range(abs(exponent)):
        product = product * base
    return 1 / product if exponent < 0 else product


def _round(operands: Sequence[Any], parameters: Any) -> Any:
    to_even = parameters["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN
    return np.rint(operands[0]) if to_even else None


def _each(function: Callable[[float], float]) -> Rule:
    """A function of numbers applied to each element; JAX computes where it has no value."""

    def applied(operands: Sequence[Any], _: Any) -> Any:
        (value,) = operands
        try:
            found = [function(each) for each in np.ravel(value).tolist()]
        except (OverflowError, ValueError):
            return None
        return np.reshape(np.asarray(found, value.dtype), np.shape(value))

    return applied


def _before(operands: Sequence[Any], _: Any) -> Any:
    """Comparison in the total order of numbers: −0 before 0, and NaN after all others."""
    keys = []
    for value in operands:
        if value.dtype.kind == "f":
            bits = np.asarray(value).view(f"i{value.dtype.itemsize}")
            value = np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)
        keys.append(value)
    return np.less(*keys)


def _convert(operands: Sequence[Any], parameters: Any) -> Any:
    """NumPy does not say which integer an infinity or NaN becomes, so JAX converts those."""
    (value,), dtype = operands, np.dtype(parameters["new_dtype"])
    if value.dtype.kind == "f" and dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        # The largest integers have no float of their own.
        if not np.all((value >= bounds.min) & (value < float(bounds.max))):
            return None
    return value.astype(dtype)


def _select(operands: Sequence[Any], _: Any) -> Any:
    which, *cases = operands
    return np.where(which, cases[1], cases[0]) if which.dtype == bool else np.choose(which, cases)


def _broadcast(operands: Sequence[Any], parameters: Any) -> Any:
    (value, *_), shape = operands, parameters["shape"]
    lengths = [1] * len(shape)
    for own, axis in enumerate(parameters["broadcast_dimensions"]):
        lengths[axis] = np.shape(value)[own]
    return np.broadcast_to(np.reshape(value, lengths), shape)


def _iota(_: Sequence[Any], parameters: Any) -> Any:
    shape, along = parameters["shape"], parameters["dimension"]
    numbers = np.arange(shape[along], dtype=parameters["dtype"])
    return np.broadcast_to(_along(numbers, along, len(shape)), shape)


def _along(numbers: Array, axis: int, count: int) -> Array:
    """A vector along one of `count` axes."""
    return numbers.reshape([-1 if dim == axis else 1 for dim in range(count)])


def _slice(operands: Sequence[Any], parameters: Any) -> Any:
    starts, limits = parameters["start_indices"], parameters["limit_indices"]
    strides = parameters["strides"] or [1] * len(starts)
    return operands[0][tuple(map(slice, starts, limits, strides))]


def _dynamic_slice(operands: Sequence[Any], parameters: Any) -> Any:
    value, *starts = operands
    sizes = parameters["slice_sizes"]
    clamped = [
        min(max(int(start), 0), length - size)
        for start, length, size in zip(starts, value.shape, sizes, strict=True)
    ]
    return value[tuple(slice(at, at + size) for at, size in zip(clamped, sizes, strict=True))]


def _gather(operands: Sequence[Any], parameters: Any) -> Any:
    """Slices that start at indices, as defined by `jax.lax.gather`; JAX fills those outside."""
    value, starts = operands
    how, sizes = parameters["dimension_numbers"], parameters["slice_sizes"]
    count = starts.ndim - 1 + len(how.offset_dims)
    batches = [dim for dim in range(count) if dim not in how.offset_dims]
    beside = (*how.collapsed_slice_dims, *how.operand_batching_dims)
    kept = iter(how.offset_dims)
    index: list[Array] = []
    for axis, (length, size) in enumerate(zip(value.shape, sizes, strict=True)):
        at = np.zeros([1] * count, np.int64)
        if axis in how.start_index_map:
            start = starts[..., how.start_index_map.index(axis)]
            clamped = np.clip(start, 0, length - size)
            fills = parameters["mode"] == lax.GatherScatterMode.FILL_OR_DROP
            if fills and not np.array_equal(start, clamped):
                return None
            at = np.expand_dims(clamped, tuple(how.offset_dims))
        elif axis in how.operand_batching_dims:
            number = how.operand_batching_dims.index(axis)
            batch = batches[how.start_indices_batching_dims[number]]
            at = _along(np.arange(length), batch, count)
        if axis not in beside:
            at = at + _along(np.arange(size), next(kept), count)
        index.append(at)
    shape = np.empty([1] * count), *index
    return value[tuple(np.broadcast_arrays(*shape)[1:])]


def _reduced(function: Callable[..., Any]) -> Rule:
    return lambda operands, parameters: function(operands[0], axis=tuple(parameters["axes"]))


def _first_of(function: Callable[..., Any]) -> Rule:
    def found(operands: Sequence[Any], parameters: Any) -> Any:
        (axis,) = parameters["axes"]
        return function(operands[0], axis=axis).astype(parameters["index_dtype"])

    return found


SHAPED: dict[str, Rule] = {
    "argmax": _first_of(np.argmax),
    "argmin": _first_of(np.argmin),
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda operands, p: np.concatenate(operands, axis=p["dimension"]),
    "convert_element_type": _convert,
    "div": _divide,
    "dynamic_slice": _dynamic_slice,
    "erf": _each(math.erf),
    "erfc": _each(math.erfc),
    "gather": _gather,
    "integer_pow": _integer_power,
    "iota": _iota,
    "lgamma": _each(math.lgamma),
    "lt_to": _before,
    "pow": _power,
    "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min),
    "reduce_or": _reduced(np.bitwise_or.reduce),
    "reduce_sum": _reduced(np.sum),
    "rem": _remainder,
    "reshape": lambda operands, p: np.reshape(operands[0], p["new_sizes"]),
    "round": _round,
    "select_n": _select,
    "slice": _slice,
    "stack": lambda operands, p: np.stack(operands, axis=p["axis"]),
    "split": lambda operands, p: np.split(operands[0], np.cumsum(p["sizes"])[:-1], p["axis"]),
    "squeeze": lambda operands, p: np.squeeze(operands[0], axis=tuple(p["dimensions"])),
    "tile": lambda operands, p: np.tile(operands[0], p["reps"]),
    "transpose": lambda operands, p: np.transpose(operands[0], p["permutation"]),
}
"""Functions of operands and parameters."""
