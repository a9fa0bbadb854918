"""The sample store: what is written is read, in any order, in part, after a kill; what is no store is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr
from fake_stores import write_sample_store

from smnb.contract import ContractError, FormatError, ParameterError, RunError
from smnb.papers.batchu2023 import SOURCES
from smnb.papers.batchu2023 import sources as layout
from smnb.papers.batchu2023.store import SampleStore, SampleStoreWriter

N, SENSORS, CROP = 23, 4, 32


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    sensors = pd.DataFrame(
        {
            "sensor_id": [f"net__st{i}" for i in range(SENSORS)],
            "lat": rng.uniform(30, 40, SENSORS),
            "lon": rng.uniform(-100, -90, SENSORS),
            "split_sensor": ["train", "train", "validation", "test"],
        }
    )
    values = {
        "sentinel1": rng.random((N, 3, CROP, CROP), dtype="float32"),
        "soilgrids": rng.random((SENSORS, 4, 2, 2)),
        "smap": rng.random((N, 1), dtype="float32"),
    }
    values["sentinel1"][3, 1, :5] = np.nan
    values["smap"][7] = np.nan
    time = np.datetime64("2019-05-01T06:00", "ns") + np.arange(N) * np.timedelta64(6, "D")
    return {
        "sensors": sensors,
        "sensor": rng.integers(0, SENSORS, N),
        "time": time,
        "values": values,
        "label": rng.random(N, dtype="float32"),
    }


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    return write_sample_store(path, **data, counts={"dropped": 3}, synthetic=True, times={"sentinel1": data["time"]})


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_come_back_in_any_order_and_more_than_once(store, data):
    at = np.array([22, 3, 3, 0, 17, -1])
    expected = data["values"]["sentinel1"][at]
    read = store.read("sentinel1", at)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, expected, atol=2.0**-11)  # float16 of numbers below 1
    assert np.isnan(read[1, 1, :5]).all()
    assert np.isfinite(read[1, 0]).all()
    np.testing.assert_array_equal(store.read("sentinel1", slice(2, 5)), store.read("sentinel1", [2, 3, 4]))
    np.testing.assert_array_equal(store.read("smap", at), data["values"]["smap"][at])
    stored = store.read("sentinel1", at, dtype=np.float16)
    assert (read.dtype, stored.dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(stored, read)


def test_bands_and_centred_crop(store, data):
    read = store.read("sentinel1", [4, 9], bands=("angle", "VV"), crop=8)
    np.testing.assert_allclose(read, data["values"]["sentinel1"][[4, 9]][:, [2, 0], 12:20, 12:20], atol=2.0**-11)


def test_static_images_are_repeated_by_sensor(store, data):
    np.testing.assert_allclose(store.read("soilgrids"), data["values"]["soilgrids"][data["sensor"]], atol=2.0**-11)
    assert store.image_times("soilgrids", [0, 1]).astype("int64").tolist() == [np.iinfo("int64").min] * 2


def test_tables(store, data):
    assert (len(store), store.crop, store.synthetic, store.side("soilgrids")) == (N, CROP, True, 2)
    assert store.attrs["counts"] == {"dropped": 3}
    assert store.samples.columns.tolist() == ["sensor_id", "time", "soil_moisture", "split_sensor"]
    assert store.samples["sensor_id"].tolist() == data["sensors"]["sensor_id"].to_numpy()[data["sensor"]].tolist()
    assert (store.samples["time"].to_numpy() == data["time"]).all()
    assert (store.image_times("sentinel1") == data["time"]).all()
    np.testing.assert_array_equal(store.samples["soil_moisture"], data["label"])
    pd.testing.assert_frame_equal(store.sensors, data["sensors"])
    assert pickle.loads(pickle.dumps(store)).read("smap", [1]) == store.read("smap", [1])


def test_a_chunk_is_read_once_however_many_of_its_images_are_wanted(store, monkeypatch):
    read = []
    original = SampleStore._chunk
    monkeypatch.setattr(SampleStore, "_chunk", lambda self, name, n: read.append(n) or original(self, name, n))
    store.read("sentinel1", np.random.default_rng(0).permutation(N))
    assert read == list(range(-(-N // store._root["sentinel1/values"].chunks[0])))


def test_chunks_read_straight_are_those_that_zarr_reads(store, data, tmp_path, monkeypatch):
    array = zarr.open_array(store.path / "sentinel1" / "values", mode="r")
    np.testing.assert_array_equal(store.read("sentinel1"), array[:].astype("float32"))
    # a store with another codec goes through Zarr
    monkeypatch.setattr(layout, "store_mark", lambda *_, mark=store.attrs[layout.MARK]: mark)
    other = shutil.copytree(store.path, tmp_path / "other.zarr")
    options = {"chunks": array.chunks, "compressors": None, "overwrite": True}
    zarr.create_array(other / "sentinel1" / "values", data=array[:], **options)
    np.testing.assert_array_equal(SampleStore(other).read("sentinel1"), store.read("sentinel1"))
    monkeypatch.undo()
    # a chunk without any value is no file
    empty = {"sentinel1": np.full((2, 3, CROP, CROP), np.nan, "float32")}
    two = {**data, "values": empty, **{key: data[key][:2] for key in ("sensor", "time", "label")}}
    assert np.isnan(write_sample_store(tmp_path / "empty.zarr", **two).read("sentinel1")).all()


def test_a_damaged_chunk_is_named(data, tmp_path):
    one = {"sentinel1": data["values"]["sentinel1"]}
    store = write_sample_store(tmp_path / "a.zarr", **{**data, "values": one})
    chunk = next((store.path / "sentinel1" / "values" / "c" / "1").rglob("0/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:100])
    assert np.isfinite(store.read("sentinel1", [0])).all()
    with pytest.raises(FormatError, match="chunk 1 of sentinel1 is damaged"):
        store.read("sentinel1", [N - 1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "sentinel2"}, "no such source"),
        ({"source": "sentinel1", "bands": ("HH",)}, "no band"),
        ({"source": "sentinel1", "crop": 31}, "centred square"),
        ({"source": "smap", "crop": 2}, "no crop"),
        ({"source": "smap", "positions": [N]}, "outside the store"),
        ({"source": "smap", "positions": [0.5]}, "no whole numbers"),
    ],
)
def test_wrong_questions_are_refused(store, options, words):
    with pytest.raises(ParameterError, match=words):
        store.read(**options)


def chunk_of(data, start, stop):
    part = slice(start, stop)
    return {
        "label": data["label"][part],
        "time": data["time"][part],
        "sensor": data["sensor"][part],
        **{f"{name}/values": data["values"][name][part] for name in ("sentinel1", "smap")},
        "smap/scene": [f"day{i // 2}" for i in range(start, stop)],
    }


def test_a_killed_writer_goes_on_and_the_store_is_the_same(data, tmp_path):
    described = ["sentinel1", dataclasses.replace(SOURCES["smap"], bound="1h"), "soilgrids"]

    def writer(path, **options):
        return SampleStoreWriter(path, sources=described, crop=CROP, fingerprint="f", **options)

    def go_on(one):
        for start in range(one.written, N, 5):
            one.write(start, chunk_of(data, start, min(start + 5, N)), note={"next": start + 5})
        return one.finish(data["sensors"])

    first = writer(tmp_path / "a.zarr")
    first.write(0, {"soilgrids/values": data["values"]["soilgrids"]})
    first.write(0, chunk_of(data, 0, 5), note={"next": 5})
    first._root["label"].resize((14,))  # killed between the arrays and the note
    first._root["label"][5:] = 1.0
    again = writer(tmp_path / "a.zarr")
    assert (again.written, again.note) == (5, {"next": 5})
    assert not (tmp_path / "a.zarr").exists()
    killed = go_on(again)
    whole = writer(tmp_path / "b.zarr")
    whole.write(0, {"soilgrids/values": data["values"]["soilgrids"]})
    whole = go_on(whole)
    assert contents(killed.path) == contents(whole.path)
    assert killed.attrs == whole.attrs
    assert killed.sources["smap"].bound == pd.Timedelta("1h")
    assert killed.scene_ids("smap", [0, 1, 2]).tolist() == ["day0", "day0", "day1"]
    assert killed.scene_ids("sentinel1", [0]).tolist() == [""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_a_writer_refuses_what_does_not_fit(data, tmp_path):
    described = ["sentinel1", "smap", "soilgrids"]
    writer = SampleStoreWriter(tmp_path / "a.zarr", sources=described, crop=CROP, fingerprint="f")
    with pytest.raises(ContractError, match="left out"):
        writer.write(1, chunk_of(data, 0, 2))
    short = chunk_of(data, 0, 2)
    short["smap/values"] = short["smap/values"][:1]
    with pytest.raises(ContractError, match="smap/values"):
        writer.write(0, short)
    without = {name: column for name, column in chunk_of(data, 0, 2).items() if name != "smap/values"}
    for other in (
        without,
        {**chunk_of(data, 0, 2), "lidar/values": data["label"][:2]},
        {"smap/time": data["time"][:2]},
    ):
        with pytest.raises(ContractError, match="other columns or sources"):
            writer.write(0, other)
    with pytest.raises(ContractError, match="no sample"):
        writer.finish(data["sensors"])
    writer.write(0, chunk_of(data, 0, 2))
    with pytest.raises(ContractError, match="no image for each sensor"):
        writer.finish(data["sensors"])
    with pytest.raises(RunError, match="other fingerprint"):
        SampleStoreWriter(tmp_path / "a.zarr", sources=described, crop=CROP, fingerprint="g")
    with pytest.raises(ParameterError, match="no whole number of 160 m pixels"):
        SampleStoreWriter(tmp_path / "c.zarr", sources=described, crop=30)
    with pytest.raises(ParameterError, match=r"\.zarr"):
        SampleStoreWriter(tmp_path / "c", sources=described, crop=32)


def test_a_store_is_not_replaced_unasked_and_sensors_are_checked(store, data):
    with pytest.raises(ParameterError, match="the store is there"):
        write_sample_store(store.path, **data)
    with pytest.raises(ContractError, match="a sensor that the table lacks"):
        write_sample_store(
            store.path.with_name("b.zarr"),
            **{**data, "sensors": data["sensors"][:2], "values": {"smap": data["values"]["smap"]}},
        )
    with pytest.raises(ParameterError, match="not described"):
        write_sample_store(store.path.with_name("c.zarr"), **{**data, "values": {"lidar": data["values"]["smap"]}})


def test_what_is_no_store_is_refused(tmp_path, data):
    with pytest.raises(FormatError, match="no such store"):
        SampleStore(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(FormatError, match="no Zarr store"):
        SampleStore(tmp_path / "b.zarr")
    values = {"smap": data["values"]["smap"]}
    path = write_sample_store(tmp_path / "c.zarr", **{**data, "values": values}).path
    meta = json.loads((path / "zarr.json").read_text())
    for key, value, error, words in (
        ("smnb_schema", "samples-0", FormatError, "another schema"),
        ("complete", False, RunError, "never finished"),
    ):
        changed = {**meta, "attributes": {**meta["attributes"], key: value}}
        (path / "zarr.json").write_text(json.dumps(changed))
        with pytest.raises(error, match=words):
            SampleStore(path)
    (path / "zarr.json").write_text(json.dumps(meta))
    (path / "sensors.parquet").write_bytes(b"no table")
    with pytest.raises(FormatError, match="damaged"):
        SampleStore(path)
