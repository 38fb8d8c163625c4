"""What a sweep asks for: its axes and variables, checked, and the specifications they name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from sweep.architecture import Block
from sweep.catalog import Catalog
from sweep.errors import SpecError
from sweep.families import read_blocks
from sweep.specs import HardwareSpec, ModelSpec, PrecisionSpec, Spec, explain, nearest
from sweep.stacking import merged
from sweep.transformer import operator_names
from sweep.variables import AXES, COMPUTED, LABELLED, VARIABLES, dims_of

LARGEST_VALUE = 10**9
LONGEST_AXIS = 10**6
AXIS_FORMS = (
    "a list of integers, {start, stop, step}, {start, stop, num, scale: log} "
    "or {powers_of: 2, start, stop}"
)


def expand_axis(given: object) -> list[int]:
    """The integers an axis stands for.

    `{start, stop, step}` is half-open, as Python's range; `{start, stop, num, scale}` includes
    both ends, rounds to integers and drops repeats (`scale` is `linear` or `log`);
    `{powers_of: b, start, stop}` is every power of b from start to stop, both included.

    Raises:
        ValueError: It is none of these, is empty, or is not made of increasing positive integers.
    """
    values = _from_mapping(given) if isinstance(given, Mapping) else given
    if not isinstance(values, list | tuple | np.ndarray | range):
        raise ValueError(f"must be {AXIS_FORMS}")
    values = [_integer(v, "every value") for v in values]
    if not values:
        raise ValueError("must not be empty")
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError("must increase from value to value, without repeats")
    return values


def _from_mapping(given: Mapping[str, Any]) -> list[int]:
    keys = set(given)
    if keys in ({"start", "stop", "step"}, {"start", "stop"}):
        start, stop = _integer(given["start"], "start"), _integer(given["stop"], "stop")
        step = _integer(given.get("step", 1), "step")
        _check_length((stop - start) / step)
        return list(range(start, stop, step))
    if keys in ({"start", "stop", "num", "scale"}, {"start", "stop", "num"}):
        start, stop = _integer(given["start"], "start"), _integer(given["stop"], "stop")
        num, scale = _integer(given["num"], "num"), given.get("scale", "linear")
        _check_length(num)
        if stop < start:
            raise ValueError(f"stop must not be below start, and {stop} is below {start}")
        if scale not in ("linear", "log"):
            raise ValueError(f"scale must be linear or log, not {scale!r}")
        spaced = (np.geomspace if scale == "log" else np.linspace)(start, stop, num)
        return sorted({round(float(value)) for value in spaced})
    if keys == {"powers_of", "start", "stop"}:
        base, start = _integer(given["powers_of"], "powers_of"), _integer(given["start"], "start")
        stop = _integer(given["stop"], "stop")
        if base < 2:
            raise ValueError("powers_of must be at least 2")
        powers = [base**n for n in range(64) if base**n <= stop]
        return [power for power in powers if power >= start]
    raise ValueError(f"must be {AXIS_FORMS}; its keys are {', '.join(sorted(map(str, keys)))}")


def _integer(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{what} must be an integer, and {value!r} is not")
    if not 1 <= value <= LARGEST_VALUE:
        raise ValueError(f"{what} must be from 1 to {LARGEST_VALUE}, and {value} is not")
    return int(value)


def _check_length(length: float) -> None:
    if length > LONGEST_AXIS:
        raise ValueError(f"must have at most {LONGEST_AXIS} values, and would have {length:.0f}")


def check_ratios(given: object) -> list[float]:
    """The ratios of an axis of numbers that are at least 1.

    Raises:
        ValueError: It is no list of increasing numbers from 1 on.
    """
    return _check_numbers(given, lambda value: 1 <= value < 1e6, "from 1 on")


def check_shares(given: object) -> list[float]:
    """The shares of an axis of numbers above 0 and at most 1.

    Raises:
        ValueError: It is no list of increasing numbers in that range.
    """
    return _check_numbers(given, lambda value: 0 < value <= 1, "above 0 and at most 1")


def _check_numbers(given: object, allowed: Callable[[float], bool], words: str) -> list[float]:
    if not isinstance(given, list | tuple) or not given:
        raise ValueError("must be a list of numbers, and not empty")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int | float) or not allowed(value):
            raise ValueError(f"every value must be a number {words}, and {value!r} is not")
    if any(b <= a for a, b in pairwise(given)):
        raise ValueError("must increase from value to value, without repeats")
    return [float(value) for value in given]


Axis = Annotated[list[int], BeforeValidator(expand_axis)]
Ratios = Annotated[list[float], BeforeValidator(check_ratios)]
Shares = Annotated[list[float], BeforeValidator(check_shares)]
Names = Field(min_length=1)


class Grid(Spec):
    """The outer product of some axes, and the variables wanted on it.

    `grid.py`'s `expand_axis` tells what an axis may be.

    Attributes:
        models: Names, or specifications.
        hardware: Names, specifications, or `{base: …, name: …}` with fields to replace.
        precision: Names or specifications of precision recipes.
        tp: Tensor-parallel widths. [count]
        pp: Pipeline stages. [count]
        ep: GPUs that experts are spread over whole. [count]
        dp_attention: Groups that run attention for their own sequences. [count]
        dp: Replicas of the whole deployment. [count]
        expert_imbalance: Loads of the busiest expert GPU over the mean. [1]
        batch_size: Sequences decoded together. [count]
        kv_cache_fraction: Shares of the free memory that the KV cache may take. [1]
        reserved_osl: Shares of the output tokens reserved on admission. [1]
        max_batch_size: Sequences in one iteration of a server. [count]
        max_num_tokens: Tokens in one iteration of a server. [count]
        num_requests: Requests of a run. [count]
        concurrency: Requests that clients keep open. [count]
        context_len: Tokens each sequence attends to in one decode step. [count]
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        variables: Names in `variables.VARIABLES`.
    """

    models: list[str | ModelSpec] = Names
    hardware: list[str | HardwareSpec | dict[str, Any]] = Names
    precision: list[str | PrecisionSpec] = Field(default=["fp16"], min_length=1)
    tp: Axis = Field(default=[1])
    pp: Axis | None = None
    ep: Axis | None = None
    dp_attention: Axis | None = None
    dp: Axis | None = None
    expert_imbalance: Ratios | None = None
    batch_size: Axis | None = None
    kv_cache_fraction: Shares | None = None
    reserved_osl: Shares | None = None
    max_batch_size: Axis | None = None
    max_num_tokens: Axis | None = None
    num_requests: Axis | None = None
    concurrency: Axis | None = None
    context_len: Axis | None = None
    isl: Axis | None = None
    osl: Axis | None = None
    variables: list[str] = Names

    def __init__(self, **keys: Any) -> None:
        """Check and expand the axes.

        Raises:
            SpecError: A key is unknown or its value wrong; the message names it.
        """
        try:
            super().__init__(**keys)
        except ValidationError as error:
            raise SpecError(explain(type(self), error)) from None

    @model_validator(mode="after")
    def _check(self) -> "Grid":
        for name in self.variables:
            if name not in COMPUTED:
                guess = nearest(name, list(COMPUTED)) or f"; known: {', '.join(COMPUTED)}"
                raise ValueError(f"variables: unknown variable {name!r}{guess}")
        if len(set(self.variables)) < len(self.variables):
            raise ValueError("variables: the same variable twice")
        return self

    @property
    def numbers(self) -> dict[str, list[Any]]:
        """The numeric axes the grid has."""
        given = {axis: getattr(self, axis) for axis in AXES if axis not in LABELLED}
        return {axis: values for axis, values in given.items() if values is not None}


@dataclass(frozen=True, eq=False)
class Resolved:
    """A grid with every name looked up, and what is laid out once for all that is asked of it.

    Attributes:
        models: Specifications along the `model` axis, with their blocks.
        hardware: Specifications along the `hardware` axis.
        precision: Specifications along the `precision` axis.
        numbers: The numeric axes by name.
        variables: What to compute, with the variables that explain it.
    """

    models: tuple[tuple[ModelSpec, tuple[Block, ...]], ...]
    hardware: tuple[HardwareSpec, ...]
    precision: tuple[PrecisionSpec, ...]
    numbers: dict[str, list[Any]]
    variables: tuple[str, ...]

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """Names along the `operator` axis: every model's, in the order they run."""
        return tuple(merged([operator_names(blocks) for _, blocks in self.models]))

    @cached_property
    def labels(self) -> dict[str, list[str]]:
        """Names along the labelled axes."""
        return {
            "model": [spec.name for spec, _ in self.models],
            "hardware": [spec.name for spec in self.hardware],
            "precision": [spec.name for spec in self.precision],
        }

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Length of every axis, in the order of `AXES`. [count]"""
        lengths = {axis: len(labels) for axis, labels in self.labels.items()}
        lengths |= {axis: len(values) for axis, values in self.numbers.items()}
        return {axis: lengths[axis] for axis in AXES if axis in lengths}

    @property
    def points(self) -> int:
        """Cells of the outer product. [count]"""
        return math.prod(self.sizes.values())

    def dims(self, variable: str) -> tuple[str, ...]:
        """Dimensions of a variable on this grid."""
        return dims_of(variable, self.sizes)

    def part(self, places: Mapping[str, range]) -> "Resolved":
        """The grid of `places` along each axis; an axis without places stays whole."""
        if all(len(where) == self.sizes[axis] for axis, where in places.items()):
            return self

        def cut(axis: str, values: Any) -> Any:
            where = places.get(axis)
            return values if where is None else values[where.start : where.stop]

        return replace(
            self,
            models=cut("model", self.models),
            hardware=cut("hardware", self.hardware),
            precision=cut("precision", self.precision),
            numbers={axis: cut(axis, values) for axis, values in self.numbers.items()},
        )


def resolve(grid: Grid, catalog: Catalog) -> Resolved:
    """Look up every name of `grid`.

    Raises:
        SpecError: A name is unknown or given twice, a model's family is not supported, or an
            accelerator has no rate for a type that a precision computes in.
        GridError: A variable needs an axis the grid lacks.
    """
    models = tuple(m if isinstance(m, ModelSpec) else catalog.model(m) for m in grid.models)
    hardware = tuple(
        h if isinstance(h, HardwareSpec) else catalog.hardware(h) for h in grid.hardware
    )
    precision = tuple(
        p if isinstance(p, PrecisionSpec) else catalog.precision(p) for p in grid.precision
    )
    for axis, specs in (("models", models), ("hardware", hardware), ("precision", precision)):
        names = [spec.name for spec in specs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SpecError(f"{axis}: {twice!r} stands twice; every name must be its own")
    for machine in hardware:
        for recipe in precision:
            check_dtypes(machine, recipe)
    wanted = dict.fromkeys(grid.variables)
    extras = [extra for name in wanted for extra in VARIABLES[name].ancillary]
    extras += [more for name in extras for more in VARIABLES[name].ancillary]
    wanted |= dict.fromkeys(extra for extra in extras if extra in COMPUTED)
    resolved = Resolved(
        models=tuple((spec, read_blocks(spec.config, spec.where)) for spec in models),
        hardware=hardware,
        precision=precision,
        numbers=grid.numbers,
        variables=tuple(wanted),
    )
    for name in resolved.variables:
        resolved.dims(name)
    return resolved


def check_dtypes(hardware: HardwareSpec, precision: PrecisionSpec) -> None:
    """See that `hardware` has a matrix rate for every type `precision` computes in.

    Raises:
        SpecError: It lacks one; the message names both and what there is.
    """
    for dtype in precision.compute_dtypes.values():
        if dtype not in hardware.peaks:
            raise SpecError(
                f"precision {precision.name!r} computes in {dtype}, for which {hardware.name!r} "
                f"lists no peak_flops_per_s; it lists {', '.join(hardware.peak_flops_per_s)}: "
                "drop one of them, or add the figure with its source"
            )
