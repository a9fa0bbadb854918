"""USCRN text in NOAA's columns (checked against the readme's), and the parsed daily table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from smnb.contract import CatalogError, ContractError, FormatError
from smnb.loaders.insitu import index_archive, open_insitu, write_tables
from smnb.loaders.insitu.uscrn import DEPTHS_CM, FIELDS

#: Columns (first and last, from 1) that the readme files give to some fields.
COLUMNS = {
    "hourly02": {
        "WBANNO": (1, 5),
        "UTC_DATE": (7, 14),
        "UTC_TIME": (16, 19),
        "LST_DATE": (21, 28),
        "LST_TIME": (30, 33),
        "CRX_VN": (35, 40),
        "LONGITUDE": (42, 48),
        "LATITUDE": (50, 56),
        "SUR_TEMP_FLAG": (135, 135),
        "SOIL_MOISTURE_5": (165, 171),
        "SOIL_MOISTURE_100": (197, 203),
        "SOIL_TEMP_5": (205, 211),
        "SOIL_TEMP_100": (237, 243),
    },
    "daily01": {
        "WBANNO": (1, 5),
        "LST_DATE": (7, 14),
        "CRX_VN": (16, 21),
        "LONGITUDE": (23, 29),
        "LATITUDE": (31, 37),
        "SUR_TEMP_DAILY_TYPE": (88, 88),
        "SOIL_MOISTURE_5_DAILY": (138, 144),
        "SOIL_MOISTURE_100_DAILY": (170, 176),
        "SOIL_TEMP_5_DAILY": (178, 184),
        "SOIL_TEMP_100_DAILY": (210, 216),
    },
}
WIDTHS = {
    "hourly02": [5, 8, 4, 8, 4, 6, 7, 7, 7, 7, 7, 7, 7, 6, 1, 6, 1, 6, 1, 1, 7, 1, 7, 1, 7, 1, 5, 1, *[7] * 10],
    "daily01": [5, 8, 6, 7, 7, 7, 7, 7, 7, 7, 8, 1, 7, 7, 7, 7, 7, 7, *[7] * 10],
}


def line(product: str, **values) -> str:
    """One line with every field in its columns; what is not given is missing as NOAA writes it."""
    texts = []
    for name, width in zip(FIELDS[product], WIDTHS[product], strict=True):
        missing = "-99.000" if "SOIL_MOISTURE" in name else "C" if "TYPE" in name else "0" if width == 1 else "-9999.0"
        texts.append(str(values.get(name, missing))[-max(width, 7) :].rjust(width)[-width:])
    return " ".join(texts)


def hourly(when: str, moisture="0.215", temperature="12.3", **values) -> str:
    time = pd.Timestamp(when)
    return line(
        "hourly02",
        WBANNO="53131",
        UTC_DATE=f"{time:%Y%m%d}",
        UTC_TIME=f"{time:%H%M}",
        LST_DATE="20200101",
        LST_TIME="1700",
        CRX_VN="2.514",
        LONGITUDE="-111.17",
        LATITUDE="32.24",
        SOIL_MOISTURE_5=moisture,
        SOIL_TEMP_5=temperature,
        **values,
    )


def daily(day: str, moisture="0.215", temperature="12.3", **values) -> str:
    return line(
        "daily01",
        **{
            "WBANNO": "53131",
            "LST_DATE": day,
            "CRX_VN": "2.514",
            "LONGITUDE": "-111.17",
            "LATITUDE": "32.24",
            "SOIL_MOISTURE_5_DAILY": moisture,
            "SOIL_TEMP_5_DAILY": temperature,
            **values,
        },
    )


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("".join(one + "\n" for one in lines))
    return path


HOURLY, DAILY = "CRNH0203-2020-AZ_Tucson_11_W.txt", "CRND0103-2020-AZ_Tucson_11_W.txt"


@pytest.mark.parametrize("product", COLUMNS)
def test_the_fields_lie_in_the_readmes_columns(product):
    ends = np.cumsum(np.array(WIDTHS[product]) + 1) - 1
    for name, (first, last) in COLUMNS[product].items():
        at = FIELDS[product].index(name)
        assert (ends[at] - WIDTHS[product][at] + 1, ends[at]) == (first, last), name
    assert len(FIELDS[product]) == {"hourly02": 38, "daily01": 28}[product]


def test_hourly(tmp_path):
    path = write(
        tmp_path,
        HOURLY,
        hourly("2020-01-01 01:00"),
        hourly("2020-01-01 02:00", "-99.000"),
        hourly("2020-01-01 03:00", "0.301", "-0.4"),
        hourly("2020-01-02 00:00", "0.655"),
        hourly("2020-01-01 23:00", "-0.011", "-9999.0"),
        hourly("2020-01-02 01:00", "0.610", "-3.0"),
    )
    found = open_insitu([path], catalog_id="uscrn_hourly", flags="all")
    (row,) = found.sensors.to_dict("records")
    assert row["sensor_id"] == "USCRN__AZ_Tucson_11_W__USCRN-hourly02__0.0500-0.0500"
    assert (row["network"], row["lat"], row["lon"], row["depth_from"]) == ("USCRN", 32.24, -111.17, 0.05)
    assert found.readings["time"].astype(str).tolist() == [
        "2020-01-01 01:00:00",
        "2020-01-01 03:00:00",
        "2020-01-01 23:00:00",
        "2020-01-02 00:00:00",
        "2020-01-02 01:00:00",
    ]
    assert found.readings["soil_moisture"].tolist() == [np.float32(v) for v in (0.215, 0.301, -0.011, 0.655, 0.61)]
    assert found.readings["flag"].tolist() == ["G", "D01", "C01", "C02", "C02,D01"]
    assert (found.report["readings"]["fill"], found.report["readings"]["out_of_order"]) == (1, 1)
    paper = open_insitu([path], catalog_id="uscrn_hourly")
    assert paper.readings["flag"].tolist() == ["G", "C02"]
    assert paper.report["removed_by_flag"] == {"C01": 1, "D01": 2}


def test_years_of_a_station_are_one_sensor_and_every_depth_can_be_read(tmp_path):
    deep = {f"SOIL_MOISTURE_{depth}": f"0.{depth:03}" for depth in DEPTHS_CM[1:]}
    write(tmp_path, HOURLY, hourly("2020-12-31 23:00", **deep))
    write(tmp_path, HOURLY.replace("2020", "2021"), hourly("2021-01-01 00:00", **deep))
    found = open_insitu([tmp_path], catalog_id="x", depth=None)  # a folder
    assert found.sensors["depth_from"].tolist() == [0.05, 0.1, 0.2, 0.5, 1.0]
    assert found.sensors["n_readings"].tolist() == [2] * 5
    assert found.readings["soil_moisture"].iloc[2:4].tolist() == [np.float32(0.01)] * 2
    shallow = open_insitu([tmp_path], catalog_id="x")
    assert shallow.report["removed_by_depth"] == {"0.1-0.1 m": 2, "0.2-0.2 m": 2, "0.5-0.5 m": 2, "1-1 m": 2}
    assert shallow.report["files_of_format"] == {"uscrn_hourly02": 2}


def test_daily_is_dated_at_the_centre_of_the_local_day(tmp_path):
    path = write(tmp_path, DAILY, daily("20200101"), daily("20200102", "-99.000"), daily("20200103", "0.300"))
    found = open_insitu([path], catalog_id="uscrn_daily")
    assert found.readings["time"].astype(str).tolist() == ["2020-01-01 19:00:00", "2020-01-03 19:00:00"]  # noon, UTC-7
    east = write(
        tmp_path, DAILY.replace("AZ_Tucson_11_W", "X"), daily("20200101", LONGITUDE="144.80", LATITUDE="13.50")
    )
    assert open_insitu([east], catalog_id="x").readings["time"].astype(str).tolist() == ["2020-01-01 02:00:00"]


def test_both_sources_go_into_the_same_tables(tmp_path):
    texts = [write(tmp_path, HOURLY, hourly("2020-01-01 01:00")), write(tmp_path, DAILY, daily("20200101"))]
    ismn = tmp_path / "NET" / "A" / "NET_NET_A_sm_0.050000_0.050000_EC5_20200101_20210101.stm"
    ismn.parent.mkdir(parents=True)
    ismn.write_text("NET NET A 40.0 -100.0 300.0 0.05 0.05 EC5\n2020/01/01 00:00 0.2 G M\n")
    together = open_insitu([*texts, ismn], catalog_id="x")
    assert together.sensors["network"].tolist() == ["NET", "USCRN", "USCRN"]
    report = write_tables(tmp_path, tmp_path / "out")
    assert report["readings"]["kept"] == 3
    assert set(report["files_of_format"]) == {"header_values", "uscrn_hourly02", "uscrn_daily01"}
    assert set(index_archive(tmp_path).columns) <= set(together.sensors.columns)


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        (HOURLY, [hourly("2020-01-01 01:00")[:200]], "number of fields is wrong, or the file is cut short"),
        (HOURLY, [daily("20200101")], r"expected 38 fields of hourly02"),
        (HOURLY, [""], "the file is empty"),
        (HOURLY, [hourly("2020-01-01 01:00", "wet")], "SOIL_MOISTURE_5 is no number"),
        (HOURLY, [hourly("2020-01-01 01:00").replace("0100", "2500", 1)], "UTC_TIME is no time"),
        (HOURLY, [hourly("2020-01-01 01:00").replace("20200101", "20201301", 1)], "UTC_DATE is no date"),
        (DAILY, [daily("20200230")], "LST_DATE is no date"),
        (DAILY, [daily("20200101", LATITUDE="132.24")], "coordinates are out of range"),
        ("CRNH0204-2020-X.txt", [hourly("2020-01-01 01:00")], "name is of no known product"),
        ("notes.txt", ["x"], "name is of no known product"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_kept(tmp_path, name, lines, reason):
    good = write(tmp_path, "CRNH0203-2021-Good.txt", hourly("2021-01-01 01:00"))
    found = open_insitu([good, write(tmp_path, name, *lines)], catalog_id="x")
    assert found.sensors["station"].tolist() == ["Good"]
    assert name in str(found.report["damaged_files"])
    assert reason in str(found.report["damaged_files"])


def test_a_station_without_soil_probes(tmp_path):
    path = write(tmp_path, HOURLY, hourly("2020-01-01 01:00", "-99.000", "-9999.0"))
    with pytest.raises(ContractError, match=r"no reading is left.*'readings fill': 1"):
        open_insitu([path], catalog_id="x")
    with pytest.raises(CatalogError, match="no such file"):
        open_insitu([tmp_path / "CRNH0203-2020-None.txt"], catalog_id="x")


def test_a_station_that_moved_between_years(tmp_path):
    write(tmp_path, HOURLY, hourly("2020-01-01 01:00"))
    write(tmp_path, HOURLY.replace("2020", "2021"), hourly("2021-01-01 01:00").replace("32.24", "33.24"))
    found = open_insitu([tmp_path], catalog_id="x")
    assert found.sensors[["lat", "n_readings"]].values.tolist() == [[32.24, 1]]
    assert len(found.report["left_out"]) == len(DEPTHS_CM)
    assert "is 111.2 km from where another file has it" in found.report["left_out"][0]["reason"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("\0" * 243, "line 2: the number of fields is wrong, or the file is cut short; got 'a row of NUL bytes'"),
        (hourly("2020-01-01 02:00")[:-12], "line 2: the number of fields is wrong"),
        (hourly("2020-01-01 02:00") + " 1", "line 2: the number of fields is wrong"),
        (hourly("2020-01-01 02:00", "wet"), "line 2: SOIL_MOISTURE_5 is no number; got 'wet'"),
        (hourly("2020-01-01 02:00").replace(" 0200 ", " 2500 ", 1), "line 2: UTC_TIME is no time; got '2500'"),
        (hourly("2020-01-01 02:00").replace("20200101", "20201301", 1), "line 2: UTC_DATE is no date; got '20201301'"),
    ],
)
def test_a_bad_line_costs_that_line(tmp_path, bad, reason):
    path = write(
        tmp_path, HOURLY, hourly("2020-01-01 01:00"), bad, hourly("2020-01-01 03:00").replace("  32.24", "-9999.0")
    )
    found = open_insitu([path])
    assert found.readings["time"].dt.hour.tolist() == [1, 3]
    assert found.sensors["lat"].tolist() == [32.24]
    (lost,) = found.report["lost_lines"]
    assert (lost["file"], lost["lines"]) == (HOURLY, 1)
    assert reason in lost["reason"]


def test_a_last_line_whose_last_field_is_cut(tmp_path):
    path = write(tmp_path, HOURLY, hourly("2020-01-01 01:00"), hourly("2020-01-01 02:00"))
    path.write_bytes(path.read_bytes()[:-3])
    found = open_insitu([path])
    assert (len(found.readings), found.report["lost_lines"][0]["lines"]) == (1, 1)


def test_a_bad_parsed_table(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(FormatError, match=r"a\.parquet: no parsed USCRN table"):
        open_insitu([tmp_path / "a.parquet"], catalog_id="x")
    pd.DataFrame({"wban": ["1"]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(FormatError, match="no parsed USCRN table"):
        open_insitu([tmp_path / "b.parquet"], catalog_id="x")


def test_the_real_daily_table(shared_samples, tmp_path):
    path = shared_samples / "uscrn_daily" / "crn_2020.parquet.gz"
    table = pd.read_parquet(path)
    found = open_insitu([path], catalog_id="uscrn_daily", flags="all")
    assert len(found.readings) == table["soil_moisture_5_daily"].notna().sum() == 33924
    assert len(found.sensors) == table.groupby("wban")["soil_moisture_5_daily"].any().sum()
    joined = found.readings.assign(
        wban=found.readings["sensor_id"].astype(str).str.split("__").str[1],
        lst_date=found.readings["time"].dt.floor("D"),
    ).merge(table, on=["wban", "lst_date"])  # the centre of a local day lies in the UTC day of the same date
    assert len(joined) == 33924
    np.testing.assert_array_equal(joined["soil_moisture"], joined["soil_moisture_5_daily"].astype("float32"))
    frozen = joined["flag"].astype(str).str.contains("D01")
    np.testing.assert_array_equal(frozen, joined["soil_temp_5_daily"] < 0)
    report = write_tables(path, tmp_path, depth=None)
    assert report["sensors"]["in_source"] == 5 * table["wban"].nunique()
