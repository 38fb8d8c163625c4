"""Check that the tests see faults: apply each mutant of `mutants.yaml` to a copy and test that.

    python tests/mutate.py            # all; some hours of one core with the slow tests
    python tests/mutate.py --quick    # without the tests marked slow
    python tests/mutate.py seal       # those whose file or text contains a word

It prints `killed` or `survived` for each, and exits with status 1 if one survived that is not
known to be harmless.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).parent / "mutants.yaml"
COPIED = ("sweep", "calibration", "configs", "tests", "benchmarks", "docs", "pyproject.toml")
PASSED, FAILED, NO_TESTS = 0, 1, 5
"""Exit statuses of pytest."""
LONGEST = 1800
"""A test that has not ended by then hangs, which the fault caused. [s]"""


def mutants() -> list[dict[str, Any]]:
    """The list: `file`, `right` and `wrong` text, `tests`, and why it `survives` where it may."""
    found: list[dict[str, Any]] = yaml.safe_load(LIST.read_text("utf-8"))
    return found


def is_killed(folder: Path, mutant: dict[str, Any], options: list[str]) -> bool:
    """Test a copy of the repository with one fault."""
    file = folder / mutant["file"]
    source = file.read_text("utf-8")
    assert source.count(mutant["right"]) == 1, f"{mutant['file']}: {mutant['right']}"
    file.write_text(source.replace(mutant["right"], mutant["wrong"]), "utf-8")
    try:
        # One file after another: most faults are seen by the first.
        return any(_fails(folder, name, options) for name in mutant["tests"])
    finally:
        file.write_text(source, "utf-8")


def _fails(folder: Path, name: str, options: list[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-qx", "-n0", f"tests/{name}.py", *options]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return True
    if ended.returncode not in (PASSED, FAILED, NO_TESTS):
        raise SystemExit(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return ended.returncode == FAILED


def main() -> int:
    """Apply the mutants that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="words of the file or text of mutants")
    parser.add_argument("--quick", action="store_true", help="leave out tests marked slow")
    asked = parser.parse_args()
    options = ["-m", "not slow and not campaign"] if asked.quick else []
    chosen = [
        mutant
        for mutant in mutants()
        if not asked.words or any(w in f"{mutant['file']} {mutant['right']}" for w in asked.words)
    ]
    unseen = 0
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in COPIED:
            copy = shutil.copy if (ROOT / name).is_file() else shutil.copytree
            copy(ROOT / name, folder / name)
        for mutant in chosen:
            killed = is_killed(folder, mutant, options)
            why = "" if killed else f" ({mutant.get('survives', 'no test sees it')})"
            word = "killed" if killed else "survived"
            print(f"{word}  {mutant['file']}: {mutant['wrong'].strip()!r}{why}", flush=True)
            unseen += not killed and "survives" not in mutant
    print(f"{len(chosen)} mutants, {unseen} survived without a reason")
    return int(unseen > 0)


if __name__ == "__main__":
    sys.exit(main())
