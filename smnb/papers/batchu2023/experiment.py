"""Samples for `smnb.training.train`, the paper's recipe (Table 7), estimates at sensors, what needs no network, and ablations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from smnb.contract import ParameterError, check_choice, check_count
from smnb.models.baselines import REFERENCES, reference_predictions
from smnb.papers.batchu2023.batches import SIDES, Augmentation, MultiSourceDataset, complete_samples, side_positions
from smnb.papers.batchu2023.inputs import (
    PAPER_ROWS,
    PRODUCTS,
    SOURCE_SETS,
    STUDIES,
    InputSet,
    inputs_of,
    network_inputs,
)
from smnb.papers.batchu2023.scoring import folder_name
from smnb.papers.batchu2023.sources import KINDS
from smnb.papers.batchu2023.store import SampleStore
from smnb.papers.tables import compare_with, published
from smnb.training import MinMaxScaler, Samples, Trained, TrainingConfig, train
from smnb.training.losses import huber_loss

#: Threshold of the Huber loss, m3 m-3; labels lie between 0 and 1, so nearly all of them are in its quadratic part.
HUBER_DELTA = 0.4
#: The sweep of every experiment of the paper: parameters of `smnb.training.TrainingConfig`, as `smnb sweep` takes them.
PAPER_SWEEP: dict[str, tuple[float, ...]] = {"learning_rate": (0.1, 0.05, 0.03), "weight_decay": (1e-4, 5e-5, 3e-5)}
CLIMATOLOGY = "Season's mean of training sensors"
#: How a member of the study of anchors is told from the same inputs with the other anchor.
_OTHER_ANCHOR = ", anchored on SMAP"
Sides = dict[str, pd.DataFrame]  # predictions by side ("validation", "test")


def paper_training(**changes: Any) -> TrainingConfig:
    """The paper's training: SGD with momentum 0.9, polynomial decay to zero over 600,000 steps of 64 samples.

    The last small batch of a pass is left out, as batch normalisation asks. `changes` are settings of
    `smnb.training.TrainingConfig`: usually ``learning_rate`` and ``weight_decay`` of `PAPER_SWEEP` (the middle ones are the
    default here; the paper does not say which was best), ``steps``, and ``batch_size`` with ``accumulate`` where 64 images do
    not fit.
    """
    recipe = {"optimizer": "sgd", "momentum": 0.9, "schedule": "polynomial", "power": 0.9, "steps": 600_000}
    recipe |= {"batch_size": 64, "learning_rate": 0.05, "weight_decay": 5e-5, "patience": 0}
    recipe |= dict.fromkeys(("whole_batches", "sync_batch_norm", "channels_last"), True)
    return TrainingConfig(**{**recipe, **changes})


def encoder_settings(crop: int, **changes: Any) -> dict[str, Any]:
    """Settings of `smnb.models.multisource.MultiSourceConfig` for high images of `crop` pixels, 16 of them a low one.

    At 256 pixels the output strides are the paper's: 32, which leaves 8 x 8 features of 320 m, and 16, which leaves one of
    the low images of 16 pixels. Smaller images get a stride of 16, and one that leaves one feature of the low images.

    >>> encoder_settings(256), encoder_settings(64, low_encoder="small")  # doctest: +NORMALIZE_WHITESPACE
    ({'output_stride_high': 32, 'output_stride_low': 16},
     {'output_stride_high': 16, 'output_stride_low': 4, 'low_encoder': 'small'})
    """
    strides = {"output_stride_high": 32 if crop >= 256 else 16, "output_stride_low": max(1, min(16, crop // 16))}
    return {**strides, **changes}


def named_inputs(inputs: InputSet | str) -> InputSet:
    """An input set, or the paper's of that name."""
    if isinstance(inputs, InputSet):
        return inputs
    step = "Name one of the paper's sets, or make an InputSet"
    return SOURCE_SETS[check_choice("training_samples", "inputs", inputs, SOURCE_SETS, next_step=step)[0]]


