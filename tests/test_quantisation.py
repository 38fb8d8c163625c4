"""Quantised checkpoints: bytes worked out by hand and published, recipes, refusals in one line.

The tiny Llama of `factories` has in each of 3 layers matrices of 64 x 64 (queries, output), 16 x 64
(keys, values), 160 x 64 (gate, up) and 64 x 160 (down): 7 matrices, 40,960 weights, 544 rows and
544 columns. Embedding, head and norms have 2 x 32,768 + 448 weights.
"""

import re
from typing import Any

import jax
import pytest
from factories import config, hardware, model, shipped_model

from sweep.errors import SpecError, SpecWarning
from sweep.evaluation.single_cell import cell
from sweep.grid.grid import Grid
from sweep.kernel.memory import weight_memory
from sweep.kernel.operator_table import OPERATORS, tensors
from sweep.models.checkpoint import Checkpoint, checkpoint, is_quantised
from sweep.models.module_names import MODULES
from sweep.models.read import read_model
from sweep.runs.run import run
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT
from sweep.specs.quantisation import Patterns
from sweep.specs.quantisation_methods import METHODS, read_quantisation

LINEAR = 3 * 40_960
"""Weights of the layers of the tiny Llama. [count]"""
MATRICES = 3 * 7
ROWS = COLUMNS = 3 * 544
REST = 2 * (2 * 32_768 + 448)
"""Bytes of its embedding, head and norms in 16 bits. [byte]"""
INT4 = {"type": "int", "num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": True}
NVFP4 = {"type": "float", "num_bits": 4, "group_size": 16, "dynamic": False}


def quantised(family: str = "llama", /, **keys: Any) -> ModelSpec:
    return model(family, quantization_config=keys)


def of(spec: ModelSpec) -> Checkpoint:
    return checkpoint(spec)


