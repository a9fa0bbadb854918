"""From the products of a place to its patches: on one grid, at one time, with in-situ readings, cut into squares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import ContractError, plain
from smnb.grids import M01, M09, EaseGrid, EaseWindow, ease_refine, match_nearest_in_time
from smnb.loaders.insitu import InSituTables
from smnb.models.fusion_1km import FACTOR, coarse_offset
from smnb.sensors import match_tables

CHANNELS = ("tb_h", "tb_v", "vv", "vh")  # channels of an image, in this order
_TB_LABELS, _POLARIZATIONS = ("1.41H", "1.41V"), ("VV", "VH")
#: Networks of the paper, and the instrument that they have in common.
PAPER_NETWORKS, PAPER_INSTRUMENT = ("ARM", "SCAN", "SNOTEL", "USCRN"), "Hydraprobe"
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


def select_sensors(
    sensors: pd.DataFrame, *, networks: Sequence[str] | None = PAPER_NETWORKS, instrument: str | None = PAPER_INSTRUMENT
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep sensors of some networks whose instrument's name has a part (None for all); and count what was there and left out.

    >>> table = pd.DataFrame({"network": ["SCAN", "SCAN", "X"], "instrument": ["Hydraprobe II", "EC5", "Hydraprobe II"]})
    >>> select_sensors(table)[1]
    {'sensors': 3, 'sensors_of_other_networks': 1, 'sensors_of_other_instruments': 1, 'sensors_chosen': 1}
    """
    of_network = np.ones(len(sensors), bool) if networks is None else sensors["network"].isin(list(networks)).to_numpy()
    names = sensors["instrument"].fillna("").str.replace("-", " ")
    right = names.str.contains(instrument or "", case=False, regex=False).to_numpy()
    kept = of_network & right
    counts = {
        "sensors": len(sensors),
        "sensors_of_other_networks": int((~of_network).sum()),
        "sensors_of_other_instruments": int((of_network & ~right).sum()),
        "sensors_chosen": int(kept.sum()),
    }
    if not kept.any():
        there, expected = sorted(set(sensors["network"])), plain(f"{networks}, {instrument}")
        step = f"Networks there are: {there}; pass networks=None or instrument=None for all"
        raise ContractError("select_sensors", "no sensor is left", got=counts, expected=expected, next_step=step)
    return sensors[kept].reset_index(drop=True), counts


def readings_at(
    tables: InSituTables, sensors: pd.DataFrame, area: EaseWindow, times: np.ndarray, window: str
) -> pd.DataFrame:
    """Mean of what the sensors of an area of the 1 km grid read within `window` of each time: a row a time and sensor.

    ``time_index``, ``sensor_id``, ``row``, ``col`` (within the area), ``soil_moisture`` (m3 m-3), ``n_readings``.
    """
    row, col = sensors["row"] - area.row_start, sensors["col"] - area.col_start
    here = sensors[["sensor_id"]].assign(row=row, col=col)
    here = here[here["row"].between(0, area.shape[0] - 1) & here["col"].between(0, area.shape[1] - 1)]
    columns = ["time_index", "sensor_id", "row", "col", "soil_moisture", "n_readings"]
    if here.empty:
        return pd.DataFrame(columns=columns)
    wanted = here.merge(pd.DataFrame({"time_index": np.arange(len(times)), "time": times}), how="cross")
    span, table = pd.Timedelta(window), tables.readings
    near = table["sensor_id"].isin(set(here["sensor_id"]))
    near &= table["time"].between(times.min() - span, times.max() + span)
    readings = table.loc[near, ["sensor_id", "time", "soil_moisture"]].astype({"sensor_id": str})
    found, _ = match_tables(wanted, readings, value="soil_moisture", window=window, method="mean")
    found = found.rename(columns={"soil_moisture_count": "n_readings"})
    return found.loc[found["soil_moisture"].notna(), columns].reset_index(drop=True)


def cut_patches(
    who: str,
    products: SceneProducts,
    insitu: InSituTables,
    sensors: pd.DataFrame,
    notes: Counter[str],
    *,
    size: int,
    min_in_situ: int,
    time_window: str,
    min_seen: float,
) -> list[dict[str, Any]]:
    """The eligible patches of a place, by the fields of `FusionSamples`; the others are counted in `notes`."""
    window, nine, times, layers = on_one_grid(who, products)
    readings = readings_at(insitu, sensors, window, times, time_window)
    notes["sensor_readings"] += len(readings)
    found = []
    for tile in _tiles(window, size):
        rows, cols = window.slices_of(tile)
        inside = readings.assign(row=readings["row"] - rows.start, col=readings["col"] - cols.start)
        inside = inside[inside["row"].between(0, size - 1) & inside["col"].between(0, size - 1)]
        for number, time in enumerate(times):
            notes["patches_seen"] += 1
            image = layers["images"][number, :, rows, cols]
            at_time = inside[inside["time_index"] == number]
            reason, table = _eligible(image, at_time, notes, min_in_situ, min_seen)
            if reason:
                notes[reason] += 1
                continue
            coarse, offset = _whole_cells(layers["product"][number], nine, tile)
            notes["without_product"] += int(not np.isfinite(coarse).any())
            for name, channel in zip(CHANNELS, image, strict=True):
                notes[f"missing_{name}"] += int(np.isnan(channel).sum())
            about = {"scene": products.name, "time": time, "windows": tile, "offset": offset, "in_situ": table}
            fine = {name: layers[name] for name in ("baseline", "truth")}
            fine = {name: None if of is None else of[number, rows, cols] for name, of in fine.items()}
            found.append(about | fine | {"images": image, "product": coarse})
    return found


