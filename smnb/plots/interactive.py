"""Interactive figures (geoviews and holoviews on bokeh), small enough to live in a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cartopy.crs as ccrs
import geoviews as gv
import holoviews as hv
import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from bokeh.models import HoverTool
from numpy.typing import ArrayLike

from smnb.contract import ParameterError, synthetic_label
from smnb.plots.charts import DENSITY_CMAP, LINES, bin_pairs, check_series, score_lines
from smnb.plots.coast import coastlines
from smnb.plots.fields import (
    DIFFERENCE_CMAP,
    OTHER_CMAP,
    SOIL_MOISTURE_CMAP,
    Grid,
    block_mean,
    check_comparison,
    check_limits,
    pretty_units,
    shared_scale,
    shown_extent,
    symmetric_limit,
    with_units,
)
from smnb.plots.maps import group_by_unit

#: No wheel zoom from the start: it would catch the page's scrolling.
_TOOLS = {"default_tools": ["pan", "wheel_zoom", "box_zoom", "save", "reset"], "active_tools": ["pan"]}
_FONTS = {"title": "10pt", "labels": "10pt", "ticks": "9pt"}


@lru_cache(maxsize=1)
def renderer() -> Any:
    """Return holoviews' bokeh renderer without loading an extension, which would print its JavaScript."""
    import geoviews.plotting.bokeh  # noqa: F401 (registers how geoviews' elements are drawn)

    hv.Store.set_current_backend("bokeh")
    return hv.renderer("bokeh")


def interactive_maps(
    fields: Mapping[str, xr.DataArray],
    *,
    units: str,
    label: str = "Soil moisture",
    differences: Mapping[str, xr.DataArray] | None = None,
    cmap: str = SOIL_MOISTURE_CMAP,
    difference_cmap: str = DIFFERENCE_CMAP,
    limits: tuple[float, float] | None = None,
    difference_limit: float | None = None,
    columns: int = 2,
    max_cells: int = 64_800,
    synthetic: bool = False,
) -> hv.Layout:
    """Return linked maps that show longitude, latitude and value under the pointer: the twin of `static_maps`.

    A fine grid is averaged in blocks down to `max_cells` a map (180 × 360: 1 degree for the globe), and values are
    kept to a 2000th of the scale, which is what makes them small; the colour scales come from the full fields, so that
    they are those of `static_maps`. The projection is plate carrée, drawn as an image.

    Parameters
    ----------
    fields, units, label, differences, cmap, difference_cmap, limits, difference_limit, synthetic
        As in `static_maps`.
    columns : int
        Maps a row.
    max_cells : int
        Most cells a map.

    Returns
    -------
    holoviews.Layout
        Of geoviews elements, whose pan and zoom move together.

    Raises
    ------
    ContractError
        As `static_maps`, and for a grid that is not evenly spaced.
    ParameterError
        For an unknown colour map, or limits that are no scale.
    """
    who = "interactive_maps"
    grid, shown, contrasts = check_comparison(who, fields, differences)
    groups = [(shown, shared_scale(who, shown.values(), limits), cmap, label)]
    if contrasts:
        limit = difference_limit if difference_limit is not None else symmetric_limit(contrasts.values())
        check_limits(who, (-limit, limit))
        groups.append((contrasts, (-limit, limit), difference_cmap, "Difference"))
    small = block_mean(who, grid, max_cells)
    extent = shown_extent(grid)
    maps: list[Any] = []
    for titles, scale, colours, name in groups:
        # differences begin a row of their own
        maps += [hv.Empty()] * (-len(maps) % columns)
        for title in titles:
            full = title + synthetic_label(synthetic)
            maps.append(_map(who, small, small.values[title], extent, full, scale, colours, name, units))
    return _layout(maps, columns)


