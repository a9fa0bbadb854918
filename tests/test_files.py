"""Atomic writing: a file is whole under its final name, or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import RootModel

from smnb import files
from smnb.contract import FormatError, RunError


def test_error_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")

    def fail() -> None:
        with files.atomic_path(path) as temporary:
            temporary.write_text("new, half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_kill_while_writing_leaves_no_final_file(tmp_path: Path) -> None:
    code = (
        "import sys, time; from smnb.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t:\n"
        "    t.write_bytes(b'x' * 1000); print('writing', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "map.nc")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout.readline().strip() == "writing"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.05)
    assert not (tmp_path / "map.nc").exists()
    assert files.remove_stale_partials(tmp_path) == 1
    assert not list(tmp_path.iterdir())


def test_suffix_is_kept_for_writers_that_look_at_it(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "deep" / "x.06H.gz") as temporary:
        assert temporary.suffixes[-2:] == [".06H", ".gz"]
        temporary.write_bytes(b"1")
    assert (tmp_path / "deep" / "x.06H.gz").read_bytes() == b"1"


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"r": float("nan")})
    assert not (tmp_path / "a.json").exists()
    path = files.write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    assert files.read_json(path, RootModel[dict], "a thing").root == {"a": 2, "b": 1}


class Small(files.Kept):
    name: str
    numbers: list[float]
    more: dict[str, int] | None = None


DAMAGED = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"name": "\xff"}',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "an unknown key": b'{"name": "a", "numbers": [], "other": 1}',
    "a missing key": b'{"name": "a"}',
    "another type": b'{"name": 5, "numbers": []}',
    "text for a number": b'{"name": "a", "numbers": ["1"]}',
    "NaN": b'{"name": "a", "numbers": [NaN]}',
    "infinity": b'{"name": "a", "numbers": [-Infinity]}',
    "beyond a float": b'{"name": "a", "numbers": [1e999]}',
    "a huge number": b'{"name": "a", "numbers": [], "more": {"b": 1' + b"0" * 5000 + b"}}",
    "deep": b'{"name": "a", "numbers": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested wrong": b'{"name": "a", "numbers": [], "more": {"b": 1.5}}',
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_json_file_of_ours_is_one_error(tmp_path, damage):
    (tmp_path / "a.json").write_bytes(DAMAGED[damage])
    with pytest.raises(FormatError, match=r"a\.json: not a small one.*Make it again") as caught:
        files.read_json(tmp_path / "a.json", Small, "a small one", next_step="Make it again", by_hand=True)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_what_was_changed_after_it_was_written_is_seen(tmp_path):
    path = files.write_json(tmp_path / "a.json", {"name": "é", "numbers": [0.1, 1e-300, 3]})
    assert files.read_json(path, Small, "a small one").numbers == [0.1, 1e-300, 3]
    whole = path.read_text()
    path.write_text(whole.replace("0.1", "0.2"))
    with pytest.raises(FormatError, match="SHA-256 is another"):
        files.read_json(path, Small, "a small one")
    path.write_text('{"name": "by hand", "numbers": [1]}')
    assert files.read_json(path, Small, "a small one", by_hand=True).name == "by hand"
    with pytest.raises(FormatError, match="SHA-256 is another"):
        files.read_json(path, Small, "a small one")


def test_sha256(tmp_path: Path) -> None:
    path = files.write_bytes(tmp_path / "x", b"abc")
    assert files.sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_fingerprint_goes_by_content_not_by_order_of_names() -> None:
    assert files.fingerprint({"a": 1, "b": [2.0, None]}) == files.fingerprint({"b": [2.0, None], "a": 1})
    assert files.fingerprint([1, 2]) != files.fingerprint([2, 1])


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])


WRITE_A_SET = (
    "import os, sys; from pathlib import Path; from smnb import files\n"
    "seen, real = [], Path.replace\n"
    "def replace(self, target):\n"
    "    if len(seen) == int(sys.argv[2]): os._exit(9)\n"
    "    seen.append(target); return real(self, target)\n"
    "Path.replace = replace\n"
    "with files.atomic_set(sys.argv[1], 'a') as made:\n"
    "    for name in 'abc': (made / name).write_text('new')\n"
    "    if sys.argv[2] == '-1': os._exit(9)\n"
)


@pytest.mark.parametrize(("at", "expected"), [(-1, "old"), (0, "old"), (1, "new"), (2, "new"), (3, "new")])
def test_a_killed_set_is_the_old_or_the_new_one(tmp_path: Path, at: int, expected: str) -> None:
    for name in "abc":
        (tmp_path / name).write_text("old")
    assert run_python(WRITE_A_SET, tmp_path, at).returncode == 9
    files.finish_set(tmp_path, "a")
    with files.held_output("test", tmp_path / "a"):
        pass
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == dict.fromkeys("abc", expected)


def test_an_output_is_held_by_one_and_the_other_learns_who(tmp_path: Path) -> None:
    (tmp_path / ".m.nc.partial-0.nc").write_text("left by a kill")
    (tmp_path / ".other.nc.partial-0.nc").write_text("another's")
    with files.held_output("first", tmp_path / "m.nc"):
        assert [one.name for one in tmp_path.glob(".*partial*")] == [".other.nc.partial-0.nc"]
        code = "import sys; from smnb import files\nwith files.held_output('second', sys.argv[1]): pass"
        error = run_python(code, tmp_path / "m.nc").stderr.splitlines()[-1]
        assert f"second: another process is writing this output: process {os.getpid()} on " in error
        assert "m.nc" in error
    assert [one.name for one in tmp_path.iterdir()] == [".other.nc.partial-0.nc"]


def test_what_cannot_be_written_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.nc").mkdir()
    for path, cause in (("file/m.nc", "Not a directory"), ("folder.nc", "Is a directory")):
        with pytest.raises(RunError, match=rf"^test: cannot write .*{path}; got {cause}\. Choose"):
            files.check_output("test", tmp_path / path)
    files.check_output("test", tmp_path / "deep" / "new.nc")

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "tmpabc"))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(RunError, match=r"cannot write .*m\.nc; got Permission denied"):
        files.check_output("test", tmp_path / "m.nc")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder.nc"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("unknown GDAL error")])
def test_a_full_disk_is_one_error_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(files, "_fault", lambda *_: full)
    with pytest.raises(OSError, match="No space left") as caught, files.atomic_path(tmp_path / "m.tif"):
        raise error
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "m.tif"))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_output_that_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught, files.held_output("test", tmp_path / "m.zarr"):
        full()  # as a library, or the lock's own file, says it
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "m.zarr"))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(files.platform, "node", full)  # while the lock says who holds it
    with files.held_output("test", tmp_path / "m.zarr"):
        pass


def test_an_output_that_is_a_folder_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.write_text(tmp_path / "a.txt", "x")
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_content_is_hashed_once_and_every_change_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_KNOWN", known := {})
    monkeypatch.setattr(files, "_SETTLED", -60.0)  # files of a test are new
    hashed = []
    sha256_of = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: hashed.append(Path(path).name) or sha256_of(path))
    cache, one, folder = tmp_path / "hashes.json", tmp_path / "one", tmp_path / "folder"
    for path in (one, folder / "a", folder / "deep" / "b"):
        files.write_text(path, "abc")

    def content() -> list[str]:
        known.clear()  # as in another process
        hashed.clear()
        return files.content_of([one, folder, one], cache)

    first = content()
    assert first[0] == first[2] == sha256_of(one)
    assert sorted(hashed) == ["a", "b", "one"]
    assert content() == first
    assert hashed == []
    stat = one.stat()
    one.write_text("abd")  # as long, and as old by its time of change
    os.utime(one, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content()[1:] != first[1:]
    assert hashed == ["one"]
    files.write_text(one, "abc")
    assert content() == first
    (folder / "deep" / "b").rename(folder / "deep" / "c")
    assert content()[1] != first[1]
    cache.write_text('{"damaged": ')
    assert content()[0] == first[0]
    assert sorted(hashed) == ["a", "c", "one"]
    (tmp_path / "hashes.json").unlink()
    cache.mkdir()  # it cannot be kept: that is no error
    assert content()[0] == first[0]


def test_a_file_written_just_now_is_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_KNOWN", {})
    path = files.write_text(tmp_path / "x", "abc")
    files.content_of([path], tmp_path / "hashes.json")
    assert files._KNOWN == {}
    assert not (tmp_path / "hashes.json").exists()
