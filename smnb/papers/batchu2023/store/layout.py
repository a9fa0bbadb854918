"""Schema of the sample store, and its arrays on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from smnb.contract import ContractError, ParameterError, plain
from smnb.files import atomic_path

SCHEMA = "samples-1"
#: 10 m images, 160 m images, and one value at the point.
KINDS = ("high", "low", "coarse")
SENSORS_FILE = "sensors.parquet"
#: A missing time, as int64.
NAT = int(np.iinfo(np.int64).min)
#: Bytes of a chunk before compression; an image is never divided.
CHUNK_BYTES = 1 << 20
MOST_ROWS = 16
_COLUMN_ROWS = 1 << 16


@dataclass(frozen=True)
class StoredSource:
    """One source of a store.

    Parameters
    ----------
    kind : {"high", "low", "coarse"}
        Images at the fine resolution, images at the low resolution, or one value at the point.
    bands : tuple of str
        In the order of the arrays.
    static : bool
        One image a sensor instead of one a sample.
    bound_seconds : float, optional
        How long before the reading an image may lie.
    catalog_id : str
        The catalog's entry.
    optional : bool
        Whether a sample may lack this source (NaN).
    """

    kind: str
    bands: tuple[str, ...]
    static: bool = False
    bound_seconds: float | None = None
    catalog_id: str = ""
    optional: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ParameterError("StoredSource", "unknown kind", got=self.kind, expected=list(KINDS))
        object.__setattr__(self, "bands", tuple(map(str, self.bands)))
        if not self.bands or len(set(self.bands)) < len(self.bands):
            raise ParameterError("StoredSource", "bands are not one or more different names", got=self.bands)
        if self.static and self.kind == "coarse":
            raise ParameterError("StoredSource", "a coarse source is not static", got=self.kind)

    def as_dict(self) -> dict[str, Any]:
        """For the store's attributes."""
        return {**asdict(self), "bands": list(self.bands)}


#: Sources of paper 004 by their canonical names.
STANDARD_SOURCES: dict[str, StoredSource] = {
    "sentinel1": StoredSource("high", ("VV", "VH", "angle")),
    "sentinel2": StoredSource("high", ("B2", "B3", "B4", "B8", "B11", "B12")),
    "dem": StoredSource("high", ("elevation",), static=True),
    "soilgrids": StoredSource("low", ("sand", "silt", "clay", "bdod"), static=True),
    "modis_lai": StoredSource("low", ("Lai",)),
    "smap": StoredSource("coarse", ("ssm",)),
    "gldas": StoredSource("coarse", ("SoilMoi0_10cm_inst",)),
}


def stored_sources(who: str, given: Mapping[str, StoredSource | Mapping[str, Any]]) -> dict[str, StoredSource]:
    """Return sources as `StoredSource`; a mapping may leave out what `STANDARD_SOURCES` says of its name."""
    result = {}
    for name, one in given.items():
        if isinstance(one, StoredSource):
            result[name] = one
            continue
        standard = STANDARD_SOURCES[name].as_dict() if name in STANDARD_SOURCES else {}
        unknown = sorted(set(one) - set(StoredSource.__dataclass_fields__))
        missing = sorted({"kind", "bands"} - {*standard, *one})
        if unknown or missing:
            raise ParameterError(
                who,
                f"source {name!r} is described with unknown keys {unknown} or without {missing}",
                got=sorted(one),
                expected=sorted(StoredSource.__dataclass_fields__),
            )
        result[name] = StoredSource(**{**standard, **one})
    if not result:
        raise ParameterError(who, "a store without a source", got={}, expected=sorted(STANDARD_SOURCES))
    return result


