"""Intervals: coverage in a small simulation, agreement with the field's toolbox, bad input, and paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from smnb import metrics
from smnb.contract import ContractError, ParameterError
from smnb.metrics.block_bootstrap import MIN_BLOCKS, long_run_inflation


def autoregression(rng, phi, series, n):
    start = phi * rng.standard_normal((series, 1))
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], rng.standard_normal((series, n)), axis=1, zi=start)[0]


def long_table(pred, obs):
    series, n = obs.shape
    time = np.datetime64("2018-01-01") + np.arange(n)
    return pd.DataFrame(
        {
            "sensor_id": np.repeat(np.arange(series), n),
            "time": np.tile(time, series),
            "observed": obs.ravel(),
            "predicted": pred.ravel(),
        }
    )


def simulated(phi, *, series=250, n=700, seed=0):
    rng = np.random.default_rng(seed)
    obs = 0.25 + 0.08 * autoregression(rng, 0.9, series, n)
    return long_table(obs + 0.02 + 0.05 * autoregression(rng, phi, series, n), obs)


@pytest.mark.parametrize("phi", [0.0, 0.8, 0.95])
def test_coverage_with_dependent_errors(phi):
    true = {"ubrmse": 0.05, "bias": 0.02, "pearson_r": 0.08 / np.hypot(0.08, 0.05)}
    found = metrics.score_intervals(simulated(phi), metrics=tuple(true), n_boot=400)
    width = (found["high"] - found["low"]).groupby(found["metric"]).median()
    for metric, value in true.items():
        mine = found[found["metric"] == metric]
        held = ((mine["low"] <= value) & (value <= mine["high"])).mean()
        assert 0.88 <= held <= 0.995, (metric, held)  # 250 series: nominal 0.95 less five standard errors
    # the width is that of the information there is, not a trick of being wide: sqrt(2/n_eff)/2 each side, in logs
    effective = 700 * (1 - phi**2) / (1 + phi**2)
    assert width["ubrmse"] == pytest.approx(2 * 1.96 * 0.05 * np.sqrt(0.5 / effective), rel=0.3)


def test_analytic_interval_is_too_narrow_for_dependent_errors():
    found = metrics.score_intervals(simulated(0.95), metrics="ubrmse", method="assume_independent")
    held = ((found["low"] <= 0.05) & (found["high"] >= 0.05)).mean()
    assert held < 0.5
    assert (found["method"] == "assume_independent").all()


def test_white_noise_on_slow_errors_is_covered():
    rng = np.random.default_rng(3)
    obs = 0.25 + 0.08 * autoregression(rng, 0.9, 250, 700)
    error = 0.05 * np.sqrt(0.5) * (autoregression(rng, 0.95, 250, 700) + rng.standard_normal((250, 700)))
    found = metrics.score_intervals(long_table(obs + error, obs), metrics="ubrmse", n_boot=400)
    assert ((found["low"] <= 0.05) & (found["high"] >= 0.05)).mean() >= 0.87


@pytest.mark.parametrize("metric", [name for name, one in metrics.METRICS.items() if one.smooth])
def test_interval_holds_the_estimate_and_the_estimate_is_the_score(metric):
    table = simulated(0.5, series=20, n=200)
    found = metrics.score_intervals(table, metrics=metric, n_boot=300)
    scores = metrics.score_table(table, metrics=metric)
    np.testing.assert_allclose(found["value"], scores[metric], rtol=1e-10)
    assert (found["low"] < found["value"]).all()
    assert (found["value"] < found["high"]).all()


def test_gradients_are_those_of_the_functions():
    from smnb.metrics.registry import SMOOTH

    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 50)
    y = 0.6 * x + rng.normal(0, 0.5, 50) + 0.2
    means = {
        "pair": np.array([x.mean(), y.mean(), (x * x).mean(), (y * y).mean(), (x * y).mean()]),
        "difference": np.array([(x - y).mean(), ((x - y) ** 2).mean()]),
    }
    for name, smooth in SMOOTH.items():
        m = means[smooth.features]
        _, gradient = smooth.function(m)
        for k in range(m.size):
            step = np.zeros_like(m)
            step[k] = 1e-6
            numeric = (smooth.function(m + step)[0] - smooth.function(m - step)[0]) / 2e-6
            assert gradient[k] == pytest.approx(numeric, rel=1e-5, abs=1e-7), (name, k)


def test_independent_errors_give_the_textbook_interval():
    """For white noise the block bootstrap agrees with the t and chi-square intervals."""
    table = simulated(0.0, series=40, n=700)
    for metric in ("bias", "ubrmse"):
        width = {
            method: (f["high"] - f["low"]).mean()
            for method in ("block_bootstrap", "assume_independent")
            for f in [metrics.score_intervals(table, metrics=metric, method=method)]
        }
        assert width["block_bootstrap"] == pytest.approx(width["assume_independent"], rel=0.08)


def test_analytic_intervals_agree_with_pytesmo():
    pairwise = pytest.importorskip("pytesmo.metrics.pairwise")
    table = simulated(0.8, series=1, n=300)
    pred, obs = table["predicted"].to_numpy(), table["observed"].to_numpy()
    for mine, theirs in {
        "bias": "bias",
        "ubrmse": "ubrmsd",
        "pearson_r": "pearson_r",
        "spearman_r": "spearman_r",
    }.items():
        value = getattr(pairwise, theirs)(pred, obs)
        low, high = getattr(pairwise, f"{theirs}_ci")(pred, obs, value, 0.1)
        found = metrics.interval(pred, obs, mine, method="assume_independent", level=0.9)
        assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-9)


def test_seeded_and_independent_of_the_other_sensors():
    table = simulated(0.8, series=12, n=150)
    table = table[np.random.default_rng(0).random(len(table)) > 0.1 * (table["sensor_id"] % 3)]
    first = metrics.score_intervals(table, metrics=("ubrmse", "pearson_r"))
    again = metrics.score_intervals(table.sample(frac=1, random_state=1), metrics=("ubrmse", "pearson_r"))
    pd.testing.assert_frame_equal(first, again, rtol=1e-9)
    alone = metrics.score_intervals(table[table["sensor_id"] == 7], metrics=("ubrmse", "pearson_r"))
    np.testing.assert_allclose(alone[["low", "high"]], first[first["sensor_id"] == 7][["low", "high"]], rtol=1e-4)
    other = metrics.score_intervals(table, metrics="ubrmse", seed=1)
    assert not np.allclose(other["low"], first.loc[first["metric"] == "ubrmse", "low"])


def test_single_series_equals_the_table():
    table = simulated(0.8, series=1, n=200)
    table.loc[5, "predicted"] = np.nan
    row = metrics.score_intervals(table, metrics="ubrmse").iloc[0]
    found = metrics.interval(table["predicted"], table["observed"], "ubrmse")
    assert (found.value, found.low, found.high, found.n) == pytest.approx((row["value"], row["low"], row["high"], 199))
    assert str(found) == f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def test_block_length_follows_the_autocorrelation():
    length = [
        metrics.score_intervals(simulated(phi, series=40), metrics="bias", n_boot=100)["block_length"].median()
        for phi in (0.0, 0.5, 0.95)
    ]
    assert length[0] <= 3 < length[1] < length[2] <= 700 // MIN_BLOCKS + 1


def test_inflation_agrees_with_the_sums_it_stands_for():
    rho, decay, length, n = 0.4, 0.9, 12, 80
    k = np.arange(1, n)
    true = 1 + 2 * ((1 - k / n) * rho * decay ** (k - 1)).sum()
    k = np.arange(1, length)
    seen = 1 + 2 * ((1 - k / length) * rho * decay ** (k - 1)).sum() - length / n * true
    assert long_run_inflation(np.array(rho), np.array(decay), length, n) == pytest.approx(true / seen)
    assert long_run_inflation(np.array(-0.5), np.array(-0.5), 3, 100) == pytest.approx(1 / (1 - 0.03))


def test_short_persistent_series_carry_a_note():
    found = metrics.score_intervals(simulated(0.99, series=5, n=60), metrics="bias", n_boot=100)
    assert found["note"].str.contains("too narrow").any()


def test_no_interval_with_its_reason():
    rng = np.random.default_rng(0)
    obs, time = rng.random(60), pd.date_range("2020", periods=60)
    frames = {
        "few": (obs[:9], obs[:9] + 0.1 * rng.random(9)),
        "flat": (obs, np.full(60, 0.2)),
        "shifted": (obs, obs + 0.1),
        "infinite": (obs, np.where(np.arange(60) == 3, np.inf, obs**2)),
        "missing": (obs, np.full(60, np.nan)),
        "fine": (obs, obs + 0.1 * rng.random(60)),
    }
    table = pd.concat(
        [
            pd.DataFrame({"sensor_id": k, "time": time[: len(o)], "observed": o, "predicted": p})
            for k, (o, p) in frames.items()
        ]
    )
    found = metrics.score_intervals(table, metrics=("ubrmse", "pearson_r"), n_boot=100).set_index(
        ["metric", "sensor_id"]
    )
    assert found.loc[("ubrmse", "few"), "note"] == "9 pairs, fewer than min_obs=13"
    assert found.loc[("pearson_r", "flat"), "note"] == "the predictions are constant"
    assert found.loc[("ubrmse", "shifted"), "note"] == "the differences are constant"
    assert found.loc[("ubrmse", "shifted"), "value"] == pytest.approx(0.0, abs=1e-12)
    assert found.loc[("ubrmse", "infinite"), "note"] == "an infinite value among the pairs"
    assert found.loc[("ubrmse", "missing"), "n"] == 0
    bad = found.drop(index="fine", level="sensor_id")
    bad = bad.drop(index=[("ubrmse", "flat"), ("pearson_r", "shifted")])
    assert bad[["low", "high"]].isna().all(axis=None)
    assert found.loc[(slice(None), "fine"), ["low", "high"]].notna().all(axis=None)
    assert not np.isinf(found[["value", "low", "high"]].to_numpy()).any()


def test_anomaly_intervals_are_those_of_the_anomalies():
    table = simulated(0.5, series=3, n=400)
    found = metrics.score_intervals(table, metrics="anomaly_r", n_boot=200)
    np.testing.assert_allclose(found["value"], metrics.score_table(table)["anomaly_r"], rtol=1e-9)
    assert (found["low"] < found["value"]).all()


def test_bad_options_raise():
    table = simulated(0.0, series=2, n=50)
    for options, text in [
        ({"method": "bca"}, "assume_independent"),
        ({"metrics": "ubrmsd"}, "ubrmse"),
        ({"metrics": ()}, "ubrmse"),
        ({"metrics": "rmse", "method": "assume_independent"}, "spearman_r"),
        ({"level": 95}, "level"),
        ({"n_boot": 10}, "n_boot"),
        ({"min_obs": 0}, "min_obs"),
        ({"seed": -1}, "seed"),
    ]:
        with pytest.raises(ParameterError, match=text):
            metrics.score_intervals(table, **options)
    with pytest.raises(ContractError, match="repeat"):
        metrics.score_intervals(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ContractError, match="no rows"):
        metrics.score_intervals(table.iloc[:0])
    with pytest.raises(ContractError, match="one shape"):
        metrics.interval(np.zeros(5), np.zeros(6))
    with pytest.raises(ParameterError, match="times"):
        metrics.interval(np.zeros(50), np.zeros(50), "anomaly_r")


def mae(pred, obs):
    return np.abs(pred - obs).mean()


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_interval_of_an_own_function_covers(phi):
    own = metrics.Metric("spread", lambda pred, obs, dim=-1: (pred - obs).std(dim), better="low")
    table = simulated(phi, series=120)
    found = metrics.score_intervals(table, metrics=(own, "ubrmse"), n_boot=300)
    drawn, studentised = (found[found["metric"] == name] for name in ("spread", "ubrmse"))
    np.testing.assert_allclose(drawn["value"], studentised["value"], rtol=1e-10)
    held = ((drawn["low"] <= 0.05) & (drawn["high"] >= 0.05)).mean()
    assert held >= 0.86  # 120 series: nominal 0.95 less four standard errors
    widths = [(one["high"] - one["low"]).mean() for one in (drawn, studentised)]
    assert widths[0] == pytest.approx(widths[1], rel=0.25)


def test_own_functions_row_by_row_and_all_at_once():
    table = simulated(0.8, series=3, n=120)
    table.loc[table["sensor_id"] == 2, "predicted"] = np.where(np.arange(120) < 5, 0.2, np.nan)
    at_once = metrics.Metric("at_once", lambda pred, obs, dim=-1: np.abs(pred - obs).mean(dim))
    found = metrics.score_intervals(table, metrics=(mae, at_once, "spearman_r"), n_boot=200)
    one, two = (found[found["metric"] == name].reset_index(drop=True) for name in ("mae", "at_once"))
    pd.testing.assert_frame_equal(one.drop(columns="metric"), two.drop(columns="metric"))
    assert one["note"].iloc[2] == "5 pairs, fewer than min_obs=13"
    assert ((one["low"] < one["value"]) & (one["value"] < one["high"])).tolist() == [True, True, False]
    ranks = found[found["metric"] == "spearman_r"].iloc[:2]
    assert ((ranks["low"] < ranks["value"]) & (ranks["value"] < ranks["high"]) & (ranks["high"] <= 1.0)).all()
    alone = metrics.score_intervals(table[table["sensor_id"] == 1], metrics=mae, n_boot=200)
    np.testing.assert_allclose(alone[["low", "high"]], one.loc[[1], ["low", "high"]])


def test_mean_over_sensors_covers():
    """Few, skewed values: where percentiles fail."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(200):
        found = metrics.average_interval(rng.gamma(4.0, 0.0125, 15), n_boot=300)
        held.append(found.low <= 0.05 <= found.high)
    assert 0.89 <= np.mean(held) <= 0.99


