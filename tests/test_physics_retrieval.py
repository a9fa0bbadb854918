"""Retrieval against brute force, SciPy's root finder and minimiser, SMRT, and the retrievals of a real SMAP granule."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from scipy.optimize import brentq, least_squares

from smnb.contract import FormatError, ParameterError
from smnb.loaders.smap import read_fields
from smnb.models.physics import (
    RetrievalStatus,
    dobson_permittivity,
    fresnel_reflectivity,
    mironov_permittivity,
    retrieve_dual_channel,
    retrieve_single_channel,
    rough_reflectivity,
    soil_emission_tb,
    tau_omega_tb,
)
from smnb.models.physics.smap import PHYSICAL_METHODS, count_statuses, retrieve_physical

SOIL = {"surface_temperature": 293.0, "clay_fraction": 0.2, "roughness": 0.13, "albedo": 0.05}


def world(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Cells with as wide a range of everything as SMAP's ancillary data have."""
    rng = np.random.default_rng(seed)
    low_high = {
        "sm": (0.02, 0.6),
        "clay": (0.0, 0.7),
        "sand": (0.1, 0.6),
        "ts": (273, 320),
        "h": (0, 0.4),
        "w": (0, 0.12),
    }
    cells = {name: rng.uniform(*limits, n) for name, limits in low_high.items()}
    return cells | {"tau": rng.uniform(0, 1.0, n), "q": rng.uniform(0, 0.2, n)}


def forward(c, *, sm=None, tau=None, angle=40.0, frequency=1.41, dielectric="mironov", canopy=None):
    return soil_emission_tb(
        c["sm"] if sm is None else sm,
        c["clay"],
        c["ts"],
        frequency_ghz=frequency,
        incidence_deg=angle,
        h=c["h"],
        q=c["q"],
        tau=c["tau"] if tau is None else tau,
        single_scattering_albedo=c["w"],
        sand_fraction=c["sand"],
        dielectric=dielectric,
        canopy_temperature=canopy,
    )


def inputs(c):
    return {
        "surface_temperature": c["ts"],
        "clay_fraction": c["clay"],
        "roughness": c["h"],
        "albedo": c["w"],
        "polarization_mixing": c["q"],
        "sand_fraction": c["sand"],
    }


# --- single channel ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dielectric", ["mironov", "dobson"])
@pytest.mark.parametrize("polarization", ["H", "V"])
def test_round_trip(polarization, dielectric):
    c = world(20_000)
    tb = forward(c, dielectric=dielectric)["HV".index(polarization)]
    found, status = retrieve_single_channel(
        tb, polarization=polarization, optical_depth=c["tau"], dielectric=dielectric, return_status=True, **inputs(c)
    )
    assert (status == RetrievalStatus.RETRIEVED).all()
    np.testing.assert_allclose(found, c["sm"], atol=2e-7)


def test_golden_brightness_temperatures_are_inverted():
    # computed by another implementation, given to 0.1 K: 0.1 K is up to 0.0015 m3 m-3 under this vegetation
    moisture = [0.05, 0.15, 0.25, 0.4]
    for tau, h, v in [
        (0.0, [250.1, 210.9, 179.7, 147.8], [280.7, 257.2, 231.4, 199.4]),
        (0.33, [269.2, 252.3, 238.7, 224.9], [282.6, 272.3, 261.2, 247.2]),
    ]:
        for polarization, tb in (("H", h), ("V", v)):
            found = retrieve_single_channel(tb, polarization=polarization, optical_depth=tau, **SOIL)
            np.testing.assert_allclose(found, moisture, atol=1e-3)


def test_same_as_a_root_finder():
    c = world(40, seed=3)
    tb = forward(c)[1] + np.random.default_rng(0).normal(0, 1.3, 40)
    found = retrieve_single_channel(tb, polarization="V", optical_depth=c["tau"], **inputs(c))
    for i in range(40):
        one = {name: values[i] for name, values in c.items()}

        def excess(sm, one=one, target=tb[i]):
            return float(forward(one, sm=sm)[1]) - target

        if excess(0.02) * excess(0.65) < 0:
            assert found[i] == pytest.approx(brentq(excess, 0.02, 0.65, xtol=1e-10), abs=2e-7)
        else:
            assert found[i] in (0.02, 0.65)


