"""Interactive twins of the static figures (hvplot, geoviews and holoviews on bokeh), small enough to live in a notebook.

A twin takes the arguments of the figure that it belongs to, after that figure has checked them, and has its scales.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import cartopy.crs as ccrs
import geoviews as gv
import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from bokeh.models import HoverTool
from hvplot import hvPlot, hvPlotTabular

from smnb.metrics import metric_list
from smnb.plots.canvas import LINES, look_of
from smnb.plots.charts import DENSITY_CMAP, bin_pairs, check_series
from smnb.plots.coast import coastlines
from smnb.plots.fields import (
    Grid,
    Group,
    block_mean,
    check_comparison,
    group_by_unit,
    group_comparison,
    mean_of_blocks,
    metric_label,
    pretty_units,
    shown_extent,
    units_of,
    with_units,
)
from smnb.plots.images import check_images
from smnb.plots.places import area_of, kinds_of, score_scale, scores_by_place
from smnb.plots.scores import in_order, with_gaps

_FONTS = {"title": "10pt", "labels": "10pt", "ticks": "9pt"}
_LOOK = {"default_tools": ["pan", "wheel_zoom", "box_zoom", "save", "reset"], "active_tools": ["pan"]}
_LOOK |= {"fontsize": _FONTS, "backend": "bokeh"}
_WIDE = {"frame_width": 560, "frame_height": 260, "fontsize": _FONTS, "grid": True, "legend": "right"}
#: Most cells of a map: one degree for the globe.
_MOST_CELLS = 64_800


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


def _layout(panels: list[Any], columns: int) -> hv.Layout:
    return hv.Layout(panels).cols(columns).opts(hv.opts.Layout(shared_axes=True, merge_tools=True, backend="bokeh"))


def static_maps_twin(a: SimpleNamespace) -> hv.Layout:
    """Linked maps (plate carrée) that show longitude, latitude and value under the pointer.

    A fine grid is averaged in blocks, which keeps them small; the colour scales come from the full fields.
    """
    who = "static_maps"
    grid, shown, contrasts = check_comparison(who, a.fields, a.differences)
    units = units_of(who, a.units, a.fields)
    return _maps(grid, group_comparison(who, shown, contrasts, a.limits, a.cmap, a.label, units), a)


def image_panels_twin(a: SimpleNamespace) -> hv.Layout:
    """Linked maps of a stack of images, with one colour scale for each unit."""
    return _maps(*group_by_unit("image_panels", a.panels, a.label, a.limits), a)


def _maps(grid: Grid, groups: list[Group], a: SimpleNamespace) -> hv.Layout:
    small, extent, columns = block_mean(grid, _MOST_CELLS), shown_extent(grid), a.columns or 2
    panels: list[Any] = []
    for group in groups:
        # each scale begins a row of its own
        panels += [hv.Empty()] * (-len(panels) % columns)
        panels += [_map(small, title, extent, title + a.said, group) for title in group.values]
    return _layout(panels, columns)


def _frame(extent: tuple[float, float, float, float], is_global: bool, width: int = 360) -> dict[str, Any]:
    """Options of a map: plate carrée in its own aspect; a region's degrees of longitude are narrower than of latitude."""
    west, east, south, north = extent
    middle = 1.0 if is_global else math.cos(math.radians((south + north) / 2))
    height = min(600, round(width * (north - south) / ((east - west) * middle)))
    frame = {"xlim": (west, east), "ylim": (south, north), "frame_width": width, "frame_height": height}
    return frame | {"bgcolor": "#e6edf2", "xlabel": "longitude (°)", "ylabel": "latitude (°)"} | _LOOK


def _map(grid: Grid, name: str, extent: tuple[float, float, float, float], title: str, group: Group) -> hv.Overlay:
    (low, high), label, units = group.limits, group.label, group.units
    # a power of two leaves trailing zero bits, which compress; a 2000th of the scale is finer than its colours
    quantum = 2.0 ** math.floor(math.log2((high - low) / 2000))
    kept = (np.round(grid.values[name] / quantum) * quantum).astype("float32")
    number = f"{{0.{'0' * max(0, -math.floor(math.log10(quantum * 2)))}}}"
    shown = [("lat", "$y{0.00}°"), ("lon", "$x{0.00}°"), (label, f"@image{number} {pretty_units(units)}")]
    dimension = hv.Dimension("value", label=label, unit=pretty_units(units) or None)
    picture = gv.Image((grid.lon, grid.lat, kept), ["lon", "lat"], [dimension], crs=ccrs.PlateCarree()).opts(
        cmap=group.cmap,
        clim=(low, high),
        clipping_colors={"NaN": "transparent"},
        tools=[HoverTool(tooltips=shown)],
        projection=ccrs.PlateCarree(),
        **_bar_below(with_units(label, units)),
    )
    return (picture * _coast(extent)).opts(hv.opts.Overlay(title=title, **_frame(extent, grid.is_global)))


