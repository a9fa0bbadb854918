"""Scaling of the sources: golden values of the published constants, inverses, counts and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smnb.contract import ContractError, ParameterError
from smnb.papers.batchu2023 import normalisation as norm

DN = [0, 300, 1000, 3000, 10000]
#: Computed apart, from the formula of Dynamic World with the constants of Table 17.
GOLDEN = {
    "B2": [0.00495, 0.04566, 0.29393, 0.82455, 0.98802],
    "B4": [0.00774, 0.06000, 0.32230, 0.81858, 0.98472],
    "B8": [0.00487, 0.02511, 0.11187, 0.42715, 0.85915],
    "B11": [0.00714, 0.03582, 0.15144, 0.50875, 0.89218],
    "B12": [0.01448, 0.08928, 0.37537, 0.82087, 0.98061],
}


@pytest.mark.parametrize("band", GOLDEN)
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_log_sigmoid_has_the_golden_values(band, dtype):
    scaled = norm.sentinel2_log_sigmoid(np.array(DN, dtype), band)
    np.testing.assert_allclose(scaled, GOLDEN[band], atol=5.1e-6)
    assert scaled.dtype == (np.float64 if dtype is np.float64 else np.float32)


@pytest.mark.parametrize("band", norm.LOG_STATISTICS)
def test_log_sigmoid_of_every_band_is_the_formula_and_has_an_exact_inverse(band):
    dn = np.linspace(0.0, 20000.0, 401)
    mean, spread = norm.LOG_STATISTICS[band]
    expected = []
    for one in dn.tolist():  # written out as Dynamic World has it
        e = math.exp((math.log(one * 0.005 + 1.0) - mean) / spread * 5.0 - 1.0)
        expected.append(e / (1.0 + e))
    scaled = norm.normalise("sentinel2", band, dn)
    np.testing.assert_allclose(scaled, expected, rtol=1e-13)
    assert (np.diff(scaled) > 0).all()
    np.testing.assert_allclose(norm.denormalise("sentinel2", band, scaled), dn, rtol=1e-9, atol=1e-9)
    back = norm.denormalise("sentinel2", band, norm.normalise("sentinel2", band, dn.astype(np.float32)))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back[:200], dn[:200], rtol=2e-4, atol=0.1)


def test_the_offset_of_baseline_0400_is_removed_first():
    dn = np.array([300.0, 1000.0, 3000.0])
    with_offset = norm.normalise("sentinel2", "B4", dn + 1000.0, offset=norm.BASELINE_0400_OFFSET)
    np.testing.assert_array_equal(with_offset, norm.normalise("sentinel2", "B4", dn))
    np.testing.assert_allclose(norm.denormalise("sentinel2", "B4", with_offset, offset=1000.0), dn + 1000.0)
    # numbers below the offset are noise, not the logarithm of something negative
    assert norm.normalise("sentinel2", "B4", 200.0, offset=1000.0) == norm.normalise("sentinel2", "B4", 0.0)
    with pytest.raises(ParameterError, match="means nothing for dem"):
        norm.normalise("dem", "elevation", 1.0, offset=1000.0)


def test_dn_of_zero_is_stored_above_zero_so_that_missing_stays_distinct():
    stored = {band: int(norm.quantise_uint8(norm.normalise("sentinel2", band, 0.0))) for band in norm.LOG_STATISTICS}
    assert min(stored.values()) >= 1, stored


@pytest.mark.parametrize(
    ("source", "band", "native", "expected"),
    [
        ("sentinel1", "VV", [-25, -10, 5, 9], [0, 0.5, 1, 1]),
        ("sentinel1", "VH", [-30, -17.5], [0, 0.25]),
        ("sentinel1", "angle", [0, 36, 90], [0, 0.4, 1]),
        ("dem", "elevation", [-80, 1500, 4000], [0, 0.5, 1]),
        ("soilgrids", "sand", [0, 400, 900], [0, 0.5, 1]),
        ("soilgrids", "bdod", [140], [0.175]),
        ("modis_lai", "Lai", [0, 25], [0, 0.25]),
        ("smap", "ssm", [0, 12.5, 25.39], [0, 0.25, 0.5078]),
        ("gldas", "SoilMoi0_10cm_inst", [1.99, 47.59], [0.0199, 0.4759]),
    ],
)
def test_linear_ranges_of_table_4(source, band, native, expected):
    np.testing.assert_allclose(norm.normalise(source, band, native), expected, atol=1e-6)


def test_every_linear_band_comes_back_and_nan_stays():
    for source, bands in norm.RANGES.items():
        for band, (low, high) in bands.items():
            native = np.append(np.linspace(low, high, 11), np.nan)
            back = norm.denormalise(source, band, norm.normalise(source, band, native))
            np.testing.assert_allclose(back, native, rtol=1e-12, atol=1e-12)
    assert np.isnan(norm.normalise("sentinel2", "B2", np.nan))
    assert np.isnan(norm.denormalise("sentinel2", "B2", [np.nan, 0.0, 1.0])).all()  # no sigmoid reaches 0 or 1


def test_coarse_products_become_volumetric():
    assert norm.smap_volumetric([12.5]).tolist() == [0.25]  # mm over 50 mm of soil
    np.testing.assert_allclose(norm.gldas_volumetric(np.array([25.0, np.nan])), [0.25, np.nan])


@pytest.mark.parametrize("bad", [-9999.0, -0.1, 51.0])
def test_coarse_values_in_other_units_are_refused_or_counted(bad):
    values = np.array([10.0, bad, np.nan])
    with pytest.raises(ContractError, match="1 of 3 values of smap ssm lie outside"):
        norm.smap_volumetric(values)
    assert norm.outside_range("smap", "ssm", values) == 1
    clipped = norm.smap_volumetric(values, outside="clip")
    assert clipped[1] == (0.0 if bad < 0 else 1.0)
    assert np.isnan(clipped[2])


def test_images_are_clipped_and_counted():
    vv = np.array([[-40.0, 0.0], [7.0, np.nan]])
    assert norm.outside_range("sentinel1", "VV", vv) == 2
    assert norm.outside_range("sentinel2", "B2", [-5, 0, 12000]) == 1
    assert np.nanmin(norm.normalise("sentinel1", "VV", vv)) == 0.0
    with pytest.raises(ContractError, match="2 of 4"):
        norm.normalise("sentinel1", "VV", vv, outside="raise")


def test_vegetation_indices():
    assert norm.ndvi(0.4, 0.1) == pytest.approx(0.6)
    assert norm.evi(0.4, 0.1, 0.05) == pytest.approx(2.5 * 0.3 / (0.4 + 0.6 - 0.375 + 1.0))
    assert np.isnan(norm.ndvi(0.0, 0.0))
    assert np.isnan(norm.evi(0.1, 0.1, 0.5))  # the denominator is negative
    bands = {"B8": 4000.0, "B4": 1000.0, "B2": 500.0}
    normalised = {band: norm.normalise("sentinel2", band, [dn]) for band, dn in bands.items()}
    np.testing.assert_allclose(norm.normalised_index("NDVI", normalised), [(0.6 + 1) / 2], atol=1e-5)
    expected = (norm.evi(0.4, 0.1, 0.05) + 1) / 2
    np.testing.assert_allclose(norm.normalised_index("EVI", normalised), [expected], atol=1e-5)
    np.testing.assert_allclose(norm.denormalise("sentinel2", "NDVI", [0.8]), [0.6], atol=1e-6)
    with pytest.raises(ParameterError, match="EVI lacks bands"):
        norm.normalised_index("EVI", {"B8": [0.5], "B4": [0.5]})


def test_storage_in_8_bits_is_within_half_a_step():
    values = np.linspace(0.0, 1.0, 1001)
    stored = norm.quantise_uint8(values)
    assert stored.dtype == np.uint8
    assert np.abs(norm.dequantise(stored) - values).max() <= 0.5 / 255 + 1e-7
    assert norm.quantise_uint8([np.nan, -1.0, np.inf]).tolist() == [0, 0, 255]
    assert np.isnan(norm.dequantise([0, 51], zero_is_missing=True)).tolist() == [True, False]
    assert norm.dequantise(np.array([51])).dtype == np.float32
    for wrong in ([256], [-1]):
        with pytest.raises(ContractError, match="not 8-bit"):
            norm.dequantise(wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: norm.normalise("landsat", "B2", 1.0), "unknown source; got 'landsat'"),
        (lambda: norm.denormalise("sentinel1", "HH", 1.0), "unknown band of sentinel1; got 'HH'"),
        (lambda: norm.normalise("sentinel2", "B1", 1.0), "unknown band of sentinel2"),
        (lambda: norm.sentinel2_log_sigmoid(1.0, "B9"), "unknown band of sentinel2"),
        (lambda: norm.normalise("dem", "elevation", 1.0, outside="wrap"), "unknown 'outside'"),
        (lambda: norm.linear([1.0], 5.0, 5.0), "the range is empty"),
        (lambda: norm.linear([1.0], 0.0, math.nan), "the range is empty"),
    ],
)
def test_unknown_names_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
