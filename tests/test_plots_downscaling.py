"""Figures of downscaling: one scale for all regions, what is drawn where, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from smnb.contract import ContractError
from smnb.plots import map_matrix, method_scores
from smnb.plots.display import figure_html


def _field(seed: int, south: float, west: float) -> xr.DataArray:
    values = np.random.default_rng(seed).uniform(0.05, 0.35, (20, 30))
    lat, lon = south + np.arange(20) * 0.03, west + np.arange(30) * 0.03
    return xr.DataArray(values, {"lat": lat, "lon": lon}, ("lat", "lon"))


@pytest.fixture
def rows() -> dict[str, dict[str, xr.DataArray]]:
    return {
        name: {"Coarse": _field(k, south, west), "SMEN": _field(k + 9, south, west)}
        for k, (name, south, west) in enumerate([("Tucson", 31.0, -112.0), ("Geneva", 45.0, 5.0)])
    }


def test_all_regions_share_one_scale_and_differences_another(rows) -> None:
    rows["Geneva"]["SMEN"] = rows["Geneva"]["SMEN"] + 0.2
    differences = {name: {"SMEN − coarse": panels["SMEN"] - panels["Coarse"]} for name, panels in rows.items()}
    figure = map_matrix(rows, units="m3 m-3", differences=differences, title="Test", synthetic=True)
    images = [image for axes in figure.axes for image in axes.get_images() if image.get_gid() == "field"]
    assert len(images) == 6
    assert len({image.get_clim() for image in images}) == 2
    low, high = images[2].get_clim()
    assert low == -high
    assert next(text.get_text() for text in figure.texts) == "Test (synthetic)"
    bars = [axes for axes in figure.axes if axes.get_label() == "colorbar"]
    assert [bar.get_xlabel() for bar in bars] == ["Soil moisture (m³ m⁻³)", "Difference (m³ m⁻³)"]


def test_regions_with_other_columns_are_refused(rows) -> None:
    del rows["Geneva"]["SMEN"]
    with pytest.raises(ContractError, match="other columns"):
        map_matrix(rows, units="m3 m-3")
    with pytest.raises(ContractError, match="other regions"):
        map_matrix(rows, units="m3 m-3", differences={"Tucson": {}})


def test_methods_are_drawn_in_order_with_their_mean() -> None:
    table = pd.DataFrame({"method": ["b", "b", "a", "a"], "region": ["X"] * 4, "ubrmse": [0.02, 0.04, 0.05, 0.07]})
    figure = method_scores(
        table,
        value="ubrmse",
        group="region",
        xlabel="ubRMSE (m³ m⁻³)",
        title="T",
        line=(0.04, "required"),
        synthetic=True,
    )
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    marks = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "D"]
    np.testing.assert_allclose(marks, [0.03, 0.06])
    assert "0.030" in [text.get_text() for text in axes.texts]
    assert len(figure_html(figure.twin())) < 60_000
    with pytest.raises(ContractError, match=r"columns \['ubrmse'\] are missing"):
        method_scores(table.drop(columns="ubrmse"), value="ubrmse", group="region", xlabel="", title="")
