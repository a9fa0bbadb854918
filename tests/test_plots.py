"""Figures: no network, one scale within a comparison, honest titles, bounded sizes, clear errors."""

from __future__ import annotations

import base64
import gzip
import inspect
import io
import json
import re
import socket
import urllib.request

import cartopy.crs as ccrs
import cartopy.io
import matplotlib as mpl
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import shapely
import xarray as xr
from cartopy.io import shapereader
from sklearn.metrics import r2_score

from smnb import plots
from smnb.contract import ContractError, ParameterError
from smnb.grids import M36
from smnb.plots import charts, display, ground, twins

LAT, LON = np.arange(-88.5, 90, 3.0), np.arange(-178.5, 180, 3.0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Every test of this file runs without a network."""

    def refuse(*args, **kwargs):
        raise AssertionError("a figure touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(cartopy.io.Downloader, "path", refuse)
    monkeypatch.setattr(cartopy.io.Downloader, "acquire_resource", refuse)


def field(offset: float = 0.0, lat: np.ndarray = LAT, lon: np.ndarray = LON) -> xr.DataArray:
    values = 0.25 + 0.15 * np.sin(np.radians(3 * lat))[:, None] * np.cos(np.radians(2 * lon))
    values = np.where(lat[:, None] > -60, values, np.nan) + offset
    return xr.DataArray(values.astype("float32"), dims=("lat", "lon"), coords={"lat": lat, "lon": lon})


def pictures(figure):
    """Images of the fields (not of the land below them), by panel."""
    return [image for axes in figure.axes for image in axes.images if image.get_gid() == "field"]


def warped(image):
    """Values on the page, NaN where there are none."""
    return np.ma.filled(image.get_array(), np.nan)


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes if axes.get_label() != "colorbar"]


def bars(figure):
    return [axes for axes in figure.axes if axes.get_label() == "colorbar"]


def twin_of(draw, *data, **options):
    return draw(*data, **options).twin()


def figures_of(obj):
    """Bokeh figures of a holoviews object, row by row."""
    from bokeh.models import Plot

    model = twins.renderer().get_plot(obj).state
    return list(model.select({"type": Plot})) if not isinstance(model, Plot) else [model]


# coastlines


def test_coastlines_pass_by_known_coasts():
    points = np.concatenate(plots.coastlines())
    tree = shapely.STRtree([shapely.LineString(line) for line in plots.coastlines()])
    coasts = {
        "Cabo da Roca": (-9.5, 38.8),
        "Cape of Good Hope": (18.5, -34.4),
        "Cape York": (142.5, -10.7),
        "Dakar": (-17.5, 14.7),
        "Miami": (-80.1, 25.8),
        "Mumbai": (72.8, 19.0),
        "Cape Horn": (-67.3, -55.9),
        "Vladivostok": (131.9, 43.1),
    }
    for name, (lon, lat) in coasts.items():
        here = shapely.Point(lon, lat)
        assert tree.geometries[tree.nearest(here)].distance(here) < 0.8, name
    for lon, lat in ((-30, 30), (100, 60), (-150, 0), (20, 5)):  # mid-ocean and mid-continent
        here = shapely.Point(lon, lat)
        assert tree.geometries[tree.nearest(here)].distance(here) > 5
    assert np.abs(points).max(axis=0).tolist() <= [180.0, 90.0]


@pytest.mark.parametrize(("resolution", "fewest", "most"), [("110m", 50, 400), ("50m", 300, 4000)])
def test_coastlines_are_rings_or_end_at_the_date_line_and_never_cross_the_map(resolution, fewest, most):
    lines = plots.coastlines(resolution)
    assert fewest < len(lines) < most
    for line in lines:
        assert line.ndim == 2
        assert line.shape[1] == 2
        closed = np.array_equal(line[0], line[-1])
        assert closed or (np.abs(line[[0, -1], 0]) == 180).all()
        step = np.abs(np.diff(line[:, 0]))
        assert step.max() < 20
        on_edge = (np.abs(line[:-1, 0]) == 180) & (np.abs(line[1:, 0]) == 180)
        assert not on_edge.any()
    assert sum(map(len, lines)) < 100_000


def test_coastlines_agree_with_natural_earth(shared_samples):
    # an independent source: the outlines of Natural Earth's countries
    shapes = shapereader.Reader(str(shared_samples / "naturalearth_110m" / "naturalearth_lowres.shp")).geometries()
    outline = shapely.boundary(shapely.union_all([shapely.buffer(s, 0.05) for s in shapes]))
    points = np.concatenate([line for line in plots.coastlines() if line[:, 1].min() > -58 and line[:, 1].max() < 70])
    shapely.prepare(outline)
    distance = shapely.distance(shapely.points(points), outline)
    assert np.median(distance) < 0.4
    assert np.mean(distance < 1.0) > 0.75


def test_coastlines_are_the_same_each_time_and_safe_to_share():
    first = plots.coastlines()
    ground.coastlines.cache_clear()
    assert all(np.array_equal(a, b) for a, b in zip(first, plots.coastlines(), strict=True))
    with pytest.raises(ValueError, match="read-only"):
        first[0][0, 0] = 5.0


def test_unknown_resolution_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ParameterError, match=r"unknown 'resolution'; got '10m'; expected \['110m', '50m'\]"):
        plots.coastlines("10m")


# scales


def test_nice_limits_cover_the_percentiles_in_round_steps():
    rng = np.random.default_rng(1)
    for scale, offset in ((0.05, 0.3), (12.0, 250.0), (1e-4, -3e-4), (3e3, 0.0)):
        values = offset + scale * rng.standard_normal(5000)
        values[::7] = np.nan
        low, high, step = plots.nice_limits([values[:1000], values[1000:]])
        bottom, top = np.nanpercentile(values, (2, 98))
        assert low <= bottom < top <= high
        assert bottom - low < step * 1.001
        assert high - top < step * 1.001
        assert abs(low / step - round(low / step)) < 1e-6
        assert 4 <= round((high - low) / step) <= 8


def test_scales_of_constant_and_of_missing_values():
    low, high, _ = plots.nice_limits([np.full(9, 0.3)])
    assert low < 0.3 < high
    low, high, _ = plots.nice_limits([np.zeros(9)])
    assert low < 0 < high
    assert plots.symmetric_limit([np.zeros(4)]) > 0
    assert plots.symmetric_limit([np.array([np.nan, 0.031, -0.01])]) == pytest.approx(0.04)
    for scale in (plots.nice_limits, plots.symmetric_limit):
        with pytest.raises(ContractError, match="no finite"):
            scale([np.array([np.nan, np.inf])])


def test_units_are_written_with_raised_exponents():
    assert plots.pretty_units("kg m-2") == "kg m⁻²"
    assert plots.pretty_units("%") == "%"
    assert ground.with_units("R", "1") == "R"


# static maps


def test_static_maps_share_one_scale_and_differences_a_symmetric_one():
    a, b = field(), field(0.08)
    figure = plots.static_maps(
        {"Target": a, "CNN": b}, units="m3 m-3", differences={"CNN - target": b - a}, synthetic=True
    )
    shown = pictures(figure)
    assert len(shown) == 3
    assert shown[0].get_clim() == shown[1].get_clim()
    low, high = shown[2].get_clim()
    assert low == -high
    assert (shown[0].get_cmap().name, shown[2].get_cmap().name) == ("viridis_r", "RdBu")
    assert titles(figure) == ["(a) Target (synthetic)", "(b) CNN (synthetic)", "(c) CNN - target (synthetic)"]
    assert [axes.get_xlabel() for axes in bars(figure)] == ["Soil moisture (m³ m⁻³)", "Difference (m³ m⁻³)"]
    assert figure.get_figwidth() == 7
    assert figure.dpi == 150
    # red is drier: the lowest difference is red, the highest blue
    red, blue = mpl.colormaps["RdBu"](0.0), mpl.colormaps["RdBu"](1.0)
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_static_map_of_real_data_says_nothing_of_synthetic():
    assert titles(plots.static_maps({"C3S": field()}, units="m3 m-3")) == ["C3S"]


def test_static_map_puts_values_where_they_belong():
    lat, lon = np.arange(-89.5, 90), np.arange(-179.5, 180)
    spot = xr.DataArray(np.zeros((180, 360)), dims=("lat", "lon"), coords={"lat": lat, "lon": lon})
    spot.loc[{"lat": slice(40, 50), "lon": slice(100, 120)}] = 1.0
    figure = plots.static_maps({"spot": spot}, units="1", limits=(0, 1))
    image = pictures(figure)[0]
    west, east, south, north = image.get_extent()
    rows, columns = np.nonzero(warped(image) == 1.0)
    x = west + (columns.mean() + 0.5) / warped(image).shape[1] * (east - west)
    y = north - (rows.mean() + 0.5) / warped(image).shape[0] * (north - south)
    centre = ccrs.PlateCarree().transform_point(x, y, ccrs.Robinson())
    assert centre == pytest.approx((110, 45), abs=0.7)
    # corners of the page lie outside the globe, where there is nothing
    assert np.isnan(warped(image)[0, 0])
    assert np.isnan(warped(image)[-1, -1])


def test_globe_is_whole_at_the_date_line_for_a_grid_that_starts_on_it():
    lat, lon = np.arange(-90, 91, 2.0), np.arange(-180, 180, 2.0)
    whole = xr.DataArray(np.ones((lat.size, lon.size)), dims=("lat", "lon"), coords={"lat": lat, "lon": lon})
    array = warped(pictures(plots.static_maps({"ones": whole}, units="1"))[0])
    inside = np.flatnonzero(np.isfinite(array[array.shape[0] // 2]))
    assert inside.size == array.shape[1]


def test_region_is_drawn_in_plate_carree_and_globe_without_empty_antarctic():
    region = field(lat=np.arange(-31.5, -27, 0.25), lon=np.arange(116, 122, 0.25))
    axes = plots.static_maps({"Western Australia": region}, units="m3 m-3").axes[0]
    assert type(axes.projection).__name__ == "PlateCarree"
    assert axes.get_xlim() == pytest.approx((115.875, 121.875))
    globe = plots.static_maps({"globe": field()}, units="m3 m-3").axes[0]
    assert type(globe.projection).__name__ == "Robinson"
    assert abs(globe.get_ylim()[0]) < globe.get_ylim()[1]
    polar = plots.static_maps({"globe": field().fillna(0.1)}, units="m3 m-3").axes[0]
    assert abs(polar.get_ylim()[0]) == pytest.approx(polar.get_ylim()[1])


def test_static_maps_take_an_unevenly_spaced_grid():
    lat = np.degrees(np.arcsin(np.linspace(-0.9, 0.9, 40)))
    figure = plots.static_maps({"EASE-like": field(lat=lat)}, units="m3 m-3")
    assert np.isfinite(warped(pictures(figure)[0])).any()


def texts_of(figure):
    """Name and box (pixels) of every text that is drawn."""
    figure.canvas.draw()
    found = []
    for axes in figure.axes:
        found += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False)
            found += [label for place, label in ticks if low - 1e-9 <= place <= high + 1e-9 and axis.get_visible()]
        if axes.get_legend():
            found += axes.get_legend().get_texts()
    return [(t.get_text(), t.get_window_extent()) for t in found if t.get_text() and t.get_visible()]


def test_no_text_of_a_figure_lies_over_another_or_leaves_the_page():
    long = {f"A rather long name of model number {i}, 31 July 2011": field(0.01 * i) for i in range(3)}
    models = {f"Model {i}": v + 0.05 for i, v in enumerate(long.values())}
    wave = field(lat=np.arange(30.125, 60, 0.25), lon=np.arange(-11.875, 30, 0.25))
    figures = [
        plots.static_maps(long, units="m3 m-3", differences={"Difference": long.popitem()[1]}, synthetic=True),
        plots.static_maps({"whole globe": field().fillna(0.2), "second": field()}, units="m3 m-3"),
        plots.static_maps({"Europe": wave, "again": wave}, units="m3 m-3"),
        plots.density_scatter(models, field(), units="m3 m-3", synthetic=True),
        plots.image_panels({k: v.assign_attrs(units="K") for k, v in long.items()}, synthetic=True),
        plots.series(HISTORY, log_y=True, synthetic=True, **LEARNING),
        plots.histograms({"a": wave, "b": wave, "c": wave}, units={"a": "K", "b": "K", "c": "m3 m-3"}, synthetic=True),
    ]
    for figure in figures:
        texts, page = texts_of(figure), figure.bbox
        assert len(texts) > 8
        for i, (name, box) in enumerate(texts):
            assert min(box.x0, box.y0, page.x1 - box.x1, page.y1 - box.y1) > -1, name
            for other, second in texts[i + 1 :]:
                width = min(box.x1, second.x1) - max(box.x0, second.x0)
                height = min(box.y1, second.y1) - max(box.y0, second.y0)
                assert min(width, height) < 3, (name, other)


def test_fields_that_cannot_be_compared_are_errors():
    good, draw = field(), plots.static_maps
    with pytest.raises(ContractError, match="'CNN' is missing everywhere"):
        draw({"Target": good, "CNN": good * np.nan}, units="m3 m-3")
    with pytest.raises(ContractError, match=r"'CNN'.* has another shape"):
        draw({"Target": good, "CNN": good[:-1]}, units="m3 m-3")
    with pytest.raises(ContractError, match="has another shape"):
        draw({"Target": good}, units="m3 m-3", differences={"d": good[:, 1:]})
    with pytest.raises(ContractError, match="another grid"):
        draw({"Target": good, "CNN": good.assign_coords(lat=LAT + 0.5)}, units="m3 m-3")
    with pytest.raises(ContractError, match="is not a map"):
        draw({"Target": good.expand_dims("time")}, units="m3 m-3")
    with pytest.raises(ContractError, match=r"'lat'.* out of order"):
        draw({"Target": good[::-1]}, units="m3 m-3")
    with pytest.raises(ContractError, match=r"'lon'.* out of order or range"):
        draw({"Target": good.assign_coords(lon=LON + 180)}, units="m3 m-3")
    with pytest.raises(ContractError, match="infinite"):
        draw({"Target": good.where(good > 0.2, np.inf)}, units="m3 m-3")
    with pytest.raises(ContractError, match=r"the same title; got \['Target'\]"):
        draw({"Target": good}, units="m3 m-3", differences={"Target": good})
    with pytest.raises(ContractError, match="no field"):
        draw({}, units="m3 m-3")
    with pytest.raises(ParameterError, match="unknown colour map; got 'rainbowish'"):
        draw({"Target": good}, units="m3 m-3", cmap="rainbowish")
    with pytest.raises(ParameterError, match="ascending pair"):
        draw({"Target": good}, units="m3 m-3", limits=(0.5, 0.1))


def test_image_panels_have_one_scale_for_each_unit():
    tb = xr.concat(
        [200 + 100 * field(i / 10) for i in range(4)], pd.Index(["6.9H", "6.9V", "10.7H", "10.7V"], name="channel")
    )
    figure = plots.image_panels(tb.assign_attrs(units="K"), synthetic=True)
    assert len({image.get_clim() for image in pictures(figure)}) == 1
    assert titles(figure)[0] == "(a) 6.9 GHz H (synthetic)"
    assert len(bars(figure)) == 1
    mixed = {"TB": (tb[0]).drop_vars("channel").assign_attrs(units="K"), "SM": field().assign_attrs(units="m3 m-3")}
    figure = plots.image_panels(mixed, label={"K": "TB", "m3 m-3": "Soil moisture"})
    assert [b.get_xlabel() for b in bars(figure)] == ["TB (K)", "Soil moisture (m³ m⁻³)"]
    assert len({image.get_clim() for image in pictures(figure)}) == 2
    with pytest.raises(ContractError, match="has no units"):
        plots.image_panels(tb)
    with pytest.raises(ContractError, match="no dimension 'channel'"):
        plots.image_panels(tb.rename(channel="band"))
    with pytest.raises(ContractError, match="'a' has no units"):
        plots.static_maps({"a": field()})
    assert bars(plots.static_maps({"a": field().assign_attrs(units="kg m-2", synthetic=True)}))[0].get_xlabel() == (
        "Soil moisture (kg m⁻²)"
    )


# interactive maps


def test_interactive_maps_have_one_scale_coasts_and_hover():
    a, b = field(), field(0.08)
    layout = twin_of(
        plots.static_maps, {"Target": a, "CNN": b}, units="m3 m-3", differences={"d": b - a}, synthetic=True
    )
    shown = sorted(figures_of(layout), key=lambda f: int(f.id[1:]))
    assert sorted(f.title.text for f in shown) == ["CNN (synthetic)", "Target (synthetic)", "d (synthetic)"]
    scales = {}
    for figure in shown:
        glyphs = {type(r.glyph).__name__: r for r in figure.renderers}
        assert set(glyphs) == {"Image", "MultiLine"}
        mapper = glyphs["Image"].glyph.color_mapper
        scales[figure.title.text] = (mapper.low, mapper.high)
        hover = next(t for t in figure.tools if type(t).__name__ == "HoverTool")
        assert [name for name, _ in hover.tooltips] == [
            "lat",
            "lon",
            "Difference" if figure.title.text[0] == "d" else "Soil moisture",
        ]
        assert hover.tooltips[2][1].endswith("m³ m⁻³")
        assert figure.x_range.start == -180
        assert figure.x_range.end == 180
    assert scales["Target (synthetic)"] == scales["CNN (synthetic)"]
    low, high = scales["d (synthetic)"]
    assert low == -high
    # linked: all panels look through the same ranges
    assert len({id(f.x_range) for f in shown}) == 1
    # and the same scale as the static twin
    static = plots.static_maps({"Target": a, "CNN": b}, units="m3 m-3")
    assert pictures(static)[0].get_clim() == scales["CNN (synthetic)"]


def test_interactive_map_of_a_fine_grid_stays_small_and_true():
    lat, lon = np.arange(-89.875, 90, 0.25), np.arange(-179.875, 180, 0.25)
    fine = field(lat=lat, lon=lon) + 0.01 * np.random.default_rng(0).standard_normal((720, 1440)).astype("float32")
    layout = twin_of(plots.static_maps, {"a": fine, "b": fine, "c": fine}, units="m3 m-3")
    assert len(display.figure_html(layout)) < 800_000
    image = layout.values()[0].get(0)
    shown = image.dimension_values("value", flat=False)
    assert shown.shape == (180, 360)
    expected = fine.coarsen(lat=4, lon=4).mean().values
    assert np.nanmax(np.abs(shown - expected)) < 0.5 * 0.6 / 1000
    assert np.array_equal(np.isnan(shown), np.isnan(expected))


def test_blocks_average_what_is_there_on_shapes_that_do_not_divide():
    values = np.arange(35.0).reshape(5, 7)
    values[0, 0] = np.nan
    grid = ground.Grid(np.arange(5.0), np.arange(7.0), {"a": values})
    small = ground.block_mean(grid, 12)
    assert small.values["a"].shape == (3, 4)
    assert small.values["a"][0, 0] == pytest.approx(np.nanmean(values[:2, :2]))
    assert small.values["a"][2, 3] == values[4, 6]
    assert small.lat.tolist() == [0.5, 2.5, 4.5]
    assert small.lon.tolist() == [0.5, 2.5, 4.5, 6.5]


def test_interactive_map_takes_the_nearest_rows_of_an_unevenly_spaced_grid():
    lat = np.degrees(np.arcsin(np.linspace(-0.9, 0.9, 40)))
    rows = xr.zeros_like(field(lat=lat)) + xr.DataArray(lat, dims="lat")
    assert twin_of(plots.static_maps, {"a": rows}, units="m3 m-3") is not None
    grid = ground.block_mean(ground.check_fields("test", {"a": rows}), rows.size)
    np.testing.assert_allclose(np.diff(grid.lat), np.diff(grid.lat)[0])
    assert np.abs(grid.values["a"][:, 0] - grid.lat).max() <= np.diff(lat).max() / 2 + 1e-9


def test_a_field_of_an_ease_grid_is_drawn_as_it_is_opened():
    window = M36.window(south=30.0, north=40.0, west=-100.0, east=-90.0)
    values = np.linspace(0.1, 0.4, window.shape[0])[:, None] + np.zeros(window.shape)  # wet in the south
    days = xr.DataArray(values, window.coords(), ("y", "x"), attrs={"units": "m3 m-3", "synthetic": 1})
    figure = plots.static_maps({"SMAP": days})
    image = warped(pictures(figure)[0])
    assert np.nanmean(image[:50]) < np.nanmean(image[-50:])
    assert titles(figure) == ["SMAP (synthetic)"]


def test_interactive_image_panels_match_their_twin():
    tb = xr.concat([200 + 100 * field(i / 10) for i in range(2)], pd.Index(["6.9H", "6.9V"], name="channel"))
    shown = figures_of(twin_of(plots.image_panels, tb.assign_attrs(units="K"), synthetic=True))
    assert {f.title.text for f in shown} == {"6.9 GHz H (synthetic)", "6.9 GHz V (synthetic)"}
    clim = pictures(plots.image_panels(tb.assign_attrs(units="K")))[0].get_clim()
    for figure in shown:
        mapper = next(r.glyph.color_mapper for r in figure.renderers if hasattr(r.glyph, "color_mapper"))
        assert (mapper.low, mapper.high) == clim


# scatter


def pairs(n: int = 20_000):
    rng = np.random.default_rng(3)
    obs = rng.uniform(0.05, 0.45, n)
    return {"CNN": obs + 0.03 * rng.standard_normal(n), "SVR": 0.7 * obs + 0.1 + 0.04 * rng.standard_normal(n)}, obs


def test_density_scatter_scores_agree_with_sklearn_and_numpy():
    pred, obs = pairs()
    pred["SVR"][:10] = np.nan
    found, _ = charts.bin_pairs(pred, obs, bins=50, limits=None)
    ok = np.isfinite(pred["SVR"])
    scores = found["SVR"].scores
    assert scores["n"] == ok.sum()
    assert scores["r"] == pytest.approx(np.corrcoef(pred["SVR"][ok], obs[ok])[0, 1])
    assert scores["r2"] == pytest.approx(r2_score(obs[ok], pred["SVR"][ok]))
    assert scores["ubrmse"] == pytest.approx(np.std(pred["SVR"][ok] - obs[ok]))
    assert scores["bias"] == pytest.approx(np.mean(pred["SVR"][ok] - obs[ok]))
    slope, intercept = np.polyfit(obs[ok], pred["SVR"][ok], 1)
    assert (found["SVR"].slope, found["SVR"].intercept) == pytest.approx((slope, intercept))
    assert np.nansum(found["SVR"].counts) + found["SVR"].outside == ok.sum()


def test_density_scatter_has_common_axes_colours_and_lines():
    pred, obs = pairs()
    figure = plots.density_scatter(pred, obs, units="m3 m-3", reference="ERA-Interim", synthetic=True)
    panels = [axes for axes in figure.axes if axes.get_label() != "colorbar"]
    assert titles(figure) == ["(a) CNN (synthetic)", "(b) SVR (synthetic)"]
    assert panels[0].get_xlim() == panels[0].get_ylim() == panels[1].get_xlim() == panels[1].get_ylim()
    assert len({axes.collections[0].norm.vmax for axes in panels}) == 1
    one, fit = panels[1].lines
    assert np.array_equal(one.get_xdata(), one.get_ydata())
    assert fit.get_linestyle() == "--"
    assert "ubRMSE" in panels[0].texts[0].get_text()
    assert panels[0].get_xlabel() == "ERA-Interim soil moisture (m³ m⁻³)"
    assert titles(plots.density_scatter(pred["CNN"], obs, units="m3 m-3")) == ["Prediction"]


def test_density_scatter_counts_what_lies_off_the_axes():
    pred, obs = pairs(1000)
    figure = plots.density_scatter(pred["CNN"], obs, units="m3 m-3", limits=(0.1, 0.3))
    outside = np.sum((obs < 0.1) | (obs > 0.3) | (pred["CNN"] < 0.1) | (pred["CNN"] > 0.3))
    assert f"{outside:,} off the axes" in figure.axes[0].texts[0].get_text()


@pytest.mark.parametrize(
    ("n", "ticks"), [(3, ["1", "2", "3"]), (700, ["1", "2", "5", "10", "20", "50", "100", "200", "500"])]
)
def test_the_bar_of_counts_shows_plain_numbers(n, ticks):
    obs = np.r_[np.full(n, 0.2), 0.31]
    bar = plots.density_scatter(obs, obs, units="1").axes[-1]
    assert [label.get_text() for label in bar.get_yticklabels()] == ticks


def test_scatter_refuses_what_does_not_pair():
    (pred, obs), draw = pairs(100), plots.density_scatter
    with pytest.raises(ContractError, match=r"differ in shape; got \(99,\); expected \(100,\)"):
        draw(pred["CNN"][:-1], obs, units="1")
    with pytest.raises(ContractError, match="fewer than two finite pairs; got 0"):
        draw(pred["CNN"] * np.nan, obs, units="1")
    with pytest.raises(ContractError, match="no reference for model 'SVR'"):
        draw(pred, {"CNN": obs}, units="1")
    with pytest.raises(ParameterError, match=r"'bins'.*at least 2"):
        draw(pred, obs, units="1", bins=1)
    with pytest.raises(ParameterError, match="not a finite ascending pair"):
        draw(pred, obs, units="1", limits=(1.0, 0.0))


def test_constant_reference_has_no_correlation_but_a_figure():
    figure = plots.density_scatter(np.linspace(0, 1, 50), np.full(50, 0.5), units="1")
    assert "R = nan" in figure.axes[0].texts[0].get_text()


def test_interactive_scatter_is_bounded_whatever_n():
    few, many = (
        display.figure_html(twin_of(plots.density_scatter, *pairs(n), units="m3 m-3")) for n in (2000, 100_000)
    )
    assert len(many) < 120_000
    assert len(few) < 120_000
    shown = figures_of(twin_of(plots.density_scatter, *pairs(2000), units="m3 m-3", synthetic=True))
    assert {f.title.text for f in shown} == {"CNN (synthetic)", "SVR (synthetic)"}
    hover = next(
        t for t in shown[0].tools if type(t).__name__ == "HoverTool" and t.tooltips and "pairs" in dict(t.tooltips)
    )
    assert list(dict(hover.tooltips)) == ["reference", "prediction", "pairs"]


# series and histograms

HISTORY = pd.DataFrame({"epoch": range(5), "train": [1, 0.5, 0.3, 0.25, 0.2], "val": [1.1, 0.6, np.nan, 0.35, 0.33]})
LEARNING = {
    "x": "epoch",
    "y": {"train": "training", "val": "validation"},
    "xlabel": "Epoch",
    "ylabel": "Loss",
    "title": "Learning curve",
}


def test_series_draws_the_columns_on_a_log_axis():
    axes = plots.series(HISTORY, log_y=True, synthetic=True, **LEARNING).axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_title("left") == "Learning curve (synthetic)"
    assert [line.get_label() for line in axes.lines] == ["training", "validation"]
    assert np.array_equal(axes.lines[1].get_ydata(), HISTORY["val"], equal_nan=True)
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_series_refuses_what_it_cannot_draw():
    draw = plots.series
    with pytest.raises(ContractError, match=r"columns \['test'\] are missing"):
        draw(HISTORY, **LEARNING | {"y": ["test"]})
    with pytest.raises(ContractError, match="missing everywhere"):
        draw(HISTORY.assign(val=np.nan), **LEARNING)
    with pytest.raises(ContractError, match="log axis cannot show; got -1"):
        draw(HISTORY.assign(val=-1.0), log_y=True, **LEARNING)


def test_interactive_series_title_and_curves():
    figure = figures_of(twin_of(plots.series, HISTORY, synthetic=True, **LEARNING))[0]
    assert figure.title.text == "Learning curve (synthetic)"
    assert len(figure.renderers) == 2


def test_histograms_group_by_unit_and_add_up():
    rng = np.random.default_rng(0)
    arrays = {
        "6.9H": rng.normal(240, 5, 999),
        "6.9V": rng.normal(260, 5, (30, 30)),
        "target": rng.uniform(0.1, 0.4, 500),
    }
    figure = plots.histograms(arrays, units={"6.9H": "K", "6.9V": "K", "target": "m3 m-3"}, synthetic=True)
    assert len(figure.axes) == 2
    assert all(t.endswith("(synthetic)") for t in titles(figure))
    for line in figure.axes[0].lines:
        assert line.get_ydata()[:-1].sum() == pytest.approx(100, abs=1)
    assert figure.axes[0].get_xlabel() == "Value (K)"
    with pytest.raises(ContractError, match=r"'6.9V' is missing everywhere"):
        plots.histograms(arrays | {"6.9V": [np.nan]}, units="K")
    with pytest.raises(ContractError, match="'target' has no unit"):
        plots.histograms(arrays, units={"6.9H": "K", "6.9V": "K"})


# files and notebooks


def test_a_figure_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "curve.png"
    figure = plots.series(HISTORY, **LEARNING, save=path)
    image = PIL.Image.open(path).convert("L")
    assert image.size == (787, 465)
    assert len(np.unique(np.asarray(image))) > 20
    assert plots.png_bytes(figure) == path.read_bytes()
    before = path.read_bytes()
    monkeypatch.setattr(
        display, "png_bytes", lambda figure: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space left"):
        figure.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["curve.png"]
    with pytest.raises(ParameterError, match=r"does not end in \.png"):
        plots.series(HISTORY, **LEARNING, save=tmp_path / "curve.pdf")


FIGURES = [
    one for one in map(plots.__dict__.get, plots.__all__) if inspect.isfunction(one) and hasattr(one, "__wrapped__")
]


@pytest.mark.parametrize("draw", FIGURES)
def test_every_figure_can_be_saved_and_has_one_interface(draw):
    signature = inspect.signature(draw)
    assert signature.parameters["save"].default is None
    assert signature.parameters["synthetic"].default is None
    assert signature.return_annotation == "Picture"


def test_reduced_png_is_smaller_and_looks_the_same():
    figure = plots.static_maps({"a": field()}, units="m3 m-3")
    full, small = plots.png_bytes(figure), plots.png_bytes(figure, colours=256)
    assert len(small) < 0.6 * len(full)
    a, b = (np.asarray(PIL.Image.open(io.BytesIO(x)).convert("RGB"), dtype=float) for x in (full, small))
    assert np.abs(a - b).mean() < 4


def test_a_page_of_figures_asks_nobody():
    text = display.loader_html() + display.figure_html(twin_of(plots.static_maps, {"a": field()}, units="m3 m-3"))
    assert len(text) < 800_000
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", text)
    packed = re.findall(r'atob\("([A-Za-z0-9+/=]+)"\)', text)
    assert len(packed) == 1
    script = gzip.decompress(base64.b64decode(packed[0])).decode()
    assert "bokeh.version" in script
    assert "Bokeh" in script


def test_loader_is_small_and_the_same_each_time():
    first = display.loader_html()
    display.loader_html.cache_clear()
    assert display.loader_html() == first
    assert len(first) < 600_000


def test_figure_cannot_end_its_script_early():
    text = display.figure_html(twin_of(plots.static_maps, {"</script><b>x": field()}, units="m3 m-3"))
    assert text.count("</script>") == 1
    item = re.search(r"var item = (\{.*\}), tries", text).group(1)
    assert json.loads(item)["doc"]["version"]


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setitem(display._state, "loader_shown", False)
    return shown


def test_a_cell_shows_the_static_figure_first_and_bokeh_once(displayed):
    figure = plots.series(HISTORY, **LEARNING)
    figure._ipython_display_()
    figure._ipython_display_()
    assert [type(o).__name__ for o in displayed] == ["Image", "HTML", "HTML", "Image", "HTML"]
    assert displayed[0].data[:4] == b"\x89PNG"
    assert "DecompressionStream" in displayed[1].data
    assert "DecompressionStream" not in displayed[4].data
    assert (
        re.search(r'id="smnb-\w+"', displayed[2].data).group() != re.search(r'id="smnb-\w+"', displayed[4].data).group()
    )


def test_one_switch_turns_interactive_figures_off(displayed, monkeypatch):
    figure = plots.series(HISTORY, **LEARNING)
    monkeypatch.setattr(figure, "twin", lambda: pytest.fail("made though not wanted"))
    monkeypatch.setenv("SMNB_INTERACTIVE", "0")
    plots.enable()
    figure._ipython_display_()
    assert [type(o).__name__ for o in displayed] == ["Image"]
    monkeypatch.setenv("SMNB_INTERACTIVE", "yes please")
    with pytest.raises(ParameterError, match="unknown 'SMNB_INTERACTIVE'; got 'yes please'"):
        figure._ipython_display_()


def test_hvplot_works_on_tables_and_fields_once_enabled(displayed):
    plots.enable()
    for drawn in (HISTORY.hvplot.line(x="epoch"), field().rename("soil moisture").hvplot(), HISTORY["val"].hvplot()):
        assert "embed_item" in display.figure_html(drawn)
    assert [type(o).__name__ for o in displayed] == ["HTML"]  # no extension, which would print megabytes


def test_data_say_themselves_that_they_are_synthetic():
    table = HISTORY.copy()
    table.attrs["synthetic"] = True
    figure = plots.series(table, **LEARNING)
    assert titles(figure) == ["Learning curve (synthetic)"]
    assert figures_of(figure.twin())[0].title.text == "Learning curve (synthetic)"
    assert titles(plots.series(table, **LEARNING, synthetic=False)) == ["Learning curve"]
    nested = {"Tucson": {"a": field().assign_attrs(synthetic=True, units="m3 m-3")}}
    assert plots.map_matrix(nested, title="Test").texts[0].get_text() == "Test (synthetic)"


def test_panels_keep_their_letters_beyond_the_alphabet():
    assert display.panel_title(27, "x", 3.0) == "(b) x"
