"""Specification of an accelerator: its published figures, their sources and its price.

Every figure is checked here, once; `catalog.py` finds the files.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from sweep.specs.dtypes import Dtype
from sweep.specs.parsing import Delay, Name, Power, Rate, Spec

GIBI = 2**30 / 1e9
"""Memory that is published as gigabytes may have as many gibibytes. [1]"""
Confidence = Literal["solid", "fair", "doubtful"]


class Reference(Spec):
    """Document that a figure was read in."""

    url: str
    title: str | None = None


class Derivation(Spec):
    """Calculation of a figure from others, and the documents they were read in."""

    derived: str
    inputs: list[str] = Field(alias="from")


def _day(given: object) -> object:
    """Parse a date given as text, as JSON does; YAML yields a date."""
    if isinstance(given, str):
        return date.fromisoformat(given)
    return given


LEAST_PRICE, MOST_PRICE = 1e-6, 1e6
"""Prices of an hour of one accelerator that are no mistake. [USD]"""


class Price(Spec):
    """Hourly price of one accelerator, with source and date.

    Attributes:
        value: US dollars an hour. [USD]
        source: Document or page that states it.
        date: Day it was read, as 2026-01-31, since prices change.
    """

    value: float = Field(ge=LEAST_PRICE, le=MOST_PRICE, allow_inf_nan=False)
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
        price_usd_per_hour: Hourly price, with source and date; none is shipped.
        references: Documents, by a short key.
        sources: For each figure the references it was read in.
    """

    name: Name
    vendor: str = "unknown"
    product: str = ""
    form_factor: str = ""
    year: int | None = None
    architecture: str = ""
    confidence: Confidence = "fair"
    note: str = ""
    peak_flops_per_s: dict[Dtype, Rate] = Field(min_length=1)
    vector_flops_per_s: Rate | None = None
    special_function_ops_per_s: Rate | None = None
    memory_bytes: Rate
    usable_memory_bytes: Rate | None = None
    memory_bandwidth_bytes_per_s: Rate
    memory_type: str = ""
    on_chip_cache_bytes: Rate | None = None
    link: str = "none"
    link_bandwidth_bytes_per_s: Rate | None = None
    pcie_bandwidth_bytes_per_s: Rate | None = None
    link_gpus: int | None = Field(default=None, gt=0)
    gpus_per_node: int = Field(default=8, gt=0)
    network_bandwidth_bytes_per_s: Rate | None = None
    link_latency_s: Delay = 0.6e-6
    pcie_latency_s: Delay = 1.0e-6
    network_latency_s: Delay = 2.7e-6
    tdp_w: Power | None = None
    tdp_covers_cpu: bool = False
    price_usd_per_hour: Price | None = None
    references: dict[str, Reference] = Field(default_factory=dict)
    sources: dict[str, FigureSource] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "HardwareSpec":
        usable, most = self.usable_memory_bytes, self.memory_bytes * GIBI
        if usable is not None and usable > most:
            raise ValueError(
                f"usable_memory_bytes: must be at most memory_bytes, in binary units {most:g}, not "
                f"{usable:g}"
            )
        return self

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
        """Source of `figure` in words."""
        source = self.sources.get(figure)
        if source is None or source == "unsourced":
            return "no source read"
        if isinstance(source, Derivation):
            return f"derived: {source.derived}; {self._urls(source.inputs)}"
        return self._urls(source)

    def _urls(self, keys: list[str]) -> str:
        return ", ".join(self.references[k].url if k in self.references else k for k in keys)
