"""Writing the sandbox archive: files in the real formats, resumable, with a manifest that is written last.

Its own part is July 2011 on the globe, and stations in 2011: AMSR-E, reanalysis, in-situ archives with coarse products beside
them (six made-up networks in two ISMN archives, the seventh in USCRN text), and the truth of what is wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from smnb.contract import FormatError, ParameterError, RunError, check_choice
from smnb.files import Kept, held_output, read_json, remove_stale_partials, sha256_of, write_bytes, write_json
from smnb_sandbox.ease_plans import FusionPlan, SmapPlan
from smnb_sandbox.files import Content, Period, Plan, days_of, file_bytes, table
from smnb_sandbox.globe import CHANNELS, PASSES, Amsre, Reanalysis, encode_image, file_name, write_era_file
from smnb_sandbox.insitu_archive import insitu_contents, insitu_names
from smnb_sandbox.insitu_truth import CellDays
from smnb_sandbox.multisource import MultisourcePlan
from smnb_sandbox.noise import Float32
from smnb_sandbox.truth import truth_bytes
from smnb_sandbox.world import FIRST_DAY, SPIN_UP_DAYS, World, check_seed

#: Raise it whenever the same seed gives other bytes: archives of an older version are then rewritten.
GENERATOR_VERSION = "9"
_VERSION = "1"  # is written into the gridded truth; raise it when the gridded files change
MARKER = "SANDBOX.json"
#: Stands in a folder that is being written, so that a killed write can go on and nobody takes it for complete.
UNFINISHED = "SANDBOX.unfinished.json"
_THREADS = 2

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Preset(Plan):
    """What an archive holds of July 2011 (the last day is the test day), and of the other worlds: None for nothing of one."""

    first: date
    last: date
    resolution: float = 0.25
    spin_up_days: int = SPIN_UP_DAYS
    insitu: Period | None = None  # first and last day of the in-situ records, within 2011
    smap: SmapPlan | None = None  # SMAP and Sentinel-1 over three regions, within 2016 to 2018
    fusion: FusionPlan | None = None  # SMAP, Sentinel-1 and sensors at 1 km in September 2020
    multisource: MultisourcePlan | None = None  # many sources around in-situ sensors in 2020 and 2021

    @property
    def days(self) -> list[date]:
        """The days, in order."""
        return days_of((self.first, self.last))

    @property
    def parts(self) -> list[Plan]:
        """The archive's parts in the order of writing."""
        return [self, *(plan for plan in (self.smap, self.fusion, self.multisource) if plan)]

    @cached_property
    def kinds(self) -> dict[str, dict[str, Any]]:
        """As `Plan.kinds`: images by day, pass and channel, and one file of each other kind, but for the stations'."""
        days, period = self.days, f"{self.first:%Y%m%d}_{self.last:%Y%m%d}"
        images = [(day, orbit_pass, channel) for day in days for orbit_pass in PASSES for channel in CHANNELS]
        return {
            "amsre": {f"amsre_nsidc0302/{one[0]:%Y}/{file_name(*one)}": one for one in images},
            "era": {f"era_interim/ei_swvl1_{period}.nc": days},
            "truth": {f"sandbox_truth/truth_{period}.nc": days},
            "stations": dict.fromkeys(insitu_names(self.insitu) if self.insitu else ()),
        }

    def contents(self, seed: int, missing: set[str]) -> Iterator[tuple[str, Content]]:
        """As `Plan.contents`; images are packed on threads."""
        world, begin = World(seed, self.resolution), FIRST_DAY - timedelta(days=self.spin_up_days)
        wanted = {kind: missing.intersection(names) for kind, names in self.kinds.items()}
        amsre = Amsre(world) if wanted["amsre"] else None
        reanalysis = Reanalysis(world) if wanted["era"] else None
        cells = CellDays(world, begin) if wanted["stations"] else None
        packed, daily = [], []
        for state in world.days(begin, self.last, self.spin_up_days):
            analyses = reanalysis.analyses(state) if reanalysis else None
            if cells is not None:
                cells.observe(state)
            if state.day < self.first:
                continue
            packed.append(analyses)
            if wanted["truth"]:
                daily.append((state.soil_moisture, world.surface_temperature(state)))
            for orbit_pass in PASSES:
                names = {name: c for name, (*when, c) in self.kinds["amsre"].items() if when == [state.day, orbit_pass]}
                if missing.intersection(names):
                    images = amsre.images(state, orbit_pass)
                    made = ((name, partial(encode_image, images[c])) for name, c in names.items() if name in missing)
                    yield from made
        for name in wanted["era"]:
            yield name, file_bytes(name, lambda path: write_era_file(path, reanalysis, self.days, packed))
        for name in wanted["truth"]:
            yield name, _grid_truth(world, self.days, daily)
        if cells is not None:
            yield from insitu_contents(cells, self.insitu, [name for name in self.kinds["stations"] if name in missing])


