"""Static figures of scores by sensor: sorted with intervals, through time, and as boxes by stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, ParameterError, check_table
from smnb.metrics import Interval, Metric
from smnb.metrics.registry import MetricLike
from smnb.plots.canvas import LINES, MARKERS, axes_at, date_axis, grid_behind, legend_above, panel_title
from smnb.plots.display import WIDTH, Picture, picture
from smnb.plots.fields import metric_label, with_units
from smnb.plots.places import check_scores

#: A few stations with the same few sensors would hide one another's boxes.
_MOST_STRATA = 14


@picture(twin=True)
def sorted_scores(
    scores: Mapping[str, pd.DataFrame],
    metric: MetricLike = "ubrmse",
    *,
    averages: Mapping[str, Interval] | None = None,
    title: str = "",
    synthetic: bool | None = None,
) -> Picture:
    """Draw one score of every sensor, sorted by the first model's, with intervals and the means.

    Parameters
    ----------
    scores : mapping of str to DataFrame
        By model, one row a sensor: ``sensor_id``, the score, and where there are any ``<score>_low`` and ``<score>_high``.
    averages : mapping of str to Interval, optional
        Mean of each model: a line, with its interval as a band.
    """
    one = check_scores("sorted_scores", scores, metric)
    tables = in_order(scores, one)
    lines = len(scores) if len(scores) < 3 else -(-len(scores) // 2)
    height = 3.0 + 0.18 * lines
    figure = Picture(WIDTH, height)
    axes = axes_at(figure, 0.1 * WIDTH, 0.5, 0.885 * WIDTH, height - 0.5 - 0.36 - 0.18 * lines)
    shift = np.linspace(-0.18, 0.18, len(scores)) if len(scores) > 1 else [0.0]
    for i, (name, table) in enumerate(tables.items()):
        colour, style = LINES[i % len(LINES)]
        at, text = np.arange(1, len(table) + 1) + shift[i], name
        if _has_interval(table, one):
            ends = (table[f"{one.name}_{end}"] for end in ("low", "high"))
            axes.vlines(at, *ends, color=colour, linewidth=0.8, alpha=0.6)
        if averages and name in averages:
            mean = averages[name]
            text += f": mean {mean}"
            axes.axhline(mean.value, color=colour, linestyle=style, linewidth=1.1, zorder=1)
            if np.isfinite(mean.low):
                axes.axhspan(mean.low, mean.high, color=colour, alpha=0.13, linewidth=0, zorder=0)
        look = {"marker": MARKERS[i % 6], "markersize": 3.2, "color": colour}
        axes.plot(at, table[one.name].to_numpy("float64"), linestyle="", label=text, **look)
    top = _fit_points(axes, tables, one)
    cut = _mark_cut(axes, tables, one, shift, top)
    label = f"Sensor, in the order of {one.label} of {next(iter(scores))}"
    axes.set(xlabel=label, ylabel=metric_label(one), xlim=(0.2, len(next(iter(tables.values()))) + 0.8))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    grid_behind(axes, "y")
    shown = panel_title(None, title or f"{one.title} of each sensor", synthetic, WIDTH)
    shown += f"; {cut} intervals go on above the axis (triangles)" if cut else ""
    figure.text(0.1, 0.985, shown, fontsize=10, va="top")
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.2, "labelspacing": 0.25}
    axes.legend(frameon=False, ncols=1 if len(scores) < 3 else 2, fontsize=8.5, **place)
    return figure


def in_order(scores: Mapping[str, pd.DataFrame], one: Metric) -> dict[str, pd.DataFrame]:
    """Tables by sensor, sorted by the first model's score; sensors that only another model has one at come last."""
    first = next(iter(scores.values())).dropna(subset=[one.name]).sort_values(one.name, kind="stable")
    order = pd.Index(first["sensor_id"].astype(str))
    for table in scores.values():
        order = order.append(pd.Index(table.dropna(subset=[one.name])["sensor_id"].astype(str)).difference(order))
    return {
        name: table.assign(sensor_id=table["sensor_id"].astype(str)).set_index("sensor_id").reindex(order)
        for name, table in scores.items()
    }


def _has_interval(table: pd.DataFrame, one: Metric) -> bool:
    return {f"{one.name}_low", f"{one.name}_high"} <= set(table.columns)


def _mark_cut(axes: Axes, tables: Mapping[str, pd.DataFrame], one: Metric, shift: Sequence[float], top: float) -> int:
    """Mark intervals that go on above the axis by triangles; return how many."""
    cut = 0
    for (colour, _), x, table in zip(LINES * len(tables), shift, tables.values(), strict=False):
        if _has_interval(table, one):
            above = np.flatnonzero(table[f"{one.name}_high"].to_numpy("float64") > top)
            look = {"color": colour, "markersize": 4, "clip_on": False, "zorder": 6}
            axes.plot(above + 1 + x, np.full(above.size, top), "^", **look)
            cut += above.size
    return cut


