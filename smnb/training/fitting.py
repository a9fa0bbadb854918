"""`fit`: a training that can be killed and resumed, and what it leaves."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from safetensors.torch import save as safetensors_bytes

from smnb.contract import FormatError, RunError, check_choice
from smnb.files import AnyMapping, exclusive, note, read_json, remove_stale_partials, write_bytes, write_json
from smnb.progress import Progress
from smnb.training import config as settings
from smnb.training.config import BatchDataset, StepPlan, TrainingConfig, choose_device, choose_precision
from smnb.training.losses import euclidean_loss
from smnb.training.trained import Trained, open_safetensors

_TENSOR, _TUPLE, _PAIRS = "__tensor__", "__tuple__", "__pairs__"
#: Warnings of Lightning's. Loading whole batches in this process is deliberate: gathering takes a few per cent of a step.
_EXPECTED = (
    ".*does not have many workers.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    ".*but have no `val_dataloader`.*",
)
_EXPECTED += ("Checkpoint directory .* exists and is not empty",)


def flatten_state(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Replace every tensor of a nested state by a reference, collecting the tensors; the rest becomes JSON.

    Mappings (an optimiser's state is keyed by integers) and tuples keep their kind.
    """
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        return {_PAIRS: [[k, flatten_state(v, tensors, f"{path}/{k}")] for k, v in value.items()]}
    if isinstance(value, tuple | list):
        items = [flatten_state(v, tensors, f"{path}/{i}") for i, v in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise FormatError("checkpoint", f"state at {path!r} cannot be stored without a pickle", got=type(value).__name__)


def _content(tensors: Mapping[str, torch.Tensor], tree: str) -> str:
    """SHA-256 of a training state."""
    digest = hashlib.sha256(tree.encode())
    for name, one in sorted(tensors.items()):
        digest.update(f"{name} {one.dtype} {tuple(one.shape)}".encode())
        digest.update(one.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class SafetensorsCheckpointIO(CheckpointIO):
    """Lightning's training state as one safetensors file, written beside and renamed into place."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], **_: Any) -> None:
        """Write a training state."""
        tensors: dict[str, torch.Tensor] = {}
        tree = json.dumps(flatten_state(checkpoint, tensors))
        write_bytes(path, safetensors_bytes(tensors, metadata={"tree": tree, "sha256": _content(tensors, tree)}))

    def load_checkpoint(self, path: str | os.PathLike[str], *_: Any, **ignored: Any) -> dict[str, Any]:
        """Read a training state."""
        tensors, metadata = open_safetensors(Path(path))
        tree = metadata.get("tree", "")
        if metadata.get("sha256") != _content(tensors, tree):
            raise FormatError("checkpoint", f"{path} is damaged, or no training state", next_step="Delete it")

        def rebuilt(value: dict[str, Any]) -> Any:
            if _TENSOR in value:
                return tensors[value[_TENSOR]]
            return tuple(value[_TUPLE]) if _TUPLE in value else dict(value[_PAIRS])

        return json.loads(tree, object_hook=rebuilt)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete a training state."""
        Path(path).unlink(missing_ok=True)


class _Retrieval(L.LightningModule):
    """Optimiser, loss and logging around a network; the network itself knows nothing of training."""

    def __init__(
        self, model: torch.nn.Module, loss: Callable[..., torch.Tensor], config: TrainingConfig, plan: StepPlan
    ) -> None:
        super().__init__()
        self.model, self.loss, self.config, self.plan = model, loss, config, plan
        # in a tuple, so that it is no second submodule: the state keeps the network's own names
        self._called = (torch.compile(model) if config.compile else model,)

    def _loss_of(self, batch: tuple[Any, ...]) -> torch.Tensor:
        """Loss of ``(inputs, target)`` or ``(inputs, target, mask)``; inputs are one tensor or the network's arguments."""
        inputs, *target_and_mask = batch
        inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
        if self.config.channels_last:
            layout = torch.channels_last
            inputs = [one.contiguous(memory_format=layout) if one.dim() == 4 else one for one in inputs]
        return self.loss(self._called[0](*inputs).float(), *target_and_mask)

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> torch.Tensor:
        loss = self._loss_of(batch)
        several = self.config.devices > 1
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[1]), sync_dist=several)
        return loss

    def validation_step(self, batch: tuple[Any, ...], batch_idx: int) -> None:
        self.log("validation_loss", self._loss_of(batch), batch_size=len(batch[1]), sync_dist=self.config.devices > 1)

    def configure_optimizers(self) -> dict[str, Any]:
        return settings.configure_optimizer(self, self.config, self.plan.rounds, self.plan.steps)


