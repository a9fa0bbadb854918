"""Runs: a notebook's parameters and presets, its run record, headless execution, and the report.

A notebook uses three calls, in this order::

    run = Run.start("02_train_amsre_cnn_svr", globals())
    run.record({"cnn": {"test": {"rmse": 0.05}}})
    run.finish()

`Run.start` checks the parameters and fills what the preset decides, `Run.record` takes the scores, and `Run.finish`
writes ``<notebook>.record.json``. `run_notebooks` executes notebooks through papermill, one process each, `sweep`
executes one with many parameters, and `write_report` makes pages of them that open offline.
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
