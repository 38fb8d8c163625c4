"""From measured rows to points of the kernel: specifications looked up, stacked, gathered."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

from calibration.measurements.table import Measurement
from sweep.engines.traits import version_of
from sweep.errors import SpecError
from sweep.evaluation.kernel_inputs import hardware_params, model_params, precision_params, stack
from sweep.grid.resolved import check_dtypes
from sweep.kernel.block import Block, is_routed
from sweep.kernel.params import Point, Server
from sweep.models.read import read_blocks
from sweep.schema.axes import SERVER
from sweep.specs.catalog import Catalog
from sweep.specs.dtypes import DTYPE_BYTES
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import LinearSpec, PrecisionSpec

T = TypeVar("T")
ENDLESS = 1e9
"""Requests of a run whose number is not stated: its ends weigh nothing. [count]"""
BLOCK_FORMAT = {"fp4": "nvfp4"}
"""What a table means by a 4-bit float: without scales nobody publishes one."""
HALF = {"fp16": "half", "bf16": "half"}
VARIABLES = {
    ("static_batch", "output_throughput"): "output_throughput",
    ("static_batch", "ttft"): "ttft",
    ("static_batch", "tpot"): "tpot",
    ("inflight", "output_throughput"): "inflight_output_throughput",
    ("inflight", "ttft"): "inflight_ttft",
    ("inflight", "tpot"): "inflight_tpot",
    ("first_token", "ttft"): "ttft",
}
"""What the kernel calls a scenario's metric."""


@dataclass(frozen=True)
class Group:
    """Rows that share a compiled kernel: one structure of model, one variable.

    Attributes:
        variable: What the kernel computes for them.
        rows: Their places among all rows. [count]
        point: Their points, with a leading axis.
    """

    variable: str
    rows: np.ndarray[Any, Any]
    point: Point


LAYOUT_AXES = ("tp", "pp", "ep", "dp_attention", "dp")


@dataclass(frozen=True)
class Layout:
    """Where a row's GPUs stand. [count]"""

    tp: int
    pp: int
    ep: int
    dp_attention: int
    dp: int


def layout_of(row: Measurement, blocks: tuple[Block, ...]) -> Layout:
    """The layout a row states, completed as its engine has it.

    TensorRT-LLM runs mixtures of experts attention data-parallel from version 1.0 on, by the
    options its published figures were measured with, and spreads the experts over the same GPUs.
    Other rows are tensor-parallel in all their layers.

    Raises:
        SpecError: num_gpus is no multiple of what one replica takes.
    """
    routed = is_routed(blocks)
    groups = row.attention_dp
    if groups is None:
        modern = row.engine == "tensorrt-llm" and version_of(row.engine_version) >= (1, 0)
        groups = row.tp if routed and modern else 1
    spread = row.tp if groups > 1 and routed else 1
    replica = row.tp * row.pp
    gpus = row.num_gpus or replica
    if gpus % replica:
        raise SpecError(f"{row.id}: num_gpus: {gpus} is no multiple of tp {row.tp} · pp {row.pp}")
    return Layout(
        tp=row.tp // groups,
        pp=row.pp,
        ep=row.ep or spread,
        dp_attention=groups,
        dp=gpus // replica,
    )


def recipe_of(row: Measurement, catalog: Catalog) -> PrecisionSpec:
    """The precision recipe a row states by name or by its three types.

    Raises:
        SpecError: The recipe is unknown, or nothing computes in its types.
    """
    if row.precision is not None:
        return catalog.precision(row.precision)
    types = row.weight_dtype, row.activation_dtype, row.kv_dtype
    return _recipe(*types, keeps_attention="deepseek" in row.model)


@lru_cache(maxsize=256)
def _recipe(
    weight: str, activation: str | None, kv: str | None, *, keeps_attention: bool
) -> PrecisionSpec:
    """The recipe of three types; head, hidden state and attention stay in 16 bits.

    4-bit checkpoints of DeepSeek models keep the projections around attention in 16 bits.
    """
    weight = BLOCK_FORMAT.get(weight, weight)
    activation = BLOCK_FORMAT.get(activation or "", activation) or weight
    hidden = activation if DTYPE_BYTES[activation] >= 2 else "half"
    narrow = DTYPE_BYTES[activation] < 2
    four_bits = DTYPE_BYTES[weight] < 1
    half = LinearSpec(weight_dtype="half", activation_dtype="half")
    group = {"weight_group_size": 128, "weight_scale_bytes": 2.0} if weight == "int4" else {}
    fields: dict[str, Any] = {
        "name": f"{weight}-{activation}-{kv or 'default'}",
        "weight_dtype": weight,
        "activation_dtype": activation,
        "hidden_dtype": hidden,
        "kv_dtype": kv or ("fp8" if narrow else hidden),
        "head_dtype": hidden,
        "attention": half if keeps_attention and four_bits and narrow else None,
        **group,
    }
    return PrecisionSpec(**fields)