class _History(L.Callback):
    """Losses and time of each epoch, which survive a resume; throughput, time spent waiting for batches, and progress shown."""

    def __init__(self, plan: StepPlan, label: str | None) -> None:
        self.rows: list[dict[str, float]] = []
        self.step_seconds = self.wait_seconds = 0.0
        self.samples = 0
        self._mark = self._epoch_start = self._learning_rate = 0.0
        self._batches = plan.batches_per_round
        self._shown = label and Progress(label, plan.rounds * plan.batches_per_round)

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self._shown:
            self._shown.done = trainer.current_epoch * self._batches

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._mark = self._epoch_start = time.perf_counter()
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_start(self, *_: Any) -> None:
        now = time.perf_counter()
        self.wait_seconds += now - self._mark
        self._mark = now

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self.step_seconds += now - self._mark
        self.samples += len(batch[1])
        self._mark = now
        if self._shown:
            self._shown.update()

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        metrics = trainer.callback_metrics
        row = {"epoch": trainer.current_epoch, "train_loss": float(metrics["train_loss"])}
        row["validation_loss"] = float(metrics.get("validation_loss", math.nan))
        seconds = time.perf_counter() - self._epoch_start
        self.rows.append(row | {"learning_rate": self._learning_rate, "seconds": seconds})
        if self._shown:
            loss = float(metrics.get("validation_loss", metrics["train_loss"]))
            self._shown.note = f"epoch {trainer.current_epoch + 1}, loss {loss:.4g}"

    def on_train_end(self, *_: Any) -> None:
        if self._shown:
            self._shown.close()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


def _is_sound(out: Path, identity: dict[str, Any], keep: str) -> bool:
    """Whether a training state can go on; one of another training is a `RunError`, a damaged one is said and left."""
    marker = out / "training.json"
    try:
        made_of = read_json(marker, AnyMapping, "a training's settings").root if marker.is_file() else None
        if made_of != identity:
            what = f"{out} holds the training state of other data or settings"
            raise RunError("fit", what, next_step="Choose another folder, or delete this one to train again")
        for name in sorted({"last", keep}):
            SafetensorsCheckpointIO().load_checkpoint(out / f"{name}.ckpt")
    except (FormatError, FileNotFoundError) as damaged:
        note(f"the training starts anew: {damaged}")
        return False
    return True


def _alone(fit: Callable[..., Trained]) -> Callable[..., Trained]:
    """One process trains into a folder (of several devices the first), and what a killed one left half written goes."""

    @functools.wraps(fit)
    def held(*arguments: Any, out: str | Path, **options: Any) -> Trained:
        if getattr(rank_zero_only, "rank", 0):
            return fit(*arguments, out=out, **options)
        taken = RunError("fit", "another process trains into this folder", got=str(out), next_step="Wait for it")
        with exclusive(Path(out) / ".lock", taken):
            remove_stale_partials(out)
            return fit(*arguments, out=out, **options)

    return held


