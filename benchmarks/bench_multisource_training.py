"""The multi-source training on a sample store on disk: ``python -m benchmarks.bench_multisource_training``.

One run measures the machine's rate of matrix products, a training step of the network alone (batches at hand), what makes
batches (reading, scaling, Table 6's transformations), and the training as `smnb.training.fit` does it, with images in memory
and read from the store ahead of the step. On the CPU the network has small encoders; on a GPU the paper's, in bf16 and
channels-last, compiled or not. FLOP are those of the step's convolutions and matrix products, forward and backward.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import affine_transform
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import best_of, matrix_rate
from smnb.models.multisource import MultiSourceConfig, MultiSourceNet
from smnb.papers.batchu2023 import FULL_MODEL, MultiSourceDataset, paper_training
from smnb.papers.batchu2023.batches import Augmentation, warp
from smnb.papers.batchu2023.inputs import SOURCE_SETS
from smnb.papers.batchu2023.store import SampleStore, SampleStoreWriter
from smnb.training import choose_device, choose_precision, fit
from smnb.training.losses import huber_loss

INPUTS = SOURCE_SETS[FULL_MODEL]
PAPER_STEPS, PAPER_BATCH = 600_000, 64


def make_store(path: Path, n: int, crop: int) -> SampleStore:
    """A store of noise, which does not compress: reading it is no faster than reading images."""
    rng = np.random.default_rng(0)
    sensors, low = max(2, n // 16), crop // 16

    def noise(*shape: int) -> np.ndarray:
        return rng.random(shape, dtype="float32").astype("float16")

    writer = SampleStoreWriter(path, sources=INPUTS.sources, crop=crop, synthetic=True)
    static = {"dem/values": noise(sensors, 1, crop, crop), "soilgrids/values": noise(sensors, 4, low, low)}
    writer.write(0, static)
    values = {
        "sentinel1/values": noise(n, 3, crop, crop),
        "sentinel2/values": noise(n, 6, crop, crop),
        "smap/values": noise(n, 1),
        "gldas/values": noise(n, 1),
    }
    when, sensor = pd.date_range("2020", periods=n, freq="h"), np.arange(n) % sensors
    writer.write(0, {"label": rng.uniform(0, 0.5, n), "time": when, "sensor": sensor, **values})
    return writer.finish(pd.DataFrame({"sensor_id": [f"s{i}" for i in range(sensors)]}))


def batch_of(size: int, crop: int, device: torch.device) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    shapes = ((size, 10, crop, crop), (size, 4, crop // 16, crop // 16), (size, 2))
    inputs = tuple(torch.randn(shape, device=device) for shape in shapes)
    inputs = tuple(one.contiguous(memory_format=torch.channels_last) if one.ndim == 4 else one for one in inputs)
    return inputs, torch.rand(size, device=device)


def step_alone(
    model: torch.nn.Module, size: int, crop: int, device: torch.device, precision: str, compiled: bool, seconds: float
) -> tuple[float, float, float]:
    """Images a second of forward, backward and SGD in the shortest step, FLOP of an image, and the best matrix rate.

    Steps and matrix products take turns: a shared machine's rate changes from second to second.
    """
    inputs, target = batch_of(size, crop, device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    called = torch.compile(model) if compiled else model

    def step(network: torch.nn.Module) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            prediction = network(*inputs)
        optimizer.zero_grad(set_to_none=True)
        huber_loss(prediction.float(), target).backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step(model)
    for _ in range(3):  # kernels are chosen and compiled
        step(called)
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    start, shortest, number, rate = time.perf_counter(), float("inf"), 0, 0.0
    while time.perf_counter() - start < seconds or number < 3:
        shortest, number = min(shortest, best_of(lambda: step(called), device=device)[0]), number + 1
        # on a CPU products of about a step's work, so that both find the machine idle as often
        rate = max(rate, matrix_rate(device, dtype, None if device.type == "cuda" else 1024, repeats=2))
    return size / shortest, counter.get_total_flops() / size, rate


def augmentation_alone(n: int, crop: int) -> tuple[float, float]:
    """Images a second of the batched transformation, and of SciPy's sample by sample."""
    augmentation, size = Augmentation(), min(n, 16)
    side = augmentation.reach(crop)
    images = torch.rand(size, 10, side, side)
    matrices = augmentation.matrices(Augmentation.draws(0, 0, size))
    ours, found = best_of(lambda: warp(images, matrices, crop), 3)
    few = 2

    def one_by_one() -> np.ndarray:
        result = np.empty((few, 10, crop, crop), "float32")
        for sample in range(few):
            matrix = matrices[sample].numpy()[::-1, ::-1]  # SciPy's are (row, column)
            offset = (side - 1) / 2 - matrix @ np.full(2, (crop - 1) / 2)
            for channel in range(10):
                affine_transform(
                    images[sample, channel].numpy(),
                    matrix,
                    offset,
                    output_shape=(crop, crop),
                    order=1,
                    output=result[sample, channel],
                )
        return result

    theirs, expected = best_of(one_by_one, 2)
    if not np.allclose(found[:few].numpy(), expected, atol=1e-4):
        raise RuntimeError("the batched transformation differs from SciPy's")
    return size / ours, few / theirs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--samples", type=int, help="in the store; default 96, on a GPU 512")
    parser.add_argument("--crop", type=int, help="of the network; default 128, on a GPU 256; the store has twice that")
    parser.add_argument("--batch", type=int, help="default 16, on a GPU 64")
    parser.add_argument("--seconds", type=float, default=10.0, help="of steps alone and matrix products, in turn")
    options = parser.parse_args()
    device = choose_device(options.device)
    gpu = device.type == "cuda"
    crop, batch, n = (
        given or (on_gpu if gpu else on_cpu)
        for given, on_cpu, on_gpu in ((options.crop, 128, 256), (options.batch, 16, 64), (options.samples, 96, 512))
    )
    settings = {} if gpu else {"high_encoder": "small", "low_encoder": "small", "output_stride_low": crop // 16}
    network = MultiSourceConfig(**settings)
    precision = choose_precision("auto", device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{torch.cuda.get_device_name(device) if gpu else f'CPU, {cores} processors, {torch.get_num_threads()} threads'}; "
        f"{precision}"
    )
    print(f"{network.high_encoder} and {network.low_encoder} encoders, {crop} x {crop} pixels, batches of {batch}")
    torch.manual_seed(0)
    for compiled in (False, True) if gpu else (False,):
        model = MultiSourceNet(network).to(device, memory_format=torch.channels_last).train()
        images, flop, rate = step_alone(model, batch, crop, device, precision, compiled, options.seconds)
        days = PAPER_STEPS * PAPER_BATCH / images / 86_400
        print(
            f"  a step alone{', compiled' * compiled}: {images:,.1f} images/s, {flop / 1e9:.2f} GFLOP an image, "
            f"{images * flop / 1e12:.3f} TFLOP/s = {images * flop / rate:.0%} of the matrix rate of {rate / 1e12:.3f}; "
            f"the paper's 600,000 steps of 64: {days:.1f} days"
        )
    batched, single = augmentation_alone(n, crop)
    print(
        f"  Table 6 on the CPU: {batched:,.0f} images/s, SciPy one by one {single:,.1f} ({batched / single:.0f} times)"
    )
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "s.zarr", n, 2 * crop)
        whole = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())
        print(f"  a store of {n} samples of {2 * crop} x {2 * crop} pixels, {whole / 2**20:,.0f} MiB")
        for where, memory_gb in (("in memory", 64.0), ("read from the store", 0.0)):
            data = MultiSourceDataset(
                store, INPUTS, np.arange(n), crop=crop, augmentation=Augmentation(), memory_gb=memory_gb, device=device
            )
            seconds, _ = best_of(lambda d=data: d[np.arange(batch)], 3, device=device)
            few = MultiSourceDataset(store, INPUTS, np.arange(batch), crop=crop, device=device)
            steps = max(1, n // batch)
            config = paper_training(
                batch_size=batch, steps=4 * steps, validate_every=steps, device=options.device, learning_rate=0.01
            )
            result = fit(
                MultiSourceNet(network),
                data,
                few,
                config=dataclasses.replace(config, seed=1),
                out=Path(folder) / f"fit_{memory_gb:g}",
                loss=partial(huber_loss, delta=0.4),
            )
            images = result.samples_per_second
            print(
                f"  training, images {where}: {images:,.1f} images/s, {images * flop / rate:.0%} of the matrix rate, "
                f"waiting for data {result.data_wait_fraction:.1%}; a batch alone takes {batch / seconds:,.0f} images/s"
            )


if __name__ == "__main__":
    main()
