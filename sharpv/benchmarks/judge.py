"""A judge of open answers behind any OpenAI-compatible endpoint: yes or no, and a score from 0 to 5.

Verdicts are cached on disk, one line at once, so that a run that was cut off asks only for what is left.
"""

import ast
import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import httpx
from omegaconf import DictConfig
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from tqdm import tqdm

from sharpv import paths
from sharpv.benchmarks.availability import Finding
from sharpv.benchmarks.samples import Sample

PROMPT_VERSION = "sharpv-1"
PROMPT = """Compare a predicted answer to a question about a video with the correct answer. Synonyms and paraphrases
count as correct. Reply with one JSON object and nothing else: {"pred": "yes" or "no", "score": whole number from 0 to
5}, where "yes" means that the prediction is correct and 5 is the best match.

Question: {question}
Correct answer: {answer}
Predicted answer: {prediction}"""
PLACES = ("question", "answer", "prediction")
"""What a prompt must hold in braces; all other braces stand for themselves."""
LONGEST_REPLY = 1 << 20
"""Bytes of a reply that are read."""
SHOWN = 200
"""Characters of a reply or an error that a message shows."""
PASSING = (408, 409, 429)
"""Status codes below 500 that are worth another attempt."""
OF_ENDPOINT = (401, 403, 404, 405)
"""Status codes that every question would get."""


@dataclass(frozen=True)
class Question:
    """What is judged: question, gold answer, prediction."""

    question: str
    answer: str
    prediction: str


@dataclass(frozen=True)
class Verdict:
    """`correct` and a score from 0 to 5."""

    correct: bool
    score: float


class NoVerdictError(ValueError):
    """The judge gave no verdict on an answer, which never counts as wrong. again: whether to ask again at once."""

    def __init__(self, reason: str, again: bool = True):
        super().__init__(reason)
        self.again = again


class EndpointError(NoVerdictError):
    """No verdict for a reason that has nothing to do with the answer: the endpoint is not there or is no judge."""


