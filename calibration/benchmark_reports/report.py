"""One report of a benchmarking tool, in the columns of measurements.

`read.py` says what each tool's keys mean.
"""

from dataclasses import dataclass, field
from typing import Any

from calibration.benchmark_reports.json_keys import Keys
from sweep.errors import SpecError
from sweep.specs.catalog import Catalog
from sweep.specs.model_names import is_narrow, matching
from sweep.specs.parsing import nearest
from sweep.specs.precision import CHECKPOINT
from sweep.specs.short_names import accelerators, meant

Row = dict[str, Any]


@dataclass
class Report:
    """One run that a report is about.

    Attributes:
        keys: The report itself.
        columns: Columns that all its measurements share; `None` where it states nothing.
        figures: Value by metric, in s-1 or s; `None` if not measured.
        unstated: Error for each column that a row needs and the report does not state.
        latency: Mean time of a request, if the report states it. [s]
        duration: Length of the run, if the report states it. [s]
        doubts: Reasons to doubt the run.
        doubts_of: Reasons to doubt one metric of it.
        foreign: Features of the run that the kernel does not price.
        foreign_of: The same of one metric.
        at_once: Whether all requests were sent at once.
        opened: Mean number of open requests, if the report states it. [count]
        model_key: Key by which the report names its model.
        identifier: Name that the report gives to it.
    """

    keys: Keys
    columns: Row
    figures: dict[str, float | None]
    unstated: dict[str, str]
    latency: float | None = None
    duration: float | None = None
    doubts: list[str] = field(default_factory=list)
    doubts_of: dict[str, list[str]] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    foreign_of: dict[str, list[str]] = field(default_factory=dict)
    at_once: bool = False
    opened: float | None = None
    model_key: str = ""
    identifier: Any = None

    def rows(self) -> list[Row]:
        """One row for each measured figure.

        Raises:
            SpecError: Nothing was measured.
        """
        measured = {m: value for m, value in self.figures.items() if value is not None}
        if (self.columns["osl"] or 2) < 2:
            measured.pop("tpot", None)
        if not measured:
            raise SpecError(
                f"{self.keys.where}: states none of {', '.join(self.figures)}; nothing was measured"
            )
        return [self._row(metric, value) for metric, value in measured.items()]

    def _row(self, metric: str, value: float) -> Row:
        foreign = [*self.foreign, *self.foreign_of.get(metric, [])]
        if self.at_once and metric == "ttft":
            foreign.append("counts the wait of requests sent at once")
        return {
            "scenario": "inflight",
            **{column: stated for column, stated in self.columns.items() if stated is not None},
            "metric": metric,
            "value": value,
            "source": f"{self.keys.where}: {self.keys.tool}",
            **_judgement(foreign, [*self.doubts, *self.doubts_of.get(metric, [])]),
        }

    def doubt(self, metric: str, why: str) -> None:
        """Doubt one metric, if it was measured."""
        if self.figures.get(metric) is not None:
            self.doubts_of.setdefault(metric, []).append(why)


def _judgement(foreign: list[str], doubts: list[str]) -> Row:
    if not foreign and not doubts:
        return {}
    quality = "suspect" if foreign else "doubtful"
    return {"quality": quality, "note": "; ".join(dict.fromkeys([*foreign, *doubts]))}


def length_or_question(
    report: Report, column: str, key: str, tokens: float | None, said: str
) -> None:
    """Enter a mean length, or ask for it.

    Args:
        report: The report.
        column: `isl` or `osl`.
        key: Key that the length is read from.
        tokens: The length, if the report states it. [count]
        said: What the length is of.
    """
    if tokens:
        report.columns[column] = report.keys.length(key, tokens)
        return
    report.columns[column] = None
    report.unstated[column] = (
        f"{report.keys.where}: {key}: missing; give the mean {said} tokens of a request with "
        f"--set {column}=N"
    )


