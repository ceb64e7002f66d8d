"""Status, plan, tracking and process numbers: what they say of files whose content is known."""

import json

import pytest
import wandb
from hydra import compose, initialize_config_dir
from PIL import Image

from sharpv.answering.processes import Processes
from sharpv.commands import plan, tracking
from sharpv.commands import run as experiment
from sharpv.commands.status import of_folder, status
from sharpv.configuration import configure


@pytest.fixture(autouse=True)
def _results(tmp_path, monkeypatch):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS), version_base="1.3"):
        yield


def write_run(folder, rows, **facts):
    folder.mkdir(parents=True)
    info = {"model": {"name": "tiny"}, "benchmark": "tiny_mvbench", "status": "complete", "created": "2026", **facts}
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    half = len(rows) // 2
    for name, part in (("samples.a-0.jsonl", rows[:half]), ("samples.b-0.jsonl", rows[half:])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return folder


def stored(name, doc_id, status="ok", **more):
    identity = {"key": f"{name}{doc_id}", "row": name, "seed": 0, "settings": f"{name} as now"}
    identity |= {"task": "t", "doc_id": doc_id, "status": status}
    return identity | {"error": None if status == "ok" else "ValueError: no video", "kind": "dense", **more}


def test_status_counts_answers_failures_and_what_is_left_of_the_rows_as_the_last_command_set_them(tmp_path, capsys):
    rows = [stored("dense", n) for n in range(3)] + [
        stored("sharpv", 0),
        stored("sharpv", 1, "error"),
        stored("old", 0),
        stored("sharpv", 2, settings="sharpv before an edit"),
    ]
    asked = {"questions": 4, "rows": [["dense", "dense as now"], ["sharpv", "sharpv as now"]]}
    folder = write_run(tmp_path / "runs" / "f", rows, requested=asked)
    line = of_folder(folder)
    assert {name: line[name] for name in ("asked", "answered", "failed", "left")} == {
        "asked": 8,
        "answered": 4,
        "failed": 1,
        "left": 3,
    }
    assert status(compose("config"), "test") == 0
    assert "1 x ValueError: no video" in capsys.readouterr().out


def test_status_says_so_where_nothing_was_run(capsys):
    assert status(compose("config"), "test") == 0
    assert "no run" in capsys.readouterr().out


def test_the_plan_takes_measured_stage_times_where_there_are_some(tmp_path, capsys):
    times = dict.fromkeys(("decode_video", "preprocess", "vision", "prune", "prefill", "first_token", "decode"), 0.5)
    rows = [stored("dense", n, video=f"{n}.mp4", times_s=times) for n in range(4)]
    write_run(tmp_path / "runs" / "f", rows, hardware={"cpu": "some CPU"})
    found = plan.measured("tiny", "tiny_mvbench")
    assert (found.vision, found.answer) == (0.5, 2.0)
    assert plan.measured("tiny", "tiny_nextqa") is None
    assert plan.plan(compose("config"), "test") == 0
    assert "measured on some CPU" in capsys.readouterr().out


def test_the_plan_of_the_papers_table_scales_with_the_gpus_and_fits_them(capsys):
    chosen = ["experiment=table3", "profile=paper"]
    hours = []
    for gpus in (1, 8):
        config = compose("config", [*chosen, f"plan.gpus={gpus}"])
        assert plan.plan(config, "test") == 0
        words = capsys.readouterr().out.split("cells, ")[1].split()
        hours.append(float(words[0]))
    assert hours[0] == pytest.approx(8 * hours[1], rel=0.2)
    model = configure.build(configure.load("model", "llava_ov_7b"))
    assert model.size_gb < plan.gpu_gb(model, config.plan) < config.plan.memory_gb


def test_a_benchmark_of_unknown_size_is_not_planned():
    config = compose("config", ["+benchmark.x=1"])
    config.benchmark.name = "unheard_of"
    with pytest.raises(ValueError, match=r"\+plan.benchmarks.unheard_of"):
        plan.plan(config, "test")


def test_a_rank_that_does_not_fit_the_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="RANK=2 does not fit WORLD_SIZE=1"):
        Processes()


def test_shares_of_the_processes_are_all_videos_once(monkeypatch):
    videos = [f"{number}.mp4" for number in range(10)]
    alone = Processes()
    shares = []
    for rank in range(3):
        alone.rank, alone.count = rank, 3
        shares += alone.share(videos)
    assert sorted(shares) == videos


def test_a_table_and_its_pictures_go_to_wandb_offline_without_a_key(tmp_path, monkeypatch):
    # A run that another test began would keep its own folder.
    wandb.teardown()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    csv, strip = tmp_path / "table.csv", tmp_path / "film_strip.png"
    csv.write_text("method,avg_acc,diff_to_dense\nDense,85.5,\nSharpV,31.25,-54.25\n", encoding="utf-8")
    Image.new("RGB", (8, 4), "red").save(strip)
    tracking.log_report(csv, [strip], {"limit": 1}, "sharpv", "offline")
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    for word in (b"Dense/avg_acc", b"SharpV/diff_to_dense", b"31.25", b"limit", b"figures/film_strip"):
        assert word in content
    assert b"Dense/diff_to_dense" not in content
    (kept,) = tmp_path.glob("wandb/offline-run-*/files/media/images/figures/*.png")
    assert kept.read_bytes() == strip.read_bytes()


def test_wandb_without_a_key_is_refused_before_anything_runs(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="wandb.mode=online needs a key"):
        experiment.run(compose("config", overrides=["wandb.mode=online"]), "test")
    assert not (tmp_path / "runs").exists()
