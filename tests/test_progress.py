"""Progress: a line on stderr of a script, one display in a notebook, nothing for what is quick."""

from __future__ import annotations

import pytest

from smnb import progress as module
from smnb.training import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def run(clock: list[float], seconds: float, n: int = 40, **options) -> list[int]:
    seen = []
    for item in progress(range(n), "counting", **options):
        clock[0] += seconds
        seen.append(item)
    return seen


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(clock, capsys) -> None:
    assert run(clock, 1.0) == list(range(40))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "counting: 10 of 40, 30 s left"
    assert lines[-1] == "counting: 40 of 40 in 40 s"
    assert len(lines) == 5


def test_what_is_quick_says_nothing(clock, capsys) -> None:
    run(clock, 0.01)
    assert capsys.readouterr().err == ""


def test_an_error_leaves_how_far_it_came(clock, capsys) -> None:
    def pull() -> None:
        for _ in progress((1 / (3 - i) for i in range(9)), "dividing"):
            clock[0] += 4.0

    with pytest.raises(ZeroDivisionError):
        pull()
    assert capsys.readouterr().err.splitlines()[-1] == "dividing: 3 in 12 s"


def test_a_notebook_has_one_display_that_changes(clock, capsys, monkeypatch) -> None:
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(module, "_in_kernel", lambda: True)
    monkeypatch.setitem(module.sys.modules, "ipykernel", module)
    run(clock, 1.0, total=40)
    assert shown[0] == "counting: 2 of 40, 38 s left"
    assert shown[-1] == "counting: 40 of 40 in 40 s"
    assert capsys.readouterr().err == ""