def on_one_grid(
    who: str, products: SceneProducts
) -> tuple[EaseWindow, EaseWindow, np.ndarray, dict[str, np.ndarray | None]]:
    """Check the products of a place, and bring them to its window and times.

    Returns the windows of 1 km and of 9 km, the times, and ``images`` (scene, channel, row, col), the 9 km ``product``
    (scene, row, col), ``baseline`` and ``truth``.
    """
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
    if "observation_time" not in passive:
        got, step = sorted(map(str, passive.data_vars)), "Open it with 'observation_time' among its variables"
        raise ContractError(who, "the 9 km product has no observation_time", got=got, next_step=step)
    overpass = passive["observation_time"].mean(("y", "x")).values  # of each day, NaT on days without
    days = np.flatnonzero(~np.isnat(overpass))
    days = days[np.argsort(overpass[days], kind="stable")]
    values = [*tb.values.swapaxes(0, 1), passive["soil_moisture"].transpose("time", "y", "x").values]
    nine_km = [match_nearest_in_time(v[days], overpass[days], wanted, _PASSIVE_WINDOW) for v in values]
    at_nine = xr.DataArray(np.stack(nine_km[:2], axis=1), nine.coords(), ("time", "channel", "y", "x"), "tb")
    rows, cols = nine.on(M01).slices_of(window)
    tb_fine = ease_refine(at_nine, M01, method="bilinear").values[:, :, rows, cols]
    layers = {"images": np.concatenate([tb_fine, sigma0.values], axis=1).astype("float32"), "product": nine_km[2]}
    others = {"baseline": (products.baseline, "the 1 km product"), "truth": (products.truth, "the truth")}
    for name, (array, what) in others.items():
        if array is not None:
            if (there := _window_on(who, array, M01, what)) != window:
                raise ContractError(who, f"{what} lies elsewhere than the backscatter", got=there, expected=window)
            at = array["time"].values.astype("datetime64[ns]")
            array = match_nearest_in_time(array.transpose("time", "y", "x").values, at, wanted, _SAME_SCENE)
        layers[name] = array
    return window, nine, wanted, layers


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


def _whole_cells(product: np.ndarray, nine: EaseWindow, tile: EaseWindow) -> tuple[np.ndarray, tuple[int, int]]:
    """The product on the whole 9 km cells within a patch, padded with NaN to as many as a patch can hold; and the offset."""
    offset = coarse_offset(tile)
    result = np.full(tuple(extent // FACTOR for extent in tile.shape), np.nan, dtype="float32")
    rows, cols = ((extent - start) // FACTOR for extent, start in zip(tile.shape, offset, strict=True))
    row = (tile.row_start + offset[0]) // FACTOR - nine.row_start
    col = (tile.col_start + offset[1]) // FACTOR - nine.col_start
    result[:rows, :cols] = product[row : row + rows, col : col + cols]
    return result, offset


def _eligible(
    image: np.ndarray, readings: pd.DataFrame, notes: Counter[str], min_in_situ: int, min_seen: float
) -> tuple[str, pd.DataFrame]:
    """Why a patch is left out ("" if it is not), and the readings on its pixels whose channels are all there."""
    seen = np.isfinite(image)
    everything = seen.all(axis=0)
    if seen[2:].all(axis=0).mean() < min_seen:
        return "without_sigma0", readings
    if everything.mean() < min_seen:
        return "without_tb", readings
    with_inputs = everything[readings["row"].to_numpy("int64"), readings["col"].to_numpy("int64")]
    notes["in_situ_without_inputs"] += int((~with_inputs).sum())
    readings = readings[with_inputs]
    per_pixel = readings.groupby(["row", "col"]).size()
    if per_pixel.size < min_in_situ:
        return "below_minimum" if per_pixel.size else "without_in_situ", readings
    notes["pixels"] += int(per_pixel.size)
    notes["shared_pixels"] += int((per_pixel > 1).sum())
    return "", readings
