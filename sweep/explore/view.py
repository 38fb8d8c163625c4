"""A view of the live page: one deployment on two accelerators, and the grid around it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_type_hints
from urllib.parse import urlencode

from sweep.errors import SpecError
from sweep.specs.counts import count_of
from sweep.specs.model_names import matching, name_of
from sweep.specs.parsing import LONGEST_NAME, nearest, short
from sweep.specs.shipped import PREDICTIONS
from sweep.specs.short_names import accelerators, meant, same_but_spelling, suggestion

SERVER, BATCH = "server", "batch"
LOAD_AXIS = {SERVER: "concurrency", BATCH: "batch_size"}
"""Axis of the load, by the kind of serving."""
ACCELERATORS = ("first", "second")
"""Fields that name an accelerator."""
VARIABLES = {
    SERVER: (
        "inflight_output_throughput_per_gpu",
        "inflight_output_throughput_per_user",
        "inflight_ttft",
        "inflight_tpot",
        "inflight_request_latency",
        "inflight_feasible",
        "inflight_overload",
    ),
    BATCH: (
        "output_throughput_per_gpu",
        "output_throughput_per_user",
        "ttft",
        "tpot",
        "e2e_latency",
        "weight_memory",
        "kv_cache_memory",
        "memory_required",
        "feasible",
    ),
}
"""Variables of a view, by the kind of serving."""
LOADS = tuple(2**power for power in range(11))
INPUTS = tuple(2**power for power in range(7, 18))
WIDTHS = (1, 2, 4, 8)
"""Values of the axes of a map and of a front: loads, input tokens, tensor-parallel widths."""
MOST = {
    "tp": 1024,
    "pp": 256,
    "ep": 1024,
    "dp_attention": 256,
    "load": 65_536,
    "isl": 4_194_304,
    "osl": 1_048_576,
}
"""Largest value of each number of a view. [count]"""


@dataclass(frozen=True)
class Names:
    """Names that a view can have, read once from the catalog.

    Attributes:
        model: Models that generate text.
        hardware: Accelerators.
        precision: Precision recipes.
        calibration: Calibrations, with `ideal` for bounds.
        serving: Kinds of serving.
        published: Identifier that each model is published under, by name.
    """

    model: tuple[str, ...]
    hardware: tuple[str, ...]
    precision: tuple[str, ...]
    calibration: tuple[str, ...]
    serving: tuple[str, ...] = (SERVER, BATCH)
    published: Mapping[str, str | None] = field(default_factory=dict)

    def of(self, field: str) -> tuple[str, ...]:
        """Names that a field of a view can have."""
        kind = "hardware" if field in ACCELERATORS else field
        names: tuple[str, ...] = getattr(self, kind)
        return names

    def meant_by(self, field: str, text: str) -> list[str]:
        """Names that a short or differently spelt one may mean."""
        if field == "model":
            return matching(text, self.published) if len(text) <= LONGEST_NAME else []
        return (accelerators if field in ACCELERATORS else same_but_spelling)(text, self.of(field))


@dataclass(frozen=True)
class View:
    """Everything that determines a view.

    Attributes:
        model: The model.
        first: The accelerator that the ratio is above 1 for where it does better.
        second: The other accelerator.
        precision: Precision recipe.
        calibration: Name of the calibration, `ideal` for bounds.
        serving: `server` for in-flight batching, `batch` for static batches.
        tp: Tensor-parallel width. [count]
        pp: Pipeline stages. [count]
        ep: GPUs that whole experts are spread over. [count]
        dp_attention: Attention groups. [count]
        load: Requests that clients keep open at a server, or sequences of a batch. [count]
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
    """

    model: str = "llama-3.1-8b"
    first: str = "h100-sxm-80gb"
    second: str = "h20-96gb"
    precision: str = "fp16"
    calibration: str = PREDICTIONS
    serving: str = SERVER
    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp_attention: int = 1
    load: int = 64
    isl: int = 1024
    osl: int = 256

    @classmethod
    def read(cls, given: Mapping[str, str], names: Names, default: "View") -> "View":
        """The view that the query of an address describes.

        Args:
            given: Values by field; a field that is absent has its default.
            names: Names that are known.
            default: Takes the fields that are absent.

        Raises:
            SpecError: A field is unknown, a name is not known, or a number is out of range.
        """
        known = get_type_hints(cls)
        for key in given:
            if key not in known:
                guess = nearest(key, list(known)) or f"; known: {', '.join(known)}"
                raise SpecError(f"unknown field {short(key)} of a view{guess}")
        found: dict[str, Any] = {
            key: _whole(key, text) if known[key] is int else _name(key, text, names)
            for key, text in given.items()
        }
        view = replace(default, **found)
        if view.first == view.second:
            raise SpecError(f"both accelerators are {view.first!r}; choose two")
        return view

    @property
    def query(self) -> str:
        """The query of an address that describes it."""
        return urlencode(asdict(self))

    @property
    def load_axis(self) -> str:
        """Axis of its load."""
        return LOAD_AXIS[self.serving]

    @property
    def cell(self) -> dict[str, int]:
        """Number along each numeric axis of its cell."""
        numbers = {axis: getattr(self, axis) for axis in ("tp", "pp", "ep", "dp_attention")}
        return {**numbers, self.load_axis: self.load, "isl": self.isl, "osl": self.osl}

    @property
    def axes(self) -> dict[str, Any]:
        """Axes of the grid around its cell, as a sweep file lists them.

        Their lengths are the same for all views, so that a change compiles nothing: the value of
        the cell replaces the nearest of a fixed list.
        """
        cell = self.cell
        around = {"tp": WIDTHS, self.load_axis: LOADS, "isl": INPUTS}
        return {
            "models": [self.model],
            "hardware": [self.first, self.second],
            "precision": [self.precision],
            **{
                axis: around_value(around[axis], value) if axis in around else [value]
                for axis, value in cell.items()
            },
            "variables": list(VARIABLES[self.serving]),
        }


FIELDS = tuple(each.name for each in fields(View))


def around_value(values: tuple[int, ...], value: int) -> list[int]:
    """The values with the nearest one, as a ratio, replaced by `value`; they stay ascending."""
    index = min(range(len(values)), key=lambda k: abs(math.log(values[k] / value)))
    return [*values[:index], value, *values[index + 1 :]]


def _whole(field: str, text: str) -> int:
    most = MOST[field]
    number = count_of(text) if text.isascii() else None
    if not isinstance(number, int) or not 1 <= number <= most:
        raise SpecError(f"{field}: give a whole number from 1 to {most:,}, not {short(text)}")
    return number


def _name(field: str, text: str, names: Names) -> str:
    """The name that a text means, as commands read it.

    Raises:
        SpecError: It means none or several, or a quantised version of a model.
    """
    known = names.of(field)
    if text in known:
        return text
    found = names.meant_by(field, text)
    if len(found) != 1:
        guess = meant(found) or suggestion(text, known) or "; choose one of the list"
        raise SpecError(f"{field}: unknown name {short(text)}{guess}")
    if field == "model":
        try:
            return name_of(text, names.published)
        except SpecError as error:
            raise SpecError(f"{field}: {error}") from None
    return found[0]
