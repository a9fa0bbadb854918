"""Scenes from files: windows and points against numpy, pyproj, GDAL's warp and a granule's own cells."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers the accessor .rio
import xarray as xr
import zarr
from pyproj import CRS, Transformer
from rasterio.transform import Affine, from_origin
from rasterio.warp import Resampling, reproject

from smnb.catalog import Catalog
from smnb.contract import CatalogError, FormatError, ParameterError, RunError
from smnb.grids import UtmWindow
from smnb.loaders import open_netcdf
from smnb.loaders.rasters import SceneIndex, SceneReader, images, opening
from smnb.loaders.rasters import open_scenes as _open
from smnb.loaders.smap.granules import open_h5

UTM = "EPSG:32614"
CORNER = from_origin(600_000, 4_100_000, 10, 10)
IN_NAME = {"pattern": r"_(?P<time>\d{8}T\d{6})"}
NAME = "S1A_IW_GRDH_1SDV_20200901T001122_20200901T001147.tif"
LAT, LON = (37.03, -97.86)  # in the middle of what `smooth` covers, about


def open_scenes(paths, **options):
    return _open(paths, **{"catalog_id": "x", "source": "sentinel1", "bands": ["VV"], "time": IN_NAME, **options})


def write(path, bands, *, transform=CORNER, crs=UTM, dtype="float32", tags=None, described=True, **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    scaling = profile.pop("scaling", None)
    mask = profile.pop("mask", None)
    values = list(bands.values())
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", **profile}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values[0].shape[0],
        width=values[0].shape[1],
        count=len(values),
        crs=crs,
        dtype=dtype,
        transform=transform,
        **profile,
    ) as out:
        for i, (name, array) in enumerate(bands.items(), 1):
            out.write(array.astype(dtype), i)
            if described:
                out.set_band_description(i, name)
        if scaling:
            out.scales, out.offsets = scaling
        if tags:
            out.update_tags(**tags)
        if mask is not None:
            out.write_mask(mask)
    return path


def noise(shape=(300, 300), seed=0):
    return np.random.default_rng(seed).normal(-11, 3, shape).astype("float32")


def smooth(shape=(300, 300)):
    row, col = np.indices(shape)
    return (np.sin(row / 23) + np.cos(col / 17) + row * 0.01 - 10).astype("float32")


def window(row, col, size, resolution=10.0, transform=CORNER):
    return UtmWindow(32614, transform.c + 10 * col, transform.f - 10 * row, resolution, size)


def points_in(window, crs):
    """A window's cell centres in another reference system, one by one by pyproj."""
    x, y = np.meshgrid(window.x, window.y)
    return Transformer.from_crs(window.epsg, crs, always_xy=True).transform(x, y)


def cells_of(transform, x, y):
    """Fractional row and column, by solving the affine map."""
    a, b, c, d, e, f = tuple(transform)[:6]
    col, row = np.linalg.solve([[a, b], [d, e]], np.stack([np.ravel(x) - c, np.ravel(y) - f]))
    return row.reshape(np.shape(x)), col.reshape(np.shape(x))


def bilinear(values, row, col):
    """The four pixels around a point, the slow way; rows and columns count from the corner."""
    out = np.full(row.shape, np.nan)
    for at in np.ndindex(row.shape):
        r, c = row[at] - 0.5, col[at] - 0.5
        if not (0 <= row[at] < values.shape[0] and 0 <= col[at] < values.shape[1]):
            continue
        if np.isnan(values[int(row[at]), int(col[at])]):
            continue
        total = weights = 0.0
        for i in (int(np.floor(r)), int(np.floor(r)) + 1):
            for j in (int(np.floor(c)), int(np.floor(c)) + 1):
                if 0 <= i < values.shape[0] and 0 <= j < values.shape[1] and np.isfinite(values[i, j]):
                    weight = (1 - abs(r - i)) * (1 - abs(c - j))
                    total, weights = total + weight * values[i, j], weights + weight
        out[at] = total / weights
    return out


# -- windows on a raster's own grid --------------------------------------------------------------------------------------


@pytest.mark.parametrize("resampling", ["bilinear", "nearest", "average"])
def test_a_window_on_the_grid_is_read_to_the_last_bit(tmp_path, resampling):
    vv, vh = noise(), noise(seed=1)
    path = write(tmp_path / NAME, {"VV": vv, "VH": vh})
    with open_scenes([path], bands=["VV", "VH"]).open(0) as reader:
        values = reader.read(window(40, 70, 128), ["VH", "VV"], resampling=resampling)
        np.testing.assert_array_equal(values, np.stack([vh, vv])[:, 40:168, 70:198])
        assert values.dtype == np.float32
        # a thousandth of a pixel off is a rounding error of the writer's
        shifted = UtmWindow(32614, 600_700.001, 4_099_600.0, 10.0, 128)
        np.testing.assert_array_equal(reader.read(shifted, ["VV"])[0], vv[40:168, 70:198])


def test_outside_the_raster_is_missing(tmp_path):
    vv = noise()
    with open_scenes([write(tmp_path / NAME, {"VV": vv})]).open(0) as reader:
        values = reader.read(window(-20, 250, 100))[0]
        expected = np.full((100, 100), np.nan, "float32")
        expected[20:, :50] = vv[:80, 250:]
        np.testing.assert_array_equal(values, expected)
        assert np.isnan(reader.read(window(5000, 5000, 8))).all()
        assert np.isnan(reader.read(UtmWindow(32756, 3e5, 6e6, 10.0, 8))).all()  # the other side of the earth


def test_no_data_scale_offset_and_masks(tmp_path):
    dn = np.random.default_rng(0).integers(1, 20_000, (300, 300))
    dn[10:20] = 0
    dn[30] = 65_535
    stated = write(tmp_path / "a_20200901T001122.tif", {"VV": dn}, dtype="uint16", nodata=0, scaling=([0.001], [-25.0]))
    raw = write(tmp_path / "b_20200901T001122.tif", {"VV": dn}, dtype="uint16")
    masked = write(tmp_path / "c_20200901T001122.tif", {"VV": dn}, dtype="uint16", mask=(dn > 0).astype("uint8") * 255)
    whole = UtmWindow(32614, CORNER.c, CORNER.f, 10.0, 300)
    expected = np.where((dn == 0) | (dn == 65_535), np.nan, dn * 0.001 - 25.0).astype("float32")  # 40.5 dB is none
    with open_scenes([stated]).open(0) as reader:
        np.testing.assert_array_equal(reader.read(whole)[0], expected)
        np.testing.assert_array_equal(reader.at([LAT], [LON]).shape, (1, 1))
    declared = {"VV": {"band": "VV", "scale": 0.001, "offset": -25, "nodata": 65_535}}
    with open_scenes([stated], bands=declared).open(0) as reader:  # what is declared goes before what is stated
        expected = np.where(dn == 65_535, np.nan, dn * 0.001 - 25.0).astype("float32")  # packed numbers may be zero
        np.testing.assert_array_equal(reader.read(whole)[0], expected)
    with open_scenes([raw], source="x").open(0) as reader:
        np.testing.assert_array_equal(reader.read(whole)[0], dn.astype("float32"))
    with open_scenes([masked], source="x").open(0) as reader:
        np.testing.assert_array_equal(reader.read(whole)[0], np.where(dn == 0, np.nan, dn).astype("float32"))


