"""Accelerators, weights and KV caches that each engine runs.

Sources:

- TensorRT-LLM: https://nvidia.github.io/TensorRT-LLM/supported-hardware.html
- vLLM: https://docs.vllm.ai/en/v0.11.2/getting_started/installation/ and, for types,
  https://docs.vllm.ai/en/v0.9.2/features/quantization/supported_hardware.html
- SGLang: https://docs.sglang.io/advanced_features/server_arguments.html
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sweep.engines.sglang import SGLang
from sweep.engines.tensorrt_llm import TensorRTLLM


@dataclass(frozen=True)
class Target:
    """Accelerators and precisions that an engine runs.

    Attributes:
        title: Its name.
        vendors: Vendors of accelerators, each with what else it takes; empty if nothing.
        weights: Types of weights.
        kv: Name of each type of the KV cache in the engine's options.
        without: Generations that it does not run, as the engine states them.
        online: Types that it quantises to while it reads weights of 16 bits.
    """

    title: str
    vendors: Mapping[str, str]
    weights: tuple[str, ...]
    kv: Mapping[str, str]
    without: tuple[str, ...] = ()
    online: tuple[str, ...] = ()


WIDE = {"half": "auto", "fp16": "auto", "bf16": "auto"}
"""Types of a KV cache in 16 bits, all stored as the model is."""
SIXTEEN = tuple(WIDE)
TRTLLM = Target(
    "TensorRT-LLM",
    vendors={"NVIDIA": ""},
    weights=(*SIXTEEN, "fp8", "fp4", "nvfp4", "mxfp4", "int4"),
    kv=WIDE | {"fp8": "fp8", "nvfp4": "nvfp4"},
    without=TensorRTLLM.without,
)
VLLM = Target(
    "vLLM",
    vendors={
        "NVIDIA": "",
        "AMD": "needs the ROCm build of vLLM",
        "Intel": "needs the plugin vllm-gaudi",
        "Huawei": "needs the plugin vllm-ascend",
        "Google": "needs the plugin tpu-inference",
        "AWS": "needs the build of vLLM for Neuron",
    },
    weights=(*SIXTEEN, "fp8", "int8", "fp4", "nvfp4", "mxfp4", "int4"),
    kv=WIDE | {"fp8": "fp8"},
    online=("fp8",),
)
SGLANG = Target(
    "SGLang",
    vendors={
        "NVIDIA": "",
        "AMD": "needs the ROCm build of SGLang",
        "Huawei": "needs the build of SGLang for Ascend",
    },
    weights=(*SIXTEEN, "fp8", "int8", "fp4", "nvfp4", "mxfp4", "int4"),
    kv=WIDE | {"fp8": "fp8_e4m3"},
    without=SGLang.without,
    online=("fp8",),
)
