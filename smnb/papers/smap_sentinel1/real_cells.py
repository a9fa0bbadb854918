"""Real cells of 36 km: samples of the paper's network; estimates at 1 km against the product, flights and stations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from smnb.catalog import Catalog
from smnb.grids import M01, M09, EaseWindow
from smnb.loaders.insitu import InSituTables
from smnb.loaders.smap.cells import CLOCK
from smnb.loaders.smap.records import image_means
from smnb.maps.cells import archive_cells
from smnb.metrics import compare, pair_scores
from smnb.metrics.flights import score_flights
from smnb.models.disaggregation import DisaggregationEnsemble
from smnb.papers.smap_sentinel1.cells import BackscatterRecord
from smnb.papers.smap_sentinel1.cutting import SceneProducts, readings_at
from smnb.papers.smap_sentinel1.disaggregation import DisaggregationTraining, PixelEstimator, train_disaggregation

CELL_IDS = ("smap_s1_cells", "smap_9km_cells", "ismn_conus", "pals_smapvex16")
_LEAST, _ROWS = 100, 120_000  # pixels of a scene that is scored, and of the regressions
_EPOCH = np.datetime64("2015-01-01", "ns")
_FLOWN = np.timedelta64(26, "h")  # between a flight and the scene that is compared with it


def open_cell_records(catalog: Catalog, root: Path) -> list[BackscatterRecord]:
    """The archive's cells that have a stack of scenes."""
    opened = archive_cells(catalog, root, CELL_IDS[0], resolution="1km")
    return [BackscatterRecord.from_datasets(*parts) for _, *parts in opened]


def cell_products(records: Sequence[BackscatterRecord]) -> list[SceneProducts]:
    """The cells as places of `FusionSamples`: **SMAP's 9 km soil moisture stands for both brightness temperatures**."""
    found = []
    for record in records:
        at_nine, at_one = (record.window.on(grid).coords() | {"time": record.time} for grid in (M09, M01))
        smap, dims = record.smap_at(record.time)[0], ("time", "y", "x")
        both = np.stack([smap, smap], 1), {**at_nine, "channel": ["1.41H", "1.41V"]}
        passive = xr.Dataset({"soil_moisture": (dims, smap)}, at_nine)
        passive["tb"] = xr.DataArray(*both, ("time", "channel", "y", "x"))
        passive["observation_time"] = dims, np.broadcast_to(record.time[:, None, None], smap.shape).copy()
        power = np.stack([record.vv, record.vh], 1), {**at_one, "polarization": ["VV", "VH"]}
        sigma0 = 10 * np.log10(xr.DataArray(*power, ("time", "polarization", "y", "x")))
        product = xr.DataArray(record.fine, at_one, dims)
        found.append(SceneProducts(record.name, f"{record.name}, SMAP 9 km soil moisture", sigma0, passive, product))
    return found


def _images(estimator: PixelEstimator, chosen: NDArray) -> dict[str, NDArray]:
    """Estimates of some of a record's scenes (bool), by name, (scene, 36, 36), m3 m-3."""
    record, times = estimator.record, estimator.record.time[chosen]
    made = [estimator.image(time) for time in times]
    smap, apart = (np.kron(record.smap_at(one)[0], np.ones((1, 9, 9))) for one in (times, record.time))
    apart = record.fine - np.where(np.isfinite(record.fine), apart, np.nan)
    apart -= image_means(apart)[:, None, None]
    past = (apart[record.time < time - CLOCK] for time in times)
    residual = np.array([np.nansum(one, 0) / (np.isfinite(one).sum(0) + 5) for one in past])
    return {
        "SMAP 9 km": smap,
        "SMAP + ¼ mean past residual": smap + 0.25 * residual,
        "SMAP between centres": np.array([estimator.known.at(time, time)[2].between for time in times]),
        "NASA's product": record.fine[chosen],
        **{f"ours, {name}": np.array([one[name] for one in made]) for name in ("product", "cautious")},
    }


def _pixels(estimator: PixelEstimator, chosen: NDArray) -> tuple[NDArray, NDArray]:
    """Inputs of pixels (scene, 36, 36, input): those of `MAPS` and `STATE`; and SMAP's levels (scene, 1, 1)."""
    known = [estimator.known.at(time, time) for time in estimator.record.time[chosen]]
    state = [np.broadcast_to(one[1][:, None, None], (len(one[1]), 36, 36)) for one in known]
    inputs = np.stack([np.concatenate([one[0], own]) for one, own in zip(known, state, strict=True)])
    return np.moveaxis(inputs, 1, -1), np.array([one[2].level for one in known])[:, None, None]


