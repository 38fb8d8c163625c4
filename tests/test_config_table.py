"""The table of published configs, and active parameters beside the makers' round figures."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from factories import config, shipped

TOOL = Path(__file__).parent.parent / "benchmarks" / "config_table.py"


def load() -> ModuleType:
    """The tool, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("config_table", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TABLE = load()


@pytest.fixture(scope="module")
def mixtures() -> dict[str, Any]:
    return {row.name: row for row in TABLE.mixtures()}


def test_every_shipped_mixture_states_its_published_active_parameters(mixtures) -> None:
    catalog = shipped()
    experts = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
    for name in catalog.paths("models"):
        spec = catalog.model(name)
        if any(f"'{key}'" in str(spec.config) for key in experts):
            assert spec.published is not None, name
            assert name in mixtures


def test_active_parameters_are_the_published_ones(mixtures) -> None:
    # Within 3 %, or what the published figure was rounded by: "3B" is anything from 2.5 to 3.5.
    assert len(mixtures) > 40
    for name, row in mixtures.items():
        most = max(0.03 * row.published, row.rounding)
        assert abs(row.comparable - row.published) <= most, name


def test_embeddings_are_left_out_only_where_the_figure_is_nearer_without(mixtures) -> None:
    assert set(TABLE.COUNTED_WITHOUT) <= set(mixtures)
    for name in TABLE.COUNTED_WITHOUT:
        row = mixtures[name]
        assert abs(row.comparable - row.published) < abs(row.counted - row.published)


@pytest.mark.parametrize(
    ("published", "rounding"), [(3 * 10**9, 5e8), (10**10, 5e8), (2_750_000_000, 5e6), (4e8, 5e7)]
)
def test_a_round_figure_is_off_by_half_its_last_digit(published: int, rounding: float) -> None:
    assert TABLE.Active("x", 1, 1, 1, int(published)).rounding == rounding


def folder_of(tmp_path: Path, **configs: dict[str, Any]) -> Path:
    for name, keys in configs.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(keys))
    return tmp_path


def test_a_table_says_what_is_exact_different_unknown_or_refused(tmp_path) -> None:
    llama, routed = config("llama"), config("deepseek_v3")
    refused = {**llama, "model_type": "qwen3", "zero_expert_num": 4}
    folder = folder_of(tmp_path, a=llama, b=llama, c=llama, d=refused, e=routed)
    counted = {row.file: row.counted for row in TABLE.rows(folder, {})}
    biases = next(row.router_biases for row in TABLE.rows(folder, {}) if row.file == "e.json")
    assert biases
    index = {
        "a.json": {"truth_total": str(counted["a.json"]), "source": "somewhere"},
        "b.json": {"truth_total": "1", "truth_text": str(counted["b.json"] - 5)},
        "e.json": {"truth_total": str(counted["e.json"] - biases)},
    }
    found = {row.file: row for row in TABLE.rows(folder, index)}
    assert found["a.json"].outcome == "exact"
    assert found["b.json"].outcome.startswith("+5 (")
    assert found["c.json"].outcome == "no published total"
    assert found["d.json"].outcome == "refused: zero_expert_num: experts that compute nothing"
    assert found["e.json"].outcome == f"exact, with {biases} router biases"
    text = TABLE.page(folder, index)
    assert "5 published" in text
    for line in ("- 2 exact", "- 1 different", "- 1 refused", "- somewhere: 1 files"):
        assert line in text.splitlines()


def test_an_explained_difference_has_its_reason() -> None:
    file = next(iter(TABLE.EXPLAINED))
    row = TABLE.Row(file, "x", counted=12, published=10)
    assert row.outcome == f"+2 (+20.0000%): {TABLE.EXPLAINED[file]}"


def test_the_tool_writes_or_prints_the_page(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "files").mkdir()
    folder = folder_of(tmp_path / "files", a=config("llama"))
    index = tmp_path / "index.csv"
    index.write_text("file,truth_total,truth_text,source\na.json,1,,here\n")
    page = tmp_path / "page.md"
    arguments = ["config_table", str(folder), "--index", str(index), "-o", str(page)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert TABLE.main() == 0
    monkeypatch.setattr(sys, "argv", arguments[:-2])
    assert TABLE.main() == 0
    assert capsys.readouterr().out == page.read_text()
    assert str(tmp_path) not in page.read_text()
