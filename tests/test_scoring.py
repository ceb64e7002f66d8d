"""Scores: every question counts, letters and exact option texts are understood, nothing is guessed."""

import pytest

from sharpv.benchmarks import scoring

OPTIONS = ["red", "blue", "top-left", "a man"]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("B. blue", "B"),
        ("Answer: C", "C"),
        ("Best option: (D", "D"),
        ("A man", "D"),
        ("blue", "B"),
        ("Top-left.", "C"),
        ("a man", "D"),
        ("", None),
        ("green", None),
        ("E", None),
        ("Blueish", None),
    ],
)
def test_a_letter_alone_or_the_exact_text_of_one_option_is_an_answer(text, letter):
    assert scoring.parse_letter(text, OPTIONS) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B, the blue cube", "B"),
        ("B because it is blue", "B"),
        ("B\nThe cube is blue.", "B"),
        ("B blue cube", "B"),
        ("The answer is: **B**", "B"),
        ("The answer is B because it moves", "B"),
        ("The answer is a blue cube.", "B"),
        ("I think that the answer is (C).", "C"),
        ("A red ball", "C"),
        ("The answer is a dog.", None),
        ("A dog runs", None),
        ("red ball or blue cube", None),
        ("(A) or (C)", None),
        ("A or C", None),
        ("A, B", None),
    ],
)
def test_answers_that_go_on_are_read_and_an_article_is_no_letter(text, letter):
    assert scoring.parse_letter(text, ["green", "blue cube", "red ball"]) == letter


@pytest.mark.parametrize(
    ("text", "letter"), [("A", "A"), ("(A)", "A"), ("A.", "A"), ("a", "B"), ("n", "A"), ("B. a", "B")]
)
def test_a_capital_letter_names_an_option_also_where_options_are_letters(text, letter):
    assert scoring.parse_letter(text, ["n", "a", "o"]) == letter


def test_an_unparsed_answer_counts_as_wrong_and_unanswered():
    doc = {"question": "What?", "candidates": OPTIONS, "answer": "blue", "video": "v.mp4"}
    assert scoring.mvbench_results(doc, ["no idea"])["accuracy"] == {
        "score": 0.0,
        "video": "v.mp4",
        "answered": False,
        "parsed": "",
    }
    assert scoring.mvbench_results(doc, ["blue"])["accuracy"]["score"] == 1.0


def test_empty_answers_stay_in_the_denominator():
    doc = {"question": "What?", "candidates": OPTIONS, "answer": "blue", "video": "v.mp4"}
    items = [scoring.mvbench_results(doc, [text])["accuracy"] for text in ("B", "", "", "")]
    assert scoring.mean_score(items) == 0.25


def test_open_answers_are_scored_by_exact_match_and_judged_by_overlap():
    doc = {"question": "What moves?", "answer": "red ring", "video_name": "7"}
    right, near = (scoring.actnetqa_results(doc, [text])["accuracy"] for text in ("Red ring.", "red cross"))
    assert (right["score"], right["judge_score"]) == (1.0, 5.0)
    assert (near["score"], near["judge_score"]) == (0.0, 2.5)
    assert scoring.judge_overlap("", "red ring") == 0.0
