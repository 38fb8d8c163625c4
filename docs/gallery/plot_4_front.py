"""
Throughput per user against throughput per GPU
==============================================

More concurrent requests give more tokens per GPU and fewer per user. Each point is a deployment: an
accelerator, a layout and a number of requests, as the shipped calibration predicts it for
TensorRT-LLM. On the front, no deployment serves a user faster without serving fewer tokens per GPU.
"""

from sweep.decisions.deployment_sweep import sweep_deployments
from sweep.decisions.deployments import Offer
from sweep.decisions.figures.front import front_figure
from sweep.decisions.recommend import Demand, Limits, recommend
from sweep.engines.calibration_file import load_calibration
from sweep.specs.catalog import Catalog

deployments = sweep_deployments(
    "llama-3.1-70b",
    Offer(("h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm"), precision=("fp8",)),
    isl=1024,
    osl=1024,
    concurrency=None,
    catalog=Catalog(),
    calibration=load_calibration("tensorrt-llm"),
)
found = recommend(deployments, Demand(Limits(max_ttft=2.0)))
figure = front_figure(found)
