"""The ground that figures stand on: checked fields, colour scales, units; of maps the view, sea, land and coast.

Nothing is downloaded: coasts come from the Köppen map.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import cartopy.crs as ccrs
import contourpy
import numpy as np
import shapely
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from smnb.contract import ContractError, ParameterError, check_choice
from smnb.grids import koppen
from smnb.metrics import Metric

#: Coastlines by the Natural Earth scale that they stand in for: grid step, a whole number of the Köppen map's pixels of 1/36
#: degree, tolerance of the simplification (degrees both) and the smallest island kept (square degrees at the equator).
_SCALES = {"110m": (1 / 4, 0.12, 1.0), "50m": (1 / 12, 0.03, 0.02)}
_OCEAN, _LAND, _COAST, _LINES = "#e6edf2", "#c9c9c9", "#303030", "#8a8a8a"
_PAGE_COLUMNS = 1200
SOIL_MOISTURE_CMAP = "viridis_r"  # perceptually uniform, legible to the colour-blind: yellow is dry and dark is wet
DIFFERENCE_CMAP = "RdBu"  # red is drier and blue is wetter than the reference


class Grid(NamedTuple):
    """Checked fields on one grid."""

    lat: np.ndarray
    lon: np.ndarray
    values: dict[str, np.ndarray]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """West, east, south and north edges of the cells, degrees."""
        (west, east), (south, north) = edges(self.lon), edges(self.lat)
        return max(west, -180.0), min(east, 180.0), max(south, -90.0), min(north, 90.0)

    @property
    def is_global(self) -> bool:
        """Whether the grid spans enough longitudes to be shown as the globe."""
        west, east, _, _ = self.extent
        return east - west > 180.0


def edges(centres: np.ndarray) -> tuple[float, float]:
    """Low and high edge of cells; a lone one is a degree wide."""
    first, last = (np.diff(centres[[0, 1, -2, -1]])[[0, 2]] if centres.size > 1 else np.ones(2)) / 2
    return float(centres[0] - first), float(centres[-1] + last)


def check_fields(who: str, fields: Mapping[str, xr.DataArray]) -> Grid:
    """Check that the fields of one figure are (lat, lon), or (y, x) of an EASE-Grid, on one grid, each with something to show."""
    if not fields:
        raise ContractError(who, "there is no field to show", expected="a mapping of title to DataArray(lat, lon)")
    first: xr.DataArray | None = None
    values: dict[str, np.ndarray] = {}
    for title, field in fields.items():
        named = f"field {title!r}"
        along = {name: getattr(getattr(field, "coords", {}).get(name), "dims", ()) for name in ("lat", "lon")}
        if along == {"lat": ("y",), "lon": ("x",)}:
            field = field.swap_dims(y="lat", x="lon").sortby("lat")
        if not isinstance(field, xr.DataArray) or set(field.dims) != {"lat", "lon"}:
            got, next_step = getattr(field, "dims", type(field).__name__), "Select one time, channel or pass first"
            raise ContractError(who, f"{named} is not a map", got=got, expected=("lat", "lon"), next_step=next_step)
        field = field.transpose("lat", "lon")
        if first is None:
            first = field
            for name, bound in (("lat", 90.0), ("lon", 180.0)):
                centres = field[name].values if name in field.coords else np.empty(0)
                if centres.size == 0 or (np.diff(centres) <= 0).any() or np.abs(centres).max() > bound:
                    what, expected = (
                        f"{name!r} of {named} is out of order or range, or absent",
                        f"ascending within ±{bound:g}",
                    )
                    step = "Pass it through smnb.contract.orient_lat_lon"
                    raise ContractError(who, what, expected=expected, next_step=step)
        elif field.shape != first.shape or not all(np.allclose(field[d], first[d], atol=1e-6) for d in ("lat", "lon")):
            what, next_step = f"{named} has another shape or lies on another grid", "Regrid it with smnb.grids"
            raise ContractError(who, what, got=field.shape, expected=first.shape, next_step=next_step)
        array = np.asarray(field.values, dtype="float64")
        if infinite := int(np.isinf(array).sum()):
            raise ContractError(who, f"{named} holds infinite values", got=infinite)
        if not np.isfinite(array).any():
            what, next_step = f"{named} is missing everywhere", "Look at its masked_by, which counts why"
            raise ContractError(who, what, got=f"{array.size} NaN", next_step=next_step)
        values[title] = array
    return Grid(first["lat"].values.astype("float64"), first["lon"].values.astype("float64"), values)


class Group(NamedTuple):
    """Panels, by title, that share one colour scale and its bar."""

    values: dict[Any, np.ndarray]
    limits: tuple[float, float]
    cmap: str
    label: str
    units: str


def check_comparison(
    who: str, fields: Mapping[str, xr.DataArray], differences: Mapping[str, xr.DataArray]
) -> tuple[Grid, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Check fields and their differences as one set, and return the grid and the values of each."""
    if twice := sorted(set(fields) & set(differences)):
        raise ContractError(who, "a field and a difference have the same title", got=twice)
    # a figure of differences alone has no scale to be judged by
    grid = check_fields(who, {**fields, **differences} if fields else {})
    return grid, {t: grid.values[t] for t in fields}, {t: grid.values[t] for t in differences}


