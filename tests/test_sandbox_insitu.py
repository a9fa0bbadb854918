"""The in-situ archive is read back by the package `ismn`, by plain text parsing and by smnb's own loaders."""

from __future__ import annotations

import csv
import io
import logging
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import netCDF4
import numpy as np
import pandas as pd
import pytest
from ismn.interface import ISMN_Interface
from pyproj import Transformer

from smnb.files import sha256_of, write_bytes
from smnb.grids import great_circle_km
from smnb.grids.koppen import koppen_class
from smnb.loaders.ecmwf import open_swvl1_points
from smnb.loaders.insitu import open_insitu
from smnb.loaders.points import open_gldas_points, open_smap_l3_points
from smnb_sandbox import PRESETS, World, read_manifest, write_sandbox
from smnb_sandbox.archive import Preset
from smnb_sandbox.insitu_archive import insitu_contents, insitu_names
from smnb_sandbox.insitu_files import _HOURLY
from smnb_sandbox.insitu_readings import FLAGS, INSTRUMENTS, flag_names
from smnb_sandbox.insitu_sites import LAND_COVER, NETWORKS, place_sensors, place_stations
from smnb_sandbox.insitu_truth import _IRRIGATED, START, CellDays, simulate_points
from smnb_sandbox.world import FIRST_DAY, LAST_DAY, SPIN_UP_DAYS

SEED = 2011
PERIOD = (date(2011, 5, 1), date(2011, 9, 30))
POINTS = Preset(LAST_DAY, LAST_DAY, resolution=2.0, insitu=PERIOD)
HOURS = 153 * 24


@pytest.fixture(scope="module", autouse=True)
def _presets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "points", POINTS)
        yield


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def written(tmp_path_factory, _presets):
    """An archive whose writing was killed near its end and went on; what stood after the kill, and what came then."""

    def kill(done, total, name):
        if name.endswith("gldas_points.nc"):
            raise Killed

    root = tmp_path_factory.mktemp("sandbox") / "archive"
    with pytest.raises(Killed):
        write_sandbox(root, "points", seed=SEED, progress=kill)
    kept = {p: p.stat().st_mtime_ns for p in root.rglob("*.zip")}
    events = []
    write_sandbox(root, "points", seed=SEED, progress=lambda *event: events.append(event))
    return root, kept, events


@pytest.fixture(scope="module")
def root(written):
    return written[0]


@pytest.fixture(scope="module")
def world():
    return World(SEED, 2.0)


@pytest.fixture(scope="module")
def stations(world):
    return place_stations(world)


@pytest.fixture(scope="module")
def sensors(stations):
    return place_sensors(stations)


@pytest.fixture(scope="module")
def observed(world):
    begin = FIRST_DAY - timedelta(days=SPIN_UP_DAYS)
    days = CellDays(world, begin)
    for state in world.days(begin, LAST_DAY):
        days.observe(state)
    return days


@pytest.fixture(scope="module")
def truth(observed):
    return simulate_points(observed)


@pytest.fixture(scope="module")
def archives(root, tmp_path_factory):
    """Both zips as the package `ismn` sees them."""
    logging.disable(logging.INFO)
    found = {}
    for path in sorted((root / "ismn").glob("*.zip")):
        form = "header_values" if "_header_" in path.name else "ceop_sep"
        meta = tmp_path_factory.mktemp(form)
        found[form] = ISMN_Interface(str(path), meta_path=str(meta), temp_root=str(meta), parallel=False)
    logging.disable(logging.NOTSET)
    return found


def stm_files(root, form):
    path = next(p for p in (root / "ismn").glob("*.zip") if ("_header_" in p.name) == (form == "header_values"))
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n).decode() for n in archive.namelist() if n.endswith(".stm")}


def long_table(root):
    """Every line of every soil moisture file: parsed by splitting at blanks."""
    rows = []
    for form in ("header_values", "ceop_sep"):
        for name, text in stm_files(root, form).items():
            if "_sm_" not in name:
                continue
            lines = text.splitlines()[1:] if form == "header_values" else text.splitlines()
            rows += [(name, *line.split()[:2], *line.split()[-3:]) for line in lines]
    table = pd.DataFrame(rows, columns=["file", "day", "hour", "value", "flag", "provider"])
    table["time"] = pd.to_datetime(table["day"] + " " + table["hour"], format="%Y/%m/%d %H:%M")
    table["value"] = table["value"].astype(float)
    return table


