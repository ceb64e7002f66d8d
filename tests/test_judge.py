"""The judge of open answers, against a stand-in server that speaks the OpenAI protocol."""

from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir

from sharpv.benchmarks import judge as judging
from sharpv.benchmarks.availability import NotAvailableError
from sharpv.benchmarks.judge import Judge, NoVerdictError, Question, Verdict, apply, parse_verdict
from sharpv.benchmarks.samples import Sample
from sharpv.commands import run as experiment
from sharpv.configuration import configure
from sharpv.rehearsal.judge import stand_in


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """A proxy for this machine's downloads is none for 127.0.0.1."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    """Says yes where the prediction holds the answer; `asked` counts requests, `broken` makes it fail."""
    state = SimpleNamespace(asked=[], broken=0)

    def reply(asked):
        state.asked.append(asked)
        if state.broken > 0:
            state.broken -= 1
            return None
        answer, prediction = (line.split(": ", 1)[1] for line in asked.splitlines()[-2:])
        said = "yes" if answer in prediction else "no"
        return f"{{'pred': '{said}', 'score': {5 if said == 'yes' else 1}}}"

    with stand_in(reply) as state.url:
        yield state


def judge_at(server, **settings):
    return Judge(server.url, "stand-in", **settings)


QUESTIONS = [Question("what colour", "red", "it is red"), Question("what colour", "red", "blue")]


def test_verdicts_come_in_order_and_are_asked_once(server, tmp_path):
    cache = tmp_path / "judge.jsonl"
    judge = judge_at(server)
    assert judge.verdicts([*QUESTIONS, QUESTIONS[0]], cache) == [Verdict(True, 5), Verdict(False, 1), Verdict(True, 5)]
    assert len(server.asked) == 2
    judge_at(server).verdicts(QUESTIONS, cache)
    assert len(server.asked) == 2


def test_a_torn_cache_line_is_asked_again(server, tmp_path):
    cache = tmp_path / "judge.jsonl"
    judge_at(server).verdicts(QUESTIONS, cache)
    cache.write_text(cache.read_text(encoding="utf-8")[:-5], encoding="utf-8")
    assert judge_at(server).verdicts(QUESTIONS, cache)[1] == Verdict(False, 1)
    assert len(server.asked) == 3


def test_another_prompt_or_model_asks_anew(server, tmp_path):
    cache = tmp_path / "judge.jsonl"
    judge_at(server).verdicts(QUESTIONS, cache)
    judge_at(server, prompt=judging.PROMPT.replace("Compare", "Please compare")).verdicts(QUESTIONS, cache)
    assert len(server.asked) == 4


def test_a_failing_endpoint_is_tried_again(server, tmp_path, monkeypatch):
    server.broken = 1
    assert judge_at(server, workers=1).verdicts(QUESTIONS[:1], tmp_path / "judge.jsonl") == [Verdict(True, 5)]
    assert len(server.asked) == 2


def test_a_dead_judge_stops_a_run_before_the_first_answer_to_any_benchmark(tmp_path, monkeypatch):
    monkeypatch.setenv("SHARPV_RESULTS", str(tmp_path))
    asked = [
        "rows=[dense]",
        "benchmarks=[tiny_nextqa,tiny_actnetqa]",
        "limit=1",
        "judge.base_url=http://127.0.0.1:9/v1",
    ]
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS), version_base="1.3"):
        config = compose("config", asked)
    with pytest.raises(NotAvailableError, match="judge: gpt-3.5-turbo-0125 at http://127.0.0.1:9/v1.*does not answer"):
        experiment.run(config, "test")
    assert not [
        line
        for path in tmp_path.glob("runs/*/samples*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def test_a_living_judge_is_found(server):
    assert judge_at(server).finding().problem is None


@pytest.mark.parametrize(
    "reply", ["", "yes", '{"pred": "maybe", "score": 3}', '{"pred": "no", "score": 9}', '{"score": 3}']
)
def test_a_reply_without_a_verdict_is_no_verdict(reply):
    with pytest.raises(ValueError, match="no verdict"):
        parse_verdict(reply)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"pred": "yes", "score": 4, "reason": "it\'s the same thing"}', Verdict(True, 4)),
        ("{'pred': 'no', 'score': 1}", Verdict(False, 1)),
        ('{"pred": "Yes.", "score": "4/5"}', Verdict(True, 4)),
        ('{"pred": "no", "score": 2.5}', Verdict(False, 2.5)),
    ],
)
def test_verdicts_are_read_as_judges_write_them(reply, verdict):
    assert parse_verdict(reply) == verdict


def test_an_answer_that_cannot_be_judged_is_counted_and_costs_no_other_verdict(server, tmp_path, monkeypatch):
    judge = judge_at(server)
    ask = judge._ask

    def sometimes(question, attempts=None):
        if question.prediction == "odd":
            raise NoVerdictError("the judge's reply is no verdict: 'hm'")
        return ask(question, attempts)

    monkeypatch.setattr(judge, "_ask", sometimes)
    sample = Sample("actnetqa", "t", 0, "", tmp_path, "red", 8, "h", {"question": "what colour"})
    scores = [{"gold": "red", "score": 1.0, "judge_score": 5.0} for _ in range(3)]
    cache = tmp_path / "judge.jsonl"
    assert apply(judge, scores, ["odd", "red", "it is red"], [sample] * 3, cache) == 1
    assert scores[0]["score"] == 0.0
    assert "no verdict" in scores[0]["judge_error"]
    assert [line["score"] for line in scores[1:]] == [1.0, 1.0]
    assert len(cache.read_text(encoding="utf-8").splitlines()) == 2


def test_scores_are_replaced_and_failed_answers_are_not_sent(server, tmp_path):
    sample = Sample("actnetqa", "t", 0, "", tmp_path, "red", 8, "h", {"question": "what colour"})
    scores = [{"gold": "red", "score": 0.0, "judge_score": 0.0} for _ in range(2)]
    apply(judge_at(server), scores, ["it is red", ""], [sample, sample], tmp_path / "judge.jsonl")
    assert scores[0] == {"gold": "red", "score": 1.0, "judge_score": 5.0, "offline_score": 0.0}
    assert scores[1]["score"] == 0.0
    assert len(server.asked) == 1
