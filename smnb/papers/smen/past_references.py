"""What a network of earlier scenes has to beat: weighted means of them, a fixed blend, and learners on such maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnb.loaders.smap.records import CellRecord
from smnb.models.baselines import reference_predictions
from smnb.papers.smen.cells import PAIR_FEATURES, STATE_FEATURES, Estimates, known_at

_AGES = (20.0, 60.0, 365.0)  # days over which earlier scenes count for less


def _pair(known: Estimates, name: str) -> NDArray:
    return known.inputs.pairs[..., PAIR_FEATURES.index(name)].double().numpy()


def past_mean(known: Estimates, weights: NDArray, which: int = 1, *, shrink: float = 0.0) -> NDArray:
    """Mean of earlier scenes' patterns (0) or residuals (1) with weights (n, scene), by `shrink` scenes shrunk: (n, row, col)."""
    weights = weights * known.inputs.earlier.double().numpy()
    seen, values = (part.double().numpy() for part in (known.inputs.seen, known.inputs.patterns[which]))
    total = np.einsum("ns,syx->nyx", weights, seen) + shrink
    return np.divide(np.einsum("ns,syx->nyx", weights, values), total, out=np.zeros_like(total), where=total > 1e-12)


def past_maps(known: Estimates) -> NDArray:
    """Maps that ridge and boosting see, (n, map, row, col): SMAP, and means of earlier scenes by age, season and wetness."""
    age = 30 * np.exp(_pair(known, "log_age"))
    last = known.inputs.earlier.double().numpy()
    last = (np.cumsum(last[:, ::-1], 1)[:, ::-1] == 1) * last  # the youngest
    weights = [np.ones_like(age), *(np.exp(-age / days) for days in _AGES), last]
    weights += [np.exp(-((_pair(known, name) / 0.5) ** 2)) for name in ("season_apart", "wetness_apart")]
    means = [past_mean(known, one, which, shrink=0.3 * one.max(initial=1e-6)) for one in weights for which in (0, 1)]
    anomaly = known.inputs.state[:, STATE_FEATURES.index("anomaly")].double().numpy()[:, None, None]
    return np.stack(
        [*known.inputs.now.double().numpy().swapaxes(0, 1), *means, anomaly * means[0], anomaly * means[1]], 1
    )


def past_references(record: CellRecord, times: NDArray) -> dict[str, NDArray]:
    """Fixed ways to carry the past forward, by name: (n, 12, 12), m3 m-3, with SMAP's level."""
    known = known_at(record, times)
    level, smap = known.level[:, None, None], known.inputs.now[:, 0].double().numpy()
    age = 30 * np.exp(_pair(known, "log_age"))
    mean = past_mean(known, np.ones_like(age))
    return {
        "mean past residual": level + smap + mean,
        "past residuals by age": level + smap + past_mean(known, np.exp(-age / 30)),
        "0.3 SMAP + 0.7 mean residual": level + 0.3 * smap + 0.7 * mean,
    }


def past_learners(
    record: CellRecord, train: NDArray, new: NDArray, fine: NDArray, *, seed: int = 0
) -> dict[str, NDArray]:
    """Ridge and boosting on `past_maps`, fitted to the patterns of `fine` (scene, 12, 12) at `train`: (n, 12, 12), m3 m-3."""
    known = known_at(record, new)

    def pixels(of: Estimates) -> NDArray:
        maps = past_maps(of)
        return np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1])

    mean = np.nanmean(fine, axis=(1, 2), keepdims=True)
    groups = np.repeat(np.arange(train.size), 144)
    options = {"groups": groups, "rows": ("ridge", "gradient boosting"), "seed": seed}
    found = reference_predictions(pixels(known_at(record, train)), (fine - mean).ravel(), pixels(known), **options)
    level = known.level[:, None, None]
    return {
        f"{name.removeprefix('gradient ')} on past maps": level + image.reshape(-1, 12, 12)
        for name, image in found.items()
    }
