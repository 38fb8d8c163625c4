"""Pools of their own for prompts and for decoding, as `recommend --disaggregated` prints them.

Heavy packages are imported inside the functions that need them.
"""

import json
from typing import TYPE_CHECKING, Any

import click

from sweep.cli.launch import CHECK_FAILED
from sweep.cli.options import print_rows
from sweep.cli.print_tables import print_text

if TYPE_CHECKING:
    from sweep.decisions.choice import Choice
    from sweep.engines.calibration_file import Calibration
    from sweep.specs.catalog import Catalog


class Pools:
    """Pairs of a prefill pool and a decode pool, beside the best single pool."""

    def __init__(
        self,
        choice: "Choice",
        catalog: "Catalog",
        calibration: "Calibration | None",
        transfer_bandwidth: float | None,
    ) -> None:
        """Rank the pairs.

        Args:
            choice: Requests, deployments and limits.
            catalog: Where to look names up.
            calibration: A calibration; ideal rooflines if not given.
            transfer_bandwidth: Bandwidth between the pools; that of the network if not given.
                [byte/s]
        """
        from sweep.decisions.disaggregated_sweep import best_pairs

        self.choice, self.catalog, self.calibration = choice, catalog, calibration
        self.best, self.one_pool = best_pairs(choice, catalog, calibration, transfer_bandwidth)

    def emit(self, target: Any) -> int:
        """Print the manifest of the first pair; its refusal goes to standard error."""
        from sweep.decisions import disaggregated_text
        from sweep.decisions.launch_manifest import PoolRequest, check_requests, manifest

        choice = self.choice
        check_requests(choice.requests_axes)
        if not self.best:
            click.echo(disaggregated_text.sentence(self.best, self.one_pool), err=True)
            return CHECK_FAILED
        model = self.catalog.model(str(choice.model))
        request = PoolRequest(model, int(choice.isl or 0), int(choice.osl or 0), self.calibration)
        click.echo(manifest(self.best[0], request, target, catalog=self.catalog))
        return 0

    def show(self, top: int, *, as_json: bool) -> int:
        """Print the ranking of the pairs."""
        from sweep.decisions import disaggregated_text

        if as_json:
            text = json.dumps(disaggregated_text.as_json(self.best, self.one_pool), indent=2)
            click.echo(text)
        else:
            print_text(disaggregated_text.sentence(self.best, self.one_pool))
            if self.best:
                rows = disaggregated_text.rows(self.best[:top], self.choice.demand.by)
                print_rows(rows, as_json=False)
            for note in disaggregated_text.notes(self.best, self.one_pool):
                print_text(f"({note})")
        return 0 if self.best else CHECK_FAILED
