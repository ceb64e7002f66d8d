"""The authors' own output, replayed through EVS, V-CAST, VisionZip, LLaVA-Scissor and FastVID."""

from pathlib import Path

import pytest
from golden_cases.visual_b import CASES, read
from safetensors.torch import save_file

GOLDEN = Path(__file__).parent / "golden"
FILES = [path for method in CASES for path in sorted((GOLDEN / method).glob("*.safetensors"))]
DECLINED = "grid_newline_bug"


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != DECLINED], ids=name_of)
def test_replay(path):
    compared, difference = CASES[path.parent.name](path)
    assert compared > 0
    assert difference <= 1e-6


def test_every_directory_has_files_and_one_file_is_declined():
    assert {path.parent.name for path in FILES} == set(CASES)
    with pytest.raises(LookupError, match="newlines"):
        CASES["visionzip"](GOLDEN / "visionzip" / f"{DECLINED}.safetensors")


@pytest.mark.parametrize(
    ("file", "parameter", "value"),
    [
        ("evs/T8_q75", "pruning_rate", "0.7"),
        ("vcast/T8_r25", "budget_temp", "0.5"),
        ("visionzip/ov_s10_T4", "dominant_ratio", "0.7"),
        ("scissor/clustered_tau090", "tau", "0.8"),
        ("scissor/sampled_eps045_tau080", "epsilon", "0.40"),
        ("fastvid/long_segments_p2", "DTM_p", "3"),
        ("fastvid/long_segments_p2", "DTM_beta", "0.35"),
    ],
)
def test_a_changed_parameter_fails(tmp_path, file, parameter, value):
    tensors, meta = read(GOLDEN / f"{file}.safetensors")
    changed = tmp_path / "changed.safetensors"
    save_file(tensors, changed, {**meta, parameter: value})
    with pytest.raises(AssertionError):
        CASES[file.split("/")[0]](changed)
