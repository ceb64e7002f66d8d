"""Checkpoints and data sets in the layouts that the hub's cache gives them, with random weights and invented questions.

Every benchmark has its real number of questions; its videos are few files, which the questions share in turn.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from sharpv.metrics.profiling_models import build
from sharpv.tiny.scenes import render, sample_scene
from sharpv.tiny.video import write_mp4

COMMIT = "0" * 40
"""Names the snapshot's folder, as a commit of the hub does."""
SPECIAL = ("<|im_end|>", "<|endoftext|>", "<|im_start|>")
FPS, HEIGHT, WIDTH = 8, 360, 640
MVBENCH_FOLDERS = {
    "object_interaction": "star/Charades_segment",
    "action_sequence": "star/Charades_segment",
    "action_prediction": "star/Charades_segment",
    "action_localization": "sta/sta_video_segment",
    "moving_count": "clevrer/video_validation",
    "fine_grained_pose": "nturgbd_convert",
    "character_order": "perception/videos",
    "object_shuffle": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "moving_direction": "clevrer/video_validation",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "scene_transition": "scene_qa/video",
    "state_change": "perception/videos",
    "moving_attribute": "clevrer/video_validation",
    "action_antonym": "ssv2_video_mp4",
    "unexpected_action": "FunQA_test/test",
    "counterfactual_inference": "clevrer/video_validation",
    "object_existence": "clevrer/video_validation",
    "action_count": "perception/videos",
}
"""Where each sub-task of MVBench has its clips."""


def snapshot(home: Path, kind: str, repository: str, branch: str = "main") -> Path:
    """An empty snapshot of a hub repository (kind `model` or `dataset`) in the cache below `home`."""
    folder = home / "hub" / f"{kind}s--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / branch).write_text(COMMIT, encoding="utf-8")
    root = folder / "snapshots" / COMMIT
    root.mkdir(parents=True)
    return root


def card(root: Path, configs: list[tuple[str, str, str]]) -> None:
    """A data set's card, which names (config, split, files)."""
    lines = [
        line
        for name, split, files in configs
        for line in (f"- config_name: {name}", "  data_files:", f"  - split: {split}", f"    path: {files}")
    ]
    (root / "README.md").write_text("\n".join(["---", "configs:", *lines, "---", ""]), encoding="utf-8")


