"""Commands of notebooks: ``smnb run``, ``report`` and ``sweep``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smnb.cli.frame import Json, Root, Scheduler, Table, command, show, shown_progress, values_by_name, warn
from smnb.contract import ParameterError, RunError

if TYPE_CHECKING:
    import pandas as pd

Preset = Annotated[str, typer.Option(help="quick, full or paper.")]
RunsRoot = Annotated[str, typer.Option(help="Folder of runs.")]
Force = Annotated[bool, typer.Option("--force", help="Execute also what is up to date.")]
Parameters = Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Parameter; repeat.")]
_SHOWN_METRICS = 6  # what the printed table of a sweep shows unless --metric names others; the file has all


class NotebookError(RunError):
    """A notebook of a run failed: status 1, since the command line was right."""


def _fail_with(failed: Sequence[Sequence[str]], total: int) -> None:
    if failed:
        raise NotebookError(failed[0][0], f"{failed[0][1]}; {len(failed)} of {total} failed")


@command("smnb run 02 --name demo --preset quick -p seed=7")
def run(
    notebooks: Annotated[list[str] | None, typer.Argument(help="Names or numbers; default all.")] = None,
    name: Annotated[str, typer.Option(help="Name of the run; its folder is runs/NAME.")] = "default",
    preset: Preset = "quick",
    parameters: Parameters = None,
    root: Root = None,
    runs_root: RunsRoot = "runs",
    force: Force = False,
    listed: Annotated[bool, typer.Option("--list", help="List notebooks and parameters, execute nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Execute notebooks headless and write a report.

    What is up to date is skipped, so a run that was killed goes on where it was.
    """
    if listed:
        _list_notebooks(notebooks, as_json)
        return
    from smnb.runs import run_notebooks, write_report

    values = parameter_values(parameters or [], who="smnb run")
    options = {"runs_root": runs_root, "root": root, "force": force}
    with shown_progress() as progress:
        results = run_notebooks(name, notebooks or None, preset, values, **options, progress=progress)
    folder = Path(runs_root) / name
    index = write_report(folder) if any(folder.glob("*.ipynb")) else None
    rows = [[r.notebook, r.status, f"{r.seconds:.1f}", r.message] for r in results]
    content = {"name": name, "report": index, "notebooks": [vars(result) for result in results]}
    table = Table(["notebook", "status", "seconds", "message"], rows, f"Run {name}")
    show(content, as_json, table, f"report: {index}")
    failed = [(r.notebook, r.message) for r in results if r.status == "failed"]
    _fail_with(failed, len(results))


def _list_notebooks(notebooks: Sequence[str] | None, as_json: bool) -> None:
    from smnb.runs import declared_parameters, find_notebook, notebook_folder

    folder = notebook_folder()
    paths = [find_notebook(one, folder) for one in notebooks or []] or sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    listed = [{"notebook": path.stem, **vars(p)} for path in paths for p in declared_parameters(path).values()]
    rows = [[p["notebook"], p["name"], p["type"], p["default"], p["comment"]] for p in listed]
    show(listed, as_json, Table(["notebook", "parameter", "type", "default", "meaning"], rows))


@command("smnb report demo")
def report(
    name: Annotated[str, typer.Argument(help="Name of the run.")], runs_root: RunsRoot = "runs", as_json: Json = False
) -> None:
    """Write a run's report again.

    Each notebook becomes a page that opens offline, and index.html has one table of all metrics.
    """
    from smnb.runs import write_report

    folder = Path(runs_root) / name
    if not folder.is_dir():
        known = sorted(path.name for path in Path(runs_root).glob("*") if path.is_dir())
        raise RunError("smnb report", "no such run", got=name, expected=known)
    index = write_report(folder)
    show({"name": name, "report": index}, as_json, f"report: {index}")


