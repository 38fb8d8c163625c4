"""The questions of the command line as functions that return frames and Datasets."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sweep.decisions import compare as comparing
from sweep.decisions import explain as explaining
from sweep.decisions import recommend_notes, recommend_text
from sweep.decisions.choice import Choice, calibrations_of
from sweep.decisions.deployments import WORKLOAD_AXES, Offer
from sweep.decisions.explain_text import title
from sweep.decisions.operator_breakdown import SPENT
from sweep.decisions.recommend import By, Demand, Limits
from sweep.engines.calibration_file import Calibration, calibration_of
from sweep.errors import GridError, SpecError
from sweep.runs.open_results import open_results
from sweep.schema.axes import SERVER
from sweep.schema.variables import VARIABLES
from sweep.specs.catalog import Catalog, current_catalog
from sweep.specs.parsing import nearest, short

Names = str | Sequence[str]
Counts = int | Sequence[int]
COUNTED = ("isl", "osl", "concurrency", "replicas", "num_requests", "max_gpus")
"""Arguments of `recommend` that are whole numbers."""


def recommend(
    model: str | None = None,
    *,
    isl: int | None = None,
    osl: int | None = None,
    hardware: Names = (),
    precision: Names = (),
    tp: Counts = (),
    pp: Counts = (),
    dp_attention: Counts = (),
    ep: Counts = (),
    concurrency: int | None = None,
    requests_per_s: float | None = None,
    request_rate: float | None = None,
    burstiness: float | None = None,
    num_requests: int | None = None,
    replicas: int | None = None,
    max_ttft: float | None = None,
    max_tpot: float | None = None,
    max_price_per_hour: float | None = None,
    max_gpus: int | None = None,
    max_ttft_p99: float | None = None,
    max_tpot_p99: float | None = None,
    by: By = "gpu",
    prices: Mapping[str, float] | None = None,
    results: xr.Dataset | str | Path | None = None,
    calibration: Calibration | str | Path | None = None,
    every_layout: bool = False,
    draft_model: str | None = None,
    catalog: Catalog | None = None,
    **axes: Any,
) -> pd.DataFrame:
    """Rank deployments of a model under limits, as `llm-sweep recommend` does.

    Args:
        model: Name, Hugging Face identifier, or path of a config.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        hardware: Accelerators to consider; all with solid figures if empty.
        precision: Precision recipes; the usual of the model if empty.
        tp: Tensor-parallel widths; powers of two within a machine if empty. [count]
        pp: Pipeline stages; powers of two within a machine if empty. [count]
        dp_attention: Attention groups; powers of two within a machine, for models with experts, if
            empty. [count]
        ep: GPUs that whole experts are spread over; 1 if empty. [count]
        concurrency: Requests that all replicas hold together; as many at one replica as is best if
            not given. [count]
        requests_per_s: Requests that all replicas must serve together, evenly spread. [s-1]
        request_rate: Requests that arrive at all replicas together, at random times: rows then
            have their `utilisation`, `wait` and the percentiles of `ttft`, and `throughput` is the
            highest of a replica within the limits on latency. [s-1]
        burstiness: Shape of the gamma distribution of gaps between them; 1 if not given. [1]
        num_requests: Requests of a run that all replicas together get at once: rows then have its
            `duration`, and `ttft` is the mean over the run. [count]
        replicas: Replicas that share the load; chosen if not given. [count]
        max_ttft: Longest time to first token. [s]
        max_tpot: Longest time per output token. [s]
        max_price_per_hour: Highest price of all accelerators. [USD]
        max_gpus: Largest number of accelerators. [count]
        max_ttft_p99: Longest time to first token that 99 % of the requests stay below. [s]
        max_tpot_p99: Longest time between output tokens that 99 % of them stay below. [s]
        by: Divisor of the throughput in the ranking.
        prices: Hourly prices of one accelerator. [USD]
        results: Result, or its file, to choose from instead of a new sweep.
        calibration: A calibration, its name or its file; if not given `tensorrt-llm`, and for
            accelerators on which its engine does not run that of another engine.
        every_layout: Whether to rank every layout, not only the best of each accelerator.
        draft_model: The model that drafts tokens; a layer of the model's kind if not given.
        catalog: Where names are looked up; the user's and the shipped configs by default.
        axes: One value of another axis of a `Grid` for requests or the server, such as
            `isl_cv=0.5` or `max_batch_size=64`, or several of `draft_tokens`.

    Returns:
        One row per rank, best first, in SI units; empty if no deployment meets the limits. Its
        `attrs` have the `answer` in a sentence, the `notes`, the `calibration` and the rows of the
        Pareto `front` as dictionaries.

    Raises:
        SpecError: A name is unknown, an argument is missing, or a number is not above 0.
        ResultError: `results` lacks what is needed.
    """
    found_in = catalog or current_catalog()
    if results is not None and calibration is not None:
        raise SpecError("calibration: the results have their own; leave it out")
    limits = Limits(max_ttft, max_tpot, max_price_per_hour, max_gpus, max_ttft_p99, max_tpot_p99)
    demand = Demand(
        limits,
        by,
        concurrency=concurrency,
        requests_per_s=requests_per_s,
        replicas=replicas,
        request_rate=request_rate,
        burstiness=burstiness,
        num_requests=num_requests,
    )
    _check_numbers({"isl": isl, "osl": osl, **vars(limits), **vars(demand)})
    _check_load(demand, swept=results is None)
    choice = Choice(
        model,
        isl,
        osl,
        Offer(_names(hardware), _names(precision), *map(_counts, (tp, pp, dp_attention, ep))),
        demand,
        prices=prices or {},
        requests_axes=_further(axes, swept=results is None),
        draft_model=draft_model,
        every_layout=every_layout,
    )
    if results is not None:
        found = choice.from_results(_opened(results), found_in)
    else:
        found = choice.by_sweep(found_in, *calibrations_of(calibration))
    frame = found.ranked.copy()
    frame.attrs = {
        "answer": recommend_text.sentence(found),
        "notes": recommend_notes.notes(found),
        "calibration": found.deployments.calibration,
        "front": found.front.to_dict("records"),
    }
    return frame


def _further(axes: Mapping[str, Any], *, swept: bool) -> dict[str, list[Any]]:
    """Values of axes of requests and of servers, as a `Choice` takes them.

    Raises:
        SpecError: One is no such axis or has several values, or the results have their own.
    """
    known = (*SERVER, *WORKLOAD_AXES, "draft_tokens")
    found = {axis: explaining.listed(value) for axis, value in axes.items() if value is not None}
    for axis, values in found.items():
        if axis not in known:
            guess = nearest(axis, list(known)) or f"; known: {', '.join(known)}"
            raise SpecError(f"recommend has no argument {axis!r}{guess}")
        if not swept:
            raise SpecError(f"{axis}: the results have their own; leave it out")
        if len(values) != 1 and axis != "draft_tokens":
            raise SpecError(f"{axis}: give one value, not {len(values)}")
    return found


def _check_numbers(given: Mapping[str, Any]) -> None:
    """Check the numbers that are given; only a limit may be infinite.

    Raises:
        SpecError: One is not above 0, or a count is not whole.
    """
    for name, value in given.items():
        if value is None or name in ("limits", "by"):
            continue
        is_number = isinstance(value, int | float | np.number) and value > 0
        endless = is_number and value == np.inf and not name.startswith("max_")
        if not is_number or endless or (name in COUNTED and value % 1):
            kind = "an integer" if name in COUNTED else "a number"
            raise SpecError(f"{name}: must be {kind} above 0, and {short(value)} is not")


def _check_load(demand: Demand, *, swept: bool) -> None:
    """Check arrivals at a rate, and a run.

    Raises:
        SpecError: Another load or a result is given too.
    """
    if demand.num_requests is not None:
        loads = ("concurrency", "requests_per_s", "request_rate")
        given = [name for name in loads if getattr(demand, name) is not None]
        if given or not swept:
            raise SpecError(
                f"num_requests: sends all of a run at once; leave {(given or ['results'])[0]} out"
            )
    if demand.request_rate is None:
        if demand.burstiness is not None:
            raise SpecError("burstiness: is of arrivals; give request_rate too")
        return
    others = {"concurrency": demand.concurrency, "requests_per_s": demand.requests_per_s}
    given = [name for name, value in others.items() if value is not None]
    if given or not swept:
        raise SpecError(
            f"request_rate: given with {(given or ['results'])[0]}, a load or source of its own; "
            "keep one of them"
        )


def explain(
    model: str,
    hardware: str,
    *,
    isl: int,
    osl: int,
    batch_size: int | None = None,
    concurrency: int | None = None,
    request_rate: float | None = None,
    num_requests: int | None = None,
    precision: str | None = None,
    calibration: Calibration | str | Path | None = None,
    catalog: Catalog | None = None,
    **axes: Any,
) -> xr.Dataset:
    """Break a static batch or a server down by operator, as `llm-sweep explain` does.

    Args:
        model: Name, Hugging Face identifier, or path of a config.
        hardware: Name of an accelerator, or path of a specification.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        batch_size: Sequences decoded together, for a static batch. [count]
        concurrency: Requests that clients keep open at a replica, for a server. [count]
        request_rate: Requests that arrive at it in a second, for a server without such clients.
            [s-1]
        num_requests: Requests of a run of it, all sent at once unless `concurrency` is given.
            [count]
        precision: Precision recipe; the usual of the model if not given.
        calibration: A calibration, its name or its file; bounds if not given.
        catalog: Where names are looked up; the user's and the shipped configs by default.
        axes: One value of any other axis of a `Grid`, such as `tp=4` or `max_ttft_p99=0.5`.

    Returns:
        Over `phase` (`prefill` and `decode_step`, or iterations of a server) and `operator`:
        `latency` by what it is spent on, `flops`, `memory_traffic`, `network_traffic` and `bound`;
        over `quantity` and `resource` the
        `elasticity`; and one number for each of the figures and kinds of memory of
        `sweep.decisions.explain.Explanation`. The attribute `title` says which cell it is,
        `reasons` why it cannot run, `notes` further doubts.

    Raises:
        SpecError: A name is unknown.
        GridError: An axis has several values, or one is missing.
    """
    loads = {
        "batch_size": batch_size,
        "concurrency": concurrency,
        "request_rate": request_rate,
        "num_requests": num_requests,
    }
    given = {axis: value for axis, value in loads.items() if value is not None}
    if not given or {"batch_size", "concurrency"} <= given.keys():
        raise GridError(
            "explain takes batch_size for a static batch, or concurrency, request_rate or "
            "num_requests for a server"
        )
    factors, draft_model = calibration_of(calibration), axes.pop("draft_model", None)
    grid = explaining.grid_of_cell(
        model,
        hardware,
        {**given, "isl": isl, "osl": osl, **axes},
        precision=precision,
        draft_model=draft_model,
        calibration=factors,
    )
    found = explaining.explain(grid, catalog=catalog or current_catalog(), calibration=factors)
    return _as_dataset(found)


def compare(
    results: xr.Dataset | str | Path,
    first: Any,
    second: Any,
    *,
    along: str = "hardware",
    model: Names = (),
    variable: str | None = None,
    **chosen: Any,
) -> xr.Dataset:
    """Compare two accelerators, or two values of another axis, as `llm-sweep compare` does.

    Args:
        results: A result, or its file.
        first: The one that is ahead where the ratio is above 1.
        second: The other.
        along: The axis that has both.
        model: Models; all of the result if empty.
        variable: Quantity; the latency of a decode step by both methods if not given.
        chosen: Values of axes that do not vary in the answer, such as `tp=4`.

    Returns:
        The ratio of each variable over `model` and two axes, usually a load and a length; NaN where
        one of the two cannot run. The attribute `answer` of a variable has one sentence per model.

    Raises:
        ResultError: The result lacks a value or variable, or varies over too many axes.
    """
    found = comparing.compare_each(
        _opened(results),
        (first, second),
        models=_names(model),
        variable=variable,
        chosen=chosen,
        along=along,
    )
    pair = found[0][0].hardware
    ratios = {}
    for each in zip(*found, strict=True):
        name, models = each[0].variable, [c.model for c in each]
        ratio = xr.concat([c.ratio for c in each], xr.IndexVariable("model", models))
        ratio.attrs = {
            "long_name": f"{pair[0]} against {pair[1]}: {VARIABLES[name].long_name}",
            "units": "1",
            "answer": [c.sentence() for c in each],
        }
        ratios[name] = ratio
    return xr.Dataset(ratios)


def _as_dataset(found: explaining.Explanation) -> xr.Dataset:
    operators = list(dict.fromkeys(part.operator for p in found.phases for part in p.parts))
    indices = {name: index for index, name in enumerate(operators)}
    shape = len(found.phases), len(operators)
    seconds = np.zeros((*shape, len(SPENT)))
    amounts = {name: np.zeros(shape) for name in ("flops", "memory_bytes", "network_bytes")}
    bound = np.full(shape, "", dtype=object)
    for row, phase in enumerate(found.phases):
        for part in phase.parts:
            at = row, indices[part.operator]
            seconds[at] = [part.seconds[spent] for spent in SPENT]
            bound[at] = part.limit
            for name, amount in amounts.items():
                amount[at] = getattr(part, name)
    over = ("phase", "operator")
    variables: dict[str, Any] = {
        "latency": ((*over, "spent"), seconds, {"units": "s"}),
        "flops": (over, amounts["flops"], {"units": "count"}),
        "memory_traffic": (over, amounts["memory_bytes"], {"units": "byte"}),
        "network_traffic": (over, amounts["network_bytes"], {"units": "byte"}),
        "bound": (over, bound.astype(str)),
        "tokens": ("phase", [phase.tokens for phase in found.phases], {"units": "count"}),
    }
    if found.elasticities:
        quantities = list(found.elasticities)
        resources = list(found.elasticities[quantities[0]])
        table = [[found.elasticities[q][r] for r in resources] for q in quantities]
        variables["elasticity"] = (("quantity", "resource"), table, {"units": "1"})
    for name, value in found.figures.items():
        variables[name] = ((), value, {"units": VARIABLES[name].units})
    for name, ends in found.intervals.items():
        for end, value in zip(("lower", "upper"), ends, strict=True):
            variables[f"{name}_{end}"] = ((), value, {"units": VARIABLES[name].units})
    for name, value in found.memory.items():
        known = name if name.endswith(("memory", "required")) else f"{name}_memory"
        variables[known] = ((), value, {"units": "byte"})
    labels: dict[str, Any] = {
        "phase": [phase.name for phase in found.phases],
        "operator": operators,
        "spent": list(SPENT),
    }
    if found.elasticities:
        labels |= {"quantity": quantities, "resource": resources}
    attributes = {
        "title": title(found),
        "calibration": found.calibration,
        "reasons": ", ".join(found.reasons),
        "extrapolation": ", ".join(found.flags),
        "notes": "; ".join(found.notes),
    }
    return xr.Dataset(variables, labels, attributes)


def _opened(results: xr.Dataset | str | Path) -> xr.Dataset:
    return results if isinstance(results, xr.Dataset) else open_results(results)


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _counts(given: Counts) -> tuple[int, ...]:
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
