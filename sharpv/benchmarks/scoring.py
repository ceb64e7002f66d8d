"""Scores of our own: every question counts, unparsed answers are counted, nothing is guessed.

Each process_results gives one dict a question, {"score": 0-1, "video": cluster id, "answered": bool, "parsed": str},
under the task's metric name; aggregations return 0-1 means as Python floats.
"""

from collections import Counter
from string import ascii_uppercase
from typing import Any

from sharpv.benchmarks.letters import parse_letter, plain
from sharpv.tiny.corpus import prompt_text
from sharpv.tiny.questions import Question


def _letter_result(text: str, options: list[str], gold: str, video: str) -> dict[str, Any]:
    parsed = parse_letter(text, options)
    return {"score": float(parsed == gold), "video": video, "answered": parsed is not None, "parsed": parsed or ""}


def judge_overlap(text: str, gold: str) -> float:
    """Deterministic stand-in for the GPT judge's 0-5 score: five times the token F1 of answer and gold."""
    answer, right = plain(text).split(), plain(gold).split()
    shared = sum((Counter(answer) & Counter(right)).values())
    return 0.0 if not shared else 10 * shared / (len(answer) + len(right))


def mean_score(items: list[dict[str, Any]]) -> float:
    return float(sum(item["score"] for item in items) / len(items))


def mean_judge_score(items: list[dict[str, Any]]) -> float:
    return float(sum(item["judge_score"] for item in items) / len(items))


def _question(doc: dict[str, Any], options: list[str]) -> Question:
    return Question(doc.get("type", ""), doc["question"], "", "", tuple(options))


def mvbench_text(doc: dict[str, Any], settings: dict | None = None) -> str:
    return prompt_text(_question(doc, doc["candidates"]), "mvbench")


def mvbench_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    gold = ascii_uppercase[doc["candidates"].index(doc["answer"])]
    return {"accuracy": _letter_result(results[0], doc["candidates"], gold, doc["video"])}


def mvbench_target(doc: dict[str, Any]) -> str:
    return ascii_uppercase[doc["candidates"].index(doc["answer"])]


def videomme_text(doc: dict[str, Any], settings: dict | None = None) -> str:
    return prompt_text(_question(doc, bare_options(doc)), "letter")


def videomme_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    return {"accuracy": _letter_result(results[0], bare_options(doc), doc["answer"], doc["videoID"])}


def bare_options(doc: dict[str, Any]) -> list[str]:
    """VideoMME's options without the letters that they come with."""
    return [option.split(". ", 1)[-1] for option in doc["options"]]


def _choices(doc: dict[str, Any]) -> list[str]:
    return [doc[f"a{i}"] for i in range(5)]


def nextqa_text(doc: dict[str, Any], settings: dict | None = None) -> str:
    return prompt_text(_question(doc, _choices(doc)), "letter")


def nextqa_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    return {"accuracy": _letter_result(results[0], _choices(doc), ascii_uppercase[doc["answer"]], str(doc["video"]))}


def nextqa_target(doc: dict[str, Any]) -> str:
    return ascii_uppercase[doc["answer"]]


def actnetqa_text(doc: dict[str, Any], settings: dict | None = None) -> str:
    return prompt_text(_question(doc, []), "open")


def actnetqa_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Offline scores of an open answer: equality with the gold answer, token F1 as 0-5; a judge replaces both."""
    said = plain(results[0])
    item = {
        "score": float(bool(said) and said == plain(doc["answer"])),
        "judge_score": judge_overlap(results[0], doc["answer"]),
        "video": doc["video_name"],
        "answered": bool(said),
        "parsed": said,
    }
    return {"accuracy": item, "judge_score": item}


def contains_words(text: str, gold: str) -> bool:
    """Whether the gold answer's words stand in a row in the answer; a gold answer without words is in none."""
    answer, right = plain(text).split(), plain(gold).split()
    return bool(right) and any(answer[at : at + len(right)] == right for at in range(len(answer) - len(right) + 1))


def open_results(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Offline scores of an open answer: containment of the gold answer, token F1 as 0-5; a judge replaces both."""
    said = plain(results[0])
    item = {
        "score": float(contains_words(results[0], str(doc["answer"]))),
        "judge_score": judge_overlap(results[0], str(doc["answer"])),
        "video": doc["video_name"],
        "answered": bool(said),
        "parsed": said,
    }
    return {"accuracy": item, "judge_score": item}


def tiny_video(doc: dict[str, Any]) -> list[str]:
    """Path of a tiny benchmark's video."""
    from sharpv.paths import inside, tiny_data

    name = doc.get("video") if str(doc.get("video", "")).endswith(".mp4") else None
    name = name or (
        f"v_{doc['video_name']}.mp4" if "video_name" in doc else f"{doc.get('videoID') or doc['video']}.mp4"
    )
    return [str(inside(tiny_data() / "videos", name))]
