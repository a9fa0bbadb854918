"""Networks of 36 km cells, 3 and 1 km: training and seven years' estimates: ``python -m benchmarks.bench_cells``.

What is the limit: the networks have some hundred weights, so that a step is small images, means and copies; the share of the
rate at which the processor multiplies matrices says how far from arithmetic alone that is. Both are measured in one run on one
thread, as the networks are trained and applied, in seconds of the processor, which other programs do not lengthen; two cells of
random scenes and overpasses of seven years.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from smnb.grids import M36, EaseWindow
from smnb.papers.smap_sentinel1.cells import BackscatterRecord
from smnb.papers.smap_sentinel1.disaggregation import DisaggregationTraining, PixelEstimator, train_disaggregation
from smnb.papers.smen.estimation import CellEstimator
from smnb.papers.smen.past_training import PastScenesTraining, train_past_scenes

_DAY = np.timedelta64(24 * 60, "m")


def cell(side: int, column: int, scenes: int = 178, passes: int = 2000) -> BackscatterRecord:
    """A cell of random scenes of 12 or 36 pixels a side, and of overpasses, over seven years."""
    rng, start = np.random.default_rng(column), np.datetime64("2015-04-01T12:00", "ns")
    time, overpass = (start + np.linspace(0, 2400, n).round(3).astype(int) * _DAY for n in (scenes, passes))
    fine, vv, vh = (
        rng.uniform(low, high, (scenes, side, side)) for low, high in ((0.1, 0.4), (0.02, 0.1), (0.004, 0.02))
    )
    overpass = overpass + np.arange(passes) * np.timedelta64(1, "s")
    known = {"vv": vv, "vh": vh, "vegetation": np.ones_like(fine)}
    return BackscatterRecord(
        EaseWindow(M36, 48, 49, column, column + 1),
        time,
        fine,
        overpass,
        rng.uniform(0.1, 0.4, (passes, 4, 4)),
        **known,
    )


def seconds_of(function: Callable) -> tuple[float, object]:
    """Seconds of the processor that a call takes, and its result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def measure(name: str, side: int, train: Callable, recipe: object, estimator: type) -> None:
    """Print one network's times and its share of the matrix rate."""
    records = [cell(side, column) for column in (219, 220)]
    chosen = [np.ones(record.time.size, bool) for record in records]
    members, share = type(recipe)().members, type(recipe)().epochs / recipe.epochs
    with FlopCounterMode(display=False) as counted:
        train(records, chosen, recipe)
    matrices = torch.randn(2, 2048, 2048)
    rate = 2 * 2048**3 / min(seconds_of(lambda: matrices[0] @ matrices[1])[0] for _ in range(8))
    seconds, ensemble = seconds_of(lambda: train(records, chosen, recipe))
    whole = members / recipe.members * share
    took, _ = seconds_of(lambda: estimator(ensemble, records[0]).estimate(records[0].time))
    flops = counted.get_total_flops()
    print(
        f"{name}: training {flops / seconds / 1e9:.3f} of {rate / 1e9:,.0f} GFLOP/s ({flops / seconds / rate:.2%}), "
        f"{members} networks of the shipped recipe on {2 * records[0].time.size} scenes {seconds * whole / 60:.1f} min; "
        f"{records[0].time.size} estimates of seven years {took:.1f} s"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8, help="passes over the scenes, of one network")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = {"members": 1, "epochs": args.epochs}
    measure("3 km", 12, train_past_scenes, PastScenesTraining(**recipe), CellEstimator)
    measure("1 km", 36, train_disaggregation, DisaggregationTraining(**recipe), PixelEstimator)


if __name__ == "__main__":
    main()
