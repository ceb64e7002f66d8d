"""One generation under a pruner: what is alive in which layer, and what the memory stage decides.

The session only computes; `attach` calls it from hooks on the stock modules.

Shape suffixes: B batch (1), N prompt rows alive, V visual rows as fed, K kept rows, D width, E head width.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sharpv.pruners.base import KeepCache, Layer, Layout, MemoryPruner
from sharpv.runtime.attention import attention_row_decode, attention_rows
from sharpv.runtime.cache import PrunableLayer
from sharpv.tokens import Selection


@dataclass
class Report:
    """What a pruner did in the latest generation; per-layer lists are indexed by layer.

    visual_rows: visual rows that the layer's attention computed in prefill. visual_kv: visual rows in its cache after
    prefill. reads: per decode step, the visual rows that each layer read. cosine: per kind of row (visual, system,
    instruction), the mean cosine of the states entering each layer to the rows as fed; only if asked for.
    """

    layout: Layout | None = None
    visual_rows: list[int] = field(default_factory=list)
    visual_kv: list[int] = field(default_factory=list)
    reads: list[list[int]] = field(default_factory=list)
    kv_bytes: int = 0
    state: Any = None
    cosine: dict[str, list[float | None]] = field(default_factory=dict)

    def restart(self, layout: Layout, state: Any) -> None:
        """Forget the generation before and describe a new one."""
        self.layout, self.state, self.kv_bytes = layout, state, 0
        self.visual_rows, self.visual_kv, self.reads, self.cosine = [], [], [], {}

    def described(self) -> Layout:
        """The latest generation's layout; ValueError where there was none."""
        if self.layout is None:
            raise ValueError("the report is empty: generate inside the context before reading it")
        return self.layout

    @property
    def vr(self) -> float:
        """Visual tokens fed to the language model as a share of the dense model's."""
        return self.described().visual / self.described().dense_visual

    @property
    def mr(self) -> float:
        """Visual KV read at decode as a share of the visual tokens fed; a first step's where none was decoded."""
        layout, steps = self.described(), self.reads or [self.visual_kv]
        return sum(map(sum, steps)) / (len(steps) * layout.depth * layout.visual) if layout.visual else 0.0

    @property
    def kv_held(self) -> float:
        """Visual KV still stored after prefill as a share of the visual tokens fed."""
        layout = self.described()
        return sum(self.visual_kv) / (layout.depth * layout.visual) if layout.visual else 0.0

    @property
    def token_budget(self) -> float:
        return self.vr * self.mr


