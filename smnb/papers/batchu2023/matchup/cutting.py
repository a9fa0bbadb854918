"""Cutting the images of a source out of its scenes: tasks that open each scene once and share no chunk of the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from smnb.contract import SmnbError
from smnb.grids import UtmWindow
from smnb.papers.batchu2023.matchup.sources import MatchSource, Scenes
from smnb.papers.batchu2023.normalisation import normalise
from smnb.papers.batchu2023.store.chunks import ChunkFiles
from smnb.papers.batchu2023.store.layout import CHUNK_BYTES, MOST_ROWS, image_side

#: A task goes on to the next scene until it has this many images or scenes: a task costs some milliseconds to send.
TASK_IMAGES, TASK_SCENES = 32, 16
#: What decides which rows a task writes; a build only goes on with one of the same.
LAYOUT = (TASK_IMAGES, TASK_SCENES, CHUNK_BYTES, MOST_ROWS)


@dataclass(frozen=True)
class Geometry:
    """Size of the images."""

    crop: int
    resolution: float
    low_resolution: float

    def side(self, kind: str) -> int:
        """Pixels on a side of the images of a kind; 0 for a coarse source."""
        if kind == "coarse":
            return 0
        return image_side("build_matchups", kind, self.crop, self.resolution, self.low_resolution)

    def window(self, kind: str, lat: float, lon: float) -> UtmWindow:
        """The window around a point, in the UTM zone of the point; low images cover the same ground."""
        window = UtmWindow.centred(lat, lon, size=self.crop, resolution=self.resolution)
        return window.coarsened(self.low_resolution) if kind == "low" else window


@dataclass(frozen=True)
class CutTask:
    """Some scenes and the places to cut from each; the images are neighbours in the store."""

    number: int
    row: int
    """Row of the first image in the source's ``values``, where a chunk begins."""
    scene: NDArray[np.int32]
    """Position of each image's scene, ascending."""
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]

    def scenes(self) -> Iterator[tuple[int, slice]]:
        """Each scene once, with its images."""
        starts = np.flatnonzero(np.r_[True, np.diff(self.scene) != 0])
        for start, stop in zip(starts, [*starts[1:], self.scene.size], strict=True):
            yield int(self.scene[start]), slice(int(start), int(stop))


@dataclass(frozen=True)
class CutFailure:
    """What went wrong in a worker; errors with named parts do not survive the way back from one."""

    scene: int
    message: str


def make_tasks(
    scene: NDArray[np.int32], lat: NDArray[np.float64], lon: NDArray[np.float64], chunk: int
) -> tuple[list[CutTask], NDArray[np.int64], int]:
    """Divide images, in order of their scene, into tasks.

    Returns
    -------
    tasks : list of CutTask
    rows : ndarray of int64
        Row of each image; tasks begin at a chunk, so that no two write into one.
    n_rows : int
        Rows in all, those between tasks that stay empty among them.
    """
    tasks, rows, row, first = [], np.empty(scene.size, np.int64), 0, 0
    ends = np.append(np.flatnonzero(np.diff(scene)) + 1, scene.size) if scene.size else []
    scenes = 0
    for end in map(int, ends):
        scenes += 1
        if end - first >= TASK_IMAGES or scenes >= TASK_SCENES or end == scene.size:
            part = slice(first, end)
            tasks.append(CutTask(len(tasks), row, scene[part], lat[part], lon[part]))
            rows[part] = row + np.arange(end - first)
            row += -(-(end - first) // chunk) * chunk
            first, scenes = end, 0
    return tasks, rows, row


def _scaled(name: str, spec: MatchSource, native: NDArray, axis: int) -> NDArray[np.float32]:
    """Normalised values; `axis` is that of the bands."""
    parts = [normalise(name, band, np.take(native, i, axis=axis)) for i, band in enumerate(spec.bands)]
    return np.stack(parts, axis=axis).astype(np.float32, copy=False)


def cut(
    task: CutTask, scenes: Scenes, name: str, spec: MatchSource, geometry: Geometry, store: Path
) -> NDArray[Any] | CutFailure:
    """Do a task; runs in a thread or in a Dask worker.

    Returns
    -------
    ndarray
        For images, which were written, whether each has any value, bool (n,); for a coarse source the values at each point,
        float32 (n, band), NaN where missing.
    """
    scene = -1
    try:
        if spec.kind == "coarse":
            values = np.empty((task.scene.size, len(spec.bands)), np.float32)
            for scene, here in task.scenes():
                with scenes.open(scene) as reader:
                    values[here] = _scaled(name, spec, reader.at(task.lat[here], task.lon[here], spec.bands), 1)
            return values
        folder = store / name / "values"
        chunks = ChunkFiles(folder, zarr.open_array(folder, mode="r+", zarr_format=3))
        length, found = chunks.rows, np.zeros(task.scene.size, bool)
        pending = np.empty(chunks.array.chunks, np.float16)
        for scene, here in task.scenes():
            with scenes.open(scene) as reader:
                for i in range(here.start, here.stop):
                    window = geometry.window(spec.kind, float(task.lat[i]), float(task.lon[i]))
                    image = _scaled(name, spec, reader.read(window, spec.bands, resampling=spec.resampling), 0)
                    found[i] = np.isfinite(image).any()
                    pending[i % length] = image
                    if (i + 1) % length == 0 or i + 1 == task.scene.size:
                        chunks.write((task.row + i) // length, pending[: i % length + 1])
    except (SmnbError, OSError) as error:
        return CutFailure(scene, str(error))
    return found
