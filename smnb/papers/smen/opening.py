"""Downscaling samples from an archive: SMAP at 36 km with SMAP/Sentinel-1 at 3 km, 9 km with its own blocks, or real cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from smnb.catalog import Catalog
from smnb.contract import ContractError, check_choice, plain
from smnb.grids import M03, M09, M36, EaseWindow, ease_block_mean
from smnb.loaders.smap import composite
from smnb.loaders.smap.cells import CLOCK
from smnb.loaders.smap.records import CellRecord
from smnb.maps.cells import archive_cells
from smnb.papers.smen.sequences import ImageSequences, SequenceSplit

FINE_ID, COARSE_ID, POINTS_ID, TRUTH_ID = "smap_s1_l2", "smap_l3", "smap_l3_e_points", "sandbox_smap_truth"
CELL_IDS = ("smap_s1_cells", "smap_9km_cells")
#: Catalog entries that each source reads.
SOURCES = {
    "regions": (FINE_ID, COARSE_ID, TRUTH_ID),
    "points": (POINTS_ID,),
    "smap_sentinel1": (*CELL_IDS, "smap_s1_pairs", "pals_smapvex16"),
}
#: The paper's three regions: title, and latitude and longitude of the city, degrees.
REGIONS: dict[str, tuple[str, float, float]] = {
    "oklahoma_city": ("Oklahoma City", 35.47, -97.52),
    "tucson": ("Tucson", 32.22, -110.97),
    "geneva": ("Geneva", 46.20, 6.15),
}
#: Training and test images of the paper's Table 1.
PAPER_IMAGES = {"oklahoma_city": (80, 50), "tucson": (30, 10), "geneva": (60, 30)}
_CELLS, _COARSE = 100, 12  # cells of 3 km along a side of a region, and of a 36 km cell


@dataclass(frozen=True)
class Place:
    """One region's samples, their split, and what is hidden from training."""

    sequences: ImageSequences
    split: SequenceSplit
    exclude: np.ndarray | None = None  # pixels that no training sees
    record: CellRecord | None = None  # of real cells: all that was known of it at any time

    @property
    def available(self) -> int:
        """How many training scenes there are before the first test scene."""
        return int(self.split.test[0]) - self.sequences.history

    def with_size(self, n_train: int) -> Place:
        """Return the place with another number of training scenes, the test scenes unchanged."""
        last = int(self.split.test[0])
        return replace(self, split=self.split._replace(train=np.arange(last - n_train, last)))


def window_around(lat: float, lon: float) -> EaseWindow:
    """100 x 100 cells of 3 km, a place (degrees) near their middle.

    They begin at an edge of a 36 km cell in both directions: 8 x 8 whole coarse cells, and a third of a ninth row and column.

    Examples
    --------
    >>> window_around(46.20, 6.15)
    EaseWindow(M03, rows 624:724, cols 5928:6028)
    """
    row, col = (_COARSE * round((int(index) - _CELLS / 2) / _COARSE) for index in M03.rowcol(lat, lon))
    return EaseWindow(M03, row, row + _CELLS, col, col + _CELLS)


