"""Scenes behind STAC, served on loopback: a static catalog and a small API, against odc-stac and the files themselves."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import odc.stac
import pandas as pd
import pystac
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin

from smnb.catalog import Catalog
from smnb.contract import CatalogError, FormatError, ParameterError, SmnbError
from smnb.grids import UtmWindow
from smnb.loaders.rasters import SceneIndex, images, open_scenes, reader
from smnb.loaders.rasters import open_stac_scenes as _open

CORNER = from_origin(600_000, 4_100_000, 10, 10)
BOX = [-97.876, 37.0, -97.83, 37.04]
BANDS = {"B4": {"asset": "red"}, "B11": {"asset": "swir16"}}
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"


def open_stac_scenes(paths=(), **options):
    return _open(paths, **{"catalog_id": "s2", "source": "mine", "bands": BANDS, **options})


class Handler(SimpleHTTPRequestHandler):
    """Files with byte ranges, which GDAL asks for, and ``/api``: the landing page and search of a STAC API."""

    protocol_version = "HTTP/1.1"
    asked: list[dict]
    ranges: list[tuple[str, int]]
    items: list[dict]
    search, elsewhere = "", 1  # another address of the search, another port

    def log_message(self, *args):
        pass

    def reply(self, content: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def root(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/api"

    def do_GET(self):
        if self.path.rstrip("/") == "/api":
            landing = {
                "type": "Catalog",
                "id": "api",
                "stac_version": "1.0.0",
                "description": "an API",
                "conformsTo": [
                    "https://api.stacspec.org/v1.0.0/core",
                    "https://api.stacspec.org/v1.0.0/item-search",
                    "https://api.stacspec.org/v1.0.0/item-search#query",
                ],
                "links": [
                    {"rel": "self", "href": self.root()},
                    {"rel": "root", "href": self.root()},
                    {
                        "rel": "search",
                        "href": self.search or f"{self.root()}/search",
                        "method": "POST",
                        "type": "application/geo+json",
                    },
                ],
            }
            self.reply(json.dumps(landing).encode(), "application/json")
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.reply(b"no such file", "text/plain", 404)
            return
        content = path.read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            self.reply(content, self.guess_type(str(path)), headers={"Accept-Ranges": "bytes"})
            return
        first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
        self.ranges.append((path.name, last - first + 1))
        span = {"Content-Range": f"bytes {first}-{last}/{len(content)}", "Accept-Ranges": "bytes"}
        self.reply(content[first : last + 1], "image/tiff", 206, span)

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(question)
        found = [item for item in self.items if item["collection"] in question.get("collections", [item["collection"]])]
        most = question.get("query", {}).get("eo:cloud_cover", {}).get("lte", 100)
        found = [item for item in found if item["properties"]["eo:cloud_cover"] <= most]
        first, size = question.get("offset", 0), 2  # a small page, so that there is a next one
        answer = {"type": "FeatureCollection", "features": found[first : first + size], "links": []}
        if first + size < len(found):
            answer["links"] = [
                {
                    "rel": "next",
                    "method": "POST",
                    "href": f"{self.root()}/search",
                    "merge": True,
                    "body": {"offset": first + size},
                }
            ]
        self.reply(json.dumps(answer).encode(), "application/geo+json")


@pytest.fixture
def served(tmp_path):
    """A folder under loopback: its path, its address, and the handler's notes of what was asked."""
    handler = type("Served", (Handler,), {"asked": [], "ranges": [], "items": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()
    thread.join()


def noise(shape, seed):
    return np.random.default_rng(seed).integers(1, 9000, shape).astype("uint16")


def write_cog(path, values, *, transform=CORNER, crs="EPSG:32614", **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        **{"nodata": 0, **profile},
    ) as out:
        out.write(values, 1)


def proj(shape=(300, 300), step=10, **changes):
    return {
        "proj:code": "EPSG:32614",
        "proj:shape": list(shape),
        "proj:transform": [step, 0, 600_000, 0, -step, 4_100_000],
        **changes,
    }


def make_item(folder, number, *, cloud=10.0, collection="s2", fields=True, red=None, swir=None, box=BOX, **properties):
    """An item of two assets, whose files are beside it."""
    name = f"S2_{number}"
    write_cog(folder / name / "red.tif", noise((300, 300), number))
    write_cog(
        folder / name / "swir16.tif", noise((150, 150), 100 + number), transform=from_origin(600_000, 4_100_000, 20, 20)
    )
    time = datetime(2020, 6, 1, 17, 0, 11, tzinfo=UTC) + timedelta(days=number)
    item = pystac.Item(
        name,
        polygon(box),
        box,
        time,
        {"eo:cloud_cover": cloud, **properties},
        stac_extensions=[PROJECTION, RASTER] if fields else [],
    )
    item.collection_id = collection
    grids = {
        "red": (proj() if fields else {}) | (red or {}),
        "swir16": (proj((150, 150), 20) if fields else {}) | (swir or {}),
    }
    for key, extra in grids.items():
        item.add_asset(
            key, pystac.Asset(f"./{key}.tif", media_type=pystac.MediaType.COG, roles=["data"], extra_fields=extra)
        )
    return item


def polygon(box):
    west, south, east, north = box
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


def publish(root, items):
    """A static catalog: catalog.json, and one folder an item."""
    catalog = pystac.Catalog("static", "a static catalog")
    catalog.add_items(items)
    catalog.normalize_hrefs(str(root))
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return root / "catalog.json"


def window(row, col, size, resolution=10.0):
    return UtmWindow(32614, 600_000 + 10 * col, 4_100_000 - 10 * row, resolution, size)


# -- a static catalog ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [True, False])
@pytest.mark.parametrize("remote", [True, False])
def test_a_static_catalog_is_read_as_the_files_are(served, fields, remote):
    root, url, handler = served
    path = publish(root, [make_item(root, number, cloud=5.0 * number, fields=fields) for number in (2, 1)])
    index = open_stac_scenes(url=f"{url}/catalog.json") if remote else open_stac_scenes([path])
    assert isinstance(index, SceneIndex)
    assert list(index.table["scene_id"]) == ["S2_1", "S2_2"]
    assert list(index.table["time"]) == [pd.Timestamp("2020-06-02T17:00:11"), pd.Timestamp("2020-06-03T17:00:11")]
    assert list(index.table["cloud_percentage"]) == [5.0, 10.0]
    assert index.table.loc[0, ["west", "south", "east", "north"]].tolist() == BOX
    assert handler.ranges == []  # no file was opened
    assert [source.geometry is not None for source in index._sources[0]] == [fields, fields]
    files = open_scenes(
        sorted(root.glob("*/*.tif")),
        catalog_id="s2",
        source="mine",
        bands={"B4": "red", "B11": "swir16"},
        scene={"pattern": r"(?P<scene>S2_\d)/(?P<band>\w+)\.tif"},
        time={"static": True},
    )
    with pickle.loads(pickle.dumps(index)).open(1) as ours, files.open(1) as theirs:
        assert "S2_2" in theirs.scene_id
        for target in (window(20, 30, 64), UtmWindow.centred(37.02, -97.86, size=32, resolution=12.5)):
            np.testing.assert_array_equal(ours.read(target), theirs.read(target))
        np.testing.assert_array_equal(ours.read(window(20, 30, 64))[0], noise((300, 300), 2)[20:84, 30:94])
        np.testing.assert_array_equal(ours.at([37.02], [-97.86]), theirs.at([37.02], [-97.86]))
    assert bool(handler.ranges) == remote


def test_odc_stac_loads_the_same(tmp_path):
    item = make_item(tmp_path, 3)
    publish(tmp_path, [item])
    index = open_stac_scenes([tmp_path / "catalog.json"])
    target = window(40, 60, 64)
    box = GeoBox(target.shape, target.transform, f"EPSG:{target.epsg}")
    loaded = odc.stac.load([item], bands=["red", "swir16"], geobox=box, resampling="nearest").isel(time=0)
    with index.open(0) as reader:
        values = reader.read(target, resampling="nearest")
    np.testing.assert_array_equal(values[0], loaded["red"].values)
    np.testing.assert_array_equal(values[1], loaded["swir16"].values)


def test_only_ranges_of_a_remote_file_are_read(served):
    root, url, handler = served
    publish(root, [make_item(root, 1)])
    large = np.random.default_rng(0).integers(1, 9000, (2048, 2048)).astype("uint16")
    write_cog(root / "S2_1" / "red.tif", large)
    index = open_stac_scenes(url=f"{url}/catalog.json", bands={"B4": {"asset": "red"}})
    with pytest.raises(FormatError, match="not on the grid that the index has"), index.open(0) as reader:
        reader.read(window(0, 0, 8))  # the item says 300 x 300
    item = make_item(root, 1, red=proj((2048, 2048)))
    write_cog(root / "S2_1" / "red.tif", large)
    publish(root, [item])
    handler.ranges.clear()
    index = open_stac_scenes(url=f"{url}/catalog.json", bands={"B4": {"asset": "red"}})
    with index.open(0) as reader:
        np.testing.assert_array_equal(reader.read(window(1030, 1030, 200))[0], large[1030:1230, 1030:1230])
    assert 0 < sum(size for _, size in handler.ranges) < 2_000_000  # of 8 MB


def test_searches_of_a_static_catalog(tmp_path):
    far = [10.0, 37.0, 11.0, 38.0]
    items = [make_item(tmp_path, number, cloud=20.0 * number) for number in range(4)]
    items.append(make_item(tmp_path, 4, collection="other", box=far))
    path = publish(tmp_path, items)

    def found(**options):
        return [name[-1] for name in open_stac_scenes([path], **options).table["scene_id"]]

    assert found() == list("01234")
    assert found(collection="s2") == list("0123")
    # one that begins with a collection, and one of collections
    whole = pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]])
    deep = pystac.Catalog("deep", "of collections")
    for name in ("s2", "s1"):
        child = pystac.Collection(name, name, pystac.Extent(*whole))
        child.add_items([make_item(tmp_path / "deep" / name, number, collection=name) for number in range(2)])
        deep.add_child(child)
    deep.normalize_hrefs(str(tmp_path / "deep"))
    deep.save(pystac.CatalogType.SELF_CONTAINED)
    inner = open_stac_scenes([tmp_path / "deep" / "s2" / "collection.json"])
    assert list(inner.table["scene_id"]) == ["S2_0", "S2_1"]
    chosen = open_stac_scenes([tmp_path / "deep" / "catalog.json"], collection="s1")
    assert "/deep/s1/" in chosen._sources[0][0].path
    with pytest.raises(CatalogError, match="two scenes have one name"):
        open_stac_scenes([tmp_path / "deep" / "catalog.json"])
    assert found(bbox=(9, 36, 10.5, 37.5)) == ["4"]
    assert found(bbox=(170, 0, -90, 80)) == list("0123")  # across the date line
    assert found(start="2020-06-02", end="2020-06-03") == list("12")
    assert found(max_cloud_cover=40) == list("0124")
    assert np.isnan(open_stac_scenes([path], cloud="no:such").table["cloud_percentage"]).all()
    assert open_stac_scenes([path], static=True).is_static
    with pytest.raises(CatalogError, match=r"no item is in the catalog that was asked for.*collection s1"):
        found(collection="s1")


