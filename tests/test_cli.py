"""The command line: answers, refusals in one line, and nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from click import unstyle

import sweep
from sweep.cli.print_tables import print_table
from sweep.errors import SweepError
from sweep.runs.jit_cache import use_compilation_cache
from sweep.schema.variables import VARIABLES

HARDWARE = Path(__file__).parent.parent / "configs" / "hardware"
SWEEP = {
    "models": ["llama-2-7b"],
    "hardware": ["a100-sxm-80gb", "h20-96gb"],
    "batch_size": [1, 64],
    "context_len": [128, 1024],
    "variables": ["decode_step_latency", "global_decode_step_latency", "feasible"],
}


@pytest.fixture
def sweep_file(tmp_path):
    """Write a sweep file with some keys changed or, with `None`, left out."""

    def write(**changes: object) -> Path:
        keys = {k: v for k, v in {**SWEEP, **changes}.items() if v is not None}
        path = tmp_path / "my.yaml"
        path.write_text(yaml.safe_dump(keys))
        return path

    return write


@pytest.fixture
def result(tmp_path):
    """A small result file."""
    path = tmp_path / "result.nc"
    sweep.write_netcdf(sweep.run(sweep.Grid(**SWEEP)), path)
    return path


def assert_refused(answer: tuple[int, str, str], *words: str) -> None:
    code, out, err = answer
    assert code == 2, (out, err)
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


def test_help_lists_every_command(call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    for command in (
        "list",
        "show",
        "plan",
        "run",
        "check",
        "compare",
        "explain",
        "article-rooflines",
        "article-meshes",
        "recommend",
        "roofline",
        "reduce",
        "merge",
    ):
        assert f"  {command} " in out


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, sweep.cli.main; "
        "print([m for m in ('jax', 'xarray', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hardware", "models", "precisions", "sweeps"])
def test_list_as_json_and_as_table_hold_the_same_names(call, kind) -> None:
    code, out, _ = call("list", kind, "--json")
    names = [row["name"] for row in json.loads(out)]
    _, table, _ = call("list", kind)
    assert code == 0
    assert names
    assert all(name in table for name in names)


def test_list_hardware_marks_doubtful_ones(call) -> None:
    rows = {row["name"]: row for row in json.loads(call("list", "hardware", "--json")[1])}
    assert len(rows) == len(list(HARDWARE.glob("*.yaml")))
    assert rows["h20-141gb"]["confidence"] == "doubtful"
    assert rows["a100-sxm-80gb"]["confidence"] == "solid"


def test_show_hardware_gives_each_figure_with_a_source(call) -> None:
    _, out, _ = call("show", "hardware", "h20-96gb")
    assert "memory_bandwidth_bytes_per_s" in out
    assert "http" in out
    spec = json.loads(call("show", "hardware", "h20-96gb", "--json")[1])
    assert spec["memory_bandwidth_bytes_per_s"] == 4.0e12
    assert spec["peak_flops_per_s"]["fp16"] == 1.48e14
    assert "usable_memory_bytes" in call("show", "hardware", "rtx-4090")[1]


def test_show_variable_gives_its_definition(call) -> None:
    code, out, _ = call("show", "variable", "TTFT")
    assert code == 0
    assert "ttft" in out and VARIABLES["ttft"].long_name in out
    data = json.loads(call("show", "variables", "inflight-ttft", "--json")[1])
    assert data["definition"] == VARIABLES["inflight_ttft"].comment
    assert data["units"] == "s" and "concurrency" in data["axes"] and "90 %" in data["interval"]
    assert_refused(call("show", "variable", "tftt"), "did you mean 'ttft'?")
    assert {"ttft", "tpot"} <= set(call("show", "variable")[1].split())


def test_show_model_reads_a_published_config(call, tmp_path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    code, out, _ = call("show", "model", path, "--json")
    summary = json.loads(out)
    assert code == 0
    # LLaMA-2-7B: 2·32000·4096 + 32·(4·4096² + 3·4096·11008 + 2·4096) + 4096
    assert summary["parameters"] == 6_738_415_616
    assert summary["active_parameters"] == 6_738_415_616
    # 32 layers, keys and values, 32 heads of 128, 2 bytes
    assert summary["kv_cache_bytes_per_token"] == 32 * 2 * 4096 * 2


@pytest.mark.slow
def test_plan_counts_points_and_bytes(call, sweep_file) -> None:
    code, out, _ = call("plan", sweep_file(), "--json")
    plan = json.loads(out)
    assert code == 0
    # 1 model · 2 hardware · 1 precision · 1 tp · 2 batches · 2 contexts
    assert plan["points"] == 8
    # two float32 variables, feasible in one byte and its reason in two
    assert plan["bytes"] == 8 * (4 + 4 + 1 + 2)


def test_run_writes_a_file_that_check_accepts(call, sweep_file, tmp_path) -> None:
    output = tmp_path / "out.nc"
    code, out, err = call("run", sweep_file(), "-o", output)
    assert (code, err) == (0, "")
    assert out.startswith(f"{output}: 8 points, ")
    assert call("check", output)[0] == 0
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".nc"] == ["out.nc"]


@pytest.mark.slow
def test_run_takes_a_shipped_sweep_by_name(call, tmp_path) -> None:
    output = tmp_path / "table.nc"
    assert call("run", "trtllm-article-table", "-o", output)[0] == 0
    assert sweep.open_results(output).sizes["batch_size"] == 3


@pytest.mark.slow
def test_keep_infeasible_keeps_throughputs(call, sweep_file, tmp_path) -> None:
    file = sweep_file(
        models=["llama-2-70b"], context_len=None, isl=[128], osl=[128],
        variables=["output_throughput", "feasible"],
    )  # fmt: skip
    masked, kept = tmp_path / "masked.nc", tmp_path / "kept.nc"
    assert call("run", file, "-o", masked)[0] == 0
    assert call("run", file, "-o", kept, "--keep-infeasible")[0] == 0
    assert bool(sweep.open_results(masked).output_throughput.isnull().all())
    assert bool(sweep.open_results(kept).output_throughput.notnull().all())


def test_run_confirms_shards_and_reductions_too(call, sweep_file, tmp_path) -> None:
    folder, best = tmp_path / "out", tmp_path / "best.nc"
    _, out, _ = call("run", sweep_file(), "-o", folder, "--shards", 2)
    assert out == f"{folder}: 8 points, a folder of shards\n"
    _, out, _ = call("run", sweep_file(), "-o", best, "--reduce", "argmin:decode_step_latency")
    assert out.startswith(f"{best}: 8 points, reduced to argmin:decode_step_latency")
    assert "no cell" not in out
    asked = ["--reduce", "argmin:decode_step_latency", "--where", "decode_step_latency<0"]
    _, out, _ = call("run", sweep_file(), "-o", best, "--force", *asked)
    assert out.endswith("(no cell satisfies decode_step_latency<0; every answer is missing)\n")


def test_run_does_not_overwrite_without_force(call, sweep_file, tmp_path) -> None:
    output = tmp_path / "out.nc"
    output.write_text("precious")
    assert_refused(call("run", sweep_file(), "-o", output), "out.nc", "--force")
    assert output.read_text() == "precious"
    assert call("run", sweep_file(), "-o", output, "--force")[0] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hardwares": ["a100-sxm-80gb"]}, ["my.yaml", "hardwares", "did you mean 'hardware'"]),
        ({"hardware": ["a100-sxm-80g"]}, ["a100-sxm-80g", "did you mean 'a100-sxm-80gb'"]),
        ({"models": ["llama-2-7c"]}, ["llama-2-7c", "did you mean"]),
        ({"models": []}, ["models"]),
        ({"models": "llama-2-7b"}, ["models"]),
        ({"precision": ["fp17"]}, ["fp17"]),
        ({"precision": ["fp8"]}, ["fp8", "a100-sxm-80gb"]),
        ({"batch_size": [-1]}, ["batch_size", "-1"]),
        ({"batch_size": [0]}, ["batch_size", "0"]),
        ({"batch_size": [float("nan")]}, ["batch_size", "nan"]),
        ({"batch_size": [1.5]}, ["batch_size", "1.5"]),
        ({"batch_size": []}, ["batch_size", "empty"]),
        ({"batch_size": "many"}, ["batch_size"]),
        ({"batch_size": [True]}, ["batch_size", "True"]),
        ({"batch_size": [8, 8]}, ["batch_size", "increase"]),
        ({"batch_size": None}, ["needs the axis batch_size"]),
        ({"batch_size": {"start": 1, "end": 9}}, ["batch_size", "end"]),
        ({"batch_size": {"start": 9, "stop": 1, "step": 1}}, ["batch_size", "empty"]),
        ({"batch_size": {"start": 1, "stop": 10**9, "step": 1}}, ["batch_size", "at most"]),
        ({"batch_size": {"start": 20, "stop": 10, "num": 3}}, ["batch_size", "below"]),
        ({"tp": [0]}, ["tp"]),
        ({"variables": ["decode_latency"]}, ["decode_latency", "did you mean"]),
        ({"variables": ["ttft"]}, ["ttft", "isl"]),
        ({"hardware": [{"base": "h20-96gb", "name": "x", "memory": 1.0}]}, ["memory", "unknown"]),
        ({"hardware": [{"base": "h20-96gb", "memory_bytes": 1e9}]}, ["base and name"]),
        ({"hardware": ["h20-96gb", "h20-96gb"]}, ["h20-96gb", "twice"]),
        ({"hardware": [{"base": "h20-96gb", "name": "x", "memory_bytes": -1.0}]}, ["memory_bytes"]),
    ],
)
def test_bad_sweep_files_are_refused_in_one_line(
    call, sweep_file, tmp_path, changes, words
) -> None:
    output = tmp_path / "out.nc"
    assert_refused(call("run", sweep_file(**changes), "-o", output), *words)
    assert not output.exists()
    assert_refused(call("plan", sweep_file(**changes)), *words)


def test_numbers_yaml_reads_as_text_are_explained(call, sweep_file) -> None:
    path = sweep_file()
    text = "{base: h20-96gb, name: fast, memory_bandwidth_bytes_per_s: 4.8e12}"
    path.write_text(path.read_text().replace("- h20-96gb", f"- {text}"))
    assert_refused(call("plan", path), "memory_bandwidth_bytes_per_s", "signed exponent")


def test_unreadable_sweep_files_are_refused(call, tmp_path) -> None:
    assert_refused(call("plan", tmp_path / "absent.yaml"), "absent.yaml")
    assert_refused(call("plan", "no-such-sweep"), "no-such-sweep")
    broken = tmp_path / "broken.yaml"
    broken.write_text("models: [llama-2-7b\nhardware: ]")
    assert_refused(call("plan", broken), "broken.yaml")
    twice = tmp_path / "twice.yaml"
    twice.write_text("tp: [1]\ntp: [2]\n")
    assert_refused(call("plan", twice), "twice.yaml", "'tp' given twice")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    assert_refused(call("plan", binary), "binary.yaml")
    listed = tmp_path / "list.yaml"
    listed.write_text("- 1\n")
    assert_refused(call("plan", listed), "list.yaml", "mapping")


def test_unwritable_outputs_are_refused_and_leave_nothing(call, sweep_file, tmp_path) -> None:
    assert_refused(call("run", sweep_file(), "-o", tmp_path / "no" / "out.nc"), "does not exist")
    assert_refused(call("run", sweep_file(), "-o", tmp_path), "is a folder")
    before = set(tmp_path.iterdir())
    if Path("/dev/full").exists():
        assert_refused(call("run", sweep_file(), "-o", "/proc/out.nc"), "/proc/out.nc")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file size limits are set the Linux way")
def test_a_full_disk_leaves_no_half_file(sweep_file, tmp_path) -> None:
    output = tmp_path / "out.nc"
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "import sweep.runs.run; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from sweep.cli.main import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, "run", str(sweep_file()), "-o", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_refused((run.returncode, run.stdout, run.stderr), "out.nc")
    assert [p.name for p in tmp_path.iterdir()] == ["my.yaml"]


def test_an_accelerator_is_not_compared_with_itself(call, result) -> None:
    for pair in ("h20-96gb,H20-96GB", "a100-sxm-80gb,A100-SXM4-80GB"):
        assert_refused(call("compare", result, "--hardware", pair), "is given twice")


@pytest.mark.parametrize("command", ["check", "compare"])
def test_bad_result_files_are_refused(call, result, tmp_path, command) -> None:
    rest = ["--hardware", "a100-sxm-80gb", "h20-96gb"] if command == "compare" else []
    assert_refused(call(command, tmp_path / "absent.nc", *rest), "absent.nc")
    truncated = tmp_path / "truncated.nc"
    truncated.write_bytes(result.read_bytes()[: result.stat().st_size // 2])
    assert_refused(call(command, truncated, *rest), "truncated.nc")
    foreign = tmp_path / "foreign.nc"
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(foreign)
    assert_refused(call(command, foreign, *rest), "foreign.nc", "not a result")
    text = tmp_path / "text.nc"
    text.write_text("hello")
    assert_refused(call(command, text, *rest), "text.nc")


def test_check_fails_with_status_1_on_a_changed_file(call, result, tmp_path) -> None:
    changed = tmp_path / "changed.nc"
    with xr.open_dataset(result) as dataset:
        spoilt = dataset.load()
        spoilt["decode_step_latency"].attrs["units"] = "ms"
        spoilt["decode_step_latency"][...] = np.float32(-1)
        spoilt.to_netcdf(changed)
    code, out, _ = call("check", changed)
    assert code == 1
    assert "units" in out
    assert "has negative or infinite values" in out


def test_compare_answers_in_a_sentence_and_draws(call, result, tmp_path) -> None:
    picture = tmp_path / "mesh.png"
    pair = ["--hardware", "a100-sxm-80gb", "h20-96gb"]
    code, out, _ = call("compare", result, *pair, "--model", "llama-2-7b", "-o", picture)
    assert code == 0
    assert out.count("llama-2-7b") == 2  # one line per method
    assert picture.read_bytes().startswith(b"\x89PNG")
    answers = json.loads(call("compare", result, *pair, "--json")[1])
    assert {a["variable"] for a in answers} == {"decode_step_latency", "global_decode_step_latency"}


def test_compare_refuses_what_the_file_lacks(call, result, tmp_path) -> None:
    pair = ["--hardware", "a100-sxm-80gb", "h20-96gb"]
    assert_refused(call("compare", result, "--hardware", "a100-sxm-80gb", "b200"), "h20-96gb")
    assert_refused(call("compare", result, "--hardware", "a100-sxm-80gb"), "--hardware A,B")
    three = "a100-sxm-80gb,h20-96gb,l20"
    assert_refused(call("compare", result, "--hardware", three), "--hardware A,B")
    assert_refused(call("compare", result, *pair, "--model", "llama"), "llama-2-7b")
    assert_refused(call("compare", result, *pair, "--variable", "ttft"), "ttft")
    assert_refused(call("compare", result, *pair, "--variable", "feasible"), "feasible")
    assert_refused(call("compare", result, *pair, "--tp", "7"), "7")
    assert_refused(call("compare", result, *pair, "-o", tmp_path / "mesh.bmp"), ".png")


def test_roofline_tells_the_ridge_and_draws(call, tmp_path) -> None:
    picture = tmp_path / "roofs.png"
    code, out, _ = call("roofline", "a100-sxm-80gb", "h20-96gb", "-o", picture, "--json")
    assert code == 0
    ridges = {row["hardware"]: row["ridge_flop_per_byte"] for row in json.loads(out)}
    # 312e12 / 2.039e12 and 148e12 / 4.0e12
    assert ridges["a100-sxm-80gb"] == pytest.approx(153.02, abs=0.01)
    assert ridges["h20-96gb"] == pytest.approx(37.0)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert_refused(call("roofline", "a100-sxm-80gb", "--dtype", "fp8"), "a100-sxm-80gb", "fp8")


def test_rooflines_are_one_table_within_100_columns(call, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = call("roofline", "rtx-pro-6000-server", "h20-96gb")
    assert out.count("h20-96gb") == 1
    # 148 TFLOP/s over 4 TB/s.
    [row] = [line.split() for line in out.splitlines() if "h20-96gb" in line]
    assert row[:4] == ["h20-96gb", "148", "4", "37"]


def test_wrong_usage_is_one_line(call) -> None:
    assert_refused(call("list", "gpus"), "gpus")
    assert_refused(call("rnu"), "rnu")
    assert_refused(call("run", "a100-vs-h20"), "--output")
    assert_refused(call("plan"), "FILE")
    assert_refused(call("list", "hardware", "--configs", "/no/such/folder"), "/no/such/folder")


def test_user_folders_extend_and_override(call, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "mine"
    (folder / "hardware").mkdir(parents=True)
    spec = {"peak_flops_per_s": {"fp16": 1e15}, "memory_bytes": 1e11}
    for name in ("my-gpu", "a100-sxm-80gb"):
        text = yaml.safe_dump({**spec, "memory_bandwidth_bytes_per_s": 5e12})
        (folder / "hardware" / f"{name}.yaml").write_text(text)
    for arguments in (["--configs", folder, "show"], ["show"]):
        code, out, _ = call(*arguments, "hardware", "a100-sxm-80gb", "--json")
        assert code == 0
        mine = json.loads(out)["memory_bandwidth_bytes_per_s"] == 5e12
        assert mine == (arguments[0] == "--configs")
    after = call("show", "hardware", "my-gpu", "--json", "--configs", folder)
    assert json.loads(after[1])["peak_flops_per_s"] == {"fp16": 1e15}
    monkeypatch.setenv("LLM_SWEEP_CONFIGS", str(folder))
    assert call("show", "hardware", "my-gpu")[0] == 0


def test_names_no_file_can_have_are_refused(call, sweep_file, tmp_path) -> None:
    assert_refused(call("run", sweep_file(), "-o", tmp_path / ("x" * 300 + ".nc")), "too long")
    assert_refused(call("plan", "a\nb.yaml"), "b.yaml")
    assert_refused(call("list", "hardware", "--configs", "x" * 5000))
    assert_refused(call("plan", sweep_file(models=["\0.yaml"])), "null")


def test_a_dangling_link_is_not_replaced(call, sweep_file, tmp_path) -> None:
    link = tmp_path / "out.nc"
    link.symlink_to(tmp_path / "nowhere" / "out.nc")
    assert_refused(call("run", sweep_file(), "-o", link), "--force")
    assert link.is_symlink()


def test_what_ifs_that_change_nothing_or_lie_are_refused(call, sweep_file) -> None:
    for change in ({"peak_flops_per_s": {}}, {"sources": 1}, {"sources": {"memory_bytes": 3}}):
        what_if = {"base": "h20-96gb", "name": "x", **change}
        assert_refused(call("plan", sweep_file(hardware=[what_if])), next(iter(change)))


DAMAGE = {
    "schema": lambda d: d.assign_attrs(llm_sweep_schema="one"),
    "no schema": lambda d: d.assign_attrs(llm_sweep_schema=-1),
    "one model": lambda d: d.isel(model=0),
    "no batch": lambda d: d.drop_vars("batch_size"),
    "text batch": lambda d: d.assign_coords(batch_size=["a", "b"]),
    "negative batch": lambda d: d.assign_coords(batch_size=[-1, 1]),
    "a number for a name": lambda d: d.assign_coords(hardware_name=("hardware", [1, 2])),
    "text for a number": lambda d: d.assign(decode_step_latency=d.decode_step_latency.astype(str)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_are_refused_or_fail_the_check(call, result, tmp_path, damage) -> None:
    path = tmp_path / "damaged.nc"
    with xr.open_dataset(result) as dataset:
        DAMAGE[damage](dataset.load()).to_netcdf(path)
    code, out, err = call("check", path)
    assert code in (1, 2)
    assert len((out if code == 1 else err).strip().splitlines()) >= 1
    if code == 2:
        pair = ["--hardware", "a100-sxm-80gb", "h20-96gb"]
        assert_refused(call("compare", path, *pair), "damaged.nc")


WRONG = {
    "a variable less": lambda d: d.drop_vars("bound", errors="ignore").drop_vars("feasible"),
    "an axis cut": lambda d: d.isel(context_len=[0]),
    "flags of another type": lambda d: d.assign(feasible=d.feasible.astype("int32")),
    "no meanings": lambda d: d.assign(feasible=d.feasible.drop_attrs()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_changed_result_fails_the_check(call, result, tmp_path, wrong) -> None:
    path = tmp_path / "wrong.nc"
    with xr.open_dataset(result) as dataset:
        WRONG[wrong](dataset.load()).to_netcdf(path)
    code, out, _ = call("check", path)
    assert code == 1, out
    assert "wrong.nc" in out


@pytest.mark.slow
def test_compare_says_what_it_cannot_know(call, sweep_file, tmp_path) -> None:
    output = tmp_path / "out.nc"
    keys = {"models": ["llama-2-70b"], "variables": ["decode_step_latency"]}
    assert call("run", sweep_file(**keys), "-o", output)[0] == 0
    pair = ["--hardware", "a100-sxm-80gb", "h20-96gb"]
    assert "cells that cannot run may be among them" in call("compare", output, *pair)[1]
    assert_refused(call("compare", output, *pair, "--variable", "batch_size"), "batch_size")
    assert_refused(call("compare", output, *pair, "--isl", "5"), "isl")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_or_closed_standard_output_leaves_no_traceback() -> None:
    command = f"{sys.executable} -m sweep list hardware"
    full = subprocess.run(
        f"{command} > /dev/full", shell=True, capture_output=True, text=True, check=False
    )
    assert_refused((full.returncode, "", full.stderr), "No space left")
    closed = subprocess.run(
        f"{command} | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (closed.returncode, closed.stderr) == (0, "")


def _printed(rows, columns: int, monkeypatch, capsys) -> list[str]:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(rows)
    return [unstyle(line) for line in capsys.readouterr().out.splitlines()]


def test_a_narrow_terminal_breaks_no_number(monkeypatch, capsys) -> None:
    rows = [
        {"rank": 1, **{f"figure {i}": 123456 + i for i in range(12)}, "why": "many words of it"}
    ]
    lines = _printed(rows, 60, monkeypatch, capsys)
    words = " ".join(lines).split()
    assert max(map(len, lines)) <= 60
    assert all(f"{123456 + i:,}" in words for i in range(12))
    assert words.count("rank") > 1


def test_a_column_has_one_notation(monkeypatch, capsys) -> None:
    lines = _printed(
        [{"per dollar": 1_152_000}, {"per dollar": 1_052_631.6}], 80, monkeypatch, capsys
    )
    assert {"1,152,000", "1,052,632"} <= set(" ".join(lines).split())


def test_a_platform_that_this_machine_lacks_is_named(monkeypatch) -> None:
    def refuse() -> None:
        raise AssertionError

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr("jax.devices", refuse)
    with pytest.raises(SweepError, match="JAX_PLATFORMS=cuda: JAX finds no such device"):
        use_compilation_cache()
