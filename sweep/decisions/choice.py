"""A choice among deployments: from what is asked to the ranking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import xarray as xr

from sweep.decisions.arrivals import with_waits
from sweep.decisions.deployment_sweep import P99, sweep_deployments
from sweep.decisions.deployment_table import read_deployments
from sweep.decisions.deployments import Deployments, Offer, joined
from sweep.decisions.machines_on_offer import shared_offers
from sweep.decisions.prices import by_entry
from sweep.decisions.recommend import Demand, Recommendation, check_prices, recommend
from sweep.decisions.reserves import fixed_reserve
from sweep.decisions.rivals import recorded_calibration
from sweep.engines.calibration_file import Calibration, calibration_of, load_calibration
from sweep.engines.known import ENGINES, engine_of
from sweep.errors import ResultError, SpecError
from sweep.specs.catalog import Catalog
from sweep.specs.shipped import PREDICTIONS, is_shipped_calibration


@dataclass(frozen=True)
class Choice:
    """Requests, the deployments that may serve them, and the criterion of their ranking.

    Attributes:
        model: Name, Hugging Face identifier or path of a config; `None` for the only one of a
            result.
        isl: Input tokens of each request; `None` for the only number of a result. [count]
        osl: Output tokens of each request; `None` for the only number of a result. [count]
        offer: Deployments to choose from.
        demand: Load, limits and criterion.
        prices: Hourly prices of accelerators on offer, by names that may be short. [USD]
        price_list: Hourly prices of any accelerators, which `prices` replace. [USD]
        requests_axes: Values of `draft_tokens`, and of `WORKLOAD_AXES` and `SERVER`, one of each
            of these.
        draft_model: The model that drafts tokens; a layer of the model's kind if not given.
        every_layout: Whether to rank every layout, not only the best of each accelerator.
    """

    model: str | None
    isl: int | None
    osl: int | None
    offer: Offer = field(default_factory=Offer)
    demand: Demand = field(default_factory=Demand)
    prices: Mapping[str, float] = field(default_factory=dict)
    price_list: Mapping[str, float] = field(default_factory=dict)
    requests_axes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    draft_model: str | None = None
    every_layout: bool = False

    def by_sweep(
        self,
        catalog: Catalog,
        calibration: Calibration | None,
        others: Sequence[Calibration] = (),
    ) -> Recommendation:
        """Rank deployments that a new sweep predicts.

        Args:
            catalog: Where to look names up.
            calibration: A calibration; ideal rooflines if not given.
            others: Calibrations that predict accelerators on which its engine does not run.

        Raises:
            SpecError: A name is unknown, or the model or a length is missing.
        """
        if self.model is None or self.isl is None or self.osl is None:
            raise SpecError("recommend needs model, isl and osl, or results")
        shares = shared_offers(self.offer, catalog, calibration, others)
        found, refused = [], []
        for known, offer in shares:
            try:
                found.append(self._swept(offer, catalog, known))
            except SpecError as error:
                if known is calibration or not found:
                    raise
                refused.append(f"left out: {', '.join(offer.hardware)}: {error}")
        return self._among(joined(found, refused), catalog)

    def _swept(
        self, offer: Offer, catalog: Catalog, calibration: Calibration | None
    ) -> Deployments:
        return sweep_deployments(
            str(self.model),
            offer,
            isl=int(self.isl or 0),
            osl=int(self.osl or 0),
            concurrency=self.demand.concurrency,
            catalog=catalog,
            calibration=calibration,
            requests_axes=self.requests_axes,
            draft_model=self.draft_model,
            replicas=self.demand.replicas,
            limits=self.demand.limits,
            burstiness=self.demand.shape,
            num_requests=self.demand.num_requests,
        )

    def from_results(self, results: xr.Dataset, catalog: Catalog) -> Recommendation:
        """Rank the deployments of a result.

        Args:
            results: A result.
            catalog: Where to look up the specifications behind its names.

        Raises:
            ResultError: The result lacks what is needed.
        """
        self._check_percentiles(results)
        deployments = read_deployments(
            results,
            self.offer,
            catalog=catalog,
            model=self.model,
            isl=self.isl,
            osl=self.osl,
            concurrency=self.demand.concurrency,
            replicas=self.demand.replicas,
        )
        known = recorded_calibration(deployments.calibration)
        if isinstance(known, Calibration):
            kept = {deployments.calibration: (known.engine, fixed_reserve(known))}
            deployments = replace(deployments, reserves=kept)
        return self._among(deployments, catalog)

    def _check_percentiles(self, results: xr.Dataset) -> None:
        """Check that a result has the percentiles that have a limit.

        Raises:
            ResultError: It lacks one.
        """
        for limit, variable in P99.items():
            if getattr(self.demand.limits, limit) is not None and variable not in results:
                raise ResultError(
                    f"the result has no {variable}, which --{limit.replace('_', '-')} limits; "
                    "sweep it too, or leave the limit out"
                )

    def all_prices(self, catalog: Catalog) -> dict[str, float]:
        """Hourly price of one accelerator by the name of its entry. [USD]"""
        return {**self.price_list, **self._named_prices(catalog)}

    def _named_prices(self, catalog: Catalog) -> dict[str, float]:
        return by_entry(self.prices, list(catalog.paths("hardware")))

    def _among(self, deployments: Deployments, catalog: Catalog) -> Recommendation:
        check_prices(self._named_prices(catalog), deployments)
        prices = self.all_prices(catalog)
        return with_waits(
            recommend(deployments, self.demand, prices=prices, every_layout=self.every_layout)
        )


def calibrations_of(
    given: Calibration | str | Path | None, usual: str = PREDICTIONS
) -> tuple[Calibration | None, list[Calibration]]:
    """The calibration that is asked for, and those for accelerators that it does not cover.

    Args:
        given: A calibration, its name or its file.
        usual: Name of the one that is used if none is given. It is completed by shipped ones of
            engines that run on other accelerators.

    Raises:
        SpecError: It is unknown or malformed.
    """
    if given is not None:
        return calibration_of(given), []
    main = load_calibration(usual)
    covering = engine_of(usual)
    names = [
        name
        for name, engine in ENGINES.items()
        if is_shipped_calibration(name) and not covering.covers(engine)
    ]
    loaded = map(load_calibration, names)
    return main, [each for each in loaded if each is not None]
