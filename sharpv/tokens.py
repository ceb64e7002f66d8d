"""What a visual pruner sees and what it returns.

Shape suffixes: T frames, P tokens per frame, D width, N = T * P, K kept rows, L tower layers, R raw patches
(with the CLS token first where the tower has one), A attention heads, E head width, Q rows of text behind the video.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Tower:
    """The inside of the vision tower, for methods that declare that they need it.

    queries, keys: raw projections of the layers asked for, by layer index (negative counts from the last layer that
    the model runs), each (T, A, R, E) in the tower's dtype. has_cls: whether row 0 of R is a CLS token.
    states: what the projector was fed, (T, R without CLS, tower width). head: the tower's attention-pooling head or
    None. pool: the model's own pooling of raw patches, (T, R without CLS, X) -> (T, P, X).
    """

    queries: dict[int, torch.Tensor]
    keys: dict[int, torch.Tensor]
    has_cls: bool
    states_TRX: torch.Tensor
    head: nn.Module | None
    pool: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class VideoTokens:
    """One video's tokens after projector and pooling, separators such as the newline row excluded.

    features_TPD: floating point, any dtype. grid: (height, width) with height * width = P. seed: of this sample; the
    only source of randomness a method may use. tower: only where the method's `tower_layers` is not None. question_QD:
    embeddings of the text behind the video, template included, only where the method's `reads_question` is true.
    """

    features_TPD: torch.Tensor
    grid: tuple[int, int]
    seed: int = 0
    tower: Tower | None = None
    question_QD: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.features_TPD.ndim != 3:
            raise ValueError(
                f"features_TPD must be (frames, tokens, width), got shape {tuple(self.features_TPD.shape)}"
            )
        if self.grid[0] * self.grid[1] != self.tokens_per_frame:
            raise ValueError(f"grid {self.grid} does not hold the {self.tokens_per_frame} tokens of a frame")

    @property
    def frames(self) -> int:
        return self.features_TPD.shape[0]

    @property
    def tokens_per_frame(self) -> int:
        return self.features_TPD.shape[1]

    @property
    def total(self) -> int:
        return self.frames * self.tokens_per_frame

    @property
    def features_ND(self) -> torch.Tensor:
        return self.features_TPD.flatten(0, 1)

    @property
    def device(self) -> torch.device:
        return self.features_TPD.device

    def generator(self) -> torch.Generator:
        """A CPU generator seeded for this sample, so that every device draws the same numbers."""
        return torch.Generator().manual_seed(self.seed)

    def require_finite(self) -> torch.Tensor:
        """The features in float32 (T, P, D); ValueError naming the first frame that holds a NaN or an infinity.

        One read-back from the device.
        """
        features_TPD = self.features_TPD.float()
        finite_T = torch.isfinite(features_TPD.sum((1, 2)))
        if not bool(finite_T.all()):
            frame = int((~finite_T).nonzero()[0])
            raise ValueError(f"frame {frame} of the video has features that are not finite (NaN or infinity)")
        return features_TPD


@dataclass(frozen=True)
class Selection:
    """Which rows a stage keeps, in the order in which the method feeds them.

    origin_K: int64, flat frame-major source index of each output row; -1 for a synthetic row.
    features_KD: the output rows, or None where they are the source rows unchanged.
    assign_N: int64 (N,), for merging methods: the output row that each input token went to, -1 for none.
    group_K: int64, optional labels that a later stage of the same method reads.
    positions: `contiguous` re-numbers the kept rows; `original` keeps each row's place in the dense prompt. Models
    whose positions have three components (M-RoPE) always keep each row's own.
    separator: what becomes of the model's separator rows (newlines), a rule of `sharpv.runtime.adapter`; None = what
    the model's family does.
    notes: numbers worth logging, such as thresholds reached.
    """

    origin_K: torch.Tensor
    features_KD: torch.Tensor | None = None
    assign_N: torch.Tensor | None = None
    group_K: torch.Tensor | None = None
    positions: Literal["contiguous", "original"] = "contiguous"
    separator: Literal["keep", "occupied", "frame", "behind", "withdraw"] | None = None
    notes: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.origin_K)

    def rows(self, features_ND: torch.Tensor) -> torch.Tensor:
        """The output rows (K, D) in the dtype of the source rows."""
        if self.features_KD is not None:
            return self.features_KD.to(features_ND.dtype)
        return features_ND[self.origin_K.to(features_ND.device)]

    def source_K(self) -> torch.Tensor:
        """The source token whose place each output row has: its own, or for a synthetic row the first merged into it.

        No read-back: that synthetic rows come with `assign_N`, `per_frame` demands.
        """
        if self.assign_N is None:
            return self.origin_K.clamp(min=0)
        assign_N, total = self.assign_N, len(self.assign_N)
        into_N = torch.where(assign_N < 0, len(self), assign_N)
        token_N = torch.arange(total, device=assign_N.device)
        first_K = torch.full((len(self) + 1,), total - 1, device=assign_N.device)
        first_K = first_K.scatter_reduce(0, into_N, token_N, "amin")[:-1]
        return torch.where(self.origin_K < 0, first_K.to(self.origin_K.device), self.origin_K)

    def in_prompt_order(self) -> "Selection":
        """The same rows sorted by the places of their source tokens."""
        order_K = self.source_K().argsort(stable=True)
        moved_K = torch.empty_like(order_K).scatter_(0, order_K, torch.arange(len(self), device=order_K.device))
        assign_N = self.assign_N
        if assign_N is not None:
            at_N = moved_K.to(assign_N.device)[assign_N.clamp(min=0)]
            assign_N = torch.where(assign_N < 0, assign_N, at_N)
        return replace(
            self,
            origin_K=self.origin_K[order_K],
            features_KD=None if self.features_KD is None else self.features_KD[order_K],
            assign_N=assign_N,
            group_K=None if self.group_K is None else self.group_K[order_K],
        )

    def represented_N(self, total: int) -> torch.Tensor:
        """bool (N,): source tokens that are an output row themselves."""
        mask_N = torch.zeros(total, dtype=torch.bool)
        origin_K = self.origin_K.cpu()
        mask_N[origin_K[origin_K >= 0]] = True
        return mask_N

    def per_frame(self, video: VideoTokens) -> list[float]:
        """Output rows per frame; a synthetic row is shared among the frames whose tokens were merged into it."""
        origin_K = self.origin_K.cpu()
        real_K = origin_K >= 0
        share_T = torch.bincount(origin_K[real_K] // video.tokens_per_frame, minlength=video.frames).double()
        if bool(real_K.all()):
            return share_T.tolist()
        if self.assign_N is None:
            raise ValueError(
                "a selection with synthetic rows must carry assign_N, else retention per frame is undefined"
            )
        frame_N = torch.arange(video.total) // video.tokens_per_frame
        assign_N = self.assign_N.cpu()
        merged_N = (assign_N >= 0) & ~real_K[assign_N.clamp(min=0)]
        size_K = torch.bincount(assign_N[merged_N], minlength=len(self)).double()
        share_T.index_add_(0, frame_N[merged_N], 1 / size_K[assign_N[merged_N]])
        return share_T.tolist()


def keep_all(video: VideoTokens) -> Selection:
    """The selection that changes nothing."""
    return Selection(torch.arange(video.total, device=video.device))
