"""Microwave physics of soil and vegetation: permittivity, emission (Fresnel, roughness, tau-omega) and its inversion.

Pure functions on numbers or arrays that broadcast. float32 in gives float32 (complex64) out, anything else float64; torch
tensors in give differentiable tensors out. Angles are incidence angles in degrees from nadir, frequencies GHz,
temperatures K, soil moisture m3 m-3, texture mass fractions 0..1; reflectivity and emissivity are power ratios. NaN goes
through.
"""

from smnb.models.physics.dual_channel import retrieve_dual_channel
from smnb.models.physics.emission import (
    dobson_permittivity,
    fresnel_reflectivity,
    mironov_permittivity,
    rough_reflectivity,
    soil_emission_tb,
    tau_omega_tb,
    vegetation_optical_depth,
)
from smnb.models.physics.retrieval import RetrievalStatus, retrieve_single_channel

__all__ = [
    "RetrievalStatus",
    "dobson_permittivity",
    "fresnel_reflectivity",
    "mironov_permittivity",
    "retrieve_dual_channel",
    "retrieve_single_channel",
    "rough_reflectivity",
    "soil_emission_tb",
    "tau_omega_tb",
    "vegetation_optical_depth",
]
