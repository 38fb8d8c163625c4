"""Script that benchmarks a recommended deployment, and the command that predicts its report.

The benchmark is that of vLLM, which runs against any server with the interface of OpenAI:
https://docs.vllm.ai/en/latest/cli/bench/serve/
"""

import math
import shlex

from sweep.decisions.deployments import in_words
from sweep.decisions.launch_script import PLACEHOLDER, Script, required
from sweep.decisions.launch_settings import LaunchSettings
from sweep.errors import SpecError
from sweep.schema.axes import INTERVALS, SPREADS
from sweep.specs.dtypes import DTYPE_BYTES

REQUESTS_PER_CLIENT = 5
"""Requests that the benchmark sends for each one that is open at once. [count]"""
FEWEST_REQUESTS = 20
"""Requests that it sends at least. [count]"""


FEWEST_ARRIVALS = 1000
"""Requests that it sends at least where they arrive at random: p99 is the tenth longest. [count]"""


def benchmark_script(given: LaunchSettings) -> Script:
    """Script that loads one server as the prediction assumed: as many open, or the same rate."""
    requests = max(REQUESTS_PER_CLIENT * given.held, FEWEST_REQUESTS)
    arriving = max(20 * given.held, FEWEST_ARRIVALS)
    published = given.model.hugging_face_id
    script = Script(command=["vllm", "bench", "serve"])
    script.head += [f"benchmark of {given.model.name}, one server", *given.answer]
    script.add("--backend", "openai", "any engine with this interface")
    script.add("--base-url", "http://localhost:8000", "the server; SGLang's port is 30000")
    script.add("--endpoint", "/v1/completions", "prompts of exact length, without a chat template")
    if published is not None:
        script.add("--model", published, "tokenizer, and the name in the report")
        if not given.as_published:
            script.files += [f"{PLACEHOLDER}=${{{PLACEHOLDER}:-{shlex.quote(published)}}}"]
            script.options.append((f'--served-model-name "${PLACEHOLDER}"', "as it was launched"))
    else:
        script.files += required(f"the path of {given.model.name}")
        script.options.append(
            (f'--model "${PLACEHOLDER}"', "tokenizer, and the name in the report")
        )
    nothing = "prompts that share nothing else" if given.finds else "prompts that share nothing"
    script.add("--dataset-name", "random", nothing)
    shared = min(max(given.shared, round(given.cached * given.isl)), given.isl - 1)
    varied = _range_ratio(given, shared)
    if shared:
        script.add("--random-prefix-len", shared, "tokens that all prompts begin with")
    script.add("--random-input-len", given.isl - shared, "other input tokens of each request")
    script.add("--random-output-len", given.osl, "output tokens of each request")
    alike = "up to this share shorter or longer" if varied else "all requests alike"
    script.add("--random-range-ratio", f"{varied:.4g}", alike)
    script.add("--ignore-eos", None, "every request returns all its tokens")
    if given.rate:
        script.add("--num-prompts", arriving, "so many that the first few do not count")
        script.add("--request-rate", f"{given.rate:.4g}", "requests that arrive in a second")
        script.add("--burstiness", f"{given.burstiness:g}", "shape of the gaps between them")
    elif given.sent:
        script.add("--num-prompts", given.sent, "requests of the run")
        script.add("--request-rate", "inf", "all of them are sent at once")
    else:
        script.add("--num-prompts", requests, f"{requests / given.held:.0f} for each open request")
        script.add("--max-concurrency", given.held, "requests that the server holds at once")
        script.add("--request-rate", "inf", "a new request as soon as one ends")
    script.add("--save-result", None, "writes the report")
    script.add("--result-filename", "bench.json", "its name")
    if published is None or not given.as_published:
        # The shell replaces itself by the command, so the advice comes as comments.
        script.tail.append(f"{PLACEHOLDER} is the checkpoint that the server was launched with")
    if given.drafted:
        script.tail.append(
            "random prompts have an acceptance rate of their own: check it with a dataset of yours"
        )
    if given.finds or (given.drafted and given.draft):
        script.tail.append("llm-calibrate predicts runs without hits and draft models only:")
    if not given.rate and not given.sent and given.held > 1:
        script.tail.append(
            "all clients send their first request at once: the mean time to first token of the "
            "run is longer than above, and the prediction below has it too"
        )
    if given.stated:
        script.tail.append(
            f"llm-calibrate predict knows the engine's own {', '.join(given.stated)} only, and "
            f"the prediction above has {', '.join(in_words(given.stated))}"
        )
    script.tail += ["compare it with the prediction:", predict_command(given)]
    return script


def _range_ratio(given: LaunchSettings, shared: int) -> float:
    """Half of the range of the random lengths over their mean. [1]

    A uniform distribution with the coefficient of variation c reaches √3 c beyond its mean.

    Raises:
        SpecError: Input and output differ in it, or lengths would reach 0.
    """
    inputs = math.sqrt(3) * given.isl_cv * given.isl / (given.isl - shared)
    outputs = math.sqrt(3) * given.osl_cv
    if not math.isclose(inputs, outputs, rel_tol=1e-3) or outputs >= 1:
        raise SpecError(
            "--emit: the benchmark draws input and output evenly from ranges of one ratio, and "
            f"isl_cv {given.isl_cv:g} and osl_cv {given.osl_cv:g} have {inputs:.3g} and "
            f"{outputs:.3g}; give both one spread below 0.577, without a shared prefix"
        )
    return outputs


def predict_command(given: LaunchSettings) -> str:
    """Command that predicts the rows of the benchmark's report."""
    recipe, layout = given.recipe, given.layout
    columns: dict[str, object] = {
        **given.engine,
        "hardware": given.hardware.name,
        "tp": layout["tp"],
        "pp": layout["pp"],
        **({"ep": layout["ep"], "dp_attention": layout["dp_attention"]} if given.routed else {}),
        "kv_cache_fraction": f"{given.free_share:.3g}",
        "max_batch_size": f"{given.server.max_batch_size:.0f}",
        "max_num_tokens": f"{given.server.max_num_tokens:.0f}",
    }
    if given.drafted and not given.draft:
        columns |= {"draft_tokens": given.drafted, "acceptance_rate": f"{given.accepted:.4g}"}
    more = {axis: getattr(given, axis) for axis in (*INTERVALS, *SPREADS)}
    columns |= {axis: f"{value:g}" for axis, value in more.items() if value}
    if DTYPE_BYTES[recipe.weight_dtype] < 2 or given.narrow:
        columns["weight_dtype"] = recipe.weight_dtype
        columns["activation_dtype"] = recipe.activation_dtype
        columns["kv_dtype"] = recipe.kv_dtype
    elif DTYPE_BYTES[recipe.kv_dtype] < 2:
        columns["kv_dtype"] = recipe.kv_dtype
    if given.model.hugging_face_id is None:
        columns["model"] = given.model.name
    settings = [word for key, value in columns.items() for word in ("--set", f"{key}={value}")]
    return shlex.join(["llm-calibrate", "predict", given.calibration, "bench.json", *settings])
