"""Static charts: density scatter, series, histograms, and values with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from smnb.contract import ContractError, check_count, check_table
from smnb.metrics import pair_scores, r2, slope
from smnb.plots.display import LINES, WIDTH, Picture, count_bar, date_axis, grid_behind, panel_title, picture, said
from smnb.plots.ground import nice_limits, shared_scale, with_units

_Arrays: TypeAlias = Mapping[str, ArrayLike] | ArrayLike
_GAP = 0.34  # inches between scatters: room for half a tick label on either side


class Density(NamedTuple):
    """Counts of prediction against reference in square bins, with the scores that go beside them."""

    counts: np.ndarray  # (bins of the prediction, bins of the reference), NaN where empty
    scores: dict[str, float]
    slope: float
    intercept: float
    outside: int

    def lines(self) -> list[str]:
        """Lines beside a scatter: R, R², ubRMSE and bias (in the axes' unit), n, and pairs outside the axes."""
        scores = self.scores
        digits = 4 if abs(scores["ubrmse"]) < 0.1 else 3
        lines = [f"R = {scores['r']:.3f}", f"R² = {scores['r2']:.3f}", f"ubRMSE = {scores['ubrmse']:.{digits}f}"]
        lines += [f"bias = {scores['bias']:+.{digits}f}", f"n = {scores['n']:,}"]
        lines += [f"{self.outside:,} off the axes"] if self.outside else []
        return [line.replace("-", "−") for line in lines]


def bin_pairs(
    pred: _Arrays, obs: _Arrays, bins: int, limits: tuple[float, float] | None
) -> tuple[dict[str, Density], np.ndarray]:
    """Score each model's pairs ("" where `pred` is one array), binned on common square axes, and the edges of the bins."""
    who = "density_scatter"
    check_count(who, "bins", bins, 2)
    models = dict(pred) if isinstance(pred, Mapping) else {"": pred}
    pairs, observed = {}, obs if isinstance(obs, Mapping) else dict.fromkeys(models, obs)
    for name, values in models.items():
        if name not in observed:
            raise ContractError(who, f"no reference for model {name!r}", got=sorted(observed))
        p, o = np.asarray(values), np.asarray(observed[name])
        if p.shape != o.shape:
            what = f"prediction {name!r} and its reference differ in shape"
            raise ContractError(who, what, got=p.shape, expected=o.shape)
        both = np.isfinite(p) & np.isfinite(o)
        if both.sum() < 2:
            step = "Check that prediction and reference overlap where they are not missing"
            what = f"prediction {name!r} has fewer than two finite pairs"
            raise ContractError(who, what, got=int(both.sum()), next_step=step)
        pairs[name] = p[both].astype("float64"), o[both].astype("float64")
    if not pairs:
        raise ContractError(who, "there is no prediction to show")
    if limits is None:
        limits = nice_limits([a for pair in pairs.values() for a in pair], percentiles=(0.05, 99.95))[:2]
    edges = np.linspace(*shared_scale(who, [], limits), bins + 1)
    densities = {}
    for name, (p, o) in pairs.items():
        counts = np.histogram2d(p, o, bins=(edges, edges))[0]
        scores, steep = pair_scores(p, o) | {"r2": float(r2(p, o))}, float(slope(p, o))
        shown, outside = np.where(counts > 0, counts, np.nan), int(p.size - counts.sum())
        densities[name] = Density(shown, scores, steep, p.mean() - steep * o.mean(), outside)
    return densities, edges


@picture
def density_scatter(
    pred: _Arrays,
    obs: _Arrays,
    *,
    units: str = "m3 m-3",
    label: str = "soil moisture",
    reference: str = "Reference",
    bins: int = 100,
    limits: tuple[float, float] | None = None,
) -> Picture:
    """Draw prediction against reference as a two-dimensional histogram, one panel a model, on one scale of everything.

    The solid line is 1:1, the dashed one the least-squares line of the prediction on the reference. R² is the
    coefficient of determination (1 - residual over total sum of squares), which is not the square of R and can be
    negative; ubRMSE is the standard deviation of the error; bias is prediction minus reference.

    Parameters
    ----------
    pred, obs : array or mapping of str to array
        One or several models, by name, and the reference, one for all or one each; any one shape, missing is NaN.
    limits : (float, float), optional
        Both axes; default nearly all values, and the box counts what lies outside.
    """
    densities, edges = bin_pairs(pred, obs, bins, limits)
    xlabel, ylabel = with_units(f"{reference} {label}", units), with_units(f"Predicted {label}", units)
    columns, count = min(len(densities), 2), len(densities)
    rows = -(-count // columns)
    side = min(3.9, (WIDTH - 0.72 - 0.95 - _GAP * (columns - 1)) / columns)
    width = 0.72 + columns * side + _GAP * (columns - 1) + 0.95
    names = [panel_title(i if count > 1 else None, n or "Prediction", side) for i, n in enumerate(densities)]
    above = 0.12 + 0.17 * max(n.count("\n") + 1 for n in names)
    height = rows * (above + side + 0.08) + 0.52
    norm = LogNorm(1, max(2.0, *(float(np.nanmax(d.counts, initial=1.0)) for d in densities.values())))
    figure = Picture(width, height)
    for i, (name, density) in enumerate(zip(names, densities.values(), strict=True)):
        r, c = divmod(i, columns)
        bottom = height - (r + 1) * (above + side + 0.08) + 0.08
        axes = figure.axes_at(0.72 + c * (side + _GAP), bottom, side, side)
        mesh = _scatter_panel(axes, density, edges, norm)
        axes.set_title(name, loc="left", fontsize=10, pad=4, linespacing=1.1)
        below = i + columns >= count
        axes.tick_params(labelleft=c == 0, labelbottom=below)
        axes.set(xlabel=xlabel if below else "", ylabel=ylabel if c == 0 else "")
    place = figure.axes_at(width - 0.82, bottom, 0.12, height - above - bottom, label="colorbar")
    count_bar(place, mesh, "Pairs in a bin")
    figure.offer("density", densities, edges, norm.vmax, xlabel, ylabel, units, said(""))
    return figure


def _scatter_panel(axes: Axes, density: Density, edges: np.ndarray, norm: LogNorm) -> mpl.collections.QuadMesh:
    low, high = ends = edges[[0, -1]]
    mesh = axes.pcolormesh(edges, edges, density.counts, norm=norm, cmap="viridis", rasterized=True)
    axes.plot(ends, ends, color="black", linewidth=1.0)
    axes.plot(ends, density.slope * ends + density.intercept, color="#D55E00", linewidth=1.3, linestyle="--")
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    # an outline instead of a box, which would hide what lies under it
    look = {"va": "top", "fontsize": 8.5, "linespacing": 1.12}
    look["path_effects"] = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    axes.text(0.03, 0.97, "\n".join(density.lines()), transform=axes.transAxes, **look)
    return mesh


@picture
def series(
    table: pd.DataFrame,
    *,
    x: str,
    y: Mapping[str, str] | list[str],
    xlabel: str,
    ylabel: str,
    title: str,
    log_y: bool = False,
) -> Picture:
    """Draw columns of a table as lines: learning curves by epoch, or series in time.

    Parameters
    ----------
    table : DataFrame
        One row a point of `x`; missing values leave a gap.
    x, y
        Column of the horizontal axis, and the columns to draw, or a mapping of them to their names in the legend.
    log_y : bool
        Logarithmic vertical axis; then values must be positive.
    """
    who, names = "series", dict(y) if isinstance(y, Mapping) else {c: c for c in y}
    check_table(who, table, (x, *names))
    for column in names:
        values = table[column].to_numpy("float64")
        if not np.isfinite(values).any():
            raise ContractError(who, f"column {column!r} is missing everywhere", got=f"{values.size} rows")
        if log_y and (values[np.isfinite(values)] <= 0).any():
            what = f"column {column!r} has values that a log axis cannot show"
            raise ContractError(who, what, got=float(np.nanmin(values)), expected="> 0")
    title = said(title)
    figure = Picture(WIDTH * 0.75, 3.1)
    axes = figure.add_axes((0.145, 0.165, 0.835, 0.73))
    look = {"marker": "o" if len(table) <= 40 else None, "markersize": 3}
    for (column, name), (colour, style) in zip(names.items(), LINES * len(names), strict=False):
        axes.plot(table[x], table[column], label=name, color=colour, linestyle=style, **look)
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log_y else "linear")
    if pd.api.types.is_integer_dtype(table[x]):
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    elif pd.api.types.is_datetime64_any_dtype(table[x]):
        date_axis(axes)
    if log_y:
        _label_log_axis(axes, table[list(names)].to_numpy("float64"))
    axes.set_title(title, loc="left", fontsize=10)
    grid_behind(axes, which="both")
    many = len(names) > 5
    axes.margins(y=0.7 if many else 0.05)  # room for the legend
    axes.legend(loc="upper center" if many else "best", ncols=1 + (len(names) > 3), fontsize=8 if many else None)
    shown = table[[x, *names]].rename(columns=names)
    figure.offer("lines", shown, x, list(names.values()), title, xlabel=xlabel, ylabel=ylabel, logy=log_y)
    return figure


def broken(series: pd.Series, gap: pd.Timedelta | None = None) -> pd.Series:
    """Give a series in order of time a missing value inside each gap, which a line would bridge; default five usual steps."""
    step = series.index[1:] - series.index[:-1]
    wide = np.flatnonzero(step > (5 * step.median() if gap is None else gap))
    holes = pd.Series(np.nan, series.index[wide] + pd.Timedelta("1s"), name=series.name)
    return pd.concat([series, holes]).sort_index(kind="stable").rename_axis("time")


def _label_log_axis(axes: Axes, values: np.ndarray) -> None:
    """Label 1, 2, 5 and so on where a curve spans less than two decades: powers of ten alone would label nothing."""
    values = values[np.isfinite(values)]
    span = values.max() / values.min()
    if span < 100:
        few, many = (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
        axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=few if span > 8 else many))
        axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())


