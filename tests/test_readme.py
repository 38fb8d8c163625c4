"""The README's Python runs, its commands exist, and its glossary names what the table has."""

import re
import shlex
from pathlib import Path

import pytest

from calibration.cli import cli as calibrate
from sweep.cli import cli
from sweep.variables import VARIABLES

COMMANDS = {"llm-sweep": cli, "llm-calibrate": calibrate}
ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def shell() -> str:
    return "\n".join(block for text in (TEXT, *GUIDES) for block in blocks("sh", text))


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_commands_name_what_exists() -> None:
    for name, command in COMMANDS.items():
        used = re.findall(rf"{name} ([a-z][a-z-]+)", shell())
        assert used
        assert set(used) <= set(command.commands)


def test_options_of_the_commands_exist() -> None:
    for line in re.split(r"&&|\n", shell().replace("\\\n", " ")):
        words = shlex.split(line, comments=True)
        starts = [i for i, word in enumerate(words) if word.rpartition("/")[2] in COMMANDS]
        for start in starts:
            command = COMMANDS[words[start].rpartition("/")[2]].commands[words[start + 1]]
            known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
            given = {word for word in words[start + 2 :] if word.startswith("-")}
            assert given <= known, line


def test_every_variable_is_listed_with_its_units() -> None:
    for name, variable in VARIABLES.items():
        assert f"| `{name}` | {variable.units} |" in TEXT, name
