"""A judge of open answers behind any OpenAI-compatible endpoint: yes or no, and a score from 0 to 5.

Verdicts are cached on disk, one line at once, so that a run that was cut off asks only for what is left.
"""

import ast
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from tqdm import tqdm

from sharpv import paths
from sharpv.benchmarks.availability import Finding
from sharpv.benchmarks.samples import Sample

PROMPT_VERSION = "sharpv-1"
PROMPT = """Compare a predicted answer to a question about a video with the correct answer. Synonyms and paraphrases
count as correct. Reply with one JSON object and nothing else: {{"pred": "yes" or "no", "score": whole number from 0 to
5}}, where "yes" means that the prediction is correct and 5 is the best match.

Question: {question}
Correct answer: {answer}
Predicted answer: {prediction}"""


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
    """The judge answered, but not with a verdict; this never counts as wrong."""


@dataclass
class Judge:
    """Fields of `judge` in configs/config.yaml. prompt: a template with {question}, {answer} and {prediction}."""

    base_url: str
    model: str
    prompt: str = PROMPT
    prompt_version: str = PROMPT_VERSION
    workers: int = 8
    attempts: int = 5
    client: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from openai import OpenAI

        self.client = OpenAI(base_url=self.base_url, api_key=paths.judge_key(), max_retries=0, timeout=60)

    @property
    def name(self) -> str:
        """What is written beside every number that it made."""
        return f"{self.model} at {self.base_url}, prompt {self.prompt_version}"

    def finding(self) -> Finding:
        """Whether the endpoint answers a trial question with a verdict; asked before generation."""
        try:
            self._ask(Question("what colour is the sky", "blue", "blue"), attempts=1)
        # What is no judge may reply anything, and the client then fails in any way.
        except Exception as error:
            problem = (
                f"{self.name} does not answer ({type(error).__name__}: {error}); start it, correct "
                "judge.base_url and judge.model, or leave judge.base_url out for the offline metric"
            )
            return Finding("judge", "", problem)
        return Finding("judge", f"{self.model} at {self.base_url} answers")

    def verdicts(self, questions: list[Question], cache: Path) -> list[Verdict | str]:
        """A verdict a question, in order, or why there is none; those in the cache are not asked again.

        A verdict is on disk as soon as it is there. Raises the error of an endpoint that does not answer, after all
        others that it was asked for have been written.
        """
        known = self._read(cache)
        todo = [one for one in dict.fromkeys(questions) if self._key(one) not in known]
        cache.parent.mkdir(parents=True, exist_ok=True)
        unjudged: dict[Question, str] = {}
        with cache.open("a", encoding="utf-8") as lines, ThreadPoolExecutor(self.workers) as pool:
            asked = {pool.submit(self._ask, one): one for one in todo}
            for answer in tqdm(as_completed(asked), "judge", len(todo)):
                one = asked[answer]
                try:
                    verdict = answer.result()
                except NoVerdictError as error:
                    unjudged[one] = str(error)
                    continue
                known[self._key(one)] = verdict
                lines.write(json.dumps({"key": self._key(one), **vars(verdict)}) + "\n")
                lines.flush()
        return [unjudged.get(one) or known[self._key(one)] for one in questions]

    def _key(self, one: Question) -> str:
        content = json.dumps([self.model, self.base_url, self.prompt, *vars(one).values()])
        return hashlib.sha256(content.encode()).hexdigest()

    def _read(self, cache: Path) -> dict[str, Verdict]:
        if not cache.exists():
            return {}
        *complete, torn = cache.read_text(encoding="utf-8").split("\n")
        if torn:
            os.truncate(cache, cache.stat().st_size - len(torn.encode()))
        found = [json.loads(line) for line in complete]
        return {line["key"]: Verdict(line["correct"], line["score"]) for line in found}

    def _ask(self, one: Question, attempts: int | None = None) -> Verdict:
        from openai import OpenAIError

        content = self.prompt.format(**vars(one))
        for attempt in Retrying(
            stop=stop_after_attempt(attempts or self.attempts),
            wait=wait_exponential(0.5, max=20),
            retry=retry_if_exception_type((OpenAIError, ValueError)),
            reraise=True,
        ):
            with attempt:
                reply = self.client.chat.completions.create(
                    model=self.model, temperature=0, max_tokens=64, messages=[{"role": "user", "content": content}]
                )
                return parse_verdict(reply.choices[0].message.content or "")
        raise AssertionError("retrying ended without an outcome")


def parse_verdict(text: str) -> Verdict:
    """The verdict of a reply, JSON or a Python dict; NoVerdictError where it has no yes or no or no score up to 5."""
    try:
        found = _mapping(text[text.index("{") : text.rindex("}") + 1])
        said = str(found["pred"]).strip().strip(".").lower()
        score = float(str(found["score"]).strip().removesuffix("/5"))
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
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
    """The configured judge, or None where no endpoint is named."""
    if config.base_url is None:
        return None
    judge = Judge(config.base_url, config.model, workers=config.workers)
    if config.prompt_file is None:
        return judge
    text = Path(config.prompt_file).read_text(encoding="utf-8")
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
    return unjudged
