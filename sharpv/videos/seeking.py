"""Frames of a file without decoding all of it: from the key frame before a wanted frame, and only what that is made of.

All packets are read, which is cheap beside decoding, so that the place of every frame is known and no index of the
container's has to be believed. The way holds where it can be shown to give the frames that decoding from the start
gives; anything else is a doubt, and whoever asked decodes from the start. Damage that leaves the packets' order, times
and structure whole is seen only where it is decoded.

Shape suffixes: N packets in the order of decoding, which are frames in another order.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from sharpv.videos.orientation import Orientation, orientation_of

MOST_NEEDED, FEWEST_SPARED = 0.75, 500
"""Share of a file's packets above which, and number of packets left out below which there is too little to gain: all of
a short clip is decoded, and all of its damage counted."""
DEEPEST = 16
"""Frames that H.264 and HEVC hold back at most to put them in order."""
LONGEST_HEAD = 250
"""Packets at the start within which the decoder must have met the deepest order of the file."""
CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts")
"""Those that tell of new decoder settings in the middle of a file only by what is looked at here."""


FILM_GRAIN = 19
"""Kind of message by which a decoder draws grain over pictures."""


class DoubtError(Exception):
    """Why a file's frames must be decoded from its start."""


@dataclass(frozen=True)
class Syntax:
    """Of a codec's units: bytes of a header, kinds of messages (SEI), of parameter sets, of pictures, and of those
    pictures that forget all before them; where the header says that no other picture is made of this one. size_at:
    place in the container's decoder settings of the bytes of a unit's length."""

    header: int
    shift: int
    mask: int
    size_at: int
    message: int
    parameters: frozenset[int]
    pictures: frozenset[int]
    starts: frozenset[int]
    reference: int = 0


SYNTAXES = {
    "h264": Syntax(1, 0, 31, 4, 6, frozenset({7, 8}), frozenset({1, 5}), frozenset({5}), reference=0x60),
    "hevc": Syntax(
        2, 1, 63, 21, 39, frozenset({32, 33, 34}), frozenset((*range(10), *range(16, 22))), frozenset({19, 20})
    ),
}
"""ITU-T H.264, table 7-1, and H.265, table 7-1; ISO/IEC 14496-15 for `size_at`. HEVC says of a picture
only that its own layer does without it."""


@dataclass(frozen=True)
class Plan:
    """Packets to decode, in runs between which the decoder forgets everything; the place of each wanted packet."""

    times_N: np.ndarray
    runs: list[list[int]]
    places: dict[int, int]


