"""The multi-source world's files are read back by rasterio, h5py and smnb's own loaders; two sites, small squares."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch

import h5py
import numpy as np
import pytest
import rasterio
import yaml

from smnb.catalog import Catalog
from smnb.grids import UtmWindow, great_circle_km
from smnb.loaders.insitu import open_insitu
from smnb.loaders.rasters import open_scenes
from smnb.sensors.place import LEGENDS, land_cover_codes
from smnb_sandbox.multisource import MultisourcePlan
from smnb_sandbox.multisource_land import KINDS, SiteDays, SiteLand, SiteSimulation, State
from smnb_sandbox.multisource_rasters import LOOKS, SOIL_BANDS, Ground, reflectance, sigma0
from smnb_sandbox.multisource_series import GLDAS_LAYER, REACH, gldas_time, site_stations, smap_days
from smnb_sandbox.multisource_sites import (
    CLEAR_PERCENT,
    FIRST_DAY,
    LAST_DAY,
    SITES,
    cloud_gaussian,
    is_west,
    sentinel2_passes,
    site_passes,
)
from smnb_sandbox.truth import open_smap_truth

SEED = 4
SITE = next(iter(SITES.values()))
IDS = ("sentinel1", "sentinel2", "dem", "soilgrids", "smap10km", "gldas", "lai", "landcover", "ismn")


@pytest.fixture(scope="module")
def plan() -> MultisourcePlan:
    return MultisourcePlan(sites=2, tile=112, map_size=160, map_dates=1)


@pytest.fixture(scope="module")
def wanted(plan) -> set[str]:
    """All kinds of files, but few of each."""
    names = [
        list(plan.kinds["sentinel1"]),
        list(plan.kinds["sentinel2"]),
        list(plan.kinds["smap"]),
        list(plan.kinds["gldas"]),
        list(plan.kinds["lai"]),
    ]
    few = {name for group in names for name in group[::12]}
    few |= {name for name, one in plan.kinds["sentinel1"].items() if one.map_number == 0}
    few |= {name for name, one in plan.kinds["sentinel2"].items() if one.on_map}
    return few | {
        *plan.kinds["dem"],
        *plan.kinds["truth"],
        *plan.kinds["soil"],
        *plan.kinds["land_cover"],
        *plan.kinds["insitu"],
    }


def write(plan, root, missing, seed=SEED):
    for name, content in plan.contents(seed, set(missing)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(scope="module")
def root(plan, wanted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("multisource")
    write(plan, folder, wanted)
    return folder


@pytest.fixture(scope="module")
def simulation() -> SiteSimulation:
    return SiteSimulation(SITE, SEED, 160)


@pytest.fixture(scope="module")
def entries(repository) -> dict:
    return yaml.safe_load((repository / "data_catalog.yaml").read_text(encoding="utf-8"))


def paths(root, *patterns):
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if any(fnmatch(path.relative_to(root).as_posix(), p) for p in patterns))


@pytest.fixture(scope="module")
def scenes(root, entries):
    """What `open_scenes` makes of each entry with its own options."""

    def of(name):
        entry = entries[f"multisource_{name}"]
        files = paths(root, *(pattern.replace("**/", "*") for pattern in entry["files"]))
        return open_scenes(files, catalog_id=name, synthetic=True, **entry["options"])

    return of


@pytest.fixture(scope="module")
def insitu(root, plan):
    return open_insitu([root / name for name in plan.kinds["insitu"]], catalog_id="x", synthetic=True)


# --- places and times -------------------------------------------------------------------------------------------------


def test_sites_are_a_degree_apart_and_of_several_climates():
    for one, other in itertools.combinations(SITES.values(), 2):
        assert max(abs(one.lat - other.lat), abs(one.lon - other.lon)) > 1.0
    assert sum(site.sensors for site in SITES.values()) == 42
    assert {site.network for site in SITES.values()} == {"ARM", "SCAN", "SNOTEL", "TxSON", "USCRN"}


@pytest.mark.parametrize("name", SITES)
def test_passes_are_a_reading_s_hour_ahead_and_find_their_granule(name):
    site = SITES[name]
    passes = site_passes(site)
    assert len(passes) == 40
    for one in passes:
        assert FIRST_DAY <= one.time.date() <= LAST_DAY
        assert 29.0 <= one.angle <= 46.0
        assert one.time.minute >= 3 or one.time.second > 0
        reading = (one.time + timedelta(hours=1)).replace(minute=0, second=0)
        assert timedelta() < reading - one.time <= timedelta(hours=1)
        assert timedelta() < reading - gldas_time(one, is_west(site)) <= timedelta(hours=6)
    solar = {one.direction: (one.time.hour + one.time.minute / 60.0 + site.lon / 15.0) % 24.0 for one in passes}
    assert solar["A"] == pytest.approx(18.0, abs=0.3)
    assert solar["D"] == pytest.approx(6.0, abs=0.3)


def test_most_passes_find_a_clear_scene_and_some_do_not():
    found, scenes = [], 0
    for site in SITES.values():
        candidates = sentinel2_passes(site, 0)
        scenes += len(candidates)
        assert all((one.time - candidates[0].time).days % 5 in (0, 4) for one in candidates)
        for one in site_passes(site):
            clear = [s for s in candidates if timedelta() < one.time - s.time < timedelta(days=14)]
            found.append(any(s.cloud_percentage <= CLEAR_PERCENT for s in clear))
    assert 0.9 < np.mean(found) < 1.0
    assert 900 < scenes < 1300


def test_names_are_those_of_products_and_all_are_one_seed_s(plan):
    assert len(set(plan.files)) == len(plan.files)
    one, scene = next(iter(plan.kinds["sentinel1"])), next(iter(plan.kinds["sentinel2"]))
    assert one.endswith("S1A_IW_GRDH_1SDV_20200102T001534_20200102T001559_030635_08A643_85EE.tif")
    assert scene.endswith("S2B_MSIL1C_20191228T164953_N0208_R078_T15TVG_20191228T205653.tif")
    assert any("GLDAS_NOAH025_3H.A20200101.2100.021.nc4" in name for name in plan.kinds["gldas"])
    # the product's images begin every third day from the second of April 2015 on
    assert smap_days()[0].isoformat() == "2019-12-31"


# --- the world --------------------------------------------------------------------------------------------------------


def test_a_larger_square_holds_the_smaller_one_unchanged():
    small, large = SiteLand(SITE, SEED, 96), SiteLand(SITE, SEED, 160)
    cut = large.cut(96)
    for name in ("elevation", "clay_fraction", "sand_fraction", "rms_height_cm", "colour"):
        np.testing.assert_allclose(getattr(large, name)[cut], getattr(small, name), rtol=2e-5, atol=2e-4)
    np.testing.assert_array_equal(large.kind[cut], small.kind)
    areas = np.unique(large.parcel, return_counts=True)[1]
    assert 100.0 < 10.0 * np.sqrt(np.median(areas)) < 300.0


def test_rain_wets_and_heavy_soil_remembers():
    days = SiteDays(SITE, SEED)
    change = np.diff(days.wetness[:, 0])
    warm = days.celsius[1:] > 5.0
    wet, dry = days.rain[1:] > 10.0, days.rain[1:] == 0.0
    assert change[warm & wet].mean() > 0.1
    assert change[warm & dry].mean() < 0.0
    memory = [np.corrcoef(series[:-5], series[5:])[0, 1] for series in days.wetness[:, :2].T]
    assert memory[1] > memory[0] > 0.0
    # the country around gets other rain, of the same kind
    assert 0.6 < np.corrcoef(days.wetness[:, 0], days.wetness[:, 2])[0, 1] < 0.98


def test_clouds_bring_rain():
    correlation = [np.corrcoef(cloud_gaussian(site), SiteDays(site, SEED).rain > 0)[0, 1] for site in SITES.values()]
    assert min(correlation) > 0.15


def test_soil_moisture_follows_texture_terrain_and_time(simulation):
    land, cut = simulation.land, simulation.land.cut(160)
    dry, wet = (simulation.soil_moisture(State(w, w, 0.0, 15.0, 180.0), cut) for w in (0.1, 1.0))
    assert wet.mean() > dry.mean() + 0.1
    assert np.corrcoef(wet.ravel(), land.clay_fraction[cut].ravel())[0, 1] > 0.5
    assert np.corrcoef(wet.ravel(), land.hollow[cut].ravel())[0, 1] > 0.2
    assert dry.min() >= 0.02
    assert np.all(wet < land.porosity[cut])
    rows, cols = np.array([40, 60]), np.array([70, 30])
    time = datetime(2020, 6, 3, 15, 20, tzinfo=UTC)
    series = simulation.at(rows, cols, np.array(["2020-06-03T15:20"], "datetime64[s]"))[0]
    whole = (slice(None), slice(None))
    field = simulation.soil_moisture(simulation.days.state(time), whole)
    np.testing.assert_allclose(series, field[rows, cols], atol=1e-6)


@pytest.fixture
def states(simulation, monkeypatch):
    """Sets the state of the site: wetness, and what else differs."""

    def to(wetness, celsius=15.0, day_of_year=120.0):
        state = State(wetness, wetness, 0.0, celsius, day_of_year)
        monkeypatch.setattr(simulation.days, "state", lambda time: state)

    return to


def test_backscatter_rises_with_soil_moisture_under_the_same_vegetation(simulation, states):
    one = site_passes(SITE)[10]
    images = []
    for wetness in (0.1, 0.5, 1.0):
        states(wetness)
        images.append(sigma0(simulation, one, 64))
    assert np.all(images[1][0] > images[0][0])
    assert np.all(images[2][0] > images[1][0])
    assert images[0][2].mean() == pytest.approx(one.angle, abs=0.01)
    states(1.0, celsius=-5.0)
    assert np.all(sigma0(simulation, one, 64)[0] < images[2][0])


def test_backscatter_falls_with_the_angle_and_slopes_that_face_the_radar_are_bright(simulation, states):
    states(0.5)
    one = site_passes(SITE)[10]
    steep, flat = (sigma0(simulation, replace(one, angle=angle), 64)[0] for angle in (31.0, 44.0))
    assert steep.mean() > flat.mean()
    cut, azimuth = simulation.land.cut(64), np.radians(one.look_deg)
    rise = simulation.land.slope_east[cut] * np.sin(azimuth) + simulation.land.slope_north[cut] * np.cos(azimuth)
    level = simulation.land
    slopes = level.slope_east, level.slope_north
    try:
        level.slope_east, level.slope_north = (np.zeros_like(slope) for slope in slopes)
        even = sigma0(simulation, one, 64)[0]
    finally:
        level.slope_east, level.slope_north = slopes
    assert np.corrcoef(rise.ravel(), (sigma0(simulation, one, 64)[0] / even).ravel())[0, 1] > 0.6


def test_wet_soil_is_dark_in_the_short_wave_infrared(simulation, states):
    scene = sentinel2_passes(SITE, 0)[0]
    images = []
    for wetness in (0.0, 1.0):
        states(wetness, day_of_year=30.0)
        images.append(reflectance(simulation, scene, 64))
    change = (images[1] / images[0]).mean(axis=(1, 2))
    assert np.all(change < 1.0)
    assert change[5] < change[4] < change[0]


def test_a_summer_is_greener_than_a_winter(simulation):
    cut = simulation.land.cut(64)
    summer, winter = (simulation.land.ndvi(day, 0.0, cut) for day in (205.0, 20.0))
    assert summer.mean() > winter.mean() + 0.2
    assert winter.min() >= 0.05
    assert summer.max() <= 0.92


# --- files ------------------------------------------------------------------------------------------------------------


def test_every_file_belongs_to_an_entry_and_every_entry_has_files(plan, entries):
    for name in (f"multisource_{one}" for one in IDS):
        patterns = [pattern.replace("**/", "*") for pattern in entries[name]["files"]]
        found = [file for file in plan.files if any(fnmatch(file, pattern) for pattern in patterns)]
        assert found, name
    patterns = [
        pattern.replace("**/", "*")
        for name, entry in entries.items()
        for pattern in entry["files"]
        if name.startswith(("multisource_", "sandbox_multisource"))
    ]
    assert all(any(fnmatch(file, pattern) for pattern in patterns) for file in plan.files)


def test_catalog_opens_the_sources(root, repository):
    index = Catalog.load(repository / "data_catalog.yaml").open("multisource_sentinel1", root)
    assert (index.source, index.bands, index.catalog_id) == (
        "sentinel1",
        ("VV", "VH", "angle"),
        "multisource_sentinel1",
    )


def test_sentinel1_in_decibels_with_speckle(scenes, simulation):
    index = scenes("sentinel1")
    assert dict(index.units) == {"VV": "dB", "VH": "dB", "angle": "degree"}
    one = next(one for one in site_passes(SITE) if one.map_number == 0)
    position = list(index.table.time).index(np.datetime64(one.time.replace(tzinfo=None)))
    window = SITE.window(160)
    with index.open(position) as reader:
        vv, vh, angle = reader.read(window)
    assert np.isfinite(vv).all()
    assert -25.0 < np.median(vh) < np.median(vv) < 0.0
    assert angle.mean() == pytest.approx(one.angle, abs=0.1)
    clean, _, _ = sigma0(simulation, one, 160)
    ratio = 10.0 ** (vv / 10.0) / clean
    assert ratio.mean() == pytest.approx(1.0, abs=0.2)
    assert 1.0 / np.var(ratio / ratio.mean()) == pytest.approx(LOOKS, rel=0.15)


def test_sentinel2_numbers_clouds_and_their_share(root, scenes, plan, simulation):
    index = scenes("sentinel2")
    files = {path.name: path for path in paths(root, "multisource/sentinel2/*")}
    planned = {one.file_name: one for one in plan.kinds["sentinel2"].values()}
    assert set(files) <= set(planned)
    shares = {name: planned[name].cloud_percentage for name in files}
    cloudy, clear = max(shares, key=shares.get), next(name for name in files if planned[name].on_map)
    assert shares[cloudy] > CLEAR_PERCENT
    for name in (cloudy, clear):
        with rasterio.open(files[name]) as raster:
            *bands, mask = raster.read()
            assert raster.descriptions == ("B2", "B3", "B4", "B8", "B11", "B12", "QA60")
            assert raster.dtypes[0] == "uint16"
            stated = float(raster.tags()["CLOUDY_PIXEL_PERCENTAGE"])
        covered = (mask & (1 << 10 | 1 << 11)) > 0
        assert 100.0 * covered.mean() == pytest.approx(stated, abs=0.01)
        assert stated == pytest.approx(shares[name], abs=0.02)
        position = list(index.table.scene_id).index(name.removesuffix(".tif"))
        assert index.table.cloud_percentage[position] == pytest.approx(stated, abs=0.01)
        np.testing.assert_array_equal(bands[4][::2, ::2], bands[4][1::2, 1::2])
        if name == cloudy:
            assert np.median(bands[0][covered]) > 2 * np.median(bands[0][~covered]) or covered.mean() > 0.95
            assert (mask & 1 << 10).any()
        else:
            blue, red, near = (bands[k][~covered].astype(float) for k in (0, 2, 3))
            ndvi = (near - red) / (near + red)
            assert 0.05 < np.median(ndvi) < 0.9
            assert np.all(blue > 0)
            cut = simulation.land.cut(raster.width)
            truth = simulation.ndvi(simulation.days.state(planned[name].time), cut)[~covered]
            assert np.corrcoef(ndvi, truth)[0, 1] > 0.9


def test_terrain_is_a_part_of_its_tile(root, scenes, simulation):
    path = next(path for path in paths(root, "multisource/dem/*") if SITE.name in path.name)
    with rasterio.open(path) as raster:
        assert (raster.dtypes[0], raster.crs.to_epsg(), raster.count) == ("int16", 4326, 1)
        # centres of pixels on whole seconds
        assert (raster.bounds.left + 0.5 / 3600) * 3600 == pytest.approx(
            round((raster.bounds.left + 0.5 / 3600) * 3600)
        )
    index = scenes("dem")
    (position,) = index.covering(SITE.lat, SITE.lon)
    window = SITE.window(160)
    with index.open(int(position)) as reader:
        read = reader.read(window)[0]
    assert np.isfinite(read).all()
    assert np.abs(read - simulation.land.elevation[simulation.land.cut(160)]).mean() < 1.5


def test_soil_maps_know_the_soil_and_not_exactly(scenes, simulation):
    index = scenes("soilgrids")
    assert len(index) == 1
    window = SITE.window(160).coarsened(160.0)
    with index.open(0) as reader:
        values = dict(zip(index.bands, reader.read(window), strict=True))
    assert all(np.isfinite(field).all() for field in values.values())
    total = values["sand"] + values["silt"] + values["clay"]
    assert 0.0 < np.abs(total - 1000.0).mean() < 150.0
    assert np.abs(values["clay"].mean() - 1000.0 * simulation.land.clay_fraction.mean()) < 80.0
    assert 110.0 < values["bdod"].mean() < 165.0


def test_land_cover_has_codes_that_the_strata_know(root, plan, insitu):
    sensors = insitu.sensors
    codes = land_cover_codes(
        root / next(iter(plan.kinds["land_cover"])), sensors.lat.to_numpy(), sensors.lon.to_numpy()
    )
    assert set(codes) <= set(LEGENDS["cgls_lc100"])
    assert set(codes) <= {kind["cgls"] for kind in KINDS}


def test_smap_is_what_its_top_layer_holds_at_most_and_follows_the_country(root, scenes):
    index = scenes("smap10km")
    values = []
    for position in range(len(index)):
        with index.open(position) as reader:
            values.append(reader.at([SITE.lat], [SITE.lon])[0, 0])
    assert np.all((np.array(values) > 0.0) & (np.array(values) <= 25.39))
    days = SiteDays(SITE, SEED)
    middle = index.table.time.to_numpy() + np.timedelta64(36, "h")
    assert np.corrcoef(values, days.between(days.country_moisture, middle.astype("datetime64[s]")))[0, 1] > 0.6
    with rasterio.open(paths(root, "multisource/smap10km/*")[0]) as raster:
        assert raster.descriptions == ("ssm", "susm", "smp", "ssma", "susma")
        assert np.mean(raster.read(1) == raster.nodata) > 0.99


def test_gldas_granules_have_the_schema_of_real_ones(root, shared_samples):
    def schema(path):
        with h5py.File(path) as file:
            variables = {
                name: (file[name].shape, file[name].dtype.name, file[name].chunks, set(file[name].attrs))
                for name in ("lat", "lon", "time", "time_bnds", GLDAS_LAYER)
            }
            texts = {
                name: {k: v for k, v in file[name].attrs.items() if isinstance(v, bytes | np.bytes_) and k != "NAME"}
                for name in ("lat", "lon", GLDAS_LAYER)
            }
            axes = {name: file[name][:] for name in ("lat", "lon")}
            return variables, texts, axes, set(file.attrs)

    real = schema(next(shared_samples.glob("gldas_noah025_3h/*.nc4")))
    ours = schema(paths(root, "multisource/gldas/*")[0])
    library = {"_Netcdf4Dimid", "REFERENCE_LIST", "DIMENSION_LIST", "CLASS", "NAME"}
    for name, (shape, dtype, chunks, attrs) in real[0].items():
        got = ours[0][name]
        assert got[:2] == (shape, dtype), name
        assert got[3] - library == attrs - library, name
        if name in ("lat", "lon", GLDAS_LAYER):
            assert got[2] == chunks, name
    assert real[1] == ours[1]
    for name, axis in real[2].items():
        np.testing.assert_array_equal(ours[2][name], axis)
    # NCO and the library leave theirs; ours says that it is synthetic
    assert real[3] - ours[3] <= {"_NCProperties", "NCO"}
    assert ours[3] - real[3] == {"synthetic"}


def test_gldas_follows_the_country_and_is_within_its_range(root, scenes):
    index = scenes("gldas")
    values = []
    for position in range(len(index)):
        with index.open(position) as reader:
            values.append(reader.at([SITE.lat], [SITE.lon])[0, 0])
    assert np.all((np.array(values) >= 2.0) & (np.array(values) <= 47.6))
    days = SiteDays(SITE, SEED)
    times = index.table.time.to_numpy().astype("datetime64[s]")
    assert np.corrcoef(values, days.between(days.smoothed_country(2.5), times))[0, 1] > 0.6


def test_leaf_area_follows_the_season(scenes):
    index = scenes("lai")
    values = []
    for position in range(len(index)):
        with index.open(position) as reader:
            values.append(reader.at([SITE.lat], [SITE.lon])[0])
    values = np.array(values)
    month = index.table.time.dt.month.to_numpy()
    assert np.nanmax(values) <= 100.0
    assert values[np.isin(month, (7, 8)), 0].mean() > 2 * values[np.isin(month, (12, 1, 2)), 0].mean()


# --- in situ and truth ------------------------------------------------------------------------------------------------


def test_stations_stand_in_fields_of_their_own_near_the_middle(simulation):
    cells, _, truth = site_stations(simulation)
    land = simulation.land
    assert len(truth.stations) == SITE.sensors == 3
    assert len({int(land.parcel[at]) for at in map(tuple, cells)}) == 3
    assert np.abs(cells - land.size // 2).max() <= REACH
    for one, (row, col) in zip(truth.stations, cells, strict=True):
        window = UtmWindow.centred(one.lat, one.lon, size=64, resolution=10.0)
        outer = SITE.window(112)
        assert outer.bounds[0] <= window.bounds[0]
        assert window.bounds[2] <= outer.bounds[2]
        assert outer.bounds[1] <= window.bounds[1]
        assert window.bounds[3] <= outer.bounds[3]
        # the pixel is the one that the position lies in
        whole = SITE.window(land.size)
        pixel = UtmWindow.centred(one.lat, one.lon, size=2, resolution=10.0, snap=False)
        assert abs((pixel.bounds[0] + 10.0) - whole.x[col]) < 5.0
        assert abs((pixel.bounds[3] - 10.0) - whole.y[row]) < 5.0
    for one, other in itertools.combinations(truth.stations, 2):
        assert 0.1 < great_circle_km(one.lat, one.lon, other.lat, other.lon) < 1.0


def test_readings_are_the_pixel_s_truth_with_an_error_of_a_point(simulation, insitu):
    _, _, truth = site_stations(simulation)
    hours = truth.times(FIRST_DAY, LAST_DAY)
    errors = []
    for k, station in enumerate(truth.stations):
        sensor = insitu.sensors[insitu.sensors.station == station.name].sensor_id.iloc[0]
        one = insitu.readings[insitu.readings.sensor_id == sensor]
        index = (one.time.to_numpy().astype("datetime64[h]") - hours[0]).astype(int)
        errors.append(one.soil_moisture.to_numpy() - truth.cell_moisture[index, k])
        assert np.corrcoef(one.soil_moisture, truth.cell_moisture[index, k])[0, 1] > 0.7
    assert 0.005 < np.mean([error.std() for error in errors]) < 0.04
    assert max(abs(error.mean()) for error in errors) < 0.09


def test_flags_frozen_soil_spikes_and_beyond_saturation(insitu):
    flags = insitu.report["removed_by_flag"]
    assert min(flags[name] for name in ("D01", "D03", "D06", "D09")) > 0
    assert insitu.report["readings"]["fill"] > 0
    assert 0.6 < insitu.report["readings"]["kept"] / insitu.report["readings"]["read"] < 0.97
    # deeper sensors and other variables are there, and left out
    assert insitu.report["sensors"]["outside_depth"] == 2
    assert insitu.report["sensors"]["other_variable"] > 0
    assert set(insitu.sensors.network) == {"SCAN", "ARM"}


def test_truth_is_the_field_at_the_passes(root, simulation):
    truth = open_smap_truth(paths(root, "sandbox_truth/multisource/*"), catalog_id="x", region=SITE.name).load()
    assert dict(truth.sizes) == {"time": 40, "y": 56, "x": 56}
    one = site_passes(SITE)[12]
    field = simulation.soil_moisture(simulation.days.state(one.time), simulation.land.cut(112))
    mean = field.reshape(56, 2, 56, 2).mean(axis=(1, 3))
    assert truth.soil_moisture.y[0] > truth.soil_moisture.y[-1]
    np.testing.assert_allclose(truth.soil_moisture.sel(time=one.time.replace(tzinfo=None)), mean, atol=1e-3)
    large = open_smap_truth(paths(root, "sandbox_truth/multisource/*"), catalog_id="x", region=f"{SITE.name}_map")
    assert dict(large.sizes) == {"time": 1, "y": 80, "x": 80}


# --- determinism ------------------------------------------------------------------------------------------------------


def test_only_what_is_missing_is_written_and_the_bytes_are_the_same(plan, wanted, root, tmp_path):
    again = {
        sorted(group)[0]
        for group in (
            plan.kinds["sentinel1"],
            plan.kinds["sentinel2"],
            plan.kinds["smap"],
            plan.kinds["gldas"],
            plan.kinds["lai"],
        )
    }
    again |= {
        next(iter(plan.kinds["dem"])),
        next(iter(plan.kinds["soil"])),
        *plan.kinds["land_cover"],
        next(iter(plan.kinds["truth"])),
    }
    again &= wanted
    write(plan, tmp_path, again)
    written = {path.relative_to(tmp_path).as_posix() for path in paths(tmp_path, "*")}
    assert written == again
    for name in again:
        assert (tmp_path / name).read_bytes() == (root / name).read_bytes(), name


def test_another_seed_is_another_world_with_the_same_names(plan, root, tmp_path):
    name = sorted(plan.kinds["sentinel1"])[0]
    write(plan, tmp_path, {name}, seed=SEED + 1)
    assert (tmp_path / name).read_bytes() != (root / name).read_bytes()


def test_the_ground_reaches_beyond_the_tile(simulation):
    ground = Ground(simulation)
    _, soil = ground.soil()[SOIL_BANDS.index("clay")]
    assert soil.shape[-1] >= 7
    assert (soil > 0).all()
