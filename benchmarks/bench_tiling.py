"""Large maps in tiles against overlapping patches, and the fusion network's training: ``python -m benchmarks.bench_tiling``.

What is the limit: a map of 3,000 x 4,500 cells is 3.0 TFLOP, nearly all in the convolutions of 32 by 32 filters, so its
floor is that number over the rate at which the machine multiplies. Two rates are measured: a large matrix product, and one
convolution of 32 filters with nothing around it, which oneDNN may do faster than the matrix library multiplies. The naive
way cuts 256 x 256 patches that overlap by half, predicts them with the same network as it was trained, and averages them;
it is timed on some of the patches, spread over the map, and scaled to their number. The map is written in a process of its
own, whose largest memory is what the operating system counted.

Training is `smnb.training.fit` on patches of 256 x 256 with the composite loss and spatial dropout.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import nn
from torch.nn import functional

from benchmarks.measure import best_of, matrix_rate, resident_memory
from smnb.grids import M01, EaseWindow
from smnb.maps import tiled_map
from smnb.maps.tiles import MapResult
from smnb.models import build_model
from smnb.training import BatchDataset, MinMaxScaler, TrainingConfig, fit
from smnb.training.losses import fusion_loss

PATCH, STRIDE = 256, 128
INPUTS = MinMaxScaler((180.0, 180.0, -25.0, -32.0), (300.0, 300.0, 0.0, -5.0), (0.5,) * 4)
TARGET = MinMaxScaler((0.0,), (0.6,), (0.4,))


def multiplications(features: int = 32) -> tuple[int, int]:
    """Multiply-adds a cell of the first convolution and of all else."""
    taps = 2 * 3 * 3
    return 4 * taps * features, 6 * taps * features**2 + features


def convolution_rate(side: int = 256) -> float:
    """Best of several convolutions of 32 by 32 filters, FLOP a second."""
    images = torch.randn(1, 32, side, side).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(32, 32, 3, 3).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        seconds, _ = best_of(lambda: functional.conv2d(images, weight, padding=1), 12)
    return 2.0 * 9 * 32 * 32 * side**2 / seconds


def network() -> nn.Module:
    """The network with normalisations that are no identities."""
    torch.manual_seed(0)
    model = build_model("fusion_1km")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.uniform_(layer.weight, 0.5, 1.5), nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.normal_(layer.running_mean, std=0.3), nn.init.normal_(layer.bias, std=0.3)
    return model.eval()


def write_scene(path: Path, rows: int, cols: int) -> None:
    """A scene on disk, written in bands; its values do not matter to the time."""
    scene = zarr.create_array(path, shape=(4, rows, cols), chunks=(4, min(256, rows), min(1024, cols)), dtype="float32")
    rng = np.random.default_rng(0)
    low, high = (np.array(values, "float32")[:, None, None] for values in (INPUTS.minimum, INPUTS.maximum))
    for top in range(0, rows, 256):
        band = rng.random((4, min(256, rows - top), cols), dtype="float32") * (high - low) + low
        band[:, :, :40] = np.nan  # beyond the swath
        scene[:, top : top + 256] = band


def write_the_map(scene: str, out: str, tile: int, precision: str, threads: int, answer: multiprocessing.Queue) -> None:
    """Write the map, in a process of its own, and answer with its result and its largest memory in MB."""
    torch.set_num_threads(threads)
    inputs = zarr.open_array(scene, mode="r")
    window = EaseWindow(M01, 2000, 2000 + inputs.shape[1], 6000, 6000 + inputs.shape[2])
    result = tiled_map(
        network(),
        inputs,
        out=out,
        tile=tile,
        precision=precision,
        coords=window.coords(),
        input_scaler=INPUTS,
        target_scaler=TARGET,
        synthetic=True,
    )
    answer.put((result, resident_memory() / 1e6))


def in_a_process(*arguments: object) -> tuple[MapResult, float]:
    """Call `write_the_map` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=write_the_map, args=(*arguments, answer))
    process.start()
    result = answer.get(timeout=3600)
    process.join()
    return result


@torch.inference_mode()
def by_patches(model: nn.Module, scene: zarr.Array, n_patches: int, batch: int) -> tuple[float, int]:
    """Seconds of some patches, the naive way, and how many patches the whole map has."""
    rows, cols = scene.shape[1:]
    tops, lefts = (sorted({*range(0, size - PATCH, STRIDE), size - PATCH}) for size in (rows, cols))
    everything = [(top, left) for top in tops for left in lefts]
    some = [everything[i] for i in np.linspace(0, len(everything) - 1, min(n_patches, len(everything))).astype(int)]
    total, weight = np.zeros((rows, cols), "float32"), np.zeros((rows, cols), "float32")
    model(torch.zeros(batch, 4, PATCH, PATCH))  # kernels are set up
    start = time.perf_counter()
    for first in range(0, len(some), batch):
        part = some[first : first + batch]
        images = np.stack([scene[:, top : top + PATCH, left : left + PATCH] for top, left in part])
        valid = np.isfinite(images).all(1)
        scaled = INPUTS.transform(np.moveaxis(images, 1, -1))
        scaled = np.where(np.isfinite(scaled), scaled, np.asarray(INPUTS.fill, "float32"))
        result = model(torch.from_numpy(np.moveaxis(scaled, -1, 1).copy())).numpy()
        for (top, left), values, seen in zip(part, TARGET.inverse(result[..., None])[..., 0], valid, strict=True):
            total[top : top + PATCH, left : left + PATCH] += np.where(seen, values, 0.0)
            weight[top : top + PATCH, left : left + PATCH] += seen
    return (time.perf_counter() - start) / len(some), len(everything)


