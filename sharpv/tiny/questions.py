"""Questions about a scene, each with its right answer and the answers it could have had.

A family is one function: scene -> (question, answer) or None where the scene has nothing to ask. The four tiny
benchmarks and the training data are made from the same families, over disjoint seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sharpv.tiny.scenes import BACKGROUNDS, BEATS, COLOURS, DIRECTIONS, DOT, MOMENTS, PLACES, SHAPES, Scene, Thing

LETTERS = ("A", "B", "C", "D", "E")
POOLS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "direction": tuple(DIRECTIONS),
    "place": PLACES,
    "moment": (*MOMENTS, "always"),
    "count": ("one", "two", "three", "four"),
    "background": BACKGROUNDS,
    "yesno": ("yes", "no"),
    "thing": (),
}


@dataclass(frozen=True)
class Question:
    """A question with its answer; `pool` names the set of possible answers, `options` is filled by `with_options`."""

    family: str
    text: str
    answer: str
    pool: str
    options: tuple[str, ...] = ()

    @property
    def letter(self) -> str:
        return LETTERS[self.options.index(self.answer)]


Family = Callable[[Scene, np.random.Generator], Question | None]
FAMILIES: dict[str, Family] = {}


def _family(function: Family) -> Family:
    FAMILIES[function.__name__] = function
    return function


def _pick(things: list[Thing], rng: np.random.Generator) -> Thing | None:
    return things[rng.integers(len(things))] if things else None


def _one_coloured(scene: Scene) -> list[Thing]:
    return [thing for thing in scene.objects if thing.role != "recoloured"]


@_family
def moving_colour(scene, rng):
    return Question("moving_colour", "What colour is the moving object?", scene.of_role("mover")[0].colour[0], "colour")


@_family
def moving_direction(scene, rng):
    return Question(
        "moving_direction", "Where does the moving object go?", scene.of_role("mover")[0].motion, "direction"
    )


@_family
def moving_shape(scene, rng):
    return Question("moving_shape", "What shape is the moving object?", scene.of_role("mover")[0].shape, "shape")


@_family
def brief_colour(scene, rng):
    brief = scene.of_role("brief")
    if len(brief) == 1:
        return Question("brief_colour", "What colour is the object that appears briefly?", brief[0].colour[0], "colour")
    return None


@_family
def event_order(scene, rng):
    brief = sorted(scene.of_role("brief"), key=lambda thing: thing.beats)
    if len(brief) == 1:
        return None
    which = int(rng.integers(2))
    text = f"What colour is the brief object that appears {('first', 'last')[which]}?"
    return Question("event_order", text, brief[-which].colour[0], "colour")


@_family
def appearance_time(scene, rng):
    often_brief = scene.of_role("brief") if rng.random() < 0.75 else _one_coloured(scene)
    thing = _pick(often_brief, rng)
    return Question("appearance_time", f"When is the {thing.colour[0]} object seen?", thing.moment, "moment")


@_family
def object_shape(scene, rng):
    thing = _pick(_one_coloured(scene), rng)
    return Question("object_shape", f"What shape is the {thing.colour[0]} object?", thing.shape, "shape")


@_family
def object_place(scene, rng):
    thing = _pick(scene.of_role("still") + scene.of_role("brief"), rng)
    return Question("object_place", f"Where is the {thing.colour[0]} object?", thing.place(thing.beats[0]), "place")


@_family
def colour_change(scene, rng):
    for thing in scene.of_role("recoloured"):
        if rng.random() < 0.5:
            return Question(
                "colour_change", "What is the new colour of the object that changes colour?", thing.colour[-1], "colour"
            )
        return Question(
            "colour_change", "What is the old colour of the object that changes colour?", thing.colour[0], "colour"
        )
    return None


@_family
def jump_place(scene, rng):
    for thing in scene.of_role("jumper"):
        return Question(
            "jump_place", f"Where does the {thing.colour[0]} object jump to?", thing.place(BEATS - 1), "place"
        )
    return None


@_family
def dot_count(scene, rng):
    answer = POOLS["count"][len(scene.of_role(DOT)) - 1]
    return Question("dot_count", "How many white dots are there?", answer, "count")


@_family
def background_change(scene, rng):
    if scene.background == "unchanged" and rng.random() < 0.7:
        return None
    return Question("background_change", "What happens to the background?", scene.background, "background")


@_family
def existence(scene, rng):
    shown = {colour for thing in scene.objects for colour in thing.colour}
    there = rng.random() < 0.5
    candidates = sorted(shown if there else set(COLOURS) - shown)
    colour = candidates[rng.integers(len(candidates))]
    return Question("existence", f"Is there a {colour} object?", "yes" if there else "no", "yesno")


@_family
def moving_thing(scene, rng):
    mover = scene.of_role("mover")[0]
    return Question("moving_thing", "What is moving?", f"{mover.colour[0]} {mover.shape}", "thing")


@_family
def brief_thing(scene, rng):
    brief = scene.of_role("brief")
    if len(brief) == 1:
        return Question("brief_thing", "What appears briefly?", f"{brief[0].colour[0]} {brief[0].shape}", "thing")
    return None


@_family
def motion_sentence(scene, rng):
    mover = scene.of_role("mover")[0]
    return Question(
        "motion_sentence", "Describe the motion.", f"{mover.colour[0]} {mover.shape} goes {mover.motion}", "thing"
    )


def evident(question: Question, scene: Scene, beats: tuple[int, ...], whole_beats: tuple[int, ...]) -> bool:
    """Whether these frames of a scene hold the answer to the question; in those of `whole_beats` nothing is cut off or
    too coarse."""
    spread, ends = max(beats) - min(beats) >= 3, min(beats) <= 2 and max(beats) >= 5
    seen = [thing for thing in scene.objects if set(thing.beats) & set(beats)]
    named = [thing for thing in seen if thing.colour[0] in question.text.split()]
    brief = [thing for thing in seen if thing.role == "brief"]
    return {
        "brief_colour": bool(brief) and ends,
        "brief_thing": bool(brief) and ends,
        "event_order": len(brief) == 2,
        "appearance_time": bool(named) and ends,
        "object_shape": bool(named),
        "object_place": any(set(thing.beats) & set(whole_beats) for thing in named),
        "colour_change": any(len({thing.colour[beat] for beat in beats}) == 2 for thing in seen),
        "jump_place": any(thing.role == "jumper" and len({thing.x[beat] for beat in beats}) == 2 for thing in seen),
        "dot_count": bool(whole_beats),
        "background_change": min(beats) <= 1 and max(beats) >= 6,
        "existence": question.answer == "no"
        or any(thing.colour[beat] in question.text.split() for thing in seen for beat in set(thing.beats) & set(beats)),
    }.get(question.family, spread)


def with_options(question: Question, scene: Scene, count: int, rng: np.random.Generator) -> Question:
    """The question with `count` options in random order; colours seen in the video come first as wrong options.

    Raises ValueError where the family has fewer possible answers than options.
    """
    wrong = [option for option in POOLS[question.pool] if option != question.answer]
    if len(wrong) < count - 1:
        raise ValueError(f"{question.family} has {len(wrong) + 1} possible answers, not the {count} options asked for")
    wrong = [str(option) for option in rng.permutation(wrong)]
    if question.pool == "colour":
        seen = {colour for thing in scene.objects for colour in thing.colour}
        wrong.sort(key=lambda colour: colour not in seen)
    options = [question.answer, *wrong[: count - 1]]
    order = rng.permutation(count)
    return Question(question.family, question.text, question.answer, question.pool, tuple(options[i] for i in order))


def caption(scene: Scene) -> str:
    """One clause an object, in a fixed order of roles: what a caption model would be trained to say."""
    clauses = []
    for thing in scene.objects:
        detail = {
            "mover": f"goes {thing.motion}",
            "brief": f"{thing.moment} {thing.place(thing.beats[0])}",
            "jumper": f"jumps to {thing.place(BEATS - 1)}",
            "recoloured": f"turns {thing.colour[-1]} {thing.place(0)}",
            "still": f"stays {thing.place(0)}",
        }[thing.role]
        clauses.append(f"{thing.colour[0]} {thing.shape} {detail}")
    return " . ".join([*clauses, f"background {scene.background} ."])