@pytest.fixture(scope="module")
def lines(root):
    return long_table(root)


@pytest.fixture(scope="module")
def true_values(root):
    return pd.read_parquet(root / "sandbox_truth/insitu_truth.parquet")


@pytest.fixture(scope="module")
def sensor_table(root):
    return pd.read_parquet(root / "sandbox_truth/insitu_sensors.parquet")


def test_seven_networks_sixty_surface_sensors_in_three_formats(sensors):
    surface = [s for s in sensors if s.is_surface]
    assert len(surface) == 60
    assert len(NETWORKS) == 7
    assert Counter(n.file_format for n in NETWORKS) == {"header_values": 4, "ceop_sep": 2, "uscrn": 1}
    assert {(s.depth_from, s.depth_to) for s in surface} == {(0.05, 0.05), (0.0508, 0.0508), (0.0, 0.05)}
    assert sum(not s.is_surface for s in sensors if s.station.network.file_format != "uscrn") == 7
    assert len({s.instrument for s in sensors}) >= 7
    assert {n.instrument for n in NETWORKS} == set(INSTRUMENTS)
    keys = [s.key for s in sensors]
    assert len(set(keys)) == len(keys)
    names = "".join(n.name + "".join(n.stations) for n in NETWORKS)
    assert all(character in names for character in "_-# ")


def test_stations_stand_in_the_climate_they_ask_for(stations):
    asked = [s.network.classes[s.number % len(s.network.classes)] for s in stations]
    drawn = [i for i, s in enumerate(stations) if s.number not in s.network.near]
    right = [stations[i].climate == asked[i] for i in drawn]
    assert np.mean(right) > 0.9
    for station in stations:
        assert koppen_class(station.lat, station.lon) == station.climate
        assert station.land_cover in LAND_COVER
        assert station.clay_fraction + station.sand_fraction < 1.0
    assert {s.climate[:2] for s in stations} >= {"BS", "BW", "Cf", "Cs", "Df", "Ds", "Dw", "ET", "Af", "Am", "Aw"}
    bare = [s for s in stations if s.land_cover == 200]
    assert {s.climate[:2] for s in bare} <= {"BW"}


def test_some_stations_share_a_footprint_or_a_coarse_cell(stations):
    lat, lon = np.array([[s.lat, s.lon] for s in stations]).T
    distance = great_circle_km(lat[:, None], lon[:, None], lat, lon)
    np.fill_diagonal(distance, np.inf)
    assert 1.0 < distance.min() < 1.3
    assert (distance < 13).sum() == 6  # three pairs


def test_places_do_not_depend_on_the_resolution(stations):
    finer = place_stations(World(SEED, 3.0))
    assert [(s.lat, s.lon, s.climate) for s in finer] == [(s.lat, s.lon, s.climate) for s in stations]
    other = place_stations(World(SEED + 1, 3.0))
    assert all((a.lat, a.lon) != (b.lat, b.lon) for a, b in zip(finer, other, strict=True))


def test_presets_plan_and_manifest(root):
    assert PRESETS["quick"].insitu == PERIOD
    assert PRESETS["full"].insitu == (date(2011, 1, 1), date(2011, 12, 31))
    manifest = read_manifest(root)
    names = [e["path"] for e in manifest["files"]]
    assert names[-16:] == insitu_names(PERIOD)
    on_disk = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert on_disk == {*names, "SANDBOX.json"}
    assert sum(e["size"] for e in manifest["files"] if e["path"] in insitu_names(PERIOD)) < 25e6
    assert replace(POINTS, insitu=None).kinds["stations"] == {}


def write(days, period, root):
    done = []
    for name, content in insitu_contents(days, period, insitu_names(period)):
        write_bytes(root / name, content)
        done.append(name)
    return done


def test_same_seed_same_bytes(root, observed, tmp_path):
    done = write(observed, PERIOD, tmp_path)
    assert done == insitu_names(PERIOD)
    digests = {e["path"]: e["sha256"] for e in read_manifest(root)["files"]}
    assert {name: sha256_of(tmp_path / name) for name in done} == {name: digests[name] for name in done}


def test_a_killed_write_goes_on_with_the_files_that_are_missing(written):
    _, kept, events = written
    assert len(kept) == 2
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert events == [(i + 1, 3, name) for i, name in enumerate(insitu_names(PERIOD)[-3:])]