def _fit_points(axes: Axes, tables: Mapping[str, pd.DataFrame], one: Metric) -> float:
    """Limits by the scores and most of the intervals, since a few long ones would flatten the rest; return the top."""
    points = np.concatenate([t[one.name].to_numpy("float64") for t in tables.values()])
    low, high = np.nanmin(points), np.nanmax(points)
    for table in tables.values():
        if _has_interval(table, one) and table[f"{one.name}_high"].notna().any():
            low = min(low, table[f"{one.name}_low"].quantile(0.05))
            high = max(high, min(table[f"{one.name}_high"].quantile(0.95), high + 0.5 * (high - low)))
    room = 0.05 * max(high - low, 1e-6)
    axes.set_ylim(0.0 if one.limits[0] == 0.0 else low - room, high + room)
    return float(high + room)


@picture(twin=True)
def prediction_series(
    tables: Mapping[str, pd.DataFrame],
    sensors: Sequence[str],
    *,
    notes: Mapping[str, str] | None = None,
    synthetic: bool | None = None,
) -> Picture:
    """Draw what was observed and what each model predicted through time, a panel a sensor.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By model: ``sensor_id``, ``time``, ``observed``, ``predicted``; what was observed is drawn from the first.
    notes : mapping of str to str, optional
        A second line of a sensor's title, e.g. its strata and scores.
    """
    who = "prediction_series"
    if not tables:
        raise ContractError(who, "there is nothing to draw", expected="a mapping of model to predictions")
    for name, table in tables.items():
        check_table(f"{who}, {name}", table, ("sensor_id", "time", "observed", "predicted"))
    known = set(next(iter(tables.values()))["sensor_id"])
    strange = [sensor for sensor in sensors if sensor not in known]
    if strange or not len(sensors):
        raise ParameterError(who, "there is no such sensor", got=strange, expected=sorted(known)[:5])
    notes = notes or {}
    above, high, foot, legend = (0.5 if notes else 0.3), 1.45, 0.1, 0.3
    figure = Picture(WIDTH, legend + len(sensors) * (above + high + foot) + 0.35)
    times = pd.concat([t.loc[t["sensor_id"].isin(list(sensors)), "time"] for t in tables.values()])
    room = 0.01 * (times.max() - times.min()) + pd.Timedelta("6h")
    for i, sensor in enumerate(sensors):
        bottom = 0.35 + (len(sensors) - 1 - i) * (above + high + foot) + foot
        axes = axes_at(figure, 0.1 * WIDTH, bottom, 0.87 * WIDTH, high)
        _one_series(axes, tables, sensor)
        text = panel_title(i if len(sensors) > 1 else None, sensor, synthetic, WIDTH - 0.8)
        axes.set_title(text, loc="left", pad=15 if sensor in notes else 3, fontsize=9.5)
        if sensor in notes:
            look = {"textcoords": "offset points", "fontsize": 8, "color": "#444444", "annotation_clip": False}
            axes.annotate(notes[sensor], (0.0, 1.0), (0, 3), xycoords="axes fraction", **look)
        axes.set_xlim(times.min() - room, times.max() + room)
        axes.tick_params(labelbottom=i == len(sensors) - 1)
        axes.set_ylabel(with_units("Soil moisture", "m3 m-3"), fontsize=8.5)
    _model_legend(figure, 1.8)
    return figure


def _model_legend(figure: Picture, scale: float) -> None:
    place = {"loc": "upper left", "ncols": 4, "bbox_to_anchor": (0.09, 1.0), "markerscale": scale}
    legend_above(figure, *figure.axes[0].get_legend_handles_labels(), handlelength=2.0, columnspacing=2.0, **place)


def with_gaps(table: pd.DataFrame, sensor: str, column: str) -> pd.DataFrame:
    """A sensor's rows in order of time, with an empty one where a line would bridge a gap of five usual steps."""
    rows = table.loc[table["sensor_id"] == sensor, ["time", column]].dropna().sort_values("time")
    step = rows["time"].diff()
    wide = step > 5 * step.median()
    holes = rows.loc[wide, ["time"]].assign(time=rows["time"].shift()[wide] + pd.Timedelta("1s"))
    return pd.concat([rows, holes]).sort_values("time")


