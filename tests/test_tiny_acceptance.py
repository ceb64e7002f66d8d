"""The marks that the tiny model is held to are read off the floor table, and a table that cannot tell is refused."""

import csv

import pytest

from sharpv.paths import REPOSITORY
from sharpv.tiny.acceptance import OPEN_QUESTIONS, PRUNED, main, marks

GRADED = {
    "dense": 90,
    "floor_random_75": 88,
    "floor_random_50": 84,
    "floor_random_25": 75,
    "random_tenth": 60,
    "floor_half_frames": 80,
    "floor_half_grid": 82,
    "blind": 25,
}


def table(accuracies=GRADED, unanswered=0.0, questions=OPEN_QUESTIONS + 600):
    return {
        name: {
            "row": name,
            "avg_acc": str(accuracy),
            "actnetqa_acc": str(accuracy),
            "unanswered": str(unanswered),
            "n_questions": str(questions),
        }
        for name, accuracy in accuracies.items()
    }


def missed(rows):
    return {mark.name for mark in marks(rows) if not mark.met}


def test_graded_losses_meet_every_mark():
    assert missed(table()) == set()


@pytest.mark.parametrize(
    ("row", "accuracy", "mark"),
    [
        ("blind", 41, "no video"),
        ("floor_random_75", 86, "lost at random 75%"),
        ("floor_random_25", 69, "lost at random 25%"),
        ("floor_random_25", 86, "lost at random 25%"),
        ("random_tenth", 76, "lost at random 10%"),
        ("floor_half_frames", 77, "lost with half the frames"),
        ("floor_half_grid", 77, "lost with a grid of half the tokens"),
    ],
)
def test_a_row_that_loses_too_much_or_too_little_misses_its_mark_alone(row, accuracy, mark):
    assert missed(table(GRADED | {row: accuracy})) == {mark}


def test_answers_without_an_option_count_against_questions_with_options_alone():
    share = {mark.name: mark.measured for mark in marks(table(unanswered=15))}
    assert share["answers without an option, % of all pruned"] == pytest.approx(100 * 15 / 600)
    assert missed(table(unanswered=15)) == {"answers without an option, % of all pruned"}


def test_an_open_answer_that_goes_on_behind_its_end_is_told():
    rows = table()
    rows["floor_random_50"]["actnetqa_acc"] = "79"
    assert missed(rows) == {"ActNet-QA lost at random 50%"}


def test_tables_without_a_row_or_of_part_of_the_questions_are_refused():
    for name in ("dense", *PRUNED, "blind"):
        with pytest.raises(ValueError, match=f"no row {name}"):
            marks({other: row for other, row in table().items() if other != name})
    with pytest.raises(ValueError, match="without a limit"):
        marks(table(questions=8))


def test_the_command_ends_with_1_where_a_mark_is_missed(tmp_path, capsys):
    for name, accuracies, code in (("good", GRADED, 0), ("blind", GRADED | {"blind": 50}, 1)):
        path = tmp_path / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, ["row", "avg_acc", "actnetqa_acc", "unanswered", "n_questions"])
            writer.writeheader()
            writer.writerows(table(accuracies).values())
        assert main(path) == code
    assert capsys.readouterr().out.count("MISSED") == 1


def test_the_floor_table_of_this_checkout_meets_every_mark(capsys):
    assert main(REPOSITORY / "results" / "tiny" / "floor.csv") == 0, capsys.readouterr().out
