"""The data catalog: which products smnb can read, where their files are, and how to get them.

`data_catalog.yaml` holds one entry a product, keyed by its id. Files are globs relative to the *data root*
(`data_root`), and nothing outside that folder is ever opened. A simulated archive is laid out like a real one and is
recognised by a marker file, so one environment variable switches between them.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import xarray as xr
import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from smnb.contract import CatalogError, ParameterError, check_dataset, plain
from smnb.files import sha256_of

__all__ = ["CATALOG_NAME", "ROOT_VARIABLE", "SANDBOX_MARKER", "Catalog", "Entry", "data_root"]

CATALOG_NAME = "data_catalog.yaml"
#: Environment variable that names the data root.
ROOT_VARIABLE = "SMNB_DATA"
#: File in the data root that says that the archive is simulated.
SANDBOX_MARKER = "SANDBOX.json"
#: What a sandbox has instead while it is being written.
UNFINISHED_MARKER = "SANDBOX.unfinished.json"


def _ancestor_with(name: str, start: Path) -> Path | None:
    return next((folder for folder in (start, *start.parents) if (folder / name).is_file()), None)


def data_root(value: str | os.PathLike[str] | None = None) -> Path:
    """Folder that the catalog's files are relative to.

    Parameters
    ----------
    value : path-like, optional
        An explicit choice; else the environment variable ``SMNB_DATA``; else ``data/sandbox`` beside the nearest
        `data_catalog.yaml` in the current folder or above it, or in the current folder.

    Returns
    -------
    Path
        Absolute; it need not exist.
    """
    chosen = value if value not in (None, "") else os.environ.get(ROOT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    here = Path.cwd()
    return (_ancestor_with(CATALOG_NAME, here) or here) / "data" / "sandbox"


def _inside(path: str) -> str:
    """Refuse a path or glob that is not relative to the root, or climbs out of it."""
    if not path.strip() or PurePosixPath(path).is_absolute() or re.match(r"[A-Za-z]:|~|\\", path):
        raise ValueError(f"{path!r} is not a path relative to the data root")
    if ".." in re.split(r"[/\\]", path):
        raise ValueError(f"{path!r} leaves the data root")
    return path


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class NativeVariable(_Strict):
    """How a product itself calls a canonical variable."""

    native: str | list[str]
    """Name or names in the file."""
    units: str
    """Units in the file; the loader converts them and says so."""


class UrlFile(_Strict):
    """One file that can be fetched without a login."""

    url: str
    sha256: str
    path: str = ""
    """Destination relative to the data root; default the last part of the URL."""

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        if not re.match(r"https?://[^/\s]+/\S+$", url):
            raise ValueError(f"{url!r} is not an http(s) URL of a file")
        return url

    @field_validator("sha256")
    @classmethod
    def _sha256(cls, digest: str) -> str:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise ValueError("a SHA-256 is 64 hexadecimal digits")
        return digest.lower()

    @model_validator(mode="after")
    def _path(self) -> UrlFile:
        if not self.path:
            object.__setattr__(self, "path", PurePosixPath(self.url.split("?")[0]).name)
        _inside(self.path)
        return self


class FetchEarthaccess(_Strict):
    """Fetched with NASA's earthaccess (optional extra, free login)."""

    earthaccess: str
    """Short name of the collection."""
    folder: Annotated[str, Field(min_length=1)]
    """Destination folder relative to the data root."""

    @field_validator("folder")
    @classmethod
    def _folder(cls, folder: str) -> str:
        return _inside(folder)


class FetchByHand(_Strict):
    """Instructions to a person."""

    by_hand: Annotated[str, Field(min_length=1)]


def _kind_of_fetch(value: Any) -> Literal["url", "earthaccess", "by_hand"] | None:
    if isinstance(value, (list, tuple)):
        return "url"
    if isinstance(value, FetchEarthaccess) or (isinstance(value, dict) and "earthaccess" in value):
        return "earthaccess"
    if isinstance(value, FetchByHand) or (isinstance(value, dict) and "by_hand" in value):
        return "by_hand"
    return None


_Fetch = Annotated[
    Annotated[list[UrlFile], Field(min_length=1), Tag("url")]
    | Annotated[FetchEarthaccess, Tag("earthaccess")]
    | Annotated[FetchByHand, Tag("by_hand")],
    Discriminator(
        _kind_of_fetch,
        custom_error_type="fetch",
        custom_error_message="expected a list of {url, sha256}, or {earthaccess: …}, or {by_hand: …}",
    ),
]


