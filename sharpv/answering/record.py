"""A stored row: everything that a later table or figure needs of one answer.

Shape suffixes: N tokens of the dense video.
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharpv import paths
from sharpv.answering.store import SCHEMA
from sharpv.benchmarks.samples import Sample
from sharpv.configuration.rows import Row
from sharpv.metrics.flops import LanguageShape, eq5_prefill, exact_decode, exact_prefill, exact_vision
from sharpv.models.loaded import Loaded
from sharpv.runtime.report import Report
from sharpv.tokens import Selection, VideoTokens


@dataclass
class Outcome:
    """What one row made of one question."""

    text: str
    prompt: str
    ids: list[int]
    report: Report
    selection: Selection | None
    times: dict[str, float]
    frames_encoded: int


def identity(loaded: Loaded, sample: Sample, row: Row, key: str, device: str, command: str) -> dict[str, Any]:
    """Whose answer to what it is, the device that gave it, and a name for the command whose answers were timed
    together."""
    return {
        "schema": SCHEMA,
        "key": key,
        "model": loaded.name,
        "row": row.name,
        "method": row.method,
        "kind": row.kind,
        "seed": row.seed,
        "settings": row.hash,
        "benchmark": sample.benchmark,
        "task": sample.task,
        "doc_id": sample.doc_id,
        "video": sample.video.name,
        "video_path": paths.below_data(sample.video),
        "gold": sample.gold,
        "device": device,
        "command": command,
    }


def record(
    loaded: Loaded, row: Row, outcome: Outcome, cosine: dict[str, list], memory: dict[str, int] | None
) -> dict[str, Any]:
    """The answer, its budget, counts per layer, operations, seconds and bytes. cosine: per layer, by kind of row."""
    report, layout, times, selection = outcome.report, outcome.report.layout, outcome.times, outcome.selection
    assert layout is not None
    shape, config = LanguageShape.of(loaded.adapter.language_model.config), loaded.adapter.model.config
    text_rows = layout.length - layout.visual
    rows = [text_rows + visual for visual in report.visual_rows]
    steps = len(outcome.ids) - 1
    decode = sum(
        exact_decode(shape, [text_rows + step + read for read in reads]) for step, reads in enumerate(report.reads)
    )
    video = VideoTokens(layout.fed_VD.new_zeros(layout.frames, layout.grid[0] * layout.grid[1], 1), layout.grid)
    kept_N = selection.represented_N(video.total).numpy() if selection else np.ones(video.total, bool)
    after = [held / layout.visual for held in report.visual_kv if held < layout.visual] if layout.visual else []
    return {
        "prompt": outcome.prompt,
        "raw": outcome.text,
        "visual_dense": layout.dense_visual,
        "visual_kept": layout.visual,
        "frames": layout.frames,
        "grid": list(layout.grid),
        "kept_bits": base64.b64encode(np.packbits(kept_N).tobytes()).decode(),
        "kept_per_frame": selection.per_frame(video) if selection else [float(video.tokens_per_frame)] * video.frames,
        "vr": report.vr,
        "vr_requested": row.vr_requested(layout.frames),
        "mr": report.mr,
        "mr_after_layer": sum(after) / len(after) if after else None,
        "kv_held": report.kv_held,
        "token_budget": report.token_budget,
        "layers": {
            "visual_rows": report.visual_rows,
            "visual_kv": report.visual_kv,
            "cosine_visual": cosine.get("visual") or _cosines(report.state, shape.depth),
            "cosine_system": cosine.get("system", []),
            "cosine_instruction": cosine.get("instruction", []),
        },
        "prompt_tokens": text_rows,
        "output_tokens": len(outcome.ids),
        "frames_encoded": outcome.frames_encoded,
        "flops": {
            "eq5_prefill": eq5_prefill(shape, rows),
            "exact_prefill": exact_prefill(shape, rows),
            "exact_vision": exact_vision(config.vision_config, outcome.frames_encoded, shape.width, layout.grid),
            "exact_decode": decode,
        },
        "times_s": times,
        "ttft_s": sum(times[stage] for stage in ("vision", "prune", "prefill", "first_token")),
        "tpot_s": times["decode"] / steps if steps else None,
        "memory": memory,
    }


def _cosines(state: Any, depth: int) -> list[float | None]:
    """A memory stage's own cosines by layer, where its state is those."""
    if isinstance(state, dict) and state and all(isinstance(value, float) for value in state.values()):
        return [state.get(index) for index in range(depth)]
    return []
