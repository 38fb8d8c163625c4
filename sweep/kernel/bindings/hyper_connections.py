"""Hyper-connections: residual streams from the embedding to the head, mixed in each layer."""

import dataclasses

from sweep.kernel.bindings.common import matrix, vector
from sweep.kernel.bindings.operator import Operator, Step, Tensor
from sweep.kernel.block import Block
from sweep.kernel.operators.collectives import pipeline_send
from sweep.kernel.operators.cost import Cost, Scalar
from sweep.kernel.operators.hyper_connection import (
    collapse,
    copy_to_streams,
    expand,
    mixing_weights,
)

SCALES = 3
"""One learned scale for each kind of mixing weight. [count]"""


def _collapsed(b: Block, s: Step, weights: Scalar, scales: int) -> Cost:
    found = collapse(
        s.tokens,
        b.hidden_size,
        streams=b.streams,
        weights=weights,
        element_bytes=s.precision.hidden,
    )
    vectors = (weights + scales) * s.precision.hidden
    return dataclasses.replace(found, weight_bytes=found.weight_bytes + vectors)


def _collapse_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return _collapsed(b, s, mixing_weights(b.streams), SCALES)


def _collapse_weights(b: Block) -> tuple[Tensor, ...]:
    weights = mixing_weights(b.streams)
    return (
        matrix("hidden", weights, b.streams * b.hidden_size, "copied"),
        vector(weights + SCALES),
    )


def _expand_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return expand(s.tokens, b.hidden_size, streams=b.streams, element_bytes=s.precision.hidden)


def _head_cost(b: Block, s: Step, _: Scalar) -> Cost:
    return _collapsed(b, s, b.streams, scales=1)


COLLAPSE = Operator(_collapse_cost, _collapse_weights)
EXPAND = Operator(_expand_cost)

HYPER_CONNECTIONS: dict[str, Operator] = {
    "copy_to_streams": Operator(
        lambda b, s, _: copy_to_streams(
            s.tokens, b.hidden_size, streams=b.streams, element_bytes=s.precision.hidden
        )
    ),
    "attention_collapse": COLLAPSE,
    "attention_expand": EXPAND,
    "ffn_collapse": COLLAPSE,
    "ffn_expand": EXPAND,
    "streams_send": Operator(
        lambda b, s, _: pipeline_send(
            s.tokens,
            b.streams * b.hidden_size,
            pp=s.layout.pp,
            tp=s.tp,
            span=s.layout.gpus,
            element_bytes=s.precision.hidden,
        ),
        exchanges=True,
    ),
    "final_collapse": Operator(
        _head_cost,
        lambda b: (
            matrix("hidden", b.streams, b.streams * b.hidden_size, "copied"),
            vector(b.streams + 1),
        ),
    ),
}
