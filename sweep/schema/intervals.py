"""What a calibrated sweep says of its own predictions: intervals, and how far they reach.

Calibration judges these by measurements that a fit had not seen; `variables.py` makes variables of
them.
"""

from dataclasses import dataclass

UNSEEN = {"unseen_hardware": 1, "unseen_model": 2, "unseen_dtype": 4, "unseen_family": 8}
"""What a calibrated prediction names that no measurement did, as bits."""
BEYOND = {"beyond_batch": 16, "beyond_length": 32, "beyond_gpus": 64}
"""What lies outside the range of the measurements, below or above, as bits."""
EXTRAPOLATION = UNSEEN | BEYOND
"""What a calibrated prediction reaches beyond, as bits."""

_WHERE = ("model", "hardware", "precision", "tp", "pp", "dp_attention")
EXTRAPOLATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "extrapolation": ("a static batch", (*_WHERE, "batch_size", "isl", "osl")),
    "ttft_extrapolation": ("a static batch's first token", (*_WHERE, "batch_size", "isl")),
    "inflight_extrapolation": ("an in-flight batch", (*_WHERE, "concurrency", "isl", "osl")),
}
"""Masks that say what a prediction reaches beyond: of what, and the axes that decide it."""


@dataclass(frozen=True)
class Judged:
    """How the interval of a calibrated variable is come by.

    Attributes:
        scenarios: Kinds of measurements whose errors it is made of, the largest where several.
        mask: What says how far the prediction reaches beyond them.
        basis: The same in words.
    """

    scenarios: tuple[str, ...]
    mask: str
    basis: str


_OWN = "From the errors of predictions of measurements the calibration had not seen"
_STATIC, _INFLIGHT_RUNS = "throughputs of static batches", "throughputs of in-flight batches"
CALIBRATED: dict[str, Judged] = {
    "output_throughput": Judged(("static_batch",), "extrapolation", f"{_OWN}."),
    "ttft": Judged(
        ("first_token",), "ttft_extrapolation", f"{_OWN}: times to first token of static batches."
    ),
    "tpot": Judged(
        ("static_batch",), "extrapolation", f"{_OWN}: {_STATIC}, of whose time it is the most."
    ),
    "e2e_latency": Judged(
        ("static_batch",), "extrapolation", f"{_OWN}: {_STATIC}, of which it is the inverse."
    ),
    "inflight_output_throughput": Judged(("inflight",), "inflight_extrapolation", f"{_OWN}."),
    "inflight_ttft": Judged(
        ("inflight", "first_token"),
        "inflight_extrapolation",
        f"{_OWN}: {_INFLIGHT_RUNS} or times to first token of static batches, whichever are "
        "larger; none was measured in flight.",
    ),
    "inflight_tpot": Judged(
        ("inflight",),
        "inflight_extrapolation",
        f"{_OWN}: {_INFLIGHT_RUNS}, of whose time it is the most.",
    ),
    "inflight_request_latency": Judged(
        ("inflight",),
        "inflight_extrapolation",
        f"{_OWN}: {_INFLIGHT_RUNS}, of which it is the inverse at a given number of requests.",
    ),
}
"""Variables that a calibrated sweep gives an interval."""
ENDS = ("lower", "upper")
