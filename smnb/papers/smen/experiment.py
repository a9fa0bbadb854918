"""Steps of a downscaling experiment: samples for `smnb.training.train`, the level brought back, baselines, scores an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import ContractError, ParameterError, plain
from smnb.metrics import interval, pair_scores
from smnb.models.baselines import pixel_climatology, reference_predictions
from smnb.papers.smen.estimation import CellEstimator
from smnb.papers.smen.opening import Place
from smnb.papers.smen.past_references import past_learners, past_references
from smnb.papers.smen.past_training import PastScenesTraining, train_past_scenes
from smnb.papers.smen.sequences import SequenceDataset, sequence_scalers
from smnb.training import Samples, Trained

_LEAST_PIXELS, _LEAST_OF_CELL = 100, 30  # an image, and one of a 36 km cell, with fewer valid pixels has no score


def smen_samples(place: Place) -> Samples:
    """What a network is trained on: ``model(coarse, residuals) -> fine``, scaled; the loss is `unbiased_rmse_loss`.

    The paper has no validation: the first four training scenes give the history its ``validation_loss``; train with
    ``keep="last"``, as the paper does.
    """
    sequences, scenes, exclude = place.sequences, place.split.train, place.exclude
    scalers = sequence_scalers(sequences, scenes, exclude=exclude)
    train, validation = (SequenceDataset(sequences, part, scalers, exclude=exclude) for part in (scenes, scenes[:4]))
    identity = {"title": sequences.title, "history": sequences.history, "train": scenes, "exclude": exclude}
    identity |= {"coarse": sequences.coarse, "fine": sequences.fine}
    days = [sequences.day(scenes[0]), sequences.day(scenes[-1])]
    card = {"data": sequences.title, "synthetic": sequences.synthetic, "train": days}
    options = {"sizes": {"history": sequences.history}, "identity": identity, "card": card}
    return Samples(train, validation, ("coarse", "residual"), *scalers, **options)


def predict_images(trained: Trained, place: Place, scenes: np.ndarray) -> np.ndarray:
    """Estimate fine images ``(scene, row, col)``, m3 m-3 but for each image's level, which the loss leaves free (`add_level`)."""
    own = place.sequences.history
    if (history := trained.card["config"].get("history", own)) != own:
        what, step = "the network takes another history", "Open the places with that history"
        raise ContractError("predict_images", what, got=own, expected=history, next_step=step)
    return trained.predict(SequenceDataset(place.sequences, scenes, (trained.input_scaler, trained.target_scaler)))


