"""SMAP to 1 km by backscatter: only what was known enters, every pixel has a value, the shipped network is as its card says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from fake_cells import loud, pairs, series, stack, write, write_cell

from smnb.catalog import Catalog
from smnb.contract import CatalogError, ContractError
from smnb.grids import M36, EaseWindow
from smnb.loaders.smap.cells import CLOCK
from smnb.models.disaggregation import DisaggregationConfig, DisaggregationEnsemble
from smnb.papers.smap_sentinel1 import cell_products, open_cell_records, real_tables
from smnb.papers.smap_sentinel1.cells import MAPS, START, STATE, BackscatterRecord
from smnb.papers.smap_sentinel1.disaggregation import DisaggregationTraining, PixelEstimator, train_disaggregation
from smnb.pretrained import card_text, load_pretrained, predict_folder


@pytest.fixture
def folder(tmp_path):
    return write_cell(tmp_path / "in")


@pytest.fixture
def record(folder) -> BackscatterRecord:
    return BackscatterRecord.from_files(
        folder / "spl2smap_s_R049C220.nc", folder / "smap_9km_R049C220.nc", resolution="1km"
    )


def ensemble(members: int = 2) -> DisaggregationEnsemble:
    """A network with random weights, loud enough that everything it sees matters."""
    torch.manual_seed(0)
    return loud(
        DisaggregationEnsemble(DisaggregationConfig(len(MAPS), len(STATE), members=members), torch.tensor(START))
    )


def blank(images: np.ndarray, late: np.ndarray) -> np.ndarray:
    return np.where(late[:, None, None], np.nan, images)


@pytest.mark.parametrize("detail", ["product", "cautious"])
@pytest.mark.parametrize("scene", range(4))
def test_nothing_later_enters(record, scene, detail):
    time = record.time[scene]
    whole = PixelEstimator(ensemble(), record).estimate(record.time, detail=detail).isel(time=scene)
    at, later, passes = record.time >= time, record.time > time, record.overpass > time + CLOCK
    powers = {name: blank(getattr(record, name), later) for name in ("vv", "vh", "vegetation")}
    blanked = replace(record, fine=blank(record.fine, at), coarse=blank(record.coarse, passes), **powers)
    ended = replace(record, **{name: getattr(record, name)[~later] for name in record.of_scenes})
    ended = replace(
        ended, fine=blank(ended.fine, at[~later]), overpass=record.overpass[~passes], coarse=record.coarse[~passes]
    )
    for other in (blanked, ended):
        alone = PixelEstimator(ensemble(), other).estimate(np.array([time]), detail=detail).isel(time=0)
        for name in whole.data_vars:
            np.testing.assert_array_equal(whole[name], alone[name])


@pytest.mark.parametrize("field", ["vv", "vh", "vegetation", "fine", "coarse"])
def test_what_was_known_does_enter(record, field):
    time, values = record.time[-1:], getattr(record, field).copy()
    number = {"fine": -2, "coarse": np.searchsorted(record.overpass, time[0] + CLOCK) - 1}.get(field, -1)
    values[number, 2, 2] = 0.3
    before, after = (
        PixelEstimator(ensemble(), one).estimate(time, detail="product")["soil_moisture"]
        for one in (record, replace(record, **{field: values}))
    )
    assert (before != after).any()


def test_every_pixel_has_a_value(record):
    nan = np.full_like(record.vv, np.nan)
    no_sigma0, some = replace(record, vv=nan, vh=nan, vegetation=nan), record.vv.copy()
    some[:, :20] = np.nan
    no_smap = replace(record, coarse=np.full_like(record.coarse, np.nan))
    nothing = replace(record, overpass=record.overpass[:0], coarse=record.coarse[:0])
    for other in (record, no_sigma0, replace(record, vv=some), no_smap, nothing):
        found = PixelEstimator(ensemble(), other).estimate(other.time, detail="product")
        assert found.notnull().all().to_array().all()
        assert (found["soil_moisture_low90"] <= found["soil_moisture"]).all()
        assert (found["soil_moisture"] <= found["soil_moisture_high90"]).all()


def test_the_level_of_backscatter_says_nothing(record):
    brighter = replace(record, vv=record.vv * 2, vh=record.vh * 2)
    a, b = (PixelEstimator(ensemble(), one).estimate(one.time, detail="product") for one in (record, brighter))
    np.testing.assert_allclose(a["soil_moisture"], b["soil_moisture"], atol=1e-5)


def test_one_bright_target_changes_its_surroundings_alone(record):
    bright = record.vv.copy()
    bright[:, 5, 5] = 50.0
    a, b = (
        PixelEstimator(ensemble(), one).estimate(one.time, detail="product")["soil_moisture"].values
        for one in (record, replace(record, vv=bright))
    )
    assert np.abs(a - b)[:, 18:, 18:].max() < 0.05


def test_training_finds_what_backscatter_says(record):
    """Soil moisture that follows VV less the slope's share of VH is told from rough or grown ground, at unseen scenes."""
    rng, days = np.random.default_rng(0), np.arange(60)
    time = np.datetime64("2018-01-01", "ns") + days * np.timedelta64(6 * 24, "h")
    wet, rough = (rng.normal(0, 1, (60, 36, 36)) for _ in range(2))
    fine = 0.2 + 0.04 * wet
    vh = 0.01 * np.exp(0.3 * rough)
    known = {"vv": 3 * vh + 0.03 + 0.008 * wet, "vh": vh, "vegetation": np.full_like(vh, 1.0)}
    coarse = fine.reshape(60, 4, 9, 4, 9).mean((2, 4))
    cell = BackscatterRecord(EaseWindow(M36, 48, 49, 219, 220), time, fine, time, coarse, **known)
    model = train_disaggregation([cell], [days < 30], DisaggregationTraining(members=1, epochs=60))
    found = PixelEstimator(model, cell).estimate(time[30:], detail="product")["soil_moisture"].values
    assert np.corrcoef(found.ravel(), fine[30:].ravel())[0, 1] > 0.9
    with pytest.raises(ContractError, match="no scene to train on"):
        train_disaggregation([record], [record.time > record.time[-1]])


