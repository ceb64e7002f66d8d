"""Long-video benchmarks as lmms-eval tasks: LongVideoBench (val), MLVU (dev and test), EgoSchema (subset and full).

Prompts are those of lmms-eval 0.7.3 and PLLaVA's MVBench form where a task's `settings` say so; videos lie where
upstream looks for them. No subtitles. Scores are ours: every question counts, nothing is guessed, and an answer without
a letter is wrong and counted. Deviation: MLVU test has no closing words upstream, and gets those of dev.
"""

from collections.abc import Callable
from string import ascii_uppercase
from typing import Any

from sharpv.benchmarks.long_rows import (
    LETTERED,
    egoschema_options,
    egoschema_target,
    longvideobench_options,
    longvideobench_target,
    mlvu_options,
    mlvu_target,
)
from sharpv.benchmarks.scoring import parse_letter
from sharpv.models.pllava.prompts import multiple_choice
from sharpv.paths import hub_dir, inside

Doc = dict[str, Any]
Settings = dict[str, Any] | None
DURATIONS = (15, 60, 600, 3600)
"""LongVideoBench's groups: videos of up to so many seconds."""
DEV_TYPES = ("anomaly_reco", "count", "ego", "needle", "order", "plotQA", "topic_reasoning")
TEST_TYPES = (
    *("anomaly_reco", "count", "ego", "needleQA", "order", "plotQA", "sportsQA", "topic_reasoning", "tutorialQA"),
)


def longvideobench_text(doc: Doc, settings: Settings = None) -> str:
    return _asked(doc["question"], longvideobench_options(doc), settings)


def longvideobench_results(doc: Doc, results: list[str]) -> dict[str, Any]:
    options, gold = longvideobench_options(doc), longvideobench_target(doc)
    return {"accuracy": _result(results[0], options, gold, doc["video_path"])}


def longvideobench_video(doc: Doc, settings: Settings = None) -> list[str]:
    return [str(inside(hub_dir() / "datasets" / "longvideobench" / "videos", doc["video_path"]))]


def mlvu_text(doc: Doc, settings: Settings = None) -> str:
    settings = settings or {}
    if settings.get("style") == "pllava":
        question = LETTERED.split(doc["question"], maxsplit=1)[0].strip()
        return multiple_choice(question, mlvu_options(doc), "mvbench")
    return f"{doc['question']}{settings['post_prompt']}"


def mlvu_results(doc: Doc, results: list[str]) -> dict[str, Any]:
    """Of one cluster are all questions about a video, whatever their type: 120 videos of dev have two."""
    return {"accuracy": _result(results[0], mlvu_options(doc), mlvu_target(doc), doc["video_name"])}


def mlvu_dev_video(doc: Doc, settings: Settings = None) -> list[str]:
    return [str(inside(hub_dir() / "mlvu", doc["video_name"]))]


def mlvu_test_video(doc: Doc, settings: Settings = None) -> list[str]:
    return [str(inside(hub_dir() / "mlvu_test", doc["video_name"]))]


def egoschema_text(doc: Doc, settings: Settings = None) -> str:
    settings = settings or {}
    if settings.get("style") == "pllava":
        return multiple_choice(doc["question"], egoschema_options(doc), "mvbench")
    return "\n".join([doc["question"], *doc["option"]]) + settings["post_prompt"]


def egoschema_results(doc: Doc, results: list[str]) -> dict[str, Any]:
    """Clusters are clips; that some clips are cut from the same film (347 films for 500 clips) is not released."""
    gold, clip = egoschema_target(doc), str(doc["video_idx"])
    return {"accuracy": _result(results[0], egoschema_options(doc), gold, clip)}


def egoschema_video(doc: Doc, settings: Settings = None) -> list[str]:
    folder = hub_dir() / "egoschema" / "videos"
    places = [inside(folder, f"{doc['video_idx']}.{ending}") for ending in ("mp4", "MP4")]
    return [str(next((place for place in places if place.exists()), places[0]))]


def _only(column: str, value: Any, known: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Picks the questions of one group. ValueError for a question of none: it would be asked nowhere."""

    def pick(docs: Any) -> Any:
        if unknown := sorted(set(docs[column]) - set(known), key=str):
            raise ValueError(f"{column} {unknown} of the annotations are none of {list(known)}: nothing would ask them")
        return docs.filter(lambda doc: doc[column] == value)

    return pick


only_15, only_60, only_600, only_3600 = (_only("duration_group", value, DURATIONS) for value in DURATIONS)
(dev_anomaly_reco, dev_count, dev_ego, dev_needle, dev_order, dev_plot, dev_topic) = (
    _only("task_type", value, DEV_TYPES) for value in DEV_TYPES
)
(
    test_anomaly_reco,
    test_count,
    test_ego,
    test_needle,
    test_order,
    test_plot,
    test_sports,
    test_topic,
    test_tutorial,
) = (_only("task_type", value, TEST_TYPES) for value in TEST_TYPES)


def _result(text: str, options: list[str], gold: str, video: str) -> dict[str, Any]:
    parsed = parse_letter(text, options)
    return {"score": float(parsed == gold), "video": video, "answered": parsed is not None, "parsed": parsed or ""}


def _asked(question: str, options: list[str], settings: Settings) -> str:
    settings = settings or {}
    if settings.get("style") == "pllava":
        return multiple_choice(question, options, "mvbench")
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return "\n".join([question, *lines, settings["post_prompt"]])
