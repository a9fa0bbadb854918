"""SMAP granules as bytes: HDF5 files with the products' groups, fields and attributes (``data/smap_fields.yaml``).

A file is made from a template in memory that holds all names and attributes; chunks that nothing is written to take no room and
read as fill values. (In real files the unseen cells are stored, compressed.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

import h5py
import numpy as np
from numpy.typing import NDArray

from smnb.grids import M36, EaseGrid, EaseWindow
from smnb.loaders.smap import seconds_to_utc
from smnb_sandbox.files import table
from smnb_sandbox.regions import SMAP_EPOCH, SmapPass, smap_clock
from smnb_sandbox.smap_sensors import FILL, Cells, positions

RELEASE = "R18290"

#: Fill value by type; strings have none.
FILLS = {"f4": np.float32(-9999.0), "f8": np.float64(-9999.0), "u2": np.uint16(65534), "u1": np.uint8(254)}


@dataclass(frozen=True)
class Field:
    """One dataset of a granule."""

    name: str
    dtype: str
    long_name: str
    units: str = ""
    valid: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()  # meaning of each bit, from bit 0; an empty one is not used
    classes: int = 0  # length of a third dimension
    fill: bool = True

    def attributes(self) -> dict[str, object]:
        """Attributes as the real files have them: fixed-length strings and scalars of the dataset's type."""
        result: dict[str, object] = {"long_name": np.bytes_(self.long_name.encode("ascii"))}
        if self.units:
            result["units"] = np.bytes_(self.units.encode("ascii"))
        if self.valid is not None:
            result["valid_min"], result["valid_max"] = (np.dtype(self.dtype).type(v) for v in self.valid)
        if self.flags:
            bits = [(1 << bit, name) for bit, name in enumerate(self.flags) if name]
            result["flag_masks"] = np.bytes_(", ".join(f"{mask}s" for mask, _ in bits))
            result["flag_meanings"] = np.bytes_(" ".join(name for _, name in bits))
        if self.fill and self.dtype in FILLS:
            result["_FillValue"] = FILLS[self.dtype]
        return result


_BITS = {"": (), **table("smap_fields")["flags"]}
_FIELDS: dict[str, tuple[Field, ...]] = {
    part: tuple(Field(**row | {"flags": _BITS[row.get("flags", "")]}) for row in table("smap_fields")[part])
    for part in ("passive", "sentinel1", "sentinel1_3km")
}
PASSIVE, S1_1KM = _FIELDS["passive"], _FIELDS["sentinel1"]  # fields of SPL2SMP, and of the groups of SPL2SMAP_S
S1_3KM = S1_1KM + _FIELDS["sentinel1_3km"]

#: Second names of the same datasets (hard links): option 3, the dual-channel algorithm, is the product's own choice.
L2_LINKS = {f"{name}_option3": name for name in ("soil_moisture", "retrieval_qual_flag", "vegetation_opacity")}
L3_LINKS = {f"{name}_dca": name for name in ("soil_moisture", "retrieval_qual_flag", "vegetation_opacity")} | {
    f"{name}_{option}": name for name in ("albedo", "roughness_coefficient") for option in ("dca", "scah", "scav")
}
_L3_OPTIONS = {"_option1": "_scah", "_option2": "_scav"}


def l3_name(name: str) -> str:
    """Name in the Level-3 products of a field of `PASSIVE`.

    >>> l3_name("soil_moisture_option2"), l3_name("albedo")
    ('soil_moisture_scav', 'albedo')
    """
    for suffix, other in _L3_OPTIONS.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix) + other
    return name


_AM, _PM, _L2 = "Soil_Moisture_Retrieval_Data_AM", "Soil_Moisture_Retrieval_Data_PM", "Soil_Moisture_Retrieval_Data"
_DAILY = tuple(field for field in PASSIVE if field.name != "sand_fraction")  # fields of the daily products
_GZIP = {"compression": "gzip", "compression_opts": 2, "shuffle": True}


def _file(image: bytes | None = None) -> h5py.File:
    """A file in memory: new, or with the content of an image."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(block_size=1 << 16, backing_store=False)
    # headers and chunk indices of HDF5 1.10 take a quarter of the room of the oldest
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_LATEST)
    if image is None:
        create = h5py.h5p.create(h5py.h5p.FILE_CREATE)
        create.set_obj_track_times(False)  # else the root group holds the time of writing
        return h5py.File(h5py.h5f.create(b"smap.h5", h5py.h5f.ACC_TRUNC, fcpl=create, fapl=access))
    access.set_file_image(image)
    return h5py.File(h5py.h5f.open(b"smap.h5", h5py.h5f.ACC_RDWR, fapl=access))


def _image(file: h5py.File) -> bytes:
    file.flush()
    image = bytes(file.id.get_file_image())
    file.close()
    return image


def _create(
    group: h5py.Group, field: Field, name: str, shape: Sequence[int], chunks: Sequence[int], *, growing: bool = False
) -> None:
    """Create an empty dataset with its attributes."""
    lead, classes = tuple(shape), (field.classes,) if field.classes else ()
    dataset = group.create_dataset(
        name,
        lead + classes,
        dtype=field.dtype,
        chunks=tuple(chunks) + classes,
        fillvalue=FILLS.get(field.dtype),
        maxshape=(None, *lead[1:], *classes) if growing else None,
        **_GZIP,
    )
    for key, value in field.attributes().items():
        dataset.attrs[key] = value


def _write(group: h5py.Group, name: str, values: NDArray, start: Sequence[int]) -> None:
    """Write a block of a dataset; h5py's own way takes four times as long, which a thousand files of fifty fields feel."""
    dataset = h5py.h5d.open(group.id, name.encode("ascii"))
    values = np.ascontiguousarray(values)
    space = dataset.get_space()
    space.select_hyperslab((*start, *(0,) * (values.ndim - len(start))), values.shape)
    dataset.write(h5py.h5s.create_simple(values.shape), space, values)


