"""What the official code feeds the real models, and upstream's scores, replayed through our code."""

import json
from pathlib import Path

import pytest
import torch
from golden_cases import llava_onevision, pllava
from safetensors.torch import load_file, save_file

FILES = {"llava_onevision": llava_onevision.FILES, "pllava": pllava.FILES}
CASES = llava_onevision.CASES | pllava.CASES
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(("folder", "file"), [(folder, file) for folder, files in FILES.items() for file in files])
def test_official_inputs_and_scores_are_reproduced(folder, file):
    compared, _ = CASES[folder](GOLDEN / folder / file)
    assert compared > 0


@pytest.mark.parametrize("alpha", [4.0, 20.0, 32.0])
def test_lora_of_a_large_scale_differs_by_rounding_alone(tmp_path, alpha):
    tensors = load_file(GOLDEN / "pllava" / "lora.safetensors")
    base, down, up = (tensors[f"q_proj.{n}.weight"] for n in ("base_layer", "lora_A.default", "lora_B.default"))
    output = tensors["input"] @ base.T + alpha / len(down) * (tensors["input"] @ down.T @ up.T)
    path = tmp_path / "held.safetensors"
    save_file(tensors | {"lora_alpha": torch.tensor(alpha), "output": output}, path)
    assert CASES["pllava"](path)[0] > 0
    save_file(tensors | {"lora_alpha": torch.tensor(alpha * 1.001), "output": output}, path)
    with pytest.raises(AssertionError, match="off by"):
        CASES["pllava"](path)


def test_a_changed_lora_scale_is_noticed(monkeypatch):
    monkeypatch.setattr("golden_cases.pllava.merge_lora", lambda base, down, up, alpha: base)
    with pytest.raises(AssertionError, match="off by"):
        CASES["pllava"](GOLDEN / "pllava" / "lora.safetensors")


@pytest.mark.parametrize("folder", CASES)
@pytest.mark.parametrize("content", ['{"other": 1}', "{}", "3"])
def test_a_file_that_no_rule_replays_is_named(folder, content, tmp_path):
    path = tmp_path / "unknown.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LookupError, match="unknown.json"):
        CASES[folder](path)


def test_options_may_have_several_lines_and_hold_letters():
    recorded = json.loads((GOLDEN / "pllava" / "prompts.json").read_text(encoding="utf-8"))
    options = ["a man\nin (A) coat", "(B) odd", "", "last\n"]
    asked = "\n".join(f"({letter}) {option}" for letter, option in zip("ABCD", options, strict=True))
    before, _, rest = recorded["plain"].partition("(A) ")
    recorded["plain"] = f"{before}{asked} {rest[rest.index(chr(10) + 'Only') :]}"
    assert pllava.options_of(asked) == options
    assert f"Options:\n{asked} \nOnly" in pllava.our_prompts(recorded)["eval_mvbench"]


def test_a_projector_that_pools_otherwise_is_noticed(tmp_path):
    tensors = load_file(GOLDEN / "pllava" / "projector.safetensors")
    tensors["spatial.output"] = tensors["spatial.output"].roll(1, dims=1)
    save_file(tensors, tmp_path / "held.safetensors")
    with pytest.raises(AssertionError, match="spatial: no pooling to"):
        CASES["pllava"](tmp_path / "held.safetensors")
