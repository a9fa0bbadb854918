"""The command ``smnb``: arguments and calls, nothing else.

Tables go to standard output for people, or JSON with ``--json``; progress and errors go to standard error. A mistake of
the user ends with status 2 and one line, a notebook that failed with status 1.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import smnb
from smnb.cli import data, interrupted, models, runs, signals  # noqa: F401 - each adds its commands
from smnb.cli.frame import app, warn
from smnb.contract import SmnbError


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors become one line on standard error and a status that is not zero."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [one for one in given if one != "--debug"]  # accepted anywhere in the line
    try:
        status = app(args=given, prog_name="smnb", standalone_mode=False)
        if status == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    except runs.NotebookError as error:
        status = _say_error(error, debug, 1)
    except BrokenPipeError:  # the reader of our output, such as head, went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (SmnbError, OSError, ImportError) as error:
        status = _say_error(error, debug, 2)
    except KeyboardInterrupt:
        status = _say_error(interrupted(given), debug, 130)
    except Exception as error:
        # a usage error; its class lives in click or in typer, depending on typer's version
        if not hasattr(error, "format_message"):
            raise
        text, context, status = error.format_message(), getattr(error, "ctx", None), 0
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(text)
        else:
            command = context.command_path if context is not None else "smnb"
            status = _say_error(f"{text} Try '{command} --help'.", debug, 2)
    raise SystemExit(status if isinstance(status, int) else 0)


def _say_error(error: Exception | str, debug: bool, status: int) -> int:
    if signals and status != 130:
        raise KeyboardInterrupt
    if debug:
        traceback.print_exc()
    if isinstance(error, OSError) and error.strerror:
        error = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    warn(f"error: {' '.join(str(error).split())}")
    return status


if __name__ == "__main__":
    main()
