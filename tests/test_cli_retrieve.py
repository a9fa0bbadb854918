"""The command retrieve: a real granule, granules of other kinds and releases, and one clear line for mistakes."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pandas as pd
import pytest

from smnb.cli import app as cli
from smnb.models.physics import soil_emission_tb

GROUP = "Soil_Moisture_Retrieval_Data"


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def write_granule(
    path, *, group=GROUP, release=b"R18290", endings=("option1", "option2"), size=200, shape=None, **changes
):
    """A SMAP-like granule with the given soil moisture in its brightness temperatures; cells in no order."""
    rng = np.random.default_rng(0)
    truth, tau, angle = rng.uniform(0.05, 0.45, size), rng.uniform(0.05, 0.6, size), np.full(size, 39.97)
    clay, ts = rng.uniform(0.05, 0.4, size), rng.uniform(280, 305, size)
    tb_h, tb_v = soil_emission_tb(
        truth, clay, ts, frequency_ghz=1.41, incidence_deg=angle, h=0.12, tau=tau, single_scattering_albedo=0.05
    )
    order = rng.permutation(size)
    fields = {
        "tb_h_corrected": tb_h,
        "tb_v_corrected": tb_v,
        "surface_temperature": ts,
        "clay_fraction": clay,
        "roughness_coefficient": np.full(size, 0.12),
        "albedo": np.full(size, 0.05),
        "boresight_incidence": angle,
        "bulk_density": np.full(size, 1.2),
        "latitude": np.linspace(40, 30, size)[order],
        "longitude": np.linspace(-100, -90, size),
        "soil_moisture": truth,
    }
    flags = np.zeros(size, np.uint16)
    flags[:20] = 1
    for ending in endings:
        fields[f"soil_moisture_{ending}"] = truth
        fields[f"vegetation_opacity_{ending}"] = tau / np.cos(np.radians(angle))
    if not endings:
        fields["vegetation_opacity"] = tau / np.cos(np.radians(angle))
    fields = {name: values.astype(np.float32) for name, values in fields.items()}
    fields["surface_temperature"][5] = -9999.0
    fields |= {f"retrieval_qual_flag_{ending}": flags for ending in endings} | {"retrieval_qual_flag": flags}
    fields |= {"EASE_row_index": (order // 10).astype(np.uint16), "EASE_column_index": (order % 10).astype(np.uint16)}
    fields |= changes
    with h5py.File(path, "w") as file:
        if release:
            file.create_group("Metadata/DatasetIdentification").attrs["CompositeReleaseID"] = release
        for name, values in fields.items():
            if values is not None:
                item = file.create_dataset(f"{group}/{name}", data=values if shape is None else values.reshape(shape))
                if values.dtype.kind == "f":
                    item.attrs["_FillValue"] = np.float32(-9999.0)
        file[f"{group}/landcover_class"] = np.zeros((size, 3), np.uint8)
    return path


@pytest.mark.parametrize(("method", "n"), [("sca-v", 592), ("sca-h", 580), ("dca", 592)])
def test_a_real_granule(capsys, shared_samples, method, n):
    path = next((shared_samples / "smap_l2").glob("*.h5"))
    status, out, _ = call(capsys, "retrieve", path, "--method", method, "--out", "cells.csv", "--json")
    said = json.loads(out)
    assert status == 0
    assert (said["release"], said["method"], said["n"]) == ("R18290", method, n)
    assert said["r"] >= 0.9999
    assert abs(said["bias"]) < 2e-5
    assert said["ubrmsd"] < 2e-4
    assert sum(said["by_status"].values()) == said["cells"] == 17_251
    cells = pd.read_csv("cells.csv")
    assert cells.columns.tolist() == [
        "row",
        "col",
        "lat",
        "lon",
        "soil_moisture",
        "product_soil_moisture",
        "recommended",
    ]
    assert cells[["row", "col"]].equals(cells[["row", "col"]].sort_values(["row", "col"], ignore_index=True))
    good = cells[cells["recommended"] == 1].dropna()
    difference = good["soil_moisture"] - good["product_soil_moisture"]
    assert len(good) == n
    assert difference.mean() == pytest.approx(said["bias"], abs=1e-6)
    assert difference.std(ddof=0) == pytest.approx(said["ubrmsd"], abs=1e-6)


def test_what_is_printed(capsys):
    status, out, _ = call(capsys, "retrieve", write_granule("g.h5"), "--out", "cells.csv")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "g.h5, release R18290: single channel, V (sca-v)"
    assert re.fullmatch(
        r"against the product, recommended cells: R 1\.00000  bias \+0\.00000  ubRMSD 0\.00000  m3 m-3  n 180", lines[1]
    )
    assert lines[2] == "200 cells: retrieved 199, clipped 0, without input 1"
    assert "optical depth at nadir = vegetation_opacity_option2 x cos(incidence)" in out
    assert "not on" not in out
    assert lines[-1] == "written: cells.csv"
    cells = pd.read_csv("cells.csv")
    assert cells["recommended"].sum() == 180
    assert cells["soil_moisture"].isna().sum() == 1
    np.testing.assert_array_equal(cells["row"] * 10 + cells["col"], np.arange(200))


def test_clipped_cells_are_counted(capsys):
    cold = np.full(200, 120.0, np.float32)
    path = write_granule("g.h5", tb_v_corrected=cold, bulk_density=np.full(200, 1.0, np.float32))
    _, out, _ = call(capsys, "retrieve", path, "--out", "cells.csv")
    assert "200 cells: retrieved 0, clipped 199 (wet 199), without input 1" in out
    assert "R undefined" in out
    assert pd.read_csv("cells.csv")["soil_moisture"].dropna().unique() == pytest.approx([1 - 1 / 2.65], abs=1e-6)


@pytest.mark.parametrize("method", ["sca-v", "sca-h"])
@pytest.mark.parametrize("endings", [("scah", "scav"), ()])
def test_other_releases(capsys, endings, method):
    path = write_granule("g.h5", endings=endings, release=b"R13080", bulk_density=None)
    status, out, _ = call(capsys, "retrieve", path, "--method", method, "--out", "cells.csv")
    assert status == 0
    assert "was checked on release R18, not on R13080" in out
    assert "upper bound 0.65 m3 m-3: the product has no bulk_density" in out
    if endings or method == "sca-v":
        assert re.search(r"R 1\.00000 .* n 180", out)
    else:
        assert "nothing to compare with" in out


def test_images_of_a_day_and_other_groups(capsys):
    row = np.repeat(np.arange(20), 10).astype(np.uint16)
    column = np.tile(np.arange(10), 20).astype(np.uint16)
    row[7] = column[7] = 65534
    path = write_granule(
        "day.h5", group=f"{GROUP}_PM", release=None, shape=(20, 10), EASE_row_index=row, EASE_column_index=column
    )
    with h5py.File(path, "a") as file:
        for name in list(file[f"{GROUP}_PM"]):
            file.move(f"{GROUP}_PM/{name}", f"{GROUP}_PM/{name}_pm")
    status, out, _ = call(capsys, "retrieve", path, "--out", "cells.csv", "--group", f"{GROUP}_PM")
    assert status == 0
    assert "release unknown" in out
    assert len(pd.read_csv("cells.csv")) == 199
    _, _, err = call(capsys, "retrieve", path, "--out", "cells.csv")
    assert re.search(
        r"the group 'Soil_Moisture_Retrieval_Data' is missing; got \['Soil_Moisture_Retrieval_Data_PM'\]", err
    )


def test_mistakes_are_one_line_and_write_nothing(capsys, tmp_path):
    good = write_granule("good.h5")
    (tmp_path / "login.h5").write_text("<html>")
    cut = tmp_path / "cut.h5"
    cut.write_bytes(
        good.read_bytes()[:20_000] if hasattr(good, "read_bytes") else (tmp_path / good).read_bytes()[:20_000]
    )
    with h5py.File("other.h5", "w") as file:
        file[f"{GROUP}/sigma0"] = np.zeros(3)
    with h5py.File("radar.h5", "w") as file:
        file["Freeze_Thaw/x"] = np.zeros(3)
    for arguments, message in [
        (["absent.h5"], "no such file; got 'absent.h5'"),
        (["login.h5"], r"login.h5\): the file is truncated, damaged, or no HDF5"),
        (["cut.h5"], r"cut.h5\): the file is truncated, damaged, or no HDF5"),
        (["radar.h5"], r"radar.h5\): the group 'Soil_Moisture_Retrieval_Data' is missing; got \['Freeze_Thaw'\]"),
        (["other.h5"], r"variables \['EASE_row_index'.* are missing"),
        (["good.h5", "--method", "lprm"], r"unknown 'method'; got 'lprm'; expected \['sca-v', 'sca-h', 'dca'\]"),
        (
            ["good.h5", "--method", "dca"],
            "good.h5: has no field roughness_coefficient_option3 or roughness_coefficient_dca",
        ),
    ]:
        status, out, err = call(capsys, "retrieve", *arguments, "--out", "cells.csv")
        assert status == 2
        assert out == ""
        assert re.search(message, err), err
        assert len(err.splitlines()) == 1
    status, _, err = call(capsys, "retrieve", "good.h5", "--out", "cells.txt")
    assert "--out does not end in .csv" in err
    write_granule("bare.h5", clay_fraction=None)
    _, _, err = call(capsys, "retrieve", "bare.h5", "--out", "cells.csv")
    assert "bare.h5: has no field clay_fraction" in err
    assert not (tmp_path / "cells.csv").exists()
