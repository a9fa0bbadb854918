"""Maps at 320 m: features computed once a tile against a window for every cell, and how far the two are apart.

    python -m benchmarks.bench_shared_features                  # Xception-65 and -41 as published, 16 x 16 cells
    python -m benchmarks.bench_shared_features --cells 64 --rows 1   # 20 x 20 km; windows of one row timed and scaled
    python -m benchmarks.bench_shared_features --encoder small

What bounds it: 64 windows of 256 pixels overlap a cell of 320 m, so that at most 64 times less is encoded; the tile's margin of
half a window all around takes some of that (for n x n cells the encoder sees (n - 1) * 32 + 256 pixels a side). The
low-resolution windows are encoded one by one in both.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from smnb.models.multisource import MultiSourceConfig, MultiSourceNet
from smnb.papers.batchu2023.tiles import MapGeometry, TileImages, map_tile


def network(encoder: str, geometry: MapGeometry) -> MultiSourceNet:
    """The network with statistics of batch normalisation of such images: with those it starts with, next to nothing arrives."""
    torch.manual_seed(0)
    names = {"high_encoder": "small", "low_encoder": "small"} if encoder == "small" else {}
    net = MultiSourceNet(MultiSourceConfig(**names, drop_path_keep=1.0))
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    tile = images(9, geometry)
    corners = [256 * corner for corner in range(2)]
    high = np.stack([tile.high[:, y : y + 256, x : x + 256] for y in corners for x in corners])
    low = np.stack([tile.low[:, y : y + 16, x : x + 16] for y in range(0, 16, 4) for x in range(0, 16, 4)])
    with torch.no_grad():
        embedded = net.embed_high(torch.from_numpy(high)).repeat(4, 1), net.embed_low(torch.from_numpy(low))
        net.head(*embedded, torch.rand(16, 2))
    for norm in norms:  # a feature that was nearly constant in these few images may not blow up in others
        norm.running_var.clamp_(min=0.1 * float(norm.running_var.median()))
    return net.eval()


def images(cells: int, geometry: MapGeometry) -> TileImages:
    """Noise with a wide spectrum, as images have it."""
    rng = np.random.default_rng(0)
    side = geometry.tile(cells, cells)[0]

    def field(channels: int, size: int) -> np.ndarray:
        white = np.fft.rfft2(rng.standard_normal((channels, size, size)))
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij"))
        values = np.fft.irfft2(white / (frequency + 1.0 / size), s=(size, size))
        return (values / values.std() * 0.3).clip(-1, 1).astype("float32")

    return TileImages(
        field(10, side), field(4, side // 16), rng.uniform(0.05, 0.4, (cells, cells, 2)).astype("float32")
    )


def main() -> None:
    """Print seconds, ratio and differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=16, help="cells along a side")
    parser.add_argument("--rows", type=int, default=None, help="rows whose windows are timed; the rest is scaled")
    parser.add_argument("--encoder", choices=("xception", "small"), default="xception")
    parser.add_argument("--batch", type=int, default=8, help="windows at a time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    geometry = MapGeometry()
    net = network(given.encoder, geometry)
    tile = images(given.cells, geometry)
    rows = given.rows or given.cells
    some = TileImages(
        tile.high[:, : geometry.tile(rows, 1)[0]], tile.low[:, : geometry.tile(rows, 1)[0] // 16], tile.coarse[:rows]
    )
    map_tile(net, images(1, geometry), method="windows", device=given.device)  # warm up
    taken = []
    for _ in range(2):  # memory is touched for the first time in the first map, as of the first of several dates
        clock = time.perf_counter()
        shared = map_tile(net, tile, method="shared", device=given.device)
        taken.append(time.perf_counter() - clock)
    shared_seconds = min(taken)
    clock = time.perf_counter()
    windows = map_tile(net, some, method="windows", batch_size=given.batch, device=given.device)
    window_seconds = (time.perf_counter() - clock) * given.cells / rows
    scaled = "" if rows == given.cells else f", scaled from {rows} of {given.cells} rows"
    side = geometry.tile(given.cells, given.cells)[0]
    limit = given.cells**2 * geometry.crop**2 / side**2
    difference = shared[:rows] - windows
    print(
        f"{given.encoder}, {given.cells} x {given.cells} cells of 320 m, {side} pixels a side, {given.device}, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"shared features {shared_seconds:8.2f} s   (first map {taken[0]:.2f} s)")
    print(f"windows         {window_seconds:8.2f} s{scaled}")
    print(f"ratio           {window_seconds / shared_seconds:8.1f}   (pixels encoded: {limit:.1f} times fewer)")
    print(
        f"shared less windows: mean {difference.mean():+.5f}, standard deviation {difference.std():.5f}, largest "
        f"{np.abs(difference).max():.5f} m3 m-3; standard deviation of the map {windows.std():.5f}; untrained weights"
    )


if __name__ == "__main__":
    main()
