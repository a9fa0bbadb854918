"""Runs: a notebook's parameters and presets, its run record, headless execution, and the report.

A notebook calls `Run.start`, which checks the parameters and fills what the preset decides, `Run.record` for scores, and
`Run.finish`, which writes ``<notebook>.record.json``. `run_notebooks` executes notebooks through papermill, one process
each, `sweep` executes one with many parameters, and `write_report` makes pages of them that open offline.
"""

from .execution import NotebookResult, run_notebooks
from .parameters import declared_parameters, find_notebook, notebook_folder, preset_settings
from .record import Run, package_versions
from .report import write_report
from .sweep import sweep

__all__ = [
    "NotebookResult",
    "Run",
    "declared_parameters",
    "find_notebook",
    "notebook_folder",
    "package_versions",
    "preset_settings",
    "run_notebooks",
    "sweep",
    "write_report",
]
