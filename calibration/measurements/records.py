"""Files of measurements as records: tables in CSV, Parquet and JSON, and reports in JSON."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from calibration.benchmark_reports.consistency import doubt_contradictions
from calibration.benchmark_reports.read import read_report, tool_of
from calibration.benchmark_reports.report import Report, narrow_question, stored_narrow
from calibration.measurements.measurement import COLUMNS, Measurement
from calibration.measurements.stage_gpus import FORMER, STAGE, has_former_column, with_stage
from sweep.errors import SpecError, SpecWarning
from sweep.specs.catalog import Catalog
from sweep.specs.inputs import check_regular, read_text
from sweep.specs.parsing import nearest, short

LARGEST_REPORT = 10**8
"""Largest report: with the latencies of each request they have tens of megabytes. [byte]"""
MALFORMED = (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)
"""Exceptions of pandas and of the JSON library for what is no table."""
LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".parquet", ".json", *LINES)
TYPES = {"weight_dtype", "precision"}
"""Columns that state the type of weights."""
Record = dict[str, Any]
Settings = Mapping[str, Any]


@dataclass
class Records:
    """Records of one file.

    Attributes:
        rows: Values by column, with settings where the file states none.
        filled: Settings that filled a column of some row.
    """

    rows: list[Record]
    filled: set[str] = field(default_factory=set)


def read_records(path: Path, settings: Settings, catalog: Catalog) -> Records:
    """Stated values of each row of a file, with `settings` where it states none.

    Raises:
        SpecError: The file cannot be read, or a report does not state what its rows need.
    """
    try:
        objects = _read_objects(path) if path.suffix in (".json", *LINES) else []
        if objects and not _is_table(objects):
            return _of_reports(path, objects, settings, catalog)
        return _of_table(path, _read_frame(path, objects), settings, catalog)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from None


def _of_reports(path: Path, objects: list[Record], settings: Settings, catalog: Catalog) -> Records:
    found = Records([])
    taken_wide: dict[str, None] = {}
    for index, data in enumerate(objects, start=1):
        where = f"{path}: report {index}" if len(objects) > 1 else str(path)
        for report in read_report(data, where, catalog):
            stated = {name: at for name, at in report.columns.items() if at is not None}
            doubt_contradictions(report, _filled(found, stated, settings))
            for row in report.rows():
                _ask(report, row, settings, catalog)
                found.rows.append(_filled(found, row, settings))
                if "model" not in row and not TYPES & set(found.rows[-1]):
                    taken_wide[_unnamed(report)] = None
    if taken_wide:
        warnings.warn(
            f"{path}: read as 16-bit weights, since {' and '.join(taken_wide):.200}; "
            "give --set precision=NAME if the checkpoint is narrower",
            SpecWarning,
            stacklevel=5,
        )
    return found


def _unnamed(report: Report) -> str:
    if report.identifier is None:
        return "no model is named"
    return f"the name {short(report.identifier)} says nothing of them"


def _ask(report: Report, row: Record, settings: Settings, catalog: Catalog) -> None:
    """Check that everything a row needs is stated by the report or by the settings.

    Raises:
        SpecError: Something is not.
    """
    for column, sentence in report.unstated.items():
        if column not in row and column not in settings:
            raise SpecError(sentence)
    model = row.get("model", settings.get("model"))
    question = narrow_question(report, model, {**settings, **row}, catalog)
    if question:
        raise SpecError(question)


def _of_table(path: Path, frame: pd.DataFrame, settings: Settings, catalog: Catalog) -> Records:
    given = [str(column) for column in frame.columns]
    former = has_former_column(path, given)
    known = _check_columns(path, given, settings)
    stated = [
        {key: value for key, value in zip(known, values, strict=True) if not _is_empty(value)}
        for values in zip(*(frame[column].tolist() for column in known), strict=True)
    ]
    found = Records([])
    found.rows = [_filled(found, record, settings) for record in stated]
    if former:
        found.rows = [with_stage(record) for record in found.rows]
    _warn_of_wide_types(path, found.rows, catalog)
    return found


def _filled(found: Records, record: Record, settings: Settings) -> Record:
    """The record with settings where it states nothing."""
    added = {}
    for column, value in settings.items():
        # Arrivals at a rate have no clients that keep requests open.
        unwanted = column in ("concurrency", "num_requests") and "request_rate" in record
        if column not in record and not unwanted and not (column == "tp" and STAGE in record):
            added[column] = value
    found.filled |= set(added)
    return {**added, **record}


def _warn_of_wide_types(path: Path, rows: list[Record], catalog: Catalog) -> None:
    """Warn once of rows that would be 16 bits wide though their model's own file is not."""
    wide = [row for row in rows if not TYPES & set(row)]
    models = dict.fromkeys(str(row["model"]) for row in wide if "model" in row)
    narrow = [model for model in models if stored_narrow(model, catalog)]
    if narrow:
        warnings.warn(
            f"{path}: rows of {', '.join(narrow):.80} state no weight_dtype and count as 16 bits "
            "wide; the models' own files are narrower: give the column weight_dtype or precision",
            SpecWarning,
            stacklevel=5,
        )


def _read_objects(path: Path) -> list[Record]:
    """Objects in a JSON file, of its list or of its lines; none if it contains no object.

    `vllm bench serve --append-result` and SGLang write one to a line, sweeps of vLLM a list.
    """
    try:
        text = read_text(path, "utf-8-sig", LARGEST_REPORT)
        try:
            data = [json.loads(text)] if path.suffix not in LINES else _lines(text)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            data = _lines(text)
    except json.JSONDecodeError as error:
        raise SpecError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} "
            f"({error.msg[:1].lower()}{error.msg[1:]}); is it whole?"
        ) from None
    except (ValueError, RecursionError):
        raise SpecError(f"{path}: not a readable table or report in JSON") from None
    flat = [one for each in data for one in (each if isinstance(each, list) else [each])]
    return [one for one in flat if isinstance(one, dict)]


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _is_table(objects: list[Record]) -> bool:
    return any(tool_of(one) is None and set(one) & set(COLUMNS) for one in objects)


def _read_frame(path: Path, objects: list[Record]) -> pd.DataFrame:
    readers: Mapping[str, Any] = {
        ".csv": lambda p: pd.read_csv(p, dtype=str, keep_default_na=False, encoding="utf-8-sig"),
        ".parquet": pd.read_parquet,
        ".json": lambda p: pd.read_json(p, dtype=False),
        **dict.fromkeys(LINES, lambda _: pd.DataFrame(objects)),
    }
    check_regular(path)
    try:
        frame: pd.DataFrame = readers[path.suffix](path)
    except ImportError:
        raise SpecError(
            f"{path}: reading Parquet needs pyarrow; pip install pyarrow, or save the table as CSV"
        ) from None
    except (pd.errors.ParserError, *MALFORMED) as error:
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
            f"{path}: columns {', '.join(extra):.300} are not read; known: {', '.join(COLUMNS)}",
            SpecWarning,
            stacklevel=6,
        )
    required = [n for n, one in Measurement.model_fields.items() if one.is_required()]
    missing = [name for name in required if name not in given and name not in settings]
    if missing:
        raise SpecError(f"{path}: column {missing[0]} is missing; required: {', '.join(required)}")
    return [column for column in given if column in (*COLUMNS, FORMER)]


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))
