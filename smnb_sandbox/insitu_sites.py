"""Where the sandbox's in-situ sensors stand: seven made-up networks on the real Köppen map, stations and static data.

Names are invented; positions are drawn from the climate map by the seed, so that each station has the climate its network
asks for. Soil comes from the world's cell with a difference of its own, land cover from the climate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from smnb.grids.koppen import KOPPEN_NAMES, OCEAN, koppen_codes
from smnb_sandbox.noise import EARTH_RADIUS_KM, stream
from smnb_sandbox.world import World, soil_limits

Box = tuple[float, float, float, float]
"""South, north, west, east, degrees."""


@dataclass(frozen=True)
class Network:
    """A made-up network: where it stands, how it measures and in which format it is distributed."""

    name: str
    file_format: str
    """``header_values``, ``ceop_sep`` or ``uscrn``."""
    instrument: str
    """As ISMN's header spells it, with spaces; file names have hyphens."""
    depth: tuple[float, float]
    boxes: tuple[Box, ...]
    classes: tuple[str, ...]
    """Köppen classes wanted, one station after the other, over and over."""
    stations: tuple[str, ...]
    """Names as the header spells them; `Station.folder` is what files and folders have."""
    elevation: float
    deep: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """By station number: further depths (m)."""
    twins: tuple[int, ...] = ()
    """Stations with two sensors, A and B, at the network's depth."""
    gauges: tuple[str, ...] = ()
    """Which of ``ts`` (soil temperature), ``ta`` (air temperature), ``p`` (rain) the network measures."""
    decimals: int = 3
    provider_flag: str = "M"
    near: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Station number: another station's number, and the distance from it (km)."""
    no_static: tuple[int, ...] = ()
    """Stations without a file of static variables."""

    def __hash__(self) -> int:
        return hash(self.name)


NETWORKS: tuple[Network, ...] = (
    Network(
        "SBX-PRAIRIE",
        "header_values",
        "Hydraprobe Analog (2.5 Volt)",
        (0.0508, 0.0508),
        ((31.0, 50.0, -112.0, -86.0),),
        ("Dfb", "Dfa", "BSk", "Cfa", "BSh"),
        (
            "Alder_Flat",
            "Bison_Gap",
            "Corn-Row-1",
            "Corn-Row-2",
            "Dust_Bowl#3",
            "Elm_Fork",
            "Ferny_Hollow",
            "Goose_Creek",
            "Hay_Meadow",
        ),
        420.0,
        deep={0: (0.1016, 0.2032), 4: (0.1016,), 6: (0.1016, 0.2032)},
        twins=(5,),
        gauges=("ts", "ta"),
        decimals=3,
        near={3: (2, 1.1)},
    ),
    Network(
        "SBX_IBERIA",
        "header_values",
        "ThetaProbe ML2X",
        (0.05, 0.05),
        ((36.5, 46.0, -8.5, 16.0),),
        ("Csa", "BSk", "Csb", "Cfb"),
        ("node_01", "node_02", "node_03", "node_04", "node_05", "node_06", "node_07", "node_08"),
        310.0,
        twins=(2, 6),
        gauges=("p",),
        decimals=4,
        provider_flag="OK",
        near={1: (0, 8.0)},
    ),
    Network(
        "SBX-BOREAL",
        "header_values",
        "5TM",
        (0.05, 0.05),
        ((54.0, 69.5, 12.0, 130.0), (55.0, 67.0, -160.0, -100.0)),
        ("Dfc", "Dfb", "ET", "Dfc", "Dwc"),
        ("Aapa", "Bog 2", "Cloudberry", "Dry_Heath", "Esker", "Frost_Hill", "Grus", "Haapa"),
        180.0,
        gauges=("ts", "ta"),
        decimals=3,
        no_static=(1,),
    ),
    Network(
        "SBX-HIGHLAND",
        "header_values",
        "ECH20 EC-TM",
        (0.0, 0.05),
        ((28.0, 46.0, 40.0, 104.0),),
        ("ET", "BWk", "Dwb", "Dsb", "BSk", "Dsa", "Dwc"),
        ("HL_01", "HL_02", "HL_03", "HL_04", "HL_05", "HL_06", "HL_07"),
        3100.0,
        decimals=3,
    ),
    Network(
        "SBX-MONSOON",
        "ceop_sep",
        "EC5",
        (0.05, 0.05),
        ((-4.0, 28.0, 68.0, 108.0), (5.0, 20.0, -14.0, 34.0)),
        ("Aw", "Cwa", "Am", "BSh", "Af", "BWh", "Aw", "Cwb"),
        ("Paddy_1", "Paddy_2", "Teak#4", "Sahel-North", "Rain_Tree", "Erg", "Savanna", "Terrace"),
        240.0,
        deep={0: (0.1,), 6: (0.1,)},
        decimals=4,
        near={1: (0, 12.0)},
    ),
    Network(
        "SBX-AUSTRAL",
        "ceop_sep",
        "CS616",
        (0.0, 0.05),
        ((-42.0, -20.0, 115.0, 152.0), (-52.0, -30.0, -73.0, -66.0)),
        ("BSk", "BWh", "Cfb", "ET", "Cfa", "BSh", "BWk", "Csb"),
        ("Mallee", "Red_Plain", "Gum-Creek", "Puna_Alta", "Wattle", "Spinifex_9", "Meseta", "Vineyard"),
        390.0,
        gauges=("ta",),
        decimals=4,
    ),
    Network(
        "SBX-CRN",
        "uscrn",
        "Hydraprobe II",
        (0.05, 0.05),
        ((31.0, 48.0, -122.0, -77.0),),
        ("Dfb", "Cfa", "BSk", "BWh", "Csb", "Dfa", "Dsb", "Cfa", "BSk"),
        (
            "SX_Ashford_4_NE",
            "SX_Birch_Run_12_W",
            "SX_Cinder_9_SSE",
            "SX_Dune_3_N",
            "SX_Eddy_21_ESE",
            "SX_Fallow_6_SW",
            "SX_Granite_15_NNW",
            "SX_Heron_2_S",
            "SX_Ibex_30_WNW",
        ),
        520.0,
        deep=dict.fromkeys(range(9), (0.1, 0.2, 0.5, 1.0)),
        gauges=("ts", "ta", "p"),
        decimals=3,
    ),
)

