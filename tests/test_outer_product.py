"""A function of one cell over the outer product of axes: the same as nested `jax.vmap`."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
        "rounds": _rounds(rate, share, vector),
        "several": jax.lax.fori_loop(0, 4, _several, (share, vector, fixed))[1],
        "scan": jax.lax.scan(lambda total, each: (total + each * share, total), rate, vector)[1],
        "mapped": jax.vmap(lambda element: element * share)(vector).sum(),
        "fixed": fixed + 1,
        "stack": jnp.stack([share, fixed, rate])[1:],
    }


def _rounds(rate: jax.Array, share: jax.Array, vector: jax.Array) -> jax.Array:
    """Doublings until a sum exceeds a limit, which takes each cell a time of its own."""

    def goes_on(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        return state[0] < 9 * rate

    def doubled(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return 2 * state[0], state[1] + vector

    total, sums = jax.lax.while_loop(goes_on, doubled, (share, jnp.zeros_like(vector)))
    return total + sums


def _several(_: int, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
    """A round in which what varies little comes to vary as what it is computed from does."""
    share, vector, fixed = state
    return share + 1, vector * share, fixed + vector.sum()


def arguments() -> list[jax.Array]:
    random = np.random.default_rng(0)
    return [jnp.asarray(random.uniform(0, 1, shape), jnp.float32) for shape in SHAPES]


@pytest.mark.slow
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
        **dict.fromkeys(("arithmetic", "choice", "vector", "sum"), (0, 1, 2)),
        **dict.fromkeys(("loop", "rounds", "scan", "stack"), (0, 1, 2)),
        **dict.fromkeys(("index", "mapped", "several"), (1, 2)),
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


def test_a_loop_is_mapped_as_a_whole() -> None:
    """Its operations are applied once too, whatever the number of axes."""

    def looped(x, y, z):
        return jax.lax.fori_loop(0, 5, lambda _, total: total * y + z, x)

    def applied(x, y, z):
        return outer_product(looped, (x, y, z), ((0,), (1,), (2,))).array

    sides = jnp.arange(2.0), jnp.arange(3.0), jnp.arange(4.0)
    (loop,) = [
        each for each in jax.make_jaxpr(applied)(*sides).eqns if each.primitive.name == "scan"
    ]
    inside = Counter(each.primitive.name for each in loop.params["jaxpr"].jaxpr.eqns)
    assert inside["mul"] == 1
    assert inside["broadcast_in_dim"] <= 3
    nested = jax.vmap(jax.vmap(jax.vmap(looped, (None, None, 0)), (None, 0, None)), (0, None, None))
    np.testing.assert_allclose(applied(*sides), nested(*sides), rtol=1e-6)


def test_a_spread_has_the_dimensions_of_its_axes_first() -> None:
    spread = outer_product(lambda x: x[::-1], (jnp.arange(6.0).reshape(2, 3),), ((1,),))
    assert isinstance(spread, Spread) and spread.axes == (1,)
    np.testing.assert_array_equal(spread.array, [[2, 1, 0], [5, 4, 3]])
