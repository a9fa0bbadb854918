"""Static maps: panels on one colour scale, with coastlines, for a page 7 inches wide."""

from __future__ import annotations

from collections.abc import Mapping

import cartopy.crs as ccrs
import matplotlib as mpl
import numpy as np
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, ParameterError
from smnb.plots.canvas import axes_at, colour_bar, head, panel_title
from smnb.plots.coast import coastlines, land_raster
from smnb.plots.display import WIDTH, Picture, picture
from smnb.plots.fields import (
    SOIL_MOISTURE_CMAP,
    Grid,
    Group,
    check_comparison,
    group_by_unit,
    group_comparison,
    units_of,
    with_units,
)
from smnb.plots.page import View, to_page, view_of

LABEL_SIZE = 8.5
_LEFT, _RIGHT, _GAP = 0.42, 0.12, 0.16
_LABELS, _BAR = 0.22, 0.62
_OCEAN, _LAND, _COAST, _LINES = "#e6edf2", "#c9c9c9", "#303030", "#8a8a8a"


@picture(twin=True)
def static_maps(
    fields: Mapping[str, xr.DataArray],
    *,
    units: str | None = None,
    label: str = "Soil moisture",
    differences: Mapping[str, xr.DataArray] | None = None,
    cmap: str = SOIL_MOISTURE_CMAP,
    limits: tuple[float, float] | None = None,
    columns: int | None = None,
    synthetic: bool | None = None,
) -> Picture:
    """Draw maps side by side on one colour scale, and their differences on one symmetric scale of their own.

    A grid of more than 180 degrees of longitude is drawn as the globe (Robinson; the Antarctic is left out where there
    is nothing to show), a smaller one as a region (plate carrée, true shape at its middle latitude). Missing land is
    grey, the sea light. The twin shows longitude, latitude and value under the pointer, its maps linked.

    Parameters
    ----------
    fields : mapping of str to DataArray (lat, lon)
        By title; all on one grid, ascending, in one unit.
    units : str, optional
        For the colour bars; default the attribute of the first field.
    differences : mapping of str to DataArray (lat, lon), optional
        By title, in `units`, on the same grid.
    limits : (float, float), optional
        Colour scale; default the 2nd to 98th percentile over all fields, rounded outwards. Differences run from -L to L,
        the 98th percentile of their magnitudes, rounded up.
    """
    who = "static_maps"
    if cmap not in mpl.colormaps:
        raise ParameterError(who, "unknown colour map", got=cmap, next_step="See matplotlib.colormaps")
    grid, shown, contrasts = check_comparison(who, fields, differences)
    groups = group_comparison(who, shown, contrasts, limits, cmap, label, units_of(who, units, fields))
    return _draw(grid, groups, columns, synthetic)


@picture(twin=True)
def image_panels(
    panels: Mapping[str, xr.DataArray] | xr.DataArray,
    *,
    label: str | Mapping[str, str] = "Brightness temperature",
    limits: Mapping[str, tuple[float, float]] | None = None,
    columns: int | None = None,
    synthetic: bool | None = None,
) -> Picture:
    """Draw a stack of images, such as one day's channels, with one colour scale for each unit among them.

    Parameters
    ----------
    panels : DataArray (channel, lat, lon) or mapping of str to DataArray (lat, lon)
        Each with its attribute ``units``.
    label : str or mapping of unit to str
        The quantity, or the quantity in each unit.
    limits : mapping of unit to (float, float), optional
        Colour scale of a unit; default as in `static_maps`.
    """
    grid, groups = group_by_unit("image_panels", panels, label, limits)
    return _draw(grid, groups, columns, synthetic)


