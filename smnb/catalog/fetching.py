"""Downloads into the data root, by URL or through earthaccess: a file has its name once it is known to be whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from smnb.catalog.catalog import refuse_outside
from smnb.catalog.entries import FetchEarthaccess, UrlFile
from smnb.catalog.limits import is_refused_host, within
from smnb.contract import CatalogError, ParameterError, plain
from smnb.files import exclusive, give_name, held_output, sha256_of, tidy_output

#: Folder in a destination where downloads are until they are whole, and how many granules are there at most.
_STAGING, _BATCH = ".smnb-fetch", 16
#: Seconds until a server must answer, and bytes a second that must come then; bytes of the disk that are left free.
_PATIENCE, _SLOWEST, _SPARE = 60.0, 2_000, 200_000_000
_UNTOLD = 1_000_000_000  # bytes of a file whose size NASA does not tell


def fetch_url(who: str, file: UrlFile, root: Path) -> Path:
    """Download one file through pooch, which writes a temporary file and renames it once the hash is right."""
    import pooch
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    final = root / file.path
    refuse_outside(who, "fetch", [final.parent], root)
    if final.is_file():
        if (digest := sha256_of(final)) == file.sha256:
            tidy_output(final)
            return final
        what = f"{final} is there with another SHA-256"
        next_step = "Move it away if it is an old version or damaged, and fetch again"
        raise CatalogError(who, what, got=digest, expected=file.sha256, next_step=next_step)
    own = {"dir": final.parent, "prefix": f".{final.name}.partial-"}  # goes with the next fetch if this one is killed
    with held_output(who, final), tempfile.TemporaryDirectory(**own) as made:
        try:
            digest = f"sha256:{file.sha256}"
            pooch.retrieve(file.url, known_hash=digest, fname=final.name, path=made, downloader=_send)
        except ValueError as error:
            what = f"what {file.url} sent has another SHA-256 and was discarded"
            next_step = "Try again; if it persists the provider changed the file, and the catalog needs its new hash"
            raise CatalogError(who, what, expected=file.sha256, next_step=next_step) from error
        except (RequestException, HTTPError, OSError) as error:
            what = f"{file.url} cannot be fetched ({error.__class__.__name__}: {error})"
            raise CatalogError(who, what, next_step="Check the network and the URL") from error
        give_name(Path(made) / final.name, final)
    return final


def _send(url: str, file: str, _: Any) -> None:
    """Download a URL to a file, as long as the server goes on and the disk has room.

    It may redirect to other servers, since the hash is checked; not to those inside this network, and not out of https. Logins of
    ~/.netrc go to their own hosts.
    """
    import requests

    def follow(answer: requests.Response, **_: Any) -> None:
        to = urljoin(url, answer.headers.get("Location", "")) if answer.is_redirect else url
        if is_refused_host(to, url) or not to.startswith(("https:", url.partition(":")[0] + ":")):
            raise requests.ConnectionError(f"redirected to {to}")

    start, size = time.monotonic(), 0
    options = {"stream": True, "timeout": _PATIENCE / 2, "hooks": {"response": follow}}
    with within(_PATIENCE, requests.get, url, **options) as answer, open(file, "wb") as stream:
        answer.raise_for_status()
        room = shutil.disk_usage(file).free - _SPARE
        while piece := answer.raw.read1(1 << 20, decode_content=True):
            size += stream.write(piece)
            if max(size, int(answer.headers.get("Content-Length", 0))) > room:
                raise OSError(errno.ENOSPC, "there is no room for it on the disk")
            if time.monotonic() - start > _PATIENCE + size / _SLOWEST:
                raise TimeoutError(f"only {size:,} bytes came in {time.monotonic() - start:.0f} s")


def fetch_earthaccess(
    who: str, fetch: FetchEarthaccess, root: Path, start: str | None, end: str | None, say: Callable[[str], Any]
) -> list[Path]:
    """Download one version's granules of a period; files that are there and whole are not fetched again.

    A file gets its name, and takes the place of a cut one, once it is whole: until then it is in a hidden folder.
    """
    if start is None or end is None:
        raise ParameterError(who, "a NASA collection is fetched for a period", next_step="Pass start and end")
    folder = root / fetch.folder
    refuse_outside(who, "fetch.folder", [folder], root)
    try:
        import earthaccess
    except ImportError as error:
        what = f"fetching {fetch.earthaccess} needs the optional package earthaccess"
        raise CatalogError(who, what, next_step="Install it with: pip install 'smnb[earthaccess]'") from error
    with _nasa(who):
        earthaccess.login()  # may ask a person
        asked = {"short_name": fetch.earthaccess, "temporal": (start, end)}
        found = within(10 * _PATIENCE, earthaccess.search_data, **asked)  # thousands of granules come in pages
        granules, others = _one_version(who, fetch, found, earthaccess.search_datasets, say)
    names = [name for granule in granules for name in _names(granule)]
    places = {path.name: path for path in folder.rglob("*") if path.parent.name != _STAGING and path.is_file()}
    if mixed := sorted((set(others) - set(names)) & set(places)):
        what = f"{folder} holds {len(mixed)} files of another version, which would be mixed with this one"
        step = "Move them to another folder, or name their version in the entry's key 'fetch.version'"
        raise CatalogError(who, what, got=mixed[0], next_step=step)
    expected = {info.get("Name"): info for granule in granules for info in _archive_information(granule)}
    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / _STAGING
    with exclusive(staging / "lock", CatalogError(who, "another smnb fetch is writing this folder", got=str(folder))):
        for left in staging.iterdir():
            if left.is_file() and left.name != "lock":
                left.unlink()
        there = {name: _not_whole(places[name], expected.get(name, {})) for name in names if name in places}
        if cut := {name: why for name, why in there.items() if why}:
            say(f"fetched again, as not whole: {len(cut)} files in {folder}, first {_first(cut)}")
        needed = [granule for granule in granules if any(there.get(name, "absent") for name in _names(granule))]
        for n in range(0, len(needed), _BATCH):
            batch, lost = needed[n : n + _BATCH], {}
            try:
                with _nasa(who):
                    sizes = [expected.get(name, {}).get("SizeInBytes") for one in batch for name in _names(one)]
                    told = sum(int(size) for size in sizes if size is not None)
                    if told > (room := shutil.disk_usage(folder).free - _SPARE):
                        what = f"there is no room on the disk for the next {len(batch)} granules in {folder}"
                        raise CatalogError(who, what, got=plain(f"{room:,} bytes"), expected=plain(f"{told:,} bytes"))
                    seconds = _PATIENCE * len(batch) + (told + _UNTOLD * sizes.count(None)) / _SLOWEST
                    within(seconds, earthaccess.download, batch, staging)
            finally:  # what did arrive whole is kept when the rest failed
                for name in (name for granule in batch for name in _names(granule)):
                    lost[name] = _not_whole(staging / name, expected.get(name, {}), fresh=True)
                    if not lost[name]:
                        give_name(staging / name, places.setdefault(name, folder / name))
            if lost := {name: why for name, why in lost.items() if why}:
                step = "Run the same command again: files that are whole are kept"
                raise CatalogError(who, f"{len(lost)} files did not arrive whole", got=_first(lost), next_step=step)
    return sorted(places[name] for name in names)


def _first(problems: dict[str, str]) -> str:
    """The first of the files with a problem, and the problem."""
    return plain("{} ({})".format(*next(iter(problems.items()))))


@contextlib.contextmanager
def _nasa(who: str) -> Iterator[None]:
    """Turn whatever earthaccess, its login or its network raises into a `CatalogError`."""
    try:
        yield
    except CatalogError:
        raise
    except Exception as error:
        what = f"earthaccess cannot get the files ({error.__class__.__name__}: {' '.join(str(error).split())})"
        step = "Check the network, the dates and the Earthdata login (~/.netrc), and run the same command again"
        raise CatalogError(who, what, next_step=step) from error


def _names(granule: Any) -> list[str]:
    """Names that a granule's files get here."""
    return [link.split("/")[-1] for link in granule.data_links()]


