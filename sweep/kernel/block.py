"""The normal form of every model: blocks of identical layers, each a list of operators.

`models/` turns a published config into blocks, `operators/` has the cost of an operator at
given sizes, `bindings/` connects the two.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import jax

from sweep.kernel.operators.cost import Scalar
from sweep.kernel.state import State


def is_routed(blocks: Iterable["Block"]) -> bool:
    """Whether a model of these blocks is a mixture of experts."""
    return any("router" in block.operators for block in blocks)


def has_latent_cache(blocks: Iterable["Block"]) -> bool:
    """Whether a model of these blocks caches latents instead of keys and values."""
    return any(float(block.latent_dim) > 0 for block in blocks)


def running(blocks: Iterable["Block"]) -> tuple["Block", ...]:
    """Blocks whose layers run."""
    return tuple(block for block in blocks if not block.idle)


def layer_count(blocks: Iterable["Block"]) -> int:
    """Transformer layers of a specification's blocks. [count]"""
    return sum(int(b.count) for b in blocks if b.in_transformer and not b.partial)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Block:
    """Layers that run the same operators at the same sizes.

    Sizes are integers in a specification, where parameters are counted exactly, and float
    arrays once they meet JAX. A size that no operator of the block reads is 0.

    Attributes:
        operators: Names in `operator_table.OPERATORS`, in the order they run.
        in_transformer: Whether it is a transformer layer rather than embedding or head.
        idle: Whether its layers are stored and do not run: their weights take memory, and no
            operator of theirs has a cost.
        partial: Whether it is a part of layers that another block counts.
        count: Layers of this kind. [count]
        hidden_size: Width of the residual stream. [count]
        norm_vectors: Weight vectors of each norm: 1 (RMSNorm) or 2 (LayerNorm). [count]
        heads: Query heads. [count]
        kv_heads: KV heads. [count]
        head_dim: Width of one head. [count]
        rotary_dim: Rotated elements of each head. [count]
        value_dim: Width of one head's values where it differs from that of its keys; under
            latent attention `head_dim` is the unrotated width of the keys. [count]
        latent_dim: Width of the latent that the cache holds instead of keys and values. [count]
        query_rank: Width that queries are projected through. [count]
        gate_size: Columns of the gate on the output of attention. [count]
        sinks: 1 if each head keeps an attention sink. [1]
        index_heads: Heads of the indexer that selects what attention reads. [count]
        index_dim: Width of one of them. [count]
        index_block: Tokens that the indexer selects together. [count]
        selected: Entries of the cache that it selects for a token. [count]
        entry_tokens: Tokens that are compressed into one entry of the cache. [count]
        entry_series: Entries that each of them contributes to. [count]
        output_groups: Groups of heads whose outputs are projected apart. [count]
        output_rank: Width that these outputs are projected to, of all groups. [count]
        streams: Residual streams of a token, if there are several. [count]
        window: Tokens of a sliding window, or of a chunk. [count]
        qkv_bias: 1 if the query, key and value projections have a bias. [1]
        output_bias: 1 if the output projection has one. [1]
        ffn_size: Width of the feed-forward, or of one expert. [count]
        ffn_bias: 1 if the feed-forward projections have a bias. [1]
        experts: Experts of the layer. [count]
        experts_per_token: Experts each token is routed to. [count]
        shared_size: Width of the feed-forward of every token, in addition to its experts. [count]
        expert_bias: 1 if the router and the experts' projections have a bias. [1]
        router_bias: 1 if the router's scores are corrected by a bias. [1]
        laurel_rank: Rank of the learned augmented residual layer. [count]
        input_size: Width of the embedding that a layer has of its own. [count]
        inputs_width: Width of those of all layers together. [count]
        input_rows: Rows of their table. [count]
        vocab_size: Rows of the embedding or the head. [count]
        embedding_size: Width of the embedding or the head. [count]
        positions: Rows of a learned position table. [count]
        reserved_positions: Those of them that no token uses. [count]
        untied: 1 if the head has weights of its own, 0 if it shares the embedding's. [1]
        head_bias: 1 if the head has a bias. [1]
        token_pixels: Side of the square of pixels that a token of an image covers. [pixel]
        patch_values: Latents of a patch that enters the model. [count]
        denoised_values: Values of a patch that leaves it. [count]
        expert_latent: Width that routed experts work on where it is not that of the residual
            stream. [count]
        sources: Earlier outputs that attention over residuals weighs, on average. [count]
        state: Sizes of a mixer that keeps a state of fixed size, if the layer has one.
    """

    operators: tuple[str, ...] = field(metadata={"static": True})
    in_transformer: bool = field(default=True, metadata={"static": True})
    idle: bool = field(default=False, metadata={"static": True})
    partial: bool = field(default=False, metadata={"static": True})
    count: Scalar = 1
    hidden_size: Scalar = 0
    norm_vectors: Scalar = 0
    heads: Scalar = 0
    kv_heads: Scalar = 0
    head_dim: Scalar = 0
    rotary_dim: Scalar = 0
    value_dim: Scalar = 0
    latent_dim: Scalar = 0
    query_rank: Scalar = 0
    gate_size: Scalar = 0
    sinks: Scalar = 0
    index_heads: Scalar = 0
    index_dim: Scalar = 0
    index_block: Scalar = 0
    selected: Scalar = 0
    entry_tokens: Scalar = 0
    entry_series: Scalar = 0
    output_groups: Scalar = 0
    output_rank: Scalar = 0
    streams: Scalar = 0
    window: Scalar = 0
    qkv_bias: Scalar = 0
    output_bias: Scalar = 0
    ffn_size: Scalar = 0
    ffn_bias: Scalar = 0
    experts: Scalar = 0
    experts_per_token: Scalar = 0
    shared_size: Scalar = 0
    expert_bias: Scalar = 0
    router_bias: Scalar = 0
    laurel_rank: Scalar = 0
    input_size: Scalar = 0
    inputs_width: Scalar = 0
    input_rows: Scalar = 0
    vocab_size: Scalar = 0
    embedding_size: Scalar = 0
    positions: Scalar = 0
    reserved_positions: Scalar = 0
    untied: Scalar = 0
    head_bias: Scalar = 0
    token_pixels: Scalar = 0
    patch_values: Scalar = 0
    denoised_values: Scalar = 0
    expert_latent: Scalar = 0
    sources: Scalar = 0
    state: State | None = None
