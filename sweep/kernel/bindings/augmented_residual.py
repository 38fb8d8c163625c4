"""Parts that Gemma 3n adds to the residual stream: alternating updates and a low-rank residual.

All GPUs of a tensor-parallel group keep copies of these weights, which stay in the type of the
residual stream.
"""

from sweep.kernel.bindings.common import OUTPUT_NORM, RESIDUAL, matrix, unquantised, vector
from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.augmented_residual import altup_correct, altup_predict
from sweep.kernel.operators.cost import Cost, Scalar


def _predict_weights(b: Block) -> tuple[Tensor, ...]:
    n = b.streams
    return (
        vector(b.hidden_size),
        matrix("hidden", n, b.hidden_size, "copied"),
        matrix("hidden", n * n, n, "copied"),
    )


def _correct_weights(b: Block) -> tuple[Tensor, ...]:
    """Weights that a prediction does not read too."""
    return vector(b.hidden_size), matrix("hidden", b.streams, b.streams, "copied")


def _projections_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return unquantised(s, s.tokens, b.hidden_size, (b.streams - 1) * b.hidden_size)


def _projections_weights(b: Block) -> tuple[Tensor, ...]:
    return (matrix("hidden", (b.streams - 1) * b.hidden_size, b.hidden_size, "copied"),)


AUGMENTED_RESIDUAL: dict[str, Operator] = {
    "stream_projections": Operator(_projections_cost, _projections_weights),
    "stream_merge_projections": Operator(_projections_cost, _projections_weights),
    "altup_predict": Operator(
        lambda b, s, _: altup_predict(
            s.tokens, b.hidden_size, b.streams, element_bytes=s.precision.hidden
        ),
        _predict_weights,
    ),
    "altup_correct": Operator(
        lambda b, s, _: altup_correct(
            s.tokens, b.hidden_size, b.streams, element_bytes=s.precision.hidden
        ),
        _correct_weights,
    ),
    "laurel_down_projection": Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.hidden_size, b.laurel_rank),
        lambda b: (matrix("hidden", b.laurel_rank, b.hidden_size, "copied"),),
    ),
    "laurel_up_projection": Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.laurel_rank, b.hidden_size),
        lambda b: (matrix("hidden", b.hidden_size, b.laurel_rank, "copied"),),
    ),
    "laurel_norm": OUTPUT_NORM,
    "laurel_residual": RESIDUAL,
    "laurel_sum": RESIDUAL,
}
