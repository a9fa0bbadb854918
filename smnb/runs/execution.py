"""Execute notebooks headless: a small graph, one papermill process each, skipping what is up to date."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import smnb
from smnb import files
from smnb.contract import CatalogError, FormatError, ParameterError, RunError
from smnb.files import HASHES, atomic_path, content_of, fingerprint, note, write_json, write_text

from . import parameters as declarations
from .parameters import find_notebook, read_notebook
from .record import archive_of, fingerprint_files, library_fingerprint, package_versions, read_record, read_state
from .worker import PREFIX, hold

#: ``progress(notebook, status, cells_done, cells)``, with status one of start, cell, done, skipped, failed, blocked.
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class NotebookResult:
    """What became of one notebook of a run."""

    notebook: str
    status: str  # done, skipped (up to date), failed, or blocked (it needs one that failed)
    seconds: float
    message: str  # why it was executed, or what failed in which cell


class _CellError(Exception):
    """A notebook failed; the text says in which cell and why."""


#: What tells BLAS, OpenMP (torch), numba and dask's threaded scheduler how many threads to start.
_THREAD_VARIABLES = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")]
_THREAD_VARIABLES += ["VECLIB_MAXIMUM_THREADS", "DASK_NUM_WORKERS"]
#: Seconds between two looks at whether a notebook is still wanted, and those that a process may take to end.
_LOOK, _GRACE = 0.5, 30.0


@dataclass(frozen=True)
class Job:
    """What a run executes; paths are absolute, so that it can be done on another machine that has them.

    `folder` is that of the notebooks, `root` the data root, `threads` what the notebooks' libraries start (None: as the
    environment says), and `patience` how many seconds to wait for another process that executes this run.
    """

    out: Path
    notebooks: tuple[str, ...] | None
    preset: str
    parameters: dict[str, Any]
    folder: Path
    root: Path
    force: bool = False
    threads: int | None = None
    patience: float = 0.0


def check_run_name(who: str, name: str) -> None:
    """Raise unless a name is that of one plain folder."""
    if not name or name != Path(name).name or name.startswith("."):
        raise ParameterError(who, "a name is one plain folder name", got=name)


def run_notebooks(
    name: str,
    notebooks: Sequence[str] | None = None,
    preset: str = "quick",
    parameters: Mapping[str, Any] | None = None,
    *,
    runs_root: str | os.PathLike[str] = "runs",
    root: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[NotebookResult]:
    """Execute notebooks through papermill into ``<runs_root>/<name>``, and those that they need before them.

    A notebook is skipped when its source, its parameters, the library, the data, the packages and what it needs are
    as they were when it last succeeded. So a run that was killed goes on where it was when it is started again.

    Parameters
    ----------
    name : str
        Its folder holds ``<notebook>.ipynb``, ``<notebook>.record.json`` and what notebooks write.
    notebooks : sequence of str, optional
        Names or numbers; default all. A notebook's metadata ``smnb: {needs: [...]}`` names those it needs.
    preset, parameters
        A file of ``notebooks/params``, and values for every notebook that declares the name.
    root : path-like, optional
        Data root; default ``SMNB_DATA``, else the sandbox beside the notebooks. `force` executes also what is up to date.

    Returns
    -------
    list of NotebookResult
        In the order of execution. A failure does not raise: it is in the result, and those that need it are blocked.

    Raises
    ------
    ParameterError, RunError
        For an unknown notebook, preset or parameter, or a value of the wrong type: before anything is executed. When
        notebooks need each other in a circle, or another process executes a run of this name.
    """
    check_run_name("smnb run", name)
    folder, out = declarations.notebook_folder(), Path(runs_root).resolve() / name
    chosen = tuple(notebooks) if notebooks else None
    job = Job(out, chosen, preset, dict(parameters or {}), folder, archive_of(root, folder), force)
    return execute_run(job, progress or (lambda *_: None))


def execute_run(
    job: Job, report: Progress = lambda *_: None, unwanted: Callable[[], bool] = lambda: False
) -> list[NotebookResult]:
    """Execute what `run_notebooks` says; a notebook under way is stopped when `unwanted` says so."""
    order = notebooks_in_order(job.notebooks, job.folder)
    given = parameters_of(order, job.preset, job.parameters, job.folder)
    job.out.mkdir(parents=True, exist_ok=True)
    results: list[NotebookResult] = []
    library, packages = library_fingerprint(), package_versions()
    with hold(job.out / ".lock", job.out.name, patience=job.patience):
        files.remove_stale_partials(job.out)
        for path in order:
            needs = read_notebook(path).metadata.smnb.needs
            bad = [r.notebook for r in results if r.status in ("failed", "blocked") and r.notebook in needs]
            if bad:
                result = NotebookResult(path.stem, "blocked", 0.0, f"needs {bad[0]}, which did not succeed")
            else:
                preset = given[path].get("preset")
                settings = {} if preset is None else declarations.preset_settings(path, preset)
                state = {"notebook": _source_fingerprint(path)}
                state |= {"parameters": {"given": given[path], "preset": settings}, "library": library}
                state |= {"packages": packages, "data": _data_fingerprint(path, job, {**settings, **given[path]})}
                read = [*needs, *_read_by(path)]
                state["needs"] = {need: read_state(job.out, need).get("finished") for need in read}
                result = _bring_up_to_date(path, state, job, report, unwanted)
            results.append(result)
            report(path.stem, result.status, 0, 0)
    return results


def _bring_up_to_date(
    path: Path, state: dict[str, Any], job: Job, report: Progress, unwanted: Callable[[], bool]
) -> NotebookResult:
    """Execute one notebook unless its state is the stored one."""
    old, final = read_state(job.out, path.stem), job.out / f"{path.stem}.ipynb"
    changed = [key for key, value in state.items() if old.get(key) != value]
    try:
        for made, read in ((final, read_notebook), (job.out / f"{path.stem}.record.json", read_record)):
            if old and made.is_file():
                read(made)
    except (FormatError, RunError) as damaged:
        note(f"{damaged} {path.stem} is executed again.")
        changed.append(made.name)
    if not job.force and not changed and final.is_file():
        return NotebookResult(path.stem, "skipped", 0.0, "up to date")
    for stale in ("state.json", "record.json", "failed.ipynb", "failed.html"):
        (job.out / f"{path.stem}.{stale}").unlink(missing_ok=True)
    status, message = "done", "forced" if job.force else f"{', '.join(changed)} changed" if old else "not run yet"
    began = time.perf_counter()
    try:
        _execute(path, state["parameters"]["given"], final, _environment(job), report, unwanted)
    except _CellError as error:
        status, message = "failed", str(error)
    seconds = round(time.perf_counter() - began, 2)
    if status == "done":
        facts = {"finished": datetime.now(UTC).isoformat(), "seconds": seconds}
        write_json(job.out / f"{path.stem}.state.json", state | facts)
    return NotebookResult(path.stem, status, seconds, message)


def _execute(
    path: Path, parameters: Any, final: Path, environment: dict, report: Progress, unwanted: Callable[[], bool]
) -> None:
    """Execute one notebook in a worker process; its output gets its final name only when every cell succeeded."""
    report(path.stem, "start", 0, len(read_notebook(path).cells) + bool(parameters))  # papermill adds a cell for them
    failure: dict[str, Any] = {}
    last, stopped = "no message", threading.Event()
    with atomic_path(final) as partial:
        paths = {"source": path, "output": partial, "cwd": path.parent, "lock": final.parent / ".worker"}
        told = json.dumps({"parameters": parameters} | {name: str(one) for name, one in paths.items()})
        how = {"env": environment, "text": True, "errors": "replace"}
        how |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([sys.executable, "-m", "smnb.runs.worker", told], **how)

        def look() -> None:
            while process.poll() is None and not stopped.wait(_LOOK):
                if unwanted():
                    stopped.set()
                    _end(process)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            for line in process.stdout or ():
                if not line.startswith(PREFIX):
                    last = line.rstrip() or last
                    continue
                event = json.loads(line.removeprefix(PREFIX))
                if event["event"] == "cell":
                    report(path.stem, "cell", event["done"], event["total"])
                elif event["event"] == "failed":
                    failure = event
            process.wait()
        except BaseException:  # Ctrl-C too
            _end(process)
            raise
        watcher.join()
        if stopped.is_set():
            raise _CellError("stopped, since it is no longer wanted")
        if failure:
            if partial.stat().st_size:
                files.write_bytes(final.with_name(f"{path.stem}.failed.ipynb"), partial.read_bytes())
            cell = f"cell In[{failure['cell']}] ({failure['line']})" if failure["cell"] else "a cell"
            raise _CellError(" ".join(f"{cell} failed: {failure['error']}".split()))
        if process.returncode:
            raise _CellError(f"papermill ended with status {process.returncode}: {last}")


def _end(process: subprocess.Popen) -> None:
    """Tell a worker to stop; it ends its notebook's kernel before itself."""
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def notebooks_in_order(notebooks: Sequence[str] | None, folder: Path) -> list[Path]:
    """Notebooks asked for and those they need, each after what it needs."""
    wanted = [find_notebook(one, folder) for one in notebooks or []] or sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    order: list[Path] = []

    def visit(path: Path, above: tuple[str, ...]) -> None:
        if path.stem in above:
            raise RunError("smnb run", "notebooks need each other in a circle", got=[*above, path.stem])
        if path in order:
            return
        for need in read_notebook(path).metadata.smnb.needs:
            visit(find_notebook(need, folder), (*above, path.stem))
        order.append(path)

    for path in wanted:
        visit(path, ())
    return order


