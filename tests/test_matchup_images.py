"""The match-up builder: the join against a plain loop over readings and scenes, the cut against the fields, kill and resume."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed
import numpy as np
import pandas as pd
import pytest

from smnb.contract import ContractError, FormatError, ParameterError, RunError
from smnb.grids import UtmWindow
from smnb.loaders.insitu import InSituTables
from smnb.papers.batchu2023 import SOURCES, InputSet, MultiSourceDataset, Source, build_matchups
from smnb.papers.batchu2023.scenes import _reached, _verdict, make_tasks, plan_matchups
from smnb.papers.batchu2023.sources import joined_sources, paper_sources
from smnb.papers.batchu2023.tiles import MapGeometry, read_tile
from smnb.sensors.place import usda_texture

HOUR, DAY = 3600 * 10**9, 86400 * 10**9
CROP = 32
START = pd.Timestamp("2019-04-01").value
SPLITS = {
    "place": {
        "kind": "region",
        "regions": {"validation": (-99, 31.3, -98, 31.5), "test": (-99, 31.6, -98, 32)},
        "accept": (),
    }
}


def scene_table(time, bounds, cloud=None):
    """Scenes of one box each; `bounds` is (n, 4) or one box for all."""
    n = len(time)
    box = np.broadcast_to(np.asarray(bounds, float), (n, 4))
    return pd.DataFrame(
        {
            "scene_id": [f"scene{i:04d}" for i in range(n)],
            "time": pd.DatetimeIndex(np.asarray(time, "int64")),
            "west": box[:, 0],
            "south": box[:, 1],
            "east": box[:, 2],
            "north": box[:, 3],
            "cloud_percentage": np.full(n, np.nan) if cloud is None else np.asarray(cloud, float),
        }
    )


class FieldScenes:
    """Scenes whose values follow from place and scene by a formula, with what of SceneIndex the builder uses."""

    catalog_id, synthetic = "fields", True

    def __init__(self, source, bands, table, *, empty=(), log=None, pause=0.0, broken=None):
        self.source, self.bands, self.table = source, tuple(bands), table
        self.empty, self.log, self.pause, self.broken = set(empty), log, pause, broken

    def __len__(self):
        return len(self.table)

    def covering(self, lat, lon):
        t = self.table
        return np.flatnonzero((t["west"] <= lon) & (lon < t["east"]) & (t["south"] <= lat) & (lat < t["north"]))

    def identities(self, positions, cache=None):
        return [f"{self.source} {one} {one in self.empty}" for one in positions]

    @contextlib.contextmanager
    def open(self, position):
        if self.log is not None:
            with open(self.log, "a") as stream:
                stream.write(f"{self.source} {position}\n")
        if position == self.broken:
            raise FormatError("fields", "the raster states no coordinate reference system", got="a.tif")
        time.sleep(self.pause)
        yield FieldReader(self, position)


NATIVE = {
    "VV": (-20, -5),
    "VH": (-25, -12),
    "angle": (30, 45),
    "elevation": (0, 900),
    "sand": (200, 400),
    "silt": (250, 350),
    "clay": (200, 300),
    "bdod": (100, 160),
    "ssm": (2, 20),
    "SoilMoi0_10cm_inst": (8, 40),
    "Lai": (5, 60),
}


class FieldReader:
    def __init__(self, scenes, position):
        self.scenes, self.position = scenes, position

    def value(self, band, x, y):
        low, high = NATIVE.get(band, (300, 4000))
        wave = 0.5 + 0.5 * np.sin(0.003 * x + 0.002 * y + 0.7 * self.position + len(band))
        return (low + (high - low) * wave).astype(np.float32)

    def read(self, window, bands=None, *, resampling="bilinear"):
        assert resampling == "bilinear"
        x, y = np.meshgrid(window.x, window.y)
        if self.position in self.scenes.empty:
            return np.full((len(bands), *x.shape), np.nan, np.float32)
        return np.stack([self.value(band, x, y) for band in bands])

    def at(self, lat, lon, bands=None):
        values = np.stack([self.value(band, np.asarray(lon) * 1e5, np.asarray(lat) * 1e5) for band in bands], axis=1)
        return np.where(self.position in self.scenes.empty, np.float32("nan"), values)


def tables(sensors, readings):
    return InSituTables(sensors, readings, catalog_id="ismn", synthetic=True)


def random_case(seed, n_sensors=6, n_scenes=40, days=14):
    """Sensors with hourly readings with gaps, and scenes in random places at random times, some at one time."""
    rng = np.random.default_rng(seed)
    sensors = pd.DataFrame(
        {
            "sensor_id": [f"s{i}" for i in range(n_sensors)],
            "network": "n",
            "station": [f"t{i}" for i in range(n_sensors)],
            "lat": rng.uniform(30, 32, n_sensors),
            "lon": rng.uniform(-99, -97, n_sensors),
            "depth_from": rng.choice([0.0, 0.05, 0.0508], n_sensors),
            "depth_to": 0.05,
        }
    )
    sensors.loc[sensors["depth_from"] > 0.05, "depth_to"] = 0.0508
    rows = []
    for name in sensors["sensor_id"]:
        hours = np.flatnonzero(rng.random(days * 24) < 0.8)
        moisture = rng.uniform(0.05, 0.5, hours.size).astype("float32")
        when = pd.DatetimeIndex(START + hours * HOUR)
        rows.append(pd.DataFrame({"sensor_id": name, "time": when, "soil_moisture": moisture, "flag": "G"}))
    readings = pd.concat(rows, ignore_index=True).astype({"sensor_id": "category", "flag": "category"})

    def scenes(source, n, quarter=False):
        when = (
            START
            + rng.integers(-10 * 24 * 4, days * 24 * 4, n) * (HOUR // 4)
            + (0 if quarter else rng.integers(0, 900))
        )
        when[n // 2 : n // 2 + 5] = when[n // 2]  # frames of one pass
        corner = np.stack([rng.uniform(-99.5, -97.5, n), rng.uniform(29.5, 31.5, n)], axis=1)
        bounds = np.concatenate([corner, corner + rng.uniform(0.4, 1.6, (n, 2))], axis=1)
        return FieldScenes(
            source, paper_sources()[source].bands, scene_table(when, bounds, rng.uniform(0, 60, n).round())
        )

    found = {
        "sentinel1": scenes("sentinel1", n_scenes * 4, True),
        "sentinel2": scenes("sentinel2", n_scenes),
        "smap": scenes("smap", n_scenes * 3, True),
        "gldas": scenes("gldas", n_scenes * 5),
        "dem": scenes("dem", 5),
    }
    return tables(sensors, readings), found


def plain_join(insitu, scenes, anchor, specs):
    """The paper's join as a loop: for each reading and source the latest scene before it, deepest first."""
    place = insitu.sensors.set_index("sensor_id")
    points, seen = {}, set()
    listed = {name: list(one.table.itertuples()) for name, one in scenes.items()}

    def best(name, lat, lon, when):
        candidates = []
        for i, row in enumerate(listed[name]):
            if not (row.west <= lon < row.east and row.south <= lat < row.north):
                continue
            if specs[name].cloud is not None and row.cloud_percentage > specs[name].cloud:
                continue
            ago = when - row.time.value
            if not specs[name].static and not 0 <= ago <= specs[name].bound.value:
                continue
            depth = min(lon - row.west, row.east - lon, lat - row.south, row.north - lat)
            candidates.append((0 if specs[name].static else -ago, depth, -i))
        return -max(candidates)[2] if candidates else -1

    for row in insitu.readings.itertuples():
        lat, lon = place.loc[row.sensor_id, ["lat", "lon"]]
        met = {anchor: best(anchor, lat, lon, row.time.value)}
        if met[anchor] < 0 or (row.sensor_id, met[anchor]) in seen:
            continue
        seen.add((row.sensor_id, met[anchor]))
        met |= {name: best(name, lat, lon, row.time.value) for name in specs if name != anchor}
        if all(met[name] >= 0 or specs[name].optional for name in specs):
            points[row.sensor_id, row.time.value] = met
    return points


