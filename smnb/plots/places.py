"""Static maps of sensors: where they are, and how well each is predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.colors import LogNorm, Normalize

from smnb.contract import ContractError, check_table
from smnb.metrics import Metric, metric_list
from smnb.metrics.registry import MetricLike
from smnb.plots.canvas import MARKERS, SIDES, axes_at, colour_bar, count_bar, look_of, panel_title
from smnb.plots.display import WIDTH, Picture, picture
from smnb.plots.fields import Grid, check_fields, metric_label, nice_limits
from smnb.plots.maps import ground
from smnb.plots.page import View, to_page, view_of

_MOST_NETWORKS = 10
#: Inches that a map of places, and one of scores, may be high: a higher one would take a page for a few points.
_HIGHEST, _HIGHEST_SCORES = 3.1, 3.4
_LEFT, _FOOT, _PALE = 0.56, 0.24, "#f4f2ee"


@picture(twin=True)
def sensor_map(
    sensors: pd.DataFrame,
    density: xr.DataArray | None = None,
    *,
    by: str = "network",
    title: str = "Sensors",
    synthetic: bool | None = None,
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
    around = area_of(sensors["lat"].to_numpy("float64"), sensors["lon"].to_numpy("float64"))
    grid = around if density is None else check_fields(who, {"sensors": density})
    view = view_of(grid)
    names = [title] if density is None else [density.attrs.get("long_name", "Sensors in a cell"), title]
    above = 0.27
    wide = min(WIDTH - _LEFT - 1.75, _HIGHEST * view.aspect)
    high = wide / view.aspect
    figure = Picture(WIDTH, len(names) * (high + above + _FOOT))
    for i, name in enumerate(names):
        bottom = (len(names) - 1 - i) * (high + above + _FOOT) + _FOOT
        axes = axes_at(figure, _LEFT, bottom, wide, high, projection=view.projection)
        shown = panel_title(i if len(names) > 1 else None, name[0].upper() + name[1:], synthetic, WIDTH - 0.6)
        axes.set_title(shown, loc="left", pad=4)
        if i < len(names) - 1:
            _density(axes, view, grid)
        else:
            _places(axes, view, sensors, by)
        ground(axes, view, land=_PALE)
    return figure


def _density(axes: GeoAxes, view: View, grid: Grid) -> None:
    values = grid.values["sensors"]
    norm = LogNorm(1, max(2.0, float(np.nanmax(values))))
    # without the palest end, which the land would swallow
    colours = mpl.colors.ListedColormap(mpl.colormaps["plasma_r"](np.linspace(0.15, 1.0, 256)))
    look = {"cmap": colours, "norm": norm, "zorder": 3, "gid": "field", "interpolation": "nearest"}
    shown = to_page(view, grid.lon, grid.lat, values)
    image = axes.imshow(shown, extent=view.box, origin="upper", aspect="auto", **look)
    count_bar(_bar_beside(axes), image, "Sensors in a cell")


def _bar_beside(axes: GeoAxes) -> mpl.axes.Axes:
    place, inch = axes.get_position(), 1.0 / axes.figure.get_figwidth()
    return axes.figure.add_axes((place.x1 + 0.1 * inch, place.y0, 0.12 * inch, place.height), label="colorbar")


def kinds_of(sensors: pd.DataFrame, by: str) -> tuple[pd.Series, list[str]]:
    """Kind of each sensor, the rarest beyond ten as "others", and the kinds in their order."""
    kind = sensors[by].astype(str)
    counts = kind.value_counts()
    names = list(counts.index[: _MOST_NETWORKS - (len(counts) > _MOST_NETWORKS)])
    names.sort(key=lambda name: SIDES.index(name) if name in SIDES else len(SIDES))
    return kind.where(kind.isin(names), "others"), names + (["others"] if len(counts) > len(names) else [])


def _places(axes: GeoAxes, view: View, sensors: pd.DataFrame, by: str) -> None:
    kind, names = kinds_of(sensors, by)
    x, y = view.lines(sensors["lon"].to_numpy("float64"), sensors["lat"].to_numpy("float64"))
    look = {"linestyle": "", "markersize": 4.5, "markeredgecolor": "black", "markeredgewidth": 0.3, "alpha": 0.85}
    for marker, (name, (colour, _)) in zip(MARKERS, look_of(names).items(), strict=False):
        here = (kind == name).to_numpy()
        axes.plot(x[here], y[here], marker=marker, color=colour, zorder=5, label=f"{name} ({here.sum()})", **look)
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02), "borderaxespad": 0.2}
    axes.legend(frameon=False, fontsize=8, handletextpad=0.2, **place)


@picture(twin=True)
def score_maps(
    scores: pd.DataFrame,
    metrics: MetricLike | Iterable[MetricLike] = ("pearson_r", "ubrmse"),
    *,
    model: str = "",
    limits: Mapping[str, tuple[float, float]] | None = None,
    synthetic: bool | None = None,
) -> Picture:
    """Draw scores of sensors as coloured points on a map, a panel a score; yellow is good in each.

    Sensors without a score are crosses, and counted in the legend.

    Parameters
    ----------
    scores : DataFrame
        One row a sensor: ``lat``, ``lon`` (degree) and the scores. Sensors at one place are drawn as their mean.
    limits : mapping of str to (float, float), optional
        Colour scale of a score; default nearly all values.
    """
    chosen = metric_list(metrics)
    places = scores_by_place(scores, chosen)
    lat, lon = places["lat"].to_numpy("float64"), places["lon"].to_numpy("float64")
    view = view_of(area_of(lat, lon))
    left, bar, above = 0.55, 1.05, 0.3
    wide = min(WIDTH - left - bar, _HIGHEST_SCORES * view.aspect)
    high = wide / view.aspect
    figure = Picture(left + wide + bar, len(chosen) * (above + high + _FOOT))
    for i, one in enumerate(chosen):
        bottom = (len(chosen) - 1 - i) * (above + high + _FOOT) + _FOOT
        axes = axes_at(figure, left, bottom, wide, high, projection=view.projection)
        name = f"{one.title} of each sensor" + (f", {model}" if model else "")
        axes.set_title(panel_title(i if len(chosen) > 1 else None, name, synthetic, wide), loc="left", pad=4)
        ground(axes, view, land=_PALE)
        _coloured(axes, *view.lines(lon, lat), places[one.name].to_numpy("float64"), one, (limits or {}).get(one.name))
    return figure


def scores_by_place(scores: pd.DataFrame, chosen: Iterable[Metric]) -> pd.DataFrame:
    """Mean score of the sensors at each place, once every score is there at some sensor."""
    names = [check_scores("score_maps", {"the table": scores}, one, ("lat", "lon")).name for one in chosen]
    return scores.groupby([scores["lat"].round(3), scores["lon"].round(3)])[names].mean().reset_index()


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
    margin = max(0.45, 0.07 * max(np.ptp(lat), np.ptp(lon)))
    # a region much longer than high, or the reverse, makes a map without context
    least = 0.4 * max(np.ptp(lat), np.ptp(lon)) + 2 * margin

    def around(values: np.ndarray, bound: float) -> np.ndarray:
        middle, half = (values.min() + values.max()) / 2, max(np.ptp(values) + 2 * margin, least) / 2
        return np.linspace(max(middle - half, -bound), min(middle + half, bound), 101)

    return Grid(around(lat, 90.0), around(lon, 180.0), {"sensors": np.ones((101, 101))})


def score_scale(one: Metric, value: np.ndarray, limits: tuple[float, float] | None) -> tuple[float, float, str]:
    """Low and high end of a score's colours, and the colour map: yellow is good; symmetric where zero is best."""
    low, high = limits or nice_limits([value])[:2]
    if one.better == "zero":
        return (low, high, "RdBu") if limits else (-max(abs(low), abs(high)), max(abs(low), abs(high)), "RdBu")
    return low, high if limits else min(high, one.limits[1]), "viridis" if one.better == "high" else "viridis_r"


def _coloured(
    axes: GeoAxes, x: np.ndarray, y: np.ndarray, value: np.ndarray, one: Metric, limits: tuple[float, float] | None
) -> None:
    there = np.isfinite(value)
    low, high, cmap = score_scale(one, value[there], limits)
    # bad ones on top
    order = np.flatnonzero(there)[np.argsort(value[there] if one.better == "high" else -value[there])[::-1]]
    look = {"s": 26, "zorder": 6, "edgecolors": "black", "linewidths": 0.5}
    axes.scatter(x[order], y[order], c=value[order], cmap=cmap, norm=Normalize(low, high), **look)
    if not there.all():
        without = f"no score ({int((~there).sum())})"
        axes.plot(x[~there], y[~there], "x", color="#555555", markersize=4.5, zorder=5, label=without)
        axes.legend(loc="lower left", fontsize=8, framealpha=0.85, borderpad=0.3, handletextpad=0.2)
    bar = _bar_beside(axes)
    colour_bar(bar, (low, high), cmap, metric_label(one), [value[there]], upright=True)
    bar.yaxis.set_label_coords(5.4, 0.5)