@pytest.mark.parametrize("offset", [-1e-9, 0.0, 1e-9, 1e-4])
def test_at_the_kink_of_bound_water(offset):
    clay = np.array([0.0, 0.1, 0.4, 0.7])
    truth = 0.02863 + 0.30673 * clay + offset
    c = world(4) | {"clay": clay, "sm": truth}
    found = retrieve_single_channel(forward(c)[1], polarization="V", optical_depth=c["tau"], **inputs(c))
    np.testing.assert_allclose(found, truth, atol=2e-7)


def test_v_that_is_not_monotone_gives_the_wetter_root_and_says_so():
    # at 65 degrees dry soil is below its Brewster permittivity: brightness rises with moisture, then falls
    truth = np.linspace(0.0, 0.4, 201)
    options = {"incidence_deg": 65.0, "n": 2.0, "frequency_ghz": 1.41, "h": 0.1}
    tb = soil_emission_tb(truth, 0.1, 290.0, **options)[1]
    top = tb.argmax()
    assert 0 < top < 100
    found, status = retrieve_single_channel(
        tb,
        polarization="V",
        surface_temperature=290.0,
        clay_fraction=0.1,
        roughness=0.1,
        albedo=0.0,
        optical_depth=0.0,
        incidence_deg=65.0,
        bounds=(0.0, 0.4),
        return_status=True,
    )
    np.testing.assert_allclose(found[top + 1 :], truth[top + 1 :], atol=1e-6)
    twice = (tb > tb[0]) & (np.arange(201) < top)
    assert (status[twice] == RetrievalStatus.AMBIGUOUS).all()
    assert (found[twice] > truth[top]).all()
    again = soil_emission_tb(found, 0.1, 290.0, **options)[1]
    np.testing.assert_allclose(again, tb, atol=1e-4)
    # hotter than the hottest: the soil moisture of the maximum
    hot, status = retrieve_single_channel(
        [tb.max() + 3],
        polarization="V",
        surface_temperature=290.0,
        clay_fraction=0.1,
        roughness=0.1,
        albedo=0.0,
        optical_depth=0.0,
        incidence_deg=65.0,
        bounds=(0.0, 0.4),
        return_status=True,
    )
    assert hot[0] == pytest.approx(truth[top], abs=0.002)
    assert status[0] == RetrievalStatus.CLIPPED_DRY


def test_clipped_at_bounds_that_are_arrays():
    porosity = np.array([0.3, 0.5, 0.65, 0.65])
    tb = np.array([150.0, 150.0, 150.0, 320.0])
    found, status = retrieve_single_channel(
        tb, polarization="V", optical_depth=0.1, bounds=(0.02, porosity), return_status=True, **SOIL
    )
    np.testing.assert_array_equal(found, [0.3, 0.5, 0.65, 0.02])
    wet, dry = RetrievalStatus.CLIPPED_WET, RetrievalStatus.CLIPPED_DRY
    np.testing.assert_array_equal(status, [wet, wet, wet, dry])
    assert count_statuses(status) == {"clipped dry": 1, "clipped wet": 3}


def test_a_canopy_hotter_than_the_soil_reverses_brightness_but_not_the_result():
    c = world(200)
    for canopy, tau in ((c["ts"] + 60, np.full(200, 1.2)), (c["ts"] - 10, c["tau"])):
        tb = forward(c, tau=tau, canopy=canopy)[0]
        found = retrieve_single_channel(tb, polarization="H", optical_depth=tau, canopy_temperature=canopy, **inputs(c))
        np.testing.assert_allclose(found, c["sm"], atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["tb", "surface_temperature", "clay_fraction", "roughness", "albedo", "optical_depth", "incidence_deg", "bounds"],
)
def test_nan_in_gives_nan_out(name):
    options = {"tb": np.full(3, 250.0), "optical_depth": 0.1, "incidence_deg": 40.0, "bounds": 0.5, **SOIL}
    options[name] = np.where([True, False, True], options[name], np.nan)
    found, status = retrieve_single_channel(
        options.pop("tb"), polarization="V", bounds=(0.02, options.pop("bounds")), return_status=True, **options
    )
    assert np.isfinite(found).tolist() == [True, False, True]
    assert status[1] == RetrievalStatus.NO_INPUT


def test_opaque_vegetation_has_no_information():
    found, status = retrieve_single_channel(
        [280.0, 280.0], polarization="V", optical_depth=[60.0, 0.3], return_status=True, **SOIL
    )
    assert np.isnan(found[0])
    assert status.tolist() == [RetrievalStatus.INSENSITIVE, RetrievalStatus.RETRIEVED]


