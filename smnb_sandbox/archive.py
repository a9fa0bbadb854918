"""Writing the sandbox archive: files in the real formats, resumable, with a manifest that is written last."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from smnb.contract import VARIABLES, FormatError, ParameterError, RunError
from smnb.files import atomic_path, remove_stale_partials, sha256_of, write_bytes, write_json
from smnb_sandbox.amsre import CHANNELS, PASSES, Radiometer, encode_image, file_name
from smnb_sandbox.era import Reanalysis, pack, write_era_file
from smnb_sandbox.fusion import FusionPeriod, FusionPlan, write_fusion
from smnb_sandbox.insitu import InSitu, insitu_plan
from smnb_sandbox.multisource import MultisourcePeriod, MultisourcePlan, write_multisource
from smnb_sandbox.smap import SmapPeriod, SmapPlan, write_smap
from smnb_sandbox.world import FIRST_DAY, LAST_DAY, SPIN_UP_DAYS, Vector, World, check_seed

#: Raise it whenever the same seed gives other bytes: archives of an older version are then rewritten.
GENERATOR_VERSION = "5"
#: Is written into the gridded truth; raise it when the gridded files change.
_GRIDDED_VERSION = "1"
MARKER = "SANDBOX.json"
#: Stands in a folder that is being written, so that a killed write can go on and nobody takes it for complete.
UNFINISHED = "SANDBOX.unfinished.json"
_THREADS = 2

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Preset:
    """Which days of the simulated month are written (the last one is the test day), of the stations' records, and of SMAP."""

    first: date
    last: date
    resolution: float = 0.25
    spin_up_days: int = SPIN_UP_DAYS
    insitu: tuple[date, date] | None = None
    """First and last day of the in-situ records, within 2011; None for no in-situ archive."""
    smap: SmapPeriod | None = None
    """What there is of SMAP and Sentinel-1 over three regions, within 2016 to 2018; None for nothing."""
    fusion: FusionPeriod | None = None
    """What there is of SMAP, Sentinel-1 and sensors at 1 km in September 2020; None for nothing."""
    multisource: MultisourcePeriod | None = None
    """What there is of many sources around in-situ sensors in 2020 and 2021; None for nothing."""

    @property
    def days(self) -> list[date]:
        """The days, in order."""
        return [self.first + timedelta(days=i) for i in range((self.last - self.first).days + 1)]


PRESETS: dict[str, Preset] = {
    "quick": Preset(
        date(2011, 7, 26),
        LAST_DAY,
        insitu=(date(2011, 5, 1), date(2011, 9, 30)),
        smap=SmapPeriod(
            date(2017, 1, 1),
            date(2018, 6, 30),
            level2=(date(2018, 5, 1), date(2018, 5, 8)),
            enhanced=(date(2018, 5, 1), date(2018, 5, 3)),
            one_km=(date(2018, 5, 1), date(2018, 5, 31)),
            max_scenes=36,
        ),
        fusion=FusionPeriod(places=6, scenes=3),
        multisource=MultisourcePeriod(),
    ),
    "full": Preset(
        FIRST_DAY,
        LAST_DAY,
        insitu=(date(2011, 1, 1), date(2011, 12, 31)),
        smap=SmapPeriod(enhanced=(date(2018, 5, 1), date(2018, 5, 16)), one_km=(date(2018, 5, 1), date(2018, 9, 30))),
        fusion=FusionPeriod(),
        multisource=MultisourcePeriod(tile=576, map_size=2304, map_dates=4),
    ),
}


_smap_plan = cache(SmapPlan)
_fusion_plan = cache(FusionPlan)
_multisource_plan = cache(MultisourcePlan)


def _plan(preset: Preset) -> dict[str, list[str]]:
    """Paths below the root by product, forward slashes, in the order of writing."""
    span = f"{preset.first:%Y%m%d}_{preset.last:%Y%m%d}"
    images = [(d, p, c) for d in preset.days for p in PASSES for c in CHANNELS]
    return {
        "amsre": [f"amsre_nsidc0302/{d:%Y}/{file_name(d, p, c)}" for d, p, c in images],
        "era": [f"era_interim/ei_swvl1_{span}.nc"],
        "truth": [f"sandbox_truth/truth_{span}.nc"],
        "insitu": insitu_plan(preset.insitu) if preset.insitu else [],
        "smap": _smap_plan(preset.smap).files if preset.smap else [],
        "fusion": _fusion_plan(preset.fusion).files if preset.fusion else [],
        "multisource": _multisource_plan(preset.multisource).files if preset.multisource else [],
    }


