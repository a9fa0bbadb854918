"""`open_stac_scenes`: the items of a STAC API, or of a static STAC catalog, to a `SceneIndex`.

pystac-client searches an API and walks a static catalog; odc-stac tells from an item where each asset's pixels are; the
pixels themselves are read by `SceneReader`, as those of files are, window by window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
import requests
from pystac_client import Client, ConformanceClasses
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from smnb.contract import CatalogError, FormatError, ParameterError, plain
from smnb.loaders import parse_period
from smnb.loaders.rasters.images import read_header
from smnb.loaders.rasters.index import SceneIndex, SceneRecord
from smnb.loaders.rasters.options import BandOption, DnOffset, as_utc, band_options, dn_offset
from smnb.loaders.rasters.placing import Georeference, crs_of
from smnb.loaders.rasters.products import check_file_units, check_meaning
from smnb.loaders.rasters.reader import BandSource

_TIMEOUT = 60.0
#: What reading JSON that is no STAC raises.
_MALFORMED = (OSError, KeyError, ValueError, TypeError, AttributeError)
#: Items asked for at a time.
_PAGE = 200


def open_stac_scenes(
    paths: Sequence[str | Path] | str | Path = (),
    *,
    catalog_id: str,
    synthetic: bool = False,
    source: str,
    bands: Mapping[str, Any] | Sequence[str],
    units: Mapping[str, str] | None = None,
    url: str | None = None,
    collection: str | None = None,
    bbox: Sequence[float] | None = None,
    start: str | None = None,
    end: str | None = None,
    cloud: str | None = "eo:cloud_cover",
    max_cloud_cover: float | None = None,
    static: bool = False,
    boa_add_offset: float | Mapping[str, Any] | None = None,
) -> SceneIndex:
    """Index the items of a STAC API or of a static STAC catalog.

    Parameters
    ----------
    paths : sequence of path-like
        One file (or URL): a static catalog's ``catalog.json``, or the landing page of an API, saved. Not read where `url`
        is given.
    catalog_id : str
        The catalog's entry.
    synthetic : bool
        Whether the data were simulated.
    source : str
        Name of the source; bands of those known have canonical units.
    bands : mapping or sequence of str
        Name of each band to its asset, ``{B4: {asset: red}}``, with ``index`` where it is not the asset's first band;
        ``scale``, ``offset`` and ``nodata`` go before what the item states, and that before what the file states.
    units : mapping, optional
        Native units by band, after scale and offset; see `smnb.loaders.rasters.open_scenes`. Reflectance of Sentinel-2
        that the item scales is ``"1"``.
    url : str, optional
        Root of the API or of the catalog.
    collection : str, optional
        Only items of it. Large APIs need one.
    bbox : sequence of float, optional
        Only items that meet it: west, south, east, north, degrees.
    start, end : str, optional
        Only items seen in that time, UTC, inclusive.
    cloud : str, optional
        The property that holds the percentage of clouds, where an item has it.
    max_cloud_cover : float, optional
        Only items with no more, percent. None leaves the choice to the match-up, which counts what it drops.
    static : bool
        Whether the scenes do not change, so that their time is NaT.
    boa_add_offset : float or mapping, optional
        As in `smnb.loaders.rasters.open_scenes`, by date, or by an item's property: ``{offset: -1000, property:
        "s2:processing_baseline"}``. Where an item states an offset, that is taken, unless it says it was applied to the
        pixels (``earthsearch:boa_offset_applied``).

    Returns
    -------
    SceneIndex
        Scenes in order of time. No file was opened: bounds are those of the items, and so is the grid of an asset where
        its item has the proj fields; else the file tells when it is read. Where both tell and differ, reading raises.

    Raises
    ------
    CatalogError
        If the catalog cannot be reached or read, or no item is left.
    FormatError
        If an item has no bounds or no time, lacks an asset, or states other units than declared.
    ParameterError
        For an unknown or senseless option.

    References
    ----------
    STAC specification 1.1.0 and STAC API 1.0.0, https://stacspec.org.

    Examples
    --------
    >>> index = open_stac_scenes(
    ...     url="https://earth-search.aws.element84.com/v1", collection="sentinel-2-l1c", catalog_id="sentinel2",
    ...     source="sentinel2", bands={"B4": {"asset": "red"}}, bbox=(-98, 30, -97, 31), start="2020-06-01", end="2020-06-30",
    ... )  # doctest: +SKIP
    """
    who = "open_stac_scenes"
    chosen = band_options(who, source, bands, units, ("asset",))
    added = dn_offset(who, boa_add_offset, chosen, "property")
    _check(who, cloud, max_cloud_cover, static)
    search = _Search(collection, _box(who, bbox), parse_period(who, start, end), cloud, max_cloud_cover)

    root = _root(who, paths, url)
    try:
        items = [item for item in _items(root, search) if search.wants(item)]
    except (APIError, pystac.STACError, pystac.STACTypeError, requests.RequestException, *_MALFORMED) as error:
        raise CatalogError(
            who,
            f"{root} cannot be read as STAC ({type(error).__name__}: {error})",
            next_step="Check the address and the network; it is the root of an API, or a catalog.json",
        ) from error
    if not items:
        raise CatalogError(
            who,
            "no item is in the catalog that was asked for",
            got=plain(f"collection {collection}, bbox {bbox}, {start} to {end}, clouds up to {max_cloud_cover}"),
            next_step="Widen the search, or check the collection's name",
        )
    describer = _Describer(who, chosen, dict(units or {}), cloud, added, static)
    records = [describer.scene(item) for item in items]
    return SceneIndex.of(
        who, records, source=source, units=describer.units(), catalog_id=catalog_id, synthetic=synthetic
    )


def _check(who: str, cloud: Any, most: Any, static: Any) -> None:
    if cloud is not None and (not isinstance(cloud, str) or not cloud):
        raise ParameterError(who, "'cloud' is no name of a property", got=cloud, expected="eo:cloud_cover")
    if not isinstance(static, bool):
        raise ParameterError(who, "'static' is neither true nor false", got=static)
    if most is None:
        return
    if isinstance(most, bool) or not isinstance(most, int | float) or not 0 <= most <= 100:
        raise ParameterError(who, "'max_cloud_cover' is no percentage", got=most, expected=plain("0 to 100"))
    if cloud is None:
        raise ParameterError(who, "'max_cloud_cover' needs 'cloud', the property that it is compared with")


def _box(who: str, bbox: Any) -> tuple[float, float, float, float] | None:
    if bbox is None:
        return None
    try:
        west, south, east, north = (float(value) for value in bbox)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            who, "'bbox' is not four numbers", got=bbox, expected="(west, south, east, north)"
        ) from error
    # west > east is a box across the date line
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise ParameterError(who, "'bbox' is no box in degrees", got=bbox, expected="(west, south, east, north)")
    return west, south, east, north


def _root(who: str, paths: Sequence[str | Path] | str | Path, url: str | None) -> str:
    if url is not None:
        if not isinstance(url, str) or not url:
            raise ParameterError(who, "'url' is no address", got=url)
        return url
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(paths) != 1:
        raise CatalogError(
            who,
            "a STAC catalog is one file or address",
            got=[str(path) for path in paths[:5]],
            next_step="Pass url, or let the entry's files name the catalog.json alone",
        )
    return str(paths[0])


@dataclass(frozen=True)
class _Search:
    """What is searched for."""

    collection: str | None
    box: tuple[float, float, float, float] | None
    period: tuple[np.datetime64 | None, np.datetime64 | None]
    cloud: str | None
    most: float | None

    def wants(self, item: pystac.Item) -> bool:
        """Whether an item is one: static catalogs do not search, and an API may leave conditions out."""
        if self.collection is not None and item.collection_id not in (None, self.collection):
            return False
        time, (first, last) = _time_of(item), self.period
        if time is not None and ((first is not None and time < first) or (last is not None and time > last)):
            return False
        covered = None if self.most is None else item.properties.get(self.cloud)
        if covered is not None and covered > self.most:
            return False
        return self.box is None or item.bbox is None or _meet(self.box, _flat(item.bbox))


def _items(root: str, search: _Search) -> Iterator[pystac.Item]:
    """Items of an API that were searched for, or all of a static catalog."""
    try:
        client = Client.from_file(root, timeout=_TIMEOUT)
    except ClientTypeError:  # a static catalog may begin with a collection
        yield from _walk(pystac.Collection.from_file(root, StacApiIO(timeout=_TIMEOUT)), search.collection)
        return
    if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
        yield from _walk(client, search.collection)
        return
    query = None
    if search.most is not None and client.conforms_to(ConformanceClasses.QUERY):
        query = {search.cloud: {"lte": search.most}}
    interval = None
    if search.period != (None, None):
        interval = "/".join(".." if time is None else f"{np.datetime_as_string(time, 'ms')}Z" for time in search.period)
    collections = None if search.collection is None else [search.collection]
    yield from client.search(
        collections=collections, bbox=search.box, datetime=interval, query=query, limit=_PAGE
    ).items()


def _walk(node: pystac.Catalog, collection: str | None) -> Iterator[pystac.Item]:
    """Items of a static catalog; other collections than the one wanted are not entered."""
    if collection is not None and isinstance(node, pystac.Collection) and node.id != collection:
        return
    yield from node.get_stac_objects(pystac.RelType.ITEM)
    for child in node.get_stac_objects(pystac.RelType.CHILD):
        yield from _walk(child, collection)


def _time_of(item: pystac.Item) -> np.datetime64 | None:
    time = item.datetime or item.common_metadata.start_datetime
    return None if time is None else as_utc(time)


def _flat(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """A box without heights."""
    half = len(bbox) // 2
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    if a[1] > b[3] or b[1] > a[3]:
        return False
    # the west edge of one lies within the other, counted eastwards
    spans = [(box[2] - box[0]) % 360.0 if box[2] - box[0] < 360.0 else 360.0 for box in (a, b)]
    return (b[0] - a[0]) % 360.0 <= spans[0] or (a[0] - b[0]) % 360.0 <= spans[1]


@dataclass
class _Describer:
    """Makes scenes of items."""

    who: str
    bands: Sequence[BandOption]
    native_units: dict[str, str]
    cloud: str | None
    added: DnOffset
    static: bool

    def __post_init__(self) -> None:
        self._geometries: dict[Georeference, Georeference] = {}
        self._stated: dict[str, str] = {}

    def units(self) -> dict[str, str]:
        """Units of the bands: canonical, or declared, or those that the items state."""
        return {band.name: band.meaning.units or self._stated.get(band.name, "") for band in self.bands}

    def scene(self, item: pystac.Item) -> SceneRecord:
        """One item."""
        where = f"{self.who}({item.id})"
        time = np.datetime64("NaT", "ns") if self.static else _time_of(item)
        if time is None:
            raise FormatError(where, "the item has neither datetime nor start_datetime")
        grids, added = _grids(item), self._added_to(where, item, time)
        sources = tuple(self._source(where, item, band, grids, added) for band in self.bands)
        cloud = item.properties.get(self.cloud) if self.cloud else None
        cloud = math.nan if cloud is None else float(cloud)
        return SceneRecord(item.id, time, _bounds(where, item, sources[0]), cloud, sources)

    def _added_to(self, where: str, item: pystac.Item, time: np.datetime64) -> float:
        if self.added.item_property is None:
            return self.added.of(where, item.id, time)
        stated = item.properties.get(self.added.item_property)
        if stated is None:
            raise FormatError(
                where,
                f"the item has no property {self.added.item_property!r}",
                got=sorted(item.properties),
                next_step="Correct boa_add_offset: {property: …}, or use 'since'",
            )
        return self.added.of_baseline(where, str(stated))

    def _source(
        self,
        where: str,
        item: pystac.Item,
        band: BandOption,
        grids: Mapping[tuple[str, int], Georeference],
        added: float,
    ) -> BandSource:
        asset = item.assets.get(str(band.where))
        if asset is None:
            raise FormatError(
                where,
                f"the item has no asset {band.where!r} for band {band.name!r}",
                got=sorted(item.assets),
                next_step="Correct the option bands: {…: {asset: …}}",
            )
        stated = _stated_of(asset, band.index)
        check_file_units(where, band.name, self.native_units.get(band.name), stated["unit"])
        self._stated.setdefault(band.name, stated["unit"] or "")
        scale, offset, nodata = (_float(where, name, stated[name]) for name in ("scale", "offset", "nodata"))
        # an item may say that the offset was taken off the pixels
        if offset and any(k.endswith(":boa_offset_applied") and v is True for k, v in item.properties.items()):
            offset = 0.0
        check_meaning(where, band, scale, offset, added)
        geometry = grids.get((str(band.where), band.index))
        nodata = nodata if band.nodata is None else band.nodata
        return BandSource(
            (asset.get_absolute_href() or asset.href).removeprefix("file://"),
            "image",
            band.index,
            None if geometry is None else self._geometries.setdefault(geometry, geometry),
            band,
            scale=scale if band.scale is None else band.scale,
            offset=offset if band.offset is None else band.offset,
            nodata=None if nodata is None else (nodata,),
            added=added,
        )


def _bounds(where: str, item: pystac.Item, source: BandSource) -> tuple[float, float, float, float]:
    if item.bbox is not None and len(item.bbox) in (4, 6) and np.isfinite(item.bbox).all():
        return _flat(item.bbox)
    bounds = (source.geometry or read_header(where, source.path).geometry).bounds()
    if bounds is None:
        raise FormatError(where, "neither the item nor its file tells where it is", got=item.bbox)
    return bounds


def _grids(item: pystac.Item) -> dict[tuple[str, int], Georeference]:
    """Where the pixels of an item's assets are, for those whose proj fields say so."""
    try:
        # one item at a time: of several, odc-stac takes all to be on the grids of the first
        parsed = odc.stac.parse_item(item)
    except ValueError:
        return {}  # proj fields that are not complete; the file tells when it is opened
    boxes = {key: getattr(raster, "geobox", None) for key, raster in parsed.bands.items()}
    # through rasterio, so that the text is that of the files themselves
    return {
        key: Georeference(crs_of(str(box.crs)).to_wkt(), tuple(box.affine)[:6], *box.shape)
        for key, box in boxes.items()
        if box is not None and box.crs is not None and hasattr(box, "affine")
    }


def _stated_of(asset: pystac.Asset, index: int) -> dict[str, Any]:
    """What an asset says of one of its bands' numbers: in STAC 1.1's bands, the raster extension's, or for all of them."""
    stated: dict[str, Any] = {}
    fields = asset.extra_fields
    for listed in ("bands", "raster:bands"):
        bands = fields.get(listed) or []
        one = bands[index - 1] if index <= len(bands) else {}
        for name in ("scale", "offset", "nodata", "unit"):
            if stated.get(name) is None:
                stated[name] = one.get(f"raster:{name}", one.get(name))
    general = {"scale": "raster:scale", "offset": "raster:offset", "nodata": "nodata", "unit": "unit"}
    return {name: fields.get(general[name]) if value is None else value for name, value in stated.items()}


def _float(where: str, name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)  # "nan" and "inf" are written as strings in JSON
    except (TypeError, ValueError) as error:
        raise FormatError(where, f"the item states a {name} that is no number", got=value) from error
