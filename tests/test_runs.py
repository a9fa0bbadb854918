"""Runs: parameters, presets, records, headless execution of small notebooks, the report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from external_resources import external_resources
from papermill.exceptions import PapermillExecutionError

from smnb.cli.runs import parameter_values
from smnb.contract import CatalogError, FormatError, ParameterError, RunError
from smnb.runs import (
    Run,
    declared_parameters,
    execution,
    find_notebook,
    notebook_folder,
    preset_settings,
    run_notebooks,
    write_report,
)
from smnb.runs.execution import _environment
from smnb.runs.parameters import check_parameters, known_presets
from smnb.runs.record import fingerprint_files
from smnb.runs.report import offline

REPOSITORY = Path(__file__).resolve().parents[1]
PARAMETERS = """\
preset: str = "quick"  # quick or full
epochs: int or None = None  # passes over the data
rate: float = 0.1  # learning rate
names: list[str] = ["a"]  # regions
mode: str = "good"  # good, bad or slow
"""
START = 'from smnb.runs import Run\nrun = Run.start("{name}", globals())\ns = run.settings'
WORK = """\
import pathlib, time
if s.mode == "slow":
    pathlib.Path(run.out, "waiting").touch()
    time.sleep(60)
if s.mode == "bad":
    raise ValueError("the data\\nare bad")
"""
FINISH = 'run.record({{"cnn": {{"test": {{"rmse": s.epochs / 8, "n": 7}}}}}})\nprint(run.finish().name)'


def write_notebook(folder: Path, name: str, *, parameters: str = PARAMETERS, cells: list[str] | None = None, **smnb):
    notebook = nbformat.v4.new_notebook()
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    texts = cells if cells is not None else [START, WORK, FINISH]
    code = [nbformat.v4.new_code_cell(text.format(name=name) if text != WORK else text) for text in texts]
    notebook.cells = [nbformat.v4.new_markdown_cell(f"# {name}"), first, *code]
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "smnb": {"catalog_ids": [], **smnb},
    }
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two notebooks, of which the second needs the first; it is the current folder."""
    folder = tmp_path / "notebooks"
    (folder / "params").mkdir(parents=True)
    for preset in ("quick", "full"):
        (folder / "params" / f"{preset}.yaml").write_text(f"preset: {preset}\n")
    settings = "01_one:\n  epochs: {quick: 3, full: 30}\n02_two:\n  epochs: {quick: 4, full: 40}\n"
    (folder / "params" / "settings.yaml").write_text(settings)
    write_notebook(folder, "01_one")
    write_notebook(folder, "02_two", needs=["01_one"])
    monkeypatch.chdir(tmp_path)
    for variable in ("SMNB_NOTEBOOK_DIR", "SMNB_RUN_DIR", "SMNB_DATA"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def test_declared_parameters_have_types_defaults_and_comments(project):
    declared = declared_parameters(project / "notebooks" / "01_one.ipynb")
    assert list(declared) == ["preset", "epochs", "rate", "names", "mode"]
    assert (declared["epochs"].type, declared["epochs"].optional, declared["epochs"].default) == ("int", True, None)
    assert declared["names"].default == ["a"]
    assert declared["rate"].comment == "learning rate"


@pytest.mark.parametrize("annotation", ["int | None", "int or None"])
def test_both_ways_of_writing_an_optional_type(project, annotation):
    path = write_notebook(project / "notebooks", "03_x", parameters=f"n: {annotation} = None  # number\n")
    assert declared_parameters(path)["n"].expected == "int or None"


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("n: int = 3\n", "no trailing comment"),
        ("n = 3  # number\n", "more than declarations"),
        ("n: int = 3  # number\nprint(n)\n", "more than declarations"),
        ("n: dict = {}  # table\n", "papermill cannot pass"),
        ("n: int or str = 3  # number\n", "papermill cannot pass"),
        ("n: int = 1 + m  # number\n", "not a literal"),
        ("n: int = 'ten'  # number\n", "has another type; got 'ten'; expected int"),
        ("n: int = None  # number\n", "has another type"),
        ("n: int = 3  # number\nn: int = 4  # number\n", "declared twice"),
        ("n: int = (  # number\n", "not Python"),
    ],
)
def test_a_bad_parameters_cell_is_refused(project, cell, says):
    path = write_notebook(project / "notebooks", "03_x", parameters=cell)
    with pytest.raises(FormatError, match=re.escape(says)):
        declared_parameters(path)


