"""Intervals at new stations, and predictions corrected by a few readings: `smnb.sensors.ErrorModel`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from smnb.catalog import Catalog
from smnb.contract import ContractError
from smnb.sensors import ErrorModel, open_predictions

TRUE = ErrorModel(level=0.06, slope=0.4, slow=0.03, slow_days=40.0, noise=0.015, growth=0.0)


def simulated(stations: int, seed: int, n: int = 90) -> pd.DataFrame:
    """Predictions whose errors are those of `TRUE`, ten days apart."""
    rng, rows = np.random.default_rng(seed), []
    day = 10.0 * np.arange(n)
    for number in range(stations):
        predicted = 0.25 + 0.05 * np.sin(2 * np.pi * day / 365.0 + rng.uniform(0, 6)) + 0.02 * rng.standard_normal(n)
        x = predicted - predicted.mean()
        covariance = TRUE.level**2 + TRUE.slope**2 * np.outer(x, x) + TRUE.noise**2 * np.eye(n)
        covariance += TRUE.slow**2 * np.exp(-np.abs(day[:, None] - day) / TRUE.slow_days)
        error = np.linalg.cholesky(covariance) @ rng.standard_normal(n)
        time = np.datetime64("2019-01-01", "ns") + day.astype("timedelta64[D]")
        one = {"sensor_id": f"s{number}", "time": time, "predicted": predicted, "observed": predicted + error}
        rows.append(pd.DataFrame(one))
    return pd.concat(rows, ignore_index=True)


def by_station(values: pd.Series, table: pd.DataFrame) -> pd.Series:
    return values.groupby(table["sensor_id"]).mean()


def drawn(table: pd.DataFrame, k: int, seed: int = 0) -> pd.DataFrame:
    return table.groupby("sensor_id").sample(k, random_state=seed).rename(columns={"observed": "soil_moisture"})


def scored(model: ErrorModel, table: pd.DataFrame, k: int) -> tuple[float, float]:
    """RMSE and coverage at the rows that are no readings, means over stations."""
    readings = drawn(table, k) if k else table.iloc[:0].assign(soil_moisture=0.0)
    found = model.calibrate(table, readings[["sensor_id", "time", "soil_moisture"]])
    rest = found.drop(readings.index)
    rmse = np.sqrt(by_station((rest["predicted"] - rest["observed"]) ** 2, rest)).mean()
    return rmse, by_station(rest["observed"].between(rest["low90"], rest["high90"]).astype(float), rest).mean()


def test_the_parts_of_the_error_are_found_again_and_intervals_hold_elsewhere():
    model = ErrorModel.fit(simulated(60, seed=1))
    assert model.level == pytest.approx(TRUE.level, rel=0.3)
    assert model.slope == pytest.approx(TRUE.slope, rel=0.3)
    assert model.slow == pytest.approx(TRUE.slow, rel=0.2)
    assert model.noise == pytest.approx(TRUE.noise, rel=0.1)
    new = simulated(80, seed=2)
    scores = [scored(model, new, k) for k in (0, 1, 3, 10)]
    assert [covered for _, covered in scores] == pytest.approx([0.9] * 4, abs=0.05)
    assert scores[0][0] > 1.2 * scores[1][0] > 1.3 * scores[2][0] > 1.4 * scores[3][0]


def test_a_posterior_is_that_of_the_textbook():
    # one reading, only a level and noise: it is shrunk by level² / (level² + noise²)
    model = ErrorModel(level=0.06, slope=0.0, slow=0.0, slow_days=1.0, noise=0.03, growth=0.0)
    table = simulated(2, seed=3, n=5)
    reading = table.iloc[[2]].assign(soil_moisture=table["predicted"][2] + 0.05)[["sensor_id", "time", "soil_moisture"]]
    found = model.calibrate(table, reading)
    share = 0.06**2 / (0.06**2 + 0.03**2)
    np.testing.assert_allclose(found["predicted"] - table["predicted"], [share * 0.05] * 5 + [0.0] * 5, atol=1e-12)
    left = 0.06**2 * (1 - share) + 0.03**2
    np.testing.assert_allclose(
        found["high90"] - found["predicted"], [1.645 * np.sqrt(left)] * 5 + [1.645 * np.hypot(0.06, 0.03)] * 5
    )
    assert found["readings"].tolist() == [1] * 5 + [0] * 5
    twice = pd.concat([reading, reading.assign(soil_moisture=reading["soil_moisture"] + 0.02)])
    assert (model.calibrate(table, twice)["predicted"][0] - found["predicted"][0]) == pytest.approx(share * 0.01)
    # the order of rows does not matter
    turned = model.calibrate(table[::-1], reading)
    pd.testing.assert_frame_equal(turned.sort_index(), found, check_exact=False)


def test_bad_tables_are_refused():
    table = simulated(2, seed=3, n=5)
    reading = table.iloc[[2]].assign(soil_moisture=0.2)
    with pytest.raises(ContractError, match="twice"):
        TRUE.calibrate(pd.concat([table, table.iloc[:1]]), reading)
    with pytest.raises(ContractError, match="predicted"):
        TRUE.calibrate(table.assign(predicted=np.nan), reading)
    with pytest.raises(ContractError, match="too few stations"):
        ErrorModel.fit(table)


def test_real_stations_gain_from_readings(shared_samples):
    """SMAP through a line that was fitted in other blocks; half of the blocks fit the errors, the others are scored."""
    table = open_predictions("conus", Catalog.load(), shared_samples).tables["Linear on SMAP"]
    table = table.dropna(subset=["predicted", "observed"]).reset_index(drop=True)
    table = table[table.groupby("sensor_id")["time"].transform("size") >= 30]
    here = table["block"].map({block: i % 2 for i, block in enumerate(sorted(table["block"].unique()))}) == 0
    model, new = ErrorModel.fit(table[here]), table[~here].reset_index(drop=True)
    (plain, covered), (one, _), (three, also), (ten, _) = (scored(model, new, k) for k in (0, 1, 3, 10))
    assert 0.80 < covered < 0.97
    assert 0.80 < also < 0.97
    assert one < 0.85 * plain
    assert ten < three < one