def test_shapes_types_threads_and_empty_input():
    c = world(50_000)
    tb = forward(c)[0]
    options = {"polarization": "H", "optical_depth": c["tau"], **inputs(c)}
    one = retrieve_single_channel(tb, workers=1, **options)
    np.testing.assert_array_equal(one, retrieve_single_channel(tb, workers=3, **options))
    assert retrieve_single_channel(250.0, polarization="V", optical_depth=0.1, **SOIL).shape == ()
    image = retrieve_single_channel(
        np.full((3, 1), 250.0, np.float32), polarization="V", optical_depth=[0.1, 0.2], **SOIL
    )
    assert (image.shape, image.dtype) == ((3, 2), np.float32)
    assert retrieve_single_channel([], polarization="V", optical_depth=0.1, **SOIL).shape == (0,)


def test_mistakes_are_named():
    def call(tb=250.0, **options):
        return retrieve_single_channel(tb, **({"polarization": "V", "optical_depth": 0.1, **SOIL} | options))

    with pytest.raises(ParameterError, match=r"unknown 'polarization'; got 'v'; expected \['H', 'V'\]"):
        call(polarization="v")
    with pytest.raises(ParameterError, match="unknown 'dielectric'; got 'topp'"):
        call(dielectric="topp")
    with pytest.raises(ParameterError, match="needs sand_fraction"):
        call(dielectric="dobson")
    with pytest.raises(ParameterError, match="bounds are not ascending"):
        call(bounds=(0.3, [0.5, 0.2]))
    with pytest.raises(ParameterError, match="do not broadcast"):
        call(tb=[250.0, 251.0], bounds=(0.02, [0.5, 0.5, 0.5]))
    with pytest.raises(ParameterError, match="incidence_deg"):
        call(incidence_deg=95.0)
    with pytest.raises(ParameterError, match="frequency_ghz"):
        call(frequency_ghz=1.41e9)


# --- dual channel -----------------------------------------------------------------------------------------------------


def test_dual_channel_round_trip():
    c = world(5_000, seed=1)
    w, tau, status = retrieve_dual_channel(*forward(c), prior_optical_depth=c["tau"], return_status=True, **inputs(c))
    # no residual at the truth, so it is the minimum whatever the weight
    assert (status == RetrievalStatus.RETRIEVED).all()
    np.testing.assert_allclose(w, c["sm"], atol=1e-5)
    np.testing.assert_allclose(tau, c["tau"], atol=1e-5)


def test_dual_channel_same_as_a_minimiser():
    c = world(60, seed=5)
    rng = np.random.default_rng(2)
    tb_h, tb_v = (tb + rng.normal(0, 1.5, 60) for tb in forward(c))
    prior = np.clip(c["tau"] * rng.uniform(0.6, 1.4, 60), 0.0, None)
    w, tau, status = retrieve_dual_channel(tb_h, tb_v, prior_optical_depth=prior, return_status=True, **inputs(c))
    assert RetrievalStatus.NOT_CONVERGED not in status
    for i in range(60):
        one = {name: values[i] for name, values in c.items()}

        def residuals(x, one=one, i=i):
            h, v = forward(one, sm=x[0], tau=x[1])
            return [float(h) - tb_h[i], float(v) - tb_v[i], 20.0 * (x[1] - prior[i]) / np.cos(np.radians(40))]

        starts = [(0.05, prior[i]), (0.3, prior[i]), (0.55, prior[i])]
        costs = [least_squares(residuals, s, bounds=([0.02, 0.0], [0.65, 5.0]), xtol=1e-12).cost for s in starts]
        assert sum(np.square(residuals([w[i], tau[i]]))) / 2 <= min(costs) + 1e-6