def groups(weights: dict[str, Any], inputs: dict[str, Any] | None = None, **keys: Any) -> Any:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    stated = {"quant_method": "compressed-tensors", "ignore": ["lm_head"]}
    return {**stated, "config_groups": {"group_0": group}, **keys}


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
EIGHT = {"type": "float", "num_bits": 8, "dynamic": True, "strategy": "token"}
INT8_ROWS = {"type": "int", "num_bits": 8, "strategy": "channel", "symmetric": True}
METHOD_CASES: list[tuple[str, dict[str, Any], float, tuple[str, str]]] = [
    # A 16-bit scale and a 4-bit zero point for 32 weights.
    ("awq", AWQ, LINEAR / 2 + LINEAR / 32 * 2.5, ("int4", "half")),
    ("awq of old", {"quant_method": "awq", "w_bit": 4, "q_group_size": 32, "zero_point": False},
     LINEAR / 2 + LINEAR / 32 * 2, ("int4", "half")),
    # The same and the group of each column in 32 bits.
    ("gptq", GPTQ, LINEAR / 2 + LINEAR / 32 * 2.5 + 4 * COLUMNS, ("int4", "half")),
    ("gptq by row", GPTQ | {"group_size": -1}, LINEAR / 2 + ROWS * 2.5 + 4 * COLUMNS,
     ("int4", "half")),
    ("gptq of 8 bits", GPTQ | {"bits": 8}, LINEAR + LINEAR / 32 * 3 + 4 * COLUMNS,
     ("int8", "half")),
    ("gptq of 3 bits", GPTQ | {"bits": 3}, LINEAR * 3 / 8 + LINEAR / 32 * 2.375 + 4 * COLUMNS,
     ("int4", "half")),
    ("fp8", {"quant_method": "fp8"}, LINEAR + 4 * MATRICES, ("fp8", "fp8")),
    ("fp8 static", {"quant_method": "fp8", "activation_scheme": "static"},
     LINEAR + 8 * MATRICES, ("fp8", "fp8")),
    # Blocks of 32 x 32: 4 of queries, 2 of keys, 2 of values, 4 of outputs, 3 times 10.
    ("fp8 blocks", {"quant_method": "fp8", "weight_block_size": [32, 32]},
     LINEAR + 4 * 3 * 42, ("fp8", "fp8")),
    ("fbgemm", {"quant_method": "fbgemm_fp8"}, LINEAR + 4 * ROWS, ("fp8", "fp8")),
    # 16 bytes for the shape of each packed matrix.
    ("packed", groups(INT4, format="pack-quantized"),
     LINEAR / 2 + LINEAR / 32 * 2 + 16 * MATRICES, ("int4", "half")),
    ("asymmetric", groups(INT4 | {"symmetric": False}), LINEAR / 2 + LINEAR / 32 * 2.5,
     ("int4", "half")),
    ("4-bit weights, 8-bit inputs", groups(INT4, EIGHT), LINEAR / 2 + LINEAR / 32 * 2,
     ("int4", "fp8")),
    ("int8", groups(INT8_ROWS, {"type": "int", "num_bits": 8, "dynamic": True}),
     LINEAR + 2 * ROWS, ("int8", "int8")),
    ("fp8 by row", groups({"type": "float", "num_bits": 8, "strategy": "channel"}, EIGHT),
     LINEAR + 2 * ROWS, ("fp8", "fp8")),
    ("mxfp4", groups({"type": "float", "num_bits": 4, "strategy": "group", "group_size": 32}),
     LINEAR * (1 / 2 + 1 / 32), ("mxfp4", "half")),
    # An 8-bit scale for 16 weights, 32-bit scales of each matrix and of its inputs.
    ("nvfp4", groups(NVFP4, NVFP4), LINEAR * (1 / 2 + 1 / 16) + 8 * MATRICES, ("nvfp4", "nvfp4")),
    ("modelopt", {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
     LINEAR * (1 / 2 + 1 / 16) + 8 * MATRICES, ("nvfp4", "nvfp4")),
    ("modelopt without inputs",
     {"quant_algo": "W4A16_NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]},
     LINEAR * (1 / 2 + 1 / 16) + 4 * MATRICES, ("nvfp4", "half")),
    ("modelopt fp8", {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
     LINEAR + 8 * MATRICES, ("fp8", "fp8")),
    # A 32-bit scale for 64 weights; then 8 bits, and 32 for 256 of these.
    ("nf4", {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
     LINEAR / 2 + LINEAR / 64 * 4, ("int4", "half")),
    ("nf4 double", {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
     LINEAR / 2 + LINEAR / 64 * (1 + 4 / 256), ("int4", "half")),
    ("bitsandbytes int8", {"quant_method": "bitsandbytes", "load_in_8bit": True},
     LINEAR + 4 * ROWS, ("int8", "int8")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "linear", "types"),
    [case[1:] for case in METHOD_CASES],
    ids=[case[0] for case in METHOD_CASES],
)
def test_bytes_and_types_of_each_method(keys, linear: float, types) -> None:
    found = of(quantised(**keys))
    assert found.weight_bytes == REST + linear
    assert (found.recipe.weight_dtype, found.recipe.activation_dtype) == types
    assert found.recipe.part("head").weight_dtype == found.recipe.hidden_dtype == "half"
    assert not found.notes


def test_module_names_are_of_operators() -> None:
    assert set(MODULES) <= set(OPERATORS)


def test_every_method_is_tested() -> None:
    tested = {str(keys.get("quant_method")) for _, keys, *_ in METHOD_CASES}
    assert set(METHODS) - tested == {"modelopt_fp4", "modelopt_mixed", "mxfp4"}


@pytest.mark.parametrize(
    "spec",
    [quantised(**AWQ), quantised("gpt_oss", quant_method="mxfp4"), shipped_model("deepseek-v3")],
    ids=lambda spec: spec.name,
)
def test_the_kernel_counts_the_bytes_of_the_checkpoint(spec: ModelSpec) -> None:
    found = of(spec)
    with jax.enable_x64(True):
        point = cell(read_model(spec), hardware(), found.recipe, {"tp": 1, "batch_size": 1})
        assert float(weight_memory(point)) == pytest.approx(found.weight_bytes, rel=1e-14)


# Published sizes.


@pytest.mark.parametrize(
    ("name", "experts", "others"),
    [
        # Experts 36 x 128 x 3 x 2880 x 2880 at 4.25 bits; the rest, biases too, in 16.
        ("gpt-oss-120b", 114_661_785_600, 2_167_371_072),
        ("gpt-oss-20b", 24 * 32 * 3 * 2880 * 2880, 20_914_757_184 - 19_110_297_600),
    ],
)
def test_gpt_oss_has_its_published_size(name: str, experts: int, others: int) -> None:
    spec = shipped_model(name)
    keys = {**spec.config, "quantization_config": {"quant_method": "mxfp4"}}
    found = of(spec.model_copy(update={"config": keys}))
    assert found.weight_bytes == experts * 17 / 32 + 2 * others
    if name == "gpt-oss-120b":
        # Sum of the tensors on its page at Hugging Face.
        assert found.weight_bytes == 65_248_815_744
    assert found.recipe.part("experts").weight_dtype == "mxfp4"
    assert found.recipe.part("attention").weight_dtype == "half"


def test_deepseek_v4_states_the_type_of_its_experts_apart() -> None:
    # 61 layers of 384 experts with three matrices of 3072 by 7168, in 4 bits with a byte for 32.
    spec = shipped_model("deepseek-v4-pro")
    section = {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}
    sizes = {
        dtype: of(
            spec.model_copy(
                update={
                    "config": {**spec.config, "quantization_config": section, "expert_dtype": dtype}
                }
            )
        )
        for dtype in ("fp8", "fp4")
    }
    experts = 61 * 384 * 3 * 3072 * 7168
    others = sizes["fp8"].weight_bytes - experts * (1 + 4 / 128**2)
    assert sizes["fp4"].recipe.part("experts").weight_dtype == "mxfp4"
    # Scales of the other blocks shrink from four bytes to one.
    assert sizes["fp4"].weight_bytes == pytest.approx(experts * 17 / 32 + others, rel=1e-4)
    assert sizes["fp4"].weight_bytes < experts * 17 / 32 + others
    with pytest.raises(SpecError, match="expert_dtype: must be 'fp4' or 'fp8', not 'int3'"):
        wrong = {**spec.config, "quantization_config": section, "expert_dtype": "int3"}
        of(spec.model_copy(update={"config": wrong}))


def test_qwen_3_6_and_nemotron_name_the_matrices_of_their_mixers() -> None:
    listed = {
        "qwen3.6-27b": ["linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.out_proj"],
        "nemotron-3-nano-30b-a3b": ["mixer.in_proj", "mixer.out_proj"],
        "lfm2.5-1.2b": ["conv.in_proj", "conv.out_proj"],
    }
    for name, modules in listed.items():
        spec = shipped_model(name)
        section = {
            "quant_method": "compressed-tensors",
            "config_groups": {
                "group_0": {
                    "targets": [f"re:.*{re.escape(module)}$" for module in modules],
                    "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"},
                }
            },
        }
        config = {**spec.config, "quantization_config": section}
        found = of(spec.model_copy(update={"config": config}))
        blocks = read_model(spec)
        mixers = sum(
            int(block.count) * tensor.elements
            for block in blocks
            if block.state is not None
            for operator in block.operators
            if operator.endswith("_projection") and operator not in ("gate_projection",)
            for tensor in OPERATORS[operator].weights(block)[:1]
            if tensor.role == "attention"
        )
        everything = sum(int(b.count) * t.elements for b, t in tensors(blocks))
        assert found.weight_bytes == pytest.approx(2 * everything - mixers, rel=1e-4), name


def test_deepseek_v3_has_its_published_tensors() -> None:
    # Published: 680,571,043,840 elements in FP8 and 41,555,600 in FP32, with the layer that
    # predicts further tokens, and with 59 x 256 biases of routers. Its layer's matrices in FP8:
    attention = 7168 * (1536 + 576 + 16_384) + 1536 * 128 * 192 + 512 * 128 * 256
    experts = 257 * 3 * 7168 * 2048
    narrow = 680_571_043_840 - attention - experts
    # The latent projection has 576 rows, 4.5 blocks of 128: 28 more scales than an even share.
    scales = 41_555_600 - 59 * 256 - (attention + experts) // 128**2 - 28
    found = of(shipped_model("deepseek-v3"))
    assert found.weight_bytes == narrow + 4 * scales + 2 * (671_026_419_200 - narrow)
    assert found.recipe.note == "fp8 blocks of 128 x 128"
    assert found.recipe.weight_group_size == 128


def kimi(**quantization: Any) -> ModelSpec:
    """Kimi K2.5 with the quantisation of one of its published files."""
    spec = shipped_model("kimi-k2.5")
    return spec.model_copy(update={"config": {**spec.config, "quantization_config": quantization}})


def test_kimi_in_int4_has_experts_alone_quantised() -> None:
    ignored = [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
    ]
    found = of(kimi(**groups(INT4, format="pack-quantized", ignore=ignored)))
    experts, total = 60 * 384 * 3 * 7168 * 2048, 1_026_408_232_448
    packed = experts * (1 / 2 + 2 / 32) + 16 * 60 * 384 * 3
    assert found.weight_bytes == packed + 2 * (total - experts)
    assert found.recipe.note == (
        "compressed-tensors int4, group 32; attention and feed-forward in 16 bits"
    )


def test_kimi_in_nvfp4_takes_its_published_memory() -> None:
    # Published: about 152 GiB on each of 4 GPUs, with the vision tower (0.47 billion parameters).
    layers = [f"language_model.model.layers.{layer}.self_attn*" for layer in range(61)]
    spec = kimi(
        quant_method="modelopt",
        quant_algo="NVFP4",
        ignore=["language_model.lm_head", *layers, "vision_tower*", "mm_projector*"],
        kv_cache_scheme={"dynamic": False, "num_bits": 8, "type": "float"},
    )
    found = of(spec)
    assert found.recipe.kv_dtype == "fp8"
    assert found.recipe.note.startswith("modelopt nvfp4; attention in 16 bits")
    with jax.enable_x64(True):
        spread = {"tp": 1, "dp_attention": 4, "ep": 4, "batch_size": 1}
        point = cell(read_model(spec), hardware(), found.recipe, spread)
        tower = 2 * 470_764_848
        assert (float(weight_memory(point)) + tower) / 2**30 == pytest.approx(152, rel=0.005)


# Modules that are left alone.


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["re:.*self_attn.*"], 3 * 10_240),
        (["self_attn"], 3 * 10_240),
        (["*.attn.*"], 3 * 10_240),
        (["model.layers.0.*"], 40_960),
        (["model.layers.0*", "model.layers.2.mlp"], 40_960 + 30_720),
        (["model.layers.1.self_attn.q_proj"], 4_096),
        (["model.layers.1.self_attn.qkv_proj"], 4_096 + 2 * 1_024),
        (["language_model.model.layers.1.mlp.down_proj"], 10_240),
        # The router of experts, which this model lacks; both of gate and up would be needed.
        (["*mlp.gate*", "gate", "model.layers.0.mlp.gate"], 0),
        (["vision_tower.layers.0.self_attn.q_proj", "visual", "mtp.layers.0*"], 0),
        ([r"re:.*layers\.2\.mlp\.(gate|up|gate_up|down)_proj.*"], 30_720),
        (["*"], LINEAR),
    ],
)
def test_modules_that_are_left_alone(names: list[str], kept: int) -> None:
    keys = groups({"type": "float", "num_bits": 8}, EIGHT, ignore=["lm_head", *names])
    found = of(quantised(**keys))
    # One 16-bit scale for each matrix that is quantised.
    scales = found.weight_bytes - REST - (LINEAR - kept) - 2 * kept
    assert scales % 2 == 0
    assert 0 <= scales <= 2 * MATRICES
    whole_parts = kept in (0, LINEAR) or ("attn" in names[0] and kept == 3 * 10_240)
    assert bool(found.notes) != whole_parts


def test_what_a_recipe_averages_is_said_with_its_share() -> None:
    found = of(quantised(**AWQ, modules_to_not_convert=["model.layers.0"]))
    assert [note.partition(":")[0] for note in found.notes] == ["attention", "feed-forward"]
    assert "33 % of the weights are not stored as int4, group 32" in found.notes[0]
    spec = quantised(**AWQ, modules_to_not_convert=["model.layers.0"])
    with pytest.warns(SpecWarning, match="the total of bytes is exact"):
        run(Grid(models=[spec], hardware=[hardware()], variables=["weight_memory"]))


def test_a_mixture_of_experts_by_its_parts() -> None:
    # Two layers of 8 experts of 3 x 64 x 32 and one shared; the first layer is dense.
    experts = 2 * 8 * 3 * 64 * 32
    ignored = ["lm_head", "*self_attn*", "*shared_experts*", "model.layers.0.mlp*"]
    keys = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ignored}
    spec = quantised("deepseek_v3", **keys)
    found, plain = of(spec), of(model("deepseek_v3"))
    saved = 2 * experts - experts * 9 / 16 - 8 * 2 * 8 * 3
    assert found.weight_bytes == plain.weight_bytes - saved
    types = {part: found.recipe.part(part).weight_dtype for part in ("attention", "ffn")}
    assert types == {"attention": "half", "ffn": "half"}
    assert found.recipe.part("experts").weight_dtype == "nvfp4"


