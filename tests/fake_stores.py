"""A sample store out of arrays in memory."""

from __future__ import annotations

from smnb.papers.batchu2023.sources import by_name
from smnb.papers.batchu2023.store import SampleStoreWriter


def write_sample_store(path, *, sensors, sensor, time, label, values, sources=None, times=None, counts=None, **options):
    """`values` maps a source to (n, band, y, x), to (sensor, band, y, x) for a static one, or to (n, band) for a coarse one."""
    described = by_name("write_sample_store", sources or list(values))
    factor = {"high": 1, "low": 16}
    sides = [values[n].shape[-1] * factor[one.kind] for n, one in described.items() if one.kind != "coarse"]
    writer = SampleStoreWriter(path, sources=described.values(), crop=max(sides, default=16), resume=False, **options)
    columns = {"label": label, "time": time, "sensor": sensor, **{f"{n}/time": one for n, one in (times or {}).items()}}
    for name, one in described.items():
        if one.static:
            writer.write(0, {f"{name}/values": values[name]})
        else:
            columns[f"{name}/values"] = values[name]
    writer.write(0, columns)
    return writer.finish(sensors, counts=counts or {})
