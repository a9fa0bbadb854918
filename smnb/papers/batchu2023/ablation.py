"""The paper's ablations (Tables 15, 16, 18, 19, 21): which networks a study needs, trained once each, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from smnb.catalog import Catalog
from smnb.contract import ParameterError, plain
from smnb.papers.batchu2023.data import PAPER_ROWS, PRODUCTS, SIDES, complete_samples, side_positions
from smnb.papers.batchu2023.experiment import MultiSourceRun, train_multisource
from smnb.papers.batchu2023.opening import open_matchups
from smnb.papers.batchu2023.pictures import folder_name
from smnb.papers.batchu2023.references import product_predictions
from smnb.papers.batchu2023.store import SampleStore
from smnb.training import TrainingConfig

_SCORES = ("ubrmse", "rmse", "r")
#: How a member of the study of anchors is told from the same inputs with the other anchor.
_OTHER_ANCHOR = ", anchored on SMAP"


@dataclass(frozen=True)
class Study:
    """One study of the paper.

    Parameters
    ----------
    table : str
        The paper's.
    number : int
        Key of `smnb.papers.batchu2023.data.PAPER_ROWS`.
    reference : str
        Member that the others are compared with.
    """

    table: str
    number: int
    reference: str


STUDIES: dict[str, Study] = {
    "removed": Study("Table 16", 16, "None (Baseline)"),
    "added": Study("Table 18", 18, "None (Baseline)"),
    "active_passive": Study("Table 19", 19, "SMAP"),
    "anchor": Study("Table 21", 21, "SMAP + GLDAS NN"),
    "input_size": Study("Table 15", 15, ""),
}


@dataclass(frozen=True)
class _Member:
    """What a member is trained or taken from."""

    label: str
    inputs: str
    anchor: str = "sentinel1"
    crop: int | None = None


class Ablation:
    """Members of studies: each network is trained once, whatever studies it is in.

    Parameters
    ----------
    catalog : Catalog
    root : Path
        The archive.
    out : Path
        A run's folder: stores and networks lie in it under the names that notebook 05 gives them.
    config : TrainingConfig
    model : mapping
        Settings of the network, as `smnb.papers.batchu2023.train_multisource` takes them.
    crop : int
        Side of the images, pixels.
    crops : sequence of int
        Sizes of the study of input size. The store has images of the largest.
    stores : mapping of str to str, optional
        Sample stores that exist, by anchor, to take instead of building one: members of a sweep share them.
    split : str
    workers : int
        Of the builder.
    """

    def __init__(
        self,
        catalog: Catalog,
        root: Path,
        out: Path,
        *,
        config: TrainingConfig,
        model: Mapping[str, Any],
        crop: int,
        crops: Sequence[int] = (),
        stores: Mapping[str, str] | None = None,
        split: str = "sensor",
        workers: int = 0,
    ) -> None:
        self.catalog, self.root, self.out = catalog, root, Path(out)
        self.config, self.model, self.split, self.workers = config, dict(model), split, workers
        self.crop, self.crops = crop, sorted(set(crops))
        if self.crops and min(self.crops) < 1:
            raise ParameterError("Ablation", "crops", got=list(crops), expected=plain("positive sizes, pixels"))
        self._given = dict(stores or {})
        self._stores: dict[str, SampleStore] = {}
        self._runs: dict[tuple[str, str, int], MultiSourceRun] = {}
        self._rows: list[dict[str, Any]] = []

    def store(self, anchor: str = "sentinel1") -> SampleStore:
        """The sample store of an anchor, built unless it is there."""
        if anchor not in self._stores:
            self._stores[anchor] = open_matchups(
                self.catalog,
                self.root,
                self.out / f"matchups_{anchor}.zarr",
                store=self._given.get(anchor, ""),
                anchor=anchor,
                crop=max([self.crop, *self.crops]) if anchor == "sentinel1" else self.crop,
                workers=self.workers,
            )
        return self._stores[anchor]

    def _plan(self, study: str) -> list[_Member]:
        if study not in STUDIES:
            raise ParameterError("Ablation.run", "unknown study", got=study, expected=list(STUDIES))
        rows = PAPER_ROWS[STUDIES[study].number]
        if study == "input_size":
            if not self.crops:
                raise ParameterError(
                    "Ablation.run",
                    "the study of input size needs sizes",
                    got=self.crops,
                    next_step="Give the parameter crops",
                )
            return [_Member(f"{size}x{size}", next(iter(rows.values())), crop=size) for size in self.crops]
        members = [_Member(label, name) for label, name in rows.items()]
        if study == "anchor":
            members += [_Member(label + _OTHER_ANCHOR, name, "smap") for label, name in rows.items()]
        return members

    def run(self, study: str) -> dict[str, dict[str, pd.DataFrame]]:
        """Train what a study needs and is not there yet.

        Returns
        -------
        dict of str to dict of str to DataFrame
            Predictions by member, then by side (validation and test), as `smnb.papers.batchu2023.results_table` takes them.

        Raises
        ------
        ParameterError
            On an unknown study.
        """
        found = {}
        for member in self._plan(study):
            store = self.store(member.anchor)
            about = {"study": study, "member": member.label, "anchor": member.anchor}
            if member.inputs in PRODUCTS:
                mask, _ = complete_samples(store)
                found[member.label] = {
                    side: product_predictions(store, side_positions(store, self.split, side, mask=mask), member.inputs)
                    for side in SIDES[1:]
                }
                self._rows.append(about)
                continue
            one = self._trained(member)
            found[member.label] = one.predictions
            self._rows.append(
                about
                | {
                    "crop": member.crop or self.crop,
                    "channels": len(one.inputs.channels),
                    "training samples": one.n_samples["train"],
                    "validation samples": one.n_samples["validation"],
                    "best epoch": one.fit.best_epoch,
                }
            )
        return found

    def _trained(self, member: _Member) -> MultiSourceRun:
        crop = member.crop or self.crop
        key = (member.inputs, member.anchor, crop)
        if key not in self._runs:
            # the folder is notebook 05's where the settings are: its network is then taken as it is
            suffix = ("" if member.anchor == "sentinel1" else f"_{member.anchor}") + (
                "" if crop == self.crop else f"_{crop}"
            )
            self._runs[key] = train_multisource(
                self.store(member.anchor),
                member.inputs,
                config=self.config,
                split=self.split,
                model=self.model,
                crop=crop,
                out=self.out / "networks" / f"{folder_name(member.inputs)}{suffix}",
            )
        return self._runs[key]

    def reference(self, study: str) -> str:
        """Member of a study that the others are compared with: the largest images in the study of input size."""
        return STUDIES[study].reference or f"{self.crops[-1]}x{self.crops[-1]}"

    def members(self) -> pd.DataFrame:
        """One row a member of the studies run: its anchor, crop, channels, samples, and the epoch whose weights it has."""
        return pd.DataFrame(self._rows)


def as_published(results: pd.DataFrame, study: str) -> pd.DataFrame:
    """Results of a study under the names of its table, as `smnb.papers.tables.compare_with` takes them.

    Parameters
    ----------
    results : DataFrame
        From `smnb.papers.batchu2023.results_table`.
    study : str

    Returns
    -------
    DataFrame
        Rows that the paper's table has. Of the study of anchors the two anchors are columns.
    """
    columns = [f"validation_{score}" for score in _SCORES]
    if study == "anchor":
        own = results.loc[[name for name in results.index if not name.endswith(_OTHER_ANCHOR)]]
        other = results.drop(own.index).rename(index=lambda name: name.removesuffix(_OTHER_ANCHOR))
        columns.remove("validation_rmse")
        return own[columns].add_prefix("sentinel1_").join(other[columns].add_prefix("smap_"))
    known = PAPER_ROWS[STUDIES[study].number]
    columns = [name for name in columns if study not in ("removed", "added") or name != "validation_rmse"]
    return results.loc[[name for name in results.index if name in known], columns]
