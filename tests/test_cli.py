"""The command line: tables for people, JSON for programs, one clear line and a status for mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import smnb
from smnb.cli import app as cli
from smnb.runs import NotebookResult

REPOSITORY = Path(__file__).resolve().parents[1]
COMMANDS = ["catalog", "fetch", "sandbox", "run", "models", "report", "map", "retrieve", "sweep"]


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of the command, in this process."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def assert_one_line(err: str) -> None:
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a notebook and presets, as the current one."""
    cell = {"cell_type": "code", "outputs": [], "execution_count": None, "metadata": {"tags": ["parameters"]}}
    cell["source"] = 'preset: str = "quick"  # preset\nepochs: int or None = None  # passes over the data\n'
    folder = tmp_path / "notebooks"
    (folder / "params").mkdir(parents=True)
    (folder / "params" / "quick.yaml").write_text("preset: quick\n")
    content = {"cells": [cell], "metadata": {"smnb": {"catalog_ids": []}}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "01_one.ipynb").write_text(json.dumps(content))
    (tmp_path / "data_catalog.yaml").write_text((REPOSITORY / "data_catalog.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    for variable in ("SMNB_NOTEBOOK_DIR", "SMNB_RUN_DIR", "SMNB_DATA"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: smnb {command}" in " ".join(result.output.split())


def test_the_overview_names_every_command():
    result = CliRunner().invoke(cli.app, ["--help"])
    assert all(f"\n  {command} " in result.output for command in COMMANDS)


def test_version(capsys):
    assert call(capsys, "--version") == (0, f"smnb {smnb.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["modls"], "No such command 'modls'"),
        (["run", "--bogus"], "No such option"),
        (["run", "-p", "epochs"], "-p takes name=value; got 'epochs'"),
        (["run", "-p", "2x=1"], "-p takes name=value"),
        (["run", "-p", "epochs=[1"], "01_one: parameter 'epochs' is '[1' (str); expected int or None"),
        (["sweep", "01", "--name", "s", "-g", "epochs=[1"], "the value of 'epochs' is not YAML; got '[1'"),
        (["run", "-p", "epochs=1", "-p", "epochs=2"], "given twice; got 'epochs'"),
        (["run", "-p", "epochs=ten"], "01_one: parameter 'epochs' is 'ten' (str); expected int or None"),
        (["run", "-p", "epoch=1"], "unknown parameter; got 'epoch'; expected ['epochs', 'preset']"),
        (["run", "--preset", "ful"], "unknown 'preset'; got 'ful'; expected ['quick']"),
        (["run", "09"], "no such notebook; got '09'; expected ['01_one']"),
        (["run", "--name", "a/b"], "one plain folder name; got 'a/b'"),
        (["run", "--list", "09"], "no such notebook"),
        (["report", "nope"], "no such run; got 'nope'; expected []"),
        (["report"], "Missing argument"),
        (["fetch", "nope"], "nope"),
        (["catalog", "--check"], "the data root is not there"),
        (["catalog", "--check", "--root", "."], "have no usable files"),
        (["catalog", "--root", "/nowhere", "--json"], "the data root is not there; got '/nowhere'"),
        (["catalog", "--root", "data_catalog.yaml"], "the data root is not a folder"),
        (["ingest", ".", "--out", "o", "--depth", "0", "5"], "Were metres meant, 0 to 0.05?"),
        (["sandbox", "--preset", "huge"], "huge"),
        (["sandbox", "--seed", "x"], "--seed"),
    ],
)
def test_a_mistake_is_one_line_and_status_two(here, capsys, arguments, says):
    status, _, err = call(capsys, *arguments)
    assert status == 2
    assert_one_line(err)
    assert says in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(here, capsys):
    status, _, err = call(capsys, "report", "nope", "--debug")
    assert status == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: ")


def test_an_error_of_the_system_names_the_file(here, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "x.nc")

    monkeypatch.setattr("smnb.runs.run_notebooks", full)
    assert call(capsys, "run") == (2, "", "error: x.nc: No space left on device\n")


def test_catalog_as_table_and_json(here, capsys):
    status, out, err = call(capsys, "catalog", "--json")
    entries = json.loads(out)
    assert status == 0
    assert "note: smnb catalog: the data root is not there" in err
    assert {"id", "present", "n_files", "bytes", "how_to_get"} <= set(entries[0])
    assert not any(entry["present"] for entry in entries)
    status, out, _ = call(capsys, "catalog", "--root", str(here))
    assert status == 0
    assert out.splitlines()[0].split()[:3] == ["ID", "PRESENT", "FILES"]
    assert len(out.splitlines()) == len(entries) + 1


def test_sandbox_passes_its_options_on_and_says_what_it_wrote(here, capsys, monkeypatch):
    given = {}

    def pretend(root, preset="quick", seed=2011, progress=None):
        given.update(root=root, preset=preset, seed=seed)
        for done in range(1, 9):
            progress(done, 8, "x.gz")
        return {"preset": preset, "seed": seed, "files": {"x.gz": 1}}

    monkeypatch.setattr("smnb_sandbox.write_sandbox", pretend)
    status, out, err = call(capsys, "sandbox")
    assert status == 0
    assert given == {"root": here / "data" / "sandbox", "preset": "quick", "seed": 2011}
    assert "quick, seed 2011): 1 files in" in out
    assert err.splitlines() == ["sandbox: 2/8", "sandbox: 4/8", "sandbox: 6/8", "sandbox: 8/8"]
    status, out, _ = call(capsys, "sandbox", "--out", "w", "--preset", "full", "--seed", "7", "--json")
    assert json.loads(out)["seed"] == 7
    assert given == {"root": Path("w"), "preset": "full", "seed": 7}


def test_models_as_table_and_json(capsys):
    status, out, _ = call(capsys, "models", "--json")
    assert status == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["amsre_cnn"]["parameters"] == 489_641
    assert set(rows["amsre_cnn"]) == {"name", "paper", "inputs", "parameters", "description"}
    _, out, _ = call(capsys, "models")
    assert "489,641" in out


def test_listing_notebooks_executes_nothing(here, capsys):
    status, out, _ = call(capsys, "run", "--list", "--json")
    assert status == 0
    assert [row["name"] for row in json.loads(out)] == ["preset", "epochs"]
    _, out, _ = call(capsys, "run", "--list")
    assert "passes over the data" in out
    assert not (here / "runs").exists()


def test_values_of_parameters_are_passed_on_as_they_were_written(here, capsys, monkeypatch):
    given = {}

    def pretend(name, notebooks, preset, parameters, **options):
        given.update(parameters, name=name, notebooks=notebooks, preset=preset, **options)
        options["progress"]("01_one", "start", 0, 8)
        options["progress"]("01_one", "cell", 4, 8)
        options["progress"]("01_one", "done", 0, 0)
        return [NotebookResult("01_one", "done", 1.5, "not run yet")]

    monkeypatch.setattr("smnb.runs.run_notebooks", pretend)
    values = ["a=3", "b=0.5", "c=true", "d=[x, y]", "e=", "f=null", "g=1e-3", "h=a=b"]
    arguments = [part for value in values for part in ("-p", value)]
    status, out, err = call(capsys, "run", "01", "--name", "n", "--json", *arguments)
    assert status == 0
    assert json.loads(out)["notebooks"][0]["status"] == "done"
    assert err.splitlines() == ["01_one: started", "01_one: 4/8", "01_one: done"]
    expected = dict(value.split("=", 1) for value in values)
    assert {key: given[key] for key in expected} == expected
    assert (given["name"], given["notebooks"], given["preset"]) == ("n", ["01"], "quick")


def test_a_failed_notebook_is_status_one(here, capsys, monkeypatch):
    failed = NotebookResult("01_one", "failed", 1.0, "cell In[3] (x) failed: ValueError: bad")
    monkeypatch.setattr("smnb.runs.run_notebooks", lambda *_, **__: [failed])
    status, out, err = call(capsys, "run")
    assert status == 1
    assert_one_line(err)
    assert "01_one: cell In[3] (x) failed: ValueError: bad; 1 of 1 failed" in err
    assert "failed" in out


def test_the_real_command_in_a_pipe(here):
    """One process for real: wide lines in a pipe, and heavy packages are not imported for the overview."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "40"}
    command = [sys.executable, "-X", "importtime", "-m", "smnb.cli.app", "models"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert all("amsre_cnn" in line for line in done.stdout.splitlines()[1:2])
    assert max(map(len, done.stdout.splitlines())) > 80
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "papermill", "nbconvert", "lightning", "holoviews"} & imported


@pytest.mark.parametrize(
    ("module", "become", "command", "line"),
    [
        ("pandas", "KeyboardInterrupt", "models", "What was there is as it was; run the same command again"),
        (
            "pandas",
            "ImportError",
            "map",
            "What is finished is kept; run the same command again: it goes on where it was",
        ),
        ("smnb.models", "KeyboardInterrupt", "models", "What was there is as it was; run the same command again"),
        ("smnb.models", "ImportError", "models", "What was there is as it was; run the same command again"),
        ("smnb.models", "TypeError", "models", "What was there is as it was; run the same command again"),
    ],
)
def test_ctrl_c_while_importing_is_one_line(here, module, become, command, line):
    """Whatever error an import that is interrupted ends with."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where tests run in the background
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == sys.argv[1]:\n"
        "            try: os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)\n"
        "            except KeyboardInterrupt: raise __builtins__.__dict__[sys.argv[2]]('import failed')\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from smnb.cli import main; main(sys.argv[3:])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, module, become, command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, f"error: interrupted. {line}.\n")


def test_ctrl_c_says_how_to_go_on(here, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("smnb_sandbox.write_sandbox", stopped)
    status, _, err = call(capsys, "sandbox", "--out", "s")
    assert (status, err.strip().splitlines()[-1]) == (
        130,
        "error: interrupted. What is finished is kept; run the same command again: it goes on where it was.",
    )
