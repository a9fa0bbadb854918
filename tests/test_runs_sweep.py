"""Sweeps: members of a grid, resuming, failures, the table, a local Dask cluster and a scheduler's address."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from urllib.parse import quote

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from external_resources import external_resources

from smnb.cli import app as cli
from smnb.cli.runs import grid_values
from smnb.contract import ParameterError, RunError
from smnb.runs import execution, sweep
from smnb.runs.parameters import Written
from smnb.runs.worker import hold

module = importlib.import_module("smnb.runs.sweep")  # the package's attribute of this name is the function
PARAMETERS = """\
preset: str = "quick"  # quick or full
region: str = "tucson"  # where
seed: int = 0  # of the weights
epochs: int or None = None  # passes over the data
rate: float = 0.1  # learning rate
inputs: list[str] = ["spatial"]  # channels
out_dir: str = ""  # folder for outputs
"""
START = 'from smnb.runs import Run\nrun = Run.start("01_train", globals())\ns = run.settings'
WORK = """\
import os, pathlib, time
if s.region == "slow":
    pathlib.Path(run.out, "waiting").touch()
    time.sleep(120)
if s.region == "nowhere":
    raise ValueError("no such region")
threads = int(os.environ.get("OMP_NUM_THREADS", 0))
run.record({"cnn": {"test": {"rmse": s.seed / 8 + s.rate, "r": float("nan")}}, "threads": threads})
run.finish();"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one notebook; it is the current folder."""
    folder = tmp_path / "notebooks"
    (folder / "params").mkdir(parents=True)
    for preset in ("quick", "full"):
        (folder / "params" / f"{preset}.yaml").write_text(f"preset: {preset}\n")
    (folder / "params" / "settings.yaml").write_text("01_train:\n  epochs: {quick: 3, full: 30}\n")
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    cells = [first, *(nbformat.v4.new_code_cell(text) for text in (START, WORK))]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "smnb": {"catalog_ids": []}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "01_train.ipynb")
    monkeypatch.chdir(tmp_path)
    for variable in ("SMNB_NOTEBOOK_DIR", "SMNB_RUN_DIR", "SMNB_DATA"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def pretend(project, monkeypatch) -> list[dict]:
    """Start no process: note the parameters of what would be executed, fail for 'nowhere', else write a record."""
    executed = []

    def execute(path, parameters, final, environment, report, unwanted):
        executed.append({**parameters, "threads": environment.get("OMP_NUM_THREADS")})
        if parameters.get("region") == "nowhere":
            raise execution._CellError("cell In[3] failed: ValueError: no such region")
        nbformat.write(nbformat.v4.new_notebook(), final)
        metrics = {"cnn": {"test": {"rmse": parameters.get("seed", 0) / 8, "r": None}}, "seconds": 2.0}
        record = {"schema_version": 1, "notebook": "01_train", "metrics": metrics, "synthetic": True}
        (final.parent / "01_train.record.json").write_text(json.dumps(record))

    monkeypatch.setattr(execution, "_execute", execute)
    monkeypatch.setattr(execution, "library_fingerprint", lambda: "library 1")
    monkeypatch.setitem(sys.modules, "distributed", None)  # one worker needs no Dask: importing it would fail
    return executed


def test_a_product_has_a_row_a_member_with_its_metrics_and_links_their_reports(project, pretend):
    told = []
    table = sweep(
        "s",
        "01",
        {"region": ["tucson", "reynolds_creek"], "seed": (0, 1)},
        parameters={"rate": 1},
        progress=lambda *event: told.append(event),
    )
    slugs = [f"region={region},seed={seed}" for region in ("tucson", "reynolds_creek") for seed in (0, 1)]
    assert list(table["member"]) == slugs
    assert told == [(slug, "done", number, 4) for number, slug in enumerate(slugs, 1)]
    assert list(table.columns) == [
        "member",
        "region",
        "seed",
        "status",
        "seconds",
        "message",
        "synthetic",
        "cnn.test.rmse",
        "cnn.test.r",
        "metrics.seconds",
    ]
    assert list(table["cnn.test.rmse"]) == [0, 0.125, 0, 0.125]
    assert table["cnn.test.r"].isna().all()
    assert table.attrs["synthetic"] is True
    expected = {"preset": "quick", "rate": 1.0, "region": "reynolds_creek", "seed": 1, "threads": None}
    assert {**pretend[-1], "threads": None} == expected
    out = project / "runs" / "s"
    pd.testing.assert_frame_equal(pd.read_csv(out / "sweep.csv"), table, check_dtype=False)
    stored = json.loads((out / "sweep.json").read_text())
    assert stored["parameters"] == {"rate": 1}
    assert stored["members"][1]["parameters"] == {"region": "tucson", "seed": 1}
    assert stored["members"][1]["metrics"] == {"cnn.test.rmse": 0.125, "cnn.test.r": None, "seconds": 2.0}
    page = (out / "sweep.html").read_text()
    assert external_resources(page) == []
    assert "Sweep s (synthetic)" in page
    assert re.findall(r'href="([^"]+)"', page) == [f"{quote(slug)}/index.html" for slug in slugs]
    assert all((out / slug / "index.html").is_file() for slug in slugs)


def test_a_list_of_members_need_not_be_a_product(project, pretend):
    table = sweep("s", "01", [{}, {"seed": np.int64(3)}, {"inputs": ["spatial", "sm"], "epochs": None}], preset="full")
    assert list(table["member"]) == ["defaults", "seed=3", "epochs=none,inputs=spatial+sm"]
    assert pretend[1]["seed"] == 3
    assert [one["preset"] for one in pretend] == ["full"] * 3
    assert pd.read_csv(project / "runs" / "s" / "sweep.csv")["inputs"][2] == '["spatial", "sm"]'


def test_a_sweep_goes_on_where_it_was(project, pretend):
    def statuses(grid, **options):
        return list(sweep("s", "01", grid, **options)["status"])

    assert statuses({"seed": [0, 1]}) == ["done", "done"]
    assert statuses({"seed": [0, 1]}) == ["skipped", "skipped"]
    assert statuses({"seed": [1, 2, 0]}) == ["skipped", "done", "skipped"]
    (project / "runs" / "s" / "seed=1" / "01_train.ipynb").unlink()
    assert statuses({"seed": [0, 1]}) == ["skipped", "done"]
    assert statuses({"seed": [0]}, parameters={"rate": 0.5}) == ["done"]
    assert statuses({"seed": [0]}, parameters={"rate": 0.5}, force=True) == ["done"]
    assert len(pretend) == 6


def test_interrupted_members_are_pending_in_the_table(project, pretend):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep("s", "01", {"seed": [0, 1]}, progress=interrupt)
    assert list(pd.read_csv(project / "runs" / "s" / "sweep.csv")["status"]) == ["done", "pending"]
    assert list(sweep("s", "01", {"seed": [0, 1]})["status"]) == ["skipped", "done"]


def test_a_failed_member_does_not_stop_the_others(project, pretend):
    table = sweep("s", "01", {"region": ["nowhere", "tucson"]})
    assert list(table["status"]) == ["failed", "done"]
    assert table["message"][0] == "cell In[3] failed: ValueError: no such region"
    assert list(table["cnn.test.rmse"].isna()) == [True, False]
    assert "<span class=mark>failed</span>" in (project / "runs" / "s" / "sweep.html").read_text()
    with hold(project / "runs" / "s" / "region=tucson" / ".lock", "region=tucson"):
        held = sweep("s", "01", {"region": ["tucson", "nowhere"], "seed": [0]}, threads_per_worker=3)
    assert list(held["status"]) == ["done", "failed"]
    assert pretend[-1]["threads"] == "3"
    assert os.environ.get("OMP_NUM_THREADS") != "3"
    with hold(project / "runs" / "s" / "region=tucson" / ".lock", "region=tucson"):
        held = sweep("s", "01", {"region": ["tucson"]})
    assert re.search(
        r"another process executes a run of this name: process \d+.*; got 'region=tucson'", held["message"][0]
    )


def test_two_sweeps_of_one_name_and_a_run_of_that_name_are_refused(project, pretend):
    (project / "runs" / "s").mkdir(parents=True)
    with (
        hold(project / "runs" / "s" / ".lock", "s"),
        pytest.raises(RunError, match=r"another process executes a run of this name: process \d+.*; got 's'"),
    ):
        sweep("s", "01", {"seed": [0]})
    execution.run_notebooks("run", ["01"])
    with pytest.raises(ParameterError, match="there is a run of this name; got 'run'"):
        sweep("run", "01", {"seed": [0]})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"grid": {"seed": [0], "seeed": [1]}}, "unknown parameter; got 'seeed'"),
        ({"grid": [{"seed": 0}, {"seeed": 1}]}, "The closest is 'seed'"),
        ({"grid": {"seed": [0, "one"]}}, "parameter 'seed' is 'one' (str); expected int"),
        ({"grid": {"preset": ["quick", "paper"]}}, "unknown 'preset'; got 'paper'"),
        ({"grid": {"region": "tucson"}}, "the grid's 'region' is not a list of values"),
        ({"grid": {"region": []}}, "the grid has no values; got ['region']"),
        ({"grid": {}}, "the grid has no values"),
        ({"grid": []}, "a grid maps parameters to lists"),
        ({"grid": {"rate": [1, 1.0]}}, "the same member twice; got {'rate': 1.0}"),
        ({"grid": {"out_dir": ["a", "b"]}}, "out_dir cannot be given"),
        ({"parameters": {"seed": 1}}, "in the grid and among those of all members; got 'seed'"),
        ({"parameters": {"seeed": 1}}, "unknown parameter; got 'seeed'"),
        ({"name": "../s"}, "one plain folder name"),
        ({"notebook": "09"}, "no such notebook; got '09'"),
        ({"workers": 0}, "'workers' is no whole number; got 0; expected at least 1"),
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "a scheduler was given"),
        ({"threads_per_worker": 1.5}, "'threads_per_worker' is no whole number; got 1.5"),
    ],
)
def test_mistakes_are_found_before_anything_is_executed(project, pretend, options, says):
    with pytest.raises(ParameterError, match=re.escape(says)):
        sweep(**{"name": "s", "notebook": "01", "grid": {"seed": [0]}, **options})
    assert pretend == []
    assert not (project / "runs").exists()


