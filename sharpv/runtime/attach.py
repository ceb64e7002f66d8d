"""Hooks on a stock model's decoder, and their removal. The vision tower's are beside its adapter.

Shape suffixes: B batch (1), N rows, D width.
"""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.runtime.adapter import Adapter, Shape
from sharpv.runtime.cache import make_prunable
from sharpv.runtime.prompt import feed, find_span
from sharpv.runtime.session import Report, Session

CACHE_NAMES = ("cache", "past_key_values")
"""What the argument with the KV cache is called, from transformers 5.24 on and before."""


def cache_argument(module: nn.Module) -> str:
    """The name under which this module's forward takes its KV cache."""
    taken = inspect.signature(module.forward).parameters
    return next(name for name in CACHE_NAMES if name in taken)


def given_cache(kwargs: dict[str, Any]) -> Any:
    """The KV cache among a call's arguments, None where there is none."""
    return next((kwargs[name] for name in CACHE_NAMES if kwargs.get(name) is not None), None)


def check_backend(language_model: Any) -> None:
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
        self.thread = get_ident()
        layers = adapter.language_model.layers
        if any(isinstance(getattr(hook, "owner", None), LayerHooks) for hook in layers[0]._forward_pre_hooks.values()):
            raise ValueError("the model is inside a pruning context already: leave that one before the next begins")
        for index, layer in enumerate(layers):
            stack.callback(layer.register_forward_pre_hook(self._enter(index), with_kwargs=True).remove)
            stack.callback(layer.register_forward_hook(self._leave(index)).remove)
            stack.callback(layer.post_attention_layernorm.register_forward_pre_hook(self._attended(index)).remove)

    def require_thread(self) -> None:
        """ValueError in any thread but the one that opened the context: hooks are the model's, so its requests would be
        pruned, and mixed with those of this one."""
        if get_ident() != self.thread:
            raise ValueError(
                "another thread holds this model in a pruning context: answer there, or give each thread a model of "
                "its own"
            )

    def _enter(self, index: int):
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]):
            if self.session is None:
                return None
            self.require_thread()
            hidden = args[0] if args else kwargs.pop("hidden_states")
            return (self.session.enter(index, hidden, kwargs), *args[1:]), kwargs

        hook.owner = self  # type: ignore[attr-defined]
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

    Yields a report that always describes the latest generation. A cache that was pruned can be used inside the context
    only. ValueError for what pruned runs do not support: a batch, padding, beams, given or static caches,
    use_cache=False, images, several videos, labels, eager attention, a second context or thread on the same model.
    """
    if memory is not None:
        memory.check(len(adapter.language_model.layers))
    with ExitStack() as stack:
        hooks = stack.enter_context(layer_hooks(adapter))
        tap = None
        if visual is not None and visual.tower_layers is not None:
            tap = stack.enter_context(adapter.tap_tower(visual.tower_layers))
        shapes = stack.enter_context(adapter.shapes())
        generation = _Generation(adapter, visual, memory, hooks, tap, shapes, seed)
        stack.callback(generation.close)
        stack.callback(adapter.model.register_forward_pre_hook(generation.see_prompt, with_kwargs=True).remove)
        stack.callback(adapter.language_model.register_forward_pre_hook(generation.before, with_kwargs=True).remove)
        stack.callback(adapter.language_model.register_forward_hook(generation.after).remove)
        yield generation.report


class _Generation:
    """Follows the calls of one context: a prefill begins a session, each later call is one decode step of it."""

    def __init__(self, adapter: Adapter, visual, memory, hooks: LayerHooks, tap, shapes: list[Shape], seed: int):
        self.adapter, self.visual, self.memory, self.hooks = adapter, visual, memory, hooks
        self.tap, self.shapes, self.seed = tap, shapes, seed
        self.report = Report()
        self.input_ids: torch.Tensor | None = None
        self.next_position: int | torch.Tensor = 0

    def see_prompt(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.hooks.require_thread()
        if kwargs.get("labels") is not None:
            raise ValueError("pruned prompts have no rows for labels: leave the context to train or to score a text")
        input_ids = args[0] if args else kwargs.get("input_ids")
        if input_ids is not None and input_ids.shape[1] > 1:
            mask, cache = kwargs.get("attention_mask"), given_cache(kwargs)
            if cache is not None and cache.get_seq_length() > 0:
                raise ValueError(
                    "several tokens came on a filled KV cache: pruned runs take the whole prompt at once and then one "
                    "token a step; pass no cache of your own and no prompt_lookup_num_tokens, no assistant model"
                )
            if mask is not None and not isinstance(mask, torch.Tensor):
                raise ValueError("pruned runs need an empty DynamicCache: pass no cache_implementation and no cache")
            if mask is not None and not bool(mask.all()):
                raise ValueError("the attention mask hides tokens: pruned runs take one unpadded prompt")
            self.input_ids = input_ids
        elif input_ids is None and kwargs["inputs_embeds"].shape[1] > 1:
            raise ValueError(
                "pruned runs find the video by its ids: call with input_ids and pixels, not with inputs_embeds"
            )

    def before(self, module: Any, args: tuple, kwargs: dict[str, Any]):
        self.hooks.require_thread()
        if kwargs.get("inputs_embeds") is None:
            kwargs["inputs_embeds"] = module.get_input_embeddings()(kwargs.pop("input_ids"))
        embeddings, cache, session = kwargs["inputs_embeds"], given_cache(kwargs), self.hooks.session
        if embeddings.shape[1] > 1:
            self._begin(module, embeddings, cache, kwargs)
        elif session is None:
            raise ValueError("a decode step came before any prompt: begin generation inside the context")
        elif cache is None or cache.layers[0] is not session.cache[0]:
            raise ValueError(
                "the KV cache changed between steps: pruned runs follow one generation at a time, with use_cache=True"
            )
        else:
            kwargs["position_ids"] = torch.zeros_like(embeddings[..., 0], dtype=torch.long) + self.next_position
            self.next_position = self.next_position + 1
        kwargs["attention_mask"] = None
        kwargs.pop("cache_position", None)
        return args, kwargs

    def _begin(self, module: nn.Module, embeddings: torch.Tensor, cache, kwargs: dict[str, Any]) -> None:
        if kwargs.get("use_cache") is False:
            raise ValueError("pruned runs need use_cache=True: without it each step would prune anew")
        if self.input_ids is None:
            raise ValueError(
                "the language model was called without the whole model, so that nothing tells where the video is: call "
                "the model that the context was opened for"
            )
        language = self.adapter.language_model
        if cache is None:
            cache = kwargs[cache_argument(module)] = DynamicCache(config=language.config)
        self.close()
        prunable = make_prunable(cache, len(language.layers))
        tower = self.tap.tower() if self.tap else None
        positions = kwargs.get("position_ids")
        # Rows for time, height and width come last; what generate puts in front of them numbers the text.
        positions_RN = positions[-3:, 0] if positions is not None and positions.ndim == 3 else None
        kwargs.pop("visual_pos_masks", None)
        levels = kwargs.pop("deepstack_visual_embeds", None)
        levels_MVD = None if levels is None else torch.stack(list(levels))
        if len(self.shapes) > 1:
            raise ValueError(f"the prompt holds several videos ({len(self.shapes)}): pruned runs take exactly one")
        shape = self.shapes[0] if self.shapes else None
        span = find_span(self.adapter, self.input_ids, shape, positions_RN, levels_MVD)
        self.input_ids = None
        self.shapes.clear()
        fed = feed(embeddings, span, len(language.layers), self.visual, self.seed, tower)
        self.hooks.session = Session(
            language.layers, language.rotary_emb, self.memory, fed.layout, prunable, self.report, False, fed.levels_MKD
        )
        kwargs["inputs_embeds"], kwargs["position_ids"] = fed.embeddings_BLD, fed.positions
        self.next_position = fed.next_position

    def after(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.hooks.session.finish_forward()

    def close(self) -> None:
        """The cache of the generation before can be used no more: only this session knows what its layers lack."""
        for layer in self.hooks.session.cache if self.hooks.session is not None else []:
            layer.closed = True
