"""Static maps on a page 7 inches wide: fields on one colour scale, sensors, and how well each is predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.colors import LogNorm, Normalize

from smnb.contract import ContractError, ParameterError, check_table
from smnb.metrics import Metric, metric_list
from smnb.metrics.registry import MetricLike
from smnb.plots import display, ground
from smnb.plots.display import WIDTH, Picture, panel_title, picture, said
from smnb.plots.ground import SOIL_MOISTURE_CMAP, Grid, Group, View, draw_cells, metric_label, nice_limits, view_of

_LEFT, _RIGHT, _GAP, _LABELS, _BAR = 0.42, 0.12, 0.16, 0.22, 0.62
_MOST_NETWORKS = 10
_HIGHEST = 3.2  # inches that a map of places may be high: a higher one would take a page for a few points


@picture
def static_maps(
    fields: Mapping[str, xr.DataArray],
    *,
    units: str | None = None,
    label: str = "Soil moisture",
    differences: Mapping[str, xr.DataArray] | None = None,
    cmap: str = SOIL_MOISTURE_CMAP,
    limits: tuple[float, float] | None = None,
    columns: int | None = None,
) -> Picture:
    """Draw maps side by side on one colour scale, and their differences on one symmetric scale of their own.

    A grid of more than 180 degrees of longitude is drawn as the globe (Robinson; the Antarctic is left out where there
    is nothing to show), a smaller one as a region (plate carrée, true shape at its middle latitude). Missing land is
    grey, the sea light. The twin shows longitude, latitude and value under the pointer, its maps linked.

    Parameters
    ----------
    fields : mapping of str to DataArray (lat, lon)
        By title; all on one grid, ascending, in one unit.
    units, differences
        For the colour bars, default the attribute of the first field; fields in these units, by title, on the same grid.
    limits : (float, float), optional
        Colour scale; default the 2nd to 98th percentile over all fields, rounded outwards. Differences run from -L to L,
        the 98th percentile of their magnitudes, rounded up.
    """
    who = "static_maps"
    if cmap not in mpl.colormaps:
        raise ParameterError(who, "unknown colour map", got=cmap, next_step="See matplotlib.colormaps")
    grid, shown, contrasts = ground.check_comparison(who, fields, differences or {})
    units, scale = ground.units_of(who, units, fields), ground.shared_scale(who, shown.values(), limits)
    groups = [Group(shown, scale, cmap, label, units), *ground.difference_groups(contrasts, units)]
    return _draw(grid, groups, columns)


@picture
def image_panels(
    panels: Mapping[str, xr.DataArray] | xr.DataArray,
    *,
    label: str | Mapping[str, str] = "Brightness temperature",
    columns: int | None = None,
) -> Picture:
    """Draw a stack of images, such as one day's channels, with one colour scale for each unit among them.

    Parameters
    ----------
    panels : DataArray (channel, lat, lon) or mapping of str to DataArray (lat, lon)
        Each with its attribute ``units``; `label` is the quantity, or by unit.
    """
    who = "image_panels"
    if isinstance(panels, xr.DataArray):
        if "channel" not in panels.dims:
            raise ContractError(who, "no dimension 'channel'", got=panels.dims)
        names = [str(name) for name in panels["channel"].values]  # "6.9H" is read "6.9 GHz H"
        shown = [f"{name[:-1]} GHz {name[-1]}" if name[-1:] in ("H", "V") else name for name in names]
        units = {"units": panels.attrs["units"]} if "units" in panels.attrs else {}
        panels = {name: panels.isel(channel=i).assign_attrs(units) for i, name in enumerate(shown)}
    grid, by_unit = ground.check_fields(who, panels), {}
    for title, panel in panels.items():
        by_unit.setdefault(ground.units_of(who, None, {title: panel}), {})[title] = grid.values[title]
    groups = []
    for unit, shown in by_unit.items():
        named = label if isinstance(label, str) else label.get(unit, "Value")
        groups.append(Group(shown, nice_limits(shown.values())[:2], "plasma", named, unit))
    return _draw(grid, groups, columns)


@picture
def map_matrix(
    rows: Mapping[str, Mapping[str, xr.DataArray]],
    *,
    units: str | None = None,
    label: str = "Soil moisture",
    differences: Mapping[str, Mapping[str, xr.DataArray]] | None = None,
    title: str = "",
) -> Picture:
    """Draw the same fields of several regions below one another, on one scale, and their differences on another.

    Parameters
    ----------
    rows, differences : mapping of str to mapping of str to DataArray (lat, lon)
        By region, then by column title; every region has the same columns, and one grid of its own. Differences stand to the
        right, on a symmetric scale.
    """
    who = "map_matrix"
    differences = differences or {region: {} for region in rows}
    if not rows or set(differences) != set(rows):
        what = "fields and differences name other regions"
        raise ContractError(who, what, got=list(differences), expected=list(rows))
    checked = {region: ground.check_comparison(who, rows[region], differences[region]) for region in rows}
    columns = [list(next(iter(part.values()))) for part in (rows, differences)]
    for region in rows:
        if [list(rows[region]), list(differences[region])] != columns:
            what = f"region {region!r} has other columns"
            raise ContractError(who, what, got=list(rows[region]), expected=columns[0])
    units = ground.units_of(who, units, next(iter(rows.values())))
    shown, contrasts = ({(r, t): v for r, one in checked.items() for t, v in one[part].items()} for part in (1, 2))
    scale = nice_limits(shown.values())[:2]
    groups = [Group(shown, scale, SOIL_MOISTURE_CMAP, label, units), *ground.difference_groups(contrasts, units)]
    left, labels, count = 0.84, 0.24, sum(map(len, columns))
    width = (WIDTH - left - _RIGHT - _GAP * (count - 1)) / count
    views = {region: view_of(grid) for region, (grid, _, _) in checked.items()}
    above = 0.30 + (0.26 if said(title) else 0.0)
    total = above + sum(width / view.aspect + labels for view in views.values()) + _BAR
    figure = Picture(WIDTH, total)
    figure.head(title, x=left / WIDTH, centre=False)
    top = total - above
    for number, (region, view) in enumerate(views.items()):
        high = width / view.aspect
        place = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 10}
        figure.text(0.24 / WIDTH, (top - high / 2) / total, region, **place)
        panels = [(name, v, group) for group in groups for (r, name), v in group.values.items() if r == region]
        for column, (name, array, group) in enumerate(panels):
            place = {"projection": view.projection}
            axes = figure.axes_at(left + column * (width + _GAP), top - high, width, high, **place)
            look = {"label_latitude": column == 0, "lines": 3}
            _panel(axes, view, checked[region][0], array, group, name if number == 0 else "", **look)
        top -= high + labels
    for group, x in zip(groups, [0.30] if len(groups) == 1 else [0.12, 0.60], strict=True):
        _bar_below(figure, group, x, _BAR, 0.34, parts=5)
    return figure


def _draw(grid: Grid, groups: list[Group], columns: int | None) -> Picture:
    view, panels = view_of(grid), sum(len(g.values) for g in groups)
    count, wanted = max(len(g.values) for g in groups), columns
    columns = columns or min(2 if view.aspect > 1.25 else 3, max(count, 2 if panels > 1 else 1))
    width = (WIDTH - _LEFT - _RIGHT - _GAP * (columns - 1)) / columns
    height = width / view.aspect
    rows, letters = [], iter(range(panels) if panels > 1 else [None])
    for group in groups:
        titled = [(panel_title(next(letters), t, width), values) for t, values in group.values.items()]
        rows.append([titled[i : i + columns] for i in range(0, len(titled), columns)])
    total = sum(sum(_above(row) + height + _LABELS for row in part) + _BAR for part in rows)
    figure, top = Picture(WIDTH, total), total
    for group, group_rows in zip(groups, rows, strict=True):
        for row in group_rows:
            start = _LEFT + (columns - len(row)) * (width + _GAP) / 2
            for c, (title, values) in enumerate(row):
                place = (start + c * (width + _GAP), top - _above(row) - height, width, height)
                axes = figure.axes_at(*place, projection=view.projection)
                _panel(axes, view, grid, values, group, title, label_latitude=c == 0)
            top -= _above(row) + height + _LABELS
        _bar_below(figure, group, 0.22, top, 0.56)
        top -= _BAR
    figure.offer("maps", grid, groups, wanted or 2, said(""))
    return figure


def _above(row: list[tuple[str, np.ndarray]]) -> float:
    """Inches that the titles of a row of panels take."""
    return 0.1 + 0.17 * max(title.count("\n") + 1 for title, _ in row)


def _bar_below(figure: Picture, group: Group, x: float, top: float, width: float, parts: int = 6) -> None:
    axes = figure.axes_at(x * WIDTH, top - 0.17, width * WIDTH, 0.11, label="colorbar")
    label = ground.with_units(group.label, group.units)
    display.colour_bar(axes, group.limits, group.cmap, label, group.values.values(), parts=parts)


def _panel(axes: GeoAxes, view: View, grid: Grid, values: np.ndarray, group: Group, title: str, **look: Any) -> None:
    field = {"cmap": group.cmap, "norm": Normalize(*group.limits), "interpolation_stage": "rgba", "gid": "field"}
    draw_cells(axes, view, grid.lon, grid.lat, values, zorder=2, **field)
    ground.draw_ground(axes, view, **look)
    axes.set_title(title, fontsize=10, pad=4, loc="left", linespacing=1.1)


def _place_maps(view: View, names: list[str], right: float) -> tuple[Picture, list[GeoAxes]]:
    """A figure of maps below one another, with titles and pale land, and `right` inches beside them."""
    left, above, foot, count = 0.56, 0.28, 0.24, len(names)
    wide = min(WIDTH - left - right, _HIGHEST * view.aspect)
    high = wide / view.aspect
    figure, panels = Picture(left + wide + right, count * (high + above + foot)), []
    for i, name in enumerate(names):
        bottom = (count - 1 - i) * (high + above + foot) + foot
        panels.append(figure.axes_at(left, bottom, wide, high, projection=view.projection))
        shown = panel_title(i if count > 1 else None, name, wide + right - 0.6)
        panels[-1].set_title(shown, loc="left", pad=4)
        ground.draw_ground(panels[-1], view, land="#f4f2ee")
    return figure, panels


def _bar_beside(axes: GeoAxes) -> mpl.axes.Axes:
    place, inch = axes.get_position(), 1.0 / axes.figure.get_figwidth()
    return axes.figure.add_axes((place.x1 + 0.1 * inch, place.y0, 0.12 * inch, place.height), label="colorbar")


@picture
def sensor_map(
    sensors: pd.DataFrame, density: xr.DataArray | None = None, *, by: str = "network", title: str = "Sensors"
) -> Picture:
    """Draw each sensor's place, and above it how many there are in a cell where `density` is given.

    Parameters
    ----------
    sensors : DataFrame
        ``lat``, ``lon`` in degrees, and the column `by`.
    density : DataArray (lat, lon), optional
        Counts, NaN for none; its extent is the map's. Without it the map fits the sensors.
    by : str
        What colours and marks tell apart. Beyond ten kinds the rarest share one mark.
    """
    who = "sensor_map"
    check_table(who, sensors, ("lat", "lon", by))
    lat, lon = (sensors[name].to_numpy("float64") for name in ("lat", "lon"))
    around = area_of(lat, lon)
    grid = around if density is None else ground.check_fields(who, {"sensors": density})
    view = view_of(grid)
    names = [] if density is None else [density.attrs.get("long_name", "Sensors in a cell")]
    names = [name[0].upper() + name[1:] for name in [*names, title]]
    figure, panels = _place_maps(view, names, 1.75)
    if density is not None:
        values = grid.values["sensors"]
        # without the palest end, which the land would swallow
        colours = mpl.colors.ListedColormap(mpl.colormaps["plasma_r"](np.linspace(0.15, 1.0, 256)))
        look = {"norm": LogNorm(1, max(2.0, float(np.nanmax(values)))), "zorder": 3, "gid": "field"}
        image = draw_cells(panels[0], view, grid.lon, grid.lat, values, cmap=colours, interpolation="nearest", **look)
        display.count_bar(_bar_beside(panels[0]), image, "Sensors in a cell")
    kind, names = _kinds(sensors[by].astype(str))
    colours = {name: colour for name, (colour, _) in display.look_of(names).items()}
    x, y = view.lines(lon, lat)
    look = {"linestyle": "", "markersize": 4.5, "markeredgecolor": "black", "markeredgewidth": 0.3, "alpha": 0.85}
    for marker, (name, colour) in zip(display.MARKERS, colours.items(), strict=False):
        here = (kind == name).to_numpy()
        panels[-1].plot(x[here], y[here], marker=marker, color=colour, zorder=5, label=f"{name} ({here.sum()})", **look)
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02), "borderaxespad": 0.2}
    panels[-1].legend(frameon=False, fontsize=8, handletextpad=0.2, **place)
    told = [c for c in ("sensor_id", "network", "station", "depth", "climate", "side") if c in sensors and c != by]
    table = sensors[["lat", "lon"]].assign(**sensors[told].astype(str), **{by: kind})
    look = {"title": said(title), "c": by, "cmap": colours, "hover_cols": told}
    figure.offer("places", table, around, [look | {"legend": "right"}])
    return figure


def _kinds(kind: pd.Series) -> tuple[pd.Series, list[str]]:
    """Kind of each sensor, the rarest beyond ten as "others", and the kinds in their order."""
    counts = kind.value_counts()
    names = list(counts.index[: _MOST_NETWORKS - (len(counts) > _MOST_NETWORKS)])
    names.sort(key=lambda name: display.SIDES.index(name) if name in display.SIDES else len(display.SIDES))
    return kind.where(kind.isin(names), "others"), names + (["others"] if len(counts) > len(names) else [])


@picture
def score_maps(
    scores: pd.DataFrame, metrics: MetricLike | Iterable[MetricLike] = ("pearson_r", "ubrmse"), *, model: str = ""
) -> Picture:
    """Draw scores of sensors as coloured points on a map, a panel a score; yellow is good in each.

    Sensors without a score are crosses, and counted in the legend.

    Parameters
    ----------
    scores : DataFrame
        One row a sensor: ``lat``, ``lon`` (degree) and the scores. Sensors at one place are drawn as their mean.
    """
    chosen = metric_list(metrics)
    told = [check_scores("score_maps", {"the table": scores}, one, ("lat", "lon")).name for one in chosen]
    places = scores.groupby([scores["lat"].round(3), scores["lon"].round(3)])[told].mean().reset_index()
    lat, lon = (places[name].to_numpy("float64") for name in ("lat", "lon"))
    grid = area_of(lat, lon)
    view, looks = view_of(grid), []
    names = [f"{one.title} of each sensor" + (f", {model}" if model else "") for one in chosen]
    figure, panels = _place_maps(view, names, 1.05)
    for one, name, axes in zip(chosen, names, panels, strict=True):
        value = places[one.name].to_numpy("float64")
        there = np.isfinite(value)
        low, high, _ = nice_limits([value])
        if one.better == "zero":  # symmetric
            cmap, high = "RdBu", max(abs(low), abs(high))
            low = -high
        else:
            cmap, high = "viridis" if one.better == "high" else "viridis_r", min(high, one.limits[1])
        # bad ones on top
        order = np.flatnonzero(there)[np.argsort(value[there] if one.better == "high" else -value[there])[::-1]]
        look = {"s": 26, "zorder": 6, "edgecolors": "black", "linewidths": 0.5}
        x, y = view.lines(lon, lat)
        axes.scatter(x[order], y[order], c=value[order], cmap=cmap, norm=Normalize(low, high), **look)
        if not there.all():
            without = f"no score ({int((~there).sum())})"
            axes.plot(x[~there], y[~there], "x", color="#555555", markersize=4.5, zorder=5, label=without)
            axes.legend(loc="lower left", fontsize=8, frameon=True, framealpha=0.85, borderpad=0.3, handletextpad=0.2)
        bar = _bar_beside(axes)
        display.colour_bar(bar, (low, high), cmap, metric_label(one), [value[there]], upright=True)
        bar.yaxis.set_label_coords(5.4, 0.5)
        look = {"title": said(name), "c": one.name, "cmap": cmap, "clim": (low, high)}
        looks.append(look | {"hover_cols": told, "clabel": metric_label(one)})
    figure.offer("places", places, grid, looks)
    return figure


def check_scores(
    who: str, scores: Mapping[str, pd.DataFrame], wanted: MetricLike, needed: Iterable[str] = ("sensor_id",)
) -> Metric:
    """Return the metric, once every model's table has it, and something of it, beside the columns needed."""
    (one,) = metric_list(wanted)
    if not scores:
        raise ContractError(who, "there is nothing to draw", expected="a mapping of model to scores")
    for name, table in scores.items():
        check_table(f"{who}, {name}", table, (*needed, one.name))
        if not np.isfinite(table[one.name].to_numpy("float64")).any():
            next_step = "Look at the column reason"
            raise ContractError(who, f"no sensor of {name!r} has a score", got=one.name, next_step=next_step)
    return one


def area_of(lat: np.ndarray, lon: np.ndarray) -> Grid:
    """Grid around points: the globe where they span more than 120 degrees, else their region with a margin."""
    if np.ptp(lon) > 120.0:
        rows, columns = np.arange(-89.5, 90.0), np.arange(-179.5, 180.0)
        shown = np.full((rows.size, columns.size), np.nan)
        shown[np.clip((lat + 90.0).astype(int), 0, rows.size - 1), 0] = 1.0
        return Grid(rows, columns, {"sensors": shown})
    widest = max(np.ptp(lat), np.ptp(lon))
    margin = max(0.45, 0.07 * widest)
    shape = []
    for values, bound in ((lat, 90.0), (lon, 180.0)):
        # a region much longer than high, or the reverse, makes a map without context
        middle, half = (values.min() + values.max()) / 2, max(np.ptp(values), 0.4 * widest) / 2 + margin
        shape.append(np.linspace(max(middle - half, -bound), min(middle + half, bound), 101))
    return Grid(*shape, {"sensors": np.ones((101, 101))})
