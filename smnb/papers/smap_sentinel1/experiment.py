"""Steps of a 1 km fusion experiment: train on in-situ pixels and the 9 km product, estimate, score against sensors and truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.contract import ParameterError
from smnb.metrics import compare, pair_scores
from smnb.models import build_model
from smnb.models.fusion_1km import coarse_mean, coarse_to_fine
from smnb.papers.smap_sentinel1.data import CHANNELS, FusionDataset, FusionSamples, FusionScaler, FusionSplit
from smnb.training import FitResult, TrainingConfig, choose_device, fit, state_folder
from smnb.training.checkpoints import LoadedModel, load_model, save_model
from smnb.training.losses import fusion_loss

#: Name of the product that a network has to beat, among the estimates.
PRODUCT = "SMAP/S1 product"
#: Names and units of the four channels in figures.
INPUT_NAMES = {"TB H": "K", "TB V": "K", "Sentinel-1 VV": "dB", "Sentinel-1 VH": "dB"}
#: Quantities by unit, for the colour bars of inputs.
INPUT_LABELS = {"K": "Brightness temperature", "dB": "Backscatter"}


def train_fusion(
    samples: FusionSamples,
    split: FusionSplit,
    config: TrainingConfig,
    out: str | Path,
    *,
    alpha: float = 0.5,
    norms: tuple[str, str] = ("l1", "l1"),
    crop: int | None = None,
    exclude_product_cells: bool = False,
    progress: bool = False,
) -> tuple[LoadedModel, FitResult]:
    """Train the fusion network on a split's training sensors and the 9 km product, and save it.

    Parameters
    ----------
    samples : FusionSamples
    split : FusionSplit
        Validation sensors are in no target of the training and choose nothing: the last epoch's weights are kept.
    config : TrainingConfig
    out : path-like
        Folder for the training state and ``model.safetensors``. A killed training goes on from there.
    alpha, norms
        Of `smnb.training.losses.fusion_loss`: 1 trains on in-situ pixels alone, 0 on the product alone.
    crop, exclude_product_cells
        Of `smnb.papers.smap_sentinel1.data.FusionDataset`.
    progress : bool

    Returns
    -------
    LoadedModel, FitResult
        Losses in the history are in scaled soil moisture.
    """
    out = Path(out)
    scaler = FusionScaler.fit(samples, split)
    torch.manual_seed(config.seed)
    model = build_model("fusion_1km")
    cut = {"crop": crop, "seed": config.seed, "exclude_product_cells": exclude_product_cells}
    train, validation = (FusionDataset(samples, split, side, scaler, **cut) for side in ("train", "validation"))
    options = {"alpha": alpha, "norms": list(norms), "crop": crop, "exclude_product_cells": exclude_product_cells}
    fingerprint = _fingerprint(samples, split, options)
    result = fit(
        model,
        train,
        validation,
        config=config,
        out=state_folder(out, config, fingerprint),
        progress=progress,
        loss=partial(fusion_loss, alpha=alpha, norms=norms),
        fingerprint=fingerprint,
        keep="last",
    )
    card = {
        "data": "SMAP 9 km TB, Sentinel-1 and in-situ sensors at 1 km",
        "synthetic": samples.synthetic,
        "seed": config.seed,
        "epochs": len(result.history),
        "n_patches": int(split.train.size),
        "split": split.kind,
        "n_sensors": len(split.ids("train")),
        "held_out": list(split.held_out),
        **options,
    }
    path = save_model(
        out / "model",
        model,
        name="fusion_1km",
        input_scaler=scaler.inputs,
        target_scaler=scaler.target,
        channels=CHANNELS,
        training=card,
    )
    return load_model(path, channels=CHANNELS), result


def _fingerprint(samples: FusionSamples, split: FusionSplit, options: dict[str, Any]) -> str:
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    for array in (samples.images, samples.product, samples.in_situ["soil_moisture"].to_numpy(), split.train):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr(sorted(split.sides.items())).encode())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def predict_fusion(
    loaded: LoadedModel, samples: FusionSamples, *, device: str | torch.device = "cpu", batch: int = 2
) -> np.ndarray:
    """Estimate soil moisture at 1 km.

    Returns
    -------
    ndarray, shape (patch, row, col)
        m3 m-3; NaN where a channel is missing.
    """
    scaled = loaded.input_scaler.transform(samples.images.transpose(0, 2, 3, 1))
    missing = ~np.isfinite(scaled)
    np.copyto(scaled, np.asarray(loaded.input_scaler.fill, "float32"), where=missing)
    images = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
    model = loaded.model.to(device).eval()
    parts = [model(images[i : i + batch].to(device)).float().cpu().numpy() for i in range(0, len(images), batch)]
    estimate = loaded.target_scaler.inverse(np.concatenate(parts)[..., None])[..., 0]
    estimate[missing.any(axis=-1)] = np.nan
    return estimate


def fusion_estimates(
    loaded: LoadedModel, samples: FusionSamples, *, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Estimates at 1 km by method: the network, the active-passive product where there is one, and the 9 km product.

    Returns
    -------
    dict of str to ndarray, shape (patch, row, col)
        m3 m-3, NaN where missing. The 9 km product is repeated over its cells.
    """
    estimates = {"network": predict_fusion(loaded, samples, device=device)}
    if samples.baseline is not None:
        estimates[PRODUCT] = samples.baseline
    estimates["9 km product"] = np.concatenate(
        [
            coarse_to_fine(
                torch.from_numpy(product[None]), samples.valid.shape[1:], offset=tuple(int(v) for v in offset)
            ).numpy()
            for product, offset in zip(samples.product, samples.offset, strict=True)
        ]
    )
    return estimates


