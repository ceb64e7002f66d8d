"""The authors' own output, replayed through PruMerge, DyCoke stage 1, DivPrune, PruneVid stage 1 and VidCom2."""

from pathlib import Path

import pytest
from golden_cases.visual_a import CASES
from golden_cases.visual_b import read
from safetensors.torch import save_file

GOLDEN = Path(__file__).parent / "golden"
STAGE_TWO = ("s2_", "stage2_", "e2e_tiny_pllava")
FILES = [
    path
    for method in CASES
    for path in sorted((GOLDEN / method).glob("*.safetensors"))
    if not path.name.startswith(STAGE_TWO) and not path.name.startswith("effivlm")
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_replay(path):
    compared, difference = CASES[path.parent.name](path)
    assert compared > 0
    assert difference <= 1e-5


def test_every_directory_has_files():
    assert {path.parent.name for path in FILES} == set(CASES)


@pytest.mark.parametrize(
    ("file", "parameter", "value"),
    [
        ("prumerge/base_n576_c32", "knn", "31"),
        ("prumerge/plus_n576_r_mid", "iqr_factor", "1.4"),
        ("prumerge/plus_n576_r_low", "function", "token_prune_merge_advanced"),
        ("dycoke/s1_f8_t16_k07_random", "K", "0.5"),
        ("divprune/clustered_n392_r025", "threshold_ratio", "0.26"),
        ("divprune/e2e_image_n144", "SUBSET_RATIO", "0.25"),
        ("prunevid/stage1_default_T16_12x12", "tau", "0.7"),
        ("prunevid/stage1_default_T16_12x12", "cluster_ratio", "0.6"),
        ("prunevid/dpc_knn_N60_k7", "k", "5"),
        ("vidcom2/ov196_r25", "temperature", "0.1"),
        ("vidcom2/ov196_r25", "alphas", "0.125,0.25,0.5,1"),
    ],
)
def test_a_changed_parameter_fails(tmp_path, file, parameter, value):
    tensors, meta = read(GOLDEN / f"{file}.safetensors")
    changed = tmp_path / f"{Path(file).name}.safetensors"
    save_file(tensors, changed, {**meta, parameter: value})
    with pytest.raises(AssertionError):
        CASES[file.split("/")[0]](changed)


@pytest.mark.parametrize(
    ("method", "name", "meta"),
    [
        ("prumerge", "effivlm_port", {"repo": "https://github.com/EffiVLM-Bench/EffiVLM-Bench"}),
        ("dycoke", "s2_unit", {}),
        ("prunevid", "stage2_select_small", {}),
    ],
)
def test_declined_files_say_why(tmp_path, method, name, meta):
    path = tmp_path / f"{name}.safetensors"
    tensors, _ = read(FILES[0])
    save_file(tensors, path, {"method": method, **meta})
    with pytest.raises(LookupError, match="third party|stage 2"):
        CASES[method](path)
