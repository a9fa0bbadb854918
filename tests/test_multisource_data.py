"""Batches of the multi-source network: channels, scaling, cuts, and transformations that leave the centre where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fake_stores import write_sample_store

from smnb.contract import ContractError, ParameterError
from smnb.papers.batchu2023 import FULL_MODEL, PAPER_ROWS, PRODUCTS, SOURCES, InputSet, MultiSourceDataset
from smnb.papers.batchu2023.batches import Augmentation, complete_samples, side_positions, warp
from smnb.papers.batchu2023.inputs import SOURCE_SETS
from smnb.papers.batchu2023.store import SampleStore
from smnb.papers.tables import published

N, SENSORS, CROP = 12, 4, 64
NOTHING = Augmentation(rotate=0, flip_horizontal=0, flip_vertical=0, shear_x=0, shear_y=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    rng = np.random.default_rng(0)
    sensors = pd.DataFrame(
        {
            "sensor_id": [f"s{i}" for i in range(SENSORS)],
            "split_iid": ["train", "train", "validation", "test"],
            "lat": 40.0,
            "lon": -100.0,
        }
    )
    side, low = CROP, CROP // 16
    reflectance = rng.uniform(200, 4000, (N, 6, side, side))
    sentinel2 = np.stack(
        [SOURCES["sentinel2"].normalise(band, reflectance[:, i]) for i, band in enumerate(SOURCES["sentinel2"].bands)],
        1,
    )
    sentinel1 = rng.uniform(0, 1, (N, 3, side, side))
    sentinel1[0, :, :5, :] = np.nan
    coarse = rng.uniform(0.1, 0.4, (2, N, 1))
    values = {
        "sentinel1": sentinel1,
        "sentinel2": sentinel2,
        "dem": rng.uniform(0, 1, (SENSORS, 1, side, side)),
        "soilgrids": rng.uniform(0, 1, (SENSORS, 4, low, low)),
        "modis_lai": rng.uniform(0, 1, (N, 1, low, low)),
        "smap": coarse[0],
        "gldas": coarse[1],
    }
    label = rng.uniform(0, 0.5, N)
    label[3] = np.nan
    values["gldas"][5] = np.nan
    return write_sample_store(
        tmp_path_factory.mktemp("store") / "s.zarr",
        sensors=sensors,
        sensor=np.arange(N) % SENSORS,
        time=pd.date_range("2020", periods=N),
        label=label,
        values=values,
        synthetic=True,
    )


def test_input_sets_are_the_papers() -> None:
    full = SOURCE_SETS[FULL_MODEL]
    radar = ("sentinel1:VV", "sentinel1:VH", "sentinel1:angle")
    light = tuple(f"sentinel2:{band}" for band in ("B4", "B3", "B2", "B8", "B11", "B12"))
    assert full.high == (*radar, *light, "dem:elevation")
    assert full.low == ("soilgrids:sand", "soilgrids:silt", "soilgrids:clay", "soilgrids:bdod")
    assert full.coarse == ("smap:ssm", "gldas:SoilMoi0_10cm_inst")
    assert SOURCE_SETS["SMAP + GLDAS NN"] == InputSet.of("gldas", "smap")
    assert SOURCE_SETS["Sentinel-1 + DEM"].high == (*radar, "dem:elevation")
    assert SOURCE_SETS["Sentinel-1 + DEM + SMAP"].coarse == ("smap:ssm",)
    assert SOURCE_SETS[PAPER_ROWS[16]["Sentinel-1"]].high == (*light, "dem:elevation")
    assert SOURCE_SETS[PAPER_ROWS[18]["EVI/NDVI"]].high[-2:] == ("sentinel2:NDVI", "sentinel2:EVI")
    assert SOURCE_SETS[PAPER_ROWS[18]["MODIS LAI"]].low[-1] == "modis_lai:Lai"
    named = {name for rows in PAPER_ROWS.values() for name in rows.values()}
    assert named <= {*SOURCE_SETS, *PRODUCTS}
    for number, rows in PAPER_ROWS.items():
        assert list(rows) == list(published("batchu2023", f"Table {number}").rows)
    assert InputSet.from_dict(full.to_dict()) == full
    assert full.channels[0] == "sentinel1:VV"
    assert InputSet.of("sentinel2:EVI").bands("high") == {"sentinel2": ("B8", "B4", "B2")}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["sentinel1:VX"], "unknown band of sentinel1"),
        (["sentinel2:SAVI"], "unknown band of sentinel2"),
        (["sentinel3"], "unknown source"),
        ([], "no channel"),
    ],
)
def test_unknown_channels_are_refused(given: list, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        InputSet.of(*given)


def test_a_batch_is_the_stored_values_scaled_cut_and_filled(store: SampleStore) -> None:
    positions = np.array([0, 2, 6])
    data = MultiSourceDataset(store, SOURCE_SETS[FULL_MODEL], positions, crop=32)
    (high, low, coarse), target = data[np.array([2, 0])]
    assert high.shape == (2, 10, 32, 32)
    assert low.shape == (2, 4, 2, 2)
    taken = positions[[2, 0]]
    np.testing.assert_array_equal(target, store.labels()[taken])
    np.testing.assert_array_equal(coarse[:, 0], store.read("smap", taken)[:, 0])
    stored = store.read("sentinel1", taken, ["VH"], 32)[:, 0]
    np.testing.assert_allclose(high[:, 1], 2 * stored - 1, atol=1e-6)
    np.testing.assert_allclose(high[:, 9], 2 * store.read("dem", taken, crop=32)[:, 0] - 1, atol=1e-6)
    np.testing.assert_allclose(low, 2 * store.read("soilgrids", taken, crop=2) - 1, atol=1e-6)
    whole = MultiSourceDataset(store, SOURCE_SETS[FULL_MODEL], positions, crop=64)[np.array([0])][0][0]
    assert torch.isfinite(whole).all()
    assert (whole[0, :3, :5] == 0).all()


def test_memory_and_store_give_the_same_batches(store: SampleStore) -> None:
    positions, batch = np.array([1, 2, 4, 8]), np.array([3, 0, 7])  # 7 is sample 3 in the next pass
    inputs = SOURCE_SETS[PAPER_ROWS[18]["EVI/NDVI"]]
    options = {"crop": 32, "augmentation": Augmentation(), "seed": 3}
    kept, read = (MultiSourceDataset(store, inputs, positions, memory_gb=gb, **options) for gb in (1.0, 0.0))
    assert set(kept._kept) == {"sentinel1", "sentinel2", "dem", "soilgrids"}
    assert not read._kept
    assert (kept.prefetch, read.prefetch) == (0, 2)
    some = MultiSourceDataset(store, inputs, positions, memory_gb=3e-5, **options)
    assert tuple(some._kept) == ("soilgrids", "dem")
    for other in (read, some):
        for a, b in zip([*kept[batch][0], kept[batch][1]], [*other[batch][0], other[batch][1]], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_vegetation_indices_come_from_the_stored_bands(store: SampleStore) -> None:
    (high, _, _), _ = MultiSourceDataset(store, InputSet.of("sentinel2:NDVI"), np.array([4]), crop=64)[np.array([0])]
    light = SOURCES["sentinel2"]
    b8, b4 = (light.denormalise(band, store.read("sentinel2", [4], [band])[:, 0]) for band in ("B8", "B4"))
    np.testing.assert_allclose(high[:, 0], (b8 - b4) / (b8 + b4), atol=1e-5)


def test_absent_inputs_are_empty(store: SampleStore) -> None:
    (high, low, coarse), _ = MultiSourceDataset(store, SOURCE_SETS["SMAP + GLDAS NN"], np.arange(3))[np.arange(3)]
    assert high.shape == low.shape == (3, 0)
    assert coarse.shape == (3, 2)


def test_incomplete_samples_are_counted_and_refused(store: SampleStore) -> None:
    mask, dropped = complete_samples(store)
    assert dropped == {"label": 1, "gldas": 1}
    assert np.flatnonzero(~mask).tolist() == [3, 5]
    assert side_positions(store, "iid", "train", mask=mask).tolist() == [0, 1, 4, 8, 9]
    with pytest.raises(ContractError, match="coarse product"):
        MultiSourceDataset(store, SOURCE_SETS["SMAP + GLDAS NN"], [5])
    with pytest.raises(ContractError, match="reading"):
        MultiSourceDataset(store, SOURCE_SETS["Sentinel-1 + DEM"], [3], crop=32)
    with pytest.raises(ParameterError, match="no such split"):
        side_positions(store, "block", "train")
    with pytest.raises(ParameterError, match="no sample on this side"):
        side_positions(store, "iid", "holdout")


def test_what_the_store_lacks_is_named(store: SampleStore, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'crop' does not fit"):
        MultiSourceDataset(store, SOURCE_SETS["Sentinel-1 + DEM"], [0], crop=128)
    with pytest.raises(ParameterError, match=r"low images of 1\.5 pixels"):
        MultiSourceDataset(store, InputSet.of("soilgrids"), [0], crop=24)
    only = write_sample_store(
        tmp_path / "o.zarr",
        sensors=pd.DataFrame({"sensor_id": ["a"]}),
        sensor=[0],
        time=pd.to_datetime(["2020"]),
        label=[0.2],
        values={"sentinel1": np.zeros((1, 1, 32, 32))},
        sources=[SOURCES["sentinel1"].with_bands("VV")],
    )
    with pytest.raises(ParameterError, match="no dem"):
        MultiSourceDataset(only, InputSet.of("dem"), [0], crop=32)
    with pytest.raises(ParameterError, match=r"bands \['VV'\]"):
        MultiSourceDataset(only, InputSet.of("sentinel1"), [0], crop=32)


# ------------------------------------------------------------------------------------------------- augmentation


def draws(**gates: float) -> np.ndarray:
    """One sample's draws: a transformation happens where its gate is given, with the extent (0 to 1) given."""
    columns = ["rotate", "flip_horizontal", "flip_vertical", "shear_x", "shear_y"]
    row = np.full(8, 0.5, "float32")
    row[:5] = [0.0 if name in gates else 0.999 for name in columns]
    for number, name in enumerate(["rotate", "shear_x", "shear_y"]):
        row[5 + number] = gates.get(name, 0.5)
    return row[None]


