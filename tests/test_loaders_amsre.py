"""AMSR-E loaders: binaries written here with plain numpy and gzip, and a real CETB file read with netCDF4."""

from __future__ import annotations

import gzip
import json
import warnings

import netCDF4
import numpy as np
import pytest
import xarray as xr

from smnb.contract import CatalogError, ContractError, FormatError, ParameterError, check_dataset
from smnb.loaders.amsre import DEFAULT_CHANNELS, average_passes, mask_outliers, open_nsidc0302
from smnb.loaders.cetb import open_cetb

BYTES = 2_073_600


def write_image(folder, kelvin, *, day=182, orbit="A", channel="06H", version="03", compress=True, level=1):
    """Write one NSIDC-0302 image. `kelvin` is a number or (720, 1440), north first; NaN is missing (0)."""
    image = np.broadcast_to(np.asarray(kelvin, "float64"), (720, 1440))
    raw = np.where(np.isnan(image), 0, np.round(image * 10)).astype("<u2").tobytes()
    path = folder / f"ID2r1-AMSRE-D.252011{day:03d}{orbit}.v{version}.{channel}{'.gz' if compress else ''}"
    path.write_bytes(gzip.compress(raw, level) if compress else raw)
    return path


def opened(paths, **options):
    return open_nsidc0302(paths, catalog_id="amsre_nsidc0302", **{"longitude_origin": -180, **options})


ONE = {"channels": ["6.9H"], "orbit_passes": ["A"]}


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
def test_image_is_scaled_flipped_and_lazy(tmp_path, compress):
    image = np.full((720, 1440), 200.0)
    image[0, 0], image[0, 1], image[719, 1439] = 250.3, np.nan, 80.1
    ds = opened([write_image(tmp_path, image, compress=compress)], **ONE)
    tb = ds["tb"]
    assert tb.dims == ("time", "orbit_pass", "channel", "lat", "lon")
    assert tb.dtype == np.float32
    assert tb.data.npartitions == 1
    assert str(ds["time"].values[0]) == "2011-07-01T00:00:00.000000000"
    np.testing.assert_allclose(ds["lat"][[0, -1]], [-89.875, 89.875])
    np.testing.assert_allclose(ds["lon"][[0, -1]], [-179.875, 179.875])
    values = tb[0, 0, 0].values
    # row 0 of the file is the northernmost, column 0 the westernmost
    assert values[719, 0] == pytest.approx(250.3, abs=1e-4)
    assert np.isnan(values[719, 1])
    assert values[0, 1439] == pytest.approx(80.1, abs=1e-4)
    assert np.isnan(values).sum() == 1
    check_dataset(ds, who="test", require=("tb",), check_values=True)


def test_missing_day_pass_and_channel_are_nan_and_listed(tmp_path):
    paths = [write_image(tmp_path, 100 + k, day=182, channel=c) for k, c in enumerate(("06H", "06V", "10H"))]
    paths += [write_image(tmp_path, 150, day=184, orbit="D", channel="06H")]
    ds = opened(paths)
    assert dict(ds.sizes) == {"time": 3, "orbit_pass": 2, "channel": 4, "lat": 720, "lon": 1440}
    missing = json.loads(ds.attrs["missing_files"])
    assert len(missing) == 3 * 2 * 4 - 4
    assert "2011-07-01 A 10.7V" in missing
    assert "2011-07-02 D 6.9H" in missing
    sample = ds["tb"][..., 5, 7].compute()
    assert sample.sel(time="2011-07-01", orbit_pass="A").values.tolist()[:3] == [100.0, 101.0, 102.0]
    assert sample.sel(time="2011-07-03", orbit_pass="D", channel="6.9H").item() == 150.0
    assert int(sample.notnull().sum()) == 4
    with pytest.raises(CatalogError, match=r"20 of 24 requested images have no file.*missing='mask'"):
        opened(paths, missing="raise")


