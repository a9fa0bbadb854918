"""Parameter sweeps: one notebook executed with many parameters, here, on this machine's cores, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smnb.contract import ParameterError, RunError, SmnbError, plain

from .execution import _given, _in_order, _locked
from .members import Job, execute, execute_watched, look_from_a_worker
from .parameters import Parameter, _refuse_unknown, declared_parameters, notebook_folder, preset_settings
from .record import _leaves, library_fingerprint, read_record
from .report import write_report
from .sweep_table import COLUMNS, sweep_frame, write_sweep

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client


#: Values by parameter, of which every combination is a member; or the members themselves.
Grid = Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]]
#: ``progress(member, status, members_done, members)``, with status one of done, skipped, failed.
SweepProgress = Callable[[str, str, int, int], None]

_WHO = "smnb sweep"
_LONGEST_SLUG = 80
#: Seconds to wait for a scheduler, and then for its first worker.
_CONNECT_SECONDS, _WORKER_SECONDS = 10.0, 60.0


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
    folder: str | os.PathLike[str] | None = None,
    progress: SweepProgress | None = None,
) -> pd.DataFrame:
    """Execute one notebook with every combination of a grid of parameters.

    Each member is a run of its own (`run_notebooks`) in ``<runs_root>/<name>/<member>``, with a report. A member that
    is up to date is skipped, so a sweep that was killed goes on where it was, and a grid that grew executes what is
    new. Members of an earlier grid stay in the folder, but not in the table.

    Parameters
    ----------
    name : str
        Name of the sweep; its folder holds a folder a member, ``sweep.csv``, ``sweep.json`` and ``sweep.html``, which
        are written again whenever a member ends.
    notebook : str
        Name or number. Notebooks that it needs are executed before it, in each member.
    grid : mapping of str to sequence, or sequence of mappings
        Values by parameter, of which every combination is a member; or the members themselves, where not every
        combination is wanted (an empty one takes the defaults).
    preset, parameters, root, force, folder
        For all members, as in `run_notebooks`.
    runs_root : path-like
        Where runs are kept.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://node1:8786``. Its workers must see `runs_root`, the data and the
        notebooks under the same paths (a shared folder), and have the same smnb installed. A worker executes as many
        members at once as it has threads.
    workers : int
        Members executed at once on this machine. One: one after another, in this process, without Dask.
    threads_per_worker : int, optional
        Threads that the libraries of a member start. Default: with several workers the machine's cores divided by
        `workers`; else what the environment says, where Dask's own workers say one.
    progress : callable, optional
        Called when a member has ended, as ``progress(member, status, members_done, members)``.

    Returns
    -------
    pandas.DataFrame
        A row a member: ``member``, the grid's parameters, ``status`` (done, skipped or failed), ``seconds`` (of its
        execution, also if that was earlier), ``message``, ``synthetic``, and the notebook's metrics by dotted name
        (``cnn.test.rmse``; ``metrics.`` goes before a name that is taken). ``attrs`` has ``name``, ``folder``,
        ``synthetic``.

    Raises
    ------
    ParameterError
        For an unknown notebook, preset or parameter, a value of the wrong type, or the same member twice: before
        anything is executed.
    RunError
        When another process executes a sweep of this name, or the scheduler or its workers cannot be used.

    Notes
    -----
    A member that fails does not stop the others. Ctrl-C does, and what members started ends before, or on a cluster
    seconds after, the call does.
    """
    if not name or name != Path(name).name or name.startswith("."):
        raise ParameterError(_WHO, "a sweep's name is one plain folder name", got=name)
    _check_counts(scheduler, workers, threads_per_worker)
    folder = Path(folder).resolve() if folder is not None else notebook_folder()
    order = _in_order([notebook], folder)
    common = {key: _plain_value(value) for key, value in (parameters or {}).items()}
    members = _checked(_combinations(grid), common, preset, order, folder)
    out = Path(runs_root).resolve() / name
    if any(out.glob("*.state.json")):
        raise ParameterError(_WHO, "there is a run of this name", got=name, next_step="Choose another --name")
    if scheduler is None and workers > 1 and threads_per_worker is None:
        from dask.system import CPU_COUNT

        threads_per_worker = max(1, CPU_COUNT // workers)
    # as run_notebooks decides it, but here: a worker may have another environment
    data = Path(root or os.environ.get("SMNB_DATA") or folder.parent / "data" / "sandbox").expanduser().resolve()
    jobs = [
        Job(
            slug,
            {**common, **member},
            order[-1].stem,
            preset,
            str(out),
            str(folder),
            str(data),
            force,
            threads_per_worker,
        )
        for slug, member in members.items()
    ]
    head = {"name": name, "notebook": order[-1].stem, "preset": preset, "parameters": common}
    rows = [
        {
            "member": slug,
            "parameters": member,
            "status": "pending",
            "seconds": None,
            "message": "",
            "synthetic": None,
            "metrics": {},
        }
        for slug, member in members.items()
    ]
    out.mkdir(parents=True, exist_ok=True)
    # closing: the members end when this function ends, not when a generator happens to be collected
    with _locked(out, name), contextlib.closing(_outcomes(jobs, out, scheduler, workers)) as outcomes:
        for done, (number, outcome) in enumerate(outcomes, 1):
            rows[number].update(outcome)
            _add_findings(rows[number], out / jobs[number].slug, jobs[number].notebook)
            write_sweep(out, head, rows)
            if progress is not None:
                progress(rows[number]["member"], rows[number]["status"], done, len(rows))
    table = sweep_frame(rows)
    table.attrs = {"name": name, "folder": str(out), "synthetic": any(row["synthetic"] for row in rows)}
    return table


def _check_counts(scheduler: str | None, workers: int, threads: int | None) -> None:
    for what, count in (("workers", workers), ("threads_per_worker", 1 if threads is None else threads)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ParameterError(_WHO, f"{what} is a number of at least 1", got=count)
    if scheduler is not None and workers != 1:
        raise ParameterError(
            _WHO,
            "workers are those of this machine, but a scheduler was given, which has its own",
            got=workers,
            next_step="Give one of the two",
        )


# --- the members of a grid --------------------------------------------------------------------------------------------


def _combinations(grid: Grid) -> list[dict[str, Any]]:
    """Members as plain values: the product of a mapping, the last parameter the fastest; or those listed."""
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
                raise ParameterError(_WHO, f"the grid's {name!r} is not a list of values", got=values)
        listed = {str(name): list(values) for name, values in grid.items()}
        empty = [name for name, values in listed.items() if not values]
        if empty or not listed:
            raise ParameterError(_WHO, "the grid has no values", got=empty or {})
        found = [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]
    elif isinstance(grid, Sequence) and grid and all(isinstance(member, Mapping) for member in grid):
        found = [dict(member) for member in grid]
    else:
        raise ParameterError(_WHO, "a grid maps parameters to lists of values, or is a list of members", got=grid)
    return [{str(name): _plain_value(value) for name, value in member.items()} for member in found]


def _plain_value(value: Any) -> Any:
    """Return numpy's numbers and arrays, and tuples, as the Python values that a notebook's parameter can hold."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, tuple) else value


