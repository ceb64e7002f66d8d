"""The crossover figure: every method named once, texts apart, and nothing asked of the set of methods."""

from itertools import combinations

import pytest
from matplotlib.text import Text

from sharpv.metrics.profiling.crossover import METRICS, crossover_figure
from sharpv.metrics.profiling.results import COLUMNS, Compared
from sharpv.metrics.profiling.targets import target_lines
from sharpv.reports.figures.style import paper_style

TTFT, TPOT = METRICS


def compared_row(name, ttft, tpot=0.1, dense_ttft=10.0, spread=0.01):
    """A row beside dense, of which 6 seconds are vision; its quartiles lie `spread` beside the median."""

    def row(name, ttft, tpot):
        times = {"ttft_s": ttft, "tpot_s": tpot}
        times |= {f"{key}_{end}": value * factor for key, value in times.items()
                  for end, factor in (("low", 1 - spread), ("high", 1 + spread))}  # fmt: skip
        stages = {"vision_s": 6.0, "prefill_s": 3.9, "first_token_s": 0.1, "flops_prefill": ttft}
        return dict.fromkeys(COLUMNS, "1") | {"pruner": name} | {key: str(v) for key, v in (times | stages).items()}

    return Compared(row(name, ttft, tpot), row("dense", dense_ttft, 0.1))


def drawn(blocks):
    with paper_style():
        figure = crossover_figure(
            {frames: [compared_row("dense", 10.0), *rows] for frames, rows in blocks.items()}, "A"
        )
        figure.draw_without_rendering()
    above, below = figure.subfigs
    return figure, above.axes, below.axes


def written(axes):
    return [text.get_text() for text in axes.texts]


MANY = [
    *(
        compared_row(name, 8.01 + 0.01 * place, 0.09)
        for place, name in enumerate(["sharpv", "sharpv_visual", "random"])
    ),
    *(compared_row(f"method_{place}", 8 + 0.02 * place, 0.09 + 0.001 * place) for place in range(12)),
]


def test_every_method_has_its_row_fastest_first():
    _, _, ranks = drawn({4: MANY, 8: MANY})
    names = [label.get_text() for label in ranks[0].get_yticklabels()]
    assert sorted(names) == sorted(row.name for row in MANY)
    assert names[0] == "method_0"
    assert names[-1] == "method_11"


def test_few_curves_are_named_and_no_text_hides_another():
    figure, curves, _ = drawn({4: MANY, 8: MANY})
    named = {"sharpv", "sharpv_visual", "random", "fastest: method_0", "slowest: method_11"}
    assert set(written(curves[0])) == named | {"bound of sharpv", "vision only"}
    assert set(written(curves[1])) == named
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]  # an Annotation's own would count its line too
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize(
    ("ttfts", "pays"),
    [((9, 9, 9), 2), ((9, 10, 9), 8), ((12, 10.1, 9), 8), ((9, 9, 11), None), ((9.9, 9.9, 9.9), None)],
)
def test_it_pays_from_where_the_quartiles_stay_apart(ttfts, pays):
    points = {frames: compared_row("any", ttft) for frames, ttft in zip((2, 4, 8), ttfts, strict=True)}
    assert TTFT.pays_from(points) == pays
    assert TPOT.pays_from(points) is None


def test_what_is_faster_than_vision_alone_is_written_above_the_panel_and_sets_no_scale():
    _, (curve, _), (rank, _) = drawn({4: [*MANY, compared_row("fewer_frames", 2)], 8: MANY})
    assert {"fewer_frames", "\N{UPWARDS ARROW} 5.0"} <= set(written(curve))
    assert curve.get_ylim()[1] < 2
    assert rank.get_xlim()[1] < 2


@pytest.mark.parametrize(
    "blocks",
    [
        {4: []},
        {4: [compared_row("unheard_of", 9)]},
        {4: [compared_row("sharpv_new", 9)], 8: [compared_row("sharpv", 9)]},
        {4: [compared_row("uniform", 9)], 8: []},
    ],
)
def test_any_set_of_methods_is_drawn(blocks):
    _, _, ranks = drawn(blocks)
    names = [label.get_text() for label in ranks[0].get_yticklabels()]
    assert sorted(names) == sorted({row.name for rows in blocks.values() for row in rows})
    absent = {row.name for rows in blocks.values() for row in rows} - {row.name for row in blocks[max(blocks)]}
    assert written(ranks[0]).count("not measured") == len(absent)


def test_a_target_is_missed_by_medians_and_marked_where_quartiles_overlap():
    slower = {4: [compared_row("dense", 10.0), compared_row("fastv", 9.0, 0.101), compared_row("sharpv", 8.0, 0.12)]}
    (line,) = [line for line in target_lines(slower) if line.startswith("| decode no slower")]
    assert line.endswith("| +20.00%, sharpv at 4 | fastv at 4: +1.0%*; sharpv at 4: +20.0% |")