def test_a_members_folder_has_the_same_name_for_ever():
    values = {"region": "tucson", "inputs": ["spatial", "sm"], "seed": 0, "mask": None}
    assert module._slug(values) == "region=tucson,inputs=spatial+sm,seed=0,mask=none"
    assert module._slug({"region": "a/b c"}) == "region=a_b_c-65db655d"


def test_the_grid_of_a_command_has_lists_of_lists():
    grid = grid_values(["seed=0,1", "region=[a, b]", "inputs=[a],[a, b]"], lists=["inputs"])
    assert grid == {"seed": ["0", "1"], "region": ["a", "b"], "inputs": [["a"], ["a", "b"]]}


def test_a_grid_means_what_the_declared_types_say(project, pretend):
    grid = grid_values(["seed=010,8", "region=2011-07-01,NA,12:30:45"])
    table = sweep("s", "01", grid, parameters={"rate": Written("1e-1")})
    assert sorted({*table["seed"]}) == [8, 10]
    assert list(table["region"][:3]) == ["2011-07-01", "NA", "12:30:45"]
    assert json.loads((project / "runs" / "s" / "sweep.json").read_text())["parameters"] == {"rate": 0.1}


def test_folders_of_members_are_safe_and_different(project, pretend):
    regions = ["a/b", "a b", "A", "a", "none", "..", "x" * 300, "x" * 301]
    slugs = list(sweep("s", "01", {"region": regions})["member"])
    assert len({slug.casefold() for slug in slugs}) == len(regions)
    assert all(re.fullmatch(r"region=[\w.=,+-]{1,80}", slug) and len(slug) <= 80 for slug in slugs)
    # the order of the grid does not make another member
    first = list(sweep("s", "01", {"seed": [0], "region": ["tucson"]})["member"])
    assert first == list(sweep("s", "01", {"region": ["tucson"], "seed": [0]})["member"]) == ["region=tucson,seed=0"]


