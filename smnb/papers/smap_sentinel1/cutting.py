"""From the products of a place to its patches: on one grid, at one time, cut into squares, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import ContractError
from smnb.grids import M01, M09, EaseGrid, EaseWindow, ease_refine, match_nearest_in_time

#: Channels of an image, in this order.
CHANNELS = ("tb_h", "tb_v", "vv", "vh")
_TB_LABELS, _POLARIZATIONS = ("1.41H", "1.41V"), ("VV", "VH")
#: 1 km cells along a side of a 9 km cell.
FACTOR = M01.cells_across(M09)
#: Largest distance of SMAP's overpass from that of Sentinel-1; the active-passive product and the truth are made for the scene
#: itself, and their times are those of its parts.
_PASSIVE_WINDOW, _SAME_SCENE = np.timedelta64(12, "h"), np.timedelta64(1, "h")
#: Why a patch is dropped, in this order; and what else is counted.
COUNTED = (
    *("without_sigma0", "without_tb", "without_in_situ", "below_minimum", "patches_seen", "patches", "without_product"),
    *("sensor_readings", "in_situ_without_inputs", "pixels", "shared_pixels"),
    *(f"missing_{name}" for name in CHANNELS),
)


@dataclass(frozen=True)
class SceneProducts:
    """The products over one place.

    `sigma0` is (time, polarization, y, x), dB on the 1 km grid; its window and times are the place's. `passive` has 9 km
    cells that cover the place and should reach a cell beyond: ``tb(time, channel, y, x)`` K, ``soil_moisture`` and
    ``observation_time``. Another product's soil moisture (`baseline`) and a simulation's `truth` are at 1 km.
    """

    name: str
    title: str
    sigma0: xr.DataArray
    passive: xr.Dataset
    baseline: xr.DataArray | None = None
    truth: xr.DataArray | None = None


@dataclass
class Patch:
    """A square at one time; fields as the rows of `FusionSamples`."""

    scene: str
    time: np.datetime64
    window: EaseWindow
    image: np.ndarray
    product: np.ndarray
    offset: tuple[int, int]
    in_situ: pd.DataFrame
    baseline: np.ndarray | None
    truth: np.ndarray | None


@dataclass
class PlaceImages:
    """The products of a place at its scenes' times: (scene, channel, row, col), and the 9 km product (scene, row, col)."""

    name: str
    window: EaseWindow
    nine: EaseWindow
    time: np.ndarray
    images: np.ndarray
    product: np.ndarray
    baseline: np.ndarray | None
    truth: np.ndarray | None

    def patches(
        self, readings: pd.DataFrame, notes: Counter[str], *, size: int, min_in_situ: int, min_seen: float
    ) -> list[Patch]:
        """The eligible patches; the others are counted in `notes`."""
        found = []
        for tile in _tiles(self.window, size):
            cut = self.window.slices_of(tile)
            for number, time in enumerate(self.time):
                notes["patches_seen"] += 1
                image = self.images[(number, slice(None), *cut)]
                at_time = readings[readings["time_index"] == number]
                reason, table = _eligible(image, at_time, tile, notes, min_in_situ, min_seen)
                if reason:
                    notes[reason] += 1
                    continue
                coarse, offset = _whole_cells(self.product[number], self.nine, tile)
                notes["without_product"] += int(not np.isfinite(coarse).any())
                for name, channel in zip(CHANNELS, image, strict=True):
                    notes[f"missing_{name}"] += int(np.isnan(channel).sum())
                others = (None if a is None else a[number][cut] for a in (self.baseline, self.truth))
                found.append(Patch(self.name, time, tile, image, coarse, offset, table, *others))
        return found


def on_one_grid(who: str, products: SceneProducts) -> PlaceImages:
    """Check the products of a place, and bring them to its window and times."""
    window = _window_on(who, products.sigma0, M01, "the backscatter")
    passive = products.passive.load()
    nine = _window_on(who, passive, M09, "the 9 km product")
    if nine.slices_of(needed := window.covering(M09)) is None:
        step = "Open it for a larger window, best a cell beyond, between whose centres is interpolated"
        what = "the 9 km product does not cover the backscatter"
        raise ContractError(who, what, got=nine, expected=needed, next_step=step)
    sigma0 = _labelled(who, products.sigma0, "polarization", _POLARIZATIONS)
    tb = _labelled(who, passive["tb"], "channel", _TB_LABELS)
    wanted = sigma0["time"].values.astype("datetime64[ns]")
    overpass = _overpass_times(who, passive)
    days = np.flatnonzero(~np.isnat(overpass))
    days = days[np.argsort(overpass[days], kind="stable")]
    values = [*tb.values.swapaxes(0, 1), passive["soil_moisture"].transpose("time", "y", "x").values]
    nine_km = [match_nearest_in_time(v[days], overpass[days], wanted, _PASSIVE_WINDOW) for v in values]
    at_nine = xr.DataArray(np.stack(nine_km[:2], axis=1), nine.coords(), ("time", "channel", "y", "x"), "tb")
    rows, cols = nine.on(M01).slices_of(window)
    tb_fine = ease_refine(at_nine, M01, method="bilinear").values[:, :, rows, cols]
    others = []
    for array, what in ((products.baseline, "the 1 km product"), (products.truth, "the truth")):
        if array is not None:
            if (there := _window_on(who, array, M01, what)) != window:
                raise ContractError(who, f"{what} lies elsewhere than the backscatter", got=there, expected=window)
            times = array["time"].values.astype("datetime64[ns]")
            array = match_nearest_in_time(array.transpose("time", "y", "x").values, times, wanted, _SAME_SCENE)
        others.append(array)
    images = np.concatenate([tb_fine, sigma0.values], axis=1).astype("float32")
    return PlaceImages(products.name, window, nine, wanted, images, nine_km[2], *others)