ALWAYS = Augmentation(rotate=0.5, flip_horizontal=0.5, flip_vertical=0.5, shear_x=0.5, shear_y=0.5)


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ({}, lambda t: t),
        ({"flip_horizontal": 1}, lambda t: torch.flip(t, (-1,))),
        ({"flip_vertical": 1}, lambda t: torch.flip(t, (-2,))),
        ({"rotate": 0.75}, lambda t: torch.rot90(t, 1, (-2, -1))),
        ({"rotate": 0.25}, lambda t: torch.rot90(t, -1, (-2, -1))),
        ({"rotate": 1.0}, lambda t: torch.rot90(t, 2, (-2, -1))),
        ({"flip_horizontal": 1, "flip_vertical": 1}, lambda t: torch.rot90(t, 2, (-2, -1))),
    ],
)
@pytest.mark.parametrize(("side", "size"), [(16, 16), (16, 8), (9, 5)])
def test_flips_and_right_angles_are_exact(gates: dict, expected, side: int, size: int) -> None:
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    cut = slice((side - size) // 2, (side + size) // 2)
    found = warp(image, ALWAYS.matrices(draws(**gates)), size)
    torch.testing.assert_close(found, expected(image[..., cut, cut]), rtol=0, atol=2e-5)


def test_nothing_happens_at_probability_zero(store: SampleStore) -> None:
    inputs, positions = SOURCE_SETS[FULL_MODEL], np.array([0, 1, 2])
    plain, moved = (
        MultiSourceDataset(store, inputs, positions, crop=32, augmentation=one)[np.arange(3)][0]
        for one in (None, NOTHING)
    )
    for a, b in zip(plain, moved, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_the_centre_pixel_does_not_move() -> None:
    n = 50
    images = torch.rand(n, 2, 33, 33, generator=torch.Generator().manual_seed(1))
    found = warp(images, Augmentation().matrices(Augmentation.draws(0, 0, n)), 17)
    torch.testing.assert_close(found[..., 8, 8], images[..., 16, 16], rtol=0, atol=2e-5)


def test_a_shear_moves_rows_by_the_tangent() -> None:
    row, col = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    found = warp(col[None, None], ALWAYS.matrices(draws(shear_x=1.0)), 16)[0, 0]
    centre, tangent = 19.5, np.tan(np.radians(9.0))
    at_row, at_col = row[12:28, 12:28], col[12:28, 12:28]
    torch.testing.assert_close(found, at_col + tangent * (at_row - centre), rtol=0, atol=1e-4)
    found = warp(row[None, None], ALWAYS.matrices(draws(shear_y=0.0)), 16)[0, 0]
    torch.testing.assert_close(found, at_row - tangent * (at_col - centre), rtol=0, atol=1e-4)


def test_high_and_low_images_see_the_same_ground() -> None:
    """A plane is the mean of its cells whatever the resolution, so means of 16 x 16 fine pixels are the coarse ones."""
    n, side, size, factor = 20, 512, 256, 16
    coefficient = np.random.default_rng(0).normal(size=(n, 2))

    def plane(pixels: int, metres: float) -> torch.Tensor:
        at = (np.arange(pixels) + 0.5 - pixels / 2) * metres / 1000
        values = coefficient[:, :1, None] * at[None, None, :] + coefficient[:, 1:, None] * at[None, :, None]
        return torch.from_numpy(values.astype("float32"))[:, None]

    matrices = Augmentation().matrices(Augmentation.draws(1, 2, n))
    high = warp(plane(side, 10.0), matrices, size)
    low = warp(plane(side // factor, 160.0), matrices, size // factor)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(high, factor), low, rtol=0, atol=1e-3)


def test_corners_of_a_rotated_cut_are_real_pixels() -> None:
    augmentation = Augmentation()
    reach = augmentation.reach(256)
    assert 256 * 2**0.5 < reach <= 512
    corners = torch.tensor([[x, y] for x in (-127.5, 127.5) for y in (-127.5, 127.5)])
    matrices = augmentation.matrices(Augmentation.draws(0, 0, 5000))
    assert (corners @ matrices.transpose(1, 2)).abs().max() <= (reach - 1) / 2
    assert Augmentation(rotate=0, shear_x=0, shear_y=0).reach(256) == 256


def test_transformations_depend_on_seed_pass_and_sample_alone(store: SampleStore) -> None:
    inputs, positions = InputSet.of("sentinel1"), np.arange(6, 12)
    data, same = (
        MultiSourceDataset(store, inputs, positions, crop=32, augmentation=Augmentation(), seed=5) for _ in range(2)
    )
    alone = torch.cat([data[np.array([i])][0][0] for i in (4, 1, 10)])
    together = same[np.array([4, 1, 10])][0][0]  # 10 is sample 4 in the second pass
    torch.testing.assert_close(alone, together)
    assert not torch.allclose(together[0], together[2])
    other = MultiSourceDataset(store, inputs, positions, crop=32, augmentation=Augmentation(), seed=6)
    assert not torch.allclose(other[np.array([4])][0][0], alone[:1])


def test_frequencies_are_those_of_table_6() -> None:
    augmentation, n = Augmentation(), 20_000
    matrices = augmentation.matrices(Augmentation.draws(0, 0, n)).numpy()
    flipped = (np.linalg.det(matrices) < 0).mean()
    assert abs(flipped - 0.5) < 0.015  # one flip of two
    only_rotation = Augmentation(flip_horizontal=0, flip_vertical=0, shear_x=0, shear_y=0)
    angles = only_rotation.matrices(Augmentation.draws(0, 0, n)).numpy()
    assert abs((np.abs(angles[:, 0, 0] - 1) > 1e-9).mean() - 0.8) < 0.01
    with pytest.raises(ParameterError, match="rotate"):
        Augmentation(rotate=1.2)
