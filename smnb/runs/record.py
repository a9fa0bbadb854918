"""The run record: what a notebook was given, what it read, where it ran, and what it found, as JSON."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue, RootModel

import smnb
from smnb.contract import FormatError, ParameterError, RunError
from smnb.files import HASHES, AnyMapping, Kept, content_of, fingerprint, note, plain_json, read_json, write_json

from . import parameters as declarations

SCHEMA_VERSION = 1
#: Packages whose version can change a number.
KEY_PACKAGES = "numpy scipy pandas xarray dask scikit-learn torch lightning h5py netcdf4 pyproj papermill"


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number, and Python's."""
    there = {"python": platform.python_version(), "smnb": smnb.__version__}
    for name in KEY_PACKAGES.split():
        found = next(iter(metadata.distributions(name=name)), None)
        there[name] = "absent" if found is None else found.version
    return there


def library_fingerprint() -> str:
    """SHA-256 over the names and contents of the library's own source files and tables (no git needed)."""
    root = Path(smnb.__file__).parent
    return fingerprint_files([path for kind in ("*.py", "*.yaml") for path in root.rglob(kind)], root)["sha256"]


def fingerprint_files(paths: Iterable[Path], root: Path, cache: Path | None = None) -> dict[str, Any]:
    """How many files, their bytes, and a SHA-256 over names (relative to `root`) and contents; `cache` as `content_of`."""
    files = sorted(Path(path) for path in paths)
    digest = hashlib.sha256()
    for path, content in zip(files, content_of(files, cache), strict=True):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        digest.update(f"{name}\0{content}\n".encode())
    size = sum(path.stat().st_size for path in files)
    return {"files": len(files), "bytes": size, "sha256": digest.hexdigest(), "by": "content"}


class Run:
    """One execution of a notebook: checked parameters, a folder for outputs, and the record to write.

    Attributes
    ----------
    parameters : dict
        Values as the notebook was given them; None where the preset decides.
    settings : types.SimpleNamespace
        The same with the preset's values filled in: ``run.settings.epochs``.
    base, out : Path
        Folder of the whole run: the parameter ``out_dir``, else ``SMNB_RUN_DIR`` (`smnb run` sets it), else one in ``runs/``
        beside the notebooks, named by notebook and settings: other settings, or another archive, do not write over it.
        And the notebook's own folder in it, for all that it writes.
    synthetic, device
        Whether any data came from a sandbox, None until `fingerprint_data` was called; where it computed, by default the setting.
    """

    def __init__(self, source: Path, parameters: dict[str, Any], settings: dict[str, Any], base: Path) -> None:
        self.source, self.notebook, self.base = source, source.stem, base
        self.out = base / source.stem
        self.out.mkdir(parents=True, exist_ok=True)
        self.parameters, self.settings = parameters, SimpleNamespace(**settings)
        self.synthetic: bool | None = None
        self.device: str | None = settings.get("device")
        self._data: dict[str, Any] = {}
        self._metrics: dict[str, Any] = {}
        self._not_finite: dict[str, str] = {}
        self._tables: dict[str, Any] = {}
        self._started, self._clock = datetime.now(UTC), time.perf_counter()

    @classmethod
    def start(cls, notebook: str, namespace: Mapping[str, Any]) -> Run:
        """Check a notebook's parameters and begin its record: ``Run.start("02_train_amsre_cnn_svr", globals())``.

        Values, and IPython's history of what papermill injected, are found in the namespace.

        `ParameterError` for an injected name that the notebook does not declare, a value of the wrong type, an unknown preset,
        or when the parameters cell was not executed.
        """
        folder = declarations.notebook_folder(holding=f"{notebook}.ipynb")
        source = declarations.find_notebook(notebook, folder)
        declared = declarations.declared_parameters(source)
        history = namespace.get("In") or namespace.get("_ih") or []
        declarations.refuse_unknown(source.stem, declarations.injected_names(history), declared)
        absent = [name for name in declared if name not in namespace]
        if absent:
            step = "Execute the cell tagged 'parameters' first"
            raise ParameterError(source.stem, "parameters have no value", got=absent, next_step=step)
        values = {name: parameter.check(source.stem, namespace[name]) for name, parameter in declared.items()}
        settings = dict(values)
        if "preset" in values:
            chosen = declarations.preset_settings(source, values["preset"])
            settings.update({name: value for name, value in chosen.items() if values[name] is None})
        base = values.get("out_dir") or os.environ.get("SMNB_RUN_DIR")
        if not base:  # a run of one notebook by itself, named by what decides its results
            mark = fingerprint([_decisive(settings), _archive(source)])
            base = _runs_root(source) / f"{source.stem}-{mark[:8]}"
        return cls(source, values, settings, Path(base).resolve())

    def folder(self, notebook: str) -> Path:
        """Folder of another notebook's files: in this run; else, of a notebook executed by itself, in the latest run.

        A run by itself (papermill, JupyterLab) counts when it finished, read the same archive, and had the same values
        of all parameters that both notebooks declare. Where there is none the folder is in this run, maybe absent.
        """
        here = self.base / notebook
        runs = _runs_root(self.source)
        if here.is_dir() or self.base.parent != runs or not self.base.name.startswith(f"{self.notebook}-"):
            return here
        mine = _decisive(vars(self.settings))
        records = runs.glob(f"{notebook}-*/{notebook}.record.json")
        for path in sorted(records, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            record = read_record(path)
            theirs = _decisive(record["parameters"])
            same = all(mine[name] == theirs[name] for name in mine.keys() & theirs.keys())
            if same and record.get("archive") == _archive(self.source):
                return path.parent / notebook
        return here

    def record(self, metrics: Mapping[str, Any] | None = None, **tables: Any) -> None:
        """Add scores and tables to the record; a second value under the same name replaces the first.

        `metrics` are nested, with numbers as leaves, by custom ``{model: {split: {metric: value}}}``: the report makes a row of
        model and split, and a column of the metric. NaN and infinity are kept as null and listed by path. `RunError` when
        a leaf is not one number, or a table is no DataFrame.
        """
        for path, value in leaves(metrics or {}):
            number = self._number(path, value)
            level = self._metrics
            for key in path[:-1]:
                level = level.setdefault(key, {})
                if not isinstance(level, dict):
                    raise RunError(self.notebook, f"metric {'.'.join(path)!r} lies below a number", got=level)
            if isinstance(level.get(path[-1]), dict):
                raise RunError(self.notebook, f"metric {'.'.join(path)!r} would replace a group of metrics")
            level[path[-1]] = number
        for name, table in tables.items():
            if not hasattr(table, "columns"):
                raise RunError(self.notebook, f"table {name!r} is no DataFrame", got=type(table).__name__)
            split = table.to_dict("split")
            labels = {axis: [str(label) for label in split[axis]] for axis in ("columns", "index")}
            self._tables[name] = labels | {"rows": plain_json(split["data"])}

    def _number(self, path: tuple[str, ...], value: Any) -> float | int | None:
        name = ".".join(path)
        if hasattr(value, "item"):  # a scalar or array of one value of numpy, xarray or torch
            try:
                value = value.item()
            except (ValueError, RuntimeError) as error:
                raise RunError(self.notebook, f"metric {name!r} holds more than one number") from error
        if not isinstance(value, int | float):
            what, step = f"metric {name!r} is not one number", "Reduce it first, or pass a DataFrame as a table"
            raise RunError(self.notebook, what, got=type(value).__name__, next_step=step)
        self._not_finite.pop(name, None)
        if math.isfinite(value):
            return value
        self._not_finite[name] = str(float(value))
        return None

    def fingerprint_data(
        self, catalog: Any, ids: str | Sequence[str], root: str | os.PathLike[str] | None = None
    ) -> dict[str, Any]:
        """Fingerprint the files of catalog entries, for the record, and note whether they are synthetic."""
        from smnb.catalog import SANDBOX_MARKER, data_root

        folder = data_root(root)
        for one in [ids] if isinstance(ids, str) else ids:
            self._data[one] = fingerprint_files(catalog.resolve(one, root=folder), folder, self.base.parent / HASHES)
        self.synthetic = bool(self.synthetic) or (folder / SANDBOX_MARKER).is_file()
        return dict(self._data)

    def finish(self) -> Path:
        """Write the record to ``<base>/<notebook>.record.json`` (whole or not at all) and return its path."""
        torch = sys.modules.get("torch")  # it is not loaded for this
        content = {
            "schema_version": SCHEMA_VERSION,
            "notebook": self.notebook,
            "preset": getattr(self.settings, "preset", None),
            "parameters": vars(self.settings),
            "given": self.parameters,
            "archive": _archive(self.source),
            "data": self._data,
            "synthetic": self.synthetic,
            "library": {"version": smnb.__version__, "sha256": library_fingerprint()},
            "packages": package_versions(),
            "platform": platform.platform(),
            "device": self.device,
            "accelerator": torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None,
            "seed": getattr(self.settings, "seed", None),
            "started": self._started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - self._clock, 3),
            "metrics": self._metrics,
            "not_finite": self._not_finite,
            "tables": self._tables,
        }
        return write_json(self.base / f"{self.notebook}.record.json", plain_json(content))


