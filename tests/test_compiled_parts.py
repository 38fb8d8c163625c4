"""A function that is compiled in parts: the same results, and nothing repeated between parts."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from sweep.evaluation.compiled_parts import PART, _cuts, in_parts

MANY = 3 * PART


def chain(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """Far more operations than a part has; a loop, a result that is given, and a number."""
    early = value = x
    for step in range(MANY // 2):
        value = value * 0.5 + y * step
        early = value if step == 10 else early

    def several(_: int, total: jax.Array) -> jax.Array:
        for _ in range(PART):
            total = total * 0.5 + early
        return total

    looped = jax.lax.fori_loop(0, 3, several, value)
    return {"early": early, "late": value, "given": y, "number": jnp.ones(()), "loop": looped}


def test_results_are_those_of_the_whole_function() -> None:
    x, y = jnp.linspace(1.0, 2.0, 5), jnp.linspace(0.5, 1.0, 5)
    wanted, found = jax.jit(chain)(x, y), jax.jit(in_parts(chain))(x, y)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


def test_arguments_and_results_keep_their_structure() -> None:
    nested = in_parts(lambda pair: {"sum": [pair[0]["a"] + pair[1]], "same": pair[1]})
    found = nested(({"a": jnp.asarray(1.0)}, jnp.asarray(2.0)))
    assert found == {"sum": [3.0], "same": 2.0}


def test_the_compiler_sees_parts() -> None:
    """The program that XLA has made calls them, and those of the loop."""
    x = jnp.ones(5)

    def calls(function) -> int:
        compiled = jax.jit(function).lower(x, x).compile().as_text()
        return len(re.findall(r"\bcall\(", compiled))

    assert calls(in_parts(chain)) >= calls(chain) + 5


def test_parts_end_where_the_fewest_numbers_are_handed_on() -> None:
    """After a sum of 1,000 numbers: 150 operations on these, and as many on their sum."""

    def narrow(x: jax.Array) -> jax.Array:
        for _ in range(75):
            x = jnp.sin(jnp.cos(x))
        total = x.sum()
        for _ in range(75):
            total = jnp.sin(jnp.cos(total))
        return total

    traced = jax.make_jaxpr(narrow)(jnp.ones(1000)).jaxpr
    assert PART == 200
    assert _cuts(traced.eqns, traced.outvars)[1] == 151


def test_a_function_smaller_than_a_part_is_one() -> None:
    lowered = jax.jit(in_parts(lambda x: x + 1)).lower(1.0).as_text()
    assert lowered.count("call @") == 1
