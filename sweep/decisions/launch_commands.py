"""Shell scripts that launch a recommended deployment with an engine.

A script puts one option on a line, with the assumption of the prediction behind it, and runs
nothing else. Options are those of the engines' own pages:

- TensorRT-LLM: https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve.html
- vLLM: https://docs.vllm.ai/en/latest/cli/serve/ and, for attention groups and experts,
  https://docs.vllm.ai/en/latest/serving/data_parallel_deployment/
- SGLang: https://docs.sglang.io/advanced_features/server_arguments.html
"""

import json
import math
import shlex
from collections.abc import Callable, Sequence
from typing import Literal

from sweep.decisions.deployments import in_words
from sweep.decisions.launch_benchmark import benchmark_script
from sweep.decisions.launch_script import COLUMN, PLACEHOLDER, Script, one_line, required
from sweep.decisions.launch_settings import LaunchSettings
from sweep.decisions.launch_targets import SGLANG, TRTLLM, VLLM, Target
from sweep.errors import SpecError

Emitted = Literal["trtllm", "vllm", "sglang", "bench"]
SHARE_DIGITS = 3
"""Digits of a share of the memory, rounded down."""


def launch_script(given: LaunchSettings, target: Emitted) -> str:
    """Script that launches one server of a deployment, or benchmarks it.

    Raises:
        SpecError: The engine does not run the accelerator, the precision or the layout.
    """
    writers: dict[str, Callable[[LaunchSettings], Script]] = {
        "trtllm": _trtllm,
        "vllm": vllm_script,
        "sglang": _sglang,
        "bench": benchmark_script,
    }
    return writers[target](given).text()


def _script(given: LaunchSettings, target: Target, command: Sequence[str]) -> Script:
    """The start of a script, after all that the engine may refuse.

    Raises:
        SpecError: It does not run the accelerator or the precision.
    """
    machine, recipe = given.hardware, given.recipe
    if machine.vendor not in target.vendors or machine.architecture in target.without:
        known = ", ".join(target.vendors)
        kind = f"{machine.vendor} {machine.architecture}".strip()
        raise SpecError(
            f"--emit: {target.title} does not run on {machine.name} ({kind}); it runs on "
            f"{known}{_except(target)}: choose another engine or accelerator"
        )
    parts = (recipe, recipe.attention, recipe.experts)
    for dtype in (part.weight_dtype for part in parts if part is not None):
        if dtype not in target.weights:
            raise SpecError(
                f"--emit: {target.title} has no kernels for weights in {dtype} of recipe "
                f"{recipe.name!r}; it has them for {', '.join(target.weights)}"
            )
    if recipe.kv_dtype not in target.kv:
        raise SpecError(
            f"--emit: {target.title} keeps no KV cache in {recipe.kv_dtype}, as recipe "
            f"{recipe.name!r} does; it keeps {', '.join(target.kv)}"
        )
    if given.prefill_first and target is not SGLANG:
        raise SpecError(
            f"--emit: {target.title} lets prompts share iterations with decode, and the prediction "
            "has them first; choose the scheduler chunked, or sglang"
        )
    script = Script(command=command)
    script.head += [f"{given.model.name} with {target.title}", *given.answer]
    script.head += [given.beyond_context] if given.beyond_context else []
    needs = target.vendors[machine.vendor]
    if needs:
        script.head.append(f"{machine.name} {needs}")
    if given.replicas > 1:
        script.head.append(
            f"start {given.replicas} of these servers and share the requests among them evenly"
        )
    return script


def _except(target: Target) -> str:
    return f" except {' and '.join(target.without)}" if target.without else ""


def _quantised_online(given: LaunchSettings, target: Target) -> bool:
    """Whether the engine makes the recipe's weights from the published ones of 16 bits."""
    recipe = given.recipe
    return (
        recipe.weight_dtype in target.online
        and recipe.activation_dtype == recipe.weight_dtype
        and recipe.attention is None
        and recipe.experts is None
        and "quantization_config" not in given.model.config
    )


def _add_model(script: Script, given: LaunchSettings, *, option: str = "", online: bool) -> None:
    """Add the model: its published name, or a checkpoint that the caller must name."""
    published, recipe = given.model.hugging_face_id, given.recipe
    start = f"{option} " if option else ""
    if published is not None and (given.as_published or online):
        script.options.append((start + shlex.quote(published), given.model.name))
        if online:
            script.add("--quantization", recipe.weight_dtype, "from 16 bits, while it is read")
        return
    wanted = f"weights in {recipe.weight_dtype} and inputs in {recipe.activation_dtype}"
    script.files += required(f"a checkpoint of {given.model.name} with {wanted}")
    script.options.append((f'{start}"${PLACEHOLDER}"', f"{recipe.name}: {recipe.note}"))


