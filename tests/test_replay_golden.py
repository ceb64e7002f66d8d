"""scripts/replay_golden.py passes on the authors' output and fails on anything that differs from it."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from golden_cases.visual_b import read
from safetensors.torch import save_file

GOLDEN = Path(__file__).parent / "golden"
SCRIPT = Path(__file__).parents[1] / "scripts" / "replay_golden.py"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("replay_golden", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


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


@pytest.mark.parametrize("name", ["dycoke/s3_new.safetensors", "unheard/T6.safetensors", "vtw/x_1", "evs/missing"])
def test_an_unknown_file_fails(main, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir()
    if path.name != "missing":
        shutil.copy(GOLDEN / "evs" / "T6_q50.safetensors", path)
    assert main([str(path)]) == 1


def test_an_empty_folder_fails(main, tmp_path):
    assert main([str(tmp_path)]) == 1


@pytest.mark.parametrize("folder", ["pllava", "llava_onevision"])
def test_a_file_of_a_model_without_its_content_fails(main, tmp_path, folder):
    path = tmp_path / folder / "prompts.json"
    path.parent.mkdir()
    path.write_text("{}")
    assert main([str(path)]) == 1
