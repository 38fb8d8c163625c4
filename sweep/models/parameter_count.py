"""Parameters that a model keeps and uses, and bytes that it caches, from its sizes alone."""

import math
from dataclasses import dataclass

from sweep.kernel.bindings.operator import Attention
from sweep.kernel.block import Block, layer_count, running
from sweep.kernel.operator_table import attentions, state_bytes, tensors
from sweep.models.read import read_model
from sweep.specs.model import ModelSpec

CACHE_BYTES = 2
"""Storage of one cached element in the figures below. [byte]"""


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of a model, exact.

    Attributes:
        parameters: Weights of the text decoder. [count]
        active_parameters: Those one token uses. [count]
        stored_parameters: The same and what else the published weights hold. [count]
        kv_cache_bytes_per_token: 16-bit KV cache of one token in all layers. [byte]
        state_bytes_per_sequence: State of fixed size that all layers keep of a sequence, with
            activations in 16 bits. [byte]
        layers: Transformer layers. [count]
    """

    parameters: int
    active_parameters: int
    stored_parameters: int
    kv_cache_bytes_per_token: int
    state_bytes_per_sequence: int
    layers: int


def model_facts(spec: ModelSpec) -> ModelFacts:
    """Count what `spec` describes.

    Raises:
        SpecError: Its family is not supported, or a key is missing or wrong.
    """
    blocks = read_model(spec)
    parameters = sum(int(block.count) * tensor.elements for block, tensor in tensors(blocks))
    active = sum(
        int(block.count) * tensor.active_elements for block, tensor in tensors(running(blocks))
    )
    beyond = spec.published.beyond_decoder if spec.published else []
    decoder = parameters
    if beyond and spec.mtp:
        decoder = model_facts(spec.model_copy(update={"mtp": False})).parameters
    return ModelFacts(
        parameters=parameters,
        active_parameters=active,
        stored_parameters=decoder + sum(tensor.elements for tensor in beyond),
        kv_cache_bytes_per_token=cached_bytes_per_token(blocks),
        state_bytes_per_sequence=state_bytes_per_sequence(blocks),
        layers=layer_count(blocks),
    )


def cached_bytes_per_token(blocks: tuple[Block, ...]) -> int:
    """Bytes that one token adds to a 16-bit KV cache of all layers, rounded up. [byte]

    An indexer's keys have a type of their own. A token adds its share of an entry that it shares
    with others; buffers of a fixed size are left out.
    """
    return math.ceil(
        sum(
            block.count * _cached_bytes(block, attention)
            for block in blocks
            for attention in attentions(block)
            if attention.span != "buffer"
        )
    )


def _cached_bytes(block: Block, attention: Attention) -> float:
    storage = attention.element_bytes or CACHE_BYTES
    tokens = attention.tokens_per_entry(block) if attention.tokens_per_entry else 1
    return float(attention.cached(block, 1) * storage / tokens)


def state_bytes_per_sequence(blocks: tuple[Block, ...]) -> int:
    """State that all layers keep of a sequence of any length, activations in 16 bits. [byte]"""
    return sum(int(block.count * state_bytes(block, 1, CACHE_BYTES)) for block in blocks)