def _bar_below(title: str) -> dict[str, Any]:
    look = {"title": title, "height": 10, "title_text_font_style": "normal"}
    return {"colorbar": True, "colorbar_position": "bottom", "colorbar_opts": look, "backend": "bokeh"}


def _coast(extent: tuple[float, float, float, float]) -> gv.Path:
    """The coasts of `extent` as one path with NaN between lines: far smaller than a list of them."""
    west, east, south, north = extent
    pieces = [np.full((1, 2), np.nan)]
    for line in coastlines("110m" if east - west > 180.0 else "50m"):
        x, y = line[:, 0], line[:, 1]
        inside = (x >= west - 1) & (x <= east + 1) & (y >= south - 1) & (y <= north + 1)
        if inside.any():
            pieces += [np.where(inside[:, None], line, np.nan), np.full((1, 2), np.nan)]
    path = np.round(np.concatenate(pieces), 2).astype("float32")
    look = {"color": "#303030", "line_width": 0.7, "projection": ccrs.PlateCarree(), "backend": "bokeh"}
    return gv.Path([path], ["lon", "lat"], crs=ccrs.PlateCarree()).opts(**look)


def _points(table: pd.DataFrame, title: str, **options: Any) -> hv.Overlay:
    """Places on a map with coasts, with every column given in ``hover_cols`` under the pointer."""
    grid = area_of(table["lat"].to_numpy("float64"), table["lon"].to_numpy("float64"))
    extent = shown_extent(grid)
    drawn = hvPlotTabular(table).points("lon", "lat", geo=True, size=40, line_color="black", line_width=0.3, **options)
    return (_coast(extent) * drawn).opts(hv.opts.Overlay(title=title, **_frame(extent, grid.is_global, 420)))


def sensor_map_twin(a: SimpleNamespace) -> hv.Overlay:
    """Places, with what is known of the sensor under the pointer."""
    kind, names = kinds_of(a.sensors, a.by)
    colours = {name: colour for name, (colour, _) in look_of(names).items()}
    told = [c for c in ("sensor_id", "network", "station", "depth", "climate", "side") if c in a.sensors and c != a.by]
    table = a.sensors[["lon", "lat", *told]].assign(**{a.by: kind.to_numpy()})
    for name in told:
        table[name] = table[name].astype(str)
    return _points(table, a.title + a.said, c=a.by, cmap=colours, hover_cols=told, legend="right")


def score_maps_twin(a: SimpleNamespace) -> hv.Layout:
    """Scores as coloured points, linked, with their values under the pointer."""
    chosen, panels = metric_list(a.metrics), []
    places = scores_by_place(a.scores, chosen)
    for one in chosen:
        shown = places.dropna(subset=[one.name])
        low, high, cmap = score_scale(one, shown[one.name].to_numpy("float64"), (a.limits or {}).get(one.name))
        title = f"{one.title} of each sensor" + (f", {a.model}" if a.model else "") + a.said
        others = [other.name for other in chosen]
        panels.append(
            _points(shown, title, c=one.name, cmap=cmap, clim=(low, high), hover_cols=others, clabel=metric_label(one))
        )
    return _layout(panels, 2)


