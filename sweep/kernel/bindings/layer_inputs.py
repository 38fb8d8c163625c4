"""Embeddings that each layer has of its own, and the way from them into the residual stream.

One table holds the rows of all layers side by side. It is split over a tensor-parallel group; the
small projections are copied and stay in the type of the residual stream.
"""

import jax.numpy as jnp

from sweep.kernel.bindings.common import OUTPUT_NORM, matrix, unquantised, vector
from sweep.kernel.bindings.operator import Operator, Step
from sweep.kernel.block import Block
from sweep.kernel.operators.activation import activation
from sweep.kernel.operators.collectives import pipeline_send
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.embedding import embedding
from sweep.kernel.operators.norm import norm
from sweep.kernel.operators.residual import residual


def _model_norm_cost(b: Block, s: Step, _: Scalar) -> Cost:
    hidden = s.precision.hidden
    rows = s.tokens * b.inputs_width / b.input_size
    return norm(rows, b.input_size, vectors=1, input_bytes=hidden, output_bytes=hidden)


def _streams_beside(b: Block) -> Scalar:
    """Streams that get a layer's embedding: all but the active one, or the only one. [count]"""
    return jnp.maximum(b.streams - 1.0, 1.0)


def _send_cost(b: Block, s: Step, _: Scalar) -> Cost:
    """Cost of passing all streams, and the embeddings of the later layers, to the next stage."""
    return pipeline_send(
        s.tokens,
        jnp.maximum(b.streams, 1.0) * b.hidden_size + b.inputs_width,
        pp=s.layout.pp,
        tp=s.tp,
        span=s.layout.gpus,
        element_bytes=s.precision.hidden,
    )


LAYER_INPUTS: dict[str, Operator] = {
    "layer_embedding": Operator(
        lambda b, s, _: embedding(
            s.tokens,
            b.inputs_width,
            weight_bytes=s.precision.hidden,
            output_bytes=s.precision.hidden,
        ),
        lambda b: (matrix("hidden", b.input_rows, b.inputs_width),),
    ),
    "layer_inputs_projection": Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.hidden_size, b.inputs_width),
        lambda b: (matrix("hidden", b.inputs_width, b.hidden_size, "copied"),),
    ),
    "layer_inputs_norm": Operator(_model_norm_cost, lambda b: (vector(b.input_size),)),
    "layer_inputs_sum": Operator(
        lambda b, s, _: residual(s.tokens, b.inputs_width, element_bytes=s.precision.hidden)
    ),
    "layer_input_gate": Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.hidden_size, b.input_size),
        lambda b: (matrix("hidden", b.input_size, b.hidden_size, "copied"),),
    ),
    "layer_input_activation": Operator(
        lambda b, s, _: activation(
            s.tokens,
            b.input_size,
            gated=True,
            input_bytes=s.precision.hidden,
            output_bytes=s.precision.hidden,
        )
    ),
    "layer_input_projection": Operator(
        lambda b, s, _: unquantised(s, s.tokens, b.input_size, b.hidden_size),
        lambda b: (matrix("hidden", b.hidden_size, b.input_size, "copied"),),
    ),
    "layer_input_norm": OUTPUT_NORM,
    "layer_input_residual": Operator(
        lambda b, s, _: residual(
            s.tokens, _streams_beside(b) * b.hidden_size, element_bytes=s.precision.hidden
        )
    ),
    "streams_send": Operator(_send_cost, exchanges=True),
}
