"""What happens in the calls of one pruning context, from its hooks: prompts, later turns, decode steps.

Shape suffixes: B batch, N rows of the dense prompt, L rows as fed, D width.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.cache_utils import DynamicCache

from sharpv.runtime.adapter import Adapter, Shape
from sharpv.runtime.batch_session import BatchSession
from sharpv.runtime.cache import PrunableLayer, cache_argument, given_cache, make_prunable
from sharpv.runtime.prompt import FedPrompt
from sharpv.runtime.report import Report
from sharpv.runtime.session import Session
from sharpv.runtime.turn import Images, feed_prompts, split
from sharpv.runtime.visual_session import VisualSession, left_padding, stack


class Generation:
    """Follows the calls of one context: a prompt begins a session or, on its cache, a later turn of it; each other call
    is one decode step."""

    def __init__(
        self, adapter: Adapter, visual, memory, hooks: Any, tap, shapes: list[Shape], seed: int, images: Images
    ):
        self.adapter, self.visual, self.memory, self.hooks = adapter, visual, memory, hooks
        self.tap, self.shapes, self.seed, self.images = tap, shapes, seed, images
        self.report = Report()
        self.input_ids: torch.Tensor | None = None
        self.padding_B: list[int] = []
        self.mask_BL: torch.Tensor | None = None
        self.rows = 0
        self.next_position: int | torch.Tensor = 0

    def see_prompt(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the whole model: note a prompt's ids. ValueError for a call that pruned runs do not support."""
        self.hooks.require_thread()
        if kwargs.get("labels") is not None:
            raise ValueError("pruned prompts have no rows for labels: leave the context to train or to score a text")
        input_ids = args[0] if args else kwargs.get("input_ids")
        if input_ids is not None and input_ids.shape[1] > 1:
            mask, cache, session = kwargs.get("attention_mask"), given_cache(kwargs), self.hooks.session
            if cache is not None and cache.get_seq_length() > 0 and not _is_of(cache, session):
                raise ValueError(
                    "several tokens came on a filled KV cache that is not of this context's latest generation: give "
                    "the whole conversation without a cache, or go on with the cache that generate returned"
                )
            if mask is not None and (not isinstance(mask, torch.Tensor) or mask.ndim != 2):
                raise ValueError("pruned runs need an empty DynamicCache: pass no cache_implementation and no cache")
            self.input_ids = input_ids
            self.padding_B = [0] * len(input_ids)
            if mask is not None:
                self.padding_B = left_padding(mask[:, -input_ids.shape[1] :])
            if len(input_ids) > 1 and not self.adapter.takes_batches:
                raise ValueError(
                    f"{type(self.adapter).__name__} pools all pictures of a call into one video, so that it takes a "
                    f"batch of one, got {len(input_ids)}: run the samples one after another"
                )
        elif input_ids is None and kwargs["inputs_embeds"].shape[1] > 1:
            raise ValueError(
                "pruned runs find the video by its ids: call with input_ids and pixels, not with inputs_embeds"
            )

    def before(self, module: Any, args: tuple, kwargs: dict[str, Any]):
        """Before the language model: put the pruned prompt, its positions and its mask into the call."""
        self.hooks.require_thread()
        if kwargs.get("inputs_embeds") is None:
            kwargs["inputs_embeds"] = module.get_input_embeddings()(kwargs.pop("input_ids"))
        embeddings, cache, session = kwargs["inputs_embeds"], given_cache(kwargs), self.hooks.session
        if embeddings.shape[1] > 1:
            self._take_turn(module, embeddings, cache, kwargs)
        elif session is None:
            raise ValueError("a decode step came before any prompt: begin generation inside the context")
        elif not _is_of(cache, session):
            raise ValueError(
                "the KV cache changed between steps: pruned runs follow one generation at a time, with use_cache=True"
            )
        else:
            kwargs["position_ids"] = torch.zeros_like(embeddings[..., 0], dtype=torch.long) + self.next_position
            self.next_position = self.next_position + 1
            self.rows += 1
            if self.mask_BL is not None:
                self.mask_BL = functional.pad(self.mask_BL, (0, 1), value=1)
        kwargs["attention_mask"] = self.mask_BL
        kwargs.pop("cache_position", None)
        return args, kwargs

    def _take_turn(self, module: nn.Module, embeddings: torch.Tensor, cache, kwargs: dict[str, Any]) -> None:
        """A prompt, or on a cache of this context a later turn."""
        if kwargs.get("use_cache") is False:
            raise ValueError("pruned runs need use_cache=True: without it each step would prune anew")
        ids_BN, self.input_ids = self.input_ids, None
        if ids_BN is None:
            raise ValueError(
                "the language model was called without the whole model, so that nothing tells where the video is: call "
                "the model that the context was opened for"
            )
        goes_on = cache is not None and cache.get_seq_length() > 0
        prompts = split(self.adapter, ids_BN, embeddings, self.padding_B, kwargs)
        fed = feed_prompts(self.adapter, prompts, self.shapes, self.tap, self.visual, self.seed, goes_on, self.images)
        self.shapes.clear()
        if not goes_on:
            self._begin(module, fed, cache, kwargs)
        session = self.hooks.session
        if self.memory is not None and goes_on and any(one.layouts for one in fed):
            raise ValueError(
                f"{type(self.memory).__name__} acts inside the model on the one video of a conversation: leave the "
                "memory stage out for a second video, or give the whole conversation anew"
            )
        if not isinstance(session, Session):
            session.take(fed)
        if goes_on:
            first_B = torch.as_tensor(self.next_position).reshape(-1).expand(len(fed))
            fed = [one.behind(first) for one, first in zip(fed, first_B, strict=True)]
        self.rows = embeddings.shape[1] + (self.rows if goes_on else 0)
        if len(fed) == 1:
            (one,) = fed
            kwargs["inputs_embeds"], kwargs["position_ids"] = one.embeddings_BLD, one.positions
            self.next_position = one.next_position
            return
        batch = stack(fed)
        kwargs["inputs_embeds"], kwargs["position_ids"] = batch.embeddings_BLD, batch.positions
        self.next_position = batch.next_B1
        if isinstance(session, VisualSession):
            past = [] if self.mask_BL is None else [self.mask_BL]
            self.mask_BL = torch.cat([*past, batch.mask_BL], dim=1)

    def _begin(self, module: nn.Module, fed: list[FedPrompt], cache, kwargs: dict[str, Any]) -> None:
        """A session for these prompts, in place of the one before."""
        language = self.adapter.language_model
        if cache is None:
            cache = kwargs[cache_argument(module)] = DynamicCache(config=language.config)
        self.close()
        self.mask_BL = None
        prunable = make_prunable(cache, len(language.layers))
        if self.memory is None:
            self.hooks.session = VisualSession(prunable, self.report)
            return
        for one in fed:
            if len(one.layouts) > 1:
                raise ValueError(
                    f"the prompt holds several videos ({len(one.layouts)}), but {type(self.memory).__name__} acts "
                    "inside the model on one: leave the memory stage out, or ask about one video at a time"
                )
        if len(fed) == 1:
            self.hooks.session = self._session(fed[0], prunable, self.report)
            return
        if language.config._attn_implementation != "sdpa":
            raise ValueError(
                f"{type(self.memory).__name__} in a batch needs a mask a layer, which "
                f"{language.config._attn_implementation!r} does not take: load the model with "
                "attn_implementation='sdpa', or run the samples one after another"
            )
        reports = [Report(memory=self.memory) for _ in fed]
        sessions = [
            self._session(one, [PrunableLayer() for _ in prunable], report)
            for one, report in zip(fed, reports, strict=True)
        ]
        self.hooks.session = BatchSession(sessions, prunable, self.report)

    def _session(self, fed: FedPrompt, cache: list[PrunableLayer], report: Report) -> Session:
        language = self.adapter.language_model
        return Session(language.layers, language.rotary_emb, self.memory, fed.layout, cache, report, levels=fed.levels)

    def after(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Behind the language model: the cache counts what was pruned as well, as the prompt's owner does."""
        self.hooks.session.finish_forward()
        for layer in self.hooks.session.cache:
            layer.left_out = self.rows - layer.logical_length
        if self.mask_BL is not None:
            self.mask_BL = functional.pad(self.mask_BL, (self.rows - self.mask_BL.shape[1], 0), value=1)

    def close(self) -> None:
        """The cache of the generation before can be used no more: only this session knows what its layers lack."""
        for layer in self.hooks.session.cache if self.hooks.session is not None else []:
            layer.closed = True


def _is_of(cache: Any, session: Any) -> bool:
    return cache is not None and session is not None and bool(cache.layers) and cache.layers[0] is session.cache[0]
