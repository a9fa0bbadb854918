"""Parameter sweeps: one notebook executed with many parameters, here, on this machine's cores, or on a Dask cluster."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smnb.contract import ParameterError, RunError, SmnbError, check_count, plain
from smnb.files import fingerprint, write_json, write_text

from .execution import Job, check_run_name, execute_run, notebooks_in_order, parameters_of
from .parameters import declared_parameters, notebook_folder, preset_settings, refuse_unknown
from .record import archive_of, leaves, library_fingerprint, read_record, read_state
from .report import names_in, write_report, write_sweep_page
from .worker import hold

if TYPE_CHECKING:
    import pandas as pd

#: Values by parameter, of which every combination is a member; or the members themselves.
Grid = Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]]
#: ``progress(member, status, members_done, members)``, with status one of done, skipped, failed.
SweepProgress = Callable[[str, str, int, int], None]

SCHEMA_VERSION = 1
#: Columns beside parameters and metrics, so no parameter of a grid may have their names.
COLUMNS = ("member", "status", "seconds", "message", "synthetic")
_WHO = "smnb sweep"
_LONGEST_SLUG = 80
#: Seconds that a member waits for one who is about to end: when a worker dies Dask asks the next at once.
_PATIENCE = 30.0


def sweep(
    name: str,
    notebook: str,
    grid: Grid,
    *,
    preset: str = "quick",
    parameters: Mapping[str, Any] | None = None,
    runs_root: str | os.PathLike[str] = "runs",
    root: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    workers: int = 1,
    threads_per_worker: int | None = None,
    force: bool = False,
    progress: SweepProgress | None = None,
) -> pd.DataFrame:
    """Execute one notebook with every combination of a grid of parameters.

    Each member is a run of its own (`run_notebooks`) in ``<runs_root>/<name>/<member>``, with a report. A member that
    is up to date is skipped, so a sweep that was killed goes on where it was, and a grid that grew executes what is
    new. A member that fails does not stop the others; Ctrl-C does, and ends what members started.

    Parameters
    ----------
    name, notebook : str
        Its folder holds a folder a member, ``sweep.csv``, ``sweep.json`` and ``sweep.html``, written whenever a member ends. A
        name or number; notebooks that it needs are executed before it, in each member.
    grid : mapping of str to sequence, or sequence of mappings
        Values by parameter, of which every combination is a member; or the members themselves.
    preset, parameters, root, force
        For all members, as in `run_notebooks`.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://node1:8786``. Its workers must see `runs_root`, the data and the
        notebooks under the same paths, and have the same smnb. One executes as many members at once as it has threads.
    workers, threads_per_worker : int
        Members executed at once on this machine (one: without Dask), and threads that the libraries of each start; default
        the cores divided by `workers`, if there are several, else what the environment says, where Dask's own workers say one.

    Returns
    -------
    pandas.DataFrame
        A row a member: ``member``, the grid's parameters, ``status`` (done, skipped or failed), ``seconds`` (of its
        execution, also if that was earlier), ``message``, ``synthetic``, and the notebook's metrics by dotted name
        (``cnn.test.rmse``; ``metrics.`` before one that is taken). ``attrs``: ``name``, ``folder``, ``synthetic``.

    Raises
    ------
    ParameterError, RunError
        As `run_notebooks`, and for the same member twice: before anything is executed. When another process executes a sweep
        of this name, or the scheduler or its workers cannot be used.
    """
    from smnb.maps.parallel import open_workers

    check_run_name(_WHO, name)
    check_count(_WHO, "workers", workers)
    check_count(_WHO, "threads_per_worker", 1 if threads_per_worker is None else threads_per_worker)
    if scheduler is not None and workers != 1:
        what = "workers are those of this machine, but a scheduler was given, which has its own"
        raise ParameterError(_WHO, what, got=workers, next_step="Give one of the two")
    folder, common = notebook_folder(), _plain_values(parameters or {})
    order = notebooks_in_order([notebook], folder)
    members, shown = _checked(_combinations(grid), common, preset, order, folder)
    out, target = Path(runs_root).resolve() / name, order[-1].stem
    if any(out.glob("*.state.json")):
        raise ParameterError(_WHO, "there is a run of this name", got=name, next_step="Choose another --name")
    if scheduler is None and workers > 1 and threads_per_worker is None:
        from dask.system import CPU_COUNT

        threads_per_worker = max(1, CPU_COUNT // workers)
    patience = 0.0 if scheduler is None and workers == 1 else _PATIENCE
    job = Job(out, (target,), preset, common, folder, archive_of(root, folder), force, threads_per_worker, patience)
    jobs = [dataclasses.replace(job, out=out / slug, parameters=common | member) for slug, member in members.items()]
    head = {"name": name, "notebook": target, "preset": preset, "parameters": shown}
    pending = {"status": "pending", "seconds": None, "message": "", "synthetic": None, "metrics": {}}
    rows = [{"member": slug, "parameters": member, **pending} for slug, member in members.items()]
    out.mkdir(parents=True, exist_ok=True)
    # threads, for each only waits for its notebook's process; Dask's own processes would only cost time and memory
    kind = {"threads": 1} if workers == 1 else {"number": workers, "processes": False}
    with hold(out / ".lock", name), open_workers(_WHO, scheduler=scheduler, **kind) as pool:
        if scheduler is not None:
            _check_workers(pool.client, out)
        calls = ((number, (job,)) for number, job in enumerate(jobs))
        ended = pool.run(execute_member, calls, in_flight=workers if scheduler is None else len(jobs))
        for done, (number, future) in enumerate(ended, 1):
            row = rows[number]
            if future.cancelled():  # of Dask, not of the notebook
                row |= _failed(RunError(_WHO, "its Dask task was cancelled: is the scheduler still there?"))
            else:  # an exception: workers died under it again and again
                row |= future.result() if future.exception() is None else _failed(future.exception())
            _add_findings(row, jobs[number].out, target)
            _write(out, head, rows)
            if progress is not None:
                progress(row["member"], row["status"], done, len(rows))
    table = _frame(rows)
    table.attrs = {"name": name, "folder": str(out), "synthetic": any(row["synthetic"] for row in rows)}
    return table


def _combinations(grid: Grid) -> list[dict[str, Any]]:
    """Members as plain values: the product of a mapping, the last parameter the fastest; or those listed."""
    if not isinstance(grid, Mapping):
        if isinstance(grid, Sequence) and grid and all(isinstance(member, Mapping) for member in grid):
            return [_plain_values(member) for member in grid]
        raise ParameterError(_WHO, "a grid maps parameters to lists of values, or is a list of members", got=grid)
    for name, values in grid.items():
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise ParameterError(_WHO, f"the grid's {name!r} is not a list of values", got=values)
    listed = {name: list(values) for name, values in grid.items()}
    empty = [name for name, values in listed.items() if not values]
    if empty or not listed:
        raise ParameterError(_WHO, "the grid has no values", got=empty or {})
    return [_plain_values(dict(zip(listed, values, strict=True))) for values in itertools.product(*listed.values())]


def _plain_values(member: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy's numbers and arrays, and tuples, as the Python values that a notebook's parameter can hold."""
    found = {str(name): value.tolist() if hasattr(value, "tolist") else value for name, value in member.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _checked(
    members: list[dict[str, Any]], common: dict[str, Any], preset: str, order: Sequence[Path], folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Members by slug, and what is common to them, with every value checked against the declarations and of their types."""
    checked = parameters_of(order, preset, common, folder).values()
    given = {name: value for values in checked for name, value in values.items()}
    declared = {path: declared_parameters(path) for path in order}
    # the order of the declarations, not the grid's, so that the same member always has the same folder
    known = list(dict.fromkeys(name for path in reversed(order) for name in declared[path]))
    names = list(dict.fromkeys(name for member in members for name in member))
    refuse_unknown(_WHO, [*names, *common], known)
    if "out_dir" in {*names, *common}:
        raise ParameterError(_WHO, "out_dir cannot be given: each member has a folder of its own")
    for name in names:
        if name in common:
            raise ParameterError(_WHO, "a parameter is in the grid and among those of all members", got=name)
        if name in COLUMNS:
            raise ParameterError(_WHO, "a parameter has the name of one of the table's columns", got=name)
    for path in order:
        for one in {member.get("preset", common.get("preset", preset)) for member in members}:
            preset_settings(path, one)
    typed = []
    for member in members:
        there = ((path.stem, one) for path in order for one in declared[path].values() if one.name in member)
        values = {one.name: one.check(stem, member[one.name]) for stem, one in there}
        typed.append({name: values[name] for name in sorted(values, key=known.index)})
    alike = Counter(_slug(member).casefold() for member in typed)  # some file systems do not tell A from a
    found: dict[str, dict[str, Any]] = {}
    for member in typed:
        slug = _slug(member, hashed=alike[_slug(member).casefold()] > 1)
        if slug in found:
            raise ParameterError(_WHO, "the grid has the same member twice", got=member)
        found[slug] = member
    return found, {name: given[name] for name in common}


def _slug(parameters: Mapping[str, Any], *, hashed: bool = False) -> str:
    """Name of a member's folder: readable, safe on every file system, another for other values (a hash, if need be)."""
    texts = [(name, *_value_text(value)) for name, value in parameters.items()]
    slug = ",".join(f"{name}={text}" for name, text, _ in texts) or "defaults"
    exact = all(one for *_, one in texts) and len(slug) <= _LONGEST_SLUG
    if exact and not hashed:
        return slug
    return f"{slug[: _LONGEST_SLUG - 9]}-{fingerprint(parameters)[:8]}"


def _value_text(value: Any) -> tuple[str, bool]:
    """Return a value's text in a file name, and whether no other value of the same type has this text."""
    if value is None:
        return "none", True
    if isinstance(value, list):
        texts = [_value_text(item) for item in value]
        return "+".join(text for text, _ in texts), bool(value) and all(exact for _, exact in texts)
    if isinstance(value, str):
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", value)
        return safe, safe == value != "none" and bool(re.fullmatch(r"\w(.*\w)?", value))
    return (str(value).lower() if isinstance(value, bool) else repr(value)), True


def execute_member(job: Job) -> dict[str, Any]:
    """Execute a member: its ``status``, ``message`` and the ``seconds`` of its notebooks, also if in an earlier sweep."""
    from smnb.maps.parallel import stop_signal

    try:
        results = execute_run(job, unwanted=stop_signal())
    except (SmnbError, OSError) as error:  # what concerns this member only; the others go on
        return _failed(error)
    states = (read_state(job.out, one.notebook).get("seconds", one.seconds) for one in results)
    bad = next((one for one in results if one.status == "failed"), results[-1])
    message = bad.message if bad is results[-1] else f"{bad.notebook}: {bad.message}"
    return {"status": bad.status, "seconds": round(sum(states), 2), "message": message}


def _failed(error: BaseException) -> dict[str, Any]:
    text = str(error) if isinstance(error, SmnbError) else f"{type(error).__name__}: {error}"
    return {"status": "failed", "seconds": None, "message": " ".join(text.split())}


def look_from_a_worker(token: str) -> dict[str, Any]:
    """Whether a file of the sweep's folder is visible here, and which library this is."""
    return {"sees": Path(token).is_file(), "library": library_fingerprint()}


def _check_workers(client: Any, out: Path) -> None:
    """See that the workers see the sweep's folder, and that they have this library."""
    token = out / f".seen-{uuid.uuid4().hex}"
    token.touch()
    try:
        found = client.run(look_from_a_worker, str(token), on_error="return")
    finally:
        token.unlink()
    here = library_fingerprint()
    for worker, answer in found.items():
        who, install = f"the worker {worker}", "Install the same smnb there"
        if isinstance(answer, BaseException):
            got = plain(f"{type(answer).__name__}: {answer}")
            raise RunError(_WHO, f"{who} cannot execute members", got=got, next_step=install)
        if not answer["sees"]:
            step = "Put --runs-root, notebooks and data where all workers see them under one path"
            raise RunError(_WHO, f"{who} does not see the sweep's folder", got=str(out), next_step=step)
        if answer["library"] != here:
            what, got = f"{who} has other source files of smnb", answer["library"][:12]
            raise RunError(_WHO, what, got=got, expected=here[:12], next_step=install)


def _add_findings(row: dict[str, Any], out: Path, notebook: str) -> None:
    """Add the metrics of a member's record to its row, and write its report."""
    try:
        record_path = out / f"{notebook}.record.json"
        if row["status"] != "failed" and record_path.is_file():
            record = read_record(record_path)
            row["synthetic"] = record.get("synthetic")
            row["metrics"] = {".".join(path): value for path, value in leaves(record["metrics"])}
        if row["seconds"] is not None and any(out.glob("[!.]*.ipynb")):  # else it may still be ending
            write_report(out)
    except (SmnbError, OSError) as error:
        row |= _failed(error) | {"seconds": row["seconds"]}


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Table of members; a metric that has the name of another column gets ``metrics.`` before it."""
    import pandas as pd

    columns = [*COLUMNS[:1], *names_in(rows, "parameters"), *COLUMNS[1:]]
    metrics = {name: f"metrics.{name}" if name in columns else name for name in names_in(rows, "metrics")}
    cells = [row | row["parameters"] | {metrics[name]: value for name, value in row["metrics"].items()} for row in rows]
    table = pd.DataFrame(cells, columns=[*columns, *metrics.values()])
    numbers = ["seconds", *metrics.values()]
    return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})


def _write(out: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``sweep.json``, ``sweep.csv`` and ``sweep.html`` into a sweep's folder."""
    write_json(out / "sweep.json", {"schema_version": SCHEMA_VERSION, **head, "members": list(rows)})
    # a list in a cell is JSON, as Python's own text is read by nothing else
    table = _frame(rows).map(lambda value: json.dumps(value) if isinstance(value, list) else value)
    write_text(out / "sweep.csv", table.to_csv(index=False))
    write_sweep_page(out, head, rows)
