"""Features from a station's own predictors, the loss that is scored, training, folds, baselines and the ablation's tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from smnb.contract import ContractError, FormatError, ParameterError
from smnb.loaders.conus import open_station_table
from smnb.papers.stations import (
    SOURCE_SETS,
    PointEnsemble,
    PointTraining,
    from_station_table,
    point_features,
    predict_rows,
    run_ablation,
    train_release,
)
from smnb.papers.stations.ablation import (
    block_folds,
    complete_rows,
    cross_validate,
    differences,
    fit_baseline,
    station_scores,
    summary,
)
from smnb.papers.stations.features import SOURCES, StationSeries, features_of, sources_present
from smnb.papers.stations.network import PointFusionConfig, predict_points, station_loss, train_points
from smnb.sensors import read_predictions
from smnb.training import load

QUICK = PointTraining(members=1, steps=15, batch_stations=6, encoder_width=8, joint_width=8)
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")


@pytest.fixture(scope="module")
def table(shared_samples):
    return open_station_table(
        [shared_samples / "conus_s1s2smap_2019_2021" / "station_10day.csv.gz"], catalog_id="conus_stations"
    )


@pytest.fixture(scope="module")
def real(table) -> pd.DataFrame:
    return from_station_table(table)


def made_up(stations: int = 24, windows: int = 36, seed: int = 0) -> pd.DataFrame:
    """Stations whose soil moisture follows SMAP with an amplitude that field capacity tells, and a level of its own."""
    rng = np.random.default_rng(seed)
    size = stations * windows
    station = np.repeat(np.arange(stations), windows)
    smap = 0.2 + 0.1 * np.sin(np.tile(np.arange(windows), stations) / 3.0 + station) + 0.03 * rng.normal(size=size)
    capacity = 0.15 + 0.01 * station
    rows = pd.DataFrame(
        {
            "sensor_id": [f"net__s{i:02d}" for i in station],
            "time": pd.Timestamp("2019-01-01") + pd.to_timedelta(np.tile(np.arange(windows) * 10, stations), unit="D"),
            "lat": 30.5 + 3.0 * (station % 5),
            "lon": -119.5 + 3.0 * (station // 5),
            "nlcd": 71.0,
            "field_capacity": capacity,
            "mtpi": 0.0,
            "smap": smap.clip(0, 0.5),
            "sigma0_VV": -12.0 + 5.0 * smap + 0.3 * rng.normal(size=size),
            "sigma0_VH": -20.0 + 3.0 * smap,
            "incidence_angle": 38.0 + rng.normal(size=size),
            **{f"reflectance_{band}": 0.1 + 0.02 * rng.random(size) for band in BANDS},
            "soil_moisture": 0.05 + capacity + 2.0 * capacity * (smap - 0.2),
        }
    )
    rows["reflectance_B10"] *= 0.01
    return rows


# --- features ---------------------------------------------------------------------------------------------------------


def test_statistics_of_a_series_match_plain_numpy():
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    x[[3, 17]] = np.nan
    series = StationSeries(np.arange(40.0), np.linspace(0, 7, 40))
    np.testing.assert_allclose(series.mean(x), np.nanmean(x))
    np.testing.assert_allclose(series.spread(x), np.nanstd(x))
    np.testing.assert_allclose(series.quantiles(x, (5, 95))[1], np.nanpercentile(x, 95))
    weights = np.exp(-np.arange(20, -1, -1) / 4.0)
    there = np.isfinite(x[:21])
    expected = (weights[there] * x[:21][there]).sum() / weights[there].sum()
    assert series.memory(x, 4.0)[20] == pytest.approx(expected)
    np.testing.assert_array_equal(series.lag(x, 2)[5:17], x[3:15])
    np.testing.assert_array_equal(series.lag(x, -2)[20:30], x[22:32])
    assert series.rank(x)[np.nanargmax(x)] == pytest.approx(0.5 - 0.5 / 38)


def test_a_season_is_found_and_a_departure_is_not():
    phase = 2 * np.pi * np.arange(108) / 36.0
    series = StationSeries(np.arange(108.0), phase)
    season = 0.2 + 0.1 * np.cos(phase) - 0.05 * np.sin(2 * phase)
    np.testing.assert_allclose(series.season(season), season, atol=0.003)


def test_past_only_statistics_do_not_see_later_rows():
    rng = np.random.default_rng(2)
    x, t = rng.normal(size=30), np.arange(30.0)
    x[[0, 4]] = np.nan
    changed = x.copy()
    changed[20:] += 5.0
    series = StationSeries(t, t / 6.0, past_only=True)
    for name in ("mean", "spread", "anomaly", "rank", "season"):
        before, after = (getattr(series, name)(v) for v in (x, changed))
        np.testing.assert_allclose(before[:20], after[:20], err_msg=name)
        assert not np.allclose(before[20:], after[20:]) or name == "rank"
    np.testing.assert_allclose(series.smooth(x, 3.0)[:20], series.smooth(changed, 3.0)[:20])
    np.testing.assert_allclose(series.mean(x)[10], np.nanmean(x[:11]))
    np.testing.assert_allclose(series.spread(x)[10], np.nanstd(x[:11]))
    np.testing.assert_allclose(series.quantiles(x, (25,))[0][10], np.nanpercentile(x[:11], 25))


def test_past_only_features_do_not_see_later_rows(real):
    rows = real[real["sensor_id"] == real["sensor_id"].iloc[0]]
    whole, half = point_features(rows, past_only=True), point_features(rows.iloc[:50], past_only=True)
    np.testing.assert_allclose(whole.values[:50], half.values, atol=1e-9)


def test_features_never_use_the_in_situ_column(real):
    rows = real[real["sensor_id"].isin(real["sensor_id"].unique()[:3])]
    shuffled = rows.assign(soil_moisture=rows["soil_moisture"].sample(frac=1.0, random_state=1).to_numpy())
    for other in (shuffled, rows.drop(columns="soil_moisture")):
        np.testing.assert_array_equal(point_features(rows).values, point_features(other).values)


def test_features_depend_on_no_other_station_and_on_no_order(real):
    ids = real["sensor_id"].unique()[:4]
    rows = real[real["sensor_id"].isin(ids)].reset_index(drop=True)
    made = point_features(rows)
    one = rows["sensor_id"] == ids[2]
    np.testing.assert_allclose(point_features(rows[one]).values, made.values[one], rtol=1e-12)
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_allclose(point_features(rows.iloc[order]).values, made.values[order], rtol=1e-12)
    doubled = pd.concat([rows, rows.iloc[5:9]], ignore_index=True)
    np.testing.assert_allclose(point_features(doubled).values[: len(rows)], made.values, rtol=1e-9, atol=1e-12)


def test_features_are_named_by_source_and_finite_where_their_source_is(real):
    made = point_features(real)
    assert {name.split(":")[0] for name in made} == {*SOURCES, "calendar"}
    assert made.index.equals(real.index)
    smap = made[[name for name in made if name.startswith("smap:")]]
    assert np.isfinite(smap).all(axis=None)
    only = {name.split(":")[0] for name in features_of(made, ("smap",))}
    assert only == {"smap", "calendar"}
    for wrong in (("landsat",), ()):
        with pytest.raises(ParameterError, match=r"'sources' holds an unknown name.*expected.*sentinel1"):
            features_of(made, wrong)


def test_a_station_with_too_many_rows_is_not_one_of_ten_day_means():
    rows = made_up(1, 20)
    many = rows.loc[np.zeros(4001, dtype=int)].assign(
        time=pd.Timestamp("2019-01-01") + pd.to_timedelta(range(4001), "h")
    )
    with pytest.raises(ContractError, match=r"too many rows.*Average the table to ten days"):
        point_features(many)


def test_sources_of_a_row_are_counted():
    rows = made_up(1, 4)
    rows.loc[0, "sigma0_VH"] = np.nan
    rows.loc[1, ["smap", "reflectance_B11"]] = np.nan
    rows.loc[2, ["smap", "reflectance_B8", "sigma0_VV", "mtpi"]] = np.nan
    assert sources_present(rows).sum(axis=1).tolist() == [3, 2, 0, 4]


# --- network and training ---------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_unbiased_rmse_of_stations():
    rng = np.random.default_rng(0)
    station = np.repeat([0, 1, 2], [20, 30, 40])
    observed, predicted = rng.normal(0.2, 0.05, 90), rng.normal(0.4, 0.08, 90)
    expected = np.mean([np.std((predicted - observed)[station == k]) for k in range(3)])
    tensors = [torch.tensor(v) for v in (predicted, observed)]
    assert float(station_loss(*tensors, torch.tensor(station), 3)) == pytest.approx(expected, rel=1e-2)
    shifted = tensors[0] + torch.tensor([0.1, -0.2, 0.3])[station]
    assert float(station_loss(shifted, tensors[1], torch.tensor(station), 3)) == pytest.approx(
        float(station_loss(*tensors, torch.tensor(station), 3))
    )


def test_a_network_learns_and_is_reproducible():
    rows = made_up()
    made = features_of(point_features(rows), SOURCES)
    y, ids = rows["soil_moisture"].to_numpy(), rows["sensor_id"].to_numpy(str)
    test = np.isin(ids, np.unique(ids)[::5])
    recipe = PointTraining(members=2, steps=60, batch_stations=8, encoder_width=8, joint_width=16)
    ensemble = train_points(made.to_numpy()[~test], tuple(made), y[~test], ids[~test], recipe)
    predicted = predict_points(ensemble, made.to_numpy()[test])
    frame = pd.DataFrame({"s": ids[test], "e": predicted - y[test], "y": y[test]})
    left = frame.groupby("s")["e"].std().mean() / frame.groupby("s")["y"].std().mean()
    assert left < 0.35
    assert predicted.min() > 0.0
    assert predicted.max() <= PointEnsemble.LARGEST
    again = train_points(made.to_numpy()[~test], tuple(made), y[~test], ids[~test], recipe)
    np.testing.assert_array_equal(predict_points(again, made.to_numpy()[test]), predicted)


def test_the_level_adds_no_time_course():
    rows = made_up()
    made = features_of(point_features(rows), SOURCES)
    ensemble = train_points(
        made.to_numpy(), tuple(made), rows["soil_moisture"].to_numpy(), rows["sensor_id"].to_numpy(str), QUICK
    )
    level = ensemble.standardise(torch.tensor(made.values).float()) @ ensemble.level_weights
    assert pd.Series(level.numpy()).groupby(rows["sensor_id"]).std().max() < 1e-5


def test_wrong_options_and_shapes_are_said():
    with pytest.raises(ParameterError, match=r"unknown 'loss'.*'huber'.*relative"):
        PointTraining(loss="huber")
    with pytest.raises(ParameterError, match="features"):
        PointFusionConfig(features={})
    with pytest.raises(ParameterError, match=r"in \(0, 1\]"):
        PointFusionConfig(features={"smap": 2}, encoder_keep=0.0)
    ensemble = PointEnsemble(PointFusionConfig(features={"smap": 2}))
    with pytest.raises(ContractError, match="other features than it was trained on"):
        ensemble(torch.zeros(4, 3))
    with pytest.raises(ContractError, match="not grouped by source"):
        train_points(np.zeros((4, 3)), ("smap:a", "static:b", "smap:c"), np.zeros(4), np.zeros(4), QUICK)
    with pytest.raises(ContractError, match="too few stations"):
        train_points(np.zeros((20, 1)), ("smap:a",), np.zeros(20), np.zeros(20), QUICK)
    with pytest.raises(ParameterError, match=r"unknown baseline.*'lasso'"):
        cross_validate(made_up(4, 4), [], baselines=[("lasso", "raw")])


# --- folds, baselines, tables -----------------------------------------------------------------------------------------


def test_the_rows_that_are_scored_are_those_of_the_task(real):
    complete = real[complete_rows(real)]
    blocks = np.floor(complete["lat"] / 3).astype(str) + np.floor(complete["lon"] / 3).astype(str)
    assert (len(complete), complete["sensor_id"].nunique(), blocks.nunique()) == (4783, 58, 37)


def test_folds_hold_whole_blocks_out(real):
    blocks = (np.floor(real["lat"] / 3).astype(str) + "_" + np.floor(real["lon"] / 3).astype(str)).to_numpy()
    times_tested = np.zeros(len(real), dtype=int)
    for test in block_folds(real):
        assert not set(blocks[test]) & set(blocks[~test])
        times_tested += test
    assert (times_tested[complete_rows(real)] == 1).all()


def test_the_ridge_baselines_of_the_samples_readme_are_met(real):
    """Independent numbers: all inputs as they are .0457 / .666; the imputation here also sees incomplete rows."""
    made = cross_validate(real, block_folds(real), sources={"all": SOURCES}, baselines=[("ridge", "raw")])
    best = summary(station_scores(made)).sort_values("ubrmse").iloc[0]
    assert best["stations"] == 58
    assert best["ubrmse"] == pytest.approx(0.0457, abs=0.0006)
    assert best["pearson_r"] == pytest.approx(0.666, abs=0.02)


def test_a_centred_baseline_learns_departures():
    rows = made_up(6, 20)
    x = rows[["smap"]].to_numpy()
    ids = rows["sensor_id"].to_numpy(str)
    model = fit_baseline("ridge", "alpha 30", x, rows["soil_moisture"].to_numpy(), ids, centred=True)
    assert abs(model.predict(x).mean()) < 0.005


def test_the_tables_of_the_ablation():
    rows = made_up(30, 30)
    folds = block_folds(rows, k=5)
    made = cross_validate(
        rows,
        folds,
        sources={"SMAP": ("smap",), "all": SOURCES},
        training=QUICK,
        baselines=[("ridge", "raw"), ("ridge", "centred")],
    )
    assert len(made) == len(rows) * 2 * (1 + 2 * 3)
    scores = station_scores(made)
    row = scores[(scores["sources"] == "all") & (scores["model"] == "network")].iloc[3]
    own = made[(made["sources"] == "all") & (made["model"] == "network") & (made["sensor_id"] == row["sensor_id"])]
    assert row["ubrmse"] == pytest.approx((own["predicted"] - own["observed"]).std(ddof=0))
    assert row["pearson_r"] == pytest.approx(np.corrcoef(own["predicted"], own["observed"])[0, 1])
    means = summary(scores)
    assert len(means) == 2 * 7
    assert (means["ubrmse_low"] < means["ubrmse"]).all()
    assert (means["ubrmse"] < means["ubrmse_high"]).all()
    found = differences(scores)
    assert len(found) == 2 * 6
    network = means[(means["sources"] == "SMAP") & (means["model"] == "network")]["ubrmse"].item()
    ridge = means[(means["sources"] == "SMAP") & (means["way"] == "raw") & (means["setting"] == "alpha 30")]
    first = found[(found["sources"] == "SMAP") & (found["way"] == "raw") & (found["setting"] == "alpha 30")]
    assert first["ubrmse"].item() == pytest.approx(network - ridge["ubrmse"].item())
    with pytest.raises(ParameterError, match="unknown baseline"):
        cross_validate(rows, folds, baselines=[("ridge", "cooked")])


def test_the_ablation_is_written(tmp_path):
    rows = made_up(20, 20)
    found = run_ablation(
        rows,
        tmp_path,
        folds=block_folds(rows, k=4),
        sources={"SMAP": ("smap",)},
        training=QUICK,
        baselines=[("ridge", "raw")],
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "differences.csv",
        "predictions_smap.parquet",
        "scores.csv",
        "summary.csv",
    ]
    written = read_predictions(tmp_path / "predictions_smap.parquet")
    assert written.attrs["model"] == "point network, SMAP"
    assert (written["sensor_id"] == written["network"] + "__" + written["station"]).all()
    read = pd.read_csv(tmp_path / "summary.csv")
    np.testing.assert_allclose(read["ubrmse"], found["summary"]["ubrmse"])
    assert (read["model"] == "network").sum() == 1


def test_held_out_truth_has_no_influence():
    rows = made_up(12, 20)
    test = (rows["lat"] < 34).to_numpy()
    spoilt = rows.assign(soil_moisture=rows["soil_moisture"].where(~test, 0.7 - rows["soil_moisture"]))
    a, b = (cross_validate(r, [test], sources={"all": SOURCE_SETS["all"]}, training=QUICK) for r in (rows, spoilt))
    np.testing.assert_array_equal(a["predicted"], b["predicted"])


# --- the release ------------------------------------------------------------------------------------------------------


def test_a_release_survives_writing_and_reading(table, tmp_path):
    made = train_release(table, tmp_path, training=QUICK)
    loaded = load(tmp_path / "model")
    assert loaded.card["training"]["data"] == {
        "catalog_id": "conus_stations",
        "synthetic": False,
        "stations": 67,
        "rows_with_target": 6737,
    }
    rows = from_station_table(table).iloc[:218]
    a, b = predict_rows(made, rows), predict_rows(loaded, rows)
    np.testing.assert_array_equal(a["predicted"], b["predicted"])
    assert set(b["n_sources"]) <= {2, 3, 4}
    for odd in (None, [], {"past_only": 1}, {"past_only": False, "more": 1}):
        loaded.card["training"]["feature_config"] = odd
        with pytest.raises(FormatError, match=r"training.feature_config is none of this version"):
            predict_rows(loaded, rows)
    loaded.card["training"]["feature_config"] = {"past_only": False}
    loaded.card["channels"][0] = "smap:unheard_of"
    with pytest.raises(FormatError, match=r"other features.*smap:unheard_of"):
        predict_rows(loaded, rows)