def test_what_products_mean_at_their_edges_needs_no_tag(tmp_path):
    """Zero in Sentinel-1's decibels, digital number 0, SoilGrids' fill and its zeros together are no data; -inf neither."""
    vv = noise((16, 16))
    vv[0], vv[1] = 0.0, -np.inf
    vh = np.where(np.arange(16)[:, None] == 0, 0.0, noise((16, 16), 1))
    with open_scenes([write(tmp_path / NAME, {"VV": vv, "VH": vh})], bands=["VV", "VH"]).open(0) as reader:
        values = reader.read(window(0, 0, 16))
    assert np.isnan(values[0, :2]).all()
    assert np.isnan(values[1, 0]).all()
    assert np.isfinite(values[0, 2:]).all()
    assert np.isfinite(values[1, 1:]).all()
    dn = np.where(np.arange(16)[:, None] == 0, 0, 1360) * np.ones((16, 16))
    later = write(tmp_path / "s2_20220201T000000.tif", {"B4": dn}, dtype="uint16")
    with open_scenes([later], source="sentinel2", bands=["B4"], boa_add_offset=-1000).open(0) as reader:
        values = reader.read(window(0, 0, 16))[0]
    assert np.isnan(values[0]).all()
    assert (values[1:] == 360).all()
    names = ("sand", "silt", "clay", "bdod")
    soil = {"source": "soilgrids", "bands": list(names), "time": {"static": True}}
    soil["scene"] = {"pattern": r"(?P<scene>\w)_(?P<band>\w{4})\.tif"}
    for scene, fill in (("f", -32768), ("z", 0)):
        for name in names:
            field = np.full((16, 16), 300)
            field[0] = fill
            field[1] = 0 if name == "sand" else 300  # one fraction of none is no water
            write(tmp_path / "soil" / f"{scene}_{name}.tif", {name: field}, dtype="int16")
    index = open_scenes(sorted((tmp_path / "soil").glob("*.tif")), **soil)
    for position in range(2):
        with index.open(position) as reader:
            values = reader.read(window(0, 0, 16))
        assert np.isnan(values[:, 0]).all()
        assert np.isfinite(values[:, 1:]).all()


def test_an_offset_that_was_taken_off_before_is_refused(tmp_path):
    dn = np.random.default_rng(0).integers(300, 800, (32, 32))  # harmonised, under the name of baseline 04.00
    path = write(tmp_path / "S2A_MSIL1C_20220201T170000_N0400_R001.tif", {"B4": dn}, dtype="uint16")
    by_name = {"baseline": r"_N(?P<baseline>\d{4})_"}
    index = open_scenes([path], source="sentinel2", bands=["B4"], boa_add_offset=by_name)
    with index.open(0) as reader, pytest.raises(FormatError, match=r"most reflectances are negative.*harmonised"):
        reader.read(window(0, 0, 32))


#: Of each product a usual number and those that are no data whatever a file says.
NO_DATA = [
    (
        "sentinel1",
        "VV",
        -11.5,
        "float32",
        (0.0, -np.inf, np.inf, np.nan, -9999, -999, -32768, 1e20, 9.96921e36, -3.4e38),
    ),
    ("sentinel1", "angle", 38.0, "float32", (0.0, -9999, 255, 1e20)),
    ("sentinel2", "B4", 1200, "uint16", (0, 65535, 30_000)),
    ("sentinel2", "B4", 1200, "int16", (0, -9999, -32768, -1000)),
    ("dem", "elevation", 0, "int16", (-32768, -32767, -9999, 32767)),
    ("dem", "elevation", 230.5, "float32", (-9999, np.inf, -3.4e38, 9.96921e36)),
    ("soilgrids", "sand", 300, "int16", (-32768, -9999, 0)),
    ("soilgrids", "bdod", 140, "float32", (-32768, 0, 1e20, 32767)),
    ("modis_lai", "Lai", 30, "uint8", tuple(range(249, 256))),
    ("modis_lai", "Lai", 30, "float32", (255, 249, -9999)),
    ("smap", "ssm", 12.5, "float32", (-9999, -999, 1e20, 255)),
    ("gldas", "SoilMoi0_10cm_inst", 25.0, "float32", (-9999, 1e20, 1e15)),
    ("landcover", "land_cover", 40, "uint8", (255,)),
    ("mine", "q", 3.5, "float32", (1e20, 9.96921e36, -3.4e38, np.inf)),
]


@pytest.mark.parametrize(("source", "band", "usual", "dtype", "fills"), NO_DATA)
@pytest.mark.parametrize("form", ["tif", "nc"])
def test_no_data_of_every_product_needs_no_tag(tmp_path, source, band, usual, dtype, fills, form):
    values = np.full((20, 30), usual, dtype)
    for i, fill in enumerate(fills):
        values[0, 3 * i] = fill
    options = {"source": source, "bands": [band], "time": {"static": True}}
    if form == "tif":
        path = write(tmp_path / "a.tif", {band: values}, dtype=dtype)
    else:
        path, options["bands"] = tmp_path / "a.nc", {band: {"variable": band}}
        dims = {"y": CORNER.f - 10 * np.arange(20) - 5, "x": CORNER.c + 10 * np.arange(30) + 5.0}
        mapping = xr.DataArray(0, attrs=CRS(UTM).to_cf())
        array = xr.DataArray(values, dims, ("y", "x"), attrs={"grid_mapping": "crs"})
        xr.Dataset({band: array, "crs": mapping}).to_netcdf(path, encoding={band: {"_FillValue": None}})
    with open_scenes([path], **options).open(0) as reader:
        got = reader.read(UtmWindow(32614, CORNER.c, CORNER.f, 10.0, 20))[0]
    expected = values[:, :20].astype("float32")
    expected[0, : 3 * len(fills) : 3] = np.nan
    np.testing.assert_array_equal(got, expected)
    packed = {band: {"band" if form == "tif" else "variable": band, "scale": 1.0}}  # declared, as the file may state it
    with open_scenes([path], **{**options, "bands": packed}).open(0) as reader:
        np.testing.assert_array_equal(reader.read(UtmWindow(32614, CORNER.c, CORNER.f, 10.0, 20))[0], expected)


@pytest.mark.parametrize(
    ("source", "band", "low", "high", "options", "message"),
    [
        ("sentinel1", "VV", 0.01, 0.4, {}, "no decibels: linear power or digital numbers"),
        ("sentinel1", "VH", 100, 900, {}, "no decibels: linear power or digital numbers"),
        ("sentinel1", "VV", -20, -5, {"units": {"VV": "linear"}}, "no backscatter in the units declared"),
        ("sentinel1", "angle", 0.5, 0.8, {}, "no degrees.*radian"),
        ("sentinel2", "B4", 0.02, 0.4, {}, "no digital numbers: reflectance"),
        ("sentinel2", "B10", 1005, 1040, {}, "cirrus band is bright.*had not been taken off"),
        ("sentinel2", "B4", -700, -200, {}, "most reflectances are negative.*twice"),
        ("sentinel2", "B4", 200, 600, {"boa_add_offset": -1000}, "most reflectances are negative.*twice"),
        ("gldas", "SoilMoi0_10cm_inst", 0.1, 0.4, {}, "cannot be in kg m-2"),
        ("soilgrids", "bdod", 1200, 1500, {}, "cannot be in cg cm-3"),
        ("dem", "elevation", 20_000, 30_000, {}, "cannot be in m"),
    ],
)
def test_a_scene_in_other_units_is_refused_and_a_part_of_one_is_not(
    tmp_path, source, band, low, high, options, message
):
    """By scene: the one before is as it should be; and a part that looks odd within a usual scene is read as it is."""
    odd = np.random.default_rng(0).uniform(low, high, (200, 200))
    usual = {"angle": 38.0, "VV": -12.0, "VH": -12.0, "B10": 15.0, "B4": 1800.0, "bdod": 140.0}.get(band, 20.0)
    if "units" in options:
        usual = 10 ** (usual / 10)
    part = np.where(np.arange(200)[:, None] < 20, odd, usual)
    paths = [
        write(tmp_path / f"{day}T000000.tif", {band: values})
        for day, values in (("20220201", part), ("20220203", odd), ("20220205", np.where(part == odd, 0.0, odd)))
    ]
    index = open_scenes(paths, source=source, bands=[band], time={"pattern": r"(?P<time>\d{8}T\d{6})"}, **options)
    with index.open(0) as reader:
        assert np.isfinite(reader.read(window(25, 0, 100))).all()
        reader.read(window(0, 0, 20))
    for position in (1, 2):
        with index.open(position) as reader, pytest.raises(FormatError, match=f"{band}: .*{message}"):
            reader.read(window(30, 30, 16))
        with index.open(position) as reader, pytest.raises(FormatError, match=message):
            reader.at([LAT, LAT], [LON, LON - 0.001])


