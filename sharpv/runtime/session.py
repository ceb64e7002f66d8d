"""One generation under a pruner: what is alive in which layer, and what the memory stage decides.

The session only computes; `attach` calls it from hooks on the stock modules.

Shape suffixes: B batch (1), L rows as fed, N rows alive, V visual rows as fed, K kept rows, T text rows (separators
included), D width, E head width, M DeepStack levels.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sharpv.pruners.base import MemoryPruner
from sharpv.pruners.view import KeepCache, Layer, Layout
from sharpv.runtime.attention import attention_row_decode, attention_rows
from sharpv.runtime.cache import PrunableLayer, require_rows
from sharpv.runtime.report import Report
from sharpv.tokens import Selection


class Session:
    """State of one generation, from the first prefill row to the last token.

    Rows are named by their place among the rows fed; which of them are alive in a layer, and which a layer has cached,
    are ascending lists of such names. levels: DeepStack features, of the video and then of images, added here behind
    the first layers.
    """

    def __init__(
        self,
        layers: nn.ModuleList,
        rotary: nn.Module,
        memory: MemoryPruner | None,
        layout: Layout,
        cache: list[PrunableLayer],
        report: Report,
        observe_cosine: bool = False,
        levels: tuple[tuple[torch.Tensor, torch.Tensor], ...] = (),
    ):
        self.layers, self.rotary, self.memory, self.layout, self.cache = layers, rotary, memory, layout, cache
        self.device = layout.fed_VD.device
        self.levels = levels
        self.state = memory.begin(layout) if memory else None
        self.alive_V = torch.arange(layout.visual, device=self.device)
        self.rows_N = torch.arange(layout.length, device=self.device)
        self.text_T = self._text_rows()
        self.cached_V: list[torch.Tensor] = [self.alive_V] * len(layers)
        self.cached_N: list[torch.Tensor] = [self.rows_N] * len(layers)
        self.cached_T: list[torch.Tensor] = [self.text_T] * len(layers)
        self.step = self.rows_given = 0
        report.restart(layout, self.state)
        self.report = report
        self.observe_cosine = observe_cosine
        self.withdrawn = False
        self._fed_LD: torch.Tensor | None = None
        self._entered: Layer | None = None
        self._pending: Selection | None = None
        self._shift_K: torch.Tensor | None = None

    def enter(self, index: int, hidden_BND: torch.Tensor, call: dict[str, Any]) -> torch.Tensor:
        """A layer is about to run on these rows; returns the rows that it shall run on and narrows `call` to them."""
        if self.step:
            self.rows_given += hidden_BND.shape[1]
            if hidden_BND.shape[1] == 1:
                self._enter_decode(index, hidden_BND, call)
            else:
                self._enter_turn(index, hidden_BND.shape[1], call)
            return hidden_BND
        if self.observe_cosine:
            self._observe(hidden_BND[0])
        whole = dict(call)
        self._narrow(call, whole)
        view = self._prefill_view(index, hidden_BND[0], call["position_embeddings"])
        if self.memory and (selection := self.memory.keep_rows(view, "enter", self.state)) is not None:
            hidden_BND = self._drop(hidden_BND, selection)
            self._narrow(call, whole)
            view = self._prefill_view(index, hidden_BND[0], call["position_embeddings"])
        self.rows_given += len(self.rows_N)
        self.report.visual_rows.append(len(self.alive_V))
        self.cached_V[index], self.cached_N[index], self.cached_T[index] = self.alive_V, self.rows_N, self.text_T
        for target, order in ((self.memory and self.memory.keep_cache(view, self.state)) or {}).items():
            self._cut(target, order, index, call)
        if self.memory and "attended" in self.memory.sites:
            self._entered = view
        return hidden_BND

    def attended(self, index: int, residual_BND: torch.Tensor) -> None:
        """Between attention and MLP: merged rows are written in place, rows to drop are remembered for `leave`."""
        if self.step or not self.memory or "attended" not in self.memory.sites:
            return
        assert self._entered is not None
        view = replace(self._entered, hidden_ND=residual_BND[0])
        selection = self.memory.keep_rows(view, "attended", self.state)
        if selection is not None and selection.features_KD is not None:
            written_K = torch.searchsorted(self.rows_N, self.layout.visual_V[selection.origin_K])
            residual_BND[0, written_K] = selection.features_KD.to(residual_BND.dtype)
            selection = replace(selection, features_KD=None)
        self._pending = selection

    def leave(self, index: int, hidden_BND: torch.Tensor) -> torch.Tensor:
        """The layer has run; drops the rows that its memory stage gave up between attention and MLP, and adds the
        DeepStack features that the model adds behind this layer to what is left."""
        if self._shift_K is not None:
            self.cache[index].close_gaps(self._shift_K, self.rotary)
            self._shift_K = None
        pending, self._pending = self._pending, None
        if pending is not None:
            hidden_BND = self._drop(hidden_BND, pending)
        return hidden_BND if self.step else self._with_levels(index, hidden_BND)

    def finish_forward(self) -> None:
        """The whole stack has run once: record what it left, and go to the next step.

        ValueError where the layers wrote into another cache than this session's.
        """
        require_rows(self.cache, self.rows_given)
        if self.step == 0:
            self.report.visual_kv = [len(kept_V) for kept_V in self.cached_V]
            self.report.kv_bytes = sum(layer.stored_bytes for layer in self.cache)
            self._fed_LD = self._entered = None
        self.step += 1

    def _with_levels(self, index: int, hidden_BND: torch.Tensor) -> torch.Tensor:
        for part, (rows_K, levels_MKD) in enumerate(self.levels):
            if index >= len(levels_MKD):
                return hidden_BND
            hidden_BND = hidden_BND.clone() if part == 0 else hidden_BND
            if part == 0:
                added_KD, places = levels_MKD[index][self.alive_V], self._visual_rows(self.rows_N, self.alive_V)
            else:
                added_KD, places = levels_MKD[index], torch.searchsorted(self.rows_N, rows_K)
            hidden_BND[0, places] += added_KD.to(hidden_BND)
        return hidden_BND

    def _text_rows(self) -> torch.Tensor:
        """All rows but the visual ones, ascending; their number is known, so that nothing is read back."""
        is_visual_L = torch.zeros(self.layout.length, dtype=torch.bool, device=self.device)
        is_visual_L[self.layout.visual_V] = True
        return is_visual_L.sort(stable=True).indices[: self.layout.length - self.layout.visual]

    def _visual_rows(self, rows_N: torch.Tensor, there_V: torch.Tensor) -> slice | torch.Tensor:
        """Where the visual rows `there_V` lie among these rows."""
        if self.layout.is_run:
            return slice(self.layout.start, self.layout.start + len(there_V))
        return torch.searchsorted(rows_N, self.layout.visual_V[there_V])

    def _enter_decode(self, index: int, hidden_BND: torch.Tensor, call: dict[str, Any]) -> None:
        if index == 0:
            self.report.reads.append([])
        cached_V, cache = self.cached_V[index], self.cache[index]
        cos_1E, sin_1E = (part[0] for part in call["position_embeddings"])

        def rows(queries, rotary: bool = True, causal: bool = True) -> torch.Tensor:
            if list(queries) != [-1] or not rotary:
                raise ValueError("in a decode step only the new row (queries=[-1], rotary=True) can be asked for")
            return attention_row_decode(self.layers[index], hidden_BND[0], cache.keys[0], cos_1E, sin_1E)

        places = self._visual_rows(self.cached_N[index], cached_V)
        view = Layer(index, len(self.layers), self.step, self.layout, hidden_BND[0], cached_V, places, rows)
        read_V = self.memory.attend(view, self.state) if self.memory else None
        cache.read_K = None
        if read_V is not None:
            read_K = torch.searchsorted(self.cached_N[index], self._with_text(self.cached_T[index], read_V))
            new_K = torch.arange(len(self.cached_N[index]), cache.stored_rows + 1, device=self.device)
            cache.read_K = torch.cat([read_K, new_K])
        self.report.reads[-1].append(len(cached_V) if read_V is None else len(read_V))

    def _enter_turn(self, index: int, rows: int, call: dict[str, Any]) -> None:
        """Text of a later turn reads all that the layer has cached; methods say nothing of such rows."""
        self.cache[index].read_K = None
        if index == 0:
            self.report.go_on()
        attention: Any = self.layers[index].self_attn
        if attention.config._attn_implementation == "sdpa":
            cached = self.cache[index].stored_rows
            keys_N = torch.arange(cached + rows, device=self.device)
            call["attention_mask"] = (keys_N[cached:, None] >= keys_N)[None, None]

    def _observe(self, hidden_ND: torch.Tensor) -> None:
        if self._fed_LD is None:
            self._fed_LD = hidden_ND.clone()
        cosine_N = functional.cosine_similarity(hidden_ND.float(), self._fed_LD[self.rows_N].float(), dim=-1)
        for kind, part in (
            ("system", cosine_N[: self.layout.start]),
            ("visual", cosine_N[self._visual_rows(self.rows_N, self.alive_V)]),
            ("instruction", cosine_N[len(cosine_N) - self.layout.text_behind :]),
        ):
            self.report.cosine.setdefault(kind, []).append(part.mean().item() if len(part) else None)

    def _narrow(self, call: dict[str, Any], whole: dict[str, Any]) -> None:
        """Leave only the alive rows of the `whole` prompt's arguments in a layer's `call`."""
        if len(self.rows_N) == self.layout.length:
            return
        call["position_embeddings"] = tuple(part[:, self.rows_N] for part in whole["position_embeddings"])
        if whole.get("position_ids") is not None:
            call["position_ids"] = whole["position_ids"][..., self.rows_N]

    def _prefill_view(self, index: int, hidden_ND: torch.Tensor, embeddings) -> Layer:
        cos_NE, sin_NE = (part[0] for part in embeddings)

        def rows(queries, rotary: bool = True, causal: bool = True) -> torch.Tensor:
            return attention_rows(self.layers[index], hidden_ND, queries, cos_NE, sin_NE, rotary, causal)

        places = self._visual_rows(self.rows_N, self.alive_V)
        return Layer(index, len(self.layers), 0, self.layout, hidden_ND, self.alive_V, places, rows)

    def _drop(self, hidden_BND: torch.Tensor, selection: Selection) -> torch.Tensor:
        """Go on with the visual rows selected (indices into the visual rows as fed) and all text."""
        if selection.positions != "original":
            raise ValueError(
                "rows dropped inside the model keep their positions: return Selection(..., positions='original')"
            )
        if selection.separator == "withdraw" and not self.withdrawn:
            self.withdrawn = True
            gone_TS = self.text_T[:, None] == self.layout.separator_S
            left = len(self.text_T) - len(self.layout.separator_S)
            self.text_T = self.text_T[gone_TS.any(1).sort(stable=True).indices[:left]]
        kept_V, order_K = selection.origin_K.sort()
        kept_N = self._with_text(self.text_T, kept_V)
        hidden_BKD = hidden_BND[:, torch.searchsorted(self.rows_N, kept_N)]
        self.rows_N, self.alive_V = kept_N, kept_V
        if selection.features_KD is not None:
            hidden_BKD[0, self._visual_rows(kept_N, kept_V)] = selection.features_KD[order_K].to(hidden_BKD.dtype)
        return hidden_BKD

    def _with_text(self, text_T: torch.Tensor, kept_V: torch.Tensor) -> torch.Tensor:
        """These rows of text and the visual rows kept, ascending."""
        return torch.cat([text_T, self.layout.visual_V[kept_V]]).sort().values

    def _cut(self, target: int, order: KeepCache, current: int, call: dict[str, Any]) -> None:
        """Cut the cached visual rows of one layer; at once if it has run, else when it stores them."""
        cache, there_V, kept_V = self.cache[target], self.cached_V[target], order.index.sort().values
        there_N, kept_N = self.cached_N[target], self._with_text(self.cached_T[target], kept_V)
        keep_K = torch.searchsorted(there_N, kept_N)
        self.cached_V[target], self.cached_N[target] = kept_V, kept_N
        shift_K = self._gaps_behind(there_V, kept_V)[kept_N] if order.reencode else None
        if target != current:
            cache.cut(keep_K)
            if shift_K is not None:
                cache.close_gaps(shift_K, self.rotary)
            return
        cache.store_K, cache.hide_unstored, self._shift_K = keep_K, order.in_prefill, shift_K
        if order.in_prefill:
            call["attention_mask"] = self._causal_mask(len(there_N), keep_K)

    def _gaps_behind(self, there_V: torch.Tensor, kept_V: torch.Tensor) -> torch.Tensor:
        """Positions that come free behind each row fed (L,) when of the visual rows there only some are kept.

        A row is a block of its own, of one position; with positions of three components a block is a run of tokens,
        and takes its positions with it only when nothing of it is left.
        """
        layout = self.layout
        block_V, extent_B = layout.block_V, layout.extent_B
        if block_V is None or extent_B is None:
            block_V = torch.arange(layout.visual, device=self.device)
            extent_B = torch.ones_like(block_V)
        none_B = torch.zeros(len(extent_B), dtype=torch.bool, device=self.device)
        had_B, has_B = (none_B.index_fill(0, block_V[some_V], True) for some_V in (there_V, kept_V))
        first_B = torch.full_like(extent_B, layout.length - 1).scatter_reduce(0, block_V, layout.visual_V, "amin")
        gap_L = torch.zeros(layout.length, dtype=torch.long, device=self.device)
        gap_L = gap_L.index_add(0, first_B, torch.where(had_B & ~has_B, extent_B, 0))
        return gap_L.flip(0).cumsum(0).flip(0)

    def _causal_mask(self, rows: int, keep_K: torch.Tensor) -> torch.Tensor:
        """bool (1, 1, rows, K) over the keys left; linear in the number of visual rows where only text is left."""
        if self.layout.start == 0:
            raise ValueError(
                "acts='in_prefill' needs text before the video, else its first rows would see no key at all"
            )
        return (torch.arange(rows, device=self.device)[:, None] >= keep_K)[None, None]
