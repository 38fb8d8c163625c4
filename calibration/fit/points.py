"""Points of the kernel for measured rows: specifications are looked up, stacked, gathered."""

import dataclasses
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from calibration.measurements.table import Measurement
from sweep.engines.engine import Types
from sweep.engines.known import engine_of
from sweep.engines.traits import pooled_dtype
from sweep.errors import SpecError, SpecWarning
from sweep.evaluation.kernel_inputs import hardware_params, model_params, precision_params, stack
from sweep.grid.resolved import check_dtypes
from sweep.kernel.acceptance import acceptance_of
from sweep.kernel.block import Block, has_latent_cache, is_routed
from sweep.kernel.params import Point
from sweep.kernel.server import Server
from sweep.models.checkpoint import checkpoint
from sweep.models.read import read_model
from sweep.schema.axes import SERVER
from sweep.schema.terms import PARTS
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.precision import CHECKPOINT, PrecisionSpec

T = TypeVar("T")
UNSTATED = (
    *("reserved_osl", "kept_context", "gpu_memory_utilization", "mem_fraction_static"),
    *("scheduler", "concurrency"),
)
"""Settings of a server that most rows or all leave open."""
PARTICULARS = {
    "isl_cv": 0.0,
    "osl_cv": 0.0,
    "batch_wait": 0.0,
    "poll_interval": 1.0,
    "stream_interval": 1.0,
    "gpu_memory_utilization": 0.0,
    "mem_fraction_static": 0.0,
}
"""Particulars of requests and of a server that few rows state, and what others have; a kernel is
smaller without them."""
OF_THE_ENGINE = {"kv_cache_fraction": 0.0}
"""Settings of a server that are those of the engine where a row does not state them."""
ENDLESS = 1e9
"""Requests of a run that does not state them: so many that ramp and drain vanish. [count]"""
VARIABLES = {
    ("static_batch", "output_throughput"): "output_throughput",
    ("static_batch", "ttft"): "ttft",
    ("static_batch", "tpot"): "tpot",
    ("inflight", "output_throughput"): "inflight_output_throughput",
    ("inflight", "ttft"): "inflight_ttft",
    ("inflight", "tpot"): "inflight_tpot",
    ("inflight", "power"): "inflight_power",
    ("inflight", "energy_per_output_token"): "inflight_energy_per_output_token",
    ("first_token", "ttft"): "ttft",
}
"""Variable of the kernel for a scenario and metric."""


@dataclass(frozen=True)
class Group:
    """Rows that share a compiled kernel: one structure of model, in static batches or in flight.

    The variables of one run have most of their work in common, so that a kernel of all takes hardly
    longer to compile than that of one.

    Attributes:
        variables: Variables that the kernel computes.
        rows: Indices of the rows among all; all arrive at a rate, or none does. [count]
        point: Their points, with a leading axis over the rows.
        which: Index in `variables` of the figure of each row. [count]
    """

    variables: tuple[str, ...]
    rows: np.ndarray[Any, Any]
    point: Point
    which: np.ndarray[Any, Any]

    def asked(self, variable: str) -> "Group":
        """The group with one variable of all its rows."""
        return dataclasses.replace(
            self, variables=(variable,), which=np.zeros(len(self.rows), np.int32)
        )


LAYOUT_AXES = ("tp", "pp", "ep", "dp_attention", "dp")


@dataclass(frozen=True)
class Layout:
    """Layout of a row over its GPUs. [count]"""

    tp: int
    pp: int
    ep: int
    dp_attention: int
    dp: int