def test_an_hour_is_the_same_in_a_shorter_record(root, observed, tmp_path, lines, true_values):
    period = (date(2011, 6, 1), date(2011, 6, 30))
    write(observed, period, tmp_path)
    june = long_table(tmp_path)
    june["file"] = june["file"].str.replace("20110601_20110630", "20110501_20110930")
    once = [t[~t.duplicated(["file", "time"], keep=False)] for t in (june, lines)]
    both = once[0].merge(once[1], on=["file", "time"], suffixes=("", "_long"))
    assert len(both) > 0.96 * len(june)
    assert (both["value"] == both["value_long"]).all()
    assert (both["flag"] == both["flag_long"]).all()
    short = pd.read_parquet(tmp_path / "sandbox_truth/insitu_truth.parquet").astype({"sensor_id": str})
    merged = short.merge(true_values.astype({"sensor_id": str}), on=["sensor_id", "time"])
    assert len(merged) == len(short) == 103 * 720
    np.testing.assert_array_equal(merged["soil_moisture_true_x"], merged["soil_moisture_true_y"])
    with (
        netCDF4.Dataset(tmp_path / "insitu_points/smap_l3_points.nc") as a,
        netCDF4.Dataset(root / "insitu_points/smap_l3_points.nc") as b,
    ):
        values = [
            set(zip(f["time"][:].tolist(), f["soil_moisture"][:].filled(-1).tolist(), strict=True)) for f in (a, b)
        ]
    assert values[0] < values[1]


def test_the_cells_follow_the_gridded_world(observed, truth):
    known = observed.values
    first = 24 * (observed.first - START).days
    at_midnight = truth.cell_moisture[first : first + 24 * len(known) : 24]
    np.testing.assert_allclose(at_midnight, known[:, 0], atol=1e-7)
    rain = truth.cell_rain[first : first + 24 * len(known)].reshape(len(known), 24, -1).sum(axis=1)
    _, head, inverse = np.unique(observed.cells, return_index=True, return_inverse=True)
    np.testing.assert_allclose(rain, known[:, 2][:, head[inverse]], atol=1e-6)


def test_points_are_the_gridded_truth_with_a_representativeness_error(observed, truth):
    hours = truth.hours(FIRST_DAY, LAST_DAY)
    gridded = observed.values[-31:, :2].mean(axis=1)
    cell, point = (a[hours].reshape(31, 24, -1).mean(axis=1) for a in (truth.cell_moisture, truth.point_moisture))
    assert abs((cell - gridded).mean()) < 0.002
    assert (cell - gridded).std() < 0.012  # when in the day it rained
    assert abs((point - gridded).mean()) < 0.012
    assert 0.015 < (point - gridded).mean(axis=0).std() < 0.05
    dynamic = gridded.std(axis=0) > 0.01
    correlation = [np.corrcoef(point[:, i], gridded[:, i])[0, 1] for i in np.flatnonzero(dynamic)]
    assert 0.7 < np.median(correlation) < 0.97


def test_the_year_has_seasons_without_a_seam(truth):
    moisture, cold = truth.point_moisture, truth.soil_temperature
    assert moisture.shape == (396 * 24, 57)
    assert 0.005 < moisture.min() < 0.05
    assert 0.4 < moisture.max() < 0.56
    assert np.abs(np.diff(moisture, axis=0)).max() < 0.25
    north = np.array([s.lat > 50 for s in truth.stations])
    january, july = truth.hours(date(2011, 1, 1), date(2011, 1, 31)), truth.hours(date(2011, 7, 1), date(2011, 7, 31))
    assert cold[january][:, north].mean() < -3 < 8 < cold[july][:, north].mean()
    mediterranean = np.array([s.climate in ("Csa", "Csb") and s.lat > 0 for s in truth.stations])
    assert moisture[january][:, mediterranean].mean() > 1.25 * moisture[july][:, mediterranean].mean()
    deep = truth.at_depth(0.2)
    assert (np.diff(deep, axis=0).std(axis=0) < 0.3 * np.diff(moisture, axis=0).std(axis=0)).all()
    irrigated = [i for i, s in enumerate(truth.stations) if s.land_cover == _IRRIGATED]
    assert irrigated
    assert (truth.irrigation.sum(axis=0) > 0).nonzero()[0].tolist() == irrigated


