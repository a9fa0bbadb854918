"""SMAP granules: which product, release and time a file is of, and opening it with errors that say what is wrong."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from smnb.contract import CatalogError, FormatError, ParameterError, plain
from smnb.grids import M01, M03, M09, M36, EaseGrid, EaseWindow
from smnb.loaders import check_paths, parse_period

#: Release and version, "R18290_001"; test releases have another letter.
_RELEASE = r"(?P<release>[A-Z]\d{5})_(?P<version>\d{3})\.h5"
_TIME = r"\d{8}T\d{6}"


@dataclass(frozen=True)
class Product:
    """A SMAP product: how its files are called, its grid, and who opens it."""

    pattern: str
    example: str
    opener: str
    grid: EaseGrid | None = None


#: By short name. The last three are recognised so that the message can name them.
PRODUCTS = {
    "SPL2SMP": Product(
        rf"SMAP_L2_SM_P_\d{{5}}_[AD]_(?P<start>{_TIME})_{_RELEASE}",
        "SMAP_L2_SM_P_02801_A_20150811T013002_R18290_001.h5",
        "open_l2",
        M36,
    ),
    "SPL2SMP_E": Product(
        rf"SMAP_L2_SM_P_E_\d{{5}}_[AD]_(?P<start>{_TIME})_{_RELEASE}",
        "SMAP_L2_SM_P_E_26958_A_20200216T041259_R18240_001.h5",
        "open_l2",
        M09,
    ),
    "SPL3SMP": Product(
        rf"SMAP_L3_SM_P_(?P<start>\d{{8}})_{_RELEASE}", "SMAP_L3_SM_P_20150406_R14010_001.h5", "open_l3", M36
    ),
    "SPL3SMP_E": Product(
        rf"SMAP_L3_SM_P_E_(?P<start>\d{{8}})_{_RELEASE}", "SMAP_L3_SM_P_E_20200216_R18240_001.h5", "open_l3", M09
    ),
    "SPL2SMAP_S": Product(
        rf"SMAP_L2_SM_SP_1[ABCD](?P<mode>[A-Z]{{2}})[A-Z]{{2}}_(?P<start>{_TIME})_(?P<smap>{_TIME})"
        rf"_\d{{3}}[EW]\d{{2}}[NS]_{_RELEASE}",
        "SMAP_L2_SM_SP_1AIWDV_20200209T061215_20200208T183607_005W11N_R16515_001.h5",
        "open_l2_active_passive",
    ),
    "SPL2SMAP": Product(r"SMAP_L2_SM_AP_.*", "", ""),
    "SPL3SMAP": Product(r"SMAP_L3_SM_AP_.*", "", ""),
    "SPL4SMGP": Product(r"SMAP_L4_SM_.*", "", ""),
}
#: Grids of SPL2SMAP_S by the suffix of its groups and fields.
RESOLUTIONS = {"3km": M03, "1km": M01}


@dataclass(frozen=True)
class Granule:
    """A file of one of the products, as its name tells."""

    path: Path
    product: str
    start: np.datetime64
    """Start of the half orbit, day, or Sentinel-1 scene, UTC."""
    release: str

    @property
    def stat(self) -> tuple[str, int, int]:
        """Path, size and modification time: what dask's names of the file's arrays depend on."""
        stat = self.path.stat()
        return str(self.path), stat.st_size, stat.st_mtime_ns


def _parse(who: str, path: Path, accepted: Sequence[str]) -> Granule:
    for name, product in PRODUCTS.items():
        match = re.fullmatch(product.pattern, path.name)
        if match is None:
            continue
        if name not in accepted:
            next_step = f"Open it with smnb.loaders.smap.{product.opener}" if product.opener else None
            raise FormatError(
                f"{who}({path.name})",
                "the granule is of another product",
                got=name,
                expected=list(accepted),
                next_step=next_step,
            )
        text = match["start"]
        iso = f"{text[:4]}-{text[4:6]}-{text[6:8]}"
        if "T" in text:
            iso += f"T{text[9:11]}:{text[11:13]}:{text[13:]}"
        try:
            start = np.datetime64(iso, "ns")
        except ValueError as error:
            raise FormatError(f"{who}({path.name})", "the name has an impossible time", got=text) from error
        return Granule(path, name, start, match["release"])
    raise FormatError(
        f"{who}({path.name})",
        "the file's name is not of the product",
        expected=[PRODUCTS[n].example for n in accepted],
        next_step="Keep the names that NSIDC gives; take files that a subsetting service rewrote out of the entry's files",
    )


def _in_folders(who: str, paths: Sequence[str | Path]) -> list[str | Path]:
    """Replace each folder by the HDF5 files in it and below."""
    found: list[str | Path] = []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        if not Path(path).is_dir():
            found.append(path)
            continue
        inside = sorted(Path(path).rglob("*.h5"))
        if not inside:
            raise CatalogError(who, "the folder holds no HDF5 file (*.h5)", got=str(path))
        found += inside
    return found


def list_granules(
    who: str, paths: Sequence[str | Path], accepted: Sequence[str], start: str | None, end: str | None
) -> list[Granule]:
    """Granules of a period in order of time, all of one product; no file is opened. A folder stands for its files.

    Raises
    ------
    FormatError
        If a name is of no accepted product, two products are mixed, or two granules start at the same time.
    CatalogError
        If the period holds none.
    """
    granules = [_parse(who, path, accepted) for path in check_paths(who, _in_folders(who, paths))]
    products = {granule.product: granule.path.name for granule in granules}
    if len(products) > 1:
        raise FormatError(
            who, "granules of two products are mixed", got=products, next_step="Open one product at a time"
        )
    first, last = parse_period(who, start, end)
    found = [g for g in granules if (first is None or g.start >= first) and (last is None or g.start <= last)]
    if not found:
        times = sorted(granule.start for granule in granules)
        raise CatalogError(
            who, "no granule in the period", got=(str(times[0]), str(times[-1])), expected=plain(f"{start} to {end}")
        )
    found.sort(key=lambda granule: granule.start)
    for one, other in itertools.pairwise(found):
        if one.start == other.start:
            raise FormatError(
                who,
                "two granules start at the same time",
                got=[one.path.name, other.path.name],
                next_step="Keep the newer release and version, or for SPL2SMAP_S one of the SMAP overpasses",
            )
    return found


@contextlib.contextmanager
def open_h5(who: str, path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; whatever HDF5 complains about while it is open becomes a `FormatError`."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise FormatError(
            f"{who}({path.name})",
            f"the file is truncated, damaged, or no HDF5: {str(error).splitlines()[0]}",
            next_step="Download it again; a login page under the file's name is another usual cause",
        ) from error


def text_of(value: Any) -> str:
    """A string attribute of HDF5, which may be bytes or an array of one."""
    if value is None:
        return ""
    value = np.asarray(value).ravel()
    value = value[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def check_short_name(who: str, granule: Granule, file: h5py.File) -> None:
    """Raise `FormatError` if the metadata name another product than the file's name; test files may have none."""
    for group in ("Metadata/DatasetIdentification", "Metadata/SeriesIdentification"):
        stated = text_of(file[group].attrs.get("shortName")) if group in file else ""
        if stated and stated != granule.product:
            raise FormatError(
                f"{who}({granule.path.name})",
                f"{group} says another product than the file's name",
                got=stated,
                expected=granule.product,
                next_step="Give the file its own name back",
            )


def group_of(who: str, granule: Granule, file: h5py.File, name: str, hint: str = "") -> h5py.Group:
    """A group of the file.

    Raises
    ------
    FormatError
        If it is absent; the message lists the groups that are there.
    """
    if not isinstance(file.get(name), h5py.Group):
        raise FormatError(
            f"{who}({granule.path.name})",
            f"the group {name!r} is missing",
            got=sorted(file),
            next_step=hint or "Check that this is a granule of " + granule.product,
        )
    return file[name]


def resolve_window(who: str, grid: EaseGrid, region: Sequence[float] | EaseWindow | None) -> EaseWindow | None:
    """The window of a region given as (west, south, east, north) or as a window; None stays None.

    Raises
    ------
    ParameterError
        If it is neither, crosses the date line, leaves the grid's latitudes, or holds no centre of a cell.
    """
    if region is None or isinstance(region, EaseWindow):
        return region if region is None else region.on(grid)
    try:
        west, south, east, north = (float(edge) for edge in region)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            who,
            "'region' is no box in degrees, nor an EaseWindow",
            got=region,
            expected=plain("(west, south, east, north)"),
        ) from error
    return grid.window(south=south, north=north, west=west, east=east)
