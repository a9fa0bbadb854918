"""Rows of square images: one scale a column, colours as given, what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest

from smnb import plots
from smnb.contract import ContractError, ParameterError

COLUMNS = [
    plots.ImageColumn("Sentinel-2"),
    plots.ImageColumn("VV", "dB", "σ⁰", limits=(-20.0, -5.0)),
    plots.ImageColumn.soil_moisture(),
]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return {
        name: [rng.uniform(0, 1, (8, 8, 3)), rng.uniform(-18, -6, (16, 16)), rng.uniform(0.1, 0.1 + spread, (4, 4))]
        for name, spread in (("June", 0.1), ("July", 0.3))
    }


def test_every_image_is_drawn_and_a_column_has_one_scale(rows):
    figure = plots.image_rows(rows, COLUMNS, side_km=1.28, title="Tile", synthetic=True)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 6
    assert {image.get_clim() for image in images[2:4]} == {(-20.0, -5.0)}
    assert len({image.get_clim() for image in images[4:]}) == 1
    low, high = images[4].get_clim()
    assert 0.09 <= low <= 0.12
    assert 0.3 <= high <= 0.41
    assert any("(synthetic)" in text.get_text() for text in figure.texts)
    assert images[0].get_extent() == [0, 1.28, 0, 1.28]
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert "Soil moisture (m³ m⁻³)" in labels
    assert plots.png_bytes(figure)[:4] == b"\x89PNG"
    without = plots.image_rows(rows, COLUMNS, height=0.9)
    assert "km" not in [axes.get_ylabel() for axes in without.axes]


def test_missing_pixels_of_a_colour_image_show_the_ground(rows):
    rows["June"][0][2, 3] = np.nan
    figure = plots.image_rows(rows, COLUMNS, side_km=1.0)
    shown = next(axes.images[0] for axes in figure.axes if axes.images).get_array()
    assert shown[2, 3, 3] == 0
    assert shown[..., 3].sum() == 63


def test_what_does_not_fit_is_refused(rows):
    with pytest.raises(ContractError, match="nothing to draw"):
        plots.image_rows({}, COLUMNS, side_km=1.0)
    with pytest.raises(ContractError, match="'June' has not one image a column"):
        plots.image_rows(rows, COLUMNS[:2], side_km=1.0)
    with pytest.raises(ContractError, match="'VV' of row 'June' has another shape"):
        plots.image_rows({"June": [rows["June"][0], rows["June"][0], rows["June"][2]]}, COLUMNS, side_km=1.0)
    with pytest.raises(ParameterError, match=r"'VV'.*ascending pair"):
        plots.image_rows(rows, [COLUMNS[0], plots.ImageColumn("VV", "dB", limits=(1.0, 1.0)), COLUMNS[2]], side_km=1.0)
    empty = {"June": [rows["June"][0], rows["June"][1], np.full((4, 4), np.nan)]}
    with pytest.raises(ContractError, match="'Soil moisture' is missing everywhere"):
        plots.image_rows(empty, COLUMNS, side_km=1.0)


def test_the_interactive_twin_has_the_same_panels(rows):
    rows["June"][1] = np.full((400, 400), -10.0)
    rows["June"][1][:4, :4] = np.nan
    layout = plots.image_rows(rows, COLUMNS, side_km=1.28, synthetic=True).twin()
    assert len(layout) == 6
    kinds = [type(element).__name__ for element in layout]
    assert kinds == ["RGB", "Image", "Image"] * 2
    first = next(element for element in layout if type(element).__name__ == "Image")
    assert first.dimension_values("value", flat=False).shape == (133, 133)
    assert np.isnan(first.dimension_values("value", flat=False)).sum() == 1
    assert "(synthetic)" in first.opts.get("plot").kwargs["title"]
