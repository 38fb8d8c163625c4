"""
A100 or H20, by batch and length
================================

The ratio of the times of one decode step. In purple cells the A100 is ahead: at large batches of
short sequences the matrix units bind, and the A100 has twice the rate. In the others, reads of
weights and KV cache bind, and the H20 has twice the bandwidth. Hatched cells do not fit in the
memory of both. The left column uses one roofline per operator, the right column one for the whole
step.
"""

import sweep
from sweep.decisions.compare import compare
from sweep.decisions.figures.comparison import comparison_figure

MODELS = ["llama-2-13b", "mistral-7b-v0.2"]
PAIR = ("a100-sxm-80gb", "h20-96gb")

grid = sweep.Grid(
    models=MODELS,
    hardware=list(PAIR),
    batch_size={"start": 1, "stop": 257, "step": 8},
    context_len={"start": 128, "stop": 4097, "step": 64},
    variables=["decode_step_latency", "global_decode_step_latency", "feasible"],
)
results = sweep.run(grid)
methods = ["decode_step_latency", "global_decode_step_latency"]
comparisons = [
    [compare(results, PAIR, model=model, variable=method, chosen={}) for method in methods]
    for model in MODELS
]
figure = comparison_figure(comparisons)

# %%
# The same as sentences:

for row in comparisons:
    for comparison in row:
        print(comparison.sentence())