def test_a_city_may_be_brighter_than_a_decibel_of_zero_and_power_is_still_refused(tmp_path):
    city = np.random.default_rng(0).normal(3.0, 5.0, (200, 200))
    power = np.random.default_rng(0).uniform(0.5, 9.0, (200, 200))
    power[::30, ::30] = -0.2  # what an interpolation overshoots
    for name, values in (("city", city), ("power", power)):
        path = write(tmp_path / f"{name}.tif", {"VV": values})
        index = open_scenes([path], source="sentinel1", bands=["VV"], time={"static": True})
        told = pytest.raises(FormatError, match="no decibels") if name == "power" else contextlib.nullcontext()
        with index.open(0) as reader, told:
            assert np.isfinite(reader.read(window(30, 30, 16))).all()


def test_a_no_data_tag_with_more_digits_than_float32(tmp_path):
    vv = noise()
    vv[5] = np.float32(-3.4e38)
    with open_scenes([write(tmp_path / NAME, {"VV": vv}, nodata=-3.4e38)]).open(0) as reader:
        values = reader.read(window(0, 0, 300))[0]
    assert np.isnan(values[5]).all()
    assert np.isfinite(np.delete(values, 5, axis=0)).all()


# -- other grids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (UTM, from_origin(600_003.7, 4_100_001.2, 10, 10)),
        (UTM, from_origin(600_000, 4_100_000, 20, 20)),
        ("EPSG:32615", from_origin(66_500, 4_106_000, 12, 9)),
        ("EPSG:4326", from_origin(-97.9, 37.05, 0.0003, 0.00025)),
        ("EPSG:4326", Affine(0.0003, 0, -97.9, 0, 0.00025, 36.95)),  # south up
        ("EPSG:5070", Affine(10, 1, -174_000, 1.5, -10, 1_552_000)),  # Albers, rotated
    ],
)
@pytest.mark.parametrize("holes", [False, True])
def test_other_grids_are_sampled_exactly(tmp_path, crs, transform, holes):
    values = smooth()
    if holes:
        values[np.random.default_rng(3).random(values.shape) < 0.1] = np.nan
    path = write(tmp_path / NAME, {"VV": values}, crs=crs, transform=transform)
    middle = rasterio.transform.xy(transform, 149.5, 149.5)
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(*middle)
    target = UtmWindow.centred(lat, lon, size=48, resolution=10)
    assert target.epsg == 32614
    row, col = cells_of(transform, *points_in(target, crs))
    with open_scenes([path]).open(0) as reader:
        np.testing.assert_allclose(reader.read(target)[0], bilinear(values, row, col), atol=2e-5)
        nearest = reader.read(target, resampling="nearest")[0]
    edge = np.minimum.reduce([np.abs(v - np.round(v)) for v in (row, col)]) < 1e-5
    taken = values[np.floor(row).astype(int), np.floor(col).astype(int)]
    np.testing.assert_array_equal(nearest[~edge], taken[~edge])


