"""What the network of `smnb.papers.stations` is given: features by source, from each station's own predictors.

Nothing here looks at in-situ soil moisture, and a station's features depend on no other station: not on which others are in
the table, nor on the order of its rows. Past and later windows of a station's *predictors* enter (means, quantiles, filters
to both sides); ``past_only=True`` leaves the later ones out.

- SMAP: value and anomaly, rank, quantiles, lags, exponential filters, its own season and the departure from it;
- Sentinel-1: backscatter at the station's mean incidence angle, anomalies, change detection between the station's dry and wet
  quantiles, filters, the ratio of VH to VV;
- Sentinel-2 without bright (cloudy) values: indices of greenness and of canopy and soil water, the same filters;
- static: field capacity, topographic position, land cover, place, its Köppen climate, and the season's phase by place;
- calendar: two harmonics of the year, known for every row, which belong to no source.

References
----------
Sadeghi et al. 2017, Remote Sens. Environ. 198, 52-68, doi:10.1016/j.rse.2017.05.041 (shortwave-infrared transformed
reflectance); Gao 1996, Remote Sens. Environ. 58(3), 257-266, doi:10.1016/S0034-4257(96)00067-3 (NDWI, here ``NDMI``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from smnb.contract import ContractError, ParameterError, plain
from smnb.grids.koppen import koppen_class
from smnb.papers.stations.series import StationSeries

#: Sources of a row, in the order of the published table.
SOURCES: tuple[str, ...] = ("sentinel1", "sentinel2", "smap", "static")
#: Columns that must be there for a source to count as present in a row.
PRESENT_BY: dict[str, tuple[str, ...]] = {
    "sentinel1": ("sigma0_VV", "sigma0_VH"),
    "sentinel2": ("reflectance_B8", "reflectance_B11"),
    "smap": ("smap",),
    "static": ("field_capacity", "mtpi"),
}
#: Rows of one station beyond which the table is not one of ten-day means; the pairwise weights would not fit in memory.
MAX_WINDOWS = 4000
_WINDOW = np.timedelta64(10, "D") / np.timedelta64(1, "ns")
_YEAR_DAYS = 365.25
#: dB a degree by which backscatter falls with incidence angle: the middle of what is reported for land at 30 to 45 degrees.
ANGLE_SLOPE = 0.13
#: Top-of-atmosphere reflectances above which a ten-day mean is cloud (blue, cirrus, aerosol band).
CLOUD_LIMITS = {"B2": 0.25, "B10": 0.01, "B1": 0.28}
_OPTICAL = ("B1", "B2", "B3", "B4", "B8", "B8A", "B10", "B11", "B12")


@dataclass
class FeatureTable:
    """Features of a table's rows, float64 (row, feature), missing NaN; named ``source:name`` by `SOURCES` and ``calendar``."""

    values: np.ndarray
    names: tuple[str, ...]

    def of(self, sources: tuple[str, ...]) -> FeatureTable:
        """The features of some sources (`ParameterError` on an unknown one, or none), and of the calendar."""
        unknown = sorted(set(sources) - set(SOURCES))
        if unknown or not sources:
            raise ParameterError("FeatureTable.of", "unknown sources", got=list(sources), expected=list(SOURCES))
        columns = [i for i, name in enumerate(self.names) if name.split(":")[0] in (*sources, "calendar")]
        return FeatureTable(self.values[:, columns], tuple(self.names[i] for i in columns))

    def rows(self, which: np.ndarray) -> FeatureTable:
        """Some of the rows."""
        return FeatureTable(self.values[which], self.names)