@dataclass
class Judge:
    """Fields of `judge` in configs/config.yaml. prompt: a template with {question}, {answer} and {prediction}.

    The key of $OPENAI_API_KEY goes to `base_url` and nowhere else: redirects are not followed, and messages in which an
    endpoint repeats it hide it. ValueError for an address that itself holds a key, and for a prompt that lacks a place.
    """

    base_url: str
    model: str
    prompt: str = PROMPT
    prompt_version: str = PROMPT_VERSION
    workers: int = 8
    attempts: int = 5
    client: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_no_secret(self.base_url)
        if lacking := [f"{{{place}}}" for place in PLACES if f"{{{place}}}" not in self.prompt]:
            raise ValueError(f"the judge's prompt lacks {', '.join(lacking)}: it would judge without knowing it")
        self._key = paths.judge_key()
        # Without compression a small reply cannot become a large one.
        headers = {"Authorization": f"Bearer {self._key}", "Accept-Encoding": "identity"}
        self.client = httpx.Client(headers=headers, timeout=60, follow_redirects=False)

    @property
    def name(self) -> str:
        """What is written beside every number that it made."""
        return f"{self.model} at {self.base_url}, prompt {self.prompt_version}"

    def finding(self) -> Finding:
        """Whether the endpoint answers a trial question with a verdict; asked before generation."""
        try:
            self._ask(Question("what colour is the sky", "blue", "blue"), attempts=1)
        except NoVerdictError as error:
            problem = (
                f"{self.name} does not answer ({error}); start it, correct judge.base_url and judge.model, or leave "
                "judge.base_url out for the offline metric"
            )
            return Finding("judge", "", problem)
        return Finding("judge", f"{self.model} at {self.base_url} answers")

    def verdicts(self, questions: list[Question], cache: Path) -> list[Verdict | str]:
        """A verdict a question, in order, or why there is none; those in the cache are not asked again.

        A verdict is on disk as soon as it is there. An endpoint that fails for many questions in a row is not asked
        about the others.
        """
        known = self._read(cache)
        todo = [one for one in dict.fromkeys(questions) if self._cache_key(one) not in known]
        cache.parent.mkdir(parents=True, exist_ok=True)
        unjudged: dict[Question, str] = {}
        failures, patience, stopped = 0, max(16, 2 * self.workers), Event()
        pool = ThreadPoolExecutor(self.workers)
        try:
            asked = {pool.submit(self._ask_unless, stopped, one): one for one in todo}
            with cache.open("a", encoding="utf-8") as lines:
                for answer in tqdm(as_completed(asked), "judge", len(todo)):
                    one = asked[answer]
                    try:
                        verdict = answer.result()
                    except NoVerdictError as error:
                        unjudged[one] = str(error)
                        failures = failures + 1 if isinstance(error, EndpointError) else 0
                        if failures >= patience:
                            stopped.set()
                        continue
                    failures = 0
                    known[self._cache_key(one)] = verdict
                    lines.write(json.dumps({"key": self._cache_key(one), **vars(verdict)}) + "\n")
                    lines.flush()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
        return [unjudged.get(one) or known[self._cache_key(one)] for one in questions]

    def _cache_key(self, one: Question) -> str:
        content = json.dumps([self.model, self.base_url, self.prompt, *vars(one).values()])
        return hashlib.sha256(content.encode()).hexdigest()

    def _read(self, cache: Path) -> dict[str, Verdict]:
        """The verdicts on disk; a torn last line is cut off. ValueError naming file and line for what is no verdict."""
        if not cache.exists():
            return {}
        *complete, torn = cache.read_bytes().split(b"\n")
        if torn:
            os.truncate(cache, cache.stat().st_size - len(torn))
        return dict(_stored(line, f"{cache}, line {number}") for number, line in enumerate(complete, 1) if line.strip())

    def _ask_unless(self, stopped: Event, one: Question) -> Verdict:
        if stopped.is_set():
            raise EndpointError("not asked: the judge had failed for too many questions in a row")
        return self._ask(one)

    def _ask(self, one: Question, attempts: int | None = None) -> Verdict:
        values = {place: str(getattr(one, place)) for place in PLACES}
        content = re.sub(rf"\{{({'|'.join(PLACES)})\}}", lambda place: values[place[1]], self.prompt)
        for attempt in Retrying(
            stop=stop_after_attempt(attempts or self.attempts),
            wait=wait_exponential(0.5, max=20),
            retry=retry_if_exception(lambda error: getattr(error, "again", False)),
            reraise=True,
        ):
            with attempt:
                said = self._reply(content)
                try:
                    return parse_verdict(said)
                except NoVerdictError as error:
                    raise NoVerdictError(self._shown(str(error))) from None
        raise AssertionError("retrying ended without an outcome")

    def _reply(self, content: str) -> str:
        """What the endpoint says to a prompt. Raises NoVerdictError, and EndpointError where it is no judge's reply."""
        body = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": content}],
        }
        try:
            with self.client.stream("POST", f"{self.base_url.rstrip('/')}/chat/completions", json=body) as response:
                status, text = response.status_code, self._bounded(response)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise EndpointError(self._shown(f"{type(error).__name__}: {error}")) from None
        if 300 <= status < 400:
            raise EndpointError(f"status {status}: it redirects; give the address that it redirects to", again=False)
        if status != 200:
            passing = status in PASSING or status >= 500
            kind = EndpointError if passing or status in OF_ENDPOINT else NoVerdictError
            raise kind(self._shown(f"status {status}: {text}"), again=passing)
        try:
            choice = json.loads(text)["choices"][0]
            said = choice["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise EndpointError(self._shown(f"its reply is no chat completion: {text!r}")) from None
        if said is None and choice.get("finish_reason") == "content_filter":
            raise NoVerdictError("its content filter refuses this answer", again=False)
        return str(said or "")

    def _bounded(self, response: httpx.Response) -> str:
        read = b""
        for block in response.iter_raw():
            read += block
            if len(read) > LONGEST_REPLY:
                raise EndpointError(f"its reply is longer than {LONGEST_REPLY} bytes", again=False)
        return read.decode("utf-8", "replace")

    def _shown(self, text: str) -> str:
        """One short line without the key."""
        hidden = text if self._key == paths.NO_KEY else text.replace(self._key, "***")
        line = " ".join(hidden.split())
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


def require_no_secret(address: str) -> None:
    """ValueError, which does not repeat it, for an address with user, password or query: results show it."""
    try:
        parts = httpx.URL(address)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError("judge.base_url is no address: give http://host:port/v1 or https://...") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError("judge.base_url is no address: give http://host:port/v1 or https://...")
    if parts.userinfo or parts.query or parts.fragment:
        raise ValueError(
            "judge.base_url holds a user, a query or a fragment, and with them maybe a key, which would be written "
            "beside every result: give the bare address, and the key as $OPENAI_API_KEY"
        )


def _stored(line: bytes, place: str) -> tuple[str, Verdict]:
    try:
        found = json.loads(line)
        key, correct, score = found["key"], found["correct"], found["score"]
        if isinstance(key, str) and isinstance(correct, bool) and 0 <= float(score) <= 5:
            return key, Verdict(correct, score)
    except (ValueError, TypeError, KeyError):
        pass
    raise ValueError(f"{place} is no verdict: remove the line, and its answer is judged again")


def parse_verdict(text: str) -> Verdict:
    """The verdict of a reply, JSON or a Python dict; NoVerdictError where it has no yes or no or no score up to 5."""
    try:
        found = _mapping(text[text.index("{") : text.rindex("}") + 1])
        said = str(found["pred"]).strip().strip(".").lower()
        score = float(str(found["score"]).strip().removesuffix("/5"))
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise NoVerdictError(f"the judge's reply is no verdict: {text!r}") from error
    if said not in ("yes", "no") or not 0 <= score <= 5:
        raise NoVerdictError(f"the judge's reply is no verdict: {text!r}")
    return Verdict(said == "yes", score)


def _mapping(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return ast.literal_eval(text)


def judge_of(config: DictConfig) -> Judge | None:
    """The configured judge, or None where no endpoint is named. ValueError for an address or prompt it cannot have."""
    if config.base_url is None:
        return None
    judge = Judge(config.base_url, config.model, workers=config.workers)
    if config.prompt_file is None:
        return judge
    try:
        text = Path(config.prompt_file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"judge.prompt_file={config.prompt_file} cannot be read: {error}") from error
    return replace(judge, prompt=text, prompt_version=hashlib.sha256(text.encode()).hexdigest()[:12])


def apply(judge: Judge, scores: list[dict[str, Any]], texts: list[str], samples: list[Sample], cache: Path) -> int:
    """Replace the offline scores of open answers by the judge's, in place; the offline one stays as `offline_score`.

    Answers that failed or are empty keep their 0 and are not sent. One on which the judge gives no verdict gets 0 and
    the reason as `judge_error`; returned is the number of these. They are asked again when scoring is done again.
    """
    given = [(line, sample, text) for line, sample, text in zip(scores, samples, texts, strict=True) if text.strip()]
    asked = [Question(str(sample.doc["question"]), sample.gold, text) for _, sample, text in given]
    unjudged = 0
    for (line, _, _), verdict in zip(given, judge.verdicts(asked, cache), strict=True):
        line["offline_score"] = line["score"]
        if isinstance(verdict, str):
            line["score"], line["judge_score"], line["judge_error"] = 0.0, 0.0, verdict
            unjudged += 1
        else:
            line["score"], line["judge_score"] = float(verdict.correct), verdict.score
    if unjudged:
        reason = next(line["judge_error"] for line, *_ in given if "judge_error" in line)
        print(f"judge: no verdict on {unjudged} of {len(given)} answers ({reason}); the same command asks again")
    return unjudged
