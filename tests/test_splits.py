"""Splits: what stays together, what stays where it is, and what leaks; distances against pyproj's and brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod, Transformer

from smnb.contract import ContractError, ParameterError
from smnb.grids import great_circle_km
from smnb.sensors import audit, folds, make_split
from smnb.sensors.splits import KINDS, LEAKS, blocks

ALL = LEAKS  # accept everything: the test is about something else


def network(n=400, seed=0, *, spread=1.0) -> pd.DataFrame:
    """Sensors at random in the contiguous US, two a station, stations in 29 networks."""
    rng = np.random.default_rng(seed)
    station = np.arange(n) // 2
    lat, lon = rng.uniform(30, 48, n)[station] * spread, rng.uniform(-120, -75, n)[station]
    return pd.DataFrame(
        {
            "sensor_id": [f"s{i}" for i in range(n)],
            "station": [f"t{i}" for i in station],
            "network": [f"n{i % 29}" for i in station],
            "lat": lat,
            "lon": lon,
        }
    )


@pytest.mark.parametrize(
    ("kind", "unit"), [("sensor", ["sensor_id"]), ("station", ["network", "station"]), ("network", ["network"])]
)
def test_units_stay_together(kind, unit):
    sensors = network()
    split = make_split(sensors, kind, seed=3, fractions=(0.5, 0.25, 0.25), accept=ALL)
    sides = sensors.assign(side=split.assignment.to_numpy()).groupby(unit)["side"].nunique()
    assert (sides == 1).all()
    assert sum(split.counts().values()) == len(sensors)
    assert split.counts()["buffer"] == 0
    together = [set(split.ids(side)) for side in ("train", "validation", "test")]
    assert set.union(*together) == set(sensors["sensor_id"])
    assert sum(map(len, together)) == len(sensors)


def test_blocks_stay_together_and_end_where_they_should():
    sensors = network()
    split = make_split(sensors, "block", seed=1, buffer_km=0, accept=ALL)
    block = np.floor(sensors["lat"] / 3).astype(str) + np.floor(sensors["lon"] / 3).astype(str)
    assert (sensors.assign(side=split.assignment.to_numpy()).groupby(block)["side"].nunique() == 1).all()
    edges = pd.DataFrame(
        {"sensor_id": range(5), "lat": [0.0, 2.999, 3.0, 90.0, 0.0], "lon": [0.0, 0.0, 0.0, 0.0, 360.0]}
    )
    a, b, c, pole, round_the_globe = blocks(edges, 3.0)
    assert a == b == round_the_globe != c
    assert pole == "59,60"  # the pole is in the last row, not in one of its own


def test_fractions_hold_in_expectation_and_seeds_differ():
    sensors = network(4000)
    share = (
        np.array([list(make_split(sensors, "sensor", seed=s, accept=ALL).counts().values())[:3] for s in range(10)])
        / 4000
    )
    np.testing.assert_allclose(share.mean(axis=0), [0.6, 0.2, 0.2], atol=0.01)
    assert np.abs(share - [0.6, 0.2, 0.2]).max() < 0.035
    one, two = (make_split(sensors, "sensor", seed=s, accept=ALL).assignment for s in (1, 2))
    assert 0.3 < (one == two).mean() < 0.6  # 0.44 if independent


@pytest.mark.parametrize("kind", ["sensor", "station", "network", "block"])
def test_a_sensor_keeps_its_side_when_others_are_added(kind):
    sensors = network(600)
    some = sensors.sample(200, random_state=1)
    options = {"seed": 5, "accept": ALL, "fractions": (0.4, 0.3, 0.3), "buffer_km": 0}
    few, many = make_split(some, kind, **options).assignment, make_split(sensors, kind, **options).assignment
    pd.testing.assert_series_equal(few, many.reindex(few.index))


def test_a_buffer_only_drops_and_never_changes_sides():
    sensors = network(600)
    few = make_split(sensors.sample(100, random_state=2), "block", seed=5, buffer_km=200.0).assignment
    many = make_split(sensors, "block", seed=5, buffer_km=200.0).assignment.reindex(few.index)
    changed = few != many
    assert changed.any()
    assert (many[changed] == "buffer").all()


def test_sides_are_pinned():
    """The same on every machine, with every hash seed of Python and for good: published results rest on it."""
    sensors = pd.DataFrame({"sensor_id": range(40), "lat": 40.0, "lon": np.arange(40) * 2.0})
    sides = make_split(sensors, "sensor", seed=9).assignment
    assert (
        "".join(sides.map({"train": ".", "validation": "v", "test": "T"})) == ".v.T.Tv.TT..v......TT.vT....v.....vv...."
    )


def test_the_buffer_keeps_its_distance():
    sensors = network(600)
    split = make_split(sensors, "block", seed=2, buffer_km=120.0, accept=())
    sides = split.assignment.to_numpy()
    distance = great_circle_km(
        *(sensors[c].to_numpy()[:, None] for c in ("lat", "lon")),
        *(sensors[c].to_numpy()[None, :] for c in ("lat", "lon")),
    )
    train, test, validation = (sides == side for side in ("train", "test", "validation"))
    assert distance[np.ix_(train, test | validation)].min() >= 120.0
    assert distance[np.ix_(validation, test)].min() >= 120.0
    plain = make_split(sensors, "block", seed=2, buffer_km=0, accept=ALL).assignment.to_numpy()
    dropped = sides == "buffer"
    assert dropped.any()
    assert (sides[~dropped] == plain[~dropped]).all()
    # nobody is dropped who is far from everybody held out
    held = np.isin(plain, ["validation", "test"])
    assert (distance[np.ix_(dropped & (plain == "train"), held)].min(axis=1) < 120.0).all()


def test_the_audit_finds_the_leaks_that_were_made():
    #   train A     test: station of A, 3 km away; footprint of A; the same 0.25° cell, 15 km away; far from all
    lat = [40.10, 40.10 + 3 / 111.2, 40.10 + 1 / 111.2, 40.20, 43.0]
    sensors = pd.DataFrame(
        {
            "sensor_id": list("ABCDE"),
            "network": "n",
            "station": ["1", "1", "2", "3", "4"],
            "lat": lat,
            "lon": [-100.1, -100.1, -100.11, -100.2, -100.1],
        }
    )
    sides = pd.Series(["train", "test", "validation", "test", "test"], index=list("ABCDE"))
    found = audit(sides, sensors)
    assert found.shared["shared_station"][["sensor_id", "side"]].to_numpy().tolist() == [["B", "test"]]
    assert found.shared["shared_footprint"][["sensor_id", "train"]].to_numpy().tolist() == [["C", "A"]]
    quarter = found.shared["shared_coarse_cell"].query("grid == '0.25deg'")
    assert quarter["sensor_id"].tolist() == ["B", "C", "D"]
    assert found.leaks["shared_coarse_cell"] == 3
    assert found.leaks["shared_station"] == found.leaks["shared_footprint"] == 1
    assert found.nearest.set_index("sensor_id")["distance_km"].to_numpy() == pytest.approx(
        [3.0, 1.31, 14.0, 322.5], rel=0.01
    )
    assert "test: 3 sensors" in str(found)
    assert str(found).index("validation: 1 sensors") < str(found).index("test: 3 sensors")
    assert found.share_within(2.56, "validation") == 1.0
    assert found.share_within(10.0, "test") == pytest.approx(1 / 3)
    dropped = audit(sides.replace({"train": "buffer"}).where(sides.index != "E", "train"), sensors)
    assert dropped.leaks == {}
    assert "no leak" in str(dropped)


def test_the_nearest_training_sensor_is_that_of_brute_force():
    sensors = network(300)
    found = make_split(sensors, "sensor", seed=4, accept=ALL).audit().nearest
    sides = make_split(sensors, "sensor", seed=4, accept=ALL).assignment.to_numpy()
    train = sensors[sides == "train"]
    geod = Geod("+a=6371000 +b=6371000")  # the sphere of the Earth's mean radius
    for row in found.sample(30, random_state=0).itertuples():
        here = sensors[sensors["sensor_id"] == row.sensor_id].iloc[0]
        *_, metres = geod.inv([here["lon"]] * len(train), [here["lat"]] * len(train), train["lon"], train["lat"])
        assert row.distance_km == pytest.approx(min(metres) / 1000, abs=1e-6)
        nearest = train.iloc[int(np.argmin(metres))]
        assert metres[train["sensor_id"].tolist().index(row.nearest_train)] == pytest.approx(min(metres), abs=1e-6)
        assert nearest["lat"] == train.set_index("sensor_id").loc[row.nearest_train, "lat"]
    assert set(found["side"]) == {"validation", "test"}


def test_footprints_are_squares():
    def overlap(north_km, east_km, lat=60.0):
        east = east_km / (111.195 * np.cos(np.deg2rad(lat)))
        sensors = pd.DataFrame(
            {"sensor_id": [1, 2], "lat": [lat, lat + north_km / 111.195], "lon": [179.999, 179.999 + east]}
        )
        sides = pd.Series(["train", "test"], index=[1, 2])
        return "shared_footprint" in audit(sides, sensors, coarse_cells=()).leaks

    assert overlap(2.5, 2.5)  # 3.5 km apart, at the corner
    assert not overlap(2.6, 0.0)
    assert not overlap(0.0, 2.6)
    assert overlap(0.0, 2.5)  # also across the date line


def test_cells_of_smaps_grid_are_pyprojs():
    rng = np.random.default_rng(0)
    sensors = pd.DataFrame(
        {"sensor_id": range(400), "lat": rng.uniform(45, 45.6, 400), "lon": rng.uniform(6, 6.6, 400)}
    )
    sides = pd.Series(np.where(np.arange(400) < 200, "train", "test"), index=range(400))
    x, y = Transformer.from_crs(4326, 6933, always_xy=True).transform(sensors["lon"], sensors["lat"])
    cell = list(
        zip(
            (np.asarray(x) + 17367530.4451615) // 9008.055210146,
            (7314540.8306386 - np.asarray(y)) // 9008.055210146,
            strict=True,
        )
    )
    expected = [i for i in range(200, 400) if cell[i] in set(cell[:200])]
    found = audit(sides, sensors, coarse_cells="ease2_9km").shared["shared_coarse_cell"]
    assert found["sensor_id"].tolist() == expected
    assert 0 < len(expected) < 200


def test_a_split_that_leaks_raises_unless_the_leak_is_accepted_by_name():
    sensors = network(spread=1.0)
    with pytest.raises(ContractError, match=r"shared_station \(\d+ held-out sensors\).*accept="):
        make_split(sensors, "sensor")
    with pytest.raises(ContractError) as caught:
        make_split(sensors, "sensor", accept=["shared_station"])
    assert "shared_station (" not in str(caught.value)
    assert "shared_footprint" in str(caught.value)
    split = make_split(sensors, "sensor", accept=("shared_station", "shared_footprint", "shared_coarse_cell"))
    with pytest.raises(ContractError, match="leaks"):
        split.check()
    assert split.check(accept=ALL).leaks.keys() == {"shared_station", "shared_footprint", "shared_coarse_cell"}
    with pytest.raises(ParameterError, match=r"'accept'.*shared_stations.*shared_station"):
        split.check(accept=["shared_stations"])
    with pytest.raises(ParameterError, match="unknown 'accept'"):
        make_split(sensors, "sensor", accept="everything")
    clean = make_split(sensors, "block", seed=1)  # with the default buffer a split by block is clean
    assert clean.audit().leaks == {}


def test_without_stations_the_audit_says_that_it_did_not_look():
    sensors = network().drop(columns=["network", "station"])
    found = make_split(sensors, "sensor", accept=ALL).audit()
    assert found.not_checked == ("shared_station",)
    assert "not checked: shared_station" in str(found)


def readings() -> pd.DataFrame:
    time = pd.date_range("2018-12-01", "2020-02-01", freq="7D")
    return pd.DataFrame({"sensor_id": np.repeat(["a", "b"], time.size), "time": np.tile(time, 2)})


def test_a_split_in_time():
    table = readings()
    with pytest.raises(ContractError, match=r"shared_sensor \(2"):
        make_split(table, "time", cuts=("2019-06-01", "2020-01-01"))
    split = make_split(table, "time", cuts=("2019-06-01", "2020-01-01"), gap_days=14, accept=["shared_sensor"])
    time, side = table["time"], split.assignment
    assert (side[time < "2019-05-18"] == "train").all()
    assert (side[(time >= "2019-05-18") & (time < "2019-06-01")] == "buffer").all()
    assert (side[(time >= "2019-06-01") & (time < "2019-12-18")] == "validation").all()
    assert (side[time >= "2020-01-01"] == "test").all()
    zoned = table.assign(time=time.dt.tz_localize("UTC"))
    pd.testing.assert_series_equal(split.label(zoned).astype(object), side.rename("split"), check_dtype=False)
    assert set(split.ids("test")) == {"a", "b"}


@pytest.mark.parametrize("cuts", [None, ("2019-06-01",), ("2020-01-01", "2019-06-01"), ("soon", "later")])
def test_cuts_that_are_none(cuts):
    with pytest.raises(ParameterError, match="cut"):
        make_split(readings(), "time", cuts=cuts, accept=ALL)


def test_a_split_by_region():
    sensors = network()
    boxes = {"test": [(-110, 30, -100, 40), (-90, 30, -80, 35)], "validation": (-120, 45, -75, 50)}
    split = make_split(sensors, "region", regions=boxes, accept=ALL)
    lat, lon = sensors["lat"], sensors["lon"]
    test = ((lon >= -110) & (lon < -100) & (lat < 40)) | ((lon >= -90) & (lon < -80) & (lat < 35))
    expected = np.where(test, "test", np.where(lat >= 45, "validation", "train"))
    np.testing.assert_array_equal(split.assignment, expected)
    column = make_split(sensors, "region", regions={"test": ["n1", "n2"]}, column="network", accept=ALL)
    np.testing.assert_array_equal(column.assignment == "test", sensors["network"].isin(["n1", "n2"]))
    across = pd.DataFrame({"sensor_id": [1, 2, 3], "lat": 0.0, "lon": [179.0, -179.0, 0.0]})
    split = make_split(across, "region", regions={"test": (170, -5, -170, 5)})
    assert split.assignment.tolist() == ["test", "test", "train"]
    for regions, column in [
        (None, None),
        ({"train": (0, 0, 1, 1)}, None),
        ({"test": (0, 0, 1)}, None),
        ({"test": (0, 5, 1, 0)}, None),
        ({"test": "n99"}, "network"),
        ({"test": (-120, 30, -75, 48), "validation": (-120, 30, -75, 48)}, None),
    ]:
        with pytest.raises(ParameterError):
            make_split(sensors, "region", regions=regions, column=column, accept=ALL)


def test_readings_take_the_side_of_their_sensor():
    sensors = network(20)
    split = make_split(sensors, "sensor", seed=1, accept=ALL)
    table = pd.DataFrame({"sensor_id": ["s3", "s11", "s3"], "predicted": 0.1}, index=[7, 8, 9])
    assert split.label(table).tolist() == split.assignment[["s3", "s11", "s3"]].tolist()
    categorical = table.assign(sensor_id=table["sensor_id"].astype("category"))
    pd.testing.assert_series_equal(split.label(categorical), split.label(table))
    with pytest.raises(ContractError, match="not split"):
        split.label(table.assign(sensor_id="s99"))
    with pytest.raises(ParameterError, match="side"):
        split.ids("dev")


def test_folds_test_each_sensor_once():
    sensors = network(500)
    splits = folds(sensors, "block", k=8, seed=3)
    tested = pd.concat([pd.Series(split.ids("test")) for split in splits])
    assert sorted(tested) == sorted(sensors["sensor_id"])
    for split in splits:
        assert split.audit().leaks == {}
        assert split.audit().nearest["distance_km"].min() >= 50.0
    same = folds(sensors.sample(frac=1.0, random_state=0), "block", k=8, seed=3)
    for one, two in zip(splits, same, strict=True):
        pd.testing.assert_series_equal(one.assignment, two.assignment.reindex(one.assignment.index))


def test_folds_are_stable_when_sensors_are_added():
    sensors = network(500)
    few = folds(sensors.iloc[:300], "station", k=5, accept=ALL)
    many = folds(sensors, "station", k=5, accept=ALL)
    for one, two in zip(few, many, strict=True):
        assert set(one.ids("test")) <= set(two.ids("test"))


def test_folds_that_cannot_be():
    sensors = network(20)
    with pytest.raises(ParameterError, match="folds are empty"):
        folds(sensors, "network", k=9, accept=ALL)
    with pytest.raises(ParameterError, match=r"no sensor is left in train; got .*'fold': 0"):
        folds(sensors, "station", k=2, buffer_km=20_000, accept=ALL)
    for options in [{"k": 1}, {"k": 2.5}, {"kind": "time"}, {"seed": -1}]:
        with pytest.raises(ParameterError):
            folds(sensors, **{"kind": "station", "k": 2, "accept": ALL, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "random"},
        {"seed": 1.5},
        {"seed": True},
        {"fractions": (0.6, 0.4)},
        {"fractions": (0.6, 0.3, 0.3)},
        {"fractions": (1.2, -0.1, -0.1)},
        {"fractions": "abc"},
        {"kind": "block", "block_degrees": 0},
        {"kind": "block", "buffer_km": -1},
        {"kind": "block", "buffer_km": "50"},
        {"coarse_cells": ["9km"]},
        {"footprint_km": 0},
    ],
)
def test_options_that_are_refused(options):
    with pytest.raises(ParameterError):
        make_split(network(), **{"kind": "sensor", "accept": ALL, **options})
    assert set(KINDS) == {"sensor", "station", "network", "block", "time", "region"}


def test_a_side_that_stays_empty_is_an_error():
    with pytest.raises(ParameterError, match="no sensor is left in"):
        make_split(network(2), "station", accept=ALL)
    split = make_split(network(200), "sensor", fractions=(0.8, 0.0, 0.2), accept=ALL)
    assert split.counts()["validation"] == 0


def test_tables_that_are_refused():
    sensors = network(20)
    with pytest.raises(ContractError, match="no rows"):
        make_split(sensors.iloc[:0], "sensor")
    with pytest.raises(ContractError, match="occurs twice"):
        make_split(pd.concat([sensors, sensors]), "sensor")
    with pytest.raises(ContractError, match=r"\['station'\] are missing"):
        make_split(sensors.drop(columns="station"), "station")
    with pytest.raises(ContractError, match="20 rows have no 'network'"):
        make_split(sensors.assign(network=None), "network")
    with pytest.raises(ParameterError, match="'lat' is out of range"):
        make_split(sensors.assign(lat=95.0), "block")
    with pytest.raises(ContractError, match="no side"):
        audit(pd.Series(["train", "dev"], index=["s0", "s1"]), sensors.iloc[:2])


def test_real_sensors(shared_samples):
    """The archive of 210 sensors: by sensor it leaks, by block with a buffer it does not."""
    from smnb.loaders.insitu import index_archive

    sensors = index_archive(shared_samples / "conus_s1s2smap_2019_2021" / "ismn_sm_5cm_2019_2021.zip")
    with pytest.raises(ContractError, match="leaks"):
        make_split(sensors, "sensor")
    found = make_split(sensors, "sensor", accept=ALL).audit()
    assert 0.0 < found.share_within(2.56) < 0.8
    assert make_split(sensors, "block", seed=0).audit().leaks == {}