def read_manifest(root: str | Path, marker: str = MARKER) -> dict[str, Any] | None:
    """Return the manifest of a sandbox, or None where there is none.

    Raises
    ------
    FormatError
        When the marker is not a manifest or lists a file outside the root.
    """
    path = Path(root) / marker
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        names = [entry["path"] for entry in manifest["files"]]
        identity = {key: manifest[key] for key in ("preset", "seed", "generator_version")}
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            "write_sandbox",
            f"{marker} is not a sandbox manifest",
            got=str(error),
            next_step="Choose another root, or delete this one if it is a sandbox",
        ) from error
    base = Path(root).resolve()
    for name in names:
        if not (base / name).resolve().is_relative_to(base):
            raise FormatError("write_sandbox", f"{marker} lists a file outside the root", got=name, expected=str(base))
    return manifest | identity


def _identity(preset: str, seed: int) -> dict[str, Any]:
    return {"preset": preset, "seed": seed, "generator_version": GENERATOR_VERSION}


def _sound(root: Path, entry: dict[str, Any]) -> bool:
    path = root / entry["path"]
    return path.is_file() and path.stat().st_size == entry["size"] and sha256_of(path) == entry["sha256"]


def _prepare(root: Path, identity: dict[str, Any], names: list[str]) -> dict[str, Any] | None:
    """Return the manifest of an archive that is up to date; else leave only files that may be kept, and say so.

    A finished archive keeps its sound files; an unfinished one keeps what carries its final name (files are renamed
    into place when complete). Files of another seed, preset or version go, and no file that is not listed is touched.
    """
    finished, unfinished = read_manifest(root), read_manifest(root, UNFINISHED)
    if finished is None and unfinished is None and root.is_dir() and any(root.iterdir()):
        raise ParameterError(
            "write_sandbox",
            "the folder is not empty and is not a sandbox",
            got=str(root),
            next_step="Choose an empty or new folder; nothing was written",
        )
    same = [m for m in (unfinished, finished) if m and all(m[k] == v for k, v in identity.items())]
    if unfinished is None and same:
        damaged = [e["path"] for e in finished["files"] if not _sound(root, e)]
        if not damaged and [e["path"] for e in finished["files"]] == names:
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
    of another preset, seed or generator version is replaced. The same seed gives the same bytes, and the same images
    for a day in every preset. It takes about 50 s of one core for ``quick`` (220 MB), of which SMAP
    is about 15 s (60 MB) and the multi-source scenes 19 s (70 MB); ``full`` takes minutes, SMAP about two (460 MB) and the
    multi-source scenes, by what one site takes, three (1.3 GB).

    Parameters
    ----------
    root : path-like
        A new or empty folder, or one that holds a sandbox.
    preset : {"quick", "full"}
        26-31 July 2011, or the whole of July. The last day is meant for testing. In-situ records, which need seasons,
        cover May to September 2011, or the whole year. SMAP and SMAP/Sentinel-1 over three regions cover January 2017 to
        June 2018 with some scenes and the days near them, or 2016 to 2018. Multi-source scenes around sensors cover 2020
        and 2021, and hold crops of 64 pixels around every sensor, or of 512.
    seed : int
        Non-negative seed of everything random.
    progress : callable, optional
        Called as ``progress(done, total, name)`` after each file.

    Returns
    -------
    dict
        The manifest, as in ``SANDBOX.json``: preset, seed, generator_version, synthetic, days, and files with path,
        size and sha256.

    Raises
    ------
    ParameterError
        For an unknown preset, a bad seed, or a folder that holds something else.
    FormatError
        When the folder's marker is damaged.
    RunError
        When a file cannot be written (a full disk, no permission). What is complete stays and is used next time.
    """
    if preset not in PRESETS:
        raise ParameterError("write_sandbox", "unknown preset", got=preset, expected=sorted(PRESETS))
    seed = check_seed("write_sandbox", seed)
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise ParameterError("write_sandbox", "the root is not a folder", got=str(root))
    spec, identity = PRESETS[preset], _identity(preset, seed)
    plan = _plan(spec)
    names = [name for group in plan.values() for name in group]
    try:
        current = _prepare(root, identity, names)
        if current is not None:
            return current
        _write_missing(root, spec, seed, plan, progress)
        manifest = identity | {
            "synthetic": True,
            "days": [d.isoformat() for d in spec.days],
            "files": [{"path": n, "size": (root / n).stat().st_size, "sha256": sha256_of(root / n)} for n in names],
        }
        write_json(root / MARKER, manifest)
        (root / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            "write_sandbox",
            f"cannot write below {root}",
            got=str(error),
            next_step="Free space or choose another root and run it again: it goes on where it stopped",
        ) from error
    return manifest


class _Jobs:
    """Encodes and writes files on threads (zlib runs without the interpreter lock), a few at a time."""

    def __init__(self, pool: ThreadPoolExecutor, total: int, progress: Progress | None) -> None:
        self._pool, self._total, self._progress, self._done = pool, total, progress, 0
        self._pending: list[tuple[str, Future]] = []

    def submit(self, name: str, work: Callable[..., Any], *arguments: Any) -> None:
        self._pending.append((name, self._pool.submit(work, *arguments)))
        self.wait(leave=2 * _THREADS)

    def wait(self, leave: int = 0) -> None:
        while len(self._pending) > leave:
            name, future = self._pending.pop(0)
            future.result()
            self.finished(name)

    def finished(self, name: str) -> None:
        """Count a file that is complete, and say so."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, name)


