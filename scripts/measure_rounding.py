"""What rounding its input changes in each visual method's choice: python scripts/measure_rounding.py

Scores are float32 always; what is rounded is all that a model hands over in its own dtype: features, and the tower's
queries, keys and states. The video is that of `bench_pruners.py --small`, since every method runs on it; the still one
is the same with a hundredth of its motion. Writes results/rounding.json, from which docs/methods.md is made.

Shape suffixes: N tokens of the video.
"""

import json
from collections.abc import Callable
from dataclasses import replace

import torch
from bench_pruners import SMALL, VISUAL, make_video, name_of
from tqdm import tqdm

from sharpv.paths import REPOSITORY
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.bipartite import BipartiteMerging
from sharpv.pruners.controls import Random
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.scissor import Scissor
from sharpv.tokens import Selection, VideoTokens

RECORD = REPOSITORY / "results" / "rounding.json"
METHODS = [method for method in VISUAL if not isinstance(method, Random)]
STILLNESS = 0.01
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def mapped(video: VideoTokens, change: Callable[[torch.Tensor], torch.Tensor]) -> VideoTokens:
    """The video with the change applied to each tensor that a model hands over."""
    tower = video.tower
    queries, keys = ({layer: change(each) for layer, each in part.items()} for part in (tower.queries, tower.keys))
    tower = replace(tower, queries=queries, keys=keys, states_TRX=change(tower.states_TRX))
    return replace(video, features_TPD=change(video.features_TPD), tower=tower)


def changed(method: VisualPruner, ours: Selection, other: Selection, total: int) -> float:
    """Share that only one choice has of the tokens that either keeps; where rows are means, the share of all tokens
    whose row stands for other tokens than before."""
    if isinstance(method, PruneVidMerge | Scissor | BipartiteMerging):
        everything_N = torch.arange(total)
        row_N, other_N = (everything_N if each.assign_N is None else each.assign_N for each in (ours, other))
        size_N, other_size_N, common_N = (
            torch.bincount(each_N)[each_N] for each_N in (row_N, other_N, row_N * total + other_N)
        )
        return ((size_N != common_N) | (other_size_N != common_N)).double().mean().item()
    kept_N, other_N = (selection.represented_N(total) for selection in (ours, other))
    return ((kept_N ^ other_N).sum() / (kept_N.sum() + other_N.sum())).item()


@torch.inference_mode()
def measure(methods: list[VisualPruner]) -> dict[str, dict[str, float]]:
    """The share changed, by method and then by video and dtype."""
    torch.manual_seed(0)
    moving = make_video(SMALL, torch.device("cpu"), torch.float32)
    still = mapped(moving, lambda values: values[:1].lerp(values, STILLNESS))
    shares: dict[str, dict[str, float]] = {name_of(method): {} for method in methods}
    for kind, video in (("moving", moving), ("still", still)):
        rounded = {
            name: mapped(video, lambda values, dtype=dtype: values.to(dtype).float()) for name, dtype in DTYPES.items()
        }
        for method in tqdm(methods, kind, unit="method"):
            ours = method.select(video)
            for name, other in rounded.items():
                share = changed(method, ours, method.select(other), video.total)
                shares[name_of(method)][f"{kind}, {name}"] = round(share, 3)
    return shares


if __name__ == "__main__":
    RECORD.write_text(json.dumps(measure(METHODS), indent=1) + "\n", encoding="utf-8")
    print(f"written to {RECORD}")
