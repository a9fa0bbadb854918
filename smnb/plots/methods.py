"""Scores of several methods side by side: every image a dot, their mean a mark."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from smnb.contract import ContractError, synthetic_label
from smnb.plots.charts import LINES
from smnb.plots.maps import STYLE, WIDTH, new_figure


def method_scores(
    table: pd.DataFrame,
    *,
    value: str,
    group: str,
    xlabel: str,
    title: str,
    method: str = "method",
    line: tuple[float, str] | None = None,
    synthetic: bool = False,
) -> Figure:
    """Draw the scores of methods as rows of dots, one colour a group, with the mean of each as a large mark.

    Parameters
    ----------
    table : DataFrame
        Tidy: one row a method, group and image. Methods are drawn in their order in the table, the first on top.
    value, group, method : str
        Columns: the score, what is coloured (a region), and the rows.
    xlabel, title : str
    line : (float, str), optional
        A vertical line, such as a requirement, and its name.
    synthetic : bool
        Say so in the title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    missing = [name for name in (value, group, method) if name not in table]
    if missing or not table[value].notna().any():
        raise ContractError("method_scores", "a column is absent or empty", got=missing or value, expected=list(table))
    methods, groups = list(pd.unique(table[method])), list(pd.unique(table[group]))
    height = 0.17 * len(groups) + 0.16
    with mpl.rc_context(STYLE):
        total = 1.25 + height * len(methods)
        figure = new_figure(WIDTH, total)
        axes = figure.add_axes((0.29, 0.55 / total, 0.69, 1 - 1.2 / total))
        for number, ((colour, _), name) in enumerate(zip(LINES * len(groups), groups, strict=False)):
            offset = (number - (len(groups) - 1) / 2) * 0.8 / len(groups)
            for row, label in enumerate(methods):
                found = table.loc[(table[method] == label) & (table[group] == name), value].dropna()
                at = row + offset
                axes.plot(
                    found, np.full(len(found), at), ".", color=colour, alpha=0.35, markersize=5, markeredgewidth=0
                )
                if len(found):
                    axes.plot(
                        found.mean(),
                        at,
                        "D",
                        color=colour,
                        markersize=5.5,
                        markeredgecolor="white",
                        label=name if row == 0 else None,
                    )
                    axes.annotate(
                        f"{found.mean():.3f}",
                        (found.mean(), at),
                        (6, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=8,
                        color=colour,
                    )
        if line is not None:
            axes.axvline(line[0], color="#555555", linewidth=0.9, linestyle="--")
            axes.annotate(
                line[1],
                (line[0], 1.0),
                (3, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8,
                color="#555555",
            )
        axes.set_yticks(range(len(methods)), methods)
        axes.set(xlabel=xlabel, ylim=(len(methods) - 0.45, -0.55))
        axes.set_xlim(left=0.0)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if len(groups) > 1:
            figure.legend(
                *axes.get_legend_handles_labels(),
                loc="upper right",
                ncols=len(groups),
                frameon=False,
                bbox_to_anchor=(0.99, 1 - 0.22 / total),
                borderaxespad=0.0,
            )
        figure.text(0.01, 1 - 0.06 / total, title + synthetic_label(synthetic), va="top", fontsize=10)
    return figure
