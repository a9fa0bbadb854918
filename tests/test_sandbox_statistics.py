"""The sandbox's statistics beside real samples': the measures themselves, the archive's figures, and the real ones again."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from smnb.grids import EaseWindow
from smnb.loaders.smap import open_cell_scenes, open_pals
from smnb_sandbox import GENERATOR_VERSION, read_manifest
from smnb_sandbox.files import table
from smnb_sandbox.statistics import (
    compare_statistics,
    insitu_statistics,
    mean_correlation,
    passive_statistics,
    residuals,
    scene_statistics,
)

GROUPS, REAL = table("statistics")["insitu"], table("statistics")["real"]


def real_values(group: str) -> dict[str, float]:
    return {name: real for name, (real, _) in REAL[group]["values"].items()}


def test_in_situ_statistics_are_those_of_the_series(tmp_path):
    rng = np.random.default_rng(3)
    days, memory, noise = 1500, 0.9, 0.002
    level = np.empty(days)
    level[0] = rng.standard_normal()
    for day in range(1, days):
        level[day] = memory * level[day - 1] + np.sqrt(1 - memory**2) * rng.standard_normal()
    value = 0.25 + 0.03 * np.interp(np.arange(24 * days) / 24.0, np.arange(days), level)
    value = value + noise * rng.standard_normal(value.size)
    times = pd.date_range("2015-01-01", periods=value.size, freq="h").strftime("%Y/%m/%d %H:%M")
    lines = [
        "NET NET one 40.0 -100.0 300.0 0.05 0.05 probe",
        *(f"{t} {v:.5f} G M" for t, v in zip(times, value, strict=True)),
    ]
    path = tmp_path / "NET" / "one" / "NET_NET_one_sm_0.050000_0.050000_probe_20150101_20190208.stm"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([*lines, ""]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, path.relative_to(tmp_path))
    found = insitu_statistics([tmp_path / "a.zip"], "01-01 12-31", 500)
    daily = pd.Series(value).groupby(np.arange(value.size) // 24).mean()
    assert found["lag 1"] == pytest.approx(daily.autocorr(1), abs=1e-3)
    assert found["lag 7"] == pytest.approx(daily.autocorr(7), abs=1e-3)
    assert found["sd"] == pytest.approx(daily.std(), abs=1e-4)
    # the largest tenth of the differences is held at its edge, which takes a tenth of the noise
    assert found["hourly noise"] == pytest.approx(0.9 * noise, rel=0.06)
    # of a part of the year the seasons between are left out
    summer = insitu_statistics([tmp_path / "a.zip"], "05-01 09-30", 120)
    assert summer["sd"] < found["sd"]


def test_residuals_are_departures_from_blocks_and_scenes_correlate_by_their_distance_in_time():
    rng = np.random.default_rng(5)
    pattern, fresh = rng.standard_normal((12, 12)), rng.standard_normal((3, 12, 12))
    images = 5.0 + 0.01 * np.stack([pattern, pattern, fresh[0], fresh[1]])
    images[0, :3, :3] = np.nan  # a block with too little of it
    images[0, 0, 0] = 1.0
    found = residuals(images).reshape(4, 4, 3, 4, 3)
    assert np.isnan(found[0, 0, :, 0]).all()
    np.testing.assert_allclose(found[1:].sum(axis=(2, 4)), 0.0, atol=1e-12)
    times = np.datetime64("2020-01-01") + np.array([0, 10, 40, 100]).astype("timedelta64[D]")
    result = scene_statistics(times, images)
    assert result["residuals 8-20 days apart"] == pytest.approx(1.0)
    assert abs(result["residuals 60-180 days apart"]) < 0.3
    assert result["residual's sd"] == pytest.approx(0.01, rel=0.2)
    assert mean_correlation([(pattern.ravel(), -pattern.ravel())]) == pytest.approx(-1.0)


def test_the_archive_is_within_the_stated_tolerances(repository):
    root = repository / "data" / "sandbox"
    manifest = read_manifest(root)
    if manifest is None or manifest["generator_version"] != GENERATOR_VERSION:
        pytest.skip("no sandbox archive of this generator is here; write it with: smnb sandbox")
    found = compare_statistics(root)
    assert len(found) == sum(len(of["values"]) for of in REAL.values())
    assert found.loc[~found["within"], ["group", "statistic", "sandbox", "real", "tolerance"]].to_dict("records") == []


@pytest.mark.parametrize("group", GROUPS)
def test_the_real_in_situ_figures_are_those_of_the_samples(shared_samples, group):
    of = GROUPS[group]
    found = insitu_statistics(
        [shared_samples / "conus_s1s2smap_2019_2021" / "ismn_sm_5cm_2019_2021.zip"], of["months"], of["fewest"]
    )
    assert found == pytest.approx(real_values(group), rel=0.05)


def test_the_real_radiometer_figures_are_those_of_the_sample(shared_samples):
    found = passive_statistics(sorted((shared_samples / "smap_l2").glob("*.h5")))
    assert found == pytest.approx(real_values("SMAP, 36 km"), rel=0.05)


def test_the_real_fine_figures_are_those_of_the_samples(shared_samples):
    folder = shared_samples / "smap_sentinel1_manitoba"
    scenes, real = open_cell_scenes([folder / "spl2smap_s_R049C220.nc"]), real_values("SMAP/Sentinel-1, 3 km")
    found = scene_statistics(scenes["time"].values, scenes["soil_moisture"].values)
    flights = open_pals([folder / "pals_smapvex16_manitoba.nc"])
    cut = EaseWindow.from_dataset(flights).slices_of(EaseWindow.from_dataset(scenes))
    pairs = []
    for time, flown in zip(flights["time"].values, flights["soil_moisture"].values[:, *cut], strict=True):
        nearest = np.abs(scenes["time"].values - time).argmin()
        if abs(scenes["time"].values[nearest] - time) <= np.timedelta64(2, "D"):
            seen = scenes["soil_moisture"].values[nearest]
            there = np.isfinite(seen) & np.isfinite(flown)
            pairs.append([residuals(np.where(there, image, np.nan)[None])[0] for image in (seen, flown)])
    assert len(pairs) == 7
    assert found | {"residual with the truth's": mean_correlation(pairs)} == pytest.approx(real, rel=0.05)


def test_the_real_range_of_backscatter_is_that_of_the_sample(shared_samples):
    table = pd.read_csv(Path(shared_samples) / "conus_s1s2smap_2019_2021" / "station_10day.csv.gz")
    found = dict(zip(("VV 5 %", "VV 95 %"), np.nanquantile(table["VV"], (0.05, 0.95)), strict=True))
    assert found == pytest.approx(real_values("Sentinel-1"), abs=0.05)
