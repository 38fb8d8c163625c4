"""Manifests for a cluster of a prefill and a decode pool that run vLLM.

A manifest has one option on a line, with the assumption of the prediction behind it. Kinds and
options are those of the projects' own pages:

- Kubernetes, deployments and devices:
  https://kubernetes.io/docs/concepts/workloads/controllers/deployment/ and
  https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/
- vLLM, transfer of the cache: https://docs.vllm.ai/en/latest/features/nixl_connector_usage/
- Dynamo, graphs of workers: https://docs.nvidia.com/dynamo/latest/kubernetes/
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sweep.decisions.deployment_sweep import machine_gpus
from sweep.decisions.disaggregated import Pair
from sweep.decisions.launch_commands import vllm_script
from sweep.decisions.launch_script import COLUMN, PLACEHOLDER, one_line
from sweep.decisions.launch_settings import (
    LaunchSettings,
    is_plain,
    memory_shares,
    reserved_share,
)
from sweep.decisions.pool_figures import Instance
from sweep.engines.calibration_file import IDEAL_NAME, Calibration
from sweep.engines.memory_share import memory_share
from sweep.errors import SpecError
from sweep.evaluation.single_cell import cell
from sweep.kernel.block import is_routed
from sweep.kernel.server import Server
from sweep.models.checkpoint import checkpoint, is_quantised
from sweep.models.read import read_model
from sweep.schema.axes import ACCEPTANCE
from sweep.specs.catalog import Catalog
from sweep.specs.model import ModelSpec
from sweep.specs.precision import CHECKPOINT

Manifest = Literal["kubernetes", "dynamo"]
DEVICES = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu"}
"""Name of an accelerator among the resources of a node, by vendor."""
IMAGES = {
    "kubernetes": ("vllm/vllm-openai:latest", "an image with vLLM and NIXL"),
    "dynamo": ("nvcr.io/nvidia/ai-dynamo/vllm-runtime:latest", "an image of Dynamo with vLLM"),
}
CONNECTOR = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
"""Transfer of the KV cache from the pool that prefills to the one that decodes."""
LONGEST_NAME = 40
"""Longest name of a resource, so that what a cluster adds to it still fits. [character]"""
Lines = list[tuple[int, str, str]]
"""Lines of a manifest: indentation, text and comment."""


@dataclass(frozen=True)
class PoolRequest:
    """The model and the requests of two pools.

    Attributes:
        model: The model.
        isl: Input tokens of each request. [count]
        osl: Output tokens of each request. [count]
        calibration: The calibration of the prediction; ideal rooflines if none.
    """

    model: ModelSpec
    isl: int
    osl: int
    calibration: Calibration | None


def manifest(pair: Pair, request: PoolRequest, target: Manifest, *, catalog: Catalog) -> str:
    """Manifest of the two pools.

    Raises:
        SpecError: vLLM does not run one of the pools, or an instance takes several machines.
    """
    pools = [
        ("prefill", pair.pools.prefills, _settings(pair, pair.pools.prefill, request, catalog)),
        ("decode", pair.pools.decodes, _settings(pair, pair.pools.decode, request, catalog)),
    ]
    head = [f"{request.model.name}: a pool that prefills and one that decodes", *pools[0][2].answer]
    head += [pools[0][2].beyond_context] if pools[0][2].beyond_context else []
    head.append(f"the KV cache of a prompt is on its way for {pair.pools.transfer:.3g} s")
    writer = {"kubernetes": _kubernetes, "dynamo": _dynamo}[target]
    lines = writer(_name(request.model.name), pools)
    if target == "kubernetes":
        head.append("needs a router that sends each prompt to both pools in turn, such as llm-d's")
    text = [f"# {one_line(line)}" for line in head]
    for indent, line, comment in lines:
        full = " " * indent + line
        text.append(f"{full.ljust(COLUMN)}  # {one_line(comment)}" if comment else full)
    return "\n".join(text)


def _settings(
    pair: Pair, instance: Instance, request: PoolRequest, catalog: Catalog
) -> LaunchSettings:
    """Settings that the prediction of a pool assumed."""
    model, hardware = request.model, catalog.hardware(instance.hardware)
    own = instance.precision == CHECKPOINT.name
    recipe = checkpoint(model).recipe if own else catalog.precision(instance.precision)
    if instance.gpus > machine_gpus(hardware):
        raise SpecError(
            f"--emit: an instance takes {instance.gpus} GPUs and a machine of {hardware.name} has "
            f"{machine_gpus(hardware)}; manifests are for one machine an instance: give fewer with "
            "--tp, --pp or --dp-attention"
        )
    if hardware.vendor not in DEVICES:
        raise SpecError(
            f"--emit: manifests are for {' and '.join(DEVICES)}, and {hardware.name} is of "
            f"{hardware.vendor}; choose another accelerator"
        )
    prefills = instance is pair.pools.prefill
    tokens = pair.pools.batch * request.isl if prefills else Server().max_num_tokens
    held = pair.pools.batch if prefills else max(instance.loads)
    limits = {"max_batch_size": float(held), "max_num_tokens": float(max(tokens, held))}
    shares = {axis: values[0] for axis, values in memory_share(request.calibration).items()}
    numbers = {**instance.layout, **limits, **shares, "isl": request.isl, "osl": request.osl}
    blocks = read_model(model)
    point = cell(blocks, hardware, recipe, numbers, request.calibration)
    total, static, free = memory_shares(point)
    return LaunchSettings(
        model=model,
        hardware=hardware,
        recipe=recipe,
        as_published=own or (not is_quantised(model) and is_plain(recipe)),
        routed=is_routed(blocks),
        layout={"ep": 1, "dp": 1, **instance.layout},
        replicas=1,
        server=Server(**limits),
        held=round(pair.figures.held) or 1,
        isl=request.isl,
        osl=request.osl,
        cached=0.0,
        shared=0,
        drafted=0,
        accepted=0.0,
        draft="",
        stored_modules=False,
        total_share=total,
        static_share=static,
        free_share=free,
        reserved=reserved_share(point),
        calibration=IDEAL_NAME if request.calibration is None else request.calibration.name,
        answer=_answer(pair, request),
    )


def _answer(pair: Pair, request: PoolRequest) -> tuple[str, ...]:
    found = pair.figures
    basis = IDEAL_NAME if request.calibration is None else request.calibration.name
    return (
        f"predicted by {basis} for {pair.pools.gpus} GPUs: {found.rate:.3g} requests a second of "
        f"{request.isl} tokens in and {request.osl} out",
        f"time to first token {found.ttft:.3g} s, per output token {found.tpot * 1e3:.3g} ms",
    )


def _name(text: str) -> str:
    """A name that Kubernetes takes: small letters, digits and dashes."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return plain[:LONGEST_NAME].strip("-") or "model"