def test_ismn_reads_every_sensor_with_its_metadata(archives, sensors):
    for form, interface in archives.items():
        mine = [s for s in sensors if s.station.network.file_format == form]
        ids = interface.get_dataset_ids("soil_moisture", min_depth=0, max_depth=1)
        assert len(ids) == len(mine)
        assert len(interface.get_dataset_ids("soil_moisture", 0, 0.051)) == sum(s.is_surface for s in mine)
        wanted = {(s.station.network.name, s.station.folder, s.instrument_in_file, s.depth_from): s for s in mine}
        for number in ids:
            meta = interface.read_metadata(number)
            value = {
                k: meta[k, "val"] for k in ("network", "station", "instrument", "latitude", "longitude", "elevation")
            }
            depth = meta["instrument", "depth_from"]
            sensor = wanted.pop((value["network"], value["station"], value["instrument"], depth))
            station = sensor.station
            assert (value["latitude"], value["longitude"]) == (station.lat, station.lon)
            assert value["elevation"] == pytest.approx(station.elevation)
            if station.has_static:
                assert meta["climate_KG", "val"] == station.climate
                assert meta["lc_2010", "val"] == station.land_cover
                assert meta["saturation", "val"] == station.saturation
                assert meta["clay_fraction", "val"] == pytest.approx(100 * station.clay_fraction)
                assert meta["sand_fraction", "val"] == pytest.approx(100 * station.sand_fraction)
        assert not wanted


def test_ismn_reads_the_same_lines_as_plain_parsing(archives, lines):
    read = 0
    for interface in archives.values():
        for network in interface.collection.networks:
            for number in interface.get_dataset_ids("soil_moisture", 0, 1, filter_meta_dict={"network": network})[:2]:
                frame, meta = interface.read(number, return_meta=True)
                depth, instrument = meta["instrument", "depth_from"], meta["instrument", "val"]
                stem = f"_{meta['station', 'val']}_sm_{depth:.6f}_"
                mine = lines[lines["file"].str.contains(stem, regex=False)]
                mine = mine[mine["file"].str.contains(f"_{instrument}_2", regex=False)]
                assert mine["file"].nunique() == 1
                np.testing.assert_array_equal(frame.index.to_numpy(), mine["time"].to_numpy())
                np.testing.assert_array_equal(frame["soil_moisture"], mine["value"])
                assert frame["soil_moisture_flag"].tolist() == mine["flag"].tolist()
                assert frame["soil_moisture_orig_flag"].tolist() == mine["provider"].tolist()
                read += 1
    assert read == 12


def test_layout_of_both_formats(root):
    header = stm_files(root, "header_values")
    iberia = next(t for n, t in header.items() if n.startswith("SBX_IBERIA/node-01/SBX-IBERIA_SBX-IBERIA_node-01_sm_"))
    first, second = iberia.split("\n")[:2]
    assert first.split()[:3] == ["SBX-IBERIA", "SBX_IBERIA", "node_01"]
    assert first.endswith("0.0500 0.0500 ThetaProbe ML2X")
    assert len(second.split()) == 5
    name = next(n for n in header if "Alder" in n and "_0.050800_0.050800_" in n and "_sm_" in n)
    assert name.endswith("_Hydraprobe-Analog-(2.5-Volt)_20110501_20110930.stm")
    assert header[name].split("\n")[0].split()[6:8] == ["0.0508", "0.0508"]
    assert any("/Bog 2/SBX-BOREAL_SBX-BOREAL_Bog 2_sm_" in n for n in header)
    assert any("/Dust-Bowl#3/" in n for n in header)
    assert {code for n in header for code in ("ts", "ta", "p") if f"_{code}_" in n} == {"ts", "ta", "p"}
    assert all(t.count("\r\n") == t.count("\n") for n, t in header.items() if n.startswith("SBX-HIGHLAND"))
    for text in stm_files(root, "ceop_sep").values():
        tokens = text.split("\r\n")[5].split()
        assert len(tokens) == 15
        assert tokens[:2] == tokens[2:4]


