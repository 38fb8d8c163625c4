"""Launch scripts: a shell runs them as they read, and they state what the prediction assumed."""

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import yaml
from factories import shipped

from calibration.measurements.column_defaults import read_settings
from calibration.measurements.table import read_measurements
from sweep.decisions.deployments import INFLIGHT, STATIC, Deployments
from sweep.decisions.launch_commands import launch_script
from sweep.decisions.launch_settings import (
    LaunchSettings,
    launch_settings,
    memory_shares,
    reserved_share,
)
from sweep.decisions.recommend import Demand, recommend
from sweep.decisions.specs_by_name import SpecsByName
from sweep.engines.calibration_file import load_calibration
from sweep.errors import SpecError
from sweep.evaluation.single_cell import cell
from sweep.kernel import memory
from sweep.models.read import read_model

ENGINES = ("trtllm", "vllm", "sglang")
STUB = '#!/bin/sh\nfor word in "$0" "$@"; do printf "%s\\0" "$word"; done > "$SEEN"\n'
COMMANDS = ("vllm", "trtllm-serve", "python3")


def deployments(
    model: str = "llama-3.1-8b",
    hardware: str = "h100-sxm-80gb",
    precision: str = "fp16",
    **columns: Any,
) -> Deployments:
    row = {
        "hardware": hardware,
        "precision": precision,
        **{"tp": 2, "pp": 1, "dp_attention": 1, "gpus": 2, "asked": 96, "held": 96.0, "fit": 500.0},
        **{"throughput": 5000.0, "lower": np.nan, "upper": np.nan, "ttft": 0.1, "tpot": 0.02},
        **{"runs": True, "reason": 0, "beyond": 0},
        **columns,
    }
    catalog = shipped()
    specs = SpecsByName.of(
        {"model": [model], "hardware": [hardware], "precision": [precision]}, catalog
    )
    return Deployments(model, 1000, 200, INFLIGHT, pd.DataFrame([row]), "ideal", specs)


def settings(*, demand: Demand | None = None, **changes: Any) -> LaunchSettings:
    return launch_settings(recommend(deployments(**changes), demand or Demand()))


