"""Files are read back with plain gzip, NumPy and netCDF4; the world is made at 1 degree so that this stays quick."""

from __future__ import annotations

import errno
import gzip
import json
import time
from dataclasses import replace
from datetime import date, datetime, timedelta

import netCDF4
import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_limits

from smnb.contract import FormatError, ParameterError, RunError, check_dataset
from smnb.grids.koppen import KOPPEN_NAMES, koppen_class, land_fraction
from smnb_sandbox import MARKER, PRESETS, World, archive, read_manifest, regions, write_sandbox
from smnb_sandbox.archive import UNFINISHED, Preset
from smnb_sandbox.ease_plans import SmapPlan
from smnb_sandbox.globe import Amsre, _Footprint, encode_image
from smnb_sandbox.noise import CorrelatedField, DriftingField
from smnb_sandbox.world import CLIMATE, DayState

SEED = 7
TINY = Preset(date(2011, 7, 2), date(2011, 7, 3), resolution=1.0, spin_up_days=4)
LAT = np.arange(-89.875, 90, 0.25)
LON = np.arange(-179.875, 180, 0.25)


@pytest.fixture(scope="module", autouse=True)
def _tiny_presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", TINY)
        patch.setitem(PRESETS, "tiniest", replace(TINY, first=TINY.last, resolution=2.0))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory, _tiny_presets):
    root = tmp_path_factory.mktemp("sandbox") / "archive"
    write_sandbox(root, "tiny", seed=SEED)
    return root


@pytest.fixture(scope="module")
def world():
    return World(SEED, 1.0)


@pytest.fixture(scope="module")
def radiometer(world):
    return Amsre(world)


def image(root, day, orbit_pass, channel):
    path = root / f"amsre_nsidc0302/2011/ID2r1-AMSRE-D.25{day:%Y%j}{orbit_pass}.v03.{channel}.gz"
    return np.frombuffer(gzip.decompress(path.read_bytes()), "<u2").reshape(720, 1440)


def digests(root):
    return {entry["path"]: entry["sha256"] for entry in read_manifest(root)["files"]}


def test_names_sizes_and_manifest(root):
    manifest = json.loads((root / MARKER).read_text())
    assert (manifest["preset"], manifest["seed"], manifest["synthetic"]) == ("tiny", SEED, True)
    names = [e["path"] for e in manifest["files"]]
    on_disk = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert on_disk == {*names, MARKER}
    assert "amsre_nsidc0302/2011/ID2r1-AMSRE-D.252011183A.v03.06H.gz" in names
    assert names[-2:] == ["era_interim/ei_swvl1_20110702_20110703.nc", "sandbox_truth/truth_20110702_20110703.nc"]
    assert len(names) == 2 * 2 * 4 + 2
    for name in names[:-2]:
        assert len(gzip.decompress((root / name).read_bytes())) == 2_073_600


def test_quick_and_full_are_the_end_and_the_whole_of_july():
    assert [d.day for d in PRESETS["quick"].days] == [26, 27, 28, 29, 30, 31]
    assert [d.day for d in PRESETS["full"].days] == list(range(1, 32))
    assert PRESETS["quick"].resolution == PRESETS["full"].resolution == 0.25


def test_images_are_tenths_of_kelvin_north_first_from_the_date_line(root):
    stored = image(root, TINY.last, "A", "06V").astype(float) / 10
    assert stored[stored > 0].min() > 130
    assert stored.max() < 400
    tb = np.where(stored > 0, stored, np.nan)[::-1]
    # the map fits the coasts one way only: flips and a shift by half the globe fit worse
    sea = land_fraction(LAT, LON)[200:600] == 0

    def contrast(array):
        return np.nanmean(np.where(sea, np.nan, array[200:600])) - np.nanmean(np.where(sea, array[200:600], np.nan))

    right = contrast(tb)
    assert right > 70
    assert all(contrast(a) < 0.6 * right for a in (tb[::-1], tb[:, ::-1], np.roll(tb, 720, axis=1)))


def test_polarisation_and_frequency_order(root):
    tb = {c: image(root, TINY.last, "D", c) / 10 for c in ("06H", "06V", "10H", "10V")}
    seen = tb["06H"] > 0
    for array in tb.values():
        np.testing.assert_array_equal(array > 0, seen)  # one swath for the four channels
    sea = (land_fraction(LAT, LON)[::-1] == 0) & seen
    sea[:160] = sea[560:] = False
    assert 80 < np.median(tb["06H"][sea]) < 110
    assert 150 < np.median(tb["06V"][sea]) < 180
    assert np.median(tb["10V"][sea]) > np.median(tb["06V"][sea])
    assert (tb["06V"] > tb["06H"])[seen].mean() > 0.97