def _archive_information(granule: Any) -> list[dict[str, Any]]:
    """What the service says of each file of a granule: Name, SizeInBytes and Checksum, where it does."""
    stated = granule["umm"].get("DataGranule", {}).get("ArchiveAndDistributionInformation", [])
    stated = [stated] if isinstance(stated, dict) else stated
    return [*stated, *(file for one in stated for file in one.get("Files", []))]


def _one_version(
    who: str,
    fetch: FetchEarthaccess,
    granules: list[Any],
    search_datasets: Callable[..., Any],
    say: Callable[[str], Any],
) -> tuple[list[Any], list[str]]:
    """Granules of the entry's version, or else of the newest, and names of the others' files; say which, and how many not."""
    if not granules:
        raise CatalogError(
            who, f"NASA has no granule of {fetch.earthaccess} in this period", next_step="Check the dates"
        )
    versions, collections = {}, {}
    for granule in granules:
        version = granule["umm"].get("CollectionReference", {}).get("Version")
        if version is None and not collections:  # a granule may name its collection by title alone
            found = search_datasets(short_name=fetch.earthaccess)
            collections = {one["meta"]["concept-id"]: one["umm"].get("Version") for one in found}
        version = version or collections.get(granule["meta"].get("collection-concept-id")) or "not stated"
        # two archives may hold the same files of one version, an old and a new one
        versions.setdefault(version, {}).setdefault(tuple(_names(granule)), granule)

    def number(version: str) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", version)]

    wanted = [v for v in versions if fetch.version is None or number(v) == number(fetch.version)]
    if not wanted:
        what = f"NASA has no granule of {fetch.earthaccess} version {fetch.version} in this period"
        raise CatalogError(who, what, got=sorted(versions), next_step="Correct the key 'fetch.version', or the dates")
    chosen = max(wanted, key=number)
    others = sorted(set(versions) - {chosen}, key=number)
    rest = "; left out: " + ", ".join(f"{len(versions[v])} of version {v}" for v in others) if others else ""
    say(f"{fetch.earthaccess} version {chosen}: {len(versions[chosen])} granules of the period{rest}")
    return list(versions[chosen].values()), [name for v in others for names in versions[v] for name in names]


def _not_whole(path: Path, stated: dict[str, Any], *, fresh: bool = False) -> str:
    """Why a file is not taken for whole, or "": by the service's checksum and size, else by opening it once."""
    if not path.is_file():
        return "it was not delivered"
    size, checksum = path.stat().st_size, stated.get("Checksum") or {}
    if (known := stated.get("SizeInBytes")) is not None and size != int(known):
        return f"{size} bytes of {int(known)}"
    algorithm = checksum.get("Algorithm", "").lower().replace("-", "")
    with path.open("rb") as stream:
        if algorithm in {"md5", "sha1", "sha256", "sha384", "sha512"}:
            digest = hashlib.file_digest(stream, algorithm).hexdigest()
            return (
                "" if digest == str(checksum.get("Value")).lower() else f"another {checksum['Algorithm']} than NASA's"
            )
        start = stream.read(512)
    if not start.strip(b"\0") or start.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        return "it is empty or a web page"
    if known is not None:
        return ""
    if start.startswith(b"\x89HDF"):
        import h5py

        try:
            h5py.File(path, "r").close()  # compares the length that the file states
        except OSError as error:
            return str(error)
        return ""
    return "" if fresh else "nothing says how long it should be"