def test_clusters_widen_the_interval_of_a_mean():
    rng = np.random.default_rng(2)
    station = np.repeat(np.arange(30), 4)
    values = 0.05 + 0.01 * rng.standard_normal(30)[station] + 0.001 * rng.standard_normal(120)
    alone, clustered = metrics.average_interval(values), metrics.average_interval(values, clusters=station)
    assert (clustered.high - clustered.low) > 1.6 * (alone.high - alone.low)
    assert alone.value == clustered.value == pytest.approx(values.mean())
    half = 1.96 * values.std(ddof=1) / np.sqrt(120)
    assert alone.high - alone.low == pytest.approx(2 * half, rel=0.1)


def test_the_median_and_its_interval():
    rng = np.random.default_rng(2)
    r = np.tanh(rng.normal(1.0, 0.3, 200))
    median = metrics.average_interval(r, how="median")
    assert median.value == pytest.approx(np.median(r))
    assert median.low < np.tanh(1.0) < median.high


def test_a_cluster_that_dominates_leaves_the_mean_of_clusters():
    values, clusters = np.r_[np.full(9, 0.05), 0.02, 0.03, 0.04, 0.06], np.r_[np.zeros(9), 1, 2, 3, 4]
    mean = metrics.average_interval(values, clusters=clusters)
    assert (mean.clusters, mean.note) == (5, "one of 5 clusters holds 69 % of the sensors")
    assert mean.effective == pytest.approx(13**2 / (81 + 4))
    assert np.isnan(mean.low)
    alike = metrics.average_interval(values, how="cluster_mean", clusters=clusters)
    assert (alike.value, alike.n) == (pytest.approx(0.04), 13)
    assert alike.low < 0.04 < alike.high
    few = metrics.average_interval(np.arange(20.0), clusters=[0] * 9 + [1] * 8 + [2, 3, 4])
    assert few.note == "5 clusters count as 2.7 of one size, fewer than 3"


