"""Sentinel-1 scenes averaged onto coarser grids: against numpy and pyproj pixel by pixel, GDAL's warp, and real crops."""

from __future__ import annotations

import json
import tracemalloc

import dask.array as da
import numpy as np
import pytest
import rasterio
import yaml
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin
from rasterio.warp import Resampling, reproject

from smnb.catalog import Catalog
from smnb.contract import CatalogError, FormatError, ParameterError, check_dataset, count_masked
from smnb.grids import GLOBAL_025, M01, M03, EaseWindow, RegularGrid
from smnb.loaders.rasters import SceneReader, acquisitions, images, sentinel1
from smnb.loaders.rasters import open_sentinel1 as _open
from smnb.loaders.rasters.acquisitions import role_of, scene_name, time_of
from smnb.loaders.rasters.averaging import average_scene, pixel_places
from smnb.loaders.rasters.placing import Georeference

NAME = "S1A_IW_GRDH_1SDV_20200901T001122_20200901T001147_034157_03F7A4_5D1B"
UTM = "EPSG:32614"
CORNER = from_origin(600_000, 4_100_000, 10, 10)


def open_sentinel1(paths, **options):
    return _open(paths, **{"catalog_id": "sentinel1_grd", "units": "dB", **options})


def projected(west, north, cell, rows, cols, crs=UTM):
    return GeoBox((rows, cols), from_origin(west, north, cell, cell), crs)


def speckled(shape, seed=0, mean_db=-11.0, looks=4.4):
    """Linear power of a uniform surface."""
    return (10 ** (mean_db / 10) * np.random.default_rng(seed).gamma(looks, 1 / looks, shape)).astype("float32")


def db(power):
    with np.errstate(divide="ignore"):
        return (10 * np.log10(power)).astype("float32")


