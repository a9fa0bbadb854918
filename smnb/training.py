"""Training with Lightning: seeds, devices, mixed precision, checkpoints, early stopping, and a resume that changes nothing."""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from smnb.checkpoints import SafetensorsCheckpointIO
from smnb.contract import ParameterError, RunError, plain
from smnb.files import write_json
from smnb.losses import euclidean_loss
from smnb.samples import BatchDataset, PatchIndex, PatchStore, SeededBatchSampler

__all__ = ["FitResult", "TrainingConfig", "choose_device", "choose_precision", "fit", "predict_patches", "state_folder"]


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Parameters
    ----------
    epochs : int
    batch_size : int
        Samples (patches or images) a step on each device.
    learning_rate : float
        Of Adam.
    schedule : str
        ``cosine`` (decays to zero along a half cosine over the epochs) or ``constant``.
    weight_decay : float
    patience : int
        Epochs without a better validation loss before training stops; 0 never stops early.
    seed : int
        Of the initial weights and the order of batches.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    precision : str
        ``auto`` (bf16 mixed where the device has it, else 32), ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    devices : int
        Number of devices; more than one trains with DDP.
    """

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    weight_decay: float = 0.0
    patience: int = 10
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    devices: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "devices"):
            if getattr(self, name) < 1:
                raise ParameterError("TrainingConfig", name, got=getattr(self, name), expected=plain("at least 1"))
        if not self.learning_rate > 0:
            raise ParameterError("TrainingConfig", "learning_rate", got=self.learning_rate, expected=plain("positive"))
        choose_device(self.device)
        if self.schedule not in (schedules := ("cosine", "constant")):
            raise ParameterError("TrainingConfig", "schedule", got=self.schedule, expected=schedules)
        if self.precision not in (known := ("auto", "32-true", "bf16-mixed", "16-mixed")):
            raise ParameterError("TrainingConfig", "precision", got=self.precision, expected=known)


@dataclass(frozen=True)
class FitResult:
    """What `fit` leaves.

    Parameters
    ----------
    model : torch.nn.Module
        With the weights of the best validation loss, or of the last epoch if so asked, in eval mode on the CPU.
    history : DataFrame
        One row an epoch: ``epoch``, ``train_loss``, ``validation_loss``, ``learning_rate``, ``seconds``.
    best_epoch : int
        The epoch whose weights the model has.
    samples_per_second : float
        Training throughput of the epochs run by this call, validation excluded: patches or images.
    data_wait_fraction : float
        Share of training time between the end of a step and the arrival of the next batch.
    """

    model: torch.nn.Module
    history: pd.DataFrame
    best_epoch: int
    samples_per_second: float
    data_wait_fraction: float
    config: TrainingConfig
    details: dict[str, Any] = field(default_factory=dict)


def choose_device(device: str) -> torch.device:
    """Turn ``auto`` into the best device there is, and refuse one that is absent.

    Raises
    ------
    ParameterError
        If the name is unknown or the device is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if device not in available:
        raise ParameterError("device", "unknown", got=device, expected=["auto", *available])
    if not available[device]:
        raise ParameterError(
            "device", f"{device!r} is not available here", expected=[n for n, yes in available.items() if yes],
            next_step="Use device 'auto'",
        )  # fmt: skip
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> str:
    """Turn ``auto`` into bf16 mixed precision where a CUDA device has it, else float32."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


#: ``(inputs, target)`` or ``(inputs, target, mask)``.
Batch = tuple[Any, ...]


class _Retrieval(L.LightningModule):
    """Optimiser, loss and logging around a network; the network itself knows nothing of training."""

    def __init__(self, model: torch.nn.Module, loss: Callable[..., torch.Tensor], config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.loss, self.config = model, loss, config

    def _loss_of(self, batch: Batch) -> torch.Tensor:
        """Loss of ``(inputs, target)`` or ``(inputs, target, mask)``; inputs are one tensor or the network's arguments."""
        inputs, *target_and_mask = batch
        prediction = self.model(*inputs) if isinstance(inputs, (tuple, list)) else self.model(inputs)
        return self.loss(prediction.float(), *target_and_mask)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = self._loss_of(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[1]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("validation_loss", self._loss_of(batch), batch_size=len(batch[1]), sync_dist=self.config.devices > 1)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(
            self.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        if self.config.schedule == "constant":
            return {"optimizer": optimizer}
        epochs = self.config.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: 0.5 * (1.0 + math.cos(math.pi * min(epoch, epochs) / epochs))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


class _History(L.Callback):
    """Epoch losses, throughput and the time spent waiting for batches; its losses survive a resume."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.step_seconds = self.wait_seconds = 0.0
        self.samples = 0
        self._mark = self._epoch_start = self._learning_rate = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._mark = self._epoch_start = time.perf_counter()
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.wait_seconds += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.step_seconds += now - self._mark
        self.samples += len(batch[1])
        self._mark = now

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        self.rows.append(
            {
                "epoch": trainer.current_epoch,
                "train_loss": float(metrics["train_loss"]),
                "validation_loss": float(metrics["validation_loss"]),
                "learning_rate": self._learning_rate,
                "seconds": time.perf_counter() - self._epoch_start,
            }
        )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


def _loader(dataset: BatchDataset, config: TrainingConfig, *, shuffle: bool, rank: int) -> torch.utils.data.DataLoader:
    size = config.batch_size if shuffle else max(config.batch_size, dataset.evaluation_batch)
    sampler = SeededBatchSampler(
        len(dataset), size, shuffle=shuffle, seed=config.seed, rank=rank, world_size=config.devices
    )
    # batch_size None: the sampler already yields whole batches, which the dataset gathers in one go
    return torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=0)


def fit(
    model: torch.nn.Module,
    train: BatchDataset,
    validation: BatchDataset,
    *,
    config: TrainingConfig,
    out: str | Path,
    loss: Callable[..., torch.Tensor] = euclidean_loss,
    fingerprint: str = "",
    stop_after_epochs: int | None = None,
    keep: str = "best",
    progress: bool = False,
) -> FitResult:
    """Train a network, or go on where a killed training stopped.

    Parameters
    ----------
    model : torch.nn.Module
        Trained in place. Initial weights should come from ``torch.manual_seed(config.seed)``.
    train, validation : BatchDataset
        Whole batches for an array of positions: `PatchDataset`, `smnb.sequences.SequenceDataset`.
    config : TrainingConfig
    out : path-like
        Folder for the training state (``last.ckpt``, ``best.ckpt``, safetensors) after every epoch.
    loss : callable
        ``loss(pred, target) -> scalar``, or ``loss(pred, target, mask)`` where the batches have a mask.
    fingerprint : str
        Identifies data and model. A training state with another fingerprint or config is refused, not mixed in.
    stop_after_epochs : int, optional
        Stop early after this many epochs, leaving the state to resume from (for tests and time-limited jobs).
    keep : str
        Whose weights the result has: those of the ``best`` validation loss or of the ``last`` epoch.
    progress : bool
        Show Lightning's progress bar.

    Returns
    -------
    FitResult

    Raises
    ------
    RunError
        If `out` holds the training state of something else, or the loss became NaN.
    """
    if keep not in (known := ("best", "last")):
        raise ParameterError("fit", "keep", got=keep, expected=known)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    device = choose_device(config.device)
    identity = {
        "config": asdict(config),
        "fingerprint": fingerprint,
        "n_train": len(train),
        "n_validation": len(validation),
    }
    last = _resumable(out, identity)
    L.seed_everything(config.seed, verbose=False)
    history = _History()
    best = ModelCheckpoint(
        out, filename="best", monitor="validation_loss", save_last=False, enable_version_counter=False
    )
    newest = ModelCheckpoint(out, filename="last", every_n_epochs=1, save_top_k=1, enable_version_counter=False)
    callbacks: list[L.Callback] = [history, best, newest]
    if config.patience:
        callbacks.append(EarlyStopping("validation_loss", patience=config.patience))
    _quiet_lightning()
    if device.type == "cpu":
        _keep_freed_memory()
    trainer = L.Trainer(
        max_epochs=min(config.epochs, stop_after_epochs or config.epochs), accelerator=device.type, devices=config.devices,
        precision=choose_precision(config.precision, device), callbacks=callbacks, plugins=[SafetensorsCheckpointIO()],
        logger=False, enable_progress_bar=progress, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, deterministic="warn", default_root_dir=out,
    )  # fmt: skip
    module = _Retrieval(model, loss, config)
    with warnings.catch_warnings():
        # loading by whole batches in this process is deliberate: gathering takes a few per cent of a step (data_wait_fraction)
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")  # Lightning's, of torch
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        trainer.fit(
            module,
            _loader(train, config, shuffle=True, rank=trainer.global_rank),
            _loader(validation, config, shuffle=False, rank=trainer.global_rank),
            ckpt_path=str(last) if last else None,
        )
    if not history.rows:
        raise RunError("fit", "no epoch was run", next_step=f"Delete {out} to train again")
    table = pd.DataFrame(history.rows)
    state = SafetensorsCheckpointIO().load_checkpoint(out / f"{keep}.ckpt")["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in state.items()})
    model.cpu().eval()
    busy = history.step_seconds + history.wait_seconds
    return FitResult(
        model=model,
        history=table,
        best_epoch=int(table["epoch"].iloc[int(table["validation_loss"].argmin()) if keep == "best" else -1]),
        samples_per_second=history.samples / busy if busy else float("nan"),
        data_wait_fraction=history.wait_seconds / busy if busy else float("nan"),
        config=config,
        details={
            "device": str(device),
            "precision": choose_precision(config.precision, device),
            "resumed": last is not None,
        },
    )


def state_folder(out: str | Path, config: TrainingConfig, fingerprint: str) -> Path:
    """Folder below `out` for the training state of these settings and data.

    A run that is repeated with the same ones resumes there; one with others begins anew instead of being refused.
    """
    text = json.dumps([asdict(config), fingerprint], sort_keys=True)
    return Path(out) / f"state_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _resumable(out: Path, identity: dict[str, Any]) -> Path | None:
    """Return the training state to resume from, after checking that it belongs to this training."""
    marker, last = out / "training.json", out / "last.ckpt"
    if last.is_file():
        found = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else None
        if found != identity:
            raise RunError(
                "fit", f"{out} holds the training state of other data or settings",
                next_step="Choose another folder, or delete this one to train again",
            )  # fmt: skip
        return last
    write_json(marker, identity)
    return None


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next step, instead of mapping and clearing large tensors anew each time.

    Batches of images allocate and free hundreds of MB a step; handing them back costs page faults for every page. Elsewhere
    than on glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large block
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give the top of the heap back


def _quiet_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.ERROR)


@torch.inference_mode()
def predict_patches(
    model: torch.nn.Module,
    store: PatchStore,
    index: PatchIndex,
    *,
    batch_size: int = 1024,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Predict the scaled target of patches, gathering a batch at a time.

    Returns
    -------
    ndarray, shape (patch,), float32
        Scaled; use the target scaler's `inverse` for m3 m-3.
    """
    model = model.to(device).eval()
    parts = [
        model(store.gather(index[start : start + batch_size]).to(device)).float().cpu()
        for start in range(0, len(index), batch_size)
    ]
    return torch.cat(parts).numpy() if parts else np.empty(0, dtype="float32")