def test_dual_channel_bounds_nan_and_weight():
    c = world(6) | {"q": np.zeros(6), "tau": np.full(6, 0.3)}
    tb_h, tb_v = forward(c)
    tb_h[0] = np.nan
    tb_h[1], tb_v[1] = 60.0, 70.0
    tb_h[2], tb_v[2] = 325.0, 325.0
    w, tau, status = retrieve_dual_channel(
        tb_h, tb_v, prior_optical_depth=0.1, prior_weight=0.0, bounds=(0.02, 0.62), return_status=True, **inputs(c)
    )
    assert np.isnan(w[0])
    assert np.isnan(tau[0])
    assert status[0] == RetrievalStatus.NO_INPUT
    assert (w[1], status[1]) == (0.62, RetrievalStatus.CLIPPED_WET)
    assert tau[1] == 0.0
    assert status[2] != RetrievalStatus.RETRIEVED
    np.testing.assert_allclose(w[3:], c["sm"][3:], atol=1e-4)  # without a prior H and V alone give both
    np.testing.assert_allclose(tau[3:], 0.3, atol=1e-4)
    held = retrieve_dual_channel(
        tb_h[3:], tb_v[3:], prior_optical_depth=0.1, prior_weight=1e6, **{k: v[3:] for k, v in inputs(c).items()}
    )
    np.testing.assert_allclose(held[1], 0.1, atol=1e-6)
    with pytest.raises(ParameterError, match="'prior_weight' is out of range"):
        retrieve_dual_channel(250.0, 260.0, prior_optical_depth=0.1, prior_weight=-1.0, **SOIL)


def test_reflectivity_in_real_numbers_is_that_in_complex_ones():
    epsilon = np.array([4 + 0.1j, 80 + 5j, -50 + 30j, -50 - 30j, 3 - 1j, 0.5 + 0j, -2 + 0j])
    cos = np.cos(np.radians(40.0))
    root = np.sqrt(epsilon - 1 + cos**2)
    expected = abs((cos - root) / (cos + root)) ** 2, abs((epsilon * cos - root) / (epsilon * cos + root)) ** 2
    np.testing.assert_allclose(fresnel_reflectivity(epsilon, 40.0), expected, rtol=1e-12)
    assert np.isnan(fresnel_reflectivity([np.nan, 4.0], 40.0)).tolist() == [[True, False], [True, False]]
    critical = np.sin(np.radians(30.0)) ** 2
    np.testing.assert_allclose(fresnel_reflectivity(critical, 30.0), 1.0, atol=1e-6)


# --- the same formulas on tensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dielectric", ["mironov", "dobson"])
def test_tensors_give_what_arrays_give_and_gradients(dielectric):
    c = world(30)
    t = {name: torch.from_numpy(values).requires_grad_() for name, values in c.items()}
    for array, tensor in zip(forward(c, dielectric=dielectric), forward(t, dielectric=dielectric), strict=True):
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_allclose(tensor.detach().numpy(), array, rtol=1e-14)
    few = [t[name][:5].detach().requires_grad_() for name in ("sm", "clay", "ts", "tau", "h", "w")]

    def tb(sm, clay, ts, tau, h, w):
        return soil_emission_tb(
            sm,
            clay,
            ts,
            frequency_ghz=1.41,
            incidence_deg=40.0,
            h=h,
            q=0.1,
            tau=tau,
            single_scattering_albedo=w,
            sand_fraction=0.4,
            dielectric=dielectric,
        )

    assert torch.autograd.gradcheck(tb, few)


def test_tensors_of_float32_and_mixed_arguments():
    half = torch.full((2,), 0.3, dtype=torch.float32, requires_grad=True)
    tb = tau_omega_tb(half, 290.0, incidence_deg=40.0, tau=0.2, single_scattering_albedo=0.05)
    assert tb.dtype == torch.float32
    tb.sum().backward()
    assert (half.grad < 0).all()  # a more reflective soil is colder
    assert mironov_permittivity(half.detach(), 0.2, 1.41).dtype == torch.complex64
    r_h, _ = fresnel_reflectivity(torch.tensor([4.0, 25.0], dtype=torch.float64), torch.tensor(0.0))
    torch.testing.assert_close(r_h, torch.tensor([1 / 9, 4 / 9], dtype=torch.float64))
    rough = rough_reflectivity(r_h, np.array([0.1, 0.2]), torch.tensor([40.0, 50.0]), 0.1)
    assert rough[0].dtype == torch.float64
    with pytest.raises(ParameterError, match="incidence_deg"):
        tau_omega_tb(half, 290.0, incidence_deg=torch.tensor([40.0, 95.0]))


# --- SMRT, an independent implementation ------------------------------------------------------------------------------


