"""Device memory that a configuration needs, and the reasons why it cannot run."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from sweep.kernel.bindings.common import kv_heads_per_gpu
from sweep.kernel.bindings.operator import Step
from sweep.kernel.block import Block
from sweep.kernel.index_workspace import index_workspace, selecting_elements, selects
from sweep.kernel.operator_table import OPERATORS, attentions
from sweep.kernel.operators.cost import Scalar, is_nothing, is_one
from sweep.kernel.params import Linear, Point
from sweep.kernel.roofline import fabric
from sweep.kernel.server import USUAL_SHARE
from sweep.kernel.state_memory import (
    copied_state_weights,
    state_bytes_per_sequence,
    state_heads_split,
    state_width,
    stateful,
)
from sweep.schema.terms import INFEASIBLE_REASONS, PARTS

LOGIT_BYTES = 4.0
"""Storage of one logit as it is sampled. [byte]"""


def weight_memory(point: Point) -> Scalar:
    """Weights on each GPU, of the fullest pipeline stage. [byte]

    A weight is split over the tensor-parallel group, keys' and values' only down to one KV
    head, experts over all GPUs of the stage; norms, output biases and routers are copied.
    """
    layout, precision = point.layout, point.precision
    kv_heads = jnp.stack([jnp.asarray(b.kv_heads, float) for b in point.model.blocks]).max()
    if not any(attentions(block) for block in point.model.blocks):
        kv_heads = jnp.ones(())
    storage = _vector(*(precision.part(part).weight for part in PARTS), precision.hidden)
    share = _vector(
        1 / layout.tp, jnp.maximum(1 / layout.tp, 1 / kv_heads), 1.0, 1 / layout.stage_gpus
    )
    held = jnp.sum(
        point.model.elements * storage[None, :, None] * share[None, None, :], axis=(1, 2)
    )
    before, layers, after = held[0], held[1] + _copied_kv_weights(point), held[2]
    if stateful(point):
        layers = layers + copied_state_weights(point)
    if point.draft_tokens is not None:
        drafts = jnp.asarray(point.model.draft_elements) * storage[:, None] * share[None, :]
        after = after + point.if_drafting(jnp.sum(drafts))
    stage = layers * jnp.ceil(point.model.layers / layout.pp) / point.model.layers
    return stage + jnp.where(layout.pp > 1, jnp.maximum(before, after), before + after)


def _copied_kv_weights(point: Point) -> Scalar:
    """Weights of keys and values beyond an even split, of layers with fewer KV heads. [byte]

    Some layers, such as those with a window, may have other KV heads than the others, and so reach
    one KV head on each GPU at another tp. Zero if all layers have the same.
    """
    layers = [(b, a) for b in point.model.blocks for a in attentions(b) if a.by_head]
    if len({attention.span for _, attention in layers}) < 2 and not point.model.uneven_kv_heads:
        return 0.0
    most = jnp.stack([jnp.asarray(b.kv_heads, float) for b, _ in layers]).max()
    even = jnp.maximum(1 / point.layout.tp, 1 / most)
    total = jnp.zeros(())
    for block, attention in layers:
        share = jnp.maximum(1 / point.layout.tp, 1 / block.kv_heads)
        elements = attention.cached(block, 1.0) * attention.projected
        columns = block.count * elements * (share - even)
        weight = point.precision.attention.weight
        stored = block.hidden_size * weight + block.qkv_bias * point.precision.hidden
        total = total + columns * stored
    return total


def _vector(*values: Scalar) -> Array:
    return jnp.stack([jnp.asarray(value, float) for value in values])


def kv_bytes_per_sequence(point: Point, tokens: Scalar, *, served: bool = False) -> Scalar:
    """KV cache and states of one sequence of `tokens` tokens on each GPU of its group. [byte]

    Windowed and chunked layers keep their window or chunk and no more, unless the engine or the
    server says so, and layers with a state the same for any sequence.

    Args:
        point: Model, machine, precision and layout.
        tokens: Tokens of the sequence. [count]
        served: Whether a server keeps it, with `kept_context` as its setting.
    """
    stated = point.kept_context if served else None
    keeps = point.factors.kept_context if stated is None else stated
    total = _cache_of(point, point.model.blocks, tokens, keeps)
    if stateful(point):
        total = total + state_bytes_per_sequence(point)
    total = total / point.layout.pp
    if point.draft_tokens is None:
        return total
    return total + point.if_drafting(_cache_of(point, point.model.draft, tokens, keeps))


def _cache_of(point: Point, blocks: Sequence[Block], tokens: Scalar, keeps: Scalar) -> Scalar:
    """KV cache of one sequence in the layers of `blocks`, of all stages. [byte]"""
    total = jnp.zeros(())
    for block in blocks:
        for attention in attentions(block):
            held = attention.held(block, tokens, keeps)
            elements = attention.cached(block, point.tp) * held
            stored = attention.element_bytes
            storage = point.precision.kv if stored is None else stored
            total = total + block.count * elements * storage
    return total


def longest(point: Point) -> Scalar:
    """Tokens of a sequence at its longest: input and output, an image, or the context. [count]"""
    if point.image_size is not None:
        return point.image_tokens
    if point.isl is None:
        return point.length("context_len")
    return point.isl if point.osl is None else point.isl + point.osl


def kv_cache_memory(point: Point) -> Scalar:
    """KV cache of the whole batch at its longest on each GPU. [byte]"""
    return point.group_sequences * kv_bytes_per_sequence(point, longest(point))


def working_memory(point: Point, tokens: Scalar, sampled: Scalar) -> Scalar:
    """Activations and buffers of a pass on each GPU. [byte]

    The residual stream, an operator's input and its output live together; the widest output
    is a fused projection's. So do all streams of alternating updates, before and after a layer, and
    the embeddings of all layers where each has its own. At the end the logits of each sequence are
    gathered to be sampled in 32 bits. Exchanges use a buffer of their own, as large as the largest
    of them, beside what libraries keep.

    Args:
        point: Model, machine, layout and lengths.
        tokens: Tokens of the pass in one attention group. [count]
        sampled: Sequences of it that get a token. [count]
    """
    width = jnp.zeros(())
    logits: Scalar = 0.0
    for block in point.model.blocks:
        if block.in_transformer:
            width = jnp.maximum(width, _live_elements(block, point.tp))
        if "lm_head" in block.operators:
            logits = sampled * block.vocab_size
    hidden, copies = point.precision.hidden, point.factors.logit_copies
    sampling = logits * (hidden / point.tp + LOGIT_BYTES * copies)
    for block in point.model.blocks:
        if "layer_embedding" in block.operators:
            width = width + block.inputs_width
    activations = jnp.maximum(tokens * width * hidden, sampling)
    total = activations + _exchanged(point, tokens)
    libraries = _of_libraries(point)
    if not is_nothing(libraries):
        total = total + libraries
    if any(selects(block) for block in point.model.blocks):
        total = total + index_workspace(point, tokens, longest(point))
    return total


def _of_libraries(point: Point) -> Scalar:
    """Memory of each GPU that drivers, kernels and exchanges take beside all else. [byte]"""
    library, exchange = point.factors.library_memory_bytes, point.factors.exchange_memory_bytes
    if is_nothing(exchange):
        return library
    exchanging = 1 - 1 / point.layout.stage_gpus
    return library + exchange * exchanging


def _live_elements(block: Block, tp: Scalar) -> Scalar:
    """Elements of a token that live together in a layer, on each GPU. [count]"""
    heads = block.heads / tp + 2 * kv_heads_per_gpu(block, tp)
    routed = jnp.maximum(block.experts_per_token, 1.0)
    outputs = jnp.maximum(heads * block.head_dim, 2 * routed * block.ffn_size / tp)
    if selects(block):
        outputs = jnp.maximum(outputs, selecting_elements(block, tp))
    if block.state is not None:
        outputs = jnp.maximum(outputs, state_width(block, tp))
    if "attention_residual_attention" in block.operators:
        # All earlier outputs live on: about twice as many as a layer reads on average.
        outputs = outputs + 2 * block.sources * block.hidden_size
    streams: Scalar = 2
    if "attention_collapse" in block.operators:
        streams = 1 + block.streams
    elif {"altup_predict", "altup_correct"} & set(block.operators):
        streams = 2 * block.streams
    return streams * block.hidden_size + outputs


def _exchanged(point: Point, tokens: Scalar) -> Scalar:
    """The most that one operator of a pass sends from a GPU. [byte]"""
    step = Step(
        decoding=False,
        sequences=tokens,
        query_len=1.0,
        layout=point.layout,
        precision=point.precision,
        cache=point.hardware.cache,
    )
    most = jnp.zeros(())
    for block in point.model.blocks:
        for operator in (OPERATORS[name] for name in block.operators):
            if operator.exchanges:
                most = jnp.maximum(most, operator.cost(block, step, 1.0).network_bytes)
    return most


def memory_required(point: Point) -> Scalar:
    """Weights, KV cache, activations and buffers of a static batch on each GPU. [byte]"""
    sequences = point.group_sequences / point.microbatches
    sampled = sequences * point.pass_tokens
    working = working_memory(point, sequences * _new_tokens(point), sampled)
    return weight_memory(point) + kv_cache_memory(point) + working


def _new_tokens(point: Point) -> Scalar:
    """Tokens of each sequence in its widest pass. [count]"""
    if point.image_size is not None:
        return point.passes * point.image_tokens
    return 1.0 if point.isl is None else point.isl


def max_concurrency(point: Point, *, together: Bool[Array, ""] | None = None) -> Scalar:
    """Requests that fit in the memory and the limits of one replica's server. [count]

    The cache takes its share of what weights and the widest iteration leave. Each of the
    pipeline's microbatches is an iteration of its own. A prompt may be wholly new, however many are
    found in the cache. Tokens that all prompts begin with are kept once.

    Args:
        point: The server.
        together: Whether requests are at one stage, and take all of their output at its end; no if
            not given.
    """
    server, layout = point.server, point.layout
    limit = jnp.minimum(server.max_batch_size, _sequences_within(point, server.max_num_tokens))
    share = point.factors.reserved_output
    if together is not None:
        share = jnp.where(together, 1.0, share)
    outputs = server.reserved_osl * share * point.length("osl")
    if point.osl_cv is not None:
        # Long outputs stay longer: of the requests held at any time more are long.
        outputs = outputs * (1 + point.osl_cv**2)
    reserved = point.length("isl") + outputs
    cache = cache_memory(point)
    if point.shared_prefix_tokens is not None:
        shared = jnp.minimum(point.shared_prefix_tokens, point.length("isl") - 1)
        once = kv_bytes_per_sequence(point, shared, served=True)
        cache, reserved = cache - jnp.where(shared > 0, once, 0.0), reserved - shared
    room = cache / kv_bytes_per_sequence(point, reserved, served=True)
    held = jnp.minimum(jnp.floor(jnp.maximum(room, 0.0)), limit * layout.pp)
    return layout.dp_attention * held


def free_memory(point: Point) -> Scalar:
    """Memory that weights, a server's widest iteration and the engine leave on each GPU. [byte]"""
    server = point.server
    limit = jnp.minimum(server.max_batch_size, _sequences_within(point, server.max_num_tokens))
    widest = working_memory(point, server.max_num_tokens, limit * point.pass_tokens)
    usable = point.hardware.memory - point.factors.reserved_memory_bytes
    return usable - weight_memory(point) - widest


