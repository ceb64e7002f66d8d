"""`python run.py calibrate pruner=NAME ...`: thresholds at which methods keep a stated share, from unlabelled videos.

What can be calibrated: with `target_vr` the threshold of VisualSharpV in manual mode, Scissor's tau, and FrameFusion's
similarity_threshold (the authors' similarity_lower_bound); with `target_mr` MemorySharpV's threshold; VTW's layer.
No question, option or answer is ever read: prompts carry the one request TEXT, whatever the video.

Shape suffixes: T frames, P tokens per frame, D width, V videos,
L layers.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig
from scipy.optimize import bisect
from tqdm import tqdm

from sharpv import paths
from sharpv.benchmarks.availability import require_available
from sharpv.configuration import configure
from sharpv.configuration.rows import Row
from sharpv.metrics.timing import StageClock
from sharpv.models.loaded import VIDEO, Loaded
from sharpv.pruners.base import VisualPruner, scaled_layer
from sharpv.pruners.framefusion import FrameFusion
from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV
from sharpv.pruners.view import Layer
from sharpv.pruners.vtw import VTW
from sharpv.runtime.adapter import Vision
from sharpv.runtime.attach import layer_hooks
from sharpv.runtime.calibrate_vtw import choose_layer, withdrawal_divergence
from sharpv.runtime.decode import generate
from sharpv.runtime.prompt import FedPrompt, assemble
from sharpv.tokens import VideoTokens
from sharpv.videos.frames import read_video

TEXT = "Describe the video."
SUFFIXES = (".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm")
FIRST_TRAINING_SEED = 1_000_000
DIGITS = 6
WITHDRAWAL_BOUND = 3e-3
CHOICES = (
    "target_vr: VisualSharpV with mode=manual (threshold), Scissor (tau), FrameFusion (similarity_threshold); "
    "target_mr: MemorySharpV (threshold), VTW (layer; without a target by the authors' rule)"
)


@dataclass(frozen=True)
class EncodedVideo:
    """One unlabelled video: its tokens, what else the model makes of it, and its pixels."""

    tokens: VideoTokens
    vision: Vision
    pixels: Any


def calibrate(config: DictConfig, command: str, loaded: Loaded | None = None) -> int:
    """Print, for the pruner of a run, the setting that reaches the targets, what it achieves and the line to paste.

    config: `model`, `pruner` and `calibrate.{target_vr, target_mr, videos, folder}`; a target is a mean kept share in
    (0, 1), null = not asked for. The memory stage is measured behind the calibrated visual stage. `loaded` replaces the
    loading of the model. Returns the exit code 0. ValueError where a target is missing, out of reach or no method's.
    """
    settings = config.calibrate
    row = configure.rows(config.pruner, config.model)[0]
    _check(row, settings)
    if loaded is None:
        paths.go_offline()
        model = configure.build(config.model)
        require_available([model], [])
        loaded = model.load()
    print(f"command: {command}")
    with unlabelled(loaded.name, settings.folder, settings.videos) as files:
        videos = encode(loaded, files, row.visual)
    source = settings.folder or f"scenes of training seeds from {FIRST_TRAINING_SEED}"
    print(f"{len(videos)} unlabelled videos on {loaded.name}: {source}")
    visual, memory = row.visual, row.memory
    if settings.target_vr is not None and isinstance(memory, FrameFusion):
        _calibrate_framefusion(memory, visual, videos, settings.target_vr, loaded)
    elif settings.target_vr is not None and visual is not None:
        visual = _calibrate_visual(row.name, visual, videos, settings.target_vr, loaded)
    if settings.target_mr is not None and isinstance(memory, MemorySharpV):
        _calibrate_memory(memory, visual, videos, settings.target_mr, loaded)
    if isinstance(memory, VTW):
        _calibrate_vtw(memory, videos, settings.target_mr, loaded)
    return 0


def _check(row: Row, settings: DictConfig) -> None:
    """ValueError unless each target given is of a stage with a threshold to calibrate, and something is asked."""
    for name in ("target_vr", "target_mr"):
        target = settings[name]
        if target is not None and not 0 < target < 1:
            raise ValueError(f"{name}={target} is the mean share kept; choose it between 0 and 1")
    by_vr = (row.visual is not None and row.visual.calibrates is not None) or isinstance(row.memory, FrameFusion)
    by_mr = isinstance(row.memory, MemorySharpV | VTW)
    stages = " with ".join(type(stage).__name__ for stage in (row.visual, row.memory) if stage is not None) or "nothing"
    asked = [
        name for name, able in (("target_vr", by_vr), ("target_mr", by_mr)) if settings[name] is not None and not able
    ]
    if asked:
        raise ValueError(
            f"pruner {row.name!r} ({stages}) has nothing that {asked[0]} calibrates; a keep_ratio is set directly. "
            f"What can be calibrated: {CHOICES}"
        )
    if settings.target_vr is None and settings.target_mr is None and not isinstance(row.memory, VTW):
        raise ValueError(f"pruner {row.name!r} ({stages}) needs a target. What can be calibrated: {CHOICES}")


@contextmanager
def unlabelled(model: str, folder: str | None, count: int) -> Iterator[list[Path]]:
    """Files of `count` videos: the first ones of a folder, or for the tiny model scenes that it was trained on.

    ValueError for a folder that holds too few, and for another model without a folder.
    """
    if folder is not None:
        found = sorted(path for path in Path(folder).expanduser().rglob("*") if path.suffix.lower() in SUFFIXES)
        if len(found) < count:
            raise ValueError(
                f"calibrate.folder={folder} holds {len(found)} videos ({', '.join(SUFFIXES)}), not {count}: "
                "add some or set calibrate.videos"
            )
        yield found[:count]
        return
    if model != "tiny":
        raise ValueError(
            f"model {model} needs calibrate.folder=FOLDER with unlabelled videos; only tiny brings its own"
        )
    from sharpv.tiny.scenes import render, sample_scene
    from sharpv.tiny.video import write_mp4

    with TemporaryDirectory() as made:
        files = [Path(made) / f"{FIRST_TRAINING_SEED + index}.mp4" for index in range(count)]
        for path in files:
            write_mp4(path, render(sample_scene(int(path.stem))), repeat=2)
        yield files


@torch.inference_mode()
def encode(loaded: Loaded, files: list[Path], visual: VisualPruner | None) -> list[EncodedVideo]:
    """Decode and encode the videos as a run does, with the inside of the tower where the visual stage reads it."""
    adapter, videos = loaded.adapter, []
    layers = visual.tower_layers if visual is not None else None
    for seed, path in enumerate(tqdm(files, "encode", unit="video")):
        pixels = loaded.preprocess(read_video(path, loaded.frames)).to(loaded.device)
        with nullcontext() if layers is None else adapter.tap_tower(layers) as tap:
            vision = adapter.encode(pixels)
            tower = None if tap is None else tap.tower()
        videos.append(EncodedVideo(VideoTokens(vision.tokens_TPD, vision.grid, seed, tower), vision, pixels))
    return videos


def search(share_V: Callable[[float], torch.Tensor], low: float, high: float, target: float) -> float:
    """The value in [low, high], to DIGITS decimals, at which the mean of a monotone share (V,) crosses the target.

    ValueError naming the shares at both ends where the target does not lie between them.
    """
    with tqdm(desc="search", unit="threshold") as bar:

        def excess(value: float) -> float:
            bar.update()
            return float(share_V(value).mean()) - target

        ends = excess(low), excess(high)
        if min(ends) > 0 or max(ends) < 0:
            least, most = sorted(target + end for end in ends)
            raise ValueError(f"target {target} is out of reach: these videos allow {least:.4f} to {most:.4f}")
        return round(bisect(excess, low, high, xtol=0.1**DIGITS), DIGITS)


def spread(share_V: torch.Tensor) -> str:
    """Mean, standard deviation and range of a share over the videos, as text."""
    mean, deviation, least, most = share_V.mean(), share_V.std(correction=0), share_V.min(), share_V.max()
    return f"{mean:.4f} (sd {deviation:.4f}, {least:.4f} to {most:.4f} over videos)"


@torch.inference_mode()
def _calibrate_visual(row: str, visual: Any, videos: list[EncodedVideo], target: float, loaded: Loaded) -> VisualPruner:
    field, high = visual.calibrates

    def vr_V(value: float) -> torch.Tensor:
        chosen = dataclasses.replace(visual, **{field: value})
        return torch.tensor([len(chosen.select(video.tokens)) / video.tokens.total for video in videos])

    value = search(vr_V, 0.0, high, target)
    print(f"{type(visual).__name__}.{field} = {value}: VR {spread(vr_V(value))}, target {target}")
    place = f"paste into configs/model/{loaded.name}.yaml: calibration"
    if isinstance(visual, VisualSharpV):
        print(f"{place}.manual_threshold: {value}")
    else:
        print(f"paste: ++pruner.visual_options.{field}={value}")
    print(f"or, for tables at budgets, {place}.budgets.{row}.{field}: {{{target:g}: {value}}}")
    return dataclasses.replace(visual, **{field: value})


@torch.inference_mode()
def _calibrate_framefusion(
    memory: FrameFusion, visual: VisualPruner | None, videos: list[EncodedVideo], target: float, loaded: Loaded
) -> None:
    """Its mean over layers is keep_ratio whatever the threshold, which sets how much of it merging does: VR is here the
    share of the dense model's visual rows that layer 0 computes, once the rows as fed have been merged."""
    fed = [_feed(video, visual, loaded) for video in videos]

    def vr_V(value: float) -> torch.Tensor:
        chosen = dataclasses.replace(memory, similarity_threshold=value)
        return torch.tensor([_rows_of_layer_0(chosen, prompt) / prompt.layout.dense_visual for prompt in fed])

    value = search(vr_V, -1.0, 1.0, target)
    print(f"FrameFusion.similarity_threshold = {value}: VR at layer 0 {spread(vr_V(value))}, target {target}")
    print(f"its keep_ratio={memory.keep_ratio} stays the mean share over layers")
    print(f"paste: ++pruner.memory_options.similarity_threshold={value}")


