"""Training sequences for the tiny VideoLLM: one video, many short dialogues that do not see each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from sharpv.tiny.build import PROMPT, VIDEO
from sharpv.tiny.layouts import Shown
from sharpv.tiny.questions import FAMILIES, LETTERS, POOLS, Question, caption, evident, with_options
from sharpv.tiny.scenes import Scene

CAPTION_REQUEST = "Describe the video."
OPEN_SUFFIX = "Answer in words."
LETTER_SUFFIX = "Answer with the letter."
IGNORED = -100
END_WEIGHT, OPTION_WEIGHT = 0.2, 0.1
Reply = Literal["letter", "text", "text_and_letter"]
"""How a question with options is answered: "B", "red" or "red (B)"."""


def prompt_text(question: Question, style: str) -> str:
    """The user's text in one of the benchmarks' formats: `mvbench`, `letter` or `open`."""
    if style == "open":
        return f"{question.text}\n{OPEN_SUFFIX}"
    if style == "mvbench":
        lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, question.options, strict=False)]
        return "\n".join([question.text, "Options:", *lines, "Best option:"])
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False)]
    return "\n".join([question.text, *lines, LETTER_SUFFIX])


@dataclass
class Packed:
    """Dialogues packed behind one video: per token its id, label, the label's weight, hint, dialogue and view.

    Beside the reply, each option is labelled with its own letter. `hints` are labels for an inner layer: the question
    mark's is the first word of the answer, an option's is whether it is the right one.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)
    dialogue: list[int] = field(default_factory=list)
    sees_video: list[bool] = field(default_factory=list)


class Packer:
    """Turns scenes into packed dialogues: captions, open answers, letters, and look-ups that need no video.

    five_options: share of five among questions with options, where there are so many possible answers; else four.
    often: how much sooner than others questions of a family are asked; what comes late finds no room. ValueError for a
    family that there is not.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        capacity: int,
        five_options: float = 0.34,
        often: Mapping[str, float] = MappingProxyType({}),
    ):
        self.tokenizer, self.capacity, self.five_options = tokenizer, capacity, five_options
        if unknown := sorted(set(often) - set(FAMILIES)):
            raise ValueError(f"no questions of {unknown}; there are: {', '.join(FAMILIES)}")
        chances = np.array([float(often.get(family, 1)) for family in FAMILIES])
        self.chances = chances / chances.sum()
        self.head, self.tail = PROMPT.split(VIDEO)
        self.turn_end = tokenizer.eos_token_id
        self.question_mark, self.yes, self.no = tokenizer.convert_tokens_to_ids(["?", "yes", "no"])
        self.letters = tokenizer.convert_tokens_to_ids(list(LETTERS))

    def pack(self, scene: Scene, rng: np.random.Generator, options: float, reply: Reply, shown: Shown) -> Packed:
        """Fill the capacity with dialogues about a scene, of which the frames shown hold the answers.

        options: share of the questions asked with options. reply: to those; look-ups, which teach where the letter
        is, are left out where the reply is only text.
        """
        packed = Packed()
        order = rng.choice(list(FAMILIES), len(FAMILIES), replace=False, p=self.chances)
        dialogues = [self._dialogue(scene, family, rng, options, reply, shown) for family in order]
        all_seen = all(set(thing.beats) & set(shown.beats) for thing in scene.objects)
        if rng.random() < 0.5 and all_seen and len(shown.whole_beats) > 4:
            dialogues.insert(0, (CAPTION_REQUEST, caption(scene), None, True))
        for _ in range(0 if reply == "text" else 2):
            dialogues.insert(int(rng.integers(1, 5)), self._lookup(scene, rng, reply))
        for dialogue in dialogues:
            if dialogue is not None:
                self._append(packed, *dialogue)
        return packed

    def _dialogue(self, scene, family, rng, options, reply, shown):
        question = FAMILIES[family](scene, rng)
        if question is None or not evident(question, scene, shown.beats, shown.whole_beats):
            return None
        possible = len(POOLS[question.pool])
        if possible < 4 or rng.random() >= options:
            return prompt_text(question, "open"), question.answer, question.answer, True
        count = 5 if possible > 4 and rng.random() < self.five_options else 4
        question = with_options(question, scene, count, rng)
        style = "mvbench" if count == 4 and rng.random() < 0.5 else "letter"
        return prompt_text(question, style), self._reply(question, reply), question.answer, True

    @staticmethod
    def _reply(question: Question, reply: Reply) -> str:
        return {
            "letter": question.letter,
            "text": question.answer,
            "text_and_letter": f"{question.answer} ({question.letter})",
        }[reply]

    def _lookup(self, scene, rng, reply):
        pool = str(rng.choice(["colour", "colour", "shape", "direction", "place", "moment", "count", "background"]))
        answer = str(rng.choice(POOLS[pool]))
        count = 5 if pool == "colour" and rng.random() < 0.4 else 4
        question = with_options(Question("lookup", f"{answer}?", answer, pool), scene, count, rng)
        style = "mvbench" if count == 4 and rng.random() < 0.5 else "letter"
        return prompt_text(question, style), self._reply(question, reply), answer, False

    def pack_lookup(self, scene: Scene, rng: np.random.Generator) -> Packed:
        """One look-up alone: the answer's word, then options; the reply is its letter."""
        packed = Packed()
        self._append(packed, *self._lookup(scene, rng, "letter"))
        return packed

    def _append(self, packed: Packed, text: str, answer: str, hint: str | None, sees_video: bool) -> None:
        prompt = self.tokenizer(self.tail.format(text=text)).input_ids
        reply = [*self.tokenizer(answer).input_ids, self.turn_end]
        ids = prompt + reply
        if len(packed.ids) + len(ids) > self.capacity:
            return
        labels = [IGNORED] * (len(prompt) - 1) + reply + [IGNORED]
        weights = [0.0] * (len(prompt) - 1) + [1.0] * (len(reply) - 1) + [END_WEIGHT, 0.0]
        hints = [IGNORED] * len(ids)
        if hint is not None and self.question_mark in prompt:
            right = self.tokenizer(hint).input_ids[0]
            hints[prompt.index(self.question_mark)] = right
            for at, letter in self._options(prompt):
                labels[at], weights[at] = letter, OPTION_WEIGHT
                hints[at] = self.yes if ids[at] == right else self.no
        packed.dialogue += [max(packed.dialogue, default=-1) + 1] * len(ids)
        packed.ids += ids
        packed.labels += labels
        packed.weights += weights
        packed.hints += hints
        packed.sees_video += [sees_video] * len(ids)

    def _options(self, prompt: list[int]) -> list[tuple[int, int]]:
        """Place of each option's word and the id of its letter; the word stands two behind the letter."""
        return [(at + 2, token) for at, token in enumerate(prompt) if token in self.letters]
