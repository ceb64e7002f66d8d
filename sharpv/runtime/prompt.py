"""From a dense prompt to the one that is fed: the visual stage applied to prompt embeddings.

Shape suffixes: N dense prompt rows, T frames, P tokens per frame, D width, K kept rows, L rows fed,
Q rows of text behind the video.
"""

from dataclasses import dataclass

import torch

from sharpv.pruners.base import Layout, VisualPruner
from sharpv.runtime.adapter import Adapter, Geometry
from sharpv.tokens import Selection, Tower, VideoTokens


@dataclass(frozen=True)
class Span:
    """Where the video lies in a dense prompt: `start`, its geometry, and the prompt's length."""

    start: int
    length: int
    geometry: Geometry

    @property
    def stop(self) -> int:
        return self.start + self.geometry.tokens + self.geometry.separators


@dataclass(frozen=True)
class FedPrompt:
    """Embeddings to feed (1, L, D), their positions (1, L), the layout, and the position of the first new token."""

    embeddings_BLD: torch.Tensor
    positions_BL: torch.Tensor
    layout: Layout
    next_position: int


def find_span(adapter: Adapter, input_ids: torch.Tensor) -> Span:
    """Find the one video of a prompt from its ids (1, N). ValueError for a batch, an image, several videos or none."""
    if input_ids.shape[0] != 1:
        raise ValueError(
            f"pruned runs take a batch of one, got {input_ids.shape[0]}: run the samples one after another"
        )
    ids_N = input_ids[0]
    if adapter.image_token_id is not None and bool((ids_N == adapter.image_token_id).any()):
        raise ValueError("the prompt holds an image: pruned runs take exactly one video and no image")
    places = (ids_N == adapter.video_token_id).nonzero().flatten().tolist()
    if not places:
        raise ValueError(f"the prompt holds no video token (id {adapter.video_token_id}): there is nothing to prune")
    if places[-1] - places[0] + 1 != len(places):
        raise ValueError("the prompt's video tokens are not contiguous: pruned runs take exactly one video")
    return Span(places[0], len(ids_N), adapter.geometry(len(places)))


def feed(
    embeddings_BND: torch.Tensor,
    span: Span,
    depth: int,
    visual: VisualPruner | None,
    seed: int,
    tower: Tower | None = None,
) -> FedPrompt:
    """Apply a visual stage (None = dense) to the embeddings of a dense prompt (1, N, D)."""
    rows_ND = embeddings_BND[0, span.start : span.start + span.geometry.tokens]
    selection = None
    if visual is not None:
        question_QD = question_rows(embeddings_BND, span, visual)
        tokens_TPD = rows_ND.unflatten(0, (span.geometry.frames, -1))
        selection = visual.select(VideoTokens(tokens_TPD, span.geometry.grid, seed, tower, question_QD))
    return assemble(embeddings_BND, span, depth, selection, seed)


def question_rows(embeddings_BND: torch.Tensor, span: Span, visual: VisualPruner) -> torch.Tensor | None:
    """Rows of text behind the video (Q, D), separators excluded; None for a method that does not read the question."""
    return embeddings_BND[0, span.stop :] if visual.reads_question else None


def assemble(embeddings_BND: torch.Tensor, span: Span, depth: int, selection: Selection | None, seed: int) -> FedPrompt:
    """The prompt to feed for a selection that was already made (None = dense)."""
    geometry, device = span.geometry, embeddings_BND.device
    per_frame = geometry.grid[0] * geometry.grid[1]
    rows_ND = embeddings_BND[0, span.start : span.start + geometry.tokens]
    if selection is None:
        origin_K, fed_KD = torch.arange(geometry.tokens, device=device), rows_ND
        embeddings_BLD = embeddings_BND
    else:
        origin_K, fed_KD = selection.origin_K.to(device), selection.rows(rows_ND)
        behind = span.stop if selection.separator == "withdraw" else span.start + geometry.tokens
        before_D, after_D = embeddings_BND[0, : span.start], embeddings_BND[0, behind:]
        embeddings_BLD = torch.cat([before_D, fed_KD, after_D])[None]
    length = embeddings_BLD.shape[1]
    positions_L = torch.arange(length, device=device)
    if selection is not None and selection.positions == "original":
        if bool((origin_K < 0).any()):
            raise ValueError(
                "positions='original' needs rows that come from the prompt; synthetic rows have no place in it"
            )
        behind = span.length - (length - span.start - len(origin_K))
        positions_L = torch.cat(
            [positions_L[: span.start], span.start + origin_K, torch.arange(behind, span.length, device=device)]
        )
    withdrawn = selection is not None and selection.separator == "withdraw"
    layout = Layout(
        length=length,
        start=span.start,
        visual=len(origin_K),
        dense_visual=geometry.tokens,
        depth=depth,
        frames=geometry.frames,
        grid=geometry.grid,
        fed_VD=fed_KD,
        frame_V=torch.where(origin_K < 0, -1, origin_K // per_frame),
        patch_V=torch.where(origin_K < 0, -1, origin_K % per_frame),
        separators=0 if withdrawn else geometry.separators,
        selection=selection,
        seed=seed,
    )
    original = selection is not None and selection.positions == "original"
    return FedPrompt(embeddings_BLD, positions_L[None], layout, span.length if original else length)