def density_scatter_twin(a: SimpleNamespace) -> hv.Layout:
    """The histogram of prediction against reference as images; their size is bounded by the bins, however many pairs."""
    densities, edges = bin_pairs("density_scatter", a.pred, a.obs, bins=a.bins, limits=a.limits)
    centres = (edges[1:] + edges[:-1]) / 2
    low, high = float(edges[0]), float(edges[-1])
    most = max(2.0, max(float(np.nanmax(d.counts, initial=1.0)) for d in densities.values()))
    number = f"{{0.{'0' * (max(0, -math.floor(math.log10(edges[1] - edges[0]))) + 1)}}} {pretty_units(a.units)}"
    shown = [("reference", f"$x{number}"), ("prediction", f"$y{number}"), ("pairs", "@image{0,0}")]
    frame = {f"{axis}lim": (low, high) for axis in "xy"} | {f"frame_{side}": 320 for side in ("width", "height")}
    frame["xlabel"] = with_units(f"{a.reference} {a.label}", a.units)
    frame["ylabel"] = with_units(f"Predicted {a.label}", a.units)
    panels = []
    for name, density in densities.items():
        counts = (centres, centres, density.counts.astype("float32"))
        picture = hv.Image(counts, ["reference", "prediction"], "pairs").opts(
            cmap=DENSITY_CMAP,
            cnorm="log",
            clim=(1, most),
            tools=[HoverTool(tooltips=shown)],
            clipping_colors={"NaN": "transparent"},
            cformatter="%d",
            **_bar_below("Pairs in a bin"),
        )
        one = hv.Curve([(low, low), (high, high)], "reference", "prediction").opts(color="black", backend="bokeh")
        fit = hv.Curve([(v, density.slope * v + density.intercept) for v in (low, high)], "reference", "prediction")
        fit = fit.opts(color="#D55E00", line_dash="dashed", line_width=2, backend="bokeh")
        box = hv.Text(low + 0.03 * (high - low), high - 0.03 * (high - low), "\n".join(density.lines()))
        box = box.opts(text_align="left", text_baseline="top", text_font_size="9pt", backend="bokeh")
        panels.append(
            (picture * one * fit * box).opts(hv.opts.Overlay(title=(name or "Prediction") + a.said, **frame, **_LOOK))
        )
    return _layout(panels, min(2, len(panels)))


def series_twin(a: SimpleNamespace) -> hv.Overlay:
    """Columns of a table as lines, with values under the pointer."""
    names = check_series(a.table, a.x, a.y, a.log_y)
    shown = a.table[[a.x, *names]].rename(columns=names)
    colours = [colour for colour, _ in LINES * len(names)][: len(names)]
    axes = {"xlabel": a.xlabel, "ylabel": a.ylabel, "title": a.title + a.said, "logy": a.log_y}
    return hvPlotTabular(shown).line(x=a.x, y=list(names.values()), color=colours, **axes, **_WIDE)


def sensor_series_twin(a: SimpleNamespace) -> hv.Overlay:
    """Daily means of the readings and products."""
    daily = pd.DataFrame({"in situ": a.readings} | dict(a.products)).resample("1D").mean().rename_axis("time")
    there = [name for name in daily.columns if daily[name].notna().any()]
    axes = {"xlabel": "Date", "ylabel": with_units("Soil moisture", "m3 m-3"), "title": f"{a.title}, daily means"}
    shown = SimpleNamespace(table=daily.reset_index(), x="time", y=there, log_y=False, said=a.said, **axes)
    return series_twin(shown)


def prediction_series_twin(a: SimpleNamespace) -> hv.Layout:
    """What was observed and predicted, a panel a sensor, linked in time."""
    panels = []
    for sensor in a.sensors:
        lines = {"in situ": with_gaps(next(iter(a.tables.values())), sensor, "observed")}
        lines |= {name: with_gaps(table, sensor, "predicted") for name, table in a.tables.items()}
        colours = ["black", *(colour for colour, _ in LINES)]
        look = {"x": "time", "ylabel": with_units("Soil moisture", "m3 m-3"), "title": f"{sensor}{a.said}"}
        drawn = [
            hvPlotTabular(line).line(
                y=line.columns[1], label=name, color=colour, **look, **_WIDE | {"frame_height": 160}
            )
            for (name, line), colour in zip(lines.items(), colours * len(lines), strict=False)
            if len(line)
        ]
        panels.append(hv.Overlay(drawn))
    return _layout(panels, 1)


