"""A scene drawn out over many frames, as long videos are: most of them alike, the evidence in few.

Shape suffixes: T frames of the stretched scene, B beats.
"""

import dataclasses

import numpy as np

from sharpv.tiny.scenes import BEATS, Scene, Thing

BRIEF_SHARE = 1 / 16
"""Share of the frames in which a brief thing is shown, around the middle of its beats; at least one frame."""


def stretch(scene: Scene, frames: int) -> Scene:
    """The same scene over `frames` frames: what moves does so in smaller steps, what jumps or turns does it at once.

    Questions about it are those of the scene itself, whose beats they name; this one is only drawn.
    ValueError for fewer frames than beats, or for a scene that was stretched before.
    """
    if frames < BEATS or scene.length != BEATS:
        raise ValueError(f"a scene of {scene.length} frames cannot be stretched to {frames}; {BEATS} to more can")
    beat_T = np.linspace(0, BEATS - 1, frames)
    return dataclasses.replace(
        scene,
        things=tuple(_stretch_thing(thing, beat_T) for thing in scene.things),
        pan=scene.pan * (BEATS - 1) / (frames - 1),
        cut_beat=int(np.argmax(_nearest(beat_T) >= scene.cut_beat)),
    )


def _nearest(beat_T: np.ndarray) -> np.ndarray:
    return np.floor(beat_T + 0.5).astype(int)


def _stretch_thing(thing: Thing, beat_T: np.ndarray) -> Thing:
    nearest_T = _nearest(beat_T)
    moves = thing.role == "mover"
    path_x_T, path_y_T = (
        np.interp(beat_T, np.arange(BEATS), path_B) if moves else np.array(path_B)[nearest_T]
        for path_B in (thing.x, thing.y)
    )
    seen = range(len(beat_T))
    if thing.role == "brief":
        shown = max(1, round(BRIEF_SHARE * len(beat_T)))
        middle = round(float(np.mean(thing.beats)) / (BEATS - 1) * (len(beat_T) - 1))
        first = min(max(0, middle - shown // 2), len(beat_T) - shown)
        seen = range(first, first + shown)
    return dataclasses.replace(
        thing,
        colour=tuple(thing.colour[beat] for beat in nearest_T),
        x=tuple(map(float, path_x_T)),
        y=tuple(map(float, path_y_T)),
        beats=tuple(seen),
    )
