"""From a dense prompt to the one that is fed: the visual stage applied to prompt embeddings.

Shape suffixes: N dense prompt rows, V tokens of the dense video, S separator rows, T frames, P tokens per frame,
D width, K kept tokens, L rows fed, R position components (1, or 3 for time, row and column), M DeepStack levels,
Q rows of text behind the video, J rows of images.
"""

from dataclasses import dataclass, replace

import torch

from sharpv.pruners.base import VisualPruner, require_selection
from sharpv.pruners.view import Layout
from sharpv.runtime.adapter import Adapter, Geometry, SeparatorRule, Shape
from sharpv.tokens import Selection, Tower, VideoTokens


@dataclass(frozen=True)
class Span:
    """Where a video lies in a dense prompt.

    length: rows of the prompt. start, stop: first row of the video and first row of the text behind it. visual_V: rows
    that are its tokens, ascending. separator_S: rows that belong to it but are no tokens; closed_S2: the first and last
    token that each closes; rule: what becomes of them. is_run: whether the tokens are one run of rows. positions_RN:
    the dense prompt's, None where they are 0, 1, 2, ... levels_MVD: DeepStack features of the tokens.
    """

    length: int
    start: int
    stop: int
    frames: int
    grid: tuple[int, int]
    visual_V: torch.Tensor
    separator_S: torch.Tensor
    closed_S2: torch.Tensor
    rule: SeparatorRule = "keep"
    is_run: bool = True
    positions_RN: torch.Tensor | None = None
    levels_MVD: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        return len(self.visual_V)

    @property
    def per_frame(self) -> int:
        return self.grid[0] * self.grid[1]

    def of(self, embeddings_ND: torch.Tensor) -> torch.Tensor:
        """The video's tokens (V, D) among the prompt's rows."""
        if self.is_run:
            return embeddings_ND[self.start : self.start + self.tokens]
        return embeddings_ND[self.visual_V]

    def write(self, embeddings_ND: torch.Tensor, tokens_TPD: torch.Tensor, separator_D: torch.Tensor | None) -> None:
        """Put a video's tokens and separators into their rows, in place."""
        embeddings_ND[self.visual_V] = tokens_TPD.flatten(0, 1).to(embeddings_ND.dtype)
        if separator_D is not None:
            embeddings_ND[self.separator_S] = separator_D.to(embeddings_ND.dtype)


@dataclass(frozen=True)
class FedPrompt:
    """Embeddings to feed (1, L, D), their positions (1, L) or (3, 1, L), the layout of each video, the position of the
    first new token, and the DeepStack features of the rows that have some: (rows (K,), features (M, K, D)) of each
    video and of the images."""

    embeddings_BLD: torch.Tensor
    positions: torch.Tensor
    layouts: tuple[Layout, ...]
    next_position: int | torch.Tensor
    levels: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()

    @property
    def length(self) -> int:
        return self.embeddings_BLD.shape[1]

    def behind(self, first: int | torch.Tensor) -> "FedPrompt":
        """As a later turn, whose first position is this one; positions of three components are those of the whole
        conversation already."""
        if self.positions.ndim == 3:
            return self
        return replace(self, positions=self.positions + first, next_position=self.next_position + first)

    @property
    def layout(self) -> Layout:
        """Of a prompt with one video."""
        (layout,) = self.layouts
        return layout


def find_span(
    adapter: Adapter,
    input_ids: torch.Tensor,
    shape: Shape | None = None,
    positions_RN: torch.Tensor | None = None,
    levels_MVD: torch.Tensor | None = None,
) -> Span:
    """Find the one video of a prompt from its ids (1, N). ValueError for several videos or none."""
    spans = find_spans(adapter, input_ids, [] if shape is None else [shape], positions_RN, levels_MVD)
    if len(spans) > 1:
        raise ValueError(f"the prompt holds {len(spans)} videos, one is expected")
    return spans[0]


