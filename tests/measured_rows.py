"""A measured row of a server, for tests of fits and of their intervals."""

from calibration.measurements.table import Measurement


def row(**changes: object) -> Measurement:
    """An in-flight row with other values in some columns."""
    given = {
        "engine": "tensorrt-llm",
        "engine_version": "1.0.0",
        "scenario": "inflight",
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "isl": 1000,
        "osl": 1000,
        "metric": "output_throughput",
    }
    return Measurement(**(given | changes))
