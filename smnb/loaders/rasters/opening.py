"""`open_scenes`: files to a `SceneIndex`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smnb.contract import CatalogError, ParameterError
from smnb.loaders import check_paths
from smnb.loaders.rasters.acquisition import cloud_option, dn_offset, scene_option, time_option
from smnb.loaders.rasters.arrays import is_array, zarr_folder
from smnb.loaders.rasters.grouping import Describer, Options
from smnb.loaders.rasters.index import SceneIndex
from smnb.loaders.rasters.options import band_options

_THREADS = 8


def open_scenes(
    paths: Sequence[str | Path],
    *,
    catalog_id: str,
    synthetic: bool = False,
    source: str,
    bands: Mapping[str, Any] | Sequence[str],
    units: Mapping[str, str] | None = None,
    time: Mapping[str, Any],
    cloud: Mapping[str, Any] | None = None,
    scene: Mapping[str, str] | None = None,
    boa_add_offset: float | Mapping[str, Any] | None = None,
    threads: int = _THREADS,
) -> SceneIndex:
    r"""Index scenes in GeoTIFFs (or what else GDAL reads), NetCDF files or Zarr stacks by their headers.

    Parameters
    ----------
    paths : sequence of path-like
        Files; a Zarr stack is given as its folder or as the ``zarr.json`` in it.
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    source : str
        Name of the source; bands of those known have canonical units.
    bands : mapping or sequence of str
        Name of each band to where it is: ``{VV: {band: VV}}`` by description or number (from 1) of a band, or by the
        group "band" of `scene`; ``{ssm: {variable: ssm}}`` in NetCDF and Zarr, with ``select: {dimension: label}`` where
        there are more dimensions. ``scale``, ``offset`` (value = number · scale + offset) and ``nodata`` go before what
        the file itself states. A plain name or number stands for the place alone.
    units : mapping, optional
        Native units by band. Those of known sources must be canonical, or are converted: linear power to dB, reflectance
        to ten thousandths ("1" to "1e-4"), radian to degree, m of water to mm.
    time : mapping
        ``{pattern: '_(?P<time>\d{8}T\d{6})_', format: …}`` of the file's name (of its path where the pattern has a
        slash); ``{tag: NAME}`` of the file; ``{dimension: time}``, each step of which is a scene; ``{static: true}``. UTC.
    cloud : mapping, optional
        ``{tag: CLOUDY_PIXEL_PERCENTAGE}``, or ``{band: QA60}``, all of which is then read: bits 10 and 11.
    scene : mapping, optional
        ``{pattern: '(?P<scene>.+)_(?P<band>B\d\d?A?)\.tif'}`` where one scene is one file a band. Its files may have
        pixels of several sizes, over the same ground.
    boa_add_offset : float or mapping, optional
        Added to Sentinel-2's digital numbers from processing baseline 04.00 on (-1000): by date, ``{offset: -1000, since:
        2022-01-25}`` (so a plain number), or by name, ``{offset: -1000, baseline: '_N(?P<baseline>\d{4})_'}``, which is
        right for reprocessed scenes too.
    threads : int
        Headers read at a time.

    Returns
    -------
    SceneIndex
        Scenes in order of time.

    Raises
    ------
    FormatError
        If a file is unreadable, has no reference system, lacks a band, tells no time, states other units than declared,
        or disagrees with another of its scene.
    CatalogError
        If there is no file or no scene, or two scenes have one name.
    ParameterError
        For an unknown or senseless option.

    Examples
    --------
    >>> index = open_scenes(
    ...     paths, catalog_id="sentinel1", source="sentinel1", bands=["VV", "VH", "angle"],
    ...     time={"pattern": r"_(?P<time>\d{8}T\d{6})_"},
    ... )  # doctest: +SKIP
    """
    who = "open_scenes"
    chosen = band_options(who, source, bands, units)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ParameterError(who, "'threads' is no number of threads", got=threads, expected=">= 1")
    options = Options(
        who,
        chosen,
        dict(units or {}),
        time_option(who, time),
        cloud_option(who, cloud),
        scene_option(who, scene),
        dn_offset(who, boa_add_offset, chosen),
        threads,
    )
    describer = Describer(options)
    images, arrays = _sorted_by_form(who, paths)
    records = [*describer.images(images), *describer.arrays(arrays)]
    return SceneIndex.of(
        who,
        records,
        source=source,
        bands=[band.name for band in chosen],
        units=describer.units(),
        catalog_id=catalog_id,
        synthetic=synthetic,
    )


def _sorted_by_form(who: str, paths: Sequence[str | Path]) -> tuple[list[Path], list[Path]]:
    """Files that GDAL reads, and NetCDF files and folders of Zarr."""
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    images, arrays = [], []
    for path in map(Path, paths):
        if (folder := zarr_folder(path)) is not None and folder.is_dir():
            arrays.append(folder)
        elif path.is_file() and is_array(path):
            arrays.append(path)
        else:
            images.append(path)
    if not paths or images:
        images = check_paths(who, images)
    if len(set(arrays)) < len(arrays):
        raise CatalogError(who, "a file is given twice", got=str(next(p for p in arrays if arrays.count(p) > 1)))
    return images, arrays
