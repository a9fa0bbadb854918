"""Reference rows: each does what it says, chooses inside the training data, and copes with gaps."""

from __future__ import annotations

import numpy as np
import pytest

from smnb.contract import ContractError, ParameterError
from smnb.models import REFERENCES, reference_predictions
from smnb.models.baselines import fit_boosting


def world(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 300, (n, 4))
    y = 0.2 + 0.1 * np.sign(x[:, 0] - 150) * np.sign(x[:, 1] - 150) + 0.0002 * x[:, 2] + 0.005 * rng.standard_normal(n)
    x[rng.random(x.shape) < 0.02] = np.nan
    return x, y


def test_all_four_rows_in_physical_units_and_trees_see_what_is_not_linear() -> None:
    (x, y), (new, truth) = world(), world(200, seed=1)
    found = reference_predictions(x, y, new)
    assert tuple(found) == REFERENCES
    error = {name: float(np.sqrt(np.mean((values - truth) ** 2))) for name, values in found.items()}
    np.testing.assert_allclose(found["climatology"], y.mean())
    assert error["gradient boosting"] < 0.5 * error["ridge"] < 0.5 * error["climatology"]
    assert error["SVR"] < error["ridge"]
    own = reference_predictions(x, y, new, climatology=np.full(200, 0.3), rows=["climatology"])
    assert list(own) == ["climatology"]
    assert (own["climatology"] == 0.3).all()


def test_units_of_the_features_do_not_matter() -> None:
    (x, y), (new, _) = world(), world(50, seed=1)
    scale, shift = np.array([1.0, 1e-3, 50.0, 7.0]), np.array([0.0, 5.0, -3.0, 100.0])
    here, there = (reference_predictions(a, y, b) for a, b in ((x, new), (x * scale + shift, new * scale + shift)))
    for name in ("ridge", "SVR"):
        np.testing.assert_allclose(here[name], there[name], atol=1e-4)


def test_boosting_is_tuned_on_groups_that_are_held_out_whole() -> None:
    """Features that only name the group teach nothing of another group: tuned on groups, the trees stay few and small."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)
    level = rng.normal(0.25, 0.1, 30)
    x = rng.normal(size=(30, 3))[groups] + 0.01 * rng.standard_normal((600, 3))
    y = level[groups] + 0.01 * rng.standard_normal(600)
    grouped, loose = fit_boosting(x, y, groups), fit_boosting(x, y, np.arange(600))
    assert grouped.max_iter < 0.25 * loose.max_iter


def test_what_does_not_fit_is_refused() -> None:
    x, y = world(40)
    with pytest.raises(ContractError, match="shapes do not fit"):
        reference_predictions(x, y[1:], x)
    with pytest.raises(ParameterError, match="'rows' holds an unknown name"):
        reference_predictions(x, y, x, rows=["boosting"])
    with pytest.raises(ContractError, match="hold some out"):
        fit_boosting(x, y, np.zeros(40))