def _metadata(file: h5py.File, product: str) -> None:
    """The groups of Metadata that say what a file is; a number stands for so many blanks, to be written over."""
    short, version, title = table("smap_fields")["products"][product]
    file.attrs["synthetic"] = np.int32(1)
    for name, attributes in table("smap_fields")["metadata"].items():
        if name == "OrbitMeasuredLocation" and product != "SPL2SMP":
            continue
        group = file.require_group(f"Metadata/{name}")
        for key, value in attributes.items():
            text = " " * value if isinstance(value, int) else value
            text = text.format(release=RELEASE, version=version, short=short, product=product, title=title)
            group.attrs[key] = np.bytes_(text)


def _say(file: h5py.File, group: str, **attributes: str) -> None:
    """Change text attributes of a group of Metadata within their room."""
    for key, value in attributes.items():
        file[f"Metadata/{group}"].attrs.modify(key, np.bytes_(value))


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def pass_cells(one: SmapPass, seen: Cells, known: Cells, window: EaseWindow) -> Cells:
    """Every field of `PASSIVE` for one pass in a window, (row, col), of what it saw and the ancillary data."""
    position = positions(window)
    zero = np.zeros(window.shape, dtype=np.float32)
    times = [_iso(SMAP_EPOCH + timedelta(seconds=s)).encode() for s in one.seconds.ravel()]
    same = ("albedo", "clay_fraction", "sand_fraction", "landcover_class")
    cells: Cells = {
        **position,
        **{f"{name}_centroid": position[name] for name in ("latitude", "longitude")},
        "tb_time_seconds": smap_clock(one.seconds),
        "tb_time_utc": np.array(times, dtype="S24").reshape(window.shape),
        "boresight_incidence": zero + np.float32(40.0),
        **{name: known[name] for name in same},
        "roughness_coefficient": known["roughness"],
        "bulk_density": 2.65 * (1.0 - known["porosity"]),
        "landcover_class_fraction": known["landcover_fraction"],
        **{f"{name}_water_body_fraction": known["water_fraction"] for name in ("static", "radar")},
        **{f"surface_water_fraction_mb_{p}": known["water_fraction"] for p in "hv"},
        "grid_surface_status": known["water_fraction"] > 0.5,
        "freeze_thaw_fraction": seen["frozen"],
        "soil_moisture_error": zero + FILL,
        **{f"tb_{p}_corrected": zero for p in "34"},
        **{f"tb_qual_flag_{p}": zero for p in "34hv"},
    }
    names = {field.name for field in PASSIVE}
    return cells | {name: values for name, values in seen.items() if name in names}


@cache
def _level2_template() -> bytes:
    with _file() as file:
        group = file.create_group(_L2)
        for field in PASSIVE:
            _create(group, field, field.name, (0,), (128,), growing=True)
        for name, target in L2_LINKS.items():
            group[name] = group[target]
        _metadata(file, "SPL2SMP")
        return _image(file)


def level2_granule(name: str, parts: Sequence[tuple[Cells, NDArray[np.bool_]]], orbit: int, direction: str) -> bytes:
    """An SPL2SMP half orbit: one-dimensional arrays of the cells that were seen, of all regions (`pass_cells` of each)."""
    file = _file(_level2_template())
    group = file[_L2]
    for field in PASSIVE:
        values = np.concatenate([cells[field.name][seen] for cells, seen in parts])
        h5py.h5d.open(group.id, field.name.encode("ascii")).set_extent(values.shape)
        _write(group, field.name, _packed(field, values), (0,))
    seconds = np.concatenate([cells["tb_time_seconds"][seen] for cells, seen in parts])
    _range(file, name, seconds)
    words = {"A": "Ascending", "D": "Descending"}
    _say(file, "OrbitMeasuredLocation", revNumber=str(orbit), orbitDirection=words[direction])
    return _image(file)


def _range(file: h5py.File, name: str, seconds: NDArray) -> None:
    _say(file, "DatasetIdentification", fileName=name.rpartition("/")[2])
    if seconds.size:
        ends = seconds_to_utc(np.array([seconds.min(), seconds.max()])).astype("datetime64[us]")
        begin, end = (_iso(time.item()) for time in ends)
        _say(file, "Extent", rangeBeginningDateTime=begin, rangeEndingDateTime=end)


