"""The AMSR-E system against the naive way and its peers, each ratio in one run on this machine.

    python -m benchmarks.bench_amsre [map|svr|gather|train|all] [--device cuda]

- map: a full 720×1440 map by dense inference, against the same network on batched patches and on patches from xbatcher's
  generator. The arithmetic floor is the dense network's multiplications at this machine's measured matrix-product rate.
- svr: prediction through torch against scikit-learn's (libsvm), 5,000 support vectors, 324 features, 20,000 points.
- gather: patches a second out of the padded images, against slicing them one by one.
- train: throughput, its share of the matrix rate, and the share of time spent waiting for batches.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import tempfile

import numpy as np
import torch
import xarray as xr

from benchmarks.measure import best_of, matrix_rate
from smnb.maps import mapped_image
from smnb.models import build_model
from smnb.models.amsre_cnn import TorchSVR
from smnb.papers.hu2018_amsre.tasks import PatchDataset, PatchIndex, PatchStore
from smnb.training import MinMaxScaler, TrainingConfig, fit

ROWS, COLS = 720, 1440
#: Multiplications a pixel: a patch, the dense network.
MULTIPLICATIONS = {
    "patch": 8 * 8 * 20 * 16 + 6 * 6 * 100 * 80 + 2 * 2 * 200 * 400 + 800 * 500 + 500,
    "dense": 20 * 16 + 100 * 80 + 200 * 400 + 800 * 500 + 500,
}


def images(number: int = 1) -> PatchStore:
    values = np.random.default_rng(0).uniform(80, 300, size=(number, ROWS, COLS, 4)).astype("float32")
    return PatchStore(values, MinMaxScaler.fit(values), wrap=True)


@torch.inference_mode()
def patch_map(network: torch.nn.Module, store: PatchStore, where: np.ndarray, batch_size: int) -> np.ndarray:
    """The first image patch by patch, scaled; NaN elsewhere."""
    row, col = np.nonzero(where)
    index, result = PatchIndex(np.zeros_like(row), row, col), np.full(where.shape, np.nan, dtype="float32")
    for low in range(0, len(index), batch_size):
        part = index[low : low + batch_size]
        result[part.row, part.col] = network(store.gather(part)).float().cpu().numpy()
    return result


def bench_map(device: str) -> None:
    torch.manual_seed(0)
    store, network = images(), build_model("amsre_cnn").eval()
    native = store.scaler.inverse(store.padded[0, 4:-4, 4:-4].numpy())
    native = np.ascontiguousarray(np.moveaxis(native, -1, 0))
    band = np.zeros((ROWS, COLS), bool)
    band[300:330] = True  # patches are timed on 43,200 pixels and scaled: a whole map takes most of a minute
    share = ROWS * COLS / band.sum()
    rate = matrix_rate(device)
    tile = 256 if device == "cpu" else 720

    def dense() -> np.ndarray:
        return mapped_image(network.folded(wrap=True), native, input_scaler=store.scaler, tile=tile, device=device)

    dense_seconds, _ = best_of(dense, 3, device=device)
    on_device = PatchStore.__new__(PatchStore)
    on_device.__dict__ = {**store.__dict__, "padded": store.padded.to(device)}
    there = copy.deepcopy(network).to(device)
    by_batch = {
        size: best_of(lambda s=size: patch_map(there, on_device, band, s), 2, device=device)[0] * share
        for size in (256, 1024, 4096)
    }
    patch_seconds = min(by_batch.values())
    again, mapped = best_of(dense, 2, device=device)  # load may change
    difference = np.nanmax(np.abs(patch_map(there, on_device, band, 1024) - mapped))
    dense_seconds = min(dense_seconds, again)
    floor = 2 * MULTIPLICATIONS["dense"] * ROWS * COLS / rate
    print(f"matrix products: {rate / 1e9:.0f} GFLOP/s float32")
    print(
        f"dense map: {dense_seconds:.2f} s; floor {floor:.2f} s at that rate ({floor / dense_seconds:.0%} of it reached)"
    )
    print(
        f"batched patches: {patch_seconds:.1f} s (batches {', '.join(f'{k}: {v:.1f} s' for k, v in by_batch.items())})"
    )
    print(f"ratio: {patch_seconds / dense_seconds:.1f}x; largest difference {difference:.1e}")
    if device == "cpu":
        bench_xbatcher(store, network, dense_seconds)


def bench_xbatcher(store: PatchStore, network: torch.nn.Module, dense_seconds: float) -> None:
    import xbatcher

    values = (
        store.padded[0].permute(2, 0, 1).numpy()[:, 300:316, :400]
    )  # 8 rows of 392 patches; a map takes many minutes
    array = xr.DataArray(np.ascontiguousarray(values), dims=("channel", "lat", "lon"))
    generator = xbatcher.BatchGenerator(
        array, input_dims={"channel": 4, "lat": 9, "lon": 9}, input_overlap={"lat": 8, "lon": 8}, preload_batch=False
    )

    def run() -> int:
        batch, done = [], 0
        with torch.inference_mode():
            for patch in generator:
                batch.append(patch.values)
                if len(batch) == 1024:
                    done += network(torch.from_numpy(np.stack(batch))).numel()
                    batch = []
            done += network(torch.from_numpy(np.stack(batch))).numel() if batch else 0
        return done

    n = len(generator)
    seconds = best_of(run, 2)[0] * ROWS * COLS / n
    print(
        f"xbatcher {xbatcher.__version__}: {seconds:.0f} s a map (timed on {n} patches); ratio {seconds / dense_seconds:.0f}x"
    )


def bench_svr() -> None:
    from sklearn.svm import SVR

    rng = np.random.default_rng(0)
    base = rng.random((5600, 4)).astype("float32")
    features = (np.repeat(base, 81, axis=1) * 0.7 + 0.3 * rng.random((5600, 324))).astype("float32")
    target = np.sin(3 * base[:, 0]) + base[:, 1] ** 2 + 0.3 * rng.standard_normal(5600)
    svr = SVR(C=10, epsilon=0.005).fit(features, target / np.ptp(target))
    points = np.concatenate([features] * 4)[:20_000] + 0.05 * rng.standard_normal((20_000, 324)).astype("float32")
    machine, tensor = TorchSVR(svr), torch.from_numpy(points)
    torch_seconds, _ = best_of(lambda: machine(tensor), 3)
    sklearn_seconds, reference = best_of(lambda: svr.predict(points))
    difference = np.abs(reference - machine(tensor).numpy()).max()
    print(f"{len(svr.support_)} support vectors, 324 features, 20,000 points")
    print(
        f"scikit-learn {sklearn_seconds:.1f} s, torch {torch_seconds:.2f} s, ratio {sklearn_seconds / torch_seconds:.0f}x"
    )
    print(f"largest difference {difference:.1e}")


def bench_gather() -> None:
    store = images(4)
    rng = np.random.default_rng(1)
    n = 400_000
    index = PatchIndex(rng.integers(0, 4, n), rng.integers(0, ROWS, n), rng.integers(0, COLS, n))

    def gather(batch: int) -> None:
        for start in range(0, n, batch):
            store.gather(index[start : start + batch])

    padded = store.padded.numpy()

    def naive(count: int = 20_000) -> None:
        for start in range(0, count, 256):
            part = index[start : start + 256]
            np.stack([padded[i, r : r + 9, c : c + 9] for i, r, c in zip(part.image, part.row, part.col, strict=True)])

    slow = 20_000 / best_of(naive, 2)[0]
    for batch in (128, 512, 4096):
        rate = n / best_of(lambda b=batch: gather(b), 2)[0]
        print(f"batches of {batch}: {rate:,.0f} patches a second, {rate / slow:.0f}x slicing one by one ({slow:,.0f})")


def bench_train(device: str) -> None:
    store = images(2)
    store.padded = store.padded.to(device)
    rng = np.random.default_rng(1)
    n = 20_000 if device == "cpu" else 400_000
    index = PatchIndex(rng.integers(0, 2, n), rng.integers(0, ROWS, n), rng.integers(0, COLS, n))
    data = PatchDataset(store, index, rng.random(n).astype("float32"))
    small = PatchDataset(store, index[:256], rng.random(256).astype("float32"))
    rate = matrix_rate(device)
    for batch in (128, 512) if device == "cpu" else (512, 4096):
        with tempfile.TemporaryDirectory() as folder:
            config = TrainingConfig(epochs=2, batch_size=batch, device=device, patience=0)
            result = fit(build_model("amsre_cnn"), data, small, config=config, out=folder)
        flops = 6 * MULTIPLICATIONS["patch"] * result.samples_per_second
        print(
            f"batches of {batch}, {result.details['precision']}: {result.samples_per_second:,.0f} patches a second, "
            f"{flops / 1e9:.0f} GFLOP/s ({flops / rate:.0%} of the float32 matrix rate), "
            f"waiting for batches {result.data_wait_fraction:.1%} of the time"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=["map", "svr", "gather", "train", "all"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, torch {torch.__version__} with {torch.get_num_threads()} threads"
    )
    if arguments.device == "cuda":
        print(torch.cuda.get_device_name())
    parts = {
        "map": lambda: bench_map(arguments.device),
        "svr": bench_svr,
        "gather": bench_gather,
        "train": lambda: bench_train(arguments.device),
    }
    for name, run in parts.items():
        if arguments.part in (name, "all"):
            print(f"-- {name}")
            run()


if __name__ == "__main__":
    main()