def read_mean_lengths(report: Report, completed: float) -> None:
    """Enter the mean lengths of requests from the tokens of all, or ask for them.

    Args:
        report: The report, with the keys that vLLM and SGLang share.
        completed: Requests that were completed. [count]
    """
    for column, key, said in (
        ("isl", "total_input_tokens", "input"),
        ("osl", "total_output_tokens", "output"),
    ):
        tokens = report.keys.positive_or_none(key)
        length_or_question(report, column, key, tokens and tokens / completed, said)


def ask_concurrency(report: Report, key: str) -> None:
    """Require the requests kept open, if the report states neither them nor a rate."""
    columns = report.columns
    if columns.get("concurrency") is None and columns.get("request_rate") is None:
        report.unstated["concurrency"] = (
            f"{report.keys.where}: {key}: no concurrency is stated; "
            "give the requests kept open with --set concurrency=N"
        )


def arrive(report: Report, rate: float, limit: int | None, completed: float | None = None) -> None:
    """Record requests that arrive at a given rate: an open loop, unless clients were limited too.

    Args:
        report: The report.
        rate: Requests that arrive in a second. [s-1]
        limit: Most requests that were open at once. [count]
        completed: Requests that were completed in a second. [s-1]
    """
    if limit is not None:
        report.doubts.append(f"requests arrived at {rate:g} a second, so fewer may have been open")
        return
    report.columns["request_rate"] = rate
    report.columns["concurrency"] = report.columns["num_requests"] = None
    if completed is not None and completed < 0.9 * rate:
        report.doubts.append(
            f"{completed:.3g} of {rate:.3g} requests a second were completed, so waits may have "
            "grown with the length of the run"
        )
        return
    report.foreign_of["output_throughput"] = ["measures the rate of arrivals, not the server"]


def name_hardware(report: Report, called: str, catalog: Catalog) -> None:
    """Find the accelerator in the catalog, or ask for it if its name is missing or not clear."""
    found = accelerators(called, list(catalog.paths("hardware")))
    if len(found) == 1:
        report.columns["hardware"] = found[0]
        return
    name = f"calls it {called!r:.80}{meant(found)}" if called else "does not name it"
    report.unstated |= ask_hardware(report.keys, name)


def ask_hardware(keys: Keys, name: str = "does not name it") -> dict[str, str]:
    """Error for the accelerator, which the report names as `name` says."""
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
    report.model_key, report.identifier = key, identifier
    found = matching(identifier, catalog.published()) if isinstance(identifier, str) else []
    name = found[0] if len(found) == 1 else None
    report.columns["model"] = name
    if name is None:
        guess = nearest(str(identifier).lower(), list(catalog.paths("models")))
        said = "missing" if identifier is None else f"{identifier!r:.80} is not one of the catalog"
        report.unstated["model"] = (
            f"{report.keys.where}: {key}: {said}{guess}{' Name' if guess else '; name'} "
            "the model with --set model=NAME (see 'llm-sweep list models')"
        )


def narrow_question(report: Report, model: str | None, types: Row, catalog: Catalog) -> str:
    """Error for the type of weights that have fewer than 16 bits; empty if there is no question.

    Args:
        report: The report.
        model: Name of the model, whoever gave it.
        types: Stated values by column.
        catalog: Where to look for the model.
    """
    called = str(report.identifier) if report.identifier is not None else str(model)
    own = stored_narrow(model, catalog)
    narrow = own or is_narrow(called) or is_narrow(str(model))
    # The model's own file is no answer for a quantised version of it.
    vague = types.get("precision") == CHECKPOINT.name and not own
    if not narrow or "weight_dtype" in types or ("precision" in types and not vague):
        return ""
    checkpoint = f" ({CHECKPOINT.name} for that of the model's own file)" if own else ""
    return (
        f"{report.keys.where}: {report.model_key or 'model'}: the weights of {called!r:.80} have "
        "fewer than 16 bits; give their type with --set weight_dtype=TYPE, or a recipe with "
        f"--set precision=NAME{checkpoint}"
    )


def stored_narrow(model: str | None, catalog: Catalog) -> bool:
    """Whether the published config of a model describes a quantisation."""
    if model is None:
        return False
    found = [model] if model in catalog.paths("models") else matching(model, catalog.published())
    return any("quantization_config" in catalog.model(name).config for name in found)