def test_gaps_narrow_towards_the_poles_and_two_passes_leave_fewer(root):
    both = [image(root, TINY.first, p, "06H")[::-1] > 0 for p in "AD"]
    equator = slice(350, 370)
    assert 0.4 < both[0][equator].mean() < 0.6
    assert 0.65 < (both[0] | both[1])[equator].mean() < 0.92
    yesterday = image(root, TINY.last, "A", "06H")[::-1] > 0
    assert (yesterday != both[0])[equator].mean() > 0.3  # the pattern shifts from day to day
    high = slice(600, 690)  # 60-82 N
    assert (both[0] | both[1])[high].mean() > 0.99
    assert not (both[0] | both[1])[-6:].any()  # the polar hole


def test_swath_geometry(monkeypatch):
    monkeypatch.setattr(regions, "LOST_HALF_ORBITS", 0.0)
    swaths = regions.Swaths(LAT, LON, 0)
    # the width at the equator: the swath over the sine of the angle between track and parallel
    width = swaths._template["A"][359:361].sum(axis=1).mean() * 0.25
    assert width == pytest.approx(1445 / 111.19 / np.sin(np.radians(98.2)), rel=0.02)
    day = date(2011, 7, 3)
    for orbit_pass in "AD":
        crossings = swaths.equator_longitudes(day, orbit_pass)
        assert len(crossings) in (14, 15)
        steps = np.diff([longitude for _, longitude in crossings])
        np.testing.assert_allclose(steps, -360 * 16 / 233)
        later = swaths.covered(day + timedelta(days=16), orbit_pass)
        np.testing.assert_array_equal(swaths.covered(day, orbit_pass), later)
        covered = swaths.covered(day, orbit_pass).mean(axis=1)
        assert covered[np.abs(LAT - 50) < 1].mean() > covered[np.abs(LAT - 20) < 1].mean() > 0.5
    ever = np.any([swaths.covered(day + timedelta(days=i), "A") for i in range(2)], axis=0)
    assert ever[np.abs(LAT) < 80].mean() > 0.8
    # an ascending track runs to the north-west
    columns = [np.flatnonzero(swaths._template["A"][np.abs(LAT - lat).argmin()]).mean() for lat in (-20, 0, 20)]
    assert columns[0] > columns[1] > columns[2]


def test_a_lost_half_orbit_leaves_a_wider_gap(monkeypatch):
    day = date(2011, 7, 3)
    coverage = {}
    for share in (0.0, 0.3, 1.0):
        monkeypatch.setattr(regions, "LOST_HALF_ORBITS", share)
        coverage[share] = regions.Swaths(LAT[::4], LON[::4], 3).covered(day, "A").mean()
    assert coverage[0.0] > coverage[0.3] > coverage[1.0] == 0.0


def test_footprint_has_its_size_in_km_at_every_latitude():
    small = World(SEED, 1.0)
    small.resolution, small.shape, small.lat, small.lon = 0.25, (720, 1440), LAT, LON
    footprint = _Footprint(small, 75.0, 43.0)
    for lat in (0.125, 60.125):
        point = np.zeros((720, 1440), np.float32)
        row = np.abs(LAT - lat).argmin()
        point[row, 0] = 1.0  # on the date line: the pattern wraps
        blurred = np.roll(footprint.blur(point), 720, axis=1)
        assert blurred.sum() == pytest.approx(1.0, abs=1e-3)
        assert blurred.min() > -1e-4
        north_south = np.sqrt((blurred.sum(axis=1) * (LAT - LAT[row]) ** 2).sum()) * 111.19
        east_west = np.sqrt((blurred.sum(axis=0) * (LON - 0.125) ** 2).sum()) * 111.19 * np.cos(np.radians(LAT[row]))
        assert north_south * 2.3548 == pytest.approx(75, rel=0.05)
        assert east_west * 2.3548 == pytest.approx(43, rel=0.05)


def test_brightness_falls_with_soil_moisture_and_less_under_forest(world, radiometer):
    def state(moisture):
        vector = np.full(world.soil_cells.size, moisture, np.float32)
        return DayState(TINY.first, vector, vector, 0 * vector, 0 * vector)

    dry, wet = (radiometer.soil_tb(state(m), "6.9", "D") for m in (0.1, 0.25))
    open_land = world.vegetation_water_content < 0.3
    forest = world.vegetation_water_content > 5.0
    for polarisation in (0, 1):
        drop = dry[polarisation] - wet[polarisation]
        assert (drop[open_land] > 3).all()
        assert drop[forest].mean() < 0.25 * drop[open_land].mean()


