"""The published tables name the same model and method in different ways; this is where they meet."""

import re

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
