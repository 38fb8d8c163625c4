"""A function of one cell, computed by NumPy: the same as compiled, to rounding errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import FP16, TOY, model, point
from hypothesis import given
from hypothesis import strategies as st
from jax import lax
from jax.extend.core.primitives import lt_to_p

from sweep.evaluation.numpy_cell import Traced, computed
from sweep.evaluation.numpy_operations import RULES
from sweep.kernel.request import Request

NUMBERS = np.array([-2.5, -1.0, 0.0, 0.3, 1.0, 7.0, np.inf, np.nan])
FLAGS = np.array([True, True, False, False])


OTHER_NAMES = {"and": "bitwise_and", "not": "bitwise_not", "or": "bitwise_or"}
"""Names of operations whose function in `jax.lax` has another."""


@pytest.mark.parametrize("name", sorted(set(RULES) - {"add_any", "copy"}))
def test_an_operation_agrees_with_jax(name: str) -> None:
    function = getattr(lax, OTHER_NAMES.get(name, name))
    values = FLAGS if name in OTHER_NAMES else NUMBERS
    count = RULES[name].nin if isinstance(RULES[name], np.ufunc) else 1
    operands = [values, values[::-1]][:count]
    with jax.enable_x64(True):
        wanted = function(*operands)
        np.testing.assert_allclose(computed(function, *operands), wanted, rtol=1e-14)


def shapes(x, flag):
    """Choices, powers, conversions, indices, sums, loops and derivatives."""
    index = jnp.asarray(x[0] * 4, jnp.int32)
    grid = jnp.stack([x, x + 1, x * 2])
    return {
        "choice": jnp.where(flag, x, -x),
        "chosen": lax.select_n(index % 2, x, x + 5),
        "powers": [x**2, x**-3, x**0.7, 1 / x],
        "integers": [index // 2, index % 2, (x * 10).astype(jnp.int32)],
        "index": [x[index], x[-1], grid[:, 1], grid.T, lax.dynamic_slice(x, [index + 9], [2])],
        "sums": [grid.sum(0), grid.max(), grid.min(1), (grid > 1).any(), jnp.cumsum(x)],
        "split": jnp.split(x, [1, 3]),
        "joined": jnp.concatenate([x, x[1:]]),
        "loop": lax.fori_loop(0, 5, lambda i, total: total * x[0] + x[1], x[2]),
        "until": lax.while_loop(lambda v: v < 100, lambda v: v * 3 + x[0], x[1]),
        "scanned": lax.scan(lambda c, v: (c + v, c * v), x[0], x, reverse=True),
        "quotients": [lax.div(index - 3, index * 0 + 2), lax.rem(index - 3, index * 0 + 2)],
        "largest": [jnp.argmax(x), jnp.argmin(grid, axis=1)],
        "found": jnp.searchsorted(x, jnp.asarray([-1.0, 0.7, 0.8, 9.0])),
        "errors": [jax.scipy.special.erf(x), jax.scipy.special.erfc(-x), lax.lgamma(x)],
        "rounded": [jnp.round(x), jnp.tile(x, 2), jnp.tile(grid, (2, 1))],
        "slope": jax.jacfwd(lambda v: jnp.maximum(v, 0.4) ** 1.5 / (1 + v))(x),
    }


@pytest.mark.parametrize("flag", [True, False])
def test_shapes_and_loops_agree_with_jax(flag: bool) -> None:
    with jax.enable_x64(True):
        x = np.array([0.3, 0.7, 1.5, 2.5])
        jax.tree.map(
            lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-13),
            computed(shapes, x, flag),
            jax.jit(shapes)(x, flag),
        )


@pytest.mark.parametrize("mode", ["clip", "promise_in_bounds", "fill"])
@given(data=st.data())
def test_slices_at_indices_agree_with_jax(mode: str, data: st.DataObject) -> None:
    """Slices of an array of two axes, of one row of each of several, or of a batch."""
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    sizes = tuple(data.draw(st.integers(1, length)) for length in shape)
    value = np.arange(float(np.prod(shape))).reshape(shape)
    batched, collapsed = data.draw(st.booleans()), data.draw(st.booleans())
    if batched:
        sizes = (1, sizes[1])
        starts = data.draw(st.lists(st.integers(-2, 6), min_size=shape[0], max_size=shape[0]))
        index = np.asarray(starts)[:, None]
        how = lax.GatherDimensionNumbers((1,), (), (1,), (0,), (0,))
    else:
        sizes = (1 if collapsed else sizes[0], sizes[1])
        index = np.asarray(data.draw(st.tuples(st.integers(-2, 6), st.integers(-2, 6))))
        kept = (0,) if collapsed else (0, 1)
        how = lax.GatherDimensionNumbers(kept, (0,) if collapsed else (), (0, 1))
    if mode == "promise_in_bounds":
        index = np.clip(index, 0, np.subtract(shape, sizes)[-index.shape[-1] :])

    def gathered(value, index) -> jax.Array:
        return lax.gather(value, index, how, sizes, mode=mode, fill_value=-1)

    with jax.enable_x64(True):
        np.testing.assert_array_equal(computed(gathered, value, index), gathered(value, index))


def test_numbers_have_a_total_order() -> None:
    values = np.array([np.nan, np.inf, 1.0, 0.0, -0.0, -2.5, -np.inf])
    one, other = (each.ravel() for each in np.meshgrid(values, values))
    with jax.enable_x64(True):
        wanted = lt_to_p.bind(one, other)
        np.testing.assert_array_equal(computed(lt_to_p.bind, one, other), wanted)


def test_equal_operations_and_those_on_constants_run_once() -> None:
    def function(x):
        return jnp.exp(x) + jnp.exp(x) * jnp.sqrt(jnp.arange(3.0)).sum()

    names = [step.name for step in Traced(function, 1.0).program.steps]
    assert names.count("exp") == 1
    assert "sqrt" not in names


def test_loops_side_by_side_end_one_by_one() -> None:
    def halved(number):
        """A number that is halved until it is below 1, and how often."""

        def halve(state):
            value, count = state
            return value / 2, count + 1

        value, count = lax.while_loop(lambda state: state[0] >= 1, halve, (number, 0))
        return value, count

    found = computed(jax.vmap(halved), np.array([0.5, 8.0, 3.0]))
    np.testing.assert_array_equal(found[0], [0.5, 0.5, 0.75])
    np.testing.assert_array_equal(found[1], [0, 4, 2])


@pytest.mark.slow
@pytest.mark.parametrize("load", [{"concurrency": 8.0}, {"num_requests": 30.0, "concurrency": 8.0}])
def test_a_server_agrees_with_the_compiled_kernel(load: dict[str, float]) -> None:
    names = ("ttft", "tpot", "inflight_ttft_p99", "inflight_tpot", "inflight_power")

    def variables(where) -> list[jax.Array]:
        return [jnp.asarray(getattr(Request(where), name)) for name in names]

    with jax.enable_x64(True):
        where = point(model("llama"), TOY, FP16, isl=96, osl=40, tp=2, batch_size=8, **load)
        found, wanted = computed(variables, where), jax.jit(variables)(where)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(found[:2], wanted[:2], rtol=1e-13)
