"""Downscaling samples from an archive: the real 9 km lists of Western Australia, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from smnb.catalog import Catalog
from smnb.contract import ParameterError
from smnb.grids import M36
from smnb.papers.smen.opening import PAPER_IMAGES, REGIONS, held_out_block, open_places, points_sequences


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def test_paper_regions_are_there() -> None:
    assert set(REGIONS) == set(PAPER_IMAGES) == {"oklahoma_city", "tucson", "geneva"}


def test_real_composites_average_to_their_coarse_images(catalog, shared_samples) -> None:
    sequences = points_sequences(catalog, shared_samples, days=2)
    assert not sequences.synthetic
    assert sequences.time.size == 23
    rows, cols = sequences.shape
    assert rows % 4 == cols % 4 == 0
    row, col = M36.rowcol(sequences.coords["lat"].values[[0, 3, 4]], sequences.coords["lon"].values[[0, 3, 4]])
    assert row[0] == row[1] < row[2]
    assert col[0] == col[1] < col[2]
    blocks = sequences.fine[5].reshape(rows // 4, 4, cols // 4, 4)
    np.testing.assert_allclose(np.nanmean(blocks, axis=(1, 3)), sequences.coarse[5, ::4, ::4], atol=1e-6)


def test_points_hide_a_strip_and_the_last_quarter(catalog, shared_samples) -> None:
    place = open_places("points", catalog, shared_samples, [], held_out="west")["western_australia"]
    assert place.exclude[:, 0].all()
    assert not place.exclude[:, -1].any()
    assert place.exclude.mean() == pytest.approx(0.3, abs=0.02)
    assert place.split.train.max() < place.split.test.min()
    assert place.split.test.size == 5
    smaller = place.with_size(6).split
    assert smaller.train.tolist() == place.split.train.tolist()[-6:]
    assert smaller.test is place.split.test
    with pytest.raises(ParameterError, match="unknown 'side'"):
        held_out_block(place.sequences, "middle")


def test_unknown_source_and_region_are_refused(catalog, tmp_path) -> None:
    with pytest.raises(ParameterError, match="points"):
        open_places("point", catalog, tmp_path, ["tucson"])
    with pytest.raises(ParameterError, match="geneva"):
        open_places("regions", catalog, tmp_path, ["zurich"])
