"""From files to scenes: headers read by threads, files of one scene put together, times and clouds told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from smnb.contract import FormatError, ParameterError, plain
from smnb.loaders.rasters.acquisition import CloudOption, DnOffset, TimeOption, found_in_name
from smnb.loaders.rasters.arrays import ArrayHeader, read_array_header, signature
from smnb.loaders.rasters.bands import BandSource, check_meaning
from smnb.loaders.rasters.georeference import georeference
from smnb.loaders.rasters.images import ImageHeader, band_source, cloud_percentage, read_header
from smnb.loaders.rasters.index import SceneRecord
from smnb.loaders.rasters.options import BandOption, check_file_units
from smnb.loaders.sentinel.rasters import Geometry

__all__: list[str] = []

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Options:
    """The options of `open_scenes`, checked."""

    who: str
    bands: tuple[BandOption, ...]
    native_units: dict[str, str]
    time: TimeOption
    cloud: CloudOption | None
    scene: Any
    added: DnOffset | None
    threads: int


class Describer:
    """Makes scenes of files."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._by_signature: dict[str, ArrayHeader] = {}
        self._geometries: dict[Geometry, Geometry] = {}
        self._stated: dict[str, str] = {}

    def units(self) -> dict[str, str]:
        """Units of the bands: canonical, or declared, or those that the files state."""
        return {band.name: band.units or self._stated.get(band.name, "") for band in self._options.bands}

    def _added(self) -> float:
        """What is added to digital numbers of later scenes."""
        return 0.0 if self._options.added is None else self._options.added.offset

    # -- images ------------------------------------------------------------------------------------------------------

    def images(self, paths: Sequence[Path]) -> list[SceneRecord]:
        """Scenes of files that GDAL reads."""
        options = self._options
        if paths and options.time.kind == "dimension":
            raise ParameterError(
                options.who,
                f"{paths[0].name} has no dimensions",
                got=f"time: {{dimension: {options.time.name}}}",
                expected=["pattern", "tag", "static"],
            )
        return list(self._mapped(self._image_scene, self._groups(paths)))

    def _mapped(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        items = list(items)
        if self._options.threads == 1 or len(items) < 2:
            return map(function, items)
        pool = ThreadPoolExecutor(self._options.threads)
        try:
            return iter(list(pool.map(function, items)))
        finally:
            pool.shutdown(cancel_futures=True)

    def _groups(self, paths: Sequence[Path]) -> list[tuple[str, dict[str, Path]]]:
        """Names of scenes and their files by band; one file of all bands is under ""."""
        pattern = self._options.scene
        if pattern is None:
            return [(name, {"": path}) for name, path in zip(_names(paths), paths, strict=True)]
        wanted = {str(band.where) for band in self._options.bands}
        if self._options.cloud is not None:
            wanted.add(str(self._options.cloud.name))
        groups: dict[tuple[Path, str], dict[str, Path]] = {}
        for path in paths:
            where = f"{self._options.who}({path.name})"
            match = found_in_name(pattern, path.as_posix())
            if match is None:
                raise FormatError(
                    where,
                    "the name tells no scene and band",
                    expected=pattern.pattern,
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
        options = self._options
        headers: dict[Path, ImageHeader] = {}
        sources, first = [], next(iter(files.values()), None)
        for band in options.bands:
            path = files.get("" if options.scene is None else str(band.where))
            if path is None:
                raise FormatError(
                    f"{options.who}({name})",
                    f"the scene has no file of band {band.where!r}",
                    got=sorted(files),
                    next_step="Download the file that is missing, or leave the scene out",
                )
            where = f"{options.who}({path.name})"
            if path not in headers:
                headers[path] = read_header(where, str(path))
            source = band_source(
                where, str(path), headers[path], band, band.where if options.scene is None else band.index
            )
            self._check_meaning(where, headers[path], band, source)
            sources.append(source)
        where = f"{options.who}({first.name})"
        self._check_agreement(sources)
        time = self._time(where, files.values(), [header.tags for header in headers.values()])
        return self._record(where, name, time, sources, self._cloud(where, files, headers, sources), str(first))

    def _check_meaning(self, where: str, header: ImageHeader, band: BandOption, source: BandSource) -> None:
        stated = header.units[source.key - 1]
        check_file_units(where, band, self._options.native_units.get(band.name), stated)
        self._stated.setdefault(band.name, stated)
        i = source.key - 1
        check_meaning(where, band, header.scales[i], header.offsets[i], self._added())

    def _check_agreement(self, sources: Sequence[BandSource]) -> None:
        """Files of one scene lie over the same ground, to a pixel of the coarser, in one reference system."""
        first = sources[0]
        for other in sources[1:]:
            if other.path == first.path or other.geometry == first.geometry:
                continue
            (a, b), apart = (first.geometry, other.geometry), None
            if "reference system" in a.differences(b):
                apart = "reference system"
            else:
                pixel = max(abs(g.transform[0]) for g in (a, b)), max(abs(g.transform[4]) for g in (a, b))
                edges = np.abs(np.subtract(_edges(a), _edges(b)))
                if (edges > np.tile(pixel, 2)).any():
                    apart = "extent"
            if apart:
                raise FormatError(
                    f"{self._options.who}({Path(other.path).name})",
                    f"has another {apart} than {Path(first.path).name} of the same scene",
                    got=plain(f"{_edges(b)}"),
                    expected=plain(f"{_edges(a)}"),
                    next_step="Export all bands of a scene over the same ground",
                )

    def _time(self, where: str, paths: Iterable[Path], tags: Sequence[dict[str, Any]]) -> np.datetime64:
        option = self._options.time
        if option.kind == "static":
            return np.datetime64("NaT", "ns")
        if option.kind == "pattern":
            times = {option.of_name(where, path.as_posix()) for path in paths}
        else:
            absent = [one for one in tags if option.name not in one]
            if absent:
                raise FormatError(
                    where,
                    f"the file has no tag {option.name!r} to tell its time",
                    got=sorted(absent[0]),
                    next_step="Correct the option time: {tag: …}, or use a pattern of names",
                )
            times = {option.parse(where, str(one[option.name])) for one in tags}
        if len(times) > 1:
            raise FormatError(
                where,
                "files of the scene have different times",
                got=sorted(map(str, times)),
                expected=plain("one time"),
                next_step="Correct the options 'scene' and 'time'",
            )
        return times.pop()

    def _cloud(
        self, where: str, files: dict[str, Path], headers: dict[Path, ImageHeader], sources: Sequence[BandSource]
    ) -> float:
        option = self._options.cloud
        if option is None:
            return float("nan")
        if option.kind == "tag":
            return _percentage(where, str(option.name), next(iter(headers.values())).tags)
        path = files.get("" if self._options.scene is None else str(option.name))
        if path is None:
            raise FormatError(where, f"the scene has no file of its quality band {option.name!r}", got=sorted(files))
        header = headers.get(path) or read_header(where, str(path))
        number = header.number_of(where, option.name) if self._options.scene is None else 1
        reference = next((source.key for source in sources if source.path == str(path)), None)
        return cloud_percentage(where, str(path), number, reference)

    # -- arrays ------------------------------------------------------------------------------------------------------

    def arrays(self, paths: Sequence[Path]) -> list[SceneRecord]:
        """Scenes of NetCDF files and Zarr stacks."""
        options = self._options
        if paths and options.scene is not None:
            raise ParameterError(
                options.who, "'scene' is for one file a band, which NetCDF and Zarr are not", got=paths[0].name
            )
        if paths and options.cloud is not None and options.cloud.kind == "band":
            raise ParameterError(
                options.who, "clouds are told by a band of images only", got=paths[0].name, expected="cloud: {tag: …}"
            )
        return [
            record for name, path in zip(_names(paths), paths, strict=True) for record in self._array_scenes(name, path)
        ]

    def _header(self, path: Path) -> ArrayHeader:
        """The header of a file, interpreted anew only where it differs from those of other files."""
        options = self._options
        dimension = options.time.name if options.time.kind == "dimension" else None
        is_repeatable = path.is_file() and options.time.kind in ("pattern", "static") and options.cloud is None
        key = signature(path, options.bands) if is_repeatable else None
        if key is None:
            return read_array_header(options.who, path, options.bands, dimension)
        if key not in self._by_signature:
            self._by_signature[key] = read_array_header(options.who, path, options.bands, dimension)
        header = self._by_signature[key]
        return replace(header, sources=tuple(replace(source, path=str(path)) for source in header.sources))

    def _array_scenes(self, name: str, path: Path) -> Iterator[SceneRecord]:
        options, where = self._options, f"{self._options.who}({path.name})"
        header = self._header(path)
        for band, stated in zip(options.bands, header.units, strict=True):
            check_file_units(where, band, options.native_units.get(band.name), stated)
            self._stated.setdefault(band.name, stated)
        for band, source in zip(options.bands, header.sources, strict=True):
            check_meaning(where, band, source.scale, source.offset, self._added())
        cloud = float("nan")
        if options.cloud is not None:
            cloud = _percentage(where, str(options.cloud.name), header.attributes)
        if options.time.kind != "dimension":
            time = self._time(where, [path], [header.attributes])
            yield self._record(where, name, time, header.sources, cloud, str(path))
            return
        for step, time in enumerate(header.times):
            if np.isnat(time):
                raise FormatError(where, f"step {step} has no time")
            sources = [
                replace(source, at=(*source.at[:axis], step, *source.at[axis + 1 :]))
                for source, axis in zip(header.sources, header.time_axes, strict=True)
            ]
            yield self._record(where, f"{name}@{str(time)[:19]}", time, sources, cloud, str(path))

    # -- both --------------------------------------------------------------------------------------------------------

    def _record(
        self, where: str, name: str, time: np.datetime64, sources: Sequence[BandSource], cloud: float, path: str
    ) -> SceneRecord:
        added = self._options.added.of(where, path, time) if self._options.added is not None else 0.0
        geometries = [self._geometries.setdefault(source.geometry, source.geometry) for source in sources]
        bounds = georeference(geometries[0]).bounds()
        if bounds is None:
            raise FormatError(
                where,
                "the raster lies outside its reference system",
                got=geometries[0].transform,
                next_step="Correct its georeferencing",
            )
        kept = tuple(
            replace(source, geometry=geometry, added=added)
            for source, geometry in zip(sources, geometries, strict=True)
        )
        return SceneRecord(name, time, bounds, cloud, kept)


def _names(paths: Sequence[Path], *, whole: bool = False) -> list[str]:
    """Names of scenes: of the files, with their folders' where one name comes twice."""
    names = [path.name if whole else path.name.removesuffix(path.suffix) for path in paths]
    seen = {name: names.count(name) for name in set(names)} if len(set(names)) < len(names) else {}
    return [
        f"{path.parent.name}/{name}" if seen.get(name, 1) > 1 else name for name, path in zip(names, paths, strict=True)
    ]


def _edges(geometry: Geometry) -> tuple[float, float, float, float]:
    a, _, c, _, e, f = geometry.transform
    return c, f, c + a * geometry.width, f + e * geometry.height


def _percentage(where: str, name: str, tags: dict[str, Any]) -> float:
    try:
        value = float(tags[name])
    except KeyError as error:
        raise FormatError(
            where,
            f"the file has no tag {name!r} to tell its clouds",
            got=sorted(tags),
            next_step="Correct the option cloud: {tag: …}",
        ) from error
    except (TypeError, ValueError) as error:
        raise FormatError(where, f"tag {name!r} is no percentage", got=tags[name]) from error
    if not 0.0 <= value <= 100.0:
        raise FormatError(where, f"tag {name!r} is no percentage", got=value, expected=plain("0 to 100"))
    return value
