"""Golden values are from published implementations of each model, computed outside of this package."""

from __future__ import annotations

import numpy as np
import pytest

from smnb.contract import ParameterError
from smnb.models.physics import (
    dobson_permittivity,
    fresnel_reflectivity,
    mironov_permittivity,
    rough_reflectivity,
    soil_emission_tb,
    tau_omega_tb,
    vegetation_optical_depth,
)

MOISTURE = np.array([0.05, 0.15, 0.25, 0.4])


@pytest.mark.parametrize(
    ("frequency", "golden"),
    [
        (1.41, [3.556 + 0.249j, 9.935 + 1.106j, 24.467 + 3.209j]),
        (6.925, [3.442 + 0.423j, 9.216 + 2.242j, 22.258 + 6.742j]),
        (10.65, [3.330 + 0.504j, 8.481 + 2.815j, 19.940 + 8.573j]),
    ],
)
def test_mironov_golden(frequency, golden):
    epsilon = mironov_permittivity(np.array([0.05, 0.2, 0.4]), 0.2, frequency)
    np.testing.assert_array_equal(epsilon.round(3), golden)


@pytest.mark.parametrize(
    ("frequency", "golden"),
    [
        (1.41, [4.264 + 0.329j, 11.493 + 1.126j, 24.986 + 2.435j]),
        (6.925, [4.100 + 0.252j, 10.524 + 2.015j, 22.389 + 6.046j]),
    ],
)
def test_dobson_golden(frequency, golden):
    epsilon = dobson_permittivity(np.array([0.05, 0.2, 0.4]), 0.4, 0.2, frequency)
    np.testing.assert_array_equal(epsilon.round(3), golden)


def test_dobson_dry_and_sandy_soil_is_finite_and_lossless():
    epsilon = dobson_permittivity(np.array([0.0, 0.001, 0.1]), 0.95, 0.02, 1.41)
    assert np.isfinite(epsilon).all()
    assert (epsilon.imag >= 0).all()
    # without water only the mixing of solids is left
    assert epsilon[0] == pytest.approx((1 + 1.3 / 2.664 * (4.7**0.65 - 1)) ** (1 / 0.65))


def test_dobson_conductivity_switches_at_1_4_ghz():
    high, low = (dobson_permittivity(0.2, 0.8, 0.1, f).imag for f in (1.4, 1.3999))
    assert abs(high - low) > 0.1  # two published fits, not one continuous curve


@pytest.mark.parametrize(
    ("tau", "golden_h", "golden_v"),
    [
        (0.0, [250.1, 210.9, 179.7, 147.8], [280.7, 257.2, 231.4, 199.4]),
        (0.13 * 1, [259.9, 231.7, 209.3, 186.3], [281.9, 265.0, 246.5, 223.4]),
        (0.11 * 3, [269.2, 252.3, 238.7, 224.9], [282.6, 272.3, 261.2, 247.2]),
    ],
)
def test_smap_tb_golden(tau, golden_h, golden_v):
    tb_h, tb_v = soil_emission_tb(
        MOISTURE, 0.2, 293.0, frequency_ghz=1.41, incidence_deg=40, h=0.13, tau=tau, single_scattering_albedo=0.05
    )
    np.testing.assert_array_equal(tb_h.round(1), golden_h)
    np.testing.assert_array_equal(tb_v.round(1), golden_v)


@pytest.mark.parametrize(
    ("tau", "golden_h", "golden_v"),
    [
        (0.0, [241.6, 206.9, 180.9, 155.2], [284.7, 270.4, 252.3, 227.1]),
        (0.3, [267.0, 254.3, 244.8, 235.4], [282.8, 277.6, 270.9, 261.7]),
        (0.8, [276.0, 273.5, 271.6, 269.8], [279.2, 278.1, 276.8, 275.0]),
    ],
)
def test_amsre_tb_golden(tau, golden_h, golden_v):
    # these numbers are N = 0 values (N = 2 gives 234.2 for the first), although their table is headed N = 2
    tb_h, tb_v = soil_emission_tb(
        MOISTURE,
        0.2,
        293.0,
        frequency_ghz=6.925,
        incidence_deg=55,
        h=0.2,
        q=0.115,
        n=0,
        tau=tau,
        single_scattering_albedo=0.06,
    )
    np.testing.assert_allclose(tb_h, golden_h, atol=0.051)
    np.testing.assert_allclose(tb_v, golden_v, atol=0.051)


