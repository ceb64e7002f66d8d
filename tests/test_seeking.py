"""Frames by seeking: on every kind of file the same as by decoding from its start, and said which way was taken."""

from fractions import Fraction

import av
import numpy as np
import pytest

from sharpv.videos.container import by_pyav, by_pyav_from_start
from sharpv.videos.sampling import Evenly, Listed
from sharpv.videos.seeking import SYNTAXES, Index

COUNT, SPACING, HEIGHT, WIDTH = 640, 24, 48, 64
UNEVEN = np.cumsum(np.random.default_rng(1).integers(5, 300, COUNT)).tolist()
ASKED = (Evenly(4), Listed((0,)), Listed((COUNT - 1,)), Listed((137, 138, 139, 601)))


def moving(path, codec="libx264", times=None, muxer=None, x264="", height=HEIGHT, first=0, plain=0):
    """A video in which no two frames are alike; its first `plain` frames are encoded without looking ahead."""
    texture = np.random.default_rng(0).integers(40, 200, (height, WIDTH, 3), np.uint8)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = height, WIDTH, "yuv420p", SPACING
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {
            "libx264": {"preset": "veryfast", "x264-params": f"scenecut=0:bframes=3:{x264}".rstrip(":")},
            "libx265": {"preset": "ultrafast", "x265-params": "open-gop=0:log-level=none"},
            "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
        }.get(codec, {})
        for number in range(COUNT):
            picture = np.roll(texture, 2 * number, axis=1)
            picture[number % 30 :][:10, 20:40] = (255, 3 * number % 256, 0)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times[number] if times else 40 * (first + number), Fraction(1, 1000)
            if number < plain:
                frame.pict_type = av.video.frame.PictureType.P
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copied(source, path, change):
    """The packets of a file in another one, with times changed by `change(number, packet)`."""
    with av.open(str(source)) as given, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(given.streams.video[0]) if packet.size]
        for number, packet in enumerate(packets):
            change(number, packet)
            packet.stream = stream
            target.mux(packet)
    return path


def both(path, sampling):
    """What seeking gives, once it is shown to be what decoding from the start gives, damage included."""
    whole, sought = by_pyav_from_start(path, sampling), by_pyav(path, sampling)
    np.testing.assert_array_equal(sought.frames_THWC, whole.frames_THWC)
    for name in ("places", "decode_errors", "total", "fps"):
        assert getattr(sought, name) == getattr(whole, name)
    assert whole.way == "start: as asked"
    return sought


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return moving(tmp_path_factory.mktemp("plain") / "v.mp4")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("b_frames.mp4", {"x264": "b-adapt=0:b-pyramid=normal:ref=4"}),
        ("no_b_frames.mp4", {"x264": "bframes=0"}),
        ("slices.mkv", {"x264": "slices=3:aud=1"}),
        ("transport.ts", {}),
        ("uneven.mp4", {"times": UNEVEN}),
        ("uneven.mkv", {"times": UNEVEN}),
        ("no_index.mkv", {"muxer": {"live": "1"}}),
        ("fragments.mp4", {"muxer": {"movflags": "frag_keyframe+empty_moov"}}),
        ("hevc.mp4", {"codec": "libx265"}),
    ],
)
def test_seeking_gives_the_frames_of_decoding_from_the_start(tmp_path, name, settings):
    path = moving(tmp_path / name, **settings)
    assert {both(path, sampling).way for sampling in ASKED} == {"seek"}


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("open.mp4", {"x264": "open-gop=1"}, "little to leave out"),
        ("interlaced.mkv", {"x264": "tff=1"}, "interlaced or of several sizes"),
        ("late.mp4", {"plain": 400}, "its order deepens late"),
        ("v.webm", {"codec": "libvpx-vp9"}, "no rule for vp9"),
        ("v.avi", {}, "no rule for avi"),
    ],
)
def test_what_seeking_is_not_sure_of_is_decoded_from_the_start_and_says_why(tmp_path, name, settings, reason):
    assert both(moving(tmp_path / name, **settings), Listed((3, 137, COUNT - 1))).way == f"start: {reason}"


