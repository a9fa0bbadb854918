"""Results like the paper's Tables 9 to 14 beside its values, paired differences, scores of maps, and images of samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from pyproj import CRS

from smnb.contract import CatalogError, ParameterError, check_choice, check_count, check_table
from smnb.grids.koppen import GROUP_LABELS, PAPER_GROUPS
from smnb.loaders import open_netcdf
from smnb.metrics import MIN_OBS, compare, interval_text, metric, pair_scores
from smnb.papers.batchu2023.inputs import PRODUCTS
from smnb.papers.batchu2023.sources import SOURCES
from smnb.papers.batchu2023.store import SampleStore
from smnb.papers.tables import published
from smnb.sensors import LAND_COVER_GROUPS, TEXTURE_CLASSES, cluster_labels, score_sensors, stratify, summary_rows

if TYPE_CHECKING:
    from smnb.catalog import Catalog
    from smnb.papers.batchu2023.tiles import Tile

#: Scores of the tables by the library's names: the paper's three, and the bias.
SCORES = ("ubrmse", "rmse", "pearson_r", "bias")
_ENDS = ("", "_low", "_high")
_NETWORK_TABLES = {"pearson_r": "Table 13", "ubrmse": "Table 14"}  # the paper's table by sensor network of each score
#: Strata of the paper's tables: its table, what a title says, and the rows in its order.
PAPER_STRATA: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "land_cover": ("Table 10", "Land cover", LAND_COVER_GROUPS),
    "texture": ("Table 11", "Soil texture", TEXTURE_CLASSES[:-1]),
    "climate": ("Table 12", "Climate", PAPER_GROUPS),
}
_METRICS = {"ubrmse": "ubRMSE", "rmse": "RMSE", "pearson_r": "Correlation"}
Experiments = Mapping[str, Mapping[str, pd.DataFrame]]  # predictions by side, by experiment


def _scored(who: str, table: pd.DataFrame, clusters: str | None) -> pd.DataFrame:
    """Scores of each sensor, with the column to draw for the intervals."""
    scores = score_sensors(table)
    if clusters is not None:
        check_choice(who, "clusters", clusters, scores.columns)
    return scores


def results_table(
    experiments: Experiments, *, clusters: str | None = None, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Means over sensors of each experiment and side, with intervals: the paper's Table 9.

    Predictions are by experiment and side, as `predict_sides` and `references_at_sensors` give them; `clusters` is a column of
    the sensor table that is drawn for the intervals instead of the sensor, such as ``station``. One row an experiment; columns
    ``<side>_<score>`` with ``_low`` and ``_high`` (95 %) for ubrmse, rmse, r and bias, ``<side>_n_sensors`` (with a score) and
    ``<side>_n`` (their samples).
    """
    rows: dict[str, dict[str, float]] = {}
    for name, sides in experiments.items():
        row = rows[name] = {}
        for side, table in sides.items():
            scores = _scored("results_table", table, clusters)
            mean = summary_rows(table, scores, intervals=True, clusters=clusters, n_boot=n_boot, seed=seed).iloc[0]
            for score in SCORES:
                row |= {f"{side}_{metric(score).short}{end}": mean.get(f"{score}{end}", float("nan")) for end in _ENDS}
            row |= {f"{side}_n_sensors": mean["n_sensors"], f"{side}_n": mean["n"]}
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis("experiment")
    counts = [name for name in result.columns if name.endswith(("_n_sensors", "_n"))]
    result[counts] = result[counts].astype("Int64")
    tables = [table for sides in experiments.values() for table in sides.values()]
    result.attrs["synthetic"] = any(table.attrs.get("synthetic", False) for table in tables)
    return result


def printed_results(results: pd.DataFrame) -> pd.DataFrame:
    """A results table as text, "0.054 [0.051, 0.058]": a row an experiment, a column a side and score."""
    columns = [name for name in results.columns if f"{name}_low" in results.columns]
    shown = {n: [interval_text(*(row[f"{n}{end}"] for end in _ENDS)) for _, row in results.iterrows()] for n in columns}
    return pd.DataFrame(shown, index=results.index)