def test_layers_that_take_turns() -> None:
    # Layers 0 and 2 are dense, 1 and 3 have experts; a file lists the dense ones as they are.
    dense = [
        f"language_model.model.layers.{layer}.feed_forward.{name}_proj"
        for layer in (0, 2)
        for name in ("gate", "up", "down")
    ]
    shared = ["re:.*shared_expert.*", "re:.*self_attn.*", "lm_head"]
    keys = groups({"type": "float", "num_bits": 8}, EIGHT, ignore=[*dense, *shared])
    found = of(quantised("llama4_text", **keys))
    assert found.recipe.part("ffn").weight_dtype == "half"
    assert found.recipe.part("experts").weight_dtype == "fp8"
    assert not found.notes


def test_schemes_for_modules_that_the_model_lacks_are_refused_or_noted() -> None:
    with pytest.raises(SpecError, match="is for modules that this model does not have"):
        of(quantised(quant_method="mxfp4"))
    layers = {
        f"model.layers.0.{name}": {"quant_algo": "FP8"} for name in ("mlp", "odd.in_proj", "mlp.w1")
    }
    found = of(quantised(quant_algo="MIXED_PRECISION", quantized_layers=layers))
    assert found.notes[-1] == (
        "listed modules that are not known are passed over: layers.0.odd.in_proj"
    )


