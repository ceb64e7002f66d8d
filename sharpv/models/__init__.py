"""One folder per VideoLLM family."""

from importlib import import_module

from torch import nn

from sharpv.runtime.adapter import Adapter

FAMILIES = {
    "llava_onevision": "sharpv.models.llava_onevision.adapter:LlavaOnevision",
    "llava": "sharpv.models.pllava.adapter:Pllava",
    "llava_video": "sharpv.models.llava_video.adapter:LlavaVideo",
    "qwen2_5_vl": "sharpv.models.qwen_vl.adapter:QwenVL",
    "qwen3_vl": "sharpv.models.qwen_vl.adapter:QwenVL",
    "internvl": "sharpv.models.internvl.adapter:InternVL",
}
"""Where the adapter of a family is, imported when a model of it comes: a changed family leaves the others' answers."""
WRAPPERS = {
    "_orig_mod": (
        "torch.compile's wrapper",
        "give the model inside, model._orig_mod, or compile in place: model.compile()",
    ),
    "get_base_model": (
        "a PEFT wrapper",
        "give the model inside, model.get_base_model(), whose layers hold the adapters",
    ),
    "module": ("a wrapper for several devices", "give the model inside, model.module"),
}
"""What a model's wrapper is known by, what it is, and the way out."""


def adapter_for(model: nn.Module) -> Adapter:
    """The adapter of a loaded transformers model; ValueError naming the families there are, and for the wrapper of a
    model or its inside alone.

    A model whose stock class does not tell its family carries it, and settings of its adapter, in `config.sharpv`.
    """
    for known_by, (kind, way_out) in WRAPPERS.items():
        if hasattr(model, known_by):
            raise ValueError(f"{type(model).__name__} is {kind}: give the model inside, {way_out}")
    config = getattr(model, "config", None)
    settings = dict(getattr(config, "sharpv", None) or {})
    family = settings.pop("family", None) or getattr(config, "model_type", None)
    if family not in FAMILIES:
        raise ValueError(f"no adapter for model type {family!r}; supported: {', '.join(FAMILIES)}")
    if not hasattr(model, "generate"):
        raise ValueError(f"{type(model).__name__} is the inside of a model: give the whole, whose generate() you call")
    module, name = FAMILIES[family].split(":")
    return getattr(import_module(module), name)(model, **settings)
