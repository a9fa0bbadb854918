"""AMSR-E days made ready for use: outliers masked and counted, passes and days averaged."""

from __future__ import annotations

import json

import dask
import numpy as np
import xarray as xr

from smnb.contract import ContractError, check_choice, check_dataset, count_masked, stamp
from smnb.loaders.amsre import CHANNELS

_REASONS = ("below_range", "above_range", "rfi", "polarisation_inverted")
#: K. The coldest natural scene, a calm ocean at 6.9 GHz H, is near 75 K; the hottest desert soil near 340 K with an
#: emissivity below 0.97.
_LOW, _HIGH = 50.0, 330.0
#: K. Natural brightness temperatures rise from 6.9 to 10.7 GHz (or fall little, over snow), while transmitters near 6.9 GHz
#: raise that channel alone; Li et al. call 10 K above 10.7 GHz strong interference.
_RFI = 10.0
#: K. A flat or rough natural surface has V >= H at 55 degrees, and they only meet under dense vegetation; noise is about 0.5 K.
_INVERTED = 5.0


def _outlier_codes(tb: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """Reason of each value, 0 for none and k + 1 for `_REASONS[k]`; the first that applies counts. Channels are last."""
    tb = np.moveaxis(tb, -1, 0)  # as the images lie in memory
    at = {name: k for k, name in enumerate(channels)}
    # comparisons with NaN are False, which is what is wanted: a missing value is no outlier
    codes = (tb < _LOW).astype("uint8")
    codes[tb > _HIGH] = 2
    good = codes == 0
    for p in "HV":
        if f"6.9{p}" in at and f"10.7{p}" in at:
            k, other = at[f"6.9{p}"], at[f"10.7{p}"]
            codes[k][(tb[k] - tb[other] > _RFI) & good[k] & good[other]] = 3
    for ghz in dict.fromkeys(name[:-1] for name in CHANNELS.values()):
        if f"{ghz}H" in at and f"{ghz}V" in at:
            h, v = at[f"{ghz}H"], at[f"{ghz}V"]
            wrong = (tb[h] - tb[v] > _INVERTED) & good[h] & good[v]
            for k in (h, v):
                codes[k][wrong & (codes[k] == 0)] = 4
    return np.moveaxis(codes, 0, -1)


def mask_outliers(dataset: xr.Dataset) -> xr.Dataset:
    """Mask and count brightness temperatures that no natural surface emits at 55° incidence.

    Below 50 K and above 330 K; at 6.9 GHz more than 10 K above 10.7 GHz in the same polarisation (interference; footprints must
    match, for where 6.9 GHz sees further, water cells beside warm land are masked too); both polarisations where V is more
    than 5 K below H.

    Parameters
    ----------
    dataset : xarray.Dataset
        With ``tb(…, channel, lat, lon)``, lazy or loaded.

    Returns
    -------
    xarray.Dataset
        A copy. ``tb.attrs["masked_by"]`` counts values lost by reason: "below_range", "above_range", "rfi",
        "polarisation_inverted"; each value is counted once, and none that was missing already. Lazy data stay lazy, at
        the cost of one pass over the files for the counts.

    Raises
    ------
    ContractError
        If there is no ``tb`` with a channel dimension.

    References
    ----------
    Li, Njoku, Im, Chang and St. Germain 2004, A preliminary survey of radio-frequency interference over the U.S. in
    Aqua AMSR-E data, doi:10.1109/TGRS.2003.817195.
    """
    who = "mask_outliers"
    if "tb" not in dataset or "channel" not in dataset["tb"].dims:
        raise ContractError(who, "no 'tb' with a channel dimension", got=sorted(map(str, dataset.data_vars)))
    tb = dataset["tb"]
    channels = tuple(str(c) for c in tb["channel"].values)
    if tb.chunks is not None:
        tb = tb.chunk(channel=-1)
    codes = xr.apply_ufunc(
        _outlier_codes,
        tb,
        input_core_dims=[["channel"]],
        output_core_dims=[["channel"]],
        kwargs={"channels": channels},
        dask="parallelized",
        output_dtypes=["uint8"],
    ).transpose(*tb.dims)
    # one computation for all counts, since each reads every file
    (lost,) = dask.compute([(codes == k + 1).sum().data for k in range(len(_REASONS))])
    masked = tb.where(codes == 0)
    counts = count_masked(tb)
    for reason, number in zip(_REASONS, lost, strict=True):
        counts[reason] = counts.get(reason, 0) + int(number)
    masked.attrs = {**tb.attrs, "masked_by": json.dumps(counts, sort_keys=True)}
    result = dataset.assign(tb=masked)
    return stamp(result, step=f"{who}: lost {dict(zip(_REASONS, map(int, lost), strict=True))}")


def average_passes(dataset: xr.Dataset, days: int = 1) -> xr.Dataset:
    """Average the passes of a day and, trailing, of the day before: the 1-2 day composites of the paper.

    Parameters
    ----------
    dataset : xarray.Dataset
        ``tb(time, orbit_pass, channel, lat, lon)`` with one time a day, lazy or loaded. Lazy data are computed a day at
        a time, so that the memory needed is the result's and a day's.
    days : {1, 2}
        Length of the window, which ends with the day itself. The first day of a series, and one after a gap, has only
        itself.

    Returns
    -------
    xarray.Dataset
        ``tb(time, channel, lat, lon)``, loaded float32: the mean of the valid passes, NaN where there is none; and
        ``n_obs``, uint8, how many there were.

    Raises
    ------
    ParameterError
        If `days` is neither 1 nor 2.
    ContractError
        If the dims are others, or a day occurs twice.
    """
    who = "average_passes"
    check_choice(who, "days", days, [1, 2])
    if "tb" not in dataset or set(dataset["tb"].dims) != {"time", "orbit_pass", "channel", "lat", "lon"}:
        what = "no 'tb' with one pass a row"
        got = dataset["tb"].dims if "tb" in dataset else None
        raise ContractError(who, what, got=got, expected=("time", "orbit_pass", "channel", "lat", "lon"))
    tb = dataset["tb"].transpose("time", "orbit_pass", "channel", "lat", "lon")
    dates = tb["time"].values.astype("datetime64[D]")
    if (np.diff(dates) <= np.timedelta64(0, "D")).any():
        raise ContractError(who, "'time' is not one value a day, increasing", got=str(dates[:3]))
    shape = (tb.sizes["time"], *tb.shape[2:])
    mean, count = np.empty(shape, "float32"), np.empty(shape, "uint8")
    before: tuple[np.ndarray, np.ndarray] | None = None
    for k, date in enumerate(dates):
        passes = np.asarray(tb[k].values, dtype="float32")
        number = np.isfinite(passes).sum(axis=0, dtype="uint8")
        total = np.nansum(passes, axis=0, dtype="float32")
        follows = days == 2 and before is not None and date - dates[k - 1] == np.timedelta64(1, "D")
        count[k] = number + before[1] if follows else number
        mean[k] = total + before[0] if follows else total
        with np.errstate(invalid="ignore"):
            mean[k] /= count[k]  # 0 / 0 is the NaN that is wanted
        before = total, number
    dims = ("time", "channel", "lat", "lon")
    result = xr.Dataset(
        {
            "tb": (dims, mean, dict(tb.attrs)),
            "n_obs": (dims, count, {"units": "1", "long_name": "passes averaged", "composite_days": days}),
        },
        {name: dataset[name] for name in dims},
        dict(dataset.attrs),
    )
    stamp(result, step=f"{who}: mean of the valid passes of {days} day(s), trailing")
    return check_dataset(result, who=who)
