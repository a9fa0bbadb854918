"""The command ``smnb``: arguments and calls, nothing else.

Tables go to standard output for people, or JSON with ``--json``; progress and errors go to standard error. A mistake of
the user ends with status 2 and one line, a notebook that failed with status 1.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import smnb
from smnb.cli import insitu as cli_insitu
from smnb.cli import map as cli_map
from smnb.cli import matchup as cli_matchup
from smnb.cli import predict as cli_predict
from smnb.cli import released as cli_released
from smnb.cli import retrieve as cli_retrieve
from smnb.cli import scores as cli_scores
from smnb.cli import sweep as cli_sweep
from smnb.contract import CatalogError, RunError, SmnbError

app = typer.Typer(
    name="smnb",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Satellite soil moisture with convolutional networks: data, notebooks, reports.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Root = Annotated[str | None, typer.Option(help="Data root; default SMNB_DATA, else data/sandbox.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"smnb {smnb.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Satellite soil moisture with convolutional networks: data, notebooks, reports."""


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, sort_keys=True, default=str))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """Print a table: framed and fitted on a terminal, one line a row with aligned columns in a pipe."""
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, title=title or None)
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    everything = [[column.upper() for column in columns], *cells]
    widths = [max(len(row[i]) for row in everything) for i in range(len(columns))]
    for row in everything:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command(epilog="Example: smnb catalog --check")
def catalog(
    root: Root = None,
    as_json: Json = False,
    check: Annotated[bool, typer.Option("--check", help="Fail when files of an entry are absent.")] = False,
) -> None:
    """List products and which files are present."""
    from smnb.catalog import Catalog, data_root

    entries = Catalog.load().status(data_root(root))
    if as_json:
        _print_json(entries)
    else:
        rows = [
            [
                e["id"],
                "bad" if e["problem"] else "yes" if e["present"] else "no",
                e["n_files"],
                f"{e['bytes'] / 1e6:.1f}",
                e["problem"] or e["description"],
            ]
            for e in entries
        ]
        _print_table(["id", "present", "files", "MB", "description"], rows, title=f"Catalog, under {data_root(root)}")
    absent = [entry["id"] for entry in entries if not entry["present"]]
    if check and absent:
        raise CatalogError(
            "smnb catalog",
            f"{len(absent)} entries have no usable files",
            got=absent,
            next_step="Get them with 'smnb fetch ID', or simulate them with 'smnb sandbox'",
        )


@app.command(epilog="Example: smnb fetch amsre_nsidc0302 --root archive")
def fetch(
    entry: Annotated[str, typer.Argument(metavar="ID", help="Entry of the catalog.")],
    root: Root = None,
    start: Annotated[str | None, typer.Option(help="First day, for NASA collections (2011-07-01).")] = None,
    end: Annotated[str | None, typer.Option(help="Last day, for NASA collections.")] = None,
    as_json: Json = False,
) -> None:
    """Download one product, or say how to get it."""
    from smnb.catalog import Catalog, data_root

    listed = [str(path) for path in Catalog.load().fetch(entry, data_root(root), start=start, end=end)]
    if as_json:
        _print_json(listed)
    else:
        _print_table(["file"], [[path] for path in listed])


