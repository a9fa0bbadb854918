"""Interactive twins of the static figures (hvplot, geoviews and holoviews on bokeh), small enough to live in a notebook.

A twin takes what its figure has checked, scaled and sorted: the two show the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import cartopy.crs as ccrs
import geoviews as gv
import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from bokeh.models import HoverTool
from hvplot import hvPlot, hvPlotTabular

from smnb.plots import ground
from smnb.plots.display import LINES
from smnb.plots.ground import Grid, Group, coastlines, mean_of_blocks, pretty_units, shown_extent, with_units

_FONTS = {"title": "10pt", "labels": "10pt", "ticks": "9pt"}
_LOOK = {"default_tools": ["pan", "wheel_zoom", "box_zoom", "save", "reset"], "active_tools": ["pan"]}
_LOOK |= {"fontsize": _FONTS, "backend": "bokeh"}
_WIDE = {"frame_width": 560, "frame_height": 260, "fontsize": _FONTS, "grid": True, "legend": "right"}
_COLOURS = [colour for colour, _ in LINES]
_MOST_CELLS = 64_800  # most cells of a map: one degree for the globe


@lru_cache(maxsize=1)
def renderer() -> Any:
    """Return holoviews' bokeh renderer without loading an extension, which would print its JavaScript.

    No figure zooms by the wheel from the start: it would catch the page's scrolling.
    """
    import geoviews.plotting.bokeh  # noqa: F401 (registers how geoviews' elements are drawn)

    hv.Store.set_current_backend("bokeh")
    kinds = (hv.opts.Curve, hv.opts.Scatter, hv.opts.Points, hv.opts.Image, hv.opts.QuadMesh, hv.opts.NdOverlay)
    hv.opts.defaults(*(kind(active_tools=["pan"]) for kind in (*kinds, hv.opts.Overlay)))
    return hv.renderer("bokeh")


def register_hvplot() -> None:
    """Give pandas and xarray objects ``.hvplot`` as ``import hvplot.pandas`` does, without its megabytes of JavaScript."""
    renderer()
    for kind in (pd.DataFrame, pd.Series):
        kind.hvplot = property(hvPlotTabular)
    if not hasattr(xr.DataArray, "hvplot"):
        xr.register_dataarray_accessor("hvplot")(hvPlot)
        xr.register_dataset_accessor("hvplot")(hvPlot)


def _layout(panels: list[Any], columns: int) -> hv.Layout | hv.Overlay:
    if len(panels) == 1:
        return panels[0]
    return hv.Layout(panels).cols(columns).opts(hv.opts.Layout(shared_axes=True, merge_tools=True, backend="bokeh"))


def _bar_below(title: str) -> dict[str, Any]:
    look = {"title": title, "height": 10, "title_text_font_style": "normal"}
    return {"colorbar": True, "colorbar_position": "bottom", "colorbar_opts": look, "backend": "bokeh"}


def _decimals(step: float, more: int = 0) -> str:
    """Format of a number under the pointer that tells values a step apart."""
    return f"{{0.{'0' * (max(0, -math.floor(math.log10(step))) + more)}}}"


def maps(grid: Grid, groups: list[Group], columns: int, said: str) -> hv.Layout:
    """Linked maps (plate carrée) that show longitude, latitude and value under the pointer.

    A fine grid is averaged in blocks, which keeps them small; the colour scales come from the full fields.
    """
    small, geographic = ground.block_mean(grid, _MOST_CELLS), ccrs.PlateCarree()
    panels: list[Any] = []
    for group in groups:
        # each scale begins a row of its own
        panels += [hv.Empty()] * (-len(panels) % columns)
        (low, high), units = group.limits, pretty_units(group.units)
        # a power of two leaves trailing zero bits, which compress; a 2000th of the scale is finer than its colours
        quantum = 2.0 ** math.floor(math.log2((high - low) / 2000))
        value = f"@image{_decimals(quantum * 2)} {units}"
        hover = HoverTool(tooltips=[("lat", "$y{0.00}°"), ("lon", "$x{0.00}°"), (group.label, value)])
        dimension = hv.Dimension("value", label=group.label, unit=units or None)
        look = {"cmap": group.cmap, "clim": group.limits, "clipping_colors": {"NaN": "transparent"}, "tools": [hover]}
        look |= {"projection": geographic} | _bar_below(with_units(group.label, group.units))
        for title in group.values:
            kept = (np.round(small.values[title] / quantum) * quantum).astype("float32")
            image = gv.Image((small.lon, small.lat, kept), ["lon", "lat"], [dimension], crs=geographic)
            panels.append(_framed(grid, title + said, image.opts(**look) * _coast(grid)))
    return _layout(panels, columns)


def _framed(grid: Grid, title: str, drawn: hv.Overlay, width: int = 360) -> hv.Overlay:
    """Plate carrée in its own aspect; a region's degrees of longitude are narrower than of latitude."""
    west, east, south, north = shown_extent(grid)
    middle = 1.0 if grid.is_global else math.cos(math.radians((south + north) / 2))
    height = min(600, round(width * (north - south) / ((east - west) * middle)))
    frame = {"xlim": (west, east), "ylim": (south, north), "frame_width": width, "frame_height": height}
    frame |= {"bgcolor": "#e6edf2", "xlabel": "longitude (°)", "ylabel": "latitude (°)"} | _LOOK
    return drawn.opts(hv.opts.Overlay(title=title, **frame))