def test_interference_is_at_6_9_ghz_only_and_comes_and_goes(world, radiometer):
    rows, columns = radiometer._sources[:, 0].astype(int), radiometer._sources[:, 1].astype(int)
    assert (world.land_fraction[rows, columns] > 0.5).all()
    first, second = (radiometer._interference(np.random.default_rng(i))["H"] for i in (0, 1))
    assert first.min() == 0
    assert first.max() > 30
    assert np.any((first > 0) != (second > 0))


def test_era_file_packed_and_unpacked(root):
    path = root / "era_interim/ei_swvl1_20110702_20110703.nc"
    with netCDF4.Dataset(path) as file:
        assert file.data_model == "NETCDF3_64BIT_OFFSET"
        swvl1 = file["swvl1"]
        assert swvl1.dimensions == ("time", "latitude", "longitude")
        assert swvl1.shape == (8, 241, 480)
        assert (swvl1.units, swvl1.long_name) == ("m**3 m**-3", "Volumetric soil water layer 1")
        assert (swvl1._FillValue, swvl1.missing_value) == (-32767, -32767)
        assert file["latitude"][:].tolist() == (90 - 0.75 * np.arange(241)).tolist()
        assert file["longitude"][:].tolist() == (0.75 * np.arange(480)).tolist()
        assert file["time"].units.startswith("hours since 1900-01-01")
        hours = (datetime(2011, 7, 2) - datetime(1900, 1, 1)).total_seconds() / 3600
        assert file["time"][:].tolist() == [hours + 6 * i for i in range(8)]
        unpacked = swvl1[:]
        swvl1.set_auto_maskandscale(False)
        packed = swvl1[:]
        assert packed.dtype == np.int16
        assert packed.min() > -32767  # sea holds zeros, not fill
        np.testing.assert_allclose(unpacked, packed * swvl1.scale_factor + swvl1.add_offset, atol=1e-7)
        sea = unpacked[:, 120, 440]  # the equator at 30 W
        assert np.abs(sea).max() < 1e-5
    assert 0.35 < unpacked.max() < 0.62
    with xr.open_dataset(path) as dataset:
        assert dataset["time"].values[1] == np.datetime64("2011-07-02T06")


def test_era_differs_from_truth_but_correlates(root):
    with xr.open_dataset(root / "sandbox_truth/truth_20110702_20110703.nc") as truth:
        day = truth["soil_moisture"].isel(time=1).load()
    with xr.open_dataset(root / "era_interim/ei_swvl1_20110702_20110703.nc") as file:
        era = file["swvl1"].isel(time=slice(4, 8)).mean("time").load()
    era = era.interp(latitude=day.lat, longitude=day.lon % 360).values
    both = np.isfinite(day.values) & (era > 0.002)
    difference = era[both] - day.values[both]
    assert 0.8 < np.corrcoef(era[both], day.values[both])[0, 1] < 0.97
    assert 0.02 < difference.std() < 0.06


def test_truth_file_follows_the_contract(root):
    with xr.open_dataset(root / "sandbox_truth/truth_20110702_20110703.nc") as file:
        truth = file.load()
    variables = ("soil_moisture", "surface_temperature", "clay_fraction", "sand_fraction", "vegetation_water_content")
    check_dataset(truth, who="test", require=variables, check_values=True)
    assert truth.attrs["synthetic"] == 1
    assert truth["time"].values[0] == np.datetime64("2011-07-02")
    moisture = truth["soil_moisture"]
    assert 0.005 < float(moisture.min()) < float(moisture.max()) < 0.56
    assert float(moisture.sel(lat=slice(20, 28), lon=slice(0, 25)).mean()) < 0.08  # the Sahara
    assert float(moisture.sel(lat=slice(-6, 3), lon=slice(-70, -58)).mean()) > 0.2  # the Amazon
    assert bool(moisture.sel(lat=slice(-50, 50), lon=slice(-170, -130)).sel(lat=slice(30, 50)).isnull().all())
    assert float(abs(moisture.diff("time")).max()) > 0.02
    assert float((truth["clay_fraction"] + truth["sand_fraction"]).max()) < 1.0


def test_same_seed_same_bytes_other_seed_other_world(root, tmp_path):
    write_sandbox(tmp_path / "again", "tiny", seed=SEED)
    assert digests(tmp_path / "again") == digests(root)
    write_sandbox(tmp_path / "other", "tiny", seed=SEED + 1)
    other = digests(tmp_path / "other")
    assert all(other[name] != digest for name, digest in digests(root).items())


