"""`open_stac_scenes`: the items of a STAC API, or of a static STAC catalog, to a `SceneIndex`.

pystac-client searches an API and walks a static catalog; odc-stac tells from an item where each asset's pixels are; the
pixels themselves are read by `SceneReader`, as those of files are, window by window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import odc.stac
import pystac
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr
from pystac_client import Client, ConformanceClasses
from pystac_client.errors import ClientTypeError

from smnb.contract import CatalogError, FormatError, ParameterError, SmnbError, check_box, check_range, plain
from smnb.loaders import parse_period
from smnb.loaders.rasters.images import read_header
from smnb.loaders.rasters.opening import Describer
from smnb.loaders.rasters.options import BandOption, as_utc, band_options, checked, dn_offset
from smnb.loaders.rasters.placing import BandSource, Georeference, crs_of
from smnb.loaders.rasters.reader import StacReader
from smnb.loaders.rasters.scenes import SceneIndex, SceneRecord

_PAGE, _DEPTH = 200, 20  # items asked for at a time; catalogs within catalogs
_NUMBERS = ("scale", "offset", "nodata")  # what items state of numbers
_Name = Annotated[StrictStr, Field(min_length=1)]


class _Search(BaseModel):
    """What is searched for, where, and what an item tells its clouds by."""

    model_config = ConfigDict(frozen=True)
    url: _Name | None
    collection: _Name | None
    bbox: tuple[float, ...] | None
    cloud: _Name | None
    max_cloud_cover: float | None
    static: StrictBool
    period: tuple[Any, Any]

    def wants(self, item: pystac.Item) -> bool:
        """Whether an item is one: static catalogs do not search, and an API may leave conditions out."""
        if self.collection is not None and item.collection_id not in (None, self.collection):
            return False
        time, (first, last) = _time_of(item), self.period
        if time is not None and ((first is not None and time < first) or (last is not None and time > last)):
            return False
        covered = None if self.max_cloud_cover is None else item.properties.get(self.cloud)
        if covered is not None and covered > self.max_cloud_cover:
            return False
        return self.bbox is None or item.bbox is None or _meet(self.bbox, _flat(item.bbox))

    def items(self, reader: StacReader) -> Iterator[pystac.Item]:
        """Items of an API that were searched for, or all of a static catalog."""
        try:
            client = Client.from_file(reader.root, reader)
        except ClientTypeError:  # a static catalog may begin with a collection
            yield from self._walk(pystac.Collection.from_file(reader.root, reader))
            return
        if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
            yield from self._walk(client)
            return
        query = interval = None
        if self.max_cloud_cover is not None and client.conforms_to(ConformanceClasses.QUERY):
            query = {self.cloud: {"lte": self.max_cloud_cover}}
        if self.period != (None, None):
            ends = (".." if time is None else f"{np.datetime_as_string(time, 'ms')}Z" for time in self.period)
            interval = "/".join(ends)
        wanted = {"collections": None if self.collection is None else [self.collection], "bbox": self.bbox}
        yield from client.search(**wanted, datetime=interval, query=query, limit=_PAGE).items()

    def _walk(self, node: pystac.Catalog, above: tuple[str | None, ...] = ()) -> Iterator[pystac.Item]:
        """Items of a static catalog; other collections than the one wanted are not entered, nor a catalog within itself."""
        above = (*above, node.get_self_href())
        if above[-1] in above[:-1] or len(above) > _DEPTH:
            raise pystac.STACError(f"catalogs within catalogs do not come to an end: {above[-1]}")
        if self.collection is None or not isinstance(node, pystac.Collection) or node.id == self.collection:
            yield from node.get_stac_objects(pystac.RelType.ITEM)
            for child in node.get_stac_objects(pystac.RelType.CHILD):
                yield from self._walk(child, above)


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
    """Index the items of a STAC API or of a static STAC catalog, without opening a file.

    Bounds are those of the items, and so is the grid of an asset where its item has the proj fields; else the file tells
    when it is read. Where both tell and differ, reading raises.

    Parameters
    ----------
    paths : sequence of path-like
        One file (or URL), where `url` is not given: a static catalog's ``catalog.json``, or an API's landing page, saved.
    bands : mapping or sequence of str
        Name of each band to its asset, ``{B4: {asset: red}}``, with ``index`` where it is not the asset's first band;
        ``scale``, ``offset`` and ``nodata`` go before what the item states, and that before what the file states.
    source, units
        As in `smnb.loaders.rasters.open_scenes`; reflectance of Sentinel-2 that the item scales is ``"1"``.
    url, collection : str, optional
        Root of the API or of the catalog; a collection, which large APIs need.
    bbox : sequence of float, optional
        Only items that meet it: west, south, east, north, degrees.
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

    Raises
    ------
    CatalogError, FormatError
        If the catalog cannot be reached or read, or no item is left; if an item has no bounds or no time, lacks an asset, or
        states other units than declared.

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
    describer = Describer(who, chosen, units, dn_offset(who, boa_add_offset, chosen, "property"))
    bbox = None if bbox is None else check_box(who, "bbox", bbox)
    if max_cloud_cover is not None:
        check_range(who, "max_cloud_cover", max_cloud_cover, 0, 100, units="percent")
        if cloud is None:
            raise ParameterError(who, "'max_cloud_cover' needs 'cloud', the property that it is compared with")
    asked = {"url": url, "collection": collection, "bbox": bbox, "cloud": cloud, "max_cloud_cover": max_cloud_cover}
    asked |= {"static": static, "period": parse_period(who, start, end)}
    search = checked(who, "search", _Search, asked)
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if url is None and len(paths) != 1:
        next_step = "Pass url, or let the entry's files name the catalog.json alone"
        got = [str(path) for path in paths[:5]]
        raise CatalogError(who, "a STAC catalog is one file or address", got=got, next_step=next_step)
    root = url or str(paths[0])
    reader = StacReader(who, root)
    usual = type(pystac.StacIO.default())
    pystac.StacIO.set_default(lambda: reader)  # which pystac asks where an item names another root or collection
    try:
        wanted = (item for item in search.items(reader) if search.wants(item))
        records = [_scene_of(describer, search, reader, item) for item in wanted]
    except Exception as error:  # whatever JSON that is no STAC, and networks, make of pystac
        own = next((one for one in (error, error.__cause__, error.__context__) if isinstance(one, SmnbError)), None)
        if own is not None:  # pystac may have wrapped it
            raise own from (None if own is error else error)
        what = f"{root} cannot be read as STAC ({type(error).__name__}: {error})"
        next_step = "Check the address and the network; it is the root of an API, or a catalog.json"
        raise CatalogError(who, what, next_step=next_step) from error
    finally:
        pystac.StacIO.set_default(usual)
    if not records:
        got = plain(f"collection {collection}, bbox {bbox}, {start} to {end}, clouds up to {max_cloud_cover}")
        next_step = "Widen the search, or check the collection's name"
        raise CatalogError(who, "no item is in the catalog that was asked for", got=got, next_step=next_step)
    told = {"source": source, "units": describer.units(), "catalog_id": catalog_id, "synthetic": synthetic}
    return SceneIndex.of(who, records, **told)


