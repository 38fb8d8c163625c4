"""Constraints at the declared minimum of each dependency: `python tests/minimum_versions.py`."""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)>=(?P<minimum>[\d.]+)(,<[\d.]+)?")
"""A requirement with a minimum version, and perhaps an upper bound."""


def minimum_versions() -> dict[str, str]:
    """Declared minimum of every dependency, optional ones included.

    Raises:
        ValueError: A dependency declares no minimum, or two different ones.
    """
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"].values()
    found: dict[str, str] = {}
    for requirement in sum(optional, project["dependencies"]):
        if requirement.startswith(f"{project['name']}["):
            continue
        declared = REQUIREMENT.fullmatch(requirement)
        if declared is None:
            raise ValueError(f"{requirement}: declare a minimum version, as in click>=8.1")
        if found.setdefault(declared["name"], declared["minimum"]) != declared["minimum"]:
            raise ValueError(f"{declared['name']}: two minimum versions; declare the same one")
    return found


if __name__ == "__main__":
    for name, minimum in minimum_versions().items():
        print(f"{name}=={minimum}")