def _share(share: float) -> str:
    """A share of the memory, rounded down so that it still fits.

    What 32 bits leave below a decimal share, such as 0.9, is no reason to round it down.
    """
    scale = 10**SHARE_DIGITS
    return f"{math.floor(share * scale + 1e-3) / scale:g}"


def _lengths(given: LaunchSettings) -> tuple[int, str]:
    means = f"{given.isl} tokens in and {given.osl} out"
    if given.longest == given.isl + given.osl:
        return given.longest, means
    return given.longest, f"mean {means}: raise it to your longest request"


def _reservation(given: LaunchSettings) -> str:
    return "all" if given.reserved == 1 else f"{given.reserved:g}"


def _kv_comment(given: LaunchSettings) -> str:
    return f"KV cache in {given.recipe.kv_dtype}"


def _fraction_comment(given: LaunchSettings) -> str:
    return f"KV cache in {given.free_share:.3g} of the memory left free"


def _found(given: LaunchSettings) -> str:
    if not given.finds:
        return "no prompt is found in the cache"
    parts = []
    if given.cached:
        parts.append(f"{given.cached:g} of the prompt tokens are found in the cache")
    if given.shared:
        parts.append(f"all prompts begin with the same {given.shared} tokens")
    return ", ".join(parts)


def _caching(given: LaunchSettings, on: str, off: str) -> tuple[str, None, str]:
    return (on if given.finds else off), None, _found(given)


def _draft_comment(given: LaunchSettings) -> str:
    return f"{given.drafted} tokens a pass, each accepted with probability {given.accepted:g}"


METHODS = {
    "vLLM": ("mtp", "draft_model"),
    "SGLang": ("EAGLE", "STANDALONE"),
    "TensorRT-LLM": ("MTP", "DraftTarget"),
}
"""Names of drafting with a model's own modules and with another model, by engine."""


def _draft(given: LaunchSettings, target: Target) -> dict[str, str]:
    """Method by which an engine drafts: with modules of the model, or with another model.

    Raises:
        SpecError: The draft is a layer that nobody has published under a name known here.
    """
    own, other = METHODS[target.title]
    if given.draft:
        return {"method": other, "model": given.draft}
    if given.stored_modules:
        return {"method": own}
    raise SpecError(
        f"--emit: {given.model.name} stores no modules for further tokens, and no model that "
        "drafts is named; give one with --draft-model, or leave --draft-tokens out"
    )


def vllm_script(given: LaunchSettings) -> Script:
    """Script that launches one server with vLLM.

    Raises:
        SpecError: vLLM does not run the accelerator, the precision or the layout.
    """
    layout, server = given.layout, given.server
    script = _script(given, VLLM, ["vllm", "serve"])
    _add_model(script, given, online=_quantised_online(given, VLLM))
    script.add("--tensor-parallel-size", layout["tp"], "GPUs that share each layer")
    script.add("--pipeline-parallel-size", layout["pp"], "pipeline stages")
    script.add("--data-parallel-size", layout["dp_attention"], "groups with attention of their own")
    if given.routed and layout["ep"] > 1:
        if layout["ep"] != given.stage_gpus:
            raise SpecError(
                f"--emit: vLLM spreads experts over all {given.stage_gpus} GPUs of a stage or over "
                f"none, and the layout has ep {layout['ep']}; choose ep 1 or {given.stage_gpus}"
            )
        script.add("--enable-expert-parallel", None, f"whole experts on {layout['ep']} GPUs")
    script.add("--kv-cache-dtype", VLLM.kv[given.recipe.kv_dtype], _kv_comment(given))
    script.add("--gpu-memory-utilization", _share(given.total_share), _fraction_comment(given))
    limit = min(server.max_batch_size, server.max_num_tokens)
    script.add("--max-num-seqs", f"{limit * layout['pp']:.0f}", "sequences of a group at once")
    script.add("--max-num-batched-tokens", f"{server.max_num_tokens:.0f}", "tokens an iteration")
    script.add("--max-model-len", *_lengths(given))
    script.add("--enable-chunked-prefill", None, "prompts fill what decoding leaves of it")
    script.add(*_caching(given, "--enable-prefix-caching", "--no-enable-prefix-caching"))
    if given.drafted:
        config = {**_draft(given, VLLM), "num_speculative_tokens": given.drafted}
        script.add("--speculative-config", json.dumps(config), _draft_comment(given))
    if given.stream_interval:
        script.add("--stream-interval", given.stream_interval, STREAMED)
    if given.stated.get("kept_context") == 1:
        script.add("--disable-hybrid-kv-cache-manager", None, KEPT)
    _leave_out(script, given, "vLLM", "batch_wait", "poll_interval")
    if given.reserved == 1:
        script.tail.append(
            "the prediction reserves the KV cache of all output tokens on admission; vLLM does not "
            "and preempts requests where the cache is full"
        )
    return script


