"""Estimates against airborne soil moisture, which say whether the detail that they add is real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from smnb.catalog import Catalog
from smnb.grids import EaseWindow
from smnb.loaders.smap.records import CellRecord
from smnb.maps.cells import archive_cells, overpasses_near
from smnb.metrics.flights import flight_spectra, score_flights
from smnb.models.past_scenes import PastScenesEnsemble
from smnb.papers.smen.cells import known_at
from smnb.papers.smen.estimation import CellEstimator
from smnb.papers.smen.past_references import past_mean

FLIGHT_ID = "pals_smapvex16"


def open_flights(catalog: Catalog, root: Path) -> tuple[xr.Dataset, list[CellRecord]]:
    """Flights at 3 km, and the records of the cells that they cross: stacks of scenes, pairs where there is no stack."""
    flights, records = catalog.open(FLIGHT_ID, root, resolution="3km"), {}
    window = EaseWindow.from_dataset(flights)
    for name, *parts in archive_cells(
        catalog, root, "smap_s1_pairs", "smap_s1_cells"
    ):  # of a cell that has both, the stack
        if window.slices_of(EaseWindow.from_dataset(parts[0])) is not None:
            records[name] = CellRecord.from_datasets(*parts)
    return flights, list(records.values())


def flight_estimates(estimators: Sequence[CellEstimator], flights: xr.Dataset) -> dict[str, NDArray]:
    """Estimate the cells that flights cross, at SMAP's overpasses nearest to them: by name, (flight, y, x) at 3 km, m3 m-3.

    The rows are SMAP as it is and between cell centres, the product nearest in time within two days (which is no estimate: it may
    be of the day itself), SMAP with a quarter of the mean past residual shrunk by five, and the estimators' two details.
    """
    window, asked = EaseWindow.from_dataset(flights), flights["time"].values.astype("datetime64[ns]")
    found: dict[str, NDArray] = {}
    for estimator in estimators:
        record = estimator.record
        there, overpass = overpasses_near(record, asked)
        rows, cols = window.slices_of(record.window.on(window.grid)) or (None, None)
        if rows is None:
            continue
        for name, images in _rows(estimator, record, asked[there], overpass[there]).items():
            found.setdefault(name, np.full((asked.size, *window.shape), np.nan))[there, rows, cols] = images
    return found


def _rows(estimator: CellEstimator, record: CellRecord, asked: NDArray, overpass: NDArray) -> dict[str, NDArray]:
    before = np.minimum(asked, overpass)
    known = known_at(record, overpass, before)
    level, now = known.level[:, None, None], known.inputs.now.double().numpy()
    residual = past_mean(known, np.ones(known.inputs.earlier.shape), shrink=5.0)
    nearest = np.abs(record.time[:, None] - asked).argmin(0)
    close = np.abs(record.time[nearest] - asked) <= np.timedelta64(48, "h")
    product = np.where(close[:, None, None], record.fine[nearest], np.nan)
    details = [estimator.image(t, b) for t, b in zip(overpass, before, strict=True)]
    return {
        "SMAP 9 km": known.smap,
        "SMAP between centres": level + now[:, 1],
        "product within two days": product,
        "SMAP + ¼ mean past residual": known.smap + 0.25 * residual,
        **{f"ours, {name}": np.array([one[name] for one in details]) for name in ("product", "cautious")},
    }


def flight_tables(ensemble: PastScenesEnsemble, catalog: Catalog, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means over flights of `score_flights`, of a network that did not see their year, and spectra; empty without flights."""
    if not catalog.holds(FLIGHT_ID, root):
        return pd.DataFrame(), pd.DataFrame()
    flights, records = open_flights(catalog, root)
    images = flight_estimates([CellEstimator(ensemble, one) for one in records], flights)
    scores = score_flights(images, flights)
    table = scores.groupby("method", sort=False).mean(numeric_only=True)
    return table.assign(flights=scores.groupby("method").size()).reset_index(), flight_spectra(images, flights)
