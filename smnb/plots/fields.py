"""What static and interactive figures share: checked fields, colour scales, units and coarsening."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from smnb.contract import ContractError, ParameterError
from smnb.metrics import Metric

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
                    what, step = (
                        f"{name!r} of {named} is out of order or range, or absent",
                        "smnb.contract.orient_lat_lon",
                    )
                    expected = f"ascending within ±{bound:g}"
                    raise ContractError(who, what, expected=expected, next_step=f"Pass it through {step}")
        elif field.shape != first.shape or not all(np.allclose(field[d], first[d], atol=1e-6) for d in ("lat", "lon")):
            what, next_step = f"{named} has another shape or lies on another grid", "Regrid it with smnb.grids"
            raise ContractError(who, what, got=field.shape, expected=first.shape, next_step=next_step)
        array = np.asarray(field.values, dtype="float64")
        if np.isinf(array).any():
            raise ContractError(who, f"{named} holds infinite values", got=int(np.isinf(array).sum()))
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
    who: str, fields: Mapping[str, xr.DataArray], differences: Mapping[str, xr.DataArray] | None
) -> tuple[Grid, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Check fields and their differences as one set, and return the grid and the values of each."""
    differences = differences or {}
    if twice := sorted(set(fields) & set(differences)):
        raise ContractError(who, "a field and a difference have the same title", got=twice)
    # a figure of differences alone has no scale to be judged by
    grid = check_fields(who, {**fields, **differences} if fields else {})
    return grid, {t: grid.values[t] for t in fields}, {t: grid.values[t] for t in differences}


def difference_groups(contrasts: Mapping[Any, np.ndarray], units: str) -> list[Group]:
    """Group differences, where there are any, on a symmetric scale."""
    if not contrasts:
        return []
    limit = symmetric_limit(contrasts.values())
    return [Group(contrasts, (-limit, limit), DIFFERENCE_CMAP, "Difference", units)]


def units_of(who: str, given: str | None, fields: Mapping[str, xr.DataArray]) -> str:
    """Return the unit given, else that of the first field; `ContractError` where there is none."""
    title, first = next(iter(fields.items()))
    if given is None and "units" not in first.attrs:
        raise ContractError(who, f"{title!r} has no units", next_step="Set its attribute units, or pass units=")
    return given if given is not None else str(first.attrs["units"])


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
    blocks = xr.Variable(("y", "x", *"c"[: array.ndim - 2]), array).coarsen(
        {"y": factor, "x": factor}, func="mean", boundary="pad"
    )
    return blocks.values
