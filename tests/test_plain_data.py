"""Programs as JSON: what is read equals what was written, and what is no plain data is refused."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from sweep.evaluation.plain_data import from_json, to_json

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside).map(tuple) | st.dictionaries(st.text(), inside),
)


@given(PLAIN)
def test_plain_values_come_back(value) -> None:
    assert from_json(to_json(value)) == value


@given(arrays(scalar_dtypes(), array_shapes(min_dims=0, min_side=0)))
def test_arrays_come_back_to_the_bit(array) -> None:
    found = from_json(to_json(array))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def test_parameters_of_operations_come_back() -> None:
    how = jax.lax.GatherDimensionNumbers((0,), (1,), (1,))
    given = (how, jax.lax.GatherScatterMode.CLIP, np.dtype("float32"), np.int64(3))
    assert from_json(to_json(given)) == given


@pytest.mark.parametrize("value", [object(), {1, 2}, [1], np.float64, jax.numpy.bfloat16(1)])
def test_what_is_no_plain_data_is_refused(value) -> None:
    with pytest.raises(TypeError, match="no plain data"):
        to_json((1, value))


@pytest.mark.parametrize("text", ["{", '{"named": "system", "parts": []}', '{"dtype": "O9"}', "{}"])
def test_a_text_of_something_else_is_an_error(text) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        from_json(text)
