"""What a network has to beat: coarse products as they are, the season's mean, and a linear model of the centre pixel.

The paper's own baseline, "SMAP + GLDAS NN", is a network without images (`smnb.papers.batchu2023.data.SOURCE_SETS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smnb.contract import ContractError, ParameterError
from smnb.papers.batchu2023.data import PRODUCTS, InputSet, complete_samples, side_positions
from smnb.papers.batchu2023.data.channels import channel_source
from smnb.papers.batchu2023.normalisation import INDEX_RANGES, normalised_index
from smnb.papers.batchu2023.store import SampleStore

CLIMATOLOGY, RIDGE = "Season's mean of training sensors", "Ridge, centre pixel"
#: Tables of predictions by side.
Sides = Mapping[str, pd.DataFrame]
_ALPHAS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)


def prediction_table(store: SampleStore, positions: np.ndarray, predicted: np.ndarray, *, model: str) -> pd.DataFrame:
    """One row a sample: ``sensor_id``, ``time``, ``observed``, ``predicted`` and what the store says of the sensor.

    Values are m3 m-3; ``attrs`` has ``model`` and ``synthetic``.
    """
    about = store.sensors.iloc[store.sensor_rows()[positions]].reset_index(drop=True)
    samples = store.samples.iloc[positions]
    table = pd.DataFrame(
        {
            "sensor_id": about["sensor_id"].astype(str),
            "time": samples["time"].to_numpy(),
            "observed": samples["soil_moisture"].to_numpy("float64"),
            "predicted": np.asarray(predicted, "float64"),
        }
    )
    others = [c for c in about.columns if c not in table.columns and not str(c).startswith("split_")]
    table = pd.concat([table, about[others]], axis=1)
    table.attrs.update(model=model, synthetic=store.synthetic)
    return table


def product_predictions(store: SampleStore, positions: np.ndarray, product: str) -> pd.DataFrame:
    """A coarse product as it is, ``SMAP`` or ``GLDAS``, at samples."""
    if product not in PRODUCTS or PRODUCTS[product] not in store.sources:
        known = [name for name, source in PRODUCTS.items() if source in store.sources]
        raise ParameterError("product_predictions", "the store has no such product", got=product, expected=known)
    return prediction_table(store, positions, store.read(PRODUCTS[product], positions)[:, 0], model=product)


def _seasons(store: SampleStore, positions: np.ndarray) -> np.ndarray:
    """Season of each sample, 0 (winter) to 3, by the hemisphere where sensors have a latitude."""
    month = store.samples["time"].dt.month.to_numpy()[positions]
    season = month % 12 // 3
    if "lat" in store.sensors:
        south = store.sensors["lat"].to_numpy("float64")[store.sensor_rows()[positions]] < 0
        season = (season + 2 * south) % 4
    return season


def climatology_predictions(
    store: SampleStore, sides: Mapping[str, np.ndarray], *, train: np.ndarray
) -> dict[str, pd.DataFrame]:
    """The season's soil moisture, a mean over training sensors: nothing is known of the sensor but its hemisphere.

    Each training sensor counts the same in a season that it has readings of. A season without any gets the mean of the others
    (``attrs["seasons_without_training"]``).
    """
    readings = pd.DataFrame(
        {"sensor": store.sensor_rows()[train], "season": _seasons(store, train), "value": store.labels()[train]}
    )
    by_season = readings.groupby(["sensor", "season"])["value"].mean().groupby("season").mean().reindex(range(4))
    empty = int(by_season.isna().sum())
    by_season = by_season.fillna(by_season.mean()).to_numpy()
    result = {}
    for side, positions in sides.items():
        table = prediction_table(store, positions, by_season[_seasons(store, positions)], model=CLIMATOLOGY)
        table.attrs["seasons_without_training"] = empty
        result[side] = table
    return result


def centre_values(store: SampleStore, inputs: InputSet, positions: np.ndarray, *, chunk: int = 256) -> np.ndarray:
    """Channels of the inputs at the sensor: the mean of the centre pixels (one, or four), normalised; NaN where missing.

    Returns
    -------
    ndarray of float32, shape (n, channel)
        In the order of ``inputs.channels``.
    """
    columns = []
    for part in ("high", "low", "coarse"):
        found: dict[tuple[str, str], np.ndarray] = {}
        for source, bands in inputs.bands(part).items():
            if part == "coarse":
                values = store.read(source, positions, bands)
            else:
                cut = 2 - store.side(source) % 2
                parts = [
                    np.ma.masked_invalid(store.read(source, positions[start : start + chunk], bands, cut))
                    .mean(axis=(2, 3))
                    .filled(np.nan)
                    for start in range(0, len(positions), chunk)
                ]
                values = np.concatenate(parts)
            found.update({(source, band): values[:, number] for number, band in enumerate(bands)})
        for name in getattr(inputs, part):
            source, band = channel_source(part, name)
            if band in INDEX_RANGES:
                columns.append(normalised_index(band, {one: v for (s, one), v in found.items() if s == source}))
            else:
                columns.append(found[source, band])
    return np.stack(columns, axis=1).astype("float32")


def ridge_predictions(
    store: SampleStore,
    inputs: InputSet,
    sides: Mapping[str, np.ndarray],
    *,
    train: np.ndarray,
    validation: np.ndarray,
    model: str = RIDGE,
    alphas: Sequence[float] = _ALPHAS,
) -> dict[str, pd.DataFrame]:
    """Ridge regression on the channels at the sensor.

    Channels are standardised and missing ones get the training mean. The strength of the penalty is that of the least
    validation RMSE, which is the choice that the networks' best checkpoint has too.
    """
    features = {one: centre_values(store, inputs, at) for one, at in {"train": train, "validation": validation}.items()}
    usable = np.isfinite(features["train"]).any(axis=0)
    if not usable.any():
        raise ContractError("ridge_predictions", "no channel has a value at the training sensors", got=0)
    labels, best = store.labels(), None
    for alpha in alphas:
        fitted = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha))
        fitted.fit(features["train"][:, usable], labels[train])
        error = fitted.predict(features["validation"][:, usable]) - labels[validation]
        score = float(np.sqrt(np.mean(error**2)))
        if best is None or score < best[0]:
            best = (score, alpha, fitted)
    result = {}
    for side, positions in sides.items():
        values = centre_values(store, inputs, positions)[:, usable]
        result[side] = prediction_table(store, positions, best[2].predict(values), model=model)
        result[side].attrs["alpha"] = best[1]
    return result


def reference_predictions(
    store: SampleStore, *, split: str, sides: Sequence[str] = ("validation", "test"), ridge: InputSet | None = None
) -> dict[str, dict[str, pd.DataFrame]]:
    """Predictions of everything that needs no network, at the samples that networks are scored at.

    Parameters
    ----------
    store : SampleStore
    split : str
    sides : sequence of str
    ridge : InputSet, optional
        Inputs of the ridge regression; none without.

    Returns
    -------
    dict of str to dict of str to DataFrame
        By name (``SMAP`` and ``GLDAS`` where the store has them, `CLIMATOLOGY`, `RIDGE`), then by side.
    """
    mask, _ = complete_samples(store)
    at = {side: side_positions(store, split, side, mask=mask) for side in {"train", "validation", *sides}}
    wanted = {side: at[side] for side in sides}
    found = {
        name: {side: product_predictions(store, positions, name) for side, positions in wanted.items()}
        for name, source in PRODUCTS.items()
        if source in store.sources
    }
    found[CLIMATOLOGY] = climatology_predictions(store, wanted, train=at["train"])
    if ridge is not None:
        found[RIDGE] = ridge_predictions(store, ridge, wanted, train=at["train"], validation=at["validation"])
    return found
