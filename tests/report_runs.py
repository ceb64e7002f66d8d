"""A made-up run store whose answers, costs and kept patches are known beforehand."""

import base64
import json
import os

import numpy as np

from sharpv.reports.tables.paper_names import CHECKPOINTS

LAYERS, FRAMES, GRID = 4, 4, (3, 3)
TOTAL = FRAMES * GRID[0] * GRID[1]
WIDTH, FFN = 64, 128
MVBENCH, VIDEOMME = "sharpv_mvbench", "sharpv_videomme"
COLUMNS = {"mvbench_acc": MVBENCH, "videomme_wo": VIDEOMME}
ANTONYM, STATE = f"{MVBENCH}_action_antonym", f"{MVBENCH}_state_change"
SHORT, LONG = f"{VIDEOMME}_short", f"{VIDEOMME}_long"
QUESTIONS = [
    *((MVBENCH, ANTONYM, doc, f"a{doc}.mp4") for doc in range(10)),
    *((MVBENCH, STATE, doc, f"s{doc}.mp4") for doc in range(10)),
    *((VIDEOMME, SHORT, doc, f"v{doc // 2}.mp4") for doc in range(8)),
    *((VIDEOMME, LONG, doc, f"w{doc // 2}.mp4") for doc in range(8)),
]
DENSE = {"row": "dense", "method": "Dense", "kind": "dense"}
VISUAL = {"row": "visual_sharpv", "method": "Visual SharpV", "kind": "method", "kept": 12}
DAGGER = {"row": "random_frame", "method": "V-Random (dagger)", "kind": "control", "kept": 12}
SHARPV = {"row": "sharpv_adaptive", "method": "SharpV (Adaptive)", "kind": "method", "kept": 12, "held": (12, 12, 0, 0)}
FASTV = {"row": "fastv", "method": "FastV", "kind": "method", "held": (36, 36, 12, 12)}
MATCHED = {"row": "matched", "method": "DyCoke (matched 30%)", "kind": "budget-matched", "kept": 9}


