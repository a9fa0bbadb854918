"""Training the multi-source network on a sample store, and what it estimates at the sensors that were held out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from smnb.contract import ParameterError
from smnb.models.multisource import MultiSourceConfig, MultiSourceNet
from smnb.papers.batchu2023.checkpoint import inputs_of, load_multisource, save_multisource
from smnb.papers.batchu2023.data import (
    SIDES,
    SOURCE_SETS,
    Augmentation,
    InputSet,
    MultiSourceDataset,
    complete_samples,
    side_positions,
)
from smnb.papers.batchu2023.recipe import HUBER_DELTA
from smnb.papers.batchu2023.references import prediction_table
from smnb.papers.batchu2023.store import SampleStore
from smnb.training import FitResult, TrainingConfig, choose_device, choose_precision, fit, state_folder
from smnb.training.checkpoints import LoadedModel
from smnb.training.loading import validation_loader
from smnb.training.losses import huber_loss


@dataclass(frozen=True)
class MultiSourceRun:
    """What one training left.

    Parameters
    ----------
    name : str
        Of the inputs.
    inputs : InputSet
    loaded : LoadedModel
        The network and its card, as saved.
    fit : FitResult
    predictions : dict of str to DataFrame
        By side: ``sensor_id``, ``time``, ``observed``, ``predicted`` (m3 m-3), and the sensor table's columns.
    n_samples : dict of str to int
        Samples by side, the training's too.
    dropped : dict of str to int
        Samples that lack a reading or a source, by the first that they lack.
    """

    name: str
    inputs: InputSet
    loaded: LoadedModel
    fit: FitResult
    predictions: dict[str, pd.DataFrame]
    n_samples: dict[str, int]
    dropped: dict[str, int]


def _named_inputs(inputs: InputSet | str) -> tuple[str, InputSet]:
    if isinstance(inputs, InputSet):
        name = next((name for name, one in SOURCE_SETS.items() if one == inputs), str(inputs))
        return name, inputs
    if inputs not in SOURCE_SETS:
        raise ParameterError(
            "train_multisource",
            "unknown inputs",
            got=inputs,
            expected=list(SOURCE_SETS),
            next_step="Name one of the paper's sets, or make an InputSet",
        )
    return inputs, SOURCE_SETS[inputs]


def multisource_config(inputs: InputSet, model: Mapping[str, Any] | None = None) -> MultiSourceConfig:
    """Sizes of the network for some inputs: channels from the inputs, everything else the paper's unless given.

    Raises
    ------
    ParameterError
        On an unknown setting, or channels, which follow from the inputs.
    """
    given = dict(model or {})
    channels = {f"{part}_channels": len(getattr(inputs, part)) for part in ("high", "low", "coarse")}
    known = [name for name in MultiSourceConfig.__dataclass_fields__ if name not in channels]
    if unknown := sorted(set(given) - set(known)):
        raise ParameterError(
            "multisource_config",
            "unknown settings of the network",
            got=unknown,
            expected=known,
            next_step="Channels follow from the inputs",
        )
    return MultiSourceConfig(**channels, **given)


def train_multisource(
    store: SampleStore,
    inputs: InputSet | str,
    *,
    config: TrainingConfig,
    out: str | os.PathLike[str],
    split: str = "iid",
    model: Mapping[str, Any] | None = None,
    crop: int | None = None,
    augmentation: Augmentation | None = Augmentation(),  # noqa: B008
    delta: float = HUBER_DELTA,
    sides: Sequence[str] = ("validation", "test"),
    memory_gb: float = 2.0,
    prefetch: int | None = None,
    progress: bool = False,
) -> MultiSourceRun:
    """Train the network on a split's training sensors, and estimate the sensors of other sides.

    Samples that lack any source of the store are left out whatever the inputs, so that networks of different inputs are
    compared on the same ones. The checkpoint with the least validation loss is kept.

    Parameters
    ----------
    store : SampleStore
        With a column ``split_<split>`` in its sensor table.
    inputs : InputSet or str
        Channels, or a name of `smnb.papers.batchu2023.data.SOURCE_SETS`.
    config : TrainingConfig
        `smnb.papers.batchu2023.paper_training` for the paper's recipe. Its seed is also that of the augmentation. The last small
        batch of a pass is always left out (batch norm).
    out : path-like
        Folder for the training state and ``model.safetensors``. A killed training goes on from there.
    split : str
    model : mapping, optional
        Settings of `smnb.models.multisource.MultiSourceConfig` but the channels: the encoders, output strides, heads.
    crop : int, optional
        Side of the high images, pixels. Default 256, or the store's where that is less.
    augmentation : Augmentation, optional
        Of the training images; None for none.
    delta : float
        Threshold of the Huber loss, m3 m-3.
    sides : sequence of str
        Sides to estimate: validation and test.
    memory_gb, prefetch
        Of `smnb.papers.batchu2023.data.MultiSourceDataset`, for the training and the validation samples each.
    progress : bool
        Show a progress bar.

    Returns
    -------
    MultiSourceRun

    Raises
    ------
    ParameterError
        On unknown inputs, settings or sides, a store without the sources or the split, or a crop that does not fit.
    ContractError
        If there are fewer training samples than one step takes.
    RunError
        If `out` holds the training state of something else.
    """
    name, inputs = _named_inputs(inputs)
    if unknown := [side for side in sides if side not in SIDES]:
        raise ParameterError("train_multisource", "unknown sides", got=unknown, expected=list(SIDES))
    out, crop = Path(out), min(256, store.crop) if crop is None else crop
    config = dataclasses.replace(config, whole_batches=True)
    network = multisource_config(inputs, model)
    mask, dropped = complete_samples(store)
    at = {
        side: side_positions(store, split, side, mask=mask) for side in dict.fromkeys(("train", "validation", *sides))
    }
    # with several devices each process makes its own batches, and Lightning moves them
    device = choose_device(config.device) if config.devices == 1 else "cpu"
    options = {"crop": crop, "seed": config.seed, "memory_gb": memory_gb, "prefetch": prefetch, "device": device}
    train = MultiSourceDataset(store, inputs, at["train"], augmentation=augmentation, **options)
    validation = MultiSourceDataset(store, inputs, at["validation"], **options)
    recipe = {
        "inputs": list(inputs.channels),
        "split": split,
        "crop": crop,
        "delta": delta,
        "network": network.to_dict(),
        "augmentation": None if augmentation is None else dataclasses.asdict(augmentation),
    }
    fingerprint = _fingerprint(store, at, recipe)
    torch.manual_seed(config.seed)
    result = fit(
        MultiSourceNet(network),
        train,
        validation,
        config=config,
        out=state_folder(out, config, fingerprint),
        loss=partial(huber_loss, delta=delta),
        fingerprint=fingerprint,
        progress=progress,
    )
    card = {
        "data": "images and coarse products around in-situ sensors",
        "synthetic": store.synthetic,
        "seed": config.seed,
        "split": split,
        "steps": result.details["steps"],
        "best_epoch": result.best_epoch,
        "loss_delta": delta,
        "anchor": store.attrs.get("anchor", ""),
        "store_fingerprint": store.attrs.get("fingerprint", ""),
        "n_train": len(train),
        "n_train_sensors": int(np.unique(store.sensor_rows()[at["train"]]).size),
        "augmentation": recipe["augmentation"],
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
    }
    path = save_multisource(
        out / "model",
        result.model,
        inputs,
        crop=crop,
        resolution=store.resolution,
        low_resolution=store.low_resolution,
        training=card,
    )
    loaded = load_multisource(path, inputs=inputs, crop=crop)
    predictions = {
        side: predict_at_sensors(
            loaded,
            store,
            at[side],
            name=name,
            config=config,
            memory_gb=0.0,
            dataset=validation if side == "validation" else None,
        )
        for side in sides
    }
    loaded.model.cpu()
    return MultiSourceRun(name, inputs, loaded, result, predictions, {k: len(v) for k, v in at.items()}, dropped)


def _fingerprint(store: SampleStore, at: Mapping[str, np.ndarray], recipe: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([recipe, store.attrs.get("fingerprint", "")], sort_keys=True).encode())
    samples = store.samples
    for array in (store.labels(), samples["time"].to_numpy().view("int64"), at["train"], at["validation"]):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\n".join(samples["sensor_id"].astype(str)).encode())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def predict_multisource(model: torch.nn.Module, dataset: MultiSourceDataset, *, config: TrainingConfig) -> np.ndarray:
    """Estimate soil moisture at a data set's samples.

    Parameters
    ----------
    model : MultiSourceNet
    dataset : MultiSourceDataset
    config : TrainingConfig
        Its device and precision.

    Returns
    -------
    ndarray of float64, shape (sample,)
        m3 m-3, cut to [0, 1] as by the authors' released graph.
    """
    device = choose_device(config.device)
    model = model.to(device).eval()
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    dtype = kinds.get(choose_precision(config.precision, device))
    parts = []
    for inputs, _ in validation_loader(dataset, dataclasses.replace(config, devices=1, batch_size=1)):
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            parts.append(model(*(one.to(device) for one in inputs)).float().cpu())
    return torch.cat(parts).clamp_(0.0, 1.0).double().numpy()


def predict_at_sensors(
    loaded: LoadedModel,
    store: SampleStore,
    positions: np.ndarray,
    *,
    name: str = "",
    config: TrainingConfig | None = None,
    memory_gb: float = 2.0,
    dataset: MultiSourceDataset | None = None,
) -> pd.DataFrame:
    """Estimates of a checkpoint at samples of a store: another store than it was trained on, such as one anchored on SMAP.

    Parameters
    ----------
    loaded : LoadedModel
        From `load_multisource`.
    store : SampleStore
    positions : ndarray of int
        Samples, all with the sources of the checkpoint's inputs (`smnb.papers.batchu2023.data.complete_samples`).
    name : str
        What the table calls the model.
    config : TrainingConfig, optional
        For its device and precision; default the best there are.
    memory_gb : float
        Of `smnb.papers.batchu2023.data.MultiSourceDataset`.
    dataset : MultiSourceDataset, optional
        These samples, where they are at hand already.

    Returns
    -------
    DataFrame
        As `smnb.papers.batchu2023.prediction_table`.
    """
    config = config or TrainingConfig()
    if dataset is None:
        dataset = MultiSourceDataset(
            store,
            inputs_of(loaded),
            positions,
            crop=loaded.card["training"]["crop"],
            memory_gb=memory_gb,
            device=choose_device(config.device),
        )
    predicted = predict_multisource(loaded.model, dataset, config=config)
    return prediction_table(store, positions, predicted, model=name or "multi-source network")
