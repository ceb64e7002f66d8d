"""Annotations: read as the files are, looked at before weights load, and a broken row costs its own question only."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from sharpv.benchmarks.replay import score
from sharpv.benchmarks.samples import load_samples, task_manager
from sharpv.benchmarks.validation import problem, require_readable, unreadable

FIXTURES = Path(__file__).parent / "fixtures" / "hub_home"
MVBENCH = {"question": "What?", "video": "v.mp4", "candidates": ["red", "blue", "a ring"], "answer": "blue"}
VIDEOMME = {"question": "What?", "videoID": "v", "options": ["A. red", "B. blue", "C. green", "D. red"], "answer": "B"}
NEXTQA = {"question": "what", "video": 4010069381, "answer": 2} | {f"a{n}": f"thing {n}" for n in range(5)}
ACTNETQA = {"question": "what is it", "video_name": "abc", "answer": "a ring"}


@pytest.mark.parametrize("doc", [MVBENCH, VIDEOMME, NEXTQA, ACTNETQA, NEXTQA | {"a0": "thing 1"}])
def test_whole_rows_have_no_problem(doc):
    assert problem(doc) is None


@pytest.mark.parametrize(
    ("doc", "changes", "told"),
    [
        (NEXTQA, {"answer": 5}, "answer 5 is none of the numbers 0 to 4"),
        (NEXTQA, {"answer": -1}, "answer -1 is none of the numbers"),
        (NEXTQA, {"answer": None}, "answer None"),
        (NEXTQA, {"answer": True}, "answer True"),
        (NEXTQA, {"answer": "2"}, "answer '2'"),
        (NEXTQA, {"a4": None}, "option E of a0 to a4 is None"),
        (NEXTQA, {"a2": "thing 1"}, "the right option 'thing 1' stands 2 times"),
        (NEXTQA, {"video": None}, "video None names no video"),
        (VIDEOMME, {"answer": "E"}, "answer 'E' is none of the letters ABCD"),
        (VIDEOMME, {"answer": "b"}, "answer 'b'"),
        (VIDEOMME, {"answer": None}, "answer None"),
        (VIDEOMME, {"answer": "AB"}, "answer 'AB'"),
        (VIDEOMME, {"answer": ""}, "answer ''"),
        (VIDEOMME, {"answer": "A"}, "the right option 'red' stands 2 times"),
        (VIDEOMME, {"options": ["red", "blue"]}, "option 'red' of options does not begin with 'A. '"),
        (VIDEOMME, {"options": ["A. red", None]}, "option B of options is None"),
        (VIDEOMME, {"options": None}, "options None are no options"),
        (MVBENCH, {"answer": "purple"}, "answer 'purple' is none of its candidates"),
        (MVBENCH, {"answer": None}, "answer None"),
        (MVBENCH, {"candidates": ["red", "blue", "blue"]}, "the right option 'blue' stands 2 times"),
        (MVBENCH, {"candidates": ["blue", *map(str, range(26))]}, "27 options; there are letters for 26"),
        (MVBENCH, {"candidates": []}, "are no options"),
        (MVBENCH, {"candidates": ["blue", " "]}, "option B of candidates is ' '"),
        (MVBENCH, {"question": None}, "question None is no text"),
        (MVBENCH, {"video": ""}, "video '' names no video"),
        (ACTNETQA, {"answer": None}, "answer None holds no word"),
        (ACTNETQA, {"answer": ""}, "answer '' holds no word"),
        (ACTNETQA, {"answer": "?"}, "answer '\\?' holds no word"),
        (ACTNETQA, {"answer": 3}, "answer 3"),
    ],
)
def test_a_row_that_cannot_be_asked_or_scored_says_which_field(doc, changes, told):
    import re

    assert re.search(told.replace("(", "\\("), problem(doc | changes))


@pytest.fixture
def home(tmp_path, monkeypatch):
    shutil.copytree(FIXTURES, tmp_path / "home")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def annotations(home, pattern):
    dataset, file = pattern.split("/", 1)
    (path,) = (home / "hub").glob(f"datasets--*--{dataset}/snapshots/*/{file}")
    return path


def edit(path, number, **changes):
    """Change fields of a row, in the file's own format."""
    rows = (
        json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".json"
        else pd.read_parquet(path).to_dict("records")
    )
    rows[number] |= changes
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pd.DataFrame(rows).to_parquet(path)


def samples(benchmark, limit=None):
    return load_samples(benchmark, task_manager("default"), limit)


@pytest.mark.parametrize(
    ("benchmark", "pattern", "changes", "told"),
    [
        ("sharpv_nextqa", "NExTQA/MC/*.parquet", {"answer": 5}, "answer 5 is none of the numbers"),
        ("sharpv_nextqa", "NExTQA/MC/*.parquet", {"a4": None}, "option E of a0 to a4 is None"),
        ("sharpv_videomme", "Video-MME/videomme/*.parquet", {"answer": "E"}, "answer 'E' is none of the letters"),
        ("sharpv_actnetqa", "ActivityNetQA/data/*.parquet", {"answer": None}, "answer None holds no word"),
        ("sharpv_mvbench_action_antonym", "MVBench/json/action_antonym.json", {"answer": "purple"}, "answer 'purple'"),
    ],
)
def test_a_broken_row_is_an_error_of_its_own_and_the_others_are_scored(home, capsys, benchmark, pattern, changes, told):
    edit(annotations(home, pattern), 1, **changes)
    manager = task_manager("default")
    found = load_samples(benchmark, manager, None)
    broken = [sample for sample in found if sample.problem]
    assert [told in sample.problem for sample in broken] == [True]
    assert f"{broken[0].task} question 1: " in broken[0].problem
    assert f"1 of {sum(sample.task == broken[0].task for sample in found)} questions become error rows" in (
        capsys.readouterr().out
    )

    def row(sample):
        answer = {"status": "ok", "raw": sample.gold, "prompt_tokens": 1, "visual_kept": 1, "output_tokens": 1}
        return {"key": "k", "row": "r", "seed": 0} | ({"status": "error"} if sample.problem else answer)

    lines = score({(sample.task, sample.doc_id): row(sample) for sample in found}, found, manager, "now")
    for sample, line in zip(found, lines, strict=True):
        assert line["score"] == (0.0 if sample.problem else 1.0)
        assert line["answered"] == (sample.problem is None)


