"""Table of published configs: parameters counted beside those published, or what is refused.

    python -m benchmarks.config_table FOLDER [--index INDEX.csv] [-o PAGE.md]

FOLDER contains `config.json` files of any names. The index may state, for each `file`, its
published `truth_total`, `truth_text` without the parts that see or hear, and its `source`. A second
table has the active parameters of the shipped mixtures of experts.
"""

import argparse
import csv
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from sweep.errors import SpecError
from sweep.kernel.block import Block
from sweep.kernel.operator_table import tensors
from sweep.models.left_out import text_part
from sweep.models.read import read_blocks, read_model
from sweep.specs.catalog import Catalog
from sweep.specs.model import ModelSpec

INTRODUCTION = """\
# Published configs, counted

{files} published `config.json` files, read by their parts as [my model](my-model.md) describes:

{summary}

The page is written by

```sh
python -m benchmarks.config_table FOLDER --index INDEX.csv -o docs/model_configs.md
```

from files of these repositories:

{sources}

The published totals are those of the published model code, built without weights; of a model that
also sees or hears, those of its text part.

- *exact*: the same to the last parameter.
- *exact, with N router biases*: some totals leave out the stored vectors that correct the scores of
  a router (`e_score_correction_bias`), as they are not trained by gradients. They are weights that
  a checkpoint has and a router reads, so they are counted here.
- A difference is ours less the published total.
- A refused file is not priced at all. The table names the key and the structure.
"""
MIXTURES = """
## Active parameters of the shipped mixtures of experts

Makers publish round figures, and some leave embeddings out of them. *Counted* are all weights that
one token uses: attention, its experts and the router, embedding and head. *Less embedding* leaves
out the input embedding, of which a token reads one row, and *less head* the head too. The
difference is that of the figure in bold. A tied embedding is stored once and used as the head.
"""
COUNTED_WITHOUT = {
    "deepseek-v2-lite": "embedding",
    "deepseek-v3.2": "embedding",
    "ernie-4.5-21b-a3b": "head",
    "glm-4.5": "embedding",
    "glm-4.6": "embedding",
    "glm-4.5-air": "head",
    "glm-4.5v": "head",
    "glm-4.7-flash": "head",
    "glm-5": "embedding",
    "gpt-oss-120b": "embedding",
    "gpt-oss-20b": "embedding",
    "minimax-m2.5": "embedding",
    "minimax-m3": "head",
    "qwen3-next-80b-a3b": "head",
    "qwen3-vl-30b-a3b": "embedding",
}
"""Shipped model → what its maker's active parameters leave out: the embedding, or head and it."""

STEP = "the total is of 128,815 tokens, the default of its class; the file states 128,896"
EXPLAINED = {
    "stepfun-ai__Step-3.7-Flash.json": STEP,
    "stepfun-ai__Step-3.7-Flash-FP8.json": STEP,
}
"""File → reason of a difference from its published total."""


@dataclass(frozen=True)
class Active:
    """Active parameters of a mixture of experts. [count]

    Attributes:
        name: Name of the shipped model.
        counted: All that one token uses.
        less_embedding: Those without an input embedding of its own.
        less_head: Those without embedding and head.
        published: The makers' figure.
    """

    name: str
    counted: int
    less_embedding: int
    less_head: int
    published: int

    @property
    def comparable(self) -> int:
        """Ours with the same parts as the published figure. [count]"""
        left_out = COUNTED_WITHOUT.get(self.name)
        return {"embedding": self.less_embedding, "head": self.less_head}.get(
            str(left_out), self.counted
        )

    @property
    def difference(self) -> float:
        """Relative difference of the comparable figure. [1]"""
        return self.comparable / self.published - 1

    @property
    def rounding(self) -> float:
        """Half of the last digit that the published figure states. [count]"""
        zeros = len(str(self.published)) - len(str(self.published).rstrip("0"))
        return 10.0 ** min(zeros, 9) / 2


def mixture(spec: ModelSpec) -> Active | None:
    """Count the active parameters of a shipped mixture of experts; `None` if it is dense."""
    blocks = read_model(spec)
    if spec.published is None or not any(block.experts for block in blocks):
        return None
    active = sum(int(block.count) * tensor.active_elements for block, tensor in tensors(blocks))
    first, last = (_elements(end) for end in (blocks[0], blocks[-1]))
    vocabulary = int(blocks[-1].vocab_size) * int(blocks[-1].hidden_size)
    return Active(
        spec.name,
        active,
        active - (first if last >= vocabulary else 0),
        active - first - (last if last >= vocabulary else 0),
        spec.published.active_parameters,
    )


def _elements(block: Block) -> int:
    return sum(tensor.elements for _, tensor in tensors((block,)))


