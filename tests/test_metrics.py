"""Scores: against pytesmo, SciPy and scikit-learn, and everything that can be wrong with a table."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from sklearn.metrics import mean_squared_error, r2_score

from smnb import metrics
from smnb.contract import ContractError, ParameterError

PLAIN = [m for m in metrics.METRICS if m not in ("n_obs", "anomaly_r")]


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    obs = 0.25 + 0.08 * np.sin(np.arange(400) / 30) + rng.normal(0, 0.02, 400)
    return np.round(0.9 * obs + 0.03 + rng.normal(0, 0.03, 400), 2), np.round(obs, 2)  # rounded: ties for the ranks


@pytest.fixture
def table() -> pd.DataFrame:
    """Five sensors of unequal length, shuffled, with gaps on either side."""
    rng = np.random.default_rng(11)
    parts = []
    for name, n in zip("abcde", (300, 13, 12, 40, 150), strict=True):
        obs = rng.uniform(0.05, 0.45, n)
        time = pd.Timestamp("2019-01-01") + pd.to_timedelta(np.sort(rng.choice(24 * 300, n, replace=False)), unit="h")
        parts.append(
            pd.DataFrame(
                {"sensor_id": name, "time": time, "observed": obs, "predicted": obs + rng.normal(0.01, 0.04, n)}
            )
        )
    frame = pd.concat(parts, ignore_index=True)
    frame.loc[frame.index[::17], "predicted"] = np.nan
    frame.loc[frame.index[5::29], "observed"] = np.nan
    return frame.sample(frac=1.0, random_state=3, ignore_index=True)


def test_agrees_with_pytesmo(pair):
    pairwise = pytest.importorskip("pytesmo.metrics")
    pred, obs = pair
    assert metrics.bias(pred, obs) == pytest.approx(pairwise.bias(pred, obs), abs=1e-9)
    assert metrics.rmse(pred, obs) == pytest.approx(pairwise.rmsd(pred, obs), abs=1e-9)
    assert metrics.ubrmse(pred, obs) == pytest.approx(pairwise.ubrmsd(pred, obs), abs=1e-9)
    assert metrics.nrmse(pred, obs) == pytest.approx(pairwise.nrmsd(pred, obs), abs=1e-9)
    assert metrics.pearson_r(pred, obs) == pytest.approx(pairwise.pearson_r(pred, obs), abs=1e-9)
    assert metrics.spearman_r(pred, obs) == pytest.approx(pairwise.spearman_r(pred, obs), abs=1e-9)
    assert metrics.r2(pred, obs) == pytest.approx(pairwise.nash_sutcliffe(obs, pred), abs=1e-9)


def test_agrees_with_scipy_and_sklearn(pair):
    pred, obs = pair
    assert metrics.r2(pred, obs) == pytest.approx(r2_score(obs, pred), abs=1e-12)
    assert metrics.rmse(pred, obs) == pytest.approx(np.sqrt(mean_squared_error(obs, pred)), abs=1e-12)
    line = stats.linregress(obs, pred)
    assert metrics.slope(pred, obs) == pytest.approx(line.slope, abs=1e-12)
    assert metrics.r2_pearson(pred, obs) == pytest.approx(line.rvalue**2, abs=1e-12)
    assert metrics.r2(pred, obs) < metrics.r2_pearson(pred, obs)  # biased, with a slope


@pytest.mark.parametrize("window", [35.0, 10.0])
def test_anomaly_r_agrees_with_pytesmo(window):
    anomaly = pytest.importorskip("pytesmo.time_series.anomaly")
    rng = np.random.default_rng(2)
    # whole half days: the window's ends fall on readings, which belong to it
    time = pd.Timestamp("2018-03-01") + pd.to_timedelta(np.sort(rng.choice(900, 300, replace=False)) * 12, unit="h")
    obs = 0.3 + 0.1 * np.sin(np.arange(300) / 40) + rng.normal(0, 0.03, 300)
    pred = obs + rng.normal(0, 0.03, 300)
    a, b = (anomaly.calc_anomaly(pd.Series(v, time), window_size=window) for v in (pred, obs))
    mine = metrics.anomaly_r(pred, obs, time=time, window_days=window, window_min_obs=1)
    assert mine == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
    frame = pd.DataFrame({"sensor_id": "s", "time": time, "observed": obs, "predicted": pred}).sample(
        frac=1, random_state=0
    )
    scores = metrics.score_table(frame, metrics="anomaly_r")  # by default 35 days and three pairs
    assert scores["anomaly_r"].item() == pytest.approx(metrics.anomaly_r(pred, obs, time=time), abs=1e-12)


def test_lone_readings_have_no_anomaly():
    time = pd.date_range("2018-01-01", periods=20, freq="60D")
    values = np.random.default_rng(0).random(20)
    assert np.isnan(metrics.anomaly_r(values, values**2, time=time))


def test_rmse_identity_per_sensor(table):
    scores = metrics.score_table(table, min_obs=2)
    assert len(scores) == 5
    np.testing.assert_allclose(scores["rmse"] ** 2, scores["ubrmse"] ** 2 + scores["bias"] ** 2, rtol=1e-13)


def test_table_agrees_with_the_plain_functions(table):
    scores = metrics.score_table(table, metrics=(*PLAIN, "anomaly_r"), min_obs=13).set_index("sensor_id")
    for sensor, group in table.sort_values("time").groupby("sensor_id"):
        pred, obs = group["predicted"].to_numpy(), group["observed"].to_numpy()
        assert scores.loc[sensor, "n"] == metrics.n_obs(pred, obs)
        for name in PLAIN:
            np.testing.assert_allclose(
                scores.loc[sensor, name], metrics.METRICS[name](pred, obs, min_obs=13), rtol=1e-12, err_msg=name
            )
        expected = metrics.anomaly_r(pred, obs, time=group["time"], min_obs=13)
        np.testing.assert_allclose(scores.loc[sensor, "anomaly_r"], expected, rtol=1e-10)


def test_large_offset_loses_no_digits():
    """Brightness temperatures: small differences on a large mean."""
    rng = np.random.default_rng(1)
    obs = 1e6 + rng.normal(0, 1e-3, 500)
    pred = obs + rng.normal(0, 1e-3, 500)
    assert metrics.ubrmse(pred, obs) == pytest.approx(np.std(pred - obs), rel=1e-9)
    assert metrics.pearson_r(pred, obs) == pytest.approx(stats.pearsonr(pred, obs)[0], rel=1e-6)


def test_float32_is_summed_in_float64():
    rng = np.random.default_rng(1)
    obs = rng.random(100_000).astype("float32")
    pred = obs + np.float32(0.1)
    expected = np.mean(pred.astype("float64") - obs.astype("float64"))
    assert metrics.bias(pred, obs) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 287.15])
def test_constant_series_are_nan_without_a_warning(value):
    constant, varying = np.full(1000, value), np.random.default_rng(0).random(1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("pearson_r", "spearman_r"):
            assert np.isnan(metrics.METRICS[name](constant, varying))
            assert np.isnan(metrics.METRICS[name](varying, constant))
        assert np.isnan(metrics.r2(varying, constant))
        assert np.isnan(metrics.slope(varying, constant))
        assert metrics.slope(constant, varying) == pytest.approx(0.0, abs=1e-12)
        assert np.isnan(metrics.nrmse(constant, constant))
        assert metrics.ubrmse(constant, constant) == 0.0
        assert np.isnan(metrics.anomaly_r(constant, varying, time=pd.date_range("2020", periods=1000)))


def test_minimum_counts_pairs_not_values():
    pred, obs = np.array([1.0, np.nan, 3.0, 4.0]), np.array([1.0, 2.0, np.nan, 5.0])
    assert metrics.n_obs(pred, obs) == 2
    assert metrics.bias(pred, obs, min_obs=2) == -0.5
    assert np.isnan(metrics.bias(pred, obs, min_obs=3))
    assert np.isnan(metrics.bias(np.array([]), np.array([])))
    assert metrics.n_obs(np.array([]), np.array([])) == 0


def test_infinity_is_not_taken_as_missing():
    pred, obs = np.array([1.0, np.inf, 3.0]), np.array([1.0, 2.0, 3.5])
    for name in PLAIN:
        assert np.isnan(metrics.METRICS[name](pred, obs)), name
    assert metrics.n_obs(pred, obs) == 3
    assert metrics.bias(pred, obs, mask=np.isfinite(pred)) == -0.25


def test_axes_masks_and_shapes():
    rng = np.random.default_rng(3)
    pred, obs, mask = rng.random((2, 3, 50)), rng.random((2, 3, 50)), rng.random((2, 3, 50)) > 0.3
    for name in PLAIN:
        score = metrics.METRICS[name]
        found = score(pred, obs, dim=(0, -1), mask=mask)
        expected = [score(pred[:, i][mask[:, i]], obs[:, i][mask[:, i]]) for i in range(3)]
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)
    with pytest.raises(ContractError, match="another shape"):
        metrics.bias(pred, obs[..., :-1])
    with pytest.raises(ContractError, match="mask"):
        metrics.bias(pred, obs, mask=mask[0])
    with pytest.raises(ParameterError, match="axis"):
        metrics.bias(pred, obs, dim=3)
    with pytest.raises(ParameterError, match="axis"):
        metrics.bias(pred, obs, dim="time")
    with pytest.raises(ParameterError, match="min_obs"):
        metrics.bias(pred, obs, min_obs=0)


def _all_scores(pred, obs, names):
    return xr.Dataset({name: metrics.METRICS[name](pred, obs, dim="time", min_obs=13) for name in names})


def test_xarray_by_name_lazy_and_aligned():
    rng = np.random.default_rng(4)
    time = pd.date_range("2020-01-01", periods=80)
    dims = {"time": 80, "lat": 3, "lon": 4}
    obs = xr.DataArray(
        rng.random(tuple(dims.values())), dims=tuple(dims), coords={"time": time, "lat": [1.0, 2.0, 3.0]}
    )
    pred = (obs + 0.1 * rng.random(obs.shape)).where(rng.random(obs.shape) > 0.1).transpose("lon", "time", "lat")
    names = list(metrics.METRICS)
    eager = _all_scores(pred, obs, names)
    assert set(eager["rmse"].dims) == {"lat", "lon"}
    lazy = _all_scores(pred.chunk({"lat": 1, "time": 30}), obs.chunk({"lat": 1, "time": 30}), names)
    assert all(lazy[name].chunks for name in names)
    xr.testing.assert_allclose(lazy.compute(), eager)
    one = {"lat": 1, "lon": 2}
    expected = metrics.spearman_r(pred.isel(one).values, obs.isel(lat=1, lon=2).values)
    assert float(eager["spearman_r"].isel(one)) == pytest.approx(expected)
    assert float(metrics.bias(pred, obs)) == pytest.approx(float((pred - obs).mean()))
    with pytest.raises(ContractError, match="other coordinates"):
        metrics.bias(pred, obs.assign_coords(lat=[1.0, 2.0, 4.0]), dim="time")
    with pytest.raises(ParameterError, match="unknown dimension"):
        metrics.bias(pred, obs, dim="station")
    with pytest.raises(ParameterError, match="one time dimension"):
        metrics.anomaly_r(pred, obs, dim=("time", "lat"))


def test_sensor_time_array_equals_the_table():
    rng = np.random.default_rng(8)
    obs = rng.random((6, 60))
    pred = np.where(rng.random(obs.shape) > 0.2, obs + 0.1 * rng.standard_normal(obs.shape), np.nan)
    time = pd.date_range("2020-01-01", periods=60)
    frame = pd.DataFrame(
        {
            "sensor_id": np.repeat(np.arange(6), 60),
            "time": np.tile(time, 6),
            "observed": obs.ravel(),
            "predicted": pred.ravel(),
        }
    )
    scores = metrics.score_table(frame)
    for name in metrics.DEFAULT_METRICS:
        extra = {"time": time} if name == "anomaly_r" else {}
        found = metrics.METRICS[name](pred, obs, dim=1, min_obs=13, **extra)
        np.testing.assert_allclose(found, scores[name], rtol=1e-10, err_msg=name)
    with pytest.raises(ParameterError, match="times are not known"):
        metrics.anomaly_r(pred, obs)


def test_reasons_in_a_table(table):
    table.loc[table["sensor_id"] == "d", "predicted"] = 0.2
    table.loc[table.index[table["sensor_id"] == "e"][0], ["predicted", "observed"]] = [np.inf, 0.2]
    table = pd.concat(
        [
            table,
            pd.DataFrame(
                {"sensor_id": ["f"], "time": [pd.Timestamp("2020")], "observed": [np.nan], "predicted": [0.1]}
            ),
        ],
        ignore_index=True,
    )
    scores = metrics.score_table(table).set_index("sensor_id")
    assert scores.index.tolist() == list("abcdef")
    assert scores.loc["a", "reason"] == ""
    assert scores.loc["c", "reason"].endswith("fewer than min_obs=13")
    assert scores.loc["d", "reason"] == "the predictions are constant"
    assert np.isnan(scores.loc["d", "pearson_r"])
    assert scores.loc["d", "rmse"] > 0
    assert scores.loc["e", "reason"] == "an infinite value among the pairs"
    assert scores.loc["f", ["n", "reason"]].tolist() == [0, "no pair with both values"]
    numbers = scores[list(metrics.DEFAULT_METRICS)].to_numpy("float64")
    assert not np.isinf(numbers).any()
    assert np.isnan(numbers[[2, 4, 5]]).all()


def test_fewer_than_the_minimum_everywhere(table):
    scores = metrics.score_table(table, min_obs=1000)
    assert scores[list(metrics.DEFAULT_METRICS)].isna().all(axis=None)
    assert scores["reason"].str.contains("fewer than min_obs=1000").all()


def test_bad_tables_raise(table):
    with pytest.raises(ContractError, match="no rows"):
        metrics.score_table(table.iloc[:0])
    with pytest.raises(ContractError, match=r"'predicted'.*missing"):
        metrics.score_table(table.drop(columns="predicted"))
    with pytest.raises(ContractError, match=r"'time'.*missing"):
        metrics.score_table(table.drop(columns="time"))
    with pytest.raises(ContractError, match="not numeric"):
        metrics.score_table(table.assign(observed=table["observed"].astype(str)))
    with pytest.raises(ContractError, match="plain numbers"):
        metrics.score_table(table.assign(time=np.arange(len(table))))
    with pytest.raises(ContractError, match="time is missing"):
        metrics.score_table(table.assign(time=table["time"].where(table.index > 0)))
    with pytest.raises(ContractError, match="1 rows have no 'sensor_id'"):
        metrics.score_table(table.assign(sensor_id=table["sensor_id"].where(table.index > 0)))
    with pytest.raises(ParameterError, match=r"nse.*ubrmse"):
        metrics.score_table(table, metrics=("nse",))
    with pytest.raises(ContractError, match="DataFrame"):
        metrics.score_table(table.to_dict())


def test_duplicate_rows_raise(table):
    twice = pd.concat([table, table.iloc[[7]]], ignore_index=True)
    with pytest.raises(ContractError, match="1 rows repeat the sensor and time") as error:
        metrics.score_table(twice)
    assert table.loc[7, "sensor_id"] in str(error.value)
    with pytest.raises(ContractError, match="repeat"):
        metrics.pooled(twice)


def test_strata_share_times_but_sensors_do_not():
    time = pd.date_range("2020-01-01", periods=100)
    rng = np.random.default_rng(0)
    obs = rng.random(200)
    frame = pd.DataFrame(
        {
            "sensor_id": np.repeat(["a", "b"], 100),
            "stratum": "Cf",
            "time": np.tile(time, 2),
            "observed": obs,
            "predicted": obs + rng.normal(0, 0.1, 200),
        }
    )
    scores = metrics.score_table(frame, by="stratum")
    pooled = metrics.pooled(frame)
    for name in metrics.DEFAULT_METRICS:  # anomalies are taken within each sensor in both
        assert scores[name].item() == pytest.approx(pooled[name])
    assert pooled["n_sensors"] == 2
    with pytest.raises(ContractError, match="repeat"):
        metrics.score_table(frame.assign(sensor_id="one"), by="stratum")


def test_time_zones_and_order_do_not_matter(table):
    expected = metrics.score_table(table)
    zoned = table.assign(time=table["time"].dt.tz_localize("UTC").dt.tz_convert("America/Denver"))
    pd.testing.assert_frame_equal(metrics.score_table(zoned), expected)
    in_order = metrics.score_table(table.sort_values(["sensor_id", "time"]))
    pd.testing.assert_frame_equal(in_order, expected, rtol=1e-9)


def test_pooled_agrees_with_all_pairs_together(table):
    pooled = metrics.pooled(table)
    ok = table[["observed", "predicted"]].notna().all(axis=1)
    pred, obs = table.loc[ok, "predicted"].to_numpy(), table.loc[ok, "observed"].to_numpy()
    assert pooled["n"] == ok.sum()
    for name in ("bias", "rmse", "ubrmse", "pearson_r", "spearman_r", "r2", "slope"):
        assert pooled[name] == pytest.approx(float(metrics.METRICS[name](pred, obs)), rel=1e-10)


def mae(pred, obs):
    return np.abs(pred - obs).mean()


def test_own_function_in_a_table(table):
    scores = metrics.score_table(
        table, metrics=("rmse", mae, metrics.Metric("worst", lambda p, o: np.abs(p - o).max()))
    )
    assert scores.columns.tolist() == ["sensor_id", "n", "rmse", "mae", "worst", "reason"]
    for row in scores[scores["n"] >= 13].itertuples():
        group = table[table["sensor_id"] == row.sensor_id].dropna()
        error = (group["predicted"] - group["observed"]).abs()
        assert (row.mae, row.worst) == pytest.approx((error.mean(), error.max()))
    assert scores.loc[scores["n"] < 13, "mae"].isna().all()
    assert metrics.pooled(table, metrics=mae)["mae"] == pytest.approx(
        (table["predicted"] - table["observed"]).abs().mean()
    )
    with pytest.raises(ParameterError, match="gives no number"):
        metrics.score_table(table, metrics=metrics.Metric("both", lambda p, o: p - o))


def test_a_name_a_function_and_a_metric_are_one():
    assert metrics.metric("ubrmse") is metrics.metric(metrics.ubrmse) is metrics.METRICS["ubrmse"]
    assert metrics.metric("r").name == "pearson_r"  # as files and commands have it
    assert metrics.metric(mae).name == "mae"
    with pytest.raises(ParameterError, match=r"'ubrmsd'.*ubrmse"):
        metrics.metric("ubrmsd")
    with pytest.raises(ParameterError, match=r"name of its own.*Metric\("):
        metrics.metric(lambda pred, obs: 0.0)

    def rmse(pred, obs):
        return 0.0

    with pytest.raises(ParameterError, match="name of its own"):
        metrics.metric(rmse)
    with pytest.raises(ParameterError, match="better"):
        metrics.Metric("mae", mae, better="lower")
    with pytest.raises(ParameterError, match="no metric"):
        metrics.metric_list(())


def test_notebooks_filter_by_metrics_that_there_are():
    """Notebook 05 looked for "ubrmsd" among rows of "ubrmse", found none, and said nothing of its main result."""
    sources = [path.read_text(encoding="utf-8") for path in Path("notebooks").glob("*.ipynb")]
    named = [name for text in sources for name in re.findall(r"""\bmetric\b\W{0,6}== *\W{1,2}(\w+)""", text)]
    assert "ubrmse" in named
    for name in named:
        assert metrics.metric(name).name in metrics.METRICS


def test_a_registered_metric_is_known_by_name(monkeypatch, table):
    monkeypatch.setattr("smnb.metrics.registry.METRICS", dict(metrics.METRICS))
    own = metrics.register(metrics.Metric("mae", mae, units="m3 m-3", better="low", label="MAE"))
    assert metrics.metric("mae") is own is metrics.register(own)
    assert metrics.score_table(table, metrics="mae")["mae"].notna().any()
    with pytest.raises(ParameterError, match="another metric"):
        metrics.register(metrics.Metric("r", mae))


def test_every_metric_says_what_figures_and_sentences_need():
    assert {one.better for one in metrics.METRICS.values()} == {"low", "high", "zero", None}
    assert [metrics.METRICS[name].title for name in ("bias", "ubrmse", "anomaly_r")] == ["Bias", "ubRMSE", "Anomaly R"]
    assert all(one.units in ("1", "m3 m-3") for one in metrics.METRICS.values())


def test_one_text_for_an_interval():
    assert metrics.interval_text(0.0551, 0.048, 0.0612) == "0.055 [0.048, 0.061]"
    assert metrics.interval_text(0.0551, np.nan, np.nan) == metrics.interval_text(0.0551, None, None) == "0.055"
    assert metrics.interval_text(-0.01234, -0.02, 0.001, "+.4f") == "-0.0123 [-0.0200, +0.0010]"
    assert metrics.interval_text(np.nan, 0.1, 0.2) == metrics.interval_text(None) == ""


def test_scores_of_pairs_at_once_are_those_one_by_one(pair):
    pred, obs = pair
    found = metrics.pair_scores(pred.reshape(20, 20).astype("float32"), obs.reshape(20, 20))
    pred = pred.astype("float32").astype("float64")
    error = pred - obs
    assert found["n"] == 400
    assert found["bias"] == pytest.approx(error.mean(), rel=1e-12)
    assert found["rmse"] == pytest.approx(np.sqrt(mean_squared_error(obs, pred)), rel=1e-12)
    assert found["ubrmse"] == pytest.approx(error.std(), rel=1e-12)
    assert found["r"] == pytest.approx(stats.pearsonr(pred, obs).statistic, rel=1e-12)
    assert list(found) == ["n", "bias", "rmse", "ubrmse", "r"]


def test_scores_of_pairs_that_have_none():
    constant = metrics.pair_scores(np.full(5, 0.1), np.arange(5.0))
    assert np.isnan(constant["r"])
    assert constant["ubrmse"] == pytest.approx(np.sqrt(2.0))
    gap = metrics.pair_scores([0.1, np.nan, 0.3], [0.1, 0.2, 0.3])
    assert gap["n"] == 3
    assert np.isnan([gap[name] for name in ("bias", "rmse", "ubrmse", "r")]).all()
    none = metrics.pair_scores([], [])
    assert none["n"] == 0
    assert np.isnan(none["rmse"])
    with pytest.raises(ContractError, match="shape"):
        metrics.pair_scores([0.1, 0.2], [0.1])
