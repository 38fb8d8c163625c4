"""What a model's shape alone tells: how many parameters it keeps, uses and caches."""

from dataclasses import dataclass

from sweep.architecture import Block
from sweep.families import read_blocks
from sweep.specs import ModelSpec
from sweep.transformer import OPERATORS, tensors

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
    blocks = read_blocks(spec.config, spec.name)
    parameters = sum(count * tensor.elements for count, tensor in tensors(blocks))
    beyond = spec.published.beyond_decoder if spec.published else []
    return ModelFacts(
        parameters=parameters,
        active_parameters=sum(count * t.active_elements for count, t in tensors(blocks)),
        stored_parameters=parameters + sum(tensor.elements for tensor in beyond),
        kv_cache_bytes_per_token=CACHE_BYTES * cached_elements_per_token(blocks),
        layers=sum(int(block.count) for block in blocks if block.in_transformer),
    )


def cached_elements_per_token(blocks: tuple[Block, ...]) -> int:
    """Elements that one token adds to the KV cache of all layers. [count]"""
    return sum(
        2 * int(block.count) * int(block.kv_heads) * int(block.head_dim)
        for block in blocks
        if any(OPERATORS[name].grows for name in block.operators)
    )
