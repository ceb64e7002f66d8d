"""Film strips and the page draw the file that the model saw, at the frames that it saw."""

import json

import numpy as np
import pytest
from report_runs import COLUMNS, DENSE, FRAMES, MVBENCH, VISUAL, first_wrong, write_run
from test_reports_page import Elements, unpacked

from sharpv.paths import REPOSITORY
from sharpv.reports import footage
from sharpv.reports.figures import strips
from sharpv.reports.page import pictures
from sharpv.reports.page.build import write_page
from sharpv.reports.store import load_run
from sharpv.reports.write import write_report
from sharpv.tiny.video import write_mp4
from sharpv.videos.frames import Evenly, Listed

TASK = f"{MVBENCH}_action_antonym"
PLACES = [1, 4, 6, 9]
RED, BLUE = (200, 0, 0), (0, 0, 200)


def colour(path, shade, frames=12):
    """Frame i is darker by i steps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.arange(frames)[:, None, None, None] * 10
    write_mp4(path, np.clip(np.full((frames, 48, 48, 3), shade) - steps, 0, 255).astype(np.uint8), repeat=1)


@pytest.fixture
def run(tmp_path):
    """A run about star/clip.mp4, which is blue; a/clip.mp4 is red and comes first."""
    questions = [(MVBENCH, TASK, 0, "clip.mp4"), (MVBENCH, TASK, 1, "clip.mp4")]
    folder = write_run(tmp_path / "run", [(DENSE, first_wrong(0)), (VISUAL, first_wrong(1))], questions=questions)
    colour(tmp_path / "videos" / "a" / "clip.mp4", RED)
    colour(tmp_path / "videos" / "star" / "clip.mp4", BLUE)
    return folder


def store(folder, **fields):
    lines = [json.loads(line) | fields for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def drawn(monkeypatch):
    """What the strip and the page decode, in place of drawing it."""
    frames = {}
    real = strips.read_video

    def read(path, sampling):
        sampled = real(path, sampling)
        frames["shown"] = sampled.frames_THWC
        return sampled

    def decode(path, sampling):
        return read(path, sampling).frames_THWC

    monkeypatch.setattr(pictures, "decode_frames", decode)
    monkeypatch.setattr(strips, "read_video", read)
    return frames


def shades(frames_THWC):
    """Brightness of the blue of each frame, in steps down from 200."""
    return np.rint((200 - frames_THWC[..., 2].mean((1, 2))) / 10).astype(int).tolist()


def draw(run, tmp_path, what):
    if what == "strip":
        strips.stored_strip(load_run(run).answers(), tmp_path / "videos", ["dense", "visual_sharpv"], (TASK, 0))
    else:
        write_page([run], tmp_path / "page.html", tmp_path / "videos", tmp_path)


@pytest.mark.parametrize("what", ["strip", "page"])
def test_the_file_and_frames_that_the_model_saw_are_drawn(run, tmp_path, drawn, what):
    store(run, video_path="star/clip.mp4", frame_places=PLACES)
    draw(run, tmp_path, what)
    assert shades(drawn["shown"]) == PLACES
    assert drawn["shown"][..., 2].mean() > drawn["shown"][..., 0].mean()


def test_two_videos_of_one_name_are_two_on_the_page(run, tmp_path):
    lines = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    folders = {0: "a", 1: "star"}
    lines = [line | {"video_path": f"{folders[line['doc_id']]}/clip.mp4", "frame_places": PLACES} for line in lines]
    (run / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_page([run], tmp_path / "page.html", tmp_path / "videos", tmp_path)
    index = unpacked(Elements((tmp_path / "page.html").read_text(encoding="utf-8")).data["index"])
    assert index["videos"] == ["a/clip.mp4", "star/clip.mp4"]
    assert index["reasons"] == ["", ""]


@pytest.mark.parametrize("what", ["strip", "page"])
def test_a_name_alone_that_two_files_have_is_not_guessed(run, tmp_path, what):
    if what == "strip":
        with pytest.raises(ValueError, match="2 files are called clip.mp4"):
            draw(run, tmp_path, what)
    else:
        draw(run, tmp_path, what)
        reasons = unpacked(Elements((tmp_path / "page.html").read_text(encoding="utf-8")).data["index"])["reasons"]
        assert "2 files are called clip.mp4" in reasons[0]


@pytest.mark.parametrize("what", ["strip", "page"])
def test_rows_of_before_are_still_drawn(run, tmp_path, drawn, what):
    (tmp_path / "videos" / "a" / "clip.mp4").unlink()
    draw(run, tmp_path, what)
    assert shades(drawn["shown"]) == Evenly(FRAMES).indices(12).tolist()


def test_a_shorter_video_of_the_same_name_is_another_one(run, tmp_path):
    store(run, video_path="star/clip.mp4", frame_places=[0, 10, 20, 30])
    with pytest.raises(ValueError, match="the video holds 12: it is another one"):
        draw(run, tmp_path, "strip")


def test_a_moved_folder_is_searched_for_the_path_that_ends_alike(tmp_path):
    colour(tmp_path / "copy" / "a" / "clip.mp4", RED)
    colour(tmp_path / "copy" / "star" / "clip.mp4", BLUE)
    found = footage.Footage(tmp_path).file("mvbench_video/star/clip.mp4")
    assert found == tmp_path / "copy" / "star" / "clip.mp4"


def test_places_are_those_of_the_row():
    assert footage.seen_frames({"frame_places": PLACES, "frames": 4}) == Listed(tuple(PLACES))
    assert footage.seen_frames({"frame_places": float("nan"), "frames": 4}) == Evenly(4)


def test_of_pictures_that_the_model_sees_as_one_frame_the_first_is_drawn_with_the_middle_of_their_times():
    pairs = {"frame_places": [0, 2, 10, 14, 20, 24], "frames": 3}
    assert footage.seen_frames(pairs) == Listed((0, 10, 20))
    assert footage.seen_seconds(pairs, fps=2.0) == [0.5, 6.0, 11.0]
    assert footage.seen_seconds(pairs, fps=0.0) == []
    assert footage.seen_seconds({"frame_places": float("nan"), "frames": 3}, fps=2.0) == []


def test_damaged_videos_are_named_under_the_table(run, tmp_path):
    store(run, decode_errors=0)
    assert "damaged" not in noted(run, tmp_path)
    store(run, decode_errors=7)
    found = noted(run, tmp_path)
    assert "4 answers are about 1 damaged videos" in found
    assert f"{MVBENCH}/clip.mp4 (7)" in found


def noted(run, tmp_path):
    write_report("table3", [run], tmp_path, REPOSITORY / "results" / "paper", COLUMNS, None)
    return (tmp_path / "table3.md").read_text(encoding="utf-8")


def test_a_tiny_video_has_the_same_bytes_however_often_it_is_written(tmp_path):
    from sharpv.tiny.scenes import render, sample_scene

    seen = set()
    for seed in (90001, 90005, 90030):
        frames_THWC = render(sample_scene(seed))
        for _ in range(60):
            write_mp4(tmp_path / "v.mp4", frames_THWC, 2)
            seen.add((seed, (tmp_path / "v.mp4").read_bytes()))
    assert len(seen) == 3
