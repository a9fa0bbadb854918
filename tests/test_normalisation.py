"""Scaling of the sources: golden values of the published constants, inverses, counts and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smnb.contract import ContractError, ParameterError
from smnb.papers.batchu2023 import SOURCES, Source
from smnb.papers.batchu2023.inputs import vegetation_index
from smnb.papers.batchu2023.sources import dequantise

LIGHT = SOURCES["sentinel2"]
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
    scaled = LIGHT.normalise(band, np.array(DN, dtype))
    np.testing.assert_allclose(scaled, GOLDEN[band], atol=5.1e-6)
    assert scaled.dtype == (np.float64 if dtype is np.float64 else np.float32)


@pytest.mark.parametrize("band", LIGHT.range)
def test_log_sigmoid_of_every_band_is_the_formula_and_has_an_exact_inverse(band):
    dn = np.linspace(0.0, 20000.0, 401)
    mean, spread = LIGHT.range[band]
    expected = []
    for one in dn.tolist():  # written out as Dynamic World has it
        e = math.exp((math.log(one * 0.005 + 1.0) - mean) / spread * 5.0 - 1.0)
        expected.append(e / (1.0 + e))
    scaled = LIGHT.normalise(band, dn)
    np.testing.assert_allclose(scaled, expected, rtol=1e-13)
    assert (np.diff(scaled) > 0).all()
    np.testing.assert_allclose(LIGHT.denormalise(band, scaled), dn, rtol=1e-9, atol=1e-9)
    back = LIGHT.denormalise(band, LIGHT.normalise(band, dn.astype(np.float32)))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back[:200], dn[:200], rtol=2e-4, atol=0.1)
    # noise below 0 is not the logarithm of something negative
    assert LIGHT.normalise(band, -200.0) == LIGHT.normalise(band, 0.0)


def test_dn_of_zero_is_stored_above_zero_so_that_missing_stays_distinct():
    stored = {band: round(255 * float(LIGHT.normalise(band, 0.0))) for band in LIGHT.range}
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
    np.testing.assert_allclose(SOURCES[source].normalise(band, native), expected, atol=1e-6)


def test_every_linear_band_comes_back_and_nan_stays():
    for source in SOURCES.values():
        for band, (low, high) in source.range.items() if source.scaling == "linear" else ():
            native = np.append(np.linspace(low, high, 11), np.nan)
            back = source.denormalise(band, source.normalise(band, native))
            np.testing.assert_allclose(back, native, rtol=1e-12, atol=1e-12)
    assert np.isnan(LIGHT.normalise("B2", np.nan))
    assert np.isnan(LIGHT.denormalise("B2", [np.nan, 0.0, 1.0])).all()  # no sigmoid reaches 0 or 1


def test_coarse_products_become_volumetric():
    assert SOURCES["smap"].normalise("ssm", [12.5]).tolist() == [0.25]  # mm over 50 mm of soil
    gldas = SOURCES["gldas"].normalise("SoilMoi0_10cm_inst", np.array([25.0, np.nan]))
    np.testing.assert_allclose(gldas, [0.25, np.nan])


@pytest.mark.parametrize("bad", [-9999.0, -0.1, 51.0])
def test_coarse_values_in_other_units_are_refused_and_counted(bad):
    values = np.array([10.0, bad, np.nan])
    with pytest.raises(ContractError, match="1 of 3 values of smap ssm lie outside"):
        SOURCES["smap"].normalise("ssm", values)
    clipped = SOURCES["smap"].normalise("ssm", values, outside="clip")
    assert clipped[1] == (0.0 if bad < 0 else 1.0)
    assert np.isnan(clipped[2])


def test_images_are_clipped():
    vv = np.array([[-40.0, 0.0], [7.0, np.nan]])
    assert np.nanmin(SOURCES["sentinel1"].normalise("VV", vv)) == 0.0
    with pytest.raises(ContractError, match="2 of 4"):
        SOURCES["sentinel1"].normalise("VV", vv, outside="raise")


def test_vegetation_indices():
    bands = {"B8": [4000.0, 0.0, 1000.0], "B4": [1000.0, 0.0, 1000.0], "B2": [500.0, 0.0, 5000.0]}
    ndvi, evi = 0.6, 2.5 * 0.3 / (0.4 + 0.6 - 0.375 + 1.0)
    found = vegetation_index("NDVI", bands)
    np.testing.assert_allclose(found, [(ndvi + 1) / 2, np.nan, 0.5], atol=1e-6)  # 0 / 0 is missing
    found = vegetation_index("EVI", bands)
    np.testing.assert_allclose(found, [(evi + 1) / 2, 0.5, np.nan], atol=1e-6)  # the denominator is negative


def test_storage_in_8_bits_is_within_half_a_step():
    values = np.linspace(0.0, 1.0, 1001)
    stored = np.round(values * 255.0).astype(np.uint8)
    assert np.abs(dequantise(stored) - values).max() <= 0.5 / 255 + 1e-7
    assert np.isnan(dequantise([0, 51], zero_is_missing=True)).tolist() == [True, False]
    assert dequantise(np.array([51])).dtype == np.float32


MINE = {"name": "mine", "catalog_id": "mine", "bands": ("a", "b"), "range": (0.0, 10.0), "bound": "1D"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"range": (5.0, 5.0)}, "have no range, or an empty one"),
        ({"range": (0.0, math.nan)}, "have no range, or an empty one"),
        ({"range": {"a": (0, 1)}}, r"bands \['b'\] have no range"),
        ({"bands": ()}, "one or more different bands"),
        ({"bands": ("a", "a")}, "one or more different bands"),
        ({"name": "my source"}, "one or more different bands"),
        ({"bound": -1}, "'bound' is no time span"),
        ({"cloud": 120}, "'cloud' is out of range"),
        ({"kind": "wide"}, "unknown 'kind'"),
        ({"kind": "coarse", "static": True}, "a coarse source is not static"),
        ({"scaling": "root"}, "unknown 'scaling'"),
        ({"resampling": "cubic"}, "unknown 'resampling'"),
    ],
)
def test_a_source_that_is_none_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        Source(**{**MINE, **changes})


def test_a_source_survives_json_and_names_its_bands():
    own = Source(**MINE)
    assert Source(**own.as_dict()) == own
    assert all(Source(**one.as_dict()) == one for one in SOURCES.values())
    with pytest.raises(ParameterError, match="unknown band of mine; got 'c'"):
        own.normalise("c", 1.0)
