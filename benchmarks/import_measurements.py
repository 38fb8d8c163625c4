"""Tables of measurements, as gathered from public sources, in the project's own columns.

Run from the repository: `python benchmarks/import_measurements.py FOLDER`, where FOLDER holds the
gathered tables. It writes `configs/measurements/`, from which everything else reads: neither the
package nor its tests need FOLDER.
"""

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path

from calibration.measurements import inferencex
from calibration.measurements.measurement import COLUMNS, Measurement
from sweep.engines.versions import version_of

Row = dict[str, str]
TARGET = Path(__file__).parents[1] / "configs" / "measurements"
PERMISSIVE = {
    "silicon": "Apache-2.0",
    "argonne": "BSD-3-Clause",
    "accelmark": "Apache-2.0",
    "rocm_vllm_mi300x": "Apache-2.0",
    "qwen_speed": "Apache-2.0",
    "dstack_h100_mi300x": "Apache-2.0",
    "gpustack": "Apache-2.0",
    "iog_rtx4090_h100pcie": "Apache-2.0",
    "lmdeploy_a100": "Apache-2.0",
}
"""Gathered tables whose source grants reuse, and its licence. A page without one is not shipped."""
WAVES = 10
"""Prompts of a run of `silicon`, over its clients; all are sent at once. [count]"""
LITTLE = 0.05
"""Departure of clients from rate × latency above which a run is doubtful. [1]"""
ABOVE_BOUND = "nvidia_llama_3_1_8b_instruct_fp8_nvidia_llama_3_1_8b_instruct_fp8_h200_sxm_vllm_"
"""Runs of `silicon` whose throughput is above the attainable bound, all of vLLM 0.12 on H200: by 5
to 74 % above rooflines that reach what the best kernels do, 0.8 of the matrix rate and 0.93 of the
bandwidth, without any overhead. No other run of any engine is. Prompts that an earlier run left in
the cache would explain it."""
CACHE_OF_16_BITS = "nvfp4-experts-kv16", "nvfp4-experts"
"""Recipe that the gathered rows of Kimi in NVFP4 name, and the one of its checkpoint, whose file
states a KV cache of 8 bits."""
READS_CACHE_TYPE = (0, 13)
"""First version of vLLM that takes the type of the cache from the checkpoint:
github.com/vllm-project/vllm/pull/29980, December 2025."""
ONE_SLOT_LESS = "meta_llama_llama_3_1_8b_instruct_meta_llama_llama_3_1_8b_instruct_h100_sxm_trtllm_"
"""Runs of `silicon` of TensorRT-LLM in which one client waits for a slot: their times to first
token are 0.8 times the time between two ends, which is the latency over the clients, beside a
prompt and a few iterations, whatever the GPUs and lengths. That multiple is 0 in the runs of all
other models and engines."""
STALLED_FROM = 32
"""Clients from which runs of SGLang 0.5.9 in NVFP4 without expert parallelism stalled. [count]"""
LONGEST, LONGEST_OF_SUITE = 512, {"D": 256}
"""Most output tokens of AccelMark's suites; lengths between are taken as uniform. [count]"""
UNSTATED = "unstated"
"""Version of an engine that a source does not state."""