# -- an API --------------------------------------------------------------------------------------------------------------


def test_an_api_is_searched_page_by_page(served):
    root, url, handler = served
    for number in range(5):
        item = make_item(root, number, cloud=10.0 * number)
        for key, asset in item.assets.items():
            asset.href = f"{url}/S2_{number}/{key}.tif"
        handler.items.append(item.to_dict(include_self_link=False))
    handler.items.append({**handler.items[0], "id": "elsewhere", "collection": "other"})
    index = open_stac_scenes(
        url=f"{url}/api",
        collection="s2",
        bbox=(-98, 36, -97, 38),
        start="2020-06-01",
        end="2020-06-04",
        max_cloud_cover=20,
    )
    # what the emulation does not filter by, the time, is filtered here
    assert list(index.table["scene_id"]) == ["S2_0", "S2_1", "S2_2"]
    question = handler.asked[0]
    assert question["collections"] == ["s2"]
    assert question["bbox"] == [-98, 36, -97, 38]
    assert question["datetime"] == "2020-06-01T00:00:00.000Z/2020-06-04T23:59:59.999Z"
    assert question["query"] == {"eo:cloud_cover": {"lte": 20}}
    assert len(handler.asked) == 2
    with index.open(2) as reader:
        np.testing.assert_array_equal(reader.read(window(5, 6, 32))[0], noise((300, 300), 2)[5:37, 6:38])


