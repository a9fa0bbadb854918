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
from smnb.plots.charts import broken
from smnb.plots.display import LINES, MARKERS, WIDTH, Picture, date_axis, grid_behind, panel_title, picture, said
from smnb.plots.ground import metric_label, with_units
from smnb.plots.maps import check_scores

_MOST_STRATA = 14  # a few stations with the same few sensors would hide one another's boxes
_FEW = 5  # a stratum of fewer sensors has no box


@picture
def sorted_scores(
    scores: Mapping[str, pd.DataFrame],
    metric: MetricLike = "ubrmse",
    *,
    averages: Mapping[str, Interval] | None = None,
    title: str = "",
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
    tables = _in_order(scores, one)
    lines = len(scores) if len(scores) < 3 else -(-len(scores) // 2)
    height = 3.0 + 0.18 * lines
    figure = Picture(WIDTH, height)
    axes = figure.axes_at(0.1 * WIDTH, 0.5, 0.885 * WIDTH, height - 0.5 - 0.36 - 0.18 * lines)
    values = pd.concat([table["value"] for table in tables.values()])
    low, top = values.min(), values.max()
    for table in tables.values():  # most of the intervals, since a few long ones would flatten the rest
        low = np.fmin(low, table["low"].quantile(0.05))
        top = np.fmax(top, min(table["high"].quantile(0.95), top + 0.5 * (top - low)))
    room = 0.05 * max(top - low, 1e-6)
    low, top = 0.0 if one.limits[0] == 0.0 else low - room, top + room
    axes.set_ylim(low, top)
    shift, cut = np.linspace(-0.18, 0.18, len(scores)) if len(scores) > 1 else [0.0], 0
    for i, (name, table) in enumerate(tables.items()):
        colour, style = LINES[i % len(LINES)]
        at, text = np.arange(1, len(table) + 1) + shift[i], name
        axes.vlines(at, table["low"], table["high"], color=colour, linewidth=0.8, alpha=0.6)
        if averages and name in averages:
            mean = averages[name]
            text += f": mean {mean}"
            axes.axhline(mean.value, color=colour, linestyle=style, linewidth=1.1, zorder=1)
            if np.isfinite(mean.low):
                axes.axhspan(mean.low, mean.high, color=colour, alpha=0.13, linewidth=0, zorder=0)
        look = {"marker": MARKERS[i % 6], "markersize": 3.2, "color": colour}
        axes.plot(at, table["value"], linestyle="", label=text, **look)
        above = at[table["high"] > top]
        axes.plot(above, np.full(above.size, top), "^", color=colour, markersize=4, clip_on=False, zorder=6)
        cut += above.size
    order = f"Sensor, in the order of {one.label} of {next(iter(scores))}"
    axes.set(xlabel=order, ylabel=metric_label(one), xlim=(0.2, len(table) + 0.8))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    grid_behind(axes, "y")
    title = title or f"{one.title} of each sensor"
    shown = panel_title(None, title, WIDTH)
    shown += f"; {cut} intervals go on above the axis (triangles)" if cut else ""
    figure.text(0.1, 0.985, shown, fontsize=10, va="top")
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "handlelength": 2.0, "labelspacing": 0.25}
    axes.legend(ncols=1 if len(scores) < 3 else 2, columnspacing=2.0, fontsize=8.5, **place)
    ranked = [table.assign(model=name, rank=np.arange(1, len(table) + 1)) for name, table in tables.items()]
    points = pd.concat(ranked).rename_axis("sensor").reset_index().rename(columns={"value": one.name})
    look = {"by": "model", "told": ["sensor"], "color": [LINES[i % len(LINES)][0] for i in range(len(tables))]}
    panel = {"x": "rank", "xlabel": order, "title": said(title)}
    figure.offer("scatter", points, one.name, [panel], ylabel=metric_label(one), **look)
    return figure


def _in_order(scores: Mapping[str, pd.DataFrame], one: Metric) -> dict[str, pd.DataFrame]:
    """``value``, ``low`` and ``high`` by sensor, in the order of the first model's; what only another model scores is last."""
    names = {one.name: "value", f"{one.name}_low": "low", f"{one.name}_high": "high"}
    by_sensor = {name: table.set_index(table["sensor_id"].astype(str)) for name, table in scores.items()}
    tables = {name: table.reindex(columns=list(names)).rename(columns=names) for name, table in by_sensor.items()}
    order = next(iter(tables.values()))["value"].dropna().sort_values(kind="stable").index
    for table in tables.values():
        order = order.append(table.index[table["value"].notna()].difference(order))
    return {name: table.reindex(order).astype("float64") for name, table in tables.items()}


@picture
def prediction_series(
    tables: Mapping[str, pd.DataFrame], sensors: Sequence[str], *, notes: Mapping[str, str] | None = None
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
    notes, panels = notes or {}, {}
    above, high, foot, legend = (0.5 if notes else 0.3), 1.45, 0.1, 0.3
    figure = Picture(WIDTH, legend + len(sensors) * (above + high + foot) + 0.35)
    times = pd.concat([t.loc[t["sensor_id"].isin(list(sensors)), "time"] for t in tables.values()])
    room = 0.01 * (times.max() - times.min()) + pd.Timedelta("6h")
    for i, sensor in enumerate(sensors):
        bottom = 0.35 + (len(sensors) - 1 - i) * (above + high + foot) + foot
        axes = figure.axes_at(0.1 * WIDTH, bottom, 0.87 * WIDTH, high)
        panels[sensor] = _draw_lines(axes, tables, sensor)
        text = panel_title(i if len(sensors) > 1 else None, sensor, WIDTH - 0.8)
        axes.set_title(text, loc="left", pad=15 if sensor in notes else 3, fontsize=9.5)
        if sensor in notes:
            look = {"textcoords": "offset points", "fontsize": 8, "color": "#444444", "annotation_clip": False}
            axes.annotate(notes[sensor], (0.0, 1.0), (0, 3), xycoords="axes fraction", **look)
        axes.set_xlim(times.min() - room, times.max() + room)
        axes.tick_params(labelbottom=i == len(sensors) - 1)
        axes.set_ylabel(with_units("Soil moisture", "m3 m-3"), fontsize=8.5)
    _model_legend(figure, 1.8)
    figure.offer("sensors_in_time", panels, with_units("Soil moisture", "m3 m-3"), said(""))
    return figure


def _model_legend(figure: Picture, scale: float) -> None:
    place = {"loc": "upper left", "ncols": 4, "bbox_to_anchor": (0.09, 1.0), "markerscale": scale}
    figure.legend(*figure.axes[0].get_legend_handles_labels(), handlelength=2.0, columnspacing=2.0, **place)


def _draw_lines(axes: Axes, tables: Mapping[str, pd.DataFrame], sensor: str) -> dict[str, pd.Series]:
    """Draw what was observed at a sensor (from the first table) and what each model predicted; return it by name."""
    columns = {"in situ": (next(iter(tables.values())), "observed")}
    columns |= {name: (table, "predicted") for name, table in tables.items()}
    drawn = {}
    for i, (name, (table, column)) in enumerate(columns.items(), -1):
        own = table.loc[table["sensor_id"] == sensor].set_index("time")[column].dropna().sort_index()
        drawn[name] = own = broken(own)
        dense = len(own) > 250  # a line through so many noisy values would hide what was observed
        if i < 0:
            look = {"color": "black", "linewidth": 1.1, "marker": ".", "markersize": 1.5 if dense else 3, "zorder": 5}
        else:
            look = {"color": LINES[i % len(LINES)][0], "marker": MARKERS[i % 6], "markeredgewidth": 0, "zorder": 4}
            width, alpha, size = (0.0, 0.6, 1.7) if dense else (0.7, 0.9, 2.2)
            look |= {"linewidth": width, "alpha": alpha, "markersize": size}
        axes.plot(own.index, own, label=name, **look)
    date_axis(axes, 4)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    grid_behind(axes)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    return drawn


@picture
def score_boxes(
    scores: Mapping[str, pd.DataFrame],
    by: Mapping[str, str],
    metric: MetricLike = "ubrmse",
    *,
    order: Mapping[str, Sequence[str]] | None = None,
) -> Picture:
    """Draw the distribution of a score over the sensors of each stratum as boxes, with the sensors as points.

    A stratum with fewer than five sensors carries an asterisk, and has points but no box.

    Parameters
    ----------
    scores, by : mapping
        Tables by model, one row a sensor: the strata and the score. Columns of strata with the titles of their panels.
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
        axes = figure.axes_at(0.1 * WIDTH, bottom, 0.885 * WIDTH, high)
        _boxes(axes, scores, column, one, strata[column])
        axes.set_title(panel_title(i if len(by) > 1 else None, title, WIDTH - 0.8), loc="left", pad=4)
        axes.set_ylabel(metric_label(one))
    if len(scores) > 1:
        _model_legend(figure, 2.2)
    every = pd.concat([t.assign(model=name) for name, t in scores.items()]).fillna(dict.fromkeys(by, "none"))
    panels = [{"x": column, "xlabel": title, "title": said(title)} for column, title in by.items()]
    look = {"by": "model", "told": ["sensor_id"], "ylabel": metric_label(one), "alpha": 0.6, "rot": 30}
    figure.offer("scatter", every, one.name, panels, **look)
    return figure


def _strata(scores: Mapping[str, pd.DataFrame], column: str, metric: str, order: Sequence[str]) -> list[str]:
    seen = {str(v) for t in scores.values() for v in t.loc[np.isfinite(t[metric]), column].fillna("none")}
    rest = sorted(seen - set(order), key=lambda name: (name == "none", name))
    return [*(name for name in order if name in seen), *rest][:_MOST_STRATA]


def _boxes(axes: Axes, scores: Mapping[str, pd.DataFrame], column: str, one: Metric, strata: list[str]) -> None:
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
            if values.size >= _FEW:
                thick = {"color": colour, "linewidth": 1.6}
                axes.boxplot(values, positions=[k + offset], medianprops=thick, **thin, **look)
            # spread by rank, not at random: the figure is the same in every run
            spread = 0.55 * width * ((np.arange(values.size) * 0.618034) % 1.0 - 0.5) * (values.size > 1)
            axes.plot(k + offset + spread, values, linestyle="", label=name if k == 0 else None, **dots)
    between, leaning = (
        ("\n", {}) if len(strata) < 7 else (", ", {"rotation": 30, "ha": "right", "rotation_mode": "anchor"})
    )
    ticks = [f"{name}{'*' * (counts[name] < _FEW)}{between}{counts[name]}" for name in strata]
    axes.set_xticks(range(len(strata)), ticks, fontsize=8.5, **leaning)
    axes.set_xlim(-0.6, len(strata) - 0.4)
    if one.limits[0] == 0.0:
        axes.set_ylim(bottom=0.0)
    grid_behind(axes, "y")