@app.command(epilog="Example: smnb sandbox --preset quick --seed 7")
def sandbox(
    out: Annotated[str | None, typer.Option(help="Folder to write; default data/sandbox.")] = None,
    preset: Annotated[str, typer.Option(help="quick (a few days) or full (the month).")] = "quick",
    seed: Annotated[int | None, typer.Option(help="Seed of the world; default the sandbox's own.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate an archive in the real products' formats."""
    from smnb.catalog import data_root
    from smnb_sandbox import write_sandbox

    folder = Path(out) if out is not None else Path(data_root(None))
    options: dict[str, Any] = {} if seed is None else {"seed": seed}
    with _Progress() as show:
        manifest = write_sandbox(
            folder, preset=preset, progress=lambda done, total, _: show("sandbox", "cell", done, total), **options
        )
    if as_json:
        _print_json(manifest)
        return
    files = manifest.get("files", [])
    typer.echo(f"sandbox archive ({preset}, seed {manifest.get('seed')}): {len(files)} files in {folder}")


@app.command(epilog="Example: smnb run 02 --name demo --preset quick -p seed=7")
def run(
    notebooks: Annotated[list[str] | None, typer.Argument(help="Names or numbers; default all.")] = None,
    name: Annotated[str, typer.Option(help="Name of the run; its folder is runs/NAME.")] = "default",
    preset: Annotated[str, typer.Option(help="quick, full or paper.")] = "quick",
    parameters: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Parameter; repeat.")] = None,
    root: Root = None,
    runs_root: Annotated[str, typer.Option(help="Folder of runs.")] = "runs",
    force: Annotated[bool, typer.Option("--force", help="Execute also what is up to date.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List notebooks and parameters, execute nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Execute notebooks headless and write a report.

    What is up to date is skipped, so a run that was killed goes on where it was.
    """
    if show:
        _list_notebooks(notebooks, as_json)
        return
    from smnb.runs import run_notebooks, write_report

    values = cli_sweep.parameter_values(parameters or [], who="smnb run")
    with _Progress() as progress:
        results = run_notebooks(
            name, notebooks or None, preset, values, runs_root=runs_root, root=root, force=force, progress=progress
        )
    index = None
    if any((Path(runs_root) / name).glob("*.ipynb")):
        index = write_report(Path(runs_root) / name)
    if as_json:
        _print_json({"name": name, "report": index, "notebooks": [vars(result) for result in results]})
    else:
        rows = [[r.notebook, r.status, f"{r.seconds:.1f}", r.message] for r in results]
        _print_table(["notebook", "status", "seconds", "message"], rows, title=f"Run {name}")
        typer.echo(f"report: {index}")
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise _NotebookError(failed[0].notebook, f"{failed[0].message}; {len(failed)} of {len(results)} failed")


class _NotebookError(RunError):
    """A notebook of a run failed: status 1, since the command line was right."""


def _list_notebooks(notebooks: Sequence[str] | None, as_json: bool) -> None:
    from smnb.runs import declared_parameters, find_notebook, notebook_folder

    folder = notebook_folder()
    paths = [find_notebook(one, folder) for one in notebooks or []] or sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    listed = [{"notebook": path.stem, **vars(p)} for path in paths for p in declared_parameters(path).values()]
    if as_json:
        _print_json(listed)
        return
    rows = [[p["notebook"], p["name"], p["type"], p["default"], p["comment"]] for p in listed]
    _print_table(["notebook", "parameter", "type", "default", "meaning"], rows)


class _Progress:
    """Progress on standard error: a bar on a terminal, one line a notebook elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Callable[[str, str, int, int], None]:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            return self._draw
        return self._say

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, what: str, status: str, done: int, total: int) -> None:
        if status in ("start", "cell"):
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total)
            self._bar.update(self._tasks[what], completed=done, total=total)
        else:
            self._bar.console.print(f"{what}: {status}", highlight=False)
            if what in self._tasks:
                self._bar.stop_task(self._tasks[what])

    def _say(self, what: str, status: str, done: int, total: int) -> None:
        if status == "start":
            typer.echo(f"{what}: started", err=True)
        elif status == "cell":
            if done in {round(total * part / 4) for part in (1, 2, 3, 4)}:
                typer.echo(f"{what}: {done}/{total}", err=True)
        else:
            typer.echo(f"{what}: {status}", err=True)


@app.command(epilog="Example: smnb models --json")
def models(as_json: Json = False) -> None:
    """List networks, with paper, inputs and parameter count."""
    from smnb.models import MODELS

    rows = []
    for name, entry in MODELS.items():
        rows.append(
            {
                "name": name,
                "paper": entry.paper,
                "inputs": entry.inputs,
                "parameters": entry.n_parameters,
                "description": entry.description,
            }
        )
    if as_json:
        _print_json(rows)
        return
    columns = ["name", "parameters", "inputs", "paper", "description"]
    shown = [{**row, "parameters": f"{row['parameters']:,}"} for row in rows]
    _print_table(columns, [[row[column] for column in columns] for row in shown], title="Models")


@app.command(epilog="Example: smnb report demo")
def report(
    name: Annotated[str, typer.Argument(help="Name of the run.")],
    runs_root: Annotated[str, typer.Option(help="Folder of runs.")] = "runs",
    as_json: Json = False,
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
    if as_json:
        _print_json({"name": name, "report": index})
    else:
        typer.echo(f"report: {index}")


cli_insitu.register(app)
cli_map.register(app)
cli_matchup.register(app)
cli_predict.register(app)
cli_released.register(app)
cli_retrieve.register(app)
cli_scores.register(app)
cli_sweep.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors become one line on standard error and a status that is not zero."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [one for one in given if one != "--debug"]  # accepted anywhere in the line
    try:
        status = app(args=given, prog_name="smnb", standalone_mode=False)
    except _NotebookError as error:
        status = _say_error(error, debug, 1)
    except BrokenPipeError:  # the reader of our output, such as head, went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (SmnbError, OSError, ImportError) as error:
        status = _say_error(error, debug, 2)
    except KeyboardInterrupt:
        status = _say_error("interrupted", debug, 130)
    except Exception as error:
        # a usage error; its class lives in click or in typer, depending on typer's version
        if not hasattr(error, "format_message"):
            raise
        text = " ".join(error.format_message().split())
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "smnb"
        status = 0
        if type(error).__name__ != "NoArgsIsHelpError":
            status = _say_error(f"{text} Try '{command} --help'.", debug, 2)
        else:
            typer.echo(error.format_message())
    raise SystemExit(status if isinstance(status, int) else 0)


def _say_error(error: Exception | str, debug: bool, status: int) -> int:
    if debug:
        traceback.print_exc()
    if isinstance(error, OSError) and error.strerror:
        error = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)
    return status


if __name__ == "__main__":
    main()