# -- what items state ----------------------------------------------------------------------------------------------------


def one(folder, **options):
    item_options = {key: options.pop(key) for key in ("red", "swir", "box", "properties") if key in options}
    item = make_item(folder, 1, **item_options.pop("properties", {}), **item_options)
    index = open_stac_scenes([publish(folder, [item])], **{"bands": {"B4": {"asset": "red"}}, **options})
    with index.open(0) as reader:
        return index, reader.read(window(0, 0, 300))[0]


@pytest.mark.parametrize("where", ["raster:bands", "bands", "asset"])
def test_scale_offset_and_no_data_of_items(tmp_path, where):
    dn = noise((300, 300), 1).astype("f8")
    stated = {"scale": 1e-4, "offset": -0.1, "nodata": 0}
    prefixed = {"raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0}
    fields = {
        "raster:bands": {"raster:bands": [stated]},
        "bands": {"bands": [{"name": "B4", **prefixed}]},
        "asset": prefixed,
    }
    s2 = {"source": "sentinel2", "units": {"B4": "1"}}
    index, values = one(tmp_path, red=proj() | fields[where], **s2)
    assert index.units == {"B4": "1e-4"}
    np.testing.assert_allclose(values, dn - 1000, atol=1e-3)
    with pytest.raises(FormatError, match="makes reflectance of it, not digital numbers"):
        one(tmp_path, red=proj() | fields[where], source="sentinel2")
    # pixels that had it applied, and what is declared
    applied = {"properties": {"earthsearch:boa_offset_applied": True}}
    np.testing.assert_allclose(one(tmp_path, red=proj() | fields[where], **applied, **s2)[1], dn, rtol=1e-6)
    declared = {"B4": {"asset": "red", "scale": 1, "offset": -500}}
    np.testing.assert_allclose(
        one(tmp_path, red=proj() | fields[where], source="sentinel2", bands=declared)[1], dn - 500
    )


def test_the_offset_by_an_items_baseline(tmp_path):
    dn = noise((300, 300), 1).astype("f4")
    by_baseline = {"source": "sentinel2", "boa_add_offset": {"property": "s2:processing_baseline"}}
    for baseline, offset in (("02.09", 0), ("04.00", 1000), ("05.10", 1000)):
        values = one(tmp_path, properties={"s2:processing_baseline": baseline}, **by_baseline)[1]
        np.testing.assert_array_equal(values, dn - offset)
    np.testing.assert_array_equal(one(tmp_path, source="sentinel2", boa_add_offset=-1000)[1], dn)  # by date: 2020
    with pytest.raises(FormatError, match="no property 's2:processing_baseline'"):
        one(tmp_path, **by_baseline)


def test_items_that_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"S2_1.*no asset 'blue' for band 'B2'.*\['red', 'swir16'\]"):
        one(tmp_path, bands={"B2": {"asset": "blue"}})
    with pytest.raises(FormatError, match=r"not on the grid that the index has.*position"):
        one(tmp_path, red=proj(**{"proj:transform": [10, 0, 600_005, 0, -10, 4_100_000]}))
    with pytest.raises(FormatError, match=r"not on the grid that the index has.*reference system"):
        one(tmp_path, red=proj(**{"proj:code": "EPSG:32615"}))
    with pytest.raises(FormatError, match="no band 2"):
        one(tmp_path, bands={"B4": {"asset": "red", "index": 2}})
    with pytest.raises(FormatError, match="has other units than declared"):
        one(tmp_path, red=proj() | {"raster:bands": [{"unit": "K"}]}, units={"B4": "m"})
    item = make_item(tmp_path, 1)
    path = publish(tmp_path, [item])
    (tmp_path / "S2_1" / "red.tif").unlink()
    with open_stac_scenes([path]).open(0) as reader, pytest.raises(FormatError, match="unreadable"):
        reader.read(window(0, 0, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": {"B4": {"band": "red"}}}, "does not say where it is.*expected asset"),
        ({"bbox": (0, 1, 2)}, "no box in degrees"),
        ({"bbox": (0, 50, 2, 40)}, "no box in degrees"),
        ({"max_cloud_cover": 120}, r"'max_cloud_cover' is out of range.*\[0, 100\]"),
        ({"max_cloud_cover": 20, "cloud": None}, "needs 'cloud'"),
        ({"cloud": 3}, "search.cloud: Input should be a valid string"),
        ({"static": "yes"}, "search.static: Input should be a valid boolean"),
        ({"start": "soon"}, "not an ISO date"),
        ({"boa_add_offset": {"baseline": "x"}}, "unknown key.*'baseline'.*'property'"),
        ({"url": 3}, "search.url: Input should be a valid string"),
    ],
)
def test_options_that_are_refused(tmp_path, options, message):
    with pytest.raises(ParameterError, match=message):
        open_stac_scenes(["catalog.json"], **options)