def open_places(
    source: str,
    catalog: Catalog,
    root: Path,
    regions: Sequence[str] = tuple(REGIONS),
    *,
    history: int = 4,
    first_test: str = "",
    n_train: int = 0,
    n_test: int = 0,
    composite_days: int = 2,
    held_out: str = "east",
) -> dict[str, Place]:
    """Open the samples of an experiment.

    Parameters
    ----------
    source : {"regions", "points", "smap_sentinel1"}
        The paper's regions; the real 9 km fields of `POINTS_ID`, of which a strip is hidden from training: scores on it are out
        of sample in time and in space; or the real cells of `CELL_IDS`, 9 to 3 km, as 36 km is one number of a cell.
    catalog, root
    regions : sequence of str
        Keys of `REGIONS`; ignored for points.
    history : int
        Past scenes a sample takes.
    first_test : str
        ISO date; "" means 2018-01-01 for regions, 2019-01-01 for cells, and the last quarter of the scenes for points.
    n_train, n_test : int
        Scenes a region; 0 means the paper's numbers (`PAPER_IMAGES`), or all for cells and points.
    composite_days, held_out
        Of points: `points_sequences`, `held_out_block`.
    """
    check_choice("open_places", "source", source, SOURCES)
    if source == "points":
        sequences = points_sequences(catalog, root, days=composite_days, history=history)
        cut = first_test or sequences.day(sequences.time.size - max(3, sequences.time.size // 4))
        return {sequences.name: Place(sequences, sequences.split(cut), held_out_block(sequences, held_out))}
    if source == "smap_sentinel1":
        split = {"first_test": first_test or "2019-01-01", "n_train": n_train or None, "n_test": n_test or None}
        made = {}
        for name, scenes, series in archive_cells(catalog, root, CELL_IDS[0]):
            image, coarse = scenes["soil_moisture"], series["soil_moisture_sca"]
            image.attrs["synthetic"] = scenes.attrs["synthetic"]
            # scenes without SMAP within 2 h are dropped
            one = ImageSequences.from_products(image, coarse, name=name, title=name, history=history, window_hours=2)
            made[name] = Place(one, one.split(**split), record=CellRecord.from_datasets(scenes, series))
        check_overpasses(made.values())
        return made
    places = {}
    for region in check_choice("open_places", "regions", tuple(regions), REGIONS):
        title, *city = REGIONS[region]
        window = window_around(*city)
        options = {"variables": ["soil_moisture"], "flag_policy": "retrieved"}
        fine = catalog.open(FINE_ID, root, region=window, resolution="3km", **options)
        coarse = catalog.open(COARSE_ID, root, region=window.covering(M36), overpass="both", **options)
        image, both = fine["soil_moisture"], _overpasses_in_order(coarse["soil_moisture"])
        image.attrs["synthetic"] = fine.attrs["synthetic"]
        sequences = ImageSequences.from_products(image, both, name=region, title=title, history=history)
        if catalog.holds(TRUTH_ID, root):  # where the archive is the sandbox
            sequences = sequences.with_truth(catalog.open(TRUTH_ID, root, region=region)["soil_moisture"])
        sizes = (own or papers for own, papers in zip((n_train, n_test), PAPER_IMAGES[region], strict=True))
        split = sequences.split(first_test or "2018-01-01", *sizes)
        places[region] = Place(sequences, split)
    return places


def check_overpasses(places: Iterable[Place]) -> None:
    """Raise `ContractError` if scenes of one overpass are trained on at one place and tested on at another."""
    known = list(places)
    train, test = (
        np.concatenate([place.sequences.time[getattr(place.split, part)] for place in known])
        for part in ("train", "test")
    )
    both = (np.abs(train[:, None] - test) <= CLOCK).any(1)
    if both.any():
        step = "Split all cells at one date, stacks and pairs alike"
        got = plain(f"{int(both.sum())} scenes, the first at {train[both].min()}")
        raise ContractError("check_overpasses", "an overpass is on both sides of the split", got=got, next_step=step)


def _overpasses_in_order(coarse: xr.DataArray) -> xr.DataArray:
    """Morning and evening of each day one after the other: 6 h and 18 h local solar time at the images' middle."""
    coarse = coarse.load()
    shift = np.timedelta64(round(-float(coarse["lon"].mean()) / 15.0 * 3600), "s")
    parts = []
    for name, hours in (("am", 6), ("pm", 18)):
        part = coarse.sel(overpass=name, drop=True)
        parts.append(part.assign_coords(time=part["time"] + np.timedelta64(hours, "h") + shift))
    return xr.concat(parts, "time").sortby("time")


def points_sequences(catalog: Catalog, root: Path, *, days: int = 2, history: int = 4) -> ImageSequences:
    """Make samples of the real 9 km fields: composites of 1 to 3 days, and their own 36 km block means as the coarse images.

    The fine window is cut to whole 36 km cells, so that a block mean is that of its whole cell.
    """
    dataset = composite(catalog.open(POINTS_ID, root), days)
    window = EaseWindow.from_dataset(dataset)
    factor = M09.cells_across(M36)
    rows = [-(-window.row_start // factor) * factor, window.row_stop // factor * factor]
    cols = [-(-window.col_start // factor) * factor, window.col_stop // factor * factor]
    if rows[0] >= rows[1] or cols[0] >= cols[1]:
        raise ContractError("points_sequences", "the points cover no whole 36 km cell", got=window)
    y, x = window.slices_of(EaseWindow(M09, *rows, *cols))
    fine = dataset["soil_moisture"].isel(y=y, x=x)
    fine.attrs["synthetic"] = dataset.attrs["synthetic"]
    about = {"name": "western_australia", "title": "Western Australia, SMAP 9 km"}
    return ImageSequences.from_products(fine, ease_block_mean(fine, M36), **about, history=history, window_hours=0)


def held_out_block(sequences: ImageSequences, side: str = "east") -> np.ndarray:
    """Mark a strip along one side of the images, 0.3 of their width or height, that no training may see: bool (row, col)."""
    rows, cols = (round(0.3 * cells) for cells in sequences.shape)
    known = {"west": np.s_[:, :cols], "east": np.s_[:, -cols:], "north": np.s_[:rows], "south": np.s_[-rows:]}
    check_choice("held_out_block", "side", side, known)
    block = np.zeros(sequences.shape, dtype=bool)
    block[known[side]] = True
    return block
