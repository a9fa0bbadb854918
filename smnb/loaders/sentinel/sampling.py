"""A look at pixels all over a scene before it is read: are they there, readable, and in the units declared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError, plain
from smnb.loaders.sentinel.averaging import SceneReader, blocks_of
from smnb.loaders.sentinel.calibration import Calibration, Declaration, check_sample
from smnb.loaders.sentinel.placing import Placement
from smnb.loaders.sentinel.rasters import Band, Scene

__all__: list[str] = []

#: Units of angles in files, and degrees in one.
ANGLE_UNITS = {"degree": 1.0, "radian": 180.0 / np.pi}
#: Places along a scene's sides, and pixels along a place's.
_PLACES, _SIDE = 5, 64
#: Pixels read at a time where a scene has to be searched for any number at all.
_BLOCK_PIXELS = 1 << 20


def calibrate(who: str, scene: Scene, declaration: Declaration) -> dict[str, Calibration]:
    """The calibration of each polarization of a scene.

    Raises
    ------
    FormatError
        If nothing states a scale that is needed, or both the file and the caller do.
    """
    return {b.role: declaration.of(f"{who}({b.path.name})", b) for b in scene.bands if b.role != "angle"}


def check_pixels(
    who: str, scene: Scene, declaration: Declaration, calibrations: dict[str, Calibration], angle_units: str
) -> None:
    """Look at pixels all over a scene: whether they can be read, are there at all, and are in the units declared.

    Raises
    ------
    FormatError
        If not.
    """
    height, width = scene.geometry.height, scene.geometry.width
    tops, lefts = (np.unique(np.linspace(0, max(n - _SIDE, 0), _PLACES).astype(int)) for n in (height, width))
    places = [(int(i), int(j), min(_SIDE, height - int(i)), min(_SIDE, width - int(j))) for i in tops for j in lefts]
    found: dict[str, list[NDArray]] = {band.role: [] for band in scene.bands}
    with SceneReader(who, scene) as reader:
        for place in places:
            for band, numbers, present in reader.read(*place):
                found[band.role].append(_there(numbers, present, band.nodata))
        for band in scene.bands:
            where, sample = f"{who}({band.path.name})", np.concatenate(found[band.role])
            if band.role == "angle":
                _check_angles(where, band, sample, angle_units)
                continue
            if sample.size == 0 and not _has_any(reader, scene, band.role):
                raise FormatError(
                    where,
                    f"the scene holds no backscatter: every pixel of {band.role} is zero, NaN or no-data",
                    next_step="Leave the scene out, or export it again",
                )
            check_sample(where, band, sample, declaration, calibrations[band.role])


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


def _has_any(reader: SceneReader, scene: Scene, role: str) -> bool:
    """Whether a band has any number at all: read until one is found."""
    everything = Placement((0, scene.geometry.height), (0, scene.geometry.width), (0, 0), (0, 0))
    return any(
        _there(numbers, present, band.nodata).size > 0
        for block in blocks_of(everything, scene.block, _BLOCK_PIXELS)
        for band, numbers, present in reader.read(*block)
        if band.role == role
    )