@dataclass
class Index:
    """What a file's packets tell of its frames, and the first reason to doubt it."""

    syntax: Syntax
    length: int
    times: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    spare: list[bool] = field(default_factory=list)
    parameters: set[bytes] = field(default_factory=set)
    doubt: str = ""

    @classmethod
    def of(
        cls, path: Path, container: av.container.InputContainer, stream: av.VideoStream, seeking: bool = True
    ) -> "Index":
        """Empty, with what is known before the first packet; without `seeking` nothing will be."""
        name, extra = stream.codec_context.name, bytes(stream.codec_context.extradata or b"")
        found = cls(SYNTAXES.get(name, SYNTAXES["h264"]), 0)
        if not seeking:
            found.doubt = "as asked"
        elif name not in SYNTAXES:
            found.doubt = f"no rule for {name}"
        elif container.format.name not in CONTAINERS:
            found.doubt = f"no rule for {container.format.name}"
        elif container.format.name == CONTAINERS[0] and _several_descriptions(path):
            found.doubt = "several descriptions of its pictures"
        elif extra[:1] == b"\x01" and len(extra) > found.syntax.size_at:
            found.length = 1 + (extra[found.syntax.size_at] & 3)
        return found

    def add(self, packet: av.Packet) -> None:
        """A packet of the stream, in the order of the file."""
        if self.doubt:
            return
        try:
            if packet.is_discard:
                raise DoubtError("an edit list cuts frames off")
            if packet.pts is None:
                raise DoubtError("frames without a time")
            if packet.is_corrupt:
                raise DoubtError("damaged")
            self._add(packet.pts, bytes(packet))
        except DoubtError as doubt:
            self.doubt = str(doubt)

    def _add(self, time: int, content: bytes) -> None:
        first, syntax = None, self.syntax
        for start, end in self._units(content):
            if end - start <= syntax.header or content[start] & 0x80:
                raise DoubtError("damaged")
            kind = content[start] >> syntax.shift & syntax.mask
            if kind in syntax.parameters:
                # Those of the first packet hold for ever: the decoder has them wherever it goes.
                if self.times and content[start:end].rstrip(b"\0") not in self.parameters:
                    raise DoubtError("its decoder's parameters change")
                self.parameters.add(content[start:end].rstrip(b"\0"))
            elif kind == syntax.message and FILM_GRAIN in _messages(content[start + syntax.header : end]):
                # It may hold for the pictures behind the next key frames too.
                raise DoubtError("film grain")
            elif first is None and kind in syntax.pictures:
                first = content[start]
                if not content[start + syntax.header] & 0x80:
                    raise DoubtError("damaged")
        if first is None:
            raise DoubtError("damaged")
        if first >> syntax.shift & syntax.mask in syntax.starts:
            self.starts.append(len(self.times))
        self.spare.append(bool(syntax.reference) and not first & syntax.reference)
        self.times.append(time)

    def _units(self, content: bytes) -> Iterator[tuple[int, int]]:
        """Start and end of each unit of a packet, behind a length or between start codes."""
        if not self.length:
            start = content.find(b"\0\0\1") + 3
            while start > 2:
                following = content.find(b"\0\0\1", start)
                yield start, following if following >= 0 else len(content)
                if content[start] >> self.syntax.shift & self.syntax.mask in self.syntax.pictures:
                    return
                start = following + 3
            return
        place, length, total = 0, self.length, len(content)
        while place + length <= total:
            start = place + length
            place = start + int.from_bytes(content[place:start], "big")
            # No unit holds three zeros in a row (H.264 and H.265, 7.4.1.1): what does is a hole in the file.
            if place > total or place == start or content.find(b"\0\0\0", start, place) >= 0:
                raise DoubtError("damaged")
            yield start, place
        if place != total:
            raise DoubtError("damaged")

    def plan(self, wanted: set[int]) -> Plan:
        """What to decode for the frames at these places; DoubtError where their places or key frames are unsure."""
        if self.doubt:
            raise DoubtError(self.doubt)
        times_N, spare_N = np.array(self.times, np.int64), np.array(self.spare)
        count = len(times_N)
        if len(np.unique(times_N)) != count:
            raise DoubtError("two frames of one time")
        latest_N, earliest_N = np.maximum.accumulate(times_N), np.minimum.accumulate(times_N[::-1])[::-1]
        # Only where all frames before are shown before and all behind behind does the place of a frame follow.
        starts = [
            start
            for start in self.starts
            if (not start or latest_N[start - 1] < times_N[start]) and earliest_N[start] == times_N[start]
        ]
        if not starts or starts[0]:
            raise DoubtError("no key frame at its start")
        head = _head(times_N, latest_N)
        order_N = np.argsort(times_N)
        places = {int(order_N[place]): place for place in wanted}
        needed_N = np.zeros(count, bool)
        needed_N[: head + 1] = True
        needed_N[list(places)] = True
        bounds = list(zip(starts, [*starts[1:], count], strict=True))
        for start, end in bounds:
            asked = np.flatnonzero(needed_N[start:end])
            if len(asked):
                behind = start + int(asked[-1])
                needed_N[start:behind] |= ~spare_N[start:behind]
        if needed_N.sum() > min(MOST_NEEDED * count, count - FEWEST_SPARED):
            raise DoubtError("little to leave out")
        runs: list[list[int]] = [[]]
        for start, end in bounds:
            run = (start + np.flatnonzero(needed_N[start:end])).tolist()
            if start > head:
                runs.append(run)
            else:
                runs[0] += run
        return Plan(times_N, [run for run in runs if run], places)


