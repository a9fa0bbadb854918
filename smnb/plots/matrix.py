"""Maps of several regions as one matrix: a row a region, a column a field, one colour scale for all."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, synthetic_label
from smnb.plots.fields import (
    DIFFERENCE_CMAP,
    SOIL_MOISTURE_CMAP,
    Grid,
    bar_extend,
    check_comparison,
    check_limits,
    shared_scale,
    symmetric_limit,
    with_units,
)
from smnb.plots.maps import _GAP, _RIGHT, STYLE, WIDTH, _Group, _panel, _view, new_figure

_LEFT, _LABELS, _BARS, _HEAD = 0.84, 0.24, 0.62, 0.30


def map_matrix(
    rows: Mapping[str, Mapping[str, xr.DataArray]],
    *,
    units: str,
    label: str = "Soil moisture",
    differences: Mapping[str, Mapping[str, xr.DataArray]] | None = None,
    limits: tuple[float, float] | None = None,
    difference_limit: float | None = None,
    title: str | None = None,
    synthetic: bool = False,
) -> Figure:
    """Draw the same fields of several regions below one another, on one scale, and their differences on another.

    Parameters
    ----------
    rows : mapping of str to mapping of str to DataArray (lat, lon)
        By region, then by column title; every region has the same columns, and one grid of its own.
    units, label : str
        For the colour bars.
    differences : mapping of str to mapping of str to DataArray (lat, lon), optional
        By region, then by column title; to the right, on a symmetric scale.
    limits : (float, float), optional
        Colour scale; default the 2nd to 98th percentile over all regions and fields, rounded outwards.
    difference_limit : float, optional
        Default the 98th percentile of magnitudes, rounded up.
    title : str, optional
        Above the figure.
    synthetic : bool
        Say so in the title.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide, 150 dpi.

    Raises
    ------
    ContractError
        Where regions differ in their columns, or a field is not a map.
    """
    who = "map_matrix"
    differences = differences or {region: {} for region in rows}
    if not rows or set(differences) != set(rows):
        raise ContractError(
            who, "fields and differences name other regions", got=list(differences), expected=list(rows)
        )
    checked = {region: check_comparison(who, rows[region], differences[region]) for region in rows}
    columns = [list(next(iter(part.values()))) for part in (rows, differences)]
    for region in rows:
        if [list(rows[region]), list(differences[region])] != columns:
            raise ContractError(
                who, f"region {region!r} has other columns", got=list(rows[region]), expected=columns[0]
            )
    shown = [values for _, fields, _ in checked.values() for values in fields.values()]
    contrasts = [values for _, _, extra in checked.values() for values in extra.values()]
    groups = [_Group({}, shared_scale(who, shown, limits), SOIL_MOISTURE_CMAP, with_units(label, units))]
    if contrasts:
        bound = difference_limit if difference_limit is not None else symmetric_limit(contrasts)
        check_limits(who, (-bound, bound))
        groups.append(_Group({}, (-bound, bound), DIFFERENCE_CMAP, with_units("Difference", units)))
    return _draw(checked, columns, groups, [shown, contrasts], title, synthetic)


def _draw(
    checked: Mapping[str, tuple[Grid, dict[str, np.ndarray], dict[str, np.ndarray]]],
    columns: list[list[str]],
    groups: list[_Group],
    values: list[list[np.ndarray]],
    title: str | None,
    synthetic: bool,
) -> Figure:
    count = sum(map(len, columns))
    width = (WIDTH - _LEFT - _RIGHT - _GAP * (count - 1)) / count
    views = {region: _view(grid) for region, (grid, _, _) in checked.items()}
    heights = {region: width / view.aspect for region, view in views.items()}
    head = _HEAD + (0.26 if title or synthetic else 0.0)
    total = head + sum(height + _LABELS for height in heights.values()) + _BARS
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, total)
        if title or synthetic:
            figure.text(
                _LEFT / WIDTH,
                1 - 0.06 / total,
                f"{title or ''}{synthetic_label(synthetic)}".strip(),
                va="top",
                fontsize=10,
            )
        top = total - head
        for number, (region, (grid, fields, extra)) in enumerate(checked.items()):
            bottom = top - heights[region]
            figure.text(
                0.24 / WIDTH,
                (bottom + heights[region] / 2) / total,
                region,
                rotation=90,
                ha="center",
                va="center",
                fontsize=10,
            )
            panels = [(t, v, groups[0]) for t, v in fields.items()] + [(t, v, groups[-1]) for t, v in extra.items()]
            for column, (name, array, group) in enumerate(panels):
                box = (_LEFT + column * (width + _GAP), bottom, width, heights[region])
                rectangle = [b / s for b, s in zip(box, (WIDTH, total) * 2, strict=True)]
                _panel(
                    figure,
                    rectangle,
                    views[region],
                    grid,
                    array,
                    group,
                    name if number == 0 else "",
                    label_latitude=column == 0,
                    lines=3,
                )
            top = bottom - _LABELS
        _bars(figure, groups, values, total)
    return figure


def _bars(figure: Figure, groups: list[_Group], values: list[list[np.ndarray]], total: float) -> None:
    """One colour bar a scale, side by side below the maps, pointed where values leave it."""
    lefts = [0.30] if len(groups) == 1 else [0.12, 0.60]
    for group, arrays, left in zip(groups, values, lefts, strict=False):
        low, high = group.limits
        seen = np.concatenate([v[np.isfinite(v)] for v in arrays])
        extend = bar_extend(bool(seen.min() < low), bool(seen.max() > high))
        axes = figure.add_axes([left, (_BARS - 0.17) / total, 0.34, 0.11 / total], label="colorbar")
        bar = figure.colorbar(
            ScalarMappable(Normalize(low, high), group.cmap),
            cax=axes,
            orientation="horizontal",
            extend=extend,
            extendfrac=0.04,
        )
        ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        bar.set_ticks(ticks[(ticks >= low - 1e-12) & (ticks <= high + 1e-12)])
        bar.set_label(group.label, labelpad=1)
        bar.ax.tick_params(length=2.5, pad=1.5)