def write_llava_onevision(root: Path, name: str, layers: int | None, dtype: torch.dtype, device: torch.device) -> None:
    """A LLaVA-OneVision checkpoint of a shape, random weights from seed 0, with a tokenizer of bytes and the tokens
    that prompts hold. Its answers end at the limit of new tokens, since random weights never say stop."""
    model = build(name, device, dtype, layers=layers)
    vocabulary = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    # Fillers, so that <image> and <video> get the numbers that the released configuration gives them.
    first = min(model.config.image_token_id, model.config.video_token_id)
    vocabulary |= {f"<filler {number}>": number for number in range(len(vocabulary), first - len(SPECIAL))}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    tokenizer.add_special_tokens([*SPECIAL, "<image>", "<video>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[0]).save_pretrained(root)
    model.save_pretrained(root)


def write_benchmark(home: Path, benchmark: Any, size: Any, files: int, seconds: float) -> tuple[int, float]:
    """A benchmark's annotations, with as many questions as `size` says, and its videos in an archive as released.

    The number of its video files, and the seconds of each. ValueError for a benchmark whose layout is not known here.
    """
    if benchmark.name not in WRITERS:
        raise ValueError(f"no rehearsal of benchmark {benchmark.name!r}; there are: {', '.join(WRITERS)}")
    root = snapshot(home, "dataset", benchmark.data, benchmark.get("revision") or "main")
    names = WRITERS[benchmark.name](root, size.questions, files)
    seconds = max(1.0, min(seconds, size.seconds))
    clips = [video_bytes(root / "clip.mp4", seed, seconds) for seed in range(min(files, len(names)))]
    with zipfile.ZipFile(root / "videos.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, clips[number % len(clips)])
    return len(names), seconds


def video_bytes(path: Path, seed: int, seconds: float) -> bytes:
    """An H.264 clip of 360p: a scene that goes on in a loop, enlarged."""
    frames = render(sample_scene(seed))
    rows, columns = (np.arange(n) * side // n for n, side in zip((HEIGHT, WIDTH), frames.shape[1:3], strict=True))
    large = frames[:, rows][:, :, columns]
    count = round(seconds * FPS)
    write_mp4(path, large[np.arange(count) // 2 % len(large)], fps=FPS, crf=23)
    found = path.read_bytes()
    path.unlink()
    return found


def _mvbench(root: Path, questions: int, files: int) -> list[str]:
    """Each sub-task has clips of its own; pose has none, as with the released data. Unlike there, episodic reasoning's
    are files, not folders of pictures."""
    card(root, [(name, "train", f"json/{name}.json") for name in MVBENCH_FOLDERS])
    (root / "json").mkdir()
    videos = []
    for task, folder in MVBENCH_FOLDERS.items():
        here = [f"{task}_{number}.mp4" for number in range(files)]
        rows = [
            {
                "video": here[number % files],
                "question": f"What happens first in part {number} of the video?",
                "candidates": ["It moves up", "It moves down", "Nothing"],
                "answer": "It moves down",
            }
            for number in range(questions // len(MVBENCH_FOLDERS))
        ]
        (root / "json" / f"{task}.json").write_text(json.dumps(rows), encoding="utf-8")
        videos += [f"{folder}/{name}" for name in here if task != "fine_grained_pose"]
    return videos


def _videomme(root: Path, questions: int, files: int) -> list[str]:
    card(root, [("videomme", "test", "videomme/test-*")])
    rows = [
        {
            "video_id": f"{number // 3 + 1:03d}",
            "duration": ("short", "medium", "long")[number % 3],
            "domain": "Knowledge",
            "sub_category": "Geography",
            "url": "https://www.youtube.com/watch?v=rehearsal",
            "videoID": f"rehearsal{number // 3 % files}",
            "question_id": f"{number // 3 + 1:03d}-{number % 3 + 1}",
            "task_type": "Counting Problem",
            "question": f"How many boats are seen in the harbour at 12:{number % 60:02d}?",
            "options": ["A. 1.", "B. 3.", "C. 4.", "D. 11."],
            "answer": "ABCD"[number % 4],
        }
        for number in range(questions)
    ]
    (root / "videomme").mkdir()
    pd.DataFrame(rows).to_parquet(root / "videomme" / "test-00000-of-00001.parquet")
    return [f"data/rehearsal{number}.mp4" for number in range(files)]


def _nextqa(root: Path, questions: int, files: int) -> list[str]:
    card(root, [("MC", "test", "MC/test-*")])
    choices = {f"a{number}": text for number, text in enumerate(("share", "approach", "unwrap", "play", "go"))}
    rows = [
        {
            "video": 4010069381 + number % files,
            "frame_count": 8,
            "width": WIDTH,
            "height": HEIGHT,
            "question": f"why did the boy pick up one present {number} ",
            "answer": number % 5,
            "qid": number,
            "type": "CW",
            **choices,
        }
        for number in range(questions)
    ]
    (root / "MC").mkdir()
    pd.DataFrame(rows).to_parquet(root / "MC" / "test-00000-of-00001.parquet")
    return [f"NExTVideo/{4010069381 + number}.mp4" for number in range(files)]


def _actnetqa(root: Path, questions: int, files: int) -> list[str]:
    card(root, [("default", "test", "data/test-*")])
    rows = [
        {
            "video_name": f"rehearsal_{number % files}",
            "question": ("does the car in the TV ad move", "what is the person in blue doing")[number % 2],
            "question_id": f"v_rehearsal_{number}_1",
            "answer": ("no", "mowing lawn")[number % 2],
            "type": str(number % 2),
        }
        for number in range(questions)
    ]
    (root / "data").mkdir()
    pd.DataFrame(rows).to_parquet(root / "data" / "test-00000-of-00001.parquet")
    return [f"all_test/v_rehearsal_{number}.mp4" for number in range(files)]


WRITERS: dict[str, Callable[[Path, int, int], list[str]]] = {
    "mvbench": _mvbench,
    "videomme": _videomme,
    "nextqa": _nextqa,
    "actnetqa": _actnetqa,
}
"""Writes annotations below a snapshot, for so many questions over so many files; the files' names."""
