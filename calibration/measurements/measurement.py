"""One measured figure: the columns of a table of measurements."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sweep.kernel.acceptance import MOST_DRAFT_TOKENS
from sweep.schema.axes import ACCEPTANCE, MEMORY_SHARES, REPLICA_GPUS, gpus_of
from sweep.schema.drafts import fault_of_length
from sweep.schema.intervals import POWER
from sweep.specs.dtypes import StoredDtype

Scenario = Literal["static_batch", "inflight", "first_token"]
Metric = Literal["output_throughput", "ttft", "tpot", "power", "energy_per_output_token"]
Quality = Literal["ok", "doubtful", "suspect"]
CLIENT_TTFT = "inflight_ttft"
Count = Annotated[int, Field(ge=1, le=10**9)]
Gpus = Annotated[int, Field(ge=1, le=10**5)]
"""GPUs along one axis of a layout; there is no machine with as many. [count]"""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Figure = Annotated[float, Field(ge=1e-12, le=1e12, allow_inf_nan=False)]
"""A measured figure; what is farther from 1 is a typing error. [s-1 or s]"""

UNITS: dict[str, str] = {
    **{"output_throughput": "s-1", "ttft": "s", "tpot": "s"},
    **{"power": "W", "energy_per_output_token": "J"},
}
POWERED = ("power", "energy_per_output_token")
"""Metrics of electric power, of servers alone."""
NEEDS: dict[str, tuple[str, ...]] = {
    "static_batch": ("batch_size", "osl"),
    "inflight": ("osl",),
    "first_token": ("batch_size",),
}
"""Columns that a scenario requires."""


class Measurement(BaseModel):
    """One published or measured figure.

    Attributes:
        id: Unique name of the row; made from its number if not given.
        engine: Inference engine.
        engine_version: Its version, as `major.minor.patch`.
        scenario: `static_batch` (one batch of equal requests from start to end), `inflight`
            (continuous batching, all requests sent at once or `concurrency` kept open) or
            `first_token` (one output token).
        model: Name in the catalog.
        hardware: Name in the catalog.
        num_gpus: GPUs of the whole deployment; tp · pp · dp_attention if not given. [count]
        tp: GPUs that share each layer. [count]
        pp: Pipeline stages. [count]
        ep: GPUs that experts are spread over whole. [count]
        dp_attention: Groups of tp GPUs that run attention for their own sequences. [count]
        weight_dtype: Storage of the weights.
        activation_dtype: Type the linear layers compute in; that of the weights if not given.
        kv_dtype: Storage of the KV cache; if not given, as the engine stores it by default.
        precision: A recipe of the catalog in place of the three types.
        batch_size: Requests of a static batch. [count]
        concurrency: Requests kept open by clients; as many as fit if not given. [count]
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        metric: `output_throughput` (output tokens only, all GPUs, the clock includes prefill),
            `ttft` or `tpot`, or of a server `power` (mean of one GPU) or `energy_per_output_token`
            (of all GPUs, over the output tokens of all).
        value: The figure, in s-1, s, W or J; rows to predict may leave it out.
        unit: Its unit, if given checked against the metric's.
        max_batch_size: Sequences an iteration may take. [count]
        max_num_tokens: Tokens an iteration may take. [count]
        num_requests: Requests of the run. [count]
        request_rate: Requests that arrive in a second, in place of `concurrency`. [s-1]
        isl_cv: Coefficient of variation of the input tokens; 0 if not given. [1]
        osl_cv: The same of the output tokens. [1]
        batch_wait: Iterations for which prompts wait at most for others to start with; none if not
            given. [count]
        poll_interval: Iterations between two looks of the scheduler for new requests; 1 if not
            given. [count]
        stream_interval: Tokens of a request after which the first are sent; 1 if not given. [count]
        draft_tokens: Tokens drafted for each pass by a layer like the model's last, with
            `acceptance_rate` or `acceptance_length`; none if not given. [count]
        acceptance_rate: Probability that a drafted token is accepted. [1]
        acceptance_length: Tokens that a pass yields, in place of that. [count]
        burstiness: Shape of the gamma distribution of the gaps between arrivals; 1 if not given,
            a Poisson process. [1]
        kv_cache_fraction: Share of the free memory that the KV cache may take; that of the engine
            if neither it nor one of the next two is given. [1]
        gpu_memory_utilization: Share of the whole memory for weights, activations and KV cache. [1]
        mem_fraction_static: Share of the whole memory for weights and KV cache. [1]
        quality: `ok`, `doubtful` or `suspect`; suspect rows are left out of a fit.
        source: Where it was read.
        note: Remark.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = ""
    engine: str = "unknown"
    engine_version: str = ""
    scenario: Scenario
    model: str
    hardware: str
    num_gpus: Annotated[int, Field(ge=1, le=10**6)] | None = None
    tp: Gpus = 1
    pp: Gpus = 1
    ep: Gpus | None = None
    dp_attention: Gpus | None = None
    weight_dtype: StoredDtype = "half"
    activation_dtype: StoredDtype | None = None
    kv_dtype: StoredDtype | None = None
    precision: str | None = None
    batch_size: Count | None = None
    concurrency: Count | None = None
    isl: Count
    osl: Count = 1
    metric: Metric
    value: Figure | None = None
    unit: str = ""
    max_batch_size: Count | None = None
    max_num_tokens: Count | None = None
    num_requests: Count | None = None
    request_rate: Positive | None = None
    burstiness: Positive | None = None
    isl_cv: Annotated[float, Field(ge=0, le=10)] | None = None
    osl_cv: Annotated[float, Field(ge=0, le=10)] | None = None
    batch_wait: Annotated[int, Field(ge=0, le=10**6)] | None = None
    poll_interval: Count | None = None
    stream_interval: Count | None = None
    draft_tokens: Annotated[int, Field(ge=0, le=MOST_DRAFT_TOKENS)] | None = None
    acceptance_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    acceptance_length: Annotated[float, Field(ge=1, le=MOST_DRAFT_TOKENS + 1)] | None = None
    kv_cache_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    mem_fraction_static: Annotated[float, Field(gt=0, le=1)] | None = None
    quality: Quality = "ok"
    source: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Measurement":
        for column in NEEDS[self.scenario]:
            if column not in self.model_fields_set:
                raise ValueError(f"{column}: missing, and {self.scenario} rows need it")
        if self.unit and self.unit != UNITS[self.metric]:
            raise ValueError(f"unit: must be {UNITS[self.metric]} for {self.metric}")
        if self.metric == "tpot" and self.osl < 2:
            raise ValueError("osl: must be at least 2 for tpot")
        if self.scenario == "first_token" and self.metric != "ttft":
            raise ValueError("metric: must be ttft for first_token")
        if self.metric in POWERED and self.scenario != "inflight":
            raise ValueError(f"metric: {self.metric} is of inflight rows, not of {self.scenario}")
        self._one_of(MEMORY_SHARES)
        self._check_arrivals()
        self._check_drafts()
        return self

    def _one_of(self, alternatives: Sequence[str]) -> list[str]:
        """Those of the columns that are given, of which there may be one."""
        given = [column for column in alternatives if getattr(self, column) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)}: alternatives of one another; give one of them"
            )
        return given

    def _check_drafts(self) -> None:
        given = self._one_of(ACCEPTANCE)
        if self.draft_tokens is None:
            if given:
                raise ValueError(f"{given[0]}: needs draft_tokens too")
            return
        if not given:
            raise ValueError(f"draft_tokens: needs {' or '.join(ACCEPTANCE)} too")
        fault = fault_of_length(self.acceptance_length or 1, [self.draft_tokens])
        if fault:
            raise ValueError(f"acceptance_length: {fault}")

    def _check_arrivals(self) -> None:
        if self.request_rate is None:
            if self.burstiness is not None:
                raise ValueError("burstiness: needs a request_rate; give one or drop burstiness")
            return
        if self.scenario != "inflight":
            raise ValueError(f"request_rate: {self.scenario} rows have none; drop it")
        for column in ("concurrency", "num_requests"):
            if getattr(self, column) is not None:
                raise ValueError(
                    f"request_rate: given with {column}, but requests that arrive at a rate wait "
                    "for no client and come without end; keep one of them"
                )

    @property
    def kind(self) -> str:
        """Kind of figure, within which errors are compared.

        The scenario, or `inflight_ttft` for a time to first token of clients of a server: it waits
        for other requests and varies more than a time per token. `inflight_power` for power and
        energy.
        """
        if self.metric in POWERED:
            return POWER
        late = self.scenario == "inflight" and self.metric == "ttft"
        return CLIENT_TTFT if late else self.scenario

    @property
    def replica_gpus(self) -> int:
        """GPUs of one replica. [count]"""
        layout = {"tp": self.tp, "pp": self.pp, "dp_attention": self.dp_attention or 1}
        return int(gpus_of(layout, REPLICA_GPUS))


COLUMNS = tuple(Measurement.model_fields)
"""Names of the columns."""
