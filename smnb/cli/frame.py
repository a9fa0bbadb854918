"""What all commands share: the application, how a command joins it, and the one printer of tables, text and JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from smnb.contract import ParameterError
from smnb.files import plain_json

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Root = Annotated[str | None, typer.Option(help="Data root; default SMNB_DATA, else data/sandbox.")]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, tcp://host:port, instead.")]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="Go on with what was killed, or start it anew.")]
Flags = Annotated[str, typer.Option(help="paper, strict, all, or flags: 'G C03 C02,C03'.")]
Optional = Annotated[list[str] | None, typer.Option(help="Source that a sample may lack; repeat.")]
Workers = Annotated[int, typer.Option(help="Processes of a Dask cluster on this machine; 0: threads.")]


def command(example: str, name: str | None = None) -> Callable[[Callable], Callable]:
    """Make a function a command of the application; the example stands below its help."""
    return app.command(name, epilog=f"Example: {example}")


class Table(NamedTuple):
    """A table to print; cells are shown as their text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""


def show(content: Any, as_json: bool, *parts: str | Table | None) -> None:
    """Print `content` as JSON, or else its parts for people: lines and tables, in order."""
    if as_json:
        typer.echo(json.dumps(plain_json(content), indent=2, allow_nan=False))
        return
    for part in parts:
        if isinstance(part, Table):
            _print_table(part)
        elif part is not None:
            typer.echo(part)


def _print_table(table: Table) -> None:
    """Print a table: framed and fitted on a terminal, one line a row with aligned columns in a pipe."""
    cells = [["" if value is None else str(value) for value in row] for row in table.rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table as Framed
        from rich.text import Text

        framed = Framed(*table.columns, title=table.title or None)
        for row in cells:
            framed.add_row(*map(Text, row))
        Console().print(framed)
        return
    everything = [[column.upper() for column in table.columns], *cells]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    for row in everything:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def values_by_name(texts: Sequence[str], who: str, takes: str, example: str) -> dict[str, str]:
    """Values by name of ``NAME=VALUE`` arguments, each name once; else `ParameterError`."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ParameterError(who, takes, got=text, next_step=f"Example: {example}")
        if name in found:
            raise ParameterError(who, "a name was given twice", got=name)
        found[name] = value
    return found


def warn(text: str) -> None:
    """Print a line to standard error."""
    typer.echo(text, err=True)


@contextlib.contextmanager
def shown_progress() -> Iterator[Callable[[str, str, int, int], None]]:
    """Progress on standard error, as ``show(what, status, done, total)``: a bar on a terminal, a few lines elsewhere.

    Status is start, cell (so much is done) or what became of it.
    """
    if not sys.stderr.isatty():
        yield _say
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def draw(what: str, status: str, done: int, total: int) -> None:
            if status in ("start", "cell"):
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done, total=total)
                return
            bar.console.print(f"{what}: {status}", highlight=False)
            if what in tasks:
                bar.stop_task(tasks[what])

        yield draw


def _say(what: str, status: str, done: int, total: int) -> None:
    if status == "start":
        warn(f"{what}: started")
    elif status != "cell":
        warn(f"{what}: {status}")
    elif done in {-(-total * part // 4) for part in (1, 2, 3, 4)}:  # a line a quarter
        warn(f"{what}: {done}/{total}")
