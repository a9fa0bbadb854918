"""The ground of maps: where on the globe a figure looks, and its sea, land and coastlines, which need no download."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import cartopy.crs as ccrs
import contourpy
import numpy as np
import shapely
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from smnb.contract import check_choice
from smnb.grids import koppen
from smnb.plots.fields import Grid, edges, shown_extent

#: Derived coastlines by the name of the Natural Earth scale that they stand in for: grid step (degree), tolerance of
#: the simplification (degree) and the smallest island kept (square degrees at the equator). A step is a whole number
#: of the Köppen map's pixels (1/36 degree).
_SCALES = {"110m": (1 / 4, 0.12, 1.0), "50m": (1 / 12, 0.03, 0.02)}
_OCEAN, _LAND, _COAST, _LINES = "#e6edf2", "#c9c9c9", "#303030", "#8a8a8a"
_PAGE_COLUMNS = 1200


@lru_cache(maxsize=2)
def coastlines(resolution: str = "110m") -> tuple[np.ndarray, ...]:
    """Return the world's coastlines without touching the network.

    They are the half-land contour of the Köppen map, simplified and without tiny islands. `cartopy`'s own
    ``ax.coastlines()`` and geoviews' features download what they lack, so neither is used.

    Parameters
    ----------
    resolution : {"110m", "50m"}
        For the globe or for a region.

    Returns
    -------
    tuple of numpy.ndarray
        Read-only (N, 2) arrays of longitude and latitude, degrees, within ±180 and ±90. A closed ring repeats its
        first point; a line that meets the date line ends there, so that none crosses the map.
    """
    check_choice("coastlines", "resolution", resolution, _SCALES)
    step, tolerance, smallest = _SCALES[resolution]
    lon, lat, land = _land((-180.0, 180.0, -90.0, 90.0), step)
    # nodes on the date line itself, so that a coast ends there on both sides of the map
    seam = 0.5 * (land[:, :1] + land[:, -1:])
    land = np.concatenate([seam, land, seam], axis=1)
    kept: list[np.ndarray] = []
    for line in contourpy.contour_generator(np.r_[-180.0, lon, 180.0], lat, land, name="serial").lines(0.5):
        closed = bool(np.array_equal(line[0], line[-1]))
        area = shapely.Polygon(line).area if closed and len(line) > 3 else 0.5 * np.ptp(line, axis=0).prod()
        if area * np.cos(np.radians(line[:, 1].mean())) < smallest:
            continue
        thin = np.array(shapely.simplify(shapely.LineString(line), tolerance).coords)
        if len(thin) > (3 if closed else 1):
            kept.append(np.round(thin, 3))
            kept[-1].setflags(write=False)
    return tuple(kept)


@lru_cache(maxsize=8)
def _land(extent: tuple[float, float, float, float], step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Longitudes, latitudes and land fraction (lat, lon) of cells of `step` degrees in west, east, south, north."""
    west, east, south, north = extent
    lon = west + step * (np.arange(np.ceil((east - west) / step - 0.5)) + 0.5)
    lat = south + step * (np.arange(np.ceil((north - south) / step - 0.5)) + 0.5)
    return lon, lat, np.asarray(koppen.land_fraction(lat, lon), dtype="float32")


