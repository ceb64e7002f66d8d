"""Scores: every question counts, letters and exact option texts are understood, nothing is guessed."""

import pytest

from sharpv.benchmarks import scoring
from sharpv.benchmarks.letters import parse_letter, plain

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
    assert parse_letter(text, OPTIONS) == letter


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
    assert parse_letter(text, ["green", "blue cube", "red ball"]) == letter


@pytest.mark.parametrize(
    ("text", "letter"), [("A", "A"), ("(A)", "A"), ("A.", "A"), ("a", "B"), ("n", "A"), ("B. a", "B")]
)
def test_a_capital_letter_names_an_option_also_where_options_are_letters(text, letter):
    assert parse_letter(text, ["n", "a", "o"]) == letter


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


FOUR = ["The man", "The woman", "A dog", "Nobody"]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B - The woman", "B"),
        ("B \u2013 The woman", "B"),
        ("B</s>", "B"),
        ("B<|im_end|>", "B"),
        ("<answer>B</answer>", "B"),
        (r"\boxed{B}", "B"),
        (r"The answer is \boxed{\text{B}}.", "B"),
        ("\uff08B\uff09", "B"),
        ("B\uff0e", "B"),
        ("I choose B.", "B"),
        ("I would pick option B.", "B"),
        ("It's B", "B"),
        ("It is B.", "B"),
        ("It's the woman, so B.", "B"),
        ("B is correct.", "B"),
        ("Option B is the right one.", "B"),
        ("I choose between them.", None),
        ("It's A woman", None),
        ("It's A cat", None),
        ("B is sleeping", None),
        ("I choose Bob", None),
        (r"\boxed{}", None),
    ],
)
def test_letters_are_read_as_models_write_them_and_words_are_not_letters(text, letter):
    assert parse_letter(text, FOUR) == letter


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("A. 2", ["1", "2", "3"], None),
        ("(A) 2", ["1", "2", "3"], None),
        ("The answer is A. 2", ["1", "2", "3"], None),
        ("C. 2", ["1", "2", "3"], None),
        ("B. 2", ["1", "2", "3"], "B"),
        ("(A) dog", ["man", "woman", "dog"], None),
        ("(C) dog", ["man", "woman", "dog"], "C"),
        ("50", ["5.0", "60", "70"], None),
        ("5.0", ["5.0", "50", "70"], "A"),
        ("The answer is 3.5.", ["35", "3.5", "5"], "B"),
        ("35", ["3.5", "35"], "B"),
        ("15", ["1.5", "20", "30"], None),
        ("3.5 seconds (B)", ["3", "3.5"], "B"),
        ("A.5", ["1", "2"], None),
        (".5", ["5", "50"], None),
        ("1,000", ["1000", "100"], "A"),
        ("-3", ["3", "-3"], "B"),
        ("-3", ["3", "5"], None),
        ("$150", ["$1.50", "$150"], "B"),
        ("3:30", ["3:30", "330"], "A"),
        ("C#", ["C++", "C#", "Java"], "B"),
        ("10%", ["10", "10%", "1"], "B"),
        ("10", ["10", "10%", "1"], "A"),
        ("What?!", ["What?!", "That"], "A"),
        ("top left", ["top-right", "top-left"], "B"),
        ("bottom left", ["top-right", "top-left"], None),
    ],
)
def test_a_letter_beside_another_options_text_is_none_and_numbers_and_signs_are_read_as_they_are(text, options, letter):
    assert parse_letter(text, options) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is not (A).", None),
        ("not A", None),
        ("It isn't A or B.", None),
        ("(A) is wrong.", None),
        ("All but (A)", None),
        ("The answer is not A, it is B.", "B"),
        ("The answer is (B), not (A).", "B"),
        ("I'm not sure, but I choose B.", "B"),
    ],
)
def test_a_denied_letter_is_no_answer_and_what_is_said_instead_is(text, letter):
    assert parse_letter(text, FOUR) == letter


@pytest.mark.parametrize(
    ("said", "letter"),
    [("Answer: B", "B"), ("The answer is B. The woman", "B"), ("(B)", "B"), ("", None), ("I do not know.", None)],
)
@pytest.mark.parametrize("form", ["{}. {}", "({}) {}", "{}) {}"])
def test_behind_an_echo_of_the_options_the_answer_is_read(said, letter, form):
    echo = "\n".join(form.format(name, option) for name, option in zip("ABCD", FOUR, strict=True))
    assert parse_letter(f"{echo}\n{said}", FOUR) == letter


@pytest.mark.parametrize("text", ["A. The man\nB. The woman", "A. The man or B. The woman"])
def test_a_part_of_the_options_repeated_is_no_answer(text):
    assert parse_letter(text, FOUR) is None


@pytest.mark.parametrize("text", ["The answer is A. Or the answer is B.", "B. The answer is C."])
def test_two_different_letters_are_no_answer(text):
    assert parse_letter(text, FOUR) is None


EGO = ["C cooks a meal", "C reads a book", "C cuts bread", "C sleeps"]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("C picks up the knife", None),
        ("C is sleeping", None),
        ("C, holding a knife, cuts bread", None),
        ("C as usual is busy", None),
        ("The answer is C picks up the knife", None),
        ("C sleeps.", "D"),
        ("The answer is C sleeps", "D"),
        ("C", "C"),
        ("C.", "C"),
        ("(C)", "C"),
        ("C. C cuts bread", "C"),
        ("C: C cuts bread.", "C"),
        ("The answer is C.", "C"),
        ("Option C is right", "C"),
        ("D. C sleeps", "D"),
        ("D because C lies in bed", "D"),
        ("C's main objective is to sleep.", None),
        ("So C's hands are wet", None),
        ("The answer is C's cooking", None),
        ("'C'", "C"),
        ("The answer is 'C'", "C"),
    ],
)
def test_the_camera_wearer_c_is_a_person_and_the_letter_c_an_answer(text, letter):
    assert parse_letter(text, EGO) == letter


@pytest.mark.parametrize("text", ["C picks up the knife", "C is sleeping", "C walks, because it is late"])
def test_a_person_c_is_no_letter_also_where_no_option_names_it(text):
    assert parse_letter(text, FOUR) is None


@pytest.mark.parametrize(("text", "letter"), [("D.C. United won", None), ("A.B", None), ("D. C. Brown won", "D")])
def test_initials_are_no_letter(text, letter):
    assert parse_letter(text, FOUR) == letter


@pytest.mark.parametrize("text", ["A", "(A)", "Answer: A", "The answer is A.", "**Answer: (A)**"])
def test_a_capital_letter_is_the_same_answer_with_and_without_an_introduction_where_options_are_letters(text):
    assert parse_letter(text, ["n", "b", "a", "h"]) == "A"


def test_numbers_of_open_answers_keep_their_point_and_an_empty_gold_answer_is_never_met():
    def score(said, gold, process=scoring.actnetqa_results):
        return process({"question": "", "answer": gold, "video_name": "7"}, [said])["accuracy"]

    assert (score("50", "5.0")["score"], score("50", "5.0")["judge_score"]) == (0.0, 0.0)
    assert (score("5.0.", "5.0")["score"], score("Top left!", "top-left")["score"]) == (1.0, 1.0)
    for gold in ("", "?"):
        for said in ("", "?", "anything"):
            assert score(said, gold)["score"] == score(said, gold, scoring.open_results)["score"] == 0.0
    assert plain("U.S. -5, at 3:30; 1,000 $") == "us -5 at 3:30 1000 $"
