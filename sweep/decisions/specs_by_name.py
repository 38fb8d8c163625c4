"""Specifications behind the names in a result, as far as a catalog has them."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from sweep.errors import SpecError
from sweep.models.checkpoint import checkpoint
from sweep.schema.axes import LABELLED
from sweep.specs.catalog import Catalog
from sweep.specs.folders import Kind
from sweep.specs.hardware import HardwareSpec
from sweep.specs.labels import labels_meant
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT, PrecisionSpec

T = TypeVar("T")


@dataclass(frozen=True)
class SpecsByName:
    """Specifications by name; a name that the catalog lacks is absent.

    Attributes:
        models: Models.
        hardware: Accelerators.
        precision: Precision recipes.
    """

    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    hardware: Mapping[str, HardwareSpec] = field(default_factory=dict)
    precision: Mapping[str, PrecisionSpec] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Mapping[str, Iterable[Any]], catalog: Catalog) -> "SpecsByName":
        """Look up the names along the axes `model`, `hardware` and `precision`.

        Args:
            names: By axis; a result may have been computed from another catalog, and a label that
                is a path is not opened.
            catalog: Where to look names up.
        """

        def found(kind: Kind, axis: str, find: Callable[[str], T]) -> dict[str, T]:
            known = {}
            for label in names.get(axis, ()):
                with suppress(SpecError):
                    known[label] = find(catalog.name_in(kind, str(label)))
            return known

        return cls(
            found("models", "model", catalog.model),
            found("hardware", "hardware", catalog.hardware),
            found("precisions", "precision", catalog.precision),
        )

    def recipe(self, model: str, name: str) -> PrecisionSpec | None:
        """The recipe that a name stands for with a model; `None` if either is absent."""
        if name != CHECKPOINT.name:
            return self.precision.get(name)
        return checkpoint(self.models[model]).recipe if model in self.models else None

    @property
    def by_axis(self) -> dict[str, Mapping[str, Any]]:
        """The specifications by axis and name."""
        return {"model": self.models, "hardware": self.hardware, "precision": self.precision}


def model_in(present: Iterable[str], name: str, catalog: Catalog) -> str:
    """The name under which a result has a model, else the name as given.

    Args:
        present: Names along its `model` axis.
        name: Name, published identifier, or path of a config.
        catalog: Where to look the name up.
    """
    known = list(present)
    if name in known:
        return name
    with suppress(SpecError):
        found = catalog.model(name).name
        return found if found in known else name
    return name


def value_in(dataset: xr.Dataset, axis: str, value: Any) -> Any:
    """A value of an axis, a label by the name that a result has for it; else the value as given.

    Args:
        dataset: A result.
        axis: The axis.
        value: A number, or a label that may be short: `H20` is `h20-96gb` where the result has no
            other.
    """
    if axis not in LABELLED or axis not in dataset.coords:
        return value
    known = np.atleast_1d(dataset[axis].values).tolist()
    found = labels_meant(axis, str(value), known)
    return found[0] if len(found) == 1 else value
