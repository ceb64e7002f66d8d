"""Frames of a video: which ones a model takes, and one decoder for files and for folders of pictures.

Shape suffixes: T frames, H height, W width, C channels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import numpy as np

FOLDER_FPS = 3.0
"""Rate at which the folders of pictures in MVBench's episodic reasoning were taken."""
DECODERS = ("pyav", "decord", "torchcodec")


class Sampling(Protocol):
    """Which frames a model takes; `count` of them, read by `decoder`."""

    @property
    def count(self) -> int: ...

    @property
    def decoder(self) -> str: ...

    def indices(self, total: int, fps: float) -> np.ndarray:
        """Places (int64, ascending, may repeat) among `total` frames at `fps`; ValueError for an empty video."""
        ...


@dataclass(frozen=True)
class Evenly:
    """From the first to the last frame, truncated as numpy's integer linspace: lmms-eval's LLaVA-OneVision."""

    count: int
    decoder: str = "pyav"

    def indices(self, total: int, fps: float = 0.0) -> np.ndarray:
        if total < 1:
            raise ValueError("the video holds no frame")
        return np.linspace(0, total - 1, self.count, dtype=np.int64)


@dataclass(frozen=True)
class Segments:
    """The middle of equal segments: PLLaVA (6f49fd2, tasks/eval/eval_utils.py). `bound`: seconds (start, end)."""

    count: int
    decoder: str = "pyav"
    bound: tuple[float, float] | None = None

    def indices(self, total: int, fps: float) -> np.ndarray:
        if total < 1:
            raise ValueError("the video holds no frame")
        start, end = self.bound or (-1e5, 1e5)
        first, last = max(0, round(start * fps)), min(round(end * fps), total - 1)
        length = (last - first) / self.count
        return np.array([int(first + length / 2 + round(length * i)) for i in range(self.count)])


def decode_frames(path: Path, sampling: Sampling | int) -> np.ndarray:
    """Sampled frames as uint8 RGB (T, H, W, C), turned upright; a whole number samples so many evenly.

    The container's frame count is not trusted: what was decoded counts. ValueError with the reason for what cannot be
    read, and for a decoder that is not installed.
    """
    rule: Sampling = Evenly(sampling) if isinstance(sampling, int) else sampling
    if not path.exists():
        raise ValueError(f"video {path} does not exist")
    if path.is_dir():
        return _from_folder(path, rule)
    readers = {"pyav": _by_pyav, "decord": _by_decord, "torchcodec": _by_torchcodec}
    if rule.decoder not in readers:
        raise ValueError(f"decoder {rule.decoder!r} is none of {', '.join(DECODERS)}")
    try:
        return readers[rule.decoder](path, rule)
    except ImportError as error:
        raise ValueError(f"decoder {rule.decoder!r} is not installed ({error}); use decoder=pyav") from error


def _from_folder(path: Path, sampling: Sampling) -> np.ndarray:
    from PIL import Image

    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise ValueError(f"video {path} is a folder without pictures")
    chosen = sampling.indices(len(files), FOLDER_FPS)
    return np.stack([np.asarray(Image.open(files[index]).convert("RGB")) for index in chosen])


def _by_pyav(path: Path, sampling: Sampling) -> np.ndarray:
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            expected = sum(1 for packet in container.demux(stream) if packet.size)
        kept, total = _decode(path, set(sampling.indices(expected, fps).tolist()))
        if total != expected:
            kept, _ = _decode(path, set(sampling.indices(total, fps).tolist()))
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"video {path} cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"video {path}: {error}") from error
    return np.stack([kept[index] for index in sampling.indices(total, fps).tolist()])


def _decode(path: Path, needed: set[int]) -> tuple[dict[int, np.ndarray], int]:
    """The frames at these places, and how many frames there are."""
    kept, total = {}, 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for total, frame in enumerate(container.decode(video=0), 1):
            if total - 1 in needed:
                kept[total - 1] = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90 % 4)
    return kept, total


def _by_decord(path: Path, sampling: Sampling) -> np.ndarray:
    import decord

    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        return reader.get_batch(sampling.indices(len(reader), reader.get_avg_fps()).tolist()).asnumpy()
    except decord.DECORDError as error:
        raise _refused(path, "decord", error) from error


def _by_torchcodec(path: Path, sampling: Sampling) -> np.ndarray:
    try:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="exact")
        chosen = sampling.indices(len(decoder), float(decoder.metadata.average_fps or 0))
        return decoder.get_frames_at(chosen.tolist()).data.numpy()
    except RuntimeError as error:
        if "Could not load libtorchcodec" in str(error):
            raise ImportError("torchcodec finds no FFmpeg libraries") from error
        raise _refused(path, "torchcodec", error) from error


def _refused(path: Path, decoder: str, error: Exception) -> ValueError:
    """decord reads no quarter turns and few transport streams, torchcodec no short ones, which PyAV does read."""
    return ValueError(
        f"video {path} cannot be read by {decoder}: {str(error).splitlines()[0]}; decoder=pyav may read it"
    )
