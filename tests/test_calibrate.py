"""Calibration on unlabelled videos, with a random tiny model.

Shape suffixes: V videos, L layers.
"""

import re
from functools import partial

import pytest
import torch
from checkpoints import write_pllava
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sharpv.commands.calibrate import FIRST_TRAINING_SEED, calibrate, encode, midway, search, unlabelled
from sharpv.configuration.configure import CONFIGS, build, register_resolvers, rows
from sharpv.models import adapter_for
from sharpv.models.llava_onevision.loader import siglip_pixels
from sharpv.models.loaded import Loaded, of_frames
from sharpv.paths import REPOSITORY
from sharpv.pruners.sharpv import VisualSharpV
from sharpv.tiny.build import PROMPT
from sharpv.tiny.scenes import SIDE
from sharpv.videos.frames import Evenly

MANUAL = {"_target_": "sharpv.pruners.sharpv.VisualSharpV", "mode": "manual"}
ADAPTIVE = {"_target_": "sharpv.pruners.sharpv.VisualSharpV"}
SCISSOR = {"_target_": "sharpv.pruners.scissor.Scissor"}
DIVPRUNE = {"_target_": "sharpv.pruners.divprune.DivPrune"}
MEMORY = {"_target_": "sharpv.pruners.sharpv.MemorySharpV"}
FRAMEFUSION = {"_target_": "sharpv.pruners.framefusion.FrameFusion", "keep_ratio": 0.3}
VTW = {"_target_": "sharpv.pruners.vtw.VTW"}


@pytest.fixture(scope="module")
def loaded(model, tokenizer):
    model.set_attn_implementation("sdpa")
    stop = frozenset({tokenizer.eos_token_id})
    pixels = of_frames(partial(siglip_pixels, side=SIDE))
    return Loaded("tiny", adapter_for(model), tokenizer, pixels, Evenly(8), PROMPT, 1.0, stop, "random")


def config_of(visual=None, memory=None, **settings):
    register_resolvers()
    pruner = {"name": "tried", "method": "Tried", "kind": "method", "visual": visual, "memory": memory, "seeds": [0]}
    settings = {"target_vr": None, "target_mr": None, "videos": 3, "folder": None} | settings
    return OmegaConf.create({"model": {"name": "tiny"}, "pruner": pruner, "calibrate": settings})


def run(loaded, capsys, *stages, **settings):
    assert calibrate(config_of(*stages, **settings), "the command", loaded) == 0
    return capsys.readouterr().out


def achieved(text, share):
    return float(re.search(rf"{share} (\d\.\d+)", text).group(1))


@pytest.mark.parametrize(
    ("visual", "line"), [(MANUAL, "calibration.manual_threshold: "), (SCISSOR, "visual_options.tau=")]
)
def test_a_visual_threshold_reaches_the_target(loaded, capsys, visual, line):
    target = 0.4 if visual is MANUAL else 0.3
    text = run(loaded, capsys, visual, target_vr=target)
    assert line in text
    assert "command: the command" in text
    assert "over videos" in text
    assert achieved(text, "VR") == pytest.approx(target, abs=0.02)


def test_the_line_gives_what_was_printed(loaded, capsys):
    text = run(loaded, capsys, MANUAL, target_vr=0.5)
    threshold = float(re.search(r"manual_threshold: (\S+)", text).group(1))
    visual = VisualSharpV(mode="manual", threshold=threshold)
    with unlabelled("tiny", None, 3) as files:
        videos = encode(loaded, files, visual)
    shares = [len(visual.select(video.tokens)) / video.tokens.total for video in videos]
    assert sum(shares) / len(shares) == pytest.approx(achieved(text, "VR"), abs=1e-4)


def test_memory_threshold_is_measured_behind_the_visual_stage(loaded, capsys):
    text = run(loaded, capsys, MANUAL, MEMORY, target_vr=0.5, target_mr=0.5)
    assert "manual_threshold: " in text
    assert text.count("cosine") == 4
    assert "layer  0: cosine +1.0000" in text
    assert achieved(text, "MR") == pytest.approx(0.5, abs=0.13)
    alone = run(loaded, capsys, ADAPTIVE, MEMORY, target_mr=0.5)
    assert "manual_threshold" not in alone
    assert "calibration.memory_threshold: " in alone


