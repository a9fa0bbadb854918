"""Rows of values with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from smnb import plots
from smnb.contract import ContractError
from smnb.plots.display import figure_html


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "name": ["one", "a rather long name that has to go on two lines", "three"],
            "study": ["x", "x", "y"],
            "difference": [0.01, -0.02, 0.0],
            "low": [0.0, -0.03, np.nan],
            "high": [0.02, -0.01, np.nan],
        }
    )


def test_every_row_and_interval_is_drawn_in_order(table):
    shown = {"value": "difference", "label": "name", "group": "study", "xlabel": "Change", "title": "Costs"}
    figure = plots.interval_rows(table, **shown, synthetic=True)
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == "one"
    assert labels[1].count("\n") == 1
    y = np.concatenate([line.get_ydata() for line in axes.lines if line.get_marker() == "o"])
    assert (np.diff(y) < 0).all()
    bars = [segment for c in axes.collections for segment in c.get_segments() if len(segment) == 2]
    assert sorted(float(bar[0, 0]) for bar in bars if np.isfinite(bar).all()) == [-0.03, 0.0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "y"]
    assert any("(synthetic)" in text.get_text() for text in figure.texts)
    assert len(figure_html(figure.twin())) < 60_000


def test_nothing_to_draw_is_said(table):
    with pytest.raises(ContractError, match=r"columns \['cost'\] are missing"):
        plots.interval_rows(table, value="cost", label="name", xlabel="", title="")
    with pytest.raises(ContractError, match="no rows"):
        plots.interval_rows(table.assign(difference=np.nan), value="difference", label="name", xlabel="", title="")