def difference_groups(contrasts: Mapping[Any, np.ndarray], units: str) -> list[Group]:
    """Group differences, where there are any, on a symmetric scale."""
    limit = symmetric_limit(contrasts.values()) if contrasts else 0.0
    return [Group(contrasts, (-limit, limit), DIFFERENCE_CMAP, "Difference", units)] if contrasts else []


def units_of(who: str, given: str | None, fields: Mapping[str, xr.DataArray]) -> str:
    """Return the unit given, else that of the first field; `ContractError` where there is none."""
    title, first = next(iter(fields.items()))
    if given is None and "units" not in first.attrs:
        raise ContractError(who, f"{title!r} has no units", next_step="Set its attribute units, or pass units=")
    return str(first.attrs["units"]) if given is None else given


def pretty_units(units: str) -> str:
    """Write a unit with raised exponents; the unit "1" is shown as nothing.

    Examples
    --------
    >>> pretty_units("m3 m-3"), pretty_units("mm day-1"), pretty_units("1")
    ('m³ m⁻³', 'mm day⁻¹', '')
    """
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return "" if units == "1" else re.sub(r"(?<=[^\s\d-])[-\d]+(?!\S)", lambda found: found[0].translate(raised), units)


def with_units(label: str, units: str) -> str:
    """Return ``label (units)``, or the label alone where the quantity has no unit."""
    shown = pretty_units(units)
    return f"{label} ({shown})" if shown else label


def metric_label(one: Metric) -> str:
    """What an axis calls a score."""
    return with_units(one.title, one.units)


def _finite(who: str, arrays: Iterable[np.ndarray]) -> np.ndarray:
    """All finite values of arrays of any shapes, shape (n,)."""
    flat = np.concatenate([np.asarray(a, dtype="float64").ravel() for a in arrays])
    flat = flat[np.isfinite(flat)]
    if flat.size == 0:
        raise ContractError(who, "there is no finite value to scale by", got="only NaN or infinity")
    return flat


