"""The formulas of `formula.py` as loops for numba: compiled, parallel, free to reorder sums.

Written as one would for a single variable: terms that do not vary in the inner loop are computed
before it, by hand.
"""

from typing import Any

import numpy as np
from numba import njit, prange

TWO, THREE, FOUR, FIVE, SIX, EIGHT = (np.float32(n) for n in (2, 3, 4, 5, 6, 8))
ONE, HALF = np.float32(1), np.float32(0.5)
BYTES = TWO
Array = np.ndarray[Any, Any]


@njit(fastmath=True)
def _gemm(rows, inner, columns, peak, bandwidth):
    moved = BYTES * (inner * columns) + rows * (BYTES * (inner + columns))
    return max(rows * (TWO * inner * columns) / peak, moved / bandwidth)


@njit(fastmath=True)
def _others(m, h, tokens, sequences):
    """Time of every operator but attention. [s]"""
    layers, hidden, heads, kv_heads, head_dim, rotary, ffn, vocabulary, bias = m
    peak, vector, special, bandwidth, _ = h
    q, kv = heads * head_dim, kv_heads * head_dim
    columns, rotated = q + TWO * kv, tokens * ((heads + kv_heads) * rotary)
    activated, logits = tokens * ffn, sequences * vocabulary
    norm = max(
        max(tokens * (FOUR * hidden) / vector, tokens / special),
        (BYTES * hidden + tokens * (FOUR * hidden)) / bandwidth,
    )
    residual = max(tokens * hidden / vector, tokens * (SIX * hidden) / bandwidth)
    moved = BYTES * (hidden * columns) + tokens * (BYTES * (hidden + columns))
    qkv = max(
        max(tokens * (TWO * hidden * columns) / peak, tokens * (bias * columns) / vector),
        (moved + bias * BYTES * columns) / bandwidth,
    )
    rope = max(THREE * rotated / vector, FOUR * rotated / bandwidth)
    append = tokens * (EIGHT * kv) / bandwidth
    activation = max(
        max(FIVE * activated / vector, TWO * activated / special), SIX * activated / bandwidth
    )
    sampling = max(max(THREE * logits / vector, logits / special), TWO * logits / bandwidth)
    layer = TWO * norm + TWO * residual + qkv + rope + append + activation
    layer += _gemm(tokens, q, hidden, peak, bandwidth)
    layer += _gemm(tokens, hidden, TWO * ffn, peak, bandwidth)
    layer += _gemm(tokens, ffn, hidden, peak, bandwidth)
    head = _gemm(sequences, hidden, vocabulary, peak, bandwidth)
    return layers * layer + norm + head + sampling + tokens * (FOUR * hidden) / bandwidth


@njit(fastmath=True)
def _attention(m, h, batch, scores, read):
    """Time of attention in all layers; `read` keys and queries per sequence. [s]"""
    elements = TWO * batch * m[4] * read
    return m[0] * max(max(FOUR * m[4] * scores / h[0], scores / h[2]), BYTES * elements / h[3])


@njit
def _model(models, i):
    row = models[i]
    return (row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8])


@njit
def _machine(machines, j):
    row = machines[j]
    return (row[0], row[1], row[2], row[3], row[4])


@njit(parallel=True, fastmath=True)
def decode(models: Array, machines: Array, batches: Array, contexts: Array, result: Array) -> None:
    """Decode steps into `result`, axes (model, machine, batch, context)."""
    shape = result.shape
    for row in prange(shape[0] * shape[1] * shape[2]):
        i, j, k = row // (shape[1] * shape[2]), row // shape[2] % shape[1], row % shape[2]
        m, h, batch = _model(models, i), _machine(machines, j), batches[k]
        rest, heads, kv_heads = _others(m, h, batch, batch), m[2], m[3]
        for n in range(shape[3]):
            context = contexts[n]
            scores, read = batch * heads * context, kv_heads * context + heads
            result[i, j, k, n] = rest + _attention(m, h, batch, scores, read)


@njit(parallel=True, fastmath=True)
def prefill(models: Array, machines: Array, batches: Array, isls: Array, result: Array) -> None:
    """Prefills into `result`, axes (model, machine, batch, isl)."""
    shape = result.shape
    for row in prange(shape[0] * shape[1] * shape[2]):
        i, j, k = row // (shape[1] * shape[2]), row // shape[2] % shape[1], row % shape[2]
        m, h, batch = _model(models, i), _machine(machines, j), batches[k]
        heads, kv_heads = m[2], m[3]
        for n in range(shape[3]):
            isl = isls[n]
            passes = max(ONE, isl * (m[4] * heads / kv_heads * BYTES) / h[4])
            scores, read = batch * heads * (isl * (isl + ONE) * HALF), passes * kv_heads + heads
            attention = _attention(m, h, batch * isl, scores, read)
            result[i, j, k, n] = _others(m, h, batch * isl, batch) + attention