def cache_memory(point: Point) -> Scalar:
    """Memory of each GPU that a server's KV cache takes. [byte]

    It is a share of what weights, the widest iteration and the engine leave. A share of the whole
    memory takes the place of what the engine keeps for itself: of weights, the widest iteration and
    cache, or of weights and cache as far as the widest iteration leaves them room. An engine may
    have such a share by default.
    """
    factors, size = point.factors, point.hardware.memory
    left = free_memory(point)
    unkept = left + factors.reserved_memory_bytes
    cache: Scalar = USUAL_SHARE * left
    if not is_nothing(factors.total_memory_share):
        whole = unkept - (1 - factors.total_memory_share) * size
        cache = jnp.where(factors.total_memory_share > 0, whole, cache)
    free, total, static = point.kv_cache_fraction, *_shares_of_all(point)
    if free is not None:
        cache = jnp.where(free > 0, free * left, cache)
    if total is not None:
        cache = jnp.where(total > 0, unkept - (1 - total) * size, cache)
    if static is not None:
        within = jnp.minimum(static * size - weight_memory(point), unkept)
        cache = jnp.where(static > 0, within, cache)
    return cache


def _shares_of_all(point: Point) -> tuple[Scalar | None, Scalar | None]:
    """Shares of the whole memory that a server was given, 0 where it was given none. [1]"""
    server = point.server
    return server.gpu_memory_utilization, server.mem_fraction_static