_PLANS = {"smap": SmapPlan, "fusion": FusionPlan, "multisource": MultisourcePlan}
PRESETS: dict[str, Preset] = {
    name: Preset(**{key: _PLANS[key](**value) if key in _PLANS else value for key, value in row.items()})
    for name, row in table("presets").items()
}


def _grid_truth(world: World, days: list[date], daily: list[tuple[Float32, Float32]]) -> bytes:
    """Each day's soil moisture (m3 m-3) and surface temperature (K); NaN where less than half of a cell is soil."""
    land = world.land_fraction.ravel()[world.soil_cells] >= 0.5

    def on_grid(vector: Float32) -> np.ndarray:
        return world.to_grid(np.where(land, vector, np.nan))

    fields = {
        name: (on_grid(getattr(world, name)), 3)
        for name in ("clay_fraction", "sand_fraction", "vegetation_water_content")
    }
    fields["soil_moisture"] = np.stack([on_grid(moisture) for moisture, _ in daily]), 4
    fields["surface_temperature"] = np.stack([on_grid(kelvin) for _, kelvin in daily]), 2
    axes = {"lat": ("latitude", "degrees_north"), "lon": ("longitude", "degrees_east")}
    coords = {
        name: (name, getattr(world, name), {"standard_name": full, "long_name": full, "units": units})
        for name, (full, units) in axes.items()
    }
    coords["time"] = "time", np.array(days, dtype="datetime64[ns]"), {"standard_name": "time", "long_name": "UTC day"}
    return truth_bytes(fields, coords, "the globe", f"gridded world {_VERSION}, seed {world.seed}", "sandbox_truth")


class _File(Kept):
    """A file of a manifest; of one that is unfinished only the path."""

    path: str = Field(pattern=r"^[^\x00]+$")
    size: int = 0
    sha256: str = ""


class _Manifest(Kept):
    """What an archive holds, or will."""

    preset: str
    seed: int
    generator_version: str
    files: list[_File]
    synthetic: bool = True
    days: list[str] = Field(default_factory=list)


def read_manifest(root: str | Path, marker: str = MARKER) -> dict[str, Any] | None:
    """Return the manifest of a sandbox, or None; `FormatError` if the marker is none, or lists a file outside the root."""
    path = Path(root) / marker
    if not path.is_file():
        return None
    next_step = "Choose another root, or delete this one if it is a sandbox"
    manifest = read_json(path, _Manifest, "a sandbox manifest", next_step=next_step, by_hand=True)
    base = Path(root).resolve()
    for name in (one.path for one in manifest.files):
        if not (base / name).resolve().is_relative_to(base):
            raise FormatError("write_sandbox", f"{marker} lists a file outside the root", got=name, expected=str(base))
    return manifest.model_dump(exclude_unset=True)


def _prepare(root: Path, identity: dict[str, Any], names: list[str]) -> dict[str, Any] | None:
    """Return the manifest of an archive that is up to date; else leave only files that may be kept, and say so.

    A finished archive keeps its sound files; an unfinished one keeps what carries its final name (files are renamed
    into place when complete). Files of another seed, preset or version go, and no file that is not listed is touched.
    """
    finished, unfinished = read_manifest(root), read_manifest(root, UNFINISHED)
    if finished is None and unfinished is None and any(one.name != f".{MARKER}.lock" for one in root.iterdir()):
        what = "the folder is not empty and is not a sandbox"
        next_step = "Choose an empty or new one; nothing was written"
        raise ParameterError("write_sandbox", what, got=str(root), next_step=next_step)
    same = [m for m in (unfinished, finished) if m and all(m[k] == v for k, v in identity.items())]
    if unfinished is None and same:
        paths = {entry["path"]: root / entry["path"] for entry in finished["files"]}
        known = {entry["path"]: entry.get("sha256") for entry in finished["files"]}
        damaged = [name for name, path in paths.items() if not path.is_file() or sha256_of(path) != known[name]]
        if not damaged and list(paths) == names:
            return finished
        stale = damaged
    elif unfinished is not None and same[:1] == [unfinished]:
        stale = []
    else:
        stale = [e["path"] for m in (finished, unfinished) if m for e in m["files"]]
    listed = {e["path"] for m in (finished, unfinished) if m for e in m["files"]} | set(names)
    # the markers change after the files are gone: a kill in between never lets a bad file pass for a good one
    for name in set(stale) | (listed - set(names)):
        (root / name).unlink(missing_ok=True)
    write_json(root / UNFINISHED, identity | {"files": [{"path": name} for name in sorted(listed)]})
    (root / MARKER).unlink(missing_ok=True)
    for folder in {(root / name).parent for name in names}:
        if folder.is_dir():
            remove_stale_partials(folder)
    return None


