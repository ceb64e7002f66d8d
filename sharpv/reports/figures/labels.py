"""Texts beside their points without a legend: each goes where it hides least."""

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.transforms import Bbox

Place = tuple[float, float]

DISTANCES = (5, 11, 19, 29, 42, 58)
"""Points between a mark and its text; beyond the first a thin line joins them."""
HALO: list[AbstractPathEffect] = [withStroke(linewidth=2, foreground="white")]
"""Keeps a text legible where a line passes behind it."""
CROSSING = 0.3
"""What a line through a text counts, as a share of that text covered."""
DIRECTIONS = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))


def label_points(
    axes: Axes,
    places: Sequence[Place],
    texts: Sequence[str],
    colours: Sequence[str],
    avoid: Sequence[tuple[Place, Place]] = (),
) -> None:
    """Write each text near its place, clear of other texts, all places and the lines to avoid where there is room.

    Places and the ends of upright or level lines are in data coordinates. The line from a text to its place crosses
    no other text where that can be helped. Greedy, from the top down, always the same for the same drawing. Call it
    last: limits and layout must stand.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    centres = axes.transData.transform(places)
    taken = [Bbox.from_bounds(x - 3 * scale, y - 3 * scale, 6 * scale, 6 * scale) for x, y in centres]
    lines = [Bbox(axes.transData.transform(ends)) for ends in avoid]
    taken += [
        Bbox.from_extents(line.xmin - scale, line.ymin - scale, line.xmax + scale, line.ymax + scale) for line in lines
    ]
    written, leaders = list[Bbox](), list[Path]()
    for index in sorted(range(len(texts)), key=lambda i: -centres[i][1]):
        text = axes.text(0, 0, texts[index], fontsize=6.5)
        size = text.get_window_extent()
        text.remove()
        choices = [(near, across, up) for near in DISTANCES for across, up in DIRECTIONS]
        boxes = [_box(centres[index], size, near * scale, across, up) for near, across, up in choices]
        others = [box for place, box in enumerate(taken) if place != index]
        own = [
            Path([centres[index], ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)]) if near > DISTANCES[0] else None
            for box, (near, *_) in zip(boxes, choices, strict=True)
        ]
        cost = [
            _cost(box, others, written, axes.bbox)
            + near * size.height / 40
            + CROSSING * _area(size) * _crossings(box, leader, written, leaders)
            for box, leader, (near, *_) in zip(boxes, own, choices, strict=True)
        ]
        best = cost.index(min(cost))
        near, across, up = choices[best]
        taken.append(boxes[best])
        written.append(boxes[best])
        leaders += [line for line in own[best : best + 1] if line is not None]
        anchor = {-1: "right", 0: "center", 1: "left"}[across]
        level = {-1: "top", 0: "center", 1: "bottom"}[up]
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": colours[index], "shrinkA": 0, "shrinkB": 2}
        note = axes.annotate(
            texts[index],
            places[index],
            xytext=(across * near, up * near * 0.7),
            textcoords="offset points",
            ha=anchor,
            va=level,
            fontsize=6.5,
            color=colours[index],
            arrowprops=line if near > DISTANCES[0] else None,
        )
        note.set_in_layout(False)
        note.set_path_effects(HALO)


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The values, neighbours closer than `gap` pushed apart from each other; the others stay where they are."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    placed = list(values)
    for _ in range(100 * len(values)):
        for lower, upper in pairwise(order):
            push = max(0.0, gap - (placed[upper] - placed[lower])) / 2
            placed[lower], placed[upper] = placed[lower] - push, placed[upper] + push
    return placed


def _box(centre: Sequence[float], size: Bbox, near: float, across: int, up: int) -> Bbox:
    x, y = centre[0] + across * near, centre[1] + up * near * 0.7
    left = {-1: x - size.width, 0: x - size.width / 2, 1: x}[across]
    bottom = {-1: y - size.height, 0: y - size.height / 2, 1: y}[up]
    return Bbox.from_bounds(left, bottom, size.width, size.height)


def _cost(box: Bbox, others: Sequence[Bbox], texts: Sequence[Bbox], inside: Bbox) -> float:
    """Overlapping area with what is there, ten times that with a text and the area outside the axes."""
    hidden = sum(_area(Bbox.intersection(box, other)) for other in others)
    unreadable = sum(_area(Bbox.intersection(box, text)) for text in texts)
    return hidden + 10 * (unreadable + _area(box) - _area(Bbox.intersection(box, inside)))


def _crossings(box: Bbox, leader: Path | None, written: Sequence[Bbox], leaders: Sequence[Path]) -> int:
    """Lines across this text, and texts and lines across this text's own line."""
    crossing = sum(line.intersects_bbox(box) for line in leaders)
    if leader is not None:
        crossing += sum(leader.intersects_bbox(other) for other in written)
        crossing += sum(leader.intersects_path(line) for line in leaders)
    return crossing


def _area(box: Bbox | None) -> float:
    return box.width * box.height if box is not None else 0.0
