"""The catalog: validation, paths, status, opening and fetching (from a server on this machine)."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import sys
import threading
import time

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml

from smnb.catalog import Catalog, data_root, fetching
from smnb.catalog.limits import load_yaml
from smnb.contract import CatalogError, ParameterError, stamp
from smnb.files import exclusive

GOOD = {
    "description": "A product.",
    "loader": "fake_loader:open_fake",
    "files": ["product/*.bin"],
    "variables": {"soil_moisture": {"native": "swvl1", "units": "m**3 m**-3"}},
    "licence": "free",
    "fetch": {"by_hand": "1. Go there. 2. Download it."},
}

#: Ten lists, each of ten aliases of the one before: ten billion nodes.
LAUGHS = "a0: &a0 x\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(10))


def catalog_of(folder, text=None, **changes):
    """Write a catalog of one entry 'product' with some keys changed (None removes one) and load it."""
    entry = {**GOOD, **changes}
    entry = {key: value for key, value in entry.items() if value is not None}
    path = folder / "data_catalog.yaml"
    path.write_text(text or yaml.safe_dump({"product": entry}))
    return Catalog.load(path)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "product").mkdir(parents=True)
    (root / "product" / "b.bin").write_bytes(b"12345")
    (root / "product" / "a.bin").write_bytes(b"123")
    (root / "product" / ".a.bin.partial-xyz.bin").write_bytes(b"half")
    return root


@pytest.fixture
def fake_loader(monkeypatch):
    """A loader module that records what it was called with."""
    calls = []

    def open_fake(paths, *, catalog_id, synthetic=False, scale=1.0, start=None):
        calls.append({"paths": list(paths), "catalog_id": catalog_id, "synthetic": synthetic, "scale": scale})
        data = xr.Dataset(
            {"soil_moisture": ("lat", np.full(2, 0.1, "float32"), {"units": "m3 m-3"})}, {"lat": [0.0, 1.0]}
        )
        return stamp(data, source="test", catalog_id=catalog_id, synthetic=synthetic, step="made up")

    def open_empty(paths, *, catalog_id, synthetic=False):
        return stamp(xr.Dataset(), source="test", catalog_id=catalog_id, synthetic=synthetic, step="made up")

    module = type(sys)("fake_loader")
    module.open_fake, module.open_empty = open_fake, open_empty
    monkeypatch.setitem(sys.modules, "fake_loader", module)
    monkeypatch.setenv("SMNB_LOADERS", "mine.own, fake_loader")
    return calls


# --- the repository's own catalog -----------------------------------------------------------------------------------


def test_the_repositorys_catalog_is_valid_and_its_loaders_exist(repository):
    catalog = Catalog.load(repository / "data_catalog.yaml")
    assert {"amsre_nsidc0302", "amsre_cetb", "era_interim_swvl1", "conus_s1s2smap", "sandbox_truth"} <= set(
        catalog.entries
    )
    for catalog_id, entry in catalog.entries.items():
        assert callable(catalog.loader(catalog_id))
        assert len(entry.how_to_get()) > 20
    assert catalog.entries["amsre_nsidc0302"].doi == "10.5067/RRR4WWORG070"


def test_real_samples_open_under_the_contract(repository, shared_samples):
    catalog = Catalog.load(repository / "data_catalog.yaml")
    present = [row["id"] for row in catalog.status(shared_samples) if row["present"]]
    grids = {"amsre_cetb", "era5_land_swvl1", "era5_land_points", "conus_s1s2smap", "smap_l3_points", "gldas_points"}
    grids |= {"smap_l2", "smap_l3_e_points"}
    tables = {"ismn_conus", "ismn_hawaii", "uscrn_daily"}
    assert grids | tables <= set(present)
    for catalog_id in grids:
        dataset = catalog.open(catalog_id, shared_samples)
        assert dataset.attrs["catalog_id"] == catalog_id
        assert dataset.attrs["synthetic"] == 0
    for catalog_id in ("ismn_hawaii", "uscrn_daily"):
        found = catalog.open(catalog_id, shared_samples)
        assert found.catalog_id == catalog_id
        assert not found.synthetic
        assert len(found.sensors) > 5


def test_a_half_written_sandbox_is_no_archive(tmp_path, repository):
    (tmp_path / "era_interim").mkdir()
    (tmp_path / "era_interim" / "ei_swvl1_x.nc").write_bytes(b"x")
    (tmp_path / "SANDBOX.unfinished.json").write_text("{}")
    with pytest.raises(CatalogError, match="not written to its end"):
        Catalog.load(repository / "data_catalog.yaml").open("era_interim_swvl1", tmp_path)


# --- validation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licnce": "x"}, r"data_catalog.yaml:product: unknown key 'licnce'.*The closest is 'licence'"),
        ({"licence": None}, r"product: key 'licence' is missing"),
        ({"files": "product/*.bin"}, r"product: key 'files': .*list"),
        ({"files": []}, r"key 'files'"),
        ({"description": 3}, r"key 'description': .*string; got 3"),
        ({"variables": {"tb": {"native": "TB"}}}, r"key 'variables.tb.units' is missing"),
        ({"variables": {"tb": {"native": "TB", "units": "K", "unit": "K"}}}, r"unknown key 'variables.tb.unit'"),
        ({"loader": "smnb.loaders.ecmwf"}, r"key 'loader': .*package.module:function"),
        ({"doi": "https://doi.org/10.1/x"}, r"key 'doi'"),
        ({"files": ["/etc/passwd"]}, r"key 'files': '/etc/passwd' is not a path relative to the data root"),
        ({"files": ["product/../../x"]}, r"key 'files': .*leaves the data root"),
        ({"files": ["~/x"]}, r"key 'files'.*not a path relative"),
        ({"fetch": {"by_hnd": "x"}}, r"key 'fetch': expected a list of"),
        ({"fetch": {"by_hand": "x", "url": "y"}}, r"unknown key 'fetch.*url'"),
        ({"fetch": [{"url": "http://h/a.bin", "sha256": "abc", "path": "product/a.bin"}]}, r"fetch.*64 hexadecimal"),
        ({"fetch": [{"url": "file:///a.bin", "sha256": "0" * 64, "path": "product/a.bin"}]}, r"fetch.*not an http"),
        (
            {"fetch": [{"url": "http://h/a.bin", "sha256": "0" * 64, "path": "../a.bin"}]},
            r"fetch.*leaves the data root",
        ),
        ({"fetch": [{"url": "http://h/a.bin", "sha256": "0" * 64}]}, r"'a.bin', which matches none of the globs"),
        ({"fetch": {"earthaccess": "X", "folder": "/data"}}, r"fetch.*folder.*not a path relative"),
        ({"licnce": "x", "doi": "y"}, r"1 more problem"),
    ],
)
def test_invalid_entries_name_entry_and_key(tmp_path, changes, message):
    with pytest.raises(CatalogError, match=message):
        catalog_of(tmp_path, **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {x: 1}\na: {x: 2}\n", "key 'a' is given twice"),
        ("product:\n  licence: x\n  licence: y\n", "key 'licence' is given twice.*line 3"),
        ("product: [1, 2", "not valid YAML"),
        ("product: !!python/object/apply:os.system ['true']", "not valid YAML.*could not determine a constructor"),
        ("- 1", "the catalog: .*valid dictionary"),
        ("product: 5", "data_catalog.yaml:product: the entry: .*valid dictionary.*got 5"),
        ("Bad-Id: {}", "an entry's id"),
        (LAUGHS, "not valid YAML: .*more than 100,000 nodes"),
        ("product: &a {b: *a}", "not valid YAML: .*an alias stands for what it is in"),
        ("product: " + "[" * 5000, "not valid YAML: .*nested deeper than 40"),
        ("# " + "x" * 2_000_000, "not valid YAML: .*longer than"),
    ],
)
def test_invalid_yaml(tmp_path, text, message):
    with pytest.raises(CatalogError, match=message):
        catalog_of(tmp_path, text)


def test_aliases_that_a_person_writes_are_read():
    common = "x: &x {k: 1}\ny: *x\nz: {<<: *x, l: 2}"
    assert load_yaml(common) == {"x": {"k": 1}, "y": {"k": 1}, "z": {"k": 1, "l": 2}}


def test_absent_catalog(tmp_path):
    with pytest.raises(CatalogError, match="cannot be read"):
        Catalog.load(tmp_path / "none.yaml")


def test_unknown_entry_lists_known_ones_and_the_closest(tmp_path, root):
    with pytest.raises(CatalogError, match=r"got 'prodct'; expected one of product\. The closest is 'product'"):
        catalog_of(tmp_path).resolve("prodct", root)


# --- the data root and files ----------------------------------------------------------------------------------------


def test_data_root_precedence(tmp_path, monkeypatch):
    monkeypatch.delenv("SMNB_DATA", raising=False)
    nested = tmp_path / "a" / "b"
    nested.mkdir(parents=True)
    monkeypatch.chdir(nested)
    (tmp_path / "data_catalog.yaml").write_text("x: 1")
    assert data_root() == tmp_path / "data" / "sandbox"
    monkeypatch.setenv("SMNB_DATA", str(tmp_path / "archive"))
    assert data_root() == tmp_path / "archive"
    assert data_root("relative") == nested / "relative"


def test_resolve_sorts_and_skips_half_written_files(tmp_path, root):
    paths = catalog_of(tmp_path).resolve("product", root)
    assert [path.name for path in paths] == ["a.bin", "b.bin"]


def test_missing_files_say_which_globs_which_root_and_how_to_get_them(tmp_path, root):
    catalog = catalog_of(tmp_path, files=["other/*.nc", "more/*.nc"])
    with pytest.raises(CatalogError, match=r"no file matches") as caught:
        catalog.resolve("product", root)
    for part in ("data_catalog.yaml:product", "other/*.nc", "more/*.nc", str(root), "1. Go there."):
        assert part in str(caught.value)
    with pytest.raises(CatalogError, match=r"data root is not a folder.*SMNB_DATA"):
        catalog.resolve("product", root / "absent")


def test_a_link_out_of_the_root_is_refused_but_a_linked_root_is_fine(tmp_path, root):
    catalog = catalog_of(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(root)
    assert len(catalog.resolve("product", link)) == 2
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"x")
    (root / "product" / "c.bin").symlink_to(outside)
    with pytest.raises(CatalogError, match=r"product: key 'files': product/c.bin is a link out of the data root"):
        catalog.resolve("product", root)
    (row,) = catalog.status(root)
    assert "link out of the data root" in row["problem"]
    (root / "product" / "c.bin").unlink()
    (root / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(CatalogError, match="link out of the data root"):
        catalog_of(tmp_path, files=["elsewhere/*.bin"]).resolve("product", root)


def test_status(tmp_path, root):
    catalog = catalog_of(tmp_path)
    (row,) = catalog.status(root)
    assert row == {
        "id": "product",
        "description": "A product.",
        "present": True,
        "n_files": 2,
        "bytes": 8,
        "how_to_get": "1. Go there. 2. Download it.",
        "problem": None,
    }
    (row,) = catalog.status(tmp_path / "nowhere")
    assert (row["present"], row["n_files"], row["bytes"]) == (False, 0, 0)


# --- opening --------------------------------------------------------------------------------------------------------


def test_open_passes_id_options_and_the_sandbox_marker(tmp_path, root, fake_loader):
    catalog = catalog_of(tmp_path, options={"scale": 2.0})
    assert catalog.open("product", root).attrs["synthetic"] == 0
    (root / "SANDBOX.json").write_text("{}")
    assert catalog.open("product", root, scale=3.0).attrs["synthetic"] == 1
    assert [(c["synthetic"], c["scale"]) for c in fake_loader] == [(False, 2.0), (True, 3.0)]
    assert fake_loader[0]["catalog_id"] == "product"


def test_unknown_loader_options_and_loaders(tmp_path, root, fake_loader):
    with pytest.raises(
        ParameterError, match=r"no option 'scal'; expected \['scale', 'start'\]. The closest is 'scale'"
    ):
        catalog_of(tmp_path).open("product", root, scal=1)
    with pytest.raises(CatalogError, match=r"product: key 'loader': there is no module 'smnb.loaders.nothing'"):
        catalog_of(tmp_path, loader="smnb.loaders.nothing:open_it").open("product", root)
    with pytest.raises(CatalogError, match=r"has no function 'open_fak'.*The closest is 'open_fake'"):
        catalog_of(tmp_path, loader="fake_loader:open_fak").open("product", root)
    with pytest.raises(CatalogError, match=r"key 'variables': .* returned no 'soil_moisture'"):
        catalog_of(tmp_path, loader="fake_loader:open_empty").open("product", root)


@pytest.mark.parametrize(
    "loader",
    ["os:system", "fake_loader_2:open_it", "smnb.loadersx:open_it", "smnb.files:write_text", "smnb.loaders.ecmwf:Path"],
)
def test_a_catalog_names_no_other_functions_than_loaders(tmp_path, root, fake_loader, loader):
    module = loader.split(":")[0]
    with pytest.raises(CatalogError, match=rf"no loader of smnb; got '{loader}'.*SMNB_LOADERS={module}"):
        catalog_of(tmp_path, loader=loader).open("product", root)
    assert "fake_loader_2" not in sys.modules


# --- fetching -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """Serve tmp_path/served over HTTP; yield the base URL and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", folder
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_fetch_verifies_and_does_not_fetch_twice(tmp_path, server):
    url, served = server
    (served / "c.bin").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    root = tmp_path / "new" / "root"
    catalog = catalog_of(tmp_path, fetch=[{"url": f"{url}/c.bin", "sha256": digest, "path": "product/c.bin"}])
    (path,) = catalog.fetch("product", root)
    assert path == root / "product" / "c.bin"
    assert path.read_bytes() == b"content"
    assert catalog.resolve("product", root) == [path]
    (served / "c.bin").unlink()  # a second fetch must not need the server
    assert catalog.fetch("product", root) == [path]
    path.write_bytes(b"changed by hand")
    with pytest.raises(CatalogError, match="is there with another SHA-256"):
        catalog.fetch("product", root)
    assert path.read_bytes() == b"changed by hand"