def write_sandbox(
    root: str | Path, preset: str = "quick", seed: int = 2011, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the synthetic archive below `root` in the layout and formats of the real products.

    An archive that is up to date is left alone; a write that was killed goes on with the files that are missing; one
    of another preset, seed or generator version is replaced. The same seed gives the same bytes with any number of
    threads, and the same images for a day in every preset. ``quick`` takes 50 s of one core (220 MB), ``full`` minutes (2 GB).

    Parameters
    ----------
    root : path-like
        A new or empty folder, or one that holds a sandbox.
    preset : {"quick", "full"}
        Which days, scenes and sites: ``data/presets.yaml``.
    seed : int
        Non-negative seed of everything random.
    progress : callable, optional
        Called as ``progress(done, total, name)`` after each file.

    Returns
    -------
    dict
        The manifest, as in ``SANDBOX.json``: preset, seed, generator_version, days, and files with path, size and sha256.

    Raises
    ------
    ParameterError
        For an unknown preset, a bad seed, or a folder that holds something else.
    FormatError
        When the folder's marker is damaged.
    RunError
        When a file cannot be written. What is complete stays and is used next time.
    """
    check_choice("write_sandbox", "preset", preset, sorted(PRESETS))
    seed = check_seed("write_sandbox", seed)
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise ParameterError("write_sandbox", "the root is not a folder", got=str(root))
    spec, identity = PRESETS[preset], {"preset": preset, "seed": seed, "generator_version": GENERATOR_VERSION}
    names = [name for plan in spec.parts for name in plan.files]
    with held_output("write_sandbox", root / MARKER, root / UNFINISHED):
        try:
            current = _prepare(root, identity, names)
            if current is not None:
                return current
            _write_missing(root, spec, seed, progress)
            manifest = identity | {
                "synthetic": True,
                "days": [day.isoformat() for day in spec.days],
                "files": [{"path": n, "size": (root / n).stat().st_size, "sha256": sha256_of(root / n)} for n in names],
            }
            write_json(root / MARKER, manifest)
            (root / UNFINISHED).unlink(missing_ok=True)
        except OSError as error:
            next_step = "Free space or choose another root and run it again: it goes on where it stopped"
            raise RunError(
                "write_sandbox", f"cannot write below {root}", got=str(error), next_step=next_step
            ) from error
    return manifest


def _write_missing(root: Path, preset: Preset, seed: int, progress: Progress | None) -> None:
    """Simulate what is not there, and write it; a few files at a time are packed on threads (zlib runs without the lock)."""
    missing = [(plan, {name for name in plan.files if not (root / name).is_file()}) for plan in preset.parts]
    total, done = sum(len(names) for _, names in missing), 0
    pending: deque[tuple[str, Future]] = deque()

    def write(name: str, content: Content) -> None:
        write_bytes(root / name, content if isinstance(content, bytes) else content())

    def finish(leave: int) -> None:
        nonlocal done
        while len(pending) > leave:
            name, future = pending.popleft()
            future.result()
            done += 1
            if progress is not None:
                progress(done, total, name)

    # sums of matrix products round otherwise by the number of threads, and the matrices are so small that threads only wait
    with threadpool_limits(1), ThreadPoolExecutor(_THREADS) as pool:
        for name, content in (one for plan, names in missing if names for one in plan.contents(seed, names)):
            pending.append((name, pool.submit(write, name, content)))
            finish(leave=0 if isinstance(content, bytes) else 2 * _THREADS)
        finish(leave=0)
