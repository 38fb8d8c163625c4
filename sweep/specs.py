"""What a specification file may say: accelerators, precision recipes and models.

Every figure is checked here, once; finding the files is `catalog.py`'s work.
"""

import difflib
import math
from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from sweep.errors import SpecError
from sweep.variables import PARTS, Part

Dtype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]
StoredDtype = Literal[
    "fp32", "tf32", "fp16", "bf16", "half", "fp8", "int8", "fp4", "nvfp4", "mxfp4", "int4"
]
PEAK_DTYPES = (*get_args(Dtype), "half")
"""Types a matrix unit computes in; `half` is fp16 or bf16, whichever the hardware has."""
COMPUTED_AS = {"nvfp4": "fp4", "mxfp4": "fp4"}
"""Type that a block-scaled format computes in, where it is not its own."""
DTYPE_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "tf32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "half": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "nvfp4": 0.5 + 1 / 16,
    "mxfp4": 0.5 + 1 / 32,
    "int4": 0.5,
}
"""Storage of one element. NVFP4 adds an 8-bit scale to each block of 16 elements, MXFP4 to each
of 32 (Open Compute Project, "Microscaling formats", 2023). [byte]"""
Confidence = Literal["solid", "fair", "doubtful"]

Positive = Annotated[float, Field(ge=1e-30, le=1e300, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Spec(BaseModel):
    """Base of every specification: frozen, strictly typed, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Reference(Spec):
    """Where a figure was read."""

    url: str
    title: str | None = None


class Derivation(Spec):
    """How a figure was computed from others, and where those were read."""

    derived: str
    inputs: list[str] = Field(alias="from")


def _day(given: object) -> object:
    """YAML reads a date as one, JSON as text."""
    if isinstance(given, str):
        return date.fromisoformat(given)
    return given


class Price(Spec):
    """What an hour of one accelerator costs, and who asked that when.

    Attributes:
        value: US dollars an hour. [USD]
        source: Where it was read.
        date: When, as 2026-01-31: prices age.
    """

    value: Positive
    source: str = Field(min_length=1)
    date: Annotated[date, BeforeValidator(_day)]


FigureSource = list[str] | Literal["unsourced"] | Derivation


class HardwareSpec(Spec):
    """One accelerator as its makers describe it: dense peaks, decimal units.

    Attributes:
        name: Slug used on the `hardware` axis.
        vendor: Maker.
        product: Name in full.
        form_factor: Board or module.
        year: Year of launch.
        architecture: Generation of the chip, which calibrated factors are pooled by.
        confidence: How well the sources agree.
        note: What to know before using a figure.
        peak_flops_per_s: Dense matrix rate by operand type. [FLOP/s]
        vector_flops_per_s: Element-wise rate off the tensor cores. [FLOP/s]
        special_function_ops_per_s: Rate of exponentials and reciprocals. [op/s]
        memory_bytes: Device memory. [byte]
        usable_memory_bytes: Device memory as the driver reports it, where that is known. [byte]
        memory_bandwidth_bytes_per_s: Device-memory bandwidth. [byte/s]
        memory_type: Kind of device memory.
        on_chip_cache_bytes: Last-level cache. [byte]
        link: Name of the link to other GPUs.
        link_bandwidth_bytes_per_s: Bandwidth of that link, per GPU and direction. [byte/s]
        pcie_bandwidth_bytes_per_s: PCIe bandwidth in one direction. [byte/s]
        link_gpus: GPUs that the link joins; where it is not stated, those of a machine. [count]
        gpus_per_node: GPUs in one machine, the link's or those that share PCIe. [count]
        network_bandwidth_bytes_per_s: Network bandwidth per GPU and direction. [byte/s]
        link_latency_s: One hop over the link; the defaults are those by which NCCL chooses an
            algorithm (src/graph/tuning.cc, ring, low-latency protocol). [s]
        pcie_latency_s: One hop over PCIe. [s]
        network_latency_s: One hop over the network. [s]
        tdp_w: Rated power. [W]
        tdp_covers_cpu: Whether that is the power of a module that holds a CPU too.
        price_usd_per_hour: What an hour of it costs, by whom and when; none is shipped.
        references: Documents, by a short key.
        sources: For each figure the references it was read in.
    """

    name: str = Field(min_length=1)
    vendor: str = "unknown"
    product: str = ""
    form_factor: str = ""
    year: int | None = None
    architecture: str = ""
    confidence: Confidence = "fair"
    note: str = ""
    peak_flops_per_s: dict[Dtype, Positive] = Field(min_length=1)
    vector_flops_per_s: Positive | None = None
    special_function_ops_per_s: Positive | None = None
    memory_bytes: Positive
    usable_memory_bytes: Positive | None = None
    memory_bandwidth_bytes_per_s: Positive
    memory_type: str = ""
    on_chip_cache_bytes: Positive | None = None
    link: str = "none"
    link_bandwidth_bytes_per_s: Positive | None = None
    pcie_bandwidth_bytes_per_s: Positive | None = None
    link_gpus: int | None = Field(default=None, gt=0)
    gpus_per_node: int = Field(default=8, gt=0)
    network_bandwidth_bytes_per_s: Positive | None = None
    link_latency_s: NotNegative = 0.6e-6
    pcie_latency_s: NotNegative = 1.0e-6
    network_latency_s: NotNegative = 2.7e-6
    tdp_w: Positive | None = None
    tdp_covers_cpu: bool = False
    price_usd_per_hour: Price | None = None
    references: dict[str, Reference] = Field(default_factory=dict)
    sources: dict[str, FigureSource] = Field(default_factory=dict)

    @property
    def peaks(self) -> dict[str, float]:
        """Dense matrix rate by operand type, `half` included where there is one. [FLOP/s]"""
        peaks: dict[str, float] = {str(d): rate for d, rate in self.peak_flops_per_s.items()}
        half = [peaks[dtype] for dtype in ("fp16", "bf16") if dtype in peaks]
        return {**peaks, "half": max(half)} if half else peaks

    @property
    def fabric_bandwidth(self) -> tuple[float | None, float | None, float | None]:
        """Bandwidth over the link, PCIe and the network, per GPU and direction. [byte/s]"""
        return (
            self.link_bandwidth_bytes_per_s,
            self.pcie_bandwidth_bytes_per_s,
            self.network_bandwidth_bytes_per_s,
        )

    @property
    def fabric_reach(self) -> tuple[int, int]:
        """GPUs that the link joins, and those that PCIe does. [count]"""
        linked = 1 if self.link_bandwidth_bytes_per_s is None else self.gpus_per_node
        reach = self.link_gpus or linked
        return reach, max(reach, self.gpus_per_node)

    @property
    def fabric_latency(self) -> tuple[float, float, float]:
        """Time of one hop over the link, PCIe and the network. [s]"""
        return self.link_latency_s, self.pcie_latency_s, self.network_latency_s

    def figures(self) -> dict[str, float]:
        """Every figure that wants a source, by its dotted name."""
        named = {f"peak_flops_per_s.{dtype}": v for dtype, v in self.peak_flops_per_s.items()}
        for field in (
            "vector_flops_per_s",
            "special_function_ops_per_s",
            "memory_bytes",
            "usable_memory_bytes",
            "memory_bandwidth_bytes_per_s",
            "on_chip_cache_bytes",
            "link_bandwidth_bytes_per_s",
            "pcie_bandwidth_bytes_per_s",
            "network_bandwidth_bytes_per_s",
            "tdp_w",
        ):
            value = getattr(self, field)
            if value is not None:
                named[field] = value
        return named

    def source_of(self, figure: str) -> str:
        """In words, where `figure` was read."""
        source = self.sources.get(figure)
        if source is None or source == "unsourced":
            return "no source read"
        if isinstance(source, Derivation):
            return f"derived: {source.derived}; {self._urls(source.inputs)}"
        return self._urls(source)

    def _urls(self, keys: list[str]) -> str:
        return ", ".join(self.references[k].url if k in self.references else k for k in keys)


class LinearSpec(Spec):
    """How some linear layers are stored, and so at which rate they compute.

    A matrix product runs at the rate of the wider of its two operand types, so that 4-bit
    weights with 16-bit activations gain memory but no rate.

    Attributes:
        weight_dtype: Weights.
        activation_dtype: Inputs.
        weight_group_size: Weights of one row that share a scale. [count]
        weight_scale_bytes: Storage of one such scale. [byte]
    """

    weight_dtype: StoredDtype
    activation_dtype: StoredDtype
    weight_group_size: int | None = Field(default=None, gt=0)
    weight_scale_bytes: Positive | None = None

    @model_validator(mode="after")
    def _check_scale(self) -> "LinearSpec":
        if (self.weight_group_size is None) != (self.weight_scale_bytes is None):
            raise ValueError("weight_group_size and weight_scale_bytes come together or not at all")
        return self

    @property
    def weight_bytes(self) -> float:
        """Storage of one weight, its share of a scale included. [byte]"""
        scale = (self.weight_scale_bytes or 0.0) / (self.weight_group_size or 1)
        return DTYPE_BYTES[self.weight_dtype] + scale

    @property
    def compute_dtype(self) -> str:
        """Type its products run in."""
        weight, activation = self.weight_dtype, self.activation_dtype
        wider = weight if DTYPE_BYTES[weight] > DTYPE_BYTES[activation] else activation
        return COMPUTED_AS.get(wider, wider)


class PrecisionSpec(LinearSpec):
    """A precision recipe: how each kind of number is stored.

    The fields of `LinearSpec` stand for all linear layers but the head; `attention` and
    `experts` replace them for those parts, as published mixed checkpoints do.

    Attributes:
        name: Slug used on the `precision` axis.
        attention: The projections around attention, if they differ.
        experts: Routed experts, if they differ.
        hidden_dtype: Residual stream, outputs of linear layers, embeddings and norms.
        kv_dtype: KV cache.
        head_dtype: Weights of the head.
        note: Which published scheme this is.
    """

    name: str = Field(min_length=1)
    attention: LinearSpec | None = None
    experts: LinearSpec | None = None
    hidden_dtype: StoredDtype
    kv_dtype: StoredDtype
    head_dtype: StoredDtype
    note: str = ""

    @model_validator(mode="after")
    def _check_types(self) -> "PrecisionSpec":
        for part, dtype in self.compute_dtypes.items():
            if dtype not in PEAK_DTYPES:
                raise ValueError(f"no matrix unit computes in {dtype}, the {part} layers' type")
        return self

    def part(self, name: Part) -> LinearSpec:
        """How the linear layers of one part are stored."""
        if name == "head":
            return LinearSpec(weight_dtype=self.head_dtype, activation_dtype=self.hidden_dtype)
        parts: dict[str, LinearSpec | None] = {
            "attention": self.attention,
            "experts": self.experts,
        }
        return parts.get(name) or self

    @property
    def compute_dtypes(self) -> dict[str, str]:
        """Type that each part computes in, and attention over the cache (`hidden`)."""
        return {
            **{part: self.part(part).compute_dtype for part in PARTS},
            "hidden": COMPUTED_AS.get(self.hidden_dtype, self.hidden_dtype),
        }


class StoredTensor(Spec):
    """A tensor that a published total counts beside the decoder's own."""

    name: str
    shape: list[int]
    copies: int = 1

    @property
    def elements(self) -> int:
        """Elements of all copies. [count]"""
        return self.copies * math.prod(self.shape)


class Published(Spec):
    """What the model's makers say of its size.

    Attributes:
        kind: `exact` for a count to the last parameter, `marketing` for a round figure.
        parameters: Total. [count]
        active_parameters: Used for each token. [count]
        source: Where it was read.
        beyond_decoder: Tensors in the total that are no part of the text decoder.
    """

    kind: Literal["exact", "marketing"]
    parameters: int
    active_parameters: int
    source: str
    beyond_decoder: list[StoredTensor] = Field(default_factory=list)


class ModelSpec(Spec):
    """A published model config, with a name and where it was read.

    Attributes:
        name: Slug used on the `model` axis.
        hugging_face_id: Repository it is published in.
        note: What to know before using it.
        sources: Where the config was read.
        published: Parameter counts its makers state.
        config: The keys of its `config.json`.
        file: Where it was read from, for messages.
    """

    name: str = Field(min_length=1)
    hugging_face_id: str | None = None
    note: str = ""
    sources: dict[str, str] = Field(default_factory=dict)
    published: Published | None = None
    config: dict[str, Any]
    file: str = Field(default="", exclude=True)

    @property
    def where(self) -> str:
        """What to call it in an error."""
        return self.file or self.name

    @property
    def family(self) -> str:
        """The config's `model_type`."""
        return str(self.config.get("model_type"))


S = TypeVar("S", bound=BaseModel)


def parse(kind: type[S], data: object, where: str) -> S:
    """Check `data` against `kind`.

    Raises:
        SpecError: With the file, the key and what is allowed, in one line.
    """
    if not isinstance(data, Mapping):
        raise SpecError(f"{where}: must be a mapping of keys, not {_short(data)}")
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise SpecError(f"{where}: {explain(kind, error)}") from None
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None


def explain(kind: type[BaseModel], error: ValidationError) -> str:
    """The first of the problems pydantic found, in one line, and how many more there are."""
    problems = error.errors(include_url=False)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _explain(kind, problems[0]) + more


def nearest(name: str, known: list[str]) -> str:
    """A guess at what a misspelt `name` meant, as the end of a sentence, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _explain(kind: type[BaseModel], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "file"
    if problem["type"] == "extra_forbidden":
        known = [f.alias or n for n, f in kind.model_fields.items()]
        hint = nearest(str(problem["loc"][-1]), known)
        return f"{key}: unknown key{hint or '; allowed: ' + ', '.join(known)}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    given = problem.get("input")
    if isinstance(given, str) and _looks_like_number(given):
        message += f" (YAML reads {given} as text; write a decimal point and a signed exponent)"
    return f"{key}: {message[:1].lower()}{message[1:]}, not {_short(given)}"


def _looks_like_number(text: str) -> bool:
    try:
        Fraction(text)
    except (ValueError, ZeroDivisionError):
        return False
    return True
