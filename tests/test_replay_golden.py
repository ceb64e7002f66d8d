"""scripts/replay_golden.py passes on the authors' output and fails on anything that differs from it."""

import shutil
from pathlib import Path

import pytest
import torch
from golden_cases.visual_b import read
from safetensors.torch import save_file

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def main(replay_golden):
    return replay_golden.main


def test_all_recorded_files_pass(main, capsys):
    assert main([str(GOLDEN)]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    declined = [line.split(":")[0] for line in lines if not line.startswith("ok ")]
    assert declined == ["declined visionzip/grid_newline_bug.safetensors"]
    assert total == f"{len(lines) - 1} ok, 1 declined, 0 FAILED"
    replayed = {line.split()[1].rstrip(":") for line in lines}
    assert replayed >= {f"{path.parent.name}/{path.name}" for path in GOLDEN.rglob("*.safetensors")}
    assert {"pllava/prompt_ids.json", "llava_onevision/answers.json"} <= replayed


@pytest.mark.parametrize(
    ("file", "index"),
    [("evs/T6_q50", "kept_indices"), ("dycoke/s1_f5_t20_k07_corr", "kept"), ("fastv/e2e_A", "kept")],
)
def test_one_changed_index_fails(main, capsys, tmp_path, file, index):
    tensors, meta = read(GOLDEN / f"{file}.safetensors")
    changed = tmp_path / f"{file}.safetensors"
    changed.parent.mkdir()
    save_file(tensors, changed, meta)
    assert main([str(changed)]) == 0
    tensors[index][3] += 1
    save_file(tensors, changed, meta)
    assert main([str(tmp_path)]) == 1
    assert f"{index}: 1 of {len(tensors[index])} differ" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dycoke/s3_new.safetensors", "unheard/T6.bin", "vtw/x_1", "evs/missing"])
def test_an_unknown_file_fails(main, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir()
    if path.name != "missing":
        shutil.copy(GOLDEN / "evs" / "T6_q50.safetensors", path)
    assert main([str(path)]) == 1


def test_a_file_is_replayed_by_what_it_holds_under_any_name(main, capsys, tmp_path):
    """The copies lie beside one another, so that none is found by another's name."""
    for source in sorted(path for path in GOLDEN.rglob("*") if path.suffix in (".safetensors", ".json")):
        folder = tmp_path / source.parent.name
        folder.mkdir(exist_ok=True)
        shutil.copy(source, folder / f"held_{len(list(folder.iterdir()))}{source.suffix}")
    assert main([str(tmp_path)]) == 0
    held = sorted(line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines()[:-1])
    assert main([str(GOLDEN)]) == 0
    assert held == sorted(line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines()[:-1])


def test_a_file_that_nothing_replays_is_no_declined_one(main, capsys, tmp_path):
    path = tmp_path / "llava_onevision" / "answers_hidden.json"
    path.parent.mkdir()
    path.write_text('{"tasks": {}}', encoding="utf-8")
    assert main([str(path)]) == 1
    assert "answers_hidden.json: LookupError: nothing replays this file" in capsys.readouterr().out


def test_fastv_keeps_the_share_that_one_minus_r_is_in_floats(main, tmp_path):
    """15 * (1 - 0.7) is more than 4.5 and rounds to 5, while 15 * 0.3 rounds to 4."""
    attn_HQN = torch.rand(2, 1, 20, generator=torch.Generator().manual_seed(1))
    scores_V = attn_HQN[:, -1].mean(0)[2:17]
    meta = {"visual_start": 2, "visual_len": 15, "seq_len": 20, "R": 0.7, "keep_ratio": 0.3, "rounding": "round"}
    path = tmp_path / "fastv" / "held.safetensors"
    path.parent.mkdir()
    for count, code in ((5, 0), (4, 1)):
        best_K = scores_V.topk(count).indices.sort().values + 2
        kept = torch.cat([torch.arange(2), best_K, torch.arange(17, 20)])
        recorded = meta | {"num_keep_visual": count}
        save_file(
            {"attn": attn_HQN, "scores": scores_V.clone(), "kept": kept},
            path,
            {name: str(value) for name, value in recorded.items()},
        )
        assert main([str(path)]) == code


@pytest.mark.parametrize(
    ("file", "name", "value", "code"),
    [
        ("framefusion/merge_then_prune", "num_layers_budget", 24, 1),
        ("framefusion/e2e_tiny_qwen2", "num_layers_budget", 6, 1),
        ("dycoke/s2_unit_rows_P07_statecarry", "L", 27, 0),
        ("dycoke/s2_unit_rows_P07_statecarry", "P", 0.6, 1),
    ],
)
def test_a_setting_in_the_metadata_is_heeded(main, tmp_path, file, name, value, code):
    """L only says whose rows a unit file holds."""
    tensors, meta = read(GOLDEN / f"{file}.safetensors")
    path = tmp_path / f"{file}.safetensors"
    path.parent.mkdir()
    save_file(tensors, path, meta | {name: str(value)})
    assert main([str(path)]) == code


@pytest.mark.parametrize(("file", "logits"), [("fastv/e2e_A", "logits_cached"), ("vtw/e2e_A", "logits_keep")])
@pytest.mark.parametrize("beyond", [0, 2])
def test_a_layer_beyond_the_last_prunes_nothing(main, capsys, tmp_path, file, logits, beyond):
    tensors, meta = read(GOLDEN / f"{file}.safetensors")
    rows, depth = tensors["inputs_embeds"].shape[1], len(tensors["layer_seq_len"])
    tensors |= {name: torch.full((depth,), rows) for name in ("layer_seq_len", "kv_len_prefill", "kv_len_end")}
    tensors |= {name: torch.zeros(0, dtype=torch.long) for name in ("decode_token_ids", "decode_position_ids")}
    tensors |= {"kept": torch.arange(rows), logits: tensors["logits_baseline_last"][None].clone()}
    path = tmp_path / f"{file}.safetensors"
    path.parent.mkdir()
    save_file(tensors, path, meta | {"K": str(depth + beyond)})
    assert main([str(path)]) == 0
    tensors[logits][0, 0] += 1
    save_file(tensors, path, meta | {"K": str(depth + beyond)})
    assert main([str(path)]) == 1
    assert "logits: off by" in capsys.readouterr().out


def test_an_empty_folder_fails(main, tmp_path):
    assert main([str(tmp_path)]) == 1


@pytest.mark.parametrize("folder", ["pllava", "llava_onevision"])
def test_a_file_of_a_model_without_its_content_fails(main, tmp_path, folder):
    path = tmp_path / folder / "prompts.json"
    path.parent.mkdir()
    path.write_text("{}", encoding="utf-8")
    assert main([str(path)]) == 1