@pytest.fixture
def composed():
    """Compose configurations as the command line does."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield compose


@pytest.mark.parametrize(
    ("name", "stage", "fields", "settings"),
    [
        ("scissor", "visual", ["tau"], {"target_vr": 0.3}),
        ("framefusion", "memory", ["similarity_threshold"], {"target_vr": 0.6}),
        ("vtw", "memory", ["layer", "scale_layers"], {"target_mr": 0.5}),
        ("sharpv_manual", "visual", ["threshold"], {"target_vr": 0.5}),
        ("sharpv_adaptive", "memory", ["threshold"], {"target_mr": 0.5}),
    ],
)
def test_the_line_to_paste_sets_the_field(composed, loaded, capsys, name, stage, fields, settings):
    asked = [f"calibrate.{field}={value}" for field, value in settings.items()]
    config = composed("config", ["model=tiny", f"pruner={name}", "calibrate.videos=3", *asked])
    assert calibrate(config, "the command", loaded) == 0
    text = capsys.readouterr().out
    if paste := re.search(r"paste: (.+)", text):
        overrides = paste.group(1).split()
    else:
        field, value = re.search(r"configs/model/tiny.yaml: (\S+): (\S+)", text).groups()
        overrides = [f"model.{field}={value}"]
    config = composed("config", ["model=tiny", f"pruner={name}", *overrides])
    pruner = getattr(rows(config.pruner, config.model)[0], stage)
    values = [str(getattr(pruner, field)).lower() for field in fields]
    assert values == [override.split("=")[1] for override in overrides]
    assert f"{type(pruner).__name__}.{fields[0]} = {values[0]}" in text


@pytest.mark.parametrize(
    ("name", "asked", "found"),
    [
        ("scissor", "target_vr=0.3", "Scissor.tau"),
        ("vtw", "target_mr=0.5", "VTW.layer = 2 of 4"),
        ("sharpv_adaptive", "target_mr=0.5", "MemorySharpV.threshold"),
    ],
)
def test_another_family_is_calibrated_on_a_folder(composed, capsys, tmp_path, name, asked, found):
    write_pllava(tmp_path / "weights")
    with unlabelled("tiny", None, 2) as files:
        weights = [f"model.path={tmp_path / 'weights'}", "model.dtype=float32", f"calibrate.folder={files[0].parent}"]
        asked = [f"calibrate.{asked}", "calibrate.videos=2"]
        config = composed("config", ["model=pllava_7b", f"pruner={name}", *weights, *asked])
        assert calibrate(config, "the command", build(config.model).load()) == 0
    assert found in capsys.readouterr().out


def test_midway_lies_between_the_two_means_around_the_target():
    mean_L = torch.tensor([1.0, 0.2, 0.8, 0.4])
    assert midway(mean_L, 0.5) == 0.6
    assert midway(mean_L, 0.27) == 0.9
    with pytest.raises(ValueError, match=r"from 0.250 to 0.750"):
        midway(mean_L, 0.95)


def test_framefusion_merges_to_the_target_at_layer_0(loaded, capsys):
    text = run(loaded, capsys, None, FRAMEFUSION, target_vr=0.6)
    assert "++pruner.memory_options.similarity_threshold=" in text
    assert achieved(text, "VR at layer 0") == pytest.approx(0.6, abs=0.02)
    with pytest.raises(ValueError, match="out of reach: these videos allow 0.3"):
        run(loaded, capsys, None, FRAMEFUSION, target_vr=0.2)


def test_vtw_by_target_and_by_rule(loaded, capsys, monkeypatch):
    text = run(loaded, capsys, None, VTW, target_mr=0.5)
    assert "VTW.layer = 2 of 4: MR 0.5000" in text
    assert "++pruner.memory_options.layer=2 ++pruner.memory_options.scale_layers=false" in text
    monkeypatch.setattr("sharpv.commands.calibrate.WITHDRAWAL_BOUND", 1e9)
    assert "VTW.layer = 1 of 4" in run(loaded, capsys, None, VTW)


@pytest.mark.parametrize(
    ("visual", "memory", "settings", "match"),
    [
        (DIVPRUNE, None, {"target_vr": 0.5}, r"DivPrune.*nothing that target_vr calibrates.*Scissor \(tau\)"),
        (ADAPTIVE, MEMORY, {"target_vr": 0.5}, "nothing that target_vr calibrates.*mode=manual"),
        (SCISSOR, None, {"target_mr": 0.5}, "nothing that target_mr calibrates"),
        (SCISSOR, None, {}, "needs a target"),
        (None, None, {}, "nothing.*needs a target"),
        (SCISSOR, None, {"target_vr": 1.5}, "choose it between 0 and 1"),
        (SCISSOR, None, {"target_vr": 0.5, "folder": "nowhere"}, "holds 0 videos"),
    ],
)
def test_what_cannot_be_calibrated_is_named(loaded, visual, memory, settings, match):
    with pytest.raises(ValueError, match=match):
        calibrate(config_of(visual, memory, **settings), "the command", loaded)


def test_another_model_needs_a_folder():
    with pytest.raises(ValueError, match="calibrate.folder"), unlabelled("llava_ov_7b", None, 2):
        pass


def test_a_search_works_in_both_directions():
    assert search(lambda value: torch.tensor([value, value]), 0.0, 1.0, 0.25) == pytest.approx(0.25, abs=1e-4)
    assert search(lambda value: torch.tensor([2 - value]), 0.0, 2.0, 0.5) == pytest.approx(1.5, abs=1e-4)


def test_videos_are_of_training_seeds():
    settings = OmegaConf.load(REPOSITORY / "scripts" / "train_tiny.yaml")
    assert settings.first_seed == FIRST_TRAINING_SEED
    with unlabelled("tiny", None, 2) as files:
        assert [int(path.stem) - FIRST_TRAINING_SEED for path in files] == [0, 1]
        assert all(path.exists() for path in files)
