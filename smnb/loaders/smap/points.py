"""SPL3SMP_E soil moisture as daily lists of points on the 9 km EASE-Grid 2.0, as a public thesis keeps it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import FormatError, check_choice, plain
from smnb.grids import M09, EaseWindow
from smnb.loaders import check_paths, check_present, finish, in_period
from smnb.loaders.smap.fields import FLAG_FILL, POINT_LIST
from smnb.loaders.smap.granules import Granule, Selection, open_h5, resolve_window, whole
from smnb.loaders.smap.reading import Cells, Piece, build_listed

_NAME = re.compile(r".+_(\d{4}-\d{2}-\d{2})\.nc")
_FIELDS = {"baseline": "soil_moisture", "dca": "soil_moisture_dca"}
#: Furthest that a point may be from the centre of its cell: float32 latitudes and longitudes are good to 1e-5 degrees.
_OFF_CENTRE = 1e-3


def _list_files(who: str, paths: Sequence[str | Path], start: str | None, end: str | None) -> list[Granule]:
    days: dict[np.datetime64, Path] = {}
    for path in check_paths(who, paths):
        match = _NAME.fullmatch(path.name)
        if match is None:
            expected = "Western-Australia_2020-01-01.nc"
            raise FormatError(who, "a file's name does not end with a day", got=path.name, expected=expected)
        try:
            day = np.datetime64(match[1], "ns")
        except ValueError as error:
            raise FormatError(who, "a file's name has an impossible day", got=path.name) from error
        if day in days:
            raise FormatError(who, "two files are of one day", got=[days[day].name, path.name])
        days[day] = path
    order = np.array(sorted(days))
    return [Granule(days[day], "SPL3SMP_E", day, "unknown") for day in order[in_period(who, order, start, end, "file")]]


def _two_lists(where: str, lat: NDArray, lon: NDArray, region: EaseWindow | None) -> list[Cells]:
    """A file's points as its two lists, which lie one behind the other, each row by row from the north.

    The second begins where the order breaks. It is empty where there is one overpass only, or where the second happens
    to lie south of the first.
    """
    row, col = M09.rowcol(lat, lon, outside="mask")
    if lat.shape != lon.shape or (row < 0).any():
        raise FormatError(where, "points have no position on the 9 km EASE-Grid 2.0", got=int((row < 0).sum()))
    centre_lat, centre_lon = M09.latlon(row, col)
    off = np.maximum(np.abs(centre_lat - lat), np.abs(centre_lon - lon))
    if off.size and off.max() > _OFF_CENTRE:
        what, got = "points are not centres of the 9 km EASE-Grid 2.0", plain(f"{off.max():.4f} degrees away")
        raise FormatError(where, what, got=got, expected=plain(f"<= {_OFF_CENTRE} degrees"))
    number = np.concatenate([np.zeros(min(row.size, 1), int), np.cumsum(np.diff(row * M09.n_cols + col) <= 0)])
    if number.size and number[-1] > 1:
        what = "the points are more than two lists in order of rows and columns"
        raise FormatError(where, what, got=int(number[-1]) + 1, expected="a morning and an evening list")
    each = ((np.where(number == k, row, FLAG_FILL), np.where(number == k, col, FLAG_FILL)) for k in (0, 1))
    return [Cells.find(where, M09, *one, region) for one in each]


def open_smap_e_points(
    paths: Sequence[str | Path],
    *,
    catalog_id: str = "",
    synthetic: bool = False,
    start: str | None = None,
    end: str | None = None,
    region: Sequence[float] | EaseWindow | None = None,
    option: str = "baseline",
) -> xr.Dataset:
    """Open daily lists of 9 km SMAP points as one lazy Dataset on the global EASE-Grid 2.0.

    The lists hold ``latitude``, ``longitude``, ``soil_moisture`` and ``soil_moisture_dca`` and no flags: what was left out
    when they were made cannot be known. A file holds the day's two overpasses one behind the other, and does not say
    which is which. Finding the cells reads the positions at once.

    Parameters
    ----------
    paths : sequence of path-like
        NetCDF 4 files, one a day, whose names end with it ("Western-Australia_2020-01-01.nc").
    option : {"baseline", "dca"}
        Field ``soil_moisture`` or ``soil_moisture_dca``.
    catalog_id, synthetic, start, end, region
        As `smnb.loaders.smap.open_l3`; default the smallest window that holds all points.

    Returns
    -------
    xarray.Dataset
        ``soil_moisture(time, y, x)``, m3 m-3, float32, dask, NaN where the day has no point, the mean where both
        overpasses saw the cell; ``n_masked`` counts values out of range. A day whose list is empty, or outside the region,
        stays as a time of NaN and is listed in ``granules_without_cells`` (JSON). ``repeated_cells`` is how many cells were
        seen twice in a day.

    Raises
    ------
    FormatError, ParameterError, CatalogError
        As `smnb.loaders.smap.open_l3`; if a name has no day, two files are of one day, or points are not centres or in order.
    """
    who = "open_smap_e_points"
    check_choice(who, "option", option, _FIELDS)
    selection = Selection(who, POINT_LIST, list(POINT_LIST))
    area = resolve_window(who, M09, region)
    granules = _list_files(who, paths, start, end)
    pieces, n_repeated = np.empty((len(granules), 2), dtype=object), 0
    for i, granule in enumerate(granules):
        where = f"{who}({granule.path.name})"
        with open_h5(who, granule.path) as file:
            check_present(where, ("latitude", "longitude"), file)
            lat, lon = (whole(where, file[name]).astype("float64") for name in ("latitude", "longitude"))
            lists = _two_lists(where, lat, lon, area)
            natives = selection.find(where, file, "", lat.shape, {"soil_moisture": _FIELDS[option]})
        pieces[i] = [Piece(granule, "/", natives, cells) for cells in lists]
        n_repeated += np.intersect1d(*(cells.row * M09.n_cols + cells.col for cells in lists)).size
    dataset = build_listed(selection, M09, area, pieces, keep_empty=True)
    attrs = {name: dict(dataset[name].attrs) for name in ("soil_moisture", "n_masked")}
    attrs["soil_moisture"]["cell_methods"] = "overpass: mean"
    mean, total = dataset["soil_moisture"].mean("overpass", skipna=True), dataset["n_masked"].sum("overpass")
    dataset = dataset.drop_dims("overpass").assign(soil_moisture=mean, n_masked=total)
    for name, about in attrs.items():
        dataset[name].attrs = about
    dataset["time"].attrs["long_name"] = "day of observation, UTC"
    for name in ("releases", "flag_policy", "tb_policy", "exclude_surface", "cells_without_index"):
        del dataset.attrs[name]  # the lists have none of this
    dataset.attrs |= {"soil_moisture_option": option, "repeated_cells": n_repeated}
    n_empty = len(json.loads(dataset.attrs["granules_without_cells"]))
    step = (
        f"{len(granules)} days ({n_empty} without a point), {EaseWindow.from_dataset(dataset)}, "
        f"option {option}; {n_repeated} cells seen twice in a day: mean"
    )
    source = "SMAP L3 radiometer, SPL3SMP_E, lists of points"
    return finish(dataset, who, catalog_id, synthetic, source, step, ["soil_moisture"])