@picture
def histograms(
    arrays: Mapping[str, ArrayLike],
    *,
    units: str | Mapping[str, str] = "m3 m-3",
    label: str | Mapping[str, str] | None = None,
    title: str | None = None,
    bins: int = 60,
) -> Picture:
    """Draw distributions, those in one unit over each other on common bins and those in another in another panel.

    Parameters
    ----------
    arrays : mapping of str to array
        By name (a channel, the target); any shape, missing is NaN.
    units, label : str or mapping
        Unit of all, or of each name; the quantity of the horizontal axis, or of each unit, default soil moisture for its own.
    bins : int
        Bins over the range of the unit's values (0.1th to 99.9th percentile).
    """
    who, groups = "histograms", {}
    units = dict.fromkeys(arrays, units) if isinstance(units, str) else units
    for name, array in arrays.items():
        values = np.asarray(array, dtype="float64").ravel()
        values = values[np.isfinite(values)]
        if values.size == 0:
            raise ContractError(who, f"{name!r} is missing everywhere", got=f"{np.size(array)} values")
        if name not in units:
            raise ContractError(who, f"{name!r} has no unit", expected=sorted(units))
        groups.setdefault(units[name], {})[name] = values
    if not groups:
        raise ContractError(who, "there is nothing to count")
    columns, rows = min(2, len(groups)), -(-len(groups) // 2)
    width, height = (WIDTH if columns == 2 else WIDTH * 0.75), 3.1 * rows
    left, gap, above, foot = 0.62, 0.55, 0.5, 0.5
    wide, high = (width - left - 0.15 - gap * (columns - 1)) / columns, height / rows - above - foot
    figure = Picture(width, height)
    for i, (unit, group) in enumerate(groups.items()):
        r, c = divmod(i, columns)
        axes = figure.axes_at(left + c * (wide + gap), height - (r + 1) * (high + above + foot) + foot, wide, high)
        _histogram_panel(axes, group, bins, high)
        named = label if isinstance(label, str) else (label or {"m3 m-3": "Soil moisture"}).get(unit, "Value")
        axes.set(xlabel=with_units(named, unit), ylabel="Share in a bin (%)" if c == 0 else "")
        shown = panel_title(i if len(groups) > 1 else None, title or named, wide)
        axes.set_title(shown, loc="left", fontsize=10, linespacing=1.1)
    return figure


def _histogram_panel(axes: Axes, group: dict[str, np.ndarray], bins: int, height: float) -> None:
    low, high, _ = nice_limits(group.values(), percentiles=(0.1, 99.9))
    edges, most = np.linspace(low, high, bins + 1), 0.0
    for (name, values), (colour, style) in zip(group.items(), LINES * len(group), strict=False):
        share = 100.0 * np.histogram(values, edges)[0] / values.size
        most = max(most, share.max())
        look = {"drawstyle": "steps-post", "color": colour, "linestyle": style, "linewidth": 1.4}
        axes.plot(edges, np.append(share, share[-1]), label=f"{name}, n = {values.size:,}", **look)
    # room for the legend above the curves
    taken = min(0.6, (0.12 + 0.165 * len(group)) / height)
    axes.set(xlim=(low, high), ylim=(0, most / (1 - taken)))
    axes.legend(loc="upper left", fontsize=8.5, handlelength=2.2, borderaxespad=0.1, labelspacing=0.25)
