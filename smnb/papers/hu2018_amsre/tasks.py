"""From Datasets under the contract to a `PatchTask`: what is predicted, from what, and what may be seen in training."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from smnb.catalog import Catalog
from smnb.contract import ContractError, ParameterError, check_choice, check_dataset, count_masked, is_synthetic, plain
from smnb.grids import koppen, regrid_bilinear
from smnb.loaders.amsre import average_passes, mask_outliers
from smnb.loaders.ecmwf import daily_mean
from smnb.papers.hu2018_amsre.patches import PatchIndex, draw_patches, eligible_centres
from smnb.training import MinMaxScaler


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
    images: np.ndarray
    """``(image, row, col, channel)``, native units, NaN where missing."""
    target: np.ndarray
    """Soil moisture ``(image, row, col)``, m3 m-3."""
    channels: tuple[str, ...]
    labels: pd.DataFrame
    """One row an image: ``time`` and, where there are several, ``region``."""
    folds: list[Fold]
    wrap: bool = False
    """Whether columns wrap around (global longitude)."""
    synthetic: bool = False
    patch_size: int = 9
    units: dict[str, str] = field(default_factory=dict)
    """Units of each channel."""
    reference: str = "target"
    """Short name of the target's product, for labels."""
    lat: np.ndarray | None = None
    lon: np.ndarray | None = None
    land: np.ndarray | None = None
    """Of a global task: coordinates of rows and columns, and where a map is wanted, bool ``(row, col)``."""
    notes: dict[str, float] = field(default_factory=dict)
    """Counts to report: masked, filled, dropped."""

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


#: Least land fraction of a patch's centre, and of a cell of the target.
MIN_LAND = 0.5
#: Catalog entries that each source of `open_task` reads.
SOURCES: dict[str, tuple[str, ...]] = {
    "amsre": ("amsre_nsidc0302", "era_interim_swvl1"),
    "conus_patches": ("conus_s1s2smap",),
}


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

    Parameters
    ----------
    source : str
        A key of `SOURCES`: ``amsre`` (`amsre_task`: open, mask outliers, composite, daily mean of the target) or
        ``conus_patches`` (`conus_task`).
    catalog : Catalog
    root : Path
        Data root: the sandbox or an archive of the same layout.
    start, end : str, optional
        First and last day; default all there are.
    composite_days, **draw : int
        For ``amsre``: 1 or 2 days, and ``n_train``, ``n_validation``, ``n_test``, ``seed`` of `amsre_task`.
    """
    check_choice("open_task", "source", source, SOURCES)
    if source == "conus_patches":
        return conus_task(catalog.open("conus_s1s2smap", root))
    inputs = catalog.open("amsre_nsidc0302", root, start=start, end=end)
    target = catalog.open("era_interim_swvl1", root, start=start, end=end)
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
    return PatchTask(
        name="amsre",
        title=f"AMSR-E to ECMWF soil moisture, {days[0]} to {days[-1]}",
        images=images,
        target=field,
        channels=tuple(map(str, inputs["channel"].values)),
        labels=pd.DataFrame({"time": days.astype("datetime64[ns]")}),
        folds=[Fold(str(days[-1]), train, validation, test, np.arange(last))],
        wrap=wrap,
        synthetic=is_synthetic(inputs) or is_synthetic(target),
        lat=lat.values,
        lon=lon.values,
        land=land,
        notes=notes,
        reference="ERA-Interim",
        units=dict.fromkeys(map(str, inputs["channel"].values), "K"),
    )


def conus_task(dataset: xr.Dataset, *, test_year: int = 2021) -> PatchTask:
    """Set up the retrieval of SMAP soil moisture from Sentinel-1 and -2 on the CONUS regions, leaving each out in turn.

    A patch is a pixel's 9×9 neighbourhood; the 7×7 images are padded by repeating their edge. Each fold tests on one region in
    `test_year` and trains on the other regions in the years before, so that neither the place nor the time of a test image was
    seen. One of the training regions, the next in order, is kept for validation.

    Channels are VV and VH (dB), incidence angle (degree) and the Sentinel-2 bands (reflectance). Only pixels with all channels
    and the target are centres; ``notes`` counts the others.
    """
    who = "conus_task"
    check_dataset(dataset, who=who, require=("sigma0", "reflectance", "incidence_angle", "soil_moisture"))
    order = ("region", "time", "y", "x")
    stack = [
        dataset["sigma0"].transpose(*order, "polarization").values,
        dataset["incidence_angle"].transpose(*order).values[..., None],
        dataset["reflectance"].transpose(*order, "band").values,
    ]
    images = np.concatenate(stack, axis=-1).astype("float32")
    target = dataset["soil_moisture"].transpose(*order).values.astype("float32")
    n_regions, n_times = images.shape[:2]
    images, target = images.reshape(-1, *images.shape[2:]), target.reshape(-1, *target.shape[2:])
    time = np.tile(pd.DatetimeIndex(dataset["time"].values), n_regions)
    labels = pd.DataFrame({"time": time, "region": np.repeat(dataset["region"].values, n_times)})
    labels["season"] = np.array(["DJF", "MAM", "JJA", "SON"], dtype=object)[
        labels["time"].dt.month % 12 // 3
    ]  # northern
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
    return PatchTask(
        name="conus_patches",
        title=f"Sentinel-1/2 to SMAP soil moisture, region left out, {test_year}",
        images=images,
        target=target,
        channels=channels,
        labels=labels,
        folds=folds,
        synthetic=is_synthetic(dataset),
        notes=notes,
        reference="SMAP (ssm / 50)",
        units={"VV": "dB", "VH": "dB", "incidence_angle": "degree"},
    )
