"""The command line answers every mistake with one line and exit code 2, before any weights are loaded."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import warm
from hydra.core.global_hydra import GlobalHydra
from tenacity import RetryError, retry, stop_after_attempt

from sharpv.commands import front
from sharpv.models.llava_onevision.loader import LlavaOnevisionModel
from sharpv.tiny.benchmarks import write_benchmarks

ROOT = Path(__file__).parents[1]


@pytest.fixture
def told(monkeypatch, capsys, tmp_path):
    """What a command line that must fail says, as one line; no weights may be loaded and no result be written."""

    def refuse(self):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(LlavaOnevisionModel, "load", refuse)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(sys, "argv", ["run.py"])

    def said(*arguments: str) -> str:
        GlobalHydra.instance().clear()
        try:
            code = front.main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        shown = capsys.readouterr()
        assert code == 2, shown
        assert not (tmp_path / "results").exists()
        lines = shown.err.splitlines()
        assert len(lines) == 1, shown
        assert lines[0].startswith("error: ")
        return lines[0]

    return said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("limit=true", "limit=True must be a whole number"),
        ("limit=0", "limit=0 must be"),
        ("allow_errors=true", "allow_errors=True must be"),
        ("warm_up=-1", "warm_up=-1 must be"),
        ("memory_every=0.5", "memory_every=0.5 must be"),
        ("dry_run=maybe", "dry_run='maybe' must be true or false"),
        ("rows=dense", "rows='dense' must be a list"),
        ("rows=[1]", "must be a list of names"),
        ("models=tiny", "models='tiny' must be a list"),
        ("benchmarks=tiny_mvbench", "benchmarks='tiny_mvbench' must be a list"),
        ("options=red", "options='red' must be a list"),
        ("workers=1.5", "workers=1.5 must be"),
        ("frames_cache=true", "frames_cache=True must be text, or null"),
        ("workers=-1", "workers=-1 must be"),
        ("workers=100000", "from 0 to 256"),
        ("threads=-1", "threads=-1 must be"),
        ("threads=0", "threads=0 must be"),
        ("threads=abc", "threads='abc' must be"),
        ("scoring=theirs", "scoring='theirs' must be ours or upstream"),
        ("table=null", "table=null must be"),
        ("table=", "table='' must be"),
        ("table=.", "table='.' must be"),
        ("table=../../x", "table='../../x' must be"),
        ("plan plan.gpus=abc", "plan.gpus='abc' must be"),
        ("plan plan.gpus=0", "plan.gpus=0 must be"),
        ("plan plan.peak_tflops=nan", "plan.peak_tflops=nan must be"),
        ("calibrate target_vr=49%", "target_vr='49%' must be a share"),
        ("calibrate target_mr=1.5", "target_mr=1.5 must be a share"),
        ("calibrate target_vr=0.5 videos=0", "videos=0 must be"),
        ("pruner.seeds=1", "pruner.seeds=1 must be a list"),
        ("pruner=random_frame pruner.seeds=[a]", "must be a list of whole numbers"),
        ("pruner.visual=null pruner.memory=null", "prunes nothing"),
        ("+pruner.keep=1", "keep is unknown"),
        ("judge=null", "judge=null must be a mapping"),
        ("judge.base_url=localhost", "judge.base_url is no address"),
        ("judge.base_url=http://localhost:1/v1", "has no effect: tiny_mvbench has no open answers"),
        ("judge.workers=0", "judge.workers=0 must be"),
        ("judge.workers=abc", "judge.workers='abc' must be"),
        ("judge.model=null", "judge.model=null must be text"),
        ("wandb.mode=on", "wandb.mode='on' must be"),
    ],
)
def test_a_setting_that_is_no_value_of_its_kind(told, arguments, words):
    assert words in told(*arguments.split())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("dtype=float23", "'float23' is not one of float32, float16, bfloat16"),
        ("dtype=fp16", "did you mean float16?"),
        ("dtype=bf16", "did you mean bfloat16?"),
        ("dtype=auto", "'auto' is not one of"),
        ("dtype=int8", "'int8' is not one of"),
        ("+device=cudda", "'cudda' is no device"),
        ("+device=cuda:99", "CUDA devices; take auto or cpu"),
        ("+decoder=pyva", "did you mean pyav?"),
        ("+attn_implementation=eager", "'eager' is not one of"),
        ("frames=0", "frames=0 must be at least 1"),
        ("frames=-1", "frames=-1 must be"),
        ("frames=1.5", "frames=1.5 must be a whole number"),
        ("frames=abc", "frames='abc' must be a whole number"),
        ("frames=null", "frames=None must be a whole number"),
        ("+repetition_penalty=0", "repetition_penalty=0 above 0"),
        ("+repetition_penalty=-1", "above 0"),
        ("+repetition_penalty=nan", "must be a finite number"),
        ("+repetition_penalty=abc", "must be a finite number"),
        ("prompt=<video>", "must hold {text} once"),
        ("prompt='{text}'", "must hold <video> once"),
        ("prompt='<video> <video> {text}'", "must hold <video> once"),
        ("stop_tokens=[]", "stop_tokens is empty"),
        ("stop_tokens='<|im_end|>'", "must be a list"),
        ("stop_tokens=['<|end|>']", "the tokenizer does not know ['<|end|>']"),
    ],
)
def test_a_setting_of_the_model_that_cannot_be_right(told, setting, words):
    plus, name = ("+", setting[1:]) if setting[0] == "+" else ("", setting)
    assert words in told(f"{plus}model.{name}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="here cuda is a device")
def test_a_cuda_device_that_is_not_there(told):
    assert "this machine has 0 CUDA devices" in told("+model.device=cuda")


@pytest.mark.parametrize(
    ("pruner", "stage", "setting", "words"),
    [
        ("sharpv_manual", "visual", "threshold=nan", "threshold=nan must be a finite number"),
        ("sharpv_manual", "visual", "threshold=abc", "threshold='abc' must be"),
        ("sharpv_manual", "visual", "spatial_weight=inf", "spatial_weight=inf must be"),
        ("sharpv_manual", "visual", "spatial_weight=-1", "must be at least 0"),
        ("sharpv_manual", "memory", "threshold=nan", "threshold=nan must be"),
        ("fastv", "memory", "layer=1.5", "layer=1.5 must be a whole number"),
        ("fastv", "memory", "keep_ratio=true", "keep_ratio=True must be a finite number"),
        ("fastv", "memory", "rounding=up", "rounding='up' is not one of ('even', 'floor')"),
        ("vidcom2", "visual", "temperature=nan", "temperature=nan must be"),
        ("vidcom2", "visual", "widths=[a]", "must be a list"),
        ("prunevid", "visual", "neighbours=2.5", "neighbours=2.5 must be"),
        ("evs", "visual", "keep_ratio=null", "keep_ratio=None must be"),
        ("fastv", "memory", "layer=100", "nothing would be pruned"),
        ("vtw", "memory", "layer=28", "nothing would be pruned"),
        ("evs", "visual", "keep=1", "there is no 'keep'. There are: keep_ratio"),
    ],
)
def test_a_setting_of_a_method_that_cannot_be_right(told, pruner, stage, setting, words):
    assert words in told(f"pruner={pruner}", f"++pruner.{stage}_options.{setting}")


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_what_a_file_leaves_out_is_given_with_or_without_a_plus(told, plus):
    given = (f"{plus}model.device=cpu", f"{plus}pruner.visual_options.keep_ratio=0", "pruner=evs")
    assert "keep_ratio=0 must lie in (0, 1]" in told(*given)


def test_a_method_that_needs_a_part_of_the_tower_which_is_not_there(told):
    assert "'fastvid' needs the vision tower's pooling head" in told("pruner=fastvid")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("model=tinny", "unknown model 'tinny'. Did you mean 'tiny'?"),
        ("pruner=", "unknown pruner ''"),
        ("pruner=null", "Got NoneType"),
        ("experiment=tabel3", "Did you mean 'table3'?"),
        ("limt=3", "no setting 'limt'. Did you mean 'limit'?"),
        ("modle=tiny", "no setting 'modle'. Did you mean 'model'?"),
        ("model.dtyp=float16", "Did you mean 'model.dtype'?"),
        ("pruner.visual.keep_ratio=0.1", "is pruner.visual_options.keep_ratio=VALUE"),
        ("memory.layer=3", "is pruner.memory_options.layer=VALUE"),
        ("rows=[dense", "rows=[dense cannot be read"),
        ("rnu", "unknown command 'rnu'. Did you mean 'run'?"),
        ("~limit", "Could not delete"),
    ],
)
def test_what_hydra_does_not_know_is_told_in_the_same_form(told, argument, words):
    assert words in told(argument)


@pytest.mark.parametrize("path", ["a(b", "ü", "~/x", "[a", "a=b", "a,b(c", "it's here", "{a}", "c:d"])
def test_a_path_reaches_the_model_as_it_was_typed(told, path):
    expected = os.path.expanduser(path)
    assert expected in told(f"model.path={path}").replace("\\'", "'")


@pytest.mark.parametrize("content", ["", "[]\n", "- a\n- b\n", "name: !odd x\n", "name: [\n"])
def test_a_configuration_file_that_is_none_is_named(told, content, tmp_path, monkeypatch):
    (tmp_path / "pruner").mkdir()
    (tmp_path / "pruner" / "mine.yaml").write_text(content, encoding="utf-8")
    monkeypatch.setattr("sharpv.configuration.outside.config_folders", lambda: [front.CONFIGS, tmp_path])
    assert "mine.yaml" in told("rows=[dense,mine]") or "mine" in told("pruner=mine")


def failed(*attempts):
    @retry(stop=stop_after_attempt(1))
    def fail():
        raise attempts[0]

    with pytest.raises(RetryError) as raised:
        fail()
    return raised.value


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/r/x"), "No space left on device: /r/x"),
        (PermissionError(errno.EACCES, "Permission denied", "/r"), "Permission denied: /r"),
        (FileExistsError(errno.EEXIST, "File exists", "results"), "File exists: results"),
        (failed(OSError(errno.ENOSPC, "No space left on device")), "No space left on device"),
        (failed(ValueError("what is wrong")), "what is wrong"),
        (MemoryError(), "out of memory"),
        (RuntimeError("Could not determine home directory."), "home directory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (ImportError("libx.so: failed to map segment from shared object"), "out of memory"),
    ],
)
def test_what_the_machine_lacks_is_one_line(error, words, capsys):
    assert front.refusal(error) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_disk_that_is_full_while_the_tiny_data_is_made_leaves_no_partial_file(tmp_path, monkeypatch):
    def half_written(path, *arguments):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("sharpv.tiny.benchmarks.write_mp4", half_written)
    with pytest.raises(OSError, match="No space left"):
        write_benchmarks(tmp_path)
    assert not list(tmp_path.rglob("partial*"))


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError("x"), RuntimeError("x"), TypeError("x")])
def test_a_fault_of_ours_is_not_hidden(error):
    with pytest.raises(type(error)):
        front.refusal(error)


def run_py(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "run.py", *arguments],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_a_terminal_without_unicode_gets_escapes(tmp_path):
    folder = tmp_path / "r\u00e9sultats"
    out, err = run_py("status", SHARPV_RESULTS=str(folder), PYTHONIOENCODING="ascii").communicate()
    assert "r\\xe9sultats" in out, err


def test_a_reader_that_has_enough_is_no_fault(tmp_path):
    process = run_py("status", SHARPV_RESULTS=str(tmp_path))
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_results_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "results").write_text("", encoding="utf-8")
    answer = warm.run(os.environ | {"SHARPV_RESULTS": str(tmp_path / "results")}, "limit=1", folder=ROOT)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert f"error: cannot write {tmp_path / 'results'}" in answer.stderr


INTERRUPTED_AT = """
import os, runpy, signal, sys
class Interrupted:
    def find_spec(name, *rest):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupted)
