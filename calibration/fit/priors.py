"""Priors and bounds of the factors."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prior:
    """Expectation of a factor before any row is seen.

    Attributes:
        typical: Its value.
        width: Standard deviation of its logarithm. [1]
        deviations: Width of its deviations by trait. [1]
    """

    typical: float
    width: float
    deviations: dict[str, float]


PRIORS: dict[str, Prior] = {
    "software": Prior(1.0, 0.02, {"version": 0.04}),
    "gemm": Prior(0.75, 0.3, {"architecture": 0.15, "hardware": 0.05, "dtype": 0.15, "era": 0.15}),
    "power_limit": Prior(0.33, 0.4, {}),
    "gemm_half_rows": Prior(20.0, 1.0, {"architecture": 0.4, "dtype": 0.4, "era": 0.4}),
    "expert_half_rows": Prior(20.0, 1.0, {}),
    "expert_gemm": Prior(0.8, 0.3, {"expert_kernel": 0.35}),
    "attention": Prior(0.5, 0.5, {"architecture": 0.2, "era": 0.3}),
    "weight_bandwidth": Prior(0.92, 0.05, {"hardware": 0.12, "era": 0.1, "dtype": 0.08}),
    "expert_bandwidth": Prior(0.85, 0.2, {"expert_kernel": 0.3, "hardware": 0.15}),
    "kv_bandwidth": Prior(0.9, 0.1, {"architecture": 0.15, "hardware": 0.05, "era": 0.3}),
    "kv_half_heads": Prior(30.0, 1.0, {"era": 0.7, "architecture": 0.5}),
    "activation_bandwidth": Prior(0.8, 0.5, {"era": 0.3}),
    "vector_attention": Prior(1.0, 1.5, {"decoding": 1.5, "attention": 0.4}),
    "link_bandwidth": Prior(0.7, 0.4, {"fabric": 0.3, "hardware": 0.05, "era": 0.2}),
    "exchange_overhead_s": Prior(8e-6, 0.7, {"fabric": 0.7, "hardware": 0.15, "era": 0.5}),
    "link_crowding": Prior(0.1, 1.0, {"fabric": 1.0}),
    "exchange_growth": Prior(0.5, 0.7, {"fabric": 0.7}),
    "one_shot_s": Prior(1.1e-5, 0.4, {"fabric": 0.4, "era": 0.6}),
    "unhidden": Prior(0.1, 1.0, {"era": 0.5, "architecture": 0.3}),
    "operator_overhead_s": Prior(4e-7, 0.4, {"era": 1.0, "hardware": 0.2, "version": 0.3}),
    "step_overhead_s": Prior(4e-4, 0.5, {"era": 1.0, "host": 0.7, "hardware": 1.0, "version": 0.3}),
    "sequence_overhead_s": Prior(5e-6, 0.5, {"era": 0.7, "host": 0.5}),
    "pipeline_sequence_overhead_s": Prior(4e-5, 0.5, {}),
    "front_end_s": Prior(4e-2, 0.7, {"version": 0.7, "hardware": 0.5, "tokenizer": 0.5}),
    "first_token_steps": Prior(1.0, 0.7, {"version": 0.5, "hardware": 0.5, "tokenizer": 0.5}),
    "expert_imbalance": Prior(1.1, 0.2, {"era": 0.2}),
    "pipeline_idle": Prior(0.02, 0.7, {}),
    "ramp": Prior(1.0, 0.3, {}),
}
"""Physical priors. Saturated rows alone do not determine fixed costs: about 6 µs for the dozen
kernels of a layer and 0.4 ms for a pass come from profiles of engines with CUDA graphs; plain
copies reach 90 to 93 % of the memory bandwidth that a datasheet states. A sum of a few
kilobytes over the eight GPUs of a machine takes 9 to 15 µs where each reads the buffers of all and
21 to 24 µs by NCCL, which reaches 0.8 of the link's bandwidth with large ones (public benchmarks,
listed in docs/formulas.md, among them github.com/sgl-project/sglang/pull/2904). The
widths were chosen by the errors of refits without the configurations, models and accelerators
predicted: hosts and their software differ, links and matrix units of different accelerators reach
much the same share of their rates."""

POWER_PRIORS = {
    "idle_power": Prior(0.12, 0.3, {"architecture": 0.2}),
    "bandwidth_power": Prior(0.4, 0.3, {"architecture": 0.2}),
}
"""Priors of the two factors of power, fitted where rows measure it. The values are those of
`kernel.at_load`; the widths are assumed, as of few published figures."""
SHARE = (0.02, 1.5)
"""A share above 1 says that the formula counts work the engine does not do; half as much again is
more than any kernel is known to save. Below a fiftieth something else binds."""
POWER_BOUNDS = {"idle_power": (1e-3, 0.95), "bandwidth_power": (1e-3, 1.0)}
"""Lowest and highest value of the factors of power."""
BOUNDS: dict[str, tuple[float, float]] = {
    "software": (0.5, 1.5),
    "gemm": SHARE,
    "power_limit": (1e-2, 1.0),
    "gemm_half_rows": (0.01, 1e4),
    "expert_half_rows": (0.01, 1e4),
    "expert_gemm": SHARE,
    "attention": SHARE,
    "weight_bandwidth": SHARE,
    "expert_bandwidth": SHARE,
    "kv_bandwidth": SHARE,
    "kv_half_heads": (0.01, 1e4),
    "activation_bandwidth": SHARE,
    "vector_attention": (1e-3, 100.0),
    "link_bandwidth": SHARE,
    "link_crowding": (1e-3, 1.0),
    "exchange_overhead_s": (1e-8, 1e-2),
    "exchange_growth": (1e-2, 3.0),
    "one_shot_s": (1e-8, 1e-2),
    "unhidden": (1e-4, 1.0),
    "operator_overhead_s": (1e-9, 1e-4),
    "step_overhead_s": (1e-7, 0.1),
    "sequence_overhead_s": (1e-9, 1e-2),
    "pipeline_sequence_overhead_s": (1e-9, 1e-2),
    "front_end_s": (1e-5, 10.0),
    "first_token_steps": (1e-3, 100.0),
    "expert_imbalance": (0.5, 8.0),
    "pipeline_idle": (1e-3, 1.0),
    "ramp": (0.2, 5.0),
}
"""Lowest and highest value that a pooled factor can have for physical reasons: parts of a whole lie
between 0 and 1, an overhead is longer than a cycle of the clock and shorter than a pass. An
imbalance of experts below 1 says that the layout's own is too high. Deviations are held by their
priors alone."""
