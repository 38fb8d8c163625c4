"""Tables of measured throughputs and latencies."""

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from calibration.benchmark_reports.read import read_report, tool_of
from calibration.measurements.stage_gpus import (
    FORMER,
    STAGE,
    Routed,
    has_former_column,
    with_stage,
    with_tp,
)
from sweep.errors import SpecError, SpecWarning
from sweep.schema.axes import REPLICA_GPUS, gpus_of
from sweep.specs.catalog import Catalog
from sweep.specs.dtypes import StoredDtype
from sweep.specs.model_names import is_narrow, matching
from sweep.specs.parsing import nearest
from sweep.specs.shipped import shipped_configs

Scenario = Literal["static_batch", "inflight", "first_token"]
Metric = Literal["output_throughput", "ttft", "tpot"]
Quality = Literal["ok", "doubtful", "suspect"]
CLIENT_TTFT = "inflight_ttft"
Count = Annotated[int, Field(ge=1, le=10**9)]
Figure = Annotated[float, Field(gt=0, allow_inf_nan=False)]

UNITS: dict[str, str] = {"output_throughput": "s-1", "ttft": "s", "tpot": "s"}
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
            `ttft` or `tpot`.
        value: The figure, in s-1 or s; rows to predict may leave it out.
        unit: Its unit, if given checked against the metric's.
        max_batch_size: Sequences an iteration may take. [count]
        max_num_tokens: Tokens an iteration may take. [count]
        num_requests: Requests of the run. [count]
        kv_cache_fraction: Share of the free memory that the KV cache may take. [1]
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
    num_gpus: Count | None = None
    tp: Count = 1
    pp: Count = 1
    ep: Count | None = None
    dp_attention: Count | None = None
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
    kv_cache_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
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
        return self

    @property
    def kind(self) -> str:
        """Kind of figure, within which errors are compared.

        The scenario, or `inflight_ttft` for a time to first token of clients of a server: it waits
        for other requests and varies more than a time per token.
        """
        late = self.scenario == "inflight" and self.metric == "ttft"
        return CLIENT_TTFT if late else self.scenario

    @property
    def replica_gpus(self) -> int:
        """GPUs of one replica. [count]"""
        layout = {"tp": self.tp, "pp": self.pp, "dp_attention": self.dp_attention or 1}
        return int(gpus_of(layout, REPLICA_GPUS))


COLUMNS = tuple(Measurement.model_fields)
Settings = Mapping[str, Any]


def read_measurements(
    path: str | Path,
    *,
    need_value: bool = True,
    settings: Settings | None = None,
    catalog: Catalog | None = None,
) -> list[Measurement]:
    """The rows of a CSV, Parquet or JSON table, or of a benchmarking tool's JSON report.

    Args:
        path: The file, or the name of a shipped table.
        need_value: Whether every row must state its figure.
        settings: Values for columns that the file leaves empty.
        catalog: Where to look for the models that reports name; the shipped one if not given.

    Raises:
        SpecError: The file cannot be read, or a row is wrong; the message names line and column.
    """
    path = _find(path)
    settings = settings or {}
    catalog = catalog or Catalog()
    records = _with_names(_records(path, settings, catalog), catalog)
    routed = Routed(catalog)
    # The header is line 1 of a CSV; other formats count rows from 1.
    first = 2 if path.suffix == ".csv" else 1
    word = "line" if path.suffix == ".csv" else "row"
    rows = [
        _parse(with_tp(record, where, routed), where, need_value, f"{path.stem}-{number}")
        for number, record in enumerate(records, start=first)
        for where in [f"{path}: {word} {number}"]
    ]
    if not rows:
        raise SpecError(f"{path}: no rows; a table needs at least one below its header")
    seen: set[str] = set()
    for place, row in enumerate(rows, start=first):
        if row.id in seen:
            raise SpecError(f"{path}: {word} {place}: id: {row.id!r} is used twice")
        seen.add(row.id)
    return rows


def _with_names(records: list[dict[str, Any]], catalog: Catalog) -> list[dict[str, Any]]:
    """Records whose published identifiers of models are replaced by the names of the catalog.

    An identifier of a quantised version counts if the record states its types.
    """
    known = catalog.paths("models")
    given = {str(r["model"]) for r in records if "model" in r} - set(known)
    published = catalog.published() if given else {}
    found = {name: matching(name, published) for name in given}

    def named(record: dict[str, Any]) -> dict[str, Any]:
        name = str(record.get("model"))
        vague = is_narrow(name) and not {"weight_dtype", "precision"} & set(record)
        if len(found.get(name, ())) != 1 or vague or Path(name).exists():
            return record
        return {**record, "model": found[name][0]}

    return [named(record) for record in records] if given else records


def shipped_measurements() -> list[str]:
    """Names of the shipped tables."""
    return sorted(path.stem for path in (shipped_configs() / "measurements").glob("*.csv"))


def _find(path: str | Path) -> Path:
    shipped = shipped_configs() / "measurements" / f"{path}.csv"
    return shipped if not Path(path).exists() and shipped.exists() else Path(path)


