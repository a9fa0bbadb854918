"""Names, types, fill values and attributes of the SMAP products that the sandbox writes, transcribed from real files.

The passive fields are those of an SPL2SMP granule of release R18290; the Level-3 products have the same with names of their
own (``_dca``, ``_scah``, ``_scav`` for the options, ``_pm`` in the evening group). The fields of SPL2SMAP_S are those that
public readers of it name; their attributes follow the passive ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

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


_CELL = "within the 36 km grid cell."
_TIME = (
    "Arithmetic average of the acquisition time of all of the brightness temperature footprints with a center that falls "
    "within the EASE grid cell in"
)
_QUALITY = (
    "Soil_moisture_retrieval_recommended",
    "Soil_moisture_retrieval_attempted",
    "Soil_moisture_retrieval_success",
    "FT_retrieval_success",
)
_SURFACE = (
    "36_km_static_water_body",
    "36_km_radar_water_body_detection",
    "36_km_coastal_proximity",
    "36_km_urban_area",
    "36_km_precipitation",
    "36_km_snow_or_ice",
    "36_km_permanent_snow_or_ice",
    "36_km_radiometer_frozen_ground",
    "36_km_model_frozen_ground",
    "36_km_mountainous_terrain",
    "36_km_dense_vegetation",
    "36_km_nadir_region",
)


def _tb_flags(who: str, *, stokes: bool) -> tuple[str, ...]:
    bits = (
        "quality",
        "range",
        "RFI_detection",
        "RFI_correction",
        "NEDT",
        "direct_sun_correction",
        "reflected_sun_correction",
        "reflected_moon_correction",
        "direct_galaxy_correction",
        "reflected_galaxy_correction",
        "atmosphere_correction",
        "" if stokes else "Faraday_rotation_correction",
        "null_value_bit",
        "" if stokes else "water_correction",
        "RFI_check",
        "RFI_clean",
    )
    return tuple(f"{who}_{bit}" if bit else "" for bit in bits)


def _tb(name: str, polarization: str, when: str) -> Field:
    text = f"{polarization} polarization brightness temperature in 36 km Earth grid cell {when} for the presence of water bodies."
    return Field(name, "f4", text, "Kelvin", (0.0, 330.0))


def _stokes(number: int, word: str) -> Field:
    text = f"{word} stokes parameter for each 36 km grid cell calculated with an adjustment for the presence of water bodies"
    return Field(f"tb_{number}_corrected", "f4", text, "Kelvin", (-50.0, 50.0))


def _tb_quality(name: str, of: str, who: str, *, stokes: bool) -> Field:
    text = f"Bit flags that represent the quality of the {of} brightness temperature within each grid cell"
    return Field(f"tb_qual_flag_{name}", "u2", text, flags=_tb_flags(who, stokes=stokes))


def _quality(suffix: str = "") -> Field:
    text = (
        "Bit flags that record the conditions and the quality of the retrieval algorithms that generate soil moisture within "
        "each grid cell"
    )
    return Field(f"retrieval_qual_flag{suffix}", "u2", text, flags=_QUALITY)


def _moisture(suffix: str = "") -> Field:
    text = "Representative soil moisture measurement for the Earth based grid cell."
    return Field(f"soil_moisture{suffix}", "f4", text, "cm**3/cm**3", (0.02, 0.5))


def _opacity(suffix: str = "") -> Field:
    text = "The measured opacity of the vegetation in the grid cell."
    return Field(f"vegetation_opacity{suffix}", "f4", text, valid=(0.0, 10.0))


def _share(name: str, text: str) -> Field:
    return Field(name, "f4", text, valid=(0.0, 1.0))


#: Fields of SPL2SMP. Latitude and longitude have no fill value there; in Level 3 they do.
PASSIVE: tuple[Field, ...] = (
    Field(
        "EASE_column_index",
        "u2",
        "The column index of the 36 km EASE grid cell that contains the associated data.",
        valid=(0, 963),
    ),
    Field(
        "EASE_row_index",
        "u2",
        "The row index of the 36 km EASE grid cell that contains the associated data.",
        valid=(0, 405),
    ),
    _share("albedo", "Diffuse reflecting power of the Earth&apos;s surface within the grid cell."),
    Field(
        "boresight_incidence",
        "f4",
        "Representative angle between the antenna boresight vector and the normal to the "
        "Earth&apos;s surface for all footprints within the cell.",
        "degrees",
        (0.0, 90.0),
    ),
    Field(
        "bulk_density",
        "f4",
        f"The aggregated bulk density, as used in the soil moisture retrieval, {_CELL}",
        valid=(0.0, 2.65),
    ),
    _share("clay_fraction", f"The aggregated clay fraction, as used in the soil moisture retrieval, {_CELL}"),
    _share(
        "freeze_thaw_fraction",
        "Fraction of the 36 km grid cell that is denoted as frozen.  Based on binary flag that "
        "specifies freeze thaw conditions in each of the component 3 km grid cells.",
    ),
    Field("grid_surface_status", "u2", "Indicates if the grid point lies on land (0) or water (1).", valid=(0, 1)),
    Field(
        "landcover_class",
        "u1",
        "An enumerated type that specifies the most common landcover class in the grid cell based "
        "on the IGBP landcover map.",
        classes=3,
    ),
    Field(
        "landcover_class_fraction",
        "f4",
        "The fraction of the grid cell that contains the most common land cover in that "
        "area based on the IGBP landcover map.",
        valid=(0.0, 1.0),
        classes=3,
    ),
    Field("latitude", "f4", "Latitude of the center of the Earth based grid cell.", "degrees_north", fill=False),
    Field(
        "latitude_centroid",
        "f4",
        "Weighted average of the latitude of the center of the  brightness temperature "
        "footprints that fall within the EASE grid cell.",
        "degrees",
        (-90.0, 90.0),
    ),
    Field("longitude", "f4", "Longitude of the center of the Earth based grid cell.", "degrees_east", fill=False),
    Field(
        "longitude_centroid",
        "f4",
        "Weighted average of the longitude of the center of the brightness temperature "
        "footprints that fall within the EASE grid cell.",
        "degrees",
        (-180.0, 179.999),
    ),
    _share(
        "radar_water_body_fraction",
        "The fraction of the area of the 36 km grid cell that is covered by water based on "
        "the radar detection algorithm.",
    ),
    _quality(),
    _quality("_option1"),
    _quality("_option2"),
    _share("roughness_coefficient", f"A unitless value that is indicative of bare soil roughness {_CELL}"),
    _share("sand_fraction", f"The aggregated sand fraction, as used in the soil moisture retrieval, {_CELL}"),
    _moisture(),
    Field(
        "soil_moisture_error",
        "f4",
        "Net uncertainty measure of soil moisture measure for the Earth based grid cell. - Calculation method is TBD.",
        "cm**3/cm**3",
        (0.0, 0.2),
    ),
    _moisture("_option1"),
    _moisture("_option2"),
    _share(
        "static_water_body_fraction",
        "The fraction of the area of the 36 km grid cell that is covered by static water "
        "based on a Digital Elevation Map.",
    ),
    Field(
        "surface_flag", "u2", "Bit flags that record ambient surface conditions within each grid cell", flags=_SURFACE
    ),
    Field(
        "surface_temperature", "f4", "Temperature at land surface based on GMAO GEOS-5 data.", "Kelvins", (0.0, 350.0)
    ),
    _share(
        "surface_water_fraction_mb_h",
        "Gain weighted fraction of static water within the radiometer horizontal "
        "polarization brightness temperature antenna pattern in 36 km Earth grid cell.",
    ),
    _share(
        "surface_water_fraction_mb_v",
        "Gain weighted fraction of static water within the radiometer vertical "
        "polarization brightness temperature antenna pattern in 36 km Earth grid cell.",
    ),
    _stokes(3, "Third"),
    _stokes(4, "Fourth"),
    _tb("tb_h_corrected", "Horizontal", "after adjustment"),
    _tb("tb_h_uncorrected", "Horizontal", "before adjustment"),
    _tb_quality("3", "3rd Stokes", "3rd_Stokes", stokes=True),
    _tb_quality("4", "4th Stokes", "4th_Stokes", stokes=True),
    _tb_quality("h", "horizontal polarization", "Horizontal_polarization", stokes=False),
    _tb_quality("v", "vertical polarization", "Vertical_polarization", stokes=False),
    Field(
        "tb_time_seconds",
        "f8",
        f"{_TIME} seconds since noon on January 1, 2000 UTC.",
        "seconds",
        (-999999.9, 940000000.0),
    ),
    Field("tb_time_utc", "S24", f"{_TIME} UTC."),
    _tb("tb_v_corrected", "Vertical", "after adjustment"),
    _tb("tb_v_uncorrected", "Vertical", "before adjustment"),
    _opacity(),
    _opacity("_option1"),
    _opacity("_option2"),
    Field(
        "vegetation_water_content",
        "f4",
        "Representative measure of water in the vegetation within the 36 km grid cell.",
        "kg/m**2",
        (0.0, 20.0),
    ),
)

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


_S1_SURFACE = (
    "static_water_body",
    "",
    "coastal_proximity",
    "urban_area",
    "precipitation",
    "snow_or_ice",
    "permanent_snow_or_ice",
    "radiometer_frozen_ground",
    "surface_temperature_frozen_ground",
    "mountainous_terrain",
    "dense_vegetation",
    "edge_cell",
    "anomalous_sigma0",
)
_S1_SIGMA = "Sentinel-1 {} normalized radar cross-section, linear power, aggregated to the grid cell."
_S1_COMMON: tuple[Field, ...] = (
    Field(
        "EASE_column_index", "u2", "The column index of the EASE grid cell that contains the associated data, from 0."
    ),
    Field("EASE_row_index", "u2", "The row index of the EASE grid cell that contains the associated data, from 0."),
    _share("albedo", "Diffuse reflecting power of the Earth&apos;s surface within the grid cell."),
    Field("landcover_class", "u1", "The most common landcover class in the grid cell based on the IGBP landcover map."),
    Field("latitude", "f4", "Latitude of the center of the Earth based grid cell.", "degrees_north", (-90.0, 90.0)),
    Field(
        "longitude", "f4", "Longitude of the center of the Earth based grid cell.", "degrees_east", (-180.0, 179.999)
    ),
    _quality(),
    Field("sigma0_vh_aggregated", "f4", _S1_SIGMA.format("VH"), valid=(0.0, 10.0)),
    Field("sigma0_vv_aggregated", "f4", _S1_SIGMA.format("VV"), valid=(0.0, 10.0)),
    Field(
        "soil_moisture",
        "f4",
        "Representative soil moisture measurement for the Earth based grid cell, from the "
        "brightness temperature of the SMAP descending pass.",
        "cm**3/cm**3",
        (0.02, 0.65),
    ),
    Field(
        "surface_flag",
        "u2",
        "Bit flags that record ambient surface conditions within each grid cell",
        flags=_S1_SURFACE,
    ),
    Field(
        "tb_v_disaggregated",
        "f4",
        "Vertical polarization brightness temperature disaggregated to the grid cell.",
        "Kelvin",
        (0.0, 330.0),
    ),
    _opacity(),
    Field(
        "vegetation_water_content",
        "f4",
        "Representative measure of water in the vegetation within the grid cell.",
        "kg/m**2",
        (0.0, 20.0),
    ),
)

#: Fields of SPL2SMAP_S, 1 km group: those that a user of soil moisture needs.
S1_1KM: tuple[Field, ...] = _S1_COMMON
#: The 3 km group.
S1_3KM: tuple[Field, ...] = (
    *_S1_COMMON,
    Field(
        "SMAP_Sentinel-1_overpass_timediff_hr",
        "f4",
        "Time of the SMAP overpass less that of the Sentinel-1 overpass.",
        "hours",
        (-96.0, 96.0),
    ),
    _share(
        "bare_soil_roughness_retrieved",
        "A unitless value that is indicative of bare soil roughness within the grid cell.",
    ),
    Field(
        "disaggregated_tb_v_qual_flag",
        "u2",
        "Bit flags that represent the quality of the disaggregated brightness temperature; bit 0 clear is acceptable.",
        flags=("quality",),
    ),
    _quality("_apm"),
    Field("sigma0_incidence_angle", "f4", "Incidence angle of the Sentinel-1 radar.", "degrees", (0.0, 90.0)),
    Field(
        "soil_moisture_apm",
        "f4",
        "Representative soil moisture measurement for the Earth based grid cell, from the "
        "brightness temperature of the closest SMAP pass, AM or PM.",
        "cm**3/cm**3",
        (0.02, 0.65),
    ),
    Field("soil_moisture_std_dev", "f4", "Estimated standard deviation of soil_moisture.", "cm**3/cm**3", (0.0, 0.5)),
    Field(
        "spacecraft_overpass_time_seconds",
        "f8",
        "Time of the SMAP overpass in seconds since noon on January 1, 2000 UTC.",
        "seconds",
        (-999999.9, 940000000.0),
    ),
    Field(
        "surface_temperature", "f4", "Temperature at land surface based on GMAO GEOS-5 data.", "Kelvins", (0.0, 350.0)
    ),
    Field("tb_v_disaggregated_std", "f4", "Estimated standard deviation of tb_v_disaggregated.", "Kelvin", (0.0, 50.0)),
    _share("water_body_fraction", "The fraction of the area of the grid cell that is covered by water."),
)