def test_period_limits_and_extends_the_days(tmp_path):
    paths = [write_image(tmp_path, 100, day=d) for d in (182, 183)]
    assert opened(paths, start="2011-07-02", end="2011-07-02", **ONE).sizes["time"] == 1
    wide = opened(paths, start="2011-06-30", end="2011-07-03", **ONE)
    assert wide.sizes["time"] == 4
    assert json.loads(wide.attrs["missing_files"]) == ["2011-06-30 A 6.9H", "2011-07-03 A 6.9H"]
    with pytest.raises(CatalogError, match="none of the requested images has a file"):
        opened(paths, start="2012-01-01", end="2012-01-02", **ONE)
    with pytest.raises(CatalogError, match="none of the requested"):
        opened(paths, channels=["89.0V"], orbit_passes=["A"])


def test_newest_version_wins_and_plain_over_gzip(tmp_path):
    old = write_image(tmp_path, 100, version="02")
    new = write_image(tmp_path, 110, version="03")
    again = write_image(tmp_path, 120, version="03", compress=False)
    for order in ([old, new, again], [again, new, old]):
        ds = opened(order, **ONE)
        assert ds["tb"].values[0, 0, 0, 0, 0] == 120.0
        assert json.loads(ds.attrs["superseded_files"]) == sorted([old.name, new.name])


def test_all_missing_image_is_kept_and_listed(tmp_path):
    paths = [write_image(tmp_path, np.nan, orbit=o, level=k, compress=k > 0) for k, o in ((9, "A"), (0, "D"))]
    paths.append(write_image(tmp_path, np.nan, channel="06V", level=1))
    sparse = np.full((720, 1440), np.nan)
    sparse[300, 300] = 200.0  # as small a file as an empty one
    paths.append(write_image(tmp_path, sparse, channel="10H"))
    ds = opened(paths)
    assert json.loads(ds.attrs["all_missing_images"]) == ["2011-07-01 A 6.9H", "2011-07-01 A 6.9V", "2011-07-01 D 6.9H"]
    assert int(ds["tb"].notnull().sum()) == 1


def test_time_files_are_passed_over_and_strangers_refused(tmp_path):
    image = write_image(tmp_path, 100)
    tim = tmp_path / "ID2r1-AMSRE-D.252011182A.v03.TIM.gz"
    tim.write_bytes(b"anything")
    assert opened([image, tim], **ONE).sizes["time"] == 1
    for name in ("README.txt", "ID2r1-AMSRE-D.252011182A.v03.07H.gz", "ID2r1-AMSRE-NL2011182A.v03.06H"):
        stranger = tmp_path / name
        stranger.write_bytes(b"x")
        with pytest.raises(FormatError, match="name is not of NSIDC-0302"):
            opened([image, stranger], **ONE)
    for doy in ("366", "000"):
        impossible = tmp_path / f"ID2r1-AMSRE-D.252011{doy}A.v03.06H"
        impossible.write_bytes(bytes(BYTES))
        with pytest.raises(FormatError, match="impossible day of the year"):
            opened([impossible], **ONE)


def test_unknown_options_list_known_ones(tmp_path):
    paths = [write_image(tmp_path, 100)]
    with pytest.raises(ParameterError, match=r"channels' .*got \['7.3H'\].*'6.9H'.*'89.0V'"):
        opened(paths, channels=["6.9H", "7.3H"])
    with pytest.raises(ParameterError, match=r"channels' .*twice"):
        opened(paths, channels=["6.9H", "6.9H"])
    with pytest.raises(ParameterError, match=r"orbit_passes' .*'A', 'D'"):
        opened(paths, orbit_passes=["M"])
    with pytest.raises(ParameterError, match=r"missing.*'mask', 'raise'"):
        opened(paths, missing="ignore")
    with pytest.raises(ParameterError, match=r"longitude_origin"):
        opened(paths, longitude_origin=90)
    with pytest.raises(CatalogError, match="no file was given"):
        opened([])


