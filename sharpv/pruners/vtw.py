"""VTW, visual tokens withdrawal: from some layer on the model goes on with text alone."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from sharpv.checks import require_fields
from sharpv.pruners.base import MemoryPruner, scaled_layer
from sharpv.pruners.view import Layer, Site
from sharpv.tokens import Selection


@dataclass
class VTW(MemoryPruner):
    """Takes what the text needs of the video to have passed into it by the middle of the model. At that layer every
    visual row leaves, so that deeper layers compute and cache text only, at its original positions.

    Paper: VTW, AAAI 2025 (arXiv 2405.05803). Official: lzhxmu/VTW @ a3d8cfc3c3f8c957b02b504f85e140d633c30453.

    layer: K, the first layer without visual rows (a 28-layer model's number; scale_layers=False takes it as it is); 0
    is text alone from the start. The default is half the depth, as the authors' 15 or 16 of 32;
    `sharpv.runtime.calibrate_vtw` chooses it from data.
    separator: `withdraw` takes rows such as the newline away with the video, as the authors do with what stands among
    the image tokens; `keep` leaves them.

    Complexity: no scores; a gather, once. Visual rows are in K of depth layers.
    Deviations: the visual span is the real one for any prompt; the authors' mode with re-numbered positions is not
    offered. A K from the depth on, with which the authors withdraw nothing, is refused.
    """

    layer: int = 14
    separator: Literal["keep", "withdraw"] = "withdraw"
    scale_layers: bool = True

    def __post_init__(self) -> None:
        require_fields(self)
        if self.layer < 0:
            raise ValueError(f"layer={self.layer} must be at least 0, with which the model sees no video at all")

    def check(self, depth: int) -> None:
        self.first_blind(depth)

    def first_blind(self, depth: int) -> int:
        """The first layer that sees no visual row."""
        return scaled_layer(self.layer, depth, self.scale_layers)

    def mean_share(self, depth: int) -> float:
        return self.first_blind(depth) / depth

    def at_budget(self, share: float, depth: int) -> Self:
        """The nearest there is: it comes in steps of a layer."""
        layer = round(share * depth)
        if not layer:
            raise ValueError(f"one of {depth} layers is {1 / depth:.1%}, and fewer than one sees no video")
        return replace(self, layer=layer, scale_layers=False)

    def keep_rows(self, layer: Layer, site: Site, state: Any) -> Selection | None:
        if layer.index != self.first_blind(layer.depth):
            return None
        return Selection(layer.alive_V[:0], positions="original", separator=self.separator)
