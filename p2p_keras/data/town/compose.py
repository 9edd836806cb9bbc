"""Random numbers become a scene: its season and hour, its lands, and the houses, trees and boats that stand there."""

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

from p2p_keras.data.town.scene import (
    FAR,
    FRONT,
    GLOW,
    PAVEMENT,
    PLAIN,
    Face,
    Ground,
    Light,
    Scene,
    Solid,
    Vec,
    mix,
    road_middle,
)

Random = Callable[[], float]  # the next number in [0, 1)


def _rgb(code: int) -> Vec:
    """Returns the linear colour of 0xRRGGBB."""
    return tuple((code >> shift & 255) * (code >> shift & 255) / 65025.0 for shift in (16, 8, 0))


SEASONS = {  # spring, summer, autumn, winter
    "lawn": (0x9CCC5C, 0xE4CC7C, 0xCC9450, 0xF0F4FA),
    "crop": (0x78B44A, 0xCCA450, 0xA46A3C, 0xD2DEEE),
    "crown": (0x84C44C, 0x4A8C42, 0xE88830, 0xC8D6E6),
    "blossom": (0xF6B4C8, 0x70A04A, 0xC84830, 0xB0C2D8),
    "fir": (0x3C8460, 0x2F6A50, 0x3A6650, 0x7EA2A8),
    "road": (0x767880, 0x8C8680, 0x6A666A, 0xA8AEBA),
    "paving": (0xDAD2C2, 0xE8DABC, 0xC8B8A4, 0xE2E6EE),
    "water": (0x46A2C4, 0x3098C8, 0x46788F, 0xB0D4E4),
    "sand": (0xDECD9C, 0xF0DEB0, 0xC4A87C, 0xF4F6FA),
    "hills": (0x6AA878, 0x9AA470, 0xB07A54, 0xB8C6DA),
}
HOURS = {  # noon, golden evening, blue hour
    "sun": ((0.80, 0.76, 0.68), (1.00, 0.54, 0.20), (0.07, 0.08, 0.17)),
    "ambient": ((0.38, 0.42, 0.48), (0.28, 0.22, 0.27), (0.06, 0.085, 0.20)),
    "zenith": (_rgb(0x4AA0EC), _rgb(0xA48CBC), _rgb(0x0C1440)),
    "horizon": (_rgb(0xDCF4FE), _rgb(0xFFB45C), _rgb(0x70508C)),
    "glow": (_rgb(0x6C98B8), _rgb(0xF4B468), _rgb(0xFFDA7C)),
    "hills": (_rgb(0xD8E4F0), _rgb(0xE8B090), _rgb(0x48487C)),
}
STYLES = (  # colours of roof and wall, storeys, shape of the roof: who sees the roof knows the house
    (0xD05A3A, 0xFAE8C4, 2, "gable"),
    (0x466486, 0xF4F4F0, 2, "gable"),
    (0x6E4A3A, 0xF2BE5C, 1, "hip"),
    (0x569C84, 0xF2A690, 2, "hip"),
    (0xB8B8C0, 0xBC5E4C, 3, "flat"),
    (0x44424C, 0x8CBADA, 1, "gable"),
)
CARS = (0xD84A3C, 0x3C78C0, 0xF0C040, 0xEEEEEA)
HEXAGON = ((1.0, 0.0), (0.5, 0.866), (-0.5, 0.866), (-1.0, 0.0), (-0.5, -0.866), (0.5, -0.866))


class Zone(NamedTuple):
    """One of the four pieces of land beside the road, from y = `start` to `stop`."""

    ground: Ground
    sign: float  # -1 on the left, +1 on the right
    start: float
    stop: float
    snow: float  # 0 to 1


def _between(rand: Random, low: float, high: float) -> float:
    return low + (high - low) * rand()


def _spot(zone: Zone, away: float, y: float) -> tuple[float, float]:
    """Returns the point (x, y) that lies `away` from the pavement."""
    return float(road_middle(zone.ground, y)) + zone.sign * (zone.ground.half + PAVEMENT + away), y


