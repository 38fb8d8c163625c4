"""Options of `recommend` that exclude or need one another, and the axes that they set."""

from collections.abc import Mapping
from typing import Any

import click

from sweep.cli.loads import check_arrivals, check_run
from sweep.cli.options import check_picture, check_text
from sweep.cli.requests import request_axes
from sweep.cli.servers import server_axes

MANIFESTS = ("kubernetes", "dynamo")
"""Kinds of manifests of two pools."""
POOLS_LACK = {
    **dict.fromkeys(
        ("max_ttft_p99", "max_tpot_p99"), "requests at pools arrive evenly, without percentiles"
    ),
    "replicas": "it finds the number of instances of each pool",
    "every_layout": "it ranks the best layouts of each pair of accelerators",
    "front": "it has no Pareto front",
}
"""Options that do not apply to pairs of pools, with the reason."""
SPREADS = ("isl_cv", "osl_cv", "scheduler")
REQUESTS = (
    *("prefix_hit_rate", "shared_prefix_tokens", "draft_tokens", "acceptance_rate"),
    *("acceptance_length", "draft_model"),
)


def checked_axes(given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Values of the axes that the options set, after all checks of the options together.

    Args:
        given: Values of the options by parameter, `None` where one is not given.

    Raises:
        UsageError: Options exclude one another, or one is missing.
    """
    _check_output(given)
    _check_loads(given)
    _check_question(given)
    asked = request_axes(**{name: given[name] for name in REQUESTS})
    shared = server_axes(given)
    shared = {name: given[name] for name in SPREADS if given[name] is not None} | shared
    if given["disaggregated"] and shared:
        raise click.UsageError(
            "--disaggregated is for requests of equal lengths and pools without a shared "
            f"scheduler or setting; leave {' and '.join(map(_option, shared))} out"
        )
    axes = asked | {axis: [value] for axis, value in shared.items()}
    if given["source"] is not None and axes:
        raise click.UsageError(
            "the result of --from has its own requests, servers and drafts; leave "
            f"{_option(next(iter(axes)))} out"
        )
    return axes


def _check_output(given: Mapping[str, Any]) -> None:
    emit, pools = given["emit"], given["disaggregated"]
    if emit is None and not pools:
        check_picture(given["output"], force=given["force"])
    elif given["output"] is not None:
        check_text(given["output"], force=given["force"], as_json=given["as_json"])
    if emit is not None and given["as_json"]:
        raise click.UsageError("--emit prints a script, not JSON; leave --json out")
    if emit is not None and pools != (emit in MANIFESTS):
        raise click.UsageError(
            f"--emit: manifests ({' and '.join(MANIFESTS)}) are for two pools, and scripts for one "
            "server; give --disaggregated with a manifest only"
        )


def _check_loads(given: Mapping[str, Any]) -> None:
    if given["transfer_bandwidth"] is not None and not given["disaggregated"]:
        raise click.UsageError("--transfer-bandwidth needs --disaggregated")
    if given["disaggregated"] and not given["source"] is given["concurrency"] is None:
        raise click.UsageError(
            "--disaggregated sweeps pools of its own and their loads; leave --from and "
            "--concurrency out"
        )
    for name, why in POOLS_LACK.items():
        if given["disaggregated"] and given[name]:
            raise click.UsageError(f"--disaggregated: {why}; leave {_option(name)} out")
    others = {
        "--concurrency": given["concurrency"],
        "--requests-per-s": given["requests_per_s"],
        "--from": given["source"],
        "--disaggregated": given["disaggregated"] or None,
    }
    rate = given["request_rate"]
    check_run(given["num_requests"], {**others, "--request-rate": rate})
    check_arrivals(request_rate=rate, burstiness=given["burstiness"], others=others)


def _check_question(given: Mapping[str, Any]) -> None:
    source = given["source"]
    if source is None and None in (given["model"], given["isl"], given["osl"]):
        raise click.UsageError("give --model, --isl and --osl, or --from with a result")
    if source is not None and given["calibration"] is not None:
        raise click.UsageError(
            "the result of --from has its own calibration; leave --calibration out"
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
