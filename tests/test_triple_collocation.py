"""Triple collocation: against pytesmo, and against a truth that is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from smnb.contract import ContractError, ParameterError
from smnb.metrics import triple_collocation

ERRORS, GAINS = (0.03, 0.04, 0.05), (1.0, 0.8, 1.3)


def triplet(n, seed, phi=0.0):
    rng = np.random.default_rng(seed)

    def series(p):
        return lfilter([np.sqrt(1 - p**2)], [1, -p], rng.standard_normal(n), zi=p * rng.standard_normal(1))[0]

    truth = 0.08 * series(0.9)
    return [0.2 + 0.1 * k + g * truth + e * series(phi) for k, (g, e) in enumerate(zip(GAINS, ERRORS, strict=True))]


@pytest.mark.parametrize("reference", [0, 1, 2])
def test_agrees_with_pytesmo(reference):
    tcol = pytest.importorskip("pytesmo.metrics.tcol")
    data = triplet(500, 1)
    snr, err, beta = tcol.tcol_metrics(*data, ref_ind=reference)
    found = triple_collocation(*data, reference=reference, n_boot=0)
    np.testing.assert_allclose(found["snr_db"], snr, atol=1e-9)
    np.testing.assert_allclose(found["err_std"], err, atol=1e-9)
    np.testing.assert_allclose(found["beta"], beta, atol=1e-9)


def test_finds_the_known_truth():
    found = triple_collocation(*triplet(200_000, 2), names=("a", "b", "c"), n_boot=0)
    gains, errors = np.array(GAINS), np.array(ERRORS)
    np.testing.assert_allclose(found["err_std_own"], errors, rtol=0.03)
    np.testing.assert_allclose(found["err_std"], errors / gains, rtol=0.03)
    np.testing.assert_allclose(found["beta"], 1 / gains, rtol=0.02)
    r = 0.08 * gains / np.hypot(0.08 * gains, errors)
    np.testing.assert_allclose(found["r_truth"], r, rtol=0.01)
    np.testing.assert_allclose(found["snr_db"], 10 * np.log10(r**2 / (1 - r**2)), atol=0.3)
    assert found.index.tolist() == ["a", "b", "c"]


def test_r_is_the_correlation_with_the_truth():
    rng = np.random.default_rng(9)
    truth = rng.normal(0, 0.08, 50_000)
    data = [g * truth + rng.normal(0, e, truth.size) for g, e in zip(GAINS, ERRORS, strict=True)]
    found = triple_collocation(*data, n_boot=0)
    np.testing.assert_allclose(found["r_truth"], [np.corrcoef(truth, d)[0, 1] for d in data], atol=0.01)


def test_intervals_cover_the_truth():
    gains, errors = np.array(GAINS), np.array(ERRORS)
    r = 0.08 * gains / np.hypot(0.08 * gains, errors)
    true = {"err_std": errors / gains, "r_truth": r, "beta": 1 / gains}
    held = {name: [] for name in true}
    for seed in range(12):
        found = triple_collocation(*triplet(700, seed, phi=0.5), n_boot=150)
        for name, value in true.items():
            held[name].append((found[f"{name}_low"] <= value + 1e-12) & (value - 1e-12 <= found[f"{name}_high"]))
            assert (found[f"{name}_low"] <= found[name]).all()
    for name, found in held.items():
        assert np.mean(found) >= 0.86, name
    assert (np.array(held["beta"])[:, 0]).all()  # the reference's own


def test_seeded():
    data = triplet(300, 4)
    first, again = (triple_collocation(*data, n_boot=200, seed=3) for _ in range(2))
    assert first.equals(again)
    assert not first.equals(triple_collocation(*data, n_boot=200, seed=4))


def test_negative_error_variance_is_nan_with_its_reason():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, 400)
    shared = rng.normal(0, 1, 400)  # an error that y and z share
    found = triple_collocation(truth + 0.05 * rng.normal(0, 1, 400), truth + shared, -truth + shared + 2.2 * truth)
    assert found["note"].str.contains("negative").any()
    bad = found["note"].str.contains("negative")
    assert found.loc[bad, ["err_std", "snr_db", "r_truth"]].isna().all(axis=None)
    assert found.loc[~bad, "err_std"].notna().all()


def test_no_common_signal_is_nan_with_its_reason():
    rng = np.random.default_rng(0)
    x, y = triplet(400, 1)[:2]
    found = triple_collocation(x, y, -y + 0.01 * rng.normal(0, 1, 400))
    assert found["note"].str.contains("not positive").all()
    assert found["err_std"].isna().all()
    constant = triple_collocation(x, y, np.full(400, 0.3))
    assert constant["note"].str.contains("not positive").all()


def test_few_triplets_and_gaps():
    x, y, z = triplet(150, 1)
    x[:40], y[30:60], z[5] = np.nan, np.nan, np.nan
    found = triple_collocation(x, y, z, n_boot=0)
    assert (found["n"] == 90).all()
    assert found["note"].str.contains("90 triplets, fewer than 100").all()
    whole = triple_collocation(x[60:], y[60:], z[60:], n_boot=0)
    np.testing.assert_array_equal(found["err_std"], whole["err_std"])
    none = triple_collocation(x[:60], y[:60], z[:60])
    assert (none["note"] == "0 triplets, fewer than 10").all()
    assert none["err_std"].isna().all()


def test_bad_input_raises():
    x, y, z = triplet(50, 1)
    with pytest.raises(ContractError, match="one shape"):
        triple_collocation(x, y, z[:-1])
    with pytest.raises(ContractError, match="infinite"):
        triple_collocation(x, y, np.where(z > z.mean(), np.inf, z))
    with pytest.raises(ParameterError, match="reference"):
        triple_collocation(x, y, z, reference=3)
    with pytest.raises(ParameterError, match="names"):
        triple_collocation(x, y, z, names=("a", "a", "b"))
    with pytest.raises(ParameterError, match="n_boot"):
        triple_collocation(x, y, z, n_boot=5)