def observe(rows: Sequence[Measurement], catalog: Catalog) -> list[Group]:
    """The points of `rows`, in groups that share a kernel.

    Raises:
        SpecError: A row names what the catalog lacks, or a layout or recipe that cannot be.
    """
    models: dict[str, tuple[ModelSpec, tuple[Block, ...]]] = {}
    for row in rows:
        if row.model not in models:
            spec = _as_run(row, named(row, catalog.model, row.model))
            models[row.model] = spec, read_blocks(spec.config, spec.where)
    structures = {
        name: jax.tree.structure(model_params(blocks)) for name, (_, blocks) in models.items()
    }
    members: dict[Any, list[int]] = {}
    for place, row in enumerate(rows):
        key = VARIABLES[row.scenario, row.metric], structures[row.model]
        members.setdefault(key, []).append(place)
    return [
        Group(key[0], np.asarray(places), _points([rows[i] for i in places], models, catalog))
        for key, places in members.items()
    ]


def _as_run(row: Measurement, spec: ModelSpec) -> ModelSpec:
    """The model as the row's engine runs it.

    TensorRT-LLM attends to the whole context in models with one sliding window for all layers,
    unless a run asks for the window.
    """
    if row.engine != "tensorrt-llm" or spec.family not in ("mistral", "mixtral"):
        return spec
    return spec.model_copy(update={"config": {**spec.config, "sliding_window": None}})


def _points(
    rows: Sequence[Measurement],
    models: dict[str, tuple[ModelSpec, tuple[Block, ...]]],
    catalog: Catalog,
) -> Point:
    layouts = [layout_of(row, models[row.model][1]) for row in rows]
    recipes = recipes_of(rows, catalog)
    machines = machines_of(rows, catalog)
    pairs = list(zip(machines, recipes, strict=True))
    each(rows, [(m.name, r.name) for m, r in pairs], lambda place: check_dtypes(*pairs[place]))

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
            name: given(name, float(getattr(server, name, ENDLESS)))
            for name in settings
            if name != "reserved_osl"
        },
        **{name: given(name, 1) for name in ("batch_size", "isl", "osl")},
    }
    empty: dict[str, Any] = dict.fromkeys(numbers, 0.0)
    scalar = Point(
        model=_gather([row.model for row in rows], lambda n: model_params(models[n][1])),
        hardware=_gather(machines, hardware_params),
        precision=_gather(recipes, precision_params),
        **empty,
    )
    # A point is made of scalars; one with a leading axis over rows is for vmap alone.
    rows_of: Point = eqx.tree_at(
        lambda point: [getattr(point, name) for name in numbers], scalar, list(numbers.values())
    )
    return rows_of


def _gather(keys: Sequence[Any], params: Any) -> Any:
    """Parameters of each row, worked out once for each that differs."""
    places: dict[Any, int] = {}
    order: list[int] = []
    distinct: list[Any] = []
    for key in keys:
        name = getattr(key, "name", key)
        if name not in places:
            places[name] = len(distinct)
            distinct.append(params(key))
        order.append(places[name])
    stacked = stack(distinct, np.float64)
    return jax.tree.map(lambda leaf: leaf[np.asarray(order)], stacked)


def machines_of(rows: Sequence[Measurement], catalog: Catalog) -> list[HardwareSpec]:
    """The accelerator of every row.

    Raises:
        SpecError: The catalog lacks one; the message names the first row that has it.
    """
    names = [row.hardware for row in rows]
    return each(rows, names, lambda place: catalog.hardware(names[place]))


def recipes_of(rows: Sequence[Measurement], catalog: Catalog) -> list[PrecisionSpec]:
    """The precision recipe of every row.

    Raises:
        SpecError: One cannot be; the message names the first row that has it.
    """
    keys = [(r.precision, r.weight_dtype, r.activation_dtype, r.kv_dtype, r.model) for r in rows]
    return each(rows, keys, lambda place: recipe_of(rows[place], catalog))


def each(
    rows: Sequence[Measurement], keys: Sequence[Hashable], find: Callable[[int], T]
) -> list[T]:
    """What `find` makes of the place of each row, asked once for all rows of one key.

    Raises:
        SpecError: What `find` raised, the row named.
    """
    known: dict[Hashable, T] = {}
    for place, key in enumerate(keys):
        if key not in known:
            known[key] = named(rows[place], find, place)
    return [known[key] for key in keys]


def named(row: Measurement, find: Callable[..., T], *arguments: Any) -> T:
    """What `find` makes of `arguments`, its errors naming the row.

    Raises:
        SpecError: What `find` raised.
    """
    try:
        return find(*arguments)
    except SpecError as error:
        raise SpecError(f"{row.id}: {error}") from None