@pytest.mark.parametrize(
    ("anchor", "seed", "optional"), [("sentinel1", 1, ()), ("smap", 2, ()), ("sentinel1", 4, ("dem",))]
)
def test_the_join_is_that_of_a_plain_loop(anchor, seed, optional):
    insitu, scenes = random_case(seed)
    specs = joined_sources("test", scenes, anchor, optional=optional)
    plan = plan_matchups(insitu, scenes, specs, anchor=anchor)
    expected = plain_join(insitu, scenes, anchor, specs)
    ids = plan.sensors["sensor_id"].to_numpy()[plan.sensor]
    found = {(ids[i], int(plan.time[i])): {name: int(plan.scene[name][i]) for name in specs} for i in range(len(plan))}
    assert len(expected) >= 8
    assert found == expected
    assert sum(plan.counts["dropped"].values()) + len(plan) == plan.counts["readings"]["kept"] == len(insitu.readings)
    if optional:
        assert (plan.scene["dem"] < 0).any()


def one_sensor(hours, lat=31.0, lon=-98.0, **columns):
    sensors = pd.DataFrame(
        {
            "sensor_id": ["a"],
            "network": "n",
            "station": "t",
            "lat": lat,
            "lon": lon,
            "depth_from": 0.0,
            "depth_to": 0.05,
        }
    )
    readings = pd.DataFrame(
        {
            "sensor_id": "a",
            "time": pd.DatetimeIndex(START + np.asarray(hours) * HOUR),
            "soil_moisture": np.float32(0.2),
            "flag": "G",
            **columns,
        }
    )
    return tables(sensors, readings)