def _time_of(item: pystac.Item) -> np.datetime64 | None:
    time = item.datetime or item.common_metadata.start_datetime
    return None if time is None else as_utc(time)


def _flat(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """A box without heights."""
    half = len(bbox) // 2
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two boxes do; the west edge of one lies within the other, counted eastwards."""
    spans = [(box[2] - box[0]) % 360.0 if box[2] - box[0] < 360.0 else 360.0 for box in (a, b)]
    is_beside = (b[0] - a[0]) % 360.0 > spans[0] and (a[0] - b[0]) % 360.0 > spans[1]
    return not (is_beside or a[1] > b[3] or b[1] > a[3])


def _scene_of(describer: Describer, search: _Search, reader: StacReader, item: pystac.Item) -> SceneRecord:
    where = f"{describer.who}({item.id})"
    time = np.datetime64("NaT", "ns") if search.static else _time_of(item)
    if time is None:
        raise FormatError(where, "the item has neither datetime nor start_datetime")
    grids, added = _grids(item), describer.added.of(where, item.id, time, item.properties)
    sources = tuple(_source_of(describer, where, reader, item, band, grids, added) for band in describer.bands)
    cloud = item.properties.get(search.cloud) if search.cloud else None
    if item.bbox is not None and len(item.bbox) in (4, 6) and np.isfinite(item.bbox).all():
        bounds = _flat(item.bbox)
    else:
        bounds = (sources[0].geometry or read_header(where, sources[0].path).geometry).bounds()
        if bounds is None:
            raise FormatError(where, "neither the item nor its file tells where it is", got=item.bbox)
    return SceneRecord(item.id, time, bounds, math.nan if cloud is None else float(cloud), sources)


def _source_of(
    describer: Describer,
    where: str,
    reader: StacReader,
    item: pystac.Item,
    band: BandOption,
    grids: Mapping[tuple[str, int], Georeference],
    added: float,
) -> BandSource:
    asset = item.assets.get(str(band.where))
    if asset is None:
        what, next_step = f"the item has no asset {band.where!r} for band {band.name!r}", "Correct the option bands"
        raise FormatError(where, what, got=sorted(item.assets), next_step=f"{next_step}: {{…: {{asset: …}}}}")
    stated = _stated_of(asset, band.index)
    try:
        # "nan" and "inf" are written as strings in JSON
        scale, offset, nodata = (x if x is None else float(x) for x in (stated[n] for n in _NUMBERS))
    except (TypeError, ValueError) as error:
        raise FormatError(where, "the item states a scale, offset or nodata that is no number", got=stated) from error
    # an item may say that the offset was taken off the pixels
    if any(key.endswith(":boa_offset_applied") and value is True for key, value in item.properties.items()):
        offset = 0.0 if offset else offset
    path = reader.place(item, asset.href)
    grid, numbers = grids.get((str(band.where), band.index)), (scale, offset, None if nodata is None else (nodata,))
    source = BandSource(path, "image", band.index, grid, band, (), *numbers)
    return describer.band(where, source, stated["unit"] or "", added)


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
        for name in (*_NUMBERS, "unit"):
            if stated.get(name) is None:
                stated[name] = one.get(f"raster:{name}", one.get(name))
    general = {"scale": "raster:scale", "offset": "raster:offset", "nodata": "nodata", "unit": "unit"}
    return {name: fields.get(general[name]) if value is None else value for name, value in stated.items()}