def sorted_scores_twin(a: SimpleNamespace) -> hv.Overlay:
    """The sorted scores, with the sensor and its score under the pointer."""
    (one,) = metric_list(a.metric)
    parts = [
        table[[one.name]].assign(model=name, rank=np.arange(1, len(table) + 1)).rename_axis("sensor").reset_index()
        for name, table in in_order(a.scores, one).items()
    ]
    said = (a.title or f"{one.title} of each sensor") + a.said
    axes = {"xlabel": f"Sensor, in the order of {next(iter(a.scores))}", "ylabel": metric_label(one), "title": said}
    colours = [colour for colour, _ in LINES[: len(parts)]]
    table = pd.concat(parts).dropna(subset=[one.name])
    return hvPlotTabular(table).scatter(
        "rank", one.name, by="model", hover_cols=["sensor"], color=colours, **axes, **_WIDE
    )


def score_boxes_twin(a: SimpleNamespace) -> hv.Layout:
    """The sensors of each stratum as points, with their name under the pointer."""
    (one,) = metric_list(a.metric)
    told = "sensor_id"
    table = pd.concat([part.assign(model=name) for name, part in a.scores.items()]).dropna(subset=[one.name])
    panels = []
    for column, title in a.by.items():
        shown = table[[c for c in (column, "model", one.name, told) if c in table]].fillna({column: "none"})
        axes = {"xlabel": title, "ylabel": metric_label(one), "title": title + a.said, "rot": 30}
        hover = {"hover_cols": [told] if told in shown else []}
        panels.append(hvPlotTabular(shown).scatter(column, one.name, by="model", alpha=0.6, **hover, **axes, **_WIDE))
    return _layout(panels, 1)


def method_scores_twin(a: SimpleNamespace) -> hv.Overlay:
    """Every image of every method, with what is known of it under the pointer."""
    told = [name for name in ("time", "sensor_id", "place", "side") if name in a.table and name != a.group]
    shown = a.table[["method", a.group, a.value, *told]].dropna(subset=[a.value])
    axes = {"xlabel": "", "ylabel": a.xlabel, "title": a.title + a.said, "rot": 20}
    return hvPlotTabular(shown).scatter("method", a.value, by=a.group, alpha=0.6, hover_cols=told, **axes, **_WIDE)


def interval_rows_twin(a: SimpleNamespace) -> hv.Overlay:
    """The values as points and their intervals as bars, with the numbers under the pointer."""
    shown = a.table[[a.label, a.value, "low", "high", *([a.group] if a.group else [])]].dropna(subset=[a.value])
    axes = {"xlabel": "", "ylabel": a.xlabel, "title": a.title + a.said, "rot": 30}
    points = hvPlotTabular(shown).scatter(a.label, a.value, by=a.group, hover_cols=["low", "high"], **axes, **_WIDE)
    ends = shown.dropna(subset=["low", "high"])
    below, above = ends[a.value] - ends["low"], ends["high"] - ends[a.value]
    return points * hv.ErrorBars((ends[a.label], ends[a.value], below, above), a.label, [a.value, "below", "above"])


def image_rows_twin(a: SimpleNamespace) -> hv.Layout:
    """The images as panels, linked in zoom and pan, with values under the pointer.

    Images of more than 160 pixels a side are averaged in blocks: the notebook that holds them stays small.
    """
    checked = check_images(a.rows, a.columns)
    for images in checked.values():
        for n, image in enumerate(images):
            block = math.ceil(max(image.shape[:2]) / 160)
            rows, columns = (size // block * block for size in image.shape[:2])
            images[n] = mean_of_blocks(image[:rows, :columns], block)
    panels: list[Any] = []
    scales = [column.scale([row[n] for row in checked.values()]) for n, column in enumerate(a.columns)]
    side, unit = (1.0, "") if a.side_km is None else (a.side_km, "km")
    bounds = (0.0, 0.0, side, side)
    for name, images in checked.items():
        for image, column, limits in zip(images, a.columns, scales, strict=True):
            common = {"width": 270, "height": 230, "title": f"{column.title}, {name}{a.said}"}
            common |= {"xlabel": unit, "ylabel": unit}
            if limits is None:
                element = hv.RGB(np.nan_to_num(image).clip(0, 1), kdims=["east", "north"], bounds=bounds)
                panels.append(element.opts(**common))
            else:
                value = hv.Dimension("value", label=column.label or column.title, unit=column.units)
                element = hv.Image(image, kdims=["east", "north"], vdims=[value], bounds=bounds)
                panels.append(element.opts(**common, cmap=column.cmap, clim=limits, colorbar=True, tools=["hover"]))
    return hv.Layout(panels).cols(len(a.columns)).opts(shared_axes=True)
