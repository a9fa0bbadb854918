"""What is known of a model's errors at new stations: intervals of its predictions, and their correction by a few readings.

The error at a station is its level (the same all the time), a slope on the prediction's departure from the station's mean, a part
that lasts for weeks, and noise, all normal, with sizes that may grow with the station's wetness. They are fitted by maximum
likelihood to stations that the model was not trained on. A station's readings then say what of it is level, slope and slow part
there: the posterior mean of a Gaussian process, which shrinks a single reading and follows many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ContractError, FormatError, check_table, foreign, plain
from smnb.loaders import read_named_csv

_COLUMNS = ["sensor_id", "time", "predicted"]
_WET = 0.2  # m3 m-3, mean prediction of a station at which the errors have the sizes that are stated
_DRY = 0.02  # a drier station counts as this one
_MOST_ROWS = 150  # of a station in the fit: the likelihood needs the cube of their number


@dataclass(frozen=True)
class ErrorModel:
    """Standard deviations of the parts of the error at a station, m3 m-3 where nothing else is said.

    `slope` has no unit; the `slow` part loses a factor e of its correlation in `slow_days`; all but the slope times
    ``(mean prediction / 0.2) ** growth``. `width` times the standard deviation is half the interval that holds 90 % of what is
    observed at a new station, on average over stations; `width_calibrated` with three readings of it.
    """

    level: float
    slope: float
    slow: float
    slow_days: float
    noise: float
    growth: float
    width: float = 1.645
    width_calibrated: float = 1.645

    @classmethod
    def fit(cls, table: pd.DataFrame) -> ErrorModel:
        """Fit to predictions at stations that the model has not seen: ``sensor_id``, ``time``, ``observed``, ``predicted``."""
        from scipy.optimize import minimize

        table = table.dropna(subset=["observed", "predicted"]).reset_index(drop=True)
        stations = [part for _, part in _stations("ErrorModel.fit", table) if len(part) > 2]
        if len(stations) < 10:
            raise ContractError("ErrorModel.fit", "too few stations", got=len(stations), expected=plain("10 or more"))
        thinned = [part.iloc[:: -(-len(part) // _MOST_ROWS)] for part in stations]

        def made(x: NDArray, *widths: float) -> ErrorModel:
            return cls(*np.exp(x[:5]).tolist(), float(x[5]), *widths)

        def badness(x: NDArray) -> float:
            model, total = made(x), 0.0
            for part in thinned:
                covariance = model._covariance(part, part) + model._noise(part) * np.eye(len(part))
                factor = np.linalg.cholesky(covariance)
                z = np.linalg.solve(factor, (part["observed"] - part["predicted"]).to_numpy())
                total += (0.5 * z @ z + np.log(np.diag(factor)).sum()) / len(part)
            return total

        found = minimize(badness, [*np.log([0.06, 0.3, 0.03, 40.0, 0.02]), 0.0], method="L-BFGS-B")
        model, rng = made(found.x), np.random.default_rng(0)
        given = [part.iloc[np.sort(rng.choice(len(part), min(3, len(part) - 1), replace=False))] for part in stations]
        readings = pd.concat(given).rename(columns={"observed": "soil_moisture"})
        widths = []
        for known in (readings.iloc[:0], readings):
            rest = model.calibrate(pd.concat(stations), known).drop(known.index)
            half = (rest["high90"] - rest["predicted"]) / 1.645
            sizes = ((rest["observed"] - rest["predicted"]).abs() / half).to_numpy()
            widths.append(station_quantile(sizes, rest["sensor_id"].to_numpy(), spare=1))
        return made(found.x, *widths)

    def calibrate(self, table: pd.DataFrame, readings: pd.DataFrame | None = None) -> pd.DataFrame:
        """Correct predictions by readings of their stations.

        Parameters
        ----------
        table : DataFrame
            ``sensor_id``, ``time``, ``predicted`` (m3 m-3, none missing).
        readings : DataFrame, optional
            ``sensor_id``, ``time``, ``soil_moisture`` (m3 m-3), at rows of `table`; several at one are averaged.

        Returns
        -------
        DataFrame
            `table` in its order, with ``predicted`` corrected, ``low90`` and ``high90``, all 0 or more, and ``readings``, the
            number that the station has. Stations without keep their predictions.

        Raises
        ------
        ContractError
            On a missing column or prediction, or a row twice.
        """
        check_table("calibrate", table, _COLUMNS, complete=_COLUMNS)
        readings = table.iloc[:0].assign(soil_moisture=0.0) if readings is None else readings
        given = readings.groupby(["sensor_id", "time"])["soil_moisture"].mean().rename("_reading")
        joined = table[_COLUMNS].reset_index(drop=True).join(given, on=["sensor_id", "time"])
        found = np.empty((4, len(table)))
        for rows, part in _stations("calibrate", joined):
            known = part[part["_reading"].notna()]
            share = self._covariance(part, known)
            inner = self._covariance(known, known) + self._noise(part) * np.eye(len(known))
            gain = np.linalg.solve(inner, share.T).T
            predicted = part["predicted"] + gain @ (known["_reading"] - known["predicted"]).to_numpy()
            left = self.spread(part) ** 2 - (gain * share).sum(1)
            width = self.width_calibrated if len(known) else self.width
            half = width * np.sqrt(np.maximum(left, self._noise(part)))
            found[:, rows] = predicted, predicted - half, predicted + half, np.full(len(part), len(known))
        found = np.maximum(found, 0.0)
        names = ("predicted", "low90", "high90", "readings")
        return table.assign(**dict(zip(names, (*found[:3], found[3].astype(int)), strict=True)))

    def spread(self, station: pd.DataFrame) -> NDArray[np.float64]:
        """Standard deviation of the error of each row of a station without readings, m3 m-3."""
        departure = station["predicted"].to_numpy() - station["predicted"].mean()
        parts = self.level**2 + (self.slope * departure) ** 2 + self.slow**2
        return np.sqrt(self._size(station) ** 2 * parts + self._noise(station))

    def _size(self, station: pd.DataFrame) -> float:
        return (max(station["predicted"].mean(), _DRY) / _WET) ** self.growth

    def _noise(self, station: pd.DataFrame) -> float:
        return (self._size(station) * self.noise) ** 2

    def _covariance(self, station: pd.DataFrame, others: pd.DataFrame) -> NDArray[np.float64]:
        """Covariance of the errors, less the noise, of a station's rows and some of them."""
        day = [part["time"].to_numpy("datetime64[s]").astype(float) / 86400.0 for part in (station, others)]
        x = [part["predicted"].to_numpy() - station["predicted"].mean() for part in (station, others)]
        slow = self.slow**2 * np.exp(-np.abs(day[0][:, None] - day[1]) / self.slow_days)
        return self._size(station) ** 2 * (self.level**2 + self.slope**2 * np.outer(*x) + slow)


