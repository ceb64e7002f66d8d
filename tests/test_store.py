"""The store loses nothing, doubles nothing, keeps writers apart and repairs what a kill left half-written."""

import json
import multiprocessing
import random
import time

import pytest

from sharpv.answering.store import RowStore
from sharpv.reports.store import read_samples

FORK = multiprocessing.get_context("fork")


def write(folder, first, last):
    store = RowStore(folder)
    for number in range(first, last):
        if not store.finished(str(number)):
            store.append({"key": str(number), "status": "ok", "filler": "x" * 30000})


def lines(folder):
    return [
        json.loads(line)
        for path in folder.glob("samples*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path):
    store = RowStore(tmp_path)
    store.append({"key": "a", "status": "ok"})
    store.close()
    with store.path.open("a", encoding="utf-8") as file:
        file.write('{"key": "b", "sta')
    store = RowStore(tmp_path)
    assert store.finished("a")
    assert not store.finished("b")
    store.append({"key": "b", "status": "ok"})
    assert [line["key"] for line in lines(tmp_path)] == ["a", "b"]


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    (tmp_path / "samples.jsonl").write_text(
        '{"key": "a", "status": "ok"}\nnonsense\n{"key": "b", "status": "ok"}\n', encoding="utf-8"
    )
    with pytest.raises(ValueError, match="line 2"):
        RowStore(tmp_path)


def test_an_error_row_is_run_again_and_its_answer_replaces_it_in_whatever_file_it_is(tmp_path):
    (tmp_path / "samples.zz.jsonl").write_text('{"key": "a", "status": "error"}\n', encoding="utf-8")
    store = RowStore(tmp_path)
    assert not store.finished("a")
    store.append({"key": "a", "status": "ok"})
    store.close()
    assert RowStore(tmp_path).finished("a")
    assert [row["status"] for row in read_samples(tmp_path)] == ["ok"]


def test_numbers_that_json_does_not_know_are_refused_and_nothing_is_written(tmp_path):
    store = RowStore(tmp_path)
    with pytest.raises(ValueError, match="row of a .*JSON"):
        store.append({"key": "a", "status": "ok", "vr": float("nan")})
    assert lines(tmp_path) == []


def test_two_writers_at_once_have_a_file_each_and_see_each_other_when_they_read_again(tmp_path):
    one, other = RowStore(tmp_path), RowStore(tmp_path)
    assert one.path != other.path
    first = one.path
    one.append({"key": "a", "status": "ok"})
    other.append({"key": "b", "status": "ok"})
    one.read()
    assert one.finished("b")
    one.close()
    assert RowStore(tmp_path).path == first


def test_a_half_written_line_of_another_writer_is_left_out_not_cut(tmp_path):
    other = RowStore(tmp_path)
    with other.path.open("a", encoding="utf-8") as file:
        file.write('{"key": "b", "sta')
    assert not RowStore(tmp_path).finished("b")
    assert other.path.read_text(encoding="utf-8") == '{"key": "b", "sta'


def test_writers_killed_at_fifty_random_moments_lose_and_double_nothing(tmp_path):
    rng, kept, kills = random.Random(0), set(), 0
    while kills < 50 or not kept:
        pair = [FORK.Process(target=write, args=(tmp_path, *half)) for half in ((0, 2000), (2000, 4000))]
        for process in pair:
            process.start()
        for process in pair:
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            process.join()
            kills += 1
        there = {row["key"] for row in read_samples(tmp_path)}
        assert kept <= there
        kept = there
    assert 0 < len(kept) < 4000
    write(tmp_path, 0, 4000)
    for path in tmp_path.glob("samples*.jsonl"):
        content = path.read_bytes()
        path.write_bytes(content[: content.rfind(b"\n") + 1])
    assert sorted(row["key"] for row in lines(tmp_path)) == sorted(str(number) for number in range(4000))


def hold(folder, video, ready):
    store = RowStore(folder)
    store.claim(video, wait=False)
    store.append({"key": "a", "status": "ok"})
    ready.set()
    time.sleep(600)


def test_a_video_that_another_process_works_on_is_passed_and_taken_over_when_that_dies(tmp_path):
    ready, store = FORK.Event(), RowStore(tmp_path)
    other = FORK.Process(target=hold, args=(tmp_path, tmp_path / "a.mp4", ready))
    other.start()
    ready.wait()
    assert not store.claim(tmp_path / "a.mp4", wait=False)
    assert store.claim(tmp_path / "b.mp4", wait=False)
    other.kill()
    assert store.claim(tmp_path / "a.mp4", wait=True)
    assert store.finished("a"), "what the other wrote is read with the claim"


def test_a_store_that_is_only_read_makes_no_folder_and_no_file(tmp_path):
    RowStore(tmp_path / "runs" / "a").read()
    assert not list(tmp_path.iterdir())