class View(NamedTuple):
    """Where on the globe a figure looks: all of it (Robinson) or a region (plate carrée)."""

    projection: ccrs.Projection
    is_global: bool
    extent: tuple[float, float, float, float]
    box: tuple[float, float, float, float]  # left, right, bottom, top in the projection's own units
    aspect: float  # width over height

    def lines(self, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the page, in the projection's own units."""
        points = self.projection.transform_points(ccrs.PlateCarree(), np.asarray(lon), np.asarray(lat))
        return points[:, 0], points[:, 1]


def view_of(grid: Grid) -> View:
    """Return the globe or a region, as a grid asks for."""
    extent = west, east, south, north = shown_extent(grid)
    if not grid.is_global:
        middle = np.cos(np.radians(np.clip((south + north) / 2, -80, 80)))
        return View(ccrs.PlateCarree(), False, extent, extent, (east - west) / (north - south) * middle)
    projection = ccrs.Robinson()
    edge = projection.transform_points(ccrs.PlateCarree(), np.array([0.0, 0.0, 180.0]), np.array([south, north, 0.0]))
    box = (-edge[2, 0], edge[2, 0], edge[0, 1], edge[1, 1])
    return View(projection, True, extent, box, (box[1] - box[0]) / (box[3] - box[2]))


@lru_cache(maxsize=8)
def _page_lonlat(is_global: bool, box: tuple[float, ...], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of each pixel of the page, north first; NaN outside the globe."""
    x = box[0] + (np.arange(_PAGE_COLUMNS) + 0.5) / _PAGE_COLUMNS * (box[1] - box[0])
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


def draw_cells(axes: GeoAxes, view: View, lon: np.ndarray, lat: np.ndarray, values: np.ndarray, **look: Any) -> Any:
    """Draw values at each pixel of the page by the nearest cell: an image costs a tenth of a projected mesh."""
    page_lon, page_lat = _page_lonlat(view.is_global, view.box, max(2, round(_PAGE_COLUMNS / view.aspect)))
    step = (lon[-1] - lon[0]) / max(lon.size - 1, 1)
    if lon[-1] - lon[0] + step > 359.9:
        lon, values = np.append(lon, lon[0] + 360.0), np.concatenate([values, values[:, :1]], axis=1)
    (row, inside_row), (column, inside_column) = _nearest(lat, page_lat), _nearest(lon, page_lon)
    shown = np.where(inside_row & inside_column, values[row, column], np.nan)
    return axes.imshow(shown, extent=view.box, origin="upper", aspect="auto", **look)


def _nearest(centres: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = edges(centres)
    middles = (centres[1:] + centres[:-1]) / 2
    return np.searchsorted(middles, wanted, side="right"), (wanted >= low) & (wanted <= high)


def draw_ground(axes: GeoAxes, view: View, *, land: str = _LAND, lines: int = 4, label_latitude: bool = True) -> None:
    """Draw sea, land, coast and a graticule, and make the axes look at `view`."""
    west, east, south, north = view.extent
    if view.is_global:
        cells = _land((-180.0, 180.0, -90.0, 90.0), 1 / 4)
    else:  # a little more than the map, since the land's last cell may end short of the edge
        around = (max(west - 0.2, -180.0), min(east + 0.2, 180.0), max(south - 0.2, -90.0), min(north + 0.2, 90.0))
        cells = _land(around, max(1 / 36, max(around[1] - around[0], around[3] - around[2]) / 600))
    colours = LinearSegmentedColormap.from_list("ground", [_OCEAN, land])
    draw_cells(axes, view, *cells, cmap=colours, vmin=0, vmax=1, zorder=1)
    if east - west < 8.0:  # nearer than the coastlines are drawn for
        axes.contour(*cells, levels=[0.5], colors=_COAST, linewidths=0.6, zorder=4)
    else:
        for line in coastlines("110m" if view.is_global else "50m"):
            axes.plot(*view.lines(line[:, 0], line[:, 1]), color=_COAST, linewidth=0.45, zorder=4)
    _draw_graticule(axes, view, label_latitude, lines)
    axes.spines["geo"].set_linewidth(0.7)
    axes.set_aspect("auto")
    axes.set_xlim(*view.box[:2])
    axes.set_ylim(*view.box[2:])


def _draw_graticule(axes: GeoAxes, view: View, label_latitude: bool, lines: int) -> None:
    west, east, south, north = view.extent
    if view.is_global:
        meridians, parallels = np.arange(-120.0, 121.0, 60.0), np.arange(-60.0, 61.0, 30.0)
    else:
        locator = MaxNLocator(lines, steps=[1, 2, 3, 5, 6, 10])
        meridians, parallels = locator.tick_values(west, east), locator.tick_values(south, north)
    along = np.linspace(0.0, 1.0, 91)
    thin = {"color": _LINES, "linewidth": 0.3, "zorder": 3, "alpha": 0.6}
    text = {"fontsize": 8.5, "color": "#444444", "annotation_clip": False, "textcoords": "offset points"}
    for lon in meridians[(meridians > west) & (meridians < east)]:
        x, y = view.lines(np.full(91, lon), south + along * (north - south))
        axes.plot(x, y, **thin)
        # a label at a panel's corner would run into the next panel's
        if lon % 120.0 == 0.0 if view.is_global else 0.1 < (lon - west) / (east - west) < 0.9:
            axes.annotate(_degrees(lon, "E", "W"), (x[0], y[0]), (0, -3), ha="center", va="top", **text)
    for lat in parallels[(parallels >= south) & (parallels <= north)]:
        x, y = view.lines(west + along * (east - west), np.full(91, lat))
        axes.plot(x, y, **thin)
        if label_latitude:
            # the globe's outline leans away from the equator: keep the labels of the high latitudes off it
            side = "center" if not view.is_global or lat == 0 else "bottom" if lat > 0 else "top"
            axes.annotate(_degrees(lat, "N", "S"), (x[0], y[0]), (-3, 0), ha="right", va=side, **text)


def _degrees(value: float, positive: str, negative: str) -> str:
    return f"{abs(value):.4g}°{positive if value > 0 else negative if value < 0 else ''}"
