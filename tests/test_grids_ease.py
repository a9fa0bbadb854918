"""EASE-Grid 2.0 against PROJ, exact arithmetic, a real SMAP granule and plain numpy."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
import xarray as xr
from pyproj import CRS, Transformer

from smnb.contract import ContractError, ParameterError
from smnb.grids import EASE_GRIDS, M01, M03, M09, M36, EaseGrid, EaseWindow, RegularGrid, ease_block_mean, ease_refine
from smnb.grids.ease import check_indices
from smnb.loaders import open_netcdf

#: Cells and sizes as NSIDC's grid definitions print them.
PUBLISHED = {
    "M36": (406, 964, 36032.220840584),
    "M09": (1624, 3856, 9008.055210146),
    "M03": (4872, 11568, 3002.6850700487),
    "M01": (14616, 34704, 1000.89502334956),
}


@pytest.fixture(scope="module")
def proj() -> Transformer:
    return Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True)


def field(window: EaseWindow, values, dims=("y", "x"), **extra) -> xr.DataArray:
    return xr.DataArray(values, {**window.coords(), **extra}, dims, "soil_moisture", {"units": "m3 m-3"})


# --- the projection ---------------------------------------------------------------------------------------------------


def test_forward_equals_proj(proj):
    rng = np.random.default_rng(0)
    lat, lon = np.rad2deg(np.arcsin(rng.uniform(-1, 1, 50_000))), rng.uniform(-180, 180, 50_000)
    x, y = M36.xy(lat, lon)
    expected = proj.transform(lon, lat)
    np.testing.assert_allclose(x, expected[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(y, expected[1], rtol=0, atol=1e-6)
    assert M36.xy([0.0, np.nan], [np.nan, 0.0])[0].tolist()[1] == 0.0
    assert np.isnan(M36.xy([0.0, np.nan], [np.nan, 0.0])[0][0])


def test_inverse_is_exact_to_rounding_and_proj_to_its_series(proj):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-17.3e6, 17.3e6, 50_000), rng.uniform(-7.3e6, 7.3e6, 50_000)
    lat, lon = M36.from_xy(x, y)
    back = M36.xy(lat, lon)
    np.testing.assert_allclose(back[0], x, rtol=0, atol=1e-8)
    np.testing.assert_allclose(back[1], y, rtol=0, atol=1e-8)
    expected = proj.transform(x, y, direction="INVERSE")
    np.testing.assert_allclose(lon, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(lat, expected[1], rtol=0, atol=2e-8)


@pytest.mark.parametrize(
    ("grid", "row", "exact"),
    [
        (M36, 0, 83.6319752792466273),
        (M36, 1, 81.480330925882434),
        (M36, 100, 30.3118262053103892),
        (M36, 202, 0.141221789977366353),
        (M01, 0, 84.9999550333357545),
        (M01, 5000, 18.4109742467894368),
    ],
)
def test_row_latitudes_equal_exact_arithmetic(grid, row, exact):
    # the equation that defines y, solved for the latitude with 40 digits (mpmath) with the published 36 km cell
    assert grid.lat[row] == pytest.approx(exact, rel=0, abs=2e-13)


def test_the_inverse_holds_at_poles_and_edges():
    _, y = M36.xy([90.0, -90.0], 0.0)
    np.testing.assert_array_equal(M36.from_xy(0.0, y)[0], [90.0, -90.0])
    half = M36.n_cols / 2 * M36.cell, M36.n_rows / 2 * M36.cell
    np.testing.assert_allclose(half, (17367530.4451615, 7314540.8306386), rtol=0, atol=1e-7)
    lat, lon = M36.from_xy([-half[0], half[0]], [half[1], -half[1]])
    np.testing.assert_allclose(lon, [-180, 180], rtol=0, atol=1e-9)
    np.testing.assert_allclose(lat, [85.0445664, -85.0445664], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("lat", "lon"), [(90.1, 0.0), (-9999.0, -9999.0), (0.0, 361.0)])
def test_points_off_the_globe_have_no_map_coordinates(lat, lon):
    with pytest.raises(ParameterError, match="not on the globe"):
        M09.xy([0.0, lat], [0.0, lon])


@pytest.mark.parametrize(("x", "y"), [(17.4e6, 0.0), (0.0, 7.4e6)])
def test_points_off_the_map_have_no_latitude(x, y):
    with pytest.raises(ParameterError, match="off the map"):
        M09.from_xy(x, y)


# --- cells ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_grids_are_the_published_ones(name):
    grid, (rows, cols, cell) = EASE_GRIDS[name], PUBLISHED[name]
    assert grid.shape == (rows, cols)
    assert grid.cell == pytest.approx(cell, rel=1e-13)
    np.testing.assert_allclose(grid.x[[0, -1]], [-17367530.4451615 + cell / 2, 17367530.4451615 - cell / 2], atol=1e-6)
    np.testing.assert_allclose(grid.y[[0, -1]], [7314540.8306386 - cell / 2, cell / 2 - 7314540.8306386], atol=1e-6)
    assert (np.diff(grid.lat) < 0).all()
    assert (np.diff(grid.lon) > 0).all()
    np.testing.assert_array_equal(grid.lat, -grid.lat[::-1])


# (35, -97.5) lies on an edge between columns of M03 and M01, where the published rounding of the cell sizes decides
@pytest.mark.parametrize(
    ("lat", "lon", "expected"),
    [
        (35.0, -97.5, [(86, 220), (345, 883), (1037, 2650), (3113, 7953)]),
        (46.2, 6.15, [(56, 498), (224, 1993), (674, 5981), (2024, 17944)]),
        (-34.85, 146.1, [(319, 873), (1276, 3492), (3829, 10478), (11487, 31436)]),
    ],
)
def test_golden_cells(lat, lon, expected):
    for grid, (row, col) in zip(EASE_GRIDS.values(), expected, strict=True):
        got = grid.rowcol(lat, lon)
        assert int(got[0]) == row
        assert int(got[1]) == col


def test_points_on_the_equator_and_the_prime_meridian_are_in_the_cells_south_and_east():
    row, col = M36.rowcol([0.0, 10.0], 0.0)
    assert (row[0], col.tolist()) == (203, [482, 482])


def test_golden_centres():
    # published with the series' error
    assert M36.lat[0] == pytest.approx(83.63197527895, abs=2e-8)
    assert M36.lon[0] == pytest.approx(-179.81327800830, abs=1e-11)


@pytest.mark.parametrize("grid", [M36, M09], ids=lambda grid: grid.name)
def test_every_cell_comes_back(grid):
    row, col = np.indices(grid.shape)
    lat, lon = grid.latlon(row, col)
    got = grid.rowcol(lat, lon)
    np.testing.assert_array_equal(got[0], row)
    np.testing.assert_array_equal(got[1], col)
    assert got[0].dtype == np.int64


@pytest.mark.parametrize("grid", [M03, M01], ids=lambda grid: grid.name)
def test_every_row_and_column_of_the_fine_grids_comes_back(grid):
    np.testing.assert_array_equal(grid.rowcol(grid.lat, 0.1)[0], np.arange(grid.n_rows))
    np.testing.assert_array_equal(grid.rowcol(0.1, grid.lon)[1], np.arange(grid.n_cols))
    # and float32 positions, as the products keep them, are good enough
    np.testing.assert_array_equal(grid.rowcol(grid.lat.astype("f4"), 0.1)[0], np.arange(grid.n_rows))
    np.testing.assert_array_equal(grid.rowcol(0.1, grid.lon.astype("f4"))[1], np.arange(grid.n_cols))


def test_cells_equal_those_of_proj(proj):
    rng = np.random.default_rng(2)
    lat, lon = rng.uniform(-85, 85, 20_000), rng.uniform(-180, 180, 20_000)
    x, y = proj.transform(lon, lat)
    for name, (_, _, cell) in PUBLISHED.items():
        row, col = EASE_GRIDS[name].rowcol(lat, lon)
        np.testing.assert_array_equal(row, np.floor((7314540.8306386 - y) / cell))
        np.testing.assert_array_equal(col, np.floor((x + 17367530.4451615) / cell))


def test_indices_nest_but_on_edges():
    rng = np.random.default_rng(3)
    # points a millimetre from corners of 1 km cells, and anywhere
    lat, _ = M36.from_xy(
        0.0, rng.integers(-14600 // 2, 14600 // 2, 20_000) * M01.cell + rng.choice([-1e-3, 1e-3], 20_000)
    )
    lon = rng.integers(1, M01.n_cols, 20_000) * (360 / M01.n_cols) - 180 + rng.choice([-1e-8, 1e-8], 20_000)
    lat, lon = np.append(lat, rng.uniform(-85, 85, 20_000)), np.append(lon, rng.uniform(-180, 180, 20_000))
    finest = M01.rowcol(lat, lon)
    for grid in (M03, M09, M36):
        factor = M01.cells_across(grid)
        for coarse, fine in zip(grid.rowcol(lat, lon), finest, strict=True):
            np.testing.assert_array_equal(coarse, fine // factor)


def test_longitudes_wrap_and_the_map_edges_belong_to_the_outer_cells():
    row, col = M36.rowcol(0.1, [-180.0, 180.0, 359.9, -359.9, 179.99999999999997])
    assert row.tolist() == [202] * 5
    assert col.tolist() == [0, 0, 481, 482, 963]
    row, _ = M09.rowcol([85.0445664, -85.0445664], 0.0)
    assert row.tolist() == [0, M09.n_rows - 1]


@pytest.mark.parametrize(
    ("lat", "lon"),
    [(85.1, 0.0), (-85.1, 0.0), (90.0, 0.0), (np.nan, 0.0), (0.0, np.nan), (-9999.0, -9999.0), (0.0, np.inf)],
)
def test_points_outside_raise_or_are_marked(lat, lon):
    with pytest.raises(ContractError, match=r"1 points are outside the grid.*mask"):
        M36.rowcol([0.0, lat], [0.0, lon])
    row, col = M36.rowcol([0.0, lat], [0.0, lon], outside="mask")
    assert (row.tolist(), col.tolist()) == ([203, -1], [482, -1])


def test_an_unknown_option_for_points_outside_is_refused():
    with pytest.raises(ParameterError, match=r"'clip'; expected \['raise', 'mask'\]"):
        M36.rowcol(0, 0, outside="clip")


@pytest.mark.parametrize(
    ("row", "col", "message"),
    [
        (406, 0, r"row indices are outside M36; got 406; expected 0\.\.405"),
        ([0, -1], 0, "1 row indices are outside"),
        (0, np.array([65534, 5], "uint16"), "1 col indices are outside M36; got 65534"),
        (0.0, 0, "row indices are not integers; got 'float64'"),
    ],
)
def test_indices_outside_the_grid_are_refused(row, col, message):
    with pytest.raises(ParameterError, match=message):
        M36.latlon(row, col)
    with pytest.raises(ParameterError, match=f"reader: {'.*' if message.startswith('row') else ''}"):
        check_indices("reader", M36, row, col)


def test_only_the_four_grids_exist():
    with pytest.raises(ParameterError, match="no such grid"):
        EaseGrid("M25")
    assert pickle.loads(pickle.dumps(M09)) == M09
    with pytest.raises(ValueError, match="read-only"):
        M36.lat[0] = 0.0  # kept by the grid for everybody


# --- real products ----------------------------------------------------------------------------------------------------


def test_a_real_granule_lies_on_the_grid(shared_samples):
    path = next((shared_samples / "smap_l2").glob("SMAP_L2_SM_P_*.h5"))
    with h5py.File(path) as file:
        group = file["Soil_Moisture_Retrieval_Data"]
        row, col, lat, lon = (
            group[name][:] for name in ("EASE_row_index", "EASE_column_index", "latitude", "longitude")
        )
    assert row.size == 17_251
    got = M36.latlon(row, col)
    assert lat.dtype == np.float32
    # float32: half a unit in the last place, at 83° and at 180°, and its own rounding
    np.testing.assert_allclose(got[0], lat, rtol=0, atol=4e-6)
    np.testing.assert_allclose(got[1], lon, rtol=0, atol=8e-6)
    back = M36.rowcol(lat, lon)
    np.testing.assert_array_equal(back[0], row)
    np.testing.assert_array_equal(back[1], col)


def test_points_of_the_real_9_km_product_are_centres(shared_samples):
    paths = sorted((shared_samples / "smap_e_west_australia").glob("Western-Australia_2020-01-0*.nc"))
    days = [open_netcdf("test", path).load() for path in paths]
    lat, lon = (np.concatenate([day[name].values for day in days]) for name in ("latitude", "longitude"))
    assert lat.size > 1000
    row, col = M09.rowcol(lat, lon)
    np.testing.assert_allclose(M09.lat[row], lat, rtol=0, atol=4e-6)
    np.testing.assert_allclose(M09.lon[col], lon, rtol=0, atol=8e-6)


# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_holds_exactly_the_centres_inside():
    window = M09.window(south=30.0, north=40.0, west=-105.0, east=-95.0)
    row, col = np.indices(M09.shape)
    lat, lon = M09.latlon(row, col)
    inside = (lat >= 30) & (lat <= 40) & (lon >= -105) & (lon <= -95)
    assert inside[window.rows, window.cols].all()
    assert inside.sum() == np.prod(window.shape)
    np.testing.assert_array_equal(window.lat, M09.lat[window.rows])
    np.testing.assert_array_equal(window.x, M09.x[window.cols])
    assert window == M09.window_of(row[inside], col[inside])
    assert (window.y.size, window.lon.size) == window.shape


def test_everything_is_the_widest_window():
    assert M36.everything.shape == (406, 964)
    assert M36.window(south=-85.0445664, north=85.0445664, west=-180, east=180) == M36.everything
    assert M36.window_of(5, 7) == EaseWindow(M36, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((-10, 10, 170, -170), r"crosses the date line.*west=170 to east=180 and west=-180 to east=-170"),
        ((60, 90, 0, 10), r"beyond the grid's latitudes.*south=60, north=85.0445664"),
        ((-85.2, 0, 0, 10), r"beyond the grid's latitudes.*south=-85.0445664, north=0"),
        ((10, -10, 0, 10), "out of order"),
        ((10, 10, 0, 10), "out of order"),
        ((0, 10, 5, 5), "out of order"),
        ((0, 10, 350, 10), "off the globe"),
        ((0, 10, 0, 190), "off the globe"),
        ((0, np.nan, 0, 10), "not finite"),
        ((0.1, 0.11, 0.1, 0.11), "no centre of an M36 cell.*window_of"),
    ],
)
def test_impossible_regions_are_refused(edges, message):
    south, north, west, east = edges
    with pytest.raises(ParameterError, match=message):
        M36.window(south=south, north=north, west=west, east=east)


@pytest.mark.parametrize("bounds", [(0, 0, 0, 5), (5, 4, 0, 5), (-1, 4, 0, 5), (0, 407, 0, 5), (0, 5, 0, 965)])
def test_impossible_windows_are_refused(bounds):
    with pytest.raises(ParameterError, match="is empty or leaves its grid"):
        EaseWindow(M36, *bounds)


def test_a_window_grows_on_all_sides():
    window = EaseWindow(M09, 344, 352, 880, 888)
    grown = window.grown(2)
    assert grown == EaseWindow(M09, 342, 354, 878, 890)
    np.testing.assert_array_equal(grown.lat[2:-2], window.lat)
    assert window.grown(0) == window
    with pytest.raises(ParameterError, match="leaves its grid"):
        EaseWindow(M36, 1, 3, 0, 2).grown(1)


def test_a_window_needs_indices_of_the_grid():
    with pytest.raises(ParameterError, match="there are no indices"):
        M36.window_of([], [])
    with pytest.raises(ParameterError, match="outside M36"):
        M36.window_of([1], [964])


def test_coordinates_are_cf_and_read_by_proj():
    window = M09.window(south=30.0, north=31.0, west=-105.0, east=-103.0)
    coords = xr.Dataset(coords=window.coords()).coords
    assert coords["y"].attrs["standard_name"] == "projection_y_coordinate"
    assert coords["x"].attrs == {
        "units": "m",
        "standard_name": "projection_x_coordinate",
        "axis": "X",
        "long_name": "x of cell centre",
    }
    assert (coords["lat"].dims, coords["lon"].dims, coords["row"].dims, coords["col"].dims) == (
        ("y",),
        ("x",),
        ("y",),
        ("x",),
    )
    assert coords["lat"].attrs["units"] == "degrees_north"
    mapping = coords["crs"].attrs
    assert mapping["grid_mapping_name"] == "lambert_cylindrical_equal_area"
    assert mapping["standard_parallel"] == 30.0
    assert CRS.from_cf(mapping).to_epsg() == 6933
    assert CRS.from_wkt(mapping["spatial_ref"]).to_epsg() == 6933
    np.testing.assert_array_equal(coords["row"], np.arange(window.row_start, window.row_stop))


@pytest.mark.parametrize("fine", [M09, M03, M01], ids=lambda grid: grid.name)
def test_a_coarse_cell_is_exactly_its_block_of_fine_ones(fine):
    cell = EaseWindow(M36, 86, 87, 220, 221)
    block = cell.on(fine)
    factor = fine.cells_across(M36)
    assert block.shape == (factor, factor)
    half = fine.cell / 2
    edges = block.x[0] - half, block.x[-1] + half, block.y[-1] - half, block.y[0] + half
    expected = cell.x[0] - M36.cell / 2, cell.x[0] + M36.cell / 2, cell.y[0] - M36.cell / 2, cell.y[0] + M36.cell / 2
    np.testing.assert_allclose(edges, expected, rtol=0, atol=1e-8)
    assert block.on(M36) == cell
    assert block.covering(M36) == cell
    row, col = np.meshgrid(*(np.r_[part] for part in (block.rows, block.cols)), indexing="ij")
    assert {tuple(np.unique(index)) for index in M36.rowcol(*fine.latlon(row, col))} == {(86,), (220,)}


def test_a_window_moves_between_grids():
    window = EaseWindow(M09, 345, 351, 880, 887)
    assert window.covering(M36) == EaseWindow(M36, 86, 88, 220, 222)
    assert window.covering(M09) == window.on(M09) == window
    assert window.on(M01).on(M03).on(M09) == window
    with pytest.raises(
        ParameterError, match=r"not edges of M36 cells.*expected EaseWindow\(M09, rows 344:352, cols 880"
    ):
        window.on(M36)
    with pytest.raises(ParameterError, match="finer"):
        window.covering(M03)
    with pytest.raises(ParameterError, match="no EaseGrid; got 'RegularGrid'"):
        window.covering(RegularGrid(1.0))


def test_a_dataset_tells_its_window(tmp_path):
    window = M09.window(south=30.0, north=31.0, west=-105.0, east=-103.0)
    array = field(window, np.ones((2, *window.shape), "float32"), ("time", "y", "x"), time=[0, 1])
    assert EaseWindow.from_dataset(array) == window
    assert EaseWindow.from_dataset(array.to_dataset()) == window
    part = EaseWindow.from_dataset(array.isel(y=slice(2, 5), x=slice(0, 3)))
    assert part == EaseWindow(M09, window.row_start + 2, window.row_start + 5, window.col_start, window.col_start + 3)
    array.attrs["grid_mapping"] = "crs"
    array.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as read:
        assert EaseWindow.from_dataset(read) == window
        assert EaseWindow.from_dataset(read["soil_moisture"].load()) == window
    named = array.drop_vars("crs")
    named["row"].attrs = {}
    with pytest.raises(ContractError, match="is on no known EASE-Grid"):
        EaseWindow.from_dataset(named)
    named.attrs["ease_grid"] = "M09"
    assert EaseWindow.from_dataset(named) == window


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.isel(y=slice(None, None, 2)), "'row' is not a run of neighbours"),
        (lambda a: a.isel(x=slice(None, None, -1)), "'col' is not a run of neighbours"),
        (lambda a: a.isel(y=0), "no coordinate 'row' along 'y'"),
        (lambda a: a.drop_vars("col"), "no coordinate 'col' along 'x'"),
        (lambda a: a.assign_coords(row=a["row"] + 1), "'y' and 'row' name different places"),
        (lambda a: a.assign_coords(row=a["row"] + 400), "not a run of neighbours of M36"),
        (lambda a: a.isel(y=slice(0, 0)), "'row' is not a run of neighbours"),
    ],
)
def test_a_dataset_off_the_grid_is_refused(spoil, message):
    window = EaseWindow(M36, 10, 14, 20, 26)
    with pytest.raises(ContractError, match=message):
        EaseWindow.from_dataset(spoil(field(window, np.ones(window.shape))))


# --- block means ------------------------------------------------------------------------------------------------------


def naive_mean(values, factor, min_valid):
    out = np.full((values.shape[0] // factor, values.shape[1] // factor), np.nan)
    for i, j in np.ndindex(out.shape):
        part = np.s_[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
        block = values[part]
        valid = ~np.isnan(block)
        if valid.any() and valid.mean() >= min_valid - 1e-12:
            out[i, j] = block[valid].mean()
    return out


@pytest.mark.parametrize(
    ("fine", "coarse"), [(M09, M36), (M03, M36), (M03, M09), (M01, M03), (M01, M36)], ids=lambda grid: grid.name
)
def test_the_mean_of_a_plane_is_its_value_at_the_centre(fine, coarse):
    window = EaseWindow(coarse, 86, 89, 220, 224).on(fine)
    plane = 3e-6 * window.x[None, :] - 2e-6 * window.y[:, None]
    got = ease_block_mean(field(window, plane), coarse)
    assert got.shape == (3, 4)
    np.testing.assert_allclose(got, 3e-6 * got["x"].values - 2e-6 * got["y"].values[:, None], rtol=1e-12)
    assert EaseWindow.from_dataset(got) == window.on(coarse)


@pytest.mark.parametrize("min_valid", [0.01, 0.5, 0.75, 1.0])
def test_block_means_equal_plain_loops(min_valid):
    rng = np.random.default_rng(4)
    window = EaseWindow(M36, 86, 90, 220, 225).on(M09)
    values = rng.normal(size=window.shape)
    values[rng.uniform(size=window.shape) < 0.4] = np.nan
    values[:4, :4] = np.nan
    got = ease_block_mean(field(window, values), M36, min_valid=min_valid)
    expected = naive_mean(values, 4, min_valid)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert np.isnan(expected[0, 0])
    assert np.isfinite(expected).any() or min_valid == 1.0


def test_a_share_of_exactly_min_valid_is_enough():
    window = EaseWindow(M36, 0, 1, 0, 1).on(M09)
    values = np.full((4, 4), np.nan)
    values.flat[:8] = 2.0
    assert ease_block_mean(field(window, values), M36).item() == 2.0
    values.flat[7] = np.nan
    assert np.isnan(ease_block_mean(field(window, values), M36).item())


def test_block_mean_keeps_dims_dtype_attrs_and_other_coordinates():
    window = EaseWindow(M09, 344, 352, 880, 888)
    values = np.arange(2 * 64, dtype="float32").reshape(2, 8, 8)
    array = field(window, values, ("time", "y", "x"), time=[10, 20]).assign_coords(
        label=("time", ["a", "b"]), mask=(("y", "x"), np.ones((8, 8), bool))
    )
    got = ease_block_mean(array.transpose("x", "time", "y"), M36)
    assert got.dims == ("x", "time", "y")
    assert got.dtype == np.float32
    assert (got.name, got.attrs) == ("soil_moisture", {"units": "m3 m-3"})
    assert got["label"].values.tolist() == ["a", "b"]
    assert "mask" not in got.coords
    assert got["crs"].attrs["ease_grid"] == "M36"
    np.testing.assert_allclose(got.transpose("time", "y", "x")[1], naive_mean(values[1], 4, 0.5))


def test_truth_values_become_fractions_and_integers_float32():
    window = EaseWindow(M09, 0, 4, 0, 4)
    wet = np.zeros((4, 4), bool)
    wet.flat[:4] = True
    got = ease_block_mean(field(window, wet), M36)
    assert (got.item(), got.dtype) == (0.25, np.float32)
    assert ease_block_mean(field(window, np.arange(16, dtype="uint8").reshape(4, 4)), M36).item() == 7.5


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "y": 5, "x": 7}, {"y": 1, "x": 3}])
def test_lazy_block_means_equal_loaded_ones(chunks):
    rng = np.random.default_rng(5)
    window = EaseWindow(M36, 86, 90, 220, 225).on(M09)
    values = rng.normal(size=(3, *window.shape)).astype("float32")
    values[rng.uniform(size=values.shape) < 0.3] = np.nan
    array = field(window, values, ("time", "y", "x"), time=[0, 1, 2])
    lazy = ease_block_mean(array.chunk(chunks), M36)
    assert lazy.chunks is not None
    xr.testing.assert_identical(lazy.compute(), ease_block_mean(array, M36))


def test_large_lazy_images_are_averaged_chunk_by_chunk():
    window = EaseWindow(M36, 0, 40, 0, 60).on(M09)
    array = field(window, np.ones(window.shape, "float32")).chunk(y=30, x=50)
    got = ease_block_mean(array, M36)
    assert got.data.npartitions > 20
    assert sum(got.chunks[0]) == 40
    assert (got == 1).all()


def test_the_same_grid_only_applies_the_mask():
    window = EaseWindow(M36, 0, 1, 0, 2)
    got = ease_block_mean(field(window, np.array([[1.0, np.nan]])), M36)
    np.testing.assert_array_equal(got, [[1.0, np.nan]])


def test_block_mean_refuses_what_it_cannot_average():
    window = EaseWindow(M09, 344, 352, 880, 888)
    array = field(window, np.ones(window.shape))
    with pytest.raises(ParameterError, match=r"ease_block_mean: the target grid is finer.*'M03'.*\['M36', 'M09'\]"):
        ease_block_mean(array, M03)
    with pytest.raises(ParameterError, match="no EaseGrid; got 'str'"):
        ease_block_mean(array, "M36")
    with pytest.raises(ParameterError, match=r"not edges of M36 cells.*rows 344:352, cols 880:888"):
        ease_block_mean(array.isel(y=slice(1, None)), M36)
    for bad in (0.0, 1.1, np.nan, True):
        with pytest.raises(ParameterError, match="min_valid"):
            ease_block_mean(array, M36, min_valid=bad)
    flags = array.astype("uint16").assign_attrs(flag_masks=[1, 2])
    with pytest.raises(ContractError, match="flag or class"):
        ease_block_mean(flags, M36)
    assert ease_block_mean((flags & 1) == 1, M36).values.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ContractError, match="no numbers; got 'datetime64"):
        ease_block_mean(array.astype("datetime64[ns]"), M36)
    with pytest.raises(ContractError, match="no known EASE-Grid"):
        ease_block_mean(xr.DataArray(np.ones((8, 8)), dims=("y", "x")), M36)


# --- refinement -------------------------------------------------------------------------------------------------------


def test_nearest_refinement_repeats_cells_and_averages_back():
    window = EaseWindow(M36, 86, 88, 220, 223)
    values = np.array([[1, 2, 3], [4, 5, 254]], "uint8")
    classes = field(window, values).assign_attrs(flag_values=[1, 2])
    got = ease_refine(classes, M09)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.kron(values, np.ones((4, 4), "uint8")))
    assert EaseWindow.from_dataset(got) == window.on(M09)
    floats = field(window, values.astype("float32"))
    xr.testing.assert_identical(ease_block_mean(ease_refine(floats, M03), M36), floats)
    lazy = ease_refine(floats.chunk(x=1), M03)
    assert lazy.chunks is not None
    xr.testing.assert_identical(lazy.compute(), ease_refine(floats, M03))


@pytest.mark.parametrize("fine", [M09, M03], ids=lambda grid: grid.name)
def test_bilinear_refinement_keeps_a_plane_between_centres(fine):
    window = EaseWindow(M36, 86, 91, 220, 226)
    plane = field(window, 3e-6 * window.x[None, :] - 2e-6 * window.y[:, None])
    got = ease_refine(plane, fine, method="bilinear")
    half = fine.cells_across(M36) // 2
    inner = got[half:-half, half:-half]
    np.testing.assert_allclose(inner, 3e-6 * inner["x"].values - 2e-6 * inner["y"].values[:, None], rtol=1e-11)
    # beyond the outer centres the value of the outer centre is kept
    np.testing.assert_allclose(got[:half, half:-half], np.tile(got[half - 1, half:-half], (half, 1)), rtol=1e-2)
    assert got[0, 0].item() == pytest.approx(plane[0, 0].item())
    assert EaseWindow.from_dataset(got) == window.on(fine)


def test_bilinear_refinement_equals_xarray_inside():
    rng = np.random.default_rng(7)
    window = EaseWindow(M36, 86, 96, 220, 232)
    array = field(window, rng.normal(size=(2, *window.shape)), ("time", "y", "x"), time=[0, 1])
    got = ease_refine(array, M09, method="bilinear")
    expected = array.interp(y=got["y"].values[2:-2], x=got["x"].values[2:-2])
    np.testing.assert_allclose(got[:, 2:-2, 2:-2], expected.values, atol=1e-9)
    lazy = ease_refine(array.chunk(time=1, y=3), M09, method="bilinear")
    assert lazy.chunks is not None
    xr.testing.assert_identical(lazy.compute(), got)


def test_bilinear_refinement_covers_what_nearest_covers():
    values = np.array([[1.0, np.nan, np.nan], [np.nan, np.nan, 5.0], [7.0, 8.0, 9.0]])
    window = EaseWindow(M36, 86, 89, 220, 223)
    near, smooth = (ease_refine(field(window, values), M03, method=method) for method in ("nearest", "bilinear"))
    np.testing.assert_array_equal(np.isnan(near), np.isnan(smooth))
    np.testing.assert_allclose(smooth[:12, :12], 1.0)  # alone among missing neighbours: itself
    # the fine cell next to the corner of four cells, of which 7, 8 are valid: weights of its own and of 8
    u = 0.5 - 0.5 / 12
    expected = ((1 - u) * (1 - u) * 7 + (1 - u) * u * 8) / ((1 - u) * (1 - u) + (1 - u) * u)
    assert smooth[24, 11].item() == pytest.approx(expected)


def test_bilinear_refinement_of_all_columns_crosses_the_date_line():
    window = EaseWindow(M36, 200, 202, 0, 964)
    values = np.zeros(window.shape)
    values[:, 0] = 8.0
    got = ease_refine(field(window, values), M09, method="bilinear")
    np.testing.assert_allclose(got[3, [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6]], [0, 1, 3, 5, 7, 7, 5, 3, 1, 0])
    part = ease_refine(field(window, values).isel(x=slice(0, 963)), M09, method="bilinear")
    np.testing.assert_allclose(part[3, :3], [8, 8, 7])


def test_refinement_refuses_bad_requests():
    window = EaseWindow(M09, 344, 348, 880, 884)
    array = field(window, np.ones(window.shape))
    with pytest.raises(ParameterError, match=r"unknown 'method'; got 'cubic'; expected \['nearest', 'bilinear'\]"):
        ease_refine(array, M03, method="cubic")
    with pytest.raises(ParameterError, match=r"no finer grid; got 'M36'.*ease_block_mean"):
        ease_refine(array, M36)
    with pytest.raises(ParameterError, match="no finer grid; got 3"):
        ease_refine(array, 3)
    with pytest.raises(ContractError, match="flag or class"):
        ease_refine(array.astype("int16").assign_attrs(flag_values=[1]), M03, method="bilinear")
    xr.testing.assert_identical(ease_refine(array, M09), array)
