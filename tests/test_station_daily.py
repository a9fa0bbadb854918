"""Daily soil moisture from weather: states in time, what tables and files are taken, and what comes back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from smnb.cli import app as cli
from smnb.contract import ContractError, FormatError, ParameterError
from smnb.loaders.daily import known_texture, open_scan_daily, open_uscrn_weather, open_weather_cells, place_days
from smnb.models.temporal import TemporalConfig, TemporalEnsemble, exponential_mean, weather_states
from smnb.papers.stations import DailyTraining, cross_validate_daily, daily_series
from smnb.papers.stations.daily import combine, daily_channels, train_daily
from smnb.pretrained import WEATHER_MODELS, card_text, load_pretrained, predict_weather
from smnb.sensors.calibration import station_quantile

RNG = np.random.default_rng(4)


def days(sites: int = 3, size: int = 500, start: str = "2016-01-01") -> pd.DataFrame:
    """Weather of some sites: rain on a quarter of the days, a seasonal temperature."""
    rng, date = np.random.default_rng(0), pd.date_range(start, periods=size)
    parts = []
    for i in range(sites):
        rain = np.where(rng.random(size) < 0.25, rng.gamma(1.0, 8.0, size), 0.0)
        warm = 12.0 - 12.0 * np.cos(2.0 * np.pi * date.day_of_year / 365.25) + rng.normal(0.0, 3.0, size)
        parts.append(
            pd.DataFrame({"site": str(2000 + i), "date": date.strftime("%Y-%m-%d"), "precip_mm": rain, "tair_c": warm})
        )
    return pd.concat(parts, ignore_index=True).round(3)


def places(sites: int = 3) -> pd.DataFrame:
    number = np.arange(sites)
    table = pd.DataFrame(
        {"site": (2000 + number).astype(str), "lat": 35.0 + number, "lon": -95.0 - number, "elev_m": 300.0}
    )
    return table.assign(clay_percent=20.0, silt_percent=40.0, sand_percent=40.0)


@pytest.fixture
def predict(tmp_path):
    def run(table: pd.DataFrame, sites: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
        table.to_csv(tmp_path / "days.csv", index=False)
        sites.to_csv(tmp_path / "sites.csv", index=False)
        report = predict_weather("station_daily", tmp_path / "days.csv", tmp_path / "out.csv", tmp_path / "sites.csv")
        return pd.read_csv(tmp_path / "out.csv", dtype={"site": str}, keep_default_na=False), report

    return run


# --- states in time ---------------------------------------------------------------------------------------------------


def test_means_weigh_what_is_known_of_the_past():
    x = RNG.normal(size=(2, 60))
    x[0, 5:20] = np.nan
    found, keep = exponential_mean(x, 4.0), np.exp(-0.25)
    for row, day in ((0, 2), (0, 25), (1, 59)):
        weights = keep ** np.arange(day, -1, -1)
        there = np.isfinite(x[row, : day + 1])
        assert found[row, day] == pytest.approx(np.average(x[row, : day + 1][there], weights=weights[there]))
    assert np.isfinite(exponential_mean(np.full((1, 5), np.nan), 3.0)).all()


def test_water_is_kept_as_snow_until_it_melts_and_stores_stay_between_empty_and_full():
    rain, warm = np.full((1, 730), 5.0), np.full((1, 730), 15.0)
    warm[0, :60], rain[0, 200:] = -10.0, 0.0
    states, traits = weather_states(
        {"precipitation": rain, "air_temperature": warm}, np.arange(730) % 365 + 1.0, np.array([40.0])
    )
    assert states["snow"][0, 59] ** 2 == pytest.approx(300.0)
    assert states["snow"][0, 80] == 0.0
    assert states["water-0"][0, 30] == 0.0
    assert states["water-0"][0, 61] ** 2 > 40.0
    for name in (name for name in states if name.startswith(("store", "drained")) and "_" not in name):
        assert 0.0 <= states[name].min() <= states[name].max() <= 1.0
    assert states["store25"][0, 199] > 0.8 > states["store200"][0, 330] > states["store25"][0, 330]
    assert states["dry_days"][0, 230] == pytest.approx(np.log1p(30 + 1), abs=0.1)
    assert all(np.isfinite(one).all() for one in (*states.values(), *traits.values()))


def test_a_places_channels_are_its_own_and_no_target_is_looked_at():
    table = days().rename(columns={"site": "place", "precip_mm": "precipitation", "tair_c": "air_temperature"})
    sites = (
        places()
        .rename(columns={"site": "place", "elev_m": "elevation"})
        .rename(columns=lambda name: name.split("_")[0])
    )
    dataset = place_days(table.assign(date=pd.to_datetime(table["date"])), sites, ("precipitation", "air_temperature"))
    both, names = daily_channels(dataset)
    alone, _ = daily_channels(dataset.isel(place=[1]))
    np.testing.assert_array_equal(both[1], alone[0])
    wet = dataset.assign(soil_moisture=dataset["precipitation"] * 0.0 + 0.3)
    np.testing.assert_array_equal(daily_channels(wet)[0], both)
    later = dataset.copy(deep=True)
    later["precipitation"][:, 300:] = 0.0
    past = [
        i for i, name in enumerate(names) if name in ("state:water6", "state:store50", "state:heat25", "state:dry_days")
    ]
    changed = daily_channels(later)[0]
    np.testing.assert_allclose(changed[:, 299, past[:1]], both[:, 299, past[:1]], rtol=1e-5)


def test_the_network_refuses_other_channels():
    with pytest.raises(ContractError, match="other states than it was trained on"):
        TemporalEnsemble(TemporalConfig(3, members=1)).standardise(__import__("torch").zeros(2, 4))


# --- level, spread, intervals -----------------------------------------------------------------------------------------


def test_departures_are_stretched_towards_the_amplitude_and_stay_positive():
    place = np.repeat([0, 1], 2000)
    course = np.stack([np.repeat([0.25, 0.02], 2000), np.full(4000, 0.08), RNG.normal(0.0, 0.05, 4000)], axis=1)
    plain, stretched = (combine(course, place, stretch=share) for share in (0.0, 1.0))
    assert plain[place == 0].std() == pytest.approx(0.05, rel=0.05)
    assert stretched[place == 0].std() == pytest.approx(0.077, rel=0.05)
    assert plain.min() > 0.0
    assert np.corrcoef(plain[place == 0], stretched[place == 0])[0, 1] == pytest.approx(1.0, abs=1e-3)


def test_the_interval_covers_the_share_with_every_place_counting_the_same():
    place = np.repeat(np.arange(40), RNG.integers(50, 3000, 40))
    score = np.abs(RNG.normal(size=place.size)) * np.linspace(0.5, 2.0, 40)[place]
    factor = station_quantile(score, place)
    assert pd.Series(score <= factor).groupby(place).mean().mean() == pytest.approx(0.9, abs=0.002)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_every_row_comes_back_in_order_with_numbers(predict):
    table = days()
    table.loc[10:200, ["precip_mm", "tair_c"]] = np.nan
    table.loc[600:640, "precip_mm"] = -99.0
    mixed = pd.concat([table, table.iloc[[5, 700]]]).sample(frac=1.0, random_state=1).reset_index(drop=True)
    found, report = predict(mixed, places().drop(columns="elev_m"))
    assert found[["site", "date"]].equals(mixed[["site", "date"]])
    numbers = found[["predicted", "low90", "high90"]].astype(float)
    assert np.isfinite(numbers).all(axis=None)
    assert ((numbers["low90"] <= numbers["predicted"]) & (numbers["predicted"] <= numbers["high90"])).all()
    assert report["rows"] == 1502
    assert report["rows_repeated"] == 2
    assert report["masked"]["precip_mm"] == 41
    gone = found["flag"].str.contains("no_weather")
    assert gone.sum() == 191
    width = numbers["high90"] - numbers["predicted"]
    late, same = (
        (found["site"] == "2000") & (found["date"] == "2016-07-15"),
        (found["site"] == "2000") & (found["date"] == "2017-04-15"),
    )
    assert float(width[late].iloc[0]) > 1.1 * float(width[same].iloc[0])
    ordered, _ = predict(table, places().drop(columns="elev_m"))
    merged = found.drop_duplicates(["site", "date"]).merge(ordered, on=["site", "date"], suffixes=("", "_ordered"))
    np.testing.assert_allclose(merged["predicted"].astype(float), merged["predicted_ordered"].astype(float), atol=2e-6)


def test_units_are_found_by_range_and_said(predict):
    table, sites = days(), places()
    usual, report = predict(table, sites)
    assert report["units_found"] == {}
    names = ["clay_percent", "silt_percent", "sand_percent"]
    other, report = predict(
        table.assign(tair_c=table["tair_c"] + 273.15), sites.assign(**{n: sites[n] / 100.0 for n in names})
    )
    assert set(report["units_found"]) == {"tair_c", "clay, silt, sand"}
    np.testing.assert_allclose(other["predicted"].astype(float), usual["predicted"].astype(float), atol=2e-5)
    fahrenheit, report = predict(table.assign(tair_c=table["tair_c"] * 1.8 + 32.0), sites)
    assert report["units_found"]["tair_c"].startswith("degF")
    np.testing.assert_allclose(fahrenheit["predicted"].astype(float), usual["predicted"].astype(float), atol=2e-5)


def test_a_station_without_soil_or_place_is_predicted_and_flagged(predict):
    sites = places()
    sites.loc[0, ["clay_percent", "silt_percent", "sand_percent"]] = 0.0
    found, report = predict(days(), sites.iloc[:2].replace("2001", "2001.0"))
    flags = found.groupby("site")["flag"].last()
    assert flags.to_dict() == {"2000": "no_soil", "2001": "", "2002": "no_soil;no_place"}
    assert report["sites_not_listed"] == ["2002"]
    assert np.isfinite(found["predicted"].astype(float)).all()
    short, _ = predict(days(sites=1, size=3, start="2024-02-28"), sites)
    assert short["flag"].str.contains("short").all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, s: (t.drop(columns="tair_c"), s), r"variables \['tair_c'\] are missing"),
        (lambda t, s: (t.assign(date="soon"), s), "'date' is no date"),
        (lambda t, s: (t.assign(date=t["date"].where(t.index != 4, "")), s), "a row has no date.*row 6"),
        (lambda t, s: (t, pd.concat([s, s.assign(lat=10.0)])), "a site has two places"),
        (lambda t, s: (t.iloc[:0], s), "the table has no rows"),
        (lambda t, s: (t, s.drop(columns="lat")), r"variables \['lat'\] are missing"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_clear_error(predict, change, message):
    with pytest.raises(FormatError, match=message):
        predict(*change(days(sites=1, size=40), places()))


def test_texture_that_is_no_soils_is_unknown():
    table = pd.DataFrame(
        {"clay": [0, 20, 20, 300, -9999], "silt": [0, 40, 1, 0, 30], "sand": [0, 40, np.nan, 0, np.nan]}
    )
    assert known_texture(table).notna().all(axis=1).tolist() == [False, True, False, False, False]
    assert known_texture(table).loc[2, "clay"] == 20


def test_the_command_says_what_it_found(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    days(sites=1, size=50).to_csv("days.csv", index=False)
    places(1).to_csv("sites.csv", index=False)
    for arguments, code in ((["--sites", "sites.csv"], 0), ([], 2)):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["predict", "station_daily", "days.csv", "--out", "out.csv", *arguments, "--json"])
        assert (exit_.value.code or 0) == code
        captured = capsys.readouterr()
        if code:
            assert "a table of sites belongs to a table of days" in captured.err
        else:
            assert json.loads(captured.out)["flags"]["short"] == 50


# --- cells ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cells(tmp_path):
    """A file of three cells and 400 days in the published form, without SMAP."""
    rng, shape = np.random.default_rng(1), (3, 400)
    both = {name: rng.uniform(*limits, shape).astype("float32") for name, limits in _FORCING.items()}
    data = {name: (("cell", "time"), values) for name, values in both.items()}
    data |= {name: ("cell", np.full(3, value, "float32")) for name, value in _CONSTANTS.items()}
    data["Sand"][1][2] = -9999.0
    coords = {"lat": ("cell", [35.0, 40.0, 45.0]), "lon": ("cell", [-90.0, -100.0, -110.0])}
    dataset = xr.Dataset(data, {**coords, "time": pd.date_range("2019-06-01", periods=400)})
    dataset.to_netcdf(tmp_path / "cells.nc", engine="h5netcdf")
    return dataset


_FORCING = {
    "APCP_FORA": (0.0, 0.4),
    "TMP_2_FORA": (265.0, 300.0),
    "DSWRF_FORA": (50.0, 300.0),
    "DLWRF_FORA": (200.0, 400.0),
}
_FORCING |= {"SPFH_2_FORA": (0.002, 0.012), "UGRD_10_FORA": (-5.0, 5.0), "VGRD_10_FORA": (-5.0, 5.0)}
_CONSTANTS = {"Sand": 40.0, "Silt": 35.0, "Clay": 25.0, "Capa": 15.0, "Bulk": 1.4, "NDVI": 0.4, "flag_landcover": 10.0}
_CONSTANTS |= {
    "flag_roughness": 0.13,
    "flag_waterbody": 0.01,
    "flag_albedo": 0.05,
    "flag_vegDense": 0.0,
    "flag_extraOrd": 0.0,
}


def test_every_cell_and_day_is_estimated(cells, tmp_path):
    report = predict_weather("smap_weather", tmp_path / "cells.nc", tmp_path / "out.nc")
    found = xr.load_dataset(tmp_path / "out.nc", engine="h5netcdf")
    assert found["SMAP_AM"].dims == ("cell", "time")
    assert found["SMAP_AM"].shape == (3, 400)
    assert (found["SMAP_AM_low90"] <= found["SMAP_AM"]).all()
    assert (found["SMAP_AM"] <= found["SMAP_AM_high90"]).all()
    assert report["absent"] == ""
    np.testing.assert_array_equal(found["time"], cells["time"])
    shuffled = cells.isel(time=[*range(399, 200, -1), *range(201)]).drop_vars(
        ["NDVI", "flag_landcover", "UGRD_10_FORA"]
    )
    shuffled["APCP_FORA"][0, 5:300] = np.nan
    shuffled.to_netcdf(tmp_path / "less.nc", engine="h5netcdf")
    report = predict_weather("smap_weather", tmp_path / "less.nc", tmp_path / "out2.nc")
    again = xr.load_dataset(tmp_path / "out2.nc", engine="h5netcdf")
    assert report["absent"] == "UGRD_10_FORA, flag_landcover, NDVI"
    assert np.isfinite(again["SMAP_AM"]).all()
    assert float(abs(again["SMAP_AM"].sel(time="2020-03-01") - found["SMAP_AM"].sel(time="2020-03-01"))[1:].max()) < 0.1


def test_a_file_that_is_none_of_cells_is_one_clear_error(cells, tmp_path):
    cells.drop_vars("APCP_FORA").to_netcdf(tmp_path / "dry.nc", engine="h5netcdf")
    with pytest.raises(FormatError, match=r"variables \['APCP_FORA'\] are missing"):
        predict_weather("smap_weather", tmp_path / "dry.nc", tmp_path / "out.nc")
    with pytest.raises(ParameterError, match="the output is no NetCDF file"):
        predict_weather("smap_weather", tmp_path / "cells.nc", tmp_path / "out.csv")
    assert not (tmp_path / "out.nc").exists()


# --- training and the real samples ------------------------------------------------------------------------------------


def test_training_takes_two_places_and_gives_the_same_weights_again():
    table = days(sites=3, size=400).rename(
        columns={"site": "place", "precip_mm": "precipitation", "tair_c": "air_temperature"}
    )
    sites = (
        places()
        .rename(columns={"site": "place", "elev_m": "elevation"})
        .rename(columns=lambda name: name.split("_")[0])
    )
    dataset = place_days(table.assign(date=pd.to_datetime(table["date"])), sites, ("precipitation", "air_temperature"))
    wet = exponential_mean(dataset["precipitation"].to_numpy(), 8.0) * 0.02 + 0.1
    series = daily_series({"made": dataset.assign(soil_moisture=(("place", "time"), wet))})
    recipe = DailyTraining(members=1, steps=40, width=16, recurrent_members=1, recurrent_steps=5)
    one, two = (train_daily(series, np.ones(3, bool), recipe) for _ in range(2))
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ContractError, match="too few places"):
        train_daily(series, np.arange(3) == 0, recipe)


@pytest.mark.parametrize("name", WEATHER_MODELS)
def test_the_checkpoints_are_small_and_say_what_they_are(name, repository):
    folder = repository / "smnb" / "pretrained" / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000
    card, text = json.loads((folder / "model.json").read_text()), card_text(name)
    assert card["training"]["data"]["places"] > 100
    assert "non-commercial" in text
    for heading in ("## Data", "## Split", "## Scores", "## Limits", "## Licence"):
        assert heading in text


def test_a_held_out_fold_of_the_real_stations_is_as_good_as_the_card_says(shared_samples):
    folder = shared_samples / "scan_s1_landsat_2015_2019"
    scan = open_scan_daily([folder / "scan_daily_2014_2018.csv.gz", folder / "scan_s1_landsat.csv.gz"])
    assert scan.sizes == {"place": 78, "time": 1827}
    assert int(scan["sand"].isnull().sum()) == 1  # 0/0/0
    assert float(scan["elevation"].max()) == pytest.approx(7649 * 0.3048)
    crn = open_uscrn_weather([shared_samples / "uscrn_daily" / "crn_2020.parquet.gz"])
    series = daily_series({"scan": scan, "crn": crn}, least_known=0.8)
    found = cross_validate_daily(series, DailyTraining(members=1, steps=100, recurrent_members=0), k=2)
    assert (found["fold"] >= 0).all()
    scores = [
        np.corrcoef(one["departure"], one["observed"])[0, 1] for _, one in found.groupby("place") if len(one) >= 100
    ]
    assert len(scores) > 150
    assert np.median(scores) > 0.78


def test_the_released_network_fits_the_real_cells(shared_samples, tmp_path):
    weather = open_weather_cells([shared_samples / "smap_l3_nldas_conus_2015_2018" / "conus_v4f1.nc"])
    assert float(weather["precipitation"].mean()) == pytest.approx(2.017, abs=0.01)
    some = xr.open_dataset(shared_samples / "smap_l3_nldas_conus_2015_2018" / "conus_v4f1.nc").isel(
        cell=slice(0, 307, 30)
    )
    some.drop_vars("SMAP_AM").to_netcdf(tmp_path / "cells.nc", engine="h5netcdf")
    predict_weather("smap_weather", tmp_path / "cells.nc", tmp_path / "out.nc")
    error = xr.load_dataset(tmp_path / "out.nc", engine="h5netcdf")["SMAP_AM"] - some["SMAP_AM"]
    assert float(error.std("time").mean()) < 0.034
    assert (
        len(load_pretrained("smap_weather").card["channels"]) == load_pretrained("smap_weather").model.config.channels
    )