def test_a_folder_is_predicted_by_coordinates(folder, tmp_path):
    write(folder, pairs(), "pairs_R049C221.nc")
    report = predict_folder("smap_s1_1km", folder, tmp_path / "out", detail="product")
    assert list(report) == ["spl2smap_s_R049C220.nc"]  # pairs have no backscatter
    south = stack().isel(lat_1km=slice(None, None, -1), lat_3km=slice(None, None, -1))
    (tmp_path / "south").mkdir()
    write(tmp_path / "south", south)
    write(tmp_path / "south", series(), "smap_9km_R049C220.nc")
    predict_folder("smap_s1_1km", tmp_path / "south", tmp_path / "out2", detail="product")
    with (
        xr.open_dataset(tmp_path / "out" / "spl2smap_s_R049C220.nc") as found,
        xr.open_dataset(tmp_path / "out2" / "spl2smap_s_R049C220.nc") as turned,
        xr.open_dataset(folder / "spl2smap_s_R049C220.nc") as own,
    ):
        assert found["soil_moisture"].dims == ("time", "lat_1km", "lon_1km")
        assert {"soil_moisture_low90", "soil_moisture_high90"} <= set(found)
        np.testing.assert_allclose(found["lat_1km"], own["lat_1km"], rtol=1e-12)
        np.testing.assert_array_equal(
            found["soil_moisture"], turned.sortby("lat_1km", ascending=False)["soil_moisture"]
        )
    (tmp_path / "times.csv").write_text("time\n2019-05-20T15:00:00Z\n")
    report = predict_folder("smap_s1_1km", folder, tmp_path / "out3", at=tmp_path / "times.csv")
    assert report["spl2smap_s_R049C220.nc"]["estimates"] == 1


def test_a_folder_of_pairs_has_no_backscatter(tmp_path):
    write(tmp_path, pairs(), "pairs_R049C220.nc")
    with pytest.raises(CatalogError, match="no file of scenes"):
        predict_folder("smap_s1_1km", tmp_path, tmp_path / "out")


def test_the_shipped_network():
    trained = load_pretrained("smap_s1_1km")
    assert trained.card["channels"] == [*MAPS, *(f"state:{name}" for name in STATE)]
    text = card_text("smap_s1_1km")
    for part in ("agreement with the product", "against PALS", "near-real-time"):
        assert part in text


def test_real_cells(shared_samples, tmp_path):
    """Trained on these scenes: a check that the command gives what the card says, not of skill elsewhere."""
    folder, name = shared_samples / "smap_sentinel1_manitoba", "spl2smap_s_R049C221.nc"
    predict_folder("smap_s1_1km", folder, tmp_path, detail="product")
    product = BackscatterRecord.from_files(folder / name, None, "1km").fine
    scores, covered = [], []
    with xr.open_dataset(tmp_path / name) as found:
        images, low, high = (found[f"soil_moisture{one}"].values for one in ("", "_low90", "_high90"))
    for number, image in enumerate(product):
        there = np.isfinite(image)
        if there.sum() >= 100:
            ours, value = images[number][there], image[there]
            scores.append(((ours - value).std(), np.corrcoef(ours, value)[0, 1]))
            covered.append(((low[number][there] <= value) & (value <= high[number][there])).mean())
    ubrmse, r = np.mean(scores, 0)
    assert ubrmse < 0.027
    assert r > 0.91
    assert 0.85 < np.mean(covered) < 0.95


def test_real_tables(shared_samples):
    """The product's detail nears the product and leaves the ground; the cautious detail does not harm."""
    catalog = Catalog.load()
    records = open_cell_records(catalog, shared_samples)
    table = real_tables(load_pretrained("smap_s1_1km").model, records, catalog, shared_samples)
    agreement, flights, stations = (
        table[name] for name in ("agreement with the product", "against PALS", "at stations")
    )
    assert agreement.loc["ours, product", "ubrmse"] < 0.026
    assert agreement.loc[["ridge", "boosting", "SMAP 9 km"], "high"].max() < 0
    assert flights["flights"].max() == 4
    assert flights.loc["ours, cautious", "r"] > flights.loc["SMAP 9 km", "r"]
    assert flights.loc["ours, cautious", "ubrmsd"] < flights.loc["SMAP 9 km", "ubrmsd"]
    assert flights.loc["ours, cautious", "r_inside"] > 0.05
    assert stations["n"].max() == 99
    assert stations.loc["ours, cautious", "r"] > stations.loc["SMAP 9 km", "r"]


def test_cells_are_places_of_the_paper(record):
    products = cell_products([record])[0]
    passive = products.passive
    np.testing.assert_array_equal(passive["tb"].isel(channel=0), passive["soil_moisture"])
    smap, _ = record.smap_at(record.time)
    np.testing.assert_array_equal(passive["soil_moisture"], smap)
    np.testing.assert_allclose(10 ** (products.sigma0.sel(polarization="VH") / 10), record.vh)
    assert real_tables(load_pretrained("smap_s1_1km").model, [], Catalog.load(), ".").empty
