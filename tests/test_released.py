"""Released records into a sample store: the join with ISMN, what is not unique, resuming, the command."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tfrecord_encoder as encoder
from test_loaders_insitu import STATIC, header, stm_name, write_zip
from typer.testing import CliRunner

from smnb.cli.app import app
from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, RunError
from smnb.files import held_output
from smnb.papers.batchu2023.released.conversion import convert_released, shards_of
from smnb.papers.batchu2023.released.labels import IsmnLabels, StationIndex, is_5_cm
from smnb.papers.batchu2023.released.records import open_released
from smnb.papers.batchu2023.store import SampleStore

SIZE = 32
#: float32 milliseconds of this instant are exact, so that the tests' times are the records'.
NOON = np.datetime64(int(np.float32(1.5594e12)), "ms").astype("datetime64[ns]")
STEP = np.timedelta64(131_072, "ms")


def readings(*rows):
    """Lines of an ISMN file from (time, value, flag)."""
    return "".join(
        f"{pd.Timestamp(time):%Y/%m/%d %H:%M} {value:.4f} {flag} M\n"
        for time, value, flag in sorted(rows, key=lambda one: one[0])
    )


def archive(folder, stations, name="ismn.zip"):
    """Write an ISMN zip; `stations` maps (network, station) to a list of (lat, lon, depth, instrument, lines)."""
    members = {}
    for (network, station), sensors in stations.items():
        for lat, lon, depth, instrument, lines in sensors:
            about = {"station": station, "network": network, "depth": depth, "instrument": instrument}
            members[stm_name(**about)] = header(lat=lat, lon=lon, **about) + lines
        members[f"{network}/{station}/{network}_{network}_{station}_static_variables.csv"] = STATIC
    return write_zip(folder / name, members)


def shard(folder, records, name="data-00000-of-00500.tfrecord.gz"):
    folder.mkdir(exist_ok=True)
    return encoder.write_shard(folder / name, [encoder.example(one) for one in records])


def fields(seed, time=NOON, **options):
    return encoder.released_fields(seed, size=SIZE, **{"time": str(time), "lat": 40.0, "lon": -100.0, **options})


def opened(paths, **options):
    return open_released(paths, catalog_id="multisource_released", size=SIZE, **{"crop": 16, **options})


def minutes(n):
    return NOON + np.timedelta64(round(n * 60), "s")


# --- which sensor -----------------------------------------------------------------------------------------------------


def row(network, station, lat=40.0, lon=-100.0, depth=(0.05, 0.05), instrument="EC5"):
    return {
        "sensor_id": f"{network}__{station}__{instrument}__{depth[0]:.4f}",
        "network": network,
        "station": station,
        "lat": lat,
        "lon": lon,
        "depth_from": depth[0],
        "depth_to": depth[1],
        "instrument": instrument,
        "variable": "soil_moisture",
        "file": stm_name(station, network, depth, instrument=instrument),
    }


@pytest.mark.parametrize(
    ("wanted", "station"),
    [
        ("USCRN__Arco_17_SW__S", "Arco-17-SW"),
        ("SCAN__AAMUjtg__S", "AAMU-jtg"),
        ("SCAN__AAMU-jtg__S", "AAMU-jtg"),
        ("SCAN__Abrams__S", "Abrams"),
    ],
)
def test_every_part_of_the_name_must_occur_hyphens_aside(wanted, station):
    index = StationIndex([row("USCRN", "Arco-17-SW"), row("SCAN", "AAMU-jtg"), row("SCAN", "Abrams")])
    assert index.find(wanted, 40.0, -100.0).row["station"] == station


def test_of_several_stations_the_nearest_or_as_the_script_the_first():
    rows = [row("TxSON", "CR200-11", lat=30.5), row("TxSON", "CR200-1", lat=30.0), row("TxSON", "CR200-19", lat=31.0)]
    found = StationIndex(rows).find("TxSON__CR200-1__CS655", 30.0, -100.0)
    assert (found.row["station"], found.distance_km) == ("CR200-1", 0.0)
    assert found.stations == ("TxSON/CR200-1", "TxSON/CR200-11", "TxSON/CR200-19")
    without = StationIndex(rows[:1]).find("TxSON__CR200-1__CS655", 30.0, -100.0)
    assert (without.row, without.reason) == (None, "station_too_far")  # 56 km away: another station
    assert without.distance_km == pytest.approx(0.5 * 111.19, rel=1e-3)
    first = StationIndex(rows[:1], choose="first", max_km=None).find("TxSON__CR200-1__CS655", 30.0, -100.0)
    assert first.row["station"] == "CR200-11"  # what the script would take


def test_a_sensor_at_5_cm_is_told_as_the_script_does():
    depths = [(0.05, 0.05), (0.0508, 0.0508), (0.0, 0.05), (0.0, 0.1), (0.05, 0.1), (0.2, 0.2)]
    assert [is_5_cm(*one) for one in depths] == [True, True, True, False, True, False]


def test_of_several_sensors_one_within_5_cm_and_of_the_type_comes_first():
    rows = [
        row("N", "A", depth=(0.05, 0.10), instrument="A1"),
        row("N", "A", depth=(0.05, 0.05), instrument="B1"),
        row("N", "A", depth=(0.0, 0.05), instrument="Probe C"),
        row("N", "A", depth=(0.2, 0.2), instrument="D"),
    ]
    found = StationIndex(rows).find("N__A__Probe-C", 40.0, -100.0)
    assert found.row["instrument"] == "Probe C"
    assert len(found.sensors) == 3
    assert StationIndex(rows, choose="first").find("N__A__Probe-C", 40.0, -100.0).row["file"] == min(
        one["file"] for one in rows[:3]
    )
    assert StationIndex(rows[3:]).find("N__A__D", 40.0, -100.0).reason == "no_5_cm_sensor"
    assert StationIndex(rows).find("N__B__D", 40.0, -100.0).reason == "station_unknown"
    assert StationIndex(rows).find("n__A__D", 40.0, -100.0).reason == "network_unknown"
    for wrong in ({"choose": "last"}, {"max_km": 0.0}):
        with pytest.raises(ParameterError):
            StationIndex(rows, **wrong)


# --- which reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        ([(2, 0.2, "G")], {}, 0.2),
        ([(-2, 0.2, "C02,C03")], {}, 0.2),
        ([(5, 0.2, "G"), (-5, 0.3, "G")], {}, "no_reading"),
        ([(5, 0.2, "G")], {"window_minutes": 6}, 0.2),
        ([(0, 0.2, "D06")], {}, "flagged"),
        ([(0, 0.2, "C03,D06")], {"flags": "all"}, 0.2),
        ([(0, 0.2, "C03")], {"flags": "strict"}, "flagged"),
        ([(-2, 0.2, "G"), (1, 0.3, "G")], {}, "ambiguous"),
        ([(-2, 0.2, "G"), (1, 0.3, "D01")], {}, 0.2),
        ([(-2, 0.2, "G"), (1, 0.3, "G")], {"ambiguous": "nearest"}, 0.3),
        ([(0, -9999, "M")], {"flags": "all"}, "no_reading"),
    ],
)
def test_the_reading_within_three_minutes(tmp_path, rows, options, expected):
    # ISMN has whole minutes: the record is put on one
    at = NOON.astype("datetime64[m]").astype("datetime64[ns]")
    body = readings(*[(at + np.timedelta64(m, "m"), value, flag) for m, value, flag in [*rows, (600, 0.5, "G")]])
    path = archive(tmp_path, {("NET", "A"): [(40.0, -100.0, (0.05, 0.05), "EC5", body)]})
    with IsmnLabels(path, **options) as labels:
        found = labels.label("NET__A__EC5", 40.0, -100.0, at)
        ambiguities = labels.ambiguities()
    if isinstance(expected, str):
        assert (found.reason, np.isnan(found.value)) == (expected, True)
        assert dict(labels.counts) == {expected: 1}
    else:
        assert (found.reason, found.value) == ("", pytest.approx(expected))
        assert abs(found.time - at) <= np.timedelta64(6, "m")
    assert (ambiguities["kind"] == "readings").sum() == (len(rows) == 2 and expected in ("ambiguous", 0.3))


def test_the_window_is_inclusive_to_the_second(tmp_path):
    at = np.datetime64("2019-06-01T12:00:00", "ns")
    body = readings((at, 0.3, "G"))
    path = archive(tmp_path, {("NET", "A"): [(40.0, -100.0, (0.05, 0.05), "EC5", body)]})
    with IsmnLabels(path) as labels:
        for milliseconds, reason in (
            (-180_000, ""),
            (-180_999, "no_reading"),
            (180_000, ""),
            (180_999, ""),
            (181_000, "no_reading"),
        ):
            found = labels.label("NET__A__EC5", 40.0, -100.0, at + np.timedelta64(milliseconds, "ms"))
            assert found.reason == reason, milliseconds


def test_a_damaged_sensor_has_no_reading_and_is_named(tmp_path):
    good = readings((NOON, 0.2, "G"))
    body = "2019/99/99 00:00 0.2 G M\n"
    path = archive(
        tmp_path,
        {
            ("NET", "A"): [(40.0, -100.0, (0.05, 0.05), "EC5", body)],
            ("NET", "B"): [(40.0, -100.0, (0.05, 0.05), "EC5", good)],
        },
    )
    with IsmnLabels(path) as labels:
        assert labels.label("NET__A__EC5", 40.0, -100.0, NOON).reason == "no_reading"
        assert "NET/A" in labels.report.damaged_files[0]["file"]
    for wrong, error in (
        ({"ambiguous": "mean"}, ParameterError),
        ({"window_minutes": -1}, ParameterError),
        ({"flags": "X"}, ParameterError),
    ):
        with pytest.raises(error):
            IsmnLabels(path, **wrong)
    with pytest.raises(CatalogError):
        IsmnLabels(tmp_path / "none.zip")
    with pytest.raises(CatalogError):
        IsmnLabels([])


def test_on_a_real_archive_against_its_own_lines(shared_samples):
    path = shared_samples / "conus_s1s2smap_2019_2021" / "ismn_sm_5cm_2019_2021.zip"
    places = {"USCRN__Arco_17_SW__x": (43.4623, -113.5559), "RISMA__MB1__Hydraprobe-II-Sdi-12-C": None}
    with IsmnLabels(path) as labels, zipfile.ZipFile(path) as file:
        for sensor_id, place in places.items():
            folder = sensor_id.split("__")[0] + "/" + sensor_id.split("__")[1].replace("_", "-") + "/"
            any_file = next(n for n in file.namelist() if n.startswith(folder) and "_sm_" in n)
            lat, lon = place or (float(text) for text in file.read(any_file).decode().split()[3:5])
            name = labels.match(sensor_id, lat, lon).row["file"]
            assert name.startswith(folder)
            assert "Sdi-12-C" in name or not sensor_id.endswith("-C")  # RISMA has probes A, B and C at one depth
            _, *rows = file.read(name).decode().splitlines()
            for line in rows[:: len(rows) // 40]:
                date, hour, value, flag, _ = line.split()
                time = np.datetime64(f"{date.replace('/', '-')}T{hour}", "ns")
                found = labels.label(sensor_id, lat, lon, time + np.timedelta64(90, "s"))
                assert found.time == time or found.reason
                kept = "" if flag in ("G", "C02", "C03", "C02,C03", "C03,C02") else "flagged"
                assert found.reason == ("no_reading" if flag == "M" else kept), line  # M: a fill value is no reading
                assert np.isnan(found.value) or found.value == np.float32(value)
        table = labels.ambiguities()
    assert labels.counts["labelled"] > 20
    # in the archive's own names: MB1 is part of MB10 and MB13
    (stations,) = table.loc[table["kind"] == "station", "candidates"]
    assert {"RISMA/MB1", "RISMA/MB10", "RISMA/MB13"} <= set(stations.split("|"))
    assert table.loc[table["kind"] == "station", "chosen"].item().startswith("RISMA__MB1__")


# --- the conversion ---------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path):
    """Two shards and an archive: core-site records, ISMN records, and each way to lose one."""
    at = NOON.astype("datetime64[m]")
    body = readings(*[(at + np.timedelta64(h, "h"), 0.1 + 0.01 * h, "D06" if h == 5 else "G") for h in range(8)])
    ismn = archive(
        tmp_path,
        {
            ("NET", "A"): [(40.0, -100.0, (0.05, 0.05), "EC5", body)],
            ("NET", "AB"): [(45.0, -100.0, (0.05, 0.05), "EC5", body)],
        },
    )

    def ismn_record(seed, hour, sensor="NET__A__EC5", **changes):
        return fields(seed, at + np.timedelta64(hour, "h"), sensor_id=sensor, label=None, **changes)

    first = [
        fields(0, sensor_id="CORE__S1__P", lat=35.0),
        ismn_record(1, 0),
        ismn_record(2, 1),
        ismn_record(3, 5),
        ismn_record(4, 100),
    ]
    dem = first[1]["nasa_dem_elevation"]
    first[2] |= {name: first[1][name] for name in encoder.IMAGES[-5:]}
    second = [
        ismn_record(5, 2, "NET__Z__EC5"),
        ismn_record(6, 2, "OTHER__A__EC5"),
        ismn_record(7, 3, smap_sm=0),
        ismn_record(8, 4, sentinel_2_B2=np.zeros((SIZE, SIZE), int)),
        ismn_record(9, 6, nasa_dem_elevation=dem),
        fields(10, sensor_id="CORE__S2__P", lat=36.0),
    ]
    folder = tmp_path / "shards"
    paths = [shard(folder, first), shard(folder, second, "data-00001-of-00500.tfrecord.gz")]
    return {"ismn": ismn, "shards": paths, "folder": folder, "first": first, "second": second, "start": at}


EXPECTED = {
    "records": 11,
    "own_label": 2,
    "ismn_label": 3,
    "flagged": 1,
    "no_reading": 1,
    "station_unknown": 1,
    "network_unknown": 1,
    "missing_smap": 1,
    "missing_sentinel2": 1,
    "static_differs": 1,
    "samples": 5,
    "sensors": 3,
}


def test_records_become_samples_and_every_lost_one_is_counted(world, tmp_path):
    with IsmnLabels(world["ismn"]) as labels:
        done = convert_released(opened(world["shards"]), tmp_path / "r.zarr", labels=labels, splits={})
    assert done.counts == EXPECTED
    lost = sum(
        done.counts[name]
        for name in ("flagged", "no_reading", "station_unknown", "network_unknown", "missing_smap", "missing_sentinel2")
    )
    assert done.counts["records"] == done.counts["samples"] + lost
    store = SampleStore(tmp_path / "r.zarr")
    assert store.samples["sensor_id"].tolist() == ["CORE__S1__P", *["NET__A__EC5"] * 3, "CORE__S2__P"]
    np.testing.assert_allclose(store.samples["soil_moisture"], [0.25, 0.10, 0.11, 0.16, 0.25], atol=1e-6)
    # an ISMN sample has the reading's time, which is exact
    assert (store.samples["time"][1:4] == [world["start"] + np.timedelta64(h, "h") for h in (0, 1, 6)]).all()
    assert (store.crop, store.low_resolution, store.attrs["label_join"]["flags"]) == (16, 160.0, "paper")
    inner = slice(8, 24)
    for position, fields_ in ((1, world["first"][1]), (3, world["second"][4])):
        vv = store.read("sentinel1", [position], bands=["VV"])[0, 0]
        np.testing.assert_allclose(vv, fields_["sentinel_1_VV"][inner, inner] / 255, atol=3e-4)  # float16
        dem = store.read("dem", [position])[0, 0]  # the sensor's first
        np.testing.assert_allclose(dem, world["first"][1]["nasa_dem_elevation"][inner, inner] / 3000, atol=3e-4)
        np.testing.assert_allclose(store.read("gldas", [position]), [[77 / 255]])
        soil = fields_ if position == 1 else world["first"][1]
        clay = soil["soil_grids_clay_clay_0-5cm_mean"][inner, inner].mean() / 255
        np.testing.assert_allclose(store.read("soilgrids", [position], bands=["clay"]).item(), clay, atol=3e-4)
    assert done.ambiguities["kind"].tolist() == ["station"]  # "A" is part of "AB"
    assert done.ambiguities["records"].tolist() == [7]


def test_the_sensor_table_has_places_strata_and_what_ismn_says(world, tmp_path):
    with IsmnLabels(world["ismn"]) as labels:
        sensors = convert_released(opened(world["shards"]), tmp_path / "r.zarr", labels=labels, splits={}).store.sensors
    table = sensors.set_index("sensor_id")
    assert table["n_samples"].to_dict() == {"CORE__S1__P": 1, "NET__A__EC5": 3, "CORE__S2__P": 1}
    ismn = table.loc["NET__A__EC5"]
    assert (ismn["ismn_sensor_id"], ismn["depth_to"], ismn["climate_KG"]) == ("NET__A__EC5__0.0500-0.0500", 0.05, "Cfa")
    assert (ismn["network"], ismn["station"], ismn["instrument"]) == ("NET", "A", "EC5")
    assert table.loc["CORE__S1__P", "ismn_sensor_id"] == ""
    assert {"climate", "land_cover", "texture", "lat", "lon"} <= set(table.columns)
    assert (table["texture"] != "").all()


def test_a_conversion_is_made_by_one_process(world, tmp_path):
    with held_output("first", tmp_path / "r.zarr"), pytest.raises(RunError, match="another process is writing this"):
        convert_released(opened(world["shards"]), tmp_path / "r.zarr", splits={})
    assert not list(tmp_path.glob(".r.zarr*"))


def test_without_an_archive_only_own_labels_count_and_none_is_an_error(world, tmp_path):
    done = convert_released(opened(world["shards"]), tmp_path / "r.zarr", splits={})
    assert done.counts == {"records": 11, "no_label": 9, "own_label": 2, "samples": 2, "sensors": 2}
    assert done.ambiguities.empty
    path = shard(tmp_path / "none", [fields(1, label=None)])
    with pytest.raises(ContractError, match=r"no record became a sample.*'no_label': 1"):
        convert_released(opened([path]), tmp_path / "n.zarr", splits={})
    with pytest.raises(ParameterError, match="names sources that are not read"):
        convert_released(opened([path]), tmp_path / "o.zarr", optional=["modis_lai"])


def test_an_optional_source_may_be_missing(world, tmp_path):
    with IsmnLabels(world["ismn"]) as labels:
        done = convert_released(
            opened(world["shards"]), tmp_path / "r.zarr", labels=labels, splits={}, optional=["smap"]
        )
    assert (done.counts["samples"], done.counts.get("missing_smap")) == (6, None)
    assert np.isnan(done.store.read("smap", [3])).all()
    assert done.store.sources["smap"].optional


def test_splits_by_sensor_and_block(tmp_path):
    records = [
        fields(n, sensor_id=f"NET__S{n}__P", lat=-40.0 + 7.0 * (n % 12), lon=-170.0 + 9.0 * n) for n in range(30)
    ]
    path = shard(tmp_path / "s", records)
    store = convert_released(opened([path], bands={"sentinel1": ["VV"], "smap": ["ssm"]}), tmp_path / "r.zarr").store
    for name in ("sensor", "block"):
        assert set(store.sensors[f"split_{name}"]) <= {"train", "validation", "test", "buffer"}
        assert (
            store.attrs["splits"][name]["samples"]
            == store.samples[f"split_{name}"]
            .value_counts()
            .reindex(["train", "validation", "test", "buffer"], fill_value=0)
            .to_dict()
        )
    with pytest.raises(ParameterError, match="no sensor is left"):
        convert_released(opened([shard(tmp_path / "t", records[:1])]), tmp_path / "t.zarr")


class KillError(Exception):
    """What stops a conversion in a test."""


def test_a_killed_conversion_goes_on_and_gives_the_same_store(world, tmp_path, monkeypatch):
    monkeypatch.setattr("smnb.papers.batchu2023.store.SampleStoreWriter.chunk", property(lambda self: 2))
    with IsmnLabels(world["ismn"]) as labels:
        whole = convert_released(opened(world["shards"]), tmp_path / "whole.zarr", labels=labels, splits={})
    count = 0

    def kill(self, record):
        nonlocal count
        count += 1
        if count == stop:
            raise KillError
        return decode(self, record)

    decode = type(opened(world["shards"])).decode
    for stop in (3, 6):
        target = tmp_path / f"killed{stop}.zarr"
        count = 0
        with monkeypatch.context() as patch, IsmnLabels(world["ismn"]) as labels:
            patch.setattr("smnb.papers.batchu2023.released.records.ReleasedRecords.decode", kill)
            with pytest.raises(KillError):
                convert_released(opened(world["shards"]), target, labels=labels, splits={})
        assert not target.exists()
        with IsmnLabels(world["ismn"]) as labels, pytest.raises(RunError, match="part of another store"):
            convert_released(opened(world["shards"], crop=32), target, labels=labels, splits={})
        for path in (world["shards"][1], Path(world["ismn"])):  # other content of as many bytes
            kept, stat = path.read_bytes(), path.stat()
            opening = IsmnLabels(world["ismn"])
            path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            with opening as labels, pytest.raises(RunError, match="part of another store; got other fingerprint"):
                convert_released(opened(world["shards"]), target, labels=labels, splits={})
            path.write_bytes(kept)
        with IsmnLabels(world["ismn"]) as labels:
            done = convert_released(opened(world["shards"]), target, labels=labels, splits={})
        assert done.counts == whole.counts, stop
        pd.testing.assert_frame_equal(done.store.samples, whole.store.samples)
        pd.testing.assert_frame_equal(done.store.sensors, whole.store.sensors)
        pd.testing.assert_frame_equal(done.ambiguities, whole.ambiguities)
        for source in whole.store.sources:
            np.testing.assert_array_equal(done.store.read(source, None), whole.store.read(source, None))


def test_damage_is_raised_or_skipped_and_kept_with_the_store(world, tmp_path):
    damaged = shard(
        tmp_path / "d", [fields(1), fields(2, sentinel_1_VV=np.full((SIZE, SIZE), 300)), fields(3, center_lat=None)]
    )
    cut = tmp_path / "d" / "cut.tfrecord.gz"
    cut.write_bytes(damaged.read_bytes()[:-50])
    with pytest.raises(FormatError, match="record 1: sentinel_1_VV"):
        convert_released(opened([damaged]), tmp_path / "r.zarr", splits={})
    done = convert_released(opened([damaged, cut], on_error="skip"), tmp_path / "s.zarr", splits={})
    assert done.counts["records_invalid"] == 3
    assert (done.counts["shards_cut"], done.counts["records"], done.counts["samples"]) == (1, 2, 2)
    assert len(done.store.attrs["problems"]) == len(done.problems) == 4


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, ["released", *map(str, arguments)], catch_exceptions=False)


def test_the_command(world, tmp_path):
    options = ["--size", SIZE, "--crop", 16, "--no-splits"]
    result = run(
        world["folder"],
        "--ismn",
        world["ismn"],
        "--out",
        tmp_path / "r.zarr",
        "--ambiguities",
        tmp_path / "a.csv",
        *options,
    )
    assert result.exit_code == 0, result.output
    assert "5 samples of 3 sensors, from 11 records" in result.output
    assert "missing smap: 1" in result.output
    assert "not unique, station: 1" in result.output
    assert pd.read_csv(tmp_path / "a.csv")["chosen"].tolist() == ["NET__A__EC5__0.0500-0.0500"]
    result = run(world["folder"], "--out", tmp_path / "own.zarr", "--json", *options)
    content = json.loads(result.output[result.output.index("{") :])
    assert (content["samples"], content["no_label"]) == (2, 9)
    with pytest.raises(ParameterError, match="there is no shard"):
        shards_of([tmp_path / "own.zarr"])