def _runs_root(source: Path) -> Path:
    """Where runs of a notebook's project are kept, whatever the working folder is."""
    return source.parent.parent.resolve() / "runs"


def _archive(source: Path) -> str:
    """The data root that a notebook reads unless a parameter names another, as its record has it."""
    chosen = archive_of(None, source.parent)
    return "data/sandbox" if chosen == _sandbox(source.parent) else str(chosen)


def _sandbox(folder: Path) -> Path:
    return (folder.resolve().parent / "data" / "sandbox").resolve()


def archive_of(root: str | os.PathLike[str] | None, folder: Path) -> Path:
    """Data root, absolute, as a kernel has another working folder: the given, ``SMNB_DATA``, or the notebooks' sandbox."""
    return Path(root or os.environ.get("SMNB_DATA") or _sandbox(folder)).expanduser().resolve()


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that decide what a notebook finds, not where it computes or writes."""
    return {name: value for name, value in settings.items() if name not in ("out_dir", "device", "devices", "workers")}


def leaves(metrics: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Path and value of each number of nested metrics."""
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


class _Metrics(RootModel[dict[str, "int | float | _Metrics | None"]]):
    """Nested numbers."""


class _Record(Kept):
    """What `Run.finish` writes; here is what is read of it."""

    model_config = ConfigDict(extra="allow")
    schema_version: Literal[SCHEMA_VERSION]
    notebook: str
    metrics: _Metrics
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    archive: str | None = None
    synthetic: bool | None = None
    device: str | None = None
    wall_seconds: float | None = None


def read_state(out: Path, notebook: str) -> dict[str, Any]:
    """What a notebook was when it last succeeded in a run; empty if it did not, or if that is damaged, which is said."""
    path = out / f"{notebook}.state.json"
    try:
        return read_json(path, AnyMapping, "the state of a notebook").root if path.is_file() else {}
    except FormatError as damaged:
        note(f"{damaged} {notebook} counts as not run.")
        return {}


def read_record(path: Path) -> dict[str, Any]:
    """Read a run record of the schema that this version knows; else raise `RunError`."""
    step = "Execute the notebook again, with --force"
    return read_json(path, _Record, "a run record", error=RunError, next_step=step, by_hand=True).model_dump()
