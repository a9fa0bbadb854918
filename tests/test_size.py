"""The library stays small: no figure of it may grow without a reason.

The aim is 30,000 lines in `smnb` and 18,500 of code, the most 32,000, and 6,000 in `smnb_sandbox`. The figures below are
what has been reached. Whoever must raise one says why in CHANGELOG.md: a new thing costs a file, not a wing.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARY, SANDBOX = REPOSITORY / "smnb", REPOSITORY / "smnb_sandbox"
#: What the library may hold: lines of all its files, and lines of code (no docstrings, comments or blank lines).
MOST_LINES, MOST_CODE, MOST_SANDBOX_LINES = 35_620, 24_420, 6_000
MOST_LINES_A_FILE, MOST_EXPORTED, MOST_UNFORMATTED, MOST_NOTEBOOK_CODE = 400, 300, 0, 135
ROOMS = {
    *(
        "catalog",
        "cli",
        "grids",
        "loaders",
        "maps",
        "metrics",
        "models",
        "papers",
        "plots",
        "runs",
        "sensors",
        "training",
    ),
    *("contract", "files", "progress", "pretrained", "__init__"),
}


def modules(root: Path) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}


def code_lines(source: str) -> int:
    """Lines that are neither blank, nor comment, nor part of a docstring."""
    documented = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                documented.update(range(first.lineno, first.end_lineno + 1))
    lines = enumerate(source.split("\n"), 1)
    return sum(bool(text.strip()) and not text.lstrip().startswith("#") and n not in documented for n, text in lines)


def public_definitions(root: Path) -> dict[str, set[str]]:
    """Files in which a public class or function is defined at the top level, by name."""
    found = defaultdict(set)
    for path, source in modules(root).items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                found[node.name].add(str(path.relative_to(root)))
    return found


def exported(root: Path) -> dict[str, int]:
    """Number of names that each package's face offers."""
    found = {}
    for path, source in modules(root).items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                found[str(path.relative_to(root))] = len(node.value.elts)
    return found


def test_lines():
    sources = modules(LIBRARY).values()
    assert sum(source.count("\n") for source in sources) <= MOST_LINES
    assert sum(code_lines(source) for source in sources) <= MOST_CODE
    assert sum(source.count("\n") for source in modules(SANDBOX).values()) <= MOST_SANDBOX_LINES


@pytest.mark.parametrize("root", [LIBRARY, SANDBOX], ids=lambda path: path.name)
def test_no_file_is_long(root):
    long = {str(path.relative_to(root)): source.count("\n") for path, source in modules(root).items()}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES_A_FILE} == {}


def test_the_rooms_are_those_of_the_design():
    found = {path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert found == ROOMS


def test_names_are_offered_at_the_front_doors_only():
    offered = exported(LIBRARY)
    assert [name for name in offered if not name.endswith("__init__.py")] == []
    assert sum(offered.values()) <= MOST_EXPORTED


def test_one_of_each():
    assert {name: sorted(files) for name, files in public_definitions(LIBRARY).items() if len(files) > 1} == {}


@pytest.mark.parametrize("path", sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_is_a_lesson_and_no_report(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = [
        line.strip() for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).split("\n")
    ]
    assert sum(bool(line) and not line.startswith("#") for line in lines) <= MOST_NOTEBOOK_CODE


def test_code_is_as_the_formatter_leaves_it():
    assert sum(source.count("# fmt: ") for source in modules(LIBRARY).values()) <= MOST_UNFORMATTED


def test_only_the_command_knows_the_sandbox():
    knows = [
        str(path.relative_to(LIBRARY))
        for path, source in modules(LIBRARY).items()
        if re.search(r"^\s*(import|from) smnb_sandbox\b", source, re.MULTILINE)
    ]
    assert [name for name in knows if not name.startswith("cli/")] == []


def test_the_counts_see_what_they_count(tmp_path):
    source = '"""Doc.\n\nMore."""\n\n# why\ndef f():\n    """Doc."""\n    return 1\n'
    assert code_lines(source) == 2
    (tmp_path / "a.py").write_text("def f(): ...\n__all__ = ['f']\n")
    (tmp_path / "b.py").write_text("def f(): ...\ndef _g(): ...\n")
    assert public_definitions(tmp_path) == {"f": {"a.py", "b.py"}}
    assert exported(tmp_path) == {"a.py": 1}
