"""Cells of a computed tile, and the constraints on them, inside a compiled function."""

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import and_, or_
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sweep.evaluation.vmapped_kernel import Over
from sweep.queries.where import COMPARISONS, Clause, Clauses

Arrays = Mapping[str, jax.Array]
Masks = Mapping[str, np.ndarray[Any, Any]]
"""By axis, whether each index may be chosen; by clause on an axis, whether each satisfies it."""
Slices = Mapping[str, slice]
"""A slice of some axes; the others are whole."""
Condition = Clause | Clauses | None
"""Constraints on variables and labels; none if there are none."""


class Cells:
    """Variables of a tile, which broadcast against one another over its axes."""

    def __init__(self, axes: tuple[str, ...], dims: Over, variables: Arrays) -> None:
        """Find the lengths of the axes.

        Args:
            axes: Axes of the cells, in the order of the dimensions of the variables.
            dims: Dimensions of each variable.
            variables: The variables.
        """
        self.axes, self.dims, self.variables = axes, dict(dims), variables
        lengths = {
            axis: length
            for name, array in variables.items()
            for axis, length in zip(self.dims[name], array.shape, strict=True)
        }
        self.sizes = {axis: lengths[axis] for axis in axes}

    def lengths(self, slices: Slices) -> list[int]:
        """Length of each axis of a slice. [count]"""
        return [len(range(*slices.get(a, slice(None)).indices(n))) for a, n in self.sizes.items()]

    def along(self, axis: str, values: Any) -> Any:
        """An array along one axis, to broadcast against variables."""
        return values.reshape([-1 if other == axis else 1 for other in self.axes])

    def over(self, name: str, slices: Slices) -> jax.Array:
        """A variable over a slice, to broadcast against others."""
        dims = self.dims[name]
        array = self.variables[name][tuple(slices.get(dim, slice(None)) for dim in dims)]
        lengths = dict(zip(dims, array.shape, strict=True))
        return array.reshape([lengths.get(axis, 1) for axis in self.axes])

    def allowed(
        self, slices: Slices, finite: Iterable[str], condition: Condition, within: Masks
    ) -> jax.Array:
        """Whether cells of a slice have these finite variables and satisfy the constraints."""
        allowed: Any = True
        for name in finite:
            allowed &= jnp.isfinite(self.over(name, slices))
        for axis in self.axes:
            if axis in within:
                allowed &= self._indices(axis, within[axis], slices)
        if condition is not None:
            allowed &= self._satisfy(condition, slices, within)
        found: jax.Array = allowed
        return found

    def _indices(self, axis: str, mask: Any, slices: Slices) -> Any:
        return self.along(axis, mask[slices.get(axis, slice(None))])

    def _satisfy(self, condition: Clause | Clauses, slices: Slices, within: Masks) -> Any:
        """Mask of the cells of a slice that satisfy constraints."""
        if isinstance(condition, Clauses):
            parts = [self._satisfy(part, slices, within) for part in condition.parts]
            return reduce(and_ if condition.word == "and" else or_, parts)
        name, sign, value = condition.name, condition.sign, condition.value
        if name not in self.dims:
            return self._indices(name, within[key_of(condition)], slices)
        array = self.over(name, slices)
        if not jnp.isdtype(array.dtype, "real floating"):
            # Flags are small integers, which every type of the results holds exactly.
            array = array.astype(jnp.float32)
        holds = COMPARISONS[sign](array, float(value))
        return holds & ~jnp.isnan(array) if sign == "!=" else holds


def key_of(clause: Clause) -> str:
    """Name of the mask of a comparison of labels."""
    return f"{clause.name} {clause.sign} {clause.value}"
