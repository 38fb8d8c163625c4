"""Servers that more requests reach than they hold, read from a result."""

import xarray as xr

from sweep.schema.terms import OVERLOADS

FLAG = "inflight_overload"
OVERLOADED = OVERLOADS["clients_exceed_capacity"] | OVERLOADS["arrivals_exceed_capacity"]
"""Bits of a server at which requests wait for a slot."""
HOLDING = ("inflight_concurrency", "max_concurrency")
"""Variables that limit the requests that a server holds. [count]"""
ROUNDED = 1e-5
"""Error of a count of requests that rounding explains. [1]"""


def is_of_server(variable: str) -> bool:
    """Whether a variable is that of a server with in-flight batching."""
    return variable.startswith("inflight_")


def feasible_of(variable: str) -> str:
    """Name of the flag of cells that can run, for a variable of a server or of a static batch."""
    return "inflight_feasible" if is_of_server(variable) else "feasible"


def overload(dataset: xr.Dataset) -> xr.DataArray | None:
    """Cells in which requests wait for a slot of a server, or `None` if a result does not say.

    A result without `inflight_overload` says so if it has a number of clients and the requests
    that are held or fit, or a rate and how busy the server is.
    """
    if FLAG in dataset:
        return (dataset[FLAG].fillna(0).astype("int8") & OVERLOADED) != 0
    if "concurrency" in dataset.dims:
        for name in HOLDING:
            if name in dataset:
                return dataset["concurrency"] > dataset[name] * (1 + ROUNDED)
    if "request_rate" in dataset.dims and "inflight_utilisation" in dataset:
        return dataset["inflight_utilisation"] >= 1
    return None