def _bounds(x: float, y: float, z: float, size: Vec) -> tuple[Vec, Vec]:
    """Returns the low and the high corner of a box whose bottom is centred at (x, y, z)."""
    wide, deep, tall = size
    return (x - 0.5 * wide, y - 0.5 * deep, z), (x + 0.5 * wide, y + 0.5 * deep, z + tall)


def _ball(x: float, y: float, z: float, size: Vec, colour: Vec, kind: float = PLAIN) -> Solid:
    return Solid(*_bounds(x, y, z, size), (Face((0.0, 0.0, 1.0), 0.0, colour, kind),), round=True)


def block(
    x: float, y: float, z: float, size: Vec, side: Vec, top: Vec | None = None, kind: float = PLAIN, ridge: str = ""
) -> Solid:
    """Returns a box, or a roof: its `ridge` runs along "x" or "y" between upright gables, or every side leans ("hip").

    What looks up has the colour `top`, by default that of the rest; the upright faces are of the `kind`.
    """
    low, high = _bounds(x, y, z, size)
    faces = [Face((0.0, 0.0, -1.0), -z, side)] if z > 0.0 else []
    if not ridge:
        faces.append(Face((0.0, 0.0, 1.0), high[2], top or side))
    for axis, name in enumerate("xy"):
        run = 0.5 * (min(size[0], size[1]) if ridge == "hip" else size[axis])
        slant = sqrt(size[2] * size[2] + run * run)
        out, up, paint = (1.0, 0.0, side) if ridge in ("", name) else (size[2] / slant, run / slant, top or side)
        for sign, edge in ((1.0, high[axis]), (-1.0, -low[axis])):
            normal = (sign * out, 0.0, up) if axis == 0 else (0.0, sign * out, up)
            faces.append(Face(normal, out * edge + up * z, paint, kind))
    return Solid(low, high, tuple(faces))


def _house(x: float, y: float, wide: float, deep: float, style: int, snow: float) -> list[Solid]:
    roof_code, wall_code, storeys, shape = STYLES[style]
    roof, wall = mix(_rgb(roof_code), _rgb(0xF4F6FC), 0.5 * snow), _rgb(wall_code)
    height, trim = 2.8 * storeys + 0.4, mix(wall, (1.0, 1.0, 1.0), 0.3)
    body = block(x, y, 0.0, (wide, deep, height), wall, kind=FRONT)
    rise, ridge = 0.4 * min(wide, deep), {"hip": "hip", "gable": "x" if wide > deep else "y"}.get(shape, "")
    chimney = block(x + 0.15 * wide, y + 0.15 * deep, height, (1.0, 1.0, rise + 0.5), mix(wall, roof, 0.5))
    eaves = (wide + 1.0, deep + 1.0, rise if ridge else 0.6)
    return [body, chimney, block(x, y, height, eaves, trim, top=roof, ridge=ridge)]


def _tree(x: float, y: float, radius: float, colour: Vec, fir: bool = False) -> list[Solid]:
    """Returns a trunk with a round crown, or with two pyramids of six sides."""
    solids = [block(x, y, 0.0, (0.44, 0.44, 1.2 if fir else radius + 0.8), _rgb(0x6E4C38))]
    if not fir:
        return [*solids, _ball(x, y, 0.9 + 0.78 * radius, (2.0 * radius, 2.0 * radius, 2.24 * radius), colour)]
    for base, tall, wide in ((0.9, 2.5 * radius, radius), (0.9 + 1.3 * radius, 2.4 * radius, 0.74 * radius)):
        faces = [Face((0.0, 0.0, -1.0), -base, colour)]
        slant = sqrt(tall * tall + wide * wide)
        for nx, ny in HEXAGON:
            normal = (nx * tall / slant, ny * tall / slant, wide / slant)
            faces.append(Face(normal, normal[0] * x + normal[1] * y + normal[2] * (base + tall), colour))
        size = (2.31 * wide, 2.31 * wide, tall)  # the corners of a hexagon stand out by 2 / sqrt(3)
        solids.append(Solid(*_bounds(x, y, base, size), tuple(faces)))
    return solids


