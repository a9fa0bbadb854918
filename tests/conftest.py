"""Fixtures that several test files use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_samples() -> Path:
    """Folder of real sample files, which are not part of the repository; tests that need it skip without it."""
    shared = Path(os.environ.get("SMNB_SHARED", REPOSITORY.parent / "shared"))
    if not (shared / "samples").is_dir():
        pytest.skip("real samples are absent: set SMNB_SHARED to the folder that holds samples/")
    return shared / "samples"
