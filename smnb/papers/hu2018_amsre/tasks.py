"""Patches as indices into padded images, and `PatchTask`: what is predicted, from what, and what may be seen in training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from smnb.catalog import Catalog
from smnb.contract import ContractError, ParameterError, check_choice, check_dataset, count_masked, is_synthetic, plain
from smnb.grids import koppen, regrid_bilinear
from smnb.loaders.amsre import average_passes, mask_outliers
from smnb.loaders.ecmwf import daily_mean
from smnb.training import BatchDataset, MinMaxScaler


@dataclass(frozen=True)
class PatchIndex:
    """Which patches: the image, row and column of each patch's centre pixel (int64 arrays of one length)."""

    image: np.ndarray
    row: np.ndarray
    col: np.ndarray

    def __len__(self) -> int:
        return int(self.image.size)

    def __getitem__(self, which: np.ndarray | slice) -> PatchIndex:
        return PatchIndex(self.image[which], self.row[which], self.col[which])

    def take(self, field_: np.ndarray) -> np.ndarray:
        """Values of an ``(image, row, col)`` array at the centres."""
        return field_[self.image, self.row, self.col]


class PatchStore:
    """Scaled, filled and padded images from which patches are gathered by index.

    Images are ``(image, row, col, channel)`` in native units, NaN where missing: such pixels get the training mean of their
    channel. Columns `wrap` (a global longitude axis); other edges repeat the outermost pixel. One contiguous tensor on `device`,
    so a patch is `patch_size` copies of ``patch_size * channel`` floats out of an overlapping view, not 81 scattered reads.
    """

    def __init__(
        self,
        images: np.ndarray,
        scaler: MinMaxScaler,
        *,
        patch_size: int = 9,
        wrap: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if images.ndim != 4 or images.shape[-1] != len(scaler.minimum):
            expected = plain(f"(image, row, col, {len(scaler.minimum)} channels)")
            raise ContractError("PatchStore", "images have another shape", got=images.shape, expected=expected)
        if patch_size < 1 or patch_size % 2 == 0:
            raise ParameterError("PatchStore", "patch_size", got=patch_size, expected=plain("an odd positive number"))
        n_images, n_rows, n_cols, n_channels = images.shape
        half = patch_size // 2
        self.patch_size, self.scaler = patch_size, scaler
        padded = np.empty((n_images, n_rows + 2 * half, n_cols + 2 * half, n_channels), dtype="float32")
        fill = np.asarray(scaler.fill, dtype="float32")
        for number in range(n_images):
            scaled = scaler.transform(images[number])
            np.copyto(scaled, fill, where=~np.isfinite(scaled))
            sides = np.pad(scaled, ((0, 0), (half, half), (0, 0)), mode="wrap" if wrap else "edge")
            padded[number] = np.pad(sides, ((half, half), (0, 0), (0, 0)), mode="edge")
        self.padded = torch.from_numpy(padded).to(device)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.padded.device

    def gather(self, index: PatchIndex) -> torch.Tensor:
        """Patches around centres, in pixels of the unpadded images: ``(patch, channel, patch_size, patch_size)``.

        float32, scaled, in channels-last memory.
        """
        _, n_rows, n_cols, n_channels = self.padded.shape
        image, row, col = (np.asarray(part, dtype="int64") for part in (index.image, index.row, index.col))
        first = torch.from_numpy((image * n_rows + row) * n_cols + col).to(self.device)
        offsets = torch.arange(self.patch_size, device=self.device) * n_cols
        # every row of a patch starts at some pixel of the flattened images: an overlapping view with one row a pixel
        pixels = self.padded.numel() // n_channels
        width = self.patch_size * n_channels
        runs = self.padded.as_strided((pixels - self.patch_size + 1, width), (n_channels, 1))
        rows = runs.index_select(0, (first[:, None] + offsets).reshape(-1))
        # (patch, row, col, channel) -> (patch, channel, row, col)
        return rows.view(-1, self.patch_size, self.patch_size, n_channels).permute(0, 3, 1, 2)


class PatchDataset(BatchDataset):
    """Batches of patches and of their scaled targets; without a target the patches can be predicted only."""

    def __init__(self, store: PatchStore, index: PatchIndex, target: np.ndarray | None = None) -> None:
        target = np.zeros(len(index), "float32") if target is None else target
        if not np.isfinite(target).all():
            next_step = "Draw patches from eligible_centres, which leaves them out"
            raise ContractError("PatchDataset", "the target has missing values", next_step=next_step)
        self.store, self.index = store, index
        self.target = torch.from_numpy(np.asarray(target, dtype="float32"))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(patch, channel, row, col)`` inputs and ``(patch,)`` targets for an array of positions."""
        return self.store.gather(self.index[batch]), self.target[torch.from_numpy(batch)].to(self.store.device)


def eligible_centres(
    images: np.ndarray, target: np.ndarray, *, patch_size: int = 9, wrap: bool = False, min_valid_fraction: float = 0.5
) -> np.ndarray:
    """Where a patch may be centred: bool of the shape of `target` (image, row, col).

    A centre is eligible if its target is valid, every channel of the centre pixel is valid, and at least
    `min_valid_fraction` of the patch's pixels are valid in every channel.
    """
    from scipy.ndimage import uniform_filter1d

    result = np.isfinite(target)
    for number in range(images.shape[0]):
        valid = np.isfinite(images[number]).all(axis=-1)
        share = uniform_filter1d(valid.astype("float32"), patch_size, axis=0, mode="nearest")
        share = uniform_filter1d(share, patch_size, axis=1, mode="wrap" if wrap else "nearest")
        result[number] &= valid & (share >= min_valid_fraction - 1e-4)
    return result


def draw_patches(
    eligible: np.ndarray, images: Sequence[int], counts: Sequence[int], *, seed: int, who: str = "draw_patches"
) -> list[PatchIndex]:
    """Draw disjoint random sets of patches from each of some images: one index an entry of `counts`, images in order.

    `counts` are patches of each image for each set, such as ``(30000, 5000)`` for training and validation; an image with fewer
    eligible centres gives each its share. The draw of an image depends on the seed and its number alone.
    """
    wanted = sum(counts)
    sets = [[np.empty((3, 0), dtype="int64")] for _ in counts]
    for number in images:
        rows, cols = np.nonzero(eligible[number])
        order = np.random.default_rng([seed, number]).permutation(rows.size)[:wanted]
        limits = np.cumsum([0, *counts]) * min(1.0, rows.size / wanted)
        for part, low, high in zip(sets, limits[:-1].astype(int), limits[1:].astype(int), strict=True):
            chosen = order[low:high]
            part.append(np.stack([np.full(chosen.size, number), rows[chosen], cols[chosen]]))
    drawn = [PatchIndex(*np.concatenate(part, axis=1)) for part in sets]
    if not all(map(len, drawn)):
        next_step = "Check that inputs and target overlap in space and time and are not fully masked"
        got, expected = [len(part) for part in drawn], plain(f"about {list(counts)} an image")
        raise ContractError(who, "no eligible patch", got=got, expected=expected, next_step=next_step)
    return drawn


@dataclass(frozen=True)
class Fold:
    """One division of a task's patches; `fit_images` are the numbers of the images that belong to training."""

    name: str
    train: PatchIndex
    validation: PatchIndex
    test: PatchIndex
    fit_images: np.ndarray


@dataclass
class PatchTask:
    """A retrieval as images, a target and folds: the same whatever the data source."""

    name: str
    title: str
    images: np.ndarray  # ``(image, row, col, channel)``, native units, NaN where missing
    target: np.ndarray  # soil moisture ``(image, row, col)``, m3 m-3
    channels: tuple[str, ...]
    labels: pd.DataFrame  # one row an image: ``time`` and, where there are several, ``region``
    folds: list[Fold]
    wrap: bool = False  # whether columns wrap around (global longitude)
    synthetic: bool = False
    patch_size: int = 9
    units: dict[str, str] = field(default_factory=dict)  # units of each channel
    reference: str = "target"  # short name of the target's product, for labels
    lat: np.ndarray | None = None
    lon: np.ndarray | None = None
    land: np.ndarray | None = None
    """Of a global task: coordinates of rows and columns, and where a map is wanted, bool ``(row, col)``."""
    notes: dict[str, float] = field(default_factory=dict)  # counts to report: masked, filled, dropped

    @property
    def is_global(self) -> bool:
        """Whether the images are maps of the globe, so that a map of the prediction makes sense."""
        return self.lat is not None and self.wrap

    def field(self, values: np.ndarray, name: str, units: str, long_name: str) -> xr.DataArray:
        """Make a ``(lat, lon)`` map of this task's grid a DataArray under the contract."""
        coords = {"lat": self.lat, "lon": self.lon}
        return xr.DataArray(values, coords, ("lat", "lon"), name, {"units": units, "long_name": long_name})

    def day(self, image: int) -> xr.DataArray:
        """One image of a gridded task as ``(time, channel, lat, lon)``: what `experiment.day_maps` takes."""
        time = self.labels["time"].to_numpy()[[image]]
        coords = {"time": time, "channel": list(self.channels), "lat": self.lat, "lon": self.lon}
        return xr.DataArray(self.images[[image]].transpose(0, 3, 1, 2), coords, tuple(coords), "tb")

    def scalers(self, fold: Fold) -> tuple[MinMaxScaler, MinMaxScaler]:
        """Input and target scaler of a fold, from its training patches' centres alone.

        Inputs run from 0 to 1 between the 0.1 and 99.9 per cent points of the training centres and are clipped there.
        The whole images would not do: the sea is 150 K colder than any soil and would leave the land a tenth of the scale.
        """
        inputs = MinMaxScaler.fit(fold.train.take(self.images), names=self.channels, tail=1e-3, clip=True)
        target = MinMaxScaler.fit(fold.train.take(self.target)[:, None], names=("soil_moisture",))
        return inputs, target


MIN_LAND = 0.5  # least land fraction of a patch's centre, and of a cell of the target
#: Catalog entries that each source of `open_task` reads.
SOURCES = {"amsre": ("amsre_nsidc0302", "era_interim_swvl1"), "conus_patches": ("conus_s1s2smap",)}


def open_task(
    source: str,
    catalog: Catalog,
    root: Path,
    *,
    start: str | None = None,
    end: str | None = None,
    composite_days: int = 2,
    **draw: int,
) -> PatchTask:
    """Open a source through the catalog and set up its experiment.

    `source` is a key of `SOURCES`: ``amsre`` (`amsre_task`: open, mask outliers, composite, daily mean of the target) or
    ``conus_patches`` (`conus_task`). The others are for ``amsre``: first and last day (default all there are), composites of 1 or
    2 days, and ``n_train``, ``n_validation``, ``n_test``, ``seed`` of `amsre_task`.
    """
    check_choice("open_task", "source", source, SOURCES)
    if source == "conus_patches":
        return conus_task(catalog.open("conus_s1s2smap", root))
    inputs, target = (catalog.open(one, root, start=start, end=end) for one in SOURCES[source])
    return amsre_task(average_passes(mask_outliers(inputs), days=composite_days), daily_mean(target), **draw)


def hidden_truth(task: PatchTask, catalog: Catalog, root: Path) -> np.ndarray:
    """The sandbox's hidden soil moisture ``(image, row, col)``, m3 m-3, on a global task's grid and days: no archive has it."""
    truth = catalog.open("sandbox_truth", root)["soil_moisture"]
    return truth.sel(time=task.labels["time"].to_numpy(), method="nearest").values.astype("float32")


def goes_round(lon: np.ndarray) -> bool:
    """Whether columns go round the globe, so that the first is the last one's neighbour."""
    return bool(np.isclose(lon[-1] - lon[0] + lon[1] - lon[0], 360.0))


def target_on_grid(target: xr.Dataset, lat: xr.DataArray, lon: xr.DataArray) -> xr.DataArray:
    """Bring a reanalysis' daily soil moisture to another grid ``(time, lat, lon)``: float32, NaN over sea.

    Reanalyses hold zeros over sea, which are not dry soil: cells with less land than `MIN_LAND` are masked before interpolation.
    """
    check_dataset(target, who="target_on_grid", require=("soil_moisture",))
    field = target["soil_moisture"]
    land = koppen.land_fraction(target["lat"].values, target["lon"].values) >= MIN_LAND
    field = field.where(xr.DataArray(land, dims=("lat", "lon")))
    return regrid_bilinear(field, (lat.values, lon.values)).astype("float32").transpose("time", "lat", "lon")


def amsre_task(
    inputs: xr.Dataset,
    target: xr.Dataset,
    *,
    n_train: int = 30_000,
    n_validation: int = 5_000,
    n_test: int = 50_000,
    seed: int = 0,
) -> PatchTask:
    """Set up the experiment of Hu, Xu and Yu (2018), one fold: all days but the last train and validate, the last tests.

    `inputs` are daily composites ``tb(time, channel, lat, lon)``, K, `target` has daily ``soil_moisture(time, lat, lon)``,
    m3 m-3, on its own grid. `n_train` and `n_validation` patches a training day never share a centre, though neighbouring patches
    overlap, as in the paper; `n_test` are of the last day. Ice sheets (Köppen EF) have no soil moisture and are left out.
    """
    who = "amsre_task"
    check_dataset(inputs, who=who, require=("tb",))
    times = (one["time"].values.astype("datetime64[D]") for one in (inputs, target))
    days, in_inputs, in_target = np.intersect1d(*times, return_indices=True)
    if days.size < 2:
        what = "too few days are common to inputs and target"
        next_step = "Check that both archives cover the period; the last common day is the test day"
        raise ContractError(who, what, got=days.size, expected=plain("at least 2"), next_step=next_step)
    lat, lon = inputs["lat"], inputs["lon"]
    field = target_on_grid(target.isel(time=in_target), lat, lon).values
    land = koppen.land_fraction(lat.values, lon.values) >= MIN_LAND
    land &= koppen.koppen_class(lat.values[:, None], lon.values[None, :]) != "EF"
    field[:, ~land] = np.nan
    images = np.ascontiguousarray(inputs["tb"].isel(time=in_inputs).transpose("time", "lat", "lon", "channel").values)
    wrap = goes_round(lon.values)
    eligible = eligible_centres(images, field, wrap=wrap)
    last = days.size - 1
    train, validation = draw_patches(eligible, range(last), (n_train, n_validation), seed=seed, who=who)
    (test,) = draw_patches(eligible, [last], (n_test,), seed=seed + 1, who=who)
    notes = {f"masked_{reason}": count for reason, count in count_masked(inputs["tb"]).items()}
    notes |= {
        "files_missing": len(json.loads(inputs.attrs.get("missing_files", "[]"))),
        "land_pixels_a_day": int(land.sum()),
        "eligible_centres_a_day": round(float(eligible.sum(axis=(1, 2)).mean())),
        "observed_fraction_of_land": round(float(np.isfinite(images[:, land]).all(axis=-1).mean()), 4),
    }
    title, channels = f"AMSR-E to ECMWF soil moisture, {days[0]} to {days[-1]}", inputs["channel"].values
    channels = tuple(map(str, channels))
    labels = pd.DataFrame({"time": days.astype("datetime64[ns]")})
    folds = [Fold(str(days[-1]), train, validation, test, np.arange(last))]
    place = {"wrap": wrap, "lat": lat.values, "lon": lon.values, "land": land}
    about = {"reference": "ERA-Interim", "units": dict.fromkeys(channels, "K"), "notes": notes}
    synthetic = is_synthetic(inputs) or is_synthetic(target)
    return PatchTask("amsre", title, images, field, channels, labels, folds, synthetic=synthetic, **place, **about)


def conus_task(dataset: xr.Dataset, *, test_year: int = 2021) -> PatchTask:
    """Set up the retrieval of SMAP soil moisture from Sentinel-1 and -2 on the CONUS regions, leaving each out in turn.

    Each fold tests on one region in `test_year` and trains on the others in the years before, so that neither place nor time of
    a test image was seen; the next region in order is kept for validation. Channels are VV and VH (dB), incidence angle (degree)
    and the Sentinel-2 bands (reflectance). Only pixels with all channels and the target are centres; ``notes`` counts the others.
    """
    who = "conus_task"
    check_dataset(dataset, who=who, require=("sigma0", "reflectance", "incidence_angle", "soil_moisture"))
    order = ("region", "time", "y", "x")
    radar, optical = (
        dataset["sigma0"].transpose(*order, "polarization"),
        dataset["reflectance"].transpose(*order, "band"),
    )
    angle = dataset["incidence_angle"].transpose(*order).values[..., None]
    images = np.concatenate([radar.values, angle, optical.values], axis=-1).astype("float32")
    target = dataset["soil_moisture"].transpose(*order).values.astype("float32")
    n_regions, n_times = images.shape[:2]
    images, target = images.reshape(-1, *images.shape[2:]), target.reshape(-1, *target.shape[2:])
    time = np.tile(pd.DatetimeIndex(dataset["time"].values), n_regions)
    labels = pd.DataFrame({"time": time, "region": np.repeat(dataset["region"].values, n_times)})
    names = np.array(["DJF", "MAM", "JJA", "SON"], dtype=object)  # northern
    labels["season"] = names[labels["time"].dt.month % 12 // 3]
    channels = (*map(str, dataset["polarization"].values), "incidence_angle", *map(str, dataset["band"].values))
    complete = np.isfinite(images).all(axis=-1) & np.isfinite(target)
    per_region = pd.Series(complete.sum(axis=(1, 2))).groupby(labels["region"]).sum()
    usable = [int(r) for r, n in per_region.items() if n]
    year = labels["time"].dt.year.to_numpy()
    if test_year not in year or test_year <= year.min():
        raise ParameterError(who, "test_year", got=test_year, expected=sorted(set(year.tolist()))[1:])
    region = labels["region"].to_numpy()
    folds = []
    for left_out, held in zip(usable, [*usable[1:], *usable[:1]], strict=True):
        train = ~np.isin(region, (left_out, held)) & (year < test_year)
        parts = [train, (region == held) & (year < test_year), (region == left_out) & (year == test_year)]
        centres = (np.nonzero(complete & part[:, None, None]) for part in parts)
        index = [PatchIndex(*part) for part in centres]
        folds.append(Fold(f"region {left_out:02d}", *index, np.flatnonzero(train)))
    notes = {
        "regions": n_regions,
        "regions_without_a_complete_pixel": n_regions - len(usable),
        "pixels_with_target": int(np.isfinite(target).sum()),
        "complete_pixels": int(complete.sum()),
    }
    title = f"Sentinel-1/2 to SMAP soil moisture, region left out, {test_year}"
    units = {"VV": "dB", "VH": "dB", "incidence_angle": "degree"}
    about = {"reference": "SMAP (ssm / 50)", "units": units, "notes": notes, "synthetic": is_synthetic(dataset)}
    return PatchTask("conus_patches", title, images, target, channels, labels, folds, **about)
