"""SMAP granules: what a file is by its name, opening it with errors that say what is wrong, and the fields a call asks for."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from smnb.contract import CatalogError, FormatError, check_box, check_choice, foreign
from smnb.grids import EASE_GRIDS, EaseGrid, EaseWindow
from smnb.loaders import check_declared, check_paths, check_present, in_period, open_hdf5
from smnb.loaders.smap.fields import FLAG_BITS, FLAG_POLICIES, TABLE, TB_POLICIES, Variable


@dataclass(frozen=True)
class Granule:
    """A file of one of the products, as its name tells; `start` of the half orbit, day, or Sentinel-1 scene, UTC."""

    path: Path
    product: str
    start: np.datetime64
    release: str

    @property
    def grid(self) -> EaseGrid:
        """The grid of a passive product."""
        return EASE_GRIDS[TABLE["products"][self.product]["grid"]]


def _parse(who: str, path: Path, accepted: Sequence[str]) -> Granule:
    where, products = f"{who}({path.name})", TABLE["products"]
    matches = ((name, re.fullmatch(product["pattern"], path.name)) for name, product in products.items())
    name, match = next((found for found in matches if found[1]), ("", None))
    if match is None:
        what, known = "the file's name is not of the product", [products[one]["example"] for one in accepted]
        next_step = "Keep NSIDC's names; take files that a subsetting service rewrote out of the entry's files"
        raise FormatError(where, what, expected=known, next_step=next_step)
    if name not in accepted:
        opener = products[name].get("opener")
        next_step = f"Open it with smnb.loaders.smap.{opener}" if opener else None
        what = "the granule is of another product"
        raise FormatError(where, what, got=name, expected=list(accepted), next_step=next_step)
    try:
        start = datetime.strptime(match["start"], "%Y%m%dT%H%M%S" if "T" in match["start"] else "%Y%m%d")
    except ValueError as error:
        raise FormatError(where, "the name has an impossible time", got=match["start"]) from error
    return Granule(path, name, np.datetime64(start, "ns"), match["release"])


def list_granules(
    who: str, paths: Sequence[str | Path] | str | Path, accepted: Sequence[str], start: str | None, end: str | None
) -> list[Granule]:
    """Granules of a period in order of time, all of one product; no file is opened. A folder stands for its HDF5 files."""
    files: list[str | Path] = []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        inside = sorted(Path(path).rglob("*.h5")) if Path(path).is_dir() else [path]
        if not inside:
            raise CatalogError(who, "the folder holds no HDF5 file (*.h5)", got=str(path))
        files += inside
    granules = [_parse(who, path, accepted) for path in check_paths(who, files)]
    products = {granule.product: granule.path.name for granule in granules}
    if len(products) > 1:
        what = "granules of two products are mixed"
        raise FormatError(who, what, got=products, next_step="Open one product at a time")
    inside = in_period(who, np.array([granule.start for granule in granules]), start, end, "granule")
    found = sorted(itertools.compress(granules, inside), key=lambda granule: granule.start)
    for one, other in itertools.pairwise(found):
        if one.start == other.start:
            what = "two granules start at the same time"
            next_step = "Keep the newer release and version, or for SPL2SMAP_S one of the SMAP overpasses"
            raise FormatError(who, what, got=[one.path.name, other.path.name], next_step=next_step)
    return found


@contextlib.contextmanager
def open_h5(who: str, path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; whatever HDF5 complains about while it is open becomes a `FormatError`."""
    where = f"{who}({path.name})"
    with foreign(where, "the file is truncated, damaged, or no HDF5"), open_hdf5(where, path) as file:
        yield file


def whole(where: str, source: h5py.Dataset) -> NDArray:
    """All values of a field."""
    check_declared(where, source.name, source.nbytes, Path(source.file.filename))
    return source[()]


@contextlib.contextmanager
def open_granule(who: str, granule: Granule) -> Iterator[h5py.File]:
    """As `open_h5`, where the metadata do not name another product than the file's name; test files may have none."""
    with open_h5(who, granule.path) as file:
        for group in ("Metadata/DatasetIdentification", "Metadata/SeriesIdentification"):
            stated = text_of(file[group].attrs.get("shortName")) if group in file else ""
            if stated and stated != granule.product:
                where, what = f"{who}({granule.path.name})", f"{group} says another product than the file's name"
                step = "Give the file its own name back"
                raise FormatError(where, what, got=stated, expected=granule.product, next_step=step)
        yield file


