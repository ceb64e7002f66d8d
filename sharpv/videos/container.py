"""Video files by PyAV: the first real video stream, decoded by one thread, so that damage is concealed one way only.

Shape suffixes: H height, W width, C channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np

from sharpv.videos.orientation import Orientation, orientation_of
from sharpv.videos.sampled import Sampled
from sharpv.videos.sampling import Sampling
from sharpv.videos.seeking import DoubtError, Index, read

WHOLE = 0.9
"""Share of its stated duration below which a file counts as cut off, less its longest pause between two frames."""


@dataclass
class Decoded:
    """The frames at the places asked for, how many there are, and how many the decoder marked as spoiled or refused.

    Damage that leaves a valid stream (most of VP8's and HEVC's) no decoder can tell from pictures.
    """

    kept: dict[int, np.ndarray] = field(default_factory=dict)
    total: int = 0
    errors: int = 0


@dataclass
class Packets:
    """What a stream's packets tell; how many are shown, and cut off by an edit list; places that the container's
    reader skipped because they are damaged."""

    index: Index
    shown: int = 0
    cut: int = 0
    skipped: int = 0


def by_pyav(path: Path, sampling: Sampling, seeking: bool = True) -> Sampled:
    """Frames of a file, turned upright. A packet that the decoder refuses is left out and counted, as players do.

    seeking: decode from the key frames before the wanted frames, where that is sure to give the same frames as decoding
    from the start; `way` says which of both was done, and why not.

    ValueError with the reason for a file without a video stream, one that ends long before it says, one whose
    resolution changes, and one whose display matrix turns it by other than quarters.
    """
    try:
        with av.open(str(path.absolute())) as container:
            stream = video_stream(container)
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            packets = _packets(container, stream, Index.of(path, container, stream, seeking))
        wanted = set(sampling.indices(packets.shown, fps).tolist())
        decoded, way = _sought(path, packets, wanted)
        if decoded is None:
            decoded = _decode(path, wanted)
        if decoded.total != packets.shown:
            decoded = _decode(path, set(sampling.indices(decoded.total, fps).tolist()))
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"video {path} cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"video {path}: {error}") from error
    places = sampling.indices(decoded.total, fps).tolist()
    frames_THWC, errors = np.stack([decoded.kept[place] for place in places]), decoded.errors + packets.skipped
    return Sampled(frames_THWC, places, errors, decoded.total, fps, way)


def by_pyav_from_start(path: Path, sampling: Sampling) -> Sampled:
    """As `by_pyav`, with every frame of the file decoded, so that all of its damage is counted."""
    return by_pyav(path, sampling, seeking=False)


def _sought(path: Path, packets: Packets, wanted: set[int]) -> tuple[Decoded | None, str]:
    """The frames by seeking, or None and the reason why they must be decoded from the start."""
    try:
        if packets.skipped:
            raise DoubtError("damaged")
        plan = packets.index.plan(wanted)
        with av.open(str(path.absolute())) as container:
            kept = read(container, _one_thread(container), plan)
    except DoubtError as doubt:
        return None, f"start: {doubt}"
    return Decoded(kept, packets.shown), "seek"


def _one_thread(container: av.container.InputContainer) -> av.VideoStream:
    """Threads conceal damage from whatever their neighbours have ready: other frames in every run."""
    stream = video_stream(container)
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    return stream


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first stream that is a video and no cover picture; ValueError where there is none."""
    pictures = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & pictures and stream.codec_context is not None:
            return stream
    covers = ", only a cover picture" if container.streams.video else ""
    raise ValueError(f"it holds no video stream{covers}")


def _packets(container: av.container.InputContainer, stream: av.VideoStream, index: Index) -> Packets:
    """Read to the end without decoding; ValueError for half a file: no stream of it lasts as long as it states."""
    found, pause, last, end = Packets(index), 0.0, 0.0, 0.0
    # Fractions, multiplied for every packet, would take longer than reading it.
    units = {one.index: float(one.time_base or 0) for one in container.streams}
    for packet in _demuxed(container, found):
        if not packet.size:
            continue
        stamp = packet.dts if packet.pts is None else packet.pts
        unit = units.get(packet.stream_index) or float(packet.time_base)
        time = None if stamp is None else stamp * unit
        if time is not None:
            end = max(end, time + (packet.duration or 0) * unit)
        if packet.stream_index != stream.index:
            continue
        found.index.add(packet)
        found.shown += not packet.is_discard
        found.cut += packet.is_discard
        if time is not None:
            pause, last = max(pause, time - last), max(last, time)
    start, stated = (container.start_time or 0) / av.time_base, (container.duration or 0) / av.time_base
    if end - start < WHOLE * stated - pause:
        raise ValueError(f"it ends after {end - start:.1f} of the {stated:.1f} s that it states: get it anew")
    return found


def _demuxed(container: av.container.InputContainer, found: Packets) -> Iterator[av.Packet]:
    """All packets; what the reader says of places that it skips is counted."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as messages:
            yield from container.demux()
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)
    found.skipped = len(messages)


def require_plain(path: Path) -> int:
    """How many frames a file that every decoder reads alike has; ValueError for what only PyAV reads as players do."""
    with av.open(str(path.absolute())) as container:
        if container.format.name == "avi":
            raise ValueError("AVI does not say when a frame is shown")
        stream = video_stream(container)
        packets = _packets(container, stream, Index.of(path, container, stream, seeking=False))
    if packets.cut:
        raise ValueError(f"an edit list cuts {packets.cut} frames off")
    with av.open(str(path.absolute())) as container:
        first = next(container.decode(video_stream(container)), None)
        if first is not None and orientation_of(first) != Orientation():
            raise ValueError("a display matrix turns or mirrors it")
    return packets.shown


def _decode(path: Path, needed: set[int]) -> Decoded:
    found, size, upright = Decoded(), (0, 0), Orientation()
    with av.open(str(path.absolute())) as container:
        for packet in container.demux(_one_thread(container)):
            try:
                frames: list[Any] = packet.decode()
            except av.error.InvalidDataError:
                found.errors += 1
                continue
            for frame in frames:
                if not found.total:
                    size, upright = (frame.width, frame.height), orientation_of(frame)
                if (frame.width, frame.height) != size:
                    raise ValueError(
                        f"its resolution changes from {size[0]} x {size[1]} to {frame.width} x {frame.height} at frame "
                        f"{found.total}; every frame must have one size"
                    )
                found.errors += frame.is_corrupt
                if found.total in needed:
                    found.kept[found.total] = upright.upright(frame.to_ndarray(format="rgb24"))
                found.total += 1
    return found