def _rows_of_layer_0(memory: FrameFusion, fed: FedPrompt) -> int:
    layout = fed.layout
    alive_V = torch.arange(layout.visual, device=layout.fed_VD.device)

    def no_rows(queries: list[int], rotary: bool = True, causal: bool = True) -> torch.Tensor:
        raise AssertionError("merging the rows as fed reads no attention")

    entered = Layer(0, layout.depth, 0, layout, fed.embeddings_BLD[0], alive_V, layout.visual_V, no_rows)
    selection = memory.keep_rows(entered, "enter", memory.begin(layout))
    return layout.visual if selection is None else len(selection)


def _calibrate_memory(
    memory: MemorySharpV, visual: VisualPruner | None, videos: list[EncodedVideo], target: float, loaded: Loaded
) -> None:
    cosine_VL = layer_cosines(memory, visual, videos, loaded)
    for layer, cosine_V in enumerate(cosine_VL.T):
        print(f"layer {layer:2d}: cosine {cosine_V.mean():+.4f} (sd {cosine_V.std(correction=0):.4f})")
    value = midway(cosine_VL.mean(0), target)
    mr_V = (cosine_VL >= value).double().mean(1)
    print(f"MemorySharpV.threshold = {value}: MR {spread(mr_V)}, target {target}")
    print(f"paste into configs/model/{loaded.name}.yaml: calibration.memory_threshold: {value}")


