"""Static figures of where sensors are, and samples of imagery; `profile` has the charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cartopy.crs as ccrs
import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from smnb.contract import ContractError
from smnb.plots.coast import coastlines, land_raster
from smnb.plots.fields import Grid, check_fields
from smnb.plots.maps import _COAST, _OCEAN, STYLE, WIDTH, _graticule, _View, _view, _warp, new_figure, panel_title
from smnb.plots.profile import SIDES, check_table, look_of

_MARKERS = "osD^vP*Xph"
_MOST_NETWORKS = 10
#: Inches that a map may be high.
_HIGHEST = 3.1


def sensor_map(
    sensors: pd.DataFrame,
    density: xr.DataArray,
    *,
    by: str = "network",
    title: str = "Sensors",
    show_density: bool = True,
    synthetic: bool = False,
) -> Figure:
    """Draw how many sensors there are in a cell, and below it each sensor's place.

    Parameters
    ----------
    sensors : DataFrame
        ``lat``, ``lon`` in degrees, and the column `by`.
    density : DataArray (lat, lon)
        Counts, NaN for none; its extent is the map's.
    by : str
        What colours and marks tell apart. Beyond ten kinds the rarest share one mark.
    title : str
        Of the map of places.
    show_density : bool
        Draw the first map; else only the places.
    synthetic : bool
        Say so in each title.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        For an empty table, a missing column, or a density without any sensor.
    """
    who = "sensor_map"
    missing = [name for name in ("lat", "lon", by) if name not in check_table(who, sensors)]
    if missing:
        raise ContractError(who, f"columns {missing} are missing", got=list(map(str, sensors.columns)))
    grid = check_fields(who, {"sensors": density})
    view = _view(grid)
    names = [density.attrs.get("long_name", "Sensors in a cell"), title][0 if show_density else 1 :]
    left, head, foot = 0.56, 0.27, 0.24
    wide = min(WIDTH - left - 1.75, _HIGHEST * view.aspect)
    high = wide / view.aspect
    total = len(names) * (high + head + foot)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, total)
        panels = []
        for i, name in enumerate(names):
            bottom = total - (i + 1) * (high + head + foot) + foot
            panels.append(ground(figure, (left / WIDTH, bottom / total, wide / WIDTH, high / total), view))
            shown = panel_title(i if show_density else None, name[0].upper() + name[1:], synthetic, WIDTH - 0.6)
            panels[-1].set_title(shown, loc="left", pad=4)
        if show_density:
            _density(figure, panels[0], view, grid)
        _places(panels[-1], view, sensors, by)
        for axes in panels:
            _graticule(axes, view, True)
            axes.set_aspect("auto")
            axes.set_xlim(*view.box[:2])
            axes.set_ylim(*view.box[2:])
    return figure


def _density(figure: Figure, axes: GeoAxes, view: _View, grid: Grid) -> None:
    values = grid.values["sensors"]
    norm = LogNorm(1, max(2.0, float(np.nanmax(values))))
    # without the palest end, which the land would swallow
    colours = mpl.colors.ListedColormap(mpl.colormaps["plasma_r"](np.linspace(0.15, 1.0, 256)))
    image = axes.imshow(
        _warp(view, grid.lon, grid.lat, values),
        cmap=colours,
        norm=norm,
        zorder=3,
        gid="field",
        extent=view.box,
        origin="upper",
        aspect="auto",
        interpolation="nearest",
    )
    place = axes.get_position()
    bar_axes = figure.add_axes((place.x1 + 0.12 / WIDTH, place.y0, 0.12 / WIDTH, place.height), label="colorbar")
    bar = figure.colorbar(image, cax=bar_axes)
    ticks = [t for t in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500) if t <= norm.vmax]
    bar.set_ticks(ticks, labels=[f"{t}" for t in ticks])
    bar.ax.minorticks_off()
    bar.set_label("Sensors in a cell")


def ground(figure: Figure, box: Sequence[float], view: _View) -> GeoAxes:
    """Add a map of land and coast without data, at ``(left, bottom, width, height)`` in shares of the figure."""
    axes: GeoAxes = figure.add_axes(box, projection=view.projection)
    axes.set_xlim(*view.box[:2])
    axes.set_ylim(*view.box[2:])
    west, east, south, north = view.extent
    # a little more than the map, since the land's last cell may end short of the edge
    around = (max(west - 0.2, -180.0), min(east + 0.2, 180.0), max(south - 0.2, -90.0), min(north + 0.2, 90.0))
    lon, lat, land = land_raster(view.extent if isinstance(view.projection, ccrs.Robinson) else around)
    colours = LinearSegmentedColormap.from_list("ground", [_OCEAN, "#f4f2ee"])
    axes.imshow(
        _warp(view, lon, lat, land),
        cmap=colours,
        vmin=0,
        vmax=1,
        zorder=1,
        extent=view.box,
        origin="upper",
        aspect="auto",
    )
    if east - west < 8.0:  # nearer than the coastlines are drawn for
        axes.contour(lon, lat, land, levels=[0.5], colors=_COAST, linewidths=0.6, zorder=2)
    else:
        for line in coastlines("50m" if isinstance(view.projection, ccrs.PlateCarree) else "110m"):
            path = view.projection.transform_points(ccrs.PlateCarree(), line[:, 0], line[:, 1])
            axes.plot(path[:, 0], path[:, 1], color=_COAST, linewidth=0.45, zorder=2)
    axes.spines["geo"].set_linewidth(0.7)
    axes.set_aspect("auto")
    axes.set_xlim(*view.box[:2])
    axes.set_ylim(*view.box[2:])
    return axes


def _places(axes: GeoAxes, view: _View, sensors: pd.DataFrame, by: str) -> None:
    counts = sensors[by].astype(str).value_counts()
    names = list(counts.index[: _MOST_NETWORKS - (len(counts) > _MOST_NETWORKS)])
    kind = sensors[by].astype(str).where(sensors[by].astype(str).isin(names), "others")
    names.sort(key=lambda name: SIDES.index(name) if name in SIDES else len(SIDES))
    names += ["others"] if len(counts) > len(names) else []
    xy = view.projection.transform_points(
        ccrs.PlateCarree(), sensors["lon"].to_numpy("float64"), sensors["lat"].to_numpy("float64")
    )
    look = look_of(names)
    for i, name in enumerate(names):
        here = (kind == name).to_numpy()
        axes.plot(
            xy[here, 0],
            xy[here, 1],
            linestyle="",
            marker=_MARKERS[i],
            color=look[name][0],
            markersize=4.5,
            markeredgecolor="black",
            markeredgewidth=0.3,
            alpha=0.85,
            zorder=5,
            label=f"{name} ({here.sum()})",
        )
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, fontsize=8, handletextpad=0.2, borderaxespad=0.2
    )


def image_samples(
    samples: Sequence[Mapping[str, np.ndarray]],
    captions: Sequence[str],
    *,
    title: str,
    units: str = "dB",
    limits: Mapping[str, tuple[float, float]] | None = None,
    synthetic: bool = False,
) -> Figure:
    """Draw samples of imagery: one column a sample, one row an input.

    Parameters
    ----------
    samples : sequence of mapping of str to ndarray
        By input: (y, x, 3) colours in 0 to 1, or (y, x) values.
    captions : sequence of str
        Over each column: place, date, label.
    title : str
    units : str
        Of the values.
    limits : mapping of str to (float, float), optional
        Grey scale of an input; default its 2nd to 98th percentile over all samples.
    synthetic : bool
        Say so in the title.

    Raises
    ------
    ContractError
        Where there is no sample, captions are not as many, or inputs differ.
    """
    who = "image_samples"
    if not samples or len(samples) != len(captions) or any(list(one) != list(samples[0]) for one in samples):
        raise ContractError(who, "samples and captions do not fit", got=(len(samples), len(captions)))
    names = list(samples[0])
    left, right, head, gap = 0.35, 0.85, 0.9, 0.06
    side = min(1.25, (WIDTH - left - right) / len(samples) - gap)
    width, height = left + right + len(samples) * (side + gap), head + len(names) * (side + gap) + 0.08
    with mpl.rc_context(STYLE):
        figure = new_figure(width, height)
        for r, name in enumerate(names):
            stack = [np.asarray(one[name], dtype=float) for one in samples]
            low, high = (limits or {}).get(name, np.nanpercentile(np.concatenate([s.ravel() for s in stack]), (2, 98)))
            for c, image in enumerate(stack):
                box = (left + c * (side + gap), height - head - (r + 1) * (side + gap) + gap, side, side)
                axes = figure.add_axes([b / s for b, s in zip(box, (width, height) * 2, strict=True)])
                shown = axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                if r == 0:
                    axes.set_title(captions[c], fontsize=8, pad=5, linespacing=1.15)
                if c == 0:
                    axes.set_ylabel(name, fontsize=8.5)
            if stack[0].ndim == 2:
                place = axes.get_position()
                bar_axes = figure.add_axes(
                    (place.x1 + 0.08 / width, place.y0, 0.09 / width, place.height), label="colorbar"
                )
                figure.colorbar(shown, cax=bar_axes).set_label(f"{name} ({units})", fontsize=8)
                bar_axes.tick_params(labelsize=8)
        figure.text(
            left / width, 1 - 0.08 / height, panel_title(None, title, synthetic, width - left), fontsize=10, va="top"
        )
    return figure
