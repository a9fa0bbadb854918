"""Static figures of scores by sensor: sorted with intervals, on a map, through time, and as boxes by stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cartopy.crs as ccrs
import matplotlib as mpl
import numpy as np
import pandas as pd
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from smnb.contract import ContractError, ParameterError, synthetic_label
from smnb.metrics import Interval, Metric, metric_list
from smnb.metrics.registry import MetricLike
from smnb.plots.charts import LINES
from smnb.plots.fields import Grid, bar_extend, nice_limits, with_units
from smnb.plots.maps import STYLE, WIDTH, _graticule, _View, _view, new_figure, panel_title
from smnb.plots.places import ground

_MARKERS = "osD^vP"
#: A few stations with the same few sensors would hide one another's boxes.
_MOST_STRATA = 14


def _label(one: Metric) -> str:
    return one.title if one.units == "1" else with_units(one.title, one.units)


def _check(who: str, scores: Mapping[str, pd.DataFrame], needed: Sequence[str], wanted: MetricLike) -> Metric:
    (one,) = metric_list(wanted)
    metric = one.name
    if not scores:
        raise ContractError(who, "there is nothing to draw", expected="a mapping of model to scores")
    for name, table in scores.items():
        missing = [column for column in (*needed, metric) if column not in table]
        if missing:
            raise ContractError(
                who, f"scores of {name!r} lack columns", got=missing, expected=list(map(str, table.columns))
            )
        if not np.isfinite(table[metric].to_numpy("float64")).any():
            raise ContractError(
                who, f"no sensor of {name!r} has a score", got=metric, next_step="Look at the column reason"
            )
    return one


def sorted_scores(
    scores: Mapping[str, pd.DataFrame],
    metric: MetricLike = "ubrmse",
    *,
    averages: Mapping[str, Interval] | None = None,
    title: str = "",
    synthetic: bool = False,
) -> Figure:
    """Draw one score of every sensor, sorted by the first model's, with intervals and the means.

    Parameters
    ----------
    scores : mapping of str to DataFrame
        By model, one row a sensor: ``sensor_id``, the score, and where there are any ``<score>_low`` and ``<score>_high``.
    metric : str
        Which score.
    averages : mapping of str to Interval, optional
        Mean of each model: a line, with its interval as a band.
    title : str
        Before "(synthetic)".
    synthetic : bool
        Say so in the title.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        For a column that is missing, or no score at all.
    ParameterError
        For an unknown metric.
    """
    one = _check("sorted_scores", scores, ["sensor_id"], metric)
    metric = one.name
    first = next(iter(scores.values())).dropna(subset=[metric]).sort_values(metric, kind="stable")
    order = pd.Index(first["sensor_id"].astype(str))
    for table in scores.values():  # sensors that only another model has a score at come last
        order = order.append(pd.Index(table.dropna(subset=[metric])["sensor_id"].astype(str)).difference(order))
    with mpl.rc_context(STYLE):
        lines = len(scores) if len(scores) < 3 else -(-len(scores) // 2)
        height = 3.0 + 0.18 * lines
        axes_height = height - 0.5 - 0.36 - 0.18 * lines
        figure = new_figure(WIDTH, height)
        axes = figure.add_axes((0.1, 0.5 / height, 0.885, axes_height / height))
        shift = np.linspace(-0.18, 0.18, len(scores)) if len(scores) > 1 else [0.0]
        for i, (name, table) in enumerate(scores.items()):
            table = table.assign(sensor_id=table["sensor_id"].astype(str)).set_index("sensor_id").reindex(order)
            colour, style = LINES[i % len(LINES)]
            at, value = np.arange(1, len(order) + 1) + shift[i], table[metric].to_numpy("float64")
            if {f"{metric}_low", f"{metric}_high"} <= set(table.columns):
                axes.vlines(at, table[f"{metric}_low"], table[f"{metric}_high"], color=colour, linewidth=0.8, alpha=0.6)
            text = name
            if averages and name in averages:
                mean = averages[name]
                text += f": mean {mean}"
                axes.axhline(mean.value, color=colour, linestyle=style, linewidth=1.1, zorder=1)
                if np.isfinite(mean.low):
                    axes.axhspan(mean.low, mean.high, color=colour, alpha=0.13, linewidth=0, zorder=0)
            axes.plot(
                at, value, linestyle="", marker=_MARKERS[i % len(_MARKERS)], markersize=3.2, color=colour, label=text
            )
        top = _fit_points(axes, scores, one)
        cut = _mark_cut(axes, scores, metric, order, shift, top)
        leader = next(iter(scores))
        axes.set(
            xlabel=f"Sensor, in the order of {one.title} of {leader}",
            ylabel=_label(one),
            xlim=(0.2, len(order) + 0.8),
        )
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        head = title or f"{one.title} of each sensor"
        head += synthetic_label(synthetic) + (f"; {cut} intervals go on above the axis (triangles)" if cut else "")
        figure.text(0.1, 0.985, head, fontsize=10, va="top")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            frameon=False,
            ncols=1 if len(scores) < 3 else 2,
            fontsize=8.5,
            borderaxespad=0.2,
            labelspacing=0.25,
        )
    return figure


def _mark_cut(
    axes: Axes, scores: Mapping[str, pd.DataFrame], metric: str, order: pd.Index, shift: Sequence[float], top: float
) -> int:
    """Mark intervals that go on above the axis by triangles; return how many."""
    cut = 0
    for i, table in enumerate(scores.values()):
        if f"{metric}_high" in table:
            table = table.assign(sensor_id=table["sensor_id"].astype(str)).set_index("sensor_id").reindex(order)
            above = np.flatnonzero(table[f"{metric}_high"].to_numpy("float64") > top)
            axes.plot(
                above + 1 + shift[i],
                np.full(above.size, top),
                "^",
                color=LINES[i % len(LINES)][0],
                markersize=4,
                clip_on=False,
                zorder=6,
            )
            cut += above.size
    return cut


def _fit_points(axes: Axes, scores: Mapping[str, pd.DataFrame], one: Metric) -> float:
    metric = one.name
    """Limits by the scores and most of the intervals, since a few long ones would flatten the rest; return the top."""
    points = np.concatenate([t[metric].to_numpy("float64") for t in scores.values()])
    low, high = np.nanmin(points), np.nanmax(points)
    for table in scores.values():
        if {f"{metric}_low", f"{metric}_high"} <= set(table.columns) and table[f"{metric}_high"].notna().any():
            low = min(low, table[f"{metric}_low"].quantile(0.05))
            high = max(high, min(table[f"{metric}_high"].quantile(0.95), high + 0.5 * (high - low)))
    room = 0.05 * max(high - low, 1e-6)
    axes.set_ylim(0.0 if one.limits[0] == 0.0 else low - room, high + room)
    return float(high + room)


def score_maps(
    scores: pd.DataFrame,
    metrics: MetricLike | Sequence[MetricLike] = ("pearson_r", "ubrmse"),
    *,
    model: str = "",
    limits: Mapping[str, tuple[float, float]] | None = None,
    synthetic: bool = False,
) -> Figure:
    """Draw scores of sensors as coloured points on a map, a panel a score; yellow is good in each.

    Parameters
    ----------
    scores : DataFrame
        One row a sensor: ``lat``, ``lon`` (degree) and the scores. Sensors at one place are drawn as their mean.
    metrics : sequence of str
        Scores.
    model : str
        For the titles.
    limits : mapping of str to (float, float), optional
        Colour scale of a score; default nearly all values.
    synthetic : bool
        Say so in each title.

    Returns
    -------
    matplotlib.figure.Figure
        Sensors without a score are crosses, and counted in the legend.

    Raises
    ------
    ContractError
        For a column that is missing, or no score at all.
    ParameterError
        For an unknown metric.
    """
    who = "score_maps"
    chosen = metric_list(metrics)
    for one in chosen:
        _check(who, {model or "the table": scores}, ["lat", "lon"], one)
    places = scores.groupby([scores["lat"].round(3), scores["lon"].round(3)])[[one.name for one in chosen]].mean()
    lat, lon = (places.index.get_level_values(i).to_numpy("float64") for i in (0, 1))
    view = _view(_area(lat, lon))
    left, bar = 0.55, 1.05
    # a map higher than wide would take a page for a few points
    wide = min(WIDTH - left - bar, 3.4 * view.aspect)
    high = wide / view.aspect
    head, foot = 0.3, 0.24
    total = len(chosen) * (head + high + foot)
    with mpl.rc_context(STYLE):
        figure = new_figure(left + wide + bar, total)
        for i, one in enumerate(chosen):
            bottom = total - (i + 1) * (head + high + foot) + foot
            box = (left, bottom, wide, high)
            axes = ground(figure, [b / s for b, s in zip(box, (left + wide + bar, total) * 2, strict=True)], view)
            _graticule(axes, view, True)
            name = f"{one.title} of each sensor" + (f", {model}" if model else "")
            axes.set_title(panel_title(i if len(chosen) > 1 else None, name, synthetic, wide), loc="left", pad=4)
            _coloured(
                figure, axes, view, lat, lon, places[one.name].to_numpy("float64"), one, (limits or {}).get(one.name)
            )
    return figure


def _area(lat: np.ndarray, lon: np.ndarray) -> Grid:
    """Grid around points: the globe where they span more than 120 degrees, else their region with a margin."""
    if np.ptp(lon) > 120.0:
        rows, columns = np.arange(-89.5, 90.0), np.arange(-179.5, 180.0)
        shown = np.full((rows.size, columns.size), np.nan)
        shown[np.clip((lat + 90.0).astype(int), 0, rows.size - 1), 0] = 1.0
        return Grid(rows, columns, {"sensors": shown})
    margin = max(0.45, 0.07 * max(np.ptp(lat), np.ptp(lon)))
    # a region much longer than high, or the reverse, makes a map without context
    middle, least = (lat.min() + lat.max()) / 2, 0.4 * max(np.ptp(lat), np.ptp(lon)) + 2 * margin
    tall = max(np.ptp(lat) + 2 * margin, least)
    across = max(np.ptp(lon) + 2 * margin, least)
    centre = (lon.min() + lon.max()) / 2
    rows = np.linspace(max(middle - tall / 2, -90.0), min(middle + tall / 2, 90.0), 101)
    columns = np.linspace(max(centre - across / 2, -180.0), min(centre + across / 2, 180.0), 101)
    return Grid(rows, columns, {"sensors": np.ones((101, 101))})


def _coloured(
    figure: Figure,
    axes: GeoAxes,
    view: _View,
    lat: np.ndarray,
    lon: np.ndarray,
    value: np.ndarray,
    one: Metric,
    limits: tuple[float, float] | None,
) -> None:
    there = np.isfinite(value)
    low, high = limits or nice_limits([value[there]], percentiles=(2.0, 98.0))[:2]
    high_is_good = one.better == "high"
    if one.better == "zero" and limits is None:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    elif high_is_good and limits is None:
        high = min(high, 1.0)
    cmap = "RdBu" if one.better == "zero" else "viridis" if high_is_good else "viridis_r"
    xy = view.projection.transform_points(ccrs.PlateCarree(), lon, lat)
    order = np.flatnonzero(there)[np.argsort(value[there] if high_is_good else -value[there])[::-1]]  # bad ones on top
    axes.scatter(
        xy[order, 0],
        xy[order, 1],
        c=value[order],
        cmap=cmap,
        norm=Normalize(low, high),
        s=26,
        zorder=6,
        edgecolors="black",
        linewidths=0.5,
    )
    if not there.all():
        axes.plot(
            xy[~there, 0],
            xy[~there, 1],
            "x",
            color="#555555",
            markersize=4.5,
            zorder=5,
            label=f"no score ({int((~there).sum())})",
        )
        axes.legend(loc="lower left", fontsize=8, framealpha=0.85, borderpad=0.3, handletextpad=0.2)
    place, inch = axes.get_position(), 1.0 / figure.get_size_inches()[0]
    bar_axes = figure.add_axes((place.x1 + 0.1 * inch, place.y0, 0.12 * inch, place.height), label="colorbar")
    extend = bar_extend(bool(value[there].min() < low - 1e-12), bool(value[there].max() > high + 1e-12))
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), cmap), cax=bar_axes, extend=extend, extendfrac=0.03)
    bar.set_label(_label(one))
    bar.ax.yaxis.set_label_coords(5.4, 0.5)
    bar.locator = mpl.ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
    bar.update_ticks()


def prediction_series(
    tables: Mapping[str, pd.DataFrame],
    sensors: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    synthetic: bool = False,
) -> Figure:
    """Draw what was observed and what each model predicted through time, a panel a sensor.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By model: ``sensor_id``, ``time``, ``observed``, ``predicted``; what was observed is drawn from the first.
    sensors : sequence of str
        Which sensors.
    names, notes : mapping of str to str, optional
        Title of a sensor's panel (default its id), and a second line for it, e.g. its strata and scores.
    synthetic : bool
        Say so in each title.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        For a column that is missing.
    ParameterError
        For no sensor, or one that the first table does not have.
    """
    who = "prediction_series"
    if not tables:
        raise ContractError(who, "there is nothing to draw", expected="a mapping of model to predictions")
    for name, table in tables.items():
        missing = [column for column in ("sensor_id", "time", "observed", "predicted") if column not in table]
        if missing:
            raise ContractError(who, f"predictions of {name!r} lack columns", got=missing)
    first = next(iter(tables.values()))
    strange = [sensor for sensor in sensors if sensor not in set(first["sensor_id"])]
    if strange or not len(sensors):
        raise ParameterError(who, "there is no such sensor", got=strange, expected=sorted(set(first["sensor_id"]))[:5])
    head, high, foot, legend = (0.5 if notes else 0.3), 1.45, 0.1, 0.3
    total = legend + len(sensors) * (head + high + foot) + 0.35
    times = pd.concat([t.loc[t["sensor_id"].isin(list(sensors)), "time"] for t in tables.values()])
    room = 0.01 * (times.max() - times.min()) + pd.Timedelta("6h")
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, total)
        for i, sensor in enumerate(sensors):
            bottom = total - legend - (i + 1) * (head + high + foot) + foot
            axes = figure.add_axes((0.1, bottom / total, 0.87, high / total))
            _one_series(axes, tables, sensor)
            text = panel_title(
                i if len(sensors) > 1 else None, (names or {}).get(sensor, sensor), synthetic, WIDTH - 0.8
            )
            noted = bool(notes) and sensor in notes
            axes.set_title(text, loc="left", pad=15 if noted else 3, fontsize=9.5)
            if noted:
                axes.annotate(
                    notes[sensor],
                    (0.0, 1.0),
                    (0, 3),
                    xycoords="axes fraction",
                    textcoords="offset points",
                    fontsize=8,
                    color="#444444",
                    annotation_clip=False,
                )
            axes.set_xlim(times.min() - room, times.max() + room)
            axes.tick_params(labelbottom=i == len(sensors) - 1)
            axes.set_ylabel(with_units("Soil moisture", "m3 m-3"), fontsize=8.5)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="upper left",
            ncols=4,
            frameon=False,
            bbox_to_anchor=(0.09, 1.0),
            borderaxespad=0.2,
            markerscale=1.8,
        )
    return figure


def _with_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in order of time, with an empty one where a line would bridge a gap of five usual steps."""
    rows = rows[["time", "observed", "predicted"]].sort_values("time")
    step = rows["time"].diff()
    wide = step > 5 * step.median()
    holes = rows.loc[wide, ["time"]].assign(time=rows["time"].shift()[wide] + pd.Timedelta("1s"))
    return pd.concat([rows, holes]).sort_values("time")