@picture(twin=False)
def map_matrix(
    rows: Mapping[str, Mapping[str, xr.DataArray]],
    *,
    units: str | None = None,
    label: str = "Soil moisture",
    differences: Mapping[str, Mapping[str, xr.DataArray]] | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
    synthetic: bool | None = None,
) -> Picture:
    """Draw the same fields of several regions below one another, on one scale, and their differences on another.

    Parameters
    ----------
    rows : mapping of str to mapping of str to DataArray (lat, lon)
        By region, then by column title; every region has the same columns, and one grid of its own.
    differences : mapping of str to mapping of str to DataArray (lat, lon), optional
        By region, then by column title; to the right, on a symmetric scale.
    """
    who = "map_matrix"
    differences = differences or {region: {} for region in rows}
    if not rows or set(differences) != set(rows):
        what = "fields and differences name other regions"
        raise ContractError(who, what, got=list(differences), expected=list(rows))
    checked = {region: check_comparison(who, rows[region], differences[region]) for region in rows}
    columns = [list(next(iter(part.values()))) for part in (rows, differences)]
    for region in rows:
        if [list(rows[region]), list(differences[region])] != columns:
            what = f"region {region!r} has other columns"
            raise ContractError(who, what, got=list(rows[region]), expected=columns[0])
    units = units_of(who, units, next(iter(rows.values())))
    shown = {(region, t): v for region, (_, fields, _) in checked.items() for t, v in fields.items()}
    contrasts = {(region, t): v for region, (_, _, extra) in checked.items() for t, v in extra.items()}
    groups = group_comparison(who, shown, contrasts, limits, SOIL_MOISTURE_CMAP, label, units)
    left, labels, count = 0.84, 0.24, sum(map(len, columns))
    width = (WIDTH - left - _RIGHT - _GAP * (count - 1)) / count
    views = {region: view_of(grid) for region, (grid, _, _) in checked.items()}
    above = 0.30 + (0.26 if title or synthetic else 0.0)
    total = above + sum(width / view.aspect + labels for view in views.values()) + _BAR
    figure = Picture(WIDTH, total)
    head(figure, title, synthetic, x=left / WIDTH, centre=False)
    top = total - above
    for number, (region, view) in enumerate(views.items()):
        high = width / view.aspect
        bottom = top - high
        place = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 10}
        figure.text(0.24 / WIDTH, (bottom + high / 2) / total, region, **place)
        panels = [(name, v, group) for group in groups for (r, name), v in group.values.items() if r == region]
        for column, (name, array, group) in enumerate(panels):
            box = (left + column * (width + _GAP), bottom, width, high)
            name = name if number == 0 else ""
            _panel(figure, box, view, checked[region][0], array, group, name, label_latitude=column == 0, lines=3)
        top = bottom - labels
    for group, x in zip(groups, [0.30] if len(groups) == 1 else [0.12, 0.60], strict=True):
        axes = axes_at(figure, x * WIDTH, _BAR - 0.17, 0.34 * WIDTH, 0.11, label="colorbar")
        label = with_units(group.label, units)
        colour_bar(axes, group.limits, group.cmap, label, group.values.values(), parts=5)
    return figure


def _draw(grid: Grid, groups: list[Group], columns: int | None, synthetic: bool) -> Picture:
    view, panels = view_of(grid), sum(len(g.values) for g in groups)
    count = max(len(g.values) for g in groups)
    columns = columns or min(2 if view.aspect > 1.25 else 3, max(count, 2 if panels > 1 else 1))
    width = (WIDTH - _LEFT - _RIGHT - _GAP * (columns - 1)) / columns
    height = width / view.aspect
    rows, letters = [], iter(range(panels) if panels > 1 else [None])
    for group in groups:
        titled = [(panel_title(next(letters), t, synthetic, width), values) for t, values in group.values.items()]
        rows.append([titled[i : i + columns] for i in range(0, len(titled), columns)])
    total = sum(sum(_above(row) + height + _LABELS for row in part) + _BAR for part in rows)
    figure, top = Picture(WIDTH, total), total
    for group, group_rows in zip(groups, rows, strict=True):
        for row in group_rows:
            start = _LEFT + (columns - len(row)) * (width + _GAP) / 2
            for c, (title, values) in enumerate(row):
                box = (start + c * (width + _GAP), top - _above(row) - height, width, height)
                _panel(figure, box, view, grid, values, group, title, label_latitude=c == 0)
            top -= _above(row) + height + _LABELS
        axes = axes_at(figure, 0.22 * WIDTH, top - 0.17, 0.56 * WIDTH, 0.11, label="colorbar")
        label = with_units(group.label, group.units)
        colour_bar(axes, group.limits, group.cmap, label, group.values.values())
        top -= _BAR
    return figure


def _above(row: list[tuple[str, np.ndarray]]) -> float:
    """Inches that the titles of a row of panels take."""
    return 0.1 + 0.17 * max(title.count("\n") + 1 for title, _ in row)