def parameters_of(
    order: Sequence[Path], preset: str, values: dict[str, Any], folder: Path
) -> dict[Path, dict[str, Any]]:
    """Return the checked parameters of each notebook: the preset file's, then those of the caller that it declares."""
    common = declarations.preset_parameters(preset, folder)
    declared = {path: declarations.declared_parameters(path) for path in order}
    declarations.refuse_unknown("smnb run", values, sorted({name for names in declared.values() for name in names}))
    found = {}
    for path, names in declared.items():
        own = {name: value for name, value in values.items() if name in names}
        found[path] = declarations.check_parameters(path, common | own)
    return found


def _source_fingerprint(path: Path) -> str:
    """Hash what a notebook computes from: cells' kinds, tags and sources, and smnb's metadata; not stored outputs."""
    content = read_notebook(path)
    cells = [(cell.cell_type, cell.source, cell.metadata.tags) for cell in content.cells]
    return fingerprint([cells, content.metadata.smnb.model_dump()])


def _read_by(path: Path) -> list[str]:
    """Notebooks whose files a notebook takes where they are there: ``run.folder("05_train_multisource")``."""
    cells = read_notebook(path).cells
    return sorted({one for cell in cells for one in re.findall(r"""\.folder\(["'](\w+)""", cell.source)})


