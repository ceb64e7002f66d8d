"""The demo answers with and without pruning, writes the film strip, and says what it needs."""

import xml.etree.ElementTree as ElementTree

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from sharpv.commands.demo import demo, question_text
from sharpv.configuration import configure
from sharpv.models.loaded import Loaded
from sharpv.tiny.scenes import render, sample_scene
from sharpv.tiny.video import write_mp4


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    configure.register_resolvers()
    return configure.build(config("pruner=dense").model).load()


@pytest.fixture
def video(tmp_path, monkeypatch):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path / "results"))
    write_mp4(tmp_path / "clip.mp4", render(sample_scene(3)), 2)
    return tmp_path / "clip.mp4"


def config(*overrides):
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS)):
        return compose("config", list(overrides))


def asked(video, *overrides, question="What is moving?"):
    return config(f"video={video}", configure.quoted(f"question={question}"), *overrides)


def test_both_answers_are_printed_with_their_costs_and_the_strip_is_written(loaded, video, capsys, tmp_path):
    assert demo(asked(video), "test", loaded) == 0
    out = capsys.readouterr().out
    dense, pruned = (next(line for line in out.splitlines() if line.startswith(name)) for name in ("Dense", "SharpV"))
    assert dense.split()[1:3] == ["100.0%", "100.0%"]
    assert 0 < float(pruned.split()[2].rstrip("%")) < 100
    assert dense.split()[4] == pruned.split()[5] == "ms"
    assert "its words mean nothing" in " ".join(out.split())
    strip = tmp_path / "results" / "demo" / "clip_sharpv_adaptive"
    assert strip.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(strip.with_suffix(".svg")).getroot().tag.endswith("svg")


def test_any_pruner_and_options_can_be_asked_for(loaded, video, capsys):
    demo(asked(video, "pruner=prumerge", "options=[red ring, blue circle]"), "test", loaded)
    out = capsys.readouterr().out
    assert "A. red ring\nB. blue circle\n" in out
    assert "PruMerge" in out


def test_each_model_is_asked_in_its_own_words():
    assert question_text("Who?", [], tiny=False) == "Who?"
    assert question_text("Who?", ["a", "b"], tiny=False).splitlines()[1:3] == ["A. a", "B. b"]
    assert "given choices directly" in question_text("Who?", ["a", "b"], tiny=False)
    assert question_text("Who?", ["a", "b"], tiny=True).endswith("B. b\nAnswer with the letter.")


def test_a_missing_video_is_told_before_the_model_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sharpv.models.llava_onevision.loader.LlavaOnevisionModel.load", lambda self: pytest.fail("it was loaded")
    )
    with pytest.raises(ValueError, match=r"gone\.mp4 does not exist"):
        demo(asked(tmp_path / "gone.mp4"), "test")


@pytest.mark.parametrize("left_out", ["video", "question"])
def test_without_video_or_question_it_says_what_it_needs(left_out):
    settings = config("video=a.mp4", "question=why", f"{left_out}=null")
    with pytest.raises(ValueError, match="the demo needs both"):
        demo(settings, "test")


def test_a_video_that_is_not_there_a_dense_pruner_and_too_many_options_are_refused(loaded, video):
    with pytest.raises(ValueError, match=r"gone\.mp4 does not exist"):
        demo(asked(video.with_name("gone.mp4")), "test", loaded)
    with pytest.raises(ValueError, match="prunes nothing"):
        demo(asked(video, "pruner=dense"), "test", loaded)
    with pytest.raises(ValueError, match="6 options; give at most 5"):
        demo(asked(video, "options=[a,b,c,d,e,f]"), "test", loaded)


@pytest.mark.parametrize(
    "question", ["What's moving, and where?", 'Who says "hi"?', "{a} [b] (c): d=e", r"back\slash", "tail\\", r"q\"x"]
)
def test_a_question_reaches_hydra_as_it_was_typed(question):
    override = OverridesParser.create().parse_override(configure.quoted(f"question={question}"))
    assert str(override.value()) == question


def test_other_and_quoted_arguments_are_left_alone():
    assert configure.quoted("pruner=evs") == "pruner=evs"
    assert configure.quoted("question='as it is'") == "question='as it is'"
    assert configure.quoted("--help") == "--help"
