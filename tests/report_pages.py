"""Results and pages of them that several files of tests read."""

from pathlib import Path

import xarray as xr
import yaml
from factories import hardware, model

import sweep
from sweep.grid.grid import Grid
from sweep.html_report.report import html
from sweep.specs.catalog import Catalog
from sweep.specs.shipped import shipped_configs

SCRIPT = "<script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(2)>"
"""A name that a file can have too."""


def article_result() -> xr.Dataset:
    """The article's sweep."""
    return sweep.run(sweep.load_grid(shipped_configs() / "sweeps" / "a100-vs-h20.yaml"))


def served_result() -> xr.Dataset:
    """A calibrated result over input and output lengths."""
    grid = Grid(
        models=["llama-3.1-8b", "mixtral-8x7b"],
        hardware=["l40s", "h100-sxm-80gb"],
        tp=[1, 2],
        batch_size=[1, 16, 128],
        isl=[128, 2048],
        osl=[128, 1024],
        variables=["ttft", "tpot", "output_throughput", "feasible"],
    )
    return sweep.run(grid, efficiency="tensorrt-llm")


def hostile_html(folder: Path) -> str:
    """Page of a result whose names are markup; one accelerator is in a catalog in `folder`."""
    spec = hardware(name=IMAGE, product=SCRIPT).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    (folder / "hardware").mkdir()
    path = folder / "hardware" / f"{IMAGE}.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    catalog = Catalog([folder])
    grid = Grid(
        models=["llama-2-7b", model("llama").model_copy(update={"name": SCRIPT})],
        hardware=[catalog.hardware(IMAGE), hardware(name=SCRIPT)],
        precision=["fp16"],
        batch_size=[1, 64],
        context_len=[128, 4096],
        variables=["decode_step_latency", "bound", "feasible"],
    )
    result = sweep.run(grid).assign_attrs(comment=SCRIPT, history=f"</script>{SCRIPT}")
    return html(result, catalog=catalog)
