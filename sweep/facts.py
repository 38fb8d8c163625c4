"""What a model's shape alone tells: how many parameters it keeps, uses and caches."""

from dataclasses import dataclass
from typing import Any

from sweep.architecture import Block
from sweep.catalog import Catalog
from sweep.families import FAMILIES, read_blocks
from sweep.specs import ModelSpec
from sweep.transformer import attentions, tensors

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
    blocks = read_blocks(spec.config, spec.where)
    parameters = sum(int(block.count) * tensor.elements for block, tensor in tensors(blocks))
    active = sum(int(block.count) * tensor.active_elements for block, tensor in tensors(blocks))
    beyond = spec.published.beyond_decoder if spec.published else []
    return ModelFacts(
        parameters=parameters,
        active_parameters=active,
        stored_parameters=parameters + sum(tensor.elements for tensor in beyond),
        kv_cache_bytes_per_token=CACHE_BYTES * cached_elements_per_token(blocks),
        layers=sum(int(block.count) for block in blocks if block.in_transformer),
    )


def cached_elements_per_token(blocks: tuple[Block, ...]) -> int:
    """Elements that one token adds to the KV cache of all layers. [count]"""
    return sum(
        int(block.count * attention.cached(block, 1))
        for block in blocks
        for attention in attentions(block)
    )


def model_rows(catalog: Catalog) -> list[dict[str, Any]]:
    """One row per model; one of a family not supported yet says so."""
    rows = []
    for name in catalog.paths("models"):
        spec = catalog.model(name)
        supported = spec.family in FAMILIES
        facts = model_facts(spec) if supported else None
        rows.append(
            {
                "name": name,
                "family": spec.family,
                "parameters": facts.parameters if facts else None,
                "active_parameters": facts.active_parameters if facts else None,
                "supported": "yes" if supported else "not yet",
            }
        )
    return rows


def model_summary(spec: ModelSpec) -> dict[str, Any]:
    """What a model's config tells, in SI units.

    Raises:
        SpecError: Its family is not supported, or a key is missing or wrong.
    """
    facts = model_facts(spec)
    summary: dict[str, Any] = {
        "name": spec.name,
        "family": spec.family,
        "layers": facts.layers,
        "parameters": facts.parameters,
        "active_parameters": facts.active_parameters,
        "weight_bytes_16_bit": 2 * facts.parameters,
        "kv_cache_bytes_per_token": facts.kv_cache_bytes_per_token,
    }
    if spec.published is not None:
        summary |= {
            "published_parameters": spec.published.parameters,
            "published_kind": spec.published.kind,
            "parameters_with_all_stored_tensors": facts.stored_parameters,
        }
    if spec.note:
        summary["note"] = spec.note
    return summary | {f"{key}_source": text for key, text in spec.sources.items()}
