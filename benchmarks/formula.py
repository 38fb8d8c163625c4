"""Decode step and prefill of Llama-like models in 16 bits on one GPU, in NumPy and plain Python.

The benchmarks time and check the kernel against these: the formulas of `sweep/kernel/operators` as
one would write them without a kernel. Nothing here is mapped, compiled or traced.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

BYTES = 2
"""Storage of one element of anything. [byte]"""
Cost = dict[str, Any]
"""Work of an operator for each resource, by the name of its rate in `Machine`."""


class Model(NamedTuple):
    """Sizes of one model, or of several in arrays. [count]"""

    layers: Any
    hidden_size: Any
    heads: Any
    kv_heads: Any
    head_dim: Any
    rotary_dim: Any
    ffn_size: Any
    vocab_size: Any
    qkv_bias: Any


class Machine(NamedTuple):
    """One accelerator, or several in arrays: rates per second, and the on-chip cache in bytes."""

    peak: Any
    vector: Any
    special: Any
    bandwidth: Any
    cache: Any


def largest(values: Iterable[Any]) -> Any:
    """Element-wise maximum of arrays that broadcast."""
    return reduce(np.maximum, values)


def operators(m: Model, tokens: Any, sequences: Any) -> list[tuple[Any, Cost]]:
    """Layers and cost in one layer of every operator but attention."""
    hidden, ffn, layers = m.hidden_size, m.ffn_size, m.layers
    q, kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    rotated = tokens * ((m.heads + m.kv_heads) * m.rotary_dim)
    activated, logits = tokens * ffn, sequences * m.vocab_size

    def gemm(rows: Any, inner: Any, columns: Any) -> Cost:
        moved = BYTES * (inner * columns) + rows * (BYTES * (inner + columns))
        return {"peak": rows * (2 * inner * columns), "bandwidth": moved}

    norm = {
        "vector": tokens * (4 * hidden),
        "special": tokens,
        "bandwidth": BYTES * hidden + tokens * (2 * BYTES * hidden),
    }
    residual = {"vector": tokens * hidden, "bandwidth": tokens * (3 * BYTES * hidden)}
    qkv = gemm(tokens, hidden, q + 2 * kv)
    qkv["vector"] = tokens * (m.qkv_bias * (q + 2 * kv))
    qkv["bandwidth"] = qkv["bandwidth"] + m.qkv_bias * BYTES * (q + 2 * kv)
    activation = {
        "vector": 5 * activated,
        "special": 2 * activated,
        "bandwidth": 3 * BYTES * activated,
    }
    sampling = {"vector": 3 * logits, "special": logits, "bandwidth": BYTES * logits}
    return [
        (1, {"bandwidth": tokens * (2 * BYTES * hidden)}),  # embedding
        (layers, norm),
        (layers, qkv),
        (layers, {"vector": 3 * rotated, "bandwidth": 2 * BYTES * rotated}),  # rotary embedding
        (layers, {"bandwidth": tokens * (4 * BYTES * kv)}),  # KV cache append
        (layers, gemm(tokens, q, hidden)),  # output projection
        (layers, residual),
        (layers, norm),
        (layers, gemm(tokens, hidden, 2 * ffn)),  # gate and up projection
        (layers, activation),
        (layers, gemm(tokens, ffn, hidden)),  # down projection
        (layers, residual),
        (1, norm),
        (1, gemm(sequences, hidden, m.vocab_size)),  # lm_head
        (1, sampling),
    ]


def decode_attention(m: Model, batch: Any, context: Any) -> Cost:
    """One new token of each sequence, attending to `context` tokens, in one layer."""
    scores = batch * m.heads * context
    elements = 2 * batch * m.head_dim * (m.kv_heads * context + m.heads)
    return {"peak": 4 * m.head_dim * scores, "special": scores, "bandwidth": BYTES * elements}


def prefill_attention(m: Model, batch: Any, isl: Any, cache: Any) -> Cost:
    """Prompts of `isl` tokens, attending to themselves, in one layer."""
    scores = batch * m.heads * (isl * (isl + 1) / 2)
    passes = np.maximum(1, isl * (m.head_dim * m.heads / m.kv_heads * BYTES) / cache)
    elements = 2 * batch * isl * m.head_dim * (passes * m.kv_heads + m.heads)
    return {"peak": 4 * m.head_dim * scores, "special": scores, "bandwidth": BYTES * elements}


def seconds(cost: Cost, machine: Machine, largest: Callable[..., Any] = largest) -> Any:
    """Time of the slowest resource. [s]"""
    return largest([amount / getattr(machine, rate) for rate, amount in cost.items()])


def total(
    costs: Iterable[tuple[Any, Cost]], machine: Machine, largest: Callable[..., Any] = largest
) -> Any:
    """Time of operators one after another, each in all its layers. [s]"""
    return sum(layers * seconds(cost, machine, largest) for layers, cost in costs)


def one_point(m: Model, machine: Machine, batch: float, context: float) -> float:
    """One decode step in plain Python. [s]"""
    costs = operators(m, batch, batch)
    costs.append((m.layers, decode_attention(m, batch, context)))
    return float(total(costs, machine, max))


def broadcast(m: Model, machine: Machine, batch: Any, context: Any) -> np.ndarray:
    """Decode steps along axes (model, machine, batch, context), the formula transcribed directly.

    Each quantity has only the axes it depends on, so only attention is computed at every point.
    """
    attention = seconds(decode_attention(m, batch, context), machine)
    return m.layers * attention + total(operators(m, batch, batch), machine)


def in_place(m: Model, machine: Machine, batch: Any, context: Any) -> np.ndarray:
    """The same with one temporary, in seven passes over all points."""
    cost = decode_attention(m, batch, context)
    result = cost["bandwidth"] / machine.bandwidth
    _finish(cost, machine, m.layers, result, np.empty_like(result))
    result += total(operators(m, batch, batch), machine)
    return result


def in_blocks(m: Model, machine: Machine, batch: Any, context: Any) -> np.ndarray:
    """The same passes for one model and machine at a time, so that a block stays in the cache."""
    cost = decode_attention(m, batch, context)
    rest = total(operators(m, batch, batch), machine)
    result = np.empty((*rest.shape[:3], context.size), np.float32)
    other = np.empty(result.shape[2:], np.float32)
    for i, j in np.ndindex(result.shape[:2]):
        here = {rate: amount[i, 0] for rate, amount in cost.items()}
        rates = Machine(*(rate[j] for rate in machine))
        np.divide(here["bandwidth"], rates.bandwidth, out=result[i, j])
        _finish(here, rates, m.layers[i, 0], result[i, j], other)
        result[i, j] += rest[i, j]
    return result


def in_blocks_factored(m: Model, machine: Machine, batch: Any, context: Any) -> np.ndarray:
    """The same blocks with the algebra simplified by hand: five passes without a division.

    The memory time of attention is affine in the context, its compute time proportional to it.
    """
    rest = total(operators(m, batch, batch), machine)
    at_zero, at_one = (decode_attention(m, batch, np.float32(tokens)) for tokens in (0, 1))
    moved = at_zero["bandwidth"]
    start = rest + m.layers * moved / machine.bandwidth
    memory = m.layers * (at_one["bandwidth"] - moved) / machine.bandwidth
    compute = m.layers * np.maximum(
        at_one["peak"] / machine.peak, at_one["special"] / machine.special
    )
    result = np.empty((*rest.shape[:3], context.size), np.float32)
    other = np.empty(result.shape[2:], np.float32)
    for index in np.ndindex(result.shape[:2]):
        np.multiply(memory[index], context, out=result[index])
        result[index] += start[index]
        np.multiply(compute[index], context, out=other)
        other += rest[index]
        np.maximum(result[index], other, out=result[index])
    return result


def _finish(cost: Cost, machine: Machine, layers: Any, memory: Any, other: Any) -> None:
    """Turn attention's memory time into its time in all layers, with `other` as scratch."""
    np.maximum(memory, np.divide(cost["peak"], machine.peak, out=other), out=memory)
    np.maximum(memory, np.divide(cost["special"], machine.special, out=other), out=memory)
    memory *= layers


def prefill_in_blocks(m: Model, machine: Machine, batch: Any, isl: Any) -> np.ndarray:
    """Prefills, one model and machine at a time; every operator is computed at every point."""
    shape = (m.layers.size, machine.peak.size, batch.size, isl.size)
    result = np.empty(shape, np.float32)
    for i in range(shape[0]):
        model = Model(*(size[i, 0] for size in m))
        costs = operators(model, batch * isl, batch)
        for j in range(shape[1]):
            rates = Machine(*(rate[j] for rate in machine))
            attention = prefill_attention(model, batch, isl, rates.cache)
            result[i, j] = total([*costs, (model.layers, attention)], rates)
    return result