def layout_of(row: Measurement, blocks: tuple[Block, ...]) -> Layout:
    """The layout a row states; experts are spread over the GPUs of attention groups.

    Raises:
        SpecError: num_gpus is no multiple of the GPUs of one replica.
    """
    groups = row.dp_attention or 1
    spread = row.tp * groups if groups > 1 and is_routed(blocks) else 1
    replica = row.replica_gpus
    gpus = row.num_gpus or replica
    if gpus % replica:
        raise SpecError(
            f"{row.id}: num_gpus: {gpus} is no multiple of "
            f"tp {row.tp} · pp {row.pp} · dp_attention {groups}"
        )
    return Layout(row.tp, row.pp, row.ep or spread, groups, gpus // replica)


def warn_of_layouts(rows: Sequence[Measurement], routed: Mapping[str, bool]) -> None:
    """Warn once of rows whose engine is usually run with attention groups that they do not state.

    Args:
        rows: The rows.
        routed: Whether each model is a mixture of experts.
    """
    silent = [row for row in rows if row.dp_attention is None and row.tp > 1]
    unusual = [
        row.id
        for row in silent
        if engine_of(row.engine).attention_groups(
            row.engine_version, row.tp, routed=routed[row.model]
        )
        > 1
    ]
    if unusual:
        warnings.warn(
            f"{unusual[0]}: dp_attention is not stated and counts as 1, in {len(unusual)} rows; "
            "published runs of this engine use one attention group per GPU: tp 1, "
            "dp_attention = the GPUs of a stage",
            SpecWarning,
            stacklevel=2,
        )


def recipe_of(row: Measurement, catalog: Catalog) -> PrecisionSpec:
    """The precision recipe a row states by name or by its three types.

    Raises:
        SpecError: The recipe is unknown, or nothing computes in its types.
    """
    if row.precision == CHECKPOINT.name:
        return _agreeing(row, checkpoint(catalog.model(row.model)).recipe)
    if row.precision is not None:
        return _agreeing(row, catalog.precision(row.precision))
    types = Types(row.weight_dtype, row.activation_dtype, row.kv_dtype)
    latent = has_latent_cache(read_model(catalog.model(row.model)))
    return engine_of(row.engine).recipe(types, latent=latent)


def _agreeing(row: Measurement, recipe: PrecisionSpec) -> PrecisionSpec:
    """The recipe that a row names, unless its types contradict it.

    Raises:
        SpecError: They do.
    """
    # The head is in 16 bits in most recipes, whatever they are called.
    linear = [recipe.part(part) for part in PARTS if part != "head"]
    of_recipe = {
        "weight_dtype": {part.weight_dtype for part in linear},
        "activation_dtype": {part.activation_dtype for part in linear},
        "kv_dtype": {recipe.kv_dtype},
    }
    for column, dtypes in of_recipe.items():
        stated = getattr(row, column) if column in row.model_fields_set else None
        if stated is not None and pooled_dtype(stated) not in set(map(pooled_dtype, dtypes)):
            raise SpecError(
                f"{column}: {stated} contradicts the precision {row.precision}, which has "
                f"{' and '.join(sorted(dtypes))}; keep one of them"
            )
    return recipe


def observe(rows: Sequence[Measurement], catalog: Catalog) -> list[Group]:
    """The points of `rows`, in groups that share a kernel.

    Raises:
        SpecError: The catalog lacks a name, or a layout or recipe is impossible.
    """
    served: dict[tuple[str, str], tuple[Block, ...]] = {}
    for row in rows:
        if _served(row) not in served:
            spec = engine_of(row.engine).as_run(named(row, catalog.model, row.model))
            served[_served(row)] = read_model(spec)
    structures = {key: jax.tree.structure(model_params(blocks)) for key, blocks in served.items()}
    members: dict[Any, list[int]] = {}
    for index, row in enumerate(rows):
        drafts = row.draft_tokens is not None
        key = row.scenario == "inflight", structures[_served(row)], arrives(row), drafts
        members.setdefault(key, []).append(index)
    return [
        _group(np.asarray(indices), [rows[i] for i in indices], served, catalog)
        for indices in members.values()
    ]


def _group(
    indices: np.ndarray[Any, Any],
    rows: Sequence[Measurement],
    served: Mapping[tuple[str, str], tuple[Block, ...]],
    catalog: Catalog,
) -> Group:
    figures = [VARIABLES[row.scenario, row.metric] for row in rows]
    variables = tuple(sorted(set(figures)))
    which = np.asarray([variables.index(name) for name in figures], np.int32)
    return Group(variables, indices, _points(rows, served, catalog), which)


def _served(row: Measurement) -> tuple[str, str]:
    """Engine and model: engines run the same model in different ways."""
    return row.engine, row.model


def _points(
    rows: Sequence[Measurement],
    served: Mapping[tuple[str, str], tuple[Block, ...]],
    catalog: Catalog,
) -> Point:
    layouts = [layout_of(row, served[_served(row)]) for row in rows]
    recipes = recipes_of(rows, catalog)
    machines = machines_of(rows, catalog)
    pairs = list(zip(machines, recipes, strict=True))
    each(rows, [(m.name, r.name) for m, r in pairs], lambda index: check_dtypes(*pairs[index]))

    def given(name: str, default: float) -> np.ndarray[Any, Any]:
        values = [getattr(row, name) for row in rows]
        return np.asarray([default if value is None else value for value in values], np.float64)

    server = Server()
    settings = (*SERVER, "num_requests", "concurrency")
    numbers: dict[str, Any] = {
        **{axis: np.asarray([getattr(at, axis) for at in layouts], float) for axis in LAYOUT_AXES},
        "expert_imbalance": np.ones(len(rows)),
        "reserved_osl": np.full(len(rows), float(server.reserved_osl)),
        **{
            name: given(name, OF_THE_ENGINE.get(name, float(getattr(server, name, ENDLESS))))
            for name in settings
            if name not in UNSTATED
        },
        "concurrency": np.asarray([float(_clients(row)) for row in rows]),
        **{name: given(name, 1) for name in ("batch_size", "isl", "osl")},
    }
    for name, usual in PARTICULARS.items():
        if any(getattr(row, name) is not None for row in rows):
            numbers[name] = given(name, usual)
    if arrives(rows[0]):
        del numbers["num_requests"], numbers["concurrency"]
        # Each replica gets its share of the requests.
        numbers["request_rate"] = given("request_rate", 1) / numbers["dp"]
        numbers["burstiness"] = given("burstiness", 1)
    if rows[0].draft_tokens is not None:
        numbers["draft_tokens"] = given("draft_tokens", 0)
        numbers["acceptance_rate"] = _accepted(rows)
    return Point(
        model=_gather(
            [_served(row) for row in rows],
            lambda key: model_params(served[key], drafts="draft_tokens" in numbers),
        ),
        hardware=_gather(machines, hardware_params),
        precision=_gather(recipes, precision_params),
        **numbers,
    )


def _accepted(rows: Sequence[Measurement]) -> np.ndarray[Any, Any]:
    """Probability that a drafted token is accepted, as stated or from the length. [1]"""
    with jax.enable_x64(True):
        return np.asarray(
            [
                row.acceptance_rate
                if row.acceptance_length is None
                else float(acceptance_of(float(row.draft_tokens or 0), row.acceptance_length))
                for row in rows
            ],
            np.float64,
        )


def arrives(row: Measurement) -> bool:
    """Whether requests arrive at a rate, in place of clients that wait for answers."""
    return row.request_rate is not None


def _clients(row: Measurement) -> float:
    """Requests kept open: all of a run that states no limit, as many as fit if it has no end."""
    stated = row.num_requests if row.concurrency is None else row.concurrency
    return np.inf if stated is None else stated


def _gather(keys: Sequence[Any], params: Any) -> Any:
    """Parameters of each row, computed once for each specification that differs."""
    indices: dict[Any, int] = {}
    order: list[int] = []
    distinct: list[Any] = []
    for key in keys:
        # Specifications are not hashable; rows of one key share one object.
        known = key if isinstance(key, tuple) else id(key)
        if known not in indices:
            indices[known] = len(distinct)
            distinct.append(params(key))
        order.append(indices[known])
    stacked = stack(distinct, np.float64)
    return jax.tree.map(lambda leaf: leaf[np.asarray(order)], stacked)


def machines_of(rows: Sequence[Measurement], catalog: Catalog) -> list[HardwareSpec]:
    """The accelerator of every row.

    Raises:
        SpecError: The catalog lacks one; the message names the first such row.
    """
    names = [row.hardware for row in rows]
    return each(rows, names, lambda index: catalog.hardware(names[index]))


def recipes_of(rows: Sequence[Measurement], catalog: Catalog) -> list[PrecisionSpec]:
    """The precision recipe of every row.

    Raises:
        SpecError: A row states an impossible one; the message names the first such row.
    """
    keys = [
        (
            *(r.engine, r.model, r.precision, r.weight_dtype, r.activation_dtype, r.kv_dtype),
            "weight_dtype" in r.model_fields_set,
        )
        for r in rows
    ]
    return each(rows, keys, lambda index: recipe_of(rows[index], catalog))


def each(
    rows: Sequence[Measurement], keys: Sequence[Hashable], find: Callable[[int], T]
) -> list[T]:
    """Results of `find` for the index of each row, called once for all rows of one key.

    Raises:
        SpecError: `find` raised one; the message names the row.
    """
    known: dict[Hashable, T] = {}
    for index, key in enumerate(keys):
        if key not in known:
            known[key] = named(rows[index], find, index)
    return [known[key] for key in keys]


def named(row: Measurement, find: Callable[..., T], *arguments: Any) -> T:
    """Result of `find(*arguments)`, with errors that name the row.

    Raises:
        SpecError: `find` raised one.
    """
    try:
        return find(*arguments)
    except SpecError as error:
        raise SpecError(f"{row.id}: {error}") from None