def _nice(value: float, steps: tuple[float, ...]) -> float:
    """Return the smallest step times a power of ten that is not below `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (*steps, 10.0) if step * power >= value * (1 - 1e-9))


def nice_limits(
    arrays: Iterable[np.ndarray], *, percentiles: tuple[float, float] = (2.0, 98.0)
) -> tuple[float, float, float]:
    """Return low, high and step of a scale that all `arrays` share, in about six parts; missing values are left out.

    The scale lies between two percentiles of all values together, rounded outwards to whole multiples of the step.

    Examples
    --------
    >>> nice_limits([np.linspace(0.031, 0.447, 101)])
    (0.0, 0.5, 0.1)
    """
    low, high = np.percentile(_finite("nice_limits", arrays), percentiles)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        margin = 0.1 * abs(low) or 0.1
        low, high = low - margin, high + margin
    step = _nice((high - low) / 6, (1.0, 2.0, 2.5, 5.0))
    digits = 12 - math.floor(math.log10(step))
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return round(low, digits), round(high, digits), step


def symmetric_limit(arrays: Iterable[np.ndarray]) -> float:
    """Return a round L so that -L…L covers 98 % of the differences.

    Examples
    --------
    >>> symmetric_limit([np.linspace(-0.07, 0.05, 101)])
    0.08
    """
    sizes = np.abs(_finite("symmetric_limit", arrays))
    high = float(np.percentile(sizes, 98.0)) or float(sizes.max())
    # two identical fields still need a scale to say so on
    return float(f"{_nice(high, (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)):.12g}") if high > 0 else 0.01


def shared_scale(who: str, values: Iterable[np.ndarray], limits: tuple[float, float] | None) -> tuple[float, float]:
    """Return the limits given, once checked, or nice ones over all `values`."""
    if limits is None:
        return nice_limits(values)[:2]
    if len(limits) != 2 or not np.isfinite(limits).all() or limits[0] >= limits[1]:
        raise ParameterError(who, "limits of a scale are not a finite ascending pair", got=tuple(limits))
    return float(limits[0]), float(limits[1])


def shown_extent(grid: Grid) -> tuple[float, float, float, float]:
    """Extent of the map: the grid's, without the Antarctic where a global figure has nothing to show there."""
    if not grid.is_global:
        return grid.extent
    seen = np.any([np.isfinite(v).any(axis=1) for v in grid.values.values()], axis=0)
    southernmost = grid.lat[np.flatnonzero(seen)[0]]
    return -180.0, 180.0, (-60.0 if southernmost > -60.0 else -90.0), 90.0


def block_mean(grid: Grid, max_cells: int) -> Grid:
    """Average blocks of cells, leaving missing ones out, until a field has at most `max_cells`, on even steps.

    An image needs even steps; rows of EASE-Grid 2.0 are as high as their latitude asks for, and the nearest is taken.
    """
    factor = max(1, math.ceil(math.sqrt(grid.lat.size * grid.lon.size / max_cells)))
    coarse, nearest = [], []
    for centres in (grid.lat, grid.lon):
        even, step = np.linspace(centres[0], centres[-1], centres.size, retstep=True)
        nearest.append(np.abs(centres[None, :] - even[:, None]).argmin(1))
        coarse.append(even if factor == 1 else even[::factor] + step * (factor - 1) / 2)
    small = {title: mean_of_blocks(array[np.ix_(*nearest)], factor) for title, array in grid.values.items()}
    return Grid(*coarse, small)


def mean_of_blocks(array: np.ndarray, factor: int) -> np.ndarray:
    """Mean of the finite values of each block of `factor` x `factor` cells of the first two axes; the last may be less."""
    image = xr.Variable(("y", "x", *"c"[: array.ndim - 2]), array)
    return image.coarsen({"y": factor, "x": factor}, func="mean", boundary="pad").values


@lru_cache(maxsize=2)
def coastlines(resolution: str = "110m") -> tuple[np.ndarray, ...]:
    """Return the world's coastlines, for the globe or a region ("50m"), without touching the network.

    They are the half-land contour of the Köppen map, simplified and without tiny islands. `cartopy`'s own
    ``ax.coastlines()`` and geoviews' features download what they lack, so neither is used.

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
    ends = extent[:2], extent[2:]
    lon, lat = (low + step * (np.arange(np.ceil((high - low) / step - 0.5)) + 0.5) for low, high in ends)
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
