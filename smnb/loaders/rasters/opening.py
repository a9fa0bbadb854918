"""`open_scenes`: headers of files to a `SceneIndex`; files of one scene put together, times and clouds told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smnb.contract import CatalogError, FormatError, ParameterError, plain
from smnb.loaders import check_paths
from smnb.loaders.rasters.arrays import ArrayHeader, is_array, read_array_header, signature, zarr_folder
from smnb.loaders.rasters.images import ImageHeader, cloud_percentage, read_header
from smnb.loaders.rasters.index import SceneIndex, SceneRecord
from smnb.loaders.rasters.options import (
    BandOption,
    DnOffset,
    TimeOption,
    band_options,
    cloud_option,
    dn_offset,
    found_in_name,
    scene_option,
    time_option,
)
from smnb.loaders.rasters.placing import Georeference
from smnb.loaders.rasters.products import check_file_units, check_meaning
from smnb.loaders.rasters.reader import BandSource

#: Headers read at a time.
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
    describer = _Describer(
        who,
        chosen,
        dict(units or {}),
        time_option(who, time),
        cloud_option(who, cloud),
        scene_option(who, scene),
        dn_offset(who, boa_add_offset, chosen, "baseline"),
    )
    images, arrays = _sorted_by_form(who, paths)
    records = [*describer.images(images), *describer.arrays(arrays)]
    return SceneIndex.of(
        who, records, source=source, units=describer.units(), catalog_id=catalog_id, synthetic=synthetic
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


class _Describer:
    """Makes scenes of files."""

    def __init__(
        self,
        who: str,
        bands: tuple[BandOption, ...],
        native_units: dict[str, str],
        time: TimeOption,
        cloud: tuple[str, str | int] | None,
        scene: re.Pattern[str] | None,
        added: DnOffset,
    ) -> None:
        self._who, self._bands, self._native_units = who, bands, native_units
        self._time, self._cloud, self._scene, self._added = time, cloud, scene, added
        self._by_signature: dict[str, ArrayHeader] = {}
        self._geometries: dict[Georeference, Georeference] = {}
        self._stated: dict[str, str] = {}

    def units(self) -> dict[str, str]:
        """Units of the bands: canonical, or declared, or those that the files state."""
        return {band.name: band.meaning.units or self._stated.get(band.name, "") for band in self._bands}

    def _check(self, where: str, band: BandOption, stated: str, scale: float | None, offset: float | None) -> None:
        check_file_units(where, band.name, self._native_units.get(band.name), stated)
        self._stated.setdefault(band.name, stated)
        check_meaning(where, band, scale, offset, self._added.offset)

    def images(self, paths: Sequence[Path]) -> list[SceneRecord]:
        """Scenes of files that GDAL reads."""
        if paths and self._time.kind == "dimension":
            raise ParameterError(
                self._who,
                f"{paths[0].name} has no dimensions",
                got=f"time: {{dimension: {self._time.name}}}",
                expected=["pattern", "tag", "static"],
            )
        pool = ThreadPoolExecutor(_THREADS)
        try:
            return list(pool.map(self._image_scene, self._groups(paths)))
        finally:
            pool.shutdown(cancel_futures=True)

    def _groups(self, paths: Sequence[Path]) -> list[tuple[str, dict[str, Path]]]:
        """Names of scenes and their files by band; one file of all bands is under ""."""
        if self._scene is None:
            return [(name, {"": path}) for name, path in zip(_names(paths), paths, strict=True)]
        wanted = {str(band.where) for band in self._bands} | ({str(self._cloud[1])} if self._cloud else set())
        groups: dict[tuple[Path, str], dict[str, Path]] = {}
        for path in paths:
            where = f"{self._who}({path.name})"
            match = found_in_name(self._scene, path.as_posix())
            if match is None:
                raise FormatError(
                    where,
                    "the name tells no scene and band",
                    expected=self._scene.pattern,
                    next_step="Correct the option scene: {pattern: …}, or leave the file out",
                )
            files = groups.setdefault((path.parent, match["scene"]), {})
            if match["band"] not in wanted:
                continue
            if match["band"] in files:
                raise FormatError(where, f"the scene has band {match['band']} twice", got=files[match["band"]].name)
            files[match["band"]] = path
        names = _names([folder / name for folder, name in groups], whole=True)
        return list(zip(names, groups.values(), strict=True))

    def _image_scene(self, group: tuple[str, dict[str, Path]]) -> SceneRecord:
        name, files = group
        is_split = self._scene is not None
        headers: dict[Path, ImageHeader] = {}
        sources = []
        for band in self._bands:
            path = files.get(str(band.where) if is_split else "")
            if path is None:
                raise FormatError(
                    f"{self._who}({name})",
                    f"the scene has no file of band {band.where!r}",
                    got=sorted(files),
                    next_step="Download the file that is missing, or leave the scene out",
                )
            where = f"{self._who}({path.name})"
            header = headers[path] = headers.get(path) or read_header(where, str(path))
            key = header.number_of(where, band.index if is_split else band.where)
            self._check(where, band, header.units[key - 1], header.scales[key - 1], header.offsets[key - 1])
            nodata = None if band.nodata is None else (band.nodata,)
            sources.append(
                BandSource(
                    str(path), "image", key, header.geometry, band, scale=band.scale, offset=band.offset, nodata=nodata
                )
            )
        self._check_agreement(sources)
        first = next(iter(files.values()))
        where = f"{self._who}({first.name})"
        time = self._time_of(where, files.values(), [header.tags for header in headers.values()])
        return self._record(where, name, time, sources, self._cloud_of(where, files, headers, sources), str(first))

    def _check_agreement(self, sources: Sequence[BandSource]) -> None:
        """Files of one scene lie over the same ground, to a pixel of the coarser, in one reference system."""
        first = sources[0]
        for other in sources[1:]:
            a, b = first.geometry, other.geometry
            if a == b:
                continue
            pixel = np.maximum(*(np.abs([g.transform[0], g.transform[4]]) for g in (a, b)))
            far = (np.abs(np.subtract(_edges(a), _edges(b))) > np.tile(pixel, 2)).any()
            apart = "reference system" if "reference system" in a.differences(b) else "extent" if far else None
            if apart:
                raise FormatError(
                    f"{self._who}({Path(other.path).name})",
                    f"has another {apart} than {Path(first.path).name} of the same scene",
                    got=plain(f"{_edges(b)}"),
                    expected=plain(f"{_edges(a)}"),
                    next_step="Export all bands of a scene over the same ground",
                )

    def _time_of(self, where: str, paths: Iterable[Path], tags: Sequence[dict[str, Any]]) -> np.datetime64:
        option = self._time
        if option.kind == "static":
            return np.datetime64("NaT", "ns")
        if option.kind == "pattern":
            times = {option.of_name(where, path.as_posix()) for path in paths}
        else:
            for one in tags:
                if option.name not in one:
                    raise FormatError(
                        where,
                        f"the file has no tag {option.name!r} to tell its time",
                        got=sorted(one),
                        next_step="Correct the option time: {tag: …}, or use a pattern of names",
                    )
            times = {option.parse(where, str(one[option.name])) for one in tags}
        if len(times) > 1:
            raise FormatError(where, "files of the scene have different times", got=sorted(map(str, times)))
        return times.pop()

    def _cloud_of(
        self, where: str, files: dict[str, Path], headers: dict[Path, ImageHeader], sources: Sequence[BandSource]
    ) -> float:
        if self._cloud is None:
            return float("nan")
        kind, name = self._cloud
        if kind == "tag":
            return _percentage(where, str(name), next(iter(headers.values())).tags)
        path = files.get("" if self._scene is None else str(name))
        if path is None:
            raise FormatError(where, f"the scene has no file of its quality band {name!r}", got=sorted(files))
        header = headers.get(path) or read_header(where, str(path))
        number = header.number_of(where, name) if self._scene is None else 1
        reference = next((source.key for source in sources if source.path == str(path)), None)
        return cloud_percentage(where, str(path), number, reference)

    def arrays(self, paths: Sequence[Path]) -> list[SceneRecord]:
        """Scenes of NetCDF files and Zarr stacks."""
        if paths and self._scene is not None:
            raise ParameterError(
                self._who, "'scene' is for one file a band, which NetCDF and Zarr are not", got=paths[0].name
            )
        if paths and self._cloud is not None and self._cloud[0] == "band":
            raise ParameterError(
                self._who, "clouds are told by a band of images only", got=paths[0].name, expected="cloud: {tag: …}"
            )
        return [
            record for name, path in zip(_names(paths), paths, strict=True) for record in self._array_scenes(name, path)
        ]

    def _header(self, path: Path) -> ArrayHeader:
        """The header of a file, interpreted anew only where it differs from those of other files."""
        dimension = self._time.name if self._time.kind == "dimension" else None
        is_repeatable = path.is_file() and self._time.kind in ("pattern", "static") and self._cloud is None
        key = signature(path, self._bands) if is_repeatable else None
        if key is None:
            return read_array_header(self._who, path, self._bands, dimension)
        if key not in self._by_signature:
            self._by_signature[key] = read_array_header(self._who, path, self._bands, dimension)
        return self._by_signature[key]

    def _array_scenes(self, name: str, path: Path) -> Iterator[SceneRecord]:
        where, header = f"{self._who}({path.name})", self._header(path)
        sources = []
        for band, place in zip(self._bands, header.places, strict=True):
            self._check(where, band, place.units, place.scale, place.offset)
            sources.append(
                BandSource(
                    str(path),
                    "netcdf" if path.is_file() else "zarr",
                    str(band.where),
                    place.geometry,
                    band,
                    place.at,
                    place.scale if band.scale is None else band.scale,
                    place.offset if band.offset is None else band.offset,
                    place.nodata if band.nodata is None else (band.nodata,),
                )
            )
        cloud = float("nan") if self._cloud is None else _percentage(where, str(self._cloud[1]), header.attributes)
        if self._time.kind != "dimension":
            time = self._time_of(where, [path], [header.attributes])
            yield self._record(where, name, time, sources, cloud, str(path))
            return
        for step, time in enumerate(header.times):
            if np.isnat(time):
                raise FormatError(where, f"step {step} has no time")
            at_step = [
                replace(source, at=tuple(step if axis == "time" else axis for axis in source.at)) for source in sources
            ]
            yield self._record(where, f"{name}@{str(time)[:19]}", time, at_step, cloud, str(path))

    def _record(
        self, where: str, name: str, time: np.datetime64, sources: Sequence[BandSource], cloud: float, path: str
    ) -> SceneRecord:
        added = self._added.of(where, path, time)
        bounds = sources[0].geometry.bounds()
        if bounds is None:
            raise FormatError(
                where,
                "the raster lies outside its reference system",
                got=sources[0].geometry.transform,
                next_step="Correct its georeferencing",
            )
        kept = tuple(
            replace(source, geometry=self._geometries.setdefault(source.geometry, source.geometry), added=added)
            for source in sources
        )
        return SceneRecord(name, time, bounds, cloud, kept)


def _names(paths: Sequence[Path], *, whole: bool = False) -> list[str]:
    """Names of scenes: of the files, with their folders' where one name comes twice."""
    names = [path.name if whole else path.name.removesuffix(path.suffix) for path in paths]
    seen = {name: names.count(name) for name in set(names)} if len(set(names)) < len(names) else {}
    return [
        f"{path.parent.name}/{name}" if seen.get(name, 1) > 1 else name for name, path in zip(names, paths, strict=True)
    ]


def _edges(geometry: Georeference) -> tuple[float, float, float, float]:
    a, _, c, _, e, f = geometry.transform
    return c, f, c + a * geometry.width, f + e * geometry.height


def _percentage(where: str, name: str, tags: dict[str, Any]) -> float:
    if name not in tags:
        raise FormatError(
            where,
            f"the file has no tag {name!r} to tell its clouds",
            got=sorted(tags),
            next_step="Correct the option cloud: {tag: …}",
        )
    try:
        value = float(tags[name])
    except (TypeError, ValueError):
        value = float("nan")
    if not 0.0 <= value <= 100.0:
        raise FormatError(where, f"tag {name!r} is no percentage", got=tags[name], expected=plain("0 to 100"))
    return value
