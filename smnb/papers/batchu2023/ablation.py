"""The paper's ablations (Tables 15, 16, 18, 19, 21): which networks a study needs, trained once each, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from smnb.contract import ParameterError, check_choice, check_count
from smnb.papers.batchu2023.experiment import HUBER_DELTA, Sides, predict_sides, training_samples
from smnb.papers.batchu2023.inputs import PAPER_ROWS, PRODUCTS, SOURCE_SETS
from smnb.papers.batchu2023.scoring import folder_name
from smnb.papers.batchu2023.store import SampleStore
from smnb.papers.tables import compare_with, published
from smnb.training import TrainingConfig, train
from smnb.training.losses import huber_loss

#: How a member of the study of anchors is told from the same inputs with the other anchor.
_OTHER_ANCHOR = ", anchored on SMAP"


class Study(NamedTuple):
    """One study: the paper's table, and the member that the others are compared with."""

    table: int
    reference: str


STUDIES: dict[str, Study] = {
    "removed": Study(16, "None (Baseline)"),
    "added": Study(18, "None (Baseline)"),
    "active_passive": Study(19, "SMAP"),
    "anchor": Study(21, "SMAP + GLDAS NN"),
    "input_size": Study(15, ""),
}


class _Member(NamedTuple):
    """What a member is trained or taken from."""

    label: str
    inputs: str
    anchor: str
    crop: int


@dataclass
class Ablation:
    """Members of studies: each network is trained once, whatever studies it is in.

    Parameters
    ----------
    stores : callable
        ``stores(anchor)``: the sample store of an anchor, ``sentinel1`` or ``smap``.
    out : Path
        Folder of the networks, under the names that notebook 05 gives them: with its settings its networks are taken as they are.
    crop : int
        Side of the images, pixels.
    config, network, model_config
        As `smnb.training.train` takes them.
    crops : sequence of int
        Sizes of the study of input size. The store has images of the largest.
    """

    stores: Callable[[str], SampleStore]
    out: Path
    config: TrainingConfig
    crop: int
    network: Any = "multisource"
    model_config: Mapping[str, Any] | None = None
    crops: Sequence[int] = ()
    split: str = "sensor"

    def __post_init__(self) -> None:
        self.crops = sorted({check_count("Ablation", "crops", size) for size in self.crops})
        self._trained: dict[_Member, tuple[dict[str, Any], Sides]] = {}
        self._rows: list[dict[str, Any]] = []

    def _plan(self, study: str) -> list[_Member]:
        check_choice("Ablation.run", "study", study, STUDIES)
        rows = PAPER_ROWS[STUDIES[study].table]
        if study == "input_size":
            if not self.crops:
                step = "Give the parameter crops"
                raise ParameterError("Ablation.run", "the study of input size needs sizes", next_step=step)
            return [_Member(f"{size}x{size}", next(iter(rows.values())), "sentinel1", size) for size in self.crops]
        members = [_Member(label, name, "sentinel1", self.crop) for label, name in rows.items()]
        if study == "anchor":
            members += [one._replace(label=one.label + _OTHER_ANCHOR, anchor="smap") for one in members]
        return members

    def run(self, study: str) -> dict[str, Sides]:
        """Train what a study needs and is not there yet; predictions by member, then by side (validation and test)."""
        found = {}
        for member in self._plan(study):
            if member.inputs in PRODUCTS:
                about, store = {}, self.stores(member.anchor)
                found[member.label] = predict_sides(member.inputs, store, split=self.split)
            else:
                about, found[member.label] = self._network(member)
            self._rows.append({"study": study, "member": member.label, "anchor": member.anchor, **about})
        return found

    def _network(self, member: _Member) -> tuple[dict[str, Any], Sides]:
        key = member._replace(label="")
        if key not in self._trained:
            store, options = self.stores(member.anchor), {"split": self.split, "crop": member.crop}
            samples = training_samples(store, member.inputs, seed=self.config.seed, **options)
            suffix = "" if member.anchor == "sentinel1" else f"_{member.anchor}"
            suffix += "" if member.crop == self.crop else f"_{member.crop}"
            trained = train(
                self.network,
                samples,
                loss=partial(huber_loss, delta=HUBER_DELTA),
                config=self.config,
                out=Path(self.out) / f"{folder_name(member.inputs)}{suffix}",
                model_config=self.model_config,
            )
            about = {
                "crop": member.crop,
                "channels": len(SOURCE_SETS[member.inputs].channels),
                "training samples": len(samples.train),
                "validation samples": len(samples.validation),
                "best epoch": trained.best_epoch,
            }
            self._trained[key] = about, predict_sides(trained, store, split=self.split, name=member.inputs)
        return self._trained[key]

    def reference(self, study: str) -> str:
        """Member of a study that the others are compared with: the largest images in the study of input size."""
        return STUDIES[study].reference or f"{self.crops[-1]}x{self.crops[-1]}"

    def members(self) -> pd.DataFrame:
        """One row a member of the studies run: its anchor, crop, channels, samples, and the epoch whose weights it has."""
        return pd.DataFrame(self._rows)

    def beside_paper(self, study: str, results: pd.DataFrame, *, synthetic: bool) -> pd.DataFrame:
        """A study's results (from `results_table`) beside its table, as `smnb.papers.tables.compare_with` gives it."""
        table = published("batchu2023", f"Table {STUDIES[study].table}")
        return compare_with(as_published(results, study), table, synthetic=synthetic)


def as_published(results: pd.DataFrame, study: str) -> pd.DataFrame:
    """Results of a study (from `results_table`) under the names of its table, as `smnb.papers.tables.compare_with` takes them.

    Rows that the paper's table has. Of the study of anchors the two anchors are columns.
    """
    columns = ["validation_ubrmse", "validation_r"]
    if study == "anchor":
        own = results.loc[[name for name in results.index if not name.endswith(_OTHER_ANCHOR)]]
        other = results.drop(own.index).rename(index=lambda name: name.removesuffix(_OTHER_ANCHOR))
        return own[columns].add_prefix("sentinel1_").join(other[columns].add_prefix("smap_"))
    if study not in ("removed", "added"):
        columns.insert(1, "validation_rmse")
    return results.loc[[name for name in results.index if name in PAPER_ROWS[STUDIES[study].table]], columns]
