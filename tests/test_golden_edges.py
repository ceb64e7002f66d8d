"""Metadata of recorded files is heeded, and cases that no recorded file covers replay as the specs say."""

import shutil
from pathlib import Path

import pytest
import torch
from golden_cases import visual_a, visual_b
from golden_cases.recorded import FOLDERS, folder_of, read
from safetensors.torch import save_file

from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.scissor import Scissor
from sharpv.tokens import VideoTokens

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def replay(replay_golden):
    return replay_golden.replay


def test_the_repository_in_its_metadata_names_a_files_folder(replay, tmp_path):
    for folder in set(FOLDERS.values()):
        recorded = sorted((GOLDEN / folder).glob("*.safetensors"))[-1]
        path = shutil.copy(recorded, tmp_path / f"{folder}.safetensors")
        assert folder_of(path, set(FOLDERS.values())) == folder
        assert replay(path)[0] == "ok"


@pytest.mark.parametrize("name", ["ov_T16_r25", "inner_half_even", "seg_table"])
def test_a_method_in_the_metadata_goes_before_the_repository_that_holds_two(replay, tmp_path, name):
    path = shutil.copy(GOLDEN / "holitom" / f"{name}.safetensors", tmp_path / "held_a.safetensors")
    assert folder_of(path, {"holitom", "visionzip"}) == "holitom"
    assert replay(path)[0] == "ok"


def write(path, tensors, meta):
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path, {name: str(value) for name, value in meta.items()})
    return path


def released_divprune(features_ND, ratio):
    """Picks, with repeats, and winning distances, by the text of the spec."""
    unit_ND = features_ND / features_ND.norm(dim=-1, keepdim=True)
    distance_NN, picks, distances = 1 - unit_ND @ unit_ND.T, [], []
    for _ in range(round(ratio * len(features_ND))):
        gap_N = distance_NN[picks].amin(0) if picks else distance_NN.topk(2, dim=0, largest=False).values[1]
        picks.append(int(gap_N.argmax()))
        distances.append(gap_N.max())
    return torch.tensor(picks, dtype=torch.long), torch.tensor(distances)


@pytest.mark.parametrize(("case", "ratio"), [("copies", 0.5), ("zero", 0.25), ("none", 0.02)])
def test_divprune_replays_repeats_a_zero_vector_and_nothing_kept(replay, tmp_path, case, ratio):
    features_ND = torch.randn(20, 16, generator=torch.Generator().manual_seed(3))
    if case == "copies":
        features_ND = features_ND[:5].repeat(4, 1)
    if case == "zero":
        features_ND[7] = 0
    pick_K, distance_K = released_divprune(features_ND, ratio)
    assert pick_K.tolist() == {"zero": [7, 0, 0, 0, 0], "none": []}.get(case, pick_K.tolist())
    tensors = {"features": features_ND, "selected_idx": pick_K, "maxmin_distance": distance_K}
    path = tmp_path / "divprune" / "held_a.safetensors"
    write(path, tensors | {"kept_sorted": pick_K.sort().values}, {"threshold_ratio": ratio})
    verdict, message = replay(path)
    assert verdict == "ok", message


@pytest.mark.parametrize("invariant", ["20/20", "0/20"])
def test_scissor_replays_a_video_in_which_nothing_merges(replay, tmp_path, invariant):
    features_TPD = torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(2))
    selection = Scissor(0.95, official=True).select(VideoTokens(features_TPD, (1, 16), seed=1))
    assert len(selection) == 48
    tensors = {
        "features": features_TPD,
        "stage1_tokens": features_TPD.flatten(0, 1).clone(),
        "assignment": selection.assign_N,
        "counts": torch.full((48,), 2.0),
        "merged": selection.features_KD,
    }
    meta = {"tau": 0.95, "epsilon": 0.05, "np_random_seed": 1, "order_invariant_runs": invariant}
    meta |= {"lost_nodes_stage1": 0, "lost_nodes_stage2": 0}
    assert replay(write(tmp_path / "scissor" / "held_a.safetensors", tensors, meta))[0] == "ok"


def test_prumerge_takes_the_fixed_ratio_and_the_range_from_the_metadata():
    meta = read(GOLDEN / "prumerge" / "plus_fixed_ratio_1_8.safetensors")[1]
    plus = visual_a.prumerge_method(meta)
    assert isinstance(plus, PruMergePlus)
    assert (plus.keep_ratio, plus.range_end) == (0.25, 575)
    assert visual_a.prumerge_method(meta | {"spatial_range_end": "300"}).range_end == 300
    base = visual_a.prumerge_method(meta | {"function": "token_prune_merge_advanced"})
    assert type(base) is PruMerge
    assert base.keep_ratio == 0.125


def test_prumerge_replays_a_width_that_four_heads_do_not_divide(tmp_path):
    tensors, meta = read(GOLDEN / "prumerge" / "base_n196_c48.safetensors")
    scale = (50 / 48) ** 0.5
    # Zero channels change no product; only the attention's scale has to be made up for.
    padded = {name: torch.nn.functional.pad(tensors[name], (0, 2)) for name in ("q", "k", "features", "merged")}
    padded["q"] *= scale
    path = write(tmp_path / "prumerge" / "held_a.safetensors", tensors | padded, meta)
    assert visual_a.CASES["prumerge"](path)[0] > 0


def test_visionzip_takes_the_recorded_number_of_dominant_tokens(monkeypatch):
    shares = []
    original = visual_b.VisionZip

    def watched(keep_ratio, share):
        shares.append(share)
        return original(keep_ratio, share)

    monkeypatch.setattr(visual_b, "VisionZip", watched)
    visual_b.CASES["visionzip"](GOLDEN / "visionzip" / "clip_dom20_ctx5.safetensors")
    assert int(24 * shares[0]) == 19
    assert 24 * shares[0] == pytest.approx(19.5)
