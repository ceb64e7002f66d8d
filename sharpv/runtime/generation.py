"""What happens in the calls of one pruning context, from its hooks: prompts, later turns, decode steps.

Shape suffixes: B batch, N rows of the dense prompt, L rows as fed, D width.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.cache_utils import DynamicCache

from sharpv.runtime.adapter import Adapter, Shape
from sharpv.runtime.cache import cache_argument, given_cache, make_prunable
from sharpv.runtime.prompt import FedPrompt
from sharpv.runtime.report import Report
from sharpv.runtime.session import Session
from sharpv.runtime.turn import feed_prompts, split
from sharpv.runtime.visual_session import VisualSession, left_padding, stack


class Generation:
    """Follows the calls of one context: a prompt begins a session or, on its cache, a later turn of it; each other call
    is one decode step."""

    def __init__(self, adapter: Adapter, visual, memory, hooks: Any, tap, shapes: list[Shape], seed: int):
        self.adapter, self.visual, self.memory, self.hooks = adapter, visual, memory, hooks
        self.tap, self.shapes, self.seed = tap, shapes, seed
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
            self.report.encoded_before = kwargs.get("mm_encoder_outputs") is not None
            self.padding_B = [0] * len(input_ids)
            if mask is not None:
                self.padding_B = left_padding(mask[:, -input_ids.shape[1] :])
            self._require_one_prompt_where_needed()
        elif input_ids is None and kwargs["inputs_embeds"].shape[1] > 1:
            raise ValueError(
                "pruned runs find the video by its ids: call with input_ids and pixels, not with inputs_embeds"
            )

    def _require_one_prompt_where_needed(self) -> None:
        """ValueError for a batch or a padded prompt where the memory stage or the model family takes none."""
        samples, way_out = len(self.padding_B), "run the samples one after another, unpadded"
        if samples == 1 and not self.padding_B[0]:
            return
        if self.memory is not None:
            raise ValueError(
                f"{type(self.memory).__name__} acts inside the model, where it takes a batch of one, got {samples} "
                f"(with {max(self.padding_B)} rows of padding): {way_out}, or leave the memory stage out"
            )
        if not self.adapter.takes_batches:
            raise ValueError(
                f"{type(self.adapter).__name__} pools all pictures of a call into one video, so that it takes a batch "
                f"of one, got {samples} (with {max(self.padding_B)} rows of padding): {way_out}"
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
        fed = feed_prompts(self.adapter, prompts, self.shapes, self.tap, self.visual, self.seed, goes_on)
        self.shapes.clear()
        if not goes_on:
            self._begin(module, fed, cache, kwargs)
        session = self.hooks.session
        if isinstance(session, VisualSession):
            session.take(fed)
        elif goes_on and fed[0].layouts:
            raise ValueError(
                f"{type(self.memory).__name__} acts inside the model on the one video of a conversation: leave the "
                "memory stage out for a second video, or give the whole conversation anew"
            )
        if goes_on:
            first_B = torch.as_tensor(self.next_position).reshape(-1).expand(len(fed))
            fed = [one.behind(first) for one, first in zip(fed, first_B, strict=True)]
        length = max(one.length for one in fed)
        self.rows = embeddings.shape[1] + (self.rows if goes_on else 0)
        kwargs["inputs_embeds"], kwargs["position_ids"] = fed[0].embeddings_BLD, fed[0].positions
        self.next_position, mask_BL = fed[0].next_position, None
        if len(fed) > 1 or self.padding_B[0]:
            batch = stack(fed)
            kwargs["inputs_embeds"], kwargs["position_ids"] = batch.embeddings_BLD, batch.positions
            self.next_position, mask_BL = batch.next_B1, batch.mask_BL
        if mask_BL is not None or self.mask_BL is not None:
            of_turn = embeddings.new_ones(len(fed), length, dtype=torch.long) if mask_BL is None else mask_BL
            before = cache.get_seq_length() if goes_on else 0
            of_past = of_turn.new_ones(len(fed), before) if self.mask_BL is None else self.mask_BL
            self.mask_BL = torch.cat([of_past, of_turn], dim=1)

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
        if len(fed[0].layouts) > 1:
            raise ValueError(
                f"the prompt holds several videos ({len(fed[0].layouts)}), but {type(self.memory).__name__} acts "
                "inside the model on one: leave the memory stage out, or ask about one video at a time"
            )
        self.hooks.session = Session(
            language.layers,
            language.rotary_emb,
            self.memory,
            fed[0].layout,
            prunable,
            self.report,
            levels=fed[0].levels,
        )

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
