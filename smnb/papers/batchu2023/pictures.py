"""What figures of samples show, out of a sample store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from smnb.contract import ParameterError, plain
from smnb.papers.batchu2023.data import side_positions
from smnb.papers.batchu2023.normalisation import denormalise, normalise
from smnb.papers.batchu2023.store import SampleStore

_NATURAL = ("B4", "B3", "B2")


def folder_name(name: str) -> str:
    """Name of a row of a table as the name of a folder.

    Examples
    --------
    >>> folder_name("Sentinel-1 + DEM + SMAP")
    'sentinel_1_dem_smap'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def natural_colours(native: Mapping[str, np.ndarray]) -> np.ndarray:
    """Natural colours ``(y, x, 3)`` of [0, 1] of Sentinel-2 digital numbers ``(y, x)`` by band.

    The log-sigmoid that the network sees shows dark ground and clouds in one picture.
    """
    return np.dstack([normalise("sentinel2", band, native[band]) for band in _NATURAL])


def spread_samples(store: SampleStore, number: int = 6, *, split: str = "sensor", side: str = "test") -> np.ndarray:
    """Samples of as many sensors as there are, from wet to dry: positions.

    One sample is taken of each of `number` equal parts of the side's readings, from a sensor that was not taken before where
    there is one.

    Raises
    ------
    ParameterError
        If `number` is not positive, or the store has no such side.
    """
    if number < 1:
        raise ParameterError("spread_samples", "number", got=number, expected=plain("at least 1"))
    positions = side_positions(store, split, side)
    order = positions[np.argsort(-store.labels()[positions], kind="stable")]
    rows, taken, chosen = store.sensor_rows(), set(), []
    for part in np.array_split(order, min(number, len(order))):
        middle = part[np.argsort(np.abs(np.arange(len(part)) - len(part) // 2), kind="stable")]
        new = next((one for one in middle if rows[one] not in taken), middle[0])
        taken.add(rows[new])
        chosen.append(int(new))
    return np.array(chosen)


def sample_images(store: SampleStore, positions: Sequence[int]) -> dict[str, list[np.ndarray]]:
    """Images of samples: natural colours, VV (dB), VH (dB), and soil as sand, silt and clay in red, green and blue.

    Returns
    -------
    dict of str to list of ndarray
        By reading and date, as `smnb.plots.image_rows` takes them; columns of sources that the store lacks are left out.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for position in positions:
        one = np.array([position])
        sample = store.samples.iloc[position]
        images = []
        if "sentinel2" in store.sources:
            images.append(np.moveaxis(store.read("sentinel2", one, _NATURAL)[0], 0, 2))
        if "sentinel1" in store.sources:
            values = store.read("sentinel1", one, ("VV", "VH"))[0]
            images += [denormalise("sentinel1", band, value) for band, value in zip(("VV", "VH"), values, strict=True)]
        if "soilgrids" in store.sources:
            images.append(np.moveaxis(_stretched(store.read("soilgrids", one, ("sand", "silt", "clay"))[0]), 0, 2))
        rows[f"{sample['soil_moisture']:.3f} m³ m⁻³\n{sample['time']:%Y-%m-%d}"] = images
    return rows


def _stretched(soil: np.ndarray) -> np.ndarray:
    """Fractions of [0, 800] g kg-1 brightened so that equal parts are a light grey."""
    return (soil * 1.6).clip(0.0, 1.0)
