"""The plan of a folder has a seal, and is checked like a sweep file."""

import json
import shutil
from pathlib import Path

import pytest
from damage import refused

from sweep.errors import ResultError
from sweep.runs.plan_file import MARK
from sweep.runs.run_folder import Directory


def resealed(folder: Path, change) -> None:
    """Change the plan of a folder, and its seal with it if it can still be read."""
    file = folder / "plan.json"
    content = json.loads(file.read_text())
    recorded = Directory.load(folder).recorded
    change(content)
    try:
        changed = type(recorded).model_validate(content)
        content["seal"] = changed.content_digest()
    except Exception:
        content["seal"] = recorded.seal
    file.write_text(json.dumps(content))


def reverse(content) -> None:
    content["hardware"].reverse()
    grid = json.loads(content["attributes"]["llm_sweep_grid"])
    grid["hardware"].reverse()
    content["attributes"]["llm_sweep_grid"] = json.dumps(grid)


def reverse_labels(content) -> None:
    grid = json.loads(content["attributes"]["llm_sweep_grid"])
    grid["hardware"].reverse()
    content["attributes"]["llm_sweep_grid"] = json.dumps(grid)


EDITS = {
    "reversed accelerators": reverse,
    "reversed labels": reverse_labels,
    "no grid": lambda c: c["attributes"].pop("llm_sweep_grid"),
    "no history": lambda c: c["attributes"].pop("history"),
    "a history that is a number": lambda c: c["attributes"].update(history=1),
    "other history": lambda c: c["attributes"].update(history="x"),
    "short numbers": lambda c: c["numbers"]["batch_size"].pop(),
    "empty numbers": lambda c: c["numbers"].update(batch_size=[]),
    "unknown numbers": lambda c: c["numbers"].update(blocks=[1]),
    "numbers of models": lambda c: c["numbers"].update(model=[1]),
    "decreasing numbers": lambda c: c["numbers"]["batch_size"].reverse(),
    "no pieces": lambda c: c["pieces"].update(model=0),
    "negative pieces": lambda c: c["pieces"].update(model=-1),
    "pieces by the million": lambda c: c["pieces"].update(model=10**6),
    "pieces of an unknown axis": lambda c: c["pieces"].update(nothing=1),
    "unknown variables": lambda c: c.update(variables=["nothing"]),
    "no models": lambda c: c.update(models=[]),
    "a model twice": lambda c: c["models"].append(c["models"][0]),
    "deep": lambda c: c["models"][0].update(config=deep(900)),
    "another type": lambda c: c.update(dtype="float64"),
    "a deep grid": lambda c: c["attributes"].update(llm_sweep_grid="[" * 10**5),
    "another calibration": lambda c: c.update(efficiency={"name": "x"}),
}


def deep(levels: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_plan_is_refused_in_one_line(edit, whole_shards, call, tmp_path) -> None:
    for sealed_too in (True, False):
        copy = tmp_path / str(sealed_too)
        shutil.copytree(whole_shards, copy)
        if sealed_too:
            resealed(copy, EDITS[edit])
        else:
            content = json.loads((copy / "plan.json").read_text())
            EDITS[edit](content)
            (copy / "plan.json").write_text(json.dumps(content))
        refused(call("merge", copy, tmp_path / "out.nc"))
        assert call("check", copy)[0] in (1, 2)


def test_an_edit_is_found_while_there_are_no_shards(whole_shards, tmp_path) -> None:
    content = json.loads((whole_shards / "plan.json").read_text())
    content["keep_infeasible"] = not content["keep_infeasible"]
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match="changed after the run began: its seal differs"):
        Directory.load(tmp_path)


def test_a_plan_of_a_later_version_asks_for_it(whole_shards, tmp_path) -> None:
    content = json.loads((whole_shards / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**content, MARK: 2, "later": 1}))
    with pytest.raises(ResultError, match="written by a newer llm-sweep; upgrade this one"):
        Directory.load(tmp_path)


def test_a_plan_nested_too_deep_is_refused(whole_shards, call, tmp_path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(whole_shards, copy)
    (copy / "plan.json").write_text('{"llm_sweep_plan": 1, "models": ' + "[" * 10**5)
    refused(call("merge", copy, tmp_path / "out.nc"), "plan.json")