def test_modules_listed_one_by_one() -> None:
    layers = {
        f"model.language_model.layers.{layer}.{module}": {"quant_algo": algorithm}
        for layer in range(3)
        for module, algorithm in (("mlp", "W4A16_NVFP4"), ("self_attn.o_proj", "FP8"))
    }
    keys = {"quant_algo": "MIXED_PRECISION", "quant_method": "modelopt", "quantized_layers": layers}
    found = of(quantised(**keys))
    ffn, output = 3 * 30_720, 3 * 4_096
    narrow = ffn * 9 / 16 + 4 * 9 + output + 8 * 3
    assert found.weight_bytes == REST + narrow + 2 * (LINEAR - ffn - output)


def test_gptq_rules_for_some_modules() -> None:
    dynamic = {r"-:.*self_attn.*": {}, r"+:.*layers\.0\..*": {"bits": 8}}
    found = of(quantised(**GPTQ, dynamic=dynamic))
    eight, four = 30_720, 2 * 30_720
    stored = eight * (1 + 3 / 32) + four * (1 / 2 + 2.5 / 32) + 4 * 3 * (64 + 64 + 160)
    assert found.weight_bytes == REST + stored + 2 * 3 * 10_240
    inside = of(quantised(**GPTQ, modules_in_block_to_quantize=[["mlp.up_proj", "mlp.down_proj"]]))
    assert inside.recipe.part("attention").weight_dtype == "half"