def test_catalogs_that_are_refused(served):
    root, url, _ = served
    with pytest.raises(CatalogError, match="one file or address"):
        open_stac_scenes([])
    with pytest.raises(CatalogError, match="cannot be read as STAC"):
        open_stac_scenes(url=f"{url}/absent.json")
    (root / "page.json").write_text("<html>")
    with pytest.raises(CatalogError, match="cannot be read as STAC"):
        open_stac_scenes([root / "page.json"])
    (root / "other.json").write_text('{"type": "FeatureCollection"}')
    with pytest.raises(CatalogError, match="cannot be read as STAC"):
        open_stac_scenes([root / "other.json"])
    (root / "empty.json").write_text(json.dumps(pystac.Catalog("empty", "nothing").to_dict()))
    with pytest.raises(CatalogError, match="no item is in the catalog"):
        open_stac_scenes([root / "empty.json"])


def test_through_the_catalog(tmp_path):
    archive = tmp_path / "archive"
    publish(archive / "stac", [make_item(archive / "stac", 1)])
    (tmp_path / "data_catalog.yaml").write_text(
        """
s2:
  description: scenes
  loader: smnb.loaders.rasters:open_stac_scenes
  files: [stac/catalog.json]
  variables: {reflectance: {native: [B4], units: "1e-4"}}
  licence: none
  fetch: {by_hand: x}
  options: {source: sentinel2, bands: {B4: {asset: red}}, start: 2020-06-01, end: 2020-06-30}
"""
    )
    index = Catalog.load(tmp_path / "data_catalog.yaml").open("s2", root=archive)
    assert (len(index), index.source, index.bands, index.units) == (1, "sentinel2", ("B4",), {"B4": "1e-4"})


