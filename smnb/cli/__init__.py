"""The command ``smnb``: arguments and calls."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence

#: Commands that go on where they were; the others start again, and leave what was there as it is.
_GOING_ON = ("fetch", "map", "matchup", "released", "run", "sandbox", "sweep")
#: What Ctrl-C has sent; a library may make any error of it.
signals: list[int] = []


def interrupted(given: Sequence[str]) -> str:
    """The line that says how to go on after Ctrl-C."""
    name = next((one for one in given if not one.startswith("-")), "")
    if name not in _GOING_ON:
        return "interrupted. What was there is as it was; run the same command again"
    anew = {"--no-resume", "--force"} & set(given)
    goes = f", without {anew.pop()}, and it goes on" if anew else ": it goes on"
    return f"interrupted. What is finished is kept; run the same command again{goes} where it was"


def start(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; Ctrl-C ends it with one line and status 130, during imports too."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    signals.clear()

    def stop(number: int, _: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ours = usual and threading.current_thread() is threading.main_thread()
    try:
        if ours:
            signal.signal(signal.SIGINT, stop)
        from smnb.cli import app

        app.main(given)
    except BaseException as error:
        if not signals or (isinstance(error, SystemExit) and error.code == 130):
            raise
        # an import that was interrupted may end with any error
        print(f"error: {interrupted(given)}.", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


#: What pyproject.toml names.
main = start

__all__ = ["main"]
