"""The commands that decide: `explain` takes one cell apart, `recommend` ranks deployments.

Heavy packages are imported inside the commands that need them.
"""

import json
from pathlib import Path
from typing import Any

import click

from sweep.options import (
    catalog_of,
    check_picture,
    configs_option,
    force_picture_option,
    json_option,
    picture_option,
    print_rows,
)


@click.command()
@click.option("--model", required=True, help="A model by name, or its config.json.")
@click.option("--hardware", required=True, help="An accelerator.")
@click.option("--precision", default="fp16", show_default=True, help="A precision recipe.")
@click.option("--tp", type=int, default=1, show_default=True, help="Tensor-parallel width.")
@click.option("--pp", type=int, help="Pipeline stages.")
@click.option("--ep", type=int, help="GPUs that experts are spread over whole.")
@click.option("--dp-attention", type=int, help="Groups that run attention for themselves.")
@click.option("--batch-size", type=int, required=True, help="Sequences decoded together.")
@click.option("--isl", type=int, required=True, help="Input tokens of each.")
@click.option("--osl", type=int, required=True, help="Output tokens of each.")
@click.option("--efficiency", default="ideal", show_default=True, help="A calibration.")
@picture_option
@force_picture_option
@json_option
@configs_option
@click.pass_context
def explain(
    context: click.Context,
    /,
    model: str,
    hardware: str,
    precision: str,
    efficiency: str,
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
    **numbers: int | None,
) -> None:
    """Take one cell apart: time by operator, what binds it, and what each resource is worth.

    A static batch: its prefill, one decode step at the mean context, memory, and by how many
    percent times and throughput move for one percent more bandwidth, compute and so on.
    """
    check_picture(output, force=force)
    from sweep import explanation as told
    from sweep.compilation import use_compilation_cache
    from sweep.fitted import load_efficiency
    from sweep.grid import Grid

    axes: dict[str, Any] = {axis: [value] for axis, value in numbers.items() if value is not None}
    names: dict[str, Any] = {"models": [model], "hardware": [hardware], "precision": [precision]}
    grid = Grid(**names, **axes, variables=["ttft"])
    fitted = load_efficiency(efficiency)
    use_compilation_cache()
    found = told.explain(grid, catalog=catalog_of(context, configs), efficiency=fitted)
    if output is not None:
        from sweep.decision_plots import explanation_figure
        from sweep.plots import save_figure

        save_figure(explanation_figure(found), output)
    if as_json:
        click.echo(json.dumps(told.as_json(found), indent=2))
        return
    click.echo(told.title(found))
    if found.reasons:
        click.echo(f"cannot run: {', '.join(found.reasons)}; figures are arithmetic, not an offer")
    for phase in found.phases:
        click.echo(f"{phase.name}, {phase.tokens:,.0f} tokens of context, per GPU:")
        print_rows(told.operator_rows(phase), as_json=False)
    for rows in (told.figure_rows(found), told.elasticity_rows(found)):
        print_rows(rows, as_json=False)


@click.command()
def recommend() -> None:
    """Rank deployments."""