class Patches(BatchDataset):
    """Random patches with a few in-situ pixels and a coarse product, as the fusion loss takes them."""

    evaluation_batch = 2

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(1)
        self.images = torch.from_numpy(rng.random((n, 4, PATCH, PATCH), dtype="float32"))
        self.in_situ = torch.from_numpy(rng.random((n, PATCH, PATCH), dtype="float32"))
        self.in_situ_mask = torch.from_numpy(rng.random((n, PATCH, PATCH)) < 1e-4)
        self.product = torch.from_numpy(rng.random((n, 28, 28), dtype="float32"))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, batch: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Images, in-situ pixels and their mask, the product and its mask."""
        at = torch.as_tensor(batch)
        product = self.product[at]
        return self.images[at], self.in_situ[at], self.in_situ_mask[at], product, product > 0.1


def training(batch: int, epochs: int, images: int) -> None:
    """Measure training through `fit` beside the matrix rate."""
    first, rest = multiplications()
    flops = 2 * PATCH**2 * (2 * first + 3 * rest)  # the first convolution's input needs no gradient
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        before = matrix_rate(dtype=dtype)
        torch.manual_seed(0)
        config = TrainingConfig(
            epochs=epochs,
            batch_size=batch,
            learning_rate=1e-4,
            schedule="constant",
            patience=0,
            device="cpu",
            precision=precision,
        )
        with tempfile.TemporaryDirectory() as folder:
            result = fit(
                build_model("fusion_1km"),
                Patches(images),
                Patches(2),
                config=config,
                out=folder,
                loss=partial(fusion_loss, alpha=0.5),
            )
        rate = max(before, matrix_rate(dtype=dtype))
        achieved = flops * result.samples_per_second
        print(
            f"training {precision}, batch {batch}: {result.samples_per_second:.2f} patches a second of {flops / 1e9:.1f} "
            f"GFLOP = {achieved / 1e9:,.0f} GFLOP/s, {achieved / rate:.0%} of the matrix product's {rate / 1e9:,.0f}; "
            f"data wait {result.data_wait_fraction:.1%}",
            flush=True,
        )


def maps(rows: int, cols: int, tiles: list[int], n_patches: int, batch: int, threads: int) -> None:
    """Measure the map in tiles and by patches in one run."""
    cells, flops = rows * cols, 2 * sum(multiplications())
    rate, convolution = matrix_rate(), convolution_rate()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write_scene(path / "scene.zarr", rows, cols)
        scene = zarr.open_array(path / "scene.zarr", mode="r")
        model = network()
        naive = [by_patches(model, scene, n_patches, batch)]
        results = []
        for tile in tiles:
            others = ((".tif", "float32"), (".zarr", "bfloat16")) if tile == tiles[0] else ()
            for suffix, precision in ((".zarr", "float32"), *others):
                out = path / f"map_{tile}_{precision}{suffix}"
                result, memory = in_a_process(str(scene.store.root), str(out), tile, precision, threads)
                results.append((tile, suffix, precision, result, memory))
        naive.append(by_patches(model, scene, n_patches, batch))  # again, in case the machine's speed drifted
        rate, convolution = max(rate, matrix_rate()), max(convolution, convolution_rate())
        number = naive[0][1]
        seconds = number * min(one for one, _ in naive)
        print(
            f"{rows:,} x {cols:,} = {cells:,} cells, {flops * cells / 1e12:.2f} TFLOP; matrix product {rate / 1e9:,.0f} "
            f"GFLOP/s, one convolution {convolution / 1e9:,.0f}: floor {flops * cells / rate:.1f} s and "
            f"{flops * cells / convolution:.1f} s"
        )
        print(
            f"patches of {PATCH} every {STRIDE}: {seconds:.1f} s for {number} of them, from {min(n_patches, number)} timed "
            f"twice ({', '.join(f'{1e3 * one:.0f} ms' for one, _ in naive)} each); {cells / seconds:,.0f} cells/s"
        )
        for tile, suffix, precision, result, memory in results:
            achieved = flops * cells / result.seconds
            print(
                f"tiles of {tile}, {precision}, {suffix}: {result.seconds:.1f} s, {cells / result.seconds:,.0f} cells/s, "
                f"{seconds / result.seconds:.2f} times as fast as patches; {achieved / 1e9:,.0f} GFLOP/s, "
                f"{achieved / rate:.0%} of the matrix product, {achieved / convolution:.0%} of a convolution; largest "
                f"memory {memory:,.0f} MB"
            )
        one = zarr.open_group(results[0][3].path, mode="r")["soil_moisture"][:512, :512]
        with torch.inference_mode():
            images = np.moveaxis(INPUTS.transform(np.moveaxis(scene[:, :520, :520], 0, -1)), -1, 0)
            whole = model(torch.from_numpy(np.where(np.isfinite(images), images, np.float32(0.5)))[None])[0, :512, :512]
        difference = np.nanmax(np.abs(TARGET.inverse(whole.numpy()[..., None])[..., 0] - one))
        print(f"largest difference from the untiled network, upper left {one.shape}: {difference:.1e} m3 m-3")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--cols", type=int, default=4500)
    parser.add_argument("--tile", type=int, nargs="+", default=[256], help="sides of tiles to compare")
    parser.add_argument("--patches", type=int, default=24, help="patches of the naive way to time")
    parser.add_argument("--batch", type=int, default=2, help="patches at once, naive way and training")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=12, help="patches an epoch of training")
    parser.add_argument("--only", choices=["maps", "training"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.threads} threads", flush=True)
    if args.only != "training":
        maps(args.rows, args.cols, args.tile, args.patches, args.batch, args.threads)
    if args.only != "maps":
        training(args.batch, args.epochs, args.images)


if __name__ == "__main__":
    main()