def image_side(who: str, kind: str, crop: int, resolution: float, low_resolution: float) -> int:
    """Pixels on a side of the images of a kind; the low ones cover the same ground."""
    if kind == "high":
        return crop
    side = crop * resolution / low_resolution
    if side != int(side) or side < 1:
        raise ParameterError(
            who,
            f"a crop of {crop} pixels of {resolution:g} m is no whole number of {low_resolution:g} m pixels",
            got=crop,
            expected=plain(f"a multiple of {low_resolution / resolution:g}"),
        )
    return int(side)


def chunk_rows(n_bands: int, side: int) -> int:
    """Images in a chunk: as many as `CHUNK_BYTES` holds, from 1 to 16."""
    return int(np.clip(CHUNK_BYTES // (2 * n_bands * side * side), 1, MOST_ROWS))


def _compressor() -> BloscCodec:
    # normalised images as float16 are mostly noise in the low bits: lz4 after a bit shuffle leaves 5 % more than zstd does and
    # is read and written four times as fast
    return BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")


def create_images(group: zarr.Group, source: StoredSource, rows: int, side: int) -> zarr.Array:
    """Make the array ``values`` of a source's group, empty (NaN): images, or values of a coarse product."""
    n_bands = len(source.bands)
    if source.kind == "coarse":
        shape, chunks, dtype = (rows, n_bands), (_COLUMN_ROWS, n_bands), "float32"
        dims: tuple[str, ...] = ("sample", "band")
    else:
        shape, dtype = (rows, n_bands, side, side), "float16"
        chunks = (chunk_rows(n_bands, side), n_bands, side, side)
        dims = ("sensor" if source.static else "sample", "band", "y", "x")
    return group.create_array(
        "values",
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=float("nan"),
        compressors=_compressor(),
        dimension_names=dims,
        overwrite=True,
    )


def create_column(group: zarr.Group, name: str, values: np.ndarray, dim: str = "sample") -> zarr.Array:
    """Write a vector as an array of a group, replacing one of that name."""
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(_COLUMN_ROWS, *values.shape[1:]),
        dtype=values.dtype,
        fill_value=float("nan") if values.dtype.kind == "f" else 0,
        compressors=_compressor(),
        dimension_names=(dim, *("band",) * (values.ndim - 1)),
        overwrite=True,
    )
    array[:] = values
    return array


def time_to_ns(who: str, times: Any) -> np.ndarray:
    """Times as int64 nanoseconds UTC; NaT is `NAT`."""
    if isinstance(times, np.ndarray) and times.dtype.kind == "i":
        return times.astype(np.int64)
    index = pd.DatetimeIndex(pd.to_datetime(np.asarray(times) if not isinstance(times, pd.Series) else times, utc=True))
    if index.ndim != 1:
        raise ContractError(who, "times are no vector", got=index.ndim, expected=1)
    return index.tz_localize(None).to_numpy("datetime64[ns]").view(np.int64)


def write_sensors(folder: Path, sensors: pd.DataFrame) -> None:
    """Write the sensor table into a store."""
    with atomic_path(folder / SENSORS_FILE) as temporary:
        sensors.to_parquet(temporary, index=False)


def check_sensors(who: str, sensors: pd.DataFrame, sensor: np.ndarray | None = None) -> None:
    """Raise unless the table has unique ids, and a row for each number in `sensor`."""
    if not isinstance(sensors, pd.DataFrame) or "sensor_id" not in sensors.columns:
        raise ContractError(who, "the sensor table lacks 'sensor_id'", got=type(sensors).__name__)
    if sensors["sensor_id"].duplicated().any():
        example = sensors.loc[sensors["sensor_id"].duplicated(), "sensor_id"].iloc[0]
        raise ContractError(who, "a sensor occurs twice", got=str(example), expected="one row a sensor")
    if sensor is not None and sensor.size and not (int(sensor.min()) >= 0 and int(sensor.max()) < len(sensors)):
        raise ContractError(
            who,
            "a sample names a sensor that the table lacks",
            got=(int(sensor.min()), int(sensor.max())),
            expected=plain(f"rows 0 to {len(sensors) - 1}"),
        )