def _one_series(axes: Axes, tables: Mapping[str, pd.DataFrame], sensor: str) -> None:
    first = next(iter(tables.values()))
    observed = _with_gaps(first[first["sensor_id"] == sensor].dropna(subset=["observed"]))
    size = 3 if len(observed) <= 250 else 1.5
    axes.plot(
        observed["time"],
        observed["observed"],
        color="black",
        linewidth=1.1,
        marker=".",
        markersize=size,
        label="in situ",
        zorder=5,
    )
    for i, (name, table) in enumerate(tables.items()):
        own = _with_gaps(table[table["sensor_id"] == sensor].dropna(subset=["predicted"]))
        colour, _ = LINES[i % len(LINES)]
        dense = len(own) > 250  # a line through so many noisy values would hide what was observed
        axes.plot(
            own["time"],
            own["predicted"],
            color=colour,
            linewidth=0.0 if dense else 0.7,
            alpha=0.6 if dense else 0.9,
            marker=_MARKERS[i % len(_MARKERS)],
            markersize=1.7 if dense else 2.2,
            markeredgewidth=0,
            label=name,
            zorder=4,
        )
    locator = mpl.dates.AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mpl.dates.ConciseDateFormatter(locator))
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def score_boxes(
    scores: Mapping[str, pd.DataFrame],
    by: Mapping[str, str],
    metric: MetricLike = "ubrmse",
    *,
    order: Mapping[str, Sequence[str]] | None = None,
    few: int = 5,
    synthetic: bool = False,
) -> Figure:
    """Draw the distribution of a score over the sensors of each stratum as boxes, with the sensors as points.

    Parameters
    ----------
    scores : mapping of str to DataFrame
        By model, one row a sensor: the strata and the score.
    by : mapping of str to str
        Column of strata to the title of its panel.
    metric : str
        Which score.
    order : mapping of str to sequence of str, optional
        Strata of a column in their order; those that do not occur are left out, others follow by name.
    few : int
        A stratum with fewer sensors carries an asterisk, and has points but no box.
    synthetic : bool
        Say so in each title.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        For a column that is missing, or no score at all.
    ParameterError
        For an unknown metric.
    """
    one = _check("score_boxes", scores, list(by), metric)
    metric = one.name
    strata = {column: _strata(scores, column, metric, (order or {}).get(column, ())) for column in by}
    head, high, legend = 0.32, 1.75, 0.32 if len(scores) > 1 else 0.05
    feet = [0.5 if len(strata[column]) < 7 else 0.85 for column in by]
    total = legend + len(by) * (head + high) + sum(feet)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, total)
        for i, (column, title) in enumerate(by.items()):
            bottom = total - legend - (i + 1) * (head + high) - sum(feet[:i])
            axes = figure.add_axes((0.1, bottom / total, 0.885, high / total))
            _boxes(axes, scores, column, one, strata[column], few)
            axes.set_title(panel_title(i if len(by) > 1 else None, title, synthetic, WIDTH - 0.8), loc="left", pad=4)
            axes.set_ylabel(_label(one))
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if len(scores) > 1:
            figure.legend(
                handles,
                labels,
                loc="upper left",
                ncols=4,
                frameon=False,
                bbox_to_anchor=(0.09, 1.0),
                borderaxespad=0.2,
                markerscale=2.2,
            )
    return figure