def _one_series(axes: Axes, tables: Mapping[str, pd.DataFrame], sensor: str) -> None:
    observed = with_gaps(next(iter(tables.values())), sensor, "observed")
    size = 3 if len(observed) <= 250 else 1.5
    look = {"color": "black", "linewidth": 1.1, "marker": ".", "markersize": size, "zorder": 5}
    axes.plot(observed["time"], observed["observed"], label="in situ", **look)
    for i, (name, table) in enumerate(tables.items()):
        own = with_gaps(table, sensor, "predicted")
        dense = len(own) > 250  # a line through so many noisy values would hide what was observed
        look = {"linewidth": 0.0, "alpha": 0.6, "markersize": 1.7} if dense else {"linewidth": 0.7, "alpha": 0.9}
        look = {"markersize": 2.2, "color": LINES[i % len(LINES)][0], "marker": MARKERS[i % 6]} | look
        axes.plot(own["time"], own["predicted"], markeredgewidth=0, label=name, zorder=4, **look)
    date_axis(axes, 4)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    grid_behind(axes)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


@picture(twin=True)
def score_boxes(
    scores: Mapping[str, pd.DataFrame],
    by: Mapping[str, str],
    metric: MetricLike = "ubrmse",
    *,
    order: Mapping[str, Sequence[str]] | None = None,
    synthetic: bool | None = None,
) -> Picture:
    """Draw the distribution of a score over the sensors of each stratum as boxes, with the sensors as points.

    A stratum with fewer than five sensors carries an asterisk, and has points but no box.

    Parameters
    ----------
    scores : mapping of str to DataFrame
        By model, one row a sensor: the strata and the score.
    by : mapping of str to str
        Column of strata to the title of its panel.
    order : mapping of str to sequence of str, optional
        Strata of a column in their order; those that do not occur are left out, others follow by name.
    """
    one = check_scores("score_boxes", scores, metric, by)
    strata = {column: _strata(scores, column, one.name, (order or {}).get(column, ())) for column in by}
    above, high, legend = 0.32, 1.75, 0.32 if len(scores) > 1 else 0.05
    feet = [0.5 if len(strata[column]) < 7 else 0.85 for column in by]
    total = legend + len(by) * (above + high) + sum(feet)
    figure = Picture(WIDTH, total)
    for i, (column, title) in enumerate(by.items()):
        bottom = total - legend - (i + 1) * (above + high) - sum(feet[:i])
        axes = axes_at(figure, 0.1 * WIDTH, bottom, 0.885 * WIDTH, high)
        _boxes(axes, scores, column, one, strata[column])
        axes.set_title(panel_title(i if len(by) > 1 else None, title, synthetic, WIDTH - 0.8), loc="left", pad=4)
        axes.set_ylabel(metric_label(one))
    if len(scores) > 1:
        _model_legend(figure, 2.2)
    return figure


def _strata(scores: Mapping[str, pd.DataFrame], column: str, metric: str, order: Sequence[str]) -> list[str]:
    seen = {str(v) for t in scores.values() for v in t.loc[np.isfinite(t[metric]), column].fillna("none")}
    rest = sorted(seen - set(order), key=lambda name: (name == "none", name))
    return [*(name for name in order if name in seen), *rest][:_MOST_STRATA]


def _boxes(
    axes: Axes, scores: Mapping[str, pd.DataFrame], column: str, one: Metric, strata: list[str], few: int = 5
) -> None:
    width = 0.7 / len(scores) * min(1.0, max(len(strata), 1) / 4)
    counts = dict.fromkeys(strata, 0)
    for i, (name, table) in enumerate(scores.items()):
        colour, offset = LINES[i % len(LINES)][0], (i - (len(scores) - 1) / 2) * width
        labels = table[column].fillna("none").astype(str)
        thin = {key: {"color": colour, "linewidth": 0.9} for key in ("boxprops", "whiskerprops", "capprops")}
        look = {"whis": (5, 95), "showfliers": False, "manage_ticks": False, "widths": 0.8 * width}
        dots = {"marker": MARKERS[i % 6], "markersize": 2.8, "color": colour, "alpha": 0.6, "markeredgewidth": 0}
        for k, stratum in enumerate(strata):
            values = table.loc[labels == stratum, one.name].to_numpy("float64")
            values = np.sort(values[np.isfinite(values)])
            counts[stratum] = max(counts[stratum], values.size)
            if values.size >= few:
                thick = {"color": colour, "linewidth": 1.6}
                axes.boxplot(values, positions=[k + offset], medianprops=thick, **thin, **look)
            # spread by rank, not at random: the figure is the same in every run
            spread = 0.55 * width * ((np.arange(values.size) * 0.618034) % 1.0 - 0.5) * (values.size > 1)
            axes.plot(k + offset + spread, values, linestyle="", label=name if k == 0 else None, **dots)
    ticks = [f"{name}{'*' if counts[name] < few else ''}\n{counts[name]}" for name in strata]
    if len(strata) < 7:
        axes.set_xticks(range(len(strata)), ticks, fontsize=8.5)
    else:
        ticks = [tick.replace("\n", ", ") for tick in ticks]
        axes.set_xticks(range(len(strata)), ticks, fontsize=8.5, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(strata) - 0.4)
    if one.limits[0] == 0.0:
        axes.set_ylim(bottom=0.0)
    grid_behind(axes, "y")