def gathered(path: Path) -> list[Row]:
    """Rows of a gathered table."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def own(row: Row) -> Row:
    """A row with the project's columns: `tp` without the attention groups, whose GPUs it had."""
    found = {name: row.get(name, "") for name in COLUMNS}
    groups = row.get("attention_dp", "")
    if groups.isdigit():
        found["dp_attention"] = groups
        found["tp"] = str(int(row["tp"]) // int(groups))
    if found["precision"]:
        found |= dict.fromkeys(("weight_dtype", "activation_dtype", "kv_dtype"), "")
    return found


def served(row: Row) -> Row:
    """A row of `silicon`: a run of its benchmark has ten prompts for each client.

    The other runs do not state theirs. On H100 the first wave makes a tenth of the mean time to
    first token of both engines whose requests do not keep step, as in ten waves; on H200 a fiftieth
    at most.
    """
    found = own(row)
    if row["note"] == inferencex.NAME:
        found |= of_inferencex(found)
        found["note"] = "lengths uniform in 0.8 to 1.0 of the nominal; means given"
    elif row["hardware"].startswith("h100"):
        found["num_requests"] = str(WAVES * int(row["concurrency"]))
        found["note"] += "; ten waves of prompts assumed"
    if row["id"].startswith(ONE_SLOT_LESS):
        found["max_batch_size"] = str(int(row["concurrency"]) - 1)
        found["note"] += "; one request waits for a slot"
    reads_type = version_of(row["engine_version"]) >= READS_CACHE_TYPE
    if row["engine"] == "vllm" and row["precision"] == CACHE_OF_16_BITS[0] and reads_type:
        found["precision"] = CACHE_OF_16_BITS[1]
        found["note"] += "; the checkpoint states a cache of 8 bits"
    if row["id"].startswith(ABOVE_BOUND):
        return doubtful(found, "above the attainable bound, as if prompts were cached")
    if stalled(row) and row["metric"] != "tpot":
        return doubtful(found, "first wave waited 75 s whatever its clients, lengths and GPUs")
    return found


def of_inferencex(row: Row) -> Row:
    """Columns that the scripts of InferenceX set, of the run of a row."""
    given = {name: value for name, value in row.items() if value}
    stated = inferencex.settings_of_run(Measurement.model_validate(given))
    return {name: str(value) for name, value in stated.items()}


def stalled(row: Row) -> bool:
    """Whether the first wave of a run of `silicon` waited for something other than its prompts.

    Times to first token of these are 7 to 9 s for 32, 64 and 128 clients, for 922 and 7,373 output
    tokens, on 4 and on 8 GPUs, beside less than 0.9 s for 16 clients: one wait of some 75 s at the
    start, spread over ten waves, as a server takes that compiles or tunes kernels for a new batch.
    """
    return (
        row["engine"] == "sglang"
        and row["engine_version"] == "0.5.9"
        and row["weight_dtype"] == "nvfp4"
        and row["ep"] == "1"
        and int(row["concurrency"] or 0) >= STALLED_FROM
    )


def doubtful(row: Row, why: str) -> Row:
    """The row, marked as doubtful for a reason."""
    note = "; ".join(text for text in (row["note"], why) if text)
    return {**row, "quality": "doubtful", "note": note}


def against_littles_law(rows: list[Row]) -> list[Row]:
    """Rows of runs whose clients differ from rate × latency are marked, with the difference."""
    by_run: dict[str, dict[str, Row]] = {}
    for row in rows:
        run, _, metric = row["id"].rpartition(".")
        by_run.setdefault(run, {})[metric] = row
    wrong = {}
    for run, by_metric in by_run.items():
        if {"ttft", "tpot", "output_throughput"} <= set(by_metric):
            value = {metric: float(row["value"]) for metric, row in by_metric.items()}
            osl = int(by_metric["tpot"]["osl"])
            latency = value["ttft"] + (osl - 1) * value["tpot"]
            held = value["output_throughput"] / osl * latency
            ratio = held / int(by_metric["tpot"]["concurrency"]) - 1
            # The ends of a run hold fewer requests than there are clients.
            allowed = LITTLE + (1 / WAVES if by_metric["tpot"]["num_requests"] else 0)
            if not -allowed <= ratio <= LITTLE:
                wrong[run] = f"rate x latency is {ratio:+.0%} of the clients"
    return [
        doubtful(row, wrong[run]) if (run := row["id"].rpartition(".")[0]) in wrong else row
        for row in rows
    ]


def batch_of_one(row: Row) -> Row:
    """A row of `qwen_speed`, whose mixtures in int4 ran four times slower than in 8 bits."""
    slow = row["weight_dtype"] == "int4" and row["engine"] == "sglang" and "-a" in row["model"]
    return doubtful(own(row), "experts in int4 without a fused kernel") if slow else own(row)


def varied(row: Row) -> Row:
    """A row of a run whose prompts have varied lengths.

    Outputs of AccelMark end by themselves or at a limit, and its runs without clients send all
    prompts at once. Of other sources the means stand for all lengths.
    """
    found = doubtful(own(row), "lengths vary")
    suite = re.search(r"AccelMark suite_(\w)", row["note"])
    if suite is None:
        return found
    longest = LONGEST_OF_SUITE.get(suite[1], LONGEST)
    spread = max(longest / float(row["osl"]) - 1, 0.0) / sqrt(3)
    found["osl_cv"] = f"{spread:.3f}"
    sent = re.search(r"num_requests=(\d+) all sent at once", row["note"])
    if sent:
        found["num_requests"] = sent[1]
    return found


def of_unstated_version(row: Row) -> Row:
    """A row whose source does not state the version of the engine."""
    return {**own(row), "engine_version": row.get("engine_version") or UNSTATED}


READERS: dict[str, Callable[[Row], Row]] = {
    "silicon": served,
    "argonne": of_unstated_version,
    "dstack_h100_mi300x": of_unstated_version,
    "qwen_speed": batch_of_one,
    "accelmark": varied,
    "gpustack": varied,
    "iog_rtx4090_h100pcie": varied,
}


def tables(folder: Path) -> Iterator[tuple[str, Row]]:
    """Name of the shipped table and row, for every row that is shipped."""
    for row in gathered(folder / "measurements_1.1.csv"):
        yield "tensorrt-llm-1.1", own(row)
    for name in PERMISSIVE:
        read = READERS.get(name, own)
        rows = [read(row) for row in gathered(folder / "engines" / f"{name}.csv")]
        if name == "silicon":
            rows = against_littles_law(rows)
        for row in rows:
            if row["engine"] == "vllm" and row["hardware"].startswith("mi"):
                row = {**row, "engine": "vllm-rocm"}
            suffix = "-served" if row["engine"] == "tensorrt-llm" else ""
            if suffix and name != "silicon":
                continue
            if read is varied:
                suffix = "-varied"
            late = row["scenario"] == "inflight" and row["metric"] == "ttft"
            of_equal = late and read is not varied
            yield (CLIENTS if of_equal else f"{row['engine']}{suffix}"), row


def main() -> None:
    """Write the tables and say how many rows each has."""
    found: dict[str, list[Row]] = {}
    for table, row in tables(Path(sys.argv[1])):
        if table in KEPT and row["engine"] in ENGINES:
            found.setdefault(table, []).append(row)
    for table, rows in found.items():
        used = [column for column in COLUMNS if any(row[column] for row in rows)]
        with (TARGET / f"{table}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, used, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(table, dict(Counter(row["quality"] for row in rows)))


CLIENTS = "served-ttft"
"""Table of times to first token as clients measure them, with all that a request waits for."""
ENGINES = ("tensorrt-llm", "vllm", "sglang", "vllm-rocm")
KEPT = (
    *("tensorrt-llm-1.1", "tensorrt-llm-served", "vllm", "vllm-varied", "sglang"),
    *("sglang-varied", "vllm-rocm", CLIENTS),
)
"""Shipped tables. Runs of prompts of varied lengths, of which only means are known, are apart from
those that are fitted."""

if __name__ == "__main__":
    main()
