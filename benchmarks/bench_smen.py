"""SMEN training against this machine's matrix-product rate: ``python -m benchmarks.bench_smen``.

What is the limit: 1,000 epochs of the paper's Oklahoma setting (80 images of 100 x 100) are about 280 TFLOP, nearly all in
the second and third temporal convolutions, so the time is that of convolutions of 32 by 32 filters, bounded by the rate at
which the machine multiplies matrices. This measures that rate and the training's in one run, with what `smnb.training.fit`
really does (Lightning, checkpoints, data), in float32 and bf16, and names the share of time in convolutions. In float32 a step
frees and allocates hundreds of MB; ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000000`` before the command keeps them.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
import torch

from benchmarks.measure import matrix_rate, synchronise
from smnb.models.smen import SMEN
from smnb.papers.smen import ImageSequences, Place, smen_samples
from smnb.papers.smen.sequences import SequenceDataset
from smnb.training import TrainingConfig, choose_device, train
from smnb.training.losses import unbiased_rmse_loss


def multiplications(size: int = 100, features: int = 32, history: int = 4) -> int:
    """Multiply-adds of one image's forward pass."""
    taps = 2 * 3 * 3
    blocks = sum((1 if i == 0 else features) * features * taps * (history - 1 - i) for i in range(history - 1))
    return size * size * (blocks + 2 * 9 * features)


def scenes(n: int, size: int) -> ImageSequences:
    """Images of the right size; their values do not matter to the time."""
    rng = np.random.default_rng(0)
    fine = rng.uniform(0.05, 0.4, (n, size, size)).astype("float32")
    fine[:, :, : size // 5] = np.nan
    coarse = rng.uniform(0.1, 0.3, (n, size, size)).astype("float32")
    when = np.datetime64("2016-01-01", "ns") + np.arange(n) * np.timedelta64(6, "D")
    return ImageSequences("bench", "benchmark (synthetic)", when, coarse, fine, coarse, {}, 4, True)


def steps_alone(data: SequenceDataset, batch: int, seconds: float, precision: str, device: torch.device) -> float:
    """Images a second of forward, backward and Adam alone, without Lightning."""
    model = SMEN().to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    done, start, number = 0, 0.0, 0
    while number < 3 or time.perf_counter() - start < seconds:
        if number == 2:  # the first steps set up kernels
            synchronise(device)
            done, start = 0, time.perf_counter()
        inputs, target, mask = data[np.arange(number * batch, (number + 1) * batch) % len(data)]
        inputs, target, mask = [one.to(device) for one in inputs], target.to(device), mask.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            prediction = model(*inputs)
        optimizer.zero_grad()
        unbiased_rmse_loss(prediction.float(), target, mask).backward()
        optimizer.step()
        done, number = done + batch, number + 1
    synchronise(device)
    return done / (time.perf_counter() - start)


def share_of_convolutions(data: SequenceDataset, batch: int, precision: str) -> float:
    """Share of a training step's operator time that is spent in convolutions, forward and backward (CPU)."""
    model = SMEN().train()
    inputs, target, mask = data[np.arange(batch)]
    with torch.profiler.profile() as profile, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        unbiased_rmse_loss(model(*inputs).float(), target, mask).backward()
    total = sum(event.self_cpu_time_total for event in profile.key_averages())
    convolutions = sum(
        event.self_cpu_time_total
        for event in profile.key_averages()
        if "conv" in event.key and "convert" not in event.key
    )
    return convolutions / total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of 80 images through fit")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=100)
    args = parser.parse_args()
    device = choose_device(args.device)
    images = 80
    flops = 6 * multiplications(args.size)  # forward, and twice that backward; two FLOP a multiply-add
    print(
        f"device {device}, {torch.get_num_threads()} threads, {images} images of {args.size} x {args.size}, batch {args.batch}"
    )
    print(f"one image and step {flops / 1e9:.2f} GFLOP; 1,000 epochs {1000 * images * flops / 1e12:.0f} TFLOP")
    data = scenes(images + 12, args.size)
    samples = smen_samples(Place(data, data.split(str(data.time[-4])[:10], n_train=images)))
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        rate = matrix_rate(device, dtype)
        config = TrainingConfig(
            epochs=args.epochs,
            batch_size=args.batch,
            learning_rate=1e-4,
            schedule="constant",
            patience=0,
            device=str(device.type),
            precision=precision,
        )
        with tempfile.TemporaryDirectory() as folder:
            result = train("smen", samples, loss=unbiased_rmse_loss, config=config, out=folder, keep="last")
        alone = steps_alone(samples.train, args.batch, 8.0, precision, device)
        again = matrix_rate(device, dtype)
        rate = max(rate, again)
        achieved = flops * result.samples_per_second
        print(
            f"{precision}: matrix product {rate / 1e9:,.0f} GFLOP/s; training {achieved / 1e9:,.0f} GFLOP/s "
            f"({achieved / rate:.0%}), {result.samples_per_second:.1f} images a second, data wait "
            f"{result.data_wait_fraction:.1%}; steps alone {flops * alone / 1e9:,.0f} GFLOP/s ({flops * alone / rate:.0%}); "
            f"1,000 epochs {1000 * images / result.samples_per_second / 60:.1f} min"
        )
        if device.type == "cpu":
            share = share_of_convolutions(samples.train, args.batch, precision)
            print(f"  convolutions take {share:.0%} of a step")


if __name__ == "__main__":
    main()
