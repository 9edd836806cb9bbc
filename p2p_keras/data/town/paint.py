"""The colours that no solid carries: fields, road and water on the ground, doors and windows on the fronts, the sky.

Exact arithmetic only, by the rule in `scene`.
"""

import numpy as np

from p2p_keras.data.town.scene import FAR, MISS, PAVEMENT, Ground, Light, Triple, Vec, mix, road_middle

PAINT = (0.9, 0.88, 0.85)  # of the markings on the road
CLOUDS = ((-0.5, 0.38, 0.26, 0.05), (-0.42, 0.38, 0.14, 0.1), (0.36, 0.25, 0.2, 0.04), (0.3, 0.25, 0.1, 0.07))
MOON = (0.42, 0.42, 0.045, 0.045)  # like a cloud: centre, and half the width and height
RIDGES = (((-0.75, 0.5, 0.15), (0.1, 0.45, 0.09), (0.8, 0.4, 0.13)), ((-0.3, 0.55, 0.06), (0.55, 0.6, 0.075)))


def paint_ground(colour: Triple, ground: Ground, where: tuple, points: Triple) -> np.ndarray:
    """Paints the plane z = 0 at `where` (n) in place; returns where it is water (n,)."""
    x, y = points[0][where], points[1][where]
    tint, tones, layer = ground.tint, [], np.zeros(x.shape, np.int32)

    def lay(where: np.ndarray, colour: Vec) -> None:
        tones.append(colour)
        layer[where] = len(tones) - 1

    def stripes(value: np.ndarray, period: float) -> np.ndarray:
        value = value * (1.0 / period)
        return value - np.floor(value) < 0.5

    off = x - road_middle(ground, y)
    away, right, far = np.abs(off) - ground.half, off > 0.0, y > ground.split
    rows = stripes(off, 3.0)
    for index, (first, second) in enumerate(ground.lands):
        here = (right == bool(index % 2)) & (far == bool(index // 2))
        lay(here, first)
        lay(here & rows, second)
    for x0, x1, y0, y1 in ground.paths:
        lay((off > x0) & (off < x1) & (y > y0) & (y < y1), tint["paving"])
    wave = y * (1.0 / 15.0)
    wave = (wave - np.floor(wave)) * 2.0 - 1.0
    bank = np.where(right, np.float32(ground.banks[1]), np.float32(ground.banks[0]))
    shore = away - bank - wave * (1.0 - np.abs(wave)) * 3.0  # parabolas, much like a sine
    lay(shore > -1.3, tint["sand"])
    lay(shore > 0.0, mix(tint["water"], PAINT, 0.35))
    lay(shore > 0.5, tint["water"])
    junction = np.abs(y - ground.crossing) - ground.half
    edge = np.minimum(away, np.where(bank > FAR, junction, MISS))  # the road that crosses ends where there is water
    lay(edge < PAVEMENT, tint["paving"])
    lay(edge < 0.2, mix(tint["paving"], PAINT, 0.7))
    lay(edge < 0.0, tint["road"])
    lay((np.abs(off) < 0.13) & stripes(y, 5.0) & (junction > 5.0), PAINT)
    lay((away < -0.3) & stripes(off, 1.1) & (np.abs(junction - 3.4) < 1.2), PAINT)
    for k in range(3):
        colour[k][where] = np.array(tones, np.float32)[layer, k]
    return shore > 0.0


def paint_fronts(colour: Triple, rows: np.ndarray, where: tuple, points: Triple) -> np.ndarray:
    """Paints doors and windows on the house fronts at `where` (n) in place; returns where there is glass (n,)."""
    x, y, z = (part[where] for part in points)
    along_y, middle, half, height = rows[10:]
    u = np.where(along_y > 0.5, y, x) - middle
    pitch = half * 2.0 / np.maximum(np.floor(half * (2.0 / 2.7)), 1.0)
    cell, storey = (u + half) / pitch, z * (1.0 / 2.8)
    across = np.abs((cell - np.floor(cell) - 0.5) * pitch)
    up = np.abs((storey - np.floor(storey)) * 2.8 - 1.55)
    fits = (np.floor(storey) * 2.8 + 2.5 < height) & ((np.abs(u) > 1.6) | (z > 2.8))
    trim = (fits & (across < 0.85) & (up < 0.95)) | ((np.abs(u) < 0.95) & (z < 2.5))
    door = (np.abs(u) < 0.7) & (z < 2.25)
    plinth = np.where(z < 0.5, np.float32(0.7), np.float32(1.0))
    for k, (white, wood) in enumerate(((0.92, 0.2), (0.9, 0.09), (0.84, 0.06))):
        tone = np.where(trim, np.float32(white), colour[k][where] * plinth)
        colour[k][where] = np.where(door, np.float32(wood), tone)
    return fits & (across < 0.65) & (up < 0.75) & (across > 0.05)


def paint_sky(light: Light, x: np.ndarray, up: np.ndarray) -> Triple:
    """Returns the sky in the directions (x, 1, up); it is mirrored with the sun, to be foretold from the shadows."""
    x = x * (1.0 if light.to_sun[0] > 0.0 else -1.0)
    part = np.minimum(np.maximum(up, 0.0) / (np.maximum(up, 0.0) + 0.3) * 1.6, 1.0)
    discs = []
    for cx, cy, rx, ry in (MOON, *CLOUDS):
        a, b = (x - cx) * (1.0 / rx), (up - cy) * (1.0 / ry)
        discs.append((a * a + b * b < 1.0) & (b > (-0.25 if ry != rx else -1.0)))  # clouds have flat bottoms
    clouds = discs[1] | discs[2] | discs[3] | discs[4]
    ridges = np.zeros((len(RIDGES), *x.shape), bool)
    for ridge, bumps in zip(ridges, RIDGES, strict=True):
        for centre, width, top in bumps:
            a = (x - centre) * (1.0 / width)
            ridge |= up < (1.0 - a * a) * top
    sky = []
    for low, high, hill in zip(light.horizon, light.zenith, light.hills, strict=True):
        tone = low + (high - low) * part
        tone = np.where(discs[0], tone + (0.9 - tone) * light.moon, tone)
        tone = np.where(clouds, tone * 0.35 + (low + 0.12) * 0.65, tone)
        tone = np.where(ridges[0], np.float32(0.5 * (hill + low)), tone)
        sky.append(np.where(ridges[1], np.float32(hill), tone))
    return sky
