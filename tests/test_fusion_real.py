"""The patch builder on the real files there are: they do not overlap in space or time, and it says so with counts."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from smnb.catalog import Catalog
from smnb.contract import ContractError
from smnb.grids import M01, M09, EaseWindow, ease_refine
from smnb.loaders.rasters import open_sentinel1
from smnb.loaders.smap import open_l2
from smnb.papers.smap_sentinel1 import FusionSamples
from smnb.papers.smap_sentinel1.cutting import SceneProducts


@pytest.fixture(scope="module")
def real(shared_samples):
    """Backscatter of a Sentinel-1 crop on 64 x 64 cells around it, a granule's TB on 9 km cells, and ISMN's sensors."""
    crop = sorted((shared_samples / "s1_geotiff").glob("*.tiff"))[0]
    declared = {"units": "dn", "dn_of": "linear", "scale": 1e-4, "bands": ["VV", "VH"], "times": ["2020-09-02T03:40"]}
    small = open_sentinel1([crop], catalog_id="sentinel1_crops", grid="M01", mosaic="day", **declared)
    row, col = int(small["row"].values.mean()), int(small["col"].values.mean())
    window = EaseWindow(M01, row - 32, row + 32, col - 32, col + 32)
    sigma0 = open_sentinel1([crop], catalog_id="sentinel1_crops", grid=window, mosaic="day", **declared)[
        "sigma0"
    ].load()
    granule = open_l2(
        sorted((shared_samples / "smap_l2").glob("*.h5")), catalog_id="smap_l2", variables=["tb", "soil_moisture"]
    )
    around = window.covering(M09).grown(1)
    fields = {}
    for name in ("tb", "soil_moisture"):
        fine = ease_refine(granule[name].load(), M09)
        placed = fine.assign_coords(y=fine["row"].values, x=fine["col"].values).drop_vars(["row", "col", "lat", "lon"])
        on = placed.reindex(
            y=np.arange(around.row_start, around.row_stop), x=np.arange(around.col_start, around.col_stop)
        )
        fields[name] = on.assign_coords(around.coords())
    passive = xr.Dataset(fields)
    seen = passive["tb"].isel(channel=0, drop=True).notnull()
    passive["observation_time"] = xr.where(seen, passive["time"], np.datetime64("NaT", "ns"))
    catalog = Catalog.load()
    insitu = catalog.open("ismn_conus", shared_samples, start="2020-08-31", end="2020-10-01")
    return granule, SceneProducts("crop", "crop", sigma0, passive), insitu


def test_real_files_are_read(real) -> None:
    granule, scene, insitu = real
    assert int(granule["tb"].notnull().sum()) > 1000
    assert int(scene.sigma0.notnull().sum()) > 0
    networks = set(insitu.sensors["network"])
    assert {"USCRN", "ARM"} <= networks


def test_files_that_do_not_overlap_leave_no_patch_and_the_counts_say_why(real) -> None:
    _, scene, insitu = real
    with pytest.raises(ContractError, match="'without_sigma0': 1"):
        FusionSamples.from_products([scene], insitu, size=64)
    with pytest.raises(ContractError, match="'without_tb': 1") as error:
        FusionSamples.from_products([scene], insitu, size=64, min_seen=1e-4)
    assert "sensors_chosen" in str(error.value)