def _coast(grid: Grid) -> gv.Path:
    """The coasts of a grid's extent as one path with NaN between lines: far smaller than a list of them."""
    west, east, south, north = shown_extent(grid)
    pieces = [np.full((1, 2), np.nan)]
    for line in coastlines("110m" if east - west > 180.0 else "50m"):
        x, y = line[:, 0], line[:, 1]
        inside = (x >= west - 1) & (x <= east + 1) & (y >= south - 1) & (y <= north + 1)
        if inside.any():
            pieces += [np.where(inside[:, None], line, np.nan), np.full((1, 2), np.nan)]
    path = np.round(np.concatenate(pieces), 2).astype("float32")
    look = {"color": "#303030", "line_width": 0.7, "projection": ccrs.PlateCarree(), "backend": "bokeh"}
    return gv.Path([path], ["lon", "lat"], crs=ccrs.PlateCarree()).opts(**look)


def places(table: pd.DataFrame, grid: Grid, looks: Sequence[dict[str, Any]]) -> hv.Layout | hv.Overlay:
    """Linked maps of points, a panel a look, which colours by its column ``c`` and tells ``hover_cols`` by the pointer."""
    panels = []
    for look in looks:
        size = {"size": 40, "line_color": "black", "line_width": 0.3}
        drawn = hvPlotTabular(table.dropna(subset=look["c"])).points("lon", "lat", geo=True, **size, **look)
        panels.append(_framed(grid, look["title"], _coast(grid) * drawn, 420))
    return _layout(panels, 2)


def density(
    panels: Mapping[str, Any], edges: np.ndarray, most: float, xlabel: str, ylabel: str, units: str, said: str
) -> hv.Layout | hv.Overlay:
    """The histogram of prediction against reference as images; their size is bounded by the bins, however many pairs."""
    centres = (edges[1:] + edges[:-1]) / 2
    low, high = float(edges[0]), float(edges[-1])
    number = f"{_decimals(edges[1] - edges[0], 1)} {pretty_units(units)}"
    shown = [("reference", f"$x{number}"), ("prediction", f"$y{number}"), ("pairs", "@image{0,0}")]
    frame = {f"{axis}lim": (low, high) for axis in "xy"} | {f"frame_{side}": 320 for side in ("width", "height")}
    frame |= {"xlabel": xlabel, "ylabel": ylabel} | _LOOK
    look = {"cmap": "viridis", "cnorm": "log", "clim": (1, most), "clipping_colors": {"NaN": "transparent"}}
    drawn = []
    for name, one in panels.items():
        counts = (centres, centres, one.counts.astype("float32"))
        image = hv.Image(counts, ["reference", "prediction"], "pairs")
        image = image.opts(tools=[HoverTool(tooltips=shown)], cformatter="%d", **look, **_bar_below("Pairs in a bin"))
        same = hv.Curve([(low, low), (high, high)], "reference", "prediction").opts(color="black", backend="bokeh")
        fit = hv.Curve([(v, one.slope * v + one.intercept) for v in (low, high)], "reference", "prediction")
        fit = fit.opts(color="#D55E00", line_dash="dashed", line_width=2, backend="bokeh")
        box = hv.Text(low + 0.03 * (high - low), high - 0.03 * (high - low), "\n".join(one.lines()))
        box = box.opts(text_align="left", text_baseline="top", text_font_size="9pt", backend="bokeh")
        drawn.append((image * same * fit * box).opts(hv.opts.Overlay(title=(name or "Prediction") + said, **frame)))
    return _layout(drawn, min(2, len(drawn)))


