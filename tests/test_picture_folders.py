"""A folder of pictures read as a video."""

import pytest
from grey import HEIGHT, WIDTH, levels
from PIL import Image

from sharpv.videos.frames import decode_frames, read_video


def test_a_folder_of_pictures_is_a_video(tmp_path):
    for number in range(6):
        Image.new("RGB", (WIDTH, HEIGHT), (20 * number,) * 3).save(tmp_path / f"{number + 1:05d}.png")
    assert levels(decode_frames(tmp_path, 3)) == [0, 2, 5]


def pictures(folder, numbers, size=(WIDTH, HEIGHT)):
    for number in numbers:
        Image.new("RGB", size, (20 * number,) * 3).save(folder / f"{number}.png")


def test_pictures_are_taken_in_the_order_of_their_numbers(tmp_path):
    pictures(tmp_path, range(1, 13))
    found = read_video(tmp_path, 12)
    assert levels(found.frames_THWC) == list(range(1, 13))
    assert found.places == list(range(12))


def test_hidden_files_in_a_folder_are_no_pictures(tmp_path):
    pictures(tmp_path, (1, 2))
    (tmp_path / "._1.png").write_bytes(b"Mac OS X")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    assert levels(decode_frames(tmp_path, 2)) == [1, 2]


def test_pictures_that_cannot_make_a_video_are_named(tmp_path):
    pictures(tmp_path, (1, 2))
    pictures(tmp_path, (3,), (WIDTH, 2 * HEIGHT))
    with pytest.raises(ValueError, match=r"3.png is 64 x 96 and 1.png 64 x 48"):
        decode_frames(tmp_path, 3)
    (tmp_path / "3.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"3.png cannot be read"):
        decode_frames(tmp_path, 3)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="without pictures"):
        decode_frames(tmp_path, 3)
