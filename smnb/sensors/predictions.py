"""Tables of predictions, one row a sensor and time with what was observed and predicted there, and their scores.

The columns ``sensor_id``, ``time`` (UTC), ``observed`` and ``predicted`` (m3 m-3) are needed; ``network``, ``station``, ``lat``,
``lon`` and strata are used where they are there. Any model's notebook writes such a table, and the same scores, figures and
commands take it. ``attrs`` keep ``model`` and ``synthetic``. Averages by stratum are as paper 004's Tables 10 to 12.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from smnb.contract import CatalogError, ContractError, FormatError, check_table, foreign, plain
from smnb.files import atomic_path
from smnb.grids.koppen import NONE
from smnb.loaders import read_named_csv, read_table, write_parquet
from smnb.metrics import (
    DEFAULT_METRICS,
    METRICS,
    MIN_OBS,
    average_interval,
    metric_list,
    pooled,
    score_intervals,
    score_table,
)
from smnb.metrics.comparison import AVERAGES
from smnb.metrics.registry import MetricLike
from smnb.sensors.place import STRATA, cluster_labels

NEEDED = ("sensor_id", "time", "observed", "predicted")  # columns that a table of predictions must have
FEW_SENSORS = 5  # a stratum with fewer sensors carries an asterisk, and paper 004 asks to disregard its scores
_TIMES = "Write times such as 2020-01-31T06:00, of the years 1678 to 2261"
_SUFFIXES = (".csv", ".csv.gz", ".parquet")


def _suffix(who: str, path: Path) -> str:
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise FormatError(who, "this is neither CSV nor Parquet by its name", got=path.name, expected=list(_SUFFIXES))


def read_predictions(path: str | os.PathLike[str], *, labels: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table of predictions, ``.csv``, ``.csv.gz`` or ``.parquet`` with the columns of `NEEDED`, by `check_predictions`.

    A column ``synthetic`` (0 or 1) says that the data were simulated, a column ``model`` what to call the predictions; else
    ``attrs["model"]`` is the file's name. Sensors, stations, strata and further `labels` are text, a sensor NA or 007 too. Blanks
    around names are trimmed (``attrs["trimmed"]``: which names), rows that repeat another in all are left out
    (``attrs["repeated"]``: their number by sensor). `CatalogError` if there is no such file, `FormatError` if it is unreadable or
    of another format; other errors as `check_predictions`.
    """
    path = Path(path)
    who = f"predictions ({path.name})"
    suffix = _suffix(who, path)
    if not path.is_file():
        raise CatalogError(who, "there is no such file", got=str(path))
    with foreign(who, "the table is unreadable", next_step="Write it again"):
        names = ["sensor_id", "time", "network", "station", *STRATA, *labels]
        if suffix == ".parquet":
            table = read_table(path)
            for name in table.columns.intersection(names):
                if table[name].dtype == object:  # others write text as bytes
                    table[name] = [one.decode() if isinstance(one, bytes) else one for one in table[name]]
        else:
            table = read_named_csv(path, names)
        checked = _checked(who, table, mend=True)
    checked.attrs.setdefault("model", path.name[: -len(suffix)])
    return checked


def check_predictions(table: pd.DataFrame, *, who: str = "check_predictions") -> pd.DataFrame:
    """Check a table of predictions, with the columns of `NEEDED`, and return it in canonical form.

    Times may be datetimes or ISO text, without a zone (taken as UTC) or in UTC. `who` is the caller, for the message. The result
    is sorted by sensor and time: ``sensor_id`` as text, ``time`` as datetime64[ns] in UTC, ``observed`` and ``predicted`` as
    float64. NaN on either side is allowed; such a row counts for nothing. A `ContractError` on a missing column, an empty table,
    a sensor or time that is missing, a time in another zone than UTC, a value that is no number or infinite, a column that is
    NaN all over, a sensor and time twice, or values that are not volumetric, such as per cent.
    """
    return _checked(who, table, mend=False)


