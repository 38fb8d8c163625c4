"""
One cell, operator by operator
==============================

What takes the time when four H20 serve a batch of 32 requests with LLaMA-2 70B: the prefill is
bound by compute, and a decode step by reading weights.
"""

from sweep.decisions.explain import explain
from sweep.decisions.figures.explanation import explanation_figure
from sweep.grid.grid import Grid

grid = Grid(
    models=["llama-2-70b"],
    hardware=["h20-96gb"],
    tp=[4],
    batch_size=[32],
    isl=[1024],
    osl=[512],
    variables=["ttft"],
)
explanation = explain(grid)
figure = explanation_figure(explanation)

# %%
# By how many percent the throughput moves for one percent more of each resource:

for resource, moved in explanation.elasticities["output_throughput"].items():
    print(f"{resource:24s} {moved:+.2f}")
