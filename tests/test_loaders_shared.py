"""What all loaders do alike: options, periods, and how they end."""

from __future__ import annotations

import errno
import gzip
import io
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tfrecord_encoder as encoder
import xarray as xr

from smnb.catalog.limits import check_csv
from smnb.contract import (
    MOST_VARIABLE,
    CatalogError,
    ContractError,
    FormatError,
    ParameterError,
    check_bytes,
    check_choice,
)
from smnb.loaders import finish, in_period, open_hdf5, open_netcdf
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

#: Opens a file as a command does, and prints the error, the peak of memory (MB) and the seconds that this took. The peak that
#: `resource` tells is at least that of the process which started this one.
OPENS = """
import re, resource, sys, time
from pathlib import Path
{imports}
start, status = time.process_time(), Path("/proc/self/status")
try:
    {call}
except ValueError as error:
    print(error)
kb = re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1] if status.exists() else resource.getrusage(0).ru_maxrss
print(int(kb) // 1024, time.process_time() - start)
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


def test_a_chunk_that_inflates_beyond_its_shape(tmp_path):
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        values = file.create_dataset("v", (30, 40), "float32", chunks=(30, 20), compression="gzip")
        for axis, name in enumerate("yx"):
            file[name] = np.arange(values.shape[axis], dtype="float64")
            file[name].make_scale(name)
            values.dims[axis].attach_scale(file[name])
        values[:] = 1
        values.id.write_direct_chunk((0, 20), zlib.compress(bytes(280 << 20), 1)[:-4])  # as damage may
    with open_netcdf("f", path) as data:
        assert float(data["v"][:, :20].sum()) == 600
        for part in (data["v"][3:5, 10:30], data["v"][:, 25], data["v"][[1, 7]]):
            with pytest.raises(FormatError, match=r"f\(a.nc\): a chunk of '/v' inflates beyond its shape"):
                part.load()


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_table_of_a_million_columns(tmp_path, pack):
    (tmp_path / "a.csv").write_bytes(pack(b"a," * 1_000_000 + b"\n1"))
    with pytest.raises(FormatError, match="the first line is too large to be read"):
        check_csv("f", tmp_path / "a.csv")


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
    path.write_bytes(gzip.compress(b"0,0,0,0,0\n" * 4_000_000))
    with pytest.raises(
        FormatError, match=r"what the file inflates to is too large .* got 3\d MB or more; expected up to 34 MB"
    ):
        check_csv("f", path)
    monkeypatch.setenv(MOST_VARIABLE, "50")
    assert check_csv("f", path) == "gzip"
    with pytest.raises(FormatError, match="expected up to 50 MB"):
        check_bytes("f", "it", 51_000_000)
    monkeypatch.setenv(MOST_VARIABLE, "lots")
    with pytest.raises(ParameterError, match="SMNB_MOST_MB: is no number of megabytes; got 'lots'"):
        check_csv("f", path)


# -- damage that shows when a file is opened, or only when values are computed ---------------------------------------------


def written(path, engine, n=4096):
    values = np.random.default_rng(0).random((n, 4)).astype("float32")
    encoding = {"x": {"zlib": True}} if engine == "h5netcdf" else {}
    xr.Dataset({"x": (("a", "b"), values)}, {"a": np.arange(n)}).to_netcdf(path, engine=engine, encoding=encoding)
    return path


@pytest.mark.parametrize("options", [{}, {"chunks": None}])
def test_values_that_are_damaged_are_told_by_the_name_of_the_file_when_they_are_computed(tmp_path, options):
    path = written(tmp_path / "a.nc", "h5netcdf")
    with h5py.File(path) as file:
        at = file["x"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[at.byte_offset + 2 : at.byte_offset + at.size] = bytes(at.size - 2)
    path.write_bytes(content)
    with open_netcdf("open_it", path, **options) as data:
        lazy = data["x"].mean("b") + 1 if options == {} else data["x"]  # nothing is read yet
        with pytest.raises(FormatError, match=r"^open_it\(a\.nc\): the file is unreadable: .*Download"):
            lazy.load()
        assert data["a"].values.tolist() == list(range(4096))


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_a_file_is_read_as_xarray_reads_it(tmp_path, engine):
    path = written(tmp_path / "a.nc", engine)
    with open_netcdf("open_it", path) as found, xr.open_dataset(path, engine=engine, chunks={}) as usual:
        xr.testing.assert_identical(found.load(), usual.load())
        assert found["x"].chunks == usual["x"].chunks


@pytest.mark.parametrize("name", ["x", "a"])
def test_an_array_that_its_file_cannot_hold_is_refused_before_it_is_made(tmp_path, name):
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (1 << 40 if name == "a" else 4,), "f4", chunks=(4,)).make_scale("a")
        file.create_dataset("x", (1 << 40 if name == "x" else 4,), "f4", chunks=(4,))
    with pytest.raises(FormatError, match=rf"'{name}', in a file of [0-9,]+ bytes, is too large .*4,398,047 MB"):
        open_netcdf("open_it", path)


@pytest.mark.parametrize("size", [0, 3, 4, 100, 2000, -100])
@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_a_file_that_is_cut_short(tmp_path, capfd, engine, size):
    path = written(tmp_path / "a.nc", engine)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(FormatError, match=r"^open_it\(a\.nc\): the file is unreadable"):
        open_netcdf("open_it", path).load()
    assert "Traceback" not in capfd.readouterr().err


def test_a_heap_in_which_hdf5_would_read_for_ever(tmp_path):
    path = written(tmp_path / "a.nc", "h5netcdf")
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL\1")
    content[heap + 16 : heap + 4096] = bytes(4080)
    path.write_bytes(content)
    for read in (open_netcdf, open_hdf5):
        with pytest.raises(FormatError, match="a heap has an entry of no size"):
            read("open_it", path)


def readers():
    from smnb.catalog import Catalog
    from smnb.loaders.insitu import open_insitu
    from smnb.loaders.rasters import open_sentinel1
    from smnb.loaders.smap import read_fields
    from smnb.papers.stations import read_points
    from smnb.sensors import add_strata, read_predictions

    table = pa.table({"sensor_id": ["a"], "lat": [1.0], "lon": [1.0]}).to_pandas()
    return {
        "a.nc": lambda path: open_netcdf("open_it", path),
        "a.h5": read_fields,
        "a.zip": Archive,
        "CRND0103-2020-AZ_Tucson_11_W.txt": lambda path: open_insitu([path], catalog_id="x"),
        "VV_20200901T001122.tif": lambda path: open_sentinel1([path], catalog_id="x", units="dB"),
        "b.tif": lambda path: add_strata(table, land_cover=path),
        "a.parquet": read_predictions,
        "a.csv": read_predictions,
        "a.csv.gz": read_points,
        "a.yaml": Catalog.load,
    }


@pytest.mark.parametrize("name", readers())
def test_a_file_that_may_not_be_read_is_no_damaged_one(tmp_path, monkeypatch, name):
    path, usual = tmp_path / name, io.open
    path.write_bytes(b"\x89HDF")

    def refused(file, *args, **options):  # as the system does, but for root, who runs tests in containers
        if str(file) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(file, *args, **options)

    monkeypatch.setattr(io, "open", refused)
    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(PermissionError) as raised:
        readers()[name](path)
    assert raised.value.filename == str(path)
