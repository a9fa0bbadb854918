"""Steps of the experiment on one fold: samples of a network, the SVR, the reference rows, scores, and maps of whole days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb import metrics
from smnb.contract import ContractError
from smnb.maps import PatchForm, mapped_image, soil_moisture_map
from smnb.models.amsre_cnn import AmsreCNN, TorchSVR, fit_svr, flatten_patches
from smnb.models.baselines import pixel_climatology, reference_predictions, seasonal_climatology
from smnb.papers.hu2018_amsre.tasks import Fold, PatchDataset, PatchIndex, PatchStore, PatchTask, goes_round
from smnb.training import MinMaxScaler, Samples, Trained, choose_device


@dataclass(frozen=True)
class FoldData:
    """A fold ready for training: padded images scaled by its training patches, and the target's scaling."""

    task: PatchTask
    fold: Fold
    store: PatchStore
    target_scaler: MinMaxScaler

    @classmethod
    def of(cls, task: PatchTask, fold: Fold, *, device: str | torch.device = "cpu") -> FoldData:
        """Scale, fill and pad a task's images with the statistics of the fold's training patches."""
        inputs, target = task.scalers(fold)
        store = PatchStore(task.images, inputs, patch_size=task.patch_size, wrap=task.wrap, device=device)
        return cls(task, fold, store, target)

    def dataset(self, index: PatchIndex) -> PatchDataset:
        """Batches of patches, with their scaled targets."""
        target = self.target_scaler.transform(index.take(self.task.target)[:, None])[:, 0]
        return PatchDataset(self.store, index, target)

    def features(self, index: PatchIndex) -> np.ndarray:
        """Patches as rows of features, scaled: what a model that is no network takes."""
        return flatten_patches(self.store.gather(index)).cpu().numpy()

    def some_training(self, n: int, seed: int) -> PatchIndex:
        """Some of the training patches, at random and in their order: models of kernels and trees take no more."""
        train = self.fold.train
        return train[np.sort(np.random.default_rng([seed, 7]).permutation(len(train))[:n])]

    @property
    def samples(self) -> Samples:
        """What a network of patches is trained on, as `smnb.training.train` takes it."""
        task, fold = self.task, self.fold
        parts = [[i.image, i.row, i.col, i.take(task.target)] for i in (fold.train, fold.validation)]
        return Samples(
            self.dataset(fold.train),
            self.dataset(fold.validation),
            channels=task.channels,
            input_scaler=self.store.scaler,
            target_scaler=self.target_scaler,
            sizes={"in_channels": len(task.channels), "patch_size": task.patch_size},
            identity={"data": [task.title, fold.name, self.store.scaler, self.target_scaler, parts]},
            card={"data": task.title, "synthetic": task.synthetic, "fold": fold.name},
        )

    @property
    def name(self) -> str:
        """The fold's name as one of a folder."""
        return self.fold.name.replace(" ", "_")

    @property
    def blocks(self) -> np.ndarray:
        """Block of each test patch, which a comparison keeps together: 10 degrees, or the image of a task without coordinates."""
        test, task = self.fold.test, self.task
        if task.lat is None:
            return np.array([f"{self.fold.name}, image {image}" for image in test.image])
        rows, cols = (np.floor(axis[at] / 10).astype(int) for axis, at in ((task.lat, test.row), (task.lon, test.col)))
        return 100 * rows + cols

    @property
    def test(self) -> PatchDataset:
        """The test patches."""
        return self.dataset(self.fold.test)

    @property
    def observed(self) -> np.ndarray:
        """Target of the test patches, m3 m-3."""
        return self.fold.test.take(self.task.target)

    @property
    def target_range(self) -> float:
        """Width of the target's scaling, m3 m-3: a scaled RMSE times this is an RMSE in m3 m-3."""
        return self.target_scaler.maximum[0] - self.target_scaler.minimum[0]


