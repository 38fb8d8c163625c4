"""Text and numbers are bounded: what they expand to, and what a message repeats of them."""

import json
import re
from pathlib import Path

import pytest
from damage import refused
from factories import hardware

from calibration.benchmark_reports.json_keys import Keys
from sweep.cli.print_tables import print_table
from sweep.decisions.prices import read_prices
from sweep.errors import SpecError
from sweep.specs.files import read_mapping
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.parsing import parse
from sweep.specs.precision import PrecisionSpec

ROOT = Path(__file__).parent.parent

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}], {name}: 1}}\n"
    for before, name in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)
)
STRANGE = {
    "aliases": (BOMB, "aliases written out"),
    "merges": (MERGES, "a: unknown key"),
    "an alias of itself": ("models: &m [*m]\nhardware: [x]\n", "an alias contains itself"),
    "a key that is a number": ("1: x\n", "the key 1 is no text"),
    "a key that is null": ("null: x\n", "the key None is no text"),
    "a key that is true": ("models: [{true: x}]\n", "the key True is no text"),
    "a long key": ("x" * 10**5 + ": 1\n", ""),
    "a long value": ("models: " + "x" * 10**5 + "\n", ""),
    "a long name": ("models: [" + "x" * 10**5 + "]\nhardware: [h20-96gb]\nvariables: [ttft]\n", ""),
    "a long variable": ("models: [a]\nhardware: [b]\nvariables: [" + " x" * 10**5 + "]\n", ""),
    "5,000 digits": ("batch_size: [" + "9" * 5000 + "]\n", "digits"),
    "hexadecimal": ("batch_size: [0x" + "f" * 5000 + "]\n", "batch_size: a number of more than"),
    "hexadecimal in a mapping": ("isl: {start: 0x" + "f" * 5000 + ", stop: 2}\n", "isl: start"),
    "escapes": ("models: ['\\x1b[31mred']\n".replace("'", '"'), ""),
}


@pytest.mark.parametrize("text", STRANGE)
def test_strange_text_is_refused_in_one_short_line(text, call, tmp_path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(STRANGE[text][0])
    answer = call("plan", path, "--no-probe")
    refused(answer, STRANGE[text][1])
    assert "\x1b" not in answer[2]


@pytest.mark.parametrize(
    "text",
    [
        "[a]: 1",
        "{a: 1}: 2",
        "a: !!set [1]",
        '? !!bool "x"\n: 1',
        "a: !!timestamp x",
        "a: !!python/object/apply:os.getcwd []",
        "[" * 100_000,
        "",
        "models: null",
        "é\nz: 1",
        "&a {? *a : 1}",
    ],
)
def test_strange_yaml_is_refused(call, tmp_path, text) -> None:
    path = tmp_path / "strange.yaml"
    path.write_text(text)
    refused(call("plan", path), "strange.yaml")
    refused(call("show", "hardware", path), "strange.yaml")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"model_type": "llama", "model_type": "llama"}', "twice"),
        ('{"model_type": "llama", "num_hidden_layers": 1000000000}', "config.json"),
        ('{"model_type": ["llama"]}', "model_type"),
        ('{"model_type": "gemma3", "text_config": 3}', "text_config"),
        ("[1]", "mapping"),
        ("NaN", "mapping"),
    ],
)
def test_strange_model_configs_are_refused(call, tmp_path, text, word) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    refused(call("show", "model", path), "config.json", word)


def test_a_layer_type_that_is_no_text_is_refused(call, tmp_path) -> None:
    spec = read_mapping(ROOT / "configs/models/gemma-3-27b.yaml")
    spec["config"]["text_config"]["layer_types"] = [[] for _ in range(62)]
    path = tmp_path / "gemma.json"
    path.write_text(json.dumps(spec))
    refused(call("show", "model", path), "gemma.json", "layer_types")