def training_samples(
    store: SampleStore,
    inputs: InputSet | str,
    *,
    split: str = "sensor",
    crop: int | None = None,
    augmentation: Augmentation | None = Augmentation(),  # noqa: B008
    seed: int = 0,
    memory_gb: float = 2.0,
    device: Any = "cpu",
) -> Samples:
    """What `smnb.training.train` is given: batches of a split's training and validation sensors, and what identifies them.

    Samples that lack any source of the store are left out whatever the inputs, so that networks of different inputs are
    compared on the same ones.

    The store's sensor table has a column ``split_<split>``; `inputs` may be a name of `SOURCE_SETS`. `crop` is the side of the
    high images, pixels, by default 256, or the store's where that is less. `seed` is the augmentation's (None for none) of the
    training images; `memory_gb` and `device` are those of `MultiSourceDataset`, for the training and the validation samples
    each.
    """
    inputs, crop = named_inputs(inputs), min(256, store.crop) if crop is None else crop
    mask, dropped = complete_samples(store)
    at = {side: side_positions(store, split, side, mask=mask) for side in ("train", "validation")}
    options = {"crop": crop, "seed": seed, "memory_gb": memory_gb, "device": device}
    door = {
        "inputs": inputs.to_dict(),
        "crop": int(crop),
        "resolution_m": store.resolution,
        "low_resolution_m": store.low_resolution,
        "normalisation": inputs.normalisation(),
        "augmentation": None if augmentation is None else dataclasses.asdict(augmentation),
    }
    fingerprint = store.attrs.get("fingerprint", "")
    middle = tuple(0.0 if channel in inputs.coarse else 0.5 for channel in inputs.channels)
    return Samples(
        train=MultiSourceDataset(store, inputs, at["train"], augmentation=augmentation, **options),
        validation=MultiSourceDataset(store, inputs, at["validation"], **options),
        channels=inputs.channels,
        # from stored values to the network's: images of [0, 1] to 2 x - 1, missing 0; coarse products as they are
        input_scaler=MinMaxScaler(middle, (1.0,) * len(middle), (0.0,) * len(middle)),
        target_scaler=MinMaxScaler((0.0,), (1.0,), (0.0,)),
        sizes={f"{kind}_channels": len(getattr(inputs, kind)) for kind in KINDS},
        identity={
            **door,
            "store": fingerprint,
            "labels": store.labels(),
            "times": store.samples["time"].to_numpy().view("int64"),
            "sensors": "\n".join(store.samples["sensor_id"].astype(str)),
            **at,
        },
        card={
            **door,
            "data": "images and coarse products around in-situ sensors",
            "synthetic": store.synthetic,
            "split": split,
            "anchor": store.attrs.get("anchor", ""),
            "store_fingerprint": fingerprint,
            "n_train_sensors": int(np.unique(store.sensor_rows()[at["train"]]).size),
            "dropped": dropped,
        },
    )


def predict_at_sensors(
    trained: Trained | str, store: SampleStore, positions: np.ndarray, *, name: str = "", device: str = "auto"
) -> pd.DataFrame:
    """Estimates of a network, or a product as it is, at samples of any store that have its sources, as `prediction_table`.

    A network's are cut to [0, 1], m3 m-3, as by the authors' released graph.
    """
    if isinstance(trained, str):
        return prediction_table(store, positions, store.read(PRODUCTS[trained], positions)[:, 0], model=trained)
    crop = trained.card["training"]["crop"]
    data = MultiSourceDataset(store, inputs_of(trained), positions, crop=crop, memory_gb=0.0)
    predicted = np.clip(trained.predict(data, device=device, precision="auto"), 0.0, 1.0)
    return prediction_table(store, positions, predicted, model=name or "multi-source network")


def predict_sides(
    trained: Trained | str, store: SampleStore, *, split: str, sides: Sequence[str] = SIDES[1:], **options: Any
) -> Sides:
    """Estimates of a network, or of a product as it is (``SMAP``, ``GLDAS``), at samples that have every source of the store.

    By side of the split; of the options `name` is what the tables call the model, and `device` where it runs.
    """
    mask, _ = complete_samples(store)
    positions = {side: side_positions(store, split, side, mask=mask) for side in sides}
    return {side: predict_at_sensors(trained, store, at, **options) for side, at in positions.items()}


def prediction_table(store: SampleStore, positions: np.ndarray, predicted: np.ndarray, *, model: str) -> pd.DataFrame:
    """One row a sample: ``sensor_id``, ``time``, ``observed``, ``predicted`` and what the store says of the sensor.

    Values are m3 m-3; ``attrs`` has ``model`` and ``synthetic``.
    """
    about = store.sensors.iloc[store.sensor_rows()[positions]].reset_index(drop=True)
    table, samples = about[["sensor_id"]].astype(str), store.samples.iloc[positions]
    table["time"], table["observed"] = samples["time"].to_numpy(), samples["soil_moisture"].to_numpy("float64")
    table["predicted"] = np.asarray(predicted, "float64")
    others = [c for c in about.columns if c not in table.columns and not str(c).startswith("split_")]
    table = table.join(about[others])
    table.attrs.update(model=model, synthetic=store.synthetic)
    return table


