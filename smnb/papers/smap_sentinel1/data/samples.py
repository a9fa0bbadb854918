"""Patches of the 1 km fusion: four channels, in-situ pixels, the 9 km product, and masks everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr

from smnb.contract import ContractError, ParameterError, is_synthetic, plain
from smnb.grids import M01, M09, EaseWindow, ease_refine
from smnb.loaders.insitu import InSituTables
from smnb.papers.smap_sentinel1.data.in_situ import (
    PAPER_INSTRUMENT,
    PAPER_NETWORKS,
    located_sensors,
    readings_at,
    select_sensors,
)
from smnb.papers.smap_sentinel1.data.matching import (
    FACTOR,
    SceneProducts,
    cut_of,
    labelled,
    matched,
    overpass_times,
    parse_span,
    tiles,
    whole_cells,
    window_on,
)
from smnb.papers.smen.sequences import match_nearest_in_time

#: Channels of an image, in this order.
CHANNELS = ("tb_h", "tb_v", "vv", "vh")
_TB_LABELS, _POLARIZATIONS = ("1.41H", "1.41V"), ("VV", "VH")
_READINGS = ("mean", "nearest")


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
        reading: str = "mean",
        passive_window: str = "12h",
        min_seen: float = 0.25,
        networks: Sequence[str] | None = PAPER_NETWORKS,
        instrument: str | None = PAPER_INSTRUMENT,
    ) -> FusionSamples:
        """Cut patches of every scene of every place, and keep those that are eligible.

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
        time_window : str
            Largest distance of a reading from the time of Sentinel-1, either side.
        reading : {"mean", "nearest"}
            Each sensor's mean within that window, or its nearest reading.
        passive_window : str
            Largest distance of SMAP's overpass (its mean time over the place) from that of Sentinel-1; cell by cell the
            nearest valid value is taken.
        min_seen : float
            Least share of a patch's pixels with backscatter, and with brightness temperature.
        networks, instrument
            As `select_sensors`.

        Returns
        -------
        FusionSamples

        Raises
        ------
        ContractError
            If grids are not those named above or do not cover each other, a variable is missing, or no patch is left; the
            message counts what was dropped.
        ParameterError
            For an unknown rule or impossible sizes.
        """
        who = "FusionSamples.from_products"
        if reading not in _READINGS:
            raise ParameterError(who, "unknown 'reading'", got=reading, expected=_READINGS)
        if size < 2 * FACTOR or min_in_situ < 0 or not 0.0 < min_seen <= 1.0:
            raise ParameterError(
                who,
                "impossible sizes",
                got={"size": size, "min_in_situ": min_in_situ, "min_seen": min_seen},
                expected=plain(f"size >= {2 * FACTOR}, min_in_situ >= 0, 0 < min_seen <= 1"),
            )
        chosen, counts = select_sensors(insitu.sensors, networks=networks, instrument=instrument)
        notes: Counter[str] = Counter(counts)
        notes.update(dict.fromkeys(_DROPPED + _COUNTED, 0))
        located = located_sensors(chosen)
        parts = [
            one
            for products in scenes
            for one in _scene_patches(
                who,
                products,
                insitu,
                located,
                notes,
                size=size,
                min_in_situ=min_in_situ,
                time_window=time_window,
                reading=reading,
                passive_window=parse_span(who, passive_window),
                min_seen=min_seen,
            )
        ]
        if not parts:
            raise ContractError(
                who,
                "no patch is left",
                got=dict(notes),
                expected=plain(f"patches with {min_in_situ} in-situ pixels"),
                next_step="Look at the counts: widen a window in time, lower min_in_situ or min_seen, or open more products",
            )
        return _assemble(cls, scenes, parts, located, notes, synthetic=insitu.synthetic)

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def valid(self) -> np.ndarray:
        """Pixels with all four channels, bool, (patch, row, col)."""
        return np.isfinite(self.images).all(axis=1)

    def take(self, patches: Sequence[int] | np.ndarray) -> FusionSamples:
        """Some of the patches, in the order given; each at most once."""
        patches = np.asarray(patches, dtype=np.intp)
        renumber = pd.Series(np.arange(patches.size), index=patches)
        table = self.in_situ[self.in_situ["patch"].isin(patches)]
        table = table.assign(patch=table["patch"].map(renumber)).sort_values("patch", kind="stable")
        arrays = {
            one.name: value[patches] for one in fields(self) if isinstance(value := getattr(self, one.name), np.ndarray)
        }
        windows = tuple(self.windows[i] for i in patches)
        return replace(self, windows=windows, in_situ=table.reset_index(drop=True), **arrays)

    def pixels(self, sensor_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """In-situ pixels: ``patch``, ``row``, ``col``, ``soil_moisture`` (mean of the pixel's sensors) and ``n_sensors``.

        Parameters
        ----------
        sensor_ids : sequence of str, optional
            Only these sensors; default all.
        """
        table = self.in_situ
        if sensor_ids is not None:
            table = table[table["sensor_id"].isin(set(sensor_ids))]
        grouped = table.groupby(["patch", "row", "col"], sort=True)["soil_moisture"]
        return grouped.agg(soil_moisture="mean", n_sensors="size").reset_index()

    def in_situ_images(self, sensor_ids: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The pixels as images: soil moisture (m3 m-3, NaN elsewhere) and number of sensors, both (patch, row, col)."""
        values = np.full(self.valid.shape, np.nan, dtype="float32")
        number = np.zeros(self.valid.shape, dtype="uint8")
        pixels = self.pixels(sensor_ids)
        at = tuple(pixels[name].to_numpy() for name in ("patch", "row", "col"))
        values[at], number[at] = pixels["soil_moisture"], pixels["n_sensors"]
        return values, number

    def at_pixels(self, maps: Mapping[str, np.ndarray], sensor_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """`pixels` with the values of maps there, and ``scene`` and ``time``: what scatter plots and scores take.

        Parameters
        ----------
        maps : mapping of str to ndarray, shape (patch, row, col)
            Estimates by name, for instance ``{"product": samples.baseline}``.
        sensor_ids : sequence of str, optional
        """
        pixels = self.pixels(sensor_ids)
        at = tuple(pixels[name].to_numpy() for name in ("patch", "row", "col"))
        patch = pixels["patch"].to_numpy()
        return pixels.assign(scene=self.scene[patch], time=self.time[patch], **{n: m[at] for n, m in maps.items()})


#: Why a patch was dropped, in this order; and what else is counted.
_DROPPED = ("without_sigma0", "without_tb", "without_in_situ", "below_minimum")
_COUNTED = (
    "patches_seen",
    "patches",
    "without_product",
    "sensor_readings",
    "in_situ_without_inputs",
    "pixels",
    "shared_pixels",
    *(f"missing_{name}" for name in CHANNELS),
)


@dataclass
class _Patch:
    scene: str
    time: np.datetime64
    window: EaseWindow
    image: np.ndarray
    product: np.ndarray
    offset: tuple[int, int]
    in_situ: pd.DataFrame
    baseline: np.ndarray | None
    truth: np.ndarray | None


def _scene_patches(
    who: str,
    products: SceneProducts,
    insitu: InSituTables,
    sensors: pd.DataFrame,
    notes: Counter[str],
    *,
    size: int,
    min_in_situ: int,
    time_window: str,
    reading: str,
    passive_window: np.timedelta64,
    min_seen: float,
) -> list[_Patch]:
    """The eligible patches of one place; the others are counted in `notes`."""
    who = f"{who}({products.name})"
    window = window_on(who, products.sigma0, M01, "the backscatter")
    passive = products.passive.load()
    nine = window_on(who, passive, M09, "the 9 km product")
    needed = window.covering(M09)
    inside = nine.row_start <= needed.row_start and needed.row_stop <= nine.row_stop
    if not (inside and nine.col_start <= needed.col_start and needed.col_stop <= nine.col_stop):
        raise ContractError(
            who,
            "the 9 km product does not cover the backscatter",
            got=nine,
            expected=needed,
            next_step="Open it for a larger window, best a cell beyond, between whose centres is interpolated",
        )
    sigma0 = labelled(who, products.sigma0, "polarization", _POLARIZATIONS)
    tb = labelled(who, passive["tb"], "channel", _TB_LABELS)
    wanted = sigma0["time"].values.astype("datetime64[ns]")
    overpass = overpass_times(who, passive)
    days = np.flatnonzero(~np.isnat(overpass))
    days = days[np.argsort(overpass[days], kind="stable")]
    values = [*tb.values.swapaxes(0, 1), passive["soil_moisture"].transpose("time", "y", "x").values]
    nine_km = np.stack([match_nearest_in_time(v[days], overpass[days], wanted, passive_window) for v in values], axis=1)
    at_nine = xr.DataArray(nine_km[:, :2], nine.coords(), ("time", "channel", "y", "x"), "tb", {"units": "K"})
    tb_fine = ease_refine(at_nine, M01, method="bilinear").values[:, :, *cut_of(window, nine.on(M01))]
    images = np.concatenate([tb_fine, sigma0.values], axis=1).astype("float32")
    baseline = matched(who, products.baseline, window, wanted, "the 1 km product")
    truth = matched(who, products.truth, window, wanted, "the truth")
    readings = readings_at(insitu, sensors, window, wanted, window=time_window, method=reading)
    notes["sensor_readings"] += len(readings)
    patches = []
    for tile in tiles(window, size):
        rows, cols = cut = cut_of(tile, window)
        for number, time in enumerate(wanted):
            notes["patches_seen"] += 1
            image = images[number][:, rows, cols]
            reason, table = _eligible(image, readings, number, tile, notes, min_in_situ, min_seen)
            if reason:
                notes[reason] += 1
                continue
            coarse, offset = whole_cells(nine_km[number, 2], nine, tile)
            notes["without_product"] += int(not np.isfinite(coarse).any())
            for name, channel in zip(CHANNELS, image, strict=True):
                notes[f"missing_{name}"] += int(np.isnan(channel).sum())
            others = (None if a is None else a[number][cut] for a in (baseline, truth))
            patches.append(_Patch(products.name, time, tile, image, coarse, offset, table, *others))
    return patches


def _eligible(
    image: np.ndarray,
    readings: pd.DataFrame,
    number: int,
    tile: EaseWindow,
    notes: Counter[str],
    min_in_situ: int,
    min_seen: float,
) -> tuple[str, pd.DataFrame]:
    """Why a patch is left out ("" if it is not), and its sensors' readings on its pixels."""
    seen = np.isfinite(image)
    share = seen.all(axis=0).mean()
    if seen[2:].all(axis=0).mean() < min_seen:
        return "without_sigma0", readings[:0]
    if seen[:2].all(axis=0).mean() < min_seen or share < min_seen:
        return "without_tb", readings[:0]
    table = readings[readings["time_index"] == number]
    table = table.assign(row=table["row"] - tile.row_start, col=table["col"] - tile.col_start)
    height, width = tile.shape
    table = table[table["row"].between(0, height - 1) & table["col"].between(0, width - 1)]
    with_inputs = seen.all(axis=0)[table["row"].to_numpy("int64"), table["col"].to_numpy("int64")]
    notes["in_situ_without_inputs"] += int((~with_inputs).sum())
    table = table[with_inputs]
    per_pixel = table.groupby(["row", "col"]).size()
    if per_pixel.size == 0 and min_in_situ > 0:
        return "without_in_situ", table
    if per_pixel.size < min_in_situ:
        return "below_minimum", table
    notes["pixels"] += int(per_pixel.size)
    notes["shared_pixels"] += int((per_pixel > 1).sum())
    return "", table


def _assemble(
    cls: type[FusionSamples],
    scenes: Sequence[SceneProducts],
    patches: list[_Patch],
    sensors: pd.DataFrame,
    notes: Counter[str],
    *,
    synthetic: bool,
) -> FusionSamples:
    """Stack the patches."""
    notes["patches"] = len(patches)
    table = pd.concat([p.in_situ.assign(patch=i) for i, p in enumerate(patches)], ignore_index=True)
    table = table[["patch", "sensor_id", "row", "col", "soil_moisture", "n_readings"]]
    table = table.astype({"patch": "int64", "row": "int64", "col": "int64", "soil_moisture": "float32"})
    occurring = sensors[sensors["sensor_id"].isin(set(table["sensor_id"]))]
    scene = np.array([p.scene for p in patches])
    first = table.drop_duplicates("sensor_id").set_index("sensor_id")["patch"]
    place = pd.Series(scene[first.to_numpy()], index=first.index) if len(first) else pd.Series(dtype=object)
    occurring = occurring.assign(scene=occurring["sensor_id"].map(place)).reset_index(drop=True)

    def stack(name: str) -> np.ndarray | None:
        values = [getattr(p, name) for p in patches]
        if all(v is None for v in values):
            return None
        blank = np.full(patches[0].image.shape[1:], np.nan, dtype="float32")
        return np.stack([blank if v is None else v for v in values]).astype("float32")

    return cls(
        scene,
        np.array([p.time for p in patches]),
        tuple(p.window for p in patches),
        np.stack([p.image for p in patches]),
        np.stack([p.product for p in patches]),
        np.array([p.offset for p in patches]),
        table,
        occurring,
        stack("baseline"),
        stack("truth"),
        {s.name: s.title for s in scenes},
        {name: int(count) for name, count in notes.items()},
        synthetic or any(is_synthetic(s.passive) for s in scenes),
    )
