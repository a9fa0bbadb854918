"""Figures of scores: that what is drawn is what was given, and that nothing to draw is an error."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from smnb import plots
from smnb.contract import ContractError, ParameterError
from smnb.metrics import Interval, Metric
from smnb.plots import prediction_series, score_boxes, score_maps, sorted_scores
from smnb.plots.display import figure_html


def scores(n: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    value = rng.uniform(0.02, 0.08, n)
    return pd.DataFrame(
        {
            "sensor_id": [f"s{i:02d}" for i in range(n)],
            "lat": rng.uniform(30, 45, n),
            "lon": rng.uniform(-120, -80, n),
            "ubrmse": value,
            "ubrmse_low": value - 0.01,
            "ubrmse_high": value + 0.02,
            "pearson_r": rng.uniform(0.2, 0.95, n),
            "climate": (["Cf"] * 7 + ["BS"] * 3 + [None] * max(n - 10, 0))[:n],
        }
    )


def points(axes, marker: str) -> np.ndarray:
    return np.concatenate([line.get_ydata() for line in axes.lines if line.get_marker() == marker])


def test_sensors_are_sorted_by_the_first_model_and_keep_their_own_values():
    a, b = scores(), scores(seed=1)
    a.loc[3, "ubrmse"] = np.nan  # only the second has a score there: it comes last
    mean = {"A": Interval(0.05, 0.04, 0.06, 0.95, "", 12), "B": Interval(0.05, np.nan, np.nan, 0.95, "", 12)}
    figure = sorted_scores({"A": a, "B": b}, averages=mean, synthetic=True)
    axes = figure.axes[0]
    drawn = points(axes, "o")
    np.testing.assert_allclose(drawn[:11], np.sort(a["ubrmse"].dropna()))
    assert np.isnan(drawn[11])
    order = [*a.dropna().sort_values("ubrmse")["sensor_id"]]
    order = [*a.dropna(subset=["ubrmse"]).sort_values("ubrmse")["sensor_id"], "s03"]
    np.testing.assert_allclose(points(axes, "s"), b.set_index("sensor_id").loc[order, "ubrmse"])
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["A: mean 0.050 [0.040, 0.060]", "B: mean 0.050"]
    assert "(synthetic)" in figure.texts[0].get_text()


def test_an_interval_that_leaves_the_axis_is_marked_and_counted():
    table = scores(40)
    table.loc[5, "ubrmse_high"] = 9.0
    figure = sorted_scores({"A": table})
    assert figure.axes[0].get_ylim()[1] < 0.2
    assert "1 intervals go on above the axis" in figure.texts[0].get_text()
    assert "above the axis" not in sorted_scores({"A": scores(40)}).texts[0].get_text()


def test_maps_show_each_place_once_and_count_what_has_no_score():
    table = scores()
    table.loc[0, "pearson_r"] = np.nan
    table = pd.concat([table, table.iloc[[4]].assign(sensor_id="twin", ubrmse=table["ubrmse"][4] + 0.02)])
    figure = score_maps(table, model="CNN", synthetic=True)
    maps = [axes for axes in figure.axes if axes.get_label() != "colorbar"]
    assert [len(axes.collections[-1].get_offsets()) for axes in maps] == [11, 12]
    assert maps[0].get_legend().get_texts()[0].get_text() == "no score (1)"
    assert maps[1].get_legend() is None
    assert max(maps[1].collections[-1].get_array()) <= table["ubrmse"].max()
    assert table["ubrmse"][4].iloc[0] + 0.01 == pytest.approx(
        next(v for v in maps[1].collections[-1].get_array() if abs(v - table["ubrmse"][4].iloc[0] - 0.01) < 1e-9)
    )
    assert maps[0].get_title(loc="left") == "(a) R of each sensor, CNN (synthetic)"
    for axes in maps:  # every sensor is on the map
        (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
        assert west < table["lon"].min() < table["lon"].max() < east
        assert south < table["lat"].min() < table["lat"].max() < north


@pytest.mark.parametrize("lon", [[-150.0, 10.0, 140.0], [-155.5, -155.4, -155.3], [20.0]])
def test_maps_of_the_globe_an_island_and_one_sensor(lon):
    table = scores(len(lon)).assign(lat=np.linspace(-10, -10.2, len(lon)), lon=lon)
    figure = score_maps(table, ["ubrmse"])
    assert len(figure.axes[0].collections[-1].get_offsets()) == len(lon)
    assert len(plots.png_bytes(figure)) > 5000


def predictions() -> dict[str, pd.DataFrame]:
    time = pd.date_range("2020-01-01", periods=20, freq="D").delete(slice(8, 15))
    frame = pd.DataFrame({"sensor_id": "a", "time": time, "observed": 0.2, "predicted": np.linspace(0.1, 0.3, 13)})
    return {"A": pd.concat([frame, frame.assign(sensor_id="b")]), "B": frame.assign(predicted=0.25)}


def test_series_break_at_gaps_and_name_the_models():
    figure = prediction_series(predictions(), ["b", "a"], notes={"a": "Cf; R 0.90"}, synthetic=True)
    first, second = figure.axes
    assert first.get_title(loc="left") == "(a) b (synthetic)"
    assert second.get_title(loc="left") == "(b) a (synthetic)"
    assert [text.get_text() for text in second.texts] == ["Cf; R 0.90"]
    drawn = second.lines[1].get_ydata()
    assert np.isnan(drawn).sum() == 1
    assert np.isnan(drawn[8])
    assert figure.legends[0].get_texts()[1].get_text() == "A"
    assert {text.get_text() for text in figure.legends[0].get_texts()} >= {"in situ", "A", "B"}


def test_boxes_stand_only_on_enough_sensors():
    figure = score_boxes(
        {"A": scores(), "B": scores(seed=2)}, {"climate": "Climate"}, order={"climate": ["BS", "ET", "Cf"]}
    )
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["BS*\n3", "Cf\n7", "none*\n2"]
    boxes = [line for line in axes.lines if len(line.get_xdata()) == 5]
    assert len(boxes) == 2  # one a model, for Cf
    np.testing.assert_allclose(sorted(points(axes, "o")), sorted(scores()["ubrmse"]))


@pytest.mark.parametrize(
    "draw",
    [
        lambda table: sorted_scores({"A": table}, "ubrmse"),
        lambda table: score_maps(table, ["ubrmse"]),
        lambda table: score_boxes({"A": table}, {"climate": "Climate"}, "ubrmse"),
    ],
)
def test_nothing_to_draw_is_an_error(draw):
    assert isinstance(draw(scores()), mpl.figure.Figure)
    with pytest.raises(ContractError, match=r"no sensor of .* has a score"):
        draw(scores().assign(ubrmse=np.nan))
    with pytest.raises(ContractError, match=r"columns \['ubrmse'\] are missing"):
        draw(scores().drop(columns="ubrmse"))


def test_unknown_names_raise():
    with pytest.raises(ParameterError, match="unknown metric"):
        sorted_scores({"A": scores()}, "skill")
    with pytest.raises(ParameterError, match=r"no such sensor.*'c'"):
        prediction_series(predictions(), ["c"])
    with pytest.raises(ParameterError, match="no such sensor"):
        prediction_series(predictions(), [])
    with pytest.raises(ContractError, match=r"A: columns \['predicted'\] are missing"):
        prediction_series({"A": predictions()["A"].drop(columns="predicted")}, ["a"])
    with pytest.raises(ContractError, match="nothing to draw"):
        sorted_scores({})


def test_an_own_metric_is_drawn_under_its_name_and_unit():
    own = Metric("mae", lambda pred, obs: abs(pred - obs).mean(), units="m3 m-3", better="low", label="mean error")
    table = scores().rename(columns={"ubrmse": "mae"})
    assert sorted_scores({"A": table}, own).axes[0].get_ylabel() == "Mean error (m³ m⁻³)"
    assert score_boxes({"A": table}, {"climate": "Climate"}, own).axes[0].get_ylabel() == "Mean error (m³ m⁻³)"
    colours = score_maps(table, own).axes[0].collections[-1].get_cmap().name
    assert colours == "viridis_r"  # low is good, and good is yellow


@pytest.mark.parametrize(
    "figure",
    [
        lambda: sorted_scores({"A": scores(), "B": scores(seed=1)}),
        lambda: score_maps(scores()),
        lambda: score_boxes({"A": scores()}, {"climate": "Climate"}),
        lambda: prediction_series(predictions(), ["b", "a"]),
    ],
)
def test_interactive_twins_are_small(figure):
    assert 5_000 < len(figure_html(figure().twin())) < 100_000
