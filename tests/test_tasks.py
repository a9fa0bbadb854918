"""From Datasets to a task: what is drawn, what is masked, what must not leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from smnb.catalog import Catalog
from smnb.contract import ContractError, ParameterError, stamp
from smnb.grids import koppen
from smnb.loaders.conus import open_conus_patches
from smnb.papers.hu2018_amsre.tasks import amsre_task, conus_task, open_task, target_on_grid

CHANNELS = ["6.9H", "6.9V", "10.7H", "10.7V"]
LAT, LON = np.arange(-89, 90, 2.0), np.arange(-179, 180, 2.0)


def make_target(days: int = 4, first: str = "2011-07-01") -> xr.Dataset:
    """A 3° reanalysis: 0.3 over land, and 0 over sea as such files have it."""
    lat, lon = np.arange(-88.5, 90, 3.0), np.arange(-178.5, 180, 3.0)
    land = koppen.land_fraction(lat, lon) >= 0.5
    field = np.where(land, 0.3, 0.0).astype("float32")
    coords = {"time": pd.date_range(first, periods=days), "lat": lat, "lon": lon}
    values = np.repeat(field[None], days, axis=0)
    ds = xr.Dataset({"soil_moisture": (("time", "lat", "lon"), values, {"units": "m3 m-3"})}, coords)
    return stamp(ds, source="test", catalog_id="test", synthetic=False, step="made")


def make_inputs(days: int = 4, first: str = "2011-07-01") -> xr.Dataset:
    values = np.random.default_rng(0).uniform(180, 290, (days, 4, LAT.size, LON.size)).astype("float32")
    coords = {"time": pd.date_range(first, periods=days), "channel": CHANNELS, "lat": LAT, "lon": LON}
    ds = xr.Dataset({"tb": (("time", "channel", "lat", "lon"), values, {"units": "K"})}, coords)
    return stamp(ds, source="test", catalog_id="test", synthetic=True, step="made")


def test_the_seas_zeros_do_not_dilute_the_coast() -> None:
    inputs = make_inputs()
    field = target_on_grid(make_target(), inputs["lat"], inputs["lon"])
    assert float(field.min()) == pytest.approx(0.3, abs=1e-6)
    assert float(field.max()) == pytest.approx(0.3, abs=1e-6)
    assert field.dtype == "float32"
    assert bool(field.sel(lat=-31, lon=-41, time="2011-07-01").isnull())  # South Atlantic


def test_only_the_last_day_tests_and_statistics_come_from_the_others() -> None:
    inputs = make_inputs()
    inputs["tb"][-1] += 60.0
    task = amsre_task(inputs, make_target(), n_train=200, n_validation=40, n_test=300, seed=1)
    (fold,) = task.folds
    assert set(fold.test.image) == {3}
    assert set(fold.train.image) == set(fold.validation.image) == {0, 1, 2} == set(fold.fit_images)
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (600, 120, 300)
    task.target += (
        np.random.default_rng(0).normal(0, 0.01, task.target.shape).astype("float32")
    )  # a scale needs a spread
    inputs_scaler, target_scaler = task.scalers(fold)
    assert max(inputs_scaler.maximum) <= 290.0
    assert target_scaler.maximum[0] == fold.train.take(task.target).max()
    assert task.wrap
    assert task.is_global
    assert task.synthetic  # one simulated side is enough


def test_ice_sheets_and_sea_are_never_centres() -> None:
    task = amsre_task(make_inputs(), make_target(), n_train=100_000, n_validation=10, n_test=100_000, seed=1)
    (fold,) = task.folds
    classes = set(koppen.koppen_class(LAT[fold.test.row], LON[fold.test.col]))
    assert "EF" not in classes
    fraction = koppen.land_fraction(LAT, LON)[fold.test.row, fold.test.col]
    assert fraction.min() >= 0.5


def test_missing_observations_are_no_centres_and_are_counted() -> None:
    inputs = make_inputs()
    inputs["tb"][:, 0, :, :90] = np.nan  # the western hemisphere, in one channel
    task = amsre_task(inputs, make_target(), n_train=500, n_validation=50, n_test=500)
    assert (LON[task.folds[0].train.col] > 0).all()
    assert task.notes["observed_fraction_of_land"] < 1


def test_no_common_days_and_no_target_are_clear_errors() -> None:
    with pytest.raises(ContractError, match="common"):
        amsre_task(make_inputs(), make_target(first="2012-07-01"))
    empty = make_target()
    empty["soil_moisture"][:] = np.nan
    with pytest.raises(ContractError, match="no eligible patch"):
        amsre_task(make_inputs(), empty)
    regional = make_target().sel(lat=slice(30, 60), lon=slice(0, 40))
    inputs = make_inputs().sel(lat=slice(-60, -30))
    with pytest.raises(ContractError, match="overlap"):
        amsre_task(inputs, regional)


def test_unknown_source_is_named() -> None:
    with pytest.raises(ParameterError, match="conus_patches"):
        open_task("amsr2", Catalog.load(), Path())


def test_conus_folds_leave_the_region_and_the_year_out(shared_samples: Path) -> None:
    files = sorted((shared_samples / "conus_s1s2smap_2019_2021").glob("region_*.nc"))
    task = conus_task(open_conus_patches(files, catalog_id="conus_s1s2smap"))
    assert len(task.folds) == 7  # of eight regions one has no Sentinel-1 and so no complete pixel
    assert task.notes["regions_without_a_complete_pixel"] == 1
    assert not task.synthetic
    region, year = task.labels["region"].to_numpy(), task.labels["time"].dt.year.to_numpy()
    for fold in task.folds:
        tested, held = set(region[fold.test.image]), set(region[fold.validation.image])
        assert len(tested) == len(held) == 1
        assert not tested & held
        assert not (tested | held) & set(region[fold.train.image])
        assert set(year[fold.test.image]) == {2021}
        assert max(year[fold.train.image].max(), year[fold.validation.image].max()) < 2021
        assert not set(region[fold.fit_images]) & tested
        for part in (fold.train, fold.validation, fold.test):
            assert np.isfinite(part.take(task.target)).all()
            assert np.isfinite(part.take(task.images)).all()
    with pytest.raises(ParameterError, match="test_year"):
        conus_task(open_conus_patches(files, catalog_id="conus_s1s2smap"), test_year=2019)
