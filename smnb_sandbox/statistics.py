"""The sandbox's statistics beside those of real samples: how near the simulation comes to the world, and where it does not.

``data/statistics.yaml`` has the real figures, as the functions here gave them, and how far the sandbox's may be off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray

from smnb.loaders.insitu import open_insitu
from smnb.loaders.smap import open_l2_active_passive, read_fields
from smnb_sandbox.files import table
from smnb_sandbox.noise import Float64
from smnb_sandbox.truth import open_smap_truth

_REGION = "oklahoma_city"  # whose fields are most like those of the real scenes
_APART = {"8-20": (8.0, 20.0), "20-60": (20.0, 60.0), "60-180": (60.0, 180.0)}  # days between two scenes


def insitu_statistics(paths: Sequence[Path], months: str, fewest: int) -> dict[str, float]:
    """Medians over sensors (and years, of a part of the year) with so many days: memory and spread of days, noise of hours.

    Noise is the root mean square of second differences, the tenth of them that rain makes held at its edge, over the root of 6.
    """
    found, (first, last) = [], months.split()
    for _, of in open_insitu(paths).readings.groupby("sensor_id", observed=True):
        series = pd.Series(of["soil_moisture"].to_numpy(float), pd.DatetimeIndex(of["time"])).sort_index()
        hours = series[~series.index.duplicated()].resample("1h").mean()
        years = sorted(set(hours.index.year)) if first > "01-01" else []
        for part in [hours[f"{year}-{first}" : f"{year}-{last}"] for year in years] or [hours]:
            days = part.resample("1D").mean()
            if days.count() >= fewest:
                change = np.abs(np.diff(part.to_numpy(), 2))
                change = np.minimum(change, np.nanquantile(change, 0.9))
                found.append((days.autocorr(1), days.autocorr(7), days.std(), np.sqrt(np.nanmean(change**2) / 6.0)))
    return dict(zip(("lag 1", "lag 7", "sd", "hourly noise"), np.nanmedian(found, axis=0), strict=True))


def passive_statistics(paths: Iterable[Path]) -> dict[str, float]:
    """Of SPL2SMP's recommended retrievals: V-H (K) under 1.5 to 5 kg m-2 of vegetation, and how options 1 and 3 differ from 2."""
    names = ("tb_v_corrected", "tb_h_corrected", "vegetation_water_content")
    names += tuple(f"soil_moisture_option{i}" for i in (1, 2, 3))
    fields = [read_fields(path)[0] for path in paths]
    cells = np.concatenate([np.stack([of[name] for name in names]).astype(float) for of in fields], axis=1)
    good = np.concatenate([of["retrieval_qual_flag_option2"].astype(int) & 1 == 0 for of in fields])
    v, h, water, horizontal, vertical, dual = cells[:, good & (cells > -9998.0).all(axis=0)]
    return {
        "TB V-H": float(np.median((v - h)[(water >= 1.5) & (water < 5.0)])),
        "SCA-H minus SCA-V": float((horizontal - vertical).mean()),
        "DCA minus SCA-V": float((dual - vertical).mean()),
        "DCA from SCA-V, ubRMSD": float((dual - vertical).std()),
    }


def residuals(images: NDArray) -> Float64:
    """What cells of 3 km differ by from their block of 3 x 3, five or more of it there: (time, cell), NaN elsewhere."""
    count, rows, cols = images.shape
    parts = images[:, : rows // 3 * 3, : cols // 3 * 3].reshape(count, rows // 3, 3, cols // 3, 3)
    number = np.isfinite(parts).sum(axis=(2, 4), keepdims=True)
    mean = np.nansum(parts, axis=(2, 4), keepdims=True) / np.maximum(number, 1)
    return np.where(number >= 5, parts - mean, np.nan).reshape(count, -1)


def mean_correlation(pairs: Iterable[tuple[NDArray, NDArray]]) -> float:
    """Mean correlation of pairs of images, (cell,), that differ and have thirty cells in common."""
    both = ((a, b, np.isfinite(a) & np.isfinite(b)) for a, b in pairs)
    return float(np.mean([np.corrcoef(a[ok], b[ok])[0, 1] for a, b, ok in both if ok.sum() >= 30 and a[ok].std() > 0]))


def scene_statistics(times: NDArray, images: NDArray) -> dict[str, float]:
    """Of soil moisture at 3 km, (time, y, x): mean spread of the residuals in a scene, and how two scenes' correlate."""
    found, day = residuals(images), (times - times[0]) / np.timedelta64(1, "D")
    result = {"residual's sd": float(np.mean([np.nanstd(one) for one in found if np.isfinite(one).any()]))}
    for name, (low, high) in _APART.items():
        pairs = np.argwhere((day - day[:, None] >= low) & (day - day[:, None] < high))
        result[f"residuals {name} days apart"] = mean_correlation((found[i], found[j]) for i, j in pairs)
    return result


def sandbox_statistics(root: Path) -> dict[str, dict[str, float]]:
    """Measure an archive, by the groups of ``data/statistics.yaml``."""
    groups = table("statistics")["insitu"].items()
    found = {name: insitu_statistics(sorted(root.glob(of["files"])), of["months"], of["fewest"]) for name, of in groups}
    found["SMAP, 36 km"] = passive_statistics(root.glob("smap_l2/*.h5"))
    truth = open_smap_truth([root / f"sandbox_truth/smap_truth_{_REGION}.nc"], catalog_id="")
    box = [float(edge) for edge in (truth.lon.min(), truth.lat.min(), truth.lon.max(), truth.lat.max())]
    fine = sorted(root.glob("smap_s1_l2/**/*.h5"))
    fine = open_l2_active_passive(fine, region=box, flag_policy="none", variables=["soil_moisture"])
    images = fine["soil_moisture"].sel(time=truth["time"]).values
    scenes = found["SMAP/Sentinel-1, 3 km"] = scene_statistics(truth["time"].values, images)
    real = residuals(np.where(np.isfinite(images), truth["soil_moisture"].values, np.nan))
    scenes["residual with the truth's"] = mean_correlation(zip(residuals(images), real, strict=True))
    decibels = []
    for path in root.glob("multisource/sentinel1/*/*.tif"):
        with rasterio.open(path) as file:
            power = 10.0 ** (0.1 * (file.read(1, masked=True) * file.scales[0] + file.offsets[0]))
        decibels.append(10.0 * np.log10(power.mean()))
    found["Sentinel-1"] = dict(zip(("VV 5 %", "VV 95 %"), np.quantile(decibels, (0.05, 0.95)), strict=True))
    return found


def compare_statistics(root: str | Path) -> pd.DataFrame:
    """The table of an archive: one row a statistic; its figure, that of real samples, how far it may be off, if it is within."""
    found = sandbox_statistics(Path(root))
    rows = [
        (group, name, found[group][name], real, tolerance, abs(found[group][name] - real) <= tolerance, of["origin"])
        for group, of in table("statistics")["real"].items()
        for name, (real, tolerance) in of["values"].items()
    ]
    return pd.DataFrame(rows, columns=["group", "statistic", "sandbox", "real", "tolerance", "within", "origin"])
