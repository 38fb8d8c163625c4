"""Memory of each GPU by its use, so that the parts add up."""

from collections.abc import Mapping

from sweep.kernel import memory
from sweep.kernel.params import Point
from sweep.kernel.state_memory import state_memory, stateful


def memory_parts(point: Point, values: Mapping[str, float], capacity: float) -> dict[str, float]:
    """Memory by name; all but `state`, a part of the cache, and `device` add up to the sum. [byte]

    Args:
        point: A static batch, or a server.
        values: `weight_memory`, with `kv_cache_memory` and `memory_required` of a static batch.
        capacity: Memory of the device. [byte]
    """
    weights = values["weight_memory"]
    if point.batch_size is not None:
        cache, whole = values["kv_cache_memory"], values["memory_required"]
        state = {"state": float(state_memory(point))} if stateful(point) else {}
        return {
            "weight_memory": weights,
            "kv_cache_memory": cache,
            **state,
            "activations": whole - weights - cache,
            "memory_required": whole,
            "device": capacity,
        }
    free, kept = float(memory.free_memory(point)), float(point.factors.reserved_memory_bytes)
    cache = min(max(float(memory.cache_memory(point)), 0.0), max(free, 0.0))
    activations = float(point.hardware.memory) - kept - free - weights
    return {
        "weight_memory": weights,
        "cache": cache,
        "activations": activations,
        **({"kept": kept} if kept else {}),
        "taken": weights + cache + activations + kept,
        "device": capacity,
    }
