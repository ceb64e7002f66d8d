"""A live lmms-eval chat model, for `python -m lmms_eval --model sharpv --model_args model=tiny,pruner=sharpv_adaptive`.

The suite itself answers in one pass and replays (see `replay`); this class serves those who drive lmms-eval themselves.
"""

import gc
from pathlib import Path

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from omegaconf import OmegaConf

from sharpv.configuration import configure
from sharpv.metrics.timing import StageClock
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import generate
from sharpv.runtime.prompt import feed
from sharpv.videos.frames import read_video


class SharpVModel(lmms):
    """Answers requests with one pruner; model and pruner are names of configs/model and configs/pruner."""

    is_simple = False

    def __init__(self, model: str = "tiny", pruner: str = "sharpv_adaptive", **kwargs: str):
        super().__init__()
        kwargs.pop("batch_size", None)
        if unknown := set(kwargs) - {"device", "max_batch_size"}:
            raise ValueError(f"unknown model_args {sorted(unknown)}; there are: model, pruner")
        configure.register_resolvers()
        settings = configure.load("model", model)
        self.row = configure.rows(configure.load("pruner", pruner), settings)[0]
        self.loaded = configure.build(OmegaConf.to_container(settings, resolve=True)).load()
        if self.row.visual is not None and self.row.visual.tower_layers is not None:
            raise ValueError(f"pruner {pruner!r} reads the vision tower: run it through run.py")

    @property
    def device(self) -> torch.device:
        return self.loaded.device

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        with layer_hooks(self.loaded.adapter) as hooks:
            return [self._answer(hooks, *request.args) for request in requests]

    @torch.inference_mode()
    def _answer(self, hooks, context, doc_to_messages, settings, doc_id, task, split) -> GenerationResult:
        loaded, doc = self.loaded, self.task_dict[task][split][doc_id]
        content = [part for message in doc_to_messages(doc) for part in message["content"]]
        videos = [part["url"] for part in content if part["type"] == "video"]
        if len(videos) != 1:
            raise ValueError(f"{task} question {doc_id} has {len(videos)} videos; exactly one is supported")
        pixels = loaded.preprocess(read_video(Path(videos[0]), loaded.frames)).to(loaded.device)
        embeddings, span, prompt = loaded.embed(context, loaded.adapter.encode(pixels), pixels)
        depth = len(loaded.adapter.language_model.layers)
        fed = feed(embeddings, span, depth, self.row.visual, seed=doc_id)
        greedy = loaded.greedy(settings.get("max_new_tokens", 1024), prompt)
        ids, _ = generate(loaded.adapter, hooks, fed, self.row.memory, greedy, StageClock(loaded.device))
        return GenerationResult(loaded.decode(ids), TokenCounts(fed.layout.length, len(ids)))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise ValueError("pruned VideoLLMs answer in text: only generate_until tasks are supported")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise ValueError("multi-round tasks are not supported")

    def clean(self) -> None:
        gc.collect()
