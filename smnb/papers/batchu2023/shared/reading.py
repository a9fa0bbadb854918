"""The images of a tile for one time, out of the scenes of each source, as the match-up builder would have cut them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pyproj import Transformer

from smnb.contract import ContractError, plain
from smnb.grids import UtmWindow
from smnb.papers.batchu2023.data import InputSet, channel_source, network_inputs
from smnb.papers.batchu2023.matchup import MatchSource, paper_sources
from smnb.papers.batchu2023.matchup.sources import Scenes
from smnb.papers.batchu2023.normalisation import INDEX_RANGES, normalise, normalised_index
from smnb.papers.batchu2023.shared.mapping import MapGeometry, TileImages

_WHO = "read_tile"


@dataclass(frozen=True)
class Tile:
    """A tile at one time: what the network takes, what a figure shows, and where it lies.

    Parameters
    ----------
    images : TileImages
    window : UtmWindow
        Of the high-resolution images, which reach half a window beyond the outermost cells' centres.
    geometry : MapGeometry
    time : Timestamp
        Of the map, UTC.
    used : DataFrame
        One row a source: ``scene`` and ``time`` of its image, ``age_days``, ``missing`` (share of pixels or cells without a
        value).
    native : dict of str to dict of str to ndarray
        Native values by source and band, for figures: ``native["sentinel1"]["VV"]`` (y, x), dB.
    synthetic : bool
    """

    images: TileImages
    window: UtmWindow
    geometry: MapGeometry
    time: pd.Timestamp
    used: pd.DataFrame
    native: dict[str, dict[str, np.ndarray]] = field(repr=False)
    synthetic: bool = False

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self.images.coarse.shape[:2]

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Easting and northing of the cells' centres, m: columns, and rows from the north."""
        return _axes(self.window, self.geometry, *self.cells)

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of the cells' centres, ``(row, col)``, degrees."""
        return _coordinates(self.window.epsg, *self.axes())


