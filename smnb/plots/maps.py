"""Static maps: panels on one colour scale, with coastlines, for a page 7 inches wide."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import cartopy.crs as ccrs
import matplotlib as mpl
import numpy as np
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, ParameterError, synthetic_label
from smnb.plots.coast import coastlines, land_raster
from smnb.plots.fields import (
    DIFFERENCE_CMAP,
    OTHER_CMAP,
    SOIL_MOISTURE_CMAP,
    Grid,
    bar_extend,
    check_comparison,
    check_fields,
    check_limits,
    shared_scale,
    shown_extent,
    split_panels,
    symmetric_limit,
    with_units,
)

WIDTH = 7.0
DPI = 150
#: Sizes that stay legible when a figure is printed at half its size.
STYLE = {
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 10.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "axes.linewidth": 0.8,
    "font.family": "DejaVu Sans",
    "savefig.dpi": DPI,
}
LABEL_SIZE = 8.5

_LEFT, _RIGHT, _GAP = 0.42, 0.12, 0.16
_LABELS, _BAR = 0.22, 0.62
_OCEAN, _LAND, _COAST, _LINES = "#e6edf2", "#c9c9c9", "#303030", "#8a8a8a"


def new_figure(width: float, height: float) -> Figure:
    """Return a figure that pyplot does not know, so that a notebook shows it once and nothing keeps it alive."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def panel_title(index: int | None, title: str, synthetic: bool, width: float, size: float = 10.0) -> str:
    """Return "(a) title (synthetic)" in as many lines as `width` (inches) asks for; no letter without an index."""
    letter = "" if index is None else f"({chr(ord('a') + index % 26)}) "
    text = f"{letter}{title}{synthetic_label(synthetic)}"
    return "\n".join(textwrap.wrap(text, max(12, int(width / (size * 0.52 / 72)))))


@dataclass
class _Group:
    """Panels that share one colour scale and its bar."""

    values: dict[str, np.ndarray]
    limits: tuple[float, float]
    cmap: str
    label: str


@dataclass
class _View:
    """Where on the globe a figure looks, and its warp from pixels of the page to longitude and latitude."""

    projection: ccrs.Projection
    extent: tuple[float, float, float, float]
    box: tuple[float, float, float, float]
    """Left, right, bottom, top in the projection's own units."""
    aspect: float
    """Width over height."""


def static_maps(
    fields: Mapping[str, xr.DataArray],
    *,
    units: str,
    label: str = "Soil moisture",
    differences: Mapping[str, xr.DataArray] | None = None,
    cmap: str = SOIL_MOISTURE_CMAP,
    difference_cmap: str = DIFFERENCE_CMAP,
    limits: tuple[float, float] | None = None,
    difference_limit: float | None = None,
    columns: int | None = None,
    synthetic: bool = False,
) -> Figure:
    """Draw maps side by side on one colour scale, and their differences on one symmetric scale of their own.

    A grid of more than 180 degrees of longitude is drawn as the globe (Robinson; the Antarctic is left out where there
    is nothing to show), a smaller one as a region (plate carrée, true shape at its middle latitude). Missing land is
    grey, the sea light.

    Parameters
    ----------
    fields : mapping of str to DataArray (lat, lon)
        By title; all on one grid, ascending, in `units`.
    units : str
        For the colour bars, as in the data contract ("m3 m-3").
    label : str
        The quantity.
    differences : mapping of str to DataArray (lat, lon), optional
        By title, in `units`, on the same grid.
    cmap, difference_cmap : str
        Names of matplotlib colour maps: perceptually uniform; diverging.
    limits : (float, float), optional
        Colour scale; default the 2nd to 98th percentile over all fields, rounded outwards.
    difference_limit : float, optional
        Differences run from -limit to limit; default the 98th percentile of magnitudes, rounded up.
    columns : int, optional
        Panels a row.
    synthetic : bool
        Say so in each title.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide, 150 dpi; write it with `smnb.plots.save_png`.

    Raises
    ------
    ContractError
        Where a field is not a map, is missing everywhere or lies on another grid.
    ParameterError
        For an unknown colour map, or limits that are no scale.
    """
    who = "static_maps"
    grid, shown, contrasts = check_comparison(who, fields, differences)
    groups = [_Group(shown, shared_scale(who, shown.values(), limits), cmap, with_units(label, units))]
    if contrasts:
        limit = difference_limit if difference_limit is not None else symmetric_limit(contrasts.values())
        check_limits(who, (-limit, limit))
        groups.append(_Group(contrasts, (-limit, limit), difference_cmap, with_units("Difference", units)))
    return _draw(who, grid, groups, columns, synthetic)