def coarse_view(samples: FusionSamples, patch: int, image: np.ndarray) -> np.ndarray:
    """Average one patch's 1 km image over the 9 km cells, valid pixels alone, on 1 km pixels again: the paper's Figure 7."""
    tensor, offset = torch.from_numpy(np.nan_to_num(image)[None]), tuple(int(v) for v in samples.offset[patch])
    mean, _ = coarse_mean(tensor, torch.from_numpy(np.isfinite(image))[None], offset=offset)
    return coarse_to_fine(mean, image.shape, offset=offset)[0].numpy()


def score_at_sensors(
    samples: FusionSamples, split: FusionSplit, estimates: dict[str, np.ndarray], *, min_pixels: int = 3
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pair the estimates with in-situ pixels, and score each example as the paper's Figure 6 does.

    Parameters
    ----------
    samples, split
    estimates : dict of str to ndarray, shape (patch, row, col)
    min_pixels : int
        An example with fewer pixels at which every method has a value is in no score of examples.

    Returns
    -------
    pairs : DataFrame
        One row an in-situ pixel: ``side``, ``scene``, ``time``, ``patch``, ``observed`` and one column a method. Pixels that a
        method has no value at are left out for all, so that all methods are scored at the same pixels.
    examples : DataFrame
        One row a patch, side and method: ``n``, ``bias``, ``rmse``, ``ubrmse``, ``r``.
    """
    parts = []
    for side in ("train", "validation"):
        table = samples.at_pixels(estimates, split.ids(side))
        table = table[table["patch"].isin(split.patches(side))]
        parts.append(table.assign(side=side))
    pairs = pd.concat(parts, ignore_index=True).rename(columns={"soil_moisture": "observed"})
    pairs = pairs.dropna(subset=["observed", *estimates]).reset_index(drop=True)
    rows = []
    for (side, patch), table in pairs.groupby(["side", "patch"], sort=True):
        if len(table) < min_pixels:
            continue
        for method in estimates:
            found = pair_scores(table[method], table["observed"])
            rows.append(
                {
                    "side": side,
                    "patch": patch,
                    "scene": samples.scene[patch],
                    "time": samples.time[patch],
                    "method": method,
                    **found,
                }
            )
    if not rows:
        raise ParameterError(
            "score_at_sensors",
            "no example has enough in-situ pixels",
            got=len(pairs),
            expected=min_pixels,
            next_step="Lower min_pixels, or make a split with a larger validation share",
        )
    return pairs, pd.DataFrame(rows)


def score_everywhere(samples: FusionSamples, estimates: dict[str, np.ndarray]) -> pd.DataFrame:
    """Score each patch against the simulated truth at every pixel that all methods have; empty where there is no truth."""
    columns = ["patch", "scene", "time", "method", "n", "bias", "rmse", "ubrmse", "r"]
    if samples.truth is None:
        return pd.DataFrame(columns=columns)
    common = np.isfinite(np.stack([samples.truth, *estimates.values()])).all(axis=0)
    rows = [
        {
            "patch": patch,
            "scene": samples.scene[patch],
            "time": samples.time[patch],
            "method": method,
            **pair_scores(image[patch][common[patch]], samples.truth[patch][common[patch]]),
        }
        for method, image in estimates.items()
        for patch in range(len(samples))
        if common[patch].any()
    ]
    return pd.DataFrame(rows, columns=columns)


def summarise(pairs: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Score all in-situ pixels of a side together: one row a side and method."""
    return pd.DataFrame(
        [
            {"side": side, "method": method, **pair_scores(table[method], table["observed"])}
            for side, table in pairs.groupby("side", sort=True)
            for method in methods
        ]
    ).set_index(["side", "method"])


def gains_over_product(
    examples: pd.DataFrame, *, side: str = "validation", n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare the network with each other method, example by example, with intervals that keep a place's examples together.

    Returns
    -------
    DataFrame
        ``against``, ``difference`` of mean ubRMSE (negative: the network is better), ``low``, ``high`` (95 %), ``n_examples`` and
        ``n_places``: a bootstrap over places (`smnb.metrics.compare`).
    """
    table = examples[examples["side"] == side]
    wide = table.pivot(index="patch", columns="method", values="ubrmse")
    places = table.drop_duplicates("patch").set_index("patch")["scene"]
    rows = []
    for other in (name for name in wide if name != "network"):
        found = compare(wide["network"], wide[other], "ubrmse", clusters=places, n_boot=n_boot, seed=seed).difference
        rows.append(
            {
                "against": other,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "n_examples": len(wide),
                "n_places": int(places.nunique()),
            }
        )
    return pd.DataFrame(rows)


def representative(samples: FusionSamples, examples: pd.DataFrame) -> int:
    """Return the patch that is shown: of those with a validation score, the one with most valid pixels, the first of equals."""
    patches = np.unique(examples.loc[examples["side"] == "validation", "patch"].to_numpy())
    return int(patches[np.argmax(samples.valid[patches].sum((1, 2)))])


def patch_fields(samples: FusionSamples, patch: int, estimates: dict[str, np.ndarray]) -> dict[str, xr.DataArray]:
    """One patch's inputs, its estimates at 1 and 9 km, and the truth where there is one, as maps ``(lat, lon)``.

    Returns
    -------
    dict of str to DataArray
        Inputs by the names of `INPUT_NAMES` with their units, then soil moisture in m3 m-3.
    """
    window = samples.windows[patch]

    def field(image: np.ndarray, units: str) -> xr.DataArray:
        return xr.DataArray(
            image[::-1], {"lat": window.lat[::-1], "lon": window.lon}, ("lat", "lon"), attrs={"units": units}
        )

    fields = {
        name: field(image, units)
        for (name, units), image in zip(INPUT_NAMES.items(), samples.images[patch], strict=True)
    }
    fields["Network, 1 km"] = field(estimates["network"][patch], "m3 m-3")
    if PRODUCT in estimates:
        fields[f"{PRODUCT}, 1 km"] = field(estimates[PRODUCT][patch], "m3 m-3")
    if samples.truth is not None:
        fields["Truth, 1 km"] = field(samples.truth[patch], "m3 m-3")
    fields["Network, 9 km"] = field(coarse_view(samples, patch, estimates["network"][patch]), "m3 m-3")
    fields["9 km product"] = field(estimates["9 km product"][patch], "m3 m-3")
    return fields


@dataclass(frozen=True)
class Fused:
    """What one training and its scoring gave."""

    alpha: float
    loaded: LoadedModel
    fit: FitResult
    estimates: dict[str, np.ndarray]
    pairs: pd.DataFrame
    examples: pd.DataFrame
    everywhere: pd.DataFrame

    def mean(self, side: str, method: str = "network", score: str = "ubrmse") -> float:
        """Mean of a score over the examples of a side."""
        table = self.examples
        return float(table.loc[(table.side == side) & (table.method == method), score].mean())

    def truth(self, method: str = "network", score: str = "ubrmse") -> float:
        """Mean of a score over the patches, against the truth everywhere; NaN where there is none."""
        return float(self.everywhere.loc[self.everywhere.method == method, score].mean())


def run_fusion(
    samples: FusionSamples,
    split: FusionSplit,
    config: TrainingConfig,
    out: str | Path,
    *,
    alpha: float = 0.5,
    min_pixels: int = 3,
    **options: Any,
) -> Fused:
    """Train, estimate every patch, and score: `train_fusion`, `fusion_estimates`, `score_at_sensors`, `score_everywhere`."""
    loaded, result = train_fusion(samples, split, config, out, alpha=alpha, **options)
    estimates = fusion_estimates(loaded, samples, device=choose_device(config.device))
    pairs, examples = score_at_sensors(samples, split, estimates, min_pixels=min_pixels)
    return Fused(alpha, loaded, result, estimates, pairs, examples, score_everywhere(samples, estimates))
