"""A live lmms-eval chat model, for `python -m lmms_eval --model sharpv --model_args model=tiny,pruner=sharpv_adaptive`.

The suite itself answers in one pass and replays (see `replay`); this class serves those who drive lmms-eval themselves.
"""

import dataclasses
import gc
import inspect
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from hydra.utils import get_class
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from omegaconf import DictConfig, OmegaConf

from sharpv.answering import keys
from sharpv.answering.encoding import tower_layers, vision_pass
from sharpv.benchmarks.messages import NotAskedError, of_messages, until_stop
from sharpv.benchmarks.samples import hash_of, seed_of
from sharpv.configuration import by_name, configure
from sharpv.metrics.timing import StageClock
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import generate
from sharpv.runtime.prompt import feed
from sharpv.videos.frames import read_video


class SharpVModel(lmms):
    """Answers requests with one pruner; model and pruner are names of configs/model and configs/pruner.

    Other model_args are fields of the model's configuration (`pretrained` is its `path`, `tower.hidden_size` a
    part of one; `model.` may stand in front, as for run.py) or of one of the method's stages:
    `model=llava_ov_7b,pretrained=FOLDER,dtype=float16,frames=16,pruner=fastv,keep_ratio=0.25`. ValueError for any
    other, with the nearest.

    lmms-eval's `--use_cache` keys answers by the model_args as they are written, which say nothing of our code, of the
    weights or of what those names stand for. With it they must therefore hold `state=`, the hash of all these: a
    ValueError says which, and refuses another, so that no answer of an earlier state is served.
    """

    is_simple = False

    def __init__(self, model: str = "tiny", pruner: str = "sharpv_adaptive", state: str | None = None, **given: Any):
        super().__init__()
        configure.register_resolvers()
        # lmms-eval gives these with every model.
        given = {name: value for name, value in given.items() if name not in ("batch_size", "max_batch_size")}
        settings, method = self._settings(configure.load("model", model), configure.load("pruner", pruner), given)
        self.row = configure.rows(method, settings)[0]
        chosen = configure.build(OmegaConf.to_container(settings, resolve=True))
        if state is not None or _caches():
            self._require_state(state, keys.digest([keys.run_key(chosen, ""), self.row.hash])[:16])
        self.loaded = chosen.load()

    @staticmethod
    def _settings(model: DictConfig, method: DictConfig, given: dict[str, Any]) -> tuple[DictConfig, DictConfig]:
        """Both configurations with the other model_args in the places of their own settings."""
        given = {name.removeprefix("model."): value for name, value in given.items()}
        if "pretrained" in given:
            given = {"path": given["pretrained"], **given}
            del given["pretrained"]
        fields = {field.name for field in dataclasses.fields(get_class(model["_target_"]))}
        changed, left = model.copy(), {}
        for name, value in given.items():
            if name.split(".")[0] in fields:
                OmegaConf.update(changed, name, value, force_add=True)
            else:
                left[name] = value
        row: Any = OmegaConf.to_container(method)
        options = {f"{stage}_options": values for stage, values in by_name.placed(method.name, row, left).items()}
        chosen: Any = OmegaConf.merge(method, options)
        return changed, chosen

    @staticmethod
    def _require_state(given: str | None, present: str) -> None:
        if given is None:
            raise ValueError(
                "--use_cache serves answers by model_args alone, also those of other code, weights or settings: add "
                f"state={present} to model_args, or leave --use_cache out"
            )
        if given != present:
            raise ValueError(
                f"state={given} is another state of code, weights and settings than the present one, {present}: give "
                "that one, and its answers are made anew"
            )

    @property
    def device(self) -> torch.device:
        return self.loaded.device

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        with layer_hooks(self.loaded.adapter) as hooks:
            return [self._answer(hooks, *request.args) for request in requests]

    @torch.inference_mode()
    def _answer(self, hooks, context, doc_to_messages, settings, doc_id, task, split) -> GenerationResult:
        loaded, doc = self.loaded, self.task_dict[task][split][doc_id]
        try:
            text, video = of_messages(doc_to_messages(doc))
        except NotAskedError as error:
            raise ValueError(f"{task} question {doc_id} cannot be asked: {error}") from error
        pixels = loaded.preprocess(read_video(Path(video), loaded.frames)).to(loaded.device)
        vision, tower, _ = vision_pass(loaded, pixels, tower_layers(self.row))
        embeddings, span, prompt = loaded.embed(text, vision, pixels)
        depth = len(loaded.adapter.language_model.layers)
        fed = feed(embeddings, span, depth, self.row.visual, seed_of(task, doc_id, hash_of(doc)), tower)
        greedy = loaded.greedy(settings.get("max_new_tokens", 1024), prompt)
        ids, _ = generate(loaded.adapter, hooks, fed, self.row.memory, greedy, StageClock(loaded.device))
        return GenerationResult(until_stop(loaded.decode(ids), settings), TokenCounts(fed.layout.length, len(ids)))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise ValueError("pruned VideoLLMs answer in text: only generate_until tasks are supported")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise ValueError("multi-round tasks are not supported")

    def clean(self) -> None:
        gc.collect()


def _caches() -> bool:
    """Whether lmms-eval, which is making the model just now, will put its cache of answers before it: it does not tell
    the model, and looks into the cache before it asks."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "simple_evaluate":
            return frame.f_locals.get("use_cache") is not None
        frame = frame.f_back
    return False