def test_static_variables_have_the_columns_of_ismn(root):
    path = next((root / "ismn").glob("*_header_*.zip"))
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.endswith("_static_variables.csv")]
        assert {i.date_time for i in archive.infolist()} == {(2012, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None
        tables = [list(csv.DictReader(io.StringIO(archive.read(n).decode()), delimiter=";")) for n in names]
    assert not any("Bog" in n for n in names)
    assert len(names) == 31
    for table in tables:
        rows = {(r["quantity_name"], r["depth_from[m]"]): r for r in table}
        top = [float(rows[f"{q} fraction", "0.00"]["value"]) for q in ("clay", "sand", "silt")]
        assert sum(top) == pytest.approx(100.0, abs=0.02)
        assert {r["quantity_source_name"] for r in table} >= {"HWSD", "CCI_landcover_2010", "koeppen_geiger_2007"}
        synthetic = [r["quantity_source_description"] for r in table if r["quantity_source_name"] != "insitu"]
        assert all("synthetic" in s for s in synthetic)


def test_every_flag_occurs_and_tells_what_it_says(lines, sensors):
    seen = Counter()
    for text, number in lines["flag"].value_counts().items():
        seen.update(dict.fromkeys(text.split(","), number))
    assert set(seen) == {"G", "M", *FLAGS}
    assert min(seen.values()) > 20
    assert 0.9 < seen["G"] / len(lines) < 0.97
    missing = lines["value"] == -9999
    assert (missing == (lines["flag"] == "M")).all()
    assert (lines.loc[missing, "provider"] == "M").all()
    assert set(lines["provider"]) == {"M", "OK"}
    valid = lines[~missing]
    has = {f: valid["flag"].str.contains(f, regex=False) for f in ("C01", "C02", "C03")}
    assert (has["C01"] == (valid["value"] < 0)).all()
    assert (has["C02"] == (valid["value"] > 0.6)).all()
    saturation = {s.station.folder: s.station.saturation if s.station.has_static else np.inf for s in sensors}
    limit = valid["file"].str.split("/").str[1].map(saturation)
    assert (has["C03"] == (valid["value"] > limit)).all()
    assert (valid["flag"] == "C02").sum() > 0  # where saturation is unknown
    assert (valid["flag"] == "C02,C03").sum() > 0
    assert flag_names(0) == "G"


def test_faults_are_mostly_flagged(lines):
    table = lines[(lines["value"] != -9999) & lines["file"].str.contains("SBX_IBERIA", regex=False)].copy()
    table = table.drop_duplicates(["file", "time"]).sort_values(["file", "time"])
    jump = table.groupby("file")["value"].diff().abs()
    back = table.groupby("file")["value"].diff(-1).abs()
    spike = (jump > 0.07) & (back > 0.07)
    assert spike.sum() > 10
    noticed = table.loc[spike, "flag"].str.contains("D06")
    assert 0.7 < noticed.mean() < 1.0
    low = lines["flag"].str.contains("D09")
    assert lines.loc[low & (lines["flag"] != "M"), "value"].quantile(0.97) < 0.04  # a spike may stand on it


def test_frozen_hours_are_flagged_and_read_dry(lines, true_values):
    station = true_values[true_values["sensor_id"].str.startswith("SBX-BOREAL__Dry_Heath__")]
    cold = lines[lines["file"].str.contains("Dry-Heath", regex=False) & (lines["value"] > 0)].merge(station, on="time")
    share = cold["value"] / cold["soil_moisture_true"]
    frozen, good = cold["flag"].str.contains("D01"), cold["flag"] == "G"
    assert 20 < frozen.sum() < good.sum()
    assert share[frozen].median() < 0.9 * share[good].median()
    assert share[frozen].min() < 0.5 * share[good].median()
    summer = cold["time"].between("2011-07-01", "2011-08-15")
    assert not cold.loc[summer, "flag"].str.contains("D0[123]").any()
    assert lines["flag"].str.contains("D01,D02,D03", regex=False).any()


def test_gaps_repeated_and_disordered_lines(lines):
    by_file = lines.groupby("file")["time"]
    count = by_file.size()
    assert (count < HOURS).mean() > 0.3
    backwards = by_file.apply(lambda t: int((np.diff(t.to_numpy()) < np.timedelta64(0)).sum()))
    repeated = by_file.apply(lambda t: int(t.duplicated().sum()))
    assert (backwards > 0).sum() >= 5
    assert (repeated == 5).sum() >= 5
    assert ((backwards == 0) & (repeated == 0)).sum() > 35
    again = lines[lines.duplicated(["file", "time"], keep=False)]
    differs = again.groupby(["file", "time"])["value"].nunique() > 1
    assert 0 < differs.sum() < 10
    assert (by_file.last() == by_file.max()).all()
    assert (lines["time"].dt.minute == 0).all()


def test_readings_agree_with_the_truth_up_to_calibration_and_drift(root, sensor_table, true_values):
    paths = [*(root / "ismn").glob("*.zip"), *(root / "uscrn/hourly02/2011").glob("*.txt")]
    tables = open_insitu(paths, catalog_id="test", flags="strict", synthetic=True)
    surface = sensor_table[sensor_table["depth_to"] < 0.052]
    assert set(tables.sensors["sensor_id"]) == set(surface["sensor_id"])
    merged = tables.readings.astype({"sensor_id": str}).merge(true_values.astype({"sensor_id": str}))
    assert len(merged) == len(tables.readings)
    difference = merged["soil_moisture"] - merged["soil_moisture_true"]
    by_sensor = difference.groupby(merged["sensor_id"])
    assert by_sensor.size().min() > 1000
    assert abs(by_sensor.mean().median()) < 0.012
    assert 0.01 < by_sensor.mean().std() < 0.04
    assert by_sensor.std().median() < 0.02
    assert (by_sensor.std() > 0.02).sum() > 3  # sensors that drift, and those badly installed
    found = tables.sensors.set_index("sensor_id")
    mine = surface.set_index("sensor_id").reindex(found.index)
    ismn = mine["file_format"] != "uscrn"
    np.testing.assert_array_equal(found.loc[ismn, "lat"], mine.loc[ismn, "lat"])
    assert found.loc[ismn, "station"].tolist() == mine.loc[ismn, "station"].tolist()
    # NOAA prints two decimals of a degree
    np.testing.assert_allclose(found["lon"], mine["lon"], atol=0.0051)


HOURLY_ENDS = [
    5,
    14,
    19,
    28,
    33,
    40,
    48,
    56,
    64,
    72,
    80,
    88,
    96,
    103,
    105,
    112,
    114,
    121,
    123,
    125,
    133,
    135,
    143,
    145,
    153,
    155,
    161,
    163,
    171,
    179,
    187,
    195,
    203,
    211,
    219,
    227,
    235,
    243,
]


def uscrn_lines(root):
    return {p.name: p.read_text().splitlines() for p in sorted((root / "uscrn/hourly02/2011").glob("*.txt"))}


def test_uscrn_fields_end_in_the_columns_of_the_readme(root):
    files, ends = uscrn_lines(root), HOURLY_ENDS
    assert len(files) == 9
    assert _HOURLY.count("%") == len(ends)
    for text in files.values():
        assert len(text) == HOURS
        for line in (text[0], text[len(text) // 2], text[-1]):
            assert len(line) == ends[-1]
            fields = line.split()
            assert len(fields) == len(ends)
            cut = [line[a:b].strip() for a, b in zip([0, *ends[:-1]], ends, strict=True)]
            assert cut == fields
        assert {len(line) for line in text} == {ends[-1]}


def test_uscrn_hours_local_time_and_missing_values(root):
    for name, text in uscrn_lines(root).items():
        assert name.startswith("CRNH0203-2011-SX_")
        rows = [line.split() for line in text]
        utc = pd.to_datetime([r[1] + r[2] for r in rows], format="%Y%m%d%H%M")
        local = pd.to_datetime([r[3] + r[4] for r in rows], format="%Y%m%d%H%M")
        assert (np.diff(utc.to_numpy()) == np.timedelta64(1, "h")).all()
        assert set(utc - local) == {pd.Timedelta(hours=-round(float(rows[0][6]) / 15))}
        moisture = np.array([[float(v) for v in r[28:33]] for r in rows])
        assert (moisture == -99).any()
        assert ((moisture == -99) | ((moisture >= 0) & (moisture < 0.6))).all()
        temperature = np.array([[float(v) for v in (r[8], *r[33:38])] for r in rows])
        assert ((temperature == -9999) | (np.abs(temperature) < 60)).all()
        assert (np.array([float(r[12]) for r in rows]) >= 0).sum() > 3000
        assert "-0.0 " not in " ".join(line[89:96] for line in text)


@pytest.fixture(scope="module")
def coarse(root):
    folder = root / "insitu_points"
    return {
        "era": open_swvl1_points([folder / "era5_land_points.nc"], catalog_id="era", synthetic=True).load(),
        "gldas": open_gldas_points([folder / "gldas_points.nc"], catalog_id="gldas", synthetic=True),
        "smap": open_smap_l3_points([folder / "smap_l3_points.nc"], catalog_id="smap", synthetic=True),
    }


def test_coarse_products_cover_every_station(coarse, stations):
    farthest = {"era": 8.0, "gldas": 20.0, "smap": 45.0}
    for product, dataset in coarse.items():
        for station in stations:
            distance = great_circle_km(dataset["lat"], dataset["lon"], station.lat, station.lon)
            assert distance.min() < farthest[product]
    assert (coarse["era"]["time"].dt.hour == 6).all()
    assert coarse["era"].sizes["time"] == 153
    assert coarse["gldas"].sizes["time"] == 153 * 8
    # the numbers that the products' own series have
    lat, lon, number = (coarse["era"][n].values for n in ("lat", "lon", "location_id"))
    np.testing.assert_array_equal(number, np.rint((90 - lat) * 10) * 3600 + np.rint((lon % 360) * 10))
    lat, lon, number = (coarse["gldas"][n].values for n in ("lat", "lon", "location_id"))
    np.testing.assert_array_equal(number, (lat + 89.875) * 4 * 1440 + (lon + 179.875) * 4)
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True).transform(
        coarse["smap"]["lon"].values, coarse["smap"]["lat"].values
    )
    np.testing.assert_allclose((x + 17367530.4452) / 36032.22 % 1, 0.5, atol=0.001)
    np.testing.assert_allclose((7314540.8306 - y) / 36032.22 % 1, 0.5, atol=0.001)


def test_coarse_products_have_errors_of_their_own(coarse, stations, truth):
    def at(dataset, station):
        nearest = int(
            np.argmin(great_circle_km(dataset["lat"].values, dataset["lon"].values, station.lat, station.lon))
        )
        series = dataset["soil_moisture"].isel(location=nearest).to_series().dropna()
        return series[~series.index.duplicated()]

    hours = np.datetime64(START, "h")
    errors = {}
    for product, dataset in coarse.items():
        correlation, bias, spread = [], [], []
        for i, station in enumerate(stations):
            series = at(dataset, station)
            assert len(series) >= 40
            known = truth.cell_moisture[
                (series.index.round("h").to_numpy() - hours).astype("timedelta64[h]").astype(int), i
            ]
            correlation.append(np.corrcoef(series, known)[0, 1])
            bias.append(np.mean(series - known))
            spread.append(np.std(series - known))
        assert 0.55 < np.median(correlation) < 0.95
        assert 0.01 < np.std(bias) < 0.06
        assert 0.015 < np.median(spread) < 0.06
        errors[product] = np.array(bias)
    assert np.median(errors["era"]) > np.median(errors["smap"])


def test_smap_flags_revisit_and_dense_vegetation(coarse, root):
    smap = coarse["smap"]
    flag, seen = smap["retrieval_qual_flag"].values, smap["overpass"].values
    assert set(np.unique(flag[seen > 0])) == {8, 9, 13, 15}
    for row in (flag, seen):
        assert row.shape == (smap.sizes["location"], smap.sizes["time"])
    per_day = (seen > 0).sum(axis=1) / 153
    assert 0.65 < per_day.min() < per_day.max() < 1.35  # both passes, each every two to three days
    local = (smap["time"].dt.hour.values + smap["time"].dt.minute.values / 60 + smap["lon"].values[:, None] / 15) % 24
    assert np.abs(local[seen == 1] - 6).max() < 0.5
    assert np.abs(local[seen == 2] - 18).max() < 0.5
    assert np.isnan(smap["soil_moisture"].values[np.isin(flag, (13, 15))]).all()
    everything = open_smap_l3_points([root / "insitu_points/smap_l3_points.nc"], catalog_id="x", quality="all")
    assert ((everything["surface_flag"].values & 1024 > 0) <= (flag != 8))[seen > 0].all()
    values = everything["soil_moisture"].values
    assert np.nanmin(values) >= 0.0199
    assert np.nanmax(values) <= 0.5001


def test_truth_parquet_has_every_hour_of_every_sensor(true_values, sensor_table, sensors):
    assert list(true_values.columns) == ["sensor_id", "time", "soil_moisture_true"]
    counts = true_values["sensor_id"].value_counts()
    assert set(counts) == {HOURS}
    assert set(counts.index) == set(sensor_table["sensor_id"]) == {s.key for s in sensors}
    assert true_values["soil_moisture_true"].between(0.004, 0.56).all()
    assert true_values["time"].min() == pd.Timestamp("2011-05-01")
    assert true_values["time"].max() == pd.Timestamp("2011-09-30T23")
