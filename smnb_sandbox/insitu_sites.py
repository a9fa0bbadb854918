"""Where the sandbox's in-situ sensors stand: seven made-up networks on the real Köppen map, stations and static data.

The seed draws positions of the climate that a network asks for; soil comes from the world's cell, land cover from the climate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from smnb.grids.koppen import KOPPEN_NAMES, OCEAN, koppen_codes
from smnb_sandbox.files import table
from smnb_sandbox.noise import KM_PER_DEGREE, stream
from smnb_sandbox.world import World, soil_limits

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Network:
    """A made-up network: where it stands, how it measures and in which format it is distributed."""

    name: str
    file_format: str  # ``header_values``, ``ceop_sep`` or ``uscrn``
    instrument: str  # as ISMN's header spells it, with spaces; file names have hyphens
    depth: tuple[float, float]
    boxes: tuple[tuple[float, float, float, float], ...] = ()  # south, north, west, east, degrees
    classes: tuple[str, ...] = ()  # Köppen classes wanted, one station after the other, over and over
    stations: tuple[str, ...] = ()  # names as the header spells them; `Station.folder` is what files and folders have
    elevation: float = 0.0
    deep: dict[int, tuple[float, ...]] = field(default_factory=dict)  # by station number: further depths (m)
    twins: tuple[int, ...] = ()  # stations with two sensors, A and B, at the network's depth
    gauges: tuple[str, ...] = ()
    """Which of ``ts`` (soil temperature), ``ta`` (air temperature), ``p`` (rain) the network measures."""
    decimals: int = 3
    provider_flag: str = "M"
    near: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Station number: another station's number, and the distance from it (km)."""
    no_static: tuple[int, ...] = ()  # stations without a file of static variables

    def __hash__(self) -> int:
        return hash(self.name)


def networks_of(part: str) -> tuple[Network, ...]:
    """The networks of a part of the sandbox: ``archive``, ``fusion`` or ``multisource``."""
    return tuple(Network(**row) for row in table("networks")[part])


NETWORKS = networks_of("archive")
#: ESA CCI land cover codes that stations can have, as ISMN's static files write them.
LAND_COVER: dict[int, str] = table("networks")["land_cover"]


@dataclass(frozen=True)
class Station:
    """One station, with what ISMN's static file says of it."""

    network: Network
    number: int
    lat: float
    lon: float
    elevation: float
    climate: str
    cell: int  # index into the world's soil cells
    land_cover: int
    clay_fraction: float
    sand_fraction: float
    organic_carbon: float  # mass %, topsoil
    saturation: float  # m3 m-3, rounded as the file has it

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


def place_stations(world: World) -> list[Station]:
    """Draw the stations of all networks in turn; the same for the same seed, whatever the world's resolution."""
    stations: list[Station] = []
    for k, network in enumerate(NETWORKS):
        first = len(stations)
        for number in range(len(network.stations)):
            rng = stream(world.seed, "insitu station", k, number)
            lat, lon, climate = _draw_position(rng, network, network.classes[number % len(network.classes)])
            if number in network.near:
                other, km = network.near[number]
                # not quite along the parallel, so that no grid line separates all pairs
                east = km / KM_PER_DEGREE / np.cos(np.radians(stations[first + other].lat))
                lat = round(stations[first + other].lat + 0.0021, 4)
                lon = round(stations[first + other].lon + east, 4)
                climate = KOPPEN_NAMES[int(koppen_codes(lat, lon))]
            stations.append(_station(world, rng, network, number, lat, lon, climate))
    return stations


def _station(
    world: World, rng: np.random.Generator, network: Network, number: int, lat: float, lon: float, climate: str
) -> Station:
    east = np.mod(world.soil_lon - lon + 180.0, 360.0) - 180.0
    cell = int(np.argmin((world.soil_lat - lat) ** 2 + (east * np.cos(np.radians(lat))) ** 2))
    clay = float(np.clip(world.clay_fraction[cell] + 0.05 * rng.standard_normal(), 0.03, 0.62))
    share = world.sand_fraction[cell] / (1.0 - world.clay_fraction[cell])
    sand = float((1.0 - clay) * np.clip(share + 0.08 * rng.standard_normal(), 0.06, 0.92))
    covers = table("networks")["cover_by_climate"].get(climate[:2], (130,))
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


def surveyed(
    network: Network, number: int, where: Three, climate: str, cell: int, land_cover: int, soil: Three
) -> Station:
    """A station at a latitude, longitude and elevation, on soil of clay, sand and saturation, rounded as files have them."""
    lat, lon, elevation = (round(float(value), digits) for value, digits in zip(where, (5, 5, 1), strict=True))
    clay, sand, saturation = (round(float(value), 2) for value in soil)
    place = (lat, lon, elevation, climate, cell, land_cover)
    return Station(network, number, *place, clay, sand, organic_carbon=1.2, saturation=saturation)
