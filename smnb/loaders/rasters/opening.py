"""`open_scenes`: headers of files to a `SceneIndex`; files of one scene put together, times and clouds told."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smnb.contract import CatalogError, FormatError, ParameterError, foreign, plain
from smnb.loaders import check_paths, open_hdf5, open_netcdf
from smnb.loaders.rasters.images import ImageHeader, check_group, cloud_percentage, is_array, read_header
from smnb.loaders.rasters.options import (
    BandOption,
    CloudOption,
    DnOffset,
    SceneOption,
    TimeOption,
    band_options,
    checked,
    dn_offset,
    found_in_name,
    spelled,
)
from smnb.loaders.rasters.placing import BandSource, Georeference, place_of
from smnb.loaders.rasters.scenes import SceneIndex, SceneRecord

_THREADS = 8  # headers read at a time
#: Attributes that say how the numbers of a variable or an axis are meant.
_MEANINGS = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "units", "standard_name")
#: Bands of a NetCDF file or Zarr group with their units, times of its steps, and its attributes.
ArrayHeader = tuple[list[tuple[BandSource, str]], tuple[np.datetime64, ...], dict[str, Any]]


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
    source : str
        Name of the source; bands of those known (`smnb.loaders.rasters.options`) have canonical units.
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

    Raises
    ------
    FormatError
        If a file is unreadable, has no reference system, lacks a band, tells no time, states other units than declared,
        or disagrees with another of its scene.
    CatalogError
        If there is no file or no scene, or two scenes have one name.

    Examples
    --------
    >>> index = open_scenes(paths, catalog_id="sentinel1", source="sentinel1", bands=["VV", "VH", "angle"],
    ...                     time={"pattern": r"_(?P<time>\d{8}T\d{6})_"})  # doctest: +SKIP
    """
    who = "open_scenes"
    chosen = band_options(who, source, bands, units)
    describer = _FileDescriber(
        who,
        chosen,
        units,
        dn_offset(who, boa_add_offset, chosen, "baseline"),
        time=checked(who, "time", TimeOption, time),
        cloud=None if cloud is None else checked(who, "cloud", CloudOption, cloud),
        scene=None if scene is None else checked(who, "scene", SceneOption, scene),
    )
    images, arrays = [], []
    for path in [Path(paths)] if isinstance(paths, str | Path) else map(Path, paths):
        # a catalog's glob finds the metadata file of a Zarr group
        folder = path.parent if path.name in ("zarr.json", ".zgroup", ".zmetadata") else path
        if folder.is_dir() and any((folder / name).is_file() for name in ("zarr.json", ".zgroup")):
            arrays.append(folder)
        else:
            (arrays if is_array(path) else images).append(path)
    if images or not arrays:
        images = check_paths(who, images)
    if len(set(arrays)) < len(arrays):
        raise CatalogError(who, "a file is given twice", got=str(next(p for p in arrays if arrays.count(p) > 1)))
    records = [*describer.images(images), *describer.arrays(arrays)]
    told = {"source": source, "units": describer.units(), "catalog_id": catalog_id, "synthetic": synthetic}
    return SceneIndex.of(who, records, **told)


