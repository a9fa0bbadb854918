"""Names, types, fill values and attributes of the SMAP products that the sandbox writes, transcribed from real files.

The passive fields are those of an SPL2SMP granule of release R18290; the Level-3 products have the same with names of their
own (``_dca``, ``_scah``, ``_scav`` for the options, ``_pm`` in the evening group). The fields of SPL2SMAP_S are those that
public readers of it name; their attributes follow the passive ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from smnb_sandbox.tables import table

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
    flags: tuple[str, ...] = field(default=(), repr=False)
    """Meaning of each bit, from bit 0; an empty one is not used."""
    classes: int = 0
    """Length of a third dimension."""
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


def _read_fields() -> dict[str, tuple[Field, ...]]:
    tables = table("smap_fields")
    flags = {"": (), **tables["flags"]}
    return {
        part: tuple(Field(**row | {"flags": flags[row.get("flags", "")]}) for row in tables[part])
        for part in ("passive", "sentinel1", "sentinel1_3km")
    }


_FIELDS = _read_fields()
#: Fields of SPL2SMP, and of the groups of SPL2SMAP_S.
PASSIVE, S1_1KM = _FIELDS["passive"], _FIELDS["sentinel1"]
S1_3KM = S1_1KM + _FIELDS["sentinel1_3km"]

#: Second names of the same datasets (hard links): option 3, the dual-channel algorithm, is the product's own choice.
L2_LINKS = {f"{name}_option3": name for name in ("soil_moisture", "retrieval_qual_flag", "vegetation_opacity")}
L3_LINKS = {f"{name}_dca": name for name in ("soil_moisture", "retrieval_qual_flag", "vegetation_opacity")} | {
    f"{name}_{option}": name for name in ("albedo", "roughness_coefficient") for option in ("dca", "scah", "scav")
}
_L3_OPTIONS = {"_option1": "_scah", "_option2": "_scav"}


def l3_name(name: str) -> str:
    """Name in the Level-3 products of a field of `PASSIVE`.

    Examples
    --------
    >>> l3_name("soil_moisture_option2"), l3_name("albedo")
    ('soil_moisture_scav', 'albedo')
    """
    for suffix, other in _L3_OPTIONS.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix) + other
    return name
