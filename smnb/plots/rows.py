"""Static figures of rows: small images beside one another, the scores of methods, and values with their intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, check_table, plain
from smnb.metrics import interval_text
from smnb.plots.display import LINES, WIDTH, Picture, colour_bar, grid_behind, picture, said
from smnb.plots.ground import SOIL_MOISTURE_CMAP, pretty_units, shared_scale, with_units

_LEFT, _GAP, _TOP, _ROW_GAP, _BAR, _RIGHT = 1.12, 0.14, 0.34, 0.17, 0.80, 0.10


@dataclass(frozen=True)
class ImageColumn:
    """How one column of `image_rows` is drawn; without `units` a colour image ``(y, x, 3)`` of [0, 1], without a bar.

    The default limits are the 2nd to 98th percentile of the whole column, rounded outwards: one scale for all its rows.
    """

    title: str
    units: str | None = None
    label: str = ""
    cmap: str = "gray"
    limits: tuple[float, float] | None = None

    @classmethod
    def soil_moisture(cls, title: str = "Soil moisture", limits: tuple[float, float] | None = None) -> ImageColumn:
        """Soil moisture in the package's colours."""
        return cls(title, "m3 m-3", "Soil moisture", SOIL_MOISTURE_CMAP, limits)

    def scale(self, images: Sequence[np.ndarray]) -> tuple[float, float] | None:
        """Scale of all images of the column; None for colour images."""
        if self.units is None:
            return None
        if not any(np.isfinite(image).any() for image in images):
            raise ContractError("image_rows", f"{self.title!r} is missing everywhere")
        return shared_scale(f"image_rows of {self.title!r}", images, self.limits)


@picture
def image_rows(
    rows: Mapping[str, Sequence[Any]],
    columns: Sequence[ImageColumn],
    *,
    side_km: float | None = None,
    title: str = "",
    height: float | None = None,
) -> Picture:
    """Draw rows of square images of the same ground, each column on one scale.

    Parameters
    ----------
    rows : mapping of str to sequence of ndarray
        By row label, an image ``(y, x)`` or ``(y, x, 3)`` a column, north up; pixels may be of any size. Missing is NaN.
    side_km, height : float, optional
        Side of the ground that every image shows, km, for an axis; an image's, inches, by default what fills the width.
    """
    who = "image_rows"
    if not rows or not columns:
        raise ContractError(who, "there is nothing to draw", expected=plain("one or more rows and columns"))
    checked = {name: [np.asarray(image, "float64") for image in images] for name, images in rows.items()}
    for name, images in checked.items():
        if len(images) != len(columns):
            raise ContractError(who, f"row {name!r} has not one image a column", got=len(images), expected=len(columns))
        for image, column in zip(images, columns, strict=True):
            last, expected = ((2,), "(y, x)") if column.units is not None else ((3, 3), "(y, x, 3)")
            if (image.ndim, *image.shape[2:]) != last:
                what = f"{column.title!r} of row {name!r} has another shape"
                raise ContractError(who, what, got=image.shape, expected=plain(expected))
    widest = (WIDTH - _LEFT - _RIGHT - _GAP * (len(columns) - 1)) / len(columns)
    size = min(widest, height or 2.1)
    above = _TOP + (0.28 if said(title) else 0.0)
    has_bars = any(column.units is not None for column in columns)
    total = above + len(checked) * size + (len(checked) - 1) * _ROW_GAP + (_BAR if has_bars else 0.1)
    left = _LEFT + (WIDTH - _LEFT - _RIGHT - len(columns) * size - _GAP * (len(columns) - 1)) / 2
    figure, side = Picture(WIDTH, total), side_km or 1.0
    figure.head(title)
    scales = [column.scale([row[n] for row in checked.values()]) for n, column in enumerate(columns)]
    for number, (column, limits) in enumerate(zip(columns, scales, strict=True)):
        images = [row[number] for row in checked.values()]
        x, (low, high) = left + number * (size + _GAP), limits or (None, None)
        for line, (name, image) in enumerate(zip(checked, images, strict=True)):
            y = total - above - (line + 1) * size - line * _ROW_GAP
            axes = figure.axes_at(x, y, size, size)
            axes.set_facecolor("#c9c9c9")  # where the image is missing
            if limits is None:
                image = np.dstack([np.nan_to_num(image).clip(0, 1), np.isfinite(image).all(axis=2)])
            look = {"cmap": column.cmap, "vmin": low, "vmax": high, "interpolation": "nearest"}
            axes.imshow(image, extent=(0, side, 0, side), **look)
            axes.set(xticks=[], yticks=[])
            axes.tick_params(length=2.5, pad=1.5)
            if line == 0:
                axes.set_title(column.title, pad=4)
            if number == 0:
                place = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 9}
                figure.text((left - 0.78) / WIDTH, (y + size / 2) / total, name, **place)
                if side_km is not None:
                    axes.set_yticks([0, side_km], ["0", f"{side_km:.3g}"])
                    axes.set_ylabel("km", labelpad=-8, fontsize=9)
        if limits is not None:
            bar = figure.axes_at(x + 0.04, _BAR - 0.22, size - 0.08, 0.1, label="colorbar")
            label = with_units(column.label or column.title, column.units)
            # in a narrow column the unit alone, or labels of neighbours would run into one another
            label = label if 0.065 * len(label) < size else pretty_units(column.units)
            colour_bar(bar, limits, column.cmap, label, images, parts=3 if size < 1.6 else 4)
            bar.xaxis.label.set_fontsize(9)
    figure.offer("images", checked, columns, scales, side_km, said(""))
    return figure


@picture
def method_scores(
    table: pd.DataFrame, *, value: str, group: str, xlabel: str, title: str, line: tuple[float, str] | None = None
) -> Picture:
    """Draw the scores of methods as rows of dots, one colour a group, with the mean of each as a large mark.

    Parameters
    ----------
    table : DataFrame
        Tidy: one row a ``method``, group and image. Methods are drawn in their order in the table, the first on top.
    value, group, line
        Columns: the score, and what is coloured (a region); a vertical line, such as a requirement, and its name.
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
        figure.legend(*axes.get_legend_handles_labels(), ncols=len(groups), **place)
    figure.head(title, x=0.01, centre=False)
    look = {"told": ("time", "sensor_id", "place", "side"), "ylabel": xlabel, "alpha": 0.6, "rot": 20}
    figure.offer("scatter", table, value, [{"x": "method", "xlabel": "", "title": said(title)}], by=group, **look)
    return figure


@picture
def interval_rows(
    table: pd.DataFrame, *, value: str, label: str, xlabel: str, title: str, group: str | None = None
) -> Picture:
    """Draw one row a value (a difference, a cost, a gain), with its interval as a bar and a line at zero.

    Parameters
    ----------
    table : DataFrame
        Rows are drawn in their order, the first on top; ``low`` and ``high`` are the interval, not drawn where NaN.
    value, label, group : str
        Columns: the value, the row's name, and what is coloured and set apart by a gap; its names stand in the legend.
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
    axes = figure.axes_at(left, 0.55, WIDTH - left - 0.15, height - 0.55 - top)
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
    figure.head(title)
    if group:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 1 - 0.24 / height), "handletextpad": 0.2}
        figure.legend(*axes.get_legend_handles_labels(), ncols=len(groups), columnspacing=1.0, **place)
    look = {"by": group, "told": ("low", "high"), "ylabel": xlabel, "rot": 30}
    figure.offer("scatter", table, value, [{"x": label, "xlabel": "", "title": said(title)}], **look)
    return figure
