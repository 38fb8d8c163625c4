"""Specification of a model: its published config and what was published of its sizes."""

import math
from typing import Any, Literal

from pydantic import Field

from sweep.specs.parsing import Name, Spec


class StoredTensor(Spec):
    """Tensor that a published total counts in addition to the decoder's own."""

    name: str
    shape: list[int]
    copies: int = 1

    @property
    def elements(self) -> int:
        """Elements of all copies. [count]"""
        return self.copies * math.prod(self.shape)


class Published(Spec):
    """Size of a model as its makers publish it.

    Attributes:
        kind: `exact` for a count to the last parameter, `marketing` for a round figure.
        parameters: Total. [count]
        active_parameters: Used for each token. [count]
        source: Where it was read.
        beyond_decoder: Tensors in the total that are no part of the text decoder.
    """

    kind: Literal["exact", "marketing"]
    parameters: int
    active_parameters: int
    source: str
    beyond_decoder: list[StoredTensor] = Field(default_factory=list)


class Namesake(Spec):
    """Another published model with the same sizes.

    Attributes:
        identifier: Repository or short name it is known by.
        source: Document that states its sizes.
    """

    identifier: Name
    source: str = Field(min_length=1)


class ModelSpec(Spec):
    """A published model config, with a name and where it was read.

    Attributes:
        name: Slug used on the `model` axis.
        hugging_face_id: Repository it is published in.
        also_published_as: Other models with the same sizes, which its config describes too.
        note: What to know before using it.
        sources: Where the config was read.
        published: Parameter counts its makers state.
        mtp: Whether to count the weights of its layers for multi-token prediction. They draft no
            tokens and take no time.
        config: The keys of its `config.json`.
        file: Where it was read from, for messages.
    """

    name: Name
    hugging_face_id: Name | None = None
    also_published_as: list[Namesake] = Field(default_factory=list)
    note: str = ""
    sources: dict[str, str] = Field(default_factory=dict)
    published: Published | None = None
    mtp: bool = False
    config: dict[str, Any]
    file: str = Field(default="", exclude=True)

    @property
    def where(self) -> str:
        """File or name for error messages."""
        return self.file or self.name

    @property
    def family(self) -> str:
        """The config's `model_type`."""
        return str(self.config.get("model_type"))
