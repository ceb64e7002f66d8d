"""The published tables name the same model and method in different ways; this is where they meet, and what was measured
here meets them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

SUB_TASKS = {
    "action_antonym": "AA",
    "action_count": "AC",
    "action_localization": "AL",
    "action_prediction": "AP",
    "action_sequence": "AS",
    "character_order": "CO",
    "counterfactual_inference": "CI",
    "egocentric_navigation": "EN",
    "episodic_reasoning": "ER",
    "fine_grained_action": "FA",
    "fine_grained_pose": "FP",
    "moving_attribute": "MA",
    "moving_count": "MC",
    "moving_direction": "MD",
    "object_existence": "OE",
    "object_interaction": "OI",
    "object_shuffle": "OS",
    "scene_transition": "ST",
    "state_change": "SC",
    "unexpected_action": "UA",
}
"""MVBench's sub-tasks, as lmms-eval's task names end, and the paper's letters for them."""
DURATIONS = {"short": "videomme_short", "medium": "videomme_medium", "long": "videomme_long"}


CHECKPOINTS = {
    "LLaVA-OneVision 0.5B": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
    "LLaVA-OneVision 7B": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "PLLaVA 7B": "ermu2001/pllava-7b",
}
"""The paper's models, by the names that they have here."""
BENCHMARKS = {
    "mvbench_acc": "sharpv_mvbench",
    "videomme_wo": "sharpv_videomme",
    "nextqa_mc": "sharpv_nextqa",
    "actnetqa_acc": "sharpv_actnetqa",
    "actnetqa_score": "sharpv_actnetqa",
}
"""The paper's columns, by the tasks here that are its benchmarks."""


def of_paper(model: Mapping[str, Any]) -> bool:
    """Whether a run's model is the paper's: its checkpoint from the hub, under its own name."""
    name = model.get("paper_name")
    return name is not None and CHECKPOINTS.get(name) == model.get("path") and model["display"] == name


def shown_name(model: Mapping[str, Any]) -> str:
    """What a run's model is called: as its user says, with its path where that would be a name of the paper's."""
    if not of_paper(model) and any(same_model(model["display"], name) for name in CHECKPOINTS):
        return f"{model['display']} from {model.get('path', 'elsewhere')}"
    return model["display"]


def published_beside(
    paper: pd.DataFrame, models: Iterable[Mapping[str, Any]], benchmarks: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The lines of a published table that may stand beside runs: those of the paper's models among them, and none where
    one of the benchmarks is not the paper's. benchmarks: the paper's columns -> benchmarks of the runs."""
    own = [model["display"] for model in models if of_paper(model)]
    if not all(BENCHMARKS.get(column) == benchmark for column, benchmark in (benchmarks or {}).items()):
        own = []
    return paper[np.array([any(same_model(name, one) for one in own) for name in paper["model"]], dtype=bool)]


def same_model(one: str, other: str) -> bool:
    """Whether two of the paper's names mean one model: "LLaVA-OneVision 7B", "LLaVA-OV 7B" and "LLaVAOV-7B" do."""
    return _plain(one) == _plain(other)


def lines_of_model(paper: pd.DataFrame, model: str) -> pd.DataFrame:
    """A published table's lines about this model; empty where it has none."""
    return paper[np.array([same_model(model, other) for other in paper["model"]], dtype=bool)]


def base_method(method: str) -> str:
    """A method without its setting: "DyCoke (K=0.5)" is DyCoke."""
    return method.split(" (")[0]


def _plain(name: str) -> str:
    return re.sub(r"[\s-]", "", name).replace("OneVision", "OV").lower()
