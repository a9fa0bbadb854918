"""What all loaders do alike: options, periods, and how they end."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from smnb.contract import CatalogError, ContractError, ParameterError, check_choice
from smnb.loaders import finish, in_period


def test_options_are_known_once_and_no_booleans():
    assert check_choice("f", "days", 2, (1, 2)) == (2,)
    assert check_choice("f", "channels", ["b", "a"], ["a", "b"]) == ("b", "a")
    with pytest.raises(ParameterError, match=r"f: unknown 'days'; got 3; expected \[1, 2\]"):
        check_choice("f", "days", 3, (1, 2))
    with pytest.raises(ParameterError, match="unknown 'days'; got True"):
        check_choice("f", "days", True, (1, 2))
    for bad in (["a", "a"], [], ["a", "c"]):
        with pytest.raises(ParameterError, match="'channels' holds an unknown name, one twice, or none"):
            check_choice("f", "channels", bad, ["a", "b"])


def test_a_period_holds_both_ends_and_is_not_empty():
    time = np.array(["2020-01-01T00", "2020-01-02T12", "2020-01-03T00"], "datetime64[ns]")
    assert in_period("f", time, None, None).all()
    assert in_period("f", time, "2020-01-01", "2020-01-02").tolist() == [True, True, False]
    assert in_period("f", time, "2020-01-03", None).tolist() == [False, False, True]
    with pytest.raises(CatalogError, match="no granule in the period"):
        in_period("f", time, "2021-01-01", None, "granule")
    with pytest.raises(CatalogError, match="no value in the period"):
        in_period("f", time[:0], "2020-01-01", "2020-01-02")


def test_a_loader_ends_under_the_contract_with_or_without_an_entry():
    dataset = xr.Dataset({"soil_moisture": ("y", np.zeros(1, "float32"), {"units": "m3 m-3"})})
    told = {"source": "s", "catalog_id": "", "synthetic": False, "step": "read"}
    done = finish(dataset, "open_it", **told, require=["soil_moisture"])
    assert (done.attrs["catalog_id"], done.attrs["synthetic"]) == ("", 0)
    assert done.attrs["history"].endswith("smnb: open_it: read")
    with pytest.raises(ContractError, match="open_it: variable 'tb' is missing"):
        finish(dataset, "open_it", **told, require=["tb"])
