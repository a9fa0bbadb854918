"""What the SMAP loaders read: our names, the products' names, units, and the ranges outside which a value is masked.

The ranges are ours, not the files' ``valid_min`` and ``valid_max``, which do not hold for the files they are in: a granule of
R18290 has soil moisture up to 0.73 beside a ``valid_max`` of 0.5, a DCA roughness of 3.8 beside 1.0, and R14010 limits
``tb_time_seconds`` to 1e6. Ranges include rounding (0.02 is stored as 0.01999998).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from smnb.contract import VARIABLES

#: Options of the passive products' soil moisture.
OPTIONS = ("baseline", "sca-h", "sca-v", "dca")
#: Suffixes of each algorithm's fields, newer and older releases.
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "sca-h": ("_scah", "_option1"),
    "sca-v": ("_scav", "_option2"),
    "dca": ("_dca", "_option3"),
}
#: From R18 (data version 5 of SPL3SMP_E, 8 of SPL3SMP and SPL2SMP, October 2021) the baseline is DCA; before, SCA-V.
_FIRST_RELEASE_OF_DCA = 18


def baseline_algorithm(release: str) -> str:
    """The algorithm behind the field ``soil_moisture`` of a release.

    Examples
    --------
    >>> baseline_algorithm("R18290"), baseline_algorithm("R14010")
    ('dca', 'sca-v')
    """
    return "dca" if int(release[1:3]) >= _FIRST_RELEASE_OF_DCA else "sca-v"


@dataclass(frozen=True)
class Variable:
    """One variable of a loader's Dataset."""

    name: str
    natives: Mapping[str, tuple[str, ...]]
    """The products' names, best first, by label along `dim` ("" where there is none)."""
    units: str = "1"
    long_name: str = ""
    kind: str = "float"
    """"float", "flag" (uint16 bits), "class" (uint8) or "time" (seconds to datetime64)."""
    valid: tuple[float, float] = (0.0, 1.0)
    """In native units."""
    native_units: tuple[str, ...] = ()
    """Accepted where the file states units; none: not checked."""
    dim: str = ""
    by_algorithm: bool = False
    """Whether each algorithm has its own."""
    screened: bool = False
    """Whether the policy for soil moisture masks it too."""

    @property
    def dtype(self) -> str:
        """Data type it is read as."""
        return {"float": "float32", "flag": "uint16", "class": "uint8", "time": "float64"}[self.kind]

    @property
    def fill(self) -> float:
        """The products' fill value."""
        return {"float": -9999.0, "flag": 65534, "class": 254, "time": -9999.0}[self.kind]


def _canonical(name: str, *natives: str, **more: object) -> Variable:
    """A variable of the contract, with the contract's range unless another is given."""
    spec = VARIABLES[name]
    more = {"valid": spec.valid_range, **more}
    return Variable(name, {"": natives}, spec.units, str(more.pop("long_name", spec.long_name)), **more)  # type: ignore[arg-type]


def _by_name(variables: Iterable[Variable]) -> dict[str, Variable]:
    return {variable.name: variable for variable in variables}


_VOLUME = ("cm**3/cm**3", "m**3/m**3", "m3 m-3", "m3/m3", "m**3 m**-3")
_KELVIN = ("Kelvin", "Kelvins", "kelvin", "K")
_DEGREES = ("degrees", "degree")
_SURFACE_TEMPERATURE = _canonical("surface_temperature", "surface_temperature", native_units=_KELVIN)
# R14010 says kg/m**3 for the same number
_VEGETATION = _canonical(
    "vegetation_water_content", "vegetation_water_content", native_units=("kg/m**2", "kg/m**3", "kg m-2", "kg/m2")
)
#: 0.0199: the least retrieval, 0.02, with its rounding.
_MOISTURE_RANGE = (0.0199, 1.0)
_SHARED = (
    _SURFACE_TEMPERATURE,
    _VEGETATION,
    _canonical("clay_fraction", "clay_fraction"),
    _canonical("sand_fraction", "sand_fraction"),
    Variable("bulk_density", {"": ("bulk_density",)}, "g cm-3", "soil bulk density", valid=(0.0, 2.65)),
    Variable("albedo", {"": ("albedo",)}, "1", "single-scattering albedo of the vegetation", by_algorithm=True),
    Variable(
        "vegetation_opacity",
        {"": ("vegetation_opacity",)},
        "1",
        "optical depth of the vegetation along the slant",
        valid=(0.0, 10.0),
        by_algorithm=True,
    ),
    Variable("landcover_class", {"": ("landcover_class",)}, "1", "dominant IGBP land cover class", "class"),
)
_FLAGS = (
    Variable("retrieval_qual_flag", {"": ("retrieval_qual_flag",)}, "1", "quality of the retrieval", "flag"),
    Variable("surface_flag", {"": ("surface_flag",)}, "1", "conditions of the surface", "flag"),
)

