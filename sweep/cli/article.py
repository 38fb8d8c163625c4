"""Commands that reproduce the figures of an article: `article-rooflines`, `-meshes`, `-table`.

Heavy packages are imported inside the commands that need them.
"""

from pathlib import Path

import click

from sweep.cli.options import (
    MODEL,
    catalog_of,
    check_picture,
    configs_option,
    force_picture_option,
    json_option,
    picture_option,
    print_comparisons,
    print_rows,
)
from sweep.cli.parameters import Listed


@click.command("article-rooflines")
@click.option("--linear", is_flag=True, help="Draw linear axes instead of logarithmic ones.")
@picture_option
@force_picture_option
@json_option
@configs_option
@click.pass_context
def article_rooflines(
    context: click.Context,
    /,
    linear: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Print the ridge points of A100, H20, A800, L40S, L20 and RTX 4090; draw their rooflines."""
    check_picture(output, force=force)
    from sweep.article.contents import roofs
    from sweep.cli.catalog_tables import ridge_rows

    specs = roofs(catalog_of(context, configs))
    rows = ridge_rows(specs, "half")
    if output is not None:
        from sweep.decisions.figures.rooflines import roofline_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(roofline_figure(specs, "half", linear=linear), output, force=force)
    print_rows(rows, as_json=as_json)


@click.command("article-meshes")
@click.option(
    "--model", "models", cls=Listed, type=MODEL, help="Models. Default: the article's four."
)
@picture_option
@force_picture_option
@json_option
@configs_option
@click.pass_context
def article_meshes(
    context: click.Context,
    /,
    models: tuple[str, ...],
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Compare decode on A100 and H20 by two methods: print who is ahead where, and draw maps.

    The maps are over batch size and context length, for LLaMA-2 13B and 70B, Mistral 7B and
    Mixtral 8x7B.
    """
    check_picture(output, force=force)
    from sweep.article.contents import meshes
    from sweep.runs.jit_cache import use_compilation_cache

    use_compilation_cache()
    comparisons = meshes(catalog_of(context, configs), models)
    if output is not None:
        from sweep.decisions.figures.comparison import comparison_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(comparison_figure(comparisons), output, force=force)
    print_comparisons(comparisons, as_json=as_json)


@click.command("article-table")
@picture_option
@force_picture_option
@json_option
@configs_option
@click.pass_context
def article_table(
    context: click.Context,
    /,
    output: Path | None,
    force: bool,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Compare four published TensorRT-LLM throughputs with LLM-Viewer's estimates and ours."""
    check_picture(output, force=force)
    from sweep.article.contents import table
    from sweep.article.published import published_rows
    from sweep.runs.jit_cache import use_compilation_cache

    use_compilation_cache()
    published, compared = table(catalog_of(context, configs))
    if output is not None:
        from sweep.article.figures import published_figure
        from sweep.decisions.figures.style import save_figure

        save_figure(published_figure(published, compared), output, force=force)
    print_rows(published_rows(published, compared, as_json=as_json), as_json=as_json)
