"""The command ``smnb``: arguments and calls."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence

signals: list[int] = []  # what Ctrl-C has sent; a library may make any error of it


def interrupted(given: Sequence[str]) -> str:
    """The line that says how to go on after Ctrl-C: some commands resume, others leave what was there as it is."""
    if next(iter(given), "") not in ("fetch", "map", "matchup", "released", "run", "sandbox", "sweep"):
        return "interrupted. What was there is as it was; run the same command again."
    anew = {"--no-resume", "--force"} & set(given)
    goes = f", without {anew.pop()}, and it goes on" if anew else ": it goes on"
    return f"interrupted. What is finished is kept; run the same command again{goes} where it was."


def _stop(number: int, _: object) -> None:
    signals.append(number)
    raise KeyboardInterrupt


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Send Ctrl-C once more where it came inside a callback that lets no error out, such as that of a weak reference."""
    if isinstance(lost.exc_value, KeyboardInterrupt) and signals:
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__unraisablehook__(lost)


def start(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; Ctrl-C ends it with one line and status 130, during imports too."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    signals.clear()
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _stop)
        sys.unraisablehook = _unraisable
    try:
        from smnb.cli import app

        app.main(given)
    except BaseException as error:
        if not signals or (isinstance(error, SystemExit) and error.code == 130):
            raise
        print(f"error: {interrupted(given)}", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        if signal.getsignal(signal.SIGINT) is _stop:
            signal.signal(signal.SIGINT, usual)
        if sys.unraisablehook is _unraisable:  # else another has wrapped it
            sys.unraisablehook = sys.__unraisablehook__


main = start  # what pyproject.toml names
