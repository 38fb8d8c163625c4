"""The command line as a whole: one spelling for each option, help by task, shell completion."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from interruptions import DEADLINE

from calibration.cli.main import cli as calibrate
from sweep.cli.main import cli
from sweep.cli.options import CALIBRATION, printing_into
from sweep.cli.parameters import Count, Listed, Name, Pairs, Quantity
from sweep.cli.print_tables import print_table, print_text
from sweep.cli.sections import Sections
from sweep.schema.axes import LATENCY_LIMITS, LAYOUT, LOADS, PREFIX, SERVER, SPECULATION, SPREADS

GROUPS = {"llm-sweep": cli, "llm-calibrate": calibrate}
COMMANDS = {
    f"{program} {name}": command
    for program, group in GROUPS.items()
    for name, command in group.commands.items()
}

SERVED = ("recommend", "--model", "qwen3-8b", "--isl", "1000", "--osl", "100")


def options(command: click.Command) -> Iterator[click.Option]:
    return (p for p in command.params if isinstance(p, click.Option))


def test_help_lists_commands_by_task_with_whole_summaries(call, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = call("--help")
    assert code == 0
    assert "..." not in out.replace("[ARGS]...", "")
    titles = re.findall(r"^(\w[\w ]*):$", out, re.MULTILINE)
    assert titles == [*["Options", "Decide", "Compute a sweep", "Use a result", "Look up"],
                      "Figures of an article"]  # fmt: skip
    assert all(len(line) <= 100 for line in out.splitlines())
    for group in GROUPS.values():
        assert isinstance(group, Sections)
        assert sorted(group.list_commands(click.Context(group))) == sorted(group.commands)


def test_every_axis_of_a_server_is_an_option_of_explain_and_recommend() -> None:
    """Of one replica: `explain` has those of a static batch too, and runs with an end."""
    layout = {*LAYOUT} - {"dp"}
    both = {*layout, *SERVER, *LATENCY_LIMITS, *PREFIX, *SPREADS, *SPECULATION, "isl", "osl"}
    loads = {"concurrency", "request_rate", "burstiness"}
    more = {"explain": {*LOADS, "batch_size"}, "recommend": loads}
    for name, own in more.items():
        names = {option.name for option in options(cli.commands[name])}
        assert both | own <= names, both | own - names


def test_an_option_has_one_meaning_in_all_commands() -> None:
    """Lists are lists everywhere, `-o` is the output, and nothing else is called that."""
    for name, command in COMMANDS.items():
        for option in options(command):
            if "--output" in option.opts:
                assert option.opts == ["-o", "--output"], name
            assert option.multiple == isinstance(option, Listed), f"{name} {option.opts}"
            assert option.nargs == 1, f"{name} {option.opts}"
            assert "--efficiency" not in option.opts
            if "--calibration" in option.opts:
                fits = name in ("llm-calibrate fit", "llm-calibrate validate")
                former = "--from" if fits else "--efficiency"
                assert option.opts == ["--calibration"] and option.former == [former], name
                assert option.type is CALIBRATION, name


def test_every_command_takes_o_but_the_live_page(call, tmp_path) -> None:
    without = {n for n, c in COMMANDS.items() if not any("-o" in o.opts for o in options(c))}
    assert without == {"llm-sweep explore"}
    path, said = tmp_path / "text.json", call("list", "sweeps", "--json")[1]
    assert call("list", "sweeps", "--json", "-o", path)[:2] == (0, f"{path}: written\n")
    assert path.read_text(encoding="utf-8") == said
    with printing_into(tmp_path / "nothing", force=False):
        assert sys.stdout.encoding, "libraries replace a standard output without one"
    assert not (tmp_path / "nothing").exists()
    assert call("list", "sweeps", "--json", "-o", path)[0] == 2
    assert call("list", "sweeps", "--json", "-o", path, "--force")[0] == 0
    for words, name, said in (
        (("run", "a100-vs-h20"), "out.csv", "a result is NetCDF"),
        (("reduce", path, "--reduce", "best:batch_size"), "out.csv", "a result is NetCDF"),
        (("plan", "a100-vs-h20"), "out.NC", "what is printed is text"),
        (("list", "hardware"), "out.json", "what is printed is text"),
        (("list", "hardware", "--json"), "out.png", "what is printed is JSON"),
        ((*SERVED, "--emit", "vllm"), "out.csv", "what is printed is text"),
        ((*SERVED, "--disaggregated", "--json"), "out.html", "what is printed is JSON"),
    ):
        status, _, message = call(*words, "-o", tmp_path / name)
        assert (status, message.count("\n")) == (2, 1)
        assert f"{name}: {said}" in message and not (tmp_path / name).exists()
    for given, name, said in (
        (("predict", "vllm", "x.csv"), "out.nc", "the table is CSV"),
        (("validate", "x.csv"), "out.png", "the report is Markdown"),
    ):
        refused = CliRunner().invoke(calibrate, [*given, "-o", name])
        assert refused.exit_code == 2 and f"{name}: {said}" in refused.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_is_called_file(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Argument):
            shown = parameter.make_metavar(click.Context(COMMANDS[name]))
            assert "SOURCE" not in shown and "DATASET" not in shown
        elif isinstance(parameter.type, click.Path) and "--configs" not in parameter.opts:
            assert parameter.metavar == "FILE", parameter.opts


def parsed(option: click.Option, *words: str) -> object:
    command = click.Command("x", params=[option], callback=lambda **values: values)
    with command.make_context("x", list(words)) as context:
        return next(iter(context.params.values()))


def test_values_may_be_repeated_or_separated_by_commas(tmp_path, monkeypatch) -> None:
    def counts() -> click.Option:
        return Listed(["--tp"], type=Count())

    assert parsed(counts(), "--tp", "1,2", "--tp", "16k") == (1, 2, 16_000)
    assert parsed(counts()) == ()
    pairs = parsed(Pairs(["--price"]), "--price", "h20-96gb=1,2,l20=3", "--price", "l4=4")
    assert pairs == ("h20-96gb=1,2", "l20=3", "l4=4")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.yaml").touch()
    assert parsed(Listed(["--model"]), "--model", "a,b,a", "--model", "b,c") == ("a", "b", "c")
    assert parsed(Listed(["--model"]), "--model", "a,b.yaml", "--model", "c,d") == (
        *("a,b.yaml", "c", "d"),
    )
    for wrong in ("1,,2", "0", "x", "1.5", ""):
        with pytest.raises(click.BadParameter):
            parsed(counts(), "--tp", wrong)
    for wrong in ("nan", "inf", "0", "-1", "fast"):
        with pytest.raises(click.BadParameter):
            parsed(click.Option(["--rate"], type=Quantity()), "--rate", wrong)
    assert parsed(click.Option(["--rate"], type=Quantity()), "--rate", "450G") == 4.5e11
    one = click.Option(["--hardware"], type=Name("hardware"))
    assert parsed(one, "--hardware", "a,b.yaml") == "a,b.yaml"
    with pytest.raises(click.BadParameter, match="'l20,l40s' is a list, and one name is needed"):
        parsed(one, "--hardware", "l20,l40s")
    assert parsed(click.Argument(["hardware"], nargs=-1, type=Name("hardware")), "a,b") == ("a,b",)


def completed(words: str, program: str = "llm-sweep") -> list[str]:
    """Answers to a shell that completes a line."""
    package = {"llm-sweep": "sweep", "llm-calibrate": "calibration"}[program]
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    line = f"{program} {words}"
    run = subprocess.run(
        [sys.executable, "-c", f"from {package}.cli.main import main; main()"],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            variable: "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - (not line.endswith(" "))),
        },
    )
    return [answer.partition(",")[2] for answer in run.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("rec", ["recommend"]),
        ("recommend --hardware H20", ["h20-141gb", "h20-96gb", "h200-sxm-141gb"]),
        ("recommend --hardware a10,h20-9", ["a10,h20-96gb"]),
        ("explain --model llama-3.1-", ["llama-3.1-405b", "llama-3.1-70b", "llama-3.1-8b"]),
        ("run a100", ["a100-vs-h20"]),
        ("show model gpt-oss", ["gpt-oss-120b", "gpt-oss-20b"]),
        ("show hardware l40", ["l40", "l40s"]),
        ("explain --precision fp8-k", ["fp8-kv16"]),
        ("run x --calibration vllm", ["vllm", "vllm-rocm"]),
        ("run x --calibration id", ["ideal"]),
        ("roofline rtx-40", ["rtx-4090"]),
    ],
)
def test_a_shell_completes_commands_and_names(words: str, wanted: list[str]) -> None:
    assert completed(words) == wanted


def test_the_other_command_completes_too() -> None:
    assert completed("predict sgl", "llm-calibrate") == ["sglang"]


def test_shells_get_their_script(monkeypatch, capsys) -> None:
    from sweep.cli.launch import launch

    for shell, word in (("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --")):
        monkeypatch.setenv("_LLM_SWEEP_COMPLETE", f"{shell}_source")
        monkeypatch.setattr(sys, "argv", ["llm-sweep"])
        with pytest.raises(SystemExit) as ended:
            launch(cli, "llm-sweep")
        out = capsys.readouterr().out
        assert ended.value.code == 0
        assert word in out and "_LLM_SWEEP_COMPLETE" in out


def test_completion_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom sweep.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'jax', 'xarray', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "print('HEAVY', heavy)"
    )
    environment = {"_LLM_SWEEP_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True,
        env={**os.environ, **environment, "COMP_WORDS": "llm-sweep run a"},
    )  # fmt: skip
    assert run.stdout.endswith("HEAVY set()\n")
    assert "a100-vs-h20" in run.stdout


KINDS = ("hardware", "models", "precisions", "sweeps", "calibrations")
ENTRIES = {
    "hardware": ("H20-96GB", "memory_bandwidth_bytes_per_s"),
    "models": ("Qwen/Qwen3-8B", "parameters"),
    "precisions": ("w4a16", "weight_dtype"),
    "sweeps": ("a100-vs-h20", "batch_size"),
    "calibrations": ("tensorrt-llm", "gemm"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_show_explains_the_fields_of_a_kind(call, kind: str) -> None:
    code, out, _ = call("show", kind, "--json")
    rows = json.loads(out)
    assert code == 0
    assert len(rows) > 5
    assert all(row["meaning"] for row in rows), [r for r in rows if not r["meaning"]]


@pytest.mark.parametrize("kind", KINDS)
def test_show_knows_every_kind_in_the_singular_and_the_plural(call, kind: str) -> None:
    name, word = ENTRIES[kind]
    for spelt in {kind, kind if kind == "hardware" else kind.removesuffix("s")}:
        code, out, _ = call("show", spelt, name)
        assert code == 0
        assert word in out
    assert json.loads(call("show", kind, name, "--json")[1])
    code, _, err = call("show", kind, "no-such-thing")
    assert code == 2
    assert "unknown" in err


@pytest.mark.parametrize("kind", ["calibrations", "calibration", "variables", "precision"])
def test_list_knows_every_kind(call, kind: str) -> None:
    code, out, _ = call("list", kind, "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)} & {"vllm", "ttft", "fp8"}


def test_a_sweep_is_shown_with_its_number_of_points(call) -> None:
    _, plan, _ = call("plan", "a100-vs-h20", "--no-probe", "--json")
    _, out, _ = call("show", "sweep", "a100-vs-h20")
    assert f"{json.loads(plan)['points']:,} points" in out


RANKS = [
    {
        "rank": rank,
        "hardware": name,
        "precision": "fp8",
        "output tokens per second per GPU": 14092.3,
        "lower": 12456.0,
        "upper": 15943.0,
        "time to first token (s)": 4.561,
        "J per token at rated power": 0.04967,
        "USD per million output tokens": 0.25,
        "bound by": "memory bandwidth (+0.42 %/%) and memory size",
    }
    for rank, name in ((1, "h100-sxm-80gb"), (2, "l40s"))
]


FIRST_COLUMNS = [["1", "h100-sxm-80gb"], ["2", "l40s"]]


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_table_in_a_pipe_is_as_wide_as_columns_says(columns: int, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(RANKS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    headings = [line for line in lines if line.lstrip().startswith("rank")]
    # Each part says which accelerator a row is about.
    assert all("hardware" in line for line in headings)
    assert sum("h100-sxm-80gb" in line for line in lines) == len(headings)
    assert {"14,092", "12,456", "15,943", "0.04967"} <= set(" ".join(lines).split())
    sentence = " ".join(["a-word-that-stays"] * 20)
    print_text(sentence)
    shown = capsys.readouterr().out
    assert columns - 18 <= max(map(len, shown.splitlines())) <= columns
    assert shown.split() == sentence.split()
    monkeypatch.delenv("COLUMNS")
    print_text(sentence)
    assert capsys.readouterr().out == f"{sentence}\n"


@pytest.mark.parametrize("size", ["²", "-5", "0", "", "1e2", "9" * 5000])
@pytest.mark.parametrize("name", ["COLUMNS", "LINES"])
def test_a_size_that_no_terminal_has_is_as_none(name: str, size: str, call, monkeypatch) -> None:
    for each in ("COLUMNS", "LINES"):
        monkeypatch.delenv(each, raising=False)
    expected = call("show", "hardware", "h20-96gb")
    monkeypatch.setenv(name, size)
    assert call("show", "hardware", "h20-96gb") == expected
    assert expected[0] == 0


def test_texts_of_a_table_take_few_lines(monkeypatch, capsys) -> None:
    for columns in range(100, 260, 3):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_table(RANKS)
        words = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
        ranks = [[k for k, two in enumerate(words) if two == row] for row in FIRST_COLUMNS]
        assert len(ranks[0]) == len(ranks[1]) > 0
        assert all(second - first <= 4 for first, second in zip(*ranks, strict=True)), columns


def test_a_table_in_a_pipe_has_a_row_in_one_line(monkeypatch, capsys) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(RANKS)
    assert any(
        "h100-sxm-80gb" in line and "memory size" in line
        for line in capsys.readouterr().out.splitlines()
    )


def test_figures_of_a_table_have_four_digits_or_three_after_zeros(capsys) -> None:
    print_table([{"a": 0.0177643, "b": 0.00177643, "c": 1.77643e-5, "d": 14092.3, "e": 3}])
    printed = capsys.readouterr().out.split()
    assert printed[-5:] == ["0.01776", "0.00178", "1.78e-05", "14,092", "3"]


def test_ctrl_c_while_it_is_sent_again_is_not_lost(monkeypatch) -> None:
    """On a slow machine the signal arrives before the function that sends it has ended."""
    from sweep.cli.signals import send_again

    sent: list[tuple[object, ...]] = []

    class Timer:
        def __init__(self, _: float, *call: object) -> None:
            self.call = call

        def start(self) -> None:
            sent.append(self.call)
            if len(sent) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr("threading.Timer", Timer)
    try:
        send_again(SimpleNamespace(exc_type=KeyboardInterrupt))
    except KeyboardInterrupt:
        pytest.fail("raised where it is ignored")
    assert sent == [(os.kill, (os.getpid(), signal.SIGINT))] * 2


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_sent_again(monkeypatch) -> None:
    from sweep.cli.signals import send_again

    def interrupted(*_: object) -> None:
        gc.callbacks.remove(interrupted)
        raise KeyboardInterrupt

    # Processes that a shell starts in the background ignore Ctrl-C.
    monkeypatch.setattr(sys, "unraisablehook", send_again)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.callbacks.append(interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            gc.collect()
            for _ in range(300):  # Python looks for signals between calls, not before one sleeps
                time.sleep(0.1)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_in_an_import_waits_for_its_end(tmp_path: Path, monkeypatch) -> None:
    """That of JAX's libraries crashes the process when an exception is raised in it."""
    from sweep.cli.signals import Terminated, unwinding

    monkeypatch.syspath_prepend(tmp_path)
    text = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.1)\nend = 1"
    (tmp_path / "long_to_import.py").write_text(text)
    with pytest.raises(Terminated), unwinding():
        import_module("long_to_import")
        time.sleep(DEADLINE)
    assert sys.modules.pop("long_to_import").end == 1
