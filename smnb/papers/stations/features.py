"""What the network of `smnb.papers.stations` is given: features by source, from each station's own predictors.

Nothing here looks at in-situ soil moisture, and a station's features depend on no other station. Past and later windows of a
station's *predictors* enter; ``past_only`` leaves the later ones out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smnb.contract import ContractError, check_choice, check_table, plain
from smnb.grids.koppen import koppen_class

Values = NDArray[np.float64]
#: Columns that must be there for a source to count as present in a row; the sources in the order of the published table.
PRESENT_BY: dict[str, tuple[str, ...]] = {
    "sentinel1": ("sigma0_VV", "sigma0_VH"),
    "sentinel2": ("reflectance_B8", "reflectance_B11"),
    "smap": ("smap",),
    "static": ("field_capacity", "mtpi"),
}
SOURCES: tuple[str, ...] = tuple(PRESENT_BY)
#: Rows of one station beyond which the table is not one of ten-day means; the pairwise weights would not fit in memory.
MAX_WINDOWS = 4000
_WINDOW = np.timedelta64(10, "D") / np.timedelta64(1, "ns")
_YEAR_DAYS = 365.25
#: dB a degree by which backscatter falls with incidence angle: the middle of what is reported for land at 30 to 45 degrees.
ANGLE_SLOPE = 0.13
#: Top-of-atmosphere reflectances above which a ten-day mean is cloud (blue, cirrus, aerosol band).
CLOUD_LIMITS = {"B2": 0.25, "B10": 0.01, "B1": 0.28}
_OPTICAL = ("B1", "B2", "B3", "B4", "B8", "B8A", "B10", "B11", "B12")
#: Prior weight (rows) that holds the harmonics of a short series near zero.
_RIDGE = np.array([1e-6, 0.5, 0.5, 1.0, 1.0])


class StationSeries:
    """Times of one station's rows and statistics over them, gaps and all; with `past_only` row i sees no later row.

    Each is a weighted sum over the station's rows, the weights made of the times between rows, so that series may be irregular,
    partial or a single row. `windows` are times in ten-day windows since any date, ascending and unique; `phase` is the time of
    the year, radians. Values are float64 of shape (row,), missing is NaN; where nothing is seen the result is NaN.

    Filter and change detection are those of Wagner et al. 1999, RSE 70(2), 191-207, doi:10.1016/S0034-4257(99)00036-X.

    >>> series = StationSeries(np.array([0.0, 1.0, 2.0]), np.zeros(3))
    >>> series.lag(np.array([0.1, 0.2, 0.4]), 1).tolist()
    [0.1, 0.1, 0.2]
    """

    def __init__(self, windows: Values, phase: Values, *, past_only: bool = False) -> None:
        self.past_only, self.age = past_only, windows[:, None] - windows[None, :]
        self.seen = self.age >= 0.0 if past_only else np.ones(self.age.shape, dtype=bool)
        self.harmonics = np.stack([np.ones(phase.size), *(f(k * phase) for k in (1, 2) for f in (np.cos, np.sin))], 1)

    def _weighted(self, x: Values, weights: Values) -> Values:
        there = np.isfinite(x)
        total = weights @ there
        return np.divide(weights @ np.where(there, x, 0.0), total, out=np.full(x.size, np.nan), where=total > 0.0)

    def mean(self, x: Values) -> Values:
        """Mean of the rows seen."""
        return self._weighted(x, self.seen.astype(float))

    def anomaly(self, x: Values) -> Values:
        """Difference to the mean of the rows seen."""
        return x - self.mean(x)

    def spread(self, x: Values) -> Values:
        """Standard deviation of the rows seen."""
        there = np.isfinite(x)
        offset = float(x[there].mean()) if there.any() else 0.0  # against cancellation; it drops out
        square, mean = self.mean((x - offset) ** 2), self.mean(x - offset)
        return np.sqrt(np.maximum(square - mean**2, 0.0))

    def quantiles(self, x: Values, percent: Sequence[float]) -> list[Values]:
        """Percentiles of the rows seen."""
        result = np.full((len(percent), x.size), np.nan)
        if not self.past_only and np.isfinite(x).any():
            result[:] = np.nanpercentile(x, percent)[:, None]
        for row in np.flatnonzero(np.cumsum(np.isfinite(x)) > 0) if self.past_only else ():
            result[:, row] = np.nanpercentile(x[: row + 1], percent)
        return list(result)

    def rank(self, x: Values) -> Values:
        """Share of the rows seen that are below, half of the ties counted, from -0.5 to 0.5."""
        there = np.isfinite(x)
        below = (x[None, :] < x[:, None]) + 0.5 * (x[None, :] == x[:, None])
        count = np.maximum((self.seen & there[None, :]).sum(1), 1)
        return np.where(there, (below * self.seen * there[None, :]).sum(1) / count - 0.5, np.nan)

    def memory(self, x: Values, windows: float) -> Values:
        """Exponential filter over the row and earlier ones, with a time constant in windows."""
        return self._weighted(x, np.where(self.age >= 0.0, np.exp(-np.abs(self.age) / windows), 0.0))

    def smooth(self, x: Values, windows: float) -> Values:
        """Exponential filter over the rows seen, before and after."""
        return self._weighted(x, np.where(self.seen, np.exp(-np.abs(self.age) / windows), 0.0))

    def lag(self, x: Values, windows: int) -> Values:
        """Value of the row nearest to so many windows ago (negative: ahead) among the rows seen."""
        distance = np.where(self.seen, np.abs(self.age - windows), np.inf)
        return x[np.argmin(distance, axis=1)]

    def season(self, x: Values) -> Values:
        """Two harmonics of the year fitted to the rows seen, weakly held at zero."""
        there = np.isfinite(x)
        if not there.any():
            return np.full(x.size, np.nan)
        offset = float(x[there].mean()) if not self.past_only else float(x[there][0])
        h, y = self.harmonics, np.where(there, x - offset, 0.0)
        if not self.past_only:
            weighted = h * there[:, None]
            return offset + h @ np.linalg.solve(weighted.T @ h + np.diag(_RIDGE), h.T @ y)
        products = np.cumsum(np.einsum("na,nb,n->nab", h, h, there.astype(float)), axis=0) + np.diag(_RIDGE)
        loads = np.cumsum(h * y[:, None], axis=0)
        fitted = offset + np.einsum("na,na->n", h, np.linalg.solve(products, loads[..., None])[..., 0])
        return np.where(np.cumsum(there) > 0, fitted, np.nan)


def features_of(features: pd.DataFrame, sources: Sequence[str]) -> pd.DataFrame:
    """The features of some sources (`ParameterError` on an unknown one, or none), and of the calendar."""
    check_choice("features_of", "sources", tuple(sources), SOURCES)
    return features[[name for name in features if name.split(":")[0] in (*sources, "calendar")]]


def is_lasting(name: str) -> bool:
    """Whether a feature belongs to the station rather than to the window: means, spreads, quantiles, static values.

    >>> [is_lasting(name) for name in ("smap:mean", "smap:anomaly", "static:lat", "static:cos_lat", "sentinel1:VV_spread")]
    [True, False, True, False, True]
    """
    source, feature = name.split(":")
    if source == "static":
        return not feature.startswith(("cos_", "sin_"))
    return feature.endswith(("mean", "spread")) or feature.startswith("quantile")


def sources_present(rows: pd.DataFrame) -> pd.DataFrame:
    """Which sources each row has, one boolean column a source (`PRESENT_BY` says by which columns)."""
    return pd.DataFrame({name: rows[list(c)].notna().all(axis=1) for name, c in PRESENT_BY.items()}, index=rows.index)


def point_features(rows: pd.DataFrame, *, past_only: bool = False) -> pd.DataFrame:
    """Features of every row of a table of stations and windows, float64, missing NaN.

    - SMAP: value and anomaly, rank, quantiles, lags, exponential filters, its own season and the departure from it;
    - Sentinel-1: backscatter at the station's mean incidence angle, anomalies, change detection between the station's dry and
      wet quantiles, filters, the ratio of VH to VV;
    - Sentinel-2 without bright (cloudy) values: indices of greenness and of canopy and soil water, the same filters;
    - static: field capacity, topographic position, land cover, place, its Köppen climate, and the season's phase by place;
    - calendar: two harmonics of the year, known for every row, which belong to no source.

    `rows` are in canonical units, as `read_points` and `from_station_table` give them: ``sensor_id``, ``time``, ``lat``, ``lon``,
    ``nlcd``, ``field_capacity``, ``mtpi``, ``smap``, ``sigma0_VV``, ``sigma0_VH``, ``incidence_angle``, ``reflectance_*``, in any
    order; several of one station and time are averaged. With `past_only` a row uses only its own and earlier windows of the
    station's predictors. The result has the index of `rows` and columns ``source:name`` by `SOURCES` and ``calendar``. A
    `ContractError` if the table has no rows, or so many for a station that they cannot be ten-day means.

    Sadeghi et al. 2017, Remote Sens. Environ. 198, 52-68, doi:10.1016/j.rse.2017.05.041 (shortwave-infrared transformed
    reflectance); Gao 1996, Remote Sens. Environ. 58(3), 257-266, doi:10.1016/S0034-4257(96)00067-3 (NDWI, here ``NDMI``).
    """
    check_table("point_features", rows, ["sensor_id", "time"])
    codes, labels = pd.factorize(rows["sensor_id"])
    time = rows["time"].to_numpy("datetime64[ns]").astype(np.int64)
    names = ["smap", "sigma0_VV", "sigma0_VH", "incidence_angle", *(f"reflectance_{band}" for band in _OPTICAL)]
    measured = {name: rows[name].to_numpy("float64", na_value=np.nan) for name in names}
    parts: dict[str, np.ndarray] = {}
    for code in range(len(labels)):
        here = np.flatnonzero(codes == code)
        moments, inverse = np.unique(time[here], return_inverse=True)
        if moments.size > MAX_WINDOWS:
            what, expected = f"station {labels[code]!r} has too many rows", f"ten-day means, at most {MAX_WINDOWS}"
            options = {"got": moments.size, "expected": plain(expected), "next_step": "Average the table to ten days"}
            raise ContractError("point_features", what, **options)
        values = {name: _mean_at(x[here], inverse, moments.size) for name, x in measured.items()}
        series = StationSeries(moments / _WINDOW, _phase(moments), past_only=past_only)
        for name, x in (_smap(series, values) | _sentinel1(series, values) | _sentinel2(series, values)).items():
            parts.setdefault(name, np.full(len(rows), np.nan))[here] = x[inverse]
    parts |= _static(rows, phase := _phase(time))
    parts |= {f"calendar:{f.__name__}{k}": f(k * phase) for k in (1, 2) for f in (np.cos, np.sin)}
    return pd.DataFrame(np.stack(list(parts.values()), axis=1), rows.index, list(parts))


def _phase(time: np.ndarray) -> np.ndarray:
    """Time of the year of nanoseconds since 1970, radians."""
    stamps = pd.DatetimeIndex(time.astype("datetime64[ns]"))
    return 2.0 * np.pi * stamps.day_of_year.to_numpy() / _YEAR_DAYS


def _mean_at(x: np.ndarray, inverse: np.ndarray, size: int) -> np.ndarray:
    """Mean of the values there are at each moment."""
    there = np.isfinite(x)
    count = np.bincount(inverse[there], minlength=size)
    total = np.bincount(inverse[there], weights=x[there], minlength=size)
    return np.divide(total, count, out=np.full(size, np.nan), where=count > 0)


def _course(series: StationSeries, name: str, x: Values, **more: Values) -> dict[str, Values]:
    """What is made of every series of backscatter and of an index."""
    result = {name: x, f"{name}_anomaly": series.anomaly(x), f"{name}_mean": series.mean(x)}
    result |= {f"{name}_spread": series.spread(x)} | {f"{name}_{key}": value for key, value in more.items()}
    result |= {f"{name}_departure": x - series.season(x)}
    return result | {f"{name}_smooth{k:g}": series.anomaly(series.smooth(x, k)) for k in (1.0, 4.0)}


def _smap(series: StationSeries, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    s = values["smap"]
    mean, spread, season = series.mean(s), series.spread(s), series.season(s)
    result = {
        "anomaly": s - mean,
        "standardised": (s - mean) / np.maximum(spread, 0.02),
        "mean": mean,
        "spread": spread,
        "rank": series.rank(s),
        "change": s - series.lag(s, 1),
        "season": season - mean,
        "departure": s - season,
        "saturated": np.where(np.isfinite(s), (s > 0.5).astype(float), np.nan),
    }
    percents = (5, 25, 75, 95)
    result |= {f"quantile{p}": found for p, found in zip(percents, series.quantiles(s, percents), strict=True)}
    result |= {f"lag{k}": series.lag(s, k) - mean for k in (1, 2, 3, -1, -2)}
    result |= {f"memory{k:g}": series.memory(s, k) - mean for k in (1.5, 4.0, 10.0)}
    result |= {f"smooth{k:g}": series.smooth(s, k) - mean for k in (1.0, 3.0, 8.0)}
    return {f"smap:{name}": x for name, x in result.items()}


def _sentinel1(series: StationSeries, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    angle = np.nan_to_num(series.anomaly(values["incidence_angle"]))
    ratio = values["sigma0_VH"] - values["sigma0_VV"]
    result = {"ratio": ratio, "ratio_anomaly": series.anomaly(ratio)}
    result["ratio_smooth2"] = series.anomaly(series.smooth(ratio, 2.0))
    for band in ("VV", "VH"):
        x = values[f"sigma0_{band}"] + ANGLE_SLOPE * angle
        dry, wet = series.quantiles(x, (5, 95))
        result |= _course(series, band, x, change_detection=(x - dry) / np.maximum(wet - dry, 0.5))
    return {f"sentinel1:{name}": x for name, x in result.items()}


def _sentinel2(series: StationSeries, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    band = {name: values[f"reflectance_{name}"] for name in _OPTICAL}
    there = np.isfinite(band["B3"])
    cloud = np.any([band[name] > limit for name, limit in CLOUD_LIMITS.items()], axis=0)
    snow = _ratio(band["B3"], band["B11"]) > 0.2
    band = {name: np.where(cloud, np.nan, x) for name, x in band.items()}
    swir = np.maximum(band["B12"], 1e-4)
    pairs = {"NDVI": "B8 B4", "NDMI": "B8 B11", "NBR": "B8A B12", "NSMI": "B11 B12", "NDWI": "B3 B8"}
    indices = {name: _ratio(*(band[one] for one in two.split())) for name, two in pairs.items()}
    indices["log_STR"] = np.log(np.maximum((1.0 - swir) ** 2 / (2.0 * swir), 1e-6))
    indices |= {name: band[name] for name in ("B4", "B11", "B12")}
    result = {"snow": np.where(there, snow, np.nan), "cloud": np.where(there, cloud, np.nan)}
    for name, x in indices.items():
        result |= _course(series, name, x)
    return {f"sentinel2:{name}": x.astype(float) for name, x in result.items()}


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Normalised difference; NaN where both are zero."""
    total = a + b
    return np.divide(a - b, total, out=np.full(a.shape, np.nan), where=np.isfinite(total) & (total > 0.0))


def _static(rows: pd.DataFrame, phase: np.ndarray) -> dict[str, np.ndarray]:
    names = ("nlcd", "field_capacity", "mtpi", "lat", "lon")
    code, capacity, mtpi, lat, lon = (rows[name].to_numpy("float64", na_value=np.nan) for name in names)
    north, east = (lat - 37.0) / 4.0, (lon + 100.0) / 12.0  # the middle of the stations, so that phases centre
    climate = koppen_class(lat, lon)
    result = {
        "field_capacity": capacity,
        "mtpi": mtpi,
        "lat": lat,
        "lon": lon,
        # an unknown code is in no group
        "planted": (code == 81.0) | (code == 82.0),
        "crops": code == 82.0,
        "shrubs": (code >= 50.0) & (code < 60.0),
        "barren": code == 31.0,
        "arid": np.char.startswith(climate, "B"),
        "continental": np.char.startswith(climate, "D"),
        "humid_subtropical": climate == "Cfa",
        "cos_lat": np.cos(phase) * north,
        "sin_lat": np.sin(phase) * north,
        "cos_lon": np.cos(phase) * east,
        "sin_lon": np.sin(phase) * east,
    }
    return {f"static:{name}": np.asarray(x, dtype=float) for name, x in result.items()}
