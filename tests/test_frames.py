"""Frames of videos: which are taken, and that every container, rotation and decoder gives the right ones."""

import struct
from contextlib import nullcontext
from fractions import Fraction

import av
import numpy as np
import pytest

from sharpv.videos.frames import Evenly, Segments, decode_frames

HEIGHT, WIDTH = 48, 64


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


def levels(frames):
    """Which frame each one is, by its grey level."""
    return np.rint(frames[:, HEIGHT // 4 : -HEIGHT // 4, WIDTH // 2 :].mean((1, 2, 3)) / 20).astype(int).tolist()


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


def test_a_rotated_video_is_turned_upright(tmp_path, decoder):
    path = written(tmp_path / "v.mp4")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    quarter = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, HEIGHT << 16, 0, 0x40000000)
    content[matrix : matrix + 36] = quarter
    path.write_bytes(content)
    with or_refused(decoder, "decord"):
        frames = decode_frames(path, Evenly(1, decoder))
        assert frames.shape == (1, WIDTH, HEIGHT, 3)
        assert frames[0, :4].mean() > 200 > frames[0, -4:].mean()


def test_a_folder_of_pictures_is_a_video(tmp_path):
    from PIL import Image

    for number in range(6):
        Image.new("RGB", (WIDTH, HEIGHT), (20 * number,) * 3).save(tmp_path / f"{number + 1:05d}.png")
    assert levels(decode_frames(tmp_path, 3)) == [0, 2, 5]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="without pictures"):
        decode_frames(tmp_path, 3)


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        decode_frames(tmp_path / "none.mp4", 4)
    (tmp_path / "broken.mp4").write_bytes(written(tmp_path / "v.mp4").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"broken.mp4 cannot be read"):
        decode_frames(tmp_path / "broken.mp4", 4)
    with pytest.raises(ValueError, match="decoder 'vhs' is none of pyav, decord, torchcodec"):
        decode_frames(tmp_path / "v.mp4", Evenly(4, "vhs"))


def test_every_decoder_gives_the_same_frames(tmp_path, decoder):
    path = written(tmp_path / "v.mp4")
    for rule in (Evenly, Segments):
        np.testing.assert_array_equal(decode_frames(path, rule(5, decoder)), decode_frames(path, rule(5)))


def test_a_decoder_that_is_not_installed_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(ValueError, match="use decoder=pyav"):
        decode_frames(written(tmp_path / "v.mp4"), Evenly(4, "decord"))
