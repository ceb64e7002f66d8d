"""In which class a task of lmms-eval is, from what its functions reach: said before anything runs."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

JUDGES = (
    *("openai", "OpenAI", "AzureOpenAI", "AsyncOpenAI", "anthropic", "requests", "aiohttp", "get_server", "llm_judge"),
    *("get_eval", "get_chat_response", "get_gpt4_response", "ProviderFactory", "ServerConfig", "sglang"),
)
"""Names by which scoring code asks a model behind a server."""
JUDGE_PACKAGES = ("openai", "anthropic", "requests", "aiohttp", "lmms_eval.llm_judge", "sglang", "httpx")
SENDERS = ("requests", "urlopen", "httpx")
"""Names by which an aggregation sends answers to a server; one that only writes a file may have a score as well."""


@dataclass(frozen=True)
class Kind:
    """name: offline (scored here), judge (needs a judging model), submission (scored by a server) or refused."""

    name: str
    why: str


def kind_of(config: dict[str, Any]) -> Kind:
    """The class of a task's configuration, functions resolved, and why."""
    if reason := refusal(config):
        return Kind("refused", reason)
    metrics = config.get("metric_list") or []
    if not metrics:
        return Kind("submission", "it names no metric")
    if asked := sorted(_judging(config.get("process_results"))):
        return Kind("judge", f"its process_results reaches {', '.join(asked)}")
    sent = {metric["metric"]: _sends(metric) for metric in metrics}
    if all(sent.values()):
        named = "; ".join(f"{metric}: {why}" for metric, why in sent.items())
        return Kind("submission", f"answers go to a server ({named}); nothing is sent from here")
    judged = {metric["metric"]: sorted(_judging(metric.get("aggregation"))) for metric in metrics}
    if reached := {metric: names for metric, names in judged.items() if names and not sent[metric]}:
        return Kind("judge", f"its aggregation reaches {reached}")
    return Kind("offline", f"metrics {', '.join(metric for metric, why in sent.items() if not why)} are computed here")


def refusal(config: dict[str, Any]) -> str | None:
    """Why a task cannot be asked at all; None where it can."""
    if (output := config.get("output_type", "generate_until")) != "generate_until":
        return f"its output_type is {output!r}: only generate_until is answered"
    if config.get("num_fewshot"):
        return f"num_fewshot={config['num_fewshot']}: examples before the question would need videos of their own"
    if (config.get("repeats") or 1) > 1:
        return f"repeats={config['repeats']}: greedy decoding gives the same answer each time"
    if config.get("class") is not None:
        return "it is a Python class of its own, not a configuration"
    for name in ("doc_to_visual", "doc_to_messages"):
        if isinstance(config.get(name), str) and name == "doc_to_visual":
            return f"its {name} is the text {config[name]!r}, no function"
    if not callable(config.get("doc_to_visual")) and not callable(config.get("doc_to_messages")):
        return "it has neither doc_to_visual nor doc_to_messages, so no video"
    return None


def _sends(metric: dict[str, Any]) -> str | None:
    if "submission" in metric["metric"]:
        return "named so"
    names = {name for name, _ in reached(metric.get("aggregation"))} & set(SENDERS)
    return f"its aggregation reaches {', '.join(sorted(names))}" if names else None


def _judging(function: Any) -> set[str]:
    found = set()
    for name, value in reached(function):
        package = getattr(value, "__module__", None) or type(value).__module__
        if isinstance(value, ModuleType):
            package = value.__name__
        called = callable(value) and re.search("judge|gpt", name, re.IGNORECASE)
        if name in JUDGES or called or any(f"{package}.".startswith(f"{judge}.") for judge in JUDGE_PACKAGES):
            found.add(name)
    return found


def reached(function: Any) -> Iterator[tuple[str, Any]]:
    """Names that a function's code uses, with what they stand for (None where unknown), through its own package."""
    seen: set[Callable] = set()
    waiting = [function]
    while waiting:
        current = inspect.unwrap(waiting.pop()) if callable(waiting[-1]) else waiting.pop()
        if not inspect.isfunction(current) or current in seen:
            continue
        seen.add(current)
        for name in _names(current.__code__):
            value = current.__globals__.get(name)
            yield name, value
            home = getattr(value, "__module__", "") or ""
            if inspect.isfunction(value) and not home.startswith("lmms_eval.api"):
                waiting.append(value)


def _names(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names) | {name for part in inner for name in _names(part)}