def test_few_clusters_have_no_interval():
    found = metrics.average_interval([0.1, 0.2, np.nan, 0.3, 0.15])
    assert found.value == pytest.approx(0.1875)
    assert np.isnan(found.low)
    assert found.note == "4 clusters, fewer than 5"
    same = metrics.average_interval(np.full(10, 0.3))
    assert np.isnan(same.low)
    assert "do not vary" in same.note
    assert np.isnan(metrics.average_interval([]).value)
    with pytest.raises(ContractError, match="one cluster label"):
        metrics.average_interval([0.1, 0.2], clusters=["a"])
    with pytest.raises(ParameterError, match="median"):
        metrics.average_interval([0.1, 0.2], how="mode")


def scores_of_two_models():
    rng = np.random.default_rng(6)
    site = rng.gamma(20, 0.0025, 60)  # sites differ far more than the two models do
    a = pd.DataFrame({"sensor_id": [f"s{i}" for i in range(60)], "ubrmse": site + rng.normal(0, 0.002, 60)})
    return a, a.assign(ubrmse=site + 0.004 + rng.normal(0, 0.002, 60)).sample(frac=1, random_state=0)


def test_paired_difference():
    a, b = scores_of_two_models()
    found = metrics.compare(a, b, names=("CNN", "SVR"))
    d = a.set_index("sensor_id")["ubrmse"] - b.set_index("sensor_id")["ubrmse"]
    assert found.difference.value == pytest.approx(d.mean())
    half = 2.0 * d.std() / np.sqrt(60)
    assert (found.difference.low, found.difference.high) == pytest.approx((d.mean() - half, d.mean() + half), abs=2e-4)
    assert found.sentence.startswith("CNN beats SVR by 0.00")
    assert found.sentence.endswith("in mean ubRMSE (95 % interval, 60 sensors, paired)")
    assert metrics.compare(b, a, names=("SVR", "CNN")).sentence == found.sentence
    # unpaired, the sites' own differences would hide it
    widths = [i.high - i.low for i in map(metrics.average_interval, (a["ubrmse"], b["ubrmse"]))]
    assert found.difference.high - found.difference.low < 0.5 * min(widths)