def interactive_image_panels(
    panels: Mapping[str, xr.DataArray] | xr.DataArray,
    *,
    dim: str = "channel",
    label: str | Mapping[str, str] = "Brightness temperature",
    cmap: str = OTHER_CMAP,
    limits: Mapping[str, tuple[float, float]] | None = None,
    columns: int = 2,
    max_cells: int = 64_800,
    synthetic: bool = False,
) -> hv.Layout:
    """Return linked maps of a stack of images, with one colour scale for each unit: the twin of `image_panels`."""
    who = "interactive_image_panels"
    by_unit, grid = group_by_unit(who, panels, dim)
    small, extent = block_mean(who, grid, max_cells), shown_extent(grid)
    maps = []
    for unit, titles in by_unit.items():
        scale = shared_scale(who, [grid.values[t] for t in titles], (limits or {}).get(unit))
        name = label if isinstance(label, str) else label.get(unit, "Value")
        maps += [
            _map(who, small, small.values[t], extent, t + synthetic_label(synthetic), scale, cmap, name, unit)
            for t in titles
        ]
    return _layout(maps, columns)


def _layout(maps: list[Any], columns: int) -> hv.Layout:
    return hv.Layout(maps).cols(columns).opts(hv.opts.Layout(shared_axes=True, merge_tools=True, backend="bokeh"))


def _map(
    who: str,
    grid: Grid,
    values: np.ndarray,
    extent: tuple[float, float, float, float],
    title: str,
    scale: tuple[float, float],
    cmap: str,
    label: str,
    units: str,
) -> hv.Overlay:
    renderer()
    if cmap not in mpl.colormaps:
        raise ParameterError(who, "unknown colour map", got=cmap, next_step="See matplotlib.colormaps")
    west, east, south, north = extent
    # a power of two leaves trailing zero bits, which compress; a 2000th of the scale is finer than its colours
    quantum = 2.0 ** math.floor(math.log2((scale[1] - scale[0]) / 2000))
    kept = (np.round(values / quantum) * quantum).astype("float32")
    digits = max(0, -math.floor(math.log10(quantum * 2)))
    hover = HoverTool(
        tooltips=[
            ("lat", "$y{0.00}°"),
            ("lon", "$x{0.00}°"),
            (label, f"@image{{0.{'0' * digits}}} {pretty_units(units)}"),
        ]
    )
    width = 360
    # plate carrée in its own aspect; a region's degrees of longitude are narrower than its degrees of latitude
    middle = 1.0 if grid.is_global else math.cos(math.radians((south + north) / 2))
    height = min(600, round(width * (north - south) / ((east - west) * middle)))
    shared = {"projection": ccrs.PlateCarree(), "backend": "bokeh"}
    dimension = hv.Dimension("value", label=label, unit=pretty_units(units) or None)
    picture = gv.Image((grid.lon, grid.lat, kept), ["lon", "lat"], [dimension], crs=ccrs.PlateCarree()).opts(
        cmap=cmap,
        clim=scale,
        colorbar=True,
        colorbar_position="bottom",
        clipping_colors={"NaN": "transparent"},
        colorbar_opts={"title": with_units(label, units), "height": 10, "title_text_font_style": "normal"},
        tools=[hover],
        **shared,
    )
    coast = gv.Path([_coast_path(extent)], ["lon", "lat"], crs=ccrs.PlateCarree()).opts(
        color="#303030", line_width=0.7, **shared
    )
    return (picture * coast).opts(
        hv.opts.Overlay(
            title=title,
            xlim=(west, east),
            ylim=(south, north),
            frame_width=width,
            frame_height=height,
            bgcolor="#e6edf2",
            fontsize=_FONTS,
            xlabel="longitude (°)",
            ylabel="latitude (°)",
            backend="bokeh",
            **_TOOLS,
        )
    )


def _coast_path(extent: tuple[float, float, float, float]) -> np.ndarray:
    """Return the coasts of `extent` as one (N, 2) path with NaN between lines: far smaller than a list of them."""
    west, east, south, north = extent
    pieces = []
    for line in coastlines("110m" if east - west > 180.0 else "50m"):
        inside = (
            (line[:, 0] >= west - 1) & (line[:, 0] <= east + 1) & (line[:, 1] >= south - 1) & (line[:, 1] <= north + 1)
        )
        if inside.any():
            pieces += [np.where(inside[:, None], line, np.nan), np.full((1, 2), np.nan)]
    return np.round(np.concatenate(pieces), 2).astype("float32") if pieces else np.full((1, 2), np.nan, "float32")