def _checked(who: str, table: pd.DataFrame, *, mend: bool) -> pd.DataFrame:
    """As `check_predictions`; `mend` trims names and leaves out rows that repeat another, and notes both in ``attrs``."""
    notes: dict[str, Any] = {}
    if mend:
        objects = [name for name in table if table[name].dtype == object]
        if nested := [name for name in objects if not table[name].map(pd.api.types.is_hashable).all()]:
            raise ContractError(who, f"columns {nested} hold lists or mappings", next_step="Leave them out")
        table, notes["trimmed"] = _trimmed(table)
    check_table(who, table, NEEDED, complete=NEEDED[:2], next_step="Rename the columns in the file")
    result = table.assign(sensor_id=table["sensor_id"].astype(str), time=_utc(who, table["time"]))
    for name in result.columns.intersection(["lat", "lon"]):
        if not pd.api.types.is_numeric_dtype(result[name].dtype):
            got, expected = result[name].iloc[0], plain("degrees")
            raise ContractError(who, f"column {name!r} is not numeric", got=got, expected=expected)
    for name in NEEDED[2:]:
        result[name] = _volumetric(who, table[name], result["sensor_id"])
    if mend:
        same = result.duplicated(list(NEEDED))
        notes["repeated"] = {str(name): int(n) for name, n in result.loc[same, "sensor_id"].value_counts().items()}
        result = result[~same]
    result.attrs = dict(table.attrs) | {name: note for name, note in notes.items() if note}
    twice = result.duplicated(["sensor_id", "time"])
    if twice.any():
        got = tuple(result.loc[twice, ["sensor_id", "time"]].iloc[0].astype(str))
        what = f"{int(twice.sum())} rows repeat the sensor and time of another"
        raise ContractError(who, what, got=got, next_step="Average or drop the duplicates")
    if "synthetic" in result:
        said = result.pop("synthetic").dropna().astype(str).str.lower().unique()
        if not set(said) <= {"0", "1", "0.0", "1.0", "true", "false"}:
            raise ContractError(who, "column 'synthetic' is neither 0 nor 1", got=said[:3].tolist())
        result.attrs["synthetic"] = bool(set(said) & {"1", "1.0", "true"})
    if "model" in result:
        names = result.pop("model").dropna().unique()
        if len(names) > 1:
            raise ContractError(who, "the table has several models", got=names[:3].tolist(), expected="one a table")
        result.attrs["model"] = str(names[0]) if len(names) else ""
    return result.sort_values(["sensor_id", "time"], ignore_index=True)