def _strata(scores: Mapping[str, pd.DataFrame], column: str, metric: str, order: Sequence[str]) -> list[str]:
    seen = {str(v) for t in scores.values() for v in t.loc[np.isfinite(t[metric]), column].fillna("none")}
    rest = sorted(seen - set(order), key=lambda name: (name == "none", name))
    return [*(name for name in order if name in seen), *rest][:_MOST_STRATA]


def _boxes(
    axes: Axes, scores: Mapping[str, pd.DataFrame], column: str, one: Metric, strata: list[str], few: int
) -> None:
    width = 0.7 / len(scores) * min(1.0, max(len(strata), 1) / 4)
    counts = dict.fromkeys(strata, 0)
    for i, (name, table) in enumerate(scores.items()):
        colour, _ = LINES[i % len(LINES)]
        offset = (i - (len(scores) - 1) / 2) * width
        labels = table[column].fillna("none").astype(str)
        for k, stratum in enumerate(strata):
            values = table.loc[labels == stratum, one.name].to_numpy("float64")
            values = np.sort(values[np.isfinite(values)])
            counts[stratum] = max(counts[stratum], values.size)
            if values.size >= few:
                parts = {part: {"color": colour, "linewidth": 0.9} for part in ("boxprops", "whiskerprops", "capprops")}
                axes.boxplot(
                    values,
                    positions=[k + offset],
                    widths=0.8 * width,
                    whis=(5, 95),
                    showfliers=False,
                    manage_ticks=False,
                    medianprops={"color": colour, "linewidth": 1.6},
                    **parts,
                )
            # spread by rank, not at random: the figure is the same in every run
            ranks = np.arange(values.size)
            spread = 0.55 * width * ((ranks * 0.618034) % 1.0 - 0.5) if values.size > 1 else 0.0
            axes.plot(
                k + offset + np.zeros(values.size) + spread,
                values,
                linestyle="",
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=2.8,
                color=colour,
                alpha=0.6,
                markeredgewidth=0,
                label=name if k == 0 else None,
            )
    ticks = [f"{name}{'*' if counts[name] < few else ''}\n{counts[name]}" for name in strata]
    if len(strata) < 7:
        axes.set_xticks(range(len(strata)), ticks, fontsize=8.5)
    else:
        ticks = [tick.replace("\n", ", ") for tick in ticks]
        axes.set_xticks(range(len(strata)), ticks, fontsize=8.5, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(strata) - 0.4)
    if one.limits[0] == 0.0:
        axes.set_ylim(bottom=0.0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