# -- servers that are not as they should be ------------------------------------------------------------------------------


def answer(handler, content, **headers):
    handler.reply(
        content if isinstance(content, bytes) else json.dumps(content).encode(), "application/json", **headers
    )


def page(handler, *items, to=None):
    links = [{"rel": "next", "method": "POST", "href": to or f"{handler.root()}/search", "body": {}}]
    answer(handler, {"type": "FeatureCollection", "features": list(items), "links": links})


CLEAR = {"eo:cloud_cover": 0, "datetime": "2020-06-01T00:00:00Z"}


def item_dict(number=0, **assets):
    item = pystac.Item(f"S2_{number}", polygon(BOX), BOX, datetime(2020, 6, 1, tzinfo=UTC), {})
    for key, href in ({"red": "red.tif", "swir16": "swir16.tif"} | assets).items():
        item.add_asset(key, pystac.Asset(href))
    return item.to_dict(include_self_link=False)


def other(handler):
    return f"http://127.0.0.1:{handler.elsewhere}/api"


def same_pages(handler):
    page(handler, item_dict())


def new_pages(handler):
    handler.asked.append({})
    page(handler, item_dict(len(handler.asked)))


def leaving_pages(handler):
    page(handler, item_dict(), to=f"{other(handler)}/search")


def busy(handler):
    answer(handler, b"", status=429, headers={"Retry-After": "100000"})