def _car(x: float, y: float, code: int) -> list[Solid]:
    dark, paint = _rgb(0x26282E), _rgb(code)
    solids = [block(x, y, 0.0, (1.6, 3.0, 0.35), dark), block(x, y, 0.3, (1.8, 4.0, 0.6), paint)]
    return [*solids, block(x, y - 0.2, 0.9, (1.5, 2.1, 0.55), dark, top=paint)]


def _fill_houses(rand: Random, zone: Zone) -> list[Solid]:
    """Returns a house, its tree and hedge, and perhaps a car at the kerb; adds the path to its door to the ground."""
    tint, start, stop = zone.ground.tint, zone.start, zone.stop
    wide, deep = _between(rand, 7.5, 10.0), min(_between(rand, 7.5, 11.0), stop - start - 1.0)
    y, away = _between(rand, start + 0.5 * deep, stop - 0.5 * deep), _between(rand, 1.6, 3.4)
    solids = _house(*_spot(zone, away + 0.5 * wide, y), wide, deep, int(rand() * len(STYLES)), zone.snow)
    edge = zone.ground.half + PAVEMENT
    zone.ground.paths.append((*sorted((zone.sign * edge, zone.sign * (edge + away))), y - 0.8, y + 0.8))
    bushes = (start + 1.0 + 1.9 * step for step in range(int((stop - start) / 1.9)))
    size, green, top = (0.8, 1.5, 1.0), tint["fir"], mix(tint["fir"], tint["lawn"], 0.4)
    solids += [block(*_spot(zone, 0.5, bush), 0.0, size, green, top) for bush in bushes if abs(bush - y) > 1.8]
    tree = y + 0.5 * deep + 2.5 if y + 0.5 * deep + 4.0 < stop else y - 0.5 * deep - 2.5
    if tree > start:
        solids += _tree(*_spot(zone, _between(rand, 1.5, 4.0), tree), _between(rand, 1.5, 2.3), tint["blossom"])
    if rand() < 0.5:
        y = _between(rand, start + 4.0, stop - 2.0)
        solids += _car(*_spot(zone, -PAVEMENT - 1.1, y), CARS[int(rand() * len(CARS))])
    return solids


