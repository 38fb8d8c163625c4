"""A grid with every name looked up."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sweep.errors import SpecError, SpecWarning
from sweep.grid.grid import Grid
from sweep.kernel.block import Block
from sweep.kernel.draft import draft_of
from sweep.kernel.operator_table import operator_names
from sweep.models.checkpoint import checkpoint, is_quantised
from sweep.models.context import beyond_context
from sweep.models.read import read_model
from sweep.schema.axes import AXES
from sweep.schema.variables import COMPUTED, VARIABLES, dims_of
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT, PrecisionSpec


@dataclass(frozen=True, eq=False)
class Resolved:
    """Grid with every name looked up, plus cached derived data.

    Attributes:
        models: Specifications along the `model` axis, with their blocks.
        hardware: Specifications along the `hardware` axis.
        precision: Specifications along the `precision` axis; `CHECKPOINT` stands for the recipe of
            each model's own file.
        numbers: The numeric axes by name.
        variables: Variables to compute, with the ancillary ones that explain them.
        drafting: The model that drafts tokens, with its blocks, if it is a model of its own.
    """

    models: tuple[tuple[ModelSpec, tuple[Block, ...]], ...]
    hardware: tuple[HardwareSpec, ...]
    precision: tuple[PrecisionSpec, ...]
    numbers: dict[str, list[Any]]
    variables: tuple[str, ...]
    drafting: tuple[ModelSpec, tuple[Block, ...]] | None = None

    @property
    def draft(self) -> tuple[Block, ...] | None:
        """Blocks of the model that drafts tokens, if it is a model of its own."""
        return None if self.drafting is None else self.drafting[1]

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """Names along the `operator` axis: every model's, in the order they run."""
        return tuple(merged([operator_names(blocks) for _, blocks in self.models]))

    @cached_property
    def recipes(self) -> tuple[tuple[PrecisionSpec, ...], ...]:
        """Recipes along the `precision` axis as each model uses them, in the order of `models`."""
        if not any(spec.name == CHECKPOINT.name for spec in self.precision):
            return (self.precision,) * len(self.models)
        return tuple(
            tuple(own if spec.name == CHECKPOINT.name else spec for spec in self.precision)
            for own in self.checkpoints
        )

    @cached_property
    def checkpoints(self) -> tuple[PrecisionSpec, ...]:
        """The recipe of each model's own file."""
        return tuple(checkpoint(spec, blocks).recipe for spec, blocks in self.models)

    @cached_property
    def labels(self) -> dict[str, list[str]]:
        """Names along the labelled axes."""
        return {
            "model": [spec.name for spec, _ in self.models],
            "hardware": [spec.name for spec in self.hardware],
            "precision": [spec.name for spec in self.precision],
        }

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Length of every axis, in the order of `AXES`. [count]"""
        lengths = {axis: len(labels) for axis, labels in self.labels.items()}
        lengths |= {axis: len(values) for axis, values in self.numbers.items()}
        return {axis: lengths[axis] for axis in AXES if axis in lengths}

    @property
    def points(self) -> int:
        """Cells of the outer product. [count]"""
        return math.prod(self.sizes.values())

    def dims(self, variable: str) -> tuple[str, ...]:
        """Dimensions of a variable on this grid."""
        return dims_of(variable, self.sizes)

    def part(self, region: Mapping[str, range]) -> "Resolved":
        """Sub-grid of an index range along each axis; an axis without one is kept whole."""
        if all(len(indices) == self.sizes[axis] for axis, indices in region.items()):
            return self

        def within(axis: str, values: Any) -> Any:
            indices = region.get(axis)
            return values if indices is None else values[indices.start : indices.stop]

        return replace(
            self,
            models=within("model", self.models),
            hardware=within("hardware", self.hardware),
            precision=within("precision", self.precision),
            numbers={axis: within(axis, values) for axis, values in self.numbers.items()},
        )


def resolve(grid: Grid, catalog: Catalog) -> Resolved:
    """Look up every name of `grid`.

    Raises:
        SpecError: A name is unknown or given twice, a model's family is not supported, or an
            accelerator has no rate for a type that a precision computes in.
        GridError: A variable needs an axis the grid lacks.
    """
    models = tuple(m if isinstance(m, ModelSpec) else catalog.model(m) for m in grid.models)
    hardware = tuple(
        h if isinstance(h, HardwareSpec) else catalog.hardware(h) for h in grid.hardware
    )
    precision = tuple(
        p if isinstance(p, PrecisionSpec) else catalog.precision(p)
        for p in (grid.precision if "precision" in grid.model_fields_set else usual(models))
    )
    for axis, specs in (("models", models), ("hardware", hardware), ("precision", precision)):
        names = [spec.name for spec in specs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SpecError(f"{axis}: {twice!r} is listed twice; give each a name of its own")
    wanted = dict.fromkeys(grid.variables)
    extras = [extra for name in wanted for extra in VARIABLES[name].ancillary]
    extras += [more for name in extras for more in VARIABLES[name].ancillary]
    wanted |= dict.fromkeys(extra for extra in extras if extra in COMPUTED)
    resolved = Resolved(
        models=tuple((spec, read_model(spec)) for spec in models),
        hardware=hardware,
        precision=precision,
        numbers=grid.numbers,
        variables=tuple(wanted),
        drafting=draft_model(grid.draft_model, catalog),
    )
    for name in resolved.variables:
        resolved.dims(name)
    for spec, blocks in resolved.models:
        check_lengths(spec.name, blocks, resolved.numbers)
        check_draft(spec.name, blocks, resolved.numbers)
    for machine in hardware:
        for (spec, _), recipes in zip(resolved.models, resolved.recipes, strict=True):
            for recipe in recipes:
                check_dtypes(machine, recipe, spec.name)
    if CHECKPOINT.name in resolved.labels["precision"]:
        warn_of_averages(resolved.models)
    return resolved


def check_lengths(model: str, blocks: tuple[Block, ...], numbers: Mapping[str, list[Any]]) -> None:
    """Check that the lengths of a grid are those of what `model` generates, text or images.

    Raises:
        SpecError: It generates the other, or an image is no multiple of its patches.
    """
    pixels, sizes = int(blocks[0].token_pixels), numbers.get("image_size")
    if sizes is not None and not pixels:
        raise SpecError(f"image_size: {model!r} generates text; give it a grid of its own")
    lengths = [
        axis
        for axis in ("context_len", "isl", "osl", "concurrency", "request_rate")
        if axis in numbers
    ]
    if pixels and lengths:
        raise SpecError(
            f"{lengths[0]}: {model!r} generates images; give it a grid of its own, with "
            "image_size, denoising_steps and guidance_passes"
        )
    odd = [size for size in sizes or () if size % pixels]
    if odd:
        raise SpecError(
            f"image_size: {odd[0]} is no multiple of {pixels}, the patches of {model!r}"
        )


def check_draft(model: str, blocks: tuple[Block, ...], numbers: Mapping[str, list[Any]]) -> None:
    """Check that a model has a layer to draft with, if tokens are drafted.

    Raises:
        SpecError: It has none.
    """
    if "draft_tokens" in numbers and not draft_of(blocks)[0]:
        raise SpecError(
            f"draft_tokens: {model!r} has no layer that attends and no head to draft with; leave "
            "it out"
        )


def draft_model(
    model: str | ModelSpec | None, catalog: Catalog
) -> tuple[ModelSpec, tuple[Block, ...]] | None:
    """The model that drafts tokens, with its blocks; `None` if none is named.

    Raises:
        SpecError: It is unknown, or keeps a state, from which rejected tokens cannot be removed.
    """
    if model is None:
        return None
    spec = model if isinstance(model, ModelSpec) else catalog.model(model)
    blocks = read_model(spec)
    if not draft_of(blocks)[0] or any(block.state is not None for block in blocks):
        raise SpecError(
            f"draft_model: {spec.name!r} cannot draft: its layers keep a state, or it generates no "
            "text; name a model of attention layers"
        )
    return spec, blocks


def usual(models: Sequence[ModelSpec]) -> list[str]:
    """Names of the recipes of a sweep that states none: the checkpoints' own if one is quantised.

    Args:
        models: Models of the sweep.
    """
    return [CHECKPOINT.name if any(map(is_quantised, models)) else "fp16"]


def warn_of_averages(models: Sequence[tuple[ModelSpec, tuple[Block, ...]]]) -> None:
    """Warn where the recipe made from a model's own file is less exact than the file."""
    for spec, blocks in models:
        notes = checkpoint(spec, blocks).notes
        if notes:
            warnings.warn(f"{spec.where}: {'; '.join(notes)}", SpecWarning, stacklevel=3)