def _head(times_N: np.ndarray, latest_N: np.ndarray) -> int:
    """The packet at which the order of decoding is first as far from that of showing as it ever gets.

    A decoder that has put all up to there in order holds back enough frames for the rest of the file too; one that
    learns it later loses frames at that place, if it decodes from the start. DoubtError where it comes late or never
    ends.
    """
    depth_N = np.zeros(len(times_N), np.int64)
    for lag in range(1, DEEPEST + 1):
        depth_N[lag:] += times_N[:-lag] > times_N[lag:]
    if (latest_N[: -DEEPEST - 1] > times_N[DEEPEST + 1 :]).any():
        raise DoubtError("its frames are in disorder")
    head = int(depth_N.argmax())
    if head >= LONGEST_HEAD:
        raise DoubtError("its order deepens late")
    return head


def read(container: av.container.InputContainer, stream: av.VideoStream, plan: Plan) -> dict[int, np.ndarray]:
    """The wanted frames by their places, upright uint8 RGB (H, W, C); DoubtError unless the decoder gives exactly the
    frames that the plan says, whole, progressive and of one size."""
    kept: dict[int, np.ndarray] = {}
    ends = {run[-1]: run for run in plan.runs}
    needed = {number for run in plan.runs for number in run}
    place_of = {int(plan.times_N[number]): place for number, place in plan.places.items()}
    size, upright, times = None, Orientation(), list[int | None]()
    decoder, last = stream.codec_context, plan.runs[-1][-1]
    packets = (packet for packet in container.demux(stream) if packet.size)
    for number, packet in enumerate(packets):
        if number >= len(plan.times_N) or packet.pts != plan.times_N[number]:
            raise DoubtError("its packets change between two readings")
        if number not in needed:
            continue
        try:
            frames = decoder.decode(packet)
            if number in ends:
                frames += decoder.decode(None)
                decoder.flush_buffers()
        except av.error.FFmpegError as error:
            raise DoubtError("damaged") from error
        for frame in frames:
            if size is None:
                size, upright = (frame.width, frame.height), orientation_of(frame)
            if frame.is_corrupt or frame.interlaced_frame or (frame.width, frame.height) != size:
                raise DoubtError("damaged" if frame.is_corrupt else "interlaced or of several sizes")
            times.append(frame.pts)
            if frame.pts in place_of:
                kept[place_of[frame.pts]] = upright.upright(frame.to_ndarray(format="rgb24"))
        if number in ends:
            if times != sorted(plan.times_N[ends[number]].tolist()):
                raise DoubtError("the decoder gives other frames than the packets say")
            times = []
        if number == last:
            return kept
    raise DoubtError("its packets change between two readings")


def _messages(content: bytes) -> Iterator[int]:
    """Kinds of the messages of one unit: each has a kind and a length, in bytes of which 255 says that more follow."""
    place = 0
    while place < len(content) - 2:
        sizes = [0, 0]
        for part in range(2):
            while place < len(content) and content[place] == 255:
                sizes[part], place = sizes[part] + 255, place + 1
            sizes[part] += content[place] if place < len(content) else 0
            place += 1
        yield sizes[0]
        place += sizes[1]


def _several_descriptions(path: Path) -> bool:
    """Whether a track of an MP4 file has more than one: they change in the middle, and not by a packet's content."""
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            taken = 8
            if size == 1:
                size, taken = int.from_bytes(file.read(8), "big"), 16
            if kind == b"moov":
                content = file.read(size - taken if size else -1)
                parts = content.split(b"stsd")[1:]
                return any(int.from_bytes(part[4:8], "big") > 1 for part in parts)
            if size < taken:
                break
            file.seek(size - taken, 1)
    return False