# --- Dask: these start processes --------------------------------------------------------------------------------------


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that work for a run below a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command, environment = " ".join(process.cmdline()), process.environ()
            if str(folder) in environment.get("SMNB_RUN_DIR", "") or (
                "smnb.runs" in command and str(folder) in command
            ):
                found.append(command)
    return found


def test_two_workers_execute_members_side_by_side_and_an_interrupt_ends_them(project, monkeypatch):
    monkeypatch.setattr("dask.system.CPU_COUNT", 6)
    waiting = project / "runs" / "s" / "region=slow" / "01_train" / "waiting"
    during = []

    def interrupt_when_the_last_has_begun(member, status, done, total):
        if done == 2:
            deadline = time.monotonic() + 60
            while not waiting.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            during.extend(processes_of(project))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(
            "s", "01", {"region": ["nowhere", "slow", "tucson"]}, workers=2, progress=interrupt_when_the_last_has_begun
        )
    assert len(during) >= 2, during  # the worker of its notebook, and the kernel
    assert processes_of(project) == []
    table = pd.read_csv(project / "runs" / "s" / "sweep.csv").set_index("region")
    assert dict(table["status"]) == {"nowhere": "failed", "slow": "pending", "tucson": "done"}
    assert table["message"]["nowhere"].endswith("failed: ValueError: no such region")
    assert table["threads"]["tucson"] == 3  # of 6 cores
    assert table["cnn.test.rmse"]["tucson"] == 0.1
    assert (project / "runs" / "s" / "region=nowhere" / "01_train.failed.html").is_file()