def text_of(value: Any) -> str:
    """A string attribute of HDF5, which may be bytes or an array of one."""
    value = np.asarray("" if value is None else value).ravel()
    value = value[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def group_of(where: str, file: h5py.File, name: str) -> h5py.Group:
    """A group of the file; if it is absent, a `FormatError` that lists those that are there."""
    if not isinstance(file.get(name), h5py.Group):
        there = sorted(one for one, item in file.items() if isinstance(item, h5py.Group) and one != "Metadata")
        next_step = "Name one of these, or check the product"
        raise FormatError(where, f"the group {name!r} is missing", got=there, next_step=next_step)
    return file[name]


def resolve_window(who: str, grid: EaseGrid, region: Sequence[float] | EaseWindow | None) -> EaseWindow | None:
    """The window of a region given as (west, south, east, north) or as a window; None stays None."""
    if region is None or isinstance(region, EaseWindow):
        return region if region is None else region.on(grid)
    west, south, east, north = check_box(who, "region", region)
    return grid.window(south=south, north=north, west=west, east=east)


def read_fields(path: str | Path, group: str = "Soil_Moisture_Retrieval_Data") -> tuple[dict[str, NDArray], str]:
    """Read all fields of a passive granule as they are, flat, one value a cell, with NaN for the fill value of floats.

    From SPL2SMP, SPL2SMP_E or an L3 day, whatever the file's name, and the `group` of an overpass or a polar grid, to the fields
    by the product's names, those of the evening without their ending ``_pm``, and the composite release, such as "R18290"
    ("unknown" where the file does not say). A `FormatError` when the file is damaged or no HDF5, or the group is missing or not
    of a passive soil moisture product.
    """
    who = "read_fields"
    (path,) = check_paths(who, path)
    where = f"{who}({path.name})"
    with open_h5(who, path) as file:
        items = group_of(where, file, group).items()
        named = {n.removesuffix("_pm"): i for n, i in items if isinstance(i, h5py.Dataset) and i.dtype.kind in "fiu"}
        metadata = file.get("Metadata/DatasetIdentification")
        release = text_of(metadata.attrs.get("CompositeReleaseID")) if metadata is not None else ""
        needed = ("EASE_row_index", "EASE_column_index", "latitude", "longitude", "soil_moisture")
        check_present(where, needed, named)
        shape = named["EASE_row_index"].shape
        fields = {name: whole(where, item).ravel() for name, item in named.items() if item.shape == shape}
        check_present(f"{where}, of {shape} cells", needed, fields)
        for name, values in fields.items():
            if values.dtype.kind == "f":
                values[(values == named[name].attrs.get("_FillValue", -9999.0)) | (values == -9999.0)] = np.nan
    return fields, release or "unknown"


class FlagTest(NamedTuple):
    """A reason to mask: a bit of one of the flags read beside a field; `required`: a missing flag is a reason too."""

    flag: str
    reason: str
    bit: int
    required: bool


def _check_field(where: str, source: h5py.Dataset, variable: Variable, shape: tuple[int, ...]) -> None:
    """Raise `FormatError` if a field has another shape, type or units than it must have."""
    name = source.name.rsplit("/", 1)[-1]
    check_declared(where, name, source.nbytes, Path(source.file.filename))
    if source.shape[: len(shape)] != shape:
        raise FormatError(where, f"{name!r} has another shape", got=source.shape, expected=shape)
    if source.dtype.kind not in ("f" if variable.dtype.startswith("float") else "iu"):
        raise FormatError(where, f"{name!r} has another type", got=str(source.dtype), expected=variable.dtype)
    units = text_of(source.attrs.get("units"))
    if units and variable.native_units and units not in variable.native_units:
        raise FormatError(where, f"{name!r} has other units", got=units, expected=list(variable.native_units))
    if variable.units == "dB" and "db" in units.lower():
        raise FormatError(where, f"{name!r} is not linear power", got=units, expected="linear power")


@dataclass
class Selection:
    """What a call of a loader asks for: names of variables (None for all), of policies, and of surfaces that mask.

    Once all granules were searched (`find`), `absent` names what some lack of the default variables.
    """

    who: str
    catalogue: dict[str, Variable]
    names: Sequence[str] | str | None
    flag_policy: str = "none"
    tb_policy: str = "none"
    exclude_surface: Sequence[str] | str = ()
    family: str = "passive"  # whose meanings the flags have
    tests: dict[str, list[FlagTest]] = field(default_factory=dict)
    """Flag tests by what they mask: "soil_moisture", and of tb "tb:1.41H"."""
    absent: set[str] = field(default_factory=set)
    native_units: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice(self.who, "flag_policy", self.flag_policy, FLAG_POLICIES)
        check_choice(self.who, "tb_policy", self.tb_policy, TB_POLICIES)
        chosen = list(self.catalogue)
        if self.names is not None:
            chosen = check_choice(self.who, "variables", self.names, chosen)
        self.variables = [variable for name, variable in self.catalogue.items() if name in chosen]
        bits = {name: bit for bit, name in FLAG_BITS[self.family]["surface_flag"].items()}
        if self.exclude_surface:
            self.exclude_surface = check_choice(self.who, "exclude_surface", self.exclude_surface, bits)
        if any(variable.screened for variable in self.variables):
            self.tests["soil_moisture"] = [
                *(FlagTest("retrieval_qual_flag", *test, True) for test in FLAG_POLICIES[self.flag_policy]),
                *(FlagTest("surface_flag", f"surface:{one}", bits[one], False) for one in self.exclude_surface),
            ]
        for label in self.catalogue["tb"].natives if "tb" in chosen else ():
            flag = f"tb_qual_flag_{label[-1].lower()}"
            self.tests[f"tb:{label}"] = [FlagTest(flag, *test, True) for test in TB_POLICIES[self.tb_policy]]

    def find(
        self,
        where: str,
        group: h5py.Group,
        suffix: str,
        shape: tuple[int, ...],
        renamed: Mapping[str, str],
        suffixes: Sequence[str] = (),
    ) -> dict[tuple[str, str], str]:
        """Names of the fields in a granule's group, by variable and label.

        Every name ends with `suffix` ("_pm", "_3km"), and fields have `shape`, apart from a third axis. `renamed` has the
        names, without suffix, of variables that the option decides; `suffixes` are the algorithm's, for variables that
        have one by algorithm, where the name without comes last.
        """
        flags = [test.flag for tests in self.tests.values() for test in tests]
        roles: dict[tuple[str, str], str] = {}
        for name in dict.fromkeys((*(variable.name for variable in self.variables), *flags)):
            variable, found = self.catalogue[name], {}
            endings = (*suffixes, "") if variable.by_algorithm and name not in renamed else ("",)
            for label, natives in variable.natives.items():
                bases = (renamed[name],) if name in renamed else natives
                full = (f"{base}{ending}{suffix}" for ending in endings for base in bases)
                native = next((native for native in full if isinstance(group.get(native), h5py.Dataset)), None)
                if native is not None:
                    found[name, label] = native
            if len(found) == len(variable.natives):
                for native in found.values():
                    _check_field(where, group[native], variable, shape)
                    self.native_units.setdefault(name, text_of(group[native].attrs.get("units")))
                roles |= found
            elif name in flags or self.names is not None:
                what, expected = (
                    f"there is no field for {name!r}",
                    [f"{n}{suffix}" for n in sum(variable.natives.values(), ())],
                )
                next_step = "Leave it out of 'variables'"
                if name in flags:
                    next_step = "Pass flag_policy='none', tb_policy='none' and no exclude_surface to read without flags"
                raise FormatError(where, what, got=sorted(group), expected=expected, next_step=next_step)
            else:
                self.absent.add(name)
        return roles

    def present(self) -> list[Variable]:
        """The variables that all granules have."""
        return [variable for variable in self.variables if variable.name not in self.absent]

    def attrs(self, granules: Sequence[Granule]) -> dict[str, Any]:
        """Global attributes that say what was chosen."""
        return {
            "product": granules[0].product,
            "releases": json.dumps(sorted({granule.release for granule in granules})),
            "flag_policy": self.flag_policy,
            "tb_policy": self.tb_policy,
            "exclude_surface": json.dumps(list(self.exclude_surface)),
            "absent_variables": json.dumps(sorted(self.absent)),
        }
