"""Static figures of a set of sensors: where they are, how many, when they report, how far apart the sides of a split are.

Each takes a tidy table of `smnb.sensors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from smnb.contract import ContractError, synthetic_label
from smnb.plots.charts import LINES
from smnb.plots.maps import STYLE, WIDTH, new_figure, panel_title

#: A colour and a hatch for each side of a split (or any other few labels), so that a grey print tells them apart too.
_LOOK_OF_SIDES = {
    "train": ("#0072B2", ""),
    "validation": ("#E69F00", "////"),
    "test": ("#009E73", "...."),
    "buffer": ("#c9c9c9", ""),
}
#: The order in which sides are drawn.
SIDES = tuple(_LOOK_OF_SIDES)
_MARKERS = "osD^vP*Xph"
_MOST_NETWORKS = 10


def check_table(who: str, table: pd.DataFrame) -> pd.DataFrame:
    """Raise `ContractError` unless there is a table with rows; return it."""
    if not isinstance(table, pd.DataFrame) or table.empty:
        raise ContractError(who, "there is nothing to draw", got=type(table).__name__, expected="a table with rows")
    return table


def look_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and hatch by label."""
    known = iter([(c, h) for (c, _), h in zip(LINES, ("", "////", "....", "xx", "", "\\\\", ""), strict=True)] * 20)
    return {name: _LOOK_OF_SIDES[name] if name in _LOOK_OF_SIDES else next(known) for name in names}


def _shade(name: str, look: tuple[str, str]) -> dict:
    return {"color": look[0], "hatch": look[1], "edgecolor": "white", "linewidth": 0.4, "label": name}


def count_bars(
    tables: Mapping[str, pd.DataFrame], *, columns: Sequence[str] = ("n_sensors",), synthetic: bool = False
) -> Figure:
    """Draw counts by stratum as horizontal bars, a panel a stratification, stacked by `columns`.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By title: rows are strata (`smnb.sensors.count_sensors`), with `columns` and ``few``, which adds an asterisk.
    columns : sequence of str
        Columns to stack; a table may lack some.
    synthetic : bool
        Say so in each title.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        Where a table is empty or has none of the columns.
    """
    who = "count_bars"
    if not tables:
        raise ContractError(who, "there is nothing to draw")
    for title, table in tables.items():
        if not set(columns) & set(check_table(who, table).columns):
            raise ContractError(
                who, f"table {title!r} has none of the columns", got=list(table.columns), expected=columns
            )
    across = 1 if len(tables) == 1 else 2
    items = list(tables.items())
    rows = [items[i : i + across] for i in range(0, len(items), across)]
    head, foot, bar = 0.36, 0.42, 0.175
    longest = [max(len(str(name)) for _, table in items[c::across] for name in table.index) for c in range(across)]
    rooms = [0.27 + 0.072 * length for length in longest]
    wide = (WIDTH - sum(rooms) - 0.35 * across) / across
    if wide < 0.8:
        raise ContractError(who, "names of strata are too long to draw", got=longest)
    lefts = [sum(rooms[: c + 1]) + c * (wide + 0.35) for c in range(across)]
    heights = [bar * max(len(table) for _, table in row) + 0.08 for row in rows]
    legend = 0.3 if len(columns) > 1 else 0.0
    total = sum(heights) + len(rows) * (head + foot) + legend
    look = look_of([c for c in columns if any(c in table for table in tables.values())])
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, total)
        top = total - legend
        for r, (row, height) in enumerate(zip(rows, heights, strict=True)):
            for c, (title, table) in enumerate(row):
                own = bar * len(table) + 0.08
                box = (lefts[c], top - head - own, wide, own)
                axes = figure.add_axes([b / s for b, s in zip(box, (WIDTH, total) * 2, strict=True)])
                _bars(axes, table, look)
                index = None if len(tables) == 1 else r * across + c
                axes.set_title(panel_title(index, title, synthetic, wide + 1.0), loc="left", x=-0.02)
            top -= head + height + foot
        if legend:
            handles, labels = max(
                (axes.get_legend_handles_labels() for axes in figure.axes), key=lambda pair: len(pair[0])
            )
            figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False, borderaxespad=0.1)
    return figure


