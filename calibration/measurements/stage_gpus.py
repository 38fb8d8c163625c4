"""Rows that state the GPUs of a pipeline stage, in place of `tp`.

Reports of `trtllm-bench` do, and so do tables with the column `attention_dp`, the former name of
`dp_attention`, beside which `tp` counted all GPUs of a stage.
"""

import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from sweep.engines.known import engine_of
from sweep.errors import SpecError, SpecWarning
from sweep.kernel.block import is_routed
from sweep.models.read import read_model
from sweep.specs.catalog import Catalog

FORMER = "attention_dp"
"""Former name of the column `dp_attention`."""
STAGE = "stage_gpus"
"""Key of a record that states tp · dp_attention. [count]"""
Record = dict[str, Any]


def has_former_column(path: Path, columns: Collection[str]) -> bool:
    """Whether a table has the former column; a warning says how it is read.

    Raises:
        SpecError: It has the present column too.
    """
    if FORMER not in columns:
        return False
    if "dp_attention" in columns:
        raise SpecError(f"{path}: columns {FORMER} and dp_attention mean the same; keep the latter")
    warnings.warn(
        f"{path}: {FORMER} is the former name of dp_attention; tp is read as all GPUs of a stage, "
        "now tp · dp_attention",
        SpecWarning,
        stacklevel=5,
    )
    return True


def with_stage(record: Record) -> Record:
    """The record of a table with the former column, whose `tp` counts all GPUs of a stage."""
    rest = {key: value for key, value in record.items() if key != "tp"}
    return {**rest, STAGE: record.get("tp", 1)}


def with_tp(record: Record, where: str, routed: Callable[[str], bool]) -> Record:
    """The record with `tp` and `dp_attention` in place of the GPUs of a stage.

    Args:
        record: Stated values by column, and `STAGE`; other records are returned as they are.
        where: Name of the record in errors.
        routed: Whether a model of that name is a mixture of experts.

    Raises:
        SpecError: The groups are no whole number, or do not divide the GPUs of the stage.
    """
    if STAGE not in record:
        return record
    rest = {key: value for key, value in record.items() if key not in (STAGE, FORMER)}
    stage = _whole(record[STAGE])
    if stage is None:
        return {**rest, "tp": record[STAGE]}
    name = FORMER if FORMER in record else "dp_attention"
    stated = record.get(name)
    groups = _implied(record, stage, routed) if stated is None else _whole(stated)
    if groups is None:
        raise SpecError(
            f"{where}: {name}: must be a whole number of at least 1, not {stated!r:.60}"
        )
    if stage % groups:
        raise SpecError(f"{where}: {name}: {groups} groups do not divide {stage} GPUs of a stage")
    return {**rest, "tp": stage // groups, "dp_attention": groups}


def _implied(record: Record, stage: int, routed: Callable[[str], bool]) -> int:
    engine = engine_of(str(record.get("engine", "")))
    version = str(record.get("engine_version", ""))
    if engine.attention_groups(version, stage, routed=True) == 1:
        return 1
    model = routed(str(record.get("model", "")))
    return engine.attention_groups(version, stage, routed=model)


def _whole(value: Any) -> int | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number == number // 1 and 1 <= number <= 1e9 else None


class Routed:
    """Look-up of whether models are mixtures of experts."""

    def __init__(self, catalog: Catalog) -> None:
        """Look models up in `catalog`."""
        self._catalog = catalog
        self._known: dict[str, bool] = {}

    def __call__(self, model: str) -> bool:
        """Whether the model is one; an unknown name, which is refused later, is not."""
        if model not in self._known:
            try:
                spec = self._catalog.model(model)
                self._known[model] = is_routed(read_model(spec))
            except SpecError:
                self._known[model] = False
        return self._known[model]
