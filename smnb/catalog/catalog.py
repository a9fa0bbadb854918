"""The data root, and the entries of a catalog file with what can be done with them: find, describe, open and fetch files."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from smnb.catalog.entries import Entry, FetchByHand, FetchEarthaccess, read_entries
from smnb.contract import CatalogError, ParameterError, check_dataset, closest, plain

CATALOG_NAME = "data_catalog.yaml"
ROOT_VARIABLE = "SMNB_DATA"  # environment variable that names the data root
#: A catalog found in the current folder may be anybody's: loaders that it may name are functions ``open_…`` of these modules and
#: packages, and any of those that the user names in the environment variable, with commas between.
_LOADERS, LOADERS_VARIABLE = ("smnb.loaders", "smnb.papers.batchu2023.released", "smnb_sandbox.truth"), "SMNB_LOADERS"
#: File in the data root that says that the archive is simulated, and what a sandbox has instead while it is being written.
SANDBOX_MARKER, UNFINISHED_MARKER = "SANDBOX.json", "SANDBOX.unfinished.json"
#: Data roots that this process has opened files of.
ROOTS: set[Path] = set()
_CHECKOUT = Path(__file__).resolve().parents[2]


def refuse_leaving(who: str, file: Path, named: Path) -> None:
    """Raise `CatalogError` where a file names another that is neither in its own folder nor in the data root that it is in."""
    folder = file.absolute().parent.resolve()
    if not any(named.resolve().is_relative_to(one) for one in (folder, *ROOTS) if folder.is_relative_to(one)):
        what, step = f"{file.name} names a file outside its folder and the data root", "Copy it there, or leave it out"
        raise CatalogError(who, what, got=str(named), next_step=step)


def _nearest_catalog() -> Path | None:
    """The nearest folder, from the current one upwards, that holds a catalog."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / CATALOG_NAME).is_file()), None)