def test_difference_that_cannot_be_told():
    a, _ = scores_of_two_models()
    rng = np.random.default_rng(0)
    same = metrics.compare(a, a.assign(ubrmse=a["ubrmse"] + rng.normal(0, 0.002, 60)))
    assert "cannot be told apart" in same.sentence
    identical = metrics.compare(a, a)
    assert identical.difference.value == 0.0
    assert "without an interval" in identical.sentence


def test_direction_of_each_score():
    index = [f"s{i}" for i in range(20)]
    rng = np.random.default_rng(0)
    r = pd.Series(rng.uniform(0.5, 0.7, 20), index=index)
    assert metrics.compare(r + 0.1 + 0.01 * rng.random(20), r, "pearson_r").sentence.startswith("A beats B by 0.10")
    bias = pd.Series(rng.uniform(-0.02, 0.02, 20), index=index)
    assert metrics.compare(bias - 0.1, bias, "bias").sentence.startswith("B beats A")
    unsaid = metrics.compare(r + 0.1 + 0.01 * rng.random(20), r, "slope").sentence
    assert unsaid.startswith("A minus B is 0.10")
    assert "beats" not in unsaid
    with pytest.raises(ParameterError, match="pearson_r"):
        metrics.compare(r, r, "correlation")


def test_comparison_of_unlike_tables():
    a, b = scores_of_two_models()
    a.loc[0, "ubrmse"] = np.nan
    found = metrics.compare(a, b)
    assert found.difference.n == 59
    assert found.n_only_one == 1
    assert "1 scored by one only" in found.sentence
    with pytest.raises(ContractError, match="in common"):
        metrics.compare(a, b.assign(sensor_id="x" + b["sensor_id"]))
    with pytest.raises(ContractError, match="twice"):
        metrics.compare(pd.concat([a, a]), b)
    with pytest.raises(ContractError, match="pearson_r"):
        metrics.compare(a, b, "pearson_r")
    with pytest.raises(ContractError, match="no cluster"):
        metrics.compare(a, b, clusters={"s1": "n"})
    network = {f"s{i}": i // 6 for i in range(60)}
    assert "drawn by cluster" in metrics.compare(a, b, clusters=network).sentence