def _window_on(who: str, array: xr.DataArray | xr.Dataset, grid: EaseGrid, what: str) -> EaseWindow:
    window = EaseWindow.from_dataset(array)
    if window.grid != grid:
        step = f"Open it on {grid.name}"
        raise ContractError(who, f"{what} is on another grid", got=window.grid.name, expected=grid.name, next_step=step)
    return window


def _labelled(who: str, array: xr.DataArray, dim: str, labels: Sequence[str]) -> xr.DataArray:
    """An array at some labels of a dimension, in their order, as (time, dim, y, x)."""
    missing = [label for label in labels if dim not in array.dims or label not in array[dim].values]
    if missing:
        got = array[dim].values.tolist() if dim in array.dims else array.dims
        raise ContractError(who, f"{array.name!r} lacks {dim} {missing}", got=got, expected=list(labels))
    return array.sel({dim: list(labels)}).transpose("time", dim, "y", "x")


def _tiles(window: EaseWindow, size: int) -> list[EaseWindow]:
    """Squares of `size` side by side within a window; none where it is smaller.

    A rest of half a square or more is covered by one that is shifted inwards, a smaller one is left around the squares.
    """
    starts = []
    for first, extent in zip((window.row_start, window.col_start), window.shape, strict=True):
        whole, rest = divmod(extent, size)
        if whole == 0:
            return []
        before = 0 if 2 * rest >= size else rest // 2
        shifted = [first + extent - size] if 2 * rest >= size else []
        starts.append([*(first + before + size * i for i in range(whole)), *shifted])
    return [EaseWindow(window.grid, r, r + size, c, c + size) for r in starts[0] for c in starts[1]]


def _overpass_times(who: str, passive: xr.Dataset) -> np.ndarray:
    """Mean time of each day's overpass over the window; NaT on days without."""
    if "observation_time" not in passive:
        got, step = sorted(map(str, passive.data_vars)), "Open it with 'observation_time' among its variables"
        raise ContractError(who, "the 9 km product has no observation_time", got=got, next_step=step)
    times = passive["observation_time"].transpose("time", "y", "x").values.astype("datetime64[ns]")
    result = np.full(times.shape[0], np.datetime64("NaT", "ns"))
    for i, day in enumerate(times.reshape(times.shape[0], -1)):
        there = day[~np.isnat(day)]
        if there.size:
            result[i] = there[0] + (there - there[0]).mean()
    return result


def _whole_cells(product: np.ndarray, nine: EaseWindow, tile: EaseWindow) -> tuple[np.ndarray, tuple[int, int]]:
    """The product on the whole 9 km cells within a patch, padded with NaN to as many as a patch can hold; and the offset."""
    offset = (-tile.row_start % FACTOR, -tile.col_start % FACTOR)
    result = np.full(tuple(extent // FACTOR for extent in tile.shape), np.nan, dtype="float32")
    rows, cols = ((extent - start) // FACTOR for extent, start in zip(tile.shape, offset, strict=True))
    row = (tile.row_start + offset[0]) // FACTOR - nine.row_start
    col = (tile.col_start + offset[1]) // FACTOR - nine.col_start
    result[:rows, :cols] = product[row : row + rows, col : col + cols]
    return result, offset


def _eligible(
    image: np.ndarray,
    readings: pd.DataFrame,
    tile: EaseWindow,
    notes: Counter[str],
    min_in_situ: int,
    min_seen: float,
) -> tuple[str, pd.DataFrame]:
    """Why a patch is left out ("" if it is not), and its sensors' readings on its pixels."""
    seen = np.isfinite(image)
    everything = seen.all(axis=0)
    if seen[2:].all(axis=0).mean() < min_seen:
        return "without_sigma0", readings[:0]
    if everything.mean() < min_seen:
        return "without_tb", readings[:0]
    table = readings.assign(row=readings["row"] - tile.row_start, col=readings["col"] - tile.col_start)
    height, width = tile.shape
    table = table[table["row"].between(0, height - 1) & table["col"].between(0, width - 1)]
    with_inputs = everything[table["row"].to_numpy("int64"), table["col"].to_numpy("int64")]
    notes["in_situ_without_inputs"] += int((~with_inputs).sum())
    table = table[with_inputs]
    per_pixel = table.groupby(["row", "col"]).size()
    if per_pixel.size < min_in_situ:
        return "below_minimum" if per_pixel.size else "without_in_situ", table
    notes["pixels"] += int(per_pixel.size)
    notes["shared_pixels"] += int((per_pixel > 1).sum())
    return "", table