def silent(handler):
    time.sleep(4)


def dripping(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    for _ in range(60):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def dripping_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(60):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def endless(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(3000):
        handler.wfile.write(bytes(1 << 20))


def bomb(handler):
    block = gzip.compress(bytes(1 << 24))
    answer(handler, block * 200, headers={"Content-Encoding": "gzip"})


def deep(handler):
    answer(handler, b"[" * 100_000 + b"]" * 100_000)


def redirecting(to):
    return lambda handler: answer(handler, b"", status=302, headers={"Location": to.format(other(handler))})


@pytest.mark.parametrize(
    ("misbehave", "message"),
    [
        (same_pages, "pages of the search do not come to an end; got '1 items on 2 pages'. Narrow the search"),
        (new_pages, "pages of the search do not come to an end; got '20 items on 21 pages'"),
        (leaving_pages, "a link or redirection leads to another server; got 'http://127.0.0.1"),
        (busy, "asks to come again later .Retry-After: 100000"),
        (silent, "cannot be read as STAC .*(no complete answer within 1 s|timed out)"),
        (dripping, "no complete answer within 1 s"),
        (dripping_head, "no complete answer within 1 s"),
        (endless, "the answer of .* is too large to be read"),
        (bomb, "the answer of .* is too large to be read"),
        (deep, "cannot be read as STAC .RecursionError"),
        (redirecting("{}"), "leads to another server"),
        (redirecting("file:///etc/hostname"), "leads to another server; got 'file:///etc/hostname'"),
        (redirecting("https://127.0.0.1/api"), "leads to another server"),
        (redirecting("/api/search"), "more than 5 redirections"),
    ],
)
def test_a_server_that_misbehaves_is_one_error_soon(served, monkeypatch, misbehave, message):
    _, url, handler = served

    def post(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        misbehave(self)

    handler.do_POST = post
    monkeypatch.setattr(reader, "_TIMEOUT", 1.0)
    monkeypatch.setattr(reader, "_MOST_PAGES", 20)
    start = time.monotonic()
    with pytest.raises(SmnbError, match=message):
        open_stac_scenes(url=f"{url}/api")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:{}/x.tif", "http://169.254.169.254/latest/x.tif", "file:///etc/hostname"]
)
def test_an_image_whose_server_leads_into_this_network_is_not_opened(served, to):
    """GDAL follows any redirection; one within the server is followed."""
    folder, url, handler = served
    write_cog(folder / "secret" / "x.tif", np.ones((256, 256), "uint16"))
    asked = []

    def get(self):
        asked.append(self.path)
        if self.path in ("/a.tif", "/b.tif"):
            leads = to.format(self.server.server_address[1] + 1) if self.path == "/a.tif" else "/secret/x.tif"
            return self.reply(b"", "text/plain", 302, {"Location": leads})
        return Handler.do_GET(self)

    handler.do_GET = handler.do_HEAD = get
    with pytest.raises(CatalogError, match="leads elsewhere than to a public server; got"):
        images.read_header("test", f"{url}/a.tif")
    assert set(asked) == {"/a.tif"}
    assert len(images.read_header("test", f"{url}/b.tif").names) == 1


@pytest.mark.parametrize("href", ["http://127.0.0.1:1/search", "file:///etc/hostname", "https://127.0.0.1/search"])
def test_a_landing_page_that_searches_elsewhere(served, monkeypatch, href):
    _, url, handler = served
    monkeypatch.setattr(handler, "search", href, raising=False)
    with pytest.raises(CatalogError, match=r"another server|names a file of this machine"):
        open_stac_scenes(url=f"{url}/api")
    assert handler.asked == []


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/hostname",
        "/etc/hostname",
        "/vsicurl/http://127.0.0.1/x.tif",
        "s3://bucket/x.tif",
        "ftp://h/x",
        "http://localhost/x.tif",
        "http://2130706433/x.tif",
        "http://10.0.0.1/x.tif",
        "http://[::1]/x.tif",
        "C:/x.tif",
    ],
)
def test_assets_that_no_item_of_a_server_may_name(served, monkeypatch, href):
    _, url, handler = served
    handler.items.append(
        {
            **item_dict(red=href),
            "collection": "s2",
            "properties": CLEAR,
        }
    )
    with pytest.raises(CatalogError, match=r"names an asset (that is no address of the web|inside this network)"):
        open_stac_scenes(url=f"{url}/api")
    if href.startswith("s3"):
        monkeypatch.setenv("SMNB_STAC_S3", "1")
        assert open_stac_scenes(url=f"{url}/api")._sources[0][0].path == href