def mask(doc_id, kept):
    """The first frame takes half of what is kept, the others share the rest; another video, another place."""
    bits = np.zeros((FRAMES, GRID[0] * GRID[1]), dtype=bool)
    first = min(GRID[0] * GRID[1], kept // 2 + 1)
    bits[0, :first] = True
    rest = np.arange(kept - first)
    bits[1 + rest % (FRAMES - 1), (rest // (FRAMES - 1) + doc_id) % bits.shape[1]] = True
    return bits


def eq5(rows):
    return LAYERS * (4 * rows * WIDTH**2 + 2 * rows**2 * WIDTH + 2 * rows * WIDTH * FFN)


def sample(question, row, method, kind, seed=0, kept=TOTAL, held=None, prompt_tokens=None):
    benchmark, task, doc_id, video = question
    held = list(held or [kept] * LAYERS)
    share, bits = kept / TOTAL, mask(doc_id, kept) if kept < TOTAL else np.ones((FRAMES, TOTAL // FRAMES), dtype=bool)
    rows = prompt_tokens if prompt_tokens is not None else 20 + doc_id
    mr = sum(held) / (LAYERS * kept)
    cosines = {"cosine_visual": [1.0, 0.8, 0.6, 0.5], "cosine_system": [1.0, 0.1, 0.1, 0.1]}
    cosines["cosine_instruction"] = [1.0, 0.05, None, 0.0]
    if kind != "dense":
        cosines = {name: [] for name in cosines}
    times = dict.fromkeys(("decode_video", "preprocess", "prefill", "first_token", "decode"), 0.1)
    identity = {"schema": 1, "key": f"{row}-{seed}-{task}-{doc_id}", "model": "made_up", "row": row, "method": method}
    asked = {"kind": kind, "seed": seed, "benchmark": benchmark, "task": task, "doc_id": doc_id, "video": video}
    text = {"gold": "A", "status": "ok", "error": None, "raw": "A", "prompt": f"<user> <video> What is {doc_id}?\n(A)"}
    tokens = {"visual_dense": TOTAL, "visual_kept": kept, "frames": FRAMES, "grid": list(GRID)}
    tokens["kept_bits"] = base64.b64encode(np.packbits(bits).tobytes()).decode()
    shares = {"vr": share, "vr_requested": None, "mr": mr, "mr_after_layer": None, "kv_held": mr}
    counts = {"token_budget": share * mr, "prompt_tokens": rows, "output_tokens": 2}
    spent = {"ttft_s": 0.2 + 0.2 * share, "tpot_s": 0.01 + 0.01 * mr}
    groups = {
        "layers": {"visual_rows": [kept] * LAYERS, "visual_kv": held, **cosines},
        "flops": {"eq5_prefill": eq5(rows + kept), "exact_vision": 1.0, "exact_prefill": 1.0, "exact_decode": 1.0},
        "times_s": times | {"vision": 0.2, "prune": 0.0 if kept == TOTAL else 0.004},
        "memory": {"weights_bytes": 1, "above_weights_bytes": 1, "peak_bytes": 10**9 * (1 + share), "kv_bytes": 1},
    }
    tokens["kept_per_frame"] = bits.sum(1).tolist()
    return identity | asked | text | tokens | shares | counts | spent | groups


def score(question, row, right, seed=0):
    benchmark, task, doc_id, video = question
    identity = {"key": f"{row}-{seed}-{task}-{doc_id}", "row": row, "seed": seed, "benchmark": benchmark, "task": task}
    answer = {"judge_score": None, "answered": True, "parsed": "A" if right else "B", "gold": "A"}
    return identity | {"doc_id": doc_id, "video": video, "score": float(right)} | answer


def first_wrong(count):
    """Right but for the first `count` questions of each task."""
    return lambda question: question[2] >= count


def write_run(folder, rows, paper_name=None, status="complete", questions=QUESTIONS, display="Made-up model", **info):
    """`rows`: (settings of `sample`, question -> right)."""
    folder.mkdir(parents=True)
    model = {"name": "made_up", "paper_name": paper_name, "display": paper_name or display}
    model["path"] = CHECKPOINTS.get(paper_name, "somewhere")
    record = {
        "schema": 1,
        "model": model,
        "status": status,
        "versions": {"torch": "2.11"},
        "hardware": {"device": "cpu"},
    }
    record |= {"attention": "sdpa", "command": "python run.py", "created": "2026-11-21", "git": "abc"} | info
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    lines = [sample(question, **settings) for settings, _ in rows for question in questions]
    scores = [
        score(question, settings["row"], right(question), settings.get("seed", 0))
        for settings, right in rows
        for question in questions
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scores), encoding="utf-8")
    return folder


def write_record(path, cells, **facts):
    """A record of run folders: folder -> what is said of it; asked is, if nothing is said, all that it holds."""
    record = {
        "schema": 1,
        "kind": "table3",
        "title": "A title",
        "command": "python run.py",
        "limit": None,
        "part": False,
    }
    record["cells"] = []
    for folder, said in cells.items():
        rows = {}
        for line in map(json.loads, (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()):
            rows.setdefault((line["row"], line["seed"]), []).append(line["key"])
        asked = [{"row": row, "seed": seed, "settings": "", "keys": keys} for (row, seed), keys in rows.items()]
        cell = {
            "folder": os.path.relpath(folder, path.parent),
            "errors": 0,
            "scoring": None,
            "rows": {},
            "asked": asked,
        }
        record["cells"].append(cell | said)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | facts), encoding="utf-8")
    return path


def table4_rows():
    daggers = [(DAGGER | {"seed": seed}, first_wrong(3 + seed)) for seed in range(2)]
    return [(DENSE, first_wrong(1)), *daggers, (VISUAL, first_wrong(2))]
