"""Maps of a place: at which times there is everything, what figures of them show, and the sandbox's truth beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from smnb.catalog import Catalog
from smnb.contract import CatalogError, ContractError, plain
from smnb.loaders import open_netcdf
from smnb.metrics import pair_scores
from smnb.papers.batchu2023.data import COARSE_CHANNELS, InputSet
from smnb.papers.batchu2023.matchup.sources import Scenes
from smnb.papers.batchu2023.pictures import natural_colours
from smnb.papers.batchu2023.shared import MapGeometry, Tile, read_tile

_SCORES = ("n", "bias", "rmse", "ubrmse", "r")


def read_tiles(
    scenes: Mapping[str, Scenes],
    inputs: InputSet,
    *,
    lat: float,
    lon: float,
    cells: int,
    geometry: MapGeometry,
    times: Sequence[str] = (),
    number: int = 3,
    most_missing: float = 0.05,
) -> dict[str, Tile]:
    """Read a square at several times.

    Parameters
    ----------
    scenes, inputs, lat, lon, cells, geometry
        As `shared.read_tile`; bands for natural colours and VV are kept besides the inputs' where there are any.
    times : sequence of str
        UTC. Without any, passes of Sentinel-1 over the square are taken that have an image of every source and cover all of
        it: `number` of them, spread evenly over the record.
    number : int
    most_missing : float
        Share of missing pixels of a source above which a pass is passed over.

    Returns
    -------
    dict of str to Tile
        By day, and hour where a day has several.

    Raises
    ------
    ContractError
        If no pass has everything, or one that was asked for has not.
    """
    show = {"sentinel2": ("B4", "B3", "B2"), "sentinel1": ("VV",)}
    show = {source: bands for source, bands in show.items() if source in scenes}
    square: dict[str, Any] = {"lat": lat, "lon": lon, "cells": cells, "geometry": geometry, "show": show}
    if times:
        return _by_day([read_tile(scenes, inputs, time=one, **square) for one in times])
    radar = scenes["sentinel1"]
    passes = radar.table.iloc[np.asarray(radar.covering(lat, lon))]
    reach = geometry.tile(cells, cells)[0] * 10.0 / 2 / 111_320.0  # degrees of latitude, m a degree
    across = reach / np.cos(np.radians(lat))
    whole = (
        (passes["west"] <= lon - across)
        & (passes["east"] >= lon + across)
        & (passes["south"] <= lat - reach)
        & (passes["north"] >= lat + reach)
    )
    found: list[pd.Timestamp] = []  # times alone: tiles of a whole record would not fit into memory
    why: list[str] = []
    for time in sorted(set(passes.loc[whole, "time"])):
        try:
            tile = read_tile(scenes, inputs, time=time, **square)
        except ContractError as error:  # that pass lacks a source in time
            why.append(error.args[0] if error.args else str(error))
            continue
        if float(tile.used["missing"].max()) <= most_missing:
            found.append(time)
    if not found:
        raise ContractError(
            "read_tiles",
            f"no pass of Sentinel-1 over {cells} x {cells} cells at {lat:.3f}, {lon:.3f} has every source",
            got=plain(
                f"{len(passes)} passes cover the centre, {int(whole.sum())} all of the square"
                + (f"; the last: {why[-1]}" if why else "")
            ),
            next_step="Choose a smaller square, another place, or inputs with fewer sources",
        )
    chosen = np.unique(np.linspace(0, len(found) - 1, min(number, len(found))).round().astype(int))
    return _by_day([read_tile(scenes, inputs, time=found[i], **square) for i in chosen])


def _by_day(tiles: Sequence[Tile]) -> dict[str, Tile]:
    days = [f"{tile.time:%Y-%m-%d}" for tile in tiles]
    return {
        day if days.count(day) == 1 else f"{tile.time:%Y-%m-%d %H:%M}": tile
        for day, tile in zip(days, tiles, strict=True)
    }


def used_images(tiles: Mapping[str, Tile]) -> pd.DataFrame:
    """Which image of each source each map used, how old it was (days), and the share of it that is missing."""
    parts: list[Any] = [tile.used.assign(map=name).reset_index() for name, tile in tiles.items()]
    return pd.concat(parts, ignore_index=True)[["map", "source", "scene", "time", "age_days", "missing"]]


def tile_images(tile: Tile, *maps: np.ndarray) -> list[np.ndarray]:
    """Images of a tile over the ground of its cells: natural colours, VV (dB), and maps.

    Parameters
    ----------
    tile : Tile
        From `read_tiles`.
    *maps : ndarray, shape (row, col)

    Returns
    -------
    list of ndarray
        As `smnb.plots.image_rows` takes them; an image of missing values where the tile has no such source.
    """
    margin = (tile.geometry.crop - tile.geometry.stride) // 2
    rows, cols = (n * tile.geometry.stride for n in tile.cells)
    ground = (slice(margin, margin + rows), slice(margin, margin + cols))
    optical, radar = tile.native.get("sentinel2"), tile.native.get("sentinel1")
    natural = (
        np.full((1, 1, 3), np.nan) if optical is None else natural_colours({b: v[ground] for b, v in optical.items()})
    )
    return [natural, np.full((1, 1), np.nan) if radar is None else radar["VV"][ground], *maps]


def tile_truth(catalog: Catalog, root: Path | None, tiles: Mapping[str, Tile]) -> dict[str, np.ndarray]:
    """The sandbox's truth of each tile, as means over the cells' own squares; nothing where the archive is a real one.

    Returns
    -------
    dict of str to ndarray, shape (row, col)
        m3 m-3, of the tiles whose ground and time a truth file holds.
    """
    try:
        paths = list(catalog.resolve("sandbox_multisource_truth", root))
    except CatalogError:
        return {}
    found: dict[str, np.ndarray] = {}
    for path in paths:
        with open_netcdf("tile_truth", path) as truth:
            for name, tile in tiles.items():
                values = _cell_means(truth, tile)
                if values is not None:
                    found[name] = values
    return {name: found[name] for name in tiles if name in found}


def _cell_means(truth: xr.Dataset, tile: Tile) -> np.ndarray | None:
    """Truth averaged to a tile's cells, or None where the file does not hold all of its ground at that time."""
    from pyproj import CRS

    if CRS.from_cf(truth["crs"].attrs).to_epsg() != tile.window.epsg:
        return None
    late = np.abs(truth["time"].values - np.datetime64(tile.time, "ns"))
    if late.min() > np.timedelta64(1, "h"):
        return None
    field = truth["soil_moisture"].isel(time=int(late.argmin()))
    x, y = tile.axes()
    pixel = float(truth["x"][1] - truth["x"][0])
    side = tile.geometry.stride * tile.window.resolution
    per = round(side / pixel)
    # first pixels of the first cell; the window's edges may lie off the truth's by less than a pixel
    col = round((x[0] - side / 2 - (float(truth["x"][0]) - pixel / 2)) / pixel)
    row = round(((float(truth["y"][0]) + pixel / 2) - (y[0] + side / 2)) / pixel)
    rows, cols = (n * per for n in tile.cells)
    if row < 0 or col < 0 or row + rows > truth.sizes["y"] or col + cols > truth.sizes["x"]:
        return None
    values = field.values[row : row + rows, col : col + cols]
    if not np.isfinite(values).all():
        return None
    return values.reshape(tile.cells[0], per, tile.cells[1], per).mean(axis=(1, 3))


def map_scores(
    maps: Mapping[str, xr.Dataset], truth: Mapping[str, np.ndarray], tiles: Mapping[str, Tile]
) -> pd.DataFrame:
    """Scores of each date's maps, and of the coarse products at the same cells, against the truth.

    Returns
    -------
    DataFrame
        One row a map and date: ``map``, ``date``, ``n``, ``bias``, ``rmse``, ``ubrmse`` (m3 m-3), ``r`` (over the
        cells of one date, so that the time signal counts for nothing).
    """
    rows = []
    names = list(tiles)
    for name, values in truth.items():
        number, tile = names.index(name), tiles[name]
        fields = {method: one["soil_moisture"].values[number] for method, one in maps.items()}
        products = [channel for channel in COARSE_CHANNELS if channel in tile.native]
        fields |= {one.upper(): tile.images.coarse[..., i] for i, one in enumerate(products)}
        for method, field in fields.items():
            valid = np.isfinite(field) & np.isfinite(values)
            rows.append({"map": method, "date": name, **pair_scores(field[valid], values[valid])})
    return pd.DataFrame(rows, columns=["map", "date", *_SCORES])
