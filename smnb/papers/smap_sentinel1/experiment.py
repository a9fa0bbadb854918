"""Steps of a 1 km fusion experiment: estimates by a network and by the products, and scores against sensors and truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.contract import ParameterError
from smnb.metrics import pair_scores
from smnb.models import reference_predictions
from smnb.models.fusion_1km import coarse_mean, coarse_to_fine
from smnb.papers.smap_sentinel1.samples import FusionSamples
from smnb.papers.smap_sentinel1.training import SIDES, FusionSplit, PatchImages
from smnb.training import Trained

PRODUCT = "SMAP/S1 product"  # name of the product that a network has to beat, among the estimates
_RADAR = {"Sentinel-1 VV": "dB", "Sentinel-1 VH": "dB"}


def fusion_estimates(trained: Trained, samples: FusionSamples) -> dict[str, np.ndarray]:
    """Estimates at 1 km by method, ``(patch, row, col)``, m3 m-3, NaN where missing.

    They are the ``network``'s, missing where a channel is, the active-passive product's where there is one, and the 9 km
    product's, repeated over its cells.
    """
    images = PatchImages(samples.images, trained.input_scaler)
    estimates = {"network": np.where(images.valid.numpy(), trained.predict(images), np.nan)}
    if samples.baseline is not None:
        estimates[PRODUCT] = samples.baseline
    estimates["9 km product"] = np.stack([_spread(cells, samples, i) for i, cells in enumerate(samples.product)])
    return estimates


def _spread(cells: np.ndarray, samples: FusionSamples, patch: int) -> np.ndarray:
    """Values of a patch's whole 9 km cells on its 1 km pixels."""
    offset = tuple(int(v) for v in samples.offset[patch])
    return coarse_to_fine(torch.as_tensor(cells)[None], samples.valid.shape[1:], offset=offset)[0].numpy()


def reference_maps(samples: FusionSamples, split: FusionSplit, *, seed: int = 0) -> dict[str, np.ndarray]:
    """The rows of `smnb.models.reference_predictions` at the in-situ pixels, from the four channels there.

    They are fitted to the pixels of training sensors; those that validate choose nothing. Maps ``(patch, row, col)``, m3 m-3, NaN
    where there is no in-situ pixel.
    """
    images = samples.images.transpose(0, 2, 3, 1)
    wanted, known = samples.pixels(), samples.pixels(split.ids("train"))
    known = known[known["patch"].isin(split.train)]
    at, of = (tuple(table[name].to_numpy() for name in ("patch", "row", "col")) for table in (wanted, known))
    places = [f"{scene} {row} {col}" for scene, row, col in zip(samples.scene[of[0]], *of[1:], strict=True)]
    target = known["soil_moisture"].to_numpy()
    found = reference_predictions(images[of], target, images[at], groups=np.array(places), seed=seed)
    return {name: samples.placed(wanted, values) for name, values in found.items()}


def coarse_view(samples: FusionSamples, patch: int, image: np.ndarray) -> np.ndarray:
    """Average one patch's 1 km image over the 9 km cells, valid pixels alone, on 1 km pixels again: the paper's Figure 7."""
    tensor, offset = torch.from_numpy(np.nan_to_num(image)[None]), tuple(int(v) for v in samples.offset[patch])
    mean, _ = coarse_mean(tensor, torch.from_numpy(np.isfinite(image))[None], offset=offset)
    return _spread(mean[0], samples, patch)


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
    for side in SIDES:
        table = samples.at_pixels(estimates, split.ids(side)).assign(side=side)
        parts.append(table[table["patch"].isin(getattr(split, side))])
    pairs = pd.concat(parts, ignore_index=True).rename(columns={"soil_moisture": "observed"})
    pairs = pairs.dropna(subset=["observed", *estimates]).reset_index(drop=True)
    rows = [
        {"side": side, **_scored(samples, patch, method, table[method], table["observed"])}
        for (side, patch), table in pairs.groupby(["side", "patch"], sort=True)
        if len(table) >= min_pixels
        for method in estimates
    ]
    if not rows:
        what, step = "no example has enough in-situ pixels", "Lower min_pixels, or give the validation a larger share"
        raise ParameterError("score_at_sensors", what, got=len(pairs), expected=min_pixels, next_step=step)
    return pairs, pd.DataFrame(rows)


def _scored(samples: FusionSamples, patch: int, method: str, estimate: np.ndarray, observed: np.ndarray) -> dict:
    about = {"patch": patch, "scene": samples.scene[patch], "time": samples.time[patch], "method": method}
    return about | pair_scores(estimate, observed)


def score_everywhere(samples: FusionSamples, estimates: dict[str, np.ndarray]) -> pd.DataFrame:
    """Score each patch against the simulated truth at every pixel that all methods have; empty where there is no truth."""
    columns = ["patch", "scene", "time", "method", "n", "bias", "rmse", "ubrmse", "r"]
    if samples.truth is None:
        return pd.DataFrame(columns=columns)
    common = np.isfinite(np.stack([samples.truth, *estimates.values()])).all(axis=0)
    rows = [
        _scored(samples, patch, method, image[patch][common[patch]], samples.truth[patch][common[patch]])
        for method, image in estimates.items()
        for patch in range(len(samples))
        if common[patch].any()
    ]
    return pd.DataFrame(rows, columns=columns)


def input_names(samples: FusionSamples) -> dict[str, str]:
    """Names and units of the four channels in figures: brightness temperature, or the soil moisture that stands for it."""
    kelvin = np.nanmax(samples.images[:, :2], initial=0.0) > 1
    return ({"TB H": "K", "TB V": "K"} if kelvin else {"SMAP for TB H": "m3 m-3", "SMAP for TB V": "m3 m-3"}) | _RADAR


def patch_fields(samples: FusionSamples, patch: int, estimates: dict[str, np.ndarray]) -> dict[str, xr.DataArray]:
    """One patch's inputs, its estimates at 1 and 9 km, and the truth where there is one, as maps ``(lat, lon)``.

    Inputs come first, by their `input_names` with units, then soil moisture in m3 m-3.
    """
    window = samples.windows[patch]
    names = input_names(samples)
    images = {name: (image, names[name]) for name, image in zip(names, samples.images[patch], strict=True)}
    moisture = {"Network, 1 km": estimates["network"][patch]}
    if PRODUCT in estimates:
        moisture[f"{PRODUCT}, 1 km"] = estimates[PRODUCT][patch]
    if samples.truth is not None:
        moisture["Truth, 1 km"] = samples.truth[patch]
    moisture["Network, 9 km"] = coarse_view(samples, patch, estimates["network"][patch])
    moisture["9 km product"] = estimates["9 km product"][patch]
    images |= {name: (image, "m3 m-3") for name, image in moisture.items()}
    coords, dims = {"lat": window.lat[::-1], "lon": window.lon}, ("lat", "lon")
    return {n: xr.DataArray(image[::-1], coords, dims, attrs={"units": units}) for n, (image, units) in images.items()}
