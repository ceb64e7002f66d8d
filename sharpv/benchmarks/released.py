"""The four released benchmarks as lmms-eval tasks: prompts equal to upstream's, videos where upstream lays them.

Prompts are those of lmms-eval 0.7.3 for LLaVA-OneVision, and PLLaVA's own where a task's `settings` say so; tests
compare them with upstream's functions and with recorded official prompts. Scores: `sharpv.benchmarks.scoring`.
"""

from pathlib import Path
from string import ascii_uppercase
from typing import Any

from sharpv.benchmarks.scoring import bare_options
from sharpv.models.pllava.prompts import multiple_choice, open_ended
from sharpv.paths import hub_dir, inside

Doc = dict[str, Any]
Settings = dict[str, Any] | None


def is_pllava(settings: Settings) -> bool:
    return (settings or {}).get("style") == "pllava"


def mvbench_text(doc: Doc, settings: Settings = None) -> str:
    settings = settings or {}
    if is_pllava(settings):
        return multiple_choice(doc["question"], doc["candidates"], "mvbench")
    options = "".join(
        f"({letter}) {option}\n" for letter, option in zip(ascii_uppercase, doc["candidates"], strict=False)
    )
    return f"Question:{doc['question']}\nOption:\n{options}{settings['post_prompt']}"


def videomme_text(doc: Doc, settings: Settings = None) -> str:
    settings = settings or {}
    if is_pllava(settings):
        return multiple_choice(doc["question"], bare_options(doc), "videomme")
    return "\n".join([settings["pre_prompt"], doc["question"], *doc["options"], settings["post_prompt"]])


def nextqa_text(doc: Doc, settings: Settings = None) -> str:
    answers = [doc[f"a{number}"].strip() for number in range(5)]
    if is_pllava(settings):
        return multiple_choice(doc["question"].strip(), answers, "mvbench")
    lines = [f"{letter}. {answer}" for letter, answer in zip(ascii_uppercase, answers, strict=False)]
    return "\n".join([doc["question"].strip(), *lines])


def actnetqa_text(doc: Doc, settings: Settings = None) -> str:
    settings = settings or {}
    if is_pllava(settings):
        return open_ended(doc["question"])
    return f"{doc['question'].capitalize()}?{settings['post_prompt']}"


def mvbench_video(doc: Doc, settings: Settings = None) -> list[str]:
    """The clip, or the folder of pictures of episodic reasoning; also where older archives unpacked it."""
    assert settings is not None
    root = hub_dir() / "mvbench_video"
    folders = [root / settings["folder"], root / "data0613" / settings["folder"]]
    return [str(_first_there([inside(folder, str(doc["video"])) for folder in folders]))]


def videomme_video(doc: Doc, settings: Settings = None) -> list[str]:
    folder = hub_dir() / "videomme" / "data"
    return [str(_first_there([inside(folder, f"{doc['videoID']}.{ending}") for ending in ("mp4", "MP4", "mkv")]))]


def nextqa_video(doc: Doc, settings: Settings = None) -> list[str]:
    folder = hub_dir() / "nextqa" / "NExTVideo"
    return [str(_first_there([inside(folder, f"{doc['video']}.{ending}") for ending in ("mp4", "mkv", "webm")]))]


def actnetqa_video(doc: Doc, settings: Settings = None) -> list[str]:
    folder = hub_dir() / "activitynetqa" / "all_test"
    return [str(_first_there([inside(folder, f"v_{doc['video_name']}.{ending}") for ending in ("mp4", "webm", "mkv")]))]


def _first_there(places: list[Path]) -> Path:
    """The first place that exists, else the first: a missing video becomes an error row that names it."""
    return next((place for place in places if place.exists()), places[0])


def only_short(docs: Any) -> Any:
    return docs.filter(lambda doc: doc["duration"] == "short")


def only_medium(docs: Any) -> Any:
    return docs.filter(lambda doc: doc["duration"] == "medium")


def only_long(docs: Any) -> Any:
    return docs.filter(lambda doc: doc["duration"] == "long")