def test_a_notebook_needs_exactly_one_parameters_cell_and_must_be_json(project):
    path = write_notebook(project / "notebooks", "03_x")
    text = path.read_text()
    path.write_text(text.replace('"parameters"', '"other"'))
    with pytest.raises(FormatError, match="one cell tagged 'parameters'; got 0"):
        declared_parameters(path)
    path.write_text(text[: len(text) // 2])  # as a copy that was cut short
    with pytest.raises(FormatError, match=r"03_x\.ipynb: not a Jupyter notebook"):
        declared_parameters(path)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"epochs": "ten"}, "parameter 'epochs' is 'ten' (str); expected int or None"),
        ({"epochs": True}, "parameter 'epochs' is True (bool); expected int or None"),
        ({"epochs": 2.5}, "is 2.5 (float)"),
        ({"rate": None}, "is None (NoneType); expected float"),
        ({"rate": "0.1"}, "expected float"),
        ({"names": "a"}, "expected list[str]"),
        ({"names": ["a", 1]}, "expected list[str]"),
        ({"preset": 3}, "expected str"),
        ({"epoch": 3}, "unknown parameter; got 'epoch'; expected ['preset', 'epochs', 'rate', 'names', 'mode']"),
        ({"epoch": 3}, "The closest is 'epochs'"),
    ],
)
def test_values_of_the_wrong_type_or_name_are_fatal(project, values, says):
    with pytest.raises(ParameterError, match=re.escape(says)):
        check_parameters(project / "notebooks" / "01_one.ipynb", values)


