"""A made-up result folder of Table 3's true size: rows as wide as real ones, scores, run.json and the record.

python scripts/make_store.py FOLDER [--share 0.01]
"""

import argparse
import base64
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from sharpv.answering.store import SCHEMA

QUESTIONS = {"mvbench": (4000, 3600), "videomme": (2700, 900), "nextqa": (8564, 1000), "actnetqa": (8000, 800)}
"""Questions and videos of each benchmark, as configs/plan/a800.yaml has them."""
MODELS = {"llava_ov_7b": 28, "llava_ov_0_5b": 24}
"""Language model layers, that is how long a row's lists are."""
ROWS = 18
GRID = (32, 14, 14)
POOL = 200
"""Different long parts (masks, layers) of a row, drawn from for each answer."""


def write_store(folder: Path, share: float = 1.0, errors: float = 0.001) -> Path:
    """Write runs/ and experiments/table3.json into a new folder, of each benchmark this share of questions; the
    record's path."""
    rng, cells = random.Random(0), []
    for model, depth in MODELS.items():
        pool = [[_long(row, depth, rng) for _ in range(POOL)] for row in range(ROWS)]
        for benchmark, (questions, videos) in QUESTIONS.items():
            count = max(20, round(share * questions))
            cells.append(_cell(folder, model, benchmark, count, max(2, round(share * videos)), errors, pool, rng))
    record = {"schema": SCHEMA, "kind": "table3", "title": "Table 3", "command": "made up", "limit": None}
    path = folder / "experiments" / "table3.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record | {"part": False, "cells": cells}), encoding="utf-8")
    return path


def _cell(folder, model, benchmark, questions, videos, errors, pool, rng) -> dict[str, Any]:
    name = hashlib.sha256(f"{model} {benchmark}".encode()).hexdigest()[:16]
    run, asked = folder / "runs" / name, [[] for _ in range(ROWS)]
    run.mkdir(parents=True)
    settings = [hashlib.sha256(f"row {row}".encode()).hexdigest() for row in range(ROWS)]
    lines, points = run / "samples.vm-0.jsonl", run / "scores.jsonl"
    with lines.open("w", encoding="utf-8") as samples, points.open("w", encoding="utf-8") as scores:
        for question in range(questions):
            task = f"sharpv_{benchmark}" + (f"_{question % 20}" if benchmark == "mvbench" else "")
            for row in range(ROWS):
                key = hashlib.sha256(f"{name} {question} {row}".encode()).hexdigest()
                asked[row].append(key)
                answer = {"row": _row(row), "seed": 0, "benchmark": f"sharpv_{benchmark}", "task": task}
                answer |= {"doc_id": question, "video": f"{question % videos}.mp4"}
                failed = rng.random() < errors
                who = {"schema": SCHEMA, "key": key, "model": model, "row": _row(row), "method": f"Method {row}"}
                who |= {"kind": "method" if row else "dense", "seed": 0, "settings": settings[row], **answer}
                who |= {"video_path": f"data/{benchmark}/{answer['video']}", "gold": "B", "device": "made up"}
                who |= {"status": "error" if failed else "ok", "error": "ValueError: broken" if failed else None}
                samples.write(json.dumps(who)[:-1] + ("}\n" if failed else rng.choice(pool[row])))
                if not failed:
                    judged = rng.randrange(6) if benchmark == "actnetqa" else None
                    score = {"key": key, **answer, "score": float(rng.random() < 0.6), "judge_score": judged}
                    score |= {"answered": True, "parsed": "B", "gold": "B", "scoring": "made up"}
                    scores.write(json.dumps(score) + "\n")
    info = {
        "model": {"name": model, "paper_name": None, "display": model, "path": "none"},
        "benchmark": f"sharpv_{benchmark}",
        "git": "none",
        "versions": {},
        "command": "made up",
        "scoring": "made up",
        "scored_by": None,
        "rows": {_row(row): {"visual": None, "memory": None} for row in range(ROWS)},
    }
    rows = [[_row(row), settings[row]] for row in range(ROWS)]
    told = {"schema": SCHEMA, "status": "complete", "created": "2026", "hardware": {}, "limit": None}
    told |= {"requested": {"questions": questions, "rows": rows}}
    (run / "run.json").write_text(json.dumps(info | told), encoding="utf-8")
    named = [{"row": _row(row), "seed": 0, "settings": settings[row], "keys": keys} for row, keys in enumerate(asked)]
    return info | {"asked": named, "folder": f"../runs/{name}", "errors": 0}


def _row(number: int) -> str:
    return f"row_{number}" if number else "dense"


def _long(row: int, depth: int, rng: random.Random) -> str:
    """What follows a row's identity: prompt, text, mask, shares, layers, operations, seconds."""
    ratio = 1.0 if not row else rng.uniform(0.05, 0.5)
    kept_N = np.random.default_rng(rng.randrange(1 << 30)).random(GRID) < ratio
    kept = int(kept_N.sum())
    times = dict.fromkeys(("decode_video", "preprocess", "vision", "prune", "prefill", "first_token", "decode"))
    flops = dict.fromkeys(("eq5_prefill", "exact_prefill", "exact_vision", "exact_decode"))
    cosines = {f"cosine_{kind}": [rng.random() for _ in range(depth)] for kind in ("visual", "system", "instruction")}
    part = {
        "frame_places": [29 * frame for frame in range(GRID[0])],
        "decode_errors": 0,
        "prompt": "Question: which of these happens first in the video? " * 6,
        "raw": "B. the second of the answers",
        "visual_dense": kept_N.size,
        "visual_kept": kept,
        "frames": GRID[0],
        "grid": list(GRID[1:]),
        "kept_bits": base64.b64encode(np.packbits(kept_N).tobytes()).decode(),
        "kept_per_frame": kept_N.sum((1, 2)).astype(float).tolist(),
        **dict.fromkeys(("vr", "mr", "kv_held", "token_budget"), kept / kept_N.size),
        "vr_requested": None,
        "mr_after_layer": None,
        "layers": {"visual_rows": [kept] * depth, "visual_kv": [kept] * depth, **cosines},
        "prompt_tokens": 80,
        "output_tokens": 6,
        "frames_encoded": GRID[0],
        "flops": {name: rng.uniform(1e12, 9e12) for name in flops},
        "times_s": {name: rng.random() for name in times},
        "ttft_s": rng.uniform(0.1, 0.9),
        "tpot_s": rng.uniform(0.01, 0.05),
        "memory": None
        if rng.random() < 0.9
        else dict.fromkeys(("weights_bytes", "above_weights_bytes", "peak_bytes", "kv_bytes"), rng.randrange(1 << 34)),
    }
    return ", " + json.dumps(part)[1:] + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of each benchmark's questions")
    options = parser.parse_args()
    print(write_store(options.folder, options.share))


if __name__ == "__main__":
    main()