def _checked(
    members: list[dict[str, Any]], common: dict[str, Any], preset: str, order: Sequence[Path], folder: Path
) -> dict[str, dict[str, Any]]:
    """Members by slug, with every value checked against the notebooks' declarations and of the declared type."""
    _given(order, preset, common, folder)
    declared = {path: declared_parameters(path) for path in order}
    # the order of the declarations, not the grid's, so that the same member always has the same folder
    known: dict[str, Parameter] = {}
    for path in reversed(order):
        known = {**known, **{name: one for name, one in declared[path].items() if name not in known}}
    names = list(dict.fromkeys(name for member in members for name in member))
    _refuse_unknown(_WHO, [*names, *common], known)
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
    owners = {name: [(p.stem, d[name]) for p, d in declared.items() if name in d] for name in names}
    typed = []
    for member in members:
        values = {}
        for name in sorted(member, key=list(known).index):
            values[name] = [parameter.check(stem, member[name]) for stem, parameter in owners[name]][-1]
        typed.append(values)
    slugs = [_slug(member) for member in typed]
    alike = Counter(slug.casefold() for slug in slugs)  # some file systems do not tell A from a
    slugs = [
        slug if alike[slug.casefold()] == 1 else _slug(m, hashed=True) for slug, m in zip(slugs, typed, strict=True)
    ]
    twice = [slug for slug, number in Counter(slugs).items() if number > 1]
    if twice:
        raise ParameterError(_WHO, "the grid has the same member twice", got=typed[slugs.index(twice[0])])
    return dict(zip(slugs, typed, strict=True))