def test_a_quantised_head() -> None:
    found = of(quantised(**GPTQ, lm_head=True))
    head = 32_768 * (1 / 2 + 2.5 / 32) + 4 * 64
    assert found.recipe.part("head").weight_dtype == "int4"
    assert found.weight_bytes == of(quantised(**GPTQ)).weight_bytes - 2 * 32_768 + head


@pytest.mark.parametrize(
    ("keys", "kv"),
    [
        ({"kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"kv_cache_quant_algo": "NVFP4"}, "nvfp4"),
        ({"kv_cache_quant_algo": None}, "half"),
        ({"kv_cache_scheme": "FP8"}, "fp8"),
        ({"kv_cache_scheme": {"num_bits": 8, "type": "int"}}, "int8"),
    ],
)
def test_types_of_the_kv_cache(keys, kv: str) -> None:
    assert of(quantised(quant_algo="FP8", **keys)).recipe.kv_dtype == kv


def test_groups_that_tensor_parallelism_would_split() -> None:
    # Blocks of 32 divide 64 columns of a half of the heads, not 160 / 2 columns.
    keys = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    grid = Grid(
        models=[quantised(**keys)],
        hardware=[hardware()],
        tp=[1, 2],
        batch_size=[1],
        isl=[10],
        osl=[10],
        variables=["infeasible_reason"],
    )
    reasons = run(grid)["infeasible_reason"].values.ravel()
    assert [int(reason) & 8 for reason in reasons] == [0, 8]


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("lm_head", "lm_head", True),
        ("layers.1", "layers.1.mlp.up_proj", True),
        ("layers.1", "layers.11.mlp.up_proj", False),
        ("model.layers.1*", "layers.11.mlp.up_proj", True),
        ("re:.*block_sparse_moe.*", "layers.0.mlp.experts.0.up_proj", True),
        ("re:.*\\.w3", "layers.0.mlp.experts.0.up_proj", True),
        ("re:.*shared_expert\\..*", "layers.0.mlp.shared_experts.up_proj", True),
        ("re:layers.*", "layers.0.mlp.up_proj", True),
        ("re:vision.*", "layers.0.mlp.up_proj", False),
        (r"re:(?!.*mlp\.experts).*", "layers.0.mlp.experts.0.up_proj", False),
        ("re:(?!.*experts).*", "layers.0.mlp.up_proj", True),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    assert Patterns([pattern]).match(name) is matches


# Refusals.


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("awq", "quantization_config: must be a mapping"),
        ({"bits": 4, "group_size": 128}, "quant_method: missing; known: awq"),
        ({"quant_method": "quip"}, "quant_method: 'quip' is not supported; known: awq"),
        ({"quant_method": 4}, "quant_method: '4' is not supported"),
        ({"quant_method": "awq", "bits": 0, "group_size": 128}, "bits: must be one of 4, 8"),
        ({"quant_method": "awq", "bits": "4", "group_size": 128}, "bits: must be one of 4, 8"),
        ({"quant_method": "awq", "bits": True, "group_size": 128}, "bits: must be one of 4, 8"),
        ({"quant_method": "awq", "group_size": 128}, "bits: must be one of 4, 8, missing"),
        ({"quant_method": "awq", "bits": 4}, "group_size: must be a number of weights, or -1"),
        (AWQ | {"group_size": -128}, "group_size: must be a number of weights, or -1 for a row"),
        (AWQ | {"group_size": 0}, "group_size"),
        (AWQ | {"group_size": 1.5}, "group_size"),
        (AWQ | {"zero_point": "yes"}, "zero_point: must be true or false"),
        (AWQ | {"modules_to_not_convert": "lm_head"}, "modules_to_not_convert: must be a list"),
        (AWQ | {"modules_to_not_convert": ["re:("]}, "is no regular expression"),
        (GPTQ | {"dynamic": ["a"]}, "dynamic: must be a mapping"),
        (GPTQ | {"dynamic": {"+:a": {"bits": 5}}}, "dynamic: +:a: bits: must be one of"),
        ({"quant_method": "fp8", "weight_block_size": 128}, "weight_block_size: must be two"),
        ({"quant_method": "fp8", "weight_block_size": [128, 0]}, "weight_block_size: must be two"),
        ({"quant_method": "fp8", "activation_scheme": "odd"}, "activation_scheme: must be one of"),
        ({"quant_method": "compressed-tensors"}, "config_groups: missing"),
        (groups(INT4, config_groups={"a": 3}), "config_groups: a: must be a mapping"),
        (groups(INT4 | {"num_bits": 5}), "weights: num_bits: must be one of 2, 3, 4, 8"),
        (groups(INT4 | {"group_size": None}), "group_size: missing, and strategy says group"),
        (groups(INT4 | {"strategy": "odd"}), "strategy: must be one of tensor, channel"),
        (groups(NVFP4 | {"group_size": 64}), "of 4-bit floats must be 16 or 32, not 64"),
        (groups(INT4, sparsity_config={"format": "sparse-24-bitmask"}), "sparse weights"),
        (groups(INT4, {"num_bits": 4, "type": "int"}), "4-bit integers are not supported"),
        ({"quant_method": "modelopt", "quant_algo": "FP3"}, "quant_algo: must be one of FP8"),
        ({"quant_method": "modelopt", "quant_algo": ["FP8"]}, "quant_algo: must be one of FP8"),
        ({"quant_algo": "MIXED_PRECISION"}, "quantized_layers: missing"),
        ({"quant_algo": "FP8", "kv_cache_quant_algo": "FP3"}, "kv_cache_quant_algo: must be one"),
        ({"quant_algo": "FP8", "kv_cache_scheme": {"num_bits": [8]}}, "no known type"),
        ({"quant_method": "bitsandbytes"}, "load_in_4bit: or load_in_8bit must be true"),
    ],
)
def test_malformed_quantisations_are_refused_in_one_line(keys, words: str) -> None:
    spec = model(quantization_config=keys)
    with pytest.raises(SpecError) as error:
        checkpoint(spec)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    if "regular expression" not in words:
        assert str(error.value).endswith("--precision instead")