def is_lasting(name: str) -> bool:
    """Whether a feature belongs to the station rather than to the window: means, spreads, quantiles, static values.

    Examples
    --------
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


def point_features(rows: pd.DataFrame, *, past_only: bool = False) -> FeatureTable:
    """Features of every row of a table of stations and windows.

    Parameters
    ----------
    rows : DataFrame
        In canonical units, as `smnb.papers.stations.table.read_points` and `from_station_table` give it: ``sensor_id``,
        ``time``, ``lat``, ``lon``, ``nlcd``, ``field_capacity``, ``mtpi``, ``smap``, ``sigma0_VV``, ``sigma0_VH``,
        ``incidence_angle`` and ``reflectance_*``. Any order; several rows of one station and time are averaged.
    past_only : bool
        Whether a row may use only its own and earlier windows of the station's predictors.

    Raises
    ------
    ContractError
        If the table has no rows, or so many for a station that they cannot be ten-day means.
    """
    if rows.empty:
        raise ContractError("point_features", "the table has no rows")
    codes, labels = pd.factorize(rows["sensor_id"])
    time = rows["time"].to_numpy("datetime64[ns]").astype(np.int64)
    names = ["smap", "sigma0_VV", "sigma0_VH", "incidence_angle", *(f"reflectance_{band}" for band in _OPTICAL)]
    measured = {name: rows[name].to_numpy("float64", na_value=np.nan) for name in names}
    parts: dict[str, np.ndarray] = {}
    for code in range(len(labels)):
        here = np.flatnonzero(codes == code)
        moments, inverse = np.unique(time[here], return_inverse=True)
        if moments.size > MAX_WINDOWS:
            what, expected = (
                f"station {labels[code]!r} has too many rows",
                plain(f"ten-day means, at most {MAX_WINDOWS}"),
            )
            step = "Average the table to ten days"
            raise ContractError("point_features", what, got=moments.size, expected=expected, next_step=step)
        values = {name: _mean_at(x[here], inverse, moments.size) for name, x in measured.items()}
        series = StationSeries(moments / _WINDOW, _phase(moments), past_only=past_only)
        for name, x in (_smap(series, values) | _sentinel1(series, values) | _sentinel2(series, values)).items():
            parts.setdefault(name, np.full(len(rows), np.nan))[here] = x[inverse]
    parts |= _static(rows, _phase(time)) | _calendar(_phase(time))
    return FeatureTable(np.stack(list(parts.values()), axis=1), tuple(parts))


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
    for percent, quantile in zip((5, 25, 75, 95), series.quantiles(s, (5, 25, 75, 95)), strict=True):
        result[f"quantile{percent}"] = quantile
    result |= {f"lag{k}": series.lag(s, k) - mean for k in (1, 2, 3, -1, -2)}
    result |= {f"memory{k:g}": series.memory(s, k) - mean for k in (1.5, 4.0, 10.0)}
    result |= {f"smooth{k:g}": series.smooth(s, k) - mean for k in (1.0, 3.0, 8.0)}
    return {f"smap:{name}": x for name, x in result.items()}


def _sentinel1(series: StationSeries, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    angle = np.nan_to_num(series.anomaly(values["incidence_angle"]))
    ratio = values["sigma0_VH"] - values["sigma0_VV"]
    result = {
        "ratio": ratio,
        "ratio_anomaly": series.anomaly(ratio),
        "ratio_smooth2": series.anomaly(series.smooth(ratio, 2.0)),
    }
    for band in ("VV", "VH"):
        x = values[f"sigma0_{band}"] + ANGLE_SLOPE * angle
        dry, wet = series.quantiles(x, (5, 95))
        result |= {
            band: x,
            f"{band}_anomaly": series.anomaly(x),
            f"{band}_mean": series.mean(x),
            f"{band}_spread": series.spread(x),
            f"{band}_change_detection": (x - dry) / np.maximum(wet - dry, 0.5),
            f"{band}_departure": x - series.season(x),
        }
        result |= {f"{band}_smooth{k:g}": series.anomaly(series.smooth(x, k)) for k in (1.0, 4.0)}
    return {f"sentinel1:{name}": x for name, x in result.items()}


def _sentinel2(series: StationSeries, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    band = {name: values[f"reflectance_{name}"] for name in _OPTICAL}
    there = np.isfinite(band["B3"])
    cloud = np.any([band[name] > limit for name, limit in CLOUD_LIMITS.items()], axis=0)
    snow = _ratio(band["B3"], band["B11"]) > 0.2
    band = {name: np.where(cloud, np.nan, x) for name, x in band.items()}
    swir = np.maximum(band["B12"], 1e-4)
    indices = {
        "NDVI": _ratio(band["B8"], band["B4"]),
        "NDMI": _ratio(band["B8"], band["B11"]),
        "NBR": _ratio(band["B8A"], band["B12"]),
        "NSMI": _ratio(band["B11"], band["B12"]),
        "NDWI": _ratio(band["B3"], band["B8"]),
        "log_STR": np.log(np.maximum((1.0 - swir) ** 2 / (2.0 * swir), 1e-6)),
        "B4": band["B4"],
        "B11": band["B11"],
        "B12": band["B12"],
    }
    result = {"snow": np.where(there, snow, np.nan), "cloud": np.where(there, cloud, np.nan)}
    for name, x in indices.items():
        result |= {
            name: x,
            f"{name}_anomaly": series.anomaly(x),
            f"{name}_mean": series.mean(x),
            f"{name}_spread": series.spread(x),
            f"{name}_departure": x - series.season(x),
        }
        result |= {f"{name}_smooth{k:g}": series.anomaly(series.smooth(x, k)) for k in (1.0, 4.0)}
    return {f"sentinel2:{name}": x.astype(float) for name, x in result.items()}


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Normalised difference; NaN where both are zero."""
    total = a + b
    return np.divide(a - b, total, out=np.full(a.shape, np.nan), where=np.isfinite(total) & (total > 0.0))


def _static(rows: pd.DataFrame, phase: np.ndarray) -> dict[str, np.ndarray]:
    lat, lon = rows["lat"].to_numpy("float64"), rows["lon"].to_numpy("float64")
    code = rows["nlcd"].to_numpy("float64", na_value=np.nan)
    north, east = (lat - 37.0) / 4.0, (lon + 100.0) / 12.0  # the middle of the stations, so that phases centre
    climate = koppen_class(lat, lon)
    result = {
        "field_capacity": rows["field_capacity"].to_numpy("float64", na_value=np.nan),
        "mtpi": rows["mtpi"].to_numpy("float64", na_value=np.nan),
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


def _calendar(phase: np.ndarray) -> dict[str, np.ndarray]:
    names = {"cos1": np.cos(phase), "sin1": np.sin(phase), "cos2": np.cos(2.0 * phase), "sin2": np.sin(2.0 * phase)}
    return {f"calendar:{name}": x for name, x in names.items()}
