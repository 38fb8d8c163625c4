"""Use of every part of an installation once: `python tests/smoke.py`, in the environment to check.

Not a test of results; it finds a dependency that is too old or missing. All optional dependencies
for users (`dask`, `parquet`, `report`, `zarr`) must be installed.
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
CELL = "--hardware h20-96gb --batch-size 8 --isl 512 --osl 128"
COMMANDS = (
    "llm-sweep list hardware",
    "llm-sweep run a100-vs-h20 -o x.nc",
    "llm-sweep check x.nc",
    "llm-sweep compare x.nc --hardware a100-sxm-80gb h20-96gb -o x.png",
    "llm-sweep reduce x.nc best.nc --reduce best:batch_size",
    "llm-sweep export best.nc best.zarr",
    "llm-sweep export best.nc best.parquet",
    "llm-sweep export best.nc best.csv",
    "llm-sweep merge best.nc small.nc --compression zlib --significant-digits 3",
    f"llm-sweep explain --model llama-3.1-8b {CELL} -o cell.png",
    "llm-sweep run mine.yaml -o mine --shards 2 --workers 2 --efficiency tensorrt-llm",
    "llm-sweep merge mine mine.nc",
    "llm-sweep report mine.nc -o mine.html",
    "llm-calibrate show tensorrt-llm",
    f"llm-calibrate predict tensorrt-llm {EXAMPLES}/vllm-result.json --set hardware=h100-sxm-80gb"
    " --set tp=1",
    f"llm-calibrate fit {EXAMPLES}/mine.csv -o fit.nc --from tensorrt-llm --free gemm[]",
    "llm-calibrate plot fit.nc -o fit.png",
)
SWEEP = """
models: [llama-3.1-8b]
hardware: [h20-96gb, l4]
batch_size: [1, 2, 4, 8]
context_len: [1024, 2048]
variables: [decode_step_latency]
"""


def import_everything() -> int:
    """Import each module of both packages; how many there are."""
    packages = [import_module(name) for name in ("sweep", "calibration")]
    names = [
        module.name
        for package in packages
        for module in walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]
    for name in names:
        import_module(name)
    return len(names)


def run_here(line: str) -> None:
    """Run one command in this process, which has loaded everything already.

    Raises:
        Exception: Whatever the command fails with, with its traceback.
    """
    from calibration.cli.main import cli as calibrate
    from sweep.cli.main import cli as sweep

    program, *words = line.split()
    group = {"llm-sweep": sweep, "llm-calibrate": calibrate}[program]
    status = group.main(args=words, prog_name=program, standalone_mode=False)
    if status:
        raise SystemExit(f"{line}: exit status {status}")


def main() -> None:
    """Import every module, start both installed commands, and run each command once."""
    os.environ["LLM_SWEEP_CONFIGS"] = str(EXAMPLES / "my-configs")
    for program in ("llm-sweep", "llm-calibrate"):
        subprocess.run([Path(sys.executable).with_name(program), "--version"], check=True)
    start = time.perf_counter()
    print(f"{import_everything()} modules: {time.perf_counter() - start:.1f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("mine.yaml").write_text(SWEEP, encoding="utf-8")
        for line in COMMANDS:
            start = time.perf_counter()
            run_here(line)
            print(f"{line}: {time.perf_counter() - start:.1f} s", flush=True)
        os.chdir(EXAMPLES)


if __name__ == "__main__":
    main()
