"""Options and right answers of the rows of the long benchmarks, and what is wrong with a row."""

import re
from string import ascii_uppercase
from typing import Any

from sharpv.benchmarks.submission import UNLABELLED

Doc = dict[str, Any]
LETTERED = re.compile(r"^\(([A-Z])\)[ \t]*(.*?)[ \t]*$", re.MULTILINE)
"""An option's line in a question of MLVU: "(A) a boat"."""


def longvideobench_options(doc: Doc) -> list[str]:
    """Its three to five options; "N/A" fills the rest up."""
    return [doc[f"option{number}"] for number in range(5) if doc[f"option{number}"] != "N/A"]


def longvideobench_target(doc: Doc) -> str:
    return _letter(doc["correct_choice"], longvideobench_options(doc), "correct_choice")


def mlvu_options(doc: Doc) -> list[str]:
    """The options that stand in the question: four in dev, six in test. ValueError where they are not A, B, C, ..."""
    found = LETTERED.findall(doc["question"])
    letters = "".join(letter for letter, _ in found)
    if len(letters) < 2 or letters != ascii_uppercase[: len(letters)]:
        raise ValueError(f"question {doc['question']!r} holds no lines of options (A), (B), ..., but {letters!r}")
    return [text for _, text in found]


def mlvu_target(doc: Doc) -> str:
    """Its letter; ValueError where that is none of the question's options, as for two questions of the dev set."""
    answer, letters = doc["answer"], ascii_uppercase[: len(mlvu_options(doc))]
    if not isinstance(answer, str) or len(answer) != 1 or answer not in letters:
        raise ValueError(f"answer {answer!r} is none of the letters {letters}")
    return answer


def egoschema_options(doc: Doc) -> list[str]:
    """The five options without their letters."""
    return [re.sub(r"^[A-E]\.\s*", "", option) for option in doc["option"]]


def egoschema_target(doc: Doc) -> str:
    """The letter of `answer`, a number that is released as text or number; UNLABELLED where it is not public."""
    if doc["answer"] is None or str(doc["answer"]) == "":
        return UNLABELLED
    return _letter(doc["answer"], doc["option"], "answer")


def _letter(number: Any, options: list[str], field: str) -> str:
    """The letter of an option's number. ValueError where the number is none of the options'."""
    if str(number) not in map(str, range(len(options))):
        raise ValueError(f"{field} {number!r} is none of the numbers 0 to {len(options) - 1}")
    return ascii_uppercase[int(number)]
