"""`benchmark=any` and benchmarks of one's own: what can be asked, what a score is, and which class a task is in."""

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from sharpv.benchmarks import any_task, messages
from sharpv.benchmarks.any_task import AnyTask
from sharpv.benchmarks.closed import NetworkClosedError, network_closed
from sharpv.benchmarks.item_score import item_score
from sharpv.benchmarks.messages import NotAskedError
from sharpv.benchmarks.submission import UNLABELLED
from sharpv.benchmarks.task_kind import kind_of

FIXTURES = Path(__file__).parent / "fixtures"
OWN = FIXTURES / "own_task"
VIDEO = OWN / "videos" / "one.mp4"
NOWHERE = ("127.0.0.1", 9)


def benchmark(task, **settings):
    plain = {"name": f"any_{task}", "task": task, "data": "task", "columns": {"any": task}, "include_path": str(OWN)}
    return OmegaConf.create(plain | settings)


def task_with(**functions):
    """A task of these functions, as lmms-eval makes one."""
    config = {"doc_to_messages": None, "doc_to_visual": None} | functions
    return SimpleNamespace(config=SimpleNamespace(**config), doc_to_text=lambda doc: "what?", **functions)


def visual(value):
    return task_with(doc_to_visual=lambda doc: value)


def turns(*turns):
    return task_with(doc_to_messages=lambda doc: list(turns))


def user(*parts):
    return {"role": "user", "content": list(parts)}


TEXT = {"type": "text", "text": "what?"}
SHOWN = {"type": "video", "url": str(VIDEO)}


def test_a_path_that_is_no_list_is_one_video_and_not_one_a_letter():
    assert messages.asked(visual(str(VIDEO)), {}) == ("what?", str(VIDEO))


def test_a_webm_file_with_pictures_is_a_video_though_lmms_eval_takes_it_for_audio(tmp_path):
    shutil.copy(VIDEO, tmp_path / "clip.webm")
    path = str(tmp_path / "clip.webm")
    assert messages.asked(visual([path]), {}) == ("what?", path)
    assert messages.asked(turns(user({"type": "audio", "url": path}, TEXT)), {}) == ("what?", path)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (visual(["a.mp4", "b.mp4"]), "shows 2 visuals"),
        (visual({"video_start": 1, "video_end": 2}), "dict"),
        (visual([{"video_path": "a.mp4", "timestep": 3}]), "dict"),
        (visual(["https://youtube.com/watch?v=x"]), "download it"),
        (turns({"role": "system", "content": []}, user(SHOWN, TEXT)), "turns of"),
        (turns(user({"type": "image", "url": "a.png"}, TEXT)), "image"),
        (turns(user(TEXT, SHOWN)), "text stands before its video"),
    ],
)
def test_messages_of_other_forms_are_refused(task, told):
    with pytest.raises(NotAskedError, match=told):
        messages.asked(task, {})


def test_a_question_whose_video_its_task_leaves_out_is_not_asked_without_one():
    with pytest.raises(FileNotFoundError, match="without one"):
        messages.asked(visual([]), {})


@pytest.mark.parametrize("error", [SystemExit("no video"), AssertionError("no video"), FileExistsError("no video")])
def test_whatever_a_task_does_about_a_missing_video_is_one_error_row(error):
    def leave(doc):
        raise error

    task = SimpleNamespace(
        config=SimpleNamespace(doc_to_messages=None, doc_to_visual=leave, generation_kwargs={"max_new_tokens": 4}),
        doc_to_visual=leave,
        doc_to_text=lambda doc: "",
    )
    sample = any_task._sample(benchmark("boats"), "boats", task, 7, {}, True)
    assert "boats question 7" in str(sample.video)
    assert "no video" in str(sample.video)
    assert not sample.video.exists()


@pytest.mark.parametrize(
    ("item", "score"),
    [
        (True, 1.0),
        (0.25, 0.25),
        (37.5, None),
        ("B", None),
        ({"score": 1}, 1.0),
        ({"acc": False}, 0.0),
        ({"pred_answer": "A", "answer": "A", "task_type": "count"}, 1.0),
        ({"parsed_pred": "B", "answer": "A"}, 0.0),
        ({"pred": 3, "ground_truth": "3"}, 1.0),
        ({"pred": 1, "answer": ["1", "2"]}, None),
        ({"prediction": "a man walks"}, None),
    ],
)
def test_the_score_of_a_question_is_read_where_there_is_one_and_never_made_up(item, score):
    assert item_score(item) == score


def test_an_answer_ends_at_the_first_stop_of_its_task():
    assert messages.until_stop("B\n\nbecause", {"until": "\n\n"}) == "B"
    assert messages.until_stop("B", {"until": ["\n\n", ""]}) == "B"