def test_gdal_agrees_to_its_own_tolerance(tmp_path):
    values, transform = smooth((600, 600)), from_origin(66_500, 4_106_000, 10, 10)
    path = write(tmp_path / NAME, {"VV": values}, crs="EPSG:32615", transform=transform)
    lon, lat = Transformer.from_crs(32615, 4326, always_xy=True).transform(
        *rasterio.transform.xy(transform, 299.5, 299.5)
    )
    target = UtmWindow.centred(lat, lon, size=256, resolution=10)
    warped = np.full(target.shape, np.nan, "float32")
    reproject(
        values,
        warped,
        src_transform=transform,
        src_crs="EPSG:32615",
        dst_transform=target.transform,
        dst_crs=f"EPSG:{target.epsg}",
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    with open_scenes([path]).open(0) as reader:
        ours = reader.read(target)[0]
    assert np.isfinite(ours).all()
    slope = 0.125 * (1 / 23 + 1 / 17 + 0.01)  # GDAL places pixels to an eighth
    assert np.abs(ours - warped).max() < slope


@pytest.mark.parametrize("holes", [False, True])
def test_averages_of_fine_pixels(tmp_path, holes):
    values = noise((512, 512))
    if holes:
        values[:40] = np.nan
        values[np.random.default_rng(3).random(values.shape) < 0.3] = np.nan
    path = write(tmp_path / NAME, {"VV": values})
    with open_scenes([path]).open(0) as reader:
        low = reader.read(window(0, 0, 32, 160.0), resampling="average")[0]
        blocks = values.reshape(32, 16, 32, 16)
        with np.errstate(invalid="ignore"):
            expected = np.nansum(blocks, axis=(1, 3), dtype="f8") / np.isfinite(blocks).sum(axis=(1, 3))
        np.testing.assert_allclose(low, expected, rtol=1e-6)
        assert np.isnan(low[:2]).all() == holes
        # cells that are finer than pixels, and one cell alone
        fine = reader.read(window(40, 40, 20, 5.0), resampling="average")[0]
        np.testing.assert_array_equal(fine, np.repeat(np.repeat(values[40:50, 40:50], 2, 0), 2, 1))
        one = reader.read(window(64, 64, 1, 160.0), resampling="average")[0]
        np.testing.assert_allclose(one[0, 0], np.nanmean(values[64:80, 64:80], dtype="f8"), rtol=1e-6)


@pytest.mark.parametrize("step", [0.0001, 0.0009])
def test_an_average_across_projections_weights_pixels_by_area(tmp_path, step):
    values = smooth((400, 400))
    path = write(tmp_path / NAME, {"VV": values}, crs="EPSG:4326", transform=from_origin(-97.95, 37.2, step, step))
    target = UtmWindow.centred(37.2 - 200 * step, -97.95 + 200 * step, size=5, resolution=320)
    with open_scenes([path]).open(0) as reader:
        low = reader.read(target, resampling="average")[0]
    # the pixel at each of 100 x 100 points in a cell
    fine = target.coarsened(3.2)
    lon, lat = points_in(fine, 4326)
    taken = values[np.floor((37.2 - lat) / step).astype(int), np.floor((lon + 97.95) / step).astype(int)]
    expected = taken.reshape(5, 100, 5, 100).mean(axis=(1, 3))
    assert np.abs(low - expected).max() < 0.02
    assert np.abs(low - expected).mean() < 0.01


def test_bands_of_several_sizes_and_files_of_one_scene(tmp_path):
    b4, b11 = 3000 + noise(), 3000 + noise((150, 150), 1)
    write(tmp_path / "L1C_20200901T001122_B04.tif", {"x": b4})
    write(tmp_path / "L1C_20200901T001122_B11.tif", {"x": b11}, transform=from_origin(600_000, 4_100_000, 20, 20))
    write(tmp_path / "L1C_20200901T001122_B01.tif", {"x": b11}, transform=from_origin(600_000, 4_100_000, 20, 20))
    index = open_scenes(
        sorted(tmp_path.glob("*.tif")),
        source="sentinel2",
        bands={"B4": {"band": "B04"}, "B11": {"band": "B11"}},
        scene={"pattern": r"(?P<scene>.+)_(?P<band>B\d\d)\.tif"},
    )
    assert list(index.table["scene_id"]) == ["L1C_20200901T001122"]
    assert index.units == {"B4": "1e-4", "B11": "1e-4"}
    with index.open(0) as reader:
        values = reader.read(window(100, 100, 40), resampling="nearest")
    np.testing.assert_array_equal(values[0], b4[100:140, 100:140])
    np.testing.assert_array_equal(values[1], np.repeat(np.repeat(b11[50:70, 50:70], 2, 0), 2, 1))


# -- points --------------------------------------------------------------------------------------------------------------


def test_points_are_the_cells_that_hold_them(tmp_path):
    vv, vh = noise((400, 400)), noise((400, 400), 1)
    path = write(
        tmp_path / NAME, {"VV": vv, "VH": vh}, crs="EPSG:32615", transform=from_origin(66_500, 4_106_000, 12, 9)
    )
    rng = np.random.default_rng(1)
    x, y = 66_500 + 12 * rng.uniform(-20, 420, 300), 4_106_000 - 9 * rng.uniform(-20, 420, 300)
    lon, lat = Transformer.from_crs(32615, 4326, always_xy=True).transform(x, y)
    row, col = np.floor((4_106_000 - y) / 9).astype(int), np.floor((x - 66_500) / 12).astype(int)
    inside = (row >= 0) & (row < 400) & (col >= 0) & (col < 400)
    with open_scenes([path], bands=["VV", "VH"]).open(0) as reader:
        values = reader.at(lat, lon)
        assert values.shape == (300, 2)
        np.testing.assert_array_equal(reader.at(lat[3], lon[3], ["VH"]), values[3:4, 1:])
    assert np.isnan(values[~inside]).all()
    np.testing.assert_array_equal(values[inside], np.stack([vv, vh], -1)[row[inside], col[inside]])
    assert 20 < (~inside).sum() < 100


@pytest.mark.parametrize("first", [-180.0, 0.0, -30.0])
def test_longitudes_of_any_turn(tmp_path, first):
    """A global grid of -180..180 or 0..360 gives the same at every point and window, on its seam too."""
    lat, lon = np.arange(89.5, -90, -1.0), first + np.arange(360) + 0.5
    canonical = (lon + 180) % 360 - 180
    values = (lat[:, None] * 1000 + canonical[None, :]).astype("float32")
    dataset = xr.Dataset(
        {"ssm": (("lat", "lon"), values, {"units": "mm"})},
        {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    )
    dataset.to_netcdf(tmp_path / "a_20200901.nc", engine="h5netcdf")
    index = open_scenes(
        [tmp_path / "a_20200901.nc"],
        source="field",
        bands={"ssm": {"variable": "ssm"}},
        units={"ssm": "mm"},
        time={"pattern": r"_(?P<time>\d{8})\."},
    )
    assert index.table.loc[0, ["west", "east"]].tolist() == [-180.0, 180.0]
    with index.open(0) as reader:
        points = np.array([179.9, -179.9, 0.1, -0.1, 359.9, 180.0, -30.1, -29.9])
        expected = 40500 + np.floor((points + 180) % 360 - 180) + 0.5
        np.testing.assert_array_equal(reader.at(np.full(8, 40.2), points)[:, 0], expected.astype("float32"))
        assert reader.at([90.0], [0.0]).shape == (1, 1)
        for lon_at in (179.999, -179.999, -0.001, 0.001, -30.0, 100.0):
            target = UtmWindow.centred(40.3, lon_at, size=24, resolution=5000)
            lon_in, lat_in = points_in(target, 4326)
            # the field is a plane but for the jump of its longitude at the date line: compare away from it
            away = np.abs(np.abs(lon_in) - 180) > 1
            got = reader.read(target)[0]
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got[away], (lat_in * 1000 + lon_in)[away], atol=5)  # half a percent of a pixel
            nearest = reader.read(target, resampling="nearest")[0]
            cells = (np.floor(lat_in) + 0.5) * 1000 + np.floor((lon_in + 180) % 360 - 180) + 0.5
            # GDAL places cells to an eighth of a pixel
            edge = np.minimum(np.abs(lon_in - np.round(lon_in)), np.abs(lat_in - np.round(lat_in))) < 0.125
            np.testing.assert_array_equal(nearest[~edge], cells[~edge].astype("float32"))


def test_real_gldas_granules(shared_samples):
    paths = sorted((shared_samples / "gldas_noah025_3h").glob("*.nc4"))
    name = "SoilMoi0_10cm_inst"
    index = open_scenes(
        paths,
        source="gldas",
        bands={name: {"variable": name}},
        units={name: "kg m-2"},
        time={"pattern": r"\.A(?P<time>\d{8}\.\d{4})\."},
    )
    assert list(index.table["time"]) == [pd.Timestamp("2016-01-01T03"), pd.Timestamp("2016-01-01T06")]
    assert index.table.loc[0, ["west", "south", "east", "north"]].tolist() == [-180, -60, 180, 90]
    with h5py.File(paths[1]) as file:
        field, lat, lon = (file[key][()].squeeze() for key in (name, "lat", "lon"))
    rows, cols = np.nonzero(field != -9999)
    some = np.random.default_rng(0).choice(rows.size, 500, replace=False)
    rows, cols = rows[some], cols[some]
    with index.open(1) as reader:
        values = reader.at(lat[rows] + 0.1, lon[cols] - 0.12)[:, 0]
        np.testing.assert_array_equal(values, field[rows, cols])
        assert np.isnan(reader.at([-75.0, 0.0], [0.0, -30.0])).all()  # south of the grid, and the ocean
        on_0_360 = reader.at(lat[rows], lon[cols] % 360)[:, 0]
        np.testing.assert_array_equal(on_0_360, values)
    # the times in the file are the same, by another way
    by_dimension = open_scenes(paths, source="gldas", bands={name: {"variable": name}}, time={"dimension": "time"})
    assert (by_dimension.table["time"] == index.table["time"]).all()
    with by_dimension.open(1) as reader:
        np.testing.assert_array_equal(reader.at(lat[rows], lon[cols])[:, 0], values)


def test_real_sentinel1_geotiffs(shared_samples):
    paths = sorted((shared_samples / "s1_geotiff").glob("*.tiff"))
    index = open_scenes(
        paths,
        source="sentinel1_dn",
        bands={"one": 1, "two": {"band": 2, "scale": 0.01, "offset": -3}},
        time={"static": True},
    )
    assert index.is_static
    for position, path in enumerate(paths):
        with rasterio.open(path) as source:
            bounds, numbers = source.bounds, source.read()
            lon, lat = source.xy(200, 210)
        row = index.table.loc[position]
        assert row[["west", "south", "east", "north"]].to_list() == pytest.approx(list(bounds))
        with index.open(position) as reader:
            assert reader.at(lat, lon).tolist() == [
                [numbers[0, 200, 210], pytest.approx(numbers[1, 200, 210] * 0.01 - 3, rel=1e-6)]
            ]
            target = UtmWindow.centred(lat, lon, size=64, resolution=10)
            x, y = points_in(target, 4326)
            with rasterio.open(path) as source:
                r, col = cells_of(source.transform, x, y)
            np.testing.assert_allclose(
                reader.read(target, ["one"])[0], bilinear(numbers[0].astype("f8"), r, col), rtol=5e-3
            )


# -- NetCDF and Zarr -----------------------------------------------------------------------------------------------------


def stack(*, crs=UTM, times=("2020-09-01T12:00", "2020-09-02T12:00"), transform=CORNER, size=60):
    x = transform.c + transform.a * (np.arange(size) + 0.5)
    y = transform.f + transform.e * (np.arange(size) + 0.5)
    values = np.stack([noise((size, size), seed) for seed in range(len(times))])
    dataset = xr.Dataset(
        {"ssm": (("time", "y", "x"), values, {"units": "mm"})},
        {"time": np.array(times, "datetime64[ns]"), "y": y, "x": x},
    )
    return (dataset.rio.write_crs(crs) if crs else dataset), values


FIELD = {
    "source": "field",
    "bands": {"ssm": {"variable": "ssm"}},
    "units": {"ssm": "mm"},
    "time": {"dimension": "time"},
}


@pytest.mark.parametrize("form", ["netcdf4", "classic", "zarr", "zarr.json"])
def test_stacks_in_time(tmp_path, form):
    dataset, values = stack()
    values[:, 3, 4] = np.nan
    dataset["ssm"].values[:, 3, 4] = np.nan
    encoding = {"ssm": {"dtype": "int16", "scale_factor": 0.01, "add_offset": -10.0, "_FillValue": -32768}}
    if form.startswith("zarr"):
        path = tmp_path / "stack.zarr"
        dataset.to_zarr(path, encoding={"ssm": {**encoding["ssm"], "chunks": (1, 16, 16)}})
        path = path / "zarr.json" if form == "zarr.json" else path
    else:
        path = tmp_path / "stack.nc"
        engine = {"netcdf4": "h5netcdf", "classic": "scipy"}[form]
        dataset.to_netcdf(path, engine=engine, encoding=encoding)
    index = open_scenes([path], **FIELD)
    assert list(index.table["scene_id"]) == ["stack@2020-09-01T12:00:00", "stack@2020-09-02T12:00:00"]
    assert list(index.table["time"]) == list(pd.DatetimeIndex(dataset["time"]))
    expected = np.round((values - -10.0) / 0.01) * 0.01 - 10.0
    with pickle.loads(pickle.dumps(index)).open(1) as reader:
        np.testing.assert_allclose(reader.read(window(10, 20, 30))[0], expected[1, 10:40, 20:50], rtol=1e-6)
        assert np.isnan(reader.read(window(3, 4, 1))).all()
        lon, lat = Transformer.from_crs(UTM, 4326, always_xy=True).transform(600_000 + 295, 4_100_000 - 105)
        np.testing.assert_allclose(reader.at(lat, lon), expected[1, 10, 29], rtol=1e-6)


def test_dimensions_in_any_order_and_labels(tmp_path):
    dataset, values = stack()
    dataset = xr.concat([dataset, dataset * 2], xr.DataArray(["am", "pm"], dims="pass", name="pass"))
    dataset = dataset.transpose("x", "time", "pass", "y")
    dataset.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    bands = {"am": {"variable": "ssm", "select": {"pass": "am"}}, "pm": {"variable": "ssm", "select": {"pass": "pm"}}}
    with open_scenes([tmp_path / "a.nc"], source="x", bands=bands, time={"dimension": "time"}).open(1) as reader:
        got = reader.read(window(10, 20, 30))
    np.testing.assert_array_equal(got, np.stack([values[1], 2 * values[1]])[:, 10:40, 20:50])
    with pytest.raises(FormatError, match="a dimension 'pass' of 2 that nothing chooses from"):
        open_scenes([tmp_path / "a.nc"], source="x", bands={"s": {"variable": "ssm"}}, time={"dimension": "time"})
    bad = {"s": {"variable": "ssm", "select": {"pass": "noon"}}}
    with pytest.raises(FormatError, match="has no 'noon'"):
        open_scenes([tmp_path / "a.nc"], source="x", bands=bad, time={"dimension": "time"})


def test_headers_of_like_granules_are_interpreted_once_and_others_anew(tmp_path, monkeypatch):
    dataset, values = stack(times=("2020-09-01T12:00",))
    for day in range(1, 5):
        moved = dataset.assign_coords(
            time=dataset["time"] + np.timedelta64(day, "D"), x=dataset["x"] + (10_000 if day == 3 else 0)
        )
        scaled = {"ssm": {"dtype": "int16", "scale_factor": 0.02 if day == 4 else 0.01}}
        moved.to_netcdf(tmp_path / f"a_2020090{day}.nc", engine="h5netcdf", encoding=scaled)
    seen = []
    original = opening.read_array_header
    monkeypatch.setattr(
        "smnb.loaders.rasters.opening.read_array_header",
        lambda where, path, *a: (seen.append(path.name), original(where, path, *a))[1],
    )
    index = open_scenes(sorted(tmp_path.glob("*.nc")), **{**FIELD, "time": {"pattern": r"_(?P<time>\d{8})\.nc"}})
    assert seen == ["a_20200901.nc", "a_20200903.nc", "a_20200904.nc"]
    for position in range(4):
        with index.open(position) as reader:
            col = 1000 if position == 2 else 0
            got = reader.read(window(0, col, 60))[0]
        np.testing.assert_allclose(got, values[0], atol=0.011)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: ds.drop_vars("spatial_ref"), "states no coordinate reference system"),
        (lambda ds: ds.drop_vars("x"), "has no coordinate of longitude or of x"),
        (lambda ds: ds.assign_coords(x=ds["x"] + (np.arange(60) == 7) * 3), "is not evenly spaced"),
        (lambda ds: ds.isel(x=slice(0, 1)), "gives no step"),
        (lambda ds: ds.rename(ssm="sm"), "no variable 'ssm'"),
        (lambda ds: ds.assign(ssm=ds["ssm"].assign_attrs(units="m"), spatial_ref=ds["spatial_ref"]), "has other units"),
        (lambda ds: ds.assign_coords(time=[1, 2]), "is no coordinate of times"),
    ],
)
def test_arrays_that_cannot_be_read(tmp_path, change, message):
    dataset, _ = stack()
    change(dataset).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(FormatError, match=message):
        open_scenes([tmp_path / "a.nc"], **FIELD)