@dataclass(frozen=True)
class Row:
    """One file of the table.

    Attributes:
        file: Name of the file.
        family: Its `model_type`, that of its text part first.
        counted: Parameters of the text decoder, if it can be read. [count]
        router_biases: Elements of stored router biases among them. [count]
        published: Published total of the text decoder, if the index states it. [count]
        refused: Key and structure that are refused.
    """

    file: str
    family: str
    counted: int | None = None
    router_biases: int = 0
    published: int | None = None
    refused: str = ""

    @property
    def verdict(self) -> str:
        """Outcome in a word or three: exact, different, refused, or no published total."""
        if self.counted is None:
            return "refused"
        if self.published is None:
            return "no published total"
        off = self.counted - self.published
        if off in (0, self.router_biases):
            return "exact"
        return "different"

    @property
    def outcome(self) -> str:
        """Last cell of the row."""
        if self.counted is None:
            return f"refused: {self.refused}"
        if self.published is None:
            return "no published total"
        off = self.counted - self.published
        if off == 0:
            return "exact"
        if self.verdict == "exact":
            return f"exact, with {off:,} router biases"
        reason = f": {EXPLAINED[self.file]}" if self.file in EXPLAINED else ""
        return f"{off:+,} ({off / self.published:+.4%}){reason}"


def read(path: Path) -> Row:
    """Read one file."""
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    text = text_part(config)
    family = text.data.get("model_type") or config.get("model_type")
    row = Row(path.name, str(family))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            blocks = read_blocks(config, path.name)
    except SpecError as error:
        return replace(row, refused=_structure(str(error), path.name))
    biases = sum(int(block.count * block.router_bias * block.experts) for block in blocks)
    counted = sum(int(block.count) * tensor.elements for block, tensor in tensors(blocks))
    return replace(row, counted=counted, router_biases=biases)


def _structure(message: str, file: str) -> str:
    """Key and structure of a refusal, without the file and the section."""
    parts = message.removeprefix(f"{file}: ").split(": ")
    while parts and parts[0].endswith("_config"):
        parts.pop(0)
    return ": ".join(parts).removesuffix(", which is not supported").replace("|", "or")


def rows(folder: Path, index: Mapping[str, Mapping[str, str]]) -> Iterator[Row]:
    """Read every file of a folder, with its published total if the index states it."""
    for path in sorted(folder.glob("*.json"), key=lambda path: path.name.lower()):
        stated = index.get(path.name, {})
        total = stated.get("truth_text") or stated.get("truth_total")
        yield replace(read(path), published=int(total) if total else None)


def page(folder: Path, index: Mapping[str, Mapping[str, str]]) -> str:
    """Write the page: a table of the folder's files, and one of the shipped mixtures."""
    found = list(rows(folder, index))
    verdicts = Counter(row.verdict for row in found)
    order = ("exact", "different", "no published total", "refused")
    summary = [f"- {verdicts[name]} {name}" for name in order if verdicts[name]]
    named = Counter(index.get(row.file, {}).get("source") or "not stated" for row in found)
    sources = [f"- {source}: {count} files" for source, count in named.most_common()]
    lines = [
        INTRODUCTION.format(
            files=len(found), summary="\n".join(summary), sources="\n".join(sources)
        ),
        "| file | family | counted | published | difference |",
        "|---|---|--:|--:|---|",
        *(
            f"| `{row.file}` | `{row.family}` | {_number(row.counted)} | "
            f"{_number(row.published)} | {row.outcome} |"
            for row in found
        ),
        MIXTURES,
        "| model | counted | less embedding | less head | published | difference |",
        "|---|--:|--:|--:|--:|--:|",
        *(_mixture_line(row) for row in mixtures()),
    ]
    return "\n".join(lines) + "\n"


@cache
def mixtures() -> tuple[Active, ...]:
    """All shipped mixtures of experts, by name."""
    catalog = Catalog()
    found = (mixture(catalog.model(name)) for name in sorted(catalog.paths("models")))
    return tuple(row for row in found if row is not None)


def _mixture_line(row: Active) -> str:
    figures = [row.counted, row.less_embedding, row.less_head]
    bold = figures.index(row.comparable)
    cells = [_billions(f) if i != bold else f"**{_billions(f)}**" for i, f in enumerate(figures)]
    published = f"{row.published / 1e9:g}"
    return f"| {row.name} | {' | '.join(cells)} | {published} | {row.difference:+.1%} |"


def _billions(number: int) -> str:
    return f"{number / 1e9:.2f}"


def _number(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def read_index(path: Path | None) -> dict[str, dict[str, str]]:
    """Read the index, by file."""
    if path is None:
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def main() -> int:
    """Print or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--index", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    text = page(arguments.folder, read_index(arguments.index))
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
