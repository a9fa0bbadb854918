"""Samples of the 1 km fusion, on tiny places made by hand: planes that are interpolated exactly, and a few sensors."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from smnb.contract import ContractError, ParameterError
from smnb.grids import M01, M03, M09, EaseWindow
from smnb.loaders.insitu import InSituTables
from smnb.models.fusion_1km import coarse_mean, coarse_offset
from smnb.papers.smap_sentinel1 import FusionSamples, fusion_training, leave_scenes_out, split_sensors
from smnb.papers.smap_sentinel1.cutting import CHANNELS, SceneProducts, select_sensors
from smnb.papers.smap_sentinel1.training import FusionDataset, PatchImages, fusion_scalers
from smnb.training import TrainingConfig, train
from smnb.training.losses import fusion_loss

SIZE = 64
PASSES = np.array(["2020-09-03T12:36:38", "2020-09-15T12:36:38"], dtype="datetime64[ns]")
#: Rows and columns of sensors within a place; the first two are in one pixel, the last in another one's 9 km cell.
PLACED = ((20, 20), (20, 20), (5, 50), (40, 8), (55, 55), (33, 34), (12, 30), (22, 23))


def window_at(row: int, col: int) -> EaseWindow:
    return EaseWindow(M01, row, row + SIZE, col, col + SIZE)


HERE, THERE = window_at(2901, 7797), window_at(3225, 7437)


def plane(window: EaseWindow, day: int) -> np.ndarray:
    """Linear in the map's coordinates, so that interpolation between cell centres returns it."""
    x, y = (axis / window.grid.cell / (36 // window.grid.subdivision) for axis in (window.x, window.y))
    return (0.02 * (y[:, None] - y.mean()) + 0.05 * (x[None, :] - x.mean()) + 5.0 * day).astype("float32")


def products(name: str = "here", window: EaseWindow = HERE, *, late_hours: float = 0.5, seed: int = 0) -> SceneProducts:
    """A place with two passes: noise from the radar, planes from the radiometer, whose soil moisture is a plane too."""
    rng = np.random.default_rng(seed)
    inner = window.covering(M09)
    nine = EaseWindow(M09, inner.row_start - 1, inner.row_stop + 1, inner.col_start - 1, inner.col_stop + 1)
    sigma0 = xr.DataArray(
        rng.normal(-12.0, 2.0, (2, 2, *window.shape)).astype("float32"),
        window.coords() | {"time": PASSES, "polarization": ["VV", "VH"]},
        ("time", "polarization", "y", "x"),
        "sigma0",
        {"units": "dB"},
    )
    days = PASSES.astype("datetime64[D]").astype("datetime64[ns]")
    tb = np.stack([[230.0 + plane(nine, d), 260.0 + plane(nine, d)] for d in (0, 1)]).astype("float32")
    overpass = PASSES + np.timedelta64(round(late_hours * 60), "m")
    seen = np.broadcast_to(overpass[:, None, None], (2, *nine.shape)).copy()
    moisture = np.stack([0.2 + 0.01 * plane(nine, d) for d in (0, 1)]).astype("float32")
    passive = xr.Dataset(
        {
            "tb": (("time", "channel", "y", "x"), tb),
            "soil_moisture": (("time", "y", "x"), moisture),
            "observation_time": (("time", "y", "x"), seen),
        },
        nine.coords() | {"time": days, "channel": ["1.41H", "1.41V"]},
        {"synthetic": 1},
    )
    return SceneProducts(name, name.title(), sigma0, passive)


def tables(places=((HERE, "h"),), placed=PLACED, *, minutes=(-120, -60, 0, 60, 120)) -> InSituTables:
    """A sensor of value 0.1, 0.11, … at each pixel, each hour around the passes; +0.02 in the middle hour."""
    sensors, readings = [], []
    for window, tag in places:
        for k, (row, col) in enumerate(placed):
            # a quarter of a cell from the centre of the pixel: no two sensors in one place
            x, y = window.x[col] + 0.05 * k * M01.cell, window.y[row] - 0.04 * k * M01.cell
            lat, lon = M01.from_xy(x, y)
            sensor = f"SCAN__{tag}{k}__Hydraprobe__0.05"
            sensors.append(
                {
                    "sensor_id": sensor,
                    "network": "SCAN",
                    "station": f"{tag}{k}",
                    "lat": float(lat),
                    "lon": float(lon),
                    "instrument": "Hydraprobe II",
                }
            )
            for time in PASSES:
                for minute in minutes:
                    readings.append(
                        (
                            sensor,
                            time.astype("datetime64[h]") + np.timedelta64(minute, "m"),
                            0.1 + 0.01 * k + 0.03 * (minute == 0),
                        )
                    )
    frame = pd.DataFrame(readings, columns=["sensor_id", "time", "soil_moisture"])
    frame["time"] = frame["time"].astype("datetime64[ns]")
    frame["sensor_id"] = frame["sensor_id"].astype("category")
    return InSituTables(pd.DataFrame(sensors), frame, synthetic=True)


def make(scenes=None, insitu=None, **options) -> FusionSamples:
    return FusionSamples.from_products(scenes or [products()], insitu or tables(), **{"size": SIZE} | options)


@pytest.fixture(scope="module")
def two() -> FusionSamples:
    """Two places, each with two passes."""
    return make([products(), products("there", THERE, seed=1)], tables(((HERE, "h"), (THERE, "t"))))


# --- patches ----------------------------------------------------------------------------------------------------------


def test_channels_are_interpolated_brightness_temperature_and_backscatter():
    scene = products()
    samples = make([scene])
    assert CHANNELS == ("tb_h", "tb_v", "vv", "vh")
    assert samples.images.shape == (2, 4, SIZE, SIZE)
    assert samples.synthetic
    np.testing.assert_array_equal(samples.images[:, 2:], scene.sigma0.values)
    nine = EaseWindow.from_dataset(scene.passive)
    for patch in (0, 1):
        # linear interpolation of a plane on the coarse grid gives the plane on the fine one
        x, y = HERE.x / M09.cell, HERE.y / M09.cell
        middle = [(axis / M09.cell / 9).mean() for axis in (nine.x, nine.y)]
        expected = 0.02 * (y[:, None] / 9 - middle[1]) + 0.05 * (x[None] / 9 - middle[0]) + 5.0 * patch
        np.testing.assert_allclose(samples.images[patch, 0] - 230.0, expected, atol=2e-4)
        np.testing.assert_allclose(samples.images[patch, 1] - samples.images[patch, 0], 30.0, atol=1e-3)


def test_the_product_lies_on_the_whole_cells_of_the_patch():
    samples = make()
    row, col = coarse_offset(HERE)
    np.testing.assert_array_equal(samples.offset, [[row, col]] * 2)
    assert samples.product.shape == (2, SIZE // 9, SIZE // 9)
    whole = ((SIZE - row) // 9, (SIZE - col) // 9)
    assert np.isfinite(samples.product[:, : whole[0], : whole[1]]).all()
    # the product is 0.2 + 0.01 * the plane that channel 0 is, and a plane's mean is its value in the middle
    fine = torch.from_numpy(0.2 + 0.01 * (samples.images[:, 0] - 230.0))
    mean, counts = coarse_mean(fine, offset=(row, col), shape=whole)
    assert counts.all()
    np.testing.assert_allclose(samples.product[:, : whole[0], : whole[1]], mean.numpy(), atol=1e-5)


def test_a_larger_place_gives_several_patches():
    window = EaseWindow(M01, 2901, 2901 + 100, 7797, 7797 + 64)
    samples = make([products(window=window)], min_in_situ=0)
    assert [(w.row_start, w.col_start) for w in samples.windows[::2]] == [(2901, 7797), (2937, 7797)]
    np.testing.assert_array_equal(samples.images[0, 2, 36:], samples.images[2, 2, :-36])
    window = EaseWindow(M01, 2901, 2901 + 64, 7797, 7797 + 84)
    samples = make([products(window=window)], min_in_situ=0)
    assert [w.col_start for w in samples.windows] == [7807, 7807]


# --- in-situ pixels ---------------------------------------------------------------------------------------------------


def test_readings_within_the_window_are_averaged_and_sensors_of_a_pixel_counted():
    samples = make()
    pixels = samples.pixels().query("patch == 0").set_index(["row", "col"])
    assert len(pixels) == 7
    assert samples.notes["pixels"] == 14
    assert samples.notes["shared_pixels"] == 2
    # 12:00 and 13:00 and 14:00 lie within 90 minutes of 12:36:38
    assert samples.in_situ["n_readings"].unique().tolist() == [3]
    assert pixels.loc[(5, 50), "soil_moisture"] == pytest.approx(0.12 + 0.01)
    assert pixels.loc[(20, 20), "n_sensors"] == 2
    assert pixels.loc[(20, 20), "soil_moisture"] == pytest.approx(0.105 + 0.01)
    values = samples.in_situ_images()
    assert pixels["n_sensors"].sum() == 8
    assert np.isfinite(values).sum() == 14
    assert values[1, 40, 8] == pytest.approx(0.14, abs=1e-6)


def test_the_window_of_readings_is_a_choice():
    narrow = make(time_window="37min")
    assert narrow.pixels().query("row == 5")["soil_moisture"].tolist() == pytest.approx([0.135, 0.135])
    with pytest.raises(ContractError, match="'without_in_situ': 2"):
        make(time_window="5min")


def test_sensors_of_other_networks_and_instruments_are_left_out_and_counted():
    table = pd.DataFrame(
        {
            "sensor_id": list("abcd"),
            "network": ["SCAN", "USCRN", "iRON", "ARM"],
            "instrument": ["Hydraprobe-Analog-(2.5-Volt)", "Stevens Hydraprobe II Sdi-12", "Hydraprobe II", "EC5"],
        }
    )
    kept, counts = select_sensors(table)
    assert kept["sensor_id"].tolist() == ["a", "b"]
    assert (counts["sensors_of_other_networks"], counts["sensors_of_other_instruments"]) == (1, 1)
    assert len(select_sensors(table, networks=None, instrument=None)[0]) == 4
    with pytest.raises(ContractError, match="no sensor is left"):
        select_sensors(table, networks=["RISMA"])


# --- what is left out -------------------------------------------------------------------------------------------------


def test_a_patch_with_four_pixels_is_left_out_unless_fewer_are_asked_for():
    four = tables(placed=PLACED[:5])
    with pytest.raises(ContractError, match="'below_minimum': 2"):
        make(insitu=four)
    assert len(make(insitu=four, min_in_situ=4)) == 2
    assert len(make(insitu=tables(placed=PLACED[:6]))) == 2


def test_a_place_without_sensors_is_counted():
    samples = make([products(), products("there", THERE)])
    assert set(samples.scene) == {"here"}
    assert samples.notes["without_in_situ"] == 2
    assert samples.notes["patches_seen"] == 4
    alone = make([products("there", THERE)], min_in_situ=0)
    assert len(alone) == 2
    assert alone.in_situ.empty
    assert alone.sensors.empty
    with pytest.raises(ContractError, match="no sensor"):
        split_sensors(alone)


def test_a_scene_without_backscatter_is_counted():
    scene = products()
    scene.sigma0[0, 1] = np.nan
    samples = make([scene])
    assert samples.notes["without_sigma0"] == 1
    assert len(samples) == 1
    scene.sigma0[1] = np.nan
    with pytest.raises(ContractError, match="'without_sigma0': 2"):
        make([scene])


def test_brightness_temperature_beyond_the_window_in_time_is_not_taken():
    assert len(make([products(late_hours=11.9)])) == 2
    with pytest.raises(ContractError, match="'without_tb': 2"):
        make([products(late_hours=12.1)])


def test_other_grids_are_refused():
    scene = products()
    nine = EaseWindow.from_dataset(scene.passive)
    small = scene.passive.isel(x=slice(3, None))
    with pytest.raises(ContractError, match="does not cover the backscatter"):
        make([replace(scene, passive=small)])
    coarse = xr.DataArray(
        np.zeros((2, 2, *nine.shape), "float32"),
        nine.coords() | {"time": PASSES, "polarization": ["VV", "VH"]},
        ("time", "polarization", "y", "x"),
        "sigma0",
    )
    with pytest.raises(ContractError, match="backscatter is on another grid; got 'M09'"):
        make([replace(scene, sigma0=coarse)])
    elsewhere = xr.DataArray(
        np.zeros((2, SIZE, SIZE), "float32"), THERE.coords() | {"time": PASSES}, ("time", "y", "x")
    )
    with pytest.raises(ContractError, match="the truth lies elsewhere"):
        make([replace(scene, truth=elsewhere)])
    three = EaseWindow(M03, 967, 967 + 22, 2599, 2599 + 22)
    elsewhere = xr.DataArray(np.zeros((2, 22, 22), "float32"), three.coords() | {"time": PASSES}, ("time", "y", "x"))
    with pytest.raises(ContractError, match="the 1 km product is on another grid"):
        make([replace(scene, baseline=elsewhere)])
    with pytest.raises(ContractError, match=r"lacks polarization \['VH'\]"):
        make([replace(scene, sigma0=scene.sigma0.isel(polarization=[0]))])
    with pytest.raises(ContractError, match="no observation_time"):
        make([replace(scene, passive=scene.passive.drop_vars("observation_time"))])


def test_a_product_that_covers_nothing_is_counted_and_trains_on_readings_alone():
    scene = products()
    scene.passive["soil_moisture"][:] = np.nan
    samples = make([scene])
    assert samples.notes["without_product"] == 2
    split = split_sensors(samples, seed=1)
    batch = FusionDataset(samples, split, "train", fusion_scalers(samples, split))[np.arange(2)]
    assert not batch[4].any()
    assert float(fusion_loss(batch[1] + 0.25, *batch[1:], alpha=1.0)) == pytest.approx(0.25, abs=1e-5)
    with pytest.raises(ContractError, match="nothing to compare"):
        fusion_loss(batch[1], *batch[1:], alpha=0.0)


def test_missing_pixels_of_one_channel_are_masked_and_filled_with_the_training_mean():
    scene = products()
    scene.sigma0[:, 1, 40:44, 6:10] = np.nan  # a sensor is there
    samples = make([scene])
    assert samples.notes["missing_vh"] == 32
    assert samples.notes["missing_vv"] == 0
    assert samples.notes["in_situ_without_inputs"] == 2
    assert not samples.valid[:, 40:44, 6:10].any()
    assert samples.valid.sum() == 2 * (SIZE * SIZE - 16)
    assert len(samples.pixels()) == 12
    split = split_sensors(samples, seed=1)
    scalers = fusion_scalers(samples, split)
    data = FusionDataset(samples, split, "train", scalers)
    images, *_, valid = data[np.array([1])]
    assert torch.isfinite(images).all()
    assert images[0, 3, 41, 7] == pytest.approx(scalers[0].fill[3], abs=1e-6)
    assert not valid[0, 40:44, 6:10].any()
    assert valid.sum() == SIZE * SIZE - 16


# --- the split --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_no_sensor_or_pixel_is_on_both_sides(two, seed):
    split = split_sensors(two, validation=0.4, seed=seed)
    train, held = split.ids("train"), split.ids("validation")
    assert not set(train) & set(held)
    assert len(train) + len(held) == len(two.sensors) == 16
    pixels = [set(map(tuple, two.pixels(ids)[["patch", "row", "col"]].to_numpy())) for ids in (train, held)]
    assert pixels[0]
    assert pixels[1]
    assert not pixels[0] & pixels[1]
    assert split.sides["SCAN__h0__Hydraprobe__0.05"] == split.sides["SCAN__h1__Hydraprobe__0.05"]
    scalers = fusion_scalers(two, split)
    data = {side: FusionDataset(two, split, side, scalers) for side in ("train", "validation")}
    both = np.intersect1d(*(data[side].patches for side in data))
    for patch in both:
        masks = [data[s].in_situ_mask[int(np.flatnonzero(data[s].patches == patch)[0])] for s in data]
        assert not (masks[0] & masks[1]).any()
    assert sum(int(d.in_situ_mask.sum()) for d in data.values()) == len(two.pixels())


def test_a_sensor_keeps_its_side_when_others_are_added(two):
    alone = make()
    sides = split_sensors(alone, seed=3, validation=0.4).sides
    assert split_sensors(two, seed=3, validation=0.4).sides[sides.index].equals(sides)


def test_what_sides_share_is_audited(two):
    # the last sensor and the first two lie in one 9 km cell
    first, last = "SCAN__h0__Hydraprobe__0.05", "SCAN__h7__Hydraprobe__0.05"
    found = ((seed, split_sensors(two, seed=seed)) for seed in range(40))
    split = next(split for _, split in found if split.sides[first] != split.sides[last])
    assert split.notes["validation_shared_coarse_cell"] >= 1
    with pytest.raises(ParameterError, match="'validation' is out of range"):
        split_sensors(two, validation=1.0)


def test_whole_places_can_be_held_out(two):
    split = leave_scenes_out(two, ["there"])
    assert set(two.scene[split.train]) == {"here"}
    assert set(two.scene[split.validation]) == {"there"}
    assert all("__t" in one for one in split.ids("validation"))
    scalers = fusion_scalers(two, split)
    changed = replace(
        two,
        images=np.where((two.scene == "there")[:, None, None, None], -99.0, two.images),
        product=np.where((two.scene == "there")[:, None, None], 0.9, two.product),
    )
    assert fusion_scalers(changed, split) == scalers
    with pytest.raises(ParameterError, match="unknown places"):
        leave_scenes_out(two, ["nowhere"])
    with pytest.raises(ParameterError, match="or all"):
        leave_scenes_out(two, ["here", "there"])


def test_a_patch_that_overlaps_a_held_out_place_does_not_train():
    near = window_at(HERE.row_start + 30, HERE.col_start)
    samples = make(
        [products(), products("near", near), products("there", THERE)], tables(((HERE, "h"), (near, "n"), (THERE, "t")))
    )
    split = leave_scenes_out(samples, ["near"])
    assert set(samples.scene[split.train]) == {"there"}
    assert split.notes["patches_overlapping_held_out"] == 2


def test_scales_come_from_training_data_alone(two):
    split = split_sensors(two, seed=0, validation=0.4)
    scalers = fusion_scalers(two, split)
    held = set(split.ids("validation"))
    table = two.in_situ.assign(
        soil_moisture=two.in_situ["soil_moisture"].where(~two.in_situ["sensor_id"].isin(held), 0.9)
    )
    images = two.images.copy()
    hidden = np.isfinite(two.in_situ_images(list(held)))
    images[hidden[:, None] & np.ones((1, 4, 1, 1), bool)] = 1e4
    assert fusion_scalers(replace(two, in_situ=table, images=images), split) == scalers
    pixels = two.pixels(split.ids("train"))["soil_moisture"]
    assert scalers[1].maximum[0] == pytest.approx(max(pixels.max(), np.nanmax(two.product)))


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_what_the_loss_takes(two):
    split = split_sensors(two, seed=0, validation=0.4)
    scalers = fusion_scalers(two, split)
    data = FusionDataset(two, split, "train", scalers)
    images, in_situ, mask, product, product_mask, offset, valid = data[np.array([0, 2])]
    assert images.shape == (2, 4, SIZE, SIZE)
    assert in_situ.shape == mask.shape == valid.shape == (2, SIZE, SIZE)
    assert product.shape == product_mask.shape == (2, 6, 6)
    assert product_mask.all()
    np.testing.assert_array_equal(offset, two.offset[[0, 2]])
    assert float(images.min()) >= 0.0
    assert float(images.max()) <= 1.0
    # the truth of this place: a plane, whose coarse means are the product
    fine = scalers[1].transform((0.2 + 0.01 * (two.images[[0, 2], 0] - 230.0))[..., None])[..., 0]
    pred = torch.from_numpy(fine)
    assert float(fusion_loss(pred, in_situ, mask, product, product_mask, offset, valid, alpha=0.0)) < 1e-4
    right = torch.where(mask, in_situ, pred)
    assert float(fusion_loss(right, in_situ, mask, product, product_mask, offset, valid, alpha=1.0)) == 0.0
    values = two.in_situ_images(split.ids("train"))
    np.testing.assert_allclose(
        scalers[1].inverse(in_situ.numpy()[..., None])[..., 0][mask.numpy()], values[[0, 2]][mask.numpy()], atol=1e-6
    )


def test_random_crops_hold_a_sensor_and_keep_everything_in_place(two):
    split = split_sensors(two, seed=0, validation=0.4)
    scalers = fusion_scalers(two, split)
    whole = FusionDataset(two, split, "train", scalers)
    data = FusionDataset(two, split, "train", scalers, crop=37, seed=5)
    seen = set()
    for batch in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]):
        images, in_situ, mask, product, product_mask, offset, valid = data[np.array(batch)]
        assert images.shape[-2:] == (37, 37)
        assert product.shape[-2:] == (3, 3)
        assert (mask.sum((1, 2)) >= 1).all()
        for k, one in enumerate(batch):
            # where the crop was cut from, by its unlike backscatter
            row, col = (int(i) for i in np.argwhere(whole.images[one, 2].numpy() == images[k, 2, 0, 0].numpy())[0])
            seen.add((one, row, col))
            torch.testing.assert_close(images[k], whole.images[one, :, row : row + 37, col : col + 37])
            torch.testing.assert_close(in_situ[k], whole.in_situ[one, row : row + 37, col : col + 37])
            window = EaseWindow(
                M01,
                *(
                    value
                    for start, i in ((two.windows[one].row_start, row), (two.windows[one].col_start, col))
                    for value in (start + i, start + i + 37)
                ),
            )
            assert tuple(offset[k].tolist()) == coarse_offset(window)
        fine = scalers[0].inverse(images.permute(0, 2, 3, 1).numpy())[..., 0]
        pred = torch.from_numpy(scalers[1].transform((0.2 + 0.01 * (fine - 230.0))[..., None])[..., 0])
        assert product_mask.all()
        # clipped at the 0.1 per cent points, the plane is off by a little in its corners
        assert float(fusion_loss(pred, in_situ, mask, product, product_mask, offset, valid, alpha=0.0)) < 2e-3
    assert len(seen) > 8
    again = FusionDataset(two, split, "train", scalers, crop=37, seed=5)[np.array([1, 3, 0, 2])]
    torch.testing.assert_close(again[0], images)
    with pytest.raises(ParameterError, match="'crop' is out of range"):
        FusionDataset(two, split, "train", scalers, crop=65)


def test_sides_are_known_names(two):
    split = split_sensors(two, seed=0)
    with pytest.raises(ParameterError, match="unknown 'side'"):
        FusionDataset(two, split, "test", fusion_scalers(two, split))
    empty = replace(split, validation=split.validation[:0])
    with pytest.raises(ContractError, match="anything to validate with"):
        FusionDataset(two, empty, "validation", fusion_scalers(two, split))


def test_pixels_are_compared_with_maps(two):
    table = two.at_pixels({"constant": np.full(two.valid.shape, 0.3)})
    assert set(table["scene"]) == {"here", "there"}
    assert (table["constant"] == 0.3).all()
    assert sorted(table.loc[table["scene"] == "here", "time"].unique()) == sorted(PASSES)


def test_a_network_trains_on_them_and_predicts_whole_patches(two, tmp_path):
    data = fusion_training(two, split_sensors(two, seed=0, validation=0.4), crop=36)
    config = TrainingConfig(epochs=5, batch_size=2, learning_rate=3e-2, device="cpu", precision="32-true")
    small = {"features": 4, "blocks": 2, "dropout": 0.0}
    trained = train(
        "fusion_1km", data, loss=partial(fusion_loss, alpha=0.5), config=config, out=tmp_path, model_config=small
    )
    assert trained.history["train_loss"].iloc[-1] < trained.history["train_loss"].iloc[0]
    assert trained.card["training"]["n_sensors"] == sum(one == "train" for one in data.identity["sides"].values())
    assert trained.predict(PatchImages(two.images, trained.input_scaler)).shape == (4, SIZE, SIZE)