def test_fresnel_at_nadir_and_brewster_angle():
    r_h, r_v = fresnel_reflectivity(np.array([4.0, 25.0]), 0.0)
    np.testing.assert_allclose(r_h, [1 / 9, 4 / 9])
    np.testing.assert_allclose(r_v, r_h)
    brewster = np.degrees(np.arctan(np.sqrt(9.0)))
    assert fresnel_reflectivity(9.0, brewster)[1] == pytest.approx(0.0, abs=1e-30)


def test_roughness_limits():
    r_h, r_v = np.array([0.5]), np.array([0.2])
    np.testing.assert_array_equal(rough_reflectivity(r_h, r_v, 55, h=0.0), [r_h, r_v])
    mixed = rough_reflectivity(r_h, r_v, 55, h=0.0, q=0.5)
    np.testing.assert_allclose(mixed, [[0.35], [0.35]])
    strong = rough_reflectivity(r_h, r_v, 60, h=0.4, n=2)
    np.testing.assert_allclose(strong[0], 0.5 * np.exp(-0.4 * 0.25))


def test_tau_omega_limits():
    assert tau_omega_tb(0.3, 290.0, incidence_deg=40) == pytest.approx(0.7 * 290.0)
    opaque = tau_omega_tb(0.3, 290.0, incidence_deg=40, tau=80.0, single_scattering_albedo=0.05, canopy_temperature=280)
    assert opaque == pytest.approx(0.95 * 280.0)


def test_tb_falls_with_soil_moisture_at_fixed_vegetation_and_less_under_more():
    moisture = np.linspace(0.02, 0.5, 40)
    options = {"frequency_ghz": 6.925, "incidence_deg": 55, "h": 0.2, "q": 0.1}
    bare = soil_emission_tb(moisture, 0.2, 295.0, tau=0.0, **options)
    grass = soil_emission_tb(moisture, 0.2, 295.0, tau=0.4, **options)
    for b, g in zip(bare, grass, strict=True):
        assert (np.diff(b) < 0).all()
        assert (np.diff(g) < 0).all()
        assert np.ptp(g) < 0.5 * np.ptp(b)


def test_optical_depth_of_water_in_vegetation():
    np.testing.assert_allclose(vegetation_optical_depth(0.11, [1.0, 3.0]), [0.11, 0.33])


@pytest.mark.parametrize("dielectric", ["mironov", "dobson"])
def test_float32_stays_float32_and_close_to_float64(dielectric):
    def tb(dtype):
        return soil_emission_tb(
            MOISTURE.astype(dtype),
            np.array(0.2, dtype),
            np.array(293, dtype),
            frequency_ghz=6.925,
            incidence_deg=55.0,
            h=0.2,
            q=0.1,
            tau=0.2,
            single_scattering_albedo=0.05,
            sand_fraction=np.array(0.4, dtype),
            dielectric=dielectric,
        )

    for single, double in zip(tb(np.float32), tb(np.float64), strict=True):
        assert (single.dtype, double.dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(single, double, atol=2e-3)
    assert mironov_permittivity(np.float32(0.2), 0.2, 1.41).dtype == np.complex64
    assert mironov_permittivity(1, 0, 1.41).dtype == np.complex128


def test_broadcasting_and_nan():
    epsilon = mironov_permittivity(np.array([[0.1], [np.nan]]), np.array([0.1, 0.2, 0.3]), 6.9)
    assert epsilon.shape == (2, 3)
    assert np.isnan(epsilon[1]).all()
    assert np.isfinite(epsilon[0]).all()


def test_bad_input_is_named():
    with pytest.raises(ParameterError, match=r"'frequency_ghz' is out of range; got 6925000000\.0"):
        mironov_permittivity(0.2, 0.2, 6.925e9)
    with pytest.raises(ParameterError, match="frequency_ghz"):
        dobson_permittivity(0.2, 0.4, 0.2, 19.0)
    with pytest.raises(ParameterError, match="incidence_deg"):
        fresnel_reflectivity(9.0, 90.0)
    with pytest.raises(ParameterError, match="incidence_deg"):
        tau_omega_tb(0.2, 290.0, incidence_deg=-1)
    options = {"frequency_ghz": 6.9, "incidence_deg": 55, "h": 0.1}
    with pytest.raises(ParameterError, match=r"unknown 'dielectric'; got 'topp'.*mironov.*dobson"):
        soil_emission_tb(0.2, 0.2, 290.0, dielectric="topp", **options)
    with pytest.raises(ParameterError, match="needs sand_fraction"):
        soil_emission_tb(0.2, 0.2, 290.0, dielectric="dobson", **options)