@dataclass(frozen=True)
class TrainedSVR:
    """A support vector regression and what it took."""

    machine: Trained  # predicts patches as a trained network does
    search: pd.DataFrame
    largest_difference: float  # of torch from scikit-learn over some test patches; scaled units


def train_svr(data: FoldData, *, n_samples: int, n_search: int = 2000, seed: int = 0) -> TrainedSVR:
    """Fit the paper's SVR on `n_samples` of the network's training patches: libsvm's cost grows with their square.

    `n_search` samples choose C and epsilon.
    """
    index = data.some_training(n_samples, seed)
    svr, table = fit_svr(data.features(index), data.dataset(index).target.numpy(), n_search=n_search, seed=seed)
    machine, check = TorchSVR(svr), data.features(data.fold.test[:500])
    difference = svr.predict(check) - machine(torch.from_numpy(check)).numpy()
    training = {"n_train": len(index), "C": svr.C, "epsilon": svr.epsilon, "gamma": svr.gamma}
    card = {"model": "SVR", "training": training}
    trained = Trained(machine, card, data.store.scaler, data.target_scaler)
    return TrainedSVR(trained, table, float(np.abs(difference).max()))


def patch_references(
    data: FoldData, *, n_samples: int = 20_000, n_boosting: int = 10_000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Predict the test patches by what a network has to beat, m3 m-3.

    ``ridge`` and ``gradient boosting`` see the same patches. For a task of one place over days, ``pixel mean`` is the
    climatology: the mean of the training days at each pixel, no satellite at all. For a task of regions it is ``season mean``,
    of the other regions; ``region × season mean`` looks up the left-out region's own past and so is not available where there is
    no past: it is shown because it is hard to beat.
    """
    task, test, index = data.task, data.fold.test, data.some_training(n_samples, seed)
    options = {"n_samples": n_samples, "n_boosting": n_boosting, "seed": seed, "rows": ("ridge", "gradient boosting")}
    options["groups"] = index.image if np.unique(index.image).size > 1 else None
    rows = reference_predictions(data.features(index), index.take(task.target), data.features(test), **options)
    if "region" not in task.labels:
        place = (test.image, test.row, test.col)
        return rows | {"pixel mean": pixel_climatology(task.target, data.fold.fit_images, place)}
    season = seasonal_climatology(task.target, task.labels, data.fold.fit_images, test.image, by=("season",))
    region, year = task.labels["region"].to_numpy(), task.labels["time"].dt.year.to_numpy()
    own_past = np.flatnonzero((region == region[test.image[0]]) & (year < year[test.image].min()))
    both = seasonal_climatology(task.target, task.labels, own_past, test.image, by=("region", "season"))
    return rows | {"season mean": season, "region × season mean": both}


def score_predictions(predictions: Mapping[str, np.ndarray], observed: np.ndarray, target_range: float) -> pd.DataFrame:
    """Score each model over all patches ``(patch,)``, m3 m-3; `target_range` is the width of the target's scaling.

    One row a model: ``r2`` (coefficient of determination), ``r`` (Pearson), ``rmse_scaled`` (on [0, 1] targets, as the paper's
    is read), ``rmse``, ``ubrmse`` and ``bias`` in m3 m-3, and ``n``.
    """
    scores = {"r2": metrics.r2, "r": metrics.pearson_r, "rmse_scaled": metrics.rmse, "rmse": metrics.rmse}
    scores |= {"ubrmse": metrics.ubrmse, "bias": metrics.bias}
    rows = {}
    for model, predicted in predictions.items():
        row = {name: float(score(predicted, observed)) for name, score in scores.items()}
        row["rmse_scaled"] /= target_range
        rows[model] = row | {"n": int(np.isfinite(predicted + observed).sum())}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def gains(
    predictions: Mapping[str, np.ndarray], observed: np.ndarray, blocks: np.ndarray, *, model: str, seed: int = 0
) -> pd.DataFrame:
    """Compare one model's RMSE with each other's, block by block, with an interval that keeps a block's patches together.

    `predictions` and `observed` are as in `score_predictions`, `blocks` ``(patch,)`` as neighbouring patches are no independent
    evidence. By the other model: ``difference`` of the mean RMSE of a block, m3 m-3 (negative: the model is better), ``low`` and
    ``high`` (95 %), ``interval`` as text, and ``blocks``.
    """
    squared = pd.DataFrame({name: (values - observed) ** 2 for name, values in predictions.items()})
    rmse = np.sqrt(squared.groupby(blocks).mean())
    rows = {}
    for other in rmse.columns.drop(model):
        found = metrics.compare(rmse[model], rmse[other], "rmse", names=(model, other), seed=seed).difference
        ends = {"difference": found.value, "low": found.low, "high": found.high}
        rows[other] = {**ends, "interval": metrics.interval_text(*ends.values(), ".4f"), "blocks": len(rmse)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("against")


def map_by_patches(trained: Trained, data: FoldData, image: int) -> xr.DataArray:
    """Map one image of a gridded task patch by patch, on its land: the only way for a model that is not convolutional."""
    wanted = data.task.land & np.isfinite(data.task.images[image]).all(axis=-1)
    row, col = np.nonzero(wanted)
    values = np.full(wanted.shape, np.nan, dtype="float32")
    patches = PatchDataset(data.store, PatchIndex(np.full(row.size, image), row, col))
    values[wanted] = trained.predict(patches, device=str(data.store.device))
    return data.task.field(values, "soil_moisture", "m3 m-3", "volumetric soil moisture")


def day_maps(
    trained: Trained, images: xr.DataArray, *, synthetic: bool, where: xr.DataArray | None = None, device: str = "cpu"
) -> xr.Dataset:
    """Predict whole days, lazily: each when `smnb.maps.write_map` writes it, so memory does not grow with their number.

    The paper's network runs in its exactly equivalent dense form, another one patch by patch. `images` (time, channel, lat, lon)
    are in native units, may be lazy, and have the network's channels. Where `where` (lat, lon) is False, on the sea, say, the map
    is missing, as is a pixel whose own inputs are. ``soil_moisture`` (time, lat, lon), m3 m-3, is under the contract.
    """
    channels, image = list(map(str, images["channel"].values)), ["channel", "lat", "lon"]
    if channels != trained.card["channels"]:
        raise ContractError("day_maps", "channels", got=channels, expected=trained.card["channels"])
    if images.dims != ("time", *image):
        raise ContractError("day_maps", "dims", got=images.dims, expected=("time", *image))
    wrap, wanted = goes_round(images["lon"].values), None if where is None else where.values.astype(bool)
    network, size = trained.model, trained.card["config"].get("patch_size", 9)
    dense = isinstance(network, AmsreCNN) and size == 9
    form = network.folded(wrap=wrap) if dense else PatchForm(network, size, wrap=wrap)
    scalers = {"input_scaler": trained.input_scaler, "target_scaler": trained.target_scaler}
    one_day = partial(mapped_image, form, where=wanted, device=str(choose_device(device)), tile=128, **scalers)
    days = images.chunk({"time": 1} | dict.fromkeys(image, -1))
    lazily = {"vectorize": True, "dask": "parallelized", "output_dtypes": ["float32"]}
    maps = xr.apply_ufunc(one_day, days, input_core_dims=[image], output_core_dims=[image[1:]], **lazily)
    attrs = {"time": {"standard_name": "time", "long_name": "day"}}
    coords = {n: (n, images[n].values, attrs.get(n, dict(images[n].attrs))) for n in ("time", "lat", "lon")}
    step = f"day_maps with weights {trained.card['weights_sha256'][:12]}"
    about = {"synthetic": synthetic, "source": f"{trained.card['model']} network", "step": step}
    return soil_moisture_map(maps.data, ("time", "lat", "lon"), coords, **about)
