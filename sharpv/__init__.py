"""Training-free visual-token pruning of VideoLLMs: methods, a runtime for stock models, and honest comparison.

The names below are imported when first used, so that `sharpv.reports` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpv.pair import Pruner
    from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV
    from sharpv.tokens import Selection, VideoTokens

__version__ = "0.1.0"
__all__ = ["MemorySharpV", "Pruner", "Selection", "SharpV", "VideoTokens", "VisualSharpV"]
_HOMES = {
    "MemorySharpV": "sharpv.pruners.sharpv",
    "Pruner": "sharpv.pair",
    "Selection": "sharpv.tokens",
    "VideoTokens": "sharpv.tokens",
    "VisualSharpV": "sharpv.pruners.sharpv",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sharpv' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def SharpV(visual: "VisualSharpV | None" = None, memory: "MemorySharpV | None" = None) -> "Pruner":
    """Both stages of SharpV with the paper's settings, or with the stages given."""
    from sharpv.pair import Pruner
    from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV

    return Pruner(visual or VisualSharpV(), memory or MemorySharpV())