def data_root(value: str | os.PathLike[str] | None = None) -> Path:
    """Folder that the catalog's files are relative to; absolute, it need not exist.

    An explicit `value`; else the environment variable ``SMNB_DATA``; else ``data/sandbox`` beside the nearest `data_catalog.yaml`
    in the current folder or above it, else in the current folder or, where that has none, in smnb's checkout.
    """
    chosen = value if value not in (None, "") else os.environ.get(ROOT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    here, nearest = Path.cwd(), _nearest_catalog()
    found = [nearest] if nearest else [one for one in (here, _CHECKOUT) if (one / "data" / "sandbox").is_dir()]
    return (found or [here])[0] / "data" / "sandbox"


def refuse_outside(who: str, key: str, paths: Iterable[Path], root: Path) -> None:
    """Raise if a path resolves outside the root: only a link can, since entries hold no absolute paths and no ``..``."""
    real_root = root.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(real_root):
            what, got = f"key {key!r}: {path.relative_to(root)} is a link out of the data root", str(path.resolve())
            expected = plain(f"a file inside {real_root}")
            next_step = f"Copy the file, or make {ROOT_VARIABLE} the folder that holds the data themselves"
            raise CatalogError(who, what, got=got, expected=expected, next_step=next_step)


@dataclass(frozen=True)
class Catalog:
    """The entries of one `data_catalog.yaml` by id, in the file's order, and what can be done with them.

    Methods take the data root as `root`, default `data_root`, and raise `CatalogError` for an unknown id.
    """

    path: Path
    entries: dict[str, Entry]

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Catalog:
        """Read and validate a catalog.

        Default: `data_catalog.yaml` in the current folder or the nearest one above it, else the one of the checkout that smnb is
        imported from. A `CatalogError` if it is absent or no YAML, a key is given twice, unknown or of a wrong type, or a path is
        not relative to the data root.
        """
        path = Path(path) if path is not None else (_nearest_catalog() or _CHECKOUT) / CATALOG_NAME
        return cls(path, read_entries(path))

    def entry(self, catalog_id: str) -> Entry:
        """Return one entry; raise `CatalogError`, which lists the known ids and the closest, if there is none of that id."""
        if catalog_id not in self.entries:
            known = sorted(self.entries)
            what, expected = "unknown catalog entry", plain("one of " + ", ".join(known))
            step = closest(catalog_id, known)
            raise CatalogError(self.path.name, what, got=catalog_id, expected=expected, next_step=step)
        return self.entries[catalog_id]

    def _who(self, catalog_id: str) -> str:
        return f"{self.path.name}:{catalog_id}"

    def _find(self, catalog_id: str, root: Path) -> list[Path]:
        """Files of an entry that exist; a file that resolves outside the root is an error."""
        named = {path for pattern in self.entry(catalog_id).files for path in root.glob(pattern)}
        # a name with a leading dot is a half-written file of smnb.files.atomic_path or of fetch, or the system's
        hidden = {path for path in named if any(part.startswith(".") for part in path.relative_to(root).parts)}
        found = sorted(path for path in named - hidden if path.is_file())
        refuse_outside(self._who(catalog_id), "files", found, root)
        ROOTS.add(root.resolve())
        return found

    def resolve(self, catalog_id: str, root: str | os.PathLike[str] | None = None) -> list[Path]:
        """Paths of an entry's files, sorted; `CatalogError` if the root is absent, no file matches, or one lies outside."""
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
        """Import an entry's loader; raise `CatalogError` if the module or the function does not exist, or may not be called.

        Loaders of smnb may, and those of the packages and modules that the environment variable ``SMNB_LOADERS`` names.
        """
        module_name, function_name = self.entry(catalog_id).loader.split(":")
        who, step = self._who(catalog_id), "Correct the key 'loader'"
        own = [name.strip() for name in os.environ.get(LOADERS_VARIABLE, "").split(",") if name.strip()]
        allowed = own if not function_name.startswith("open_") else [*own, *_LOADERS]
        if not any(f"{module_name}.".startswith(f"{name}.") for name in allowed):
            what, got = "key 'loader' names a function that is no loader of smnb", f"{module_name}:{function_name}"
            step = f"If you trust it, set the environment variable {LOADERS_VARIABLE}={module_name}"
            raise CatalogError(who, what, got=got, expected=plain("smnb.loaders.…:open_…"), next_step=step)
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # the loader exists and lacks one of its own dependencies: say that, not this
            raise CatalogError(who, f"key 'loader': there is no module {module_name!r}", next_step=step) from error
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [name for name in dir(module) if name.startswith("open_")]
            what = f"key 'loader': {module_name!r} has no function {function_name!r}"
            raise CatalogError(who, what, expected=known, next_step=closest(function_name, known) or step)
        return function

    def open(self, catalog_id: str, root: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """Open an entry through its loader.

        `options` are the loader's, and override the entry's own. Where the data root holds `SANDBOX.json` the data are marked as
        synthetic.

        Returns
        -------
        xarray.Dataset or InSituTables
            Under the data contract; the tables are what `smnb.loaders.insitu.open_insitu` returns.

        Raises
        ------
        CatalogError, ParameterError
            As `resolve` and `loader`, or if the loader does not return what the entry declares; if it knows no such option.
        """
        entry, who = self.entry(catalog_id), self._who(catalog_id)
        root = data_root(root)
        function = self.loader(catalog_id)
        merged = {**entry.options, **options}
        parameters = inspect.signature(function).parameters.values()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("catalog_id", "synthetic")]
        if unknown := [name for name in merged if name not in known]:
            what = f"{entry.loader} has no option {unknown[0]!r}"
            raise ParameterError(who, what, expected=known, next_step=closest(unknown[0], known))
        paths = self.resolve(catalog_id, root)
        synthetic = (root / SANDBOX_MARKER).is_file()
        if (root / UNFINISHED_MARKER).is_file() and not synthetic:
            what = f"{root} is a sandbox that was not written to its end"
            raise CatalogError(who, what, next_step="Run smnb sandbox again, which goes on where it was")
        dataset = function(paths, catalog_id=catalog_id, synthetic=synthetic, **merged)
        if not isinstance(dataset, xr.Dataset):
            return dataset.check(who)  # tables of in-situ readings check themselves
        if missing := [name for name in entry.variables if name not in dataset]:
            what = f"key 'variables': {entry.loader} returned no {missing[0]!r}"
            raise CatalogError(who, what, got=sorted(map(str, dataset.data_vars)))
        return check_dataset(dataset, who=who, require=tuple(entry.variables))

    def fetch(
        self,
        catalog_id: str,
        root: str | os.PathLike[str] | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        say: Callable[[str], Any] = print,
    ) -> list[Path]:
        """Download an entry's files into the data root, and return their paths; those there and whole are not fetched again.

        Parameters
        ----------
        start, end : str, optional
            First and last day, for collections fetched through earthaccess (which needs them).
        say : callable
            Is told which version of a collection is fetched (the entry's, else the newest), which are left out, and
            which files are fetched again since a killed download had cut them.

        Raises
        ------
        CatalogError
            If the entry can only be had by hand (the message says how), a download fails, or a hash or size differs;
            nothing new has a file's final name then but files that are whole.
        """
        from smnb.catalog.fetching import fetch_earthaccess, fetch_url

        root = data_root(root)
        fetch, who = self.entry(catalog_id).fetch, self._who(catalog_id)
        if isinstance(fetch, FetchByHand):
            raise CatalogError(who, "these files cannot be fetched by a program", next_step=fetch.by_hand)
        if isinstance(fetch, FetchEarthaccess):
            return fetch_earthaccess(who, fetch, root, start, end, say)
        return [fetch_url(who, file, root) for file in fetch]
