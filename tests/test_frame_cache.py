"""Decoded frames kept on disk: the same frames, used by many processes, and never a broken one."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sharpv.answering.prefetch import Prefetcher, ways_told
from sharpv.benchmarks.samples import Sample
from sharpv.tiny.video import write_mp4
from sharpv.videos.cache import ABANDONED_S, FrameCache
from sharpv.videos.frames import Evenly, Segments, read_video

RULE = Evenly(8)


@pytest.fixture
def video(tmp_path):
    return written(tmp_path / "v.mp4")


def written(path, count=5, seed=0):
    write_mp4(path, np.random.default_rng(seed).integers(0, 255, (count, 32, 48, 3), np.uint8), 2)
    return path


def refused(*_):
    pytest.fail("decoded")


def same(one, other):
    np.testing.assert_array_equal(one.frames_THWC, other.frames_THWC)
    facts = ("places", "decode_errors", "total", "fps", "way")
    return [getattr(one, name) for name in facts] == [getattr(other, name) for name in facts]


def test_kept_frames_are_the_decoded_ones_and_nothing_is_decoded_for_them(tmp_path, video):
    first, was_there = FrameCache(tmp_path / "cache").read(video, RULE, read_video)
    again, is_there = FrameCache(tmp_path / "cache").read(video, RULE, refused)
    assert (was_there, is_there) == (False, True)
    assert same(first, read_video(video, RULE))
    assert same(again, first)
    assert again.frames_THWC.flags.writeable


def test_frames_that_repeat_are_kept_once(tmp_path, video):
    cache, rule = FrameCache(tmp_path), Evenly(500)
    cache.read(video, rule, read_video)
    assert cache.entry(video, rule).stat().st_size < 100 * 32 * 48 * 3
    assert same(cache.read(video, rule, refused)[0], read_video(video, rule))


def test_another_sampling_decoder_file_or_code_has_other_frames(tmp_path, video):
    cache = FrameCache(tmp_path / "cache")
    rules = (RULE, Evenly(9), Segments(8), Evenly(8, "pyav_from_start"))
    entries = {cache.entry(video, rule) for rule in rules}
    entries.add(cache.entry(written(tmp_path / "other.mp4", seed=1), RULE))
    os.utime(video, ns=(1, 1))
    entries.add(cache.entry(video, RULE))
    cache.code = "changed"
    entries.add(cache.entry(video, RULE))
    assert len(entries) == 7


@pytest.mark.parametrize("harm", ["cut", "empty", "flipped", "header", "longer", "zeros"])
def test_a_broken_entry_is_said_and_made_anew(tmp_path, video, harm):
    cache = FrameCache(tmp_path / "cache")
    whole, _ = cache.read(video, RULE, read_video)
    content = cache.entry(video, RULE).read_bytes()
    harmed = {
        "cut": content[:-5],
        "empty": b"",
        "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "header": content.replace(b"[[8,", b"[[7,"),
        "longer": content + b"0",
        "zeros": bytes(len(content)),
    }[harm]
    assert harmed != content
    cache.entry(video, RULE).write_bytes(harmed)
    with pytest.warns(UserWarning, match=r"\.frames is broken: its frames are decoded anew"):
        found, was_there = cache.read(video, RULE, read_video)
    assert (same(found, whole), was_there) == (True, False)
    assert cache.read(video, RULE, refused)[1]


def test_a_full_disk_costs_the_entry_and_is_said(tmp_path, video, monkeypatch):
    cache = FrameCache(tmp_path / "cache")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(UserWarning, match=r"frames are not kept in .*: No space left on device"):
        assert same(cache.read(video, RULE, read_video)[0], read_video(video, RULE))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"frames_cache=.*file/cache cannot be written: Not a directory"):
        FrameCache(tmp_path / "file" / "cache")


def test_what_a_killed_process_left_half_written_goes_in_time(tmp_path):
    for name, age in (("old", ABANDONED_S + 60), ("new", 0)):
        (tmp_path / f"{name}.partial").touch()
        os.utime(tmp_path / f"{name}.partial", (time.time() - age,) * 2)
    FrameCache(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["new.partial"]


HAMMER = """
import sys
from pathlib import Path
from sharpv.videos.cache import FrameCache
from sharpv.videos.frames import Evenly, read_video
cache, video = FrameCache(Path(sys.argv[1])), Path(sys.argv[2])
while True:
    cache.entry(video, Evenly(8)).unlink(missing_ok=True)
    cache.read(video, Evenly(8), read_video)
    print("kept", flush=True)
"""


def test_processes_that_write_one_entry_and_are_killed_leave_it_whole_or_not_at_all(tmp_path, video, recwarn):
    cache, whole = FrameCache(tmp_path / "cache"), read_video(video, RULE)
    command, hits = [sys.executable, "-c", HAMMER, str(cache.folder), str(video)], 0
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for writer in writers:
            writer.stdout.readline()
        for _ in range(200):
            found, was_there = cache.read(video, RULE, read_video)
            hits += was_there
            assert same(found, whole)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert same(cache.read(video, RULE, read_video)[0], whole)
    assert (hits > 0, [str(one.message) for one in recwarn]) == (True, [])


def test_folders_of_pictures_are_read_as_ever(tmp_path):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "1.png")
    cache = FrameCache(tmp_path / "cache")
    assert [cache.read(tmp_path / "pictures", RULE, read_video)[1] for _ in range(2)] == [False, False]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_tells_how_many_videos_it_found_and_how_the_others_were_reached(tmp_path, video, workers):
    loaded = SimpleNamespace(frames=RULE, preprocess=lambda sampled: torch.from_numpy(sampled.frames_THWC.copy()))
    cache = FrameCache(tmp_path / "cache")
    cache.read(video, RULE, read_video)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    written(tmp_path / "other.mp4", seed=1)
    names = ("v.mp4", "broken.mp4", "other.mp4")
    samples = (Sample("b", "t", number, "?", tmp_path / name, "", 1, "h") for number, name in enumerate(names))
    prefetcher = Prefetcher(loaded, workers, cache)
    assert [item.cached for item in prefetcher.prepare(samples)] == [True, False, False]
    assert prefetcher.ways == {"cache": 1, "start: little to leave out": 1}
    assert ways_told(prefetcher.ways) == "1 video decoded from the start (1 little to leave out)"
    size = sum(file.stat().st_size for file in cache.folder.iterdir()) / 1e9
    assert cache.told(prefetcher.ways) == f"1 of 2 (50%) videos' frames from {cache.folder}: 2 files, {size:.3g} GB"