def _bars(axes: Axes, table: pd.DataFrame, look: Mapping[str, tuple[str, str]]) -> None:
    at = np.arange(len(table))[::-1]
    done = np.zeros(len(table))
    for name, shade in look.items():
        if name in table:
            value = table[name].to_numpy("float64")
            axes.barh(at, value, left=done, height=0.72, **_shade(name, shade))
            done = done + value
    for y, value in zip(at, done, strict=True):
        axes.annotate(f"{value:,.0f}", (value, y), (3, 0), textcoords="offset points", va="center", fontsize=8)
    few = table["few"] if "few" in table else pd.Series(False, index=table.index)
    axes.set_yticks(
        at, [f"{name}{'*' if star else ''}" for name, star in zip(table.index, few, strict=True)], fontsize=8.5
    )
    axes.set(xlim=(0, 1.16 * max(done.max(), 1.0)), ylim=(-0.6, len(table) - 0.4), xlabel="Sensors")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def month_bars(
    table: pd.DataFrame, *, title: str, ylabel: str = "Readings (thousands)", synthetic: bool = False
) -> Figure:
    """Draw readings by month, stacked by the table's columns, with the number of reporting sensors as a line.

    Parameters
    ----------
    table : DataFrame
        Indexed by the month's first day: counts, and ``n_sensors`` (`smnb.sensors.by_month`).
    title, ylabel : str
    synthetic : bool
        Say so in the title.
    """
    who = "month_bars"
    names = [name for name in check_table(who, table).columns if name != "n_sensors"]
    if not names:
        raise ContractError(who, "there is no count", got=list(table.columns))
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 2.9)
        axes = figure.add_axes((0.1, 0.13, 0.8, 0.69))
        begin = mpl.dates.date2num(table.index.to_pydatetime())
        end = mpl.dates.date2num((table.index + pd.offsets.MonthBegin(1)).to_pydatetime())
        done = np.zeros(len(table))
        for name, look in look_of(names).items():
            value = table[name].to_numpy("float64") / 1000.0
            axes.bar(begin, value, width=0.94 * (end - begin), bottom=done, align="edge", **_shade(name, look))
            done += value
        axes.set(ylabel=ylabel, ylim=(0, 1.05 * done.max()), xlim=(begin[0], end[-1]))
        _date_axis(axes)
        if "n_sensors" in table:
            other = axes.twinx()
            other.plot(
                (begin + end) / 2,
                table["n_sensors"],
                color="black",
                marker="o",
                markersize=3,
                linewidth=1.0,
                label="sensors reporting (right)",
            )
            other.set(ylabel="Sensors", ylim=(0, 1.12 * table["n_sensors"].max()))
            other.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
        handles, labels = axes.get_legend_handles_labels()
        for other in figure.axes[1:]:
            handles, labels = (
                one + more for one, more in zip((handles, labels), other.get_legend_handles_labels(), strict=True)
            )
        figure.legend(
            handles,
            labels,
            loc="upper right",
            ncols=5,
            fontsize=8.5,
            frameon=False,
            bbox_to_anchor=(0.91, 0.925),
            columnspacing=1.2,
            handlelength=1.6,
        )
        figure.text(0.1, 0.94, title + synthetic_label(synthetic), fontsize=10, va="bottom")
    return figure


def _date_axis(axes: Axes) -> None:
    locator = mpl.dates.AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mpl.dates.ConciseDateFormatter(locator))