def test_damaged_arrays(tmp_path):
    dataset, _ = stack()
    path = tmp_path / "a.nc"
    dataset.to_netcdf(path, engine="h5netcdf")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FormatError, match="unreadable"):
        open_scenes([path], **FIELD)
    dataset.to_zarr(tmp_path / "b.zarr", zarr_format=3, consolidated=False)
    (tmp_path / "b.zarr" / "zarr.json").write_text("{")
    with pytest.raises(FormatError, match="unreadable"):
        open_scenes([tmp_path / "b.zarr"], **FIELD)


def test_the_door_costs_no_torch_and_no_stac() -> None:
    code = """
import sys
import smnb.loaders.rasters as door
assert not {"torch", "pystac", "dask.array"} & set(sys.modules)
assert {name: getattr(door, name).__name__ for name in door.__all__} == {name: name for name in door.__all__}
assert not hasattr(door, "another")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the index -----------------------------------------------------------------------------------------------------------


def test_bounds_covering_and_subsets(tmp_path):
    paths = [
        write(tmp_path / "b_20200902T000000.tif", {"VV": noise()}),
        write(tmp_path / "a_20200901T000000.tif", {"VV": noise()}, transform=from_origin(700_000, 4_100_000, 10, 10)),
        # across the date line, in zone 1: 177.0 W is its middle
        write(
            tmp_path / "c_20200903T000000.tif",
            {"VV": noise()},
            crs="EPSG:32601",
            transform=from_origin(100_000, 1_000_000, 400, 400),
        ),
        write(
            tmp_path / "d_20200904T000000.tif",
            {"VV": noise((20, 40))},
            crs="EPSG:4326",
            transform=from_origin(170, 10, 0.5, 0.5),
        ),
        # around the pole
        write(
            tmp_path / "e_20200905T000000.tif",
            {"VV": noise((100, 100))},
            crs="EPSG:3413",
            transform=from_origin(-500_000, 500_000, 10_000, 10_000),
        ),
    ]
    index = open_scenes(paths)
    table = index.table
    assert list(table["scene_id"].str[0]) == ["a", "b", "c", "d", "e"]
    assert list(table.columns) == ["scene_id", "time", "west", "south", "east", "north", "cloud_percentage"]
    assert table["time"].dtype == "datetime64[ns]"
    assert table["cloud_percentage"].isna().all()
    lon, lat = Transformer.from_crs(UTM, 4326, always_xy=True).transform(601_500, 4_098_500)
    assert index.covering(lat, lon).tolist() == [1]
    assert index.covering(lat, lon + 360).tolist() == [1]
    assert table.loc[2, "west"] > table.loc[2, "east"]
    assert table.loc[3, ["west", "east"]].tolist() == [170.0, -170.0]
    assert index.covering(8.5, 179.7).tolist() == index.covering(8.5, -179.7).tolist() == [2, 3]
    assert index.covering(8.0, -169.0).tolist() == index.covering(8.0, 169.0).tolist() == []
    assert table.loc[4, ["west", "east", "north"]].tolist() == [-180.0, 180.0, 90.0]
    assert index.covering(89.0, 12.0).tolist() == [4]
    # reading across the date line
    with index.open(2) as reader, rasterio.open(paths[2]) as source:
        for lon in (179.7, -179.7):
            row, col = source.index(*Transformer.from_crs(4326, 32601, always_xy=True).transform(lon, 8.5))
            assert reader.at(8.5, lon)[0, 0] == source.read(1)[row, col]
    with index.open(3) as reader:
        assert np.isfinite(reader.at([5.0, 5.0], [179.9, -179.9])).all()
        assert np.isfinite(reader.read(UtmWindow.centred(5.0, 179.9999, size=16, resolution=100))).all()
    part = pickle.loads(pickle.dumps(index.subset([3, 1])))
    assert isinstance(part, SceneIndex)
    assert list(part.table["scene_id"].str[0]) == ["d", "b"]
    with part.open(1) as reader:
        assert reader.scene_id == "b_20200902T000000"
        assert reader.time == np.datetime64("2020-09-02")
        assert np.isfinite(reader.read(window(0, 0, 300))).all()
    for bad in (-1, 5):
        with pytest.raises(ParameterError, match="no such scene"):
            index.open(bad)


def test_every_cell_of_a_raster_is_within_its_bounds(tmp_path):
    for zone, (west, north) in {32633: (166_021, 9_300_000), 32756: (700_000, 1_200_000)}.items():
        path = write(
            tmp_path / f"z_{zone}_20200901T000000.tif",
            {"VV": noise()},
            crs=f"EPSG:{zone}",
            transform=from_origin(west, north, 366, 366),
        )
        index = open_scenes([path])
        rng = np.random.default_rng(0)
        x, y = west + 366 * 300 * rng.random(500), north - 366 * 300 * rng.random(500)
        lon, lat = Transformer.from_crs(zone, 4326, always_xy=True).transform(x, y)
        assert all(index.covering(a, b).size == 1 for a, b in zip(lat, lon, strict=True))


def test_a_file_is_opened_once_and_closed(tmp_path, monkeypatch):
    opened = []
    original = images.rasterio.open
    path = write(tmp_path / NAME, {"VV": noise(), "VH": noise(seed=1)})
    index = open_scenes([path], bands=["VV", "VH"])
    monkeypatch.setattr(images.rasterio, "open", lambda *a, **k: (opened.append(a[0]), original(*a, **k))[1])
    with index.open(0) as reader:
        assert opened == []
        for k in range(20):
            reader.read(window(k, k, 16))
            reader.at(LAT, LON)
        assert opened == [str(path)]
        (file,) = reader._files.values()
    assert file._source.closed
    with pytest.raises(RunError, match="is closed"):
        reader.read(window(0, 0, 8))


def test_only_what_a_window_needs_is_read(tmp_path):
    size = 4096
    path = tmp_path / NAME
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=size,
        width=size,
        count=3,
        dtype="uint16",
        crs=UTM,
        transform=CORNER,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        sparse_ok=True,
    ) as out:
        for number in (1, 2, 3):
            out.set_band_description(number, f"B{number}")
    index = open_scenes([path], source="x", bands=["B1", "B2", "B3"])
    shapes = []
    with index.open(0) as reader:
        reader.read(window(0, 0, 8))
        group = next(iter(reader._files.values()))
        original = group.read
        group.read = lambda bands, rows, cols: (shapes.append((rows, cols)), original(bands, rows, cols))[1]
        tracemalloc.start()
        for k in range(6):
            reader.read(window(500 * k, 400, 512))
            reader.read(UtmWindow(32614, 604_000.0, 4_095_000.0, 11.0, 512))
            reader.at(np.array([LAT, LAT]), np.array([LON, LON + 0.2]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 50e6  # the raster is 100 MB
    for rows, cols in shapes:
        assert rows[1] - rows[0] <= 512 * 1.1 + 6
        assert cols[1] - cols[0] <= 512 * 1.1 + 6


def test_times(tmp_path):
    written = noise((8, 8))

    def time_of(name, option, **tags):
        return open_scenes([write(tmp_path / name, {"VV": written}, tags=tags)], time=option).table["time"][0]

    expected = pd.Timestamp("2020-09-01T00:11:22")
    assert time_of(NAME, IN_NAME) == expected
    assert time_of("x.tif", {"tag": "TIFFTAG_DATETIME"}, TIFFTAG_DATETIME="2020:09:01 00:11:22") == expected
    assert time_of("x.tif", {"tag": "SENSED"}, SENSED="2020-09-01T02:11:22+02:00") == expected
    assert time_of("x.tif", {"tag": "SENSED", "format": "%d.%m.%Y %H"}, SENSED="01.09.2020 06") == pd.Timestamp(
        "2020-09-01T06"
    )
    for text, pattern in (("20200901", r"\d{8}"), ("2020245", r"\d{7}"), ("2020-09-01", r"[\d-]{10}")):
        assert time_of(f"x_{text}_.tif", {"pattern": f"_(?P<time>{pattern})_"}) == pd.Timestamp("2020-09-01")
    inside = {"pattern": r"/(?P<time>\d{8}T\d{6})/"}  # of the folder
    assert time_of("20200901T001122/x.tif", inside) == expected
    assert pd.isna(time_of("x.tif", {"static": True}))
    with pytest.raises(FormatError, match="tells no time"):
        time_of("x.tif", IN_NAME)
    with pytest.raises(FormatError, match="no tag 'SENSED'"):
        time_of("y.tif", {"tag": "SENSED"})
    with pytest.raises(FormatError, match="cannot be read"):
        time_of("x_20201301T001122.tif", IN_NAME)


def test_clouds_by_tag_and_by_quality_bits(tmp_path):
    shape = (100, 100)
    quality = np.zeros(shape, "uint16")
    quality[:30] = 1 << 10
    quality[30:40] = 1 << 11
    quality[40:50] = 1  # another bit
    dn = np.full(shape, 500)
    dn[:, 80:] = 0
    both = write(
        tmp_path / "a_20200901T000000.tif", {"B4": dn, "QA60": quality}, dtype="uint16", tags={"CLOUDS": "12.5"}
    )
    options = {"source": "sentinel2", "bands": ["B4"]}
    assert open_scenes([both], cloud={"tag": "CLOUDS"}, **options).table["cloud_percentage"][0] == 12.5
    assert open_scenes([both], cloud={"band": "QA60"}, **options).table["cloud_percentage"][0] == 40.0
    stated = write(tmp_path / "b_20200901T000000.tif", {"B4": dn, "QA60": quality}, dtype="float32", nodata=0)
    # of the pixels that have data; that zero is "no data" is no matter to the quality band, whose zero is clear
    quality[:, :80][50:] = 1 << 10
    assert open_scenes([stated], cloud={"band": 2}, **options).table["cloud_percentage"][0] == 40.0
    lone = write(tmp_path / "s" / "x_20200901T000000_QA60.tif", {"q": quality[::2, ::2]}, dtype="uint16")
    data = write(tmp_path / "s" / "x_20200901T000000_B4.tif", {"q": dn}, dtype="uint16")
    scene = {"pattern": r"(?P<scene>.+)_(?P<band>B\d|QA60)\.tif"}
    split = open_scenes([lone, data], cloud={"band": "QA60"}, scene=scene, **options)
    assert split.table["cloud_percentage"][0] == 100 * np.mean((quality[::2, ::2] & 3072) != 0)
    with pytest.raises(FormatError, match="no file of its quality band"):
        open_scenes([data], cloud={"band": "QA60"}, scene=scene, **options)
    with pytest.raises(FormatError, match="no tag 'CLOUDY'"):
        open_scenes([both], cloud={"tag": "CLOUDY"}, **options)


def test_units_and_conversions(tmp_path):
    power = 10 ** (noise() / 10)
    power[0, :5] = 0.0
    path = write(tmp_path / NAME, {"VV": power})
    index = open_scenes([path], units={"VV": "linear"})
    assert index.units == {"VV": "dB"}
    with index.open(0) as reader:
        values = reader.read(window(0, 0, 300))[0]
    assert np.isnan(values[0, :5]).all()
    np.testing.assert_allclose(values[1:], noise()[1:], atol=1e-4)
    with pytest.raises(ParameterError, match=r"sentinel1 VV are not those that are known.*'linear'"):
        open_scenes([path], units={"VV": "%"})
    with rasterio.open(path, "r+") as file:
        file.units = ("dB",)
    with pytest.raises(FormatError, match="has other units than declared; got 'dB'; expected 'linear'"):
        open_scenes([path], units={"VV": "linear"})
    assert open_scenes([path], source="mine").units == {"VV": "dB"}


def test_the_offset_of_sentinel2(tmp_path):
    dn = np.random.default_rng(0).integers(900, 9000, (60, 60))
    dn[0] = 0
    old, new = (
        write(tmp_path / f"S2A_MSIL1C_{time}_N{baseline}_R001.tif", {"B4": dn}, dtype="uint16", nodata=0)
        for time, baseline in (("20220124T170000", "0301"), ("20220125T170000", "0400"))
    )
    again = write(tmp_path / "S2A_MSIL1C_20180101T170000_N0509_R001.tif", {"B4": dn}, dtype="uint16", nodata=0)
    options = {"source": "sentinel2", "bands": ["B4"]}

    def values(path, **more):
        with open_scenes([path], **options, **more).open(0) as reader:
            return reader.read(window(0, 0, 60))[0]

    bare, less = np.where(dn == 0, np.nan, dn).astype("f4"), np.where(dn == 0, np.nan, dn - 1000.0).astype("f4")
    np.testing.assert_array_equal(values(new), bare)
    for option in (-1000, {"offset": -1000, "since": "2022-01-25"}, {"baseline": r"_N(?P<baseline>\d{4})_"}):
        np.testing.assert_array_equal(values(old, boa_add_offset=option), bare)
        np.testing.assert_array_equal(values(new, boa_add_offset=option), less)
    by_name = {"baseline": r"_N(?P<baseline>\d{4})_"}
    np.testing.assert_array_equal(values(again, boa_add_offset=by_name), less)  # reprocessed
    np.testing.assert_array_equal(values(again, boa_add_offset=-1000), bare)
    # files that state their scale and offset are reflectance, in the units that the normalisation takes
    tagged = write(tmp_path / "t_20220125T170000.tif", {"B4": dn}, dtype="uint16", nodata=0, scaling=([1e-4], [-0.1]))
    np.testing.assert_array_equal(values(tagged, units={"B4": "1"}), less)
    with pytest.raises(FormatError, match="makes reflectance of it, not digital numbers"):
        values(tagged)
    with pytest.raises(FormatError, match="would count twice"):
        values(tagged, units={"B4": "1"}, boa_add_offset=-1000)
    with pytest.raises(ParameterError, match="would count twice"):
        open_scenes([new], source="sentinel2", bands={"B4": {"band": "B4", "offset": -1000}}, boa_add_offset=-1000)


# -- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": {}}, "names no band"),
        ({"bands": "VV"}, "'bands' is no mapping"),
        ({"bands": {"VV": {"bnad": 1}}}, r"does not say where it is; got {'bnad': 1}; expected band"),
        ({"bands": {"VV": {"band": 1, "nodta": 1}}}, r"bands.VV.nodta: Extra inputs.*'nodata'"),
        ({"bands": {"VV": {"scale": 2}}}, "does not say where it is"),
        ({"bands": {"VV": {"band": 1, "scale": 0}}}, "is zero"),
        ({"bands": {"VV": {"band": 1, "offset": "x"}}}, "bands.VV.offset: Input should be a valid number"),
        ({"bands": {"VV": True}}, "bands.VV.where.*valid integer; got True"),
        ({"units": {"VX": "dB"}}, "'units' has no key 'VX'"),
        ({"time": {}}, "exactly one of its ways"),
        ({"time": {"pattern": "(?P<time>x)", "tag": "y"}}, "exactly one of its ways"),
        ({"time": {"patern": "x"}}, r"time.patern: Extra inputs.*expected \['pattern', 'tag'"),
        ({"time": {"pattern": "x"}}, "has no group 'time'"),
        ({"time": {"pattern": "("}}, "valid regular expression"),
        ({"time": {"static": False}}, "time.static: Input should be True"),
        ({"time": {"dimension": "time"}}, "has no dimensions"),
        ({"cloud": {"tag": "a", "band": "b"}}, "exactly one of its ways"),
        ({"cloud": {"tag": 3}}, "cloud.tag: Input should be a valid string"),
        ({"scene": {"pattern": "(?P<scene>x)"}}, "has no group 'band'"),
        ({"scene": "x"}, "scene: Input should be a valid dictionary"),
        ({"boa_add_offset": {"from": 1}}, r"unknown key.*'from'.*expected \['offset', 'since', 'baseline'\]"),
        ({"boa_add_offset": {"since": "x"}}, "boa_add_offset.since: Input should be a valid datetime"),
        ({"source": ""}, "'source' is no name"),
    ],
)
def test_options_that_are_refused(tmp_path, options, message):
    with pytest.raises(ParameterError, match=message):
        open_scenes([write(tmp_path / NAME, {"VV": noise((8, 8))})], **options)


def test_files_that_are_refused(tmp_path):
    good = {"VV": noise((64, 64))}
    with pytest.raises(FormatError, match=r"open_scenes\(S1A.*states no coordinate reference system"):
        open_scenes([write(tmp_path / NAME, good, crs=None)])
    with pytest.raises(FormatError, match=r"described as 'VH'.*got \['VV'\]"):
        open_scenes([write(tmp_path / NAME, good)], bands=["VV", "VH"])
    with pytest.raises(FormatError, match="there is no band 3"):
        open_scenes([tmp_path / NAME], bands={"VV": 3})
    with pytest.raises(FormatError, match="holds complex numbers"):
        open_scenes([write(tmp_path / NAME, good, dtype="complex64")])
    (tmp_path / NAME).write_bytes(b"<html>login</html>")
    with pytest.raises(FormatError, match="unreadable"):
        open_scenes([tmp_path / NAME])
    with pytest.raises(CatalogError, match="no such file"):
        open_scenes([tmp_path / "absent.tif"])
    with pytest.raises(CatalogError, match="no file was given"):
        open_scenes([])


def test_a_truncated_file_is_found_when_it_is_read(tmp_path):
    path = write(tmp_path / NAME, {"VV": noise()}, compress="none")
    index = open_scenes([path])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with index.open(0) as reader, pytest.raises(FormatError, match="unreadable, truncated perhaps"):
        reader.read(window(0, 0, 300))


def test_a_file_that_changed_since_it_was_indexed(tmp_path):
    index = open_scenes([write(tmp_path / NAME, {"VV": noise()})])
    write(tmp_path / NAME, {"VV": noise()}, transform=from_origin(700_000, 4_100_000, 10, 10))
    with index.open(0) as reader, pytest.raises(FormatError, match="not on the grid that the index has"):
        reader.read(window(0, 0, 8))


def test_files_of_one_scene_that_disagree(tmp_path):
    scene = {"pattern": r"(?P<scene>.+)_(?P<band>V\w)\.tif"}
    vv = write(tmp_path / "x_20200901T001122_VV.tif", {"a": noise()})
    options = {"bands": ["VV", "VH"], "scene": scene}
    with pytest.raises(FormatError, match=r"has no file of band 'VH'.*\['VV'\]"):
        open_scenes([vv], **options)
    vh = tmp_path / "x_20200901T001122_VH.tif"
    write(vh, {"a": noise()}, transform=from_origin(600_040, 4_100_000, 10, 10))
    with pytest.raises(
        FormatError, match=r"x_20200901T001122_VH.tif.*has another extent than x_20200901T001122_VV.tif"
    ):
        open_scenes([vv, vh], **options)
    write(vh, {"a": noise()}, crs="EPSG:32615")
    with pytest.raises(FormatError, match="has another reference system"):
        open_scenes([vv, vh], **options)
    write(vh, {"a": noise()})
    assert len(open_scenes([vv, vh], **options)) == 1
    with pytest.raises(FormatError, match="tells no scene and band"):
        open_scenes([vv, vh, write(tmp_path / "y.tif", {"a": noise()})], **options)
    loose = {"pattern": r"(?P<scene>.)_.+_(?P<band>V\w)\.tif"}
    later = write(tmp_path / "x_20200902T001122_VV.tif", {"a": noise()})
    with pytest.raises(FormatError, match="the scene has band VV twice"):
        open_scenes([vv, later, vh], **{**options, "scene": loose})
    with pytest.raises(FormatError, match="files of the scene have different times"):
        open_scenes([later, vh], **{**options, "scene": loose})


def test_two_scenes_of_one_name(tmp_path):
    paths = [write(tmp_path / folder / NAME, {"VV": noise((8, 8))}) for folder in "ab"]
    assert list(open_scenes(paths).table["scene_id"]) == [f"{folder}/{NAME[:-4]}" for folder in "ab"]
    with pytest.raises(CatalogError, match="two scenes have one name"):
        open_scenes([paths[0], paths[0]])


def test_reads_that_are_refused(tmp_path):
    with open_scenes([write(tmp_path / NAME, {"VV": noise((8, 8))})]).open(0) as reader:
        assert isinstance(reader, SceneReader)
        with pytest.raises(ParameterError, match=r"no band 'VH'; expected \['VV'\]"):
            reader.read(window(0, 0, 4), ["VH"])
        with pytest.raises(ParameterError, match="unknown 'resampling'; got 'cubic'"):
            reader.read(window(0, 0, 4), resampling="cubic")
        with pytest.raises(ParameterError, match="have other shapes"):
            reader.at([1.0, 2.0], [3.0])
        with pytest.raises(ParameterError, match="'lat' is out of range"):
            reader.at([np.nan], [3.0])


def test_through_the_catalog(tmp_path):
    root = tmp_path / "archive"
    write(root / "s1" / NAME, {"VV": noise(), "VH": noise(seed=1)})
    (tmp_path / "data_catalog.yaml").write_text(
        """