def image_panels(
    panels: Mapping[str, xr.DataArray] | xr.DataArray,
    *,
    dim: str = "channel",
    label: str | Mapping[str, str] = "Brightness temperature",
    cmap: str = OTHER_CMAP,
    limits: Mapping[str, tuple[float, float]] | None = None,
    columns: int | None = None,
    synthetic: bool = False,
) -> Figure:
    """Draw a stack of images, such as one day's channels, with one colour scale for each unit among them.

    Parameters
    ----------
    panels : DataArray (dim, lat, lon) or mapping of str to DataArray (lat, lon)
        Each with its attribute ``units``.
    dim : str
        What to split an array by.
    label : str or mapping of unit to str
        The quantity, or the quantity in each unit.
    limits : mapping of unit to (float, float), optional
        Colour scale of a unit; default as in `static_maps`.
    cmap, columns, synthetic
        As in `static_maps`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    who = "image_panels"
    by_unit, grid = group_by_unit(who, panels, dim)
    groups = []
    for unit, titles in by_unit.items():
        shown = {title: grid.values[title] for title in titles}
        named = label if isinstance(label, str) else label.get(unit, "Value")
        scale = shared_scale(who, shown.values(), (limits or {}).get(unit))
        groups.append(_Group(shown, scale, cmap, with_units(named, unit)))
    return _draw(who, grid, groups, columns, synthetic)


def group_by_unit(
    who: str, panels: Mapping[str, xr.DataArray] | xr.DataArray, dim: str
) -> tuple[dict[str, list[str]], Grid]:
    """Return titles by unit, and the checked fields."""
    if isinstance(panels, xr.DataArray):
        units = panels.attrs.get("units")
        panels = {k: v.assign_attrs(units=units) if units else v for k, v in split_named(panels, dim).items()}
    grid = check_fields(who, panels)
    by_unit: dict[str, list[str]] = {}
    for title, panel in panels.items():
        if "units" not in panel.attrs:
            raise ContractError(who, f"panel {title!r} has no units", next_step="Set its attribute units")
        by_unit.setdefault(panel.attrs["units"], []).append(title)
    return by_unit, grid


def split_named(array: xr.DataArray, dim: str) -> dict[str, xr.DataArray]:
    """Split by `dim`, naming channels as people say them ("6.9 GHz H")."""
    return {
        f"{k[:-1]} GHz {k[-1]}" if dim == "channel" and k[-1:] in ("H", "V") else k: v
        for k, v in split_panels(array, dim).items()
    }


def _draw(who: str, grid: Grid, groups: list[_Group], columns: int | None, synthetic: bool) -> Figure:
    for group in groups:
        if group.cmap not in mpl.colormaps:
            raise ParameterError(who, "unknown colour map", got=group.cmap, next_step="See matplotlib.colormaps")
    view = _view(grid)
    count = max(len(g.values) for g in groups)
    columns = columns or min(
        2 if view.aspect > 1.25 else 3, max(count, 2 if sum(len(g.values) for g in groups) > 1 else 1)
    )
    width = (WIDTH - _LEFT - _RIGHT - _GAP * (columns - 1)) / columns
    height = width / view.aspect
    alone = sum(len(g.values) for g in groups) == 1
    rows: list[list[list[tuple[str, np.ndarray]]]] = []
    letter = 0
    for group in groups:
        titled = []
        for title, values in group.values.items():
            titled.append((panel_title(None if alone else letter, title, synthetic, width), values))
            letter += 1
        rows.append([titled[i : i + columns] for i in range(0, len(titled), columns)])
    total = sum(sum(_head(row) + height + _LABELS for row in group) + _BAR for group in rows)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, total)
        top = total
        for group, group_rows in zip(groups, rows, strict=True):
            for row in group_rows:
                start = _LEFT + (columns - len(row)) * (width + _GAP) / 2
                for c, (title, values) in enumerate(row):
                    box = (start + c * (width + _GAP), top - _head(row) - height, width, height)
                    _panel(
                        figure,
                        [b / s for b, s in zip(box, (WIDTH, total) * 2, strict=True)],
                        view,
                        grid,
                        values,
                        group,
                        title,
                        label_latitude=c == 0,
                    )
                top -= _head(row) + height + _LABELS
            _bar(figure, group, top, total)
            top -= _BAR
    return figure


def _head(row: list[tuple[str, np.ndarray]]) -> float:
    """Inches that the titles of a row of panels take."""
    return 0.1 + 0.17 * max(title.count("\n") + 1 for title, _ in row)


def _view(grid: Grid) -> _View:
    extent = shown_extent(grid)
    west, east, south, north = extent
    if not grid.is_global:
        projection: ccrs.Projection = ccrs.PlateCarree()
        middle = np.cos(np.radians(np.clip((south + north) / 2, -80, 80)))
        return _View(projection, extent, (west, east, south, north), (east - west) / (north - south) * middle)
    projection = ccrs.Robinson()
    edge = projection.transform_points(ccrs.PlateCarree(), np.array([0.0, 0.0, 180.0]), np.array([south, north, 0.0]))
    box = (-edge[2, 0], edge[2, 0], edge[0, 1], edge[1, 1])
    return _View(projection, extent, box, (box[1] - box[0]) / (box[3] - box[2]))


@lru_cache(maxsize=8)
def _page_lonlat(is_global: bool, box: tuple[float, ...], columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of each pixel of the page, north first; NaN outside the globe."""
    x = box[0] + (np.arange(columns) + 0.5) / columns * (box[1] - box[0])
    y = box[3] - (np.arange(rows) + 0.5) / rows * (box[3] - box[2])
    x, y = np.meshgrid(x, y)
    if not is_global:
        return x, y
    robinson, geographic = ccrs.Robinson(), ccrs.PlateCarree()
    lonlat = geographic.transform_points(robinson, x, y)
    # outside the globe PROJ wraps instead of failing: a point is on the map if it comes back to itself
    back = robinson.transform_points(geographic, lonlat[..., 0], lonlat[..., 1])
    inside = np.hypot(back[..., 0] - x, back[..., 1] - y) < 1e3
    return np.where(inside, lonlat[..., 0], np.nan), np.where(inside, lonlat[..., 1], np.nan)