def find_spans(
    adapter: Adapter,
    input_ids: torch.Tensor,
    shapes: list[Shape],
    positions_RN: torch.Tensor | None = None,
    levels_MVD: torch.Tensor | None = None,
    token_id: int | None = None,
) -> list[Span]:
    """Find the videos of a prompt from its ids (1, N), or what `token_id` stands for; all other rows count as text.

    shapes: of the videos, none where that is not known; a video is then a run of rows. ValueError where the rows are
    not those of the videos, or there are none.
    """
    ids_N, token_id = input_ids[0], adapter.video_token_id if token_id is None else token_id
    places_N = (ids_N == token_id).nonzero().flatten().cpu()
    if not len(places_N):
        raise ValueError(f"the prompt holds no video token (id {token_id}): there is nothing to prune")
    if shapes:
        ends = torch.tensor([adapter.arranged(shape[0], shape[1:]).rows for shape in shapes]).cumsum(0)
    else:
        ends = torch.cat([(places_N.diff() > 1).nonzero().flatten() + 1, torch.tensor([len(places_N)])])
    # Rows behind the shapes' last are given to its video, which then does not fit its shape.
    parts = places_N.tensor_split(ends[:-1])
    levels = [None] * len(parts) if levels_MVD is None else levels_MVD.tensor_split(ends[:-1], dim=1)
    known: list[Shape | None] = [*shapes] if shapes else [None] * len(parts)
    return [
        lay_out(adapter.geometry(len(part), shape), part, len(ids_N), ids_N.device, positions_RN, its_levels_MVD)
        for part, shape, its_levels_MVD in zip(parts, known, levels, strict=True)
    ]


def lay_out(
    geometry: Geometry,
    places_N: torch.Tensor,
    length: int,
    device: torch.device | None = None,
    positions_RN: torch.Tensor | None = None,
    levels_MVD: torch.Tensor | None = None,
) -> Span:
    """The span of a video whose rows are these places of a prompt (ascending, on the host)."""
    token_V, separator_S, closed_S2 = geometry.arrangement()
    visual_V = places_N[token_V]
    return Span(
        length=length,
        start=int(places_N[0]),
        stop=int(places_N[-1]) + 1,
        frames=geometry.frames,
        grid=geometry.grid,
        visual_V=visual_V.to(device),
        separator_S=places_N[separator_S].to(device),
        closed_S2=closed_S2.to(device),
        rule=geometry.rule,
        is_run=int(visual_V[-1] - visual_V[0]) + 1 == len(visual_V),
        positions_RN=positions_RN,
        levels_MVD=levels_MVD,
    )


def feed(
    embeddings_BND: torch.Tensor,
    span: Span,
    depth: int,
    visual: VisualPruner | None,
    seed: int,
    tower: Tower | None = None,
) -> FedPrompt:
    """Apply a visual stage (None = dense) to the embeddings of a dense prompt (1, N, D) with one video."""
    return feed_videos(embeddings_BND, [span], depth, visual, seed, [tower])


