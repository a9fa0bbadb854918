"""Scenes in memory in place of `smnb.loaders.rasters.SceneIndex`: a plane that rises to the south-east, or one value."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from smnb.files import fingerprint

#: Centre of every scene, degrees.
LAT, LON = 30.3, -97.7


@dataclass
class FakeScenes:
    """Every value is `value`; with `slope` images of scene i are a plane, ``i + slope * (km to the east + km to the south)``."""

    source: str
    bands: tuple[str, ...]
    table: pd.DataFrame
    value: float = 0.0
    slope: float | None = None
    catalog_id: str = "fake"
    synthetic: bool = True

    @classmethod
    def of(cls, source, bands, times, *, half=0.5, cloud=0.0, **values):
        """Scenes that reach `half` a degree to each side of the centre."""
        table = pd.DataFrame({"scene_id": [f"{source}{i}" for i in range(len(times))], "time": pd.to_datetime(times)})
        half = np.broadcast_to(half, len(times))
        for name, middle, sign in (("west", LON, -1), ("east", LON, 1), ("south", LAT, -1), ("north", LAT, 1)):
            table[name] = middle + sign * half
        table["cloud_percentage"] = cloud
        return cls(source, bands, table, **values)

    def __len__(self):
        return len(self.table)

    def covering(self, lat, lon):
        t = self.table
        return np.flatnonzero((t.west <= lon) & (t.east >= lon) & (t.south <= lat) & (t.north >= lat))

    def identities(self, positions, cache=None):
        return [fingerprint(int(one), self.value, self.slope) for one in positions]

    @contextlib.contextmanager
    def open(self, position):
        yield _Reader(self, position)


@dataclass
class _Reader:
    scenes: FakeScenes
    position: int

    def read(self, window, bands=None, *, resampling="bilinear"):
        image = np.full((window.size, window.size), self.scenes.value)
        if self.scenes.slope is not None:
            x, y = np.meshgrid(window.x, window.y)
            image = (x - x.min() + y.max() - y) / 1e3 * self.scenes.slope + self.position
        return np.stack([image + number for number, _ in enumerate(bands)]).astype("float32")

    def at(self, lat, lon, bands=None):
        values = np.full(len(lat), self.scenes.value)
        if self.scenes.slope is not None:  # a plane in degrees
            values = (np.asarray(lat) - 30.0) * self.scenes.slope
        return np.tile(values[:, None], (1, len(bands))).astype("float32")
