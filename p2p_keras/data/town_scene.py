"""Ray casting of a small town: one list of solids, seen from above (orthographic) and from the car (perspective).

The pixels of a scene are the same on every machine and with every numpy (1.26 and 2.x). So nothing here may depend on
how a library rounds: only elementwise `+ - * / sqrt`, comparisons, floor, minimum, maximum, where and integer
operations, all of which IEEE 754 fixes to the last bit; no sin, exp, power, dot or sum. Arrays are float32 and scalars
are Python floats, which both of numpy's promotion rules (before and after NEP 50) turn into float32.

Space is in metres: x to the right, y ahead, z up; the camera of the car stands at (0, 0, `EYE`) and looks along y.
Colours are linear light from 0 to 1, shown as their square root.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Vec = tuple[float, float, float]
Triple = list[np.ndarray]  # x, y and z, or red, green and blue: apart they are quicker than a last axis of 3
Area = tuple[slice, slice, slice]

WINDOW = 48.0  # side of the square that the aerial view shows
BEHIND = 5.0  # how much of it lies behind the camera of the car
EYE = 2.4
LENS = 0.8  # tangent of half the horizontal field of view
HORIZON = 0.5  # row of the horizon, as a part of the height
FAR = 4000.0
PAVEMENT = 1.9  # its width
MISS = np.float32(1e9)
SAMPLES = ((0.125, 0.625), (0.375, 0.125), (0.625, 0.875), (0.875, 0.375))  # a turned grid smooths flat edges best
CLOUDS = ((-0.5, 0.38, 0.26, 0.05), (-0.42, 0.38, 0.14, 0.1), (0.36, 0.25, 0.2, 0.04), (0.3, 0.25, 0.1, 0.07))
MOON = (0.42, 0.42, 0.045, 0.045)  # like a cloud: centre, and half the width and height
RIDGES = (((-0.75, 0.5, 0.15), (0.1, 0.45, 0.09), (0.8, 0.4, 0.13)), ((-0.3, 0.55, 0.06), (0.55, 0.6, 0.075)))
PAINT = (0.9, 0.88, 0.85)  # of the markings on the road
PLAIN, FRONT, GLOW = 0.0, 1.0, 2.0  # kinds of face: as it is; with doors and windows; shining by itself


class Face(NamedTuple):
    """One plane of a solid: `normal . p <= offset` inside."""

    normal: Vec
    offset: float
    colour: Vec
    kind: float = PLAIN


class Solid(NamedTuple):
    """A convex polyhedron; or, if `round`, the ellipsoid that fills the bounds, whose one face gives its colour."""

    low: Vec
    high: Vec
    faces: tuple[Face, ...]
    round: bool = False


class Light(NamedTuple):
    """What the hour decides."""

    sun: Vec  # the colour of the direct light
    to_sun: Vec  # of length 1; the sun is behind the car, so the pictures of a mirrored scene remain plausible
    ambient: Vec
    zenith: Vec
    horizon: Vec
    hills: Vec
    glow: Vec  # of windows and lamps
    moon: float  # 0 to 1, how much of it shows


class Ground(NamedTuple):
    """What is painted on the plane z = 0."""

    offset: float  # x of the middle of the road at the car
    bend: float  # further on it is offset + bend * y * y
    half: float  # half the width of the road
    crossing: float  # y of the crossroads, or beyond FAR for none
    split: float  # y at which the far lands begin
    lands: tuple[tuple[Vec, Vec], ...]  # two tones in stripes: left near, right near, left far, right far
    banks: tuple[float, float]  # from the road to the water on the left and on the right, or beyond FAR for none
    paths: list[tuple[float, float, float, float]]  # x0, x1 (from the middle of the road), y0, y1
    tint: dict[str, Vec]  # colours of "road", "paving", "sand" and "water"


class Scene(NamedTuple):
    """All that both views draw."""

    light: Light
    ground: Ground
    solids: tuple[Solid, ...]


def mix(a: Vec, b: Vec, t: float) -> Vec:
    """Returns the colour `t` (0 to 1) of the way from a to b."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def road_middle(ground: Ground, y: np.ndarray | float) -> np.ndarray:
    """Returns x of the middle of the road at y (any shape): a parabola, and straight on beyond the window."""
    near = np.minimum(np.maximum(y, 0.0), WINDOW)
    return ground.offset + ground.bend * (near * near + 2.0 * WINDOW * (np.maximum(y, WINDOW) - WINDOW))


