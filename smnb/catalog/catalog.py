"""The entries of a catalog file, and what can be done with them: find, describe, open and fetch files."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr
import yaml
from pydantic import ValidationError

from smnb.catalog.entries import (
    Entry,
    FetchByHand,
    FetchEarthaccess,
    UniqueKeyLoader,
    UrlFile,
    closest,
    validation_error,
)
from smnb.catalog.roots import CATALOG_NAME, ROOT_VARIABLE, SANDBOX_MARKER, UNFINISHED_MARKER, ancestor_with, data_root
from smnb.contract import CatalogError, ParameterError, check_dataset, plain
from smnb.files import sha256_of


def _fetch_url(who: str, file: UrlFile, root: Path) -> Path:
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


def _fetch_earthaccess(who: str, fetch: FetchEarthaccess, root: Path, start: str | None, end: str | None) -> list[Path]:
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


@dataclass(frozen=True)
class Catalog:
    """The entries of one `data_catalog.yaml`, and what can be done with them.

    Parameters
    ----------
    path : Path
        The file it was read from.
    entries : dict of str to Entry
        By id, in the file's order.
    """

    path: Path
    entries: dict[str, Entry]

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Catalog:
        """Read and validate a catalog.

        Parameters
        ----------
        path : path-like, optional
            Default: `data_catalog.yaml` in the current folder or the nearest one above it, else the one of the
            checkout that smnb is imported from.

        Raises
        ------
        CatalogError
            If the file is absent or no YAML, a key is given twice, unknown or of a wrong type, or a path is not
            relative to the data root.
        """
        if path is None:
            folder = ancestor_with(CATALOG_NAME, Path.cwd()) or Path(__file__).resolve().parents[2]
            path = folder / CATALOG_NAME
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = f"the catalog cannot be read ({error.__class__.__name__})"
            next_step = f"Run from a folder at or below one that holds {CATALOG_NAME}, or pass its path"
            raise CatalogError(str(path), what, next_step=next_step) from error
        try:
            # a subclass of SafeLoader: it constructs plain data only
            content = yaml.load(text, Loader=UniqueKeyLoader)
        except yaml.YAMLError as error:
            problem = " ".join(str(error).split()).replace("<unicode string>", path.name)
            raise CatalogError(path.name, f"the catalog is not valid YAML: {problem}") from error
        if not isinstance(content, dict) or not content:
            raise CatalogError(path.name, "the catalog is not a mapping of entries", got=type(content).__name__)
        entries = {}
        for entry_id, fields in content.items():
            if not isinstance(entry_id, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", entry_id):
                raise CatalogError(path.name, "an entry's id is not lower case letters, digits and _", got=entry_id)
            if not isinstance(fields, dict):
                raise CatalogError(f"{path.name}:{entry_id}", "the entry is not a mapping", got=type(fields).__name__)
            try:
                entries[entry_id] = Entry.model_validate(fields)
            except ValidationError as error:
                raise validation_error(path, entry_id, error) from error
        return cls(path, entries)

    def entry(self, catalog_id: str) -> Entry:
        """Return one entry; raise `CatalogError`, which lists the known ids and the closest, if there is none of that id."""
        if catalog_id not in self.entries:
            known = sorted(self.entries)
            what = "unknown catalog entry"
            expected = plain("one of " + ", ".join(known))
            next_step = closest(str(catalog_id), known) or None
            raise CatalogError(self.path.name, what, got=catalog_id, expected=expected, next_step=next_step)
        return self.entries[catalog_id]

    def _who(self, catalog_id: str) -> str:
        return f"{self.path.name}:{catalog_id}"

    def _find(self, catalog_id: str, root: Path) -> list[Path]:
        """Files of an entry that exist; a file that resolves outside the root is an error."""
        entry = self.entry(catalog_id)
        real_root = root.resolve()
        found: dict[Path, None] = {}
        for pattern in entry.files:
            for path in root.glob(pattern):
                # a name with a leading dot is a half-written file of smnb.files.atomic_path, or the system's
                if path.name.startswith(".") or not path.is_file():
                    continue
                if not path.resolve().is_relative_to(real_root):
                    what = f"key 'files': {path.relative_to(root)} is a link out of the data root"
                    got = str(path.resolve())
                    expected = plain(f"a file inside {real_root}")
                    next_step = f"Copy the file, or make {ROOT_VARIABLE} the folder that holds the data themselves"
                    raise CatalogError(self._who(catalog_id), what, got=got, expected=expected, next_step=next_step)
                found[path] = None
        return sorted(found)

    def resolve(self, catalog_id: str, root: str | os.PathLike[str] | None = None) -> list[Path]:
        """Paths of an entry's files, sorted, below a data root (default `data_root`).

        Raises
        ------
        CatalogError
            If the entry is unknown, the root is absent, no file matches, or a file lies outside the root.
        """
        root = data_root(root)
        entry = self.entry(catalog_id)
        if not root.is_dir():
            what = "the data root is not a folder"
            next_step = f"Set {ROOT_VARIABLE} to your archive, or write the sandbox with: smnb sandbox"
            raise CatalogError(self._who(catalog_id), what, got=str(root), next_step=next_step)
        paths = self._find(catalog_id, root)
        if not paths:
            what = "no file matches the entry's key 'files'"
            got = plain(f"nothing for {', '.join(entry.files)} under {root}")
            raise CatalogError(self._who(catalog_id), what, got=got, next_step=entry.how_to_get())
        return paths

    def holds(self, catalog_id: str, root: str | os.PathLike[str] | None = None) -> bool:
        """Whether the archive has any file of an entry."""
        return bool(self._find(catalog_id, data_root(root)))

    def status(self, root: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
        """Which entries are present under a root.

        Per entry: ``id``, ``description``, ``present``, ``n_files``, ``bytes``, ``how_to_get``, and ``problem`` (None, or why the
        files cannot be used).
        """
        root = data_root(root)
        rows = []
        for catalog_id, entry in self.entries.items():
            problem, paths = None, []
            try:
                paths = self._find(catalog_id, root) if root.is_dir() else []
            except CatalogError as error:
                problem = str(error)
            found = {"present": bool(paths), "n_files": len(paths), "bytes": sum(path.stat().st_size for path in paths)}
            about = {"id": catalog_id, "description": entry.description}
            rows.append({**about, **found, "how_to_get": entry.how_to_get(), "problem": problem})
        return rows

    def loader(self, catalog_id: str) -> Callable[..., xr.Dataset]:
        """Import an entry's loader; raise `CatalogError` if the module or the function does not exist."""
        module_name, function_name = self.entry(catalog_id).loader.split(":")
        who, key = self._who(catalog_id), "key 'loader':"
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # the loader exists and lacks one of its own dependencies: say that, not this
            raise CatalogError(
                who, f"{key} there is no module {module_name!r}", next_step="Correct the key 'loader'"
            ) from error
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [name for name in dir(module) if name.startswith("open_")]
            what = f"{key} {module_name!r} has no function {function_name!r}"
            next_step = f"{closest(function_name, known)}Correct the key 'loader'"
            raise CatalogError(who, what, expected=known, next_step=next_step)
        return function

    def open(self, catalog_id: str, root: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """Open an entry through its loader.

        Parameters
        ----------
        catalog_id : str
            Id of the entry.
        root : path-like, optional
            The data root; default `data_root`. Where it holds `SANDBOX.json` the data are marked as synthetic.
        **options
            Options of the loader; they override the entry's own.

        Returns
        -------
        xarray.Dataset or InSituTables
            Under the data contract; the tables are what `smnb.loaders.insitu.open_insitu` returns.

        Raises
        ------
        CatalogError
            As `resolve` and `loader`, or if the loader does not return what the entry declares.
        ParameterError
            If the loader knows no such option.
        """
        entry, who = self.entry(catalog_id), self._who(catalog_id)
        root = data_root(root)
        function = self.loader(catalog_id)
        merged = {**entry.options, **options}
        parameters = inspect.signature(function).parameters.values()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("catalog_id", "synthetic")]
        for name in merged:
            if name not in known:
                what = f"{entry.loader} has no option {name!r}"
                raise ParameterError(who, what, expected=known, next_step=closest(name, known) or None)
        paths = self.resolve(catalog_id, root)
        synthetic = (root / SANDBOX_MARKER).is_file()
        if (root / UNFINISHED_MARKER).is_file() and not synthetic:
            what = f"{root} is a sandbox that was not written to its end"
            raise CatalogError(who, what, next_step="Run smnb sandbox again, which goes on where it was")
        dataset = function(paths, catalog_id=catalog_id, synthetic=synthetic, **merged)
        if not isinstance(dataset, xr.Dataset):
            return dataset.check(who)  # tables of in-situ readings check themselves
        for name in entry.variables:
            if name not in dataset:
                what = f"key 'variables': {entry.loader} returned no {name!r}"
                raise CatalogError(who, what, got=sorted(map(str, dataset.data_vars)))
        return check_dataset(dataset, who=who, require=tuple(entry.variables))

    def fetch(
        self,
        catalog_id: str,
        root: str | os.PathLike[str] | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
    ) -> list[Path]:
        """Download an entry's files into the data root.

        Parameters
        ----------
        catalog_id : str
            Id of the entry.
        root : path-like, optional
            The data root; default `data_root`.
        start, end : str, optional
            First and last day, for collections fetched through earthaccess (which needs them).

        Returns
        -------
        list of Path
            The files. One that is there already with the right hash is not fetched again.

        Raises
        ------
        CatalogError
            If the entry can only be had by hand (the message says how), a download fails, or a hash differs; nothing
            is left under a file's final name then.
        """
        root = data_root(root)
        fetch, who = self.entry(catalog_id).fetch, self._who(catalog_id)
        if isinstance(fetch, FetchByHand):
            raise CatalogError(who, "these files cannot be fetched by a program", next_step=fetch.by_hand)
        if isinstance(fetch, FetchEarthaccess):
            return _fetch_earthaccess(who, fetch, root, start, end)
        return [_fetch_url(who, file, root) for file in fetch]