BOX = (-99.0, 30.0, -97.0, 32.0)


def only(name, hours, cloud=None, box=BOX):
    when = START + (np.asarray(hours) * HOUR).astype("int64")
    return FieldScenes(name, paper_sources()[name].bands, scene_table(when, box, cloud))


def plan_of(insitu, scenes, anchor="sentinel1", **options):
    return plan_matchups(insitu, scenes, joined_sources("test", scenes, anchor), anchor=anchor, **options)


def test_an_image_meets_one_reading_the_next_after_it():
    # at the very hour of the image, and between hours, with readings each half hour
    plan = plan_of(one_sensor([5, 6, 7, 10, 10.5, 11, 11.5]), {"sentinel1": only("sentinel1", [6, 10.25])})
    assert ((plan.time - START) / HOUR).tolist() == [6.0, 10.5]
    assert plan.scene["sentinel1"].tolist() == [0, 1]
    assert plan.counts["sources"]["sentinel1"]["the image met an earlier reading"] == 2
    assert plan.counts["sources"]["sentinel1"]["no scene in time"] == 3


def test_bounds_in_time_are_the_papers():
    bounds = {
        anchor: {n: s.bound.value / HOUR for n, s in paper_sources(anchor).items()} for anchor in ("sentinel1", "smap")
    }
    years = 50 * 365.25 * 24
    both = {"sentinel2": 336, "gldas": 6, "modis_lai": 192, "dem": years, "soilgrids": years}
    for anchor, others in (("sentinel1", {"sentinel1": 1, "smap": 72}), ("smap", {"sentinel1": 168, "smap": 1})):
        assert bounds[anchor] == pytest.approx({**both, **others}, rel=1e-4)
    # to the nanosecond: an image 14 days before counts, one a little older does not, nor one after
    for offset, kept in ((0, 1), (-1e-9, 0), (336.0001, 0), (336, 1)):
        scenes = {
            "sentinel1": only("sentinel1", [400, 500]),
            "sentinel2": only("sentinel2", [400.5 - 336 + offset, 499], [3, 3]),
        }
        assert len(plan_of(one_sensor([400.5, 500.5]), scenes)) == 1 + kept


def test_flags_and_depths_are_those_of_the_paper_and_counted():
    sensors = pd.DataFrame(
        {
            "sensor_id": list("abcde"),
            "network": "n",
            "station": list("abcde"),
            "lat": [31, 31, 31, 31, np.nan],
            "lon": -98.0,
            "depth_from": [0, 0.05, 0.0508, 0.0, 0.0],
            "depth_to": [0.05, 0.05, 0.0508, 0.1, 0.05],
        }
    )
    flags = ["G", "C02", "C03", "C02,C03", "C03,C02", "D01", "C03,D01", "U"]
    rows = [(s, START + h * HOUR, 0.3, f) for s in "abcde" for h, f in enumerate(flags)]
    readings = pd.DataFrame(rows, columns=["sensor_id", "time", "soil_moisture", "flag"])
    readings["time"] = pd.DatetimeIndex(readings["time"])
    readings.loc[1, "soil_moisture"] = np.nan
    plan = plan_of(tables(sensors, readings), {"sentinel1": only("sentinel1", np.arange(8) - 0.5)})
    assert plan.counts["readings"] == {
        "given": 40,
        "flag": 15,
        "depth": 5,
        "no position in UTM": 5,
        "no value": 1,
        "kept": 14,
    }
    assert plan.sensors["sensor_id"].tolist() == ["a", "b", "c"]