def read_readings(path: str | Path, names: Sequence[str], time: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Readings for `ErrorModel.calibrate` from a CSV, and counts of what was done to them.

    The file has the columns `names`, which together name a station (``sensor_id`` joins them by "__"), `time` (ISO, UTC) and
    ``soil_moisture``, m3 m-3, or per cent where a station has a value above 1. Rows without a value are left out and counted.
    `FormatError` on a missing column, no time, a value that neither can be, or no value at all.
    """
    who = f"read_readings({Path(path).name})"
    with foreign(who, "the readings are unreadable as CSV"):
        table = read_named_csv(Path(path), [*names, time])
    if missing := [name for name in (*names, time, "soil_moisture") if name not in table]:
        raise FormatError(who, f"columns {missing} are missing", got=[str(name) for name in table])
    with foreign(who, f"the column {time} holds no times", next_step="Write them as 2020-05-17"):
        times = pd.to_datetime(table[time], utc=True, format="ISO8601").dt.tz_localize(None).astype("datetime64[ns]")
    with foreign(who, "soil_moisture is not numeric", next_step="Leave cells empty where there is no reading"):
        value = table["soil_moisture"].astype("float64")
    station = table[list(names)].apply(lambda column: column.str.strip()).agg("__".join, axis=1)
    percent = value.groupby(station).transform("max") > 1.0
    found = pd.DataFrame({"sensor_id": station, "time": times, "soil_moisture": value.where(~percent, value / 100.0)})
    report = {
        "readings_without_value": int(value.isna().sum()),
        "readings_in_percent": int((percent & value.notna()).sum()),
    }
    found = found.dropna(subset=["soil_moisture"])
    if found.empty or found["time"].isna().any():
        raise FormatError(who, "no row has a value" if found.empty else "a reading has no time", got=len(table))
    if not found["soil_moisture"].between(0.0, 1.0).all():
        got, expected = value[found.index[~found["soil_moisture"].between(0.0, 1.0)][0]], plain("0 to 1, or per cent")
        raise FormatError(who, "a reading is no soil moisture", got=float(got), expected=expected)
    return found, report


def _stations(who: str, table: pd.DataFrame) -> Iterator[tuple[NDArray[np.intp], pd.DataFrame]]:
    """Yield positions and rows of each station."""
    twice = table.duplicated(["sensor_id", "time"])
    if twice.any():
        raise ContractError(
            who, "a station has a time twice", got=tuple(table.loc[twice, _COLUMNS].iloc[0].astype(str))
        )
    for rows in table.groupby("sensor_id", sort=False).indices.values():
        yield rows, table.iloc[rows]


def station_quantile(sizes: NDArray[np.float64], station: NDArray, share: float = 0.9, *, spare: int = 0) -> float:
    """Smallest size within which a share of each station's lie, on average over stations, each weighing the same.

    `spare` counts stations more of which all sizes lie beyond, as conformal prediction has one.
    """
    codes, order = np.unique(station, return_inverse=True)[1], np.argsort(sizes)
    count = np.bincount(codes)
    reached = np.searchsorted(np.cumsum((1.0 / count[codes])[order]), share * (len(count) + spare))
    return float(sizes[order][min(reached, len(order) - 1)])