def lines(table: pd.DataFrame, x: str, y: Sequence[str], title: str, **axes: Any) -> hv.Overlay:
    """Columns of a table as lines, with values under the pointer."""
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(y))]
    return hvPlotTabular(table).line(x=x, y=list(y), color=colours, title=title, **axes, **_WIDE)


def sensors_in_time(panels: Mapping[str, Mapping[str, pd.Series]], ylabel: str, said: str) -> hv.Layout | hv.Overlay:
    """What was observed and predicted, a panel a sensor, linked in time; the first line of each is what was observed."""
    drawn = []
    for sensor, series in panels.items():
        look = {"x": "time", "ylabel": ylabel, "title": f"{sensor}{said}"} | _WIDE | {"frame_height": 160}
        coloured = zip(series.items(), itertools.cycle(["black", *_COLOURS]), strict=False)
        full = (({"y": v.name, "label": n, "color": c}, v) for (n, v), c in coloured if len(v))
        drawn.append(hv.Overlay([hvPlotTabular(v.reset_index()).line(**one, **look) for one, v in full]))
    return _layout(drawn, 1)


def scatter(
    table: pd.DataFrame, y: str, panels: Sequence[dict[str, Any]], by: str | None, told: Sequence[str], **look: Any
) -> hv.Layout | hv.Overlay:
    """Points of a table, with what it has of `told` under the pointer; ``low`` and ``high`` are drawn as bars too."""
    table, drawn = table.dropna(subset=[y]), []
    told = [name for name in told if name in table and name != by]
    for panel in panels:
        shown = table[list(dict.fromkeys([panel["x"], y, *([by] if by else []), *told]))]
        points = hvPlotTabular(shown).scatter(y=y, by=by, hover_cols=told, **panel, **look, **_WIDE)
        if "low" in told:
            ends, x = shown.dropna(subset=["low", "high"]), panel["x"]
            bars = (ends[x], ends[y], ends[y] - ends["low"], ends["high"] - ends[y])
            points = points * hv.ErrorBars(bars, x, [y, "below", "above"])
        drawn.append(points)
    return _layout(drawn, 1)


def images(rows: Mapping, columns: Sequence, scales: Sequence, side_km: float | None, said: str) -> hv.Layout:
    """The images as panels, linked in zoom and pan, with values under the pointer.

    Images of more than 160 pixels a side are averaged in blocks: the notebook that holds them stays small.
    """
    panels: list[Any] = []
    side, unit = (1.0, "") if side_km is None else (side_km, "km")
    place = {"kdims": ["east", "north"], "bounds": (0.0, 0.0, side, side)}
    for name, row in rows.items():
        for image, column, limits in zip(row, columns, scales, strict=True):
            block = math.ceil(max(image.shape[:2]) / 160)
            height, width = (size // block * block for size in image.shape[:2])
            image = mean_of_blocks(image[:height, :width], block)
            common = {"width": 270, "height": 230, "title": f"{column.title}, {name}{said}"}
            common |= {"xlabel": unit, "ylabel": unit}
            if limits is None:
                element = hv.RGB(np.nan_to_num(image).clip(0, 1), **place)
            else:
                value = hv.Dimension("value", label=column.label or column.title, unit=column.units)
                element = hv.Image(image, vdims=[value], **place)
                common |= {"cmap": column.cmap, "clim": limits, "colorbar": True, "tools": ["hover"]}
            panels.append(element.opts(**common))
    return hv.Layout(panels).cols(len(columns)).opts(shared_axes=True)
