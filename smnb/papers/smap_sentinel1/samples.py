"""Patches of the 1 km fusion: four channels, in-situ pixels, the 9 km product, and masks everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from smnb.contract import ContractError, check_count, check_range, is_synthetic, plain
from smnb.grids import M01, EaseWindow
from smnb.loaders.insitu import InSituTables
from smnb.models.fusion_1km import FACTOR
from smnb.papers.smap_sentinel1.cutting import (
    COUNTED,
    PAPER_INSTRUMENT,
    PAPER_NETWORKS,
    SceneProducts,
    cut_patches,
    select_sensors,
)


@dataclass(frozen=True)
class FusionSamples:
    """Patches of all places; the first axis of every array is the patch.

    Parameters
    ----------
    scene : ndarray of str, shape (patch,)
        Name of the place.
    time : ndarray of datetime64, shape (patch,)
        Of Sentinel-1.
    windows : tuple of EaseWindow
        Where each patch lies on the 1 km grid.
    images : ndarray, shape (patch, channel, row, col)
        `CHANNELS`: K, K, dB, dB; NaN where missing.
    product : ndarray, shape (patch, coarse row, coarse col)
        Soil moisture of the 9 km product on the whole cells within each patch, m3 m-3; NaN where missing, and where a patch
        holds one cell fewer than others.
    offset : ndarray of int, shape (patch, 2)
        Rows and columns before the first whole 9 km cell.
    in_situ : DataFrame
        One row a patch and sensor: ``patch``, ``sensor_id``, ``row``, ``col`` (within the patch), ``soil_moisture``,
        ``n_readings``.
    sensors : DataFrame
        One row a sensor that occurs: as loaded, with ``row``, ``col`` of the global 1 km grid, ``scene``.
    baseline, truth : ndarray, shape (patch, row, col), optional
        m3 m-3, NaN where missing.
    titles : dict of str to str
        By name of the place.
    notes : dict of str to int
        What was read, left out and why.
    """

    scene: np.ndarray
    time: np.ndarray
    windows: tuple[EaseWindow, ...]
    images: np.ndarray = field(repr=False)
    product: np.ndarray = field(repr=False)
    offset: np.ndarray = field(repr=False)
    in_situ: pd.DataFrame = field(repr=False)
    sensors: pd.DataFrame = field(repr=False)
    baseline: np.ndarray | None = field(default=None, repr=False)
    truth: np.ndarray | None = field(default=None, repr=False)
    titles: dict[str, str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    synthetic: bool = False

    @classmethod
    def from_products(
        cls,
        scenes: Sequence[SceneProducts],
        insitu: InSituTables,
        *,
        size: int = 256,
        min_in_situ: int = 5,
        time_window: str = "90min",
        min_seen: float = 0.25,
        networks: Sequence[str] | None = PAPER_NETWORKS,
        instrument: str | None = PAPER_INSTRUMENT,
    ) -> FusionSamples:
        """Cut patches of every scene of every place, and keep those that are eligible.

        Of SMAP's overpasses within 12 hours of Sentinel-1 (by their mean time over the place), the nearest valid value is taken,
        cell by cell. A sensor's value is the mean of its readings within `time_window`, either side of Sentinel-1's time.

        Parameters
        ----------
        scenes : sequence of SceneProducts
        insitu : InSituTables
            Quality flags and depth already applied.
        size : int
            Rows and columns of a patch; a larger place gives several, side by side. A rest of half a patch or more is
            covered by one that is shifted inwards; a smaller rest is left out, evenly around.
        min_in_situ : int
            Least in-situ pixels of a patch. A pixel counts if a sensor in it has a reading and its four channels are
            there; several sensors in one pixel are one pixel, with their mean.
        min_seen : float
            Least share of a patch's pixels with backscatter, and with brightness temperature.
        networks, instrument
            Of the sensors, the latter a part of its name; None for all.

        Raises
        ------
        ContractError
            If grids do not cover each other, a variable is missing, or no patch is left; the message counts what was dropped.
        """
        who = "FusionSamples.from_products"
        check_count(who, "size", size, 2 * FACTOR)
        check_count(who, "min_in_situ", min_in_situ, 0)
        check_range(who, "min_seen", min_seen, 0, 1, ends="(]")
        sensors, counts = select_sensors(insitu.sensors, networks=networks, instrument=instrument)
        row, col = M01.rowcol(sensors["lat"].to_numpy("float64"), sensors["lon"].to_numpy("float64"))
        sensors = sensors.assign(row=row, col=col)
        notes: Counter[str] = Counter({**dict.fromkeys(COUNTED, 0), **counts})
        options = {"size": size, "min_in_situ": min_in_situ, "time_window": time_window, "min_seen": min_seen}
        patches = []
        for products in scenes:
            patches += cut_patches(f"{who}({products.name})", products, insitu, sensors, notes, **options)
        notes["patches"] = len(patches)
        if not patches:
            expected = plain(f"patches with {min_in_situ} in-situ pixels")
            step = "Look at the counts: widen the window in time, lower min_in_situ or min_seen, or open more products"
            raise ContractError(who, "no patch is left", got=dict(notes), expected=expected, next_step=step)
        of = {name: [patch[name] for patch in patches] for name in patches[0]}
        columns = ["patch", "sensor_id", "row", "col", "soil_moisture", "n_readings"]
        table = pd.concat([one.assign(patch=i) for i, one in enumerate(of["in_situ"])], ignore_index=True)[columns]
        table = table.astype({"patch": "int64", "row": "int64", "col": "int64", "soil_moisture": "float32"})
        first = table.drop_duplicates("sensor_id").set_index("sensor_id")["patch"].map(dict(enumerate(of["scene"])))
        sensors = sensors.assign(scene=sensors["sensor_id"].map(first)).dropna(subset="scene").reset_index(drop=True)
        return cls(
            np.array(of["scene"]),
            np.array(of["time"]),
            tuple(of["windows"]),
            *(np.stack(of[name]) for name in ("images", "product", "offset")),
            table,
            sensors,
            *(_stack(of[name]) for name in ("baseline", "truth")),
            {one.name: one.title for one in scenes},
            {name: int(count) for name, count in notes.items()},
            insitu.synthetic or any(is_synthetic(one.passive) for one in scenes),
        )

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def valid(self) -> np.ndarray:
        """Pixels with all four channels, bool, (patch, row, col)."""
        return np.isfinite(self.images).all(axis=1)

    def pixels(self, sensor_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """In-situ pixels, of some sensors or all: ``patch``, ``row``, ``col``, mean ``soil_moisture``, ``n_sensors``."""
        table = self.in_situ
        if sensor_ids is not None:
            table = table[table["sensor_id"].isin(set(sensor_ids))]
        grouped = table.groupby(["patch", "row", "col"], sort=True)["soil_moisture"]
        return grouped.agg(soil_moisture="mean", n_sensors="size").reset_index()

    def placed(self, pixels: pd.DataFrame, values: np.ndarray | pd.Series) -> np.ndarray:
        """Values of `pixels` as images ``(patch, row, col)``, NaN elsewhere."""
        images = np.full(self.valid.shape, np.nan, dtype="float32")
        images[tuple(pixels[name].to_numpy() for name in ("patch", "row", "col"))] = values
        return images

    def in_situ_images(self, sensor_ids: Sequence[str] | None = None) -> np.ndarray:
        """The pixels as images: soil moisture (m3 m-3, NaN elsewhere), (patch, row, col)."""
        pixels = self.pixels(sensor_ids)
        return self.placed(pixels, pixels["soil_moisture"])

    def at_pixels(self, maps: Mapping[str, np.ndarray], sensor_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """`pixels` with the values there of maps ``(patch, row, col)`` by name, and ``scene`` and ``time``."""
        pixels = self.pixels(sensor_ids)
        at = tuple(pixels[name].to_numpy() for name in ("patch", "row", "col"))
        return pixels.assign(scene=self.scene[at[0]], time=self.time[at[0]], **{n: m[at] for n, m in maps.items()})


def _stack(images: list[np.ndarray | None]) -> np.ndarray | None:
    there = [image for image in images if image is not None]
    if not there:
        return None
    blank = np.full(there[0].shape, np.nan, dtype="float32")
    return np.stack([blank if image is None else image for image in images]).astype("float32")
