"""The command ``smnb sweep``; `smnb.cli.app` registers it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd


#: What the printed table shows unless --metric names others; the file has all.
_SHOWN_METRICS = 6


def register(app: typer.Typer) -> None:
    """Add the command of sweeps to the application."""
    app.command(epilog="Example: smnb sweep 02 --name seeds -g seed=0,1,2 -p epochs=5 --workers 2")(sweep)


def sweep(
    notebook: Annotated[str, typer.Argument(help="Name or number.")],
    name: Annotated[str, typer.Option(help="Name of the sweep; its folder is runs/NAME.")],
    grid: Annotated[list[str], typer.Option("-g", metavar="NAME=A,B", help="Values of a parameter; repeat.")],
    preset: Annotated[str, typer.Option(help="quick, full or paper.")] = "quick",
    parameters: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Parameter of all members; repeat.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Members at once on this machine.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="Dask scheduler, tcp://host:port, instead.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads a member; default cores / workers.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metric to print, as cnn.test.rmse; repeat.")] = None,
    root: Annotated[str | None, typer.Option(help="Data root; default SMNB_DATA, else data/sandbox.")] = None,
    runs_root: Annotated[str, typer.Option(help="Folder of runs.")] = "runs",
    force: Annotated[bool, typer.Option("--force", help="Execute also what is up to date.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Execute a notebook with every combination of parameters.

    A member that is up to date is skipped, so a sweep that was killed goes on where it was. The workers of a scheduler
    must see notebooks, data and --runs-root under the same paths as this machine.
    """
    from smnb.runs import declared_parameters, find_notebook, notebook_folder
    from smnb.runs import sweep as run_sweep

    declared = declared_parameters(find_notebook(notebook, notebook_folder()))
    lists = [key for key, parameter in declared.items() if parameter.type.startswith("list[")]
    values = grid_values(grid, lists)
    table = run_sweep(
        name,
        notebook,
        values,
        preset=preset,
        parameters=parameter_values(parameters or [], who="smnb sweep"),
        runs_root=runs_root,
        root=root,
        scheduler=scheduler,
        workers=workers,
        threads_per_worker=threads,
        force=force,
        progress=_say,
    )
    folder = Path(runs_root) / name
    if as_json:
        typer.echo((folder / "sweep.json").read_text(encoding="utf-8").rstrip())
    else:
        _print(table, list(values), metric or [])
        typer.echo(f"written: {folder / 'sweep.csv'}, {folder / 'sweep.json'}, {folder / 'sweep.html'}")
    failed = table[table["status"] == "failed"]
    if len(failed):
        first = failed.iloc[0]
        typer.echo(f"error: {first['member']}: {first['message']}; {len(failed)} of {len(table)} failed", err=True)
        raise typer.Exit(1)


def _say(member: str, status: str, done: int, total: int) -> None:
    typer.echo(f"{done}/{total} {member}: {status}", err=True)


def _print(table: pd.DataFrame, parameters: list[str], wanted: list[str]) -> None:
    """Print the members with some of the metrics; those of the file that are left out are counted."""
    from smnb.contract import ParameterError

    metrics = list(table.columns[table.columns.get_loc("synthetic") + 1 :])
    for one in wanted:
        if one not in metrics:
            raise ParameterError("smnb sweep", "no member has this metric", got=one, expected=metrics)
    shown = wanted or metrics[:_SHOWN_METRICS]
    typer.echo(f"Sweep {table.attrs['name']}" + (" (synthetic)" if table.attrs["synthetic"] else ""))
    columns = table[[*parameters, "status", "seconds", *shown]]
    typer.echo(columns.to_string(index=False, na_rep="", float_format="{:.4g}".format))
    if len(metrics) > len(shown):
        typer.echo(f"and {len(metrics) - len(shown)} more metrics in sweep.csv")


def parameter_values(assignments: Sequence[str], *, who: str) -> dict[str, Any]:
    """Parse ``name=value`` arguments; a value is YAML, so that 3 is a number, true a bool and [a, b] a list.

    Examples
    --------
    >>> parameter_values(["epochs=5", "rate=1e-3", "inputs=[spatial, sm]"], who="smnb run")
    {'epochs': 5, 'rate': 0.001, 'inputs': ['spatial', 'sm']}
    """
    return {
        name: _parsed(value, name, who) if value else ""
        for name, value in _assignments(assignments, who, "-p takes name=value", "-p epochs=5")
    }


def grid_values(assignments: Sequence[str], lists: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Parse ``name=a,b`` arguments, each value as YAML; brackets around all of them are allowed.

    Parameters
    ----------
    assignments : sequence of str
        The arguments.
    lists : sequence of str
        Parameters that are lists themselves: for them ``[a, b]`` is one value, and ``[a],[a, b]`` are two.

    Examples
    --------
    >>> grid_values(["seed=0,1", "region=[a, b]", "inputs=[a],[a, b]"], lists=["inputs"])
    {'seed': [0, 1], 'region': ['a', 'b'], 'inputs': [['a'], ['a', 'b']]}
    """
    grid = {}
    for name, text in _assignments(assignments, "smnb sweep", "-g takes name=value,value", "-g seed=0,1,2"):
        values = _parsed(f"[{text}]", name, "smnb sweep")
        if len(values) == 1 and isinstance(values[0], list) and name not in lists:
            values = values[0]
        grid[name] = values
    return grid


def _assignments(texts: Sequence[str], who: str, takes: str, example: str) -> Iterator[tuple[str, str]]:
    from smnb.contract import ParameterError

    seen = set()
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ParameterError(who, takes, got=text, next_step=f"Example: {example}")
        if name in seen:
            raise ParameterError(who, "a parameter was given twice", got=name)
        seen.add(name)
        yield name, value


def _parsed(text: str, name: str, who: str) -> Any:
    import yaml

    from smnb.contract import ParameterError
    from smnb.runs.parameters import parse_yaml

    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise ParameterError(who, f"the value of {name!r} is not YAML", got=text) from error