def write(
    path, bands, *, transform=CORNER, crs=UTM, dtype="float32", tags=None, tagged_scales=None, mask=None, **profile
):
    """A GeoTIFF of bands by description; descriptions that begin with '#' are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = list(bands.values())
    height, width = arrays[0].shape
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", **profile}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=len(arrays),
        dtype=dtype,
        crs=crs,
        transform=transform,
        **profile,
    ) as out:
        for i, (name, values) in enumerate(bands.items(), 1):
            out.write(values.astype(dtype), i)
            if not name.startswith("#"):
                out.set_band_description(i, name)
        if tags:
            out.update_tags(**tags)
        if tagged_scales:
            out.scales, out.offsets = tagged_scales
        if mask is not None:
            out.write_mask(mask)
    return path


def scene(folder, shape=(250, 330), name=NAME, seed=0, **options):
    """A scene of VV, VH and angle in dB, and its linear power."""
    vv, vh = speckled(shape, seed), speckled(shape, seed + 1, -18.0)
    angle = np.broadcast_to(np.linspace(30, 46, shape[1], dtype="float32"), shape)
    return write(folder / f"{name}.tif", {"VV": db(vv), "VH": db(vh), "angle": angle}, **options), vv, vh, angle


def pixel_centres(shape, transform, crs, to):
    """Coordinates of every pixel centre, transformed one by one by pyproj."""
    col, row = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    a, b, c, d, e, f = tuple(transform)[:6]
    return Transformer.from_crs(crs, to, always_xy=True).transform(a * col + b * row + c, d * col + e * row + f)


def cell_means(values, row, col, shape):
    """Means of valid pixels by cell, the slow way; and their number."""
    inside = np.isfinite(values) & (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
    total, number = np.zeros(shape), np.zeros(shape, int)
    np.add.at(total, (row[inside], col[inside]), values[inside].astype("float64"))
    np.add.at(number, (row[inside], col[inside]), 1)
    return np.divide(total, number, out=np.full(shape, np.nan), where=number > 0), number


def ease_cells(window, shape, transform, crs):
    """Row and column in a window of each pixel centre, by geographic coordinates."""
    lon, lat = pixel_centres(shape, transform, crs, "EPSG:4326")
    row, col = window.grid.rowcol(lat, lon)
    return row - window.row_start, col - window.col_start


def index_of(grid, lat, lon):
    """Row and column of a regular grid at points."""
    row, col = (lat - grid.south) / grid.resolution, (lon - grid.west) / grid.resolution
    return np.floor(row).astype(int), np.floor(col).astype(int)


def assert_is_mean(ds, polarization, power, row, col):
    mean, number = cell_means(power, row, col, ds["sigma0"].shape[-2:])
    got = ds.sel(polarization=polarization).isel(time=0)
    np.testing.assert_array_equal(got["n_looks"].values, number)
    np.testing.assert_allclose(got["sigma0"].values, db(mean), atol=2e-5)


# -- averages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_pixels", [1, 20_000, 1 << 20])
def test_cells_are_means_of_linear_power_of_the_pixels_whose_centres_they_hold(tmp_path, block_pixels):
    path, vv, vh, angle = scene(tmp_path)
    ds = open_sentinel1([path], block_pixels=block_pixels).compute()
    window = EaseWindow.from_dataset(ds)
    assert window.grid is M01
    row, col = ease_cells(window, vv.shape, CORNER, UTM)
    assert_is_mean(ds, "VV", vv, row, col)
    assert_is_mean(ds, "VH", vh, row, col)
    np.testing.assert_allclose(ds["incidence_angle"][0], cell_means(angle, row, col, window.shape)[0], atol=1e-4)
    assert int(ds["n_looks"].sel(polarization="VV").sum()) == vv.size
    assert ds["time"].values[0] == np.datetime64("2020-09-01T00:11:22")
    assert (ds.attrs["catalog_id"], ds.attrs["synthetic"]) == ("sentinel1_grd", 0)
    check_dataset(ds, who="test", require=("sigma0", "incidence_angle"), check_values=True)
    # a mean of decibels would be lower: E(dB) of gamma-distributed power of 4.4 looks is 0.51 dB below dB of the mean
    assert abs(float(ds["sigma0"].sel(polarization="VV").median()) + 11.0) < 0.1


def test_equivalent_looks_are_those_of_the_speckle(tmp_path):
    path, _vv, _, _ = scene(tmp_path, (600, 600))
    ds = open_sentinel1([path], grid=M03, min_looks=5000).compute().sel(polarization="VV")
    assert float(ds["enl"].mean()) == pytest.approx(4.4, abs=0.15)
    few = ds["n_looks"].values < 5000
    assert few.any()
    assert (np.isnan(ds["sigma0"].values) == few).all()
    flat = write(tmp_path / "flat" / f"{NAME}.tif", {"VV": np.full((90, 90), -10.0)})
    ds = open_sentinel1([flat], polarizations=["VV"]).compute()
    assert np.nanmax(np.abs(ds["sigma0"] + 10)) < 1e-5
    assert ds["enl"].isnull().all()


@pytest.mark.parametrize(
    ("options", "number_of"),
    [
        ({"units": "linear"}, lambda p: p),
        ({"units": "dn", "scale": 1e-6, "dn_of": "linear", "dtype": "uint32"}, lambda p: np.round(p / 1e-6)),
        ({"units": "dn", "scale": 1e-4, "dn_of": "amplitude", "dtype": "uint16"}, lambda p: np.sqrt(p) / 1e-4),
        (
            {"units": "dn", "scale": 0.001, "offset": -40.0, "dn_of": "dB", "dtype": "uint16"},
            lambda p: (db(p) + 40) / 0.001,
        ),
        ({"units": "dB", "tagged": (0.001, -40.0), "dtype": "int32"}, lambda p: (db(p) + 40) / 0.001),
        ({"units": "dn", "dn_of": "dB", "tagged": (0.001, -40.0), "dtype": "uint16"}, lambda p: (db(p) + 40) / 0.001),
    ],
)
def test_units_lead_to_the_same_decibels(tmp_path, options, number_of):
    power = speckled((120, 140))
    expected = open_sentinel1([write(tmp_path / "a" / f"{NAME}.tif", {"VV": db(power)})], polarizations="VV")
    dtype, tagged = options.pop("dtype", "float32"), options.pop("tagged", None)
    path = write(
        tmp_path / "b" / f"{NAME}.tif",
        {"VV": np.round(number_of(power)) if dtype != "float32" else power},
        dtype=dtype,
        tagged_scales=None if tagged is None else ((tagged[0],), (tagged[1],)),
    )
    ds = open_sentinel1([path], polarizations="VV", **options)
    assert ds["sigma0"].attrs["native_units"].startswith(options["units"])
    assert ("comment" in ds["sigma0"].attrs) == (options["units"] == "dn")
    np.testing.assert_allclose(ds["sigma0"], expected["sigma0"], atol=2e-3)


def test_a_regular_grid_across_the_date_line(tmp_path):
    transform, shape = Affine(0.01, 0, 179.3, 0, -0.007, 10.2), (120, 200)  # to 181.3 E
    path, vv, _, _ = scene(tmp_path, shape, crs="EPSG:4326", transform=transform)
    ds = open_sentinel1([path], grid=GLOBAL_025).compute()
    assert ds["sigma0"].dims == ("time", "polarization", "lat", "lon")
    col, row = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    lon, lat = 179.3 + 0.01 * col, 10.2 - 0.007 * row
    assert_is_mean(ds, "VV", vv, *index_of(GLOBAL_025, lat, (lon + 180) % 360 - 180))
    assert ds["n_looks"].sel(polarization="VV").isel(lon=[0, -1]).sum(("time", "lat")).values.all()
    utm = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(179.9, 10.1)
    transform = from_origin(*utm, 500, 500)  # a projected scene whose longitudes jump
    path, vv, _, _ = scene(tmp_path / "utm", (90, 120), crs="EPSG:32660", transform=transform)
    ds = open_sentinel1([path], grid=GLOBAL_025).compute()
    lon, lat = pixel_centres(vv.shape, transform, "EPSG:32660", "EPSG:4326")
    assert lon.min() < -179
    assert lon.max() > 179
    assert_is_mean(ds, "VV", vv, *index_of(GLOBAL_025, lat, lon))


def test_a_projected_grid_agrees_with_block_means_and_with_gdal(tmp_path):
    shape = (200, 300)
    path, vv, _, _ = scene(tmp_path, shape)
    grid = projected(600_000, 4_100_000, 500.0, 4, 6)
    ds = open_sentinel1([path], grid=grid).compute()
    blocks = vv.astype("float64").reshape(4, 50, 6, 50).mean(axis=(1, 3))
    np.testing.assert_allclose(ds["sigma0"].sel(polarization="VV")[0], db(blocks), atol=1e-5)
    assert (ds["n_looks"] == 2500).all()
    warped = np.empty(grid.shape, "float32")
    to = grid.affine
    reproject(
        vv, warped, src_transform=CORNER, src_crs=UTM, dst_transform=to, dst_crs=UTM, resampling=Resampling.average
    )
    np.testing.assert_allclose(ds["sigma0"].sel(polarization="VV")[0], db(warped), atol=1e-4)
    assert ds["crs"].attrs["grid_mapping_name"] == "transverse_mercator"
    assert ds["sigma0"].attrs["grid_mapping"] == "crs"
    assert (np.diff(ds["y"]) < 0).all()


def test_gdal_agrees_on_an_ease_grid_to_the_share_of_pixels_on_edges(tmp_path):
    path, vv, _, _ = scene(tmp_path, (600, 600))
    ds = open_sentinel1([path]).compute()
    window = EaseWindow.from_dataset(ds)
    warped = np.full(window.shape, np.nan, "float32")
    to = from_origin(window.x[0] - M01.cell / 2, window.y[0] + M01.cell / 2, M01.cell, M01.cell)
    reproject(
        vv,
        warped,
        src_transform=CORNER,
        src_crs=UTM,
        dst_transform=to,
        dst_crs="EPSG:6933",
        resampling=Resampling.average,
        dst_nodata=np.nan,
    )
    whole = ds["n_looks"].sel(polarization="VV")[0].values > 9000
    assert whole.sum() >= 9
    np.testing.assert_allclose(ds["sigma0"].sel(polarization="VV")[0].values[whole], db(warped)[whole], atol=0.03)


@pytest.mark.parametrize(
    ("crs", "transform", "shape"),
    [
        (UTM, Affine(19.5, 4.5, 600_000, 4.5, -19.5, 4_100_000), (150, 180)),
        (UTM, Affine(20, 0, 600_000, 0, 20, 4_100_000), (150, 180)),  # south first
        ("EPSG:3413", from_origin(-901_234.5, 897_654.3, 6_000, 6_000), (300, 300)),  # round the pole
        ("EPSG:4326", from_origin(-100, 50, 0.0101, 0.0099), (300, 280)),
    ],
)
def test_other_geometries_are_followed_too(tmp_path, crs, transform, shape):
    path, vv, _, _ = scene(tmp_path, shape, crs=crs, transform=transform)
    lon, lat = pixel_centres(shape, transform, crs, "EPSG:4326")
    if crs == "EPSG:3413":
        grid = RegularGrid(1.0)
        row, col = index_of(grid, lat, lon)
    else:
        grid = M03.window(south=lat.min() - 0.1, north=lat.max() + 0.1, west=lon.min() - 0.1, east=lon.max() + 0.1)
        row, col = ease_cells(grid, shape, transform, crs)
    assert_is_mean(open_sentinel1([path], grid=grid).compute(), "VV", vv, row, col)


def test_positions_are_within_a_hundred_thousandth_of_a_pixel_of_exact_ones():
    # a scene as large as they come, of which only positions are computed
    raster = Georeference(rasterio.CRS.from_string(UTM).to_wkt(), tuple(CORNER)[:6], 20_000, 25_000)
    target, _ = sentinel1.target_of("test", M01.window(south=34, north=38, west=-101, east=-94))
    row, col = pixel_places(raster, target, (19_000, 19_512), (20_000, 24_096))
    x, y = CORNER * np.meshgrid(20_000.5 + np.arange(4096), 19_000.5 + np.arange(512))
    x, y = Transformer.from_crs(UTM, "EPSG:6933", always_xy=True).transform(x, y)
    exact_col, exact_row = ~target.affine * (x, y)
    pixel = 10 / M01.cell
    assert max(np.abs(row - exact_row).max(), np.abs(col - exact_col).max()) <= 1e-5 * pixel


# -- several scenes, files and parts ---------------------------------------------------------------------------------


def test_scenes_are_kept_apart_or_pooled_by_valid_pixels(tmp_path):
    later = NAME.replace("T001122", "T121122")
    one, vv, _, _ = scene(tmp_path, (200, 200))
    shifted = from_origin(601_000, 4_100_000, 10, 10)
    two, vv2, _, _ = scene(tmp_path, (200, 200), name=later, seed=5, transform=shifted)
    grid = projected(600_000, 4_100_000, 500.0, 4, 6)
    apart = open_sentinel1([two, one], grid=grid).compute()
    assert [str(t)[11:19] for t in apart["time"].values] == ["00:11:22", "12:11:22"]
    pooled = open_sentinel1([two, one], grid=grid, mosaic="day").compute()
    assert [str(t)[:19] for t in pooled["time"].values] == ["2020-09-01T06:11:22"]
    both = np.full((200, 300), np.nan), np.full((200, 300), np.nan)
    both[0][:, :200], both[1][:, 100:] = vv, vv2
    blocks = np.stack(both).reshape(2, 4, 50, 6, 50)
    np.testing.assert_allclose(
        pooled["sigma0"].sel(polarization="VV")[0], db(np.nanmean(blocks, axis=(0, 2, 4))), atol=1e-5
    )
    np.testing.assert_array_equal(pooled["n_scenes"][0, 0], [1, 1, 2, 2, 1, 1])
    np.testing.assert_array_equal(pooled["n_looks"][0, 0, 0], [2500, 2500, 5000, 5000, 2500, 2500])
    assert list(json.loads(pooled.attrs["scenes"]).values()) == [[NAME, later]]
    days = open_sentinel1([one, two], grid=grid, mosaic="day", start="2020-09-01T06:00")
    assert json.loads(days.attrs["scenes"]) == {"2020-09-01T12:11:22": [later]}


def test_bands_may_be_in_files_of_their_own_and_in_pieces(tmp_path):
    whole, vv, vh, angle = scene(tmp_path / "whole", (128, 192))
    expected = open_sentinel1([whole]).compute()
    parts = [
        write(tmp_path / "parts" / f"{NAME}_{name}.tif", {"#": values})
        for name, values in (("VV", db(vv)), ("Sigma0_VH", db(vh)), ("localIncidenceAngle", angle))
    ]
    ds = open_sentinel1(parts[::-1]).compute()
    np.testing.assert_array_equal(ds["sigma0"], expected["sigma0"])
    np.testing.assert_array_equal(ds["incidence_angle"], expected["incidence_angle"])
    assert "localIncidenceAngle" in ds["incidence_angle"].attrs["native_name"]
    pieces = [
        write(
            tmp_path / "pieces" / f"{NAME}-{0:010d}-{left:010d}.tif",
            {"VV": db(vv)[:, left : left + 96], "VH": db(vh)[:, left : left + 96]},
            transform=from_origin(600_000 + 10 * left, 4_100_000, 10, 10),
        )
        for left in (0, 96)
    ]
    ds = open_sentinel1(pieces, incidence_angle=39.0).compute()
    np.testing.assert_allclose(ds["sigma0"], expected["sigma0"], atol=1e-5)
    assert ds.sizes["time"] == 1
    assert np.nanmax(np.abs(ds["incidence_angle"] - 39)) < 1e-4


def test_only_the_target_is_read_and_made_in_chunks(tmp_path, monkeypatch):
    path, vv, _, _ = scene(tmp_path, (500, 600))
    row, col = M01.rowcol(*np.array(Transformer.from_crs(UTM, "EPSG:4326").transform(603_000, 4_097_500)))
    window = EaseWindow(M01, int(row), int(row) + 1, int(col), int(col) + 1)
    spans = []
    read = SceneReader.numbers
    monkeypatch.setattr(SceneReader, "numbers", lambda self, *a: spans.append(a) or read(self, *a))
    ds = open_sentinel1([path], grid=window, count=True)
    assert_is_mean(ds, "VV", vv, *ease_cells(window, vv.shape, CORNER, UTM))
    # after a look at 25 places
    assert sum((rows[1] - rows[0]) * (cols[1] - cols[0]) for rows, cols in spans[25:]) < 0.2 * vv.size
    monkeypatch.setattr(sentinel1, "_CHUNK", 4)
    calls = []
    monkeypatch.setattr(sentinel1, "average_scene", lambda *a: calls.append(a) or average_scene(*a))
    around = EaseWindow(M01, int(row) - 6, int(row) + 7, int(col) - 6, int(col) + 9)
    ds = open_sentinel1([path], grid=around)
    assert isinstance(ds["sigma0"].data, da.Array)
    assert ds["sigma0"].data.chunks[-2] == (4, 4, 4, 1)
    assert calls == []
    ds = ds.compute()
    assert len(calls) == 1
    assert_is_mean(ds, "VV", vv, *ease_cells(around, vv.shape, CORNER, UTM))
    assert ds["n_scenes"].dtype == "int16"
    assert int((ds["n_scenes"] == 0).sum()) > 100


def test_memory_does_not_grow_with_the_scene(tmp_path):
    shape = (2048, 2048)
    path = write(tmp_path / f"{NAME}.tif", {"VV": np.full(shape, -10.0), "VH": np.full(shape, -17.0)})
    ds = open_sentinel1([path], block_pixels=1 << 16)
    tracemalloc.start()
    ds.compute()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * np.prod(shape) * 4  # less than one band


def test_scenes_beyond_the_grid_are_named(tmp_path):
    one, *_ = scene(tmp_path, (100, 100))
    far, *_ = scene(
        tmp_path, (100, 100), name=NAME.replace("T00", "T03"), transform=from_origin(700_000, 4.1e6, 10, 10)
    )
    grid = projected(600_000, 4_100_000, 500.0, 2, 2)
    ds = open_sentinel1([one, far], grid=grid)
    assert ds.sizes["time"] == 1
    assert json.loads(ds.attrs["scenes_outside"])[0].startswith("S1A_IW_GRDH_1SDV_20200901T031122")
    with pytest.raises(ParameterError, match=r"no scene reaches the grid.*37\.0.. N"):
        open_sentinel1([one], grid=RegularGrid(0.01, south=10, north=11, west=0, east=1))


# -- what is missing -------------------------------------------------------------------------------------------------


def test_borders_no_data_and_saturation_are_masked_and_counted(tmp_path):
    power = speckled((100, 100))
    vv, vh = np.round(power * 1e4), np.round(speckled((100, 100), 3, -18) * 1e5)
    vv[:, :10] = 0  # the border of a GRD scene
    vv[0, 10:] = 65535
    vv[1, 10:15] = 7
    path = write(tmp_path / f"{NAME}.tif", {"VV": vv, "VH": vh}, dtype="uint16", nodata=7)
    options = {
        "units": "dn",
        "scale": 1e-4,
        "dn_of": "linear",
        "grid": projected(600_000, 4.1e6, 1000.0, 1, 1),
    }
    ds = open_sentinel1([path], count=True, **options)
    kept = np.where((vv != 0) & (vv != 65535) & (vv != 7), vv, np.nan)
    assert ds["sigma0"].sel(polarization="VV").values.item() == pytest.approx(
        float(db(np.nanmean(kept) * 1e-4)), abs=1e-4
    )
    lost = ds["n_masked"].isel(time=0).to_series().unstack("reason")
    sevens = int((vh == 7).sum())
    zeros = int((vh == 0).sum())
    assert lost.loc["VV"].to_dict() == {"nodata": 5, "zero": 1000, "not_finite": 0, "saturated": 90, "out_of_range": 0}
    assert lost.loc["VH", "nodata"] == sevens
    total = {"pixels: nodata": 5 + sevens, "pixels: saturated": 90, "pixels: zero": 1000 + zeros}
    assert count_masked(ds["sigma0"]) == total
    # only what falls in the target is counted
    half = open_sentinel1([path], **{**options, "grid": projected(600_500, 4.1e6, 500.0, 2, 1)})
    assert half["n_masked"].sel(polarization="VV", reason="zero").values == [0]


def test_a_mask_band_and_not_a_number_hold_for_each_polarization(tmp_path):
    vv, vh = speckled((100, 120)), speckled((100, 120), 1)
    holes = vv.copy()
    holes[20:60, 30:70] = np.nan
    mask = np.full(vv.shape, 255, "uint8")
    mask[:, 110:] = 0
    path = write(tmp_path / f"{NAME}.tif", {"VV": holes, "VH": vh}, mask=mask)
    ds = open_sentinel1([path], units="linear", incidence_angle=40.0).compute()
    row, col = ease_cells(EaseWindow.from_dataset(ds), vv.shape, CORNER, UTM)
    assert_is_mean(ds, "VV", np.where(mask > 0, holes, np.nan), row, col)
    assert_is_mean(ds, "VH", np.where(mask > 0, vh, np.nan), row, col)
    lost = ds["n_masked"].isel(time=0)
    assert lost.sel(polarization="VV", reason="not_finite") == 1600
    assert lost.sel(polarization="VH", reason="not_finite") == 0
    assert (lost.sel(reason="nodata") == 1000).all()


def test_clipped_noise_counts_as_zero_power_if_asked(tmp_path):
    power = speckled((100, 100), mean_db=-22.0)
    power[power < np.quantile(power, 0.1)] = 0
    power[:, :20] = -9999
    path = write(tmp_path / f"{NAME}.tif", {"VV": power}, nodata=-9999)
    grid = projected(600_000, 4.1e6, 1000.0, 1, 1)
    options = {"units": "linear", "polarizations": "VV", "grid": grid}
    kept = open_sentinel1([path], mask_zero=False, **options)
    assert kept["sigma0"].values.item() == pytest.approx(float(db(power[:, 20:].mean(dtype="float64"))), abs=1e-4)
    dropped = open_sentinel1([path], **options)
    assert dropped["sigma0"].values.item() > kept["sigma0"].values.item() + 0.3
    assert kept["n_looks"].values.item() == 8000


def test_angles_are_of_pixels_with_backscatter_and_may_be_radians(tmp_path):
    vv = db(speckled((100, 100)))
    vv[:, :50] = np.nan
    angle = np.where(np.arange(100) < 50, 30.0, 45.0) * np.ones((100, 1))
    grid = projected(600_000, 4.1e6, 1000.0, 1, 1)
    path = write(tmp_path / f"{NAME}.tif", {"VV": vv, "local incidence": np.deg2rad(angle)})
    ds = open_sentinel1([path], polarizations="VV", grid=grid, angle_units="radian")
    assert ds["incidence_angle"].values.item() == pytest.approx(45.0, abs=1e-4)
    with pytest.raises(FormatError, match="does not hold incidence angles in degrees"):
        open_sentinel1([path], polarizations="VV", grid=grid)
    plain_vv = write(tmp_path / "b" / f"{NAME}.tif", {"VV": vv})
    assert "incidence_angle" not in open_sentinel1([plain_vv], polarizations="VV", grid=grid)


# -- bad input -------------------------------------------------------------------------------------------------------


def test_a_scene_without_reference_system_is_refused(tmp_path):
    values = db(speckled((64, 64)))
    path = write(tmp_path / f"{NAME}.tif", {"VV": values, "VH": values}, crs=None)
    with pytest.raises(FormatError, match="no coordinate reference system"):
        open_sentinel1([path])
    corners = [GroundControlPoint(r, c, -97 + c / 1e3, 36 - r / 1e3) for r in (0, 63) for c in (0, 63)]
    path = write(tmp_path / "gcps" / f"{NAME}.tif", {"VV": values}, crs=None, transform=Affine.identity())
    with rasterio.open(path, "r+") as raster:
        raster.gcps = corners, rasterio.CRS.from_epsg(4326)
    with pytest.raises(FormatError, match=r"radar geometry.*Terrain Correction"):
        open_sentinel1([path])
    path = write(tmp_path / "nowhere" / f"{NAME}.tif", {"VV": values}, transform=Affine.identity())
    with pytest.raises(FormatError, match="where its pixels are"):
        open_sentinel1([path])


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (lambda p: db(p), {"units": "linear"}, r"does not hold linear power.*units='dB'"),
        (lambda p: p, {"units": "dB"}, r"does not hold decibels.*units='linear'"),
        (lambda p: p * 1e4, {"units": "linear"}, r"does not hold linear power.*digital numbers"),
        (lambda p: p * 1e4, {"units": "dn", "scale": 1.0, "dn_of": "linear"}, r"Correct 'scale'"),
        (lambda p: db(p) * 100, {"units": "dB"}, r"does not hold decibels.*digital numbers"),
    ],
)
def test_other_units_than_declared_are_seen_from_the_range(tmp_path, values, options, message):
    path = write(tmp_path / f"{NAME}.tif", {"VV": values(speckled((90, 90)))})
    with pytest.raises(FormatError, match=message):
        open_sentinel1([path], polarizations="VV", **options)


def test_other_units_in_most_of_a_scene_are_seen_in_reading(tmp_path):
    power = np.full((1000, 1000), 5000.0)
    for i in np.linspace(0, 1000 - 64, 5).astype(int):
        for j in np.linspace(0, 1000 - 64, 5).astype(int):
            power[i : i + 64, j : j + 64] = 0.1  # where one looks first
    path = write(tmp_path / f"{NAME}.tif", {"VV": power})
    ds = open_sentinel1([path], polarizations="VV", units="linear")
    with pytest.raises(FormatError, match="most pixels of VV are outside the range"):
        ds.compute()


@pytest.mark.parametrize("fill", [0.0, np.nan, -9999.0])
def test_a_scene_without_backscatter_is_refused(tmp_path, fill):
    path = write(tmp_path / f"{NAME}.tif", {"VV": np.full((90, 90), fill), "VH": db(speckled((90, 90)))}, nodata=-9999)
    with pytest.raises(FormatError, match="no backscatter: every pixel of VV"):
        open_sentinel1([path])
    lone = np.full((700, 700), fill)
    lone[80, 80] = -10.0  # between the places that are sampled
    ds = open_sentinel1([write(tmp_path / "lone" / f"{NAME}.tif", {"VV": lone}, nodata=-9999)], polarizations="VV")
    assert float(ds["sigma0"].max()) == pytest.approx(-10.0, abs=1e-5)


def test_a_scene_without_vv_is_refused(tmp_path):
    path = write(tmp_path / f"{NAME}.tif", {"VH": db(speckled((64, 64))), "angle": np.full((64, 64), 39.0)})
    with pytest.raises(FormatError, match=r"no sigma0 of VV.*\['VH', 'angle'\]"):
        open_sentinel1([path])
    assert open_sentinel1([path], polarizations=["VH"])["polarization"].values.tolist() == ["VH"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"transform": from_origin(600_010, 4_100_000, 10, 10)}, "position"),
        ({"crs": "EPSG:32615"}, "reference system"),
        ({"shape": (64, 65)}, "size"),
    ],
)
def test_bands_of_a_scene_on_different_grids_are_refused(tmp_path, change, what):
    one = write(tmp_path / f"{NAME}_VV.tif", {"VV": db(speckled((64, 64)))})
    two = write(tmp_path / f"{NAME}_VH.tif", {"VH": db(speckled(change.pop("shape", (64, 64))))}, **change)
    with pytest.raises(FormatError, match=rf"{NAME}_VH.* another grid than .*_VV.tif.*another {what}"):
        open_sentinel1([one, two])


def test_truncated_and_damaged_files_are_refused(tmp_path):
    path, *_ = scene(tmp_path, (256, 256))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="unreadable, truncated perhaps"):
        open_sentinel1([path])
    path.write_bytes(b"<html>Sign in</html>")
    with pytest.raises(FormatError, match="unreadable"):
        open_sentinel1([path])
    path, *_ = scene(tmp_path / "damaged", (1280, 1280))
    with rasterio.open(path) as source:
        offset = int(source.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
        assert all(not (128 <= i < 192) for i in np.linspace(0, 1280 - 64, 5).astype(int))  # not where one looks first
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"\x00" * 64)
    ds = open_sentinel1([path])
    with pytest.raises(FormatError, match="unreadable"):
        ds.compute()


def test_bands_that_nothing_names_need_a_declaration(tmp_path):
    vv, vh, angle = db(speckled((64, 64))), db(speckled((64, 64), 1, -18)), np.full((64, 64), 39.0)
    path = write(tmp_path / f"{NAME}.tif", {"#1": vv, "#2": vh, "#3": angle})
    with pytest.raises(FormatError, match=r"nothing tells what its 3 bands are.*bands=\['VV', 'VH', 'angle'\]"):
        open_sentinel1([path])
    ds = open_sentinel1([path], bands=["VV", "VH", "angle"])
    assert float(ds["sigma0"].sel(polarization="VV").mean() - ds["sigma0"].sel(polarization="VH").mean()) > 5
    assert "incidence_angle" not in open_sentinel1([path], bands=["VV", "VH", ""])
    with pytest.raises(FormatError, match="2 bands, as 'bands' says"):
        open_sentinel1([path], bands=["VV", "VH"])
    named = write(tmp_path / "named" / f"{NAME}.tif", {"VH": vh, "VV": vv})
    with pytest.raises(FormatError, match="band 1 is not what 'bands' says"):
        open_sentinel1([named], bands=["VV", "VH"])
    gamma = write(tmp_path / "gamma" / f"{NAME}.tif", {"Gamma0_VV": vv, "Gamma0_VH": vh})
    with pytest.raises(FormatError, match=r"gamma nought.*sigma0"):
        open_sentinel1([gamma])
    twice = write(tmp_path / "twice" / f"{NAME}.tif", {"VV": vv, "Sigma0_VV": vv})
    with pytest.raises(FormatError, match="VV twice"):
        open_sentinel1([twice])
    slc = write(tmp_path / "slc" / f"{NAME}.tif", {"VV": vv}, dtype="complex64")
    with pytest.raises(FormatError, match="single-look complex"):
        open_sentinel1([slc])


def test_times_come_from_names_tags_or_the_caller(tmp_path):
    values = {"VV": db(speckled((64, 64)))}
    path = write(tmp_path / "area.tif", values)
    with pytest.raises(FormatError, match=r"nothing tells when.*times="):
        open_sentinel1([path], polarizations="VV")
    ds = open_sentinel1([path], polarizations="VV", times="2020-09-03T10:00")
    assert ds["time"].values[0] == np.datetime64("2020-09-03T10:00")
    assert ds.attrs["time_source"] == "declared"
    tagged = write(tmp_path / "b" / "area.tif", values, tags={"TIFFTAG_DATETIME": "2020:09:04 05:06:07"})
    ds = open_sentinel1([tagged], polarizations="VV")
    assert ds["time"].values[0] == np.datetime64("2020-09-04T05:06:07")
    assert ds.attrs["time_source"] == "TIFFTAG_DATETIME"
    with pytest.raises(ParameterError, match="or has another length than 'paths'"):
        open_sentinel1([path], polarizations="VV", times=["2020-09-03", "2020-09-04"])
    with pytest.raises(ParameterError, match="holds no ISO time"):
        open_sentinel1([path], polarizations="VV", times="yesterday")
    with pytest.raises(FormatError, match=r"two scenes have one time.*mosaic='day'"):
        open_sentinel1([path, tagged], polarizations="VV", times="2020-09-03")
    with pytest.raises(ParameterError, match="no scene is in the period"):
        open_sentinel1([tagged], polarizations="VV", start="2021-01-01")


@pytest.mark.parametrize(
    ("path", "time"),
    [
        (f"{NAME}.tif", "2020-09-01T00:11:22"),
        ("s1a-iw-grd-vv-20200901t001122-20200901t001147-034157-03f7a4-001.tiff", "2020-09-01T00:11:22"),
        ("SMAP_L2_SM_SP_1AIWDV_20200901T123456_20200901T000000_097W36N_R18000_001.tif", "2020-09-01T12:34:56"),
        (f"{NAME}.SAFE/VV.tif", "2020-09-01T00:11:22"),
        ("s1_2020-09-01_vv.tif", "2020-09-01"),
        ("39.978022_48.076133.tiff", None),
        ("S1A_20201301T001122.tif", None),
    ],
)
def test_the_first_time_in_a_name_counts(tmp_path, path, time):
    found = time_of(tmp_path / path, {})
    assert found is None if time is None else found[0] == np.datetime64(time)


def test_names_of_bands_and_scenes():
    described = {
        "VV": "VV",
        "Sigma0_VH_db": "VH",
        "sigma0 hh": "HH",
        "incidenceAngleFromEllipsoid": "angle",
        "inc_map": "angle",
        "localIncidenceAngle": "angle",
        "": None,
        "Elevation": None,
    }
    assert {text: role_of("", text) for text in described} == described
    ends = ("_VV", "_VH", "_Sigma0_VV", "-angle", "_localIncidenceAngle", "_incidence_angle", "_inc_map")
    assert {scene_name(NAME + end) for end in ends} == {NAME}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": "amplitude"}, r"unknown 'units'.*\['dB', 'linear', 'dn'\]"),
        ({"units": None}, "unknown 'units'"),
        ({"units": "dn"}, "need 'dn_of'"),
        ({"units": "dn", "dn_of": "linear", "scale": -1.0}, "not a positive number"),
        ({"scale": 2.0}, "take no scale"),
        ({"polarizations": ["VV", "VX"]}, "'VX'"),
        ({"bands": ["VV", "sigma"]}, "'bands' holds an unknown name"),
        ({"bands": ["VV", "VV"]}, "'bands' holds an unknown name, one twice"),
        ({"bands": "VV"}, "'bands' holds an unknown name, one twice"),
        ({"mosaic": "month"}, r"unknown 'mosaic'.*\['scene', 'day'\]"),
        ({"angle_units": "grad"}, "unknown 'angle_units'"),
        ({"incidence_angle": 95.0}, "'incidence_angle' is out of range"),
        ({"min_looks": 0}, "'min_looks' is no whole number"),
        ({"block_pixels": 1.5}, "'block_pixels' is no whole number"),
        ({"grid": "M02"}, r"unknown 'grid'.*'M02'.*GeoBox"),
        ({"grid": projected(-97.0, 37.0, 0.01, 10, 10, "EPSG:4326")}, "GeoBox, projected and north-up"),
        ({"grid": projected(600_000, 4.1e6, 500, 4, 4).rotate(30)}, "GeoBox, projected and north-up"),
        ({"grid": projected(600_000, 4.1e6, 5.0, 10, 10)}, "finer than the pixels"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    path = write(tmp_path / f"{NAME}.tif", {"VV": db(speckled((64, 64))), "VH": db(speckled((64, 64)))})
    with pytest.raises(ParameterError, match=message):
        open_sentinel1([path], **options)


def test_scales_must_be_stated_once(tmp_path):
    number = {"VV": np.round(speckled((64, 64)) * 1e4)}
    plain = write(tmp_path / f"{NAME}.tif", number, dtype="uint16")
    with pytest.raises(FormatError, match="neither the file nor the caller states the scale"):
        open_sentinel1([plain], polarizations="VV", units="dn", dn_of="linear")
    tagged = write(tmp_path / "b" / f"{NAME}.tif", number, dtype="uint16", tagged_scales=((1e-4,), (0.0,)))
    with pytest.raises(FormatError, match="the file itself states"):
        open_sentinel1([tagged], polarizations="VV", units="dn", dn_of="linear", scale=1e-4)


def test_no_file_and_the_date_line(tmp_path):
    with pytest.raises(CatalogError, match="no file was given"):
        open_sentinel1([])
    transform = Affine(0.01, 0, 179.5, 0, -0.01, 10.0)
    path, *_ = scene(tmp_path, (90, 100), crs="EPSG:4326", transform=transform)
    with pytest.raises(ParameterError, match="both sides of the date line"):
        open_sentinel1([path], grid="M03")
    east = M03.window(south=9, north=10, west=179.4, east=180)
    assert open_sentinel1([path], grid=east)["sigma0"].notnull().any()


# -- the catalog and real files --------------------------------------------------------------------------------------


def test_the_catalog_declares_the_units(tmp_path):
    scene(tmp_path / "data" / "sentinel1_grd" / "2020", (128, 128))
    entry = {
        "description": "Sentinel-1.",
        "loader": "smnb.loaders.rasters:open_sentinel1",
        "files": ["sentinel1_grd/**/*.tif"],
        "licence": "free",
        "fetch": {"by_hand": "Export it."},
        "variables": {
            "sigma0": {"native": ["VV", "VH"], "units": "dB"},
            "incidence_angle": {"native": "angle", "units": "degree"},
        },
        "options": {"units": "dB", "mosaic": "day"},
    }
    (tmp_path / "data_catalog.yaml").write_text(yaml.safe_dump({"sentinel1_grd": entry}))
    catalog = Catalog.load(tmp_path / "data_catalog.yaml")
    ds = catalog.open("sentinel1_grd", tmp_path / "data")
    assert ds.attrs["catalog_id"] == "sentinel1_grd"
    assert ds["sigma0"].notnull().any()
    with pytest.raises(FormatError, match="does not hold linear power"):
        catalog.open("sentinel1_grd", tmp_path / "data", units="linear")


def test_real_crops_open_with_a_declared_scale(shared_samples):
    paths = sorted((shared_samples / "s1_geotiff").glob("*.tiff"))
    if not paths:
        pytest.skip("the crops of Sentinel-1 are absent")
    options = {"units": "dn", "scale": 1e-5, "dn_of": "linear", "bands": ["VV", "VH"], "times": "2021-01-01"}
    ds = open_sentinel1(paths, mosaic="day", count=True, **options)
    window = EaseWindow.from_dataset(ds)
    total, number = np.zeros(window.shape), np.zeros(window.shape, int)
    for path in paths:
        with rasterio.open(path) as source:
            vv = source.read(1).astype("float64")
            row, col = ease_cells(window, vv.shape, source.transform, source.crs.to_wkt())
            keep = (vv > 0) & (vv < 65535)
        np.add.at(total, (row[keep], col[keep]), vv[keep] * 1e-5)
        np.add.at(number, (row[keep], col[keep]), 1)
    np.testing.assert_array_equal(ds["n_looks"].sel(polarization="VV")[0], number)
    seen = number > 0
    np.testing.assert_allclose(
        ds["sigma0"].sel(polarization="VV")[0].values[seen], db(total[seen] / number[seen]), atol=1e-4
    )
    # named after their centres
    centres = [tuple(map(float, path.stem.split("_"))) for path in paths]
    assert all(seen[tuple(np.subtract(M01.rowcol(*at), (window.row_start, window.col_start)))] for at in centres)
    assert count_masked(ds["sigma0"])["pixels: zero"] == 21 + 6302 + 377 + 66338
    assert "as calibrated as that declaration" in ds["sigma0"].attrs["comment"]
    with pytest.raises(FormatError, match="nothing tells what its 2 bands are"):
        open_sentinel1(paths, **{**options, "bands": None})


def test_headers_are_read_once_for_many_places(tmp_path, monkeypatch):
    paths = [
        scene(tmp_path, (64, 64), name=f"S1A_IW_GRDH_1SDV_2020090{day}T001122", seed=day)[0] for day in range(1, 5)
    ]
    window = EaseWindow.from_dataset(open_sentinel1(paths[:1], grid="M01"))
    opened, chosen = [], {"bands": None, "times": None, "wanted": ("VV", "VH"), "angle": "degree"}
    read_header = images.read_header
    monkeypatch.setattr(
        acquisitions, "read_header", lambda where, path: opened.append(path) or read_header(where, path)
    )
    for _ in range(3):
        acquisitions.list_scenes("open_sentinel1", paths, **chosen)
    assert sorted(opened) == [str(path) for path in paths[1:]]  # the first had been read for its window
    opened.clear()
    with pytest.raises(ParameterError, match="no scene reaches"):
        open_sentinel1(paths, grid=EaseWindow(M01, 100, 110, 100, 110))
    assert opened == []
    monkeypatch.undo()
    # a file that is written again is read again, and so is one that could not be read
    before = open_sentinel1(paths[:1], grid=window)["sigma0"].values
    scene(tmp_path, (64, 64), name=paths[0].stem, seed=9, transform=CORNER * Affine.translation(5, 5))
    again = acquisitions.list_scenes("open_sentinel1", paths[:1], **chosen)[0]
    assert again.sources[0].geometry.transform[2] == CORNER.c + 50
    assert not np.array_equal(open_sentinel1(paths[:1], grid=window)["sigma0"].values, before, equal_nan=True)
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[:100])
    for _ in range(2):
        with pytest.raises(FormatError, match="unreadable"):
            open_sentinel1(paths[1:2], grid="M01")
    paths[1].write_bytes(whole)
    assert open_sentinel1(paths[1:2], grid="M01").sizes["time"] == 1