def test_smrt_has_the_same_permittivity_roughness_and_emission():
    pytest.importorskip("smrt")
    from smrt.inputs.make_soil import make_soil
    from smrt.permittivity.soil import soil_permittivity_dobson85_original, soil_permittivity_dobson85_peplinski95

    for moisture in (0.05, 0.2, 0.4):
        for theirs, frequency in (
            (soil_permittivity_dobson85_original, 1.41),
            (soil_permittivity_dobson85_original, 6.925),
            (soil_permittivity_dobson85_peplinski95, 1.2),
        ):
            expected = theirs(frequency * 1e9, 290.0, moisture, 0.4, 0.2)
            ours = complex(dobson_permittivity(moisture, 0.4, 0.2, frequency, soil_temperature=290.0))
            assert ours == pytest.approx(expected, rel=1e-9)
    mu = np.cos(np.radians([0.0, 40.0, 55.0]))
    for h, q, n in ((0.13, 0.0, 2), (0.3, 0.1, 0), (0.8, 0.14, 2)):
        soil = make_soil("soil_qnh", 12.0 + 1.5j, temperature=290.0, H=h, Q=q, N=n)
        expected = soil.specular_reflection_matrix(1.41e9, 1.0, mu, 2)
        expected_v, expected_h = (np.asarray(expected[i]).ravel() for i in (0, 1))
        ours = rough_reflectivity(*fresnel_reflectivity(12.0 + 1.5j, [0.0, 40.0, 55.0]), [0.0, 40.0, 55.0], h, q, n)
        np.testing.assert_allclose(ours, [expected_h, expected_v], rtol=1e-9)


# --- a real granule -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def granule_path(shared_samples):
    paths = sorted((shared_samples / "smap_l2").glob("SMAP_L2_SM_P_*.h5"))
    if not paths:
        pytest.skip("no SMAP granule among the samples")
    return paths[0]


@pytest.fixture(scope="module")
def granule(granule_path):
    return read_fields(str(granule_path))[0]


def agreement(ours, product, where):
    ok = where & np.isfinite(ours) & np.isfinite(product)
    d = (ours - product)[ok]
    return ok.sum(), np.corrcoef(ours[ok], product[ok])[0, 1], d.mean(), d.std()


@pytest.mark.parametrize(("method", "n_expected"), [("sca-v", 592), ("sca-h", 580), ("dca", 592)])
def test_the_products_own_retrievals_are_reproduced(granule, method, n_expected):
    result = retrieve_physical(granule, method)
    n, r, bias, ubrmsd = agreement(result.soil_moisture, result.product_soil_moisture, result.recommended)
    assert n == n_expected
    assert r > 0.9999
    assert abs(bias) < 2e-5
    assert ubrmsd < 2e-4
    # clipped and not recommended cells as well, and nothing is retrieved where the product has nothing
    assert np.nanmax(np.abs(result.soil_moisture - result.product_soil_moisture)) < 3e-3
    np.testing.assert_array_equal(np.isnan(result.soil_moisture), np.isnan(result.product_soil_moisture))
    if method == "dca":
        tau = granule["vegetation_opacity"] * np.cos(np.radians(granule["boresight_incidence"]))
        assert agreement(result.optical_depth, tau, result.recommended)[3] < 1e-3


def test_vegetation_opacity_of_the_product_is_slant(granule, granule_path):
    # without any retrieval: in pure open shrubland b = tau / VWC is 0.11 (SMAP's table), once brought to nadir
    with h5py.File(granule_path) as file:
        names = ("landcover_class", "landcover_class_fraction")
        cover, fraction = (file[f"Soil_Moisture_Retrieval_Data/{name}"][:, 0] for name in names)
    whole = (cover == 7) & (fraction > 0.98) & (granule["vegetation_water_content"] > 0.05)
    ratio = (granule["vegetation_opacity_option2"] / granule["vegetation_water_content"])[whole]
    assert whole.sum() > 20
    nadir = ratio * np.cos(np.radians(40.0))
    assert np.nanmedian(nadir) == pytest.approx(0.11, abs=3e-4)
    # taken for nadir, it is the bias of +0.023 m3 m-3 that this was about
    literal = retrieve_single_channel(
        granule["tb_v_corrected"],
        polarization="V",
        optical_depth=granule["vegetation_opacity_option2"],
        **{k: granule[k] for k in ("surface_temperature", "clay_fraction", "albedo")},
        roughness=granule["roughness_coefficient"],
    )
    recommended = granule["retrieval_qual_flag_option2"] & 1 == 0
    assert agreement(literal, granule["soil_moisture_option2"], recommended)[2] == pytest.approx(0.023, abs=0.001)


# --- which fields -------------------------------------------------------------------------------------------------------


