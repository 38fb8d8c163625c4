"""Nemotron-H and Nemotron 3: one mixer, attention, feed-forward or set of experts a layer."""

import dataclasses

from sweep.kernel.block import Block
from sweep.models.config import Config
from sweep.models.layers import (
    ATTENTION,
    PLAIN_FFN,
    RMS_NORM,
    UNGATED_EXPERTS,
    UNGATED_SHARED_EXPERT,
    embedding,
    grouped,
    head,
    on_latent,
    without,
)
from sweep.models.mamba_layers import SSD_KEYS, MambaKeys, mamba2
from sweep.models.state_layers import FULL, LINEAR, kind_of

LETTERS = {"M": LINEAR, "E": "moe", "*": FULL, "-": "mlp"}
KINDS = tuple(LETTERS.values())
KEYS = MambaKeys(
    heads="mamba_num_heads",
    head_dim="mamba_head_dim",
    state="ssm_state_size",
    groups="n_groups",
    kernel="conv_kernel",
    chunk="chunk_size",
    expand="expand",
    conv_bias="use_conv_bias",
    in_bias="use_bias",
    out_bias="use_bias",
    defaults={
        "mamba_num_heads": 128,
        "mamba_head_dim": 64,
        "ssm_state_size": 128,
        "n_groups": 8,
        "conv_kernel": 4,
        "chunk_size": 128,
    },
    by_heads=True,
)
OF_SOME_LAYERS = (
    *("mamba_num_heads", "mamba_head_dim", "ssm_state_size", "n_groups", "conv_kernel", "expand"),
    *("chunk_size", "use_conv_bias", "use_bias"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "mlp_bias"),
    *("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "moe_latent_size"),
    *("moe_shared_expert_intermediate_size", "mamba_ssm_cache_dtype"),
)
"""Keys that say nothing of a model without layers of their kind."""
CLASS = {"head_dim": 128, "kv_heads": 8}


def read_nemotron_h(config: Config) -> tuple[Block, ...]:
    """Read Nemotron-H or Nemotron 3.

    Raises:
        SpecError: A key is missing or malformed, or says something that is not supported.
    """
    config.passes_over("n_shared_experts", "moe_shared_expert_overlap", "num_logits_to_keep")
    config.passes_over("partial_rotary_factor", *SSD_KEYS)
    config.class_sizes = CLASS
    for key in ("attention_bias", "mamba_proj_bias", "tie_word_embeddings"):
        if config.flag(key, False):
            raise config.error(key, "true is not supported")
    if config.given("window") is not None:
        raise config.error("sliding_window", "is not supported beside state-space layers")
    listed = _kinds(config)
    hidden_size, vocab_size = config.size("hidden_size"), config.size("vocab_size")
    base = Block((), hidden_size=hidden_size, norm_vectors=RMS_NORM)
    built = {kind: _layer(config, kind, base) for kind in dict.fromkeys(listed)}
    config.passes_over(*OF_SOME_LAYERS)
    return (
        embedding(vocab_size, hidden_size),
        *grouped(built[kind] for kind in listed),
        head(vocab_size, hidden_size, tied=False),
    )


def _kinds(config: Config) -> list[str]:
    """Return the kind of each layer, as a list or letters say."""
    key, pattern = config.given("layer_kinds"), config.get("hybrid_override_pattern")
    if key is not None:
        names = config.get(key)
        if not isinstance(names, list) or not names:
            raise config.error(key, f"must be a list of kinds of layers, not {names!r:.40}")
        listed = [kind_of(config, key, name, KINDS) for name in names]
    elif isinstance(pattern, str) and pattern and not set(pattern) - set(LETTERS):
        listed = [LETTERS[letter] for letter in pattern]
    elif pattern is None:
        raise config.error("hybrid_override_pattern or layers_block_type", "missing")
    else:
        letters = ", ".join(LETTERS)
        raise config.error(
            "hybrid_override_pattern", f"must be letters of {letters}, not {pattern!r:.40}"
        )
    if config.size("layers", default=len(listed)) != len(listed):
        raise config.error("num_hidden_layers", f"differs from the {len(listed)} layers listed")
    return listed


def _layer(config: Config, kind: str, base: Block) -> Block:
    if kind == LINEAR:
        mixer = mamba2(config, KEYS)
        layer = dataclasses.replace(base, state=mixer.state)
        return _half("attention", mixer.operators, layer)
    if kind == FULL:
        heads = config.size("heads")
        sizes = dataclasses.replace(
            base,
            heads=heads,
            kv_heads=config.kv_heads("kv_heads", heads=heads),
            head_dim=config.size("head_dim"),
        )
        return _half("attention", without(ATTENTION, "rotary"), sizes)
    bias = config.flag("mlp_bias", False)
    if kind == "mlp":
        sizes = dataclasses.replace(base, ffn_size=config.size("ffn_size"), ffn_bias=int(bias))
        return _half("ffn", PLAIN_FFN, sizes)
    if bias:
        raise config.error("mlp_bias", "true is not supported with experts")
    return _half("ffn", *_experts(config, base))


def _experts(config: Config, base: Block) -> tuple[tuple[str, ...], Block]:
    """Return the operators and the sizes of a layer of experts, which may work on a latent."""
    kept, used = config.experts()
    latent = config.size("moe_latent_size") if "moe_latent_size" in config else 0
    experts = on_latent(UNGATED_EXPERTS, norm=False) if latent else UNGATED_EXPERTS
    sizes = dataclasses.replace(
        base,
        ffn_size=config.size("expert_size"),
        experts=kept,
        experts_per_token=used,
        shared_size=config.size("shared_size"),
        router_bias=1,
        expert_latent=latent,
    )
    return (*UNGATED_SHARED_EXPERT, *experts), sizes


def _half(name: str, operators: tuple[str, ...], sizes: Block) -> Block:
    around = (f"{name}_norm", *operators, f"{name}_all_reduce", f"{name}_residual")
    return dataclasses.replace(sizes, operators=around)
