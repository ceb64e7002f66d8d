"""Videos prepared ahead: same content in the same order, bounded memory, and what bad files and Ctrl-C cost."""

import multiprocessing
import os
import signal
import time
from multiprocessing.resource_sharer import _ResourceSharer as ResourceSharer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sharpv.answering import prefetch
from sharpv.answering.prefetch import AHEAD, Prefetcher
from sharpv.benchmarks.samples import Sample
from sharpv.videos.frames import Sampled


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Decodes `12.mp4` to frames of the value 12, leaves a trace of it, and fails or dies where the name says so."""

    def decode(video: Path, sampling) -> Sampled:
        (tmp_path / f"{video.stem}.trace").touch()
        if "broken" in video.name:
            raise ValueError(f"video {video} cannot be read")
        if "deadly" in video.name:
            os.kill(os.getpid(), signal.SIGKILL)
        return Sampled(np.full((2, 4, 4, 3), int(video.stem), np.uint8), [0, 1])

    monkeypatch.setattr(prefetch, "read_video", decode)
    return SimpleNamespace(frames=None, preprocess=lambda sampled: torch.from_numpy(sampled.frames_THWC))


def samples(names):
    return [Sample("b", "t", number, "?", Path(name), "", 1, "h") for number, name in enumerate(names)]


def seen(items):
    return [item.error or int(item.pixels[0, 0, 0, 0]) for item in items]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_videos_come_in_the_order_asked_with_their_own_times(loaded, workers):
    prefetcher = Prefetcher(loaded, workers)
    items = list(prefetcher.prepare(samples(f"{number}.mp4" for number in range(12))))
    assert seen(items) == list(range(12))
    assert all(set(item.times) == {"decode_video", "preprocess"} for item in items)
    assert prefetcher.waiting_s > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_costs_its_own_video_only(loaded, workers):
    found = seen(Prefetcher(loaded, workers).prepare(samples(["0.mp4", "broken.mp4", "2.mp4"])))
    assert found == [0, "ValueError: video broken.mp4 cannot be read", 2]


@pytest.mark.slow
def test_a_worker_that_dies_on_a_file_costs_that_video_only_and_raises_nowhere_else(loaded):
    items, found = Prefetcher(loaded, 2).prepare(samples(["0.mp4", "1.mp4", "deadly.mp4", "3.mp4", "4.mp4"])), []
    for item in items:
        found.append(item.error or int(item.pixels[0, 0, 0, 0]))
        time.sleep(0.2)
    assert found[:2] + found[3:] == [0, 1, 3, 4]
    assert "the process that decoded deadly.mp4 died" in found[2]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ConnectionResetError, "reset by peer"),
        (ConnectionRefusedError, "refused"),
        (FileNotFoundError, "no socket"),
        (EOFError, ""),
        (OSError, "got end of file during message"),
        (RuntimeError, "received 0 items of ancdata"),
    ],
)
def test_a_video_lost_with_the_worker_that_held_it_is_prepared_again(loaded, monkeypatch, kind, message):
    real, calls = ResourceSharer.get_connection, []

    def fails_at_the_second(ident):
        calls.append(ident)
        if len(calls) == 2:
            raise kind(message)
        return real(ident)

    monkeypatch.setattr(ResourceSharer, "get_connection", staticmethod(fails_at_the_second))
    assert seen(Prefetcher(loaded, 2).prepare(samples(f"{number}.mp4" for number in range(5)))) == [0, 1, 2, 3, 4]
    assert len(calls) > 5
    assert not multiprocessing.active_children()


def test_what_finds_no_shared_memory_is_decoded_here_and_told(loaded, monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.warns(UserWarning, match="--shm-size"):
        found = seen(Prefetcher(loaded, 2).prepare(samples(["0.mp4", "broken.mp4", "2.mp4"])))
    assert found == [0, "ValueError: video broken.mp4 cannot be read", 2]


def test_no_more_videos_wait_in_memory_than_the_workers_may_hold(loaded, tmp_path):
    items = Prefetcher(loaded, 1).prepare(samples(f"{number}.mp4" for number in range(20)))
    next(items)
    time.sleep(1)
    assert len(list(tmp_path.glob("*.trace"))) <= 1 + AHEAD
    items.close()


def test_closing_in_the_middle_leaves_no_process_behind(loaded):
    items = Prefetcher(loaded, 2).prepare(samples(f"{number}.mp4" for number in range(20)))
    next(items)
    assert multiprocessing.active_children()
    items.close()
    assert not multiprocessing.active_children()


def test_fewer_than_no_workers_are_refused(loaded):
    with pytest.raises(ValueError, match="workers=-1"):
        Prefetcher(loaded, -1)


def test_a_temporary_folder_too_long_for_sockets_is_refused_instead_of_waited_for(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(prefetch, "gettempdir", lambda: str(tmp_path / ("x" * 80)))
    with pytest.raises(ValueError, match="set TMPDIR to a folder of at most 74 bytes, or use workers=0"):
        Prefetcher(loaded, 1)
    assert seen(Prefetcher(loaded, 0).prepare(samples(["0.mp4"]))) == [0]