def product_table(
    records: Sequence[BackscatterRecord], *, first_test: str = "2019-01-01", seed: int = 0
) -> pd.DataFrame:
    """Agreement with the product within scenes: trained before a day, scored from it on; ridge and boosting see the same maps.

    By method ``ubrmse`` and ``bias`` m3 m-3, ``r``, means over scenes, and the mean ``gain`` over it of ours in ubRMSE with the
    limits of its 95 % interval over scenes in blocks of sixty days; negative where ours is nearer.
    """
    late = [record.time >= np.datetime64(first_test) for record in records]
    ensemble = train_disaggregation(records, [~one for one in late], DisaggregationTraining(seed=seed))
    estimators = [PixelEstimator(ensemble, record) for record in records]
    inputs, targets = [], []
    for estimator, test in zip(estimators, late, strict=True):
        (values, level), fine = _pixels(estimator, ~test), estimator.record.fine[~test]
        inputs.append(values[np.isfinite(fine)])
        targets.append((fine - level)[np.isfinite(fine)])
    x, y = np.concatenate(inputs), np.concatenate(targets)
    drawn = np.random.default_rng(seed).permutation(len(y))[:_ROWS]
    models = {"ridge": Ridge(10.0), "boosting": HistGradientBoostingRegressor(max_iter=200, random_state=seed)}
    models = {name: model.fit(x[drawn], y[drawn]) for name, model in models.items()}
    rows = []
    for estimator, test in zip(estimators, late, strict=True):
        images = _images(estimator, test)
        truth, (values, level) = images.pop("NASA's product"), _pixels(estimator, test)
        for name, model in models.items():
            images[name] = model.predict(values.reshape(-1, values.shape[-1])).reshape(truth.shape) + level
        for number, time in enumerate(estimator.record.time[test]):
            there = np.isfinite(truth[number])
            if there.sum() >= _LEAST:
                for name, image in images.items():
                    found = pair_scores(image[number][there], truth[number][there])
                    about = {"method": name, "scene": f"{estimator.record.name} {time}"}
                    rows.append(about | {"block": (time - _EPOCH) // np.timedelta64(60, "D"), **found})
    table = pd.DataFrame(rows)
    wide = table.pivot(index="scene", columns="method", values="ubrmse")
    blocks = table.groupby("scene")["block"].first()
    result = table.groupby("method", sort=False)[["n", "ubrmse", "r", "bias"]].mean().assign(n=len(wide))
    for name in result.index.drop("ours, product"):
        gain = compare(wide["ours, product"], wide[name], "ubrmse", clusters=blocks, seed=seed).difference
        result.loc[name, ["gain", "low", "high"]] = gain.value, gain.low, gain.high
    return result.rename(columns={"n": "scenes"})


def flight_scores(
    ensemble: DisaggregationEnsemble, records: Sequence[BackscatterRecord], flights: xr.Dataset
) -> pd.DataFrame:
    """Against PALS: means over the flights with a scene within 26 hours, of a network that did not see their year."""
    window, asked, canvas = EaseWindow.from_dataset(flights), flights["time"].values.astype("datetime64[ns]"), {}
    for record in records:
        nearest = np.abs(record.time[:, None] - asked).argmin(0)
        close = np.abs(record.time[nearest] - asked) <= _FLOWN
        rows, cols = window.slices_of(record.window.on(M01)) or (None, None)
        if rows is None or not close.any():
            continue
        for name, images in _images(PixelEstimator(ensemble, record), nearest[close]).items():
            canvas.setdefault(name, np.full((asked.size, *window.shape), np.nan))[close, rows, cols] = images
    scores = score_flights(canvas, flights, common="NASA's product")
    return scores.groupby("method", sort=False).mean(numeric_only=True).assign(flights=scores.groupby("method").size())


def pixel_station_scores(
    ensemble: DisaggregationEnsemble, records: Sequence[BackscatterRecord], insitu: InSituTables
) -> pd.DataFrame:
    """At 1 km pixels of stations, readings within 90 minutes; ``r_apart`` is of departures from a scene's mean of stations."""
    row, col = M01.rowcol(insitu.sensors["lat"].to_numpy("float64"), insitu.sensors["lon"].to_numpy("float64"))
    sensors, found = insitu.sensors.assign(row=row, col=col), []
    for record in records:
        readings = readings_at(insitu, sensors, record.window.on(M01), record.time, "90min")
        pixels = readings.groupby(["time_index", "row", "col"])["soil_moisture"].mean().reset_index()
        if len(pixels):
            numbers, scene = np.unique(pixels["time_index"].to_numpy("int64"), return_inverse=True)
            images = _images(PixelEstimator(ensemble, record), numbers)
            at = {name: image[scene, pixels["row"], pixels["col"]] for name, image in images.items()}
            found.append(pixels.assign(scene=record.name + pixels["time_index"].astype(str), **at).dropna())
    table = pd.concat(found)
    names = table.columns[5:]
    apart = table[["soil_moisture", *names]] - table.groupby("scene")[["soil_moisture", *names]].transform("mean")
    rows = {name: pair_scores(table[name], table["soil_moisture"]) for name in names}
    return pd.DataFrame(rows).T.assign(r_apart=[apart[name].corr(apart["soil_moisture"]) for name in names])


def real_tables(
    ensemble: DisaggregationEnsemble, records: Sequence[BackscatterRecord], catalog: Catalog, root: Path
) -> pd.DataFrame:
    """Scores of real cells side by side, by method: against the product, flights and stations; empty without cells."""
    if not records:
        return pd.DataFrame()
    flights = catalog.open(CELL_IDS[3], root, resolution="1km")
    tables = {
        "agreement with the product": product_table(records),
        "against PALS": flight_scores(ensemble, records, flights),
        "at stations": pixel_station_scores(ensemble, records, catalog.open(CELL_IDS[2], root)),
    }
    return pd.concat(tables, axis=1)