Pools = Sequence[tuple[str, int, LaunchSettings]]


def _kubernetes(name: str, pools: Pools) -> Lines:
    lines: Lines = []
    for pool, count, given in pools:
        full = f"{name}-{pool}"
        lines += [
            (0, "---", ""),
            (0, "apiVersion: apps/v1", ""),
            (0, "kind: Deployment", ""),
            (0, "metadata:", ""),
            (2, f"name: {full}", ""),
            (0, "spec:", ""),
            (2, f"replicas: {count}", f"instances that {pool}"),
            (2, f"selector: {{matchLabels: {{app: {full}}}}}", ""),
            (2, "template:", ""),
            (4, f"metadata: {{labels: {{app: {full}}}}}", ""),
            (4, "spec:", ""),
            (6, "containers:", ""),
            (8, "- name: vllm", ""),
            *_container("kubernetes", given, 10, ["vllm", "serve"], ""),
            (10, "env:", ""),
            (12, "- name: VLLM_NIXL_SIDE_CHANNEL_HOST", "where pods of the other pool find it"),
            (14, "valueFrom: {fieldRef: {fieldPath: status.podIP}}", ""),
            (10, "resources:", ""),
            (12, f"limits: {{{DEVICES[given.hardware.vendor]}: {given.gpus}}}", _machine(given)),
        ]
        lines += [
            (0, "---", ""),
            (0, "apiVersion: v1", ""),
            (0, "kind: Service", ""),
            (0, "metadata:", ""),
            (2, f"name: {full}", ""),
            (0, "spec:", ""),
            (2, f"selector: {{app: {full}}}", ""),
            (2, "ports: [{port: 8000}]", "the interface of OpenAI"),
        ]
    return lines