def _sglang(given: LaunchSettings) -> Script:
    layout, server, groups = given.layout, given.server, given.layout["dp_attention"]
    script = _script(given, SGLANG, ["python3", "-m", "sglang.launch_server"])
    online = _quantised_online(given, SGLANG)
    _add_model(script, given, option="--model-path", online=online)
    script.add("--tp-size", given.stage_gpus, "GPUs of a pipeline stage")
    script.add("--pp-size", layout["pp"], "pipeline stages")
    if groups > 1:
        script.add("--dp-size", groups, f"attention groups of {layout['tp']} GPUs")
        script.add("--enable-dp-attention", None, "each group serves requests of its own")
    if given.routed:
        script.add("--ep-size", layout["ep"], "GPUs that whole experts are spread over")
    script.add("--kv-cache-dtype", SGLANG.kv[given.recipe.kv_dtype], _kv_comment(given))
    script.add("--mem-fraction-static", _share(given.static_share), _fraction_comment(given))
    limit = min(server.max_batch_size, server.max_num_tokens) * groups * layout["pp"]
    script.add("--max-running-requests", f"{limit:.0f}", "sequences of all groups and stages")
    tokens = server.max_num_tokens * groups
    script.add("--chunked-prefill-size", f"{tokens:.0f}", "prompt tokens, over all groups")
    script.add("--context-length", *_lengths(given))
    if given.prefill_first:
        script.tail.append("without --enable-mixed-chunk prompts go first, as the prediction says")
    else:
        script.add("--enable-mixed-chunk", None, "prompts and decoding share an iteration")
    if not given.finds:
        script.add("--disable-radix-cache", None, "no prompt is found in the cache")
    if given.drafted:
        drafting = _draft(given, SGLANG)
        script.add("--speculative-algorithm", drafting["method"], _draft_comment(given))
        if "model" in drafting:
            script.add("--speculative-draft-model-path", drafting["model"], "the draft")
        script.add("--speculative-num-steps", given.drafted, "tokens drafted one after another")
        script.add("--speculative-eagle-topk", 1, "one chain of them, and no tree")
        script.add("--speculative-num-draft-tokens", given.drafted + 1, "tokens that are verified")
    if given.poll_interval:
        script.add("--scheduler-recv-interval", given.poll_interval, POLLED)
    if given.stream_interval:
        script.add("--stream-interval", given.stream_interval, STREAMED)
    if given.stated.get("kept_context") == 1:
        script.add("--disable-hybrid-swa-memory", None, KEPT)
    elif given.stated.get("kept_context") == 0:
        script.tail.append(
            "--swa-full-tokens-ratio divides the cache between layers with a window and without: "
            "choose it so that both hold as many requests"
        )
    _leave_out(script, given, "SGLang", "batch_wait")
    if groups > 1:
        script.tail.append("SGLang divides both limits by the attention groups")
    if given.reserved == 1:
        script.tail.append(
            "the prediction reserves the KV cache of all output tokens on admission; SGLang "
            "estimates it (--schedule-conservativeness) and retracts requests where it is full"
        )
    return script


OPTIONS_FILE = "trtllm-options.yaml"
WAITED = "iterations for which prompts wait for others"
POLLED = "decode steps between two looks for new requests"
STREAMED = "tokens after which the first are sent"
KEPT = "the cache keeps the tokens behind a window"


