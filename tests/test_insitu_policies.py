"""Flag and depth policies."""

from __future__ import annotations

import pytest

from smnb.contract import ParameterError
from smnb.loaders.insitu.sensors import DEFAULT_DEPTH, FLAGS, POLICIES, check_depth, depth_inside, flag_policy


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("paper", {"G", "C02", "C03", "C02,C03", "C03,C02"}),
        ("strict", {"G"}),
        ("all", {"G", "C02", "C03", "C02,C03", "C03,C02", "C01", "D01", "C03,D01", "U", "M", "G,C02"}),
        (["G", "D01"], {"G", "D01"}),
        ("G C03,D01", {"G", "C03,D01"}),
        (["D01,C03"], {"C03,D01"}),
    ],
)
def test_what_a_policy_keeps(policy, kept):
    every = ["G", "C02", "C03", "C02,C03", "C03,C02", "C01", "D01", "C03,D01", "U", "M", "G,C02"]
    assert {flag for flag in every if flag_policy(policy).keeps(flag)} == kept


def test_the_papers_policy_is_its_four_strings():
    assert POLICIES["paper"] == ("G", "C02", "C03", "C02,C03")


@pytest.mark.parametrize("bad", ["papers", "G,X9", ["G", "good"], ["C02;C03"], [], ""])
def test_an_unknown_flag_lists_the_known_ones(bad):
    with pytest.raises(ParameterError) as caught:
        flag_policy(bad)
    for known in [*POLICIES, *FLAGS]:
        assert repr(known) in str(caught.value)


def test_who_is_to_blame_for_a_removed_reading():
    paper = flag_policy("paper")
    assert paper.culprits("C03,D01,D05") == ["D01", "D05"]
    assert flag_policy("G C03 D01").culprits("C03,D01") == ["C03", "D01"]  # each alone would be kept
    assert flag_policy(paper) is paper


@pytest.mark.parametrize(
    ("interval", "inside"),
    [
        ((0, 0.05), True),
        ((0.05, 0.05), True),
        ((0.0508, 0.0508), True),
        ((0, 0.051), True),
        ((0.02, 0.06), False),
        ((0, 0.19), False),
        ((0.1, 0.1), False),
        ((-0.05, 0.0), False),
        ((0.051, 0.051), True),
        ((0.05, 0.01), False),
    ],
)
def test_a_sensors_whole_interval_lies_inside(interval, inside):
    assert depth_inside(*interval, DEFAULT_DEPTH) is inside
    assert depth_inside(*interval, None)


@pytest.mark.parametrize("bad", [(0.1, 0.0), (0.0,), (0.0, 0.1, 0.2), ("top", "bottom"), 0.05, (0.0, float("nan"))])
def test_a_bad_depth_is_named(bad):
    with pytest.raises(ParameterError, match="depth"):
        check_depth(bad)


def test_depths_are_numbers():
    assert check_depth(["0", "0.05"]) == (0.0, 0.05)
    assert check_depth(None) is None
