"""Single-channel retrieval of a day of 1.5 million cells of 9 km, beside SciPy's brentq cell by cell, in one run.

brentq gets two scalar forward models: the library's own (`soil_emission_tb` with numbers), and one written out in plain
Python with `cmath`, the fastest that a loop over cells can have. It runs on a sample; its time is scaled to all cells.
All must agree on the sample. Wall times on the processors that there are; brentq uses one.

Run ``python benchmarks/bench_retrieval.py [--cells 1500000] [--sample 400] [--repeat 3]``.
"""

from __future__ import annotations

import argparse
import cmath
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq

from benchmarks.measure import best_of
from smnb.models.physics import RetrievalStatus, retrieve_dual_channel, retrieve_single_channel, soil_emission_tb

LOW, HIGH = 0.02, 0.65
VACUUM = 8.8541878128e-12


def simulate(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    cells = {
        "clay": rng.uniform(0.02, 0.6, n),
        "ts": rng.uniform(274, 320, n),
        "h": rng.uniform(0.1, 0.16, n),
        "albedo": rng.uniform(0, 0.08, n),
        "tau": rng.exponential(0.25, n).clip(0, 1.2),
        "angle": rng.uniform(39.9, 40.1, n),
    }
    tb = soil_emission_tb(
        rng.uniform(0.02, 0.6, n),
        cells["clay"],
        cells["ts"],
        frequency_ghz=1.41,
        incidence_deg=cells["angle"],
        h=cells["h"],
        tau=cells["tau"],
        single_scattering_albedo=cells["albedo"],
    )
    noisy = {name: (one + rng.normal(0, 1.3, n)).astype(np.float32) for name, one in zip("HV", tb, strict=True)}
    return cells | noisy


def library_tb(sm: float, cell: dict[str, float]) -> float:
    return float(
        soil_emission_tb(
            sm,
            cell["clay"],
            cell["ts"],
            frequency_ghz=1.41,
            incidence_deg=cell["angle"],
            h=cell["h"],
            tau=cell["tau"],
            single_scattering_albedo=cell["albedo"],
        )[1]
    )


def plain_tb(sm: float, cell: dict[str, float]) -> float:
    """Mironov, Fresnel V, roughness, tau-omega without NumPy."""
    clay, omega = cell["clay"], 2e9 * math.pi * 1.41

    def water(static: float, relaxation: float, conductivity: float) -> complex:
        return cmath.sqrt(4.9 + (static - 4.9) / (1 - 1j * omega * relaxation) + 1j * conductivity / (omega * VACUUM))

    bound = water(79.8 - 85.4 * clay + 32.7 * clay**2, 1.062e-11 + 3.45e-12 * clay, 0.3112 + 0.467 * clay)
    free = water(100.0, 8.5e-12, 0.3631 + 1.217 * clay)
    limit = 0.02863 + 0.30673 * clay
    held = min(sm, limit)
    dry = complex(1.634 - 0.539 * clay + 0.2748 * clay**2, 0.03952 - 0.04038 * clay)
    epsilon = (dry + (bound - 1) * held + (free - 1) * (sm - held)) ** 2
    cos = math.cos(math.radians(cell["angle"]))
    root = cmath.sqrt(epsilon - 1 + cos * cos)
    r = abs((epsilon * cos - root) / (epsilon * cos + root)) ** 2 * math.exp(-cell["h"] * cos * cos)
    g = math.exp(-cell["tau"] / cos)
    return cell["ts"] * ((1 - r) * g + (1 - cell["albedo"]) * (1 - g) * (1 + r * g))


def one_by_one(forward: Callable[[float, dict[str, float]], float], cells: dict[str, np.ndarray]) -> np.ndarray:
    found = []
    for i in range(cells["V"].size):
        cell = {name: float(values[i]) for name, values in cells.items()}
        target = cell["V"]
        hot, cold = forward(LOW, cell) - target, forward(HIGH, cell) - target
        if hot * cold < 0:
            found.append(brentq(lambda sm, c=cell, t=target: forward(sm, c) - t, LOW, HIGH, xtol=1e-7))
        else:
            found.append(LOW if hot < 0 else HIGH)
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("cells", 1_500_000), ("sample", 400), ("repeat", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    cells = simulate(options.cells)
    inputs = {
        "surface_temperature": cells["ts"],
        "clay_fraction": cells["clay"],
        "roughness": cells["h"],
        "albedo": cells["albedo"],
        "incidence_deg": cells["angle"],
        "return_status": True,
    }
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{options.cells:,} cells, {cores} processors; brentq on {options.sample} of them, scaled; best of {options.repeat}"
    )
    ours: dict[str, tuple[float, Any]] = {}
    for workers in (1, None):
        name = f"smnb retrieve_single_channel V, {workers or cores} thread(s)"
        ours[name] = best_of(
            lambda w=workers: retrieve_single_channel(
                cells["V"], polarization="V", optical_depth=cells["tau"], bounds=(LOW, HIGH), workers=w, **inputs
            ),
            options.repeat,
        )
    ours["smnb retrieve_single_channel H"] = best_of(
        lambda: retrieve_single_channel(
            cells["H"], polarization="H", optical_depth=cells["tau"], bounds=(LOW, HIGH), **inputs
        ),
        options.repeat,
    )
    ours["smnb retrieve_dual_channel"] = best_of(
        lambda: retrieve_dual_channel(
            cells["H"], cells["V"], prior_optical_depth=cells["tau"], bounds=(LOW, HIGH), **inputs
        ),
        1,
    )
    for name, (seconds, result) in ours.items():
        counts = {s.name.lower(): int((result[-1] == s).sum()) for s in RetrievalStatus}
        print(f"  {name:44} {seconds:9.2f} s   {', '.join(f'{k} {n:,}' for k, n in counts.items() if n)}")
    single = f"smnb retrieve_single_channel V, {cores} thread(s)"
    sample = {name: values[: options.sample] for name, values in cells.items()}
    for name, forward in (("the library's scalar model", library_tb), ("plain Python and cmath", plain_tb)):
        seconds, found = best_of(lambda f=forward: one_by_one(f, sample), options.repeat)
        scaled = seconds * options.cells / options.sample
        differ = np.abs(found - ours[single][1][0][: options.sample]).max()
        print(
            f"  {'brentq, ' + name:44} {scaled:9.1f} s   this / smnb {scaled / ours[single][0]:7.0f}   "
            f"largest difference {differ:.1e} m3 m-3 ({seconds:.2f} s for the sample)"
        )


if __name__ == "__main__":
    main()
