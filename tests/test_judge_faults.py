"""A judge that turns bad, holds secrets or cheats costs verdicts, never a run, a key or a traceback."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from omegaconf import OmegaConf

from sharpv.benchmarks.judge import Judge, Question, apply, judge_of
from sharpv.benchmarks.samples import Sample
from sharpv.commands import front

QUESTIONS = [Question("what colour", "red", "it is red"), Question("what colour", "red", "blue")]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """A proxy for this machine's downloads is none for 127.0.0.1."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def judge_at(server, **settings):
    return Judge(f"http://127.0.0.1:{server.server_port}/v1", "stand-in", **settings)


@pytest.fixture
def stand_in():
    """A server that replies as `answer(body asked)` says, by status, headers, body; `asked` holds the bodies."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.server.asked.append(body)
            self.server.keys.append(self.headers["Authorization"])
            status, headers, content = self.server.answer(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content if isinstance(content, bytes) else content.encode())

        def log_message(self, *arguments):
            return

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.asked, found.keys = [], []
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


def completion(content, **more):
    return json.dumps({"choices": [{"message": {"content": content}} | more]})


GOOD = completion('{"pred": "yes", "score": 5}')


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "<html>busy</html>", "no chat completion"),
        (200, '{"choices": []}', "no chat completion"),
        (200, "null", "no chat completion"),
        (200, "[]", "no chat completion"),
        (200, "", "no chat completion"),
        (200, '{"choices": [{"message": ', "no chat completion"),
        (200, '{"choices": [{"message": null}]}', "no chat completion"),
        (200, b"\xff\xfe", "no chat completion"),
        (200, completion(None), "no verdict"),
        (200, completion("[" * 5000), "no verdict"),
        (200, completion("{" + "[" * 5000 + "}"), "no verdict"),
        (500, "broken", "status 500: broken"),
        (429, "slower", "status 429: slower"),
        (401, "who are you", "status 401: who are you"),
        (400, '{"error": {"code": "content_filter"}}', "content_filter"),
        (302, "", "redirects"),
        (200, "x" * 3_000_000, "longer than"),
    ],
)
def test_a_judge_that_turns_bad_costs_verdicts_and_nothing_else(stand_in, tmp_path, status, body, words, capsys):
    bad = ["blue"]
    stand_in.answer = lambda asked: (status, {}, body) if any(word in asked for word in bad) else (200, {}, GOOD)
    judge = judge_at(stand_in, attempts=2)
    sample = Sample("actnetqa", "t", 0, "", tmp_path, "red", 8, "h", {"question": "what colour"})
    scores = [{"gold": "red", "score": 1.0, "judge_score": 5.0} for _ in range(2)]
    assert apply(judge, scores, ["it is red", "blue"], [sample] * 2, tmp_path / "judge.jsonl") == 1
    assert (scores[0]["score"], scores[1]["score"]) == (1.0, 0.0)
    assert words in scores[1]["judge_error"]
    said = capsys.readouterr().out
    assert said.startswith("judge: no verdict on 1 of 2 answers (")
    assert said.count("\n") == 1
    assert len(said) < 400
    tried = sum("blue" in asked for asked in stand_in.asked)
    assert tried == (1 if status in (302, 400, 401) or len(body) > 1_000_000 else 2)
    bad.clear()
    assert apply(judge, scores, ["it is red", "blue"], [sample] * 2, tmp_path / "judge.jsonl") == 0


def test_one_answer_that_a_content_filter_refuses_is_not_asked_twice(stand_in, tmp_path):
    stand_in.answer = lambda asked: (200, {}, completion(None, finish_reason="content_filter"))
    (found,) = judge_at(stand_in).verdicts(QUESTIONS[:1], tmp_path / "judge.jsonl")
    assert "content filter" in found
    assert len(stand_in.asked) == 1


def test_an_endpoint_that_stays_away_is_not_asked_about_every_answer(stand_in, tmp_path):
    stand_in.answer = lambda asked: (401, {}, "no")
    questions = [Question("what", "red", f"answer {number}") for number in range(200)]
    found = judge_at(stand_in, workers=2).verdicts(questions, tmp_path / "judge.jsonl")
    assert all(isinstance(one, str) for one in found)
    assert 16 <= len(stand_in.asked) < 40
    assert "not asked" in found[-1]


def test_the_key_goes_to_the_judge_alone_and_is_never_shown(stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRET")
    other = ThreadingHTTPServer(("127.0.0.1", 0), stand_in.RequestHandlerClass)
    other.asked, other.keys, other.answer = [], [], lambda asked: (200, {}, GOOD)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    to = f"http://127.0.0.1:{other.server_port}/v1/chat/completions"
    replies = {
        "echo": (401, {}, "the key sk-SECRET is wrong"),
        "html": (200, {}, "<p>sk-SECRET</p>"),
        "verdict": (200, {}, completion("sk-SECRET says yes")),
        "moved": (307, {"Location": to}, ""),
    }
    stand_in.answer = lambda asked: next(reply for name, reply in replies.items() if f": {name}" in asked)
    judge = judge_at(stand_in, attempts=1)
    sample = Sample("actnetqa", "t", 0, "", tmp_path, "red", 8, "h", {"question": "what colour"})
    scores = [{"gold": "red", "score": 1.0, "judge_score": 5.0} for _ in replies]
    assert apply(judge, scores, list(replies), [sample] * 4, tmp_path / "judge.jsonl") == 4
    other.shutdown()
    assert stand_in.keys == ["Bearer sk-SECRET"] * 4
    assert not other.asked
    told = capsys.readouterr()
    written = (tmp_path / "judge.jsonl").read_text(encoding="utf-8")
    assert "SECRET" not in f"{scores}{told.out}{told.err}{written}{judge!r}{judge.name}{judge.finding()}"


SECRETIVE = [
    "http://user:SECRET@localhost/v1",
    "http://SECRET@localhost/v1",
    "http://localhost/v1?api_key=SECRET",
    "http://localhost/v1#SECRET",
    "user:SECRET@localhost",
]


@pytest.mark.parametrize("address", SECRETIVE)
def test_an_address_that_holds_a_secret_is_refused_without_repeating_it(address):
    for refuse in (lambda: front.overrides([f"judge.base_url={address}"]), lambda: judge_of(settings_of(address))):
        with pytest.raises(ValueError, match=r"judge\.base_url") as refused:
            refuse()
        assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_refused_address_is_printed_and_written_nowhere(sweep, tmp_path):
    answer = subprocess.run(
        [sys.executable, "run.py", *sweep, "benchmark=tiny_actnetqa", f"judge.base_url={SECRETIVE[0]}"],
        env=os.environ | {"SHARPV_RESULTS": str(tmp_path / "results")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "SECRET" not in answer.stdout + answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [("{question} {prediction}", "lacks {answer}"), ("is it right?", "lacks {question}, {answer}, {prediction}")],
)
def test_a_prompt_that_shows_the_judge_too_little_is_refused(text, words, tmp_path):
    (tmp_path / "prompt.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(words)):
        judge_of(settings_of(prompt_file=str(tmp_path / "prompt.txt")))


def test_a_prompt_file_may_hold_json_and_must_be_there(stand_in, tmp_path):
    stand_in.answer = lambda asked: (200, {}, GOOD)
    text = 'Reply {"pred": "yes", "score": 5}. {question} {answer} {prediction}'
    (tmp_path / "prompt.txt").write_text(text, encoding="utf-8")
    address = f"http://127.0.0.1:{stand_in.server_port}/v1"
    judge = judge_of(settings_of(base_url=address, prompt_file=str(tmp_path / "prompt.txt")))
    judge.verdicts([Question("why", "{prediction}", "so")], tmp_path / "judge.jsonl")
    sent = json.loads(stand_in.asked[0])["messages"][0]["content"]
    assert sent == 'Reply {"pred": "yes", "score": 5}. why {prediction} so'
    with pytest.raises(ValueError, match=r"judge\.prompt_file=.*cannot be read"):
        judge_of(settings_of(prompt_file=str(tmp_path / "gone.txt")))


def settings_of(base_url="http://localhost:1/v1", **changed):
    default = {"base_url": base_url, "model": "m", "prompt_file": None, "workers": 1}
    return OmegaConf.create(default | changed)


@pytest.mark.parametrize(
    "line",
    [
        '{"key": "k", "correct": true, "score": 99}',
        '{"key": "k", "correct": true, "score": NaN}',
        '{"key": "k", "correct": 1, "score": 5}',
        '{"key": 1, "correct": true, "score": 5}',
        '{"key": "k"}',
        "[]",
        "null",
        "no json",
    ],
)
def test_a_cached_line_that_is_no_verdict_is_named(stand_in, tmp_path, line):
    cache = tmp_path / "judge.jsonl"
    cache.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"judge\.jsonl, line 2 is no verdict"):
        judge_at(stand_in).verdicts(QUESTIONS, cache)


def test_a_blank_cached_line_is_passed_over(stand_in, tmp_path):
    stand_in.answer = lambda asked: (200, {}, GOOD)
    cache = tmp_path / "judge.jsonl"
    judge_at(stand_in).verdicts(QUESTIONS, cache)
    cache.write_text("\n" + cache.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    judge_at(stand_in).verdicts(QUESTIONS, cache)
    assert len(stand_in.asked) == 2
