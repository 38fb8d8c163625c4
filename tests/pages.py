"""Runs a page's code blocks in their order, in the working folder; Sybil finds them.

Python runs, commands of ours run in this process, YAML is read as what it is, and an `output`
block must be what the block before it printed. Nothing passes but by a name on the lists below.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import yaml
from sybil import Example, Region, Sybil
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from calibration.cli.main import cli as calibrate
from sweep.cli.launch import launch
from sweep.cli.main import cli as sweep
from sweep.errors import SpecWarning
from sweep.grid.grid import Grid
from sweep.grid.resolved import resolve
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.parsing import parse

COMMANDS = {"llm-sweep": sweep, "llm-calibrate": calibrate}
SETUP = (
    r"python3 -m venv \S+",
    r"(\S+/)?pip install .+",
    r"\. \S+/bin/activate",
    r"(\S+/)?python -m (pytest|benchmarks\.\w+)( .+)?",
    r"(\S+/)?sphinx-build .+",
    r"python sweep_on_slurm\.py",
)
"""Commands that install, test, measure or build, and are no use of the programs; and a page's own
script, a block of Python on the same page."""
BY_NAME = {
    "--scheduler": "needs a cluster",
    "explore --port": "serves a page until it is interrupted",
    "--workers": "starts processes, which tests/test_interrupted_runs.py does",
    "run trillion-points": "computes for a quarter of an hour",
    "run billion-points -o fastest.nc": "computes a billion points, as tests/test_scale.py some",
    "validate tensorrt-llm": "refits all rows dozens of times: minutes",
    "--each-engine": "fits all rows, which tests/test_shipped_fit.py does",
    "article-meshes": "draws what tests/test_article_commands.py does",
    "article-table": "draws what tests/test_article_commands.py does",
    "report long.nc": "makes a page as another page does",
}
"""Words of commands that are held to the options there are, and do not run, with the reason."""
ELSEWHERE = {"dask_jobqueue": "needs SLURM", "dask_kubernetes": "needs Kubernetes"}
"""Packages whose blocks are compiled only, with the reason."""
DRAWING = "text"
"""Language of what is no code."""
DIRECTIVES = re.compile(r"\{[a-z-]+\}")
"""What the site's builder reads, such as a table of contents."""
ELLIPSIS = "…"
"""Stands in an output for any text."""
ENVIRONMENT = {"SLURM_ARRAY_TASK_ID": "1", "SHARED": "shared", "LLM_SWEEP_CONFIGS": ""}
"""What pages take from the environment, or set in it."""
OF_A_SHELL = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Variables of a shell on which the layout of tables depends; pages show what a pipe gets."""


def run_page(path: Path) -> int:
    """Run all blocks of a page; how many there are."""
    examples = list(Sybil(parsers=[blocks], path=str(path.parent)).parse(path).examples())
    for example in examples:
        try:
            example.evaluate()
        except BaseException as error:
            error.add_note(f"{path}:{example.line}")
            raise
    return len(examples)


def blocks(document: Document) -> Iterator[Region]:
    """Every fenced block of a document, whatever its language."""
    lexer = FencedCodeBlockLexer(r".*", mapping={"language": "language", "source": "source"})
    for region in lexer(document):
        language = region.lexemes["language"].strip()
        if DIRECTIVES.match(language) or language == DRAWING:
            continue
        if language not in EVALUATORS:
            raise ValueError(f"{document.path}: a block in {language or 'no language'!r}")
        region.parsed, region.evaluator = region.lexemes["source"], EVALUATORS[language]
        yield region


def python(example: Example) -> None:
    """Run a block of Python in the page's namespace."""
    if any(f"from {package}" in example.parsed for package in ELSEWHERE):
        compile(example.parsed, example.path, "exec")
        return
    with printed(example):
        PythonEvaluator()(example)


def shell(example: Example) -> None:
    """Run the commands of a block, each with the status 0."""
    with printed(example):
        for command in commands(example.parsed):
            run_command(command)


def commands(source: str) -> Iterator[str]:
    """The commands of a shell script, one after another, without comments."""
    for line in source.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="&;|<>()")
        words.whitespace_split = True
        for is_operator, part in groupby(words, lambda word: set(word) <= set("&;|<>()")):
            command = shlex.join(part)
            if not is_operator:
                yield command
            elif command != shlex.quote("&&"):
                raise ValueError(f"unknown operator {command} in: {line}")


def run_command(command: str) -> None:
    """Run one command of ours in this process, or see that it is one of those that need not."""
    program, *words = shlex.split(command)
    if program == "export":
        os.environ.update(word.split("=", 1) for word in words)
        return
    name = program.rpartition("/")[2]
    if name not in COMMANDS:
        plain = " ".join([program, *words])
        assert any(re.fullmatch(known, plain) for known in SETUP), f"unknown command: {plain}"
        return
    words = [os.path.expandvars(word) for word in words]
    check_options(COMMANDS[name], words)
    line = " ".join(words)
    if not any(known in line for known in BY_NAME):
        assert call(name, words) == 0, command


def check_options(group: click.Command, words: list[str]) -> None:
    """Parse a command line, options and types, without running it."""
    while isinstance(group, click.Group):
        name, *words = words
        assert name in group.commands, f"no command {name}"
        group = group.commands[name]
    group.make_context(group.name, words)


def call(name: str, words: list[str]) -> int:
    """Run a program as its entry point does; its exit status."""
    before = sys.argv
    sys.argv = [name, *words]
    try:
        with warnings.catch_warnings():
            # The article's models are swept beyond their contexts; the program says so and goes on.
            warnings.filterwarnings("default", message=".* is made for ", category=SpecWarning)
            launch(COMMANDS[name], name)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("launch always leaves")


@contextlib.contextmanager
def printed(example: Example) -> Iterator[None]:
    """Keep what a block prints, for the `output` block that may follow."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            yield
        except BaseException as error:
            error.add_note(_text(out))
            raise
    example.namespace["_printed"] = _text(out)


def _text(out: io.TextIOWrapper) -> str:
    out.seek(0)
    return out.read()


def output(example: Example) -> None:
    """Compare with what the block before printed, however lines are broken."""
    told = " ".join(example.namespace["_printed"].split())
    shown = " ".join(example.parsed.split())
    place = 0
    for part in (part.strip() for part in shown.split(ELLIPSIS)):
        found = told.find(part, place)
        assert found >= 0, f"not printed: {part}\nshown:\n{shown}\nprinted:\n{told}"
        place = found + len(part)


def read_yaml(example: Example) -> None:
    """Read a block as the file that its keys say it is."""
    data: Any = yaml.safe_load(example.parsed)
    if "models" in data:
        resolve(parse(Grid, data, "sweep"), Catalog())
    else:
        parse(HardwareSpec, {"name": "my-gpu", **data}, "hardware")


EVALUATORS = {"python": python, "sh": shell, "output": output, "yaml": read_yaml}
