"""What the official code feeds the real models, and upstream's scores, replayed through our code."""

from pathlib import Path

import pytest
from golden_cases import llava_onevision, pllava

FILES = {"llava_onevision": llava_onevision.FILES, "pllava": pllava.FILES}
CASES = llava_onevision.CASES | pllava.CASES
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(("folder", "file"), [(folder, file) for folder, files in FILES.items() for file in files])
def test_official_inputs_and_scores_are_reproduced(folder, file):
    compared, _ = CASES[folder](GOLDEN / folder / file)
    assert compared > 0


def test_a_changed_lora_scale_is_noticed(monkeypatch):
    monkeypatch.setattr("golden_cases.pllava.merge_lora", lambda base, down, up, alpha: base)
    with pytest.raises(AssertionError, match="off by"):
        CASES["pllava"](GOLDEN / "pllava" / "lora.safetensors")


def test_a_file_that_no_rule_replays_is_named():
    with pytest.raises(LookupError, match="unknown.json"):
        CASES["pllava"](GOLDEN / "pllava" / "unknown.json")