def _trimmed(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with no blanks around names (one of blanks alone is missing), and which had some."""
    found: dict[str, str | None] = {}
    for name in table.columns.difference(["time", "model"]):
        if not pd.api.types.is_numeric_dtype(table[name].dtype):
            texts = [text for text in table[name].dropna().unique() if isinstance(text, str)]
            blank = {text: text.strip() or None for text in texts if text != text.strip()}
            if blank:
                table = table.assign(**{name: [blank.get(text, text) for text in table[name]]})
                found |= blank
    return table, sorted(found)


def _utc(who: str, times: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(times.dtype):
        raise ContractError(who, "the times are plain numbers", got=str(times.dtype), expected="2020-01-31T06:00")
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        if times.dt.tz.utcoffset(None) != pd.Timedelta(0):
            raise ContractError(who, "the times are in another zone", got=str(times.dt.tz), expected="UTC")
        times = times.dt.tz_localize(None)
    elif not pd.api.types.is_datetime64_dtype(times.dtype):
        text = times.astype(str).str.strip()
        zone = text.str.extract(r"\d[T ]?\d\d:\d\d(?::\d\d(?:\.\d+)?)?\s*([+-]\d\d:?\d\d|Z|[A-Za-z]{2,}.*)$")[0]
        other = zone.notna() & ~zone.isin(["Z", "+00:00", "+0000", "-00:00", "UTC"])
        if other.any():
            what = f"{int(other.sum())} times are in another zone"
            raise ContractError(who, what, got=text[other].iloc[0], expected="UTC")
        with foreign(who, "a time cannot be read", ContractError, _TIMES):
            times = pd.to_datetime(text, utc=True, format="ISO8601").dt.tz_localize(None)
    with foreign(who, "a time cannot be read", ContractError, _TIMES):
        return times.astype("datetime64[ns]")


def _volumetric(who: str, column: pd.Series, sensors: pd.Series) -> np.ndarray:
    """A column as float64, if it can be m3 m-3; a few sensors in another unit are named, all of them are per cent."""
    name = column.name
    if column.dtype.kind in "bmM":
        raise ContractError(who, f"column {name!r} is not numeric", got=str(column.dtype))
    numbers = pd.to_numeric(column, errors="coerce")
    strange = numbers.isna() & column.notna()
    if strange.any():
        what = f"{int(strange.sum())} values of {name!r} are no numbers"
        raise ContractError(who, what, got=str(column[strange].iloc[0]))
    values = numbers.to_numpy("float64", na_value=np.nan)
    there = values[~np.isnan(values)]
    if not there.size:
        raise ContractError(who, f"column {name!r} is NaN all over", got=f"{values.size} rows")
    if np.isinf(there).any():
        raise ContractError(who, f"{int(np.isinf(there).sum())} values of {name!r} are infinite")
    above, of = there > 1.0, sensors.to_numpy()[~np.isnan(values)]
    share = pd.Series(above).groupby(of).mean()
    unlike = share.index[share > 0.5] if (share > 0.5).mean() < 0.5 else share.index[:0]
    # a model may leave the range a little, and of few sensors by far, which the scores say; an observation may not
    rest = above[~np.isin(of, unlike)] if name == "predicted" else above
    whose = f" at {len(unlike)} of {len(share)} sensors, as {unlike[0]!r}," if len(unlike) else ""
    expected = plain("m3 m-3, between 0 and 1")
    if np.median(rest) > 1.0 or rest.mean() > 0.05:
        got, step = plain(f"median {np.median(there[above]):g}"), "Divide it by 100, or by what its unit asks for"
        raise ContractError(who, f"{name!r}{whose} looks like per cent", got=got, expected=expected, next_step=step)
    wrong = (above | (there < 0.0)) if name == "observed" else np.abs(there) > 10.0
    if wrong.any():
        whose = whose if np.isin(of[wrong], unlike).all() else ""
        what = f"{int(wrong.sum())} values of {name!r}{whose} are not volumetric soil moisture"
        step = "Divide those by what their unit asks for" if whose else "Mask fill values such as -9999 as missing"
        raise ContractError(who, what, got=float(there[wrong][0]), expected=expected, next_step=step)
    return values


def write_predictions(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Check a table of predictions and write it as ``.csv``, ``.csv.gz`` or ``.parquet``, whole or not at all.

    ``attrs["model"]`` and ``attrs["synthetic"]`` become columns, so that CSV keeps them. Returns the path.
    """
    path = Path(path)
    who = f"write_predictions ({path.name})"
    suffix = _suffix(who, path)
    checked = check_predictions(table, who=who)
    model = str(checked.attrs.get("model", path.name[: -len(suffix)]))
    written = checked.assign(model=model, synthetic=int(bool(checked.attrs.get("synthetic", False))))
    written.attrs = {}
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            write_parquet(temporary, written)
        else:
            compression = "gzip" if suffix == ".csv.gz" else None
            written.to_csv(temporary, index=False, date_format="%Y-%m-%dT%H:%M:%S.%f", compression=compression)
    return path


def same_pairs(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Cut two tables of predictions to the sensors and times where both have a pair; and how many pairs were left out.

    `ContractError` if they share none, or differ in what was observed there.
    """
    who, keys = "same_pairs", ["sensor_id", "time"]
    a, b = (t.dropna(subset=["observed", "predicted"]) for t in (a, b))
    both = a[[*keys, "observed"]].merge(b[[*keys, "observed"]], on=keys, suffixes=("_a", "_b"))
    if both.empty:
        shared = len(set(a["sensor_id"]) & set(b["sensor_id"]))
        step = "Predict at the same times, or score each on its own pairs (--own-pairs)"
        step = step if shared else "Compare the sensor_id of the two"
        got = f"{shared} sensors in common"
        raise ContractError(who, "the two tables share no sensor and time", got=got, next_step=step)
    unlike = ~np.isclose(both["observed_a"], both["observed_b"], rtol=1e-4, atol=1e-5)
    if unlike.any():
        what = f"{int(unlike.sum())} of {len(both)} rows differ in what was observed"
        step = "Take both from the same readings, flags and averages"
        raise ContractError(who, what, got=tuple(both[unlike].iloc[0].astype(str)), next_step=step)
    kept = [table.merge(both[keys], on=keys) for table in (a, b)]
    kept[0].attrs, kept[1].attrs = dict(a.attrs), dict(b.attrs)
    return kept[0], kept[1], len(a) + len(b) - 2 * len(both)


def _keep_possible(table: pd.DataFrame) -> pd.DataFrame:
    """Cut the ends of intervals to what the score can be: a studentised interval of few sensors may go beyond."""
    ends = {f"{name}_{end}": one.limits for name, one in METRICS.items() for end in ("low", "high")}
    return table.assign(**{name: table[name].clip(*limits) for name, limits in ends.items() if name in table})


def score_sensors(
    table: pd.DataFrame,
    *,
    metrics: Sequence[MetricLike] = DEFAULT_METRICS,
    min_obs: int = MIN_OBS,
    intervals: Sequence[MetricLike] = (),
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score each sensor of a table of predictions, and keep what the table says of the sensor.

    `metrics` and `min_obs` as in `smnb.metrics.score_table`, whose errors and columns these are, with the columns of `table` that
    have one value a sensor (place, strata). Those of `intervals` get ``<score>_low`` and ``<score>_high`` by the block bootstrap
    in time of `smnb.metrics.score_intervals`.
    """
    scores = score_table(table, min_obs=min_obs, metrics=metrics)
    if intervals:
        names = [one.name for one in metric_list(intervals)]
        found = score_intervals(table, metrics=intervals, n_boot=n_boot, seed=seed, min_obs=min_obs)
        for end in ("low", "high"):
            wide = found.pivot(index="sensor_id", columns="metric", values=end)
            scores = scores.assign(**{f"{name}_{end}": scores["sensor_id"].map(wide[name]) for name in names})
    others = [name for name in table.columns if name not in (*NEEDED, *scores.columns)]
    groups = table.groupby("sensor_id", observed=True)
    constant = [name for name in others if groups[name].nunique(dropna=False).max() == 1]
    if constant:
        scores = scores.merge(groups[constant].first().reset_index(), on="sensor_id", how="left")
    scores.attrs["synthetic"] = bool(table.attrs.get("synthetic", False))
    return scores


def summary_rows(
    table: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    intervals: bool = False,
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Means and median over sensors, and the scores of all pairs together.

    `table` holds predictions, `scores` is from `score_sensors`. With `intervals`, all but the pooled scores have ``<score>_low``
    and ``<score>_high`` from drawing `cluster_labels` again: values of the column `clusters`, by default blocks of 3 degrees.

    Rows are ``mean``, ``cluster_mean`` (each cluster weighing the same), ``median`` and ``pooled`` in ``sensor_id``; ``kind`` the
    same; ``n_sensors`` with an ubRMSE (for pooled: with a pair); ``n`` pairs of those sensors. ``attrs["clusters"]`` says what
    was drawn: ``what``, ``number``, ``effective`` (clusters of one size) and ``note`` (why an average has no interval).
    """
    scored = np.isfinite(scores["ubrmse"])
    labels = cluster_labels(scores, clusters)
    draws = {"clusters": labels, "n_boot": n_boot, "seed": seed}
    rows: list[dict[str, Any]] = []
    for how in AVERAGES:
        row: dict[str, Any] = {"kind": how, "sensor_id": how, "n_sensors": int(scored.sum())}
        row["n"] = int(scores.loc[scored, "n"].sum())
        for name in DEFAULT_METRICS:
            found = average_interval(scores[name], how=how, **draws)
            if (how, name) == ("mean", "ubrmse"):
                drawn = {
                    "what": labels.name,
                    "number": found.clusters,
                    "effective": found.effective,
                    "note": found.note,
                }
            row[name] = found.value
            if intervals and METRICS[name].smooth:
                row[f"{name}_low"], row[f"{name}_high"] = found.low, found.high
        rows.append({**row, "reason": "" if scored.any() else "no sensor has a score"})
    whole = pooled(table, metrics=DEFAULT_METRICS)
    rows.append({"kind": "pooled", "sensor_id": "pooled", **whole.to_dict()})
    summary = _keep_possible(pd.DataFrame(rows))
    summary.attrs["clusters"] = drawn
    return summary


def stratify(
    scores: pd.DataFrame,
    by: str,
    *,
    metrics: MetricLike | Iterable[MetricLike] = ("ubrmse", "rmse", "pearson_r"),
    order: Sequence[str] | None = None,
    intervals: bool = True,
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Average the scores of sensors by stratum.

    Parameters
    ----------
    scores, by : DataFrame, str
        One row a sensor: scores, as from `score_sensors`, and the stratum's column `by`; a missing stratum counts as "none".
    order : sequence of str, optional
        Strata in the order of the table, those without any sensor included; others that occur come after it,
        alphabetically, "none" last.
    intervals, clusters
        Add ``<metric>_low`` and ``<metric>_high``, from drawing the stratum's `cluster_labels` again: the values of a column, by
        default blocks of 3 degrees.

    Returns
    -------
    DataFrame
        One row a stratum: `by`, ``label`` (with the paper's asterisk where fewer than five sensors have a score),
        ``few`` (whether it has), ``n_sensors`` (rows), ``n_scored`` (rows with any of these scores), and the scores. A
        stratum of fewer than five sensors has no interval, an empty one no score.

    Examples
    --------
    >>> scores = pd.DataFrame({"sensor_id": list("abcdefg"), "texture": ["Loam"] * 6 + ["Sand"],
    ...                        "ubrmse": [0.04, 0.05, 0.06, 0.05, 0.04, 0.06, 0.03]})
    >>> stratify(scores, "texture", metrics="ubrmse", order=["Loam", "Sand", "Clay"], intervals=False)
      texture  label    few  n_sensors  n_scored  ubrmse
    0    Loam   Loam  False          6         6    0.05
    1    Sand  Sand*   True          1         1    0.03
    2    Clay  Clay*   True          0         0     NaN
    """
    names = [one.name for one in metric_list(metrics)]
    step = "Join the strata of the sensor table to the scores first"
    needed = ["sensor_id", by, *names, *([clusters] if clusters else [])]
    check_table("stratify", scores, needed, unique="sensor_id", next_step=step)
    strata = scores[by].astype(object).where(scores[by].notna(), NONE).astype(str)
    wanted = list(dict.fromkeys(map(str, order or ())))
    rest = sorted(set(strata) - set(wanted), key=lambda stratum: (stratum == NONE, stratum))
    rows = []
    for stratum in [*wanted, *rest]:
        group = scores[(strata == stratum).to_numpy()]
        scored = int(np.isfinite(group[names].to_numpy("float64")).any(axis=1).sum())
        few = scored < FEW_SENSORS
        row = {by: stratum, "label": stratum + "*" * few, "few": few, "n_sensors": len(group), "n_scored": scored}
        labels = cluster_labels(group, clusters)
        for name in names:
            found = average_interval(group[name].to_numpy("float64"), clusters=labels, n_boot=n_boot, seed=seed)
            row[name] = found.value
            if intervals:
                row[f"{name}_low"], row[f"{name}_high"] = found.low, found.high
        rows.append(row)
    return _keep_possible(pd.DataFrame(rows))