class Entry(_Strict):
    """One product of the catalog.

    Every key of an entry in `data_catalog.yaml` is a field here; an unknown key is an error.
    """

    description: Annotated[str, Field(min_length=1)]
    """What the product is, in a sentence or two."""
    loader: str
    """``module:function`` of the loader."""
    files: Annotated[list[str], Field(min_length=1)]
    """Globs relative to the data root; an entry is present when at least one of them matches."""
    variables: Annotated[dict[str, NativeVariable], Field(min_length=1)]
    """Canonical variables that the loader must return, with their native names and units."""
    licence: Annotated[str, Field(min_length=1)]
    doi: Annotated[str, Field(pattern=r"^10\.\d{4,9}/\S+$")] | None = None
    landing_page: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    fetch: _Fetch
    options: dict[str, Any] = {}
    """Default options of the loader."""

    @field_validator("loader")
    @classmethod
    def _loader(cls, loader: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", loader):
            raise ValueError(f"{loader!r} is not of the form 'package.module:function'")
        return loader

    @field_validator("files")
    @classmethod
    def _files(cls, files: list[str]) -> list[str]:
        return [_inside(pattern) for pattern in files]

    @model_validator(mode="after")
    def _fetched_files_are_found(self) -> Entry:
        if isinstance(self.fetch, list):
            for file in self.fetch:
                if not any(PurePosixPath(file.path).match(pattern.replace("**/", "*")) for pattern in self.files):
                    raise ValueError(f"fetch would write {file.path!r}, which matches none of the globs in 'files'")
        return self

    def how_to_get(self) -> str:
        """Say how a user gets the files."""
        if isinstance(self.fetch, FetchByHand):
            return self.fetch.by_hand
        if isinstance(self.fetch, FetchEarthaccess):
            return f"fetch with earthaccess (NASA Earthdata login): {self.fetch.earthaccess} into {self.fetch.folder}/"
        return "fetch by URL: " + ", ".join(file.url for file in self.fetch)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping after checking that its keys differ."""
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int, float, bool)) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice (first on line {seen[key]})", key_node.start_mark
                )
            if isinstance(key, (str, int, float, bool)):
                seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


def _closest(name: str, known: list[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {match[0]!r}? " if match else ""


def _validation_error(path: Path, entry_id: str, error: ValidationError) -> CatalogError:
    problem = error.errors()[0]
    keys = [str(part) for part in problem["loc"]]
    if keys[:1] == ["fetch"] and len(keys) > 1:
        del keys[1]  # the tag of the union, which is no key of the file
    where, key = f"{path.name}:{entry_id}", ".".join(keys) or "the entry"
    more = len(error.errors()) - 1
    rest = f" (and {more} more problem{'s' * (more > 1)})" if more else ""
    got = problem.get("input")
    got = None if isinstance(got, (dict, list)) and len(str(got)) > 80 else got
    if problem["type"] == "extra_forbidden":
        known = list(Entry.model_fields) if len(keys) == 1 else None
        hint = _closest(keys[-1], known or ["native", "units", "url", "sha256", "path", "folder"])
        return CatalogError(
            where, f"unknown key {key!r}{rest}", expected=known, next_step=f"{hint}Correct or remove the key"
        )
    if problem["type"] == "missing":
        return CatalogError(where, f"key {key!r} is missing{rest}", next_step="Add it; see the other entries")
    message = problem["msg"].removeprefix("Value error, ")
    return CatalogError(where, f"key {key!r}: {message}{rest}", got=got, next_step=f"Correct {key!r} in {path}")


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
            folder = _ancestor_with(CATALOG_NAME, Path.cwd()) or Path(__file__).resolve().parents[1]
            path = folder / CATALOG_NAME
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CatalogError(
                str(path), f"the catalog cannot be read ({error.__class__.__name__})",
                next_step=f"Run from a folder at or below one that holds {CATALOG_NAME}, or pass its path",
            ) from error  # fmt: skip
        try:
            # a subclass of SafeLoader: it constructs plain data only
            content = yaml.load(text, Loader=_UniqueKeyLoader)
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
                raise _validation_error(path, entry_id, error) from error
        return cls(path, entries)

    def entry(self, catalog_id: str) -> Entry:
        """Return one entry.

        Raises
        ------
        CatalogError
            If there is none of that id; the message lists the known ones and the closest.
        """
        if catalog_id not in self.entries:
            known = sorted(self.entries)
            raise CatalogError(
                self.path.name, "unknown catalog entry", got=catalog_id, expected=plain("one of " + ", ".join(known)),
                next_step=_closest(str(catalog_id), known) or None,
            )  # fmt: skip
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
                    raise CatalogError(
                        self._who(catalog_id), f"key 'files': {path.relative_to(root)} is a link out of the data root",
                        got=str(path.resolve()), expected=plain(f"a file inside {real_root}"),
                        next_step=f"Copy the file, or make {ROOT_VARIABLE} the folder that holds the data themselves",
                    )  # fmt: skip
                found[path] = None
        return sorted(found)

    def resolve(self, catalog_id: str, root: str | os.PathLike[str] | None = None) -> list[Path]:
        """Paths of an entry's files, sorted.

        Parameters
        ----------
        catalog_id : str
            Id of the entry.
        root : path-like, optional
            The data root; default `data_root`.

        Raises
        ------
        CatalogError
            If the entry is unknown, the root is absent, no file matches, or a file lies outside the root.
        """
        root = data_root(root)
        entry = self.entry(catalog_id)
        if not root.is_dir():
            raise CatalogError(
                self._who(catalog_id), "the data root is not a folder", got=str(root),
                next_step=f"Set {ROOT_VARIABLE} to your archive, or write the sandbox with: smnb sandbox",
            )  # fmt: skip
        paths = self._find(catalog_id, root)
        if not paths:
            raise CatalogError(
                self._who(catalog_id), "no file matches the entry's key 'files'",
                got=plain(f"nothing for {', '.join(entry.files)} under {root}"), next_step=entry.how_to_get(),
            )  # fmt: skip
        return paths

    def status(self, root: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
        """Which entries are present under a root.

        Returns
        -------
        list of dict
            Per entry: ``id``, ``description``, ``present``, ``n_files``, ``bytes``, ``how_to_get``, and ``problem``
            (None, or why the files cannot be used).
        """
        root = data_root(root)
        rows = []
        for catalog_id, entry in self.entries.items():
            problem, paths = None, []
            try:
                paths = self._find(catalog_id, root) if root.is_dir() else []
            except CatalogError as error:
                problem = str(error)
            rows.append({
                "id": catalog_id, "description": entry.description, "present": bool(paths), "n_files": len(paths),
                "bytes": sum(path.stat().st_size for path in paths), "how_to_get": entry.how_to_get(),
                "problem": problem,
            })  # fmt: skip
        return rows

    def fingerprint(self, catalog_id: str, root: str | os.PathLike[str] | None = None) -> str:
        """SHA-256 over relative names, sizes and modification times of an entry's files, without reading them."""
        root = data_root(root)
        digest = hashlib.sha256()
        for path in self.resolve(catalog_id, root):
            stat = path.stat()
            digest.update(f"{path.relative_to(root).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def loader(self, catalog_id: str) -> Callable[..., xr.Dataset]:
        """Import an entry's loader.

        Raises
        ------
        CatalogError
            If the module or the function does not exist.
        """
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
            raise CatalogError(
                who, f"{key} {module_name!r} has no function {function_name!r}", expected=known,
                next_step=f"{_closest(function_name, known)}Correct the key 'loader'",
            )  # fmt: skip
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
                raise ParameterError(
                    who, f"{entry.loader} has no option {name!r}", expected=known,
                    next_step=_closest(name, known) or None,
                )  # fmt: skip
        paths = self.resolve(catalog_id, root)
        synthetic = (root / SANDBOX_MARKER).is_file()
        if (root / UNFINISHED_MARKER).is_file() and not synthetic:
            raise CatalogError(
                who, f"{root} is a sandbox that was not written to its end",
                next_step="Run smnb sandbox again, which goes on where it was",
            )  # fmt: skip
        dataset = function(paths, catalog_id=catalog_id, synthetic=synthetic, **merged)
        if not isinstance(dataset, xr.Dataset):
            return dataset.check(who)  # tables of in-situ readings check themselves
        for name in entry.variables:
            if name not in dataset:
                raise CatalogError(
                    who,
                    f"key 'variables': {entry.loader} returned no {name!r}",
                    got=sorted(map(str, dataset.data_vars)),
                )
        return check_dataset(dataset, who=who, require=tuple(entry.variables))

    def fetch(
        self, catalog_id: str, root: str | os.PathLike[str] | None = None, *,
        start: str | None = None, end: str | None = None,
    ) -> list[Path]:  # fmt: skip
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
        raise CatalogError(
            who, f"{final} is there with another SHA-256", got=digest, expected=file.sha256,
            next_step="Move it away if it is an old version or damaged, and fetch again",
        )  # fmt: skip
    try:
        pooch.retrieve(file.url, known_hash=f"sha256:{file.sha256}", fname=final.name, path=final.parent)
    except ValueError as error:
        raise CatalogError(
            who, f"what {file.url} sent has another SHA-256 and was discarded", expected=file.sha256,
            next_step="Try again; if it persists the provider changed the file, and the catalog needs its new hash",
        ) from error  # fmt: skip
    except (RequestException, OSError) as error:
        raise CatalogError(
            who, f"{file.url} cannot be fetched ({error.__class__.__name__}: {error})",
            next_step="Check the network and the URL",
        ) from error  # fmt: skip
    return final


def _fetch_earthaccess(who: str, fetch: FetchEarthaccess, root: Path, start: str | None, end: str | None) -> list[Path]:
    if start is None or end is None:
        raise ParameterError(who, "a NASA collection is fetched for a period", next_step="Pass start and end")
    folder = root / fetch.folder
    if not folder.resolve().is_relative_to(root.resolve()):
        raise CatalogError(who, f"key 'fetch.folder': {fetch.folder} leads out of the data root")
    try:
        import earthaccess
    except ImportError as error:
        raise CatalogError(
            who, f"fetching {fetch.earthaccess} needs the optional package earthaccess",
            next_step="Install it with: pip install 'smnb[earthaccess]'",
        ) from error  # fmt: skip
    earthaccess.login()
    granules = earthaccess.search_data(short_name=fetch.earthaccess, temporal=(start, end))
    if not granules:
        raise CatalogError(who, f"NASA has no granule of {fetch.earthaccess} in this period", got=(start, end))
    folder.mkdir(parents=True, exist_ok=True)
    return sorted(Path(path) for path in earthaccess.download(granules, folder))
