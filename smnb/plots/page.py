"""From longitude and latitude to the pixels of a page: the globe (Robinson) or a region (plate carrée)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cartopy.crs as ccrs
import numpy as np
from cartopy.mpl.geoaxes import GeoAxes

from smnb.plots.fields import Grid, shown_extent


@dataclass
class View:
    """Where on the globe a figure looks, and its warp from pixels of the page to longitude and latitude."""

    projection: ccrs.Projection
    extent: tuple[float, float, float, float]
    box: tuple[float, float, float, float]
    """Left, right, bottom, top in the projection's own units."""
    aspect: float
    """Width over height."""

    def lines(self, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the page, in the projection's own units."""
        points = self.projection.transform_points(ccrs.PlateCarree(), np.asarray(lon), np.asarray(lat))
        return points[:, 0], points[:, 1]

    def fit(self, axes: GeoAxes) -> None:
        """Make axes look at just this."""
        axes.spines["geo"].set_linewidth(0.7)
        axes.set_aspect("auto")
        axes.set_xlim(*self.box[:2])
        axes.set_ylim(*self.box[2:])


def view_of(grid: Grid) -> View:
    """Return the globe or a region, as a grid asks for."""
    extent = shown_extent(grid)
    west, east, south, north = extent
    if not grid.is_global:
        middle = np.cos(np.radians(np.clip((south + north) / 2, -80, 80)))
        aspect = (east - west) / (north - south) * middle
        return View(ccrs.PlateCarree(), extent, (west, east, south, north), aspect)
    projection = ccrs.Robinson()
    edge = projection.transform_points(ccrs.PlateCarree(), np.array([0.0, 0.0, 180.0]), np.array([south, north, 0.0]))
    box = (-edge[2, 0], edge[2, 0], edge[0, 1], edge[1, 1])
    return View(projection, extent, box, (box[1] - box[0]) / (box[3] - box[2]))


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


def to_page(view: View, lon: np.ndarray, lat: np.ndarray, values: np.ndarray) -> np.ndarray:
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
