"""The kernel over a grid: plan, tiling, compiled calls, intervals."""