def _camera(size: int, street: bool) -> Triple:
    """Returns origin x, y, z and direction x, y, z of all rays, each (samples, size, size), or (1, 1, 1) for all."""
    steps, square = np.arange(size, dtype=np.float32), (size, size)
    column = np.stack([np.broadcast_to(steps + dx, square) for dx, _ in SAMPLES])
    row = np.stack([np.broadcast_to((steps + dy)[:, None], square) for _, dy in SAMPLES])
    nought, one = np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)
    scale = (2.0 * LENS if street else WINDOW) / size
    if street:
        return [nought, nought, EYE * one, (column - size * 0.5) * scale, one, (size * HORIZON - row) * scale]
    return [(column - size * 0.5) * scale, (size - row) * scale - BEHIND, 60.0 * one, nought, nought, -one]


def _area(solid: Solid, size: int, street: bool, to_sun: Vec | None = None) -> Area | None:
    """Returns the part of the picture that the solid, with `to_sun` also its shadow, can touch, or None for none."""
    (x0, y0, z0), (x1, y1, z1) = solid.low, solid.high
    points = [(x, y, z) for x in (x0, x1) for y in (y0, y1) for z in (z0, z1)]
    if to_sun:
        slant_x, slant_y = to_sun[0] / to_sun[2], to_sun[1] / to_sun[2]
        points += [(x - slant_x * z, y - slant_y * z, 0.0) for x, y, z in points]
    if street:
        if max(p[1] for p in points) < 0.5:
            return None
        if min(p[1] for p in points) < 0.5:  # the hull crosses the plane of the camera, so its picture has no bounds
            return slice(None), slice(0, size), slice(0, size)
        columns = [(0.5 + 0.5 * p[0] / p[1] / LENS) * size for p in points]
        rows = [(HORIZON - 0.5 * (p[2] - EYE) / p[1] / LENS) * size for p in points]
    else:
        columns = [(0.5 + p[0] / WINDOW) * size for p in points]
        rows = [(1.0 - (p[1] + BEHIND) / WINDOW) * size for p in points]
    left, right = max(int(min(columns)) - 1, 0), min(int(max(columns)) + 2, size)
    top, bottom = max(int(min(rows)) - 1, 0), min(int(max(rows)) + 2, size)
    return (slice(None), slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _dot(normal: Vec, parts: Triple) -> np.ndarray | float:
    """Returns normal . (x, y, z), added from the left, without the terms that are nought."""
    total: np.ndarray | float = 0.0
    for factor, part in zip(normal, parts, strict=True):
        total = total + factor * part if factor else total
    return total


def _strike(solid: Solid, rays: Triple, area: Area) -> tuple[np.ndarray, np.ndarray, np.ndarray | int]:
    """Returns how far along each ray the solid begins and ends (it ends first if missed), and the face entered."""
    rays = [part if part.size == 1 else part[area] for part in rays]
    if solid.round:
        a, b, c = 0.0, 0.0, -1.0
        for low, high, origin, direction in zip(solid.low, solid.high, rays[:3], rays[3:], strict=True):
            o, d = (origin - 0.5 * (low + high)) * (2.0 / (high - low)), direction * (2.0 / (high - low))
            a, b, c = a + d * d, b + o * d, c + o * o
        inside = b * b - a * c
        root = np.sqrt(np.maximum(inside, 0.0))
        return np.where(inside > 0.0, (-b - root) / a, MISS), np.where(inside > 0.0, (root - b) / a, -MISS), 0
    begin, end, entered = -MISS, MISS, 0
    for index, face in enumerate(solid.faces):
        slope = _dot(face.normal, rays[3:])
        slope = np.where(slope == 0.0, np.float32(1e-9), slope)
        t = (face.offset - _dot(face.normal, rays[:3])) / slope
        enters = slope < 0.0
        entered = np.where(enters & (t > begin), index, entered)
        begin = np.maximum(begin, np.where(enters, t, -MISS))
        end = np.minimum(end, np.where(enters, MISS, t))
    return begin, end, entered


def _cast(scene: Scene, rays: Triple, size: int, street: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns depth and surface (samples, size, size): 0 is ground or, beyond FAR, sky; then the faces in order."""
    shape = (len(SAMPLES), size, size)
    depth = np.broadcast_to(rays[2] / np.maximum(-rays[5], 0.5 * EYE / FAR), shape).copy()
    surface = np.zeros(shape, np.int32)
    first = 1
    for solid in scene.solids:
        area = _area(solid, size, street)
        if area is not None:
            begin, end, entered = _strike(solid, rays, area)
            nearer = (begin < end) & (begin > 0.0) & (begin < depth[area])
            depth[area] = np.where(nearer, begin, depth[area])
            surface[area] = np.where(nearer, entered + first, surface[area])
        first += len(solid.faces)
    return depth, surface


def _sunlit(scene: Scene, points: Triple, size: int, street: bool) -> np.ndarray:
    """Returns where no solid stands between the point and the sun."""
    rays = [*points, *(np.full((1, 1, 1), part, np.float32) for part in scene.light.to_sun)]
    lit = np.ones(points[0].shape, bool)
    for solid in scene.solids:
        area = _area(solid, size, street, scene.light.to_sun)
        if area is not None:
            begin, end, _ = _strike(solid, rays, area)
            lit[area] &= (begin >= end) | (end <= 0.0)
    return lit


def _surfaces(scene: Scene) -> np.ndarray:
    """Returns one column per surface. Its normal at p is rows 0-2 plus rows 3-5 times p; rows 6-8 are its colour.

    Row 9 is its kind; rows 10-13 say of a wall whether it runs along y, its middle, half its width and its height.
    """
    rows = [(0.0, 0.0, 1.0) + (0.0,) * 11]
    for low, high, faces, is_round in scene.solids:
        middle = [0.5 * (a + b) for a, b in zip(low, high, strict=True)]
        radius = [0.5 * (b - a) for a, b in zip(low, high, strict=True)]
        bow = [1.0 / (r * r) if is_round else 0.0 for r in radius]
        for face in faces:
            flat = [-m * b for m, b in zip(middle, bow, strict=True)] if is_round else face.normal
            along = int(abs(face.normal[0]) > 0.5)
            rows.append((*flat, *bow, *face.colour, face.kind, float(along), middle[along], radius[along], high[2]))
    return np.array(rows, np.float32).T.copy()


def _paint_ground(colour: Triple, ground: Ground, where: tuple, points: Triple) -> np.ndarray:
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


def _paint_fronts(colour: Triple, rows: np.ndarray, where: tuple, points: Triple) -> np.ndarray:
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


def _paint_sky(light: Light, x: np.ndarray, up: np.ndarray) -> Triple:
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


def render(scene: Scene, size: int, street: bool) -> np.ndarray:
    """Returns one view of the scene, uint8 (size, size, 3): from above, or if `street` from the car."""
    light, rays = scene.light, _camera(size, street)
    depth, surface = _cast(scene, rays, size, street)
    points = [origin + depth * direction for origin, direction in zip(rays[:3], rays[3:], strict=True)]
    table = _surfaces(scene)
    normal = [table[k][surface] + table[3 + k][surface] * points[k] for k in range(3)]
    length = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2])
    normal = [part / length for part in normal]
    lit = _sunlit(scene, [p + n * 0.03 for p, n in zip(points, normal, strict=True)], size, street)
    direct = np.where(lit, np.maximum(_dot(light.to_sun, normal), 0.0), np.float32(0.0))
    # Less of the sky is seen from below, and near the ground: without this the houses seem to float.
    low = np.where(surface > 0, 0.6 + 0.4 * np.minimum(points[2] * 0.4, 1.0), np.float32(1.0))
    open_sky = (0.7 + 0.3 * normal[2]) * low
    colour = [table[6 + k][surface] for k in range(3)]
    plane = np.nonzero((surface == 0) & (depth < FAR))
    water = np.zeros(surface.shape, bool)
    water[plane] = _paint_ground(colour, scene.ground, plane, points)
    fronts, glow = np.nonzero(table[9][surface] == FRONT), table[9][surface] == GLOW
    glow[fronts] = _paint_fronts(colour, table[:, surface[fronts]], fronts, points)
    image = np.empty((size, size, 3), np.uint8)
    if street:
        sky = _paint_sky(light, rays[3], rays[5])
        mirror = 1.0 / (1.0 + 6.0 * np.maximum(-rays[5], 0.0))
        haze = depth * depth / (depth * depth + 120.0 * 120.0)
    for k in range(3):
        tone = colour[k] * (open_sky * light.ambient[k] + direct * light.sun[k])
        tone = np.where(glow, np.float32(light.glow[k]), tone)
        if street:
            tone = np.where(water, tone + (light.horizon[k] * 0.8 - tone) * mirror, tone)
            tone = np.where(depth < FAR, tone + (light.horizon[k] - tone) * haze, sky[k])
        tone = np.sqrt(np.minimum(np.maximum(tone, 0.0), 1.0))
        image[..., k] = np.floor((tone[0] + tone[1] + tone[2] + tone[3]) * (255.0 / len(SAMPLES)) + 0.5)
    return image
