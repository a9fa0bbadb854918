"""What all loaders do alike: options, periods, and how they end."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tfrecord_encoder as encoder
import xarray as xr

from smnb.catalog.limits import MOST_VARIABLE, check_bytes, gzip_checked
from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, check_choice
from smnb.loaders import finish, in_period
from smnb.loaders.insitu.archive import Archive


def test_options_are_known_once_and_no_booleans():
    assert check_choice("f", "days", 2, (1, 2)) == (2,)
    assert check_choice("f", "channels", ["b", "a"], ["a", "b"]) == ("b", "a")
    with pytest.raises(ParameterError, match=r"f: unknown 'days'; got 3; expected \[1, 2\]"):
        check_choice("f", "days", 3, (1, 2))
    with pytest.raises(ParameterError, match="unknown 'days'; got True"):
        check_choice("f", "days", True, (1, 2))
    for bad in (["a", "a"], [], ["a", "c"]):
        with pytest.raises(ParameterError, match="'channels' holds an unknown name, one twice, or none"):
            check_choice("f", "channels", bad, ["a", "b"])


def test_a_period_holds_both_ends_and_is_not_empty():
    time = np.array(["2020-01-01T00", "2020-01-02T12", "2020-01-03T00"], "datetime64[ns]")
    assert in_period("f", time, None, None).all()
    assert in_period("f", time, "2020-01-01", "2020-01-02").tolist() == [True, True, False]
    assert in_period("f", time, "2020-01-03", None).tolist() == [False, False, True]
    with pytest.raises(CatalogError, match="no granule in the period"):
        in_period("f", time, "2021-01-01", None, "granule")
    with pytest.raises(CatalogError, match="no value in the period"):
        in_period("f", time[:0], "2020-01-01", "2020-01-02")


def test_a_loader_ends_under_the_contract_with_or_without_an_entry():
    dataset = xr.Dataset({"soil_moisture": ("y", np.zeros(1, "float32"), {"units": "m3 m-3"})})
    told = {"source": "s", "catalog_id": "", "synthetic": False, "step": "read"}
    done = finish(dataset, "open_it", **told, require=["soil_moisture"])
    assert (done.attrs["catalog_id"], done.attrs["synthetic"]) == ("", 0)
    assert done.attrs["history"].endswith("smnb: open_it: read")
    with pytest.raises(ContractError, match="open_it: variable 'tb' is missing"):
        finish(dataset, "open_it", **told, require=["tb"])


# -- what others send ----------------------------------------------------------------------------------------------------

#: Opens a file as a command does, and prints the error, the peak of memory (MB) and the seconds that this took.
OPENS = """
import resource, sys, time
{imports}
start = time.perf_counter()
try:
    {call}
except ValueError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, time.perf_counter() - start)
"""
PREDICTIONS = "from smnb.sensors.predictions import read_predictions as read"


def csv_bomb(path):
    line = b"S1,2020-01-01T00:00:00,0.2,0.3\n"
    block = gzip.compress(line * (1 << 19), 6)  # 16 MB; gzip files may be put one after another
    path.write_bytes(gzip.compress(b"sensor_id,time,observed,predicted\n") + block * 100)


def record_bomb(path):
    length = (2_000_000_000).to_bytes(8, "little")
    head = gzip.compress(length + encoder.masked(length).to_bytes(4, "little"))
    path.write_bytes(head + gzip.compress(bytes(1 << 24)) * 120)


def table_bomb(path):
    codes = np.zeros(1_000_000, "int32")
    one = pa.table({"sensor_id": pa.DictionaryArray.from_arrays(codes, ["S1"]), "time": codes, "observed": codes * 0.1})
    with pq.ParquetWriter(path, one.schema) as writer:
        for _ in range(60):
            writer.write_table(one)


@pytest.mark.parametrize(
    ("name", "write", "imports", "call"),
    [
        ("b.csv.gz", csv_bomb, PREDICTIONS, "read(sys.argv[1])"),
        ("b.csv.gz", csv_bomb, "from smnb.papers.stations.table import read_points as read", "read(sys.argv[1])"),
        ("b.parquet", table_bomb, PREDICTIONS, "read(sys.argv[1])"),
        ("b.gz", record_bomb, "from smnb.loaders.tfrecord import read_records as read", "next(read(sys.argv[1]))"),
    ],
)
def test_a_bomb_costs_neither_memory_nor_time(tmp_path, name, write, imports, call):
    write(tmp_path / name)
    code = OPENS.format(imports=imports, call=call)
    told = subprocess.run([sys.executable, "-c", code, tmp_path / name], capture_output=True, text=True, check=True)
    error, figures = told.stdout.splitlines()
    assert "too large to be read" in error
    assert f"set the environment variable {MOST_VARIABLE}" in error
    memory, seconds = map(float, figures.split())
    assert memory < 1000
    assert seconds < 10


def test_members_of_a_zip_that_lie_about_their_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in ("large.stm", "small.stm", "fine.stm"):
            file.writestr(name, bytes(40_000_000 if name != "fine.stm" else 10))
        file.writestr("packed.stm", bytes(10), zipfile.ZIP_BZIP2)
        for name, size in (("large.stm", 6_000_000_000), ("small.stm", 100)):
            file.getinfo(name).file_size = size
    with Archive(tmp_path / "a.zip") as archive:
        assert archive.read("fine.stm") == bytes(10)
        with pytest.raises(FormatError, match="too large to be read; got 6,000 MB"):
            archive.read("large.stm")
        with pytest.raises(FormatError, match="damaged: BadZipFile: Bad CRC-32"):
            archive.read("small.stm")
        (refused,) = archive.refused
        assert (refused["file"], "packed.stm" in archive.keys) == ("packed.stm", False)


@pytest.mark.parametrize("end", [b"PK\5\6" + bytes(8) + struct.pack("<LLH", 1 << 28, 0, 0), b"PK\6\6" + bytes(36)])
def test_a_zip_of_more_files_than_any_archive_has(tmp_path, end):
    if end[:4] == b"PK\6\6":
        end += struct.pack("<QQ", 1 << 40, 0) + b"PK\5\6" + bytes(8) + struct.pack("<LLH", 0xFFFFFFFF, 0, 0)
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + bytes(200) + end)
    with pytest.raises(FormatError, match="the zip's list of files is too large"):
        Archive(tmp_path / "a.zip")


def test_a_larger_file_is_read_when_the_user_says_so(tmp_path, monkeypatch):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(40_000_000)))
    with pytest.raises(
        FormatError, match=r"what the file inflates to is too large .* got 3\d MB or more; expected up to 34 MB"
    ):
        gzip_checked("f", path)
    monkeypatch.setenv(MOST_VARIABLE, "50")
    assert gzip_checked("f", path) == "gzip"
    with pytest.raises(FormatError, match="expected up to 50 MB"):
        check_bytes("f", "it", 51_000_000)
    monkeypatch.setenv(MOST_VARIABLE, "lots")
    with pytest.raises(ParameterError, match="SMNB_MOST_MB: is no number of megabytes; got 'lots'"):
        gzip_checked("f", path)