def _of_grid(field: Field, grid: EaseGrid) -> Field:
    """A field whose attributes speak of another grid than that of 36 km."""
    if grid == M36:
        return field
    last = {"EASE_row_index": grid.n_rows - 1, "EASE_column_index": grid.n_cols - 1}.get(field.name)
    size = f"{round(grid.cell / 1000.0)}"
    return replace(
        field,
        long_name=field.long_name.replace("36 km", f"{size} km"),
        valid=(0, last) if last else field.valid,
        flags=tuple(flag.replace("36_km", f"{size}_km") for flag in field.flags),
    )


@cache
def _level3_template(grid: EaseGrid) -> bytes:
    size = grid.cells_across(M36)
    # none of the regions' 36 km cells lie across two chunks; of the many chunks of 9 km cells only a growing index is small
    chunks, growing = ((78, 241), False) if size == 1 else ((40, 40), True)
    product = "SPL3SMP" if size == 1 else "SPL3SMP_E"
    with _file() as file:
        for group_name, suffix in ((_AM, ""), (_PM, "_pm")):
            group = file.create_group(group_name)
            for field in (_of_grid(field, grid) for field in _DAILY):
                _create(group, field, l3_name(field.name) + suffix, grid.shape, chunks, growing=growing)
            for name, target in L3_LINKS.items():
                group[name + suffix] = group[target + suffix]
        _metadata(file, product)
        return _image(file)


def level3_granule(
    name: str, grid: EaseGrid, parts: Sequence[tuple[EaseWindow, bool, Cells, NDArray[np.bool_]]]
) -> bytes:
    """An SPL3SMP or SPL3SMP_E day (`M36` or `M09`): global arrays with what passes saw, the later over the earlier.

    Parts are of each pass over a region: where, whether in the evening, the cells, and which were seen.
    """
    file = _file(_level3_template(grid))
    merged: dict[tuple[EaseWindow, bool], tuple[Cells, NDArray[np.bool_]]] = {}
    for window, evening, cells, seen in parts:
        if (window, evening) in merged:
            before, seen_before = merged[window, evening]
            cells = {n: _choose(seen, values, before[n]) for n, values in cells.items()}
            seen = seen | seen_before
        merged[window, evening] = cells, seen
    for (window, evening), (cells, seen) in merged.items():
        group, suffix = (file[_PM], "_pm") if evening else (file[_AM], "")
        for field in _DAILY:
            if field.name not in table("smap_fields")["left_empty"]:
                values = _packed(field, _choose(seen, cells[field.name], FILLS[field.dtype]))
                _write(group, l3_name(field.name) + suffix, values, (window.row_start, window.col_start))
    _range(file, name, np.concatenate([c["tb_time_seconds"][s] for c, s in merged.values()] or [np.empty(0)]))
    return _image(file)


def _choose(where: NDArray[np.bool_], yes: NDArray, no: NDArray | object) -> NDArray:
    return np.where(where if np.ndim(yes) == 2 else where[..., None], yes, no)


def scene_granule(name: str, fields: Cells, fields_1km: Cells, times: tuple[datetime, datetime]) -> bytes:
    """An SPL2SMAP_S scene: rectangles of 3 km and 1 km cells; `times` are those of the SMAP and the Sentinel-1 pass."""
    file = _file(_scene_template(fields["soil_moisture"].shape))
    for values, schema, suffix in ((fields, S1_3KM, "_3km"), (fields_1km, S1_1KM, "_1km")):
        for field in schema:
            if field.name in values:
                _write(file[f"{_L2}{suffix}"], field.name + suffix, _packed(field, values[field.name]), (0, 0))
    _say(file, "DatasetIdentification", fileName=name.rpartition("/")[2])
    begin, end = sorted(times)
    _say(file, "Extent", rangeBeginningDateTime=_iso(begin), rangeEndingDateTime=_iso(end))
    return _image(file)


@cache
def _scene_template(shape: tuple[int, int]) -> bytes:
    with _file() as file:
        for schema, suffix, size in ((S1_3KM, "_3km", 1), (S1_1KM, "_1km", 3)):
            group = file.create_group(f"{_L2}{suffix}")
            extent = tuple(size * n for n in shape)
            for field in schema:
                _create(group, field, field.name + suffix, extent, extent)
        _metadata(file, "SPL2SMAP_S")
        return _image(file)


def _packed(field: Field, values: NDArray) -> NDArray:
    """Values in the field's type, floats to one part in a thousand (kelvins in eight thousand): noise does not pack."""
    values = values.astype(field.dtype)
    if field.dtype != "f4" or field.name.startswith(("latitude", "longitude")):
        return values
    bits = 11 if field.units.startswith("Kelvin") else 14  # of the 23 of the mantissa
    half, keep = np.uint32(1 << (bits - 1)), np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)
    return np.where(values == FILL, values, ((values.view(np.uint32) + half) & keep).view(np.float32))