def paired_differences(
    experiments: Experiments,
    reference: str,
    *,
    side: str = "validation",
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Each experiment less a reference, sensor by sensor, with intervals from drawing sensors again.

    One row an experiment and metric (ubrmse, rmse, r): ``experiment``, ``reference``, ``metric``, ``value``,
    ``reference_value``, ``difference`` (experiment less reference) with ``low`` and ``high`` (95 %), ``percent`` (of the
    reference's value; positive is better, as the paper prints it), ``n_sensors``, ``sentence``.
    """
    who = "paired_differences"
    if side not in experiments.get(reference, {}):
        known = [name for name, sides in experiments.items() if side in sides]
        raise ParameterError(who, f"there is no such experiment on side {side!r}", got=reference, expected=known)
    scores = {name: _scored(who, sides[side], clusters) for name, sides in experiments.items() if side in sides}
    sensors = pd.concat(scores.values()).drop_duplicates("sensor_id").set_index("sensor_id", drop=False)
    options = {"n_boot": n_boot, "seed": seed, "clusters": cluster_labels(sensors, clusters)}
    rows = []
    for name in (one for one in scores if one != reference):
        for score in map(metric, SCORES[:3]):
            found = compare(scores[name], scores[reference], score, names=(name, reference), **options)
            gain, better = found.difference, 1.0 if score.better == "high" else -1.0
            row = {"experiment": name, "reference": reference, "metric": score.short, "value": found.a_value}
            row |= {"reference_value": found.b_value, "difference": gain.value, "low": gain.low, "high": gain.high}
            row |= {"percent": 100.0 * better * gain.value / abs(found.b_value), "n_sensors": gain.n}
            rows.append(row | {"sentence": found.sentence})
    return pd.DataFrame(rows)


def network_scores(
    tables: Mapping[str, pd.DataFrame],
    *,
    min_obs: int = MIN_OBS,
    clusters: str | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean R and ubRMSE of each model by sensor network, with intervals, from predictions by model with a column ``network``.

    The options are those of `results_table`; sensors with fewer samples than `min_obs` have no score. One row a model and
    network: ``model``, ``network``, ``n_sensors``, ``n_scored``, and ``pearson_r`` and ``ubrmse`` with ``_low`` and ``_high``
    (95 %; none for fewer than five sensors).
    """
    options = {"metrics": list(_NETWORK_TABLES), "clusters": clusters, "n_boot": n_boot, "seed": seed}
    parts = []
    for model, table in tables.items():
        check_table(f"network_scores ({model})", table, ["network"], next_step="Add the network of each sensor")
        found = stratify(score_sensors(table, min_obs=min_obs), "network", **options).drop(columns=["label", "few"])
        found.insert(0, "model", model)
        parts.append(found)
    return pd.concat(parts, ignore_index=True)


def networks_beside(scores: pd.DataFrame, score: str, *, model: str) -> pd.DataFrame:
    """One score of `network_scores` by network, of a run and of the published works, as text.

    `model` stands against the paper's network; SMAP and GLDAS stand against the paper's own. By network: this run's columns
    ("0.68 [0.61, 0.74] (12)": value, interval, sensors with a score), then the paper's. "?" marks a number that the paper has
    but whose column is not certain; ``attrs["caveats"]`` says why.
    """
    who, models = "networks_beside", sorted(set(scores["model"]))
    check_choice(who, "score", score, _NETWORK_TABLES)
    check_choice(who, "model", model, models)
    table = published("batchu2023", _NETWORK_TABLES[score])
    run = {}
    for name in (one for one in (model, *PRODUCTS) if one in models):
        own = scores[scores["model"] == name].set_index("network")
        texts = [interval_text(*(row.get(f"{score}{end}") for end in _ENDS)) for _, row in own.iterrows()]
        said = [text and f"{text} ({n})" for text, n in zip(texts, own["n_scored"], strict=True)]
        run[f"{name}, run"] = pd.Series(said, own.index.astype(str))
    order = list(table.rows) + sorted(set(scores["network"].astype(str)) - set(table.rows))
    paper = table.frame().map(lambda value: "" if pd.isna(value) else f"{value:g}").reindex(order)
    for row, column in table.omitted:
        paper.loc[row, column] = "?"
    paper.columns = [f"{name}, paper" if name in ("Ours", *PRODUCTS) else name for name in paper.columns]
    result = pd.concat([pd.DataFrame(run).reindex(order), paper], axis=1).fillna("")
    result = result[(result != "").any(axis=1)].rename_axis("network")
    result.attrs["caveats"] = table.caveats
    return result


def beside_paper(
    scores: pd.DataFrame, by: str, *, clusters: str | None = None, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Average scores (`smnb.sensors.score_sensors`) by stratum, in the order of the paper's table and with its values.

    As `smnb.sensors.stratify`, with the paper's row names in ``label`` (asterisk: fewer than five sensors of the run) and its
    scores in ``paper_ubrmse``, ``paper_rmse``, ``paper_pearson_r``, NaN where it has a dash or no such row.
    """
    check_choice("beside_paper", "by", by, PAPER_STRATA, next_step="The paper has no other table of strata")
    name, _, order = PAPER_STRATA[by]
    found = stratify(scores, by, metrics=list(_METRICS), order=order, clusters=clusters, n_boot=n_boot, seed=seed)
    rows = [GROUP_LABELS.get(stratum, stratum) for stratum in found[by]]
    found["label"] = [row + "*" * few for row, few in zip(rows, found["few"], strict=True)]
    paper = published("batchu2023", name).frame().reindex(rows)
    for score, column in _METRICS.items():
        found[f"paper_{score}"] = paper[column].to_numpy()
    return found


def printed(table: pd.DataFrame, title: str) -> pd.DataFrame:
    """Return a table of `beside_paper` as text: "0.055 [0.048, 0.061]", a dash where there is nothing.

    By the stratum's label, headed `title`: ``Sensors``, and for each score the run's and the paper's.
    """
    rows = pd.Index(table["label"], name=title)
    text = pd.DataFrame({"Sensors": table["n_scored"].astype(str).to_numpy()}, index=rows)
    for score, name in _METRICS.items():
        cells = zip(*(table[f"{score}{end}"] for end in _ENDS), strict=True)
        text[name] = [interval_text(*values) or "-" for values in cells]
        text[f"{name}, paper"] = [interval_text(value) or "-" for value in table[f"paper_{score}"]]
    return text


def folder_name(name: str) -> str:
    """Name of a row of a table as the name of a folder.

    >>> folder_name("Sentinel-1 + DEM + SMAP")
    'sentinel_1_dem_smap'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def spread_samples(store: SampleStore, number: int = 6, *, split: str = "sensor", side: str = "test") -> np.ndarray:
    """Positions of samples of as many sensors as there are, from wet to dry: one of each `number` equal parts."""
    from smnb.papers.batchu2023.batches import side_positions  # which needs torch

    check_count("spread_samples", "number", number)
    positions = side_positions(store, split, side)
    order = positions[np.argsort(-store.labels()[positions], kind="stable")]
    rows, taken, chosen = store.sensor_rows(), set(), []
    for part in np.array_split(order, min(number, len(order))):
        middle = part[np.argsort(np.abs(np.arange(len(part)) - len(part) // 2), kind="stable")]
        new = next((one for one in middle if rows[one] not in taken), middle[0])
        taken.add(rows[new])
        chosen.append(int(new))
    return np.array(chosen)


def sample_images(store: SampleStore, number: int = 6, *, split: str = "sensor") -> dict[str, list[np.ndarray]]:
    """Images of test samples from wet to dry (`spread_samples`), as `smnb.plots.image_rows` takes them.

    By reading and date: natural colours, VV (dB), VH (dB), and soil as sand, silt and clay in red, green and blue; columns of
    sources that the store lacks are left out.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for position in spread_samples(store, number, split=split):
        one, sample, images = np.array([position]), store.samples.iloc[position], []
        if "sentinel2" in store.sources:
            images.append(np.moveaxis(store.read("sentinel2", one, ("B4", "B3", "B2"))[0], 0, 2))
        if "sentinel1" in store.sources:
            radar = store.read("sentinel1", one, ("VV", "VH"))[0]
            images += [SOURCES["sentinel1"].denormalise(b, v) for b, v in zip(("VV", "VH"), radar, strict=True)]
        if "soilgrids" in store.sources:
            soil = store.read("soilgrids", one, ("sand", "silt", "clay"))[0]
            images.append(np.moveaxis((soil * 1.6).clip(0.0, 1.0), 0, 2))  # equal parts are a light grey
        rows[f"{sample['soil_moisture']:.3f} m³ m⁻³\n{sample['time']:%Y-%m-%d}"] = images
    return rows


def tile_truth(catalog: Catalog, root: Path | None, tiles: Mapping[str, Tile]) -> dict[str, np.ndarray]:
    """The sandbox's truth ``(row, col)``, m3 m-3, of the tiles whose ground and time it holds; none in a real archive."""
    try:
        paths = list(catalog.resolve("sandbox_multisource_truth", root))
    except CatalogError:
        return {}
    found: dict[str, np.ndarray | None] = dict.fromkeys(tiles)
    for path in paths:
        with open_netcdf("tile_truth", path) as truth:
            found |= {name: values for name in tiles if (values := _cell_means(truth, tiles[name])) is not None}
    return {name: values for name, values in found.items() if values is not None}


def _cell_means(truth: xr.Dataset, tile: Tile) -> np.ndarray | None:
    """Truth averaged to a tile's cells, or None where the file does not hold all of its ground at that time."""
    grid, late = tile.grid, np.abs(truth["time"].values - np.datetime64(tile.time, "ns"))
    if CRS.from_cf(truth["crs"].attrs).to_epsg() != grid.epsg or late.min() > np.timedelta64(1, "h"):
        return None
    west, north = float(truth["x"][0]), float(truth["y"][0])
    pixel = float(truth["x"][1]) - west
    per = round(grid.resolution / pixel)
    # first pixels of the first cell; the window's edges may lie off the truth's by less than a pixel
    col = round((grid.west - (west - pixel / 2)) / pixel)
    row = round(((north + pixel / 2) - grid.north) / pixel)
    side = grid.size * per
    if row < 0 or col < 0 or row + side > truth.sizes["y"] or col + side > truth.sizes["x"]:
        return None
    values = truth["soil_moisture"].isel(time=int(late.argmin())).values[row : row + side, col : col + side]
    if not np.isfinite(values).all():
        return None
    return values.reshape(grid.size, per, grid.size, per).mean(axis=(1, 3))


def map_scores(
    maps: Mapping[str, xr.Dataset], truth: Mapping[str, np.ndarray], tiles: Mapping[str, Tile]
) -> pd.DataFrame:
    """Scores of each date's maps, and of the coarse products at the same cells, against the truth: a row a map and date.

    ``n``, ``bias``, ``rmse``, ``ubrmse`` (m3 m-3) and ``r`` are over the cells of one date: the time signal counts for nothing.
    """
    rows = []
    for name, values in truth.items():
        number, tile = list(tiles).index(name), tiles[name]
        fields = {method: one["soil_moisture"].values[number] for method, one in maps.items()}
        for product in ("smap", "gldas"):
            for band, native in tile.native.get(product, {}).items():
                fields[product.upper()] = SOURCES[product].normalise(band, native)
        for method, one in fields.items():
            valid = np.isfinite(one) & np.isfinite(values)
            rows.append({"map": method, "date": name, **pair_scores(one[valid], values[valid])})
    return pd.DataFrame(rows, columns=["map", "date", "n", "bias", "rmse", "ubrmse", "r"])
