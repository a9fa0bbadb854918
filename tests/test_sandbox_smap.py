"""SMAP's part of the sandbox: its orbits and schema against real granules, its physics, and files read by smnb's loaders."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, date, datetime, timedelta

import h5py
import numpy as np
import pytest
import xarray as xr

from smnb.contract import ParameterError, check_dataset
from smnb.grids import M01, M03, M09, M36
from smnb.loaders.smap import open_l2, open_l2_active_passive, open_l3, seconds_to_utc
from smnb.models.physics import retrieve_single_channel
from smnb_sandbox import PRESETS, read_manifest, write_sandbox
from smnb_sandbox.archive import Preset
from smnb_sandbox.ease_plans import SmapPlan
from smnb_sandbox.noise import DriftingField, PlanarField, blocks
from smnb_sandbox.regions import IGBP, REGIONS, region_domain, region_window, smap_passes
from smnb_sandbox.smap_granules import L2_LINKS, PASSIVE, l3_name, level3_granule
from smnb_sandbox.smap_scenes import RegionSimulation, scene_times
from smnb_sandbox.smap_sensors import (
    FILL,
    backscatter,
    covariation,
    cross_polarized_slope,
    disaggregate_tb,
    masked_blur,
    quality_flags,
    soil_backscatter,
    surface_flags,
    water_cloud,
)
from smnb_sandbox.smap_world import RegionWorld
from smnb_sandbox.world import LAST_DAY

SEED = 5
PLAN = SmapPlan(
    date(2016, 3, 1),
    date(2016, 3, 20),
    level2_days=(date(2016, 3, 3), date(2016, 3, 4)),
    enhanced_days=(date(2016, 3, 3), date(2016, 3, 3)),
    one_km_days=(date(2016, 3, 1), date(2016, 3, 8)),
    max_scenes=2,
)
MONTH = Preset(LAST_DAY, LAST_DAY, resolution=3.0, smap=PLAN)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def plan():
    return PLAN


@pytest.fixture(scope="module")
def archive(tmp_path_factory, plan):
    """An archive whose writing was killed between two scenes and went on; and what stood after the kill."""
    root = tmp_path_factory.mktemp("sandbox") / "archive"

    def kill(done, total, name):
        if name == list(plan.kinds["fine"])[3]:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "smap", MONTH)
        with pytest.raises(Killed):
            write_sandbox(root, "smap", seed=SEED, progress=kill)
        kept = {p: p.stat().st_mtime_ns for p in root.rglob("*.h5")}
        write_sandbox(root, "smap", seed=SEED)
    return root, kept


@pytest.fixture(scope="module")
def root(archive):
    return archive[0]


@pytest.fixture(scope="module")
def tucson():
    return simulate("tucson", date(2016, 3, 1), date(2016, 3, 20))


def simulate(name, first, last):
    margin = timedelta(days=4)
    return RegionSimulation(RegionWorld(REGIONS[name], SEED).simulate(first - margin, last + margin))


def passes_over(simulation, first, last):
    window = simulation.window(M36)
    return smap_passes(window.lat, window.lon, first, last)


def retrieved(fields):
    """Soil moisture of a scene or of passes, NaN where missing."""
    values = fields["soil_moisture"]
    return np.where(values == FILL, np.nan, values)


def paths(root, names):
    return [root / name for name in names]


# --- the archive -----------------------------------------------------------------------------------------------------


def test_names_manifest_and_a_killed_write(archive, plan):
    root, kept = archive
    manifest = read_manifest(root)
    names = [entry["path"] for entry in manifest["files"]]
    assert names[-len(plan.files) :] == plan.files
    assert {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} == {*names, "SANDBOX.json"}
    assert 2 <= len(kept) < len(plan.files)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    forms = (
        r"smap_l2/SMAP_L2_SM_P_\d{5}_[AD]_2016030[2-4]T\d{6}_R18290_001\.h5",
        r"smap_l3/2016/SMAP_L3_SM_P_201603\d\d_R18290_001\.h5",
        r"smap_l3_e/2016/SMAP_L3_SM_P_E_20160303_R18290_001\.h5",
        r"smap_s1_l2/2016/SMAP_L2_SM_SP_1AIWDV_201603\d\dT\d{6}_201603\d\dT\d{6}_\d{3}[EW]\d\dN_R18290_001\.h5",
        r"sandbox_truth/smap_truth_(oklahoma_city|tucson|geneva)\.nc",
    )
    counts = [sum(re.fullmatch(form, name) is not None for name in plan.files) for form in forms]
    assert sum(counts) == len(plan.files)
    assert counts[2:] == [1, len(plan.kinds["fine"]), 3]
    # days that no scene can be matched with are left out where scenes are few
    assert 6 <= counts[1] < 20
    with h5py.File(root / next(iter(plan.kinds["level3"]))) as file:
        assert file["Metadata/DatasetIdentification"].attrs["shortName"] == b"SPL3SMP"
        assert file["Metadata/DatasetIdentification"].attrs["fileName"].decode() in next(iter(plan.kinds["level3"]))
        assert file.attrs["synthetic"] == 1


def test_same_seed_same_bytes_whatever_is_missing_and_another_seed_other_bytes(root, plan):
    wanted = {
        next(iter(plan.kinds["level2"])),
        list(plan.kinds["level3"])[-1],
        *plan.kinds["enhanced"],
        list(plan.kinds["fine"])[-1],
        list(plan.kinds["truth"])[1],
    }
    again = dict(plan.contents(SEED, wanted))
    assert set(again) == wanted
    assert all(content == (root / name).read_bytes() for name, content in again.items())
    other = dict(plan.contents(SEED + 1, wanted))
    assert all(hashlib.sha256(other[name]).digest() != hashlib.sha256(again[name]).digest() for name in wanted)
    assert dict(plan.contents(SEED, set())) == {}


def test_presets_have_the_papers_scenes():
    full, quick = PRESETS["full"].smap, PRESETS["quick"].smap
    for name, train, test in (("oklahoma_city", 80, 50), ("tucson", 30, 10), ("geneva", 60, 30)):
        years = np.array([scene.sentinel1.time.year for scene in full.scenes[name]])
        assert (years < 2018).sum() >= train + 4  # four scenes before the first that can be a sample
        assert (years == 2018).sum() >= test
        years = np.array([scene.sentinel1.time.year for scene in quick.scenes[name]])
        assert (years == 2017).sum() >= 16 + 4
        assert (years == 2018).sum() >= 6
        for scenes in (full.scenes[name], quick.scenes[name]):  # both tracks, one of which sees a part
            assert {scene.sentinel1.track for scene in scenes} == {0, 1}
            assert len({scene.window.shape for scene in scenes}) == 2
    assert set(quick.kinds["fine"]) <= set(full.kinds["fine"])
    assert set(quick.kinds["level3"]) <= set(full.kinds["level3"])
    assert len(full.kinds["level3"]) == 1096


# --- orbits against real ones -----------------------------------------------------------------------------------------


def test_a_real_half_orbit_is_where_and_when_it_was(shared_samples):
    with h5py.File(shared_samples / "smap_l2" / "SMAP_L2_SM_P_02801_A_20150811T013002_R18290_001.h5") as file:
        group = file["Soil_Moisture_Retrieval_Data"]
        lat, lon, seconds = (group[n][()].astype(float) for n in ("latitude", "longitude", "tb_time_seconds"))
    window = M36.window(south=-50, north=50, west=-140, east=-95)
    found = [p for p in smap_passes(window.lat, window.lon, date(2015, 8, 11), date(2015, 8, 11)) if p.orbit == 2801]
    one = next(p for p in found if p.direction == "A")
    row, col = M36.rowcol(lat, lon)
    inside = (row >= window.row_start) & (row < window.row_stop) & (col >= window.col_start) & (col < window.col_stop)
    row, col = row[inside] - window.row_start, col[inside] - window.col_start
    # the antenna turns: it sees a place up to a minute before or after the spacecraft is beside it
    assert np.abs(one.seconds[row, col] - seconds[inside]).max() < 130
    assert abs(np.mean(one.seconds[row, col] - seconds[inside])) < 30
    real = np.zeros(window.shape, bool)
    real[row, col] = True
    assert (real == one.covered).mean() > 0.97
    assert abs(one.start - datetime(2015, 8, 11, 1, 30, 2, tzinfo=UTC)) < timedelta(minutes=4)


def test_the_orbit_count_holds_for_years():
    # SMAP_L2_SM_P_30058_D_20200916T194350, a public granule
    lat, lon = np.arange(-60.0, 61.0, 10.0), np.arange(-180.0, 180.0, 4.0)
    passes = smap_passes(lat, lon, date(2020, 9, 16), date(2020, 9, 16))
    one = next(p for p in passes if (p.orbit, p.direction) == (30058, "D"))
    assert abs(one.start - datetime(2020, 9, 16, 19, 43, 50, tzinfo=UTC)) < timedelta(minutes=6)


def test_passes_repeat_after_8_days_and_mornings_are_mornings():
    for region in REGIONS.values():
        window = region_window(region).covering(M36)
        passes = smap_passes(window.lat, window.lon, date(2017, 4, 1), date(2017, 4, 16))
        first = [p for p in passes if p.time < datetime(2017, 4, 9, tzinfo=UTC)]
        second = passes[len(first) :]
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert other.orbit - one.orbit == 117
            np.testing.assert_array_equal(one.covered, other.covered)
            assert abs(other.time - one.time - timedelta(days=8)) < timedelta(seconds=2)
            hour = (one.time.hour + one.time.minute / 60 + region.lon / 15) % 24
            assert 16.5 < hour < 18.5 if one.evening else 5.5 < hour < 7.5
        seen = np.array([(p.covered * p.time.timestamp()) for p in passes if not p.evening])
        gaps = [np.diff(cell[cell > 0]).max() / 86400 for cell in seen.reshape(len(seen), -1).T]
        assert 1.9 < np.median(gaps) <= max(gaps) < 3.1


# --- schema against real files ----------------------------------------------------------------------------------------


def test_level2_schema_is_the_real_granules(shared_samples, root, plan):
    real_path = shared_samples / "smap_l2" / "SMAP_L2_SM_P_02801_A_20150811T013002_R18290_001.h5"
    with h5py.File(real_path) as real_file, h5py.File(root / next(iter(plan.kinds["level2"]))) as file:
        real, ours = (f["Soil_Moisture_Retrieval_Data"] for f in (real_file, file))
        # not written: organic matter, and the dual-channel algorithm's own albedo and roughness
        assert set(real) - set(ours) == {"organic_content", "albedo_option3", "roughness_coefficient_option3"}
        assert set(ours) <= set(real)
        assert all(ours[name] == ours[target] and real[name] == real[target] for name, target in L2_LINKS.items())
        for name in ours:
            assert ours[name].dtype == real[name].dtype, name
            assert ours[name].shape[1:] == real[name].shape[1:], name
            wanted = {key: value for key, value in real[name].attrs.items() if key != "coordinates"}
            assert dict(ours[name].attrs) == wanted, name
            assert {k: v.dtype for k, v in ours[name].attrs.items()} == {k: v.dtype for k, v in wanted.items()}, name
        identity = [f["Metadata/DatasetIdentification"].attrs for f in (file, real_file)]
        for key in ("SMAPShortName", "shortName", "CompositeReleaseID", "ECSVersionID"):
            assert identity[0][key].decode() == _text(identity[1][key])


def _text(value):
    value = np.asarray(value).ravel()[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def test_level3_holds_what_a_real_file_holds(shared_samples, root, plan):
    tree = ElementTree.parse(shared_samples / "smap_l3_schema" / "SPL3SMP_R14010.dmr.xml").getroot()
    space = "{http://xml.opendap.org/ns/DAP/4.0#}"
    sizes = {d.get("name"): int(d.get("size")) for d in tree.findall(f"{space}Dimension")}
    kinds = {"Float32": "f4", "Float64": "f8", "UInt16": "u2", "Byte": "u1", "String": "S24"}
    seen = 0
    with h5py.File(root / next(iter(plan.kinds["level3"]))) as file:
        for element in tree:
            kind = element.tag.removeprefix(space)
            name = {a.get("name"): a[0].text for a in element if a.tag == f"{space}Attribute" and len(a)}.get(
                "fullnamepath"
            )
            if kind in kinds:
                assert file[name].dtype == np.dtype(kinds[kind]), name
                assert file[name].shape == tuple(sizes[d.get("name")[1:]] for d in element.findall(f"{space}Dim")), name
                seen += 1
        assert seen == 62
        for group, suffix in (("AM", ""), ("PM", "_pm")):
            newer = [f"soil_moisture_{o}" for o in ("dca", "scah", "scav")] + ["clay_fraction", "tb_v_uncorrected"]
            assert all(f"{n}{suffix}" in file[f"Soil_Moisture_Retrieval_Data_{group}"] for n in newer)


# --- what the files hold, read by the loaders and by hand --------------------------------------------------------------


def test_loaders_read_the_products(root, plan):
    geneva = region_window(REGIONS["geneva"])
    half_orbits = open_l2(paths(root, plan.kinds["level2"]), catalog_id="smap_l2", synthetic=True)
    assert half_orbits.sizes["time"] == len(plan.kinds["level2"])
    assert 0.02 <= float(half_orbits["soil_moisture"].min()) < float(half_orbits["soil_moisture"].max()) < 0.6
    days = open_l3(
        paths(root, plan.kinds["level3"]),
        catalog_id="smap_l3",
        synthetic=True,
        region=geneva.covering(M36),
        overpass="both",
    )
    assert dict(days.sizes).items() >= {"time": len(plan.kinds["level3"]), "y": 9, "x": 9, "overpass": 2}.items()
    assert 0.15 < float(days["soil_moisture"].notnull().mean()) < 0.7
    enhanced = open_l3(
        paths(root, plan.kinds["enhanced"]),
        catalog_id="smap_l3_e",
        synthetic=True,
        region=geneva.covering(M09),
        overpass="pm",
    )
    assert enhanced["tb"].sizes["y"] == 34
    with h5py.File(root / next(iter(plan.kinds["enhanced"]))) as file:
        index = file["Soil_Moisture_Retrieval_Data_PM/EASE_column_index_pm"]
        assert index.shape == M09.shape
        assert index.attrs["valid_max"] == M09.n_cols - 1
        assert b"9 km" in index.attrs["long_name"]
    scenes = open_l2_active_passive(
        paths(root, plan.kinds["fine"]), catalog_id="smap_s1_l2", synthetic=True, region=geneva
    )
    moisture = scenes["soil_moisture"].load()
    assert moisture.notnull().any(("y", "x")).values.sum() == 2
    sigma0 = scenes["sigma0"].mean(("y", "x")).dropna("time", how="all").load()
    assert -16 < float(sigma0.sel(polarization="VV").mean()) < -8
    assert -24 < float(sigma0.sel(polarization="VH").mean()) < -14
    one_km = open_l2_active_passive(
        paths(root, plan.kinds["fine"]),
        catalog_id="smap_s1_l2",
        synthetic=True,
        region=geneva.on(M01),
        resolution="1km",
    )
    assert one_km.sizes["y"] == 300


def test_the_single_channel_moisture_is_the_retrieval_of_the_files_own_numbers(root, plan):
    with h5py.File(root / next(iter(plan.kinds["level2"]))) as file:
        data = {name: values[()] for name, values in file["Soil_Moisture_Retrieval_Data"].items()}
    cos = np.cos(np.radians(40.0))
    for option, polarization in (("option1", "H"), ("option2", "V")):
        good = data[f"retrieval_qual_flag_{option}"] == 0
        assert good.sum() > 30
        again = retrieve_single_channel(
            data[f"tb_{polarization.lower()}_corrected"][good].astype(float),
            polarization=polarization,
            surface_temperature=data["surface_temperature"][good],
            clay_fraction=data["clay_fraction"][good],
            roughness=data["roughness_coefficient"][good],
            albedo=data["albedo"][good],
            optical_depth=data[f"vegetation_opacity_{option}"][good] * cos,
        )
        # floats are rounded in the files
        np.testing.assert_allclose(again, data[f"soil_moisture_{option}"][good], atol=2e-3)
    attempted = (data["retrieval_qual_flag"] & 2) == 0
    np.testing.assert_array_equal(data["soil_moisture"] == FILL, ~attempted)
    assert (data["surface_flag"][data["retrieval_qual_flag"] == 0] == 0).all()
    moment = seconds_to_utc(data["tb_time_seconds"][:1])[0]
    assert abs(np.datetime64(data["tb_time_utc"][0].decode().rstrip("Z")) - moment) < np.timedelta64(1, "s")


def test_a_daily_file_has_the_passes_and_is_fill_elsewhere(root, plan, tucson):
    tucson_passes = passes_over(tucson, date(2016, 3, 1), date(2016, 3, 20))
    name, day = next((n, d) for n, d in plan.kinds["level3"].items() if any(p.time.date() == d for p in tucson_passes))
    window = tucson.window(M36)
    fields, _ = tucson.coarse(tucson_passes, window)
    with h5py.File(root / name) as file:
        for suffix, evening in (("", False), ("_pm", True)):
            group = file[f"Soil_Moisture_Retrieval_Data_{'PM' if evening else 'AM'}"]
            expected = np.full(window.shape, FILL)
            for number, one in enumerate(tucson_passes):
                if one.evening == evening and one.time.date() == day:
                    expected[one.covered] = fields["tb_v_corrected"][number][one.covered]
            tb, row = (group[n + suffix] for n in ("tb_v_corrected", "EASE_row_index"))
            np.testing.assert_allclose(tb[window.rows, window.cols], expected, rtol=2e-4)
            assert (tb[200:] == -9999).all()
            everything = row[()]
            assert set(np.unique(everything)) <= {65534, *range(52, 99)}
            assert (
                everything[window.rows, window.cols][expected != FILL] == np.nonzero(expected != FILL)[0] + 90
            ).all()
            assert (group["landcover_class" + suffix][0, 0] == 254).all()
    empty = level3_granule("x.h5", M36, [])
    assert len(empty) < 80_000


def test_scene_files_hold_the_scenes(root, plan, tucson):
    name, when = next((n, s) for n, s in plan.kinds["fine"].items() if s.region.name == "tucson")
    scene, fine_scene = tucson.scene(when, one_km=True)
    with h5py.File(root / name) as file:
        group = file["Soil_Moisture_Retrieval_Data_3km"]
        stored = group["soil_moisture_3km"][()]
        np.testing.assert_allclose(stored, scene["soil_moisture"], rtol=1e-3)
        assert group["EASE_row_index_3km"][0, 0] == when.window.row_start
        assert group["EASE_column_index_3km"][-1, -1] == when.window.col_stop - 1
        lat, lon = M03.latlon(
            group["EASE_row_index_3km"][()].astype(int), group["EASE_column_index_3km"][()].astype(int)
        )
        np.testing.assert_allclose(group["latitude_3km"][()], lat, atol=1e-5)
        np.testing.assert_allclose(group["longitude_3km"][()], lon, atol=1e-4)
        flag = group["retrieval_qual_flag_3km"][()]
        assert ((stored == FILL) == ((flag == 65534) | (flag & 2 > 0))).all()
        power = group["sigma0_vv_aggregated_3km"][()]
        unseen = power == FILL
        assert 0.02 < unseen.mean() < 0.4
        assert (stored[unseen] == FILL).all()
        gap = group["SMAP_Sentinel-1_overpass_timediff_hr_3km"][()]
        wanted = (when.smap.time - when.sentinel1.time).total_seconds() / 3600
        assert np.abs(gap[~unseen] - wanted).max() < 0.1
        fine = file["Soil_Moisture_Retrieval_Data_1km/soil_moisture_1km"]
        assert fine.shape == tuple(3 * n for n in stored.shape)
        written = when.sentinel1.time.date() <= PLAN.one_km_days[1]
        assert (fine[()] != FILL).any() == written
    fine = np.where(fine_scene["soil_moisture"] == FILL, np.nan, fine_scene["soil_moisture"])
    coarse = retrieved(scene)
    both = np.isfinite(coarse) & np.isfinite(blocks(fine, 3))
    assert np.corrcoef(blocks(fine, 3)[both], coarse[both])[0, 1] > 0.98


def test_truth_files_follow_the_contract(root, plan, tucson):
    with xr.open_dataset(root / "sandbox_truth/smap_truth_tucson.nc", engine="h5netcdf") as file:
        truth = file.load()
    names = (
        "soil_moisture",
        "clay_fraction",
        "sand_fraction",
        "vegetation_water_content",
        "surface_temperature",
        "elevation",
    )
    check_dataset(truth, who="test", require=names, check_values=True)
    assert truth["soil_moisture"].dims == ("time", "y", "x")
    window = region_window(REGIONS["tucson"])
    np.testing.assert_array_equal(truth["row"], np.arange(window.row_start, window.row_stop))
    np.testing.assert_allclose(truth["lat"], window.lat)
    scenes = plan.scenes["tucson"]
    np.testing.assert_array_equal(
        truth["time"].values, [np.datetime64(scene.sentinel1.time.replace(tzinfo=None), "ns") for scene in scenes]
    )
    state = tucson.days.state(scenes[0].local_day, evening=scenes[0].evening)
    both = truth["soil_moisture"][0].values, state.soil_moisture[tucson.world.inner]
    dry = np.isfinite(both[0])
    assert dry.mean() > 0.99
    np.testing.assert_allclose(both[0][dry], both[1][dry], atol=1e-4)


# --- the world ----------------------------------------------------------------------------------------------------------


def test_windows_hold_the_cities_and_whole_coarse_cells():
    for region in REGIONS.values():
        window = region_window(region)
        row, col = M03.rowcol(region.lat, region.lon)
        assert window.shape == (100, 100)
        assert abs(row - window.row_start - 50) <= 6
        assert abs(col - window.col_start - 50) <= 6
        assert window.row_start % 12 == window.col_start % 12 == 0
        assert window.covering(M36).shape == (9, 9)
        assert region_domain(region).on(M36).shape == (11, 11)
        assert sum(share for _, share in region.cover) == pytest.approx(1.0)
        assert {code for code, _ in region.cover} <= set(IGBP)


def test_a_day_does_not_depend_on_the_period_and_1_km_cells_mean_their_3_km_cell(tucson):
    other = simulate("tucson", date(2016, 3, 7), date(2016, 4, 2))
    for day in (date(2016, 3, 12), date(2016, 3, 19)):
        for evening in (False, True):
            one, two = (simulation.days.state(day, evening=evening) for simulation in (tucson, other))
            for name in ("soil_moisture", "soil_temperature", "snow", "ndvi", "roughness_factor", "wetting"):
                np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    coarse = tucson.days.state(day).soil_moisture
    fine = tucson.world.fine_soil_moisture(coarse)
    np.testing.assert_allclose(blocks(fine, 3), coarse, atol=1e-6)
    assert (fine - coarse.repeat(3, 0).repeat(3, 1)).std() > 0.001
    when = scene_times(REGIONS["tucson"], date(2016, 3, 7), date(2016, 3, 20))[0]
    scenes = [one.scene(when, one_km=False)[0]["soil_moisture"] for one in (other, tucson)]
    np.testing.assert_array_equal(*scenes)


@pytest.fixture(scope="module")
def year():
    return {
        name: RegionWorld(region, SEED).simulate(date(2016, 1, 1), date(2016, 10, 31))
        for name, region in REGIONS.items()
    }


def test_regions_differ_as_their_climates_do(year):
    mean, frozen, persistent = {}, {}, {}
    for name, days in year.items():
        moisture = days.soil_moisture[1:-1]
        mean[name] = float(moisture.mean())
        frozen[name] = np.mean([days.state(date(2016, 1, d)).frozen.mean() for d in range(1, 31, 3)])
        inner = moisture[:, days.world.inner[0], days.world.inner[1]]
        assert 0.025 < inner.std(axis=(1, 2)).mean() < 0.06
        within = moisture - blocks(moisture, 12).repeat(12, 1).repeat(12, 2)
        assert 0.02 < within.std() < 0.045
        persistent[name] = within.mean(axis=0).var() / within.var()
        assert (moisture <= days.world.porosity).all()
        assert moisture.min() > 0.005
    assert mean["tucson"] + 0.05 < mean["oklahoma_city"] < mean["geneva"]
    assert frozen["tucson"] < frozen["oklahoma_city"] + 0.05 < frozen["geneva"]
    assert not year["tucson"].state(date(2016, 7, 10)).frozen.any()
    # some of the fine structure stays and some changes
    assert all(0.1 < share < 0.9 for share in persistent.values())
    dry, monsoon = (year["tucson"].soil_moisture[slice(*days)].mean() for days in ((125, 165), (190, 240)))
    assert monsoon > dry + 0.02


def test_terrain_cover_and_water(year):
    geneva, oklahoma = (year[name].world for name in ("geneva", "oklahoma_city"))
    assert geneva.elevation.max() > 2000 > 600 > oklahoma.elevation.max()
    assert (geneva.slope_deviation > 3).mean() > 0.02
    row, col = M03.rowcol(46.44, 6.55)  # Lake Geneva
    assert geneva.water_fraction[row - geneva.domain.row_start, col - geneva.domain.col_start] == 1.0
    assert geneva.land_cover[row - geneva.domain.row_start, col - geneva.domain.col_start] == 0
    assert (geneva.land_cover[geneva.elevation > 2460] == 16).all()
    for days in year.values():
        world = days.world
        np.testing.assert_allclose(blocks(world.lake, 3), world.water_fraction)
        assert ((world.clay_fraction + world.sand_fraction) < 1).all()
        row, col = (int(i) for i in M03.rowcol(world.region.lat, world.region.lon))
        city = world.land_cover[row - world.domain.row_start, col - world.domain.col_start]
        assert city in (13, 0)
        summer, winter = (days.state(date(2016, month, 15)) for month in (7, 1))
        assert summer.soil_temperature.mean() > winter.soil_temperature.mean() + 12
        assert summer.ndvi.mean() > winter.ndvi.mean()


def test_coarse_and_fine_products_err_as_real_ones_do():
    simulation = simulate("oklahoma_city", date(2016, 4, 1), date(2016, 6, 30))
    world, passes = simulation.world, passes_over(simulation, date(2016, 4, 1), date(2016, 6, 30))
    passes = [p for p in passes if not p.evening]
    fields, _ = simulation.coarse(passes, simulation.window(M36))
    lon = REGIONS["oklahoma_city"].lon
    truth = np.stack([blocks(simulation.days.state(p.local_day(lon)).soil_moisture, 12)[1:-1, 1:-1] for p in passes])
    single, dual = (fields[f"soil_moisture_option{i}"] - truth for i in (2, 3))
    good = (fields["retrieval_qual_flag_option2"] == 0) & (fields["retrieval_qual_flag"] == 0)
    assert 0.015 < np.sqrt((single[good] ** 2).mean()) < 0.045
    # polarisations are mixed by more than the dual channel assumes, which it takes for vegetation over wet soil
    assert 0.01 < (dual - single)[good].mean() < 0.06
    assert 0.02 < dual[good].std() < 0.055
    assert np.isnan(retrieved(fields)[~np.stack([p.covered for p in passes])]).all()
    errors, correlations = [], []
    for when in scene_times(REGIONS["oklahoma_city"], date(2016, 4, 1), date(2016, 6, 30))[:5]:
        scene, _ = simulation.scene(when, one_km=False)
        row, col = when.window.row_start - world.domain.row_start, when.window.col_start - world.domain.col_start
        state = simulation.days.state(when.local_day, evening=when.evening)
        truth = state.soil_moisture[row : row + when.window.shape[0], col : col + when.window.shape[1]]
        good = scene["retrieval_qual_flag"] == 0
        errors.append((retrieved(scene) - truth)[good].std())
        correlations.append(np.corrcoef(retrieved(scene)[good], truth[good])[0, 1])
    assert 0.02 < np.mean(errors) < 0.075  # fields that were tilled or cut are taken for wet or dry ones
    assert 0.4 < np.mean(correlations) < 0.95


def test_what_cannot_be_is_refused(tucson):
    with pytest.raises(ParameterError, match="seed"):
        RegionWorld(REGIONS["geneva"], -1)
    with pytest.raises(ParameterError, match="cannot be simulated"):
        RegionWorld(REGIONS["geneva"], 1).simulate(date(2014, 1, 1), date(2014, 2, 1))
    with pytest.raises(ParameterError, match="was not simulated"):
        tucson.days.state(date(2016, 5, 1))


# --- its parts --------------------------------------------------------------------------------------------------------


def test_flags_are_set_beyond_the_lower_threshold_and_nothing_is_retrieved_beyond_the_upper():
    flag, attempted = surface_flags(
        {"water": np.array([0.04, 0.06, 0.6]), "mountainous": np.array([0.0, 4.0, 4.0]), "vegetation": np.float32(6.0)}
    )
    assert flag.tolist() == [1024, 3 + 512 + 1024, 3 + 512 + 1024]
    assert attempted.tolist() == [True, True, False]
    # of the real granule: 0 recommended, 1 uncertain, 5 retrieved without success, 7 not attempted
    quality = quality_flags(np.array([0, 1, 0, 1]), np.array([True, True, True, False]), np.array([0, 0, 2, 0]))
    assert quality.tolist() == [0, 1, 5, 7]


def test_backscatter_has_the_models_values():
    moisture = np.array([0.05, 0.2, 0.4])
    vv, vh = (10 * np.log10(s) for s in soil_backscatter(moisture, np.float64(1.0), np.float64(38.0)))
    np.testing.assert_allclose(vv, [-12.21, -10.68, -8.63], atol=0.006)
    np.testing.assert_allclose(vh, [-22.39, -20.28, -17.46], atol=0.006)
    soil = soil_backscatter(moisture, np.float64(1.0), np.float64(38.0))
    np.testing.assert_allclose(
        10 * np.log10(water_cloud(soil[0], 0.5, 38.0, "VV")), [-13.13, -12.12, -10.61], atol=0.006
    )
    np.testing.assert_allclose(
        10 * np.log10(water_cloud(soil[1], 0.8, 38.0, "VH")), [-16.17, -16.11, -15.97], atol=0.006
    )
    assert all(s.dtype == np.float32 for s in backscatter(moisture, np.float64(1.0), np.float64(0.5), np.float64(38.0)))


def test_disaggregation_sharpens_and_keeps_the_mean():
    rng = np.random.default_rng(0)
    vegetation, soil = rng.uniform(0.01, 0.03, (60, 60)), rng.uniform(0.03, 0.06, (60, 60))
    vv, vh = (soil + 1.5 * vegetation).astype("f4"), vegetation.astype("f4")
    gamma = cross_polarized_slope(vv, vh, 8.0)
    assert np.median(gamma) == pytest.approx(1.5, abs=0.1)
    coarse = [np.full_like(s, s.mean()) for s in (vv, vh)]
    tb = disaggregate_tb(np.float32(250.0), np.float32(290.0), vv, vh, *coarse, np.float32(-3.0), np.float32(1.5))
    assert tb.mean() == pytest.approx(250.0, abs=0.01)
    assert np.corrcoef(tb.ravel(), soil.ravel())[0, 1] < -0.999  # vegetation is taken out
    # the same contrast explains more of a colder scene, and nothing where all loss is explained already
    beta = covariation(np.array([250.0, 230.0, 289.9]), 290.0, 0.1, 0.05, 0.04)
    assert beta[1] < beta[0] < 0.0
    assert beta[2] == 0.0
    holed = np.where(rng.random((60, 60)) < 0.3, np.nan, 7.0)
    np.testing.assert_allclose(masked_blur(holed, 3.0), 7.0, rtol=1e-5)


def test_planar_fields_have_unit_variance_the_stated_correlation_and_drift():
    east = north = np.arange(0.0, 240.0, 6.0)
    field = PlanarField(20.0, east, north)
    samples = np.array([field.sample(np.random.default_rng(i)) for i in range(120)])
    assert samples.std() == pytest.approx(1.0, abs=0.04)
    expected = np.exp(-(30.0**2) / (4 * 20.0**2))
    for lag in (samples[:, 5:] * samples[:, :-5], samples[..., 5:] * samples[..., :-5]):
        assert lag.mean() == pytest.approx(expected, abs=0.05)
    finer = PlanarField(20.0, np.arange(0.0, 240.0, 2.0), north)
    wave = field.coefficients(np.random.default_rng(3))
    np.testing.assert_allclose(finer.field(wave)[:, ::3], field.field(wave), atol=2e-3)
    series = DriftingField(field, 0.999, (18.0, 6.0))
    one, two = (series.advance(np.random.default_rng(i)) for i in (0, 1))
    assert np.corrcoef(two[1:, 3:].ravel(), one[:-1, :-3].ravel())[0, 1] > 0.97
    assert {f.name for f in PASSIVE if l3_name(f.name) != f.name} == {
        f"{n}_option{i}" for n in ("soil_moisture", "retrieval_qual_flag", "vegetation_opacity") for i in (1, 2)
    }
