"""`Pruner.of` makes what the suite's configurations say, and answers what it does not know with the nearest."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir

from sharpv import MemorySharpV, Pruner, VisualSharpV
from sharpv.configuration import by_name, configure
from sharpv.pruners.controls import Random
from sharpv.pruners.fastv import FastV

NAMES = configure.names("pruner")


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS), version_base="1.3"):
        yield


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_the_suites_row_of_that_model_is(name):
    model = compose("config", ["model=tiny"]).model
    row = configure.rows(configure.load("pruner", name), model)[0]
    made = Pruner.of(name, model="tiny")
    assert (made.visual, made.memory) == (row.visual, row.memory)


def test_settings_take_the_place_of_the_configurations():
    assert Pruner.of("fastv", keep_ratio=0.25) == Pruner(memory=FastV(layer=3, keep_ratio=0.25))
    assert Pruner.of("random_frame", keep_ratio=0.5, seed=3).visual == Random(None, 0.5, True, 3)
    both = Pruner.of("flashvid", visual_options={"keep_ratio": 0.1}, memory_options={"layer": 12})
    assert (both.visual.keep_ratio, both.memory.layer) == (0.1, 12)


def test_thresholds_are_the_papers_unless_a_calibrated_model_is_named():
    assert Pruner.of("sharpv_adaptive") == Pruner(VisualSharpV(), MemorySharpV())
    calibrated = by_name.read("model", "tiny")["calibration"]["memory_threshold"]
    assert Pruner.of("sharpv_adaptive", model="tiny").memory.threshold == calibrated
    with pytest.raises(ValueError, match="takes keep_ratio from a model's calibration: name one, as model="):
        Pruner.of("dycoke_matched_30")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("fastvv", {}, "unknown pruner 'fastvv'. Did you mean 'fastv'.*There are: .*, divprune, "),
        ("fastv", {"keep_ratoi": 0.3}, "fastv has no field 'keep_ratoi'. Did you mean 'keep_ratio'.*memory: layer"),
        ("fastv", {"keep_ratio": 3}, "keep_ratio=3 is the share"),
        ("fastv", {"visual_options": {"layer": 3}}, "fastv has no field 'layer'"),
        ("flashvid", {"keep_ratio": 0.1}, "both stages have a field 'keep_ratio'; say which: visual_options="),
        ("fastv", {"model": "tyny"}, "unknown model 'tyny'. Did you mean 'tiny'"),
        ("dense", {"keep_ratio": 0.1}, "dense has no field 'keep_ratio'. Its fields are none"),
    ],
)
def test_what_there_is_not_is_answered_with_the_nearest(name, settings, words):
    with pytest.raises(ValueError, match=words):
        Pruner.of(name, **settings)


def test_every_name_has_one_line_and_points_of_an_ablation_have_none():
    lines = Pruner.names()
    assert set(lines) < set(NAMES)
    assert {"dense", "fastv", "sharpv_adaptive", "dycoke_k05", "vidcom2"} <= set(lines)
    assert not {"fig5_m_00", "dycoke_k07", "reading_in_prefill"} & set(lines)
    assert lines["evs"].startswith("EVS: Ranks every token by its cosine dissimilarity")
    assert all("\n" not in line and len(line) <= by_name.LETTERS for line in lines.values())


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"visual": "fastv"}, "no visual stage: a method by its name is Pruner.of"),
        ({"visual": FastV()}, "no visual stage: it is a memory one, pass memory="),
        ({"memory": VisualSharpV}, "no memory stage"),
    ],
)
def test_a_stage_in_the_wrong_place_is_told_at_once(stages, words):
    with pytest.raises(ValueError, match=words):
        Pruner(**stages)


def test_only_stages_of_declared_packages_are_built(tmp_path, monkeypatch):
    for group, text in (("pruner", "method: M\nvisual: odd\nmemory: null\n"), ("visual", "_target_: os.system\n")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "odd.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("sharpv.configuration.by_name.config_folders", lambda: [tmp_path])
    for target in ("os.system", "sharpv.paths.os.system", "sharpv.tokens.Selection"):
        (tmp_path / "visual" / "odd.yaml").write_text(f"_target_: {target}\n", encoding="utf-8")
        with pytest.raises(ValueError, match="is no stage of sharpv"):
            Pruner.of("odd")


def test_a_method_of_another_package_is_found(tmp_path, monkeypatch):
    for group, text in (("visual", "_target_: loud_one.Loud\n"), ("pruner", "method: L\nvisual: loud\nmemory: null\n")):
        (tmp_path / "configs" / group).mkdir(parents=True)
        (tmp_path / "configs" / group / "loud.yaml").write_text(text, encoding="utf-8")
    code = "from sharpv.pruners.evs import EVS\nclass Loud(EVS):\n    'Keeps what is loud.'\n"
    (tmp_path / "loud_one.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = SimpleNamespace(name="loud", module="loud_one")
    monkeypatch.setattr("sharpv.configuration.folders.entry_points", lambda group: [entry])
    assert Pruner.of("loud", keep_ratio=0.5).visual.keep_ratio == 0.5
    assert Pruner.names()["loud"] == "L: Keeps what is loud"


def test_the_plain_install_needs_no_library_of_the_suite():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('hydra', 'omegaconf', 'pandas', 'matplotlib', 'tabulate')));"
        "from sharpv import Pruner; print(Pruner.of('fastv', keep_ratio=0.25), len(Pruner.names()) > 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Pruner(visual=None, memory=FastV(layer=3, keep_ratio=0.25"), done.stderr
    assert done.stdout.endswith("True\n")
