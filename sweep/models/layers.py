"""Sequences of operators that families share, and the blocks before and after the layers."""

import dataclasses
from collections import Counter
from collections.abc import Iterable

from sweep.kernel.block import Block

ATTENTION = (
    "qkv_projection",
    "rotary",
    "kv_cache_append",
    "attention",
    "output_projection",
)
GATED_FFN = ("gate_up_projection", "gated_activation", "down_projection")
PLAIN_FFN = ("up_projection", "activation", "down_projection")
EXPERTS = (
    "router",
    "expert_dispatch",
    "expert_gate_up_projection",
    "expert_gated_activation",
    "expert_down_projection",
    "expert_return",
    "expert_combine",
)
SHARED_EXPERT = (
    "shared_gate_up_projection",
    "shared_gated_activation",
    "shared_down_projection",
)
UNGATED_EXPERTS = (
    "router",
    "expert_dispatch",
    "expert_up_projection",
    "expert_activation",
    "expert_down_projection",
    "expert_return",
    "expert_combine",
)
UNGATED_SHARED_EXPERT = ("shared_up_projection", "shared_activation", "shared_down_projection")
ON_LATENT = (
    *("expert_dispatch", "expert_gate_up_projection", "expert_up_projection"),
    *("expert_down_projection", "expert_return", "expert_combine"),
)
"""Operators of experts that read or write the residual stream."""

RMS_NORM, LAYER_NORM = 1, 2
"""Weight vectors of each norm."""


def pre_norm(attention: tuple[str, ...], ffn: tuple[str, ...]) -> tuple[str, ...]:
    """Operators of a layer with a norm before attention and one before the feed-forward."""
    return (
        "attention_norm",
        *attention,
        "attention_all_reduce",
        "attention_residual",
        "ffn_norm",
        *ffn,
        "ffn_all_reduce",
        "ffn_residual",
    )


def without(operators: tuple[str, ...], *names: str) -> tuple[str, ...]:
    """Remove the named operators."""
    return tuple(name for name in operators if name not in names)


def before(operators: tuple[str, ...], name: str, extra: str) -> tuple[str, ...]:
    """Insert operator `extra` just before `name`."""
    index = operators.index(name)
    return (*operators[:index], extra, *operators[index:])


def replaced(operators: tuple[str, ...], name: str, other: str) -> tuple[str, ...]:
    """Put operator `other` in the position of `name`."""
    return tuple(other if operator == name else operator for operator in operators)


def on_latent(operators: tuple[str, ...], *, norm: bool) -> tuple[str, ...]:
    """Let the routed experts of a layer work on a latent, normalised after them if `norm`."""
    for name in ON_LATENT:
        operators = replaced(operators, name, f"latent_{name}")
    operators = before(operators, "latent_expert_dispatch", "expert_latent_projection")
    index = operators.index("latent_expert_combine") + 1
    back = ("expert_latent_norm",) * norm + ("expert_hidden_projection",)
    return (*operators[:index], *back, *operators[index:])


def with_window(layer: Block, window: int | None, kind: str = "windowed") -> Block:
    """Limit attention to a sliding window, or to a chunk of the context."""
    if window is None:
        return layer
    operators = replaced(layer.operators, "attention", f"{kind}_attention")
    return dataclasses.replace(layer, operators=operators, window=window)


def grouped(layers: Iterable[Block]) -> list[Block]:
    """Merge equal layers into one block that counts them, in the order of their first layer."""
    kinds = Counter(tuple(vars(layer).items()) for layer in layers)
    return [Block(**{**dict(kind), "count": count}) for kind, count in kinds.items()]


def embedding(vocab_size: int, hidden_size: int) -> Block:
    """Token embedding as wide as the residual stream."""
    return Block(
        ("embedding",),
        in_transformer=False,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        embedding_size=hidden_size,
    )


def head(vocab_size: int, hidden_size: int, *, tied: bool, norm_vectors: int = RMS_NORM) -> Block:
    """Final norm, projection onto the vocabulary, and sampling of a token."""
    return Block(
        ("pipeline_send", "final_norm", "lm_head", "sampling"),
        in_transformer=False,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        embedding_size=hidden_size,
        norm_vectors=norm_vectors,
        untied=int(not tied),
    )