# --- damaged files --------------------------------------------------------------------------------------------------


def test_wrong_sizes_are_found_when_opening(tmp_path):
    whole = write_image(tmp_path, 200, compress=False)
    content = whole.read_bytes()
    for bad in (content[:-2], content + b"\0\0", b""):
        whole.write_bytes(bad)
        with pytest.raises(FormatError, match=rf"06H\): .*got {len(bad):,} bytes; expected 2,073,600 bytes"):
            opened([whole], **ONE)
    whole.unlink()
    packed = write_image(tmp_path, 200)
    stream = packed.read_bytes()
    packed.write_bytes(stream[: len(stream) // 2])
    with pytest.raises(FormatError, match=r"06H.gz\): the image is truncated.*expected 2,073,600 bytes"):
        opened([packed], **ONE)
    packed.write_bytes(gzip.compress(content[:1000]))
    with pytest.raises(FormatError, match="trailer that says 1,000 bytes"):
        opened([packed], **ONE)
    packed.write_bytes(b"<html>please log in</html>")
    with pytest.raises(FormatError, match="no gzip file although named so"):
        opened([packed], **ONE)


def test_damage_inside_a_gzip_is_found_when_computing(tmp_path):
    rng = np.random.default_rng(0)
    packed = write_image(tmp_path, rng.uniform(100, 300, (720, 1440)))
    stream = packed.read_bytes()
    middle = len(stream) // 2
    for bad in (stream[:middle] + stream[middle + 1000 :], stream[:middle] + b"\xff" * 8 + stream[middle + 8 :]):
        packed.write_bytes(bad)
        ds = opened([packed], **ONE)  # the trailer is right
        with pytest.raises(FormatError, match=r"06H.gz\): .*broken gzip stream.*2,073,600"):
            ds["tb"].compute()


# --- longitude origin -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coast():
    """Brightness temperatures of warm land and cold ocean, north first, from 180 W."""
    from smnb.grids.koppen import OCEAN, koppen_codes

    lat, lon = np.arange(-89.875, 90, 0.25), np.arange(-179.875, 180, 0.25)
    return np.where(koppen_codes(lat[:, None], lon[None, :]) != OCEAN, 265.0, 85.0)[::-1]


@pytest.mark.parametrize("origin", [-180, 0])
def test_longitude_origin_is_decided_by_the_coast(tmp_path, coast, origin):
    swath = coast.copy()
    swath[:, (np.arange(1440) // 60) % 3 == 0] = np.nan
    stored = swath if origin == -180 else np.roll(swath, -720, axis=1)
    ds = open_nsidc0302([write_image(tmp_path, stored)], catalog_id="x", **ONE)
    evidence = json.loads(ds.attrs["longitude_origin_evidence"])
    assert ds.attrs["longitude_origin"] == origin
    assert evidence["decided_by"] == "coast"
    assert evidence["land_minus_ocean_k"][str(origin)] > 150
    np.testing.assert_allclose(ds["tb"].values[0, 0, 0], swath[::-1], atol=1e-3)
    forced = open_nsidc0302([write_image(tmp_path, stored)], catalog_id="x", longitude_origin=0, **ONE)
    np.testing.assert_allclose(forced["tb"].values[0, 0, 0], np.roll(stored, 720, axis=1)[::-1], atol=1e-3)


def test_longitude_origin_without_evidence_is_said_so(tmp_path, coast):
    ds = open_nsidc0302([write_image(tmp_path, 200.0)], catalog_id="x", **ONE)
    assert ds.attrs["longitude_origin"] == -180
    assert json.loads(ds.attrs["longitude_origin_evidence"])["decided_by"] == "default"
    assert coast.shape == (720, 1440)


# --- outliers and composites ----------------------------------------------------------------------------------------


def small(values, channels=DEFAULT_CHANNELS, times=("2011-07-01",)):
    """A Dataset like the loader's with few cells: values (time, pass, channel, lat, lon)."""
    values = np.asarray(values, "float32")
    dims = ("time", "orbit_pass", "channel", "lat", "lon")
    coords = {
        "time": np.array(times, "datetime64[ns]"),
        "orbit_pass": ["A", "D"][: values.shape[1]],
        "channel": list(channels),
        "lat": np.arange(values.shape[3]) * 0.25,
        "lon": np.arange(values.shape[4]) * 0.25,
    }
    return xr.Dataset(
        {"tb": (dims, values, {"units": "K"})}, coords, {"source": "s", "catalog_id": "c", "synthetic": 1}
    )


OUTLIERS = np.array(
    [  # 6.9H, 6.9V, 10.7H, 10.7V by cell
        [250, 260, 251, 261],  # good
        [40, 260, 251, 261],  # too cold
        [250, 335, 251, 261],  # too hot
        [265, 272, 251, 261],  # 6.9 above 10.7 by 14 (H) and 11 (V): interference
        [259, 268, 251, 261],  # by 8 and 7: none
        [250, 244, 251, 261],  # V below H by 6 at 6.9
        [250, 246, 251, 261],  # by 4: none
        [np.nan, 240, 251, 300],  # a missing H tells nothing
        [280, 270, 251, 261],  # H interferes; V is inverted with it
        [45, 340, 251, 261],  # both out of range: the inversion is no second reason
    ]
)


@pytest.mark.parametrize("lazy", [False, True])
def test_outliers_are_masked_once_and_counted_by_reason(lazy):
    ds = small(OUTLIERS.T[None, None, :, None, :])
    source = ds.chunk(channel=1) if lazy else ds
    got = mask_outliers(source)
    assert (got["tb"].chunks is not None) == lazy
    lost = (got["tb"].isnull() & ds["tb"].notnull()).values[0, 0, :, 0, :].T
    expected = np.zeros((10, 4), bool)
    expected[1, 0] = expected[2, 1] = True
    expected[3, [0, 1]] = True
    expected[5, [0, 1]] = True
    expected[8, [0, 1]] = True
    expected[9, [0, 1]] = True
    np.testing.assert_array_equal(lost, expected)
    counts = json.loads(got["tb"].attrs["masked_by"])
    # cell 8: H by interference, V by inversion
    assert counts == {"below_range": 2, "above_range": 2, "rfi": 3, "polarisation_inverted": 3}
    assert sum(counts.values()) == lost.sum()
    assert ds["tb"].isnull().sum() == 1  # the input is untouched
    assert json.loads(mask_outliers(got)["tb"].attrs["masked_by"]) == counts
    assert "mask_outliers" in got.attrs["history"]


def test_outlier_tests_need_their_channels():
    ds = small(OUTLIERS.T[None, None, :, None, :])
    one = mask_outliers(ds.sel(channel=["6.9H"]))
    assert int(one["tb"].isnull().sum()) == 1 + 2
    assert json.loads(one["tb"].attrs["masked_by"])["rfi"] == 0
    with pytest.raises(ContractError, match="no 'tb'"):
        mask_outliers(ds.rename(tb="x"))


def test_composites_average_valid_passes_of_one_and_two_days():
    rng = np.random.default_rng(3)
    values = rng.uniform(100, 300, (4, 2, 1, 2, 3)).astype("float32")
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:, :, 0, 0, 0] = np.nan
    times = ["2011-07-01", "2011-07-02", "2011-07-04", "2011-07-05"]  # the third is absent
    ds = small(values, ["6.9H"], times)
    windows = {1: [[0], [1], [2], [3]], 2: [[0], [0, 1], [2], [2, 3]]}
    for days, window in windows.items():
        for source in (ds, ds.chunk(time=1, orbit_pass=1)):
            got = average_passes(source, days)
            assert got["tb"].dims == ("time", "channel", "lat", "lon")
            assert got["tb"].dtype == np.float32
            for k, chosen in enumerate(window):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)  # numpy's mean of an empty slice, the NaN wanted
                    expected = np.nanmean(values[chosen].reshape(-1, 1, 2, 3), axis=0)
                np.testing.assert_allclose(got["tb"][k], expected, rtol=1e-6)
                count = np.isfinite(values[chosen]).sum(axis=(0, 1))
                np.testing.assert_array_equal(got["n_obs"][k], count)
    assert got.attrs["synthetic"] == 1


def test_composite_refuses_other_input():
    ds = small(np.full((1, 2, 1, 2, 2), 200.0), ["6.9H"])
    with pytest.raises(ParameterError, match=r"got 3; expected \[1, 2\]"):
        average_passes(ds, 3)
    with pytest.raises(ContractError, match="one pass a row"):
        average_passes(ds.isel(orbit_pass=0))
    twice = xr.concat([ds, ds], dim="time")
    with pytest.raises(ContractError, match="not one value a day"):
        average_passes(twice, 1)


def test_files_to_composites(tmp_path):
    paths = [
        write_image(tmp_path, kelvin, day=day, orbit=orbit)
        for kelvin, day, orbit in ((200, 182, "A"), (210, 182, "D"), (230, 183, "A"))
    ]
    got = average_passes(mask_outliers(opened(paths, channels=["6.9H"])), days=2)
    np.testing.assert_allclose(got["tb"][:, 0, 100, 100], [205.0, (200 + 210 + 230) / 3], rtol=1e-6)
    assert got["n_obs"][:, 0, 0, 0].values.tolist() == [2, 3]


# --- CETB -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cetb_path(shared_samples):
    return next((shared_samples / "amsre_cetb").glob("*.nc"))


def test_real_cetb(cetb_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = open_cetb([cetb_path], catalog_id="amsre_cetb").compute()
    with netCDF4.Dataset(cetb_path) as file:
        file.set_auto_maskandscale(False)
        packed, incidence, x = file["TB"][0], file["Incidence_angle"][0], file["x"][:]
    missing = (packed == 0) | (packed == 60000)
    assert ds["tb"].dims == ("time", "channel", "y", "x")
    assert ds["channel"].values.tolist() == ["18.7H"]
    assert str(ds["time"].values[0])[:10] == "2008-10-04"
    np.testing.assert_array_equal(np.isnan(ds["tb"][0, 0]), missing)
    np.testing.assert_allclose(ds["tb"].values[0, 0][~missing], packed[~missing] * 0.01, rtol=1e-6)
    # missing angles are stored as -100 although the file declares -1
    assert (incidence[missing] == -100).all()
    np.testing.assert_array_equal(np.isnan(ds["incidence_angle"][0, 0]), missing)
    assert 54.8 < float(ds["incidence_angle"].min()) < float(ds["incidence_angle"].max()) < 55.2
    assert (np.diff(ds["y"]) == -25000).all()
    np.testing.assert_allclose(ds["x"], x)
    assert ds["crs"].attrs["grid_mapping_name"] == "lambert_azimuthal_equal_area"
    assert ds["tb"].attrs["grid_mapping"] == "crs"
    seen = ds["tb_time"].values[0, 0]
    assert np.isnat(seen[missing]).all()
    # this version says one time for the whole image: 2394 minutes after the day began
    assert set(seen[~missing]) == {np.datetime64("2008-10-05T15:54", "ns")}
    check_dataset(ds, who="test", check_values=True)


def test_real_cetb_round_trips_through_netcdf(cetb_path, tmp_path):
    ds = open_cetb([cetb_path], catalog_id="amsre_cetb").isel(x=slice(300, 330), y=slice(300, 330)).compute()
    ds.to_netcdf(tmp_path / "out.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as again:
        np.testing.assert_array_equal(again["tb"], ds["tb"])
        np.testing.assert_array_equal(again["tb_time"], ds["tb_time"])


def test_cetb_choices(cetb_path, tmp_path):
    assert open_cetb([cetb_path], catalog_id="x", channels=["18.7H"], temporal_division="E").sizes["channel"] == 1
    with pytest.raises(CatalogError, match="no file has the requested"):
        open_cetb([cetb_path], catalog_id="x", channels=["36.5V"])
    with pytest.raises(ParameterError, match="temporal_division"):
        open_cetb([cetb_path], catalog_id="x", temporal_division="N")
    with pytest.raises(FormatError, match="same channel and day"):
        open_cetb([cetb_path, cetb_path], catalog_id="x")
    bad = tmp_path / cetb_path.name
    bad.write_bytes(cetb_path.read_bytes()[:20000])
    with pytest.raises(FormatError, match="the file is unreadable"):
        open_cetb([bad], catalog_id="x")


def write_cetb(path, day, *, beam="18H", division="Evening", size=4):
    with netCDF4.Dataset(path, "w") as file:
        for name, length in (("time", 1), ("y", size), ("x", size)):
            file.createDimension(name, length)
        file.createVariable("time", "f8", ("time",))[:] = day
        file["time"].units = "days since 1972-01-01 00:00:00"
        for name in "yx":
            file.createVariable(name, "f8", (name,))[:] = np.arange(size) * (25000.0 if name == "x" else -25000.0)
        file.createVariable("crs", "S1", ()).grid_mapping_name = "lambert_azimuthal_equal_area"
        names = {
            "TB": ("u2", "K", 0),
            "Incidence_angle": ("i2", "degree", -1),
            "TB_std_dev": ("u2", "K", 65535),
            "TB_num_samples": ("u1", "count", 0),
            "TB_time": ("i2", "minutes since 2008-10-04 00:00:00", -32768),
        }
        for name, (kind, units, fill) in names.items():
            variable = file.createVariable(name, kind, ("time", "y", "x"), fill_value=fill)
            variable.set_auto_maskandscale(False)
            variable.units, variable.scale_factor, variable.add_offset = units, 0.01 if name != "TB_time" else 1.0, 0.0
            variable[:] = 200
        file["TB"].missing_value = np.uint16(60000)
        file["TB"].frequency_and_polarization, file["TB"].temporal_division = beam, division
        file["TB"][0, 0, :2] = [0, 60000]
    return path


def test_cetb_files_join_over_channels_and_days(tmp_path):
    paths = [
        write_cetb(tmp_path / f"{k}.nc", day, beam=beam)
        for k, (day, beam) in enumerate([(13427, "36V"), (13426, "18H"), (13427, "18H")])
    ]
    ds = open_cetb(paths, catalog_id="x").compute()
    assert ds["channel"].values.tolist() == ["18.7H", "36.5V"]
    assert [str(t)[:10] for t in ds["time"].values] == ["2008-10-04", "2008-10-05"]
    assert ds["tb"].sel(channel="36.5V")[0].isnull().all()  # no such image on the first day
    assert int(ds["tb"].sel(channel="18.7H").isnull().sum()) == 2 * 2
    assert ds["n_samples"].dtype.kind == "u"


def test_cetb_refuses_mixtures(tmp_path):
    evening = write_cetb(tmp_path / "e.nc", 13426)
    morning = write_cetb(tmp_path / "m.nc", 13426, division="Morning")
    with pytest.raises(ParameterError, match=r"several temporal divisions; got \['E', 'M'\]"):
        open_cetb([evening, morning], catalog_id="x")
    assert open_cetb([evening, morning], catalog_id="x", temporal_division="M").attrs["temporal_division"] == "M"
    with pytest.raises(FormatError, match="different grids"):
        open_cetb([evening, write_cetb(tmp_path / "g.nc", 13427, size=5)], catalog_id="x")
    with pytest.raises(FormatError, match="no AMSR-E channel; got '19H'"):
        open_cetb([write_cetb(tmp_path / "s.nc", 13426, beam="19H")], catalog_id="x")
