"""A checkpoint applied to a file: ``smnb map``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from smnb import contract
from smnb.contract import ContractError, FormatError, ParameterError, foreign, plain
from smnb.loaders import open_netcdf
from smnb.loaders.rasters.images import check_group
from smnb.maps.forms import TileForm, tile_form
from smnb.maps.tiles import MapResult, tiled_map
from smnb.models.amsre_cnn import AmsreCNN
from smnb.models.smen import SMEN
from smnb.training import MinMaxScaler, Trained, load

_WHO = "smnb map"
LABEL_DIMS = ("channel", "polarization", "band")  # dimensions whose labels may be names of channels
PLACE_DIMS = (("y", "x"), ("lat", "lon"))


class ChannelStack:
    """Channels of one image, each ``(y, x)`` or ``(lat, lon)``, lazy or not, read as they are sliced."""

    def __init__(self, names: tuple[str, ...], arrays: list[xr.DataArray]) -> None:
        self.names, self.arrays, self.shape = names, arrays, (len(arrays), *arrays[0].shape)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        """Rows of all channels."""
        channels, rows = key
        return np.stack([np.asarray(array[rows].values, "float32") for array in self.arrays[channels]])


@contextlib.contextmanager
def open_map_input(path: str | Path, *, when: str | None = None) -> Iterator[xr.Dataset]:
    """Open a NetCDF or Zarr file under the data contract, lazily, at one time; a context that closes it.

    `when` is an ISO date or time, needed where the file has several; the image nearest to it within a day is taken.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(_WHO, "no such file", got=str(path))
    if path.is_dir():
        with foreign(f"{_WHO}({path.name})", "the folder cannot be read as Zarr"):
            check_group(f"{_WHO}({path.name})", path)
    # without dask: a slice of rows then reads these rows and nothing else
    with open_netcdf(_WHO, path, chunks=None) as dataset:
        with foreign(f"{_WHO}({path.name})"):
            image = _at_time(dataset, path, when) if "time" in dataset.dims else dataset
            contract.check_dataset(image, who=f"{_WHO} ({path.name})")
        yield image


def _at_time(dataset: xr.Dataset, path: Path, when: str | None) -> xr.Dataset:
    times = dataset["time"].values
    shown = [str(time)[:16] for time in times[:6]] + (["..."] if times.size > 6 else [])
    if when is None and times.size == 1:
        return dataset.isel(time=0)
    if when is None:
        raise ParameterError(_WHO, f"{path.name} has {times.size} times", got=shown, next_step="Choose one with --time")
    try:
        wanted = np.datetime64(when).astype("datetime64[ns]")
    except ValueError as error:
        raise ParameterError(_WHO, "--time is not an ISO date", got=when, expected="2020-09-01") from error
    distance = np.abs(times.astype("datetime64[ns]") - wanted)
    if not (distance < np.timedelta64(1, "D")).any():
        raise ParameterError(_WHO, f"{path.name} has nothing at that time", got=when, expected=shown)
    return dataset.isel(time=int(distance.argmin()))


def _find_channels(dataset: xr.Dataset, names: tuple[str, ...], path: str) -> ChannelStack:
    """Find each channel: a variable of that name, or one with that label along channel, polarization or band."""
    found: dict[str, list[xr.DataArray]] = {}
    for name, variable in dataset.data_vars.items():
        if any(variable.dims == dims for dims in PLACE_DIMS):
            found.setdefault(str(name), []).append(variable)
        label = next((dim for dim in LABEL_DIMS if dim in variable.dims), None)
        if label is None or not any({*dims, label} == set(variable.dims) for dims in PLACE_DIMS):
            continue
        for number, text in enumerate(dataset[label].values.astype(str)):
            found.setdefault(text, []).append(variable.isel({label: number}))
    if any(name not in found for name in names):
        step = "Give the file these labels along 'channel' or 'polarization', or variables of these names"
        what = f"{path} lacks channels of the checkpoint"
        raise ContractError(_WHO, what, got=sorted(found), expected=list(names), next_step=step)
    if twice := [name for name in names if len(found[name]) > 1]:
        what, step = f"{path} has channels more than once", "Keep one variable of each"
        raise ContractError(_WHO, what, got=twice, next_step=step)
    return _stack(names, [found[name][0] for name in names], path)


def _stack(names: tuple[str, ...], arrays: list[xr.DataArray], path: str) -> ChannelStack:
    dims = next((dims for dims in PLACE_DIMS if set(dims) <= set(arrays[0].dims)), ())
    arrays = [array.transpose(*dims) if set(array.dims) == set(dims) else array for array in arrays]
    shapes = {name: (array.dims, array.shape) for name, array in zip(names, arrays, strict=True)}
    if not dims or len(set(shapes.values())) > 1:
        raise ContractError(_WHO, f"channels of {path} are on different grids", got=shapes)
    return ChannelStack(names, arrays)