def arguments(script: str, folder: Path, **environment: str) -> list[str]:
    """The words that the script's command gets, as bash runs it."""
    folder.mkdir(exist_ok=True)
    for name in COMMANDS:
        stub = folder / name
        stub.write_text(STUB)
        stub.chmod(0o755)
    seen = folder / "seen"
    ended = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=folder,
        env={"PATH": f"{folder}:/usr/bin:/bin", "SEEN": str(seen), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    command, *words = seen.read_text().split("\0")[:-1]
    return [Path(command).name, *words]


def options(words: list[str]) -> dict[str, str | None]:
    """Options by name; one without a value has none."""
    found: dict[str, str | None] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            found[word] = None if following.startswith("--") else following
    return found


def test_vllm_gets_the_layout_and_the_limits(tmp_path: Path) -> None:
    given = settings(
        model="deepseek-v3", hardware="h200-sxm-141gb", precision="checkpoint", dp_attention=4, ep=8
    )
    words = arguments(launch_script(given, "vllm"), tmp_path)
    assert words[:3] == ["vllm", "serve", given.model.hugging_face_id]
    found = options(words)
    assert found["--tensor-parallel-size"] == "2"
    assert found["--data-parallel-size"] == "4"
    assert "--enable-expert-parallel" in found
    assert found["--max-num-seqs"] == "2048"
    assert found["--max-num-batched-tokens"] == "8192"
    assert found["--max-model-len"] == "1200"
    assert "--quantization" not in found


def test_sglang_counts_all_groups_together(tmp_path: Path) -> None:
    given = settings(
        model="deepseek-v3", hardware="h200-sxm-141gb", precision="checkpoint", dp_attention=4
    )
    words = arguments(launch_script(given, "sglang"), tmp_path)
    assert words[:4] == ["python3", "-m", "sglang.launch_server", "--model-path"]
    found = options(words)
    # Four groups of two GPUs; the engine divides both limits by the groups.
    assert (found["--tp-size"], found["--dp-size"]) == ("8", "4")
    assert found["--max-running-requests"] == str(2048 * 4)
    assert found["--chunked-prefill-size"] == str(8192 * 4)


def test_trtllm_writes_its_options(tmp_path: Path) -> None:
    given = settings(tp=1, gpus=1, kv_cache_fraction=0.8, reserved_osl=0.5)
    words = arguments(launch_script(given, "trtllm"), tmp_path)
    assert words[:2] == ["trtllm-serve", "meta-llama/Llama-3.1-8B"]
    found = options(words)
    assert found["--kv_cache_free_gpu_memory_fraction"] == "0.8"
    written = yaml.safe_load((tmp_path / str(found["--extra_llm_api_options"])).read_text())
    assert written["scheduler_config"]["capacity_scheduler_policy"] == "MAX_UTILIZATION"
    assert written["kv_cache_config"] == {"dtype": "auto", "enable_block_reuse": False}
    assert written["enable_attention_dp"] is False


@pytest.mark.parametrize("target", (*ENGINES, "bench"))
def test_every_option_has_its_assumption(target: Any) -> None:
    body = launch_script(settings(), target).partition("options=(\n")[2].partition("\n)\n")[0]
    assert all("  # " in line for line in body.splitlines())


@pytest.mark.parametrize("target", (*ENGINES, "bench"))
@pytest.mark.parametrize(
    "name", ["a b", "it's", '"; touch harm; "', "$(touch harm)", "a\nb", "`x`", "日本"]
)
def test_a_name_is_one_word_and_runs_nothing(target: Any, name: str, tmp_path: Path) -> None:
    given = settings()
    spec = given.model.model_copy(update={"hugging_face_id": name, "name": name})
    machine = given.hardware.model_copy(update={"name": name})
    odd = replace(given, model=spec, hardware=machine, answer=(f"for {name}\x1b[31m",))
    assert name in arguments(launch_script(odd, target), tmp_path)
    assert "\x1b" not in launch_script(odd, target)
    converted = replace(odd, as_published=False, recipe=shipped().precision("nvfp4"))
    words = arguments(launch_script(converted, target), tmp_path, MODEL="of mine")
    assert "of mine" in words
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_that_nobody_named_is_asked_for(tmp_path: Path) -> None:
    script = launch_script(settings(precision="nvfp4", hardware="b200-sxm"), "trtllm")
    with pytest.raises(RuntimeError, match=r"checkpoint of llama-3\.1-8b with weights in nvfp4"):
        arguments(script, tmp_path)
    assert arguments(script, tmp_path, MODEL="/models/x")[1] == "/models/x"


def test_eight_bits_are_made_online_where_the_engine_can(tmp_path: Path) -> None:
    for target in ("vllm", "sglang"):
        script = launch_script(settings(precision="fp8"), target)
        assert options(arguments(script, tmp_path))["--quantization"] == "fp8"
    with pytest.raises(RuntimeError, match="checkpoint of"):
        arguments(launch_script(settings(precision="fp8"), "trtllm"), tmp_path)


@pytest.mark.parametrize("kept", [0.0, 2.5e9])
@pytest.mark.parametrize("fraction", [0.5, 0.9, 1.0])
def test_shares_of_all_memory_leave_the_cache_its_share_of_what_is_free(
    fraction: float, kept: float
) -> None:
    catalog = shipped()
    spec, machine = catalog.model("llama-3.1-8b"), catalog.hardware("h100-sxm-80gb")
    numbers = {"tp": 2, "kv_cache_fraction": fraction, "isl": 1000, "osl": 200}
    point = cell(read_model(spec), machine, catalog.precision("fp16"), numbers)
    factors = replace(point.factors, reserved_memory_bytes=kept)
    point = replace(point, factors=factors)
    total, static, free = memory_shares(point)
    assert free == pytest.approx(fraction)
    size = machine.usable_memory_bytes or machine.memory_bytes
    # Weights by the count of parameters; norms, which are copied, are the difference.
    weights = 8_030_261_248 * 2 / 2
    cache = static * size - weights
    other = total * size - weights - cache
    # What an engine keeps by habit is in none of the shares of the whole memory.
    assert cache == pytest.approx(fraction * (size - kept - weights - other), rel=1e-3)
    assert other > 0
    # 32 layers, 4 KV heads of 128 on each GPU, keys and values, 16 bits.
    sequence = 1200 * 32 * 2 * 4 * 128 * 2
    assert float(memory.max_concurrency(point)) == pytest.approx(cache / sequence, abs=1.5)
    if fraction == 1:
        assert total == pytest.approx(1 - kept / size)


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_an_engine_with_its_share_holds_as_many(fraction: float) -> None:
    """The cache by a share of what is free is that by the shares which commands state."""
    catalog = shipped()
    spec, machine = catalog.model("mixtral-8x7b"), catalog.hardware("h200-sxm-141gb")

    def held(**share: float) -> tuple[float, tuple[float, float, float]]:
        numbers = {"tp": 2, "isl": 1000, "osl": 200, **share}
        with jax.enable_x64(True):
            point = cell(read_model(spec), machine, catalog.precision("fp16"), numbers)
            factors = replace(point.factors, reserved_memory_bytes=3e9)
            point = replace(point, factors=factors)
            return float(memory.cache_memory(point)), memory_shares(point)

    cache, (total, static, _) = held(kv_cache_fraction=fraction)
    by_total = held(gpu_memory_utilization=total)
    by_static = held(mem_fraction_static=static)
    assert by_total[0] == pytest.approx(cache, rel=1e-6)
    assert by_static[0] == pytest.approx(cache, rel=1e-6)
    assert by_total[1] == pytest.approx((total, static, fraction), rel=1e-6)
    assert by_static[1] == pytest.approx((total, static, fraction), rel=1e-6)


@pytest.mark.parametrize(("habit", "said"), [(1.0, True), (0.5, False)])
def test_what_is_reserved_is_that_of_the_engine_too(habit: float, said: bool) -> None:
    script = launch_script(replace(settings(), reserved=habit), "vllm")
    assert ("reserves the KV cache of all output tokens" in script) is said
    catalog = shipped()
    blocks = read_model(catalog.model("llama-3.1-8b"))
    machine, recipe = catalog.hardware("h100-sxm-80gb"), catalog.precision("fp16")
    numbers = {"isl": 1000, "osl": 200}
    point = cell(blocks, machine, recipe, numbers, load_calibration("vllm"))
    assert reserved_share(point) == 0.5


def test_a_decimal_share_in_32_bits_is_not_rounded_down(tmp_path: Path) -> None:
    share = float(np.float32(0.9))
    assert share < 0.9
    given = replace(settings(), total_share=share, static_share=float(np.float32(0.85)))
    words = options(arguments(launch_script(given, "vllm"), tmp_path))
    assert words["--gpu-memory-utilization"] == "0.9"
    words = options(arguments(launch_script(given, "sglang"), tmp_path))
    assert words["--mem-fraction-static"] == "0.85"


def test_shares_are_rounded_down(tmp_path: Path) -> None:
    given = replace(settings(), total_share=0.91999, static_share=0.87654)
    assert options(arguments(launch_script(given, "vllm"), tmp_path))[
        "--gpu-memory-utilization"
    ] == ("0.919")
    assert options(arguments(launch_script(given, "sglang"), tmp_path))[
        "--mem-fraction-static"
    ] == ("0.876")


def test_the_report_of_the_benchmark_is_read_back(tmp_path: Path) -> None:
    """From the benchmark's words to the keys its report is documented to have, and to rows."""
    given = settings(model="mixtral-8x7b", precision="fp8", ep=2, max_batch_size=128)
    script = launch_script(given, "bench")
    words = arguments(script, tmp_path, MODEL="/checkpoints/mine")
    assert words[:3] == ["vllm", "bench", "serve"]
    sent = options(words)
    prompts = int(str(sent["--num-prompts"]))
    report = {
        "backend": sent["--backend"],
        "model_id": sent["--model"],
        "num_prompts": prompts,
        "request_rate": sent["--request-rate"],
        "max_concurrency": int(str(sent["--max-concurrency"])),
        "completed": prompts,
        "total_input_tokens": prompts * int(str(sent["--random-input-len"])),
        "total_output_tokens": prompts * int(str(sent["--random-output-len"])),
        **{"output_throughput": 4000.0, "mean_ttft_ms": 90.0, "mean_tpot_ms": 21.0},
    }
    path = tmp_path / str(sent["--result-filename"])
    path.write_text(json.dumps(report))
    command = shlex.split(script.splitlines()[-1].removeprefix("# "))
    assert command[:4] == ["llm-calibrate", "predict", "ideal", path.name]
    stated = read_settings([word for word in command[4:] if word != "--set"])
    row = read_measurements(path, settings=stated, catalog=shipped())[0]
    assert (row.model, row.hardware, row.engine) == ("mixtral-8x7b", "h100-sxm-80gb", "unknown")
    assert (row.tp, row.pp, row.ep, row.dp_attention, row.max_batch_size) == (2, 1, 2, 1, 128)
    assert (row.isl, row.osl, row.concurrency, row.quality) == (1000, 200, 96, "ok")
    assert (row.weight_dtype, row.activation_dtype, row.kv_dtype) == ("fp8", "fp8", "fp8")


SPECULATING = {"draft_tokens": 3, "acceptance_rate": 0.7}


def test_modules_of_the_model_draft(tmp_path: Path) -> None:
    given = settings(
        model="deepseek-v3", hardware="h200-sxm-141gb", precision="checkpoint", tp=8, **SPECULATING
    )
    found = options(arguments(launch_script(given, "vllm"), tmp_path))
    config = json.loads(str(found["--speculative-config"]))
    assert config == {"method": "mtp", "num_speculative_tokens": 3}
    found = options(arguments(launch_script(given, "sglang"), tmp_path))
    assert found["--speculative-algorithm"] == "EAGLE"
    # Three drafts one after another, and the newest token, are verified.
    assert found["--speculative-num-draft-tokens"] == "4"
    arguments(launch_script(given, "trtllm"), tmp_path)
    written = yaml.safe_load((tmp_path / "trtllm-options.yaml").read_text())
    assert written["speculative_config"] == {"decoding_type": "MTP", "num_nextn_predict_layers": 3}


def test_another_model_drafts(tmp_path: Path) -> None:
    given = replace(settings(**SPECULATING), draft="my/draft 'x'")
    found = options(arguments(launch_script(given, "vllm"), tmp_path))
    config = json.loads(str(found["--speculative-config"]))
    assert config["model"] == "my/draft 'x'"
    found = options(arguments(launch_script(given, "sglang"), tmp_path))
    assert found["--speculative-draft-model-path"] == "my/draft 'x'"
    arguments(launch_script(given, "trtllm"), tmp_path)
    written = yaml.safe_load((tmp_path / "trtllm-options.yaml").read_text())
    assert written["speculative_config"]["speculative_model"] == "my/draft 'x'"


def test_hits_turn_the_cache_of_prompts_on(tmp_path: Path) -> None:
    given = settings(prefix_hit_rate=0.25)
    assert "--enable-prefix-caching" in launch_script(given, "vllm")
    assert "--disable-radix-cache" not in launch_script(given, "sglang")
    assert "enable_block_reuse: true" in launch_script(given, "trtllm")
    sent = options(arguments(launch_script(given, "bench"), tmp_path))
    assert (sent["--random-prefix-len"], sent["--random-input-len"]) == ("250", "750")


INTERVALS = {"batch_wait": 20, "poll_interval": 30, "stream_interval": 10}


def test_commands_state_what_the_scheduler_holds_back(tmp_path: Path) -> None:
    given = settings(**INTERVALS)
    found = options(arguments(launch_script(given, "sglang"), tmp_path))
    assert (found["--scheduler-recv-interval"], found["--stream-interval"]) == ("30", "10")
    found = options(arguments(launch_script(given, "vllm"), tmp_path))
    assert found["--stream-interval"] == "10"
    assert "poll_interval 30, for which vLLM has no option" in launch_script(given, "vllm")
    arguments(launch_script(given, "trtllm"), tmp_path)
    written = yaml.safe_load((tmp_path / "trtllm-options.yaml").read_text())
    assert (written["batch_wait_timeout_iters"], written["stream_interval"]) == (20, 10)
    assert "recv-interval" not in launch_script(settings(), "sglang")


def test_prompts_of_tensorrt_llm_wait_until_an_iteration_is_full(tmp_path: Path) -> None:
    arguments(launch_script(settings(batch_wait=20), "trtllm"), tmp_path)
    written = yaml.safe_load((tmp_path / "trtllm-options.yaml").read_text())
    assert written["batch_wait_max_tokens_ratio"] == 1


LENGTHS = {"vllm": "--max-model-len", "sglang": "--context-length", "trtllm": "--max_seq_len"}


@pytest.mark.parametrize("target", ENGINES)
def test_varied_requests_fit_the_server(target: Any, tmp_path: Path) -> None:
    """1000 and 200 tokens, and three deviations of a fifth of each more."""
    given = settings(isl_cv=0.2, osl_cv=0.2)
    script = launch_script(given, target)
    assert options(arguments(script, tmp_path))[LENGTHS[target]] == "1920"
    assert "raise it to your longest request" in script
    sent = options(arguments(launch_script(given, "bench"), tmp_path))
    assert float(str(sent["--random-range-ratio"])) == pytest.approx(0.2 * 3**0.5, rel=1e-3)
    assert "--set isl_cv=0.2 --set osl_cv=0.2" in launch_script(given, "bench")


def test_no_server_takes_more_than_the_model_is_made_for(tmp_path: Path) -> None:
    given = settings(model="llama-2-7b", isl_cv=2.0, osl_cv=2.0)
    found = options(arguments(launch_script(given, "vllm"), tmp_path))
    assert found["--max-model-len"] == "4096"
    for target in ENGINES:
        script = launch_script(replace(given, isl=8000), target)
        assert "# llama-2-7b is made for 4,096 tokens, and 8,200 are asked" in script
        assert "made for" not in launch_script(given, target)


@pytest.mark.parametrize("spreads", [(0.2, 0.3), (0.6, 0.6), (0.3, 0.0)])
def test_lengths_that_the_benchmark_cannot_draw_are_refused(spreads: tuple[float, float]) -> None:
    isl_cv, osl_cv = spreads
    with pytest.raises(SpecError, match=r"give both one spread below 0\.577"):
        launch_script(settings(isl_cv=isl_cv, osl_cv=osl_cv), "bench")


def test_commands_say_what_the_cache_keeps(tmp_path: Path) -> None:
    every, nothing, half = (settings(kept_context=share) for share in (1.0, 0.0, 0.5))
    for target, option in (
        ("vllm", "--disable-hybrid-kv-cache-manager"),
        ("sglang", "--disable-hybrid-swa-memory"),
    ):
        kept, dropped = (launch_script(each, target) for each in (every, nothing))
        assert option in options(arguments(kept, tmp_path))
        assert option not in dropped
    assert "max_attention_window" in launch_script(nothing, "trtllm")
    assert "max_attention_window" not in launch_script(every, "trtllm")
    for target in ENGINES:
        assert "assumes kept_context 0.5, which no option sets" in launch_script(half, target)
        assert "no option sets" not in launch_script(nothing, target)


def test_scripts_say_what_no_option_sets_and_no_row_states() -> None:
    given = settings(expert_imbalance=1.6, reserved_osl=0.5, scheduler="chunked")
    for target in ENGINES:
        words = "the prediction assumes reserved_osl 0.5, expert_imbalance 1.6, which no option"
        assert words in launch_script(given, target)
    script = launch_script(given, "bench")
    assert "has scheduler chunked, reserved_osl 0.5, expert_imbalance 1.6" in script
    assert "engine's own" not in launch_script(settings(), "bench")


def test_the_benchmark_is_predicted_for_the_engine_and_its_first_wave() -> None:
    known = load_calibration("tensorrt-llm")
    assert known is not None
    table = replace(deployments(), calibration=f"{known.name} {known.digest}")
    script = launch_script(launch_settings(recommend(table, Demand())), "bench")
    assert f"--set engine=tensorrt-llm --set engine_version={known.engine_version}" in script
    assert "all clients send their first request at once" in script
    assert "first request at once" not in launch_script(settings(held=1.0, asked=1), "bench")


def test_the_benchmark_of_drafts_is_predicted_with_them() -> None:
    given = settings(
        model="deepseek-v3", hardware="h200-sxm-141gb", precision="checkpoint", tp=8, **SPECULATING
    )
    script = launch_script(given, "bench")
    assert "--set draft_tokens=3 --set acceptance_rate=0.7" in script
    by_length = {"draft_tokens": 3, "acceptance_length": 1.875}
    assert replace(settings(**by_length)).accepted == pytest.approx(0.5, rel=1e-5)


def test_prompts_go_first_where_the_prediction_has_them_first() -> None:
    mixed, first = (
        launch_script(settings(scheduler=each), "sglang") for each in ("chunked", "prefill_first")
    )
    assert "  --enable-mixed-chunk" in mixed
    assert "  --enable-mixed-chunk" not in first
    # Under a calibration of SGLang they go first without being asked.
    habit = replace(settings(), prefill_first=True)
    assert "  --enable-mixed-chunk" not in launch_script(habit, "sglang")
    with pytest.raises(SpecError, match="the prediction has them first"):
        launch_script(habit, "vllm")


REFUSED = [
    ("vllm", {"scheduler": "prefill_first"}, "choose the scheduler chunked, or sglang"),
    ("trtllm", {"hardware": "mi300x"}, "does not run on mi300x"),
    ("sglang", {"hardware": "trainium2"}, "does not run on trainium2"),
    ("sglang", {"hardware": "v100-sxm2-32gb"}, "does not run on v100"),
    ("vllm", {"precision": "int8"}, "no KV cache in int8"),
    ("trtllm", {"precision": "w8a16"}, "no kernels for weights in int8"),
    ("trtllm", {"dp_attention": 2, "gpus": 4}, "groups of one GPU or in one group"),
    ("vllm", {"model": "mixtral-8x7b", "tp": 8, "ep": 2, "gpus": 8}, "choose ep 1 or 8"),
    ("vllm", SPECULATING, "stores no modules for further tokens"),
    ("vllm", {"tp": 16, "gpus": 16}, "commands are for one machine"),
]


@pytest.mark.parametrize(("target", "changes", "message"), REFUSED)
def test_what_an_engine_cannot_run_is_refused(
    target: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as error:
        launch_script(settings(**changes), target)
    assert "\n" not in str(error.value)


def test_a_static_batch_is_refused() -> None:
    given = replace(deployments(), scheme=STATIC)
    with pytest.raises(SpecError, match="no engine serves one"):
        launch_settings(recommend(given, Demand()))


def test_replicas_are_started_one_by_one() -> None:
    demand = Demand(requests_per_s=100.0)
    # 100 requests of 200 tokens a second, and a server yields 5000 tokens.
    assert "# start 4 of these servers" in launch_script(settings(demand=demand), "vllm")


@pytest.mark.parametrize(
    ("words", "message"), [(["--emit", "ollama"], "ollama"), (["--emit", "vllm", "--json"], "JSON")]
)
def test_the_command_refuses_in_one_line(words: list[str], message: str, call):
    place = ["recommend", "--model", "llama-3.1-8b", "--isl", "9", "--osl", "9"]
    code, out, error = call(*place, *words)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        ([], "tensorrt-llm"),
        (["--emit", "bench"], "tensorrt-llm"),
        (["--emit", "vllm"], "vllm"),
        (["--emit", "sglang"], "sglang"),
        (["--emit", "vllm", "--calibration", "sglang"], "sglang"),
    ],
)
def test_a_script_is_predicted_by_the_calibration_of_its_engine(
    words: list[str], engine: str, call, monkeypatch
) -> None:
    predicting: list[str] = []

    def by_sweep(self: object, catalog: object, *given: Any) -> None:
        predicting.append(given[0].name)
        raise SpecError("enough")

    monkeypatch.setattr("sweep.decisions.choice.Choice.by_sweep", by_sweep)
    place = ["recommend", "--model", "llama-3.1-8b", "--isl", "9", "--osl", "9"]
    assert call(*place, *words) == (2, "", "llm-sweep: enough\n")
    assert predicting == [engine]
