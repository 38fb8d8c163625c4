"""Terms of the outputs: parts and roles of weights, bounds, reasons a configuration cannot run."""

from typing import Literal, get_args

Part = Literal["attention", "ffn", "experts", "head"]
"""Linear layers that a recipe may store differently: the projections around attention, the
feed-forward that every token takes, routed experts, and the head."""
Role = Part | Literal["hidden"]
"""Role of a weight: one of those, or kept in the type of the residual stream."""
PARTS: tuple[Part, ...] = get_args(Part)
ROLES: tuple[Role, ...] = (*PARTS, "hidden")

BOUNDS = ("memory", "compute", "communication")

INFEASIBLE_REASONS = {
    "exceeds_memory": 1,
    "tp_does_not_divide_heads": 2,
    "tp_does_not_divide_ffn": 4,
    "tp_splits_quantisation_group": 8,
    "exceeds_learned_positions": 16,
    "no_link_between_gpus": 32,
    "experts_not_divisible": 64,
    "pp_exceeds_layers": 128,
    "time_out_of_range": 256,
}
LONGEST_S = 1e25
"""Longest time of a deployment that runs: what is computed from it, and the ends of its interval,
stay within the range of 32 bits. [s]"""
SCHEDULERS = ("chunked", "prefill_first")
"""Order of work in a server: prompts share iterations with decode, or go before it."""
OVERLOADS = {
    "clients_exceed_capacity": 1,
    "arrivals_exceed_capacity": 2,
    "time_out_of_range": 4,
}
"""Reasons why requests wait for a slot of a server, or have no time at all, as bits."""
