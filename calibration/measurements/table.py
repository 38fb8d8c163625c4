"""Tables of measured throughputs and latencies."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from calibration.measurements.inferencex import as_run
from calibration.measurements.measurement import COLUMNS as COLUMNS
from calibration.measurements.measurement import Measurement as Measurement
from calibration.measurements.records import SUFFIXES, Record, Settings, read_records
from calibration.measurements.stage_gpus import Routed, with_tp
from sweep.engines.known import ENGINES
from sweep.errors import SpecError, SpecWarning
from sweep.specs.catalog import Catalog, is_path
from sweep.specs.model_names import is_narrow, matching
from sweep.specs.parsing import nearest, short
from sweep.specs.shipped import shipped_configs
from sweep.specs.short_names import accelerators, same_but_spelling


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
    return read_files([path], need_value=need_value, settings=settings, catalog=catalog)


def read_files(
    paths: Sequence[str | Path],
    *,
    need_value: bool = True,
    settings: Settings | None = None,
    catalog: Catalog | None = None,
) -> list[Measurement]:
    """The rows of several files, each with an `id` of its own.

    Args:
        paths: As in `read_measurements`.
        need_value: As in `read_measurements`.
        settings: As in `read_measurements`; one that no file leaves room for is warned of.
        catalog: As in `read_measurements`.

    Raises:
        SpecError: As `read_measurements`, or a file is given twice.
    """
    settings, catalog = settings or {}, catalog or Catalog()
    files = [_find(path) for path in paths]
    _refuse_repeated(files)
    stems = Counter(file.stem for file in files)
    rows: list[Measurement] = []
    filled: set[str] = set()
    for file in files:
        stem = file.stem if stems[file.stem] == 1 else f"{file.parent.name}/{file.stem}"
        own, used = _read(file, stem, need_value, settings, catalog)
        rows += own
        filled |= used
    for column in [column for column in settings if column not in filled]:
        warnings.warn(
            f"{files[0]}{' and others' if len(files) > 1 else ''}: --set {column}="
            f"{settings[column]} fills nothing; every row states its {column}",
            SpecWarning,
            stacklevel=3,
        )
    return rows if len(files) == 1 else _with_own_ids(rows)


def _read(
    path: Path, stem: str, need_value: bool, settings: Settings, catalog: Catalog
) -> tuple[list[Measurement], set[str]]:
    """Rows of one file, and the settings that filled a column."""
    if path.suffix not in SUFFIXES:
        names = ", ".join(shipped_measurements())
        raise SpecError(
            f"{path}: must be a .csv, .parquet, .json or .jsonl file, or a shipped table: {names}"
        )
    found = read_records(path, settings, catalog)
    records = _with_names(_in_one_spelling(path, found.rows, catalog), catalog)
    routed = Routed(catalog)
    # The header is line 1 of a CSV; other formats count rows from 1.
    first = 2 if path.suffix == ".csv" else 1
    word = "line" if path.suffix == ".csv" else "row"
    rows = [
        as_run(_parse(with_tp(record, where, routed), where, need_value, f"{stem}-{number}"))
        for number, record in enumerate(records, start=first)
        for where in [f"{path}: {word} {number}"]
    ]
    if not rows:
        raise SpecError(f"{path}: no rows; a table needs at least one below its header")
    seen: set[str] = set()
    for index, row in enumerate(rows, start=first):
        if row.id in seen:
            raise SpecError(f"{path}: {word} {index}: id: {row.id!r} is used twice")
        seen.add(row.id)
    return rows, found.filled


def _refuse_repeated(files: Sequence[Path]) -> None:
    repeated = [file for file, count in Counter(files).items() if count > 1]
    if repeated:
        raise SpecError(f"{repeated[0]}: given twice; its rows would count twice")


def _with_own_ids(rows: Sequence[Measurement]) -> list[Measurement]:
    """The rows with a number after an `id` that an earlier file has used."""
    used: Counter[str] = Counter()
    found = []
    for row in rows:
        used[row.id] += 1
        again = used[row.id]
        found.append(row if again == 1 else row.model_copy(update={"id": f"{row.id}@{again}"}))
    return found


def _in_one_spelling(path: Path, records: list[Record], catalog: Catalog) -> list[Record]:
    """Records with engines and accelerators as they are known: `TensorRT-LLM` is `tensorrt-llm`.

    In another spelling an engine would lack its particulars, and the rows of one run would count as
    several runs. Paths and unknown names stay; of those near a known engine the user is warned.
    """
    engines = {str(row["engine"]) for row in records if "engine" in row} - set(ENGINES)
    machines = {str(row["hardware"]) for row in records if "hardware" in row}
    spelt = {("engine", name): same_but_spelling(name, list(ENGINES)) for name in engines}
    listed = list(catalog.paths("hardware"))
    for name in machines - set(listed):
        if not is_path(name):
            spelt["hardware", name] = accelerators(name, listed)
    for name in sorted(engines):
        guess = "" if spelt["engine", name] else nearest(name, list(ENGINES))
        if guess:
            text = f"{path}: engine {name!r:.60} is unknown and has no particulars{guess}"
            warnings.warn(text, SpecWarning, stacklevel=4)

    def known(column: str, value: Any) -> Any:
        found = spelt.get((column, str(value)), [])
        return found[0] if len(found) == 1 else value

    return [{column: known(column, value) for column, value in row.items()} for row in records]


def _with_names(records: list[Record], catalog: Catalog) -> list[Record]:
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


def _parse(record: Mapping[str, Any], where: str, need_value: bool, name: str) -> Measurement:
    try:
        row = Measurement.model_validate({"id": name, **record})
    except ValidationError as error:
        raise SpecError(f"{where}: {_explain(error)}") from None
    if need_value and row.value is None:
        raise SpecError(f"{where}: value: missing; a fit needs the figure that was measured")
    return row


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    column = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{column}: missing"
    return f"{column}: {message[:1].lower()}{message[1:]}, not {short(problem['input'])}"


def without_suspects(rows: Iterable[Measurement]) -> tuple[list[Measurement], list[Measurement]]:
    """Rows that a fit may use, and rows that it must leave out."""
    kept: list[Measurement] = []
    left_out: list[Measurement] = []
    for row in rows:
        (left_out if row.quality == "suspect" else kept).append(row)
    return kept, left_out
