"""Settings of a server with in-flight batching."""

from dataclasses import dataclass

import jax

from sweep.kernel.operators.cost import Scalar

USUAL_SHARE = 0.9
"""Share of the free memory for the KV cache where neither a setting nor a habit of an engine says
otherwise. [1]"""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Server:
    """Settings of a server with in-flight batching.

    Defaults are those of TensorRT-LLM [1].

    Attributes:
        kv_cache_fraction: Share of the memory left by weights, activations and the engine that the
            KV cache may take; 0 where it is not stated. [1]
        gpu_memory_utilization: Share of the whole memory for weights, activations and KV cache, in
            place of that share and of what the engine keeps for itself [2]; 0 where it is not
            stated. [1]
        mem_fraction_static: Share of the whole memory for weights and KV cache, in place of
            both [3]; 0 where it is not stated. [1]
        kept_context: Share of the tokens behind a window or chunk that the cache keeps; that of the
            factors if not given. [1]
        reserved_osl: Share of a request's output tokens whose cache is reserved when
            it is admitted: 1 if none is ever evicted, half if the cache is filled to the
            average. [1]
        max_batch_size: Sequences that one attention group takes into an iteration. [count]
        max_num_tokens: Tokens that it takes into one. [count]
        scheduler: Index in `terms.SCHEDULERS`: 0, also if not given, where prompts share
            iterations with decode; 1 where iterations with prompts decode nothing.

    References:
        [1] NVIDIA, TensorRT-LLM documentation, "Tuning max batch size and max num tokens" and
        "Useful runtime flags".
        [2] vLLM documentation, "Conserving Memory", gpu_memory_utilization.
        [3] SGLang documentation, "Server Arguments", mem_fraction_static.
    """

    kv_cache_fraction: Scalar = USUAL_SHARE
    gpu_memory_utilization: Scalar | None = None
    mem_fraction_static: Scalar | None = None
    kept_context: Scalar | None = None
    reserved_osl: Scalar = 1.0
    max_batch_size: Scalar = 2048.0
    max_num_tokens: Scalar = 8192.0
    scheduler: Scalar | None = None
