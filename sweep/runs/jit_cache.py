"""Keeps compiled functions in the user's cache folder, so that a second run starts at once."""

import os
from pathlib import Path

from sweep.errors import SweepError

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
"""Environment variable of JAX for the folder of its cache; if set, it is used."""


PLATFORMS_VARIABLE = "JAX_PLATFORMS"
"""Environment variable of JAX for the kinds of devices it may use."""


def use_compilation_cache() -> None:
    """Turn on JAX's persistent compilation cache and the store of kernels for this process.

    Raises:
        SweepError: `JAX_PLATFORMS` names a kind of device that this machine lacks.
    """
    from jax import config, devices
    from platformdirs import user_cache_dir

    from sweep.evaluation.function_store import FOLDER, keep_functions_in

    wanted = os.environ.get(PLATFORMS_VARIABLE)
    if wanted:
        try:
            devices()
        except (RuntimeError, AssertionError):
            raise SweepError(
                f"{PLATFORMS_VARIABLE}={wanted}: JAX finds no such device here; unset the variable"
            ) from None
    folder = os.environ.get(CACHE_VARIABLE)
    if folder is None:
        folder = str(Path(user_cache_dir("llm-sweep")) / "jax")
        config.update("jax_compilation_cache_dir", folder)
    if folder and config.values["jax_enable_compilation_cache"]:
        keep_functions_in(Path(folder) / FOLDER)
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
