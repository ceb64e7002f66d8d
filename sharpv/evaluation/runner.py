"""One pass over the questions: each video is decoded and encoded once, then every row of the table answers.

Shape suffixes: T frames, P tokens per frame, C channels, H height, W width, D width, S separator rows, N prompt rows.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sharpv.evaluation.frames import decode_frames
from sharpv.evaluation.loaded import Loaded
from sharpv.evaluation.rows import Row
from sharpv.evaluation.samples import Sample
from sharpv.evaluation.store import SCHEMA, RowStore
from sharpv.metrics.flops import LanguageShape, eq5_prefill, exact_decode, exact_prefill, exact_vision
from sharpv.metrics.memory import peak_memory, weight_bytes
from sharpv.metrics.timing import StageClock
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.decode import generate
from sharpv.runtime.prompt import assemble
from sharpv.runtime.session import Report
from sharpv.tokens import Selection, Tower, VideoTokens

FAILURES = (ValueError, RuntimeError)


@dataclass
class Encoded:
    """A video at the language model's door: its tokens, separators, the tower's inside by layers, and stage times."""

    tokens_TPD: torch.Tensor
    separators_SD: torch.Tensor
    pixels_TCHW: torch.Tensor
    towers: dict[tuple[int, ...], Tower]
    times: dict[str, float]
    tapped_times: dict[tuple[int, ...], float] = field(default_factory=dict)


@dataclass
class Outcome:
    """What one row made of one question, before it becomes a stored row."""

    text: str
    prompt: str
    ids: list[int]
    report: Report
    selection: Selection | None
    times: dict[str, float]
    frames_encoded: int


class Runner:
    """Answers samples with rows and stores every answer at once; finished ones are skipped.

    run_key: hash of all that is common to the run (model, weights, code). memory_every: peak memory is measured, in an
    untimed extra pass, on the first question and then each so-manieth.
    """

    def __init__(self, loaded: Loaded, rows: list[Row], store: RowStore, run_key: str, memory_every: int = 100):
        self.loaded, self.rows, self.store, self.run_key, self.memory_every = loaded, rows, store, run_key, memory_every
        model = loaded.adapter.model
        self.shape = LanguageShape.of(loaded.adapter.language_model.config)
        self.weights = weight_bytes(model)
        for row in rows:
            if row.memory is not None:
                row.memory.check(self.shape.depth)

    def key(self, sample: Sample, row: Row) -> str:
        """Everything that can change the answer; a stored row with this key can be used again."""
        parts = [
            self.run_key,
            row.hash,
            sample.task,
            sample.doc_id,
            sample.doc_hash,
            sample.text,
            sample.max_new_tokens,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def run(self, samples: list[Sample], warm_up: int = 1) -> None:
        """Answer everything that the store lacks, video by video, the dense row first."""
        todo = [(s, [r for r in self.rows if not self.store.finished(self.key(s, r))]) for s in samples]
        total = sum(len(rows) for _, rows in todo)
        with layer_hooks(self.loaded.adapter) as hooks, tqdm(total=total, desc="answer", unit="row") as bar:
            self.hooks = hooks
            pending = [(sample, rows) for sample, rows in todo if rows]
            if pending:
                self._warm_up(*pending[0], repeats=warm_up)
            count = 0
            for video, group in groupby(pending, key=lambda pair: pair[0].video):
                questions = list(group)
                encoded = self._attempt(lambda v=video: self._encode(v, self._taps(self.rows)))
                for sample, rows in questions:
                    for row in rows:
                        self._answer_and_store(sample, row, encoded, measure_memory=count % self.memory_every == 0)
                        bar.update()
                    count += 1

    def _attempt(self, action: Callable[[], Any]) -> Any:
        """The action's result, or the exception that a bad file or a failed generation raised."""
        try:
            return action()
        except FAILURES as error:
            return error

    @staticmethod
    def _taps(rows: Iterable[Row]) -> set[tuple[int, ...]]:
        return {
            tuple(r.visual.tower_layers) for r in rows if r.visual is not None and r.visual.tower_layers is not None
        }

    def _warm_up(self, sample: Sample, rows: list[Row], repeats: int) -> None:
        for _ in range(repeats):
            encoded = self._attempt(lambda: self._encode(sample.video, self._taps(rows)))
            for row in rows:
                if isinstance(encoded, Encoded):
                    self._attempt(partial(self._answer, sample, row, encoded))

    @torch.inference_mode()
    def _encode(self, video: Path, taps: set[tuple[int, ...]]) -> Encoded:
        adapter, clock = self.loaded.adapter, StageClock(torch.device("cpu"))
        frames_THWC = decode_frames(video, self.loaded.frames)
        clock.mark("decode_video")
        pixels_TCHW = self.loaded.preprocess(frames_THWC)
        clock.mark("preprocess")
        times = clock.seconds()
        pixels_TCHW = pixels_TCHW.to(self.loaded.device)
        (tokens_TPD, separators_SD), times["vision"] = self._timed_vision(pixels_TCHW)
        encoded = Encoded(tokens_TPD, separators_SD, pixels_TCHW, {}, times)
        for layers in taps:
            with adapter.tap_tower(layers) as tap:
                _, encoded.tapped_times[layers] = self._timed_vision(pixels_TCHW)
                encoded.towers[layers] = tap.tower()
        return encoded

    def _timed_vision(self, pixels_TCHW: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], float]:
        clock = StageClock(self.loaded.device)
        result = self.loaded.adapter.encode(pixels_TCHW)
        clock.mark("vision")
        return result, clock.seconds()["vision"]

    @torch.inference_mode()
    def _answer(self, sample: Sample, row: Row, encoded: Encoded, observe_cosine: bool = False) -> Outcome:
        adapter, loaded = self.loaded.adapter, self.loaded
        embeddings_BND, span, prompt = loaded.embed(sample.text, encoded.tokens_TPD, encoded.separators_SD)
        layers = (
            tuple(row.visual.tower_layers) if row.visual is not None and row.visual.tower_layers is not None else None
        )
        vision, frames = encoded.times["vision"], len(encoded.tokens_TPD)
        clock, selection = StageClock(loaded.device), None
        if row.visual is not None:
            tower = encoded.towers[layers] if layers is not None else None
            video = VideoTokens(encoded.tokens_TPD, span.geometry.grid, sample.seed, tower)
            clock = StageClock(loaded.device)
            selection = row.visual.select(video)
            clock.mark("prune")
            vision = encoded.tapped_times[layers] if layers is not None else vision
            if (wanted := row.visual.encoded_frames(video)) is not None:
                _, vision = self._timed_vision(encoded.pixels_TCHW[wanted.to(loaded.device)])
                frames = len(wanted)
        prune = clock.seconds()
        clock = StageClock(loaded.device)
        fed = assemble(embeddings_BND, span, self.shape.depth, selection, sample.seed)
        ids, report = generate(
            adapter, self.hooks, fed, row.memory, loaded.greedy(sample.max_new_tokens), clock, observe_cosine
        )
        times = encoded.times | {"vision": vision, "prune": 0.0} | prune | clock.seconds()
        return Outcome(loaded.decode(ids), prompt, ids, report, selection, times, frames)

    def _answer_and_store(self, sample: Sample, row: Row, encoded: Any, measure_memory: bool) -> None:
        identity = {
            "schema": SCHEMA,
            "key": self.key(sample, row),
            "model": self.loaded.name,
            "row": row.name,
            "method": row.method,
            "kind": row.kind,
            "seed": row.seed,
            "benchmark": sample.benchmark,
            "task": sample.task,
            "doc_id": sample.doc_id,
            "video": sample.video.name,
            "gold": sample.gold,
        }
        outcome = encoded
        if isinstance(encoded, Encoded):
            outcome = self._attempt(lambda: self._answer(sample, row, encoded))
        if isinstance(outcome, BaseException):
            reason = f"{type(outcome).__name__}: {outcome}"
            self.store.append(identity | {"status": "error", "error": reason})
            return
        cosine = outcome.report.cosine
        if row.kind == "dense":
            cosine = self._answer(sample, row, encoded, observe_cosine=True).report.cosine
        memory = self._memory(sample, row, encoded, outcome) if measure_memory else None
        self.store.append(identity | {"status": "ok", "error": None} | self._record(row, outcome, cosine, memory))

    def _memory(self, sample: Sample, row: Row, encoded: Encoded, outcome: Outcome) -> dict[str, int]:
        with peak_memory(self.loaded.device) as vision, torch.inference_mode():
            self.loaded.adapter.encode(encoded.pixels_TCHW[: outcome.frames_encoded])
        with peak_memory(self.loaded.device) as answer:
            self._answer(sample, row, encoded)
        above = max(vision.above, answer.above)
        return {
            "weights_bytes": self.weights,
            "above_weights_bytes": above,
            "peak_bytes": self.weights + above,
            "kv_bytes": outcome.report.kv_bytes,
        }

    def _record(self, row: Row, outcome: Outcome, cosine: dict, memory: dict | None) -> dict[str, Any]:
        report, layout, times = outcome.report, outcome.report.layout, outcome.times
        text_rows = layout.length - layout.visual
        rows = [text_rows + visual for visual in report.visual_rows]
        steps = len(outcome.ids) - 1
        decode = sum(
            exact_decode(self.shape, [text_rows + step + read for read in reads])
            for step, reads in enumerate(report.reads)
        )
        video = VideoTokens(layout.fed_VD.new_zeros(layout.frames, layout.grid[0] * layout.grid[1], 1), layout.grid)
        selection = outcome.selection
        kept_N = selection.represented_N(video.total).numpy() if selection else np.ones(video.total, bool)
        per_frame = selection.per_frame(video) if selection else [float(video.tokens_per_frame)] * video.frames
        cosine_visual = cosine.get("visual") or (
            [report.state.get(i) for i in range(self.shape.depth)] if _is_cosines(report.state) else []
        )
        after = [held / layout.visual for held in report.visual_kv if held < layout.visual] if layout.visual else []
        config = self.loaded.adapter.model.config
        return {
            "prompt": outcome.prompt,
            "raw": outcome.text,
            "visual_dense": layout.dense_visual,
            "visual_kept": layout.visual,
            "frames": layout.frames,
            "grid": list(layout.grid),
            "kept_bits": base64.b64encode(np.packbits(kept_N).tobytes()).decode(),
            "kept_per_frame": per_frame,
            "vr": report.vr,
            "vr_requested": row.vr_requested,
            "mr": report.mr,
            "mr_after_layer": sum(after) / len(after) if after else None,
            "kv_held": report.kv_held,
            "token_budget": report.token_budget,
            "layers": {
                "visual_rows": report.visual_rows,
                "visual_kv": report.visual_kv,
                "cosine_visual": cosine_visual,
                "cosine_system": cosine.get("system", []),
                "cosine_instruction": cosine.get("instruction", []),
            },
            "prompt_tokens": text_rows,
            "output_tokens": len(outcome.ids),
            "frames_encoded": outcome.frames_encoded,
            "flops": {
                "eq5_prefill": eq5_prefill(self.shape, rows),
                "exact_prefill": exact_prefill(self.shape, rows),
                "exact_vision": exact_vision(config.vision_config, outcome.frames_encoded, self.shape.width),
                "exact_decode": decode,
            },
            "times_s": times,
            "ttft_s": sum(times[stage] for stage in ("vision", "prune", "prefill", "first_token")),
            "tpot_s": times["decode"] / steps if steps else None,
            "memory": memory,
        }


def _is_cosines(state: Any) -> bool:
    return isinstance(state, dict) and bool(state) and all(isinstance(value, float) for value in state.values())
