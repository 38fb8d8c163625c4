"""Intervals of a calibrated sweep: which variables have one, from which errors, and its flags.

A calibration takes the widths from errors of measurements that a fit had not seen; `variables.py`
makes variables of the ends and the masks.
"""

from dataclasses import dataclass

UNSEEN = {"unseen_hardware": 1, "unseen_model": 2, "unseen_dtype": 4, "unseen_family": 8}
"""Labels of a calibrated prediction that no measurement has, as bits."""
BEYOND = {"beyond_batch": 16, "beyond_length": 32, "beyond_gpus": 64}
"""Numbers of a calibrated prediction outside the range of the measurements, as bits."""
EXTRAPOLATION = UNSEEN | BEYOND
"""Everything that makes a calibrated prediction an extrapolation, as bits."""

_WHERE = ("model", "hardware", "precision", "tp", "pp", "dp_attention")
EXTRAPOLATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "extrapolation": ("a static batch", (*_WHERE, "batch_size", "isl", "osl")),
    "ttft_extrapolation": ("a static batch's first token", (*_WHERE, "batch_size", "isl")),
    "inflight_extrapolation": ("an in-flight batch", (*_WHERE, "concurrency", "isl", "osl")),
}
"""Masks of extrapolation: what each is of, and the axes that decide it."""
SCENARIO_OF_MASK = {
    "extrapolation": "static_batch",
    "ttft_extrapolation": "first_token",
    "inflight_extrapolation": "inflight",
}
"""Kind of measurement whose ranges each mask compares with."""
INSTEAD = {"first_token": "inflight_ttft"}
"""Kind of measurement whose errors are those of one that a calibration has none of. The time to
first token of a client contains the prefill, and is predicted worse where both were measured."""


@dataclass(frozen=True)
class Judged:
    """Derivation of the interval of a calibrated variable.

    Attributes:
        scenarios: Kinds of measurements whose errors give its width; the widest of several.
        mask: The mask that flags extrapolation.
        basis: The derivation in words, for the attributes of a result.
        beside: Kind of measurement whose errors add to that width in squares; none if empty.
    """

    scenarios: tuple[str, ...]
    mask: str
    basis: str
    beside: str = ""


_OWN = "From the errors of predictions of measurements the calibration had not seen"
_FIRST_TOKENS = (
    f"{_OWN}: times to first token of static batches; those of clients, which contain such a "
    "prefill, where a calibration has none of static batches."
)
_STATIC, _INFLIGHT_RUNS = "throughputs of static batches", "throughputs of in-flight batches"
ENERGY = "inflight_energy_per_output_token"
UTILISATION = "inflight_utilisation"
POWER = "inflight_power"
"""Kind of measurements of power and energy of servers."""
OF_POWER = (POWER, ENERGY)
"""Variables of the power at load, whose intervals end at the rated power."""
ASSUMED = {POWER: 0.35}
"""Half-widths of kinds that a calibration has no measurements of: power between 0.7 and 1.4 times
the prediction. It is assumed; of an H100, 300 W were measured where 355 W are predicted, and 600 W
where 516 W are (ML.ENERGY Benchmark 3.0). [1]"""
_POWER = (
    "From the errors of measured power that the calibration had not seen, or, where none was "
    f"measured, an assumed half-width of {ASSUMED[POWER]} of the logarithm. At most the "
    "rated power."
)
CALIBRATED: dict[str, Judged] = {
    "output_throughput": Judged(("static_batch",), "extrapolation", f"{_OWN}."),
    "output_throughput_per_gpu": Judged(
        ("static_batch",), "extrapolation", f"{_OWN}: {_STATIC}, of which it is a share."
    ),
    "output_throughput_per_user": Judged(
        ("static_batch",), "extrapolation", f"{_OWN}: {_STATIC}, of whose time it is the most."
    ),
    "prefill_latency": Judged(("first_token",), "ttft_extrapolation", _FIRST_TOKENS),
    "ttft": Judged(("first_token",), "ttft_extrapolation", _FIRST_TOKENS),
    "tpot": Judged(
        ("static_batch",), "extrapolation", f"{_OWN}: {_STATIC}, of whose time it is the most."
    ),
    "e2e_latency": Judged(
        ("static_batch",), "extrapolation", f"{_OWN}: {_STATIC}, of which it is the inverse."
    ),
    "inflight_output_throughput": Judged(("inflight",), "inflight_extrapolation", f"{_OWN}."),
    "inflight_output_throughput_per_gpu": Judged(
        ("inflight",),
        "inflight_extrapolation",
        f"{_OWN}: {_INFLIGHT_RUNS}, of which it is a share.",
    ),
    "inflight_output_throughput_per_user": Judged(
        ("inflight",),
        "inflight_extrapolation",
        f"{_OWN}: {_INFLIGHT_RUNS}, of whose time it is the most.",
    ),
    "inflight_ttft": Judged(
        ("inflight_ttft", "inflight", "first_token"),
        "inflight_extrapolation",
        f"{_OWN}: times to first token of clients, {_INFLIGHT_RUNS} or times to first token of "
        "static batches, whichever are larger.",
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
    **{
        name: Judged(
            ("inflight",),
            "inflight_extrapolation",
            f"{_OWN}: {_INFLIGHT_RUNS}, of whose time it is the most.",
        )
        for name in ("inflight_iteration_latency", "inflight_tpot_p99")
    },
    "max_request_rate": Judged(
        ("inflight",), "inflight_extrapolation", f"{_OWN}: {_INFLIGHT_RUNS}, in requests."
    ),
    UTILISATION: Judged(
        ("inflight",),
        "inflight_extrapolation",
        f"{_OWN}: {_INFLIGHT_RUNS}, of whose rate the highest one is; a server is not busier than "
        "all of the time unless requests arrive at a rate.",
    ),
    POWER: Judged((), "inflight_extrapolation", _POWER, POWER),
    ENERGY: Judged(
        ("inflight",),
        "inflight_extrapolation",
        f"{_OWN}: {_INFLIGHT_RUNS}, for whose time power is drawn. Power: {_POWER}",
        POWER,
    ),
    "inflight_prefill_time": Judged(
        ("inflight", "first_token"),
        "inflight_extrapolation",
        f"{_OWN}: {_INFLIGHT_RUNS} or times to first token of static batches, of clients where a "
        "calibration has none, whichever are larger.",
    ),
    "inflight_queue_time": Judged(
        ("inflight_ttft", "inflight", "first_token"),
        "inflight_extrapolation",
        f"{_OWN}: times to first token of clients, which it is most of, {_INFLIGHT_RUNS} or times "
        "to first token of static batches, whichever are larger; where requests arrive at a rate a "
        "server that is slower by as much also makes them wait longer for one another.",
    ),
    **{
        name: Judged(
            ("inflight_ttft", "inflight", "first_token"),
            "inflight_extrapolation",
            f"{_OWN}: means of times to first token of clients, {_INFLIGHT_RUNS} or times to first "
            "token of static batches, whichever are larger; waits as those of inflight_queue_time.",
        )
        for name in ("inflight_ttft_p50", "inflight_ttft_p90", "inflight_ttft_p99")
    },
}
"""Variables that a calibrated sweep gives an interval."""
OF_WAITS = (
    "inflight_ttft",
    "inflight_queue_time",
    "inflight_ttft_p50",
    "inflight_ttft_p90",
    "inflight_ttft_p99",
)
"""Those of them that a wait for other requests is part of."""
OF_RATES = ("inflight_output_throughput", "inflight_output_throughput_per_gpu")
"""Those of them that are what arrives, where a server keeps up with that."""
ENDS = ("lower", "upper")