#: ESA CCI land cover codes that stations can have, as ISMN's static files write them.
LAND_COVER: dict[int, str] = {
    10: "Cropland, rainfed",
    11: "Cropland, rainfed / Herbaceous cover",
    20: "Cropland, irrigated / Post-flooding",
    30: "Mosaic cropland (>50%) / natural vegetation (tree, shrub, herbaceous cover) (<50%)",
    50: "Tree cover, broadleaved, evergreen, Closed to open (>15%)",
    60: "Tree cover, broadleaved, deciduous, Closed to open (>15%)",
    70: "Tree cover, needleleaved, evergreen, closed to open (>15%)",
    90: "Tree cover, mixed leaf type (broadleaved and needleleaved)",
    120: "Shrubland",
    130: "Grassland",
    140: "Lichens and mosses",
    150: "Sparse vegetation (tree, shrub, herbaceous cover) (<15%)",
    180: "Shrub or herbaceous cover, flooded, fresh/saline/brakish water",
    200: "Bare areas",
}
_COVER_BY_CLIMATE: dict[str, tuple[int, ...]] = {
    "Af": (50,),
    "Am": (50, 60),
    "As": (120, 130),
    "Aw": (20, 60, 130),
    "BS": (130, 120, 11),
    "BW": (200, 150),
    "Cf": (11, 60, 30, 130),
    "Cs": (20, 120, 10, 11),
    "Cw": (20, 30),
    "Df": (70, 11, 90, 180, 130),
    "Ds": (130, 120),
    "Dw": (130, 90),
    "ET": (140, 130, 150),
}


@dataclass(frozen=True)
class Station:
    """One station, with what ISMN's static file says of it."""

    network: Network
    number: int
    lat: float
    lon: float
    elevation: float
    climate: str
    cell: int
    """Index into the world's soil cells."""
    land_cover: int
    clay_fraction: float
    sand_fraction: float
    organic_carbon: float
    """Mass %, topsoil."""
    saturation: float
    """m3 m-3, rounded as the file has it."""

    @property
    def name(self) -> str:
        """As the data files' header spells it: without spaces."""
        return self.network.stations[self.number].replace(" ", "_")

    @property
    def folder(self) -> str:
        """As folders and file names have it: ISMN replaces underscores, which separate the parts of a file name."""
        return self.network.stations[self.number].replace("_", "-")

    @property
    def has_static(self) -> bool:
        """Whether the archive holds a file of static variables."""
        return self.number not in self.network.no_static


@dataclass(frozen=True)
class Sensor:
    """One soil moisture sensor: the unit that has a time series."""

    station: Station
    station_index: int
    depth_from: float
    depth_to: float
    instrument: str

    @property
    def is_surface(self) -> bool:
        """Whether it lies in the top 5 cm (or two inches)."""
        return self.depth_to < 0.052

    @property
    def instrument_in_file(self) -> str:
        """The instrument as ISMN's file names have it."""
        return self.instrument.replace(" ", "-").replace("_", "-")

    @property
    def key(self) -> str:
        """Network, station, instrument and depth as `smnb.loaders.insitu` joins them when it reads the archive."""
        network, name = self.station.network.name, self.instrument_in_file
        if self.station.network.file_format == "uscrn":  # the text says neither network nor instrument
            network, name = "USCRN", "USCRN-hourly02"
        return f"{network}__{self.station.name}__{name}__{self.depth_from:.4f}-{self.depth_to:.4f}"


