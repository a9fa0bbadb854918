"""Cutting the images of a source out of its scenes: tasks that open each scene once and share no chunk of the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from smnb.contract import SmnbError
from smnb.grids import UtmWindow
from smnb.papers.batchu2023.sources import Source
from smnb.papers.batchu2023.store import CHUNK_BYTES, MOST_ROWS, image_side

if TYPE_CHECKING:
    from smnb.loaders.rasters import SceneIndex

#: A task goes on to the next scene until it has this many images or scenes: a task costs some milliseconds to send.
TASK_IMAGES, TASK_SCENES = 32, 16
#: What decides which rows a task writes; a build only goes on with one of the same.
LAYOUT = (TASK_IMAGES, TASK_SCENES, CHUNK_BYTES, MOST_ROWS)


@dataclass(frozen=True)
class CutGeometry:
    """Size of the images: pixels on a side of the fine ones, metres a pixel."""

    crop: int
    resolution: float
    low_resolution: float

    def side(self, kind: str) -> int:
        """Pixels on a side of the images of a kind; 0 for a coarse source."""
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


def make_tasks(
    scene: NDArray[np.int32], lat: NDArray[np.float64], lon: NDArray[np.float64], chunk: int
) -> tuple[list[CutTask], NDArray[np.int64], int]:
    """Divide images, in order of their scene, into tasks; with the row of each image, and the number of rows.

    Tasks begin at a chunk, so that no two write into one; rows between tasks stay empty.
    """
    tasks, rows, row, first, scenes = [], np.empty(scene.size, np.int64), 0, 0, 0
    for end in map(int, np.append(np.flatnonzero(np.diff(scene)) + 1, scene.size) if scene.size else []):
        scenes += 1
        if end - first >= TASK_IMAGES or scenes >= TASK_SCENES or end == scene.size:
            part = slice(first, end)
            tasks.append(CutTask(len(tasks), row, scene[part], lat[part], lon[part]))
            rows[part] = row + np.arange(end - first)
            row += -(-(end - first) // chunk) * chunk
            first, scenes = end, 0
    return tasks, rows, row


def cut(
    task: CutTask, scenes: SceneIndex, source: Source, geometry: CutGeometry, store: Path
) -> NDArray[Any] | tuple[int, str]:
    """Do a task; runs in a thread or in a Dask worker.

    For images, which are written, whether each has any value, bool (n,); for a coarse source the values at each point, float32
    (n, band), NaN where missing. Where a scene cannot be read its position and what went wrong: errors with named parts do not
    survive the way back from a worker.
    """
    scene = -1
    try:
        if source.kind == "coarse":
            values = np.empty((task.scene.size, len(source.bands)), np.float32)
            for scene, here in task.scenes():
                with scenes.open(scene) as reader:
                    native = reader.at(task.lat[here], task.lon[here], source.bands)
                values[here] = source.normalise_stack(native, source.bands, axis=1)
            return values
        array = zarr.open_array(store / source.name / "values", mode="r+", zarr_format=3)
        length, found = array.chunks[0], np.zeros(task.scene.size, bool)
        pending = np.empty(array.chunks, np.float16)
        for scene, here in task.scenes():
            with scenes.open(scene) as reader:
                for i in range(here.start, here.stop):
                    window = geometry.window(source.kind, float(task.lat[i]), float(task.lon[i]))
                    native = reader.read(window, source.bands, resampling=source.resampling)
                    image = source.normalise_stack(native, source.bands)
                    found[i], pending[i % length] = np.isfinite(image).any(), image
                    if (i + 1) % length == 0 or i + 1 == task.scene.size:
                        filled = i % length + 1
                        array[task.row + i + 1 - filled : task.row + i + 1] = pending[:filled]
    except (SmnbError, OSError) as error:
        return scene, str(error)
    return found


class Journal:
    """Tasks that are done, a line each; a line that a kill cut short does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: dict[str, dict[int, NDArray[Any]]] = {}
        content = path.read_bytes() if path.is_file() else b""
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].splitlines():
            entry = json.loads(line)
            result = np.array(entry["result"], np.float32 if entry["values"] else np.bool_)  # None becomes NaN
            self.done(entry["source"])[entry["task"]] = result
        with open(path, "ab") as stream:
            stream.truncate(whole)

    def done(self, source: str) -> dict[int, NDArray[Any]]:
        """Results of a source's finished tasks, by number."""
        return self._done.setdefault(source, {})

    def add(self, source: str, task: int, result: NDArray[Any]) -> None:
        """Note a task as done; the decimals of a float32 give the same float32 again."""
        self.done(source)[task] = result
        listed = np.where(np.isfinite(result), result.astype(object), None).tolist()
        entry = {"source": source, "task": task, "values": result.ndim == 2, "result": listed}
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, allow_nan=False) + "\n")