def test_a_merge_of_a_mapping_that_merges_keeps_what_it_overrides(tmp_path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("b: {<<: &own {<<: &base {x: 1, y: 1}, y: 2}, z: 3}\nown: *own\nbase: *base\n")
    found = read_mapping(path)
    assert found["b"] == {"x": 1, "y": 2, "z": 3}
    assert found["own"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    "key", ["x: 1\nx: 2", "a: {x: 1, x: 2}", "b: &b {x: 1, x: 2}\nc: {<<: *b}"]
)
def test_a_key_given_twice_is_still_refused(key, tmp_path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(key)
    with pytest.raises(SpecError, match="given twice"):
        read_mapping(path)


@pytest.mark.parametrize("kind", ["[]", "{}", "{a: 1}", "[llama]", "1", "null"])
def test_a_model_type_that_is_no_text_is_refused(kind, call, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"model_type: {kind}\nhidden_size: 8\n")
    refused(call("show", "model", path), "model_type")


@pytest.mark.parametrize(
    "value",
    ["1" + "0" * 400, "9" * 5000, "0x" + "f" * 5000, "1e400", "-1e400", ".nan", "2e" + "9" * 400],
)
def test_huge_numbers_are_refused(value, call, tmp_path) -> None:
    text = (ROOT / "configs/hardware/h20-96gb.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(re.sub(r"(?m)^memory_bytes: .*", f"memory_bytes: {value}", text))
    refused(call("show", "hardware", path), "mine.yaml")
    swept = tmp_path / "swept.yaml"
    swept.write_text(
        "models: [llama-3.1-8b]\nhardware: [l4]\nbatch_size: [1]\nosl: [1]\n"
        f"variables: [ttft]\nisl: [{value}]\n"
    )
    refused(call("plan", swept), "swept.yaml", "isl")
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"h20-96gb: {value}\n")
    with pytest.raises(SpecError):
        read_prices(prices)
    (tmp_path / "prices.csv").write_text(f"hardware,price_usd_per_hour\nh20-96gb,{value}\n")
    with pytest.raises(SpecError):
        read_prices(tmp_path / "prices.csv")


@pytest.mark.parametrize("digits", [400, 5000])
def test_an_integer_of_many_digits_is_refused_by_key_in_json(digits, tmp_path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"memory_bytes": "@"}).replace('"@"', "9" * digits))
    with pytest.raises(SpecError, match="memory_bytes: a number of more than 100 digits"):
        read_mapping(path)


@pytest.mark.parametrize(
    "text",
    [
        " " * 10**5,
        "=" + " " * 10**5,
        "isl=" + " " * 10**5,
        "isl=1e999",
        "isl=" + "9" * 5000,
        "x" * 10**5 + "=1",
        "isl:" + "," * 10**5,
    ],
)
def test_long_selections_are_refused_soon(text, whole_file, call, tmp_path) -> None:
    refused(call("export", whole_file, tmp_path / "out.csv", "--select", text))
    asked = ("reduce", whole_file, tmp_path / "out.nc", "--reduce", "argmin:ttft", "--where", text)
    refused(call(*asked))


@pytest.mark.parametrize("text", ['{"model_type": "\\ud800"}', '{"a": {"\\udfff": 1}}'])
def test_half_a_character_is_refused(text, tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(SpecError, match="half of a character"):
        read_mapping(path)


def test_a_table_shows_escapes_written_out(capsys) -> None:
    print_table([{"name": "\x1b[31mred\x07"}])
    assert capsys.readouterr().out.strip().endswith("\\x1b[31mred\\x07")


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        *((f"{name}_latency_s", 1e39) for name in ("link", "pcie", "network")),
        *((f"{name}_bandwidth_bytes_per_s", 1e-30) for name in ("link", "memory", "network")),
        *((f"{name}_bandwidth_bytes_per_s", 1e39) for name in ("link", "memory", "network")),
        ("vector_flops_per_s", 1e-30),
        ("peak_flops_per_s", {"fp16": 1e-30}),
        ("memory_bytes", 1e39),
        ("usable_memory_bytes", 1e13),
    ],
)
def test_figures_that_no_machine_has_are_refused(figure, value) -> None:
    with pytest.raises((SpecError, ValueError), match=figure):
        hardware(**{figure: value})


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\0b", "a" * 1100])
@pytest.mark.parametrize(
    ("kind", "shipped"),
    [
        (HardwareSpec, "hardware/l20"),
        (PrecisionSpec, "precisions/fp16"),
        (ModelSpec, "models/llama-2-7b"),
    ],
)
def test_a_name_that_no_result_can_have_as_a_label_is_refused(kind, shipped, name) -> None:
    data = read_mapping(ROOT / f"configs/{shipped}.yaml")
    with pytest.raises(
        SpecError, match=r"^x\.yaml: name: .* results have it as a label"
    ) as refusal:
        parse(kind, {**data, "name": name}, "x.yaml")
    assert "\n" not in str(refusal.value)
    if kind is ModelSpec:
        with pytest.raises(SpecError, match="hugging_face_id"):
            parse(kind, {**data, "hugging_face_id": name}, "x.yaml")


@pytest.mark.parametrize("tokens", [float("inf"), 0.4])
def test_a_length_that_no_request_has_is_refused(tokens) -> None:
    with pytest.raises(SpecError, match="tokens a request"):
        Keys({}, "report.json", "vllm").length("total_input_tokens", tokens)
