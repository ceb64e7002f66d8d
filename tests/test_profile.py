"""The profile script: forced counts, resumed files, what it says where it cannot measure; and its name."""

import subprocess
import sys

import pytest
import torch

from sharpv import paths
from sharpv.metrics.profiling.command import main, parse
from sharpv.metrics.profiling.measure import Profiler
from sharpv.metrics.profiling.pruners import PRUNERS, pair_of
from sharpv.metrics.profiling.results import COLUMNS, Compared, Results
from sharpv.metrics.profiling_models import build, shape_config
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.pruners.holitom import HoliTom
from sharpv.runtime.cache import SPARE_ROWS, PrunableLayer

CPU = torch.device("cpu")
ARGUMENTS = ["--model", "tiny", "--device", "cpu", "--tokens", "3", "--repeats", "2", "--layers", "4"]


@pytest.fixture(scope="module")
def tiny():
    return build("tiny", CPU, torch.float32)


@pytest.fixture(scope="module")
def block(tiny):
    names = ["dense", "sharpv", "fastv", "prunevid", "visionzip", "fewer_frames", "fastvid"]
    rows = Profiler(tiny, tokens=3, repeats=2).block(4, {name: pair_of(name, 0.32, 0.39) for name in names})
    return {row["pruner"]: row for row in rows}


def test_forced_counts_are_exact(block):
    total = block["dense"]["visual_dense"]
    for name in ("sharpv", "prunevid", "visionzip"):
        assert block[name]["visual_kept"] == round(0.32 * total)
    assert block["sharpv"]["mr"] == 3 / 8
    assert block["fewer_frames"]["visual_kept"] == total / 4
    assert block["fewer_frames"]["frames_encoded"] == 1
    assert block["dense"]["vr"] == block["dense"]["mr"] == 1


def test_kv_bytes_are_the_budget(block):
    for row in block.values():
        if row["status"] == "ok":
            assert row["kv_bytes"] == pytest.approx(row["kv_bytes_predicted"], rel=0.01)
    dense, pruned = block["dense"], block["sharpv"]
    text = 81
    kept = 3 * (pruned["visual_kept"] + text) + 5 * text
    assert pruned["kv_bytes"] / dense["kv_bytes"] == pytest.approx(kept / (8 * (dense["visual_kept"] + text)))


def test_no_method_takes_more_memory_in_prefill_than_dense(block):
    for name in ("sharpv", "fastv", "prunevid", "fewer_frames"):
        assert block[name]["peak_prefill_bytes"] <= block["dense"]["peak_prefill_bytes"]


def test_a_pruner_that_refuses_the_model_gives_its_reason(block):
    assert block["fastvid"]["status"] == "refused"
    assert "pooling head" in block["fastvid"]["reason"]


def test_the_model_is_as_before(tiny, block):
    def hooks():
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in tiny.modules())

    before = hooks()
    Profiler(tiny, tokens=2, repeats=2).block(2, {"visionzip": pair_of("visionzip", 0.32, 0.39)})
    assert hooks() == before


@pytest.mark.parametrize("name", [name for name in PRUNERS if name != "dense"])
def test_every_pruner_of_the_list_can_be_built_forced_and_not(name):
    for forced in ((0.32, 0.39), (None, None)):
        visual, memory = pair_of(name, *forced)
        assert isinstance(visual, VisualPruner | None)
        assert isinstance(memory, MemoryPruner | None)
        assert visual or memory


def test_cut_depth_keeps_the_shares_of_tower_and_decoder():
    config = shape_config("llava_ov_0_5b", 6)
    assert config.text_config.num_hidden_layers == len(config.text_config.layer_types) == 6
    assert config.vision_config.num_hidden_layers == round(26 * 6 / 24)
    with pytest.raises(ValueError, match="between 2 and the 24"):
        shape_config("llava_ov_0_5b", 25)


