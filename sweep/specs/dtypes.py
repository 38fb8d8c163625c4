"""Number formats: their sizes, and the format each is computed in."""

from typing import Literal, get_args

Dtype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]
StoredDtype = Literal[
    "fp32", "tf32", "fp16", "bf16", "half", "fp8", "int8", "fp4", "nvfp4", "mxfp4", "int4"
]
PEAK_DTYPES = (*get_args(Dtype), "half")
"""Types a matrix unit computes in; `half` is fp16 or bf16, whichever the hardware has."""
DTYPE_TITLES = {"half": "fp16 or bf16"}
"""Names of types for readers, where they differ."""
COMPUTED_AS = {"nvfp4": "fp4", "mxfp4": "fp4"}
"""Type that a block-scaled format computes in, where it is not its own."""
DTYPE_BYTES: dict[str, float] = {
    "fp32": 4.0,
    "tf32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "half": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "nvfp4": 0.5 + 1 / 16,
    "mxfp4": 0.5 + 1 / 32,
    "int4": 0.5,
}
"""Storage of one element. NVFP4 adds an 8-bit scale to each block of 16 elements, MXFP4 to each
of 32 (Open Compute Project, "Microscaling formats", 2023). [byte]"""