class Describer:
    """Makes bands of what files or STAC items state and the catalog declares; equal grids are kept once."""

    def __init__(
        self, who: str, bands: tuple[BandOption, ...], units: Mapping[str, str] | None, added: DnOffset
    ) -> None:
        self.who, self.bands, self.added = who, bands, added
        self._declared, self._stated = dict(units or {}), {}
        self._geometries: dict[Georeference, Georeference] = {}

    def units(self) -> dict[str, str]:
        """Units of the bands: canonical, or declared, or those that are stated."""
        return {band.name: band.meaning.units or self._stated.get(band.name, "") for band in self.bands}

    def band(self, where: str, source: BandSource, unit: str, added: float) -> BandSource:
        """A band with what is declared of it, unless the unit, scale and offset that are stated contradict that."""
        option = source.option
        declared, name = self._declared.get(option.name), option.name
        if declared is not None and unit and spelled(unit) != spelled(declared):
            what, next_step = f"band {name!r} has other units than declared", "Correct 'units' in the catalog's options"
            raise FormatError(where, what, got=unit, expected=declared, next_step=next_step)
        is_dn = option.meaning.units == "1e-4" and option.conversion is None
        if option.scale is None and is_dn and source.scale is not None and source.scale < 0.1:
            what = f"the scale that is stated for {name!r} makes reflectance of it, not digital numbers"
            next_step = f"Declare units: {{{name}: '1'}}, which are converted, or scale: 1"
            raise FormatError(where, what, got=source.scale, expected=1.0, next_step=next_step)
        if option.offset is None and source.offset and added:
            what = f"an offset is stated for {name!r} and 'boa_add_offset' is set, so that it would count twice"
            next_step = "Leave out boa_add_offset, and the stated offset is taken"
            raise FormatError(where, what, got=source.offset, next_step=next_step)
        self._stated.setdefault(name, unit)
        own = {key: value for key in ("scale", "offset") if (value := getattr(option, key)) is not None}
        own |= {} if option.nodata is None else {"nodata": (option.nodata,)}
        geometry = source.geometry and self._geometries.setdefault(source.geometry, source.geometry)
        return replace(source, geometry=geometry, added=added, **own)