def _warp(view: _View, lon: np.ndarray, lat: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at each pixel of the page by the nearest cell: an image costs a tenth of a projected mesh."""
    columns = 1200
    page_lon, page_lat = _page_lonlat(
        isinstance(view.projection, ccrs.Robinson), view.box, columns, max(2, round(columns / view.aspect))
    )
    step = (lon[-1] - lon[0]) / max(lon.size - 1, 1)
    if lon[-1] - lon[0] + step > 359.9:
        lon, values = np.append(lon, lon[0] + 360.0), np.concatenate([values, values[:, :1]], axis=1)
    row, inside_row = _nearest(lat, page_lat)
    column, inside_column = _nearest(lon, page_lon)
    return np.where(inside_row & inside_column, values[row, column], np.nan)


def _nearest(centres: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if centres.size == 1:
        return np.zeros(wanted.shape, dtype=int), np.abs(wanted - centres[0]) <= 0.5
    middles = (centres[1:] + centres[:-1]) / 2
    low = centres[0] - (middles[0] - centres[0])
    high = centres[-1] + (centres[-1] - middles[-1])
    return np.searchsorted(middles, wanted, side="right").clip(0, centres.size - 1), (wanted >= low) & (wanted <= high)


def _panel(
    figure: Figure,
    rectangle: list[float],
    view: _View,
    grid: Grid,
    values: np.ndarray,
    group: _Group,
    title: str,
    *,
    label_latitude: bool,
    lines: int = 4,
) -> None:
    axes: GeoAxes = figure.add_axes(rectangle, projection=view.projection)
    axes.set_xlim(*view.box[:2])
    axes.set_ylim(*view.box[2:])
    place = {"extent": view.box, "origin": "upper", "aspect": "auto"}
    lon, lat, land = land_raster(view.extent)
    ground = LinearSegmentedColormap.from_list("ground", [_OCEAN, _LAND])
    axes.imshow(_warp(view, lon, lat, land), cmap=ground, vmin=0, vmax=1, zorder=1, **place)
    norm = Normalize(*group.limits)
    axes.imshow(
        _warp(view, grid.lon, grid.lat, values),
        cmap=group.cmap,
        norm=norm,
        zorder=2,
        interpolation_stage="rgba",
        gid="field",
        **place,
    )
    for line in coastlines("110m" if grid.is_global else "50m"):
        path = view.projection.transform_points(ccrs.PlateCarree(), line[:, 0], line[:, 1])
        axes.plot(path[:, 0], path[:, 1], color=_COAST, linewidth=0.45, zorder=4)
    _graticule(axes, view, label_latitude, lines)
    axes.spines["geo"].set_linewidth(0.7)
    axes.set_aspect("auto")
    axes.set_xlim(*view.box[:2])
    axes.set_ylim(*view.box[2:])
    axes.set_title(title, fontsize=10, pad=4, loc="left", linespacing=1.1)


def _graticule(axes: GeoAxes, view: _View, label_latitude: bool, lines: int = 4) -> None:
    west, east, south, north = view.extent
    if isinstance(view.projection, ccrs.Robinson):
        meridians, parallels = np.arange(-120.0, 121.0, 60.0), np.arange(-60.0, 61.0, 30.0)
    else:
        steps = [1, 2, 3, 5, 6, 10]
        meridians = MaxNLocator(lines, steps=steps).tick_values(west, east)
        parallels = MaxNLocator(lines, steps=steps).tick_values(south, north)
    meridians = meridians[(meridians > west) & (meridians < east)]
    parallels = parallels[(parallels >= south) & (parallels <= north)]
    geographic, along = ccrs.PlateCarree(), np.linspace(0.0, 1.0, 91)
    text = {"fontsize": LABEL_SIZE, "color": "#444444", "annotation_clip": False, "textcoords": "offset points"}
    for lon in meridians:
        points = view.projection.transform_points(geographic, np.full(91, lon), south + along * (north - south))
        axes.plot(points[:, 0], points[:, 1], color=_LINES, linewidth=0.3, zorder=3, alpha=0.6)
        # a label at a panel's corner would run into the next panel's
        inside = 0.1 < (lon - west) / (east - west) < 0.9
        if (lon % 120.0 == 0.0) if isinstance(view.projection, ccrs.Robinson) else inside:
            axes.annotate(_degrees(lon, "E", "W"), points[0, :2], (0, -3), ha="center", va="top", **text)
    for lat in parallels:
        points = view.projection.transform_points(geographic, west + along * (east - west), np.full(91, lat))
        axes.plot(points[:, 0], points[:, 1], color=_LINES, linewidth=0.3, zorder=3, alpha=0.6)
        if label_latitude:
            # the globe's outline leans away from the equator: keep the labels of the high latitudes off it
            side = "center" if view.box[1] <= 180.0 or lat == 0 else "bottom" if lat > 0 else "top"
            axes.annotate(_degrees(lat, "N", "S"), points[0, :2], (-3, 0), ha="right", va=side, **text)


def _degrees(value: float, positive: str, negative: str) -> str:
    return f"{abs(value):.4g}°{positive if value > 0 else negative if value < 0 else ''}"


def _bar(figure: Figure, group: _Group, top: float, total: float) -> None:
    """Draw a colour bar under a group, pointed where values leave the scale."""
    low, high = group.limits
    seen = np.concatenate([v[np.isfinite(v)] for v in group.values.values()])
    below, above = bool(seen.min() < low), bool(seen.max() > high)
    extend = bar_extend(below, above)
    axes = figure.add_axes([0.22, (top - 0.17) / total, 0.56, 0.11 / total], label="colorbar")
    mappable = ScalarMappable(Normalize(low, high), group.cmap)
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", extend=extend, extendfrac=0.03)
    ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    bar.set_ticks(np.linspace(low, high, 5) if low == -high else ticks[(ticks >= low) & (ticks <= high)])
    bar.set_label(group.label, labelpad=1)
    bar.ax.tick_params(length=2.5, pad=1.5)