def _records(path: Path, settings: Settings, catalog: Catalog) -> list[dict[str, Any]]:
    """Stated values of each row, with `settings` where it states none."""
    reports = _read_objects(path) if path.suffix == ".json" else []
    if reports:
        stated, asked = _read_reports(path, reports, catalog)
        former = False
    else:
        frame = _read_frame(path)
        given = [str(column) for column in frame.columns]
        former = has_former_column(path, given)
        known = _check_columns(path, given, settings)
        stated = [
            {key: value for key, value in zip(known, values, strict=True) if not _is_empty(value)}
            for values in zip(*(frame[column].tolist() for column in known), strict=True)
        ]
        asked = [{}] * len(stated)
    for column, value in settings.items():
        fills = {column, STAGE} if column == "tp" else {column}
        if stated and all(fills & set(record) for record in stated):
            warnings.warn(
                f"{path}: --set {column}={value} fills nothing; every row states its {column}",
                SpecWarning,
                stacklevel=3,
            )
    for record, sentences in zip(stated, asked, strict=True):
        for column, sentence in sentences.items():
            if column not in record and column not in settings:
                raise SpecError(sentence)
    merged = [{**settings, **record} for record in stated]
    return [with_stage(record) for record in merged] if former else merged


def _read_reports(
    path: Path, reports: list[dict[str, Any]], catalog: Catalog
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows of reports, and for each the errors for columns that are still empty."""
    stated, asked = [], []
    for place, data in enumerate(reports, start=1):
        where = f"{path}: report {place}" if len(reports) > 1 else str(path)
        report = read_report(data, where, catalog)
        rows = report.rows()
        stated += rows
        asked += [report.unstated] * len(rows)
    return stated, asked


def _read_objects(path: Path) -> list[dict[str, Any]]:
    """The reports in a JSON file; none if the file is a table.

    `vllm bench serve --append-result` writes several, one to a line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        try:
            data = [json.loads(text)]
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            data = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise SpecError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} "
            f"({error.msg[:1].lower()}{error.msg[1:]}); is it whole?"
        ) from None
    except (UnicodeDecodeError, RecursionError):
        raise SpecError(f"{path}: not a readable table or report in JSON") from None
    objects = [one for one in data if isinstance(one, dict)]
    tables = [one for one in objects if tool_of(one) is None and set(one) & set(COLUMNS)]
    return [] if tables else objects


def _read_frame(path: Path) -> pd.DataFrame:
    readers: Mapping[str, Any] = {
        ".csv": lambda p: pd.read_csv(p, dtype=str, keep_default_na=False, encoding="utf-8-sig"),
        ".parquet": pd.read_parquet,
        ".json": lambda p: pd.read_json(p, dtype=False),
    }
    if path.suffix not in readers:
        names = ", ".join(shipped_measurements())
        raise SpecError(
            f"{path}: must be a .csv, .parquet or .json file, or a shipped table: {names}"
        )
    try:
        frame: pd.DataFrame = readers[path.suffix](path)
    except ImportError:
        raise SpecError(
            f"{path}: reading Parquet needs pyarrow; pip install pyarrow, or save the table as CSV"
        ) from None
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SpecError(f"{path}: not a readable table: {reason:.200}") from None
    return frame


def _check_columns(path: Path, given: list[str], settings: Settings) -> list[str]:
    """Columns to read; a near miss of a known name is an error, other columns are ignored."""
    extra = [column for column in given if column not in (*COLUMNS, FORMER)]
    for column in extra:
        guess = nearest(column, [name for name in COLUMNS if name not in given])
        if guess:
            raise SpecError(f"{path}: unknown column {column!r}{guess}")
    if extra:
        warnings.warn(
            f"{path}: columns {', '.join(extra)} are not read; known: {', '.join(COLUMNS)}",
            SpecWarning,
            stacklevel=4,
        )
    required = [n for n, field in Measurement.model_fields.items() if field.is_required()]
    missing = [name for name in required if name not in given and name not in settings]
    if missing:
        raise SpecError(f"{path}: column {missing[0]} is missing; required: {', '.join(required)}")
    return [column for column in given if column in (*COLUMNS, FORMER)]


def _parse(record: Mapping[str, Any], where: str, need_value: bool, name: str) -> Measurement:
    try:
        row = Measurement.model_validate({"id": name, **record})
    except ValidationError as error:
        raise SpecError(f"{where}: {_explain(error)}") from None
    if need_value and row.value is None:
        raise SpecError(f"{where}: value: missing; a fit needs the figure that was measured")
    return row


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    column = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{column}: missing"
    return f"{column}: {message[:1].lower()}{message[1:]}, not {problem['input']!r:.60}"


def without_suspects(rows: Iterable[Measurement]) -> tuple[list[Measurement], list[Measurement]]:
    """Rows that a fit may use, and rows that it must leave out."""
    kept: list[Measurement] = []
    left_out: list[Measurement] = []
    for row in rows:
        (left_out if row.quality == "suspect" else kept).append(row)
    return kept, left_out