@_alone
def fit(
    model: torch.nn.Module,
    train: BatchDataset,
    validation: BatchDataset | None,
    *,
    config: TrainingConfig,
    out: str | Path,
    loss: Callable[..., torch.Tensor] = euclidean_loss,
    fingerprint: str = "",
    stop_after_epochs: int | None = None,
    keep: str = "best",
    progress: str | bool = True,
) -> Trained:
    """Train a network, or go on where a killed training stopped: what `smnb.training.train` calls, whose options it shares.

    The result has a card that holds the best epoch alone, and no scalers. Errors are those of `smnb.training.train`.

    Parameters
    ----------
    model : torch.nn.Module
        Trained in place. Initial weights should come from ``torch.manual_seed(config.seed)``.
    train, validation : BatchDataset
        Whole batches for an array of positions. Without a validation `keep` must be ``last`` and nothing stops early.
    out, fingerprint
        Folder for the training state (``last.ckpt``, ``best.ckpt``, safetensors) after every epoch; what identifies data and
        model: a training state with another fingerprint or config is refused, not mixed in.
    progress : str or bool
        Show how far the training is, under this label.
    """
    check_choice("fit", "keep", keep, ("last",) if validation is None else ("best", "last"))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    device = choose_device(config.device)
    plan = StepPlan.make(len(train), config)
    identity = {"config": dataclasses.asdict(config), "fingerprint": fingerprint, "n_train": len(train)}
    identity["n_validation"] = 0 if validation is None else len(validation)
    last = out / "last.ckpt"
    resumed = last.is_file() and _is_sound(out, json.loads(json.dumps(identity)), keep)
    if not resumed:
        for state in (last, out / "best.ckpt"):
            state.unlink(missing_ok=True)
        write_json(out / "training.json", identity)
    L.seed_everything(config.seed, verbose=False)
    history = _History(plan, "training" if progress is True else progress or None)
    callbacks: list[L.Callback] = [history]
    if validation is not None:
        callbacks.append(ModelCheckpoint(out, filename="best", monitor="validation_loss", enable_version_counter=False))
    callbacks.append(ModelCheckpoint(out, filename="last", every_n_epochs=1, enable_version_counter=False))
    if config.patience and validation is not None:
        callbacks.append(EarlyStopping("validation_loss", patience=config.patience))
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = L.Trainer(
        max_epochs=min(plan.rounds, stop_after_epochs or plan.rounds),
        accelerator=device.type,
        devices=config.devices,
        accumulate_grad_batches=config.accumulate,
        sync_batchnorm=config.sync_batch_norm and config.devices > 1,
        precision=choose_precision(config.precision, device),
        callbacks=callbacks,
        plugins=[SafetensorsCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic="warn",
        default_root_dir=out,
    )
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    module, rank, checked = _Retrieval(model, loss, config, plan), trainer.global_rank, None
    if validation is not None:
        share = {"batch_size": config.batch_size, "rank": rank, "devices": config.devices}
        checked = settings.evaluation_loader(validation, **share)
    with warnings.catch_warnings():
        for text in _EXPECTED:
            warnings.filterwarnings("ignore", message=text)
        batches = settings.training_loader(train, plan, config, rank=rank)
        trainer.fit(module, batches, checked, ckpt_path=str(last) if resumed else None)
    if not history.rows:
        raise RunError("fit", "no epoch was run", next_step=f"Delete {out} to train again")
    table = pd.DataFrame(history.rows)
    state = SafetensorsCheckpointIO().load_checkpoint(out / f"{keep}.ckpt")["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in state.items()})
    model.to("cpu", memory_format=torch.contiguous_format).eval()
    busy = history.step_seconds + history.wait_seconds or math.nan
    best = int(table["epoch"].iloc[int(table["validation_loss"].argmin()) if keep == "best" else -1])
    details = {"device": str(device), "precision": choose_precision(config.precision, device), "resumed": resumed}
    speeds = {"samples_per_second": history.samples / busy, "data_wait_fraction": history.wait_seconds / busy}
    card = {"training": {"best_epoch": best}}
    return Trained(model=model, card=card, history=table, details=details | {"steps": plan.steps}, **speeds)
