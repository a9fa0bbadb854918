"""ISMN archives, against hand-written files and the package `ismn`; then damaged ones, one a test."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import RootModel
from typer.testing import CliRunner

from smnb.cli.app import app
from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, RunError
from smnb.files import held_output, read_json
from smnb.loaders.insitu import archive as index
from smnb.loaders.insitu import index_archive, open_insitu, read_tables, tables, write_tables
from smnb.loaders.insitu.archive import Archive, find_sensors, static_variables
from smnb.loaders.insitu.sensors import LostLines, Report
from smnb.loaders.insitu.stm import parse_header, parse_stm

BODY = "2019/01/01 00:00 0.2000 G M\n2019/01/01 01:00 0.2100 C03,C02 M\n2019/01/01 02:00 -9999 M M\n2019/01/01 03:00 0.25 D01 M\n"
STATIC = (
    "quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name;x;x;x;x;x;x;\n"
    'saturation;m^3*m^-3;0.00;0.30;0.46;;HWSD;H;I;v1;30";;u;\n'
    "clay fraction;% weight;0.00;0.30;23.00;;HWSD;;;;;;;\nclay fraction;% weight;0.30;1.00;29.00;;HWSD;;;;;;;\n"
    "sand fraction;% weight;0.00;0.30;36.00;;HWSD;;;;;;;\nsand fraction;% weight;0.05;0.05;60.00;;insitu;;;;;;;\n"
    "organic carbon;% weight;-99.90;-99.90;0.59;;insitu;;;;;;;\n"
    "land cover classification;;;;130;Grassland;CCI_landcover_2010;;;;;;;\n"
    "climate classification;;;;Cfa;x;koeppen_geiger_2007;;;;;;;\nbulk density;g/cm3;0.05;0.05;1.2;;insitu;;;;;;;\n"
)


def stm_name(station="A", network="NET", depth=(0.05, 0.05), variable="sm", instrument="EC5"):
    return (
        f"{network}/{station}/{network}_{network}_{station}_{variable}_{depth[0]:.6f}_{depth[1]:.6f}_{instrument}"
        "_20190101_20200101.stm"
    )


def header(station="A", network="NET", lat=40.0, lon=-100.0, depth=(0.05, 0.05), instrument="EC5"):
    return (
        f"{network:10} {network:15} {station:15} {lat:10.5f} {lon:11.5f} {300:8.2f} {depth[0]:.2f} {depth[1]:.2f} "
        f"{instrument}\n"
    )


def ceop(body=BODY, station="A", network="NET", lat=40.0, lon=-100.0, depth=(0.05, 0.05)):
    place = (
        f"{network:10} {network:15} {station:15} {lat:10.5f} {lon:11.5f}  300.00    {depth[0]:.2f}    {depth[1]:.2f}"
    )
    return "".join(f"{line[:16]} {line[:16]} {place} {line[17:]}\n" for line in body.splitlines())


def write_zip(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def write_folder(path: Path, members: dict[str, str | bytes]) -> Path:
    for name, content in members.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def one(tmp_path: Path, body: str, **options):
    """Tables of an archive of one sensor."""
    archive = write_zip(tmp_path / "a.zip", {stm_name(): header() + body})
    return open_insitu([archive], catalog_id="x", **{"flags": "all", **options})


def reasons(report: dict) -> str:
    return "\n".join(f"{one['file']}: {one['reason']}" for one in report["damaged_files"])


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [write_zip, write_folder])
@pytest.mark.parametrize("form", ["header_values", "ceop_sep"])
def test_both_formats_from_zip_and_folder(tmp_path, writer, form):
    text = header() + BODY if form == "header_values" else ceop()
    path = writer(tmp_path / "archive", {stm_name(): text, "NET/A/NET_NET_A_static_variables.csv": STATIC})
    before = sorted(tmp_path.rglob("*"))
    found = open_insitu([path], catalog_id="ismn_archive", flags="paper")
    assert sorted(tmp_path.rglob("*")) == before  # nothing is extracted
    (row,) = found.sensors.to_dict("records")
    assert row["sensor_id"] == "NET__A__EC5__0.0500-0.0500"
    assert (row["lat"], row["lon"], row["elevation"], row["depth_from"]) == (40.0, -100.0, 300.0, 0.05)
    assert (row["climate_KG"], row["lc_2010"]) == ("Cfa", 130)
    assert pd.isna(row["lc_2000"])
    assert (row["saturation"], row["clay_fraction"], row["sand_fraction"]) == (0.46, 0.23, 0.6)  # in situ at 5 cm
    assert np.isnan(row["organic_carbon"])  # at an unknown depth
    assert row["format"] == form
    assert found.readings["soil_moisture"].tolist() == [np.float32(0.2), np.float32(0.21)]
    assert found.readings["soil_moisture"].dtype == np.float32
    assert found.readings["time"].tolist() == [pd.Timestamp("2019-01-01 00:00"), pd.Timestamp("2019-01-01 01:00")]
    assert found.readings["flag"].tolist() == ["G", "C03,C02"]
    assert list(found.readings["flag"].cat.categories) == ["G", "C03,C02"]
    assert found.report["readings"] == {
        "read": 4,
        "kept": 2,
        "fill": 1,
        "above_one": 0,
        "duplicate_same": 0,
        "duplicate_conflicting": 0,
        "outside_period": 0,
        "flag": 1,
        "other_units": 0,
        "out_of_order": 0,
    }
    assert found.report["removed_by_flag"] == found.report["removed_by_flag_of_network"]["NET"] == {"D01": 1}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\n\r"])
def test_every_line_ending_that_ismn_has_shipped(tmp_path, ending):
    text = (header() + BODY).replace("\n", ending)
    archive = write_zip(tmp_path / "a.zip", {stm_name(): text.encode()})
    assert open_insitu([archive], flags="all").readings["soil_moisture"].tolist() == [
        np.float32(v) for v in (0.2, 0.21, 0.25)
    ]


@pytest.mark.parametrize(
    ("station", "named"), [("Adams_Ranch_#1", "AdamsRanch#1"), ("a-b", "a-b"), ("Montrose 11 ENE", "Montrose-11-ENE")]
)
@pytest.mark.parametrize("form", ["header_values", "ceop_sep"])
def test_odd_names(tmp_path, station, named, form):
    name = stm_name(named, instrument="Hydra_probe_(2.5-Volt)")
    text = (
        header(station, instrument="Hydra probe_(2.5-Volt)") + BODY
        if form == "header_values"
        else ceop(station=station)
    )
    archive = write_zip(tmp_path / "a.zip", {f"deep/er/{name}": text})
    (row,) = index_archive(archive).to_dict("records")
    assert row["station"] == station
    assert row["sensor_id"] == f"NET__{station}__Hydra-probe-(2.5-Volt)__0.0500-0.0500"
    assert len(open_insitu([archive], flags="all").readings) == 3


def test_unusual_lines_are_read_exactly_as_usual_ones(tmp_path):
    body = (
        "2019/01/01 00:00    0.2000 G M \n2019/01/01 01:00\t0.21\tD04,D05\tM\n\n   \n2019/1/1 2:00 2.2e-1 G\n"
        "2019/01/01  03:00:00   .23 U     \n2019/01/01 04:00 nan M M\n2019/01/01 05:00 0.24 G Out of WFV range,OK,OK\n"
    )
    found = one(tmp_path, body).readings
    assert found["time"].dt.hour.tolist() == [0, 1, 2, 3, 5]
    assert found["soil_moisture"].tolist() == [np.float32(v) for v in (0.2, 0.21, 0.22, 0.23, 0.24)]
    assert found["flag"].tolist() == ["G", "D04,D05", "G", "U", "G"]
    assert found["provider_flag"].tolist() == ["M", "M", "", "", "Out of WFV range,OK,OK"]


def test_long_files_against_pandas():
    rng = np.random.default_rng(4)
    time = pd.date_range("1952-01-01", periods=70_000, freq="7h")
    value, flag = rng.integers(0, 9999, time.size) / 10000, rng.choice(["G", "D01,D03", "C02"], time.size)
    text = header() + "".join(f"{t:%Y/%m/%d %H:%M} {v:.4f} {f} M\n" for t, v, f in zip(time, value, flag, strict=True))
    name = stm_name()
    series = parse_stm(name, text.encode(), LostLines(), parse_header(name, text[:500].encode()))
    np.testing.assert_array_equal(series["time"].to_numpy(), time.to_numpy("datetime64[ns]"))
    np.testing.assert_array_equal(series["value"].to_numpy(), value.astype("float32"))
    assert series["flag"].to_pylist() == flag.tolist()


def test_duplicates_and_order_are_counted(tmp_path):
    body = (
        "2019/01/01 02:00 0.22 G M\n2019/01/01 00:00 0.20 G M\n2019/01/01 01:00 0.21 G M\n2019/01/01 01:00 0.21 G M\n"
        "2019/01/01 02:00 0.99 G M\n2019/01/01 00:00 -9999 M M\n2019/01/01 03:00 1.5 C02 M\n"
    )
    found = one(tmp_path, body)
    assert found.readings["soil_moisture"].tolist() == [np.float32(v) for v in (0.20, 0.21, 0.22)]
    counts = found.report["readings"]
    assert counts["out_of_order"] == 3
    assert (counts["duplicate_same"], counts["duplicate_conflicting"], counts["fill"], counts["above_one"]) == (
        1,
        1,
        1,
        1,
    )
    assert counts["read"] == 7


def test_readings_add_up(tmp_path):
    found = one(tmp_path, BODY, flags="paper", start="2019-01-01 01:00", end="2019-01-01").report["readings"]
    assert found["read"] == sum(found[k] for k in found if k not in ("read", "out_of_order")) == 4
    assert (found["outside_period"], found["kept"], found["flag"], found["fill"]) == (1, 1, 1, 1)
    with pytest.raises(ParameterError, match="ends before it starts"):
        one(tmp_path, BODY, start="2020-01-01", end="2019-01-01")


def test_depth_and_variable_are_policies_and_are_counted(tmp_path):
    members = {
        stm_name("A", depth=(0.0508, 0.0508)): header("A", depth=(0.05, 0.05)) + BODY,
        stm_name("A", depth=(0.1, 0.1)): header("A", depth=(0.1, 0.1)) + BODY,
        stm_name("B", depth=(0.0, 0.19)): ceop(station="B", depth=(0.0, 0.19)),
        stm_name("B", variable="ts"): header("B") + "2019/01/01 00:00 -3.5 G M\n",
    }
    archive = write_zip(tmp_path / "a.zip", members)
    found = open_insitu([archive], catalog_id="x", flags="all")
    assert found.sensors["depth_from"].tolist() == [0.0508]
    assert found.report["removed_by_depth"] == {"0-0.19 m": 4, "0.1-0.1 m": 4}
    assert found.report["sensors"] == {"in_source": 4, "kept": 1, "outside_depth": 2, "other_variable": 1}
    assert len(open_insitu([archive], catalog_id="x", flags="all", depth=None).sensors) == 3
    temperature = open_insitu([archive], catalog_id="x", variable="soil_temperature")
    assert temperature.readings["soil_temperature"].tolist() == [-3.5]
    assert temperature.sensors["sensor_id"].tolist() == ["NET__B__EC5__0.0500-0.0500__soil_temperature"]
    with pytest.raises(ParameterError, match=r"unknown 'variable'; got 'rain'.*'precipitation'"):
        open_insitu([archive], catalog_id="x", variable="rain")


def test_files_of_one_sensor_are_joined(tmp_path):
    later = "2019/01/01 03:00 0.25 D01 M\n2019/01/01 04:00 0.26 G M\n"
    members = {f"2019/{stm_name()}": header() + BODY, f"2020/{stm_name()}": ceop(later)}
    found = open_insitu([write_folder(tmp_path / "a", members)], catalog_id="x", flags="all")
    assert found.readings["time"].dt.hour.tolist() == [0, 1, 3, 4]
    assert found.report["readings"]["duplicate_same"] == 1
    assert found.sensors["file"].item().count("|") == 1
    assert found.report["files_of_format"] == {"ceop_sep": 1, "header_values": 1}  # mixed in one archive


def test_loose_files_with_their_static_variables(tmp_path):
    members = {
        stm_name("A"): header("A") + BODY,
        stm_name("B"): header("B") + BODY,
        "NET/A/NET_NET_A_static_variables.csv": STATIC,
    }
    folder = write_folder(tmp_path / "a", members)
    paths = [path for path in folder.rglob("*") if path.is_file() and "B" not in path.name]
    found = open_insitu(paths, catalog_id="x")
    assert found.sensors[["station", "climate_KG"]].values.tolist() == [["A", "Cfa"]]


def test_the_best_layer_is_chosen_as_the_ismn_package_does():
    layers = [[0.0, 0.3, 1.0], [0.3, 1.0, 2.0], [0.05, 0.05, 3.0], [-99.9, -99.9, 4.0]]
    expected = {
        (0.05, 0.05): 3.0,
        (0.0, 0.05): 1.0,
        (0.0, 0.3): 1.0,
        (0.3, 0.3): 1.0,
        (0.2, 0.9): 2.0,
        (0.0, 0.04): 1.0,
    }
    for depth, value in expected.items():
        assert static_variables({"x": layers}, *depth) == {"x": value}
    assert static_variables({"x": layers}, 1.5, 2.0) == {}


# --- the tables on disk -----------------------------------------------------------------------------------------------


def test_ingest_writes_what_open_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_ROWS_A_GROUP", 5)
    members = {stm_name(s): header(s, lat=40 + i) + BODY for i, s in enumerate("ABCDE")}
    archive = write_zip(tmp_path / "a.zip", members)
    seen = []
    report = write_tables(
        archive,
        tmp_path / "out",
        flags="all",
        catalog_id="ismn_archive",
        synthetic=True,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (5, 5)
    assert read_json(tmp_path / "out" / "ingest_report.json", RootModel[dict], "a report").root == report
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "ingest_report.json",
        "readings.parquet",
        "sensors.parquet",
    ]
    assert pq.ParquetFile(tmp_path / "out" / "readings.parquet").num_row_groups == 3
    opened = open_insitu([archive], catalog_id="ismn_archive", flags="all", synthetic=True)
    stored = read_tables(tmp_path / "out").check()
    assert (stored.catalog_id, stored.synthetic) == ("ismn_archive", True)
    pd.testing.assert_frame_equal(
        stored.readings.astype({"time": "datetime64[ns]"}), opened.readings, check_categorical=False
    )
    assert stored.sensors["n_readings"].tolist() == [3] * 5
    assert stored.sensors["last_reading"].iloc[0] == pd.Timestamp("2019-01-01 03:00")
    some = read_tables(tmp_path / "out", ["NET__B__EC5__0.0500-0.0500"])
    assert len(some.readings) == 3
    assert some.sensors["station"].tolist() == ["B"]
    with pytest.raises(ParameterError, match="no such sensor"):
        read_tables(tmp_path / "out", ["B"])
    with pytest.raises(CatalogError, match="no such file"):
        read_tables(tmp_path)
    sound = pd.read_parquet(tmp_path / "out" / "sensors.parquet")
    for odd, said in (
        (7, "'last_reading' of sensors.parquet is no time"),
        (np.datetime64("9999-01-01", "s"), "OutOfBounds"),
    ):
        sound.assign(last_reading=odd).to_parquet(tmp_path / "out" / "sensors.parquet")
        with pytest.raises(FormatError, match=said):
            read_tables(tmp_path / "out")
    sound.to_parquet(tmp_path / "out" / "sensors.parquet")
    (tmp_path / "out" / "readings.parquet").write_bytes(b"PAR1")
    with pytest.raises(FormatError, match="is damaged"):
        read_tables(tmp_path / "out")


def test_a_killed_ingest_leaves_the_old_tables_or_the_new_ones(tmp_path):
    """Killed while the first table is written, then after each of the renames."""
    archive = write_zip(tmp_path / "a.zip", {stm_name(s): header(s, lat=40 + i) + BODY for i, s in enumerate("AB")})
    expected = {}
    for flags in ("all", "paper"):
        write_tables(archive, tmp_path / flags, flags=flags)
        expected[flags] = {one.name: one.read_bytes() for one in (tmp_path / flags).iterdir()}
    assert expected["all"]["readings.parquet"] != expected["paper"]["readings.parquet"]
    code = (
        "import os, sys; from pathlib import Path; from smnb.loaders.insitu import tables, write_tables\n"
        "seen, real = [], Path.replace\n"
        "def replace(self, target):\n"
        "    if '.complete' in str(self):\n"
        "        if len(seen) == int(sys.argv[3]): os._exit(9)\n"
        "        seen.append(target)\n"
        "    return real(self, target)\n"
        "Path.replace = replace\n"
        "if sys.argv[3] == '-1': tables.sensor_frame = lambda rows: os._exit(9)\n"
        "write_tables(sys.argv[1], sys.argv[2], flags='paper')"
    )
    for kill, left in ((-1, "all"), (0, "paper"), (1, "paper"), (2, "paper")):
        out = tmp_path / f"out{kill}"
        write_tables(archive, out, flags="all")
        command = [sys.executable, "-c", code, str(archive), str(out), str(kill)]
        assert subprocess.run(command, cwd=Path(__file__).parents[1]).returncode == 9
        read_tables(out).check()
        there = {one.name: one.read_bytes() for one in out.iterdir() if not one.name.startswith(".")}
        assert there == expected[left]
        write_tables(archive, out, flags="paper")
        assert {one.name: one.read_bytes() for one in out.iterdir()} == expected["paper"]


def test_an_ingest_is_made_by_one_process(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {stm_name(): header() + BODY})
    with (
        held_output("first", tmp_path / "out" / "readings.parquet"),
        pytest.raises(RunError, match="ingest: another process is writing this output: process"),
    ):
        write_tables(archive, tmp_path / "out", flags="all")


def test_a_failed_ingest_leaves_nothing(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {stm_name(): header() + BODY.replace(" G M", " D01 M")})
    with pytest.raises(ContractError, match=r"no reading is left.*'D01': 2"):  # every reading is flagged
        write_tables(archive, tmp_path / "out", flags="strict")
    assert not any((tmp_path / "out").glob("*"))


def test_a_sensor_of_which_every_reading_is_flagged_is_reported(tmp_path):
    members = {
        stm_name("A"): header("A") + BODY,
        stm_name("B"): header("B") + BODY.replace(" G ", " U ").replace("C", "D"),
        stm_name("C"): header("C"),
    }
    found = open_insitu([write_zip(tmp_path / "a.zip", members)], catalog_id="x")
    assert found.sensors["station"].tolist() == ["A"]
    assert found.report["sensors_without_readings"] == ["NET__B__EC5__0.0500-0.0500", "NET__C__EC5__0.0500-0.0500"]
    assert found.report["removed_by_flag_string"] == {"D01": 2, "D03,D02": 1, "U": 1}


def test_the_contract_of_the_tables():
    sensors = pd.DataFrame({"sensor_id": ["a", "b"]})
    time = pd.to_datetime(["2019-01-01", "2019-01-02", "2019-01-01"])
    readings = pd.DataFrame({"sensor_id": ["a", "a", "b"], "time": time})
    tables.InSituTables(sensors, readings).check()
    for ids, message in [
        (["a", "b", "a"], "not together"),
        (["a", "a", "c"], "no known sensor"),
        (["a"] * 3, "times not"),
    ]:
        with pytest.raises(ContractError, match=message):
            tables.InSituTables(sensors, readings.assign(sensor_id=ids)).check()
    with pytest.raises(ContractError, match="occurs twice"):
        tables.InSituTables(sensors.assign(sensor_id="a"), readings).check()
    with pytest.raises(ContractError, match="without a zone"):
        tables.InSituTables(sensors, readings.assign(time=time.tz_localize("UTC"))).check()


# --- the index --------------------------------------------------------------------------------------------------------


def test_the_index_reads_only_what_changed(tmp_path, monkeypatch):
    read = []
    original = Archive.read
    monkeypatch.setattr(Archive, "read", lambda self, name, size=-1: read.append(name) or original(self, name, size))
    members = {stm_name(s): header(s) + BODY for s in "ABC"} | {"NET/A/NET_NET_A_static_variables.csv": STATIC}
    members[stm_name("D")] = "no numbers\n"
    folder, cache = write_folder(tmp_path / "a", members), tmp_path / "cache"
    first = index_archive(folder, cache)
    assert len(read) == 5
    read.clear()
    again = index_archive(folder, cache)
    assert read == []
    pd.testing.assert_frame_equal(first, again)
    assert again.attrs["problems"] == first.attrs["problems"]
    assert len(again.attrs["problems"]["damaged_files"]) == 1
    (folder / stm_name("B")).write_text(header("B", lat=41.5) + BODY)
    (folder / stm_name("C")).unlink()
    changed = index_archive(folder, cache)
    assert read == [stm_name("B")]
    assert changed[["station", "lat"]].values.tolist() == [["A", 40.0], ["B", 41.5]]
    pd.testing.assert_frame_equal(changed, index_archive(folder))
    (cached,) = cache.iterdir()
    cached.write_text("{half")
    pd.testing.assert_frame_equal(changed, index_archive(folder, cache))


def test_a_killed_index_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_FLUSH_EVERY", 2)
    archive = write_zip(tmp_path / "a.zip", {stm_name(s): header(s) + BODY for s in "ABCDE"})
    seen, original = [], index.parse_header

    def dies_at_the_fourth(name, head):
        seen.append(name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return original(name, head)

    monkeypatch.setattr(index, "parse_header", dies_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        index_archive(archive, tmp_path / "cache")
    seen.clear()
    monkeypatch.setattr(index, "parse_header", lambda name, head: seen.append(name) or original(name, head))
    assert len(index_archive(archive, tmp_path / "cache")) == 5
    assert seen == [stm_name(s) for s in "CDE"]  # A and B were kept before the kill


# --- bad input --------------------------------------------------------------------------------------------------------

GOOD = {stm_name("Good"): header("Good") + BODY}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (header() + BODY.replace(":00 ", ":00Z "), "line 2: the time has a zone, 'Z'"),
        (header() + BODY.replace("0.2", "0,2").replace("-9999", "-"), "line 2: no value and flag"),
        (header() + "\0" * 60 + "\n", "line 2: it does not start with a time"),
        (BODY, "the first line has no numbers where coordinates"),
        ("NET NET A forty minus-hundred 300 0.05 0.05 EC5\n" + BODY, "the first line has no numbers"),
        (header(lat=140) + BODY, "the coordinates are out of range; got (140.0, -100.0)"),
        (header(depth=(0.2, 0.2)) + BODY, "the depths in the name and inside contradict"),
        ("", "the file is empty"),
        ("\r\n \n", "the file is empty"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_kept(tmp_path, text, reason):
    found = open_insitu([write_zip(tmp_path / "a.zip", {**GOOD, stm_name(): text})], catalog_id="x", flags="all")
    assert found.sensors["station"].tolist() == ["Good"]
    assert len(found.readings) == 3
    assert stm_name() in reasons(found.report)
    assert reason in reasons(found.report)


@pytest.mark.parametrize(
    ("text", "lines", "hours", "reason"),
    [
        (header() + BODY[:-6], 1, [0, 1], "line 5: the file is cut short"),
        (header() + BODY + "2019/01/01 04", 1, [0, 1, 3], "line 6: the file is cut short"),
        (ceop()[:-20], 1, [0, 1], "line 4: the file is cut short"),
        (header() + BODY + "2019/01/01 04\n", 1, [0, 1, 3], "line 6: it does not start with a time"),
        (header() + "2019/01/01 04:00 0.2\n" + BODY, 1, [0, 1, 3], "line 2: no value and flag"),
        (header() + BODY + "2019/01/01 04:00 wet G M\n" * 3, 3, [0, 1, 3], "line 6: no value and flag"),
        (header() + BODY + "2019/02/29 04:00 0.2 G M\n", 1, [0, 1, 3], "line 6: no such time; got '2019/02/29 04:00'"),
        (header() + BODY + "2019/02/27 24:00 0.2 G M\n", 1, [0, 1, 3], "line 6: no such time"),
        (header() + BODY + "0019/02/27 23:00 0.2 G M\n", 1, [0, 1, 3], "line 6: no such time"),
        (header() + BODY + "2019/2/30 1:00 0.2 G M\n", 1, [0, 1, 3], "line 6: no such time"),
        (header() + BODY + "2019/01/01 0x:00 0.2 G M\n", 1, [0, 1, 3], "line 6: it does not start with a time"),
        (header() + BODY + "2019/01/01 04:00+02:00 0.2 G M\n", 1, [0, 1, 3], "the time has a zone, '+02:00'"),
        (header() + BODY + "2019/01/01 04:00 CET 0.2 G M\n", 1, [0, 1, 3], "line 6: no value and flag"),
        (header() + BODY + "2019/01/01 04:00 0.2 G M\0\0\n", 1, [0, 1, 3], "line 6: no value and flag"),
        (header() + "\0" * 28 + "\n" + BODY, 1, [0, 1, 3], "line 2: it does not start with a time"),
        ("\0" * 28 + "\n" + header() + BODY, 1, [0, 1, 3], "line 1: it is before the line that says the place"),
        ("\0" * 28 + "\n" + ceop(), 1, [0, 1, 3], "line 1: it is before the line that says the place"),
        (ceop(BODY[:28]) + ceop(BODY[28:], lat=41.0), 3, [0], "line 2: no station and place, or others"),
    ],
)
def test_a_bad_line_costs_that_line(tmp_path, text, lines, hours, reason):
    archive = write_zip(tmp_path / "a.zip", {stm_name(): text})
    found = open_insitu([archive], flags="all")
    assert found.readings["time"].dt.hour.tolist() == hours
    assert found.report["damaged_files"] == []
    (lost,) = found.report["lost_lines"]
    assert (lost["file"], lost["lines"]) == (stm_name(), lines)
    assert reason in lost["reason"]
    result = CliRunner().invoke(app, ["ingest", str(archive), "--out", str(tmp_path / "out"), "--flags", "all"])
    assert f"lost {lines} lines of {stm_name()}" in result.output
    assert f"lines lost: {lines}" in result.output


@pytest.mark.parametrize("height", ["NaN", "nan", "None", "-", "N/A", "-9999.00", "-999", "-99.90", "99999", ""])
def test_a_missing_elevation_does_not_cost_the_station(tmp_path, height):
    text = header().replace("  300.00", f"  {height}")
    found = open_insitu([write_zip(tmp_path / "a.zip", {stm_name(): text + BODY})], flags="all")
    assert len(found.readings) == 3
    assert found.sensors["elevation"].isna().tolist() == [True]
    assert found.sensors[["lat", "lon", "instrument"]].values.tolist() == [[40.0, -100.0, "EC5"]]
    if height:
        words = ceop().replace("  300.00", f"  {height}")
        found = open_insitu([write_zip(tmp_path / "b.zip", {stm_name(): words})], flags="all")
        assert (len(found.readings), found.sensors["elevation"].isna().item()) == (3, True)


def test_an_elevation_below_the_sea_is_kept(tmp_path):
    text = header().replace("  300.00", " -86.00") + BODY
    assert open_insitu([write_zip(tmp_path / "a.zip", {stm_name(): text})]).sensors["elevation"].tolist() == [-86.0]


@pytest.mark.parametrize("fill", [-1, -99, -99.9, -999, -999.9, -6999, -9999, "nan", -0.99])
def test_fills_are_no_readings_whatever_their_flag(tmp_path, fill):
    body = f"2019/01/01 00:00 0.2 G M\n2019/01/01 01:00 {fill} C01 M\n2019/01/01 02:00 -0.012 C01 M\n"
    found = one(tmp_path, body)
    assert found.readings["soil_moisture"].tolist() == [np.float32(0.2), np.float32(-0.012)]
    assert found.report["readings"]["fill"] == 1


def test_fills_of_temperature(tmp_path):
    body = "2019/01/01 00:00 -45.0 G M\n2019/01/01 01:00 -99.9 G M\n2019/01/01 02:00 -999 G M\n"
    archive = write_zip(tmp_path / "a.zip", {stm_name(variable="ts"): header() + body})
    assert open_insitu([archive], variable="soil_temperature").readings["soil_temperature"].tolist() == [-45.0]


@pytest.mark.parametrize(
    ("first", "second", "flags", "kept"),
    [
        ("0.30 D01", "0.20 G", "all", 0.20),
        ("0.20 G", "0.30 D01", "all", 0.20),
        ("0.30 D01", "0.70 C02", "paper", 0.70),
        ("0.30 D01,D03", "0.20 U", "all", 0.20),
        ("0.70 C02", "0.20 G", "paper", 0.20),
        ("0.30 U", "0.20 D01", "G D01", 0.20),
        ("0.30 G", "0.20 G", "all", 0.30),
    ],
)
def test_of_two_readings_at_one_time_the_better_flag_wins(tmp_path, first, second, flags, kept):
    body = f"2019/01/01 01:00 {first} M\n2019/01/01 00:00 0.1 G M\n2019/01/01 01:00 {second} M\n"
    found = one(tmp_path, body, flags=flags)
    assert found.readings["soil_moisture"].tolist() == [np.float32(0.1), np.float32(kept)]
    assert found.report["readings"]["duplicate_conflicting"] == 1
    assert found.report["readings"]["flag"] == 0


def test_the_better_flag_wins_across_files(tmp_path):
    members = {f"1/{stm_name()}": header() + "2019/01/01 00:00 0.3 D05 M\n"}
    members[f"2/{stm_name()}"] = header() + "2019/01/01 00:00 0.2 G M\n"
    found = open_insitu([write_zip(tmp_path / "a.zip", members)])
    assert found.readings["soil_moisture"].tolist() == [np.float32(0.2)]


def test_a_damaged_member_of_a_zip(tmp_path):
    rng = np.random.default_rng(1)
    body = "".join(f"2019/01/01 {h:02}:00 {v:.4f} G M\n" for h, v in enumerate(rng.random(24)))
    archive = write_zip(tmp_path / "a.zip", {**GOOD, stm_name("Bad"): header("Bad") + body})
    with zipfile.ZipFile(archive) as file:
        info = file.getinfo(stm_name("Bad"))
    raw = bytearray(archive.read_bytes())
    raw[info.header_offset + 30 + len(info.filename) + info.compress_size - 8] ^= 0xFF
    archive.write_bytes(raw)
    found = open_insitu([archive], catalog_id="x")
    assert found.sensors["station"].tolist() == ["Good"]
    assert f"{stm_name('Bad')}: the file is damaged" in reasons(found.report)


def test_a_zip_that_is_cut_short(tmp_path):
    archive = write_zip(tmp_path / "a.zip", GOOD)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(FormatError, match=r"a\.zip is no zip, or one cut short"):
        index_archive(archive)
    with pytest.raises(CatalogError, match="no such file or folder"):
        index_archive(tmp_path / "b.zip")


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.stm",
        "/etc/NET_NET_A_sm_0.05_0.05_x_20190101_20200101.stm",
        "..\\evil.stm",
        "NET/../../evil.stm",
        "C:\\evil.stm",
    ],
)
def test_a_path_that_climbs_out_is_refused_by_name(tmp_path, name):
    found = open_insitu([write_zip(tmp_path / "a.zip", {**GOOD, name: header() + BODY})], catalog_id="x")
    assert found.sensors["station"].tolist() == ["Good"]
    assert found.report["refused_files"] == [{"file": name, "reason": "its path climbs out of the archive"}]
    with Archive(tmp_path / "a.zip") as archive:
        assert name not in archive.keys


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_occurs_twice_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", GOOD)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(stm_name("Good"), "another")
    assert index_archive(archive).attrs["problems"]["refused_files"][0]["reason"].startswith("the name occurs twice")


def hours(values) -> str:
    return "".join(f"2019/01/01 {h:02}:00 {value} G M\n" for h, value in enumerate(values))


def test_a_sensor_in_percent_is_converted_and_named(tmp_path):
    values = [20.53 + h for h in range(10)]
    members = {**GOOD, stm_name(): header() + hours([*values, -99.9, -9999])}
    found = open_insitu([write_zip(tmp_path / "a.zip", members)], flags="all")
    assert found.sensors["station"].tolist() == ["A", "Good"]
    assert found.readings["soil_moisture"].tolist()[:10] == [np.float32(round(v / 100, 6)) for v in values]
    assert found.report["readings"]["fill"] == 3
    (note,) = found.report["converted"]
    assert (note["sensor_id"], note["readings"]) == ("NET__A__EC5__0.0500-0.0500", 12)
    assert note["reason"] == "percent (median 25, 20.5 to 29.5), divided by 100"
    result = CliRunner().invoke(app, ["ingest", str(tmp_path / "a.zip"), "--out", str(tmp_path / "out")])
    assert "converted NET__A__EC5__0.0500-0.0500, 12 readings: percent" in result.output


def test_a_temperature_in_a_file_of_moisture_is_not_taken_for_percent(tmp_path):
    def days(value) -> str:
        times = ((d, h) for d in range(1, 9) for h in range(24))
        return "".join(f"2019/06/{d:02} {h:02}:00 {value(d, h):.2f} G M\n" for d, h in times)

    warm = days(lambda d, h: 20 + 0.3 * d + 6 * np.sin(2 * np.pi * (h - 9) / 24))
    wet = days(lambda d, h: 30 - 0.8 * d + 0.4 * np.sin(2 * np.pi * (h - 9) / 24))  # a sensor feels the warmth a little
    members = {**GOOD, stm_name("A"): header("A") + warm, stm_name("B"): header("B") + wet}
    found = open_insitu([write_zip(tmp_path / "a.zip", members)], flags="all")
    assert found.sensors["station"].tolist() == ["B", "Good"]
    (left,) = found.report["left_out"]
    assert (left["sensor_id"].split("__")[1], left["readings"]) == ("A", 192)
    assert "daily course as temperatures have" in left["reason"]
    assert [one["sensor_id"].split("__")[1] for one in found.report["converted"]] == ["B"]


def test_only_the_file_of_a_sensor_that_is_in_percent_is_converted(tmp_path):
    members = {f"1/{stm_name()}": header() + hours([25.0] * 10)}
    members[f"2/{stm_name()}"] = header() + BODY.replace("2019/", "2020/")
    found = open_insitu([write_zip(tmp_path / "a.zip", members)], flags="all")
    assert found.readings["soil_moisture"].tolist() == [0.25] * 10 + [np.float32(v) for v in (0.2, 0.21, 0.25)]


@pytest.mark.parametrize(
    "values",
    [
        [200.0 + h for h in range(12)],  # mm
        [-5.0 + 2 * h for h in range(12)],  # degrees
        [0.9, *[1.5] * 11],  # a broken probe
        [0.2, 0.3, 0.25, 25.0, 26.0, 27.0, 24.0, 23.0],  # units changed half way
        [25.0, 26.0],  # too few to tell
    ],
)
def test_a_sensor_in_other_units_is_left_out_by_name(tmp_path, values):
    members = {**GOOD, stm_name(): header() + hours(values)}
    found = open_insitu([write_zip(tmp_path / "a.zip", members)])
    assert found.sensors["station"].tolist() == ["Good"]
    (note,) = found.report["left_out"]
    assert (note["sensor_id"], note["readings"]) == ("NET__A__EC5__0.0500-0.0500", len(values))
    assert "no volumetric soil moisture" in note["reason"]
    counts = found.report["readings"]
    assert counts["read"] == sum(counts[k] for k in counts if k not in ("read", "out_of_order"))
    assert counts["other_units"] == len(values)
    alone = write_zip(tmp_path / "b.zip", {stm_name(): header() + hours(values)})
    with pytest.raises(ContractError, match=r"no reading is left: NET/A/.*no volumetric soil moisture; got 'median"):
        write_tables(alone, tmp_path / "out")
    assert not (tmp_path / "out" / "readings.parquet").exists()


def test_fills_above_one_make_no_percent(tmp_path):
    found = one(tmp_path, hours([9999.0] * 8 + [0.2, 0.3]))
    assert found.readings["soil_moisture"].tolist() == [np.float32(0.2), np.float32(0.3)]
    assert found.report["readings"]["above_one"] == 8


@pytest.mark.parametrize(
    ("body", "name", "options", "reason"),
    [
        (hours([-9999] * 3), stm_name(), {}, "all are fill values"),
        (BODY.replace(" G ", " D05 "), stm_name(), {"flags": "strict"}, "all are removed by flags: {'"),
        (BODY, stm_name(), {"start": "2021-01-01"}, "all lie outside the period"),
        (BODY, stm_name(variable="ts"), {}, "no sensor measures soil_moisture, but ['soil_temperature']"),
        (BODY, stm_name(depth=(0.2, 0.2)), {}, "every sensor lies at another depth: ['0.2-0.2 m']"),
        ("", stm_name(), {}, "the files hold no lines of data"),
        (BODY.replace(" 0", " x0").replace("-9999", "?"), stm_name(), {}, "1 damaged files, first NET/A/"),
    ],
)
def test_if_nothing_is_left_the_error_says_why(tmp_path, body, name, options, reason):
    top = header(depth=(0.2, 0.2) if "0.200000" in name else (0.05, 0.05))
    with pytest.raises(ContractError) as caught:
        open_insitu([write_zip(tmp_path / "a.zip", {name: top + body})], **options)
    assert f"no reading is left: {reason}" in str(caught.value)


def test_a_station_twice_with_other_coordinates(tmp_path):
    near = {
        stm_name("A"): header("A") + BODY,
        stm_name("A", instrument="X"): header("A", lat=40.05, instrument="X") + BODY,
    }
    found = open_insitu([write_zip(tmp_path / "a.zip", near)], catalog_id="x")
    (moved,) = found.report["stations_with_other_coordinates"]
    assert (moved["network"], moved["station"], len(moved["sensors"])) == ("NET", "A", 2)
    assert moved["km"] == pytest.approx(5.56, abs=0.01)
    far = {f"1/{stm_name('A')}": header("A") + BODY, f"2/{stm_name('A')}": header("A", lat=40.05) + BODY}
    found = open_insitu([write_zip(tmp_path / "b.zip", far | GOOD)], catalog_id="x")
    assert found.sensors[["station", "lat", "n_readings"]].values.tolist() == [["A", 40.0, 2], ["Good", 40.0, 2]]
    (note,) = found.report["left_out"]
    assert (note["file"], note["readings"]) == (f"2/{stm_name('A')}", 4)
    assert "sensor NET__A__EC5__0.0500-0.0500 is 5.6 km from where another file has it" in note["reason"]
    assert index_archive(tmp_path / "b.zip").attrs["problems"]["left_out"] == [note]
    most = {**far, f"3/{stm_name('A')}": header("A", lat=40.05) + BODY.replace("2019/", "2020/")}
    found = open_insitu([write_zip(tmp_path / "c.zip", most)], catalog_id="x")  # two of three files agree
    assert found.sensors[["lat", "n_readings"]].values.tolist() == [[40.05, 4]]
    assert [one["file"] for one in found.report["left_out"]] == [f"1/{stm_name('A')}"]


def test_empty_networks_and_empty_archives(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {**GOOD, "EMPTY/": "", "OTHER/St/readme.txt": "x", "Readme.txt": "x"})
    assert index_archive(archive).attrs["problems"]["networks_without_sensors"] == ["EMPTY", "OTHER"]
    with pytest.raises(FormatError, match="holds no data file"):
        index_archive(write_zip(tmp_path / "b.zip", {"Readme.txt": "x"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="holds no data file"):
        open_insitu([tmp_path / "empty"], catalog_id="x")
    with pytest.raises(FormatError, match=r"no data file of c\.zip is readable.*first line has no numbers"):
        index_archive(write_zip(tmp_path / "c.zip", {stm_name(): BODY}))
    with pytest.raises(CatalogError, match="no file was given"):
        open_insitu([], catalog_id="x")
    with pytest.raises(FormatError, match="name is not of ISMN's form"):
        parse_header("NET/A/data.stm", (header() + BODY).encode())


def test_an_odd_static_variable_costs_that_variable(tmp_path):
    for content, lines, reason, clay in [
        (STATIC.replace("clay fraction;% weight", "clay fraction;g/kg"), 2, "other units", np.nan),
        (STATIC.replace("23.00", "much"), 1, "not a number", np.nan),
        (STATIC.replace("23.00", "230.00"), 1, "'clay fraction' is out of range", np.nan),
        (STATIC.replace("130;Grass", "grass;Grass"), 1, "not a number", 0.23),
        (STATIC + "clay fraction;%\n", 1, "too few fields", 0.23),
    ]:
        archive = write_zip(tmp_path / "a.zip", {**GOOD, "NET/Good/NET_NET_Good_static_variables.csv": content})
        for cache in (None, tmp_path / "cache", tmp_path / "cache"):
            found = open_insitu([archive], catalog_id="x", cache_dir=cache)
            (lost,) = found.report["lost_lines"]
            assert (lost["lines"], lost["file"]) == (lines, "NET/Good/NET_NET_Good_static_variables.csv")
            assert reason in lost["reason"]
            assert found.sensors["climate_KG"].tolist() == ["Cfa"]
            np.testing.assert_equal(found.sensors["clay_fraction"].item(), clay)
            assert len(found.readings) == 2
    fills = STATIC.replace("23.00", "-9999").replace("130;Grass", "-9999;Grass")
    found = open_insitu([write_zip(tmp_path / "b.zip", {**GOOD, "NET/Good/NET_NET_Good_static_variables.csv": fills})])
    assert (found.report["lost_lines"], found.sensors["lc_2010"].isna().item()) == ([], True)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {**GOOD, stm_name(): BODY})
    command = ["ingest", str(archive), "--out", str(tmp_path / "out"), "--flags", "strict", "--depth", "0", "0.051"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "1 sensors, 1 of 4 readings" in result.output
    assert "with flag D01: 1" in result.output
    assert f"skipped {stm_name()}" in result.output
    assert pd.read_parquet(tmp_path / "out" / "readings.parquet").columns[:4].tolist() == [
        "sensor_id",
        "time",
        "soil_moisture",
        "flag",
    ]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(result.stdout)["readings"]["kept"] == 1


# --- the package ismn, on real archives -------------------------------------------------------------------------------

REAL = {
    "ismn_formats/zip_archives/ceop/Data_seperate_files_20170810_20180809.zip": 1,
    "ismn_formats/zip_archives/header/Data_seperate_files_header_20170810_20180809.zip": 1,
    "ismn_formats/zip_archives/multinetwork/header_values/Data_header_values.zip": 1,
    "ismn_formats/zip_archives/format_header_values/Data_SMOSMANIA.zip": 1,
    "ismn_formats/format_ceop_sep": 1,
    "ismn_formats/format_header_values": 1,
    "hawaii_timeseries/ISMN_TESTDATA_HAWAII.zip": 4,
    "conus_s1s2smap_2019_2021/ismn_sm_5cm_2019_2021.zip": 20,
}


def equal(ours, theirs) -> bool:
    ours, theirs = (np.nan if one is None or one == "unknown" else one for one in (ours, theirs))
    if isinstance(ours, str) or isinstance(theirs, str):
        return ours == theirs
    return bool((pd.isna(ours) and pd.isna(theirs)) or np.isclose(float(ours), float(theirs), rtol=1e-9))


def explained(name: str, row: dict, ours, theirs) -> bool:
    """The differences from `ismn`, each with its reason."""
    folder = PurePosixPath(row["file"]).parts[0]
    return (
        # ismn takes the top folder for the network; an archive packed one folder deeper has another one there
        (name == "network" and theirs == folder and ours in row["file"])
        # ismn takes the file name's station, in which "_" is lost or became "-"; smnb the one inside the file
        or (name == "station" and theirs in (ours.replace("_", "-"), ours.replace("_", "")))
        # likewise the sensor's name, in which blanks and "_" became "-"
        or (name == "instrument" and "-".join(ours.replace("_", " ").split()) == theirs)
        # ismn takes header+values depths from the header, rounded to cm; smnb the file name's 0.0508
        or (name.startswith("depth") and row["format"] == "header_values" and abs(ours - theirs) < 0.0051)
    )


@pytest.mark.parametrize(("path", "step"), REAL.items(), ids=lambda value: str(value).rsplit("/", 1)[-1])
def test_agreement_with_the_ismn_package(shared_samples, tmp_path, path, step):
    pytest.importorskip("ismn", reason="the package ismn, the oracle, is absent")
    from ismn.base import IsmnRoot
    from ismn.filecollection import _read_station_dir

    logging.getLogger("ismn_meta_collector").setLevel(logging.CRITICAL)
    root, compared = IsmnRoot(shared_samples / path), 0
    with Archive(shared_samples / path) as archive:
        report = Report()
        sensors = find_sensors(archive, report)
        assert report.damaged_files == report.refused_files == []
        ours = {part.file: (sensor.row, part) for sensor in sensors for part in sensor.parts}
        folders = sorted({str(PurePosixPath(name).parent) for name in ours})
        for folder in folders[::step]:
            for _, _, file in _read_station_dir(root, folder, tmp_path, None)[0]:
                row, part = ours[str(file.file_path)]
                compare_metadata(row, file)
                compare_readings(part.read(LostLines()), file)
                compared += 1
    root.close()
    assert compared >= max(1, len(ours) // (2 * step))


def compare_metadata(row: dict, file) -> None:
    def theirs(name):
        found = file.metadata[name]
        return None if found is None else found.val

    depth = file.metadata["variable"].depth
    pairs = {"lat": theirs("latitude"), "lon": theirs("longitude"), "depth_from": depth.start, "depth_to": depth.end}
    for name in (
        "network",
        "station",
        "instrument",
        "variable",
        "elevation",
        "climate_KG",
        "climate_insitu",
        "lc_2000",
        "lc_2005",
        "lc_2010",
        "lc_insitu",
        "saturation",
    ):
        pairs[name] = theirs(name)
    for name in ("sand_fraction", "silt_fraction", "clay_fraction", "organic_carbon"):
        pairs[name] = None if theirs(name) is None else theirs(name) / 100  # percent there
    unexplained = {
        name: (row[name], value)
        for name, value in pairs.items()
        if not equal(row[name], value) and not explained(name, row, row[name], value)
    }
    assert unexplained == {}, row["file"]
    assert row["format"] == file.file_type


def compare_readings(series, file) -> None:
    frame = file.read_data()
    np.testing.assert_array_equal(series["time"].to_numpy(), frame.index.to_numpy("datetime64[ns]"))
    np.testing.assert_array_equal(series["value"].to_numpy(), frame.iloc[:, 0].to_numpy("float32"))
    assert series["flag"].to_pylist() == frame.iloc[:, 1].tolist()
    theirs = frame.iloc[:, 2].fillna("").astype(str).tolist()
    # ismn keeps the first word of a provider's flag that is a sentence, smnb all of it
    assert [one.split(" ")[0] for one in series["provider_flag"].to_pylist()] == theirs


def test_the_conus_archive(shared_samples):
    found = index_archive(shared_samples / "conus_s1s2smap_2019_2021" / "ismn_sm_5cm_2019_2021.zip")
    assert found["network"].value_counts().to_dict() == {
        "USCRN": 101,
        "RISMA": 46,
        "ARM": 45,
        "iRON": 12,
        "TxSON": 5,
        "FLUXNET-AMERIFLUX": 1,
    }
    assert found["sensor_id"].is_unique
    assert found[["climate_KG", "lc_2010", "sand_fraction", "saturation"]].notna().all(axis=None)
