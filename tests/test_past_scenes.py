"""SMEN of all earlier scenes: only what was known enters, every cell has a value, the shipped network is as its card says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from fake_cells import CELL, loud, pairs, series, stack, write, write_cell

from smnb.catalog import Catalog
from smnb.cli import app as cli
from smnb.contract import CatalogError, ContractError, FormatError, ParameterError
from smnb.grids import M03, M36, EaseWindow
from smnb.loaders.smap import open_cell_scenes, open_cell_series
from smnb.loaders.smap.cells import CLOCK
from smnb.loaders.smap.records import CellRecord
from smnb.maps.cells import overpasses_near
from smnb.models.past_scenes import PastScenesConfig, PastScenesEnsemble
from smnb.papers.smen.cells import PAIR_FEATURES, STATE_FEATURES, known_at
from smnb.papers.smen.estimation import CellEstimator, DetailSettings
from smnb.papers.smen.experiment import downscale_baselines, reference_images, score_images
from smnb.papers.smen.flights import flight_estimates, score_flights
from smnb.papers.smen.opening import check_overpasses, open_places
from smnb.papers.smen.past_training import PastScenesTraining, patterns_of, train_past_scenes
from smnb.pretrained import card_text, load_pretrained, predict_folder


@pytest.fixture
def folder(tmp_path):
    return write_cell(tmp_path / "in")


@pytest.fixture
def record(folder) -> CellRecord:
    paths = folder / "spl2smap_s_R049C220.nc", folder / "smap_9km_R049C220.nc"
    return CellRecord.from_datasets(open_cell_scenes(paths[:1]), open_cell_series(paths[1:]))


def ensemble(members: int = 2) -> PastScenesEnsemble:
    """A network with random weights, loud enough that everything it sees matters."""
    torch.manual_seed(0)
    return loud(PastScenesEnsemble(PastScenesConfig(len(PAIR_FEATURES), len(STATE_FEATURES), members=members)))


@pytest.mark.parametrize("detail", ["product", "cautious"])
@pytest.mark.parametrize("scene", range(4))
def test_nothing_later_enters(record, scene, detail):
    time = record.time[scene]
    whole = CellEstimator(ensemble(), record).estimate(record.time, detail=detail).isel(time=scene)
    late, passes = record.time >= time, record.overpass > time + CLOCK
    blanked = replace(
        record,
        fine=np.where(late[:, None, None], np.nan, record.fine),
        coarse=np.where(passes[:, None, None], np.nan, record.coarse),
    )
    ended = replace(record, overpass=record.overpass[~passes], coarse=record.coarse[~passes])
    ended = replace(ended, time=record.time[~late], fine=record.fine[~late])
    for other in (blanked, ended):
        alone = CellEstimator(ensemble(), other).estimate(np.array([time]), detail=detail).isel(time=0)
        for name in whole.data_vars:
            np.testing.assert_array_equal(whole[name], alone[name])


def test_what_was_known_does_enter(record):
    time = record.time[-1:]
    before = CellEstimator(ensemble(), record).estimate(time)["soil_moisture"]
    fine, coarse = record.fine.copy(), record.coarse.copy()
    fine[-2, 3, 3] += 0.1
    # 12:46 is known at 12:45, as the clocks of the files differ
    number = np.searchsorted(record.overpass, record.time[-1])
    assert record.overpass[number] - record.time[-1] <= CLOCK
    coarse[number] = 0.3
    for other in (replace(record, fine=fine), replace(record, coarse=coarse)):
        assert (CellEstimator(ensemble(), other).estimate(time)["soil_moisture"] != before).any()


def test_every_cell_has_a_value_where_anything_was_known(record):
    none = replace(record, coarse=np.full_like(record.coarse, np.nan))
    found = CellEstimator(ensemble(), none).estimate(record.time)
    assert np.isnan(found["soil_moisture"][0]).all()  # neither SMAP nor an earlier scene
    assert found["soil_moisture"][1:].notnull().all()
    empty = replace(record, overpass=record.overpass[:0], coarse=record.coarse[:0])
    np.testing.assert_array_equal(
        found["soil_moisture"], CellEstimator(ensemble(), empty).estimate(record.time)["soil_moisture"]
    )
    found = CellEstimator(ensemble(), record).estimate(record.time)
    assert found.notnull().all().to_array().all()
    assert (found["soil_moisture_low90"] <= found["soil_moisture"]).all()
    assert (found["soil_moisture"] <= found["soil_moisture_high90"]).all()


def test_without_an_earlier_scene_smap_is_all_there_is(record):
    known = known_at(record, record.time[:1])
    assert not known.inputs.earlier.any()
    cautious = CellEstimator(ensemble(), record).estimate(record.time[:1])["soil_moisture"].values[0]
    smap = known.smap[0]
    assert cautious.mean() == pytest.approx(smap.mean(), abs=1e-3)
    assert np.corrcoef(cautious.ravel(), smap.ravel())[0, 1] > 0.8


def test_training_finds_a_pattern_that_stays():
    rng, days = np.random.default_rng(0), np.arange(40)
    time = np.datetime64("2018-01-01", "ns") + days * np.timedelta64(9 * 24, "h")
    pattern = rng.normal(0, 0.04, (12, 12))
    fine = 0.2 + pattern + rng.normal(0, 0.02, (40, 12, 12))
    coarse = np.full((40, 4, 4), 0.2) + rng.normal(0, 0.03, (40, 4, 4))
    record = CellRecord(EaseWindow(M36, 48, 49, 219, 220), time, fine, time, coarse)
    model = train_past_scenes([record], [days < 30], PastScenesTraining(members=1, epochs=60))
    found = patterns_of(model, known_at(record, time))[30:]
    assert np.corrcoef(found.ravel(), np.tile(pattern.ravel(), 10))[0, 1] > 0.8
    with pytest.raises(ContractError, match="no scene to train on"):
        train_past_scenes([record], [days > 50])


def test_a_folder_is_predicted_by_coordinates(folder, tmp_path):
    report = predict_folder("smap_s1_3km", folder, tmp_path / "out", detail="product")
    assert report["spl2smap_s_R049C220.nc"]["estimates"] == 4
    with (
        xr.open_dataset(tmp_path / "out" / "spl2smap_s_R049C220.nc") as found,
        xr.open_dataset(folder / "spl2smap_s_R049C220.nc") as own,
    ):
        assert found["soil_moisture"].dims == ("time", "lat_3km", "lon_3km")
        for name in ("time", "lat_3km", "lon_3km"):
            np.testing.assert_allclose(
                found[name].values.astype("float64"), own[name].values.astype("float64"), rtol=1e-12
            )
        assert {"soil_moisture_low90", "soil_moisture_high90"} <= set(found)


def test_times_are_asked_for(folder, tmp_path, capsys):
    (tmp_path / "times.csv").write_text("time\n2019-05-20T15:00:00Z\n2019-05-10 11:00\n2030-01-01\n")
    options = ["--out", str(tmp_path / "out"), "--at", str(tmp_path / "times.csv")]
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", "smap_s1_3km", str(folder), *options, "--json"])
    assert not end.value.code
    report = json.loads(capsys.readouterr().out)["files"]["spl2smap_s_R049C220.nc"]
    assert (report["estimates"], report["times_without_overpass"]) == (2, 1)
    with xr.open_dataset(tmp_path / "out" / "spl2smap_s_R049C220.nc") as found:
        assert found["time"].values.astype("datetime64[m]").astype(str).tolist() == [
            "2019-05-10T11:00",
            "2019-05-20T15:00",
        ]
        assert found["overpass"].values.astype("datetime64[m]").astype(str).tolist() == [
            "2019-05-10T12:46",
            "2019-05-20T12:46",
        ]


def test_an_asked_time_takes_scenes_before_it_and_before_its_overpass(record):
    asked = record.time[1:2] - np.timedelta64(1, "h")
    there, overpass = overpasses_near(record, asked)
    assert there.all()
    assert overpass[0] > record.time[1]
    a = CellEstimator(ensemble(), record)
    known = a.estimate(overpass, np.minimum(asked, overpass))["soil_moisture"].values
    less = replace(record, time=record.time[:1], fine=record.fine[:1])
    np.testing.assert_array_equal(known, CellEstimator(ensemble(), less).estimate(overpass)["soil_moisture"])


def test_a_folder_says_what_it_dropped(folder, tmp_path):
    write(folder, stack(cell=EaseWindow(M36, 48, 49, 221, 222)), "spl2smap_s_R049C221.nc")
    write(folder, pairs(), "pairs_R049C220.nc")
    report = predict_folder("smap_s1_3km", folder, tmp_path / "out")
    assert "another cell" in report["spl2smap_s_R049C221.nc"]["dropped"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nc")) == [
        "pairs_R049C220.nc",
        "spl2smap_s_R049C220.nc",
    ]
    with pytest.raises(CatalogError, match="no file of scenes"):
        predict_folder("smap_s1_3km", tmp_path, tmp_path / "out")
    with pytest.raises(ParameterError, match="detail"):
        predict_folder("smap_s1_3km", folder, tmp_path / "out", detail="bold")
    (tmp_path / "times.csv").write_text("when\n2019\n")
    with pytest.raises(FormatError, match="no times"):
        predict_folder("smap_s1_3km", folder, tmp_path / "out", at=tmp_path / "times.csv")


def test_the_two_must_be_of_one_cell(record, folder):
    write(folder, series(cell=EaseWindow(M36, 48, 49, 220, 221)), "smap_9km_R049C221.nc")
    with pytest.raises(ContractError, match="not of one cell"):
        CellRecord.from_datasets(
            open_cell_scenes([folder / "spl2smap_s_R049C220.nc"]), open_cell_series([folder / "smap_9km_R049C221.nc"])
        )


def test_the_shipped_network():
    trained = load_pretrained("smap_s1_3km")
    assert trained.card["channels"] == [*PAIR_FEATURES, *(f"state:{name}" for name in STATE_FEATURES)]
    text = card_text("smap_s1_3km")
    for part in ("Agreement with the product", "Against PALS", "not near-real-time"):
        assert part in text


def scores(images: np.ndarray, fine: np.ndarray) -> tuple[float, float]:
    """Mean over scenes of 30 cells or more of within-scene ubRMSE and R."""
    found = []
    for image, product in zip(images, fine, strict=True):
        there = np.isfinite(product)
        if there.sum() >= 30 and np.isfinite(image).all():
            error = (image - product)[there]
            found.append((error.std(), np.corrcoef(image[there], product[there])[0, 1]))
    return tuple(np.mean(found, 0))


def test_real_cells(shared_samples, tmp_path):
    """Trained on these scenes: a check that the command gives what the card says, not of skill elsewhere."""
    predict_folder("smap_s1_3km", shared_samples / "smap_sentinel1_manitoba", tmp_path, detail="product")
    path = shared_samples / "smap_sentinel1_manitoba" / "spl2smap_s_R049C221.nc"
    product = open_cell_scenes([path])["soil_moisture"].values
    with xr.open_dataset(tmp_path / path.name) as found:
        ubrmse, r = scores(found["soil_moisture"].values, product)
        low, high = found["soil_moisture_low90"].values, found["soil_moisture_high90"].values
    assert ubrmse < 0.034
    assert r > 0.55
    there = np.isfinite(product)
    covered = [
        ((low <= product) & (product <= high))[i][there[i]].mean() for i in range(len(product)) if there[i].sum() >= 30
    ]
    assert 0.85 < np.mean(covered) < 0.95


def test_flights_are_scored_over_common_cells_and_inside_blocks(record):
    window, time = CELL.on(M03), record.time[-1:] + np.timedelta64(3, "h")
    rng = np.random.default_rng(2)
    blocks, detail = np.kron(rng.normal(0.2, 0.05, (4, 4)), np.ones((3, 3))), rng.normal(0, 0.02, (12, 12))
    flown = xr.Dataset(
        {"soil_moisture": (("time", "y", "x"), (blocks + detail)[None])}, {"time": time, **window.coords()}
    )
    flown["soil_moisture"][0, 0, 0] = np.nan
    images = {"SMAP 9 km": blocks[None], "half": (blocks + 0.5 * detail)[None], "none": np.full((1, 12, 12), np.nan)}
    scores = score_flights(images, flown).set_index("method")
    assert scores["n"].tolist() == [143, 143]
    assert scores.loc["half", "r_inside"] == pytest.approx(1.0, abs=0.02)
    assert scores.loc["half", "variance_ratio"] == pytest.approx(0.25, abs=0.01)
    assert scores.loc["SMAP 9 km", "r_inside"] == 0.0
    assert scores.loc["half", "ubrmsd"] < scores.loc["SMAP 9 km", "ubrmsd"]
    rows = flight_estimates([CellEstimator(ensemble(), record)], flown)
    assert {"SMAP 9 km", "ours, cautious", "ours, product"} <= set(rows)
    assert np.isfinite(rows["ours, cautious"]).all()
    np.testing.assert_array_equal(rows["product within two days"][0], record.fine[-1])


def test_real_cells_are_places_of_the_paper(shared_samples):
    places = open_places("smap_sentinel1", Catalog.load(), shared_samples)
    assert list(places) == ["R049C220", "R049C221"]
    place = places["R049C220"].with_size(40)
    assert place.sequences.notes["dropped_without_coarse"] == 2
    scenes = place.split.test[:20]
    scored = score_images(
        downscale_baselines(place, scenes), place.sequences.fine[scenes], place.sequences.time[scenes]
    )
    means = scored.groupby("method")["ubrmse"].mean()
    assert means["mean past residual"] < means["coarse"]
    mixed = [places["R049C220"], replace(places["R049C221"], split=places["R049C221"].sequences.split("2017-01-01"))]
    with pytest.raises(ContractError, match="on both sides"):
        check_overpasses(mixed)
    learnt = reference_images(place, scenes)["ridge on past maps"]
    assert score_images({"ridge": learnt}, place.sequences.fine[scenes], place.sequences.time[scenes])["r"].mean() > 0.4


def test_earlier_scenes_say_how_far_a_network_is_believed():
    rng, days = np.random.default_rng(3), np.arange(40)
    time = np.datetime64("2018-01-01", "ns") + days * np.timedelta64(9 * 24, "h")
    pattern = rng.normal(0, 0.04, (12, 12))
    fine = 0.25 + pattern + rng.normal(0, 0.02, (40, 12, 12))
    record = CellRecord(CELL, time, fine, time, 0.25 + rng.normal(0, 0.03, (40, 4, 4)))
    wrong = ensemble(1)  # random weights
    taught, stubborn = (
        CellEstimator(wrong, record, DetailSettings(trust=trust)).image(time[-1])["product"] for trust in (30.0, 1e9)
    )
    r = [np.corrcoef(image.ravel(), pattern.ravel())[0, 1] for image in (taught, stubborn)]
    assert r[0] > 0.98 > r[1]