class Session:
    """State of one generation, from the first prefill row to the last token."""

    def __init__(
        self,
        layers: nn.ModuleList,
        rotary: nn.Module,
        memory: MemoryPruner | None,
        layout: Layout,
        cache: list[PrunableLayer],
        report: Report,
        observe_cosine: bool = False,
    ):
        self.layers, self.rotary, self.memory, self.layout, self.cache = layers, rotary, memory, layout, cache
        self.device = layout.fed_VD.device
        self.state = memory.begin(layout) if memory else None
        self.alive_V = torch.arange(layout.visual, device=self.device)
        self.cached_V: list[torch.Tensor] = [self.alive_V] * len(layers)
        self.rows_N: torch.Tensor | None = None
        self.step = 0
        report.restart(layout, self.state)
        self.report = report
        self.observe_cosine = observe_cosine
        self.separators_left = layout.separators
        self._fed_ND: torch.Tensor | None = None
        self._entered: Layer | None = None
        self._pending: Selection | None = None
        self._shift_K: torch.Tensor | None = None

    def enter(self, index: int, hidden_BND: torch.Tensor, call: dict[str, Any]) -> torch.Tensor:
        """A layer is about to run on these rows; returns the rows that it shall run on and narrows `call` to them."""
        if self.step:
            self._enter_decode(index, hidden_BND, call)
            return hidden_BND
        if self.observe_cosine:
            self._observe(index, hidden_BND[0])
        whole = dict(call)
        self._narrow(call)
        view = self._prefill_view(index, hidden_BND[0], call["position_embeddings"])
        if self.memory and (selection := self.memory.keep_rows(view, "enter", self.state)) is not None:
            hidden_BND = self._drop(hidden_BND, selection)
            # From the whole prompt's arguments again, since rows_N counts its rows.
            call.update(whole)
            self._narrow(call)
            view = self._prefill_view(index, hidden_BND[0], call["position_embeddings"])
        self.report.visual_rows.append(len(self.alive_V))
        self.cached_V[index] = self.alive_V
        for target, order in ((self.memory and self.memory.keep_cache(view, self.state)) or {}).items():
            self._cut(target, order, index, call)
        if self.memory and "attended" in self.memory.sites:
            self._entered = view
        return hidden_BND

    def attended(self, index: int, residual_BND: torch.Tensor) -> None:
        """Between attention and MLP: merged rows are written in place, rows to drop are remembered for `leave`."""
        if self.step or not self.memory or "attended" not in self.memory.sites:
            return
        entered = self._entered
        view = Layer(
            index,
            len(self.layers),
            0,
            self.layout,
            residual_BND[0],
            self.alive_V,
            entered.visual_slice,
            entered.attention_rows,
        )
        selection = self.memory.keep_rows(view, "attended", self.state)
        if selection is not None and selection.features_KD is not None:
            kept_V, order_K = selection.origin_K.sort()
            written_K = self.layout.start + torch.searchsorted(self.alive_V, kept_V)
            residual_BND[0, written_K] = selection.features_KD[order_K].to(residual_BND.dtype)
            selection = replace(selection, features_KD=None)
        self._pending = selection

    def leave(self, index: int, hidden_BND: torch.Tensor) -> torch.Tensor:
        """The layer has run; drops the rows that its memory stage gave up between attention and MLP."""
        if self._shift_K is not None:
            self.cache[index].close_gaps(self._shift_K, self.rotary)
            self._shift_K = None
        pending, self._pending = self._pending, None
        return hidden_BND if pending is None else self._drop(hidden_BND, pending)

    def finish_forward(self) -> None:
        """The whole stack has run once: record what it left, and go to the next step."""
        if self.step == 0:
            self.report.visual_kv = [len(kept_V) for kept_V in self.cached_V]
            self.report.kv_bytes = sum(layer.stored_bytes for layer in self.cache)
            self._fed_ND = self._entered = None
        self.step += 1

    def _enter_decode(self, index: int, hidden_BND: torch.Tensor, call: dict[str, Any]) -> None:
        if index == 0:
            self.report.reads.append([])
        cached_V, cache = self.cached_V[index], self.cache[index]
        cos_1E, sin_1E = (part[0] for part in call["position_embeddings"])

        def rows(queries, rotary: bool = True, causal: bool = True) -> torch.Tensor:
            if list(queries) != [-1] or not rotary:
                raise ValueError("in a decode step only the new row (queries=[-1], rotary=True) can be asked for")
            return attention_row_decode(self.layers[index], hidden_BND[0], cache.keys[0], cos_1E, sin_1E)

        span = slice(self.layout.start, self.layout.start + len(cached_V))
        view = Layer(index, len(self.layers), self.step, self.layout, hidden_BND[0], cached_V, span, rows)
        read_V = self.memory.attend(view, self.state) if self.memory else None
        cache.read_K = None
        if read_V is not None:
            cache.read_K = self._kept_rows(cache.stored_rows + 1, cached_V, read_V)
        self.report.reads[-1].append(len(cached_V) if read_V is None else len(read_V))

    def _observe(self, index: int, hidden_ND: torch.Tensor) -> None:
        if self._fed_ND is None:
            self._fed_ND = hidden_ND.clone()
        fed_ND = self._fed_ND if self.rows_N is None else self._fed_ND[self.rows_N]
        cosine_N = functional.cosine_similarity(hidden_ND.float(), fed_ND.float(), dim=-1)
        start, stop = self.layout.start, self.layout.start + len(self.alive_V)
        for kind, part in (
            ("system", cosine_N[:start]),
            ("visual", cosine_N[start:stop]),
            ("instruction", cosine_N[stop:]),
        ):
            self.report.cosine.setdefault(kind, []).append(part.mean().item() if len(part) else None)

    def _narrow(self, call: dict[str, Any]) -> None:
        """Leave only the alive rows in a layer's arguments."""
        if self.rows_N is None:
            return
        cos, sin = call["position_embeddings"]
        if cos.shape[1] != len(self.rows_N):
            call["position_embeddings"] = (cos[:, self.rows_N], sin[:, self.rows_N])
        if call.get("position_ids") is not None and call["position_ids"].shape[-1] != len(self.rows_N):
            call["position_ids"] = call["position_ids"][..., self.rows_N]

    def _prefill_view(self, index: int, hidden_ND: torch.Tensor, embeddings) -> Layer:
        cos_NE, sin_NE = (part[0] for part in embeddings)

        def rows(queries, rotary: bool = True, causal: bool = True) -> torch.Tensor:
            return attention_rows(self.layers[index], hidden_ND, queries, cos_NE, sin_NE, rotary, causal)

        span = slice(self.layout.start, self.layout.start + len(self.alive_V))
        return Layer(index, len(self.layers), 0, self.layout, hidden_ND, self.alive_V, span, rows)

    def _drop(self, hidden_BND: torch.Tensor, selection: Selection) -> torch.Tensor:
        """Go on with the visual rows selected (indices into the rows as fed) and all text."""
        if selection.positions != "original":
            raise ValueError(
                "rows dropped inside the model keep their positions: return Selection(..., positions='original')"
            )
        kept_V, order_K = selection.origin_K.sort()
        rows = hidden_BND.shape[1]
        keep_K = self._kept_rows(rows, self.alive_V, kept_V)
        if selection.separator == "withdraw":
            behind = self.layout.start + len(kept_V)
            keep_K = torch.cat([keep_K[:behind], keep_K[behind + self.separators_left :]])
            self.separators_left = 0
        full_N = torch.arange(rows, device=self.device) if self.rows_N is None else self.rows_N
        self.rows_N, self.alive_V = full_N[keep_K], kept_V
        hidden_BKD = hidden_BND[:, keep_K]
        if selection.features_KD is not None:
            start = self.layout.start
            hidden_BKD[0, start : start + len(kept_V)] = selection.features_KD[order_K].to(hidden_BKD.dtype)
        return hidden_BKD

    def _kept_rows(self, rows: int, there_V: torch.Tensor, kept_V: torch.Tensor) -> torch.Tensor:
        """Row indices of all text and of the visual rows kept, where the rows hold the visual rows `there_V`."""
        start = self.layout.start
        return torch.cat(
            [
                torch.arange(start, device=self.device),
                start + torch.searchsorted(there_V, kept_V),
                torch.arange(start + len(there_V), rows, device=self.device),
            ]
        )

    def _cut(self, target: int, order: KeepCache, current: int, call: dict[str, Any]) -> None:
        """Cut the cached visual rows of one layer; at once if it has run, else when it stores them."""
        cache, there_V, kept_V = self.cache[target], self.cached_V[target], order.index.sort().values
        alive = self.layout.length if self.rows_N is None else len(self.rows_N)
        rows = alive if target == current else cache.stored_rows
        keep_K = self._kept_rows(rows, there_V, kept_V)
        self.cached_V[target] = kept_V
        shift_K = rows - 1 - keep_K - torch.arange(len(keep_K) - 1, -1, -1, device=self.device)
        if target != current:
            cache.cut(keep_K)
            if order.reencode:
                cache.close_gaps(shift_K, self.rotary)
            return
        cache.store_K, cache.hide_unstored = keep_K, order.in_prefill
        self._shift_K = shift_K if order.reencode else None
        if order.in_prefill:
            call["attention_mask"] = self._causal_mask(rows, keep_K)

    def _causal_mask(self, rows: int, keep_K: torch.Tensor) -> torch.Tensor:
        """bool (1, 1, rows, K) over the keys left; linear in the number of visual rows where only text is left."""
        if self.layout.start == 0:
            raise ValueError(
                "acts='in_prefill' needs text before the video, else its first rows would see no key at all"
            )
        return (torch.arange(rows, device=self.device)[:, None] >= keep_K)[None, None]
