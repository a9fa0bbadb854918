"""Downscaling samples: matching in time, the past alone in the residuals, gaps, splits, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from smnb.contract import ContractError
from smnb.grids import M03, M36, EaseWindow, match_nearest_in_time
from smnb.papers.smen.sequences import ImageSequences, SequenceDataset, fill_forward, sequence_scalers

FINE = EaseWindow(M03, 1038, 1068, 2646, 2680)  # 30 x 34 cells that do not begin at a 36 km cell
NAN = np.nan


def _array(window: EaseWindow, values: np.ndarray, times: np.ndarray) -> xr.DataArray:
    array = xr.DataArray(
        values.astype("float32"), {**window.coords(), "time": times}, ("time", "y", "x"), "soil_moisture"
    )
    array.attrs = {"units": "m3 m-3", "synthetic": 1}
    return array


@pytest.fixture
def products() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(3)
    days = np.arange("2017-01-01", "2017-03-02", dtype="datetime64[D]").astype("datetime64[ns]")
    coarse_window = FINE.covering(M36)
    coarse = 0.2 + 0.05 * rng.standard_normal((days.size, *coarse_window.shape))
    coarse[1::3] = NAN  # SMAP does not pass every day
    scenes = days[::6] + np.timedelta64(18, "h")
    fine = 0.2 + 0.05 * rng.standard_normal((scenes.size, *FINE.shape))
    fine[2, :, 10:] = NAN
    return _array(FINE, fine, scenes), _array(coarse_window, coarse, days)


def _sequences(products: tuple[xr.DataArray, xr.DataArray], **options: object) -> ImageSequences:
    return ImageSequences.from_products(*products, name="test", title="test (synthetic)", **options)


def test_nearest_in_time_takes_the_nearest_valid_value_of_each_pixel() -> None:
    times = np.array(["2017-01-01", "2017-01-02", "2017-01-04"], "datetime64[ns]")
    values = np.array([[[1.0, NAN]], [[2.0, 2.0]], [[3.0, NAN]]])
    wanted = np.array(["2017-01-01T06", "2017-01-03", "2017-01-09"], "datetime64[ns]")
    found = match_nearest_in_time(values, times, wanted, np.timedelta64(48, "h"))
    # 3 January is as far from the 2nd as from the 4th: the past is taken
    np.testing.assert_array_equal(found, [[[1.0, 2.0]], [[2.0, 2.0]], [[NAN, NAN]]])


def test_fill_forward_uses_the_past_only() -> None:
    images = np.array([[NAN, 1.0], [2.0, NAN], [NAN, NAN], [5.0, 6.0]])
    np.testing.assert_array_equal(fill_forward(images), [[0.0, 1.0], [2.0, 1.0], [2.0, 1.0], [5.0, 6.0]])


def test_coarse_cells_lie_where_the_fine_cells_are(products) -> None:
    sequences = _sequences(products)
    fine, coarse = products
    assert sequences.coarse.shape == sequences.fine.shape == (10, 30, 34)
    # independent of the grids' nesting code: look each fine cell up by its coordinates on the coarse grid
    row, col = M36.rowcol(*np.meshgrid(FINE.lat, FINE.lon, indexing="ij"))
    window = FINE.covering(M36)
    matched = match_nearest_in_time(coarse.values, coarse.time.values, fine.time.values, np.timedelta64(36, "h"))
    np.testing.assert_allclose(sequences.coarse, matched[:, row - window.row_start, col - window.col_start])
    assert sequences.synthetic
    assert sequences.notes["fine_pixels_missing"] == 30 * 24


def test_a_sample_holds_the_scenes_before_it_oldest_first(products) -> None:
    sequences = _sequences(products)
    scalers = sequence_scalers(sequences, np.arange(4, 8))
    (coarse, residuals), target, mask = SequenceDataset(sequences, [6, 9], scalers)[np.array([1])]
    expected = scalers[0].transform(np.stack([sequences.coarse, sequences.residuals], -1))
    np.testing.assert_allclose(residuals[0], expected[5:9, ..., 1], atol=1e-6)
    np.testing.assert_allclose(coarse[0], expected[9, ..., 0], atol=1e-6)
    np.testing.assert_allclose(scalers[1].inverse(target[0].numpy()[..., None])[..., 0], sequences.fine[9], atol=1e-6)
    assert bool(mask.all())


def test_missing_target_pixels_are_masked_and_excluded_ones_too(products) -> None:
    sequences = _sequences(products, history=2)
    scalers = sequence_scalers(sequences, np.arange(3, 8))
    exclude = np.zeros(sequences.shape, bool)
    exclude[:5] = True
    _, target, mask = SequenceDataset(sequences, [2, 3], scalers, exclude=exclude)[np.array([0, 1])]
    assert torch.isfinite(target).all()
    assert not mask[0, :, 10:].any()
    assert not mask[:, :5].any()
    assert mask[0, 5:, :10].all()
    assert mask[1, 5:].all()


def test_the_future_never_reaches_a_sample(products) -> None:
    fine, coarse = products
    before = _sequences(products)
    changed = fine.copy(deep=True)
    changed[8:] += 0.1
    after = _sequences((changed, coarse))
    scalers = sequence_scalers(before, np.arange(4, 7))
    at = np.array([0, 1, 2])
    for one, two in zip(*(SequenceDataset(s, [5, 6, 8], scalers)[at][0] for s in (before, after)), strict=True):
        assert torch.equal(one, two)


def test_scaler_is_fitted_on_training_scenes_alone(products) -> None:
    sequences = _sequences(products)
    scalers = sequence_scalers(sequences, np.arange(4, 7))
    sequences.coarse[7:] += 9.0
    assert sequence_scalers(sequences, np.arange(4, 7)) == scalers


def test_split_in_time_counts_and_refuses(products) -> None:
    sequences = _sequences(products)
    split = sequences.split("2017-02-10", n_train=2)
    assert split.train.tolist() == [5, 6]
    assert split.test.tolist() == [7, 8, 9]
    assert sequences.split("2017-02-10", n_test=1).test.tolist() == [7]
    with pytest.raises(ContractError, match="too few training"):
        sequences.split("2017-02-10", n_train=9)
    with pytest.raises(ContractError, match="too few test"):
        sequences.split("2018-01-01")


def test_history_longer_than_the_record_and_scenes_without_history_are_refused(products) -> None:
    with pytest.raises(ContractError, match="history is longer"):
        _sequences(products, history=10)
    sequences = _sequences(products)
    with pytest.raises(ContractError, match="no whole history"):
        SequenceDataset(sequences, [3], sequence_scalers(sequences, np.arange(4, 7)))


def test_scenes_without_coarse_or_fine_values_are_dropped_and_counted(products) -> None:
    fine, coarse = products
    fine, coarse = fine.copy(deep=True), coarse.copy(deep=True)
    fine[3] = NAN
    coarse[26:36] = NAN  # around the scene of 31 January
    sequences = _sequences((fine, coarse))
    assert sequences.notes["dropped_without_fine"] == 1
    assert sequences.notes["dropped_without_coarse"] == 1
    assert sequences.time.size == 8
    assert np.isfinite(sequences.coarse).all()


def test_a_coarse_product_that_does_not_cover_is_refused(products) -> None:
    fine, coarse = products
    with pytest.raises(ContractError, match="does not cover"):
        _sequences((fine, coarse[:, 1:]))
    with pytest.raises(ContractError, match="'dropped_without_coarse': 10"):  # no coarse image is of 18 h itself
        _sequences(products, window_hours=0)


def test_truth_is_matched_by_time(products) -> None:
    fine, _ = products
    sequences = _sequences(products)
    with_truth = sequences.with_truth(fine + 0.01)
    np.testing.assert_allclose(with_truth.truth, fine.values + 0.01, rtol=1e-6)
    with pytest.raises(ContractError, match="another grid"):
        sequences.with_truth(fine[:, 1:])