def test_fetch_with_a_wrong_hash_or_status_leaves_nothing(tmp_path, server):
    url, served = server
    (served / "c.bin").write_bytes(b"not what was promised")
    root = tmp_path / "fetched"
    catalog = catalog_of(tmp_path, fetch=[{"url": f"{url}/c.bin", "sha256": "0" * 64, "path": "product/c.bin"}])
    with pytest.raises(CatalogError, match=r"another SHA-256 and was discarded"):
        catalog.fetch("product", root)
    assert [p for p in root.rglob("*") if p.is_file()] == []
    catalog = catalog_of(tmp_path, fetch=[{"url": f"{url}/absent.bin", "sha256": "0" * 64, "path": "product/c.bin"}])
    with pytest.raises(CatalogError, match=r"cannot be fetched \(HTTPError"):
        catalog.fetch("product", root)
    assert [p for p in root.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("drip", "TimeoutError: only .* bytes came in"),
        ("silent", "(TimeoutError|ReadTimeout)"),
        ("file:///etc/hostname", "redirected to file:///etc/hostname"),
        ("http://localhost:1/x", "redirected to http://localhost:1/x"),
        ("https://10.0.0.1/x", "redirected to https://10.0.0.1/x"),
    ],
)
def test_fetch_ends_and_stays_in_public_places(tmp_path, monkeypatch, to, message):
    class Bad(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            if to == "silent":
                time.sleep(3)
            elif to == "drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
                with contextlib.suppress(OSError):
                    for _ in range(30):
                        self.wfile.write(b"x")
                        time.sleep(0.1)
            else:
                self.wfile.write(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n".encode())

    monkeypatch.setattr(fetching, "_PATIENCE", 1.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bad) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{httpd.server_address[1]}/c.bin"
        catalog = catalog_of(tmp_path, fetch=[{"url": url, "sha256": "0" * 64, "path": "product/c.bin"}])
        with pytest.raises(CatalogError, match=rf"cannot be fetched .*{message}"):
            catalog.fetch("product", tmp_path / "fetched")
        httpd.shutdown()
    assert [p for p in (tmp_path / "fetched").rglob("*") if p.is_file()] == []


def test_fetch_by_hand_and_without_earthaccess(tmp_path, root, monkeypatch):
    with pytest.raises(CatalogError, match=r"cannot be fetched by a program\. 1\. Go there"):
        catalog_of(tmp_path).fetch("product", root)
    catalog = catalog_of(tmp_path, fetch={"earthaccess": "SPL3SMP", "folder": "product"})
    with pytest.raises(ParameterError, match="Pass start and end"):
        catalog.fetch("product", root)
    monkeypatch.setitem(sys.modules, "earthaccess", None)
    with pytest.raises(
        CatalogError, match=r"needs the optional package earthaccess.*pip install 'smnb\[earthaccess\]'"
    ):
        catalog.fetch("product", root, start="2015-08-01", end="2015-08-02")


class Granule(dict):
    """A granule as earthaccess finds it."""

    def data_links(self):
        return ["https://archive/path/" + self["name"]]


@pytest.fixture
def nasa(monkeypatch):
    """A stand-in for earthaccess: ``found`` by a search, ``content`` of the archive, and what was ``asked``."""
    module = type(sys)("earthaccess")
    module.found, module.content, module.asked, module.titles = [], {}, [], {}

    def add(name, content, version="009", size=True, algorithm=None, collection="C1"):
        info = {"Name": name} | ({"SizeInBytes": len(content)} if size else {})
        if algorithm:
            digest = hashlib.new(algorithm.replace("-", ""), content).hexdigest().upper()
            info["Checksum"] = {"Algorithm": algorithm, "Value": digest}
        reference = {"ShortName": "SPL3SMP", "Version": version} if version else {"EntryTitle": "A title"}
        umm = {"CollectionReference": reference, "DataGranule": {"ArchiveAndDistributionInformation": [info]}}
        module.found.append(Granule(name=name, umm=umm, meta={"collection-concept-id": collection}))
        module.content[name] = content

    def download(granules, folder):
        module.asked.append([granule["name"] for granule in granules])
        for granule in granules:
            if isinstance(module.content[granule["name"]], Exception):
                raise module.content[granule["name"]]
            if not (folder / granule["name"]).exists():  # as earthaccess does
                (folder / granule["name"]).write_bytes(module.content[granule["name"]])

    module.add, module.download, module.login = add, download, lambda: None
    module.search_data = lambda **kwargs: module.asked.append(kwargs) or module.found
    module.search_datasets = lambda short_name: [
        {"meta": {"concept-id": concept}, "umm": {"Version": version}} for concept, version in module.titles.items()
    ]
    monkeypatch.setitem(sys.modules, "earthaccess", module)
    return module


DAY = {"start": "2015-08-01", "end": "2015-08-02"}


def nasa_catalog(tmp_path, **more):
    return catalog_of(
        tmp_path, fetch={"earthaccess": "SPL3SMP", "folder": "product", **more}, files=["product/**/*.h5"]
    )


def test_fetch_through_earthaccess_takes_the_newest_version_and_says_which(tmp_path, nasa):
    root, said = tmp_path / "new", []
    catalog = nasa_catalog(tmp_path)
    for name, version in (("a_R18.h5", "009"), ("a_R19.h5", "010"), ("b_R18.h5", "009"), ("b_R19.h5", "010")):
        nasa.add(name, name.encode(), version)
    nasa.add("b_R19.h5", b"b_R19.h5", "010", collection="C2")  # of another archive
    paths = catalog.fetch("product", root, **DAY, say=said.append)
    assert [path.name for path in paths] == ["a_R19.h5", "b_R19.h5"]
    assert catalog.resolve("product", root) == paths
    assert nasa.asked == [{"short_name": "SPL3SMP", "temporal": tuple(DAY.values())}, ["a_R19.h5", "b_R19.h5"]]
    assert said == ["SPL3SMP version 010: 2 granules of the period; left out: 2 of version 009"]
    assert catalog.fetch("product", root, **DAY, say=said.append) == paths
    assert len(nasa.asked) == 3  # one more search, and no download
    (root / "product" / "2015").mkdir()
    paths[1].rename(root / "product" / "2015" / "b_R19.h5")  # as people sort by year: it is there all the same
    assert catalog.fetch("product", root, **DAY) == [root / "product" / "2015" / "b_R19.h5", paths[0]]
    assert len(nasa.asked) == 4
    (root / "product" / "2015" / "a_R18.h5").write_bytes(b"older")
    with pytest.raises(CatalogError, match=r"holds 1 files of another version.*got 'a_R18.h5'.*Move them"):
        catalog.fetch("product", root, **DAY)
    nasa.found.clear()
    with pytest.raises(CatalogError, match=r"no granule of SPL3SMP in this period"):
        catalog.fetch("product", root, **DAY)


def test_fetch_through_earthaccess_is_bounded_in_time_and_by_the_disk(tmp_path, nasa, monkeypatch):
    catalog, end = nasa_catalog(tmp_path), threading.Event()
    nasa.add("a_R19.h5", b"12345678")
    monkeypatch.setattr(fetching, "_PATIENCE", 0.05)
    monkeypatch.setattr(nasa, "download", lambda *_: end.wait(30))
    with pytest.raises(CatalogError, match=r"no complete answer within 0.054 s"):
        catalog.fetch("product", tmp_path / "new", **DAY)
    monkeypatch.setattr(nasa, "search_data", lambda **_: end.wait(30))
    with pytest.raises(CatalogError, match=r"no complete answer within 0.5 s"):
        catalog.fetch("product", tmp_path / "new", **DAY)
    end.set()
    monkeypatch.setattr(nasa, "search_data", lambda **_: nasa.found)
    monkeypatch.setattr(fetching, "_SPARE", 1 << 60)
    with pytest.raises(CatalogError, match=r"no room on the disk for the next 1 granules.*expected 8 bytes"):
        catalog.fetch("product", tmp_path / "new", **DAY)


def test_fetch_takes_the_version_that_the_entry_names(tmp_path, nasa):
    said = []
    nasa.add("old.h5", b"old", "2.0")
    nasa.add("new.h5", b"new", "2.1")
    (path,) = nasa_catalog(tmp_path, version="2.0").fetch("product", tmp_path / "new", **DAY, say=said.append)
    assert path.name == "old.h5"
    assert said == ["SPL3SMP version 2.0: 1 granules of the period; left out: 1 of version 2.1"]
    with pytest.raises(CatalogError, match=r"no granule of SPL3SMP version 3 in this period; got \['2.0', '2.1'\]"):
        nasa_catalog(tmp_path, version="3").fetch("product", tmp_path / "new", **DAY)
    with pytest.raises(CatalogError, match=r"fetch.version.*'newest' is no version"):
        nasa_catalog(tmp_path, version="newest")


def test_fetch_looks_versions_up_that_granules_do_not_state(tmp_path, nasa):
    nasa.titles, said = {"C8": "008", "C9": "009"}, []
    nasa.add("new.h5", b"new", None, collection="C9")
    nasa.add("old.h5", b"old", None, collection="C8")
    (path,) = nasa_catalog(tmp_path).fetch("product", tmp_path / "new", **DAY, say=said.append)
    assert path.name == "new.h5"
    assert said == ["SPL3SMP version 009: 1 granules of the period; left out: 1 of version 008"]


@pytest.mark.parametrize("stated", [{}, {"algorithm": "MD5"}, {"algorithm": "SHA-256", "size": False}, {"size": False}])
def test_fetch_does_not_take_a_cut_file_for_whole(tmp_path, nasa, stated):
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["x"] = np.arange(2000)
    whole, said = (tmp_path / "whole.h5").read_bytes(), []
    nasa.add("a.h5", whole, **stated)
    nasa.add("b.h5", whole, **stated)
    root = tmp_path / "new"
    catalog = nasa_catalog(tmp_path)
    paths = catalog.fetch("product", root, **DAY)
    paths[1].write_bytes(whole[:5000])
    assert catalog.fetch("product", root, **DAY, say=said.append) == paths
    assert paths[1].read_bytes() == whole
    assert nasa.asked[-1] == ["b.h5"]  # the other was whole
    assert said[1].startswith(f"fetched again, as not whole: 1 files in {root / 'product'}, first b.h5 (")
    paths[0].unlink()
    nasa.content["b.h5"], nasa.content["a.h5"] = whole, whole[:5000]
    paths[1].unlink()
    with pytest.raises(CatalogError, match=r"1 files did not arrive whole; got a.h5 \(.*Run the same command again"):
        catalog.fetch("product", root, **DAY)
    assert catalog.resolve("product", root) == [paths[1]]
    if "algorithm" in stated:
        paths[1].write_bytes(whole[:-1] + b"x")
        nasa.content["a.h5"] = whole
        catalog.fetch("product", root, **DAY)
        assert paths[1].read_bytes() == whole


def test_fetch_again_what_nothing_vouches_for(tmp_path, nasa):
    nasa.add("a.h5", b"GRIB and so on", size=False)
    (path,) = nasa_catalog(tmp_path).fetch("product", tmp_path / "new", **DAY)
    nasa_catalog(tmp_path).fetch("product", tmp_path / "new", **DAY)
    assert nasa.asked[1::2] == [["a.h5"], ["a.h5"]]
    nasa.content["a.h5"] = b"<!DOCTYPE html><p>Log in</p>"
    with pytest.raises(CatalogError, match="a web page"):
        nasa_catalog(tmp_path).fetch("product", tmp_path / "new", **DAY)
    assert path.read_bytes() == b"GRIB and so on"


def test_a_killed_or_failing_download_leaves_no_file_of_a_final_name(tmp_path, nasa):
    root = tmp_path / "new"
    catalog = nasa_catalog(tmp_path)
    nasa.add("a.h5", b"first")
    nasa.add("b.h5", b"second")
    nasa.content["b.h5"] = ConnectionError("the line\nis cut")
    with pytest.raises(
        CatalogError, match=r"cannot get the files \(ConnectionError: the line is cut\).*Earthdata login"
    ):
        catalog.fetch("product", root, **DAY)
    assert [path.name for path in catalog.resolve("product", root)] == ["a.h5"]
    nasa.content["b.h5"] = b"second"
    left = next(path for path in (root / "product").iterdir() if path.is_dir()) / "b.h5"
    left.write_bytes(b"sec")  # what a kill leaves: found by no glob, and not what a later download skips
    assert [path.name for path in catalog.resolve("product", root)] == ["a.h5"]
    assert [path.read_bytes() for path in catalog.fetch("product", root, **DAY)] == [b"first", b"second"]
    busy = CatalogError("test", "busy")
    with exclusive(left.with_name("lock"), busy), pytest.raises(CatalogError, match="another smnb fetch"):
        catalog.fetch("product", root, **DAY)
    nasa.login = lambda: 1 / 0
    with pytest.raises(CatalogError, match=r"ZeroDivisionError"):
        catalog.fetch("product", root, **DAY)
