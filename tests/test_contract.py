"""The data contract: each rule broken once."""

from __future__ import annotations

import errno

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from smnb import contract
from smnb.contract import ContractError, FormatError, RunError, SmnbError, foreign, plain


def make() -> xr.Dataset:
    coords = {"time": pd.date_range("2011-07-01", periods=2), "lat": [-1.0, 0.0, 1.0], "lon": [-180.0, 0.0, 179.0]}
    values = np.full((2, 3, 3), 0.2, "float32")
    ds = xr.Dataset({"soil_moisture": (("time", "lat", "lon"), values, {"units": "m3 m-3"})}, coords)
    return contract.stamp(ds, source="s", catalog_id="c", synthetic=True, step="made")


def test_a_good_dataset_passes_unchanged() -> None:
    ds = make()
    assert contract.check_dataset(ds, who="t", require=("soil_moisture",), check_values=True) is ds


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda ds: ds.drop_vars("soil_moisture"), "'soil_moisture' is missing"),
        (lambda ds: ds.isel(lat=slice(None, None, -1)), "'lat' is out of order"),
        (lambda ds: ds.assign_coords(lon=[0.0, 180.0, 359.0]), "'lon' is out of order"),
        (lambda ds: ds.assign_coords(lat=[0.0, np.nan, 1.0]), "'lat' is out of order"),
        (lambda ds: ds.isel(time=[0, 0]), "unique and increasing"),
        (lambda ds: ds.assign_coords(time=[1, 2]), "not a UTC datetime"),
        (lambda ds: ds.assign(soil_moisture=ds.soil_moisture.astype(int).assign_attrs(units="m3 m-3")), "floating"),
        (lambda ds: ds.assign(soil_moisture=(ds.soil_moisture * 100).assign_attrs(units="m3 m-3")), "physical range"),
        (lambda ds: ds.assign(soil_moisture=ds.soil_moisture.assign_attrs(units="%")), "other units"),
        (lambda ds: ds.assign(tb=(("lat",), np.zeros(3, "float32"), {"units": "K"})), "lacks dims"),
    ],
)
def test_each_broken_rule_is_named(breakage, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        contract.check_dataset(breakage(make()), who="t", require=("soil_moisture",), check_values=True)


def test_a_missing_global_attribute_is_named() -> None:
    ds = make()
    del ds.attrs["synthetic"]
    with pytest.raises(ContractError, match="'synthetic' is missing"):
        contract.check_dataset(ds, who="t", require=("soil_moisture",))


def test_orientation_handles_both_conventions_and_the_double_meridian() -> None:
    lon = [0.0, 90.0, 180.0, 270.0, 360.0]
    ds = xr.Dataset(
        {"x": (("latitude", "longitude"), np.arange(10).reshape(2, 5))}, {"latitude": [10.0, -10.0], "longitude": lon}
    )
    oriented = contract.orient_lat_lon(ds)
    assert oriented["lat"].values.tolist() == [-10.0, 10.0]
    assert oriented["lon"].values.tolist() == [-180.0, -90.0, 0.0, 90.0]
    assert oriented["x"].values.tolist() == [[7, 8, 5, 6], [2, 3, 0, 1]]
    with pytest.raises(ContractError, match="no latitude"):
        contract.orient_lat_lon(xr.Dataset({"x": ("y", [1.0])}))


def test_stamp_appends_history() -> None:
    ds = contract.stamp(make(), source="s", catalog_id="c", synthetic=False, step="second")
    assert [line.split("smnb: ")[1] for line in ds.attrs["history"].split("\n")] == ["made", "second"]
    assert not contract.is_synthetic(ds)
    again = contract.stamp(ds, step="third")
    assert (again.attrs["source"], again.attrs["catalog_id"], again.attrs["synthetic"]) == ("s", "c", 0)
    assert again.attrs["history"].endswith("smnb: third")


def test_message_has_all_parts() -> None:
    error = SmnbError("f", "it broke", got=plain("3 cells"), expected=["a"], next_step="Do this.")
    assert str(error) == "f: it broke; got 3 cells; expected ['a']. Do this."


@pytest.mark.parametrize(
    ("check", "given"),
    [
        (contract.check_range, (0.5, 0, 1)),
        (contract.check_range, (np.array([0, 3]), 0)),
        (contract.check_count, (np.int64(2),)),
        (contract.check_box, ((-10.0, 0.0, 10, 0.0),)),
        (contract.check_choice, (["b", "a"], "ab")),
    ],
)
def test_a_checker_lets_pass_what_may_be(check, given):
    check("w", "x", *given)


@pytest.mark.parametrize(
    ("check", "given", "message"),
    [
        (contract.check_range, (0.0, 0, 1, "(]"), r"w: 'x' is out of range; got 0.0; expected in \(0, 1\]"),
        (contract.check_range, (1, 0, 1, "[)"), r"got 1; expected in \[0, 1\)"),
        (contract.check_range, (np.array([0.5, np.nan]), 0), r"got nan; expected in \[0, inf\)"),
        (contract.check_range, (np.inf, 0), "got inf"),
        (contract.check_range, (True, 0), "got True"),
        (contract.check_range, ("1", 0), "got '1'"),
        (contract.check_range, (None, 0), "out of range"),
        (contract.check_count, (0,), "'x' is no whole number; got 0; expected at least 1"),
        (contract.check_count, (True,), "got True"),
        (contract.check_count, (2.0,), "got 2.0"),
        (contract.check_box, ((0, 2, 1, 1),), "'x' is no box in degrees"),
        (contract.check_box, ((0, 1, 190, 2),), "'x' is no box in degrees"),
        (contract.check_box, ("W",), "got 'W'"),
        (contract.check_choice, ("c", "ab"), r"unknown 'x'; got 'c'; expected \['a', 'b'\]"),
        (contract.check_choice, ([], "ab"), "none"),
    ],
)
def test_a_checker_says_what_may_be(check, given, message):
    options = {"ends": given[3]} if len(given) > 3 else {}
    with pytest.raises(contract.ParameterError, match=message):
        check("w", "x", *given[:3], **options)


def test_places_are_in_degrees():
    contract.check_places("w", [90.0, -90.0], [360, -180])
    for lat, lon in ((90.1, 0.0), (0.0, np.nan), ([0.0, 91.0], 0.0)):
        with pytest.raises(contract.ParameterError, match=r"w: .(lat|lon). is out of range.* degrees"):
            contract.check_places("w", lat, lon)


@pytest.mark.parametrize(
    "fault", [KeyError("x"), OSError("bad\nheader"), OSError(errno.EINVAL, "seek"), MemoryError("4 TiB")]
)
def test_what_a_library_raises_becomes_one_error(fault) -> None:
    what = rf"^open\(a\): the file is unreadable: {type(fault).__name__}: .*Download"
    with pytest.raises(FormatError, match=what) as raised, foreign("open(a)"):
        raise fault
    assert raised.value.__cause__ is fault
    assert "\n" not in str(raised.value)
    step = "Train again"
    with pytest.raises(RunError, match=rf"^load: no card: .*{step}"), foreign("load", "no card", RunError, step):
        raise fault


@pytest.mark.parametrize(
    "fault", [ContractError("a", "b"), PermissionError(errno.EACCES, "no", "a.nc"), KeyboardInterrupt()]
)
def test_our_errors_and_the_systems_faults_pass_the_door(fault) -> None:
    with pytest.raises(type(fault)) as raised, foreign("open(a)"):
        raise fault
    assert raised.value is fault


def test_a_fault_of_the_system_without_a_file_names_who_reads() -> None:
    with pytest.raises(PermissionError, match=r"Permission denied: 'a\.nc'"), foreign("a.nc"):
        raise OSError(errno.EACCES, "unable to open file (flags = 0)")
