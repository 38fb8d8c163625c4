"""Specification of a precision recipe: the format of weights, activations and KV cache."""

from pydantic import Field, model_validator

from sweep.schema.terms import PARTS, Part
from sweep.specs.dtypes import COMPUTED_AS, DTYPE_BYTES, PEAK_DTYPES, StoredDtype
from sweep.specs.parsing import Name, Positive, Spec


class LinearSpec(Spec):
    """Storage types of some linear layers, which set the rate they compute at.

    A matrix product runs at the rate of the wider of its two operand types, so that 4-bit
    weights with 16-bit activations gain memory but no rate.

    Attributes:
        weight_dtype: Weights.
        activation_dtype: Inputs.
        weight_group_size: Weights of one row that share a scale. [count]
        weight_scale_bytes: Storage of one such scale. [byte]
        stored_weight_bytes: Storage of one weight on average, if it does not follow from the
            above: with the scales of a checkpoint, and with layers that it leaves alone. [byte]
    """

    weight_dtype: StoredDtype
    activation_dtype: StoredDtype
    weight_group_size: int | None = Field(default=None, gt=0)
    weight_scale_bytes: Positive | None = None
    stored_weight_bytes: Positive | None = None

    @model_validator(mode="after")
    def _check_scale(self) -> "LinearSpec":
        if (self.weight_group_size is None) != (self.weight_scale_bytes is None):
            raise ValueError("weight_group_size and weight_scale_bytes must be given together")
        return self

    @property
    def weight_bytes(self) -> float:
        """Storage of one weight, its share of a scale included. [byte]"""
        if self.stored_weight_bytes is not None:
            return self.stored_weight_bytes
        scale = (self.weight_scale_bytes or 0.0) / (self.weight_group_size or 1)
        return DTYPE_BYTES[self.weight_dtype] + scale

    @property
    def compute_dtype(self) -> str:
        """Type its products run in."""
        weight, activation = self.weight_dtype, self.activation_dtype
        wider = weight if DTYPE_BYTES[weight] > DTYPE_BYTES[activation] else activation
        return COMPUTED_AS.get(wider, wider)


class PrecisionSpec(LinearSpec):
    """Precision recipe: the storage type of each kind of number.

    The fields of `LinearSpec` apply to all linear layers except the head; `attention` and
    `experts` replace them for those parts, as published mixed checkpoints do, and so does `head`.

    Attributes:
        name: Slug used on the `precision` axis.
        attention: The projections around attention, if they differ.
        experts: Routed experts, if they differ.
        head: The head, if `head_dtype` does not describe it.
        hidden_dtype: Residual stream, outputs of linear layers, embeddings and norms.
        kv_dtype: KV cache.
        head_dtype: Weights of the head.
        note: Name of the published scheme.
    """

    name: Name
    attention: LinearSpec | None = None
    experts: LinearSpec | None = None
    head: LinearSpec | None = None
    hidden_dtype: StoredDtype
    kv_dtype: StoredDtype
    head_dtype: StoredDtype
    note: str = ""

    @model_validator(mode="after")
    def _check_types(self) -> "PrecisionSpec":
        for part, dtype in self.compute_dtypes.items():
            if dtype not in PEAK_DTYPES:
                raise ValueError(f"no matrix unit computes in {dtype}, the {part} layers' type")
        return self

    def part(self, name: Part) -> LinearSpec:
        """Storage types of the linear layers of one part."""
        if name == "head" and self.head is None:
            return LinearSpec(weight_dtype=self.head_dtype, activation_dtype=self.hidden_dtype)
        parts: dict[str, LinearSpec | None] = {
            "attention": self.attention,
            "experts": self.experts,
            "head": self.head,
        }
        return parts.get(name) or self

    @property
    def compute_dtypes(self) -> dict[str, str]:
        """Type that each part computes in, and attention over the cache (`hidden`)."""
        return {
            **{part: self.part(part).compute_dtype for part in PARTS},
            "hidden": COMPUTED_AS.get(self.hidden_dtype, self.hidden_dtype),
        }


CHECKPOINT = PrecisionSpec(
    name="checkpoint",
    weight_dtype="half",
    activation_dtype="half",
    hidden_dtype="half",
    kv_dtype="half",
    head_dtype="half",
    note="16 bits, not quantised",
)
"""Recipe of a model's own file: this one, unless its config describes a quantisation. On the
`precision` axis it stands for the recipe of each model."""