s1:
  description: scenes
  loader: smnb.loaders.rasters:open_scenes
  files: ["s1/*.tif"]
  variables: {sigma0: {native: [VV, VH], units: dB}}
  licence: none
  fetch: {by_hand: x}
  options:
    source: sentinel1
    bands: {VV: {band: VV}, VH: {band: 2}}
    units: {VV: dB, VH: dB}
    time: {pattern: '_(?P<time>\\d{8}T\\d{6})_'}
"""
    )
    index = Catalog.load(tmp_path / "data_catalog.yaml").open("s1", root=root)
    assert isinstance(index, SceneIndex)
    assert (index.catalog_id, index.synthetic, index.bands, len(index)) == ("s1", False, ("VV", "VH"), 1)
    with pytest.raises(ParameterError, match="has no option 'tiem'"):
        Catalog.load(tmp_path / "data_catalog.yaml").open("s1", root=root, tiem=1)


# -- what others send ----------------------------------------------------------------------------------------------------


def virtual(path, source, *, relative=0, kind="", band="", inside=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<VRTDataset rasterXSize="300" rasterYSize="300"{kind}><SRS>{UTM}</SRS>'
        "<GeoTransform>600000, 10, 0, 4100000, 0, -10</GeoTransform>"
        f'<VRTRasterBand dataType="Float32" band="1"{band}><Description>VV</Description>{inside}<SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand>'
        '<SrcRect xOff="0" yOff="0" xSize="300" ySize="300"/><DstRect xOff="0" yOff="0" xSize="300" ySize="300"/>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def test_a_virtual_raster_is_of_files_in_its_folder_or_the_data_root(tmp_path):
    own = tmp_path / "root" / "s1"
    write(own / NAME, {"VV": noise()})
    write(tmp_path / "root" / "tiles" / NAME, {"VV": noise()})
    write(tmp_path / "out.tif", {"VV": noise()})
    where = UtmWindow(32614, 600_000, 4_100_000, 10.0, 300)
    nested = virtual(own / "20200902T000000_a.vrt", virtual(own / "in.tif", NAME, relative=1).name, relative=1)
    fine = virtual(own / "a_20200901T000000.tif", own / NAME)
    for path in (fine, nested.rename(own / "b_20200901T000000.vrt")):
        with open_scenes([path]).open(0) as reader:
            np.testing.assert_array_equal(reader.read(where)[0], noise())
    beside = virtual(own / "c_20200901T000000.vrt", f"../tiles/{NAME}", relative=1)
    outside = virtual(own / "d_20200901T000000.tif", tmp_path / "out.tif")
    (own / "link.tif").symlink_to(tmp_path / "out.tif")
    linked = virtual(own / "e_20200901T000000.tif", "link.tif", relative=1)
    deep = virtual(own / "f_20200901T000000.tif", outside.name, relative=1)
    for path in (beside, outside, linked, deep):
        with pytest.raises(CatalogError, match="names a file outside its folder and the data root"):
            open_scenes([path])
    text = (
        "s: {description: d, loader: 'smnb.loaders.rasters:open_scenes', files: ['s1/c_*.vrt'], licence: l,\n"
        "  variables: {VV: {native: VV, units: dB}}, fetch: {by_hand: x}, options: {source: sentinel1, bands: [VV],\n"
        "  time: {pattern: '_(?P<time>[0-9T]{15})'}}}"
    )
    (tmp_path / "data_catalog.yaml").write_text(text)
    assert len(Catalog.load(tmp_path / "data_catalog.yaml").open("s", tmp_path / "root")) == 1


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            NAME,
            {
                "band": ' subClass="VRTDerivedRasterBand"',
                "inside": "<PixelFunctionType>f</PixelFunctionType>",
            },
            "more than a mosaic",
        ),
        (NAME, {"band": ' subclass="vrtRawRasterBand"'}, "more than a mosaic"),
        (NAME, {"inside": '<Metadata><MDI key="X_DATASET">/etc/x</MDI></Metadata>'}, "more than a mosaic"),
        (NAME, {"inside": "<sourcefilename>/etc/hostname</sourcefilename>"}, "names a file outside"),
        ("/vsicurl/http://127.0.0.1:1/x.tif", {"relative": 0}, "names a file outside"),
        ("absent.tif", {}, "is not there"),
        ("notes.txt", {}, "made of a file that is no image"),
        ("a_20200901T000000.tif", {}, "nested too deep"),
    ],
)
def test_virtual_rasters_that_are_refused(tmp_path, source, options, message):
    write(tmp_path / NAME, {"VV": noise()})
    (tmp_path / "notes.txt").write_text("<GDAL_WMS><Service name='TMS'/></GDAL_WMS>")
    path = virtual(tmp_path / "a_20200901T000000.tif", source, **{"relative": 1, **options})
    with pytest.raises((CatalogError, FormatError), match=message):
        open_scenes([path])


@pytest.mark.parametrize("text", ["<GDAL_WMS></GDAL_WMS>", "<MRF_META></MRF_META>", "<GDALTileIndexDataset/>", "{}"])
def test_formats_that_are_references_are_not_read(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(FormatError, match="not recognized as being in a supported file format"):
        open_scenes([tmp_path / NAME])


def external(file, target):
    file["x"] = h5py.ExternalLink(str(target), "/secret")


def soft_chain(file, target):
    with h5py.File(target.parent / "root" / "middle.h5", "w") as middle:
        external(middle, target)
    file["x"] = h5py.ExternalLink("middle.h5", "/x")


def raw(file, target):
    file.create_dataset("x", (4,), "u1", external=[(str(target), 0, 4)])


def mapped(file, target):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(target), "secret", (4,))
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize("refer", [external, soft_chain, raw, mapped])
def test_hdf5_that_refers_to_a_file_outside(tmp_path, refer):
    (tmp_path / "root").mkdir()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.arange(4, dtype="u1")
    path = tmp_path / "root" / "a.h5"
    with h5py.File(path, "w") as file:
        refer(file, tmp_path / "secret.h5")
    for opened in (open_netcdf, lambda who, path: open_h5(who, path).__enter__(), lambda _, path: open_scenes([path])):
        with pytest.raises(CatalogError, match="names a file outside its folder and the data root"):
            opened("f", path)
    (tmp_path / "root" / "secret.h5").write_bytes((tmp_path / "secret.h5").read_bytes())
    inside = tmp_path / "root" / "b.h5"
    with h5py.File(inside, "w") as file:
        external(file, "secret.h5")
    with open_h5("f", inside) as file:
        assert file["x"][:].tolist() == [0, 1, 2, 3]


def test_declared_sizes_are_bounded(tmp_path):
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": UTM, "transform": CORNER, "sparse_ok": True}
    path = tmp_path / "a_20200901T000000.tif"
    with rasterio.open(path, "w", width=20_000, height=20_000, blockysize=20_000, compress="deflate", **profile):
        pass
    with pytest.raises(FormatError, match="a block of the image is too large to be read; got 1,600 MB"):
        open_scenes([path], bands={"VV": {"band": 1}})
    for name, shape, chunks in (("c", (2**20, 2**20), (2**20, 2**10)), ("lon", (2**40,), (2**10,))):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        group.create_array(name, shape=shape, chunks=chunks, dtype="f4")
        with pytest.raises(FormatError, match=f"'{name}' is too large to be read"):
            open_scenes([tmp_path / "a.zarr"], **FIELD)
    group = zarr.open_group(tmp_path / "b.zarr", mode="w")
    (tmp_path / "b.zarr" / "c").symlink_to(tmp_path.parent)
    with pytest.raises(CatalogError, match="names a file outside its folder"):
        open_scenes([tmp_path / "b.zarr"], **FIELD)
