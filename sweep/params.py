"""What the kernel reads: pytrees of numbers, one per model, accelerator and precision.

They hold no checks, since JAX rebuilds them with placeholders inside; checks live in `specs.py`.
"""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from sweep.architecture import Block
from sweep.errors import GridError
from sweep.operators.cost import Scalar

Numbers = Array | np.ndarray[Any, Any]
"""NumPy's while specifications are stacked, JAX's inside the kernel."""
ROLES = ("linear", "head", "hidden")
"""What a weight is used for; each role has its own storage type."""
SHARDING = ("split", "kv_heads", "copied")
"""How tensor parallelism lays a weight out: split, split up to the KV heads, or copied."""


class Model(eqx.Module):
    """One model.

    Attributes:
        blocks: Embedding, layers and head in the order they run.
        elements: Stored weights by role and sharding. [count]
        layer_parameters: Matrices of the transformer layers, all experts. [count]
        active_layer_parameters: The same, the experts of one token. [count]
    """

    blocks: tuple[Block, ...]
    elements: Float[Numbers, "*grid role sharding"]
    layer_parameters: Scalar
    active_layer_parameters: Scalar


class Hardware(eqx.Module):
    """One accelerator.

    Attributes:
        peaks: Dense matrix rate of each of `specs.PEAK_DTYPES`, 0 where there is none. [FLOP/s]
        vector_rate: Element-wise rate, infinite where unknown. [FLOP/s]
        special_rate: Special-function rate, infinite where unknown. [op/s]
        memory: Device memory. [byte]
        bandwidth: Device-memory bandwidth. [byte/s]
        cache: On-chip cache, infinite where unknown. [byte]
        link: Bandwidth to other GPUs in one direction, infinite where unknown. [byte/s]
        power: Rated power, NaN where unknown. [W]
    """

    peaks: Float[Numbers, "*grid dtype"]
    vector_rate: Scalar
    special_rate: Scalar
    memory: Scalar
    bandwidth: Scalar
    cache: Scalar
    link: Scalar
    power: Scalar


class Precision(eqx.Module):
    """One precision recipe.

    Attributes:
        weight: Storage of one weight of a linear layer, scales included. [byte]
        activation: Storage of one input element of a linear layer. [byte]
        hidden: Storage of one element of the residual stream, of outputs, of other weights. [byte]
        kv: Storage of one element of the KV cache. [byte]
        head: Storage of one weight of the head. [byte]
        group: Weights of one row that share a scale, 0 if they are not grouped. [count]
        linear_peak: Index into `Hardware.peaks` for the linear layers.
        hidden_peak: The same for attention and for weights stored like the residual stream.
        head_peak: The same for the head.
    """

    weight: Scalar
    activation: Scalar
    hidden: Scalar
    kv: Scalar
    head: Scalar
    group: Scalar
    linear_peak: Int[Numbers, "*grid"]
    hidden_peak: Int[Numbers, "*grid"]
    head_peak: Int[Numbers, "*grid"]


class Point(eqx.Module):
    """One cell of a grid, or one observation.

    Attributes:
        model: What is served.
        hardware: On which accelerator.
        precision: In which storage types.
        tp: GPUs that share each layer. [count]
        batch_size: Sequences in the batch. [count]
        context_len: Tokens each sequence attends to in one decode step. [count]
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
    """

    model: Model
    hardware: Hardware
    precision: Precision
    tp: Scalar
    batch_size: Scalar
    context_len: Scalar | None = None
    isl: Scalar | None = None
    osl: Scalar | None = None

    def length(self, axis: str) -> Scalar:
        """The value of `context_len`, `isl` or `osl`. [count]

        Raises:
            GridError: The grid has no such axis.
        """
        value: Scalar | None = getattr(self, axis)
        if value is None:
            raise GridError(f"the grid has no axis {axis}")
        return value