def add_level(images: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Give each image ``(scene, row, col)`` the mean of its coarse image on the fine grid: what an ubRMSE loss leaves open.

    >>> add_level(np.array([[[1.0, 3.0]]]), np.array([[[0.2, 0.2]]])).round(2).tolist()
    [[[-0.8, 1.2]]]
    """
    axes = (-2, -1)
    return images - images.mean(axes, keepdims=True) + coarse.mean(axes, keepdims=True)


def downscale_baselines(place: Place, scenes: np.ndarray) -> dict[str, np.ndarray]:
    """What a downscaling network has to beat, made from what it sees: by name, ``(scene, row, col)``, m3 m-3.

    The coarse image as it is and between cell centres, the last fine image (gaps carried forward) plus the coarse change, and the
    coarse image plus the mean residual of the training scenes: zero where none saw a pixel, and where pixels are excluded.
    """
    sequences = place.sequences
    residual = (sequences.fine - sequences.coarse)[place.split.train]
    count = np.isfinite(residual).sum(0)
    seen = count > 0 if place.exclude is None else (count > 0) & ~place.exclude
    climatology = np.divide(np.nansum(residual, 0), count, out=np.zeros(sequences.shape, "float32"), where=seen)
    coarse = sequences.coarse[scenes]
    past = {} if place.record is None else past_references(place.record, sequences.time[scenes])
    return past | {
        "coarse": coarse,
        "bilinear": sequences.interpolated[scenes],
        "last fine + coarse change": coarse + sequences.residuals[scenes - 1],
        "residual climatology": coarse + climatology,
    }


def reference_images(
    place: Place, scenes: np.ndarray, *, beside: Iterable[Place] = (), seed: int = 0
) -> dict[str, np.ndarray]:
    """The rows of `smnb.models.reference_predictions`, pixel by pixel, from what the network sees of that pixel.

    They are fitted to pixels of the training scenes, but for those that are excluded; the climatology is a pixel's mean. Of a
    real cell they are the learners on maps of all earlier scenes, and "SMEN of all earlier scenes", three networks, which are
    trained on the training scenes of the places `beside` too.

    Returns
    -------
    dict of str to ndarray, shape (scene, row, col)
        m3 m-3.
    """
    sequences, train = place.sequences, place.split.train
    target = sequences.fine[train]
    if place.record is not None:  # what is known of a pixel is more than the last scenes
        times = sequences.time[scenes]
        learnt = past_learners(place.record, sequences.time[train], times, target, seed=seed)
        known = {one.sequences.name: one for one in (place, *beside)}.values()
        early = [np.isin(one.record.time, one.sequences.time[one.split.train]) for one in known]
        training = PastScenesTraining(members=3, seed=seed)
        estimator = CellEstimator(train_past_scenes([one.record for one in known], early, training), place.record)
        found = estimator.estimate(times, detail="product")["soil_moisture"].values
        return learnt | {"SMEN of all earlier scenes": found}
    if place.exclude is not None:
        target = np.where(place.exclude, np.nan, target)

    def features(of: np.ndarray) -> np.ndarray:
        past = sequences.residuals[of[:, None] + np.arange(-sequences.history, 0)]
        stacked = np.concatenate([sequences.coarse[of][:, None], past], axis=1)
        return np.moveaxis(stacked, 1, -1).reshape(-1, sequences.history + 1)

    pixels = tuple(np.indices((scenes.size, *sequences.shape)).reshape(3, -1))
    found = reference_predictions(
        features(train),
        target.ravel(),
        features(scenes),
        groups=np.repeat(train, target[0].size),
        climatology=pixel_climatology(target, np.arange(train.size), pixels),
        seed=seed,
    )
    return {name: values.reshape(-1, *sequences.shape).astype("float32") for name, values in found.items()}


def score_images(
    estimates: dict[str, np.ndarray], observed: np.ndarray, times: np.ndarray, *, where: np.ndarray | None = None
) -> pd.DataFrame:
    """Score each image ``(scene, row, col)`` of each method over its valid pixels, m3 m-3, and those of `where` (row, col).

    A row a method and image: ``method``, ``time``, ``n``, ``bias``, ``rmse``, ``ubrmse`` (the paper's, which no level enters) and
    ``r`` (over space). An image with fewer than 100 valid pixels, 30 of a 36 km cell, is left out; none is a `ParameterError`.
    """
    valid = np.isfinite(observed) if where is None else np.isfinite(observed) & where
    counts, least = valid.sum((1, 2)), _LEAST_OF_CELL if observed[0].size == 144 else _LEAST_PIXELS
    scenes = np.flatnonzero(counts >= least)
    if not scenes.size:
        expected = plain(f">= {least}")
        raise ParameterError("score_images", "no image has enough valid pixels", got=counts.tolist(), expected=expected)
    rows = [
        {"method": method, "time": times[i], **pair_scores(images[i][valid[i]], observed[i][valid[i]])}
        for method, images in estimates.items()
        for i in scenes
    ]
    return pd.DataFrame(rows)


def score_place(
    place: Place,
    trained: Trained | Sequence[Trained],
    *,
    name: str = "SMEN",
    references: dict[str, np.ndarray] | None = None,
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Estimate a place's scenes by a network, called `name`, and by each baseline, and score all.

    Parameters
    ----------
    place : Place
    trained : Trained or sequence of it
        Networks of several seeds are averaged.
    references : dict of str to ndarray, shape (test scene, row, col), optional
        From `reference_images`: scored on the test scenes beside the others.

    Returns
    -------
    estimates : dict of str to ndarray, shape (test scene, row, col)
        By method, m3 m-3, with a level.
    scores : DataFrame
        A row a method and image with 100 valid pixels: ``method``, ``time``, ``n``, ``bias``, ``rmse``, ``ubrmse`` (m3 m-3, which
        no level enters), ``r`` (over space), ``part`` (train, test), ``reference`` (product, truth) and ``region``. Where pixels
        are excluded from training, test scores are apart for the cells that training saw and for those that it did not, as two
        regions. ``<name> without level`` is the network's own output, whose bias and RMSE mean nothing: the difference to
        ``<name>`` is what the coarse mean adds.
    """
    sequences, split, exclude = place.sequences, place.split, place.exclude
    estimates, tables = {}, []
    for part in ("train", "test"):
        scenes = getattr(split, part)
        bare = predict_images(trained, place, scenes)
        estimates = {name: add_level(bare, sequences.coarse[scenes]), **downscale_baselines(place, scenes)}
        estimates |= (references or {}) if part == "test" else {}
        seen = {"": None} if exclude is None else {", cells seen": ~exclude, ", cells held out": exclude}
        for region, where in seen.items() if part == "test" else list(seen.items())[:1]:
            compared = {"product": ({f"{name} without level": bare} if part == "test" else {}) | estimates}
            # where the product has no value the truth still has one: completing the region is what the network is for
            if part == "test" and sequences.truth is not None:
                compared["truth"] = estimates
            for reference, methods in compared.items():
                observed = sequences.fine if reference == "product" else sequences.truth
                found = score_images(methods, observed[scenes], sequences.time[scenes], where=where)
                tables.append(found.assign(part=part, reference=reference, region=sequences.title + region))
    return estimates, pd.concat(tables, ignore_index=True)


def paired_gains(scores: pd.DataFrame, name: str = "SMEN", *, seed: int = 0) -> pd.DataFrame:
    """Compare a network, called `name`, with every other method scene by scene: the mean difference of ubRMSE.

    Parameters
    ----------
    scores : DataFrame
        Test rows of `score_place` of one reference.
    seed : int
        Of the moving-block bootstrap over scenes in order of time (`smnb.metrics.interval`), as scenes near in time are alike.

    Returns
    -------
    DataFrame
        ``region``, ``other``, ``difference`` (negative: the network is better), ``low``, ``high`` (95 %), ``n``, ``note``. With
        fewer than 13 images there is no interval, and it is NaN.
    """
    rows = []
    for region, table in scores.groupby("region", sort=False):
        wide = table.pivot(index="time", columns="method", values="ubrmse").sort_index()
        for other in [m for m in table["method"].unique() if m != name and not m.endswith(" without level")]:
            found = interval(wide[name], wide[other], "bias", seed=seed)
            row = {"region": region, "other": other, "difference": (wide[name] - wide[other]).mean()}
            rows.append(row | {"low": found.low, "high": found.high, "n": len(wide), "note": found.note})
    return pd.DataFrame(rows)


def scene_maps(place: Place, estimates: dict[str, np.ndarray]) -> tuple[str, dict[str, xr.DataArray]]:
    """The test scene with most valid cells: a title, and maps of the coarse image, of each estimate and of the fine product."""
    sequences, scenes = place.sequences, place.split.test
    best = int(np.isfinite(sequences.fine[scenes]).sum((1, 2)).argmax())
    images = {"Coarse": sequences.coarse[scenes[best]], **{name: images[best] for name, images in estimates.items()}}
    images["Fine product"] = sequences.fine[scenes[best]]
    title = f"{sequences.title}\n{sequences.day(scenes[best])}"
    return title, {name: sequences.field(image) for name, image in images.items()}