def _dynamo(name: str, pools: Pools) -> Lines:
    image, meaning = IMAGES["dynamo"]
    lines: Lines = [
        (0, "apiVersion: nvidia.com/v1alpha1", ""),
        (0, "kind: DynamoGraphDeployment", ""),
        (0, "metadata:", ""),
        (2, f"name: {name}", ""),
        (0, "spec:", ""),
        (2, "services:", ""),
        (4, "Frontend:", ""),
        (6, "componentType: frontend", ""),
        (6, "replicas: 1", "routes requests to the pools"),
        (6, "extraPodSpec:", ""),
        (8, "mainContainer:", ""),
        (10, f"image: {image}", meaning),
    ]
    for pool, count, given in pools:
        if given.hardware.vendor != "NVIDIA":
            raise SpecError(
                f"--emit: Dynamo runs on NVIDIA, and {given.hardware.name} is of "
                f"{given.hardware.vendor}; choose kubernetes or another accelerator"
            )
        lines += [
            (4, f"Vllm{pool.capitalize()}Worker:", ""),
            (6, "componentType: worker", ""),
            (6, f"subComponentType: {pool}", ""),
            (6, f"replicas: {count}", f"instances that {pool}"),
            (6, "resources:", ""),
            (8, f'limits: {{gpu: "{given.gpus}"}}', _machine(given)),
            (6, "extraPodSpec:", ""),
            (8, "mainContainer:", ""),
            *_container("dynamo", given, 10, ["python3", "-m", "dynamo.vllm"], "--model"),
            (12, f"- --is-{pool}-worker", f"only {'prompts' if pool == 'prefill' else 'decoding'}"),
        ]
    return lines


def _machine(given: LaunchSettings) -> str:
    layout = ", ".join(f"{axis} {size}" for axis, size in given.layout.items() if size > 1)
    return f"{given.gpus} × {given.hardware.name}" + (f" ({layout})" if layout else "")


def _container(
    target: Manifest, given: LaunchSettings, indent: int, command: Sequence[str], model: str
) -> Lines:
    """Image, command and arguments of a worker."""
    image, meaning = IMAGES[target]
    script = vllm_script(given)
    lines: Lines = [
        (indent, f"image: {image}", meaning),
        (indent, f"command: {json.dumps(list(command))}", ""),
        (indent, "args:", ""),
    ]
    first, *others = script.options
    words = shlex.split(first[0].replace(f'"${PLACEHOLDER}"', PLACEHOLDER))
    comment = first[1] if not script.files else f"put a checkpoint here: {first[1]}"
    if model:
        lines.append((indent + 2, f"- {model}", ""))
    lines += [(indent + 2, f"- {json.dumps(word)}", comment) for word in words]
    options = [*others]
    if target == "kubernetes":
        text = f"--kv-transfer-config {shlex.quote(json.dumps(CONNECTOR))}"
        options.append((text, "sends the KV cache from pool to pool"))
    for text, comment in options:
        option, *values = shlex.split(text)
        whole = "=".join((option, *values))
        lines.append((indent + 2, f"- {json.dumps(whole)}", comment))
    return lines


def check_requests(axes: Mapping[str, Sequence[float]]) -> None:
    """Check that requests of pools for a manifest find nothing in the cache and draft nothing.

    Raises:
        SpecError: They do.
    """
    # Without drafts nothing is accepted.
    named = [axis for axis, values in axes.items() if any(values) and axis not in ACCEPTANCE]
    if named:
        raise SpecError(
            f"--emit: manifests are for requests without hits and drafts; leave "
            f"--{named[0].replace('_', '-')} out"
        )
