"""Estimates against flights of an airborne radiometer, which say whether the detail that they add is real."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from smnb.grids import M09, EaseWindow
from smnb.metrics.scores import pearson_r

_LEAST, _IN_BLOCK = 30, 5  # cells that a flight, and a 9 km block, must have


def score_flights(images: Mapping[str, NDArray], flights: xr.Dataset, *, common: str = "SMAP 9 km") -> pd.DataFrame:
    """Score each row against each flight over the cells that it and `common` have.

    Returns
    -------
    DataFrame
        ``method``, ``time``, ``n``, ``r``, ``ubrmsd`` and ``bias`` m3 m-3, ``r_inside`` (departures from the mean of each 9 km
        block with five cells or more), ``variance_ratio`` of those departures, estimate over flight, and ``fine_power``: share of
        the estimate's variance at wavelengths under 18 km, over the flight's own share (blank cells taken as the mean).
    """
    truth, rows = flights["soil_moisture"].values.astype("float64"), []
    size = EaseWindow.from_dataset(flights).grid.cells_across(M09)
    for method, stack in images.items():
        for number, (image, observed) in enumerate(zip(stack, truth, strict=True)):
            there = np.isfinite(image) & np.isfinite(observed) & np.isfinite(images[common][number])
            if there.sum() < _LEAST:
                continue
            error = (image - observed)[there]
            inside = [_inside(np.where(there, one, np.nan), size) for one in (image, observed)]
            ours, flown = (one[np.isfinite(one)] for one in inside)
            row = {"method": method, "time": flights["time"].values[number], "n": int(there.sum())}
            row |= {"r": float(pearson_r(image[there], observed[there])), "ubrmsd": error.std(), "bias": error.mean()}
            row["r_inside"] = float(pearson_r(ours, flown)) if ours.std() > 1e-9 else 0.0
            row["variance_ratio"] = ours.var() / flown.var()
            fine = (_fine_share(np.where(there, one, np.nan), size) for one in (image, observed))
            rows.append(row | {"fine_power": np.divide(*fine)})
    return pd.DataFrame(rows)


def flight_spectra(images: Mapping[str, NDArray], flights: xr.Dataset, *, common: str = "SMAP 9 km") -> pd.DataFrame:
    """Power spectra, means over the flights that `score_flights` scores: variance by ``wavenumber``, cycles per 100 km.

    A column each row and ``PALS``, (m3 m-3)2 in a ring of one wave over the window's side, of the cells there, blank ones as
    their mean.
    """
    truth, grid = flights["soil_moisture"].values.astype("float64"), EaseWindow.from_dataset(flights).grid
    waves, table = np.arange(1, min(truth.shape[1:]) // 2 + 1), {}
    for method, stack in {**images, "PALS": truth}.items():
        there = np.isfinite(stack) & np.isfinite(truth) & np.isfinite(images[common])
        found = []
        for image, valid in zip(stack, there, strict=True):
            if valid.sum() >= _LEAST:
                power, wave = _power(np.where(valid, image, np.nan))
                ring = np.rint(wave * min(image.shape)).astype(int).ravel()
                found.append(np.bincount(ring, power.ravel(), waves.size + 1)[waves] / valid.mean())
        table[method] = np.mean(found, 0) if found else np.full(waves.size, np.nan)
    return pd.DataFrame({"wavenumber": 1e5 * waves / (min(truth.shape[1:]) * grid.cell), **table})


def _inside(image: NDArray, size: int) -> NDArray:
    """Departures from the mean of each 9 km block of a window of whole blocks, NaN in blocks with too few cells."""
    blocks = image.reshape(image.shape[0] // size, size, image.shape[1] // size, size)
    count = np.isfinite(blocks).sum((1, 3), keepdims=True)
    mean = np.nansum(blocks, (1, 3), keepdims=True) / np.maximum(count, 1)
    return np.where(count >= _IN_BLOCK, blocks - mean, np.nan).reshape(image.shape)


def _fine_share(image: NDArray, size: int) -> float:
    """Share of an image's power at wavelengths under two blocks of so many cells."""
    power, wave = _power(image)
    return float(power[wave > 1 / (2 * size)].sum() / power.sum())


def _power(image: NDArray) -> tuple[NDArray, NDArray]:
    """Variance of an image by wavenumber, and the wavenumbers, waves a cell; blank cells are its mean."""
    there = np.isfinite(image)
    power = np.abs(np.fft.fft2(np.where(there, image - image[there].mean(), 0.0)) / image.size) ** 2
    return power, np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in image.shape), indexing="ij"))