def feed_videos(
    embeddings_BND: torch.Tensor,
    spans: list[Span],
    depth: int,
    visual: VisualPruner | None,
    seed: int,
    towers: list[Tower | None],
    image_levels: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> FedPrompt:
    """Apply a visual stage to each video of a dense prompt on its own. A question is what stands behind the last one.

    The last is put in first, so that the rows of those in front stay where they are.
    """
    selections: list[Selection | None] = [None] * len(spans)
    if visual is not None:
        question_QD = question_rows(embeddings_BND, spans[-1], visual)
        for place, (span, tower) in enumerate(zip(spans, towers, strict=True)):
            tokens_TPD = span.of(embeddings_BND[0]).unflatten(0, (span.frames, -1))
            video = VideoTokens(tokens_TPD, span.grid, seed, tower, question_QD)
            selections[place] = require_selection(visual, visual.select(video), video)
    positions_RN = spans[-1].positions_RN
    fed = unpruned(embeddings_BND, positions_RN, image_levels)
    for span, selection in zip(reversed(spans), reversed(selections), strict=True):
        there = replace(span, length=fed.length, positions_RN=positions_RN)
        front = assemble(fed.embeddings_BLD, there, depth, selection, seed)
        gone = fed.length - front.length
        behind = [(torch.where(rows_K < span.stop, rows_K, rows_K - gone), levels) for rows_K, levels in fed.levels]
        fed = replace(
            front,
            layouts=(*front.layouts, *(_moved(layout, gone) for layout in fed.layouts)),
            levels=(*front.levels, *behind),
        )
        if positions_RN is not None or (selection is not None and selection.positions == "original"):
            positions_RN = fed.positions.reshape(-1, fed.length)
    return fed


def unpruned(
    embeddings_BND: torch.Tensor,
    positions_RN: torch.Tensor | None,
    image_levels: tuple[torch.Tensor, torch.Tensor] | None,
) -> FedPrompt:
    """A prompt without a video (1, N, D), which is fed as it is, with the DeepStack features of its images."""
    length, levels = embeddings_BND.shape[1], () if image_levels is None else (image_levels,)
    if positions_RN is not None:
        positions_3N = positions_RN.expand(3, -1)
        return FedPrompt(embeddings_BND, positions_3N[:, None], (), positions_RN[0, -1] + 1, levels)
    positions_1N = torch.arange(length, device=embeddings_BND.device)[None]
    return FedPrompt(embeddings_BND, positions_1N, (), length, levels)


def _moved(layout: Layout, gone: int) -> Layout:
    """A video's layout when so many rows in front of it have left the prompt."""
    return replace(
        layout,
        length=layout.length - gone,
        start=layout.start - gone,
        visual_V=layout.visual_V - gone,
        separator_S=layout.separator_S - gone,
    )


def question_rows(embeddings_BND: torch.Tensor, span: Span, visual: VisualPruner) -> torch.Tensor | None:
    """Rows of text behind the video (Q, D), separators excluded; None for a method that does not read the question."""
    return embeddings_BND[0, span.stop :] if visual.reads_question else None


def assemble(embeddings_BND: torch.Tensor, span: Span, depth: int, selection: Selection | None, seed: int) -> FedPrompt:
    """The prompt to feed for a selection that was already made (None = dense).

    Where the video's tokens are one run of rows, they stand in it in the method's order. Else they are sorted into
    their own places between text and newlines, a synthetic row into the place of the first token merged into it.
    Models with positions of three components keep those of the dense prompt, as all authors do; the next token comes
    behind the last row fed.
    """
    device, dense_ND = embeddings_BND.device, embeddings_BND[0]
    if selection is not None and not span.is_run:
        selection = selection.in_prompt_order()
    origin_K = torch.arange(span.tokens, device=device) if selection is None else selection.origin_K.to(device)
    fed_KD = span.of(dense_ND) if selection is None else selection.rows(span.of(dense_ND))
    source_K = origin_K if selection is None else selection.source_K().to(device)
    kept_S, place_S = _separators(span, source_K, "keep" if selection is None else selection.separator or span.rule)
    text_M = _text_rows(span, device)
    place_K = span.visual_V[source_K] if not span.is_run else torch.full_like(source_K, span.start)
    order_L = torch.cat([text_M, place_K, place_S]).argsort(stable=True)
    rows_L = torch.empty_like(order_L).scatter_(0, order_L, torch.arange(len(order_L), device=device))
    visual_K, separator_S = rows_L[len(text_M) : len(text_M) + len(place_K)], rows_L[len(text_M) + len(place_K) :]
    embeddings_LD = torch.cat([dense_ND[text_M], fed_KD, dense_ND[kept_S]])[order_L]
    dense_L = torch.cat([text_M, span.visual_V[source_K], kept_S])[order_L]
    positions, next_position = _positions(span, dense_L, selection)
    layout = Layout(
        length=len(order_L),
        start=span.start,
        visual=len(origin_K),
        dense_visual=span.tokens,
        depth=depth,
        frames=span.frames,
        grid=span.grid,
        fed_VD=fed_KD,
        frame_V=torch.where(origin_K < 0, -1, origin_K // span.per_frame),
        patch_V=torch.where(origin_K < 0, -1, origin_K % span.per_frame),
        visual_V=visual_K,
        separator_S=separator_S,
        text_behind=span.length - span.stop,
        is_run=span.is_run,
        selection=selection,
        seed=seed,
        **_blocks(span, source_K),
    )
    levels_MKD = _levels(span, selection, source_K)
    levels = () if levels_MKD is None else ((visual_K, levels_MKD),)
    return FedPrompt(embeddings_LD[None], positions, (layout,), next_position, levels)


def _text_rows(span: Span, device: torch.device) -> torch.Tensor:
    """Rows of the dense prompt that are neither tokens nor separators, ascending; their number is known, so that
    nothing is read back."""
    is_video_N = torch.zeros(span.length, dtype=torch.bool, device=device)
    is_video_N[span.visual_V], is_video_N[span.separator_S] = True, True
    return is_video_N.sort(stable=True).indices[: span.length - span.tokens - len(span.separator_S)]


def _separators(span: Span, source_K: torch.Tensor, rule: SeparatorRule) -> tuple[torch.Tensor, torch.Tensor]:
    """Separator rows that stay (dense rows), and the places by which they are sorted in. One read-back for `occupied`
    and `frame`."""
    if rule == "withdraw" or not len(span.separator_S):
        return span.separator_S[:0], span.separator_S[:0]
    if rule == "keep":
        return span.separator_S, span.separator_S
    if rule == "occupied":
        kept_K, (first_S, last_S) = source_K.sort().values, span.closed_S2.T.contiguous()
        stays_S = torch.searchsorted(kept_K, last_S, right=True) > torch.searchsorted(kept_K, first_S)
        return span.separator_S[stays_S], span.separator_S[stays_S]
    ends_frame_S = span.closed_S2[:, 1] % span.per_frame == span.per_frame - 1
    if rule == "frame":
        return span.separator_S[ends_frame_S], span.separator_S[ends_frame_S]
    last_T = torch.zeros(span.frames, dtype=torch.long, device=source_K.device)
    frame_S = span.closed_S2[:, 1] // span.per_frame
    return span.separator_S, last_T.scatter_reduce(0, frame_S, span.separator_S, "amax")[frame_S]


def _positions(
    span: Span, dense_L: torch.Tensor, selection: Selection | None
) -> tuple[torch.Tensor, int | torch.Tensor]:
    """Positions of the rows fed, (1, L) or (3, 1, L), and that of the first new token."""
    if span.positions_RN is not None:
        positions_RL = span.positions_RN[:, dense_L]
        return positions_RL if len(positions_RL) == 1 else positions_RL[:, None], span.positions_RN[0, -1] + 1
    if selection is None or selection.positions == "contiguous":
        return torch.arange(len(dense_L), device=dense_L.device)[None], len(dense_L)
    if bool((selection.origin_K < 0).any()):
        raise ValueError(
            "positions='original' needs rows that come from the prompt; synthetic rows have no place in it"
        )
    return dense_L[None], span.length


def _levels(span: Span, selection: Selection | None, source_K: torch.Tensor) -> torch.Tensor | None:
    """DeepStack features of the rows fed: those of the token that a row comes from, the mean over the tokens merged
    into a synthetic one."""
    if span.levels_MVD is None or selection is None:
        return span.levels_MVD
    levels_MKD = span.levels_MVD[:, source_K]
    synthetic_K = selection.origin_K.to(source_K.device) < 0
    if selection.assign_N is None:
        return levels_MKD
    assign_V = selection.assign_N.to(source_K.device)
    # One row more takes the tokens that went nowhere.
    into_V = torch.where(assign_V < 0, len(source_K), assign_V)
    sums_MKD = levels_MKD.new_zeros(len(levels_MKD), len(source_K) + 1, levels_MKD.shape[-1])
    sums_MKD = sums_MKD.index_add(1, into_V, span.levels_MVD)[:, :-1]
    count_K = torch.bincount(into_V, minlength=len(source_K) + 1)[:-1].clamp(min=1)
    return torch.where(synthetic_K[:, None], sums_MKD / count_K[:, None], levels_MKD)


def _blocks(span: Span, source_K: torch.Tensor) -> dict[str, torch.Tensor]:
    """Which run of the dense prompt's tokens each row fed comes from, and how many positions each run takes; nothing
    where positions have one component, since each row is then a block of its own."""
    if span.positions_RN is None or len(span.positions_RN) == 1:
        return {}
    new_V = torch.ones(span.tokens, dtype=torch.bool, device=source_K.device)
    new_V[1:] = span.visual_V.diff() > 1
    block_V = new_V.cumsum(0) - 1
    first_B = torch.full((span.tokens,), span.length, device=source_K.device)
    first_B = first_B.scatter_reduce(0, block_V, span.visual_V, "amin")
    last_B = torch.zeros_like(first_B).scatter_reduce(0, block_V, span.visual_V, "amax")
    behind_B, first_B = (last_B + 1).clamp(max=span.length - 1), first_B.clamp(max=span.length - 1)
    extent_B = span.positions_RN[0, behind_B] - span.positions_RN[0, first_B]
    return {"block_V": block_V[source_K], "extent_B": extent_B}
