"""Sizes of a layer whose memory of a sequence does not grow with it."""

from dataclasses import dataclass

import jax

from sweep.kernel.operators.cost import Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Sizes of the state that a layer keeps of each sequence, and of what surrounds it.

    Each head keeps a matrix with a row for each element of its keys and a column for each element
    of its values. A channel of Mamba-1 or of a short convolution is a head with one value.

    Attributes:
        heads: Heads that keep a state. [count]
        groups: Groups of heads that share keys and queries. [count]
        key_dim: Width of a head's keys, the rows of its state. [count]
        value_dim: Width of a head's values, the columns of its state. [count]
        element_bytes: Storage of one element of the recurrent state. [byte]
        chunk: Tokens that a scan over a prompt takes at once. [count]
        kernel: Taps of the short convolution. [count]
        conv_bias: 1 if the convolution has a bias. [1]
        rank: Width that gates or time steps are projected through. [count]
        in_bias: 1 if the projections into the mixer have a bias. [1]
        out_bias: 1 if the projection out of it has one. [1]
    """

    heads: Scalar
    groups: Scalar = 0
    key_dim: Scalar = 0
    value_dim: Scalar = 1
    element_bytes: Scalar = 4
    chunk: Scalar = 1
    kernel: Scalar = 1
    conv_bias: Scalar = 0
    rank: Scalar = 0
    in_bias: Scalar = 0
    out_bias: Scalar = 0