class SmenForm(nn.Module):
    """SMEN on stacked channels: the coarse image, then the past residuals, oldest first."""

    def __init__(self, network: SMEN) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Take ``(image, 1 + history, row, col)`` to ``(image, row, col)``."""
        return self.network(images[:, 0], images[:, 1:])


Parts = tuple[ChannelStack, TileForm, MinMaxScaler | None]


def _images(loaded: Trained, dataset: xr.Dataset, path: str) -> Parts:
    """Channels by their names, and the form of any network that keeps the size of an image, or has its own."""
    stack = _find_channels(dataset, tuple(loaded.card["channels"]), path)
    if isinstance(loaded.model, AmsreCNN):
        lon = dataset["lon"].values if "lon" in stack.arrays[0].dims else np.array([])
        wrap = lon.size > 1 and bool(np.isclose((lon[-1] - lon[0]) + (lon[1] - lon[0]), 360.0))
        return stack, loaded.model.folded(wrap=wrap), loaded.input_scaler
    return stack, tile_form(loaded.model, len(stack.names)), loaded.input_scaler


def _smen(loaded: Trained, dataset: xr.Dataset, path: str) -> Parts:
    """SMEN's coarse image and past residuals."""
    history, scaler = loaded.model.config.history, loaded.input_scaler
    if scaler is None or len(scaler.minimum) != 2:
        raise FormatError(_WHO, "the checkpoint has no scaling of coarse image and residual", got=scaler)
    if not {"coarse", "residual"} <= set(dataset):
        step = "coarse (y, x) is the coarse soil moisture on the fine grid, residual (past, y, x) the past fine less coarse"
        got, expected = sorted(map(str, dataset.data_vars)), ["coarse", "residual"]
        what = f"{path} lacks {next(name for name in expected if name not in dataset)!r}"
        raise ContractError(
            _WHO, what, got=got, expected=expected, next_step=f"{step} images, oldest first and without gaps"
        )
    residual = dataset["residual"]
    past = [dim for dim in residual.dims if dim not in ("y", "x", "lat", "lon")]
    if len(past) != 1 or residual.sizes[past[0]] != history:
        what, expected = f"'residual' of {path} has another history", plain(f"{history} past images")
        raise ContractError(_WHO, what, got=dict(residual.sizes), expected=expected)
    names = ("coarse", *(f"residual {number}" for number in range(-history, 0)))
    arrays = [dataset["coarse"], *(residual.isel({past[0]: number}) for number in range(history))]
    bounds = ((coarse, *[rest] * history) for coarse, rest in (scaler.minimum, scaler.maximum, scaler.fill))
    scaler = MinMaxScaler(*bounds, clip=scaler.clip)
    form = tile_form(SmenForm(loaded.model), len(names))
    form.level = 0  # its loss leaves the level open; it comes from the coarse image
    return _stack(names, arrays, path), form, scaler


def map_checkpoint(
    checkpoint: str | Path | Trained, path: str | Path, out: str | Path, *, when: str | None = None, **options: Any
) -> MapResult:
    """Apply a trained network to the image of a file and write the map.

    Parameters
    ----------
    checkpoint : path-like or Trained
        What `smnb.training.save` wrote, or `smnb.training.train` or `load` gave (a network of the user's own, say); brings
        its own scaling. The network keeps the size of an image, or has a method ``folded``.
    path : path-like
        NetCDF or Zarr under the data contract with the checkpoint's channels: as labels along ``channel``,
        ``polarization`` or ``band``, or as variables of these names. SMEN takes ``coarse`` (y, x) and ``residual`` (past,
        y, x) instead.
    out : path-like
        As `smnb.maps.write_map` takes it.
    when : str, optional
        Which image of a file with several times: the nearest within a day.
    **options
        Of `tiled_map`: ``tile``, ``workers``, ``scheduler``, ``resume``, ``device``, ``precision``, ``progress``.

    Raises
    ------
    ParameterError, FormatError, ContractError, RunError
        If the network makes no maps, or the file has several times and none, or another, was chosen; if the file cannot be
        read or breaks the data contract; as `smnb.training.load` and `tiled_map`.
    """
    loaded = checkpoint if isinstance(checkpoint, Trained) else load(checkpoint)
    name = loaded.card["model"]
    with open_map_input(path, when=when) as dataset:
        parts = _smen if isinstance(loaded.model, SMEN) else _images
        stack, form, scaler = parts(loaded, dataset, Path(path).name)
        return tiled_map(
            form,
            stack,
            out=out,
            channels=stack.names,
            input_scaler=scaler,
            target_scaler=loaded.target_scaler,
            synthetic=contract.is_synthetic(dataset) or bool(loaded.card["training"].get("synthetic", False)),
            source=f"{name} network, weights {loaded.card['weights_sha256'][:12]}, on {Path(path).name}",
            coords=stack.arrays[0].coords,
            **options,
        )
