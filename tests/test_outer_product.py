"""A function of one cell over the outer product of axes: the same as nested `jax.vmap`."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np

from sweep.evaluation.outer_product import Spread, outer_product

AXES = ((0, 2), (1,), (), (2,))
"""Axes of the four arguments of `cell`; none has a whole grid."""
SHAPES = ((2, 4), (3,), (), (4, 5))


def cell(rate, share, fixed, vector) -> dict[str, jax.Array]:
    """Arithmetic, choices, sums, an index, a loop, and a function that JAX maps itself."""
    chosen = jnp.where(share > 0.5, vector, rate)
    index = jnp.asarray(share * 4, jnp.int32)
    return {
        "arithmetic": fixed + rate * share / jnp.maximum(fixed, 0.1) ** share,
        "choice": jnp.where(rate > fixed, share, 2.0),
        "vector": chosen * share,
        "sum": chosen.sum() + vector.max(),
        "index": vector[index],
        "loop": jax.lax.fori_loop(0, 3, lambda _, total: total * share + fixed, rate),
        "mapped": jax.vmap(lambda element: element * share)(vector).sum(),
        "fixed": fixed + 1,
        "stack": jnp.stack([share, fixed, rate])[1:],
    }


def arguments() -> list[jax.Array]:
    random = np.random.default_rng(0)
    return [jnp.asarray(random.uniform(0, 1, shape), jnp.float32) for shape in SHAPES]


def test_results_are_those_of_nested_maps() -> None:
    given, nested = arguments(), cell
    for axis in (2, 1, 0):
        nested = jax.vmap(nested, [0 if axis in axes else None for axes in AXES])
    wanted = jax.jit(nested)(*given)
    found = outer_product(cell, given, AXES)
    for name, spread in found.items():
        lengths = [length if axis in spread.axes else 1 for axis, length in enumerate((2, 3, 4))]
        own = spread.array.shape[len(spread.axes) :]
        whole = np.broadcast_to(spread.array.reshape(*lengths, *own), wanted[name].shape)
        np.testing.assert_allclose(whole, wanted[name], rtol=1e-6, err_msg=name)


def test_results_have_the_axes_along_which_they_vary() -> None:
    found = outer_product(cell, arguments(), AXES)
    assert {name: spread.axes for name, spread in found.items()} == {
        **dict.fromkeys(("arithmetic", "choice", "vector", "sum", "loop", "stack"), (0, 1, 2)),
        **dict.fromkeys(("index", "mapped"), (1, 2)),
        "fixed": (),
    }


def test_equal_operations_are_applied_once_and_useless_ones_never() -> None:
    def repeated(x, y):
        jnp.exp(x)
        return x * y + (x * y) * 2.0 + x * y

    def applied(x, y):
        return outer_product(repeated, (x, y), ((0,), (1,))).array

    ones = jnp.ones(3), jnp.ones(2)
    counts = Counter(each.primitive.name for each in jax.make_jaxpr(applied)(*ones).eqns)
    assert counts == {"broadcast_in_dim": 2, "mul": 2, "add": 2}
    np.testing.assert_array_equal(applied(*ones), np.full((3, 2), 4.0))


def test_a_spread_has_the_dimensions_of_its_axes_first() -> None:
    spread = outer_product(lambda x: x[::-1], (jnp.arange(6.0).reshape(2, 3),), ((1,),))
    assert isinstance(spread, Spread) and spread.axes == (1,)
    np.testing.assert_array_equal(spread.array, [[2, 1, 0], [5, 4, 3]])
