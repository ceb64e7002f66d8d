"""Peak memory of one answer as its row alone would need it; in extra passes, since measuring slows a CPU down."""

from collections.abc import Callable

import torch

from sharpv.answering.encoding import Encoded, tower_layers, vision_pass
from sharpv.configuration.rows import Row
from sharpv.metrics.memory import peak_memory, weight_bytes
from sharpv.models.loaded import Loaded
from sharpv.tokens import Tower


def footprint(
    loaded: Loaded, row: Row, encoded: Encoded, frames: int, kv_bytes: int, answer: Callable[[Encoded], object]
) -> dict[str, int]:
    """Bytes: weights, peak above them, their sum, and the KV cache after prefill.

    The vision pass runs on as many frames as the row encodes and records the tower only where the row declares that;
    the answer is made anew with its own selection, on top of the video's tokens and of what was recorded.
    """
    with torch.inference_mode():
        with peak_memory(loaded.device) as vision:
            pixels = encoded.pixels[:frames].clone()
            tower = vision_pass(loaded, pixels, tower_layers(row))[1]
        tokens_TPD = encoded.vision.tokens_TPD
        if frames < len(tokens_TPD):
            tower = None
        alone = Encoded(encoded.vision, encoded.pixels, tower, encoded.times)
        held = pixels.nbytes + tokens_TPD[:frames].nbytes + _tower_bytes(tower)
        with peak_memory(loaded.device) as answering:
            answer(alone)
    weights, above = weight_bytes(loaded.adapter.model), max(vision.above, held + answering.above)
    return {
        "weights_bytes": weights,
        "above_weights_bytes": above,
        "peak_bytes": weights + above,
        "kv_bytes": kv_bytes,
    }


def _tower_bytes(tower: Tower | None) -> int:
    if tower is None:
        return 0
    return sum(part.nbytes for part in (*tower.queries.values(), *tower.keys.values(), tower.states_TRX))
