"""Seeded procedural scenes: what happens in a tiny video, and the pixels that show it.

A scene plays on a grid of cells over a few beats. Its background is textured and mostly still; things on it
stand, move, appear for a moment, change colour or jump; the camera may pan or the scene may cut.

Shape suffixes: B beats, H height, W width, C colour channels.
"""

from dataclasses import dataclass

import numpy as np

BEATS = 8
GRID = 6
CELL = 16
SIDE = GRID * CELL

COLOURS = {
    "red": (225, 35, 35),
    "green": (30, 170, 50),
    "blue": (40, 60, 230),
    "yellow": (240, 225, 40),
    "purple": (150, 40, 190),
    "orange": (250, 140, 20),
    "cyan": (40, 215, 225),
    "black": (12, 12, 12),
}
SHAPES = ("circle", "ring", "cross", "ladder")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
PLACES = ("top-left", "top-right", "bottom-left", "bottom-right")
MOMENTS = {"start": (0, 1, 2), "middle": (3, 4), "end": (5, 6, 7)}
BACKGROUNDS = ("unchanged", "replaced", "darker", "brighter")
DOT = "dot"
APART, DOTS_APART = 1.75, 1.2
"""Least distance between the middles of things, and to a dot, in cells: most things span two cells each way."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene: `x` and `y` per beat in cells, `colour` per beat, `beats` in which it is seen."""

    role: str
    shape: str
    colour: tuple[str, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    beats: tuple[int, ...]
    motion: str = ""
    moment: str = "always"

    def place(self, beat: int) -> str:
        """Quadrant of the frame in which the thing is at that beat, one of PLACES."""
        vertical = "top" if self.y[beat] < GRID / 2 else "bottom"
        return f"{vertical}-{'left' if self.x[beat] < GRID / 2 else 'right'}"


@dataclass(frozen=True)
class Scene:
    """Everything that a video shows; the same seed always gives the same scene."""

    seed: int
    things: tuple[Thing, ...]
    background: str
    pan: float
    cut_beat: int

    @property
    def length(self) -> int:
        """Number of frames that the scene is drawn in: BEATS, unless it was stretched."""
        return len(self.things[0].x)

    def of_role(self, role: str) -> list[Thing]:
        return [thing for thing in self.things if thing.role == role]

    @property
    def objects(self) -> list[Thing]:
        """All things but the dots."""
        return [thing for thing in self.things if thing.shape != DOT]


class _CrowdedError(Exception):
    """No free place was found for a thing; the layout is drawn again."""


def sample_scene(seed: int) -> Scene:
    """Draw the scene of a seed: one mover, a still object, one or two brief ones, a changer, dots."""
    rng = np.random.default_rng(seed)
    while True:
        try:
            return _draw_scene(seed, rng)
        except _CrowdedError:
            continue


def _draw_scene(seed: int, rng: np.random.Generator) -> Scene:
    colours = [str(colour) for colour in rng.permutation(list(COLOURS))]
    things: list[Thing] = [_mover(rng, colours.pop())]

    def add(**fields) -> None:
        things.append(_place(rng, things, **fields))

    add(role="still", colours=[colours.pop()] * BEATS, beats=range(BEATS))
    change = rng.choice(["none", "colour", "place"])
    if change == "colour":
        beat = int(rng.integers(3, 6))
        add(role="recoloured", colours=[colours.pop()] * beat + [colours.pop()] * (BEATS - beat), beats=range(BEATS))
    if change == "place":
        add(role="jumper", colours=[colours.pop()] * BEATS, beats=range(BEATS), jump=int(rng.integers(3, 6)))
    moments = list(rng.choice(list(MOMENTS), size=int(rng.integers(1, 3)), replace=False))
    for moment in moments:
        add(role="brief", colours=[colours.pop()] * BEATS, beats=MOMENTS[moment], moment=str(moment))
    for _ in range(rng.integers(1, 5)):
        add(role=DOT, colours=["white"] * BEATS, beats=range(BEATS), shape=DOT)
    background = str(rng.choice(BACKGROUNDS, p=[0.52, 0.16, 0.16, 0.16]))
    pan = int(rng.choice([0, 0, 0, -1, 1]) * rng.integers(4, 9)) if background == "unchanged" else 0
    return Scene(seed, tuple(things), background, pan, int(rng.integers(3, 6)))


def _mover(rng: np.random.Generator, colour: str) -> Thing:
    motion = str(rng.choice(list(DIRECTIONS)))
    step_x, step_y = DIRECTIONS[motion]
    travel = np.linspace(-0.5, 0.5, BEATS) * rng.uniform(3.0, 4.2)
    across = rng.uniform(1.0, GRID - 1.0)
    middle = GRID / 2
    x = travel * step_x + (middle if step_x else across)
    y = travel * step_y + (middle if step_y else across)
    shape = str(rng.choice(SHAPES))
    return Thing("mover", shape, (colour,) * BEATS, tuple(x), tuple(y), tuple(range(BEATS)), motion=motion)


def _place(rng, others, role, colours, beats, shape=None, moment="always", jump=None) -> Thing:
    """A thing in free places, away from the midlines so that its quadrant is plain."""
    beats = tuple(int(beat) for beat in beats)
    shape = shape or str(rng.choice(SHAPES))
    for _ in range(60):
        here, there = _quiet_point(rng), _quiet_point(rng)
        path = [there if jump is not None and beat >= jump else here for beat in range(BEATS)]
        x, y = (tuple(float(point[axis]) for point in path) for axis in (0, 1))
        thing = Thing(role, shape, tuple(colours), x, y, beats, moment=moment)
        if jump is not None and thing.place(0) == thing.place(BEATS - 1):
            continue
        if all(_apart(thing, other) for other in others):
            return thing
    raise _CrowdedError


def _quiet_point(rng: np.random.Generator) -> np.ndarray:
    offset = rng.uniform(0.7, GRID / 2 - 0.7, size=2)
    return np.where(rng.random(2) < 0.5, offset, GRID - offset)


def _apart(thing: Thing, other: Thing) -> bool:
    nearest = DOTS_APART if DOT in (thing.shape, other.shape) else APART
    shared = set(thing.beats) & set(other.beats)
    return all((thing.x[b] - other.x[b]) ** 2 + (thing.y[b] - other.y[b]) ** 2 >= nearest**2 for b in shared)


def render(scene: Scene, noise: float = 2.0) -> np.ndarray:
    """Frames of a scene, one a beat: uint8 (B, H, W, C) RGB. `noise` is the camera's, in grey levels."""
    rng = np.random.default_rng((scene.seed, 1))
    backgrounds = [_texture(rng), _texture(rng)]
    start, end = {"darker": (1, 0.5), "brighter": (0.5, 1)}.get(scene.background, (1, 1))
    light_B = np.linspace(start, end, scene.length)
    frames_BHWC = np.empty((scene.length, SIDE, SIDE, 3), np.float32)
    for beat in range(scene.length):
        cut = scene.background == "replaced" and beat >= scene.cut_beat
        frame_HWC = np.roll(backgrounds[cut], round(scene.pan * beat), axis=1) * light_B[beat]
        for thing in scene.things:
            if beat in thing.beats:
                colour = COLOURS.get(thing.colour[beat], (250, 250, 250))
                cover_HW1 = coverage(thing, beat)[..., None]
                frame_HWC += cover_HW1 * (np.array(colour, np.float32) - frame_HWC)
        frames_BHWC[beat] = frame_HWC + rng.normal(0, noise, frame_HWC.shape)
    return frames_BHWC.round().clip(0, 255).astype(np.uint8)


def coverage(thing: Thing, beat: int) -> np.ndarray:
    """Share of each pixel that the thing covers at a beat, float32 (H, W) in 0..1."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5
    x, y = columns - thing.x[beat] * CELL, rows - thing.y[beat] * CELL
    if thing.shape == "circle":
        depth = 14.5 - np.hypot(x, y)
    elif thing.shape == "ring":
        distance = np.hypot(x, y)
        depth = np.minimum(15.0 - distance, distance - 8.5)
    elif thing.shape == "cross":
        depth = np.minimum(15.0 - np.maximum(np.abs(x), np.abs(y)), 4.2 - np.minimum(np.abs(x), np.abs(y)))
    elif thing.shape == "ladder":
        bars = 2.5 - np.abs((y + 15.0) % 10.0 - 5.0)
        depth = np.minimum(15.0 - np.maximum(np.abs(x), np.abs(y)), bars)
    else:
        depth = 6.0 - np.hypot(x, y)
    return (depth + 0.5).clip(0, 1)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """A smooth, tinted, horizontally periodic background of middle brightness, float32 (H, W, C)."""
    coarse = rng.normal(size=(SIDE // 8, SIDE // 8))
    spectrum = np.fft.rfft2(np.kron(coarse, np.ones((8, 8))))
    decay = 1 / (1 + (np.fft.fftfreq(SIDE)[:, None] ** 2 + np.fft.rfftfreq(SIDE)[None] ** 2) * 400)
    smooth_HW = np.fft.irfft2(spectrum * decay, s=(SIDE, SIDE))
    smooth_HW *= rng.uniform(10, 24) / (smooth_HW.std() + 1e-6)
    tint_C = rng.uniform(95, 150) + rng.uniform(-16, 16, size=3)
    return (smooth_HW[..., None] + tint_C).clip(40, 200).astype(np.float32)
