"""What a scene is made of: the measures of both cameras, the parts, and the two formulas that several files share.

The pixels of a scene are the same on every machine and with every numpy (1.26 and 2.x). So nothing in this package may
depend on how a library rounds: only elementwise `+ - * / sqrt`, comparisons, floor, minimum, maximum, where and integer
operations, all of which IEEE 754 fixes to the last bit; no sin, exp, power, dot or sum. Arrays are float32 and scalars
are Python floats, which both of numpy's promotion rules (before and after NEP 50) turn into float32.

Space is in metres: x to the right, y ahead, z up; the camera of the car stands at (0, 0, `EYE`) and looks along y.
Colours are linear light from 0 to 1, shown as their square root.
"""

from typing import NamedTuple

import numpy as np

Vec = tuple[float, float, float]
Triple = list[np.ndarray]  # x, y and z, or red, green and blue: apart they are quicker than a last axis of 3

WINDOW = 48.0  # side of the square that the aerial view shows
BEHIND = 5.0  # how much of it lies behind the camera of the car
EYE = 2.4
LENS = 0.8  # tangent of half the horizontal field of view
HORIZON = 0.5  # row of the horizon, as a part of the height
FAR = 4000.0
PAVEMENT = 1.9  # its width
MISS = np.float32(1e9)
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
    to_sun: Vec  # of length 1; the sun is behind the car, so the images of a mirrored scene remain plausible
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
