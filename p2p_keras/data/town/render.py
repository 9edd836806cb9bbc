"""Ray casting of a small town: one list of solids, seen from above (orthographic) and from the car (perspective).

Exact arithmetic only, by the rule in `scene`.
"""

import numpy as np

from p2p_keras.data.town.paint import paint_fronts, paint_ground, paint_sky
from p2p_keras.data.town.scene import (
    BEHIND,
    EYE,
    FAR,
    FRONT,
    GLOW,
    HORIZON,
    LENS,
    MISS,
    WINDOW,
    Scene,
    Solid,
    Triple,
    Vec,
)

Area = tuple[slice, slice, slice]

SAMPLES = ((0.125, 0.625), (0.375, 0.125), (0.625, 0.875), (0.875, 0.375))  # a turned grid smooths flat edges best


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
    """Returns the part of the image that the solid, with `to_sun` also its shadow, can touch, or None for none."""
    (x0, y0, z0), (x1, y1, z1) = solid.low, solid.high
    points = [(x, y, z) for x in (x0, x1) for y in (y0, y1) for z in (z0, z1)]
    if to_sun:
        slant_x, slant_y = to_sun[0] / to_sun[2], to_sun[1] / to_sun[2]
        points += [(x - slant_x * z, y - slant_y * z, 0.0) for x, y, z in points]
    if street:
        if max(p[1] for p in points) < 0.5:
            return None
        if min(p[1] for p in points) < 0.5:  # the hull crosses the plane of the camera, so its image has no bounds
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
    water[plane] = paint_ground(colour, scene.ground, plane, points)
    fronts, glow = np.nonzero(table[9][surface] == FRONT), table[9][surface] == GLOW
    glow[fronts] = paint_fronts(colour, table[:, surface[fronts]], fronts, points)
    image = np.empty((size, size, 3), np.uint8)
    if street:
        sky = paint_sky(light, rays[3], rays[5])
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