class _FileDescriber(Describer):
    """Makes scenes of files."""

    def __init__(self, *own: Any, time: TimeOption, cloud: CloudOption | None, scene: SceneOption | None) -> None:
        super().__init__(*own)
        self._time, self._cloud, self._scene = time, cloud, scene
        self._by_signature: dict[str, ArrayHeader] = {}

    def images(self, paths: Sequence[Path]) -> list[SceneRecord]:
        """Scenes of files that GDAL reads."""
        if paths and self._time.dimension is not None:
            got, known = f"time: {{dimension: {self._time.dimension}}}", ["pattern", "tag", "static"]
            raise ParameterError(self.who, f"{paths[0].name} has no dimensions", got=got, expected=known)
        pool = ThreadPoolExecutor(_THREADS)
        try:
            return list(pool.map(self._guarded_scene, self._groups(paths)))
        finally:
            pool.shutdown(cancel_futures=True)

    def _groups(self, paths: Sequence[Path]) -> list[tuple[str, dict[str, Path]]]:
        """Names of scenes and their files by band; one file of all bands is under ""."""
        if self._scene is None:
            return [(name, {"": path}) for name, path in zip(_names(paths), paths, strict=True)]
        wanted = {str(band.where) for band in self.bands} | ({str(self._cloud.band)} if self._cloud else set())
        groups: dict[tuple[Path, str], dict[str, Path]] = {}
        for path in paths:
            where, pattern = f"{self.who}({path.name})", self._scene.pattern
            match = found_in_name(pattern, path.as_posix())
            if match is None:
                next_step = "Correct the option scene: {pattern: …}, or leave the file out"
                what, expected = "the name tells no scene and band", pattern.pattern
                raise FormatError(where, what, expected=expected, next_step=next_step)
            files = groups.setdefault((path.parent, match["scene"]), {})
            if match["band"] in files:
                raise FormatError(where, f"the scene has band {match['band']} twice", got=files[match["band"]].name)
            if match["band"] in wanted:
                files[match["band"]] = path
        names = _names([folder / name for folder, name in groups], whole=True)
        return list(zip(names, groups.values(), strict=True))

    def _guarded_scene(self, group: tuple[str, dict[str, Path]]) -> SceneRecord:
        with foreign(f"{self.who}({group[0]})"):
            return self._image_scene(group)

    def _image_scene(self, group: tuple[str, dict[str, Path]]) -> SceneRecord:
        name, files = group
        is_split, sources = self._scene is not None, []
        headers: dict[Path, ImageHeader] = {}

        def header_of(band: Any, what: str) -> tuple[str, Path, ImageHeader]:
            path = files.get(str(band) if is_split else "")
            if path is None:
                next_step = "Download the file that is missing, or leave the scene out"
                where, what = f"{self.who}({name})", f"the scene has no file of {what} {band!r}"
                raise FormatError(where, what, got=sorted(files), next_step=next_step)
            where = f"{self.who}({path.name})"
            headers[path] = headers.get(path) or read_header(where, str(path))
            return where, path, headers[path]

        for band in self.bands:
            where, path, header = header_of(band.where, "band")
            key = header.number_of(where, band.index if is_split else band.where)
            stated = header.scales[key - 1], header.offsets[key - 1], header.nodata[key - 1]
            source = BandSource(str(path), "image", key, header.geometry, band, (), *stated)
            sources.append(self.band(where, source, header.units[key - 1], self.added.offset))
        self._check_agreement(sources)
        where, first = f"{self.who}({next(iter(files.values())).name})", next(iter(headers))
        times = {self._time.of(f"{self.who}({one.name})", one.as_posix(), headers[one].tags) for one in headers}
        if len(times) > 1 and self._time.static is None:
            raise FormatError(where, "files of the scene have different times", got=sorted(map(str, times)))
        cloud = float("nan")
        if self._cloud is not None and (wanted := self._cloud.band) is None:
            cloud = _percentage(where, str(self._cloud.tag), headers[first].tags)
        elif self._cloud is not None:
            where, path, header = header_of(wanted, "its quality band")
            number = 1 if is_split else header.number_of(where, wanted)
            reference = next((source.key for source in sources if source.path == str(path)), None)
            cloud = cloud_percentage(where, str(path), number, reference)
        return self._record(where, name, times.pop(), sources, cloud, str(next(iter(files.values()))))

    def _check_agreement(self, sources: Sequence[BandSource]) -> None:
        """Files of one scene lie over the same ground, to a pixel of the coarser, in one reference system."""
        a = sources[0].geometry
        for other in sources[1:]:
            if a == (b := other.geometry):
                continue
            pixel = np.maximum(*(np.abs([g.transform[0], g.transform[4]]) for g in (a, b)))
            far = (np.abs(np.subtract(a.corners, b.corners)) > np.tile(pixel, 2)).any()
            if apart := "reference system" if "reference system" in a.differences(b) else "extent" if far else None:
                where = f"{self.who}({Path(other.path).name})"
                what = f"has another {apart} than {Path(sources[0].path).name} of the same scene"
                got, expected = plain(f"{b.corners}"), plain(f"{a.corners}")
                next_step = "Export all bands of a scene over the same ground"
                raise FormatError(where, what, got=got, expected=expected, next_step=next_step)

    def arrays(self, paths: Sequence[Path]) -> list[SceneRecord]:
        """Scenes of NetCDF files and Zarr stacks."""
        if paths and (self._scene is not None or (self._cloud is not None and self._cloud.band is not None)):
            what = "'scene', and 'cloud' by a band, are for images, which NetCDF and Zarr are not"
            raise ParameterError(self.who, what, got=paths[0].name)
        records = []
        for name, path in zip(_names(paths), paths, strict=True):
            with foreign(f"{self.who}({path.name})"):
                records += self._array_scenes(name, path)
        return records

    def _array_scenes(self, name: str, path: Path) -> Iterator[SceneRecord]:
        where, header = f"{self.who}({path.name})", None
        # interpreted anew only where it differs from those of other files
        is_repeatable = path.is_file() and (self._time.pattern or self._time.static) and self._cloud is None
        key = _signature(path, self.bands) if is_repeatable else None
        if (header := self._by_signature.get(key)) is None:
            header = read_array_header(where, path, self.bands, self._time.dimension)
            if key:
                self._by_signature[key] = header
        places, times, attributes = header
        sources = [self.band(where, replace(one, path=str(path)), unit, self.added.offset) for one, unit in places]
        cloud = float("nan") if self._cloud is None else _percentage(where, str(self._cloud.tag), attributes)
        if self._time.dimension is None:
            time = self._time.of(where, path.as_posix(), attributes)
            yield self._record(where, name, time, sources, cloud, str(path))
            return
        for step, time in enumerate(times):
            if np.isnat(time):
                raise FormatError(where, f"step {step} has no time")
            at_step = [replace(one, at=tuple(step if axis == "time" else axis for axis in one.at)) for one in sources]
            yield self._record(where, f"{name}@{str(time)[:19]}", time, at_step, cloud, str(path))

    def _record(
        self, where: str, name: str, time: np.datetime64, sources: Sequence[BandSource], cloud: float, path: str
    ) -> SceneRecord:
        bounds, added = sources[0].geometry.bounds(), self.added.of(where, path, time)
        if bounds is None:
            what, next_step = "the raster lies outside its reference system", "Correct its georeferencing"
            raise FormatError(where, what, got=sources[0].geometry.transform, next_step=next_step)
        return SceneRecord(name, time, bounds, cloud, tuple(replace(source, added=added) for source in sources))


