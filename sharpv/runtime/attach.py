"""Hooks on a stock model's decoder, and their removal. The vision tower's are beside its adapter, in `tap_tower`.

Shape suffixes: B batch (1), N rows, D width.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from sharpv.pruners.base import Layout, MemoryPruner, VisualPruner
from sharpv.runtime.adapter import Adapter
from sharpv.runtime.cache import make_prunable
from sharpv.runtime.prompt import FedPrompt, Span, feed, find_span
from sharpv.runtime.session import Report, Session


def check_backend(language_model: nn.Module) -> None:
    """ValueError unless attention runs by SDPA or FlashAttention, the backends that take layers of different length."""
    backend = language_model.config._attn_implementation
    if backend not in ("sdpa", "flash_attention_2"):
        raise ValueError(
            f"attn_implementation={backend!r} builds one mask for all layers, but pruned layers differ in length; "
            "load the model with 'sdpa' or 'flash_attention_2'"
        )


class LayerHooks:
    """Calls the session that is current, if any, from the decoder's layers."""

    def __init__(self, adapter: Adapter, stack: ExitStack):
        self.session: Any = None
        for index, layer in enumerate(adapter.language_model.layers):
            stack.callback(layer.register_forward_pre_hook(self._enter(index), with_kwargs=True).remove)
            stack.callback(layer.register_forward_hook(self._leave(index)).remove)
            stack.callback(layer.post_attention_layernorm.register_forward_pre_hook(self._attended(index)).remove)

    def _enter(self, index: int):
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]):
            if self.session is None:
                return None
            hidden = args[0] if args else kwargs.pop("hidden_states")
            return (self.session.enter(index, hidden, kwargs), *args[1:]), kwargs

        return hook

    def _attended(self, index: int):
        def hook(module: nn.Module, args: tuple) -> None:
            if self.session is not None:
                self.session.attended(index, args[0])

        return hook

    def _leave(self, index: int):
        def hook(module: nn.Module, args: tuple, output: Any):
            if self.session is None:
                return None
            if isinstance(output, tuple):
                return (self.session.leave(index, output[0]), *output[1:])
            return self.session.leave(index, output)

        return hook


@contextmanager
def layer_hooks(adapter: Adapter) -> Iterator[LayerHooks]:
    """Hooks on the decoder's layers for as long as the context lasts; the model is as before on any exit."""
    check_backend(adapter.language_model)
    with ExitStack() as stack:
        yield LayerHooks(adapter, stack)


@contextmanager
def attach(
    adapter: Adapter, visual: VisualPruner | None, memory: MemoryPruner | None, seed: int = 0
) -> Iterator[Report]:
    """Prune plain `model.generate(**inputs)` and `model(**inputs)` calls made inside the context.

    Yields a report that always describes the latest generation. ValueError for what pruned runs do not support: a
    batch, padding, beams, given or static caches, use_cache=False, images, several videos, eager attention.
    """
    if memory is not None:
        memory.check(len(adapter.language_model.layers))
    with ExitStack() as stack:
        hooks = stack.enter_context(layer_hooks(adapter))
        tap = None
        if visual is not None and visual.tower_layers is not None:
            tap = stack.enter_context(adapter.tap_tower(visual.tower_layers))
        generation = _Generation(adapter, visual, memory, hooks, tap, seed)
        stack.callback(adapter.model.register_forward_pre_hook(generation.see_prompt, with_kwargs=True).remove)
        stack.callback(adapter.language_model.register_forward_pre_hook(generation.before, with_kwargs=True).remove)
        stack.callback(adapter.language_model.register_forward_hook(generation.after).remove)
        yield generation.report


class _Generation:
    """Follows the calls of one context: a prefill begins a session, each later call is one decode step of it."""

    def __init__(self, adapter: Adapter, visual, memory, hooks: LayerHooks, tap, seed: int):
        self.adapter, self.visual, self.memory, self.hooks, self.tap, self.seed = (
            adapter,
            visual,
            memory,
            hooks,
            tap,
            seed,
        )
        self.report = Report()
        self.span: Span | None = None
        self.next_position = 0

    def see_prompt(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        input_ids = args[0] if args else kwargs.get("input_ids")
        if input_ids is not None and input_ids.shape[1] > 1:
            mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
            if cache is not None and cache.get_seq_length() > 0:
                raise ValueError(
                    "several tokens came on a filled KV cache: pruned runs take the whole prompt at once and then one "
                    "token a step; pass no past_key_values and no prompt_lookup_num_tokens, no assistant model"
                )
            if mask is not None and not isinstance(mask, torch.Tensor):
                raise ValueError(
                    "pruned runs need an empty DynamicCache: pass no cache_implementation, no past_key_values"
                )
            if mask is not None and not bool(mask.all()):
                raise ValueError("the attention mask hides tokens: pruned runs take one unpadded prompt")
            self.span = find_span(self.adapter, input_ids)
        elif input_ids is None and kwargs["inputs_embeds"].shape[1] > 1:
            raise ValueError(
                "pruned runs find the video by its ids: call with input_ids and pixels, not with inputs_embeds"
            )

    def before(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]):
        if kwargs.get("inputs_embeds") is None:
            kwargs["inputs_embeds"] = module.get_input_embeddings()(kwargs.pop("input_ids"))
        embeddings, cache = kwargs["inputs_embeds"], kwargs.get("past_key_values")
        if embeddings.shape[1] > 1:
            self._begin(embeddings, cache, kwargs)
        elif self.hooks.session is None:
            raise ValueError("a decode step came before any prompt: begin generation inside the context")
        elif cache is None or cache.layers[0] is not self.hooks.session.cache[0]:
            raise ValueError(
                "the KV cache changed between steps: pruned runs follow one generation at a time, with use_cache=True"
            )
        else:
            kwargs["position_ids"] = torch.full_like(embeddings[..., 0], self.next_position, dtype=torch.long)
            self.next_position += 1
        kwargs["attention_mask"] = None
        kwargs.pop("cache_position", None)
        return args, kwargs

    def _begin(self, embeddings: torch.Tensor, cache: DynamicCache | None, kwargs: dict[str, Any]) -> None:
        if kwargs.get("use_cache") is False:
            raise ValueError("pruned runs need use_cache=True: without it each step would prune anew")
        if cache is None:
            cache = kwargs["past_key_values"] = DynamicCache(config=self.adapter.language_model.config)
        layers = self.adapter.language_model.layers
        prunable = make_prunable(cache, len(layers))
        tower = self.tap.tower() if self.tap else None
        assert self.span is not None
        fed: FedPrompt = feed(embeddings, self.span, len(layers), self.visual, self.seed, tower)
        self._open(fed.layout, prunable)
        kwargs["inputs_embeds"], kwargs["position_ids"] = fed.embeddings_BLD, fed.positions_BL
        self.next_position = fed.next_position

    def _open(self, layout: Layout, prunable: list) -> None:
        language = self.adapter.language_model
        session = Session(language.layers, language.rotary_emb, self.memory, layout, prunable, self.report)
        self.hooks.session = session

    def after(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.hooks.session.finish_forward()
