"""The form of a binding: an operator as a block runs it in one step, with its weights."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import jax
import jax.numpy as jnp

from sweep.kernel.block import Block
from sweep.kernel.operators.cost import Cost, Scalar, is_nothing
from sweep.kernel.params import Layout, Precision
from sweep.schema.terms import Role

Span = Literal["all", "window", "chunk", "selected", "buffer"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Step:
    """One pass of one microbatch through the model, as one attention group sees it.

    Attributes:
        decoding: Whether each sequence adds one token, rather than a prompt or a chunk of one.
        sequences: Sequences of the group in the microbatch. [count]
        query_len: New tokens of each. [count]
        layout: GPUs of the replica, and how they share the model.
        precision: Storage types.
        cache: On-chip cache. [byte]
        chunks: Chunks that each prompt is cut into; the pass is their mean. [count]
        cached: Tokens of each prompt that were in the cache before. [count]
        prompt_tokens: Prompt tokens in the same pass as sequences that decode. [count]
        prompts_ended: Prompts whose last tokens are among those. [count]
        prompts_cached: Tokens of those prompts that were in the cache before. [count]
        dispatch_everywhere: See `Factors`. [1]
    """

    decoding: bool = field(metadata={"static": True})
    sequences: Scalar
    query_len: Scalar
    layout: Layout
    precision: Precision
    cache: Scalar
    chunks: Scalar = 1.0
    cached: Scalar = 0.0
    prompt_tokens: Scalar = 0.0
    prompts_ended: Scalar = 0.0
    prompts_cached: Scalar = 0.0
    dispatch_everywhere: Scalar = 0.0

    @property
    def own_tokens(self) -> Scalar:
        """New tokens of the sequences themselves. [count]"""
        return self.sequences * self.query_len

    @property
    def tokens(self) -> Scalar:
        """New tokens of the group. [count]"""
        return self.own_tokens + self.prompt_tokens

    @property
    def answered(self) -> Scalar:
        """Sequences that get a token in this pass. [count]"""
        return self.sequences + self.prompts_ended

    @property
    def sampled(self) -> Scalar:
        """Tokens whose successor is sampled: the last of a prompt, all that decode. [count]"""
        return (self.own_tokens if self.decoding else self.sequences) + self.prompts_ended

    @property
    def tokens_before(self) -> Scalar:
        """Tokens that the last token of a mean chunk attends to, itself included. [count]"""
        within = self.query_len * (self.chunks + 1) / 2
        return within if is_nothing(self.cached) else self.cached + within

    def prompt_pairs(self, pairs: Callable[[Scalar], Scalar]) -> Scalar:
        """Pairs of a new token and one it attends to, in one sequence and one chunk. [count]

        Args:
            pairs: Pairs of a whole prompt by its length. [count]
        """
        new = self.query_len * self.chunks
        if is_nothing(self.cached):
            return pairs(new) / self.chunks
        return (pairs(self.cached + new) - pairs(self.cached)) / self.chunks

    @property
    def tp(self) -> Scalar:
        """GPUs that share each layer. [count]"""
        return self.layout.tp

    @property
    def expert_tokens(self) -> Scalar:
        """New tokens of all groups, which meet at the experts. [count]"""
        return self.tokens * self.layout.dp_attention

    @property
    def expert_tp(self) -> Scalar:
        """GPUs that share each expert. [count]"""
        return self.layout.stage_gpus / self.layout.ep


@dataclass(frozen=True)
class Tensor:
    """Stored weight of an operator.

    Attributes:
        shape: Elements along each side, of the whole model. [count]
        role: Part of the model that it belongs to.
        sharding: One of `params.SHARDING`.
        expert_choice: Experts used and experts kept, for a tensor of routed experts. [count]
    """

    shape: tuple[int, ...]
    role: Role
    sharding: str = "split"
    expert_choice: tuple[int, int] = (1, 1)

    @property
    def elements(self) -> int:
        """Stored elements. [count]"""
        return prod(self.shape)

    @property
    def active_elements(self) -> int:
        """Elements one token uses. [count]"""
        used, kept = self.expert_choice
        return self.elements * used // kept


def no_weights(_: Block) -> tuple[Tensor, ...]:
    """Return no tensors, for an operator without weights."""
    return ()


def window_of(block: Block) -> Scalar:
    """Tokens of a sliding window, or of a chunk. [count]"""
    return block.window


@dataclass(frozen=True)
class Attention:
    """Reach and cache of an operator that attends to the context.

    Attributes:
        cached: Elements of the KV cache of one entry in one layer on each GPU. An entry is a
            token, unless several share one.
        span: Whether it attends to the whole context, to a sliding window of it, to the chunk that
            the newest token is in, or to entries selected from a cache that keeps all of them; or
            whether it works on a buffer whose size does not depend on the context.
        by_head: Whether the cache holds keys and values of each KV head, and not one latent for
            all heads.
        limit: Entries of the window, the chunk, the selection or the buffer. [count]
        tokens_per_entry: Tokens that share an entry, `None` if each has its own. [count]
        element_bytes: Storage of a cached element, `None` if the recipe says. [byte]
        projected: Columns of the key and value projections over the elements cached; half where
            values are keys. [1]
    """

    cached: Callable[[Block, Scalar], Scalar]
    span: Span = "all"
    by_head: bool = True
    limit: Callable[[Block], Scalar] = window_of
    tokens_per_entry: Callable[[Block], Scalar] | None = None
    element_bytes: float | None = None

    def entries(self, block: Block, tokens: Scalar) -> Scalar:
        """Entries of a sequence of `tokens`; the last tokens may not fill one. [count]"""
        if self.tokens_per_entry is None:
            return tokens
        return jnp.floor(tokens / self.tokens_per_entry(block))

    projected: float = 1.0

    def reach(self, block: Block, context: Scalar) -> Scalar:
        """Entries attended to when the context holds `context` tokens. [count]"""
        if self.span == "chunk":
            return jnp.mod(context - 1, self.limit(block)) + 1
        entries = self.entries(block, context)
        return entries if self.span == "all" else jnp.minimum(entries, self.limit(block))

    def kept(self, block: Block, tokens: Scalar) -> Scalar:
        """Entries kept in the cache of a sequence of `tokens`. [count]"""
        if self.span == "buffer":
            return 1.0 * self.limit(block)
        entries = self.entries(block, tokens)
        whole = self.span in ("all", "selected")
        return entries if whole else jnp.minimum(entries, self.limit(block))

    def held(self, block: Block, tokens: Scalar, kept_context: Scalar) -> Scalar:
        """The same in an engine that keeps a share `kept_context` of what it could drop. [count]"""
        kept = self.kept(block, tokens)
        if self.span == "buffer":
            return kept
        return kept + kept_context * (self.entries(block, tokens) - kept)


@dataclass(frozen=True)
class Operator:
    """Operator as a block runs it.

    Attributes:
        cost: Function from a block, a step and the tokens each sequence attends to to a `Cost`.
        weights: Function from a block to the tensors that the operator stores.
        role: Part of the recipe whose operand types set the rate of its matrix FLOPs; `hidden`,
            the type of the residual stream, for attention over the cache.
        exchanges: Whether GPUs exchange data in it.
        attention: Its reach and cache, or `None` if its cost does not depend on the context.
        eight_bit: Whether its matrices compute in FP8 where the accelerator does, whatever the
            recipe.
    """

    cost: Callable[[Block, Step, Scalar], Cost]
    weights: Callable[[Block], tuple[Tensor, ...]] = no_weights
    role: Role = "hidden"
    attention: Attention | None = None
    exchanges: bool = False
    eight_bit: bool = False
    state: Callable[[Block, Scalar, Scalar], Scalar] | None = None