def layer_cosines(
    memory: MemorySharpV, visual: VisualPruner | None, videos: list[EncodedVideo], loaded: Loaded
) -> torch.Tensor:
    """Cosine of the visual states entering each layer to those fed, nothing dropped: float64 (V, L), high = keep."""
    watching, rows = dataclasses.replace(memory, threshold=-2.0), []
    with layer_hooks(loaded.adapter) as hooks:
        for video in tqdm(videos, "prefill", unit="video"):
            fed, clock = _feed(video, visual, loaded), StageClock(torch.device("cpu"))
            if not fed.layout.visual:
                raise ValueError("the visual stage keeps nothing of a video: there are no states to compare")
            _, report = generate(loaded.adapter, hooks, fed, watching, loaded.greedy(1), clock)
            rows.append([report.state[layer] for layer in range(fed.layout.depth)])
    return torch.tensor(rows, dtype=torch.float64)


def midway(mean_L: torch.Tensor, target: float) -> float:
    """The threshold, to DIGITS decimals, midway between the two layer means around the target share of layers.

    ValueError where the nearest number of layers is none or all of them.
    """
    depth = len(mean_L)
    kept = round(target * depth)
    if not 0 < kept < depth:
        raise ValueError(
            f"target_mr={target} of {depth} layers is {kept}: choose from {1 / depth:.3f} to {1 - 1 / depth:.3f}"
        )
    falling_L = mean_L.sort(descending=True).values
    return round(float(falling_L[kept - 1 : kept + 1].mean()), DIGITS)


def _calibrate_vtw(memory: VTW, videos: list[EncodedVideo], target: float | None, loaded: Loaded) -> None:
    depth = len(loaded.adapter.language_model.layers)
    first = scaled_layer(5, depth)
    prompts = [_call(video, loaded) for video in videos]
    divergence_SC = torch.stack(
        [
            withdrawal_divergence(loaded.adapter, prompt, first, memory.separator)
            for prompt in tqdm(prompts, "withdraw", unit="video")
        ]
    )
    for index, divergence_S in enumerate(divergence_SC.T):
        print(f"layer {first + index:2d}: divergence {divergence_S.mean():.2e} nats, largest {divergence_S.max():.2e}")
    if target is None:
        layer, rule = choose_layer(divergence_SC, WITHDRAWAL_BOUND, first), f"first under {WITHDRAWAL_BOUND} nats"
    else:
        layer, rule = min(max(round(target * depth), 1), depth - 1), f"nearest to target {target}"
    print(f"VTW.layer = {layer} of {depth}: MR {layer / depth:.4f} for every video, {rule}")
    print(f"paste: ++pruner.memory_options.layer={layer} ++pruner.memory_options.scale_layers=false")


def _text(loaded: Loaded) -> str:
    return TEXT if VIDEO in loaded.prompt else f"{VIDEO}\n{TEXT}"


def _call(video: EncodedVideo, loaded: Loaded) -> dict[str, Any]:
    """Keyword arguments with which the stock model takes a video and TEXT."""
    geometry = loaded.adapter.arranged(video.tokens.frames, video.tokens.grid)
    return loaded.adapter.call(loaded.prompt_ids(_text(loaded), geometry, video.pixels), video.pixels)


def _feed(video: EncodedVideo, visual: VisualPruner | None, loaded: Loaded) -> FedPrompt:
    embeddings_BND, span, _ = loaded.embed(_text(loaded), video.vision, video.pixels)
    selection = None if visual is None else visual.select(video.tokens)
    depth = len(loaded.adapter.language_model.layers)
    return assemble(embeddings_BND, span, depth, selection, video.tokens.seed)
