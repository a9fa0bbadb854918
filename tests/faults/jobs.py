"""What the campaigns interrupt: small pieces of work of the command, each on its own inputs, in processes that start at once.

A `Job` is executed in a process of its own group that is forked from a server in which everything is imported. In its folder are
the inputs that `prepare` wrote; outputs go below ``out``. The clock of the data contract stands, so that bytes can be compared.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


class StandingClock(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz=None):
        return datetime(2020, 1, 1, tzinfo=tz or UTC)


@dataclass(frozen=True)
class Command:
    """What executes a command line without blanks in its arguments."""

    line: str

    def __call__(self) -> None:
        from smnb.cli import app

        app.main(self.line.split())


def bytes_of(folder: Path) -> dict[str, Any]:
    """Every file below a folder by its content, and every folder as None; but for the cache of hashes, which stays."""
    found = sorted(path for path in folder.rglob("*") if path.name != ".hashes.json")
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


@dataclass(frozen=True)
class Job:
    """`work` makes ``out`` from what `prepare` wrote into the current folder; `read` gives what two outcomes must share."""

    name: str
    prepare: Callable[[], None]
    work: Callable[[], None]
    read: Callable[[Path], dict[str, Any]] = bytes_of
    old: Callable[[], None] | None = None  # what makes another output of the same name


# --- inputs -----------------------------------------------------------------------------------------------------------


def ismn_archive(stations: int = 3, hours: int = 300) -> Path:
    """``ismn.zip``: a sensor a station, 40 km apart, hourly in June 2020."""
    import numpy as np
    import pandas as pd
    from test_loaders_insitu import STATIC, header, stm_name, write_zip

    times, members = pd.date_range("2020-06-01", periods=hours, freq="h"), {}
    for number in range(stations):
        station, rng = f"S{number}", np.random.default_rng(number)
        rows = zip(times, rng.uniform(0.1, 0.4, hours), strict=True)
        lines = "".join(f"{t:%Y/%m/%d %H:%M} {value:.4f} G M\n" for t, value in rows)
        place = header(station, lat=30.3 + 0.005 * number, lon=-97.7)
        members[stm_name(station)] = place + lines
        members[f"NET/{station}/NET_NET_{station}_static_variables.csv"] = STATIC
    return write_zip(Path("ismn.zip"), members)


def scenes() -> None:
    """What ``smnb matchup`` reads: an archive, its catalog and Sentinel-1 and SMAP around the sensors."""
    import numpy as np
    import yaml
    from rasterio.transform import from_origin
    from rasterio.warp import transform
    from test_cli_matchup import write_tiff

    from smnb.loaders.insitu import write_tables

    write_tables([ismn_archive()], "insitu")
    (x,), (y,) = transform("EPSG:4326", "EPSG:32614", [-97.7], [30.305])
    rng, place = np.random.default_rng(1), from_origin(round(x) - 1500, round(y) + 1500, 10, 10)
    for day in (3, 6, 9, 12):
        values = np.stack(
            [rng.uniform(-20, -6, (300, 300)), rng.uniform(-24, -12, (300, 300)), np.full((300, 300), 38.0)]
        )
        path = Path("s1") / f"S1A_IW_GRDH_1SDV_202006{day:02d}T003012_x.tif"
        write_tiff(path, values, descriptions=("VV", "VH", "angle"), transform=place)
        coarse = {"descriptions": ("ssm",), "crs": "EPSG:4326", "transform": from_origin(-98, 31, 0.1, 0.1)}
        write_tiff(Path("smap") / f"smap_202006{day:02d}.tif", rng.uniform(2, 20, (1, 20, 20)), **coarse)
    entries = {
        name: {
            "description": "Scenes.",
            "licence": "none",
            "fetch": {"by_hand": "none"},
            "loader": "smnb.loaders.rasters:open_scenes",
            "files": [f"{name}/*.tif"],
            "variables": {band: {"native": band, "units": units} for band in bands},
            "options": {
                "source": source,
                "bands": {band: {"band": n if name == "smap" else band} for n, band in enumerate(bands, 1)},
                "time": {"pattern": pattern, "format": time_format},
            },
        }
        for name, source, bands, units, pattern, time_format in (
            ("s1", "sentinel1", ("VV", "VH", "angle"), "dB", r"_(?P<time>\d{8}T\d{6})_", "%Y%m%dT%H%M%S"),
            ("smap", "smap", ("ssm",), "mm", r"_(?P<time>\d{8})\.tif", "%Y%m%d"),
        )
    }
    Path("data_catalog.yaml").write_text(yaml.safe_dump(entries))


def shards() -> None:
    """What ``smnb released`` reads: two shards, and the archive of their sensors."""
    import numpy as np
    import tfrecord_encoder as encoder

    ismn_archive()
    start = np.datetime64("2020-06-01T00:00")
    for number in range(2):
        records = []
        for k in range(6):
            about = {"sensor_id": f"NET__S{k % 3}__EC5", "label": None, "lat": 30.3 + 0.005 * (k % 3), "lon": -97.7}
            when = str(start + np.timedelta64(24 * (2 * number + k // 3), "h"))
            records.append(encoder.example(encoder.released_fields(k % 3, size=32, time=when, **about)))
        Path("shards").mkdir(exist_ok=True)
        encoder.write_shard(Path("shards") / f"data-0000{number}-of-00002.tfrecord.gz", records)


CHANNELS = ("1.41H", "1.41V", "VV", "VH")


def saved(path: str = "out/model") -> None:
    """Save a network that predicts, with its card."""
    import torch

    from smnb.models import build_model
    from smnb.training import MinMaxScaler, save

    torch.manual_seed(2)
    scaling = MinMaxScaler((200.0, 200.0, -25.0, -25.0), (280.0, 280.0, -5.0, -5.0), (240.0, 240.0, -15.0, -15.0))
    scalers = {"input_scaler": scaling, "target_scaler": MinMaxScaler((0.0,), (0.5,), (0.4,))}
    save(path, build_model("fusion_1km", {"features": 4}).eval(), channels=CHANNELS, **scalers)


def scene_and_model() -> None:
    """``scene.nc`` and the checkpoint ``model``."""
    import numpy as np
    import xarray as xr

    from smnb.contract import stamp
    from smnb.grids import M01, EaseWindow

    window = EaseWindow(M01, 2500, 2548, 7000, 7048)
    values = np.random.default_rng(1).uniform(0, 1, (4, *window.shape)).astype("float32")
    tb, sigma0 = 200 + 80 * values[:2], 20 * values[2:] - 25
    data = {
        "tb": (("channel", "y", "x"), tb, {"units": "K"}),
        "sigma0": (("polarization", "y", "x"), sigma0, {"units": "dB"}),
    }
    dataset = xr.Dataset(data, {**window.coords(), "channel": list(CHANNELS[:2]), "polarization": list(CHANNELS[2:])})
    stamp(dataset, source="test", catalog_id="test", synthetic=True, step="made")
    dataset.to_netcdf("scene.nc", engine="h5netcdf")
    saved("model")


def points() -> None:
    """``in.csv`` of ``smnb predict``."""
    import numpy as np
    import pandas as pd

    from smnb.papers.stations.table import COLUMNS

    rng, size = np.random.default_rng(0), 240
    known = {
        "VV": rng.normal(-12, 1, size),
        "VH": rng.normal(-20, 1, size),
        "angle": 38.0,
        "ssm": rng.uniform(5, 20, size),
    }
    known |= {"fc": 20.0, "landcover": 71.0, "mtpi": 0.0, "B10": 20.0}
    days = pd.date_range("2020-01-01", periods=120, freq="10D").strftime("%Y-%m-%d")
    frame = pd.DataFrame(
        {"network": "NET", "station": np.repeat(["A", "B"], 120), "lat": 35.0, "lon": -98.0, "start": np.tile(days, 2)}
    )
    bands = {name: rng.uniform(1000, 2000, size) for name in COLUMNS if name.startswith("B")}
    frame.assign(**(bands | known)).to_csv("in.csv", index=False)


def predictions() -> None:
    """``table.csv`` of ``smnb score``."""
    from test_cli_scores import table

    from smnb.sensors import write_predictions

    write_predictions(table(), "table.csv")


NOTEBOOK_PARAMETERS = """\
preset: str = "quick"  # quick or full
epochs: int or None = None  # passes over the data
seed: int = 0  # of the weights
"""
NOTEBOOK_WORK = """\
import pathlib
pathlib.Path(run.out, "weights.txt").write_text(str(s.seed + s.epochs))
run.record({"cnn": {"test": {"rmse": s.epochs / 8 + s.seed, "n": 7}}})
run.finish();"""


def notebooks() -> None:
    """A project of two notebooks, of which the second needs the first."""
    import nbformat

    folder = Path("notebooks")
    (folder / "params").mkdir(parents=True)
    (folder / "params" / "quick.yaml").write_text("preset: quick\n")
    (folder / "params" / "settings.yaml").write_text("01_one:\n  epochs: {quick: 3}\n02_two:\n  epochs: {quick: 4}\n")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for name, needs in (("01_one", []), ("02_two", ["01_one"])):
        start = f'from smnb.runs import Run\nrun = Run.start("{name}", globals())\ns = run.settings'
        first = nbformat.v4.new_code_cell(NOTEBOOK_PARAMETERS, metadata={"tags": ["parameters"]})
        cells = [first, *map(nbformat.v4.new_code_cell, (start, NOTEBOOK_WORK))]
        metadata = {"kernelspec": kernel, "smnb": {"catalog_ids": [], "needs": needs}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")


def run_of(out: Path) -> dict[str, Any]:
    """What runs must share: files, metrics of records and what notebooks wrote; not times, nor the text of pages."""
    found: dict[str, Any] = {}
    for name, content in bytes_of(out).items():
        if name.endswith("record.json"):
            content = json.loads(content)["metrics"]
        elif name.endswith("sweep.json"):
            content = [(one["member"], one["metrics"]) for one in json.loads(content)["members"]]
        elif not name.endswith(".txt"):
            content = None
        found[name] = content
    return found


# --- the jobs ---------------------------------------------------------------------------------------------------------


def tiny_sandbox() -> None:
    """Write an archive of a day and some scenes."""
    from smnb_sandbox import PRESETS
    from smnb_sandbox.archive import Preset

    day = date(2011, 7, 31)
    PRESETS["tiniest"] = Preset(day, day, resolution=2.0, spin_up_days=2)
    Command("sandbox --out out/archive --preset tiniest --seed 7")()


def small_training() -> None:
    """Train a small network into a folder, and save it."""
    from test_training import train

    from smnb.training import save

    trained = train(Path("out/training"), epochs=6)
    save("out/model", trained.model, channels=("1", "2", "3", "4"))


def weights_of(out: Path) -> dict[str, Any]:
    """What trainings must share: files, and the weights; a state to resume from also holds times."""
    return {name: content if Path(name).name.startswith("model") else None for name, content in bytes_of(out).items()}


def fetched() -> None:
    """Fetch a file of 3 MB from a server of this process, in pieces."""
    import hashlib
    import http.server
    import threading

    import yaml

    content = random.Random(0).randbytes(3_000_000)

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for start in range(0, len(content), 100_000):
                self.wfile.write(content[start : start + 100_000])
                time.sleep(0.01)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, digest = f"http://127.0.0.1:{server.server_address[1]}/a.bin", hashlib.sha256(content).hexdigest()
    entry = {
        "description": "A file.",
        "licence": "none",
        "loader": "smnb.loaders.rasters:open_scenes",
        "files": ["*.bin"],
    }
    entry |= {
        "fetch": [{"url": url, "sha256": digest, "path": "a.bin"}],
        "variables": {"a": {"native": "a", "units": "1"}},
    }
    own, root = Path(f"own.{os.getpid()}"), Path("out").absolute()
    own.mkdir()
    os.chdir(own)  # another process has another server
    Path("data_catalog.yaml").write_text(yaml.safe_dump({"product": entry}))
    Command(f"fetch product --root {root}")()


def old_scores() -> None:
    """Files of the names that `smnb score` writes."""
    Path("out").mkdir()
    for name in ("scores.csv", "scores.by_climate.csv"):
        Path("out", name).write_text("old")


def old_predictions() -> None:
    """A file of the name that `smnb predict` writes."""
    Path("out").mkdir()
    Path("out/predicted.csv").write_text("old")


def old_model() -> None:
    """A checkpoint of another network."""
    from smnb.models import build_model
    from smnb.training import save

    save("out/model", build_model("fusion_1km", {"features": 2}), channels=CHANNELS)


def nothing() -> None:
    """No input is needed."""


OLD_INGEST = Command("ingest ismn.zip --out out/insitu --start 2020-06-05")
MAP = "map model scene.nc --tile 24 --out out/map"
SOURCES = "--source sentinel1=s1 --source smap=smap --split none"
RELEASED = "released shards --ismn ismn.zip --size 32 --crop 16 --no-splits --out out/r.zarr"
JOBS = {
    job.name: job
    for job in (
        Job("ingest", ismn_archive, Command("ingest ismn.zip --out out/insitu"), old=OLD_INGEST),
        Job("matchup", scenes, Command(f"matchup --insitu insitu --root . --crop 32 {SOURCES} --out out/a.zarr")),
        Job("map.tif", scene_and_model, Command(f"{MAP}.tif")),
        Job("map.zarr", scene_and_model, Command(f"{MAP}.zarr")),
        Job("map.nc", scene_and_model, Command(f"{MAP}.nc")),
        Job("released", shards, Command(RELEASED)),
        Job("predict", points, Command("predict conus_points in.csv --out out/predicted.csv"), old=old_predictions),
        Job("score", predictions, Command("score table.csv --by climate --out out/scores.csv"), old=old_scores),
        Job("sandbox", nothing, tiny_sandbox),
        Job("run", notebooks, Command("run --name r --runs-root out"), run_of),
        Job("sweep", notebooks, Command("sweep 01 --name s -g seed=1,2 --runs-root out"), run_of),
        Job("fetch", nothing, fetched),
        Job("train", nothing, small_training, weights_of),
        Job("save", nothing, saved, old=old_model),
    )
}


# --- processes --------------------------------------------------------------------------------------------------------


def _execute(name: str, what: str, folder: Path, log: Path, fault: Callable[[], None] | None) -> None:
    """In a forked process: what `Job` says of one, with a fault that may be armed before it begins."""
    import traceback

    import smnb.contract
    from smnb.cli import app
    from smnb.contract import SmnbError

    os.setsid()
    os.chdir(folder)
    stream = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True)
    smnb.contract.datetime = StandingClock
    status = 0
    try:
        if fault is not None:
            fault()
        getattr(JOBS[name], what)()
    except (SmnbError, OSError) as error:  # of what is no command
        status = app._say_error(error, False, 2)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    os._exit(status)


@dataclass
class Going:
    """A job under way, or at its end."""

    process: Any
    log: Path
    begun: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float = 240.0) -> int | None:
        """The status, None if it is not at its end by then."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> bool:
        """SIGKILL to the whole group; whether it was still going."""
        if self.process.exitcode is not None:
            return False
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not yet a group of its own
            self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Workshop:
    """Folders of jobs below one, their inputs made once, and what each gives when nothing disturbs it."""

    def __init__(self, root: Path) -> None:
        self.root, self._whole, self.rerun = root, {}, set()
        self._server = multiprocessing.get_context("forkserver")
        self._server.set_forkserver_preload(["preloaded"])
        self._count = 0

    def start(self, job: Job, folder: Path, what: str = "work", fault: Callable[[], None] | None = None) -> Going:
        self._count += 1
        log = self.root / f"{job.name}.{self._count}.log"
        process = self._server.Process(target=_execute, args=(job.name, what, folder, log, fault))
        process.start()
        return Going(process, log)

    def done(self, job: Job, folder: Path, what: str = "work", fault: Callable[[], None] | None = None) -> Going:
        """A job that must come to its end."""
        going = self.start(job, folder, what, fault)
        status = going.wait()
        assert status == 0, f"{job.name} {what} ended with {status}:\n{going.said}"
        return going

    def whole(self, job: Job) -> tuple[dict[str, Any], float]:
        """What an undisturbed job gives, and the seconds it takes."""
        if job.name not in self._whole:
            inputs = self.root / job.name
            inputs.mkdir(parents=True)
            self.done(job, inputs, "prepare")
            if job.old:
                shutil.copytree(inputs, self.root / f"{job.name}.old")
                self.done(job, self.root / f"{job.name}.old", "old")
            for _ in range(2):  # the first may be slow, and both must be the same
                folder, begun = self.folder(job), time.monotonic()
                self.done(job, folder)
                seconds, found = time.monotonic() - begun, job.read(folder / "out")
                assert difference(found, self._whole.get(job.name, (found,))[0]) == ""
                self._whole[job.name] = found, seconds
                shutil.rmtree(folder)
        return self._whole[job.name]

    def folder(self, job: Job, old: str = "") -> Path:
        """A new folder with the job's inputs; and, if ``.old``, with another output."""
        self._count += 1
        folder = self.root / f"{job.name}.{self._count}"
        shutil.copytree(self.root / f"{job.name}{old}", folder)
        return folder


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """How an outcome differs, for people; empty if it does not."""
    parts = {"left over": sorted(found.keys() - expected.keys()), "missing": sorted(expected.keys() - found.keys())}
    parts["other"] = sorted(name for name in found.keys() & expected.keys() if found[name] != expected[name])
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names)
