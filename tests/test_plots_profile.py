"""Figures of a set of sensors: what they show is what the tables hold, nothing leaves the page, clear errors."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from smnb import plots
from smnb.contract import ContractError
from smnb.plots.display import figure_html


def texts(figure) -> list[str]:
    return [one.get_text() for one in figure.findobj(mpl.text.Text) if one.get_text()]


def nothing_leaves_the_page(figure) -> bool:
    figure.canvas.draw()
    page = figure.bbox.padded(1.0)
    boxes = [t.get_window_extent() for t in figure.findobj(mpl.text.Text) if t.get_visible() and t.get_text().strip()]
    return all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes)


def sensors(n: int = 40, networks: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "lat": rng.uniform(30, 48, n),
            "lon": rng.uniform(-120, -75, n),
            "network": [f"NET{i % networks}" for i in range(n)],
        }
    )


def density(world: bool = False) -> xr.DataArray:
    lat, lon = (
        (np.arange(-87.5, 90, 5.0), np.arange(-177.5, 180, 5.0)) if world else (np.arange(26, 52), np.arange(-124, -70))
    )
    values = np.full((lat.size, lon.size), np.nan)
    values[3, 4], values[5, 6] = 1, 7
    return xr.DataArray(
        values, dims=("lat", "lon"), coords={"lat": lat, "lon": lon}, attrs={"long_name": "sensors in a cell"}
    )


@pytest.mark.parametrize("world", [False, True])
def test_a_map_of_sensors_has_density_and_every_place(world):
    table = sensors()
    figure = plots.sensor_map(table, density(world), synthetic=True)
    shown = [one for axes in figure.axes for one in axes.images if one.get_gid() == "field"]
    values = np.asarray(
        shown[0].get_array().filled(np.nan) if np.ma.isMA(shown[0].get_array()) else shown[0].get_array()
    )
    assert set(np.unique(values[np.isfinite(values)])) <= {1, 7}
    below = [axes for axes in figure.axes if axes.get_label() != "colorbar"][1]
    points = [line for line in below.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in points) == len(table)
    assert "(a) Sensors in a cell (synthetic)" in texts(figure)
    assert "(b) Sensors (synthetic)" in texts(figure)
    assert "NET0 (14)" in texts(figure)
    assert nothing_leaves_the_page(figure)


def test_a_map_of_places_alone_shares_rare_kinds():
    figure = plots.sensor_map(sensors(60, 15), title="By network")
    assert texts(figure).count("By network") == 1
    names = [text for text in texts(figure) if text.startswith(("NET", "others"))]
    assert len(names) == 10
    assert "others (24)" in names


def test_a_map_of_sides_has_their_order_and_the_colours_of_the_bars():
    table = sensors(30).assign(side=["test"] * 20 + ["train"] * 6 + ["validation"] * 4)
    figure = plots.sensor_map(table, by="side")
    names = [text for text in texts(figure) if text.split(" ")[0] in ("train", "validation", "test")]
    assert names == ["train (6)", "validation (4)", "test (20)"]
    bars = plots.count_bars({"x": pd.DataFrame({"train": [3], "test": [2]}, index=["a"])}, columns=["train", "test"])
    line = next(one for one in figure.axes[0].lines if one.get_label().startswith("test"))
    patch = bars.axes[0].containers[1].patches[0]
    assert mpl.colors.to_rgb(line.get_color()) == patch.get_facecolor()[:3]


def test_bad_maps_are_refused():
    with pytest.raises(ContractError, match="columns \\['country'\\] are missing"):
        plots.sensor_map(sensors(), density(), by="country")
    with pytest.raises(ContractError, match="no rows"):
        plots.sensor_map(sensors().iloc[:0], density())
    with pytest.raises(ContractError, match="missing everywhere"):
        plots.sensor_map(sensors(), density() * np.nan)


def counts() -> pd.DataFrame:
    return pd.DataFrame(
        {"n_sensors": [12, 3], "train": [8, 1], "test": [4, 2], "few": [False, True]},
        index=["Loam", "A very long name of a class"],
    )


def test_bars_have_the_counts_and_the_asterisk():
    figure = plots.count_bars({"Texture": counts(), "Cover": counts()}, columns=["train", "validation", "test"])
    axes = figure.axes[0]
    assert [[patch.get_width() for patch in bars] for bars in axes.containers] == [[8, 1], [4, 2]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Loam", "A very long name of a class*"]
    assert {"12", "3", "(b) Cover", "train", "test"} <= set(texts(figure))
    assert "validation" not in texts(figure)
    assert nothing_leaves_the_page(figure)
    with pytest.raises(ContractError, match="none of the columns"):
        plots.count_bars({"Texture": counts()}, columns=["buffer"])
    with pytest.raises(ContractError, match="too long"):
        plots.count_bars(
            {"a": counts().rename(index={"Loam": "x" * 50}), "b": counts().rename(index={"Loam": "x" * 50})}
        )


def test_months_are_stacked_in_thousands():
    months = pd.DataFrame(
        {"train": [1000, 0, 500], "test": [500, 250, 0], "n_sensors": [9, 8, 7]},
        index=pd.date_range("2019-01-01", periods=3, freq="MS"),
    )
    figure = plots.month_bars(months, title="Months", synthetic=True)
    bars = figure.axes[0].containers
    assert [patch.get_height() for patch in bars[1]] == [0.5, 0.25, 0]
    assert [patch.get_y() for patch in bars[1]] == [1, 0, 0.5]
    assert figure.axes[1].lines[0].get_ydata().tolist() == [9, 8, 7]
    assert "Months (synthetic)" in texts(figure)
    assert nothing_leaves_the_page(figure)
    with pytest.raises(ContractError, match="no count"):
        plots.month_bars(months[["n_sensors"]], title="x")


def test_a_calendar_keeps_names_of_small_networks_apart():
    index = pd.MultiIndex.from_tuples(
        [(net, f"{net}{i}") for net, n in [("A", 80), ("B", 1), ("C", 1), ("D", 1)] for i in range(n)]
    )
    table = pd.DataFrame(np.full((83, 10), 50.0), index=index, columns=pd.date_range("2020-01-01", periods=10))
    table.iloc[0, 0] = 0.0
    figure = plots.calendar(table, title="Calendar")
    shown = figure.axes[0].images[0].get_array()
    assert np.ma.getmaskarray(shown)[0, 0] or np.isnan(shown[0, 0])
    figure.canvas.draw()
    # of the text alone, without the line to its rows
    boxes = sorted((mpl.text.Text.get_window_extent(t) for t in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(low.y1 <= high.y0 + 1.5 for low, high in itertools.pairwise(boxes))
    assert nothing_leaves_the_page(figure)
    with pytest.raises(ContractError, match="fewer than two periods"):
        plots.calendar(table.iloc[:, :1], title="x")


def test_distances_are_shares_with_their_counts():
    table = pd.DataFrame({"validation": [1, 3], "test": [0, 2]}, index=["< 2.56", "≥ 2.56"])
    figure = plots.grouped_bars(table, title="Distance", xlabel="km")
    assert [[p.get_height() for p in bars] for bars in figure.axes[0].containers] == [[25, 75], [0, 100]]
    assert "validation (n = 4)" in texts(figure)
    assert nothing_leaves_the_page(figure)
    with pytest.raises(ContractError, match="nothing to count"):
        plots.grouped_bars(table.assign(test=0), title="x", xlabel="km")


def test_flags_show_their_percentages():
    table = pd.DataFrame({"G": [99.96, 100.0], "D01": [0.04, 0.0]}, index=["N", "M"])
    figure = plots.share_table(table, title="Flags", synthetic=True)
    assert [one.get_text() for one in figure.axes[0].texts] == ["100.0", "<0.1", "100", "–"]
    assert nothing_leaves_the_page(figure)
    with pytest.raises(ContractError, match="no percentages"):
        plots.share_table(table * 2, title="x")


def test_a_series_is_broken_at_gaps():
    time = pd.date_range("2020-01-01", periods=48, freq="h").append(pd.date_range("2020-01-10", periods=48, freq="h"))
    readings = pd.Series(np.linspace(0.1, 0.3, 96), index=time)
    points = pd.Series([0.2, 0.25], index=pd.to_datetime(["2020-01-01 06:00", "2020-01-10 18:00"]))
    lines = pd.Series(0.15, index=pd.date_range("2020-01-01", periods=80, freq="3h"))
    figure = plots.sensor_series(readings, {"SMAP": points, "GLDAS": lines}, title="S", removed=points, synthetic=True)
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    values = drawn["in situ"].get_ydata()
    assert np.flatnonzero(np.isnan(values)).tolist() == [48]
    assert drawn["SMAP"].get_linestyle() == "None"
    assert drawn["GLDAS"].get_linestyle() == "-"
    assert "in situ, removed by flag (2)" in drawn
    assert "S (synthetic)" in texts(figure)
    assert nothing_leaves_the_page(figure)
    with pytest.raises(ContractError, match="no reading"):
        plots.sensor_series(readings.iloc[:0], {}, title="S")


def test_interactive_twins_are_small():
    table = sensors(30).assign(sensor_id=[f"s{i}" for i in range(30)], side="train")
    time = pd.date_range("2020-01-01", periods=96, freq="6h")
    readings = pd.Series(np.linspace(0.1, 0.3, 96), index=time)
    for figure in (
        plots.sensor_map(table, by="side"),
        plots.sensor_series(readings, {"SMAP": readings[::4] + 0.01}, title="S"),
    ):
        assert 5_000 < len(figure_html(figure.twin())) < 100_000
