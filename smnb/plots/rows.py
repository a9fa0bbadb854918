"""Static figures of rows: the scores of methods, and values with their intervals."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from smnb.contract import check_table
from smnb.metrics import interval_text
from smnb.plots.canvas import LINES, axes_at, grid_behind, head, legend_above
from smnb.plots.display import WIDTH, Picture, picture


@picture(twin=True)
def method_scores(
    table: pd.DataFrame,
    *,
    value: str,
    group: str,
    xlabel: str,
    title: str,
    line: tuple[float, str] | None = None,
    synthetic: bool | None = None,
) -> Picture:
    """Draw the scores of methods as rows of dots, one colour a group, with the mean of each as a large mark.

    Parameters
    ----------
    table : DataFrame
        Tidy: one row a ``method``, group and image. Methods are drawn in their order in the table, the first on top.
    value, group : str
        Columns: the score, and what is coloured (a region).
    line : (float, str), optional
        A vertical line, such as a requirement, and its name.
    """
    check_table("method_scores", table.dropna(subset=value) if value in table else table, (value, group, "method"))
    methods, groups = list(pd.unique(table["method"])), list(pd.unique(table[group]))
    total = 1.25 + (0.17 * len(groups) + 0.16) * len(methods)
    figure = Picture(WIDTH, total)
    axes = figure.add_axes((0.29, 0.55 / total, 0.69, 1 - 1.2 / total))
    for number, ((colour, _), name) in enumerate(zip(LINES * len(groups), groups, strict=False)):
        offset = (number - (len(groups) - 1) / 2) * 0.8 / len(groups)
        for row, method in enumerate(methods):
            found = table.loc[(table["method"] == method) & (table[group] == name), value].dropna()
            at, mean = np.full(len(found), row + offset), found.mean()
            axes.plot(found, at, ".", color=colour, alpha=0.35, markersize=5, markeredgewidth=0)
            if len(found):
                look = {"color": colour, "markersize": 5.5, "markeredgecolor": "white"}
                axes.plot(mean, at[0], "D", label=name if row == 0 else None, **look)
                text = {"textcoords": "offset points", "va": "center", "fontsize": 8, "color": colour}
                axes.annotate(interval_text(mean), (mean, at[0]), (6, 0), **text)
    if line is not None:
        axes.axvline(line[0], color="#555555", linewidth=0.9, linestyle="--")
        text = {"textcoords": "offset points", "fontsize": 8, "color": "#555555"}
        axes.annotate(line[1], (line[0], 1.0), (3, 3), xycoords=("data", "axes fraction"), **text)
    axes.set_yticks(range(len(methods)), methods)
    axes.set(xlabel=xlabel, ylim=(len(methods) - 0.45, -0.55))
    axes.set_xlim(left=0.0)
    grid_behind(axes, "x")
    axes.spines[["top", "right"]].set_visible(False)
    if len(groups) > 1:
        place = {"loc": "upper right", "bbox_to_anchor": (0.99, 1 - 0.22 / total), "borderaxespad": 0.0}
        legend_above(figure, *axes.get_legend_handles_labels(), ncols=len(groups), **place)
    head(figure, title, synthetic, x=0.01, centre=False)
    return figure


@picture(twin=True)
def interval_rows(
    table: pd.DataFrame,
    *,
    value: str,
    label: str,
    xlabel: str,
    title: str,
    group: str | None = None,
    synthetic: bool | None = None,
) -> Picture:
    """Draw one row a value (a difference, a cost, a gain), with its interval as a bar and a line at zero.

    Parameters
    ----------
    table : DataFrame
        Rows are drawn in their order, the first on top; ``low`` and ``high`` are the interval, not drawn where NaN.
    value, label : str
        Columns: the value and the row's name.
    group : str, optional
        Column that is coloured and set apart by a gap; its names stand in the legend.
    """
    needed = [value, "low", "high", label, *([group] if group else [])]
    check_table("interval_rows", table.dropna(subset=value) if value in table else table, needed)
    groups = list(dict.fromkeys(table[group])) if group else [None]
    names = table[label].astype(str).map(lambda name: textwrap.fill(name, 38))
    gaps = np.zeros(len(table)) if group is None else (table[group] != table[group].shift()).cumsum().to_numpy() - 1
    lines = names.str.count("\n").to_numpy()
    # a name on several lines takes more room
    y = -(np.arange(len(table)) + 0.6 * gaps + 0.55 * (np.cumsum(lines) - lines / 2))
    height = 0.95 + 0.21 * (-y[-1] + 1) + (0.3 if group else 0.0)
    left = 0.066 * max(len(line) for name in names for line in name.split("\n")) + 0.25
    top = 0.32 + (0.3 if group else 0.0)
    figure = Picture(WIDTH, height)
    axes = axes_at(figure, left, 0.55, WIDTH - left - 0.15, height - 0.55 - top)
    axes.axvline(0.0, color="#303030", linewidth=0.9)
    for (colour, _), one in zip(LINES * len(groups), groups, strict=False):
        here = np.ones(len(table), bool) if group is None else (table[group] == one).to_numpy()
        axes.hlines(y[here], table.loc[here, "low"], table.loc[here, "high"], color=colour, linewidth=1.8)
        axes.plot(table.loc[here, value], y[here], "o", color=colour, markersize=5, label=one and str(one))
    axes.set_yticks(y, names)
    axes.set_ylim(y[-1] - 0.7, 0.7)
    axes.tick_params(axis="y", length=0, labelsize=8)
    grid_behind(axes, "x")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(xlabel, loc="right")
    head(figure, title, synthetic)
    if group:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 1 - 0.24 / height), "handletextpad": 0.2}
        legend_above(figure, *axes.get_legend_handles_labels(), ncols=len(groups), columnspacing=1.0, **place)
    return figure