def _write_missing(
    root: Path, preset: Preset, seed: int, plan: dict[str, list[str]], progress: Progress | None
) -> None:
    """Simulate what is not there, and write it."""
    missing = {group: [n for n in names if not (root / n).is_file()] for group, names in plan.items()}
    total = sum(map(len, missing.values()))
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs = _Jobs(pool, total, progress)
        if total > sum(len(missing[group]) for group in ("smap", "fusion", "multisource")):
            _write_month(root, preset, seed, missing, jobs)

        def submit(name: str, content: bytes) -> None:
            jobs.submit(name, write_bytes, root / name, content)

        if missing["smap"]:
            write_smap(_smap_plan(preset.smap), seed, set(missing["smap"]), submit)
        if missing["fusion"]:
            write_fusion(_fusion_plan(preset.fusion), seed, set(missing["fusion"]), submit)
        if missing["multisource"]:
            write_multisource(_multisource_plan(preset.multisource), seed, set(missing["multisource"]), submit)
        jobs.wait()


def _write_month(root: Path, preset: Preset, seed: int, missing: dict[str, list[str]], jobs: _Jobs) -> None:
    """Simulate July 2011, and the stations' months, and write what is missing."""
    world = World(seed, preset.resolution)
    radiometer = Radiometer(world) if missing["amsre"] else None
    reanalysis = Reanalysis(world) if missing["era"] else None
    insitu = InSitu(world, preset.insitu) if missing["insitu"] else None
    wanted = set(missing["amsre"])
    packed: list[NDArray[np.int16]] = []
    truth: list[tuple[Vector, Vector]] = []
    begin = FIRST_DAY - timedelta(days=preset.spin_up_days)
    for state in world.days(begin, preset.last, preset.spin_up_days):
        analyses = reanalysis.analyses(state) if reanalysis else None
        if insitu is not None:
            insitu.observe(state)
        if state.day < preset.first:
            continue
        if analyses is not None:
            packed.append(pack(analyses))
        if missing["truth"]:
            truth.append((state.soil_moisture, world.surface_temperature(state)))
        for name, image in _images(radiometer, state, wanted):
            jobs.submit(name, _write_image, root / name, image)
    jobs.wait()
    for name in missing["era"]:
        jobs.submit(name, write_era_file, root / name, reanalysis, preset.days, packed)
        jobs.wait()  # the NetCDF library is not thread-safe
    for name in missing["truth"]:
        jobs.submit(name, write_truth_file, root / name, world, preset.days, truth)
    jobs.wait()
    if insitu is not None:
        insitu.write(root, missing["insitu"], jobs.finished)


