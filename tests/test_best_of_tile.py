"""The best cell of a tile against a plain search, with values that are equal and cells left out."""

import jax.numpy as jnp
import numpy as np
import pytest

from sweep.evaluation.best_of_tile import Asked, best_cells, best_scores
from sweep.queries.where import Clause

AXES = ("hardware", "tp", "batch_size", "isl")
SIZES = (2, 3, 37, 50)


def asked(reduced: set[str], *, largest: bool, condition: Clause | None) -> Asked:
    return Asked(
        by="ttft",
        largest=largest,
        reduced=tuple(axis for axis in AXES if axis in reduced),
        kept=tuple(axis for axis in AXES if axis not in reduced),
        taken=("ttft", "tpot"),
        condition=condition,
        dims=(("ttft", AXES), ("tpot", AXES[1:])),
    )


@pytest.mark.parametrize(
    ("reduced", "largest"),
    [({"batch_size", "isl"}, False), ({"hardware", "batch_size"}, True), (set(AXES), False)],
)
@pytest.mark.parametrize("values", ["few", "all different"])
@pytest.mark.parametrize("limit", ["none", "mask", "condition"])
def test_it_is_the_first_of_the_best_that_are_allowed(
    reduced: set[str], largest: bool, values: str, limit: str
) -> None:
    random = np.random.default_rng(sum(map(ord, values + limit)))
    ttft = random.integers(0, 5, SIZES).astype(np.float32)
    if values == "all different":
        ttft = random.permutation(ttft.size).reshape(SIZES).astype(np.float32)
    tpot = random.integers(0, 2, SIZES[1:]).astype(np.float32)
    ttft[:, :, 3] = np.inf
    ttft[:, 1, :, 7] = np.nan
    ttft[1, 2] = np.inf
    allowed, masks, condition = np.isfinite(ttft), {}, None
    if limit == "mask":
        masks["isl"] = np.arange(50) % 3 == 1
        allowed &= masks["isl"]
    if limit == "condition":
        condition = Clause("tpot", ">", 0.5)
        allowed &= tpot > 0.5
    question = asked(reduced, largest=largest, condition=condition)
    variables = {"ttft": jnp.asarray(ttft), "tpot": jnp.asarray(tpot)}

    scores = best_scores(question, AXES, variables, masks)
    found = best_cells(question, AXES, variables, masks, scores)

    order = [AXES.index(axis) for axis in (*question.kept, *question.reduced)]
    shape = [SIZES[AXES.index(axis)] for axis in question.kept]
    by_cell = np.where(allowed, ttft if largest else -ttft, -np.inf)
    by_cell = by_cell.transpose(order).reshape(*shape, -1)
    exists = np.isfinite(by_cell).any(-1)
    wanted = by_cell.argmax(-1)
    assert np.array_equal(np.asarray(scores.best).reshape(shape), by_cell.max(-1))
    assert np.array_equal(np.asarray(found.position)[exists], wanted[exists])
    for name, array in (("ttft", ttft), ("tpot", np.broadcast_to(tpot, SIZES))):
        flat = array.transpose(order).reshape(*shape, -1)
        values_there = np.take_along_axis(flat, wanted[..., None], -1)[..., 0]
        assert np.array_equal(np.asarray(found.values[name])[exists], values_there[exists])