def warn_of_contexts(grid: Resolved) -> None:
    """Warn of requests that are longer than a model is made for."""
    longest = sum(max(grid.numbers.get(axis) or [math.inf]) for axis in ("isl", "osl"))
    if math.isfinite(longest):
        for text in (beyond_context(spec, longest) for spec, _ in grid.models):
            if text:
                warnings.warn(text, SpecWarning, stacklevel=3)


def check_dtypes(hardware: HardwareSpec, precision: PrecisionSpec, model: str = "") -> None:
    """Check that `hardware` has a matrix rate for every type `precision` computes in.

    Args:
        hardware: The accelerator.
        precision: The recipe.
        model: Name of the model, for the error, where the recipe is that of its own file.

    Raises:
        SpecError: It lacks one; the message names both and lists its rates.
    """
    for dtype in precision.compute_dtypes.values():
        if dtype not in hardware.peaks:
            own, advice = "", "drop one of them, or add the figure with its source"
            if precision.name == CHECKPOINT.name and precision != CHECKPOINT:
                own = f" ({precision.note}) of {model!r}" if model else f" ({precision.note})"
                advice = "drop it, choose another recipe with --precision, or add the figure"
            raise SpecError(
                f"precision {precision.name!r}{own} computes in {dtype}, for which "
                f"{hardware.name!r} lists no peak_flops_per_s; it lists "
                f"{', '.join(hardware.peak_flops_per_s)}: {advice}"
            )


def merged(lists: Sequence[Sequence[str]]) -> list[str]:
    """Merge ordered lists of names into one that keeps the order of each where it can."""
    found: list[str] = []
    for names in lists:
        index = 0
        for name in names:
            if name in found:
                index = found.index(name) + 1
            else:
                found.insert(index, name)
                index += 1
    return found