def _signature(path: Path, bands: Sequence[BandOption]) -> str | None:
    """What two NetCDF-4 files must share to be read alike: shapes, what numbers mean, the values of their axes, the grid.

    Headers of thousands of granules differ in nothing else, and comparing them costs far less than interpreting. None
    where it cannot be told: classic NetCDF, variables in groups, axes or a grid that no variable names.
    """
    told: list[Any] = []

    def tell(item: Any, names: Sequence[str], *, is_axis: bool = False) -> None:
        # a time axis of one step differs from file to file, and is not read where the name tells time
        is_read = is_axis and item.shape != (1,)
        meant = [(name, np.asarray(item.attrs[name]).tobytes()) for name in names if name in item.attrs]
        told.append((item.name, item.dtype.str, item.shape, meant if is_read or not is_axis else ()))
        told.append(item[()].tobytes() if is_read else b"")

    try:
        with open_hdf5("open_scenes", path) as file:
            for variable in (file[str(band.where)] for band in bands):
                axes = [dimension[0] for dimension in variable.dims if len(dimension)]
                mapping = variable.attrs.get("grid_mapping", "spatial_ref")
                mapping = mapping.decode() if isinstance(mapping, bytes) else str(mapping)
                is_told = mapping in file or any("lat" in axis.name.lower() for axis in axes)
                if "/" in variable.name[1:] or len(axes) < variable.ndim or not is_told:
                    return None
                tell(variable, _MEANINGS)
                if mapping in file:
                    tell(file[mapping], tuple(file[mapping].attrs))
                for axis in axes:
                    tell(axis, _MEANINGS, is_axis=True)
    except Exception:  # whatever it is, the header's reader names it
        return None
    return hashlib.sha256(repr(told).encode()).hexdigest()


def read_array_header(where: str, path: Path, bands: Sequence[BandOption], dimension: str | None) -> ArrayHeader:
    """Describe the bands of a NetCDF file or a Zarr group; each step of `dimension`, if it is given, is a scene.

    A `FormatError` where it is unreadable, lacks a variable or a reference system, is on no regular grid, or has dimensions
    that nothing chooses from.
    """
    with foreign(where):
        if not path.is_file():
            check_group(where, path)
    with foreign(where), open_netcdf(where.partition("(")[0], path, chunks=None, decode_coords="all") as dataset:
        places, times = [place_of(where, path, dataset, band, dimension) for band in bands], ()
        if dimension is not None:
            if dimension not in dataset.coords or dataset[dimension].dtype.kind != "M":
                got, what = sorted(map(str, dataset.coords)), f"{dimension!r} is no coordinate of times"
                raise FormatError(where, what, got=got, next_step="Correct the option time: {dimension: …}")
            times = tuple(dataset[dimension].values.astype("datetime64[ns]"))
        return places, times, dict(dataset.attrs)


def _names(paths: Sequence[Path], *, whole: bool = False) -> list[str]:
    """Names of scenes: of the files, with their folders' where one name comes twice."""
    names = [path.name if whole else path.name.removesuffix(path.suffix) for path in paths]
    counts = Counter(names)
    both = zip(names, paths, strict=True)
    return [f"{path.parent.name}/{name}" if counts[name] > 1 else name for name, path in both]


def _percentage(where: str, name: str, tags: Mapping[str, Any]) -> float:
    try:
        value = float(tags.get(name, "nan"))
    except (TypeError, ValueError):
        value = float("nan")
    if not 0.0 <= value <= 100.0:
        what, next_step = f"no tag {name!r} of the file is a percentage of clouds", "Correct the option cloud: {tag: …}"
        expected = plain(f"0 to 100 in one of {sorted(tags)}")
        raise FormatError(where, what, got=tags.get(name), expected=expected, next_step=next_step)
    return value
