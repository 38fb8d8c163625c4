"""Names that published models give to the matrices of each operator."""

from sweep.kernel.operator_table import OPERATORS
from sweep.schema.terms import PARTS

GATE_AND_UP = ("up_proj", "up_proj")
"""Both matrices of a gated feed-forward; engines fuse them, so one name decides for both."""
_OUTPUT = (("self_attn.o_proj",),)
_QKV = (("self_attn.q_proj",), ("self_attn.k_proj", "self_attn.v_proj"))

MODULES: dict[str, tuple[tuple[str, ...], ...]] = {
    "qkv_projection": _QKV,
    "uneven_qkv_projection": _QKV,
    "attention_gate_projection": (("self_attn.gate_proj",),),
    "output_projection": _OUTPUT,
    "uneven_output_projection": _OUTPUT,
    "query_projection": (("self_attn.q_proj",),),
    "query_down_projection": (("self_attn.q_a_proj",),),
    "query_up_projection": (("self_attn.q_b_proj",),),
    "latent_projection": (("self_attn.kv_a_proj_with_mqa",),),
    "latent_up_projection": (("self_attn.kv_b_proj",),),
    "latent_output_projection": _OUTPUT,
    "up_projection": (("mlp.up_proj",),),
    "gate_up_projection": (tuple(f"mlp.{name}" for name in GATE_AND_UP),),
    "down_projection": (("mlp.down_proj",),),
    "shared_gate_up_projection": (tuple(f"mlp.shared_experts.{name}" for name in GATE_AND_UP),),
    "shared_down_projection": (("mlp.shared_experts.down_proj",),),
    "expert_gate_up_projection": (tuple(f"mlp.experts.0.{name}" for name in GATE_AND_UP),),
    "expert_down_projection": (("mlp.experts.0.down_proj",),),
    "lm_head": (("lm_head",),),
}
"""For each quantisable weight of an operator the matrices that it joins, all equally wide, in the
spelling of `quantisation.canonical`. All experts are stored alike, so the first stands for all."""
CONTAINERS = {"attention": "self_attn", "ffn": "mlp", "experts": "mlp.experts.0", "head": "lm_head"}
"""Module that contains the layers of a part."""


def modules_of(operator: str, weight: int) -> tuple[str, ...]:
    """Names of the matrices joined in a quantisable weight of an operator.

    An operator that `MODULES` lacks is named after itself, inside the module of its part.
    """
    known = MODULES.get(operator)
    if known is not None and weight < len(known):
        return known[weight]
    role = OPERATORS[operator].role
    return (f"{CONTAINERS[role]}.{operator}" if role in PARTS else operator,)
