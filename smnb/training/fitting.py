"""`fit`: a training that can be killed and resumed, and what it leaves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from smnb.contract import RunError, check_choice
from smnb.files import write_json
from smnb.progress import Progress
from smnb.training.batches import BatchDataset, StepPlan, evaluation_loader, training_loader
from smnb.training.checkpoints import SafetensorsCheckpointIO
from smnb.training.config import TrainingConfig, choose_device, choose_precision
from smnb.training.losses import euclidean_loss
from smnb.training.optimisers import configure_optimizer
from smnb.training.trained import Trained


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
        return configure_optimizer(self, self.config, self.plan.rounds, self.plan.steps)


class _History(L.Callback):
    """Epoch losses, throughput and the time spent waiting for batches; its losses survive a resume."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.step_seconds = self.wait_seconds = 0.0
        self.samples = 0
        self._mark = self._epoch_start = self._learning_rate = 0.0

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

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        metrics = trainer.callback_metrics
        self.rows.append(
            {
                "epoch": trainer.current_epoch,
                "train_loss": float(metrics["train_loss"]),
                "validation_loss": float(metrics.get("validation_loss", math.nan)),
                "learning_rate": self._learning_rate,
                "seconds": time.perf_counter() - self._epoch_start,
            }
        )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class _Shown(L.Callback):
    """Steps that are done, and the last losses."""

    def __init__(self, label: str, plan: StepPlan) -> None:
        self.progress, self.plan, self.note = Progress(label, plan.rounds * plan.batches_per_round), plan, ""

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.progress.done = trainer.current_epoch * self.plan.batches_per_round

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.progress.update(note=self.note)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        loss = trainer.callback_metrics.get("validation_loss", trainer.callback_metrics["train_loss"])
        self.note = f"epoch {trainer.current_epoch + 1}, loss {float(loss):.4g}"

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.progress.note = self.note
        self.progress.close()


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

    Parameters
    ----------
    model : torch.nn.Module
        Trained in place. Initial weights should come from ``torch.manual_seed(config.seed)``.
    train, validation : BatchDataset
        Whole batches for an array of positions. Without a validation `keep` must be ``last`` and nothing stops early.
    out : path-like
        Folder for the training state (``last.ckpt``, ``best.ckpt``, safetensors) after every epoch.
    fingerprint : str
        Identifies data and model. A training state with another fingerprint or config is refused, not mixed in.
    progress : str or bool
        Show how far the training is, under this label.

    Returns
    -------
    Trained
        With a card that holds the best epoch alone, and without scalers.

    Raises
    ------
    RunError
        If `out` holds the training state of something else.
    ContractError
        If there are fewer training samples than one whole step takes.
    """
    check_choice("fit", "keep", keep, ("last",) if validation is None else ("best", "last"))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    device = choose_device(config.device)
    identity = {
        "config": dataclasses.asdict(config),
        "fingerprint": fingerprint,
        "n_train": len(train),
        "n_validation": 0 if validation is None else len(validation),
    }
    plan = StepPlan.make(len(train), config)
    last = _resumable(out, identity)
    L.seed_everything(config.seed, verbose=False)
    history = _History()
    callbacks: list[L.Callback] = [history]
    if validation is not None:
        callbacks.append(ModelCheckpoint(out, filename="best", monitor="validation_loss", enable_version_counter=False))
    callbacks.append(ModelCheckpoint(out, filename="last", every_n_epochs=1, enable_version_counter=False))
    if config.patience and validation is not None:
        callbacks.append(EarlyStopping("validation_loss", patience=config.patience))
    if progress:
        callbacks.append(_Shown(progress if isinstance(progress, str) else "training", plan))
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
    module = _Retrieval(model, loss, config, plan)
    checked = None
    if validation is not None:
        options = {"batch_size": config.batch_size, "devices": config.devices}
        checked = evaluation_loader(validation, rank=trainer.global_rank, **options)
    with warnings.catch_warnings():
        # loading by whole batches in this process is deliberate: gathering takes a few per cent of a step (data_wait_fraction)
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")  # Lightning's, of torch
        warnings.filterwarnings("ignore", message=".*but have no `val_dataloader`.*")
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        trainer.fit(
            module,
            training_loader(train, plan, config, rank=trainer.global_rank),
            checked,
            ckpt_path=str(last) if last else None,
        )
    if not history.rows:
        raise RunError("fit", "no epoch was run", next_step=f"Delete {out} to train again")
    table = pd.DataFrame(history.rows)
    state = SafetensorsCheckpointIO().load_checkpoint(out / f"{keep}.ckpt")["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in state.items()})
    model.to("cpu", memory_format=torch.contiguous_format).eval()
    busy = history.step_seconds + history.wait_seconds or math.nan
    best = int(table["epoch"].iloc[int(table["validation_loss"].argmin()) if keep == "best" else -1])
    return Trained(
        model=model,
        card={"training": {"best_epoch": best}},
        history=table,
        samples_per_second=history.samples / busy,
        data_wait_fraction=history.wait_seconds / busy,
        details={
            "device": str(device),
            "precision": choose_precision(config.precision, device),
            "resumed": last is not None,
            "steps": plan.steps,
            "steps_per_epoch": plan.steps_per_round,
        },
    )


def state_folder(out: str | Path, config: TrainingConfig, fingerprint: str) -> Path:
    """Folder below `out` for the training state of these settings and data.

    A run that is repeated with the same ones resumes there; one with others begins anew instead of being refused.
    """
    text = json.dumps([dataclasses.asdict(config), fingerprint], sort_keys=True)
    return Path(out) / f"state_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _resumable(out: Path, identity: dict[str, Any]) -> Path | None:
    """Return the training state to resume from, after checking that it belongs to this training."""
    marker, last = out / "training.json", out / "last.ckpt"
    if last.is_file():
        found = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else None
        if found != identity:
            what = f"{out} holds the training state of other data or settings"
            raise RunError("fit", what, next_step="Choose another folder, or delete this one to train again")
        return last
    write_json(marker, identity)
    return None
