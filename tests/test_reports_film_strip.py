"""The film strip shows what was kept: pixel for pixel, bar for bar, and refuses masks that do not fit."""

import base64

import matplotlib as mpl
import numpy as np
import pytest

from sharpv.reports.figures.film_strip import Strip, dim_dropped, film_strip, film_strips
from sharpv.reports.figures.style import BLUE, SKY, paper_style, save
from sharpv.reports.masks import kept_mask


def frames(count=4, height=12, width=18):
    return np.random.default_rng(0).integers(60, 255, (count, height, width, 3), dtype=np.uint8)


def masks(count=4, grid=(3, 3)):
    return np.random.default_rng(1).random((count, *grid)) < 0.5


def test_kept_patches_are_untouched_and_dropped_ones_are_dark_and_grey():
    frame, kept = frames()[0], np.array([[True, False], [False, True]])
    shown = dim_dropped(frame, kept)
    assert (shown[:6, :9] == frame[:6, :9]).all()
    assert (shown[6:, 9:] == frame[6:, 9:]).all()
    dropped = np.concatenate([shown[:6, 9:].reshape(-1, 3), shown[6:, :9].reshape(-1, 3)])
    assert (dropped.max(-1) == dropped.min(-1)).all()
    assert dropped.max() < frame.min() + 20
    assert shown.dtype == np.uint8


def test_patches_cover_frames_whose_size_the_grid_does_not_divide():
    frame = np.full((7, 10, 3), 200, dtype=np.uint8)
    assert (dim_dropped(frame, np.ones((3, 4), bool)) == 200).all()
    assert (dim_dropped(frame, np.zeros((3, 4), bool)) < 100).all()


def bars(figure, colours):
    wanted = {mpl.colors.to_hex(colour) for colour in colours}
    found = [patch for axes in figure.axes for patch in axes.patches]
    return [patch.get_height() for patch in found if mpl.colors.to_hex(patch.get_facecolor()) in wanted]


def test_each_frame_has_its_bar_even_where_not_all_frames_are_shown():
    kept = masks(32)
    figure = film_strip(frames(32), {"SharpV": kept}, shown=8)
    assert bars(figure, [BLUE, SKY]) == pytest.approx(kept.mean((1, 2)).tolist())
    assert len(bars(figure, [BLUE])) == 8
    assert [len(axes.images) for axes in figure.axes] == [8, 8, 0]


def test_pruners_stand_side_by_side_with_their_share_and_caption():
    kept = {"SharpV": masks(), "Everything": np.ones((4, 3, 3), bool)}
    figure = film_strip(frames(), kept, title="A title", captions={"SharpV": "answers B"})
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"SharpV", "Everything", "100% kept", "Video"} <= set(texts)
    assert any("answers B" in text for text in texts)
    assert [len(axes.images) for axes in figure.axes] == [4, 4, 0, 4, 0]


def test_strips_of_several_videos_stand_below_each_other_without_touching():
    strips = [
        Strip(frames(count, height), {"SharpV": masks(count)}, title)
        for count, height, title in ((4, 12, "First"), (9, 30, "Second"))
    ]
    figure = film_strips(strips)
    assert [text.get_text() for text in figure.texts] == ["First", "Second"]
    assert [len(axes.images) for axes in figure.axes] == [4, 4, 0, 8, 8, 0]
    edges = [edge for axes in figure.axes for edge in (axes.get_position().y1, axes.get_position().y0)]
    assert edges == pytest.approx(sorted(edges, reverse=True))
    assert 0 < edges[-1] < edges[0] < 1


def test_a_long_name_takes_two_lines_inside_the_picture():
    figure = film_strip(frames(), {"Visual SharpV (K = 1.6)": masks()})
    figure.draw_without_rendering()
    names = [text for axes in figure.axes for text in axes.texts if "Visual" in text.get_text()]
    assert [name.get_text() for name in names] == ["Visual SharpV\n(K = 1.6)"]
    assert names[0].get_window_extent().x0 >= 0


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (masks(3), "mask of 'a' is bool"),
        (masks().astype(float), "mask of 'a' is float64"),
        (masks()[0], "mask of 'a' is bool"),
    ],
)
def test_masks_that_do_not_fit_are_refused(kept, message):
    with pytest.raises(ValueError, match=message):
        film_strip(frames(), {"a": kept})


def test_frames_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match="pass uint8"):
        film_strip(frames().astype(float), {"a": masks()})


def test_the_same_drawing_gives_the_same_bytes_and_leaves_matplotlib_as_it_was(tmp_path):
    before = dict(mpl.rcParams)
    for name in ("a", "b"):
        with paper_style():
            paths = save(film_strip(frames(), {"SharpV": masks()}), tmp_path / name / "strip.of")
        assert [path.name for path in paths] == ["strip.of.svg", "strip.of.png"]
    assert (tmp_path / "a/strip.of.svg").read_bytes() == (tmp_path / "b/strip.of.svg").read_bytes()
    assert (tmp_path / "a/strip.of.png").read_bytes() == (tmp_path / "b/strip.of.png").read_bytes()
    assert dict(mpl.rcParams) == before


def test_stored_bits_become_the_mask_they_were_packed_from():
    kept = masks(5, (3, 7))
    stored = base64.b64encode(np.packbits(kept.flatten()).tobytes()).decode()
    assert (kept_mask(stored, 5, [3, 7]) == kept).all()
    with pytest.raises(ValueError, match="stored bits for 50 frames"):
        kept_mask(stored, 50, [3, 7])