def test_a_short_video_is_decoded_whole(plain):
    assert both(plain, Evenly(COUNT // 4)).way == "start: little to leave out"


def doubled(number, packet):
    """Two frames of one time: one is to be shown with that of four seconds later."""
    packet.pts += round(4 / packet.time_base) if number == 300 else 0


def misplaced(number, packet):
    """A frame that is to be shown long after those behind it."""
    packet.pts += round(Fraction(402, 100) / packet.time_base) if number == 300 else 0


def cut(number, packet):
    shift = round(Fraction(1, 2) / packet.time_base)
    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        (doubled, "v.mkv", "two frames of one time"),
        (misplaced, "v.mkv", "its frames are in disorder"),
        (cut, "v.mp4", "an edit list cuts frames off"),
    ],
)
def test_broken_times_and_edit_lists_are_decoded_from_the_start(tmp_path, plain, change, name, reason):
    assert both(copied(plain, tmp_path / name, change), Evenly(4)).way == f"start: {reason}"


class Unit(bytes):
    """A packet of one time."""

    pts, is_discard, is_corrupt = 0, False, False


@pytest.mark.parametrize(
    ("unit", "doubt"),
    [
        ("65 88", ""),
        ("06 05 02 ff ff 80 | 65 88", ""),
        ("06 05 02 ff ff 13 01 00 80 | 65 88", "film grain"),
        ("06 05 02 ff ff 80", "damaged"),
        ("65 08", "damaged"),
        ("e5 88", "damaged"),
        ("65", "damaged"),
        ("65 88 00 00 00 88", "damaged"),
    ],
)
@pytest.mark.parametrize("length", [0, 4])
def test_a_packet_is_doubted_by_its_structure(unit, doubt, length):
    """Zeros may stand between start codes."""
    parts = [bytes.fromhex(part) for part in unit.split("|")]
    index = Index(SYNTAXES["h264"], length)
    index.add(Unit(b"".join((len(part).to_bytes(4, "big") if length else b"\0\0\1") + part for part in parts)))
    assert index.doubt == (doubt if length or "00 00 00" not in unit else "")


def packets_of(path):
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def test_damage_on_the_way_to_a_wanted_frame_is_concealed_and_counted_as_from_the_start(tmp_path, plain):
    content, (place, size) = bytearray(plain.read_bytes()), packets_of(plain)[SPACING]
    # Half of the picture: a few bytes may by chance be another picture's, which no decoder notices.
    content[place + size // 4 : place + 3 * size // 4] = b"\x55" * (3 * size // 4 - size // 4)
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    found = both(path, Listed((0, SPACING + 2)))
    assert (found.way, found.decode_errors > 0) == ("start: damaged", True)


def test_a_hole_anywhere_is_counted_as_from_the_start(tmp_path, plain):
    content, (place, size) = bytearray(plain.read_bytes()), packets_of(plain)[300]
    content[place + 40 : place + size] = bytes(size - 40)
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    found = both(path, Listed((0, COUNT - 1)))
    assert (found.way, found.decode_errors > 0) == ("start: damaged", True)


def test_damage_that_shows_only_in_decoding_is_not_looked_for_where_nothing_is_decoded(tmp_path, plain):
    content, (place, size) = bytearray(plain.read_bytes()), packets_of(plain)[12 * SPACING]
    content[place + size // 2 : place + size // 2 + 8] = b"\x55" * 8
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    whole, sought = (read(path, Listed((0, COUNT - 1))) for read in (by_pyav_from_start, by_pyav))
    np.testing.assert_array_equal(sought.frames_THWC, whole.frames_THWC)
    assert (whole.decode_errors > 0, sought.decode_errors, sought.way) == (True, 0, "seek")


def test_a_change_of_resolution_that_lies_between_wanted_frames_is_refused_too(tmp_path):
    parts = [moving(tmp_path / "a.ts"), moving(tmp_path / "b.ts", height=2 * HEIGHT, first=COUNT)]
    path = tmp_path / "v.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for read in (by_pyav_from_start, by_pyav):
        with pytest.raises(ValueError, match=f"its resolution changes .* at frame {COUNT}"):
            read(path, Listed((0, 1)))


def test_only_a_part_of_the_file_is_decoded(plain, monkeypatch):
    from sharpv.videos import container

    monkeypatch.setattr(container, "_decode", lambda *_: pytest.fail("decoded from the start"))
    assert by_pyav(plain, Evenly(4)).way == "seek"
