"""Exchanges between GPUs: sums over a group, experts' tokens, and activations between stages."""

import jax.numpy as jnp

from sweep.kernel.operators.cost import Cost, Scalar


def all_reduce(tokens: Scalar, width: Scalar, group: Scalar, *, element_bytes: Scalar) -> Cost:
    """Cost of summing partial results over a group: scatter the sums, then gather them.

    Each GPU sends 2·(n − 1)/n of the buffer, which is the least there is [1], in two exchanges. In
    one exchange, it reads the n − 1 buffers of the others and adds them up itself, as kernels for
    small buffers do.

    Args:
        tokens: Tokens in the step. [count]
        width: Elements per token. [count]
        group: GPUs in the group. [count]
        element_bytes: Storage of one element. [byte]

    References:
        [1] Patarasuk, Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 69(2), 2009.
    """
    return Cost(
        network_bytes=tokens * (2 * (group - 1) / group * width * element_bytes),
        one_shot_bytes=tokens * ((group - 1) * width * element_bytes),
        network_hops=2 * _any_other(group),
        network_span=group,
    )


def expert_exchange(
    tokens: Scalar,
    hidden_size: Scalar,
    experts_per_token: Scalar,
    *,
    dp_attention: Scalar,
    tp: Scalar,
    ep: Scalar,
    element_bytes: Scalar,
    everywhere_share: Scalar = 0.0,
) -> Cost:
    """Cost of carrying tokens from their attention group to their experts, or the outputs back.

    With experts whole on `ep` GPUs, each copy of a token goes to one expert, on another GPU in
    (ep − 1)/ep of the cases [1]; with experts split over all GPUs, every token goes to every
    other group. Within one attention group all GPUs hold all tokens, and nothing moves. The
    GPUs of a group share the work.

    Args:
        tokens: Tokens of one attention group. [count]
        hidden_size: Elements per token. [count]
        experts_per_token: Experts each token is routed to. [count]
        dp_attention: Attention groups. [count]
        tp: GPUs of one group. [count]
        ep: GPUs that experts are spread over whole. [count]
        element_bytes: Storage of one element. [byte]
        everywhere_share: Share of the way to sending each token to all groups. [1]

    References:
        [1] Lepikhin et al., "GShard", ICLR 2021.
    """
    routed = experts_per_token * (ep - 1) / ep
    everywhere = dp_attention - 1
    least = jnp.minimum(routed, everywhere * tp)
    # Gathered tokens arrive at one GPU of each group, which shares them among its own.
    spread = least + everywhere_share * jnp.maximum(everywhere - least, 0.0)
    copies = jnp.where(ep > 1, spread, everywhere)
    copies = jnp.where(dp_attention > 1, copies, 0.0)
    return Cost(
        network_bytes=tokens * (copies / tp * hidden_size * element_bytes),
        network_hops=_any_other(dp_attention),
        network_span=dp_attention * tp,
    )


def pipeline_send(
    tokens: Scalar,
    hidden_size: Scalar,
    *,
    pp: Scalar,
    tp: Scalar,
    span: Scalar,
    element_bytes: Scalar,
) -> Cost:
    """Cost of handing the residual stream from stage to stage, each GPU its share.

    Args:
        tokens: Tokens in the step. [count]
        hidden_size: Elements per token. [count]
        pp: Pipeline stages. [count]
        tp: GPUs of one group. [count]
        span: GPUs of all stages. [count]
        element_bytes: Storage of one element. [byte]
    """
    hops = pp - 1
    return Cost(
        network_bytes=tokens * (hops / tp * hidden_size * element_bytes),
        network_hops=1.0 * hops,
        network_span=span,
    )


def _any_other(group: Scalar) -> Scalar:
    """1 if a group has more than one GPU, else 0."""
    return jnp.minimum(group - 1, 1.0)