def ground(axes: GeoAxes, view: View, *, land: str = _LAND, lines: int = 4, label_latitude: bool = True) -> None:
    """Draw sea, land, coast and a graticule, and make the axes look at `view`."""
    west, east, south, north = view.extent
    # a little more than the map, since the land's last cell may end short of the edge
    around = (max(west - 0.2, -180.0), min(east + 0.2, 180.0), max(south - 0.2, -90.0), min(north + 0.2, 90.0))
    is_global = isinstance(view.projection, ccrs.Robinson)
    lon, lat, share = land_raster(view.extent if is_global else around)
    colours = LinearSegmentedColormap.from_list("ground", [_OCEAN, land])
    place = {"extent": view.box, "origin": "upper", "aspect": "auto"}
    axes.imshow(to_page(view, lon, lat, share), cmap=colours, vmin=0, vmax=1, zorder=1, **place)
    if east - west < 8.0:  # nearer than the coastlines are drawn for
        axes.contour(lon, lat, share, levels=[0.5], colors=_COAST, linewidths=0.6, zorder=4)
    else:
        for line in coastlines("110m" if is_global else "50m"):
            axes.plot(*view.lines(line[:, 0], line[:, 1]), color=_COAST, linewidth=0.45, zorder=4)
    _graticule(axes, view, label_latitude, lines)
    view.fit(axes)


def _panel(
    figure: Picture,
    box: tuple[float, float, float, float],
    view: View,
    grid: Grid,
    values: np.ndarray,
    group: Group,
    title: str,
    *,
    label_latitude: bool,
    lines: int = 4,
) -> None:
    axes: GeoAxes = axes_at(figure, *box, projection=view.projection)
    field = {"cmap": group.cmap, "norm": Normalize(*group.limits), "interpolation_stage": "rgba", "gid": "field"}
    place = {"extent": view.box, "origin": "upper", "aspect": "auto"}
    axes.imshow(to_page(view, grid.lon, grid.lat, values), zorder=2, **field, **place)
    ground(axes, view, lines=lines, label_latitude=label_latitude)
    axes.set_title(title, fontsize=10, pad=4, loc="left", linespacing=1.1)


def _graticule(axes: GeoAxes, view: View, label_latitude: bool, lines: int = 4) -> None:
    west, east, south, north = view.extent
    if isinstance(view.projection, ccrs.Robinson):
        meridians, parallels = np.arange(-120.0, 121.0, 60.0), np.arange(-60.0, 61.0, 30.0)
    else:
        steps = [1, 2, 3, 5, 6, 10]
        meridians = MaxNLocator(lines, steps=steps).tick_values(west, east)
        parallels = MaxNLocator(lines, steps=steps).tick_values(south, north)
    meridians = meridians[(meridians > west) & (meridians < east)]
    parallels = parallels[(parallels >= south) & (parallels <= north)]
    along = np.linspace(0.0, 1.0, 91)
    text = {"fontsize": LABEL_SIZE, "color": "#444444", "annotation_clip": False, "textcoords": "offset points"}
    for lon in meridians:
        x, y = view.lines(np.full(91, lon), south + along * (north - south))
        axes.plot(x, y, color=_LINES, linewidth=0.3, zorder=3, alpha=0.6)
        # a label at a panel's corner would run into the next panel's
        inside = 0.1 < (lon - west) / (east - west) < 0.9
        if (lon % 120.0 == 0.0) if isinstance(view.projection, ccrs.Robinson) else inside:
            axes.annotate(_degrees(lon, "E", "W"), (x[0], y[0]), (0, -3), ha="center", va="top", **text)
    for lat in parallels:
        x, y = view.lines(west + along * (east - west), np.full(91, lat))
        axes.plot(x, y, color=_LINES, linewidth=0.3, zorder=3, alpha=0.6)
        if label_latitude:
            # the globe's outline leans away from the equator: keep the labels of the high latitudes off it
            side = "center" if view.box[1] <= 180.0 or lat == 0 else "bottom" if lat > 0 else "top"
            axes.annotate(_degrees(lat, "N", "S"), (x[0], y[0]), (-3, 0), ha="right", va=side, **text)


def _degrees(value: float, positive: str, negative: str) -> str:
    return f"{abs(value):.4g}°{positive if value > 0 else negative if value < 0 else ''}"
