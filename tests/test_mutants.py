"""The list of faults matches the code that it would change."""

from pathlib import Path

import pytest
from mutate import ROOT, mutants

# A change of a formula need not wait for its line in the list.
pytestmark = pytest.mark.campaign


def test_every_fault_changes_one_place() -> None:
    for each in mutants():
        assert each.keys() - {"survives"} == {"file", "right", "wrong", "tests"}, each
        source = (ROOT / each["file"]).read_text("utf-8")
        assert source.count(each["right"]) == 1, f"{each['file']}: {each['right']}"
        compile(source.replace(each["right"], each["wrong"]), each["file"], "exec")


def test_every_fault_names_files_of_tests() -> None:
    named = {name for each in mutants() for name in each["tests"]}
    assert {name for name in named if not (Path(__file__).parent / f"{name}.py").is_file()} == set()