def _slug(parameters: Mapping[str, Any], *, hashed: bool = False) -> str:
    """Name of a member's folder: readable, safe on every file system, and another one for other values.

    Where a value cannot be written as it is, or the name would be long, it ends in a hash of the values.

    Examples
    --------
    >>> _slug({"region": "tucson", "inputs": ["spatial", "sm"], "seed": 0, "mask": None})
    'region=tucson,inputs=spatial+sm,seed=0,mask=none'
    >>> _slug({"region": "a/b c"})
    'region=a_b_c-e1ce6332'
    """
    texts = [(name, *_value_text(value)) for name, value in parameters.items()]
    slug = ",".join(f"{name}={text}" for name, text, _ in texts) or "defaults"
    exact = all(one for *_, one in texts) and len(slug) <= _LONGEST_SLUG
    if exact and not hashed:
        return slug
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    return f"{slug[: _LONGEST_SLUG - 9]}-{digest[:8]}"


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


# --- executing them ---------------------------------------------------------------------------------------------------


def _outcomes(
    jobs: Sequence[Job], out: Path, scheduler: str | None, workers: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Execute the members; yield the number of each and its outcome as it ends."""
    if scheduler is None and workers == 1:
        for number, job in enumerate(jobs):
            yield number, execute(job)
        return
    from distributed import as_completed

    with _client(scheduler, workers) as client:
        if scheduler is not None:
            _check_workers(client, scheduler, out)
        mark = uuid.uuid4().hex[:8]  # a member that is asked for again is another task
        futures = {
            client.submit(execute_watched, job, key=f"smnb-{mark}-{job.slug}", pure=False): number
            for number, job in enumerate(jobs)
        }
        try:
            for future in as_completed(list(futures), loop=client.loop):
                if future.status == "finished":
                    outcome = future.result()
                else:  # of Dask, not of the notebook: workers died under it again and again, or the scheduler is gone
                    error = future.exception() if future.status == "error" else "is the scheduler still there?"
                    message = " ".join(f"its Dask task ended as {future.status}: {error}".split())
                    outcome = {"status": "failed", "seconds": None, "message": message}
                yield futures[future], outcome
        finally:
            client.cancel(list(futures))


@contextlib.contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A Dask client of this machine's own cluster, or of the scheduler at an address."""
    from distributed import Client, LocalCluster

    if scheduler is None:
        # threads, for each only waits for its member's process; Dask's own processes would only cost time and memory
        options = {"n_workers": 1, "threads_per_worker": workers, "processes": False, "dashboard_address": None}
        options |= {"memory_limit": 0, "silence_logs": logging.ERROR}
        with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            _WHO,
            "cannot reach the Dask scheduler",
            got=scheduler,
            expected=plain("tcp://host:port"),
            next_step=f"Start one with 'dask scheduler' ({type(error).__name__}: {error})",
        ) from error
    with client:
        yield client


def _check_workers(client: Client, scheduler: str, out: Path) -> None:
    """See that there are workers, that they see the sweep's folder, and that they have this library."""
    try:
        client.wait_for_workers(1, timeout=_WORKER_SECONDS)
    except TimeoutError as error:
        raise RunError(
            _WHO,
            f"the scheduler has no workers after {_WORKER_SECONDS:g} s",
            got=scheduler,
            next_step=f"Start some: dask worker {scheduler} --nthreads 1",
        ) from error
    token = out / f".seen-{uuid.uuid4().hex}"
    token.touch()
    try:
        found = client.run(look_from_a_worker, str(token), on_error="return")
    finally:
        token.unlink()
    here = library_fingerprint()
    for worker, answer in found.items():
        if isinstance(answer, BaseException):
            raise RunError(
                _WHO,
                f"the worker {worker} cannot execute members",
                got=plain(f"{type(answer).__name__}: {answer}"),
                next_step="Install the same smnb there",
            ) from answer
        if not answer["sees"]:
            raise RunError(
                _WHO,
                f"the worker {worker} does not see the sweep's folder",
                got=str(out),
                next_step="Put --runs-root, notebooks and data where all workers see them under one path",
            )
        if answer["library"] != here:
            raise RunError(
                _WHO,
                f"the worker {worker} has other source files of smnb",
                got=answer["library"][:12],
                expected=here[:12],
                next_step="Install the same smnb there",
            )


def _add_findings(row: dict[str, Any], out: Path, notebook: str) -> None:
    """Add the metrics of a member's record to its row, and write its report."""
    try:
        record_path = out / f"{notebook}.record.json"
        if row["status"] != "failed" and record_path.is_file():
            record = read_record(record_path)
            row["synthetic"] = record.get("synthetic")
            row["metrics"] = {".".join(path): value for path, value in _leaves(record["metrics"])}
        if row["seconds"] is not None and any(out.glob("[!.]*.ipynb")):  # else it may still be ending
            write_report(out)
    except (SmnbError, OSError) as error:
        row.update(status="failed", message=" ".join(str(error).split()))
