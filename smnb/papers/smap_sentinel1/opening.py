"""The products of the 1 km fusion through the catalog, place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from smnb.catalog import Catalog
from smnb.contract import ParameterError, check_box
from smnb.grids import M01, M09, EaseWindow
from smnb.papers.smap_sentinel1.cutting import SceneProducts

#: Catalog entry of each product.
FUSION_IDS = {
    "sigma0": "fusion_sentinel1",
    "passive": "fusion_smap_l3_e",
    "baseline": "fusion_smap_s1_l2",
    "insitu": "fusion_ismn",
    "truth": "sandbox_fusion_truth",
}
_LISTED = yaml.safe_load(Path(__file__).with_name("places.yaml").read_text(encoding="utf-8"))
#: Title and window of twenty places of the contiguous US, ``places.yaml``; the sandbox simulates them.
PLACES: dict[str, tuple[str, EaseWindow]] = {
    name: (title, EaseWindow(M01, row, row + cells, col, col + cells))
    for name, (title, row, col, cells) in _LISTED.items()
}


def parse_places(texts: Sequence[str]) -> dict[str, EaseWindow] | None:
    """Windows of the 1 km grid from ``name=west,south,east,north`` in degrees; None where there is no text.

    A `ParameterError` if a text is none of this form, a name occurs twice, or a box leaves the grid.

    Examples
    --------
    >>> parse_places(["oklahoma=-98.5,34.5,-97.5,35.5"])
    {'oklahoma': EaseWindow(M01, rows 3061:3166, cols 7857:7953)}
    """
    places: dict[str, EaseWindow] = {}
    for text in texts:
        name, _, box = str(text).partition("=")
        if not name.strip() or name in places:
            raise ParameterError("parse_places", "a place has no name of its own", got=text)
        west, south, east, north = check_box("parse_places", name, box.split(","))
        places[name] = M01.window(south=south, north=north, west=west, east=east)
    return places or None


def open_fusion_scenes(
    catalog: Catalog,
    root: Path,
    places: Mapping[str, EaseWindow] | None = None,
    *,
    start: str = "2020-09-01",
    end: str = "2020-09-30",
    ids: Mapping[str, str] = FUSION_IDS,
) -> list[SceneProducts]:
    """Open Sentinel-1, SMAP's 9 km product and, where they are, the active-passive product and the truth of each place.

    Retrievals of both products are taken as retrieved, the 9 km product's in the morning.

    Parameters
    ----------
    catalog : Catalog
    root : Path
        The archive.
    places : mapping of str to EaseWindow, optional
        Windows of the 1 km grid by name; default the places of the sandbox that the archive holds, of which there must be one.
    start, end : str
        First and last day, UTC.
    ids : mapping of str to str
        Catalog entries, by the keys of `FUSION_IDS`: backscatter of SPL2SMAP_S takes the place of GRD scenes with
        ``ids | {"sigma0": <the entry of SPL2SMAP_S>}``.
    """
    who = "open_fusion_scenes"
    truths = {path.stem for path in catalog.resolve(ids["truth"], root)} if catalog.holds(ids["truth"], root) else set()
    if places is None:
        places = {name: window for name, (_, window) in PLACES.items() if name in truths}
        if not places:
            what = "no place was named, and the archive holds none of the sandbox"
            step = 'Pass places={"name": M01.window(south=…, north=…, west=…, east=…)}, or write one: smnb sandbox'
            raise ParameterError(who, what, got=str(root), next_step=step)
    options = {"start": start, "end": end, "flag_policy": "retrieved"}
    has_baseline = catalog.holds(ids["baseline"], root)
    result = []
    for name, window in places.items():
        if window.grid != M01:
            raise ParameterError(who, f"{name!r} is not on the 1 km grid", got=window, expected="M01")
        if catalog.entry(ids["sigma0"]).loader.endswith("open_l2_active_passive"):
            # the catalog wants soil moisture of every such entry
            wanted = {"resolution": "1km", "variables": ["soil_moisture", "sigma0"]}
            radar = catalog.open(ids["sigma0"], root, region=window, **wanted, **options | {"flag_policy": "none"})
        else:  # GRD scenes, a pass's slices put together
            radar = catalog.open(ids["sigma0"], root, grid=window, mosaic="day", start=start, end=end)
        around = window.covering(M09).grown(1)  # between whose centres is interpolated
        wanted = {"overpass": "am", "variables": ["tb", "soil_moisture", "observation_time"]}
        passive = catalog.open(ids["passive"], root, region=around, **wanted, **options)
        baseline = truth = None
        if has_baseline:
            wanted = {"resolution": "1km", "variables": ["soil_moisture"]}
            baseline = catalog.open(ids["baseline"], root, region=window, **wanted, **options)["soil_moisture"].load()
        if name in truths:
            truth = catalog.open(ids["truth"], root, region=name)["soil_moisture"].load()
        title = PLACES[name][0] if name in PLACES else name
        result.append(SceneProducts(name, title, radar["sigma0"].load(), passive, baseline, truth))
    return result