def interactive_density_scatter(
    pred: Mapping[str, ArrayLike] | ArrayLike,
    obs: Mapping[str, ArrayLike] | ArrayLike,
    *,
    units: str,
    label: str = "soil moisture",
    reference: str = "Reference",
    bins: int = 100,
    limits: tuple[float, float] | None = None,
    synthetic: bool = False,
) -> hv.Layout:
    """Return the histogram of prediction against reference as images: the twin of `density_scatter`.

    Its size is bounded by `bins`, however many pairs there are.
    """
    who = "interactive_density_scatter"
    renderer()
    densities, edges = bin_pairs(who, pred, obs, bins=bins, limits=limits)
    centres = (edges[1:] + edges[:-1]) / 2
    low, high = float(edges[0]), float(edges[-1])
    most = max(2.0, max(float(np.nanmax(d.counts, initial=1.0)) for d in densities.values()))
    digits = max(0, -math.floor(math.log10(edges[1] - edges[0]))) + 1
    number, shown = f"{{0.{'0' * digits}}}", pretty_units(units)
    panels = []
    for name, density in densities.items():
        hover = HoverTool(
            tooltips=[
                ("reference", f"$x{number} {shown}"),
                ("prediction", f"$y{number} {shown}"),
                ("pairs", "@image{0,0}"),
            ]
        )
        counts = (centres, centres, density.counts.astype("float32"))
        picture = hv.Image(counts, ["reference", "prediction"], "pairs").opts(
            cmap=DENSITY_CMAP,
            cnorm="log",
            clim=(1, most),
            colorbar=True,
            tools=[hover],
            clipping_colors={"NaN": "transparent"},
            colorbar_position="bottom",
            backend="bokeh",
            colorbar_opts={"title": "Pairs in a bin", "height": 10, "title_text_font_style": "normal"},
        )
        one = hv.Curve([(low, low), (high, high)], "reference", "prediction").opts(color="black", backend="bokeh")
        fit = hv.Curve([(v, density.slope * v + density.intercept) for v in (low, high)], "reference", "prediction")
        fit = fit.opts(color="#D55E00", line_dash="dashed", line_width=2, backend="bokeh")
        box = hv.Text(low + 0.03 * (high - low), high - 0.03 * (high - low), "\n".join(score_lines(density)))
        box = box.opts(text_align="left", text_baseline="top", text_font_size="9pt", backend="bokeh")
        panels.append(
            (picture * one * fit * box).opts(
                hv.opts.Overlay(
                    title=(name or "Prediction") + synthetic_label(synthetic),
                    xlim=(low, high),
                    ylim=(low, high),
                    frame_width=320,
                    frame_height=320,
                    xlabel=with_units(f"{reference} {label}", units),
                    ylabel=with_units(f"Predicted {label}", units),
                    fontsize=_FONTS,
                    backend="bokeh",
                    **_TOOLS,
                )
            )
        )
    return _layout(panels, min(2, len(panels)))


def interactive_series(
    table: pd.DataFrame,
    *,
    x: str,
    y: Mapping[str, str] | list[str],
    xlabel: str,
    ylabel: str,
    title: str,
    log_y: bool = False,
    synthetic: bool = False,
) -> hv.Overlay:
    """Return columns of a table as lines with values under the pointer: the twin of `series`."""
    renderer()
    names = check_series("interactive_series", table, x, y, log_y)
    curves = []
    for (column, name), (colour, style) in zip(names.items(), LINES * (len(names) // len(LINES) + 1), strict=False):
        dash = {"-": "solid", "--": "dashed", "-.": "dashdot", ":": "dotted"}[style]
        curve = hv.Curve((table[x].to_numpy(), table[column].to_numpy("float64")), "x", "y", label=name)
        curves.append(curve.opts(color=colour, line_dash=dash, line_width=2, tools=["hover"], backend="bokeh"))
    return hv.Overlay(curves).opts(
        hv.opts.Overlay(
            title=title + synthetic_label(synthetic),
            xlabel=xlabel,
            ylabel=ylabel,
            logy=log_y,
            frame_width=560,
            frame_height=260,
            show_grid=True,
            legend_position="right",
            fontsize=_FONTS,
            backend="bokeh",
            **_TOOLS,
        )
    )
