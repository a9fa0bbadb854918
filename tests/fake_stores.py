"""A sample store out of arrays in memory."""

from __future__ import annotations

import numpy as np

from smnb.papers.batchu2023.sources import by_name
from smnb.papers.batchu2023.store_writing import SampleStoreWriter


def write_sample_store(path, *, sensors, sensor, time, label, values, sources=None, times=None, counts=None, **options):
    """`values` maps a source to (n, band, y, x), to (sensor, band, y, x) for a static one, or to (n, band) for a coarse one."""
    described = by_name("write_sample_store", sources or list(values))
    factor = {"high": 1, "low": 16}
    sides = [values[n].shape[-1] * factor[one.kind] for n, one in described.items() if one.kind != "coarse"]
    writer = SampleStoreWriter(path, sources=described.values(), crop=max(sides, default=16), resume=False, **options)
    for name, one in described.items():
        if one.static:
            writer.write_static(name, np.asarray(values[name]))
    dynamic = {name: np.asarray(values[name]) for name, one in described.items() if not one.static}
    chunk = {"label": label, "time": time, "sensor": sensor, "values": dynamic, "times": times or {}}
    writer.write(0, chunk)
    return writer.finish(sensors, counts=counts)
