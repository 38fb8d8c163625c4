"""The commands that compute the article's figures again."""

import json

import pytest
from test_cli import assert_refused


@pytest.mark.slow
def test_the_article_table_stands_beside_the_published_columns(call, tmp_path) -> None:
    picture = tmp_path / "table.png"
    code, out, _ = call("article-table", "--json", "-o", picture)
    rows = json.loads(out)
    assert code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [row["TensorRT-LLM 0.8.0 (s-1)"] for row in rows] == [5353, 1518, 547, 613]
    assert [row["LLM-Viewer (s-1)"] for row in rows] == [8934, 2796, 788, 1169]
    for row in rows:
        # an uncalibrated roofline is an upper bound on what was measured
        assert 0 < row["our error"] < row["LLM-Viewer error"]
        low, high = row["90 % interval (s-1)"]
        assert low < row["TensorRT-LLM 0.8.0 (s-1)"] < high


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        # Low since servers at modest load are fitted too; strict, so that a better fit is noticed.
        pytest.param(0, marks=pytest.mark.xfail(reason="6.4 % below the measured throughput")),
        *(1, 2, 3),
    ],
)
def test_the_calibration_is_within_5_percent_of_the_article(call, place: int) -> None:
    rows = json.loads(call("article-table", "--json")[1])
    assert abs(rows[place]["calibrated error"]) < 0.05


def test_the_articles_rooflines_in_one_command(call, tmp_path) -> None:
    picture = tmp_path / "roofs.svg"
    code, out, _ = call("article-rooflines", "-o", picture, "--json")
    assert code == 0
    names = ["a100-sxm-80gb", "h20-96gb", "a800-sxm-80gb", "l40s", "l20", "rtx-4090"]
    assert [row["hardware"] for row in json.loads(out)] == names
    drawn = picture.read_bytes()
    assert_refused(call("article-rooflines", "-o", picture), str(picture), "--force")
    assert picture.read_bytes() == drawn
    assert call("article-rooflines", "--linear", "-o", picture, "--force")[0] == 0
    assert picture.read_bytes() != drawn


@pytest.mark.campaign
def test_the_articles_meshes_in_one_command(call, tmp_path) -> None:
    picture = tmp_path / "meshes.png"
    code, out, _ = call("article-meshes", "-o", picture, "--json")
    assert code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = {(row["model"], row["variable"]): row["answer"] for row in json.loads(out)}
    assert len(rows) == 4 * 2
    for method in ("decode_step_latency", "global_decode_step_latency"):
        assert "h20-96gb wins everywhere" in rows["mixtral-8x7b", method]
        assert "a100-sxm-80gb wins" in rows["llama-2-13b", method]
    chosen = call("article-meshes", "--model", "qwen2.5-7b,qwen2.5-7b")
    assert chosen[0] == 0
    assert [line.partition(",")[0] for line in chosen[1].splitlines()] == 2 * ["qwen2.5-7b"]


def test_the_articles_meshes_are_refused_in_one_line(call, tmp_path) -> None:
    assert_refused(call("article-meshes", "--model", "llama-2-31b"), "llama-2-31b", "llama-2-13b")
    assert_refused(call("article-meshes", "-o", tmp_path / "mesh.bmp"), ".png")