runpy.run_path("run.py", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["hydra", "omegaconf.listconfig", "sharpv.configuration.settings", "torch"])
def test_ctrl_c_while_libraries_load_ends_the_process_by_itself(module, tmp_path):
    """In them it can come out as another exception, or be swallowed."""
    process = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT.format(module=module), "limit=1"],
        env=os.environ | {"SHARPV_RESULTS": str(tmp_path)},
        preexec_fn=listening,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (process.returncode, process.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_that_is_ignored_stays_so(tmp_path):
    """As behind nohup, or in a shell's background."""
    process = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT.format(module="hydra"), "status"],
        env=os.environ | {"SHARPV_RESULTS": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")


def listening():
    """Whoever runs the tests in the background may have had Ctrl-C ignored, which children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("after_s", [1.0, 2.0])
def test_ctrl_c_in_the_first_seconds_is_one_line(after_s, tmp_path):
    process = run_py("limit=50", SHARPV_RESULTS=str(tmp_path))
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert process.returncode in (130, -signal.SIGINT)


def test_an_experiment_by_its_name_takes_a_profile_where_none_is_given():
    assert front.overrides(["table3", "profile=paper", "limit=5"]) == ["experiment=table3", "profile=paper", "limit=5"]
    chosen, profile, _ = front.overrides(["table3", "limit=5"])
    assert chosen == "experiment=table3"
    assert profile in ("profile=tiny", "profile=paper")
