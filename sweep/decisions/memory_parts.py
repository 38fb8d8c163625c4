"""Memory of each GPU by its use, so that the parts add up."""

from collections.abc import Mapping

import jax.numpy as jnp

from sweep.evaluation.numpy_cell import computed
from sweep.kernel import memory
from sweep.kernel.operators.cost import Scalar
from sweep.kernel.params import Point
from sweep.kernel.state_memory import state_memory, stateful
from sweep.specs.hardware import HardwareSpec


def memory_parts(
    point: Point, values: Mapping[str, float], machine: HardwareSpec
) -> dict[str, float]:
    """Memory by name; all but `state`, a part of the cache, and `device` add up to the sum. [byte]

    Args:
        point: A static batch, or a server.
        values: `weight_memory`, with `kv_cache_memory` and `memory_required` of a static batch.
        machine: The accelerator.
    """
    weights = values["weight_memory"]
    device = {"device": float(machine.usable_memory_bytes or machine.memory_bytes)}
    if point.batch_size is not None:
        cache, whole = values["kv_cache_memory"], values["memory_required"]
        state = {}
        if stateful(point):
            state["state"] = float(computed(state_memory, point, name="state"))
        return {
            "weight_memory": weights,
            "kv_cache_memory": cache,
            **state,
            "activations": whole - weights - cache,
            "memory_required": whole,
            **device,
        }
    amounts = computed(of_server, point, name="memory of a server")
    found = {name: float(amount) for name, amount in amounts.items()}
    kept = {"kept": found["kept"]} if found["kept"] else {}
    parts = {"weight_memory": weights, "cache": found["cache"], "activations": found["activations"]}
    return {**parts, **kept, "taken": sum(parts.values()) + sum(kept.values()), **device}


def of_server(point: Point) -> dict[str, Scalar]:
    """Memory of one GPU of a server by its use, which add up; a cache that does not fit has none.

    `kept` is what the engine keeps for itself. [byte]
    """
    kept = jnp.asarray(memory.kept_memory(point), float)
    free = memory.free_memory(point) + point.factors.reserved_memory_bytes - kept
    cache = jnp.clip(memory.cache_memory(point), 0.0, jnp.maximum(free, 0.0))
    weights = memory.weight_memory(point)
    activations = point.hardware.memory - kept - free - weights
    return {"weights": weights, "activations": activations, "cache": cache, "kept": kept}