def test_the_bytes_do_not_depend_on_threads_or_the_time_of_writing(tmp_path, monkeypatch):
    """With two threads the sums of SMAP's regions round otherwise, and HDF5 files hold the second in which they are made."""
    day, end = date(2016, 3, 3), date(2016, 3, 14)
    plan = SmapPlan(day, end, level2_days=(day, day), enhanced_days=(day, day), one_km_days=(day, day), max_scenes=1)
    monkeypatch.setitem(PRESETS, "smap", replace(TINY, first=TINY.last, resolution=3.0, spin_up_days=1, smap=plan))
    for threads in (1, 2):
        with threadpool_limits(threads):
            write_sandbox(tmp_path / str(threads), "smap", seed=SEED)
        time.sleep(1)
    assert any(name.endswith(".h5") for name in digests(tmp_path / "1"))
    assert digests(tmp_path / "2") == digests(tmp_path / "1")


def test_a_day_is_the_same_in_a_shorter_preset(root, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "last", replace(TINY, first=TINY.last))
    write_sandbox(tmp_path / "last", "last", seed=SEED)
    mine, whole = digests(tmp_path / "last"), digests(root)
    images = [n for n in mine if n.startswith("amsre")]
    assert len(images) == 8
    assert all(mine[n] == whole[n] for n in images)
    short, long = (
        netCDF4.Dataset(p / f"era_interim/ei_swvl1_{span}_20110703.nc")
        for p, span in ((tmp_path / "last", "20110703"), (root, "20110702"))
    )
    with short, long:
        np.testing.assert_array_equal(short["swvl1"][:], long["swvl1"][4:])


class Killed(BaseException):
    pass


def test_a_killed_write_goes_on_and_ends_the_same(tmp_path):
    def kill(done, total, name):
        if done == 3:
            raise Killed

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_sandbox(whole, "tiniest", seed=SEED)
    with pytest.raises(Killed):
        write_sandbox(broken, "tiniest", seed=SEED, progress=kill)
    assert not (broken / MARKER).exists()
    kept = {p: p.stat().st_mtime_ns for p in broken.rglob("*.gz")}
    assert 3 <= len(kept) < 10
    stale = next(iter(kept)).parent / ".x.gz.partial-abc.gz"
    stale.write_bytes(b"half")
    seen = []
    write_sandbox(broken, "tiniest", seed=SEED, progress=lambda *event: seen.append(event))
    assert digests(broken) == digests(whole)
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    assert [(d, t) for d, t, _ in seen] == [(i + 1, 10 - len(kept)) for i in range(10 - len(kept))]
    assert not stale.exists()
    assert not (broken / UNFINISHED).exists()


def test_an_archive_that_is_up_to_date_is_left_alone_and_a_damaged_file_replaced(tmp_path):
    manifest = write_sandbox(tmp_path, "tiniest", seed=SEED)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert write_sandbox(tmp_path, "tiniest", seed=SEED) == manifest
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    damaged, gone = (tmp_path / manifest["files"][i]["path"] for i in (2, 5))
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1  # the size stays
    damaged.write_bytes(content)
    gone.unlink()
    assert write_sandbox(tmp_path, "tiniest", seed=SEED) == manifest
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert {p for p in before if after[p] != before[p]} == {damaged, gone, tmp_path / MARKER}


def test_another_seed_or_preset_replaces_only_what_the_sandbox_wrote(tmp_path, root):
    write_sandbox(tmp_path, "tiniest", seed=SEED + 1)
    mine = tmp_path / "amsre_nsidc0302" / "notes.txt"
    mine.write_text("a person's own file")
    write_sandbox(tmp_path, "tiny", seed=SEED)
    assert digests(tmp_path) == digests(root)
    assert mine.read_text() == "a person's own file"
    assert [p.name for p in (tmp_path / "era_interim").iterdir()] == ["ei_swvl1_20110702_20110703.nc"]


