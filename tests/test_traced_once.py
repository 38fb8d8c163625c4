"""Parts of the kernel that are traced once for all arguments of one structure."""

import jax
import jax.numpy as jnp
import pytest

from sweep.kernel.traced_once import traced_once


def counted():
    """A formula, and the arguments it has been called with."""
    seen = []

    @traced_once
    def formula(pair, factor=1.0):
        seen.append(factor)
        first, second = pair
        return {
            "scaled": first if factor == 1.0 else first * factor,
            "constant": factor,
            "second": second,
        }

    return formula, seen


def test_a_formula_is_traced_once_and_its_numbers_stay_numbers() -> None:
    formula, seen = counted()

    def program(x):
        found = [formula((x + k, 0.0), 2.0) for k in range(3)]
        assert all((each["constant"], each["second"]) == (2.0, 0.0) for each in found)
        assert all(isinstance(each["constant"], float) for each in found)
        return sum(each["scaled"] for each in found)

    assert float(jax.jit(program)(1.0)) == pytest.approx(2 * (1 + 2 + 3))
    assert float(jax.jit(lambda x: program(x) + 1)(1.0)) == pytest.approx(13)
    assert seen == [2.0]


def test_another_number_is_another_structure() -> None:
    formula, seen = counted()

    def program(x):
        given = [formula((x, 0.0), factor)["scaled"] for factor in (2.0, 3.0, 1.0, 1, True)]
        return sum(given)

    assert float(jax.jit(program)(1.0)) == pytest.approx(8)
    assert [(type(each), each) for each in seen] == [
        *((float, 2.0), (float, 3.0), (float, 1.0), (int, 1), (bool, True))
    ]


def test_without_tracers_nothing_is_traced() -> None:
    formula, seen = counted()
    for _ in range(2):
        found = formula((jnp.ones(2), 5.0), 2.0)
        assert found["scaled"].tolist() == [2, 2]
    assert seen == [2.0, 2.0]


def test_it_is_mapped_and_differentiated() -> None:
    formula, _ = counted()
    slope = jax.grad(lambda x: formula((x, 0.0), 3.0)["scaled"])
    assert jax.vmap(slope)(jnp.arange(3.0)).tolist() == [3, 3, 3]