def kept_memory(point: Point) -> Scalar:
    """Memory of each GPU that the engine keeps for itself, beside its cache. [byte]

    It is 0 where a share of the whole memory limits what the engine takes.
    """
    kept, by_total = point.factors.reserved_memory_bytes, point.factors.total_memory_share
    if not is_nothing(by_total):
        by_habit = by_total > 0
        if point.kv_cache_fraction is not None:
            by_habit = by_habit & (point.kv_cache_fraction <= 0)
        kept = jnp.where(by_habit, 0.0, kept)
    for share in _shares_of_all(point):
        if share is not None:
            kept = jnp.where(share > 0, 0.0, kept)
    return kept


def _sequences_within(point: Point, tokens: Scalar) -> Scalar:
    """Sequences that decode in a pass of so many tokens. [count]"""
    return tokens if is_one(point.pass_tokens) else jnp.floor(tokens / point.pass_tokens)


def infeasible_reason(
    point: Point, exceeds_memory: Array | bool, time_out_of_range: Array | bool = False
) -> Int[Array, ""]:
    """Sum of the bits of `terms.INFEASIBLE_REASONS` that hold; 0 if the point can run."""
    layout, precision = point.layout, point.precision
    tp, stage = layout.tp, layout.stage_gpus
    layers = [block for block in point.model.blocks if block.in_transformer]
    attending = [block for block in layers if attentions(block)]
    routed = [block for block in layers if "router" in block.operators]
    dense = [block for block in layers if "router" not in block.operators]
    positions = sum(b.positions - b.reserved_positions for b in point.model.blocks)

    def heads_split(kv_heads: Scalar) -> Array:
        return jnp.where(tp <= kv_heads, _indivisible(kv_heads, tp), _indivisible(tp, kv_heads))

    def splits_group(recipe: Linear, size: Scalar, parts: Scalar) -> Array:
        return (recipe.group > 0) & _indivisible(size / parts, jnp.maximum(recipe.group, 1.0))

    expert_tp = stage / layout.ep
    holds = {
        "exceeds_memory": exceeds_memory,
        "tp_does_not_divide_heads": _any(
            *(_indivisible(b.heads, tp) for b in attending),
            *(heads_split(b.kv_heads) for b in attending),
            *(split for b in stateful(point) for split in state_heads_split(b, tp)),
        ),
        "tp_does_not_divide_ffn": _any(
            *(_indivisible(b.ffn_size, tp) for b in dense),
            *(_indivisible(b.ffn_size, expert_tp) for b in routed),
        ),
        "tp_splits_quantisation_group": _any(
            *(splits_group(precision.ffn, b.ffn_size, tp) for b in dense),
            *(splits_group(precision.experts, b.ffn_size, expert_tp) for b in routed),
            *(splits_group(precision.attention, b.heads * b.head_dim, tp) for b in layers),
        ),
        "exceeds_learned_positions": (positions > 0) & (longest(point) > positions),
        "no_link_between_gpus": _any(
            *(_unlinked(point, span) for span in (tp, stage, layout.gpus))
        ),
        "experts_not_divisible": _any(
            _indivisible(stage, layout.ep),
            *(_indivisible(b.experts, layout.ep) for b in routed),
            *((layout.ep > 1,) if not routed else ()),
        ),
        "pp_exceeds_layers": layout.pp > point.model.layers,
        "time_out_of_range": time_out_of_range,
    }
    return sum(
        (jnp.where(holds[name], bit, 0) for name, bit in INFEASIBLE_REASONS.items()),
        start=jnp.zeros((), int),
    )


def _indivisible(size: Scalar, parts: Scalar) -> Array:
    return jnp.mod(size, parts) != 0


def _any(*tests: Array | bool) -> Array:
    if not tests:
        return jnp.asarray(False)
    return jnp.any(jnp.stack([jnp.asarray(test) for test in tests]))


def _unlinked(point: Point, span: Scalar) -> Array:
    """Whether the bandwidth between `span` GPUs of this kind is unknown."""
    which = fabric(point.hardware, span)
    return (span > 1) & jnp.isinf(jnp.asarray(point.hardware.fabric_bandwidth)[which])