def calendar(table: pd.DataFrame, *, title: str, synthetic: bool = False) -> Figure:
    """Draw when each sensor reports: one row a sensor, grouped by network, darker where more of the time has a reading.

    Parameters
    ----------
    table : DataFrame
        Sensors (index: network, sensor) by the first day of each period, % (`smnb.sensors.availability`).
    title : str
    synthetic : bool
        Say so in the title.
    """
    values = check_table("calendar", table).to_numpy("float64")
    if table.shape[1] < 2:
        raise ContractError("calendar", "there are fewer than two periods", got=table.shape[1])
    networks = table.index.get_level_values(0).to_numpy().astype(str)
    edge = np.flatnonzero(networks[1:] != networks[:-1]) + 1
    bounds = np.concatenate([[0], edge, [len(table)]])
    height = float(np.clip(0.06 * len(table), 1.6, 5.0))
    # the rows of a small network are thinner than its name: names that would touch are moved apart
    middle = (bounds[:-1] + bounds[1:]) / 2
    apart = 0.155 * len(table) / height
    label_at = middle.copy()
    for i in range(1, label_at.size):
        label_at[i] = max(label_at[i], label_at[i - 1] + apart)
    label_at -= max(0.0, label_at[-1] - len(table) + apart / 2)
    for i in range(label_at.size - 2, -1, -1):
        label_at[i] = min(label_at[i], label_at[i + 1] - apart)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, height + 0.78)
        left = 0.5 + 0.066 * max(len(f"{name} ({len(table)})") for name in networks)
        axes = figure.add_axes(
            (left / WIDTH, 0.44 / (height + 0.78), (WIDTH - left - 0.95) / WIDTH, height / (height + 0.78))
        )
        time = table.columns
        begin = mpl.dates.date2num(time[0])
        end = mpl.dates.date2num(time[-1] + (time[1] - time[0]))
        shown = axes.imshow(
            np.where(values > 0, values, np.nan),
            aspect="auto",
            cmap="viridis_r",
            vmin=0,
            vmax=100,
            extent=(begin, end, len(table), 0),
            interpolation="nearest",
        )
        axes.xaxis_date()
        _date_axis(axes)
        axes.hlines(edge, begin, end, color="black", linewidth=0.6)
        axes.set_yticks([])
        for name, y, wanted, n in zip(networks[bounds[:-1]], middle, label_at, np.diff(bounds), strict=True):
            axes.annotate(
                f"{name} ({n})",
                (0, y),
                (-0.04, wanted),
                xycoords=("axes fraction", "data"),
                ha="right",
                textcoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0},
            )
        bar_box = ((WIDTH - 0.8) / WIDTH, 0.44 / (height + 0.78), 0.12 / WIDTH, height / (height + 0.78))
        bar = figure.colorbar(shown, cax=figure.add_axes(bar_box, label="colorbar"))
        bar.set_label("Possible readings present (%)", fontsize=9)
        axes.set_title(title + synthetic_label(synthetic), loc="left")
    return figure


def grouped_bars(
    table: pd.DataFrame, *, title: str, xlabel: str, ylabel: str = "Sensors (%)", synthetic: bool = False
) -> Figure:
    """Draw columns of counts as bars side by side, each column in % of its sum: distances by class and side.

    Parameters
    ----------
    table : DataFrame
        Counts; rows are classes, columns sides (`smnb.sensors.bin_distances`).
    title, xlabel, ylabel : str
    synthetic : bool
        Say so in the title.
    """
    who = "grouped_bars"
    if not len(check_table(who, table).columns) or not (table.sum() > 0).all():
        raise ContractError(who, "a column has nothing to count", got=table.sum().to_dict())
    share = 100.0 * table / table.sum()
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH * 0.75, 2.8)
        axes = figure.add_axes((0.12, 0.18, 0.86, 0.7))
        wide = 0.8 / len(table.columns)
        for i, (name, look) in enumerate(look_of(list(table.columns)).items()):
            at = np.arange(len(table)) - 0.4 + wide * (i + 0.5)
            axes.bar(at, share[name], width=0.94 * wide, **_shade(f"{name} (n = {int(table[name].sum())})", look))
            for x, value, count in zip(at, share[name], table[name], strict=True):
                axes.annotate(f"{int(count)}", (x, value), (0, 2), textcoords="offset points", ha="center", fontsize=8)
        axes.set_xticks(range(len(table)), [str(label).replace("-", "–") for label in table.index])
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1.4 * share.to_numpy().max()))
        axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 100])
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left", ncols=len(table.columns))
        axes.set_title(title + synthetic_label(synthetic), loc="left")
    return figure


