"""
What a user gets against what a GPU gives
=========================================

More requests at once give more tokens on each GPU and fewer to each user. Each point is a
deployment: an accelerator, a layout and a number of requests, as TensorRT-LLM would serve them by
the shipped calibration. On the front nothing serves a user faster without serving fewer tokens on
a GPU.
"""

from sweep.decisions.deployment_sweep import sweep_deployments
from sweep.decisions.deployments import Offer
from sweep.decisions.figures.front import front_figure
from sweep.decisions.recommend import Demand, Limits, recommend
from sweep.engines.calibration_file import load_efficiency
from sweep.specs.catalog import Catalog

deployments = sweep_deployments(
    "llama-3.1-70b",
    Offer(("h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm"), precision=("fp8",)),
    isl=1024,
    osl=1024,
    concurrency=None,
    catalog=Catalog(),
    efficiency=load_efficiency("tensorrt-llm"),
)
found = recommend(deployments, Demand(Limits(max_ttft=2.0)))
figure = front_figure(found)
