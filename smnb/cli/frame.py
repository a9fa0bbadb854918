"""What all commands share: the application, how a command joins it, and the one printer of tables, text and JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer

app = typer.Typer(
    name="smnb",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Satellite soil moisture with convolutional networks: data, notebooks, reports.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Root = Annotated[str | None, typer.Option(help="Data root; default SMNB_DATA, else data/sandbox.")]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, tcp://host:port, instead.")]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="Go on with what was killed, or start it anew.")]
Flags = Annotated[str, typer.Option(help="paper, strict, all, or flags: 'G C03 C02,C03'.")]
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
        typer.echo(json.dumps(_plain(content), indent=2, allow_nan=False, default=str))
        return
    for part in parts:
        if isinstance(part, Table):
            _print_table(part)
        elif part is not None:
            typer.echo(part)


def _plain(value: Any) -> Any:
    """Make what JSON can hold: NaN becomes null, a number of numpy one of Python."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def warn(text: str) -> None:
    """Print a line to standard error."""
    typer.echo(text, err=True)


class ShownProgress:
    """Progress on standard error, as ``show(what, status, done, total)``: a bar on a terminal, a few lines elsewhere.

    Status is start, cell (so much is done) or what became of it.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Callable[[str, str, int, int], None]:
        if not sys.stderr.isatty():
            return self._say
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._bar.start()
        return self._draw

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
            warn(f"{what}: started")
        elif status != "cell":
            warn(f"{what}: {status}")
        elif done in {-(-total * part // 4) for part in (1, 2, 3, 4)}:  # a line a quarter
            warn(f"{what}: {done}/{total}")
