"""Settings of the runs of InferenceX that its tables do not state, from its scripts [1].

All send ten prompts for each client at once and keep their number open. Lengths are uniform in 0.8
to 1.0 of the nominal, and rows have the means. Some servers of TensorRT-LLM hold prompts back for
others; those of SGLang look for new requests after ten or thirty decode steps, send as many tokens
at once, and state their share of the memory.

References:
    [1] SemiAnalysis, InferenceX, github.com/SemiAnalysisAI/InferenceX, `benchmarks/`:
        70b_fp8_b200_trt_slurm.sh, dsr1_fp4_b200_trt.sh, dsr1_fp8_b200_trt.sh,
        dsr1_fp8_h200_trt.sh, gptoss_fp4_b200_trt.sh, dsr1_fp4_b200.sh, dsr1_fp8_b200.sh,
        dsr1_fp8_h200.sh; on B300 as on B200.
"""

from math import sqrt

from calibration.measurements.measurement import Measurement

NAME = "inferencex"
"""Note of a row whose benchmark it is."""
WAVES = 10
"""Prompts of a run over its clients. [count]"""
LOWEST = 0.8
"""Shortest length over the nominal, which is the longest. [1]"""
VARIATION = (1 - LOWEST) / sqrt(12) / ((1 + LOWEST) / 2)
"""Coefficient of variation of the lengths. [1]"""
SHORT = (900, 1024)
"""Mean tokens of lengths that are called 1k. [count]"""
FEW = 16
"""Clients from which SGLang looks less often for new requests. [count]"""


def settings_of_run(row: Measurement) -> dict[str, float]:
    """Values of the columns that the scripts set, of the run of a row."""
    found: dict[str, float] = {"num_requests": WAVES * (row.concurrency or 1)}
    found |= {"isl_cv": round(VARIATION, 4), "osl_cv": round(VARIATION, 4)}
    if row.engine == "tensorrt-llm":
        return found | _of_tensorrt_llm(row)
    if row.engine == "sglang":
        return found | _of_sglang(row)
    return found


def _of_sglang(row: Measurement) -> dict[str, float]:
    """Settings of SGLang."""
    found: dict[str, float] = {}
    if row.model.startswith("deepseek"):
        found["mem_fraction_static"] = _static_share(row)
    found["stream_interval"] = 30 if row.weight_dtype == "fp8" and _later(row) else 10
    if not row.hardware.startswith("b"):
        return found
    often = (row.concurrency or 1) < FEW or (row.tp == 4 and row.weight_dtype == "fp8")
    return found | {"poll_interval": 10 if often else 30}


def _static_share(row: Measurement) -> float:
    """Share of the memory of SGLang's servers: all but the activations where weights fill it."""
    if row.weight_dtype != "fp8":
        return 0.85
    return 0.95 if row.tp == 4 else 0.82


def _later(row: Measurement) -> bool:
    """Whether a run is of scripts that send 30 tokens at once: with a date, or on B300."""
    return row.id.startswith("20") or row.hardware.startswith("b300")


def _of_tensorrt_llm(row: Measurement) -> dict[str, float]:
    chat = all(SHORT[0] <= length <= SHORT[1] for length in (row.isl, row.osl))
    clients, groups = row.concurrency or 1, row.dp_attention or 1
    if row.model.startswith("llama"):
        return {"batch_wait": 20} if chat and row.tp < 8 else {}
    if row.model.startswith("gpt-oss"):
        waits = {"batch_wait": 50} if groups > 1 else {}
        return {"kv_cache_fraction": 0.85} | waits
    if not row.model.startswith("deepseek"):
        return {}
    share = 0.75 if row.hardware.startswith("h") else 0.8
    if groups > 1:
        return {"kv_cache_fraction": share, "batch_wait": 60}
    if chat and row.weight_dtype == "fp8" and row.hardware.startswith("b") and clients >= 64:
        return {"kv_cache_fraction": share, "batch_wait": 40}
    return {"kv_cache_fraction": share}


def as_run(row: Measurement) -> Measurement:
    """The row with the settings of its run where it leaves them open, if it is of InferenceX."""
    if row.note != NAME:
        return row
    left = {name: v for name, v in settings_of_run(row).items() if getattr(row, name) is None}
    return row.model_copy(update=left)
