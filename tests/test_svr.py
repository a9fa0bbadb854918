"""SVR through torch against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.svm import SVR

from smnb.contract import ContractError, ParameterError
from smnb.models.amsre_cnn import TorchSVR, fit_svr, flatten_patches


@pytest.fixture(scope="module")
def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.random((900, 4)).astype("float32")
    features = (np.repeat(base, 81, axis=1) * 0.8 + 0.2 * rng.random((900, 324))).astype("float32")
    return features, (np.sin(3 * base[:, 0]) * base[:, 1] + 0.1 * rng.standard_normal(900)).astype("float32")


@pytest.mark.parametrize("settings", [{"C": 1.0}, {"C": 1000.0, "epsilon": 0.001}, {"gamma": "auto"}, {"gamma": 0.5}])
def test_torch_prediction_equals_scikit_learn(samples: tuple, settings: dict) -> None:
    features, target = samples
    svr = SVR(**settings).fit(features[:600], target[:600])
    predicted = TorchSVR(svr)(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(predicted, svr.predict(features), atol=1e-5)


def test_patches_are_flattened_in_memory_order() -> None:
    patches = torch.rand(3, 9, 9, 4).permute(0, 3, 1, 2)
    assert flatten_patches(patches).data_ptr() == patches.data_ptr()
    torch.testing.assert_close(flatten_patches(patches)[1, :4], patches[1, :, 0, 0])


def test_search_takes_the_best_and_beats_the_mean(samples: tuple) -> None:
    features, target = samples
    svr, table = fit_svr(features[:700], target[:700], n_search=300, seed=1)
    assert len(table) == 4
    best = table.loc[table["rmse"].idxmin()]
    assert (svr.C, svr.epsilon, svr.gamma) == tuple(best[["C", "epsilon", "gamma"]])
    rmse = np.sqrt(np.mean((svr.predict(features[700:]) - target[700:]) ** 2))
    assert rmse < 0.7 * target[700:].std()


def test_refuses_other_kernels_and_feature_counts(samples: tuple) -> None:
    features, target = samples
    with pytest.raises(ParameterError, match="linear"):
        TorchSVR(SVR(kernel="linear").fit(features[:50], target[:50]))
    with pytest.raises(ContractError, match="324"):
        TorchSVR(SVR().fit(features[:50], target[:50]))(torch.rand(2, 5))
    with pytest.raises(ContractError, match="training samples"):
        fit_svr(features[:5], target[:5])