def test_assets_are_beside_the_item_or_anywhere_public(served):
    _, url, handler = served
    assets = {"red": "../x/red.tif", "swir16": "https://8.8.8.8/swir.tif"}
    handler.items.append(
        {
            **item_dict(**assets),
            "collection": "s2",
            "properties": CLEAR,
        }
    )
    found = [one.path for one in open_stac_scenes(url=f"{url}/api")._sources[0]]
    assert found == [f"{url}/x/red.tif", "https://8.8.8.8/swir.tif"]


@pytest.mark.parametrize(
    "href",
    ["/etc/hostname", "file:///etc/hostname", "../../outside.tif", "/vsicurl/http://h/x.tif", "http://127.0.0.1/x.tif"],
)
def test_a_local_catalog_names_files_of_its_folder(tmp_path, href):
    item = make_item(tmp_path / "own", 1)
    item.assets["red"].href = href
    with pytest.raises(CatalogError, match=r"outside its folder and the data root|names an asset"):
        open_stac_scenes([publish(tmp_path / "own", [item])])
    page = json.loads((tmp_path / "own" / "catalog.json").read_text())
    page["links"][1]["href"] = "../../secret.json"
    (tmp_path / "own" / "catalog.json").write_text(json.dumps(page))
    with pytest.raises(CatalogError, match="outside its folder and the data root"):
        open_stac_scenes([tmp_path / "own" / "catalog.json"])


def test_a_catalog_within_itself(tmp_path):
    loop = pystac.Catalog("loop", "in itself").to_dict()
    loop["links"] = [{"rel": "child", "href": "./catalog.json"}]
    (tmp_path / "catalog.json").write_text(json.dumps(loop))
    with pytest.raises(CatalogError, match="do not come to an end"):
        open_stac_scenes([tmp_path / "catalog.json"])


def test_a_remote_file_that_changed_is_another_scene(served, monkeypatch):
    """By the server's ETag, else its date and size; a server that tells nothing is said to."""
    folder, address, handler = served
    publish(folder, [make_item(folder, 0)])
    told: dict[str, str] = {}
    usual = handler.end_headers

    def end_headers(self):
        for name, value in told.items():
            self.send_header(name, value)
        usual(self)

    monkeypatch.setattr(handler, "end_headers", end_headers)
    index = open_stac_scenes(url=f"{address}/catalog.json", bands={"B4": {"asset": "red"}})

    def identity(**headers):
        told.clear()
        told.update({name.replace("_", "-"): value for name, value in headers.items()})
        return index.identities([0])[0]

    first = identity(ETag="1")
    assert first == identity(ETag="1", Last_Modified="today") != identity(ETag="2")
    dated = identity(Last_Modified="today")
    assert dated == identity(Last_Modified="today") != identity(Last_Modified="tomorrow")
    (folder / "S2_0" / "red.tif").write_bytes(b"x" * 101)
    assert identity(Last_Modified="today") != dated
    assert not first.endswith("unchecked")
    assert identity().endswith(" unchecked")
    (folder / "S2_0" / "red.tif").unlink()
    assert identity(ETag="1").endswith(" unchecked")