TYPED = """\
day: str = ""  # first day
maybe: str or None = None  # a name
count: int = 1  # number
rate: float or None = None  # learning rate
on: bool = False  # switch
names: list[str] = []  # sensors
sizes: list[int] or None = None  # numbers
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("day=2011-07-01", "2011-07-01"),
        ("day=12:30:45", "12:30:45"),
        ("day=010", "010"),
        ("day=None", "None"),
        ("day=NA", "NA"),
        ("day='a b'", "a b"),
        ("day=", ""),
        ("maybe=None", None),
        ("maybe=none", "none"),
        ("maybe=no", "no"),
        ("count=010", 10),
        ("rate=010", 10.0),
        ("rate=1e-3", 0.001),
        ("rate=null", None),
        ("on=true", True),
        ("on=off", False),
        ("names=[NA, 007, 2011-07-01, 1e3, None, yes]", ["NA", "007", "2011-07-01", "1e3", "None", "yes"]),
        ("names=", []),
        ("sizes=[010, 8]", [10, 8]),
        ("sizes=None", None),
    ],
)
def test_a_written_value_means_what_the_declared_type_says(project, text, value):
    path = write_notebook(project / "notebooks", "03_x", parameters=TYPED)
    (found,) = check_parameters(path, parameter_values([text], who="x")).values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["count=12:30:45", "count=2011-07-01", "count=None", "count=1e3", "count='3'", "rate=nan", "rate=12:30"]
)
def test_a_written_value_that_the_declared_type_cannot_be_is_refused(project, text):
    path = write_notebook(project / "notebooks", "03_x", parameters=TYPED)
    with pytest.raises(ParameterError, match=r"03_x: parameter '\w+' is '.*' \(str\); expected"):
        check_parameters(path, parameter_values([text], who="x"))


def test_dates_of_python_and_of_preset_files_are_text(project):
    path = write_notebook(project / "notebooks", "03_x", parameters=TYPED)
    given = {"day": date(2011, 7, 1), "names": [datetime(2011, 7, 1, 6)]}
    assert check_parameters(path, given) == {"day": "2011-07-01", "names": ["2011-07-01T06:00:00"]}
    text = "03_x:\n  maybe: {quick: 2018-01-01, full: 007}\n  sizes: {quick: [010], full: }\n"
    (path.parent / "params" / "settings.yaml").write_text(text)
    assert preset_settings(path, "quick") == {"maybe": "2018-01-01", "sizes": [10]}
    assert preset_settings(path, "full") == {"maybe": "007", "sizes": None}


def test_a_choice_that_the_notebook_does_not_know_names_those_that_it_does(project):
    path = write_notebook(project / "notebooks", "03_x", choices={"mode": ["good", "slow"]})
    assert check_parameters(path, {"mode": "slow"}) == {"mode": "slow"}
    says = "03_x: unknown 'mode'; got 'sloow'; expected ['good', 'slow']. The closest is 'slow'"
    with pytest.raises(ParameterError, match=re.escape(says)):
        check_parameters(path, {"mode": "sloow"})


@pytest.mark.parametrize("path", sorted((REPOSITORY / "notebooks").glob("0[1-9]_*.ipynb")), ids=lambda path: path.stem)
def test_every_source_is_a_choice(path):
    declared = declared_parameters(path)
    if "source" in declared:
        assert declared["source"].default in declared["source"].choices
        with pytest.raises(ParameterError, match="unknown 'source'; got 'mine'; expected"):
            check_parameters(path, {"source": "mine"})


def test_an_int_becomes_a_float_where_a_float_is_declared(project):
    checked = check_parameters(project / "notebooks" / "01_one.ipynb", {"rate": 1, "epochs": None, "names": []})
    assert checked == {"rate": 1.0, "epochs": None, "names": []}
    assert isinstance(checked["rate"], float)


def test_presets_give_values_and_their_mistakes_are_named(project):
    path, settings = project / "notebooks" / "01_one.ipynb", project / "notebooks" / "params" / "settings.yaml"
    assert known_presets(path.parent) == ["full", "quick"]
    assert preset_settings(path, "full") == {"epochs": 30}
    with pytest.raises(ParameterError, match=r"unknown 'preset'; got 'quik'.*The closest is 'quick'"):
        preset_settings(path, "quik")
    for text, says in [
        ("01_one:\n  epoch: {quick: 1, full: 2}\n", "unknown parameter; got 'epoch'"),
        ("01_one:\n  epochs: {quick: 1}\n", "one value a preset"),
        ("01_one:\n  epochs: 3\n", "one value a preset"),
        ("01_one:\n  epochs: {quick: 1, full: many}\n", "parameter 'epochs' is 'many' (str)"),
        ("01_one:\n  rate: {quick: 1, full: 2}\n", "never takes a preset's value"),
        ("01_one: [\n", "not valid YAML"),
        ("01_one: &a {rate: *a}\n", "an alias stands for what it is in"),
        ("- 01_one\n", "not a mapping"),
    ]:
        settings.write_text(text)
        with pytest.raises(ParameterError, match=re.escape(says)):
            preset_settings(path, "full")


def test_notebooks_are_found_by_name_and_number(project):
    folder = notebook_folder()
    assert folder == project / "notebooks"
    assert notebook_folder(folder) == folder
    assert find_notebook("2").stem == find_notebook("002").stem == "02_two"
    assert find_notebook("02").stem == find_notebook("02_two").stem == "02_two"
    with pytest.raises(ParameterError, match=r"no such notebook; got '02_tow'.*The closest is '02_two'"):
        find_notebook("02_tow")
    write_notebook(folder, "02_more")
    with pytest.raises(ParameterError, match="several notebooks fit; got '02'"):
        find_notebook("02")


def start(project: Path, **values) -> Run:
    namespace = {"preset": "quick", "epochs": None, "rate": 0.1, "names": ["a"], "mode": "good"}
    return Run.start("01_one", {**namespace, **values})


def test_start_fills_what_the_preset_decides_and_keeps_what_was_given(project):
    assert start(project).settings.epochs == 3
    assert start(project, preset="full").settings.epochs == 30
    assert start(project, preset="full", epochs=5).settings.epochs == 5
    assert start(project).parameters["epochs"] is None


def test_start_refuses_what_papermill_injected_without_being_declared(project):
    history = ["", "# Parameters\nepochs = 2\n", "# Parameters\nepochs = 3\nepoch = 4\n"]
    with pytest.raises(ParameterError, match="01_one: unknown parameter; got 'epoch'"):
        start(project, In=history)
    assert start(project, In=history[:2]).notebook == "01_one"
    assert start(project, In=["# Parameters\n%matplotlib inline\nx = 1"]).notebook == "01_one"
    with pytest.raises(ParameterError, match="'epochs' is 'ten'"):
        start(project, epochs="ten")
    with pytest.raises(ParameterError, match=r"no value; got \['preset'.*Execute the cell"):
        Run.start("01_one", {})


def test_the_folder_for_outputs(project, monkeypatch):
    monkeypatch.setenv("SMNB_RUN_DIR", str(project / "elsewhere"))
    assert start(project).out == project / "elsewhere" / "01_one"
    assert start(project).folder("02_two") == project / "elsewhere" / "02_two"
    text = PARAMETERS + 'out_dir: str = ""  # folder for outputs; empty: decided by the run\n'
    write_notebook(project / "notebooks", "01_one", parameters=text)
    assert start(project, out_dir="here").out == project / "here" / "01_one"


def test_a_notebook_by_itself_never_writes_over_another(project, monkeypatch, tmp_path_factory):
    """Plain papermill and JupyterLab: one folder for the same notebook, settings and archive, from anywhere."""
    first = start(project)
    assert first.base.parent == project / "runs"
    assert first.base.name.startswith("01_one-")
    assert first.out == first.base / "01_one"
    others = [start(project, **values).out for values in ({"rate": 0.2}, {"epochs": 5}, {"preset": "full"})]
    other = {"preset": "quick", "epochs": 3, "rate": 0.1, "names": ["a"], "mode": "good"}
    others.append(Run.start("02_two", other).out)
    monkeypatch.setenv("SMNB_DATA", str(project / "real"))
    others.append(start(project).out)
    assert len({first.out, *others}) == 6
    monkeypatch.setenv("SMNB_DATA", str(project / "data" / "sandbox"))
    assert start(project).out == first.out
    monkeypatch.delenv("SMNB_DATA")
    assert start(project, epochs=3).out == first.out  # as the preset decides
    monkeypatch.chdir(project / "notebooks")
    assert start(project).out == first.out
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "notebooks").mkdir()
    write_notebook(elsewhere / "notebooks", "09_mine")  # a project of notebooks that has not this one
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ParameterError, match="no such notebook"):
        start(project)  # the checkout that smnb is imported from has none either
    monkeypatch.setenv("SMNB_NOTEBOOK_DIR", str(project / "notebooks"))
    assert start(project).out == first.out
    assert not list(elsewhere.glob("runs"))


def test_another_notebooks_files_are_found_in_its_own_latest_run(project):
    def start_two(**values):
        return Run.start(
            "02_two", {"preset": "quick", "epochs": 3, "rate": 0.1, "names": ["a"], "mode": "good"} | values
        )

    mine = start_two()
    assert mine.folder("01_one") == mine.base / "01_one"
    unfinished = start(project)
    assert mine.folder("01_one") == mine.base / "01_one"
    unfinished.finish()
    assert mine.folder("01_one") == unfinished.out
    start(project, rate=0.2).finish()
    assert mine.folder("01_one") == unfinished.out
    assert start_two(rate=0.3).folder("01_one") == start_two(rate=0.3).base / "01_one"
    (mine.base / "01_one").mkdir()  # made in the run itself: what is there already goes on being used
    assert mine.folder("01_one") == mine.base / "01_one"


def test_notebooks_of_one_run_keep_files_of_one_name(project):
    cell = "(run.out / 'scores.csv').write_text(run.notebook)"
    for name in ("01_one", "02_two"):
        write_notebook(project / "notebooks", name, cells=[START, cell, FINISH])
    assert {one.status for one in run_notebooks("t")} == {"done"}
    for name in ("01_one", "02_two"):
        assert (project / "runs" / "t" / name / "scores.csv").read_text() == name
        assert (project / "runs" / "t" / f"{name}.record.json").is_file()


def test_a_record_takes_numpy_numbers_and_keeps_nan_as_null(project):
    run = start(project)
    run.record({"cnn": {"test": {"rmse": np.float32(0.5), "n": np.int64(3), "r": np.nan, "t": np.array([2.0])}}})
    run.record({"cnn": {"test": {"rmse": 0.25}}, "worst": -np.inf}, scores=pd.DataFrame({"a": [1.0, np.nan]}))
    record = json.loads(run.finish().read_text())
    assert record["metrics"] == {"cnn": {"test": {"rmse": 0.25, "n": 3, "r": None, "t": 2.0}}, "worst": None}
    assert record["not_finite"] == {"cnn.test.r": "nan", "worst": "-inf"}
    assert record["tables"]["scores"] == {"columns": ["a"], "index": ["0", "1"], "rows": [[1.0], [None]]}
    assert record["schema_version"] == 1
    assert record["parameters"]["epochs"] == 3
    assert record["given"]["epochs"] is None
    assert record["packages"]["numpy"] == np.__version__
    assert re.fullmatch("[0-9a-f]{64}", record["library"]["sha256"])
    assert record["wall_seconds"] >= 0


@pytest.mark.parametrize("value", ["good", [1, 2], np.zeros(2), None])
def test_a_metric_that_is_not_one_number_is_refused(project, value):
    with pytest.raises(RunError, match=r"metric 'cnn\.rmse'"):
        start(project).record({"cnn": {"rmse": value}})


def test_a_metric_does_not_replace_a_group_nor_the_other_way_round(project):
    run = start(project)
    run.record({"cnn": {"rmse": 1.0}})
    with pytest.raises(RunError, match="would replace a group"):
        run.record({"cnn": 1.0})
    with pytest.raises(RunError, match="below a number"):
        run.record({"cnn": {"rmse": {"test": 1.0}}})
    with pytest.raises(RunError, match="is no DataFrame; got 'list'"):
        run.record(scores=[1])


def test_a_full_disk_leaves_the_earlier_record(project, monkeypatch):
    run = start(project)
    path = run.finish()
    before = path.read_bytes()

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        run.finish()
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["01_one", path.name]


def test_data_fingerprints_depend_on_content_not_on_place_or_time(tmp_path):
    prints = []
    for folder, text in (("a", "same"), ("b", "same"), ("c", "other")):
        path = tmp_path / folder / "x.nc"
        path.parent.mkdir()
        path.write_text(text)
        os.utime(path, (len(prints) + 1, len(prints) + 1))
        prints.append(fingerprint_files([path], path.parent))
    assert prints[0] == prints[1]
    assert prints[0]["sha256"] != prints[2]["sha256"]
    assert prints[0]["bytes"] == 4


def test_fingerprint_data_goes_by_the_catalog_and_sees_the_sandbox(project):
    class Catalog:
        def resolve(self, entry, root):
            return sorted((Path(root) / entry).glob("*"))

    root = project / "archive"
    (root / "tb").mkdir(parents=True)
    (root / "tb" / "x.nc").write_text("data")
    run = start(project)
    assert run.fingerprint_data(Catalog(), "tb", root)["tb"]["files"] == 1
    assert run.synthetic is False
    (root / "SANDBOX.json").write_text("{}")
    run.fingerprint_data(Catalog(), ["tb"], root)
    assert run.synthetic is True


def test_mistakes_are_found_before_anything_is_executed(project):
    for values, says in [
        ({"parameters": {"epoch": 1}}, "smnb run: unknown parameter; got 'epoch'"),
        ({"parameters": {"epochs": "ten"}}, "01_one: parameter 'epochs' is 'ten' (str)"),
        ({"preset": "paper"}, "unknown 'preset'; got 'paper'; expected ['full', 'quick']"),
        ({"notebooks": ["09"]}, "no such notebook; got '09'"),
        ({"name": "../x"}, "one plain folder name"),
    ]:
        with pytest.raises(ParameterError, match=re.escape(says)):
            run_notebooks(**{"name": "t", **values})
    assert not list(project.glob("runs/*/*.ipynb"))
    write_notebook(project / "notebooks", "01_one", needs=["02_two"])
    with pytest.raises(RunError, match="in a circle"):
        run_notebooks("t")


def test_freed_memory_is_kept_in_workers_alone_unless_the_user_says_otherwise(project, monkeypatch):
    job = SimpleNamespace(out=project / "runs" / "one", folder=".", root="", threads=1)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "7")
    environment = _environment(job)
    assert (environment["MALLOC_MMAP_MAX_"], environment["OMP_NUM_THREADS"]) == ("7", "1")
    assert int(environment["MALLOC_TRIM_THRESHOLD_"]) > 1e9
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ


def test_two_processes_do_not_execute_one_run(project):
    holder = (
        "import sys, time\nfrom pathlib import Path\nfrom smnb.runs.worker import hold\n"
        "with hold(Path(sys.argv[1], '.lock'), 't'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    (project / "runs" / "t").mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", holder, str(project / "runs" / "t")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(RunError, match="another process executes a run of this name"):
                run_notebooks("t")
        finally:
            process.kill()


@pytest.fixture
def pretend(project, monkeypatch):
    """Executes nothing: notes what would be executed and writes the output."""
    executed = []

    def execute(path, parameters, final, environment, report, unwanted):
        executed.append((path.stem, parameters))
        final.write_text('{"cells": []}')

    monkeypatch.setattr(execution, "_execute", execute)
    monkeypatch.setattr(execution, "library_fingerprint", lambda: "library 1")
    return executed


def test_what_is_up_to_date_is_skipped_and_what_changed_is_named(project, pretend, monkeypatch):
    folder = project / "notebooks"

    def run(**options):
        return [(r.notebook[:2], r.status, r.message) for r in run_notebooks("t", **options)]

    skipped = [("01", "skipped", "up to date"), ("02", "skipped", "up to date")]
    assert run() == [("01", "done", "not run yet"), ("02", "done", "not run yet")]
    assert pretend == [("01_one", {"preset": "quick"}), ("02_two", {"preset": "quick"})]
    assert run() == skipped
    assert run(parameters={"epochs": 2}, notebooks=["02"])[0] == ("01", "done", "parameters changed")
    assert run(parameters={"epochs": 2}) == skipped
    monkeypatch.setattr(execution, "library_fingerprint", lambda: "library 2")
    assert run(parameters={"epochs": 2}) == [
        ("01", "done", "library changed"),
        ("02", "done", "library, needs changed"),
    ]
    # stored outputs do not count, a cell's source does, and what another preset says does not
    content = json.loads((folder / "02_two.ipynb").read_text())
    content["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]
    (folder / "02_two.ipynb").write_text(json.dumps(content))
    assert run(parameters={"epochs": 2}) == skipped
    content["cells"][2]["source"] += "\n1 + 1"
    (folder / "02_two.ipynb").write_text(json.dumps(content))
    assert run(parameters={"epochs": 2})[1] == ("02", "done", "notebook changed")
    assert [status for _, status, _ in run(parameters={"epochs": 2}, force=True)] == ["done", "done"]
    (project / "runs" / "t" / "01_one.ipynb").unlink()
    assert run(parameters={"epochs": 2})[0][1] == "done"
    settings = folder / "params" / "settings.yaml"
    settings.write_text(settings.read_text().replace("full: 30", "full: 31"))
    assert run(parameters={"epochs": 2}) == skipped
    settings.write_text(settings.read_text().replace("quick: 3", "quick: 5"))
    assert run(parameters={"epochs": 2})[0] == ("01", "done", "parameters changed")


def test_changed_data_make_a_notebook_run_again(project, pretend):
    text = (project / "notebooks" / "01_one.ipynb").read_text()
    (project / "notebooks" / "01_one.ipynb").write_text(text.replace('"catalog_ids": []', '"unused": []'))
    root = project / "archive"

    def run():
        return run_notebooks("t", ["01"], root=root)[0].message

    assert [run(), run()] == ["not run yet", "up to date"]
    root.mkdir()
    (root / "x.nc").write_text("data")
    assert [run(), run()] == ["data changed", "up to date"]
    (root / "x.nc").write_text("more data")
    assert run() == "data changed"


def test_only_the_data_that_a_notebook_names_count(project, pretend):
    text = (project / "notebooks" / "01_one.ipynb").read_text()
    (project / "notebooks" / "01_one.ipynb").write_text(text.replace('"catalog_ids": []', '"catalog_ids": ["tb"]'))
    (project / "data_catalog.yaml").write_text(
        "tb: {description: d, loader: 'smnb.loaders.amsre:open_nsidc0302', files: ['tb/*.gz'], licence: none,\n"
        "  variables: {tb: {native: tb, units: K}}, fetch: {by_hand: ask}}\n"
        "other: {description: d, loader: 'smnb.loaders.amsre:open_nsidc0302', files: ['other/*.gz'], licence: none,\n"
        "  variables: {tb: {native: tb, units: K}}, fetch: {by_hand: ask}}\n"
    )

    def run():
        return run_notebooks("t", ["01"], root=project / "archive")[0].message

    assert [run(), run()] == ["not run yet", "up to date"]  # absent data are a state too
    for name in ("other", "tb"):
        (project / "archive" / name).mkdir(parents=True)
        (project / "archive" / name / "x.gz").write_text("data")
        assert run() == {"other": "data changed", "tb": "data changed"}[name]
    (project / "archive" / "other" / "y.gz").write_text("data")
    assert run() == "up to date"
    text = text.replace('"catalog_ids": []', '"catalog_ids": ["tbb"]')
    (project / "notebooks" / "01_one.ipynb").write_text(text)
    with pytest.raises(CatalogError, match="tbb"):
        run()


def test_an_entry_that_means_other_values_makes_a_notebook_run_again(project, pretend):
    text = (project / "notebooks" / "01_one.ipynb").read_text()
    (project / "notebooks" / "01_one.ipynb").write_text(text.replace('"catalog_ids": []', '"catalog_ids": ["s1"]'))
    entry = "s1: {description: d, loader: 'smnb.loaders.rasters:open_scenes', files: ['*.tif'], licence: none,\n"
    entry += "  variables: {VV: {native: VV, units: dB}}, fetch: {by_hand: ask}, options: {bands: {VV: {band: 1}}}}\n"

    def run(content):
        (project / "data_catalog.yaml").write_text(content)
        return run_notebooks("t", ["01"], root=project / "archive")[0].message

    assert [run(entry), run(entry.replace("description: d", "description: said better"))] == [
        "not run yet",
        "up to date",
    ]
    for old, new in (("band: 1", "band: 2"), ("band: 1", "band: 1, scale: 0.1"), ("units: dB", "units: '1'")):
        assert [run(entry.replace(old, new)), run(entry)] == ["data changed", "data changed"]


def test_files_that_parameters_name_count_by_content(project, pretend):
    kinds = {
        "preset": "str",
        "epochs": "int or None",
        "table": "str",
        "tables": "list[str]",
        "out_dir": "str",
        "network": "str",
    }
    defaults = {"preset": '"quick"', "epochs": "None", "tables": "[]"}
    names = "".join(f"{name}: {kind} = {defaults.get(name, repr(''))}  # one\n" for name, kind in kinds.items())
    write_notebook(project / "notebooks", "01_one", parameters=names)
    table, store, own = project / "p.csv", project / "s.zarr", project / "notebooks" / "mine.py"
    (store / "values").mkdir(parents=True)
    files = [table, store / "values" / "0", own]
    for path in files:
        path.write_text("one")
    given = {"table": str(table), "tables": ["../p.csv", str(store)], "network": "mine:Net", "out_dir": str(project)}

    def run():
        return run_notebooks("t", ["01"], parameters=given)[0].message

    assert [run(), run()] == ["not run yet", "up to date"]
    for path in files:
        stat = path.stat()
        path.write_text("two")  # as long, and as old by its time of change
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert [run(), run()] == ["data changed", "up to date"]
    table.unlink()
    assert [run(), run()] == ["data changed", "up to date"]


def test_another_notebook_whose_files_are_taken_counts(project, pretend):
    taken = START + '\nfolder = run.folder("01_one")'
    write_notebook(project / "notebooks", "02_two", cells=[taken, FINISH])
    assert run_notebooks("t", ["02"])[0].message == "not run yet"
    run_notebooks("t", ["01"])
    messages = [run_notebooks("t", ["02"])[0].message for _ in range(2)]
    assert messages == ["needs changed", "up to date"]


def test_a_killed_run_goes_on_where_it_was_and_a_failure_is_reported(project, monkeypatch):
    """Kill a run in its second notebook; start it again with that notebook broken; repair it; look at the report."""
    folder, out = project / "notebooks", project / "runs" / "t"
    monkeypatch.setattr(execution, "library_fingerprint", lambda: "library 1")
    script = (
        "import smnb.runs.execution as execution\n"
        "execution.library_fingerprint = lambda: 'library 1'\n"
        "execution.run_notebooks('t')\n"
    )
    text = (folder / "02_two.ipynb").read_text()
    (folder / "02_two.ipynb").write_text(text.replace('good\\"  #', 'slow\\"  #'))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    deadline = time.monotonic() + 60
    waiting = out / "02_two" / "waiting"
    while not waiting.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert waiting.exists()
    assert sorted(p.name for p in out.glob("[0-9]*.*")) == ["01_one.ipynb", "01_one.record.json", "01_one.state.json"]
    before = (out / "01_one.ipynb").stat().st_mtime_ns

    (folder / "02_two.ipynb").write_text(text.replace('good\\"  #', 'bad\\"  #'))
    write_notebook(folder, "03_three", needs=["02_two"])
    seen = []
    results = run_notebooks("t", progress=lambda *event: seen.append(event))
    assert [(r.notebook, r.status) for r in results] == [
        ("01_one", "skipped"),
        ("02_two", "failed"),
        ("03_three", "blocked"),
    ]
    assert results[1].message == "cell In[4] (import pathlib, time) failed: ValueError: the data are bad"
    assert results[2].message == "needs 02_two, which did not succeed"
    assert (out / "01_one.ipynb").stat().st_mtime_ns == before
    assert ("02_two", "cell", 5, 6) in seen  # papermill added the cell of the parameters
    assert not list(out.glob(".*partial*"))
    assert sorted(p.name for p in out.glob("02*.*")) == ["02_two.failed.ipynb"]
    assert "<span class=mark>failed</span>" in write_report(out).read_text()

    (folder / "02_two.ipynb").write_text(text)
    (folder / "03_three.ipynb").unlink()
    results = run_notebooks("t", parameters={"preset": "quick"})
    assert [(r.status, r.message) for r in results] == [("skipped", "up to date"), ("done", "not run yet")]
    assert not (out / "02_two.failed.ipynb").exists()
    record = json.loads((out / "02_two.record.json").read_text())
    assert record["metrics"] == {"cnn": {"test": {"n": 7, "rmse": 0.5}}}
    index = write_report(out).read_text()
    assert "<td>cnn / test</td>" in index
    assert '<td class="number">0.375</td>' in index
    assert "failed" not in index
    assert sorted(page.name for page in out.glob("0*.html")) == ["01_one.html", "02_two.html"]
    assert [external_resources(page.read_text()) for page in out.glob("*.html")] == [[]] * 3


def test_plain_papermill_takes_the_preset_file_and_unknown_names_are_fatal(project, monkeypatch):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "papermill", "notebooks/01_one.ipynb", "out.ipynb", "--no-progress-bar"]
    command += ["-f", "notebooks/params/quick.yaml", "-p", "epochs", "8"]
    good = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert "unknown parameter" not in good.stderr  # papermill knows the optional ones too
    (written,) = (project / "runs").glob("01_one-*/01_one.record.json")
    record = json.loads(written.read_text())
    assert record["metrics"]["cnn"]["test"]["rmse"] == 1.0
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    with pytest.raises(PapermillExecutionError, match="ParameterError: 01_one: unknown parameter; got 'epoch'"):
        papermill.execute_notebook("notebooks/01_one.ipynb", "bad.ipynb", {"epoch": 9}, progress_bar=False)


def test_a_page_is_made_to_open_offline(tmp_path):
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell("1")
    script = 'const js_urls = ["https://cdn.example/a.js"]; const s = \'<script src="https://in.text/x.js">\';'
    style = '{"type":"object","name":"ImportedStyleSheet","id":"1","attributes":{"url":"https://cdn.example/b.css"}}'
    html = (
        '<script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="//cdn.example/y.css">'
        "<img src=https://cdn.example/z.png><style>@import url('https://cdn.example/f.css'); p {color: red}</style>"
        f'<iframe src="https://cdn.example/"></iframe><a href="https://paper.example/">paper</a>'
        f"<script>{style}; {script.split('; const')[0]}</script>"
    )
    cell.outputs = [
        nbformat.v4.new_output("display_data", {"text/html": html}),
        nbformat.v4.new_output("display_data", {}),
    ]
    notebook.cells = [nbformat.v4.new_markdown_cell("Area $x^2$"), cell]
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nbformat.write(notebook, tmp_path / "01_x.ipynb")
    assert len(external_resources(html)) == 7
    assert sorted(offline(html)[1]) == sorted(external_resources(html))
    index = write_report(tmp_path)
    page = (tmp_path / "01_x.html").read_text()
    assert external_resources(page) == []
    assert 'href="https://paper.example/"' in page
    assert "color: red" in page
    assert "https://cdn.example/x.js" in page.split("Left out")[1]
    assert "unpkg.com" not in page
    assert "mathjax" not in page.lower().split("<body")[0]
    assert external_resources(index.read_text()) == []


def test_the_report_marks_synthetic_data_and_refuses_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="no executed notebook"):
        write_report(tmp_path)
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "01_x.ipynb")
    record = {"schema_version": 1, "notebook": "01_x", "metrics": {"svr": {"r": None, "<n>": 3}}, "synthetic": True}
    (tmp_path / "01_x.record.json").write_text(json.dumps(record))
    index = write_report(tmp_path).read_text()
    assert index.count("synthetic") >= 3
    assert '<td class="number">nan</td>' in index
    assert "&lt;n&gt;" in index
    (tmp_path / "01_x.record.json").write_text('{"schema_version": 99}')
    with pytest.raises(RunError, match="schema_version: Input should be 1; got 99"):
        write_report(tmp_path)
    (tmp_path / "01_x.record.json").write_text("{")
    with pytest.raises(RunError, match=r"01_x\.record\.json: not a run record"):
        write_report(tmp_path)
