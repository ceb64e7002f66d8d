"""Every shipped configuration composes, builds, and is dry-run; mistyped names are answered with the valid ones."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir

from sharpv.benchmarks.availability import incomplete
from sharpv.commands import run as experiment
from sharpv.configuration import configure, settings
from sharpv.configuration.profile import choose


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS), version_base="1.3"):
        yield


@pytest.mark.parametrize("name", configure.names("experiment"))
@pytest.mark.parametrize("profile", configure.names("profile"))
def test_every_experiment_composes_and_dry_runs_in_every_profile(name, profile, capsys):
    config = compose("config", [f"experiment={name}", f"profile={profile}", "dry_run=true"])
    assert experiment.run(config, "test") == 0
    assert "all build" in capsys.readouterr().out


def test_table_4_of_the_paper_is_of_three_models_and_two_benchmarks():
    config = compose("config", ["experiment=table4", "profile=paper"])
    assert set(config.models) == {"pllava_7b", "llava_ov_0_5b", "llava_ov_7b"}
    assert list(config.benchmarks) == ["mvbench", "videomme"]


@pytest.mark.parametrize(("experiment", "lacking"), [("table3", 2), ("table4", 3)])
def test_the_profile_is_tiny_where_a_models_weights_are_missing_and_names_them(
    experiment, lacking, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=80e9))
    name, reason = choose("auto", experiment)
    assert (name, reason.count("hf download")) == ("tiny", lacking)
    assert choose("paper", experiment)[0] == "paper"
    with pytest.raises(ValueError, match="not one of auto, paper, tiny"):
        choose("papr", experiment)


@pytest.mark.parametrize("pruner", configure.names("pruner"))
def test_every_pruner_composes(pruner):
    assert experiment.run(compose("config", [f"pruner={pruner}", "dry_run=true"]), "test") == 0


@pytest.mark.parametrize("model", configure.names("model"))
def test_every_pruner_is_a_row_of_every_model(model, capsys):
    rows = ",".join(configure.names("pruner"))
    config = compose("config", [f"model={model}", f"rows=[{rows}]", "dry_run=true"])
    assert experiment.run(config, "test") == 0
    assert "all build" in capsys.readouterr().out


def test_any_visual_stage_composes_with_any_memory_stage_by_name():
    config = compose(
        "config", ["pruner.visual=random_frame", "pruner.memory=sharpv", "+pruner.memory_options.threshold=0.5"]
    )
    rows = configure.rows(config.pruner, config.model)
    assert type(rows[0].visual).__name__ == "Random"
    assert rows[0].memory.threshold == 0.5


@pytest.mark.parametrize(
    ("overrides", "name", "kind"),
    [
        (["pruner=sharpv_adaptive"], "sharpv_adaptive", "method"),
        (["pruner.visual=random_frame"], "random_frame + sharpv", "method"),
        (["pruner=dense", "pruner.visual=uniform"], "uniform", "method"),
        (["pruner=fastv", "++pruner.memory_options.keep_ratio=0.5"], "fastv (keep_ratio=0.5)", "method"),
        (["pruner.visual=uniform", "pruner.name=mine", "pruner.method=Mine"], "mine", "method"),
    ],
)
def test_a_changed_pruner_is_never_shown_under_the_name_of_its_file(overrides, name, kind):
    rows = configure.table_rows(compose("config", overrides), compose("config", overrides).model)[0]
    assert [(row.name, row.kind) for row in rows] == [("dense", "dense"), (name, kind)]


def test_a_run_without_the_dense_row_is_refused_before_it_answers_anything():
    with pytest.raises(ValueError, match=r"rows=\['fastv'\] lack the row"):
        experiment.run(compose("config", ["rows=[fastv]"]), "test")


@pytest.mark.parametrize(
    ("void", "lists"),
    [("pruner=fastv", "rows=[dense]"), ("model.path=x", "models=[tiny]"), ("++pruner.seeds=[1]", "rows=[dense]")],
)
def test_what_a_list_makes_void_is_refused(void, lists):
    with pytest.raises(ValueError, match="would have no effect"):
        configure.require_effect(compose("config", [lists]), [lists, void])
    configure.require_effect(compose("config", []), [void])


def test_a_setting_that_a_method_does_not_have_is_one_message():
    config = compose("config", ["++pruner.visual_options.thresold=1"])
    with pytest.raises(ValueError, match="thresold"):
        configure.table_rows(config, config.model)


@pytest.mark.parametrize("given", ["experiment=tabel3", "profile=papre"])
def test_a_mistyped_experiment_or_profile_is_refused(given):
    answer = run_py(given, "dry_run=true")
    assert answer.returncode != 0
    assert "paper" in answer.stderr or "table3" in answer.stderr


def test_a_mistyped_stage_names_the_valid_ones():
    config = compose("config", ["pruner.visual=sharpv_adaptiv"])
    with pytest.raises(ValueError, match="Did you mean 'sharpv_adaptive'"):
        configure.rows(config.pruner, config.model)


def test_a_limit_that_is_no_whole_number_is_refused():
    with pytest.raises(ValueError, match=r"limit=0\.5"):
        settings.require(compose("config", ["limit=0.5"]))


def checkpoint(folder, shards=("a.safetensors",), tokenizer=True):
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}), encoding="utf-8"
    )
    for shard in shards:
        (folder / shard).write_bytes((2).to_bytes(8, "little") + b"{}")
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_checkpoint_that_lacks_a_shard_or_its_tokenizer_is_not_there(tmp_path):
    both = ("a.safetensors", "b.safetensors")
    assert incomplete(checkpoint(tmp_path / "whole", both)) is None
    assert incomplete(checkpoint(tmp_path / "part")) == "b.safetensors"
    assert incomplete(checkpoint(tmp_path / "mute", both, tokenizer=False)) == "tokenizer.json or tokenizer.model"
    (tmp_path / "whole" / "b.safetensors").write_bytes(b"")
    assert incomplete(tmp_path / "whole") == "b.safetensors"


def run_py(*arguments):
    return subprocess.run([sys.executable, "run.py", *arguments], capture_output=True, text=True, check=False)


def test_a_mistyped_group_names_the_valid_options():
    answer = run_py("pruner=sharpv_adaptiv")
    assert answer.returncode != 0
    assert "sharpv_adaptive" in answer.stderr


def test_missing_weights_and_data_end_in_one_message_with_sizes_and_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path / "results"))
    answer = run_py("model=llava_ov_7b", "pruner=sharpv_adaptive", "benchmark=mvbench")
    assert answer.returncode == 2
    assert "16.1 GB" in answer.stderr
    assert "hf download llava-hf/llava-onevision-qwen2-7b-ov-hf" in answer.stderr
    assert "hf download --repo-type dataset OpenGVLab/MVBench" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_changed_file_of_a_checkpoint_gives_its_answers_another_key(tmp_path, name):
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / file).write_text("as it was", encoding="utf-8")
    model = dataclasses.replace(configure.build(configure.load("model", "tiny")), path=str(tmp_path))
    before = model.weights_hash()
    (tmp_path / name).write_text("changed", encoding="utf-8")
    assert model.weights_hash() != before