@pytest.fixture
def address():
    """Address of a scheduler on loopback with a worker in this process."""
    distributed = pytest.importorskip("distributed")
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": None, "memory_limit": 0}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, host="127.0.0.1", **options) as cluster:
        yield cluster.scheduler_address


def test_a_scheduler_is_given_by_its_address(project, address):
    assert address.startswith("tcp://127.0.0.1:")
    table = sweep("s", "01", {"seed": [1, 2]}, scheduler=address, threads_per_worker=1)
    assert list(table["status"]) == ["done", "done"], list(table["message"])
    assert list(table["cnn.test.rmse"]) == [0.225, 0.35]
    assert list(table["threads"]) == [1, 1]
    assert not list((project / "runs" / "s").glob(".seen*"))


class FakeClient:
    """A cluster whose workers answer one thing."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def run(self, function, *arguments, on_error):
        return {"tcp://node1:1": self.answer}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"sees": False, "library": ""}, "the worker tcp://node1:1 does not see the sweep's folder"),
        ({"sees": True, "library": "another"}, "has other source files of smnb; got 'another'"),
        (ModuleNotFoundError("No module named 'smnb'"), "cannot execute members; got ModuleNotFoundError: No module"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_refused(tmp_path, answer, says):
    with pytest.raises(RunError, match=re.escape(says)):
        module._check_workers(FakeClient(answer), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_nobody_listens_at_is_an_error(project):
    with pytest.raises(RunError, match="smnb sweep: cannot reach the Dask scheduler; got 'nonsense://x'"):
        sweep("s", "01", {"seed": [1]}, scheduler="nonsense://x")


# --- the command ------------------------------------------------------------------------------------------------------


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of the command, in this process."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["sweep", "01", "--name", "s", *arguments])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_the_command_prints_the_table_and_fails_with_a_member(project, pretend, capsys):
    status, out, err = call(capsys, "-g", "seed=0,1", "-g", "inputs=[spatial, sm]", "-p", "rate=1e-3")
    assert status == 0, err
    assert [(one["seed"], one["inputs"], one["rate"]) for one in pretend] == [
        (0, ["spatial", "sm"], 0.001),
        (1, ["spatial", "sm"], 0.001),
    ]
    assert "1/2 seed=0,inputs=spatial+sm: done\n2/2 seed=1" in err
    lines = out.splitlines()
    assert lines[0] == "Sweep s (synthetic)"
    columns = ["seed", "inputs", "status", "seconds", "cnn.test.rmse", "cnn.test.r", "metrics.seconds"]
    assert lines[1].split() == [column.upper() for column in columns]
    assert lines[3].split()[-2:] == ["0.125", "2"]
    status, out, err = call(capsys, "-g", "region=[nowhere, tucson]", "--metric", "cnn.test.rmse")
    assert status == 1
    assert err.splitlines()[-1].startswith("error: region=nowhere: ")
    assert "ValueError: no such region; 1 of 2 failed" in err.splitlines()[-1]
    assert "and 2 more metrics in sweep.csv" in out
    printed = json.loads(call(capsys, "-g", "seed=0", "--json")[1])
    assert printed["members"][0]["parameters"] == {"seed": 0}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-g", "seed"], "-g takes name=value,value; got 'seed'"),
        (["-g", "seed=0", "-g", "seed=1"], "a name was given twice; got 'seed'"),
        (["-g", "seed=[0"], "the value of 'seed' is not YAML"),
        (["-g", "seed="], "the grid has no values; got ['seed']"),
        (["-g", "seed=0", "-p", "rate"], "-p takes name=value; got 'rate'"),
        (["-g", "seed={a: 1}"], "parameter 'seed' is {'a': '1'} (dict)"),
    ],
)
def test_mistakes_of_the_command(project, pretend, capsys, arguments, says):
    status, _, err = call(capsys, *arguments)
    assert status == 2
    assert says in err
    assert pretend == []