def test_all_cloud_and_no_cover_are_counted_and_a_source_that_never_matches_is_named():
    scenes = {"sentinel1": only("sentinel1", [5.5, 50.5]), "sentinel2": only("sentinel2", [4, 5, 49], [80, 31, 30])}
    plan = plan_of(one_sensor([6, 51]), scenes)
    assert len(plan) == 1
    assert (
        plan_of(one_sensor([6, 51]), {**scenes, "sentinel2": only("sentinel2", [4, 49], [31, 0])}).counts["sources"][
            "sentinel2"
        ]["all scenes in time cloudy"]
        == 1
    )
    with pytest.raises(ContractError, match=r"'sentinel2' never meets a point \(all scenes in time cloudy: 2\)"):
        plan_of(one_sensor([6, 51]), {**scenes, "sentinel2": only("sentinel2", [4, 49], [80, 90])})
    with pytest.raises(
        ContractError, match=r"'smap' never meets .*2019-04-21 19:00 to 2019-04-21 20:00.*2019-04-01 06:00"
    ):
        plan_of(one_sensor([6, 51]), {**scenes, "smap": only("smap", [499, 500])})
    with pytest.raises(ContractError, match=r"'dem' never meets a point \(no scene covers the point: 2\)"):
        plan_of(one_sensor([6, 51]), {**scenes, "dem": only("dem", [0], box=(0, 0, 1, 1))})
    with pytest.raises(ContractError, match="no point has an image of every source"):
        plan_of(one_sensor([6, 51]), {**scenes, "smap": only("smap", [50]), "gldas": only("gldas", [5])})


def test_what_cannot_be_joined_is_refused():
    scenes = {"sentinel1": only("sentinel1", [5.5]), "sentinel2": only("sentinel2", [4])}
    with pytest.raises(ContractError, match="1 scenes of 'sentinel2' have no cloud percentage"):
        joined_sources("test", scenes, "sentinel1")
    with pytest.raises(ParameterError, match="the anchor 'smap' is not among"):
        joined_sources("test", scenes, "smap")
    with pytest.raises(ParameterError, match=r"unknown sources \['lidar'\]"):
        joined_sources("test", {"lidar": scenes["sentinel1"]}, "sentinel1")
    scenes["sentinel1"].bands = ("VV",)
    with pytest.raises(ContractError, match=r"lacks bands \['VH', 'angle'\]"):
        joined_sources("test", {"sentinel1": scenes["sentinel1"]}, "sentinel1")
    scenes["sentinel2"].table["time"] = pd.NaT
    with pytest.raises(ContractError, match="have no time"):
        joined_sources("test", {**scenes, "sentinel1": only("sentinel1", [5.5])}, "sentinel1")
    with pytest.raises(ContractError, match="no reading is left"):
        plan_of(one_sensor([6], flag="D01"), {"sentinel1": only("sentinel1", [5.5])})
    with pytest.raises(ParameterError, match="'bound' is no time span"):
        Source("a", "", bands=("VV",), range=(0, 1), bound=3)


def test_millions_of_readings_are_planned_in_seconds():
    n, k = 200_000, 12
    base = one_sensor(np.arange(n))
    sensors = pd.concat(
        [base.sensors.assign(sensor_id=f"s{i:02d}", lat=31 + i / 50) for i in range(k)], ignore_index=True
    )
    readings = pd.concat([base.readings.assign(sensor_id=f"s{i:02d}") for i in range(k)], ignore_index=True)
    readings["sensor_id"] = readings["sensor_id"].astype("category")
    scenes = {
        "sentinel1": only("sentinel1", np.arange(5000) * 40 + 0.3),
        "gldas": only("gldas", np.arange(60_000) * 3.0),
    }
    began = time.process_time()
    plan = plan_of(tables(sensors, readings), scenes)
    assert len(plan) > 50_000
    assert time.process_time() - began < 20  # a loop over readings takes hours


