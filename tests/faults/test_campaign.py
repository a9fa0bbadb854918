"""A campaign is the same code at every size, and its figures reach the terminal from every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.faults
def test_figures_are_printed(campaign):
    for chance in campaign.trials(10, 60):
        campaign.outcomes["over a half" if chance.random() > 0.5 else "under"] += 1
    assert campaign.outcomes["trials"] >= 1


def test_figures_reach_the_terminal_from_another_process():
    here = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "faults", "-n", "1"]
    environment = os.environ | {"SMNB_FAULTS_SEED": "7", "SMNB_FAULTS_SCALE": "2"}
    test = f"{__file__}::{test_figures_are_printed.__name__}"
    done = subprocess.run([*here, test], capture_output=True, text=True, env=environment, check=True)
    line = next(one for one in done.stdout.splitlines() if one.startswith('{"campaign"'))
    figures = json.loads(line)
    assert (figures["seed"], figures["trials"]) == (7, 20)
    assert (figures["over a half"], figures["under"]) == (14, 6)
