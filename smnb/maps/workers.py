"""Who predicts tiles: threads of this process, processes of a local Dask cluster, or a scheduler's workers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from smnb.contract import RunError, plain
from smnb.maps.forms import Outside, TileForm

#: Arithmetic of a map; float32 equals the untiled network to 1e-5.
MAP_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@torch.inference_mode()
def predict(form: TileForm, images: np.ndarray, outside: Outside, *, device: str, precision: str) -> np.ndarray:
    """Predict one tile, scaled; runs in a thread or in a Dask worker."""
    images_there = torch.from_numpy(images).to(device, MAP_PRECISIONS[precision])
    # exact float32 convolutions on a GPU too
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device != "cpu" else contextlib.nullcontext()
    with exact:
        return form(images_there, outside).float().cpu().numpy()


def predict_alone(form: TileForm, images: np.ndarray, outside: Outside, **options: str) -> np.ndarray:
    """`predict` on one core: workers run side by side instead of sharing every operation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return predict(form, images, outside, **options)
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def executor(
    form: TileForm, *, workers: int, scheduler: str | None, device: str
) -> Iterator[tuple[Executor, Any, int]]:
    """Yield what runs tiles, what stands for the form there, and how many tiles it takes at once."""
    if scheduler is None and workers == 0:
        threads = torch.get_num_threads()
        # a tile a core: convolutions of one tile gain more from a core of their own than from sharing each operation
        side_by_side = threads if device == "cpu" else 1
        with ThreadPoolExecutor(side_by_side, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                yield pool, form, side_by_side
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(threads)
        return
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
            address: Any = stack.enter_context(LocalCluster(**options, silence_logs=logging.ERROR))
        else:
            address = scheduler
        try:
            client = stack.enter_context(Client(address, timeout=20, set_as_default=False))
            client.wait_for_workers(1, timeout=60)
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            raise RunError(
                "tiled_map",
                "cannot reach the Dask scheduler or a worker of it",
                got=scheduler,
                expected=plain("tcp://host:port"),
                next_step="Start 'dask scheduler' and 'dask worker'",
            ) from error
        pool = client.get_executor(pure=False, retries=2)
        yield pool, client.scatter(form, broadcast=True), sum(client.nthreads().values())
        pool.shutdown(wait=False)
