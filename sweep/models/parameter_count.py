"""Parameters that a model keeps and uses, and bytes that it caches, from its sizes alone."""

from dataclasses import dataclass

from sweep.kernel.block import Block, layer_count, running
from sweep.kernel.operator_table import attentions, tensors
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
        layers: Transformer layers. [count]
    """

    parameters: int
    active_parameters: int
    stored_parameters: int
    kv_cache_bytes_per_token: int
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
        kv_cache_bytes_per_token=CACHE_BYTES * cached_elements_per_token(blocks),
        layers=layer_count(blocks),
    )


def cached_elements_per_token(blocks: tuple[Block, ...]) -> int:
    """Elements that one token adds to the KV cache of all layers. [count]"""
    return sum(
        int(block.count * attention.cached(block, 1))
        for block in blocks
        for attention in attentions(block)
    )