def centre_values(store: SampleStore, inputs: InputSet, positions: np.ndarray, *, chunk: int = 256) -> np.ndarray:
    """Channels at the sensor, ``(n, channel)``: means of the centre pixels (one, or four), normalised; NaN where missing."""
    columns = []
    for part in (kind for kind in KINDS if getattr(inputs, kind)):
        found = {}
        for source, bands in inputs.bands(part).items():
            cut = None if part == "coarse" else 2 - store.side(source) % 2
            starts = range(0, len(positions), chunk)
            read = (store.read(source, positions[start : start + chunk], bands, cut) for start in starts)
            pixels = np.concatenate(list(read))
            found[source] = np.ma.masked_invalid(pixels).mean(axis=(2, 3)).filled(np.nan) if cut else pixels
        columns.append(network_inputs(inputs, part, found, scaled=False).numpy())
    return np.concatenate(columns, axis=1).astype("float32")


def climatology_predictions(store: SampleStore, sides: Mapping[str, np.ndarray], *, train: np.ndarray) -> Sides:
    """The season's soil moisture, a mean over training sensors: nothing is known of the sensor but its hemisphere.

    Each training sensor counts the same in a season that it has readings of. A season without any gets the mean of the others.
    """
    sensor, season = store.sensor_rows(), store.samples["time"].dt.month.to_numpy() % 12 // 3
    if "lat" in store.sensors:
        season = (season + 2 * (store.sensors["lat"].to_numpy("float64")[sensor] < 0)) % 4
    rows = {"season": season[train], "sensor": sensor[train], "value": store.labels()[train]}
    by_sensor = pd.DataFrame(rows).groupby(["season", "sensor"])["value"].mean()
    by_season = by_sensor.groupby("season").mean().reindex(range(4))
    level = by_season.fillna(by_season.mean()).to_numpy()[season]
    return {side: prediction_table(store, at, level[at], model=CLIMATOLOGY) for side, at in sides.items()}


def references_at_sensors(
    store: SampleStore, inputs: InputSet | str, *, split: str, sides: Sequence[str] = SIDES[1:], seed: int = 0
) -> dict[str, Sides]:
    """Predictions of everything that needs no network, at the samples that networks are scored at: by name, then by side.

    The products as they are, where the store has them; the season's mean; and of the inputs' channels at the sensor
    (`centre_values`) what `smnb.models.baselines.reference_predictions` makes, tuned on whole training sensors.
    """
    inputs, (mask, _) = named_inputs(inputs), complete_samples(store)
    train, *held_out = (side_positions(store, split, side, mask=mask) for side in ("train", *sides))
    wanted = dict(zip(sides, held_out, strict=True))
    there = [name for name, source in PRODUCTS.items() if source in store.sources]
    found = {name: predict_sides(name, store, split=split, sides=sides) for name in there}
    found[CLIMATOLOGY] = climatology_predictions(store, wanted, train=train)
    known, new = (centre_values(store, inputs, at) for at in (train, np.concatenate(held_out)))
    options = {"groups": store.sensor_rows()[train], "rows": REFERENCES[1:], "seed": seed}
    for row, values in reference_predictions(known, store.labels()[train], new, **options).items():
        name = f"{row[:1].upper()}{row[1:]}, centre pixel"
        parts = zip(wanted.items(), np.split(values, np.cumsum([len(at) for at in held_out])[:-1]), strict=True)
        found[name] = {side: prediction_table(store, at, part, model=name) for (side, at), part in parts}
    return found


class _Member(NamedTuple):
    """What a member of a study is trained or taken from."""

    label: str
    inputs: str
    anchor: str
    crop: int


