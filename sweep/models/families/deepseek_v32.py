"""DeepSeek-V3.2 and GLM-5: an indexer selects the latents that a token attends to.

Layers and weights are those of `DeepseekV32ForCausalLM` and `GlmMoeDsaForCausalLM` of Hugging Face
Transformers.
"""

import dataclasses
from typing import Any

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.decoder import each, read_decoder
from sweep.models.layers import before, replaced
from sweep.models.traits import Experts, Switch, Traits

TRAITS = Traits(
    latent=True, experts=Experts(shared=True, shared_count=1, router_bias=Switch(on=True))
)
INDEXER = (
    "index_query_projection",
    "index_key_projection",
    "index_key_norm",
    "index_weight_projection",
    "index_rotary",
    "index_cache_append",
    "index_scores",
    "index_selection",
)
KINDS = ("indexed_attention", "deepseek_sparse_attention")
"""Names of the only kind of attention that these families have."""
OFFSET = 2
"""Layers before the first that may share a selection, where no key says. [count]"""


def read_deepseek_v32(config: Config) -> tuple[Block, ...]:
    """Read DeepSeek-V3.2, all of whose layers have an indexer.

    Raises:
        SpecError: A key is missing or malformed.
    """
    layers = config.size("layers")
    return _read(config, [True] * layers)


def read_glm_moe_dsa(config: Config) -> tuple[Block, ...]:
    """Read GLM-5, some of whose layers may use the selection of a layer before them [1].

    Raises:
        SpecError: A key is missing or malformed.

    References:
        [1] Bai et al., "IndexCache", arXiv 2603.12201, 2026.
    """
    return _read(config, _has_indexer(config, config.size("layers")))


def _read(config: Config, indexed: list[bool]) -> tuple[Block, ...]:
    config.passes_over("indexer_rope_interleave", "rope_interleave")
    if config.size("moe_layer_freq", default=1) != 1:
        raise config.error("moe_layer_freq", "must be 1, as in the published code")
    _check_kinds(config, len(indexed))
    sizes: dict[str, Any] = {
        "index_heads": config.size("index_n_heads"),
        "index_dim": config.size("index_head_dim"),
        "selected": config.size("index_topk"),
    }
    if config.get("q_lora_rank") is None:
        raise config.error("q_lora_rank", "missing; the indexer's queries are projected from it")
    if sizes["index_dim"] < config.size("qk_rope_head_dim"):
        raise config.error("index_head_dim", "must not be below qk_rope_head_dim")

    def change(number: int, layer: Block) -> Block:
        operators = _select(layer.operators, full=indexed[number])
        used: dict[str, Any] = sizes if indexed[number] else {"selected": sizes["selected"]}
        return dataclasses.replace(layer, operators=operators, **used)

    return read_decoder(config, TRAITS, each(change))


def _check_kinds(config: Config, layers: int) -> None:
    kinds = config.per_layer("layer_types", layers)
    if kinds is None:
        return
    if any(kind not in KINDS for kind in kinds):
        raise config.error("layer_types", f"must all be {KINDS[0]}, not {kinds!r:.60}")
    config.understood("layer_types")


def _select(operators: tuple[str, ...], *, full: bool) -> tuple[str, ...]:
    operators = replaced(operators, "latent_attention", "selected_latent_attention")
    for name in INDEXER if full else ():
        operators = before(operators, "latent_up_projection", name)
    return operators


def _has_indexer(config: Config, layers: int) -> list[bool]:
    """Return which layers have an indexer: as listed, by a pattern, or by a period.

    Raises:
        SpecError: A list, a pattern or a period is malformed, or the first layer has none.
    """
    kinds = config.per_layer("indexer_types", layers)
    pattern = config.get("index_topk_pattern")
    period = config.size("index_topk_freq", default=1)
    offset = config.natural("index_skip_topk_offset", OFFSET)
    key, marks = "indexer_types", kinds
    if kinds is None and pattern is not None:
        key = "index_topk_pattern"
        letters = {"F": "full", "S": "shared"}
        marks = [letters.get(mark) for mark in pattern] if isinstance(pattern, str) else pattern
        if not isinstance(marks, list) or len(marks) != layers:
            raise config.error(key, f"must have {layers} letters F and S, not {pattern!r:.60}")
    if marks is None:
        return [max(layer - offset + 1, 0) % period == 0 for layer in range(layers)]
    if any(mark not in ("full", "shared") for mark in marks):
        raise config.error(key, f"must say 'full' or 'shared' of each layer, not {marks!r:.60}")
    if marks[0] != "full":
        raise config.error(key, "the first layer must be 'full'; none before it selects")
    return [mark == "full" for mark in marks]
