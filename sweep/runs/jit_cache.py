"""Keeps compiled kernels in the user's cache folder, so that a second run starts at once."""

import os
from pathlib import Path

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
"""Environment variable of JAX for the folder of its cache; if set, it is used."""


def use_compilation_cache() -> None:
    """Turn on JAX's persistent compilation cache for this process."""
    from jax import config
    from platformdirs import user_cache_dir

    if CACHE_VARIABLE not in os.environ:
        folder = Path(user_cache_dir("llm-sweep")) / "jax"
        config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
