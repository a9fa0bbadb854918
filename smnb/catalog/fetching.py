"""Downloads into the data root: by URL with a hash, or through NASA's earthaccess."""

from __future__ import annotations

from pathlib import Path

from smnb.catalog.entries import FetchEarthaccess, UrlFile
from smnb.contract import CatalogError, ParameterError
from smnb.files import sha256_of


def fetch_url(who: str, file: UrlFile, root: Path) -> Path:
    """Download one file through pooch, which writes a temporary file and renames it once the hash is right."""
    import pooch
    from requests import RequestException

    final = root / file.path
    if not final.parent.resolve().is_relative_to(root.resolve()):
        raise CatalogError(who, f"key 'fetch': {file.path} leads out of the data root", got=str(final.parent.resolve()))
    if final.is_file():
        if (digest := sha256_of(final)) == file.sha256:
            return final
        what = f"{final} is there with another SHA-256"
        next_step = "Move it away if it is an old version or damaged, and fetch again"
        raise CatalogError(who, what, got=digest, expected=file.sha256, next_step=next_step)
    try:
        pooch.retrieve(file.url, known_hash=f"sha256:{file.sha256}", fname=final.name, path=final.parent)
    except ValueError as error:
        what = f"what {file.url} sent has another SHA-256 and was discarded"
        next_step = "Try again; if it persists the provider changed the file, and the catalog needs its new hash"
        raise CatalogError(who, what, expected=file.sha256, next_step=next_step) from error
    except (RequestException, OSError) as error:
        what = f"{file.url} cannot be fetched ({error.__class__.__name__}: {error})"
        raise CatalogError(who, what, next_step="Check the network and the URL") from error
    return final


def fetch_earthaccess(who: str, fetch: FetchEarthaccess, root: Path, start: str | None, end: str | None) -> list[Path]:
    """Download a collection's granules of a period; files that are there are not fetched again."""
    if start is None or end is None:
        raise ParameterError(who, "a NASA collection is fetched for a period", next_step="Pass start and end")
    folder = root / fetch.folder
    if not folder.resolve().is_relative_to(root.resolve()):
        raise CatalogError(who, f"key 'fetch.folder': {fetch.folder} leads out of the data root")
    try:
        import earthaccess
    except ImportError as error:
        what = f"fetching {fetch.earthaccess} needs the optional package earthaccess"
        raise CatalogError(who, what, next_step="Install it with: pip install 'smnb[earthaccess]'") from error
    earthaccess.login()
    granules = earthaccess.search_data(short_name=fetch.earthaccess, temporal=(start, end))
    if not granules:
        raise CatalogError(who, f"NASA has no granule of {fetch.earthaccess} in this period", got=(start, end))
    folder.mkdir(parents=True, exist_ok=True)
    return sorted(Path(path) for path in earthaccess.download(granules, folder))