def test_tasks_open_each_scene_once_and_share_no_chunk():
    rng = np.random.default_rng(0)
    images = pd.DataFrame({"scene": np.sort(rng.integers(0, 200, 900)), "lat": rng.random(900), "lon": rng.random(900)})
    tasks = make_tasks(images, chunk=8)
    pd.testing.assert_frame_equal(tasks[images.columns], images)
    assert (tasks.groupby("scene")["task"].nunique() == 1).all()
    assert sorted(set(tasks["task"])) == list(range(tasks["task"].max() + 1))
    assert tasks["row"].is_unique
    assert (tasks.groupby("task")["row"].min() % 8 == 0).all()
    assert (tasks.groupby(tasks["row"] // 8)["task"].nunique() == 1).all()
    assert tasks.groupby("task")["scene"].nunique().max() <= 16


def built_case(folder, **options):
    """Four sensors, two of them at one place, a pass a day; small enough to be built in a second."""
    rng = np.random.default_rng(8)
    sensors = pd.DataFrame(
        {
            "sensor_id": ["n__a__x", "n__a__y", "n__b__x", "n__c__x"],
            "network": "n",
            "station": list("aabc"),
            "lat": [31.0, 31.0, 31.4, 31.7],
            "lon": [-98.0, -98.0, -98.3, -98.3],
            "depth_from": 0.05,
            "depth_to": 0.05,
            "lc_2010": [10, 10, 130, 50],
            "sand_fraction": [0.9, 0.9, np.nan, 0.4],
            "silt_fraction": [0.05, 0.05, np.nan, 0.4],
            "clay_fraction": [0.05, 0.05, np.nan, 0.2],
        }
    )
    hours = np.arange(24 * 40)
    readings = pd.concat(
        [
            pd.DataFrame(
                {
                    "sensor_id": one,
                    "time": pd.DatetimeIndex(START + hours * HOUR),
                    "flag": "G",
                    "soil_moisture": rng.uniform(0.1, 0.4, hours.size).astype("float32"),
                }
            )
            for one in sensors["sensor_id"]
        ],
        ignore_index=True,
    )
    passes = np.arange(38) * 24 + 48.4
    scenes = {
        "sentinel1": only("sentinel1", passes),
        "sentinel2": only("sentinel2", [20, 200, 420, 640], [5, 10, 90, 30]),
        "smap": only("smap", np.arange(14) * 72.0),
        "gldas": only("gldas", np.arange(320) * 3.0),
        "dem": only("dem", [0]),
        "soilgrids": only("soilgrids", [0]),
        "modis_lai": only("modis_lai", [48, 240]),
    }
    scenes["sentinel1"].empty = {2}
    scenes["smap"].empty = {5}
    scenes["dem"].table["time"] = scenes["soilgrids"].table["time"] = pd.NaT
    for one in scenes.values():
        one.log = folder / "opened.txt"
        one.__dict__.update(options)
    return tables(sensors, readings), scenes


def build(folder, name="a.zarr", scenes=None, **options):
    insitu, default = built_case(folder)
    options = {"crop": CROP, "optional": ("modis_lai",), "splits": SPLITS, **options}
    return build_matchups(insitu, scenes or default, out=folder / name, **options)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return build(folder), folder


def test_samples_hold_what_the_scenes_have_around_the_sensor(built):
    store, (insitu, scenes) = built[0].store, built_case(built[1])
    samples, specs = store.samples, paper_sources()
    at = samples.merge(store.sensors[["sensor_id", "lat", "lon"]], on="sensor_id")
    for name in scenes:
        images, ids, times = store.read(name), store.scene_ids(name), store.image_times(name)
        for i in range(len(store)):
            if not ids[i]:
                assert name == "modis_lai"
                assert np.isnan(images[i]).all()
                continue
            number = int(ids[i].removeprefix("scene"))
            reader = FieldReader(scenes[name], number)
            lat, lon = at.loc[i, ["lat", "lon"]]
            window = UtmWindow.centred(lat, lon, size=CROP, resolution=10.0)
            bands = specs[name].bands
            if name in ("smap", "gldas"):
                native = reader.at([lat], [lon], bands)[0]
            else:
                native = reader.read(window.coarsened(160) if name in ("soilgrids", "modis_lai") else window, bands)
            expected = np.stack([SOURCES[name].normalise(band, native[b]) for b, band in enumerate(bands)])
            np.testing.assert_allclose(images[i], expected, atol=2.0**-11, err_msg=name)
            if not specs[name].static:
                assert times[i] == scenes[name].table["time"].iloc[number]
    assert np.isnan(store.read("modis_lai")).any()
    merged = samples.merge(insitu.readings, on=["sensor_id", "time"], suffixes=("", "_there"))
    assert len(merged) == len(store)
    assert (merged["soil_moisture"] == merged["soil_moisture_there"]).all()


def test_what_is_dropped_is_counted_by_source_and_adds_up(built):
    result, counts = built[0], built[0].counts
    assert counts["sources"]["sentinel1"]["crop without any value"] > 0
    assert counts["sources"]["smap"]["crop without any value"] > 0
    assert counts["sources"]["modis_lai"]["no scene in time"] > 0
    assert counts["dropped"]["modis_lai"] == 0
    assert sum(counts["dropped"].values()) + counts["samples"] == counts["readings"]["kept"]
    assert counts["samples"] == len(result.store) == len(result.store.samples)
    assert "samples of 4 sensors" in str(result)
    assert "split place" in str(result)


def test_an_image_without_a_value_at_the_point_is_dropped():
    image = np.ones((2, 8, 8), np.float32)
    assert _verdict(image, 0.5) == 1
    image[1, 3:5, 3:5] = np.nan  # one band is missing at the point
    assert _verdict(image, 0.5) == 2
    image[1, 4, 4] = 0.5
    assert _verdict(image, 0.5) == 1
    image[0, :, 5:] = np.nan  # 27 of 64 pixels
    assert (_verdict(image, 0.5), _verdict(image, 27 / 64), _verdict(image, 0.4)) == (1, 1, 3)
    assert _verdict(image, 0.0, 0.5) == 1  # a scene that has reached no more of the window
    odd = np.ones((1, 5, 5), np.float32)
    odd[0, 2:4, 2:4] = np.nan
    assert _verdict(odd, 0.5) == 2
    assert _verdict(np.full((1, 5, 5), np.nan), 0.5) == 0


def test_the_share_of_a_window_that_a_scene_reaches():
    window = UtmWindow.centred(31.0, -98.0, size=512, resolution=10.0)
    box = pd.Series({"west": -98.0, "east": -97.0, "south": 30.0, "north": 32.0})
    assert _reached(box, window) == pytest.approx(0.5, abs=0.03)
    assert _reached(box.replace(-98.0, 179.0), window) == pytest.approx(1.0)  # across the date line
    assert _reached(box.replace({-98.0: -180.0, -97.0: 180.0}), window) == 1.0
    assert _reached(box.replace(30.0, 31.5), window) == 0.0


def test_the_sensor_table_has_strata_and_splits(built):
    store = built[0].store
    assert store.sensors["land_cover"].tolist() == ["Agriculture", "Agriculture", "Vegetation", "Closed forest"]
    assert store.sensors["climate"].str.len().eq(2).all()
    corner = UtmWindow.centred(31.4, -98.3, size=CROP, resolution=10.0).coarsened(160.0)
    fractions = FieldReader(built_case(built[1])[1]["soilgrids"], 0).read(corner, ("sand", "silt", "clay"))[:, 1, 1]
    # the archive's own class, as every notebook takes it; the map's where the archive has none
    assert store.sensors["texture"].tolist() == ["Sand", "Sand", str(usda_texture(*fractions, units="g kg-1")), "Loam"]
    assert store.sensors["texture_source"].tolist() == ["archive", "archive", "map", "archive"]
    assert store.sensors["climate_source"].tolist() == ["map"] * 4
    assert store.sensors["split_place"].tolist() == ["train", "train", "validation", "test"]
    split = store.attrs["splits"]["place"]
    assert sum(split["samples"].values()) == len(store)
    assert (split["kind"], split["leaks"], split["sensors"]["train"]) == ("region", {}, 2)
    assert split["share_with_training_sensor_within"]["test"] == {"2.56_km": 0.0, "10_km": 0.0}
    assert store.synthetic


def test_each_scene_is_opened_once_and_images_of_one_place_are_kept_once(tmp_path):
    store = build(tmp_path).store
    opened = (tmp_path / "opened.txt").read_text().splitlines()
    assert len(opened) == len(set(opened))
    rows = store.image_rows("sentinel1")
    a, b = (np.flatnonzero(store.samples["sensor_id"] == one) for one in ("n__a__x", "n__a__y"))
    np.testing.assert_array_equal(rows[a], rows[b])
    assert np.unique(store.image_rows("sentinel2")).size < len(store) // 2
    again = build(tmp_path)
    assert (again.was_finished, again.counts) == (True, store.attrs["counts"])
    assert len((tmp_path / "opened.txt").read_text().splitlines()) == len(opened)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_build_goes_on_and_gives_the_same_bytes(tmp_path, built):
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_matchup_images as case
folder = Path({str(tmp_path)!r})
case.build(folder, scenes=case.built_case(folder, pause=0.02)[1])
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    journal, deadline = tmp_path / ".a.zarr.partial" / "done.jsonl", time.monotonic() + 300

    def images_done():
        return journal.is_file() and '"source": "sentinel1"' in journal.read_text()

    while not images_done() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    assert not (tmp_path / "a.zarr").exists()
    with open(journal, "a") as stream:  # a line that the kill cut short, and a chunk
        stream.write('{"source": "sentinel2", "task": 0, "res')
    (tmp_path / ".a.zarr.partial" / "store.zarr" / "sentinel1" / "values" / "0.abc.partial").write_bytes(b"x")
    done = len(journal.read_text().splitlines()) - 1
    result = build(tmp_path)
    assert 0 < result.n_resumed == done < result.n_tasks
    assert contents(result.store.path) == contents(built[0].store.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "opened.txt"]


def test_another_build_is_not_mixed_in(tmp_path):
    scenes = built_case(tmp_path, broken=3)[1]
    with pytest.raises(RunError, match=r"'sentinel1', scene scene0003: .*no coordinate reference system"):
        build(tmp_path, scenes={"sentinel1": scenes["sentinel1"]}, optional=())
    fewer = only("sentinel1", [48.4])
    with pytest.raises(RunError, match="part of another store; got other points, scenes"):
        build(tmp_path, scenes={"sentinel1": fewer}, optional=())
    mended = {"sentinel1": built_case(tmp_path)[1]["sentinel1"]}
    finished = build(tmp_path, scenes=mended, optional=())
    assert len(finished.store) > 0
    with pytest.raises(RunError, match="holds another store"):
        build(tmp_path, scenes=mended, optional=(), crop=64)
    replaced = build(tmp_path, scenes=mended, optional=(), crop=64, resume=False)
    assert replaced.store.crop == 64


def test_what_changed_since_a_killed_build_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("smnb.papers.batchu2023.scenes._TASK_SCENES", 1)
    first = built_case(tmp_path)[1]["sentinel1"]
    first.broken = len(first) - 1
    with pytest.raises(RunError, match="no coordinate reference system"):
        build(tmp_path, scenes={"sentinel1": first}, optional=())
    changed = built_case(tmp_path)[1]["sentinel1"]
    changed.empty = {0}
    result = build(tmp_path, scenes={"sentinel1": changed}, optional=())
    assert 0 < result.n_resumed < result.n_tasks - 1
    anew = build(tmp_path, scenes={"sentinel1": changed}, optional=(), name="b.zarr")
    assert contents(result.store.path) == contents(anew.store.path)
    with pytest.raises(RunError, match="holds another store; got other scenes of sentinel1"):
        build(tmp_path, scenes={"sentinel1": built_case(tmp_path)[1]["sentinel1"]}, optional=())


def test_a_scheduler_gives_the_same_bytes(tmp_path, built):
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0", "protocol": "tcp"}
    with distributed.LocalCluster(processes=False, silence_logs=logging.ERROR, **options) as cluster:
        result = build(tmp_path, scheduler=cluster.scheduler_address)
    assert contents(result.store.path) == contents(built[0].store.path)


@pytest.mark.slow
def test_processes_of_a_local_cluster_give_the_same_bytes(tmp_path, built):
    assert contents(build(tmp_path, workers=2).store.path) == contents(built[0].store.path)


def test_no_scheduler_and_wrong_options_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="'workers'"):
        build(tmp_path, workers=-1)
    with pytest.raises(RunError, match="cannot reach the Dask scheduler"):
        build(tmp_path, scheduler="nowhere://127.0.0.1:1")
    with pytest.raises(ParameterError, match="no whole number of 160 m pixels"):
        build(tmp_path, crop=30)
    with pytest.raises(ParameterError, match="is no split of sensors"):
        build(tmp_path, splits={"when": {"kind": "time"}})
    with pytest.raises(ParameterError, match=r"\.zarr"):
        build(tmp_path, name="a")


def test_unknown_land_cover_is_refused_or_counted(tmp_path):
    insitu, scenes = built_case(tmp_path)
    insitu.sensors["lc_2010"] = [10, 10, 999, 50]
    one = {"sentinel1": scenes["sentinel1"]}
    options = {"out": tmp_path / "a.zarr", "crop": CROP, "splits": {}}
    with pytest.raises(ParameterError, match=r"code that esa_cci does not have; got \[999"):
        build_matchups(insitu, one, **options)
    result = build_matchups(insitu, one, on_unknown_land_cover="none", **options)
    assert result.counts["unknown_land_cover"] == {"999": 1}
    assert result.store.sensors["land_cover"].tolist()[2] == "none"
    assert "code 999, 1 sensors" in str(result)
    json.dumps(result.counts, allow_nan=False)


def test_a_store_of_smap_alone_is_anchored_to_it(tmp_path):
    insitu, scenes = built_case(tmp_path)
    result = build_matchups(
        insitu, {name: scenes[name] for name in ("smap", "gldas")}, anchor="smap", out=tmp_path / "a.zarr", splits={}
    )
    store = result.store
    assert store.attrs["anchor"] == "smap"
    assert store.read("smap").shape == (len(store), 1)
    assert len(store) == 4 * 13  # of 14 images one is empty


def overlapping(name, hours, **tables):
    """Two tiles that overlap at the sensor: the first only just reaches it, the second holds it deep inside."""
    boxes = [(-99.0, 30.0, -97.999, 32.0), (-98.5, 30.0, -97.0, 32.0)]
    return only(name, hours, box=boxes, **tables)


@pytest.mark.parametrize("inputs", ["sentinel1 dem smap", "sentinel1 dem soilgrids gldas sentinel2:NDVI"])
def test_a_map_cuts_the_scenes_that_the_training_cut(tmp_path, inputs):
    scenes = {
        "sentinel1": overlapping("sentinel1", [6.5, 6.5]),  # two frames of one pass
        "sentinel2": overlapping("sentinel2", [2, 2], cloud=[5, 5]),
        "dem": overlapping("dem", [0, 0]),
        "soilgrids": overlapping("soilgrids", [0, 0]),
        "smap": overlapping("smap", [3, 3]),
        "gldas": overlapping("gldas", [4, 4]),
    }
    scenes["dem"].table["time"] = scenes["soilgrids"].table["time"] = pd.NaT
    store = build_matchups(one_sensor([7]), scenes, out=tmp_path / "a.zarr", crop=CROP, splits={}).store
    chosen, geometry = InputSet.of(*inputs.split()), MapGeometry(crop=CROP, stride=CROP)
    when = store.samples["time"].iloc[0]
    tile = read_tile(scenes, chosen, lat=31.0, lon=-98.0, time=when, cells=1, geometry=geometry)
    assert {name: store.scene_ids(name)[0] for name in chosen.sources} == tile.used["scene"].to_dict()
    assert set(tile.used["scene"]) == {"scene0001"}
    (high, low, coarse), _ = MultiSourceDataset(store, chosen, [0], crop=CROP)[np.array([0])]
    np.testing.assert_allclose(tile.images.high, high[0], atol=2.0**-10)  # the store has float16
    np.testing.assert_allclose(tile.images.coarse[0, 0], coarse[0], atol=5e-3)  # the cell is within 5 m of the sensor
    if chosen.low:
        np.testing.assert_allclose(tile.images.low, low[0], atol=2.0**-10)


def test_an_own_source_is_one_object(tmp_path):
    rain = Source("rain", "my_rain", bands=("total",), range=(0.0, 5000.0), bound="1D", kind="coarse", optional=True)
    scenes = {"sentinel1": only("sentinel1", [6.5]), "rain": FieldScenes("rain", ("total",), scene_table([START], BOX))}
    store = build_matchups(one_sensor([7]), scenes, sources=[rain], out=tmp_path / "a.zarr", crop=CROP, splits={}).store
    native = FieldReader(scenes["rain"], 0).at([31.0], [-98.0], ("total",))
    np.testing.assert_allclose(store.read("rain"), native / 5000.0, rtol=1e-6)
    assert store.sources["rain"].range == {"total": (0.0, 5000.0)}
    inputs = InputSet.of("sentinel1", rain)
    (_, _, coarse), _ = MultiSourceDataset(store, inputs, [0], crop=CROP)[np.array([0])]
    np.testing.assert_allclose(coarse, native / 5000.0, rtol=1e-6)
    assert InputSet.from_dict(json.loads(json.dumps(inputs.to_dict()))) == inputs
    tile = read_tile(
        scenes, inputs, lat=31.0, lon=-98.0, time="2019-04-01T07", cells=1, geometry=MapGeometry(crop=CROP, stride=CROP)
    )
    np.testing.assert_allclose(tile.images.coarse[0, 0], coarse[0], atol=5e-3)
    with pytest.raises(ParameterError, match=r"unknown sources \['rain'\]"):
        build_matchups(one_sensor([7]), scenes, out=tmp_path / "b.zarr", crop=CROP)
