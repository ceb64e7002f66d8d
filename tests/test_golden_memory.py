"""The authors' own output, replayed through FastV, VTW, PruneVid stage 2, DyCoke stage 2 and FrameFusion."""

from pathlib import Path

import pytest
from golden_cases.memory import CASES
from golden_cases.visual_b import read
from safetensors.torch import save_file

GOLDEN = Path(__file__).parent / "golden"
PATTERNS = {
    "fastv": ("*",),
    "vtw": ("*",),
    "framefusion": ("*",),
    "prunevid": ("stage2_*", "e2e_*"),
    "dycoke": ("s2_*",),
}
FILES = [
    path
    for method, patterns in PATTERNS.items()
    for pattern in patterns
    for path in sorted((GOLDEN / method).glob(f"{pattern}.safetensors"))
]
COUNTS = {"fastv": 8, "vtw": 7, "framefusion": 8, "prunevid": 4, "dycoke": 3}


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_replay(path):
    compared, difference = CASES[path.parent.name](path)
    assert compared > 0
    assert difference <= 1e-5


@pytest.mark.parametrize("method", COUNTS)
def test_all_files_are_there(method):
    assert sum(path.parent.name == method for path in FILES) == COUNTS[method]


@pytest.mark.parametrize("file", ["dycoke/s1_f5_t20_k07_corr", "prunevid/stage1_small_groups_T12_4x5"])
def test_files_of_the_visual_stage_are_left_to_it(file):
    with pytest.raises(LookupError, match="visual stage"):
        CASES[file.split("/")[0]](GOLDEN / f"{file}.safetensors")


@pytest.mark.parametrize(
    ("file", "parameter", "value"),
    [
        ("fastv/sel_04_onevision_like", "keep_ratio", "0.31"),
        ("fastv/sel_02_round_vs_floor", "visual_start", "13"),
        ("fastv/e2e_A", "K", "3"),
        ("vtw/e2e_A", "K", "4"),
        ("vtw/wd_01", "visual_len", "47"),
        ("vtw/calib_02_dip", "first_candidate", "6"),
        ("vtw/findk_01", "visual_len", "575"),
        ("prunevid/stage2_select_default", "alpha", "0.39"),
        ("prunevid/e2e_tiny_pllava", "selected_layer", "2"),
        ("prunevid/e2e_tiny_pllava", "tau", "0.7"),
        ("dycoke/s2_unit_rows_P07_statecarry", "P", "0.6"),
        ("dycoke/s2_unit_rows_P07_statecarry", "similarity_threshold", "0.5"),
        ("dycoke/s2_e2e_L3_P07", "L", "2"),
        ("framefusion/merge_then_prune", "similarity_lower_bound", "0.7"),
        ("framefusion/topk_second_call", "cost", "0.31"),
        ("framefusion/low_ratio_then_prune", "ratio_lower_bound", "0.01"),
        ("framefusion/e2e_tiny_qwen2", "cost", "0.4"),
    ],
)
def test_a_changed_parameter_fails(tmp_path, file, parameter, value):
    tensors, meta = read(GOLDEN / f"{file}.safetensors")
    changed = tmp_path / f"{file.split('/')[1]}.safetensors"
    save_file(tensors, changed, {**meta, parameter: value})
    with pytest.raises(AssertionError):
        CASES[file.split("/")[0]](changed)
