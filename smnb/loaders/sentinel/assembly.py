"""The lazy Dataset: which scenes make a time, and chunks of the target from the sums of the scenes that reach them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smnb.contract import VARIABLES, FormatError
from smnb.loaders.sentinel.averaging import Totals
from smnb.loaders.sentinel.calibration import MASK_REASONS
from smnb.loaders.sentinel.scenes import Scene
from smnb.loaders.sentinel.targets import Rectangle, Target

#: Rows and columns of the target in one dask chunk.
_CHUNK = 2048
#: Fields on the target: type, whether they are by polarization, and attributes.
_FIELDS: dict[str, tuple[str, bool, dict[str, str]]] = {
    "sigma0": (
        "float32",
        True,
        {
            "units": "dB",
            "long_name": "radar backscatter coefficient, C band",
            "cell_methods": "area: mean (of linear power)",
        },
    ),
    "n_looks": ("int32", True, {"units": "1", "long_name": "number of pixels averaged"}),
    "enl": ("float32", True, {"units": "1", "long_name": "equivalent number of looks of a pixel"}),
    "n_scenes": ("int16", False, {"units": "1", "long_name": "number of scenes averaged"}),
    "incidence_angle": ("float32", False, {"units": "degree", "long_name": "incidence angle"}),
}


@dataclass(frozen=True)
class PlacedScene:
    """A scene and cells of the target that it reaches."""

    scene: Scene
    cells: Rectangle
    totals: Any
    """Its `Totals`, delayed."""


def group_scenes(who: str, placed: Sequence[PlacedScene], mosaic: str) -> list[tuple[np.datetime64, list[PlacedScene]]]:
    """Times of the Dataset, increasing, and the scenes that make each.

    Raises
    ------
    FormatError
        If scenes that are to be kept apart have one time.
    """

    def key(scene: Scene) -> Any:
        # pieces of one export are one scene
        return scene.acquisition if mosaic == "scene" else scene.time.astype("datetime64[D]")

    groups: dict[Any, list[PlacedScene]] = {}
    for one in placed:
        groups.setdefault(key(one.scene), []).append(one)
    result = []
    for members in groups.values():
        seconds = (
            np.array([one.scene.time for one in {one.scene: one for one in members}.values()])
            .astype("datetime64[s]")
            .astype("int64")
        )
        result.append((np.datetime64(round(float(seconds.mean())), "s").astype("datetime64[ns]"), members))
    result.sort(key=lambda item: item[0])
    for (time, members), (after, others) in itertools.pairwise(result):
        if time == after:
            raise FormatError(
                who,
                "two scenes have one time",
                got=[members[0].scene.name, others[0].scene.name],
                next_step="Leave one out if they are versions of one scene, or pool them with mosaic='day'",
            )
    return result


def _combine(parts: list[Totals], here: Rectangle, n_polarizations: int, min_looks: int) -> dict[str, NDArray]:
    """The fields of a rectangle of the target from all scenes that reach it."""
    total, n_scenes = Totals.zeros(here, n_polarizations), np.zeros(here.shape, "int16")
    for part in parts:
        before = total.looks.sum(axis=0)
        total.add(part)
        n_scenes += total.looks.sum(axis=0) > before
    looks = total.looks
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total.power / looks
        variance = (total.square / looks - mean**2) * looks / (looks - 1)
        sigma0, enl, degrees = 10.0 * np.log10(mean), mean**2 / variance, total.angle / total.angle_looks
    low, high = VARIABLES["sigma0"].valid_range or (-np.inf, np.inf)
    # 1e-4: pixels are of single precision, and one at the range's own edge is within it
    measured = (looks >= min_looks) & (sigma0 >= low - 1e-4) & (sigma0 <= high + 1e-4)
    # pixels that are all equal differ by rounding: no number of looks follows from that
    varies = measured & (looks > 1) & (variance > 1e-6 * mean**2)
    return {
        "sigma0": np.where(measured, np.clip(sigma0, low, high), np.nan).astype("float32"),
        "n_looks": looks.astype("int32"),
        "enl": np.where(varies, enl, np.nan).astype("float32"),
        "n_scenes": n_scenes,
        "incidence_angle": degrees.astype("float32"),
    }


def _sum_masked(parts: list[Totals]) -> NDArray[np.int64]:
    return np.sum([part.masked for part in parts], axis=0).astype("int64")


def _edges(size: int) -> list[tuple[int, int]]:
    return [(k, min(k + _CHUNK, size)) for k in range(0, size, _CHUNK)]


def _one_time(
    members: Sequence[PlacedScene], target: Target, names: Sequence[str], n_polarizations: int, min_looks: int
) -> dict[str, da.Array]:
    """Lazy fields of one time on the whole target."""
    rectangles = [[Rectangle(r, c) for c in _edges(target.shape[1])] for r in _edges(target.shape[0])]
    combine = dask.delayed(_combine, pure=False)

    def made(here: Rectangle) -> Any:
        reaching = [one.totals for one in members if here.common(one.cells) is not None]
        return combine(reaching, here, n_polarizations, min_looks) if reaching else None

    chunks = [[(here, made(here)) for here in line] for line in rectangles]

    def field(name: str) -> da.Array:
        dtype, by_polarization, _ = _FIELDS[name]

        def chunk(here: Rectangle, fields: Any) -> da.Array:
            shape = (n_polarizations, *here.shape) if by_polarization else here.shape
            if fields is None:
                return da.full(shape, np.nan if dtype.startswith("float") else 0, dtype=dtype, chunks=shape)
            return da.from_delayed(fields[name], shape, dtype=dtype)

        return da.block([[chunk(*item) for item in line] for line in chunks])

    return {name: field(name) for name in names}


def assemble(
    target: Target,
    groups: Sequence[tuple[np.datetime64, list[PlacedScene]]],
    polarizations: Sequence[str],
    min_looks: int,
    *,
    has_angle: bool,
) -> xr.Dataset:
    """The lazy Dataset, without what says where its values come from."""
    names = [name for name in _FIELDS if has_angle or name != "incidence_angle"]
    times = [_one_time(members, target, names, len(polarizations), min_looks) for _, members in groups]
    mapped = {"grid_mapping": "crs"} if "crs" in target.coords else {}
    data: dict[str, Any] = {}
    for name in names:
        dims = ("time", "polarization", *target.dims) if _FIELDS[name][1] else ("time", *target.dims)
        data[name] = (dims, da.stack([fields[name] for fields in times]), _FIELDS[name][2] | mapped)
    masked = [dask.delayed(_sum_masked, pure=False)([one.totals for one in members]) for _, members in groups]
    shape = len(polarizations), len(MASK_REASONS)
    data["n_masked"] = (
        ("time", "polarization", "reason"),
        da.stack([da.from_delayed(m, shape, dtype="int64") for m in masked]),
        {"units": "1", "long_name": "number of pixels left out"},
    )
    own = {
        "time": np.array([time for time, _ in groups], "datetime64[ns]"),
        "polarization": list(polarizations),
        "reason": list(MASK_REASONS),
    }
    return xr.Dataset(data, own | target.coords)


def count_left_out(dataset: xr.Dataset) -> xr.Dataset:
    """Compute a Dataset of `assemble` and write what was masked, and why, into ``masked_by``."""
    dataset = dataset.compute()
    pixels = dataset["n_masked"].sum(["time", "polarization"])
    counts = {f"pixels: {reason}": int(n) for reason, n in zip(pixels["reason"].values, pixels.values, strict=True)}
    without = dataset["sigma0"].isnull() & (dataset["n_looks"] > 0)
    counts["cells: too few looks, or out of range"] = int(without.sum())
    dataset["sigma0"].attrs["masked_by"] = json.dumps({k: n for k, n in counts.items() if n}, sort_keys=True)
    return dataset