def _axes(window: UtmWindow, geometry: MapGeometry, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    half, step = geometry.crop * window.resolution / 2.0, geometry.stride * window.resolution
    return window.west + half + step * np.arange(cols), window.north - half - step * np.arange(rows)


def _coordinates(epsg: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lon, lat = Transformer.from_crs(epsg, 4326, always_xy=True).transform(*np.meshgrid(x, y))
    return np.asarray(lat), np.asarray(lon)


def _newest(scenes: Scenes, spec: MatchSource, lat: float, lon: float, time: pd.Timestamp) -> int:
    """Position of the closest scene in the past that covers the point, as the builder's join picks it.

    Raises
    ------
    ContractError
        If there is none: with how many cover the point, lie in time, and are clear enough.
    """
    table = scenes.table
    covering = np.asarray(scenes.covering(lat, lon))
    rows = table.iloc[covering]
    in_time = np.ones(len(rows), bool)
    if not spec.static:
        age = time - rows["time"]
        in_time = ((age >= pd.Timedelta(0)) & (age <= spec.bound)).to_numpy()
    clear = np.ones(len(rows), bool)
    if spec.cloud_limit is not None:
        clear = (rows["cloud_percentage"] <= spec.cloud_limit).to_numpy()
    candidates = covering[in_time & clear]
    if candidates.size == 0:
        n_clear = int((in_time & clear).sum())
        raise ContractError(
            _WHO,
            f"no scene of {scenes.source!r} for {time:%Y-%m-%d %H:%M} UTC at {lat:.3f}, {lon:.3f}",
            got=plain(
                f"{len(rows)} cover the place, {int(in_time.sum())} of them lie in time, {n_clear} of these are clear"
            ),
            expected=plain("one" if spec.static else f"one within {spec.bound} before"),
            next_step="Choose another time or place, or inputs without this source",
        )
    if spec.static:
        return int(candidates[0])
    times = table["time"].to_numpy()[candidates]
    return int(candidates[int(np.argmax(times))])


def read_tile(
    sources: Mapping[str, Scenes],
    inputs: InputSet,
    *,
    lat: float,
    lon: float,
    time: Any,
    cells: int = 64,
    geometry: MapGeometry | None = None,
    resolution: float = 10.0,
    low_resolution: float = 160.0,
    specs: Mapping[str, MatchSource] | None = None,
    show: Mapping[str, tuple[str, ...]] | None = None,
) -> Tile:
    """Read the images of a square of cells at one time.

    Parameters
    ----------
    sources : mapping of str to SceneIndex
        Scenes of each source, by its canonical name.
    inputs : InputSet
        Channels of the network.
    lat, lon : float
        Centre of the tile, degrees; it decides the UTM zone.
    time : timestamp
        UTC. Of each source the closest image in the past is taken, within its temporal bound; Sentinel-1's own bound is an hour,
        so that this is best the time of one of its scenes.
    cells : int
        Cells along a side: 64 of 320 m are 20.48 km.
    geometry : MapGeometry
    resolution, low_resolution : float
        Of the images, m, as the network was trained with.
    specs : mapping of str to MatchSource
        How sources are joined; default Table 5 of the paper.
    show : mapping of str to tuple of str
        Bands to keep in native units besides those of the inputs, for figures.

    Returns
    -------
    Tile

    Raises
    ------
    ContractError
        If a source is absent, or has no image of the place in time.
    """
    geometry = geometry or MapGeometry(low_ratio=round(low_resolution / resolution))
    specs = {**paper_sources("sentinel1"), **(specs or {})}
    time = pd.Timestamp(time)
    time = time.tz_convert("UTC").tz_localize(None) if time.tzinfo else time
    high = UtmWindow.centred(lat, lon, size=geometry.tile(cells, cells)[0], resolution=resolution)
    low = high.coarsened(low_resolution)
    cell_lat, cell_lon = _coordinates(high.epsg, *_axes(high, geometry, cells, cells))
    wanted = _wanted(inputs, show or {})
    native: dict[str, dict[str, np.ndarray]] = {}
    used: dict[str, dict[str, Any]] = {}
    # before anything is read: most times lack a source, and images are dear
    positions: dict[str, int] = {}
    for source in wanted:
        if source not in sources:
            raise ContractError(_WHO, f"the source {source!r} is absent", got=sorted(sources), expected=sorted(wanted))
        positions[source] = _newest(sources[source], specs[source], lat, lon, time)
    for source, bands in wanted.items():
        scenes, spec, position = sources[source], specs[source], positions[source]
        with scenes.open(position) as reader:
            if spec.kind == "coarse":
                values = reader.at(cell_lat.ravel(), cell_lon.ravel(), bands).T.reshape(len(bands), cells, cells)
            else:
                window = high if spec.kind == "high" else low
                values = reader.read(window, bands, resampling=spec.resampling)
        native[source] = dict(zip(bands, values, strict=True))
        row = scenes.table.iloc[position]
        age = None if spec.static else (time - row["time"]) / pd.Timedelta(days=1)
        used[source] = {
            "scene": row["scene_id"],
            "time": row["time"],
            "age_days": age,
            "missing": float(np.isnan(values).mean()),
        }
    return Tile(
        images=TileImages(
            high=_stack(inputs, "high", native, (0, high.size, high.size)),
            low=_stack(inputs, "low", native, (0, low.size, low.size)),
            coarse=_coarse(inputs, native, cells),
        ),
        window=high,
        geometry=geometry,
        time=time,
        used=pd.DataFrame(used).T.rename_axis("source"),
        native=native,
        synthetic=any(bool(sources[name].synthetic) for name in wanted),
    )


def _wanted(inputs: InputSet, show: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Bands to read by source."""
    wanted: dict[str, dict[str, None]] = {}
    for bands_of in (*(inputs.bands(part) for part in ("high", "low", "coarse")), show):
        for source, bands in bands_of.items():
            wanted.setdefault(source, {}).update(dict.fromkeys(bands))
    return {source: tuple(bands) for source, bands in wanted.items()}


def _stack(
    inputs: InputSet, part: str, native: dict[str, dict[str, np.ndarray]], empty: tuple[int, int, int]
) -> np.ndarray:
    """Channels of a part as the network takes them, ``(channel, y, x)``: normalised, [-1, 1], 0 where missing."""
    names = getattr(inputs, part)
    if not names:
        return np.empty(empty, "float32")
    scaled: dict[str, np.ndarray] = {}
    for name in names:
        source, band = channel_source(part, name)
        if band in INDEX_RANGES:
            bands = {one: normalise(source, one, values) for one, values in native[source].items()}
            scaled[name] = normalised_index(band, bands)[None]
        else:
            scaled[name] = normalise(source, band, native[source][band])[None]
    return network_inputs(scaled)[0].numpy()


def _coarse(inputs: InputSet, native: dict[str, dict[str, np.ndarray]], cells: int) -> np.ndarray:
    layers = [
        normalise(source, band, native[source][band])
        for source, band in (channel_source("coarse", name) for name in inputs.coarse)
    ]
    return np.stack(layers, -1).astype("float32") if layers else np.empty((cells, cells, 0), "float32")