def test_settings_that_make_a_task_download_are_left_out_and_a_number_of_tokens_is_always_there():
    options = {"video": True, "cache_dir": "x", "force_download": True, "data_files": {"test": "a.jsonl"}}
    config = any_task.without_downloads({"dataset_path": "json", "dataset_kwargs": options, "generation_kwargs": {}})
    assert config["dataset_kwargs"] == {"data_files": {"test": "a.jsonl"}}
    assert config["generation_kwargs"] == {"max_new_tokens": any_task.LONGEST}


def test_a_closed_network_refuses_connections_and_opens_again():
    with network_closed(), pytest.raises(NetworkClosedError, match="closed"):
        socket.create_connection(NOWHERE, timeout=1)
    with network_closed(OSError), pytest.raises(OSError, match="closed"):
        socket.create_connection(NOWHERE, timeout=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, network_closed(OSError):
        for ask in (lambda: socket.gethostbyname("localhost"), lambda: datagrams.sendmsg([b"x"], [], 0, NOWHERE)):
            with pytest.raises(OSError, match="closed"):
                ask()
    ours, theirs = socket.socketpair()
    with ours, theirs, network_closed():
        ours.sendmsg([b"between processes"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(NOWHERE, timeout=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("mlvu_dev", "offline", "mlvu_percetion_score"),
        ("egoschema_subset", "offline", "score"),
        ("longvideobench_val_v", "offline", "lvb_acc"),
        ("longvideobench_test_v", "submission", "server"),
        ("egoschema", "submission", "nothing is sent"),
        ("activitynetqa", "judge", "process_results reaches"),
        ("mmvu_val", "judge", "evaluate_with_llm_judge"),
        ("egoschema_mcppl", "refused", "multiple_choice"),
    ],
)
def test_the_class_of_built_in_tasks_follows_from_what_their_functions_reach(monkeypatch, tmp_path, name, kind, why):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    from lmms_eval.tasks import TaskManager

    from sharpv.benchmarks.upstream import decord_stands_in

    folders = list(map(str, any_task.folders(benchmark(name, include_path=None))))
    manager = TaskManager("ERROR", include_path=folders, include_defaults=False)
    with decord_stands_in(), network_closed(OSError):
        found = kind_of(manager._get_config(name))
    assert (found.name, why in found.why) == (kind, True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_fewshot": 2}, "num_fewshot=2"),
        ({"repeats": 3}, "repeats=3"),
        ({"output_type": "loglikelihood"}, "loglikelihood"),
        ({"doc_to_visual": None}, "no video"),
    ],
)
def test_tasks_that_cannot_be_asked_are_refused_with_the_reason(settings, told):
    config = {"output_type": "generate_until", "doc_to_visual": print, "metric_list": [{"metric": "acc"}]} | settings
    found = kind_of(config)
    assert found.name == "refused"
    assert told in found.why


def test_a_users_task_wins_over_one_of_the_same_name_that_is_built_in(tmp_path):
    (tmp_path / "mine.yaml").write_text("task: mlvu_dev\n", encoding="utf-8")
    assert any_task.folders(benchmark("mlvu_dev", include_path=str(tmp_path))) == [tmp_path]
    assert any_task.folders(benchmark("mlvu_dev", include_path=None))[0].name == "mlvu"


def test_unknown_tasks_and_folders_are_told():
    with pytest.raises(ValueError, match="needs a task"):
        any_task.task_name(benchmark(None))
    with pytest.raises(ValueError, match="is no folder"):
        any_task.folders(benchmark("boats", include_path="/nowhere"))


@pytest.fixture
def offline(monkeypatch):
    """As `paths.go_offline` before the libraries are imported, which another test may have done."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def own(tmp_path, results, aggregation="mean"):
    """The fixture's task with another process_results and aggregation."""
    folder = tmp_path / "own"
    shutil.copytree(OWN, folder)
    text = (folder / "functions.py").read_text(encoding="utf-8")
    (folder / "functions.py").write_text(
        f"{text[: text.index('def results')]}def results(doc, answers):\n    {results}\n", encoding="utf-8"
    )
    yaml = folder / "boats.yaml"
    yaml.write_text(
        yaml.read_text(encoding="utf-8").replace("aggregation: mean", f"aggregation: {aggregation}"), encoding="utf-8"
    )
    return benchmark("boats", data=str(folder), include_path=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("results", "told"),
    [
        ("return 1.0", "wants a dict with"),
        ("return {'other': 1.0}", "returns \\['other'\\]"),
        ("return {'right': 'B'}", "needs a score from 0 to 1"),
        ("return {'right': {'score': 1.0}}", "aggregation of right"),
        ("return {'right': doc['gold']}", "KeyError"),
        ("return {'right': 37.5 if doc['answer'] == 'B' else 1.0}", "returns 37.5 as right of question 1"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_a_wrong_result_is_told_before_the_first_answer(tmp_path, results, told):
    with pytest.raises(ValueError, match=told):
        AnyTask.of(own(tmp_path, results)).samples(None)


def built_in(tmp_path, results, better="true"):
    """The same as a task is that lmms-eval ships: its questions need no score of their own."""
    task = own(tmp_path, results)
    yaml = tmp_path / "own" / "boats.yaml"
    text = yaml.read_text(encoding="utf-8").replace("higher_is_better: true", f"higher_is_better: {better}")
    yaml.write_text(text.replace("boats.jsonl", str(tmp_path / "own" / "boats.jsonl")), encoding="utf-8")
    return AnyTask.of(OmegaConf.merge(task, {"data": "task", "include_path": str(tmp_path / "own")}))


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_each_question_has_a_score_of_its_own_or_not(tmp_path, capsys):
    task = built_in(tmp_path, "return {'right': 1.0 if doc['answer'] == 'B' else {'distance': 3}}")
    answers = {sample.doc_id: sample.gold for sample in task.samples(None)}
    assert sorted(set(answers.values())) == sorted({"B", UNLABELLED})
    assert f"{list(answers.values()).count(UNLABELLED)} of 3 questions have no score" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_question_is_the_same_whatever_its_scoring_writes_into_it(tmp_path):
    plain = built_in(tmp_path / "plain", "return {'right': 1.0}").samples(None)
    writing = built_in(tmp_path / "writing", "doc['pred'] = answers[0]; return {'right': 1.0}").samples(None)
    assert [sample.doc_hash for sample in plain] == [sample.doc_hash for sample in writing]


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_what_is_better_when_lower_is_no_score(tmp_path, capsys):
    task = built_in(tmp_path, "return {'right': 0.5}", better="false")
    assert {sample.gold for sample in task.samples(None)} == {UNLABELLED}
    assert "(0.5 as right of question 0, of which less is better, where a score is" in capsys.readouterr().out
    with pytest.raises(ValueError, match="of which less is better"):
        AnyTask.of(OmegaConf.merge(task.benchmark, {"data": str(tmp_path / "own")})).samples(None)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_an_edit_anywhere_in_include_path_makes_other_rules_also_of_a_tag(tmp_path):
    own(tmp_path, "return {'right': 1.0}")
    folder = tmp_path / "own"
    yaml = folder / "boats.yaml"
    text = yaml.read_text(encoding="utf-8").replace("boats.jsonl", str(folder / "boats.jsonl"))
    yaml.write_text(f"tag: ships\n{text}", encoding="utf-8")
    (folder / "helpers").mkdir()
    (folder / "helpers" / "words.py").write_text("ONE = 1\n", encoding="utf-8")
    hashes = set()
    for file in ("functions.py", "helpers/words.py", "boats.yaml"):
        for name in ("boats", "ships"):
            hashes.add(AnyTask.of(benchmark(name, include_path=str(folder))).code_hash())
        hashes.add(AnyTask.of(benchmark("boats", data=str(folder), include_path=None)).code_hash())
        (folder / ".git").mkdir(exist_ok=True)
        (folder / ".git" / "hook.py").write_text(f"{file}\n", encoding="utf-8")
        with (folder / file).open("a", encoding="utf-8") as lines:
            lines.write("# changed\n")
    assert len(hashes) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_failed_answers_score_0_whatever_their_task_guesses_for_an_empty_one(tmp_path):
    task = AnyTask.of(own(tmp_path, "return {'right': 1.0}"))
    samples = task.samples(None)
    assert [sample.video.name for sample in samples] == ["one.mp4", "one.mp4", "two.mp4"]
    rows = {
        (sample.task, sample.doc_id): {
            "key": str(sample.doc_id),
            "row": "dense",
            "seed": 0,
            "status": "ok" if sample.doc_id else "error",
            "raw": "B",
            "prompt_tokens": 1,
            "visual_kept": 1,
            "output_tokens": 1,
        }
        for sample in samples
    }
    lines, aggregates = task.score(rows, samples, tmp_path, "20260101_000000")
    assert {line["doc_id"]: line["score"] for line in lines} == {0: 0.0, 1: 1.0, 2: 1.0}
    assert [(one["metric"], one["value"], one["items"]) for one in aggregates] == [("right", 1.0, 3)]
