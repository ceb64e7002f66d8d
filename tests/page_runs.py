"""Run folders of any size for tests and timings of the page: random answers and masks from a seed."""

import base64
import gzip
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from sharpv.reports.store import ALWAYS, NESTED

BENCHMARKS = ("tiny_mvbench", "tiny_videomme", "tiny_nextqa", "tiny_actnetqa")
WORDS = ("red", "green", "blue", "yellow")
KINDS = ("dense", "method", "method", "budget-matched", "control")


def write_run(
    folder: Path,
    questions: int,
    rows: int,
    shape: tuple[int, int, int] = (8, 6, 6),
    a_video: int = 2,
    first: int = 0,
    changes: dict[tuple[int, int], dict[str, Any]] | None = None,
) -> None:
    """A complete run: row 0 is dense and keeps all, others keep a random tenth to half; `changes` replaces fields of
    the answer of (question, row), those of its score too where the names are the same."""
    folder.mkdir(parents=True)
    info = {"schema": 1, "model": {"name": "tiny", "paper_name": None, "display": "tiny <model>"}, "status": "complete"}
    info |= {"versions": {"torch": "2"}, "hardware": {"device": "cpu"}, "command": "python run.py", "created": "today"}
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    generator = np.random.default_rng(0)
    with (
        (folder / "samples.jsonl").open("w", encoding="utf-8") as samples,
        (folder / "scores.jsonl").open("w", encoding="utf-8") as scores,
    ):
        for question in range(first, first + questions):
            for row in range(rows):
                sample, score = _answer(question, row, shape, a_video, generator)
                changed = (changes or {}).get((question, row), {})
                sample |= {name: value for name, value in changed.items() if name in sample}
                score |= {name: value for name, value in changed.items() if name in score}
                if sample["status"] == "error":
                    sample = {name: sample[name] for name in ("schema", *ALWAYS)}
                    score |= {"score": 0.0, "answered": False, "parsed": ""}
                samples.write(json.dumps(sample) + "\n")
                scores.write(json.dumps(score) + "\n")


def _answer(question, row, shape, a_video, generator) -> tuple[dict[str, Any], dict[str, Any]]:
    benchmark, right = BENCHMARKS[question % 4], int(generator.integers(4))
    said = int(generator.integers(4))
    kept_N = np.ones(shape, bool) if not row else generator.random(shape) < 0.1 + 0.4 * row / 14
    ratio = float(kept_N.mean())
    video = f"v{question // a_video}.mp4"
    identity = {"row": f"row_{row}", "seed": 0, "benchmark": benchmark, "task": benchmark, "doc_id": question}
    identity |= {"video": video, "key": f"{question}-{row}"}
    kind = "dense" if not row else KINDS[1 + row % 4]
    options = "\n".join(f"{letter}. {word}" for letter, word in zip("ABCD", WORDS, strict=True))
    prompt = f"<|im_start|>user <video> Question {question}: which colour?\n{options}\nAnswer.<|im_end|>"
    sample = {"schema": 1, "status": "ok", "error": None, "model": "tiny", "method": f"Method {row}", "kind": kind}
    sample |= identity | {"prompt": prompt, "raw": WORDS[said], "gold": "ABCD"[right], "frames": shape[0]}
    sample |= {"grid": list(shape[1:]), "kept_bits": base64.b64encode(np.packbits(kept_N).tobytes()).decode()}
    sample |= {"kept_per_frame": kept_N.sum((1, 2)).astype(float).tolist(), "visual_dense": kept_N.size}
    sample |= {"visual_kept": int(kept_N.sum()), "vr": ratio, "vr_requested": None, "mr": 1.0, "mr_after_layer": None}
    sample |= {"kv_held": 1.0, "token_budget": ratio, "prompt_tokens": 30, "output_tokens": 2}
    sample |= {"ttft_s": 0.1 + 0.1 * ratio, "tpot_s": 0.01}
    sample |= {group: dict.fromkeys(names, 0.01) for group, names in NESTED.items() if group != "layers"}
    sample["layers"] = {name: [] for name in NESTED["layers"]}
    score = identity | {"score": float(said == right), "judge_score": None, "answered": True, "gold": "ABCD"[right]}
    return sample, score | {"parsed": "ABCD"[said]}


def write_videos(folder: Path, count: int, frames: int = 8) -> None:
    """Videos v0.mp4, v1.mp4, ...: bright frames, each of one colour."""
    from sharpv.tiny.video import write_mp4

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        shade = np.full((frames, 48, 48, 3), (250, 120, 40 + number), np.uint8)
        write_mp4(folder / f"v{number}.mp4", shade, repeat=1)


class Elements(HTMLParser):
    """Tags with their attributes, and the contents of data scripts by id."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.data, self._id = [], {}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._id = dict(attributes).get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        self._id = None

    def handle_data(self, content):
        if self._id:
            self.data[self._id] = self.data.get(self._id, "") + content


def unpacked(content):
    return json.loads(gzip.decompress(base64.b64decode(content)))


def contents(page):
    """Index, texts and what was kept of the blocks (id -> content) of a page as one object, by line and question."""
    index = unpacked(page["index"])
    index |= unpacked(page["texts"]) | {"verdicts": [list(map(int, line)) for line in index["verdicts"]]}
    blocks = [unpacked(page[f"kept-{number}"]) for number in range(-(-len(index["doc"]) // index["block"]))]
    return index | {
        name: [[one for block in blocks for one in block[name][line]] for line in range(len(index["lines"]))]
        for name in blocks[0]
    }