def _leave_out(script: Script, given: LaunchSettings, engine: str, *settings: str) -> None:
    """Say which settings the prediction assumes and the command has no option for.

    Args:
        script: Gets the lines.
        given: The settings.
        engine: Its name.
        settings: Intervals that it has no option for.
    """
    for name in settings:
        value = getattr(given, name)
        if value > (name == "poll_interval"):
            script.tail.append(
                f"the prediction assumes {name} {value}, for which {engine} has no option"
            )
    # A scheduler is refused or has its option; keeping all or nothing behind a window has, too.
    own = {"scheduler": True, "kept_context": given.stated.get("kept_context") in (0, 1)}
    left = {axis: value for axis, value in given.stated.items() if not own.get(axis)}
    if left:
        stated = ", ".join(in_words(left))
        script.tail.append(f"the prediction assumes {stated}, which no option sets")


def _trtllm(given: LaunchSettings) -> Script:
    layout, server = given.layout, given.server
    script = _script(given, TRTLLM, ["trtllm-serve"])
    grouped = layout["dp_attention"] > 1
    if grouped and layout["tp"] > 1:
        raise SpecError(
            "--emit: TensorRT-LLM runs attention in groups of one GPU or in one group, and the "
            f"layout has {layout['dp_attention']} groups of {layout['tp']}; choose tp 1 or "
            "dp-attention 1"
        )
    _add_model(script, given, online=False)
    script.add("--backend", "pytorch", "reads published checkpoints")
    script.add("--tp_size", given.stage_gpus, "GPUs of a pipeline stage")
    script.add("--pp_size", layout["pp"], "pipeline stages")
    if given.routed:
        script.add("--ep_size", layout["ep"], "GPUs that whole experts are spread over")
    script.add(
        "--kv_cache_free_gpu_memory_fraction",
        f"{given.free_share:.3g}",
        _fraction_comment(given),
    )
    script.add("--max_batch_size", f"{server.max_batch_size:.0f}", "sequences an iteration")
    script.add("--max_num_tokens", f"{server.max_num_tokens:.0f}", "tokens an iteration")
    script.add("--max_seq_len", *_lengths(given))
    script.add("--extra_llm_api_options", OPTIONS_FILE, "the file above")
    policy = "GUARANTEED_NO_EVICT" if given.reserved == 1 else "MAX_UTILIZATION"
    yaml = [
        ("enable_chunked_prefill: true", "prompts fill what decoding leaves of an iteration"),
        (f"enable_attention_dp: {str(grouped).lower()}", "each GPU serves requests of its own")
        if grouped
        else ("enable_attention_dp: false", "one group of GPUs serves all requests"),
        ("scheduler_config:", "admission"),
        (
            f"  capacity_scheduler_policy: {policy}",
            f"reserves {_reservation(given)} of the output tokens' KV cache",
        ),
        ("kv_cache_config:", "memory"),
        (f"  dtype: {TRTLLM.kv[given.recipe.kv_dtype]}", _kv_comment(given)),
        (f"  enable_block_reuse: {str(given.finds).lower()}", _found(given)),
    ]
    if given.drafted:
        drafting = _draft(given, TRTLLM)
        yaml += [
            ("speculative_config:", _draft_comment(given)),
            (f"  decoding_type: {drafting['method']}", "how tokens are drafted"),
        ]
        length = "max_draft_len" if "model" in drafting else "num_nextn_predict_layers"
        yaml.append((f"  {length}: {given.drafted}", "tokens drafted for each pass"))
        if "model" in drafting:
            quoted = json.dumps(drafting["model"])
            yaml.append((f"  speculative_model: {quoted}", "the draft"))
    if given.batch_wait and grouped:
        yaml += [
            ("attention_dp_config:", "prompts of the groups start together"),
            ("  enable_balance: true", "each group waits until all have a prompt"),
            (f"  timeout_iters: {given.batch_wait}", WAITED),
        ]
    elif given.batch_wait:
        yaml += [
            (f"batch_wait_timeout_iters: {given.batch_wait}", WAITED),
            ("batch_wait_max_tokens_ratio: 1", "or until an iteration is full; with 0 none wait"),
        ]
    if given.stream_interval:
        yaml.append((f"stream_interval: {given.stream_interval}", STREAMED))
    if given.stated.get("kept_context") == 0:
        script.tail.append(
            "the prediction drops what is behind a window: give the windows of the layers as "
            "max_attention_window of kv_cache_config"
        )
    _leave_out(script, given, "TensorRT-LLM", "poll_interval")
    script.files += [
        f"cat > {OPTIONS_FILE} <<'EOF'",
        *(f"{key}".ljust(COLUMN) + f"  # {one_line(comment)}" for key, comment in yaml),
        "EOF",
    ]
    return script
