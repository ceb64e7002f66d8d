"""Train the bundled tiny VideoLLM, without any pruning: render, tower, features, lookup, language, letters.

Each stage resumes.

python scripts/train_tiny.py [field=value ...]     fields and defaults: scripts/train_tiny.yaml
"""

import copy
import json
import math
import time
from multiprocessing import Pool
from pathlib import Path

import av
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from transformers import LlavaOnevisionForConditionalGeneration

from sharpv.tiny import CHECKPOINT, build
from sharpv.tiny.corpus import Packer
from sharpv.tiny.layouts import sample_shown
from sharpv.tiny.scenes import BEATS, GRID, SIDE, Scene, render, sample_scene
from sharpv.tiny.training import (
    LanguageBatch,
    PatchProbe,
    language_loss,
    lookup_loss,
    patch_labels,
    pooled_features,
    projected_patches,
    to_pixels,
)
from sharpv.tiny.video import write_mp4

HERE = Path(__file__).parent


def coded_frames(job: tuple[int, Path]) -> np.ndarray:
    """A scene's frames after one trip through the H.264 file that a user's video would be."""
    seed, folder = job
    path = folder / f"{seed}.mp4"
    write_mp4(path, render(sample_scene(seed)), repeat=2 - seed % 2)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    path.unlink()
    return np.stack([frames[i * (len(frames) - 1) // (BEATS - 1)] for i in range(BEATS)])


def render_stage(config: DictConfig, work: Path) -> np.ndarray:
    target = work / "frames.npy"
    if not target.exists():
        partial = work / "frames.partial.npy"
        frames = np.lib.format.open_memmap(partial, "w+", np.uint8, (config.videos, BEATS, SIDE, SIDE, 3))
        jobs = [(config.first_seed + i, work) for i in range(config.videos)]
        with Pool(config.processes) as pool:
            for i, one in enumerate(tqdm(pool.imap(coded_frames, jobs, chunksize=32), "render", len(jobs))):
                frames[i] = one
        frames.flush()
        partial.rename(target)
    return np.load(target, mmap_mode="r")


class ResumePoint:
    """Model, optimizer and step on disk, written atomically; the curve is one JSON line an entry."""

    def __init__(self, work: Path, stage: str):
        self.path, self.curve = work / f"{stage}.pt", work / f"{stage}.jsonl"

    def load(self, **parts) -> int:
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["step"]

    def save(self, step: int, **parts) -> None:
        partial = self.path.with_suffix(".partial")
        torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, partial)
        partial.rename(self.path)

    def log(self, **entry) -> None:
        with self.curve.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")


def rate(step: int, steps: int, peak: float, warm_up: int) -> float:
    """Linear warm-up, then a cosine to 3% of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * progress)))


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor, learning_rate: float) -> None:
    """One step of the optimizer at this rate, on gradients clipped to norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()


def tower_stage(config: DictConfig, work: Path, model, frames: np.ndarray) -> None:
    """Train tower and projector so that each pooled token tells what its cell shows."""
    options = config.tower
    probe = PatchProbe(model.config.text_config.hidden_size)
    trained = torch.nn.ModuleList([model.model.vision_tower, model.model.multi_modal_projector, probe])
    optimizer = torch.optim.AdamW(trained.parameters(), lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    point = ResumePoint(work, "tower")
    start = point.load(trained=trained, optimizer=optimizer)
    began = time.time()
    for step in tqdm(range(start, options.steps), "tower", initial=start, total=options.steps):
        rng = np.random.default_rng((1, step))
        chosen = rng.integers(options.videos, size=options.batch_frames // 4)
        beats = np.stack([rng.choice(BEATS, 4, replace=False) for _ in chosen])
        batch = np.concatenate([frames[v][b] for v, b in zip(chosen, beats, strict=True)])
        pixels = to_pixels(batch)
        patches = projected_patches(model, pixels)
        pooled = model.model.apply_pooling(patches)
        loss, rights = 0.0, []
        for features, patch in ((patches, build.PATCH), (pooled, 2 * build.PATCH)):
            scenes = [sample_scene(config.first_seed + int(v)) for v in chosen]
            labels = [[part[b] for part in patch_labels(s, patch)] for s, b in zip(scenes, beats, strict=True)]
            columns = [torch.from_numpy(np.concatenate(part)) for part in zip(*labels, strict=True)]
            part_loss, right = probe.loss(features, *columns, pixels)
            loss, rights = loss + part_loss, [*rights, right.item()]
        descend(optimizer, loss, rate(step, options.steps, options.learning_rate, 50))
        if step % 20 == 0:
            point.log(
                step=step, loss=loss.item(), right_patch=rights[0], right_pooled=rights[1], seconds=time.time() - began
            )
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            point.save(step + 1, trained=trained, optimizer=optimizer)


@torch.inference_mode()
def feature_stage(config: DictConfig, work: Path, model, frames: np.ndarray) -> np.ndarray:
    """The frozen tower's tokens of every training video, float16 (videos, tokens, width)."""
    target = work / "features.npy"
    if not target.exists():
        partial = work / "features.partial.npy"
        width = model.config.text_config.hidden_size
        tokens = pooled_features(model, to_pixels(frames[0])).shape[1] * BEATS
        features = np.lib.format.open_memmap(partial, "w+", np.float16, (config.videos, tokens, width))
        for i in tqdm(range(0, config.videos, 8), "features"):
            chunk = frames[i : i + 8]
            rows = pooled_features(model, to_pixels(chunk.reshape(-1, SIDE, SIDE, 3)))
            features[i : i + 8] = rows.reshape(len(chunk), tokens, width).half().numpy()
        features.flush()
        partial.rename(target)
    return np.load(target, mmap_mode="r")


def lookup_stage(config: DictConfig, work: Path, model, tokenizer) -> None:
    """Teach the language model alone to find the letter of an answer, on text, before it sees any video."""
    options = config.lookup
    trained = model.model.language_model
    optimizer = torch.optim.AdamW(trained.parameters(), lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    point = ResumePoint(work, "lookup")
    start = point.load(model=model, optimizer=optimizer)
    packer = Packer(tokenizer, capacity=64)
    scenes = [sample_scene(config.first_seed + i) for i in range(500)]
    began = time.time()
    for step in tqdm(range(start, options.steps), "lookup", initial=start, total=options.steps):
        rng = np.random.default_rng((3, step))
        packed = [packer.pack_lookup(scenes[rng.integers(len(scenes))], rng) for _ in range(options.batch)]
        loss, seen = lookup_loss(model, packed, tokenizer.pad_token_id, config.language.hint_layer)
        descend(optimizer, loss, rate(step, options.steps, options.learning_rate, 50))
        if step % 20 == 0:
            point.log(
                step=step,
                loss=loss.item(),
                right=seen["right"].mean().item(),
                option=seen["option"],
                seconds=time.time() - began,
            )
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            point.save(step + 1, model=model, optimizer=optimizer)


class Dialogues(torch.utils.data.Dataset):
    """One training batch per step, made by background workers; the same step always gives the same batch."""

    def __init__(self, config: DictConfig, stage: str, tokenizer, features: np.ndarray, start: int):
        self.config, self.options, self.features, self.start = config, config[stage], features, start
        self.packer = Packer(tokenizer, self.options.capacity, self.options.five_options, self.options.often)
        self.scenes: dict[int, Scene] = {}

    def __len__(self) -> int:
        return self.options.steps - self.start

    def __getitem__(self, index: int) -> LanguageBatch:
        options, step = self.options, self.start + index
        rng = np.random.default_rng((options.data_seed, step))
        share = options.options if step >= options.options_from else 0.0
        reply = options.reply if step >= options.reply_from else "letter"
        chosen = np.sort(rng.choice(self.config.videos, options.batch_videos, replace=False))
        shown = sample_shown(rng, options.plain)
        packed = [self.packer.pack(self.scene(int(v)), rng, share, reply, shown) for v in chosen]
        frames_BTHWD = torch.from_numpy(self.features[chosen]).float().unflatten(1, (BEATS, GRID, GRID))
        return LanguageBatch(packed, shown.of(frames_BTHWD), self.packer, self.packer.tokenizer.pad_token_id)

    def scene(self, video: int) -> Scene:
        if video not in self.scenes:
            self.scenes[video] = sample_scene(self.config.first_seed + video)
        return self.scenes[video]


def dialogue_stage(config: DictConfig, stage: str, work: Path, model, tokenizer, features: np.ndarray) -> None:
    """Train the language model on dialogues about videos: `language` to answer, `letters` to name the option."""
    options = config[stage]
    trained = torch.nn.ModuleList([model.model.language_model])
    newline = model.model.image_newline
    decayed = [p for p in trained.parameters() if p.ndim > 1]
    others = [p for p in trained.parameters() if p.ndim < 2] + [newline]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=options.learning_rate,
        betas=(0.9, 0.98),
    )
    point = ResumePoint(work, stage)
    start = point.load(model=model, optimizer=optimizer)
    loader = torch.utils.data.DataLoader(
        Dialogues(config, stage, tokenizer, features, start), batch_size=None, num_workers=1, prefetch_factor=4
    )
    letters = torch.tensor(tokenizer.convert_tokens_to_ids(list("ABCDE")))
    began, window = time.time(), []
    for step, batch in enumerate(tqdm(loader, stage, initial=start, total=options.steps), start):
        with torch.autocast("cpu", torch.bfloat16):
            loss, seen = language_loss(model, batch, options.hint_layer)
        descend(optimizer, loss, rate(step, options.steps, options.learning_rate, options.warm_up))
        is_letter = torch.isin(seen["labels"], letters)
        words = ~is_letter
        window.append(
            [
                loss.item(),
                seen["hint"],
                seen["option"],
                seen["right"][is_letter].mean().item(),
                seen["right"][words].mean().item(),
            ]
        )
        if (step + 1) % options.log_every == 0:
            loss_mean, hint, option, letter, word = np.nanmean(window, axis=0)
            window.clear()
            point.log(
                step=step + 1,
                loss=loss_mean,
                hint=hint,
                option=option,
                letter=letter,
                word=word,
                seconds=time.time() - began,
            )
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            point.save(step + 1, model=model, optimizer=optimizer)
            export(model, tokenizer, work / "checkpoint")


def export(model, tokenizer, folder: Path) -> None:
    """Write the checkpoint that the package bundles: float16 safetensors, processor, generation config."""
    copy.deepcopy(model).half().save_pretrained(folder)
    build.build_processor(tokenizer).save_pretrained(folder)


def main() -> None:
    config = OmegaConf.merge(OmegaConf.load(HERE / "train_tiny.yaml"), OmegaConf.from_cli())
    work = Path(config.work_dir)
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    tokenizer = build.build_tokenizer()
    model = build.build_model(build.build_config(tokenizer))
    if config.initialise == "checkpoint":
        state = LlavaOnevisionForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=torch.float32)
        model.load_state_dict(state.state_dict())
    frames = render_stage(config, work)
    tower_stage(config, work, model, frames)
    features = feature_stage(config, work, model, frames)
    lookup_stage(config, work, model, tokenizer)
    for stage in ("language", "letters"):
        dialogue_stage(config, stage, work, model, tokenizer, features)


if __name__ == "__main__":
    main()