def _draw_position(rng: np.random.Generator, network: Network, wanted: str) -> tuple[float, float, str]:
    """Draw a point of the wanted climate, away from coasts and ice sheets."""
    boxes = np.asarray(network.boxes)
    box = boxes[rng.integers(len(boxes), size=6000)]
    lat = np.round(rng.uniform(box[:, 0], box[:, 1]), 4)
    lon = np.round(rng.uniform(box[:, 2], box[:, 3]), 4)
    codes = koppen_codes(lat, lon)
    unsuited = (OCEAN, KOPPEN_NAMES.index("EF"))
    inland = np.ones(lat.size, dtype=bool)
    for north in (-0.3, 0.0, 0.3):
        for east in (-0.3, 0.0, 0.3):
            inland &= ~np.isin(koppen_codes(lat + north, lon + east), unsuited)
    right = np.flatnonzero(inland & (codes == KOPPEN_NAMES.index(wanted)))
    # a class that is rare in the boxes may have no point: any land will do then
    i = right[0] if right.size else np.flatnonzero(inland)[0]
    return float(lat[i]), float(lon[i]), KOPPEN_NAMES[codes[i]]


def _nearest_cell(world: World, lat: float, lon: float) -> int:
    east = np.mod(world.soil_lon - lon + 180.0, 360.0) - 180.0
    return int(np.argmin((world.soil_lat - lat) ** 2 + (east * np.cos(np.radians(lat))) ** 2))


def place_stations(world: World) -> list[Station]:
    """Draw the stations of all networks; the same for the same seed, whatever the world's resolution.

    Parameters
    ----------
    world : World
        Gives soil, vegetation and the cell of each station.

    Returns
    -------
    list of Station
        Network by network, in the order of `NETWORKS`.
    """
    stations: list[Station] = []
    for k, network in enumerate(NETWORKS):
        first = len(stations)
        for number in range(len(network.stations)):
            rng = stream(world.seed, "insitu station", k, number)
            lat, lon, climate = _draw_position(rng, network, network.classes[number % len(network.classes)])
            if number in network.near:
                other, km = network.near[number]
                # not quite along the parallel, so that no grid line separates all pairs
                east = km / (EARTH_RADIUS_KM * np.pi / 180.0) / np.cos(np.radians(stations[first + other].lat))
                lat = round(stations[first + other].lat + 0.0021, 4)
                lon = round(stations[first + other].lon + east, 4)
                climate = KOPPEN_NAMES[int(koppen_codes(lat, lon))]
            stations.append(_station(world, rng, network, number, lat, lon, climate))
    return stations


def _station(
    world: World, rng: np.random.Generator, network: Network, number: int, lat: float, lon: float, climate: str
) -> Station:
    cell = _nearest_cell(world, lat, lon)
    clay = float(np.clip(world.clay_fraction[cell] + 0.05 * rng.standard_normal(), 0.03, 0.62))
    share = world.sand_fraction[cell] / (1.0 - world.clay_fraction[cell])
    sand = float((1.0 - clay) * np.clip(share + 0.08 * rng.standard_normal(), 0.06, 0.92))
    group = climate[:2]
    covers = _COVER_BY_CLIMATE.get(group, (130,))
    wetness = float(world.wetness[cell])
    return Station(
        network,
        number,
        lat,
        lon,
        elevation=round(float(network.elevation * np.exp(0.35 * rng.standard_normal())), 1),
        climate=climate,
        cell=cell,
        land_cover=covers[int(rng.integers(len(covers)))],
        clay_fraction=round(clay, 2),
        sand_fraction=round(sand, 2),
        organic_carbon=round(float(np.clip(0.3 + 2.2 * wetness * np.exp(0.4 * rng.standard_normal()), 0.1, 12.0)), 2),
        saturation=round(float(soil_limits(np.float64(clay), np.float64(sand))[2]), 2),
    )


def place_sensors(stations: list[Station]) -> list[Sensor]:
    """List the sensors of the stations: one or two at the network's depth, then the deeper ones."""
    sensors = []
    for i, station in enumerate(stations):
        network = station.network
        names = [f"{network.instrument} {s}" for s in "AB"] if station.number in network.twins else [network.instrument]
        sensors += [Sensor(station, i, *network.depth, name) for name in names]
        sensors += [Sensor(station, i, d, d, network.instrument) for d in network.deep.get(station.number, ())]
    return sensors
