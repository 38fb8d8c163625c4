"""Names that published models give to the matrices of each operator."""

from collections.abc import Sequence

from sweep.kernel.operator_table import OPERATORS
from sweep.schema.terms import PARTS

GATE_AND_UP = ("up_proj", "up_proj")
"""Both matrices of a gated feed-forward; engines fuse them, so one name decides for both."""
_OUTPUT = (("self_attn.o_proj",),)
_QKV = (("self_attn.q_proj",), ("self_attn.k_proj", "self_attn.v_proj"))

MODULES: dict[str, tuple[tuple[str, ...], ...]] = {
    "qkv_projection": _QKV,
    "uneven_qkv_projection": _QKV,
    # Some models store the gate in `q_proj`; quantisers store the two alike.
    "attention_gate_projection": (("self_attn.q_proj",),),
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
    "delta_projection": (("linear_attn.in_proj_qkv",), ("linear_attn.in_proj_ba",)),
    "kda_projection": (("self_attn.q_proj",), ("self_attn.b_proj",)),
    "decay_down_projection": (("self_attn.f_a_proj",),),
    "decay_up_projection": (("self_attn.f_b_proj",),),
    "gate_down_projection": (("self_attn.g_a_proj",),),
    "gate_up_from_rank": (("self_attn.g_b_proj",),),
    "gate_projection": (("self_attn.g_proj",),),
    "lightning_projection": (("self_attn.q_proj",),),
    "mamba_projection": (("mixer.in_proj",),),
    "selection_projection": (("mixer.x_proj",),),
    "time_step_projection": (("mixer.dt_proj",),),
    "mamba2_projection": (("mixer.in_proj",),),
    "short_convolution_projection": (("conv.in_proj",),),
    "index_query_projection": (("self_attn.indexer.wq_b",),),
    "index_key_projection": (("self_attn.indexer.k_proj",),),
    "block_index_projection": (
        ("self_attn.index_q_proj",),
        ("self_attn.index_k_proj",),
    ),
    "grouped_output_projection": (("self_attn.wo_a",),),
    "output_up_projection": (("self_attn.wo_b",),),
    "shared_up_projection": (("mlp.shared_experts.up_proj",),),
    "expert_up_projection": (("mlp.experts.0.up_proj",),),
    "latent_expert_gate_up_projection": (tuple(f"mlp.experts.0.{name}" for name in GATE_AND_UP),),
    "latent_expert_down_projection": (("mlp.experts.0.down_proj",),),
    "expert_latent_projection": (("mlp.fc1_latent_proj",),),
    "expert_hidden_projection": (("mlp.fc2_latent_proj",),),
    "lone_query_projection": (("self_attn.q_proj",),),
    "tied_kv_projection": (("self_attn.q_proj",), ("self_attn.k_proj",)),
}
"""For each quantisable weight of an operator the matrices that it joins, all equally wide, in the
spelling of `quantisation.canonical`. All experts are stored alike, so the first stands for all."""
MIXERS = {
    "delta_projection": "linear_attn",
    "mamba_projection": "mixer",
    "mamba2_projection": "mixer",
    "short_convolution_projection": "conv",
}
"""Module that contains the layers with a state that an operator begins; the others' is that of
attention."""
CONTAINERS = {"attention": "self_attn", "ffn": "mlp", "experts": "mlp.experts.0", "head": "lm_head"}
"""Module that contains the layers of a part."""


def modules_of(operator: str, weight: int, beside: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the matrices joined in a quantisable weight of an operator.

    An operator that `MODULES` lacks is named after itself, inside the module of its part.

    Args:
        operator: The operator.
        weight: Which of its quantisable weights.
        beside: Operators of its layer.
    """
    if operator == "state_output_projection":
        mixer = next((MIXERS[each] for each in beside if each in MIXERS), "self_attn")
        return (f"{mixer}.o_proj",)
    known = MODULES.get(operator)
    if known is not None and weight < len(known):
        return known[weight]
    role = OPERATORS[operator].role
    return (f"{CONTAINERS[role]}.{operator}" if role in PARTS else operator,)