@command("smnb sweep 02 --name seeds -g seed=0,1,2 -p epochs=5 --workers 2", "sweep")
def sweep_notebook(
    notebook: Annotated[str, typer.Argument(help="Name or number.")],
    name: Annotated[str, typer.Option(help="Name of the sweep; its folder is runs/NAME.")],
    grid: Annotated[list[str], typer.Option("-g", metavar="NAME=A,B", help="Values of a parameter; repeat.")],
    preset: Preset = "quick",
    parameters: Parameters = None,
    workers: Annotated[int, typer.Option(help="Members at once on this machine.")] = 1,
    scheduler: Scheduler = None,
    threads: Annotated[int | None, typer.Option(help="Threads a member; default cores / workers.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metric to print, as cnn.test.rmse; repeat.")] = None,
    root: Root = None,
    runs_root: RunsRoot = "runs",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Execute a notebook with every combination of parameters.

    A member that is up to date is skipped, so a sweep that was killed goes on where it was. The workers of a scheduler
    must see notebooks, data and --runs-root under the same paths as this machine.
    """
    from smnb.files import AnyMapping, read_json
    from smnb.runs import declared_parameters, find_notebook, notebook_folder, sweep

    declared = declared_parameters(find_notebook(notebook, notebook_folder()))
    lists = [key for key, parameter in declared.items() if parameter.type.startswith("list[")]
    values = grid_values(grid, lists)
    common = parameter_values(parameters or [], who="smnb sweep")
    options = {"preset": preset, "parameters": common, "runs_root": runs_root, "root": root, "force": force}
    options |= {"scheduler": scheduler, "workers": workers, "threads_per_worker": threads}

    def say(member: str, status: str, done: int, total: int) -> None:
        warn(f"{done}/{total} {member}: {status}")

    table = sweep(name, notebook, values, progress=say, **options)
    folder = Path(runs_root) / name
    content = read_json(folder / "sweep.json", AnyMapping, "a sweep").root
    written = f"written: {folder / 'sweep.csv'}, {folder / 'sweep.json'}, {folder / 'sweep.html'}"
    show(content, as_json, *_members(table, list(values), metric or []), written)
    failed = table.loc[table["status"] == "failed", ["member", "message"]]
    _fail_with(failed.to_numpy().tolist(), len(table))


def _members(table: pd.DataFrame, parameters: list[str], wanted: list[str]) -> list[str | Table]:
    """The members with some of the metrics; those of the file that are left out are counted."""
    metrics = list(table.columns[table.columns.get_loc("synthetic") + 1 :])
    for one in wanted:
        if one not in metrics:
            raise ParameterError("smnb sweep", "no member has this metric", got=one, expected=metrics)
    shown = wanted or metrics[:_SHOWN_METRICS]
    columns = [*parameters, "status", "seconds", *shown]
    cells = table[columns].astype(object).where(table[columns].notna(), None).to_numpy()
    rows = [[f"{value:.4g}" if isinstance(value, float) else value for value in row] for row in cells]
    title = f"Sweep {table.attrs['name']}" + (" (synthetic)" if table.attrs["synthetic"] else "")
    more = len(metrics) - len(shown)
    return [title, Table(columns, rows), *([f"and {more} more metrics in sweep.csv"] if more else [])]


def parameter_values(texts: Sequence[str], *, who: str) -> dict[str, Any]:
    """Values of ``name=value`` arguments as they were written: each notebook's declared types say what they mean."""
    from smnb.runs.parameters import Written

    values = values_by_name(texts, who, "-p takes name=value", "-p epochs=5")
    quoted = {name: len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" for name, value in values.items()}
    return {name: value[1:-1] if quoted[name] else Written(value) for name, value in values.items()}


def grid_values(texts: Sequence[str], lists: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Parse ``name=a,b`` arguments, each value as it was written; brackets around all of them are allowed.

    For parameters that are `lists` themselves ``[a, b]`` is one value, and ``[a],[a, b]`` are two.
    """
    import yaml

    from smnb.runs.parameters import parse_yaml

    grid = {}
    for name, text in values_by_name(texts, "smnb sweep", "-g takes name=value,value", "-g seed=0,1,2").items():
        try:
            values = parse_yaml(f"[{text}]")
        except yaml.YAMLError as error:
            raise ParameterError("smnb sweep", f"the value of {name!r} is not YAML", got=text) from error
        if len(values) == 1 and isinstance(values[0], list) and name not in lists:
            values = values[0]
        grid[name] = values
    return grid
