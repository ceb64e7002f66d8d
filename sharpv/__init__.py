"""Training-free visual-token pruning of VideoLLMs: methods, a runtime for stock models, and honest comparison."""

from sharpv.pair import Pruner
from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV
from sharpv.tokens import Selection, VideoTokens

__version__ = "0.1.0"
__all__ = ["MemorySharpV", "Pruner", "Selection", "SharpV", "VideoTokens", "VisualSharpV"]


def SharpV(visual: VisualSharpV | None = None, memory: MemorySharpV | None = None) -> Pruner:  # noqa: N802
    """Both stages of SharpV with the paper's settings, or with the stages given."""
    return Pruner(visual or VisualSharpV(), memory or MemorySharpV())
