"""Released records: framing, protobuf and schema, against an encoder of the tests' own; then damage, one kind a test."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import tfrecord_encoder as encoder
import yaml

from smnb.catalog import Catalog
from smnb.contract import CatalogError, ContractError, FormatError, ParameterError
from smnb.loaders.tfrecord import (
    RecordError,
    ShardError,
    decode_varints,
    masked_crc32c,
    parse_example,
    read_records,
)
from smnb.papers.batchu2023 import SOURCES
from smnb.papers.batchu2023.released.records import open_released

SIZE = 32
RELEASED = {"catalog_id": "multisource_released", "size": SIZE}


def shard(folder, *fields, name="data-00000-of-00500.tfrecord.gz", packed=True, compress=True):
    payloads = [one if isinstance(one, bytes) else encoder.example(one, packed=packed) for one in fields]
    return encoder.write_shard(folder / name, payloads, compress=compress)


def record(path, **options):
    (one,) = open_released([path], **RELEASED, **options)
    return one


# --- framing ----------------------------------------------------------------------------------------------------------


def test_checksums_are_those_of_the_published_vectors():
    # RFC 3720, appendix B.4: CRC-32C of 32 bytes
    vectors = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E, b"123456789": 0xE3069283}
    for data, crc in vectors.items():
        assert encoder.crc32c(data) == crc
        assert masked_crc32c(data) == encoder.masked(data)


@pytest.mark.parametrize("compress", [True, False])
def test_records_come_back_byte_for_byte(tmp_path, compress):
    payloads = [b"", b"a", bytes(range(256)) * 40, b"\0" * 70_000]
    path = encoder.write_shard(tmp_path / "a.tfrecord", payloads, compress=compress)
    assert list(read_records(path)) == list(enumerate(payloads))


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.tfrecord.gz"
    halves = [encoder.frame(b"first"), encoder.frame(b"second")]
    whole = b"".join(halves)
    path.write_bytes(gzip.compress(whole[:9]) + gzip.compress(whole[9:]) + bytes(16))  # zero padding may follow
    assert [payload for _, payload in read_records(path)] == [b"first", b"second"]


def test_memory_does_not_grow_with_the_shard(tmp_path):
    def peak(n):
        path = encoder.write_shard(tmp_path / f"{n}.tfrecord.gz", [])
        with gzip.open(path, "wb", compresslevel=1) as stream:
            for _ in range(n):
                stream.write(framed)
        tracemalloc.start()
        count = sum(1 for _ in read_records(path))
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == n
        return largest

    framed = encoder.frame(bytes(200_000))
    few, many = peak(40), peak(200)  # 8 and 40 MB
    assert many < few + 1_000_000, (few, many)


@pytest.mark.parametrize("compress", [True, False])
def test_a_cut_file_names_shard_and_record(tmp_path, compress):
    path = encoder.write_shard(
        tmp_path / "cut.tfrecord", [b"a" * 900, bytes(np.random.default_rng(0).bytes(900))], compress=compress
    )
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ShardError, match=r"cut\.tfrecord, record 1: .*(cut short|ends within)"):
        list(read_records(path))


def test_damaged_gzip_data_are_told(tmp_path):
    content = bytearray(gzip.compress(encoder.frame(np.random.default_rng(0).bytes(3000))))
    content[1500:1520] = bytes(20)
    path = tmp_path / "bad.tfrecord.gz"
    path.write_bytes(content)
    records = read_records(path)
    assert isinstance(next(records)[1], RecordError)  # the bytes that were changed are of the first
    with pytest.raises(ShardError, match=r"bad\.tfrecord\.gz, record 1: the shard is damaged or cut short: "):
        next(records)


def test_a_payload_that_does_not_match_is_given_as_an_error_and_reading_goes_on(tmp_path):
    frames = bytearray(encoder.frame(b"first") + encoder.frame(b"second"))
    frames[12] ^= 1
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frames)
    (_, first), (_, second) = read_records(path)
    assert isinstance(first, RecordError)
    assert "a.tfrecord, record 0" in str(first)
    assert second == b"second"
    assert next(iter(read_records(path, verify=False)))[1] == b"girst"  # without a check nothing is noticed


@pytest.mark.parametrize(
    "content", [b"CDF\x01" + bytes(60), b"<html>login page</html>", struct.pack("<Q", 2**40) + bytes(8)]
)
def test_another_file_is_no_tfrecord(tmp_path, content):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    with pytest.raises(ShardError, match="length of the record does not match its checksum"):
        list(read_records(path))


# --- protobuf ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers",
    [[], [0], [127], [5] * 40, [128, 0, 255, 300, 16383], [16384, 1], [2**63 - 1, -1, -(2**63), 7], [-3, 250, 2**21]],
)
@pytest.mark.parametrize("packed", [True, False])
def test_integers_of_any_size_and_sign(numbers, packed):
    found = parse_example(encoder.example({"x": np.array(numbers, np.int64)}, packed=packed))["x"]
    assert (found.kind, found.integers().tolist()) == ("int64", numbers)


def test_random_varints_against_python_integers():
    random = np.random.default_rng(3)
    for top in (2, 128, 256, 4000, 2**14, 2**31, 2**62):
        numbers = random.integers(0, top, 500).tolist()
        assert decode_varints(b"".join(map(encoder.varint, numbers))).tolist() == numbers


@pytest.mark.parametrize("packed", [True, False])
def test_floats_and_texts(packed):
    values = np.array([0.25, -1.5, 3e38, np.nan], np.float32)
    found = parse_example(encoder.example({"f": values, "t": "NET__Côte__P", "b": b"\xff\0"}, packed=packed))
    np.testing.assert_array_equal(found["f"].floats(), values)
    assert found["t"].bytes_list() == ["NET__Côte__P".encode()]
    assert found["b"].bytes_list() == [b"\xff\0"]
    with pytest.raises(FormatError, match="another type; got 'float'; expected 'int64'"):
        found["f"].integers()


def test_what_encoders_may_do_is_understood():
    def entry(name, *features):
        return encoder.delimited(
            1, encoder.delimited(1, name) + b"".join(encoder.delimited(2, one) for one in features)
        )

    divided = encoder.delimited(3, encoder.delimited(1, b"\x01\x02") + b"\x08\x03" + encoder.delimited(1, b"\x04"))
    other = encoder.delimited(2, encoder.delimited(1, struct.pack("<f", 1.0)))
    unknown = (
        encoder.varint(9 * 8)
        + b"\x05"
        + encoder.varint(10 * 8 + 5)
        + b"1234"
        + encoder.varint(11 * 8 + 1)
        + b"12345678"
    )
    first = encoder.delimited(1, entry(b"a", divided) + entry(b"oneof", other + divided) + entry(b"none"))
    second = encoder.delimited(1, entry(b"a", divided + divided) + unknown)
    found = parse_example(unknown + first + second)
    assert found["a"].integers().tolist() == [1, 2, 3, 4] * 2  # the last of a name, its parts merged
    assert found["oneof"].integers().tolist() == [1, 2, 3, 4]  # the last of a oneof
    assert found["none"].kind == "empty"


@pytest.mark.parametrize(
    "payload",
    [
        b"\x0a",
        b"\x0a\x7f\x01",
        b"\x0b",
        b"\x80",
        b"\xff" * 11,
        b"\x02\x00",
        b"\x08\x01\x0d\x01",
        encoder.delimited(1, encoder.delimited(1, b"\x08\x01")),
        b"\x09\x01",
    ],
)
def test_bytes_that_are_no_message_are_refused(payload):
    with pytest.raises(FormatError, match="no protobuf message"):
        parse_example(payload)
    for wrong in (b"\x80", b"\x80" * 11 + b"\x01"):
        with pytest.raises(FormatError, match=r"cut short|longer than 10"):
            decode_varints(wrong)


# --- schema -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_a_record_becomes_what_was_written(tmp_path, packed):
    fields = encoder.released_fields(1, size=SIZE)
    one = record(shard(tmp_path, fields, packed=packed))
    assert one.sensor_id == "NET__Site_A__Probe-5"
    assert (one.lat, one.lon) == (40.5, -98.25)
    assert (one.label, one.label_field) == (0.25, "sm_0_5")
    assert abs(one.time - np.datetime64("2019-06-01T12:00:00")) <= np.timedelta64(65_536, "ms")  # float32 milliseconds
    for number, band in enumerate(("VV", "VH", "angle")):
        np.testing.assert_allclose(one.values["sentinel1"][number], fields[f"sentinel_1_{band}"] / 255.0, atol=1e-6)
    for number, band in enumerate(("B2", "B3", "B4", "B8", "B11", "B12")):
        np.testing.assert_allclose(one.values["sentinel2"][number], fields[f"sentinel_2_{band}"] / 255.0, atol=1e-6)
    np.testing.assert_allclose(one.values["dem"][0], fields["nasa_dem_elevation"] / 3000.0, atol=1e-6)
    soil = fields["soil_grids_clay_clay_0-5cm_mean"] / 255.0
    expected = [[soil[:16, :16].mean(), soil[:16, 16:].mean()], [soil[16:, :16].mean(), soil[16:, 16:].mean()]]
    np.testing.assert_allclose(one.values["soilgrids"][2], expected, atol=1e-6)
    np.testing.assert_allclose(one.values["smap"], [64 / 255])
    np.testing.assert_allclose(one.values["gldas"], [77 / 255])
    assert {values.dtype for values in one.values.values()} == {np.dtype("float32")}
    assert abs(one.source_time("sentinel1") - one.time) <= np.timedelta64(3_600_000 + 2 * 65_536, "ms")
    assert one.source_time("sentinel2") == np.datetime64("2019-05-31T12:00:00")  # stored as int64 it is exact
    assert np.isnat(one.source_time("smap"))


def test_the_centre_is_cropped_and_only_the_bands_asked_for_are_decoded(tmp_path):
    fields = encoder.released_fields(
        1, size=SIZE, nasa_dem_elevation=None, **{"modis_leaf_area_Lai": np.full((SIZE, SIZE), 51)}
    )
    path = shard(tmp_path, {**fields, "extra": 5})
    one = record(path, crop=16, bands={"sentinel2": ["B12", "B3"], "modis_lai": "Lai"})
    assert list(one.values) == ["sentinel2", "modis_lai"]
    np.testing.assert_allclose(one.values["sentinel2"][0], fields["sentinel_2_B12"][8:24, 8:24] / 255.0, atol=1e-6)
    np.testing.assert_allclose(SOURCES["modis_lai"].denormalise("Lai", one.values["modis_lai"]), [[[20.0]]], rtol=1e-5)


def test_zero_is_missing_where_it_can_be_told(tmp_path):
    fields = encoder.released_fields(2, size=SIZE, smap_sm=0, gldas_sm=None)
    fields["sentinel_1_VH"] = np.zeros((SIZE, SIZE), int)
    fields["sentinel_1_VV"][:4] = 0
    for name in encoder.IMAGES[-4:]:
        fields[name][:16, :16] = 0
        fields[name][20, 20] = 0
    one = record(shard(tmp_path, fields))
    assert np.isnan(one.values["smap"]).all()
    assert np.isnan(one.values["gldas"]).all()
    assert np.isnan(one.values["sentinel1"][1]).all()
    assert (one.values["sentinel1"][0, :4] == 0).all()  # single zeros stay
    assert np.isnan(one.values["soilgrids"][:, 0, 0]).all()
    block = np.delete(fields["soil_grids_sand_sand_0-5cm_mean"][16:, 16:].ravel(), 4 * 16 + 4) / 255.0
    np.testing.assert_allclose(one.values["soilgrids"][0, 1, 1], block.mean(), atol=1e-6)


def test_elevations_outside_0_to_3000_m_are_clipped_also_negative_ones(tmp_path):
    dem = np.full((SIZE, SIZE), 1500)
    dem[0, :3] = [-12, 4000, 3000]
    one = record(shard(tmp_path, encoder.released_fields(1, size=SIZE, nasa_dem_elevation=dem)))
    np.testing.assert_allclose(one.values["dem"][0, 0, :4], [0, 1, 1, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "label", "field"),
    [
        ({}, 0.25, "sm_0_5"),
        ({"sm_5_5": 0.4}, 0.25, "sm_0_5"),
        ({"sm_0_5": 0.0, "sm_5_5": 0.5}, 0.5, "sm_5_5"),
        ({"sm_0_5": None}, np.nan, ""),
        ({"sm_0_5": 0.0}, np.nan, ""),
    ],
)
def test_which_label_counts(tmp_path, changes, label, field):
    one = record(shard(tmp_path, encoder.released_fields(1, size=SIZE, **changes)))
    np.testing.assert_equal((one.label, one.label_field), (label, field))


WRONG = {
    "no id": ({"sensor_id": None}, "sensor_id: the record lacks this field"),
    "id of another form": ({"sensor_id": "NET_A"}, "NETWORK__STATION__SENSORTYPE"),
    "no time": ({"timestamp": None}, "timestamp: the record lacks"),
    "time in seconds": ({"timestamp": 1.56e9}, "timestamp: the time is out of range"),
    "no place": ({"center_lat": None}, "center_lat: the record lacks"),
    "place off the Earth": ({"center_lat": 95.0}, "not on the Earth"),
    "label in percent": ({"sm_0_5": 25.0}, "sm_0_5: the label is no volumetric"),
    "label of another type": ({"sm_0_5": 1}, "sm_0_5: the field has another type; got 'int64'"),
    "two ids": ({"center_long": np.array([1.0, 2.0])}, "center_long: the field is no single finite number"),
    "no band": ({"sentinel_2_B11": None}, "sentinel_2_B11: the record lacks this field"),
    "band of floats": (
        {"sentinel_1_VV": np.ones((SIZE, SIZE))},
        "sentinel_1_VV: the field has another type; got 'float'",
    ),
    "band of another size": ({"sentinel_1_VV": np.ones((16, 16), int)}, "another number of pixels; got 256"),
    "band beyond 8 bits": ({"sentinel_1_VH": np.full((SIZE, SIZE), 256)}, "sentinel_1_VH: values are outside 0..255"),
    "negative coarse value": ({"gldas_sm": -1}, "gldas_sm: values are outside 0..255"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_record_names_shard_record_and_field_or_is_counted(tmp_path, changes, message):
    good = encoder.released_fields(1, size=SIZE)
    path = shard(tmp_path, good, encoder.released_fields(2, size=SIZE, **changes), good)
    with pytest.raises(FormatError, match=r"data-00000-of-00500\.tfrecord\.gz, record 1: .*" + message):
        list(open_released([path], **RELEASED))
    records = open_released([path], **RELEASED, on_error="skip")
    assert [one.number for one in records] == [0, 2]
    assert dict(records.counts) == {"records": 2, "records_invalid": 1}
    assert records.problems[0]["record"] == 1


def test_damage_is_skipped_and_counted_by_kind(tmp_path):
    good = encoder.example(encoder.released_fields(1, size=SIZE))
    frames = [bytearray(encoder.frame(good)) for _ in range(3)]
    frames[1][500] ^= 0xFF
    first = tmp_path / "a.tfrecord.gz"
    first.write_bytes(gzip.compress(b"".join(frames)))
    second = shard(tmp_path, b"\x0b", good, name="b.tfrecord.gz")
    third = tmp_path / "c.tfrecord"
    third.write_bytes((encoder.frame(good) * 2)[:-9])
    records = open_released([first, second, third], **RELEASED, on_error="skip")
    assert [(one.shard, one.number) for one in records] == [
        ("a.tfrecord.gz", 0),
        ("a.tfrecord.gz", 2),
        ("b.tfrecord.gz", 1),
        ("c.tfrecord", 0),
    ]
    assert dict(records.counts) == {"records": 4, "records_damaged": 1, "records_invalid": 1, "shards_cut": 1}
    assert [one["record"] for one in records.problems] == [1, 0, None]
    with pytest.raises(RecordError, match=r"a\.tfrecord\.gz, record 1"):
        list(open_released([first], **RELEASED))
    assert len(list(records)) == 4  # a second pass counts anew
    assert records.counts["records"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "unknown 'on_error'"),
        ({"crop": 24}, "the crop does not fit"),
        ({"crop": 64}, "the crop does not fit"),
        ({"bands": {"landsat": ["B1"]}}, "unknown source in 'bands'"),
        ({"bands": {"sentinel2": ["B1"]}}, "'bands of sentinel2'"),
        ({"bands": {}}, "names no source"),
    ],
)
def test_unknown_options_are_refused(tmp_path, options, message):
    path = shard(tmp_path, encoder.released_fields(1, size=SIZE))
    with pytest.raises(ParameterError, match=message):
        open_released([path], **RELEASED, **options)
    with pytest.raises(CatalogError, match="no such file"):
        open_released([tmp_path / "none.tfrecord"], **RELEASED)


def test_the_catalog_opens_it_and_checks_the_first_record(tmp_path):
    text = {
        "multisource_released": {
            "description": "Released records.",
            "loader": "smnb.papers.batchu2023.released.records:open_released",
            "files": ["r/*.tfrecord.gz"],
            "variables": {"soil_moisture": {"native": ["sm_0_5", "sm_5_5"], "units": "m3 m-3"}},
            "licence": "CC-BY 4.0",
            "options": {"size": SIZE},
            "fetch": {"by_hand": "From the bucket."},
        }
    }
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(text))
    (tmp_path / "r").mkdir()
    path = shard(tmp_path / "r", encoder.released_fields(1, size=SIZE))
    catalog = Catalog.load(tmp_path / "catalog.yaml")
    records = catalog.open("multisource_released", tmp_path, crop=16)
    assert records.catalog_id == "multisource_released"
    assert [one.values["dem"].shape for one in records] == [(1, 16, 16)]
    with pytest.raises(FormatError, match="another number of pixels"):
        catalog.open("multisource_released", tmp_path, size=64)
    encoder.write_shard(path, [])
    with pytest.raises(ContractError, match="holds no record"):
        catalog.open("multisource_released", tmp_path)