def test_tasks_are_made_once_and_score_row_after_row(home):
    manager = task_manager("default")
    found = load_samples("sharpv_nextqa", manager, None)

    def scores(reply):
        told = {"status": "ok", "prompt_tokens": 1, "visual_kept": 1, "output_tokens": 1}
        rows = {(one.task, one.doc_id): {"key": "k", "row": "r", "seed": 0, **told, "raw": reply(one)} for one in found}
        return [line["score"] for line in score(rows, found, manager, "now")]

    made = manager.load_task_or_group(["sharpv_nextqa"], "chat")
    assert scores(lambda sample: sample.gold) == [1.0] * len(found)
    assert scores(lambda sample: "none of these") == [0.0] * len(found)
    assert scores(lambda sample: sample.gold) == [1.0] * len(found)
    again = manager.load_task_or_group(["sharpv_nextqa"], "chat")
    assert [id(task) for task in again.values()] == [id(task) for task in made.values()]


def test_a_task_without_any_question_that_can_be_asked_stops_before_the_run(home):
    path = annotations(home, "NExTQA/MC/*.parquet")
    rows = pd.read_parquet(path).drop(columns="a4")
    rows.to_parquet(path)
    with pytest.raises(
        ValueError, match="no question of sharpv_nextqa can be asked; the first: sharpv_nextqa question 0"
    ):
        samples("sharpv_nextqa")


def test_annotations_are_read_from_the_files_that_are_there(home):
    path = annotations(home, "MVBench/json/action_antonym.json")
    rows = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(rows[:1]), encoding="utf-8")
    name = "sharpv_mvbench_action_antonym"
    assert len(samples(name)) == 1
    path.write_text(json.dumps(rows), encoding="utf-8")
    complete = samples(name)
    assert len(complete) == len(rows) > 1
    other = next(option for option in rows[0]["candidates"] if option != rows[0]["answer"])
    edit(path, 0, answer=other)
    edited = {sample.doc_id: sample for sample in samples(name)}[0]
    before = {sample.doc_id: sample for sample in complete}[0]
    assert (edited.gold != before.gold, edited.doc_hash != before.doc_hash) == (True, True)


@pytest.mark.parametrize(
    "content", [b"", b"[", b"[]", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", None]
)
def test_an_annotation_file_that_cannot_be_read_is_named(home, content):
    path = annotations(home, "MVBench/json/action_antonym.json")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"annotations|action_antonym\.json"):
        samples("sharpv_mvbench_action_antonym")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        ('{"a": 1}\n{"a": \n', "line 2 is broken"),
        ('{"a": 1}\n[1]\n', "line 2 is no question"),
        ('{"a": 1}\n\n{"a": 2}\n', None),
    ],
)
def test_a_jsonl_file_names_its_line(tmp_path, content, told):
    path = tmp_path / "questions.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    config = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(path)}}}
    if told is None:
        require_readable("mine", config)
    else:
        with pytest.raises(ValueError, match=rf"mine: .*questions.jsonl {told}"):
            require_readable("mine", config)


def test_half_a_parquet_file_and_a_pointer_are_broken(tmp_path):
    pd.DataFrame({"a": range(1000)}).to_parquet(tmp_path / "a.parquet")
    assert unreadable(tmp_path / "a.parquet") is None
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:500])
    assert "is broken" in unreadable(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n")
    assert "is a git-lfs pointer" in unreadable(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("benchmark", "pattern", "field"),
    [
        ("sharpv_nextqa", "NExTQA/MC/*.parquet", None),
        ("sharpv_videomme", "Video-MME/videomme/*.parquet", "videoID"),
        ("sharpv_actnetqa", "ActivityNetQA/data/*.parquet", "video_name"),
        ("sharpv_mvbench_action_antonym", "MVBench/json/action_antonym.json", "video"),
    ],
)
@pytest.mark.parametrize("name", ["../../x", "/x", "a/../../../x", "x" * 300, "a\0b"])
def test_a_video_name_that_leaves_the_folder_is_an_error_row(home, benchmark, pattern, field, name):
    path = annotations(home, pattern)
    if field is None:
        rows = pd.read_parquet(path)
        rows.assign(video=[name, *map(str, rows["video"][1:])]).to_parquet(path)
    else:
        edit(path, 0, **{field: f"../../../{name}" if field == "video_name" and name[0] in "./" else name})
    broken = [sample for sample in samples(benchmark) if sample.problem]
    assert len(broken) == 1
    assert "lies outside" in broken[0].problem or "no file can have" in broken[0].problem
    assert not broken[0].video.exists()


def test_tiny_videos_stay_in_their_folder():
    from sharpv.benchmarks.scoring import tiny_video

    assert tiny_video({"video": "1.mp4"})[0].endswith("tiny/data/videos/1.mp4")
    for name in ("../1.mp4", "/etc/1.mp4"):
        with pytest.raises(ValueError, match="lies outside"):
            tiny_video({"video": name})