def product_fields(n: int = 300) -> dict[str, np.ndarray]:
    """A noise-free product of known soil moisture, with SMAP's meaning of its fields."""
    c = world(n, seed=9)
    angle = np.full(n, 39.98)
    tb_h, tb_v = forward(c | {"q": np.zeros(n)}, angle=angle)
    fields = {
        "tb_h_corrected": tb_h,
        "tb_v_corrected": tb_v,
        "surface_temperature": c["ts"],
        "clay_fraction": c["clay"],
        "roughness_coefficient": c["h"],
        "albedo": c["w"],
        "boresight_incidence": angle,
        "bulk_density": np.full(n, 0.9),
        "soil_moisture": c["sm"],
        "vegetation_opacity": c["tau"] / np.cos(np.radians(angle)),
        "retrieval_qual_flag": np.zeros(n, np.uint16),
    }
    fields["retrieval_qual_flag"][:4] = [1, 8, 9, 65534]
    return fields


def test_an_older_product_without_named_methods_is_sca_v():
    fields = product_fields()
    result = retrieve_physical(fields, "sca-v")
    np.testing.assert_allclose(result.soil_moisture, fields["soil_moisture"], atol=1e-6)
    assert result.recommended[:5].tolist() == [False, True, False, False, True]
    by_h = retrieve_physical(fields, "sca-h")
    np.testing.assert_allclose(by_h.soil_moisture, fields["soil_moisture"], atol=1e-6)
    assert np.isnan(by_h.product_soil_moisture).all()
    assert not by_h.recommended.any()
    with pytest.raises(FormatError, match="no field roughness_coefficient_option3 or roughness_coefficient_dca"):
        retrieve_physical(fields, "dca")


@pytest.mark.parametrize("endings", [("option1", "option2", "option3"), ("scah", "scav", "dca")])
def test_named_methods_take_precedence(endings):
    h, v, dual = endings
    fields = product_fields()
    truth, opacity = fields["soil_moisture"], fields["vegetation_opacity"]
    for ending in (h, v):
        fields[f"soil_moisture_{ending}"] = truth
        fields[f"vegetation_opacity_{ending}"] = opacity
        fields[f"retrieval_qual_flag_{ending}"] = fields["retrieval_qual_flag"]
    fields[f"soil_moisture_{dual}"] = fields["soil_moisture"] = np.where(truth > 0.3, truth, np.nan)
    fields["vegetation_opacity"] = np.full(truth.shape, 3.0)  # the dual-channel algorithm's, to be left alone
    fields[f"roughness_coefficient_{dual}"] = np.zeros(truth.shape)
    fields[f"albedo_{dual}"] = fields["albedo"]
    for method in ("sca-v", "sca-h"):
        np.testing.assert_allclose(retrieve_physical(fields, method).soil_moisture, truth, atol=1e-6)
    dca = retrieve_physical(fields, "dca")
    assert np.isfinite(dca.soil_moisture).all()
    assert np.isnan(dca.product_soil_moisture).any()
    # a product that names methods, but not this one: the fields without an ending are not taken for it
    del fields[f"soil_moisture_{v}"]
    result = retrieve_physical(fields, "sca-v")
    assert np.isnan(result.product_soil_moisture).all()
    assert any("nothing to compare with" in note for note in result.notes)


def test_afternoon_names_images_and_absent_bulk_density():
    fields = product_fields()
    fields["bulk_density"] = np.full(300, np.nan)
    assert np.isnan(retrieve_physical(fields, "sca-v").soil_moisture).all()
    del fields["bulk_density"]
    image = {f"{name}_pm": values.reshape(20, 15) for name, values in fields.items()}
    result = retrieve_physical(image, "sca-v")
    assert result.soil_moisture.shape == (20, 15)
    assert any("no bulk_density" in note for note in result.notes)
    np.testing.assert_allclose(result.soil_moisture, image["soil_moisture_pm"], atol=1e-6)


def test_fill_values_and_unknown_methods_are_refused():
    fields = product_fields()
    fields["albedo"][3] = -9999.0
    with pytest.raises(FormatError, match=r"albedo holds the fill value; got -9999\.0; expected 'NaN where missing'"):
        retrieve_physical(fields, "sca-v")
    with pytest.raises(ParameterError, match=r"unknown 'method'; got 'lprm'; expected \['sca-v', 'sca-h', 'dca'\]"):
        retrieve_physical(fields, "lprm")
    assert list(PHYSICAL_METHODS) == ["sca-v", "sca-h", "dca"]
