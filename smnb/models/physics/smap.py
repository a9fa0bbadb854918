"""The physical baseline: SMAP's retrieval algorithms on the fields of a SMAP passive product, an L2 granule's or an L3 day's.

What the product means by its fields was checked on the granule SMAP_L2_SM_P_02801_A_20150811T013002_R18290_001.h5. Taken
literally (nadir optical depth, 40 degrees), the single-channel retrievals differ from the product's own by +0.024 (H) and
+0.023 m3 m-3 (V), ubRMSD 0.0145 and 0.0140, R 0.982 and 0.985 over the recommended cells. The difference goes with the
optical depth (r 0.88 for V; clay -0.44, temperature 0.34, organic matter -0.07), and that is where its cause is:

- ``vegetation_opacity`` is the *slant* optical depth, tau / cos(incidence), not tau at nadir. Without any retrieval:
  in cells that are entirely open shrubland (IGBP 7), ``vegetation_opacity_option2 / vegetation_water_content`` is 0.1435,
  which times cos(40 deg) is 0.110, SMAP's b of that class. With it the bias is 1e-4 at most and ubRMSD 3e-5.
- The incidence angle is ``boresight_incidence`` of each cell, not 40 degrees: it removes the last 5e-5 (H) and 1e-4 (V).
- The upper bound of soil moisture is the porosity 1 - bulk_density / 2.65: all clipped cells of the product have it.
- ``surface_temperature`` is the effective temperature already: 1.007 times it costs +0.014 (V), 0.993 times it -0.014.
- The permittivity is Mironov 2009's whatever the organic content; Dobson's costs -0.024 (V). Roughness is exp(-h cos^2);
  exp(-h) costs +0.007. ``albedo`` is the single-channel algorithms', ``albedo_option3`` the dual-channel one's.
- Dual channel: Q = 0.1771 h with h of ``roughness_coefficient_option3``, N = 2, a prior on the slant optical depth
  (the single-channel algorithms') with weight 20 K; Q = 0 costs +0.036, a weight of 20 K on nadir optical depth +0.002.

With these, the three retrievals of that granule agree with the product's: R 1.0000 (to four digits), absolute bias below
1e-5, ubRMSD 3e-5 (H), 1e-5 (V) and 8e-5 m3 m-3 (dual channel).

O'Neill et al. 2021, SMAP Algorithm Theoretical Basis Document: Level 2 & 3 Soil Moisture (Passive) Data Products, JPL
D-66480.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnb.contract import FormatError, check_choice
from smnb.loaders.smap.fields import FLAG_FILL
from smnb.models.physics.dual_channel import retrieve_dual_channel
from smnb.models.physics.retrieval import RetrievalStatus, retrieve_single_channel

#: Method: its name in words, and the endings of its fields in the product (older and newer releases).
PHYSICAL_METHODS = {
    "sca-v": ("single channel, V", ("option2", "scav")),
    "sca-h": ("single channel, H", ("option1", "scah")),
    "dca": ("dual channel", ("option3", "dca")),
}
LOWER_BOUND = 0.02  # m3 m-3, the product's valid minimum
UPPER_BOUND = 0.65  # m3 m-3, where a product has no bulk density
PARTICLE_DENSITY = 2.65  # g cm-3, of quartz
MIXING_OF_ROUGHNESS = 0.1771  # Q / h of the dual-channel algorithm


@dataclass(frozen=True)
class PhysicalRetrieval:
    """Result of `retrieve_physical`; all arrays have the shape of the fields."""

    method: str
    soil_moisture: NDArray[Any]  # m3 m-3, NaN where not retrieved
    status: NDArray[np.uint8]  # `smnb.models.physics.RetrievalStatus`
    optical_depth: NDArray[Any]  # at nadir: retrieved by the dual-channel algorithm, given for the others
    product_soil_moisture: NDArray[Any]  # the product's own retrieval by the same method; NaN where it has none
    recommended: NDArray[np.bool_]
    """Whether the product recommends its own retrieval (bit 0 of its quality flag is clear)."""
    notes: tuple[str, ...] = ()  # which fields were used, and what was assumed


def retrieve_physical(
    fields: Mapping[str, Any], method: str = "sca-v", *, who: str = "retrieve_physical", workers: int | None = None
) -> PhysicalRetrieval:
    """Retrieve soil moisture from the brightness temperatures and ancillary fields of a SMAP passive product.

    `fields` are arrays of one shape by their names in the product, with or without ``_pm``, NaN where missing; `method` is one
    of `PHYSICAL_METHODS`. A `FormatError`, in the name of `who`, when a field that it needs is absent, or holds fills.
    """
    check_choice(who, "method", method, PHYSICAL_METHODS)
    source = _Fields(fields, who)
    angle = source.get("boresight_incidence")
    angle = np.where((angle >= 0.0) & (angle < 90.0), angle, np.nan)
    upper: Any = UPPER_BOUND
    if "bulk_density" in source:
        porosity = 1.0 - source.get("bulk_density") / PARTICLE_DENSITY
        upper = np.where(porosity > LOWER_BOUND, porosity, np.nan)
        source.notes.append(f"upper bound = porosity, 1 - bulk_density / {PARTICLE_DENSITY:g}")
    else:
        source.notes.append(f"upper bound {UPPER_BOUND:g} m3 m-3: the product has no bulk_density")
    common: dict[str, Any] = {name: source.get(name) for name in ("surface_temperature", "clay_fraction")}
    common |= {"incidence_deg": angle, "bounds": (LOWER_BOUND, upper), "return_status": True, "workers": workers}
    # the single-channel algorithms have one optical depth for H and V, which is also the dual-channel one's prior
    single = ("sca-h", "sca-v") if method == "sca-h" else ("sca-v", "sca-h")
    opacity = source.get(*(name for one in single for name in source.names("vegetation_opacity", one)))
    tau = opacity * np.cos(np.radians(angle))
    source.notes.append(f"optical depth at nadir = {source.last} x cos(incidence)")
    if method == "dca":
        roughness = source.get(*source.names("roughness_coefficient", method, base=False))
        source.notes.append(f"roughness h = {source.last}, polarisation mixing Q = {MIXING_OF_ROUGHNESS:g} h")
        moisture, tau, status = retrieve_dual_channel(
            source.get("tb_h_corrected"),
            source.get("tb_v_corrected"),
            roughness=roughness,
            albedo=source.get(*source.names("albedo", method, base=False)),
            prior_optical_depth=tau,
            polarization_mixing=MIXING_OF_ROUGHNESS * roughness,
            **common,
        )
    else:
        moisture, status = retrieve_single_channel(
            source.get(f"tb_{method[-1]}_corrected"),
            polarization=method[-1].upper(),
            optical_depth=tau,
            roughness=source.get("roughness_coefficient"),
            albedo=source.get("albedo"),
            **common,
        )
    product, flag = np.full(moisture.shape, np.nan), np.full(moisture.shape, np.nan)
    if any(name in source for name in source.names("soil_moisture", method)):
        product = source.get(*source.names("soil_moisture", method))
        source.notes.append(f"compared with {source.last}")
        flag = source.get(*source.names("retrieval_qual_flag", method))
        source.notes.append(f"recommended: bit 0 of {source.last} is clear")
    else:
        source.notes.append("the product has no retrieval by this method: nothing to compare with, nothing recommended")
    known = np.isfinite(flag) & (flag != FLAG_FILL)  # whose lowest bit is clear, as in a good retrieval
    recommended = known & (np.where(known, flag, 1.0).astype(np.int64) & 1 == 0)
    return PhysicalRetrieval(method, moisture, status, tau, product, recommended, tuple(source.notes))


class _Fields:
    """Look-up of fields whose names differ between releases; remembers what was used."""

    def __init__(self, fields: Mapping[str, Any], who: str) -> None:
        self.fields, self.who, self.last, self.notes = fields, who, "", []

    def __contains__(self, name: str) -> bool:
        return name in self.fields or f"{name}_pm" in self.fields

    def names(self, stem: str, method: str, *, base: bool = True) -> list[str]:
        """Possible names of a method's field; the last, without an ending, only where it is that method's."""
        named = [f"{stem}_{ending}" for ending in PHYSICAL_METHODS[method][1]]
        return [*named, stem] if base and not any(n in self for n in named) and self.baseline == method else named

    @cached_property
    def baseline(self) -> str:
        """The method of the fields without an ending, which repeat the fields of one method.

        It was SCA-V and is DCA since R18 (2021); a product that names no method is taken for an older one.
        """
        named = {m: [n for n in self.names("soil_moisture", m, base=False) if n in self] for m in PHYSICAL_METHODS}
        if not any(named.values()):
            return "sca-v"
        base = self.get("soil_moisture")
        same = (m for m, n in named.items() if n and np.array_equal(self.get(n[0]), base, equal_nan=True))
        return next(same, "")

    def get(self, *names: str) -> NDArray[np.float64]:
        """The first field of these names, as floats."""
        there = [name for stem in names for name in (stem, f"{stem}_pm") if name in self.fields]
        if not there:
            what, step = f"has no field {' or '.join(names)}", "Choose another method, or a product with this field"
            raise FormatError(self.who, what, got=sorted(map(str, self.fields)), next_step=step)
        self.last = there[0]
        values = np.asarray(self.fields[self.last]).astype(np.float64)
        if (values == -9999.0).any():
            raise FormatError(self.who, f"{self.last} holds the fill value", got=-9999.0, expected="NaN where missing")
        return values


def count_statuses(status: NDArray[np.uint8]) -> dict[str, int]:
    """Cells by what became of them, in words; those that did not occur are left out."""
    counts = np.bincount(np.asarray(status).ravel(), minlength=len(RetrievalStatus))
    return {s.name.lower().replace("_", " "): int(counts[s]) for s in RetrievalStatus if counts[s]}