def test_experts_that_differ_are_refused() -> None:
    names = [f"model.layers.{layer}.mlp.experts.3.up_proj" for layer in range(3)]
    spec = quantised("qwen3_moe", **groups(INT4, ignore=["lm_head", *names]))
    with pytest.raises(SpecError, match="names 1 of 8 experts"):
        checkpoint(spec)


def test_a_config_that_is_not_quantised_is_stored_in_16_bits() -> None:
    for empty in (None, {}):
        spec = model(quantization_config=empty)
        assert not is_quantised(spec)
        assert of(spec).weight_bytes == REST + 2 * LINEAR
        assert of(spec).recipe == CHECKPOINT


def test_former_and_nested_keys() -> None:
    assert is_quantised(model(compression_config=groups(INT4)))
    nested = {"text_config": {**config("gemma3_text"), "quantization_config": AWQ}}
    spec = ModelSpec(name="nested", config={"model_type": "gemma3", **nested})
    assert of(spec).recipe.weight_dtype == "int4"


def test_no_key_of_a_method_is_needed_to_read_the_others() -> None:
    assert read_quantisation({"quant_method": "MXFP4"}, "").method == "mxfp4"


def test_a_pattern_that_may_take_for_ever_is_refused() -> None:
    with pytest.raises(SpecError, match="repeats a repeated group"):
        Patterns(["re:(.*)*(.*)*(.*)*z"], "some/config.json")