def share_table(table: pd.DataFrame, *, title: str, label: str = "Readings (%)", synthetic: bool = False) -> Figure:
    """Draw a table of percentages as coloured cells with their values: flags by network.

    Parameters
    ----------
    table : DataFrame
        %, rows and columns by name (`smnb.sensors.flag_shares`).
    title, label : str
        Of the figure and of the colours.
    synthetic : bool
        Say so in the title.
    """
    values = check_table("share_table", table).to_numpy("float64")
    if not np.isfinite(values).all() or (values < 0).any() or (values > 100 + 1e-9).any():
        raise ContractError("share_table", "the values are no percentages", got=(np.nanmin(values), np.nanmax(values)))
    height = 0.24 * len(table) + 0.75
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, height)
        wide = min(0.78, 0.085 * len(table.columns))
        axes = figure.add_axes((0.2, 0.27 / height, wide, 0.24 * len(table) / height))
        norm = LogNorm(0.01, 100.0, clip=True)
        shown = np.where(values > 0, values, np.nan)
        axes.pcolormesh(
            np.arange(values.shape[1] + 1) - 0.5,
            np.arange(len(table) + 1) - 0.5,
            shown,
            cmap="Blues",
            norm=norm,
            edgecolor="white",
            linewidth=0.8,
        )
        axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(len(table) - 0.5, -0.5))
        for (i, j), value in np.ndenumerate(values):
            text = "–" if value == 0 else "<0.1" if value < 0.05 else "100" if value == 100 else f"{value:.1f}"
            dark = value > 0 and float(norm(value)) > 0.62
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        axes.set_xticks(range(values.shape[1]), list(map(str, table.columns)), fontsize=8.5)
        axes.set_yticks(range(len(table)), list(map(str, table.index)), fontsize=8.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.text(0.02, 1 - 0.09 / height, f"{title}: {label}{synthetic_label(synthetic)}", fontsize=10, va="top")
    return figure


def sensor_series(
    readings: pd.Series,
    products: Mapping[str, pd.Series],
    *,
    title: str,
    removed: pd.Series | None = None,
    gap: str = "1D",
    ylabel: str = "Soil moisture (m³ m⁻³)",
    synthetic: bool = False,
) -> Figure:
    """Draw one sensor through time, with the coarse products at its place and the readings that the flags removed.

    Parameters
    ----------
    readings : Series
        Indexed by UTC time; the line is broken at gaps longer than `gap`.
    products : mapping of str to Series
        By name; those with at most one value in two days on average are drawn as points, others as lines.
    title, ylabel : str
    removed : Series, optional
        Readings that were removed.
    gap : str
        A time span.
    synthetic : bool
        Say so in the title.

    Raises
    ------
    ContractError
        If there is no reading.
    """
    if not len(readings):
        raise ContractError("sensor_series", "there is no reading")
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 3.2)
        axes = figure.add_axes((0.085, 0.14, 0.9, 0.66))
        axes.plot(*_broken(readings, gap), color="#444444", linewidth=0.8, label="in situ", zorder=3)
        if removed is not None and len(removed):
            axes.plot(
                removed.index,
                removed.to_numpy(),
                linestyle="",
                marker="x",
                markersize=3.5,
                color="#D55E00",
                zorder=4,
                label=f"in situ, removed by flag ({len(removed):,})",
            )
        for i, (name, series) in enumerate(products.items()):
            series = series.dropna()
            colour = ("#0072B2", "#009E73", "#CC79A7", "#E69F00")[i % 4]
            days = max(1.0, (series.index[-1] - series.index[0]) / pd.Timedelta("1D")) if len(series) else 1.0
            if len(series) / days <= 1.0 and i == 0:
                axes.plot(
                    series.index,
                    series.to_numpy(),
                    linestyle="",
                    marker="o",
                    markersize=2.6,
                    color=colour,
                    zorder=5,
                    label=name,
                )
            else:
                axes.plot(*_broken(series, "3D"), color=colour, linewidth=1.0, label=name, alpha=0.9, zorder=2)
        axes.set(ylabel=ylabel, xlim=(readings.index[0], readings.index[-1]))
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        _date_axis(axes)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.legend(
            loc="upper left",
            ncols=5,
            frameon=False,
            fontsize=8.5,
            bbox_to_anchor=(0.08, 0.905),
            borderaxespad=0.2,
            columnspacing=1.2,
            handlelength=1.6,
        )
        figure.text(0.085, 0.925, panel_title(None, title, synthetic, WIDTH), fontsize=10, va="bottom")
    return figure


def _broken(series: pd.Series, gap: str) -> tuple[np.ndarray, np.ndarray]:
    """Times and values with a missing value inside each gap."""
    time, value = series.index.to_numpy(), series.to_numpy("float64")
    at = np.flatnonzero(np.diff(time) > pd.Timedelta(gap).to_timedelta64())
    return np.insert(time, at + 1, time[at] + np.timedelta64(1, "s")), np.insert(value, at + 1, np.nan)
