"""The fusion world's files are read back by rasterio, h5py and smnb's own loaders; one place, two scenes."""

from __future__ import annotations

import itertools
from datetime import date
from fnmatch import fnmatch

import h5py
import numpy as np
import pytest
import rasterio
import yaml

from smnb.catalog import Catalog
from smnb.contract import ParameterError
from smnb.grids import M01, M03, M09, EaseWindow
from smnb.loaders.insitu import open_insitu
from smnb.loaders.rasters import open_sentinel1
from smnb.loaders.smap import open_l2_active_passive, open_l3
from smnb.papers.smap_sentinel1 import FUSION_IDS, FusionSamples, open_fusion_scenes
from smnb_sandbox.ease_plans import FusionPlan
from smnb_sandbox.fusion_places import PIXEL_M, FusionSimulation, acquisitions, fusion_stations
from smnb_sandbox.noise import spread
from smnb_sandbox.regions import PLACES
from smnb_sandbox.smap_scenes import REFERENCE_ANGLE_DEG, radar_looks
from smnb_sandbox.truth import open_smap_truth

SEED = 5
PLACE = next(iter(PLACES.values()))


@pytest.fixture(scope="module")
def plan() -> FusionPlan:
    return FusionPlan(places=1, scenes=2)


def write(plan, root, missing, seed=SEED):
    for name, content in plan.contents(seed, set(missing)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(scope="module")
def root(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fusion")
    write(plan, folder, plan.files)
    return folder


@pytest.fixture(scope="module")
def simulation() -> FusionSimulation:
    return FusionSimulation(PLACE, SEED)


def paths(root, pattern):
    return sorted(
        path for path in root.rglob("*") if path.is_file() and fnmatch(path.relative_to(root).as_posix(), pattern)
    )


@pytest.fixture(scope="module")
def sigma0(root):
    return open_sentinel1(
        paths(root, "fusion/sentinel1_grd/*"),
        catalog_id="x",
        synthetic=True,
        grid=PLACE.window,
        units="dB",
        mosaic="day",
    ).load()


@pytest.fixture(scope="module")
def truth(root):
    return open_smap_truth(paths(root, "sandbox_truth/fusion/*"), catalog_id="x", region=PLACE.name).load()


# --- places and passes ------------------------------------------------------------------------------------------------


def test_places_do_not_overlap_and_lie_within_what_is_simulated():
    for place in PLACES.values():
        assert place.window.shape in ((256, 256), (324, 324))
    assert sum(place.window.shape == (324, 324) for place in PLACES.values()) == 1
    for one, other in itertools.combinations([place.window.covering(M09).grown(2) for place in PLACES.values()], 2):
        apart = one.row_stop <= other.row_start or other.row_stop <= one.row_start
        assert apart or one.col_stop <= other.col_start or other.col_stop <= one.col_start


def test_most_places_have_at_least_five_pixels_and_some_have_four():
    pixels = {
        name: sum(count for network, count in place.stations if network != "SBX-LOCAL")
        for name, place in PLACES.items()
    }
    assert sorted(pixels.values())[:3] == [4, 4, 4]
    assert sum(count >= 7 for count in pixels.values()) >= 16


@pytest.mark.parametrize("name", PLACES)
def test_both_satellites_look_on_the_same_morning(name):
    scenes = acquisitions(PLACES[name], 4)
    assert len({scene.sentinel1.time for scene in scenes}) == 4
    for scene in scenes:
        gap = abs((scene.sentinel1.time - scene.smap.time).total_seconds())
        assert gap < 2 * 3600
        assert not scene.evening
        assert date(2020, 9, 1) <= scene.sentinel1.time.date() <= date(2020, 9, 30)


def test_more_scenes_than_there_are_mornings_are_refused():
    with pytest.raises(ParameterError, match="fewer mornings"):
        acquisitions(PLACE, 30)


# --- files ------------------------------------------------------------------------------------------------------------


def test_every_planned_file_is_written_and_no_other_entry_of_the_catalog_sees_it(plan, root, repository):
    written = [path.relative_to(root).as_posix() for path in paths(root, "*")]
    assert sorted(plan.files) == written
    entries = yaml.safe_load((repository / "data_catalog.yaml").read_text())
    for name, entry in entries.items():
        if "fusion" not in name:
            seen = {path for glob in entry["files"] for path in root.glob(glob) if path.is_file()}
            assert not seen, name


def test_missing_files_are_made_again_and_are_the_same(plan, root, tmp_path):
    some = [name for i, name in enumerate(plan.files) if i % 3 == 0 or name.endswith(".zip")]
    write(plan, tmp_path, some)
    assert sorted(some) == [path.relative_to(tmp_path).as_posix() for path in paths(tmp_path, "*")]
    for name in some:
        assert (tmp_path / name).read_bytes() == (root / name).read_bytes(), name


def test_a_scene_is_a_tiled_raster_in_utm(plan, root):
    for name in plan.kinds["sentinel1"]:
        with rasterio.open(root / name) as raster:
            assert raster.crs.to_epsg() == 32614
            assert raster.res == (PIXEL_M, PIXEL_M)
            assert raster.profile["tiled"]
            assert raster.descriptions == ("VV", "VH", "angle")
            assert np.isnan(raster.nodata)
            vv, vh, angle = raster.read()
            seen = np.isfinite(vv)
            np.testing.assert_array_equal(seen, np.isfinite(vh))
            assert np.nanmean(vv) > np.nanmean(vh) + 4.0
            assert -18.0 < np.nanmean(vv) < -7.0
            assert np.nanmin(angle) > 29.0
            assert np.nanmax(angle) < 47.0


def test_averaging_brings_back_the_radar_with_the_noise_of_its_looks(plan, simulation, sigma0):
    assert sigma0.sizes["time"] == 2
    for number, when in enumerate(plan.acquisitions[PLACE.name]):
        vv, vh, seen_at = simulation.radar(when)
        expected = 10.0 * np.log10(np.stack([vv, vh]))[:, *simulation.cut]
        difference = sigma0["sigma0"].values[number] - expected
        assert 0.7 < np.isfinite(difference).mean() < 0.99  # the swath misses a corner
        # about four pixels a cell, each of so many looks, in dB; and the steps of storing
        speckle = 10.0 / np.log(10.0) / np.sqrt(3.8 * radar_looks(PIXEL_M))
        assert np.nanstd(difference) == pytest.approx(np.hypot(speckle, 1 / 16 / np.sqrt(12 * 3.8)), rel=0.1)
        assert abs(np.nanmean(difference)) < 2e-3
        angle = sigma0["incidence_angle"].values[number]
        assert np.nanmax(np.abs(angle - seen_at[simulation.cut])) < 0.1


def test_the_radar_follows_soil_moisture_and_the_angle(sigma0, truth, simulation, plan):
    vv, moisture = sigma0["sigma0"].sel(polarization="VV").values, truth["soil_moisture"].values
    angle = sigma0["incidence_angle"].values
    # the ground's roughness changes from week to week, and makes as much of a difference
    states = [simulation.days.state(when.local_day, evening=when.evening) for when in plan.acquisitions[PLACE.name]]
    rough = np.log(np.stack([spread(state.roughness_factor, 3)[simulation.cut] for state in states]))
    there = np.isfinite(vv) & np.isfinite(moisture)
    columns = np.stack([np.ones(there.sum()), moisture[there], angle[there], rough[there]], axis=1)
    (_, per_moisture, per_degree, per_rough), *_ = np.linalg.lstsq(columns, vv[there], rcond=None)
    assert 0.5 < per_rough < 2.0  # dB of the logarithm
    assert 3.0 < per_moisture < 14.0  # dB per m3 m-3
    assert -0.25 < per_degree < -0.05


def test_brightness_temperature_is_the_blurred_truth_with_its_noise(root, plan, truth):
    daily = open_l3(
        paths(root, "fusion/smap_l3_e/*"),
        catalog_id="x",
        region=PLACE.window.covering(M09).grown(2),
        variables=["tb", "observation_time"],
    ).load()
    assert daily.sizes == {**daily.sizes, "time": 2, "channel": 2, "y": 33, "x": 33}
    h, v = daily["tb"].values.swapaxes(0, 1)
    assert np.isfinite(h).all()
    assert (v > h).all()
    assert 150.0 < h.min() < v.max() < 300.0
    # neighbours share most of their 36 km footprints
    inner = daily["tb"].values[..., 2:-2, 2:-2]
    steps = np.diff(inner, axis=-1)
    assert steps.std() < 0.6 * inner.std(axis=(-2, -1)).mean() + 1.3
    # wetter is colder: means over 36 km
    wet = np.nanmean(truth["soil_moisture"].values[:, :252, :252].reshape(2, 7, 36, 7, 36), axis=(2, 4))
    cold = h[:, 2:30, 2:30].reshape(2, 7, 4, 7, 4).mean(axis=(2, 4))
    assert np.corrcoef(wet.ravel(), cold.ravel())[0, 1] < -0.5
    times = daily["observation_time"].values
    for when, seen in zip(plan.acquisitions[PLACE.name], times, strict=True):
        gap = seen[~np.isnat(seen)] - np.datetime64(when.sentinel1.time.replace(tzinfo=None))
        assert np.abs(gap).max() < np.timedelta64(2, "h")


def test_the_products_errors_are_those_of_an_algorithm_not_white(root, truth):
    product = open_l2_active_passive(
        paths(root, "fusion/smap_s1_l2/*"),
        catalog_id="x",
        region=PLACE.window,
        resolution="1km",
        variables=["soil_moisture"],
        flag_policy="retrieved",
    ).load()
    error = product["soil_moisture"].values - truth["soil_moisture"].values
    assert 0.7 < np.isfinite(error).mean() < 0.99
    assert 0.02 < np.nanstd(error) < 0.08
    centred = error - np.nanmean(error, axis=(1, 2), keepdims=True)
    for lag in (1, 5):
        a, b = centred[:, :, :-lag].ravel(), centred[:, :, lag:].ravel()
        both = np.isfinite(a) & np.isfinite(b)
        assert np.corrcoef(a[both], b[both])[0, 1] > 0.2
    coarser = open_l2_active_passive(
        paths(root, "fusion/smap_s1_l2/*"),
        catalog_id="x",
        region=PLACE.window.covering(M03),
        variables=["soil_moisture"],
    )
    assert coarser["soil_moisture"].shape == (2, 86, 86)


def test_a_granule_says_that_it_is_synthetic(plan, root):
    for name in [*plan.kinds["enhanced"], *plan.kinds["fine"]]:
        with h5py.File(root / name) as file:
            assert file.attrs["synthetic"] == 1
    assert len(plan.kinds["enhanced"]) == 2


# --- in situ ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(root):
    return open_insitu(paths(root, "fusion/ismn/*"), catalog_id="x", synthetic=True)


def test_networks_instruments_and_twins(tables):
    sensors = tables.sensors
    assert set(sensors["network"]) == {"ARM", "SCAN", "USCRN", "SBX-LOCAL"}
    probes = sensors["instrument"].str.contains("Hydraprobe")
    assert probes.mean() > 0.7
    assert (~probes & (sensors["network"] != "SBX-LOCAL")).any()
    assert (sensors["depth_to"] < 0.052).all()
    row, col = M01.rowcol(sensors["lat"].to_numpy(), sensors["lon"].to_numpy())
    window = PLACE.window
    assert ((row >= window.row_start) & (row < window.row_stop)).all()
    assert ((col >= window.col_start) & (col < window.col_stop)).all()
    stations = sensors.assign(row=row, col=col).drop_duplicates(["network", "station"])
    shared = stations.groupby(["row", "col"])["station"].nunique()
    assert shared.max() == 2  # two stations in one pixel
    assert (shared == 2).sum() == PLACE.shared_pixels


def test_stations_read_their_own_pixel(tables, truth, simulation, plan):
    cells, sensors, points = fusion_stations(simulation)
    rows, cols = (cells - (PLACE.window.row_start, PLACE.window.col_start)).T
    hours = points.times(date(2020, 8, 14), date(2020, 9, 30)).astype("datetime64[s]").astype(float)
    for number, when in enumerate(plan.acquisitions[PLACE.name]):
        at = when.sentinel1.time.timestamp()
        cell = np.array([np.interp(at, hours, series) for series in points.cell_moisture.T])
        # the pass is some minutes after 6 a.m., at which the truth is given
        np.testing.assert_allclose(cell, truth["soil_moisture"].values[number, rows, cols], atol=5e-3)
    point = points.point_moisture - points.cell_moisture
    assert 0.008 < point.mean(axis=0).std() < 0.04  # representativeness stays
    assert point.std(axis=0).mean() < point.mean(axis=0).std()
    readings = tables.readings.assign(sensor_id=tables.readings["sensor_id"].astype(str))
    series = readings.groupby("sensor_id")["soil_moisture"].agg(["mean", "size"])
    assert series["size"].min() > 200
    true = {s.key: points.of_sensor(s).mean() for s in sensors}
    error = np.array([series.loc[key, "mean"] - value for key, value in true.items() if key in series.index])
    assert len(error) == len(series)
    assert 0.002 < error.std() < 0.05


def test_the_truth_is_on_the_places_own_window(truth):
    assert truth["soil_moisture"].shape == (2, 256, 256)
    assert 0.02 < float(truth["soil_moisture"].min()) < float(truth["soil_moisture"].max()) < 0.6
    assert truth["soil_moisture"].notnull().mean() > 0.97
    # cells of 1 km differ within those of 3 km
    values = truth["soil_moisture"].values[:, :255, :255].reshape(2, 85, 3, 85, 3)
    assert 0.003 < np.nanmean(values.std(axis=(2, 4))) < 0.03
    assert PLACE.window.covering(M09).shape == (29, 29)


# --- through the catalog ----------------------------------------------------------------------------------------------

CATALOG = """
fusion_sentinel1:
  loader: smnb.loaders.rasters:open_sentinel1
  files: ["fusion/sentinel1_grd/**/*.tif"]
  options: {units: dB}
  variables: {sigma0: {native: [VV, VH], units: dB}}
fusion_smap_l3_e:
  loader: smnb.loaders.smap:open_l3
  files: ["fusion/smap_l3_e/**/*.h5"]
  variables: {tb: {native: [tb_h_corrected, tb_v_corrected], units: Kelvin}}
fusion_smap_s1_l2:
  loader: smnb.loaders.smap:open_l2_active_passive
  files: ["fusion/smap_s1_l2/**/*.h5"]
  variables: {soil_moisture: {native: soil_moisture_1km, units: cm**3/cm**3}}
sandbox_fusion_truth:
  loader: smnb_sandbox.truth:open_smap_truth
  files: ["sandbox_truth/fusion/*.nc"]
  variables: {soil_moisture: {native: soil_moisture, units: m3 m-3}}
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    entries = yaml.safe_load(CATALOG)
    common = {"description": "x", "licence": "x", "fetch": {"by_hand": "x"}}
    path = tmp_path_factory.mktemp("catalog") / "data_catalog.yaml"
    path.write_text(yaml.safe_dump({name: entry | common for name, entry in entries.items()}))
    return Catalog.load(path)


def test_samples_come_from_the_archive(catalog, root, tables, truth, sigma0):
    scenes = open_fusion_scenes(catalog, root)
    assert [(scene.name, scene.title) for scene in scenes] == [(PLACE.name, PLACE.title)]
    samples = FusionSamples.from_products(scenes, tables)
    assert samples.images.shape == (2, 4, 256, 256)
    assert samples.product.shape == (2, 28, 28)
    assert (samples.pixels().groupby("patch").size() >= 5).all()
    assert samples.notes["shared_pixels"] > 0
    np.testing.assert_array_equal(samples.truth, truth["soil_moisture"].values)
    at = samples.at_pixels({"product": samples.baseline, "truth": samples.truth})
    assert (at["truth"] - at["soil_moisture"]).std() < 0.05 < (at["product"] - at["soil_moisture"]).std() + 0.03
    valid = samples.valid & np.isfinite(samples.truth)
    # backscatter of the active-passive product can take the place of the scenes': corrected to one angle, it is the same
    other = open_fusion_scenes(catalog, root, ids=FUSION_IDS | {"sigma0": "fusion_smap_s1_l2"})
    cosine = np.cos(np.radians(sigma0["incidence_angle"].values))
    corrected = samples.images[:, 2] + 20.0 * np.log10(np.cos(np.radians(REFERENCE_ANGLE_DEG)) / cosine)
    difference = (corrected - other[0].sigma0.sel(polarization="VV").values)[valid]
    assert np.isfinite(difference).mean() > 0.95
    assert np.nanstd(difference) < 0.06


def test_places_must_be_named_where_there_is_no_sandbox(catalog, root, tmp_path):
    with pytest.raises(ParameterError, match="no place was named"):
        open_fusion_scenes(catalog, tmp_path)
    with pytest.raises(ParameterError, match="not on the 1 km grid"):
        open_fusion_scenes(catalog, root, {"here": PLACE.window.covering(M09).grown(2)})
    small = EaseWindow(
        M01,
        PLACE.window.row_start,
        PLACE.window.row_start + 90,
        PLACE.window.col_start + 60,
        PLACE.window.col_start + 150,
    )
    scenes = open_fusion_scenes(catalog, root, {"elsewhere": small})
    assert scenes[0].sigma0.shape == (2, 2, 90, 90)
    assert scenes[0].truth is None