def _data_fingerprint(path: Path, job: Job, values: Mapping[str, Any]) -> dict[str, Any]:
    """By content what a notebook reads: entries that its metadata names, else the whole root; files that parameters name."""
    from smnb.catalog import Catalog

    prints: dict[str, Any] = {}
    cache, root = job.out.parent / HASHES, path.parent / (values.get("data_root") or job.root)
    ids, beside = read_notebook(path).metadata.smnb.catalog_ids, path.parent.parent / "data_catalog.yaml"
    if ids is None:
        there = [file for file in root.rglob("*") if file.is_file()] if root.is_dir() else []
        prints["root"] = fingerprint_files(there, root, cache)
        prints["catalog"] = content_of([beside]) if beside.is_file() else None
    catalog = Catalog.load(beside if beside.is_file() else None) if ids else None
    for one in ids or ():
        read = catalog.entry(one).model_dump(mode="json", include={"loader", "files", "variables", "options"})
        try:
            found = fingerprint_files(catalog.resolve(one, root=root), root, cache)
        except CatalogError as error:  # absent files are a state too; the notebook says so if it needs them
            found = f"absent: {error.what}"
        prints[one] = {"files": found, "entry": fingerprint(read)}
    for name, value in values.items():
        if name in ("out_dir", "data_root"):
            continue
        named = [path.parent / one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
        named = [own for one in named if (own := _own_file(one, path.parent))]
        if named:
            prints[f"parameter {name}"] = content_of(named, cache)
    return prints


def _own_file(named: Path, folder: Path) -> Path | None:
    """The file or folder of a parameter's value: a path, or ``module:Class`` of the user's."""
    if module := re.fullmatch(r"([A-Za-z_]\w*)[\w.]*:[\w.]+", named.name):
        spec = PathFinder.find_spec(module[1], [str(folder), *sys.path])
        if module[1] == "smnb" or spec is None or spec.origin is None:
            return None
        return Path(spec.submodule_search_locations[0]) if spec.submodule_search_locations else Path(spec.origin)
    return named if named != folder and named.exists() else None


#: glibc gives no freed memory back while a notebook runs: training on a CPU need not ask for it again at every step. These
#: processes are smnb's own and end with their notebook; a kernel of the user's is left as it is.
_KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}


def _environment(job: Job) -> dict[str, str]:
    """Environment of a worker: this interpreter as the kernel, this library, this run's folders."""
    environment = _KEEP_FREED_MEMORY | dict(os.environ)
    kernels = job.out / ".kernel"
    # 'python3' found elsewhere, such as in the user's home, may start another interpreter
    launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": launch, "display_name": "Python 3", "language": "python"}
    write_text(kernels / "kernels" / "python3" / "kernel.json", json.dumps(spec))
    first = {"JUPYTER_PATH": kernels, "PATH": Path(sys.executable).parent, "PYTHONPATH": Path(smnb.__file__).parents[1]}
    for variable, value in first.items():
        environment[variable] = os.pathsep.join(filter(None, [str(value), environment.get(variable)]))
    if job.threads is not None:
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(job.threads))
    folders = {"SMNB_RUN_DIR": job.out, "SMNB_NOTEBOOK_DIR": job.folder, "SMNB_DATA": job.root}
    return environment | {variable: str(folder) for variable, folder in folders.items()}