@dataclasses.dataclass
class Ablation:
    """The paper's studies of the sources (Tables 15, 16, 18, 19, 21): each network is trained once, whatever it is in.

    `config`, `network` and `model_config` are as `smnb.training.train` takes them.
    """

    stores: Callable[[str], SampleStore]  # the sample store of an anchor, ``sentinel1`` or ``smap``
    out: Path  # folder of the networks, under notebook 05's names: with its settings its networks are taken as they are
    config: TrainingConfig
    crop: int  # side of the images, pixels
    network: Any = "multisource"
    model_config: Mapping[str, Any] | None = None
    crops: Sequence[int] = ()  # sizes of the study of input size, of which the store has the largest
    split: str = "sensor"

    def __post_init__(self) -> None:
        self.crops = sorted({check_count("Ablation", "crops", size) for size in self.crops})
        self._trained: dict[_Member, tuple[dict[str, Any], Sides]] = {}
        self._rows: list[dict[str, Any]] = []

    def _plan(self, study: str) -> list[_Member]:
        check_choice("Ablation.run", "study", study, STUDIES)
        rows = PAPER_ROWS[STUDIES[study][0]]
        if study == "input_size":
            if not self.crops:
                step = "Give the parameter crops"
                raise ParameterError("Ablation.run", "the study of input size needs sizes", next_step=step)
            return [_Member(f"{size}x{size}", next(iter(rows.values())), "sentinel1", size) for size in self.crops]
        anchors = {"": "sentinel1"} | ({_OTHER_ANCHOR: "smap"} if study == "anchor" else {})
        pairs = [(end, anchor, row) for end, anchor in anchors.items() for row in rows.items()]
        return [_Member(f"{label}{end}", name, anchor, self.crop) for end, anchor, (label, name) in pairs]

    def run(self, study: str) -> dict[str, Sides]:
        """Train what a study needs and is not there yet; predictions by member, then by side (validation and test)."""
        found = {}
        for member in self._plan(study):
            key = member._replace(label="")
            if key not in self._trained:
                self._trained[key] = self._made(member)
            about, found[member.label] = self._trained[key]
            self._rows.append({"study": study, "member": member.label, "anchor": member.anchor, **about})
        return found

    def _made(self, member: _Member) -> tuple[dict[str, Any], Sides]:
        store = self.stores(member.anchor)
        if member.inputs in PRODUCTS:
            return {}, predict_sides(member.inputs, store, split=self.split)
        seed, loss = self.config.seed, partial(huber_loss, delta=HUBER_DELTA)
        samples = training_samples(store, member.inputs, seed=seed, split=self.split, crop=member.crop)
        suffix = "" if member.anchor == "sentinel1" else f"_{member.anchor}"
        suffix += "" if member.crop == self.crop else f"_{member.crop}"
        options = {"config": self.config, "out": Path(self.out) / f"{folder_name(member.inputs)}{suffix}"}
        trained = train(self.network, samples, loss=loss, model_config=self.model_config, **options)
        about = {
            "crop": member.crop,
            "channels": len(SOURCE_SETS[member.inputs].channels),
            "training samples": len(samples.train),
            "validation samples": len(samples.validation),
            "best epoch": trained.best_epoch,
        }
        return about, predict_sides(trained, store, split=self.split, name=member.inputs)

    def reference(self, study: str) -> str:
        """Member of a study that the others are compared with: the largest images in the study of input size."""
        return STUDIES[study][1] or f"{self.crops[-1]}x{self.crops[-1]}"

    def members(self) -> pd.DataFrame:
        """One row a member of the studies run: its anchor, crop, channels, samples, and the epoch whose weights it has."""
        return pd.DataFrame(self._rows)

    def beside_paper(self, study: str, results: pd.DataFrame, *, synthetic: bool) -> pd.DataFrame:
        """A study's results (from `results_table`) beside its table, as `smnb.papers.tables.compare_with` gives it."""
        table = published("batchu2023", f"Table {STUDIES[study][0]}")
        return compare_with(as_published(results, study), table, synthetic=synthetic)


def as_published(results: pd.DataFrame, study: str) -> pd.DataFrame:
    """Results of a study under the names and in the rows of its table; of the study of anchors the two anchors are columns."""
    columns = ["validation_ubrmse", "validation_r"]
    if study == "anchor":
        other = results.index.str.endswith(_OTHER_ANCHOR)
        smap = results.loc[other, columns].rename(index=lambda name: name.removesuffix(_OTHER_ANCHOR))
        return results.loc[~other, columns].add_prefix("sentinel1_").join(smap.add_prefix("smap_"))
    if study not in ("removed", "added"):
        columns.insert(1, "validation_rmse")
    return results.loc[[name for name in results.index if name in PAPER_ROWS[STUDIES[study][0]]], columns]
