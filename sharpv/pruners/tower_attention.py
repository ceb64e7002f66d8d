"""Attention that the vision tower pays each token, as VisionZip, HoliTom and FlashVID read it.

Shape suffixes: T frames, P tokens per frame, A tower heads, R raw patches (CLS first where there is one), Q query rows,
E head width.
"""

import torch

from sharpv.tokens import Tower

SCORES_AT_ONCE = 2**23


def attention_received(tower: Tower, layer: int) -> torch.Tensor:
    """Attention per token (T, P), float32, high = keep, through the model's own pooling.

    Mean over heads and query rows of what a patch receives in that tower layer; where the tower has a CLS token, what
    this one pays. O(T A R^2 E) time, frame by frame in blocks of SCORES_AT_ONCE float32 scores, with a CLS token
    O(T A R E). No read-back.
    """
    queries_TAQE, keys_TARE = tower.queries[layer], tower.keys[layer]
    if tower.has_cls:
        queries_TAQE = queries_TAQE[:, :, :1]
    received_TR = torch.stack([_received(q, k) for q, k in zip(queries_TAQE, keys_TARE, strict=True)])
    return tower.pool(received_TR[:, int(tower.has_cls) :, None]).squeeze(-1)


def _received(queries_AQE: torch.Tensor, keys_ARE: torch.Tensor) -> torch.Tensor:
    """Attention that each raw patch of one frame receives, mean over heads and queries, float32 (R,)."""
    heads, patches, width = keys_ARE.shape
    keys_AER = keys_ARE.float().transpose(1, 2) * width**-0.5
    blocks = queries_AQE.float().split(max(1, SCORES_AT_ONCE // (heads * patches)), dim=1)
    return sum((block @ keys_AER).softmax(-1).sum((0, 1)) for block in blocks) / queries_AQE.shape[:2].numel()