def _fill_wood(rand: Random, zone: Zone) -> list[Solid]:
    solids, firs, tint = [], rand() < 0.5, zone.ground.tint
    for step in range(6):
        y = zone.start + (zone.stop - zone.start) * (step // 2 + _between(rand, 0.25, 0.75)) / 3.0
        place = _spot(zone, 2.4 + 4.6 * (step % 2) + _between(rand, -0.6, 0.6), y)
        colour = tint["fir" if firs else "crown" if step % 3 else "blossom"]
        solids += _tree(*place, _between(rand, 1.6, 2.5), colour, firs)
    return solids


def _fill_field(rand: Random, zone: Zone) -> list[Solid]:
    """Returns a tree and three bales of hay."""
    tint, long = zone.ground.tint, zone.stop - zone.start
    place = _spot(zone, _between(rand, 3.0, 6.0), zone.start + _between(rand, 0.2, 0.9) * long)
    solids = _tree(*place, _between(rand, 2.0, 2.8), tint["crown"])
    for away, part in ((3.0, 0.3), (7.5, 0.55), (4.5, 0.85)):
        place, straw = _spot(zone, away, zone.start + part * long), mix(tint["crop"], tint["lawn"], 0.5)
        solids.append(_ball(*place, -0.2, (1.9, 1.9, 1.7), straw))
    return solids


def _fill_water(rand: Random, zone: Zone) -> list[Solid]:
    """Returns a sailing boat."""
    y = _between(rand, zone.start + 4.0, zone.stop - 4.0)
    x, y = _spot(zone, zone.ground.banks[zone.sign > 0.0] + _between(rand, 2.0, 6.0), y)
    sail = block(x, y, 0.8, (2.8, 0.2, 4.2), _rgb(0xFCFAF4), ridge="y")
    return [block(x, y, 0.0, (3.6, 1.4, 0.6), _rgb(0xC8503C)), sail]


def mood(season: float, hour: float, side: float) -> tuple[dict[str, Vec], Light]:
    """Returns the colours of things in a season (0 to 4), and the light at an hour (0 to 2), with the sun at a side."""
    first, part = int(season), min(max(2.5 * (season - int(season)) - 0.75, 0.0), 1.0)  # few scenes are in between
    tint = {name: mix(_rgb(codes[first]), _rgb(codes[(first + 1) % 4]), part) for name, codes in SEASONS.items()}
    first, part = int(hour), (hour - int(hour)) * (hour - int(hour)) * (3.0 - 2.0 * (hour - int(hour)))
    ray = {name: mix(colours[first], colours[first + 1], part) for name, colours in HOURS.items()}
    ray["hills"] = tuple(a * b for a, b in zip(tint["hills"], ray["hills"], strict=True))
    slope = 1.25 - 0.6 * min(hour, 1.0)  # the shadow of one metre is 0.8 to 1.5 m long
    to_sun = tuple(part / sqrt(0.9725 + slope * slope) for part in (side * 0.5, -0.85, slope))
    return tint, Light(to_sun=to_sun, moon=max(hour - 1.0, 0.0), **ray)


def compose(rand: Random) -> Scene:
    """Returns the scene that the numbers of `rand` make."""
    season = 4.0 * rand()
    tint, light = mood(season, 2.0 * rand(), 1.0 if rand() < 0.5 else -1.0)
    choice = (*[_fill_houses] * 4, *[_fill_wood] * 2, *[_fill_field] * 2, _fill_water)  # as often as they stand here
    half, crossing = _between(rand, 2.5, 3.4), _between(rand, 18.0, 24.0) if rand() < 0.45 else 2.0 * FAR
    split, gap = (crossing, half + 2.8) if crossing < FAR else (22.0, 0.5)
    fills = [choice[int(rand() * len(choice))] for _ in range(4)]  # left near, right near, left far, right far
    for right in (0, 1):
        if _fill_water in (fills[right], fills[2 + right]):  # a lake takes the whole side
            fills[right] = fills[2 + right] = _fill_water
    banks = tuple(_between(rand, 4.0, 6.5) if fill is _fill_water else 2.0 * FAR for fill in fills[:2])
    first, second = {_fill_wood: "crop"}, {_fill_wood: "crop", _fill_field: "crop"}
    lands = tuple((tint[first.get(fill, "lawn")], tint[second.get(fill, "lawn")]) for fill in fills)
    offset, bend = _between(rand, -1.0, 1.0), _between(rand, -0.005, 0.005)
    ground = Ground(offset, bend, half, crossing, split, lands, banks, [], tint)
    solids = _car(0.0, -2.4, CARS[0])
    for index, fill in enumerate(fills):
        start, stop = (split + gap, 43.0) if index // 2 else (4.0, split - gap)
        zone = Zone(ground, (-1.0, 1.0)[index % 2], start, stop, max(0.0, 1.0 - abs(season - 3.0)))
        x, y = _spot(zone, 0.5 - PAVEMENT, 33.0 if index // 2 else 9.0)
        lamp = _ball(x, y, 3.5, (0.6, 0.6, 0.6), (0.0, 0.0, 0.0), GLOW)
        solids += [block(x, y, 0.0, (0.16, 0.16, 3.6), _rgb(0x3A3E46)), lamp]
        if fill is not _fill_water or index // 2:
            solids += fill(rand, zone)
    return Scene(light, ground, tuple(solids))
