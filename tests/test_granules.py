"""A map of a window from granules: the same numbers as from a cell's files, at 3 and at 1 km."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fake_cells import CELL, series, stack, write

from smnb.cli import app as cli
from smnb.contract import ContractError, ParameterError
from smnb.grids import M01, M03, M09, M36, EaseGrid, EaseWindow
from smnb.loaders.smap import utc_to_seconds
from smnb.maps.granules import granule_cells
from smnb.pretrained import CELL_MODELS, load_pretrained, map_region
from smnb_sandbox.smap_granules import PASSIVE, level3_granule, scene_granule

#: Names in the files of cells and in granules.
FIELDS = {name: name for name in ("soil_moisture", "vegetation_water_content")} | {
    f"sigma0_{one}": f"sigma0_{one}_aggregated" for one in ("vv", "vh")
}


def packed(data: xr.Dataset) -> xr.Dataset:
    """Numbers that the sandbox's nine bits hold."""
    return data.map(lambda x: np.round(x * 4096) / 4096 if x.dtype.kind == "f" and float(x.max()) < 0.125 else x).map(
        lambda x: np.round(x * 512) / 512 if x.dtype.kind == "f" and float(x.max()) >= 0.125 else x
    )


def cells_of(data: xr.Dataset, number: int, grid: EaseGrid) -> dict[str, np.ndarray]:
    """A scene's fields of one resolution, as a granule has them."""
    window, suffix = CELL.on(grid), f"_{grid.cell / 1000:.0f}km"
    rows = np.arange(window.row_start, window.row_stop), np.arange(window.col_start, window.col_stop)
    place = np.meshgrid(*rows, indexing="ij")
    cells = {"EASE_row_index": place[0], "EASE_column_index": place[1]}
    cells["retrieval_qual_flag"] = np.ones(window.shape)
    for name, native in FIELDS.items():
        values = data[f"{name}{suffix}"].values[number]
        cells[native] = np.where(np.isfinite(values), values, -9999.0)
    return cells


def half_of(data: xr.Dataset, half: int) -> xr.Dataset:
    """The northern (0) or southern half of scenes, as one of two scenes of Sentinel-1 sees it."""

    def of(field: xr.DataArray) -> xr.DataArray:
        for dim in {"lat_1km", "lat_3km"} & set(field.dims):
            field = field.where(xr.DataArray(np.arange(field.sizes[dim]) * 2 // field.sizes[dim] == half, dims=dim))
        return field

    return data.map(of)


def granules(folder, data: xr.Dataset, passes: xr.Dataset, halves: bool) -> None:
    """A cell's scenes as SPL2SMAP_S, one or two halves a scene, and its overpasses as days of SPL3SMP_E, in the real schema."""
    for name in ("smap_s1_l2", "smap_l3_e"):
        (folder / name).mkdir(parents=True)
    for number, time in enumerate(data["time"].values):
        for half in range(1 + halves):
            part = half_of(data, half) if halves else data
            start = pd.Timestamp(time) + pd.Timedelta(minutes=half)
            sentinel1 = start + pd.Timedelta(hours=12)
            cells = cells_of(part, number, M03) | {
                "spacecraft_overpass_time_seconds": np.full((12, 12), utc_to_seconds(np.datetime64(start)))
            }
            stamps = "_".join(f"{one:%Y%m%dT%H%M%S}" for one in (start, sentinel1))
            name = f"SMAP_L2_SM_SP_1AIWDV_{stamps}_098W49N_R18290_001.h5"
            times = start.to_pydatetime(), sentinel1.to_pydatetime()
            image = scene_granule(name, cells, cells_of(part, number, M01), times)
            (folder / "smap_s1_l2" / name).write_bytes(image)
    window, times = CELL.on(M09), passes["time"].values.astype("datetime64[ns]")
    coarse = passes["soil_moisture_sca"].where(np.isfinite(passes["soil_moisture_sca"]), passes["soil_moisture"]).values
    for day in np.unique(times.astype("datetime64[D]")):
        parts = []
        for number in np.flatnonzero(times.astype("datetime64[D]") == day):
            cells = {field.name: np.zeros((4, 4, field.classes) if field.classes else (4, 4)) for field in PASSIVE}
            value = np.where(np.isfinite(coarse[number]), coarse[number], -9999.0)
            cells |= {name: value for name in cells if name.startswith("soil_moisture") and "error" not in name}
            cells["tb_time_seconds"] = np.full((4, 4), utc_to_seconds(times[number]))
            parts.append((window, pd.Timestamp(times[number]).hour >= 12, cells, np.ones((4, 4), bool)))
        name = f"SMAP_L3_SM_P_E_{pd.Timestamp(day):%Y%m%d}_R18290_001.h5"
        (folder / "smap_l3_e" / name).write_bytes(level3_granule(name, M09, parts))


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("name", CELL_MODELS)
def test_the_same_numbers_through_both_doors(name, halves, tmp_path):
    kind, _ = CELL_MODELS[name]
    passes = packed(series("2019-05-25 00:10", days=14))
    files = write(tmp_path, packed(stack())), write(tmp_path, passes, "smap_9km_R049C220.nc")
    with xr.open_dataset(files[0]) as data:
        granules(tmp_path / "archive", data.load(), passes, halves)
    resolution = f"{kind.grid.cell / 1000:.0f}km"
    record = kind.opens.from_files(*files, resolution)
    model, time = load_pretrained(name).model, record.time[-1] + np.timedelta64(1, "m")
    expected = kind(model, record).estimate_asked(np.array([time]), detail="product")
    options = ["--region=-98.3,49.2,-97.8,49.7", "--time", str(time), "--detail", "product"]
    with pytest.raises(SystemExit) as end:
        cli.main(["map", name, str(tmp_path / "archive"), *options, "--out", str(tmp_path / "map.nc")])
    assert not end.value.code
    with xr.open_dataset(tmp_path / "map.nc") as found:
        found = found.sortby("y", ascending=False)  # metres on the map: north first
        assert found["soil_moisture"].shape == CELL.on(kind.grid).shape
        for one in expected.data_vars:
            np.testing.assert_array_equal(found[one].values, expected[one].values[0])
    alone = kind(model, record).estimate(record.time[-1:], detail="product")  # the scene's own σ0 was found
    if resolution == "1km":
        np.testing.assert_allclose(expected["soil_moisture"], alone["soil_moisture"], atol=0.02)


def test_windows_of_granules_nest():
    window = EaseWindow(M36, 48, 49, 219, 220)
    blank = [
        xr.Dataset({"soil_moisture": (("time", "y", "x"), np.zeros((1, *one.shape)))}, {"time": [0], **one.coords()})
        for one in (window.on(M03), EaseWindow(M36, 48, 49, 220, 221).on(M09))
    ]
    with pytest.raises(ContractError, match="do not nest"):
        next(granule_cells(*blank))


def test_what_cannot_be_mapped_is_said(tmp_path):
    with pytest.raises(ParameterError, match="conus_points"):
        map_region("conus_points", tmp_path, tmp_path / "map.nc", "-98.3,49.2,-97.8,49.7", "2019-05-01")
    with pytest.raises(ParameterError, match="detail"):
        map_region("smap_s1_1km", tmp_path, tmp_path / "map.nc", "-98.3,49.2,-97.8,49.7", "2019-05-01", detail="bold")
