"""Operators before the first layer and after the last: embedding, head and sampling."""

from sweep.kernel.bindings.common import OUTPUT_NORM, matrix, unquantised, vector
from sweep.kernel.bindings.operator import Operator, Step
from sweep.kernel.block import Block
from sweep.kernel.operators.collectives import pipeline_send
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.embedding import embedding, position_embedding
from sweep.kernel.operators.gemm import gemm
from sweep.kernel.operators.sampling import sampling


def _lm_head_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return gemm(
        s.sampled,
        b.embedding_size,
        b.vocab_size / s.tp,
        weight_bytes=b.untied * s.precision.head.weight + (1 - b.untied) * s.precision.hidden,
        input_bytes=s.precision.hidden,
        output_bytes=s.precision.hidden,
        bias=b.head_bias,
    )


ENDS: dict[str, Operator] = {
    "embedding": Operator(
        lambda b, s, _: embedding(
            s.tokens,
            b.embedding_size,
            weight_bytes=s.precision.hidden,
            output_bytes=s.precision.hidden,
        ),
        lambda b: (matrix("hidden", b.vocab_size, b.embedding_size),),
    ),
    "position_embedding": Operator(
        lambda b, s, _: position_embedding(
            s.tokens, b.hidden_size, element_bytes=s.precision.hidden
        ),
        lambda b: (matrix("hidden", b.positions, b.hidden_size, "copied"),),
    ),
    "embedding_projection": Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.embedding_size, b.hidden_size),
        lambda b: (matrix("hidden", b.embedding_size, b.hidden_size, "copied"),),
    ),
    "embedding_norm": OUTPUT_NORM,
    "pipeline_send": Operator(
        lambda b, s, _: pipeline_send(
            s.tokens,
            b.hidden_size,
            pp=s.layout.pp,
            tp=s.tp,
            span=s.layout.gpus,
            element_bytes=s.precision.hidden,
        ),
        exchanges=True,
    ),
    "final_norm": OUTPUT_NORM,
    "head_projection": Operator(
        lambda b, s, _: unquantised(s, s.sampled, b.hidden_size, b.embedding_size),
        lambda b: (matrix("hidden", b.hidden_size, b.embedding_size, "copied"),),
    ),
    "lm_head": Operator(
        _lm_head_cost,
        lambda b: (
            matrix("head", b.untied * b.vocab_size, b.embedding_size),
            vector(b.head_bias * b.vocab_size, "split"),
        ),
        role="head",
    ),
    "sampling": Operator(
        lambda b, s, _: sampling(s.sampled, b.vocab_size / s.tp, element_bytes=s.precision.hidden)
    ),
}
