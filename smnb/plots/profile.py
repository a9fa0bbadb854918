"""Static figures of a set of sensors: how many, when they report, how far apart the sides of a split are.

Each takes a tidy table of `smnb.sensors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, check_table
from smnb.plots.charts import broken
from smnb.plots.display import WIDTH, Picture, date_axis, grid_behind, look_of, panel_title, picture, said
from smnb.plots.ground import with_units


def _shade(name: str, look: tuple[str, str]) -> dict:
    return {"color": look[0], "hatch": look[1], "edgecolor": "white", "linewidth": 0.4, "label": name}


@picture
def count_bars(tables: Mapping[str, pd.DataFrame], *, columns: Sequence[str] = ("n_sensors",)) -> Picture:
    """Draw counts by stratum as horizontal bars, a panel a stratification, stacked by `columns` (a table may lack some).

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By title: rows are strata (`smnb.sensors.count_sensors`), with `columns` and ``few``, which adds an asterisk.
    """
    who = "count_bars"
    if not tables:
        raise ContractError(who, "there is nothing to draw")
    for title, table in tables.items():
        check_table(who, table, ())
        if not set(columns) & set(table.columns):
            got = list(table.columns)
            raise ContractError(who, f"table {title!r} has none of the columns", got=got, expected=columns)
    across = 1 if len(tables) == 1 else 2
    items = list(tables.items())
    rows = [items[i : i + across] for i in range(0, len(items), across)]
    above, foot, legend = 0.36, 0.42, 0.3 if len(columns) > 1 else 0.0
    longest = [max(len(str(name)) for _, table in items[c::across] for name in table.index) for c in range(across)]
    rooms = [0.27 + 0.072 * length for length in longest]
    wide = (WIDTH - sum(rooms) - 0.35 * across) / across
    if wide < 0.8:
        raise ContractError(who, "names of strata are too long to draw", got=longest)
    heights = [[0.175 * len(table) + 0.08 for _, table in row] for row in rows]
    top = sum(map(max, heights)) + len(rows) * (above + foot)
    figure = Picture(WIDTH, top + legend)
    look = look_of([c for c in columns if any(c in table for table in tables.values())])
    for r, row in enumerate(rows):
        for c, (title, table) in enumerate(row):
            left = sum(rooms[: c + 1]) + c * (wide + 0.35)
            axes = figure.axes_at(left, top - above - heights[r][c], wide, heights[r][c])
            _bars(axes, table, look)
            index = None if len(tables) == 1 else r * across + c
            axes.set_title(panel_title(index, title, wide + 1.0), loc="left", x=-0.02)
        top -= above + max(heights[r]) + foot
    if legend:
        found = max((axes.get_legend_handles_labels() for axes in figure.axes), key=lambda pair: len(pair[0]))
        figure.legend(*found, loc="upper center", ncols=len(found[1]), handlelength=2.0, columnspacing=2.0)
    return figure


def _bars(axes: Axes, table: pd.DataFrame, look: Mapping[str, tuple[str, str]]) -> None:
    at, done = np.arange(len(table))[::-1], np.zeros(len(table))
    for name, shade in look.items():
        if name in table:
            bars = axes.barh(at, table[name], left=done, height=0.72, **_shade(name, shade))
            done = done + table[name].to_numpy("float64")
    axes.bar_label(bars, [f"{value:,.0f}" for value in done], padding=3, fontsize=8)
    few = table.get("few", pd.Series(False, index=table.index))
    names = [f"{name}{'*' if star else ''}" for name, star in zip(table.index, few, strict=True)]
    axes.set_yticks(at, names, fontsize=8.5)
    axes.set(xlim=(0, 1.16 * max(done.max(), 1.0)), ylim=(-0.6, len(table) - 0.4), xlabel="Sensors")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


@picture
def month_bars(table: pd.DataFrame, *, title: str) -> Picture:
    """Draw readings by month in thousands, stacked by the table's columns, with the number of reporting sensors as a line.

    `table`: indexed by the month's first day: counts, and ``n_sensors`` (`smnb.sensors.by_month`).
    """
    check_table("month_bars", table, ())
    names = [name for name in table.columns if name != "n_sensors"]
    if not names:
        raise ContractError("month_bars", "there is no count", got=list(table.columns))
    figure = Picture(WIDTH, 2.9)
    axes = figure.add_axes((0.1, 0.13, 0.8, 0.69))
    begin = mpl.dates.date2num(table.index.to_pydatetime())
    end = mpl.dates.date2num((table.index + pd.offsets.MonthBegin(1)).to_pydatetime())
    done = np.zeros(len(table))
    for name, look in look_of(names).items():
        value = table[name].to_numpy("float64") / 1000.0
        axes.bar(begin, value, width=0.94 * (end - begin), bottom=done, align="edge", **_shade(name, look))
        done += value
    axes.set(ylabel="Readings (thousands)", ylim=(0, 1.05 * done.max()), xlim=(begin[0], end[-1]))
    date_axis(axes)
    handles, labels = axes.get_legend_handles_labels()
    if "n_sensors" in table:
        other = axes.twinx()
        look = {"color": "black", "marker": "o", "markersize": 3, "linewidth": 1.0}
        handles += other.plot((begin + end) / 2, table["n_sensors"], **look)
        labels += ["sensors reporting (right)"]
        other.set(ylabel="Sensors", ylim=(0, 1.12 * table["n_sensors"].max()))
        other.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.legend(handles, labels, loc="upper right", ncols=5, fontsize=8.5, bbox_to_anchor=(0.91, 0.925))
    figure.text(0.1, 0.94, said(title), fontsize=10, va="bottom")
    return figure


@picture
def calendar(table: pd.DataFrame, *, title: str) -> Picture:
    """Draw when each sensor reports: one row a sensor, grouped by network, darker where more of the time has a reading.

    `table`: sensors (index: network, sensor) by the first day of each period, % (`smnb.sensors.availability`).
    """
    check_table("calendar", table, ())
    values = table.to_numpy("float64")
    if table.shape[1] < 2:
        raise ContractError("calendar", "there are fewer than two periods", got=table.shape[1])
    networks = table.index.get_level_values(0).to_numpy().astype(str)
    edge = np.flatnonzero(networks[1:] != networks[:-1]) + 1
    bounds = np.concatenate([[0], edge, [len(table)]])
    height = float(np.clip(0.06 * len(table), 1.6, 5.0))
    figure = Picture(WIDTH, height + 0.78)
    left = 0.5 + 0.066 * max(len(f"{name} ({len(table)})") for name in networks)
    axes = figure.axes_at(left, 0.44, WIDTH - left - 0.95, height)
    time = table.columns
    begin, end = mpl.dates.date2num(time[0]), mpl.dates.date2num(time[-1] + (time[1] - time[0]))
    look = {"aspect": "auto", "cmap": "viridis_r", "vmin": 0, "vmax": 100, "interpolation": "nearest"}
    shown = axes.imshow(np.where(values > 0, values, np.nan), extent=(begin, end, len(table), 0), **look)
    axes.xaxis_date()
    date_axis(axes)
    axes.hlines(edge, begin, end, color="black", linewidth=0.6)
    axes.set_yticks([])
    middle = (bounds[:-1] + bounds[1:]) / 2
    wanted = _apart(middle, 0.155 * len(table) / height, len(table))
    look = {"ha": "right", "va": "center", "fontsize": 8, "annotation_clip": False}
    look["arrowprops"] = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0}
    both = ("axes fraction", "data")
    for name, y, at, n in zip(networks[bounds[:-1]], middle, wanted, np.diff(bounds), strict=True):
        axes.annotate(f"{name} ({n})", (0, y), (-0.04, at), xycoords=both, textcoords=both, **look)
    bar = figure.colorbar(shown, cax=figure.axes_at(WIDTH - 0.8, 0.44, 0.12, height, label="colorbar"))
    bar.set_label("Possible readings present (%)", fontsize=9)
    axes.set_title(said(title), loc="left")
    return figure


def _apart(middle: np.ndarray, least: float, bottom: float) -> np.ndarray:
    """Move labels apart: the rows of a small network are thinner than its name."""
    at = middle.copy()
    for i in range(1, at.size):
        at[i] = max(at[i], at[i - 1] + least)
    at -= max(0.0, at[-1] - bottom + least / 2)
    for i in range(at.size - 2, -1, -1):
        at[i] = min(at[i], at[i + 1] - least)
    return at


@picture
def grouped_bars(table: pd.DataFrame, *, title: str, xlabel: str) -> Picture:
    """Draw columns of counts as bars side by side, each column in % of its sum: distances by class and side.

    `table`: counts; rows are classes, columns sides (`smnb.sensors.bin_distances`).
    """
    check_table("grouped_bars", table, ())
    if not (table.sum() > 0).all():
        raise ContractError("grouped_bars", "a column has nothing to count", got=table.sum().to_dict())
    share = 100.0 * table / table.sum()
    figure = Picture(WIDTH * 0.75, 2.8)
    axes = figure.add_axes((0.12, 0.18, 0.86, 0.7))
    wide = 0.8 / len(table.columns)
    for i, (name, look) in enumerate(look_of(list(table.columns)).items()):
        at = np.arange(len(table)) - 0.4 + wide * (i + 0.5)
        bars = axes.bar(at, share[name], width=0.94 * wide, **_shade(f"{name} (n = {int(table[name].sum())})", look))
        axes.bar_label(bars, table[name].astype(int), padding=2, fontsize=8)
    axes.set_xticks(range(len(table)), [str(label).replace("-", "–") for label in table.index])
    axes.set(xlabel=xlabel, ylabel="Sensors (%)", ylim=(0, 1.4 * share.to_numpy().max()))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 100])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", ncols=len(table.columns))
    axes.set_title(said(title), loc="left")
    return figure


@picture
def share_table(table: pd.DataFrame, *, title: str) -> Picture:
    """Draw a table of percentages as coloured cells with their values: flags by network.

    `table`: %, rows and columns by name (`smnb.sensors.flag_shares`).
    """
    check_table("share_table", table, ())
    values = table.to_numpy("float64")
    if not np.isfinite(values).all() or (values < 0).any() or (values > 100 + 1e-9).any():
        raise ContractError("share_table", "the values are no percentages", got=(np.nanmin(values), np.nanmax(values)))
    high, count = 0.24 * len(table), values.shape[1]
    figure = Picture(WIDTH, high + 0.75)
    axes = figure.axes_at(0.2 * WIDTH, 0.27, min(0.78, 0.085 * count) * WIDTH, high)
    norm = LogNorm(0.01, 100.0, clip=True)
    edges = np.arange(count + 1) - 0.5, np.arange(len(table) + 1) - 0.5
    look = {"cmap": "Blues", "norm": norm, "edgecolor": "white", "linewidth": 0.8}
    axes.pcolormesh(*edges, np.where(values > 0, values, np.nan), **look)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(len(table) - 0.5, -0.5))
    for (i, j), value in np.ndenumerate(values):
        text = "–" if value == 0 else "<0.1" if value < 0.05 else "100" if value == 100 else f"{value:.1f}"
        dark = value > 0 and float(norm(value)) > 0.62
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(count), list(map(str, table.columns)), fontsize=8.5)
    axes.set_yticks(range(len(table)), list(map(str, table.index)), fontsize=8.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.head(f"{title}: Readings (%)", x=0.02, centre=False)
    return figure


@picture
def sensor_series(
    readings: pd.Series, products: Mapping[str, pd.Series], *, title: str, removed: pd.Series | None = None
) -> Picture:
    """Draw one sensor through time, with the coarse products at its place and the readings that the flags removed.

    The twin shows daily means.

    Parameters
    ----------
    readings : Series
        Soil moisture, m3 m-3, indexed by UTC time; the line is broken at gaps longer than a day.
    products : mapping of str to Series
        By name; the first is drawn as points where it has at most one value a day, others as lines.
    """
    if not len(readings):
        raise ContractError("sensor_series", "there is no reading")
    figure = Picture(WIDTH, 3.2)
    axes = figure.add_axes((0.085, 0.14, 0.9, 0.66))
    axes.plot(broken(readings, pd.Timedelta("1D")), color="#444444", linewidth=0.8, label="in situ", zorder=3)
    if removed is not None and len(removed):
        look = {"marker": "x", "markersize": 3.5, "color": "#D55E00", "linestyle": "", "zorder": 4}
        axes.plot(removed, label=f"in situ, removed by flag ({len(removed):,})", **look)
    for i, (name, series) in enumerate(products.items()):
        series, colour = series.dropna(), ("#0072B2", "#009E73", "#CC79A7", "#E69F00")[i % 4]
        days = max(1.0, (series.index[-1] - series.index[0]) / pd.Timedelta("1D")) if len(series) else 1.0
        look = {"linewidth": 1.0, "alpha": 0.9, "zorder": 2}
        if len(series) / days <= 1.0 and i == 0:
            look = {"linestyle": "", "marker": "o", "markersize": 2.6, "zorder": 5}
        axes.plot(broken(series, pd.Timedelta("3D")), color=colour, label=name, **look)
    ylabel = with_units("Soil moisture", "m3 m-3")
    axes.set(ylabel=ylabel, xlim=(readings.index[0], readings.index[-1]))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    date_axis(axes)
    grid_behind(axes)
    found = axes.get_legend_handles_labels()
    figure.legend(*found, loc="upper left", ncols=5, fontsize=8.5, bbox_to_anchor=(0.08, 0.905))
    figure.text(0.085, 0.925, panel_title(None, title, WIDTH), fontsize=10, va="bottom")
    daily = pd.DataFrame({"in situ": readings} | dict(products)).resample("1D").mean().rename_axis("time")
    daily, shown = daily.dropna(axis="columns", how="all"), said(f"{title}, daily means")
    figure.offer("lines", daily.reset_index(), "time", list(daily), shown, xlabel="Date", ylabel=ylabel)
    return figure
