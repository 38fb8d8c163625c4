"""Cost of an operator: its work, whatever the machine."""

from dataclasses import dataclass
from math import inf

import jax
from jaxtyping import Array, Float

Scalar = Float[Array, ""] | float


def is_nothing(work: Scalar) -> bool:
    """Whether there is no such work at all, whatever the sizes; XLA need not see it."""
    return isinstance(work, float) and work == 0.0


def is_one(multiple: Scalar) -> bool:
    """Whether a multiple changes nothing, whatever the sizes; XLA need not see it."""
    return isinstance(multiple, float) and multiple == 1.0


def is_endless(time: Scalar) -> bool:
    """Whether a time never ends, whatever the sizes; XLA need not see it."""
    return isinstance(time, float) and time == inf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cost:
    """Work of one operator on one GPU.

    Attributes:
        tensor_flops: Matrix FLOPs, two per multiply-add. [count]
        row_flops: Matrix FLOPs that one more row of input would add. [count]
        expert_row_flops: Matrix FLOPs that one more row for each expert would add. [count]
        vector_flops: Element-wise FLOPs, off the tensor cores. [count]
        special_ops: Exponentials and reciprocals on the special-function units. [count]
        weight_bytes: Parameters read. [byte]
        kv_bytes: KV cache read or written. [byte]
        activation_bytes: Activations read and written. [byte]
        network_bytes: Bytes this GPU sends to others. [byte]
        one_shot_bytes: Bytes this GPU receives where the exchange is done at once, each GPU
            reading the buffers of all others; 0 where it cannot be. [byte]
        network_hops: Exchanges that wait for one another. [count]
        network_span: GPUs that take part, which decides the fabric; 0 without an exchange. [count]
    """

    tensor_flops: Scalar = 0.0
    row_flops: Scalar = 0.0
    expert_row_flops: Scalar = 0.0
    vector_flops: Scalar = 0.0
    special_ops: Scalar = 0.0
    weight_bytes: Scalar = 0.0
    kv_bytes: Scalar = 0.0
    activation_bytes: Scalar = 0.0
    network_bytes: Scalar = 0.0
    one_shot_bytes: Scalar = 0.0
    network_hops: Scalar = 0.0
    network_span: Scalar = 0.0

    @property
    def flops(self) -> Scalar:
        """Matrix and element-wise FLOPs together. [count]"""
        return self.tensor_flops + self.vector_flops

    @property
    def memory_bytes(self) -> Scalar:
        """Traffic to and from device memory. [byte]"""
        return self.weight_bytes + self.kv_bytes + self.activation_bytes
