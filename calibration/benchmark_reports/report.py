"""One report of a benchmarking tool, in the columns of measurements.

`read.py` says what each tool's keys mean.
"""

from dataclasses import dataclass, field
from typing import Any

from calibration.benchmark_reports.json_keys import Keys
from sweep.specs.catalog import Catalog
from sweep.specs.model_names import is_narrow, matching
from sweep.specs.parsing import nearest

Row = dict[str, Any]


@dataclass
class Report:
    """One report.

    Attributes:
        keys: The report itself.
        columns: Columns that all its measurements share; `None` where it states nothing.
        figures: Value by metric, in s-1 or s; `None` if not measured.
        unstated: Error for each column that a row needs and the report does not state.
        doubts: Reasons to doubt the run.
        foreign: Features of the run that the kernel does not price.
        at_once: Whether all requests were sent at once.
    """

    keys: Keys
    columns: Row
    figures: dict[str, float | None]
    unstated: dict[str, str]
    doubts: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    at_once: bool = False

    def rows(self) -> list[Row]:
        """One row for each measured figure."""
        measured = {m: value for m, value in self.figures.items() if value is not None}
        if self.columns["osl"] < 2:
            measured.pop("tpot", None)
        return [self._row(metric, value) for metric, value in measured.items()]

    def _row(self, metric: str, value: float) -> Row:
        foreign = list(self.foreign)
        if self.at_once and metric == "ttft":
            foreign.append("counts the wait of requests sent at once")
        return {
            "scenario": "inflight",
            **{column: stated for column, stated in self.columns.items() if stated is not None},
            "metric": metric,
            "value": value,
            "source": f"{self.keys.where}: {self.keys.tool}",
            **self._judgement(foreign),
        }

    def _judgement(self, foreign: list[str]) -> Row:
        if not foreign and not self.doubts:
            return {}
        quality = "suspect" if foreign else "doubtful"
        return {"quality": quality, "note": "; ".join([*foreign, *self.doubts])}


def arrive(report: Report, key: str, rate: float, limit: int | None) -> None:
    """Doubt requests that arrived at a given rate, in s-1, up to `limit` open at once.

    Raises:
        SpecError: No limit was given.
    """
    if limit is None:
        raise report.keys.refuse(
            key,
            f"requests arrived at {rate:g} a second, so the run measured that rate and not what "
            "the server can do; repeat it with a highest concurrency and no rate",
        )
    report.doubts.append(f"requests arrived at {rate:g} a second, so fewer may have been open")


def ask_hardware(keys: Keys, called: str = "") -> dict[str, str]:
    """Error for the accelerator, which the report calls `called` if it names one."""
    name = f"calls it {called!r}, which is no name of the catalog" if called else "does not name it"
    return {
        "hardware": f"{keys.where}: hardware: a report of {keys.tool} {name}; "
        "give it with --set hardware=NAME (see 'llm-sweep list hardware')"
    }


def ask_tp(keys: Keys) -> str:
    """Error for the GPUs that share each layer."""
    return (
        f"{keys.where}: tp: a report of {keys.tool} does not state the GPUs that share each "
        "layer; give them with --set tp=N"
    )


def name_model(report: Report, key: str, identifier: Any, catalog: Catalog) -> None:
    """Find the model in the catalog, or record that it is missing."""
    found = matching(identifier, catalog.published()) if isinstance(identifier, str) else []
    name = found[0] if len(found) == 1 else None
    report.columns["model"] = name
    if name is None:
        guess = nearest(str(identifier).lower(), list(catalog.paths("models")))
        report.unstated["model"] = (
            f"{report.keys.where}: {key}: {identifier!r} is not one model of the catalog{guess}; "
            "name it with --set model=NAME (see 'llm-sweep list models')"
        )


def ask_narrow(report: Report, key: str, identifier: Any, catalog: Catalog) -> None:
    """Require the type of weights that are known to have fewer than 16 bits."""
    name = report.columns["model"]
    published = name is not None and "quantization_config" in catalog.model(name).config
    if published or is_narrow(str(identifier)):
        report.unstated["weight_dtype"] = (
            f"{report.keys.where}: {key}: the weights of {identifier!r} have fewer than 16 bits; "
            "give their type with --set weight_dtype=TYPE"
        )
