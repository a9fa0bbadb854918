"""Patches, scaling, draws: against the naive way of cutting patches out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from smnb.contract import ContractError, ParameterError
from smnb.papers.hu2018_amsre.tasks import PatchDataset, PatchIndex, PatchStore, draw_patches, eligible_centres
from smnb.training import BatchDataset, MinMaxScaler, load, save


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(100, 300, size=(3, 14, 20, 4)).astype("float32")


def test_scaler_maps_training_extremes_to_zero_and_one_and_back(images: np.ndarray, tmp_path: Path) -> None:
    images[0, 0, 0, 2] = np.nan
    scaler = MinMaxScaler.fit(images)
    scaled = scaler.transform(images)
    assert np.nanmin(scaled, axis=(0, 1, 2)) == pytest.approx([0, 0, 0, 0], abs=1e-6)
    assert np.nanmax(scaled, axis=(0, 1, 2)) == pytest.approx([1, 1, 1, 1], abs=1e-6)
    assert np.isnan(scaled[0, 0, 0, 2])
    np.testing.assert_allclose(scaler.inverse(scaled), images, rtol=1e-6)
    np.testing.assert_allclose(scaler.fill, np.nanmean(scaled, axis=(0, 1, 2)), rtol=1e-4)
    saved = save(tmp_path / "one", torch.nn.Linear(1, 1), input_scaler=scaler)
    assert load(saved, model=torch.nn.Linear(1, 1)).input_scaler == scaler


@pytest.mark.parametrize("value", [np.nan, 5.0])
def test_scaler_refuses_a_channel_without_spread(images: np.ndarray, value: float) -> None:
    images[..., 1] = value
    with pytest.raises(ContractError, match=r"'6.9V' has no spread"):
        MinMaxScaler.fit(images, names=("6.9H", "6.9V", "10.7H", "10.7V"))


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("patch_size", [1, 5, 9])
def test_gathered_patches_equal_patches_cut_out_one_by_one(images: np.ndarray, wrap: bool, patch_size: int) -> None:
    images[1, 3, 4] = np.nan
    scaler = MinMaxScaler.fit(images)
    store = PatchStore(images, scaler, patch_size=patch_size, wrap=wrap)
    number, row, col = (a.ravel() for a in np.indices((3, 14, 20)))
    got = store.gather(PatchIndex(number, row, col)).numpy()
    scaled = scaler.transform(images)
    scaled = np.where(np.isnan(scaled), np.asarray(scaler.fill, "float32"), scaled)
    half = patch_size // 2
    for k in np.random.default_rng(0).integers(0, number.size, 60):
        rows = np.clip(np.arange(row[k] - half, row[k] + half + 1), 0, 13)
        cols = np.arange(col[k] - half, col[k] + half + 1)
        cols = cols % 20 if wrap else np.clip(cols, 0, 19)
        np.testing.assert_array_equal(got[k], scaled[number[k]][np.ix_(rows, cols)].transpose(2, 0, 1))


def test_store_refuses_even_patches_and_other_channels(images: np.ndarray) -> None:
    scaler = MinMaxScaler.fit(images)
    with pytest.raises(ParameterError, match="odd"):
        PatchStore(images, scaler, patch_size=8)
    with pytest.raises(ContractError, match="4 channels"):
        PatchStore(images[..., :3], scaler)


def test_eligible_needs_valid_target_centre_and_neighbourhood(images: np.ndarray) -> None:
    target = np.zeros((3, 14, 20), "float32")
    target[0, 7, 7] = np.nan
    images[1, 5, 5, 3] = np.nan  # one channel is enough
    images[2, :, :12] = np.nan
    eligible = eligible_centres(images, target, patch_size=9, wrap=False, min_valid_fraction=0.5)
    assert not eligible[0, 7, 7]
    assert eligible[0].sum() == 14 * 20 - 1
    assert not eligible[1, 5, 5]
    assert eligible[1, 5, 6]
    # on image 2 columns 12.. are valid: at column 12 five of nine columns are, so it just passes; wrapping adds 19 -> 0
    assert not eligible[2, :, :12].any()
    assert eligible[2, :, 12:].all()
    stricter = eligible_centres(images, target, patch_size=9, wrap=False, min_valid_fraction=0.6)
    assert not stricter[2, :, 12].any()
    assert stricter[2, :, 13].all()
    wrapped = eligible_centres(images, target, patch_size=9, wrap=True, min_valid_fraction=0.6)
    assert not wrapped[2, 7, 19]


def test_draws_are_disjoint_seeded_and_stable_when_days_are_added() -> None:
    eligible = np.random.default_rng(3).random((4, 30, 40)) < 0.5
    train, validation = draw_patches(eligible, [0, 1], (200, 50), seed=7)
    assert (len(train), len(validation)) == (400, 100)
    keys = {*zip(train.image, train.row, train.col, strict=True)}
    assert len(keys) == 400
    assert not keys & {*zip(validation.image, validation.row, validation.col, strict=True)}
    assert train.take(eligible).all()
    again, _ = draw_patches(eligible, [0, 1, 2], (200, 50), seed=7)
    np.testing.assert_array_equal(again.row[:400], train.row)
    other, _ = draw_patches(eligible, [0, 1], (200, 50), seed=8)
    assert not np.array_equal(other.row, train.row)


def test_a_day_with_few_centres_is_shared_in_proportion_and_none_is_an_error() -> None:
    eligible = np.zeros((2, 10, 10), bool)
    eligible[0, :7] = True  # 70 of the wanted 140
    train, validation = draw_patches(eligible, [0, 1], (100, 40), seed=0)
    assert (len(train), len(validation)) == (50, 20)
    with pytest.raises(ContractError, match="no eligible patch"):
        draw_patches(eligible, [1], (10,), seed=0)


def test_dataset_refuses_missing_targets(images: np.ndarray) -> None:
    store = PatchStore(images, MinMaxScaler.fit(images))
    index = PatchIndex(*np.zeros((3, 2), dtype="int64"))
    with pytest.raises(ContractError, match="missing values"):
        PatchDataset(store, index, np.array([0.5, np.nan]))
    patches, target = PatchDataset(store, index, np.array([0.5, 0.25]))[np.array([1])]
    assert patches.shape == (1, 4, 9, 9)
    assert target == torch.tensor([0.25])


def test_a_data_set_without_batches_cannot_be_made():
    class Half(BatchDataset):
        def __len__(self) -> int:
            return 3

    with pytest.raises(TypeError, match="__getitem__"):
        Half()

    class Whole(Half):
        def __getitem__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return batch, batch

    assert Whole()[np.arange(2)][0].tolist() == [0, 1]
    assert Whole.evaluation_batch == 2048
