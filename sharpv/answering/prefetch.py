"""Videos decoded and preprocessed ahead by background workers, in order, with bounded memory.

Shape suffixes: T frames, H height, W width, C channels.
"""

import signal
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from sharpv.benchmarks.samples import Sample
from sharpv.metrics.timing import StageClock
from sharpv.models.loaded import Loaded
from sharpv.videos.cache import FrameCache
from sharpv.videos.frames import read_video

AHEAD = 2
"""Videos that each worker holds ready: at most workers * AHEAD wait in memory."""

LONGEST_FOLDER = 74
"""A socket's whole name has 107 bytes on Linux; multiprocessing adds a folder and a file of 33 to the temporary one."""
FULL = (
    "this machine's shared memory is full: videos that find no room are decoded again by the process that answers; "
    "give it more (docker run --shm-size=...) or use workers=0"
)
FROM_START = "start: "
DEATHS = (RuntimeError, OSError, EOFError)
"""What a worker's death raises: torch's RuntimeError, or the error of fetching a video whose worker just died."""


@dataclass
class Prepared:
    """A video's pixels on the host and the seconds of `decode_video` and `preprocess`, or why there are none.

    places: of the frames taken, among the video's. decode_errors, way: see `Sampled`. cached: no decoder ran.
    unshared: a worker had the pixels, but no shared memory to hand them over in.
    """

    video: Path
    pixels: Any = None
    times: dict[str, float] | None = None
    error: str | None = None
    places: list[int] = field(default_factory=list)
    decode_errors: int | None = 0
    way: str = ""
    cached: bool = False
    unshared: bool = False


class Videos(Dataset):
    """Prepares a video, whose path is its index; what a bad file raises becomes that video's error."""

    def __init__(self, loaded: Loaded, cache: FrameCache | None = None):
        self.loaded, self.cache = loaded, cache

    def __getitem__(self, video: Path) -> Prepared:
        clock = StageClock(torch.device("cpu"))
        try:
            if self.cache is None:
                sampled, cached = read_video(video, self.loaded.frames), False
            else:
                sampled, cached = self.cache.read(video, self.loaded.frames, read_video)
            clock.mark("decode_video")
            pixels = self.loaded.preprocess(sampled)
            clock.mark("preprocess")
        # A decoder raises whatever a broken file leads it to; the runner stores it as that video's error.
        except Exception as error:
            return Prepared(video, error=f"{type(error).__name__}: {error}")
        seconds = clock.seconds()
        return Prepared(
            video,
            pixels,
            seconds,
            places=sampled.places,
            decode_errors=sampled.decode_errors,
            way=sampled.way,
            cached=cached,
        )


class Shared(Videos):
    """Puts pixels where the main process can take them.

    Left to the queue, a full shared memory would lose the video without a word, and its user would wait for ever.
    """

    def __getitem__(self, video: Path) -> Prepared:
        item = super().__getitem__(video)
        try:
            if item.pixels is not None:
                item.pixels.share_memory_()
        except RuntimeError:
            return Prepared(item.video, unshared=True)
        return item


class Prefetcher:
    """Gives videos prepared, in the order asked. `waiting_s`: seconds that its user has waited for them; `ways`: how
    many videos' frames were reached in which way.

    workers: processes that prepare ahead; 0 = prepare when asked, in this process. cache: where their frames are kept.
    """

    def __init__(self, loaded: Loaded, workers: int, cache: FrameCache | None = None):
        if workers < 0:
            raise ValueError(f"workers={workers} must be 0 (decode in this process) or more")
        if workers and len(gettempdir().encode()) > LONGEST_FOLDER:
            raise ValueError(
                f"workers hand videos over through sockets in {gettempdir()}, whose name is too long for that: set "
                f"TMPDIR to a folder of at most {LONGEST_FOLDER} bytes, or use workers=0"
            )
        self.loaded, self.workers, self.cache = loaded, workers, cache
        self.waiting_s, self.ways = 0.0, Counter[str]()

    def prepare(self, samples: Iterable[Sample]) -> Generator[Prepared]:
        """The video of each sample, the next of which is drawn when a worker (without any, this process) is free for
        it. Close the iterator to stop the workers before its end."""
        with closing(self._items(sample.video for sample in samples)) as items:
            while True:
                start = time.perf_counter()
                item = next(items, None)
                self.waiting_s += time.perf_counter() - start
                if item is None:
                    return
                if item.error is None:
                    self.ways["cache" if item.cached else item.way] += 1
                yield item

    def _items(self, videos: Iterator[Path]) -> Generator[Prepared]:
        waiting, ended = deque[Path](), False

        def asked() -> Generator[Path]:
            """First what was lost with a worker that died."""
            nonlocal ended
            yield from list(waiting)
            for video in videos:
                waiting.append(video)
                yield video
            ended = True

        while waiting or not ended:
            for item in self._until_a_death(asked()):
                if item.unshared:
                    warnings.warn(FULL, stacklevel=2)
                    item = Videos(self.loaded, self.cache)[item.video]
                waiting.popleft()
                yield item
            if waiting:
                yield self._alone(waiting.popleft())

    def _until_a_death(self, videos: Iterable[Path]) -> Generator[Prepared]:
        items = self._start(videos, self.workers)
        try:
            yield from items
        except DEATHS as error:
            if not _died(error):
                raise

    def _alone(self, video: Path) -> Prepared:
        """One video in a worker of its own: after a death it shows whether this video was the cause."""
        items = self._start([video], 1)
        try:
            (item,) = items
        except DEATHS as error:
            if not _died(error):
                raise
            return Prepared(video, error=f"the process that decoded {video} died: {error}")
        return item

    def _start(self, videos: Iterable[Path], workers: int) -> Generator[Prepared]:
        loader: Any = DataLoader(
            (Shared if workers else Videos)(self.loaded, self.cache),
            sampler=videos,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            multiprocessing_context="fork" if workers else None,
            collate_fn=_unchanged,
        )
        if threading.current_thread() is not threading.main_thread():
            return iter(loader)
        # torch's handler would raise a worker's death in whatever answer is being computed; polled, it is raised here.
        handler = signal.getsignal(signal.SIGCHLD)
        try:
            return iter(loader)
        finally:
            signal.signal(signal.SIGCHLD, handler)


def _unchanged(item: Any) -> Any:
    return item


def _died(error: Exception) -> bool:
    return not isinstance(error, RuntimeError) or any(part in str(error) for part in ("DataLoader worker", "ancdata"))


def ways_told(ways: Mapping[str, int]) -> str:
    """In words, how the frames of so many videos were decoded; nothing for those whose decoder does not tell."""
    started = {way.removeprefix(FROM_START): count for way, count in ways.items() if way.startswith(FROM_START)}
    parts = [f"{_videos(ways['seek'])} read by seeking"] if ways.get("seek") else []
    if started:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(started.items()))
        parts.append(f"{_videos(sum(started.values()))} decoded from the start ({reasons})")
    return ", ".join(parts)


def _videos(count: int) -> str:
    return f"{count} video{'s' * (count != 1)}"