def test_a_full_disk_is_one_clear_error_and_leaves_a_start(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(archive, "write_bytes", full)
        with pytest.raises(RunError, match=r"No space left on device.*goes on where it stopped"):
            write_sandbox(tmp_path / "new", "tiniest", seed=SEED)
    assert [p.name for p in (tmp_path / "new").rglob("*") if p.is_file()] == [UNFINISHED]
    assert len(write_sandbox(tmp_path / "new", "tiniest", seed=SEED)["files"]) == 10


def test_refuses_a_folder_with_other_things(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ParameterError, match="not empty and is not a sandbox"):
        write_sandbox(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ParameterError, match="not a folder"):
        write_sandbox(tmp_path / "thesis.txt")


@pytest.mark.parametrize("content", ["not json", "{}", '{"files": 3}', "[]"])
def test_refuses_a_damaged_marker(tmp_path, content):
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(FormatError, match="not a sandbox manifest"):
        write_sandbox(tmp_path)


def test_a_manifest_cannot_make_it_delete_outside_the_root(tmp_path):
    outside = tmp_path / "precious.txt"
    outside.write_text("x")
    inner = tmp_path / "root"
    inner.mkdir()
    files = [{"path": "../precious.txt", "size": 1, "sha256": ""}]
    manifest = {"preset": "quick", "seed": 1, "generator_version": "0", "files": files}
    (inner / MARKER).write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match="outside the root"):
        write_sandbox(inner)
    assert outside.read_text() == "x"


@pytest.mark.parametrize("seed", [-1, 1.5, "7", True, None])
def test_bad_seed(tmp_path, seed):
    with pytest.raises(ParameterError, match="seed"):
        write_sandbox(tmp_path, seed=seed)


def test_unknown_preset_lists_the_known(tmp_path):
    with pytest.raises(ParameterError, match=r"unknown .preset.; got 'papre'.*full.*quick"):
        write_sandbox(tmp_path / "x", "papre")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("resolution", [0.7, -1.0, 0.0, 90.0])
def test_bad_resolution(resolution):
    with pytest.raises(ParameterError, match="resolution"):
        World(1, resolution)


def test_an_image_that_does_not_fit_the_grid():
    with pytest.raises(FormatError, match="does not fit"):
        encode_image(np.zeros((700, 1440)))
    content = np.frombuffer(gzip.decompress(encode_image(np.full((180, 360), np.nan))), "<u2")
    assert content.size == 720 * 1440
    assert not content.any()


def test_climate_table_covers_every_class_on_land(world):
    assert set(CLIMATE) == set(KOPPEN_NAMES[1:-1])
    assert koppen_class(-80.0, 0.0) == "EF"
    assert not np.isin(np.flatnonzero(world.ice_sheet), world.soil_cells).any()


def test_soil_moisture_remembers_and_rain_wets(world):
    states = list(world.days(date(2011, 7, 1), date(2011, 7, 8), spin_up_days=3))
    first, last = states[0], states[-1]
    np.testing.assert_array_equal(states[1].soil_moisture_start, first.soil_moisture_end)
    assert np.corrcoef(first.soil_moisture, last.soil_moisture)[0, 1] > 0.9
    change = first.soil_moisture_end - first.soil_moisture_start
    assert change[first.rain > 8].mean() > 0.01 > 0.0 > change[first.rain == 0].mean()
    assert (first.soil_moisture_end <= world.porosity).all()
    assert world.surface_temperature(first, 13.5).mean() > world.surface_temperature(first, 1.5).mean() + 5
    assert first.rain.dtype == first.soil_moisture.dtype == first.temperature_anomaly.dtype == np.float32


def test_correlated_fields_have_unit_variance_and_the_stated_correlation():
    lat = (np.arange(180) + 0.5) - 90.0
    field = CorrelatedField(lat, 360, 300.0)
    samples = np.array([field.sample(np.random.default_rng(i)) for i in range(60)])
    assert samples.std() == pytest.approx(1.0, abs=0.03)
    expected = np.exp(-(333.6**2) / (4 * 300.0**2))
    middle = samples[:, 60:120]
    north_south = (middle[:, :-3] * middle[:, 3:]).mean()
    equator = (samples[:, 87:93] * np.roll(samples[:, 87:93], 3, axis=2)).mean()  # wraps at the date line
    sixty = (samples[:, 149:152] * np.roll(samples[:, 149:152], 6, axis=2)).mean()  # 6 degrees at 60.5 N
    for found in (north_south, equator, sixty):
        assert found == pytest.approx(expected, abs=0.06)


def test_drifting_fields_move_east_by_their_drift():
    lat = np.arange(-88.5, 90, 3)
    storms = DriftingField(CorrelatedField(lat, 120, 800.0), 0.999, np.full(lat.size, 9.0))
    one, two = (storms.advance(np.random.default_rng(i)) for i in (0, 1))
    shifts = [np.corrcoef(np.roll(one[20:40], s, axis=1).ravel(), two[20:40].ravel())[0, 1] for s in range(8)]
    assert int(np.argmax(shifts)) == 3
    assert max(shifts) > 0.98
