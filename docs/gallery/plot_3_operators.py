"""
One cell, operator by operator
==============================

Time of each operator when four H20 serve a batch of 32 requests with LLaMA-2 70B. Compute binds in
the prefill, reads of the weights bind in a decode step.
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
# Change of the throughput, in percent, for one percent more of each resource:

for resource, moved in explanation.elasticities["output_throughput"].items():
    print(f"{resource:24s} {moved:+.2f}")
