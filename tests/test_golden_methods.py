"""The authors' own output, replayed through every method of both stages."""

from pathlib import Path

import pytest
from golden_cases import memory, visual_a, visual_b, visual_c
from golden_cases.recorded import Declined, read
from safetensors.torch import save_file

GOLDEN = Path(__file__).parent / "golden"
STAGES = {"visual": visual_a.CASES | visual_b.CASES | visual_c.CASES, "memory": memory.CASES}
# Recorded files that each stage replays.
COUNTS = {
    "visual": {
        "prumerge": 8,
        "dycoke": 9,
        "divprune": 10,
        "prunevid": 7,
        "vidcom2": 7,
        "evs": 4,
        "vcast": 5,
        "visionzip": 4,
        "scissor": 6,
        "fastvid": 5,
        "holitom": 7,
        "flashvid": 8,
    },
    "memory": {
        "fastv": 8,
        "vtw": 7,
        "prunevid": 4,
        "dycoke": 3,
        "framefusion": 8,
        "pyramiddrop": 8,
        "holitom": 3,
        "flashvid": 2,
    },
}
MEMORY_NAMES = ("s2_", "stage2_", "e2e_tiny_pllava", "inner_", "e2e_tiny_qwen2")
TWO_STAGES = ("dycoke", "prunevid", "holitom", "flashvid")
DECLINED = GOLDEN / "visionzip" / "grid_newline_bug.safetensors"


def stage_of(path: Path) -> str:
    method = path.parent.name
    both = method in STAGES["visual"] and method in STAGES["memory"]
    memory_stage = path.name.startswith(MEMORY_NAMES) if both else method in STAGES["memory"]
    return "memory" if memory_stage else "visual"


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def replay(path: Path) -> tuple[int, float]:
    return STAGES[stage_of(path)][path.parent.name](path)


FILES = [
    path
    for method in sorted({method for counts in COUNTS.values() for method in counts})
    for path in sorted((GOLDEN / method).glob("*.safetensors"))
    if path != DECLINED
]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_replay(path):
    compared, difference = replay(path)
    assert compared > 0
    # PyramidDrop's logits at original positions were recorded in float64.
    close_by = {"pyramiddrop": 2e-5} | dict.fromkeys(visual_b.CASES, 1e-6)
    assert difference <= close_by.get(path.parent.name, 1e-5)


@pytest.mark.parametrize(("stage", "method"), [(stage, method) for stage in COUNTS for method in COUNTS[stage]])
def test_all_files_are_there(stage, method):
    assert set(COUNTS[stage]) == set(STAGES[stage])
    assert sum(path.parent.name == method and stage_of(path) == stage for path in FILES) == COUNTS[stage][method]


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name in TWO_STAGES], ids=name_of)
def test_files_of_one_stage_are_left_to_it(path):
    other = {"visual": "memory", "memory": "visual"}[stage_of(path)]
    with pytest.raises(LookupError, match="stage"):
        STAGES[other][path.parent.name](path)


def test_a_recorded_defect_and_a_third_party_port_are_declined(tmp_path):
    with pytest.raises(Declined, match="newlines"):
        replay(DECLINED)
    path = tmp_path / "effivlm_port.safetensors"
    save_file(read(FILES[0])[0], path, {"repo": "https://github.com/EffiVLM-Bench/EffiVLM-Bench"})
    with pytest.raises(Declined, match="third party"):
        visual_a.CASES["prumerge"](path)


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
        ("evs/T8_q75", "pruning_rate", "0.7"),
        ("vcast/T8_r25", "budget_temp", "0.5"),
        ("visionzip/ov_s10_T4", "dominant_ratio", "0.7"),
        ("scissor/clustered_tau090", "tau", "0.8"),
        ("scissor/sampled_eps045_tau080", "epsilon", "0.40"),
        ("fastvid/long_segments_p2", "DTM_p", "3"),
        ("fastvid/long_segments_p2", "DTM_beta", "0.35"),
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
        ("holitom/ov_T16_r25", "retain_ratio", "0.3"),
        ("holitom/ov_T12_r10_tau065", "tau", "0.9"),
        ("holitom/ov_T16_r25", "beta", "0.5"),
        ("holitom/ov_T16_r25", "K", "2"),
        ("holitom/ov_T16_r25", "max_window_size", "2"),
        ("holitom/inner_half_even", "r", "0.4"),
        ("holitom/e2e_tiny_qwen2", "k", "3"),
        ("flashvid/ov_T16_r25", "retention_ratio", "0.3"),
        ("flashvid/ov_T16_r25", "alpha", "0.5"),
        ("flashvid/ov_T16_r25", "segment_threshold", "0.99999"),
        ("flashvid/ov_T16_r25", "min_segment_num", "4"),
        ("flashvid/ov_T16_r25", "token_selection_method", "attn_div"),
        ("flashvid/deep_trees_T12_r15", "temporal_threshold", "0.9"),
        ("flashvid/deep_trees_T12_r15", "expansion", "1.0"),
        ("flashvid/inner_ceil_14_heads", "llm_retention_ratio", "0.2"),
        ("flashvid/e2e_tiny_qwen2", "pruning_layer", "2"),
        ("pyramiddrop/sel_04_trunc", "ratios", "[0.3, 0.2, 0.1]"),
        ("pyramiddrop/e2e_A", "layer_list", "[2, 3, 4]"),
    ],
)
def test_a_changed_parameter_fails(tmp_path, file, parameter, value):
    tensors, meta = read(GOLDEN / f"{file}.safetensors")
    assert meta[parameter] != value
    changed = tmp_path / f"{file}.safetensors"
    changed.parent.mkdir()
    save_file(tensors, changed, {**meta, parameter: value})
    with pytest.raises(AssertionError):
        replay(changed)
