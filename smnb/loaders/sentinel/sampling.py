"""A look at pixels all over a scene before it is read: are they there, readable, and in the units declared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError, plain
from smnb.loaders.sentinel.averaging import SceneFiles
from smnb.loaders.sentinel.calibration import Calibration, check_sample
from smnb.loaders.sentinel.scenes import Band, Scene

#: Units of angles in files, and degrees in one.
ANGLE_UNITS = {"degree": 1.0, "radian": 180.0 / np.pi}
#: Places along a scene's sides, and pixels along a place's.
_PLACES, _SIDE = 5, 64
#: Pixels read at a time where a scene has to be searched for any number at all.
_BLOCK_PIXELS = 1 << 20


def check_pixels(who: str, scene: Scene, calibrations: dict[str, Calibration], angle_units: str) -> None:
    """Look at pixels all over a scene: whether they can be read, are there at all, and are in the units declared.

    Raises
    ------
    FormatError
        If not.
    """
    height, width = scene.geometry.height, scene.geometry.width
    tops, lefts = (np.unique(np.linspace(0, max(n - _SIDE, 0), _PLACES).astype(int)) for n in (height, width))
    found: dict[str, list[NDArray]] = {band.role: [] for band in scene.bands}
    with SceneFiles(who, scene) as files:
        for top in tops.tolist():
            for left in lefts.tolist():
                place = (top, min(top + _SIDE, height)), (left, min(left + _SIDE, width))
                for band, numbers, present in files.read(*place):
                    found[band.role].append(_there(numbers, present, band.nodata))
        for band in scene.bands:
            where, sample = f"{who}({band.path.name})", np.concatenate(found[band.role])
            if band.role == "angle":
                _check_angles(where, band, sample, angle_units)
                continue
            if sample.size == 0 and not _has_any(files, scene, band.role):
                raise FormatError(
                    where,
                    f"the scene holds no backscatter: every pixel of {band.role} is zero, NaN or no-data",
                    next_step="Leave the scene out, or export it again",
                )
            check_sample(where, band, sample, calibrations[band.role])


def _check_angles(where: str, band: Band, sample: NDArray, units: str) -> None:
    """Refuse angles that are none in the units declared; on land Sentinel-1 looks at 29 to 46 degrees."""
    if sample.size == 0:
        return
    middle, highest = (float(q) * band.scale + band.offset for q in np.percentile(sample, [50, 100]))
    right = 0.0 < middle < 90.0 and highest > np.pi / 2 if units == "degree" else 0.0 < middle < np.pi / 2
    if not right:
        raise FormatError(
            where,
            f"{band.native!r} does not hold incidence angles in {units}s, as declared",
            got=plain(f"median {middle:.4g}, highest {highest:.4g}"),
            expected=plain("0 to 90 degrees" if units == "degree" else "0 to 1.57 radians"),
            next_step=f"Correct 'angle_units' ({', '.join(ANGLE_UNITS)}), or declare in 'bands' which band it is",
        )


def _there(numbers: NDArray, present: NDArray | None, nodata: float | None) -> NDArray:
    """The numbers that are not missing in a way that needs no units: not NaN, zero, no-data or masked by the file."""
    keep = np.isfinite(numbers) & (numbers != 0)
    if nodata is not None:
        keep &= numbers != nodata
    return numbers[keep if present is None else keep & present]


def _has_any(files: SceneFiles, scene: Scene, role: str) -> bool:
    """Whether a band has any number at all: read until one is found."""
    height, width = scene.geometry.height, scene.geometry.width
    step = max(_BLOCK_PIXELS // width, 1)
    return any(
        _there(numbers, present, band.nodata).size > 0
        for top in range(0, height, step)
        for band, numbers, present in files.read((top, min(top + step, height)), (0, width))
        if band.role == role
    )
