"""Frames of videos: which are taken, and that every container, rotation and decoder gives the right ones."""

import os
import shutil
import struct
import subprocess
import sys
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from grey import HEIGHT, WIDTH, levels

from sharpv.videos.frames import Evenly, Listed, Segments, decode_frames, read_video


def written(path, count=12, codec="libx264", times=None):
    """A video whose frame i has the grey level 20 i, with a bright left edge."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            picture = np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)
            picture[:, :8] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = times[number] if times else 100 * number
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(params=["pyav", "decord", "torchcodec"])
def decoder(request, tmp_path):
    """Each decoder that is installed and finds its libraries."""
    try:
        decode_frames(written(tmp_path / "probe.mp4"), Evenly(1, request.param))
    except ValueError as error:
        if "is not installed" not in str(error):
            raise
        pytest.skip(str(error))
    return request.param


def or_refused(decoder, *unable):
    """What a decoder other than PyAV cannot read ends in an error that names PyAV."""
    return pytest.raises(ValueError, match="decoder=pyav") if decoder in unable else nullcontext()


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx"), ("a.ts", "libx264"), ("a.mkv", "libx264")]
)
def test_frames_are_counted_by_decoding_in_any_container(tmp_path, name, codec, decoder):
    with or_refused(decoder, *(("decord", "torchcodec") if name == "a.ts" else ())):
        frames = decode_frames(written(tmp_path / name, codec=codec), Evenly(4, decoder))
        assert frames.shape == (4, HEIGHT, WIDTH, 3)
        assert levels(frames) == [0, 3, 7, 11]


def test_a_variable_frame_rate_is_sampled_by_frame(tmp_path, decoder):
    times = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 5000, 9000]
    assert levels(decode_frames(written(tmp_path / "v.mp4", times=times), Evenly(4, decoder))) == [0, 3, 7, 11]


def test_fewer_frames_than_asked_are_repeated(tmp_path, decoder):
    assert levels(decode_frames(written(tmp_path / "short.mp4", count=2), Evenly(4, decoder))) == [0, 0, 0, 1]


def test_a_bounded_segment_stays_inside_its_seconds(tmp_path, decoder):
    path = written(tmp_path / "v.mp4")
    assert levels(decode_frames(path, Segments(2, decoder, bound=(0.5, 0.9)))) == [6, 8]


def turned(path, right_x, right_y, down_x, down_y):
    """The file with a display matrix that sends a step to the right and a step down there."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    entries = [round(0x10000 * value) for value in (right_x, right_y, 0, down_x, down_y)]
    content[place : place + 36] = struct.pack(">9i", *entries, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
    return path


def corners(frame):
    """Mean levels of the four corners, row by row."""
    high, wide = frame.shape[0] // 4, frame.shape[1] // 4
    parts = [frame[:high, :wide], frame[:high, -wide:], frame[-high:, :wide], frame[-high:, -wide:]]
    return [round(float(part.mean()) / 60) for part in parts]


def cornered(path):
    """A video whose corners have the levels 0, 1, 2, 3."""
    picture = np.kron(np.array([[0, 60], [120, 180]], np.uint8), np.ones((HEIGHT // 2, WIDTH // 2), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture[..., None].repeat(3, 2), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("matrix", "expected", "filters"),
    [
        ((1, 0, 0, 1), [0, 1, 2, 3], []),
        ((-1, 0, 0, 1), [1, 0, 3, 2], [("hflip", "")]),
        ((1, 0, 0, -1), [2, 3, 0, 1], [("vflip", "")]),
        ((-1, 0, 0, -1), [3, 2, 1, 0], [("hflip", ""), ("vflip", "")]),
        ((0, 1, 1, 0), [0, 2, 1, 3], [("transpose", "cclock_flip")]),
        ((0, 1, -1, 0), [2, 0, 3, 1], [("transpose", "clock")]),
        ((0, -1, 1, 0), [1, 3, 0, 2], [("transpose", "cclock")]),
        ((0, -1, -1, 0), [3, 1, 2, 0], [("transpose", "clock_flip")]),
        ((0.001, 2, -2, 0.001), [2, 0, 3, 1], [("transpose", "clock")]),
    ],
)
def test_all_eight_orientations_are_shown_as_ffmpeg_shows_them(tmp_path, matrix, expected, filters, decoder):
    path = cornered(tmp_path / "v.mp4")
    plain = decode_frames(path, 1)[0]
    turned(path, *matrix)
    with or_refused(decoder, *(("decord", "torchcodec") if matrix != (1, 0, 0, 1) else ())):
        frame = decode_frames(path, Evenly(1, decoder))[0]
        assert corners(frame) == expected
        np.testing.assert_array_equal(frame, filtered(plain, filters))


def filtered(frame, filters):
    """The frame behind filters of ffmpeg's, those that it inserts itself for such a matrix."""
    graph = av.filter.Graph()
    last = graph.add_buffer(width=frame.shape[1], height=frame.shape[0], format="rgb24", time_base=Fraction(1, 10))
    for name, argument in [*filters, ("copy", ""), ("buffersink", "")]:
        node = graph.add(name, argument) if argument else graph.add(name)
        last.link_to(node)
        last = node
    graph.configure()
    graph.push(av.VideoFrame.from_ndarray(frame, format="rgb24"))
    return graph.pull().to_ndarray(format="rgb24")


@pytest.mark.parametrize("angle", [45, -30, 89, 1])
def test_an_angle_that_is_no_quarter_is_refused(tmp_path, angle):
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    path = turned(cornered(tmp_path / "v.mp4"), cosine, sine, -sine, cosine)
    with pytest.raises(ValueError, match=r"v.mp4: its display matrix .* no multiple of 90 degrees"):
        decode_frames(path, 2)


def joined(path, *parts):
    """H.264 streams one behind the other, as a recording whose resolution changes."""
    stream = b""
    for part in parts:
        with av.open(str(part)) as container:
            to_plain = av.BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
            for packet in container.demux(container.streams.video[0]):
                stream += b"".join(bytes(one) for one in to_plain.filter(packet if packet.size else None))
    path.write_bytes(stream)
    return path


def test_a_change_of_resolution_is_named(tmp_path):
    with av.open(str(tmp_path / "large.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 2 * HEIGHT, 2 * WIDTH, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(2 * WIDTH, 2 * HEIGHT, "yuv420p")))
        container.mux(stream.encode())
    path = joined(tmp_path / "v.h264", written(tmp_path / "small.mp4"), tmp_path / "large.mp4")
    with pytest.raises(ValueError, match=r"v.h264: its resolution changes from 64 x 48 to 128 x 96 at frame 12"):
        decode_frames(path, 4)


def with_cover(path, video):
    """The first stream is a cover picture, as some taggers write; `video` says whether one follows."""
    with av.open(str(path), "w") as container:
        cover = container.add_stream("png" if path.suffix == ".mp4" else "mjpeg")
        cover.height, cover.width, cover.pix_fmt = HEIGHT, WIDTH, "rgb24" if path.suffix == ".mp4" else "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        stream = container.add_stream("libx264", rate=10) if video else container.add_stream("libmp3lame", rate=44100)
        if video:
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 240, np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode())
        for number in range(12 if video else 0):
            picture = np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if not video:
            container.mux(stream.encode(silence()))
        container.mux(stream.encode())
    return path


def silence():
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.int16), format="s16p", layout="stereo")
    frame.rate = 44100
    return frame


def test_a_cover_picture_is_no_video(tmp_path, decoder):
    path = with_cover(tmp_path / "v.mp4", video=True)
    assert levels(decode_frames(path, Evenly(4, decoder))) == [0, 3, 7, 11]


def test_a_song_with_a_cover_or_without_is_no_video(tmp_path, decoder):
    with pytest.raises(ValueError, match=r"song.mp3.*it holds no video stream, only a cover picture"):
        decode_frames(with_cover(tmp_path / "song.mp3", video=False), Evenly(4, decoder))
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        container.mux(stream.encode(silence()))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"song.mp4.*it holds no video stream$|song.mp4.*no video stream; decoder"):
        decode_frames(tmp_path / "song.mp4", Evenly(4, decoder))


def textured(path, codec="libx264", count=60):
    """A video that changes everywhere, so that damage spreads."""
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.gop_size = 10
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
        for number in range(count):
            picture = np.roll(noise // 2 + 60, 3 * number, axis=1)
            picture[3 * number % 200 :][:30, 50:90] = (255, 4 * number % 256, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def damaged(path):
    content, generator = bytearray(path.read_bytes()), np.random.default_rng(1)
    for place in generator.integers(len(content) // 5, len(content) * 4 // 5, 40):
        content[place : place + 8] = generator.bytes(8)
    path.write_bytes(content)
    return path


HASH = "import sys, hashlib; from pathlib import Path; from sharpv.videos.frames import read_video\n"
HASH += "found = read_video(Path(sys.argv[1]), 30)\n"
HASH += "print(hashlib.sha256(found.frames_THWC.tobytes()).hexdigest(), found.decode_errors)"


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_a_damaged_video_gives_the_same_frames_in_every_process_and_its_errors_are_counted(tmp_path, name):
    path = damaged(textured(tmp_path / name))
    cores = os.sched_getaffinity(0)
    commands = [[sys.executable, "-c", HASH, str(path)]] * 4
    if shutil.which("taskset"):
        commands += [["taskset", "-c", str(min(cores)), *commands[0]]]
    seen = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands}
    assert len(seen) == 1
    assert int(seen.pop().split()[1]) > 5
    assert read_video(textured(tmp_path / f"whole_{name}"), 30).decode_errors == 0


@pytest.mark.parametrize("codec", ["libx264", "libvpx"])
def test_a_hole_in_the_middle_is_counted(tmp_path, codec):
    path = textured(tmp_path / "v.mkv", codec)
    content = path.read_bytes()
    size = len(content)
    path.write_bytes(content[: size * 2 // 5] + bytes(size // 5) + content[size * 3 // 5 :])
    errors = {read_video(path, 4).decode_errors for _ in range(3)}
    assert len(errors) == 1
    assert errors.pop() > 0


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.webm", "libvpx")])
def test_half_a_video_is_refused(tmp_path, name, codec, decoder):
    path = textured(tmp_path / name, codec)
    if path.suffix == ".mp4":
        path = index_first(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{name}.*it ends after \d.\d of the 2.4 s that it states: get it anew"):
        decode_frames(path, Evenly(4, decoder))


def index_first(path):
    """The same file with its index before its frames, as files that are made for the web have it."""
    moved = path.with_name(f"web_{path.name}")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return moved.rename(path)


def test_a_long_last_picture_is_no_half_video(tmp_path, decoder):
    times = [*range(0, 1100, 100), 60000]
    for name in ("v.mp4", "v.mkv"):
        assert levels(decode_frames(written(tmp_path / name, times=times), Evenly(4, decoder))) == [0, 3, 7, 11]


def cut_by_an_edit_list(path):
    """A clip that was cut without encoding it anew: its edit list leaves frames before the cut out."""
    textured(path)
    with av.open(str(path)) as source, av.open(str(path.with_name("cut.mp4")), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        shift = round(0.5 / source.streams.video[0].time_base)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    return path.with_name("cut.mp4")


def test_an_edit_list_is_followed_or_refused(tmp_path, decoder):
    path = cut_by_an_edit_list(tmp_path / "v.mp4")
    whole = decode_frames(tmp_path / "v.mp4", 60)
    with or_refused(decoder, "decord", "torchcodec"):
        found = read_video(path, Evenly(4, decoder))
        assert found.places == [0, 15, 30, 46]
        np.testing.assert_array_equal(found.frames_THWC, whole[np.array(found.places) + 13])


def test_avi_is_read_by_pyav_alone(tmp_path, decoder):
    path = written(tmp_path / "v.avi", codec="mpeg4")
    with or_refused(decoder, "decord", "torchcodec"):
        assert levels(decode_frames(path, Evenly(4, decoder))) == [0, 3, 7, 11]


def test_a_relative_path_with_a_colon_is_a_file(tmp_path, monkeypatch, decoder):
    written(tmp_path / "a:b.mp4")
    monkeypatch.chdir(tmp_path)
    assert levels(decode_frames(Path("a:b.mp4"), Evenly(4, decoder))) == [0, 3, 7, 11]


def test_a_named_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ValueError, match=r"pipe.mp4 is neither a file nor a folder"):
        decode_frames(tmp_path / "pipe.mp4", 4)


def test_frames_can_be_asked_for_by_their_places(tmp_path, decoder):
    path = written(tmp_path / "v.mp4")
    found = read_video(path, Listed((2, 2, 9), decoder))
    assert (levels(found.frames_THWC), found.places) == ([2, 2, 9], [2, 2, 9])
    with pytest.raises(ValueError, match="the video holds 12: it is another one"):
        read_video(path, Listed((2, 12), decoder))


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        decode_frames(tmp_path / "none.mp4", 4)
    (tmp_path / "broken.mp4").write_bytes(written(tmp_path / "v.mp4").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"broken.mp4 cannot be read"):
        decode_frames(tmp_path / "broken.mp4", 4)
    with pytest.raises(ValueError, match="decoder 'vhs' is none of pyav, pyav_from_start, decord, torchcodec"):
        decode_frames(tmp_path / "v.mp4", Evenly(4, "vhs"))


def test_every_decoder_gives_the_same_frames(tmp_path, decoder):
    path = written(tmp_path / "v.mp4")
    for rule in (Evenly, Segments):
        np.testing.assert_array_equal(decode_frames(path, rule(5, decoder)), decode_frames(path, rule(5)))


def test_a_decoder_that_is_not_installed_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(ValueError, match="use decoder=pyav"):
        decode_frames(written(tmp_path / "v.mp4"), Evenly(4, "decord"))