#: SPL2SMP, SPL2SMP_E, SPL3SMP, SPL3SMP_E.
PASSIVE: dict[str, Variable] = _by_name(
    (
        _canonical("soil_moisture", "soil_moisture", valid=_MOISTURE_RANGE, native_units=_VOLUME, screened=True),
        Variable(
            "tb",
            {"1.41H": ("tb_h_corrected",), "1.41V": ("tb_v_corrected",)},
            "K",
            "brightness temperature, corrected for water bodies",
            valid=(0.0, 330.0),
            native_units=_KELVIN,
            dim="channel",
        ),
        *_SHARED,
        Variable(
            "roughness",
            {"": ("roughness_coefficient",)},
            "1",
            "roughness coefficient h",
            valid=(0.0, 10.0),
            by_algorithm=True,
        ),
        Variable("static_water_body_fraction", {"": ("static_water_body_fraction",)}, "1", "fraction of static water"),
        Variable(
            "boresight_incidence",
            {"": ("boresight_incidence",)},
            "degree",
            "incidence angle of the boresight",
            valid=(0.0, 90.0),
            native_units=_DEGREES,
        ),
        Variable(
            "observation_time", {"": ("tb_time_seconds",)}, "", "mean time of the footprints in the cell, UTC", "time"
        ),
        *_FLAGS,
        Variable("tb_qual_flag_h", {"": ("tb_qual_flag_h",)}, "1", "quality of tb, horizontal", "flag"),
        Variable("tb_qual_flag_v", {"": ("tb_qual_flag_v",)}, "1", "quality of tb, vertical", "flag"),
    )
)

#: SPL2SMAP_S; every name carries the suffix _3km or _1km.
ACTIVE_PASSIVE: dict[str, Variable] = _by_name(
    (
        _canonical("soil_moisture", "soil_moisture", valid=_MOISTURE_RANGE, native_units=_VOLUME, screened=True),
        Variable(
            "soil_moisture_std_dev",
            {"": ("soil_moisture_std_dev",)},
            "m3 m-3",
            "standard deviation of soil moisture",
            native_units=_VOLUME,
            screened=True,
        ),
        Variable(
            "tb",
            {"1.41V": ("tb_v_disaggregated",)},
            "K",
            "disaggregated brightness temperature",
            valid=(0.0, 330.0),
            native_units=_KELVIN,
            dim="channel",
        ),
        # linear power in the files: -60 to 30 dB
        Variable(
            "sigma0",
            {"VV": ("sigma0_vv_aggregated",), "VH": ("sigma0_vh_aggregated",)},
            "dB",
            "Sentinel-1 backscatter, averaged as power",
            valid=(1e-6, 1e3),
            dim="polarization",
        ),
        _canonical(
            "incidence_angle",
            "sigma0_incidence_angle",
            long_name="incidence angle of Sentinel-1",
            native_units=_DEGREES,
        ),
        *_SHARED,
        Variable(
            "bare_soil_roughness",
            {"": ("bare_soil_roughness_retrieved",)},
            "",
            "bare soil roughness",
            valid=(0.0, 10.0),
        ),
        Variable("water_body_fraction", {"": ("water_body_fraction",)}, "1", "fraction of water"),
        Variable(
            "overpass_time_difference",
            {"": ("SMAP_Sentinel-1_overpass_timediff_hr", "SMAP_Sentinel_overpass_timediff_hr")},
            "h",
            "time between the overpasses of SMAP and Sentinel-1",
            valid=(-240.0, 240.0),
        ),
        Variable(
            "observation_time", {"": ("spacecraft_overpass_time_seconds",)}, "", "time of SMAP's overpass, UTC", "time"
        ),
        *_FLAGS,
        Variable(
            "tb_qual_flag_v", {"": ("disaggregated_tb_v_qual_flag",)}, "1", "quality of the disaggregated tb", "flag"
        ),
    )
)

#: SPL3SMP_E cut to lists of points, with no flags.
POINT_LIST: dict[str, Variable] = _by_name(
    (_canonical("soil_moisture", "soil_moisture", valid=_MOISTURE_RANGE, native_units=_VOLUME),)
)
