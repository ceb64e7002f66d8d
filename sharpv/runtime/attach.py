"""Hooks on a stock model's decoder, and their removal. The vision tower's are beside its adapter."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

from torch import nn

from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.runtime.adapter import Adapter
from sharpv.runtime.generation import Generation
from sharpv.runtime.report import Report
from sharpv.runtime.turn import Images


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
    adapter: Adapter,
    visual: VisualPruner | None,
    memory: MemoryPruner | None,
    seed: int = 0,
    images: Images = "keep",
) -> Iterator[Report]:
    """Prune plain `model.generate(**inputs)` and `model(**inputs)` calls made inside the context.

    Yields a report that always describes the latest generation. A cache that was pruned can be used inside the context
    only, where later turns go on with it. Images are left alone, or pruned as videos of one frame. ValueError for what
    pruned runs do not support: given or static caches, cropped ones (assisted decoding), use_cache=False, labels, eager
    attention, padding on the right, a second context or thread on the same model; and under a memory stage: beams,
    several videos in a prompt or conversation.
    """
    if memory is not None:
        memory.check(len(adapter.language_model.layers))
    with ExitStack() as stack:
        hooks = stack.enter_context(layer_hooks(adapter))
        tap = None
        if visual is not None and visual.tower_layers is not None:
            tap = stack.enter_context(adapter.tap_tower(visual.tower_layers))
        shapes = stack.enter_context(adapter.shapes())
        generation = Generation(adapter, visual, memory, hooks, tap, shapes, seed, images)
        stack.callback(generation.close)
        stack.callback(adapter.model.register_forward_pre_hook(generation.see_prompt, with_kwargs=True).remove)
        stack.callback(adapter.language_model.register_forward_pre_hook(generation.before, with_kwargs=True).remove)
        stack.callback(adapter.language_model.register_forward_hook(generation.after).remove)
        yield generation.report
