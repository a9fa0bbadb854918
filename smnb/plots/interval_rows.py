"""Values with intervals as rows of dots and bars: differences, costs, gains."""

from __future__ import annotations

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, synthetic_label
from smnb.plots.maps import STYLE, WIDTH, new_figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def interval_rows(
    table: pd.DataFrame,
    *,
    value: str,
    label: str,
    xlabel: str,
    title: str,
    group: str | None = None,
    low: str = "low",
    high: str = "high",
    synthetic: bool = False,
) -> Figure:
    """Draw one row a value, with its interval as a bar and a line at zero.

    Parameters
    ----------
    table : DataFrame
        Rows are drawn in their order, the first on top. An interval that is NaN is not drawn.
    value, low, high, label : str
        Columns: the value, its interval, and the row's name.
    xlabel, title : str
    group : str, optional
        Column that is coloured and set apart by a gap; its names stand in the legend.
    synthetic : bool
        Say so in the title.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide.

    Raises
    ------
    ContractError
        If a column is missing or there is nothing to draw.
    """
    needed = [value, low, high, label, *([group] if group else [])]
    missing = [name for name in needed if name not in table]
    if missing or not table[value].notna().any():
        raise ContractError(
            "interval_rows", "there is nothing to draw", got=list(map(str, table.columns)), expected=needed
        )
    groups = list(dict.fromkeys(table[group])) if group else [None]
    names = table[label].astype(str).map(lambda name: textwrap.fill(name, 38))
    gaps = np.zeros(len(table)) if group is None else (table[group] != table[group].shift()).cumsum().to_numpy() - 1
    lines = names.str.count("\n").to_numpy()
    # a name on several lines takes more room
    y = -(np.arange(len(table)) + 0.6 * gaps + 0.55 * (np.cumsum(lines) - lines / 2))
    height = 0.95 + 0.21 * (-y[-1] + 1) + (0.3 if group else 0.0)
    longest = max(len(line) for name in names for line in name.split("\n"))
    left = 0.066 * longest + 0.25
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, height)
        top = 0.32 + (0.3 if group else 0.0)
        axes = figure.add_axes(
            [left / WIDTH, 0.55 / height, (WIDTH - left - 0.15) / WIDTH, (height - 0.55 - top) / height]
        )
        axes.axvline(0.0, color="#303030", linewidth=0.9)
        for number, one in enumerate(groups):
            here = np.ones(len(table), bool) if group is None else (table[group] == one).to_numpy()
            colour = _COLOURS[number % len(_COLOURS)]
            part = table[here]
            axes.hlines(y[here], part[low], part[high], color=colour, linewidth=1.8)
            axes.plot(part[value], y[here], "o", color=colour, markersize=5, label=None if one is None else str(one))
        axes.set_yticks(y, names)
        axes.set_ylim(y[-1] - 0.7, 0.7)
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel(xlabel, loc="right")
        figure.text(0.5, 1 - 0.05 / height, f"{title}{synthetic_label(synthetic)}", va="top", ha="center", fontsize=10)
        if group:
            figure.legend(
                loc="upper center",
                bbox_to_anchor=(0.5, 1 - 0.24 / height),
                ncol=len(groups),
                frameon=False,
                handletextpad=0.2,
                columnspacing=1.0,
            )
    return figure