def _images(radiometer: Radiometer | None, state: Any, wanted: set[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for orbit_pass in PASSES:
        names = {c: f"amsre_nsidc0302/{state.day:%Y}/{file_name(state.day, orbit_pass, c)}" for c in CHANNELS}
        if radiometer is not None and wanted.intersection(names.values()):
            images = radiometer.images(state, orbit_pass)
            yield from ((names[c], images[c]) for c in CHANNELS if names[c] in wanted)


def _write_image(path: Path, image: NDArray[np.float32]) -> None:
    write_bytes(path, encode_image(image))


def write_truth_file(path: Path, world: World, days: list[date], daily: list[tuple[Vector, Vector]]) -> None:
    """Write the hidden truth as CF-NetCDF: daily soil moisture and surface temperature, texture and vegetation.

    Parameters
    ----------
    path : Path
        Final name; it appears when the file is complete.
    world : World
        The world.
    days : list of date
        UTC days.
    daily : list of (ndarray, ndarray)
        Soil moisture (m3 m-3) and surface temperature (K) of each day on the soil cells. Sea, ice sheets and cells
        with less than half land are NaN in the file.
    """
    land = world.land_fraction.ravel()[world.soil_cells] >= 0.5
    static = {
        "clay_fraction": world.clay_fraction,
        "sand_fraction": world.sand_fraction,
        "vegetation_water_content": world.vegetation_water_content,
    }
    with atomic_path(path) as temporary, netCDF4.Dataset(temporary, "w", format="NETCDF4") as file:
        for name, values in (("lat", world.lat), ("lon", world.lon)):
            file.createDimension(name, values.size)
            axis = file.createVariable(name, "f8", (name,))
            full = {"lat": "latitude", "lon": "longitude"}[name]
            axis.setncatts({"standard_name": full, "long_name": full})
            axis.units = {"lat": "degrees_north", "lon": "degrees_east"}[name]
            axis[:] = values
        file.createDimension("time", len(days))
        time = file.createVariable("time", "i4", ("time",))
        time.setncatts({"standard_name": "time", "long_name": "UTC day", "calendar": "standard"})
        time.units = "days since 2011-01-01"
        time[:] = [(datetime(d.year, d.month, d.day) - datetime(2011, 1, 1)).days for d in days]

        def create(name: str, dims: tuple[str, ...], digits: int) -> netCDF4.Variable:
            chunks = (1,) * (len(dims) - 2) + world.shape
            variable = file.createVariable(
                name,
                "f4",
                dims,
                zlib=True,
                complevel=1,
                shuffle=True,
                chunksizes=chunks,
                fill_value=np.float32(np.nan),
                least_significant_digit=digits,
            )
            variable.setncatts({"units": VARIABLES[name].units, "long_name": VARIABLES[name].long_name})
            return variable

        for name, vector in static.items():
            create(name, ("lat", "lon"), 3)[:] = world.to_grid(np.where(land, vector, np.nan))
        moisture = create("soil_moisture", ("time", "lat", "lon"), 4)
        moisture.cell_methods = "time: mean"
        temperature = create("surface_temperature", ("time", "lat", "lon"), 2)
        temperature.cell_methods = "time: mean"
        for i, (soil_moisture, kelvin) in enumerate(daily):
            moisture[i] = world.to_grid(np.where(land, soil_moisture, np.nan))
            temperature[i] = world.to_grid(np.where(land, kelvin, np.nan))
        file.setncatts(
            {
                "Conventions": "CF-1.8",
                "title": "Hidden truth of the smnb sandbox (synthetic)",
                "source": "smnb_sandbox, simulated",
                "history": f"written by smnb_sandbox generator {_GRIDDED_VERSION}, seed {world.seed}",
                "catalog_id": "sandbox_truth",
                "synthetic": np.int32(1),
            }
        )
