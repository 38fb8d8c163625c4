"""A function of one cell, computed by NumPy: the same as compiled, to rounding errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import FP16, TOY, model, point
from jax import lax

from sweep.evaluation.numpy_cell import RULES, computed
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
    given = [values, values[::-1]][:count]
    with jax.enable_x64(True):
        wanted = function(*given)
        np.testing.assert_allclose(computed(function, *given), wanted, rtol=1e-14)


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