def test_a_second_run_measures_only_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    assert main([*ARGUMENTS, "--frames", "2", "--pruners", "sharpv"]) == 0
    (path,) = (tmp_path / "bench").glob("*.csv")
    first = path.read_text(encoding="utf-8")
    assert main([*ARGUMENTS, "--frames", "2", "4", "--pruners", "sharpv", "fastv"]) == 0
    assert path.read_text(encoding="utf-8").startswith(first)
    found = [(row["frames"], row["pruner"]) for row in Results(path).rows]
    assert found == [("2", "dense"), ("2", "sharpv"), ("2", "fastv"), ("4", "dense"), ("4", "sharpv"), ("4", "fastv")]
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    for said in ("TTFT* = ", "4 of 8 decoder layers, **depth truncated**", "Forced counts", "torch: ", "command: "):
        assert said in text
    assert {file.suffix for file in path.parent.iterdir()} == {".csv", ".md", ".png", ".svg"}
    assert "written to" in capsys.readouterr().out


def test_a_file_with_other_columns_is_not_mixed_with_ours(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("model,frames\ntiny,8\n", encoding="utf-8")
    with pytest.raises(ValueError, match="another version"):
        Results(path)


@pytest.mark.parametrize("wrong", [["--force-ratio", "1.5"], ["--pruners", "sharp"], ["--model", "huge"]])
def test_a_command_that_makes_no_sense_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        main(wrong)
    assert "error" in capsys.readouterr().err


def test_the_bound_scales_the_language_model_by_its_operations():
    dense = dict.fromkeys(COLUMNS, "0") | {"vision_s": "2", "prefill_s": "3", "first_token_s": "1", "ttft_s": "6"}
    dense |= {"tpot_s": "0.1", "flops_prefill": "100"}
    pruned = dense | {"prune_s": "0.03", "session_s": "0.03", "prefill_s": "1.4", "first_token_s": "0.07"}
    pruned |= {"ttft_s": "3.5", "flops_prefill": "25"}
    row = Compared(pruned, dense)
    assert row.bound_s == 2 + 4 * 0.25
    assert row.bound_speedup == 6 / 3
    assert row.over_bound == pytest.approx(3.5 / 3 - 1)
    assert row.ceiling == 6 / 2
    assert row.overhead == pytest.approx(0.06 / 6)


def test_a_decode_step_writes_one_row_and_copies_none():
    layer, prefill = PrunableLayer(), torch.randn(1, 2, 10, 4)
    layer.update(prefill, 2 * prefill)
    assert layer.stored_bytes == 2 * prefill.numel() * 4
    places, steps = set(), torch.randn(SPARE_ROWS, 1, 2, 1, 4)
    for step in steps:
        keys, values = layer.update(step, 2 * step)
        places.add((keys.data_ptr(), values.data_ptr()))
    assert len(places) == 1
    expected = torch.cat([prefill, *steps], 2)
    assert torch.equal(keys, expected)
    assert torch.equal(values, 2 * expected)
    layer.cut(torch.arange(3))
    keys, _ = layer.update(steps[0], steps[0])
    assert torch.equal(keys, torch.cat([expected[:, :, :3], steps[0]], 2))
    assert layer.get_seq_length() == 10 + SPARE_ROWS + 1


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=paths.REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


def test_the_scripts_name_does_not_hide_the_standard_librarys_profile():
    out = run_python("import sys; sys.path.insert(0, 'scripts'); import cProfile; cProfile.run('1'); print('fine')")
    assert out.endswith("fine\n")


def test_profiling_needs_neither_lmms_eval_nor_hydra():
    code = "import sys, sharpv.metrics.profiling.command; print({'lmms_eval', 'hydra', 'pandas'} & set(sys.modules))"
    assert run_python(code) == "set()\n"


def test_any_pruner_that_has_a_name_is_profiled_and_another_is_told(capsys):
    visual, memory = pair_of("holitom_outer", 0.32, 0.39)
    assert isinstance(visual.inner, HoliTom)
    assert memory is None
    with pytest.raises(SystemExit):
        parse(["--pruners", "nobodys"])
    assert "unknown pruner 'nobodys'" in capsys.readouterr().err
